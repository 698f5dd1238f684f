# The two commands: make run, make test.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN = $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.DEFAULT_GOAL := help
.PHONY: help install run serve compare report test lint format settings constraints newest clean

help:  ## list these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

install: $(VENV)/.installed  ## install the gateway and the services into .venv

run: $(VENV)/.installed  ## start the gateway, the services and the demo data; print a request that works
	@optimizely-api run

serve: $(VENV)/.installed  ## start the gateway alone, restarting when a source file changes
	@SERVICES_KEY_FILE="$${SERVICES_KEY_FILE:-$$(optimizely-api services-key)}" gunicorn --paste development.ini

compare: $(VENV)/.compare-installed  ## compare blocking workers with asyncio on this machine (about 20 minutes)
	@optimizely-api compare $(COMPARE_OPTIONS)

report: $(VENV)/.tests-installed  ## keep a comparison's report in docs/ and its figures in the README (FROM=comparison)
	@python -m tests.comparison.publish $(or $(FROM),comparison)

test: $(VENV)/.tests-installed  ## install what the tests need, and run them (CI=true: the slow ones too)
	@pytest $(TEST_OPTIONS)

lint: $(VENV)/.tests-installed  ## check style (ruff), types (mypy) and which way imports go (import-linter)
	@ruff check . && ruff format --check . && mypy && lint-imports

format: $(VENV)/.tests-installed  ## let ruff rewrite what it can
	@ruff format . && ruff check --fix .

settings: $(VENV)/.installed  ## write every setting with its meaning into production.ini, from settings.py
	@optimizely-api settings --write production.ini

# What is pinned stays pinned as long as setup.py allows it; CONSTRAINTS_OPTIONS=--upgrade takes the newest releases.
# The first file holds everything, the others follow it, so that a dependency has one release in all three.
compiled = uv pip compile setup.py --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make constraints" $(CONSTRAINTS_OPTIONS)

constraints:  ## write requirements/ anew after a change of setup.py (CONSTRAINTS_OPTIONS=--upgrade: newest releases)
	@command -v uv >/dev/null || { echo "uv is needed: make lint installs it, or pip install uv"; exit 1; }
	@$(compiled) --extra test --output-file requirements/test.txt
	@$(compiled) --extra compare --constraints requirements/test.txt --output-file requirements/compare.txt
	@$(compiled) --constraints requirements/test.txt --output-file requirements/install.txt

newest: $(VENV)/.tests-installed  ## report how the newest gunicorn and aiohttp of their majors fare
	@.ci/newest

clean:  ## remove all that these commands made: the environment, the databases of make run, reports and caches
	rm -rf $(VENV) var comparison build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Run a command that is silent for long, with a dot every two seconds as a sign of life; its status is the recipe's.
define patiently
	@(while sleep 2 && kill -0 $$$$ 2>/dev/null; do printf .; done) & dots=$$!; \
	trap 'kill $$dots 2>/dev/null' EXIT; trap 'exit 130' INT TERM; \
	$(1); status=$$?; echo; exit $$status
endef

# Dependencies by hash, then this folder, which has none, with the setuptools that just came.
installed = pip install --quiet --require-hashes --requirement requirements/$(1).txt \
	&& pip install --quiet --no-deps --no-build-isolation --editable .

$(VENV)/.installed: setup.py requirements/install.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or later is needed: make run PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: make run PYTHON=/path/to/python3.11"; exit 1; }
	@printf 'Installing into $(VENV) (a minute or two the first time) '
	@"$(PYTHON)" -m venv $(VENV)
	$(call patiently,$(call installed,install))
	@touch $@

$(VENV)/.compare-installed: $(VENV)/.installed requirements/compare.txt
	@printf 'Installing what the charts need '
	$(call patiently,$(call installed,compare))
	@touch $@

$(VENV)/.tests-installed: $(VENV)/.installed requirements/test.txt
	@printf 'Installing what the tests need '
	$(call patiently,$(call installed,test))
	@touch $@
