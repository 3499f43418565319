# The project's commands; `make help` lists them. Everything lives in .venv and build/, which `make clean` removes.
#
# Variables:  PYTHON=python3.12   the interpreter that makes the virtual environment (3.11 to 3.14)
#             VENV=.venv          where that environment is
#             TRAIN=1             also install the training extra (PyTorch, large) and run its tests
#             CLIP=recording.m4a  the recording that `make demo` transcribes
#             ARGS="..."          further arguments of serve, test and bench

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
CLIP ?=
ARGS ?=
TRAIN ?=
# The first interpreter on the path that is new enough, unless the user names one.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$p && break; done)

BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
NATIVE := CMakeLists.txt $(shell find ops/csrc -type f)
EXTRAS := $(if $(TRAIN),train,dev)
MINOR := import sys; print("%d.%d" % sys.version_info[:2])

# An environment that another Python made must not pass for the one that was asked for.
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard $(BIN)/python),)
MADE := $(shell $(BIN)/python -c '$(MINOR)')
ASKED := $(shell $(PYTHON) -c '$(MINOR)')
ifneq ($(MADE),$(ASKED))
$(error $(VENV) was made with Python $(MADE), not $(PYTHON): run `make clean` without PYTHON=, or name another environment with VENV=)
endif
endif
endif

.PHONY: help demo test serve lint bench load clip readme-table screenshots image-arm64 clean
.SUFFIXES:

help: ## list these commands
	@echo 'make COMMAND [PYTHON=python3.12] [TRAIN=1] [CLIP=recording] [ARGS="..."]'
	grep -hE '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/:.*## /\t/' | sort | expand -t 16

demo: $(STAMPS)/installed ## set up, start the service, send a clip to every bundled model, print a table, stop
	@$(BIN)/python -m service.demo $(if $(CLIP),--clip '$(CLIP)')

serve: $(STAMPS)/installed ## set up and keep the service running (ARGS="--port 8000")
	@exec $(BIN)/deepthin serve $(ARGS)

test: lint ## set up and run linters, type checks and tests (TRAIN=1: the training tests too; ARGS goes to pytest)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMPS)/$(EXTRAS) ## ruff and mypy (TRAIN=1: types of the training code too, which needs PyTorch's)
	@$(BIN)/ruff check .
	$(BIN)/mypy $(if $(TRAIN),,--exclude '^models/(training|families)/' --follow-imports silent)
	$(BIN)/mypy --strict -p load_tests

bench: $(STAMPS)/installed ## time the kernels against ONNX Runtime's own (ARGS="--json")
	@$(BIN)/deepthin bench kernels $(ARGS)

load: $(STAMPS)/installed ## load a service of its own and write the tables of docs/operations.md anew (ARGS="--pace 0.1")
	@$(BIN)/python -m load_tests all --docs docs/operations.md $(ARGS)

readme-table: $(STAMPS)/installed ## write the README's table of models anew from their manifests
	@$(BIN)/python -m models.table README.md

screenshots: $(STAMPS)/dev ## take the pictures of the page in docs/ anew (needs Chromium: sudo apt-get install chromium)
	@$(BIN)/python -m tests.page.screenshots

image-arm64: $(STAMPS)/installed ## build the image for arm64 under emulation and try it (as root on Debian; a quarter of an hour)
	@bash .ci/image-arm64.sh

clip: $(STAMPS)/installed ## make the demo clip anew (needs flite: sudo apt-get install flite)
	@$(BIN)/python -m service.demo.synthesise

clean: ## remove the virtual environment and everything built
	rm -rf $(VENV) build dist .demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find ops models service tests load_tests -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment that is there and works is kept: it may hold a long download.
$(STAMPS)/environment:
	@if [ -z "$(PYTHON)" ]; then
		echo 'No Python 3.11 to 3.14 found. Install one (sudo apt-get install python3 python3-venv) or name yours:' >&2
		echo '  make PYTHON=/path/to/python3.12 ...' >&2
		exit 1
	fi
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then
		command -v $(PYTHON) >/dev/null || { echo "PYTHON=$(PYTHON) is not a program on this machine" >&2; exit 1; }
		version=$$($(PYTHON) -c '$(MINOR)')
		if ! $(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'; then
			echo "$(PYTHON) is Python $$version; DeepThin needs 3.11 to 3.14" >&2
			exit 1
		fi
		if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then
			echo "Python $$version here cannot make virtual environments. Install its venv package, then run make again:" >&2
			echo "  sudo apt-get install python$$version-venv" >&2
			exit 1
		fi
		echo "Making $(VENV) with $(PYTHON) (Python $$version)"
		rm -rf $(VENV)
		$(PYTHON) -m venv $(VENV)
	fi
	mkdir -p $(STAMPS)
	touch $@

# Editable: Python changes need no reinstall; a changed C++ source rebuilds the library. The extra scores the demo.
$(STAMPS)/installed: $(STAMPS)/environment pyproject.toml $(NATIVE)
	@if ! command -v "$${CXX:-c++}" >/dev/null; then
		echo 'No C++ compiler found. Install one, then run make again:' >&2
		echo '  sudo apt-get install g++' >&2
		exit 1
	fi
	echo 'Building and installing DeepThin and what it needs (a few minutes the first time)'
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[eval]'
	touch $@

# The extras alone: DeepThin itself is there already and is not built again.
$(STAMPS)/dev: $(STAMPS)/installed
	@echo 'Installing the test tools'
	$(BIN)/python -m pip install --disable-pip-version-check 'deepthin[dev]'
	touch $@

$(STAMPS)/train: $(STAMPS)/dev
	@echo 'Installing the training extra (PyTorch: a large download)'
	$(BIN)/python -m pip install --disable-pip-version-check 'deepthin[dev,train]' 'torch==2.13.0'
	touch $@
