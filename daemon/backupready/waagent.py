"""What do the VM agent's own files say, its unit and its package? Their places and formats, for agents 2.2 to 2.15.

Pure functions over bytes, and a few that fetch those bytes through a Machine. Whatever the bytes are, the only
exception is CannotTell. Facts about the formats were measured with agents 2.7.3.0 and 2.15.0.1.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import Any

from backupready.model import Absent, CannotTell, Cursor, Machine, Process, in_utc

LIB_DIR = "/var/lib/waagent"
LOG = "/var/log/waagent.log"
EXTENSION_LOGS = "/var/log/azure"
PID_FILE = "/run/waagent.pid"
# Clear Linux, CoreOS and Flatcar keep it elsewhere; everybody else in /etc.
CONFIG_PATHS = (
    "/etc/waagent.conf",
    "/usr/share/oem/waagent.conf",
    "/usr/share/defaults/waagent/waagent.conf",
)
# Ubuntu and Debian have the first, everybody else the second.
UNITS = ("walinuxagent.service", "waagent.service")
# The version from which on the agent keeps what it reports in a file.
REPORTS_SINCE = (2, 2, 34)
BINARIES = ("/usr/sbin/waagent", "/usr/bin/waagent", "/usr/share/oem/bin/waagent")
VMSNAPSHOT = "Microsoft.Azure.RecoveryServices.VMSnapshotLinux"
# The chassis asset tag in the firmware of every Azure VM.
AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"

_HANDLER_DIRECTORY = re.compile(r"([A-Za-z][\w.]*\.[\w.]+)-(\d+(?:\.\d+)+)")
_MOST_RECORD_TEXT = 4000  # characters; a traceback that says what happened is shorter


def version_of(text: str) -> tuple[int, ...]:
    """`2.7.3.0` as numbers to compare; what is no number is no version. Raises CannotTell."""
    numbers = text.split(".")
    if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
        raise CannotTell(f"{text[:40]!r} is no version")
    return tuple(int(number) for number in numbers)


_TIMESTAMP = re.compile(r"(\d{4})[-/](\d\d)[-/](\d\d)[T ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?Z?", re.ASCII)


def timestamp(text: object) -> float | None:
    """`2026-11-23T00:08:28.096237Z`, and the old log's `2018/03/05 14:31:57.742721`, as seconds since the epoch."""
    match = _TIMESTAMP.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        return None
    *whole, fraction = match.groups()
    year, month, day, hour, minute, second = (int(number) for number in whole)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    except ValueError:
        return None
    return moment.timestamp() + float(f"0.{fraction or 0}")


# --------------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class AgentProcesses:
    """The agent's two processes: the daemon, and the worker that it launches to do all the work."""

    daemon: Process | None
    worker: Process | None
    busy: bool  # the worker runs a command of an extension


def agent_processes(processes: tuple[Process, ...]) -> AgentProcesses:
    """Pick the agent's processes out of the process table, by their arguments (their names are all `python3`)."""
    daemon = worker = None
    for process in processes:
        if process.state == "Z" or not any(_is_agent_program(word) for word in process.argv[:4]):
            continue
        if "-daemon" in process.argv[1:5]:
            daemon = process
        elif "-run-exthandlers" in process.argv[1:5]:
            worker = process
    busy = worker is not None and any(
        process.parent == worker.pid and process.state != "Z" and "-collect-logs" not in process.argv
        for process in processes
    )
    return AgentProcesses(daemon, worker, busy)


_INTERPRETER = re.compile(r"(?:.*/)?(?:python|perl|ruby|bash|dash|sh)[\d.]*")
_FLAGS = re.compile(r"-[BEIOSqsu]+")


def program(process: Process) -> str:
    """What runs there, without its arguments, which may hold secrets; of an interpreter with its script."""
    first, *others = process.argv or ("",)
    if _INTERPRETER.fullmatch(first):
        script = next((word for word in others if not _FLAGS.fullmatch(word)), "")
        # After -c stands a program, and other options may have values.
        if script and not script.startswith("-"):
            return f"{first} {script}"
    return first


def _is_agent_program(word: str) -> bool:
    return word.endswith("/waagent") or word == "waagent" or "WALinuxAgent-" in word


# --------------------------------------------------------------------------------------------------------- log


@dataclass(frozen=True)
class Record:
    """One record of waagent.log with its continuation lines; `time` is seconds since the epoch."""

    time: float
    level: str
    thread: str
    text: str


