"""Does each remedy heal its fault? With the real agent under a real systemd, by the installed package: a fresh look no
longer sees the fault, and nothing of the machine is otherwise than the remedy says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from backupready.hands import ledger
from backupready.plan import describe
from backupready.remedies import REMEDIES
from lab import archive
from lab.guest import AGENT_LOG, AGENT_UNIT, HANDLER, HANDLER_DIRECTORY, HANDLER_LOGS, LIBRARY, Guest
from system import faults
from system.inside import BACKUPREADY, Inside
from system.trees import SHELF, Tree, changed, tree

_CONFIG = "/etc/backupready/conf.d/70-fix.conf"
_AGENT_CONFIG = "/etc/waagent.conf"
_OWN = "/var/lib/backupready-hands"
_SUMMARY = "/var/lib/backupready-fixes"
_DROP_IN = f"/etc/systemd/system/{AGENT_UNIT}.d/60-backupready-restart.conf"
_DOOR = "backupready-fix.socket"
_END = "backupready-fix-end.timer"


@dataclass(frozen=True)
class Fixed:
    """What a fix said, and its attempt in the summary that everybody may read."""

    text: str
    attempt: dict[str, Any]


class Hands:
    """The guest, where a person has fixes done."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        self.guest = inside.guest

    def configure(self, mode: str, extra: str = "") -> None:
        allow = ", ".join(remedy.name for remedy in REMEDIES)
        self.guest.write(_CONFIG, f"[fix]\nmode = {mode}\nallow = {allow}\ndifferent_per_hour = 20\n{extra}")
        self.guest.run("systemctl", "reload", "backupready.service")

    def attempts(self) -> list[dict[str, Any]]:
        """Out of the summary, oldest first."""
        path = f"{_SUMMARY}/fixes.json"
        if not self.guest.exists(path):
            return []
        found: list[dict[str, Any]] = json.loads(self.guest.read(path))["attempts"]
        return sorted(found, key=lambda attempt: int(attempt["id"]))

    def fix(self, *arguments: str) -> Fixed:
        """By root. It must have healed."""
        done = self.guest.run(BACKUPREADY, "fix", *arguments, check=False, timeout=500)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.inside.last_words()}"
        return Fixed(done.stdout, self.attempts()[-1])

    def confirm(self, gone: str) -> None:
        """By a look of another process's."""
        assert gone not in self.inside.check().active

    def snapshots_taken(self) -> int:
        return self.guest.read(f"{HANDLER_LOGS}/extension.log").count("starting daemon initially")


@pytest.fixture
def hands(inside: Inside) -> Iterator[Hands]:
    """Every remedy may be done, and none has been."""
    guest = inside.guest
    hands = Hands(inside)
    guest.run("sh", "-c", f"rm -rf {_OWN}/* {_SUMMARY}/*")
    hands.configure("on")
    try:
        yield hands
    finally:
        guest.run("systemctl", "disable", "--now", _DOOR, check=False)
        for path in (_CONFIG, _DROP_IN):
            guest.path(path).unlink(missing_ok=True)
        guest.run("sh", "-c", f"rm -rf {_OWN}/* {_SUMMARY}/*")
        guest.run("systemctl", "enable", AGENT_UNIT)
        guest.run("systemctl", "daemon-reload")
        guest.run("systemctl", "start", _END)
        guest.run("systemctl", "reload", "backupready.service")


def test_a_stopped_agent(hands: Hands) -> None:
    """restart-agent starts it; no file of the machine is changed."""
    before = tree(hands.guest)
    hands.guest.stop_agent()
    assert "healed" in hands.fix("restart-agent").text
    assert hands.guest.agent_pids().worker is not None
    hands.confirm("AGENT_STOPPED")
    assert changed(before, tree(hands.guest)) == {}


def test_a_hung_agent(hands: Hands) -> None:
    """restart-agent ends a worker that is stopped, and another takes its place."""
    before, pids = tree(hands.guest), hands.guest.agent_pids()
    hands.guest.run("kill", "-STOP", str(pids.worker))
    hands.inside.expect("AGENT_HUNG", within=200)
    assert "healed" in hands.fix("restart-agent").text
    assert hands.guest.agent_pids().worker not in (None, pids.worker)
    hands.confirm("AGENT_HUNG")
    assert changed(before, tree(hands.guest)) == {}


