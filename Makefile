# make demo    enhance the demo clip (or INPUT=my.mp4) into out/demo.mp4, with out/demo.png
# make test    run every test (ARGS="-k fold" for some)
# make check   the whole gate: lint, strict types, every test with the import rules among them
# make bench   measure this machine into out/bench (ARGS="--quick" takes a minute)
# make bench-gpu   the same on a CUDA GPU
# make clean   remove the environment, caches and the demo's output
# The first of them sets up .venv (about 2 GB, once); PYTHON=python3.12 picks another Python.

PYTHON ?= python3
INPUT ?= assets/demo.mp4
ARGS ?=
VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready

.PHONY: demo test check lint types bench bench-gpu clean

demo: $(READY)
	@$(VENV)/bin/python tools/demo.py "$(INPUT)" out

test: $(READY)
	$(RUN) pytest -q $(ARGS)

check: lint types test

lint: $(READY)
	$(RUN) ruff check
	$(RUN) ruff format --check

types: $(READY)
	$(RUN) pyright --pythonpath $(VENV)/bin/python

bench: $(READY)
	@$(VENV)/bin/cagface bench $(ARGS)

bench-gpu: $(READY)
	@$(VENV)/bin/cagface bench --device cuda $(ARGS)

$(READY): $(INSTALLED)
	@$(VENV)/bin/python tools/check_machine.py libraries
	@touch $@

$(INSTALLED): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { echo "error: no $(PYTHON): install Python 3.11 to 3.14, or name one: make PYTHON=python3.12" >&2; exit 2; }
	@"$(PYTHON)" tools/check_machine.py python
	@echo "Setting up $(VENV) with the pinned packages (once; minutes on a slow line) ..."
	@rm -rf $(VENV)
	@"$(PYTHON)" -m venv $(VENV)
	@$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist out/demo.mp4 out/demo.png
	find cagface_core realtime plugins tests tools -name __pycache__ -type d -prune -exec rm -rf {} +
