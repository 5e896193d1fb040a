"""What the administrator types to have something fixed: words that say why not, and exit codes that mean something."""

from __future__ import annotations

import io
import json
import logging
import os
import pwd
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backupready import bundle, cli, cli_fix, fixes, journal, remedies, vmsnapshot, wire
from backupready.cli_fix import request_for
from backupready.config import ConfigError, Mistake
from backupready.hands import ledger
from backupready.hands import world as worlds
from backupready.hands.gate import Request
from backupready.hands.world import Surroundings
from backupready.model import (
    CannotTell,
    Finding,
    Outlook,
    Pause,
    Phase,
    Process,
    Ran,
    Refusal,
    RestartUnit,
    SetConfigKey,
    Snapshot,
    Step,
    Window,
)
from fake import FakeMachine, configuration, looked, remedy, snapshot
from hands.test_world import MEND, STOPPED, UNIT, Scene

Capture = pytest.CaptureFixture[str]
CONFIG = "Logs.Verbose=n\nExtensions.Enabled=y\n"
VERBOSE = remedy("enable-verbose-logging", (SetConfigKey("Logs.Verbose", "y", 7200.0),), problems=())


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A machine whose agent has stopped, instead of this one; who asks is root."""
    made = Scene(tmp_path, remedies=(MEND, VERBOSE))
    made.settings["fix__allow"] = "restart-agent enable-verbose-logging"
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/waagent.conf").write_text(CONFIG)
    (tmp_path / "root/var/lib").mkdir(parents=True)
    monkeypatch.setattr(cli_fix, "surroundings", lambda *arguments: made.around)
    monkeypatch.setattr(cli_fix, "_KNOWN", {one.name: one for one in made.remedies})
    monkeypatch.setattr(remedies, "REMEDIES", made.remedies)
    monkeypatch.setenv("SUDO_USER", "ada")
    return made


@pytest.fixture
def typed(scene: Scene) -> Callable[..., int]:
    """The exit status of words, with the scene's configuration."""

    def typed(*words: str) -> int:
        texts = {"fix__pause_file": str(scene.place / "pause"), **scene.settings}
        path = scene.place / "x.conf"
        path.write_text("[fix]\n" + "".join(f"{name[5:]} = {text}\n" for name, text in texts.items()))
        try:
            return cli.main(["--config", str(path), *words])
        except SystemExit as stop:
            assert isinstance(stop.code, int)
            return stop.code

    return typed


# ---------------------------------------------------------------------------------------------------------------- fix


