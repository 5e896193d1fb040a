"""The ledger: what is noted survives, what is torn is cut off, and limits count what is certain."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backupready import fixes
from backupready.hands import ledger
from backupready.hands.ledger import Ledger, LedgerBusy, LedgerError, Line, Moment
from backupready.model import RestartUnit, Result, SetConfigKey, Step
from measured import measured

NOW = Moment(1_000_000.0, "one", 500.0)
MINUTE, HOUR = 60.0, 3600.0
PLAN: tuple[Step, ...] = (SetConfigKey("Logs.Verbose", "y", 7200.0), RestartUnit("walinuxagent.service"))


def later(seconds: float, now: Moment = NOW) -> Moment:
    return Moment(now.wall + seconds, now.boot, now.up + seconds)


def opened(place: Path, now: Moment = NOW, **keywords: Any) -> Ledger:
    return Ledger(place / "hands", place / "fixes.json", now, **keywords)


def begin(
    book: Ledger, now: Moment, remedy: str = "restart-agent", problem: str = "AGENT_STOPPED", key: str = ""
) -> int:
    return book.begin(now, PLAN, remedy=remedy, problem=problem, key=key, by="mind", settle=60.0, before=[], unknown=[])


def end(book: Ledger, number: int, now: Moment, result: Result = Result.HEALED, undone: Sequence[int] = ()) -> None:
    book.add("ended", now, attempt=number, result=result.value, reasons=["a"], undone=list(undone), left=[])


def content(place: Path) -> bytes:
    return (place / "hands/ledger").read_bytes()


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crash of the process leaves does not depend on it, and it takes long."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


# ------------------------------------------------------------------------------------------------------ the file


def test_what_is_noted_is_there_at_the_next_start(tmp_path: Path) -> None:
    """Attempts, their steps and what came of them; in a directory that is root's alone."""
    with opened(tmp_path) as book:
        assert begin(book, NOW) == 1
        end(book, 1, later(9.0))
        assert begin(book, later(10.0), key="b") == 2
    with opened(tmp_path, later(20.0)) as book:
        first, second = ledger.attempts(book.lines)
        assert (first.id, first.result, first.began, first.ended) == (1, Result.HEALED, NOW.wall, NOW.wall + 9.0)
        assert (first.reasons, second.result, second.key) == (("a",), Result.UNDER_WAY, "b")
        assert ledger.plan_of(book.lines, 2) == PLAN
        assert ledger.unfinished(book.lines) == (second,)
        assert begin(book, later(21.0)) == 3
    assert stat.S_IMODE((tmp_path / "hands").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "hands/ledger").stat().st_mode) == 0o600


def test_a_file_that_is_cut_anywhere_gives_the_whole_lines_before(tmp_path: Path, no_sync: None) -> None:
    """At every byte: the lines that are whole are read, the torn one is cut off and told, and it goes on from there."""
    with opened(tmp_path) as book:
        begin(book, NOW)
        book.add("prepared", later(1.0), attempt=1, index=0, record={"path": "\udcff ä\n"})
        end(book, 1, later(2.0))
    data = content(tmp_path)
    ends = [index + 1 for index, byte in enumerate(data) if byte == 10]
    whole = ledger.decode(data)[0]
    assert len(ends) == len(whole) == 3
    for cut in range(len(data) + 1):
        (tmp_path / "hands/ledger").write_bytes(data[:cut])
        lines = sum(end <= cut for end in ends)
        is_torn = cut not in (0, *ends)
        with opened(tmp_path, later(3.0)) as book:
            assert book.lines[:lines] == whole[:lines]
            assert [line.event for line in book.lines[lines:]] == ["torn"] * is_torn
            book.add("clear", later(4.0), problem="x", key="")
        assert [line.event for line in ledger.decode(content(tmp_path))[0]][lines:] == ["torn"] * is_torn + ["clear"]


@given(st.binary(max_size=200))
def test_garbage_after_the_lines_is_torn(garbage: bytes) -> None:
    """Whatever a crash has left there, also zeros, it announces nothing."""
    good = ledger.encode_line(Line("clear", NOW, {"problem": "a", "key": ""}))
    assert ledger.decode(good + garbage) == ((ledger.decode(good)[0]), len(good))


