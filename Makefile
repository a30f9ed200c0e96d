# What a person does with a checkout: `make help` lists it. Needs Python 3.11 or newer; a C compiler is optional.

SHELL := /bin/bash
# The tests start cdcflow some thousand times: each module is compiled once, also where the shell says not to keep that.
export PYTHONDONTWRITEBYTECODE :=
.DEFAULT_GOAL := help

VENV ?= .venv
PY := $(VENV)/bin/python
# More than four test processes only wait for one another's servers.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n < 4 ? n : 4)))
PYTEST ?= $(PY) -m pytest
ARGS ?=

HOT := $(shell find cdcflow -name '*_cy.py' -o -name '*_cy.pxd')
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled

.PHONY: help install compile demo demo-down lint format unit plain test bench clean distclean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The newest interpreter that is fit to make an environment; pyenv's shims answer to names that are not selected.
$(VENV)/bin/python:
	@set -e; found=; \
	for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 $$(ls -d $$HOME/.pyenv/versions/3.1[1-9]*/bin/python 2>/dev/null | sort -rV); do \
	  if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$candidate; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "no Python 3.11 or newer with venv found; name one: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; exit 1; fi; \
	echo "environment: $(VENV) from $$($$found --version) ($$found)"; \
	"$$found" -m venv $(VENV)

# The extensions are built by their own stamp below, so the installation leaves them out.
$(INSTALLED): setup.cfg setup.py pyproject.toml | $(VENV)/bin/python
	$(PY) -m pip install -q --disable-pip-version-check 'setuptools>=77' 'Cython>=3.1,<4'
	CDCFLOW_COMPILE=forbid $(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e '.[dev,demo]'
	@touch $@

$(COMPILED): $(INSTALLED) $(HOT)
	@if command -v "$${CC:-cc}" >/dev/null; then \
	  echo "compiling $(words $(filter %.py,$(HOT))) modules"; \
	  CDCFLOW_COMPILE=require $(PY) setup.py -q build_ext --inplace -j $(JOBS); \
	else \
	  echo "no C compiler found: the codecs run as plain Python"; \
	fi
	@touch $@

install: $(COMPILED) ## make the environment with the compiled modules

compile: $(COMPILED) ## compile the hot modules in place

demo: $(COMPILED) ## copy and follow a small shop between two embedded PostgreSQL 18, with a crash in the middle
	$(VENV)/bin/cdcflow demo $(ARGS)

demo-down: $(COMPILED) ## stop the demo and remove it
	$(VENV)/bin/cdcflow demo --down $(ARGS)

lint: $(COMPILED) ## style, types, import contracts
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(INSTALLED) ## let ruff rewrite what it can
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

unit: $(COMPILED) ## the tests that need no server
	$(PYTEST) -n $(JOBS) tests/unit $(ARGS)

# As on a machine without compiler and without Cython: the shim's names, plain Python.
plain: $(INSTALLED) ## the unit tests with the hot modules as plain Python
	CDCFLOW_CODECS=plain $(PYTEST) -q -n $(JOBS) -p tests.without_cython tests/unit $(ARGS)

# The tests on servers wait for them more than half of the time.
TEST_JOBS ?= $(shell echo $$(($(JOBS) * 5 / 2)))

test: lint plain ## everything: lint, plain codecs, unit, contract, integration and crash tests on real servers
	$(PYTEST) -n $(TEST_JOBS) --dist loadgroup tests $(ARGS)

bench: $(COMPILED) ## the benchmarks, results to bench/results
	$(PY) -m bench $(ARGS)

clean: ## remove what was built, keep the environment
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache $(COMPILED)
	find cdcflow migrations tests bench -name __pycache__ -prune -exec rm -rf {} +
	find cdcflow \( -name '*_cy*.so' -o -name '*_cy.c' -o -name '*_cy.html' \) -delete

distclean: clean ## remove the environment too
	rm -rf $(VENV)
