# Everything sets itself up: a fresh clone with python3, python3-venv, gcc and make needs no other step.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What the compiled modules are made from; a change rebuilds them.
SOURCES := setup.py pyproject.toml $(wildcard ext/emgd_ext/*.pyx ext/emgd_ext/*.pxd ext/emgd_ext/c/*)
BUILT := $(VENV)/built
TOOLS := $(VENV)/tools

.PHONY: help run replay test test-sanitized test-system test-hazards stimulation-long safety-long safety-coverage mutants \
	prove second-opinion lint trace soak clean

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@scripts/prepare $(PYTHON)
	@$(PYTHON) -m venv $(VENV)

$(BUILT): $(VENV)/bin/python $(SOURCES)
	@echo "building emgd and fetching what it needs (about a minute, once) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[replay,completion]'
	@touch $@

$(TOOLS): $(BUILT)
	@echo "fetching what tests and checks need ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test,lint]'
	@touch $@

run: $(BUILT)  ## start the service on the simulated amplifier
	@exec $(BIN)/emgd run

replay: $(BUILT)  ## play a recording: make replay FILE=needle.hea
	@test -n "$(FILE)" || { echo "which recording? make replay FILE=needle.hea"; exit 2; }
	@exec $(BIN)/emgd replay "$(FILE)"

test: $(TOOLS)  ## all tests (under 4 minutes)
	@scripts/test

test-sanitized: $(TOOLS)  ## the tests with the compiled modules under sanitizers
	@scripts/test-sanitized $(PYTHON)

test-system: $(TOOLS)  ## emulated hardware down to the kernel: libusb, and virtual machines (as root; minutes)
	@scripts/test-system $(PARTS)

test-hazards: $(TOOLS)  ## all that can go wrong on a cart, done to a service and its models (two minutes)
	@EMGD_HAZARDS=1 $(BIN)/python -m pytest tests/safety/test_hazards.py

stimulation-long: $(TOOLS)  ## a hundred thousand random steps of gate, stimulus, driver and device model (minutes)
	@EMGD_HYPOTHESIS=long $(BIN)/python -m pytest -q -s tests/safety/test_stimulation_machine.py

safety-long: $(TOOLS)  ## a million random steps of the stimulus safety gate beside its oracle (tens of minutes)
	@EMGD_HYPOTHESIS=long EMGD_WALKS=2000 $(BIN)/python -m pytest -q -s tests/safety/test_gate_machine.py tests/safety/test_gate_walk.py

safety-coverage: $(TOOLS)  ## lines and branches of the gate that its tests run; fails below 100 %
	@$(BIN)/python scripts/safety/covered.py

mutants: $(TOOLS)  ## seed every small fault in the gate: does a test see it? (tens of minutes)
	@nice scripts/mutate-gate

prove:  ## the proof of the stimulus gate: every goal, or red (Debian: frama-c-base why3 z3 cvc4)
	@scripts/prove

second-opinion:  ## one property of the gate once more, by another tool: ESBMC
	@scripts/second-opinion

lint: $(TOOLS)  ## ruff, mypy --strict, cython-lint, import-linter, codespell
	$(BIN)/ruff check . scripts/trace
	$(BIN)/ruff format --check . scripts/trace
	$(BIN)/mypy
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint ext
	$(BIN)/lint-imports
	$(BIN)/codespell

trace: $(BIN)/python  ## hazards, measures, requirements and the tests that show them; 1 when one has none
	@$(BIN)/python scripts/trace

soak: $(BUILT)  ## 8 channels at 48 kHz for 10 minutes with 4 subscribers
	@$(BIN)/python benchmarks/soak.py

clean:  ## remove what was built
	rm -rf $(VENV) build *.egg-info ext/emgd_ext/*.so ext/emgd_ext/*.c
