# Every target sets up what it needs: on a fresh machine, `make test` is the first command.

VENV := .venv
PY := $(VENV)/bin/python
DECLARED := pyproject.toml hatch_build.py tracediff/drift/_passes.c \
  hooks/pyproject.toml hooks/hatch_build.py hooks/tracediff_hooks/_passes.c hooks/tracediff_hooks/_xxh3.h
# The oldest supported Python first: what passes there passes later ones, rarely the reverse.
PYENV := $(or $(PYENV_ROOT),$(HOME)/.pyenv)
PYTHONS := python3.11 python3.12 python3.13 python3 $(wildcard $(PYENV)/versions/3.1[1-9].*/bin/python)
# A file stays on one worker: what it records is shared by its tests. More workers than four, each
# with a framework under it, want more memory than most machines have.
PYTEST := $(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile
PIP_INSTALL := $(PY) -m pip install --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help test test-all demo samples lint style types contracts boundary format wheels bench bench-causes stacks clean

help:  ## What can be made
	@echo "make TARGET, where TARGET is one of:"
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

test: $(VENV)/.test stacks  ## Run the tests, after building the training environments
	$(PYTEST) -m "not exhaustive" $(ARGS)

test-all: $(VENV)/.test  ## Run the exhaustive tests too, on every training environment there is
	$(PY) tests/stacks/build.py --all
	$(PYTEST) $(ARGS)

demo: $(VENV)/.test  ## Record two runs that part, compare them, and name the cause
	$(PY) tests/stacks/build.py --require keras3
	$(PY) samples/demo.py

samples: $(VENV)/.test  ## Record the sample traces anew, each on its stack
	$(PY) samples/record.py

lint: style types contracts boundary  ## Style, types, import contracts, and the Python 3.7 boundary

style: $(VENV)/.lint
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/.lint
	$(VENV)/bin/mypy

contracts: $(VENV)/.lint
	$(VENV)/bin/lint-imports --no-logo

boundary: $(VENV)/.lint
	$(VENV)/bin/vermin --target=3.7- --no-tips --violations hooks/tracediff_hooks tests/stacks/build.py

format: $(VENV)/.lint  ## Put the sources into shape
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

wheels: $(VENV)/.test  ## Build both wheels into dist/
	$(PY) -m build --no-isolation --wheel --outdir dist .
	$(PY) -m build --no-isolation --wheel --outdir dist hooks

bench-causes: $(VENV)/.test stacks  ## Train labelled pairs of runs and say how many are explained right
	PYTHONPATH=benchmarks:tests $(PY) -m causes $(ARGS)

bench: $(VENV)/.test  ## Run the measurements in benchmarks/
	@for script in benchmarks/bench_*.py; do echo "== $$script" && $(PY) "$$script" || exit 1; done

stacks: $(VENV)/.test  ## Build the training environments of every test run
	$(PY) tests/stacks/build.py

clean:  ## Remove what was built here; the training environments stay in their cache
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Dependency groups came with pip 25.1, which is newer than what many Pythons carry.
$(VENV)/.pip:
	@for python in $(PYTHONS); do \
	  if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    "$$python" -m venv --clear $(VENV) || continue; \
	    echo "$(VENV): made with $$("$$python" -V)"; \
	    $(PIP_INSTALL) --upgrade 'pip>=25.1' && touch $@; exit; \
	  fi; \
	done; echo "error: no Python 3.11 or later on PATH or in $(PYENV)" >&2; exit 2

$(VENV)/.test: $(VENV)/.pip $(DECLARED)
	$(PIP_INSTALL) -e . -e ./hooks --group test
	@touch $@

$(VENV)/.lint: $(VENV)/.test
	$(PIP_INSTALL) --group lint
	@touch $@
