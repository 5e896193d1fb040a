"""The calendar by clocks that the tests move: where a moment stands, what is predicted of a window, and what came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupready.config import Config
from backupready.mind.calendar import Calendar, local_zone
from backupready.mind.history import Recalled
from backupready.mind.judge import Kept
from backupready.mind.loads import SLOT, Loads
from backupready.mind.state import decode, encode
from backupready.model import Finding, Happened, Load, Outlook, Phase, Prediction, Run, Snapshot, Verdict, Window
from backupready.window import Plan
from fake import configuration, looked, probe, problem, snapshot

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BERLIN = "Europe/Berlin"
# Monday, 22:00 in Berlin.
START = datetime(2026, 11, 23, 21, tzinfo=timezone.utc).timestamp()
END = START + 2.5 * HOUR
RECORDED = 15 * MINUTE

KNOWN = [probe("agent", [problem("AGENT_STOPPED")])]
WELL = snapshot(looked("agent"), known=KNOWN)
BROKEN = snapshot(looked("agent", Finding("AGENT_STOPPED")), known=KNOWN)
SUCCEEDED, CRASH_CONSISTENT, FAILED = Happened.SUCCEEDED, Happened.CRASH_CONSISTENT, Happened.FAILED
ELSEWHERE, MISSED = Happened.FAILED_ELSEWHERE, Happened.MISSED


def configured(schedule: str = "daily at 22:00", **changes: str) -> Config:
    texts: dict[str, Any] = {"window__schedule": schedule, "window__time_zone": BERLIN, **changes}
    return configuration(**texts)


def run(began: float, happened: Happened = SUCCEEDED, seconds: float = 5 * MINUTE) -> Run:
    code = {SUCCEEDED: 1, CRASH_CONSISTENT: 3, FAILED: 41, ELSEWHERE: 76}[happened]
    return Run(began + seconds, code, happened, began)


class Life:
    """A machine with a calendar and both clocks, which has been up for ten days. All of it is looked at in each turn.

    `runs` are those that will have been, each on record from its end on. `told` is what the calendar held, in order.
    """

    def __init__(self, config: Config | None = None, at: float = START - 6 * HOUR, runs: Iterable[Run] = ()) -> None:
        self.config = config or configured()
        self.calendar = Calendar(self.config, BERLIN)
        self.wall, self.monotonic = at, 10 * DAY
        self.runs = tuple(runs)
        self.verdicts = WELL
        self.readable = True
        self.blind_since: float | None = None  # nothing has been looked at from then on
        self.told: list[Prediction] = []
        self.kept: dict[float, Prediction] = {}
        self.before: Snapshot | None = None
        self.turn()

    @property
    def outlook(self) -> Outlook:
        assert self.before is not None
        assert self.before.outlook is not None
        return self.before.outlook

    @property
    def running(self) -> bool:
        return any(one.start <= self.wall < one.ended for one in self.runs)

    def settled(self, start: float = START) -> list[Happened]:
        return [one.happened for one in self.told if one.start == start and one.happened is not None]

    def predicted(self, start: float = START) -> list[Prediction]:
        return [one for one in self.told if one.start == start and one.happened is None]

    def turn(self) -> None:
        self.calendar.tick(self.wall, self.monotonic)
        if self.readable:
            self.calendar.read(one for one in self.runs if one.ended <= self.wall)
        else:
            self.calendar.unread("the status files cannot be read")
        seen = self.wall if self.blind_since is None else min(self.wall, self.blind_since)
        probes = tuple(replace(one, last_run=seen) for one in self.verdicts.probes)
        outlook = self.calendar.outlook(self.wall, self.running)
        now = replace(self.verdicts, probes=probes, checked_at=seen, outlook=outlook)
        if self.before is not None:
            changed = self.calendar.hold(self.before, now, self.running)
            self.told += changed
            # As the history keeps it: what is settled stays.
            self.kept.update({one.start: one for one in changed if not self._is_settled(one.start)})
            now = replace(now, outlook=self.calendar.outlook(self.wall, self.running))
        self.before = now

    def _is_settled(self, start: float) -> bool:
        return start in self.kept and self.kept[start].happened is not None

    def goes_on(self, seconds: float, step: float = MINUTE) -> Life:
        until = self.wall + seconds
        while self.wall < until:
            passed = min(step, until - self.wall)
            self.wall, self.monotonic = self.wall + passed, self.monotonic + passed
            self.turn()
        return self

    def until(self, moment: float, step: float = MINUTE) -> Life:
        return self.goes_on(moment - self.wall, step)

    def clock_is_set(self, seconds: float) -> Life:
        self.wall += seconds
        self.turn()
        return self

    # The monotonic clock stands still while the machine does.
    sleeps = clock_is_set

    def takes_over(self, config: Config) -> Life:
        self.config = config
        self.calendar = Calendar(config, BERLIN, self.calendar)
        return self

    def is_killed(self, off: float = 0.0) -> Life:
        """It knows then what the history has, and has not looked yet."""
        self.wall, self.monotonic = self.wall + off, self.monotonic + off
        clocks = self.calendar.clocks("this one")
        assert clocks is not None
        self.calendar = Calendar(self.config, BERLIN)
        self.calendar.resume(clocks)
        kept_runs = tuple(one for one in self.runs if one.ended <= self.wall - off)
        self.calendar.recall(Recalled(runs=kept_runs, predictions=tuple(self.kept.values())))
        self.before = None
        self.turn()
        return self


# ------------------------------------------------------------------------------------------------------- phases


@pytest.mark.parametrize(
    ("after", "phase", "start"),
    [
        (-4 * HOUR - 1, Phase.IDLE, START),
        (-4 * HOUR, Phase.LEAD, START),
        (-15 * MINUTE - 1, Phase.LEAD, START),
        (-15 * MINUTE, Phase.HOLD, START),
        (-1, Phase.HOLD, START),
        (0, Phase.OPEN, START),
        (2.5 * HOUR - 1, Phase.OPEN, START),
        (2.5 * HOUR, Phase.IDLE, START + DAY),
    ],
)
def test_where_a_moment_stands(after: float, phase: Phase, start: float) -> None:
    """Each phase from its first to its last second, and the window that the verdict speaks of."""
    outlook = Life(at=START + after).outlook
    assert (outlook.phase, outlook.window.start if outlook.window else None) == (phase, start)
    assert outlook.configured
    assert outlook.expected_interval == DAY


def test_what_was_said_of_a_window_ahead_by_a_clock_that_was_wrong_is_not_shown() -> None:
    """It has not been."""
    life = Life().until(START - 2 * HOUR).clock_is_set(3 * HOUR).goes_on(MINUTE)
    assert [one.start for one in life.outlook.predictions] == [START]
    assert life.clock_is_set(-3 * HOUR).outlook.predictions == ()


@pytest.mark.parametrize(
    ("happened", "phase"),
    [(SUCCEEDED, Phase.IDLE), (CRASH_CONSISTENT, Phase.IDLE), (FAILED, Phase.OPEN), (ELSEWHERE, Phase.OPEN)],
)
def test_a_window_is_over_with_a_good_backup_and_not_with_a_failed_one(happened: Happened, phase: Phase) -> None:
    """A failed one is tried again within the window."""
    life = Life(runs=[run(START + HOUR, happened)]).until(START + 2 * HOUR)
    assert life.outlook.phase is phase


def test_a_backup_under_way_is_open_wherever_it_stands() -> None:
    """Also one that somebody began by hand."""
    by_hand = run(START - 5 * HOUR, seconds=10 * MINUTE)
    life = Life(runs=[by_hand]).until(by_hand.start + MINUTE)
    assert life.outlook.phase is Phase.OPEN
    assert life.until(by_hand.ended + MINUTE).outlook.phase is Phase.IDLE


def test_a_backup_by_hand_shortly_before_a_window_does_not_close_it() -> None:
    """The window's own is still to come."""
    life = Life(runs=[run(START - 3 * MINUTE, seconds=MINUTE), run(START + HOUR)]).until(START + 30 * MINUTE)
    assert life.outlook.phase is Phase.OPEN
    assert life.until(START + HOUR + 10 * MINUTE).outlook.phase is Phase.IDLE


