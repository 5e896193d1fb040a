"""How do the roles talk? One bounded JSON document each way, over a stream socket whose peer is checked.

The asker writes its document and closes its writing side; the answerer writes its own and closes. There are names
and numbers in a document, never a path and never a command. A document that is too long, late, broken or of the
wrong form is Malformed, with the reason; nothing of it is used.
"""

from __future__ import annotations

import json
import math
import selectors
import socket
import struct
import subprocess
import time
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from backupready import plan
from backupready.model import (
    Attempt,
    CannotTell,
    Effect,
    Finding,
    Happened,
    Looked,
    Phase,
    Planned,
    Probe,
    ProbeState,
    Reading,
    Refusal,
    Result,
    Run,
    Step,
    Watch,
    WouldRun,
)

SCHEMA = 1
REQUEST_LIMIT = 256 << 10  # bytes: a few names, and what the probes remember
ANSWER_LIMIT = 1 << 20  # bytes
FIX_LIMIT = 16 << 10  # bytes: a few names
_LONGEST_TEXT = 10_000  # characters; a traceback is the longest
_MOST_ITEMS = 2000  # findings, readings or watches of one probe
_MOST_RUNS = 200  # twice what the record is read for
MOST_PLANS = 100  # of one look
_MOST_UNITS = 10


class Malformed(Exception):
    """The other side's document cannot be used."""


# --------------------------------------------------------------------------------------------------- documents


Units = Mapping[str, Mapping[str, str]]
Which = tuple[str, str, str]  # remedy, problem, key


@dataclass(frozen=True)
class LookRequest:
    """Which probes are to look, what each remembers from its last look, and the settings that are in force (those
    that differ from their defaults, as text).

    `plans` are the remedies whose plan is wanted, each for a problem and its key. Who looks as root cannot ask the
    service manager: another look with `show_units` tells what it shows, which is handed on in `units`; with None there
    the look asks for itself.
    """

    probes: tuple[str, ...]
    memory: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    plans: tuple[Which, ...] = ()
    show_units: bool = False
    units: Units | None = None


def encode_request(request: LookRequest) -> bytes:
    document: dict[str, Any] = {
        "probes": list(request.probes),
        "memory": dict(request.memory),
        "settings": dict(request.settings),
    }
    if request.plans:
        document["plans"] = [list(which) for which in request.plans]
    if request.show_units:
        document["show_units"] = True
    if request.units is not None:
        document["units"] = {name: dict(shown) for name, shown in request.units.items()}
    return _encode({"schema": SCHEMA, **document})


def decode_request(
    data: bytes, known: Iterable[str], remedies: Callable[[], Iterable[str]] = lambda: ()
) -> LookRequest:
    """Raises Malformed, also for a probe or a remedy that is not known; `remedies` is asked only where plans are."""
    document = _decode(data)
    names, memory = document.get("probes"), document.get("memory", {})
    plans, show_units = document.get("plans", []), document.get("show_units", False)
    asks_else = bool(plans) or show_units is True
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or not (names or asks_else):
        raise Malformed("the request names no probes")
    strangers = sorted(set(names) - set(known))
    if strangers:
        raise Malformed(f"there is no probe {strangers[0][:40]!r}")
    if not isinstance(memory, dict) or not all(isinstance(value, dict) for value in memory.values()):
        raise Malformed("the memory in the request is no table")
    settings = document.get("settings", {})
    if not isinstance(settings, dict) or not all(isinstance(text, str) for text in settings.values()):
        raise Malformed("the settings in the request are no table of texts")
    try:
        wanted = _whichs(plans, remedies) if plans != [] else ()
        units = document.get("units")
        shown = None if units is None else _units(units)
        if type(show_units) is not bool:
            raise TypeError("show_units is neither true nor false")
    except (TypeError, ValueError) as error:
        raise Malformed(f"the request has a wrong form: {error!r}"[:500]) from None
    return LookRequest(tuple(dict.fromkeys(names)), memory, settings, wanted, show_units, shown)


def _whichs(plans: Any, remedies: Callable[[], Iterable[str]]) -> tuple[Which, ...]:
    known = frozenset(remedies())
    return tuple((_in(remedy, known), _text(problem), _text(key)) for remedy, problem, key in _list(plans, MOST_PLANS))


def _units(document: Any) -> Units:
    if len(_table(document)) > _MOST_UNITS:
        raise ValueError(f"more than {_MOST_UNITS} units")
    return {
        _text(name): {_text(key): _text(value) for key, value in _table(shown).items()}
        for name, shown in document.items()
    }


