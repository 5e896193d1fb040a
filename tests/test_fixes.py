"""The document in which the hands tell what they did."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import fixes
from backupready.model import Attempt, Fixes, Limit, Pause, Result, Temporary

TEXT = st.text(max_size=10)
MOMENT = st.floats(0, 1e12)
ATTEMPT = st.builds(
    Attempt,
    st.integers(1, 1000),
    TEXT,
    TEXT,
    TEXT,
    TEXT,
    MOMENT,
    st.sampled_from(Result),
    st.none() | MOMENT,
    st.lists(TEXT, max_size=3).map(tuple),
    st.lists(st.integers(0, 9), max_size=3).map(tuple),
)
FIXES = st.builds(
    Fixes,
    MOMENT,
    st.lists(ATTEMPT, max_size=3).map(tuple),
    st.lists(st.builds(Temporary, st.integers(1, 99), TEXT, MOMENT), max_size=3).map(tuple),
    st.lists(st.builds(Limit, TEXT, TEXT, TEXT, TEXT, st.none() | MOMENT), max_size=3).map(tuple),
    st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
    st.dictionaries(st.tuples(TEXT, TEXT), st.integers(0, 99), max_size=3),
    st.dictionaries(TEXT, st.integers(0, 99), max_size=3),
    st.dictionaries(st.tuples(TEXT, TEXT), st.lists(TEXT, max_size=3).map(tuple), max_size=3),
    st.dictionaries(st.tuples(TEXT, TEXT), st.integers(0, 99), max_size=3),
)


@given(FIXES)
def test_what_is_written_is_read(told: Fixes) -> None:
    """All of it, whatever it holds."""
    assert fixes.decode(fixes.encode(told)) == told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[" * 100_000,
        json.dumps({"schema": 2}),
        fixes.encode(Fixes(1.0)).decode().replace('"attempts"', '"other"'),
        fixes.encode(Fixes(1.0, attempts=(Attempt(1, "a", "b", "c", "d", 2.0),))).decode().replace("under_way", "lost"),
        fixes.encode(Fixes(1.0, refused={("a", "b"): 1})).decode().replace('"b"', '"b", "c"'),
    ],
)
def test_what_is_none_is_an_error(text: str) -> None:
    """Of one class, whatever is wrong."""
    with pytest.raises(ValueError):
        fixes.decode(text.encode())


@given(FIXES, st.integers(min_value=0))
def test_a_part_of_it_is_an_error(told: Fixes, cut: int) -> None:
    """Wherever it was cut, save for the last line's end."""
    data = fixes.encode(told)
    with pytest.raises(ValueError):
        fixes.decode(data[: cut % (len(data) - 2)])


def test_what_stands_is_what_helped() -> None:
    """Of everything else what can be undone is undone."""
    assert [result for result in Result if result.stands] == [Result.HEALED, Result.DONE]


@pytest.mark.parametrize(
    ("text", "now", "expected"),
    [
        (b"", 1e12, Pause()),
        (b" \n", 1e12, Pause()),
        (b"2h\n", 100.0 + 7199.0, Pause(7300.0)),
        (b"2h", 7300.0, None),
        (b"two hours", 1e12, Pause()),
        (b"\xff", 1e12, Pause()),
        (b"999999999d", 1e12, Pause()),
        (b"2h", 50.0, Pause(7300.0)),
        (
            b"2h\nthe fleet is\tbeing patched, password=x\nand so on\n",
            200.0,
            Pause(7300.0, "the fleet is being patched, password=[redacted] and so on"),
        ),
        (b"\nuntil Monday", 1e12, Pause(None, "until Monday")),
    ],
)
def test_a_pause_file_says_how_long(text: bytes, now: float, expected: Pause | None) -> None:
    """What cannot be understood pauses until the file is gone."""
    assert fixes.pause_of(text, 100.0, now) == expected
