"""What does the service manager hear from us?

systemd-python where it can be imported; where not, a plain datagram to NOTIFY_SOCKET.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from backupready import activation

_HIERARCHIES = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup")  # of control groups: the named one of old, the unified one
_LOOKS = "/system.slice/system-backupready\\x2dlook.slice"  # where the instances of a template go by default


def notify(state: str) -> None:
    """Tell the service manager; without one, nothing. Fields are separated by line breaks."""
    try:
        from systemd import daemon
    except ImportError:
        _notify_plainly(state)
    else:
        daemon.notify(state)


def _notify_plainly(state: str) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel,
        contextlib.suppress(OSError),
    ):
        channel.sendto(state.encode(), name)


def watchdog_seconds() -> float | None:
    """How often the service manager wants a sign of life; None when it does not."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6


def reloading() -> str:
    """The state that announces a reload; the clock is what newer service managers ask for with it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def inherited_sockets() -> list[socket.socket]:
    """The listening stream sockets that the service manager has handed to this process; it does so once."""
    found = []
    for number in activation.handed_over():
        os.set_inheritable(number, False)
        handed = socket.socket(fileno=number)
        if handed.type == socket.SOCK_STREAM and handed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            handed.setblocking(True)
            found.append(handed)
    return found


def living_looks(hierarchies: Sequence[str] = _HIERARCHIES) -> int:
    """How many looks that the service manager started still have processes. Each has a control group, also when it
    hangs in the kernel and the service manager has given it up."""
    return max(len(list(Path(hierarchy + _LOOKS).glob("backupready-look@*"))) for hierarchy in hierarchies)
