"""The vocabulary: ranks, exit codes, and what counts as active or unknown."""

from __future__ import annotations

import dataclasses

import pytest

from backupready import model
from backupready.model import Belief, BeliefState, CannotTell, Effect, Finding, Verdict
from fake import problem


def test_effects_are_ranked_gravest_first() -> None:
    """Everything that sorts goes by this order."""
    order = (Effect.VOIDS, Effect.BLOCKS, Effect.DEGRADES, Effect.RISKS, Effect.NOTICE)
    assert [effect.rank for effect in order] == [0, 1, 2, 3, 4]
    assert set(order) == set(Effect)


def test_the_exit_codes_are_those_of_nagios() -> None:
    """0 ready, 1 at risk or degraded, 2 blocked, 3 unknown; every verdict has one."""
    assert {verdict: verdict.exit_code for verdict in Verdict} == {
        Verdict.READY: 0,
        Verdict.AT_RISK: 1,
        Verdict.DEGRADED: 1,
        Verdict.BLOCKED: 2,
        Verdict.UNKNOWN: 3,
    }


@pytest.mark.parametrize("explained_by", [None, "CAUSE"])
@pytest.mark.parametrize("state", BeliefState)
def test_a_consequence_is_neither_active_nor_unknown(state: BeliefState, explained_by: str | None) -> None:
    """What another problem explains is told by that one; a clear one is neither in any case."""
    belief = Belief(problem(), state, 0.0, Effect.BLOCKS, explained_by=explained_by)
    assert belief.active == (state is BeliefState.ACTIVE and explained_by is None)
    assert belief.unknown == (state is BeliefState.UNKNOWN and explained_by is None)


def test_what_cannot_be_told_is_equal_by_what_it_says() -> None:
    """It travels as a value although it is an exception; a finding is never equal to it."""
    assert CannotTell("why", ["A"]) == CannotTell("why", ("A",))
    assert CannotTell("why", ["A"]) != CannotTell("why", ["B"])
    assert CannotTell("why") != CannotTell("other")
    assert CannotTell("why") != Finding("why")
    assert str(CannotTell("why", ["A"])) == "why"


def test_what_travels_is_frozen() -> None:
    """No one downstream can change what was seen or believed."""
    classes = [value for value in vars(model).values() if dataclasses.is_dataclass(value)]
    assert len(classes) > 10
    assert [cls for cls in classes if not cls.__dataclass_params__.frozen] == []  # type: ignore[union-attr]
