"""Each step in a sentence, and no name in it that leads elsewhere."""

from __future__ import annotations

import typing

import pytest

from backupready import plan
from backupready.model import (
    DaemonReload,
    EnableUnit,
    JoinConfigLines,
    MakeDirectory,
    PackageUpgrade,
    ResetFailed,
    RestartUnit,
    SetAside,
    SetConfigKey,
    StartUnit,
    Step,
    StopUnit,
    Wait,
    WaitForReport,
    WriteDropIn,
)

SENTENCES: list[tuple[Step, str]] = [
    (StartUnit("a.service"), "start a.service"),
    (StopUnit("a.service"), "stop a.service"),
    (RestartUnit("a@b.socket"), "restart a@b.socket"),
    (ResetFailed("a.service"), "reset the count of failures of a.service"),
    (EnableUnit("a.timer"), "have a.timer started at boot"),
    (WriteDropIn("a.service", "60-x.conf", "[Service]\n"), "write /etc/systemd/system/a.service.d/60-x.conf"),
    (DaemonReload(), "have the service manager read its units anew"),
    (SetConfigKey("Logs.Verbose", "y", 7200.0), "set Logs.Verbose=y in waagent.conf, for 7200 s"),
    (SetConfigKey("Extensions.Enabled", "y"), "set Extensions.Enabled=y in waagent.conf"),
    (JoinConfigLines(), "take the blanks around the equals signs out of waagent.conf"),
    (SetAside("X-1.0/config"), "move /var/lib/waagent/X-1.0/config to /var/lib/waagent/.backupready"),
    (MakeDirectory("X-1.0", ("mrseq", "t")), "make /var/lib/waagent/X-1.0 anew, holding only mrseq, t"),
    (MakeDirectory("X-1.0"), "make /var/lib/waagent/X-1.0 anew, empty"),
    (PackageUpgrade("waagent"), "upgrade the package waagent from the repositories that are configured"),
    (Wait("X/s", "Enabled", 420.0), "wait until /var/lib/waagent/X/s holds 'Enabled', at most 420 s"),
    (WaitForReport(240.0), "wait until the agent reports to the platform, at most 240 s"),
]


@pytest.mark.parametrize(("step", "sentence"), SENTENCES)
def test_a_step_is_told_in_a_line(step: Step, sentence: str) -> None:
    """In words that need no knowledge of this program."""
    assert plan.describe(step) == sentence


def test_every_step_has_its_sentence_and_its_limit() -> None:
    """The set is closed."""
    assert {type(step) for step, _ in SENTENCES} == set(typing.get_args(Step))
    assert all(plan.longest([step]) > 0 for step, _ in SENTENCES)


def test_the_limits_of_the_steps_add_up() -> None:
    """Of a plan without any step it is nothing."""
    assert plan.longest(()) == 0.0
    restart, wait = RestartUnit("a.service"), WaitForReport(240.0)
    assert plan.longest([restart, wait]) == plan.longest([restart]) + plan.longest([wait]) > 440.0


@pytest.mark.parametrize(
    "step",
    [
        StartUnit("--help"),
        StopUnit("a.service b.service"),
        RestartUnit("../a.service"),
        EnableUnit("a.mount"),
        WriteDropIn("a.service", "../x.conf", "x"),
        WriteDropIn("a.service", "x.conf", "x\0"),
        WriteDropIn("a", "x.conf", "x"),
        SetConfigKey("a b", "y"),
        SetConfigKey("A", "y\nB=z"),
        SetConfigKey("A", "None"),
        SetAside("/etc/passwd"),
        SetAside("a/../b"),
        SetAside(""),
        MakeDirectory("a", ("b/c",)),
        PackageUpgrade("-o"),
        Wait("..", "x", 1.0),
    ],
)
def test_a_name_that_is_not_plain_is_none(step: Step) -> None:
    """Whoever has described a step has seen its names."""
    with pytest.raises(ValueError, match=" is no |are not all"):
        plan.describe(step)
