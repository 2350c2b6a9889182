# `make demo` and `make test` do all the set-up; .venv and its stamps are the only things they leave.
# PYTHON chooses the interpreter (3.11 or newer) of the virtual environment.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench slow readme clean

demo: .venv/installed
	$(BIN)/fatbench run --method bs-trades --epochs 10

test: lint
	$(BIN)/python -m pytest -m "not slow and not gpu"

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed-dev
	$(BIN)/python -m pytest benchmarks --benchmark-only

readme: .venv/installed
	$(BIN)/python scripts/readme.py

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("fatbench needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
