"""How is a fix done so that it ends well, whatever happens in the middle?

Gate, evidence, a note, each step with a note before and after it, and a fresh look: what has not healed the machine is
undone again. Every note is on the disk before what it announces is done, so that the next start finds out what is true,
and finishes or undoes it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Callable, Protocol

from backupready.hands import gate, ledger
from backupready.hands.files import StepFailed
from backupready.hands.gate import Request, Sight, Situation, Trouble
from backupready.hands.ledger import CHANGES, UNDOABLE, Ledger, LedgerError, Line, Moment
from backupready.model import (
    LOOKS_AFTER_FIX,
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
    StopUnit,
    Unsuitable,
    WouldRun,
)

_MOST_SEEN = 200  # of what was there before, which is noted with its keys
# After so many seconds what could not be undone is tried again: where nothing shows why not, and where somebody else
# has been there.
_RETRY, _RETRY_CHANGED = 3600.0, ledger.DAY
_TRIES = 5  # of what makes it known that something is undone
LONGEST_WINDOW = 36 * 3600.0  # s; the daemon tells whether one is open, and might do so for ever

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

    `hold` says why the steps of an attempt are better not undone at this moment, as gate.hold does. `situation` finds
    out what the gate goes by, at that moment, and `renewed` once more what of it may have changed since, but for what a
    look has seen. `look` looks afresh, as for Situation.sight. `snapshot` says what shows that a snapshot runs, as
    Situation.snapshot does. `collect` keeps what support would ask for, and says where, or why it could not. `clock`
    and `sleep` (seconds) are the machine's. `announce` tells whoever listens of each attempt that has begun or ended.
    """

    ledger: Ledger
    doer: Doer
    situation: Callable[[Remedy, Request], Situation]
    renewed: Callable[[Remedy, Request, Situation], Situation]
    hold: Callable[[Sequence[Step]], Sequence[Refusal]]
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


def recover(world: World, anyway: bool = False) -> tuple[Attempt, ...]:
    """End what an earlier start has not ended: what has healed the machine stays, everything else is undone; what has
    done a step that cannot be undone goes on to its end before. While something holds that up, as a snapshot does or an
    open window, the attempt stays under way, but not if a unit stands still for it; `anyway` asks for the snapshot
    alone. Raises LedgerError where nothing can be noted: then nothing is touched."""
    ended: list[Attempt] = []
    for attempt in ledger.unfinished(world.ledger.lines):
        age = ledger.elapsed(world.ledger.lines, _begun(attempt.id, world), world.clock(), powered_off=False)
        if _stands_still(attempt.id, world) or not (
            _snapshot_runs(world) if anyway else _held(attempt.id, world, age) is not None
        ):
            ended.append(_recover(attempt.id, world))
    world.ledger.publish(world.clock())
    return tuple(ended)


def undo(number: int, world: World, reason: str) -> Attempt:
    """Undo an attempt that has ended; one that a snapshot interrupts is under way in the answer. Raises LedgerError
    where there is no such attempt, or nothing can be noted, and StepFailed while something holds that up, or where
    nothing of it is in force. A pause holds up no person."""
    plan, there = ledger.plan_of(world.ledger.lines, number), ledger.in_force(world.ledger.lines, number)
    if not any(type(plan[index]).__name__ in UNDOABLE for index in there):
        raise StepFailed(f"nothing of attempt {number} can be undone: it changed nothing that has stayed")
    refusal = _held(number, world, but=("paused",))
    if refusal is not None and not _stands_still(number, world):
        raise StepFailed(f"not now: {refusal}")
    try:
        return _take_back(number, world, Result.UNDONE, (reason,))
    finally:
        world.ledger.publish(world.clock())


def expire(world: World, everything: bool = False) -> tuple[Attempt, ...]:
    """Undo the temporary changes whose time is over, or all of them, as before the package is removed. While something
    holds that up, since it may restart the agent, they stay, and all of them while a snapshot runs. One that could not
    be undone is tried again when that may have become possible. Raises LedgerError, also where nothing can be noted:
    then nothing is touched."""
    lines, now = world.ledger.lines, world.clock()
    changes = [change for change in ledger.temporary(lines) if everything or ledger.is_over(lines, change, now)]
    reason = "its time was over" if not everything else "all temporary changes were to end"
    ended: list[Attempt] = []
    try:
        for number in dict.fromkeys(change.attempt for change in changes):
            late = any(
                ledger.is_over(lines, change, now, LONGEST_WINDOW) for change in changes if change.attempt == number
            )
            if everything and _snapshot_runs(world):
                break
            if everything or (
                _can_end(number, world) and _held(number, world, LONGEST_WINDOW if late else 0.0) is None
            ):
                ended.append(_take_back(number, world, Result.UNDONE, (reason,)))
    finally:
        world.ledger.publish(world.clock())
    return tuple(ended)


