"""Does the distribution have an agent without the defect?

The documentation: update the agent from the distribution's repository and from nowhere else (`apt-get install waagent`
or `walinuxagent`), then restart its unit. Whether there is a newer one is asked of the package manager's lists as they
are. An agent that updates itself is left to do so.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, waagent
from backupready.model import (
    Finding,
    Machine,
    PackageUpgrade,
    Remedy,
    RestartUnit,
    Step,
    Unsuitable,
    WaitForReport,
)

_REPORTS_WITHIN = 240.0  # s, as after any restart


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Upgrade the package that the agent is installed from, restart the agent, and wait for a report."""
    unit, _ = preconditions.restartable_unit(machine)
    preconditions.no_snapshot(machine)
    config = preconditions.agent_config(machine)
    if waagent.auto_update(config.values):
        raise Unsuitable(f"{config.path} has the agent update itself")
    offer = waagent.offer(machine)
    if not offer.newer:
        raise Unsuitable(f"the lists offer {offer.candidate} of {offer.package}, and {offer.installed} is installed")
    yield PackageUpgrade(offer.package)
    yield RestartUnit(unit)
    yield WaitForReport(_REPORTS_WITHIN)


REMEDY = Remedy(
    name="update-agent",
    title="Update the VM agent from the distribution's repository",
    problems=("AGENT_OUTDATED", "AGENT_DEFECT_ON_PYTHON", "AGENT_UNSUPPORTED"),
    plan=plan,
    worst_case=timedelta(minutes=21),
    settle=timedelta(minutes=2),
    source="https://learn.microsoft.com/azure/virtual-machines/extensions/update-linux-agent",
    attempts=1,
    cooldown=timedelta(hours=6),
    restarts_agent=True,
)
