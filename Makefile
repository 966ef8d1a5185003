# The targets that people and CI use. `make help` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

export OMP_NUM_THREADS ?= 2

.PHONY: help install test test-fast lint format demo benchmarks hooks clean

help:            ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

install: $(VENV)/.installed  ## Make .venv and install everything into it

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[bench]'
	touch $@

lint: install    ## ruff, mypy --strict, the import contracts and shellcheck
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck .ci/run examples/ci/*.sh

test: lint       ## Everything CI checks, one test to a core
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

test-fast: install  ## The tests that take seconds
	$(BIN)/pytest -m "not slow"

demo: install    ## Start a server, compress a network over REST, compare, stop (results in demo/)
	$(BIN)/python -m examples.demo

benchmarks: install  ## Every table of benchmarks/results, measured again: hours (downloads Fashion-MNIST)
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.service
	$(BIN)/python -m benchmarks.rounding
	$(BIN)/python -m benchmarks.zoo --jobs 2

hooks: install   ## Check each commit with ruff and mypy before it is made
	$(BIN)/pre-commit install

format: install  ## Let ruff put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:           ## Remove what the targets made
	rm -rf $(VENV) demo .data .mypy_cache .ruff_cache .pytest_cache
