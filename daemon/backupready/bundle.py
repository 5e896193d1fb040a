"""What would support ask for? The agent's, the extension's and our own record, without secrets, in one bounded file.

What is read is on a list, everything else is told by name, size and time only. What is secret by nature (keys,
certificates, goal states, protected settings) is not on it. Every text is redacted before it is kept. The manifest, the
archive's first member, says what was taken, what of it was cut, and what was left out and why.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import platform
import re
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from backupready import __version__, mountinfo, vmsnapshot, waagent
from backupready.fixes import SUMMARY
from backupready.model import Absent, CannotTell, Machine, in_utc
from backupready.redaction import redact

SCHEMA = 1
EVIDENCE = "/var/lib/backupready-hands/evidence"  # where `collect` keeps them, root's alone
SECONDS = 20.0  # the longest that `collect` takes
MOST_BYTES = 8 << 20  # of all members, before they are compressed
MOST_LOG = 1 << 20  # bytes, the newest of each log
MOST_FILE = 256 << 10  # bytes; what is larger than this is none of the files that are taken whole
MOST_KEPT = 8  # bundles
MOST_KEPT_BYTES = 32 << 20

_WRITING = 5.0  # s of SECONDS that are kept for writing
_ROOM_LEFT = 64 << 20  # bytes that evidence leaves to everybody else on its file system
_MOST_ENTRIES = 400  # of a directory are listed, half of them its first and half its last
_NEWEST = 10  # settings and status files
_NEWEST_DIRECTORIES = 3  # versions of the extension, goal states
_COMMAND_TIMEOUT = 5.0  # s
_SPACE_TIMEOUT = 3.0  # s

OUR_UNITS = ("backupready.service", "backupready-look.socket", "backupready-fix.socket")
OUR_JOURNAL = ("backupready.service", "backupready-look@*", "backupready-fix@*")

FILES = (
    *waagent.CONFIG_PATHS,
    vmsnapshot.BACKUP_CONFIG,
    f"{waagent.LIB_DIR}/Protocol",
    f"{waagent.LIB_DIR}/WireServerEndpoint",
    SUMMARY,
    "/usr/lib/os-release",
    "/proc/version",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/meminfo",
    *(f"/proc/pressure/{what}" for what in ("cpu", "io", "memory")),
    mountinfo.TABLE,
)
LOGS = (
    waagent.LOG,
    f"{waagent.LOG}.1",
    *(
        f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}/{name}"
        for name in ("extension.log", "shell.log", "CommandExecution.log")
    ),
)
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "agent-unit.txt": ("systemctl", "show", "--no-pager", *waagent.UNITS),
    "agent-unit-files.txt": ("systemctl", "cat", "--no-pager", *waagent.UNITS),
    "agent-journal.txt": (
        *("journalctl", "--no-pager", "--output=short-iso", "--lines=1000"),
        *(f"--unit={unit}" for unit in waagent.UNITS),
    ),
    "our-units.txt": ("systemctl", "show", "--no-pager", *OUR_UNITS),
    "our-journal.txt": (
        *("journalctl", "--no-pager", "--output=short-iso", "--lines=1000"),
        *(f"--unit={unit}" for unit in OUR_JOURNAL),
    ),
}
_SPACES = ("/", "/boot", "/etc", "/tmp", "/var", "/var/log", waagent.LIB_DIR, EVIDENCE.rpartition("/")[0])
_LISTED = (
    waagent.LIB_DIR,
    f"{waagent.LIB_DIR}/history",
    f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}",
    "/etc/azure",
    vmsnapshot.FREEZE_LOCK.rpartition("/")[0],
)

# Of an extension's settings these are kept where they look as they should; of everything else its kind.
_PLAIN_SETTINGS = {
    "taskId": re.compile(r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    "commandToExecute": re.compile(r"[A-Za-z]{1,20}"),
    "commandStartTimeUTCTicks": re.compile(r"\d{18}", re.ASCII),
    "locale": re.compile(r"[a-z]{2}-[A-Za-z]{2}"),
    "protectedSettingsCertThumbprint": re.compile(r"[0-9A-Fa-f]{40}"),
}
_PLAIN_NAME = re.compile(r"[A-Za-z_]{1,40}")
_DEEPEST = 20
_NUMBERED = re.compile(r"(\d{1,9})\.(?:settings|status)", re.ASCII)
_REPORT = re.compile(r"waagent_status(?:\.\d{1,9})?\.json", re.ASCII)
_HISTORY = re.compile(r"\d{4}-[\w:.-]{1,80}", re.ASCII)
_OURS = re.compile(r"\d{4}-\d\d-\d\dT\d{6}Z(?:-\d{1,2})?\.tar\.gz", re.ASCII)
# How a record begins in any of the logs: by date, as date(1) prints it too.
_RECORD = re.compile(rb"(?m)^(?:\d{4}[-/]\d\d[-/]\d\d[T ]|[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d )")
_WIDE = re.compile(r"(?:[\t\r\n -~]\0){4,}")  # text in two bytes a character
_CONTROL = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127), " ")


@dataclass(frozen=True)
class Member:
    """One file of the archive. `cut` says what of the source was left out, empty if nothing was."""

    name: str
    data: bytes = field(repr=False)
    source: str
    modified: float | None = None
    cut: str = ""


@dataclass(frozen=True)
class LeftOut:
    """What is not in the archive, and why; `absent` where there is no such thing."""

    source: str
    why: str
    absent: bool = False


@dataclass(frozen=True)
class Bundle:
    """What was gathered, in the order in which it is archived."""

    members: tuple[Member, ...]
    left_out: tuple[LeftOut, ...]

    def archive(self, name: str, made: float) -> bytes:
        """A .tar.gz in which everything lies below a directory `name`: the same bytes for the same members. `made` is
        seconds since the epoch."""
        packed = io.BytesIO()
        members = [("manifest.json", self.manifest(made)), *((member.name, member.data) for member in self.members)]
        with gzip.GzipFile("", "wb", 6, packed, mtime=0) as compressed, _tar(compressed) as archive:
            for member, data in members:
                entry = tarfile.TarInfo(f"{name}/{member}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(made)
                archive.addfile(entry, io.BytesIO(data))
        return packed.getvalue()

    def manifest(self, made: float) -> bytes:
        """The JSON document that says what is in it."""
        document = {
            "schema": SCHEMA,
            "made": in_utc(made),
            "by": f"backupready {__version__}, Python {platform.python_version()}",
            "files": [_told(member) for member in self.members],
            "left_out": [{"source": redacted(one.source), "why": redacted(one.why)} for one in self.left_out],
        }
        return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _tar(file: gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT)


def _told(member: Member) -> dict[str, Any]:
    told: dict[str, Any] = {
        "name": member.name,
        "source": member.source,
        "bytes": len(member.data),
        "sha256": hashlib.sha256(member.data).hexdigest(),
    }
    if member.modified is not None:
        told["modified"] = in_utc(member.modified)
    if member.cut:
        told["cut"] = member.cut
    return told


# -------------------------------------------------------------------------------------------------- gathering


def gather(machine: Machine, more: Mapping[str, str], seconds: float) -> Bundle:
    """Everything that support would ask for, as far as `seconds` lead. `more` is what only the caller knows: name in
    the archive, such as check.json, → text. A thread that a dead file system holds is left behind."""
    desk = _Desk(machine, time.monotonic() + seconds)
    return desk.close(_in_time(lambda: _gather(desk, more), seconds))


def _in_time(do: Callable[[], None], seconds: float) -> str:
    """Empty when it has come to its end by then, else why not. A defect's traceback is on standard error."""
    ended = []

    def run() -> None:
        do()
        ended.append(True)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no more threads
        return str(error)
    thread.join(seconds)
    if ended:
        return ""
    return f"it was not done in time, within {seconds:.0f} s" if thread.is_alive() else "a defect of backupready's"


