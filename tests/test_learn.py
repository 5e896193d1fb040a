"""Is the schedule that past backups followed found in their record, and none where they followed none?"""

from __future__ import annotations

import random
import time
import zoneinfo
from datetime import datetime, timezone

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backupready.learn import learn
from backupready.window import DURATIONS, INTERVALS, START_WINDOW, Schedule, parse
from measured import measured

HOUR, DAY = 3600.0, 86400.0
NOW = datetime(2026, 11, 26, 12, tzinfo=timezone.utc).timestamp()  # a Thursday; no clock has jumped for a month
WORKDAYS = "weekly on Monday, Tuesday, Wednesday, Thursday, Friday at 23:30"


def ran(
    text: str, days: float, *, until: float = 0.0, late: float = START_WINDOW, missed: float = 0.0, now: float = NOW
) -> list[float]:
    """The runs of a schedule in the last `days` days but `until`, each up to `late` seconds after its time, the same
    at each call."""
    chance = random.Random(text + str(days))
    (schedule,) = parse(text, "UTC")
    starts = schedule.starts(now - days * DAY, now - until * DAY - late)
    return [start + chance.uniform(0, late) for start in starts if chance.random() >= missed]


def learned(starts: list[float], *zones: str, now: float = NOW) -> list[str]:
    return [str(schedule) for schedule, _ in learn(starts, now, zones or ("UTC",))]


def by_hand(count: int, days: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)
    return [NOW - chance.uniform(0, days * DAY) for _ in range(count)]


@pytest.mark.parametrize(
    "text",
    [
        "daily at 22:00",
        "daily at 23:30",  # its runs are of two dates
        "daily at 00:00",
        "weekly on Sunday at 02:30",
        "weekly on Sunday at 00:00",
        "weekly on Wednesday, Sunday at 23:30",
        WORKDAYS,
        "hourly every 4 hours from 08:00 for 4 hours",
        "hourly every 4 hours from 08:00 for 12 hours",
        "hourly every 6 hours from 20:30 for 12 hours",
        "hourly every 8 hours from 08:00 for 8 hours",
        "hourly every 4 hours from 00:00 for 24 hours",
        "hourly every 6 hours from 02:00 for 24 hours",
        "hourly every 12 hours from 08:00 for 24 hours",
    ],
)
@pytest.mark.parametrize("late", [300.0, START_WINDOW])
def test_a_policy_is_learned(text: str, late: float) -> None:
    """Of ten weeks, however late its jobs begin, and its confidence is full."""
    ((schedule, record),) = learn(ran(text, 70, late=late), NOW, ["UTC"])
    assert str(schedule) == record.schedule == f"{text} in UTC"
    assert record.confidence == 1.0
    assert list(record.runs) == sorted(record.runs)
    assert len(record.runs) >= 9


def test_what_is_recorded_of_it() -> None:
    """When its runs began, and the share of its windows in which one did; a window that is still open does not count
    before it has a run."""
    starts = [start + 60 for start in ran("daily at 22:00", 10, late=0.001)]
    missing = starts[:4] + starts[5:]
    ((schedule, record),) = learn(missing, NOW, ["UTC"])
    assert (str(schedule), record.runs) == ("daily at 22:00 in UTC", tuple(missing))
    assert record.confidence == 9 / 10
    ((_, later),) = learn(missing, starts[-1] + DAY + HOUR, ["UTC"])
    assert later.confidence == 9 / 10
    ((_, missed),) = learn(missing, starts[-1] + DAY + START_WINDOW, ["UTC"])
    assert missed.confidence == 9 / 11


def test_three_runs_are_the_fewest() -> None:
    three = ran("daily at 22:00", 3, late=900)
    assert len(three) == 3
    assert learned(three) == ["daily at 22:00 in UTC"]
    assert learned(three[:2]) == []
    assert learned([three[0] - 9 * DAY, *three[1:]]) == []
    assert learned([]) == []
    sundays = ran("weekly on Sunday at 02:30", 21, late=900)
    assert len(sundays) == 3
    assert learned(sundays) == ["weekly on Sunday at 02:30 in UTC"]
    assert learned(sundays[:2]) == []