@given(st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_one_wrong_bit_in_the_middle_stops_everything(place: int, bit: int) -> None:
    """What is damaged and not torn may hide an attempt, and so no limit can be counted any more."""
    first = ledger.encode_line(Line("clear", NOW, {"problem": "a", "key": "b"}))
    damaged = bytearray(first)
    damaged[place % len(first)] ^= 1 << bit
    with pytest.raises(LedgerError, match="damaged at byte 0"):
        ledger.decode(bytes(damaged) + first)


def test_a_newer_form_is_not_misread() -> None:
    """A line with a good checksum that is none of ours stops everything."""
    body = b'{"event": "started"}'
    with pytest.raises(LedgerError, match="another version"):
        ledger.decode(b"%d %s %s\n" % (len(body), ledger._sum(body), body))


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a line that still found room is taken back, and nothing more is noted until the next start."""
    with opened(tmp_path) as book:
        begin(book, NOW)
        before, write = content(tmp_path), os.write
        full = [False]

        def fill(file: int, data: bytes) -> int:
            if full[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            full[0] = True
            return write(file, data[:20])

        monkeypatch.setattr(os, "write", fill)
        with pytest.raises(LedgerError, match="No space left on device"):
            end(book, 1, later(1.0))
        monkeypatch.undo()
        assert content(tmp_path) == before
        assert ledger.unfinished(book.lines) != ()
        with pytest.raises(LedgerError, match="No space left"):
            end(book, 1, later(1.0))
    with opened(tmp_path) as book:
        end(book, 1, later(1.0))
        assert ledger.unfinished(book.lines) == ()


def test_a_line_is_on_the_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails to keep it is an error, and the line is not there."""
    with opened(tmp_path) as book:

        def fail(file: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(LedgerError, match="Input/output error"):
            begin(book, NOW)
        assert book.lines == ()


def test_what_json_does_not_hold_is_refused_and_leaves_no_trace(tmp_path: Path) -> None:
    """Also a line that is too long; the ledger goes on."""
    with opened(tmp_path) as book:
        for wrong in (float("nan"), object(), "x" * (1 << 19)):
            with pytest.raises(LedgerError, match="cannot write a line 'prepared'"):
                book.add("prepared", NOW, attempt=1, index=0, record={"a": wrong})
        assert content(tmp_path) == b""
        assert begin(book, NOW) == 1


def test_only_one_has_it_open(tmp_path: Path) -> None:
    """So that only one fix is done at a time."""
    with opened(tmp_path), pytest.raises(LedgerBusy):
        opened(tmp_path)
    opened(tmp_path).close()


def test_a_directory_of_others_is_not_used(tmp_path: Path) -> None:
    """One that others may enter, a link, or a link in the place of the file."""
    (tmp_path / "hands").mkdir(mode=0o755)
    with pytest.raises(LedgerError, match="must be a directory with mode 0700"):
        opened(tmp_path)
    (tmp_path / "hands").chmod(0o700)
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / "hands/ledger").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="cannot use the ledger"):
        opened(tmp_path)
    (tmp_path / "hands").rename(tmp_path / "real")
    (tmp_path / "hands").symlink_to(tmp_path / "real")
    with pytest.raises(LedgerError, match="must be a directory"):
        opened(tmp_path)


# -------------------------------------------------------------------------------------------------------- clocks


def lines_at(*moments: Moment) -> list[Line]:
    return [Line("started", moment, {"attempt": number}) for number, moment in enumerate(moments)]


@pytest.mark.parametrize("jump", [-1e6, -90.0, 90.0, 1e9])
def test_within_a_boot_a_clock_that_is_set_changes_nothing(jump: float) -> None:
    """Neither forward nor back: the monotonic clock counts."""
    lines = lines_at(NOW)
    assert ledger.elapsed(lines, lines[0], Moment(NOW.wall + 60.0 + jump, NOW.boot, NOW.up + 60.0)) == 60.0


def test_across_a_boot_the_wall_clock_tells_how_long_the_machine_was_off() -> None:
    """Up for 500 s more, off for 1000 s, up for 100 s."""
    lines = lines_at(NOW, later(500.0))
    now = Moment(NOW.wall + 1600.0, "two", 100.0)
    assert ledger.elapsed(lines, lines[0], now) == 1600.0
    assert ledger.elapsed(lines, lines[0], now, powered_off=False) == 600.0


def test_a_clock_set_back_while_the_machine_was_off_counts_as_no_time() -> None:
    """What is certain remains: how long it has been up."""
    lines = lines_at(NOW)
    assert ledger.elapsed(lines, lines[0], Moment(NOW.wall - 1e6, "two", 100.0)) == 100.0


