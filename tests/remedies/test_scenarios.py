"""What would be done about every machine of tests/data whose problem has a remedy? The plans as a table, and what must
hold for all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import pytest

from backupready import remedies, waagent
from backupready.model import (
    CannotTell,
    Finding,
    MakeDirectory,
    Reason,
    Remedy,
    RestartUnit,
    SetAside,
    StartUnit,
    Step,
    StopUnit,
    Unsuitable,
    Wait,
)
from backupready.plan import longest
from scenario import DATA, ScenarioMachine, believe, furnish, scenarios

_CODES = {code for remedy in remedies.REMEDIES for code in remedy.problems}
_NAMED = {
    name: scenario
    for name, scenario in scenarios().items()
    if _CODES & {code.partition("(")[0] for code in scenario["expect"]}
}


@dataclass(frozen=True)
class Planned:
    """What one remedy makes of one finding: its steps, or why it does not fit."""

    scenario: str
    finding: Finding
    remedy: Remedy
    steps: tuple[Step, ...]
    why: str
    again: tuple[tuple[Step, ...], str]


def outcome(remedy: Remedy, machine: ScenarioMachine, finding: Finding) -> tuple[tuple[Step, ...], str]:
    """The steps, all of them given before anything is raised, or why there are none."""
    steps: list[Step] = []
    try:
        steps.extend(remedy.plan(machine, finding))
    except Unsuitable as error:
        return tuple(steps), f"does not fit: {error}"
    except CannotTell as error:
        return tuple(steps), f"cannot tell: {error.why}"
    return tuple(steps), ""


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planned, ...]:
    found: list[Planned] = []
    for name, scenario in _NAMED.items():
        root = tmp_path_factory.mktemp("scenario") / "root"
        snapshot = believe(scenario, root).snapshot
        place = root.parent / "again"
        at = furnish(scenario, place)
        seen: Sequence[Reason] = (*snapshot.reasons, *snapshot.notices)
        for reason in sorted(seen, key=lambda reason: (reason.problem.code, reason.key)):
            finding = Finding(reason.problem.code, reason.key, reason.evidence)
            for remedy in remedies.remedies_for(reason.problem.code):
                first, again = (outcome(remedy, ScenarioMachine(place, at, scenario, {}), finding) for _ in "12")
                found.append(Planned(name, finding, remedy, *first, again))
    return tuple(found)


def test_the_plans_are_as_in_the_table(planned: tuple[Planned, ...], golden: Callable[[Path, str], None]) -> None:
    """Each plan, or why there is none, can be read in one line."""
    lines = ["# What would be done", "", "| scenario | problem | remedy | steps |", "|---|---|---|---|"]
    for one in planned:
        steps = " · ".join(map(_in_words, one.steps)) or f"*{one.why}*"
        key = f" ({one.finding.key})" if one.finding.key else ""
        lines.append(f"| {one.scenario} | {one.finding.problem}{key} | {one.remedy.name} | {steps} |")
    golden(DATA / "plans.md", "\n".join(lines) + "\n")


def _in_words(step: Step) -> str:
    values = " ".join(
        " ".join(value) if isinstance(value, tuple) else str(value)
        for value in vars(step).values()
        if value not in (None, ())
    )
    text = " ".join(values.replace("\n", "⏎").split()).replace(waagent.VMSNAPSHOT, "…VMSnapshotLinux")
    return f"{type(step).__name__} {text}".strip()


def test_every_remedy_that_a_problem_calls_for_is_planned_somewhere(planned: tuple[Planned, ...]) -> None:
    """But update-agent, whose scenarios have an agent that updates itself."""
    fits = {one.remedy.name for one in planned if one.steps}
    assert {remedy.name for remedy in remedies.REMEDIES if remedy.problems} - fits == {"update-agent"}


def test_a_plan_is_the_same_the_second_time(planned: tuple[Planned, ...]) -> None:
    """It depends on the machine and the finding alone."""
    for one in planned:
        assert (one.steps, one.why) == one.again, one


def test_a_remedy_decides_before_its_first_step(planned: tuple[Planned, ...]) -> None:
    """Either there are steps or a reason, never some steps and then a reason."""
    for one in planned:
        assert bool(one.steps) != bool(one.why), one


def test_a_plan_concerns_nothing_but_what_it_is_for(planned: tuple[Planned, ...]) -> None:
    """What is set aside or made is VMSnapshot's directory, its state, settings or status, or a goal state's file that
    lies directly in the library."""
    directory = re.compile(rf"{re.escape(waagent.VMSNAPSHOT)}-\d+(\.\d+)+")
    within = re.compile(r"config/HandlerState|config/\d+\.settings|status/\d+\.status", re.ASCII)
    cached = re.compile(r"(GoalState|ExtensionsConfig)\.\d+\.xml|[\w.]+\.(agentsManifest|manifest\.xml)", re.ASCII)
    for one in planned:
        for step in one.steps:
            if isinstance(step, (SetAside, MakeDirectory)):
                top, _, rest = step.path.partition("/")
                assert (within if rest else directory if directory.fullmatch(top) else cached).fullmatch(rest or top)
                assert not rest or directory.fullmatch(top), one
            if isinstance(step, Wait):
                assert directory.fullmatch(step.path.partition("/")[0]), one


def test_a_plan_leaves_the_agent_running(planned: tuple[Planned, ...]) -> None:
    """Whatever is stopped is started, the same unit, and nothing is set aside after that."""
    for one in planned:
        stopped = [step.unit for step in one.steps if isinstance(step, StopUnit)]
        started = [step.unit for step in one.steps if isinstance(step, (StartUnit, RestartUnit))]
        assert stopped in ([], started), one
        assert len(started) <= 1
        kinds = [type(step) for step in one.steps]
        if started:
            end = max(kinds.index(kind) for kind in (StartUnit, RestartUnit) if kind in kinds)
            assert not {SetAside, MakeDirectory, StopUnit} & set(kinds[end:]), one
        assert bool(started) == one.remedy.restarts_agent or not one.steps or one.remedy.name == "enable-agent", one


def test_a_plan_fits_into_its_worst_case(planned: tuple[Planned, ...]) -> None:
    """With all that the hands give each of its steps."""
    for one in planned:
        assert longest(one.steps) <= one.remedy.worst_case.total_seconds(), one