def encode_answer(looks: Sequence[Looked], plans: Sequence[Planned] = (), units: Units | None = None) -> bytes:
    """The answer of the eyes. One that would be longer than the bound is shortened to what was too long."""
    document: dict[str, Any] = {"schema": SCHEMA, "looks": [_look_document(look) for look in looks]}
    if plans:
        document["plans"] = [{**vars(one), "steps": [encode_step(step) for step in one.steps]} for one in plans]
    if units is not None:
        document["units"] = {name: dict(shown) for name, shown in units.items()}
    data = _encode(document)
    if len(data) > ANSWER_LIMIT:
        return encode_error(f"the answer would have {len(data)} bytes, more than {ANSWER_LIMIT}")
    return data


def encode_error(why: str) -> bytes:
    """Why there is no answer."""
    return _encode({"schema": SCHEMA, "error": why})


def decode_answer(data: bytes, asked: Mapping[str, Probe]) -> tuple[Looked, ...]:
    """The answer to a request for the `asked` probes. Raises Malformed."""
    document = _decode(data)
    if "error" in document:
        raise Malformed(str(document["error"])[:500])
    looks = document.get("looks")
    if not isinstance(looks, list):
        raise Malformed("the answer holds no looks")
    try:
        decoded = tuple(_look(look, asked) for look in looks)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Malformed(f"the answer has a wrong form: {error!r}"[:500]) from None
    missing = sorted(set(asked) - {look.probe for look in decoded})
    if missing or len(decoded) != len(asked):
        raise Malformed(f"the answer does not speak once of each probe: {', '.join(missing) or 'too many'}")
    return decoded


def decode_plans(data: bytes, asked: Sequence[Which]) -> tuple[Planned, ...]:
    """What the answer says of the plans that were asked for, in that order. Raises Malformed."""
    document = _decode(data)
    if "error" in document:
        raise Malformed(str(document["error"])[:500])
    try:
        plans = tuple(_planned(one) for one in _list(document["plans"], MOST_PLANS))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Malformed(f"the answer has a wrong form: {error!r}"[:500]) from None
    if [(one.remedy, one.problem, one.key) for one in plans] != list(asked):
        raise Malformed("the answer does not speak once of each plan")
    return plans


def _planned(document: Mapping[str, Any]) -> Planned:
    return Planned(
        _text(document["remedy"]),
        _text(document["problem"]),
        _text(document["key"]),
        tuple(_plain(decode_step(_table(step))) for step in _list(document["steps"])),
        _text(document["why"]),
    )


def _plain(step: Step) -> Step:
    """Raises ValueError or TypeError where a name in it is none."""
    plan.describe(step)
    return step


