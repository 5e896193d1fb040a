"""Is the VMSnapshot extension there, loadable, and not stuck?

Three sources are held against each other: what the goal state asks for, what lies on the disk, and what the agent
reports to the platform. The report's own "success" proves nothing: it may be the result of an earlier run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from backupready import vmsnapshot, waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Metric,
    Observation,
    Probe,
    Problem,
    Reading,
    Remember,
    Scalar,
    Setting,
    Settings,
    is_directory,
    whole_minutes,
)
from backupready.waagent import HandlerDirectory, Report, WantedHandler

_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout"
_VMS_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"
_AGENT_SOURCE = "https://github.com/Azure/WALinuxAgent"
_EXTENSION_SOURCE = "https://github.com/Azure/azure-linux-extensions/tree/master/VMBackup"

_REPORTED_WITHIN = 30.0  # s after it is enabled; a loop takes 6 s
_STATES = ("NotInstalled", "Installed", "Enabled", "FailedUpgrade")
_PACKAGE_CODES = (1001, 1004, 1005)
_PRODUCT_UUID = "/sys/class/dmi/id/product_uuid"

PROBLEMS = (
    Problem(
        "EXTENSION_NEVER_INSTALLED",
        "The VMSnapshot extension has never been installed",
        Effect.NOTICE,
        Cause.EXTENSION,
        meaning="There is no trace of the extension. The first backup installs it; an agentless policy never does.",
        diagnosis="`ls -d /var/lib/waagent/*VMSnapshotLinux*`; the VM's backup item in the portal.",
        fix="None is needed if this machine has never been backed up or its policy is agentless.",
        source="https://learn.microsoft.com/azure/backup/backup-azure-arm-vms-prepare",
    ),
    Problem(
        "EXTENSION_UNINSTALLED",
        "The VMSnapshot extension has been uninstalled",
        Effect.NOTICE,
        Cause.EXTENSION,
        meaning="It was there once, and the goal state does not ask for it any more. The next backup"
        " installs it again.",
        diagnosis="`ls /var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux`",
        fix="None is needed; protect the VM again if it should be backed up.",
        source=_TROUBLESHOOTING,
    ),
    Problem(
        "EXTENSION_VANISHED",
        "The VMSnapshot extension has vanished",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="The goal state asks for the extension, but its directory is gone, or the agent does not report it any"
        " more. The agent does nothing about that before its next start or goal state.",
        diagnosis="`ls -d /var/lib/waagent/*VMSnapshotLinux*`;"
        " `grep 'Extension status' /var/log/waagent.log | tail -1`",
        fix="Restart the agent: it installs the extension anew. If that does not help, uninstall the extension in the"
        " portal; the next backup installs it.",
        source=_TROUBLESHOOTING,
        remedy="reload-extension",
        explains=(
            "EXTENSION_NOT_READY",
            "EXTENSION_FILES_MISSING",
            "EXTENSION_STATE_WRONG",
            "EXTENSION_REQUEST_IGNORED",
        ),
        sightings=2,
        apart=timedelta(seconds=10),
        patience="the agent takes a loop to report a handler that it has just installed",
    ),
    Problem(
        "EXTENSION_NOT_READY",
        "The VMSnapshot extension is not ready",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="The agent reports the handler as not ready, with the code of what failed last. The extension's own"
        " status beside it may still say success: that is the result of an earlier run.",
        diagnosis="`handlerAggregateStatus` in the newest waagent_status*.json; config/HandlerStatus in the handler's"
        " directory; CommandExecution.log and shell.log below /var/log/azure.",
        fix="By code: 1001, 1004, 1005 the package; 1002, 1003 lost files; 1007 to 1011 the command that failed, whose"
        " output is in the message. If the cause is gone: restart the agent, which enables the extension anew.",
        source=_AGENT_SOURCE,
        explains=("EXTENSION_STATE_WRONG", "EXTENSION_REQUEST_IGNORED"),
        sightings=2,
        apart=timedelta(seconds=10),
        patience="a handler that is being enabled may be reported in between",
    ),
    Problem(
        "EXTENSION_FILES_MISSING",
        "Files of the VMSnapshot extension are missing or broken",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="The extension counts as installed, but HandlerManifest.json, HandlerEnvironment.json or its program is"
        " missing or cannot be parsed. The agent never reinstalls in this state.",
        diagnosis="`ls -lR` of the handler's directory below /var/lib/waagent",
        fix="Remove config/HandlerState in the handler's directory (keep mrseq) and restart the agent, which then"
        " installs the extension anew; or uninstall the extension in the portal.",
        source=_AGENT_SOURCE,
        remedy="reload-extension",
        explains=("EXTENSION_NOT_READY", "EXTENSION_STATE_WRONG", "EXTENSION_REQUEST_IGNORED"),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="an update unpacks file by file",
    ),
    Problem(
        "EXTENSION_STATE_WRONG",
        "The VMSnapshot extension is in a wrong state",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="Its HandlerState is not Enabled for longer than an installation takes, or is no state at all, although"
        " the goal state wants it enabled.",
        diagnosis="`cat /var/lib/waagent/*VMSnapshotLinux*/config/HandlerState`",
        fix="Remove config/HandlerState in the handler's directory (keep mrseq) and restart the agent.",
        source=_AGENT_SOURCE,
        remedy="reload-extension",
        explains=("EXTENSION_REQUEST_IGNORED",),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="the state passes through several values while the extension is installed",
    ),
    Problem(
        "EXTENSION_SEVERAL_VERSIONS",
        "Several versions of the VMSnapshot extension are enabled",
        Effect.RISKS,
        Cause.EXTENSION,
        meaning="An upgrade was left half done: more than one version's directory says Enabled.",
        diagnosis="`grep -H . /var/lib/waagent/*VMSnapshotLinux*/config/HandlerState`",
        fix="Restart the agent, which cleans up versions that the goal state does not name.",
        source=_AGENT_SOURCE,
        sightings=3,
        apart=timedelta(seconds=20),
        patience="during an upgrade both are there",
    ),
    Problem(
        "EXTENSION_REQUEST_IGNORED",
        "The VMSnapshot extension has not taken up its newest request",
        Effect.RISKS,
        Cause.EXTENSION,
        meaning="The newest N.settings has waited longer than it may for the extension to note it in mrseq.",
        diagnosis="`ls -l config/*.settings mrseq` in the handler's directory; shell.log and extension.log.",
        fix="Restart the agent, which enables the extension with that request again.",
        source=_EXTENSION_SOURCE,
        remedy="reload-extension",
        sightings=2,
        apart=timedelta(seconds=20),
        patience="after a suspension or a step of the clock everything looks old for a moment",
    ),
    Problem(
        "EXTENSION_STUCK",
        "The VMSnapshot extension is stuck in a snapshot",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="Its newest status says that a snapshot is under way since longer than the extension itself allows"
        " (140 minutes).",
        diagnosis="The newest status/N.status in the handler's directory; the end of extension.log.",
        fix="Make sure that no file system is frozen; then restart the agent, or uninstall the extension in the"
        " portal.",
        source=_EXTENSION_SOURCE,
        remedy="clear-stale-snapshot-config",
        sightings=2,
        apart=timedelta(seconds=20),
        patience="after a suspension or a step of the clock everything looks old for a moment",
    ),
    Problem(
        "EXTENSION_STATE_FOREIGN",
        "The agent's state belongs to another machine",
        Effect.RISKS,
        Cause.EXTENSION,
        meaning="/var/lib/waagent/provisioned names another machine than this one: the disk was restored or cloned, and"
        " settings and status of the other machine are still there.",
        diagnosis="`cat /var/lib/waagent/provisioned /sys/class/dmi/id/product_uuid`",
        fix="Restart the agent, which clears cached state of another machine.",
        source=_AGENT_SOURCE,
        remedy="clear-stale-snapshot-config",
        sightings=2,
        patience="the agent rewrites the file at its first start after a restore",
    ),
    Problem(
        "GOAL_STATE_CACHE_STALE",
        "Goal state files of another agent version are left over",
        Effect.RISKS,
        Cause.EXTENSION,
        meaning="Files beside the handlers were left by an older agent. Some versions read them and then refuse, for"
        " instance with `Downgrade is not allowed`.",
        diagnosis="`ls /var/lib/waagent/*.[0-9]*.xml /var/lib/waagent/*.agentsManifest"
        " /var/lib/waagent/*.manifest.xml`",
        fix="Stop the agent, move these files away, start it.",
        source="https://learn.microsoft.com/troubleshoot/azure/virtual-machines/linux/extensions-stop-running",
        remedy="clear-stale-snapshot-config",
        sightings=3,
        apart=timedelta(seconds=5),
        patience="a new goal state is written file by file, and an agent that starts clears the old ones",
    ),
    Problem(
        "EXTENSION_PACKAGE_UNAVAILABLE",
        "The VMSnapshot extension's package cannot be had",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="The agent cannot download or unpack the extension. While it tries, it does nothing else and its report"
        " stands still.",
        diagnosis="`grep -i download /var/log/waagent.log | tail`",
        fix="Make sure that 168.63.129.16:32526 answers root, which fetches packages where the storage cannot be"
        " reached directly, and that /var/lib/waagent has space.",
        source=_VMS_TROUBLESHOOTING,
        explains=(
            "EXTENSION_NOT_READY",
            "EXTENSION_STATE_WRONG",
            "EXTENSION_VANISHED",
            "EXTENSION_FILES_MISSING",
        ),
        sightings=2,
        apart=timedelta(seconds=10),
        patience="a download is retried",
    ),  # fmt: skip
    Problem(
        "EXTENSION_LOG_PATH_BLOCKED",
        "The VMSnapshot extension has nowhere to log",
        Effect.BLOCKS,
        Cause.EXTENSION,
        meaning="A part of /var/log/azure/<handler> is something else than a directory, so the handler cannot start.",
        diagnosis="`ls -ld /var/log/azure /var/log/azure/*`",
        fix="Move the file away and restart the agent.",
        source=_AGENT_SOURCE,
        explains=("EXTENSION_NOT_READY", "EXTENSION_STATE_WRONG"),
    ),
    Problem(
        "OTHER_EXTENSION_FAILED",
        "Another extension has failed",
        Effect.RISKS,
        Cause.EXTENSION,
        meaning="The agent reports another handler as not ready or failed. The platform then shows the VM's"
        " provisioning state as failed, and a backup job may refuse with UserErrorVmProvisioningStateFailed.",
        diagnosis="`handlerAggregateStatus` in the newest waagent_status*.json, or Extensions in the portal.",
        fix="Repair or uninstall that extension.",
        source=_TROUBLESHOOTING,
        sightings=2,
        apart=timedelta(seconds=10),
        patience="an extension that is being enabled may be reported in between",
    ),
)

METRICS = (
    Metric(
        "backupready_extension_info",
        "The VMSnapshot extension as the agent reports it.",
        ("version", "status", "state"),
        clause="As the agent reports it.",
    ),
    Metric(
        "backupready_extension_code",
        "The agent's code for the VMSnapshot extension, 0 when ready.",
        clause="The agent's code, 0 when ready.",
    ),
)


SETTINGS = (
    Setting(
        "extension",
        "settle_minutes",
        "15",
        "How long an installation or a request may be under way before it counts as failed.",
        whole_minutes,
        "a number of minutes",
    ),
)


@dataclass(frozen=True)
class _Sources:
    """The three sources; None where one is certainly absent."""

    directories: tuple[HandlerDirectory, ...]
    wanted: WantedHandler | None
    report: Report | None
    goal_state_kept: bool  # and can be read
    goal_state_since: float  # seconds since the epoch


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Hold the three sources against each other."""
    names = machine.names(waagent.LIB_DIR)
    directories = tuple(d for d in waagent.handler_directories(names) if d.name == waagent.VMSNAPSHOT)
    report, wanted, goal_state_kept, since = None, None, True, 0.0
    try:
        report = waagent.newest_report(machine)
    except Absent:
        pass
    except CannotTell as error:
        yield CannotTell(error.why, ("EXTENSION_NOT_READY", "EXTENSION_VANISHED", "OTHER_EXTENSION_FAILED"))
    try:
        path, handlers = waagent.wanted_handlers(machine)
        wanted = next((handler for handler in handlers if handler.name == waagent.VMSNAPSHOT), None)
        since = machine.status(path).modified
    except Absent:
        goal_state_kept = False
        yield CannotTell("the agent has kept no goal state", ("EXTENSION_VANISHED",))
    except CannotTell as error:
        goal_state_kept = False
        yield CannotTell(error.why, ("EXTENSION_VANISHED",))
    sources = _Sources(directories, wanted, report, goal_state_kept, since)
    yield from _presence(machine, sources, settings)
    yield from _reported(sources)
    states: dict[HandlerDirectory, str | None] = {}
    for directory in directories:
        try:
            states[directory] = _state(machine, directory)
        except CannotTell as error:
            yield CannotTell(
                error.why, ("EXTENSION_STATE_WRONG", "EXTENSION_FILES_MISSING", "EXTENSION_SEVERAL_VERSIONS")
            )
    enabled = [directory for directory, state in states.items() if state == "Enabled"]
    if len(enabled) > 1:
        versions = " ".join(directory.version for directory in enabled)
        yield Finding("EXTENSION_SEVERAL_VERSIONS", evidence={"versions": versions})
    current = _current(sources, enabled)
    handler = report.handler(waagent.VMSNAPSHOT) if report else None
    if current is not None:
        labels = {
            "version": current.version,
            "status": handler.status if handler else "",
            "state": states.get(current) or "",
        }
        yield Reading("backupready_extension_info", 1, labels)
        yield from _files(machine, current, states)
        yield from _wrong_state(machine, current, states, sources, settings)
        yield from _requests(machine, current, settings)
    yield from _package(machine, sources)
    yield from _log_path(machine)
    yield from _foreign(machine)
    yield from _stale_cache(machine)


