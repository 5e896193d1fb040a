"""Does the extension come back when the agent installs it into a clean directory?

What Microsoft's support has advised in public for a VMSnapshot that does not heal: stop the agent, move the extension's
directory away, start the agent. Two things are done otherwise than there, so that nothing is lost. The directory is not
just gone, since with mrseq and task_identity gone the extension would run the last request again, which within 140
minutes takes a snapshot: a clean directory takes its place that holds those two, and the agent unpacks into it. And the
logs stay. What was set aside is put back where the extension does not come back enabled.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, waagent
from backupready.model import (
    Absent,
    Finding,
    Machine,
    MakeDirectory,
    Remedy,
    SetAside,
    StartUnit,
    Step,
    StopUnit,
    Unsuitable,
    Wait,
    is_file,
)

_ENABLED_WITHIN = 420.0  # s, as for a reload
_SEQUENCE = "mrseq"
_TASK = "task_identity_"  # then an identity of the extension's, the same everywhere


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Put a clean directory that knows the last request in the place of the extension's."""
    unit, _ = preconditions.restartable_unit(machine)
    preconditions.no_snapshot(machine)
    version, directory = preconditions.wanted_extension(machine)
    if directory is None:
        raise Unsuitable("the extension has no directory that could be in the way")
    preconditions.wire_server_answers(machine)
    preconditions.package_can_be_had(machine)
    name = f"{waagent.VMSNAPSHOT}-{version}"
    try:
        names = machine.names(directory.path)
    except Absent:
        raise Unsuitable("the extension's directory has just gone") from None
    keep = tuple(entry for entry in names if entry == _SEQUENCE or entry.startswith(_TASK))
    for entry in keep:
        if not is_file(machine, f"{directory.path}/{entry}"):
            raise Unsuitable(f"{directory.path}/{entry} is no file that could be kept")
    yield StopUnit(unit)
    yield SetAside(name)
    yield MakeDirectory(name, keep)
    yield StartUnit(unit)
    yield Wait(f"{name}/config/HandlerState", "Enabled", _ENABLED_WITHIN)


REMEDY = Remedy(
    name="reinstall-extension",
    title="Have the agent install the VMSnapshot extension into a clean directory",
    problems=(
        "EXTENSION_VANISHED",
        "EXTENSION_FILES_MISSING",
        "EXTENSION_STATE_WRONG",
        "EXTENSION_REQUEST_IGNORED",
    ),
    plan=plan,
    worst_case=timedelta(minutes=11),
    settle=timedelta(minutes=2),
    source="https://github.com/Azure/WALinuxAgent/issues/1059",
    rung=1,
    attempts=1,
    cooldown=timedelta(hours=1),
    restarts_agent=True,
)