@pytest.mark.parametrize(
    ("schedule", "spans", "lead", "hold", "phases"),
    [
        ("daily at 22:00", {}, 4 * HOUR, 15 * MINUTE, [Phase.IDLE, Phase.LEAD, Phase.HOLD]),
        ("daily at 22:00", {"window__lead": "6h"}, 21.5 * HOUR / 4, 15 * MINUTE, [Phase.IDLE, Phase.LEAD, Phase.HOLD]),
        ("daily at 22:00", {"window__lead": "10min"}, 10 * MINUTE, 10 * MINUTE, [Phase.IDLE, Phase.HOLD, Phase.HOLD]),
        (
            "hourly every 4 hours from 02:00 for 24 hours",
            {},
            1.5 * HOUR / 4,
            15 * MINUTE,
            [Phase.IDLE, Phase.LEAD, Phase.HOLD],
        ),
        (
            "hourly every 4 hours from 02:00 for 24 hours",
            {"window__hold": "1h"},
            1.5 * HOUR / 4,
            1.5 * HOUR / 4,
            [Phase.IDLE, Phase.HOLD, Phase.HOLD],
        ),
        (
            "hourly every 4 hours from 02:00 for 24 hours",
            {"window__start_window": "5h"},
            0.0,
            0.0,
            [Phase.OPEN, Phase.OPEN, Phase.OPEN],
        ),
    ],
)
def test_a_lead_leaves_time_that_is_none(
    schedule: str, spans: dict[str, str], lead: float, hold: float, phases: list[Phase]
) -> None:
    """At most a quarter of the time between two windows is lead, and hold no more than that."""
    calendar = Calendar(configured(schedule, **spans), BERLIN)
    assert calendar.outlook(START - 10 * MINUTE).lead == lead
    assert [calendar.outlook(START - before).phase for before in (lead + 1, lead, hold)] == phases


