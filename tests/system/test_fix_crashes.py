"""The hands are killed after a step of a fix: does the next start heal the machine, or leave it as it was?

They are killed behind the step and before it is noted, in the guest, with the installed package.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from backupready import fixes
from backupready.hands import ledger
from backupready.model import Result
from lab.guest import AGENT_UNIT, HANDLER_DIRECTORY, LIBRARY
from measured import measured
from system import faults
from system.inside import Inside

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
name, last = sys.argv[1], int(sys.argv[2])
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
sys.exit(cli.main(["fix", name]))
"""
TREE = f"""
find /etc/systemd/system /etc/waagent.conf -printf '%p %y %m %U %G %l\\n' | sort
find /etc/systemd/system /etc/waagent.conf -type f -exec sha256sum {{}} + | sort
find {HANDLER_DIRECTORY} {STALE} -maxdepth 1 -printf '%p %y %m %U %G\\n' 2>/dev/null | sort
"""


class Fault(NamedTuple):
    """What is wrong, and the problem that the remedy is for."""

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
    "restart-agent": Fault("AGENT_STOPPED", lambda inside: inside.guest.stop_agent()),
}


def _mend(inside: Inside) -> None:
    guest = inside.guest
    guest.run("rm", "-rf", ledger.DIRECTORY)
    drop_in = f"/etc/systemd/system/{AGENT_UNIT}.d/60-backupready-restart.conf"
    guest.path(drop_in).unlink(missing_ok=True)
    guest.path(STALE).unlink(missing_ok=True)
    guest.run("systemctl", "enable", AGENT_UNIT)
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


@pytest.mark.parametrize("remedy", FAULTS)
def test_killed_behind_each_step(alone: Inside, remedy: str) -> None:
    fault, guest = FAULTS[remedy], alone.guest
    ends: Counter[str] = Counter()
    with faults.written(alone, SETTINGS, f"[fix]\nmode = on\nallow = {remedy}\n"):
        for last in range(1, MOST_STEPS + 2):
            _mend(alone)
            fault.made(alone)
            before = guest.run("sh", "-c", TREE).stdout
            done = guest.run("python3", "-c", KILLED, remedy, str(last), check=False, timeout=120)
            if done.returncode == 0:
                break
            assert guest.exists(MARKER), done.stdout + done.stderr
            guest.run("systemctl", "start", END)
            guest.wait_for("the end of the fix", lambda: not guest.exists(MARKER), timeout=120)
            (attempt,) = fixes.decode(guest.path(fixes.SUMMARY).read_bytes()).attempts
            ends[f"{attempt.result.value} after {last}"] += 1
            assert attempt.result in (Result.HEALED, Result.INTERRUPTED), attempt
            assert not attempt.left, attempt.reasons
            if attempt.result is Result.HEALED:
                assert fault.problem not in alone.check().active
            else:
                assert guest.run("sh", "-c", TREE).stdout == before
            assert guest.unit_property(AGENT_UNIT, "ActiveState") == "active"
    assert done.returncode == 0, f"{remedy} has more than {MOST_STEPS} steps"
    assert ends
    measured(f"{remedy} killed behind each step: {', '.join(ends)}")