_RECORD = re.compile(
    r"(?:(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6})Z (VERBOSE|INFO|WARNING|ERROR) (\S+) ?"
    r"|(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{1,6}) (VERBOSE|INFO|WARNING|ERROR) )"
)


def records(data: bytes) -> Iterator[Record]:
    """The records of a piece of log. What stands before the first record's beginning is left out.

    What an extension printed stands between lines `[stdout]` and `[stderr]` of a record and may look like records of
    the agent's; the agent cuts it well below the bound of a record's text.
    """
    current: Record | None = None
    printed = False
    for line in data.decode("utf-8", "replace").split("\n"):
        match = _RECORD.match(line)
        moment = timestamp(match.group(1) or match.group(4)) if match else None
        inside = printed and current is not None and len(current.text) < _MOST_RECORD_TEXT
        if match and moment is not None and not inside:
            if current is not None:
                yield current
            level, thread = match.group(2) or match.group(5), match.group(3) or ""
            current = Record(moment, level, thread, line[match.end() :][:_MOST_RECORD_TEXT])
            printed = False
        elif current is not None and len(current.text) < _MOST_RECORD_TEXT:
            printed = line == "[stdout]" or (printed and line != "[stderr]")
            current = replace(current, text=f"{current.text}\n{line}"[:_MOST_RECORD_TEXT])
    if current is not None:
        yield current


@dataclass(frozen=True)
class LogFacts:
    """What the log says up to now. Times are seconds since the epoch, None when it has not been seen.

    A start of the daemon makes everything older than it moot, the versions apart.
    """

    daemon_version: str | None = None
    worker_version: str | None = None
    python: str | None = None
    worker_started: float | None = None
    worker_failures: tuple[float, ...] = ()  # the newest few
    worker_failure: str | None = None
    heartbeat: float | None = None
    heartbeat_goal_state_errors: int = 0
    heartbeat_errors_stand: bool = False  # it counted errors, and no recovery was logged since the one before it
    good_since_heartbeat: bool = False
    goal_state_error: float | None = None
    goal_state_error_text: str | None = None
    goal_state_good: float | None = None
    status_errors_since: float | None = None
    status_error: float | None = None
    status_error_text: str | None = None
    certificate_error: float | None = None
    certificate_error_in_fetch: bool = False
    certificate_error_text: str | None = None
    provisioning_waits: float | None = None
    provisioning_text: str | None = None
    protocol_retries: int = 0
    package_error: float | None = None
    package_error_text: str | None = None

    @property
    def version(self) -> str | None:
        """Of the agent that fetches goal states; a downloaded one may be newer than the daemon."""
        return self.worker_version or self.daemon_version


_MOST_FAILURES = 8
_STATUS_ERROR_GAP = 300.0  # s; a failing agent repeats itself every loop, at most ≈ 100 s long

