# make check = CI = pre-commit. Everything runs inside .venv, which is made on demand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.installed-core
DEV := $(VENV)/.installed-dev
DOCS := $(VENV)/.installed-docs
SCATTER := .venv-scatter
BUILT_FROM := pyproject.toml constraints.txt hatch_build.py \
	$(wildcard mmgraph/native/*.cpp mmgraph/native/*.h)
export OMP_NUM_THREADS ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help bench test check lint fast slow scatter docs format clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

bench: $(CORE) ## compare the default estimator with every baseline on `heart`
	$(BIN)/mmgraph bench heart --output runs/bench

test: check ## set up the environment and run everything that CI runs

check: lint fast slow scatter ## lint, types, layers, then all tests

lint: $(DEV) ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two tests run at a time, each on one of two cores.
fast slow: export OMP_NUM_THREADS := 1

fast: $(DEV) ## tests that take seconds
	$(BIN)/python -m pytest -q -n 2 -m "not slow and not gpu"

slow: $(DEV) ## tests that train a model, run the examples, build the wheel
	$(BIN)/python -m pytest -q -n 2 -m "slow and not gpu"

scatter: $(SCATTER)/.installed ## the sparse path on torch_scatter (builds it once)
	$(SCATTER)/bin/python -m pytest -q tests/test_ops.py tests/nn/test_conv.py

# Pages, API reference and gallery; links within the site are checked at the end.
docs: $(DOCS) ## build the documentation site into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going -b html -j 2 docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

format: $(DEV) ## rewrite files in the one style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the environment and every cache
	rm -rf docs/_build docs/api/generated docs/gallery docs/sg_execution_times.rst
	rm -rf $(VENV) $(SCATTER) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# Stamp files: an environment is installed again only when its inputs change.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(CORE): $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	@touch $@

$(DEV): $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	@touch $@ $(CORE)

$(DOCS): $(BUILT_FROM) | $(BIN)/python
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	@touch $@ $(CORE)

# torch_scatter is compiled against the installed torch, for minutes, and changes which
# path runs: it has an environment of its own, over the packages of the other one.
$(SCATTER)/.installed: constraints.txt | $(DEV)
	rm -rf $(SCATTER)
	$(BIN)/python -m venv --without-pip $(SCATTER)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> "$$($(SCATTER)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/main.pth"
	$(SCATTER)/bin/python -m pip install -q -c constraints.txt \
		--no-build-isolation --no-deps torch-scatter
	@touch $@
