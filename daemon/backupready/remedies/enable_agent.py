"""Will the agent be there after the next boot?

The documentation asks that the agent is running and starts with the machine: `systemctl enable`, and a start where it
is down. A masked unit is left alone: somebody has gone out of their way.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions
from backupready.model import EnableUnit, Finding, Machine, Remedy, StartUnit, Step, Unsuitable

# The states out of which enabling leads to one that starts at boot, with nothing else about it.
_ENABLES = ("disabled", "enabled-runtime")


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Enable the unit; start it, which changes nothing where it runs."""
    unit, shown = preconditions.restartable_unit(machine)
    state = shown.get("UnitFileState", "")
    if state not in _ENABLES:
        raise Unsuitable(
            f"{unit} is {state or 'in no state that is known'}, which enabling does not change for certain"
        )
    yield EnableUnit(unit)
    yield StartUnit(unit)


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
