"""What was done to this machine, when, for what, and what came of it? Known also after a crash at any point.

A file of lines, each with its length and its checksum, that is only ever added to; a line is on the disk before what it
announces is done. What else is said here follows from the lines. A last line that was torn by a crash announces nothing
that was done, and is cut off; anything else that cannot be read stops every fix, since limits cannot be counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import stat
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backupready import fixes, model, wire
from backupready.model import Attempt, Fixes, Limit, Result, Step, Temporary
from backupready.observe import clean

DIRECTORY = "/var/lib/backupready-hands"  # root's alone
DAY = 86400.0  # s
MIND = "mind"

_NAME, _LOCK = "ledger", "lock"
# There while something is left to be done: the timer that ends or undoes it goes by this file.
UNFINISHED = "unfinished"
# What was refused while somebody else had the ledger, or it could not be used, and what no summary has told.
_REFUSED = "refused"
_NOTED = re.compile(r"^(\S+)(?: (\S+))?\n", re.MULTILINE)  # a line of it: the remedy, and why, unless it would run
_MOST_REFUSED = 1 << 16  # bytes of it
_ROTATE = 1 << 20  # bytes; an attempt takes a few kilobytes
_ARCHIVES = 8  # how many full files are kept
_LONGEST_LINE = 1 << 18  # bytes
_SHOWN = 50  # attempts in the summary
_KEPT = 2 * DAY  # what limits need is younger

# The steps that leave something behind which takes effect later; the others act at once.
CHANGES = frozenset(
    kind.__name__
    for kind in (model.WriteDropIn, model.SetConfigKey, model.JoinConfigLines, model.SetAside, model.MakeDirectory)
)
# Those that somebody may want undone later.
UNDOABLE = CHANGES | {model.EnableUnit.__name__}
_BEGINNING = re.compile(rb"(?=((\d{1,7}) [0-9a-f]{16} ))")  # of a line, wherever it stands

_T = typing.TypeVar("_T")
Counts = Counter[tuple[str, str]]  # by remedy and why it was refused, which is empty where it would run


class LedgerError(Exception):
    """The ledger cannot be read or written, and why: no fix is done then."""


class LedgerBusy(Exception):
    """Another process holds the ledger: only one fix is done at a time."""


@dataclass(frozen=True)
class Moment:
    """Now, as three clocks have it: seconds since the epoch; the kernel's id of this boot; seconds since the boot,
    those of sleep included (CLOCK_BOOTTIME)."""

    wall: float
    boot: str
    up: float


@dataclass(frozen=True)
class Line:
    """One line: what happened, when, and what belongs to it."""

    event: str
    moment: Moment
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


# ------------------------------------------------------------------------------------------------------ the form


def encode_line(line: Line) -> bytes:
    """Raises LedgerError where it is too long, or holds what JSON has not."""
    moment = [line.moment.wall, line.moment.boot, line.moment.up]
    try:
        body = json.dumps([line.event, moment, line.fields], allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise LedgerError(f"cannot write a line {line.event!r}: {error}") from None
    if len(body) > _LONGEST_LINE:
        raise LedgerError(f"cannot write a line {line.event!r} of {len(body)} bytes; {_LONGEST_LINE} are possible")
    return b"%d %s %s\n" % (len(body), _sum(body), body)


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:16].encode()


def decode(data: bytes) -> tuple[tuple[Line, ...], int]:
    """The lines, and how many bytes they take: what comes after is one that was torn. Raises LedgerError where a good
    line follows a bad one, or a newer version wrote them."""
    lines: list[Line] = []
    good = 0
    while (end := data.find(b"\n", good) + 1) and (line := _line(data[good:end])) is not None:
        lines.append(line)
        good = end
    rest = data[good:]
    for found in _BEGINNING.finditer(rest):
        end = found.end(1) + int(found[2]) + 1
        if _line(rest[found.start() : end]) is not None:
            raise LedgerError(f"the ledger is damaged at byte {good}, in the middle")
    return tuple(lines), good


def _line(raw: bytes) -> Line | None:
    length, _, rest = raw.partition(b" ")
    checksum, _, body = rest.partition(b" ")
    if not body.endswith(b"\n") or length != b"%d" % (len(body) - 1) or checksum != _sum(body[:-1]):
        return None
    try:
        event, (wall, boot, up), fields = json.loads(body)
        return Line(str(event), Moment(float(wall), str(boot), float(up)), dict(fields))
    except (ValueError, TypeError):
        raise LedgerError(f"another version wrote the line {body[:100]!r}") from None


# -------------------------------------------------------------------------------------- what follows from the lines


def elapsed(lines: Sequence[Line], since: Line, now: Moment, powered_off: bool = True) -> float:
    """Seconds from one of the lines until now, as few as they can be by what is known.

    Within a boot the monotonic clock tells. Between two boots only the wall clock does, and where it was set within
    either, it counts as it gives the least; without `powered_off` that time does not count at all.
    """
    start = next(index for index, line in enumerate(lines) if line is since)
    newest: dict[str, float] = {}  # by boot, in their order, how long it was up when that was last noted
    for moment in (*(line.moment for line in lines[start:]), now):
        newest[moment.boot] = max(newest.get(moment.boot, 0.0), moment.up)
    if since.moment.boot == now.boot:
        return max(0.0, now.up - since.moment.up)
    begun: dict[str, tuple[float, float]] = {}  # by boot, the earliest and the latest that it can have begun
    for moment in (*(line.moment for line in lines), now):
        first, last = begun.get(moment.boot, (moment.wall - moment.up,) * 2)
        begun[moment.boot] = min(first, moment.wall - moment.up), max(last, moment.wall - moment.up)
    boots = list(newest)
    total = sum(newest.values()) - since.moment.up
    if powered_off:
        total += sum(
            max(0.0, begun[later][0] - (begun[earlier][1] + newest[earlier]))
            for earlier, later in zip(boots, boots[1:])
        )
    return max(0.0, total)


def attempts(lines: Sequence[Line]) -> tuple[Attempt, ...]:
    """All attempts, oldest first."""
    found: dict[int, Attempt] = {}
    said: dict[int, list[str]] = {}
    for line in lines:
        if line.event == "started":
            found[line["attempt"]] = Attempt(
                line["attempt"], line["remedy"], line["problem"], line["key"], line["by"], line.moment.wall
            )
        elif line.event == "ended":
            number = line["attempt"]
            said[number] = [*said.get(number, ()), *line["reasons"]]
            found[number] = replace(
                found[number],
                result=Result(line["result"]),
                ended=line.moment.wall,
                # What was left at an earlier end may have been undone since.
                reasons=tuple(_each_once([*said[number], *left_in_words(line["left"])])),
                left=tuple(index for index, _ in line["left"]),
            )
        elif line.event == "undoing":
            found[line["attempt"]] = replace(found[line["attempt"]], result=Result.UNDER_WAY, ended=None)
        elif line.event == "rotated":
            found.update((attempt["id"], _carried(attempt)) for attempt in line["attempts"])
    return tuple(found[number] for number in sorted(found))


def _each_once(several: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(several))


def left_in_words(left: Iterable[tuple[int, str]]) -> tuple[str, ...]:
    """Which steps are left as they are, and why."""
    return tuple(f"step {index + 1} is left as it is: {why}" for index, why in left)


def _carried(document: Mapping[str, Any]) -> Attempt:
    return Attempt(
        **{
            **document,
            "result": Result(document["result"]),
            "reasons": tuple(document["reasons"]),
            "left": tuple(document["left"]),
        }
    )


def unfinished(lines: Sequence[Line]) -> tuple[Attempt, ...]:
    """Those that have begun and not ended."""
    return tuple(attempt for attempt in attempts(lines) if attempt.result is Result.UNDER_WAY)


def of_attempt(lines: Sequence[Line], attempt: int, event: str) -> Iterator[Line]:
    """The lines of one kind that belong to an attempt."""
    return (line for line in lines if line.event == event and line["attempt"] == attempt)


def plan_of(lines: Sequence[Line], attempt: int) -> tuple[Step, ...]:
    """The steps of an attempt. Raises LedgerError."""
    for line in of_attempt(lines, attempt, "started"):
        try:
            return tuple(wire.decode_step(document) for document in line["steps"])
        except ValueError as error:
            raise LedgerError(str(error)) from None
    raise LedgerError(f"there is no attempt {attempt} in the ledger")


def in_force(lines: Sequence[Line], attempt: int) -> dict[int, Mapping[str, Any]]:
    """What an attempt has prepared and not undone: the record by the step's place in the plan."""
    undone = {index for line in of_attempt(lines, attempt, "ended") for index in line["undone"]}
    prepared = {line["index"]: line["record"] for line in of_attempt(lines, attempt, "prepared")}
    return {index: record for index, record in prepared.items() if index not in undone}


