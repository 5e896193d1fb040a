"""How does somebody have a fix done, and how is what was left in the middle ended?

By a connection that the service manager hands in, or by a person's command; the same is done for both. At each start
what an earlier one has not ended is ended first. Whoever tells the hands to stop has the step under way done to its
end, and nothing more begun: their next start finishes the attempt or undoes it, as after a crash.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import signal
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

from backupready import activation, journal, wire
from backupready.config import EXIT_CONFIG, ConfigError
from backupready.hands import apply, gate, ledger, vain
from backupready.hands import world as worlds
from backupready.hands.apply import Doer, World
from backupready.hands.files import Refused, StepFailed
from backupready.hands.ledger import Ledger, LedgerBusy, LedgerError
from backupready.hands.world import Surroundings
from backupready.journal import LOG
from backupready.model import Attempt, Refusal, Remedy, Result, Snapshot, Step
from backupready.observe import clean

_MIND_USER = "backupready"
_REQUEST_TIMEOUT = 5.0  # s; the mind writes its request at once
_ANSWER_TIMEOUT = 5.0  # s
_LONGEST_WHY = 500  # characters of an error
_NAP = 0.5  # s after which a word to stop is heard at the latest
_PATIENCE = 60.0  # s; for a person, until another fix has ended
_UNKNOWN = "unknown"  # the remedy that a request names which cannot be read
_TOO_LATE = Refusal("locked", "the hands were told to stop before it began", None, "ask once more")
_STOPPED = "the hands were told to stop; their next start ends it"
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """We were told to stop, and nothing is under way at this moment."""


class Stop:
    """Whether we were told to stop."""

    def __init__(self) -> None:
        self.told = False

    def heed(self) -> None:
        """Raises Stopped."""
        if self.told:
            raise Stopped

    def sleep(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Raises Stopped also in the middle."""
        while seconds > 0:
            self.heed()
            sleep(min(seconds, _NAP))
            seconds -= _NAP
        self.heed()

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Signals are words to stop meanwhile."""

        def tell(number: int, frame: object) -> None:
            self.told = True

        before = {number: signal.signal(number, tell) for number in _SIGNALS}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Stoppable:
    """Who does the steps, and begins none once we were told to stop; what was refused because of somebody else's change
    is shown."""

    def __init__(self, doer: Doer, stop: Stop, show: Callable[[str], None]) -> None:
        self._doer, self._stop, self._show = doer, stop, show

    def prepare(self, step: Step) -> Mapping[str, Any]:
        self._stop.heed()
        return self._doer.prepare(step)

    def do(self, step: Step, record: Mapping[str, Any]) -> None:
        self._stop.heed()
        self._doer.do(step, record)

    def undo(self, step: Step, record: Mapping[str, Any]) -> None:
        self._stop.heed()
        try:
            self._doer.undo(step, record)
        except Refused as error:
            if error.diff:
                self._show(error.diff)
            raise

    def state(self, step: Step, record: Mapping[str, Any]) -> str:
        return self._doer.state(step, record)


# ------------------------------------------------------------------------------------------------- what is done


@contextlib.contextmanager
def opened(
    around: Surroundings,
    stop: Stop,
    begun: dict[int, Attempt] | None = None,
    patience: float = 0.0,
    waits: Callable[[], None] = lambda: None,
) -> Iterator[World]:
    """The world, with the ledger open for us alone; `begun` is filled with the attempts that begin or end meanwhile, by
    their number. Where somebody else has the ledger, it is waited for with `patience`, in seconds, and `waits` is
    called when that begins. Raises LedgerBusy, LedgerError, and Stopped in the wait."""

    def announce(attempt: Attempt) -> None:
        if begun is not None:
            begun[attempt.id] = attempt
        _log_attempt(attempt)

    def find_out(remedy: Remedy, request: gate.Request) -> gate.Situation:
        facts = world.situation(remedy, request)
        stop.heed()  # that took a while, and nothing is begun yet
        return facts

    def find_out_again(remedy: Remedy, request: gate.Request, facts: gate.Situation) -> gate.Situation:
        facts = world.renewed(remedy, request, facts)
        stop.heed()
        return facts

    calm = replace(around, sleep=lambda seconds: stop.sleep(seconds, around.sleep))
    with _ledger(around, calm.sleep, patience, waits) as book:
        world = worlds.world(calm, book, announce)
        doer = _Stoppable(world.doer, stop, around.show)
        yield replace(world, doer=doer, situation=find_out, renewed=find_out_again)
        if book.unpublished:
            LOG.warning("%s", book.unpublished)


def _ledger(around: Surroundings, sleep: Callable[[float], None], patience: float, waits: Callable[[], None]) -> Ledger:
    left = patience
    while True:
        try:
            return Ledger(around.directory, around.summary, worlds.clock())
        except LedgerBusy:
            if left <= 0:
                raise
        if left == patience:
            waits()
        sleep(_NAP)
        left -= _NAP


def tend(world: World) -> tuple[Attempt, ...]:
    """End what earlier starts have left: attempts in the middle, and temporary changes whose time is over. Raises
    LedgerError."""
    return apply.recover(world) + apply.expire(world)


def fix(
    remedy: Remedy, request: gate.Request, around: Surroundings, stop: Stop, waits: Callable[[], None] = lambda: None
) -> wire.FixAnswer:
    """Have a remedy done, if nothing is against it. A person waits a while for another fix to end, and `waits` tells
    him so; anybody else is refused then."""
    begun: dict[int, Attempt] = {}
    defect: Exception | None = None
    try:
        refusal = None if request.person else vain.check(around.directory, request, worlds.clock())
        if refusal is None:
            answer = _fix(remedy, request, around, stop, begun, waits)
            if isinstance(answer, Refusal):
                _log_refusal(answer, request)
            return answer
    except LedgerBusy as error:
        refusal = Refusal("locked", str(error), None, "wait until that has ended")
    except LedgerError as error:
        refusal = Refusal("ledger", str(error), None, "mend that: what is not noted is not done")
    except Stopped:
        refusal = _TOO_LATE
    except Exception as error:  # noqa: BLE001 - whoever has asked is told, and the journal where it broke
        why = clean(f"a defect: {error!r}")
        for attempt in begun.values():
            goes_on = (why, "the next start ends it") if attempt.result is Result.UNDER_WAY else (why,)
            attempt = replace(attempt, reasons=(*attempt.reasons, *goes_on))
            _log_attempt(attempt, error)
            return attempt
        defect = error
        refusal = Refusal("defect", why, None, "report it with the entry in the journal")
    ledger.note_refusal(around.directory, remedy.name, refusal.name)
    _log_refusal(refusal, request, defect)
    return refusal


def _fix(
    remedy: Remedy,
    request: gate.Request,
    around: Surroundings,
    stop: Stop,
    begun: dict[int, Attempt],
    waits: Callable[[], None],
) -> wire.FixAnswer:
    looked: list[bool] = []

    def look() -> Snapshot:
        looked.append(True)
        return around.look()

    patience = _PATIENCE if request.person else 0.0
    with opened(replace(around, look=look), stop, begun, patience, waits) as world:
        try:
            try:
                tend(world)
            finally:
                begun.clear()  # what was left by others is no answer
            looked.clear()
            answer = apply.apply(remedy, request, world)
        except Stopped:
            return _stopped(remedy.name, world, begun)
        if looked and not request.person and not isinstance(answer, Attempt):
            came = answer.name if isinstance(answer, Refusal) else "it is only observed"
            vain.note(around.directory, request, came, world.clock())
        return answer


def _stopped(remedy: str, world: World, begun: Mapping[int, Attempt]) -> Attempt | Refusal:
    for attempt in ledger.unfinished(world.ledger.lines):
        if attempt.id in begun:
            attempt = replace(attempt, reasons=(*attempt.reasons, _STOPPED))
            _log_attempt(attempt)
            return attempt
    world.ledger.count_refusal(remedy, _TOO_LATE.name)
    world.ledger.publish(world.clock())
    return _TOO_LATE


def look_after(around: Surroundings, stop: Stop) -> int:
    """Without a request: only what was left is ended. Gives the exit status."""
    try:
        with opened(around, stop) as world, contextlib.suppress(Stopped):
            tend(world)
    except LedgerBusy:
        return 0  # whoever has it does the same
    except LedgerError as error:
        LOG.error("%s", error)
        return 1
    return 0


def undo(number: int, by: str, around: Surroundings, stop: Stop) -> Attempt:
    """Have an attempt undone. Raises LedgerBusy, LedgerError, StepFailed and Stopped."""
    with opened(around, stop) as world:
        apply.recover(world)
        return apply.undo(number, world, f"{by} asked for it")


def undo_temporary(around: Surroundings, stop: Stop) -> tuple[Attempt, ...]:
    """Have all temporary changes undone, as before the package is removed. Raises as undo() does: StepFailed where that
    was not tried with all of them."""
    with opened(around, stop) as world:
        ended = apply.recover(world, anyway=True) + apply.expire(world, everything=True)
        tried = {attempt.id for attempt in ended}
        left = [change.change for change in ledger.temporary(world.ledger.lines) if change.attempt not in tried]
        left += [
            f"attempt {attempt.id} of {attempt.remedy}, which has not ended"
            for attempt in ledger.unfinished(world.ledger.lines)
        ]
        if left:
            raise StepFailed(f"cannot undo {', '.join(left)}: a snapshot runs, and nothing is touched meanwhile")
        return ended


# ----------------------------------------------------------------------------------------------------- the journal


def _log_refusal(refusal: Refusal, request: gate.Request, defect: Exception | None = None) -> None:
    what = f" for {request.problem} {clean(request.key)}".rstrip() if request.problem else ""
    tell = LOG.warning if defect is None else LOG.error
    tell(
        "%s%s is refused (%s): %s",
        request.remedy,
        what,
        refusal.name,
        clean(str(refusal)),
        exc_info=defect,
        extra={
            "MESSAGE_ID": journal.MESSAGE_FIX_REFUSED,
            "BACKUPREADY_REMEDY": request.remedy,
            "BACKUPREADY_PROBLEM": request.problem,
            "BACKUPREADY_REFUSAL": refusal.name,
        },
    )


def _log_attempt(attempt: Attempt, defect: Exception | None = None) -> None:
    what = f" for {attempt.problem} {clean(attempt.key)}".rstrip() if attempt.problem else ""
    why = "".join(f"; {clean(reason)}" for reason in attempt.reasons)
    goes_on = attempt.result is Result.UNDER_WAY and attempt.reasons != ()
    began = journal.MESSAGE_FIX_INTERRUPTED if goes_on else journal.MESSAGE_FIX_BEGAN
    messages = {Result.UNDER_WAY: began, Result.UNDONE: journal.MESSAGE_FIX_UNDONE}
    calm = (attempt.result.stands or attempt.result in messages) and not goes_on
    LOG.log(
        logging.ERROR if defect is not None else journal.NOTICE if calm else logging.WARNING,
        "attempt %d of %s%s: %s%s",
        attempt.id,
        attempt.remedy,
        what,
        attempt.result.value,
        why,
        exc_info=defect,
        extra={
            "MESSAGE_ID": messages.get(attempt.result, journal.MESSAGE_FIX_ENDED),
            "BACKUPREADY_REMEDY": attempt.remedy,
            "BACKUPREADY_PROBLEM": attempt.problem,
            "BACKUPREADY_ATTEMPT": str(attempt.id),
            "BACKUPREADY_RESULT": attempt.result.value,
        },
    )


# --------------------------------------------------------------------------------------------------------- the door


def handed_in() -> socket.socket | None:
    """The connection that the service manager has accepted for us; None where there is none. Raises ValueError where it
    has handed in something else."""
    handed = activation.handed_over()
    if not handed:
        return None
    if len(handed) != 1 or not stat.S_ISSOCK(os.fstat(handed[0]).st_mode):
        raise ValueError("the service manager has not handed in one connection; the socket unit needs Accept=yes")
    os.set_inheritable(handed[0], False)
    return socket.socket(fileno=handed[0])


def answer(
    connection: socket.socket,
    remedies: Mapping[str, Remedy],
    around: Callable[[wire.FixRequest, int], Surroundings],
    directory: Path = Path(ledger.DIRECTORY),
) -> int:
    """One request, one answer. `around` is given the request and the pid of whoever asks, and raises ConfigError. What
    is turned away before there are any surroundings is counted in `directory`. Gives the exit status."""
    pid, uid = wire.peer(connection)
    status, remedy = 0, _UNKNOWN
    if uid not in _welcome():
        told = _turn_away("not_welcome", f"uid {uid} may not ask for a fix", remedy, directory)
    else:
        try:
            request = wire.decode_fix_request(wire.receive(connection, wire.FIX_LIMIT, _REQUEST_TIMEOUT), remedies)
            remedy = request.remedy
            with Stop().listening() as stop:
                asked = gate.Request(remedy, request.problem, request.key, ledger.MIND, request.seen)
                told = wire.encode_fix_answer(fix(remedies[remedy], asked, around(request, pid), stop))
        except wire.Malformed as error:
            told = _turn_away("malformed", f"cannot fix: {error}", remedy, directory)
        except ConfigError as error:
            status = EXIT_CONFIG
            told = _turn_away("config", f"the configuration is wrong: {error}", remedy, directory)
        except Exception as error:  # noqa: BLE001 - as in fix(), of what comes before it
            told = _turn_away("defect", f"a defect: {error!r}", remedy, directory, error)
    connection.settimeout(_ANSWER_TIMEOUT)
    with connection, contextlib.suppress(OSError):  # the mind has gone; the summary tells it what was done
        connection.sendall(told)
        connection.shutdown(socket.SHUT_RDWR)
    return status


def _turn_away(name: str, why: str, remedy: str, directory: Path, defect: Exception | None = None) -> bytes:
    """The answer to a request that does not come as far as the gate; it is counted and in the journal."""
    ledger.note_refusal(directory, remedy, name)
    tell = LOG.warning if name in ("malformed", "not_welcome") else LOG.error
    tell(
        "%s is refused (%s): %s",
        f"a fix by {remedy}" if remedy != _UNKNOWN else "a request for a fix",
        name,
        clean(why, _LONGEST_WHY),
        exc_info=defect,
        extra={
            "MESSAGE_ID": journal.MESSAGE_FIX_REFUSED,
            "BACKUPREADY_REMEDY": remedy,
            "BACKUPREADY_REFUSAL": name,
        },
    )
    return wire.encode_error(why[:_LONGEST_WHY])


def _welcome() -> set[int]:
    uids = {0, os.getuid()}
    with contextlib.suppress(KeyError):
        uids.add(pwd.getpwnam(_MIND_USER).pw_uid)
    return uids


# ---------------------------------------------------------------------------------------- what is refused elsewhere


def refuse(remedy: Remedy, refusal: Refusal, around: Surroundings) -> None:
    """Count and log a refusal of somebody who has not come as far as the hands; he is root, since others cannot write
    here."""
    try:
        with Ledger(around.directory, around.summary, worlds.clock()) as book:
            book.count_refusal(remedy.name, refusal.name)
            book.publish(worlds.clock())
            if book.unpublished:
                LOG.warning("%s", book.unpublished)
    except (LedgerBusy, LedgerError):
        ledger.note_refusal(around.directory, remedy.name, refusal.name)
    _log_refusal(refusal, gate.Request(remedy.name))
