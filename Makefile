# make demo: the main job on the embedded model.   make test: everything, as CI runs it.
# make check: the short loop, for every change.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# any Python from 3.11 on, the first that is found: make test PYTHON=/path/to/python3
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && \
	{ command -v $$python; break; }; done)
NEW_VENV = $(or $(PYTHON),$(error no Python from 3.11 on is found: install one, or name it: \
	make PYTHON=/path/to/python3)) -m venv
# remembered rows would make the tests and the notebooks' figures depend on earlier runs
FRESH = PARDSPY_STORE=$$(mktemp -d)/answers.sqlite
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# $(call INSTALL,programs,packages of Debian): where there is no apt, it says what is missing
INSTALL = { command -v apt-get >/dev/null || { \
	echo "the tests need $(1), and there is no apt-get here to install it with: install" \
	"$(1) yourself and run make again" >&2; exit 1; }; } && $(SUDO) apt-get update -qq && \
	$(SUDO) apt-get install -y -qq --no-install-recommends $(2)

# the oldest versions that are supported: pandas 2.2, openai 2.20, pydantic 2.10, …
OLDEST := .venv-oldest
OLDEST_PIP := $(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-oldest.txt
# what can differ there: all that goes through these libraries
DIFFERS := tests/core tests/signatures tests/llm tests/modules tests/tables tests/store tests/runs \
	tests/display tests/analysis tests/integration/test_partition_values.py

# the environment of other libraries: DSPy and LangChain, with version 2 of the openai client
DSPY := .venv-dspy
DSPY_PIP := $(DSPY)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-dspy.txt
# servers that others wrote, to run against
SERVERS := .venv-servers
DSPY_NOTEBOOK := notebooks/06_dspy_modules.ipynb
NOTEBOOKS := $(filter-out $(DSPY_NOTEBOOK),$(wildcard notebooks/*.ipynb))
BOTH_CORES := -n 2 --dist worksteal
SLOWEST := --durations=15 --durations-min=1
# the model's words do not matter here
SMALL := PARDSPY_MODEL=local:smollm2-135m PARDSPY_NOTEBOOK_ROWS=8

PY_FILES := pardspy_nb tests examples benchmarks docs/conf.py

.PHONY: demo check test lab lint docs browser servers notebooks pictures bench clean

$(PY):
	$(NEW_VENV) $(VENV)

$(VENV)/.demo: $(PY) pyproject.toml constraints.txt
	$(PIP) --editable ".[demo]"
	touch $@

$(VENV)/.test: $(PY) pyproject.toml constraints.txt
	$(PIP) --editable ".[test]"
	touch $@ $(VENV)/.demo

$(OLDEST)/.ready: pyproject.toml constraints-oldest.txt
	test -x $(OLDEST)/bin/python || $(NEW_VENV) $(OLDEST)
	@$(OLDEST)/bin/python -c 'import sys; sys.exit(sys.version_info >= (3, 13) and \
		"the oldest pandas and numpy are built for Python 3.11 and 3.12: make $(OLDEST)/.ready \
	PYTHON=/path/to/python3.12")' || { rm -rf $(OLDEST); exit 1; }
	$(OLDEST_PIP) --editable ".[test-oldest]"
	touch $@

$(DSPY)/.ready: pyproject.toml constraints-dspy.txt
	test -x $(DSPY)/bin/python || $(NEW_VENV) $(DSPY)
	$(DSPY_PIP) --editable ".[test-dspy]"
	touch $@

$(SERVERS)/.ready: constraints-servers.txt
	test -x $(SERVERS)/bin/python || $(NEW_VENV) $(SERVERS)
	$(SERVERS)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-servers.txt "litellm[proxy]"
	touch $@

demo: $(VENV)/.demo
	$(PY) examples/sentiment.py

lab: $(VENV)/.test
	$(VENV)/bin/jupyter lab notebooks/01_quickstart.ipynb

lint: $(VENV)/.test
	$(PY) -m ruff format --check $(PY_FILES)
	$(PY) -m ruff check $(PY_FILES)
	$(PY) -m mypy

# the documentation, into docs/_build/html; a warning is an error
docs: $(VENV)/.test
	$(PY) -m sphinx -W --keep-going --quiet -b html docs docs/_build/html

# the short loop: format, lint, types, and all tests that need no other process
check: lint
	$(FRESH) $(PY) -m pytest tests $(BOTH_CORES) -m "not slow" --quiet

browser:
	@command -v chromium >/dev/null || { $(call INSTALL,chromium,chromium fonts-dejavu-core); }

servers: $(SERVERS)/.ready
	@{ { command -v nginx || [ -x /usr/sbin/nginx ]; } && command -v openssl; } >/dev/null || \
		{ $(call INSTALL,nginx and openssl,nginx-light openssl); }

# everything; the notebooks keep their outputs from the default model, here they run on few rows
# through the small one
test: lint browser servers $(OLDEST)/.ready $(DSPY)/.ready
	$(FRESH) $(PY) -m pytest tests $(BOTH_CORES) $(SLOWEST) -m "not model"
	$(FRESH) $(OLDEST)/bin/python -m pytest $(DIFFERS) $(BOTH_CORES) $(SLOWEST) -m "not model"
	$(FRESH) $(DSPY)/bin/python -m pytest tests/integration/other_libraries $(BOTH_CORES) $(SLOWEST) -m "not model"
	$(FRESH) $(SMALL) $(PY) -m pytest tests/integration/test_local_model.py --nbmake $(NOTEBOOKS) $(SLOWEST)
	$(FRESH) $(SMALL) $(DSPY)/bin/python -m pytest --nbmake $(DSPY_NOTEBOOK) \
		tests/integration/other_libraries/test_embedded.py $(SLOWEST)

# run the notebooks on the default model and keep their outputs, without widget state
KEEP := nbconvert --to notebook --execute --inplace --ExecutePreprocessor.store_widget_state=False
notebooks: $(VENV)/.test $(DSPY)/.ready
	$(FRESH) $(PY) -m $(KEEP) $(NOTEBOOKS)
	$(FRESH) $(DSPY)/bin/python -m $(KEEP) $(DSPY_NOTEBOOK)

# the pictures of the README, out of a real JupyterLab
pictures: $(VENV)/.test browser
	PYTHONPATH=tests $(PY) tests/support/pictures.py

# what the toolkit itself costs, beside others in environments of their own (.bench); as ratios,
# because machines differ. About 45 minutes, most of it the others'.
bench: $(VENV)/.test
	$(PY) benchmarks/engine.py
	$(PY) benchmarks/faults.py
	$(PY) benchmarks/files.py
	$(PY) benchmarks/processes.py
	$(PY) benchmarks/scale.py
	$(PY) benchmarks/store.py
	$(PY) benchmarks/panel.py
	$(PY) benchmarks/soak.py 5
	$(PY) benchmarks/compare.py
	$(PY) benchmarks/report.py

clean:
	rm -rf $(VENV) $(OLDEST) $(DSPY) $(SERVERS) .bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_output docs/_build docs/tutorials/notebooks