def _presence(machine: Machine, sources: _Sources, settings: Settings) -> Iterator[Observation]:
    """Is it there at all, and is that meant?"""
    asked_for = sources.wanted is not None and sources.wanted.state == "enabled"
    if not sources.directories:
        if asked_for and sources.wanted is not None:
            # It may still be waiting behind another extension's installation.
            try:
                waited = machine.now() - sources.goal_state_since
            except CannotTell as error:
                yield CannotTell(error.why, ("EXTENSION_VANISHED",))
                return
            if waited > settings["settle_minutes"].total_seconds():
                yield Finding("EXTENSION_VANISHED", evidence={"asked_for": sources.wanted.version, "directory": None})
            else:
                why = f"the goal state of {waited:.0f} s ago asks for the extension, which is not installed yet"
                yield CannotTell(why, ("EXTENSION_VANISHED",))
            return
        try:
            traces = is_directory(machine, f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}")
        except CannotTell as error:
            yield CannotTell(error.why, ("EXTENSION_NEVER_INSTALLED", "EXTENSION_UNINSTALLED"))
            return
        if not traces:
            yield Finding("EXTENSION_NEVER_INSTALLED")
        elif sources.goal_state_kept:
            yield Finding("EXTENSION_UNINSTALLED")
        else:
            yield CannotTell("no goal state can be read", ("EXTENSION_UNINSTALLED",))
        return
    if asked_for and sources.report is not None and sources.report.handler(waagent.VMSNAPSHOT) is None:
        newest = sources.directories[-1]
        try:
            enabled_at = machine.status(f"{newest.path}/config/HandlerState").modified
        except Absent:
            return  # it is being installed, or its state is wrong, which is found below
        if sources.report.written > enabled_at + _REPORTED_WITHIN:
            evidence: dict[str, Scalar] = {"directory": newest.path, "report": sources.report.path, "reported": False}
            yield Finding("EXTENSION_VANISHED", evidence=evidence)


