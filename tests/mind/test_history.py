"""What is kept for weeks: that it is there again, that nobody waits for it, and that it is bounded."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backupready import journal
from backupready.mind import history
from backupready.mind.history import History, Judged, Recalled, Transition
from backupready.mind.loads import SLOT
from backupready.model import BeliefState, Effect, Happened, Load, Prediction, Run, Verdict
from measured import measured

DAY = 86400.0
NOW = 1_700_000_100.0  # a multiple of 300
KEEP = timedelta(days=90)

JUDGED = (
    Judged(NOW - 200, Verdict.BLOCKED, ("AGENT_STOPPED", "CPU_SATURATED")),
    Judged(NOW - 100.25, Verdict.READY),
)
TRANSITIONS = (
    Transition(NOW - 200, "AGENT_STOPPED", "", BeliefState.ACTIVE, Effect.BLOCKS),
    Transition(NOW - 200, "MOUNT_SILENT", "/mnt/a b\nä", BeliefState.UNKNOWN, Effect.RISKS),
    Transition(NOW - 100.25, "AGENT_STOPPED", "", BeliefState.CLEAR, Effect.BLOCKS),
)
LOADS = (Load(NOW - 600, 0.9123, 0.25, 0.0, None), Load(NOW - 300, 1.0, 0.0, 0.5, 0.0001))
RUNS = (
    Run(NOW - 9000.5, 1, Happened.SUCCEEDED, NOW - 9040.25, "host"),
    Run(NOW - 5000, -7, Happened.FAILED_ELSEWHERE),
)
PREDICTIONS = (
    Prediction(NOW - 7200, NOW - 9000, Verdict.AT_RISK, ("A", "B"), Happened.FAILED, NOW - 60),
    Prediction(NOW + 7200, NOW - 50, Verdict.READY, ()),
)


def note_everything(it: History) -> int:
    """Returns how many records that makes."""
    for judged in JUDGED:
        it.note_verdict(judged)
    for transition in TRANSITIONS:
        it.note_problem(transition)
    for load in LOADS:
        it.note_load(load)
    for run in RUNS:
        it.note_run(run)
    for prediction in PREDICTIONS:
        it.note_prediction(prediction)
    return sum(map(len, (JUDGED, TRANSITIONS, LOADS, RUNS, PREDICTIONS)))


def content(recalled: Recalled | None) -> tuple[tuple[Any, ...], ...]:
    assert recalled is not None
    return (
        recalled.verdicts,
        recalled.transitions,
        tuple(recalled.loads),
        recalled.runs,
        recalled.predictions,
    )


EVERYTHING = (JUDGED, TRANSITIONS, LOADS, RUNS, PREDICTIONS)
NOTHING: tuple[tuple[Any, ...], ...] = ((), (), (), (), ())


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it does not come to be so"
        time.sleep(0.001)


Opener = Callable[..., History]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Opener]:
    """Opens the history of one directory, as often as asked, at a moment."""
    opened: list[History] = []

    def make(now: float = NOW, **more: Any) -> History:
        opened.append(History(str(tmp_path), clock=lambda: now, **more))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


@pytest.fixture
def kept(file: Opener, tmp_path: Path) -> Path:
    """A file with everything in it."""
    it = file()
    note_everything(it)
    it.close()
    return tmp_path / "history.sqlite"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed is tried again soon."""
    monkeypatch.setattr(history, "_AGAIN", 0.005)


# -------------------------------------------------------------------------------------------- kept and recalled


def test_what_is_noted_is_there_after_a_restart(file: Opener, tmp_path: Path) -> None:
    """Of every kind, oldest first, exactly as it was; in one file that is nobody else's."""
    mask = os.umask(0)
    try:
        first = file()
        assert content(first.recall(20)) == NOTHING
    finally:
        os.umask(mask)
    count = note_everything(first)
    first.close()
    assert (first.written, first.dropped, first.failures, first.waiting) == (count, 0, 0, 0)
    assert content(file().recall(20)) == EVERYTHING
    sizes = {entry.name: entry.stat().st_size for entry in tmp_path.iterdir()}
    assert set(sizes) <= {"history.sqlite", "history.sqlite-journal"}
    assert sizes.get("history.sqlite-journal", 0) == 0
    assert {entry.stat().st_mode & 0o777 for entry in tmp_path.iterdir()} == {0o600}