@pytest.mark.parametrize("schedule", ["daily at 22:00", "hourly every 4 hours from 02:00 for 24 hours", ""])
def test_at_the_end_of_all_dates_it_has_no_plan_and_says_so(schedule: str) -> None:
    """A clock may show anything."""
    calendar = Calendar(configured(schedule), BERLIN)
    calendar.read([run(START - day * DAY) for day in range(10)])
    for end in (datetime(9999, 1, 1, tzinfo=timezone.utc), datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)):
        wall = end.timestamp()
        calendar.tick(wall, DAY)
        outlook = calendar.outlook(wall, loads=Loads())
        assert (outlook.window, outlook.phase, outlook.passed) == (None, Phase.IDLE, ())
        assert "end of all dates" in outlook.unplanned
        now = replace(WELL, outlook=outlook)
        assert calendar.hold(now, now, running=False) == ()
    assert calendar.outlook(end.timestamp() - 366 * DAY).unplanned == ""


def test_what_nobody_can_tell_any_more_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """For windows that are given up no plan is reckoned, and of dense ones no more than some weeks are looked back."""
    config = configured("hourly every 4 hours from 02:00 for 24 hours")
    asked: list[float] = []
    between = Plan.between

    def counted(plan: Plan, after: float, before: float) -> tuple[Window, ...]:
        asked.append(after)
        return between(plan, after, before)

    monkeypatch.setattr(Plan, "between", counted)
    for given_up in (0, 50):
        life = Life(config).goes_on(HOUR)
        old = tuple(Prediction(START - n * 4 * HOUR, START, Verdict.READY, ()) for n in range(20, 20 + given_up))
        life.calendar.recall(Recalled(predictions=old))
        asked.clear()
        life.turn()
        assert len(asked) < 6
    assert 50 < len(life.calendar.outlook(START, loads=Loads()).passed) <= 100


def test_without_a_schedule_nothing_is_said_of_windows() -> None:
    """And nothing is predicted, missed or wrong."""
    life = Life(configured("")).until(END + HOUR, 5 * MINUTE)
    assert (life.outlook.window, life.outlook.upcoming, life.outlook.phase) == (None, (), Phase.IDLE)
    assert not life.outlook.configured
    assert life.told == []


def test_what_was_noted_by_a_clock_that_was_ahead_does_not_close_a_window() -> None:
    """A run that ends an hour from now has not been."""
    life = Life(at=START + 10 * MINUTE)
    ahead = run(START + MINUTE, seconds=HOUR)
    life.calendar.read([ahead])
    assert life.calendar.outlook(life.wall).phase is Phase.OPEN


# -------------------------------------------------------------------------------------------- predicted and settled


@pytest.mark.parametrize(
    ("runs", "happened"),
    [
        ([run(START + HOUR)], SUCCEEDED),
        ([run(START + HOUR, CRASH_CONSISTENT)], CRASH_CONSISTENT),
        ([run(START + HOUR, FAILED), run(START + 2 * HOUR)], SUCCEEDED),
        ([run(START + HOUR), run(START + 2 * HOUR, FAILED)], SUCCEEDED),
        ([run(START + HOUR, FAILED)], FAILED),
        ([run(START + HOUR, FAILED), run(START + 2 * HOUR, ELSEWHERE)], ELSEWHERE),
        ([], MISSED),
        ([run(START - 45, seconds=30)], SUCCEEDED),
        ([run(START - 45, seconds=10 * MINUTE)], SUCCEEDED),
        ([run(START - 6 * MINUTE, seconds=MINUTE)], MISSED),
        ([run(START - 5 * MINUTE, seconds=MINUTE)], SUCCEEDED),
        ([run(START - 5 * MINUTE, seconds=MINUTE), run(START + HOUR, FAILED)], FAILED),
        ([run(START - 5 * MINUTE, FAILED, seconds=MINUTE)], MISSED),
        ([run(END + 6 * MINUTE)], MISSED),
        ([run(END + 5 * MINUTE)], SUCCEEDED),
        ([Run(END + 30 * MINUTE, 1, SUCCEEDED)], MISSED),
        ([Run(END + 15 * MINUTE, 1, SUCCEEDED)], SUCCEEDED),
        ([Run(END + 10 * MINUTE, 41, FAILED)], FAILED),
        ([run(END - 5 * MINUTE, seconds=HOUR)], SUCCEEDED),
    ],
    ids=[
        "succeeded", "crash consistent", "failed, then succeeded", "succeeded, then failed", "failed",
        "failed elsewhere at last", "missed", "a little early", "under way as it opens", "by hand before it",
        "by another clock or by hand", "by hand, and then its own", "failed before it", "after it",
        "after it by another clock", "unknown beginning, on record too late", "unknown beginning",
        "failed, unknown beginning", "under way at its end",
    ],
)  # fmt: skip
def test_each_window_has_one_prediction_and_one_outcome(runs: list[Run], happened: Happened) -> None:
    """Whatever comes of it, told once."""
    life = Life(runs=runs).until(END + 2 * HOUR)
    (said,) = life.predicted()
    assert (said.verdict, said.reasons) == (Verdict.READY, ())
    assert START - MINUTE <= said.made < START
    assert life.settled() == [happened]
    assert life.outlook.scores == ((Verdict.READY, happened, 1),)
    assert [one.happened for one in life.outlook.predictions] == [happened]


def test_what_is_believed_last_before_the_window_is_the_prediction() -> None:
    """Not what was believed in the lead time, nor what is found in the window."""
    life = Life(runs=[run(START + HOUR, FAILED)]).until(START - 2 * HOUR)
    life.verdicts = BROKEN
    life.until(START + MINUTE).verdicts = WELL
    life.until(END + HOUR)
    (said,) = life.predicted()
    assert (said.verdict, said.reasons) == (Verdict.BLOCKED, ("AGENT_STOPPED",))
    assert life.outlook.scores == ((Verdict.BLOCKED, FAILED, 1),)


