"""Open files of the service manager's: taken once, and by nobody but whom they are for."""

from __future__ import annotations

import os

import pytest

from backupready import activation


@pytest.mark.parametrize(
    ("count", "off_by", "numbers"),
    [
        ("2", 0, [3, 4]),
        ("1", 0, [3]),
        ("0", 0, []),
        ("", 0, []),
        ("x", 0, []),
        ("-1", 0, []),
        ("2", 1, []),
        (None, 0, []),
    ],
)
def test_what_is_ours_is_told_once(
    count: str | None, off_by: int, numbers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And children hear of nothing, whomever it was for."""
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + off_by))
    monkeypatch.setenv("LISTEN_FDNAMES", "a:b")
    if count is None:
        monkeypatch.delenv("LISTEN_FDS", raising=False)
    else:
        monkeypatch.setenv("LISTEN_FDS", count)
    assert list(activation.handed_over()) == numbers
    assert not [name for name in os.environ if name.startswith("LISTEN_")]
    assert list(activation.handed_over()) == []


def test_without_the_service_manager_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where it does not say for whom."""
    monkeypatch.delenv("LISTEN_PID", raising=False)
    monkeypatch.setenv("LISTEN_FDS", "1")
    assert list(activation.handed_over()) == []