def _endings(lines: Sequence[Line]) -> Counter[tuple[str, str]]:
    """How often attempts ended, by remedy and result; those too whose lines are in the archive."""
    remedies = {attempt.id: attempt.remedy for attempt in attempts(lines)}
    found: Counter[tuple[str, str]] = Counter()
    for line in lines:
        if line.event == "ended":
            found[remedies[line["attempt"]], line["result"]] += 1
        elif line.event == "rotated":
            found.update({(remedy, result): count for remedy, result, count in line.fields.get("ended", ())})
    return found


def temporary(lines: Sequence[Line]) -> tuple[Temporary, ...]:
    """The temporary changes that are in force, by their end; also one that could not be undone. Of an attempt that has
    not ended nobody can tell."""
    found: list[Temporary] = []
    for attempt in attempts(lines):
        if attempt.result is not Result.UNDER_WAY:
            there = in_force(lines, attempt.id)
            found += [
                Temporary(attempt.id, line["change"], line["until"])
                for line in of_attempt(lines, attempt.id, "prepared")
                if line.fields.get("until") is not None and line["index"] in there
            ]
    return tuple(sorted(found, key=lambda change: change.until))


def is_over(lines: Sequence[Line], change: Temporary, now: Moment, since: float = 0.0) -> bool:
    """Whether a temporary change has reached its end so many seconds ago, by any clock: too early does no harm."""
    if now.wall >= change.until + since:
        return True
    return any(
        line.fields.get("until") == change.until
        and elapsed(lines, line, now) >= line["until"] - line.moment.wall + since
        for line in of_attempt(lines, change.attempt, "prepared")
    )


