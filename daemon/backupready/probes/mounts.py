"""Do the mounts allow what a backup does: execute, write, freeze, thaw, and ask for their size?"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from backupready import mountinfo, vmsnapshot, waagent
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
    yes_or_no,
)
from backupready.mountinfo import Mount, Tree

_TIMEOUT = 1.5  # s for those that are asked together; a file server that lives answers in milliseconds
_ASKED_TOGETHER = 24  # mounts, each by a thread; the unit of a look allows 64 tasks
_MOST_ASKED = 3 * _ASKED_TOGETHER  # in one look; each may take the time-out twice and 0.5 s, until its child is gone
_MOST_LISTED = 72
_MOST_LINKS = 40  # as the kernel follows
_MOST_CHILDREN = 2  # looks that were left behind on silent mounts and still wait there
_MOST_FINDINGS = 20  # of one problem
_SAME_START = 1.0  # s; the start of a process is counted in hundredths since boot
# What df holds for remote besides a colon in the source (gnulib's mountlist), and what else hangs with its server.
_REMOTE_KINDS = ("acfs", "afs", "auristorfs", "coda", "fhgfs", "gpfs", "ibrix", "ocfs2", "vxfs")
_NETWORK_KINDS = ("9p", "beegfs", "ceph", "cifs", "fuse", "fuseblk", "gfs2", "lustre", "nfs", "nfs4", "smb3", "smbfs")
# The sandbox of a look has something else there.
_HIDDEN = ("/run", "/root", "/tmp", "/var/tmp", "/dev")
# On local disks, and never frozen.
_NOT_FROZEN = ("bcachefs", "exfat", "ext2", "f2fs", "jfs", "nilfs2", "ntfs3", "reiserfs", "zfs")
_EXT4 = "/sys/fs/ext4"
_BTRFS = "/sys/fs/btrfs"
_RESOURCE_DISKS = ("/mnt", "/mnt/resource")  # cloud-init's place and the agent's own
_VMS = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"
_AGENT = "https://learn.microsoft.com/troubleshoot/azure/virtual-machines/linux/linux-azure-guest-agent"
_EXTENSION = "https://github.com/Azure/azure-linux-extensions/tree/master/VMBackup"

PROBLEMS = (
    Problem(
        "MOUNT_NOEXEC",
        "Nothing can be executed where the extension lies",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="The file system that holds /var/lib/waagent is mounted noexec, as some hardening guides want /var to"
        " be. The agent unpacks the extension there and cannot start it: exit code 126.",
        diagnosis="`findmnt -T /var/lib/waagent -o TARGET,OPTIONS`",
        fix="Take noexec out of that mount's options in /etc/fstab and `mount -o remount,exec` it, or give"
        " /var/lib/waagent a file system of its own without noexec.",
        source=_AGENT,
        explains=("EXTENSION_NOT_READY",),
    ),
    Problem(
        "MOUNT_READ_ONLY",
        "A file system that the backup writes to is read-only",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="The agent and the extension cannot write their state or their logs. A file system that is mounted to"
        " be written but is read-only below has been switched over by the kernel after errors.",
        diagnosis="`findmnt -T /var/lib/waagent -o TARGET,OPTIONS,FS-OPTIONS`, the same for /var/log/azure; `dmesg |"
        " grep -i 'remounting filesystem read-only'`",
        fix="If errors are the cause: unmount, `fsck` and mount it again (the root: at the next boot). Else mount it"
        " to be written.",
        source=_VMS,
        milder=(Effect.RISKS,),
        explains=("AGENT_HUNG", "AGENT_STATUS_NOT_UPLOADED", "EXTENSION_PACKAGE_UNAVAILABLE", "EXTENSION_NOT_READY"),
        sightings=2,
        apart=timedelta(seconds=10),
        patience="an update of the system may remount a file system for a moment",
    ),
    Problem(
        "MOUNT_TWICE",
        "One file system will be frozen twice",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="The extension freezes by mount point, and two of those that it takes lead to the same file system:"
        " two devices of one btrfs, or a mount that hides another. The second freeze fails with EBUSY and the backup"
        " with UserErrorFsFreezeFailed (121). A bind mount alone does no harm.",
        diagnosis="`findmnt -o TARGET,SOURCE,FSROOT,MAJ:MIN`; `lsblk -o NAME,MOUNTPOINT`",
        fix="Unmount one of the two, or name it in MountsToSkip in /etc/azure/vmbackup.conf (`[SnapshotThread]`, commas"
        " without blanks).",
        source=_VMS,
    ),
    Problem(
        "MOUNT_UNRESPONSIVE",
        "A mount does not answer",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="Asking for its size does not come back: a dead file server or a stuck disk. The extension runs `df`"
        " over all mounts and waits for it up to five minutes, so that its status comes too late; a stuck mount that it"
        " freezes stops it for good. With onlyLocalFilesystems it does not ask remote ones.",
        diagnosis="`timeout 5 df -k MOUNT`; `ps -eo pid,stat,wchan:32,args | awk '$2 ~ /D/'`",
        fix="Bring the server back or `umount -l` the mount; for remote ones set `onlyLocalFilesystems: True` in"
        " /etc/azure/vmbackup.conf, section [SnapshotThread].",
        source=_EXTENSION,
        milder=(Effect.RISKS, Effect.NOTICE),
        sightings=2,
        apart=timedelta(seconds=30),
        patience="a busy file server may take some seconds once",
    ),
    Problem(
        "FILE_SYSTEM_ERRORS",
        "A file system has recorded errors",
        Effect.RISKS,
        Cause.FREEZE,
        meaning="The kernel has counted errors in an ext4 or btrfs file system since it was last checked. Freezing it"
        " may fail or remount it read-only. XFS keeps no such count.",
        diagnosis="`grep . /sys/fs/ext4/*/errors_count`; `btrfs device stats MOUNT`; `dmesg`",
        fix="Unmount, `fsck -f` and mount it again (the root: at the next boot); btrfs: `btrfs scrub`, then `btrfs"
        " device stats --reset`.",
        source=_VMS,
    ),
    Problem(
        "FREEZE_NOT_CONSISTENT",
        "What holds the data cannot be frozen",
        Effect.DEGRADES,
        Cause.FREEZE,
        meaning="The extension freezes ext3, ext4, xfs and btrfs only. Where the root, or everything, is of another"
        " kind the snapshot is taken without a freeze, and the backup is crash-consistent for it.",
        diagnosis="`findmnt -D`; `grep MountsToSkip /etc/azure/vmbackup.conf`",
        fix="Keep what must be consistent on ext4 or xfs, or quiesce it with a pre-script and a post-script.",
        source="https://learn.microsoft.com/azure/backup/backup-support-matrix-iaas",
        milder=(Effect.NOTICE,),
    ),
)

SETTINGS = (
    Setting(
        "mounts",
        "accept_crash_consistent",
        "no",
        "Whether it is accepted that the root is of a kind that cannot be frozen; it is then a mere notice.",
        yes_or_no,
        "yes or no",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Read the first process's table of mounts, and ask those that may hang."""
    table = mountinfo.mounts(machine)
    tree = Tree(table)
    yield from _executable(machine, tree)
    yield from _errors(machine, table)
    try:
        config = _config(machine)
    except CannotTell as error:
        yield CannotTell(error.why, ("MOUNT_TWICE", "FREEZE_NOT_CONSISTENT", "MOUNT_UNRESPONSIVE"))
        yield from _writable(machine, tree, ())
        return
    skipped = vmsnapshot.mounts_to_skip(config)
    frozen = mountinfo.frozen(table, skipped, _resource_disks(machine))
    yield from _writable(machine, tree, frozen)
    yield from _twice(frozen)
    yield from _consistent(table, tree, frozen, settings)
    only_local = config.get("onlylocalfilesystems") in ("True", "true")
    yield from _unresponsive(machine, _askable(table, tree, frozen), only_local)


