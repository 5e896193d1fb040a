"""Which files of an earlier time keep the agent or the extension from what is asked of them now?

The recipe for VM agents that refuse after an upgrade, and that of Microsoft's support for a VMSnapshot that does not
heal: stop the agent, move the stale files away, start it. Which they are follows from the finding: goal state files of
another agent version; the settings and statuses of another machine; the status of a run that never ended. mrseq and
task_identity stay where they are, and so do the records of past runs and the logs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, vmsnapshot, waagent
from backupready.model import (
    Absent,
    CannotTell,
    Finding,
    Machine,
    NotNow,
    Remedy,
    SetAside,
    StartUnit,
    Step,
    StopUnit,
    Unsuitable,
    WaitForReport,
    is_there,
)

_REPORTS_WITHIN = 240.0  # s, as after any restart
_MOST = 200  # files; more are none of the cases that the recipes are for
_NUMBERED = {"config": re.compile(r"\d{1,9}\.settings", re.ASCII), "status": re.compile(r"\d{1,9}\.status", re.ASCII)}
_CLOUD_INIT = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Stop the agent, set aside what the finding makes stale, start the agent, and wait for a report."""
    unit, shown = preconditions.restartable_unit(machine)
    preconditions.wire_server_answers(machine)
    preconditions.package_can_be_had(machine)
    if finding.problem == "EXTENSION_STUCK":
        stale = _of_a_run_that_never_ended(machine, shown)
    else:
        preconditions.no_snapshot(machine)
        stale = (
            _of_another_machine(machine) if finding.problem == "EXTENSION_STATE_FOREIGN" else _of_another_agent(machine)
        )
    if len(stale) > _MOST:
        raise Unsuitable(f"{len(stale)} files are stale, more than {_MOST}: this is something else")
    aside = map(SetAside, stale)
    yield from preconditions.plain(StopUnit(unit), *aside, StartUnit(unit), WaitForReport(_REPORTS_WITHIN))


def _of_another_agent(machine: Machine) -> list[str]:
    try:
        _, stale = waagent.stale_cache(machine)
    except Absent:
        raise NotNow("a fresh goal state is being written") from None
    if not stale:
        raise Unsuitable("no file of another agent version is left")
    return stale


def _of_another_machine(machine: Machine) -> list[str]:
    """The extension's numbered settings and statuses. The agent writes those of this machine anew at its start, when it
    also clears what else it has cached of the other."""
    by = (preconditions.agent_config(machine).values.get("Provisioning.Agent") or "auto").lower()
    if by == "waagent" or (by == "auto" and not any(is_there(machine, path) for path in _CLOUD_INIT)):
        raise Unsuitable("the agent provisions this machine itself, and would do so anew at its next start")
    try:
        there = waagent.handler_directories(machine.names(waagent.LIB_DIR))
    except Absent as error:
        raise Unsuitable(f"there is no {error}") from None
    stale = []
    for directory in there:
        for folder, numbered in _NUMBERED.items() if directory.name == waagent.VMSNAPSHOT else ():
            try:
                names = machine.names(f"{directory.path}/{folder}")
            except Absent:
                continue
            base = f"{directory.name}-{directory.version}/{folder}"
            stale += [f"{base}/{name}" for name in names if numbered.fullmatch(name)]
    return stale


def _of_a_run_that_never_ended(machine: Machine, shown: dict[str, str]) -> list[str]:
    """The newest status, where its process ends with the agent's unit. With the status gone and its process alive,
    nothing would be better, and it would not be seen any more."""
    if why := vmsnapshot.frozen(machine):
        raise NotNow(f"a file system may be frozen: {why}")
    process = vmsnapshot.running(machine.processes())
    if process is None:
        raise Unsuitable("the process of the run that never ended is gone, and in nobody's way any more")
    group = shown.get("ControlGroup", "")
    ends = shown.get("KillMode") in ("control-group", "mixed") and group not in ("", "/")
    if not ends or group not in _control_groups(machine, process.pid):
        raise Unsuitable(
            f"process {process.pid} does not end with the agent's unit: end it by hand, once no file system is frozen"
        )
    directory = waagent.current_directory(machine, waagent.VMSNAPSHOT)
    path = vmsnapshot.newest_status(machine, directory) if directory else None
    if path is None:
        raise Unsuitable("the extension has no status")
    try:
        outcome = vmsnapshot.parse_status(machine.read(path), path, machine.status(path).modified)
    except Absent:
        raise NotNow(f"{path} was written anew just now") from None
    if outcome.kind is not vmsnapshot.Kind.UNDERWAY:
        raise Unsuitable(f"{path} says that the run has ended")
    if machine.now() - outcome.time <= vmsnapshot.STUCK_AFTER:
        raise NotNow(f"{path} says that a snapshot is under way, for no longer than it may be")
    return [path[len(waagent.LIB_DIR) + 1 :]]


def _control_groups(machine: Machine, pid: int) -> set[str]:
    """Where the service manager counts a process, in either version of the kernel's hierarchies."""
    path = f"/proc/{pid}/cgroup"
    try:
        rows = [line.split(":", 2) for line in machine.read(path).decode("utf-8", "replace").splitlines()]
    except Absent:
        raise CannotTell(f"there is no {path}") from None
    return {row[2] for row in rows if len(row) == 3 and (row[0] == "0" or row[1] == "name=systemd")}


REMEDY = Remedy(
    name="clear-stale-snapshot-config",
    title="Set stale goal states, settings and statuses aside",
    problems=("EXTENSION_STUCK", "EXTENSION_STATE_FOREIGN", "GOAL_STATE_CACHE_STALE"),
    plan=plan,
    worst_case=timedelta(minutes=11),
    settle=timedelta(minutes=2),
    source="https://learn.microsoft.com/troubleshoot/azure/virtual-machines/linux/extensions-stop-running",
    attempts=2,
    cooldown=timedelta(minutes=30),
    restarts_agent=True,
)
