"""enable-verbose-logging: for a time, with room for the log, and never where it makes the agent crash."""

from __future__ import annotations

import pytest

from backupready.model import CannotTell, NotNow, RestartUnit, SetConfigKey, Space, Unsuitable, WaitForReport
from backupready.remedies.enable_verbose_logging import REMEDY
from backupready.waagent import LOG
from fake import FakeMachine, healthy, steps

LASTS = 2 * 3600.0


def running(version: str, python: str = "3.11.2", worker: str = "") -> FakeMachine:
    machine = healthy()
    report = next(path for path in machine.files if path.endswith("waagent_status.json"))
    machine.files[report] = str(machine.files[report]).replace("2.15.0.1", worker or version)
    daemon, told = f"Agent Version: {version}\n", f"Python: {python}\n"
    log = str(machine.files[LOG]).replace("Agent Version: 2.15.0.1\n", daemon).replace("Python: 3.11.2\n", told)
    machine.files[LOG] = log.replace("version 2.15.0.1)", f"version {worker or version})")
    return machine


def test_the_key_is_set_for_a_time() -> None:
    """Two hours, after which it ends by itself."""
    assert steps(REMEDY, healthy()) == [
        SetConfigKey("Logs.Verbose", "y", LASTS),
        RestartUnit("walinuxagent.service"),
        WaitForReport(240.0),
    ]


@pytest.mark.parametrize(
    ("version", "python", "worker", "crashes"),
    [
        ("2.5.0.1", "3.11.2", "", False),
        ("2.5.0.2", "3.11.2", "", True),
        ("2.7.3.0", "3.10", "", True),
        ("2.7.3.0", "3.9.2", "", False),
        ("2.8.0.11", "3.13.1", "", True),
        ("2.9.0.4", "3.11.2", "", False),
        ("2.7.3.0", "3.11.2", "2.15.0.1", True),
        ("2.15.0.1", "3.11.2", "2.7.3.0", True),
    ],
)
def test_it_is_refused_where_the_agent_would_crash(version: str, python: str, worker: str, crashes: bool) -> None:
    """Daemon or worker, whichever has the defect on this Python."""
    machine = running(version, python, worker)
    if crashes:
        with pytest.raises(Unsuitable, match="crashes in a loop when it logs verbosely"):
            steps(REMEDY, machine)
    else:
        assert SetConfigKey("Logs.Verbose", "y", LASTS) in steps(REMEDY, machine)


def test_it_is_refused_where_that_cannot_be_told() -> None:
    """No log, no version at all, or an affected version on a Python that is not known."""
    nothing, mute, snake = healthy(), running("what"), running("2.7.3.0", python="what")
    del nothing.files[LOG]
    for machine in (nothing, mute, snake):
        with pytest.raises(CannotTell):
            steps(REMEDY, machine)


def test_it_is_refused_without_room_for_the_log() -> None:
    """Or where nobody knows how much there is."""
    machine = healthy()
    machine.spaces["/var/log"] = Space(1 << 40, (100 << 20) - 1, 0, 0)
    with pytest.raises(NotNow, match="/var/log has 99 MiB left; 100 MiB are wanted"):
        steps(REMEDY, machine)
    machine.spaces["/var/log"] = Space(1 << 40, 100 << 20, 0, 0)
    assert steps(REMEDY, machine)
    machine.spaces["/var/log"] = None
    with pytest.raises(NotNow, match="does not answer"):
        steps(REMEDY, machine)
    machine.spaces["/var/log"] = CannotTell("it cannot be told")
    with pytest.raises(CannotTell):
        steps(REMEDY, machine)


def test_what_is_on_already_is_not_ours() -> None:
    """Somebody else has switched it on, and would find it off two hours later."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = "Logs.Verbose=y\n"
    with pytest.raises(Unsuitable, match="has Logs.Verbose=y already"):
        steps(REMEDY, machine)