def test_missed_nights_leave_it_what_it_is() -> None:
    starts = ran("daily at 22:00", 30, missed=0.2)
    ((schedule, record),) = learn(starts, NOW, ["UTC"])
    assert str(schedule) == "daily at 22:00 in UTC"
    assert record.runs == tuple(starts)
    assert record.confidence == pytest.approx(len(starts) / 30)
    assert 0.7 < record.confidence < 0.9


@pytest.mark.parametrize(
    ("text", "silent", "confidence"),
    [
        ("daily at 22:00", 2, 28 / 30),
        ("daily at 22:00", 3, 4 / 7),
        ("daily at 22:00", 5, 2 / 7),
        ("daily at 22:00", 7, 0.0),
        ("hourly every 4 hours from 08:00 for 8 hours", 2, 28 / 30),
        ("hourly every 4 hours from 08:00 for 8 hours", 3, 4 / 7),
        ("weekly on Sunday at 02:30", 20, 7 / 10),
    ],
)
def test_what_has_been_silent_for_three_days_is_known_but_hardly_believed(
    text: str, silent: float, confidence: float
) -> None:
    """By its newest week, whatever there was before; a weekly one by all its windows."""
    now = NOW + (7 * HOUR if text.startswith("hourly") else 0)  # its windows of the day are over
    days = 70 if text.startswith("weekly") else 30
    ((schedule, record),) = learn(ran(text, days, until=silent, now=now), now, ["UTC"])
    assert str(schedule) == f"{text} in UTC"
    assert record.confidence == pytest.approx(confidence, abs=0.02)


def test_one_run_ends_the_silence() -> None:
    """It was an outage."""
    nightly = ran("daily at 22:00", 30)
    ((_, record),) = learn([*nightly[:-4], nightly[-1]], NOW, ["UTC"])
    assert record.confidence == 27 / 30


@pytest.mark.parametrize(
    ("text", "still", "no_longer"), [("daily at 22:00", 13, 15), ("weekly on Sunday at 02:30", 20, 30)]
)
def test_what_has_long_been_silent_is_over(text: str, still: float, no_longer: float) -> None:
    assert learned(ran(text, 65, until=still)) == [f"{text} in UTC"]
    assert learned(ran(text, 65, until=no_longer)) == []


def test_work_days_are_told_from_missed_nights() -> None:
    """After three weeks; after ten days it might be either, and what is seen is nearly every night."""
    assert learned(ran(WORKDAYS, 22)) == [f"{WORKDAYS} in UTC"]
    assert learned(ran(WORKDAYS, 22) + [NOW - 5 * DAY + 11.7 * HOUR]) == [f"{WORKDAYS} in UTC"]  # a Saturday by hand
    assert learned(ran(WORKDAYS, 10)) == ["daily at 23:30 in UTC"]
    assert learned(ran("weekly on Monday, Wednesday, Friday at 23:30", 7)) == []


@pytest.mark.parametrize("zones", [("UTC", "Europe/Berlin"), ("America/New_York", "Europe/Berlin", "UTC")])
def test_the_zone_shows_where_summer_time_ended(zones: tuple[str, ...]) -> None:
    """On 25 October the night's backup came an hour later by UTC, and a week later it did so by New York's clock."""
    starts = ran("daily at 22:00 in Europe/Berlin", 60, late=900)
    assert learned(starts, *zones) == ["daily at 22:00 in Europe/Berlin"]


def test_the_zone_is_the_first_where_nothing_tells_them_apart() -> None:
    starts = ran("daily at 22:00 in Europe/Berlin", 20)
    assert learned(starts, "UTC", "Europe/Berlin") == ["daily at 21:00 in UTC"]
    assert learned(starts, "Europe/Berlin", "UTC") == ["daily at 22:00 in Europe/Berlin"]
    assert learned(starts, "W. Europe Standard Time") == ["daily at 22:00 in Europe/Berlin"]
    assert learn(starts, NOW, ()) == ()
    with pytest.raises(ValueError, match="Mars/Base"):
        learn(starts, NOW, ["Mars/Base"])


