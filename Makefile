# The verbs of this project.  Nothing is needed but Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --no-compile --require-hashes --no-deps
# What pip does on one core.  A few packages carry files that are no Python 3; nobody imports them.
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
LAWS := tests/service/pricing/test_pricing_laws.py tests/service/market/test_market_conversion.py tests/service/desk/test_desk_stateful.py tests/exchanges/test_recorded.py

MEASURED := tests/service/desk tests/service/market tests/service/pricing tests/service/test_accounting.py $(addprefix tests/exchanges/test_,book.py board.py checksum.py continuity.py crosscheck.py distribution.py feeds_apply.py health.py ladder.py recorded.py recording.py replay.py venues.py) $(addprefix tests/api/test_,admission.py codes.py limits.py) tests/ledger/test_verify.py tests/test_addresses.py tests/test_keys.py tests/test_printable.py tests/test_settings_changes.py

# One more than there are cores: many tests wait, for a venue to go stale or a lock to be let go.
WORKERS := $(shell expr $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2) + 1)

# Some hundred processes are started by the tests: each would compile the service anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo run test check types covered coverage laws chaos bench format

help: ## what the verbs do
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /	/'

setup: $(VENV)/installed ## install the service in .venv, as locked

demo: setup ## the whole service on simulated venues: address, key and a curl to try
	@$(BIN)/internal-orderbook demo

run: setup ## the service on the live venues of settings.toml
	@$(BIN)/internal-orderbook serve

test: $(VENV)/installed-dev ## the tests
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_OPTIONS)

check: $(VENV)/installed-dev ## everything a change must pass: style, types, imports, tests, coverage
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(MAKE) --jobs 2 types covered
	$(BIN)/coverage report --fail-under=100 --skip-covered

# The tests wait often enough to leave the types a core.
types: $(VENV)/installed-dev
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# What is measured takes nearly twice its time, so the tests of the pure modules are measured, and no others.
covered: $(VENV)/installed-dev
	$(MAKE) test PYTEST_OPTIONS='--cov --cov-report= $(MEASURED)'
	$(MAKE) test PYTEST_OPTIONS='$(addprefix --ignore=,$(MEASURED))'

coverage: $(VENV)/installed-dev ## the branches of everything that the tests reach; twice the time of the tests
	$(MAKE) test PYTEST_OPTIONS='--cov-config=/dev/null --cov=service --cov=exchanges --cov-branch --cov-report= --cov-fail-under=90'

laws: $(VENV)/installed-dev ## the laws of prices, of the desk and of recordings on 2,000 examples each
	$(BIN)/pytest --numprocesses auto --hypothesis-profile=thorough $(LAWS)

chaos: $(VENV)/installed-dev ## try to lose, double or half-do executions (kills, power cuts, races, outages), to overwhelm the service, and to find a replay that differs
	$(BIN)/pytest -m 'broken_copy or rig' tests/rigs
	$(BIN)/python -m tests.rigs

bench: $(VENV)/installed-dev $(VENV)-nautilus/installed ## measure side by side with references; writes bench/results.json
	$(BIN)/python -m bench

format: $(VENV)/installed-dev ## put the code into its form
	$(BIN)/ruff check --quiet --fix
	$(BIN)/ruff format --quiet

$(VENV)/installed: requirements-build.lock requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --requirement requirements-build.lock
	$(INSTALL) --no-build-isolation --requirement requirements.lock
	$(PIP) install --no-deps --no-build-isolation --editable .
	$(COMPILE)
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.lock
	$(INSTALL) --no-build-isolation --requirement requirements-dev.lock
	$(COMPILE)
	touch $@

# NautilusTrader, which the engine is measured against, needs Python 3.12 or newer (NAUTILUS_PYTHON names one); without
# one it is left out.
$(VENV)-nautilus/installed: requirements-nautilus.lock
	@for python in $(NAUTILUS_PYTHON) python3.13 python3.12 python3.14 $(PYTHON); do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then \
			$$python -m venv $(VENV)-nautilus && \
			$(VENV)-nautilus/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes --no-deps \
				--requirement $< && touch $@; \
			break; \
		fi; \
	done