def test_the_start_limit(hands: Hands) -> None:
    """restart-agent has the unit forget its failures, once what they came from is gone."""
    guest, before = hands.guest, tree(hands.guest)
    drop_in = f"/run/systemd/system/{AGENT_UNIT}.d/90-limit.conf"
    # No reload of the service manager between the fault and the fix: it would forget how often it has tried.
    command = "/bin/sh -c 'test -e /run/lab-mended && exec /usr/bin/python3 /usr/sbin/waagent -daemon'"
    text = f"[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=3\n[Service]\nExecStart=\nExecStart={command}\n"
    guest.stop_agent()
    guest.write(drop_in, f"{text}Restart=always\nRestartSec=100ms\n")
    guest.run("systemctl", "daemon-reload")
    guest.run("systemctl", "start", AGENT_UNIT, check=False)
    guest.wait_for("the start limit", lambda: guest.unit_property(AGENT_UNIT, "ActiveState") == "failed")
    guest.write("/run/lab-mended", "")
    try:
        assert guest.run("systemctl", "start", AGENT_UNIT, check=False).returncode != 0
        assert "healed" in hands.fix("restart-agent", "--problem", "AGENT_START_LIMIT").text
        hands.confirm("AGENT_START_LIMIT")
        assert guest.unit_property(AGENT_UNIT, "ActiveState") == "active"
    finally:
        for path in (drop_in, "/run/lab-mended"):
            guest.path(path).unlink()
        guest.run("systemctl", "daemon-reload")
    assert changed(before, tree(guest)) == {}


def test_a_unit_that_is_not_enabled(hands: Hands) -> None:
    """enable-agent makes the link that was there, and nothing else."""
    before = tree(hands.guest)
    hands.guest.run("systemctl", "disable", AGENT_UNIT)
    assert list(changed(before, tree(hands.guest)).values()) == ["gone"]
    assert "healed" in hands.fix("enable-agent").text
    hands.confirm("AGENT_NOT_ENABLED")
    assert changed(before, tree(hands.guest)) == {}


def test_an_agent_that_is_not_restarted(hands: Hands) -> None:
    """add-auto-restart: killed, the agent comes back. The undo by number leaves the machine as it was, and is
    refused while somebody else's edit is in the file."""
    guest = hands.guest
    hands.inside.without_auto_restart()
    before, pids = tree(guest), guest.agent_pids()
    fixed = hands.fix("add-auto-restart")
    assert "healed" in fixed.text
    assert guest.agent_pids() == pids  # it was not restarted for that
    hands.confirm("AGENT_NO_AUTO_RESTART")
    after = tree(guest)
    assert changed(before, after) == {_DROP_IN: "new"}
    assert after[_DROP_IN][:3] == ("-rw-r--r--", 0, 0)
    guest.run("kill", "-9", str(pids.daemon))
    guest.wait_for("the agent to come back", lambda: guest.agent_pids().daemon not in (None, pids.daemon))

    number, text = str(fixed.attempt["id"]), guest.read(_DROP_IN)
    guest.write(_DROP_IN, f"{text}# somebody else's\n")
    refused = guest.run(BACKUPREADY, "undo", number, check=False)
    assert refused.returncode != 0
    assert "was changed by somebody else" in refused.stdout + refused.stderr
    assert guest.read(_DROP_IN) == f"{text}# somebody else's\n"
    guest.write(_DROP_IN, text)
    guest.run(BACKUPREADY, "undo", number)
    assert changed(before, tree(guest)) == {}


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("config/HandlerState", "garbage", "EXTENSION_STATE_WRONG"),
        ("HandlerManifest.json", None, "EXTENSION_FILES_MISSING"),
    ],
)
def test_an_extension_whose_files_are_damaged(hands: Hands, file: str, text: str | None, problem: str) -> None:
    """reload-extension has the agent install it anew. What was damaged is as before, the last request's number stays,
    and no snapshot is taken again."""
    guest, before = hands.guest, tree(hands.guest)
    sequence, taken = guest.read(f"{HANDLER_DIRECTORY}/mrseq"), hands.snapshots_taken()
    assert taken >= 1
    if text is None:
        guest.path(hands.inside.keep_manifest()).unlink()
        guest.restart_agent()
        guest.wait_handler("NotReady", 1002)
    else:
        guest.write(f"{HANDLER_DIRECTORY}/{file}", text)  # no restart: that is what the remedy has to do
    guest.wait_for("the problem to be seen", lambda: problem in hands.inside.check().active, 120)
    assert "healed" in hands.fix("reload-extension", "--problem", problem).text
    guest.wait_handler("Ready", 0)
    hands.confirm(problem)
    assert guest.read(f"{HANDLER_DIRECTORY}/mrseq") == sequence
    assert hands.snapshots_taken() == taken
    assert changed(before, tree(guest)) == {}


