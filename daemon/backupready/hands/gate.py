"""May this fix be done now? If not: why not, until when, and what would lift it?

One table of refusals, asked in its order; the first that holds is the answer. Each is a pure function of what its
caller has found out. What cannot be found out refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Callable, Optional, Union

from backupready.hands import ledger
from backupready.hands.ledger import Line, Moment
from backupready.model import (
    CannotTell,
    DaemonReload,
    NotNow,
    Outlook,
    Pause,
    Phase,
    Refusal,
    Remedy,
    ResetFailed,
    RestartUnit,
    StartUnit,
    Step,
    Unsuitable,
    Wait,
    WaitForReport,
    WriteDropIn,
)
from backupready.plan import longest

_HOUR = 3600.0  # s
_CLOCK_SLACK = 5.0  # s by which evidence may be from the future
_LONGEST_WHY = 300  # characters of a pause

# What stands in the way, in words; empty where certainly nothing does.
Trouble = Union[str, CannotTell]


@dataclass(frozen=True)
class Request:
    """Somebody wants a remedy done. `problem` and `key` are those of the finding, empty where there is none, which only
    a person may ask for. `by` is `mind` or the person's name. `seen` is when the problem was seen, seconds since the
    epoch, None where the request is no consequence of a look."""

    remedy: str
    problem: str = ""
    key: str = ""
    by: str = ledger.MIND
    seen: float | None = None

    @property
    def person(self) -> bool:
        """Whether a person asks, who takes the moment on himself."""
        return self.by != ledger.MIND


@dataclass(frozen=True)
class Sight:
    """What a look has seen: problem and key of everything that keeps a backup from succeeding as it should, mere
    consequences excluded, and of what is asked for; and the problems that it could not tell. `there` is everything
    that it has seen, the consequences among them, which stand for themselves when what explains them is gone."""

    seen: frozenset[tuple[str, str]] = frozenset()
    unknown: frozenset[str] = frozenset()
    there: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Situation:
    """All that the gate goes by. Whoever fills it looks for himself, and believes the mind only where it says so.

    From the settings (section fix): `mode`, `allow`, `attempts_per_day`, `different_per_hour`, `without_window`, and
    `paused` by `fixes.pause_of` out of the pause file. `user` is the effective uid. `outlook` has the phase and the
    window: made here from the schedules that are set, or else as the mind tells, and then only as true as the mind.

    `guard` says which alert fires where fix.guard_url asks for alerts. Out of a look of the hands' own, as root:
    `snapshot` says what shows that one runs (the freeze lock is held, safefreeze or the extension's handler runs, a
    status file with code 4 is fresh); `agent_busy` what shows that the agent works on extensions (in its log the
    newest ProcessExtensionsInGoalState has started and not completed); `locked` who holds the lock of dpkg, rpm or
    zypper, or the ledger (LedgerBusy). `evidence_since` is the later of the machine's boot and the mind's start,
    seconds since the epoch. `sight` is a fresh look by the probes that declare the problem, and by those of everything
    that blocks. `plan` is what the remedy's plan gave or raised; `precondition` what else it needs and is not so;
    `lower` the remedies of lower rungs for the same problem that are allowed and fit this machine. `ledger` says why
    the ledger cannot be used (LedgerError).
    """

    mode: str
    allow: tuple[str, ...]
    user: int
    outlook: Outlook
    evidence_since: float
    sight: Sight
    plan: tuple[Step, ...] | Unsuitable | CannotTell
    paused: Pause | None = None
    guard: Trouble = ""
    snapshot: Trouble = ""
    agent_busy: Trouble = ""
    locked: Trouble = ""
    precondition: Trouble = ""
    lower: tuple[str, ...] = ()
    ledger: str = ""
    attempts_per_day: int = 10
    different_per_hour: int = 3
    without_window: bool = False


@dataclass(frozen=True)
class _Case:
    """What every refusal is asked about."""

    remedy: Remedy
    request: Request
    facts: Situation
    lines: Sequence[Line]
    now: Moment
    begun: tuple[tuple[Line, float, float], ...] = field(default=())  # attempts with their age, at most and at least


_Answer = Optional[tuple[str, Optional[float], str]]  # why, until, lift


def check(remedy: Remedy, request: Request, facts: Situation, lines: Sequence[Line], now: Moment) -> Refusal | None:
    """The first refusal of the table that holds; None where nothing is against it."""
    begun = tuple(
        (line, ledger.elapsed(lines, line, now), ledger.elapsed(lines, line, now, powered_off=False))
        for line in lines
        if line.event == "started"
    )
    case = _Case(remedy, request, facts, lines, now, begun)
    for name, refuse in REFUSALS.items():
        answer = refuse(case)
        if answer is not None:
            return Refusal(name, *answer)
    return None


# What also holds up the end of what was begun, and the undoing of what is over.
_HOLDS = ("paused", "snapshot_running", "phase", "deadline", "agent_busy", "locked")
_ENDING = Remedy("ending", "", (), lambda machine, finding: iter(()), timedelta(0), timedelta(0), "")
_NOBODY = Request(_ENDING.name, by="")


def hold(facts: Situation, plan: Sequence[Step], now: Moment) -> tuple[Refusal, ...]:
    """Why the steps of an attempt are better not undone at this moment, or finished: all that holds of what would
    refuse a person's fix. What cannot be found out holds up nothing."""
    snapshot, agent_busy, locked = map(_certain, (facts.snapshot, facts.agent_busy, facts.locked))
    window = facts.outlook.window
    if window is not None and window.start <= now.wall:
        window = None  # whether it is open still, the phase tells
    outlook = replace(facts.outlook, window=window)
    facts = replace(facts, plan=tuple(plan), snapshot=snapshot, agent_busy=agent_busy, locked=locked, outlook=outlook)
    case = _Case(_ENDING, _NOBODY, facts, (), now)
    answers = ((name, REFUSALS[name](case)) for name in _HOLDS)
    return tuple(Refusal(name, *answer) for name, answer in answers if answer is not None)


