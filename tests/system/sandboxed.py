"""What can the hands do in their sandbox? Stands in for `backupready hands`: tries what fixes need and what they must
not do, and answers the connection that the service manager hands over. Runs in the guest, by the installed package."""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from backupready.hands.steps import Place, Steps
from backupready.model import (
    DaemonReload,
    EnableUnit,
    PackageUpgrade,
    Ran,
    RestartUnit,
    SetAside,
    SetConfigKey,
    Step,
    WriteDropIn,
)

ENDED = Path("/var/lib/backupready-hands/ended")  # what the instance `end` notes
UNFINISHED = Path("/var/lib/backupready-hands/unfinished")
AGENT = "walinuxagent.service"


def run(command: Sequence[str], timeout: float) -> Ran:
    done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
    return Ran(done.returncode, done.stdout, done.stderr.decode())


def _step(step: Step, takes_back: bool = True) -> None:
    steps = Steps(Place(Path("/"), run))
    record = steps.prepare(step)
    steps.do(step, record)
    if takes_back:
        steps.undo(step, record)


def _look() -> None:
    """A whole one, in which the probes may ask whatever they ask."""
    document = json.loads(run(("backupready", "check", "--json"), 120).output)
    silent = [f"{probe['name']}: {probe['why']}" for probe in document["probes"] if probe["state"] != "ok"]
    if document["verdict"] != "ready" or silent:
        raise ValueError(f"{document['verdict']}; {silent}")


def _write(path: str) -> None:
    file = Path(path)
    with file.open("a"):
        pass


def _load_a_module() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(175 if os.uname().machine == "x86_64" else 105, b"", 0, b"") != 0:  # init_module
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _read_the_passwords() -> None:
    """Who overrides modes can read what stands in for the file; it is empty."""
    if not Path("/etc/shadow").read_bytes():
        raise PermissionError("nothing is to be read there")


def _trace_the_service_manager() -> None:
    Path("/proc/1/environ").read_bytes()


NEEDED: dict[str, Callable[[], object]] = {
    "edit waagent.conf": lambda: _step(SetConfigKey("Logs.Verbose", "y"), takes_back=False),
    "write a drop-in": lambda: _step(WriteDropIn(AGENT, "90-lab.conf", "[Service]\nRestartSec=4\n"), takes_back=False),
    "reload the service manager": lambda: _step(DaemonReload()),
    "restart the agent": lambda: _step(RestartUnit(AGENT)),
    "enable a unit": lambda: _step(EnableUnit("lab-enabled.service"), takes_back=False),
    "set aside and put back": lambda: _step(SetAside("lab-aside")),
    "upgrade a package": lambda: _step(PackageUpgrade("lab-package"), takes_back=False),
    "tell everybody": lambda: _write("/var/lib/backupready-fixes/lab"),
    "take a whole look": _look,
}
FORBIDDEN: dict[str, Callable[[], object]] = {
    **{f"write {path}": lambda path=path: _write(path) for path in (  # type: ignore[misc]
        *("/usr/bin/lab", "/boot/lab", "/home/lab", "/root/.ssh/lab", "/var/lib/lab", "/var/log/lab", "/run/lab"),
        *("/etc/passwd", "/etc/backupready/conf.d/lab.conf"),
    )},
    "load a module": _load_a_module,
    "read the passwords": _read_the_passwords,
    "trace the service manager": _trace_the_service_manager,
}  # fmt: skip


def tried(attempts: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Every attempt with what hindered it, empty where nothing did."""
    told = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except Exception as error:  # noqa: BLE001 - whatever hinders it
            told[name] = f"{type(error).__name__}: {error}"[:400]
        else:
            told[name] = ""
    return told


def main() -> None:
    if "LISTEN_FDS" not in os.environ:
        with ENDED.open("a") as file:
            file.write("once\n")
        UNFINISHED.unlink()
        return
    with socket.socket(fileno=3) as connection:
        asked = connection.recv(100).decode()
        if asked == "wait":
            connection.sendall(str(os.getpid()).encode())
            time.sleep(3600)
        if asked == "attack":
            told = runpy.run_path(str(Path(__file__).with_name("attack.py")))["attempt"]()
        else:
            told = tried({"needed": NEEDED, "forbidden": FORBIDDEN}[asked])
        connection.sendall(json.dumps(told).encode())


if __name__ == "__main__":
    main()
