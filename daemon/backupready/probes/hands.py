"""Is there something that fixes cannot mend, or that they have left behind?

Judged in the resident process by what the hands have told. That a limit was reached is no failure of theirs: more of
the same would do more harm than good.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready.fixes import FIX_LIMIT_REACHED, TEMPORARY_CHANGE_OVERDUE
from backupready.model import (
    Access,
    CannotTell,
    Finding,
    Machine,
    Observation,
    Outlook,
    Phase,
    Probe,
    Scalar,
    Settings,
    Temporary,
    in_utc,
)

# What is over is undone by a timer every five minutes, at once after a start of the machine.
_PATIENCE = timedelta(minutes=15).total_seconds()


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Every limit that has not lifted, and every change that has outlived its time."""
    fixes, now = machine.fixes(), machine.now()
    for limit in fixes.limits:
        if limit.until is None or now < limit.until:
            until = None if limit.until is None else in_utc(limit.until)
            evidence = {"key": limit.key, "remedy": limit.remedy, "why": limit.why, "until": until}
            yield Finding("FIX_LIMIT_REACHED", f"{limit.problem} {limit.key}".strip(), evidence)
    if not fixes.temporary:
        return
    try:
        outlook = machine.outlook()
    except CannotTell:
        outlook = Outlook(now)
    if outlook.phase is Phase.OPEN:
        return  # nothing is undone while a backup may run
    for change in fixes.temporary:
        if now - _due(change, outlook) > _PATIENCE:
            over: dict[str, Scalar] = {"attempt": change.attempt, "ended": in_utc(change.until)}
            yield Finding("TEMPORARY_CHANGE_OVERDUE", change.change, over)


def _due(change: Temporary, outlook: Outlook) -> float:
    """From when on it should have been undone: its end, or that of the window that was open then, or since."""
    return max([change.until, *(window.end for window in outlook.passed if window.end <= outlook.at)])


PROBE = Probe(
    name="hands",
    question="Is there something that fixes cannot mend, or that they have left behind?",
    access=Access.MIND,
    problems=(FIX_LIMIT_REACHED, TEMPORARY_CHANGE_OVERDUE),
    look=look,
    budget=timedelta(seconds=5),
    interval=timedelta(minutes=1),
)