@pytest.mark.parametrize(
    ("truth", "other", "late"),
    [("UTC", "Europe/Berlin", START_WINDOW), ("Europe/Berlin", "UTC", HOUR), ("Europe/Berlin", "UTC", START_WINDOW)],
)
def test_how_often_the_zone_is_the_right_one(truth: str, other: str, late: float) -> None:
    """Thirty days after summer time, of what is learned with the other zone before it."""
    now, right = NOW - 2 * DAY, 0
    for seed in range(40):
        chance = random.Random(seed)
        starts = Schedule(1320, truth).starts(now - 60 * DAY, now - DAY)
        found = learned([start + chance.uniform(0, late) for start in starts], other, truth, now=now)
        right += bool(found) and found[0].endswith(truth)
    measured(f"zone learned rightly, {truth} against {other}, jobs up to {late / HOUR:.0f} h late: {right} of 40")
    assert right > 20


def test_runs_by_hand_are_no_schedule() -> None:
    """Scattered ones beside a policy, many of one day, and retries within minutes or after the window."""
    nightly = ran("daily at 22:00", 30)
    expected = ["daily at 22:00 in UTC"]
    assert learned(nightly + by_hand(12, 35)) == expected
    assert learned(nightly + [NOW - 9 * DAY + n * 2.2 * HOUR for n in range(8)]) == expected
    assert learned([NOW - 9 * DAY + n * 2.2 * HOUR for n in range(8)]) == []
    for distance, tries in ((300, 5), (900, 4), (2400, 3), (7800, 2)):
        assert learned([start + n * distance for start in nightly for n in range(tries)]) == expected


def test_of_a_run_and_its_late_retry_the_run_is_the_schedule() -> None:
    for hour in ("20:00", "22:00"):
        nightly = ran(f"daily at {hour}", 30, late=900)
        assert learned([start + n * 7800 for start in nightly for n in range(2)]) == [f"daily at {hour} in UTC"]


def test_nights_of_long_ago_do_not_count() -> None:
    """Ten weeks for a day of the week, five for every night."""
    ((_, nightly),) = learn(ran("daily at 22:00", 100), NOW, ["UTC"])
    assert NOW - 35 * DAY < nightly.runs[0] < NOW - 33 * DAY
    ((_, weekly),) = learn(ran("weekly on Sunday at 02:30", 100), NOW, ["UTC"])
    assert NOW - 70 * DAY < weekly.runs[0] < NOW - 62 * DAY


def test_an_early_run_by_hand_does_not_move_the_time() -> None:
    nightly = ran("daily at 22:00", 30, late=900)
    early = nightly[10] // DAY * DAY + 21.6 * HOUR
    assert learned([*nightly[:10], early, *nightly[11:]]) == ["daily at 22:00 in UTC"]
    assert learned([*nightly[:10], *(start - 1800 for start in nightly[10:])]) == ["daily at 21:30 in UTC"]


@pytest.mark.parametrize("time", ["03:00", "21:00", "22:30", "23:00"])
def test_a_schedule_that_was_moved_is_the_new_one_after_three_runs(time: str) -> None:
    """Far away or within its old start window; before that it is the old one."""
    for days, expected in ((1, "22:00"), (2, "22:00"), (3, time), (4, time), (10, time)):
        before = [start for start in ran("daily at 22:00", 30, late=900) if start < NOW - days * DAY]
        after = ran(f"daily at {time}", days, late=900)
        assert len(after) == days
        assert learned(before + after) == [f"daily at {expected} in UTC"], f"after {days} days"


def test_a_policy_of_another_kind_takes_over() -> None:
    hourly = "hourly every 4 hours from 06:00 for 8 hours"
    assert learned(ran("daily at 22:00", 30, until=5, late=900) + ran(hourly, 5, late=900)) == [f"{hourly} in UTC"]
    weekly = "weekly on Sunday at 02:30"
    assert learned(ran("daily at 22:00", 70, until=26) + ran(weekly, 26)) == [f"{weekly} in UTC"]


