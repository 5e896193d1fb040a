"""Was a look taken for this request a moment ago, and in vain? Then none is taken again so soon.

A look costs seconds, and nobody else has anything fixed meanwhile. Each request is a process of its own: what was
looked for is kept in a file beside the ledger, written by whoever has that open. Nothing depends on it: where it cannot
be read or written, a look is taken.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from backupready.hands.gate import Request
from backupready.hands.ledger import Moment
from backupready.model import Refusal

APART = 60.0  # s between two looks for the same
MOST = 5  # looks in vain within that time, whatever they were for: keys are whoever asks' to choose
_NAME = "vain"

_Look = tuple[float, list[str], str]  # its age in seconds, what it was for, what came of it


def check(directory: Path, request: Request, now: Moment) -> Refusal | None:
    """The refusal, without a look; None where one may be taken."""
    looks = list(_looks(directory, now))
    for age, which, came in looks:
        if which == _which(request):
            why = f"the same was asked for a moment ago, and a look was taken for it ({came})"
            return Refusal("cooldown", why, now.wall + APART - age, "wait")
    if len(looks) < MOST:
        return None
    oldest = sorted(age for age, _, _ in looks)[MOST - 1]
    why = f"{len(looks)} looks were taken within a minute for fixes that were not done"
    return Refusal("cooldown", why, now.wall + APART - oldest, "wait")


def note(directory: Path, request: Request, came: str, now: Moment) -> None:
    """A look was taken for it, and nothing was done: `came` says in a word or two what came of it."""
    looks = [*_looks(directory, now), (0.0, _which(request), came)]
    text = "".join(json.dumps([now.boot, now.up - age, *rest]) + "\n" for age, *rest in looks)
    new = directory / f".{_NAME}.new"
    with contextlib.suppress(OSError):
        new.write_text(text, encoding="ascii")
        new.replace(directory / _NAME)


def _which(request: Request) -> list[str]:
    return [request.remedy, request.problem, request.key]


def _looks(directory: Path, now: Moment) -> Iterator[_Look]:
    """Those that count still. A clock that is set does not matter; another boot begins anew."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        for line in (directory / _NAME).read_text(encoding="ascii").splitlines():
            boot, up, which, came = json.loads(line)
            if boot == now.boot and 0.0 <= now.up - up < APART:
                yield now.up - up, which, came
