"""Is the machine so busy that the snapshot would be queued?

Judged in the resident process by what it has sampled. A moment above a threshold is nothing: every stretch between the
newest few samples must be above it, and what was found stays until their mean is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backupready.model import (
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Metric,
    Observation,
    Probe,
    Problem,
    Reading,
    Remember,
    Sample,
    Scalar,
    Setting,
    Settings,
    percent,
)

# Azure queues and delays the snapshot above 90 % of processor or memory (the troubleshooting article, "High CPU or
# memory").
_CPU_PERCENT = 90
_MEMORY_PERCENT = 90
# A single task that waits for its disk makes almost all time stalled time on an idle machine; so many tasks must wait
# as well, and no fewer than there are processors.
_STALLED_PERCENT = 60
_FEWEST_BLOCKED = 4
# Where the kernel does not count pressure (RHEL has it switched off), waiting tasks alone must say it.
_FEWEST_BLOCKED_ALONE = 8
_BLOCKED_ALONE_PER_CPU = 2
_THRASHING_PERCENT = 10  # of the time all tasks wait for memory
_SWAP_TRAFFIC = 1 << 20  # bytes a second, in and out together
_SAMPLES = 6  # stretches, one minute; `check` has as many within three seconds
_MOST_SAMPLES = 50
_LONGEST_STRETCH = 120.0  # s; after a longer one the machine was suspended, or we were
_SHORTEST_STRETCH = 0.1  # s; the kernel counts in hundredths
_ARTICLE = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"

PROBLEMS = (
    Problem(
        "CPU_SATURATED",
        "The processors are busy all the time",
        Effect.DEGRADES,
        Cause.PRESSURE,
        meaning="For the whole of the newest samples the processors were busier than the limit above which Azure queues"
        " or delays the snapshot. Where most of it is stolen time, it is the host that gives the machine too little: a"
        " burstable size without credits, or a crowded host.",
        diagnosis="`top -o %CPU`; `vmstat 5` (column `st` is stolen time); `cat /proc/pressure/cpu`",
        fix="Move the work out of the backup window, or the backup to a quieter hour, or give the machine more"
        " processors. A backup on demand in a quiet moment fills the gap.",
        source=_ARTICLE,
    ),
    Problem(
        "MEMORY_EXHAUSTED",
        "The memory is used up",
        Effect.DEGRADES,
        Cause.PRESSURE,
        milder=(Effect.RISKS, Effect.NOTICE),
        meaning="Hardly any memory is available, and the machine swaps, waits for memory, or has just killed a process"
        " for want of it: the snapshot is queued or delayed, and the agent or the extension may be the next to be"
        " killed. It is a mere risk where memory is short but nothing suffers from it, or where the last kill was"
        " minutes ago. A kill while there was memory at both ends is a notice: a container may have reached its own"
        " limit, or it was used up for seconds only.",
        diagnosis="`free -m`; `vmstat 5` (columns `si` and `so`); `journalctl -k | grep -i 'out of memory'`",
        fix="Find what uses the memory, or give the machine more. A backup on demand in a quiet moment fills the gap.",
        source=_ARTICLE,
    ),
    Problem(
        "IO_STALLED",
        "The machine waits for its disks all the time",
        Effect.DEGRADES,
        Cause.PRESSURE,
        milder=(Effect.RISKS,),
        meaning="Many tasks wait for a disk, and hardly anything else happens: flushing and freezing the file systems"
        " takes so long that a consistent snapshot may time out. It is a mere risk where the kernel does not count"
        " pressure and only the number of waiting tasks says it.",
        diagnosis="`cat /proc/pressure/io`; `iostat -x 5`; `ps -eo state,pid,args | grep ^D`; in the portal: the disk's"
        " and the size's consumed share of IOPS and bandwidth.",
        fix="Move the work out of the backup window, or the backup to a quieter hour, or take faster disks or a size"
        " with more bandwidth.",
        source=_ARTICLE,
    ),
)

METRICS = (
    Metric(
        "backupready_pressure_cpu_busy_ratio",
        "Share of the newest samples that the processors were busy.",
        clause="Share of time.",
    ),
    Metric(
        "backupready_pressure_cpu_steal_ratio",
        "Share of the newest samples that the host took from us.",
        clause="Share of time.",
    ),
    Metric("backupready_pressure_memory_available_ratio", "Share of the memory to be had without swapping."),
    Metric(
        "backupready_pressure_stalled_ratio",
        "Share of the newest samples that tasks waited: some of them for cpu, all for io and memory.",
        ("resource",),
        clause="Share of time that tasks waited.",
    ),
)


def _count(text: str) -> int:
    """How many stretches count."""
    if not (text.isascii() and text.isdigit() and len(text) < 4) or not 2 <= int(text) <= _MOST_SAMPLES:
        raise ValueError(f"{text!r} is no number from 2 to {_MOST_SAMPLES}")
    return int(text)


SETTINGS = (
    Setting(
        "pressure",
        "cpu_percent",
        str(_CPU_PERCENT),
        "From which share of busy processors on the machine counts as saturated.",
        percent,
        "a number from 1 to 99",
    ),
    Setting(
        "pressure",
        "memory_percent",
        str(_MEMORY_PERCENT),
        "From which share of used memory on, caches not counted, it counts as used up.",
        percent,
        "a number from 1 to 99",
    ),
    Setting(
        "pressure",
        "stalled_percent",
        str(_STALLED_PERCENT),
        "From which share of time on, in which everything waits for disks, the machine counts as stalled.",
        percent,
        "a number from 1 to 99",
    ),
    Setting(
        "pressure",
        "samples",
        str(_SAMPLES),
        "How many samples in a row must be above a threshold; they are ten seconds apart. With more than 6 a single"
        " check cannot tell that a machine is under pressure.",
        _count,
        f"a number from 2 to {_MOST_SAMPLES}",
    ),
)


@dataclass(frozen=True)
class _Stretch:
    """What happened between two samples; None is what the counters do not say: they went back, or are not there."""

    seconds: float
    busy: float | None
    steal: float | None
    used: float | None  # of the memory, at its end
    has_swap: bool
    swapped: float | None  # bytes a second
    blocked: int  # tasks, the fewer of its two ends
    processors: float | None
    stalled_cpu: float | None
    stalled_io: float | None
    stalled_memory: float | None
    killed: bool  # a process, for want of memory of the whole machine
    killed_anywhere: bool  # or of a container, or for a moment between the two


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Judge the newest stretches between samples."""
    count = settings["samples"]
    stretches = _stretches(machine.samples(), settings["memory_percent"])
    newest = stretches[-count:]
    held = machine.memory.get("active")
    held = tuple(held) if isinstance(held, (list, tuple)) else ()
    yield from _readings(newest)
    active: list[str] = []
    thrashing = False
    for seen in (
        *_judge_cpu(newest, settings, "CPU_SATURATED" in held),
        *_judge_memory(stretches, settings, "MEMORY_EXHAUSTED" in held),
        *_judge_disks(newest, settings, "IO_STALLED" in held),
    ):
        if isinstance(seen, Finding):
            if seen.effect is not Effect.NOTICE:
                active.append(seen.problem)
            thrashing = thrashing or (seen.problem == "MEMORY_EXHAUSTED" and seen.effect is None)
        # Who thrashes waits for disks too: that is the same finding. Where memory is a mere risk, it is not.
        if not (thrashing and isinstance(seen, Finding) and seen.problem == "IO_STALLED"):
            yield seen
    yield Remember({"active": active})


