"""When is the next backup of this machine, where does a moment stand, and did what was said of the last one come true?

The windows are those of the configured schedules or, where none is configured, of those that past backups suggest. What
is believed when a window opens is the prediction for it; what came of it is held against that. No clock in here: the
caller says when, by both clocks.
"""

from __future__ import annotations

import contextlib
import math
import os
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Callable

from backupready.config import Config
from backupready.learn import learn
from backupready.mind.history import Recalled
from backupready.mind.judge import KeptClocks
from backupready.mind.loads import Loads
from backupready.model import (
    Happened,
    LearnedSchedule,
    Outlook,
    Phase,
    Prediction,
    Run,
    Snapshot,
    Verdict,
    Window,
)
from backupready.window import SKEW, Plan, Schedule, is_near, is_own, parse, zone_name

GOOD = (Happened.SUCCEEDED, Happened.CRASH_CONSISTENT)
# The clocks do not agree by so much: the wall clock was set, or the machine was suspended.
_JUMP = 60.0  # s
# A run that ends so long from now was noted by a clock that is not quite ours; later ones by one that was wrong.
_AHEAD_OF_US = 60.0  # s
# What was believed at most so long before a window opened is the prediction for it.
_FRESH = 900.0  # s
# So often after a window's end its backup has been looked for when it is given up.
_LOOKS_FOR_IT = 3
# A window whose end is so long ago, and of which nobody can tell what came, is let go.
_GIVEN_UP = 86400.0  # s
_MOST_RUNS = 400
_MOST_PREDICTIONS = 100  # that are remembered; of those before there is the score
_LOOK_BACK = 35 * 86400.0  # s
_MOST_WINDOWS = 100  # that are looked back over: two weeks of one in four hours, and five of a nightly one
# At most such a part of the time between two windows is the lead: what is before every window is before none.
_MOST_LEAD = 0.25
_LAST_PLANNED = 253370764800.0  # the year 9999 begins; dates end with it, and a schedule looks ahead
_LEARN_AGAIN = 3600.0  # s
# Less regular backups may be planned by the hour of somebody's free time.
_CONFIDENT = 0.6
_RUNNING = "backupready_backup_running"
_SHOWN_WINDOWS = 7
_SHOWN_PREDICTIONS = 10
_AHEAD = 9 * 86400.0  # s; each schedule has a start in it


def local_zone(root: str = "/") -> str:
    """This machine's time zone by IANA's name; UTC where it has none of them."""
    with contextlib.suppress(OSError):
        place = os.readlink(Path(root, "etc/localtime"))  # noqa: PTH115 - the text, not a path
        name = place.partition("zoneinfo/")[2]
        with contextlib.suppress(ValueError):
            return zone_name(name)
    return "UTC"


