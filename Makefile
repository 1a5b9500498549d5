# Set-up, checks and results. `make run` and `make test` need Python 3.11 or newer, pip and make, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
MODEL ?= bert-base-uncased

.PHONY: run test check lint types unit bench process-runs reports clean

run: .venv/installed  ## break BERT-base down on whatever device there is; the report goes to reports/local/
	$(BIN)/bertprof breakdown $(MODEL) -o reports/local/breakdown.json -o reports/local/breakdown.png -o reports/local/breakdown.html

test: lint types .venv/installed-dev  ## everything that CI runs
	$(BIN)/python -m pytest -n auto -m "not bench"

check: lint types unit  ## the fast part of it

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

unit: .venv/installed-dev
	$(BIN)/python -m pytest -n auto -m "not bench and not slow"

bench: .venv/installed-bench  ## speed, overhead and how sure diff is, in 40 quiet minutes; writes reports/benchmarks.md
	$(BIN)/python -m pytest -m bench tests/benchmarks -s

process-runs: .venv/installed-dev  ## runs over 40 minutes, on which the rules for saved records are tested
	$(BIN)/python tests/benchmarks/process_runs.py tests/data/process-runs.json

reports: .venv/installed  ## the published results that need a machine: Figure 2, Tables 1 and 2 and the methods on this CPU
	$(BIN)/bertprof survey figure2 --device cpu --min-time 20s \
	  -o reports/figure2-cpu/figure2.json -o reports/figure2-cpu/figure2.png \
	  -o reports/figure2-cpu/figure2.html -o reports/figure2-cpu/figure2.md
	$(BIN)/bertprof survey table2 --device cpu --threads 1 \
	  -o reports/table2-cpu/table2.json -o reports/table2-cpu/table2.html -o reports/table2-cpu/table2.md
	$(BIN)/bertprof survey methods --device cpu --threads 1 \
	  -o reports/methods-cpu/methods.json -o reports/methods-cpu/methods.png \
	  -o reports/methods-cpu/methods.html -o reports/methods-cpu/methods.md
	$(BIN)/bertprof survey table1 --record reports/methods-cpu/methods.json \
	  -o reports/methods-cpu/table1.html -o reports/methods-cpu/table1.md

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit('bertprof needs Python 3.11 or newer; set PYTHON=' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# Another profiler, only to be compared with: in a folder of its own, and where it cannot be had its row says so.
PEERS := deepspeed==0.19.8 hjson==3.1.0 py-cpuinfo==9.0.0 einops==0.8.2 ninja==1.13.2 msgpack
.venv/installed-bench: .venv/installed-dev
	-DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	  --target .venv/peers $(PEERS)
	touch $@

clean:
	rm -rf .venv build dist reports/local .mypy_cache .ruff_cache .pytest_cache .hypothesis
