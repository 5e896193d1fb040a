"""How busy was the machine in each five minutes of the past weeks?

FiveMinutes makes a Load of the samples of each five minutes by the wall clock; Loads keeps those of the newest weeks in
little memory. Neither has a clock: who takes the samples says when.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import timedelta

from backupready.model import LOAD_SECONDS, Load, Sample

SLOT = LOAD_SECONDS
KEPT = timedelta(days=35)  # five windows of a weekly schedule
RESOLUTION = 10000  # shares are told, kept and compared as whole ten-thousandths
LATEST_SLOT = 253402300800 // SLOT  # the year 10000 begins with it
_FEWEST_SECONDS = 180.0  # of a slot that must have been seen
_LONGEST_STRETCH = 120.0  # s between two samples; nobody knows what was in a longer one
# s that the clocks may drift apart between two samples. Less than a jump of the wall clock that matters, and more than
# a starved machine takes from reading the one to reading the other: its slots are those that must not get lost.
_JUMP = 30.0
_UNKNOWN = 65535  # in place of a share


class FiveMinutes:
    """The load of the running slot, a slot being five minutes from a multiple of 300 seconds since the epoch."""

    def __init__(self) -> None:
        self._before: Sample | None = None
        self._at = 0.0
        self._begin(-1)

    def _begin(self, slot: int) -> None:
        self._slot = slot
        self._seconds = self._busy = self._stolen = self._total = self._memory = 0.0
        self._stalled = self._stalled_seconds = 0.0

    def add(self, sample: Sample, at: float) -> Load | None:
        """Count the stretch from the sample before to this one, which was taken at `at` (wall clock). Gives the load of
        the slot before, once, if this sample begins another; None where too little was seen of that.

        A stretch across which the clocks do not agree (the clock was set, the machine was suspended) ends the slot
        without a load; one that is too long, or in which the counters went back (a reboot), is not counted.
        """
        before, passed = self._before, at - self._at
        self._before, self._at = sample, at
        slot = int(at // SLOT)
        over: Load | None = None
        seconds = 0.0 if before is None else sample.at - before.at
        if before is None or seconds < 0 or abs(passed - seconds) > _JUMP or slot < self._slot:
            self._begin(slot)
        else:
            early = min(max(slot * SLOT - (at - seconds), 0.0) / seconds, 1.0) if seconds else 0.0
            if early and self._slot == slot - 1:
                self._count(before, sample, seconds, early)
            if slot != self._slot:
                over = self._load()
                self._begin(slot)
            self._count(before, sample, seconds, 1 - early)
        if sample.memory_total > 0:
            self._memory = max(self._memory, 1 - sample.memory_available / sample.memory_total)
        return over

    def _count(self, before: Sample, after: Sample, seconds: float, share: float) -> None:
        """Count this share of a stretch."""
        total, busy = after.cpu_total - before.cpu_total, after.cpu_busy - before.cpu_busy
        stolen = after.cpu_steal - before.cpu_steal
        if not 0 < seconds <= _LONGEST_STRETCH or total <= 0 or busy < 0 or stolen < 0:
            return
        self._seconds += seconds * share
        self._total += total * share
        self._busy += busy * share
        self._stolen += stolen * share
        if before.stalled_io_full is not None and after.stalled_io_full is not None:
            stalled = after.stalled_io_full - before.stalled_io_full
            if stalled >= 0:
                self._stalled += stalled * share
                self._stalled_seconds += seconds * share

    def _load(self) -> Load | None:
        if self._seconds < _FEWEST_SECONDS or not 0 <= self._slot < LATEST_SLOT:
            return None
        known = self._stalled_seconds >= _FEWEST_SECONDS
        return Load(
            start=float(self._slot * SLOT),
            cpu=_share(self._busy / self._total),
            memory=_share(self._memory),
            steal=_share(self._stolen / self._total),
            io=_share(self._stalled / self._stalled_seconds) if known else None,
        )


def _share(value: float) -> float:
    return in_ten_thousandths(value) / RESOLUTION


def in_ten_thousandths(share: float) -> int:
    """0 to 10000."""
    return round(min(max(share, 0.0), 1.0) * RESOLUTION)


class Loads:
    """A log of loads, oldest first: the newest, of as many slots as there are in `keep`."""

    def __init__(self, keep: timedelta = KEPT) -> None:
        self._most = max(int(keep.total_seconds()) // SLOT, 1)
        self._slots = array("I")
        self._shares = tuple(array("H") for _ in range(4))  # cpu, memory, steal, io

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[Load]:
        return (self._load(index) for index in range(len(self)))

    def add(self, load: Load) -> None:
        """In any order; one of a slot that is there already replaces it. Raises ValueError for a `start` that no
        slot begins with."""
        if not 0 <= load.start < LATEST_SLOT * SLOT or load.start % SLOT:
            raise ValueError(f"cannot keep the load of {load.start!r}: no five minutes begin then")
        slot = int(load.start // SLOT)
        index = bisect_left(self._slots, slot)
        known = index < len(self._slots) and self._slots[index] == slot
        if not known:
            self._slots.insert(index, slot)
        for shares, value in zip(self._shares, (load.cpu, load.memory, load.steal, load.io)):
            whole = _UNKNOWN if value is None else in_ten_thousandths(value)
            if known:
                shares[index] = whole
            else:
                shares.insert(index, whole)
        if len(self._slots) > self._most:
            for values in (self._slots, *self._shares):
                del values[0]

    def since(self, start: float) -> Loads:
        """A log of its own of those from this moment (seconds since the epoch) on, which does not change with this."""
        told, first = Loads(), bisect_left(self._slots, start / SLOT)
        told._slots = self._slots[first:]
        told._shares = tuple(shares[first:] for shares in self._shares)
        return told

    def overlapping(self, start: float, end: float) -> tuple[Load, ...]:
        """Those of which a part lies between two moments (seconds since the epoch), oldest first."""
        first = bisect_right(self._slots, start / SLOT - 1)
        return tuple(self._load(index) for index in range(first, bisect_left(self._slots, end / SLOT)))

    def _load(self, index: int) -> Load:
        cpu, memory, steal, io = (shares[index] for shares in self._shares)
        return Load(
            start=float(self._slots[index] * SLOT),
            cpu=cpu / RESOLUTION,
            memory=memory / RESOLUTION,
            steal=steal / RESOLUTION,
            io=None if io == _UNKNOWN else io / RESOLUTION,
        )