class _Desk:
    """Where what is found is laid down."""

    def __init__(self, machine: Machine, deadline: float) -> None:
        self._machine = machine
        self._deadline = deadline
        self._room = MOST_BYTES
        self._members: list[Member] = []
        self._left_out: list[LeftOut] = []
        self._at = "everything"

    def close(self, why: str) -> Bundle:
        """What there is; what a thread that was left behind still finds is nobody's. `why` is said of what was being
        read, if that did not come to its end."""
        late = [LeftOut(f"{self._at}, and what comes after it", why)] if why else []
        return Bundle(tuple(self._members), (*self._left_out, *late))

    @property
    def machine(self) -> Machine:
        """Raises CannotTell where no time is left for it."""
        if self.left <= 0:
            raise CannotTell("no time was left")
        return self._machine

    @property
    def left(self) -> float:
        """Seconds."""
        return self._deadline - time.monotonic()

    @contextlib.contextmanager
    def reading(self, source: str) -> Iterator[None]:
        """What cannot be read is left out, with the reason."""
        self._at = source
        try:
            yield
        except Absent as error:
            self._left_out.append(LeftOut(source, f"there is no {error}", absent=True))
        except CannotTell as error:
            self._left_out.append(LeftOut(source, error.why))

    def put(self, name: str, source: str, text: str, modified: float | None = None, cut: str = "") -> None:
        """Text is redacted here, whoever it is from."""
        data = redact(text).encode("utf-8", "replace")
        if len(data) > self._room:
            self._left_out.append(LeftOut(source, f"the bundle holds no more than {MOST_BYTES >> 20} MiB"))
            return
        self._room -= len(data)
        self._members.append(Member(name, data, source, modified, cut))


