# Rollcall. Plain `make` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Some machines forbid compiled modules; every start of ours would then compile hundreds.
unexport PYTHONDONTWRITEBYTECODE
PINS := --universal --generate-hashes --no-header --no-annotate --python-version 3.11 --quiet

.PHONY: help
help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp names what the environment was made from: a changed pin or project file makes it anew.
$(VENV)/.made: requirements/dev.txt pyproject.toml
	@deploy/make_venv "$(PYTHON)" "$(VENV)"
	@touch $@

.PHONY: setup
setup: $(VENV)/.made ## A virtual environment with everything pinned (the others call it themselves)

.PHONY: demo
demo: setup ## Start everything, feed changes, webhooks and a directory, check the books
	@$(BIN)/rollcall demo

.PHONY: run
run: setup ## Local stack + service, stays up until Ctrl-C
	@$(BIN)/rollcall dev

.PHONY: test
test: setup ## All tests, on real PostgreSQL and RabbitMQ that it starts itself
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

.PHONY: test-slow
test-slow: setup ## The long fault and volume tests
	@$(BIN)/python -m pytest -m slow

.PHONY: chaos
chaos: setup ## Faults under load, and a ledger of what was accepted against what came out
	@$(BIN)/python -m tests.chaos

.PHONY: test-docker
test-docker: setup ## The tests that need a Docker engine
	@$(BIN)/python -m pytest -m docker

.PHONY: check
check: setup ## Lint, types, layers, generated files up to date
	@$(MAKE) --no-print-directory --jobs 2 types lint layers generated

.PHONY: lint types layers generated
lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup
	@$(BIN)/mypy && $(BIN)/mypy docs/extending/examples/*/*.py

layers: setup
	@$(BIN)/lint-imports --no-cache

generated: setup
	@$(BIN)/python -m contracts.generate --check && $(BIN)/python -m service.entrypoints.http.admin.openapi --check

.PHONY: format
format: setup ## Let the formatter and the fixable lints have their way
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

.PHONY: generate
generate: setup ## Write the JSON Schemas and asyncapi.yaml from the contracts, docs/openapi.json from the admin API
	@$(BIN)/python -m contracts.generate
	@$(BIN)/python -m service.entrypoints.http.admin.openapi

.PHONY: coverage
coverage: setup ## Tests with coverage of service and contracts (at least 90%)
	@$(BIN)/coverage erase && $(BIN)/coverage run -m pytest -q -n auto --dist loadfile --no-loadscope-reorder && $(BIN)/coverage combine -q && $(BIN)/coverage report

.PHONY: bench
bench: setup ## Benchmarks: ratios, measured side by side
	@$(BIN)/python -m tests.benchmarks

.PHONY: up
up: ## Everything as containers, with Jaeger, Prometheus and Grafana
	@docker compose -f deploy/compose.yaml up --build --wait

.PHONY: down
down: ## Stop the containers; their data stay
	@docker compose -f deploy/compose.yaml down

.PHONY: pins
pins: setup ## Resolve the requirement files anew
	@$(BIN)/uv pip compile $(PINS) pyproject.toml --extra stack -o requirements/runtime.txt
	@$(BIN)/uv pip compile $(PINS) pyproject.toml --extra stack --group dev --group bench -o requirements/dev.txt

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf $(VENV) .rollcall .coverage* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find tests -name node_modules -type d -prune -exec rm -rf {} +
