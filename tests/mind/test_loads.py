"""The loads of five minutes, out of samples and a wall clock that may not be trusted; and the log of them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.mind.loads import KEPT, SLOT, FiveMinutes, Loads
from backupready.model import Load, Sample
from measured import measured

NOON = 1_700_000_100.0  # a multiple of 300
GIB = 1 << 30


def samples(
    seconds: float,
    step: float = 10.0,
    at: float = NOON,
    monotonic: float = 1000.0,
    cpu: float = 0.5,
    used: float = 0.25,
    steal: float = 0.1,
    io: float | None = 0.2,
) -> Iterator[tuple[Sample, float]]:
    """A machine with four processors under a steady load, and when each sample was taken by the wall clock."""
    for number in range(int(seconds / step) + 1):
        passed = number * step
        now = monotonic + passed
        yield (
            Sample(
                at=now,
                cpu_busy=cpu * 4 * now,
                cpu_steal=steal * 4 * now,
                cpu_total=4 * now,
                memory_total=8 * GIB,
                memory_available=int(8 * GIB * (1 - used)),
                swapped_in=0,
                swapped_out=0,
                oom_kills=0,
                blocked=0,
                stalled_io_full=None if io is None else io * now,
            ),
            at + passed,
        )


def loads_of(*taken: Iterable[tuple[Sample, float]]) -> list[Load]:
    slots = FiveMinutes()
    given = [slots.add(sample, at) for some in taken for sample, at in some]
    return [load for load in given if load is not None]


def test_each_five_minutes_give_one_load() -> None:
    """When they are over, by the wall clock, with the shares of the time between the samples."""
    assert loads_of(samples(900)) == [Load(NOON + slot * SLOT, 0.5, 0.25, 0.1, 0.2) for slot in range(3)]
    assert loads_of(samples(290)) == []


def test_samples_need_not_fall_on_the_borders() -> None:
    """A stretch that lies across one counts on both sides, by its time."""
    (first, second) = loads_of(samples(700, step=100, at=NOON - 50), samples(0, at=NOON + 660, monotonic=1710, cpu=0.5))
    assert (first.start, second.start) == (NOON, NOON + SLOT)
    assert (first.cpu, second.cpu) == (0.5, 0.5)
    busy = list(samples(600, step=100, at=NOON - 50))
    # All of one stretch, the one from 250 to 350 s, is busy: half of it belongs to each slot.
    rising = [(replace(sample, cpu_busy=0.0 if at <= NOON + 250 else 400.0, cpu_steal=0.0), at) for sample, at in busy]
    (load, *_) = loads_of(rising)
    assert load.cpu == pytest.approx(200 / 1200, abs=1e-4)


def test_memory_counts_at_its_highest() -> None:
    """A sample that falls on a border belongs to the slot that begins there."""
    taken = list(samples(600))
    for index, used in ((7, 0.75), (30, 0.875)):
        sample, at = taken[index]
        taken[index] = (replace(sample, memory_available=int(8 * GIB * (1 - used))), at)
    assert [load.memory for load in loads_of(taken)] == [0.75, 0.875]


def test_a_kernel_that_does_not_count_pressure_gives_none() -> None:
    """Also if it begins to within the slot."""
    assert [load.io for load in loads_of(samples(300, io=None))] == [None]
    taken = [
        (replace(sample, stalled_io_full=None), at) if at < NOON + 200 else (sample, at) for sample, at in samples(300)
    ]
    assert [load.io for load in loads_of(taken)] == [None]


@pytest.mark.parametrize(("begin", "expected"), [(100, [NOON]), (130, [])], ids=["200 s", "170 s"])
def test_a_slot_of_which_little_was_seen_gives_none(begin: int, expected: list[float]) -> None:
    """Three minutes are the least."""
    taken = [(sample, at) for sample, at in samples(300) if at >= NOON + begin]
    assert [load.start for load in loads_of(taken)] == expected


def test_a_gap_does_not_count() -> None:
    """What happened while nobody sampled for more than two minutes is not known."""
    taken = list(samples(300))
    assert [load.start for load in loads_of([pair for pair in taken if not NOON + 50 < pair[1] < NOON + 150])] == [NOON]
    assert loads_of([pair for pair in taken if not NOON + 50 < pair[1] < NOON + 180]) == []
    assert loads_of(samples(250), samples(0, at=NOON + 3000, monotonic=4000)) == [Load(NOON, 0.5, 0.25, 0.1, 0.2)]


def test_a_suspended_machine_gives_no_wrong_load() -> None:
    """The wall clock went on, the monotonic one did not: the slot ends without a load, and the next is right."""
    before, after = samples(250), samples(600, at=NOON + 3900, monotonic=1260, cpu=0.75, steal=0)
    assert loads_of(before, after) == [Load(NOON + 3900 + slot * SLOT, 0.75, 0.25, 0.0, 0.2) for slot in range(2)]


@pytest.mark.parametrize("jump", [-(10**9), -86400, -600, -60, 60, 86400, 10**9])
def test_a_clock_that_is_set_gives_no_wrong_load(jump: float) -> None:
    """The slot in which it is set is counted from then on; what is given has the machine's shares."""
    loads = loads_of(samples(150), samples(1200, at=NOON + 160 + jump, monotonic=1160))
    assert {(load.cpu, load.memory, load.steal, load.io) for load in loads} == {(0.5, 0.25, 0.1, 0.2)}
    assert all(load.start + 120 >= NOON + 160 + jump for load in loads)
    assert len(loads) >= 3


