# lit-gan: every target sets up its own environment in .venv first.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# threads that spin while they wait slow down whatever else runs here, this program too
export OMP_WAIT_POLICY ?= PASSIVE

ARCH ?=
DATA ?=
ARGS ?=
RUN ?=
GRID ?=
CHOICE = $(if $(ARCH),arch=$(ARCH)) $(if $(DATA),data=$(DATA))

.DEFAULT_GOAL := help
.PHONY: help setup train sweep eval sample compare test test-all lint type bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo '  ARCH=r3gan DATA=cifar10 ARGS="run.images=200000 trainer.devices=2" RUN=runs/...'

setup: $(READY)  ## make the environment (.venv), again when pyproject.toml is newer

$(READY): pyproject.toml
	@echo "setting up $(VENV) (about two minutes and 6 GB the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@$(BIN)/python -c 'import torchvision, lightning' # a torchvision of another build fails here, not in a run
	@touch $@

train: $(READY)  ## train ARCH on DATA; ARGS="key=value ..."
	@$(BIN)/lit-gan train $(CHOICE) $(ARGS)

sweep: $(READY)  ## every combination; GRID="arch=dcgan,r3gan seed=0,1,2"
	@$(BIN)/lit-gan sweep $(CHOICE) $(ARGS) --grid $(GRID)

eval: $(READY)  ## score the best checkpoint of RUN
	@$(BIN)/lit-gan eval $(RUN) $(ARGS)

sample: $(READY)  ## draw images from RUN; ARGS="-n 64 --seed 0"
	@$(BIN)/lit-gan sample $(RUN) $(ARGS)

compare: $(READY)  ## the runs in RUN, or all in runs/, side by side; ARGS="--out compare.html"
	@$(BIN)/lit-gan compare $(RUN) $(ARGS)

test: $(READY)  ## the tests (about 8 minutes on two cores)
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-all: $(READY)  ## the long ones too
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not gpu and not network"

lint: $(READY)  ## ruff and codespell
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell

type: $(READY)  ## mypy --strict
	@$(BIN)/mypy

bench: $(READY)  ## Lightning's overhead against a bare loop; the time of FID, and of a whole evaluation, against others
	@$(BIN)/python benchmarks/overhead.py
	@$(BIN)/python benchmarks/frechet.py
	@$(BIN)/python benchmarks/evaluation.py

clean:  ## remove the environment and what tools left behind
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache
