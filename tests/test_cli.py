"""What the administrator types: verbs, forms, and exit codes that mean something."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Callable

import bcrypt
import pytest

from backupready import __version__, catalogue, cli, config, probes, remedies, report, vmsnapshot
from backupready.config import Config
from backupready.mind import sampler
from backupready.mind.metrics import Exposition
from backupready.mind.web import Site, WebServer, listening
from backupready.mind.webconfig import WatchedFile
from backupready.model import Access, CannotTell, Machine, Sample, Snapshot, Unreachable, Verdict
from fake import PLUGIN, FakeMachine, answer, configuration, healthy, snapshot, told
from lab import certificates

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A configuration file that sets nothing."""
    path = tmp_path / "empty.conf"
    path.touch()
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A captured tree of which the agent's library, and little else, was captured."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/waagent.conf").write_text("Extensions.Enabled=n\n")
    (root / "var/lib/waagent").mkdir(parents=True)
    return root


def exit_of(*arguments: str) -> int:
    """The exit status, whether it is returned or raised."""
    try:
        return cli.main(arguments)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        return stop.code


# ------------------------------------------------------------------------------------------------------- usage


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("sing",),
        ("check", "--json", "--nagios"),
        ("check", "--at", "2026-11-23T00:30:00Z"),
        ("check", "--root", "/tmp", "--demo"),
        ("check", "extra"),
        ("config",),
        ("config", "destroy"),
        ("check", "--root", "/nonexistent/tree"),
        ("explain", "AGENT_SINGS"),
        ("explain", "UserErrorSings"),
        ("explain", "77"),
        ("explain", "9" * 5000),
    ],
)
def test_wrong_usage_is_64(arguments: tuple[str, ...], capsys: Capture) -> None:
    """Said on standard error, with nothing on standard output."""
    assert exit_of(*arguments) == 64
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def test_a_moment_that_is_none_is_wrong_usage(tree: Path, empty: Path, capsys: Capture) -> None:
    """With the form that is meant."""
    assert exit_of("--config", str(empty), "check", "--root", str(tree), "--at", "yesterday") == 64
    assert capsys.readouterr().err == "backupready check: 'yesterday' is no time; write 2026-11-23T00:30:00Z\n"


def test_the_version_and_the_help_are_told(capsys: Capture) -> None:
    """With success, on standard output."""
    assert exit_of("--version") == 0
    assert capsys.readouterr().out == f"backupready {__version__}\n"
    assert exit_of("--help") == 0
    assert "0 ready, 1 at risk or degraded, 2 blocked, 3 unknown" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("verb", [("config", "check"), ("config", "show"), ("check",), ("status",), ("run",)])
def test_a_wrong_configuration_is_78(verb: tuple[str, ...], tmp_path: Path, capsys: Capture) -> None:
    """All mistakes on standard error, and nothing is done."""
    path = tmp_path / "x.conf"
    path.write_text("[look]\ndeadlin = 1\n[web]\nlisten_address = here\n")
    assert exit_of("--config", str(path), *verb) == 78
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [line.split(": ")[0] for line in captured.err.splitlines()] == [f"{path}:2", f"{path}:4"]


# ------------------------------------------------------------------------------------------------------ config


def test_config_check_says_that_all_is_right(empty: Path, capsys: Capture) -> None:
    """And so does the exit status."""
    assert exit_of("--config", str(empty), "config", "check") == 0
    assert capsys.readouterr().out == "the configuration is right\n"


def test_config_show_says_what_is_in_force_and_where_from(tmp_path: Path, capsys: Capture) -> None:
    """Every setting, its text, and its origin."""
    path = tmp_path / "x.conf"
    path.write_text("[look]\ndeadline = 0.5 min\n")
    assert exit_of("--config", str(path), "config", "show") == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"look.deadline = 0.5 min  # {path}:2" in lines
    assert "look.door = auto  # default" in lines
    assert len(lines) == len(configuration().values)


# ----------------------------------------------------------------------------------------------------- explain


@pytest.mark.parametrize("code", ["AGENT_STOPPED", "agent_stopped", "agent-stopped"])
def test_a_problem_is_explained(code: str, capsys: Capture) -> None:
    """In whatever way its code is typed."""
    assert exit_of("explain", code) == 0
    whole = report.explain(probes.problem("AGENT_STOPPED"), remedies.remedies_for("AGENT_STOPPED"))
    assert capsys.readouterr().out == whole + "\n"
    assert "Remedy: restart-agent: " in whole


