"""What does the administrator type? One command with a verb, and exit codes that mean something.

0 ready · 1 at risk or degraded · 2 blocked · 3 unknown (the Nagios codes) · 4 a fix is refused · 64 usage · 73 a file
cannot be written · 78
configuration.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import http.client
import io
import json
import os
import platform
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from backupready import __version__, bundle, catalogue, config, probes, report, vmsnapshot
from backupready.config import Config, ConfigError
from backupready.mind.calendar import Calendar, is_running, local_zone
from backupready.mind.judge import Judge
from backupready.mind.loads import Loads
from backupready.mind.summary import of as summary_of
from backupready.mind.summary import pause
from backupready.model import Access, CannotTell, Looked, Planning, Probe, ProbeState, Remedy, Snapshot, Verdict
from backupready.observe import observe

if TYPE_CHECKING:
    from backupready.eyes.look import MachineFor

EXIT_USAGE = 64  # EX_USAGE of sysexits.h
EXIT_CANNOT_CREATE = 73  # EX_CANTCREAT
_CONFIRM_TOTAL = 45.0  # s; the longest that a check looks again to be sure
_STATUS_TIMEOUT = 5.0  # s
_LONGEST_DOCUMENT = 1 << 24  # bytes
_FIRST_LOOK = 10.0  # s that status waits for a daemon that has just been started
_FIRST_LOOK_TURN = 0.25  # s
_BUNDLE_TIMEOUT = 60.0  # s, beside the check


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def command_line() -> argparse.ArgumentParser:
    """The verbs and their options; the manual and the completions are rendered from it too."""
    parser = _Parser(
        prog="backupready",
        description="Says hours ahead whether the next Azure Backup of this Linux VM will succeed, and why not.",
        epilog="Exit status of check and status: 0 ready, 1 at risk or degraded, 2 blocked, 3 unknown;"
        " 64 wrong usage, 73 a file cannot be written, 78 wrong configuration. Of fix and undo: 0 it is done, and"
        " what it is for is healed; 1 it did not help or could not be done, and is undone as far as can be; 4 it is"
        " refused, and nothing is changed.",
    )
    parser.add_argument("--version", action="version", version=f"backupready {__version__}")
    parser.add_argument("--config", metavar="FILE", help=f"instead of {config.DEFAULT_PATH}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=_Parser)

    run = verbs.add_parser("run", help="the resident daemon")
    run.add_argument(
        "--web.listen-address",
        dest="listen_address",
        metavar="ADDRESS",
        action="append",
        help="instead of web.listen_address; may be given several times",
    )
    run.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        help="serve the sockets that systemd hands over",
    )
    run.add_argument(
        "--web.config.file", dest="web_config_file", metavar="FILE", help="instead of web.config_file: TLS and users"
    )
    run.add_argument(
        "--textfile", metavar="PATH", help="instead of textfile.path: write the metrics there, for node_exporter"
    )

    check = verbs.add_parser("check", help="one look now")
    form = check.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON document")
    form.add_argument("--nagios", action="store_true", help="one line, as monitoring plugins print it")
    check.add_argument("--root", metavar="DIR", help="judge a captured tree (etc, var, run, proc below DIR)")
    check.add_argument("--at", metavar="TIME", help="with --root: when it was captured, such as 2026-11-23T00:30:00Z")
    check.add_argument("--demo", action="store_true", help="judge an emulated guest")

    status = verbs.add_parser("status", help="what the running daemon believes; waits for its first look")
    status.add_argument("--json", action="store_true", help="one JSON document")

    window = verbs.add_parser("window", help="the next backup windows, and where they are from")
    window.add_argument("--json", action="store_true", help="one JSON document")

    explain = verbs.add_parser("explain", help="meaning, diagnosis, documented fix and source of a problem")
    explain.add_argument(
        "code",
        metavar="CODE",
        nargs="?",
        help="such as AGENT_STOPPED; also a remedy's name, such as restart-agent, a number of the extension's, such as"
        " 76, or a name of the portal's, such as UserErrorFsFreezeFailed; without it, all problems",
    )

    package = verbs.add_parser("bundle", help="what support would ask for, without secrets, in one file")
    package.add_argument("--output", metavar="FILE", help="a new file, instead of ./backupready-HOST-DATE.tar.gz")
    package.add_argument("--root", metavar="DIR", help="of a captured tree (etc, var, run, proc below DIR)")

    fix = verbs.add_parser("fix", help="have a documented fix done now, or see which there are")
    fix.add_argument("remedy", metavar="REMEDY", nargs="?", help="such as restart-agent; without it, all are listed")
    fix.add_argument("--problem", metavar="CODE", help="what it is to fix, where that is not clear")
    fix.add_argument("--key", metavar="KEY", help="which of several of that kind")
    what = fix.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="print the steps and what they would change")
    what.add_argument("--enable", action="store_true", help="let the daemon have fixes done")
    what.add_argument("--disable", action="store_true", help="let nobody but a person have fixes done")

    undo = verbs.add_parser("undo", help="take back what a fix has changed")
    undo.add_argument("attempt", metavar="ATTEMPT", nargs="?", type=int, help="its number, as status and fix tell it")
    undo.add_argument("--temporary", action="store_true", help="all changes for a time, before that is over")

    pause = verbs.add_parser("pause", help="have nothing fixed for a time")
    pause.add_argument("--for", metavar="SPAN", dest="span", help="such as 2h; without it, until resume")
    pause.add_argument("--reason", metavar="TEXT", default="", help="why, for others to read")

    verbs.add_parser("resume", help="end a pause")

    rules = verbs.add_parser("rules", help="alert rules for Prometheus, with the address of your runbook")
    rules.add_argument(
        "--runbook",
        metavar="URL",
        required=True,
        help="where its pages are; http://{{ $labels.instance }}/runbook for each machine's own, where instances are"
        " HOST:PORT and scraped by plain HTTP",
    )
    rules.add_argument("--keep-firing", action="store_true", help="for Prometheus 2.42 and later, by keep_firing_for")

    conf = verbs.add_parser("config", help="find mistakes in the configuration, or show what is in force")
    conf.add_argument("action", choices=("check", "show"))

    verbs.add_parser("look", help="what the socket unit of the eyes starts")
    verbs.add_parser("hands", help="what the socket unit of the hands starts, and their timer")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script."""
    parser = command_line()
    options = parser.parse_args(arguments)
    if options.verb == "check" and options.at and not options.root:
        parser.error("--at goes with --root")
    if options.verb == "check" and options.root and options.demo:
        parser.error("--demo does not go with --root")
    if options.verb == "fix" and options.remedy and (options.enable or options.disable):
        parser.error("--enable and --disable are for all remedies; each is allowed by its name in fix.allow")
    if options.verb == "fix" and not options.remedy and (options.dry_run or options.problem or options.key):
        parser.error("--dry-run, --problem and --key go with a remedy")
    if options.verb == "undo" and (options.attempt is None) is not options.temporary:
        parser.error("give the number of an attempt, or --temporary")
    try:
        status = int(_VERBS[options.verb](options))
        sys.stdout.flush()  # here, where a reader that has gone is no surprise
        return status
    except ConfigError as error:
        print(error, file=sys.stderr)
        return config.EXIT_CONFIG
    except BrokenPipeError:
        # Whoever read us has gone; keep the interpreter from complaining about it once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_USAGE


