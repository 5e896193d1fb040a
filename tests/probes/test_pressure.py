"""Pressure: what was found stays until the mean says otherwise, and no counter makes it crash."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import probes
from backupready.model import Looked, ProbeState, Sample
from backupready.observe import observe
from fake import FakeMachine, configuration

PROBE = probes.probe("pressure")
GIB = 1 << 30


def ring(busy: Sequence[float], step: float = 10.0) -> tuple[Sample, ...]:
    """Samples of two processors that were busy for these shares of the time between them."""
    samples, at, done = [], 0.0, 0.0
    for share in (0.0, *busy):
        at += step
        done += 2 * step * share
        samples.append(Sample(at, done, 0.0, 2 * at, 8 * GIB, 6 * GIB, 0, 0, 0, 0, 0.0, 0.0, 0.0, 2 * GIB))
    return tuple(samples)


def look(samples: Sequence[Sample], memory: Mapping[str, Any] | None = None) -> Looked:
    return observe(PROBE, FakeMachine(ring=tuple(samples), memory=memory or {}), configuration())


def seen(look: Looked) -> list[str]:
    assert look.state is ProbeState.OK, look.traceback
    return [finding.problem for finding in look.findings]


def test_one_dip_does_not_clear_what_was_found_and_a_quiet_minute_does() -> None:
    """Found only when every stretch is above the threshold; over when the mean of as many is not."""
    first = look(ring([0.99] * 6))
    assert seen(first) == ["CPU_SATURATED"]
    dip = [0.99] * 5 + [0.6]
    assert seen(look(ring(dip))) == []
    held = look(ring(dip), first.memory)
    assert seen(held) == ["CPU_SATURATED"]
    quiet = look(ring([*dip, 0.2]), held.memory)
    assert seen(quiet) == []
    assert seen(look(ring(dip), quiet.memory)) == []


def test_what_was_found_is_over_after_a_restart_or_a_gap_only_when_that_is_known() -> None:
    """With fewer samples than are needed what was found before neither stays nor ends by itself."""
    held = {"active": ["CPU_SATURATED"]}
    high, low = look(ring([0.99] * 2), held), look(ring([0.99, 0.1]), held)
    assert [code for one in high.unknown for code in one.problems] == ["CPU_SATURATED"]
    assert seen(low) == []
    assert low.unknown == ()


def test_the_numbers_are_told() -> None:
    """Means of the newest samples as ratios, of what the kernel counts."""
    readings = {(r.metric, *r.labels.values()): r.value for r in look(ring([0.5] * 12)).readings}
    assert readings == {
        ("backupready_pressure_cpu_busy_ratio",): pytest.approx(0.5),
        ("backupready_pressure_cpu_steal_ratio",): 0.0,
        ("backupready_pressure_memory_available_ratio",): pytest.approx(0.75),
        ("backupready_pressure_stalled_ratio", "cpu"): 0.0,
        ("backupready_pressure_stalled_ratio", "io"): 0.0,
        ("backupready_pressure_stalled_ratio", "memory"): 0.0,
    }


@pytest.mark.parametrize(
    ("key", "text"),
    [("cpu_percent", t) for t in ("0", "100", "x", "", "-5", "٣", "1e1")] + [("samples", t) for t in ("1", "51", "x")],
)
def test_a_setting_that_makes_no_sense_is_refused(key: str, text: str) -> None:
    """With words about what it should be."""
    (setting,) = [setting for setting in PROBE.settings if setting.key == key]
    with pytest.raises(ValueError, match="is no number from"):
        setting.parse(text)


COUNTER = st.floats(0, 1e15) | st.integers(0, 10).map(float)
WHOLE = st.integers(0, 1 << 50) | st.integers(0, 10)
SAMPLES = st.lists(
    st.builds(Sample, COUNTER, COUNTER, COUNTER, COUNTER, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE,
              COUNTER | st.none(), COUNTER | st.none(), COUNTER | st.none(), WHOLE | st.none()),
    max_size=12,
)  # fmt: skip
MEMORY = st.dictionaries(st.just("active"), st.none() | st.integers() | st.text() | st.lists(st.text() | st.none()))


@given(samples=SAMPLES, memory=MEMORY)
def test_counters_of_any_size_and_order(samples: list[Sample], memory: dict[str, Any]) -> None:
    """They may go back, stand still or jump: every ratio stays one, and nothing breaks."""
    told = look(samples, memory)
    assert told.state is ProbeState.OK, told.traceback
    assert all(math.isfinite(reading.value) and 0 <= reading.value <= 1 for reading in told.readings)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_cpu_is_found_cleared_or_unknown_as_the_newest_six_say(busy: list[float]) -> None:
    """Active if all of them are above the threshold, clear if one is not, unknown while they are too few."""
    told = look(ring(busy))
    newest = busy[-6:]
    if any(abs(share - 0.9) < 1e-6 for share in newest):
        return
    unknown = [code for one in told.unknown for code in one.problems]
    if any(share <= 0.9 for share in newest):
        assert (seen(told), unknown) == ([], [])
    elif len(newest) == 6:
        assert (seen(told), unknown) == (["CPU_SATURATED"], [])
    else:
        assert (seen(told), unknown) == ([], ["CPU_SATURATED"])
