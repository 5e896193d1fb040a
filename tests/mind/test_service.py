"""What the service manager hears from us, without systemd-python."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backupready.mind import service


@pytest.fixture(autouse=True)
def without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd-python cannot be imported, and no variable of a real service manager is set."""
    for name in ("systemd", "systemd.daemon", "systemd.journal"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM"):
        monkeypatch.delenv(name, raising=False)


# ------------------------------------------------------------------------------------------------------- notify


def _hears(address: str | bytes, variable: str, monkeypatch: pytest.MonkeyPatch) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", variable)
        service.notify("READY=1\nSTATUS=well · all of it")
        return manager.recv(1000)


def test_a_state_reaches_the_service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One datagram with the whole state in it."""
    path = str(tmp_path / "notify")
    assert _hears(path, path, monkeypatch) == "READY=1\nSTATUS=well · all of it".encode()


def test_an_abstract_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """`@` stands for the zero byte."""
    name = f"backupready-test-{os.getpid()}"
    assert _hears(f"\0{name}", f"@{name}", monkeypatch).startswith(b"READY=1")


def test_a_service_manager_that_does_not_listen_does_not_hold_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the manager's queue full the state is lost, and the loop goes on."""
    path = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as crowd,
    ):
        manager.bind(path)
        with contextlib.suppress(BlockingIOError):
            while True:
                crowd.sendto(b"x", path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        service.notify("READY=1")  # would hang here
        assert manager.recv(10) == b"x"


def test_without_a_service_manager_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where none is named, nor where it has gone."""
    service.notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    service.notify("READY=1")


def test_the_watchdog_is_fed_only_if_it_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interval is in microseconds; one that is meant for another process, or is no number, is none."""
    assert service.watchdog_seconds() is None
    monkeypatch.setenv("WATCHDOG_USEC", "180000000")
    assert service.watchdog_seconds() == 180.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert service.watchdog_seconds() == 180.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert service.watchdog_seconds() is None
    monkeypatch.delenv("WATCHDOG_PID")
    monkeypatch.setenv("WATCHDOG_USEC", "soon")
    assert service.watchdog_seconds() is None


def test_a_reload_is_announced_with_the_clock() -> None:
    """Newer service managers want both in one message."""
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", service.reloading())


# ---------------------------------------------------------------------------------------------------------- looks


def test_looks_that_live_are_counted_by_their_control_groups(tmp_path: Path) -> None:
    """In whichever hierarchy the service manager keeps its units, and nothing else that lies there."""
    old, unified = tmp_path / "old", tmp_path / "unified"
    assert service.living_looks((str(old), str(unified))) == 0
    slice_ = unified / "system.slice/system-backupready\\x2dlook.slice"
    for name in ("backupready-look@1-260-997.service", "backupready-look@2-260-997.service", "other.service"):
        (slice_ / name).mkdir(parents=True)
    assert service.living_looks((str(old), str(unified))) == 2


# ------------------------------------------------------------------------------------------------------- sockets

HANDED = """
import os, socket, sys
from backupready.mind import service
listening, connected, _ = socket.socket(), *socket.socketpair()
listening.bind(("127.0.0.1", 0))
listening.listen()
listening.setblocking(False)
port = listening.getsockname()[1]
for number, handed in ((3, connected.dup()), (4, listening.dup())):
    os.dup2(handed.fileno(), number + 100)
listening.close()
for number in (3, 4):
    os.dup2(number + 100, number)
os.environ.update(LISTEN_PID=str(os.getpid() + int(sys.argv[1])), LISTEN_FDS="2", LISTEN_FDNAMES="a:b")
found = service.inherited_sockets()
assert [one.getsockname() for one in found] == ([("127.0.0.1", port)] if sys.argv[1] == "0" else []), found
assert all(os.get_blocking(one.fileno()) and not os.get_inheritable(one.fileno()) for one in found)
assert not [name for name in os.environ if name.startswith("LISTEN_")]
assert service.inherited_sockets() == []
print("well")
"""


@pytest.mark.integration
@pytest.mark.parametrize("off_by", ["0", "1"])
def test_sockets_are_taken_once_and_only_if_they_are_ours(off_by: str) -> None:
    """Those that listen, made to wait; what is meant for another process is left, and children hear of none."""
    done = subprocess.run([sys.executable, "-c", HANDED, off_by], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("well\n", "")
