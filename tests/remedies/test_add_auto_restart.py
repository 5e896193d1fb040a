"""add-auto-restart: a drop-in of ours, without a restart, where the unit has nothing of the kind."""

from __future__ import annotations

import configparser

import pytest

from backupready.model import CannotTell, DaemonReload, Unsuitable, WriteDropIn
from backupready.remedies.add_auto_restart import REMEDY
from fake import FakeMachine, healthy, steps

UNIT = "walinuxagent.service"


def restarting(word: str) -> FakeMachine:
    machine = healthy()
    assert not isinstance(machine.units, CannotTell)
    machine.units[UNIT] = {**machine.units[UNIT], "Restart": word}
    return machine


def test_a_unit_without_restart_gets_a_drop_in() -> None:
    """It says what it is and how it goes away again; its name is none of the agent's own."""
    drop_in, reload = steps(REMEDY, restarting("no"))
    assert isinstance(drop_in, WriteDropIn)
    assert (drop_in.unit, drop_in.name, reload) == (UNIT, "60-backupready-restart.conf", DaemonReload())
    read = configparser.ConfigParser()
    read.optionxform = str  # type: ignore[assignment,method-assign]
    read.read_string(drop_in.text)
    assert {name: dict(read[name]) for name in read.sections()} == {"Service": {"Restart": "always", "RestartSec": "5"}}
    assert "backupready undo" in drop_in.text.splitlines()[0]


@pytest.mark.parametrize("word", ["always", "on-failure", "on-abort", ""])
def test_a_unit_that_somebody_has_set_is_left_alone(word: str) -> None:
    """Also one whose property cannot be read."""
    with pytest.raises(Unsuitable, match=f"has Restart={word} already"):
        steps(REMEDY, restarting(word))
