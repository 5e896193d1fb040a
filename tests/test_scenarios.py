"""What is believed of whole machines: captured ones, and changes to a healthy one (tests/data/<probe>/*.json)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backupready import probes
from backupready.model import ProbeState
from scenario import believe, scenarios

ALL = scenarios()


@pytest.mark.parametrize("name", ALL)
def test_scenario(name: str, tmp_path: Path) -> None:
    """Exactly the problems that the scenario names are active, exactly those that it names cannot be told."""
    scenario = ALL[name]
    believed = believe(scenario, tmp_path / "root")
    defects = [run.why for run in believed.snapshot.probes if run.state is ProbeState.FAILED]
    assert not defects
    assert sorted(believed.expect) == sorted(scenario["expect"])
    assert sorted(believed.unknown) == sorted(scenario["unknown"])
    assert believed.snapshot.verdict.value == scenario["verdict"]
    for code, facts in scenario.get("evidence", {}).items():
        seen = [r.evidence for r in (*believed.snapshot.reasons, *believed.snapshot.notices) if r.problem.code == code]
        assert any(facts.items() <= evidence.items() for evidence in seen), (code, seen)


def test_every_problem_is_raised_and_cleared() -> None:
    """Of every declared problem there is a scenario that raises it and one that knows it to be clear."""

    def raised(scenario: dict[str, Any]) -> set[str]:
        return {code.partition("(")[0] for code in scenario["expect"]}

    declared = {problem.code for problem in probes.PROBLEMS}
    assert declared == set().union(*(raised(scenario) for scenario in ALL.values()))
    for code in declared:
        assert any(code not in raised(s) and code not in s["unknown"] for s in ALL.values()), code
