"""Has the last freeze ended as it should, is the way free for the next one, and is it configured as it is meant?"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta

from backupready import mountinfo, vmsnapshot, waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Observation,
    Probe,
    Problem,
    Process,
    Scalar,
    Settings,
)

# The freezer thaws by itself this long after it was started for (its first argument), and freezes for at most 60 s by
# default; a snapshot takes seconds.
_LONGEST_FREEZE = 120.0  # s
_SELF_THAW_MARGIN = 60.0  # s
_FREEZER = re.compile(r"(?:.*/)?safefreeze(?:Arm64)?/bin/safefreeze")
_QUIET_LOG = 180.0  # s without a line in the middle of a freeze
_LOG = f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}/extension.log"
_LOG_TAIL = 64 << 10  # bytes; a whole run writes about as much
_LINE = re.compile(rb"(\d{4}[-/]\d\d[-/]\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?) ", re.ASCII)
# From one of the first on the file systems may be frozen, from one of the second on they are not.
_FREEZING = (
    b"proceeded for accepting signals",
    b"****** 1. Starting Freeze Binary",
    b"****** 2. Binary Freeze Started",
    b"****** 4. Freeze Completed",
)
_THAWED = (
    b"****** 9. Binary Process completed",
    b"****** 7. Error - Binary Process Already Completed",
    b"Binary output traces end",
    b"Logs during Freeze End",
    b"]Enable,",
    b"starting daemon",
    b"starting enable",
)
_LONGEST_LOCK = 180.0  # s; the freeze, the snapshot and the thaw
_DEFAULT_TIMEOUT, _DEFAULT_WAIT = 60, 66  # s; main/freezesnapshotter.py and main/fsfreezer.py
# The waiting counts in steps of two seconds and begins three seconds before the freezer starts.
_SHORTEST_WAIT = 4
_SECTION = "SnapshotThread"
_VMS = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"
_EXTENSION = "https://github.com/Azure/azure-linux-extensions/tree/master/VMBackup"

PROBLEMS = (
    Problem(
        "FILE_SYSTEM_LEFT_FROZEN",
        "A file system has been left frozen",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="A snapshot froze the file systems and has not thawed them: whatever writes to them stands still, and"
        " the next freeze fails. Either the extension's freezer still runs, or its log ends in the middle of a freeze"
        " while processes wait for a disk.",
        diagnosis="`ps -eo pid,etime,stat,args | grep [s]afefreeze`; `ps -eo pid,stat,wchan:32,args | awk '$2 ~ /D/'`;"
        " the end of /var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux/extension.log",
        fix="If no snapshot is being taken: `fsfreeze --unfreeze` each mount point that the freezer was given, the"
        " root last. Where no command can be started any more only a reboot helps.",
        source=_EXTENSION,
        explains=("FREEZE_LOCK_HELD", "AGENT_HUNG"),
        sightings=2,
        apart=timedelta(seconds=20),
        patience="a freezer that is about to end is seen once",
    ),
    Problem(
        "FREEZE_LOCK_HELD",
        "The lock of the freeze is held",
        Effect.RISKS,
        Cause.FREEZE,
        meaning="Azure Backup and Site Recovery share a lock, so that only one of them freezes. It is held for minutes"
        " now; a backup waits 34 s for it and then freezes all the same, which fails with UserErrorFsFreezeFailed where"
        " the other has the file systems frozen.",
        diagnosis=f"`fuser -v {vmsnapshot.FREEZE_LOCK}`; `lslocks`",
        fix="Wait until the other's recovery point is done. If its holder hangs, restart that service; do not delete"
        " the file.",
        source=_EXTENSION,
        sightings=2,
        apart=timedelta(seconds=40),
        patience="every snapshot of either holds it for up to a minute",
    ),
    Problem(
        "FREEZE_CONFIG_WRONG",
        "vmbackup.conf does not say what it is meant to say",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="/etc/azure/vmbackup.conf has a value that the extension takes otherwise, or not at all: it says"
        " nothing and goes on with its default, or gives the freeze no time.",
        diagnosis="`cat /etc/azure/vmbackup.conf`, against the `what` that was found.",
        fix="Correct the option. `timeout` and `SafeFreezeWaitInSeconds` are whole seconds, the second larger than the"
        " first; `MountsToSkip` is a list with commas and no blanks; every option belongs to [SnapshotThread].",
        source=_VMS,
        milder=(Effect.RISKS, Effect.NOTICE),
        sightings=2,
        apart=timedelta(seconds=2),
        patience="an editor may leave half a file for a moment",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Processes, the end of the extension's log, the lock, and vmbackup.conf as the extension reads it."""
    try:
        processes = machine.processes()
    except CannotTell as error:
        processes = ()
        yield CannotTell(error.why, ("FILE_SYSTEM_LEFT_FROZEN",))
    else:
        yield from _left_frozen(machine, processes)
    yield from _lock(machine, processes)
    yield from _configuration(machine)


