"""How does something get mounted over a path of the guest, and surely off it again?"""

from __future__ import annotations

import subprocess
from collections.abc import Collection
from types import TracebackType
from typing import TypeVar

from .guest import Guest, LabError

AMount = TypeVar("AMount", bound="Mount")


class Mount:
    """Mounted over a path of the guest until the end of the block; what was half made is taken down as well."""

    def __init__(self, guest: Guest, path: str) -> None:
        self._guest = guest
        self._path = path
        self._mounted = False

    def __enter__(self: AMount) -> AMount:
        try:
            self._mount()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _mount(self) -> None:
        raise NotImplementedError

    def _remove(self) -> None:
        """Also of what was only begun."""
        raise NotImplementedError

    def _inside(self, *argv: str, pass_fds: Collection[int] = ()) -> None:
        """In the guest's mounts, and among its processes for /proc/self, with all of this machine's capabilities."""
        tool("nsenter", f"--target={self._guest.leader}", "--mount", "--pid", "--", *argv, pass_fds=pass_fds)


def tool(*argv: str, pass_fds: Collection[int] = ()) -> str:
    """A command of this machine; what it prints."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, pass_fds=pass_fds)
    if done.returncode != 0:
        raise LabError(f"cannot run `{' '.join(argv)}`: {done.stderr.strip()}")
    return done.stdout.strip()