@pytest.mark.parametrize("name", ["restart-agent", "RESTART_AGENT"])
def test_a_remedy_is_explained(name: str, capsys: Capture) -> None:
    """By its name, in whatever way it is typed."""
    assert exit_of("explain", name) == 0
    assert capsys.readouterr().out == report.explain_remedy(remedies.remedy("restart-agent")) + "\n"


@pytest.mark.parametrize("number", sorted(vmsnapshot.CODES))
def test_a_code_of_the_extension_is_explained(number: int, capsys: Capture) -> None:
    """Its name, what it means, what to do, and which of our problems it points at."""
    code = vmsnapshot.CODES[number]
    assert exit_of("explain", str(number)) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{number}: {code.name}\n")
    for words in (code.meaning, code.fix, *code.portal):
        assert words in told
    for point in (problem for problem in probes.PROBLEMS if problem.code in code.points):
        assert f"Points at: {point.code}: {point.title}\n" in told


def test_a_number_that_is_no_code_is_answered_with_all_of_them(capsys: Capture) -> None:
    """On standard error."""
    assert exit_of("explain", "77") == 64
    told = capsys.readouterr().err
    assert told.startswith("backupready explain: the extension has no code 77; it has 0 1 2 3 4 11 ")
    assert [int(number) for number in told.partition(" it has ")[2].split()] == sorted(vmsnapshot.CODES)


@pytest.mark.parametrize("error", vmsnapshot.PORTAL_ERRORS.values(), ids=lambda error: error.name)
def test_a_name_of_the_portal_is_explained(error: vmsnapshot.PortalError, capsys: Capture) -> None:
    """In whatever case it is typed, with the extension's codes behind it."""
    assert exit_of("explain", error.name.swapcase()) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{error.name}\n")
    for words in (error.meaning, error.fix, *(vmsnapshot.CODES[number].name for number in error.codes)):
        assert words in told


def test_without_a_code_all_problems_are_listed(capsys: Capture) -> None:
    """Sorted, one line each."""
    assert exit_of("explain") == 0
    codes = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert codes == sorted(problem.code for problem in probes.PROBLEMS)


# ------------------------------------------------------------------------------------------------------- check


def test_a_captured_tree_is_judged_as_json(tree: Path, empty: Path, capsys: Capture) -> None:
    """One document, whose verdict is the exit status; what was not captured is unknown."""
    assert exit_of("--config", str(empty), "check", "--json", "--root", str(tree), "--at", "2026-11-23T00:30:00Z") == 2
    document = json.loads(capsys.readouterr().out)
    assert document["verdict"] == "blocked"
    assert [reason["problem"] for reason in document["reasons"]] == ["EXTENSIONS_SWITCHED_OFF"]
    assert document["machine"] == {"name": "captured tree", "root": str(tree)}
    assert {"probe": "unit", "why": "a captured tree cannot say what the service manager knows"} in document["unknown"]
    assert document["window"] is document["fixes"] is None


