"""What past windows say of the next: when it is said, when it is not, and when it is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.forecast import FEWEST_WINDOWS, NEWEST_WINDOWS, Busy, Limits, forecast
from backupready.model import Load, Window
from backupready.window import Plan, parse

SLOT = 300.0
DAY = 86400.0
FIRST = 20000 * DAY + 72000.0  # 20:00
IDLE = Load(0.0, cpu=0.1, memory=0.3, steal=0.0, io=0.05)
FULL = Load(0.0, cpu=0.97, memory=0.3, steal=0.0, io=0.05)


def window(number: int, hours: float = 2.0, every: float = DAY) -> Window:
    start = FIRST + number * every
    return Window(start, start + hours * 3600, "daily 20:00")


def spread(it: Window, load: Load, count: int | None = None) -> list[Load]:
    """The same load over a window, or over its first few slots."""
    slots = range(int((it.end - it.start) / SLOT) if count is None else count)
    return [replace(load, start=it.start + slot * SLOT) for slot in slots]


def past(busy: str, load: Load = FULL, every: float = DAY) -> tuple[list[Load], list[Window], Window, float]:
    """Windows oldest first: B busy, - idle, ? nothing recorded. And the next, and a moment some hours before it."""
    windows = [window(number, every=every) for number in range(len(busy))]
    loads = [
        each
        for word, it in zip(busy, windows)
        for each in ([] if word == "?" else spread(it, load if word == "B" else IDLE))
    ]
    return loads, windows, window(len(busy), every=every), FIRST + len(busy) * every - 6 * 3600


@pytest.mark.parametrize(
    ("busy", "expected"),
    [
        ("", None),
        ("BBBB", None),
        ("BBBBB", (5, 5)),
        ("BB---", None),
        ("BBB--", (5, 3)),
        ("--B-B-B", None),
        ("B-B-B-B", (7, 4)),
        ("BBBBBBBBBBB", (7, 7)),
        ("BBBBBBBBBBB---", (7, 4)),
        ("BBBBBBBBBBB----", None),
        ("----------BBB", None),
        ("----------BBBB", (7, 4)),
        ("BBBB?", None),
        ("B?B?B?B?B?", (5, 5)),
        ("BBBBB?????????", (5, 5)),
        ("BBBBB??????????", None),
        ("BBBBBBB" + "?" * 60, None),
    ],
)
def test_most_of_the_newest_windows_decide(busy: str, expected: tuple[int, int] | None) -> None:
    """At least half of the newest seven, and at least five; what was before a long absence does not count."""
    found = forecast(*past(busy))
    assert found == (() if expected is None else (Busy("cpu", *expected, 0.97, 0.9),))


def test_a_weekly_schedule_says_nothing_before_the_fifth_week() -> None:
    """Nor is what it says then any different from a daily one's."""
    assert forecast(*past("BBBB", every=7 * DAY)) == ()
    assert forecast(*past("BBBBB", every=7 * DAY)) == (Busy("cpu", 5, 5, 0.97, 0.9),)


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (replace(IDLE, cpu=0.9), [("cpu", 0.9, 0.9)]),
        (replace(IDLE, cpu=0.8999), []),
        (replace(IDLE, memory=0.95), [("memory", 0.95, 0.9)]),
        (replace(IDLE, io=0.7), [("io", 0.7, 0.6)]),
        (replace(IDLE, steal=1.0), []),
        (Load(0.0, 1.0, 1.0, 1.0, 1.0), [("cpu", 1.0, 0.9), ("memory", 1.0, 0.9), ("io", 1.0, 0.6)]),
        (Load(0.0, 1.0, 0.1, 1.0, None), [("cpu", 1.0, 0.9)]),
    ],
)
def test_each_resource_has_its_limit(load: Load, expected: list[tuple[str, float, float]]) -> None:
    """At the limit is busy; where pressure is not counted, nothing is said of the disks."""
    assert [(it.resource, it.typical, it.limit) for it in forecast(*past("BBBBB", load))] == expected


def test_limits_can_be_set() -> None:
    """Those of the probe of pressure are the administrator's; one that is not set is not judged."""
    it = past("BBBBB", Load(0.0, 0.5, 0.5, 0.5, 0.5))
    assert forecast(*it, Limits(cpu=0.4, memory=None, steal=0.45, io=0.51)) == (
        Busy("cpu", 5, 5, 0.5, 0.4),
        Busy("steal", 5, 5, 0.5, 0.45),
    )


