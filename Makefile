# `make run` and `make test` set everything up themselves. They need Python 3.11 or later, git and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock
export PIP_PROGRESS_BAR := off

.PHONY: run test check base bench bench-data bench-train test-system test-long lock clean

run: $(VENV)/.ready
	@$(BIN)/rcvit run $(if $(PROFILE),--profile $(PROFILE))

test: $(VENV)/.ready-dev
	@$(BIN)/python -m pytest

check: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# Makes components/pretraining/tiny_base anew, from random weights. Killed, it goes on where it was.
base: $(VENV)/.ready
	@$(BIN)/python -m components.pretraining.make

bench-data: $(VENV)/.ready-dev
	@$(BIN)/python -m tests.bench.data

bench-train: $(VENV)/.ready-dev
	@$(BIN)/python -m tests.bench.training

bench: $(VENV)/.ready-dev
	@$(BIN)/python -m tests.bench.overhead

# Installs PostgreSQL and Chromium with apt-get, starts them, and runs the tests that need them. Needs root.
test-system: $(VENV)/.ready-dev
	@tests/system/run $(BIN)/python

test-long: $(VENV)/.ready-dev
	@RCVIT_TEST_LONG=1 $(BIN)/python -m pytest -m long

# Writes requirements.lock from what the environment holds after `pip install --upgrade -e .[dev]`.
lock: $(VENV)/.ready-dev
	@{ sed -n '/^#/p' requirements.lock; $(BIN)/python -m pip freeze --exclude-editable --all --exclude pip \
	  | sed 's/^\(torch==[0-9.]*\)+.*/\1/'; } > requirements.lock.new && mv requirements.lock.new requirements.lock

clean:
	rm -rf $(VENV) .rcvit outs .mypy_cache .pytest_cache .ruff_cache .hypothesis rcvit.egg-info
	git worktree prune

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no python on the PATH: install Python 3.11 or later" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "$(PYTHON) is too old: set PYTHON to Python 3.11 or later" >&2; exit 1; }
	@echo "making the virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.ready: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing what requirements.lock pins: a few minutes the first time"
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.ready-dev: pyproject.toml requirements.lock | $(BIN)/python
	@echo "installing what requirements.lock pins and the tests need: a few minutes the first time"
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.ready
