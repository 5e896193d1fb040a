"""Is the agent started again when it dies?

The agent's wiki, to mitigate crashes: a drop-in with `Restart=always` for the unit, here with `RestartSec=5` as the
agent's own unit files have it, then `systemctl daemon-reload`. The agent is not restarted.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions
from backupready.model import DaemonReload, Finding, Machine, Remedy, Step, Unsuitable, WriteDropIn

# After the agent's own drop-ins (10 to 13), before an administrator's that is to count last.
_NAME = "60-backupready-restart.conf"
_TEXT = """\
# Written by backupready (add-auto-restart); `backupready undo` removes it.
[Service]
Restart=always
RestartSec=5
"""


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Write the drop-in where the unit has no Restart= at all."""
    unit, shown = preconditions.agent_unit(machine)
    if shown.get("Restart") != "no":
        raise Unsuitable(f"{unit} has Restart={shown.get('Restart', '')} already")
    yield WriteDropIn(unit, _NAME, _TEXT)
    yield DaemonReload()


REMEDY = Remedy(
    name="add-auto-restart",
    title="Have the service manager start the VM agent again when it dies",
    problems=("AGENT_NO_AUTO_RESTART",),
    plan=plan,
    worst_case=timedelta(minutes=2),
    settle=timedelta(seconds=10),
    source="https://github.com/Azure/WALinuxAgent/wiki/Known-Issues#mitigate_agent_crash",
    attempts=1,
)