@pytest.mark.parametrize(("slots", "busy"), [(5, False), (6, True), (24, True)])
def test_a_window_is_busy_if_the_machine_is_for_a_quarter_of_it(slots: int, busy: bool) -> None:
    """Half an hour of two; a burst is no obstacle."""
    loads, windows, coming, at = past("-----")
    busy_at = {load.start for it in windows for load in spread(it, FULL, slots)}
    loads = [replace(FULL, start=load.start) if load.start in busy_at else load for load in loads]
    assert bool(forecast(loads, windows, coming, at)) is busy


@pytest.mark.parametrize(("slots", "counts"), [(11, False), (12, True)])
def test_a_window_that_was_hardly_recorded_does_not_count(slots: int, counts: bool) -> None:
    """Half of it is enough; four others are too few."""
    loads, windows, coming, at = past("BBBB")
    last = window(4)
    assert bool(forecast([*loads, *spread(last, FULL, slots)], [*windows, last], coming, at + DAY)) is counts


def test_a_window_counts_when_it_is_over() -> None:
    """The one that is open may become anything yet."""
    loads, windows, coming, _ = past("BBBBB")
    assert forecast(loads, windows, coming, windows[-1].end - 1) == ()
    assert forecast(loads, windows, coming, windows[-1].end) != ()


def test_the_typical_level_is_that_of_the_middle_window() -> None:
    """One that was worse than all others does not speak for them."""
    windows = [window(number) for number in range(5)]
    levels = (0.2, 0.91, 1.0, 0.93, 0.92)
    loads = [load for level, it in zip(levels, windows) for load in spread(it, replace(IDLE, cpu=level))]
    assert forecast(loads, windows, window(5), FIRST + 5 * DAY) == (Busy("cpu", 5, 4, 0.92, 0.9),)


# -------------------------------------------------------------------------------- which windows are like the next


def busy_within(windows: Sequence[Window], busy: Sequence[Window]) -> list[Load]:
    return [load for it in windows for load in spread(it, FULL if it in busy else IDLE)]


def test_windows_at_another_time_of_day_do_not_count() -> None:
    """Of six a day, of which those by day are busy."""
    *windows, last = Plan(parse("hourly every 4 hours from 00:00 for 20 hours", "UTC")).between(FIRST, FIRST + 8 * DAY)
    by_day = [it for it in windows if it.start % DAY in (8 * 3600, 12 * 3600, 16 * 3600)]
    loads = busy_within(windows, by_day)
    for coming in windows[-6:]:
        found = forecast(loads, windows, coming, last.start)
        assert found == ((Busy("cpu", 7, 7, 0.97, 0.9),) if coming in by_day else ())


def test_the_time_of_day_is_that_of_the_zone() -> None:
    """The week in which summer time ends has the same windows on the wall; of another schedule's some may be alike."""
    zone = "Europe/Berlin"
    first = datetime(2026, 10, 22, tzinfo=timezone.utc).timestamp()
    *windows, last = Plan(parse("daily at 20:00", zone)).between(first, first + 7 * DAY)
    assert len({it.start % DAY for it in windows}) == 2
    assert forecast(busy_within(windows, windows), windows, last, last.start) == (Busy("cpu", 6, 6, 0.97, 0.9),)
    as_utc = replace(last, zone="UTC")
    assert forecast(busy_within(windows, windows), windows, as_utc, last.start) == ()


def test_of_a_weekly_schedule_the_day_of_the_week_counts() -> None:
    """The busy Sundays say nothing of the Wednesdays; of a daily schedule all days count."""
    windows = Plan(parse("weekly on Wednesday, Sunday at 20:00", "UTC")).between(FIRST, FIRST + 42 * DAY)
    sundays = [it for it in windows if datetime.fromtimestamp(it.start, timezone.utc).weekday() == 6]
    loads = busy_within(windows, sundays)
    sunday, wednesday = (max(it.start for it in windows if (it in sundays) is on) for on in (True, False))
    for start, expected in ((sunday, (Busy("cpu", 6, 6, 0.97, 0.9),)), (wednesday, ())):
        coming = next(replace(it, start=start + 7 * DAY, end=it.end + 7 * DAY) for it in windows if it.start == start)
        assert forecast(loads, windows, coming, FIRST + 43 * DAY) == expected
    nightly = Plan(parse("daily at 20:00", "UTC")).between(FIRST, FIRST + 8 * DAY)
    *days, last = nightly
    assert forecast(busy_within(days, days[-4:]), days, last, last.start) == (Busy("cpu", 7, 4, 0.97, 0.9),)


