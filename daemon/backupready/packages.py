"""Who holds the lock of a package manager?"""

from __future__ import annotations

import re
from collections.abc import Mapping

from backupready.model import Absent, Machine, Process

# Locks of fcntl(2): dpkg's and apt's, and rpm's at its old and its new place.
LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
    "/var/lib/rpm/.rpm.lock",
    "/usr/lib/sysimage/rpm/.rpm.lock",
)
# Files that hold a pid and may be left over, with the programs that write them.
PID_FILES: Mapping[str, tuple[str, ...]] = {
    "/run/zypp.pid": ("zypper", "packagekitd", "y2base"),
    "/var/lib/dnf/rpmdb_lock.pid": ("dnf", "dnf-3", "yum", "dnf-automatic", "packagekitd"),
    "/var/cache/dnf/download_lock.pid": ("dnf", "dnf-3", "yum", "dnf-automatic", "packagekitd"),
}
_INTERPRETER = re.compile(r"(?:python|perl)[\d.]*|sh|bash|dash", re.ASCII)
_SMALL = 4096  # bytes; a pid file is shorter


def named(machine: Machine, path: str) -> int | None:
    """The pid that such a file names, None if it names none. Raises Absent and CannotTell."""
    text = machine.read(path, _SMALL).strip()
    return int(text) if text.isdigit() and len(text) < 10 else None


def holder(machine: Machine) -> str:
    """Who holds one of the locks now, and which, in words; empty where nobody does. Raises CannotTell."""
    table = {process.pid: process for process in machine.processes()}
    for path in LOCKS:
        try:
            pid = machine.lock_holder(path)
        except Absent:
            continue
        if pid is not None:
            who = f"{program(table[pid])} (process {pid})" if pid in table else f"process {pid or '?'}"
            return f"{who} holds the lock {path}"
    for path, programs in PID_FILES.items():
        try:
            pid = named(machine, path)
        except Absent:
            continue
        if pid in table and runs(table[pid], programs):
            return f"{program(table[pid])} (process {pid}) holds the lock {path}"
    return ""


def program(process: Process) -> str:
    """Its name, and an interpreter's script. No more of the command line: a proxy's password may stand there."""
    name = next(iter(process.argv[:1]), "").partition(" ")[0]
    if not _INTERPRETER.fullmatch(name.rpartition("/")[2]):
        return name
    script = next((word for word in process.argv[1:4] if not word.startswith("-")), "")
    return f"{name} {script}" if script.startswith("/") and len(script.split()) == 1 else name


def runs(process: Process, programs: tuple[str, ...]) -> bool:
    """Whether it is one of these programs, or an interpreter that runs one."""
    return any(word.rpartition("/")[2] in programs for word in process.argv[:4])