def _config(machine: Machine) -> Mapping[str, str]:
    """The section of vmbackup.conf; one that cannot be parsed is none to the extension."""
    try:
        data = machine.read(vmsnapshot.BACKUP_CONFIG)
    except Absent:
        return {}
    return vmsnapshot.effective_config(data)[0].get("SnapshotThread", {})


def _resource_disks(machine: Machine) -> tuple[str, ...]:
    with contextlib.suppress(Absent, CannotTell):
        place = waagent.agent_config(machine).values.get("ResourceDisk.MountPoint")
        return (*_RESOURCE_DISKS, place) if place else _RESOURCE_DISKS
    return _RESOURCE_DISKS


# -------------------------------------------------------------------------------------------------- execute, write


def _executable(machine: Machine, tree: Tree) -> Iterator[Observation]:
    paths = [_followed(machine, waagent.LIB_DIR)]
    with contextlib.suppress(Absent, CannotTell):
        directory = waagent.current_directory(machine, waagent.VMSNAPSHOT)
        paths += [_followed(machine, directory.path)] if directory else []
    seen = set()
    for path in paths:
        mount = tree.holder(path)
        if mount is None:
            yield CannotTell(f"the table of mounts does not say what holds {path}", ("MOUNT_NOEXEC",))
        elif "noexec" in mount.options and mount.point not in seen:
            seen.add(mount.point)
            yield Finding("MOUNT_NOEXEC", mount.point, {"path": path, **_told(mount)})


