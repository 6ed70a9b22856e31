# `make run` and `make test` are all a new checkout needs; both set up what is missing.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
BENCH_INSTALLED := $(VENV)/installed-bench
AUDIT := .venv-audit
AUDIT_INSTALLED := $(AUDIT)/installed
FUZZ_INSTALLED := $(VENV)/installed-fuzz
MUTATION_INSTALLED := $(VENV)/installed-mutation
NICEHASH := .venv-nicehash
NICEHASH_INSTALLED := $(NICEHASH)/installed

# Directories that appear as the project grows.
CODE := $(wildcard engine gateway hashpit bench scripts tests)
TWICE := $(patsubst %/,%,$(sort $(dir $(wildcard tests/engine/test_*.py tests/gateway/test_*.py tests/property/test_*.py \
	tests/fuzz/test_*.py))))
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_ARGS ?= all --seconds 60
MUTATION_ARGS ?= all

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(INSTALLED) ## create .venv, install everything into it, compile the hot modules if possible
	@$(BIN)/python setup.py -q hot

.PHONY: run
run: setup ## start a demo exchange with bots and a simulated meter
	@$(BIN)/hashpit demo

.PHONY: test
test: setup ## run all tests; with a compiled build, run its tests a second time from the plain sources
	@$(MAKE) -s nicehash 2>/dev/null || echo "hashpit: NiceHash's client is not installed, its test will be skipped: \`make nicehash\` installs it, with a network"
	@$(BIN)/python -m pytest $(PYTEST_ARGS)
	@if [ -n "$(TWICE)" ] && [ "$$($(BIN)/python -m hashpit.build)" = compiled ]; then \
		echo "hashpit: once more from the plain sources: $(TWICE)"; \
		HASHPIT_PLAIN=1 $(BIN)/python -m pytest $(PYTEST_ARGS) $(TWICE); \
	fi

.PHONY: check
check: lint types ## lint, formatting, types, import direction and documentation links

.PHONY: lint
lint: setup ## the part of check that needs no type checker
	@$(BIN)/ruff check $(CODE) setup.py
	@$(BIN)/ruff format --check $(CODE) setup.py
	@$(BIN)/python -m pytest -q -m "not slow" tests/test_architecture.py tests/test_packaging.py

.PHONY: types
types: setup
	@$(BIN)/mypy $(CODE)

.PHONY: fmt
fmt: setup ## format the code and fix what the linter can fix
	@$(BIN)/ruff check --fix-only --quiet $(CODE) setup.py
	@$(BIN)/ruff format $(CODE) setup.py

.PHONY: bench
bench: setup $(BENCH_INSTALLED) ## measure everything and draw the plots: about 40 minutes; BENCH_ARGS=--short for a look
	@$(BIN)/python -m bench $(BENCH_ARGS)

.PHONY: audit
audit: setup $(AUDIT_INSTALLED) ## bandit, licences of what is installed, a bill of materials in build/sbom.json
	@$(AUDIT)/bin/bandit -q -c pyproject.toml -r $(filter-out tests,$(CODE)) setup.py
	@HASHPIT_PLAIN=1 $(BIN)/python -m pytest -q tests/security/test_dependencies.py
	@mkdir -p build
	@PYTHONWARNINGS=ignore $(AUDIT)/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON \
		-o build/sbom.json $(AUDIT)/runtime/bin/python
	@# Only whether the lock can be audited: its "No known vulnerabilities found" is not shown, as nobody was asked.
	@told=$$($(AUDIT)/bin/pip-audit --strict --dry-run --progress-spinner off --require-hashes --disable-pip -r requirements.txt 2>&1) || \
		{ echo "$$told"; exit 1; }
	@echo "hashpit: nobody was asked about known weaknesses yet: \`make advisories\` does, and needs a network"

.PHONY: advisories
advisories: $(AUDIT_INSTALLED) ## ask a vulnerability service about every pinned package (needs a network)
	@$(AUDIT)/bin/pip-audit --strict --require-hashes --disable-pip -r requirements.txt -r requirements-dev.txt

.PHONY: fuzz
fuzz: setup $(FUZZ_INSTALLED) ## fuzz every target for a minute; FUZZ_ARGS="session --seconds 3600" for one, for an hour
	@$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

