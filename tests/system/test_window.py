"""A whole backup window in the booted guest: phases, prediction and outcome, and a daemon that is killed in each."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from history import Run, history
from measured import measured
from system import faults
from system.inside import BACKUPREADY, Inside

_UNIT = "backupready.service"
_CONFIG = "/etc/backupready/conf.d/60-window.conf"
_LEAD, _HOLD, _LENGTH = 60, 25, 45  # s
_PHASES = ["idle", "lead", "hold", "open", "idle"]
_HISTORY = "/var/lib/backupready/history.sqlite"
_STATE = "/var/lib/backupready/state.json"


class Cycle:
    """A window that opens soon, by the configuration, and what the daemon says around it."""

    def __init__(self, inside: Inside) -> None:
        self.inside = inside
        self.start = (time.time() + _LEAD + 20) // 60 * 60 + 60
        moment = time.strftime("%H:%M", time.gmtime(self.start))
        text = f"[window]\nschedule = daily at {moment}\nlead = {_LEAD}s\nhold = {_HOLD}s\n"
        text += f"start_window = {_LENGTH - 10}s\nduration = 10s\n[past]\ninterval = 3s\n"
        inside.guest.write(_CONFIG, text)
        inside.guest.run("systemctl", "reload", _UNIT)
        self.phases: list[str] = []

    def status(self) -> dict[str, Any]:
        """Asked again while the daemon is being started."""
        deadline = time.monotonic() + 30
        while True:
            done = self.inside.guest.run(BACKUPREADY, "status", "--json", check=False)
            if done.stdout:
                document: dict[str, Any] = json.loads(done.stdout)
                return document
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.3)

    def until(self, phase: str, within: float) -> dict[str, Any]:
        """Watch until this phase has come."""
        deadline = time.monotonic() + within
        while True:
            document = self.status()
            now = document["window"]["phase"]
            if not self.phases or self.phases[-1] != now:
                self.phases.append(now)
            if now == phase:
                return document
            assert time.monotonic() < deadline, f"{self.phases}, and no {phase}"
            time.sleep(0.3)

    def kill(self) -> None:
        """The daemon is killed, comes back by itself, and believes what it believed."""
        before = self.status()
        pid = self.inside.guest.run("systemctl", "show", "--value", "-p", "MainPID", _UNIT).stdout.strip()
        self.inside.guest.run("kill", "-KILL", pid)

        def settled() -> dict[str, Any] | None:
            document = self.status()
            looked = all(probe["state"] == "ok" for probe in document["probes"])
            return document if looked and document["verdict"] == before["verdict"] else None

        after = self.inside.guest.wait_for("the daemon to believe what it believed", settled, 30)
        assert self.inside.guest.run("systemctl", "show", "--value", "-p", "MainPID", _UNIT).stdout.strip() != pid
        assert (after["verdict"], after["since"]) == (before["verdict"], before["since"])
        held = [[(r["problem"], r["since"]) for r in document["reasons"]] for document in (before, after)]
        assert held[0] == held[1]

    def scores(self) -> dict[tuple[str, str], float]:
        found = re.findall(
            r'(?m)^backupready_predictions_total{happened="(\w+)",predicted="(\w+)"} (\S+)$',
            self.inside.get("/metrics"),
        )
        return {(predicted, happened): float(times) for happened, predicted, times in found}


@pytest.fixture
def windows(inside: Inside) -> Iterator[Inside]:
    """Afterwards no window is known any more, and nothing is remembered of those that were."""
    guest = inside.guest
    try:
        yield inside
    finally:
        guest.path(_CONFIG).unlink(missing_ok=True)
        guest.run("systemctl", "stop", _UNIT)
        for kept in (_HISTORY, _STATE):  # the counts go on from either
            guest.path(kept).unlink(missing_ok=True)
        guest.run("systemctl", "start", _UNIT)


def _record(inside: Inside, runs: list[Run], stack: contextlib.ExitStack) -> None:
    """As the extension would have left it."""
    for path, text in history(runs, first=100).items():
        if "/config/" not in path:
            stack.enter_context(faults.written(inside, f"/{path}", text))


def test_a_cycle_with_a_healthy_agent(windows: Inside) -> None:
    """idle, lead, hold, open, idle; killed in each, the daemon goes on as it was. What was said came true."""
    cycle = Cycle(windows)
    for phase in _PHASES[:-1]:
        document = cycle.until(phase, 150)
        if phase == "lead":
            headline = windows.guest.run(BACKUPREADY, "status", check=False).stdout.splitlines()[0]
            assert re.match(r"READY · next backup \w{3} \d\d:\d\d UTC \(in .+\) should succeed$", headline), headline
            unit = windows.guest.run("systemctl", "show", "--value", "-p", "StatusText", _UNIT).stdout
            assert unit.startswith("READY · next backup "), unit
        assert document["verdict"] == "ready", document
        cycle.kill()
    with contextlib.ExitStack() as stack:
        _record(windows, [Run(time.time(), seconds=5)], stack)
        document = cycle.until("idle", 60)
        assert time.time() < cycle.start + _LENGTH, "the window was over before its backup was seen"
        assert cycle.phases == _PHASES
        (told,) = document["window"]["predictions"]
        assert (told["predicted"], told["happened"]) == ("ready", "succeeded")
        assert cycle.scores() == {("ready", "succeeded"): 1.0}
        said = windows.guest.run(BACKUPREADY, "window").stdout
        measured(f"backupready window: {said.splitlines()[-1]}")
        assert "predicted ready; it succeeded" in said


def test_a_cycle_with_a_fault_in_lead(windows: Inside) -> None:
    """The agent stops in the lead time: the window is foretold to fail, and does. The daemon is killed in the lead and
    in the window."""
    guest = windows.guest
    cycle = Cycle(windows)
    cycle.until("lead", 150)
    windows.without_auto_restart()
    guest.stop_agent()
    guest.wait_for("the fault to be told", lambda: cycle.status()["verdict"] == "blocked", 30)
    cycle.kill()
    cycle.until("hold", 60)
    cycle.until("open", 60)
    cycle.kill()
    with contextlib.ExitStack() as stack:
        _record(windows, [Run(time.time(), 76, seconds=5)], stack)
        document = cycle.until("idle", 90)
        assert cycle.phases == _PHASES

        def settled() -> dict[str, Any] | None:
            (told,) = cycle.status()["window"]["predictions"]
            return dict(told) if told["happened"] else None

        told = guest.wait_for("the outcome to be told", settled, 60)
        assert (told["predicted"], told["reasons"][0]) == ("blocked", "AGENT_STOPPED")
        assert told["happened"] == "failed"
        assert cycle.scores() == {("blocked", "failed"): 1.0}
        assert document["verdict"] == "blocked"
