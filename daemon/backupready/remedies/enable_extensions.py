"""May the agent run extensions?

The documentation of snapshots that time out: `Extensions.Enabled=y` in waagent.conf, then a restart of the agent, which
reads the file only then. Done once a day at most: who switches it off again means it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, waagent
from backupready.model import Finding, Machine, Remedy, RestartUnit, SetConfigKey, Step, Unsuitable

_KEY = "Extensions.Enabled"


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Set the key in its effective line and restart the agent."""
    unit, _ = preconditions.restartable_unit(machine)
    config = preconditions.agent_config(machine)
    if waagent.switch(config.values, _KEY, True):
        raise Unsuitable(f"{config.path} does not switch extensions off")
    yield SetConfigKey(_KEY, "y")
    yield RestartUnit(unit)


REMEDY = Remedy(
    name="enable-extensions",
    title="Switch extensions on in waagent.conf",
    problems=("EXTENSIONS_SWITCHED_OFF",),
    plan=plan,
    worst_case=timedelta(minutes=6),
    settle=timedelta(minutes=1),
    source="https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout",
    attempts=1,
    restarts_agent=True,
)