def test_a_good_outcome_is_told_at_once_and_another_when_it_is_certain() -> None:
    """A failed backup may be tried again until the window ends; its record may be late."""
    good = Life(runs=[run(START + HOUR)]).until(START + HOUR + 6 * MINUTE)
    assert good.settled() == [SUCCEEDED]
    again = Life(runs=[run(START + HOUR, FAILED), run(START + 2 * HOUR)]).until(START + 2 * HOUR + 6 * MINUTE)
    assert again.settled() == [SUCCEEDED]
    for runs, happened in (([run(START + HOUR, FAILED)], FAILED), ([], MISSED)):
        life = Life(runs=runs).until(END + RECORDED - MINUTE)
        assert life.settled() == []
        assert life.goes_on(2 * MINUTE).settled() == [happened]


def test_while_the_record_cannot_be_read_nothing_is_missed() -> None:
    """It is told when it can be."""
    life = Life(runs=[run(START + HOUR, FAILED)])
    life.readable = False
    assert life.until(END + 3 * HOUR).settled() == []
    life.readable = True
    assert life.goes_on(MINUTE).settled() == [FAILED]


def test_whose_record_nobody_reads_has_missed_nothing() -> None:
    """Where the probe is switched off, from the start or by a reload."""
    without = configured(past__enabled="no")
    life = Life().until(START + HOUR).takes_over(without)
    life.readable = False
    unread = life.goes_on(MINUTE).outlook.unread
    assert unread
    assert life.until(END + HOUR).settled() == []
    assert "switched off" in Calendar(without).outlook(START).unread
    assert "switched off" in Calendar(without, before=life.calendar).outlook(START).unread


def test_where_the_policy_needs_nothing_in_here_no_run_is_awaited() -> None:
    """An agentless backup leaves no record."""
    life = Life(configured(window__consistency="crash")).until(END + HOUR)
    assert len(life.predicted()) == 1
    assert life.settled() == []


def test_nothing_is_predicted_before_everything_was_looked_at() -> None:
    """A daemon that starts in a window speaks of it as soon as it knows something."""
    life = Life(at=START + MINUTE)
    life.before, life.verdicts = None, snapshot(known=KNOWN)
    probes = life.verdicts.probes
    now = replace(life.verdicts, outlook=life.calendar.outlook(life.wall))
    assert all(one.last_run is None for one in probes)
    assert life.calendar.hold(now, now, running=False) == ()
    life.verdicts = WELL
    life.turn()
    (said,) = life.goes_on(MINUTE).predicted()
    assert said.made == START + 2 * MINUTE


@pytest.mark.parametrize("after", [-3 * MINUTE, MINUTE])
def test_of_a_backup_that_has_begun_nothing_is_predicted_any_more(after: float) -> None:
    """Nor of one that is over: that would be no prediction."""
    life = Life(at=START + HOUR + after, runs=[run(START + HOUR - 5 * MINUTE)]).until(END + HOUR)
    assert life.told == []


# ----------------------------------------------------------------------------------------------------- restarts


@pytest.mark.parametrize(
    "after",
    [-5 * HOUR, -2 * HOUR, -10 * MINUTE, 10 * MINUTE, 63 * MINUTE, 90 * MINUTE, 2.5 * HOUR + MINUTE, 3 * HOUR],
    ids=["idle", "lead", "hold", "open", "running", "good", "over", "idle again"],
)
@pytest.mark.parametrize("happened", [SUCCEEDED, FAILED])
def test_killed_it_goes_on_with_the_same_beliefs(after: float, happened: Happened) -> None:
    """In each phase: the same window, phase and predictions, nothing is told anew, and the end is the same."""
    life = Life(runs=[run(START + HOUR, happened)]).until(START + after)
    before, told = life.outlook, list(life.told)
    after_it = life.is_killed(off=5.0).outlook
    assert replace(after_it, at=before.at) == before
    life.goes_on(30.0, step=10.0)
    assert life.told == told
    life.until(END + HOUR)
    assert len(life.predicted()) == 1
    assert life.settled() == [happened]
    assert life.outlook.scores == ((Verdict.READY, happened, 1),)


def test_what_came_of_a_window_is_told_days_later_if_it_is_on_record() -> None:
    """A run that failed is known, however long nobody was there; that nothing ran is not."""
    failed = Life(runs=[run(START + HOUR, FAILED)]).until(START + MINUTE)
    assert failed.is_killed(off=3 * DAY).goes_on(MINUTE).settled() == [FAILED]
    nothing = Life().until(START + MINUTE)
    assert nothing.is_killed(off=3 * DAY).goes_on(MINUTE).settled() == []


