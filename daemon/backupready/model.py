"""The vocabulary that every part speaks: what can be wrong, what was seen, what is believed, what follows.

Everything that travels is frozen. Data goes one way: a probe yields observations, the judge turns them into
beliefs, the beliefs give a verdict, and one Snapshot of all that is what everybody else reads.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Protocol, Union

Scalar = Union[str, int, float, bool, None]
Evidence = Mapping[str, Scalar]

TIME_UNITS = {
    "ms": 0.001,
    "s": 1.0,
    "sec": 1.0,
    "min": 60.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


class Effect(enum.Enum):
    """What a problem does to the next backup, gravest first."""

    VOIDS = "voids"  # the question does not arise here, so that nothing else is judged
    BLOCKS = "blocks"  # it will fail
    DEGRADES = "degrades"  # it will succeed, but only crash-consistent, or late
    RISKS = "risks"  # it may fail
    NOTICE = "notice"  # worth knowing; never a reason

    @property
    def rank(self) -> int:
        """0 for the gravest."""
        return list(Effect).index(self)


class Cause(enum.Enum):
    """The part of the machine that a problem belongs to: the `cause` label of its alert."""

    AGENT = "agent"
    CONFIGURATION = "configuration"
    EXTENSION = "extension"
    FABRIC = "fabric"
    PRESSURE = "pressure"
    FREEZE = "freeze"
    PAST = "past"
    GUEST = "guest"


class Access(enum.Enum):
    """Which look can see it."""

    ROOT = "root"  # uid 0 without capabilities and without a bus
    BUS = "bus"  # anybody who may talk to the service manager
    MIND = "mind"  # the resident process, out of what it has sampled


class BeliefState(enum.Enum):
    """What is believed of a problem. Unknown is never healthy."""

    CLEAR = "clear"
    ACTIVE = "active"
    UNKNOWN = "unknown"


class Verdict(enum.Enum):
    """The one answer."""

    READY = "ready"
    AT_RISK = "at_risk"
    DEGRADED = "degraded"
    BLOCKED = "blocked"
    UNKNOWN = "unknown"

    @property
    def exit_code(self) -> int:
        """Nagios codes: 0 ready, 1 at risk or degraded, 2 blocked, 3 unknown."""
        return _EXIT_CODES[self]


class Phase(enum.Enum):
    """Where a moment stands between two backup windows."""

    IDLE = "idle"  # nothing is near, or it is not known when the next window is
    LEAD = "lead"  # the time before a window in which there is still something to be done
    HOLD = "hold"  # too late for the cheapest fix
    OPEN = "open"  # the window, until its backup has ended; also any backup that is under way


class Happened(enum.Enum):
    """What came of a backup, or of a window for one."""

    SUCCEEDED = "succeeded"
    CRASH_CONSISTENT = "crash_consistent"  # a snapshot was taken, of file systems that were not frozen
    FAILED = "failed"
    FAILED_ELSEWHERE = "failed_elsewhere"  # through nothing on this machine
    MISSED = "missed"  # the window passed, and nothing ran


_EXIT_CODES = {
    Verdict.READY: 0,
    Verdict.AT_RISK: 1,
    Verdict.DEGRADED: 1,
    Verdict.BLOCKED: 2,
    Verdict.UNKNOWN: 3,
}


# ---------------------------------------------------------------------------------------------- declarations


@dataclass(frozen=True)
class Problem:
    """A catalogue entry, and the only prose about this problem in the tree.

    `code` is subject first, then the bad state; it is never renamed or reused once released. `fix` is the
    documented fix in words, `remedy` the name of the remedy that may perform it, if a machine may.
    `effect` is its gravest; `milder` are those that a sighting may have instead, where that depends on the machine.
    `explains` names the problems that are mere consequences while this one is active: one cause, one finding; where
    it has a milder effect, only those of them that are no graver.
    `sightings` looks in a row must see it before it is believed, those closer together than `apart` counting as
    one; `patience` says why.
    """

    code: str
    title: str
    effect: Effect
    cause: Cause
    meaning: str
    diagnosis: str
    fix: str
    source: str
    remedy: str | None = None
    milder: tuple[Effect, ...] = ()
    explains: tuple[str, ...] = ()
    sightings: int = 1
    apart: timedelta = timedelta(0)
    patience: str = ""

    @property
    def effects(self) -> str:
        """In words, gravest first."""
        first, *others = (effect.value for effect in (self.effect, *self.milder))
        return first if not others else f"{', '.join([first, *others[:-1]])} or {others[-1]}"


@dataclass(frozen=True)
class Metric:
    """A number or a set of labels that a probe reports; the name has the `backupready_` prefix and a base unit.

    `clause` is what a scrape says of it where `help` is longer: it is repeated by every scrape.
    """

    name: str
    help: str
    labels: tuple[str, ...] = ()
    clause: str = ""


@dataclass(frozen=True)
class Setting:
    """One row of the settings table: everything that parser, checks, sample file and manual need."""

    section: str
    key: str
    default: str
    help: str
    parse: Callable[[str], Any]
    form: str  # what a valid value looks like, for messages and the manual

    @property
    def name(self) -> str:
        return f"{self.section}.{self.key}"


def duration(text: str) -> timedelta:
    """A time span in systemd's manner: `90`, `90s`, `5min`, `1h 30min`."""
    rest, seconds = text.strip().lower(), 0.0
    if not rest:
        raise ValueError("is empty")
    while rest:
        match = _DURATION.match(rest)
        unit = match.group(2) if match else ""
        if not match or (unit and unit not in TIME_UNITS):
            raise ValueError(f"{text!r} is not a time span")
        seconds += float(match.group(1)) * TIME_UNITS[unit or "s"]
        rest = rest[match.end() :].lstrip()
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise ValueError(f"{text!r} is longer than any time span can be") from None


