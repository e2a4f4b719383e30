# Two commands do all the set-up: `make demo` and `make test`. Everything lives in .venv, .venv-peers and .demo.
SHELL := /bin/bash
PYTHON ?= $(shell for v in 3.13 3.12 3.11 3; do p=$$(command -v python$$v) && "$$p" -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] <= (3,13))' 2>/dev/null && echo "$$p" && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The folder with real footage: tests that need it skip with the reason where it is not there.
HEADROOM_DATA ?= $(wildcard $(abspath ../shared/data))
export HEADROOM_DATA
unexport PYTHONPATH

.PHONY: help demo test bench lint types imports format lock clean check-system
help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

check-system:
	@test -n "$(PYTHON)" || { echo "Headroom needs Python 3.11 to 3.13: install python3 and python3-venv"; exit 2; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { echo "Headroom needs the system package python3-venv"; exit 2; }

$(READY): pyproject.toml requirements/dev.lock | check-system
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

venv: $(READY) ## create the virtual environment and install

demo: $(READY) ## do the main job on real input; ends with what to look at
	$(BIN)/python -m tests.demo

test: $(READY) lint imports types ## everything that CI runs
	$(BIN)/python -m pytest

lint: $(READY) ## style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports: $(READY) ## the rules of which folder may import which
	$(BIN)/lint-imports

types: $(READY) ## mypy --strict
	$(BIN)/mypy

format: $(READY) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What we compare with lives apart: `supervision` brings the GUI build of OpenCV, which fights with the headless one.
PEERS := .venv-peers/.ready
$(PEERS): requirements/peers.lock | check-system
	test -x .venv-peers/bin/python || "$(PYTHON)" -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/peers.lock
	@touch $@

bench: $(READY) $(PEERS) ## every benchmark once, short form, JSON lines
	$(BIN)/python -m tests.bench

LOCK := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: ## resolve the dependencies again (needs uv)
	for part in sensor service; do $(LOCK) --extra $$part pyproject.toml -o requirements/$$part.lock; done
	$(LOCK) --extra sensor --extra training pyproject.toml -o requirements/training.lock
	$(LOCK) --extra sensor --extra service --extra bench --extra dev pyproject.toml -o requirements/dev.lock
	$(LOCK) requirements/peers.in -o requirements/peers.lock

clean: ## remove what make created
	rm -rf .venv .venv-peers .demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
