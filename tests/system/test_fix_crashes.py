"""The hands are killed after a step of a fix: does the next start heal the machine, or leave it as it was?

They are killed behind the step and before it is noted, in the guest, with the installed package.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import pytest

from backupready import fixes
from backupready.hands import ledger
from backupready.model import Attempt, Result
from backupready.remedies import REMEDIES
from lab import archive
from lab.guest import AGENT_UNIT, HANDLER_DIRECTORY, LIBRARY, Guest
from measured import measured
from system import faults
from system.inside import Inside
from system.trees import changed, tree

SETTINGS = "/etc/backupready/conf.d/60-fix.conf"
MARKER = f"{ledger.DIRECTORY}/unfinished"
END = "backupready-fix@end.service"
MOST_STEPS = 6
STALE = f"{LIBRARY}/GoalState.77.xml"
# A fix that kills itself behind its n-th step; it settles at once, and looks as ever.
KILLED = """
import os, signal, sys
from datetime import timedelta
from backupready import cli, remedies
from backupready.hands.steps import Steps
name, problem, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
for remedy in remedies.REMEDIES:
    object.__setattr__(remedy, "settle", timedelta(0))
do, count = Steps.do, 0
def killed(self, step, record):
    global count
    do(self, step, record)
    count += 1
    if count == last:
        os.kill(os.getpid(), signal.SIGKILL)
