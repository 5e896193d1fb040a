"""When is the next backup, and where does a moment stand?

Schedules are written in the words that the Azure portal has for a backup policy: `daily at 22:00`, `weekly on Sunday,
Wednesday at 02:30`, `hourly every 4 hours from 08:00 for 12 hours`. Each may end in `in` and a time zone, by IANA's
name or by Windows', which is what Azure stores. They mean the clock on the wall of that zone. Pure, but for the zone
data that zoneinfo reads. Instants are seconds since the epoch.
"""

from __future__ import annotations

import difflib
import math
import re
import zoneinfo
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from backupready.model import Phase, Run, Window
from backupready.zones import WINDOWS

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
INTERVALS = (4, 6, 8, 12)  # hours; the enhanced policy has no others
DURATIONS = range(4, 25)  # hours

# A job starts at most two hours after its time: "What is the maximum delay I can expect in backup start time", Azure
# Backup's FAQ on virtual machines.
START_WINDOW = 7200.0
EXPECTED_DURATION = 1800.0

# Two clocks differ by so much at most; a greater skew is told elsewhere.
SKEW = 300.0
# A backup that begins so long before a window is that window's own all the same. One that was started by hand before it
# is not: the window's own comes nevertheless.
_OWN_EARLY = 60.0

# Every schedule has a start in nine days: a week, a day that a zone skips (Samoa's in 2011), an hour of summer time.
_LONGEST_GAP = 9 * 86400.0
# A start lies within this many days of the local date that it belongs to: a day of hourly ones, and a day skipped.
_DAYS_AFTER = 3

_WEEK = frozenset(range(7))
_HOURS = r"([1-9]\d{0,3})\s*(?:hours?|h)"
_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?\s*(?:([ap])\.?m\.?)?", re.ASCII | re.IGNORECASE)
_DAILY = re.compile(r"daily\s+at\s+(.+)", re.IGNORECASE)
_WEEKLY = re.compile(r"weekly\s+on\s+(.+?)\s+at\s+(.+)", re.IGNORECASE)
_HOURLY = re.compile(rf"hourly\s+every\s+{_HOURS}\s+from\s+(.+?)\s+for\s+{_HOURS}", re.ASCII | re.IGNORECASE)
_POLICY = re.compile(r"(?:(?:standard|enhanced)\s+)?(.+?)(?:\s+in\s+(.+))?", re.IGNORECASE | re.DOTALL)
_FORMS = (
    "'daily at 22:00', 'weekly on Sunday, Wednesday at 02:30' or 'hourly every 4 hours from 08:00 for 12 hours', each"
    " also with a time zone, as in 'daily at 22:00 in Europe/Berlin'"
)


@dataclass(frozen=True)
class Schedule:
    """When backups are due: at `at` minutes after midnight on the wall of `zone` (IANA's name), on `days` (0 is Monday)
    or on every day where there are none.

    With `every` hours, from then on each `every` hours until `duration` hours later. A start at that last moment
    counts: of the portal's "every 4 hours" from 9:00 for 12 hours the last is at 21:00. A start whose time the clock
    jumps over is as much later as it jumps; of a time that comes twice the first counts. Raises ValueError where it is
    none.
    """

    at: int
    zone: str
    days: tuple[int, ...] = ()
    every: int = 0
    duration: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.at < 1440:
            raise ValueError(f"{self.at} minutes after midnight is no time of day")
        if not _WEEK.issuperset(self.days) or list(self.days) != sorted(set(self.days)):
            raise ValueError(f"{self.days} are no days of the week in their order, 0 being Monday")
        if self.every and self.days:
            raise ValueError("an hourly schedule has no days")
        if (self.every or self.duration) and self.every not in INTERVALS:
            raise ValueError(f"there is none every {self.every} hours, only every {_either(INTERVALS)}")
        if self.every and self.duration not in DURATIONS:
            raise ValueError(f"{self.duration} hours is no duration; it is {DURATIONS[0]} to {DURATIONS[-1]} hours")
        _load(self.zone)

    def __str__(self) -> str:
        time = f"{self.at // 60:02d}:{self.at % 60:02d}"
        if self.every:
            when = f"hourly every {self.every} hours from {time} for {self.duration} hours"
        elif self.days:
            when = f"weekly on {', '.join(DAYS[day] for day in self.days)} at {time}"
        else:
            when = f"daily at {time}"
        return f"{when} in {self.zone}"

    def starts(self, after: float, before: float) -> Iterator[float]:
        """Those in [after, before), ascending."""
        if not after < before:
            return
        zone = zoneinfo.ZoneInfo(self.zone)
        minutes = range(self.at, self.at + self.duration * 60 + 1, self.every * 60) if self.every else (self.at,)
        first = datetime.fromtimestamp(after, zone).date().toordinal() - _DAYS_AFTER
        last = datetime.fromtimestamp(before, zone).date().toordinal() + 1
        # As a set, since the starts of a day that is skipped coincide with those of the next.
        found = set()
        for day in map(date.fromordinal, range(first, last + 1)):
            if self.days and day.weekday() not in self.days:
                continue
            midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
            # Adding to a datetime moves its wall clock. With fold=0 a time that is skipped has the offset from before,
            # and so is later by what is skipped; one that comes twice is the first.
            found |= {(midnight + timedelta(minutes=minute)).replace(fold=0).timestamp() for minute in minutes}
        yield from (start for start in sorted(found) if after <= start < before)


