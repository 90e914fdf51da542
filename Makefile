# `make fit`: the main job on the embedded model, by DNO and by MIRA. `make test`: all tests. Both set everything up and can be repeated.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: fit test lint clean

$(VENV)/.installed: pyproject.toml constraints/cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints/cpu.txt --editable ".[dev]"
	touch $@

fit: $(VENV)/.installed
	$(BIN)/python -m mira_pl fit --model.objective DNO --out runs/emoji_dno
	$(BIN)/python -m mira_pl fit --out runs/emoji
	$(BIN)/python -m mira_pl show runs/emoji_dno runs/emoji --out runs/emoji.html

test: $(VENV)/.installed
	$(BIN)/python -m pytest -rs

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

clean:
	rm -rf $(VENV) build dist *.egg-info