@pytest.mark.parametrize(("nights", "by_day"), [(5, 3), (7, 3), (8, 4), (31, 3), (31, 4)])
@pytest.mark.parametrize("hour", [10, 12, 14, 18])
def test_runs_by_hand_on_a_few_days_are_no_second_time_of_a_schedule(nights: int, by_day: int, hour: int) -> None:
    """Twelve, ten or eight hours beside the nightly ones, where an hourly schedule would have them: not on the day of
    the last of them, nor when the nights have gone on since."""
    first = NOW - (nights + 14) * DAY
    for gone_on in (0, 1, 2, 3, 5, 14):
        now = first + (nights + gone_on) * DAY
        nightly = ran("daily at 22:00", nights + gone_on, late=900, now=now)
        others = ran(f"daily at {hour}:00", by_day + gone_on, until=gone_on, late=900, now=now)
        assert (len(nightly), len(others)) == (nights + gone_on, by_day)
        ((schedule, record),) = learn(nightly + others, now, ["UTC"])
        assert (str(schedule), record.confidence) == ("daily at 22:00 in UTC", 1.0), f"after {gone_on} days"


def test_times_of_which_one_is_no_longer_kept_are_no_hourly_schedule() -> None:
    """Two runs were missed at one while the other went on; one missed is nothing, nor is silence of both."""
    hourly = "hourly every 12 hours from 10:00 for 12 hours in UTC"
    nights, mornings = ran("daily at 22:00", 20, late=900), ran("daily at 10:00", 20, late=900)
    assert learned(nights + mornings) == [hourly.replace("for 12", "for 24")]
    assert learned(nights + mornings[:-1]) == [hourly.replace("for 12", "for 24")]
    assert learned(nights[:-3] + mornings[:-3]) == [hourly.replace("for 12", "for 24")]
    found = learn(nights + mornings[:-3], NOW, ["UTC"])
    assert [str(schedule) for schedule, _ in found] == ["daily at 22:00 in UTC", "daily at 10:00 in UTC"]
    assert [record.confidence for _, record in found] == pytest.approx([1.0, 4 / 7], abs=0.02)


def test_a_time_that_is_kept_less_often_than_another_is_none_of_its_schedule() -> None:
    """Of five nights all were kept, of five mornings three; each is judged by itself."""
    nights, mornings = ran("daily at 22:00", 5, late=900), ran("daily at 10:00", 6, late=900)[:5]
    found = learn([*nights, *(mornings[n] for n in (0, 2, 3))], NOW, ["UTC"])
    assert [(str(schedule), record.confidence) for schedule, record in found] == [
        ("daily at 22:00 in UTC", 1.0),
        ("daily at 10:00 in UTC", 0.5),  # of six with this day's
    ]


def test_times_that_began_apart_are_schedules_of_their_own() -> None:
    """Of a morning's that is as regular and runs for a work week; three days of it are no schedule yet."""
    nights = ran("daily at 22:00", 30, late=900)
    for days, expected in ((3, []), (4, []), (5, ["daily at 10:00 in UTC"]), (20, ["daily at 10:00 in UTC"])):
        assert learned(nights + ran("daily at 10:00", days, late=900)) == ["daily at 22:00 in UTC", *expected]


def test_an_hourly_schedule_with_missed_runs_is_learned() -> None:
    """As itself, or as a daily schedule for each of its times: no window is left out, and none is added."""
    text = "hourly every 4 hours from 08:00 for 12 hours"
    as_itself = 0
    for seed in range(20):
        chance = random.Random(seed)
        starts = [start for start in ran(text, 30) if chance.random() >= 0.1]
        found = learn(starts, NOW, ["UTC"])
        windows = sorted(start for schedule, _ in found for start in schedule.starts(NOW, NOW + DAY))
        assert windows == list(parse(text, "UTC")[0].starts(NOW, NOW + DAY)), f"seed {seed}"
        as_itself += [str(schedule) for schedule, _ in found] == [f"{text} in UTC"]
    measured(f"hourly schedules with a tenth of the runs missed, learned as hourly: {as_itself} of 20")
    assert as_itself > 10


def test_schedules_at_once() -> None:
    """Those with the most runs come first."""
    starts = ran("weekly on Sunday at 14:00", 60) + ran("daily at 22:00", 30)
    assert learned(starts) == ["daily at 22:00 in UTC", "weekly on Sunday at 14:00 in UTC"]


def test_a_wrong_clock_does_not_count() -> None:
    """Runs of the future and of the year 1970, and what is no number."""
    nightly = ran("daily at 22:00", 30)
    wrong = [NOW + n * DAY for n in range(1, 30)] + [n * DAY for n in range(30)] + [float("nan"), float("inf")]
    assert learn(nightly + wrong, NOW, ["UTC"]) == learn(nightly, NOW, ["UTC"])
    assert learned(nightly, now=0.0) == []


