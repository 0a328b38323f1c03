# make demo: the main job on the embedded model.   make test: everything, as CI runs it.
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# remembered rows would make the tests and the notebooks' figures depend on earlier runs
FRESH = PARDSPY_STORE=$$(mktemp -d)/answers.sqlite
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: demo test lab lint browser notebooks pictures bench clean

$(PY):
	python3.11 -m venv $(VENV)

$(VENV)/.demo: $(PY) pyproject.toml constraints.txt
	$(PIP) --editable ".[demo]"
	touch $@

$(VENV)/.test: $(PY) pyproject.toml constraints.txt
	$(PIP) --editable ".[test]"
	touch $@ $(VENV)/.demo

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
test: lint browser
	$(FRESH) PARDSPY_MODEL=local:smollm2-135m $(PY) -m pytest tests --nbmake notebooks

# run the notebooks on the default model and keep their outputs, without widget state
notebooks: $(VENV)/.test
	$(FRESH) $(VENV)/bin/jupyter nbconvert --to notebook --execute --inplace \
	    --ExecutePreprocessor.store_widget_state=False notebooks/*.ipynb

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
	$(PY) benchmarks/store.py
	$(PY) benchmarks/compare.py
	$(PY) benchmarks/report.py

clean:
	rm -rf $(VENV) .bench build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis demo_output
