# The checks of continuous integration. Everything runs inside .venv, which is created on
# demand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
SCATTER := .venv-scatter
MINIMUM := .venv-minimum
# Percent of lines that fast tests must run; 95.9 were measured after 0.2.0.
COVERAGE := 95
BUILT_FROM := pyproject.toml constraints.txt hatch_build.py \
	$(wildcard mmgraph/native/*.cpp mmgraph/native/*.h)
export OMP_NUM_THREADS ?= 2
# Tests start many processes, each of which would compile every module.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help bench test check lint pytest fast slow long scatter minimum coverage dist docs format clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

bench: $(CORE) ## compare the default estimator with every baseline on `heart`
	$(BIN)/mmgraph bench heart --output runs/bench

test: check ## set up the environment and run all checks

# Tests of the gallery read the output of the examples of the site.
check: $(DEV) ## lint, types, layers, the site, then fast and slow tests
	$(MAKE) --no-print-directory -j 2 --output-sync=target lint docs
	$(MAKE) --no-print-directory pytest

lint: $(DEV) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two examples or tests run at a time, each on one of two cores.
docs pytest fast slow long minimum coverage: export OMP_NUM_THREADS := 1

# Files with slow tests come first, so that both cores finish at the same time.
pytest: $(DEV) ## fast and slow tests
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not long and not gpu"

fast: $(DEV) ## tests that take seconds
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not long and not gpu"

# Tests of one file share what they export and fit.
slow: $(DEV) ## tests that train a model, run the examples, build the wheel
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not gpu"

long: $(DEV) ## tests of more than 25 seconds; not part of make check
	$(BIN)/python -m pytest -q -n 2 -m long

scatter: $(SCATTER)/.installed ## the sparse path on torch_scatter (builds it once)
	$(SCATTER)/bin/python -m pytest -q tests/test_ops.py tests/nn/test_conv.py

minimum: $(MINIMUM)/.installed ## fast tests with the lowest versions of all dependencies
	$(MINIMUM)/bin/python -m pytest -q -n 2 -m "not slow and not long and not gpu" \
		-W ignore::DeprecationWarning --ignore tests/helpers tests

coverage: $(DEV) ## fast tests with line coverage; fails below the threshold
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not long and not gpu" --cov --cov-report=term \
		--cov-report=xml --cov-fail-under=$(COVERAGE) tests

dist: $(DEV) ## source distribution and pure wheel in dist/
	rm -rf dist
	MMGRAPH_PURE=1 $(BIN)/python -m hatchling build -t sdist -t wheel

# Pages, API reference and gallery; links within the site are checked at the end.
docs: $(DEV) ## build the documentation site into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html -j 2 docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

format: $(DEV) ## rewrite files in the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and every cache
	rm -rf docs/_build docs/api/generated docs/gallery docs/sg_execution_times.rst
	rm -rf $(VENV) $(SCATTER) $(MINIMUM) build dist .coverage coverage.xml .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Stamp files: an environment is installed again only when its inputs change.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(CORE): $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(DEV): $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,docs]"
	@touch $@ $(CORE)

# torch_scatter is compiled against the installed torch, which takes minutes, and changes
# which code path runs: it has a separate environment on top of the packages of .venv.
$(SCATTER)/.installed: constraints.txt | $(DEV)
	rm -rf $(SCATTER)
	$(BIN)/python -m venv --without-pip $(SCATTER)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(SCATTER)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
	$(SCATTER)/bin/python -m pip install -q -c constraints.txt \
		--no-build-isolation --no-deps torch-scatter
	@touch $@

# The lowest versions that pyproject.toml allows, with current versions of the tools.
# Their deprecation warnings about each other are not errors here.
$(MINIMUM)/.installed: pyproject.toml tools/minimum_versions.py
	rm -rf $(MINIMUM)
	$(PYTHON) -m venv $(MINIMUM)
	$(MINIMUM)/bin/python tools/minimum_versions.py pandas > $(MINIMUM)/constraints.txt
	$(MINIMUM)/bin/python -m pip install -q -c $(MINIMUM)/constraints.txt -e ".[pandas]" \
		beartype hatchling hypothesis pytest pytest-xdist torchmetrics
	@touch $@
