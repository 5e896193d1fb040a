"""What have the hands done, refused and left behind? The document in which they tell everybody.

The hands write it after everything they do, and whoever wants to know reads it: it is open to all and holds no secret.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from backupready.model import Attempt, Cause, Effect, Fixes, Limit, Pause, Problem, Result, Temporary, duration
from backupready.observe import clean

SCHEMA = 1
SUMMARY = "/var/lib/backupready-fixes/fixes.json"
_LONGEST_WHY = 300  # characters of a pause

FIX_LIMIT_REACHED = Problem(
    "FIX_LIMIT_REACHED",
    "A problem stays, and is not fixed any more",
    Effect.RISKS,
    Cause.GUEST,
    meaning="What may be done about this problem was tried and did not help, or was tried as often as it may be. It is"
    " left to a person now, since more of the same does more harm than good.",
    diagnosis="`backupready status` tells the last attempts with how they ended. The evidence says which limit.",
    fix="Fix what the problem itself tells, by hand. The limit lifts when the problem is gone, or when its time is"
    " over; `backupready fix REMEDY` tries once more, unless the limit is one of a day or an hour.",
    source="https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot",
)
# A change that stays too long is a nuisance, and no danger to the next backup: what fills the disk is a problem of its
# own when it does.
TEMPORARY_CHANGE_OVERDUE = Problem(
    "TEMPORARY_CHANGE_OVERDUE",
    "A temporary change has not been undone when its time was over",
    Effect.NOTICE,
    Cause.CONFIGURATION,
    meaning="A change that was made for a time, such as verbose logging of the agent, is still in force. It is undone"
    " by a timer within minutes of its end, but not while a backup window is open. The agent's log grows by 10 to"
    " 20 MB a day while it is verbose.",
    diagnosis="`backupready status` lists the change with its end, and how attempts ended;"
    " `systemctl list-timers 'backupready-*'` tells whether the timer runs.",
    fix="Have the timer started, or undo it now: `backupready undo --temporary`. Where the file was changed by somebody"
    " else since, take the change back by hand.",
    source="https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout",
)


def encode(fixes: Fixes) -> bytes:
    """The document, JSON."""
    return (
        json.dumps(
            {
                "schema": SCHEMA,
                "at": fixes.at,
                "attempts": [{**vars(attempt), "result": attempt.result.value} for attempt in fixes.attempts],
                "temporary": [vars(change) for change in fixes.temporary],
                "limits": [vars(limit) for limit in fixes.limits],
                "incidents": fixes.incidents,
                "refused": [[*which, count] for which, count in sorted(fixes.refused.items())],
                "would_run": dict(sorted(fixes.would_run.items())),
                "tried": [[*which, *remedies] for which, remedies in sorted(fixes.tried.items())],
                "ended": [[*which, count] for which, count in sorted(fixes.ended.items())],
            },
            indent=1,
        ).encode()
        + b"\n"
    )


def decode(data: bytes) -> Fixes:
    """Raises ValueError that says what is wrong with the document."""
    try:
        document: Any = json.loads(data)
        if document["schema"] != SCHEMA:
            raise ValueError(f"its schema {str(document['schema'])[:20]!r} is unknown")
        return Fixes(
            float(document["at"]),
            tuple(_attempt(entry) for entry in document["attempts"]),
            tuple(Temporary(int(e["attempt"]), str(e["change"]), float(e["until"])) for e in document["temporary"]),
            tuple(_limit(entry) for entry in document["limits"]),
            tuple((str(problem), str(key)) for problem, key in document["incidents"]),
            {(str(remedy), str(reason)): int(count) for remedy, reason, count in document["refused"]},
            {str(remedy): int(count) for remedy, count in document["would_run"].items()},
            {(str(e[0]), str(e[1])): tuple(str(remedy) for remedy in e[2:]) for e in document.get("tried", ())},
            {(str(remedy), str(result)): int(count) for remedy, result, count in document.get("ended", ())},
        )
    except (LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"it has a wrong form: {error!r}"[:200]) from None


def pause_of(text: bytes, written: float, now: float) -> Pause | None:
    """What a pause file says that was last written at that time; None where its time is over. Its first line is for how
    long; where that is empty, or cannot be read as a time span, until the file is removed. The second line, if there is
    one, is why."""
    span, _, why = text.decode("utf-8", "replace").partition("\n")
    words = " ".join(clean(why, _LONGEST_WHY).split())
    try:
        until = written + duration(span).total_seconds() if span.strip() else None
        if until is not None:
            datetime.fromtimestamp(until, timezone.utc)  # raises what a moment beyond all dates raises
    except (ValueError, OverflowError, OSError):
        until = None
    return None if until is not None and until <= now else Pause(until, words)


def _attempt(entry: Any) -> Attempt:
    return Attempt(
        int(entry["id"]),
        str(entry["remedy"]),
        str(entry["problem"]),
        str(entry["key"]),
        str(entry["by"]),
        float(entry["began"]),
        Result(entry["result"]),
        _moment(entry["ended"]),
        tuple(str(reason) for reason in entry["reasons"]),
        tuple(int(step) for step in entry["left"]),
    )


def _limit(entry: Any) -> Limit:
    return Limit(
        str(entry["problem"]), str(entry["key"]), str(entry["remedy"]), str(entry["why"]), _moment(entry["until"])
    )


def _moment(value: Any) -> float | None:
    return None if value is None else float(value)
