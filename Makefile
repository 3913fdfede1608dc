# Two commands for newcomers: `make demo` runs the main job, `make test` the tests. Both set everything up first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test faults run lint bench models setup lock docs clean

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## the pipeline with requests running through it, and a summary from ClickHouse
	$(BIN)/sluice demo

# A broker that lives for a minute is done before Java's second compiler has earned its keep.
test: export JAVA_TOOL_OPTIONS := -XX:TieredStopAtLevel=1
# Hundreds of stages start; a third of each start would be the compiling of our modules, anew each time.
test: export PYTHONDONTWRITEBYTECODE :=
test: setup ## the whole suite; two of the workers mostly wait for processes (tests/spread.py)
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --seed 7

faults: setup ## the fault tests with all their counts
	$(BIN)/python -m pytest tests/faults --full -x -o faulthandler_timeout=3700

run: setup ## serves until Ctrl-C
	$(BIN)/sluice up

lint: setup ## ruff, mypy --strict, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## figures, each with a baseline of the same minute
	$(BIN)/python -m bench.codec
	$(BIN)/python -m bench.guard
	$(BIN)/python -m bench.guard_kafka
	$(BIN)/python -m bench.guard_memory
	$(BIN)/python -m bench.scan
	$(BIN)/python -m bench.loops
	$(BIN)/python -m bench.path
	$(BIN)/python -m bench.stop
	$(BIN)/python -m bench.sink
	$(BIN)/python -m bench.lag
	$(BIN)/python -m bench.memory
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.soak

models: setup ## the guard's built-in classifier, from the data sets of docs/data.md: make models DATA=DIR
	$(if $(DATA),,$(error DATA is the folder of the data sets: make models DATA=DIR))$(BIN)/python -m models.train $(DATA)

docs: setup ## generated documents, from topics.yaml and the event types
	$(BIN)/sluice topics describe --write docs
	$(BIN)/sluice policy schema --write docs

lock: setup ## new versions into requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
		--extra dev pyproject.toml --output-file requirements.lock

clean:
	rm -rf $(VENV) .sluice .hypothesis .mypy_cache .ruff_cache .pytest_cache