def parse(text: str, default_zone: str) -> tuple[Schedule, ...]:
    """Schedules in words, several separated by semicolons, in their order and each once.

    Raises ValueError that says what is wrong with which of them, and what may stand there.
    """
    found = [_schedule(part, default_zone) for part in map(str.strip, text.split(";")) if part]
    if not found:
        raise ValueError(f"names no schedule; write {_FORMS}")
    return tuple(dict.fromkeys(found))


def zone_name(text: str) -> str:
    """IANA's name of a time zone that is given by it or by Windows' name. Raises ValueError with the nearest names."""
    name = " ".join(text.split())
    if _has(name):
        return name
    windows = {known.casefold(): zone for known, zone in WINDOWS.items()}
    if name.casefold() in windows:
        zone = windows[name.casefold()]
        if not _has(zone):
            raise ValueError(f"this machine has no data on {zone}, which is {name!r}; install or update tzdata")
        return zone
    available = {known.casefold(): known for known in zoneinfo.available_timezones()}
    if not available:
        raise ValueError(f"this machine has no data on time zones, so {name!r} cannot be looked up; install tzdata")
    if name.casefold() in available:
        return available[name.casefold()]
    known = {**{each.casefold(): each for each in WINDOWS}, **available}
    near = [repr(known[each]) for each in difflib.get_close_matches(name.casefold(), known, n=3)]
    hint = f"did you mean {_either(near)}?" if near else "write it as in 'Europe/Berlin' or 'W. Europe Standard Time'"
    raise ValueError(f"{name!r} is no time zone that this machine's tzdata or Windows has; {hint}")


def read_zones_anew() -> None:
    """From now on schedules go by tzdata as it is now; otherwise a zone is kept as it was when it was first read."""
    zoneinfo.ZoneInfo.clear_cache()


def is_own(run: Run, window: Window, duration: float) -> bool:
    """Whether a run is the backup that a window is for. Of one whose beginning is not on record it is known that it
    took up to `duration` seconds."""
    late = duration if run.began is None else 0.0
    return window.start - _OWN_EARLY <= run.start <= window.end + late


def is_near(run: Run, window: Window, duration: float) -> bool:
    """Whether it may be, or is as good as that, as far as the clocks of two machines differ."""
    late = max(SKEW, duration) if run.began is None else SKEW
    return window.start - SKEW <= run.start <= window.end + late