def test_blanks_in_the_agents_configuration(hands: Hands) -> None:
    """normalise-agent-config joins the line and touches nothing else; the undo brings every byte back."""
    guest = hands.guest
    with faults.configured(hands.inside, "Logs.Console = y"):
        before, pids = tree(guest), guest.agent_pids()
        fixed = hands.fix("normalise-agent-config")
        assert "healed" in fixed.text
        hands.confirm("CONFIG_BREAKS_EXTENSION")
        after = tree(guest)
        assert changed(before, after) == {_AGENT_CONFIG: "content"}
        joined = before[_AGENT_CONFIG][3].replace(b"\nLogs.Console = y\n", b"\nLogs.Console=y\n")
        assert after[_AGENT_CONFIG][3] == joined
        assert guest.agent_pids() == pids
        guest.run(BACKUPREADY, "undo", str(fixed.attempt["id"]))
        assert changed(before, tree(guest)) == {}


def test_extensions_that_are_switched_off(hands: Hands) -> None:
    """enable-extensions changes the value in its line, and the agent reports the extension again."""
    guest = hands.guest
    hands.inside.set_config("Extensions.Enabled", "n")
    guest.restart_agent()
    before = tree(guest)
    hands.inside.guest.wait_for(
        "the problem to be seen", lambda: "EXTENSIONS_SWITCHED_OFF" in hands.inside.check().active
    )
    assert "healed" in hands.fix("enable-extensions").text
    guest.wait_handler("Ready", 0)
    hands.confirm("EXTENSIONS_SWITCHED_OFF")
    assert changed(before, tree(guest)) == {_AGENT_CONFIG: "content"}
    expected = before[_AGENT_CONFIG][3].replace(b"\nExtensions.Enabled=n\n", b"\nExtensions.Enabled=y\n")
    assert tree(guest)[_AGENT_CONFIG][3] == expected


def _soon(hands: Hands, mode: str) -> None:
    """A backup two hours ahead, whose lead time has begun."""
    moment = time.strftime("%H:%M", time.gmtime(time.time() + 7200))
    hands.configure(mode, f"[window]\nschedule = daily at {moment}\ntime_zone = UTC\nlead = 3h\n")


@pytest.mark.parametrize("problem", ["AGENT_STOPPED", "AGENT_NOT_ENABLED", "EXTENSION_STATE_WRONG"])
def test_all_by_itself(hands: Hands, problem: str) -> None:
    """In the lead time the mind asks and the hands heal; everybody is told."""
    guest = hands.guest
    _soon(hands, "on")
    guest.run(BACKUPREADY, "fix", "--enable")
    before = tree(guest)
    if problem == "AGENT_STOPPED":
        guest.stop_agent()
    elif problem == "AGENT_NOT_ENABLED":
        guest.run("systemctl", "disable", AGENT_UNIT)
    else:
        guest.write(f"{HANDLER_DIRECTORY}/config/HandlerState", "garbage")
    guest.wait_for(
        "an attempt that has healed", lambda: [a["result"] for a in hands.attempts()] == ["healed"], timeout=240
    )
    attempt = hands.attempts()[0]
    assert (attempt["problem"], attempt["by"]) == (problem, "mind")
    hands.confirm(problem)
    assert changed(before, tree(guest)) == {}
    remedy = attempt["remedy"]
    guest.wait_for(
        "the metric",
        lambda: any(
            line.startswith("backupready_fix") and remedy in line and "healed" in line and not line.endswith(" 0")
            for line in hands.inside.get("/metrics").splitlines()
        ),
        30,
    )
    assert remedy in guest.run("journalctl", "--no-pager", "-u", "backupready-fix@*").stdout


