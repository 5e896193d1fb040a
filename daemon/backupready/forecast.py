"""Will the next window meet a busy machine, as past windows did?

Azure queues and delays the snapshot of a machine whose processors or memory are busier than 90 %. What was so in most
of the newest windows at the same time of day is likely to be so in the next. Pure, but for the zone data that zoneinfo
reads: a forecast follows from what it is given and nothing else.
"""

from __future__ import annotations

import math
import zoneinfo
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from backupready.model import LOAD_SECONDS, Load, Window

FEWEST_WINDOWS = 5
NEWEST_WINDOWS = 7  # a week of a daily schedule: what was changed is over with four quiet days
# Windows looked back over, with those of which nothing is known: what a machine did before a long absence says nothing.
_LOOKED_BACK = 14
_WEEKLY = "weekly "  # how a schedule that has days of the week begins, in words
_RECORDED = 0.5  # of a window; of one that was seen for a shorter time nothing is known
# A window was busy if the machine was for this share of it. The backup starts some time in the window and is
# tried again for a while: a burst is no obstacle, and neither does the limit have to be passed all the time.
_BUSY_SHARE = 0.25


@dataclass(frozen=True)
class Limits:
    """From which share on, 0 to 1, a resource is busy; None where it is not judged. For processors and memory it is
    the limit of Azure's troubleshooting article. No source has one for stolen time, which is part of `cpu` anyway."""

    cpu: float | None = 0.9
    memory: float | None = 0.9
    steal: float | None = None
    io: float | None = 0.6


@dataclass(frozen=True)
class Busy:
    """The next window is likely to meet a machine that is short of `resource` (cpu, memory, steal or io).

    In `busy` of the newest `windows` for which that is known, at least a quarter of the time was at `limit` or above.
    `typical` is what was reached for a quarter of the time, the 75th percentile, in the middle one of those windows;
    shares are 0 to 1.
    """

    resource: str
    windows: int
    busy: int
    typical: float
    limit: float


def forecast(
    loads: Iterable[Load], windows: Iterable[Window], coming: Window, at: float, limits: Limits | None = None
) -> tuple[Busy, ...]:
    """What the windows that were over at `at` (seconds since the epoch) let expect of `coming`, in the order cpu,
    memory, steal, io.

    Of the windows those count that begin at the same time of day on the wall of its zone and, where its schedule is a
    weekly one, on the same day of the week: what a machine does at noon says nothing of its night.
    Loads count as far as they overlap a window; a window in less than half of which a resource was recorded does not
    count for it. Says nothing of a resource before five windows were seen, and only where it was busy in at least half
    of the newest seven.
    """
    limits = limits or Limits()
    recorded = sorted(loads, key=lambda load: load.start)
    starts = [load.start for load in recorded]
    zone, is_weekly = zoneinfo.ZoneInfo(coming.zone), coming.schedule.startswith(_WEEKLY)
    when = _when(coming.start, zone, is_weekly)
    alike = (window for window in windows if window.end <= at and _when(window.start, zone, is_weekly) == when)
    over = sorted({(window.start, window.end) for window in alike}, reverse=True)[:_LOOKED_BACK]
    within = [
        (end - start, recorded[bisect_right(starts, start - LOAD_SECONDS) : bisect_left(starts, end)])
        for start, end in over
    ]
    found = []
    for resource, limit, shares in (
        ("cpu", limits.cpu, [(length, [load.cpu for load in seen]) for length, seen in within]),
        ("memory", limits.memory, [(length, [load.memory for load in seen]) for length, seen in within]),
        ("steal", limits.steal, [(length, [load.steal for load in seen]) for length, seen in within]),
        ("io", limits.io, [(length, [load.io for load in seen if load.io is not None]) for length, seen in within]),
    ):
        if limit is None:
            continue
        levels = [_level(seen) for length, seen in shares if _is_known(length, len(seen))][:NEWEST_WINDOWS]
        busy = sum(level >= limit for level in levels)
        if len(levels) >= FEWEST_WINDOWS and busy * 2 >= len(levels):
            found.append(Busy(resource, len(levels), busy, sorted(levels)[len(levels) // 2], limit))
    return tuple(found)


def _when(start: float, zone: zoneinfo.ZoneInfo, is_weekly: bool) -> tuple[int, int, int | None]:
    """The hour and minute on the wall and, of a weekly schedule's window, the day of the week."""
    shown = datetime.fromtimestamp(start, zone)
    return shown.hour, shown.minute, shown.weekday() if is_weekly else None


def _is_known(length: float, seen: int) -> bool:
    """Whether so many loads tell of a window of that length."""
    return seen > 0 and seen * LOAD_SECONDS >= length * _RECORDED


def _level(shares: Sequence[float]) -> float:
    """What was reached for a quarter of the time."""
    return sorted(shares, reverse=True)[math.ceil(len(shares) * _BUSY_SHARE) - 1]