# ------------------------------------------------------------------------------------------------------- left frozen


def _left_frozen(machine: Machine, processes: tuple[Process, ...]) -> Iterator[Observation]:
    now = machine.now()
    # A kernel thread has no arguments, and waits for disks as a matter of course.
    stuck = [process for process in processes if process.state == "D" and process.argv]
    facts: dict[str, Scalar] = {
        "waiting_for_a_disk": len(stuck),
        "first": f"{stuck[0].pid} {stuck[0].argv[0]}" if stuck else "",
    }
    freezers = [process for process in processes if process.argv and _FREEZER.fullmatch(process.argv[0])]
    for process in freezers:
        seconds = now - process.started
        if seconds > _longest(process):
            evidence = {"how": "the freezer still runs", "pid": process.pid, "seconds": int(seconds), **facts}
            evidence["mount_points"] = " ".join(process.argv[2:])
            yield Finding("FILE_SYSTEM_LEFT_FROZEN", evidence=evidence)
    if freezers or not stuck:
        return
    try:
        last = _last_freeze(machine)
    except CannotTell as error:
        yield CannotTell(error.why, ("FILE_SYSTEM_LEFT_FROZEN",))
        return
    booted = next((process.started for process in processes if process.pid == 1), now)
    if last is None or not booted < last < now - _QUIET_LOG:
        return
    # The agent writes its report every few seconds, to a file system that is frozen as all others are.
    with contextlib.suppress(Absent, CannotTell):
        if waagent.newest_report(machine).written > last + _QUIET_LOG / 2:
            return
    if any(process.started < now - _QUIET_LOG for process in stuck):
        evidence = {"how": "the log ends in a freeze", "seconds": int(now - last), "log": _LOG, **facts}
        yield Finding("FILE_SYSTEM_LEFT_FROZEN", evidence=evidence)


def _longest(freezer: Process) -> float:
    """How long a freezer may live, in seconds."""
    text = freezer.argv[1] if len(freezer.argv) > 1 else ""
    own = int(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0
    return max(_LONGEST_FREEZE, own + _SELF_THAW_MARGIN)


def _last_freeze(machine: Machine) -> float | None:
    """When the extension's log fell silent in the middle of a freeze; None if it did not."""
    try:
        data, _, _ = machine.read_new(_LOG, None, _LOG_TAIL)
    except Absent:
        return None
    since, freezing = None, False
    for line in data.splitlines():
        stamp = _LINE.match(line)
        since = waagent.timestamp(stamp[1].decode()) if stamp else since
        if any(marker in line for marker in _THAWED):
            freezing = False
        elif any(marker in line for marker in _FREEZING):
            freezing = True
    return since if freezing else None


# --------------------------------------------------------------------------------------------------------------- lock


def _lock(machine: Machine, processes: tuple[Process, ...]) -> Iterator[Observation]:
    try:
        holder = machine.lock_holder(vmsnapshot.FREEZE_LOCK)
        # Whoever wants it opens the file anew, which sets its time; the extension removes it in the end.
        seconds = machine.now() - machine.status(vmsnapshot.FREEZE_LOCK).modified
    except Absent:
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("FREEZE_LOCK_HELD",))
        return
    if holder is None or seconds < _LONGEST_LOCK:
        return
    command = next((waagent.program(process) for process in processes if process.pid == holder), "")
    own = waagent.VMSNAPSHOT in command or "main/handle.py" in command
    who = "the extension itself" if own else "another program"
    evidence: dict[str, Scalar] = {"file": vmsnapshot.FREEZE_LOCK, "pid": holder, "command": command, "who": who}
    yield Finding("FREEZE_LOCK_HELD", evidence={**evidence, "seconds": int(seconds)})


# ------------------------------------------------------------------------------------------------------ configuration


