"""Which schedule do the past backups follow?

Pure. The starts of past runs are read on the wall of a zone: runs at the same time of many days are a schedule's. It is
held against the windows that it would have had, so that what somebody started by hand, a retry, or chance does not
become one. Nothing is learned rather than something doubtful.
"""

from __future__ import annotations

import math
import zoneinfo
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from backupready.model import LearnedSchedule
from backupready.window import INTERVALS, START_WINDOW, Schedule, zone_name

_DAY = 86400
_STEP = 1800  # the portal offers a start at each half hour
_WIDTH = int(START_WINDOW)  # a job starts that much later at most

_MOST_RUNS = 200  # the newest; a month of the densest schedule, one in four hours
# Ten weeks: a weekly schedule has three runs in them also where most were missed. Nightly ones need five, lest a time
# that was given up long ago is still believed.
_SPAN_WEEKLY = 70 * _DAY
_SPAN_DAILY = 35 * _DAY
_FEWEST = 3
_REGULAR = 0.75  # of the windows between its first and its last run, a schedule has a run in at least so many
_EXPLAINED = 0.6  # of all runs, the schedules explain at least so many,
_BETTER = 1.7  # and so many times what as much time would have of runs spread evenly; four-hourly ones reach 2
# What starts so soon after another run belongs to it: scheduled ones are four hours apart, and each up to two late.
_RETRY = _WIDTH
# No outage is left alone for so long: the machine is no longer protected, or in another way.
_SILENT_DAILY = 14 * _DAY
_SILENT_WEEKLY = 28 * _DAY
# Azure's schedules have four hours between two starts at least; a time is learned half an hour late at times.
_TOO_NEAR = 3 * 3600
# What somebody runs by hand on a few days is no schedule beside one that was there before it; five is a work week.
_FEWEST_BESIDE = 5
# So much later than another's the first run of a time may be, if both are of one schedule: each begins within a day,
# and one that is missed is made up for by a record that is as long.
_BEGIN_WITHIN = _DAY
_BEGIN_WITHIN_SHARE = 1 / 14
_MISSED_IN_A_ROW = 2  # while another time of the same schedule has run: it no longer is one of the schedule's
# A daily schedule that has been silent for so long is believed by its newest week alone: the policy may be another.
_LATELY = (3 * _DAY, 7 * _DAY)  # silent, and believed
_FEWEST_SILENT = 3  # windows
_CLEARER = 0.95  # by less, what is clearer on the walls of another zone is by chance
_UNLIKELY = 0.005  # a weekday that is left out by chance less often than so is not one of the schedule's
_MOVED = 1000  # what chance would do once in so many times is no chance: the schedule was moved


def learn(starts: Sequence[float], now: float, zones: Sequence[str]) -> tuple[tuple[Schedule, LearnedSchedule], ...]:
    """The schedules that past runs suggest, those with the most runs first.

    `starts` are when runs began and `now` is the present, seconds since the epoch; runs of the future, by a clock that
    was wrong, do not count. Of `zones` it is the one on whose walls the times are the most regular, the first where
    that makes no difference. At least three runs make a schedule; a day of the week, three on that day. Raises
    ValueError for a zone that there is not.
    """
    runs = _once(start for start in starts if now - _SPAN_WEEKLY <= start <= now)
    best: _Reading | None = None
    for zone in zones:
        reading = _read(runs, now, zone_name(zone))
        if best is None or reading.disorder < _CLEARER * best.disorder:
            best = reading
    if best is None or not runs or best.explained < max(_EXPLAINED, _BETTER * best.covered) * len(runs):
        return ()
    found = [(schedule, _record(schedule, since, runs, now)) for schedule, since in best.schedules()]
    return tuple(sorted(found, key=lambda each: (-len(each[1].runs), each[1].schedule)))