def test_a_clock_set_forward_before_or_after_the_boot_shortens_nothing() -> None:
    """As far as a line has noted it: either boot's earliest and latest begin count as they give the least."""
    forward = Moment(NOW.wall + 10.0 + 86400.0, "one", NOW.up + 10.0)  # set a day forward before this line
    lines = lines_at(NOW, forward)
    now = Moment(forward.wall + 60.0, "two", 30.0)
    assert ledger.elapsed(lines, lines[0], now) == 70.0
    first = Moment(NOW.wall + 60.0, "two", 30.0)
    lines = lines_at(NOW, first)
    assert ledger.elapsed(lines, lines[0], Moment(first.wall + 5.0 + 86400.0, "two", 35.0)) == 65.0


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.booleans(), st.floats(0, 1e5), st.floats(0, 1e5)), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(0, 8), st.floats(-1e6, 0)), max_size=4),
)
def test_no_setting_back_of_the_clock_makes_it_longer_than_it_was(
    course: list[tuple[float, bool, float, float]], settings: list[tuple[int, float]]
) -> None:
    """Whatever the machine did (up, rebooted after being off) and whoever set its clock back: never more than the true
    time, never less than it was certainly up, and exactly the true time where nobody set it."""
    true, up, boot, offset, certain = 1e9, 10.0, 0, 0.0, 0.0
    moments = [Moment(true, "0", up)]
    for place, (on, reboots, off, again) in enumerate(course):
        true, up = true + on, up + on
        if not reboots:
            certain += on
        if reboots:
            moments.append(Moment(true + offset, str(boot), up))  # noted just before
            true, up, boot = true + off + again, again, boot + 1
            certain += on + again
        offset += sum(by for when, by in settings if when == place)
        moments.append(Moment(true + offset, str(boot), up))
    lines = lines_at(*moments[:-1])
    told = ledger.elapsed(lines, lines[0], moments[-1])
    assert certain - 1e-3 <= told <= true - 1e9 + 1e-3
    assert ledger.elapsed(lines, lines[0], moments[-1], powered_off=False) == pytest.approx(certain, abs=1e-3)
    if not any(when < len(course) for when, _ in settings):
        assert told == pytest.approx(true - 1e9, abs=1e-3)


# ----------------------------------------------------------------------------------------- what follows from them


def test_a_temporary_change_is_told_until_it_is_undone(tmp_path: Path) -> None:
    """Only of an attempt that stands; it is over by the wall clock, and also by the monotonic one when that was set
    back."""
    with opened(tmp_path) as book:
        begin(book, NOW)
        book.add("prepared", NOW, attempt=1, index=0, record={}, until=NOW.wall + 7200.0, change="Logs.Verbose=y")
        assert ledger.temporary(book.lines) == ()
        end(book, 1, later(1.0), Result.DONE)
        (change,) = ledger.temporary(book.lines)
        assert (change.change, change.until) == ("Logs.Verbose=y", NOW.wall + 7200.0)
        assert not ledger.is_over(book.lines, change, later(7199.0))
        assert ledger.is_over(book.lines, change, later(7200.0))
        assert ledger.is_over(book.lines, change, Moment(NOW.wall - 1e5, "one", NOW.up + 7200.0))
        assert ledger.is_over(book.lines, change, Moment(NOW.wall + 7200.0, "two", 5.0))
        assert book.publish(later(2.0)).temporary == (change,)
        end(book, 1, later(7300.0), Result.UNDONE, undone=[0])
        assert ledger.temporary(book.lines) == ()
        assert ledger.in_force(book.lines, 1) == {}


def test_an_incident_lasts_until_the_problem_is_clear(tmp_path: Path) -> None:
    """Each key has its own."""
    with opened(tmp_path) as book:
        begin(book, NOW, "a", "X", "1")
        begin(book, NOW, "b", "X", "1")
        begin(book, NOW, "a", "X", "2")
        begin(book, NOW, "c", "")
        assert ledger.tried(book.lines, "X", "1") == ("a", "b")
        assert ledger.incidents(book.lines) == (("X", "1"), ("X", "2"))
        book.add("limit", NOW, problem="X", key="1", remedy="b", why="w", until=None)
        assert [limit.key for limit in ledger.limits(book.lines, NOW)] == ["1"]
        book.add("clear", NOW, problem="X", key="1")
        assert (ledger.tried(book.lines, "X", "1"), ledger.tried(book.lines, "X", "2")) == ((), ("a",))
        assert ledger.incidents(book.lines) == (("X", "2"),)
        assert ledger.limits(book.lines, NOW) == ()


def test_a_limit_lifts_with_its_time(tmp_path: Path) -> None:
    """One of a day is over after it."""
    with opened(tmp_path) as book:
        book.add("limit", NOW, problem="X", key="", remedy="b", why="w", until=NOW.wall + HOUR)
        assert ledger.limits(book.lines, later(HOUR - 1)) != ()
        assert ledger.limits(book.lines, later(HOUR)) == ()