def tried(lines: Sequence[Line], problem: str, key: str) -> tuple[str, ...]:
    """The remedies that were begun in the incident that is open, in their order; empty where none is. An incident
    ends when the problem is clear."""
    found: list[str] = []
    for line in lines:
        if line.event in ("started", "tried", "clear") and (line["problem"], line["key"]) == (problem, key):
            found = [] if line.event == "clear" else [*found, line["remedy"]]
    return tuple(found)


def incidents(lines: Sequence[Line]) -> tuple[tuple[str, str], ...]:
    """Problem and key of those that are open, oldest first."""
    found: dict[tuple[str, str], None] = {}
    for line in lines:
        if line.event in ("started", "tried") and line["problem"]:
            found[line["problem"], line["key"]] = None
        elif line.event == "clear":
            found.pop((line["problem"], line["key"]), None)
    return tuple(found)


def limits(lines: Sequence[Line], now: Moment) -> tuple[Limit, ...]:
    """The limits that were reached, and have not lifted: of each problem, key and remedy the newest, which is last."""
    found: list[Limit] = []
    for line in lines:
        which = line.fields.get("problem", ""), line.fields.get("key", "")
        if line.event == "clear":
            found = [limit for limit in found if (limit.problem, limit.key) != which]
        elif line.event == "limit" and _is_in_force(line, now):
            new = Limit(*which, line["remedy"], line["why"], line["until"])
            found = [limit for limit in found if (limit.problem, limit.key, limit.remedy) != (*which, new.remedy)]
            found.append(new)
    return tuple(found)