def _reported(sources: _Sources) -> Iterator[Observation]:
    """What the agent tells the platform of every handler."""
    if sources.report is None:
        return
    for handler in sources.report.handlers:
        code = handler.code if handler.code is not None else 0
        failed = handler.status != "Ready" or code != 0
        evidence: dict[str, Scalar] = {
            "version": handler.version,
            "status": handler.status,
            "code": handler.code,
            "meaning": waagent.HANDLER_CODES.get(code, "not documented"),
            "message": " ".join(handler.message.split()),
        }
        if handler.name == waagent.VMSNAPSHOT:
            yield Reading("backupready_extension_code", code)
            if code in _PACKAGE_CODES:
                yield Finding("EXTENSION_PACKAGE_UNAVAILABLE", evidence=evidence)
            elif failed:
                # For lost files there is a more precise finding, which explains this one.
                yield Finding("EXTENSION_NOT_READY", evidence=evidence)
        elif failed or handler.settings_status == "error":
            # What follows the first line is what the extension has printed.
            first = " ".join(handler.message.strip().partition("\n")[0].split())
            evidence = {**evidence, "message": first, "result": handler.settings_status}
            yield Finding("OTHER_EXTENSION_FAILED", handler.name, evidence)


def _state(machine: Machine, directory: HandlerDirectory) -> str | None:
    """The bare text of HandlerState; None when there is none."""
    try:
        return machine.read(f"{directory.path}/config/HandlerState", 4096).decode("utf-8", "replace").strip()
    except Absent:
        return None