@given(st.randoms(use_true_random=False), st.sampled_from([["UTC"], ["Asia/Kathmandu", "America/New_York"]]))
def test_the_order_of_the_record_does_not_matter(chance: random.Random, zones: list[str]) -> None:
    starts = ran("daily at 22:00", 30) + by_hand(20, 60)
    shuffled = starts + starts[:5]
    chance.shuffle(shuffled)
    assert learn(shuffled, NOW, zones) == learn(starts, NOW, zones)


@st.composite
def policies(draw: st.DrawFn) -> Schedule:
    zone = draw(st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe"]))
    at = draw(st.integers(0, 47)) * 30
    kind = draw(st.sampled_from(["daily", "weekly", "hourly"]))
    if kind == "hourly":
        return Schedule(at, zone, every=draw(st.sampled_from(INTERVALS)), duration=draw(st.sampled_from(DURATIONS)))
    days = draw(st.sets(st.integers(0, 6), min_size=1, max_size=6)) if kind == "weekly" else set()
    return Schedule(at, zone, tuple(sorted(days)))


@settings(max_examples=150)
@given(policies(), st.integers(0, 10**9), st.sampled_from([300.0, 1800.0, 5400.0, START_WINDOW]))
def test_what_is_learned_covers_every_later_window_of_the_policy(policy: Schedule, seed: int, late: float) -> None:
    """Each later start of the policy lies in the start window of a learned one, for any policy, lateness and seed, once
    twenty runs (of a weekly policy, ten of a day) have been seen, one of which began in the first half hour, and none
    of which has a jump of the clock between its time and its start."""
    chance = random.Random(seed)
    now = NOW - 60 * DAY + chance.uniform(0, 60 * DAY)
    starts = list(policy.starts(now - 70 * DAY, now - late))
    delays = [chance.uniform(0, late) for _ in starts[-20:]]
    delays[-1 - chance.randrange(3)] = chance.uniform(0, min(late, 1500))
    runs = [start + delay for start, delay in zip(starts[-20:], delays)]
    zone = zoneinfo.ZoneInfo(policy.zone)
    offsets = [{datetime.fromtimestamp(each, zone).utcoffset() for each in pair} for pair in zip(starts[-20:], runs)]
    assume(all(len(each) == 1 for each in offsets))
    found = learn(runs, now, [policy.zone])
    later = list(policy.starts(now, now + 8 * DAY))
    windows = [start for schedule, _ in found for start in schedule.starts(now - DAY, now + 9 * DAY)]
    assert later
    assert [s for s in later if not any(window <= s < window + START_WINDOW for window in windows)] == []
    # And there are no others.
    assert [w for w in windows if now < w < now + 8 * DAY and not any(abs(w - s) < START_WINDOW for s in later)] == []


def test_noise_is_no_schedule() -> None:
    """The rate at which chance makes one is told, for up to a run a day and for more than Azure ever makes."""
    rounds = 200
    for days, most in ((60, 60), (60, 300), (10, 60)):
        false = 0
        for seed in range(rounds):
            false += bool(learned(by_hand(random.Random(seed).randint(3, most), days, seed)))
        measured(f"schedules learned of noise, up to {most} runs in {days} days: {false} of {rounds} records")
        assert false <= rounds // 20


def test_what_learning_costs() -> None:
    """Of a record that is ten times as long as what counts, only the newest does."""
    starts = sorted(by_hand(2000, 60))
    began = time.perf_counter()
    found = learn(starts, NOW, ["UTC", "Europe/Berlin"])
    measured(f"learning of 2000 runs in two zones: {(time.perf_counter() - began) * 1e3:.0f} ms")
    assert found == learn(starts[-200:], NOW, ["UTC", "Europe/Berlin"])


def test_a_learned_schedule_is_in_words_that_are_read_again() -> None:
    for schedule, record in learn(ran(WORKDAYS, 60), NOW, ["Asia/Kolkata"]):
        assert parse(record.schedule, "UTC") == (schedule,)
        assert zoneinfo.ZoneInfo(schedule.zone).key == "Asia/Kolkata"
