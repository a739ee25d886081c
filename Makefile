# make demo    the page, with a sample scan, at http://127.0.0.1:7860
# make test      every check: ruff, mypy, pytest (with the page in a real Chromium, found or installed)
# make test-all  the same, and the tests that take more than ten seconds
# make check     lint and the fast tests alone
#
# Both build .venv on their first run; after that they start at once, until a requirements file changes.

# What is imported is compiled then, and kept (see PIP). Where the environment forbids to keep it, each process compiles
# torch and Gradio anew, for 6 s.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-all check pytest lint lint-python lint-scripts format coverage bench screenshot hooks space clean

help:
	@echo "make demo        the page, with a sample scan, at http://127.0.0.1:7860"
	@echo "make test        every check: ruff, mypy, pytest, and the page in a browser (finds or installs one)"
	@echo "make test-all    the same, and the slow tests, of every slice and of an installed wheel"
	@echo "make check       lint, and the tests that are neither slow nor in a browser"
	@echo "make lint        ruff, mypy and ESLint      make format      let ruff fix what it can"
	@echo "make coverage    lines tested, by wing      make bench       speed and memory here"
	@echo "make screenshot  docs/screenshot.png anew   make hooks       run the lint before commits"
	@echo "make space SPACE=owner/name [--dry-run]     upload to a Hugging Face Space"
	@echo "make clean       remove .venv, node_modules and caches"

demo: $(VENV)/.installed
	$(BIN)/python app.py

# The lint goes on beside the tests, which wait now and then.
MARKED ?= not network
ALL := +@$(MAKE) --no-print-directory -j3 lint-python lint-scripts pytest
test: $(VENV)/.installed-dev
	$(BIN)/python -m tools.browser
	$(ALL) MARKED="not network and not slow"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m tools.browser
	$(ALL) MARKED="not network"

check: $(VENV)/.installed-dev
	$(ALL) MARKED="not network and not slow and not e2e"

# Files in their own order: the long ones, which have few tests, would come last by the number of tests.
pytest: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder -m "$(MARKED)" --durations 15

# Both parts at once: each keeps one core busy.
lint: $(VENV)/.installed-dev
	+@$(MAKE) --no-print-directory -j2 --output-sync lint-python lint-scripts

lint-python: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# ESLint, and TypeScript's compiler on plain JavaScript; nothing is built. package-lock.json pins both.
NPM := $(shell command -v npm)
lint-scripts: $(if $(NPM),node_modules/.installed)
ifeq ($(NPM),)
	@echo "The page's scripts were not checked: node with npm is not here."
else
	npm run --silent lint
endif

node_modules/.installed: package.json package-lock.json
	npm ci --silent --no-audit --no-fund
	@touch $@

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

WINGS := $(patsubst %/,%,$(filter-out %__pycache__/,$(wildcard ichseg/*/))) train
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "not network" --cov --cov-report=
	@for wing in $(WINGS); do \
	  printf '%-16s %3s %%\n' $$wing `$(BIN)/coverage report --include "$$wing/**" --format total`; \
	done
	@echo "all              `$(BIN)/coverage report --format total` %"

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/bench.py --write

screenshot: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/screenshot.py

hooks: $(VENV)/.installed-dev
	$(BIN)/pre-commit install

# `make space SPACE=owner/name --dry-run` lists the files and uploads nothing: the + runs the script
# under make's own --dry-run (-n) too, and DRY tells it (the first word of MAKEFLAGS holds the letters).
DRY := $(findstring n,$(firstword -$(MAKEFLAGS)))
space: $(if $(DRY),,$(VENV)/.installed)
	+@$(if $(DRY),$(PYTHON),$(BIN)/python) .ci/space.py $(SPACE) $(if $(DRY),--dry-run)

clean:
	rm -rf $(VENV) node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage htmlcov

# The stamps: a newer requirements file, or none of these, means installing again. Pip compiles nothing: all packages
# would take as long as all the rest, so that what is imported is compiled then. For the tests that is here, with the
# networks that they ask; else each of their processes would compile both for itself.
PIP := $(BIN)/python -m pip --disable-pip-version-check
LOAD_NETWORKS := from ichseg.methods.catalogue import default_baseline, default_model, load_predictor; \
  [load_predictor(name) for name in (default_model(), default_baseline())]

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is `$(PYTHON) -V 2>&1`; run: make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.txt | $(BIN)/pip
	@echo "Installing into $(VENV) (first time only; it takes a few minutes)"
	$(PIP) install --no-compile -r requirements.txt
	@touch $@

$(VENV)/.installed-dev: requirements.txt requirements-dev.txt requirements-ray.txt requirements-agree.txt requirements-archive.txt train/requirements.txt | $(BIN)/pip
	@echo "Installing into $(VENV) (first time only; it takes a few minutes)"
	$(PIP) install --no-compile -r requirements-dev.txt
	-@$(BIN)/python -m pytest --collect-only -qq >/dev/null
	-@$(BIN)/python -c '$(LOAD_NETWORKS)'
	@touch $(VENV)/.installed $@
