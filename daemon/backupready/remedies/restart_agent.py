"""Does the agent come back when its unit is started again?

The first thing that the documentation of failed backups asks for: `systemctl restart walinuxagent` (Debian, Ubuntu) or
`systemctl restart waagent` (others), and then to see that the agent reports. A unit at its start limit has to forget
its failures first (`systemctl reset-failed`). Every restart has the agent enable all its extensions anew; VMSnapshot
takes no request up twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, waagent
from backupready.model import (
    Absent,
    CannotTell,
    Finding,
    Machine,
    Remedy,
    ResetFailed,
    RestartUnit,
    Step,
    Unsuitable,
    WaitForReport,
)

# A report follows its start within seconds; behind a wire server that is slow it takes about 100 s.
_REPORTS_WITHIN = 240.0  # s


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Restart the unit, or start it where it is down, and wait for a report."""
    unit, shown = preconditions.restartable_unit(machine)
    agent = waagent.agent_processes(machine.processes())
    if agent.daemon is not None:
        # One that runs finds the wire server by itself as soon as it answers.
        preconditions.wire_server_answers(machine)
    if agent.worker is not None and agent.worker.state == "D":
        raise Unsuitable(
            f"process {agent.worker.pid} waits in the kernel and cannot be ended: look at its disk or mount"
        )
    reports = _reports(machine)
    if shown.get("ActiveState") == "failed" or shown.get("Result") == "start-limit-hit":
        yield ResetFailed(unit)
    yield RestartUnit(unit)
    if reports:
        yield WaitForReport(_REPORTS_WITHIN)


def _reports(machine: Machine) -> bool:
    """Whether this version writes its report to a file; taken for granted where the version is not known."""
    try:
        version = waagent.follow_log(machine)[0].version
    except (Absent, CannotTell):
        return True
    number = waagent.version_key(version or "")
    return not number or number >= waagent.REPORTS_SINCE


REMEDY = Remedy(
    name="restart-agent",
    title="Restart the VM agent",
    problems=(
        "AGENT_STOPPED",
        "AGENT_START_LIMIT",
        "AGENT_WORKER_MISSING",
        "AGENT_HUNG",
        "AGENT_CANNOT_FETCH_GOAL_STATE",
    ),
    plan=plan,
    worst_case=timedelta(minutes=10),
    settle=timedelta(minutes=1),
    source="https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout",
    restarts_agent=True,
)
