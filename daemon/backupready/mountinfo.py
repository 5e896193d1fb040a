"""What is mounted where, and what of it would the VMSnapshot extension freeze?

Pure functions over the bytes of /proc/<pid>/mountinfo, whose format is proc(5)'s. Whatever the bytes are, the only
exception is CannotTell.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from backupready.model import Absent, CannotTell, Machine

# The sandbox of a look has mounts of its own: only the first process sees the machine's.
TABLE = "/proc/1/mountinfo"
FREEZABLE = ("ext3", "ext4", "xfs", "btrfs")
_MOST_BYTES = 8 << 20  # a node with thousands of containers has a table of some MiB
_OCTAL = re.compile(r"\\([0-7]{3})")
_DEVICE = re.compile(r"\d{1,7}:\d{1,9}", re.ASCII)
_LOOP_MAJOR = "7"
_NO_DEVICE = "0"  # major number of what lies on no block device


@dataclass(frozen=True)
class Mount:
    """One line of the table. `device` is the super block's major:minor, `root` what of it is mounted at `point`."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    options: tuple[str, ...]
    kind: str
    source: str
    super_options: tuple[str, ...]

    @property
    def read_only(self) -> bool:
        return "ro" in self.options or "ro" in self.super_options


def parse(data: bytes, path: str = TABLE) -> tuple[Mount, ...]:
    """The table in the order of the file. Raises CannotTell where a line is none of it, or no line is there."""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    mounts = tuple(_mount(line, path) for line in lines if line)
    if not mounts:
        raise CannotTell(f"{path} is empty")
    return mounts


def _mount(line: str, path: str) -> Mount:
    left, dash, right = line.partition(" - ")
    fields, rest = left.split(" "), right.split(" ")
    if not dash or len(fields) < 6 or len(rest) < 2 or not _DEVICE.fullmatch(fields[2]):
        raise CannotTell(f"{path} has a line that is no mount: {line[:80]!a}")
    if not all(word.isascii() and word.isdigit() and len(word) < 11 for word in fields[:2]):
        raise CannotTell(f"{path} has a line that is no mount: {line[:80]!a}")
    return Mount(
        id=int(fields[0]),
        parent=int(fields[1]),
        device=fields[2],
        root=_plain(fields[3]),
        point=_plain(fields[4]),
        options=tuple(fields[5].split(",")),
        kind=rest[0],
        source=_plain(rest[1]),
        super_options=tuple(rest[2].split(",")) if len(rest) > 2 else (),
    )


def _plain(text: str) -> str:
    """Blanks and backslashes are written as octal numbers. What is no UTF-8 is escaped, so that it can travel."""
    octets = _OCTAL.sub(lambda found: chr(int(found[1], 8) & 0xFF), text).encode("utf-8", "surrogateescape")
    return octets.decode("utf-8", "backslashreplace")


def mounts(machine: Machine, path: str = TABLE) -> tuple[Mount, ...]:
    """The machine's table, or another process's. Raises CannotTell."""
    try:
        return parse(machine.read(path, _MOST_BYTES), path)
    except Absent:
        raise CannotTell(f"there is no {path}") from None


def below(path: str, point: str) -> bool:
    """Whether a path is a mount point or lies below it."""
    return path == point or path.startswith(point.rstrip("/") + "/")


class Tree:
    """The table as the kernel walks it: which mount a path leads to, later ones hiding earlier ones."""

    def __init__(self, table: Sequence[Mount]) -> None:
        known = {mount.id for mount in table}
        self._children: dict[int, dict[str, Mount]] = {}
        self._top: Mount | None = None
        for mount in table:
            if mount.parent in known and mount.parent != mount.id:
                self._children.setdefault(mount.parent, {}).setdefault(mount.point, mount)
            elif mount.point == "/":
                self._top = mount

    def holder(self, path: str) -> Mount | None:
        """The mount that a path lies on."""
        ends = [end for end in range(1, len(path)) if path[end] == "/"]
        on_the_way = ("/", *(path[:end] for end in ends), path)
        mount, seen = self._top, set()
        while mount is not None and mount.id not in seen:
            seen.add(mount.id)
            children = self._children.get(mount.id, {})
            below_it = next((children[point] for point in on_the_way if point in children), None)
            if below_it is None:
                return mount
            mount = below_it
        return mount


def frozen(table: Sequence[Mount], skipped: Collection[str], resource_disks: Collection[str]) -> tuple[Mount, ...]:
    """The mount points that the extension hands to its freezer, in the table's order, each as the mount that the
    freezer then opens there (which is another one than was meant where a later mount hides it).

    As main/mounts.py and main/fsfreezer.py have it since 2017: `mount` gives each mount point once, the last line
    first; `lsblk` gives each block device with one mount point; taken is what is in both and of a freezable type.
    """
    tree = Tree(table)
    listed = _by_lsblk(table)
    visible = {mount.point: mount for mount in table}
    taken = []
    for point, last in visible.items():
        if point not in listed or last.kind not in FREEZABLE:
            continue
        # The device of that name if it is there with this mount point, else the first that is.
        device = last if last in listed[point] else listed[point][0]
        loop = device.device.partition(":")[0] == _LOOP_MAJOR
        # `/` is taken before MountsToSkip is looked at.
        if loop or device.kind not in FREEZABLE or point in resource_disks or (point != "/" and point in skipped):
            continue
        taken.append(replace(tree.holder(point) or last, point=point))
    return tuple(taken)


def _by_lsblk(table: Sequence[Mount]) -> Mapping[str, list[Mount]]:
    """Mount point → the devices that lsblk shows there.

    It takes a device's last mount, and the last one before that with the file system's root if that one has not. A
    device without a number of its own (btrfs) is found by its name.
    """
    by_device: dict[str, list[Mount]] = {}
    for mount in table:
        numbered = mount.device.partition(":")[0] != _NO_DEVICE
        if numbered or mount.source.startswith("/dev/"):
            by_device.setdefault(mount.device if numbered else mount.source, []).append(mount)
    listed: dict[str, list[Mount]] = {}
    for of_one in by_device.values():
        last = of_one[-1]
        shown = last
        if last.root != "/":
            shown = next((m for m in reversed(of_one) if m.root == "/" and m.source == last.source), last)
        listed.setdefault(shown.point, []).append(shown)
    return listed
