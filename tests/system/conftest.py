"""The booted guest with backupready in it: one for all system tests, healthy before and after each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest, missing
from requirement import unavailable
from system.inside import Inside

SOURCE = Path(__file__).parents[2]
OLDER = "0.0.9"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


def build(kind: str, output: Path, *options: str) -> Path:
    """A package as it would be released, of this checkout."""
    command = [sys.executable, str(SOURCE / "packaging/build.py"), kind, "--output", str(output), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        unavailable(f"the {kind} cannot be built: {done.stderr.strip()[-2000:]}")
    return Path(done.stdout.split()[-1])


@pytest.fixture(scope="session")
def lab() -> None:
    """This machine can boot guests."""
    lacks = missing()
    if lacks:
        unavailable(f"a guest cannot be booted here: {'; '.join(lacks)}")


@pytest.fixture(scope="session")
def deb(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("deb", tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="session")
def older_deb(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a lower version, to upgrade from."""
    return build("deb", tmp_path_factory.mktemp("older"), "--version", OLDER)


@pytest.fixture(scope="session")
def rpm(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("rpm", tmp_path_factory.mktemp("rpm"))


@pytest.fixture(scope="session")
def older_rpm(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a lower version, to upgrade from."""
    return build("rpm", tmp_path_factory.mktemp("older-rpm"), "--version", OLDER)


@pytest.fixture(scope="session")
def booted(deb: Path) -> Iterator[Inside]:
    with Guest() as guest:
        guest.wait_agent_ready()
        inside = Inside(guest)
        inside.install(deb)
        yield inside


@pytest.fixture
def inside(booted: Inside) -> Iterator[Inside]:
    """Healthy before the test, whatever the last one did; on a failure the guest's own words are shown."""
    booted.heal()
    yield booted
