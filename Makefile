# `make fit`: the main job on the embedded model, by DNO and by MIRA. `make test`: all tests but the slow ones; `make test-all`: every test.
# They set everything up and can be repeated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal -rs

.PHONY: fit test test-all lint clean

$(VENV)/.installed: pyproject.toml constraints/cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt --editable ".[dev]"
	touch $@

fit: $(VENV)/.installed
	$(BIN)/python -m mira_pl fit --model.objective DNO --out runs/emoji_dno
	$(BIN)/python -m mira_pl fit --out runs/emoji
	$(BIN)/python -m mira_pl show runs/emoji_dno runs/emoji --out runs/emoji.html

test: $(VENV)/.installed
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.installed
	$(PYTEST)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf $(VENV) build dist *.egg-info