def test_a_captured_tree_is_judged_as_of_when_it_was_captured(
    tree: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is what its probes have for a clock."""
    judge, clocks = cli.check, []

    def check(
        settings: Config, machine_for: Callable[[Any], Machine], facts: Mapping[str, str], changes: bool = True
    ) -> Snapshot:
        clocks.append(machine_for({}).now())
        return judge(settings, machine_for, facts, changes)

    monkeypatch.setattr(cli, "check", check)
    assert exit_of("--config", str(empty), "check", "--root", str(tree), "--at", "2026-11-23T00:30:00Z") == 2
    assert clocks == [1795393800.0]


def test_the_same_tree_as_text_and_for_nagios(tree: Path, empty: Path, capsys: Capture) -> None:
    """One form at a time, the same exit status."""
    assert exit_of("--config", str(empty), "check", "--root", str(tree)) == 2
    assert capsys.readouterr().out.startswith("BLOCKED · the next backup will fail · EXTENSIONS_SWITCHED_OFF since ")
    assert exit_of("--config", str(empty), "check", "--nagios", "--root", str(tree)) == 2
    assert capsys.readouterr().out == ("BACKUPREADY CRITICAL - the next backup will fail: EXTENSIONS_SWITCHED_OFF\n")


def test_a_healthy_machine_is_ready() -> None:
    """The first look tells; nothing has to be confirmed."""
    machine = healthy()
    snapshot = cli.check(configuration(), lambda memory: machine, {"name": "vm1"}, changes=False)
    assert (snapshot.verdict, snapshot.reasons, snapshot.notices) == (Verdict.READY, (), ())
    assert machine.asked.count(f"http://{PLUGIN}/versions") == 1


def test_what_was_seen_once_is_looked_at_again_until_it_is_believed() -> None:
    """A wire server that refuses is blocked after looks far enough apart, and who saw nothing does not look again."""
    machine = healthy()
    refused = Unreachable("refused", "Connection refused", 3)
    machine.http = dict.fromkeys(machine.http, refused)
    snapshot = cli.check(configuration(), lambda memory: machine, {}, changes=False)
    assert [reason.problem.code for reason in snapshot.reasons] == ["WIRE_SERVER_UNREACHABLE"]
    assert 2 <= machine.asked.count(f"http://{PLUGIN}/versions") <= 3


def test_what_is_sampled_is_the_machine_without_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a check on a small machine would find its own work."""
    machine = healthy()
    asked: list[int] = []

    def burst() -> tuple[Sample, ...]:
        asked.append(len(machine.asked))
        time.sleep(0.1)
        asked.append(len(machine.asked))
        return told(machine.ring)

    monkeypatch.setattr(sampler, "burst", burst)
    assert cli.check(configuration(), lambda memory: machine, {}).verdict is Verdict.READY
    assert len(set(asked)) == 1
    assert len(machine.asked) > asked[0]


def test_a_check_tells_what_would_be_done() -> None:
    """For each reason, in steps; and in which mode."""
    machine = healthy()
    machine.table = ()
    settings = configuration()
    snapshot = cli.with_plans(cli.check(settings, lambda memory: machine, {}), settings, lambda memory: machine)
    (plan,) = snapshot.plans
    assert (plan.remedy, plan.problem) == ("restart-agent", "AGENT_STOPPED")
    assert "    1. restart walinuxagent.service" in report.text(snapshot).splitlines()
    assert "Fixes are only observed; nothing is changed." in report.text(snapshot)
    assert cli.with_plans(cli.check(settings, lambda m: healthy(), {}), settings, lambda m: healthy()).plans == ()


def test_a_blink_is_not_believed() -> None:
    """What the second look does not see any more is clear."""
    machine = healthy()
    good = dict(machine.http)
    looks = []

    def machine_for(memory: object) -> FakeMachine:
        looks.append(memory)
        late = len(looks) > len(probes.PROBES)
        machine.http = good if late else {url: Unreachable("timed_out", "no answer", 3) for url in good}
        return machine

    snapshot = cli.check(configuration(), machine_for, {}, changes=False)
    assert snapshot.verdict is Verdict.READY


def test_an_impostor_needs_sightings_apart_and_a_captured_machine_is_not_waited_for() -> None:
    """The time between the looks is counted although nobody waits."""
    machine = healthy()
    machine.http[next(iter(machine.http))] = answer(b"<html>log in</html>")
    snapshot = cli.check(configuration(), lambda memory: machine, {}, changes=False)
    assert [reason.problem.code for reason in snapshot.reasons] == ["WIRE_SERVER_IMPOSTOR"]


def test_what_cannot_be_told_makes_the_verdict_unknown() -> None:
    """An unreachable service manager alone keeps it from being ready."""
    machine = healthy()
    machine.units = CannotTell("cannot ask the service manager")
    snapshot = cli.check(configuration(), lambda memory: machine, {}, changes=False)
    assert (snapshot.verdict, snapshot.reasons) == (Verdict.UNKNOWN, ())


def test_a_probe_that_is_switched_off_is_told_and_not_judged() -> None:
    """The verdict says what it does not speak of."""
    machine = healthy()
    machine.units = CannotTell("cannot ask the service manager")
    snapshot = cli.check(configuration(unit__enabled="no"), lambda memory: machine, {"name": "x"}, changes=False)
    assert snapshot.verdict is Verdict.READY
    assert snapshot.machine == {"name": "x", "switched_off": "unit"}
    bus = [probe.name for probe in probes.PROBES if probe.access is Access.BUS]
    assert bus == ["unit"]
    assert "unit" not in [run.name for run in snapshot.probes]
    assert report.text(snapshot).endswith("Not looked at, since switched off: unit")


def test_elsewhere_than_in_azure_nothing_else_is_asked() -> None:
    """One look of one probe, however much is wrong besides; what cannot be told of it is judged as ever."""
    machine = healthy()
    machine.files["/sys/class/dmi/id/chassis_asset_tag"] = "CZC1234567"
    machine.table = CannotTell("hidden")
    snapshot = cli.check(configuration(), lambda memory: machine, {}, changes=False)
    assert [reason.problem.code for reason in snapshot.reasons] == ["NOT_AN_AZURE_VM"]
    assert (snapshot.verdict.exit_code, snapshot.notices, machine.asked) == (3, (), [])
    assert [run.name for run in snapshot.probes if run.last_run is not None] == ["guest"]
    assert len(report.text(snapshot).splitlines()) == 1
    del machine.files["/sys/class/dmi/id/chassis_asset_tag"]
    machine.table = healthy().table
    assert cli.check(configuration(), lambda memory: machine, {}, changes=False).verdict is Verdict.READY


@pytest.mark.integration
@pytest.mark.parametrize("form", [(), ("--nagios",), ("--json",)])
def test_elsewhere_than_in_azure_one_line_says_so(form: tuple[str, ...], tmp_path: Path) -> None:
    """Without root, without waiting, with nothing on standard error; as JSON it is the one reason."""
    path = tmp_path / "x.conf"
    path.write_text("[guest]\nazure = no\n")
    command = [sys.executable, "-m", "backupready", "--config", str(path), "check", *form]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "")
    if form == ("--json",):
        document = json.loads(done.stdout)
        assert [reason["problem"] for reason in document["reasons"]] == ["NOT_AN_AZURE_VM"]
        assert (document["verdict"], document["unknown"]) == ("unknown", [])
    else:
        (line,) = done.stdout.splitlines()
        assert "This is not an Azure VM" in line


