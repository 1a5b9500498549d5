# Set-up, checks and results. `make run` and `make test` need Python 3.11 or newer, pip and make, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
MODEL ?= bert-base-uncased

.PHONY: run test check lint types unit browser bench bench-peers process-runs notebooks reports published clean

run: .venv/installed  ## break BERT-base down on whatever device there is; the report goes to reports/local/
	$(BIN)/bertprof breakdown $(MODEL) -o reports/local/breakdown.json -o reports/local/breakdown.png -o reports/local/breakdown.html

test: lint types .venv/installed-dev .venv/axe  ## everything that CI runs
	$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder -m "not bench"

check: lint types unit  ## the fast part of it

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

unit: .venv/installed-dev
	$(BIN)/python -m pytest -n auto --dist loadgroup --no-loadscope-reorder -m "not bench and not slow"

browser: .venv/installed-dev .venv/axe  ## what is seen of the pages, in Chromium alone
	$(BIN)/python -m pytest -m "not bench" tests/browser

bench: .venv/installed-bench  ## speed, overhead and how sure diff is, in 40 quiet minutes; writes reports/benchmarks.md
	$(BIN)/python -m pytest -m bench tests/benchmarks tests/browser -s

process-runs: .venv/installed-dev  ## runs over 40 minutes, on which the rules for saved records are tested
	$(BIN)/python tests/benchmarks/process_runs.py tests/data/process-runs.json

bench-peers: .venv/installed-bench  ## what other counters say of the same models, in 5 minutes; writes reports/peers.md
	$(BIN)/python tests/benchmarks/peers_page.py reports/peers.md

notebooks: .venv/installed-dev  ## runs the notebooks in fresh kernels and keeps what they print
	$(BIN)/python tests/executing.py notebooks/*.ipynb

reports: .venv/installed  ## what needs a quiet machine: Figure 2, Tables 1 and 2, the methods, the notebooks; 20 minutes
	$(BIN)/bertprof survey figure2 --device cpu --threads 1 --min-time 20s -o reports/figure2-cpu/figure2.html
	$(BIN)/bertprof survey table2 --device cpu --threads 1 -o reports/table2-cpu/table2.html
	$(BIN)/bertprof survey methods --device cpu --threads 1 --pages reports/methods-cpu/pages \
	  -o reports/methods-cpu/methods.html
	$(MAKE) published notebooks

published: .venv/installed  ## the same rendered again from what was measured, and their index
	$(BIN)/python reports/publish.py

.venv/bin/python:
	$(PYTHON) -c "import sys; sys.exit('bertprof needs Python 3.11 or newer; set PYTHON=' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# Rules on accessibility for the tests in a browser; where there is no npm, the test that needs them is skipped.
.venv/axe: .venv/bin/python
	if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --ignore-scripts --prefix $@ axe-core@4.14.1 || rm -rf $@; fi

# Other profilers, only to be compared with: in a folder of their own, and where one cannot be had its row says so.
.venv/installed-bench: .venv/installed-dev tests/benchmarks/peers.txt
	while read -r peer; do \
	  DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
	    --upgrade --target .venv/peers "$$peer" </dev/null || echo "$$peer could not be installed"; \
	done < tests/benchmarks/peers.txt
	touch $@

clean:
	rm -rf .venv build dist reports/local .mypy_cache .ruff_cache .pytest_cache .hypothesis
