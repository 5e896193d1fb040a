"""Is this a system that Azure Backup can back up, and is it at rest?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from backupready import packages, waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Observation,
    Probe,
    Problem,
    Remember,
    Scalar,
    Setting,
    Settings,
    whole_minutes,
)

_DMI = "/sys/class/dmi/id"
_BUSES = "/sys/bus"
_SMALL = 4096  # bytes; a firmware string, a pid file or os-release is shorter
_MATRIX = "https://learn.microsoft.com/azure/backup/backup-support-matrix-iaas"
_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout"
# What uname(2) calls the machine where the kernel has 32 bits; Azure has x86 and Arm.
_32_BIT = re.compile(r"i[3-6]86|armv[5-8]\w*")
_REBOOT_REQUIRED = "/run/reboot-required"
# 6.1.0-13-cloud-amd64, 6.5.0-1017-azure, 5.14.0-362.8.1.el9_3.x86_64, 5.14.21-150500.33.26-azure
_KERNEL = re.compile(r"(\d{1,6}(?:\.\d{1,6}){1,3})(?:-(\d{1,9}(?:\.\d{1,9}){0,5}))?(\D.*|)", re.ASCII)
_MINOR_RELEASE = re.compile(r"(\.el\d+)_\d+", re.ASCII)
_SAME_START = 1.0  # s; the start of a process is counted in hundredths since boot
_UPGRADE_MINUTES = 10  # an upgrade that passes is over by then

PROBLEMS = (
    Problem(
        "NOT_AN_AZURE_VM",
        "This is not an Azure VM, so there is no Azure Backup to judge",
        Effect.VOIDS,
        Cause.GUEST,
        meaning="The firmware does not carry the chassis asset tag of every Azure VM, or there are neither firmware"
        " tables nor Hyper-V's bus nor the VM agent. Azure Backup for VMs does not reach this machine, and nothing else"
        " is judged.",
        diagnosis="`cat /sys/class/dmi/id/chassis_asset_tag /sys/class/dmi/id/sys_vendor`",
        fix="Run it in an Azure VM. If this is one, set `azure = yes` in the section `[guest]`.",
        source="https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service",
    ),
    Problem(
        "UNSUPPORTED_SYSTEM",
        "Azure Backup does not support this operating system",
        Effect.BLOCKS,
        Cause.GUEST,
        meaning="The support matrix excludes 32-bit operating systems and CoreOS Linux from backup with the extension.",
        diagnosis="`uname -m`; `cat /etc/os-release`",
        fix="Move to a supported 64-bit distribution, or back the machine up with agentless crash-consistent backup.",
        source=_MATRIX,
    ),
    Problem(
        "REBOOT_PENDING",
        "The machine waits for a reboot",
        Effect.NOTICE,
        Cause.GUEST,
        meaning="An update has been installed that takes effect at the next boot. Microsoft names pending updates first"
        " among what interferes with a backup.",
        diagnosis="`cat /run/reboot-required.pkgs`; compare `uname -r` with `ls /boot`.",
        fix="Reboot at a time that suits, well before the backup window.",
        source=_TROUBLESHOOTING,
    ),
    Problem(
        "PACKAGE_LOCK_HELD",
        "A package manager holds its lock for long",
        Effect.NOTICE,
        Cause.GUEST,
        meaning="A package manager has been seen to hold its lock for long (`lock_minutes` of [guest]): it works, or"
        " hangs. Until it ends, the agent can neither be updated nor its dependencies be installed.",
        diagnosis="`fuser -v /var/lib/dpkg/lock-frontend /var/lib/rpm/.rpm.lock`; look at the process that is named.",
        fix="Wait for it to end; if it waits for an answer, give it. Do not remove the lock.",
        source=_TROUBLESHOOTING,
        sightings=2,
        apart=timedelta(seconds=15),
        patience="between two packages, and for a query, the lock is held for a moment",
    ),
)


def _azure(text: str) -> str:
    """Whether this is an Azure VM."""
    if text not in ("auto", "yes", "no"):
        raise ValueError("must be auto, yes or no")
    return text


SETTINGS = (
    Setting(
        "guest",
        "azure",
        "auto",
        "Whether this is an Azure VM; auto goes by the firmware's chassis asset tag.",
        _azure,
        "auto, yes or no",
    ),
    Setting(
        "guest",
        "lock_minutes",
        f"{_UPGRADE_MINUTES}",
        "How long a package manager may hold its lock before that is told.",
        whole_minutes,
        "a number of minutes",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Whether the question arises comes first: where it does not, nothing else is worth a look."""
    origin = list(_origin(machine, settings["azure"]))
    yield from origin
    if any(isinstance(one, Finding) for one in origin):
        return
    yield from _system(machine)
    yield from _reboot(machine)
    yield from _locks(machine, settings["lock_minutes"].total_seconds())


