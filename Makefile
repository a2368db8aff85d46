# Every target sets itself up: a virtual environment in .venv, with what constraints.txt pins.
# Needed on the machine: Python 3.11 to 3.13 with venv and pip.

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& echo $$p && break; done)
SET_UP := $(VENV)/set-up
PIP_QUIET := -q --disable-pip-version-check --no-input

.PHONY: setup demo test check fuzz bench clean

setup: $(SET_UP)

$(SET_UP): pyproject.toml sdk/pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed, and none is on the PATH (set PYTHON=...)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: on Debian, apt install python3-venv"; exit 2; }
	$(BIN)/python -m pip install $(PIP_QUIET) -c constraints.txt -e ./sdk -e '.[llm,test,quality]'
	@touch $@

demo: $(SET_UP)  ## run the four agents through server, queue, store and SDK
	$(BIN)/python -m flowcraft_server.demo

test: $(SET_UP)  ## the whole test suite, on an embedded server
	$(BIN)/python -m pytest -n 2 --dist loadgroup

check: $(SET_UP)  ## lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

fuzz: $(SET_UP)  ## 50,000 random histories of runs against the model
	FLOWCRAFT_HISTORIES=50000 $(BIN)/python -m pytest tests/model -q

bench: $(SET_UP)  ## latency and throughput beside bare Huey
	$(BIN)/python -m benchmarks.idle_latency
	$(BIN)/python -m benchmarks.throughput

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