def test_noting_again_changes_nothing(file: Opener, kept: Path) -> None:
    """Every record has an identity of its own."""
    it = file()
    note_everything(it)
    it.close()
    assert content(file().recall(20)) == EVERYTHING


def test_a_run_that_is_seen_twice_is_one(file: Opener) -> None:
    """The same code in the same second; what was known of its beginning is not forgotten again."""
    it = file()
    known = Run(NOW - 60.75, 1, Happened.SUCCEEDED, NOW - 100, "guest")
    others = (Run(NOW - 59.75, 1, Happened.SUCCEEDED), Run(NOW - 60.75, 2, Happened.FAILED))
    for run in (known, Run(NOW - 60.5, 1, Happened.CRASH_CONSISTENT), *others):
        it.note_run(run)
    it.close()
    recalled = file().recall(20)
    assert recalled is not None
    merged = replace(known, ended=NOW - 60.5, happened=Happened.CRASH_CONSISTENT)
    assert recalled.runs == (others[1], merged, others[0])


def test_a_prediction_stands_once_it_is_known_what_happened(file: Opener) -> None:
    """Until then the newest counts."""
    it = file()
    first = Prediction(NOW - 50, NOW - 500, Verdict.READY, ())
    newer = Prediction(NOW - 50, NOW - 400, Verdict.BLOCKED, ("AGENT_STOPPED",))
    it.note_prediction(first)
    it.note_prediction(newer)
    it.note_prediction(replace(newer, happened=Happened.MISSED, told=NOW - 20))
    it.note_prediction(replace(first, made=NOW - 10))
    it.note_prediction(replace(newer, happened=Happened.FAILED, told=NOW - 5))
    it.close()
    recalled = file().recall(20)
    assert recalled is not None
    assert recalled.predictions == (replace(newer, happened=Happened.MISSED, told=NOW - 20),)


def test_what_was_taken_over_is_not_kept_in_memory(kept: Path, file: Opener) -> None:
    """On the disk it stays."""
    it = file()
    assert content(it.recall(20)) == EVERYTHING
    it.release()
    assert content(it.recall(20)) == NOTHING
    it.close()
    assert content(file().recall(20)) == EVERYTHING