@dataclass(frozen=True)
class _Cluster:
    """Runs at one time of many days: by the number of the local day, how many seconds after `slot` they began, and when
    that was. `slot` is seconds after local midnight, `days` those of the week, none for every day."""

    slot: int
    delays: Mapping[int, int]
    starts: Mapping[int, float]
    days: tuple[int, ...]

    @property
    def first(self) -> float:
        return min(self.starts.values())

    @property
    def last(self) -> float:
        return max(self.starts.values())

    def walls(self) -> list[int]:
        """When its runs began on the wall."""
        return [number * _DAY + self.slot + delay for number, delay in self.delays.items()]

    def only(self, numbers: Iterable[int], days: tuple[int, ...]) -> _Cluster:
        kept = sorted(numbers)
        return _Cluster(self.slot, {n: self.delays[n] for n in kept}, {n: self.starts[n] for n in kept}, days)

    def possible(self) -> list[int]:
        """The half hours at which it may be scheduled, so that all its runs are in the start window, the latest first.
        Seconds after local midnight, but also before it or a day later."""
        earliest, latest = min(self.delays.values()), max(self.delays.values())
        top = self.slot + earliest // _STEP * _STEP
        return [time for time in range(top, top - _WIDTH, -_STEP) if self.slot + latest < time + _WIDTH]