def _judge_cpu(newest: Sequence[_Stretch], settings: Settings, held: bool) -> Iterator[Observation]:
    busy = _known(stretch.busy for stretch in newest)
    lasting = _lasting(busy, settings["cpu_percent"], settings["samples"], held)
    if lasting is None:
        yield _too_few(busy, settings, "CPU_SATURATED")
    elif lasting:
        share, steal = _mean(busy), _mean(_known(stretch.steal for stretch in newest))
        evidence: dict[str, Scalar] = {
            "busy_percent": _in_percent(share),
            "steal_percent": _in_percent(steal),
            "seconds": _seconds(newest),
        }
        if steal > share / 2:
            evidence["throttled"] = "most of it is time that the host does not give"
        yield Finding("CPU_SATURATED", evidence=evidence)


def _judge_memory(stretches: Sequence[_Stretch], settings: Settings, held: bool) -> Iterator[Observation]:
    newest = stretches[-settings["samples"] :]
    used = _known(stretch.used for stretch in newest)
    traffic = _mean(_known(stretch.swapped for stretch in newest))
    stalled = _mean(_known(stretch.stalled_memory for stretch in newest))
    has_swap = any(stretch.has_swap for stretch in newest)
    lasting = _lasting(used, settings["memory_percent"], settings["samples"], held)
    suffers = traffic > _SWAP_TRAFFIC or stalled * 100 > _THRASHING_PERCENT
    evidence: dict[str, Scalar] = {
        "available_percent": _in_percent(1 - used[-1]) if used else None,
        "swap_bytes_per_second": round(traffic),
        "stalled_percent": _in_percent(stalled),
        "seconds": _seconds(newest),
    }
    if any(stretch.killed for stretch in newest) or (lasting and suffers):
        killed = any(stretch.killed for stretch in newest)
        yield Finding("MEMORY_EXHAUSTED", evidence={**evidence, "killed": killed})
    elif any(stretch.killed for stretch in stretches):
        yield Finding("MEMORY_EXHAUSTED", evidence={**evidence, "killed": True}, effect=Effect.RISKS)
    elif lasting and not has_swap:
        # With swap, what is not touched would have gone there if it were needed.
        yield Finding("MEMORY_EXHAUSTED", evidence={**evidence, "swap": "none"}, effect=Effect.RISKS)
    elif lasting is None:
        yield _too_few(used, settings, "MEMORY_EXHAUSTED")
    elif any(stretch.killed_anywhere for stretch in stretches):
        whose = "perhaps at a container's own limit"
        yield Finding("MEMORY_EXHAUSTED", evidence={**evidence, "killed": True, "whose": whose}, effect=Effect.NOTICE)