def test_what_is_recalled_late_is_counted_once() -> None:
    """A disk may be frozen at the start; meanwhile something was found out already."""
    kept = Prediction(START, START - 5, Verdict.BLOCKED, ("AGENT_STOPPED",))
    life = Life(at=START + MINUTE).goes_on(MINUTE)
    assert len(life.predicted()) == 1
    newer, older = Run(START + 90, 1, SUCCEEDED, START + 30, "host"), Run(START + 90, 1, CRASH_CONSISTENT)
    life.calendar.read([newer])
    life.calendar.recall(Recalled(runs=(older,), predictions=(kept, replace(kept, start=START - DAY, happened=FAILED))))
    assert life.calendar.outlook(life.wall, loads=Loads()).runs == (newer,)
    life.runs = (newer,)
    outlook = life.goes_on(2 * MINUTE).outlook
    assert {(one.start, one.made, one.happened) for one in outlook.predictions} == {
        (START, START - 5, SUCCEEDED),
        (START - DAY, START - 5, FAILED),
    }
    assert dict.fromkeys(outlook.scores) == dict.fromkeys(
        [(Verdict.BLOCKED, FAILED, 1), (Verdict.BLOCKED, SUCCEEDED, 1)]
    )


@pytest.mark.parametrize("recalled_first", [True, False])
def test_the_score_does_not_go_back(recalled_first: bool) -> None:
    """What was counted in earlier runs counts, although the history has forgotten a part, or is read late; and no
    window counts twice."""
    calendar = Calendar(configured())
    told: list[tuple[tuple[Verdict, Happened, int], ...]] = []
    old = [Prediction(START - n * DAY, START - n * DAY, Verdict.READY, (), SUCCEEDED) for n in range(1, 4)]
    new = replace(old[0], verdict=Verdict.BLOCKED)
    sources: list[Callable[[], None]] = [
        lambda: calendar.recall(Recalled(predictions=(*old[1:], new))),
        lambda: calendar.count_before([(Verdict.READY, SUCCEEDED, 7), (Verdict.READY, FAILED, 1)]),
    ]
    for source in sources if recalled_first else sources[::-1]:
        source()
        told.append(calendar.outlook(START).scores)
    ready, first = (Verdict.READY, SUCCEEDED, 7), told[0]
    assert set(told[1]) == {ready, (Verdict.READY, FAILED, 1), (Verdict.BLOCKED, SUCCEEDED, 1)}
    assert ((Verdict.READY, SUCCEEDED, 2) if recalled_first else ready) in first
    life = Life(at=START - HOUR, runs=[run(START + HOUR)])
    life.calendar.count_before([ready])
    life.until(END + HOUR)
    assert life.outlook.scores == ((Verdict.READY, SUCCEEDED, 8),)
    assert life.takes_over(configured()).goes_on(MINUTE).outlook.scores == ((Verdict.READY, SUCCEEDED, 8),)


# ------------------------------------------------------------------------------------------- clocks that are set


@pytest.mark.parametrize("hours", [-26, -3, -1, 1, 3, 26])
@pytest.mark.parametrize(
    "after",
    [-5 * HOUR, -2 * HOUR, -12 * MINUTE, 5 * MINUTE, 75 * MINUTE],
    ids=["idle", "lead", "hold", "open", "over"],
)
def test_a_clock_that_is_wrong_for_a_while_neither_loses_a_window_nor_counts_it_twice(after: float, hours: int) -> None:
    """Set back or forward by hours in each phase, and put right ten minutes later."""
    runs = [run(START + day * DAY + HOUR) for day in range(3)]
    life = Life(runs=runs).until(START + after)
    life.runs = tuple(one for one in runs if one.ended <= life.wall)
    life.clock_is_set(hours * HOUR).goes_on(10 * MINUTE).clock_is_set(-hours * HOUR)
    life.runs = tuple(runs)
    life.until(START + 2 * DAY + 4 * HOUR, 2 * MINUTE)
    for start in (START, START + DAY, START + 2 * DAY):
        assert life.settled(start) == [SUCCEEDED]
    assert {one.happened for one in life.told} == {None, SUCCEEDED}
    if after < 0:
        assert START - 2 * MINUTE <= life.outlook.predictions[0].made < START


def test_a_window_that_is_over_does_not_open_again_for_a_clock_that_is_set_back() -> None:
    """What came of it stands, although its start comes a second time."""
    life = Life(runs=[run(START + HOUR)]).until(START + 2 * HOUR)
    life.clock_is_set(-3 * HOUR).verdicts = BROKEN
    life.runs = ()
    life.until(END + HOUR)
    assert (len(life.predicted()), life.settled()) == (1, [SUCCEEDED])
    assert [one.verdict for one in life.outlook.predictions] == [Verdict.READY]


def test_a_clock_that_is_set_back_has_its_windows_before_it_again() -> None:
    """The next one is reckoned anew."""
    life = Life(at=END + HOUR)
    assert life.outlook.upcoming[0].start == START + DAY
    outlook = life.clock_is_set(-5 * HOUR).outlook
    assert (outlook.upcoming[0].start, outlook.phase) == (START, Phase.LEAD)


def test_a_clock_that_was_wrong_is_not_asked_for_the_past() -> None:
    """Forward over a whole window and never back: nobody knows what was in it."""
    life = Life().until(START - 2 * HOUR).clock_is_set(6 * HOUR).goes_on(HOUR)
    assert life.told == []
    assert life.outlook.since == START + 4 * HOUR


