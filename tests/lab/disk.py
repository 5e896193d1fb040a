"""How does a frozen disk look to who writes to it? A small ext4 file system of its own in the guest can be frozen.

Nothing else is ever frozen. While it is, a second process holds it open and thaws it when it is told to, when a
deadline has passed, or as soon as the process that froze it is gone, however it ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from .guest import Guest, LabError
from .mount import Mount, tool

_SIZE = 64 << 20  # bytes
_FREEZE = 0xC0045877  # FIFREEZE of linux/fs.h, _IOWR('X', 119, int)
_THAW = 0xC0045878  # FITHAW
_NODE = "/dev/backupready-lab-disk"  # the guest's /dev has no loop devices
# Waits for the end of its standard input, and no longer than it is told; then thaws.
_GUARD = """\
import fcntl, select, sys
opened, seconds, thaw = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
select.select([0], [], [], seconds)
try:
    fcntl.ioctl(opened, thaw, 0)
except OSError:
    pass
"""


class LoopDisk(Mount):
    """An empty file system on a loop device, mounted over a directory of the guest until the end of the block. Whoever
    uses the directory must have let go of it by then."""

    def __init__(self, guest: Guest, directory: str) -> None:
        super().__init__(guest, directory)
        self._image = guest.directory / "loop-disk.img"
        self._number = 0  # of the loop device
        self._guard: subprocess.Popen[str] | None = None

    @property
    def root(self) -> Path:
        """Where this machine sees the file system."""
        return self._guest.root / self._path.lstrip("/")

    def freeze(self, longest: float) -> None:
        """Whoever writes waits from now on, until `thaw` or for `longest` seconds."""
        if self._guard is not None:
            raise LabError(f"cannot freeze {self._path}: it is frozen")
        with self._open() as opened:
            if not self._mounted or os.fstat(opened).st_dev != self._number:
                raise LabError(f"cannot freeze {self._path}: what lies there is not on the loop device")
            self._guard = subprocess.Popen(
                [sys.executable, "-c", _GUARD, str(opened), str(longest), str(_THAW)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                pass_fds=(opened,),
                start_new_session=True,
            )
            assert self._guard.stdout is not None
            try:
                if self._guard.stdout.readline() != "ready\n":
                    raise LabError(f"cannot freeze {self._path}: nobody would thaw it")
                fcntl.ioctl(opened, _FREEZE, 0)
            except BaseException:
                self.thaw()
                raise

    def thaw(self) -> None:
        """Whoever waits goes on; harmless when it is not frozen."""
        guard, self._guard = self._guard, None
        if guard is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            guard.communicate("", timeout=10)
        # Should the guard have failed, it is done here: this one is refused when it is thawed already.
        with contextlib.suppress(OSError), self._open() as opened:
            fcntl.ioctl(opened, _THAW, 0)
        if guard.poll() is None:
            guard.kill()
            guard.wait()

    # ---- how it is put together

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        opened = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield opened
        finally:
            os.close(opened)

    def _mount(self) -> None:
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        tool("mkfs.ext4", "-q", "-F", str(self._image))
        device = tool("losetup", "--find", "--show", str(self._image))
        try:
            self._number = Path(device).stat().st_rdev
            node = ("b", str(os.major(self._number)), str(os.minor(self._number)))
            self._inside("mknod", _NODE, *node)
            self._inside("mount", "-t", "ext4", _NODE, self._path)
            self._mounted = True
        finally:
            tool("losetup", "--detach", device)  # once it is used no more, by us or by the guest

    def _remove(self) -> None:
        self.thaw()
        with contextlib.suppress(LabError):
            self._inside("rm", "-f", _NODE)
        deadline = time.monotonic() + 10
        while self._mounted:
            try:
                self._inside("umount", self._path)
                self._mounted = False
            except LabError:
                if time.monotonic() > deadline:
                    self._inside("umount", "--lazy", self._path)
                    self._mounted = False
                    raise
                time.sleep(0.2)
        self._image.unlink(missing_ok=True)