def test_a_fix_is_done(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """For the one problem that it is for, in the person's name."""
    assert typed("fix", "restart-agent") == 0
    told = capsys.readouterr().out
    assert told.startswith(
        "restart-agent for AGENT_STOPPED: healed, a fresh look no longer sees the problem (attempt 1).\n"
    )
    assert scene.starts == 1
    [attempt] = ledger.attempts(ledger.peek(scene.around.directory))
    assert attempt.by == "ada"


def test_the_machine_is_looked_at_after_what_was_left_is_ended(
    scene: Scene, typed: Callable[..., int], capsys: Capture
) -> None:
    """Ending it may heal the machine: then nothing is begun."""
    with ledger.Ledger(scene.around.directory, scene.around.summary, worlds.clock()) as book:
        world = worlds.world(scene.around, book)
        steps: tuple[Step, ...] = (SetConfigKey("Logs.Verbose", "y"), RestartUnit(UNIT))
        about = {"remedy": VERBOSE.name, "problem": "", "key": "", "by": "mind", "settle": 0.0}
        number = book.begin(worlds.clock(), steps, **about, before=[], unknown=[])
        for index, step in enumerate(steps):
            record = world.doer.prepare(step)
            book.add("prepared", worlds.clock(), attempt=number, index=index, record=dict(record))
        world.doer.do(steps[0], world.doer.prepare(steps[0]))
    assert typed("fix", "restart-agent") == 4
    assert "is refused (not_confirmed): a fresh look does not see AGENT_STOPPED" in capsys.readouterr().err
    assert scene.starts == 1
    assert (scene.place / "root/etc/waagent.conf").read_text() == CONFIG


def test_a_person_is_told_that_he_waits(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """For another fix, and for a while."""
    with ledger.Ledger(scene.around.directory, scene.around.summary, worlds.clock()):
        assert typed("fix", "restart-agent") == 4
    waiting, refused, _ = capsys.readouterr().err.splitlines()
    assert waiting == "backupready fix: another fix is under way; waiting"
    assert refused == "restart-agent is refused (locked): another fix is under way."


def test_what_did_not_help_is_1(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """And why, and that it is undone."""
    scene.heals = False
    assert typed("fix", "restart_agent", "--problem", "agent-stopped") == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "restart-agent for AGENT_STOPPED: done, and it did not help (attempt 1)."
    assert told[-2:] == ["  AGENT_STOPPED is still seen", "What it had changed has been undone."]


def test_a_refusal_is_4_and_says_why_until_when_and_what_lifts_it(
    scene: Scene, typed: Callable[..., int], capsys: Capture
) -> None:
    """On standard error; nothing is changed."""
    assert typed("fix", "restart-agent") == 0
    scene.stopped = True
    capsys.readouterr()
    assert typed("fix", "restart-agent") == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    why, until, lift = captured.err.splitlines()
    assert why == "restart-agent is refused (cooldown): restart-agent was done a short while ago."
    assert until.startswith("Until: ")
    assert until.endswith((", in 14 min.", ", in 15 min."))
    assert lift == "What lifts it: wait."
    assert scene.starts == 1


@pytest.mark.parametrize(
    ("setting", "value", "name"),
    [("mode", "off", "mode_off"), ("allow", "", "not_opted_in")],
)
def test_what_is_not_allowed_is_not_allowed_to_a_person_either(
    setting: str, value: str, name: str, scene: Scene, typed: Callable[..., int], capsys: Capture
) -> None:
    """Nobody has said that it may be done."""
    scene.settings[f"fix__{setting}"] = value
    assert typed("fix", "restart-agent") == 4
    assert f"is refused ({name})" in capsys.readouterr().err


def test_what_is_only_observed_is_4(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """With the steps that would be done."""
    scene.settings["fix__mode"] = "observe"
    assert typed("fix", "restart-agent") == 4
    assert capsys.readouterr().out.splitlines() == [
        "Nothing was changed, since fix.mode is observe. restart-agent would do this:",
        "  1. restart walinuxagent.service",
    ]


def test_what_calls_for_nothing_is_refused(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """Nothing needs to be fixed."""
    scene.stopped = False
    assert typed("fix", "restart-agent") == 4
    assert "a fresh look sees nothing that restart-agent is for" in capsys.readouterr().err
    assert scene.commands == []


def test_what_is_refused_before_the_hands_are_asked_is_counted_too(
    scene: Scene, typed: Callable[..., int], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in the journal; not what would be refused. Where another fix has the ledger, that one counts it."""
    records: list[logging.LogRecord] = []
    monkeypatch.setattr(journal.LOG, "handle", records.append)
    scene.stopped = False
    assert typed("fix", "restart-agent", "--dry-run") == 4
    assert "restart-agent would be refused (not_confirmed)" in capsys.readouterr().err
    assert not scene.around.directory.exists()
    for times in (1, 2):
        assert typed("fix", "restart-agent") == 4
        assert fixes.decode(scene.around.summary.read_bytes()).refused == {("restart-agent", "not_confirmed"): times}
    assert [record.__dict__["BACKUPREADY_REFUSAL"] for record in records] == ["not_confirmed"] * 2
    with ledger.Ledger(scene.around.directory, scene.around.summary, worlds.clock()) as book:
        assert typed("fix", "restart-agent") == 4
        book.publish(worlds.clock())
    assert fixes.decode(scene.around.summary.read_bytes()).refused == {("restart-agent", "not_confirmed"): 3}


@pytest.mark.parametrize(
    "words",
    [
        ("fix", "format-disk"),
        ("fix", "restart-agent", "--problem", "AGENT_OUTDATED"),
        ("fix", "restart-agent", "--enable"),
        ("fix", "--dry-run"),
        ("fix", "--problem", "AGENT_STOPPED"),
        ("fix", "--enable", "--disable"),
        ("undo",),
        ("undo", "x"),
        ("undo", "3", "--temporary"),
        ("pause", "--for", "long"),
    ],
)
def test_wrong_usage_is_64(words: tuple[str, ...], scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """And nothing is done."""
    assert typed(*words) == 64
    assert capsys.readouterr().err
    assert scene.commands == []
    assert not (scene.place / "pause").exists()


def test_a_dry_run_tells_the_steps_and_the_diff(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """And what is against it; nothing is changed, and there is no ledger."""
    assert typed("fix", "enable-verbose-logging", "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "enable-verbose-logging would do this:",
        "  1. set Logs.Verbose=y in waagent.conf, for 7200 s",
        "       --- /etc/waagent.conf (before)",
        "       +++ /etc/waagent.conf (after)",
        "       @@ -1,2 +1,2 @@",
        "       -Logs.Verbose=n",
        "       +Logs.Verbose=y",
        "        Extensions.Enabled=y",
        "Nothing was changed.",
    ]
    scene.settings["fix__mode"] = "off"
    assert typed("fix", "restart-agent", "--dry-run") == 4
    captured = capsys.readouterr()
    assert "  1. restart walinuxagent.service\nNothing was changed.\n" in captured.out
    assert "restart-agent would be refused (mode_off): fixes are switched off." in captured.err
    assert (scene.place / "root/etc/waagent.conf").read_text() == CONFIG
    assert scene.commands == []
    assert not scene.around.directory.exists()


def test_all_are_listed_with_what_is_against_them(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """Those that something calls for now are judged."""
    scene.settings["fix__allow"] = "restart-agent"
    assert typed("fix") == 0
    assert capsys.readouterr().out.splitlines() == [
        "restart-agent: title of restart-agent",
        "  may be done",
        "  now for AGENT_STOPPED: nothing is against it",
        "enable-verbose-logging: title of enable-verbose-logging",
        "  may not be done: its name is not in fix.allow",
        "fix.mode is on: what may be done is done.",
    ]
    scene.settings["fix__allow"] = ""
    assert typed("fix") == 0
    assert "  now for AGENT_STOPPED: refused (not_opted_in): restart-agent is not among" in capsys.readouterr().out
    assert scene.looks == 2


def test_only_root_changes_anything(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """Others are told so, and may see which there are."""
    scene.around.directory.mkdir()
    scene.user = 1000
    for words in (("fix", "restart-agent"), ("fix", "--enable"), ("undo", "1"), ("undo", "--temporary")):
        assert typed(*words) == 4
        captured = capsys.readouterr()
        assert "only root" in captured.err
        assert captured.out == ""
    assert typed("fix") == 0
    assert "Only root is told which of them something calls for now." in capsys.readouterr().out
    assert (scene.commands, scene.looks) == ([], 0)


@pytest.mark.parametrize("word", ["enable", "disable"])
def test_the_door_is_opened_and_closed(word: str, scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """What that means is said before; the configuration is left."""
    assert typed("fix", f"--{word}") == 0
    assert scene.commands == [("systemctl", "--no-ask-password", word, "--now", "backupready-fix.socket")]
    told = capsys.readouterr().out
    assert told.startswith("backupready-fix.socket is ")
    assert ("fix.allow: restart-agent, enable-verbose-logging." in told) is (word == "enable")


def test_a_door_that_does_not_open_is_1(
    scene: Scene, typed: Callable[..., int], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the service manager's words."""

    def run(command: Sequence[str], timeout: float) -> Ran:
        return Ran(1, b"", "Unit backupready-fix.socket does not exist.\n")

    monkeypatch.setattr(scene, "run", run)
    assert typed("fix", "--enable") == 1
    assert capsys.readouterr().err == (
        "backupready fix: cannot enable backupready-fix.socket: Unit backupready-fix.socket does not exist.\n"
    )


# ----------------------------------------------------------------------------------------------------- what is asked


def _seen(*findings: Finding | CannotTell) -> Snapshot:
    return snapshot(looked("agent", *findings), times=3)


BOTH = remedy("restart-agent", (RestartUnit(UNIT),), problems=(STOPPED, "AGENT_HUNG"))


def test_the_problem_is_the_one_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its key; of several one must be named."""
    monkeypatch.setenv("SUDO_USER", "ada")
    one = _seen(Finding(STOPPED))
    assert request_for(BOTH, one, None, None) == Request("restart-agent", STOPPED, "", "ada")
    several = _seen(Finding(STOPPED, "a"), Finding(STOPPED, "b"))
    assert request_for(BOTH, several, None, None) == (
        "several problems are there that restart-agent is for; add --problem AGENT_STOPPED --key 'a' or --problem"
        " AGENT_STOPPED --key 'b'"
    )
    assert request_for(BOTH, several, STOPPED, "b") == Request("restart-agent", STOPPED, "b", "ada")
    assert request_for(BOTH, several, None, "a") == Request("restart-agent", STOPPED, "a", "ada")


def test_what_is_not_seen_is_left_to_the_gate_or_refused() -> None:
    """Where it cannot be told, that is said."""
    nothing = _seen()
    asked = request_for(BOTH, nothing, "AGENT_HUNG", None)
    assert isinstance(asked, Request)
    assert asked.problem == "AGENT_HUNG"
    unknown = request_for(BOTH, _seen(CannotTell("denied", (STOPPED,))), None, None)
    assert isinstance(unknown, Refusal)
    assert f"cannot tell whether {STOPPED} is there" in unknown.why


def test_who_asks_is_told_by_name_and_is_never_the_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where he is called so."""
    monkeypatch.setenv("SUDO_USER", "mind")
    assert Request("x", by=cli_fix.person()).person
    monkeypatch.delenv("SUDO_USER")
    assert cli_fix.person() == pwd.getpwuid(os.getuid()).pw_name


# --------------------------------------------------------------------------------------------------------------- undo


def test_an_attempt_is_undone(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """Once; the file is as it was."""
    file = scene.place / "root/etc/waagent.conf"
    assert typed("fix", "enable-verbose-logging") == 0
    assert file.read_text() != CONFIG
    assert typed("undo", "1") == 0
    assert file.read_text() == CONFIG
    assert "enable-verbose-logging: undone (attempt 1)." in capsys.readouterr().out
    assert typed("undo", "1") == 1
    assert typed("undo", "2") == 1
    assert "there is no attempt 2" in capsys.readouterr().err


class Terminal(io.StringIO):
    """A stream with a person at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("read", "written"), [(True, True), (True, False), (False, True), (None, True)])
def test_what_somebody_has_changed_since_is_shown_to_a_person_alone(
    read: bool | None, written: bool, scene: Scene, typed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installers keep what their scripts print, also by a terminal of theirs; whoever removes the package can still ask
    for it himself, with the number."""
    file = scene.place / "root/etc/waagent.conf"
    assert typed("fix", "enable-verbose-logging") == 0
    file.write_text("Logs.Verbose=y\nHttpProxy.Password=mine\n")
    for words in (("undo", "--temporary"), ("undo", "1")):
        told = Terminal() if written else io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr("sys.stdout", told)
            patch.setattr("sys.stdin", Terminal() if read else io.StringIO() if read is False else None)
            assert typed(*words) == 1
        text = told.getvalue()
        assert "enable-verbose-logging: not undone, or not all of it (attempt 1)." in text
        assert ("+HttpProxy.Password=mine" in text) is (read is True and written)
        assert ("is shown at a terminal only: `backupready undo ATTEMPT`" in text) is ("mine" not in text)


@pytest.mark.parametrize("script", ["debian/backupready.prerm", "rpm/backupready.spec"])
def test_the_packages_are_no_person(script: str) -> None:
    """Their scripts have a terminal to write to, but give none to read from."""
    text = (Path(__file__).parents[1] / "packaging" / script).read_text()
    [line] = [line for line in text.splitlines() if "backupready undo" in line]
    assert "backupready undo --temporary </dev/null" in line


def test_what_somebody_has_changed_since_is_left_and_told(
    scene: Scene, typed: Callable[..., int], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 1, and with what he has made of it."""
    monkeypatch.setattr(cli_fix, "_at_terminal", lambda: True)
    file = scene.place / "root/etc/waagent.conf"
    assert typed("fix", "enable-verbose-logging") == 0
    file.write_text("Logs.Verbose=y\nMine=1\n")
    assert typed("undo", "--temporary") == 1
    told = capsys.readouterr().out
    assert "enable-verbose-logging: not undone, or not all of it (attempt 1)." in told
    assert "Not undone: step 1." in told
    assert "\n+Mine=1\n" in told
    assert "Mine=1" not in (scene.around.directory / "ledger").read_text() + scene.around.summary.read_text()
    assert file.read_text() == "Logs.Verbose=y\nMine=1\n"


def wrong(path: object) -> None:
    """Instead of a configuration."""
    raise ConfigError([Mistake("x.conf", 3, "no such mode")])


def test_before_the_package_goes_all_temporary_changes_go(
    scene: Scene, typed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With success also where there is nothing, where nothing ever was, and with a wrong configuration."""
    assert typed("undo", "--temporary") == 0
    assert not scene.around.directory.exists()
    assert typed("fix", "enable-verbose-logging") == 0

    monkeypatch.setattr(cli, "load", wrong)
    assert typed("undo", "1") == 78
    assert typed("undo", "--temporary") == 0
    assert (scene.place / "root/etc/waagent.conf").read_text() == CONFIG
    assert typed("undo", "--temporary") == 0


def test_what_was_left_is_ended_whatever_the_configuration_says(
    scene: Scene, typed: Callable[..., int], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the timer starts the hands: a temporary change whose time is over is undone, and the journal has what is
    wrong."""
    file = scene.place / "root/etc/waagent.conf"
    assert typed("fix", "enable-verbose-logging") == 0
    pass_hours(3.0, monkeypatch)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    monkeypatch.setattr(cli, "load", wrong)
    assert typed("hands") == 0
    assert file.read_text() == CONFIG
    told = capsys.readouterr().err
    assert (
        " ERROR the configuration is wrong, and what was left behind is ended by the defaults: x.conf:3: no such mode"
        in told
    )


# -------------------------------------------------------------------------------------------------------------- pause


def test_a_pause_is_made_and_ended(scene: Scene, typed: Callable[..., int], capsys: Capture) -> None:
    """For a time, and with a reason, which the refusal tells."""
    assert typed("pause", "--for", "2h", "--reason", "the fleet\nis patched") == 0
    pause = worlds.paused(scene.place / "pause", time.time())
    assert pause is not None
    assert pause.until == pytest.approx(time.time() + 7200.0, abs=60.0)
    assert typed("fix", "restart-agent") == 4
    captured = capsys.readouterr()
    assert captured.out.startswith("Nothing is fixed until ")
    assert "restart-agent is refused (paused): fixes are paused: the fleet is patched." in captured.err
    assert typed("resume") == 0
    assert typed("resume") == 0
    assert capsys.readouterr().out == "Fixes are not paused any more.\nFixes are not paused.\n"
    assert typed("pause") == 0
    assert worlds.paused(scene.place / "pause", 1e11) == Pause()


def test_a_pause_says_what_goes_on(
    scene: Scene, typed: Callable[..., int], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fix that is under way at this moment; or that this cannot be told."""
    told: list[str] = []
    run = scene.run

    def pausing(command: Sequence[str], timeout: float) -> Ran:
        if "restart" in command:
            capsys.readouterr()
            assert typed("pause") == 0
            told.extend(capsys.readouterr().out.splitlines())
        return run(command, timeout)

    monkeypatch.setattr(scene, "run", pausing)
    assert typed("fix", "restart-agent") == 0
    assert told == [
        "Nothing is fixed until `backupready resume`.",
        "A fix is under way, and goes to its end: restart-agent for AGENT_STOPPED (attempt 1).",
    ]
    capsys.readouterr()
    assert typed("pause") == 0
    assert capsys.readouterr().out == "Nothing is fixed until `backupready resume`.\n"
    (scene.around.directory / "ledger").unlink()
    (scene.around.directory / "ledger").mkdir()
    assert typed("pause") == 0
    assert "Whether a fix is under way cannot be told: cannot read the ledger in " in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------------ windows


def told(phase: Phase, start: float | None, end: float | None, **texts: str) -> Outlook:
    """The outlook for a request, in hours from now."""
    now = time.time()
    moments = [None if hours is None else now + hours * 3600.0 for hours in (start, end)]
    request = wire.FixRequest("restart-agent", STOPPED, "", now, phase, *moments)
    return cli_fix.outlook(configuration(**texts), lambda: cli_fix._told_by(request), request)(False)  # type: ignore[arg-type]


def test_a_window_without_end_holds_only_the_request_of_whoever_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the daemon does not want for itself it does not get; a person is not kept by it."""
    assert told(Phase.OPEN, -1.0, 1e6).phase is Phase.OPEN
    assert told(Phase.OPEN, None, None).phase is Phase.OPEN
    coming = {"start": "2020-01-01T00:00:00Z", "end": "9999-01-01T00:00:00Z"}
    for window in ({"phase": "open", "next": coming}, {"phase": "open", "next": None}):
        monkeypatch.setattr(cli, "asked", lambda settings, anybody, window=window: {"window": window})
        outlook = cli_fix.surroundings(configuration()).outlook(False)
        assert (outlook.phase, outlook.window) == (Phase.IDLE, None)


def test_without_a_schedule_the_window_is_as_it_is_told() -> None:
    """But for what the clock says: an open one is open, and one that is over is none."""
    ahead = told(Phase.LEAD, 2.0, 4.0)
    assert ahead.phase is Phase.LEAD
    assert isinstance(ahead.window, Window)
    assert ahead.window.start == pytest.approx(time.time() + 7200.0, abs=60.0)
    assert told(Phase.LEAD, -1.0, 1.0).phase is Phase.OPEN
    over = told(Phase.LEAD, -2.0, -1.0)
    assert (over.phase, over.window) == (Phase.IDLE, None)
    assert told(Phase.LEAD, None, None).window is None


def test_a_schedule_that_is_set_counts_for_more_than_what_is_told() -> None:
    """Whatever the daemon says of it."""
    hour = time.gmtime(time.time() + 6 * 3600.0).tm_hour
    outlook = told(Phase.LEAD, 2.0, 4.0, window__schedule=f"daily at {hour:02}:00", window__time_zone="UTC")
    assert outlook.configured
    assert outlook.window is not None
    assert outlook.window.start > time.time() + 4 * 3600.0


def test_while_a_snapshot_runs_the_window_is_open() -> None:
    """Whatever is known of it."""
    for texts in ({}, {"window__schedule": "daily at 03:00"}):
        outlook = cli_fix.outlook(configuration(**texts), lambda: (Phase.IDLE, None))(True)  # type: ignore[arg-type]
        assert outlook.phase is Phase.OPEN


def test_the_daemons_window_is_what_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it knows of none is an answer too."""
    coming = {"start": "2099-01-01T00:00:00Z", "end": "2099-01-01T02:00:00Z"}
    for document, expected in (
        ({"phase": "lead", "next": coming}, (Phase.LEAD, 4070908800.0, 4070916000.0)),
        ({"phase": "idle", "next": None}, (Phase.IDLE, None, None)),
    ):
        monkeypatch.setattr(cli, "asked", lambda settings, anybody, document=document: {"window": document})
        phase, window = cli_fix._told_by_daemon(configuration())
        assert (phase, window and window.start, window and window.end) == expected
        assert cli_fix.surroundings(configuration()).outlook(False).unplanned == ""


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (None, "connection refused"),
        ({"window": None}, "it has not looked for windows yet"),
        ({"window": {"phase": "lead", "next": {"start": 3}}}, "another version answers: "),
        ({"window": {"phase": "dusk", "next": None}}, "another version answers: "),
        (
            {"window": {"phase": "lead", "next": {"start": "0001-01-01T00:00:00", "end": "0001-01-01T00:00:00"}}},
            "another version answers: ",
        ),
        ({}, "another version answers: "),
    ],
)
def test_a_daemon_that_does_not_answer_is_not_one_that_knows_of_no_window(
    document: dict[str, Any] | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is told in words; a snapshot that is seen to run counts all the same."""
    monkeypatch.setattr(cli, "asked", lambda settings, anybody: _answered(document))
    outlook = cli_fix.surroundings(configuration()).outlook
    assert outlook(False).unplanned.startswith(f"the daemon cannot be asked whether a window is near: {why}")
    assert (outlook(False).phase, outlook(False).window) == (Phase.IDLE, None)
    assert outlook(True).phase is Phase.OPEN


def _answered(document: dict[str, Any] | None) -> dict[str, Any]:
    if document is None:
        raise CannotTell("connection refused")
    return document


UNASKED = "backupready fix: the daemon cannot be asked whether a window is near: connection refused\n"


@pytest.fixture
def unasked(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """No schedule is set, and nobody answers for the daemon."""
    monkeypatch.setattr(cli, "asked", lambda settings, anybody: _answered(None))
    settings = configuration()
    monkeypatch.setattr(scene, "outlook", cli_fix.outlook(settings, lambda: cli_fix._told_by_daemon(settings)))


@pytest.mark.usefixtures("unasked")
def test_a_person_is_told_that_no_window_is_known_and_may_go_ahead(
    scene: Scene, typed: Callable[..., int], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is done, and also where he only asks what would be."""
    assert typed("fix", "restart-agent", "--dry-run") == 0
    assert capsys.readouterr().err == UNASKED
    assert typed("fix") == 0
    assert capsys.readouterr().err == UNASKED
    assert scene.starts == 0
    told_before: list[str] = []
    run = scene.run

    def running(command: Sequence[str], timeout: float) -> Ran:
        told_before.append(capsys.readouterr().err)
        return run(command, timeout)

    monkeypatch.setattr(scene, "run", running)
    assert typed("fix", "restart-agent") == 0
    assert (scene.starts, told_before[0]) == (1, UNASKED)


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("running", [False, True])
def test_a_change_whose_time_is_over_is_undone_unless_a_snapshot_runs(
    running: bool, scene: Scene, typed: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody can say whether a window is near."""
    file = scene.place / "root/etc/waagent.conf"
    assert typed("fix", "enable-verbose-logging") == 0
    pass_hours(3.0, monkeypatch)
    if running:
        scene.machine.files[vmsnapshot.FREEZE_LOCK] = b""
        scene.machine.locks[vmsnapshot.FREEZE_LOCK] = 77
    assert typed("hands") == 0
    assert (file.read_text() == CONFIG) is not running


def pass_hours(hours: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much later the hands look at their clocks."""
    now = worlds.clock()
    later = replace(now, wall=now.wall + hours * 3600.0, up=now.up + hours * 3600.0)
    monkeypatch.setattr(worlds, "clock", lambda: later)


def test_nothing_is_younger_than_a_process_that_is_gone() -> None:
    """A request of one that lives counts from its start."""
    machine = FakeMachine(table=(Process(40, 1, ("backupready",), "S", 100.0),))
    assert cli_fix.started(machine, 40) == 100.0
    assert cli_fix.started(machine, 41) > 1e300
    machine.table = CannotTell("no /proc")
    assert cli_fix.started(machine, 40) > 1e300


def test_the_hands_are_given_this_machine() -> None:
    """All remedies, and a door that reads it."""
    around = cli_fix.surroundings(configuration())
    assert isinstance(around, Surroundings)
    assert around.remedies == remedies.REMEDIES
    assert around.machine().now() == pytest.approx(time.time(), abs=60.0)
    assert around.asker_since == 0.0
    assert cli_fix.surroundings(configuration(), None, os.getpid()).asker_since == pytest.approx(
        time.time(), abs=7200.0
    )


@pytest.mark.integration
def test_the_evidence_before_a_fix_has_the_request_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked for and what was in force stand beside what was found; the path goes into the ledger."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/waagent.conf").write_text("Logs.Verbose=n\nHttpProxy.Password=geheim\n")
    monkeypatch.setattr(bundle.collect, "__defaults__", (str(tmp_path / "evidence"),))
    around = cli_fix.surroundings(configuration(machine__root=str(root)))
    path = around.collect(Request("restart-agent", "AGENT_STOPPED", "", "somebody"))
    with tarfile.open(path) as archive:
        texts = {name.rpartition("/")[2]: archive.extractfile(name) for name in archive.getnames()}
        told = {name: file.read().decode() for name, file in texts.items() if file is not None}
    assert json.loads(told["request.json"])["by"] == "somebody"
    assert f"machine.root = {root}" in told["config.txt"]
    assert "Logs.Verbose=n" in told["waagent.conf"]
    assert "geheim" not in str(told)
