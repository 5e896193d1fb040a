# `make demo` and `make test` set up whatever they need: a virtual environment in .venv, and as root on a machine with
# apt the Debian packages that they use. As another user they say exactly what is missing.

VENV := .venv
PYTHON := $(VENV)/bin/python
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: demo test lint unit system lab render clean

demo: $(VENV)/.ready
	@$(PYTHON) -m backupready.demo

test: $(VENV)/.ready-for-tests
	@packaging/dev/setup.sh lab
	@$(PYTHON) -m pytest

# Parts of the tests.
lint: $(VENV)/.ready-for-tests
	@$(PYTHON) -m pytest tests/test_tools.py

unit: $(VENV)/.ready-for-tests
	@$(PYTHON) -m pytest -m 'not system'

system: $(VENV)/.ready-for-tests
	@packaging/dev/setup.sh lab
	@$(PYTHON) -m pytest -s tests/system

# A booted guest with the real agent and this checkout in it, and you in front of it. Needs root.
lab: $(VENV)/.ready-for-tests
	@packaging/dev/setup.sh lab
	@$(PYTHON) -m pip --quiet wheel --no-deps --wheel-dir build/wheel .
	@PYTHONPATH=tests $(PYTHON) -m lab --wheel build/wheel/backupready-*.whl

# Write what is rendered from the declarations: sample configuration, metric list, runbook.
render: $(VENV)/.ready
	@$(PYTHON) -m backupready.catalogue .

$(VENV)/.ready: pyproject.toml packaging/dev/setup.sh
	@packaging/dev/setup.sh run $(VENV)
	@touch $@

$(VENV)/.ready-for-tests: pyproject.toml packaging/dev/setup.sh
	@packaging/dev/setup.sh test $(VENV)
	@touch $(VENV)/.ready $@

clean:
	rm -rf $(VENV) build dist daemon/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
