"""What outlives a restart, and how does it reach the disk without anybody waiting for the disk?

One small JSON file, replaced atomically by a thread of its own, which always writes the newest there is: while the disk
is frozen nobody waits, and after the thaw what is true then is written. A file that cannot be read, or that a newer
version wrote, is set aside with a message and never misread.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backupready import journal
from backupready.journal import LOG
from backupready.mind.judge import Kept, KeptClocks, KeptFixes, KeptProblem
from backupready.model import Fixes, Happened, Scalar, Verdict

SCHEMA = 1
_NAME = "state.json"
_LATEST = 253402300799.0  # the last second that a date has: 9999-12-31T23:59:59Z
_MOST_TIMES = 1 << 53  # what a float counts to
_LIMIT = 1 << 20  # bytes; the file has a few hundred
_LOAD_TIMEOUT = 2.0  # s; a frozen disk does not keep the daemon from starting
_CLOSE_TIMEOUT = 5.0  # s; nor from stopping


def encode(kept: Kept) -> bytes:
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": {"verdict": kept.verdict.value, "since": kept.since, "at": kept.at},
        "problems": {
            code: {"since": problem.since, "at": problem.at, "keys": dict(problem.keys)}
            for code, problem in kept.problems.items()
        },
    }
    if kept.clocks is not None:
        document["clocks"] = asdict(kept.clocks)
    if kept.memory:
        document["memory"] = {name: dict(memory) for name, memory in kept.memory.items()}
    if kept.scores:
        document["scores"] = [[said.value, came.value, times] for said, came, times in kept.scores]
    if kept.fixes != KeptFixes():
        document["fixes"] = _encode_fixes(kept.fixes)
    return json.dumps(document, indent=1).encode() + b"\n"


def _encode_fixes(kept: KeptFixes) -> dict[str, Any]:
    document: dict[str, Any] = {"would_run": dict(kept.would_run), "counted": kept.counted}
    if kept.told is not None:
        document["told"] = {
            "at": kept.told.at,
            "refused": [[*which, times] for which, times in kept.told.refused.items()],
            "would_run": dict(kept.told.would_run),
            "ended": [[*which, times] for which, times in kept.told.ended.items()],
        }
    return document


class Unusable(Exception):
    """The file cannot be used; `suffix` is what it is set aside as."""

    def __init__(self, why: str, suffix: str) -> None:
        super().__init__(why)
        self.suffix = suffix


def decode(data: bytes) -> Kept:
    """Raises Unusable."""
    try:
        document = json.loads(data)
        schema = document["schema"]
    except (ValueError, RecursionError, LookupError, TypeError):
        raise Unusable("it is no state of this program", "broken") from None
    if type(schema) is int and schema > SCHEMA:
        raise Unusable(f"a newer version wrote it (schema {schema}, known is {SCHEMA})", f"schema-{schema}"[:30])
    if schema != SCHEMA:
        raise Unusable(f"its schema {str(schema)[:20]!r} is unknown", "broken")
    try:
        verdict = document["verdict"]
        at = _moment(verdict["at"])
        return Kept(
            Verdict(verdict["verdict"]),
            _moment(verdict["since"], at),
            at,
            {str(code): _problem(kept) for code, kept in document["problems"].items()},
            _clocks(document.get("clocks")),
            {str(name): _memory(memory) for name, memory in document.get("memory", {}).items()},
            tuple((Verdict(said), Happened(came), _times(times)) for said, came, times in document.get("scores", ())),
            _fixes(document.get("fixes", {})),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise Unusable(f"it has a wrong form: {error!r}"[:200], "broken") from None


def _problem(document: Any) -> KeptProblem:
    at = _moment(document["at"])
    keys = {str(key): _moment(since, at) for key, since in document["keys"].items()}
    return KeptProblem(_moment(document["since"], at), at, keys)


def _clocks(document: Any) -> KeptClocks | None:
    """An earlier version kept none."""
    if document is None:
        return None
    wall = _moment(document["wall"])
    return KeptClocks(str(document["boot"]), _moment(document["since"], wall), wall, _moment(document["monotonic"]))


def _memory(document: Any) -> dict[str, Scalar]:
    for key, value in document.items():
        if not isinstance(value, (str, int, float, type(None))) or value in (math.inf, -math.inf) or value != value:
            raise ValueError(f"{key!r} has a value that no probe remembers")
    return dict(document)


def _fixes(document: Any) -> KeptFixes:
    told = document.get("told")
    return KeptFixes(
        None if told is None else _counters(told),
        {str(remedy): _times(times) for remedy, times in document.get("would_run", {}).items()},
        tuple((str(remedy), str(problem), str(key)) for remedy, problem, key in document.get("counted", ())),
    )


def _counters(document: Any) -> Fixes:
    return Fixes(
        _moment(document["at"]),
        refused={(str(remedy), str(reason)): _times(times) for remedy, reason, times in document["refused"]},
        would_run={str(remedy): _times(times) for remedy, times in document["would_run"].items()},
        ended={(str(remedy), str(result)): _times(times) for remedy, result, times in document["ended"]},
    )


def _times(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= _MOST_TIMES:
        raise ValueError(f"{value!r} is no count")
    return value


def _moment(value: Any, latest: float = _LATEST) -> float:
    """Seconds since the epoch, not after `latest`."""
    moment = float(value)
    if not 0 <= moment <= latest:
        raise ValueError(f"{value!r} is no moment before {latest:.0f}")
    return moment


class StateFile:
    """The file in its directory, with the thread that alone touches it. No call waits for the disk for longer than
    it says."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / _NAME
        self._wake = threading.Condition()
        self._next: Kept | None = None
        self._loaded: Kept | None = None
        self._loading = True
        self._closing = False
        self._told = ""
        self.failures = 0  # writes that failed
        self._thread = threading.Thread(target=self._work, name="state", daemon=True)
        self._thread.start()

    def load(self) -> Kept | None:
        """What the last run kept; None where there is nothing, or the disk does not answer soon."""
        with self._wake:
            if not self._wake.wait_for(lambda: not self._loading, _LOAD_TIMEOUT):
                LOG.warning("cannot read %s within %g s; going on without it", self._path, _LOAD_TIMEOUT)
            return self._loaded

    def save(self, kept: Kept) -> None:
        """Have this written, in place of what still waits."""
        with self._wake:
            self._next = kept
            self._wake.notify_all()

    def close(self) -> None:
        """Let the last be written, but wait for a frozen disk no longer than a few seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(_CLOSE_TIMEOUT)

    # ---- on the thread

    def _work(self) -> None:
        kept = self._read()
        with self._wake:
            self._loaded, self._loading = kept, False
            self._wake.notify_all()
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._next is not None or self._closing)
                newest, self._next = self._next, None
            if newest is None:
                return
            try:
                self._replace(encode(newest))
            except OSError as error:
                self.failures += 1
                self._tell_once(f"cannot write {self._path}: {error.strerror}; a restart will not know since when")
            else:
                self._told = ""

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            LOG.warning("%s", text)

    def _read(self) -> Kept | None:
        with contextlib.suppress(OSError):
            self._temporary.unlink()  # of a run that was killed while it wrote
        try:
            with self._path.open("rb") as file:
                data = file.read(_LIMIT)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell_once(f"cannot read {self._path}: {error.strerror}; going on without it")
            return None
        try:
            return decode(data)
        except Unusable as error:
            self._set_aside(error)
            return None

    def _set_aside(self, trouble: Unusable) -> None:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = self._path.with_name(f"{_NAME}.{trouble.suffix}.{moment}")
        extra = {"MESSAGE_ID": journal.MESSAGE_STATE_SET_ASIDE}
        try:
            self._path.rename(aside)
        except OSError as error:
            LOG.warning(
                "cannot use %s: %s; and cannot set it aside: %s", self._path, trouble, error.strerror, extra=extra
            )
        else:
            LOG.warning("cannot use %s: %s; set aside as %s", self._path, trouble, aside.name, extra=extra)

    @property
    def _temporary(self) -> Path:
        return self._path.with_name(f".{_NAME}.new")

    def _replace(self, data: bytes) -> None:
        """The whole file or none: what is there is replaced only by what is safely on the disk."""
        with self._temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._temporary.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