def _configuration(machine: Machine) -> Iterator[Observation]:
    path = vmsnapshot.BACKUP_CONFIG
    try:
        data = machine.read(path)
    except Absent:
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("FREEZE_CONFIG_WRONG",))
        return
    sections, why = vmsnapshot.effective_config(data)
    if why:
        yield _wrong("file", f"it cannot be parsed, so that none of it counts: {why}", "", Effect.RISKS)
        return
    for name in sections:
        if name != _SECTION and name.strip().lower() == _SECTION.lower():
            yield _wrong("section", f"the section must be called {_SECTION}: none of it counts", name, Effect.RISKS)
    config = sections.get(_SECTION, {})
    for key, text in vmsnapshot.parse_sections(data)[0].get(_SECTION, {}).items():
        if key not in config:
            yield _wrong(key, "its % cannot be expanded (write %%), so that its default counts", text, Effect.RISKS)
    yield from _times(config)
    yield from _words(config)
    try:
        yield from _skipped(config, {mount.point for mount in mountinfo.mounts(machine)})
    except CannotTell as error:
        yield CannotTell(error.why, ("FREEZE_CONFIG_WRONG",), Effect.RISKS)


def _times(config: Mapping[str, str]) -> Iterator[Observation]:
    taken = {}
    for key, default in (("timeout", _DEFAULT_TIMEOUT), ("SafeFreezeWaitInSeconds", _DEFAULT_WAIT)):
        text = config.get(key.lower(), "")
        try:
            taken[key] = int(text) if text and len(text) < 20 else default
        except ValueError:
            taken[key] = default
            yield _wrong(key, f"it is no whole number, so that {default} counts", text, Effect.NOTICE)
    timeout, wait = taken["timeout"], taken["SafeFreezeWaitInSeconds"]
    if timeout <= 0:
        yield _wrong("timeout", "the freezer refuses it, so that no freeze succeeds", str(timeout))
    if wait < _SHORTEST_WAIT:
        what = "the waiting ends before the freezer has started, so that every freeze times out"
        yield _wrong("SafeFreezeWaitInSeconds", what, str(wait))
    elif wait <= timeout:
        what = (
            f"it is not more than timeout ({timeout}): who gives up waiting leaves the file systems frozen until then"
        )
        yield _wrong("SafeFreezeWaitInSeconds", what, str(wait), Effect.RISKS)


def _words(config: Mapping[str, str]) -> Iterator[Observation]:
    method = config.get("snapshotmethod", "")
    if method and method not in vmsnapshot.SNAPSHOT_METHODS:
        what = f"there is no such method, so that {vmsnapshot.DEFAULT_SNAPSHOT_METHOD} counts"
        yield _wrong("SnapshotMethod", what, method, Effect.NOTICE)
    local = config.get("onlylocalfilesystems", "")
    if local not in ("", "True", "true", "False", "false"):
        what = "only True and true switch it on: remote file systems are asked for their size"
        yield _wrong("onlyLocalFilesystems", what, local, Effect.NOTICE)
    if config.get("fsfreeze", "").lower() in ("false", "no", "off", "0"):
        what = "nothing reads it since 2017: the file systems are frozen"
        yield _wrong("fsfreeze", what, config["fsfreeze"], Effect.NOTICE)


def _skipped(config: Mapping[str, str], points: set[str]) -> Iterator[Observation]:
    """Entries are compared as they stand, with blanks, quotes and a slash at the end."""
    wrong: list[tuple[Effect, str, str]] = []
    for entry in vmsnapshot.mounts_to_skip(config):
        meant = entry.strip().strip("\"'").strip()
        meant = meant.rstrip("/") or meant[:1]
        if not meant or (entry in points and entry != "/"):
            continue
        if meant == "/":
            wrong.append((Effect.NOTICE, entry, "the root cannot be skipped"))
        elif meant in points:
            wrong.append((Effect.RISKS, entry, f"it is not skipped, as it is not exactly {meant!r}"))
        else:
            wrong.append((Effect.NOTICE, entry, "nothing is mounted there"))
    if wrong:
        effect, entry, what = min(wrong, key=lambda one: one[0].rank)
        yield _wrong("MountsToSkip", f"{what} ({len(wrong)} such entries)" if len(wrong) > 1 else what, entry, effect)


def _wrong(option: str, what: str, value: str, effect: Effect | None = None) -> Observation:
    evidence = {"file": vmsnapshot.BACKUP_CONFIG, "option": option, "what": what, "value": value}
    return Finding("FREEZE_CONFIG_WRONG", option, evidence, effect)


PROBE = Probe(
    name="freeze",
    question="Has the last freeze ended as it should, is the way free for the next one, and is it configured as meant?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=8),
)