def test_a_limit_of_one_remedy_hides_none_of_another(tmp_path: Path) -> None:
    """Nor one of the same remedy that has no end; the newest is last."""
    with opened(tmp_path) as book:
        book.add("limit", NOW, problem="X", key="", remedy="a", why="tried", until=None)
        book.add("limit", NOW, problem="X", key="", remedy="b", why="often", until=NOW.wall + HOUR)
        assert [(one.remedy, one.why) for one in ledger.limits(book.lines, NOW)] == [("a", "tried"), ("b", "often")]
        book.add("limit", NOW, problem="X", key="", remedy="a", why="often", until=NOW.wall + HOUR)
        assert [(one.remedy, one.why) for one in ledger.limits(book.lines, NOW)] == [("b", "often"), ("a", "often")]
        assert [(one.remedy, one.why) for one in ledger.limits(book.lines, later(HOUR))] == [("a", "tried")]
        book.add("clear", NOW, problem="X", key="")
        assert ledger.limits(book.lines, NOW) == ()


def test_why_an_attempt_ended_so_is_told_once(tmp_path: Path) -> None:
    """However often its undoing was tried; what was left at an earlier end, and is undone now, is told no more."""
    with opened(tmp_path) as book:
        begin(book, NOW)
        lefts: list[list[tuple[int, str]]] = [[(0, "changed")], [(0, "changed"), (1, "x")], []]
        for left in lefts:
            book.add("undoing", NOW, attempt=1, result="undone", reasons=["its time was over"])
            book.add("ended", NOW, attempt=1, result="undone", reasons=["its time was over", "x"], undone=[], left=left)
            words = tuple(f"step {index + 1} is left as it is: {why}" for index, why in left)
            assert book.attempt(1).reasons == ("its time was over", "x", *words)


# ------------------------------------------------------------------------------------------------------- rotation


def meaning(lines: Sequence[Line], now: Moment) -> Any:
    """What lines say, apart from how often a remedy was begun in an open incident: whether, and in which order."""
    known = ledger.attempts(lines)
    open_ones = ledger.incidents(lines)
    tried = [ledger.tried(lines, *which) for which in open_ones]
    needed = {one.id for one in ledger.unfinished(lines)} | {one.attempt for one in ledger.temporary(lines)}
    needed |= {one.id for one in known if ledger._holds_change(lines, one.id)}
    ages = [(line, ledger.elapsed(lines, line, now)) for line in lines if line.event == "started"]
    return {
        "attempts": known[-50:],
        "needed": needed,
        "in force": [ledger.in_force(lines, number) for number in sorted(needed)],
        "plans": [ledger.plan_of(lines, number) for number in sorted(needed)],
        "to undo": [
            list(ledger.of_attempt(lines, one.id, "undoing"))[-1:] for one in known if one in ledger.unfinished(lines)
        ],
        "last ends": [list(ledger.of_attempt(lines, number, "ended"))[-1:] == [] for number in sorted(needed)],
        "temporary": ledger.temporary(lines),
        "limits": ledger.limits(lines, now),
        "told": [set(ledger.limits_told(lines, which, now)) for which in open_ones],
        "incidents": open_ones,
        "tried": [(list(dict.fromkeys(each)), list(dict.fromkeys(reversed(each)))) for each in tried],
        "begun": [(line, age) for line, age in ages if age < ledger.DAY],
        "ends": ledger._endings(lines),
    }


PLACES = st.sets(st.integers(0, 1)).map(sorted)
EVENTS = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from("ab"), st.sampled_from(["X", "Y", ""])),
    st.tuples(st.just("prepare"), st.integers(0, 1), st.booleans()),
    st.tuples(st.just("end"), st.sampled_from(["done", "failed"]), st.sampled_from("pq"), PLACES, PLACES),
    st.tuples(st.just("undo"), st.integers(0, 9), st.sampled_from("pq"), PLACES, PLACES),
    st.tuples(st.just("undoing"), st.integers(0, 9)),
    st.tuples(st.just("clear"), st.sampled_from("XY")),
    st.tuples(st.just("limit"), st.sampled_from("ab"), st.sampled_from("XY"), st.sampled_from([None, 1.0, 90.0])),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 10.0, 30.0, 100.0]), st.booleans()),
    st.tuples(st.just("rotate")),
)