def limits_told(lines: Sequence[Line], which: tuple[str, str], now: Moment) -> tuple[tuple[str, str], ...]:
    """Remedy and words of all limits that were noted of an incident and have not lifted."""
    found: list[tuple[str, str]] = []
    for line in lines:
        if (line.fields.get("problem"), line.fields.get("key")) != which:
            continue
        if line.event == "clear":
            found = []
        elif line.event == "limit" and _is_in_force(line, now):
            found.append((line["remedy"], line["why"]))
    return tuple(found)


def _is_in_force(limit: Line, now: Moment) -> bool:
    return limit["until"] is None or now.wall < limit["until"]


# ------------------------------------------------------------------------------------------------------ the files


def peek(directory: Path) -> tuple[Line, ...]:
    """What the ledger in a directory holds, without opening it for writing; nothing where there is none. Raises
    LedgerError."""
    try:
        return decode((directory / _NAME).read_bytes())[0]
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise LedgerError(f"cannot read the ledger in {directory}: {error.strerror}") from None


def note_refusal(directory: Path, remedy: str, reason: str) -> None:
    """Have a refusal counted by whoever opens the ledger next; where that cannot be noted either, it is not counted."""
    with contextlib.suppress(OSError), _refused_elsewhere(directory) as file:
        _note(file, Counter({(remedy, reason): 1}))


def _note(file: int, counts: Counts) -> bool:
    """Add to what is to be counted by the next summary: all of it, or nothing, and then it is False."""
    before = os.fstat(file).st_size
    data = "".join(f"{remedy} {reason}".rstrip() + "\n" for remedy, reason in counts.elements()).encode()
    if before >= _MOST_REFUSED:
        return False
    is_whole = False
    with contextlib.suppress(OSError):
        is_whole = os.write(file, data) == len(data)
    if not is_whole:
        with contextlib.suppress(OSError):
            os.ftruncate(file, before)
    return is_whole


def _noted(data: bytes) -> Counts:
    return Counter((found[1], found[2] or "") for found in _NOTED.finditer(data.decode("utf-8", "replace")))


