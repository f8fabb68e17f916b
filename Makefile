# Everything sets itself up in .venv; nothing else is needed than Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
VLLM ?= .venv-vllm
DEMO_HOME ?= .pawl-demo
DEMO_SEED ?= 7

.PHONY: demo test test-vllm check slow bench clean

demo: $(VENV)/.local
	rm -rf $(DEMO_HOME)
	$(BIN)/pawl run trimul --approve auto --until-each-lever --rounds 6 --seed $(DEMO_SEED) --sealed-seed $(DEMO_SEED) --home $(DEMO_HOME)
	$(BIN)/python examples/tour.py --home $(DEMO_HOME)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

test-vllm: $(VENV)/.dev
	$(BIN)/pawl serve --build-vllm-cpu $(VLLM)
	PAWL_VLLM=$(abspath $(VLLM)) $(BIN)/python -m pytest -m vllm tests/vllm

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(VENV)/.dev
	$(BIN)/python bench/loop.py
	$(BIN)/python bench/policy.py
	$(BIN)/python -P bench/trainer.py
	$(BIN)/python -P bench/objectives.py
	$(BIN)/python -P bench/escapes.py
	$(BIN)/python -P bench/sandbox.py
	$(BIN)/python -P bench/telemetry.py
	$(BIN)/python -P bench/kernel_verify.py
	$(BIN)/python -P bench/kernel_zoo.py

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.local: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@ $(VENV)/.local

clean:
	rm -rf $(VENV) $(VLLM) $(DEMO_HOME) .pawl
