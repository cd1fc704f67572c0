# All targets except `lock` begin with `install`, which does nothing while the two lock files are unchanged.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
LOCKS := requirements.txt requirements-dev.txt
# Which tests the gate runs, in two halves: `test` and `test-long`. `.ci/run` sets it where Docker, RabbitMQ and so on
# are missing.
SELECT ?= not slow
JOBS ?= 3
# Tests of one module stay together, as they share servers and databases, which each process starts again.
PYTEST := $(PY) -m pytest -n $(JOBS) --dist worksteal

.PHONY: help install up test check test-long test-slow test-delivery chaos bench screenshots lock audit format

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

install:  ## Create .venv and install the pinned packages, checked by hash
	@want=$$(cat $(LOCKS) | cksum); \
	if [ "$$want" = "$$(cat $(VENV)/.lock 2>/dev/null)" ] && $(PY) -c '' 2>/dev/null; then exit 0; fi; \
	python=; \
	for name in python3 python3.13 python3.12 python3.11; do \
	  if "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; \
	done; \
	if [ -z "$$python" ]; then echo "Stroem needs Python 3.11 or newer; install it and run make again." >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "This $$python cannot make virtual environments: install its venv package (Debian: apt-get install python3-venv) and run make again." >&2; exit 1; \
	fi; \
	if ! $(PY) -m pip --version >/dev/null 2>&1; then "$$python" -m venv --clear $(VENV); fi; \
	rm -f $(VENV)/.lock; \
	echo "Installing $$(cat $(LOCKS) | grep -c '==') pinned packages into $(VENV) ..."; \
	if uv=$$($(FIND_UV)); then \
	  "$$uv" pip install --python $(PY) --require-hashes $(LOCKS:%=-r %); \
	else \
	  $(PY) -m pip install --no-input --disable-pip-version-check --require-hashes $(LOCKS:%=-r %); \
	fi; \
	echo "$$want" > $(VENV)/.lock

# uv installs in seconds what takes pip a minute: the one at hand, else the pinned one, by its hash.
FIND_UV = command -v uv || { { test -x $(VENV)/bin/uv || \
  { sed -n '/^uv==/,/[^\\]$$/p' $(LOCKS) > $(VENV)/uv.txt && \
    $(PY) -m pip install -qq --no-input --disable-pip-version-check --require-hashes \
      -r $(VENV)/uv.txt >/dev/null 2>&1; }; } && echo $(VENV)/bin/uv; }

up: install  ## Run Stroem here: database, broker, server, scheduler and a worker
	@exec $(PY) manage.py up

test: install  ## Run the tests that need nothing else installed (10 minutes at most on 2 cores)
	$(PYTEST) -m "$(SELECT) and not long"

test-long: install  ## Run the rest of the gate: long tests, and those that need Docker, Slurm and so on
	$(PYTEST) -m "$(SELECT) and long"

test-delivery: install  ## Run the delivery tests on the broker named by STROEM_TEST_BROKER_URL
	$(PYTEST) -m "delivery and $(SELECT) and not docker and not slurm and not chromium"

test-slow: install  ## Run the tests that are too long for the gate
	$(PYTEST) -m slow --timeout 3600

chaos: install  ## Kill and flush processes and stores, on a larger scale than the gate does
	STROEM_TEST_CHAOS_SCALE=$${STROEM_TEST_CHAOS_SCALE:-10} $(PY) -m pytest tests/chaos -m "slow or not slow" --timeout 3600

check: install  ## Check format, lint, types, import contracts, migrations, Django's checks
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo
	$(PY) -W ignore manage.py makemigrations --check --dry-run
	$(PY) manage.py check

audit: install  ## Ask for known weaknesses of the pinned packages (needs an advisory service)
	uv=$$($(FIND_UV)) && "$$uv" tool run --from pip-audit==2.10.1 pip-audit --disable-pip --require-hashes -r requirements.txt

format: install  ## Format the code and fix what the linter can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: install  ## Compare with a bare shell and bare Celery (FULL=1: more workers, brokers and sizes)
	$(PY) -m benchmarks $(if $(FULL),--full)

screenshots: install  ## Take pictures of every page into screenshots/, and those of the guides into docs/img/
	$(PY) -m tests.browser.screenshots

lock:  ## Write requirements*.txt from requirements*.in (UPGRADE=1: also take newer versions)
	@test -x $(VENV)/bin/uv || $(MAKE) install
	$(VENV)/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header $(if $(UPGRADE),--upgrade) requirements.in -o requirements.txt
	$(VENV)/bin/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-header $(if $(UPGRADE),--upgrade) requirements-dev.in -o requirements-dev.txt
