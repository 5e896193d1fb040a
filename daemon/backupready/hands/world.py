"""What do the hands reach this machine by, and what do they find out about it before they touch it?

They believe nobody: all that the gate goes by is looked up here, as root, at the moment of the request. Those whom they
may not import (the probes, the remedies, the calendar of the windows) are handed in.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Callable

from backupready import fixes, packages, vmsnapshot, waagent
from backupready.hands import gate, guard, ledger, programs
from backupready.hands.apply import World
from backupready.hands.gate import Request, Sight, Situation, Trouble
from backupready.hands.ledger import Ledger, Line, Moment
from backupready.hands.steps import Place, Steps
from backupready.model import (
    Absent,
    Attempt,
    BeliefState,
    CannotTell,
    Finding,
    JoinConfigLines,
    Machine,
    NotNow,
    Outlook,
    Pause,
    Ran,
    Refusal,
    Remedy,
    SetConfigKey,
    Settings,
    Snapshot,
    Step,
    Unsuitable,
    in_utc,
)
from backupready.observe import clean
from backupready.plan import describe

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_PAUSE_LIMIT = 4096  # bytes
# Only these say something about a problem that must be seen for it; the others save the look.
_LOOK_ANYWAY = ("attempt_limit", "storm")


def nothing_kept(request: Request) -> str:
    """The answer of a collection that there is not."""
    return "none was kept"


@dataclass(frozen=True)
class Surroundings:
    """What the hands need of those whom they may not import, and of whoever starts them.

    `settings` are by whole names (`fix.mode`), and were read by the hands themselves. `machine` is a new door for
    looking, with uid 0. `look` is a whole check of everything that is not switched off. `outlook` has the phase and the
    window, given whether a snapshot runs. `show` is told the difference where somebody has changed what was to be
    undone; it may hold what the file keeps secret, and is for the person at the terminal only. `asker_since` is since
    when whoever asks has been running, seconds since the epoch; 0 for a person. The others are the machine's, and are
    replaced in tests.
    """

    settings: Settings
    remedies: Sequence[Remedy]
    machine: Callable[[], Machine]
    look: Callable[[], Snapshot]
    outlook: Callable[[bool], Outlook]
    asker_since: float = 0.0
    collect: Callable[[Request], str] = nothing_kept
    show: Callable[[str], None] = lambda diff: None
    directory: Path = Path(ledger.DIRECTORY)
    summary: Path = Path(fixes.SUMMARY)
    run: Callable[[Sequence[str], float], Ran] = programs.run
    sleep: Callable[[float], None] = time.sleep
    user: Callable[[], int] = os.geteuid


def clock() -> Moment:
    """Now."""
    try:
        boot = Path(_BOOT_ID).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        boot = f"unknown, process {os.getpid()}"  # nothing is reckoned from one start to the next then
    return Moment(time.time(), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


def world(around: Surroundings, opened: Ledger, announce: Callable[[Attempt], None] = lambda attempt: None) -> World:
    """All that apply() needs."""
    return World(
        ledger=opened,
        doer=steps(around),
        situation=lambda remedy, request: situation(around, remedy, request, opened.lines, clock()),
        hold=lambda plan: _hold(plan, around),
        renewed=lambda remedy, request, facts: _renewed(facts, around, remedy, request, opened.lines),
        look=lambda: sight(around.look(), {attempt.problem for attempt in ledger.unfinished(opened.lines)}),
        snapshot=lambda: snapshot(around.machine()),
        collect=around.collect,
        clock=clock,
        sleep=around.sleep,
        announce=announce,
    )


def steps(around: Surroundings) -> Steps:
    """Who does the steps here."""

    def reported() -> float | None:
        try:
            return waagent.newest_report(around.machine()).written
        except (Absent, CannotTell):
            return None

    place = Place(Path(around.settings["machine.root"]), around.run, sleep=around.sleep, reported=reported)
    return Steps(place)


def situation(
    around: Surroundings,
    remedy: Remedy,
    request: Request,
    lines: Sequence[Line],
    now: Moment,
    whole: bool = False,
) -> Situation:
    """What the gate goes by. What is refused anyway is not looked into any further, unless the `whole` is wanted: a
    request may come from somebody who wants to keep the machine busy."""
    facts = _by_settings(around, now)
    for find_out in (
        partial(_by_machine, around=around, guarded=not request.person),
        partial(_by_look, around=around, remedy=remedy, request=request, lines=lines),
    ):
        hoped = Sight(frozenset({(request.problem, request.key)}))
        refusal = gate.check(remedy, request, replace(facts, sight=hoped), lines, now)
        if refusal is not None and refusal.name not in _LOOK_ANYWAY and not whole:
            # Nobody has looked, so that nobody can tell that it is gone.
            unseen = Sight(unknown=frozenset({request.problem}))
            return replace(facts, sight=unseen, plan=CannotTell("it was refused before anybody looked"))
        facts = find_out(facts)
    return facts


def _hold(plan: Sequence[Step], around: Surroundings) -> tuple[Refusal, ...]:
    now = clock()
    return gate.hold(_by_machine(_by_settings(around, now), around, guarded=False), plan, now)


def _renewed(
    facts: Situation, around: Surroundings, remedy: Remedy, request: Request, lines: Sequence[Line]
) -> Situation:
    """The same as it is now; what a look has seen, and what follows from that, stays."""
    now = _by_machine(_by_settings(around, clock()), around, guarded=not request.person)
    return replace(now, sight=facts.sight, plan=facts.plan, precondition=facts.precondition, lower=facts.lower)


def _by_settings(around: Surroundings, now: Moment) -> Situation:
    settings = around.settings
    return Situation(
        mode=settings["fix.mode"],
        allow=settings["fix.allow"],
        user=around.user(),
        outlook=around.outlook(False),
        evidence_since=max(now.wall - now.up, around.asker_since),
        sight=Sight(),
        plan=(),
        paused=paused(Path(settings["fix.pause_file"]), now.wall),
        attempts_per_day=settings["fix.attempts_per_day"],
        different_per_hour=settings["fix.different_per_hour"],
        without_window=settings["fix.without_window"],
    )


def _by_machine(facts: Situation, around: Surroundings, guarded: bool) -> Situation:
    machine = around.machine()
    running = snapshot(machine)
    url = around.settings["fix.guard_url"] if guarded else ""
    return replace(
        facts,
        outlook=around.outlook(True) if isinstance(running, str) and running else facts.outlook,
        guard=guard.ask(machine, url, around.settings["fix.guard_ignore"]) if url else "",
        snapshot=running,
        agent_busy=_told(waagent.busy, machine),
        locked=_told(packages.holder, machine),
    )


def _by_look(
    facts: Situation, around: Surroundings, remedy: Remedy, request: Request, lines: Sequence[Line]
) -> Situation:
    seen = around.look()
    finding = finding_of(seen, request.problem, request.key)
    plan = planned(around, remedy, finding)
    return replace(
        facts,
        sight=sight(seen, {request.problem}),
        plan=plan,
        precondition=_until_then(plan, lines) if isinstance(plan, tuple) else "",
        lower=() if request.person else _lower(around, remedy, finding),
    )


def snapshot(machine: Machine) -> Trouble:
    """What shows that a snapshot runs."""
    return _told(vmsnapshot.under_way, machine)


def _told(question: Callable[[Machine], str], machine: Machine) -> Trouble:
    try:
        return question(machine)
    except CannotTell as error:
        return error


def paused(path: Path, now: float) -> Pause | None:
    """What the pause file says; one that cannot be read pauses."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode):
                return Pause(None, f"{path} is no file")
            return fixes.pause_of(os.read(file, _PAUSE_LIMIT), found.st_mtime, now)
        finally:
            os.close(file)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Pause(None, f"{path} cannot be read: {error.strerror}")


