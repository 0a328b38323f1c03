# make demo: the main job on the embedded model.   make test: everything, as CI runs it.
# make check: the short loop, for every change.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# remembered rows would make the tests and the notebooks' figures depend on earlier runs
FRESH = PARDSPY_STORE=$$(mktemp -d)/answers.sqlite
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# the second environment: DSPy, LangChain and version 2 of the openai client
DSPY := .venv-dspy
DSPY_PIP := $(DSPY)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-dspy.txt
# what can differ there: all that goes through the openai client, and modules of other libraries
DIFFERS := tests/llm tests/modules tests/runs/test_run.py tests/runs/test_budget.py \
	tests/runs/test_batch_api.py tests/integration/other_libraries
# the third: servers that others wrote, to run against
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
	python3.11 -m venv $(VENV)

$(VENV)/.demo: $(PY) pyproject.toml constraints.txt
	$(PIP) --editable ".[demo]"
	touch $@

$(VENV)/.test: $(PY) pyproject.toml constraints.txt
	$(PIP) --editable ".[test]"
	touch $@ $(VENV)/.demo

$(DSPY)/.ready: pyproject.toml constraints-dspy.txt
	test -x $(DSPY)/bin/python || python3.11 -m venv $(DSPY)
	$(DSPY_PIP) --editable ".[test-dspy]"
	touch $@

$(SERVERS)/.ready: constraints-servers.txt
	test -x $(SERVERS)/bin/python || python3.11 -m venv $(SERVERS)
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
	command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && \
		$(SUDO) apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core; }

servers: $(SERVERS)/.ready
	[ -x /usr/sbin/nginx ] || { $(SUDO) apt-get update -qq && \
		$(SUDO) apt-get install -y -qq --no-install-recommends nginx-light openssl; }

# everything; the notebooks keep their outputs from the default model, here they run on few rows
# through the small one
test: lint browser servers $(DSPY)/.ready
	$(FRESH) $(PY) -m pytest tests $(BOTH_CORES) $(SLOWEST) -m "not model"
	$(FRESH) $(DSPY)/bin/python -m pytest $(DIFFERS) $(BOTH_CORES) $(SLOWEST) -m "not model"
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
	$(PY) benchmarks/soak.py 5
	$(PY) benchmarks/compare.py
	$(PY) benchmarks/report.py

clean:
	rm -rf $(VENV) $(DSPY) $(SERVERS) .bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_output docs/_build docs/tutorials/notebooks