def test_a_clock_that_is_corrected_a_little_loses_nothing() -> None:
    """A few seconds forth and back, as with an early time server."""
    taken = [(sample, at + (7 if (at - NOON) % 50 else -7)) for sample, at in samples(900)]
    loads = loads_of(taken)
    assert [load.start for load in loads] == [NOON, NOON + SLOT, NOON + 2 * SLOT][: len(loads)]
    assert len(loads) >= 2
    assert {load.cpu for load in loads} == {0.5}


def test_counters_that_go_back_do_not_count() -> None:
    """As after a reboot under a daemon that did not notice (a container that was moved)."""
    moved = samples(440, at=NOON + 160, monotonic=1160)
    back = ((replace(s, cpu_busy=s.cpu_busy - 2200, cpu_total=s.cpu_total - 4400), at) for s, at in moved)
    loads = loads_of(samples(150), back)
    assert [load.start for load in loads] == [NOON, NOON + SLOT]
    assert {load.cpu for load in loads} == {0.5}
    rebooted = samples(300, at=NOON + 150, monotonic=5)
    assert loads_of(samples(140), rebooted) == []


@given(
    st.lists(
        st.tuples(
            st.floats(-200, 400),  # of the monotonic clock
            st.sampled_from([0.0, 0.0, 0.0, -10.0, 25.0, 3600.0, -3600.0]),  # of the wall clock beyond it
            st.floats(0, 1),
            st.floats(-0.1, 1),
        ),
        max_size=60,
    )
)
def test_no_samples_give_a_load_that_cannot_be(steps: list[tuple[float, float, float, float]]) -> None:
    """Whatever the clocks and counters do: shares are 0 to 1, and slots are whole."""
    slots, now, at, busy, total, stolen = FiveMinutes(), 5000.0, NOON, 0.0, 0.0, 0.0
    for passed, beyond, share, other in steps:
        now, at = now + passed, at + passed + beyond
        total, busy, stolen = total + passed, busy + passed * share, stolen + passed * other
        sample = Sample(now, busy, stolen, total, 100, int(100 * share), 0, 0, 0, 0, stalled_io_full=busy)
        load = slots.add(sample, at)
        if load is not None:
            assert load.start % SLOT == 0
            assert load.start < at
            for value in (load.cpu, load.memory, load.steal, load.io):
                assert value is None or 0 <= value <= 1


# --------------------------------------------------------------------------------------------------------- the log


def made(slot: int, cpu: float = 0.5, io: float | None = None) -> Load:
    return Load(float(slot * SLOT), cpu, 0.1234, 0.9999, io)


def test_the_log_gives_what_overlaps() -> None:
    """A load of which any part lies in the span, oldest first, exactly as it was."""
    log = Loads()
    for slot in (12, 10, 11, 14, 13):
        log.add(made(slot, slot / 100, None if slot % 2 else 1.0))
    everything = tuple(made(slot, slot / 100, None if slot % 2 else 1.0) for slot in range(10, 15))
    assert tuple(log) == everything
    assert log.overlapping(0, 1e10) == everything
    assert log.overlapping(11 * SLOT, 12 * SLOT) == everything[1:2]
    assert log.overlapping(12 * SLOT - 1, 12 * SLOT + 1) == everything[1:3]
    assert log.overlapping(15 * SLOT, 1e10) == ()
    assert log.overlapping(0, 10 * SLOT) == ()
    assert log.overlapping(-1e10, -1e9) == ()


def test_what_is_given_from_a_moment_on_does_not_change_any_more() -> None:
    """A log of its own, for another thread to read."""
    log = Loads()
    for slot in range(10, 15):
        log.add(made(slot))
    part = log.since(12 * SLOT)
    later = log.since(12 * SLOT + 1)
    log.add(made(12, 0.9))
    log.add(made(15))
    assert tuple(part) == (made(12), made(13), made(14))
    assert tuple(later) == (made(13), made(14))
    assert tuple(log.since(16 * SLOT)) == ()
    assert len(log.since(-1e10)) == 6


def test_of_the_same_five_minutes_the_newest_counts() -> None:
    """As after a clock that was set back."""
    log = Loads()
    for cpu in (0.1, 0.2, 0.3):
        log.add(made(10))
        log.add(made(11, cpu))
    assert tuple(log) == (made(10), made(11, 0.3))


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 20), st.integers(0, 12000), st.integers(0, 3000))
def test_the_log_is_a_bounded_sorted_set(slots: list[int], most: int, start: int, length: int) -> None:
    """Held against the plain way to say it; what is added late and is older than all of a full log is not kept."""
    log, plain = Loads(timedelta(seconds=most * SLOT)), dict[int, Load]()
    for number, slot in enumerate(slots):
        log.add(made(slot, number / 100))
        plain[slot] = made(slot, number / 100)
        plain = dict(sorted(plain.items())[-most:])
    assert tuple(log) == tuple(plain.values())
    assert len(log) == len(plain)
    end = start + length
    assert log.overlapping(start, end) == tuple(
        load for load in plain.values() if load.start < end and load.start + SLOT > start
    )


@pytest.mark.parametrize("start", [1.0, -300.0, 1e15, float("nan")])
def test_what_is_no_slot_is_refused(start: float) -> None:
    """It says so, and keeps what it has."""
    log = Loads()
    log.add(made(1))
    with pytest.raises(ValueError, match="no five minutes begin then"):
        log.add(replace(made(1), start=start))
    assert tuple(log) == (made(1),)


def test_five_weeks_take_little_memory() -> None:
    """Every five minutes, and no more than that however long it goes on."""
    tracemalloc.start()
    try:
        log = Loads()
        for slot in range(12000):
            log.add(made(slot, io=0.5))
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(log) == KEPT // timedelta(seconds=SLOT) == 10080
    assert used < 40 * len(log)
    measured(f"the log of {len(log)} loads: {used / 1000:.0f} kB")