def _followed(machine: Machine, path: str) -> str:
    """Where a path leads if parts of it are links; an administrator may have moved /var to another disk."""
    left, place, links = path.split("/"), "/", 0
    while left:
        name = left.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            place = posixpath.dirname(place)
            continue
        here = posixpath.join(place, name)
        try:
            target = machine.target(here)
        except (Absent, CannotTell):
            place = here
            continue
        links += 1
        if links > _MOST_LINKS:
            return path  # it leads nowhere
        left = [*target.split("/"), *left]
        place = "/" if target.startswith("/") else place
    return place


def _writable(machine: Machine, tree: Tree, frozen: Sequence[Mount]) -> Iterator[Observation]:
    seen = set()
    for path in (_followed(machine, waagent.LIB_DIR), _followed(machine, waagent.EXTENSION_LOGS)):
        mount = tree.holder(path)
        if mount is None:
            yield CannotTell(f"the table of mounts does not say what holds {path}", ("MOUNT_READ_ONLY",))
        elif mount.read_only and mount.point not in seen:
            seen.add(mount.point)
            yield Finding("MOUNT_READ_ONLY", mount.point, {"path": path, **_told(mount)})
    for mount in frozen[:_MOST_FINDINGS]:
        # Mounted to be written, and read-only below: that is what errors=remount-ro leaves.
        if "rw" in mount.options and "ro" in mount.super_options and mount.point not in seen:
            yield Finding("MOUNT_READ_ONLY", mount.point, {"path": mount.point, **_told(mount)}, Effect.RISKS)


def _told(mount: Mount) -> dict[str, Scalar]:
    return {
        "mount_point": mount.point,
        "source": mount.source,
        "kind": mount.kind,
        "options": ",".join(mount.options),
        "file_system_options": ",".join(mount.super_options),
    }


# ---------------------------------------------------------------------------------------------------------- freeze


def _twice(frozen: Sequence[Mount]) -> Iterator[Observation]:
    first: dict[str, Mount] = {}
    told = 0
    for mount in frozen:
        other = first.setdefault(mount.device, mount)
        if other is not mount and told < _MOST_FINDINGS:
            told += 1
            yield Finding(
                "MOUNT_TWICE",
                mount.point,
                {"device": mount.device, "source": mount.source, "mount_point": mount.point, "also_at": other.point},
            )


def _consistent(
    table: Sequence[Mount], tree: Tree, frozen: Sequence[Mount], settings: Settings
) -> Iterator[Observation]:
    root = tree.holder("/")
    if root is None:
        yield CannotTell("the table of mounts has no root", ("FREEZE_NOT_CONSISTENT",))
        return
    # A root that cannot be written, as an image's, needs no freeze where something else gets one.
    fixed = root.read_only and frozen
    if not fixed and root.device not in {mount.device for mount in frozen}:
        what = "the root is not frozen" if frozen else "nothing is frozen"
        accepted = Effect.NOTICE if settings["accept_crash_consistent"] else None
        yield Finding("FREEZE_NOT_CONSISTENT", "/", {"what": what, **_told(root)}, accepted)
    others: dict[str, list[Mount]] = {}
    for mount in table:
        if mount.kind in _NOT_FROZEN and mount is not root and not mountinfo.below(mount.point, "/boot"):
            others.setdefault(mount.kind, []).append(mount)
    for kind, of_kind in others.items():
        facts: dict[str, Scalar] = {"what": f"{kind} is never frozen", "mounts": len(of_kind), **_told(of_kind[0])}
        yield Finding("FREEZE_NOT_CONSISTENT", of_kind[0].point, facts, Effect.NOTICE)


