# One front door. Every target installs first what it needs and is not there yet (tools/setup.sh).
# `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTEST := $(BIN)/pytest -q
# The suites on real namespaces have no use for its slow import.
SUITE := $(PYTEST) -p no:schemathesis
# For tests that wait for most of their time.
SIDE_BY_SIDE := -n 2 --dist worksteal
SIM := $(BIN)/python -m netlab.sim
SOURCES := overlay zos_core netlab
# The better one that tools/setup.sh makes; empty when it could not.
export ZOS_WIREGUARD_GO ?= $(wildcard $(CURDIR)/build/wireguard-go/wireguard-go)
# After so long a test on real namespaces hangs: they take longer where others work as well.
HANG_S := 300
# The least that must run: a suite that loses its tests fails instead of passing empty.
KERNEL_TESTS ?= 350
LAB_TESTS ?= 60
PAGE_TESTS ?= 6

.NOTPARALLEL:
.PHONY: help demo test check sim kernel page lab test-vm bench pictures man lock setup format clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what a node needs, and the Python environment
	@tools/setup.sh venv node
	@# Sixty nodes that each compile what they import are late by ten seconds, one in QEMU by thirty.
	@$(BIN)/python -m compileall -q $(SOURCES)

demo: setup ## the lab of demo/demo.lab.toml: two tenants on this machine, end to end (root)
	@$(BIN)/python -m demo

# Where QEMU cannot be had, the same suite has run on wireguard-go all the same.
test: check sim kernel page lab ## everything that CI runs (root)
	@if tools/setup.sh vm; then $(MAKE) test-vm; \
	else echo "test: NOT TESTED on kernel WireGuard: QEMU or its kernel could not be installed"; fi

check: ## format, lint, types, architecture, unit and property tests (no root)
	@tools/setup.sh venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST) -n 2 -m "not kernel and not lab and not page and not vm"
	$(SIM) --seeds 60 --nodes 40

# What fails is made small in build/sim; committed in netlab/sim/seeds, it is lived again for ever.
# Small worlds have larger networks, and a larger part of the nodes leaves by exits.
sim: ## worlds of many nodes in virtual time: 1 000 seeds of 1 000 nodes, then small ones (no root)
	@tools/setup.sh venv
	$(SIM) --seeds 1000 --nodes 1000 --keep build/sim
	$(SIM) --seeds 400 --first 1000000 --nodes 150 --keep build/sim

kernel: setup ## the suite on real namespaces and links (root)
	$(SUITE) $(SIDE_BY_SIDE) --timeout $(HANG_S) -m kernel --must-run $(KERNEL_TESTS)

page: ## the page of `zos lab watch`, in headless Chromium (root)
	@tools/setup.sh venv node page
	$(SUITE) -m page --must-run $(PAGE_TESTS)

lab: setup ## the suite on several nodes (root)
	$(SUITE) $(SIDE_BY_SIDE) --timeout $(HANG_S) -m lab --must-run $(LAB_TESTS)

test-vm: setup ## what WireGuard has a part in, on a real Debian kernel in QEMU (root)
	@tools/setup.sh vm
	@tools/test_vm.sh

bench: setup ## every figure we claim; JSON in build/bench
	@tools/setup.sh bench
	@$(BIN)/python -m bench

pictures: ## the pictures of the documents, made anew (root)
	@tools/setup.sh venv node page
	@$(BIN)/python tools/pictures.py

man: ## man pages of the zos command, in build/man
	@tools/setup.sh venv
	@$(BIN)/python tools/man.py build/man

format: ## rewrite the sources in the house format
	@tools/setup.sh venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## resolve the dependencies anew
	@tools/lock.sh --upgrade

clean: ## remove what was built and installed below this directory
	rm -rf build .venv *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(SOURCES) tests -name __pycache__ -prune -exec rm -rf {} +