def _current(sources: _Sources, enabled: list[HandlerDirectory]) -> HandlerDirectory | None:
    """The version that counts."""
    handler = sources.report.handler(waagent.VMSNAPSHOT) if sources.report else None
    versions = (handler.version if handler else None, sources.wanted.version if sources.wanted else None)
    return waagent.counting(sources.directories, versions, enabled.__contains__)


def _files(
    machine: Machine, directory: HandlerDirectory, states: dict[HandlerDirectory, str | None]
) -> Iterator[Observation]:
    """Of an installed handler: the two documents that the agent needs, and its program."""
    if states.get(directory) not in ("Enabled", "Installed"):
        return
    for name in ("HandlerManifest.json", "HandlerEnvironment.json"):
        path = f"{directory.path}/{name}"
        try:
            document = waagent.parse_json(machine.read(path), path)
            if not isinstance(document, list) or not document or not isinstance(document[0], dict):
                yield Finding("EXTENSION_FILES_MISSING", name, {"file": path, "state": "broken"})
        except Absent:
            yield Finding("EXTENSION_FILES_MISSING", name, {"file": path, "state": "missing"})
        except CannotTell as error:
            if "is not JSON" in error.why:
                yield Finding("EXTENSION_FILES_MISSING", name, {"file": path, "state": "broken"})
            else:
                yield CannotTell(error.why, ("EXTENSION_FILES_MISSING",))
    program = f"{directory.path}/main/handle.sh"
    try:
        machine.status(program)
    except Absent:
        yield Finding("EXTENSION_FILES_MISSING", "main/handle.sh", {"file": program, "state": "missing"})
    except CannotTell as error:
        yield CannotTell(error.why, ("EXTENSION_FILES_MISSING",))


