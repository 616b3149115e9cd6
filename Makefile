# Each target is one line: what there is to know stands in a script or in pyproject.toml.
# Variables: JOBS=2 (test processes), T="tests/master -k offer" (what to test), SEEDS=2000 (make sim), ARGS (conformance, mutants, bench, demo).
.DEFAULT_GOAL := help
.PHONY: setup lock fmt check check-style check-types check-imports check-wire test conformance sim mutants bench proto demo clean help

PY := .venv/bin/python
JOBS ?= 2
SEEDS ?= 2000
PYTEST := $(PY) -m pytest -n $(JOBS) --dist loadgroup
PYTHON_SCRIPTS = $(shell grep -lsE '^\#!.*python' scripts/*)
# Where no engine can be had (exit 3) the docker tests are skipped; where CI is set that is a failure.
ENGINE = { engine=$$($(PY) scripts/engine start) && export $$engine && $(PY) scripts/engine image || test $$? -eq 3 -a -z "$$CI"; }

setup: .venv/.ready  ## make .venv ready (Python 3.11+ is all it needs); does nothing when nothing changed

.venv/.ready: pyproject.toml constraints.txt
	scripts/setup

lock: .venv/.ready  ## bring constraints.txt up to date with pyproject.toml and the newest releases
	.venv/bin/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --upgrade --quiet --no-annotate --custom-compile-command 'make lock' -o constraints.txt

fmt: setup  ## format the code and repair what lint can repair
	$(PY) -m ruff check --fix-only --quiet . $(PYTHON_SCRIPTS) && $(PY) -m ruff format . $(PYTHON_SCRIPTS)

check: check-style check-types check-imports check-wire  ## everything that needs no run: style, types, imports, wire contract

check-style: setup
	$(PY) -m ruff format --check . $(PYTHON_SCRIPTS) && $(PY) -m ruff check . $(PYTHON_SCRIPTS)

check-types: setup
	$(PY) -m mypy . $(PYTHON_SCRIPTS)

check-imports: setup
	.venv/bin/lint-imports --no-logo

check-wire: setup
	scripts/proto --check

test: setup  ## the whole suite, with a Docker engine if there is one (T="tests/master -k offer" narrows it)
	$(ENGINE) && $(PYTEST) $(T)

conformance: setup  ## the conformance cases against a master that runs (MASTER=host:port, docs/conformance.md)
	RUNRIG_CONFORMANCE_MASTER=$(or $(MASTER),$(error say which master: make conformance MASTER=host:port)) $(PY) -m pytest -rs tests/conformance $(ARGS)

sim: setup  ## the simulation over many seeds (SEEDS=2000)
	RUNRIG_SIM_SEEDS=$(SEEDS) $(PYTEST) --timeout 0 tests/sim

mutants: setup  ## the proof that the simulation catches bugs: each is planted in a copy (JOBS=2, ARGS="--only epoch")
	$(PY) -m tests.sim.hunt --jobs $(JOBS) $(ARGS)

bench: setup  ## the benchmarks: ratios within one run
	$(PY) -m tests.bench $(ARGS)

proto: setup  ## generate the stubs in sdk/runrig/v1 from proto/
	scripts/proto

demo: setup  ## a cluster on this machine, shown from first offer to failover
	scripts/demo $(ARGS)

clean:  ## remove what tools and builds left; .venv stays
	find . -name .venv -prune -o -name __pycache__ -type d -print0 | xargs -0 rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

help:  ## this list
	@awk -F ':.*  ## ' '/^[a-z-]+:.*  ## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