def load(path: str | None, options: Mapping[str, str] | None = None) -> Config:
    return config.load(catalogue.SETTINGS, Path(path) if path else None, options)


# --------------------------------------------------------------------------------------------------------- run


def _run(options: argparse.Namespace) -> int:
    from backupready import journal, remedies
    from backupready.mind.history import History
    from backupready.mind.monitor import Monitor, look_command
    from backupready.mind.state import StateFile

    with contextlib.suppress(io.UnsupportedOperation):  # where standard error is no file
        faulthandler.enable()  # the watchdog's SIGABRT then says where every thread stood
    given = _run_options(options)
    settings = load(options.config, given)
    listener = journal.log_to_journal()
    try:
        monitor = Monitor(
            settings,
            lambda: load(options.config, given),
            probes.PROBES,
            probes.METRICS,
            look_command(),
            StateFile(settings["state.directory"]),
            History(settings["state.directory"], settings["history.keep"], settings["history.limit"]),
            remedies.REMEDIES,
            runbook=_runbook,
        )
    except OSError as error:
        print(f"backupready: {error.strerror or error}", file=sys.stderr)
        return 1
    for address in monitor.web.addresses:
        journal.LOG.info("serving %s://%s/", monitor.web.scheme, address)
    try:
        return monitor.run()
    finally:
        listener.stop()