.PHONY: mutants
mutants: setup $(MUTATION_INSTALLED) ## change the hot modules in small ways; MUTATION_ARGS=engine/book.py for one of them
	@$(BIN)/python -m tests.mutation $(MUTATION_ARGS)

.PHONY: nicehash
nicehash: $(NICEHASH_INSTALLED) ## install NiceHash's own client for its test, in an environment of its own

.PHONY: compile
compile: $(INSTALLED) ## compile the hot modules now; fails without a C compiler
	@$(BIN)/python setup.py -q hot --force

.PHONY: lock
lock: ## resolve requirements*.in again and write the hashed locks
	@$(PYTHON) -m venv $(VENV)-lock
	@$(VENV)-lock/bin/python -m pip install -qq --disable-pip-version-check uv
	@set -e; lock="$(VENV)-lock/bin/uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate"; \
		$$lock requirements.in -o requirements.txt; \
		$$lock requirements-dev.in -c requirements.txt -o requirements-dev.txt; \
		$$lock requirements-bench.in -c requirements-dev.txt -o requirements-bench.txt; \
		$$lock requirements-fuzz.in -c requirements-dev.txt -o requirements-fuzz.txt; \
		$$lock requirements-mutation.in -c requirements-dev.txt -o requirements-mutation.txt; \
		$$lock requirements-research.in -c requirements-dev.txt -o requirements-research.txt; \
		$$lock requirements-audit.in -o requirements-audit.txt; \
		$$lock requirements-nicehash.in -o requirements-nicehash.txt
	@rm -rf $(VENV)-lock

.PHONY: clean
clean: ## remove everything that make and the tools made, .venv included
	@rm -rf $(VENV) $(VENV)-lock $(AUDIT) $(NICEHASH) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	@find $(CODE) -name __pycache__ -prune -exec rm -rf {} + -o \( -name '*.so' -o -name '*.pyd' \) -exec rm -f {} +

# --- How setup gets there ---------------------------------------------------------------------------------------

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || \
		{ echo "hashpit: $(PYTHON) not found: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "hashpit: Python 3.11 or newer is needed, $(PYTHON) is older: make PYTHON=python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "hashpit: $(PYTHON) has no venv module (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "hashpit: creating $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)

# The environment holds exactly what the lock says; the project itself is installed editable on top.
$(INSTALLED): requirements-dev.txt requirements.in pyproject.toml setup.py Makefile | $(BIN)/python
	@echo "hashpit: installing pinned packages"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.txt
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# The tools of `make audit`, and beside them exactly what a running exchange needs, so that nothing else is listed.
$(AUDIT_INSTALLED): requirements-audit.txt requirements.txt
	@echo "hashpit: installing what audits"
	@$(PYTHON) -m venv --clear $(AUDIT)
	@$(AUDIT)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-audit.txt
	@$(PYTHON) -m venv --without-pip $(AUDIT)/runtime
	@$(AUDIT)/bin/python -m pip --python $(AUDIT)/runtime/bin/python install -qq --disable-pip-version-check --require-hashes \
		-r requirements.txt
	@touch $@

# NiceHash's own client, which a test runs against a server: it brings other versions of things along.
$(NICEHASH_INSTALLED): requirements-nicehash.txt
	@echo "hashpit: installing NiceHash's client"
	@$(PYTHON) -m venv --clear $(NICEHASH)
	@$(NICEHASH)/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-nicehash.txt
	@touch $@

# What draws the plots; only `make bench` asks for it.
$(BENCH_INSTALLED): requirements-bench.txt $(INSTALLED)
	@echo "hashpit: installing what draws the plots"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-bench.txt
	@touch $@

# What fuzzes; only `make fuzz` asks for it.
$(FUZZ_INSTALLED): requirements-fuzz.txt $(INSTALLED)
	@echo "hashpit: installing what fuzzes"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-fuzz.txt
	@touch $@

# What makes mutants; only `make mutants` asks for it.
$(MUTATION_INSTALLED): requirements-mutation.txt $(INSTALLED)
	@echo "hashpit: installing what makes mutants"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-mutation.txt
	@touch $@
