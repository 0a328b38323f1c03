# make demo: the main job on the embedded model.   make test: everything, as CI runs it.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# remembered rows would make the tests and the notebooks' figures depend on earlier runs
FRESH = PARDSPY_STORE=$$(mktemp -d)/answers.sqlite
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# with DSPy, LangChain and version 2 of the openai client
DSPY := .venv-dspy
DSPY_PIP := $(DSPY)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints-dspy.txt
# loads the embedded model, which slows down badly where it shares the cores
WITH_MODEL := tests/test_local.py tests/foreign/test_embedded.py
DSPY_NOTEBOOK := notebooks/06_dspy_modules.ipynb
NOTEBOOKS := $(filter-out $(DSPY_NOTEBOOK),$(wildcard notebooks/*.ipynb))
# of the kernel, the page and the package: once is enough
ONCE := tests/test_browser.py tests/test_kernel.py tests/test_house.py tests/test_wheel.py \
	tests/test_cluster.py tests/test_fleet.py
BOTH_CORES := -n 2 --dist worksteal
SMALL_MODEL := PARDSPY_MODEL=local:smollm2-135m

.PHONY: demo test lab lint browser notebooks pictures bench clean

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

demo: $(VENV)/.demo
	$(PY) examples/sentiment.py

lab: $(VENV)/.test
	$(VENV)/bin/jupyter lab notebooks/01_quickstart.ipynb

lint: $(VENV)/.test
	$(PY) -m ruff format --check pardspy_nb tests examples benchmarks
	$(PY) -m ruff check pardspy_nb tests examples benchmarks
	$(PY) -m mypy

browser:
	command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq chromium; }

# the notebooks keep their outputs from the default model; here they run on the small one
test: lint browser $(DSPY)/.ready
	$(FRESH) $(PY) -m pytest tests $(BOTH_CORES) --ignore tests/foreign $(WITH_MODEL:%=--ignore %)
	$(FRESH) $(DSPY)/bin/python -m pytest tests $(BOTH_CORES) $(ONCE:%=--ignore %) $(WITH_MODEL:%=--ignore %)
	$(FRESH) $(SMALL_MODEL) $(PY) -m pytest tests/test_local.py --nbmake $(NOTEBOOKS)
	$(FRESH) $(SMALL_MODEL) $(DSPY)/bin/python -m pytest tests/foreign/test_embedded.py --nbmake $(DSPY_NOTEBOOK)

# run the notebooks on the default model and keep their outputs, without widget state
KEEP := nbconvert --to notebook --execute --inplace --ExecutePreprocessor.store_widget_state=False
notebooks: $(VENV)/.test $(DSPY)/.ready
	$(FRESH) $(PY) -m $(KEEP) $(NOTEBOOKS)
	$(FRESH) $(DSPY)/bin/python -m $(KEEP) $(DSPY_NOTEBOOK)

# the pictures of the README, out of a real JupyterLab
pictures: $(VENV)/.test browser
	$(PY) tests/pictures.py

# what the toolkit itself costs, beside others in environments of their own (.bench); as ratios,
# because machines differ. About 45 minutes, most of it the others'.
bench: $(VENV)/.test
	$(PY) benchmarks/engine.py
	$(PY) benchmarks/faults.py
	$(PY) benchmarks/files.py
	$(PY) benchmarks/processes.py
	$(PY) benchmarks/scale.py
	$(PY) benchmarks/store.py
	$(PY) benchmarks/compare.py
	$(PY) benchmarks/report.py

clean:
	rm -rf $(VENV) $(DSPY) .bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_output