def _can_end(number: int, world: World) -> bool:
    """Of a temporary change that may have been left as it is: whether it is worth another try. Each leaves lines in the
    ledger and the journal."""
    lines = world.ledger.lines
    endings = list(ledger.of_attempt(lines, number, "ended"))
    left = [index for index, _ in endings[-1]["left"]] if endings else []
    if not left:
        return True
    states = _states(number, world)
    if all(states.get(index) == "not_done" for index in left):
        return True  # somebody has taken it back by hand
    age = ledger.elapsed(lines, endings[-1], world.clock())
    return age >= (_RETRY if all(states.get(index) == "done" for index in left) else _RETRY_CHANGED)


def _begun(number: int, world: World) -> Line:
    """Where what is under way began: the attempt, or its undoing after it has ended."""
    found: Line | None = None
    for line in world.ledger.lines:
        if line.fields.get("attempt") == number:
            if line.event == "ended":
                found = None
            elif found is None and line.event in ("started", "undoing"):
                found = line
    return found or next(ledger.of_attempt(world.ledger.lines, number, "started"))


def _held(number: int, world: World, age: float = 0.0, but: Sequence[str] = ()) -> Refusal | None:
    """Why an attempt is better not ended, or undone, at this moment, `but` for some reasons. What only the window or
    others' work holds up is held up no longer than a window lasts: for `age` seconds it has been."""
    refusals: list[Refusal] = []
    trouble = _trouble(lambda: refusals.extend(world.hold(ledger.plan_of(world.ledger.lines, number))))
    if trouble:
        refusals = [Refusal("unknown", trouble, None, "find out why that cannot be told")]
    for refusal in refusals:
        lasts = refusal.name in ("paused", "snapshot_running")
        if refusal.name not in but and (lasts or age < LONGEST_WINDOW):
            return refusal
    return None


def _stands_still(number: int, world: World) -> bool:
    """Whether a unit is stopped for this attempt, or was to be restarted for it and is down. No snapshot comes to its
    end then, so that nothing is worth waiting for."""
    plan = ledger.plan_of(world.ledger.lines, number)
    return any(
        (isinstance(plan[index], StopUnit) and state == "done")
        or (isinstance(plan[index], RestartUnit) and state == "half")
        for index, state in _states(number, world, (StopUnit, RestartUnit)).items()
    )


def _states(number: int, world: World, kind: type | tuple[type, ...] = object) -> dict[int, str]:
    """What is true of the steps of an attempt that are in force, by their place; without those that cannot be told."""
    plan, records = ledger.plan_of(world.ledger.lines, number), ledger.in_force(world.ledger.lines, number)
    states: dict[int, str] = {}
    for index, record in records.items():
        if isinstance(plan[index], kind):
            _trouble(partial(_note_state, states, index, plan[index], record, world))
    return states


def _note_state(states: dict[int, str], index: int, step: Step, record: Record, world: World) -> None:
    states[index] = world.doer.state(step, record)


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
    facts = world.renewed(remedy, request, facts)  # the looks and the evidence took a while
    refusal = gate.check(remedy, request, facts, world.ledger.lines, world.clock())
    if refusal is not None:
        return _refused(refusal, remedy, request, facts, world)
    there = sorted(facts.sight.there | facts.sight.seen)
    cut = len(there) > _MOST_SEEN
    try:
        number = world.ledger.begin(
            world.clock(),
            plan,
            remedy=remedy.name,
            problem=request.problem,
            key=request.key,
            by=request.by,
            settle=remedy.settle.total_seconds(),
            before=[] if cut else there,
            codes=sorted({code for code, _ in there}) if cut else [],
            unknown=sorted(facts.sight.unknown),
        )
    except LedgerError as error:
        late = Refusal("ledger", str(error), None, "mend that: what is not noted is not done")
        return _refused(late, remedy, request, facts, world)
    world.ledger.publish(world.clock())
    world.announce(world.ledger.attempt(number))
    for index, step in enumerate(plan):
        why = _trouble(partial(_do, number, index, step, world))
        if why:
            why = f"step {index + 1}: {why}"
            if _goes_on(number, world) and _snapshot_runs(world):
                return _not_now(number, world, (*reasons, why))
            return _take_back(number, world, Result.FAILED, (*reasons, why), ours=True)
    return _conclude(number, world, reasons, ours=True)