# One alternative a fact; the first that matches counts.
_FACTS = re.compile(
    "|".join(
        f"(?P<{name}>{pattern})"
        for name, pattern in {
            "daemon_version": r"Azure Linux Agent Version: ?(?P<daemon>\S+)",
            # A second daemon says its version too, but ends before this.
            "daemon_start": r"^(?:Daemon )?Run daemon$",
            "python": r"^(?:Daemon |ExtHandler )?Python: (?P<python_version>\d\S*)",
            "heartbeat": r"\[HEARTBEAT\] Agent WALinuxAgent-(?P<heartbeat_version>\S+) is running as the goal state"
            r" agent \[DEBUG .{0,300}?UpdateGSErrors: (?P<heartbeat_errors>\d{1,9})",
            "worker_start": r"Azure Linux Agent \(Goal State Agent version (?P<worker_1>[^\s)]+)\)"
            r"|Agent WALinuxAgent-(?P<worker_2>\S+) is running as the goal state agent"
            r"|WALinuxAgent-(?P<worker_3>\S+) running as process",
            "worker_failed": r"^(?:Daemon )?Agent \S+ launched with command '[^']*' failed with return code: -?\d+",
            "worker_exception": r"Agent WALinuxAgent-\S+ failed with exception: (?P<exception>[^\n]*)",
            "certificate_error": r"Error fetching the goal state certificates.*"
            r"|Error in transport decryption.*|Failed to decrypt /var/lib/waagent/.*",
            "certificate_good": r"Downloaded certificate ",
            "fetch_start": r"Fetching (?:full )?goal state (?:from the WireServer )?\[incarnation",
            # Said whether the fetch succeeded or not.
            "fetch_end": r"Fetch goal state (?:from WireServer )?completed",
            "goal_state_error": r"Error fetching the goal state:[^\n]*"
            r"|Fetching the goal state is still failing[^\n]*|Fetching the goal state failed[^\n]*"
            r"|An error occurred while retrieving the goal state[^\n]*"
            r"|Attempts to retrieve the goal state are failing[^\n]*",
            "goal_state_good": r"goal state recovered from previous errors"
            r"|Fetched new vmSettings"
            # Agents 2.2.54 to 2.3.1 have the shortest of these names.
            r"|Process(?:Extensions(?:In)?)?GoalState started",
            "status_error": r"Failed to report vm agent status[^\n]*",
            "provisioning": r"Waiting for cloud-init to copy ovf-env\.xml[^\n]*|[Ww]aiting for ssh host key[^\n]*"
            r"|Waiting for ssh host key be generated[^\n]*",
            "protocol_retry": r"Retry detect protocol: retry=(?P<retry>\d{1,6})",
            "package_good": rf"Initializing extension {re.escape(VMSNAPSHOT)}",
        }.items()
    )
)
# Of our extension alone: another's failure is in the agent's report.
_PACKAGE_ERROR = re.compile(
    "Failed to download artifacts:|Error downloading extension package:"
    "|Failed to download the extension package from all uris|Failed to retrieve extension manifest"
)


def fold(facts: LogFacts, record: Record) -> LogFacts:
    """The facts, with one more record known."""
    # The first line alone is the agent's own; the rest may be what an extension has printed.
    line = record.text.partition("\n")[0]
    match = _FACTS.search(line)
    if match is None:
        if VMSNAPSHOT in line and _PACKAGE_ERROR.search(line):
            return replace(facts, package_error=record.time, package_error_text=line)
        return facts
    kind, time, text = match.lastgroup, record.time, match.group(0)
    found = {name for name, value in match.groupdict().items() if value is not None}
    group = match.group
    if "daemon_start" in found:
        return LogFacts(daemon_version=facts.daemon_version, python=facts.python)
    change: dict[str, Any] = {}
    if "daemon_version" in found:
        change = {"daemon_version": group("daemon")}
    elif "python" in found:
        change = {"python": group("python_version")}
    elif "heartbeat" in found:
        change = {
            "worker_version": group("heartbeat_version"),
            "heartbeat": time,
            "heartbeat_goal_state_errors": int(group("heartbeat_errors")),
            "heartbeat_errors_stand": int(group("heartbeat_errors")) > 0 and not facts.good_since_heartbeat,
            "good_since_heartbeat": False,
        }
        if int(group("heartbeat_errors")) == 0:
            # No fetch has failed since the heartbeat before it.
            change |= {"goal_state_error": None, "goal_state_error_text": None}
    elif "worker_start" in found:
        version = group("worker_1") or group("worker_2") or group("worker_3")
        change = {"worker_version": version, "worker_started": time, "protocol_retries": 0}
    elif "worker_failed" in found:
        change = {"worker_failures": (*facts.worker_failures, time)[-_MOST_FAILURES:]}
    elif "worker_exception" in found:
        change = {"worker_failure": group("exception")}
    elif "certificate_error" in found:
        change = {"certificate_error": time, "certificate_error_text": text, "certificate_error_in_fetch": True}
    elif "certificate_good" in found:
        change = {"certificate_error": None, "certificate_error_text": None}
    elif "fetch_start" in found:
        change = {"certificate_error_in_fetch": False}
    elif "fetch_end" in found:
        # Agents before 2.6 do not say when a fetch begins: the next one does with the end of this.
        change = {"certificate_error_in_fetch": False}
        if not facts.certificate_error_in_fetch:
            change |= {"certificate_error": None, "certificate_error_text": None}
    elif "goal_state_error" in found:
        change = {"goal_state_error": time, "goal_state_error_text": text}
    elif "goal_state_good" in found:
        # The order of the lines counts, not their times: the clock may have been set back in between.
        change = {
            "goal_state_error": None,
            "goal_state_error_text": None,
            "goal_state_good": time,
            "heartbeat_errors_stand": False,
            "good_since_heartbeat": True,
        }
    elif "status_error" in found:
        lasting = facts.status_error is not None and time - facts.status_error <= _STATUS_ERROR_GAP
        since = facts.status_errors_since if lasting else time
        change = {"status_errors_since": since, "status_error": time, "status_error_text": text}
    elif "provisioning" in found:
        change = {"provisioning_waits": time, "provisioning_text": text}
    elif "protocol_retry" in found:
        change = {"protocol_retries": int(group("retry")) + 1}
    elif "package_good" in found:
        change = {"package_error": None, "package_error_text": None}
    else:
        raise AssertionError(f"the fact {kind} has no meaning here")
    return replace(facts, **change)