@pytest.mark.parametrize(
    ("remedy", "fault", "by"),
    [
        ("enable-agent", faults.not_enabled, "root"),
        ("restart-agent", faults.agent_stopped, "root"),
        (
            "reload-extension",
            lambda inside: faults.written(inside, f"{HANDLER_DIRECTORY}/config/HandlerState", "garbage"),
            "mind",
        ),
    ],
    ids=["enable-agent", "restart-agent", "reload-extension"],
)
def test_what_is_shown_is_what_is_done(
    hands: Hands, remedy: str, fault: Callable[[Inside], AbstractContextManager[None]], by: str
) -> None:
    """In mode observe the daemon shows the steps that are done when the mode is on, by a person or in the lead time by
    itself; nothing on the disk is changed, and the hands are not even started, although the door is open."""
    guest = hands.guest
    _soon(hands, "observe")
    if by == "mind":
        guest.run(BACKUPREADY, "fix", "--enable")

    def plan() -> dict[str, Any] | None:
        document = json.loads(guest.run(BACKUPREADY, "status", "--json", check=False).stdout)
        return next((one for one in document["plans"] if one["remedy"] == remedy and one["steps"]), None)

    with fault(hands.inside):
        before = tree(guest)
        planned = guest.wait_for("the plan", plan, 120)
        assert not guest.exists(f"{_OWN}/ledger")
        if by != "mind":
            shown = guest.run(BACKUPREADY, "fix", remedy, check=False)
            assert shown.returncode != 0
            assert "Nothing was changed" in shown.stdout
        assert changed(before, tree(guest)) == {}
        _soon(hands, "on")
        if by != "mind":
            hands.fix(remedy)
        guest.wait_for("the fix", lambda: [one["result"] for one in hands.attempts()] == ["healed"], 240)
        (attempt,) = hands.attempts()
        assert (attempt["remedy"], attempt["by"]) == (remedy, by)
        done = [describe(step) for step in ledger.plan_of(ledger.peek(guest.path(_OWN)), 1)]
        assert planned["steps"] == done


@pytest.fixture
def loquacious(hands: Hands) -> Iterator[Hands]:
    """The agent can be made to log verbosely."""
    with faults.able_to_log_verbosely(hands.inside):
        yield hands


def _verbose_lines(guest: Guest) -> int:
    return guest.read(AGENT_LOG).count(" VERBOSE ")


def _made_verbose(hands: Hands, lasts: str) -> Tree:
    """The machine as it was before."""
    guest = hands.guest
    hands.configure("on", f"verbose_for = {lasts}\n")
    before, lines = tree(guest), _verbose_lines(guest)
    hands.fix("enable-verbose-logging")
    assert changed(before, tree(guest)) == {_AGENT_CONFIG: "content"}
    assert "\nLogs.Verbose=y\n" in guest.read(_AGENT_CONFIG)
    guest.wait_for("the log to be verbose", lambda: _verbose_lines(guest) > lines)
    return before


def test_a_temporary_change_ends_by_itself(loquacious: Hands) -> None:
    """By the timer alone, with the door shut, and also when the machine was restarted meanwhile: every byte of the file
    is as before, and the agent reads it."""
    guest = loquacious.guest
    guest.run("systemctl", "stop", _END)  # until the machine is restarted
    before = _made_verbose(loquacious, "1s")
    guest.reboot()
    guest.wait_agent_ready()
    assert guest.run("systemctl", "is-enabled", _DOOR, check=False).stdout.strip() == "disabled"
    assert changed(before, tree(guest)) == {_AGENT_CONFIG: "content"}
    guest.wait_for("the end", lambda: changed(before, tree(guest)) == {}, 150)
    guest.wait_for("the end to be told", lambda: loquacious.attempts()[-1]["result"] == "undone", 60)
    lines = _verbose_lines(guest)
    guest.restart_agent()
    guest.wait_agent_ready()
    assert _verbose_lines(guest) == lines


def test_a_temporary_change_ends_with_the_package(loquacious: Hands, deb: Path) -> None:
    """Its removal brings every byte back, although the time is not over."""
    guest = loquacious.guest
    before = _made_verbose(loquacious, "2h")
    try:
        guest.run("dpkg", "--remove", "backupready", timeout=200)
        assert changed(before, tree(guest)) == {}
    finally:
        loquacious.inside.install(deb)


def test_an_outdated_agent(hands: Hands) -> None:
    """update-agent has the package manager install what the distribution offers."""
    guest = hands.guest
    try:
        archive.offer(guest, "waagent", "2.7.3.0-4.1+later")
        guest.wait_for("the offer to be seen", lambda: "AGENT_OUTDATED" in hands.inside.check().active)
        assert "healed" in hands.fix("update-agent", "--problem", "AGENT_OUTDATED").text
        assert guest.run("dpkg-query", "-W", "-f", "${Version}", "waagent").stdout == "2.7.3.0-4.1+later"
        hands.confirm("AGENT_OUTDATED")
        guest.wait_agent_ready()
    finally:
        archive.withdraw(guest)