def sight(seen: Snapshot, asked: Collection[str]) -> Sight:
    """What a check has seen. A problem that was `asked` for is told also where it is a mere consequence or a notice;
    where nobody has looked for it, since its probe is switched off, it is unknown."""
    asked = set(asked) - {""}
    believed = {belief.problem.code: belief for belief in seen.beliefs}
    there = {
        (code, sighting.key)
        for code, belief in believed.items()
        if belief.state is BeliefState.ACTIVE
        for sighting in belief.sightings
    }
    found = {(reason.problem.code, reason.key) for reason in seen.reasons}
    found |= {which for which in there if which[0] in asked}
    unknown = {code for code, belief in believed.items() if belief.state is BeliefState.UNKNOWN}
    return Sight(frozenset(found), frozenset(unknown | (asked - set(believed))), frozenset(there))


def finding_of(seen: Snapshot, problem: str, key: str) -> Finding:
    """The finding that a check made of a problem; one without evidence where it made none."""
    for belief in seen.beliefs:
        for sighting in belief.sightings:
            if (belief.problem.code, sighting.key) == (problem, key):
                return Finding(problem, key, sighting.evidence)
    return Finding(problem, key)


def planned(around: Surroundings, remedy: Remedy, finding: Finding) -> tuple[Step, ...] | Unsuitable | CannotTell:
    """The steps of a remedy here and now, or why there are none. A remedy knows no settings: how long its temporary
    change lasts is set here."""
    lasts = around.settings["fix.verbose_for"].total_seconds()
    try:
        plan = tuple(
            replace(step, lasts=lasts) if isinstance(step, SetConfigKey) and step.lasts is not None else step
            for step in remedy.plan(around.machine(), finding)
        )
        for step in plan:
            describe(step)
    except (Unsuitable, CannotTell) as error:
        return error
    except ValueError as error:
        return Unsuitable(f"what it would do cannot be done: {clean(str(error))}")
    return plan


def _until_then(plan: Sequence[Step], lines: Sequence[Line]) -> str:
    """Of an edit of the agent's configuration, which temporary change of it could not be undone any more."""
    given_up = {attempt.id for attempt in ledger.attempts(lines) if attempt.left}
    if any(isinstance(step, (SetConfigKey, JoinConfigLines)) for step in plan):
        for change in ledger.temporary(lines):
            if change.attempt in given_up:
                continue  # another edit takes nothing away from it
            until = in_utc(change.until)
            return f"{change.change} is set for a time, until {until}, and could not be undone after another edit"
    return ""


def _lower(around: Surroundings, remedy: Remedy, finding: Finding) -> tuple[str, ...]:
    """The remedies of lower rungs that may be done and fit this machine, also if not at this moment. Where nothing is
    done, all may be."""
    settings = around.settings
    return tuple(
        other.name
        for other in around.remedies
        if other.rung < remedy.rung
        and finding.problem in other.problems
        and (settings["fix.mode"] != "on" or other.name in settings["fix.allow"])
        and isinstance(planned(around, other, finding), (tuple, NotNow))
    )
