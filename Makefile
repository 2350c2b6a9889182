# `make demo` and `make test` do all the set-up; .venv and its stamps are the only things they leave.
# PYTHON chooses the interpreter (3.11 or newer) of the virtual environment, CONSTRAINTS its packages.
PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
PARALLEL := --numprocesses auto --maxprocesses 8 --dist worksteal
SERIAL = $$(grep -rl --include='*.py' 'mark\.serial' tests)

.PHONY: demo test announce unit lint bench bench-check bench-baseline bench-against bench-prove slow results readme calibration check-methods methods-table gpu-tables clean

demo: .venv/installed
	$(BIN)/fatbench run --method bs-trades --epochs 10

test: announce lint unit

announce:
	@echo "Lint, types and import layers, then about 5,800 tests: five minutes on two idle cores, installation not counted."

# As many processes as there are processors, up to eight: each has torch in its memory.
unit: .venv/installed-dev
	$(BIN)/python -m pytest -m "not slow and not gpu and not serial" $(PARALLEL)
	$(BIN)/python -m pytest -m "serial and not slow" $(SERIAL)

slow: .venv/installed-dev
	$(BIN)/python -m pytest -m "slow and not gpu and not serial" $(PARALLEL)
	$(BIN)/python -m pytest -m "slow and serial" $(SERIAL)

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Times every method on every engine beside its authors' loop: make bench BENCH="--bench-json FILE"
bench: .venv/installed-dev
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-quiet $(BENCH)

# Has a method become slower than the baseline? Exit codes of the program: 0 no, 3 yes, 5 no baseline.
bench-check: .venv/installed-dev
	$(BIN)/python -m benchmarks.check $(CHECK)

bench-baseline: .venv/installed-dev
	$(BIN)/python -m benchmarks.check --update

# The same, with what another commit takes on this machine for the baseline: make bench-against BASE=main
bench-against: .venv/installed-dev
	$(BIN)/python -m benchmarks.against $(BASE)

bench-prove: .venv/installed-dev
	$(BIN)/python -m benchmarks.prove

# Every method three times on digits, then README's table: twenty minutes on two cores, less than half an hour.
results: .venv/installed
	$(BIN)/python -m scripts.results

readme: .venv/installed
	$(BIN)/python -m scripts.readme
	$(BIN)/python -m scripts.orderings

# How often `compare --paired` is wrong: the table of docs/trust.md, in a quarter of an hour.
calibration: .venv/installed
	$(BIN)/python -m scripts.calibration

# The contract on every method, and the table of docs/methods.md.
check-methods: .venv/installed
	$(BIN)/fatbench check-method --all

methods-table: .venv/installed
	$(BIN)/python scripts/methods_table.py

# The tables of results/gpu, in docs/performance.md and README.md.
gpu-tables: .venv/installed
	$(BIN)/python -m scripts.gpu_tables

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("fatbench needs Python 3.11 or newer: make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml $(CONSTRAINTS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