# ------------------------------------------------------------------------------------------------------ status


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[tuple[Path, dict[str, bytes]]]:
    """A configuration, and what answers at its address (an integration test's real server)."""
    said = {"body": b""}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name is the library's
            self.send_response(200 if self.path == "/api/v1/status" else 404)
            self.send_header("Content-Length", str(len(said["body"])))
            self.end_headers()
            self.wfile.write(said["body"])

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    path = tmp_path / "status.conf"
    path.write_text(f"[web]\nlisten_address = 0.0.0.0:{server.server_port}\n")
    yield path, said
    server.shutdown()
    server.server_close()
    thread.join()


def _document() -> dict[str, object]:
    machine = healthy()
    machine.table = ()
    return report.document(cli.check(configuration(), lambda memory: machine, {"name": "vm1"}, changes=False))


@pytest.mark.integration
def test_status_tells_what_the_daemon_believes(daemon: tuple[Path, dict[str, bytes]], capsys: Capture) -> None:
    """As text and as the document itself, with the verdict's exit status; 0.0.0.0 is asked at the loopback."""
    path, said = daemon
    document = _document()
    said["body"] = json.dumps(document).encode()
    assert exit_of("--config", str(path), "status") == 2
    assert capsys.readouterr().out == report.told(document) + "\n"
    assert exit_of("--config", str(path), "status", "--json") == 2
    assert json.loads(capsys.readouterr().out) == document


