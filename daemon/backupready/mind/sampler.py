"""How busy is the machine? A bounded ring of what the kernel's counters said, one entry every few seconds.

Nothing in here waits: all of it is read from /proc, which no disk can hold up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil

from backupready.model import CannotTell, Fixes, Outlook, Sample

INTERVAL = 10.0  # s
FIRST_INTERVAL = 1.0  # s; the first pair of samples stands soon, so that an idle machine is known as one
KEPT = 60  # samples: ten minutes
_BURST_INTERVAL = 0.25  # s
_BURST = 7  # samples
_PRESSURE_WORDS = {"cpu": "some", "io": "full", "memory": "full"}


def take() -> Sample:
    """What the counters say now. Raises CannotTell where the kernel does not show the processors or the memory."""
    try:
        times, memory, swap = psutil.cpu_times(), psutil.virtual_memory(), psutil.swap_memory()
    except (OSError, ValueError, LookupError, RuntimeError, psutil.Error) as error:
        raise CannotTell(f"cannot read the kernel's counters: {error}") from None
    # The kernel counts the time of guests in that of the user too.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    return Sample(
        at=time.monotonic(),
        cpu_busy=total - idle,
        cpu_steal=getattr(times, "steal", 0.0),
        cpu_total=total,
        memory_total=memory.total,
        memory_available=memory.available,
        swapped_in=swap.sin,
        swapped_out=swap.sout,
        oom_kills=_counter("vmstat", "oom_kill"),
        blocked=_counter("stat", "procs_blocked"),
        stalled_cpu=_stalled("cpu"),
        stalled_io_full=_stalled("io"),
        stalled_memory_full=_stalled("memory"),
        swap_total=swap.total,
    )


def _lines(name: str) -> list[str]:
    """A file of the kernel's, empty where it has none, or has it switched off."""
    try:
        return Path(psutil.PROCFS_PATH, name).read_text("ascii", "replace").splitlines()
    except OSError:
        return []


def _counter(name: str, key: str) -> int:
    """One of the kernel's counters, 0 where it has none of that name."""
    for line in _lines(name):
        found, _, value = line.partition(" ")
        if found == key and value.strip().isdigit():
            return int(value)
    return 0


def _stalled(resource: str) -> float | None:
    """Seconds of pressure since boot (Documentation/accounting/psi.rst); None where the kernel does not count it."""
    for line in _lines(f"pressure/{resource}"):
        kind, _, rest = line.partition(" ")
        total = rest.rpartition("total=")[2].strip()
        if kind == _PRESSURE_WORDS[resource] and total.isdigit():
            return int(total) / 1e6
    return None


class Sampler:
    """The ring. `due` is when the next sample is to be taken, monotonic seconds."""

    def __init__(self, take: Callable[[], Sample] = take) -> None:
        self._take = take
        self._ring: deque[Sample] = deque(maxlen=KEPT)
        self._trouble: CannotTell | None = None
        self.due = 0.0

    def sample_if_due(self, now: float) -> Sample | None:
        """The new sample, if one was taken."""
        if now < self.due:
            return None
        try:
            self._ring.append(self._take())
            self._trouble = None
        except CannotTell as error:
            self._trouble = error
        self.due = now + (FIRST_INTERVAL if len(self._ring) == 1 and self._trouble is None else INTERVAL)
        return self._ring[-1] if self._trouble is None else None

    def samples(self) -> tuple[Sample, ...]:
        """Oldest first. Raises CannotTell where the newest could not be taken."""
        if self._trouble is not None:
            raise self._trouble
        return tuple(self._ring)


def burst() -> tuple[Sample, ...]:
    """Samples for who has no ring: a few seconds' worth, taken now; none where the kernel shows nothing."""
    samples = []
    try:
        for number in range(_BURST):
            if number:
                time.sleep(_BURST_INTERVAL)
            samples.append(take())
    except CannotTell:
        return ()
    return tuple(samples)


class Sampled:
    """A machine of which nothing is known but samples, what is known of the backup's windows, and what the hands have
    told."""

    privileged = False
    wire_server = host_plugin = ""

    def __init__(
        self,
        samples: Callable[[], Sequence[Sample]],
        memory: Mapping[str, Any] | None = None,
        outlook: Callable[[], Outlook] | None = None,
        fixes: Callable[[], Fixes] | None = None,
    ) -> None:
        self._samples = samples
        self._outlook = outlook
        self._fixes = fixes
        self.memory: Mapping[str, Any] = memory or MappingProxyType({})

    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._samples())

    def outlook(self) -> Outlook:
        if self._outlook is None:
            raise CannotTell("nothing is known of the backup's windows here")
        return self._outlook()

    def fixes(self) -> Fixes:
        if self._fixes is None:
            raise CannotTell("nothing is known of what was fixed here")
        return self._fixes()

    def now(self) -> float:
        return time.time()

    def __getattr__(self, name: str) -> Any:
        def cannot(*_: object, **__: object) -> None:
            raise CannotTell(f"the resident process does not look for itself ({name})")

        return cannot