@dataclass(frozen=True)
class _Reading:
    """What the runs are on the walls of one zone: `alive` are the clusters that still go on, `explained` is how many
    runs are at the time and on the days of any cluster, and `covered` the share of all time that those are. `disorder`
    is by how many seconds a run is off the middle of the nearest cluster, in the mean, but for those clusters that are
    at the side of another with more runs."""

    zone: str
    alive: tuple[_Cluster, ...]
    explained: int
    covered: float
    disorder: float

    def schedules(self) -> Iterator[tuple[Schedule, float]]:
        """Each with when its first run began."""
        clusters = [_settled(cluster) for cluster in self.alive]
        chain, every, members = _hourly([cluster for cluster in clusters if not cluster.days])
        taken = [time % _DAY for time in chain]
        if chain:
            whole = len(chain) * every == _DAY
            first, hours = (min(taken), 24) if whole else (taken[0], (len(chain) - 1) * every // 3600)
            schedule = Schedule(first // 60, self.zone, every=every // 3600, duration=hours)
            yield schedule, min(cluster.first for cluster in members)
        # A retry or a habit that comes with each run is at its side; two schedules of Azure's are not.
        rest = [cluster for cluster in clusters if cluster not in members]
        for cluster in sorted(rest, key=lambda each: (-len(each.delays), each.slot)):
            time = cluster.possible()[0]
            if all(_apart(time, other) >= _TOO_NEAR for other in taken) and not _is_beside(cluster, clusters):
                taken.append(time % _DAY)
                # A time before midnight is one of the day before.
                days = tuple(sorted((day + time // _DAY) % 7 for day in cluster.days))
                yield Schedule(time % _DAY // 60, self.zone, days), cluster.first


def _read(runs: Sequence[float], now: float, zone: str) -> _Reading:
    info = zoneinfo.ZoneInfo(zone)
    left = walls = [(_wall(start, info), start) for start in runs]
    present = _wall(now, info)
    clusters: list[_Cluster] = []
    explained = 0
    while left:
        cluster, others = _densest(left)
        if len(cluster.delays) < _FEWEST:
            break
        recent = [number for number, start in cluster.starts.items() if start >= now - _SPAN_DAILY]
        daily, weekly = _daily(cluster.only(recent, ())), _weekly(cluster)
        # A few days in a row may be those of a week.
        fewer = daily and weekly and len(daily.delays) < len(weekly.delays.keys() & set(recent))
        regular = weekly if fewer or not daily else daily
        if regular:
            clusters.append(regular)
            days = [_weekday(_number(wall, cluster.slot)) for wall, _ in left if _in(wall, cluster.slot)]
            explained += sum(not regular.days or day in regular.days for day in days)
        left = others
    alive = tuple(each for each in clusters if not _is_over(each, clusters, now, present))
    middles: list[float] = []
    for cluster in sorted(clusters, key=lambda each: (-len(each.delays), each.slot)):
        middle = cluster.slot + median(cluster.delays.values())
        if all(_apart(middle, other) >= _TOO_NEAR for other in middles):
            middles.append(middle)
    off = [min(_WIDTH, *(_apart(wall, middle) for middle in middles)) for wall, _ in walls] if middles else [_WIDTH]
    covered = sum(_WIDTH / _DAY * (len(cluster.days) or 7) / 7 for cluster in clusters)
    return _Reading(zone, alive, explained, covered, sum(off) / len(off))


def _once(starts: Iterable[float]) -> list[float]:
    """The newest of them, ascending, without those that are retries of another."""
    found: list[float] = []
    latest = -math.inf
    for start in sorted(starts)[-_MOST_RUNS:]:
        if start >= latest + _RETRY:
            found.append(start)
        latest = start
    return found


def _wall(instant: float, zone: zoneinfo.ZoneInfo) -> int:
    """What the wall shows, as seconds since its own 1 January 1970."""
    shown = datetime.fromtimestamp(instant, zone)
    return shown.toordinal() * _DAY + shown.hour * 3600 + shown.minute * 60 + shown.second - _EPOCH


_EPOCH = datetime(1970, 1, 1).toordinal() * _DAY  # noqa: DTZ001 - the wall's


def _number(wall: int, slot: int) -> int:
    """Which day a moment belongs to, if days begin at `slot`."""
    return (wall - slot) // _DAY


def _in(wall: int, slot: int) -> bool:
    return (wall - slot) % _DAY < _WIDTH


def _weekday(number: int) -> int:
    """0 is Monday; 1 January 1970 was a Thursday."""
    return (number + 3) % 7


def _densest(walls: Sequence[tuple[int, float]]) -> tuple[_Cluster, list[tuple[int, float]]]:
    """The start window that has runs of the most days, and the runs outside it. Of equal ones it is that before which
    there is the most silence, so that of what follows a run at a fixed distance the run comes first."""
    silence = [_DAY, *(later - wall for (wall, _), (later, _) in zip(walls, walls[1:]))]
    best, slot = (0, 0), 0
    for at in range(0, _DAY, _STEP):
        inside = {_number(wall, at): min(quiet, _DAY) for (wall, _), quiet in zip(walls, silence) if _in(wall, at)}
        best, slot = max((best, slot), ((len(inside), sum(inside.values())), at))
    delays: dict[int, int] = {}
    starts: dict[int, float] = {}
    for wall, start in walls:
        if _in(wall, slot):
            delays.setdefault(_number(wall, slot), (wall - slot) % _DAY)
            starts.setdefault(_number(wall, slot), start)
    return _Cluster(slot, delays, starts, ()), [each for each in walls if not _in(each[0], slot)]


def _suffix(numbers: Sequence[int], step: int) -> Sequence[int]:
    """The most of the newest days that are regular, one being due at each `step`; none if fewer than three are."""
    for first in range(len(numbers) - _FEWEST + 1):
        due = (numbers[-1] - numbers[first]) // step + 1
        if len(numbers) - first >= _REGULAR * due:
            return numbers[first:]
    return ()


def _daily(cluster: _Cluster) -> _Cluster | None:
    numbers = _suffix(sorted(cluster.delays), 1)
    if not numbers:
        return None
    due = Counter(map(_weekday, range(numbers[0], numbers[-1] + 1)))
    ran = Counter(map(_weekday, numbers))
    for weekday in due:
        # How often it runs on the other days, without those that it may leave out as well.
        others = [each for each in ran if each != weekday]
        rate = (sum(ran[each] for each in others) + 1) / (sum(due[each] for each in others) + 2)
        if _at_most(ran[weekday], due[weekday], rate) < _UNLIKELY:
            return None
    return cluster.only(numbers, ())


def _weekly(cluster: _Cluster) -> _Cluster | None:
    kept: list[int] = []
    for weekday in range(7):
        kept += _suffix([n for n in sorted(cluster.delays) if _weekday(n) == weekday], 7)
    days = tuple(sorted({_weekday(n) for n in kept}))
    return cluster.only(kept, () if len(days) == 7 else days) if kept else None


def _at_most(hits: int, chances: int, rate: float) -> float:
    """How likely there are no more hits."""
    return sum(math.comb(chances, k) * rate**k * (1 - rate) ** (chances - k) for k in range(hits + 1))


def _is_over(cluster: _Cluster, others: Sequence[_Cluster], now: float, present: int) -> bool:
    """Whether it has been silent for long, or missed a window since another that had not been there began."""
    if now - cluster.last > (_SILENT_WEEKLY if cluster.days else _SILENT_DAILY):
        return True
    if not any(other.first > cluster.last for other in others):
        return False
    due = range(max(cluster.delays) + 1, _number(present - _WIDTH, cluster.slot) + 1)
    return any(not cluster.days or _weekday(n) in cluster.days for n in due)


def _settled(cluster: _Cluster) -> _Cluster:
    """Without what says something else of its time than the rest: the runs before it was moved by less than a start
    window, or a few early ones of another cause."""
    numbers = sorted(cluster.delays)
    delays = [cluster.delays[n] for n in numbers]
    for newest in range(_FEWEST, len(numbers) - _FEWEST + 1):
        before, after = delays[:-newest], delays[-newest:]
        gap = max(min(after) - max(before), min(before) - max(after))
        width = max(max(before) - min(before), max(after) - min(after))
        # By chance the newest are all on one side once in as many times as they can be chosen.
        if 0 < gap >= width / 2 and math.comb(len(numbers), newest) >= _MOVED:
            return _settled(cluster.only(numbers[-newest:], cluster.days))
    ranked = sorted(delays)
    for few in range(max(2, len(ranked) // 10), 0, -1):
        rest = ranked[few:]
        # Of evenly spread delays the first gap is as long as all the others together once in 2 ** (how many they are).
        if len(rest) > 10 and rest[0] - ranked[few - 1] >= rest[-1] - rest[0]:
            return cluster.only([n for n in numbers if cluster.delays[n] >= rest[0]], cluster.days)
    return cluster


def _begin_together(one: _Cluster, other: _Cluster) -> bool:
    """Whether both may have begun with the same schedule."""
    span = max(one.last, other.last) - min(one.first, other.first)
    return abs(one.first - other.first) <= _BEGIN_WITHIN + _BEGIN_WITHIN_SHARE * span


def _is_beside(cluster: _Cluster, others: Sequence[_Cluster]) -> bool:
    """Whether it is a few runs beside what was there before."""
    few = len(cluster.delays) < _FEWEST_BESIDE
    return few and any(
        len(other.delays) > len(cluster.delays) and other.first < cluster.first - _BEGIN_WITHIN for other in others
    )


def _go_together(one: _Cluster, other: _Cluster) -> bool:
    """Whether they may be two times of one hourly schedule: they began together, and from then on each was regular, and
    did not fall silent while the other went on. Both are of every day."""
    if not _begin_together(one, other):
        return False
    first = min(min(each.walls()) for each in (one, other))
    last = max(max(each.walls()) for each in (one, other))
    for each in (one, other):
        newest = max(each.delays)
        # Its windows from the first run of both on, and those that are over by the last.
        began = min(min(each.delays), -((each.slot - first) // _DAY))
        over = max(newest, _number(last - _WIDTH, each.slot))
        if over - newest >= _MISSED_IN_A_ROW or len(each.delays) < _REGULAR * (over - began + 1):
            return False
    return True


def _hourly(clusters: Sequence[_Cluster]) -> tuple[list[int], int, list[_Cluster]]:
    """The longest chain of times that follow each other at one of Azure's intervals, that interval, and the clusters
    that they are of. Seconds; the times may go past midnight. Nothing if there is none of two."""
    best: tuple[list[int], int, list[_Cluster]] = ([], 0, [])
    at = {time % _DAY: cluster for cluster in clusters for time in cluster.possible()}
    pairs = {(one.slot, other.slot) for one in clusters for other in clusters if _go_together(one, other)}
    for every in (hours * 3600 for hours in INTERVALS):
        # Of times that fit as well the latest, as for a time of its own.
        for first in (time for cluster in clusters for time in cluster.possible()):
            chain = [first]
            while len(chain) * every < _DAY:
                following = at.get((chain[-1] + every) % _DAY)
                if following is None or any((at[t % _DAY].slot, following.slot) not in pairs for t in chain):
                    break
                chain.append(chain[-1] + every)
            if len(chain) > max(1, len(best[0])):
                best = (chain, every, [at[time % _DAY] for time in chain])
    return best


def _apart(one: float, other: float) -> float:
    return min((one - other) % _DAY, (other - one) % _DAY)


def _record(schedule: Schedule, since: float, runs: Sequence[float], now: float) -> LearnedSchedule:
    """Its windows from its first run on; one that is still open counts once it has a run. Of one that is not weekly and
    has lately been silent, the newest week's alone."""
    hits: list[float] = []
    windows: list[tuple[float, bool]] = []
    for start in schedule.starts(since - START_WINDOW, now):
        began = [run for run in runs if max(start, since) <= run < start + START_WINDOW]
        hits += began[:1]
        if began or (start >= since and start + START_WINDOW <= now):
            windows.append((start, bool(began)))
    latest, week = ([ran for start, ran in windows if start > now - START_WINDOW - span] for span in _LATELY)
    is_silent = not schedule.days and len(latest) >= _FEWEST_SILENT and not any(latest)
    judged = week if is_silent else [ran for _, ran in windows]
    return LearnedSchedule(str(schedule), sum(judged) / len(judged), tuple(hits))
