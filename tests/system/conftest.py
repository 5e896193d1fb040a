"""The booted guest with backupready in it: one for all system tests, healthy before and after each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest, missing
from requirement import unavailable
from system.inside import Inside


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.system)


@pytest.fixture(scope="session")
def lab() -> None:
    """This machine can boot guests."""
    lacks = missing()
    if lacks:
        unavailable(f"a guest cannot be booted here: {'; '.join(lacks)}")


@pytest.fixture(scope="session")
def booted(lab: None, deb: Path) -> Iterator[Inside]:
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


@pytest.fixture
def steady(booted: Inside) -> Iterator[Inside]:
    """The guest for faults that leave the agent alone: it is healed only if the test before it left something."""
    if booted.check().active or booted.daemon_active():
        booted.heal()
        booted.expect(within=200)
    yield booted
