"""Only the line that counts changes, whatever bytes waagent.conf holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import vmsnapshot, waagent
from backupready.hands import lines

KEYS = ("Logs.Verbose", "Extensions.Enabled", "HttpProxy.Host")
_blanks = st.sampled_from([b"", b" ", b"\t", b"  ", b" \t", b"\xc2\xa0", b"\x0c"])
_values = st.sampled_from([b"n", b"y", b'"n"', b"None", b"", b"a b", b"n=1", b'"', b"1\r2"])
_comments = st.sampled_from([b"", b"#", b" # note", b"# a=b", b"#\xff"])
_setting = st.tuples(
    st.sampled_from([b"", b"", b" ", b"#", b" #", b"\xef\xbb\xbf"]),
    st.sampled_from([key.encode() for key in KEYS] + [b"", b"Other", b"Logs.verbose", b"\xff\xe2"]),
    _blanks,
    st.just(b"="),
    _blanks,
    _values,
    _blanks,
    _comments,
).map(b"".join)
_line = st.one_of(_setting, _setting, st.binary(max_size=12))
_ending = st.sampled_from([b"\n", b"\n", b"\r\n", b"\n\n"])
CONFIGS = st.tuples(
    st.lists(st.tuples(_line, _ending).map(b"".join), max_size=8).map(b"".join),
    st.one_of(st.just(b""), _line),
).map(b"".join)


@given(CONFIGS, st.sampled_from(KEYS), st.sampled_from(["y", "n", "127.0.0.1"]))
def test_setting_a_key_changes_the_line_that_counts_and_no_other(data: bytes, key: str, value: str) -> None:
    """The agent reads the new value and everything else as before; no byte outside of that line differs."""
    after = lines.set_key(data, key, value)
    assert waagent.parse_config(after) == {**waagent.parse_config(data), key: value}
    assert lines.set_key(after, key, value) == after
    counting = [line.number for line in waagent.config_lines(data) if line.key == key]
    if counting:
        old, new = data.split(b"\n"), after.split(b"\n")
        differing = [number for number, pair in enumerate(zip(old, new), 1) if pair[0] != pair[1]]
        assert len(old) == len(new)
        assert differing in ([], [counting[-1]])
    else:
        assert after.startswith(data)
        assert after[len(data) :].strip(b"\r\n") == f"{key}={value}".encode()


@given(CONFIGS)
def test_joining_takes_out_blanks_around_equals_signs_and_nothing_else(data: bytes) -> None:
    """The agent reads the same; the rest of each line stays, comments stay whole; twice is once."""
    after = waagent.joined_config(data)
    assert waagent.parse_config(after) == waagent.parse_config(data)
    assert waagent.joined_config(after) == after
    for old, new in zip(data.split(b"\n"), after.split(b"\n")):
        if old != new:
            (left, _, right), (new_left, sign, new_right) = old.partition(b"="), new.partition(b"=")
            assert not old.startswith(b"#")
            assert (left.rstrip(b" \t"), b"=") == (new_left, sign)
            assert new_right in (right, right.lstrip(b" \t"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"A=1\nLogs.Verbose=n\n", b"A=1\nLogs.Verbose=y\n"),
        (b"Logs.Verbose=n\nLogs.Verbose = n  # note\nB=2\n", b"Logs.Verbose=n\nLogs.Verbose=y  # note\nB=2\n"),
        (b"Logs.Verbose=n# note\r\nB=2\r\n", b"Logs.Verbose=y # note\r\nB=2\r\n"),
        (b"#Logs.Verbose=n\n # Logs.Verbose=n\n", b"#Logs.Verbose=n\n # Logs.Verbose=n\nLogs.Verbose=y\n"),
        (b'A="1"', b'A="1"\nLogs.Verbose=y\n'),
        (b'A=1\r\nB="2"', b'A=1\r\nB="2"\nLogs.Verbose=y\r\n'),
        (b"Logs.Verbose=y\nlogs.verbose=n\n", b"Logs.Verbose=y\nlogs.verbose=n\n"),
        (b'Logs.Verbose="y" # kept as it is', b'Logs.Verbose="y" # kept as it is'),
    ],
)
def test_where_a_setting_is_written(before: bytes, after: bytes) -> None:
    """In the last line of the key, without blanks, with its comment and ending; otherwise at the end."""
    assert lines.set_key(before, "Logs.Verbose", "y") == after


def test_joining_mends_what_breaks_the_extension() -> None:
    """The extension gives the file up at `Key = value`, and reads the joined line; what no joining mends is left."""
    before = b"# A = b\nHttpProxy.Host = proxy\nHttpProxy.Port =\t3128 # x = y\nEmpty = # note\nAfter=1\n # c = d\n"
    after = b"# A = b\nHttpProxy.Host=proxy\nHttpProxy.Port=3128 # x = y\nEmpty= # note\nAfter=1\n # c = d\n"
    assert waagent.joined_config(before) == after
    assert vmsnapshot.extension_view(before).broken == (2, "HttpProxy.Host = proxy")
    view = vmsnapshot.extension_view(after.replace(b" # c = d\n", b""))
    assert view.broken is None
    assert view.values == {"HttpProxy.Host": "proxy", "HttpProxy.Port": "3128", "Empty": "", "After": "1"}


def test_a_line_that_would_be_read_otherwise_is_not_joined() -> None:
    """A tab before a quote is a part of the value for the agent."""
    data = b'Key =\t"value"\n'
    assert waagent.joined_config(data) == data


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Logs.Verbose", "y\nX=1"),
        ("Logs.Verbose", "None"),
        ("Logs.Verbose", "a b"),
        ("Logs.Verbose", "y#"),
        ("Logs.Verbose", ""),
        ("Logs Verbose", "y"),
        ("#Logs", "y"),
        ("a=b", "y"),
        ("", "y"),
        ("Logs.", "y"),
    ],
)
def test_what_would_not_be_read_back_is_no_setting(key: str, value: str) -> None:
    """A key or value with blanks, quotes, comments or line ends is an error."""
    with pytest.raises(ValueError, match="is no (key|value)"):
        lines.set_key(b"A=1\n", key, value)