def happen(book: Ledger, event: Sequence[Any], now: Moment) -> Moment:
    """Have it noted, if it can be, a minute later; gives that moment."""
    now = later(MINUTE, now)
    kind, *values = event
    known = ledger.attempts(book.lines)
    under_way = ledger.unfinished(book.lines)
    # Those that have their lines still.
    undoable = [one.id for one in known if any(ledger.of_attempt(book.lines, one.id, "ended"))]
    if kind == "begin" and not under_way:
        begin(book, now, *values)
    elif kind == "prepare" and under_way:
        until = now.wall + 7200.0 if values[1] else None
        number = under_way[0].id
        book.add("prepared", now, attempt=number, index=values[0], record={"n": now.wall}, until=until, change="c")
    elif kind == "end" and under_way:
        result, reason, undone, left = values
        whys = [[place, reason] for place in left]
        book.add("ended", now, attempt=under_way[0].id, result=result, reasons=[reason, "r"], undone=undone, left=whys)
    elif kind in ("undo", "undoing") and undoable and not under_way:
        number = undoable[values[0] % len(undoable)]
        book.add("undoing", now, attempt=number, result="undone", reasons=["u"])
        if kind == "undo":
            now = happen(book, ("end", "undone", *values[1:]), now)
    elif kind == "clear":
        book.add("clear", now, problem=values[0], key="")
    elif kind == "limit":
        until = None if values[2] is None else now.wall + values[2] * HOUR
        book.add("limit", now, remedy=values[0], problem=values[1], key="", why=f"{until}", until=until)
    elif kind == "wait":
        now = later(values[0] * HOUR, now)
        if values[1]:
            now = Moment(now.wall, f"{now.boot}+", 10.0)
    return now


END: tuple[Any, ...] = ("end", "done", "p", [], [])
OLD_ONE_IN_FORCE = [("begin", "a", ""), ("prepare", 0, False), END, ("begin", "b", ""), END]
BEGUN_AGAIN = [event for remedy in "aba" for event in (("begin", remedy, "X"), END)]