def _wrong_state(
    machine: Machine,
    directory: HandlerDirectory,
    states: dict[HandlerDirectory, str | None],
    sources: _Sources,
    settings: Settings,
) -> Iterator[Observation]:
    """A state that is none is wrong at once; one on the way to Enabled only when it stays."""
    if directory not in states or states[directory] == "Enabled":
        return
    # A goal state that does not ask for it has left the directory behind.
    if sources.goal_state_kept and (sources.wanted is None or sources.wanted.state != "enabled"):
        return
    state = states[directory]
    evidence = {"directory": directory.path, "HandlerState": state}
    if state is not None and state not in _STATES:
        yield Finding("EXTENSION_STATE_WRONG", evidence=evidence)
        return
    try:
        since = machine.status(directory.path if state is None else f"{directory.path}/config/HandlerState").modified
        if machine.now() - since > settings["settle_minutes"].total_seconds():
            yield Finding("EXTENSION_STATE_WRONG", evidence=evidence)
    except Absent:
        return  # it has just gone; the next look sees what came of it
    except CannotTell as error:
        yield CannotTell(error.why, ("EXTENSION_STATE_WRONG",))


_NUMBERED = re.compile(r"(\d{1,9})\.(?:settings|status)")


def _requests(machine: Machine, directory: HandlerDirectory, settings: Settings) -> Iterator[Observation]:
    """The newest request against the last one that the extension took up, and the status of the newest run."""
    try:
        asked = _highest(machine, f"{directory.path}/config", ".settings")
        if asked is not None:
            done = _mrseq(machine, directory)
            path = f"{directory.path}/config/{asked}.settings"
            if done is None or done < asked:
                waited = machine.now() - machine.status(path).modified
                if waited > settings["settle_minutes"].total_seconds():
                    evidence = {"asked": asked, "taken_up": done, "waited_seconds": round(waited)}
                    yield Finding("EXTENSION_REQUEST_IGNORED", evidence=evidence)
    except Absent:
        pass  # renamed or removed while we looked
    except CannotTell as error:
        yield CannotTell(error.why, ("EXTENSION_REQUEST_IGNORED",))
    try:
        newest = _highest(machine, f"{directory.path}/status", ".status")
        if newest is not None:
            yield from _stuck(machine, directory, newest)
    except Absent:
        pass
    except CannotTell as error:
        yield CannotTell(error.why, ("EXTENSION_STUCK",))


