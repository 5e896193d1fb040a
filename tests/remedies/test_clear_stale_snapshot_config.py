"""clear-stale-snapshot-config: which files are stale follows from the finding, and some cases are for a person."""

from __future__ import annotations

import pytest

from backupready import waagent
from backupready.model import (
    CannotTell,
    NotNow,
    Process,
    SetAside,
    StartUnit,
    StopUnit,
    Unreachable,
    Unsuitable,
    WaitForReport,
)
from backupready.plan import longest
from backupready.remedies.clear_stale_snapshot_config import REMEDY
from fake import NOW, PLUGIN, FakeMachine, healthy, steps

UNIT = "walinuxagent.service"
HANDLER = f"{waagent.VMSNAPSHOT}-1.0.9220.0"
GROUP = "/azure.slice/walinuxagent.service"


def stuck(group: str = f"0::{GROUP}\n", kill: str = "control-group", unit: str = GROUP) -> FakeMachine:
    machine = healthy()
    assert not isinstance(machine.units, CannotTell)
    machine.units[UNIT] = {**machine.units[UNIT], "ControlGroup": unit, "KillMode": kill}
    machine.table = (*healthy().processes(), Process(300, 1, ("python3", "main/handle.py", "-daemon"), "S", NOW - 1e4))
    machine.files["/proc/300/cgroup"] = group
    status = '[{"status": {"code": 4}, "timestampUTC": "2026-11-22T20:00:00Z"}]'
    machine.files[f"{waagent.LIB_DIR}/{HANDLER}/status/3.status"] = status
    return machine


def around(*paths: str) -> list[object]:
    return [StopUnit(UNIT), *map(SetAside, paths), StartUnit(UNIT), WaitForReport(240.0)]


@pytest.mark.parametrize("group", [f"0::{GROUP}\n", f"3:cpu:/x\n1:name=systemd:{GROUP}\n0::/\n"])
@pytest.mark.parametrize("kill", ["control-group", "mixed"])
def test_a_stuck_run_ends_with_the_agents_unit(group: str, kill: str) -> None:
    """Then its status is set aside; in either version of the kernel's hierarchies."""
    assert steps(REMEDY, stuck(group, kill), "EXTENSION_STUCK") == around(f"{HANDLER}/status/3.status")


@pytest.mark.parametrize(
    "machine",
    [
        stuck("0::/azure.slice/azure-vmextensions.slice/run-7.scope\n"),
        stuck("0::/azure.slice/walinuxagent.service-not\n"),
        stuck(f"3:cpu:{GROUP}\n"),
        stuck(kill="process"),
        stuck(unit=""),
        stuck("0::/\n", unit="/"),
    ],
)
def test_a_run_that_would_live_on_is_for_a_person(machine: FakeMachine) -> None:
    """With its status gone and its process alive it would only not be seen any more."""
    with pytest.raises(Unsuitable, match="process 300 does not end with the agent's unit"):
        steps(REMEDY, machine, "EXTENSION_STUCK")


def test_a_stuck_run_is_not_ended_while_something_may_be_frozen() -> None:
    """Thawing is an operator's."""
    machine = stuck()
    machine.table = (*stuck().processes(), Process(301, 300, ("main/safefreeze/bin/safefreeze",), "S", NOW - 1e4))
    with pytest.raises(NotNow, match="a file system may be frozen: process 301"):
        steps(REMEDY, machine, "EXTENSION_STUCK")


def test_a_run_that_is_not_stuck_is_left_alone() -> None:
    """Its process is gone, its status says that it has ended, or is not old enough, or cannot be read."""
    gone, ended, fresh, garbled, nowhere = (stuck() for _ in range(5))
    path = f"{waagent.LIB_DIR}/{HANDLER}/status/3.status"
    gone.table = healthy().processes()
    ended.files[path] = '[{"status": {"code": 1}, "timestampUTC": "2026-11-22T20:00:00Z"}]'
    fresh.files[path] = '[{"status": {"code": 4}, "timestampUTC": "2026-11-23T00:20:00Z"}]'
    for machine, why in ((gone, "is gone"), (ended, "the run has ended"), (fresh, "for no longer than it may be")):
        with pytest.raises(Unsuitable, match=why):
            steps(REMEDY, machine, "EXTENSION_STUCK")
    garbled.files[path] = "not JSON"
    del nowhere.files["/proc/300/cgroup"]
    for machine in (garbled, nowhere):
        with pytest.raises(CannotTell):
            steps(REMEDY, machine, "EXTENSION_STUCK")