@settings(max_examples=100, deadline=None)
@given(st.lists(EVENTS, max_size=40))
@example([*OLD_ONE_IN_FORCE, ("wait", 100.0, False)])
@example([*BEGUN_AGAIN, ("wait", 100.0, False)])
def test_a_rotation_changes_nothing_that_is_said(events: list[tuple[Any, ...]]) -> None:
    """Whatever has happened, and however often it was rotated; of an attempt few lines are left when they are old."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        now = NOW
        with opened(Path(name)) as book:
            for event in [("clear", "X"), *events, ("rotate",), ("wait", 100.0, False), ("rotate",)]:
                now = happen(book, event, now)
                if event == ("rotate",):
                    before = meaning(book.lines, now)
                    book._rotate(now, ledger._ROTATE)
                    assert book.lines[0].event == "rotated"
                    assert meaning(book.lines, now) == before
            number_of = Counter((line.event, line.fields.get("attempt")) for line in book.lines)
            assert all(count == 1 for (event, _), count in number_of.items() if event in ("ended", "undoing"))


def test_an_undoing_that_is_tried_for_ever_leaves_the_ledger_small(tmp_path: Path, no_sync: None) -> None:
    """The temporary change stays in force, each try is counted, and what was undone at any of them is undone."""
    now, size = NOW, 8_000
    with opened(tmp_path) as book:
        begin(book, now)
        book.add("prepared", now, attempt=1, index=0, record={"a": 1}, until=now.wall + 1.0, change="c")
        book.add("prepared", now, attempt=1, index=1, record={"a": 2})
        end(book, 1, now)
    largest = 0
    for day in range(100):
        now = later(ledger.DAY, now)
        with opened(tmp_path, now, rotate=size) as book:
            assert [change.attempt for change in ledger.temporary(book.lines)] == [1]
            book.add("undoing", now, attempt=1, result="undone", reasons=["its time was over"])
            undone, left = ([1], [[0, "x" * 100]]) if day == 3 else ([], [[0, "x" * 100]])
            book.add("ended", now, attempt=1, result="undone", reasons=["late"], undone=undone, left=left)
        largest = max(largest, len(content(tmp_path)))
    assert largest < size + 1000
    with opened(tmp_path, now) as book:
        assert ledger.in_force(book.lines, 1) == {0: {"a": 1}}
        assert book.attempt(1).reasons == ("a", "late", "step 1 is left as it is: " + "x" * 100)
        # Nothing was ever published: all comes from the lines.
        assert book.publish(now).ended == {("restart-agent", "healed"): 1, ("restart-agent", "undone"): 100}


def test_a_full_ledger_is_rotated_without_losing_what_is_needed(tmp_path: Path, no_sync: None) -> None:
    """Days of attempts: the file stays small, the archive few, and what limits, undoing and incidents need is there."""
    now, size = NOW, 60_000
    with opened(tmp_path, now) as book:
        kept = begin(book, now, "first", "LASTING", "k")
        book.add("prepared", now, attempt=kept, index=0, record={"copy": "c"})
        end(book, kept, now, Result.HEALED)
        waiting = begin(book, now, "second", "WAITING", "k")
        end(book, waiting, now, Result.NOT_HEALED)
    largest, rotations, begun = 0, 0, [NOW.wall, NOW.wall]
    for day in range(120):
        with opened(tmp_path, now, rotate=size) as book:
            rotations += book.lines[0].event == "rotated" and book.lines[0].moment == now
            assert ledger.tried(book.lines, "WAITING", "k") == ("second",)
            assert ledger.in_force(book.lines, kept) == {0: {"copy": "c"}}
            assert ledger.plan_of(book.lines, kept) == PLAN
            ages = [ledger.elapsed(book.lines, line, now) for line in book.lines if line.event == "started"]
            assert sum(age < ledger.DAY for age in ages) == sum(now.wall - at < ledger.DAY for at in begun)
            for count in range(10):
                now = later(MINUTE, now)
                number = begin(book, now, problem=f"P{day}")
                begun.append(now.wall)
                assert number == 3 + day * 10 + count
                end(book, number, now, Result.NOT_HEALED)
                book.add("clear", now, problem=f"P{day}", key="")
        now = later(ledger.DAY / 2, now)
        largest = max(largest, len(content(tmp_path)))
    archives = sorted(path.name for path in (tmp_path / "hands").iterdir() if path.name.startswith("ledger."))
    assert (rotations > 8, len(archives)) == (True, 8)
    assert largest < size + 10_000
    with opened(tmp_path, now) as book:
        assert [attempt.id for attempt in book.publish(now).attempts] == list(range(3 + 1200 - 50, 3 + 1200))


@pytest.mark.parametrize("written", [0, 1], ids=["no room for the archive", "no room for the new file"])
def test_where_there_is_no_room_to_rotate_it_goes_on_with_the_full_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """What is to be ended can be ended; the next start rotates."""
    with opened(tmp_path) as book:
        for _ in range(30):
            end(book, begin(book, NOW), NOW)
    before, replace_file, left = content(tmp_path), ledger._replace, [written]

    def full(path: Path, data: bytes, mode: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        replace_file(path, data, mode)

    much_later = later(5 * ledger.DAY)
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_replace", full)
        with opened(tmp_path, much_later, rotate=len(before) - 1) as book:
            assert begin(book, much_later) == 31
            end(book, 31, much_later)
    assert content(tmp_path).startswith(before)
    with opened(tmp_path, much_later, rotate=len(before) - 1) as book:
        assert (book.lines[0].event, begin(book, much_later)) == ("rotated", 32)


def test_where_a_line_of_the_new_file_would_be_too_long_it_goes_on_with_the_full_one(
    tmp_path: Path, no_sync: None
) -> None:
    """All attempts that are shown stand in one."""
    with opened(tmp_path) as book:
        for number in range(50):
            begin(book, NOW)
            book.add("ended", NOW, attempt=number + 1, result="failed", reasons=["x" * 6000], undone=[], left=[])
    before = content(tmp_path)
    now = later(5 * ledger.DAY)
    with opened(tmp_path, now, rotate=len(before) - 1) as book:
        assert begin(book, now) == 51
    assert content(tmp_path).startswith(before)


def test_what_is_refused_while_another_has_the_ledger_is_counted(tmp_path: Path) -> None:
    """By whoever publishes next, once; a flood of it takes little room."""
    with opened(tmp_path) as book:
        for _ in range(3):
            ledger.note_refusal(tmp_path / "hands", "restart-agent", "locked")
        assert book.publish(NOW).refused == {("restart-agent", "locked"): 3}
        assert book.publish(NOW).refused == {("restart-agent", "locked"): 3}
    for _ in range(5000):
        ledger.note_refusal(tmp_path / "hands", "restart-agent", "locked")
    assert (tmp_path / "hands/refused").stat().st_size < 70_000
    ledger.note_refusal(tmp_path / "nowhere", "restart-agent", "ledger")


def test_what_no_summary_could_tell_is_told_by_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the same hands or by the next, once; also what was refused elsewhere meanwhile."""
    replace_file = ledger._replace

    def full(path: Path, data: bytes, mode: int) -> None:
        if path.name == "fixes.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(path, data, mode)

    which = ("restart-agent", "phase")
    with opened(tmp_path) as book:
        book.count_refusal(*which)
        book.publish(NOW)
        monkeypatch.setattr(ledger, "_replace", full)
        book.count_refusal(*which)
        book.count_would_run("restart-agent")
        ledger.note_refusal(tmp_path / "hands", "restart-agent", "locked")
        for _ in range(2):
            told = book.publish(NOW)
            assert "No space left" in book.unpublished
            assert (told.refused, told.would_run) == (
                {which: 2, ("restart-agent", "locked"): 1},
                {"restart-agent": 1},
            )
        # Also for whoever comes after a crash at this point.
        assert Counter((tmp_path / "hands/refused").read_text().splitlines()) == Counter(
            ["restart-agent phase", "restart-agent", "restart-agent locked"]
        )
        book.count_refusal(*which)
    with opened(tmp_path) as book:
        book.publish(NOW)
        book.count_refusal(*which)
        monkeypatch.undo()
        for _ in range(2):
            told = book.publish(NOW)
            assert told.refused == {which: 4, ("restart-agent", "locked"): 1}
        book.count_refusal(*which)  # and nothing is published
    with opened(tmp_path) as book:
        told = book.publish(NOW)
    assert (told.refused, told.would_run) == ({which: 5, ("restart-agent", "locked"): 1}, {"restart-agent": 1})
    assert fixes.decode((tmp_path / "fixes.json").read_bytes()) == told
    assert (tmp_path / "hands/refused").read_bytes() == b""