# ------------------------------------------------------------------------------------------------------------ errors


def _errors(machine: Machine, table: Sequence[Mount]) -> Iterator[Observation]:
    points = {mount.device: mount.point for mount in reversed(table)}
    try:
        yield from _ext4_errors(machine, points)
        yield from _btrfs_errors(machine)
    except CannotTell as error:
        yield CannotTell(error.why, ("FILE_SYSTEM_ERRORS",))


def _ext4_errors(machine: Machine, points: Mapping[str, str]) -> Iterator[Observation]:
    for name in _names(machine, _EXT4)[:_MOST_LISTED]:
        place = f"{_EXT4}/{name}"
        count = _number(machine, f"{place}/errors_count")
        if not count:
            continue
        facts: dict[str, Scalar] = {"device": name, "errors": count}
        with contextlib.suppress(Absent, CannotTell):
            number = machine.read(f"/sys/class/block/{name}/dev", 64).decode("utf-8", "replace").strip()
            facts["mount_point"] = points.get(number, "")
        for key in ("first_error_time", "last_error_time"):
            facts[key] = _number(machine, f"{place}/{key}")
        with contextlib.suppress(Absent, CannotTell):
            facts["last_error_func"] = machine.read(f"{place}/last_error_func", 4096).decode("utf-8", "replace").strip()
        yield Finding("FILE_SYSTEM_ERRORS", name, facts)


def _btrfs_errors(machine: Machine) -> Iterator[Observation]:
    """The counters that a btrfs keeps of each of its devices, since Linux 5.14."""
    for name in _names(machine, _BTRFS)[:_MOST_LISTED]:
        for device in _names(machine, f"{_BTRFS}/{name}/devinfo")[:_MOST_LISTED]:
            try:
                text = machine.read(f"{_BTRFS}/{name}/devinfo/{device}/error_stats", 4096).decode("ascii", "replace")
            except Absent:
                continue
            rows = [line.split() for line in text.splitlines()]
            counts = {row[0]: int(row[1]) for row in rows if len(row) == 2 and _is_number(row[1])}
            if any(counts.values()):
                found: dict[str, Scalar] = {"file_system": name, "errors": sum(counts.values()), **counts}
                yield Finding("FILE_SYSTEM_ERRORS", f"{name}/{device}", found)


def _names(machine: Machine, path: str) -> tuple[str, ...]:
    try:
        return machine.names(path)
    except Absent:
        return ()


def _number(machine: Machine, path: str) -> int:
    """0 where there is none."""
    try:
        text = machine.read(path, 64).decode("ascii", "replace").strip()
    except Absent:
        return 0
    return int(text) if _is_number(text) else 0


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 21


# ------------------------------------------------------------------------------------------------------ unresponsive


def _remote(mount: Mount) -> bool:
    """As df -l sees it."""
    share = mount.source.startswith("//") and mount.kind in ("cifs", "smb3", "smbfs")
    return ":" in mount.source or share or mount.kind in _REMOTE_KINDS or mount.source == "-hosts"


def _askable(table: Sequence[Mount], tree: Tree, frozen: Sequence[Mount]) -> list[Mount]:
    """Those that it touches and that may hang, first what it freezes. An automounter would mount if asked."""
    points = {mount.point for mount in frozen}
    network = [
        mount
        for mount in table
        if mount.kind in (*_NETWORK_KINDS, *_REMOTE_KINDS) or mount.kind.startswith("fuse.") or _remote(mount)
        if mount.kind != "autofs" and mount.point not in points and tree.holder(mount.point) is mount
    ]
    # A share that is mounted many times, as in containers, is silent everywhere or nowhere.
    shares = {mount.device: mount for mount in reversed(network)}
    return [
        m
        for m in (*frozen, *reversed(shares.values()))
        if not any(mountinfo.below(m.point, place) for place in _HIDDEN)
    ]


@dataclass(frozen=True)
class _Waiting:
    """A process of an earlier look that still waits for silent mounts."""

    child: int
    started: float
    mounts: tuple[tuple[str, str], ...]  # mount point, source


