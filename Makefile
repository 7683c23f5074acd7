# What one does with a checkout. Everything installs into .venv; nothing else is touched.
#
#   make run        install, and run examples/http_and_ssh in the foreground
#   make test       install the test extra, and run the whole suite (ARGS="-k name" narrows it)
#                   in JOBS processes at once; JOBS=0 for one alone, as a debugger needs it
#   make test-all   the same on every CPython from 3.11 on that is installed
#   make lint       ruff and mypy
#   make docs       the site of docs/ in build/docs/html; a warning is an error
#   make clean      remove what the others made
#
# PYTHON=... chooses the interpreter of a new .venv; by default it is python3, or the first
# newer one where that is older than 3.11.

SHELL = /bin/sh
VENV ?= .venv
BIN = $(VENV)/bin
PYTHON ?= $(firstword $(shell .ci/pythons | cut -d' ' -f2))
PIP = $(BIN)/python -m pip --disable-pip-version-check install --quiet
ARGS ?=
# More than the CPUs, of which two are enough: much of the suite waits.
JOBS ?= 3
EXAMPLE = examples/http_and_ssh
PARTS = setup.cfg setup.py $(wildcard protocols/apihour_http/speed/*.[ch])

.PHONY: help run test test-all lint docs clean

help:
	@sed -n 's/^#   //p' Makefile

run: $(VENV)/.installed
	@cd $(EXAMPLE) && exec ../../$(BIN)/apihour http_and_ssh:Container -ac \
	    --keys "$(CURDIR)/keys" $(ARGS)

# With the byte code kept: every daemon, worker and process of the suite imports the same files.
test: $(VENV)/.installed-test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(JOBS) $(ARGS)

test-all:
	@found=$$(.ci/pythons | sort -t. -k2n | tr ' ' ':'); failed=; \
	[ -n "$$found" ] || { echo "make test-all: no CPython from 3.11 on found" >&2; exit 1; }; \
	for each in $$found; do \
	    version=$${each%%:*} python=$${each#*:}; \
	    echo "== Python $$version ($$python)"; \
	    $(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON=$$python \
	        || failed="$$failed $$version"; \
	done; \
	[ -z "$$failed" ] || { echo "make test-all: failed on$$failed" >&2; exit 1; }

lint: $(VENV)/.installed-test
	$(BIN)/ruff check --config .ci/ruff.toml .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports .ci/importlinter.ini --no-cache --no-logo
	$(BIN)/python .ci/sizes

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs build/docs/html
	@echo "The site: build/docs/html/index.html"

clean:
	rm -rf .venv .venv-3.* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find apihour protocols tests examples benchmarks docs -name __pycache__ -prune -exec rm -rf {} +
	rm -f protocols/apihour_http/speed/*.so

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { \
	    echo "make: no Python from 3.11 on with venv found; install python3 and python3-venv," \
	         "or say which: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@echo "Making $(VENV) with $(PYTHON)"
	@$(PYTHON) -m venv $(VENV)

# The order-only prerequisite: an interpreter that is upgraded in place is no reason to install.
$(VENV)/.installed: $(PARTS) | $(BIN)/python
	@echo "Installing apihour[standard] into $(VENV)"
	@$(PIP) --editable '.[standard]'
	@touch $@

$(VENV)/.installed-test: $(PARTS) | $(BIN)/python
	@echo "Installing apihour[test] into $(VENV)"
	@$(PIP) --editable '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: $(PARTS) | $(BIN)/python
	@echo "Installing apihour[docs] into $(VENV)"
	@$(PIP) --editable '.[docs]'
	@touch $(VENV)/.installed $@
