"""What does the administrator type to have something fixed, undone or left alone, and what do the hands' units start?

Here the hands are given what they may not import: the probes by way of a whole check, the remedies, the windows.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import pwd
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Callable

from backupready import bundle, catalogue, cli, config, journal, remedies, report, wire
from backupready.config import Config, ConfigError, duration
from backupready.eyes import look
from backupready.hands import gate, ledger, serve
from backupready.hands import world as worlds
from backupready.hands.apply import LONGEST_WINDOW
from backupready.hands.files import StepFailed
from backupready.hands.gate import Request
from backupready.hands.ledger import LedgerBusy, LedgerError
from backupready.hands.serve import Stop, Stopped
from backupready.hands.steps import Steps
from backupready.hands.world import Surroundings
from backupready.mind.calendar import Calendar, local_zone
from backupready.model import (
    Attempt,
    CannotTell,
    Machine,
    Outlook,
    Phase,
    Refusal,
    Remedy,
    Result,
    Snapshot,
    Step,
    Window,
)
from backupready.observe import clean
from backupready.plan import describe

EXIT_NOT_DONE = 1
EXIT_REFUSED = 4
_SOCKET = "backupready-fix.socket"
_SYSTEMCTL_TIMEOUT = 100.0  # s
_KNOWN = {remedy.name: remedy for remedy in remedies.REMEDIES}
_WOULD_BE = "would be refused"


# ------------------------------------------------------------------------------------------------ what they are given


def surroundings(settings: Config, request: wire.FixRequest | None = None, pid: int | None = None) -> Surroundings:
    """For a request of the daemon's, whose process is `pid`; without them for a person, or for nobody."""
    machine_for = look.live(settings)

    def machine() -> Machine:
        return machine_for({})

    return Surroundings(
        settings=settings,
        remedies=remedies.REMEDIES,
        machine=machine,
        look=lambda: cli.check(settings, machine_for, {}),
        collect=lambda asked: bundle.collect(machine(), time.time(), _asked_for(asked, settings)),
        outlook=outlook(
            settings, (lambda: _told_by(request)) if request else (lambda: _told_by_daemon(settings)), request
        ),
        asker_since=0.0 if pid is None else started(machine(), pid),
    )


def _asked_for(request: Request, settings: Config) -> dict[str, str]:
    """What the evidence before a fix says beside what was found."""
    return {"request.json": json.dumps(vars(request), indent=1) + "\n", "config.txt": cli.in_force(settings) + "\n"}


def started(machine: Machine, pid: int) -> float:
    """Since when a process has been running; nothing that was seen is as young as one that is gone."""
    with contextlib.suppress(CannotTell):
        for process in machine.processes():
            if process.pid == pid:
                return process.started
    return math.inf


def outlook(
    settings: Config, told: Callable[[], tuple[Phase, Window | None]], request: object = None
) -> Callable[[bool], Outlook]:
    """The phase and the window, given whether a snapshot runs: by the schedule that is set, or else as it is told. The
    daemon's word that it is no time for its own `request` counts; against others it holds no longer than a window can.

    Where `told` raises CannotTell, `unplanned` says so: a person may go ahead then, and a change whose time is over is
    ended, unless a snapshot is seen to run.
    """
    calendar = Calendar(settings, local_zone(settings["machine.root"]))

    def now(running: bool) -> Outlook:
        at = time.time()
        if settings["window.schedule"]:
            return calendar.outlook(at, running)
        unplanned = ""
        try:
            phase, window = told()
        except CannotTell as error:
            phase, window = Phase.IDLE, None
            unplanned = f"the daemon cannot be asked whether a window is near: {error.why}"
        too_long = window is not None and window.end - window.start > LONGEST_WINDOW
        if window is not None and (window.end <= at or (too_long and request is None)):
            phase, window = Phase.IDLE, None
        if phase is Phase.OPEN and request is None:
            # By the window, or by the snapshot that shows it: whoever only says so might do it for ever.
            phase = Phase.IDLE if window is None else Phase.HOLD
        if running or (window is not None and window.start <= at):
            phase = Phase.OPEN
        return Outlook(at, phase, window, lead=settings["window.lead"].total_seconds(), unplanned=unplanned)

    return now