def _certain(trouble: Trouble) -> str:
    return "" if isinstance(trouble, CannotTell) else trouble


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


# --------------------------------------------------------------------------------------------------- the refusals


def _mode_off(case: _Case) -> _Answer:
    if case.facts.mode in ("observe", "on"):
        return None
    return "fixes are switched off", None, "set fix.mode to on (or to observe, to see what would be done)"


def _not_opted_in(case: _Case) -> _Answer:
    if case.facts.mode != "on" or case.remedy.name in case.facts.allow:
        return None  # without `on` nothing is done anyway, and what would be is worth knowing
    return f"{case.remedy.name} is not among the remedies that may be done", None, "add its name to fix.allow"


def _paused(case: _Case) -> _Answer:
    if case.facts.paused is None:
        return None
    why = f": {case.facts.paused.why}" if case.facts.paused.why else ""
    lift = "`backupready resume`, or remove the file fix.pause_file"
    return f"fixes are paused{why}", case.facts.paused.until, lift


def _guarded(case: _Case) -> _Answer:
    if case.request.person:
        return None
    lift = "wait until that has ended, or name alerts that do not matter here in fix.guard_ignore"
    return _stands(case.facts.guard, lift)


def _not_root(case: _Case) -> _Answer:
    if case.facts.user == 0:
        return None
    return f"this is user {case.facts.user}, and only root may change the machine", None, "ask as root"


def _phase(case: _Case) -> _Answer:
    outlook = case.facts.outlook
    window = outlook.window
    if outlook.phase is Phase.OPEN:
        until = None if window is None else window.end
        return "the backup window is open, or a backup runs", until, "wait until the backup has ended"
    if case.request.person or outlook.phase is Phase.LEAD or window is None:
        return None  # where no window is known, the next refusal decides
    if outlook.phase is Phase.HOLD:
        return "it is too late before the next backup", window.end, "a person may ask for it: `backupready fix`"
    lead = window.start - outlook.lead
    return "the next backup is not near", lead, "a person may ask for it now: `backupready fix`"


def _deadline(case: _Case) -> _Answer:
    window = case.facts.outlook.window
    plan = case.facts.plan if isinstance(case.facts.plan, tuple) else ()
    needed = case.remedy.longest.total_seconds() + _longest_undo(plan)
    if window is None:
        if case.request.person or case.facts.without_window:
            return None
        return (
            "it is not known when the next backup starts",
            None,
            "set window.schedule, or fix.without_window, or ask as a person: `backupready fix`",
        )
    left = window.start - case.now.wall
    if left >= needed:
        return None
    return (
        f"it may take {_span(needed)}, and the next backup starts in {_span(max(0.0, left))}",
        window.end,
        "wait until the backup has ended",
    )


def _longest_undo(plan: Sequence[Step]) -> float:
    """How long it takes at most to undo them, in seconds. A unit is restarted for what was changed before it."""
    changes = any(type(step).__name__ in ledger.CHANGES for step in plan)
    steps: list[Step] = []
    for step in plan:
        if isinstance(step, RestartUnit):
            steps += [StartUnit(step.unit), *([step] if changes else [])]
        elif isinstance(step, WriteDropIn):
            steps += [step, DaemonReload()]
        elif not isinstance(step, (ResetFailed, Wait, WaitForReport)):
            steps.append(step)  # an upgrade that is half done is done to its end
    return longest(steps)


def _stands(trouble: Trouble, lift: str) -> _Answer:
    if isinstance(trouble, CannotTell):
        return f"it cannot be told whether it may be done: {trouble.why}", None, "find out why that cannot be told"
    return (trouble, None, lift) if trouble else None


def _snapshot_running(case: _Case) -> _Answer:
    return _stands(case.facts.snapshot, "wait until the snapshot has ended")


def _agent_busy(case: _Case) -> _Answer:
    return _stands(case.facts.agent_busy, "wait until the agent is done with its extensions")


def _locked(case: _Case) -> _Answer:
    for attempt in ledger.unfinished(case.lines):
        return (
            f"attempt {attempt.id} of {attempt.remedy} has not ended",
            None,
            "the next start of the hands finishes or undoes it",
        )
    return _stands(case.facts.locked, "wait until that has ended")