def test_asleep_over_the_start_it_speaks_once_it_has_looked_again() -> None:
    """What was seen before says little: the prediction waits until everything has been looked at since."""
    life = Life(runs=[run(START + HOUR)]).until(START - 20 * MINUTE)
    life.blind_since = life.wall
    life.sleeps(40 * MINUTE).goes_on(5 * MINUTE)
    assert life.told == []
    life.blind_since = None
    (said,) = life.goes_on(MINUTE).predicted()
    assert said.made == START + 26 * MINUTE
    assert life.until(END + HOUR).settled() == [SUCCEEDED]


@pytest.mark.parametrize(("asleep", "awake"), [(-20 * MINUTE, 30 * MINUTE), (-HOUR, 4 * HOUR)], ids=["start", "whole"])
def test_of_a_machine_that_slept_no_backup_was_missed(asleep: float, awake: float) -> None:
    """Of one that stands still the platform takes the disks."""
    life = Life().until(START + asleep).sleeps(awake - asleep).until(START + 12 * HOUR, 5 * MINUTE)
    assert life.settled() == []
    assert life.until(START + DAY + 4 * HOUR, 5 * MINUTE).settled(START + DAY) == [MISSED]


@pytest.mark.parametrize("then", ["sleeps, is killed", "is killed, sleeps", "sleeps while nobody is there"])
def test_a_restart_does_not_forget_that_the_machine_slept(then: str) -> None:
    """Over a window, in whichever order: nothing was missed, and it is up since it woke up."""
    life = Life().until(START - HOUR)
    if then == "sleeps, is killed":
        life.sleeps(5 * HOUR).is_killed(5.0)
    elif then == "is killed, sleeps":
        life.is_killed(5.0).sleeps(5 * HOUR)
    else:
        life.wall += 5 * HOUR
        life.is_killed(5.0)
    assert life.outlook.since == pytest.approx(START + 4 * HOUR, abs=10.0)
    assert life.until(START + 12 * HOUR, 5 * MINUTE).settled() == []


def test_of_a_machine_that_was_suspended_nobody_knows_when() -> None:
    """Where nothing was kept, it counts from now on; by a second that two readings of a clock take it was not."""
    for suspended, since in ((0.5, START - DAY), (61.0, START)):
        calendar = Calendar(configured(), BERLIN)
        calendar.tick(START, DAY, suspended)
        assert calendar.outlook(START).since == since


def test_what_was_kept_by_a_clock_that_was_ahead_can_be_read_again() -> None:
    """A clock that goes back a little is no jump, and makes no moment later than the present."""
    calendar = Calendar(configured(), BERLIN)
    assert calendar.clocks("this one") is None
    calendar.tick(START, 5.0)
    calendar.tick(START - 30, 6.0)
    clocks = calendar.clocks("this one")
    assert clocks is not None
    assert decode(encode(Kept(clocks=clocks))).clocks == clocks


def test_a_machine_that_was_switched_on_in_a_window_has_missed_nothing() -> None:
    """Its backup may have been taken while it was off."""
    life = Life(at=START + 10 * MINUTE)
    life.monotonic = MINUTE
    life.calendar, life.before = Calendar(life.config, BERLIN), None
    life.turn()
    assert len(life.goes_on(MINUTE).predicted()) == 1
    assert life.until(END + HOUR).settled() == []


@pytest.mark.parametrize(
    ("wall", "monotonic", "jumped"), [(10, 10, False), (65, 10, False), (75, 10, True), (-55, 10, True)]
)
def test_a_jump_is_told(wall: float, monotonic: float, jumped: bool) -> None:
    """So that everything is looked at anew; a clock that is steered is none."""
    calendar = Calendar(configured())
    assert not calendar.tick(START, 1000.0)
    assert calendar.tick(START + wall, 1000.0 + monotonic) is jumped
    assert calendar.outlook(START).since == (START + wall if jumped else START - 1000.0)


# ----------------------------------------------------------------------------------- schedules that change, or overlap


@pytest.mark.parametrize("other", ["daily at 03:00", ""], ids=["another", "none"])
def test_a_schedule_that_changes_in_an_open_window_misses_none(other: str) -> None:
    """What is no window any more may never have been one; a backup that comes settles what was said all the same."""
    quiet = Life().until(START + HOUR).takes_over(configured(other)).until(END + HOUR)
    assert quiet.settled() == []
    life = Life(runs=[run(START + 90 * MINUTE)]).until(START + HOUR).takes_over(configured(other)).until(END + HOUR)
    assert life.settled() == [SUCCEEDED]


def test_a_reload_that_leaves_the_schedule_keeps_what_was_said() -> None:
    """And what is looked forward to."""
    life = Life(runs=[run(START + HOUR)]).until(START + MINUTE)
    before = life.outlook
    life.takes_over(configured(window__lead="2h")).turn()
    assert (life.outlook.window, life.outlook.predictions) == (before.window, before.predictions)
    assert life.outlook.lead == 2 * HOUR
    life.until(END + HOUR)
    assert (len(life.predicted()), life.settled()) == (1, [SUCCEEDED])


def test_windows_every_four_hours_do_not_take_each_others_backups() -> None:
    """Each has its own prediction and outcome."""
    starts = [START - 2 * HOUR + 4 * HOUR * number for number in range(-2, 2)]  # 12:00 to 00:00
    happened = [SUCCEEDED, FAILED, MISSED, CRASH_CONSISTENT]
    runs = [run(start + HOUR, what) for start, what in zip(starts, happened) if what is not MISSED]
    config = configured("hourly every 4 hours from 08:00 for 16 hours")
    life = Life(config, at=starts[0] - HOUR, runs=runs).until(starts[-1] + 3 * HOUR)
    assert [life.settled(start) for start in starts] == [[what] for what in happened]
    assert all(len(life.predicted(start)) == 1 for start in starts)


