"""The vocabulary that every part speaks: what can be wrong, what was seen, what is believed, what follows.

Everything that travels is frozen. Data goes one way: a probe yields observations, the judge turns them into
beliefs, the beliefs give a verdict, and one Snapshot of all that is what everybody else reads.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Callable, Protocol, Union

Scalar = Union[str, int, float, bool, None]
Evidence = Mapping[str, Scalar]


class Effect(enum.Enum):
    """What a problem does to the next backup, gravest first."""

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


class Access(enum.Enum):
    """Which look can see it."""

    ROOT = "root"  # uid 0 without capabilities and without a bus
    BUS = "bus"  # anybody who may talk to the service manager


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
    `explains` names the problems that are mere consequences while this one is active: one cause, one finding.
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
    explains: tuple[str, ...] = ()
    sightings: int = 1
    apart: timedelta = timedelta(0)
    patience: str = ""


@dataclass(frozen=True)
class Metric:
    """A number or a set of labels that a probe reports; the name has the `backupready_` prefix and a base unit."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


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


def whole_minutes(text: str) -> timedelta:
    """How settings in minutes are read."""
    if not (text.isascii() and text.isdigit() and len(text) < 7) or int(text) < 1:
        raise ValueError(f"{text!r} is no number of minutes")
    return timedelta(minutes=int(text))


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


# ---------------------------------------------------------------------------------------------- observations


@dataclass(frozen=True)
class Finding:
    """A sighting of a problem. `key` tells several of one kind apart (which handler, which endpoint)."""

    problem: str
    key: str = ""
    evidence: Evidence = field(default_factory=dict)


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


class CannotTell(Exception):
    """The probe could not find out, and why.

    Raised it speaks of all the probe's problems; yielded it speaks of those it names.
    """

    def __init__(self, why: str, problems: Sequence[str] = ()) -> None:
        super().__init__(why)
        self.why = why
        self.problems = tuple(problems)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CannotTell) and (self.why, self.problems) == (other.why, other.problems)

    __hash__ = Exception.__hash__


Observation = Union[Finding, Reading, Watch, Remember, CannotTell]


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
    unknown: tuple[CannotTell, ...] = ()
    memory: Mapping[str, Any] = field(default_factory=dict)


# ----------------------------------------------------------------------------------- what a probe may look at


class Absent(Exception):
    """The file is certainly not there (a file that cannot be reached is CannotTell instead)."""


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
        """The entries of a directory, sorted."""

    def status(self, path: str) -> FileStatus:
        """A file's metadata; a link is followed."""

    def processes(self) -> tuple[Process, ...]:
        """The process table."""

    def get(self, url: str, timeout: float, budget: float) -> Answer:
        """An HTTP GET without proxy, retried within `budget` seconds; raises Unreachable."""

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        """Properties of a unit as the service manager shows them."""


# --------------------------------------------------------------------------------------------------- judgement


@dataclass(frozen=True)
class Sighting:
    """One key of a problem: how many looks in a row saw it, and what the newest saw. Times are wall clock."""

    key: str
    count: int
    since: float
    evidence: Evidence


@dataclass(frozen=True)
class Belief:
    """A problem after debouncing and precedence.

    `explained_by` names the active problem of which this one is a consequence: it is then no reason of its own.
    `why` says why it is unknown.
    """

    problem: Problem
    state: BeliefState
    since: float
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

    Times are wall clock, seconds since the epoch. `reasons` and `notices` are ranked, gravest first.
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