def test_of_much_the_newest_is_recalled(file: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loads of five weeks; verdicts and transitions of as long, and not more than so many; of runs everything."""
    monkeypatch.setattr(history, "_MOST_RECALLED", 3)
    it = file()
    for days in range(80):
        at = NOW - days * DAY
        it.note_load(Load(at, 0.5, 0.5))
        it.note_run(Run(at, 1, Happened.SUCCEEDED))
        it.note_verdict(Judged(at, Verdict.READY))
        it.note_problem(Transition(at, "A", "", BeliefState.CLEAR, Effect.RISKS))
    it.close()
    recalled = file().recall(20)
    assert recalled is not None
    assert [load.start for load in recalled.loads] == [NOW - days * DAY for days in reversed(range(36))]
    assert [each.at for each in recalled.verdicts] == [NOW - 2 * DAY, NOW - DAY, NOW]
    assert [each.at for each in recalled.transitions] == [NOW - 2 * DAY, NOW - DAY, NOW]
    assert len(recalled.runs) == 80
    later = file(NOW + 20 * DAY).recall(20)
    assert later is not None
    assert len(later.runs) == 71, "what is older than it is kept is not recalled either"
    earlier = file(NOW - 70 * DAY).recall(20)
    assert earlier is not None
    assert len(earlier.runs) == 10, "nor is what is later than the clock"


# --------------------------------------------------------------------------------------- files of another making


def _rewrite(statement: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with contextlib.closing(sqlite3.connect(str(path), isolation_level=None)) as connection:
            connection.execute(statement)

    return spoil


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5000)


@pytest.mark.parametrize(
    ("spoil", "aside"),
    [
        (_rewrite(f"PRAGMA user_version = {history.SCHEMA + 1}"), f"history.sqlite.schema-{history.SCHEMA + 1}."),
        (_rewrite("PRAGMA user_version = 0"), "history.sqlite.broken."),
        (_rewrite("PRAGMA user_version = -1"), "history.sqlite.broken."),
        (_rewrite("DROP TABLE runs"), "history.sqlite.broken."),
        (_rewrite("ALTER TABLE runs ADD COLUMN more"), "history.sqlite.broken."),
        (_cut, "history.sqlite.broken."),
        (lambda path: path.write_bytes(b"rubbish\n" * 1000), "history.sqlite.broken."),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(9000)), "history.sqlite.broken."),
        (lambda path: path.write_bytes(path.read_bytes()[:4096] + bytes(90000)), "history.sqlite.broken."),
    ],
    ids=["newer", "without a number", "negative", "a table less", "a column more", "cut", "text", "nulls", "emptied"],
)
def test_a_file_that_cannot_be_used_is_set_aside(
    spoil: Callable[[Path], None], aside: str, file: Opener, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As it was, with what belongs to it and with a message; and it is begun anew."""
    spoil(kept)
    before = kept.read_bytes()
    Path(f"{kept}-shm").write_bytes(b"of a log that we do not write")
    with caplog.at_level(logging.WARNING, "backupready"):
        it = file()
        assert content(it.recall(20)) == NOTHING
    (set_aside,) = (path for path in kept.parent.glob(f"{aside}*") if not path.name.endswith(("-journal", "-shm")))
    assert set_aside.read_bytes() == before
    assert Path(f"{set_aside}-shm").exists()
    assert not Path(f"{kept}-shm").exists()
    (record,) = caplog.records
    assert record.__dict__["MESSAGE_ID"] == journal.MESSAGE_HISTORY_SET_ASIDE
    assert set_aside.name in record.getMessage()
    note_everything(it)
    it.close()
    assert content(file().recall(20)) == EVERYTHING
    assert set_aside.read_bytes() == before


def test_an_empty_file_is_begun(file: Opener, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As it is left by a start that was killed early."""
    (tmp_path / "history.sqlite").touch()
    with caplog.at_level(logging.WARNING, "backupready"):
        it = file()
        assert content(it.recall(20)) == NOTHING
        note_everything(it)
        it.close()
        assert content(file().recall(20)) == EVERYTHING
    assert caplog.records == []


def test_what_others_added_does_no_harm(file: Opener, kept: Path) -> None:
    """An index, statistics, another journal's mode: it is still the same history."""
    for statement in ("CREATE INDEX mine ON runs (code)", "ANALYZE", "PRAGMA journal_mode = WAL"):
        _rewrite(statement)(kept)
    it = file()
    assert content(it.recall(20)) == EVERYTHING
    it.note_verdict(Judged(NOW, Verdict.READY))
    it.close()
    assert it.written == 1


@pytest.mark.parametrize(
    ("statement", "left"),
    [
        ("UPDATE verdicts SET verdict = 'splendid' WHERE verdict = 'ready'", (JUDGED[:1], *EVERYTHING[1:])),
        ("UPDATE verdicts SET reasons = x'ff' WHERE verdict = 'ready'", (JUDGED[:1], *EVERYTHING[1:])),
        ("UPDATE transitions SET effect = '' WHERE state = 'clear'", (JUDGED, TRANSITIONS[:2], *EVERYTHING[2:])),
        ("UPDATE transitions SET code = 7.5 WHERE state = 'clear'", EVERYTHING[:1]),
        ("UPDATE loads SET cpu = 10001 WHERE io IS NULL", (*EVERYTHING[:2], LOADS[1:], *EVERYTHING[3:])),
        ("UPDATE loads SET io = 'much' WHERE io IS NULL", (*EVERYTHING[:2], LOADS[1:], *EVERYTHING[3:])),
        ("UPDATE runs SET began = 1e300 WHERE code = 1", (*EVERYTHING[:3], RUNS[1:], PREDICTIONS)),
        ("UPDATE runs SET ended = 'late' WHERE code = 1", (*EVERYTHING[:3], RUNS[1:], PREDICTIONS)),
        ("UPDATE predictions SET told = x'00' WHERE told > 0", (*EVERYTHING[:4], PREDICTIONS[1:])),
    ],
)
def test_a_row_that_cannot_be_is_left_out(
    statement: str, left: tuple[Any, ...], file: Opener, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is never misread, costs no other, and is told."""
    _rewrite(statement)(kept)
    with caplog.at_level(logging.WARNING, "backupready"):
        recalled = content(file().recall(20))
    if len(left) == 5:
        assert recalled == left
        (record,) = caplog.records
        assert "cannot read 1 of the records" in record.getMessage()
    else:
        assert "7.5" in str(recalled[1]), "what is text in the file is text"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.data())
def test_no_damage_is_the_end(kept: Path, data: st.DataObject) -> None:
    """Whatever bytes are changed or missing: the file is read or set aside, nothing is misread, and it goes on."""
    whole = WHOLE.setdefault("bytes", kept.read_bytes())
    spoiled = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        # Where there is something: pages begin and end with it.
        page = data.draw(st.integers(0, len(whole) // 4096 - 1)) * 4096
        place = page + data.draw(st.integers(0, 120) | st.integers(3700, 4090))
        change = data.draw(st.binary(min_size=1, max_size=6))
        spoiled[place : place + len(change)] = change
    cut = data.draw(st.just(len(spoiled)) | st.integers(0, len(spoiled)))
    for path in kept.parent.iterdir():
        path.unlink()
    kept.write_bytes(spoiled[:cut])
    with open_history(kept.parent) as it:
        recalled = it.recall(3)
        assert recalled is not None
        assert not set(recalled.runs) - set(RUNS) or cut == len(whole), "what is cut is not misread"
        it.note_verdict(Judged(NOW - 1, Verdict.UNKNOWN, ("AFTER",)))
    with open_history(kept.parent) as it:
        again = it.recall(3)
        assert again is not None
        assert Judged(NOW - 1, Verdict.UNKNOWN, ("AFTER",)) in again.verdicts


WHOLE: dict[str, bytes] = {}


@contextlib.contextmanager
def open_history(directory: Path) -> Iterator[History]:
    it = History(str(directory), clock=lambda: NOW)
    try:
        yield it
    finally:
        it.close()


# -------------------------------------------------------------------------------------------- disks that do not do


class Disk:
    """Stands between the history and its file: frozen, full or read-only, as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.thawed = threading.Event()
        self.thawed.set()
        self.waits = threading.Event()  # somebody waits for the disk
        self.full = self.read_only = False
        creates, disk = os.open, self

        class Connection(sqlite3.Connection):
            def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
                if statement == "COMMIT" or "user_version" in statement:
                    disk.wait()
                return super().execute(statement, *values)

        def connect(path: Path) -> sqlite3.Connection:
            disk.wait()
            if disk.read_only:
                return sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
            connection = sqlite3.connect(str(path), isolation_level=None, factory=Connection)
            if disk.full:
                connection.execute(f"PRAGMA max_page_count = {max(path.stat().st_size // 4096, 1)}")
            return connection

        def create(path: Any, flags: int, *mode: int) -> int:
            if self.read_only and flags & os.O_RDWR:
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
            return creates(path, flags, *mode)

        monkeypatch.setattr(history, "connect", connect)
        monkeypatch.setattr(os, "open", create)

    def wait(self) -> None:
        if not self.thawed.is_set():
            self.waits.set()
            assert self.thawed.wait(60)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    it = Disk(monkeypatch)
    yield it
    it.thawed.set()


def judged(number: int) -> Judged:
    return Judged(NOW - 10000 + number, Verdict.READY, (f"N{number}",))


def numbers(recalled: Recalled | None) -> list[int]:
    assert recalled is not None
    return [int(each.reasons[0][1:]) for each in recalled.verdicts]


def test_a_frozen_disk_is_waited_for_by_nobody(disk: Disk, file: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noting goes on, the queue is bounded, the oldest makes room and is counted; after the thaw all that waits is
    written."""
    monkeypatch.setattr(history, "_QUEUE", 20)
    it = file()
    assert it.recall(20) is not None
    disk.thawed.clear()
    it.note_verdict(judged(0))
    assert disk.waits.wait(20)
    for number in range(1, 51):
        it.note_verdict(judged(number))  # a call that waited would wait for this thread itself
    assert (it.waiting, it.dropped, it.written, it.failures) == (20, 30, 0, 0)
    disk.thawed.set()
    until(lambda: it.written == 21)
    it.note_verdict(judged(51))
    it.close()
    assert numbers(file().recall(20)) == [0, *range(31, 52)]


def test_a_disk_frozen_at_the_start_is_read_later(disk: Disk, kept: Path, file: Opener) -> None:
    """Until then nothing is recalled, and what is noted waits."""
    disk.thawed.clear()
    it = file()
    assert disk.waits.wait(20)
    assert it.recall() is None
    it.note_verdict(Judged(NOW, Verdict.READY))
    assert it.recall(0.01) is None
    disk.thawed.set()
    assert content(it.recall(20)) == EVERYTHING
    until(lambda: it.written == 1)


def test_a_frozen_disk_does_not_keep_from_stopping(disk: Disk, file: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing gives up soon."""
    monkeypatch.setattr(history, "_CLOSE_TIMEOUT", 0.05)
    disk.thawed.clear()
    it = file()
    it.note_verdict(judged(0))
    it.close()
    assert it.written == 0
    disk.thawed.set()
    until(lambda: it.written == 1)


@pytest.mark.usefixtures("soon")
def test_a_full_disk_costs_the_oldest(
    disk: Disk, kept: Path, file: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once; what waits is written as soon as there is room again."""
    monkeypatch.setattr(history, "_QUEUE", 900)
    disk.full = True
    with caplog.at_level(logging.WARNING, "backupready"):
        it = file()
        assert content(it.recall(20)) == EVERYTHING
        for number in range(1000):
            it.note_verdict(judged(number))
        until(lambda: it.failures > 3 and it.dropped + it.written + it.waiting == 1000)
        assert it.written < 300
    (record,) = caplog.records
    assert record.getMessage() == f"cannot use {kept}: database or disk is full; what is to be kept waits"
    disk.full = False
    until(lambda: it.waiting == 0 and it.dropped + it.written == 1000)
    it.close()
    with contextlib.closing(sqlite3.connect(str(kept))) as connection:
        found = [int(row[0][1:]) for row in connection.execute("SELECT reasons FROM verdicts WHERE reasons LIKE 'N%'")]
    assert len(found) == it.written >= 900
    assert sorted(found)[-900:] == list(range(100, 1000))


@pytest.mark.usefixtures("soon")
def test_what_may_only_be_read_is_read(disk: Disk, kept: Path, file: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """A file system that was remounted read-only keeps nobody from knowing the past."""
    disk.read_only = True
    with caplog.at_level(logging.WARNING, "backupready"):
        it = file()
        assert content(it.recall(20)) == EVERYTHING
        it.note_verdict(judged(7))
        until(lambda: it.failures > 3)
    (record,) = caplog.records
    assert "attempt to write a readonly database" in record.getMessage()
    disk.read_only = False
    until(lambda: it.written == 1)
    it.close()
    assert numbers(replace(it.recall() or Recalled(), verdicts=(judged(7),))) == [7]


@pytest.mark.usefixtures("soon")
def test_a_directory_that_is_not_there_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is noted waits; it is told once."""
    missing = tmp_path / "missing"
    with caplog.at_level(logging.WARNING, "backupready"), open_history(missing) as it:
        it.note_verdict(judged(3))
        until(lambda: it.failures > 3)
        assert it.recall() is None
        missing.mkdir()
        assert content(it.recall(20)) == NOTHING
        until(lambda: it.written == 1)
    (record,) = caplog.records
    assert (
        record.getMessage()
        == f"cannot use {missing}/history.sqlite: No such file or directory; what is to be kept waits"
    )
    with open_history(missing) as it:
        assert numbers(it.recall(20)) == [3]


@pytest.mark.usefixtures("soon")
def test_a_file_that_cannot_be_set_aside_is_told_once(
    kept: Path, file: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It stays as it is, and nothing is recalled."""

    def refuse(path: Path, target: object) -> Path:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    kept.write_bytes(b"rubbish" * 1000)
    monkeypatch.setattr(Path, "rename", refuse)
    with caplog.at_level(logging.WARNING, "backupready"):
        it = file()
        until(lambda: it.failures > 3)
        assert it.recall() is None
        it.close()
    (record,) = caplog.records
    assert "not a database; and cannot set it aside: Permission denied" in record.getMessage()
    assert kept.read_bytes() == b"rubbish" * 1000


@pytest.mark.usefixtures("soon")
def test_a_file_that_is_locked_is_waited_for(
    kept: Path, file: Opener, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else looks into it for long."""
    monkeypatch.setattr(history, "_LOCKED", 0.01)
    it = file()
    assert it.recall(20) is not None
    with caplog.at_level(logging.WARNING, "backupready"):
        with contextlib.closing(sqlite3.connect(str(kept), isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            it.note_verdict(judged(0))
            until(lambda: it.failures > 2)
        until(lambda: it.written == 1)
    assert {record.getMessage() for record in caplog.records} == {
        f"cannot use {kept}: database is locked; what is to be kept waits"
    }


@pytest.mark.usefixtures("soon")
def test_a_file_that_is_damaged_meanwhile_is_set_aside(
    kept: Path, file: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """What is noted then is in the new one."""
    it = file()
    assert it.recall(20) is not None
    kept.write_bytes(b"rubbish" * 10000)
    with caplog.at_level(logging.WARNING, "backupready"):
        it.note_verdict(judged(5))
        until(lambda: it.written == 1)
        it.close()
    assert [r for r in caplog.records if "MESSAGE_ID" in r.__dict__]
    assert numbers(file().recall(20)) == [5]


@pytest.mark.usefixtures("soon")
def test_a_file_that_is_taken_away_is_made_again(kept: Path, file: Opener) -> None:
    """Nothing is written into a file that nobody can find any more."""
    it = file()
    assert it.recall(20) is not None
    kept.unlink()
    it.note_verdict(judged(5))
    until(lambda: it.written == 1)
    it.close()
    assert numbers(file().recall(20)) == [5]


def test_a_record_that_cannot_be_kept_costs_no_other(file: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """It is dropped, counted and told."""
    it = file()
    nan, far = float("nan"), float("inf")
    with caplog.at_level(logging.WARNING, "backupready"):
        it.note_verdict(judged(0))
        it.note_verdict(Judged(nan, Verdict.READY))
        it.note_problem(Transition(far, "A", "", BeliefState.CLEAR, Effect.RISKS))
        it.note_problem(Transition(NOW, "A", "\udcff", BeliefState.CLEAR, Effect.RISKS))
        it.note_load(Load(NOW + 1, 0.5, 0.5))
        it.note_run(Run(nan, 1, Happened.FAILED))
        it.note_run(Run(-far, 1, Happened.FAILED))
        it.note_run(Run(NOW, 10**30, Happened.FAILED))
        it.note_prediction(Prediction(NOW, -1.0, Verdict.READY, ()))
        it.note_verdict(judged(1))
        it.close()
    assert (it.written, it.dropped, it.failures) == (2, 8, 8)
    assert len(caplog.records) == 8
    recalled = file().recall(20)
    assert numbers(recalled) == [0, 1]
    assert content(recalled)[1:] == NOTHING[1:]


# ------------------------------------------------------------------------------------------------------ forgetting


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(history.connect(tmp_path / "history.sqlite")) as it:
        history.prepare(it)
        yield it


def put(connection: sqlite3.Connection, *days: float) -> None:
    """A load and a verdict at so many days from now."""
    connection.execute("BEGIN")
    for day in days:
        start = (NOW + day * DAY) // SLOT * SLOT
        connection.execute("INSERT OR REPLACE INTO loads VALUES (?, 1, 1, 1, NULL)", (start,))
        connection.execute("INSERT OR REPLACE INTO verdicts VALUES (?, 'ready', '')", (NOW + day * DAY,))
    connection.execute("COMMIT")


def days(connection: sqlite3.Connection, now: float = NOW) -> list[int]:
    return [round((row[0] - now) / DAY) for row in connection.execute("SELECT at FROM verdicts ORDER BY at")]


def test_what_is_old_is_forgotten_a_day_at_a_time(connection: sqlite3.Connection) -> None:
    """As it becomes old, at once; much that is old, as after a long absence, in as many turns."""
    put(connection, *range(-100, 0))
    for turn in range(1, 11):
        history.forget(connection, NOW, 90 * DAY)
        assert days(connection)[0] == min(-100 + turn, -90)
    assert days(connection) == list(range(-90, 0))
    assert connection.execute("SELECT count(*) FROM loads").fetchone()[0] == 90
    history.forget(connection, NOW + DAY, 90 * DAY)
    assert days(connection) == list(range(-89, 0))


def test_a_clock_that_is_years_ahead_for_hours_does_not_cost_the_past(connection: sqlite3.Connection) -> None:
    """So many turns, so many days; and what was written then goes when it is right again."""
    put(connection, *range(-60, 0))
    years = 4000
    for turn in range(5):
        put(connection, years + turn / 24)
        history.forget(connection, NOW + (years + turn / 24) * DAY, 90 * DAY)
    assert days(connection)[:2] == [-55, -54]
    assert days(connection)[-6:] == [-1] + [years] * 5
    for _ in range(2):
        history.forget(connection, NOW, 90 * DAY)
    assert days(connection) == list(range(-55, 0))


def test_a_clock_that_is_years_behind_for_hours_does_not_cost_the_past(connection: sqlite3.Connection) -> None:
    """The same the other way round."""
    put(connection, *range(-60, 0))
    for turn in range(5):
        put(connection, -4000 + turn / 24)
        history.forget(connection, NOW - (4000 - turn / 24) * DAY, 90 * DAY)
    assert days(connection) == [-4000] * 5 + list(range(-60, -5))
    for _ in range(2):
        history.forget(connection, NOW, 90 * DAY)
    assert days(connection) == list(range(-60, -5))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.floats(-200, 200), max_size=30), st.floats(-150, 150), st.floats(0.1, 100))
def test_forgetting_comes_to_an_end(
    connection: sqlite3.Connection, moments: list[float], now: float, keep: float
) -> None:
    """In as many turns as there are days, what is not too old and not ahead is left, and nothing else."""
    connection.execute("DELETE FROM loads")
    connection.execute("DELETE FROM verdicts")
    put(connection, *moments)
    for _ in range(len(moments) + 1):
        history.forget(connection, NOW + now * DAY, keep * DAY)
    left = [row[0] for row in connection.execute("SELECT at FROM verdicts ORDER BY at")]
    at = NOW + now * DAY
    assert left == sorted({NOW + m * DAY for m in moments if at - keep * DAY <= NOW + m * DAY <= at + DAY})


def test_the_thread_forgets(file: Opener, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hour of running, also when nothing is noted."""
    monkeypatch.setattr(history, "_FORGET_EVERY", 0.01)
    it = file(NOW + 91 * DAY)
    assert it.recall(20) is not None

    until(lambda: rows(kept) == 0)
    it.close()
    assert it.failures == 0


def rows(path: Path) -> int:
    """All there are."""
    with contextlib.closing(sqlite3.connect(str(path))) as connection:
        counts = " + ".join(f"(SELECT count(*) FROM {table})" for table in ("verdicts", "transitions", *OTHERS))
        return int(connection.execute(f"SELECT {counts}").fetchone()[0])


OTHERS = ("loads", "runs", "predictions")


def flap(it: History, count: int, first: int = 0) -> None:
    """A problem that comes and goes."""
    for number in range(first, first + count):
        state = BeliefState.ACTIVE if number % 2 else BeliefState.CLEAR
        it.note_problem(Transition(NOW - 3e6 + number, "PROBLEM_" + "X" * 200, "key", state, Effect.RISKS))
        until(lambda: it.waiting < 500)


def test_the_file_is_bounded(file: Opener, tmp_path: Path) -> None:
    """A problem that flaps for weeks costs the oldest of its own kind and loads that no forecast needs; no run and no
    prediction."""
    it = file(limit=1 << 20)
    note_everything(it)
    for slot in range(11000):
        it.note_load(Load(NOW - 600 - slot * SLOT, 0.5, 0.5))
        until(lambda: it.waiting < 500)
    flap(it, 8000)
    until(lambda: it.waiting == 0)
    until(lambda: (tmp_path / "history.sqlite").stat().st_size <= 1 << 20)
    it.close()
    assert (it.dropped, it.failures) == (0, 0)
    with contextlib.closing(sqlite3.connect(str(tmp_path / "history.sqlite"))) as connection:
        loads, transitions = (
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("loads", "transitions")
        )
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert loads == 10080
    assert 1000 < transitions < 8000
    recalled = file().recall(20)
    assert recalled is not None
    assert (recalled.runs, recalled.predictions) == (RUNS, PREDICTIONS)
    assert recalled.transitions[-1].at == TRANSITIONS[-1].at


def test_a_lower_limit_shrinks_the_file(file: Opener, tmp_path: Path) -> None:
    """In small steps, between which records are written; in the end only runs and predictions are left, and those go
    last."""
    it = file()
    note_everything(it)
    flap(it, 6000)
    it.close()
    path = tmp_path / "history.sqlite"
    assert path.stat().st_size > 1_000_000
    it = file(limit=100_000)
    until(lambda: path.stat().st_size <= 100_000)
    it.close()
    recalled = file().recall(20)
    assert recalled is not None
    assert (recalled.runs, recalled.predictions) == (RUNS, PREDICTIONS)
    it = file(limit=1)
    until(lambda: rows(path) == 0)
    it.close()
    assert it.failures == 0


def test_a_busy_month_is_small_and_read_quickly(file: Opener, tmp_path: Path) -> None:
    """A load every five minutes, fifty transitions and as many verdicts a day, hourly backups: below the limit."""
    it = file()
    slots = range(30 * 288)
    began = time.perf_counter()
    for slot in slots:
        at = NOW - 300 - slot * SLOT
        it.note_load(Load(at, (slot % 97) / 97, (slot % 89) / 89, 0.01, (slot % 83) / 83))
        if slot % 6 == 0:
            state = BeliefState.ACTIVE if slot % 12 else BeliefState.CLEAR
            it.note_problem(Transition(at + 7.123, f"PROBLEM_OF_SOME_NAME_{slot % 30}", "/mnt/x", state, Effect.RISKS))
            it.note_verdict(Judged(at + 7.123, Verdict.AT_RISK, ("PROBLEM_OF_SOME_NAME", "ANOTHER_PROBLEM")))
        if slot % 12 == 0:
            it.note_run(Run(at + 60, 1, Happened.SUCCEEDED, at + 20, "host"))
            said = Prediction(at, at - 3600, Verdict.AT_RISK, ("PROBLEM_OF_SOME_NAME",))
            it.note_prediction(said)
            it.note_prediction(replace(said, happened=Happened.SUCCEEDED, told=at + 90))
        until(lambda: it.waiting < 500)
    it.close()
    written = time.perf_counter() - began
    assert (it.dropped, it.failures) == (0, 0)
    size = (tmp_path / "history.sqlite").stat().st_size
    assert size < history.LIMIT / 10
    opened = time.perf_counter()
    again = file()
    recalled = again.recall(20)
    took = time.perf_counter() - opened
    assert recalled is not None
    assert (len(recalled.loads), len(recalled.runs), len(recalled.predictions)) == (8640, 720, 720)
    assert (len(recalled.verdicts), len(recalled.transitions)) == (1000, 1000)
    measured(f"a busy month of history: {size} bytes, recalled in {took * 1000:.0f} ms, written in {written:.1f} s")


# ----------------------------------------------------------------------------------------------- killed while it writes

WRITER = """
import sys, time
from backupready.mind.history import History, Judged, Transition
from backupready.model import BeliefState, Effect, Happened, Load, Prediction, Run, Verdict

directory, first = sys.argv[1], int(sys.argv[2])
it = History(directory, clock=lambda: 2e9, limit=1 << 30)
assert it.recall(30) is not None
for number in range(first, 10**9):
    it.note_run(Run(1e9 + number, number, Happened.SUCCEEDED))
    while it.waiting > 5:
        time.sleep(0.0001)
    print(first + it.written, flush=True)
"""


@pytest.mark.integration
def test_a_writer_that_is_killed_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    """At any moment, also while it opens: what was counted as written is there, in one piece and once."""
    code = ["-c", WRITER, str(tmp_path)]
    path, there, chance, kills, in_flight = tmp_path / "history.sqlite", 0, random.Random(7), 0, 0
    while kills < 40:
        with subprocess.Popen(
            [sys.executable, *code, str(there)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as writer:
            assert writer.stdout is not None
            if kills % 4:
                while int(writer.stdout.readline()) <= there:
                    pass
                time.sleep(chance.uniform(0, 0.05))
            else:
                until(lambda: path.exists() or writer.poll() is not None)
                time.sleep(chance.uniform(0, 0.3))
            writer.send_signal(signal.SIGKILL)
            told = [int(line) for line in writer.stdout if line.endswith("\n")]
            assert writer.wait() == -signal.SIGKILL
        kills += 1
        in_flight += Path(f"{path}-journal").exists() and Path(f"{path}-journal").stat().st_size > 0
        with contextlib.closing(sqlite3.connect(str(path))) as connection:
            assert connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            codes = [row[0] for row in connection.execute("SELECT code FROM runs ORDER BY code")] if tables else []
        assert codes == list(range(len(codes)))
        assert len(codes) >= max([there, *told])
        there = len(codes)
    assert [entry.name for entry in tmp_path.iterdir() if "broken" in entry.name] == []
    assert there >= 30, "three of four were killed after they had written"
    measured(f"{kills} kills of a writer, {in_flight} of them within a commit: {there} records, none lost or doubled")
    it = History(str(tmp_path), clock=lambda: 2e9)
    recalled = it.recall(20)
    it.close()
    assert recalled is not None
