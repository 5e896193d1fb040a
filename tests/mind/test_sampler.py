"""The ring of samples: its bound, its pace, and kernels that show less than others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from backupready.mind import sampler
from backupready.mind.sampler import FIRST_INTERVAL, INTERVAL, KEPT, Sampled, Sampler
from backupready.model import CannotTell, Machine, Outlook, Sample

SAMPLE = Sample(0.0, 1.0, 0.0, 2.0, 1 << 30, 1 << 29, 0, 0, 0, 0)
STAT = """\
cpu  1000 0 500 8000 300 0 0 200 0 0
cpu0 1000 0 500 8000 300 0 0 200 0 0
ctxt 1
btime 1700000000
procs_running 1
procs_blocked 3
"""
# Of the older psutil some are needed that nobody here asks for.
MEMORY = """\
MemTotal:        8000000 kB
MemFree:         1000000 kB
MemAvailable:    4000000 kB
Buffers:          100000 kB
Cached:          2000000 kB
Active:          1000000 kB
Inactive:        1000000 kB
Shmem:            100000 kB
SwapTotal:       2000000 kB
SwapFree:        2000000 kB
"""
VMSTAT = "pswpin 10\npswpout 20\noom_kill 2\n"
NONE = "avg10=0.00 avg60=0.00 avg300=0.00 total"
PRESSURE = {
    "cpu": f"some {NONE}=1500000\nfull {NONE}=0\n",
    "io": f"some {NONE}=9000000\nfull {NONE}=2500000\n",
    "memory": f"some {NONE}=1\nfull {NONE}=500000\n",
}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a kernel that shows everything."""
    (tmp_path / "pressure").mkdir()
    for name, text in {"stat": STAT, "meminfo": MEMORY, "vmstat": VMSTAT}.items():
        (tmp_path / name).write_text(text)
    for name, text in PRESSURE.items():
        (tmp_path / "pressure" / name).write_text(text)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    return tmp_path


def test_a_sample_holds_what_the_kernel_says(proc: Path) -> None:
    """Busy is what is neither idle nor waiting for a disk; the host's share is told apart."""
    sample = sampler.take()
    tick = os.sysconf("SC_CLK_TCK")
    assert sample.cpu_total == pytest.approx(10000 / tick)
    assert sample.cpu_busy == pytest.approx(1700 / tick)
    assert sample.cpu_steal == pytest.approx(200 / tick)
    assert (sample.memory_total, sample.memory_available) == (8_000_000 << 10, 4_000_000 << 10)
    assert (sample.swapped_in, sample.swapped_out) == (10 * 4096, 20 * 4096)
    assert (sample.oom_kills, sample.blocked) == (2, 3)
    assert (sample.stalled_cpu, sample.stalled_io_full, sample.stalled_memory_full) == (1.5, 2.5, 0.5)


def test_a_kernel_without_pressure_says_none(proc: Path) -> None:
    """RHEL has it switched off: no directory, or files that cannot be read."""
    (proc / "pressure/cpu").unlink()
    (proc / "pressure/io").unlink()
    (proc / "pressure/io").mkdir()
    (proc / "pressure/memory").write_text("")
    sample = sampler.take()
    assert (sample.stalled_cpu, sample.stalled_io_full, sample.stalled_memory_full) == (None, None, None)


@pytest.mark.parametrize("text", ["", "some total=1\n", "full avg10=1\n", "full avg10=0 total=many\n", "\xff\x00"])
def test_pressure_of_another_form_is_none(proc: Path, text: str) -> None:
    """A number that is not there is not zero."""
    (proc / "pressure/io").write_text(text, encoding="latin-1")
    assert sampler.take().stalled_io_full is None


@pytest.mark.parametrize("text", ["", "oom_kills 7\n", "oom_kill\n", "oom_kill x\n"])
def test_a_counter_that_the_kernel_does_not_have_is_zero(proc: Path, text: str) -> None:
    """Before Linux 4.13 nobody counts the kills."""
    (proc / "vmstat").write_text("pswpin 0\npswpout 0\n" + text)
    assert sampler.take().oom_kills == 0


@pytest.mark.parametrize("name", ["stat", "meminfo"])
def test_a_kernel_that_hides_the_machine_cannot_be_sampled(proc: Path, name: str) -> None:
    """That is a reason, and no end of the loop; afterwards it goes on."""
    (proc / name).rename(proc / "hidden")
    ring = Sampler()
    ring.sample_if_due(100.0)
    with pytest.raises(CannotTell, match="cannot read the kernel's counters"):
        ring.samples()
    assert sampler.burst() == ()
    assert ring.due == 100.0 + INTERVAL
    (proc / "hidden").rename(proc / name)
    ring.sample_if_due(ring.due)
    assert len(ring.samples()) == 1


def counting() -> Callable[[], Sample]:
    taken = iter(range(10_000))
    return lambda: replace(SAMPLE, at=float(next(taken)))


def test_the_ring_keeps_the_newest() -> None:
    """It never grows over its bound."""
    ring = Sampler(counting())
    for _ in range(KEPT + 25):
        ring.sample_if_due(ring.due)
    assert [sample.at for sample in ring.samples()] == [float(n) for n in range(25, KEPT + 25)]


def test_the_second_sample_follows_soon_and_the_others_at_their_pace() -> None:
    """So that an idle machine is known as one a moment after the start. Between the moments nothing is read."""
    ring = Sampler(counting())
    moments = []
    for tick in range(350):
        before = len(ring.samples())
        ring.sample_if_due(1000.0 + tick / 10)
        if len(ring.samples()) > before:
            moments.append(tick / 10)
    assert moments == [0.0, FIRST_INTERVAL, FIRST_INTERVAL + INTERVAL, FIRST_INTERVAL + 2 * INTERVAL,
                       FIRST_INTERVAL + 3 * INTERVAL]  # fmt: skip


def test_what_is_late_is_not_made_up_for() -> None:
    """After a pause of the loop there is one sample and not many."""
    ring = Sampler(counting())
    ring.sample_if_due(0.0)
    ring.sample_if_due(5000.0)
    ring.sample_if_due(5000.1)
    assert len(ring.samples()) == 2
    assert ring.due == 5000.0 + INTERVAL


def test_a_burst_has_as_many_stretches_as_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six by default: a single check can tell."""
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    assert len(sampler.burst()) == 7
    assert len(waits) == 6
    assert sum(waits) == 1.5


def test_the_resident_process_looks_at_nothing_but_samples() -> None:
    """Whatever else a probe asks of it cannot be told."""
    machine: Machine = Sampled(lambda: [SAMPLE], {"key": 1})
    assert machine.samples() == (SAMPLE,)
    assert machine.memory == {"key": 1}
    assert not machine.privileged
    for ask in (lambda: machine.read("/etc/passwd"), machine.processes, machine.kernel):
        with pytest.raises(CannotTell, match="the resident process does not look for itself"):
            ask()


def test_the_windows_are_known_to_who_is_given_them() -> None:
    """Asked for at each look anew; without them it cannot be told."""
    moments = iter([1.0, 2.0])
    machine: Machine = Sampled(list, outlook=lambda: Outlook(at=next(moments)))
    assert [machine.outlook().at, machine.outlook().at] == [1.0, 2.0]
    with pytest.raises(CannotTell, match="nothing is known of the backup's windows"):
        Sampled(list).outlook()
