"""The table of mounts: its format, which mount a path leads to, and what of it the extension freezes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import mountinfo, vmsnapshot
from backupready.model import CannotTell
from backupready.mountinfo import Mount, Tree
from scenario import DATA

_PIECES = st.sampled_from(
    [
        b"26 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n", b"30 26 0:50 /a /data rw - btrfs /dev/sdc rw\n",
        b" - ", b" ", b"\n", b"\\040", b"\\777", b"\\", b"/", b"26 26 8:1 / / rw - xfs /dev/sdb rw\n", b"\xff", b"\x00",
        b"31 30 7:1 / /data ro - xfs /dev/loop1 ro\n", b"[SnapshotThread]\n", b"MountsToSkip: /a,%\n", "٣".encode(),
    ]
)  # fmt: skip
ANY_BYTES = st.one_of(st.binary(max_size=300), st.lists(_PIECES, max_size=12).map(b"".join))
_WORD = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=12)


def line(
    number: int, parent: int, device: str, point: str, kind: str = "ext4", source: str = "/dev/x", root: str = "/"
) -> str:
    return f"{number} {parent} {device} {root} {point} rw - {kind} {source} rw"


def table(*lines: str) -> tuple[Mount, ...]:
    return mountinfo.parse("\n".join(lines).encode())


@given(data=ANY_BYTES)
def test_the_parser_can_only_not_tell(data: bytes) -> None:
    """Whatever the bytes are, there is a table to be walked and chosen from, or CannotTell."""
    try:
        mounts = mountinfo.parse(data)
    except CannotTell as error:
        assert error.why
        return
    for mount in mounts:
        mount.point.encode()  # it can travel
    Tree(mounts).holder("/var/lib/waagent")
    assert {mount.point for mount in mountinfo.frozen(mounts, (), ())} <= {mount.point for mount in mounts}


@given(data=ANY_BYTES)
def test_the_extensions_configuration_is_read_or_lost(data: bytes) -> None:
    """There are values, or there is a reason why there are none."""
    values, why = vmsnapshot.effective_config(data)
    assert not (values and why)
    vmsnapshot.mounts_to_skip(values.get("SnapshotThread", {}))


@given(root=_WORD, point=_WORD, source=_WORD)
def test_names_come_back_as_they_are(root: str, point: str, source: str) -> None:
    """The kernel writes blanks, tabs, line ends, # and backslashes as octal numbers, all else as it is."""

    def written(text: str) -> str:
        return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in text)

    (mount,) = table(f"1 0 8:1 /{written(root)} /{written(point)} rw a:1 b - ext4 {written(source)} rw")
    assert (mount.root, mount.point, mount.source) == (f"/{root}", f"/{point}", source)


@pytest.mark.parametrize("text", ["", "\n", "1 0 8:1 / / rw", "1 0 8 / / rw - a b c", "x 0 8:1 / / rw - a b c"])
def test_what_is_no_table_is_not_told(text: str) -> None:
    """An empty file and a line that is no mount."""
    with pytest.raises(CannotTell):
        mountinfo.parse(text.encode())


@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("/", 1),
        ("/var", 2),
        ("/var/lib/waagent", 4),
        ("/var/library", 2),
        ("/etc", 1),
        ("/data/x", 6),
        ("/hidden/x", 7),
    ],
)
def test_a_path_lies_on_the_mount_that_is_seen_there(path: str, number: int) -> None:
    """The longest mount point above it, unless a later mount hides that one."""
    mounts = table(
        line(1, 0, "8:1", "/"),
        line(2, 1, "8:2", "/var"),
        line(3, 2, "8:3", "/var/lib"),
        line(4, 3, "8:4", "/var/lib"),
        line(5, 1, "8:5", "/data"),
        line(6, 5, "8:6", "/data"),
        line(8, 1, "8:8", "/hidden/x"),
        line(7, 1, "8:7", "/hidden"),
    )
    holder = Tree(mounts).holder(path)
    assert holder is not None
    assert holder.id == number


@pytest.mark.parametrize(
    ("name", "points"),
    [("ubuntu-22.04", ["/"]), ("rhel-9", ["/", "/usr", "/boot", "/tmp", "/var", "/home"])],
)
def test_a_healthy_machine(name: str, points: list[str]) -> None:
    """The system's file systems are frozen; the resource disk, /boot/efi, snaps and what is in memory are not."""
    mounts = mountinfo.parse((DATA / "mountinfo" / name).read_bytes())
    assert [m.point for m in mountinfo.frozen(mounts, (), ("/mnt", "/mnt/resource"))] == points


def test_a_device_is_frozen_where_lsblk_shows_it() -> None:
    """Of several mounts the last with the file system's root counts, of bind mounts alone the last."""
    mounts = table(
        line(1, 0, "8:1", "/", source="/dev/sda1"),
        line(2, 1, "8:2", "/a", source="/dev/sda2"),
        line(3, 1, "8:2", "/b", source="/dev/sda2"),
        line(4, 1, "8:2", "/c", source="/dev/sda2", root="/sub"),
        line(5, 1, "8:3", "/d", source="/dev/sda3", root="/x"),
        line(6, 1, "8:3", "/e", source="/dev/sda3", root="/y"),
    )
    assert [m.point for m in mountinfo.frozen(mounts, (), ())] == ["/", "/b", "/e"]
    assert [m.point for m in mountinfo.frozen(mounts, ("/b", "/"), ())] == ["/", "/e"]
