# `make` or `make help` lists the targets.
PYTHON ?= python3
# Options for pip, e.g. PIP_ARGS="--index-url …" for another build of torch.
PIP_ARGS ?=
CONFIG ?= training/configs/pocket.yaml

BIN := .venv/bin
RUNTIME := .venv/.runtime
TOOLS := .venv/.tools
POCKET := adapters/store/pocket/manifest.json
# Nothing is fetched unless a configuration names a model of the hub.
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help demo serve train test test-fast .fast-models .fast-others test-gpu check fix bench pocket data image clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(RUNTIME) $(POCKET)  ## Set up, train the bundled adapter if it is not there, serve it
	@printf '\nServing on http://127.0.0.1:8000 (Ctrl-C stops it). When /health answers 200, try:\n'
	@printf '  curl -s localhost:8000/health\n'
	@printf "  curl -s localhost:8000/generate -H 'Content-Type: application/json' -d '{\"prompt\": \"What is rate limiting?\", \"style\": \"terse\"}'\n"
	@printf "  curl -s localhost:8000/generate -H 'Content-Type: application/json' -d '{\"prompt\": \"What is rate limiting?\", \"style\": \"verbose\"}'\n\n"
	@exec $(BIN)/gunicorn wsgi:app

serve: $(RUNTIME)  ## Serve the adapter in LACONIC_ADAPTER (default: the bundled one)
	@exec $(BIN)/gunicorn wsgi:app

train: $(RUNTIME)  ## Train anew: make train CONFIG=training/configs/….yaml
	$(BIN)/python -m training train --config $(CONFIG)

test: $(TOOLS)  ## Every test that runs on a CPU, under 10 minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not gpu" --numprocesses=2 --dist=loadfile

test-fast: $(TOOLS)  ## The tests that take seconds
	@$(MAKE) --no-print-directory --keep-going --jobs=2 $(IN_TURN) .fast-models .fast-others

# Two halves at a time, of which only one has to wait for torch. What they print is kept apart by
# every make but that of macOS.
WITHOUT_TORCH := dataset $(addprefix test_,$(addsuffix .py, \
	cards config data_card main questions shipped_configs wording))
WITH_TORCH := tests/serving tests/test_gpu.py tests/test_train_to_serve.py \
	$(filter-out $(WITHOUT_TORCH:%=tests/training/%) %/conftest.py %/shapes.py, \
	$(wildcard tests/training/[a-z]*))
IN_TURN := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
.fast-models:
	$(BIN)/python -m pytest $(WITH_TORCH)
.fast-others:
	$(BIN)/python -m pytest $(WITH_TORCH:%=--ignore=%)

test-gpu: $(TOOLS)  ## The tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

check: $(TOOLS)  ## Lint, format, types and import rules; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m training.cards

fix: $(TOOLS)  ## Format, and repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(RUNTIME)  ## Measure the naive server on the bundled model
	$(BIN)/python -m bench.naive_server

data: $(RUNTIME)  ## Compose the style examples from the concept cards
	$(BIN)/python -m training.compose

pocket: $(RUNTIME)  ## Pre-train the bundled base anew (minutes on a GPU, days on a CPU)
	$(BIN)/python -m training.pocket

image:  ## Build the container image
	docker build -t laconic .

clean:  ## Remove the environment, caches and training leftovers; adapters stay
	rm -rf .venv runs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

$(POCKET):
	$(BIN)/python -m training train --config training/configs/pocket.yaml

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'Python 3.11 or newer is needed; name one with PYTHON=python3.12'; exit 1; }
	@$(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo 'On Debian and Ubuntu: apt install python3-venv'; exit 1; }

$(RUNTIME): requirements.txt | .venv/bin/pip
	@echo 'Installing what the server and the trainer need; this takes a minute or two …'
	@$(BIN)/pip install -q --disable-pip-version-check $(PIP_ARGS) -r requirements.txt
	@touch $@

$(TOOLS): requirements-dev.txt $(RUNTIME)
	@echo 'Installing the tools …'
	@$(BIN)/pip install -q --disable-pip-version-check $(PIP_ARGS) -r requirements-dev.txt
	@touch $@