def _origin(machine: Machine, azure: str) -> Iterator[Observation]:
    if azure == "yes":
        return
    if azure == "no":
        yield Finding("NOT_AN_AZURE_VM", evidence={"setting": "guest.azure = no"})
        return
    evidence: dict[str, Scalar]
    try:
        tag = _firmware(machine, "chassis_asset_tag")
    except Absent:
        # Not every system has such firmware tables, least of all a container: that alone says nothing either way.
        if _nothing_of_azure(machine):
            evidence = {"chassis_asset_tag": None, "vmbus": False, "agent": False}
            yield Finding("NOT_AN_AZURE_VM", evidence=evidence)
            return
        yield CannotTell(f"there is no {_DMI}/chassis_asset_tag", ("NOT_AN_AZURE_VM",), Effect.NOTICE)
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("NOT_AN_AZURE_VM",), Effect.NOTICE)
        return
    if tag == waagent.AZURE_ASSET_TAG:
        return
    evidence = {"chassis_asset_tag": tag}
    for name in ("sys_vendor", "product_name"):
        try:
            evidence[name] = _firmware(machine, name)
        except (Absent, CannotTell):
            continue
    yield Finding("NOT_AN_AZURE_VM", evidence=evidence)


def _nothing_of_azure(machine: Machine) -> bool:
    """Whether there are certainly neither firmware tables nor the bus of Hyper-V's devices nor traces of the agent."""
    try:
        if "vmbus" in machine.names(_BUSES):
            return False
    except (Absent, CannotTell):
        return False  # without /sys nothing is certain
    return all(_missing(machine, path) for path in (_DMI, waagent.LIB_DIR))


def _missing(machine: Machine, path: str) -> bool:
    try:
        machine.status(path)
    except Absent:
        return True
    except CannotTell:
        return False
    return False


def _firmware(machine: Machine, name: str) -> str:
    return machine.read(f"{_DMI}/{name}", _SMALL).decode("utf-8", "replace").strip()


def _system(machine: Machine) -> Iterator[Observation]:
    try:
        kind = machine.kernel().machine
    except CannotTell as error:
        yield CannotTell(error.why, ("UNSUPPORTED_SYSTEM",))
    else:
        if _32_BIT.fullmatch(kind):
            yield Finding("UNSUPPORTED_SYSTEM", "32-bit", {"machine": kind})
    try:
        text = machine.read("/etc/os-release", 64 * _SMALL).decode("utf-8", "replace")
    except Absent:
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("UNSUPPORTED_SYSTEM",))
        return
    pairs = (line.partition("=") for line in text.splitlines())
    facts = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    # Flatcar, Fedora CoreOS and RHEL CoreOS have other names, and the support matrix does not speak of them.
    if facts.get("ID") == "coreos":
        yield Finding("UNSUPPORTED_SYSTEM", "coreos", {"system": facts.get("PRETTY_NAME", "coreos")})


def _reboot(machine: Machine) -> Iterator[Observation]:
    try:
        machine.status(_REBOOT_REQUIRED)
        yield Finding("REBOOT_PENDING", "required", {"file": _REBOOT_REQUIRED})
    except Absent:
        pass
    except CannotTell as error:
        yield CannotTell(error.why, ("REBOOT_PENDING",))
    try:
        running = machine.kernel().release
        images = [name for name in machine.names("/boot") if name.startswith("vmlinuz-")]
    except Absent:
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("REBOOT_PENDING",))
        return
    newest = newer_kernel(running, [name.partition("-")[2] for name in images])
    if newest:
        yield Finding("REBOOT_PENDING", "kernel", {"running": running, "installed": newest})


