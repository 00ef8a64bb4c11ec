# Everything a stranger needs: `make run`, `make test`. `make help` lists the rest.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -qq --disable-pip-version-check -c constraints.txt

# pip says nothing but errors; a dot a second shows that it is at work.
define install
	@$(PIP) $(1) & pid=$$!; while kill -0 $$pid 2>/dev/null; do printf .; sleep 1; done; echo; wait $$pid
endef

BASE_URL   ?= http://localhost:3001
API_KEY    ?= test_api_key
PROJECT_ID ?= 1
JOBS       ?= 2

.DEFAULT_GOAL := help
.PHONY: help run test lint types demo load-test load-smoke bench bench-ingest bench-monitor bench-reports bench-tuning \
	benchmarks clean setup

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/run.stamp: constraints.txt setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is %d.%d; set PYTHON=" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	@echo "Creating the virtual environment (once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing pinned packages (once, under a minute) ..."
	$(call install,-e .)
	@$(PIP) -e '.[fast]' 2>/dev/null || echo "No C compiler here: requests are parsed in Python, which costs some speed."
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@echo "Installing what the tests need (once) ..."
	$(call install,-e '.[dev]')
	@touch $@

setup: $(VENV)/dev.stamp ## the virtual environment with everything, tests included

run: $(VENV)/run.stamp ## start the service (database, web workers, background worker)
	@exec $(BIN)/pulse serve

test: $(VENV)/dev.stamp ## every test, on a real PostgreSQL and a real Redis-protocol server; JOBS=2 at once
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(VENV)/dev.stamp ## style and mistakes (ruff)
	$(BIN)/ruff check .

types: $(VENV)/dev.stamp ## type check (mypy)
	$(BIN)/mypy

demo: $(VENV)/run.stamp ## send a stream of realistic visitors into the running service
	@BASE_URL=$(BASE_URL) API_KEY=$(API_KEY) $(BIN)/pulse demo

load-test: $(VENV)/dev.stamp ## load tests against BASE_URL, judged by the targets
	@BASE_URL=$(BASE_URL) API_KEY=$(API_KEY) PROJECT_ID=$(PROJECT_ID) $(BIN)/pulse load-test $(if $(START),--start)

load-smoke: $(VENV)/dev.stamp ## a short load test with a service of its own: are all accepted events stored?
	@$(BIN)/pulse load-test --start --smoke

bench: bench-ingest bench-reports bench-tuning bench-monitor ## all of the following

bench-ingest: $(VENV)/dev.stamp ## ingestion figures, each against its limit measured in the same run
	@$(BIN)/python -m tests.load.bench_ingest

bench-reports: $(VENV)/dev.stamp ## report figures on 1 and 10 million events (EVENTS=), beside plain SQL and DuckDB
	@$(BIN)/python -m tests.load.bench_reports $(if $(DATA),--data $(DATA)) $(if $(FILLED),--filled $(FILLED)) \
		$(foreach size,$(EVENTS),--events $(size))

bench-monitor: $(VENV)/dev.stamp ## what the query monitor costs a query
	@$(BIN)/python -m tests.load.bench_monitor

bench-tuning: $(VENV)/dev.stamp ## batch sizes, pool sizes, caches: the figures behind the tuning guide
	@$(BIN)/python -m tests.load.bench_tuning

benchmarks: $(VENV)/dev.stamp ## every benchmark, and docs/PERFORMANCE.md made of the results; SHORT=1 or FULL=1 for less or more
	@$(BIN)/python -m tests.load.benchmarks $(if $(SHORT),--short) $(if $(FULL),--full) $(if $(AGAIN),--again)

clean: ## remove the virtual environment and caches (data in var/ stays)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
