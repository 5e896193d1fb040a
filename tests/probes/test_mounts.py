"""Silent mounts over several looks: nobody is asked again whom an earlier look still waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from backupready import mountinfo
from backupready.model import CannotTell, Effect, Finding, Machine, Observation, Process, Remember, Space, Spaces
from backupready.probes import mounts
from fake import NOW, FakeMachine, configuration, healthy

CHILD = 4242
_NFS = "50 26 0:70 / /net rw - nfs4 filer:/export rw\n"
_MORE = "51 26 0:71 / /more rw - nfs4 other:/export rw\n"


@dataclass
class Asked(FakeMachine):
    """A machine that notes which mounts it is asked for, and whose child waits until it is gone."""

    paths: list[tuple[str, ...]] = field(default_factory=list)

    def space(self, paths: Sequence[str], timeout: float) -> Spaces:
        self.paths.append(tuple(paths))
        answer = super().space(paths, timeout)
        if answer.child:
            child = CHILD + len(self.paths)
            self.table = (*self.processes(), Process(child, 1, ("python3",), "D", self.clock))
            return replace(answer, child=child)
        return answer


def machine(**spaces: Space | CannotTell | None) -> Asked:
    base = healthy()
    files = {**base.files, mountinfo.TABLE: f"{base.files[mountinfo.TABLE]!s}{_NFS}{_MORE}"}
    silent: dict[str, Space | CannotTell | None] = {f"/{name}": room for name, room in spaces.items()}
    return Asked(files=files, table=base.table, spaces=silent)


def looks(machine: Asked) -> list[Observation]:
    """One look, whose memory the next one has."""
    settings: Any = configuration().section("mounts")
    seen = list(mounts.look(as_machine(machine), settings))
    machine.memory = next(one.memory for one in seen if isinstance(one, Remember))
    return seen


def as_machine(machine: FakeMachine) -> Machine:
    return machine


def silent(seen: list[Observation]) -> list[str]:
    return [one.key for one in seen if isinstance(one, Finding) and one.problem == "MOUNT_UNRESPONSIVE"]


def test_a_silent_mount_is_reported_without_asking_again() -> None:
    """While the process that waits for it is there; the others are asked."""
    it = machine(net=None)
    assert silent(looks(it)) == ["/net"]
    it.clock += 60
    assert silent(looks(it)) == ["/net"]
    assert it.paths == [("/", "/net", "/more"), ("/", "/more")]


def test_a_mount_that_answers_again_is_asked_and_well() -> None:
    """The process has ended, as its statvfs came back."""
    it = machine(net=None)
    looks(it)
    it.spaces.clear()
    it.table = healthy().table
    assert silent(looks(it)) == []
    assert it.paths[-1] == ("/", "/net", "/more")
    assert it.memory["waiting"] == []


def test_another_process_of_that_number_waits_for_nothing() -> None:
    """Its start differs."""
    it = machine(net=None)
    looks(it)
    it.spaces.clear()
    it.table = (*healthy().processes(), Process(CHILD + 1, 1, ("vi",), "S", NOW + 500))
    assert silent(looks(it)) == []


def test_a_mount_that_is_gone_is_forgotten() -> None:
    """It is unmounted lazily: the process waits still, the table does not name it any more."""
    it = machine(net=None)
    looks(it)
    it.files[mountinfo.TABLE] = healthy().files[mountinfo.TABLE]
    assert silent(looks(it)) == []


def test_not_many_processes_are_left_behind() -> None:
    """At the fourth nobody is asked any more, which is not known to be well."""
    it = machine()
    it.files[mountinfo.TABLE] = str(it.files[mountinfo.TABLE]) + "".join(
        f"{60 + n} 26 0:{80 + n} / /n{n} rw - nfs4 filer:/{n} rw\n" for n in range(6)
    )
    for n in range(6):
        it.spaces[f"/n{n}"] = None
        it.clock += 60
        seen = looks(it)
    assert len(it.paths) == 3
    assert silent(seen) == ["/n0", "/n1", "/n2"]
    assert [one.problems for one in seen if isinstance(one, CannotTell)] == [("MOUNT_UNRESPONSIVE",)]


def test_more_mounts_than_a_look_asks_are_asked_in_turn() -> None:
    """Until all have been asked it is not known, which alone spoils no verdict; who is silent begins the next look."""
    it = machine()
    it.files[mountinfo.TABLE] = str(it.files[mountinfo.TABLE]) + "".join(
        f"{60 + n} 26 0:{80 + n} / /n{n} rw - nfs4 filer:/{n} rw\n" for n in range(90)
    )
    unknown = [one for one in looks(it) if isinstance(one, CannotTell)]
    assert [one.effect for one in unknown] == [Effect.RISKS]
    assert [one for one in looks(it) if isinstance(one, CannotTell)] == []
    assert len({path for paths in it.paths for path in paths}) == 93
    it.spaces["/n60"] = None
    it.paths.clear()
    assert silent(looks(it)) == ["/n60"]
    it.table = healthy().table  # the child was killable, and is gone
    assert silent(looks(it)) == ["/n60"]


def test_what_a_look_may_wait_for_fits_its_budget() -> None:
    """Each time that it asks: the time-out, as long again for a child that answered and stays, half a second more."""
    times = mounts._MOST_ASKED / mounts._ASKED_TOGETHER
    assert times * (2 * mounts._TIMEOUT + 0.5) < mounts.PROBE.budget.total_seconds() - 1


def test_thousands_of_mounts_are_walked_at_once() -> None:
    """Whom a path lies on does not depend on how many lie beside it."""
    table = mountinfo.parse(
        b"26 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
        + b"".join(b"%d 26 0:%d / /net/%d rw - nfs filer:/%d rw\n" % (n, n, n, n) for n in range(100, 30000))
    )
    tree = mountinfo.Tree(table)
    assert all(tree.holder(f"{mount.point}/x") is mount for mount in table[1:])


def test_without_a_process_table_nobody_is_asked_again() -> None:
    """Whether the process still waits cannot be told: neither can the mounts, and the memory is kept."""
    it = machine(net=None)
    looks(it)
    kept = it.memory
    it.table = CannotTell("hidden")
    seen = looks(it)
    assert silent(seen) == []
    assert it.memory == kept
    assert CannotTell("hidden", ("MOUNT_UNRESPONSIVE",)) in seen


@pytest.mark.parametrize(
    "memory",
    [
        {"waiting": 1, "next": "x", "left": -1},
        {"next": -7, "left": 1e9},
        {"waiting": 1},
        {"waiting": [1, [1, 2], ["a", 1, []], [1, 1.0, [1, ["/", 2]]]]},
        {},
    ],
)
def test_a_memory_may_be_anything(memory: dict[str, Any]) -> None:
    """It comes from a file."""
    it = machine()
    it.memory = memory
    assert silent(looks(it)) == []