@pytest.mark.parametrize(
    ("text", "tool", "fits"),
    [
        ("", True, True),
        ("", False, False),
        ("Provisioning.Agent=auto\n", True, True),
        ("Provisioning.Agent=waagent\n", True, False),
        ("Provisioning.Agent=cloud-init\n", False, True),
        ("Provisioning.Agent=disabled\n", False, True),
    ],
)
def test_an_agent_that_provisions_would_do_so_anew(text: str, tool: bool, fits: bool) -> None:
    """On another machine's disk: it would make new host keys and wait for a disc that is not there."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = f"Extensions.Enabled=y\n{text}"
    if tool:
        machine.files["/usr/bin/cloud-init"] = ""
    if fits:
        plan = steps(REMEDY, machine, "EXTENSION_STATE_FOREIGN")
        assert plan == around(f"{HANDLER}/config/0.settings", f"{HANDLER}/status/0.status")
    else:
        with pytest.raises(Unsuitable, match="would do so anew"):
            steps(REMEDY, machine, "EXTENSION_STATE_FOREIGN")


def test_without_an_extension_the_agent_clears_the_rest_itself() -> None:
    """There is nothing to set aside then."""
    machine = healthy()
    machine.files["/usr/bin/cloud-init"] = ""
    for path in [path for path in machine.files if f"/{HANDLER}/" in path]:
        del machine.files[path]
    assert steps(REMEDY, machine, "EXTENSION_STATE_FOREIGN") == around()


def test_files_of_another_agent_version_are_set_aside() -> None:
    """Those that the probe sees, and no others."""
    machine = healthy()
    with pytest.raises(Unsuitable, match="no file of another agent version is left"):
        steps(REMEDY, machine, "GOAL_STATE_CACHE_STALE")
    for name in ("ExtensionsConfig.7.xml", "Prod.7.agentsManifest", "GoalState.1.xml", "SharedConfig.xml"):
        machine.files[f"{waagent.LIB_DIR}/{name}"] = ""
    plan = around("ExtensionsConfig.7.xml", "Prod.7.agentsManifest")
    assert steps(REMEDY, machine, "GOAL_STATE_CACHE_STALE") == plan


def test_too_many_files_are_something_else() -> None:
    """Two hundred are moved, not more."""
    machine = healthy()
    for number in range(201):
        machine.files[f"{waagent.LIB_DIR}/ExtensionsConfig.{number}.xml"] = ""
    with pytest.raises(Unsuitable, match="201 files are stale, more than 200"):
        steps(REMEDY, machine, "GOAL_STATE_CACHE_STALE")
    del machine.files[f"{waagent.LIB_DIR}/ExtensionsConfig.0.xml"]
    planned = steps(REMEDY, machine, "GOAL_STATE_CACHE_STALE")
    assert len(planned) == 203
    assert longest(planned) <= REMEDY.worst_case.total_seconds()


def test_the_package_must_be_to_be_had_and_no_snapshot_under_way() -> None:
    """As for a reload."""
    machine = healthy()
    machine.files[f"{waagent.LIB_DIR}/ExtensionsConfig.7.xml"] = ""
    assert steps(REMEDY, machine, "GOAL_STATE_CACHE_STALE")
    machine.http[f"http://{PLUGIN}/versions"] = Unreachable("refused", "", 3)
    with pytest.raises(NotNow, match="does not answer: refused"):
        steps(REMEDY, machine, "GOAL_STATE_CACHE_STALE")
    running = healthy()
    running.files[f"{waagent.LIB_DIR}/ExtensionsConfig.7.xml"] = ""
    running.table = (*running.processes(), Process(300, 1, ("python3", "main/handle.py", "-daemon"), "S", NOW - 60))
    with pytest.raises(NotNow, match="a snapshot may be under way"):
        steps(REMEDY, running, "GOAL_STATE_CACHE_STALE")