def newer_kernel(running: str, installed: list[str]) -> str | None:
    """The newest installed kernel of the running one's flavour if it is newer than that."""
    here = _parsed(running)
    if here is None:
        return None
    same = [(parsed[0], name) for name in installed if (parsed := _parsed(name)) and parsed[1] == here[1]]
    newest = max(same, default=None)
    return newest[1] if newest and newest[0] > here[0] else None


def _parsed(release: str) -> tuple[tuple[tuple[int, ...], ...], str] | None:
    """Its numbers, and its flavour: what is built otherwise is no newer, whatever its number."""
    match = _KERNEL.fullmatch(release)
    if match is None:
        return None
    version, build, flavour = match.groups()
    numbers = tuple(tuple(int(number) for number in part.split(".")) for part in (version, build or "0"))
    return numbers, _MINOR_RELEASE.sub(r"\1", flavour)


def _locks(machine: Machine, longest: float) -> Iterator[Observation]:
    held: dict[str, tuple[int, float | None]] = {}  # path → who holds it, and since when if that is told
    for path in packages.LOCKS:
        try:
            holder = machine.lock_holder(path)
        except Absent:
            continue
        except CannotTell as error:
            yield CannotTell(error.why, ("PACKAGE_LOCK_HELD",))
            continue
        if holder:  # 0 is somebody of whom nothing is known
            held[path] = holder, None
    for path in packages.PID_FILES:
        try:
            named, written = packages.named(machine, path), machine.status(path).modified
        except Absent:
            continue
        except CannotTell as error:
            yield CannotTell(error.why, ("PACKAGE_LOCK_HELD",))
            continue
        if named is not None:
            held[path] = named, written
    if not held:
        return
    try:
        table = {process.pid: process for process in machine.processes()}
        now = machine.now()
    except CannotTell as error:
        yield Remember({"held": machine.memory.get("held")})
        yield CannotTell(error.why, ("PACKAGE_LOCK_HELD",))
        return
    known = _recall(machine.memory)
    kept: list[list[Scalar]] = []
    told: Finding | None = None  # one process holds several of them
    for path, (pid, written_at) in held.items():
        process = table.get(pid)
        if process is None or (path in packages.PID_FILES and not packages.runs(process, packages.PID_FILES[path])):
            continue  # left over, and the number may have been given to another
        # A service that has run for days may hold a lock of fcntl(2) since a moment ago: it counts from when it was
        # first seen. A file was written when it was taken.
        started, seen = known.get((path, pid), (process.started, now))
        since = seen if abs(started - process.started) <= _SAME_START else now
        since = max(min(since if written_at is None else written_at, now), process.started)
        kept.append([path, pid, process.started, since])
        if now - since >= longest and told is None:
            minutes = int((now - since) / 60)
            evidence: dict[str, Scalar] = {
                "lock": path,
                "pid": pid,
                "command": packages.program(process),
                "minutes": minutes,
            }
            told = Finding("PACKAGE_LOCK_HELD", evidence=evidence)
    yield Remember({"held": kept})
    if told is not None:
        yield told


def _recall(memory: Mapping[str, Any]) -> dict[tuple[str, int], tuple[float, float]]:
    """Lock and holder → the holder's start, and when it was first seen to hold it. It may be anything."""
    rows = memory.get("held")
    known = {}
    for row in rows[:16] if isinstance(rows, list) else ():
        if not (isinstance(row, list) and len(row) == 4 and isinstance(row[0], str) and isinstance(row[1], int)):
            continue
        if all(isinstance(time, (int, float)) and abs(time) < 1e12 for time in row[2:]):
            known[row[0], row[1]] = float(row[2]), float(row[3])
    return known


PROBE = Probe(
    name="guest",
    question="Is this a system that Azure Backup can back up, and is it at rest?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=5),
    settings=SETTINGS,
)
