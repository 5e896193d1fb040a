"""reload-extension and reinstall-extension: what both refuse, and how they differ."""

from __future__ import annotations

import pytest

from backupready import remedies, waagent
from backupready.model import (
    CannotTell,
    NotNow,
    Process,
    Remedy,
    RestartUnit,
    Unreachable,
    Unsuitable,
    Wait,
)
from backupready.remedies import reinstall_extension, reload_extension
from fake import NOW, PLUGIN, WIRE, FakeMachine, healthy, steps

HANDLER = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"
STATE = f"{waagent.VMSNAPSHOT}-1.0.9220.0/config/HandlerState"
BOTH = pytest.mark.parametrize(
    "remedy", [reload_extension.REMEDY, reinstall_extension.REMEDY], ids=lambda one: one.name
)


def test_the_gentle_one_is_tried_first() -> None:
    """For every problem of both, in this order."""
    for code in reload_extension.REMEDY.problems:
        assert remedies.remedies_for(code) == (reload_extension.REMEDY, reinstall_extension.REMEDY)


@BOTH
def test_the_package_must_be_to_be_had_first(remedy: Remedy) -> None:
    """Without :32526 or the wire server the extension would stay away: worse than before."""
    for url in (f"http://{PLUGIN}/versions", f"http://{WIRE}/?comp=versions"):
        machine = healthy()
        assert steps(remedy, machine)
        assert url in machine.asked
        machine.http[url] = Unreachable("refused", "", 3)
        with pytest.raises(NotNow, match="does not answer: refused"):
            steps(remedy, machine)


@BOTH
@pytest.mark.parametrize(
    ("code", "told", "fresh"),
    [(4, "2026-11-23T00:20:00Z", True), (4, "2026-11-22T20:00:00Z", False), (1, "2026-11-23T00:20:00Z", False)],
)
def test_never_while_a_transitional_status_is_fresh(remedy: Remedy, code: int, told: str, fresh: bool) -> None:
    """Code 4 of a run that may still be going on; not an old one whose process is gone, nor the end of a run."""
    machine = healthy()
    machine.files[f"{HANDLER}/status/7.status"] = f'[{{"status": {{"code": {code}}}, "timestampUTC": "{told}"}}]'
    if fresh:
        with pytest.raises(NotNow, match=r"7\.status says that a snapshot is under way"):
            steps(remedy, machine)
    else:
        assert steps(remedy, machine)


@BOTH
def test_never_while_the_extension_or_its_freeze_runs(remedy: Remedy) -> None:
    """Its process, the freeze binary, or the lock that Site Recovery shares; nor where that cannot be told."""
    lock = "/etc/azure/MicrosoftRecoverySvcsSafeFreezeLock/SafeFreezeLockFile"
    running, freezing, locked, blind, garbled = (healthy() for _ in range(5))
    running.table = (*healthy().processes(), Process(9, 1, ("python3", "main/handle.py", "-daemon"), "S", NOW))
    freezing.table = (*healthy().processes(), Process(9, 1, ("main/safefreeze/bin/safefreeze",), "D", NOW))
    locked.files[lock] = ""
    assert steps(remedy, locked)
    locked.locks[lock] = 9
    for machine in (running, freezing, locked):
        with pytest.raises(NotNow, match="a snapshot may be under way: process 9"):
            steps(remedy, machine)
    blind.table = CannotTell("the process table cannot be told")
    garbled.files[f"{HANDLER}/status/7.status"] = "not JSON"
    for machine in (blind, garbled):
        with pytest.raises(CannotTell):
            steps(remedy, machine)


def vanished() -> FakeMachine:
    machine = healthy()
    for path in [path for path in machine.files if path.startswith(HANDLER)]:
        del machine.files[path]
    return machine


def test_a_vanished_directory_needs_the_restart_alone() -> None:
    """And there is nothing for the second rung to replace."""
    plan = [RestartUnit("walinuxagent.service"), Wait(STATE, "Enabled", 420.0)]
    assert steps(reload_extension.REMEDY, vanished(), "EXTENSION_VANISHED") == plan
    with pytest.raises(Unsuitable, match="has no directory"):
        steps(reinstall_extension.REMEDY, vanished(), "EXTENSION_VANISHED")


def test_a_state_that_is_no_file_is_left_to_a_person() -> None:
    """A directory in its place is nobody's known fault."""
    machine = healthy()
    del machine.files[f"{HANDLER}/config/HandlerState"]
    machine.files[f"{HANDLER}/config/HandlerState/x"] = ""
    with pytest.raises(Unsuitable, match="HandlerState is no file"):
        steps(reload_extension.REMEDY, machine)


def test_what_is_to_be_kept_must_be_a_file() -> None:
    """Else the clean directory would not know the last request."""
    machine = healthy()
    del machine.files[f"{HANDLER}/mrseq"]
    machine.files[f"{HANDLER}/mrseq/x"] = ""
    with pytest.raises(Unsuitable, match="mrseq is no file that could be kept"):
        steps(reinstall_extension.REMEDY, machine)
