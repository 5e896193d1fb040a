"""How is a fix done so that it ends well, whatever happens in the middle?

Gate, evidence, a note, each step with a note before and after it, and a fresh look: what has not healed the machine is
undone again. Every note is on the disk before what it announces is done, so that the next start finds out what is true,
and finishes or undoes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Protocol

from backupready.hands import gate, ledger
from backupready.hands.files import StepFailed
from backupready.hands.gate import Request, Sight, Situation, Trouble
from backupready.hands.ledger import CHANGES, Ledger, LedgerError, Moment
from backupready.model import (
    Attempt,
    CannotTell,
    DaemonReload,
    Limit,
    PackageUpgrade,
    Refusal,
    Remedy,
    RestartUnit,
    Result,
    SetConfigKey,
    Step,
    Unsuitable,
    WouldRun,
)

_LOOKS = 4  # within the time in which it settles
_MOST_SEEN = 200  # of what was seen before, which is noted

_ONE_WAY = (PackageUpgrade,)  # what cannot be undone, and must not be left in the middle

Record = Mapping[str, Any]


class Doer(Protocol):
    """Who does the steps. Each call raises StepFailed, OSError or CannotTell, and nothing else but a defect.

    `prepare` changes nothing, and gives as JSON all that is needed to finish or undo the step after a crash. Doing what
    is done changes nothing, nor does undoing what is undone or was never done. A step that leaves nothing to be undone
    is undone by doing nothing; one that cannot be undone raises StepFailed.
    """

    def prepare(self, step: Step) -> Record: ...

    def do(self, step: Step, record: Record) -> None: ...

    def undo(self, step: Step, record: Record) -> None: ...

    def state(self, step: Step, record: Record) -> str:
        """`done`, `not_done` or `half`."""


@dataclass(frozen=True)
class World:
    """What the hands reach the machine by; all of it comes from outside.

    `situation` finds out what the gate goes by, at that moment. `look` looks afresh, as for Situation.sight. `snapshot`
    says what shows that a snapshot runs, as Situation.snapshot does. `collect` keeps what support would ask for, and
    says where, or why it could not. `clock` and `sleep` (seconds) are the machine's. `announce` tells whoever listens
    of each attempt that has begun or ended.
    """

    ledger: Ledger
    doer: Doer
    situation: Callable[[Remedy, Request], Situation]
    look: Callable[[], Sight]
    snapshot: Callable[[], Trouble]
    collect: Callable[[Request], str]
    clock: Callable[[], Moment]
    sleep: Callable[[float], None]
    announce: Callable[[Attempt], None] = lambda attempt: None


def apply(remedy: Remedy, request: Request, world: World) -> Attempt | Refusal | WouldRun:
    """Do it, if nothing is against it, and tell what came of it. An attempt that is still under way in the answer could
    not be noted to its end: the next start ends it."""
    try:
        return _apply(remedy, request, world)
    finally:
        world.ledger.publish(world.clock())


def recover(world: World) -> tuple[Attempt, ...]:
    """End what an earlier start has not ended: what has healed the machine stays, everything else is undone. While a
    snapshot runs nothing is touched, and the attempt stays under way."""
    ended: list[Attempt] = []
    for attempt in ledger.unfinished(world.ledger.lines):
        if _snapshot_runs(world):
            break
        ended.append(_recover(attempt.id, world))
    world.ledger.publish(world.clock())
    return tuple(ended)


def undo(number: int, world: World, reason: str) -> Attempt:
    """Undo an attempt that has ended. Raises LedgerError where there is no such attempt, or nothing can be noted, and
    StepFailed while a snapshot runs, or where nothing of it is in force."""
    _let_no_snapshot_run(world)
    if not _changes(ledger.plan_of(world.ledger.lines, number), ledger.in_force(world.ledger.lines, number)):
        raise StepFailed(f"nothing of attempt {number} can be undone: it changed nothing that has stayed")
    try:
        return _take_back(number, world, Result.UNDONE, (reason,))
    finally:
        world.ledger.publish(world.clock())


def expire(world: World, everything: bool = False) -> tuple[Attempt, ...]:
    """Undo the temporary changes whose time is over, or all of them, as before the package is removed. While a snapshot
    runs nothing is touched; in an open window it is better not asked for, since it may restart the agent. Raises
    LedgerError."""
    lines = world.ledger.lines
    over = [change for change in ledger.temporary(lines) if everything or ledger.is_over(lines, change, world.clock())]
    reason = "its time was over" if not everything else "all temporary changes were to end"
    ended: list[Attempt] = []
    for number in dict.fromkeys(change.attempt for change in over):
        if _snapshot_runs(world):
            break
        ended.append(_take_back(number, world, Result.UNDONE, (reason,)))
    world.ledger.publish(world.clock())
    return tuple(ended)


# ---------------------------------------------------------------------------------------------------- doing


def _apply(remedy: Remedy, request: Request, world: World) -> Attempt | Refusal | WouldRun:
    facts = world.situation(remedy, request)
    now = world.clock()
    refusal = gate.check(remedy, request, facts, world.ledger.lines, now)
    plan = facts.plan
    if refusal is not None or isinstance(plan, (Unsuitable, CannotTell)):
        assert refusal is not None
        return _refused(refusal, remedy, request, facts, world)
    if facts.mode != "on":
        world.ledger.count_would_run(remedy.name)
        return WouldRun(plan)
    reasons: tuple[str, ...] = ()
    if request.problem and not ledger.tried(world.ledger.lines, request.problem, request.key):
        reasons = (f"evidence: {world.collect(request)}",)
        running = world.snapshot()  # that took a while
        if running:
            why = f"it cannot be told whether one runs: {running.why}" if isinstance(running, CannotTell) else running
            late = Refusal("snapshot_running", why, None, "wait until the snapshot has ended")
            return _refused(late, remedy, request, facts, world)
    try:
        number = world.ledger.begin(
            world.clock(),
            plan,
            remedy=remedy.name,
            problem=request.problem,
            key=request.key,
            by=request.by,
            settle=remedy.settle.total_seconds(),
            before=sorted(facts.sight.seen)[:_MOST_SEEN],
            unknown=sorted(facts.sight.unknown)[:_MOST_SEEN],
        )
    except LedgerError as error:
        late = Refusal("ledger", str(error), None, "mend that: what is not noted is not done")
        return _refused(late, remedy, request, facts, world)
    world.ledger.publish(world.clock())
    world.announce(world.ledger.attempt(number))
    try:
        for index, step in enumerate(plan):
            _do(number, index, step, world)
    except (StepFailed, OSError, CannotTell, LedgerError) as error:
        why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        return _take_back(number, world, Result.FAILED, (*reasons, f"step {index + 1}: {why}"))
    return _conclude(number, world, reasons)


def _refused(refusal: Refusal, remedy: Remedy, request: Request, facts: Situation, world: World) -> Refusal:
    """Have it counted; and where it says something about the problem, noted, if that can be."""
    world.ledger.count_refusal(remedy.name, refusal.name)
    which = request.problem, request.key
    now, lines = world.clock(), world.ledger.lines
    gone = which not in facts.sight.seen and request.problem not in facts.sight.unknown
    try:
        # The mind asks for what was tried last when it does not see the problem any more: the limit is asked first.
        if refusal.name in ("not_confirmed", "attempt_limit") and gone:
            note_clear(which, world)
        elif refusal.name in ("attempt_limit", "storm") and which in facts.sight.seen:
            known = [(limit.remedy, limit.why) for limit in ledger.limits(lines, now) if _which(limit) == which]
            if known != [(remedy.name, refusal.why)]:
                world.ledger.add(
                    "limit",
                    now,
                    remedy=remedy.name,
                    problem=request.problem,
                    key=request.key,
                    why=refusal.why,
                    until=refusal.until,
                )
    except LedgerError as error:
        return Refusal("ledger", str(error), None, "mend that: what is not noted is not done")
    return refusal


def _which(limit: Limit) -> tuple[str, str]:
    return limit.problem, limit.key


def note_clear(which: tuple[str, str], world: World) -> None:
    """A fresh look has not seen this problem with this key: its incident has ended. Raises LedgerError."""
    lines, now = world.ledger.lines, world.clock()
    if which in ledger.incidents(lines) or which in map(_which, ledger.limits(lines, now)):
        world.ledger.add("clear", now, problem=which[0], key=which[1])


def _do(number: int, index: int, step: Step, world: World) -> None:
    _let_no_snapshot_run(world)
    record = world.doer.prepare(step)
    now = world.clock()
    lasting: dict[str, Any] = {}
    if isinstance(step, SetConfigKey) and step.lasts is not None:
        lasting = {"until": now.wall + step.lasts, "change": f"{step.key}={step.value}"}
    world.ledger.add("prepared", now, attempt=number, index=index, record=dict(record), **lasting)
    world.doer.do(step, record)
    world.ledger.add("done", world.clock(), attempt=number, index=index)


def _let_no_snapshot_run(world: World) -> None:
    if _snapshot_runs(world):
        raise StepFailed("a snapshot runs")


def _snapshot_runs(world: World) -> bool:
    """Whether that is certain: what has been begun is ended also where it cannot be told."""
    running = world.snapshot()
    return isinstance(running, str) and running != ""


def _conclude(number: int, world: World, reasons: tuple[str, ...]) -> Attempt:
    """All steps are done; what has come of it?"""
    result, why = _look_again(number, world)
    if result.stands:
        return _end(number, world, result, reasons, (), {})
    return _take_back(number, world, result, (*reasons, why))


def _look_again(number: int, world: World) -> tuple[Result, str]:
    """How it has ended, and why that is no good end; looks until that is certain, and no longer than it may take."""
    started = next(ledger.of_attempt(world.ledger.lines, number, "started"))
    problem, which = started["problem"], (started["problem"], started["key"])
    before = {(code, key) for code, key in started["before"]}
    could_not_be_told = set(started["unknown"])
    pause = started["settle"] / _LOOKS
    for last in [False] * (_LOOKS - 1) + [True] if pause else [True]:
        world.sleep(pause)
        sight = world.look()
        new = sorted(
            f"{code} {key}".strip() for code, key in sight.seen - before - {which} if code not in could_not_be_told
        )
        seen, unknown = which in sight.seen, problem in sight.unknown
        if not (seen or unknown or new):
            return (Result.HEALED if problem else Result.DONE), ""
        if last:
            break
    if new:
        return Result.WORSE, f"seen afterwards and not before: {', '.join(new)}"
    if seen:
        return Result.NOT_HEALED, f"{problem} is still seen"
    return Result.NOT_HEALED, f"it cannot be told whether {problem} is gone"


def _end(
    number: int,
    world: World,
    result: Result,
    reasons: Sequence[str],
    undone: Sequence[int],
    left: Mapping[int, str],
) -> Attempt:
    """Note the end. Where that fails, the answer says so, and the attempt is under way as far as anybody knows."""
    why = [*reasons, *(f"step {index + 1} is left as it is: {reason}" for index, reason in left.items())]
    now = world.clock()
    try:
        world.ledger.add(
            "ended", now, attempt=number, result=result.value, reasons=why, undone=list(undone), left=list(left)
        )
        attempt = world.ledger.attempt(number)
        if result is Result.HEALED:
            world.ledger.add("clear", now, problem=attempt.problem, key=attempt.key)
    except LedgerError as error:
        attempt = world.ledger.attempt(number)
        if attempt.result is Result.UNDER_WAY:
            return replace(attempt, reasons=(*why, str(error)))
    world.announce(attempt)
    return attempt


# -------------------------------------------------------------------------------------------------- undoing


def _take_back(number: int, world: World, result: Result, reasons: Sequence[str]) -> Attempt:
    """Undo in reverse what an attempt has done, as far as that is possible, and note its end.

    Nothing is noted of the single steps: after a crash all is done again, which changes nothing where it was done.
    """
    lines = world.ledger.lines
    plan, records = ledger.plan_of(lines, number), ledger.in_force(lines, number)
    try:
        world.ledger.add("undoing", world.clock(), attempt=number, result=result.value, reasons=list(reasons))
    except LedgerError as error:
        reasons = (*reasons, str(error))  # what is done is undone also then; the next start will note it
    undone: list[int] = []
    left: dict[int, str] = {}
    for index in sorted(records, reverse=True):
        try:
            world.doer.undo(plan[index], records[index])
            undone.append(index)
        except (StepFailed, OSError, CannotTell) as error:
            why = _leave(plan[index], records[index], str(error), world)
            if why:
                left[index] = why
            else:
                undone.append(index)
    _take_effect(plan, records, undone, world, left)
    return _end(number, world, result, reasons, undone, left)


def _leave(step: Step, record: Record, why: str, world: World) -> str:
    """Of a step that cannot be undone, why it is left; empty where it was never done."""
    try:
        state = world.doer.state(step, record)
        if state == "half" and isinstance(step, _ONE_WAY):
            world.doer.do(step, record)
    except (StepFailed, OSError, CannotTell) as error:
        return f"{why}; and it cannot be finished: {error}"
    return "" if state == "not_done" else why


def _take_effect(
    plan: Sequence[Step], records: Mapping[int, Record], undone: Sequence[int], world: World, left: dict[int, str]
) -> None:
    """Do again what made the change known, now that it is undone: the daemon is reloaded, the unit restarted."""
    changed = _changes(plan, dict.fromkeys(undone))
    for index in sorted(records):
        step = plan[index]
        if isinstance(step, (DaemonReload, RestartUnit)) and any(change < index for change in changed):
            try:
                _let_no_snapshot_run(world)
                world.doer.do(step, world.doer.prepare(step))
            except (StepFailed, OSError, CannotTell) as error:
                left[index] = f"what was undone has not taken effect: {error}"


def _changes(plan: Sequence[Step], there: Mapping[int, Any]) -> list[int]:
    """The places of those steps that leave something behind which takes effect later."""
    return [index for index in sorted(there) if type(plan[index]).__name__ in CHANGES]


def _recover(number: int, world: World) -> Attempt:
    lines = world.ledger.lines
    plan, records = ledger.plan_of(lines, number), ledger.in_force(lines, number)
    begun_to_undo = list(ledger.of_attempt(lines, number, "undoing"))
    if begun_to_undo:
        line = begun_to_undo[-1]
        return _take_back(number, world, Result(line["result"]), line["reasons"])
    done = {line["index"] for line in ledger.of_attempt(lines, number, "done")}
    try:
        all_done = len(records) == len(plan) and all(
            index in done or world.doer.state(plan[index], records[index]) == "done" for index in records
        )
    except (StepFailed, OSError, CannotTell):
        all_done = False
    interrupted = "the hands ended in the middle"
    if all_done:
        return _conclude(number, world, (interrupted,))
    return _take_back(number, world, Result.INTERRUPTED, (interrupted,))
