# `make demo` and `make test` set up whatever they need: a virtual environment in .venv, and as root on a machine with
# apt the Debian packages that they use. As another user they say exactly what is missing.

VENV := .venv
PYTHON := $(VENV)/bin/python
NOX = PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(PYTHON) -m nox
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: demo test lint unit pythons system lab render deb rpm clean

demo: $(VENV)/.ready
	@$(PYTHON) -m backupready.demo

# What waits most of the time runs side by side, each in a guest of its own; what wants the machine for itself comes after.
LOAD := tests/system/test_load.py

test: $(VENV)/.ready-for-tests
	@packaging/dev/setup.sh lab
	@$(PYTHON) -m pytest -n 2 -m 'not system'
	@$(PYTHON) -m pytest -n 4 --dist worksteal --ignore=$(LOAD) tests/system
	@$(PYTHON) -m pytest $(LOAD)
	@$(NOX) -s unit-3.9

# Parts of the tests.
lint: $(VENV)/.ready-for-tests
	@$(PYTHON) -m pytest tests/test_tools.py

unit: $(VENV)/.ready-for-tests
	@$(PYTHON) -m pytest -m 'not system'

# The unit tests on every Python that is supported and can be found here; of these `make test` has the oldest and its own.
pythons: $(VENV)/.ready-for-tests
	@$(NOX)

system: $(VENV)/.ready-for-tests
	@packaging/dev/setup.sh lab
	@$(PYTHON) -m pytest -s tests/system

# A booted guest with the real agent and this checkout's package in it, and you in front of it. Needs root.
lab: $(VENV)/.ready-for-tests deb
	@packaging/dev/setup.sh lab
	@PYTHONPATH=tests $(PYTHON) -m lab --deb build/deb/backupready_*.deb

# The packages, in build/deb and build/rpm.
deb rpm:
	@packaging/dev/setup.sh $@
	@python3 packaging/build.py $@

# Write what is rendered from the declarations: sample configuration, manual, completions, journal catalogue, metric
# list, alert rules, dashboards, runbook. What needs a later Python or is not installed is named and left as it is.
render: $(VENV)/.ready-for-tests
	@$(PYTHON) -m backupready.catalogue .

$(VENV)/.ready: pyproject.toml packaging/dev/setup.sh
	@packaging/dev/setup.sh run $(VENV)
	@touch $@

$(VENV)/.ready-for-tests: pyproject.toml packaging/dev/setup.sh
	@packaging/dev/setup.sh test $(VENV)
	@touch $(VENV)/.ready $@

clean:
	rm -rf $(VENV) .nox build dist daemon/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
