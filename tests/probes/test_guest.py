"""Which kernel is newer, since when a package manager holds its lock, and whether this is Azure without firmware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.model import CannotTell, Finding, Machine, Observation, Process, Remember
from backupready.probes import guest
from backupready.probes.guest import newer_kernel
from fake import FakeMachine, configuration, healthy

LOCK = "/var/lib/rpm/.rpm.lock"


def as_machine(machine: FakeMachine) -> Machine:
    return machine


def look(machine: FakeMachine) -> list[Observation]:
    """One look, whose memory the next one has."""
    settings: Any = configuration().section("guest")
    seen = list(guest.look(as_machine(machine), settings))
    machine.memory = next((one.memory for one in seen if isinstance(one, Remember)), {})
    return seen


def minutes(machine: FakeMachine) -> list[Any]:
    return [one.evidence["minutes"] for one in look(machine) if isinstance(one, Finding)]


def locked() -> FakeMachine:
    """By a service that has been there for days."""
    it = healthy()
    it.files[LOCK] = ""
    it.locks[LOCK] = 500
    it.table = (*it.processes(), Process(500, 1, ("/usr/libexec/packagekitd",), "S", it.clock - 300000))
    return it


def test_a_lock_counts_from_when_it_was_first_seen() -> None:
    """Not from the start of its holder; let go in between, it begins anew."""
    it = locked()
    assert minutes(it) == []
    it.clock += 300
    assert minutes(it) == []
    it.clock += 300
    assert minutes(it) == [10]
    it.locks.clear()
    assert minutes(it) == []
    it.locks[LOCK] = 500
    assert minutes(it) == []


def test_another_process_of_that_number_begins_anew() -> None:
    """Its start differs."""
    it = locked()
    look(it)
    it.clock += 900
    *others, holder = it.processes()
    it.table = (*others, replace(holder, started=it.clock - 30))
    assert minutes(it) == []


@pytest.mark.parametrize("held", [1, [1], [[LOCK, 500, "a", 1]], [[LOCK, 500, float("nan"), 1]], [[1, 2, 3, 4]], [[]]])
def test_a_memory_may_be_anything(held: object) -> None:
    """It comes from a file."""
    it = locked()
    it.memory = {"held": held}
    assert minutes(it) == []


@pytest.mark.parametrize(
    "there", ["/sys/bus/vmbus/uevent", "/var/lib/waagent/provisioned", "/sys/class/dmi/id/uevent", ""]
)
def test_one_trace_of_azure_is_enough_to_judge_on(there: str) -> None:
    """Without firmware's word; nor is anything certain where there is no /sys at all."""
    it = FakeMachine(files={there: "", "/sys/bus/platform/uevent": ""} if there else {})
    seen = look(it)
    assert [one for one in seen if isinstance(one, Finding)] == []
    assert ("NOT_AN_AZURE_VM",) in [one.problems for one in seen if isinstance(one, CannotTell)]


@pytest.mark.parametrize(
    ("running", "installed", "newer"),
    [
        ("6.1.0-9-amd64", ["6.1.0-13-amd64"], "6.1.0-13-amd64"),
        ("6.1.0-13-amd64", ["6.1.0-9-amd64", "6.1.0-13-amd64"], None),
        ("6.1.0-13-cloud-amd64", ["6.1.0-26-amd64"], None),
        ("6.5.0-1017-azure", ["6.5.0-1017-azure", "6.8.0-1008-azure"], "6.8.0-1008-azure"),
        ("5.14.21-150500.33.26-azure", ["5.14.21-150500.33.100-azure"], "5.14.21-150500.33.100-azure"),
        ("4.18.0-513.5.1.el8_9.x86_64", ["4.18.0-553.el8_10.x86_64"], "4.18.0-553.el8_10.x86_64"),
        ("4.18.0-513.5.1.el8_9.x86_64", ["5.14.0-427.13.1.el9_4.x86_64"], None),
        ("5.15.0-200.131.27.el8uek.x86_64", ["4.18.0-553.el8_10.x86_64", "5.15.0-205.1.el8uek.x86_64"],
         "5.15.0-205.1.el8uek.x86_64"),
        ("5.15.148.2-2.cm2", ["5.15.153.1-1.cm2"], "5.15.153.1-1.cm2"),
        ("6.1.0-13-amd64", ["", "0-rescue-0123", "old", "6.1.0-13-amd64.old"], None),
        ("garbage", ["6.1.0-13-amd64"], None),
    ],
)  # fmt: skip
def test_a_newer_kernel_is_one_of_the_same_flavour(running: str, installed: list[str], newer: str | None) -> None:
    """Compared as numbers; a minor release of the distribution is no other flavour."""
    assert newer_kernel(running, installed) == newer


@given(running=st.text(max_size=30), installed=st.lists(st.text(max_size=30), max_size=5))
def test_names_of_any_kind(running: str, installed: list[str]) -> None:
    """What is found is one of them, and not the running one."""
    assert newer_kernel(running, installed) in {None, *installed} - {running}