def _runbook(name: str) -> str | None:
    """A page of the runbook; loaded when somebody reads one."""
    from backupready.catalogue import runbook

    return runbook.PAGES[name]() if name in runbook.PAGES else None


def _run_options(options: argparse.Namespace) -> dict[str, str]:
    """What the options of `run` set, by the setting's name. A relative path is one from here."""
    given = {}
    if options.listen_address:
        given["web.listen_address"] = ",".join(options.listen_address)
    if options.systemd_socket:
        given["web.systemd_socket"] = "yes"
    if options.web_config_file is not None:
        given["web.config_file"] = str(Path(options.web_config_file).absolute()) if options.web_config_file else ""
    if options.textfile is not None:
        given["textfile.path"] = str(Path(options.textfile).absolute()) if options.textfile else ""
    return given


def _look(options: argparse.Namespace) -> int:
    from backupready import preconditions
    from backupready.eyes import look

    known = {probe.name: probe for probe in probes.PROBES}
    look.serve(known, catalogue.SETTINGS, _remedies, preconditions.shown_units)
    print("backupready look: this is for the daemon, which asks through a socket on standard input", file=sys.stderr)
    return EXIT_USAGE


def _remedies() -> dict[str, Remedy]:
    """By name; a look that makes no plan has no use for them."""
    from backupready import remedies

    return {remedy.name: remedy for remedy in remedies.REMEDIES}


# ------------------------------------------------------------------------------------------------------- check


def _check(options: argparse.Namespace) -> int:
    from backupready.eyes import look

    is_captured = options.root is not None
    if is_captured and not Path(options.root).is_dir():
        print(f"backupready check: cannot read {options.root}: there is no such directory", file=sys.stderr)
        return EXIT_USAGE
    at = _moment(options.at)
    with _config_to_check(options) as settings:
        snapshot = _judged(settings, options.root, at)
        if not is_captured and os.geteuid() == 0 and settings["fix.mode"] != "off":
            snapshot = with_plans(snapshot, settings, look.live(settings))
    if not is_captured and os.geteuid() != 0 and not options.demo and not snapshot.void:
        print("backupready check: not run by root, so that most of it cannot be told", file=sys.stderr)
    if options.json:
        print(json.dumps(report.document(snapshot), indent=2, ensure_ascii=False))
    elif options.nagios:
        print(report.nagios(snapshot))
    else:
        print(report.text(snapshot))
    sys.stdout.flush()
    return snapshot.verdict.exit_code


def _judged(settings: Config, root: str | None, at: float | None = None) -> Snapshot:
    """One judgement of this machine, or of the tree captured in `root`, as it was at that moment."""
    from backupready.eyes import look
    from backupready.mind.monitor import machine_facts

    if root is not None:
        return check(settings, look.captured(root, at), {"name": "captured tree", "root": root}, changes=False)
    return check(settings, look.live(settings), machine_facts(settings["machine.root"]))


def with_plans(snapshot: Snapshot, settings: Config, machine_for: MachineFor) -> Snapshot:
    """What would be done for its reasons, as the daemon would tell it."""
    from backupready.eyes import look
    from backupready.mind.planner import Planner, Policy

    known = _remedies()
    planner = Planner(tuple(known.values()), probes.PROBES, Policy(settings["fix.mode"]))
    if wanted := planner.to_plan(snapshot, 0.0, always=True):
        plans = look.plan(known, wanted, machine_for, settings["look.deadline"].total_seconds())
        planner.planned(plans, time.time(), 0.0)
    return replace(snapshot, plans=planner.plans(snapshot, 0.0))


