"""Who applies a fix and who does its steps, together: killed at any moment, the tree is healed or as it was."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from backupready.hands import apply as hands
from backupready.hands import ledger
from backupready.hands.gate import Sight
from backupready.hands.steps import Steps
from backupready.model import MakeDirectory, RestartUnit, Result, SetAside, SetConfigKey, StartUnit, Step, StopUnit
from hands.test_apply import PROBLEM, REMEDY, REQUEST, Crash, Guest
from hands.test_apply import no_sync as no_sync
from hands.test_steps import HANDLER, UNIT, Bench, bench, tree

PLANS: dict[str, tuple[Step, ...]] = {
    "a key": (SetConfigKey("Extensions.Enabled", "n"), RestartUnit(UNIT)),
    "a handler anew": (
        StopUnit(UNIT),
        SetAside(HANDLER),
        MakeDirectory(HANDLER, ("mrseq", "task_identity_6")),
        StartUnit(UNIT),
    ),
}


class Machine(Guest):
    """The rest of the world in memory, the tree on the disk."""

    def __init__(self, steps: tuple[Step, ...], heals: bool, at: Bench) -> None:
        super().__init__(steps, heals)
        self.bench, self.before = at, tree(at.root)

    def look(self) -> Sight:
        self.reach()
        healed = self.heals and tree(self.bench.root) != self.before
        return Sight(frozenset() if healed else frozenset({(PROBLEM, "k")}))


class Reaching:
    """Steps that can end before and after each call."""

    def __init__(self, machine: Machine, steps: Steps) -> None:
        self._machine, self._steps = machine, steps

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._machine.reach()
            answer: Any = getattr(self._steps, name)(*arguments)
            self._machine.reach()
            return answer

        return call


@pytest.mark.parametrize("name", PLANS)
@pytest.mark.parametrize("heals", [True, False])
@pytest.mark.usefixtures("no_sync")
def test_killed_at_any_moment_it_is_healed_or_as_it_was(
    name: str, heals: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = set()
    for point in itertools.count():
        place = tmp_path / str(point)
        at = bench(place / "root", monkeypatch)
        machine = Machine(PLANS[name], heals, at)
        machine.point = point
        crashed = False
        try:
            world = machine.world(place)
            with world.ledger:
                hands.apply(REMEDY, REQUEST, replace(world, doer=Reaching(machine, at.steps)))
        except Crash:
            crashed = True
        machine.point = -1
        if crashed:
            world = replace(machine.world(place), doer=at.steps)
            hands.recover(world)
            world.ledger.close()
        lines = world.ledger.lines
        results = [attempt.result for attempt in ledger.attempts(lines)]
        whole = tree(at.root)
        assert at.programs.active == "active"
        if results and results[-1] is Result.HEALED:
            assert whole != machine.before
        else:
            assert whole == machine.before, (point, results)
        ended.update(results)
        if not crashed:
            break
    assert point > 20
    assert (Result.HEALED in ended) is heals
