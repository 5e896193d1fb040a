"""Will the agent be there after the next boot?

The documentation asks that the agent is running and starts with the machine: `systemctl enable`, and a start where it
is down. A masked unit is left alone: somebody has gone out of their way.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions
from backupready.model import EnableUnit, Finding, Machine, Remedy, RestartUnit, Step, Unsuitable


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Enable the unit, and start it where it is down. It goes on running when the enabling is undone."""
    unit, shown = preconditions.restartable_unit(machine)
    state = shown.get("UnitFileState", "")
    if state != "disabled":
        raise Unsuitable(
            f"{unit} is {state or 'in no state that is known'}: only a disabled unit is certain to start at boot once"
            " it is enabled, and to be as before once that is undone"
        )
    yield EnableUnit(unit)
    if shown.get("ActiveState") in ("inactive", "failed"):
        yield RestartUnit(unit)


REMEDY = Remedy(
    name="enable-agent",
    title="Have the VM agent started at boot",
    problems=("AGENT_NOT_ENABLED",),
    plan=plan,
    worst_case=timedelta(minutes=6),
    settle=timedelta(seconds=30),
    source="https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout",
    attempts=1,
)