@contextlib.contextmanager
def _refused_elsewhere(directory: Path) -> Iterator[int]:
    """The file, held against others."""
    file = os.open(directory / _REFUSED, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


class Ledger:
    """The ledger, open for as long as its hands live: nobody else opens it meanwhile.

    The file `unfinished` beside it is there whenever something is left to be done: it is made before the line that says
    so, and taken away with the next summary when all is done. Raises LedgerBusy, and LedgerError where it cannot be
    used.
    """

    def __init__(self, directory: Path, summary: Path, now: Moment, rotate: int = _ROTATE) -> None:
        self._directory = directory
        self._summary = summary
        self._broken = ""
        self._next = 1  # the number of the next attempt
        self._untold: Counts = Counter()  # neither in the summary, nor noted for the next
        self.unpublished = ""  # why the summary could not be written; empty where it could
        try:
            self._lock = self._alone()
            try:
                self._file = os.open(
                    directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
                )
                self._load(now, rotate)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise LedgerError(f"cannot use the ledger in {directory}: {error.strerror}") from None
        self._told = self._read_summary()
        # What ended before a crash, and was not told.
        counted = _endings(self._lines)
        most = {which: max(count, self._told.ended.get(which, 0)) for which, count in counted.items()}
        self._told = replace(self._told, ended={**self._told.ended, **most})

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let others have it. What no summary has told is noted for the next."""
        if self._untold:
            with contextlib.suppress(OSError), _refused_elsewhere(self._directory) as file:
                self._note_untold(file)
        for name in ("_file", "_lock"):
            if hasattr(self, name):
                os.close(getattr(self, name))
                delattr(self, name)

    @property
    def lines(self) -> tuple[Line, ...]:
        """What it holds."""
        return tuple(self._lines)

    def add(self, event: str, now: Moment, **fields: Any) -> Line:
        """Have one more line on the disk. Raises LedgerError: then it is not there."""
        if self._broken:
            raise LedgerError(self._broken)
        line = Line(event, now, fields)
        data = encode_line(line)
        try:
            if event in ("started", "undoing"):
                self._mark()
            self._write(data)
        except OSError as error:
            self._broken = f"cannot write the ledger in {self._directory}: {error.strerror}"
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._size)
                os.fsync(self._file)
            raise LedgerError(self._broken) from None
        self._size += len(data)
        # As it will be read: tuples are lists then.
        self._lines.append(typing.cast(Line, _line(data)))
        if event == "ended":
            which = self.attempt(fields["attempt"]).remedy, fields["result"]
            self._told = replace(self._told, ended={**self._told.ended, which: self._told.ended.get(which, 0) + 1})
        return self._lines[-1]

    def begin(self, now: Moment, steps: Sequence[Step], **fields: Any) -> int:
        """Note that an attempt begins; gives its number. Raises LedgerError."""
        number = self._next
        self.add("started", now, attempt=number, steps=[wire.encode_step(step) for step in steps], **fields)
        self._next = number + 1
        return number

    def attempt(self, number: int) -> Attempt:
        """Raises LedgerError where there is none."""
        for attempt in attempts(self._lines):
            if attempt.id == number:
                return attempt
        raise LedgerError(f"there is no attempt {number} in the ledger")

    def count_refusal(self, remedy: str, reason: str) -> None:
        """One more, told by the next summary."""
        self._untold[remedy, reason] += 1

    def count_would_run(self, remedy: str) -> None:
        """One more, told by the next summary."""
        self._untold[remedy, ""] += 1

    def publish(self, now: Moment) -> Fixes:
        """Replace the summary by what is true now. Where that fails, `unpublished` says why: nothing depends on it, and
        what is counted is told by the next."""
        self._unmark()
        with contextlib.ExitStack() as held:
            file, data = None, b""
            with contextlib.suppress(OSError):
                elsewhere = held.enter_context(_refused_elsewhere(self._directory))
                file, data = elsewhere, _read(elsewhere)
            told = self._summed_up(now, self._untold + _noted(data))
            try:
                with contextlib.suppress(FileExistsError):
                    self._summary.parent.mkdir()
                    self._summary.parent.chmod(0o755)  # whatever our umask is
                _replace(self._summary, fixes.encode(told), 0o644)
            except OSError as error:
                self.unpublished = f"cannot write {self._summary}: {error.strerror}"
                if file is not None:
                    with contextlib.suppress(OSError):
                        self._note_untold(file)
                return told
            self.unpublished = ""
            self._told = told
            self._untold.clear()
            if file is not None and data:
                # A crash before this has it counted twice; one before the summary was written would have lost it.
                with contextlib.suppress(OSError):
                    os.ftruncate(file, 0)
                    os.fsync(file)
        return told

    # ---- below

    def _summed_up(self, now: Moment, untold: Counts) -> Fixes:
        refused, would_run = {**self._told.refused}, {**self._told.would_run}
        for (remedy, reason), count in untold.items():
            if reason:
                refused[remedy, reason] = refused.get((remedy, reason), 0) + count
            else:
                would_run[remedy] = would_run.get(remedy, 0) + count
        return Fixes(
            now.wall,
            tuple(_cleaned(attempt) for attempt in attempts(self._lines)[-_SHOWN:]),
            temporary(self._lines),
            tuple(replace(limit, why=clean(limit.why), key=clean(limit.key)) for limit in limits(self._lines, now)),
            tuple((problem, clean(key)) for problem, key in incidents(self._lines)),
            refused,
            would_run,
            {(problem, clean(key)): tried(self._lines, problem, key) for problem, key in incidents(self._lines)},
            self._told.ended,
        )

    def _note_untold(self, file: int) -> None:
        if _note(file, self._untold):
            self._untold.clear()

    def _alone(self) -> int:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        found = self._directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise LedgerError(
                f"cannot use the ledger in {self._directory}: it must be a directory with mode 0700 and owner"
                f" {os.geteuid()}, and has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}"
            )
        lock = os.open(self._directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise LedgerBusy("another fix is under way") from None
        return lock

    def _load(self, now: Moment, rotate: int) -> None:
        _sync(self._directory)
        data = _read(self._file)
        lines, good = decode(data)
        self._lines = list(lines)
        self._size = good
        if good < len(data):
            os.ftruncate(self._file, good)
            os.fsync(self._file)
            self.add("torn", now, bytes=len(data) - good)
        self._next = max(
            [1, *(int(line["next"]) for line in lines if line.event == "rotated")]
            + [attempt.id + 1 for attempt in attempts(lines)]
        )
        if is_left_to_do(self._lines):
            self._mark()
        else:
            self._unmark()
        if good > rotate:
            self._rotate(now, rotate)

    def _mark(self) -> None:
        """Have it on the disk that something is left to be done, before it is."""
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(self._directory / UNFINISHED, flags, 0o600))
        _sync(self._directory)

    def _unmark(self) -> None:
        """Nothing is left to be done, if that is so: one mark too many costs a start, one too few an undoing."""
        if not (self._broken or is_left_to_do(self._lines)):
            with contextlib.suppress(OSError):
                (self._directory / UNFINISHED).unlink()

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._file, rest) :]
        os.fsync(self._file)

    def _rotate(self, now: Moment, rotate: int) -> None:
        """Begin a new file with what limits, undoing and an unfinished attempt need. The old one goes to the archive
        before, so that there is a whole file at every moment."""
        for undoable in (True, False):
            with contextlib.suppress(LedgerError):  # a line would be too long
                data = b"".join(encode_line(line) for line in self._needed(now, undoable))
                if len(data) <= rotate // 2:
                    break
        else:
            return  # it would soon be full again; a day has only so many attempts, so that this passes
        # Named by how it begins: where the new file cannot be written, the next start writes the same archive again.
        first = self._lines[0]
        archive = f"{_NAME}.{first.fields.get('next', 1):08d}-{int(first.moment.wall)}"
        try:
            _replace(self._directory / archive, _read(self._file), 0o600)
            _replace(self._directory / _NAME, data, 0o600)
        except OSError:
            if os.path.samestat(os.fstat(self._file), (self._directory / _NAME).stat()):
                return  # the full one can still be added to, and the next start tries again
            raise
        old_file = self._file
        self._file = os.open(self._directory / _NAME, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        os.close(old_file)
        self._lines, self._size = list(decode(data)[0]), len(data)
        for old in sorted(self._directory.glob(f"{_NAME}.[0-9]*-*"))[:-_ARCHIVES]:
            with contextlib.suppress(OSError):
                old.unlink()

    def _needed(self, now: Moment, undoable: bool) -> list[Line]:
        """The lines of a new file. `undoable` is whether old attempts that could still be undone are among them."""
        lines = self._lines
        young = _first_younger(lines, now)
        whole = {attempt.id for attempt in unfinished(lines)} | {change.attempt for change in temporary(lines)}
        whole |= {line["attempt"] for line in lines[young:] if "attempt" in line.fields}
        if undoable:
            whole |= {attempt.id for attempt in attempts(lines) if _holds_change(lines, attempt.id)}
        of_whole = {_which(line) for line in lines if line.event == "started" and line["attempt"] in whole}
        cleared = {_which(line): index for index, line in enumerate(lines) if line.event == "clear"}
        tries: dict[tuple[str, tuple[str, str]], list[int]] = {}  # in the incidents that are open
        for index, line in enumerate(lines):
            if line.event in ("started", "tried") and line["problem"] and index > cleared.get(_which(line), -1):
                tries.setdefault((line["remedy"], _which(line)), []).append(index)
        first_and_last = {index for places in tries.values() for index in (places[0], places[-1])}
        shorter = _in_one_line(lines[:young])
        kept: list[Line] = []
        for index, line in enumerate(lines):
            if line.event in ("rotated", "torn"):
                continue
            if line.fields.get("attempt") in whole:
                kept += shorter.get(index, (line,))
            elif "attempt" not in line.fields and index >= young:
                kept.append(line)
            elif line.event == "clear":
                kept += [line] if cleared[_which(line)] == index and _which(line) in of_whole else []
            elif line.event == "limit":
                kept += [line] if _is_in_force(line, now) and index > cleared.get(_which(line), -1) else []
            elif index in first_and_last:
                fields = {name: line[name] for name in ("remedy", "problem", "key")}
                kept.append(Line("tried", line.moment, fields))
        shown = [
            {**vars(attempt), "result": attempt.result.value}
            for attempt in attempts(lines)[-_SHOWN:]
            if attempt.id not in whole
        ]
        ended = _endings(lines) - _endings(kept)  # those whose lines are not kept
        counts = [[*which, count] for which, count in ended.items()]
        return [Line("rotated", now, {"next": self._next, "attempts": shown, "ended": counts}), *kept]

    def _read_summary(self) -> Fixes:
        try:
            return fixes.decode(self._summary.read_bytes())
        except (OSError, ValueError):
            return Fixes(0.0)  # counters begin anew, as they may


def is_left_to_do(lines: Sequence[Line]) -> bool:
    """Whether the hands must be started once more: an attempt has not ended, or a temporary change is in force."""
    return bool(unfinished(lines) or temporary(lines))


def _first_younger(lines: Sequence[Line], now: Moment) -> int:
    """The place of the first line that limits may still need; those after it are younger."""
    low, high = 0, len(lines)
    while low < high:
        middle = (low + high) // 2
        if elapsed(lines, lines[middle], now) < _KEPT:
            high = middle
        else:
            low = middle + 1
    return low


def _which(line: Line) -> tuple[str, str]:
    return line["problem"], line["key"]


def _in_one_line(lines: Sequence[Line]) -> dict[int, tuple[Line, ...]]:
    """What stands for these lines in a shorter ledger, by their place: the ends of an attempt become one, where the
    last is, and of its beginnings to undo only the last stays."""
    found: dict[int, tuple[Line, ...]] = {}
    places: dict[tuple[str, int], list[int]] = {}
    for index, line in enumerate(lines):
        if line.event in ("ended", "undoing"):
            places.setdefault((line.event, line["attempt"]), []).append(index)
    for (event, _), (*earlier, last) in places.items():
        found.update(dict.fromkeys(earlier, ()))
        if event == "ended" and earlier:
            all_of_them = [lines[index] for index in (*earlier, last)]
            together = {
                name: _each_once(each for line in all_of_them for each in line[name]) for name in ("undone", "reasons")
            }
            found[last] = (replace(lines[last], fields={**lines[last].fields, **together}),)
    return found


def _holds_change(lines: Sequence[Line], attempt: int) -> bool:
    """Whether something is in force that somebody may want undone."""
    there = in_force(lines, attempt)
    return any(
        document["step"] in UNDOABLE
        for line in of_attempt(lines, attempt, "started")
        for index, document in enumerate(line["steps"])
        if index in there
    )


def _cleaned(attempt: Attempt) -> Attempt:
    return replace(attempt, key=clean(attempt.key), reasons=tuple(map(clean, attempt.reasons)))


def _read(file: int) -> bytes:
    os.lseek(file, 0, os.SEEK_SET)
    chunks = []
    while chunk := os.read(file, 1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def _replace(path: Path, data: bytes, mode: int) -> None:
    """The whole file or none."""
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(file, rest) :]
        os.fchmod(file, mode)
        os.fsync(file)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    finally:
        os.close(file)
    new.replace(path)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
