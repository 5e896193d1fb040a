"""enable-agent: only out of states from which enabling leads to a start at boot."""

from __future__ import annotations

import pytest

from backupready.model import CannotTell, EnableUnit, RestartUnit, Unsuitable
from backupready.remedies.enable_agent import REMEDY
from fake import FakeMachine, healthy, steps

UNIT = "walinuxagent.service"


def in_state(state: str) -> FakeMachine:
    machine = healthy()
    assert not isinstance(machine.units, CannotTell)
    machine.units[UNIT] = {**machine.units[UNIT], "UnitFileState": state}
    return machine


@pytest.mark.parametrize(
    ("active", "starts"),
    [("active", False), ("activating", False), ("reloading", False), ("inactive", True), ("failed", True)],
)
def test_a_disabled_unit_is_enabled_and_started_where_it_is_down(active: str, starts: bool) -> None:
    """By a step that no undoing takes back."""
    machine = in_state("disabled")
    assert not isinstance(machine.units, CannotTell)
    machine.units[UNIT] = {**machine.units[UNIT], "ActiveState": active}
    assert steps(REMEDY, machine) == [EnableUnit(UNIT), *([RestartUnit(UNIT)] if starts else [])]


@pytest.mark.parametrize(
    "state", ["enabled", "enabled-runtime", "masked", "masked-runtime", "linked", "indirect", "static", ""]
)
def test_any_other_state_is_left_alone(state: str) -> None:
    """As by the step: a masked unit is meant to be, and of others enabling or disabling may make something else."""
    with pytest.raises(Unsuitable, match=UNIT):
        steps(REMEDY, in_state(state))