def test_an_extension_anew_in_a_clean_directory(hands: Hands) -> None:
    """reinstall-extension: the old directory stands on the shelf as it was; the new one has what the package has, and
    knows the last request, so that no snapshot is taken again."""
    guest, before = hands.guest, tree(hands.guest)
    directory = guest.path(HANDLER_DIRECTORY)
    there = set(guest.path(SHELF).glob(f"*/{directory.name}"))
    sequence, taken = guest.read(f"{HANDLER_DIRECTORY}/mrseq"), hands.snapshots_taken()
    tasks = {path.name: path.read_text() for path in directory.glob("task_identity_*")}
    assert tasks
    guest.write(f"{HANDLER_DIRECTORY}/config/HandlerState", "garbage")
    guest.write(f"{HANDLER_DIRECTORY}/left-over", "of another time")
    assert "healed" in hands.fix("reinstall-extension", "--problem", "EXTENSION_STATE_WRONG").text
    guest.wait_handler("Ready", 0)
    hands.confirm("EXTENSION_STATE_WRONG")
    assert (guest.read(f"{HANDLER_DIRECTORY}/mrseq"), hands.snapshots_taken()) == (sequence, taken)
    assert {path.name: path.read_text() for path in directory.glob("task_identity_*")} == tasks
    (old,) = set(guest.path(SHELF).glob(f"*/{directory.name}")) - there
    assert (old / "left-over").read_text() == "of another time"
    assert (old / "config/HandlerState").read_text() == "garbage"
    assert changed(before, tree(guest)) == {}


# As anybody asks for it, but for how long the extension is waited for.
HURRIED = """
import sys
from backupready import cli
from backupready.remedies import reinstall_extension
reinstall_extension._ENABLED_WITHIN = 20.0
sys.exit(cli.main(["fix", "reinstall-extension", "--problem", sys.argv[1]]))
"""


@pytest.mark.parametrize("packages", ["missing", "garbage"])
def test_an_extension_that_does_not_come_anew(hands: Hands, packages: str) -> None:
    """reinstall-extension, and what the agent is given once it has been started is no package: the old directory is put
    back as it was, with the number of the last request, and the agent runs."""
    guest = hands.guest
    guest.path(hands.inside.keep_manifest()).unlink()
    guest.write(f"{HANDLER_DIRECTORY}/left-over", "of another time")
    for package in guest.path(LIBRARY).glob(f"{HANDLER}__*.zip"):  # the agent would take what it once had
        package.unlink()
    problem = "EXTENSION_FILES_MISSING"
    guest.restart_agent()
    guest.wait_handler("NotReady", 1002)
    guest.wait_for("the problem to be seen", lambda: problem in hands.inside.check().active, 120)
    before, taken = tree(guest), hands.snapshots_taken()
    with faults.switched(hands.inside, "packages", packages):
        done = guest.run("python3", "-c", HURRIED, problem, check=False, timeout=500)
        assert changed(before, tree(guest)) == {}
    (attempt,) = hands.attempts()
    assert (done.returncode, attempt["result"], attempt["left"]) == (1, "failed", []), done.stdout + done.stderr
    assert "within 20 s" in attempt["reasons"][-1]
    assert f"{HANDLER_DIRECTORY}/mrseq" in before
    assert guest.unit_property(AGENT_UNIT, "ActiveState") == "active"
    guest.wait_for("the agent to work", lambda: guest.agent_pids().worker)
    assert hands.snapshots_taken() == taken


def test_goal_states_of_another_agent(hands: Hands) -> None:
    """clear-stale-snapshot-config sets them aside while the agent is stopped; the undo puts them back."""
    guest, before = hands.guest, tree(hands.guest)
    stale = {f"{LIBRARY}/{name}": f"<{name}/>" for name in ("GoalState.77.xml", "ExtensionsConfig.77.xml")}
    for path, text in stale.items():
        guest.write(path, text)
    try:
        assert "healed" in hands.fix("clear-stale-snapshot-config").text
        hands.confirm("GOAL_STATE_CACHE_STALE")
        assert not any(guest.exists(path) for path in stale)
        assert changed(before, tree(guest)) == {}
        assert guest.run(BACKUPREADY, "undo", "1", timeout=300).returncode == 0
        assert {path: guest.read(path) for path in stale} == stale
    finally:
        for path in stale:
            guest.path(path).unlink(missing_ok=True)