def _judge_disks(newest: Sequence[_Stretch], settings: Settings, held: bool) -> Iterator[Observation]:
    stalled = _known(stretch.stalled_io for stretch in newest)
    counts = [stretch.blocked for stretch in newest]
    processors = max(_known(stretch.processors for stretch in newest), default=1.0)
    waiting = _mean(counts) if held else min(counts, default=0)
    evidence: dict[str, Scalar] = {"blocked_tasks": round(waiting), "seconds": _seconds(newest)}
    if newest and not stalled:
        enough = max(_FEWEST_BLOCKED_ALONE, _BLOCKED_ALONE_PER_CPU * processors)
        if waiting >= enough and len(counts) < settings["samples"]:
            yield _too_few(counts, settings, "IO_STALLED", Effect.RISKS)
        elif waiting >= enough:
            yield Finding("IO_STALLED", evidence=evidence, effect=Effect.RISKS)
        return
    many = waiting >= max(_FEWEST_BLOCKED, processors)
    lasting = _lasting(stalled, settings["stalled_percent"], settings["samples"], held)
    if lasting is None and (many or not newest):
        yield _too_few(stalled, settings, "IO_STALLED")
    elif lasting and many:
        yield Finding("IO_STALLED", evidence={**evidence, "stalled_percent": _in_percent(_mean(stalled))})


def _readings(newest: Sequence[_Stretch]) -> Iterator[Observation]:
    """What can be measured at all."""
    if busy := _known(stretch.busy for stretch in newest):
        yield Reading("backupready_pressure_cpu_busy_ratio", _mean(busy))
    if steal := _known(stretch.steal for stretch in newest):
        yield Reading("backupready_pressure_cpu_steal_ratio", _mean(steal))
    if used := _known(stretch.used for stretch in newest):
        yield Reading("backupready_pressure_memory_available_ratio", round(1 - used[-1], 6))
    for resource, shares in (
        ("cpu", _known(stretch.stalled_cpu for stretch in newest)),
        ("io", _known(stretch.stalled_io for stretch in newest)),
        ("memory", _known(stretch.stalled_memory for stretch in newest)),
    ):
        if shares:
            yield Reading("backupready_pressure_stalled_ratio", _mean(shares), {"resource": resource})


