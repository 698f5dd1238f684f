# The two commands: make run, make test.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help install run serve compare test lint format clean

help:  ## list these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: $(VENV)/.installed  ## install the gateway and the services into .venv

run: $(VENV)/.installed  ## start the gateway, the services and the demo data; print a request that works
	@optimizely-api run

serve: $(VENV)/.installed  ## start the gateway alone, restarting when a source file changes
	@gunicorn --paste development.ini

compare: $(VENV)/.compare-installed  ## compare blocking workers with asyncio on this machine (about ten minutes)
	@optimizely-api compare $(COMPARE_OPTIONS)

test: $(VENV)/.tests-installed  ## install what the tests need, and run them (CI=true: the slow ones too)
	@pytest

lint: $(VENV)/.tests-installed  ## check style (ruff) and types (mypy)
	@ruff check . && ruff format --check . && mypy

format: $(VENV)/.tests-installed  ## let ruff rewrite what it can
	@ruff format . && ruff check --fix .

clean:  ## remove the environment, and the databases of make run
	rm -rf $(VENV) var build *.egg-info

$(VENV)/.installed: setup.py
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make run PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make run PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing into $(VENV) (a minute or two the first time)"
	@"$(PYTHON)" -m venv $(VENV)
	@pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.compare-installed: $(VENV)/.installed
	@echo "Installing what the charts need"
	@pip install --quiet --disable-pip-version-check --editable '.[compare]'
	@touch $@

$(VENV)/.tests-installed: $(VENV)/.installed
	@echo "Installing what the tests need"
	@pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@
