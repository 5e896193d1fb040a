"""What have the hands told, and has somebody paused them? Read anew when the files change.

The hands replace their document as a whole; of a file that changes under the reader's hands the next time tells. The
pause file is wherever the settings say, also where nobody answers any more: a thread reads it, and nobody waits for it.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from pathlib import Path

from backupready import fixes
from backupready.model import CannotTell, Fixes, Pause

EVERY = 5.0  # s
_LIMIT = 1 << 20  # bytes; fifty attempts take some ten thousand
_LONGEST_PAUSE = 1000  # bytes of a pause file
_PAUSE_PATIENCE = 10.0  # s; a file that answers does so within moments


class Summary:
    """The document of the hands at a path. A missing one is fine: they have done nothing yet."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: object = None
        self._due = 0.0
        self._fixes: Fixes | None = None
        self.counters: Fixes | None = None  # as they were read last, and nothing else of it; None before
        self.unread = "it has not been read yet"  # why it cannot be read; empty where it can, or is not there

    @property
    def told(self) -> Fixes | None:
        """What it says, None where there is none, or none that can be read."""
        return self._fixes

    def fixes(self) -> Fixes:
        """What it says. Raises CannotTell."""
        if self.unread:
            raise CannotTell(f"cannot read what the hands have told in {self._path}: {self.unread}")
        return self._fixes or Fixes(0.0)

    def refresh(self, monotonic: float, at_once: bool = False) -> bool:
        """Read it again if it has changed; looked for every few seconds, or at once. Gives whether it was news."""
        if monotonic < self._due and not at_once:
            return False
        self._due = monotonic + EVERY
        try:
            known: object = _identity(os.stat(self._path, follow_symlinks=False))  # noqa: PTH116
        except OSError as error:
            known = error.errno
        if known == self._known:
            return False
        self._known = known
        before = self._fixes, self.unread
        self._fixes, self.unread = self._read()
        if not self.unread:
            told = self._fixes or Fixes(0.0)
            self.counters = Fixes(told.at, refused=told.refused, would_run=told.would_run, ended=told.ended)
        else:
            self._known = None  # what keeps it from being read may pass without a change of the file
        return (self._fixes, self.unread) != before

    def _read(self) -> tuple[Fixes | None, str]:
        try:
            return fixes.decode(_contents(self._path, _LIMIT)[0]), ""
        except FileNotFoundError:
            return None, ""
        except OSError as error:
            return None, error.strerror or str(error)
        except ValueError as error:
            return None, str(error)


def of(root: str) -> Summary:
    """Of the machine below a directory."""
    return Summary(str(Path(root, fixes.SUMMARY.lstrip("/"))))


def pause(path: str, now: float) -> Pause | None:
    """Whether fixes are paused by a file at a path; one that is there and cannot be read pauses too."""
    try:
        text, written = _contents(path, _LONGEST_PAUSE)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Pause(unread=f"cannot read {path}: {error.strerror or error}")
    except ValueError as error:
        return Pause(unread=f"cannot read {path}: {error}")
    return fixes.pause_of(text, written, now)


class PauseFile:
    """The pause file at a path, with the thread that alone touches it. No call waits for it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._wake = threading.Condition()
        self._newest: Pause | None = Pause(unread=f"{path} has not been read yet")
        self._due = float("-inf")
        self._asked: float | None = None  # monotonic; None where nothing is awaited
        self._closing = False
        self._thread: threading.Thread | None = None

    def refresh(self, monotonic: float) -> None:
        """Have it read again; every few seconds, and not before it has answered."""
        with self._wake:
            if monotonic < self._due or self._asked is not None:
                return
            self._due, self._asked = monotonic + EVERY, monotonic
            self._wake.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="pause", daemon=True)
            self._thread.start()

    def told(self, monotonic: float) -> Pause | None:
        """What it says; None where fixes are not paused."""
        with self._wake:
            if self._asked is not None and monotonic - self._asked >= _PAUSE_PATIENCE:
                return Pause(unread=f"{self.path} has not answered for {monotonic - self._asked:.0f} s")
            return self._newest

    def close(self) -> None:
        """The thread ends, as soon as the file answers."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()

    # ---- on the thread

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._asked is not None or self._closing)
                if self._closing:
                    return
            found = pause(self.path, time.time())
            with self._wake:
                self._newest, self._asked = found, None
                self._wake.notify_all()


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_size, found.st_ctime_ns


def _contents(path: str, limit: int) -> tuple[bytes, float]:
    """A regular file and when it was written. Raises OSError, and ValueError where it is too long."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:  # noqa: PTH123 - a descriptor
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"{Path(path).name} is no regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"it has more than {limit} bytes")
    return data, found.st_mtime