def _trouble(act: Callable[[], object]) -> str:
    """Do it; empty, or why it could not be done. Not even a defect may leave the machine in the middle."""
    try:
        act()
    except OSError as error:
        return error.strerror or str(error) or repr(error)
    except (StepFailed, CannotTell, LedgerError) as error:
        return str(error) or repr(error)
    except Exception as error:  # noqa: BLE001 - see above
        return f"a defect: {error!r}"
    return ""


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
        elif (
            refusal.name in ("attempt_limit", "storm")
            and which in facts.sight.seen
            and (remedy.name, refusal.why) not in ledger.limits_told(lines, which, now)
        ):
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


def _do(number: int, index: int, step: Step, world: World, prepared: Record | None = None) -> None:
    _let_no_snapshot_run(world)
    record = world.doer.prepare(step) if prepared is None else prepared
    if prepared is None:
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
    running: list[Trouble] = []
    _trouble(lambda: running.append(world.snapshot()))
    return any(isinstance(found, str) and found != "" for found in running)


def _goes_on(number: int, world: World) -> bool:
    """Whether a step is done that cannot be undone: the attempt is finished then, after whatever interrupts it."""
    lines = world.ledger.lines
    plan = ledger.plan_of(lines, number)
    return any(isinstance(plan[line["index"]], _ONE_WAY) for line in ledger.of_attempt(lines, number, "done"))


def _conclude(number: int, world: World, reasons: tuple[str, ...], ours: bool = False) -> Attempt:
    """All steps are done; what has come of it?"""
    judged = _look_again(number, world)
    if judged is None:
        return _not_now(number, world, reasons)
    result, why = judged
    if result.stands:
        return _end(number, world, result, reasons, (), {})
    return _take_back(number, world, result, (*reasons, why), ours)


def _not_now(
    number: int, world: World, reasons: Sequence[str], why: str = "a snapshot runs; it is ended after that"
) -> Attempt:
    """The next start ends the attempt."""
    attempt = replace(world.ledger.attempt(number), reasons=(*reasons, why))
    world.announce(attempt)
    return attempt


def _look_again(number: int, world: World) -> tuple[Result, str] | None:
    """How it has ended, and why that is no good end; looks until that is certain, and no longer than it may take. None
    where a snapshot runs: what is seen then may be its doing."""
    started = next(ledger.of_attempt(world.ledger.lines, number, "started"))
    problem, which = started["problem"], (started["problem"], started["key"])
    before = {(code, key) for code, key in started["before"]}
    not_judged = {*started["unknown"], *started["codes"]}
    pause = started["settle"] / LOOKS_AFTER_FIX
    for last in [False] * (LOOKS_AFTER_FIX - 1) + [True] if pause else [True]:
        world.sleep(pause)
        sights: list[Sight] = []
        _trouble(lambda: sights.append(world.look()))  # noqa: B023 - at once
        sight = sights[0] if sights else Sight(unknown=frozenset({problem}))
        new = sorted(f"{code} {key}".strip() for code, key in sight.seen - before - {which} if code not in not_judged)
        seen, unknown = which in sight.seen, problem in sight.unknown
        if not (seen or unknown or new):
            return (Result.HEALED if problem else Result.DONE), ""
        if last:
            break
    if _snapshot_runs(world):
        return None
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
    now = world.clock()
    try:
        world.ledger.add(
            "ended",
            now,
            attempt=number,
            result=result.value,
            reasons=list(reasons),
            undone=list(undone),
            left=list(left.items()),
        )
        attempt = world.ledger.attempt(number)
        if result is Result.HEALED:
            world.ledger.add("clear", now, problem=attempt.problem, key=attempt.key)
    except LedgerError as error:
        attempt = world.ledger.attempt(number)
        if attempt.result is Result.UNDER_WAY:
            return replace(attempt, reasons=(*reasons, *ledger.left_in_words(left.items()), str(error)))
    world.announce(attempt)
    return attempt


# -------------------------------------------------------------------------------------------------- undoing