def _gather(desk: _Desk, more: Mapping[str, str]) -> None:
    for name, text in more.items():
        desk.put(f"backupready/{name}", "backupready", printable(text))
    for path in FILES:
        _take_file(desk, path)
    reports, histories = [], []
    with desk.reading(f"{waagent.LIB_DIR}/waagent_status.json"):
        reports = [f"{waagent.LIB_DIR}/{n}" for n in desk.machine.names(waagent.LIB_DIR) if _REPORT.fullmatch(n)]
    with desk.reading(f"{waagent.LIB_DIR}/history"):
        names = [n for n in desk.machine.names(f"{waagent.LIB_DIR}/history") if _HISTORY.fullmatch(n)]
        histories = [f"{waagent.LIB_DIR}/history/{n}" for n in names if not n.endswith(".zip")][-_NEWEST_DIRECTORIES:]
    for path in (*reports[-_NEWEST_DIRECTORIES:], *(f"{directory}/waagent_status.json" for directory in histories)):
        _take_file(desk, path)
    handlers = []
    with desk.reading(f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-*"):
        handlers = [
            directory.path
            for directory in waagent.handler_directories(desk.machine.names(waagent.LIB_DIR))
            if directory.name == waagent.VMSNAPSHOT
        ][-_NEWEST_DIRECTORIES:]
    for path in handlers:
        _take_handler(desk, path)
    for path in LOGS:
        _take_log(desk, path)
    with desk.reading("free space"):
        desk.put("space.json", "statvfs", _spaces(desk.machine, max(0.1, min(_SPACE_TIMEOUT, desk.left))))
    with desk.reading("names of files"):
        below = [f"{path}{part}" for path in handlers for part in ("", "/config", "/status", "/main")]
        desk.put("names.txt", "names of files", "".join(_listing(desk, p) for p in (*_LISTED, *histories, *below)))
    for name, command in COMMANDS.items():
        _take_output(desk, name, command)


def _take_handler(desk: _Desk, path: str) -> None:
    """A version of the extension: what the agent keeps of it, and what it says of itself."""
    for name in ("HandlerManifest.json", "HandlerEnvironment.json", "mrseq", "config/HandlerState"):
        _take_file(desk, f"{path}/{name}")
    _take_file(desk, f"{path}/config/HandlerStatus")
    for part, take in (("config", _take_settings), ("status", _take_file)):
        names: list[str] = []
        with desk.reading(f"{path}/{part}"):
            names = [name for name in desk.machine.names(f"{path}/{part}") if _NUMBERED.fullmatch(name)]
        for name in sorted(names, key=lambda name: int(name.split(".")[0]))[-_NEWEST:]:
            take(desk, f"{path}/{part}/{name}")


def _refuse_link(machine: Machine, path: str) -> None:
    """It could lead to what is not on the list."""
    with contextlib.suppress(Absent):
        raise CannotTell(f"it is a link to {machine.target(path)}, which is not followed")


def _take_file(desk: _Desk, path: str) -> None:
    with desk.reading(path):
        _refuse_link(desk.machine, path)
        data = desk.machine.read(path, MOST_FILE)
        desk.put(f"files{path}", path, _text(data), desk.machine.status(path).modified)


def _take_settings(desk: _Desk, path: str) -> None:
    with desk.reading(path):
        _refuse_link(desk.machine, path)
        settings = waagent.parse_json(desk.machine.read(path, MOST_FILE), path)
        text = json.dumps(_structure(settings, "", 0), indent=1) + "\n"
        desk.put(f"files{path}", path, text, desk.machine.status(path).modified, "every value but a few of known form")


def _structure(value: Any, name: str, depth: int) -> Any:
    """A JSON value with each scalar's kind in its place."""
    if depth > _DEEPEST:
        return "<deeper>"
    if isinstance(value, dict):
        return {
            key if _PLAIN_NAME.fullmatch(key) else f"<name {number}>": _structure(inner, key, depth + 1)
            for number, (key, inner) in enumerate(value.items())
        }
    if isinstance(value, list):
        return [_structure(inner, "", depth + 1) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        form = _PLAIN_SETTINGS.get(name)
        return value if form and form.fullmatch(value) else f"<text, {len(value)} characters>"
    return "<number>"


def _take_log(desk: _Desk, path: str) -> None:
    """Its end, which begins with a whole record: half of one could hold half a secret, which nobody knows as such."""
    with desk.reading(path):
        _refuse_link(desk.machine, path)
        data, cursor, skipped = desk.machine.read_new(path, None, MOST_LOG)
        status = desk.machine.status(path)
        cut = []
        if skipped:
            first = _RECORD.search(data, data.find(b"\n") + 1)
            if not first:
                raise CannotTell(f"in its last {MOST_LOG} bytes no record begins")
            cut.append(f"its first {skipped + first.start()} bytes")
            data = data[first.start() :]
        if status.size > cursor.offset:
            cut.append("what follows its last whole line")
        desk.put(f"files{path}", path, _text(data), status.modified, ", ".join(cut))


def _take_output(desk: _Desk, name: str, command: tuple[str, ...]) -> None:
    source = " ".join(command)
    with desk.reading(source):
        ran = desk.machine.run(command, max(0.1, min(_COMMAND_TIMEOUT, desk.left)), limit=MOST_LOG)
        data = ran.output[: ran.output.rfind(b"\n") + 1] if ran.cut else ran.output
        text = _text(data) + (f"\nstatus {ran.status}\n{printable(ran.errors)}\n" if ran.status or ran.errors else "")
        desk.put(f"commands/{name}", source, text, cut="its end" if ran.cut else "")


def _spaces(machine: Machine, timeout: float) -> str:
    found = machine.space(_SPACES, timeout)
    told = {path: one.why if isinstance(one, CannotTell) else vars(one) for path, one in found.told.items()}
    return json.dumps({**told, **dict.fromkeys(found.silent, "does not answer")}, indent=1) + "\n"


def _listing(desk: _Desk, path: str) -> str:
    """A directory as ls -l tells it, the first and the last of its entries where it has many."""
    try:
        names = desk.machine.names(path)
    except Absent:
        return f"{path}: is not there\n\n"
    except CannotTell as error:
        return f"{path}: {error.why}\n\n"
    lines = [f"{path}: {len(names)} entries"]
    half = _MOST_ENTRIES // 2
    shown = names if len(names) <= _MOST_ENTRIES else (*names[:half], *names[-half:])
    for place, name in enumerate(shown):
        if place == half and shown is not names:
            lines.append(f"… {len(names) - len(shown)} others …")
        if desk.left <= 0:
            lines.append("… no time was left …")
            break
        try:
            status = desk.machine.status(f"{path}/{name}")
            about = f"{status.kind:9} {status.mode:04o} {status.owner:5} {status.size:11} {in_utc(status.modified)}"
        except Absent:
            about = "a link to nothing"
        except CannotTell as error:
            about = printable(error.why).replace("\n", " ")
        lines.append(f"{about} {printable(name)}".replace("\n", " "))
    return "\n".join(lines) + "\n\n"


def _text(data: bytes) -> str:
    """Whatever it is as text. A secret is to be known as one also between garbage, and in two bytes a character."""
    text = data.decode("utf-8", "replace")
    return printable(_WIDE.sub(lambda match: match.group().replace("\0", ""), text) if "\0" in text else text)


def printable(text: str) -> str:
    """Without control characters but tabs and line breaks, and without halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().translate(_CONTROL)


def redacted(text: str) -> str:
    """A short text of the machine's, such as a name or a reason, in one line."""
    return redact(" ".join(printable(text).split()))


# -------------------------------------------------------------------------------------------------- keeping


def save(path: Path, data: bytes) -> None:
    """A new file, 0600, whole on the disk or not there. Raises OSError, FileExistsError where there is one already."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        path.unlink()
        raise


def collect(machine: Machine, now: float, more: Mapping[str, str], directory: str = EVIDENCE) -> str:
    """Keep a bundle before something is changed. Returns its path, or why there is none: that is no reason not to go
    on. `now` is seconds since the epoch, `more` as for `gather`. Takes SECONDS at the most."""
    started = time.monotonic()
    found = gather(machine, more, SECONDS - _WRITING)
    outcome: list[str] = []
    left = SECONDS - (time.monotonic() - started)
    why = _in_time(lambda: outcome.append(_keep(found, now, Path(directory))), left)
    return f"no evidence was kept: {why}" if why else outcome[0]


def _keep(found: Bundle, now: float, directory: Path) -> str:
    stamp = in_utc(now).replace(":", "")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        data = found.archive(f"evidence-{stamp}", now)
        room = os.statvfs(directory)
        if room.f_bavail * room.f_frsize < len(data) + _ROOM_LEFT:
            return f"no evidence was kept: less than {_ROOM_LEFT >> 20} MiB would be left below {directory}"
        path = _save_as_new(directory, stamp, data)
        _let_go(directory, path)
    except OSError as error:
        return f"no evidence was kept: cannot write below {directory}: {error.strerror}"
    return str(path)


def _save_as_new(directory: Path, stamp: str, data: bytes) -> Path:
    """Several in one second, or with a clock that was put back, are told apart by a number."""
    for number in range(1, 100):
        path = directory / (f"{stamp}.tar.gz" if number == 1 else f"{stamp}-{number}.tar.gz")
        with contextlib.suppress(FileExistsError):
            save(path, data)
            return path
    raise FileExistsError(17, "there are a hundred of this second already")


def _let_go(directory: Path, newest: Path) -> None:
    """The oldest of those that are ours, until the others are within their bounds. The newest stays."""
    ours = [path for path in directory.iterdir() if _OURS.fullmatch(path.name) and path != newest]
    kept, size = 1, newest.stat().st_size
    for path in sorted(ours, key=lambda path: path.stat().st_mtime, reverse=True):
        kept, size = kept + 1, size + path.stat().st_size
        if kept > MOST_KEPT or size > MOST_KEPT_BYTES:
            path.unlink()
