"""restart-agent: the right unit, never for nothing."""

from __future__ import annotations

import pytest

from backupready.model import (
    CannotTell,
    NotNow,
    Process,
    ResetFailed,
    RestartUnit,
    Unreachable,
    Unsuitable,
    WaitForReport,
)
from backupready.plan import longest
from backupready.remedies.restart_agent import REMEDY
from backupready.waagent import LOG
from fake import NOW, WIRE, healthy, steps

UNIT = "walinuxagent.service"
VERSIONS = f"http://{WIRE}/?comp=versions"


@pytest.mark.parametrize(
    ("changes", "resets"),
    [
        ({}, False),
        ({"ActiveState": "failed", "Result": "exit-code"}, True),
        ({"ActiveState": "inactive", "Result": "start-limit-hit"}, True),
        ({"ActiveState": "inactive", "Result": "success"}, False),
    ],
)
def test_a_unit_forgets_its_failures_only_where_it_has_some(changes: dict[str, str], resets: bool) -> None:
    """Then it is restarted, and the agent's report awaited."""
    machine = healthy()
    assert not isinstance(machine.units, CannotTell)
    machine.units[UNIT] = {**machine.units[UNIT], **changes}
    reset = [ResetFailed(UNIT)] if resets else []
    planned = steps(REMEDY, machine)
    assert planned == [*reset, RestartUnit(UNIT), WaitForReport(240.0)]
    assert longest(planned) <= REMEDY.worst_case.total_seconds()


def test_an_agent_that_runs_is_not_restarted_behind_a_dead_wire_server() -> None:
    """It gains nothing; one that is down is started all the same."""
    machine = healthy()
    machine.http[VERSIONS] = Unreachable("timeout", "", 3)
    with pytest.raises(NotNow, match="does not answer: timeout"):
        steps(REMEDY, machine, "AGENT_CANNOT_FETCH_GOAL_STATE")
    machine.table = ()
    assert RestartUnit(UNIT) in steps(REMEDY, machine, "AGENT_STOPPED")


def test_a_worker_in_the_kernel_is_left_alone() -> None:
    """Nothing ends it, and the new worker would meet the same."""
    machine = healthy()
    daemon, worker = healthy().processes()
    machine.table = (daemon, Process(worker.pid, daemon.pid, worker.argv, "D", NOW - 299))
    with pytest.raises(Unsuitable, match="process 101 waits in the kernel"):
        steps(REMEDY, machine, "AGENT_HUNG")


@pytest.mark.parametrize(
    ("version", "waits"), [("2.2.33", False), ("2.2.34", True), ("2.15.0.1", True), ("what", True)]
)
def test_no_report_is_awaited_of_an_agent_that_keeps_none(version: str, waits: bool) -> None:
    """Where the version is not known it is taken for one that does."""
    machine = healthy()
    machine.files[LOG] = str(machine.files[LOG]).replace("2.15.0.1", version)
    assert (WaitForReport(240.0) in steps(REMEDY, machine)) == waits
    del machine.files[LOG]
    assert WaitForReport(240.0) in steps(REMEDY, machine)
