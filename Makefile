# Everything runs in .venv, which is made once and updated when its inputs change.
.DEFAULT_GOAL := help
SHELL := /bin/sh

VENV  := .venv
BIN   := $(VENV)/bin
READY := $(VENV)/.ready
SHIPPED := harness/apps/predict/shipped/simple-crystals

.PHONY: help run site test slow lint format types docs bundle revisions bench check clean

help: ## show these lines
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

run: $(READY) ## run the quickstart benchmark; tables in leaderboards/quickstart/
	@$(BIN)/harness run quickstart

site: $(READY) ## all leaderboards as web pages in site/
	@$(BIN)/harness site

test: $(READY) ## the fast tests, one process per core
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

slow: $(READY) ## the slow tests: the wheel in an empty environment, and the like
	@$(BIN)/pytest -m slow

lint: $(READY) ## ruff: lint and format, changing nothing; who imports whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## ruff: mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: $(READY) ## mypy: --strict on harness and plugins, less so on tests
	@$(BIN)/mypy

docs: $(READY) ## the documentation as a web site, in build/docs/site/; its pages from the source
	@$(BIN)/python tools/docs_site.py

bundle: $(READY) ## make the bundle that is shipped again, from its recipe
	@rm -rf $(SHIPPED)
	@$(BIN)/harness bundle make simple-crystals --quiet --to $(SHIPPED)

revisions: $(READY) ## write tests/registry/revisions.toml again, once revisions are right
	@$(BIN)/python tools/revisions.py

bench: $(READY) ## speed and memory, measured (takes minutes)
	@$(BIN)/pytest tests/benchmarks -m ""

check: test slow lint types ## what CI runs

clean: ## remove .venv, caches and builds; results stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The recipe looks for a Python that is new enough. A candidate may exist and yet not run (version
# managers leave such shims), so each is tried. PYTHON=… on the command line decides instead.
CANDIDATES := $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python)
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

$(READY): pyproject.toml constraints.txt
	@python=; \
	for candidate in $(CANDIDATES); do \
	  if $$candidate -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11 or newer among: $(CANDIDATES)."; \
	  echo "Install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; \
	fi; \
	if ! $(BIN)/python -c '$(NEW_ENOUGH)' >/dev/null 2>&1; then \
	  echo "Making $(VENV) with $$($$python --version) ..."; \
	  rm -rf $(VENV); \
	  if ! $$python -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$python cannot make virtual environments (on Debian: apt install python3-venv)."; exit 1; \
	  fi; \
	fi
	@echo "Installing what pyproject.toml asks for, at the versions of constraints.txt (some minutes the first time) ..."
	@PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --editable '.[dev,docs,matgl,dgl,mp,matbench]'
	@touch $@
