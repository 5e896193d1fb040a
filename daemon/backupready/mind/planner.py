"""Which documented fix is to be asked for now, and of which would one like to know the steps?

For each reason of the verdict the gentlest remedy that has not been tried in its incident and fits this machine; one
request at a time, and only in the lead time before a window. No clock and no I/O in here: the caller says when, and
does the asking. Whatever is asked for, the hands check everything again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from backupready.model import (
    Attempt,
    BeliefState,
    Effect,
    Fixes,
    Outlook,
    Phase,
    Planned,
    Probe,
    ProbeState,
    Reason,
    Refusal,
    Remedy,
    Snapshot,
)
from backupready.wire import MOST_PLANS, FixAnswer, FixRequest, Which

_PLAN_EVERY = timedelta(minutes=5).total_seconds()  # in lead; a look costs a tenth of a second of processor time
_PLAN_APART = timedelta(seconds=20).total_seconds()  # however often the reasons change
_PLAN_LASTS = timedelta(minutes=15).total_seconds()  # by an older one nothing is asked
_WAIT_FIRST = timedelta(minutes=5).total_seconds()
_WAIT_LONGEST = timedelta(minutes=30).total_seconds()
_LOOK_FOR_DOOR = timedelta(minutes=1).total_seconds()
_SETTLES = timedelta(minutes=1).total_seconds()  # until it is seen what an attempt has come to
_LOOKS = timedelta(minutes=5).total_seconds()  # of the hands, before and after


@dataclass(frozen=True)
class Policy:
    """The settings of section fix that the mind goes by."""

    mode: str = "observe"
    allow: tuple[str, ...] = ()
    without_window: bool = False


@dataclass
class _Wait:
    """Until when (monotonic seconds) one fix is not asked for again, and how often it was refused without a term."""

    until: float
    refusals: int = 0


class Planner:
    """Remembers what was planned, asked and answered. With a planner from `before`, all but the settings is taken
    over."""

    def __init__(
        self,
        remedies: Sequence[Remedy],
        probes: Sequence[Probe],
        policy: Policy,
        before: Planner | None = None,
    ) -> None:
        self.policy = policy
        self._remedies = tuple(sorted(remedies, key=lambda one: (one.rung, one.name)))
        self._by_name = {one.name: one for one in remedies}
        self._probe_of = {problem.code: probe.name for probe in probes for problem in probe.problems}
        self._plans: dict[Which, Planned] = {} if before is None or policy.mode == "off" else before._plans
        self._made: tuple[float, float] | None = None if before is None else before._made  # epoch, monotonic
        self._wanted_at: float | None = None  # monotonic; with other settings they are made anew at once
        self._wanted_for: frozenset[Which] = frozenset()
        self._in_lead: bool = False if before is None else before._in_lead
        self._waits: dict[Which, _Wait] = {}  # other settings, another answer
        self._quiet_until = 0.0  # monotonic: until then nothing is asked for
        self._counted: set[Which] = set() if before is None else before._counted
        self.would_run: Counter[str] = Counter() if before is None else before.would_run

    def recall(self, would_run: Mapping[str, int], counted: Iterable[Which]) -> None:
        """What an earlier run of this program has counted."""
        self.would_run.update(would_run)
        self._counted.update(counted)

    @property
    def counted(self) -> tuple[Which, ...]:
        """What does not count again as long as its problem is there."""
        return tuple(sorted(self._counted))

    # ---- plans

    def to_plan(self, snapshot: Snapshot, monotonic: float, always: bool = False) -> tuple[Which, ...]:
        """The plans to be made now; empty where none is due, unless they are wanted in any case."""
        if self.policy.mode == "off":
            return ()
        wanted = self._wanted(snapshot)
        outlook = snapshot.outlook or Outlook(snapshot.checked_at)
        in_lead = _is_moment(outlook, self.policy)
        begins, self._in_lead = in_lead and not self._in_lead, in_lead
        if not wanted or (outlook.phase in (Phase.HOLD, Phase.OPEN) and not always):
            return ()
        if self._wanted_at is not None:
            age = monotonic - self._wanted_at
            changed = frozenset(wanted) != self._wanted_for
            if age < (_PLAN_APART if changed or begins else _PLAN_EVERY if in_lead else float("inf")):
                return ()
        self._wanted_at, self._wanted_for = monotonic, frozenset(wanted)
        return wanted

    def planned(self, plans: Sequence[Planned], now: float, monotonic: float) -> None:
        """What came of it; `now` is seconds since the epoch."""
        self._plans = {(one.remedy, one.problem, one.key): one for one in plans}
        self._made = now, monotonic

    def not_planned(self, monotonic: float) -> None:
        """Nothing came of it: it is tried again in a while."""
        self._wanted_at, self._wanted_for = monotonic + _PLAN_EVERY - _PLAN_APART, frozenset()

    def plans(self, snapshot: Snapshot, monotonic: float) -> tuple[Planned, ...]:
        """What would be done for the reasons that there are: of the remedies for each those that do not fit this
        machine, and then the one that does. With its moment where it was planned long ago."""
        found = tuple(one for reason in _reasons(snapshot) for one in self._next(reason, snapshot.fixes))
        if self._made is None or self._is_fresh(monotonic):
            return found
        return tuple(replace(one, as_of=self._made[0]) for one in found)

    def _is_fresh(self, monotonic: float) -> bool:
        """Whether something may be done by the plans that there are."""
        return self._made is not None and monotonic - self._made[1] < _PLAN_LASTS

    def _next(self, reason: Reason, told: Fixes | None) -> Iterator[Planned]:
        for remedy in self._untried(reason, told):
            plan = self._plans.get((remedy.name, reason.problem.code, reason.key))
            if plan is None:
                return  # a gentler one may fit, as far as is known
            yield plan
            if plan.steps:
                return

    def _wanted(self, snapshot: Snapshot) -> tuple[Which, ...]:
        wanted = [
            (remedy.name, reason.problem.code, reason.key)
            for reason in _reasons(snapshot)
            for remedy in self.remedies_for(reason.problem.code)
        ]
        return tuple(wanted[:MOST_PLANS])

    def remedies_for(self, code: str) -> tuple[Remedy, ...]:
        """What may be tried for a problem, gentlest first."""
        return tuple(one for one in self._remedies if code in one.problems)

    def _untried(self, reason: Reason, told: Fixes | None) -> tuple[Remedy, ...]:
        """Gentlest first."""
        tried = told.tried.get((reason.problem.code, reason.key), ()) if told is not None else ()
        return tuple(one for one in self.remedies_for(reason.problem.code) if one.name not in tried)

    # ---- asking

    def observed(self, snapshot: Snapshot, now: float, monotonic: float, paused: bool) -> tuple[Planned, ...]:
        """What would be asked for at this moment and was not counted yet in its incident; `now` is seconds since the
        epoch. Only where fixes are observed."""
        present = {(reason.problem.code, reason.key) for reason in _reasons(snapshot)}
        clear = {belief.problem.code for belief in snapshot.beliefs if belief.state is BeliefState.CLEAR}
        self._counted = {which for which in self._counted if which[1:] in present or which[1] not in clear}
        outlook = snapshot.outlook or Outlook(now)
        is_time = _is_moment(outlook, self.policy) and self._is_fresh(monotonic)
        if self.policy.mode != "observe" or paused or not is_time:
            return ()
        found = []
        for plan in self.plans(snapshot, monotonic):
            which = plan.remedy, plan.problem, plan.key
            if plan.steps and which not in self._counted and self._fits(plan.remedy, outlook, now):
                self._counted.add(which)
                self.would_run[plan.remedy] += 1
                found.append(plan)
        return tuple(found)

    def to_ask(self, snapshot: Snapshot, monotonic: float, under_way: bool, paused: bool) -> FixRequest | None:
        """The fix to be asked for now. `under_way` is whether an earlier request has not been answered."""
        outlook = snapshot.outlook
        if (
            self.policy.mode != "on"
            or under_way
            or paused
            or outlook is None
            or not _is_moment(outlook, self.policy)
            or monotonic < self._quiet_until
        ):
            return None
        seen = {run.name: run.last_run for run in snapshot.probes if run.state is ProbeState.OK}
        for remedy, problem, key in self._candidates(snapshot, monotonic):
            moment = seen.get(self._probe_of.get(problem, ""))
            wait = self._waits.get((remedy, problem, key))
            if moment is not None and (wait is None or monotonic >= wait.until):
                window = outlook.window
                return FixRequest(
                    remedy,
                    problem,
                    key,
                    moment,
                    outlook.phase,
                    window.start if window is not None else None,
                    window.end if window is not None else None,
                )
        return None

    def _candidates(self, snapshot: Snapshot, monotonic: float) -> Iterator[Which]:
        """In the order in which they are to be asked for."""
        told = snapshot.fixes or Fixes(0.0)
        now = snapshot.checked_at
        given_up = {(one.remedy, one.problem, one.key) for one in told.limits if one.until is None or now < one.until}
        for reason in _reasons(snapshot):
            incident = reason.problem.code, reason.key
            untried = [one.name for one in self._untried(reason, told) if one.name in self.policy.allow]
            plans = [self._plans.get((name, *incident)) for name in untried]
            if None in plans or not self._is_fresh(monotonic):
                continue  # a gentler one may fit, as far as is known
            # Where all was tried, the hands find that out for themselves, and tell that a limit is reached.
            fitting = [plan.remedy for plan in plans if plan is not None and plan.steps]
            which = [(name, *incident) for name in fitting[:1] or self._again(incident, told)]
            # A limit may be one of a single remedy: whether it keeps another from being done the hands say.
            yield from (one for one in which if one not in given_up)
        yield from self._to_close(snapshot, told)

    def _again(self, incident: tuple[str, str], told: Fixes) -> tuple[str, ...]:
        return tuple(name for name in told.tried.get(incident, ())[-1:] if name in self.policy.allow)

    def _to_close(self, snapshot: Snapshot, told: Fixes) -> Iterator[Which]:
        """Incidents whose problem is over: the hands see that for themselves, and end them, so that the next begins
        with the gentlest remedy, and no limit stands of what is gone."""
        clear = {belief.problem.code for belief in snapshot.beliefs if belief.state is BeliefState.CLEAR}
        limited = {(limit.problem, limit.key): limit.remedy for limit in told.limits}
        for incident in dict.fromkeys((*told.incidents, *limited)):
            names = self._again(incident, told) or tuple(
                name for name in [limited.get(incident, "")] if name in self.policy.allow
            )
            for name in names:
                if incident[0] in clear and name in self._by_name:
                    yield (name, *incident)

    def _fits(self, remedy: str, outlook: Outlook, now: float) -> bool:
        """Whether it would be done before the window, as far as that is known."""
        one = self._by_name[remedy]
        return outlook.window is None or now + one.longest.total_seconds() <= outlook.window.start

    def answered(self, asked: FixRequest, answer: FixAnswer, now: float, monotonic: float) -> None:
        """What the hands said; `now` is seconds since the epoch."""
        which = asked.remedy, asked.problem, asked.key
        before = self._waits.pop(which, _Wait(0.0))
        if isinstance(answer, Attempt):
            self._quiet_until = monotonic + _SETTLES
            self._wanted_at = None  # the machine has changed
            self._made = None if self._made is None else (self._made[0], float("-inf"))
        elif isinstance(answer, Refusal) and answer.until is not None:
            self._waits[which] = _Wait(monotonic + max(_SETTLES, answer.until - now))
        else:
            self._wait_longer(which, before, monotonic)

    def failed(self, asked: FixRequest, monotonic: float) -> None:
        """There was no answer that can be used."""
        which = asked.remedy, asked.problem, asked.key
        self._wait_longer(which, self._waits.pop(which, _Wait(0.0)), monotonic)

    def shut(self, monotonic: float) -> None:
        """Nobody is behind the hands' door."""
        self._quiet_until = monotonic + _LOOK_FOR_DOOR

    def _wait_longer(self, which: Which, before: _Wait, monotonic: float) -> None:
        pause = min(_WAIT_FIRST * 2**before.refusals, _WAIT_LONGEST)
        self._waits[which] = _Wait(monotonic + pause, min(before.refusals + 1, 10))

    def patience(self, remedy: str) -> float:
        """For how many seconds an answer is waited for: as long as it may take, with the looks before and after."""
        one = self._by_name[remedy]
        return (one.worst_case + one.settle).total_seconds() + _LOOKS

    def probes_for(self, remedy: str) -> frozenset[str]:
        """Which probes see whether it has helped."""
        return frozenset(self._probe_of[code] for code in self._by_name[remedy].problems if code in self._probe_of)


def _reasons(snapshot: Snapshot) -> tuple[Reason, ...]:
    """What a fix may be for, in the snapshot's order."""
    return tuple(reason for reason in snapshot.reasons if reason.effect is not Effect.VOIDS)


def _is_moment(outlook: Outlook, policy: Policy) -> bool:
    """Whether it is the time for fixes."""
    if outlook.window is None:
        return policy.without_window and outlook.phase is Phase.IDLE
    return outlook.phase is Phase.LEAD