# --------------------------------------------------------------------------------------------------- arithmetic


def _stretches(samples: Sequence[Sample], limit: float) -> list[_Stretch]:
    """The stretches since the last gap, oldest first; `limit` is from which share on memory counts as short."""
    found: list[_Stretch] = []
    if not samples:
        return found
    before = samples[0]
    for after in samples[1:]:
        seconds = after.at - before.at
        if not 0 <= seconds <= _LONGEST_STRETCH:
            found.clear()
        elif seconds < _SHORTEST_STRETCH:
            continue
        elif after.cpu_total > before.cpu_total:  # else it is another machine's counter, in a container that was moved
            found.append(_stretch(before, after, seconds, limit))
        before = after
    return found


def _stretch(before: Sample, after: Sample, seconds: float, limit: float) -> _Stretch:
    total = _grown(before.cpu_total, after.cpu_total)
    swapped_in, swapped_out = _grown(before.swapped_in, after.swapped_in), _grown(before.swapped_out, after.swapped_out)
    swapped = None if swapped_in is None or swapped_out is None else (swapped_in + swapped_out) / seconds
    uses = [use for use in (_used(before), _used(after)) if use is not None]
    # The kernel counts a container that reached its own limit as well; the machine then had memory left.
    killed_anywhere = after.oom_kills > before.oom_kills
    killed = killed_anywhere and max(uses, default=0.0) > limit
    return _Stretch(
        seconds=seconds,
        busy=_share(before.cpu_busy, after.cpu_busy, total),
        steal=_share(before.cpu_steal, after.cpu_steal, total),
        used=_used(after),
        has_swap=after.swap_total != 0,
        swapped=swapped,
        blocked=min(before.blocked, after.blocked),
        processors=None if total is None else total / seconds,
        stalled_cpu=_share(before.stalled_cpu, after.stalled_cpu, seconds),
        stalled_io=_share(before.stalled_io_full, after.stalled_io_full, seconds),
        stalled_memory=_share(before.stalled_memory_full, after.stalled_memory_full, seconds),
        killed=killed,
        killed_anywhere=killed_anywhere,
    )


def _used(sample: Sample) -> float | None:
    if sample.memory_total <= 0:
        return None
    return min(max(1 - sample.memory_available / sample.memory_total, 0.0), 1.0)


def _grown(before: float, after: float) -> float | None:
    """A counter that goes back (a machine that was moved, a container) says nothing."""
    return after - before if after >= before else None


def _share(before: float | None, after: float | None, whole: float | None) -> float | None:
    grown = None if before is None or after is None else _grown(before, after)
    return None if grown is None or not whole else min(grown / whole, 1.0)


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _lasting(shares: Sequence[float], limit: float, count: int, held: bool) -> bool | None:
    """Whether the newest `count` shares are all above the limit, or, if it was so before, in the mean. None where they
    are too few, and none of them says that it is not so."""
    if held and len(shares) == count:
        return _mean(shares) > limit
    if any(share <= limit for share in shares):
        return False
    return True if len(shares) == count else None


def _too_few(known: Sequence[float], settings: Settings, problem: str, effect: Effect | None = None) -> CannotTell:
    why = f"above the threshold in {len(known)} samples, of which {settings['samples']} are needed"
    return CannotTell(why if known else "there are too few samples yet", (problem,), effect)


def _mean(shares: Sequence[float]) -> float:
    return round(sum(shares) / len(shares), 6) if shares else 0.0


def _in_percent(share: float) -> float:
    return round(share * 100, 1)


def _seconds(stretches: Sequence[_Stretch]) -> int:
    return round(sum(stretch.seconds for stretch in stretches))


PROBE = Probe(
    name="pressure",
    question="Is the machine so busy that the snapshot would be queued?",
    access=Access.MIND,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=5),
    interval=timedelta(seconds=30),
    metrics=METRICS,
    settings=SETTINGS,
)
