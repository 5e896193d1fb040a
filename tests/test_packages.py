"""Who holds the lock of a package manager: a process that is there, and no file that was left over."""

from __future__ import annotations

import pytest

from backupready import packages
from backupready.model import CannotTell, Process
from fake import FakeMachine

APT = Process(40, 1, ("/usr/bin/python3", "/usr/bin/unattended-upgrade"), "S", 100.0)
ZYPPER = Process(41, 1, ("zypper", "update"), "S", 100.0)


@pytest.mark.parametrize("path", packages.LOCKS)
def test_a_lock_names_its_holder(path: str) -> None:
    """Also one of whom nothing is known."""
    machine = FakeMachine(files={path: b""}, table=(APT,))
    assert packages.holder(machine) == ""
    machine.locks[path] = 40
    assert packages.holder(machine) == (
        f"/usr/bin/python3 /usr/bin/unattended-upgrade (process 40) holds the lock {path}"
    )
    machine.locks[path] = 0
    assert packages.holder(machine) == f"process ? holds the lock {path}"


def test_a_pid_file_counts_while_its_program_runs() -> None:
    """A number that another process has now was left over."""
    machine = FakeMachine(files={"/run/zypp.pid": b"41\n"}, table=(APT, ZYPPER))
    assert packages.holder(machine) == "zypper (process 41) holds the lock /run/zypp.pid"
    for left_over in (b"40", b"77", b"", b"none", b"9" * 30):
        machine.files["/run/zypp.pid"] = left_over
        assert packages.holder(machine) == ""


def test_what_cannot_be_read_is_not_free() -> None:
    """The caller must know."""
    with pytest.raises(CannotTell):
        packages.holder(FakeMachine(files={"/run/zypp.pid": CannotTell("denied")}))
    with pytest.raises(CannotTell):
        packages.holder(FakeMachine(table=CannotTell("no /proc")))