def test_of_two_policies_whose_windows_overlap_each_has_its_own() -> None:
    """The later one is spoken of when it opens."""
    runs = [run(START + 30 * MINUTE), run(START + 90 * MINUTE, FAILED)]
    life = Life(configured("daily at 22:00; daily at 23:00"), runs=runs).until(START + HOUR)
    assert life.outlook.window is not None
    assert life.outlook.window.start == START + HOUR
    life.until(START + 5 * HOUR)
    assert [life.settled(start) for start in (START, START + HOUR)] == [[SUCCEEDED], [FAILED]]


def test_a_learned_schedule_counts_where_none_is_configured() -> None:
    """Its windows are told as learned, and predicted; with `learn = no` it is shown, and there are none."""
    runs = [run(START - day * DAY + 10 * MINUTE) for day in range(20, -1, -1)]
    life = Life(configured(""), runs=runs).until(END + HOUR)
    (window, *_) = life.outlook.upcoming
    (learned,) = life.outlook.learned
    assert window.learned
    assert START + DAY - HOUR <= window.start <= START + DAY + 10 * MINUTE
    assert learned.confidence > 0.9
    assert not life.outlook.configured
    (said,) = {one.start for one in life.told}
    assert (len(life.predicted(said)), life.settled(said)) == (1, [SUCCEEDED])
    life.takes_over(configured("", window__learn="no")).turn()
    assert (life.outlook.upcoming, life.outlook.learned) == ((), (learned,))


def test_what_is_learned_anew_counts_from_then_on() -> None:
    """A second schedule that appears on record has its windows among the next at once."""
    late = [run(START - day * DAY + 10 * MINUTE) for day in range(20, 0, -1)]
    early = [run(one.start - 12 * HOUR) for one in late]
    calendar = Calendar(configured(""), BERLIN)
    calendar.read(late)
    once = calendar.outlook(START - 9 * HOUR).upcoming
    calendar.read(late + early)
    twice = calendar.outlook(START - 9 * HOUR).upcoming
    assert {round((later.start - one.start) / HOUR) for one, later in zip(once, once[1:])} == {24}
    assert {round((later.start - one.start) / HOUR) for one, later in zip(twice, twice[1:])} == {12}


def test_what_is_learned_without_confidence_is_shown_and_not_gone_by() -> None:
    """Few backups, and five days of silence since."""
    calendar = Calendar(configured(""), BERLIN)
    calendar.read([run(START - day * DAY + 10 * MINUTE) for day in range(10, 4, -1)])
    outlook = calendar.outlook(START)
    (learned,) = outlook.learned
    assert 0 < learned.confidence < 0.6
    assert (outlook.upcoming, calendar.plan(START)) == ((), None)


def test_what_is_configured_goes_before_what_is_learned() -> None:
    """Both are told."""
    runs = [run(START - day * DAY + 10 * MINUTE) for day in range(20, -1, -1)]
    outlook = Life(configured("daily at 03:00"), at=END, runs=runs).outlook
    assert [one.schedule for one in outlook.learned] != []
    assert outlook.configured
    assert {window.schedule for window in outlook.upcoming} == {f"daily at 03:00 in {BERLIN}"}


# --------------------------------------------------------------------------------------------- record, loads, bounds


def test_of_the_record_only_what_is_new_is_news() -> None:
    """Not what is read again, nor what a log that was rotated away does not have any more."""
    calendar = Calendar(configured())
    whole = Run(START, 1, SUCCEEDED, START - 60, "host")
    assert calendar.read([whole]) == (whole,)
    assert calendar.read([whole]) == ()
    assert calendar.read([Run(START, 1, SUCCEEDED)]) == ()
    assert calendar.outlook(START, loads=Loads()).runs == (whole,)
    worse = replace(whole, happened=CRASH_CONSISTENT)
    assert calendar.read([worse]) == (worse,)


def test_what_is_kept_is_bounded() -> None:
    """Of runs and predictions the newest; the score counts all. What was let go is not news again."""
    calendar = Calendar(configured())
    runs = [run(START - number * HOUR) for number in range(1000)]
    calendar.recall(
        Recalled(
            runs=tuple(reversed(runs)),
            predictions=tuple(
                Prediction(START - n * HOUR, START, Verdict.READY, (), SUCCEEDED) for n in range(900, 0, -1)
            ),
        )
    )
    assert calendar.read(runs[-10:]) == ()
    outlook = calendar.outlook(START + DAY, loads=Loads())
    assert len(outlook.runs) == 400
    assert outlook.runs[-1] == runs[0]
    assert outlook.scores == ((Verdict.READY, SUCCEEDED, 900),)
    assert len(calendar._predictions) == 100
    assert [one.start for one in outlook.predictions] == [START - n * HOUR for n in range(10, 0, -1)]


