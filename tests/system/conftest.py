"""The booted guest with backupready in it: one for all system tests, healthy before and after each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest, missing
from system.inside import Inside

SOURCE = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it would be released."""
    target = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "--wheel-dir", str(target), str(SOURCE)]
    subprocess.run(command, check=True)
    (built,) = target.glob("backupready-*.whl")
    return built


@pytest.fixture(scope="session")
def booted(wheel: Path) -> Iterator[Inside]:
    lacks = missing()
    if lacks and os.environ.get("BACKUPREADY_REQUIRE_SYSTEM"):
        pytest.fail(f"the system tests must run here, and cannot: {'; '.join(lacks)}")
    if lacks:
        pytest.skip(f"the guest cannot be booted here: {'; '.join(lacks)}")
    with Guest() as guest:
        inside = Inside(guest)
        inside.install(wheel)
        guest.wait_agent_ready()
        inside.start_daemon()
        yield inside


@pytest.fixture
def inside(booted: Inside) -> Iterator[Inside]:
    """Healthy before the test, whatever the last one did; on a failure the guest's own words are shown."""
    booted.heal()
    yield booted