@pytest.mark.integration
def test_status_waits_for_the_first_look(
    daemon: tuple[Path, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A daemon that has just been started is asked until all has been looked at, or else says that it is starting."""
    path, said = daemon
    starting = report.document(snapshot())
    said["body"] = json.dumps(starting).encode()
    turns: list[float] = []

    def turn(seconds: float) -> None:
        turns.append(seconds)
        if len(turns) == 3:
            said["body"] = json.dumps(_document()).encode()

    with monkeypatch.context() as patch:
        patch.setattr(time, "sleep", turn)
        assert exit_of("--config", str(path), "status") == 2
    assert len(turns) == 3
    assert "just starting" not in capsys.readouterr().out
    said["body"] = json.dumps(starting).encode()
    monkeypatch.setattr(cli, "_FIRST_LOOK", 0.3)
    assert exit_of("--config", str(path), "status") == 3
    assert "It is just starting: " in capsys.readouterr().out


@pytest.mark.integration
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"hello", b"{}", b'{"verdict": "fine"}', b'{"verdict": null}', b"\xff", b"3", b'"x"']
)
def test_whatever_else_answers_is_not_the_daemon(
    daemon: tuple[Path, dict[str, bytes]], body: bytes, capsys: Capture
) -> None:
    """Unknown, with one line that says so."""
    path, said = daemon
    said["body"] = body
    assert exit_of("--config", str(path), "status") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"backupready: what answers at 127\.0\.0\.1:\d+ is not the daemon: .*\n", captured.err)


@pytest.mark.integration
def test_half_a_document_is_not_the_daemon(daemon: tuple[Path, dict[str, bytes]], capsys: Capture) -> None:
    """A document of another schema that has a verdict is told to be none of ours."""
    path, said = daemon
    said["body"] = b'{"schema": 2, "verdict": "ready"}'
    assert exit_of("--config", str(path), "status") == 3


@pytest.mark.integration
def test_a_daemon_that_does_not_run_is_unknown(tmp_path: Path, capsys: Capture) -> None:
    """With the question whether it runs."""
    path = tmp_path / "x.conf"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        path.write_text(f"[web]\nlisten_address = 127.0.0.1:{holder.getsockname()[1]}\n")
        assert exit_of("--config", str(path), "status") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("Connection refused; does it run?\n")


# ------------------------------------------------------------------------------------------------------ windows

SCHEDULE = "daily at 22:00 in Europe/Berlin; daily at 10:00 in Europe/Berlin"


def _document_with_windows() -> dict[str, Any]:
    """Of a machine whose windows are configured, as a check tells it now."""
    return report.document(
        cli.check(configuration(window__schedule=SCHEDULE), lambda memory: healthy(), {"name": "vm1"})
    )


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sampled takes no time; and however long this machine has been on, nobody knows of a window that it has
    missed."""
    monkeypatch.setattr(sampler, "burst", lambda: told(healthy().ring))
    monkeypatch.setattr(time, "clock_gettime", lambda clock: time.monotonic() + 3600.0)


@pytest.mark.usefixtures("sampled")
def test_a_check_tells_of_the_configured_windows() -> None:
    """In the headline and in the document; of what was captured once nobody knows when the next one is."""
    whole = cli.check(configuration(window__schedule=SCHEDULE), lambda memory: healthy(), {"name": "vm1"})
    window = report.document(whole)["window"]
    assert window["source"] == "configured"
    assert window["next"]["zone"] == "Europe/Berlin"
    assert window["next"]["schedule"] in SCHEDULE
    assert len(window["upcoming"]) == 7
    assert window["expected_interval_seconds"] == 12 * 3600
    assert re.match(r"READY · (next|the) backup (of )?\w{3} (22|10):00 CES?T\b", report.text(whole))
    assert "WINDOW_UNKNOWN" not in report.text(whole)
    captured = cli.check(configuration(window__schedule=SCHEDULE), lambda memory: healthy(), {}, changes=False)
    assert report.document(captured)["window"] is None


@pytest.mark.usefixtures("sampled")
def test_a_check_without_a_schedule_says_that_it_knows_no_window() -> None:
    """A notice; everything else works."""
    whole = cli.check(configuration(), lambda memory: healthy(), {})
    assert whole.verdict is Verdict.READY
    assert [notice.problem.code for notice in whole.notices] == ["WINDOW_UNKNOWN"]
    assert report.headline(whole) == "READY · the next backup should succeed"


@pytest.mark.usefixtures("sampled")
def test_with_an_agentless_policy_everything_is_a_notice() -> None:
    """An agent that is stopped is worth knowing, and no reason."""
    machine = healthy()
    machine.table = ()
    agentless = cli.check(configuration(window__consistency="crash"), lambda memory: machine, {})
    assert (agentless.verdict, agentless.reasons) == (Verdict.READY, ())
    assert "AGENT_STOPPED" in [notice.problem.code for notice in agentless.notices]
    assert cli.check(configuration(), lambda memory: machine, {}).verdict is Verdict.BLOCKED


@pytest.mark.integration
@pytest.mark.usefixtures("sampled")
def test_window_tells_the_daemons_windows(daemon: tuple[Path, dict[str, bytes]], capsys: Capture) -> None:
    """As text, and as the part of the document; success, whatever the verdict."""
    path, said = daemon
    document = _document_with_windows()
    said["body"] = json.dumps({**document, "verdict": "blocked"}).encode()
    assert exit_of("--config", str(path), "window") == 0
    out = capsys.readouterr().out
    assert out == report.windows(document) + "\n"
    assert len([line for line in out.splitlines() if SCHEDULE.split("; ")[0] in line]) in (3, 4)
    assert exit_of("--config", str(path), "window", "--json") == 0
    assert json.loads(capsys.readouterr().out) == document["window"]


@pytest.mark.integration
def test_a_daemon_that_knows_no_windows_says_so(daemon: tuple[Path, dict[str, bytes]], capsys: Capture) -> None:
    """Also one of an older version, of which the status is told all the same."""
    path, said = daemon
    older = {name: value for name, value in _document().items() if name not in ("window", "becomes")}
    said["body"] = json.dumps(older).encode()
    assert exit_of("--config", str(path), "window") == 0
    assert capsys.readouterr().out == "The next windows are not known.\n"
    assert exit_of("--config", str(path), "window", "--json") == 0
    assert capsys.readouterr().out == "null\n"
    assert exit_of("--config", str(path), "status") == 2
    assert capsys.readouterr().out.startswith("BLOCKED · ")


@pytest.mark.integration
@pytest.mark.parametrize("body", [b"", b"[]", b'{"verdict": "ready"}'])
def test_windows_of_something_else_are_unknown(
    daemon: tuple[Path, dict[str, bytes]], body: bytes, capsys: Capture
) -> None:
    """As a status is."""
    path, said = daemon
    said["body"] = body
    assert exit_of("--config", str(path), "window") == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "is not the daemon" in captured.err


@pytest.mark.integration
def test_without_a_daemon_the_windows_are_unknown(tmp_path: Path, capsys: Capture) -> None:
    """With the question whether it runs."""
    path = tmp_path / "x.conf"
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        path.write_text(f"[web]\nlisten_address = 127.0.0.1:{holder.getsockname()[1]}\n")
        assert exit_of("--config", str(path), "window") == 3
    assert capsys.readouterr().err.endswith("does it run?\n")


# ------------------------------------------------------------------------------------------------- real processes


@pytest.mark.integration
def test_the_module_is_the_command(tree: Path, empty: Path) -> None:
    """`python -m backupready` gives the exit status of the verdict."""
    command = [sys.executable, "-m", "backupready", "--config", str(empty), "check", "--nagios", "--root", str(tree)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith("BACKUPREADY CRITICAL - ")


@pytest.mark.integration
def test_a_reader_that_goes_away_is_no_crash() -> None:
    """`backupready explain | head -0` ends without a traceback."""
    command = [sys.executable, "-m", "backupready", "explain"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        errors = process.stderr.read()
    assert "Traceback" not in errors
    assert "BrokenPipeError" not in errors


@pytest.mark.integration
def test_an_address_that_is_taken_stops_the_daemon_with_a_word(tmp_path: Path) -> None:
    """It does not run without its listener."""
    path = tmp_path / "x.conf"
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        path.write_text(f"[web]\nlisten_address = 127.0.0.1:{taken.getsockname()[1]}\n")
        command = [sys.executable, "-m", "backupready", "--config", str(path), "run"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1:" in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------------------- the web server's own


@pytest.mark.integration
@pytest.mark.parametrize("how", ["setting", "option"])
def test_a_bad_web_configuration_stops_the_daemon(how: str, tmp_path: Path) -> None:
    """Exit 78 with file and line, as a wrong configuration; systemd does not try again."""
    path, web = tmp_path / "x.conf", tmp_path / "web.yml"
    directory = f"[state]\ndirectory = {tmp_path}\n[web]\nlisten_address = 127.0.0.1:0\n"
    path.write_text(directory + (f"config_file = {web}\n" if how == "setting" else ""))
    web.write_text("basic_auth_users:\n  a: plain\n")
    command = [sys.executable, "-m", "backupready", "--config", str(path), "run"]
    command += [f"--web.config.file={web.name}"] if how == "option" else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert done.returncode == 78
    assert done.stderr.startswith(f"{web}:2: what a has is no hash of bcrypt")
    assert "Traceback" not in done.stderr


def test_config_check_reads_the_web_configuration_too(tmp_path: Path, capsys: Capture) -> None:
    """What would stop the daemon is found before."""
    path, web = tmp_path / "x.conf", tmp_path / "web.yml"
    path.write_text(f"[web]\nconfig_file = {web}\n")
    web.write_text("http_server_config:\n  http2: true\n")
    assert exit_of("--config", str(path), "config", "check") == 78
    assert capsys.readouterr().err.startswith(f"{web}:2: this server cannot do HTTP/2")
    web.write_text("http_server_config:\n  http2: false\n")
    assert exit_of("--config", str(path), "config", "check") == 0


def test_options_of_run_take_the_place_of_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each its own, several addresses added up; a relative path is one from here. Without any nothing is changed."""
    monkeypatch.chdir(tmp_path)
    line = "run --web.listen-address [::1]:1 --web.listen-address :2 --web.systemd-socket"
    options = cli.command_line().parse_args(f"{line} --web.config.file w.yml --textfile out/x.prom".split())
    path = tmp_path / "x.conf"
    path.write_text("[web]\nlisten_address = 127.0.0.1:9\n")
    settings = config.load(catalogue.SETTINGS, path, cli._run_options(options))
    assert settings["web.listen_address"] == (("::1", 1), ("::", 2))
    assert settings["web.systemd_socket"] is True
    assert settings["web.config_file"] == str(tmp_path / "w.yml")
    assert settings["textfile.path"] == str(tmp_path / "out/x.prom")
    assert settings.values["textfile.path"].origin == "command line"
    assert cli._run_options(cli.command_line().parse_args(["run"])) == {}


@pytest.mark.integration
def test_a_wrong_option_of_run_is_a_mistake(empty: Path, capsys: Capture) -> None:
    """It says which setting it takes the place of."""
    assert exit_of("--config", str(empty), "run", "--textfile", "/x/metrics.txt") == 78
    assert capsys.readouterr().err.startswith(
        "command line: textfile.path: '/x/metrics.txt' does not end in .prom, and node_exporter reads no other file"
    )


@pytest.mark.integration
def test_status_asks_over_tls_and_says_what_it_lacks(tmp_path: Path, capsys: Capture) -> None:
    """It trusts the server's own certificate; a password it has none of, and says where to give one."""
    authority = certificates.authority(tmp_path, "authority", "The tests")
    certificates.signed(authority, tmp_path, "web", "DNS:elsewhere")
    web = tmp_path / "web.yml"
    tls = "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n"
    web.write_text(tls)
    believed = cli.check(configuration(), lambda memory: healthy(), {"name": "vm1"}, changes=False)
    site = Site(lambda: believed, Exposition(lambda: believed, probes.METRICS), lambda: 0.0)
    with contextlib.closing(WebServer((("127.0.0.1", 0),), site, file=WatchedFile(web))) as server:
        path = tmp_path / "x.conf"
        path.write_text(f"[web]\nlisten_address = {server.addresses[0]}\nconfig_file = {web}\nstatus_socket =\n")
        assert exit_of("--config", str(path), "status") == 0
        assert capsys.readouterr().out.startswith("READY")
        web.write_text(f"{tls}basic_auth_users:\n  a: {bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}\n")
        assert exit_of("--config", str(path), "status") == 3
        told = capsys.readouterr().err
        assert told == f"backupready: the daemon asks for a password; see https://{server.addresses[0]}/\n"
        (tmp_path / "web.crt").unlink()
        assert exit_of("--config", str(path), "status") == 3
        assert "cannot read the daemon's certificate: No such file or directory" in capsys.readouterr().err


def _raising(error: Exception) -> Callable[..., Any]:
    def connection(*arguments: object) -> Any:
        raise error

    return connection


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Path, Path, str]]:
    """A daemon that asks strangers for a password: its configuration, its status socket and its address."""
    web, path, own = tmp_path / "web.yml", tmp_path / "x.conf", tmp_path / "status.sock"
    web.write_text(f"basic_auth_users:\n  a: {bcrypt.hashpw(b'x', bcrypt.gensalt(4)).decode()}\n")
    text = f"[web]\nlisten_address = ADDRESS\nconfig_file = {web}\nstatus_socket = {own}\n"
    path.write_text(text.replace("ADDRESS", "127.0.0.1:0"))
    believed = cli.check(configuration(), lambda memory: healthy(), {"name": "vm1"}, changes=False)
    site = Site(lambda: believed, Exposition(lambda: believed, probes.METRICS), lambda: 0.0)
    with contextlib.closing(listening(cli.load(str(path)), site)) as server:
        path.write_text(text.replace("ADDRESS", server.addresses[0]))
        yield path, own, server.addresses[0]


@pytest.mark.integration
def test_root_is_told_where_strangers_are_asked_for_a_password(
    guarded: tuple[Path, Path, str], capsys: Capture
) -> None:
    """At the status socket, wherever else the daemon listens."""
    path, own, address = guarded
    for text in (path.read_text(), f"[web]\nlisten_address = 127.0.0.1:1\nstatus_socket = {own}\n"):
        path.write_text(text)
        assert exit_of("--config", str(path), "status") == 0
        assert capsys.readouterr().out.startswith("READY")
        assert exit_of("--config", str(path), "window") == 0
        assert capsys.readouterr().out == "The next windows are not known.\n"


@pytest.mark.integration
def test_who_is_refused_at_the_status_socket_is_told_who_is_not(
    guarded: tuple[Path, Path, str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is not root is asked for a password, and root too where there is no such socket."""
    path, own, address = guarded

    def refuse(connection: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(cli._UnixConnection, "connect", refuse)
        assert exit_of("--config", str(path), "status") == 3
        told = f"backupready: the daemon asks for a password; root needs none, at {own}; see http://{address}/\n"
        assert capsys.readouterr().err == told
        path.write_text(f"[web]\nlisten_address = 127.0.0.1:1\nstatus_socket = {own}\n")
        assert exit_of("--config", str(path), "status") == 3
        assert capsys.readouterr().err.endswith(f"Connection refused; does it run? Root can ask at {own}\n")
        for error, words in (
            (config.ConfigError([config.Mistake("/x/web.yml", 0, "Permission denied")]), "web.yml"),
            (PermissionError(13, "Permission denied"), "cannot read the daemon's certificate: Permission denied"),
        ):
            patched.setattr(cli, "_connection", _raising(error))
            assert exit_of("--config", str(path), "status") == 3
            said = capsys.readouterr().err
            assert words in said
            assert said.endswith(f"; Root can ask at {own}\n")
    path.write_text(f"[web]\nlisten_address = {address}\nstatus_socket = {own}-\n")
    assert exit_of("--config", str(path), "status") == 3
    why = f"root would need none at {own}-, but: No such file or directory"
    assert capsys.readouterr().err == f"backupready: the daemon asks for a password; {why}; see http://{address}/\n"


@pytest.mark.integration
def test_who_goes_by_the_answer_asks_the_status_socket_alone(tmp_path: Path) -> None:
    """Anybody may listen at the daemon's port while it is down; where there is no such socket, that is all there is."""
    believed = cli.check(configuration(), lambda memory: healthy(), {"name": "vm1"}, changes=False)
    site = Site(lambda: believed, Exposition(lambda: believed, probes.METRICS), lambda: 0.0)
    with contextlib.closing(WebServer((("127.0.0.1", 0),), site)) as server:
        for own in (f"{tmp_path}/none.sock", ""):
            path = tmp_path / "x.conf"
            path.write_text(f"[web]\nlisten_address = {server.addresses[0]}\nstatus_socket = {own}\n")
            settings = cli.load(str(path))
            assert cli.asked(settings)["verdict"] == "ready"
            if own:
                with pytest.raises(CannotTell, match=r"cannot ask the daemon at .*none\.sock: .*; does it run"):
                    cli.asked(settings, anybody=False)
            else:
                assert cli.asked(settings, anybody=False)["verdict"] == "ready"


@pytest.mark.integration
def test_whoever_drips_his_answer_keeps_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and the whole does not."""
    monkeypatch.setattr(cli, "_STATUS_TIMEOUT", 0.5)
    own, over = tmp_path / "drips.sock", threading.Event()

    def drip(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            while not over.wait(0.1):
                connection.sendall(b" ")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(own))
        server.listen()
        dripping = threading.Thread(target=drip, args=(server,), daemon=True)
        dripping.start()
        path = tmp_path / "x.conf"
        path.write_text(f"[web]\nlisten_address = 127.0.0.1:1\nstatus_socket = {own}\n")
        with pytest.raises(CannotTell, match=r"drips\.sock takes longer than 1 s"):
            cli.asked(cli.load(str(path)), anybody=False)
        over.set()
        dripping.join()


def test_something_else_at_the_status_socket_is_not_the_daemon(tmp_path: Path, capsys: Capture) -> None:
    """It is named by its path."""
    path, own = tmp_path / "x.conf", tmp_path / "status.sock"
    path.write_text(f"[web]\nlisten_address = 127.0.0.1:1\nstatus_socket = {own}\n")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(own))
        listener.listen()

        def answer() -> None:
            with listener.accept()[0] as client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")

        thread = threading.Thread(target=answer)
        thread.start()
        assert exit_of("--config", str(path), "status") == 3
        thread.join(20)
    assert capsys.readouterr().err.startswith(f"backupready: what answers at {own} is not the daemon: ")


def test_rules_lead_to_the_runbook_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """All that differs from the file in the tree is the address; of the machine's own pages, too, but for the alerts
    that are no machine's: a template would give them an address without a host."""
    for keep, file in ((False, "alerts.yml"), (True, "alerts-keep-firing.yml")):
        for address in ("https://wiki.internal/backupready", "http://{{ $labels.instance }}/runbook"):
            options = ["rules", "--runbook", address + "/", *(["--keep-firing"] if keep else [])]
            assert cli.main(options) == 0
            told = capsys.readouterr().out
            there = (Path(__file__).parents[1] / "config" / file).read_text()
            assert told != there
            assert told.replace(f'"{address}/', '"https://runbook.example/backupready/') == there
            left = set(re.findall('"https://runbook.example/backupready/(.+)"', told))
            assert left == ({"absent.md", "many_share_start.md"} if "{{" in address else set())


@pytest.mark.parametrize("address", ["wiki", "ftp://x/", "https://x\n  - alert: y", 'https://x/"', ""])
def test_rules_take_no_other_address(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What would break the file is refused."""
    assert cli.main(["rules", "--runbook", address]) == 64
    assert "is no address; write https://HOST/PATH" in capsys.readouterr().err
