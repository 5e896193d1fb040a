"""What have the hands done, refused and left behind? The document in which they tell everybody.

The hands write it after everything they do, and whoever wants to know reads it: it is open to all and holds no secret.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backupready.model import Cause, Effect, Problem

SCHEMA = 1


class Result(enum.Enum):
    """How an attempt to fix something ended. Of all but `healed`, `done` and `under_way`, what can be undone is undone
    again."""

    UNDER_WAY = "under_way"  # it has not ended; what the next start finds so, it finishes or undoes
    HEALED = "healed"  # a fresh look no longer sees the problem, and nothing new
    DONE = "done"  # it was asked for without a problem, and was done
    NOT_HEALED = "not_healed"  # it was done, and the problem is still seen
    WORSE = "worse"  # it was done, and something is seen that was not there before
    FAILED = "failed"  # one of its steps could not be done
    INTERRUPTED = "interrupted"  # the hands ended in the middle
    UNDONE = "undone"  # somebody had it undone later, or its time was over

    @property
    def stands(self) -> bool:
        """Whether what was changed is meant to stay."""
        return self in (Result.HEALED, Result.DONE)


@dataclass(frozen=True)
class Attempt:
    """One remedy, done once. `by` is `mind` or whoever asked for it. Times are seconds since the epoch, `ended` None as
    long as it is under way. `left` are the steps, by their place in the plan, that were to be undone and could not be;
    `reasons` say why, and what else is to be said."""

    id: int
    remedy: str
    problem: str
    key: str
    by: str
    began: float
    result: Result = Result.UNDER_WAY
    ended: float | None = None
    reasons: tuple[str, ...] = ()
    left: tuple[int, ...] = ()


@dataclass(frozen=True)
class Temporary:
    """A change that ends by itself at `until`, seconds since the epoch. `change` is what was changed."""

    attempt: int
    change: str
    until: float


@dataclass(frozen=True)
class Limit:
    """A problem that is not fixed any more, since a limit says so; `until` is None where only its end lifts it."""

    problem: str
    key: str
    remedy: str
    why: str
    until: float | None = None


@dataclass(frozen=True)
class Fixes:
    """All of it, at one moment. Attempts are oldest first, and only the newest. The counters are by remedy and reason,
    and by remedy; they begin anew when the document is lost."""

    at: float
    attempts: tuple[Attempt, ...] = ()
    temporary: tuple[Temporary, ...] = ()
    limits: tuple[Limit, ...] = ()
    incidents: tuple[tuple[str, str], ...] = ()  # problem and key of what is being fixed and is not clear yet
    refused: Mapping[tuple[str, str], int] = field(default_factory=dict)
    would_run: Mapping[str, int] = field(default_factory=dict)


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
    source="backupready.conf(5), section fix",
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
        )
    except (LookupError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ValueError(f"it has a wrong form: {error!r}"[:200]) from None


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
