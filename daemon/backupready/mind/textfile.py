"""How does node_exporter get the metrics where nobody may connect? A file for its textfile collector.

A thread of its own writes it, so that nobody waits for a frozen disk; it always writes the newest there is. It is asked
by the loop only: a daemon that no longer turns lets its file grow old.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import Callable

from backupready.journal import LOG
from backupready.model import Verdict

_CLOSE_TIMEOUT = 5.0  # s; a frozen disk does not keep the daemon from stopping


class TextFile:
    """The file at `path`, which `render` gives the content of; written at most every `interval` seconds, and at once
    when the verdict changes."""

    def __init__(self, path: str, interval: float, render: Callable[[], bytes]) -> None:
        self._path = Path(path)
        self._interval = interval
        self._render = render
        self._wake = threading.Condition()
        self._wanted = self._closing = False
        self._offered: tuple[Verdict, float] | None = None
        self._told: set[str] = set()  # since it could be written last
        self.failures = 0  # writes that failed
        self._thread = threading.Thread(target=self._work, name="textfile", daemon=True)
        self._thread.start()

    def offer(self, verdict: Verdict, now: float) -> None:
        """Have it written if it is time; `now` is a moment of any clock that does not jump."""
        if self._offered is not None and self._offered[0] is verdict and now - self._offered[1] < self._interval:
            return
        self._offered = verdict, now
        with self._wake:
            self._wanted = True
            self._wake.notify_all()

    def close(self) -> None:
        """Remove the file: what it says holds no longer. Waits for a frozen disk no longer than a few seconds."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join(_CLOSE_TIMEOUT)

    # ---- on the thread

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._wanted or self._closing)
                closing, self._wanted = self._closing, False
            if closing:
                for file in (self._temporary, self._path):
                    with contextlib.suppress(OSError):
                        file.unlink()
                return
            try:
                self._replace(self._render())
            except OSError as error:
                self._fail(error.strerror or repr(error))
            except Exception as error:  # noqa: BLE001 - the next one may be written again
                self._fail(type(error).__name__, error)
            else:
                self._told.clear()

    def _fail(self, why: str, defect: Exception | None = None) -> None:
        """Told once of a kind; the file's age tells it to Prometheus."""
        self.failures += 1
        if why not in self._told:
            self._told.add(why)
            what = "cannot write %s: %s; node_exporter has an old verdict or none"
            LOG.log(logging.WARNING if defect is None else logging.ERROR, what, self._path, why, exc_info=defect)

    @property
    def _temporary(self) -> Path:
        return self._path.with_name(f".{self._path.name}.new")

    def _replace(self, data: bytes) -> None:
        """The whole file or none. It is not waited for to be on the disk: after a crash it is written anew."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._temporary, flags, 0o644), "wb") as file:
            os.fchmod(file.fileno(), 0o644)  # whatever the umask is: others are to read it
            file.write(data)
        self._temporary.replace(self._path)
