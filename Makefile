# make help lists the targets. The virtual environment comes from the lock files by itself.
SHELL := /bin/bash
# PYTHON=… names the interpreter of the virtual environment; otherwise one of 3.11 to 3.13 is looked for.
export PYTHON
# TORCH=cuda or TORCH=cpu overrides what the driver suggests.
TORCH ?= $(shell nvidia-smi >/dev/null 2>&1 && echo cuda || echo cpu)
VENV := .venv
BIN := $(VENV)/bin
LOCKS := requirements/base.lock requirements/torch-$(TORCH).lock
INSTALLED := $(VENV)/.installed-$(TORCH)

.DEFAULT_GOAL := help
.PHONY: help setup retrain test coverage crash fuzz audit lint ui docs docs-serve study lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(INSTALLED) ## create .venv from the lock files

$(INSTALLED): $(LOCKS) pyproject.toml
	@requirements/setup.sh $(TORCH)
	@touch $@

retrain: setup ## run the main job on the bundled sample
	@$(BIN)/noisefold retrain

ui: setup ## serve the Prefect and MLflow UIs on the local state
	@$(BIN)/noisefold ui

test: setup lint ## formatting, lint, types and the whole test suite
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

coverage: setup ## the suite with the lines and branches that it reaches (a third more CPU time than test)
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

crash: setup ## kill a retrain at some forty instants and calls, and compare (about an hour; resumes where it stopped)
	@$(BIN)/python -m tests.pipeline.crash --out docs/crash-matrix.md

fuzz: setup ## a million hostile cases at every door for data from outside (about five minutes of one core)
	@$(BIN)/python -m tests.fuzz.run --cases 1000000 --write

audit: setup ## look the locked dependencies up in a database of known faults (needs pip-audit; AUDIT=its options)
	@$(BIN)/python requirements/audit.py $(AUDIT)

lint: setup ## formatting, lint and types
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/basedpyright --level error

docs: setup ## build the documentation as a site, in .site/ (open .site/index.html)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

docs-serve: setup ## show the documentation on 127.0.0.1:8000, anew with each change
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve

study: setup ## every comparison in benchmarks/studies (takes many hours; resumes where it stopped)
	@for model in trec_minilm sst2_minilm trec_lm; do \
	  NOISEFOLD_HOME=.noisefold/benchmarks $(BIN)/noisefold retrain benchmarks/recipes/$$model.yaml; \
	done
	@for grid in benchmarks/studies/*.yaml; do \
	  NOISEFOLD_HOME=.noisefold/benchmarks $(BIN)/noisefold compare $$grid --out benchmarks/results/$$(basename $$grid .yaml).md; \
	done

lock: ## resolve the dependencies anew (needs uv; see CONTRIBUTING.md)
	@requirements/lock.sh

clean: ## remove local state and the virtual environment
	rm -rf $(VENV) .noisefold .site
