# Every target sets itself up first: a virtual environment in .venv with what constraints.txt pins (see .ci/set-up).
# Needed on the machine: Python 3.11 to 3.13 with pip. `make PYTHON=/path/to/python test` chooses another one.

VENV := .venv
BIN := $(VENV)/bin
SET_UP := $(VENV)/set-up
SET_UP_DIST := $(VENV)/set-up-dist
SET_UP_DOCS := $(VENV)/set-up-docs
SET_UP_UI := $(VENV)/set-up-ui
export PYTHON
# Tests start many programs: each of them would compile what it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup chromium demo test test-installed test-ui shots check check-docker check-image recording docs dist cluster test-cluster coverage fuzz chaos chaos-hostile chaos-reload chaos-failover bench bench-quick guard clean

setup: $(SET_UP)

$(SET_UP): pyproject.toml sdk/pyproject.toml constraints.txt .ci/set-up
	@.ci/set-up $(VENV)
	@touch $@

$(SET_UP_DIST): $(SET_UP)
	@.ci/set-up $(VENV) llm,test,quality,dist
	@touch $@

$(SET_UP_DOCS): $(SET_UP)
	@.ci/set-up $(VENV) llm,test,quality,docs
	@touch $@

$(SET_UP_UI): $(SET_UP)
	@.ci/set-up $(VENV) llm,test,quality,ui-test
	@touch $@

demo: $(SET_UP)  ## run the four agents through server, queue, store and SDK; `make demo -- --ui` keeps the web pages up
	$(BIN)/python -m flowcraft_server.demo $(filter --ui,$(MAKECMDGOALS))

--ui: demo

test: $(SET_UP)  ## the whole test suite, on an embedded server; three processes, as many tests wait for programs to start
	$(BIN)/python -m pytest -n 3 --dist loadgroup --ignore tests/ui --ignore tests/acceptance/test_installed_commands.py $(PYTEST_ARGS)

test-installed: $(SET_UP)  ## every command as it is installed: its help, and what it is for; some minutes
	$(BIN)/python -m pytest -q -n 0 tests/acceptance/test_installed_commands.py $(PYTEST_ARGS)

chromium: $(SET_UP_UI)  ## installs Debian's Chromium if there is none and this is root
	@$(BIN)/python -m tests.ui.chromium

test-ui: $(SET_UP_UI) chromium  ## the pages in Chromium; skipped where there is none
	$(BIN)/python -m pytest -q tests/ui $(PYTEST_ARGS)

shots: $(SET_UP_UI)  ## screenshots of all pages, in both themes and two widths, in build/shots; makes docs/web-ui.png
	$(BIN)/python -m tests.ui.shots

check: $(SET_UP)  ## lint, format, types, import layers, spelling; types of the pages' scripts where there is Node.js
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/codespell
	@.ci/check-scripts $(VENV)/typescript

check-docker: $(SET_UP)  ## the Dockerfile by hadolint, compose, Kubernetes and workflow files by their schemas
	$(BIN)/hadolint Dockerfile
	deploy/check_manifests.sh $(BIN)

check-image: $(SET_UP)  ## build the image's root file system by the Dockerfile and try it in namespaces; root on Debian, else skipped
	$(BIN)/python -m deploy.image

recording: $(SET_UP)  ## records `flowcraft watch` of a run: docs/watch.svg
	$(BIN)/python docs/tools/run_recording.py docs/watch.svg

docs: $(SET_UP_DOCS)  ## the site of the documentation, in build/site; fails on links and names that lead nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

