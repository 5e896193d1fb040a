"""The booted guest with backupready in it: one for all system tests, healthy before and after each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import Guest, LabError, missing
from measured import measured
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
    with contextlib.ExitStack() as stack:
        inside = Inside(_boot(stack))
        inside.install(deb)
        yield inside


def _boot(stack: contextlib.ExitStack) -> Guest:
    """A guest whose agent is ready. What goes wrong before anything of ours is in it is a matter of this machine: it is
    told, and tried once more."""
    for last in (False, True):
        try:
            guest = stack.enter_context(Guest())
            guest.wait_agent_ready()
            return guest
        except LabError as error:
            stack.close()
            if last:
                raise
            measured(f"a guest did not boot, and is tried again: {error}")
    raise AssertionError


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
