# From a fresh clone to an answer; `make` alone lists the targets.

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# One process for each core; the tests of a file share what they set up, so they stay in one process.
PARALLEL := --numprocesses logical --dist loadfile
QUIET_PIP := -qq --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup fetch sweep test test-all lint format clean

help: ## list the targets
	@echo "usage: make TARGET [ARGS=...] [PYTHON=python3]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' Makefile

setup: $(INSTALLED) ## make .venv with the pinned dependencies

fetch: setup ## fetch the default model and data, once
	@$(BIN)/python -m src.fetch

sweep: fetch ## ranks 1, 4, 8, 64 for W_q, W_v and for all of attention; ARGS: more overrides
	$(BIN)/python -m src.train -m lora.rank=1,4,8,64 lora.targets=qv,qkvo $(ARGS)

test: fetch ## run the tests, on all cores; ARGS: pytest's arguments
	LORA_SWEEP_REQUIRE_ASSETS=1 $(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-all: fetch ## run the tests, the slow ones too; ARGS: pytest's arguments
	LORA_SWEEP_REQUIRE_ASSETS=1 $(BIN)/python -m pytest $(PARALLEL) -m "slow or not slow" $(ARGS)

lint: setup ## check style, types and the direction of imports
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: setup ## format the code and mend what ruff can mend
	$(BIN)/ruff check --fix src tests
	$(BIN)/ruff format src tests

clean: ## remove .venv and all caches; outputs/ and what was fetched stay
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted set-up is done again.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "'$(PYTHON)' is missing or older than Python 3.11. Install Python 3.11 or newer, or name one:" \
	         "make setup PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up $(VENV): the dependencies pinned in constraints.txt, some minutes the first time."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(MAKE_VENV)
	@$(BIN)/python -m pip install $(QUIET_PIP) -c constraints.txt -e ".[dev]"
	@touch $@
	@echo "$(VENV) is ready: $$($(BIN)/python --version)."

# Debian parts ensurepip from Python; there, the pip that is installed fills the environment from outside.
define MAKE_VENV
if $(PYTHON) -c 'import ensurepip' 2>/dev/null; then \
	    $(PYTHON) -m venv --clear $(VENV); \
	else \
	    $(PYTHON) -m venv --clear --without-pip $(VENV) \
	    && $(PYTHON) -m pip --python $(BIN)/python install $(QUIET_PIP) pip; \
	fi
endef