@contextlib.contextmanager
def _config_to_check(options: argparse.Namespace) -> Iterator[Config]:
    if not options.demo:
        yield load(options.config)
        return
    from backupready.demo import EmulatedGuest

    print("This guest is emulated.", file=sys.stderr)
    with EmulatedGuest() as guest:
        yield load(str(guest.config_path))


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        print(f"backupready check: {text!r} is no time; write 2026-11-23T00:30:00Z", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def check(settings: Config, machine_for: MachineFor, facts: Mapping[str, str], changes: bool = True) -> Snapshot:
    """One judgement from nothing, in this process: a look, and more of them while something that was seen needs to
    be confirmed. A machine that does not change (a captured tree) is not waited for between them."""
    enabled = [probe for probe in probes.PROBES if settings[f"{probe.name}.enabled"]]
    intervals = {probe.name: settings[f"{probe.name}.interval"].total_seconds() for probe in enabled}
    needed = settings["window.consistency"] == "application"
    judge = Judge(enabled, intervals, settings["look.deadline"].total_seconds(), needed=needed)
    calendar = Calendar(settings, local_zone(settings["machine.root"]))
    monotonic = time.monotonic()
    calendar.tick(time.time(), monotonic, time.clock_gettime(time.CLOCK_BOOTTIME) - monotonic)
    started, skipped = time.monotonic(), 0.0
    due: Sequence[Probe] = [probe for probe in enabled if probe.voids]
    later = [probe for probe in enabled if not probe.voids]
    while True:
        for looked in _look_once(due, machine_for, settings, calendar, changes):
            now = time.monotonic() - started + skipped
            judge.saw(looked, now, time.time())
            if looked.traceback:
                print(f"backupready: a defect in probe {looked.probe}:\n{looked.traceback}", file=sys.stderr)
        now = time.monotonic() - started + skipped
        if judge.void:
            break
        if later:
            if not judge.waits:
                due, later = later, []
            continue
        due = [probe for probe in enabled if probe.name in judge.pending()]
        wait = max(settings["look.confirm_after"].total_seconds(), judge.confirm_at() - now)
        if not due or now + wait > _CONFIRM_TOTAL:
            break
        if changes:
            time.sleep(wait)
        else:
            skipped += wait
    if switched_off := [probe.name for probe in probes.PROBES if probe not in enabled]:
        facts = {**facts, "switched_off": " ".join(switched_off)}
    snapshot = judge.snapshot(now, time.time(), facts, {})
    if not changes:
        return snapshot
    summary = summary_of(settings["machine.root"])
    summary.refresh(now, at_once=True)
    planning = Planning(settings["fix.mode"], pause(settings["fix.pause_file"], time.time()), unread=summary.unread)
    outlook = calendar.outlook(time.time(), is_running(snapshot))
    return replace(snapshot, outlook=outlook, fixes=summary.told, planning=planning)


def _look_once(
    due: Sequence[Probe], machine_for: MachineFor, settings: Config, calendar: Calendar, changes: bool
) -> Iterator[Looked]:
    """Everything that is due, each as it is looked at where there is a daemon. A machine that changes is sampled
    before, since a look keeps a small one busy by itself; its record is read before it is held against the windows."""
    from backupready.eyes import look
    from backupready.mind import sampler

    here = [probe for probe in due if probe.access is Access.MIND and changes]
    sampled = sampler.burst() if here else ()
    for looked in look.look([probe for probe in due if probe not in here], machine_for, settings):
        if looked.probe == "past" and looked.state is ProbeState.OK:
            calendar.read(looked.runs)
        elif looked.probe == "past":
            calendar.unread(looked.why)
        yield looked
    for probe in here:
        summary = summary_of(settings["machine.root"])
        summary.refresh(0.0, at_once=True)
        machine = sampler.Sampled(
            lambda: sampled, outlook=lambda: calendar.outlook(time.time(), loads=Loads()), fixes=summary.fixes
        )
        yield observe(probe, machine, settings)


# ------------------------------------------------------------------------------------------------------ status


def _status(options: argparse.Namespace) -> int:
    settings = load(options.config)
    document, latest = _asked(settings), time.monotonic() + _FIRST_LOOK
    while document is not None and report.not_yet(document) and time.monotonic() < latest:
        time.sleep(_FIRST_LOOK_TURN)
        document = _asked(settings)
    if document is None:
        return Verdict.UNKNOWN.exit_code
    print(json.dumps(document, indent=2, ensure_ascii=False) if options.json else report.told(document))
    return Verdict(document["verdict"]).exit_code


def _window(options: argparse.Namespace) -> int:
    document = _asked(load(options.config))
    if document is None:
        return Verdict.UNKNOWN.exit_code
    whole = json.dumps(document.get("window"), indent=2, ensure_ascii=False)
    print(whole if options.json else report.windows(document))
    return 0


def _asked(settings: Config) -> dict[str, Any] | None:
    """The running daemon's document; None, and why on standard error, where there is none that can be read."""
    try:
        return asked(settings)
    except CannotTell as error:
        print(f"backupready: {error}", file=sys.stderr)
        return None


class _UnixConnection(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_STATUS_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def asked(settings: Config, anybody: bool = True) -> dict[str, Any]:
    """The running daemon's document: from its status socket, and where that cannot be had as `anybody` gets it. While
    the daemon is down, anybody may listen in its place there; for whoever goes by the answer the socket alone counts,
    where there is one. Raises CannotTell."""
    path, needs_root, instead = settings["web.status_socket"], False, ""
    if path and not anybody:
        try:
            return _document_from(_UnixConnection(path), path)
        except (OSError, http.client.HTTPException, _PasswordNeeded) as error:
            why = getattr(error, "strerror", None) or error
            raise CannotTell(f"cannot ask the daemon at {path}: {why}; does it run?") from None
    if path:
        try:
            return _document_from(_UnixConnection(path), path)
        except PermissionError:
            needs_root, instead = True, f"root needs none, at {path}; "
        except (OSError, http.client.HTTPException) as error:
            instead = f"root would need none at {path}, but: {getattr(error, 'strerror', None) or error}; "
    host, port = settings["web.listen_address"][0]
    host = {"::": "::1", "0.0.0.0": "127.0.0.1"}.get(host, host)
    root = f" Root can ask at {path}" if needs_root else ""
    try:
        connection = _connection(settings, host, port)
    except OSError as error:
        raise CannotTell(f"cannot read the daemon's certificate: {error.strerror}{root and ';'}{root}") from None
    except ConfigError as error:
        if not needs_root:
            raise
        raise CannotTell(f"cannot see how the daemon listens: {' '.join(str(error).split())};{root}") from None
    try:
        return _document_from(connection, f"{host}:{port}")
    except _PasswordNeeded:
        scheme = "https" if isinstance(connection, http.client.HTTPSConnection) else "http"
        raise CannotTell(f"the daemon asks for a password; {instead}see {scheme}://{host}:{port}/") from None
    except (OSError, http.client.HTTPException) as error:
        raise CannotTell(f"cannot ask the daemon at {host}:{port}: {error}; does it run?{root}") from None


class _PasswordNeeded(Exception):
    pass


def _document_from(connection: http.client.HTTPConnection, where: str) -> dict[str, Any]:
    """Raises CannotTell where that is no document of the daemon's, and what the connection raises."""
    answers: list[tuple[int, bytes]] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            connection.request("GET", "/api/v1/status")
            answer = connection.getresponse()
            answers.append((answer.status, answer.read(_LONGEST_DOCUMENT)))
        except (OSError, http.client.HTTPException) as error:
            errors.append(error)

    # A time-out is for each read: one that drips would keep whoever asks for ever.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * _STATUS_TIMEOUT)
    if errors:
        connection.close()
        raise errors[0]
    if not answers:
        raise CannotTell(f"what answers at {where} takes longer than {2 * _STATUS_TIMEOUT:.0f} s")
    [(status, body)] = answers
    try:
        if status == http.HTTPStatus.UNAUTHORIZED:
            raise _PasswordNeeded
        document: dict[str, Any] = json.loads(body)
        Verdict(document["verdict"])
        report.told(document)
        report.windows(document)
        return document
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CannotTell(f"what answers at {where} is not the daemon: {error!r}") from None
    finally:
        connection.close()


def _connection(settings: Config, host: str, port: int) -> http.client.HTTPConnection:
    """To the daemon, in the clear or with TLS as it is set. Raises ConfigError, and OSError without its certificate."""
    if settings["web.config_file"]:
        from backupready.mind import webconfig

        context = webconfig.client_context(Path(settings["web.config_file"]))
        if context is not None:
            return http.client.HTTPSConnection(host, port, timeout=_STATUS_TIMEOUT, context=context)
    return http.client.HTTPConnection(host, port, timeout=_STATUS_TIMEOUT)


# ------------------------------------------------------------------------------------------------------ bundle


def _bundle(options: argparse.Namespace) -> int:
    from backupready.eyes.machine import CapturedMachine, LiveMachine

    if options.root is not None and not Path(options.root).is_dir():
        print(f"backupready bundle: cannot read {options.root}: there is no such directory", file=sys.stderr)
        return EXIT_USAGE
    if options.root is None and os.geteuid() != 0:
        print("backupready bundle: not run by root, so that most of it cannot be read", file=sys.stderr)
    root, more = "/", {}
    try:
        settings = load(options.config)
        root = options.root or settings["machine.root"]
        judged = json.dumps(report.document(_judged(settings, options.root)), indent=2, ensure_ascii=False)
        more = {"config.txt": in_force(settings) + "\n", "check.json": judged + "\n"}
    except ConfigError as error:  # what is wrong with it is what support would ask for
        more = {"config.txt": f"{error}\n"}
    machine = LiveMachine(root) if options.root is None else CapturedMachine(options.root)
    found = bundle.gather(machine, more, _BUNDLE_TIMEOUT)
    now = time.time()
    host = "captured-tree" if options.root else re.sub(r"[^A-Za-z0-9.-]", "_", platform.node()) or "unknown"
    name = f"backupready-{host}-{datetime.fromtimestamp(now, timezone.utc):%Y-%m-%dT%H%M%SZ}"
    data = found.archive(name, now)
    path = Path(options.output or f"{name}.tar.gz")
    try:
        bundle.save(path, data)
    except OSError as error:
        print(f"backupready bundle: cannot write {path}: {error.strerror}", file=sys.stderr)
        return EXIT_CANNOT_CREATE
    for one in found.left_out:
        if not one.absent:
            print("left out:", bundle.redacted(one.why if one.source in one.why else f"{one.source}: {one.why}"))
    print(f"{path}: {len(data)} bytes, {len(found.members)} files; manifest.json in it says what was left out")
    return 0


# ----------------------------------------------------------------------------------------------------- the rest


def _explain(options: argparse.Namespace) -> int:
    if options.code is None:
        for problem in sorted(probes.PROBLEMS, key=lambda problem: problem.code):
            print(f"{problem.code:32} {problem.effect.value:9} {problem.title}")
        return 0
    from backupready import remedies  # the daemon, which is this program too, has no use for them

    known = {problem.code: problem for problem in probes.PROBLEMS}
    fixes = {remedy.name: remedy for remedy in remedies.REMEDIES}
    code = options.code.upper().replace("-", "_")
    if code in known:
        print(report.explain(known[code], remedies.remedies_for(code)))
    elif (name := options.code.lower().replace("_", "-")) in fixes:
        print(report.explain_remedy(fixes[name]))
    elif (error := vmsnapshot.portal_error(options.code)) is not None:
        print(report.explain_portal_error(error, known))
    elif not (code.isascii() and code.isdigit()):
        print(
            f"backupready explain: there is no problem {options.code!r}; without a code all are listed", file=sys.stderr
        )
        return EXIT_USAGE
    elif len(code) < 10 and int(code) in vmsnapshot.CODES:
        print(report.explain_code(vmsnapshot.CODES[int(code)], known))
    else:
        numbers = " ".join(str(number) for number in sorted(vmsnapshot.CODES))
        print(f"backupready explain: the extension has no code {code}; it has {numbers}", file=sys.stderr)
        return EXIT_USAGE
    return 0


def _config(options: argparse.Namespace) -> int:
    settings = load(options.config)
    if options.action == "check" and settings["web.config_file"]:
        from backupready.mind import webconfig

        for one in webconfig.check(Path(settings["web.config_file"])):
            print(f"backupready config check: cannot check: {one}", file=sys.stderr)
    print("the configuration is right" if options.action == "check" else in_force(settings))
    return 0


def in_force(settings: Config) -> str:
    """Every setting with its value, and where that is from."""
    return "\n".join(f"{value.setting.name} = {value.text}  # {value.origin}" for value in settings.values.values())


def _rules(options: argparse.Namespace) -> int:
    from backupready.catalogue import alerts

    runbook = options.runbook.rstrip("/")
    if not re.fullmatch(r"""https?://[^\s"'\\]+( [^\s"'\\]+)*""", runbook):
        print(f"backupready rules: {options.runbook!r} is no address; write https://HOST/PATH", file=sys.stderr)
        return EXIT_USAGE
    print(alerts.rules(options.keep_firing, runbook), end="")
    return 0


def _fixing(options: argparse.Namespace) -> int:
    from backupready import cli_fix  # the daemon has no use for the hands

    return cli_fix.VERBS[options.verb](options)


_VERBS = {
    "run": _run,
    "check": _check,
    "status": _status,
    "window": _window,
    "explain": _explain,
    "bundle": _bundle,
    "rules": _rules,
    "config": _config,
    "look": _look,
    "fix": _fixing,
    "undo": _fixing,
    "pause": _fixing,
    "resume": _fixing,
    "hands": _fixing,
}