def test_half_a_note_of_a_refusal_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that is full in the middle of it; what is no note is not counted."""
    hands, write = tmp_path / "hands", os.write
    opened(tmp_path).close()
    ledger.note_refusal(hands, "restart-agent", "phase")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:5]))
        ledger.note_refusal(hands, "restart-agent", "phase")
    ledger.note_refusal(hands, "restart-agent", "locked")
    with (hands / "refused").open("ab") as file:
        file.write(b"three words here\n\nreload-ext")
    with opened(tmp_path) as book:
        told = book.publish(NOW)
    assert told.refused == {("restart-agent", "phase"): 1, ("restart-agent", "locked"): 1}
    assert told.would_run == {}


def test_what_is_refused_for_a_damaged_ledger_is_counted_when_it_is_mended(tmp_path: Path) -> None:
    """It cannot be opened until then."""
    with opened(tmp_path) as book:
        begin(book, NOW)
        end(book, 1, NOW)
    good = content(tmp_path)
    (tmp_path / "hands/ledger").write_bytes(b"x" + good)
    with pytest.raises(LedgerError, match="damaged"):
        opened(tmp_path)
    ledger.note_refusal(tmp_path / "hands", "restart-agent", "ledger")
    (tmp_path / "hands/ledger").write_bytes(good)
    with opened(tmp_path) as book:
        assert book.publish(NOW).refused == {("restart-agent", "ledger"): 1}


def test_a_ledger_that_cannot_be_begun_anew_fills_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_sync: None
) -> None:
    """Each start tries it again, and writes the same archive."""
    now = later(5 * ledger.DAY)
    with opened(tmp_path) as book:
        for _ in range(60):
            end(book, begin(book, NOW), NOW)
    replace_file = ledger._replace

    def full(path: Path, data: bytes, mode: int) -> None:
        if path.name == "ledger":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace_file(path, data, mode)

    def archives() -> list[Path]:
        return sorted((tmp_path / "hands").glob("ledger.*"))

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_replace", full)
        for _ in range(10):
            now = later(MINUTE, now)
            with opened(tmp_path, now, rotate=30_000) as book:
                end(book, begin(book, now), now)
    before = content(tmp_path)
    assert len(archives()) == 1
    now = later(5 * ledger.DAY, now)
    for rotations in (1, 2):
        with opened(tmp_path, now, rotate=30_000) as book:
            assert book.lines[0].moment == now
            for _ in range(60):
                end(book, begin(book, now), now)
        now = later(5 * ledger.DAY, now)
        assert len(archives()) == rotations
    assert archives()[0].read_bytes() == before


def test_a_crash_while_it_is_rotated_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_sync: None
) -> None:
    """Before or after each call that names a file; the next start has the same attempts, incidents and number."""

    class Crash(BaseException):
        pass

    def story(book: Ledger) -> Any:
        return ledger.attempts(book.lines)[-20:], ledger.incidents(book.lines), book._next

    with opened(tmp_path) as book:
        for number in range(60):
            begin(book, later(5 * number * HOUR), problem="P")
            end(book, number + 1, later(5 * number * HOUR))
        expected = story(book)
    original, now = content(tmp_path), later(300 * HOUR)
    crashes = 0
    for point in range(1000):
        for old in (tmp_path / "hands").glob("*ledger*"):
            old.unlink()
        (tmp_path / "hands/ledger").write_bytes(original)
        moments = itertools.count()

        def reach(moments: Iterator[int] = moments, point: int = point) -> None:
            if next(moments) == point:
                raise Crash

        def crashing(call: Any, reach: Any = reach) -> Any:
            def called(*arguments: Any, **keywords: Any) -> Any:
                reach()
                done = call(*arguments, **keywords)
                reach()
                return done

            return called

        with monkeypatch.context() as patch:
            for name in ("open", "write", "fchmod", "replace", "rename", "unlink"):
                patch.setattr(os, name, crashing(getattr(os, name)))
            try:
                opened(tmp_path, now, rotate=25_000).close()
                break
            except Crash:
                crashes += 1
        with opened(tmp_path, now) as book:
            assert story(book) == expected
    assert crashes > 10
    assert len(content(tmp_path)) < len(original)


# ------------------------------------------------------------------------------------------------------ summary


def test_the_summary_is_open_to_all_and_holds_no_secret(tmp_path: Path) -> None:
    """What is told of an attempt is cleaned; the counters go on after a restart."""
    with opened(tmp_path) as book:
        number = begin(book, NOW, key="https://x.blob/y?sig=abcdef0123456789")
        book.add(
            "ended", NOW, attempt=number, result="failed", reasons=["token=hunter2hunter2"], undone=[], left=[[0, "x"]]
        )
        book.count_refusal("restart-agent", "phase")
        book.count_would_run("restart-agent")
        book.publish(NOW)
        assert book.unpublished == ""
    data = (tmp_path / "fixes.json").read_bytes()
    assert b"abcdef0123456789" not in data
    assert b"hunter2" not in data
    assert stat.S_IMODE((tmp_path / "fixes.json").stat().st_mode) == 0o644
    with opened(tmp_path, later(5.0)) as book:
        book.count_refusal("restart-agent", "phase")
        told = book.publish(later(5.0))
    assert told == fixes.decode((tmp_path / "fixes.json").read_bytes())
    assert (told.refused, told.would_run) == ({("restart-agent", "phase"): 2}, {"restart-agent": 1})
    assert (told.attempts[0].result, told.attempts[0].left) == (Result.FAILED, (0,))


def test_the_summary_counts_every_end_and_names_what_was_tried(tmp_path: Path) -> None:
    """Also the ends of attempts that it does not list any more, and those that a crash kept from being told; what is
    undone later counts once more."""
    with opened(tmp_path) as book:
        for result in (Result.NOT_HEALED, Result.HEALED):
            number = begin(book, NOW)
            end(book, number, later(1.0), result)
        told = book.publish(later(2.0))
        assert told.ended == {("restart-agent", "not_healed"): 1, ("restart-agent", "healed"): 1}
        end(book, number, later(3.0), Result.UNDONE)
        begin(book, later(4.0), "reload-extension", "EXTENSION_STUCK", "one")
    with opened(tmp_path, later(5.0)) as book:
        told = book.publish(later(5.0))
    counted = {"not_healed": 1, "healed": 1, "undone": 1}
    assert told.ended == {("restart-agent", result): count for result, count in counted.items()}
    assert told.tried == {
        ("AGENT_STOPPED", ""): ("restart-agent", "restart-agent"),
        ("EXTENSION_STUCK", "one"): ("reload-extension",),
    }
    assert fixes.decode((tmp_path / "fixes.json").read_bytes()) == told


def test_the_counts_of_ends_outlive_the_lines(tmp_path: Path, no_sync: None) -> None:
    """A new file of lines begins, and they go on."""
    with opened(tmp_path) as book:
        for _ in range(60):
            end(book, begin(book, NOW), later(1.0), Result.FAILED)
        book.publish(later(2.0))
    now = later(30 * 24 * HOUR)
    with opened(tmp_path, now, rotate=20_000) as book:
        assert len(book.lines) < 60
        end(book, begin(book, now), now, Result.FAILED)
        assert book.publish(now).ended == {("restart-agent", "failed"): 61}


def test_a_summary_that_cannot_be_read_or_written_stops_nothing(tmp_path: Path) -> None:
    """Its counters begin anew; why it could not be written is told."""
    (tmp_path / "fixes.json").write_text("{")
    with opened(tmp_path) as book:
        assert book.publish(NOW).refused == {}
        (tmp_path / "fixes.json").unlink()
        (tmp_path / "fixes.json").mkdir()
        book.publish(NOW)
        assert "fixes.json" in book.unpublished
        assert begin(book, NOW) == 1


def test_what_a_note_costs(tmp_path: Path) -> None:
    """Told, not judged: the disk decides."""
    import time

    with opened(tmp_path) as book:
        started = time.perf_counter()
        for _ in range(50):
            book.add("clear", NOW, problem="P", key="")
        each = (time.perf_counter() - started) / 50
    assert len(ledger.decode(content(tmp_path))[0]) == 50
    measured(f"a line in the ledger of the hands, on the disk: {each * 1000:.1f} ms")


def test_everybody_may_read_the_summary(tmp_path: Path) -> None:
    """Also in a directory that is made for it, whatever the umask is."""
    summary = tmp_path / "fixes/fixes.json"
    now = Moment(1_000_000.0, "one", 1000.0)
    before = os.umask(0o077)
    try:
        with Ledger(tmp_path / "hands", summary, now) as book:
            book.publish(now)
            assert book.unpublished == ""
    finally:
        os.umask(before)
    assert stat.S_IMODE(summary.stat().st_mode) == 0o644
    assert stat.S_IMODE(summary.parent.stat().st_mode) == 0o755
