"""The windows and the record: what contradicts a schedule and what does not, and when a backup is overdue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.mind.judge import Kept
from backupready.mind.state import decode, encode
from backupready.model import (
    CannotTell,
    Finding,
    Happened,
    LearnedSchedule,
    Load,
    Looked,
    Outlook,
    Phase,
    ProbeState,
    Reading,
    Run,
    Window,
)
from backupready.observe import observe
from backupready.probes import window
from fake import NOW, FakeMachine, configuration

HOUR, DAY = 3600.0, 86400.0
# The newest of these ended eight hours ago; seven of them.
PASSED = tuple(Window(NOW - n * DAY - 10.5 * HOUR, NOW - n * DAY - 8 * HOUR, "daily") for n in range(6, -1, -1))
NEXT = Window(NOW + 13.5 * HOUR, NOW + 16 * HOUR, "daily")


def outlook(**changes: Any) -> Outlook:
    """A daily schedule that is configured, and a machine that is always on."""
    whole: dict[str, Any] = {
        "at": NOW,
        "phase": Phase.IDLE,
        "window": NEXT,
        "passed": PASSED,
        "lead": 4 * HOUR,
        "expected_interval": DAY,
        "configured": True,
        "since": NOW - 400 * DAY,
    }
    return Outlook(**{**whole, **changes})


def run(began: float, happened: Happened = Happened.SUCCEEDED, seconds: float = 60.0) -> Run:
    return Run(began + seconds, 1, happened, began)


def runs_at(*hours: float) -> tuple[Run, ...]:
    """Runs that began so many hours ago, given oldest first."""
    return tuple(run(NOW - ago * HOUR) for ago in hours)


def look(seen: Outlook, memory: Mapping[str, Any] | None = None, **texts: str) -> Looked:
    """By what it remembers of earlier looks; else these have seen it set so for longer than there is a record."""
    config = configuration([window.PROBE], **{f"window__{key}": text for key, text in texts.items()})
    if memory is None:
        memory = observe(window.PROBE, FakeMachine(calendar=outlook(at=0.0)), config).memory
    looked = observe(window.PROBE, FakeMachine(calendar=seen, memory=memory), config)
    assert looked.state is ProbeState.OK, looked.traceback
    return looked


def found(looked: Looked) -> list[str]:
    return [finding.problem for finding in looked.findings]


def unknown(looked: Looked) -> list[str]:
    return [code for one in looked.unknown for code in one.problems]


# ------------------------------------------------------------------------------------- does the record bear it out?

NIGHTLY = (154.0, 130.0, 106.0, 82.0, 58.0, 34.0, 10.0)  # hours ago, each within its window
MIDDAY = (132.0, 108.0, 84.0, 60.0, 36.0, 12.0)  # each outside


@pytest.mark.parametrize(
    ("hours", "contradicted"),
    [
        (NIGHTLY, False),
        ((*NIGHTLY, 5.0), False),  # one by hand
        ((*NIGHTLY, 7.0, 5.0, 3.0), False),  # three by hand on one day: no window has passed meanwhile
        ((154.0, 130.0, 106.0, 82.0, 30.0), False),  # two nights without, and one by hand in their place
        ((154.0, 130.0, 106.0, 30.0, 20.0), True),  # three nights without, and two elsewhere
        ((154.0, 130.0, 106.0, 82.0, 30.0, 20.0, 5.0), True),  # two nights without, and three elsewhere
        ((154.0, 130.0, 106.0, 30.0, 29.8, 29.6), False),  # three tries of one backup
        (MIDDAY, True),
        ((*MIDDAY[:-1], 10.0), False),  # the newest kept to it
        (MIDDAY[-3:], True),
        (MIDDAY[-2:], False),  # too short a record
        ((), False),
        ((58.55, 34.55, 10.55), False),  # three minutes early, by another clock
        ((58.7, 34.7, 10.7), True),
    ],
)
def test_what_contradicts_a_schedule(hours: tuple[float, ...], contradicted: bool) -> None:
    """Several windows without a run together with several backups elsewhere; nothing less."""
    looked = look(outlook(runs=runs_at(*hours)))
    assert ("WINDOW_CONTRADICTED" in found(looked)) is contradicted


@pytest.mark.parametrize(
    "changes",
    [
        {"since": NOW - 9 * HOUR},  # it was off in all windows, as far as is known
        {"since": NOW - 34 * HOUR},  # it was on in one
        {"passed": PASSED[-1:]},  # nothing from before the schedule was set is held against it
        {"passed": ()},
        {"configured": False},  # a learned one follows the record
        {"runs": tuple(run(NOW + ago * HOUR) for ago in MIDDAY)},  # by a clock that was wrong
    ],
    ids=["off", "mostly off", "set yesterday", "set today", "learned", "ahead"],
)
def test_what_excuses_a_record_that_lies_elsewhere(changes: dict[str, Any]) -> None:
    """Each of it alone; without it the same record contradicts the schedule."""
    whole = outlook(runs=runs_at(*MIDDAY[-3:]))
    assert found(look(whole)) == ["WINDOW_CONTRADICTED"]
    assert found(look(replace(whole, **changes))) == []


def test_a_schedule_that_was_set_anew_starts_anew() -> None:
    """A daemon that sees its setting change holds nothing against the new schedule that lies before."""
    whole = outlook(runs=runs_at(*MIDDAY))
    first = look(whole, schedule="daily at 22:00")
    assert found(first) == ["WINDOW_CONTRADICTED"]
    assert found(look(whole, first.memory, schedule="daily at 22:00")) == ["WINDOW_CONTRADICTED"]
    assert found(look(whole, first.memory, schedule="daily at 22:00", duration="1h")) == []
    changed = look(whole, first.memory, schedule="daily at 13:30")
    assert found(changed) == []
    assert found(look(whole, changed.memory, schedule="daily at 13:30")) == []
    later = replace(whole, at=NOW + 4 * DAY, passed=tuple(_later(PASSED, 4)), runs=runs_at(*MIDDAY, -12, -36, -60, -84))
    assert found(look(later, changed.memory, schedule="daily at 13:30")) == ["WINDOW_CONTRADICTED"]


def test_a_schedule_of_which_nothing_is_remembered_is_new() -> None:
    """Nothing from before the first look is held against it, and what is remembered is so in a state file too."""
    whole = outlook(runs=runs_at(*MIDDAY))
    first = look(whole, {})
    assert found(first) == []
    kept = decode(encode(Kept(memory={"window": dict(first.memory)}))).memory["window"]
    later = replace(whole, at=NOW + 4 * DAY, passed=tuple(_later(PASSED, 4)), runs=runs_at(*MIDDAY, -12, -36, -60, -84))
    assert found(look(later, kept)) == ["WINDOW_CONTRADICTED"]
    assert found(look(later, {})) == []


def test_a_long_schedule_is_remembered_as_well() -> None:
    """What is remembered is cut where it is long."""
    schedule = "; ".join(f"daily at {hour:02}:{minute:02}" for hour in range(24) for minute in (0, 30))
    first = look(outlook(), {}, schedule=schedule)
    assert look(outlook(at=NOW + DAY), first.memory, schedule=schedule).memory == first.memory


@pytest.mark.parametrize(
    ("days", "confidence", "changes", "contradicted"),
    [
        (7, 0.95, {}, True),
        (7, 0.85, {}, False),  # not sure enough
        (5, 0.95, {}, False),  # four of them besides
        (7, 0.95, {"configured": False}, False),
    ],
)
def test_what_runs_besides_the_windows_contradicts_them_too(
    days: int, confidence: float, changes: dict[str, Any], contradicted: bool
) -> None:
    """A weekly schedule is configured, and it is kept to; but backups run every night."""
    runs = runs_at(*NIGHTLY[-days:])
    learned = (LearnedSchedule("daily at 02:00", confidence, tuple(one.start for one in runs)),)
    seen = outlook(
        passed=tuple(replace(one, schedule="weekly") for one in (PASSED[-1],) if days != 7)
        or (replace(PASSED[0], schedule="weekly"), replace(PASSED[-1], schedule="weekly")),
        runs=runs,
        learned=learned,
        expected_interval=7 * DAY,
        **changes,
    )
    if days == 5:
        seen = replace(seen, passed=(PASSED[2], PASSED[-1]))
    looked = look(seen)
    assert found(looked) == (["WINDOW_CONTRADICTED"] if contradicted else [])
    for finding in looked.findings:
        assert finding.evidence["learned"] == "daily at 02:00"
        assert (finding.evidence["configured"], finding.evidence["runs_elsewhere"]) == ("weekly", 5)
    assert found(look(seen, {})) == []


def _later(windows: Sequence[Window], days: int) -> list[Window]:
    return [replace(one, start=one.start + days * DAY, end=one.end + days * DAY) for one in windows]


@pytest.mark.parametrize("memory", [{"set_to": 3, "changed": "x"}, {"set_to": " in UTC", "changed": float("nan")}])
def test_a_strange_memory_is_none(memory: dict[str, Any]) -> None:
    """What comes back may be anything."""
    assert look(outlook(runs=runs_at(*NIGHTLY)), memory).state is ProbeState.OK


def test_the_evidence_says_which_schedule_it_would_be() -> None:
    """The configured one, what the record suggests instead, most certain first, and when the newest runs began."""
    learned = (LearnedSchedule("weekly on Sunday at 04:00", 0.5, ()), LearnedSchedule("daily at 12:00", 0.954, ()))
    (finding,) = look(outlook(runs=runs_at(*MIDDAY), learned=learned)).findings
    assert finding.evidence == {
        "configured": "daily",
        "learned": "daily at 12:00; weekly on Sunday at 04:00",
        "confidence": 0.95,
        "windows_without_a_run": 7,
        "runs_elsewhere": 6,
        "began": "2026-11-18T12:23:02Z 2026-11-19T12:23:02Z 2026-11-20T12:23:02Z 2026-11-21T12:23:02Z"
        " 2026-11-22T12:23:02Z",
    }


def test_noted_loads_show_that_the_machine_was_on() -> None:
    """Through restarts; a window of which little was noted is none in which it is known to have been on."""
    whole = outlook(runs=runs_at(*MIDDAY), since=NOW - HOUR)

    def noted(share: float) -> tuple[Load, ...]:
        return tuple(Load(one.start + n * 300.0, 0.1, 0.1) for one in PASSED for n in range(int(30 * share)))

    assert found(look(replace(whole, loads=noted(1.0)))) == ["WINDOW_CONTRADICTED"]
    assert found(look(replace(whole, loads=noted(0.5)))) == []


def test_what_is_not_known_neither_contradicts_nor_bears_out() -> None:
    """Neither since when the machine is on, nor the newest run; of a record that keeps to its windows both are not
    needed."""
    for changes in ({"since": None}, {"unread": "12.status is no JSON"}):
        looked = look(outlook(runs=runs_at(*MIDDAY), **changes))
        assert (found(looked), unknown(looked)) == ([], ["WINDOW_CONTRADICTED"])
        looked = look(outlook(runs=runs_at(*NIGHTLY), **changes))
        assert (found(looked), unknown(looked)) == ([], [])


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("change", [date(2026, 3, 29), date(2026, 10, 25), date(2026, 11, 1), date(2026, 4, 5)])
def test_a_change_of_the_clocks_contradicts_nothing(zone: str, change: date) -> None:
    """Backups that keep to local time keep to its windows."""

    def local(day: date) -> float:
        return datetime(day.year, day.month, day.day, 2, 30, tzinfo=ZoneInfo(zone)).timestamp()

    starts = [local(change + timedelta(days=n)) for n in range(-5, 6)]
    seen = outlook(
        at=starts[-1] + 6 * HOUR,
        passed=tuple(Window(start, start + 2.5 * HOUR, "daily at 02:30") for start in starts),
        runs=tuple(run(start + 60) for start in starts),
        expected_interval=max(later - earlier for earlier, later in zip(starts, starts[1:])),
    )
    assert found(look(seen)) == []


@given(
    late=st.lists(st.floats(0, 2 * HOUR), min_size=len(PASSED), max_size=len(PASSED)),
    by_hand=st.lists(st.floats(0, 8 * DAY), max_size=12),
)
def test_a_schedule_that_is_kept_to_is_never_contradicted(late: list[float], by_hand: list[float]) -> None:
    """However late its runs begin, and whatever else is run by hand."""
    kept = [run(one.start + delay) for one, delay in zip(PASSED, late)]
    ordered = sorted((*kept, *(run(NOW - ago - 60) for ago in by_hand)), key=lambda one: one.ended)
    assert "WINDOW_CONTRADICTED" not in found(look(outlook(runs=tuple(ordered))))


# ---------------------------------------------------------------------------------------------- is the next one late?


@pytest.mark.parametrize(
    ("hours", "changes", "texts", "limit"),
    [
        ((50.0, 27.6), {}, {}, 27.5),
        ((50.0, 27.4), {}, {}, None),
        ((50.0, 27.6), {"expected_interval": 25 * HOUR}, {}, None),  # the night on which the clocks go back
        ((50.0, 27.6), {}, {"start_window": "4h"}, None),
        ((50.0, 29.6), {}, {"start_window": "4h"}, 29.5),
        ((50.0, 29.6), {}, {"duration": "3h"}, None),
        ((50.0, 30.1), {}, {"duration": "3h"}, 30.0),
        ((50.0, 27.6), {}, {"expected_interval": "7d"}, None),  # the setting has the last word
        ((50.0, 13.6), {}, {"expected_interval": "10h"}, 13.5),
        ((50.0, 27.6), {"since": NOW - 26 * HOUR}, {}, None),  # it was off
        ((50.0, 27.6), {"window": None, "expected_interval": None}, {}, None),  # too few to learn from
        ((), {}, {}, None),  # never backed up: there is nothing that it would be late after
        ((-30.0,), {}, {}, None),  # ahead of the clock
    ],
)
def test_when_a_backup_is_overdue(
    hours: tuple[float, ...], changes: dict[str, Any], texts: dict[str, str], limit: float | None
) -> None:
    """After the interval, the time in which a job may start, and an hour; over time in which the machine was on."""
    # The limit is measured from a run's end, and runs take a minute.
    runs = tuple(run(NOW - ago * HOUR - 60) for ago in hours)
    looked = look(outlook(passed=(), runs=runs, **changes), None, **texts)
    told = [f.evidence["limit_hours"] for f in looked.findings if f.problem == "BACKUP_OVERDUE"]
    assert told == ([] if limit is None else [limit])


def test_a_failed_run_is_no_backup() -> None:
    """It is measured from the last good one, and one that is crash-consistent is good; where there is none, from the
    last run."""
    failing = (*runs_at(82.0), *(run(NOW - ago * HOUR, Happened.FAILED) for ago in (58.0, 34.0, 10.0)))
    (finding,) = look(outlook(runs=failing)).findings
    assert finding == Finding(
        "BACKUP_OVERDUE",
        evidence={
            "last_run": "2026-11-22T14:24:02Z",
            "last_good": "2026-11-19T14:24:02Z",
            "hours_since": 82.0,
            "limit_hours": 27.5,
            "learned_from_runs": None,
            "windows_without_a_run": 0,
        },
    )
    crash = run(NOW - 9 * HOUR, Happened.CRASH_CONSISTENT)
    assert found(look(outlook(runs=(*failing, crash)))) == []
    assert found(look(outlook(runs=failing[1:]))) == []
    elsewhere = run(NOW - 9 * HOUR, Happened.FAILED_ELSEWHERE)
    assert found(look(outlook(runs=(*failing, elsewhere)))) == ["BACKUP_OVERDUE"]
    assert found(look(outlook(runs=failing[1:2]))) == ["BACKUP_OVERDUE"]


def test_windows_without_a_run_are_counted_since_the_last_good_one() -> None:
    """Those that are over."""
    (finding,) = look(outlook(runs=runs_at(*NIGHTLY[:4]))).findings
    assert finding.evidence["windows_without_a_run"] == 3


def test_after_a_change_of_the_schedule_its_first_backup_is_waited_for() -> None:
    """From weekly to daily: what lies before says nothing of a daily one."""
    before = outlook(at=NOW - HOUR, runs=runs_at(82.0), expected_interval=7 * DAY, passed=())
    weekly = look(before, schedule="weekly on Friday at 02:00")
    daily = outlook(runs=runs_at(82.0))
    first = look(daily, weekly.memory, schedule="daily at 02:00")
    assert found(first) == []
    for hours, overdue in ((27, False), (28, True)):
        later = replace(daily, at=NOW + hours * HOUR, window=None, passed=tuple(_later(PASSED, 1)))
        looked = look(later, first.memory, schedule="daily at 02:00")
        assert (found(looked) == ["BACKUP_OVERDUE"]) is overdue
    assert found(look(daily, {}, schedule="daily at 02:00")) == ["BACKUP_OVERDUE"]


def test_a_restart_does_not_make_a_backup_less_late() -> None:
    """As long as it is known of a window that the machine was on: by its load, or by a run that failed."""
    late = outlook(runs=runs_at(*NIGHTLY[:4]), since=NOW - HOUR)
    loads = tuple(Load(one.start + n * 300.0, 0.1, 0.1) for one in PASSED for n in range(30))
    assert found(look(late)) == []
    assert found(look(replace(late, loads=loads))) == ["BACKUP_OVERDUE"]
    assert found(look(replace(late, loads=loads[:-30]))) == []  # it was off in the last one
    failed = (*late.runs, *(run(NOW - ago * HOUR, Happened.FAILED) for ago in NIGHTLY[4:]))
    assert found(look(replace(late, runs=failed))) == ["BACKUP_OVERDUE"]


def test_while_its_window_is_open_a_backup_is_not_late_yet() -> None:
    """What was late when it opened stays so."""
    now = Window(NOW - 3 * HOUR, NOW + 9 * HOUR, "daily")
    for hours, overdue in ((28.0, False), (31.0, True)):
        seen = outlook(runs=runs_at(hours), passed=(), window=now)
        assert (found(look(seen)) == ["BACKUP_OVERDUE"]) is overdue
        assert found(look(replace(seen, window=NEXT))) == ["BACKUP_OVERDUE"]


def test_by_what_is_learned_one_window_without_a_backup_is_not_late() -> None:
    """It may have been moved."""
    learned = tuple(replace(one, learned=True) for one in PASSED)
    for hours, overdue in ((NIGHTLY[:-1], False), (NIGHTLY[:-2], True)):
        seen = outlook(runs=runs_at(*hours), passed=learned, configured=False)
        assert (found(look(seen)) == ["BACKUP_OVERDUE"]) is overdue
        assert found(look(replace(seen, passed=PASSED, configured=True))) == ["BACKUP_OVERDUE"]


def test_overdue_cannot_be_told_without_up_time_or_the_newest_run() -> None:
    """Where it matters: a backup that is recent is not overdue, whatever else is not known."""
    for changes in ({"since": None}, {"unread": "12.status is no JSON"}):
        looked = look(outlook(runs=runs_at(50.0), passed=(), **changes))
        assert (found(looked), unknown(looked)) == ([], ["BACKUP_OVERDUE"])
        looked = look(outlook(runs=runs_at(10.0), passed=(), **changes))
        assert (found(looked), unknown(looked)) == ([], [])
    assert unknown(look(outlook(unread="x"))) == ["BACKUP_OVERDUE"]
    assert unknown(look(outlook(since=None))) == []


def test_an_agentless_policy_leaves_no_record() -> None:
    """What was on record before says nothing then."""
    for hours in (NIGHTLY[:2], MIDDAY[:4]):
        assert found(look(outlook(runs=runs_at(*hours)))) != []
        assert found(look(outlook(runs=runs_at(*hours)), consistency="crash")) == []


# -------------------------------------------------------------------------------------------------- what is known


@pytest.mark.parametrize(
    ("changes", "is_unknown"),
    [
        ({"window": None, "configured": False}, True),
        ({"window": None, "configured": False, "learned": (LearnedSchedule("daily at 01:00", 1.0, ()),)}, True),
        ({"configured": False}, False),
        ({"window": None, "configured": False, "upcoming": (NEXT,)}, False),
        ({}, False),
    ],
)
def test_a_window_is_known_or_not(changes: dict[str, Any], is_unknown: bool) -> None:
    """Configured, or learned and gone by; what the record suggests alone is nothing that is gone by."""
    assert found(look(outlook(**changes))) == (["WINDOW_UNKNOWN"] if is_unknown else [])


def test_the_next_start_is_told() -> None:
    """That of the window that is coming, also while one is open; nothing where none is known."""
    names = ("next_start_timestamp_seconds", "lead_seconds", "expected_interval_seconds")

    def told(seen: Outlook) -> tuple[float | None, ...]:
        readings = {reading.metric: reading.value for reading in look(seen).readings}
        return tuple(readings.get(f"backupready_window_{name}") for name in names)

    assert told(outlook()) == (NEXT.start, 4 * HOUR, DAY)
    now = Window(NOW - HOUR, NOW + HOUR, "daily")
    assert told(outlook(window=now, upcoming=(NEXT,))) == (NEXT.start, 4 * HOUR, DAY)
    (interval,) = [
        one.value for one in look(outlook(), expected_interval="7d").readings if one.metric.endswith("interval_seconds")
    ]
    assert interval == 7 * DAY
    assert told(outlook(window=None, expected_interval=None, configured=False)) == (None, None, None)
    assert {metric.name for metric in window.METRICS} == {f"backupready_window_{name}" for name in names}


def test_windows_that_were_busy_are_told_with_their_numbers() -> None:
    """One finding a resource."""
    loads = tuple(
        Load(one.start + n * 300.0, 0.95, 0.5 if index else 0.97, io=0.7) for index, one in enumerate(PASSED)
        for n in range(30)
    )  # fmt: skip
    seen = outlook(runs=runs_at(*NIGHTLY), loads=loads)
    assert [(finding.key, dict(finding.evidence)) for finding in look(seen).findings] == [
        ("cpu", {"windows": 7, "busy": 7, "percentile_75_of_the_middle_window": 95.0, "limit_percent": 90.0}),
        ("io", {"windows": 7, "busy": 7, "percentile_75_of_the_middle_window": 70.0, "limit_percent": 60.0}),
    ]
    keys = [finding.key for finding in look(seen, cpu_percent="96", memory_percent="49", stalled_percent="80").findings]
    assert keys == ["memory"]


def test_a_window_without_length_tells_of_no_machine_that_was_on() -> None:
    """Nor one in which nothing was noted."""
    passed = tuple(replace(one, end=one.start) for one in PASSED)
    whole = outlook(runs=runs_at(*MIDDAY), passed=passed, since=NOW - HOUR)
    assert found(look(whole)) == []
    noted = tuple(Load(one.start // 300 * 300, 0.1, 0.1) for one in passed)
    assert "WINDOW_CONTRADICTED" in found(look(replace(whole, loads=noted)))


def test_at_the_end_of_all_dates_nothing_can_be_told() -> None:
    """It says why."""
    looked = look(outlook(window=None, configured=False, unplanned="the clock shows the end of all dates"))
    assert found(looked) == []
    assert [one.why for one in looked.unknown] == ["the clock shows the end of all dates"]


def test_without_an_outlook_nothing_can_be_told() -> None:
    """Neither is anything healthy."""
    looked = observe(window.PROBE, FakeMachine(), configuration([window.PROBE]))
    assert (looked.state, looked.findings, looked.readings) == (ProbeState.CANNOT_TELL, (), ())


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("consistency", "file", "neither application nor crash"),
        ("start_window", "soon", "no time span|not a time span"),
        ("start_window", "9s", "not from 10s to 12h"),
        ("start_window", "800000d", "not from 10s to 12h"),
        ("duration", "0", "not from 1s to 1d"),
        ("duration", "25h", "not from 1s to 1d"),
        ("lead", "8d", "not from 0s to 7d"),
        ("hold", "8d", "not from 0s to 7d"),
        ("cpu_percent", "100", "no number from 1 to 99"),
        ("learn", "perhaps", "neither yes nor no"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(key: str, text: str, words: str) -> None:
    """With words about what it should be."""
    with pytest.raises(ValueError, match=words):
        configuration([window.PROBE], **{f"window__{key}": text})


_MOMENT = st.floats(0, 4e9)
_WINDOWS = st.lists(st.builds(lambda a, b: Window(min(a, b), max(a, b), "x"), _MOMENT, _MOMENT), max_size=6).map(
    lambda windows: tuple(sorted(windows, key=lambda one: one.start))
)
_RUNS = st.lists(
    st.builds(Run, _MOMENT, st.integers(0, 999), st.sampled_from(Happened), st.none() | _MOMENT), max_size=8
).map(tuple)


@given(
    seen=st.builds(
        Outlook,
        at=_MOMENT,
        window=st.none() | _WINDOWS.map(lambda windows: windows[0] if windows else None),
        upcoming=_WINDOWS,
        passed=_WINDOWS,
        expected_interval=st.none() | st.floats(0, 1e8),
        configured=st.booleans(),
        runs=_RUNS,
        loads=st.lists(st.builds(Load, _MOMENT, st.floats(0, 1), st.floats(0, 1)), max_size=4).map(tuple),
        since=st.none() | _MOMENT,
        unread=st.sampled_from(["", "why"]),
    )
)
def test_no_outlook_breaks_the_probe(seen: Outlook) -> None:
    """Whatever the calendar gives; and what is active is not unknown at once."""
    looked = look(seen)
    assert not {(f.problem) for f in looked.findings} & set(unknown(looked))
    assert all(isinstance(one, (Reading, CannotTell)) for one in (*looked.readings, *looked.unknown))