def decode_units(data: bytes) -> Units:
    """What the service manager shows. Raises Malformed, also where it could not be asked."""
    document = _decode(data)
    try:
        return _units(document["units"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        why = str(document["error"])[:500] if "error" in document else f"the answer has a wrong form: {error!r}"[:500]
        raise Malformed(why) from None


# ------------------------------------------------------------------------------------------------------- fixes


@dataclass(frozen=True)
class FixRequest:
    """What the mind would have done: a remedy for a problem that was seen, with its key, at `seen`. `phase`, and
    `start` and `end` of the window, are as the mind believes; times are seconds since the epoch, None where no window
    is known."""

    remedy: str
    problem: str
    key: str
    seen: float
    phase: Phase = Phase.IDLE
    start: float | None = None
    end: float | None = None


FixAnswer = Union[Attempt, Refusal, WouldRun]


def encode_fix_request(request: FixRequest) -> bytes:
    return _encode({"schema": SCHEMA, **vars(request), "phase": request.phase.value})


def decode_fix_request(data: bytes, known: Iterable[str]) -> FixRequest:
    """Raises Malformed, also for a remedy that is not known."""
    document = _decode(data)
    try:
        strangers = sorted(set(document) - {"schema", *FixRequest.__dataclass_fields__})
        if strangers:
            raise ValueError(f"there is no field {strangers[0][:40]!r}")
        request = FixRequest(
            _in(document["remedy"], known),
            _text(document["problem"]),
            _text(document["key"]),
            _number(document["seen"]),
            Phase(document["phase"]),
            _moment(document["start"]),
            _moment(document["end"]),
        )
        if (request.start is None) is not (request.end is None):
            raise ValueError("a window has a start and an end")
        return request
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Malformed(f"the request has a wrong form: {error!r}"[:500]) from None


def encode_fix_answer(answer: FixAnswer) -> bytes:
    """What came of a request to the hands."""
    if isinstance(answer, Attempt):
        told: dict[str, Any] = {"attempt": {**vars(answer), "result": answer.result.value}}
    elif isinstance(answer, Refusal):
        told = {"refusal": vars(answer)}
    else:
        told = {"would_run": [encode_step(step) for step in answer.steps]}
    return _encode({"schema": SCHEMA, **told})


def decode_fix_answer(data: bytes) -> FixAnswer:
    """Raises Malformed."""
    document = _decode(data)
    if "error" in document:
        raise Malformed(str(document["error"])[:500])
    try:
        if "attempt" in document:
            return _attempt(document["attempt"])
        if "refusal" in document:
            refusal = document["refusal"]
            return Refusal(
                _text(refusal["name"]), _text(refusal["why"]), _moment(refusal["until"]), _text(refusal["lift"])
            )
        return WouldRun(tuple(decode_step(step) for step in _list(document["would_run"])))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Malformed(f"the answer has a wrong form: {error!r}"[:500]) from None


def _attempt(document: Mapping[str, Any]) -> Attempt:
    return Attempt(
        _whole(document["id"]),
        _text(document["remedy"]),
        _text(document["problem"]),
        _text(document["key"]),
        _text(document["by"]),
        _number(document["began"]),
        Result(document["result"]),
        _moment(document["ended"]),
        tuple(_text(reason) for reason in _list(document["reasons"])),
        tuple(_whole(step) for step in _list(document["left"])),
    )


def _moment(value: Any) -> float | None:
    return None if value is None else _number(value)


_STEPS: dict[str, Any] = {kind.__name__: kind for kind in typing.get_args(Step)}


def encode_step(step: Step) -> dict[str, Any]:
    """As JSON has it."""
    return {"step": type(step).__name__, **vars(step)}


def decode_step(document: Mapping[str, Any]) -> Step:
    """Raises ValueError for a step that this version does not know."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in document.items() if name != "step"
    }
    try:
        step: Step = _STEPS[document["step"]](**values)
    except (KeyError, TypeError):
        raise ValueError(f"this version does not know the step {str(dict(document))[:200]}") from None
    return step


# ------------------------------------------------------------------------------------------------------- looks


def _look_document(look: Looked) -> dict[str, Any]:
    return {
        "probe": look.probe,
        "state": look.state.value,
        "seconds": round(look.seconds, 6),
        "attempts": look.attempts,
        "why": look.why,
        "traceback": look.traceback,
        "findings": [[f.problem, f.key, dict(f.evidence), _effect_name(f.effect)] for f in look.findings],
        "readings": [[r.metric, r.value, dict(r.labels)] for r in look.readings],
        "watches": [[w.role, w.pid] for w in look.watches],
        "runs": [[r.ended, r.code, r.happened.value, r.began, r.path] for r in look.runs],
        "unknown": [[u.why, list(u.problems), _effect_name(u.effect)] for u in look.unknown],
        "memory": dict(look.memory),
    }


def _look(document: Mapping[str, Any], asked: Mapping[str, Probe]) -> Looked:
    probe = asked[document["probe"]]
    effects = {problem.code: {problem.effect, *problem.milder} for problem in probe.problems}
    metrics = {metric.name: metric.labels for metric in probe.metrics}
    return Looked(
        probe=probe.name,
        state=ProbeState(document["state"]),
        seconds=_number(document["seconds"]),
        attempts=_whole(document["attempts"]),
        why=_text(document["why"]),
        traceback=_text(document["traceback"]),
        findings=tuple(
            Finding(_in(code, effects), _text(key), _flat(facts), _effect(effect, effects[code]))
            for code, key, facts, effect in _list(document["findings"])
        ),
        readings=tuple(
            Reading(_in(name, metrics), _number(value), {_in(k, metrics[name]): _text(v) for k, v in labels.items()})
            for name, value, labels in _list(document["readings"])
        ),
        watches=tuple(Watch(_text(role), _pid(pid)) for role, pid in _list(document["watches"])),
        runs=tuple(
            Run(_number(ended), _code(code), Happened(_text(how)), None if began is None else _number(began), _text(by))
            for ended, code, how, began, by in _list(document["runs"], _MOST_RUNS)
        ),
        unknown=tuple(
            CannotTell(_text(why), [_in(code, effects) for code in _list(codes)], _effect(effect, set(Effect)))
            for why, codes, effect in _list(document["unknown"])
        ),
        memory=_table(document["memory"]),
    )


def _effect_name(effect: Effect | None) -> str | None:
    return effect.value if effect else None


def _effect(value: Any, allowed: set[Effect]) -> Effect | None:
    """One of those that are declared; None stands for the declared one."""
    if value is None:
        return None
    effect = Effect(_text(value))
    if effect not in allowed:
        raise ValueError(f"{value!r} is no effect that is declared")
    return effect


def _list(value: Any, most: int = _MOST_ITEMS) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    if len(value) > most:
        raise ValueError(f"a list of more than {most}")
    return value


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is no table")
    return value


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise ValueError("no count")
    return value


def _code(value: Any) -> int:
    """A code of the extension's, which may be any number that a file holds."""
    if type(value) is not int or abs(value) >= 1 << 63:
        raise ValueError("no code")
    return value


def _in(value: Any, declared: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in declared:
        raise ValueError(f"{value!r} is not declared")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    if len(value) > _LONGEST_TEXT:
        raise ValueError(f"a text of more than {_LONGEST_TEXT} characters")
    value.encode()  # half a surrogate pair can be shown nowhere; UnicodeEncodeError is a ValueError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is no number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is no finite number")
    return number


def _pid(value: Any) -> int:
    if type(value) is not int or not 0 < value < 1 << 31:
        raise ValueError("no process")
    return value


def _flat(value: Any) -> dict[str, Any]:
    for name, fact in _table(value).items():
        _text(name)
        if isinstance(fact, str):
            _text(fact)
        elif fact is not None and not isinstance(fact, bool):
            _number(fact)
    return _table(value)


def _encode(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _decode(data: bytes) -> dict[str, Any]:
    if not data:
        raise Malformed("there was no answer")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed(f"not JSON: {data[:60]!r}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise Malformed(f"not a document of schema {SCHEMA}")
    return document


# ----------------------------------------------------------------------------------------------------- sockets


def peer(connection: socket.socket) -> tuple[int, int]:
    """The pid and the uid of the process at the other end when it connected, as the kernel knows them."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(pid), int(uid)


def peer_uid(connection: socket.socket) -> int:
    """The uid alone."""
    return peer(connection)[1]


def receive(connection: socket.socket, limit: int, seconds: float) -> bytes:
    """The other side's whole document. Raises Malformed when it is too long or late."""
    deadline = time.monotonic() + seconds
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Malformed(f"not complete after {seconds:g} s")
        connection.settimeout(left)
        try:
            piece = connection.recv(65536)
        except socket.timeout:
            continue
        except OSError as error:
            raise Malformed(f"the connection broke: {error.strerror}") from None
        if not piece:
            return data
        data += piece
        if len(data) > limit:
            raise Malformed(f"longer than {limit} bytes")


class Exchange:
    """One question to another role, asked without waiting: register `fileno()` for reading, call `advance()` when it
    is readable or the deadline has come, and take `answer` or `failure` once `done`."""

    def __init__(
        self,
        connection: socket.socket,
        request: bytes,
        seconds: float,
        child: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.started = time.monotonic()
        self.deadline = self.started + seconds
        self.child = child
        self.done = False
        self.answer = b""
        self.failure = ""
        self._seconds = seconds
        self._connection = connection
        self._unsent = request
        self._received = b""
        connection.setblocking(False)
        self._send()

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def events(self) -> int:
        """What to wait for."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def _send(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
            self._connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""  # it does not listen any more; whether it says something shows in reading

    def advance(self) -> None:
        """Take what is there."""
        if self._unsent and not self.done:
            self._send()
        while not self.done:
            try:
                piece = self._connection.recv(65536)
            except BlockingIOError:
                break
            except ConnectionResetError:
                piece = b""  # it ended without having read the whole question; what it said counts
            except OSError as error:
                self._end(f"broke the connection: {error.strerror}")
                break
            if not piece:
                self.answer = self._received
                self._end("" if self._received else self._silence())
            self._received += piece
            if len(self._received) > ANSWER_LIMIT:
                self._end(f"answered more than {ANSWER_LIMIT} bytes")
        if not self.done and time.monotonic() >= self.deadline:
            self._end(f"did not answer within {self._seconds:g} s")

    def cancel(self, why: str) -> None:
        """Give up."""
        if not self.done:
            self._end(why)

    def _silence(self) -> str:
        if self.child is None:
            return "ended without an answer"
        try:
            code = self.child.wait(0.5)
        except subprocess.TimeoutExpired:
            return "closed without an answer"
        return f"died of signal {-code}" if code < 0 else f"ended with code {code} and without an answer"

    def _end(self, failure: str) -> None:
        self.done = True
        self.failure = failure
        self._connection.close()
        if self.child is not None and self.child.poll() is None and failure:
            self.child.kill()


def connect(path: str, request: bytes, seconds: float, allowed: Iterable[int]) -> Exchange:
    """Ask through a unix socket whose other end must belong to one of the `allowed` uids. Raises OSError."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(1.0)  # a full backlog is the only thing that can delay it
    try:
        connection.connect(path)
        uid = peer_uid(connection)
        if uid not in set(allowed):
            raise PermissionError(0, f"the other end of {path} belongs to uid {uid}")
    except OSError:
        connection.close()
        raise
    return Exchange(connection, request, seconds)


def spawn(command: Sequence[str], request: bytes, seconds: float) -> Exchange:
    """Ask a child process, which finds the connection as its standard input. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        child = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, start_new_session=True)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Exchange(ours, request, seconds, child)