def _take_back(number: int, world: World, result: Result, reasons: Sequence[str], ours: bool = False) -> Attempt:
    """Undo in reverse what an attempt has done, as far as that is possible, and note its end.

    Nothing is noted of the single steps: after a crash all is done again, which changes nothing where it was done. What
    cannot be noted is not begun, or each start would do it anew; only whoever has done the steps (`ours`) does not
    leave them so. While a snapshot runs nothing is touched, and the next start goes on. Raises LedgerError, unless
    `ours`.
    """
    lines = world.ledger.lines
    plan, records = ledger.plan_of(lines, number), ledger.in_force(lines, number)
    try:
        world.ledger.add("undoing", world.clock(), attempt=number, result=result.value, reasons=list(reasons))
    except LedgerError as error:
        if not ours:
            raise
        reasons = (*reasons, str(error))  # the next start will note it
    if _snapshot_runs(world) and not _stands_still(number, world):
        return _not_now(number, world, reasons)
    undone: list[int] = []
    left: dict[int, str] = {}
    for index in sorted(records, reverse=True):
        why = _trouble(partial(world.doer.undo, plan[index], records[index]))
        why = why and _leave(plan[index], records[index], why, world)
        if why:
            left[index] = why
        else:
            undone.append(index)
    # Also what was undone at an earlier try, and has made known what is undone only now.
    ever = {line["index"] for line in ledger.of_attempt(world.ledger.lines, number, "prepared")}
    without_effect = _take_effect(plan, ever, undone, world)
    if without_effect and _tries(number, world) < _TRIES:
        return _not_now(number, world, reasons, f"what was undone has not taken effect yet: {without_effect}")
    if without_effect:
        reasons = (*reasons, f"what was undone has not taken effect: {without_effect}")
    return _end(number, world, result, reasons, undone, left)


def _tries(number: int, world: World) -> int:
    """How often it was begun to undo an attempt, since it has ended last."""
    tries = 0
    for line in world.ledger.lines:
        if line.fields.get("attempt") == number:
            tries = 0 if line.event == "ended" else tries + (line.event == "undoing")
    return tries


def _leave(step: Step, record: Record, why: str, world: World) -> str:
    """Of a step that cannot be undone, why it is left; empty where it was never done."""
    state: list[str] = []

    def finish() -> None:
        state.append(world.doer.state(step, record))
        if state == ["half"] and isinstance(step, _ONE_WAY):
            world.doer.do(step, record)

    worse = _trouble(finish)
    if worse:
        return f"{why}; and it cannot be finished: {worse}"
    return "" if state == ["not_done"] else why


def _take_effect(plan: Sequence[Step], ever: Collection[int], undone: Sequence[int], world: World) -> str:
    """Do again what made the change known, now that it is undone: the daemon is reloaded, the unit restarted. Why that
    could not be done; empty where it could."""
    changed = _changes(plan, dict.fromkeys(undone))
    for index in sorted(ever):
        step = plan[index]
        if isinstance(step, (DaemonReload, RestartUnit)) and any(change < index for change in changed):
            why = _trouble(partial(_again, step, world))
            if why:
                return why
    return ""


def _again(step: Step, world: World) -> None:
    _let_no_snapshot_run(world)
    world.doer.do(step, world.doer.prepare(step))


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
    states = _states(number, world)
    # What is noted and leaves nothing to be seen was done; what is to be seen and is not there was undone on a disk
    # that was full.
    for index in done & set(records):
        if type(plan[index]).__name__ not in CHANGES or states.get(index) == "half":
            states[index] = "done"
    interrupted = "the hands ended in the middle"
    began = next(ledger.of_attempt(lines, number, "started"))
    young = ledger.elapsed(lines, began, world.clock()) < ledger.DAY
    if len(states) < len(records) and young and not _stands_still(number, world):
        return _not_now(number, world, (interrupted,), "it cannot be told what was done; it is ended when it can")
    if any(isinstance(plan[index], _ONE_WAY) and state != "not_done" for index, state in states.items()):
        for index, step in enumerate(plan):
            if states.get(index) != "done":
                why = _trouble(partial(_do, number, index, step, world, records.get(index)))
                if why:
                    reasons = interrupted, f"step {index + 1}: {why}"
                    if _snapshot_runs(world):
                        return _not_now(number, world, reasons)
                    return _take_back(number, world, Result.INTERRUPTED, reasons)
        return _conclude(number, world, (interrupted,))
    if len(states) == len(plan) and all(state == "done" for state in states.values()):
        return _conclude(number, world, (interrupted,))
    return _take_back(number, world, Result.INTERRUPTED, (interrupted,))