dist: $(SET_UP_DIST)  ## wheels and sdists of both packages, in dist/; the backend is the pinned one of .venv
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist sdk
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/twine check --strict dist/*

cluster: $(SET_UP)  ## a Redis Cluster of 3 + 3 nodes and a primary with a replica behind Sentinel, on loopback, for trying out
	$(BIN)/python -m deploy.local

test-cluster: $(SET_UP)  ## conformance and chosen tests of the engine on a Redis Cluster, with 16 partitions
	FLOWCRAFT_TEST_PARTITIONS=16 $(BIN)/python -m deploy.local --cluster $(BIN)/python -m pytest -n 2 -q tests/conformance \
		tests/engine/test_sdk_runs.py tests/engine/test_graphs.py tests/engine/test_signals.py tests/engine/test_cancellation.py \
		tests/engine/test_failures.py tests/engine/test_partitions.py tests/engine/test_schedules.py tests/engine/test_dead_letters.py \
		tests/engine/test_fallbacks_of_lost_nodes.py tests/engine/test_ids_used_again.py tests/engine/test_shared_limits.py tests/engine/test_queues.py $(PYTEST_ARGS)

coverage: $(SET_UP)  ## coverage by the unit, engine and acceptance tests: printed, drawn in docs/coverage.svg, with a threshold
	rm -rf .coverage && mkdir .coverage
	$(BIN)/python -m coverage run -m pytest -n 2 --dist loadgroup tests/unit tests/engine tests/acceptance \
	  --ignore tests/unit/docs/test_walkthroughs.py --ignore tests/acceptance/test_distributions.py
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage json --quiet --fail-under 0 -o .coverage/report.json
	$(BIN)/python docs/tools/coverage_figure.py .coverage/report.json
	$(BIN)/python -m coverage report

fuzz: $(SET_UP)  ## 50,000 random histories of runs against the model, and random programs of all constructs
	FLOWCRAFT_HISTORIES=50000 $(BIN)/python -m pytest tests/model -q -o faulthandler_timeout=0
	FLOWCRAFT_PROGRAMS=2000 $(BIN)/python -m pytest tests/engine/compositions -q -o faulthandler_timeout=0

chaos: $(SET_UP)  ## 500 workers killed at random under 2,000 runs, with a ledger outside Redis
	$(BIN)/python -m tests.chaos.storm

chaos-hostile: $(SET_UP)  ## 2,000 runs whose handlers misbehave in 5 % of calls, and nodes that end their process among innocent ones
	FLOWCRAFT_CHAOS_KILLS=0 FLOWCRAFT_CHAOS_HOSTILE=0.05 $(BIN)/python -m tests.chaos.storm
	$(BIN)/python -m tests.chaos.suspects

chaos-reload: $(SET_UP)  ## 20 reloads of 50 blueprints and of handler code, under load
	$(BIN)/python -m tests.chaos.reloads

chaos-failover: $(SET_UP)  ## 20 primaries of a Cluster, and 20 behind Sentinel, killed under 50 runs a second; ten minutes
	$(BIN)/python -m tests.chaos.failover cluster
	$(BIN)/python -m tests.chaos.failover cluster --durability replica
	$(BIN)/python -m tests.chaos.failover sentinel
	$(BIN)/python -m tests.chaos.failover sentinel --durability replica

bench: $(SET_UP)  ## throughput, latency and map beside the peers, about ten minutes; benchmarks/README.md explains the figures
	$(BIN)/python -m benchmarks.throughput
	$(BIN)/python -m benchmarks.chart
	$(BIN)/python -m benchmarks.idle_latency
	$(BIN)/python -m benchmarks.run_memory
	$(BIN)/python -m benchmarks.map_items
	$(BIN)/python -m benchmarks.mixed
	$(BIN)/python -m benchmarks.coroutines
	$(BIN)/python -m benchmarks.constants
	$(BIN)/python -m benchmarks.targets

bench-quick: $(SET_UP)  ## the same in a minute or two
	$(BIN)/python -m benchmarks.throughput --quick
	$(BIN)/python -m benchmarks.chart
	$(BIN)/python -m benchmarks.idle_latency --quick
	$(BIN)/python -m benchmarks.targets

guard: $(SET_UP)  ## nodes a second against bare Huey's tasks, and scripts a node, in half a minute
	$(BIN)/python -m benchmarks.guard --rounds 3

clean:
	rm -rf $(VENV) dist build .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .grimp_cache .import_linter_cache
