"""Are schedules read as they are meant, and does every moment stand where an obvious reckoning puts it?"""

from __future__ import annotations

import random
import struct
import time
import zoneinfo
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from backupready.model import Phase, Window
from backupready.window import DAYS, DURATIONS, INTERVALS, Plan, Schedule, parse, read_zones_anew, zone_name
from measured import measured

HOUR, DAY = 3600.0, 86400.0
ALL_ZONES = sorted(zoneinfo.available_timezones() - {"Factory", "localtime"})
# Where clocks did something rare, or jump by something else than an hour.
ODD_ZONES = [
    "America/New_York",
    "America/Sao_Paulo",
    "Africa/Casablanca",
    "Antarctica/Troll",
    "Asia/Kathmandu",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Europe/Dublin",
    "Pacific/Apia",
    "Pacific/Chatham",
    "UTC",
]


def one(text: str, zone: str = "UTC") -> Schedule:
    (schedule,) = parse(text, zone)
    return schedule


def at(text: str) -> float:
    """An instant, given in UTC or with an offset."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def walls(schedule: Schedule, after: str, before: str) -> list[str]:
    """The starts between two instants as the wall shows them."""
    zone = zoneinfo.ZoneInfo(schedule.zone)
    starts = schedule.starts(at(after), at(before))
    return [datetime.fromtimestamp(start, zone).isoformat(" ", "minutes") for start in starts]


# ------------------------------------------------------------------------------------------------------ in words


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("daily at 22:00", "daily at 22:00 in UTC"),
        ("Daily  at 10:00 PM", "daily at 22:00 in UTC"),
        ("daily at 10pm", "daily at 22:00 in UTC"),
        ("daily at 12:30 a.m.", "daily at 00:30 in UTC"),
        ("daily at 12:00 PM", "daily at 12:00 in UTC"),
        ("daily at 0:00", "daily at 00:00 in UTC"),
        ("standard daily at 22:00", "daily at 22:00 in UTC"),
        ("daily at 22:00 in europe/berlin", "daily at 22:00 in Europe/Berlin"),
        ("daily at 22:00 in W. Europe Standard Time", "daily at 22:00 in Europe/Berlin"),
        ("daily at 22:00 IN w. europe  standard time", "daily at 22:00 in Europe/Berlin"),
        ("daily at 22:00 in Central Standard Time (Mexico)", "daily at 22:00 in America/Mexico_City"),
        ("daily at 22:00 in UTC-02", "daily at 22:00 in Etc/GMT+2"),
        ("weekly on Sunday at 02:30", "weekly on Sunday at 02:30 in UTC"),
        ("weekly on Sunday, Wednesday at 02:30", "weekly on Wednesday, Sunday at 02:30 in UTC"),
        ("weekly on sun,mon, thurs and Fri at 2:30 AM", "weekly on Monday, Thursday, Friday, Sunday at 02:30 in UTC"),
        ("weekly on Tue Tues Tuesday Tuesdays at 02:30", "weekly on Tuesday at 02:30 in UTC"),
        ("weekly on Mon, Tue, Wed, Thu, Fri, Sat, Sun at 02:30", "daily at 02:30 in UTC"),
        ("hourly every 4 hours from 08:00 for 12 hours", "hourly every 4 hours from 08:00 for 12 hours in UTC"),
        ("Enhanced Hourly every 6h from 8:00 AM for 24h", "hourly every 6 hours from 08:00 for 24 hours in UTC"),
    ],
)  # fmt: skip
def test_a_schedule_in_words(text: str, canonical: str) -> None:
    """Each spelling means the schedule whose own words are the second."""
    assert str(one(text)) == canonical
    assert parse(canonical, "Asia/Tokyo") == (one(text),)


def test_several_schedules() -> None:
    """They keep their order, each is there once, and only those without a zone take the default."""
    text = "weekly on Sunday at 14:00 in Europe/Paris; daily at 22:00; daily at 10:00 PM in Asia/Kolkata;"
    assert [str(schedule) for schedule in parse(text, "India Standard Time")] == [
        "weekly on Sunday at 14:00 in Europe/Paris",
        "daily at 22:00 in Asia/Kolkata",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "names no schedule; write 'daily at 22:00'"),
        (" ; ", "names no schedule; write 'daily at 22:00'"),
        ("nightly at 22:00", "'nightly at 22:00' is no schedule; write 'daily at 22:00', 'weekly on"),
        ("daily at 22:00; weekly at 22:00", "'weekly at 22:00' is no schedule"),
        ("daily at 24:00", "'daily at 24:00': '24:00' is no time of day; write it as in '22:00' or '10:00 PM'"),
        ("daily at 22", "'22' is no time of day"),
        ("daily at 13:00 PM", "'13:00 PM' is no time of day"),
        ("daily at 0:30 AM", "'0:30 AM' is no time of day"),
        ("daily at 22:60", "'22:60' is no time of day"),
        ("daily at 22:5", "'22:5' is no time of day"),
        ("daily at ٢٢:٠٠", "is no time of day"),
        ("weekly on Funday at 02:30", "'Funday' is no day of the week; write them as in 'Sunday, Wednesday'"),
        ("weekly on Su at 02:30", "'Su' is no day of the week"),
        ("weekly on , at 02:30", "names no day of the week"),
        ("hourly every 5 hours from 08:00 for 12 hours", "none every 5 hours, only every 4, 6, 8 or 12"),
        ("hourly every 0 hours from 08:00 for 12 hours", "is no schedule"),
        ("hourly every 4 hours from 08:00 for 25 hours", "25 hours is no duration; it is 4 to 24 hours"),
        ("hourly every 4 hours from 8 for 12 hours", "'8' is no time of day"),
        ("daily at 22:00 in Europe/Berln", "'Europe/Berln' is no time zone that .* did you mean 'Europe/Berlin'"),
        ("daily at 22:00 in W. Europe Time", "did you mean 'W. Europe Standard Time'"),
        ("daily at 22:00 in Europe", "'Europe' is no time zone"),
        ("daily at 22:00 in ../../etc/localtime", "is no time zone"),
        ("daily at 22:00 in right/UTC", "'right/UTC' is no time zone"),
        ("daily at 22:00 in zone.tab", "'zone.tab' is no time zone"),
        ("daily at 22:00 in qqqq", "write it as in 'Europe/Berlin' or 'W. Europe Standard Time'"),
        ("daily at 22:00 in " + "x" * 5000, "is no time zone"),
        ("daily at 22:00 in a\0b", "is no time zone"),
        ("daily at 22:00 in \udcff", "is no time zone"),
    ],
)  # fmt: skip
def test_what_is_none_is_told(text: str, complaint: str) -> None:
    """With what is wrong, and what may stand there."""
    with pytest.raises(ValueError, match=complaint):
        parse(text, "UTC")


def test_a_default_zone_that_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match="'daily at 22:00': 'Mars/Base' is no time zone"):
        parse("daily at 22:00", "Mars/Base")
    assert parse("daily at 22:00 in UTC", "Mars/Base")


def test_a_machine_without_zones_is_told_so(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a known Windows name nor an IANA name is called wrong where it is the data that is missing."""

    def absent(name: str) -> None:
        raise zoneinfo.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(zoneinfo, "ZoneInfo", absent)
    monkeypatch.setattr(zoneinfo, "available_timezones", set)
    with pytest.raises(ValueError, match="no data on Europe/Berlin, which is 'W. Europe Standard Time'; install or up"):
        zone_name("W. Europe Standard Time")
    with pytest.raises(ValueError, match="no data on time zones, so 'Europe/Berlin' cannot be looked up; install tzd"):
        zone_name("Europe/Berlin")


