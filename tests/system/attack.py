"""What could whoever has taken over a process of ours do to the machine? Tries it, and prints what came of each.

Runs in the guest, on the standard library alone. Nothing that it tries does harm where it succeeds.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

AGENT = Path(__file__).with_suffix(".pid")  # where who starts this may have noted it


def _agent() -> int:
    """The pid of the agent's daemon. Whoever has taken us over knows it, also where processes are hidden."""
    if AGENT.exists():
        return int(AGENT.read_text())
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"-daemon" in words and any(word.endswith(b"waagent") for word in words):
            return int(place.name)
    raise FileNotFoundError("the agent is not to be seen")


def _write(path: str) -> None:
    file = Path(path)
    file.write_text("x")
    file.unlink()


def _connect(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(path)


def _tool(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise PermissionError(done.stderr.strip() or f"exit {done.returncode}")


def _again(path: str) -> None:
    """Write to a file of the kernel what it says already."""
    file = Path(path)
    file.write_text(file.read_text())


def _wire_server() -> None:
    with urllib.request.urlopen("http://168.63.129.16/?comp=versions", timeout=3) as answer:
        answer.read()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _signal_through_a_file() -> None:
    """The kernel signals the owner of a file's events, whoever that is. Stopped so, the agent is let go on at once."""
    agent = _agent()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        reading, writing = os.pipe()
        fcntl.fcntl(reading, 10, number)  # F_SETSIG
        fcntl.fcntl(reading, fcntl.F_SETOWN, agent)
        fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)
        os.write(writing, b"x")
        time.sleep(0.2)
        if number is signal.SIGSTOP and _state(agent) != "T":
            raise PermissionError("the signal did not come")


def _lease() -> None:
    """Who opens the file waits until the lease is given up."""
    with Path("/etc/waagent.conf").open() as file:
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _control_group() -> None:
    """In the hierarchy that the service manager keeps its units in."""
    group = Path("/sys/fs/cgroup/systemd" if Path("/sys/fs/cgroup/systemd").exists() else "/sys/fs/cgroup") / "attack"
    group.mkdir()
    group.rmdir()


def _limits() -> None:
    agent = _agent()
    resource.prlimit(agent, resource.RLIMIT_NOFILE, resource.prlimit(agent, resource.RLIMIT_NOFILE))


ATTEMPTS: dict[str, Callable[[], object]] = {
    "read the agent's files": lambda: os.listdir("/var/lib/waagent"),  # noqa: PTH208 - a generator would not try
    "read the passwords": lambda: Path("/etc/shadow").read_bytes(),
    "reach the wire server": _wire_server,
    "write to etc": lambda: _write("/etc/attack"),
    "write to usr": lambda: _write("/usr/bin/attack"),
    "write to the agent's files": lambda: _write("/var/lib/waagent/attack"),
    "write to run": lambda: _write("/run/attack"),
    "write to shared memory": lambda: _write("/dev/shm/attack"),
    "change a mode": lambda: Path("/etc/waagent.conf").chmod(0o644),
    "replace the eyes' socket": lambda: _write("/run/backupready/attack"),
    "signal the agent": lambda: os.kill(_agent(), signal.SIGCONT),
    "signal the agent through a file": _signal_through_a_file,
    "hold up the agent with a lease": _lease,
    "signal PID 1": lambda: os.kill(1, signal.SIGCONT),
    "change the agent's priority": lambda: os.setpriority(os.PRIO_PROCESS, _agent(), 0),
    "change the agent's processors": lambda: os.sched_setaffinity(_agent(), os.sched_getaffinity(_agent())),
    "change the agent's limits": _limits,
    "offer the agent to the OOM killer": lambda: _again(f"/proc/{_agent()}/oom_score_adj"),
    "change the control groups": _control_group,
    "talk to PID 1 directly": lambda: _connect("/run/systemd/private"),
    "start a unit": lambda: _tool("systemctl", "start", "walinuxagent.service"),
    "reload the service manager": lambda: _tool("systemctl", "daemon-reload"),
    "mount": lambda: _tool("mount", "-t", "tmpfs", "attack", "/mnt"),
    "make a namespace": lambda: _tool("unshare", "--user", "--map-root-user", "--mount", "true"),
    "trace the agent": lambda: _tool("sh", "-c", f"head -c 1 /proc/{_agent()}/environ"),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "become another user": lambda: os.setresuid(1, 1, 1),
}


def attempt() -> dict[str, str]:
    """Every attempt with what hindered it, empty where nothing did. Becoming somebody else comes last."""
    told = {}
    for name, try_it in ATTEMPTS.items():
        try:
            try_it()
        except Exception as error:  # noqa: BLE001 - whatever hinders it
            told[name] = f"{type(error).__name__}: {error}"[:200]
        else:
            told[name] = ""
    return told


if __name__ == "__main__":
    json.dump(attempt(), sys.stdout)