def _told_by(request: wire.FixRequest) -> tuple[Phase, Window | None]:
    if request.start is None or request.end is None:
        return request.phase, None
    return request.phase, Window(request.start, request.end, "as the daemon tells", learned=True)


def _told_by_daemon(settings: Config) -> tuple[Phase, Window | None]:
    """Raises CannotTell."""
    document = cli.asked(settings, anybody=False)
    try:
        window = document["window"]
        if window is None:
            raise CannotTell("it has not looked for windows yet")
        phase, coming = Phase(window["phase"]), window["next"]
        if coming is None:
            return phase, None
        start, end = (
            datetime.fromisoformat(coming[name].replace("Z", "+00:00")).timestamp() for name in ("start", "end")
        )
    except (LookupError, ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        raise CannotTell(f"another version answers: {error!r}") from None
    return phase, Window(start, end, "as the daemon tells", learned=True)


@contextlib.contextmanager
def _noted() -> Iterator[Stop]:
    """What is done goes into the journal too; a word to stop is heard."""
    listener = journal.log_to_journal(shown=False)
    try:
        with Stop().listening() as stop:
            yield stop
    finally:
        listener.stop()


def person() -> str:
    """Who asks, by name."""
    name = os.environ.get("SUDO_USER", "")
    if not name:
        try:
            name = pwd.getpwuid(os.getuid()).pw_name
        except KeyError:
            name = f"uid {os.getuid()}"
    return clean(name, 64) if name != ledger.MIND else f"user {name}"


# --------------------------------------------------------------------------------------------------------------- fix


def _fix(options: argparse.Namespace) -> int:
    """What is refused here is counted as if the hands had refused it; not what is refused to somebody who is not root,
    since he cannot write down anything."""
    settings = cli.load(options.config)
    if options.enable or options.disable:
        return _switch(settings, options.enable)
    if options.remedy is None:
        return _list(settings)
    remedy = _KNOWN.get(options.remedy.lower().replace("_", "-"))
    if remedy is None:
        return _wrong("fix", f"there is no remedy {options.remedy!r}; without a name all are listed")
    code = None if options.problem is None else options.problem.upper().replace("-", "_")
    if code is not None and code not in remedy.problems:
        return _wrong("fix", f"{remedy.name} is for {', '.join(remedy.problems) or 'no problem'}, not for {code}")
    around = surroundings(settings)
    if around.user() != 0:
        not_root = Refusal("not_root", "only root may change the machine", None, "ask as root")
        return _refuse(remedy.name, not_root)
    request: Request | Refusal | str = Request(remedy.name, by=person())
    if remedy.problems:
        # The hands look once more: what was left is ended before they judge, and that may have changed the machine.
        request = request_for(remedy, around.look(), code, options.key)
    if isinstance(request, str):
        return _wrong("fix", request)
    if isinstance(request, Refusal):
        if options.dry_run:
            return _refuse(remedy.name, request, _WOULD_BE)
        with _noted():
            serve.refuse(remedy, request, around)
        return _refuse(remedy.name, request)
    _tell_unplanned(around)
    if options.dry_run:
        return _dry_run(remedy, request, around)
    with _noted() as stop:
        answer = serve.fix(remedy, request, around, stop, _tell_waiting)
    if isinstance(answer, Attempt):
        return _tell(answer)
    if isinstance(answer, Refusal):
        return _refuse(remedy.name, answer)
    print(f"Nothing was changed, since fix.mode is {settings['fix.mode']}. {remedy.name} would do this:")
    _print_steps(answer.steps)
    return EXIT_REFUSED


def request_for(remedy: Remedy, seen: Snapshot, code: str | None, key: str | None) -> Request | Refusal | str:
    """What a person asks for: the one problem that a check has seen and the remedy is for. A text says why that is not
    clear."""
    fitting = [which for which in _fitting(remedy, seen) if code in (None, which[0]) and key in (None, which[1])]
    if len(fitting) == 1:
        return Request(remedy.name, *fitting[0], by=person())
    if fitting:
        choices = " or ".join(f"--problem {one} --key {two!r}" if two else f"--problem {one}" for one, two in fitting)
        return f"several problems are there that {remedy.name} is for; add {choices}"
    if code is not None:
        return Request(remedy.name, code, key or "", by=person())  # the gate says what is known of it
    unknown = sorted(worlds.sight(seen, remedy.problems).unknown & set(remedy.problems))
    what = f"; it cannot tell whether {', '.join(unknown)} is there" if unknown else ""
    why = f"a fresh look sees nothing that {remedy.name} is for{what}"
    lift = "find out why it cannot be told" if unknown else "nothing needs to be fixed"
    return Refusal("not_confirmed", why, None, lift)


def _fitting(remedy: Remedy, seen: Snapshot) -> list[tuple[str, str]]:
    return sorted(which for which in worlds.sight(seen, remedy.problems).seen if which[0] in remedy.problems)


def _dry_run(remedy: Remedy, request: Request, around: Surroundings) -> int:
    trouble = ""
    lines: tuple[ledger.Line, ...] = ()
    try:
        lines = ledger.peek(around.directory)
    except LedgerError as error:
        trouble = str(error)
    now = worlds.clock()
    facts = replace(worlds.situation(around, remedy, request, lines, now, whole=True), ledger=trouble)
    refusal = gate.check(remedy, request, facts, lines, now)
    if isinstance(facts.plan, tuple):
        print(f"{remedy.name}{_meant_for(request)} would do this:")
        _print_steps(facts.plan, worlds.steps(around))
    print("Nothing was changed.")
    if refusal is None and facts.mode != "on":
        print(f"fix.mode is {facts.mode}: without --dry-run nothing would be changed either.")
    return 0 if refusal is None else _refuse(remedy.name, refusal, _WOULD_BE)


def _tell_unplanned(around: Surroundings) -> None:
    """To a person, who goes ahead at a moment that he chooses."""
    if unplanned := around.outlook(False).unplanned:
        print(f"backupready fix: {unplanned}", file=sys.stderr)


def _tell_waiting() -> None:
    print("backupready fix: another fix is under way; waiting", file=sys.stderr)


def _print_steps(plan: tuple[Step, ...], doer: Steps | None = None) -> None:
    for number, step in enumerate(plan, 1):
        print(f"  {number}. {describe(step)}")
        if doer is not None:
            try:
                shown = doer.preview(step)
            except StepFailed as error:
                shown = f"it cannot be told what that would change: {error}"
            for line in shown.splitlines():
                print(f"       {line}")


def _meant_for(one: Request | Attempt) -> str:
    return f" for {one.problem} {one.key}".rstrip() if one.problem else ""


def _tell(attempt: Attempt) -> int:
    ends = _ENDS[attempt.result]
    if attempt.result is Result.UNDONE and attempt.left:
        ends = "not undone, or not all of it"
    print(f"{attempt.remedy}{_meant_for(attempt)}: {ends} (attempt {attempt.id}).")
    for reason in attempt.reasons:
        print(f"  {reason}")
    if attempt.result.stands:
        return 0
    if attempt.left:
        print(f"Not undone: step {', '.join(str(step + 1) for step in attempt.left)}.")
    elif attempt.result not in (Result.UNDER_WAY, Result.UNDONE):
        print("What it had changed has been undone.")
    return 0 if attempt.result is Result.UNDONE and not attempt.left else EXIT_NOT_DONE


_ENDS = {
    Result.UNDER_WAY: "it has not ended; the next start of the hands ends it",
    Result.HEALED: "healed, a fresh look no longer sees the problem",
    Result.DONE: "done",
    Result.NOT_HEALED: "done, and it did not help",
    Result.WORSE: "done, and something is seen that was not there before",
    Result.FAILED: "a step could not be done",
    Result.INTERRUPTED: "the hands were ended in the middle",
    Result.UNDONE: "undone",
}


def _refuse(remedy: str, refusal: Refusal, how: str = "is refused") -> int:
    lines = [f"{remedy} {how} ({refusal.name}): {refusal.why}."]
    if refusal.until is not None:
        lines.append(f"Until: {_local(refusal.until)}, in {report.span(refusal.until - time.time())}.")
    lines.append(f"What lifts it: {refusal.lift}.")
    print("\n".join(lines), file=sys.stderr)
    return EXIT_REFUSED


def _wrong(verb: str, what: str) -> int:
    print(f"backupready {verb}: {what}", file=sys.stderr)
    return cli.EXIT_USAGE


def _list(settings: Config) -> int:
    """All remedies, whether they may be done, and, as root, what is against those that are called for now."""
    mode, allow = settings["fix.mode"], settings["fix.allow"]
    around, seen, trouble = surroundings(settings), None, ""
    lines: tuple[ledger.Line, ...] = ()
    if around.user() == 0:
        seen = around.look()
        around = replace(around, look=lambda: seen)
        try:
            lines = ledger.peek(around.directory)
        except LedgerError as error:
            trouble = str(error)
        _tell_unplanned(around)
    for remedy in remedies.REMEDIES:
        print(f"{remedy.name}: {remedy.title}")
        print(f"  {'may be done' if remedy.name in allow else 'may not be done: its name is not in fix.allow'}")
        for problem, key in _fitting(remedy, seen) if seen else ():
            request, now = Request(remedy.name, problem, key, by=person()), worlds.clock()
            facts = replace(worlds.situation(around, remedy, request, lines, now), ledger=trouble)
            refusal = gate.check(remedy, request, facts, lines, now)
            what = "nothing is against it" if refusal is None else f"refused ({refusal.name}): {refusal}"
            print(f"  now for {problem} {key}".rstrip() + f": {what}")
    print(f"fix.mode is {mode}{_MODES[mode]}")
    if seen is None:
        print("Only root is told which of them something calls for now.")
    return 0


_MODES = {
    "off": ": nothing is done.",
    "observe": ": what would be done is told and counted, nothing is done.",
    "on": ": what may be done is done.",
}


def _switch(settings: Config, enable: bool) -> int:
    around = surroundings(settings)
    if around.user() != 0:
        print("backupready fix: only root may do that; ask as root", file=sys.stderr)
        return EXIT_REFUSED
    if enable:
        mode, allow = settings["fix.mode"], settings["fix.allow"]
        print(f"{_SOCKET} is started, now and at every boot: the daemon may ask for fixes through it.")
        print(f"fix.mode is {mode}{_MODES[mode]}")
        print(f"fix.allow: {', '.join(allow) or 'no remedy, so that none is done; see `backupready fix`'}.")
    else:
        print(f"{_SOCKET} is stopped, now and at every boot: nobody but a person has anything fixed.")
    word = "enable" if enable else "disable"
    command = ("systemctl", "--no-ask-password", word, "--now", _SOCKET)
    try:
        ran = around.run(command, _SYSTEMCTL_TIMEOUT)
    except OSError as error:
        print(f"backupready fix: cannot {word} {_SOCKET}: {error.strerror or error}", file=sys.stderr)
        return EXIT_NOT_DONE
    if ran.status != 0:
        print(f"backupready fix: cannot {word} {_SOCKET}: {ran.errors.strip()}", file=sys.stderr)
        return EXIT_NOT_DONE
    return 0


# -------------------------------------------------------------------------------------------------------------- undo


def _undo(options: argparse.Namespace) -> int:
    # Where all of that is to end, the package may be about to be removed: it does not depend on the configuration.
    settings = _at_all_events(options.config, _to_errors) if options.temporary else cli.load(options.config)
    around = replace(surroundings(settings), show=lambda diff: print(diff if _at_terminal() else _SHOWN_ELSEWHERE))
    if not around.directory.exists():
        if options.temporary:
            return 0
        print(f"backupready undo: there is no attempt {options.attempt}: nothing was ever fixed", file=sys.stderr)
        return EXIT_NOT_DONE
    if around.user() != 0:
        print("backupready undo: only root may change the machine; ask as root", file=sys.stderr)
        return EXIT_REFUSED
    try:
        with _noted() as stop:
            if options.temporary:
                return max((_tell(attempt) for attempt in serve.undo_temporary(around, stop)), default=0)
            return _tell(serve.undo(options.attempt, person(), around, stop))
    except LedgerBusy as error:
        print(f"backupready undo: {error}; wait until that has ended", file=sys.stderr)
        return EXIT_REFUSED
    except (LedgerError, StepFailed) as error:
        print(f"backupready undo: {error}", file=sys.stderr)
    except Stopped:
        print("backupready undo: told to stop; the next start of the hands ends it", file=sys.stderr)
    return EXIT_NOT_DONE


_SHOWN_ELSEWHERE = (
    "What somebody has changed since may be secret, and is shown at a terminal only: `backupready undo ATTEMPT`. Our"
    f" copies of the originals are in {ledger.DIRECTORY}/copies."
)


def _at_terminal() -> bool:
    """Whether a person sees what is printed. An installer may keep a record of the terminal that its scripts write to;
    they read from none."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def _to_errors(text: str) -> None:
    print(text, file=sys.stderr)


def _at_all_events(path: str | None, tell: Callable[[str], None]) -> Config:
    """The configuration, or, where it is wrong, the defaults: what was left behind is ended in any case."""
    try:
        return cli.load(path)
    except ConfigError as error:
        tell(f"the configuration is wrong, and what was left behind is ended by the defaults: {error}")
        return config.from_texts(catalogue.SETTINGS, {}, "default")


# ------------------------------------------------------------------------------------------------------ pause, resume


def _pause(options: argparse.Namespace) -> int:
    settings = cli.load(options.config)
    try:
        until = None if options.span is None else time.time() + duration(options.span).total_seconds()
        told = "until `backupready resume`" if until is None else f"until {_local(until)}"
    except (ValueError, OverflowError) as error:
        return _wrong("pause", f"--for: {error}; give a time span, such as 2h")
    path = Path(settings["fix.pause_file"])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(f"{options.span or ''}\n{' '.join(options.reason.split())}\n", encoding="utf-8")
        new.replace(path)
    except OSError as error:
        print(f"backupready pause: cannot write {path}: {error.strerror}; ask as root", file=sys.stderr)
        return EXIT_NOT_DONE
    print(f"Nothing is fixed {told}.")
    _tell_unfinished(surroundings(settings))
    return 0


def _tell_unfinished(around: Surroundings) -> None:
    """What a pause does not stop."""
    try:
        unfinished = ledger.unfinished(ledger.peek(around.directory))
    except LedgerError as error:
        print(f"Whether a fix is under way cannot be told: {error}.")
        return
    for attempt in unfinished:
        which = f"{attempt.remedy}{_meant_for(attempt)} (attempt {attempt.id})"
        print(f"A fix is under way, and goes to its end: {which}.")


def _local(moment: float) -> str:
    return report.local(moment, local_zone(), time.time())


def _resume(options: argparse.Namespace) -> int:
    path = Path(cli.load(options.config)["fix.pause_file"])
    try:
        path.unlink()
    except FileNotFoundError:
        print("Fixes are not paused.")
        return 0
    except OSError as error:
        print(f"backupready resume: cannot remove {path}: {error.strerror}; ask as root", file=sys.stderr)
        return EXIT_NOT_DONE
    print("Fixes are not paused any more.")
    return 0


# ------------------------------------------------------------------------------------------------------------- hands


def _hands(options: argparse.Namespace) -> int:
    listener = journal.log_to_journal()
    try:
        connection = serve.handed_in()
        if connection is not None:
            return serve.answer(
                connection, _KNOWN, lambda request, pid: surroundings(cli.load(options.config), request, pid)
            )
        with Stop().listening() as stop:
            return serve.look_after(surroundings(_at_all_events(options.config, journal.LOG.error)), stop)
    except ValueError as error:
        return _wrong("hands", str(error))
    finally:
        listener.stop()


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "fix": _fix,
    "undo": _undo,
    "pause": _pause,
    "resume": _resume,
    "hands": _hands,
}