Steps.do = killed
sys.exit(cli.main(["fix", name, *(["--problem", problem] if problem else [])]))
"""


class Fault(NamedTuple):
    """What is wrong, and the problem that the remedy is for; empty where a person wants it without one."""

    problem: str
    made: Callable[[Inside], object]


FAULTS = {
    "add-auto-restart": Fault("AGENT_NO_AUTO_RESTART", Inside.without_auto_restart),
    "clear-stale-snapshot-config": Fault("GOAL_STATE_CACHE_STALE", lambda inside: inside.guest.write(STALE, "<x/>")),
    "enable-agent": Fault("AGENT_NOT_ENABLED", lambda inside: inside.guest.run("systemctl", "disable", AGENT_UNIT)),
    "enable-extensions": Fault("EXTENSIONS_SWITCHED_OFF", lambda inside: inside.set_config("Extensions.Enabled", "n")),
    "normalise-agent-config": Fault("CONFIG_BREAKS_EXTENSION", lambda inside: inside.set_config("Logs.Console ", " y")),
    "reload-extension": Fault(
        "EXTENSION_STATE_WRONG",
        lambda inside: inside.guest.write(f"{HANDLER_DIRECTORY}/config/HandlerState", "garbage"),
    ),
    "reinstall-extension": Fault(
        "EXTENSION_STATE_WRONG",
        lambda inside: inside.guest.write(f"{HANDLER_DIRECTORY}/config/HandlerState", "garbage"),
    ),
    "enable-verbose-logging": Fault("", lambda inside: None),
    "update-agent": Fault("AGENT_OUTDATED", lambda inside: _outdate(inside)),
    "restart-agent": Fault("AGENT_STOPPED", lambda inside: inside.guest.stop_agent()),
}


_BUILDS = itertools.count(1)


def _outdate(inside: Inside) -> None:
    """What was upgraded once stays: each time there is a newer one."""
    archive.offer(inside.guest, "waagent", f"2.7.3.0-4.1+later{next(_BUILDS)}")
    inside.guest.wait_for("the offer to be seen", lambda: "AGENT_OUTDATED" in inside.check().active)


def _mend(inside: Inside) -> None:
    guest = inside.guest
    guest.run("rm", "-rf", ledger.DIRECTORY)
    drop_in = f"/etc/systemd/system/{AGENT_UNIT}.d/60-backupready-restart.conf"
    guest.path(drop_in).unlink(missing_ok=True)
    guest.path(STALE).unlink(missing_ok=True)
    guest.run("systemctl", "enable", AGENT_UNIT)
    archive.withdraw(guest)
    inside.heal()


@pytest.fixture
def alone(booted: Inside) -> Iterator[Inside]:
    """Nobody else asks, and the timer does not end what the test is about to."""
    units = ("backupready.service", "backupready-fix-end.timer")
    booted.guest.run("systemctl", "stop", *units)
    yield booted
    _mend(booted)
    booted.guest.run("systemctl", "start", units[1])
    booted.start_daemon()


def _killed(guest: Guest, remedy: str, last: int) -> subprocess.CompletedProcess[str]:
    command = ("python3", "-c", KILLED, remedy, FAULTS[remedy].problem, str(last))
    return guest.run(*command, check=False, timeout=180)


def _attempt(guest: Guest) -> Attempt:
    (attempt,) = fixes.decode(guest.path(fixes.SUMMARY).read_bytes()).attempts
    return attempt


def test_every_remedy_is_killed() -> None:
    """None was forgotten."""
    assert set(FAULTS) == {remedy.name for remedy in REMEDIES}


@pytest.mark.parametrize("remedy", FAULTS)
def test_killed_behind_each_step(alone: Inside, remedy: str) -> None:
    fault, guest = FAULTS[remedy], alone.guest
    ends: Counter[str] = Counter()
    with contextlib.ExitStack() as made:
        made.enter_context(faults.written(alone, SETTINGS, f"[fix]\nmode = on\nallow = {remedy}\n"))
        if remedy == "enable-verbose-logging":
            made.enter_context(faults.able_to_log_verbosely(alone))
        for last in range(1, MOST_STEPS + 2):
            _mend(alone)
            fault.made(alone)
            before = tree(guest, also=[STALE])
            done = _killed(guest, remedy, last)
            if done.returncode == 0:
                break
            assert guest.exists(MARKER), done.stdout + done.stderr
            guest.run("systemctl", "start", END, timeout=180)
            guest.wait_for("the end of the fix", lambda: _attempt(guest).result is not Result.UNDER_WAY, timeout=120)
            attempt = _attempt(guest)
            ends[f"{attempt.result.value} after {last}"] += 1
            assert attempt.result in (Result.HEALED if fault.problem else Result.DONE, Result.INTERRUPTED), attempt
            assert not attempt.left, attempt.reasons
            assert guest.exists(MARKER) is (attempt.result is Result.DONE)  # what was changed for a time only
            if attempt.result.stands:
                assert fault.problem not in alone.check().active
            else:
                assert changed(before, tree(guest, also=[STALE])) == {}
            assert guest.unit_property(AGENT_UNIT, "ActiveState") == "active"
    assert done.returncode == 0, f"{remedy} has more than {MOST_STEPS} steps"
    assert ends
    measured(f"{remedy} killed behind each step: {', '.join(ends)}")


@pytest.mark.parametrize(
    ("last", "begins"),
    [
        pytest.param(1, faults.freeze_lock_held, id="stopped, and the freeze lock"),
        pytest.param(1, faults.snapshot_told, id="stopped, and a status of a run"),
        pytest.param(2, faults.freeze_lock_held, id="set aside, and the freeze lock"),
        pytest.param(3, faults.freeze_lock_held, id="made anew, and the freeze lock"),
    ],
)
def test_a_snapshot_begins_while_the_agent_is_stopped(
    alone: Inside, last: int, begins: Callable[[Inside], AbstractContextManager[None]]
) -> None:
    """By us, and the hands were killed: although a snapshot is told the next start puts the extension's directory back
    and starts the agent at once, since without the agent no backup succeeds."""
    remedy, guest = "reinstall-extension", alone.guest
    with faults.written(alone, SETTINGS, f"[fix]\nmode = on\nallow = {remedy}\n"):
        FAULTS[remedy].made(alone)
        before = tree(guest)
        done = _killed(guest, remedy, last)
        assert done.returncode != 0, done.stdout
        assert guest.unit_property(AGENT_UNIT, "ActiveState") == "inactive"
        assert guest.exists(HANDLER_DIRECTORY) is (last != 2)
        with begins(alone):
            guest.run("systemctl", "start", END, timeout=180)
            guest.wait_for("the end of the fix", lambda: _attempt(guest).result is not Result.UNDER_WAY, timeout=60)
            assert guest.unit_property(AGENT_UNIT, "ActiveState") == "active"
            assert changed(before, tree(guest)) == {}
    attempt = _attempt(guest)
    assert (attempt.result, attempt.left) == (Result.INTERRUPTED, ()), attempt