def test_of_the_loads_those_in_past_windows_are_handed_on() -> None:
    """Each once, oldest first, although windows overlap."""
    loads = Loads()
    for number in range(3 * 288):
        loads.add(Load(START - number * SLOT, 0.1, 0.2))
    calendar = Calendar(configured("daily at 22:00; daily at 23:00"))
    outlook = calendar.outlook(START, loads=loads)
    spans = [(window.start, window.end) for window in outlook.passed]
    assert [load.start for load in outlook.loads] == [
        load.start for load in loads if any(start - SLOT < load.start < end for start, end in spans)
    ]
    assert 60 < len(outlook.loads) < 200
    assert (outlook.passed[0].start, outlook.passed[-1].end) == (START - 35 * DAY, START - DAY + 3.5 * HOUR)
    assert calendar.outlook(START).passed == ()


def test_the_newest_backups_and_the_windows_of_the_last_day() -> None:
    """Oldest first, at most so many; windows of which a part lies in it, also the one that is open."""
    calendar = Calendar(configured("daily at 22:00"))
    runs = [run(START - n * DAY) for n in range(5, 0, -1)]
    calendar.read(runs)
    newest, windows = calendar.recent(START + HOUR, DAY, 3)
    assert newest == tuple(runs[-3:])
    assert [window.start for window in windows] == [START - DAY, START]
    assert [window.start for window in calendar.recent(START + 4 * HOUR, DAY, 3)[1]] == [START]
    assert Calendar(configured("")).recent(START, DAY, 3) == ((), ())


def test_where_the_record_is_gone_no_backup_is_awaited() -> None:
    """What there once was is not told of an extension that is gone."""
    calendar = Calendar(configured())
    calendar.read([run(START)])
    assert len(calendar.outlook(START + HOUR, loads=Loads()).runs) == 1
    calendar.read([])
    assert calendar.outlook(START + HOUR, loads=Loads()).runs == ()


@pytest.mark.parametrize(
    ("target", "zone"),
    [
        ("/usr/share/zoneinfo/Europe/Berlin", BERLIN),
        ("../usr/share/zoneinfo/Etc/UTC", "Etc/UTC"),
        ("/usr/share/zoneinfo/Moon/Base", "UTC"),
        ("/usr/share/zoneinfo/", "UTC"),
        ("/somewhere/else", "UTC"),
        (None, "UTC"),
    ],
)
def test_the_machines_own_time_zone(tmp_path: Path, target: str | None, zone: str) -> None:
    """As /etc/localtime says, and UTC where that says nothing that is known."""
    (tmp_path / "etc").mkdir()
    if target is not None:
        (tmp_path / "etc/localtime").symlink_to(target)
    assert local_zone(str(tmp_path)) == zone


# ------------------------------------------------------------------------------------------------------ walking on

SCHEDULES = [
    "daily at 22:00",
    "daily at 02:30",  # a time that summer time skips, and one that comes twice
    "weekly on Sunday, Wednesday at 02:30",
    "hourly every 4 hours from 08:00 for 12 hours",
    "hourly every 6 hours from 00:00 for 24 hours in America/St_Johns",
]
TRIES = st.lists(st.sampled_from([SUCCEEDED, CRASH_CONSISTENT, FAILED, ELSEWHERE]), max_size=2)


@settings(max_examples=20)
@given(
    schedule=st.sampled_from(SCHEDULES),
    begin=st.sampled_from([(2026, 10, 19), (2027, 3, 22), (2026, 6, 1)]),
    steps=st.lists(st.integers(60, 800), min_size=1, max_size=7),
    nights=st.lists(st.tuples(TRIES, st.integers(-60, 6000), st.integers(30, 1500)), min_size=1, max_size=5),
    kills=st.integers(0, 400),
)
def test_each_window_that_is_lived_through_has_exactly_one_prediction_and_one_outcome(
    schedule: str,
    begin: tuple[int, int, int],
    steps: list[int],
    nights: list[tuple[list[Happened], int, int]],
    kills: int,
) -> None:
    """Whatever the schedule, the steps in which time goes on, the backups, and however often it is killed."""
    at = datetime(*begin, 12, 7, tzinfo=timezone.utc).timestamp()
    until = at + timedelta(days=6).total_seconds()
    config = configured(schedule)
    plan = Calendar(config).plan(at)
    assert plan is not None
    windows = [window for window in plan.between(at + 900, until) if window.end + RECORDED + 900 < until]
    expected, runs = {}, []
    for number, window in enumerate(windows):
        tries, offset, seconds = nights[number % len(nights)]
        night = [run(window.start + offset + turn * 1600, what, seconds) for turn, what in enumerate(tries)]
        runs += night
        good = [what for what in tries if what in (SUCCEEDED, CRASH_CONSISTENT)]
        expected[window.start] = good[0] if good else tries[-1] if tries else MISSED
    life, turn = Life(config, at=at, runs=runs), 0
    while life.wall < until:
        turn += 1
        life.goes_on(steps[turn % len(steps)], step=800)
        if kills and turn % kills == kills - 1:
            life.is_killed()
    assert {start: life.settled(start) for start in expected} == {start: [what] for start, what in expected.items()}
    assert {start: len(life.predicted(start)) for start in expected} == dict.fromkeys(expected, 1)
    assert sum(times for *_, times in life.outlook.scores) == sum(len(life.settled(one)) for one in set(life.kept))