@dataclass(frozen=True)
class _Turn:
    """More mounts than one look asks are asked in turn: which of them is the next, and how many nobody has asked."""

    next: int
    left: int
    of: int

    @classmethod
    def after(cls, memory: Mapping[str, Any], of: int) -> _Turn:
        """Where the last look stopped; it may have remembered anything."""
        place, left = memory.get("next"), memory.get("left")
        if of <= _MOST_ASKED or type(place) is not int or type(left) is not int:
            return cls(0, of, of)
        return cls(place % of, min(max(left, 0), of), of)

    def on(self, count: int) -> _Turn:
        return _Turn((self.next + count) % self.of, max(self.left - count, 0), self.of)


def _unresponsive(machine: Machine, mounts: Sequence[Mount], only_local: bool) -> Iterator[Observation]:
    """A statvfs that hangs cannot be ended, and each leaves a process behind: who is known to be silent is not asked
    again while that process is still there."""
    waiting = list(_recall(machine.memory))
    try:
        started = {process.pid: process.started for process in machine.processes()} if waiting else {}
    except CannotTell as error:
        yield Remember(machine.memory)
        yield CannotTell(error.why, ("MOUNT_UNRESPONSIVE",))
        return
    waiting = [w for w in waiting if abs(started.get(w.child, -1e18) - w.started) <= _SAME_START]
    known = {pair for one in waiting for pair in one.mounts}
    silent = [mount for mount in mounts if (mount.point, mount.source) in known]
    others = [mount for mount in mounts if (mount.point, mount.source) not in known]
    turn = _Turn.after(machine.memory, len(others))
    asked = [*others[turn.next :], *others[: turn.next]][:_MOST_ASKED]
    try:
        if len(waiting) > _MOST_CHILDREN:
            raise CannotTell(f"{len(waiting)} earlier looks still wait for silent mounts, the others are not asked")
        for start in range(0, len(asked), _ASKED_TOGETHER):
            together = asked[start : start + _ASKED_TOGETHER]
            spaces = machine.space([mount.point for mount in together], _TIMEOUT)
            if not spaces.silent:
                turn = turn.on(len(together))
                continue
            # The next look begins here: who is silent must be so twice.
            unheard = [mount for mount in together if mount.point in spaces.silent]
            silent += unheard
            pairs = tuple((mount.point, mount.source) for mount in unheard)
            with contextlib.suppress(CannotTell):
                waiting += [_Waiting(p.pid, p.started, pairs) for p in machine.processes() if p.pid == spaces.child]
            break  # one finding is enough to leave one process behind
        if not silent and turn.left:
            why = f"of {len(mounts)} mounts that may hang, {turn.left} have not been asked yet"
            yield CannotTell(why, ("MOUNT_UNRESPONSIVE",), Effect.RISKS)
    except CannotTell as error:
        yield CannotTell(error.why, ("MOUNT_UNRESPONSIVE",))
    rows = [[one.child, one.started, [list(pair) for pair in one.mounts]] for one in waiting]
    yield Remember({"waiting": rows, "next": turn.next, "left": turn.left})
    for mount in silent[:_MOST_FINDINGS]:
        spared = only_local and _remote(mount) and mount.kind not in mountinfo.FREEZABLE
        facts: dict[str, Scalar] = {"mount_point": mount.point, "source": mount.source, "kind": mount.kind}
        yield Finding(
            "MOUNT_UNRESPONSIVE",
            mount.point,
            {**facts, "silent": len(silent), "onlyLocalFilesystems": only_local},
            Effect.NOTICE if spared else None,
        )


def _recall(memory: Mapping[str, Any]) -> Iterator[_Waiting]:
    """What an earlier look remembered; it may be anything."""
    rows = memory.get("waiting")
    for row in rows[:16] if isinstance(rows, list) else ():
        if not (isinstance(row, list) and len(row) == 3 and isinstance(row[2], list)):
            continue
        child, started, pairs = row
        if not isinstance(child, int) or not isinstance(started, (int, float)):
            continue
        mounts = tuple((str(pair[0]), str(pair[1])) for pair in pairs if isinstance(pair, list) and len(pair) == 2)
        yield _Waiting(child, float(started), mounts)


PROBE = Probe(
    name="mounts",
    question="Do the mounts allow what a backup does: execute, write, freeze, thaw, and ask for their size?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=12),
    settings=SETTINGS,
)