def test_zones_that_have_changed_are_read_anew(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """An update of tzdata moves the starts once the zones are read anew; before that they are what they were."""
    old, new = (zoneinfo_file(hours) for hours in (1, 3))
    request.addfinalizer(zoneinfo.ZoneInfo.clear_cache)  # noqa: PT021 - it has to be after the path is set back
    request.addfinalizer(zoneinfo.reset_tzpath)
    zoneinfo.reset_tzpath([tmp_path])
    place = tmp_path / "Mars" / "Base"
    place.parent.mkdir()
    place.write_bytes(old)
    schedule = Schedule(720, "Mars/Base")
    day = at("2026-11-26"), at("2026-11-27")
    assert list(schedule.starts(*day)) == [at("2026-11-26T11:00")]
    place.write_bytes(new)
    assert list(schedule.starts(*day)) == [at("2026-11-26T11:00")]
    read_zones_anew()
    assert list(schedule.starts(*day)) == [at("2026-11-26T09:00")]


def zoneinfo_file(hours: int) -> bytes:
    """A zone that is always so many hours east of Greenwich: TZif version 1 (RFC 8536) with one type and its name."""
    counts = struct.pack(">4s16x6l", b"TZif", 0, 0, 0, 0, 1, 4)
    return counts + struct.pack(">lbB4s", hours * 3600, 0, 0, b"MRS\0")


@pytest.mark.parametrize(
    "parts",
    [
        {"at": -1},
        {"at": 1440},
        {"days": (7,)},
        {"days": (2, 1)},
        {"days": (1, 1)},
        {"every": 4},
        {"every": 5, "duration": 12},
        {"every": 4, "duration": 3},
        {"every": 4, "duration": 12, "days": (1,)},
        {"duration": 12},
        {"zone": "Mars/Base"},
    ],
)
def test_a_schedule_that_cannot_be_is_refused(parts: dict[str, object]) -> None:
    Schedule(60, "UTC")
    with pytest.raises(ValueError, match=r"[a-z]"):
        Schedule(**{"at": 60, "zone": "UTC", **parts})  # type: ignore[arg-type]


TIMES = st.integers(0, 1439)
HALF_HOURS = st.integers(0, 47).map(lambda half: half * 30)


def schedules(zones: list[str], times: st.SearchStrategy[int] = TIMES) -> st.SearchStrategy[Schedule]:
    zone = st.sampled_from(zones)
    weekly = st.sets(st.integers(0, 6), min_size=1, max_size=6).map(lambda days: tuple(sorted(days)))
    return st.one_of(
        st.builds(Schedule, times, zone),
        st.builds(Schedule, times, zone, weekly),
        st.builds(Schedule, times, zone, every=st.sampled_from(INTERVALS), duration=st.sampled_from(DURATIONS)),
    )


@given(st.lists(schedules(ALL_ZONES), min_size=1, max_size=4, unique=True))
def test_its_own_words_mean_the_same_schedule(several: list[Schedule]) -> None:
    assert parse("; ".join(map(str, several)), "UTC") == tuple(several)


@given(st.text(st.sampled_from("; daily weekly at 0123 :apmin") | st.characters(), max_size=60))
@example("hourly every 9999 hours from 08:00 for 9999 hours")
def test_whatever_is_written_there_is_a_schedule_or_an_error(text: str) -> None:
    try:
        assert parse(text, "UTC")
    except ValueError as error:
        assert str(error)


# ------------------------------------------------------------------------------------------- by the wall's clock


@pytest.mark.parametrize(
    ("text", "after", "before", "expected"),
    [
        # The clock jumps from 2:00 to 3:00 on 29 March, and back from 3:00 to 2:00 on 25 October.
        ("daily at 02:30 in Europe/Berlin", "2026-03-28", "2026-03-31",
         ["2026-03-28 02:30+01:00", "2026-03-29 03:30+02:00", "2026-03-30 02:30+02:00"]),
        ("daily at 02:00 in Europe/Berlin", "2026-03-28", "2026-03-31",
         ["2026-03-28 02:00+01:00", "2026-03-29 03:00+02:00", "2026-03-30 02:00+02:00"]),
        ("daily at 02:30 in Europe/Berlin", "2026-10-24", "2026-10-27",
         ["2026-10-24 02:30+02:00", "2026-10-25 02:30+02:00", "2026-10-26 02:30+01:00"]),
        # From 2:00 to 3:00 on 8 March, and back from 2:00 to 1:00 on 1 November.
        ("daily at 02:30 in America/New_York", "2026-03-07", "2026-03-10",
         ["2026-03-07 02:30-05:00", "2026-03-08 03:30-04:00", "2026-03-09 02:30-04:00"]),
        ("daily at 01:30 in America/New_York", "2026-11-01", "2026-11-03",
         ["2026-11-01 01:30-04:00", "2026-11-02 01:30-05:00"]),
        # By half an hour: from 2:00 to 2:30 on 4 October, and back from 2:00 to 1:30 on 5 April.
        ("daily at 02:15 in Australia/Lord_Howe", "2026-10-02", "2026-10-05",
         ["2026-10-03 02:15+10:30", "2026-10-04 02:45+11:00", "2026-10-05 02:15+11:00"]),
        ("daily at 01:45 in Australia/Lord_Howe", "2026-04-03T13:00", "2026-04-05T18:00",
         ["2026-04-04 01:45+11:00", "2026-04-05 01:45+11:00", "2026-04-06 01:45+10:30"]),
        # Behind and ahead of UTC by so much that the local date is another.
        ("daily at 00:30 in Asia/Kolkata", "2026-01-01", "2026-01-03",
         ["2026-01-02 00:30+05:30", "2026-01-03 00:30+05:30"]),
        ("daily at 23:30 in Pacific/Honolulu", "2026-01-01", "2026-01-03",
         ["2025-12-31 23:30-10:00", "2026-01-01 23:30-10:00"]),
        ("daily at 00:00 in Pacific/Kiritimati", "2026-01-01", "2026-01-02", ["2026-01-02 00:00+14:00"]),
        # Samoa had no 30 December 2011, a Friday: what was due then comes a day later, and is no second one.
        ("daily at 02:30 in Pacific/Apia", "2011-12-28T12:31", "2012-01-01T12:31",
         ["2011-12-29 02:30-10:00", "2011-12-31 02:30+14:00", "2012-01-01 02:30+14:00", "2012-01-02 02:30+14:00"]),
        ("weekly on Friday at 02:30 in Pacific/Apia", "2011-12-22", "2012-01-09",
         ["2011-12-23 02:30-10:00", "2011-12-31 02:30+14:00", "2012-01-06 02:30+14:00"]),
        ("hourly every 12 hours from 20:00 for 24 hours in Pacific/Apia", "2011-12-30T00:00", "2011-12-31T20:00",
         ["2011-12-29 20:00-10:00", "2011-12-31 08:00+14:00", "2011-12-31 20:00+14:00", "2012-01-01 08:00+14:00"]),
        # A leap day, and the year that has none.
        ("weekly on Thursday at 12:00", "2024-02-28", "2024-03-02", ["2024-02-29 12:00+00:00"]),
        ("daily at 12:00", "2025-02-28", "2025-03-02", ["2025-02-28 12:00+00:00", "2025-03-01 12:00+00:00"]),
        # Samoa has had no summer time since 2021, nor Volgograd its own hour since 27 December 2020.
        ("daily at 12:00 in Europe/Volgograd", "2020-12-26", "2020-12-28",
         ["2020-12-26 12:00+04:00", "2020-12-27 12:00+03:00"]),
        # The last of the hourly ones is at the end of the duration; without one there is none at its end.
        ("hourly every 4 hours from 08:00 for 12 hours", "2026-01-01", "2026-01-02",
         [f"2026-01-01 {hour}:00+00:00" for hour in ("08", "12", "16", "20")]),
        ("hourly every 6 hours from 06:00 for 14 hours", "2026-01-01", "2026-01-02",
         [f"2026-01-01 {hour}:00+00:00" for hour in ("06", "12", "18")]),
        # A whole day of them meets the next day's first, and does not come twice.
        ("hourly every 4 hours from 08:00 for 24 hours", "2026-01-01", "2026-01-02",
         [f"2026-01-01 {hour}:00+00:00" for hour in ("00", "04", "08", "12", "16", "20")]),
        # Past midnight, over a jump of the clock.
        ("hourly every 4 hours from 22:30 for 12 hours in Europe/Berlin", "2026-03-28T12:00", "2026-03-29T12:00",
         ["2026-03-28 22:30+01:00", "2026-03-29 03:30+02:00", "2026-03-29 06:30+02:00", "2026-03-29 10:30+02:00"]),
    ],
)  # fmt: skip
def test_starts_on_the_wall(text: str, after: str, before: str, expected: list[str]) -> None:
    """Where midnight, summer time, a skipped day or a new rule lies between."""
    assert walls(one(text), after, before) == expected


def test_the_span_of_starts_is_half_open() -> None:
    start = at("2026-01-01T22:00")
    assert list(one("daily at 22:00").starts(start, start + DAY)) == [start]
    assert list(one("daily at 22:00").starts(start + 0.5, start + DAY)) == []
    assert list(one("daily at 22:00").starts(start, start)) == []
    assert list(one("daily at 22:00").starts(start + DAY, start)) == []


def utc(wall: datetime, zone: zoneinfo.ZoneInfo) -> float:
    """The obvious reckoning: the first instant at which the wall shows that time, or if it never does, the instant at
    which it would if the clock had not jumped. It reads only from instants to walls."""
    naive = wall.replace(tzinfo=timezone.utc).timestamp()
    # Every offset that the zone has around then.
    seen = [datetime.fromtimestamp(naive + hours * HOUR, zone).utcoffset() for hours in range(-48, 49)]
    offsets = list(dict.fromkeys(offset.total_seconds() for offset in seen if offset is not None))
    shown = [naive - offset for offset in offsets]
    hits = [instant for instant in shown if datetime.fromtimestamp(instant, zone).replace(tzinfo=None) == wall]
    # The offset before a jump is the first that is seen.
    return min(hits) if hits else naive - offsets[0]


def reckoned(schedule: Schedule, after: float, before: float) -> list[float]:
    """Each local date of the span and of what is around it, each of its times."""
    zone = zoneinfo.ZoneInfo(schedule.zone)
    day = datetime.fromtimestamp(after, timezone.utc).date() - timedelta(days=4)
    last = datetime.fromtimestamp(before, timezone.utc).date() + timedelta(days=4)
    found = set()
    while day <= last:
        for hour in range(0, schedule.duration + 1, schedule.every) if schedule.every else [0]:
            if not schedule.days or day.weekday() in schedule.days:
                wall = datetime(day.year, day.month, day.day) + timedelta(minutes=schedule.at, hours=hour)  # noqa: DTZ001
                found.add(utc(wall, zone))
        day += timedelta(days=1)
    return sorted(start for start in found if after <= start < before)


def changes(zone: str) -> tuple[float, ...]:
    """The noons of 2006 to 2025 after which the zone's offset is another than five days before."""
    info = zoneinfo.ZoneInfo(zone)
    noons = [at("2006-01-01T12:00") + n * 5 * DAY for n in range(1461)]
    offsets = [datetime.fromtimestamp(noon, info).utcoffset() for noon in noons]
    return tuple(noon for noon, before, after in zip(noons[1:], offsets, offsets[1:]) if before != after)


@settings(max_examples=40)
@given(schedules(ODD_ZONES), st.floats(at("2006-01-01"), at("2026-01-01")), st.floats(0, 10 * DAY))
@example(one("daily at 02:30 in Pacific/Apia"), at("2011-12-29"), 5 * DAY)
@example(one("hourly every 4 hours from 23:30 for 24 hours in Pacific/Apia"), at("2011-12-29T11:00"), 5 * DAY)
def test_starts_are_those_of_the_obvious_reckoning(schedule: Schedule, after: float, span: float) -> None:
    """At moments that are sampled from twenty years, in zones whose clocks are odd. It says nothing of all moments."""
    assert list(schedule.starts(after, after + span)) == reckoned(schedule, after, after + span)


def test_starts_are_those_of_the_obvious_reckoning_where_a_clock_was_changed() -> None:
    """In every zone that there is, around a sample of up to four of its changes in twenty years, by three schedules
    each; of zones that changed at the same time by the same clock one."""
    chance, held = random.Random(20), 0
    alike: dict[tuple[object, ...], str] = {}
    for zone in ALL_ZONES:
        found = changes(zone)
        offset = datetime.fromtimestamp(at("2006-01-01"), zoneinfo.ZoneInfo(zone)).utcoffset()
        alike.setdefault((found, offset), zone)
    for zone in alike.values():
        found = changes(zone)
        for noon in chance.sample(found, min(len(found), 4)) or [at("2016-02-28T12:00")]:
            minute, duration = chance.randrange(0, 240, 15), chance.choice(DURATIONS)
            for schedule in (
                Schedule(minute, zone),
                Schedule(chance.randrange(1440), zone, (chance.randrange(7),)),
                Schedule(minute, zone, every=chance.choice(INTERVALS), duration=duration),
            ):
                after, before = noon - 6 * DAY + chance.randrange(86400), noon + DAY
                assert list(schedule.starts(after, before)) == reckoned(schedule, after, before), str(schedule)
                held += 1
    assert len(alike) > 100
    measured(f"schedules held against the obvious reckoning: {held}, in {len(alike)} zones that differ")


def test_twenty_years_of_a_zone_hold_one_start_a_day() -> None:
    """Ascending, none twice, and as many as there are days; what Samoa skipped was no time."""
    for zone, days in (("Europe/Berlin", 7305), ("Australia/Lord_Howe", 7305), ("Pacific/Apia", 7305)):
        starts = list(Schedule(150, zone).starts(at("2006-01-01"), at("2026-01-01")))
        assert starts == sorted(set(starts))
        assert len(starts) == days


# ----------------------------------------------------------------------------------------- where a moment stands

NIGHTLY = Plan(parse("daily at 22:00", "Europe/Berlin"), lead=4 * HOUR, hold=0.5 * HOUR)


@pytest.mark.parametrize(
    ("moment", "phase"),
    [
        ("2026-11-26T17:59:59+01:00", Phase.IDLE),
        ("2026-11-26T18:00:00+01:00", Phase.LEAD),
        ("2026-11-26T21:29:59+01:00", Phase.LEAD),
        ("2026-11-26T21:30:00+01:00", Phase.HOLD),
        ("2026-11-26T21:59:59+01:00", Phase.HOLD),
        ("2026-11-26T22:00:00+01:00", Phase.OPEN),
        ("2026-11-27T00:00:00+01:00", Phase.OPEN),
        ("2026-11-27T00:29:59+01:00", Phase.OPEN),
        ("2026-11-27T00:30:00+01:00", Phase.IDLE),
    ],
)
def test_a_night(moment: str, phase: Phase) -> None:
    """The window is open past midnight, for the two hours in which a job begins and the half that it takes."""
    assert NIGHTLY.phase(at(moment)) is phase


def test_the_windows_around_a_moment() -> None:
    evening, morning = at("2026-11-26T22:00+01:00"), at("2026-11-27T08:00+01:00")
    zone = "Europe/Berlin"
    schedule = f"daily at 22:00 in {zone}"
    assert NIGHTLY.current(evening - 1) is None
    assert NIGHTLY.current(evening) == Window(evening, evening + 2.5 * HOUR, schedule, zone=zone)
    assert NIGHTLY.current(evening + 2.5 * HOUR) is None
    assert NIGHTLY.next(evening - 1) == Window(evening, evening + 2.5 * HOUR, schedule, zone=zone)
    assert NIGHTLY.next(evening) == Window(evening + DAY, evening + DAY + 2.5 * HOUR, schedule, zone=zone)
    assert NIGHTLY.previous(morning) == Window(evening, evening + 2.5 * HOUR, schedule, zone=zone)
    assert NIGHTLY.previous(evening + 2.5 * HOUR) == Window(evening, evening + 2.5 * HOUR, schedule, zone=zone)
    before = NIGHTLY.previous(evening + 2.5 * HOUR - 1)
    assert before is not None
    assert before.start == evening - DAY
    assert [window.start for window in NIGHTLY.between(evening, evening + 2 * DAY)] == [evening, evening + DAY]


def test_a_learned_plan_has_learned_windows() -> None:
    plan = Plan(NIGHTLY.schedules, learned=True)
    window = plan.next(at("2026-11-26"))
    assert window is not None
    assert window.learned


def test_of_windows_that_overlap_the_latest_is_current() -> None:
    """Both are ahead one after the other; where they start at once there is one, by the first schedule."""
    plan = Plan(parse("daily at 22:00; daily at 23:00; weekly on Thursday at 23:00", "UTC"))
    ten, eleven = at("2026-11-26T22:00"), at("2026-11-26T23:00")
    assert [window.start for window in plan.between(ten, ten + DAY)] == [ten, eleven]
    current = plan.current(eleven + HOUR)
    assert current == Window(eleven, eleven + 2.5 * HOUR, "daily at 23:00 in UTC")
    following = plan.next(ten)
    assert following == current


def test_without_schedules_nothing_is_near() -> None:
    plan = Plan((), lead=DAY, hold=DAY)
    assert plan.phase(0) is Phase.IDLE
    assert (plan.current(0), plan.next(0), plan.previous(0), plan.expected_interval(0)) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "moment", "hours"),
    [
        ("daily at 22:00", "2026-11-26", 24),
        ("daily at 22:00 in Europe/Berlin", "2026-10-24", 25),
        ("daily at 22:00 in Europe/Berlin", "2026-12-24", 24),
        ("weekly on Sunday at 02:30", "2026-11-26", 7 * 24),
        ("weekly on Mon, Tue, Wed, Thu, Fri at 02:30", "2026-11-24", 3 * 24),
        ("hourly every 4 hours from 08:00 for 24 hours", "2026-11-26", 4),
        ("hourly every 4 hours from 08:00 for 12 hours", "2026-11-26", 12),
        ("weekly on Sunday at 02:30; daily at 14:30", "2026-11-26", 24),
        ("weekly on Friday at 02:30 in Pacific/Apia", "2011-12-28", 7 * 24),
    ],
)
def test_the_longest_time_between_starts(text: str, moment: str, hours: float) -> None:
    """Over the weekend, the night, or the night that is longer by an hour. What Samoa skipped is no day for a clock."""
    assert Plan(parse(text, "UTC")).expected_interval(at(moment)) == hours * HOUR


