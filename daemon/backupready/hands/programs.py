"""How does a program run that changes the machine? Without shell, input and surroundings; and when its time is over,
all that it has started ends with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence

from backupready.model import Ran

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {"PATH": _PATH, "HOME": "/root", "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
_OUTPUT_LIMIT = 256 << 10  # bytes
_ERRORS_LIMIT = 4 << 10  # bytes
_LAST_WORDS = 10.0  # s; a package manager that is told to end leaves its database in order


def run(command: Sequence[str], timeout: float) -> Ran:
    """Raises OSError: FileNotFoundError where there is no such program, TimeoutError where it was ended.

    It is a session of its own: what ends us (a terminal that is closed, Ctrl-C) does not end it. Its output goes to
    files in memory and not through pipes, which a service that it starts would hold open.
    """
    program = shutil.which(command[0], path=_PATH)
    if program is None:
        raise FileNotFoundError(0, f"there is no {command[0]}")
    with _memory("output") as output, _memory("errors") as errors:
        child = subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        try:
            status = child.wait(timeout)
        except BaseException as error:
            _end(child)
            if isinstance(error, subprocess.TimeoutExpired):
                raise TimeoutError(0, f"{command[0]} has not ended after {timeout:g} s") from None
            raise
        told, cut = _read(output, _OUTPUT_LIMIT)
        return Ran(status, told, _read(errors, _ERRORS_LIMIT)[0].decode("utf-8", "replace"), cut)


@contextlib.contextmanager
def _memory(name: str) -> Iterator[int]:
    file = os.memfd_create(name)
    try:
        yield file
    finally:
        os.close(file)


def _read(file: int, limit: int) -> tuple[bytes, bool]:
    """What stands in it, at most so much, and whether there was more."""
    size = os.fstat(file).st_size
    return os.pread(file, limit, 0), size > limit


def _end(child: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, _LAST_WORDS), (signal.SIGKILL, 1.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
