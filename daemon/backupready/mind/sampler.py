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

from backupready.model import CannotTell, Sample

INTERVAL = 10.0  # s
KEPT = 60  # samples: ten minutes
_BURST_INTERVAL = 0.5  # s
_BURST = 7  # samples
_PRESSURE_WORDS = {"cpu": "some", "io": "full", "memory": "full"}


def take() -> Sample:
    """What the counters say now."""
    times = psutil.cpu_times()
    # The kernel counts the time of guests in that of the user too.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return Sample(
        at=time.monotonic(),
        cpu_busy=total - idle,
        cpu_steal=getattr(times, "steal", 0.0),
        cpu_total=total,
        memory_total=memory.total,
        memory_available=memory.available,
        swapped_in=swap.sin,
        swapped_out=swap.sout,
        oom_kills=_counter("/proc/vmstat", "oom_kill"),
        blocked=_counter("/proc/stat", "procs_blocked"),
        stalled_cpu=_stalled("cpu"),
        stalled_io_full=_stalled("io"),
        stalled_memory_full=_stalled("memory"),
    )


def _counter(path: str, name: str) -> int:
    """One of the kernel's counters, 0 where it has none of that name."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return 0


def _stalled(resource: str) -> float | None:
    """Seconds of pressure since boot (Documentation/accounting/psi.rst); None where the kernel does not count it."""
    try:
        text = Path(f"/proc/pressure/{resource}").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        if kind == _PRESSURE_WORDS[resource]:
            return int(rest.rpartition("total=")[2]) / 1e6
    return None


class Sampler:
    """The ring. `due` is when the next sample is to be taken, monotonic seconds."""

    def __init__(self) -> None:
        self._ring: deque[Sample] = deque(maxlen=KEPT)
        self.due = 0.0

    def sample_if_due(self, now: float) -> None:
        if now >= self.due:
            self._ring.append(take())
            self.due = now + INTERVAL

    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._ring)


def burst() -> tuple[Sample, ...]:
    """Samples for who has no ring: a few seconds' worth, taken now."""
    samples = [take()]
    while len(samples) < _BURST:
        time.sleep(_BURST_INTERVAL)
        samples.append(take())
    return tuple(samples)


class Sampled:
    """A machine of which nothing is known but samples."""

    privileged = False
    wire_server = host_plugin = ""

    def __init__(self, samples: Callable[[], Sequence[Sample]], memory: Mapping[str, Any] | None = None) -> None:
        self._samples = samples
        self.memory: Mapping[str, Any] = memory or MappingProxyType({})

    def samples(self) -> tuple[Sample, ...]:
        return tuple(self._samples())

    def now(self) -> float:
        return time.time()

    def __getattr__(self, name: str) -> Any:
        def cannot(*_: object, **__: object) -> None:
            raise CannotTell(f"the resident process does not look for itself ({name})")

        return cannot
