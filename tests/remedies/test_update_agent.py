"""update-agent: from the distribution's lists alone, and not where the agent updates itself."""

from __future__ import annotations

import pytest

from backupready.model import (
    CannotTell,
    NotNow,
    PackageUpgrade,
    Process,
    Ran,
    RestartUnit,
    Unsuitable,
    WaitForReport,
)
from backupready.plan import longest
from backupready.remedies.update_agent import REMEDY
from fake import NOW, FakeMachine, healthy, steps


def offered(installed: str = "2.7.3.0-1", candidate: str = "2.9.1.1-1", newer: int = 0) -> FakeMachine:
    machine = healthy()
    machine.files["/etc/waagent.conf"] = "AutoUpdate.Enabled=n\n"
    told = f"waagent:\n  Installed: {installed}\n  Candidate: {candidate}\n     500 http://deb.example\n"
    machine.programs["apt-cache"] = Ran(0, told.encode(), "")
    machine.programs["dpkg --compare-versions"] = Ran(newer, b"", "")
    return machine


@pytest.mark.parametrize("code", REMEDY.problems)
def test_the_package_that_is_installed_is_upgraded(code: str) -> None:
    """By its own name, then the agent is restarted and its report awaited."""
    planned = steps(REMEDY, offered(), code)
    assert planned == [PackageUpgrade("waagent"), RestartUnit("walinuxagent.service"), WaitForReport(240.0)]
    assert longest(planned) <= REMEDY.worst_case.total_seconds()


def test_an_agent_that_updates_itself_is_left_to_it() -> None:
    """As it does without any setting."""
    machine = offered()
    for text in ("", "AutoUpdate.Enabled=y\n", "AutoUpdate.Enabled=yes\n"):
        machine.files["/etc/waagent.conf"] = f"Extensions.Enabled=y\n{text}"
        with pytest.raises(Unsuitable, match="has the agent update itself"):
            steps(REMEDY, machine)
    machine.files["/etc/waagent.conf"] = "AutoUpdate.Enabled=y\nAutoUpdate.UpdateToLatestVersion=n\n"
    assert steps(REMEDY, machine)


def test_nothing_is_done_without_a_newer_one() -> None:
    """The same, an older one, and one that is not known."""
    for machine in (offered(candidate="2.7.3.0-1"), offered(candidate="2.6-1", newer=1)):
        with pytest.raises(Unsuitable, match=r"2.7.3.0-1 is installed"):
            steps(REMEDY, machine)
    for machine in (offered(newer=2), offered(installed="(none)")):
        with pytest.raises(CannotTell):
            steps(REMEDY, machine)
    without = offered()
    del without.programs["apt-cache"]
    with pytest.raises(CannotTell, match="there is no apt-cache"):
        steps(REMEDY, without)


def test_no_update_during_a_snapshot() -> None:
    """The documentation says so for the agent's update."""
    machine = offered()
    machine.table = (*healthy().processes(), Process(300, 1, ("python3", "main/handle.py", "-daemon"), "S", NOW - 9))
    with pytest.raises(NotNow, match="a snapshot may be under way"):
        steps(REMEDY, machine)