def follow_log(machine: Machine) -> tuple[LogFacts, Mapping[str, Any]]:
    """The facts of the log up to its end, and what to remember for the next look.

    Reads only what was appended since the remembered position, never more than the machine's bound, so that the
    size of the log does not matter. Raises Absent when there is no log.
    """
    cursor, facts = _recall(machine.memory)
    data, cursor, skipped = machine.read_new(LOG, cursor)
    if skipped:
        # Whatever was skipped may have ended what was remembered; the versions stay.
        facts = LogFacts(facts.daemon_version, facts.worker_version, facts.python)
    for record in records(data):
        facts = fold(facts, record)
    return facts, {"inode": cursor.inode, "offset": cursor.offset, "facts": asdict(facts)}


def _recall(memory: Mapping[str, Any]) -> tuple[Cursor | None, LogFacts]:
    """What the last look remembered; anything that does not fit the form counts as nothing remembered."""
    inode, offset, kept = memory.get("inode"), memory.get("offset"), memory.get("facts")
    if type(inode) is not int or type(offset) is not int or offset < 0 or not isinstance(kept, dict):
        return None, LogFacts()
    values: dict[str, Any] = {}
    for row in fields(LogFacts):
        value = kept.get(row.name)
        if row.name == "worker_failures":
            numbers = value if isinstance(value, (list, tuple)) else ()
            values[row.name] = tuple(float(n) for n in numbers if type(n) in (int, float))[-_MOST_FAILURES:]
        elif row.type in ("str | None", "float | None"):
            wanted = str if row.type.startswith("str") else (int, float)
            values[row.name] = value if isinstance(value, wanted) and type(value) is not bool else None
        elif row.type == "bool":
            values[row.name] = value is True
        else:
            values[row.name] = value if type(value) is int else 0
    return Cursor(inode, offset), LogFacts(**values)


# A whole round of extensions takes so long at most: then the agent gives up waiting for one after another.
_ROUND_AT_MOST = 90 * 60.0  # s
_ROUND = re.compile(r"Process(?:Extensions(?:In)?)?GoalState (started|completed)\b")
_BEGINS_ANEW = re.compile(
    r"^(?:Daemon )?Run daemon$|Azure Linux Agent \(Goal State Agent version |is running as the goal state agent$"
    r"|WALinuxAgent-\S+ running as process"
)


def round_under_way(data: bytes) -> float | None:
    """When the round of extensions began that a piece of the log shows as begun and not ended; None where it shows
    none. A start of the daemon or of the worker ends whatever was under way before it."""
    begun: float | None = None
    for record in records(data):
        line = record.text.partition("\n")[0]
        match = _ROUND.search(line)
        if match is not None:
            begun = record.time if match.group(1) == "started" else None
        elif _BEGINS_ANEW.search(line):
            begun = None
    return begun


def busy(machine: Machine) -> str:
    """Why the agent may be at work on its extensions; empty where it is not. Raises CannotTell."""
    if agent_processes(machine.processes()).worker is None:
        return ""  # nobody is there who could be
    try:
        begun = round_under_way(machine.read_new(LOG, None)[0])
    except Absent:
        return ""
    # One from the future has lasted no longer than it may.
    if begun is None or machine.now() - begun > _ROUND_AT_MOST:
        return ""
    return f"the agent works on its extensions since {in_utc(begun)}"


# ----------------------------------------------------------------------------------------------- status report


@dataclass(frozen=True)
class HandlerReport:
    """What the agent reports of one handler to the platform."""

    name: str
    version: str
    status: str
    code: int | None
    message: str
    settings_status: str
    sequence: int | None