@pytest.mark.parametrize("name", ["start_window", "duration", "lead", "hold"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_span_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Plan((), **{name: value})  # type: ignore[arg-type]


SPANS = st.integers(0, 14 * 24 * 4).map(lambda quarters: quarters * 900.0) | st.just(0.0)
PLANS = st.builds(
    Plan,
    st.lists(schedules(ODD_ZONES, HALF_HOURS), min_size=1, max_size=3).map(tuple),
    start_window=st.integers(0, 12).map(lambda halves: halves * 1800.0),
    duration=st.integers(0, 12).map(lambda halves: halves * 1800.0),
    lead=SPANS,
    hold=SPANS,
)
MOMENTS = st.integers(int(at("2006-01-01")), int(at("2026-01-01"))).map(float)


@given(PLANS, MOMENTS)
def test_every_moment_stands_where_an_obvious_reckoning_puts_it(plan: Plan, moment: float) -> None:
    """All windows of five weeks around it, searched one by one."""
    starts = sorted(
        {s for schedule in plan.schedules for s in reckoned(schedule, moment - 20 * DAY, moment + 20 * DAY)}
    )
    length = plan.start_window + plan.duration
    is_open = [start for start in starts if start <= moment < start + length]
    later = [start for start in starts if start > moment]
    over = [start for start in starts if start + length <= moment]
    current, following, previous = plan.current(moment), plan.next(moment), plan.previous(moment)
    assert (current and current.start) == (is_open[-1] if is_open else None)
    assert (following and following.start) == later[0]
    assert (previous and previous.start) == over[-1]
    assert all(w.end == w.start + length for w in (current, following, previous) if w)
    away = later[0] - moment
    if is_open:
        assert plan.phase(moment) is Phase.OPEN
    elif away <= plan.hold:
        assert plan.phase(moment) is Phase.HOLD
    elif away <= plan.lead:
        assert plan.phase(moment) is Phase.LEAD
    else:
        assert plan.phase(moment) is Phase.IDLE


@given(PLANS, MOMENTS)
def test_phases_come_in_their_order(plan: Plan, moment: float) -> None:
    """From one start to the next: open, idle, lead, hold, each once at most, also where lead or hold is longer than
    the time between two windows."""
    window = plan.next(moment)
    assert window is not None
    following = plan.next(window.start)
    assert following is not None
    edges = {window.start, window.end, following.start - plan.lead, following.start - plan.hold, following.start}
    moments = sorted(
        each for edge in edges for each in (edge - 1, edge, edge + 1) if window.start <= each < following.start
    )
    order = [Phase.OPEN, Phase.IDLE, Phase.LEAD, Phase.HOLD]
    ranks = [order.index(plan.phase(each)) for each in moments]
    assert ranks == sorted(ranks)


@settings(max_examples=30)
@given(schedules(ODD_ZONES), MOMENTS)
def test_the_expected_interval_is_that_of_the_weeks_around(schedule: Schedule, moment: float) -> None:
    starts = reckoned(schedule, moment - 9 * DAY, moment + 9 * DAY)
    gaps = [later - start for start, later in zip(starts, starts[1:])]
    assert Plan((schedule,)).expected_interval(moment) == max(gaps)
    assert max(gaps) < 8 * DAY


def test_what_a_moment_costs() -> None:
    """It is the same whatever the year; the figure is told."""
    plan = Plan(parse("hourly every 4 hours from 08:00 for 24 hours; daily at 22:00", "Europe/Berlin"), lead=HOUR)
    began, rounds = time.perf_counter(), 200
    for n in range(rounds):
        assert plan.phase(1.76e9 + n * 3600) in Phase
    measured(f"phase of one moment, two schedules: {(time.perf_counter() - began) / rounds * 1e6:.0f} µs")


def test_the_words_of_the_days_are_those_of_the_calendar() -> None:
    assert [date(2026, 11, 23 + n).strftime("%A") for n in range(7)] == list(DAYS)