def yes_or_no(text: str) -> bool:
    """yes or no, in the words that systemd takes."""
    word = text.strip().lower()
    if word not in ("yes", "true", "on", "1", "no", "false", "off", "0"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return word in ("yes", "true", "on", "1")


def whole_minutes(text: str) -> timedelta:
    """How settings in minutes are read."""
    if not (text.isascii() and text.isdigit() and len(text) < 7) or int(text) < 1:
        raise ValueError(f"{text!r} is no number of minutes")
    return timedelta(minutes=int(text))


def percent(text: str) -> float:
    """A share of something, as a ratio."""
    if not (text.isascii() and text.isdigit() and len(text) < 4) or not 1 <= int(text) <= 99:
        raise ValueError(f"{text!r} is no number from 1 to 99")
    return int(text) / 100


def in_utc(moment: float) -> str:
    """A moment as evidence tells it, RFC 3339; one that no date has as its seconds."""
    try:
        return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{moment:.0f} s since 1970"


class Settings(Protocol):
    """What a probe may ask of the configuration: its own section, parsed."""

    def __getitem__(self, key: str) -> Any: ...


@dataclass(frozen=True)
class Probe:
    """One subject: the problems that it can see, and how it looks.

    `interval` is how often it looks while nothing is going on, `budget` the longest that one look may take.
    """

    name: str
    question: str
    access: Access
    problems: tuple[Problem, ...]
    look: Callable[[Machine, Settings], Iterator[Observation]]
    budget: timedelta
    interval: timedelta = timedelta(minutes=5)
    metrics: tuple[Metric, ...] = ()
    settings: tuple[Setting, ...] = ()

    @property
    def voids(self) -> bool:
        """Whether it can say that the question does not arise here; it is asked first then."""
        return any(problem.effect is Effect.VOIDS for problem in self.problems)


# ---------------------------------------------------------------------------------------------- observations


@dataclass(frozen=True)
class Finding:
    """A sighting of a problem. `key` tells several of one kind apart (which handler, which endpoint). `effect` is one
    of the problem's milder ones where that is all it does here, None for its declared effect."""

    problem: str
    key: str = ""
    evidence: Evidence = field(default_factory=dict)
    effect: Effect | None = None


@dataclass(frozen=True)
class Reading:
    """A number for a metric that the probe declares."""

    metric: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Watch:
    """A process whose death is worth a look at once."""

    role: str
    pid: int


@dataclass(frozen=True)
class Remember:
    """What the probe wants to be given back at its next look (JSON values only)."""

    memory: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A past run of the extension that has ended, as its record has it. Times are seconds since the epoch; `began` is
    None where that is not on record. `path` is who took the snapshot: host, guest or nobody known."""

    ended: float
    code: int
    happened: Happened
    began: float | None = None
    path: str = ""

    @property
    def start(self) -> float:
        """When it began, or else the earliest that is known of it."""
        return self.ended if self.began is None else self.began


class CannotTell(Exception):
    """The probe could not find out, and why.

    Raised it speaks of all the probe's problems; yielded it speaks of those it names. `effect` is the gravest that they
    could have here, None for what they declare.
    """

    def __init__(self, why: str, problems: Sequence[str] = (), effect: Effect | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.problems = tuple(problems)
        self.effect = effect

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CannotTell) and self.args == other.args and vars(self) == vars(other)

    __hash__ = Exception.__hash__


Observation = Union[Finding, Reading, Watch, Remember, Run, CannotTell]


class ProbeState(enum.Enum):
    """How a probe's look ended."""

    OK = "ok"
    CANNOT_TELL = "cannot_tell"  # it says why
    GIVEN_UP = "given_up"  # it was not back in time, and may hang in the kernel
    FAILED = "failed"  # our defect


@dataclass(frozen=True)
class Looked:
    """One probe's look: how it went, and what it saw."""

    probe: str
    state: ProbeState
    seconds: float
    attempts: int = 0  # requests made, retries included
    why: str = ""
    traceback: str = ""
    findings: tuple[Finding, ...] = ()
    readings: tuple[Reading, ...] = ()
    watches: tuple[Watch, ...] = ()
    runs: tuple[Run, ...] = ()
    unknown: tuple[CannotTell, ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)


# ----------------------------------------------------------------------------------- what a probe may look at


class Absent(Exception):
    """The file is certainly not there (a file that cannot be reached is CannotTell instead)."""


class TooMany(CannotTell):
    """A directory has more entries than are listed."""


class Unreachable(Exception):
    """An endpoint did not answer: `how` is one word for a program, `detail` the system's own words."""

    def __init__(self, how: str, detail: str, attempts: int) -> None:
        super().__init__(f"{how}: {detail}")
        self.how = how
        self.detail = detail
        self.attempts = attempts


@dataclass(frozen=True)
class FileStatus:
    """`kind` is one of file, directory, other; `modified` is seconds since the epoch."""

    kind: str
    size: int
    mode: int
    owner: int
    modified: float
    inode: int


@dataclass(frozen=True)
class Cursor:
    """Where in which file the last look stopped reading."""

    inode: int
    offset: int


@dataclass(frozen=True)
class Process:
    """`state` is the kernel's letter (R, S, D, T, Z …), `started` seconds since the epoch."""

    pid: int
    parent: int
    argv: tuple[str, ...]
    state: str
    started: float


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; the body is cut at the machine's bound. `seconds` is the time of the last attempt."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float
    attempts: int


@dataclass(frozen=True)
class Space:
    """A file system's room, in bytes and inodes; `available` is what is left to ordinary users, `free` what is left to
    root, None where that is not known. A file system without a bound on inodes says 0 of them."""

    total: int
    available: int
    inodes: int
    inodes_free: int
    free: int | None = None


@dataclass(frozen=True)
class Spaces:
    """What statvfs said of each path, or why it could not. `silent` are the paths for which it has not come back;
    `child` is the process that waits there still, 0 if none."""

    told: Mapping[str, Space | CannotTell]
    silent: tuple[str, ...] = ()
    child: int = 0


@dataclass(frozen=True)
class Ran:
    """How a program ended; both outputs are cut at a bound, and `cut` says that `output` was. A status below 0 is a
    signal."""

    status: int
    output: bytes
    errors: str
    cut: bool = False


@dataclass(frozen=True)
class Route:
    """Which way the kernel sends packets for an address; `gateway` and `source` are empty where there is none."""

    device: str
    gateway: str
    source: str


@dataclass(frozen=True)
class Resolved:
    """A name server's answer: `rcode` as DNS names it (NOERROR, NXDOMAIN, SERVFAIL …)."""

    addresses: tuple[str, ...]
    rcode: str
    seconds: float


@dataclass(frozen=True)
class Fetched:
    """An HTTP answer from outside the fabric. `phases` are seconds by name, connect, proxy, tls, first_byte; `issuer`
    is the organisation that signed the server's certificate."""

    status: int
    phases: Mapping[str, float]
    issuer: str
    attempts: int


@dataclass(frozen=True)
class Kernel:
    """As uname(2) tells: 6.1.0-13-amd64, x86_64."""

    release: str
    machine: str


@dataclass(frozen=True)
class Sample:
    """What the kernel's counters said at one moment; `at` is monotonic seconds.

    Processor times are seconds of all processors since boot; pressure is seconds in which some task (`cpu`) or all of
    them (`io_full`, `memory_full`) stood still since boot, None where the kernel does not count it. `blocked` is how
    many tasks waited for a disk at that moment.
    """

    at: float
    cpu_busy: float
    cpu_steal: float
    cpu_total: float
    memory_total: int
    memory_available: int
    swapped_in: int  # bytes since boot
    swapped_out: int
    oom_kills: int
    blocked: int
    stalled_cpu: float | None = None
    stalled_io_full: float | None = None
    stalled_memory_full: float | None = None
    swap_total: int | None = None  # bytes; None where it is not known


LOAD_SECONDS = 300  # that one Load speaks of


@dataclass(frozen=True)
class Load:
    """How busy the machine was during the five minutes from `start` (seconds since the epoch, a multiple of 300).

    Shares are 0 to 1: `cpu` and `steal` of all processors' time, `memory` of what the machine has, at its highest;
    `io` of the time in which every task that could run waited for a disk, None where the kernel does not count it.
    """

    start: float
    cpu: float
    memory: float
    steal: float = 0.0
    io: float | None = None


@dataclass(frozen=True)
class Window:
    """A time in which a backup may run: from its scheduled `start` to the latest `end` of a job that starts late.
    Seconds since the epoch. `schedule` is the schedule in words, `zone` the time zone whose clock it goes by."""

    start: float
    end: float
    schedule: str
    learned: bool = False
    zone: str = "UTC"


@dataclass(frozen=True)
class LearnedSchedule:
    """A schedule that the record of past backups suggests, in words; `confidence`, 0 to 1, is the share of its windows
    in which a backup ran, of the newest week's where a daily one has been silent for three days, and `runs` when those
    began, oldest first."""

    schedule: str
    confidence: float
    runs: tuple[float, ...]


@dataclass(frozen=True)
class Prediction:
    """What was said of the window that begins at `start`: `made` when, with which reasons; and what happened then, None
    as long as that is not known, and when that was told. Seconds since the epoch."""

    start: float
    made: float
    verdict: Verdict
    reasons: tuple[str, ...]
    happened: Happened | None = None
    told: float | None = None


@dataclass(frozen=True)
class Outlook:
    """What is known of the backup's windows at one moment. Times are seconds since the epoch, spans seconds.

    `window` is the one that the verdict speaks of: the open one, until its backup has ended, or else the next;
    None where neither is known. `passed` are windows that are over, oldest first, as far back as there is anything to
    hold against them; `runs` the backups on record, oldest first, and `loads` how busy the machine was. `since` is from
    when on the machine has been up without a break, and its clock has not been set; None where that is not known.
    `unread` says why the newest of the record cannot be told, `unplanned` why no windows can; empty where they can.
    `predictions` are the newest, oldest first, and `scores` how often which verdict met with what.
    """

    at: float
    phase: Phase = Phase.IDLE
    window: Window | None = None
    upcoming: tuple[Window, ...] = ()
    passed: tuple[Window, ...] = ()
    lead: float = 0.0
    expected_interval: float | None = None
    configured: bool = False
    learned: tuple[LearnedSchedule, ...] = ()
    runs: tuple[Run, ...] = ()
    loads: tuple[Load, ...] = ()
    since: float | None = None
    unread: str = ""
    unplanned: str = ""
    predictions: tuple[Prediction, ...] = ()
    scores: tuple[tuple[Verdict, Happened, int], ...] = ()


class Machine(Protocol):
    """The only door for looking. Nothing behind it changes the machine.

    Every call raises CannotTell for what cannot be found out, and Absent for a file that is certainly missing.
    """

    @property
    def memory(self) -> Mapping[str, Any]:
        """What this probe's last Remember held; untrusted, empty at the first look."""

    @property
    def privileged(self) -> bool:
        """Whether this look has uid 0."""

    @property
    def wire_server(self) -> str:
        """host:port of the wire server, 168.63.129.16:80 on Azure."""

    @property
    def host_plugin(self) -> str:
        """host:port of the host plugin, 168.63.129.16:32526 on Azure."""

    def now(self) -> float:
        """Wall clock, seconds since the epoch."""

    def read(self, path: str, limit: int = ...) -> bytes:
        """The whole of a regular file; more than `limit` bytes is CannotTell."""

    def read_new(self, path: str, cursor: Cursor | None, limit: int = ...) -> tuple[bytes, Cursor, int]:
        """What was appended to a log since `cursor`, at most its last `limit` bytes, where reading stopped, and
        how many bytes were skipped (1 where it is not known how many). Follows one rotation."""

    def names(self, path: str) -> tuple[str, ...]:
        """The entries of a directory, sorted; raises TooMany where there is no end of them."""

    def status(self, path: str) -> FileStatus:
        """A file's metadata; a link is followed."""

    def processes(self) -> tuple[Process, ...]:
        """The process table."""

    def target(self, path: str) -> str:
        """Where a symbolic link points to, as it is written there; Absent also where something else is."""

    def label(self, path: str) -> str:
        """A file's SELinux context; Absent also where it has none."""

    def lock_holder(self, path: str) -> int | None:
        """The process that holds a POSIX lock which would keep us from writing; None if nobody does, 0 if it is not
        known who."""

    def space(self, paths: Sequence[str], timeout: float) -> Spaces:
        """statvfs of each path, in a child that can be left behind: one on a dead file server never comes back."""

    def largest(self, path: str, seconds: float) -> tuple[tuple[str, int], ...]:
        """The entries of a directory with what they and all below them hold on the same file system, in bytes, largest
        first; as far as `seconds` lead."""

    def run(self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = ...) -> Ran:
        """A program that only reads, without shell, input or surroundings; without privileges unless they are asked
        for. Of its output at most `limit` bytes are kept. Absent if there is no such program, CannotTell if it does not
        end in time."""

    def kernel(self) -> Kernel:
        """The running kernel."""

    def samples(self) -> tuple[Sample, ...]:
        """What the resident process has sampled, oldest first."""

    def outlook(self) -> Outlook:
        """What the resident process knows of the backup's windows."""

    def fixes(self) -> Fixes:
        """What the hands have told of their attempts, limits and temporary changes."""

    def get(self, url: str, timeout: float, budget: float, headers: Mapping[str, str] = ...) -> Answer:
        """An HTTP GET without proxy, retried within `budget` seconds; raises Unreachable."""

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        """An HTTP HEAD outside the fabric, through a proxy (http://host:port) if one is given, each phase measured.
        Raises Unreachable, whose `how` begins with the phase: `name`, `connect`, `proxy`, `tls` or `first_byte`."""

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        """Ask one name server (address, or address#port) for a name's IPv4 addresses; raises Unreachable."""

    def route(self, address: str) -> Route:
        """The kernel's choice for an address; raises Unreachable where there is none."""

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        """Properties of a unit as the service manager shows them."""


# ------------------------------------------------------------------------------------------------------ remedies


@dataclass(frozen=True)
class StartUnit:
    """Start a unit that a StopUnit before it in the plan has stopped. Undone by stopping it, so that it does not run
    while the steps in between are undone; the StopUnit, undone last, starts it again."""

    unit: str


@dataclass(frozen=True)
class StopUnit:
    """Stop a unit. Undone by starting it, whether it ran before or not: no undoing leaves it stopped."""

    unit: str


@dataclass(frozen=True)
class RestartUnit:
    """Restart a unit, or start one that does not run. Not undone, but a unit that ran is not left stopped."""

    unit: str


@dataclass(frozen=True)
class ResetFailed:
    """Let the service manager forget how often a unit has failed."""

    unit: str


@dataclass(frozen=True)
class EnableUnit:
    """Have a unit started at boot. Undone by disabling it."""

    unit: str


@dataclass(frozen=True)
class WriteDropIn:
    """Write a drop-in of ours for a unit, which must not be there yet. `name` ends in .conf."""

    unit: str
    name: str
    text: str


@dataclass(frozen=True)
class DaemonReload:
    """Have the service manager read its units anew."""


@dataclass(frozen=True)
class SetConfigKey:
    """Set a key in waagent.conf: in its last line, which counts, or in a new one at the end. With `lasts` seconds it is
    a temporary change, which ends by itself."""

    key: str
    value: str
    lasts: float | None = None


@dataclass(frozen=True)
class JoinConfigLines:
    """Write `Key = value` in waagent.conf as `Key=value`, on every line where blanks surround the equals sign."""


@dataclass(frozen=True)
class SetAside:
    """Move a file or directory below the agent's library to a dated directory of ours on the same file system. `path`
    is relative to the library."""

    path: str


@dataclass(frozen=True)
class MakeDirectory:
    """Make a directory below the agent's library that holds nothing but copies of what was set aside under the same
    name: `keep` are names of files in it. `path` is relative to the library."""

    path: str
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class PackageUpgrade:
    """Upgrade one package that is installed, from the repositories that are configured. Cannot be undone."""

    package: str


@dataclass(frozen=True)
class Wait:
    """Wait until a file is there (`path` relative to the agent's library, with `holds` in it), at most so long; the
    steps before are undone where it does not come."""

    path: str
    holds: str
    seconds: float


@dataclass(frozen=True)
class WaitForReport:
    """Wait until the agent reports to the platform again: until its newest report, wherever its version writes it, was
    written after the first step of this plan. At most so long; the steps before are undone where it does not come."""

    seconds: float


Step = Union[
    StartUnit,
    StopUnit,
    RestartUnit,
    ResetFailed,
    EnableUnit,
    WriteDropIn,
    DaemonReload,
    SetConfigKey,
    JoinConfigLines,
    SetAside,
    MakeDirectory,
    PackageUpgrade,
    Wait,
    WaitForReport,
]


class Unsuitable(Exception):
    """The remedy is not for this machine as it is, and why; or what it needs beforehand is not so."""


class NotNow(Unsuitable):
    """What it needs beforehand is not so now, and that may pass."""


# How the hands go about it: so often they look within the time in which a fix settles, and so long a whole check and
# the keeping of evidence take at most (measured with every endpoint dead and a mount that hangs: 51 s).
LOOKS_AFTER_FIX = 4
LONGEST_CHECK = timedelta(seconds=60)
LONGEST_EVIDENCE = timedelta(seconds=30)


@dataclass(frozen=True)
class Remedy:
    """A documented fix. `plan` gives its steps for a finding, in their order; it looks and changes nothing, and raises
    Unsuitable, NotNow among them, or CannotTell.

    `worst_case` is how long all its steps take at most, `settle` how long after them a look may still see the problem.
    `rung` orders the remedies for one problem: lower ones are tried first in an incident. `attempts` is how often a
    day it may be done for one problem, `cooldown` how long after one attempt the next may follow.
    """

    name: str
    title: str
    problems: tuple[str, ...]
    plan: Callable[[Machine, Finding], Iterator[Step]]
    worst_case: timedelta
    settle: timedelta
    source: str
    rung: int = 0
    attempts: int = 3
    cooldown: timedelta = timedelta(minutes=15)
    restarts_agent: bool = False

    @property
    def longest(self) -> timedelta:
        """From the evidence before it to the last look, if all goes slowly; what is undone then comes on top."""
        return LONGEST_EVIDENCE + self.worst_case + self.settle + LOOKS_AFTER_FIX * LONGEST_CHECK


def is_there(machine: Machine, path: str) -> bool:
    """Whether there is anything at a path. Raises CannotTell."""
    return _kind(machine, path) != ""


def is_file(machine: Machine, path: str) -> bool:
    """Whether there is a regular file. Raises CannotTell."""
    return _kind(machine, path) == "file"


def is_directory(machine: Machine, path: str) -> bool:
    """Whether there is a directory. Raises CannotTell."""
    return _kind(machine, path) == "directory"


def _kind(machine: Machine, path: str) -> str:
    try:
        return machine.status(path).kind
    except Absent:
        return ""


# --------------------------------------------------------------------------------------------------------- fixes


class Result(enum.Enum):
    """How an attempt to fix something ended. Of all but `healed`, `done` and `under_way`, what can be undone is undone
    again."""

    UNDER_WAY = "under_way"  # it has not ended; what the next start finds so, it finishes or undoes
    HEALED = "healed"  # a fresh look no longer sees the problem, and nothing new
    DONE = "done"  # it was asked for without a problem, and was done
    NOT_HEALED = "not_healed"  # it was done, and the problem is still seen
    WORSE = "worse"  # it was done, and something is seen that was not there before
    FAILED = "failed"  # one of its steps could not be done
    INTERRUPTED = "interrupted"  # the hands ended in the middle
    UNDONE = "undone"  # somebody had it undone later, or its time was over

    @property
    def stands(self) -> bool:
        """Whether what was changed is meant to stay."""
        return self in (Result.HEALED, Result.DONE)


@dataclass(frozen=True)
class Attempt:
    """One remedy, done once. `by` is `mind` or whoever asked for it. Times are seconds since the epoch, `ended` None as
    long as it is under way. `left` are the steps, by their place in the plan, that were to be undone and could not be;
    `reasons` say why, and what else is to be said."""

    id: int
    remedy: str
    problem: str
    key: str
    by: str
    began: float
    result: Result = Result.UNDER_WAY
    ended: float | None = None
    reasons: tuple[str, ...] = ()
    left: tuple[int, ...] = ()


@dataclass(frozen=True)
class Temporary:
    """A change that ends by itself at `until`, seconds since the epoch. `change` is what was changed."""

    attempt: int
    change: str
    until: float


@dataclass(frozen=True)
class Limit:
    """A problem that is not fixed any more, since a limit says so; `until` is None where only its end lifts it."""

    problem: str
    key: str
    remedy: str
    why: str
    until: float | None = None


@dataclass(frozen=True)
class Fixes:
    """All of it, at one moment. Attempts are oldest first, and only the newest. `tried` are the remedies that were
    begun in each incident that is open. The counters are by remedy and reason, by remedy, and by remedy and result
    (an attempt that is undone later counts there once more); they begin anew when the document is lost."""

    at: float
    attempts: tuple[Attempt, ...] = ()
    temporary: tuple[Temporary, ...] = ()
    limits: tuple[Limit, ...] = ()
    incidents: tuple[tuple[str, str], ...] = ()  # problem and key of what is being fixed and is not clear yet
    refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    would_run: Mapping[str, int] = field(default_factory=dict)
    tried: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    ended: Mapping[tuple[str, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class Refusal:
    """Not now: its name, why, until when (seconds since the epoch, None where no time lifts it), and what would."""

    name: str
    why: str
    until: float | None
    lift: str

    def __str__(self) -> str:
        until = "" if self.until is None else f", until {in_utc(self.until)}"
        return f"{self.why}{until}; {self.lift}"


@dataclass(frozen=True)
class WouldRun:
    """Fixes are only observed; these steps would have been done."""

    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Planned:
    """What would be done for a problem: the steps of a remedy, or why there are none. `as_of` is when that was so,
    seconds since the epoch, where it is long ago; None for the present."""

    remedy: str
    problem: str
    key: str
    steps: tuple[Step, ...] = ()
    why: str = ""
    as_of: float | None = None


@dataclass(frozen=True)
class Pause:
    """Fixes are paused: until then (seconds since the epoch), or until the file is removed; `why`, if that is told.
    `unread` says why it cannot be told whether they are, so that they count as paused; empty where it can."""

    until: float | None = None
    why: str = ""
    unread: str = ""


@dataclass(frozen=True)
class Planning:
    """What the mind does about fixes. `mode` is that of the settings, `door_open` whether the hands could be asked,
    None where nobody has tried. `under_way` is the remedy that was asked for and has not been answered. `unread` says
    why what the hands have told cannot be read; of that `held` has the counters as they were read last, None where they
    can be read or never could. `would_run` counts, by remedy, what would have been asked for, were fixes not only
    observed."""

    mode: str
    paused: Pause | None = None
    door_open: bool | None = None
    under_way: str = ""
    unread: str = ""
    would_run: Mapping[str, int] = field(default_factory=dict)
    held: Fixes | None = None


# --------------------------------------------------------------------------------------------------- judgement


@dataclass(frozen=True)
class Sighting:
    """One key of a problem: how many looks in a row saw it, and what the newest saw. Times are wall clock."""

    key: str
    count: int
    since: float
    evidence: Evidence
    effect: Effect


@dataclass(frozen=True)
class Belief:
    """A problem after debouncing and precedence.

    `effect` is the gravest that was seen, or that is possible where it is unknown. `explained_by` names the active
    problem of which this one is in the end a consequence: it is then no reason of its own. `why` says why it is
    unknown.
    """

    problem: Problem
    state: BeliefState
    since: float
    effect: Effect
    sightings: tuple[Sighting, ...] = ()
    explained_by: str | None = None
    why: str = ""

    @property
    def active(self) -> bool:
        """Active, and not a mere consequence of another."""
        return self.state is BeliefState.ACTIVE and self.explained_by is None

    @property
    def unknown(self) -> bool:
        """Unknown, and nothing that is known explains it away."""
        return self.state is BeliefState.UNKNOWN and self.explained_by is None


@dataclass(frozen=True)
class Reason:
    """Why the verdict is not better: one active problem, one key."""

    problem: Problem
    key: str
    since: float
    evidence: Evidence
    effect: Effect
    consequences: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProbeRun:
    """The newest look of one probe; `last_run` is wall clock, None before the first."""

    name: str
    state: ProbeState | None
    seconds: float
    attempts: int
    last_run: float | None
    why: str = ""


@dataclass(frozen=True)
class Snapshot:
    """All that is believed at one moment, published by one assignment. Whoever reads it adds no judgement.

    Times are wall clock, seconds since the epoch. `reasons` and `notices` are ranked, gravest first. `fixes` is what
    the hands have told, None where they never did or it cannot be read; `plans` what would be done for the reasons;
    `planning` what is being done about that, None where nobody does anything. `slower` has the probes that are set to
    look less often than they declare, with their interval in seconds.
    """

    verdict: Verdict
    since: float
    checked_at: float
    machine: Mapping[str, str]
    beliefs: tuple[Belief, ...]
    reasons: tuple[Reason, ...]
    notices: tuple[Reason, ...]
    probes: tuple[ProbeRun, ...]
    readings: tuple[Reading, ...]
    counters: Mapping[str, float] = field(default_factory=dict)
    outlook: Outlook | None = None
    fixes: Fixes | None = None
    plans: tuple[Planned, ...] = ()
    planning: Planning | None = None
    slower: Mapping[str, float] = field(default_factory=dict)

    @property
    def void(self) -> bool:
        """Whether the question does not arise here."""
        return any(belief.active and belief.effect is Effect.VOIDS for belief in self.beliefs)
