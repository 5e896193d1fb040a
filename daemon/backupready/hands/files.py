"""How does root replace, copy and move a file without following anybody's link, and without losing a byte of it?

Every file is named by a directory that is open and a name in it; a directory is opened from the root downwards, one
component at a time, and a link in the way is refused. What is written is written beside, synced, and put in place by
one call that succeeds or does nothing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

_TEMPORARY = ".{name}.backupready-new"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Signatures of the content itself: a copy that differs by a byte would not be trusted, or not even opened.
_SIGNATURES = ("security.ima", "security.evm")
MOST_BYTES = 1 << 20


class StepFailed(Exception):
    """A step cannot be done, undone or found out about, and why; what is true now has to be looked for."""


class Refused(StepFailed):
    """It must not be done, and nothing of it was. `diff` shows what somebody else has made of a file; it may hold
    what the file keeps secret, and is for the person at the terminal only."""

    def __init__(self, why: str, diff: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.diff = diff


@contextlib.contextmanager
def directory(start: Path | int, parts: tuple[str, ...]) -> Iterator[int]:
    """The directory below `start` (a path that is trusted, or an open directory), open. Raises Refused where a link
    is in the way, and OSError."""
    with contextlib.ExitStack() as stack:
        if isinstance(start, int):
            here = os.open(".", _DIRECTORY, dir_fd=start)
        else:
            here = os.open(start, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, here)
        for count, part in enumerate(parts, 1):
            try:
                here = os.open(part, _DIRECTORY, dir_fd=here)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR):
                    raise Refused(f"{'/'.join(parts[:count])} is a link or no directory") from None
                raise
            stack.callback(os.close, here)
        yield here


@dataclass(frozen=True)
class Nature:
    """What a file has besides its content: permission bits, owner, and all extended attributes, with them SELinux's
    context and the access lists."""

    mode: int
    owner: int
    group: int
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """A regular file, whole."""

    data: bytes = field(repr=False)
    nature: Nature

    @property
    def digest(self) -> str:
        return digest(self.data)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kind(parent: int, name: str) -> str:
    """file, directory, link, other, or nothing (the empty string)."""
    try:
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return ""
    tests = {"file": stat.S_ISREG, "directory": stat.S_ISDIR, "link": stat.S_ISLNK}
    return next((word for word, is_so in tests.items() if is_so(mode)), "other")


def read(parent: int, name: str, limit: int = MOST_BYTES) -> File:
    """Raises Refused for a link, a file with several names, one that is no regular file, is signed or has more than
    `limit` bytes; FileNotFoundError; OSError."""
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise Refused(f"{name} is a link or no regular file; what it leads to is not ours to change") from None
        raise
    try:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode):
            raise Refused(f"{name} is no regular file")
        if status.st_nlink != 1:
            raise Refused(
                f"{name} has {status.st_nlink} names (hard links): replacing one would part it from the others"
            )
        data = b""
        while len(data) <= limit:
            more = os.read(opened, limit + 1 - len(data))
            if not more:
                break
            data += more
        if len(data) > limit:
            raise Refused(f"{name} has more than {limit} bytes")
        return File(data, nature(opened, name))
    finally:
        os.close(opened)


def nature(opened: int, name: str) -> Nature:
    """Of an open file or directory. Raises Refused where it is signed."""
    status = os.fstat(opened)
    xattrs = _xattrs(opened)
    signed = next((signature for signature in _SIGNATURES if signature in xattrs), None)
    if signed:
        raise Refused(f"{name} carries a signature of its content ({signed}), which we cannot renew")
    return Nature(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, xattrs)


def _xattrs(opened: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(opened, name) for name in os.listxattr(opened)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise


def _give(opened: int, wanted: Nature, name: str) -> None:
    """Raises Refused where the file system does not take what the original has."""
    os.fchown(opened, wanted.owner, wanted.group)
    present = _xattrs(opened)
    for attribute in present.keys() - wanted.xattrs.keys():
        os.removexattr(opened, attribute)
    for attribute, value in wanted.xattrs.items():
        if present.get(attribute) != value:
            os.setxattr(opened, attribute, value)
    os.fchmod(opened, wanted.mode)
    if nature(opened, name) != wanted:
        raise Refused(f"a copy of {name} does not keep its owner, mode and extended attributes")


def make_directory(parent: int, name: str, mode: int) -> None:
    """A directory of ours with exactly this mode. Raises Refused for one that is another's, OSError."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=parent)
    with directory(parent, (name,)) as made:
        if os.fstat(made).st_uid != os.geteuid():
            raise Refused(f"{name} is there already, and not ours")
        os.fchmod(made, mode)
        os.fsync(made)
    os.fsync(parent)


def names(parent: int) -> tuple[str, ...]:
    """What a directory holds, sorted."""
    return tuple(sorted(os.listdir(parent)))  # noqa: PTH208 - a path object cannot be a descriptor


def remove_if_empty(parent: int, name: str) -> None:
    """Take an empty directory of ours away; one that holds anything, or is not there, stays as it is."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
            raise
    os.fsync(parent)


def give_directory(parent: int, name: str, wanted: Nature) -> None:
    """Have a directory of ours look like another."""
    with directory(parent, (name,)) as opened:
        _give(opened, wanted, name)
        os.fsync(opened)


def temporary(name: str) -> str:
    """Where a file is written before it is put in place. Always the same name, so that what a crash leaves is found."""
    return _TEMPORARY.format(name=name)


def replace(parent: int, name: str, new: File, expected: str) -> None:
    """Put a file in the place of one whose content has the digest `expected`. Raises Refused if it has not, OSError."""
    with _written(parent, name, new.data, new.nature) as beside:
        if read(parent, name).digest != expected:
            raise Refused(f"{name} was changed by somebody else at this moment")
        os.replace(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
    os.fsync(parent)


def create(parent: int, name: str, data: bytes, wanted: Nature | int) -> None:
    """Put a file where none is; of a new one only the mode is `wanted`. Raises FileExistsError, OSError."""
    with _written(parent, name, data, wanted) as beside:
        os.link(beside, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        os.unlink(beside, dir_fd=parent)
    os.fsync(parent)


def store(parent: int, name: str, data: bytes) -> None:
    """Put a file of ours in a directory of ours, readable by us alone. Raises OSError."""
    with _written(parent, name, data, 0o600) as beside:
        os.replace(beside, name, src_dir_fd=parent, dst_dir_fd=parent)
    os.fsync(parent)


@contextlib.contextmanager
def _written(parent: int, name: str, data: bytes, wanted: Nature | int) -> Iterator[str]:
    """The name of a synced copy beside, which is taken away again if it does not come to its place."""
    beside = temporary(name)
    clear(parent, name)
    opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=parent)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(opened, rest) :]
            if isinstance(wanted, Nature):
                _give(opened, wanted, name)
            else:
                os.fchmod(opened, wanted)
            os.fsync(opened)
        finally:
            os.close(opened)
        yield beside
    except (OSError, Refused):
        with contextlib.suppress(OSError):
            os.unlink(beside, dir_fd=parent)
        raise


def clear(parent: int, name: str) -> None:
    """Take away what a crash has left beside a file."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary(name), dir_fd=parent)


def is_left(parent: int, name: str) -> bool:
    """Whether a crash has left something beside a file."""
    return kind(parent, temporary(name)) != ""


def move(source: int, name: str, target: int, new_name: str) -> None:
    """Rename within a file system, never over anything that is there. Raises FileExistsError, OSError (EXDEV where
    it is another file system)."""
    if kind(target, new_name):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new_name)
    os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)
    os.fsync(target)
    os.fsync(source)
