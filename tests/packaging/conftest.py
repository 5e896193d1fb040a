"""One deb and one rpm of the working tree for all tests that look at them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2]


def cannot_run(reason: str) -> None:
    """Skip, but not where everything must run."""
    if os.environ.get("BACKUPREADY_REQUIRE_SYSTEM"):
        pytest.fail(f"the tests of the packages must run here, and cannot: {reason}")
    pytest.skip(reason)


def require(command: str, package: str) -> None:
    if shutil.which(command) is None:
        cannot_run(f"there is no {command} here; apt-get install {package}")


def build(tree: Path, kind: str, output: Path, *arguments: str, **environment: str) -> Path:
    """The package of this kind, built from a tree."""
    command = [sys.executable, str(tree / "packaging/build.py"), kind, "--output", str(output), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    if done.returncode and done.stderr.startswith(f"cannot build the {kind}: "):
        cannot_run(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The deb of the working tree."""
    return build(SOURCE, "deb", tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def rpm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rpm of the working tree, for this machine's architecture."""
    return build(SOURCE, "rpm", tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the working tree in another place, which git knows nothing of."""
    built = shutil.ignore_patterns(".git", ".venv", "build", "dist", ".*_cache", ".hypothesis", "__pycache__")
    return Path(shutil.copytree(SOURCE, tmp_path_factory.mktemp("elsewhere") / "a tree", ignore=built))