# ------------------------------------------------------------------------------------------ whatever the past was

SHARES = st.sampled_from([0.0, 0.5, 0.89, 0.9, 0.95, 1.0])
LOADS = st.builds(Load, st.just(0.0), cpu=SHARES, memory=SHARES, steal=SHARES, io=st.none() | SHARES)
PAST = st.lists(st.lists(st.none() | LOADS, min_size=4, max_size=4), max_size=10)
LIMITS = Limits(steal=0.5)
NEXT = window(101)


def windows_and_loads(recorded: Sequence[Sequence[Load | None]]) -> tuple[list[Load], list[Window]]:
    """Windows of twenty minutes, of which each has up to four loads."""
    windows = [window(number, hours=1 / 3) for number in range(len(recorded))]
    loads = [
        replace(load, start=it.start + slot * SLOT)
        for it, slots in zip(windows, recorded)
        for slot, load in enumerate(slots)
        if load is not None
    ]
    return loads, windows


@given(PAST)
def test_there_is_never_a_forecast_out_of_few_windows(recorded: list[list[Load | None]]) -> None:
    """And what it says of itself is so."""
    loads, windows = windows_and_loads(recorded)
    found = forecast(loads, windows, NEXT, FIRST + 100 * DAY, LIMITS)
    for it in found:
        assert FEWEST_WINDOWS <= it.windows <= min(NEWEST_WINDOWS, len(windows))
        assert it.windows / 2 <= it.busy <= it.windows
        assert it.typical >= it.limit
    assert forecast(loads, windows[: FEWEST_WINDOWS - 1], NEXT, FIRST + 100 * DAY, LIMITS) == ()


@given(PAST, st.data())
def test_a_busier_machine_is_never_forecast_less(recorded: list[list[Load | None]], data: st.DataObject) -> None:
    """Whatever load was higher: a resource that was forecast still is."""
    loads, windows = windows_and_loads(recorded)
    busier = [
        replace(
            load,
            cpu=max(load.cpu, data.draw(SHARES)),
            memory=max(load.memory, data.draw(SHARES)),
            steal=max(load.steal, data.draw(SHARES)),
            io=None if load.io is None else max(load.io, data.draw(SHARES)),
        )
        for load in loads
    ]
    before = {it.resource: it for it in forecast(loads, windows, NEXT, FIRST + 100 * DAY, LIMITS)}
    after = {it.resource: it for it in forecast(busier, windows, NEXT, FIRST + 100 * DAY, LIMITS)}
    assert set(before) <= set(after)
    for resource, it in before.items():
        assert it.busy <= after[resource].busy
        assert it.typical <= after[resource].typical


@given(PAST, st.lists(st.tuples(st.integers(-300, 3000), LOADS)), st.randoms(use_true_random=False))
def test_only_what_was_in_the_windows_matters(
    recorded: list[list[Load | None]], others: list[tuple[int, Load]], random: Random
) -> None:
    """In whatever order it is given; nor do windows that are to come."""
    loads, windows = windows_and_loads(recorded)
    at = FIRST + 100 * DAY
    expected = forecast(loads, windows, NEXT, at, LIMITS)
    outside = [replace(load, start=FIRST + slot * SLOT) for slot, load in others]
    outside = [
        load for load in outside if not any(load.start < it.end and load.start + SLOT > it.start for it in windows)
    ]
    mixed = [*loads, *outside]
    random.shuffle(mixed)
    shuffled = [*windows, *windows, *(window(number) for number in range(100, 110))]
    random.shuffle(shuffled)
    assert forecast(mixed, shuffled, NEXT, at, LIMITS) == expected


@given(PAST)
def test_four_quiet_windows_end_it(recorded: list[list[Load | None]]) -> None:
    """However busy the machine was before."""
    quiet = [[replace(IDLE)] * 4] * 4
    loads, windows = windows_and_loads([*recorded, *quiet])
    assert forecast(loads, windows, NEXT, FIRST + 100 * DAY, LIMITS) == ()