def _stuck(machine: Machine, directory: HandlerDirectory, newest: int) -> Iterator[Observation]:
    """A run that says it is under way, for too long, and whose process lives: one that died with the machine leaves the
    same status, and is in nobody's way."""
    path = f"{directory.path}/status/{newest}.status"
    outcome = vmsnapshot.parse_status(machine.read(path), path)
    if outcome.kind is not vmsnapshot.Kind.UNDERWAY:
        return
    age = machine.now() - outcome.time
    if age <= vmsnapshot.STUCK_AFTER:
        return
    process = vmsnapshot.running(machine.processes())
    if process is not None:
        yield Finding("EXTENSION_STUCK", evidence={"file": path, "since_seconds": round(age), "pid": process.pid})


def _highest(machine: Machine, path: str, suffix: str) -> int | None:
    numbers = [
        int(match.group(1))
        for name in machine.names(path)
        for match in [_NUMBERED.fullmatch(name)]
        if match and name.endswith(suffix)
    ]
    return max(numbers, default=None)


def _mrseq(machine: Machine, directory: HandlerDirectory) -> int | None:
    """The sequence number of the last request that the extension took up; None when it never wrote one."""
    try:
        text = machine.read(f"{directory.path}/mrseq", 4096).decode("ascii", "replace").strip()
    except Absent:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise CannotTell(f"{directory.path}/mrseq holds no number")
    return int(text)


def _package(machine: Machine, sources: _Sources) -> Iterator[Observation]:
    """Did the newest download fail?"""
    try:
        facts, memory = waagent.follow_log(machine)
    except Absent:
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("EXTENSION_PACKAGE_UNAVAILABLE",))
        return
    yield Remember(memory)
    if facts.package_error is None or sources.wanted is None or sources.wanted.state != "enabled":
        return
    # The agent keeps no package that it could not download or unpack; one that is installed is not in need of it.
    for directory in sources.directories:
        if directory.version == sources.wanted.version:
            try:
                installed = _state(machine, directory) not in (None, "NotInstalled")
            except CannotTell as error:
                yield CannotTell(error.why, ("EXTENSION_PACKAGE_UNAVAILABLE",))
                return
            if installed:
                return
    yield Finding("EXTENSION_PACKAGE_UNAVAILABLE", evidence={"log": facts.package_error_text})


def _log_path(machine: Machine) -> Iterator[Observation]:
    for path in (waagent.EXTENSION_LOGS, f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}"):
        try:
            kind = machine.status(path).kind
        except Absent:
            return
        except CannotTell as error:
            yield CannotTell(error.why, ("EXTENSION_LOG_PATH_BLOCKED",))
            return
        if kind != "directory":
            yield Finding("EXTENSION_LOG_PATH_BLOCKED", evidence={"path": path, "kind": kind})
            return


def _foreign(machine: Machine) -> Iterator[Observation]:
    """The machine that the agent was provisioned on against the one that this is; the firmware's byte order varies."""
    try:
        kept = machine.read(f"{waagent.LIB_DIR}/provisioned", 4096).decode("ascii", "replace").strip().lower()
        if not kept:
            raise CannotTell("the agent noted no machine when it was provisioned")
        this = machine.read(_PRODUCT_UUID, 4096).decode("ascii", "replace").strip().lower()
    except Absent as error:
        yield CannotTell(f"there is no {error}", ("EXTENSION_STATE_FOREIGN",))
    except CannotTell as error:
        yield CannotTell(error.why, ("EXTENSION_STATE_FOREIGN",))
    else:
        if kept not in (this, _swapped(this)):
            yield Finding("EXTENSION_STATE_FOREIGN", evidence={"provisioned": kept, "this_machine": this})


def _swapped(uuid: str) -> str:
    """The first three groups of a UUID in the other byte order."""
    groups = uuid.split("-")
    turned = ["".join(reversed([group[i : i + 2] for i in range(0, len(group), 2)])) for group in groups[:3]]
    return "-".join(turned + groups[3:])


def _stale_cache(machine: Machine) -> Iterator[Observation]:
    """Goal state files beside the handlers that this agent version would not have written."""
    try:
        version, stale = waagent.stale_cache(machine)
    except Absent:
        return  # a fresh goal state is being written
    except CannotTell as error:
        yield CannotTell(error.why, ("GOAL_STATE_CACHE_STALE",))
        return
    if stale:
        evidence: dict[str, Scalar] = {"files": len(stale), "first": stale[0], "agent_version": version}
        yield Finding("GOAL_STATE_CACHE_STALE", evidence=evidence)


PROBE = Probe(
    name="extension",
    question="Is the VMSnapshot extension there, loadable, and not stuck?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=10),
    metrics=METRICS,
    settings=SETTINGS,
)