@dataclass(frozen=True)
class Plan:
    """The schedules of a machine, and what there is around a start. Spans are seconds.

    A window begins at a scheduled start and ends when a job would that began `start_window` later and took `duration`.
    `lead` and `hold` are how long before a start those phases begin. `learned` is where the schedules are from.
    """

    schedules: tuple[Schedule, ...]
    start_window: float = START_WINDOW
    duration: float = EXPECTED_DURATION
    lead: float = 0.0
    hold: float = 0.0
    learned: bool = False

    def __post_init__(self) -> None:
        for name in ("start_window", "duration", "lead", "hold"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, and must be a number of seconds from 0 on")

    @property
    def length(self) -> float:
        """Seconds from a window's start to its end."""
        return self.start_window + self.duration

    def between(self, after: float, before: float) -> tuple[Window, ...]:
        """The windows that start in [after, before), in their order; where several schedules have one start, the
        first's."""
        starts: dict[float, Schedule] = {}
        for schedule in self.schedules:
            for start in schedule.starts(after, before):
                starts.setdefault(start, schedule)
        return tuple(
            Window(start, start + self.length, str(schedule), self.learned, schedule.zone)
            for start, schedule in sorted(starts.items(), key=lambda item: item[0])
        )

    def current(self, at: float) -> Window | None:
        """The window that is open; where several are, the one that has started last."""
        open_now = [window for window in self.between(at - self.length, at + 1) if window.start <= at < window.end]
        return open_now[-1] if open_now else None

    def next(self, at: float) -> Window | None:
        """The first that starts after `at`."""
        return next((window for window in self.between(at, at + _LONGEST_GAP) if window.start > at), None)

    def previous(self, at: float) -> Window | None:
        """The newest that has ended."""
        latest = at - self.length
        ended = [window for window in self.between(latest - _LONGEST_GAP, latest + 1) if window.end <= at]
        return ended[-1] if ended else None

    def phase(self, at: float) -> Phase:
        """OPEN wins over HOLD, and HOLD over LEAD."""
        if self.current(at):
            return Phase.OPEN
        window = self.next(at)
        away = window.start - at if window else math.inf
        return Phase.HOLD if away <= self.hold else Phase.LEAD if away <= self.lead else Phase.IDLE

    def expected_interval(self, at: float) -> float | None:
        """The longest time between two starts that follow each other, around `at`; None where there is no schedule."""
        starts = [window.start for window in self.between(at - _LONGEST_GAP, at + _LONGEST_GAP)]
        return max((later - start for start, later in zip(starts, starts[1:])), default=None)


def _schedule(text: str, default_zone: str) -> Schedule:
    policy = _POLICY.fullmatch(text)
    words, zone = policy.groups() if policy else (text, None)
    try:
        name = zone_name(default_zone if zone is None else zone)
        daily, weekly, hourly = _DAILY.fullmatch(words), _WEEKLY.fullmatch(words), _HOURLY.fullmatch(words)
        if daily:
            return Schedule(_minutes(daily[1]), name)
        if weekly:
            days = _days(weekly[1])
            return Schedule(_minutes(weekly[2]), name, () if len(days) == 7 else days)
        if hourly:
            return Schedule(_minutes(hourly[2]), name, every=int(hourly[1]), duration=int(hourly[3]))
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}") from None
    raise ValueError(f"{text!r} is no schedule; write {_FORMS}")


def _minutes(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match and (match[2] or match[3]):
        hour, minute, half = int(match[1]), int(match[2] or 0), (match[3] or "").lower()
        if minute < 60 and (1 <= hour <= 12 if half else hour < 24):
            return (hour % 12 + (12 if half == "p" else 0) if half else hour) * 60 + minute
    raise ValueError(f"{text!r} is no time of day; write it as in '22:00' or '10:00 PM'")


def _days(text: str) -> tuple[int, ...]:
    found = set()
    for word in re.sub(r"[\s,]+(and\s+)?", " ", text.strip(", "), flags=re.IGNORECASE).split():
        # Mon, Tues, Thurs, Sundays
        named = [n for n, day in enumerate(DAYS) if len(word) > 2 and (day + "s").lower().startswith(word.lower())]
        if not named:
            raise ValueError(f"{word!r} is no day of the week; write them as in 'Sunday, Wednesday' or 'Sun, Wed'")
        found |= set(named)
    if not found:
        raise ValueError("names no day of the week; write them as in 'Sunday, Wednesday' or 'Sun, Wed'")
    return tuple(sorted(found))


def _either(words: tuple[int, ...] | list[str]) -> str:
    *others, last = map(str, words)
    return f"{', '.join(others)} or {last}" if others else last


def _has(zone: str) -> bool:
    try:
        _load(zone)
    except ValueError:
        return False
    return True


def _load(zone: str) -> None:
    # Besides what is not there zoneinfo stumbles over folders, over files that are no zones, and over names that no
    # file can have. What lies under right/ counts leap seconds.
    try:
        if zone.startswith(("posix/", "right/")):
            raise zoneinfo.ZoneInfoNotFoundError
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, OSError, ValueError):
        raise ValueError(f"this machine's tzdata has no time zone {zone!r}") from None
