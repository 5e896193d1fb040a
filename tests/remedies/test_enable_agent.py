"""enable-agent: only out of states from which enabling leads to a start at boot."""

from __future__ import annotations

import pytest

from backupready.model import CannotTell, EnableUnit, StartUnit, Unsuitable
from backupready.remedies.enable_agent import REMEDY
from fake import FakeMachine, healthy, steps

UNIT = "walinuxagent.service"


def in_state(state: str) -> FakeMachine:
    machine = healthy()
    assert not isinstance(machine.units, CannotTell)
    machine.units[UNIT] = {**machine.units[UNIT], "UnitFileState": state}
    return machine


@pytest.mark.parametrize("state", ["disabled", "enabled-runtime"])
def test_a_disabled_unit_is_enabled_and_started(state: str) -> None:
    """Starting changes nothing where it runs."""
    assert steps(REMEDY, in_state(state)) == [EnableUnit(UNIT), StartUnit(UNIT)]


@pytest.mark.parametrize("state", ["enabled", "masked", "masked-runtime", "linked", "indirect", "static", ""])
def test_any_other_state_is_left_alone(state: str) -> None:
    """A masked unit is meant to be, and of the others enabling may make something else."""
    with pytest.raises(Unsuitable, match=UNIT):
        steps(REMEDY, in_state(state))
