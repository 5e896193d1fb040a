"""Does the unit suite pass on every supported Python? `nox` runs it on each, `nox -s unit-3.9` on one.

Interpreters are looked up on PATH and among pyenv's. One that is missing is named in nox's summary and its session
skipped: no distribution has them all.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import nox

OLDEST, NEWEST = "3.9", "3.13"
PYTHONS = (OLDEST, "3.10", "3.11", "3.12", NEWEST)
# Not installed: the bindings to the journal need a compiler and libsystemd, and the code goes on without them.
NOT_HERE = {"systemd-python"}
# What the unit tests run with; the rest of the test extra is for the linters and for this file.
TESTING = {"pytest", "pytest-xdist", "hypothesis", "shtab", "pyyaml", "bcrypt", "grafana-foundation-sdk"}

nox.needs_version = ">=2024.3.2"
nox.options.reuse_existing_virtualenvs = True
nox.options.default_venv_backend = "virtualenv"  # pip, with this machine's own settings for it
nox.options.error_on_missing_interpreters = False

# Before PATH, since there pyenv has a stand-in for every interpreter, which fails for all that are not switched on.
_PYENV = [str(file.parent) for v in PYTHONS for file in Path.home().glob(f".pyenv/versions/{v}.*/bin/python{v}")]
os.environ["PATH"] = os.pathsep.join([*_PYENV, os.environ.get("PATH", "")])


def _name(requirement: str) -> str:
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0].lower()


@nox.session(python=PYTHONS)
def unit(session: nox.Session) -> None:
    """The unit suite: the oldest Python with the oldest libraries, the newest with the newest."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    needed = [line for line in project["dependencies"] if _name(line) not in NOT_HERE]
    needed += [line for line in project["optional-dependencies"]["test"] if _name(line) in TESTING]
    how = {OLDEST: ["--constraint", "tests/constraints/oldest.txt"], NEWEST: ["--upgrade"]}
    session.run(
        "python", "-c", f"import sys; assert sys.version.startswith('{session.python}.'), sys.version", silent=True
    )
    session.install("--quiet", *how.get(str(session.python), []), *needed, silent=True)
    session.install("--quiet", "--no-deps", "--editable", ".", silent=True)
    session.run(
        "pytest",
        "--quiet",
        "--no-header",
        "--numprocesses=2",
        "-p",
        "no:cacheprovider",
        "-m",
        "not integration and not system",
        *session.posargs,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    )
