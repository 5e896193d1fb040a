"""Does the extension come back when the agent installs it anew over what is there?

The documentation has the extension uninstalled in the portal, so that the next backup installs it anew; inside the
machine the agent does the same at its start to a handler without config/HandlerState. Only that file is set aside:
what else is in the directory stays, mrseq and task_identity among it, by which the extension knows which request it has
taken up already, so that no snapshot is taken twice. A directory that has vanished needs the restart alone.

An agent that cannot get the package would leave less than there was: the package must be to be had, and what was set
aside is put back where the extension does not come back enabled.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, waagent
from backupready.model import Finding, Machine, Remedy, RestartUnit, SetAside, Step, Unsuitable, Wait, is_file, is_there

# Some five seconds as measured; a package fetched by the slow way, or another extension before it, takes minutes.
_ENABLED_WITHIN = 420.0  # s


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Set HandlerState aside, restart the agent, and wait until it says Enabled again."""
    unit, _ = preconditions.restartable_unit(machine)
    preconditions.no_snapshot(machine)
    version, directory = preconditions.wanted_extension(machine)
    preconditions.wire_server_answers(machine)
    preconditions.package_can_be_had(machine)
    state = f"{waagent.VMSNAPSHOT}-{version}/config/HandlerState"
    there = directory is not None and is_there(machine, f"{waagent.LIB_DIR}/{state}")
    if there and not is_file(machine, f"{waagent.LIB_DIR}/{state}"):
        raise Unsuitable(f"{waagent.LIB_DIR}/{state} is no file")
    if there:
        yield SetAside(state)
    yield RestartUnit(unit)
    yield Wait(state, "Enabled", _ENABLED_WITHIN)


REMEDY = Remedy(
    name="reload-extension",
    title="Have the agent install the VMSnapshot extension anew over its files",
    problems=(
        "EXTENSION_VANISHED",
        "EXTENSION_FILES_MISSING",
        "EXTENSION_STATE_WRONG",
        "EXTENSION_REQUEST_IGNORED",
    ),
    plan=plan,
    worst_case=timedelta(minutes=11),
    settle=timedelta(minutes=2),
    source="https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout",
    attempts=2,
    cooldown=timedelta(minutes=30),
    restarts_agent=True,
)
