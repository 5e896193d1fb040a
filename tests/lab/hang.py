"""How does a dead network file system look to who reads from it? One whose server, this process, does not answer.

It speaks the kernel's FUSE protocol just far enough to be mounted. Should this process die, the kernel ends the
connection by itself, and whoever hung on it goes on with an error.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import stat
import struct
import threading

from .guest import Guest, LabError
from .mount import Mount

_REQUEST = struct.Struct("=IIQQIIIHH")  # struct fuse_in_header of linux/fuse.h
_ANSWER = struct.Struct("=IiQ")  # struct fuse_out_header
_INIT = struct.Struct("=IIIIHHIIHHI28x")  # struct fuse_init_out
_INIT_OPERATION = 26
_VERSION = (7, 31)
_LONGEST = 1 << 20  # bytes of a request


class Hang(enum.Enum):
    """How deep who reads hangs."""

    KILLABLE = "the server never takes the request: a signal ends the wait"
    IN_KERNEL = "the server took the request: nothing but its own end does"


class HangingMount(Mount):
    """Mounted over a file or directory of the guest until the end of the block; whoever touches it hangs until then."""

    def __init__(self, guest: Guest, path: str, hang: Hang) -> None:
        super().__init__(guest, path)
        self._hang = hang
        self._device = -1
        self._stopping = threading.Event()
        self._swallower = threading.Thread(target=self._swallow, daemon=True)
        self.swallowed = 0  # requests that were taken and not answered

    def _mount(self) -> None:
        mode = stat.S_IFMT(self._guest.path(self._path).stat().st_mode)
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        options = f"fd={self._device},rootmode={mode:o},user_id=0,group_id=0,allow_other"
        self._inside(
            "mount", "-i", "-t", "fuse", "-o", options, "backupready-lab", self._path, pass_fds=(self._device,)
        )
        self._mounted = True
        if not select.select([self._device], [], [], 10)[0]:
            raise LabError(f"cannot mount over {self._path}: the kernel does not begin to speak")
        request = os.read(self._device, _LONGEST)
        _, operation, unique, *_ = _REQUEST.unpack_from(request)
        if operation != _INIT_OPERATION:
            raise LabError(f"cannot mount over {self._path}: the kernel begins with operation {operation}")
        (ahead,) = struct.unpack_from("=8xI", request, _REQUEST.size)
        body = _INIT.pack(*_VERSION, ahead, 0, 12, 9, 4096, 1, 0, 0, 0)
        os.write(self._device, _ANSWER.pack(_ANSWER.size + len(body), 0, unique) + body)
        if self._hang is Hang.IN_KERNEL:
            self._swallower.start()

    def _swallow(self) -> None:
        """Take every request and answer none."""
        while not self._stopping.is_set():
            if select.select([self._device], [], [], 0.1)[0]:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._device, _LONGEST)
                    self.swallowed += 1

    def _remove(self) -> None:
        self._stopping.set()
        if self._swallower.is_alive():
            self._swallower.join()
        if self._device >= 0:
            os.close(self._device)  # ends the connection, and every wait with it
            self._device = -1
        if self._mounted:
            self._inside("umount", "-i", "-c", "--lazy", self._path)
            self._mounted = False