def _cooldown(case: _Case) -> _Answer:
    cooldown = case.remedy.cooldown.total_seconds()
    ages = [certain for line, _, certain in case.begun if line["remedy"] == case.remedy.name]
    left = cooldown - min(ages, default=cooldown)
    if left <= 0:
        return None
    return f"{case.remedy.name} was done a short while ago", case.now.wall + left, "wait"


def _attempt_limit(case: _Case) -> _Answer:
    remedy, request = case.remedy, case.request
    today = [(line, age) for line, age, _ in case.begun if age < ledger.DAY]
    for most, lines, what in (
        (
            remedy.attempts,
            [(line, age) for line, age in today if (line["remedy"], line["problem"]) == (remedy.name, request.problem)],
            f"{remedy.name} was done {{}} times for {request.problem or 'no problem'} within a day",
        ),
        (case.facts.attempts_per_day, today, "{} fixes were done within a day"),
    ):
        if len(lines) >= most:
            # The next is possible when so many of them are older than a day that one fits.
            age = sorted((age for _, age in lines), reverse=True)[len(lines) - most]
            until = case.now.wall + ledger.DAY - age
            return what.format(len(lines)), until, "mend the cause by hand: more of the same does not help"
    if not request.person and remedy.name in ledger.tried(case.lines, request.problem, request.key):
        return (
            f"{remedy.name} was done already, and {request.problem} has been there ever since",
            None,
            "mend the cause by hand; it may be done again when the problem is gone, or when a person asks for it",
        )
    return None


def _storm(case: _Case) -> _Answer:
    newest: dict[tuple[str, str, str], float] = {}
    for line, _, certain in case.begun:
        newest[line["remedy"], line["problem"], line["key"]] = certain
    newest.pop((case.remedy.name, case.request.problem, case.request.key), None)
    ages = sorted((age for age in newest.values() if age < _HOUR), reverse=True)
    most = case.facts.different_per_hour
    if len(ages) < most:
        return None
    until = case.now.wall + _HOUR - ages[len(ages) - most]
    return f"{len(ages)} different fixes were done within an hour", until, "find out what is behind all of them"


def _stale_evidence(case: _Case) -> _Answer:
    seen = case.request.seen
    if seen is None:
        if case.request.person:
            return None
        return "the request does not say when the problem was seen", None, "ask with what a look has seen"
    if case.facts.evidence_since <= seen <= case.now.wall + _CLOCK_SLACK:
        return None
    when = "before the machine or the daemon last started" if seen < case.facts.evidence_since else "in the future"
    return f"the problem was seen {when}", None, "ask with what a look since the last start has seen"


def _not_confirmed(case: _Case) -> _Answer:
    which = case.request.problem, case.request.key
    if not case.request.problem:
        if case.request.person:
            return None
        return "the request names no problem", None, "ask with what a look has seen"
    if case.request.problem not in case.remedy.problems:
        return f"{case.remedy.name} does not fix {case.request.problem}", None, "ask for a remedy that does"
    if which in case.facts.sight.seen:
        return None
    if case.request.problem in case.facts.sight.unknown:
        return f"a fresh look cannot tell whether {case.request.problem} is there", None, "find out why it cannot"
    return f"a fresh look does not see {case.request.problem}", None, "nothing needs to be fixed"


def _precondition(case: _Case) -> _Answer:
    if isinstance(case.facts.plan, CannotTell):
        return _stands(case.facts.plan, "")
    if isinstance(case.facts.plan, NotNow):
        return str(case.facts.plan), None, "wait until that has changed"
    done = ledger.tried(case.lines, case.request.problem, case.request.key)
    for lower in case.facts.lower:
        if lower not in done and not case.request.person:
            return f"{lower}, which is gentler, has not been tried", None, f"try {lower} first"
    return _stands(case.facts.precondition, "wait until that has changed")


def _unsupported(case: _Case) -> _Answer:
    if isinstance(case.facts.plan, Unsuitable):
        return f"{case.remedy.name} is not for this machine: {case.facts.plan}", None, "mend the problem by hand"
    return None


def _ledger(case: _Case) -> _Answer:
    if not case.facts.ledger:
        return None
    return case.facts.ledger, None, "mend that: what is not noted is not done"


REFUSALS: Mapping[str, Callable[[_Case], _Answer]] = {
    "mode_off": _mode_off,
    "not_opted_in": _not_opted_in,
    "paused": _paused,
    "guarded": _guarded,
    "not_root": _not_root,
    "snapshot_running": _snapshot_running,  # before the phase, which is open then: what shows it is worth knowing
    "phase": _phase,
    "deadline": _deadline,
    "agent_busy": _agent_busy,
    "locked": _locked,
    "cooldown": _cooldown,
    "attempt_limit": _attempt_limit,
    "storm": _storm,
    "stale_evidence": _stale_evidence,
    "not_confirmed": _not_confirmed,
    "precondition": _precondition,
    "unsupported": _unsupported,
    "ledger": _ledger,
}