@dataclass(frozen=True)
class Report:
    """The newest report of the agent to the platform; `written` is seconds since the epoch."""

    path: str
    written: float
    agent_version: str
    agent_status: str
    handlers: tuple[HandlerReport, ...]

    def handler(self, name: str) -> HandlerReport | None:
        return next((handler for handler in self.handlers if handler.name == name), None)


# The codes of a handler's status, from the agent's own error enumeration.
HANDLER_CODES = {
    -1: "unknown error",
    0: "ready",
    1000: "still processing",
    1001: "the extension's manifest cannot be downloaded",
    1002: "HandlerManifest.json is missing or cannot be loaded",
    1003: "HandlerManifest.json cannot be parsed",
    1004: "the package cannot be downloaded",
    1005: "the package cannot be unpacked",
    1007: "the install command failed",
    1008: "the update command failed",
    1009: "the enable command failed",
    1010: "the disable command failed",
    1011: "the handler's command ran out of time",
    1012: "the handler's status file is invalid",
}


def parse_report(data: bytes, path: str) -> Report:
    """One waagent_status*.json. Raises CannotTell when it is not such a document."""
    document = parse_json(data, path)
    try:
        written = timestamp(document["timestampUTC"])
        aggregate = document["aggregateStatus"]
        agent = aggregate["guestAgentStatus"]
        handlers = tuple(_handler_report(entry) for entry in aggregate["handlerAggregateStatus"])
        version, status = str(agent["version"]), str(agent["status"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CannotTell(f"{path} is no status report: {error!r}") from None
    if written is None:
        raise CannotTell(f"{path} has no time")
    return Report(path, written, version, status, handlers)


def _handler_report(entry: Any) -> HandlerReport:
    settings = (entry.get("runtimeSettingsStatus") or {}).get("settingsStatus") or {}
    sequence = (entry.get("runtimeSettingsStatus") or {}).get("sequenceNumber")
    code = entry.get("code")
    return HandlerReport(
        name=str(entry["handlerName"]),
        version=str(entry.get("handlerVersion", "")),
        status=str(entry.get("status", "")),
        code=code if type(code) is int else None,
        message=str((entry.get("formattedMessage") or {}).get("message", "")),
        settings_status=str((settings.get("status") or {}).get("status", "")),
        sequence=sequence if type(sequence) is int else None,
    )


_ROOT_REPORT = re.compile(r"waagent_status(\.\d+)?\.json")
_NEWEST_HISTORY = 3  # directories; only the newest holds a report that is still written
_MOST_HISTORY = 60


def newest_report(machine: Machine) -> Report:
    """The report that the agent wrote last, in either layout. Raises Absent if there is none, or CannotTell."""
    paths = [f"{LIB_DIR}/{name}" for name in machine.names(LIB_DIR) if _ROOT_REPORT.fullmatch(name)]
    paths += [f"{directory}/waagent_status.json" for directory in _history(machine)[-_NEWEST_HISTORY:]]
    reports: list[tuple[float, Report]] = []  # with the time of the file
    broken: list[tuple[float, CannotTell]] = []
    for path in paths:
        try:
            modified = machine.status(path).modified
            try:
                reports.append((modified, parse_report(machine.read(path), path)))
            except CannotTell as error:
                broken.append((modified, error))
        except Absent:
            continue
    best = max(reports, key=lambda entry: entry[1].written, default=None)
    worst = max(broken, key=lambda entry: entry[0], default=None)
    if worst is not None and (best is None or worst[0] > best[0]):
        raise worst[1]
    if best is None:
        raise Absent(f"{LIB_DIR}/waagent_status.json")
    return best[1]


def _history(machine: Machine) -> list[str]:
    """The directories of goal states, oldest first; the agent keeps at most 50."""
    try:
        names = machine.names(f"{LIB_DIR}/history")
    except Absent:
        return []
    return [f"{LIB_DIR}/history/{name}" for name in names if not name.endswith(".zip")][-_MOST_HISTORY:]


# ------------------------------------------------------------------------------------------------- goal state


@dataclass(frozen=True)
class WantedHandler:
    """What the goal state asks of one handler: `state` is enabled, disabled or uninstall."""

    name: str
    version: str
    state: str


_ROOT_EXTENSIONS_CONFIG = re.compile(r"ExtensionsConfig\.(\d{1,9})\.xml")


def wanted_handlers(machine: Machine) -> tuple[str, tuple[WantedHandler, ...]]:
    """The path and the handlers of the newest goal state that the agent kept, in either layout.

    Raises Absent or CannotTell.
    """
    numbered = [
        (int(match.group(1)), name)
        for name in machine.names(LIB_DIR)
        for match in [_ROOT_EXTENSIONS_CONFIG.fullmatch(name)]
        if match
    ]
    for directory in reversed(_history(machine)):
        # A goal state that came by the fast track has no ExtensionsConfig; of one with both these settings count.
        for name, parse in (("VmSettings.json", parse_vm_settings), ("ExtensionsConfig.xml", parse_extensions_config)):
            with contextlib.suppress(Absent):
                path = f"{directory}/{name}"
                return path, parse(machine.read(path), path)
    if numbered:
        path = f"{LIB_DIR}/{max(numbered)[1]}"
        return path, parse_extensions_config(machine.read(path), path)
    raise Absent(f"{LIB_DIR}/ExtensionsConfig.xml")


def parse_vm_settings(data: bytes, path: str) -> tuple[WantedHandler, ...]:
    """The extensionGoalStates of a vmSettings document. Raises CannotTell when it is none."""
    document = parse_json(data, path)
    try:
        return tuple(
            WantedHandler(str(entry["name"]), str(entry.get("version", "")), str(entry.get("state", "")).lower())
            for entry in document.get("extensionGoalStates", [])
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CannotTell(f"{path} holds no vmSettings: {error!r}") from None


def parse_extensions_config(data: bytes, path: str) -> tuple[WantedHandler, ...]:
    """The Plugin elements of an ExtensionsConfig document. Raises CannotTell when it is none."""
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise CannotTell(f"{path} cannot be parsed: {error}") from None
    return tuple(
        WantedHandler(plugin.get("name", ""), plugin.get("version", ""), plugin.get("state", "").lower())
        for plugin in root.iterfind("Plugins/Plugin")
    )


# A blob has a name; an address is the emulated fabric's.
_BLOB_HOST = re.compile(
    r"https?://([A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z][A-Za-z0-9-]{0,62})(?::\d{1,5})?(?:[/?]|$)"
)
_UPLOAD_IN_XML = re.compile(r"<StatusUploadBlob\b[^>]{0,200}>\s*([^<]{1,4000})")


def blob_host(uri: object) -> str:
    """The host of a blob's address, in small letters, and nothing of what follows it; empty if it is none."""
    match = _BLOB_HOST.match(uri.strip()) if isinstance(uri, str) else None
    return match.group(1).lower() if match else ""


def upload_host(machine: Machine) -> str:
    """The storage host that the newest goal state which the agent kept names for the status; empty if none does.
    Raises CannotTell."""
    paths = [
        f"{directory}/{name}"
        for directory in reversed(_history(machine)[-_NEWEST_HISTORY:])
        for name in ("VmSettings.json", "ExtensionsConfig.xml")
    ]
    with contextlib.suppress(Absent):
        matches = [match for name in machine.names(LIB_DIR) if (match := _ROOT_EXTENSIONS_CONFIG.fullmatch(name))]
        paths += [f"{LIB_DIR}/{max(matches, key=lambda match: int(match.group(1))).group()}"] if matches else []
    for path in paths:
        try:
            data = machine.read(path)
            if path.endswith(".xml"):
                match = _UPLOAD_IN_XML.search(data.decode("utf-8", "replace"))
                uri: Any = html.unescape(match.group(1)) if match else ""
            else:
                document = parse_json(data, path)
                upload = document.get("statusUploadBlob") if isinstance(document, dict) else None
                uri = upload.get("value") if isinstance(upload, dict) else ""
        except (Absent, CannotTell):
            continue
        if host := blob_host(uri):
            return host
    return ""


_CACHED = re.compile(r"(?:GoalState|ExtensionsConfig)\.(\d+)\.xml|.+\.agentsManifest|.+?(?:\.(\d+))?\.manifest\.xml")
_LAYOUT_CHANGED = (2, 8)  # from this version on no goal state is kept beside the handlers


def stale_cache(machine: Machine) -> tuple[str, list[str]]:
    """The agent's version, and the goal state files beside the handlers that it would not have written, sorted.

    The version is empty where there are no such files at all. Raises CannotTell, and Absent while a fresh goal state is
    being written.
    """
    cached = [name for name in machine.names(LIB_DIR) if _CACHED.fullmatch(name)]
    if not cached:
        return "", []
    try:
        told = newest_report(machine).agent_version
    except Absent:
        raise CannotTell("without a report the agent's version is not known") from None
    version = version_key(told)
    if version >= _LAYOUT_CHANGED:
        # It keeps none but one placeholder.
        return told, sorted(name for name in cached if name != "GoalState.1.xml")
    current = machine.read(f"{LIB_DIR}/Incarnation", 64).decode("ascii", "replace").strip()
    stale = {name for name in cached if _incarnation(name) not in (None, current)}
    if version >= (2, 5):
        stale |= {name for name in cached if name.endswith(".agentsManifest")}
    return told, sorted(stale)


def _incarnation(name: str) -> str | None:
    match = _CACHED.fullmatch(name)
    return (match.group(1) or match.group(2)) if match else None


# ----------------------------------------------------------------------------------------- handler directories


@dataclass(frozen=True)
class HandlerDirectory:
    """`<LIB_DIR>/<name>-<version>`."""

    name: str
    version: str
    path: str


def handler_directories(names: tuple[str, ...]) -> tuple[HandlerDirectory, ...]:
    """The handlers' directories among the names below LIB_DIR, lowest version first."""
    found = []
    for name in names:
        match = _HANDLER_DIRECTORY.fullmatch(name)
        if match and not name.startswith("WALinuxAgent-"):
            found.append(HandlerDirectory(match.group(1), match.group(2), f"{LIB_DIR}/{name}"))
    return tuple(sorted(found, key=lambda handler: (handler.name, version_key(handler.version))))


def current_directory(machine: Machine, name: str) -> HandlerDirectory | None:
    """The version of a handler that counts: the reported one, else the one asked for, else the highest that is enabled,
    else the highest. None if there is no directory. Raises Absent or CannotTell where the library cannot be listed."""
    directories = [d for d in handler_directories(machine.names(LIB_DIR)) if d.name == name]
    versions = []
    with contextlib.suppress(Absent, CannotTell):
        reported = newest_report(machine).handler(name)
        versions.append(reported.version if reported else "")
    with contextlib.suppress(Absent, CannotTell):
        versions += [wanted.version for wanted in wanted_handlers(machine)[1] if wanted.name == name]

    def enabled(directory: HandlerDirectory) -> bool:
        with contextlib.suppress(Absent, CannotTell):
            return machine.read(f"{directory.path}/config/HandlerState", 4096).strip() == b"Enabled"
        return False

    return counting(directories, versions, enabled)


def counting(
    directories: Sequence[HandlerDirectory],
    versions: Iterable[str | None],
    enabled: Callable[[HandlerDirectory], bool],
) -> HandlerDirectory | None:
    """Of a handler's directories, lowest version first, the one that counts: the first of these versions that is there,
    else the highest that is enabled, else the highest. No more of them are asked than it takes: an old one may lie
    where nobody answers."""
    for version in versions:
        for directory in directories:
            if directory.version == version:
                return directory
    highest_first = list(reversed(directories))
    return next(filter(enabled, highest_first), next(iter(highest_first), None))


def version_key(text: str) -> tuple[int, ...]:
    """For sorting; what is no version comes first."""
    try:
        return version_of(text)
    except CannotTell:
        return ()


# ------------------------------------------------------------------------------------------------- its package

# The names in Debian and in Ubuntu.
_PACKAGES = ("waagent", "walinuxagent")
# The lists are read afresh into memory, since nothing may be written to /var/cache/apt.
_ASK = ("apt-cache", "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "policy", *_PACKAGES)
_ASK_TIMEOUT = 15.0  # s; it takes a second or two with the lists of a whole distribution
_ROW = re.compile(r"(?m)^(\S+):\n  Installed: (\S+)\n  Candidate: (\S+)\n((?:[ ].*\n?)*)")


@dataclass(frozen=True)
class Offer:
    """The agent's package, and the version that the distribution's lists offer; `newer` whether that is a newer one."""

    package: str
    installed: str
    candidate: str
    newer: bool


def offer(machine: Machine) -> Offer:
    """Ask apt's lists as they are: nothing is fetched, locked or written. Raises CannotTell."""
    try:
        ran = machine.run(_ASK, _ASK_TIMEOUT)
    except Absent:
        raise CannotTell("only apt's lists are asked, and there is no apt-cache") from None
    if ran.status != 0:
        raise CannotTell(f"apt-cache ends with {ran.status}: {ran.errors[:200]}")
    rows = _ROW.findall(ran.output.decode("utf-8", "replace"))
    name, installed, candidate, sources = next((row for row in rows if row[1] != "(none)"), ("", "", "", ""))
    if not name:
        raise CannotTell("the agent is not installed from a package")
    if installed == candidate:
        if not re.search(r"(?m)^\s+-?\d+ (?!/var/lib/dpkg/status)\S+", sources):
            raise CannotTell(f"no list of a repository names {name}; `apt-get update` fetches them")
        return Offer(name, installed, candidate, newer=False)
    try:
        compared = machine.run(("dpkg", "--compare-versions", candidate, "gt", installed), 5.0)
    except Absent:
        raise CannotTell("cannot compare versions: there is no dpkg") from None
    if compared.status not in (0, 1):
        raise CannotTell(f"cannot compare {installed} and {candidate}: dpkg ends with {compared.status}")
    return Offer(name, installed, candidate, newer=compared.status == 0)


# ---------------------------------------------------------------------------------------------------- the rest


def parse_json(data: bytes, path: str) -> Any:
    """A JSON document of the agent's, with or without a byte-order mark. Raises CannotTell."""
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise CannotTell(f"{path} is not JSON: {error}") from None


@dataclass(frozen=True)
class ConfigLine:
    """A line of waagent.conf that the agent takes for a setting; `number` counts from 1."""

    number: int
    text: str
    key: str
    value: str | None


def config_lines(data: bytes) -> Iterator[ConfigLine]:
    """The settings of waagent.conf in the order in which the agent reads them.

    A line is skipped only if its very first character is `#` or it has no `=`; the value ends at the first `#`
    and loses blanks and quotes; the literal None is unset.
    """
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        if line.startswith("#") or "=" not in line:
            continue
        key, _, rest = line.partition("=")
        value = rest.split("#")[0].strip(' "').strip()
        yield ConfigLine(number, line.strip(), key.strip(), value if value != "None" else None)


def parse_config(data: bytes) -> dict[str, str | None]:
    """waagent.conf as the agent itself reads it: the last of several lines wins."""
    return {line.key: line.value for line in config_lines(data)}


_BLANKS = b" \t"


def joined_config(data: bytes) -> bytes:
    """waagent.conf without blanks around the first equals sign of each setting, which the extension's own reading
    cannot bear, and every other byte as it is. A line that the agent would read otherwise then is left as it is, and so
    is one that begins with blanks and a `#`: no joining mends it."""
    lines = data.split(b"\n")
    for setting in config_lines(data):
        line = lines[setting.number - 1]
        left, _, right = line.partition(b"=")
        value = right.lstrip(_BLANKS)
        # A comment right behind the sign would become the value for the extension.
        joined = left.rstrip(_BLANKS) + b"=" + (right if value.startswith(b"#") else value)
        if setting.key and not setting.key.startswith("#") and _reading(joined) == _reading(line):
            lines[setting.number - 1] = joined
    return b"\n".join(lines)


def _reading(line: bytes) -> tuple[str, str | None] | None:
    return next(((found.key, found.value) for found in config_lines(line)), None)


def auto_update(values: Mapping[str, str | None]) -> bool:
    """Whether the agent downloads newer versions of itself."""
    return switch(values, "AutoUpdate.Enabled", True) and switch(values, "AutoUpdate.UpdateToLatestVersion", True)


def switch(values: Mapping[str, str | None], key: str, default: bool) -> bool:
    """A switch as the agent reads it: only y and n count, anything else is the default."""
    word = (values.get(key) or "").lower()
    return word == "y" if word in ("y", "n") else default


@dataclass(frozen=True)
class AgentConfig:
    """The agent's configuration file and what it says."""

    path: str
    values: Mapping[str, str | None] = field(default_factory=dict)
    data: bytes = field(default=b"", repr=False)


def agent_config(machine: Machine) -> AgentConfig:
    """The first configuration file that exists. Raises Absent (of the usual one) or CannotTell."""
    for path in CONFIG_PATHS:
        try:
            data = machine.read(path)
            return AgentConfig(path, parse_config(data), data)
        except Absent:
            continue
    raise Absent(CONFIG_PATHS[0])
