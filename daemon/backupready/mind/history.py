"""What has been in the past weeks, and who waits for the disk that it is kept on? Nobody.

Verdicts, problems, loads, backups and predictions, in one SQLite file which a thread of its own alone touches. What is
noted goes into a bounded queue; while the disk is frozen, full or not there it waits, and when the queue is full the
oldest makes room and is counted.

The journal is SQLite's rollback journal, truncated after every commit, with `synchronous` FULL, and not its write-ahead
log. A commit every few minutes has no use for the log's speed; with the rollback journal what is committed outlives a
crash of the kernel, everything is in one file, which can be read also where nothing may be written, there is no memory
map that a full disk turns into SIGBUS, and closing does no work that could wait for a frozen disk.

Records are by the wall clock, which may be wrong for a while. So age alone forgets slowly: once in an hour of running,
at most one day's worth of the oldest records, and of those that lie more than a day ahead. A clock that is years wrong
for some hours costs that many days of records, at the end that it is away from, and what was written meanwhile goes
within as many hours. What is later than the clock is not recalled.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable, TypeVar

from backupready import journal
from backupready.journal import LOG
from backupready.mind.loads import KEPT, LATEST_SLOT, RESOLUTION, SLOT, Loads, in_ten_thousandths
from backupready.model import BeliefState, Effect, Happened, Load, Prediction, Run, Verdict

SCHEMA = 1
LIMIT = 20 << 20  # bytes
_NAME = "history.sqlite"
_COMPANIONS = ("-journal", "-wal", "-shm")  # files of SQLite's that belong to it
_MODE = 0o600
_QUEUE = 1000  # records; three days of loads, or some 300 kB
_BATCH = 200  # records that are written together
_AGAIN = 60.0  # s from a failure to the next attempt
_CLOSE_TIMEOUT = 5.0  # s; a frozen disk does not keep the daemon from stopping
_LOCKED = 5.0  # s that somebody else who reads it is waited for
_CACHE = 512  # KiB
_DAY = 86400.0
_FORGET_EVERY = 3600.0  # s
_FEW = 500  # records that make room at a time
_PAGES = 128  # that are given back at a time
_RECALLED = KEPT  # verdicts, transitions and loads; of runs and predictions everything
_MOST_RECALLED = 1000  # verdicts, and as many transitions

_MOMENT = f"BETWEEN 0 AND {LATEST_SLOT * SLOT}"
_TABLES = {
    "verdicts": f"""CREATE TABLE verdicts (
        at REAL PRIMARY KEY CHECK (at {_MOMENT}), verdict TEXT NOT NULL, reasons TEXT NOT NULL
    ) WITHOUT ROWID""",
    "transitions": f"""CREATE TABLE transitions (
        at REAL CHECK (at {_MOMENT}), code TEXT, key TEXT, state TEXT NOT NULL, effect TEXT NOT NULL,
        PRIMARY KEY (at, code, key)
    ) WITHOUT ROWID""",
    # Shares are whole ten-thousandths.
    "loads": f"""CREATE TABLE loads (
        start INTEGER PRIMARY KEY CHECK (start {_MOMENT} AND start % {SLOT} = 0),
        cpu INTEGER NOT NULL, memory INTEGER NOT NULL, steal INTEGER NOT NULL, io INTEGER
    )""",
    "runs": f"""CREATE TABLE runs (
        second INTEGER CHECK (second {_MOMENT}), code INTEGER, ended REAL NOT NULL, happened TEXT NOT NULL, began REAL,
        path TEXT NOT NULL, PRIMARY KEY (second, code)
    ) WITHOUT ROWID""",
    "predictions": f"""CREATE TABLE predictions (
        start REAL PRIMARY KEY, made REAL NOT NULL CHECK (made {_MOMENT}), verdict TEXT NOT NULL, reasons TEXT NOT NULL,
        happened TEXT, told REAL
    ) WITHOUT ROWID""",
}
_AGE = {"verdicts": "at", "transitions": "at", "loads": "start", "runs": "second", "predictions": "made"}
# Which records make room, and how many of the newest of their kind do not in that turn. Loads first, but not those that
# a forecast is made of, as long as there is something else: a problem that flaps for weeks must not cost the forecast.
_MAKE_ROOM = (
    ("loads", _RECALLED // timedelta(seconds=SLOT)),
    ("transitions", 0),
    ("verdicts", 0),
    ("loads", 0),
    ("predictions", 0),
    ("runs", 0),
)

_NOTE_VERDICT = "INSERT OR REPLACE INTO verdicts VALUES (?, ?, ?)"
_NOTE_PROBLEM = "INSERT OR REPLACE INTO transitions VALUES (?, ?, ?, ?, ?)"
_NOTE_LOAD = "INSERT OR REPLACE INTO loads VALUES (?, ?, ?, ?, ?)"
_NOTE_RUN = """INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (second, code) DO UPDATE SET
    ended = excluded.ended, happened = excluded.happened, began = coalesce(excluded.began, began),
    path = coalesce(nullif(excluded.path, ''), path)"""
_NOTE_PREDICTION = """INSERT INTO predictions VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (start) DO UPDATE SET
    made = excluded.made, verdict = excluded.verdict, reasons = excluded.reasons, happened = excluded.happened,
    told = excluded.told WHERE happened IS NULL"""

# What SQLite says of a record that it would never take, and of a file that is damaged. All else is the disk.
_REFUSED = (
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    sqlite3.DataError,
    OverflowError,
    ValueError,
)
_DAMAGED = ("malformed", "unsupported file format", "not a database")

T = TypeVar("T")


@dataclass(frozen=True)
class Judged:
    """A verdict and the problems that it was for, gravest first. Times in here are seconds since the epoch."""

    at: float
    verdict: Verdict
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Transition:
    """What was believed of a problem (one key of it) from a moment on."""

    at: float
    code: str
    key: str
    state: BeliefState
    effect: Effect


@dataclass(frozen=True)
class Recalled:
    """What earlier runs kept, each oldest first: verdicts, transitions and loads of the newest weeks, of the first two
    at most a thousand; all runs and predictions, by the end of the run and the start of the window."""

    verdicts: tuple[Judged, ...] = ()
    transitions: tuple[Transition, ...] = ()
    loads: Loads = field(default_factory=Loads)
    runs: tuple[Run, ...] = ()
    predictions: tuple[Prediction, ...] = ()


class Unusable(Exception):
    """The file cannot be used; `suffix` is what it is set aside as."""

    def __init__(self, why: str, suffix: str = "broken") -> None:
        super().__init__(why)
        self.suffix = suffix


class History:
    """The file in its directory, with the thread that alone touches it. Noting returns at once.

    `keep` is how old records may become, `limit` how large the file, in bytes. `written`, `dropped` and `failures`
    count records that are on the disk, records that never will be, and attempts at the disk that failed.
    """

    def __init__(
        self,
        directory: str,
        keep: timedelta = timedelta(days=90),
        limit: int = LIMIT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = Path(directory) / _NAME
        self._keep = keep.total_seconds()
        self._limit = limit
        self._clock = clock
        self._wake = threading.Condition()
        self._waiting: deque[tuple[str, tuple[Any, ...]]] = deque()
        self._recalled: Recalled | None = None
        self._closing = False
        self._told = ""
        self._connection: sqlite3.Connection | None = None
        self._forget_at = time.monotonic() + _FORGET_EVERY
        self.written = self.dropped = self.failures = 0
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    def recall(self, timeout: float = 0.0) -> Recalled | None:
        """What earlier runs kept; None while that is not read, for which at most `timeout` seconds are waited. To be
        asked again later."""
        with self._wake:
            self._wake.wait_for(lambda: self._recalled is not None, timeout)
            return self._recalled

    def release(self) -> None:
        """What was recalled has been taken over, and need not be in memory twice: from now on nothing is recalled."""
        with self._wake:
            self._recalled = Recalled()

    def note_verdict(self, judged: Judged) -> None:
        """To be called when it, or a reason, changed."""
        self._note(_NOTE_VERDICT, judged.at, judged.verdict.value, " ".join(judged.reasons))

    def note_problem(self, transition: Transition) -> None:
        """To be called when the state or the effect changed."""
        it = transition
        self._note(_NOTE_PROBLEM, it.at, it.code, it.key, it.state.value, it.effect.value)

    def note_load(self, load: Load) -> None:
        """Of the same five minutes the newest counts."""
        io = None if load.io is None else in_ten_thousandths(load.io)
        shares = (in_ten_thousandths(share) for share in (load.cpu, load.memory, load.steal))
        self._note(_NOTE_LOAD, load.start, *shares, io)

    def note_run(self, run: Run) -> None:
        """As often as it is seen: runs with the same code that ended in the same second are one, of which is kept what
        was known of it last."""
        # A time that is no number is refused by the thread, as any other record that cannot be kept.
        second = int(run.ended) if abs(run.ended) < LATEST_SLOT * SLOT else None
        self._note(_NOTE_RUN, second, run.code, run.ended, run.happened.value, run.began, run.path)

    def note_prediction(self, prediction: Prediction) -> None:
        """Takes the place of the one made before for the same window, unless what happened there is known already."""
        it = prediction
        happened = None if it.happened is None else it.happened.value
        self._note(_NOTE_PREDICTION, it.start, it.made, it.verdict.value, " ".join(it.reasons), happened, it.told)

    def _note(self, statement: str, *values: Any) -> None:
        with self._wake:
            self._waiting.append((statement, values))
            if len(self._waiting) > _QUEUE:
                self._waiting.popleft()
                self.dropped += 1
            self._wake.notify_all()

    @property
    def waiting(self) -> int:
        """Records that are not on the disk yet, those left out that are being written."""
        return len(self._waiting)

    def close(self) -> None:
        """Let what waits be written, but wait for a frozen disk no longer than a few seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(_CLOSE_TIMEOUT)

    # ---- on the thread

    def _work(self) -> None:
        pause, more = 0.0, True
        while True:
            with self._wake:
                if pause:
                    self._wake.wait_for(lambda: self._closing, pause)
                elif not more:
                    self._wake.wait_for(lambda: self._waiting or self._closing, max(self._until_forgetting(), 0.0))
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _BATCH))]
            try:
                more = self._turn(batch)
            except (OSError, sqlite3.Error, Unusable) as error:
                self.failures += 1
                self._tell_once(f"cannot use {self._path}: {_words(error)}; what is to be kept waits")
                self._let_go()
                pause = _AGAIN
            else:
                self._told, pause = "", 0.0
            with self._wake:
                if self._closing and (pause or not self._waiting):
                    break
        self._let_go()

    def _turn(self, batch: list[tuple[str, tuple[Any, ...]]]) -> bool:
        """Write this, and do a bounded part of the tidying. Gives whether there is more to tidy."""
        try:
            if self._connection is None:
                self._connection = self._open()
            self._write(self._connection, batch)
        finally:
            self._put_back(batch)
        return self._tidy(self._connection)

    def _put_back(self, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        """What could not be written goes first the next time."""
        with self._wake:
            room = max(_QUEUE - len(self._waiting), 0)
            self.dropped += max(len(batch) - room, 0)
            self._waiting.extendleft(reversed(batch[max(len(batch) - room, 0) :]))

    def _open(self) -> sqlite3.Connection:
        """The file, made if there is none; set aside and made anew if it cannot be used."""
        try:
            return self._open_as_it_is()
        except Unusable as trouble:
            self._set_aside(trouble)
            return self._open_as_it_is()

    def _open_as_it_is(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))
        except OSError:
            # What may be read and not written is worth reading.
            if not self._path.is_file():
                raise
        connection = connect(self._path)
        try:
            prepare(connection)
            recalled = self._read(connection) if self._recalled is None else self._recalled
        except BaseException as error:
            connection.close()
            if _is_damage(error):
                raise Unusable(str(error)) from None
            raise
        with self._wake:
            self._recalled = recalled
            self._wake.notify_all()
        return connection

    def _read(self, connection: sqlite3.Connection) -> Recalled:
        unreadable: list[Exception] = []
        recalled = recall(connection, self._clock(), self._keep, unreadable)
        if unreadable:
            LOG.warning(
                "cannot read %d of the records in %s, going on without them: %s",
                len(unreadable),
                self._path,
                _words(unreadable[0]),
            )
        return recalled

    def _write(self, connection: sqlite3.Connection, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        """Empties the batch: all of it at once, save where there are records that no disk would take."""
        if not batch:
            return
        try:
            with _transaction(connection):
                for statement, values in batch:
                    connection.execute(statement, values)
        except _REFUSED as error:
            if len(batch) > 1:
                while batch:
                    self._write(connection, batch[:1])
                    del batch[0]
                return
            self.failures += 1
            self.dropped += 1
            LOG.warning("cannot keep a record in %s: %s; going on without it", self._path, _words(error))
        else:
            self.written += len(batch)
        batch.clear()

    def _until_forgetting(self) -> float:
        return self._forget_at - time.monotonic()

    def _tidy(self, connection: sqlite3.Connection) -> bool:
        if self._closing:
            return False
        if self._until_forgetting() <= 0:
            self._forget_at = time.monotonic() + _FORGET_EVERY
            forget(connection, self._clock(), self._keep)
        return make_room(connection, self._limit)

    def _let_go(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _set_aside(self, trouble: Unusable) -> None:
        """Raises Unusable where that cannot be done."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = f"{self._path}.{trouble.suffix}.{moment}"
        # The file comes last: a journal that was left behind would be played into the next one.
        for suffix in (*_COMPANIONS, ""):
            try:
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
            except FileNotFoundError:
                continue
            except OSError as error:
                raise Unusable(f"{trouble}; and cannot set it aside: {error.strerror}") from None
        extra = {"MESSAGE_ID": journal.MESSAGE_HISTORY_SET_ASIDE}
        LOG.warning("cannot use %s: %s; set aside as %s", self._path, trouble, Path(aside).name, extra=extra)

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            LOG.warning("%s", text)


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


def _is_damage(error: BaseException) -> bool:
    """Whether it speaks of the file's content, and not of the disk."""
    # SQLite's own words may quote what is there in place of a name.
    if type(error) in (sqlite3.DatabaseError, UnicodeDecodeError):
        return True
    return isinstance(error, sqlite3.Error) and any(word in str(error) for word in _DAMAGED)


# ---------------------------------------------------------------------------------------------------- the file


def connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, as all that follow."""
    connection = sqlite3.connect(str(path), timeout=_LOCKED, isolation_level=None)
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


def prepare(connection: sqlite3.Connection) -> None:
    """Check that the file is ours and whole, and make the tables in an empty one. Raises Unusable."""
    connection.execute(f"PRAGMA cache_size = -{_CACHE}")
    connection.execute("PRAGMA mmap_size = 0")
    connection.execute("PRAGMA synchronous = FULL")
    version = _number(connection, "PRAGMA user_version")
    if version > SCHEMA:
        raise Unusable(f"a newer version wrote it (schema {version}, known is {SCHEMA})", f"schema-{version}")
    found = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
    tables = {name: statement for name, statement in found if not name.startswith("sqlite_")}
    if version == 0 and not tables:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        with _transaction(connection):
            for statement in _TABLES.values():
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
    elif version != SCHEMA or tables != _TABLES:
        raise Unusable("it is no history of this program")
    elif (told := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise Unusable(" ".join(told.split())[:200])
    connection.execute("PRAGMA journal_mode = TRUNCATE")


def _number(connection: sqlite3.Connection, query: str, *values: float) -> int:
    found = connection.execute(query, values).fetchone()[0]
    assert isinstance(found, int)
    return found


def recall(connection: sqlite3.Connection, now: float, keep: float, unreadable: list[Exception]) -> Recalled:
    """What is in the file and not older than `keep` seconds. `unreadable` is given the errors of rows whose values are
    none of ours."""

    def rows(query: str, since: float, make: Callable[..., T]) -> Iterator[T]:
        for row in connection.execute(query, (since, now)):
            try:
                yield make(*row)
            except (ValueError, TypeError, AttributeError) as error:
                unreadable.append(error)

    def newest(table: str, make: Callable[..., T]) -> tuple[T, ...]:
        query = f"SELECT * FROM {table} WHERE at >= ? AND at <= ? ORDER BY at DESC LIMIT {_MOST_RECALLED}"  # noqa: S608
        return tuple(rows(query, recent, make))[::-1]

    oldest, recent = now - keep, now - min(keep, _RECALLED.total_seconds())
    loads = Loads(_RECALLED)
    for load in rows("SELECT * FROM loads WHERE start >= ? AND start <= ? ORDER BY start", recent, _load):
        loads.add(load)
    return Recalled(
        newest("verdicts", _judged),
        newest("transitions", _transition),
        loads,
        tuple(rows("SELECT * FROM runs WHERE second >= ? AND second <= ? ORDER BY ended", oldest, _run)),
        tuple(rows("SELECT * FROM predictions WHERE made >= ? AND made <= ? ORDER BY start", oldest, _prediction)),
    )


def _judged(at: Any, verdict: Any, reasons: Any) -> Judged:
    return Judged(_moment(at), Verdict(verdict), tuple(_text(reasons).split()))


def _transition(at: Any, code: Any, key: Any, state: Any, effect: Any) -> Transition:
    return Transition(_moment(at), _text(code), _text(key), BeliefState(state), Effect(effect))


def _load(start: Any, cpu: Any, memory: Any, steal: Any, io: Any) -> Load:
    return Load(_moment(start), _share(cpu), _share(memory), _share(steal), None if io is None else _share(io))


def _run(second: Any, code: Any, ended: Any, happened: Any, began: Any, path: Any) -> Run:
    if not isinstance(code, int):
        raise TypeError(f"{code!r} is no code of a run")
    return Run(_moment(ended), code, Happened(happened), None if began is None else _moment(began), _text(path))


def _prediction(start: Any, made: Any, verdict: Any, reasons: Any, happened: Any, told: Any) -> Prediction:
    return Prediction(
        _moment(start),
        _moment(made),
        Verdict(verdict),
        tuple(_text(reasons).split()),
        None if happened is None else Happened(happened),
        None if told is None else _moment(told),
    )


def _moment(value: Any) -> float:
    if not isinstance(value, (int, float)) or not 0 <= value <= LATEST_SLOT * SLOT:
        raise ValueError(f"{value!r} is no moment")
    return float(value)


def _share(value: Any) -> float:
    if not isinstance(value, int) or not 0 <= value <= RESOLUTION:
        raise ValueError(f"{value!r} is no share in ten-thousandths")
    return value / RESOLUTION


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


# ------------------------------------------------------------------------------------------------- forgetting


def forget(connection: sqlite3.Connection, now: float, keep: float) -> None:
    """Take away at most one day's worth of what is older than `keep` seconds, and of what is more than a day ahead."""

    def ends(function: str) -> list[float]:
        found = (
            connection.execute(f"SELECT {function}({age}) FROM {table}").fetchone()[0]  # noqa: S608
            for table, age in _AGE.items()
        )
        return [end for end in found if end is not None]

    with _transaction(connection):
        if oldest := ends("min"):
            _delete(connection, "<", min(now - keep, min(oldest) + _DAY))
        if newest := ends("max"):
            _delete(connection, ">", max(now + _DAY, max(newest) - _DAY))


def _delete(connection: sqlite3.Connection, comparison: str, moment: float) -> None:
    for table, age in _AGE.items():
        connection.execute(f"DELETE FROM {table} WHERE {age} {comparison} ?", (moment,))  # noqa: S608


def make_room(connection: sqlite3.Connection, limit: int) -> bool:
    """Where the file is larger than `limit` bytes: take away a few of the records that are missed least, give back a
    few pages. Gives whether that has to go on."""
    size = _number(connection, "PRAGMA page_size")
    pages = _number(connection, "PRAGMA page_count")
    free = _number(connection, "PRAGMA freelist_count")
    if pages * size <= limit:
        return False
    if (pages - free) * size > limit:
        with _transaction(connection):
            return any(_delete_few(connection, table, spared) for table, spared in _MAKE_ROOM)
    connection.execute(f"PRAGMA incremental_vacuum({_PAGES})").fetchall()
    return _number(connection, "PRAGMA page_count") < pages


def _delete_few(connection: sqlite3.Connection, table: str, spared: int) -> bool:
    """The oldest few, but not of the newest so many. Gives whether there were any."""
    count = min(_number(connection, f"SELECT count(*) FROM {table}") - spared, _FEW)  # noqa: S608
    if count <= 0:
        return False
    age = _AGE[table]
    oldest = f"SELECT {age} FROM {table} ORDER BY {age} LIMIT {count}"  # noqa: S608
    connection.execute(f"DELETE FROM {table} WHERE {age} <= (SELECT max({age}) FROM ({oldest}))")  # noqa: S608
    return True