class Calendar:
    """The windows by the configuration, the record of past backups, and the predictions. `zone` is this machine's time
    zone, IANA's name. With a calendar from `before`, all but the configuration is taken over."""

    def __init__(self, config: Config, zone: str = "UTC", before: Calendar | None = None) -> None:
        self._spans = {
            name: config[f"window.{name}"].total_seconds() for name in ("start_window", "duration", "lead", "hold")
        }
        self._looked_for = _LOOKS_FOR_IT * config["past.interval"].total_seconds()
        text = config["window.schedule"]
        self._configured = Plan(parse(text, config["window.time_zone"]), **self._spans) if text else None
        self._may_learn: bool = config["window.learn"]
        self._zones = tuple(dict.fromkeys((zone, config["window.time_zone"], "UTC")))
        self._runs: dict[tuple[int, int], Run] = {}
        self._by_start: tuple[list[float], list[Run]] = [], []
        self._on_record = True  # whether the machine itself still has a record of any
        self._unread = "the record of past backups has not been read yet"
        # Agentless backups leave no record: that there is none says nothing.
        self._expects_runs = config["window.consistency"] == "application"
        self._predictions: dict[float, Prediction] = {}
        self._settled: Counter[tuple[Verdict, Happened]] = Counter()  # by this run of the program
        self._settled_before: Counter[tuple[Verdict, Happened]] = Counter()
        self._clocks: tuple[float, float] | None = None
        self._since: float | None = None
        if before is not None:
            self._runs, self._unread, self._on_record = before._runs, before._unread, before._on_record
            self._by_start = before._by_start
            self._predictions = before._predictions
            self._settled, self._settled_before = before._settled, before._settled_before
            self._clocks, self._since = before._clocks, before._since
        if not config["past.enabled"]:
            self._unread = "the record of past backups is not read, since the probe past is switched off"
        self._learned: tuple[tuple[Schedule, LearnedSchedule], ...] = ()
        self._learned_at: float | None = None
        self._ahead: tuple[Plan, float, tuple[Window, ...], float | None, float] | None = None

    # ---- what it is told

    def recall(self, recalled: Recalled) -> None:
        """What earlier runs of this program kept. Runs that are known already are newer; of a window it is the earlier
        prediction that was made before it."""
        self._take({_identity(run): run for run in recalled.runs}, self._runs)
        known = self._predictions.copy()
        settled: Counter[tuple[Verdict, Happened]] = Counter()
        self._predictions.clear()
        for prediction in recalled.predictions:
            if prediction.start not in known or known[prediction.start].happened is None:
                known.pop(prediction.start, None)
                self._keep(prediction)
                if prediction.happened is not None:
                    settled[prediction.verdict, prediction.happened] += 1
        self._predictions.update(known)
        self.count_before((*which, times) for which, times in settled.items())

    def count_before(self, scores: Iterable[tuple[Verdict, Happened, int]]) -> None:
        """How often earlier runs of this program saw which verdict meet with what, as far as this source knows: of
        several the highest count is right, since each forgets."""
        self._settled_before |= Counter({(said, came): times for said, came, times in scores})

    @property
    def scores(self) -> tuple[tuple[Verdict, Happened, int], ...]:
        """How often which verdict met with what."""
        return tuple((*which, times) for which, times in (self._settled_before + self._settled).items())

    def read(self, runs: Iterable[Run]) -> tuple[Run, ...]:
        """The record as it is now. Gives what is new in it."""
        self._unread = ""
        found = {_identity(run): run for run in runs}
        self._on_record = bool(found)
        new = {identity: run for identity, run in found.items() if self._is_news(identity, run)}
        if new:
            self._take(self._runs, new)
        return tuple(new.values())

    def _is_news(self, identity: tuple[int, int], run: Run) -> bool:
        known = self._runs.get(identity)
        if known is None:
            full = len(self._runs) >= _MOST_RUNS
            return not full or run.ended > min(other.ended for other in self._runs.values())
        return _both(known, run) != known

    @property
    def is_unread(self) -> bool:
        """Whether nothing can be said by the record at present."""
        return bool(self._unread)

    def unread(self, why: str) -> None:
        """The record could not be read."""
        self._unread = why

    def _take(self, older: dict[tuple[int, int], Run], newer: dict[tuple[int, int], Run]) -> None:
        both = {**older, **{i: _both(older[i], run) if i in older else run for i, run in newer.items()}}
        self._runs = dict(sorted(both.items(), key=lambda item: item[1].ended)[-_MOST_RUNS:])
        ordered = sorted(self._runs.values(), key=lambda run: run.start)
        self._by_start = [run.start for run in ordered], ordered
        self._learned_at = None

    def resume(self, clocks: KeptClocks) -> None:
        """What an earlier run of this program knew of the clocks, since the machine was started last."""
        self._clocks, self._since = (clocks.wall, clocks.monotonic), clocks.since

    def clocks(self, boot: str) -> KeptClocks | None:
        """What a later run should know of them; None before they were told once."""
        if self._clocks is None or self._since is None:
            return None
        # A clock that went back by less than a jump does not make the machine younger than it is.
        return KeptClocks(boot, max(0.0, min(self._since, self._clocks[0])), *self._clocks)

    def tick(self, wall: float, monotonic: float, suspended: float = 0.0) -> bool:
        """What both clocks say, and for how many seconds the machine was suspended since it was started. Gives whether
        one has not gone as the other: it was set, or the machine was suspended, and nothing is known of the time
        between."""
        jumped = False
        if self._clocks is None:
            # At most so long ago it was switched on. When it was suspended nobody knows.
            self._since = wall - monotonic if suspended <= _JUMP else wall
        elif abs((wall - self._clocks[0]) - (monotonic - self._clocks[1])) > _JUMP:
            self._since = wall
            jumped = True
        self._clocks = wall, monotonic
        return jumped

    # ---- what it tells

    def plan(self, wall: float) -> Plan | None:
        """The schedules that count: the configured ones, else those that are learned with confidence."""
        if wall >= _LAST_PLANNED:
            return None
        if self._configured is not None:
            return self._configured
        learned = tuple(s for s, told in self._learn(wall) if told.confidence >= _CONFIDENT)
        return Plan(learned, **self._spans, learned=True) if learned and self._may_learn else None

    def _learn(self, wall: float) -> tuple[tuple[Schedule, LearnedSchedule], ...]:
        if wall >= _LAST_PLANNED:
            return ()
        if self._learned_at is None or not 0 <= wall - self._learned_at < _LEARN_AGAIN:
            self._learned = learn([run.start for run in self._runs.values()], wall, self._zones)
            self._learned_at = wall
        return self._learned

    def outlook(self, wall: float, running: bool = False, loads: Loads | None = None) -> Outlook:
        """What is known at this moment; `running` says that a backup is under way. With loads, also what is over is
        told, with how busy the machine was in those windows."""
        plan = self.plan(wall)
        told = Outlook(
            at=wall,
            phase=Phase.OPEN if running else Phase.IDLE,
            lead=self._spans["lead"],
            configured=self._configured is not None,
            learned=tuple(learned for _, learned in self._learn(wall)),
            since=self._since,
            unread=self._unread,
            unplanned="the clock shows the end of all dates" if wall >= _LAST_PLANNED else "",
            predictions=tuple(told for _, told in sorted(self._predictions.items()) if told.start <= wall)[
                -_SHOWN_PREDICTIONS:
            ],
            scores=self.scores,
        )
        if loads is not None:
            begun = plan.between(wall - _LOOK_BACK, wall) if plan is not None else ()
            passed = tuple(window for window in begun if window.end <= wall)[-_MOST_WINDOWS:]
            within = {load.start: load for window in passed for load in loads.overlapping(window.start, window.end)}
            told = replace(
                told,
                passed=passed,
                # Where the record is gone, so is the extension: no backup is awaited, whatever there once was.
                runs=tuple(self._runs.values()) if self._on_record else (),
                loads=tuple(within.values()),
            )
        if plan is None:
            return told
        upcoming, interval, most_lead = self._coming(plan, wall)
        lead = min(self._spans["lead"], most_lead)
        current, following = plan.current(wall), upcoming[0] if upcoming else None
        is_open = running or (current is not None and not any(r.happened in GOOD for r in self._within(current, wall)))
        away = following.start - wall if following else float("inf")
        return replace(
            told,
            phase=Phase.OPEN
            if is_open
            else Phase.HOLD
            if away <= min(self._spans["hold"], lead)
            else Phase.LEAD
            if away <= lead
            else Phase.IDLE,
            window=current if is_open and current is not None else following,
            upcoming=upcoming,
            lead=lead,
            expected_interval=interval,
        )

    def recent(self, wall: float, seconds: float, most: int) -> tuple[tuple[Run, ...], tuple[Window, ...]]:
        """The newest backups on record, at most so many, oldest first; and the windows of which a part lies in the
        seconds before this moment."""
        plan, ago = self.plan(wall), wall - seconds
        begun = plan.between(ago - min(plan.length, _AHEAD), wall) if plan is not None else ()
        return tuple(self._runs.values())[-most:], tuple(window for window in begun if window.end > ago)

    def _coming(self, plan: Plan, wall: float) -> tuple[tuple[Window, ...], float | None, float]:
        """The next windows, the longest time between two, and how long a lead before the first can be at most; reckoned
        anew when one of them has begun."""
        known = self._ahead
        if known is None or known[0] != plan or not known[1] <= wall < known[2][0].start:
            windows = [window for window in plan.between(wall - _AHEAD, wall + _AHEAD) if window.start > wall - _AHEAD]
            coming = [window for window in windows if window.start > wall]
            if not coming:
                return (), None, 0.0
            before = max((window.end for window in windows if window.start <= wall), default=-math.inf)
            most_lead = max(0.0, (coming[0].start - before) * _MOST_LEAD)
            known = self._ahead = plan, wall, tuple(coming[:_SHOWN_WINDOWS]), plan.expected_interval(wall), most_lead
        return known[2:]

    def _within(self, window: Window, wall: float, belongs: Callable[[Run, Window, float], bool] = is_own) -> list[Run]:
        """The backups of a window that have ended. What lies ahead of the clock was noted by another one."""
        starts, runs = self._by_start
        length = self._spans["duration"]
        first, last = bisect_left(starts, window.start - SKEW), bisect_right(starts, window.end + max(SKEW, length))
        return [run for run in runs[first:last] if belongs(run, window, length) and run.ended <= wall + _AHEAD_OF_US]

    # ---- predictions

    def hold(self, before: Snapshot, now: Snapshot, running: bool) -> tuple[Prediction, ...]:
        """What was believed when a window opened is its prediction; what came of a window is held against it. Gives
        those that are new or newly settled."""
        outlook = now.outlook
        if outlook is None:
            return ()
        wall = outlook.at
        plan = self.plan(wall)
        changed = []
        current = plan.current(wall) if plan is not None else None
        said = self._said(before, now, current, wall, running) if current is not None else None
        changed += [said] if said is not None else []
        length = self._spans["start_window"] + self._spans["duration"]
        for prediction in self._predictions.values():
            if prediction.happened is None and (said is None or said.start != prediction.start):
                window = Window(prediction.start, prediction.start + length, "")
                if (happened := self._happened(window, plan, wall, running)) is not None:
                    changed.append(replace(prediction, happened=happened, told=wall))
        for prediction in changed:
            self._keep(prediction)
            if prediction.happened is not None:
                self._settled[prediction.verdict, prediction.happened] += 1
        return tuple(changed)

    def _said(self, before: Snapshot, now: Snapshot, window: Window, wall: float, running: bool) -> Prediction | None:
        """What was said last before it opened; else, as long as its backup has not begun, what is said now, once
        everything has been looked at."""
        known = self._predictions.get(window.start)
        earlier = before.outlook.at if before.outlook is not None else wall
        # It opens now. Where it has done so before, by a clock that was set back since, what is said now is newer.
        if 0 < window.start - earlier <= _FRESH and _looked(before):
            said, made = before, earlier
        elif known is None and not running and not self._within(window, wall) and self._looked_lately(now):
            said, made = now, wall
        else:
            return None
        if known is not None and known.happened is not None:
            return None
        codes = tuple(dict.fromkeys(reason.problem.code for reason in said.reasons))
        return Prediction(window.start, made, said.verdict, codes)

    def _looked_lately(self, snapshot: Snapshot) -> bool:
        """Whether everything has been looked at since the clocks went as they do."""
        since = self._since if self._since is not None else 0.0
        return _looked(snapshot) and all((run.last_run or 0.0) >= since for run in snapshot.probes)

    def _happened(self, window: Window, plan: Plan | None, wall: float, running: bool) -> Happened | None:
        """What came of a window; None as long as it is not known."""
        ended = sorted(self._within(window, wall), key=lambda run: run.ended)
        for run in ended:
            if run.happened in GOOD:
                return run.happened
        if running or wall < window.end + self._looked_for or self._unread:
            return None
        if ended:
            return ended[-1].happened
        for run in self._within(window, wall, is_near):
            if run.happened in GOOD:
                return run.happened
        # Nothing ran; but was it expected to? Of a machine that was off the platform takes the disks, and nothing is on
        # record; and what is no window any more, by a schedule that has changed since, never may have been one.
        lived = self._since is not None and self._since <= window.start
        if not (self._expects_runs and lived and plan is not None and wall <= window.end + _GIVEN_UP):
            return None
        return Happened.MISSED if plan.between(window.start, window.start + 1) else None

    def _keep(self, prediction: Prediction) -> None:
        """Newer ones behind older, and the oldest are let go."""
        self._predictions.pop(prediction.start, None)
        self._predictions[prediction.start] = prediction
        if len(self._predictions) > _MOST_PREDICTIONS:
            del self._predictions[next(iter(self._predictions))]


def _looked(snapshot: Snapshot) -> bool:
    return bool(snapshot.probes) and all(run.last_run is not None for run in snapshot.probes)


def _identity(run: Run) -> tuple[int, int]:
    return run.code, int(run.ended)


def _both(older: Run, newer: Run) -> Run:
    """What is known of one run; a log that has been rotated away does not take it back."""
    return replace(newer, began=older.began if newer.began is None else newer.began, path=newer.path or older.path)


def is_running(snapshot: Snapshot) -> bool:
    """Whether a backup is under way."""
    return any(reading.metric == _RUNNING and reading.value for reading in snapshot.readings)
