"""The guard: an alert that fires stands in the way, and so does whoever cannot be asked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.hands import guard
from backupready.model import CannotTell, Unreachable
from fake import FakeMachine, answer

URL = "http://alerts.example:9093/api/v2/alerts?active=true"


def alertmanager(*alerts: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"labels": {"alertname": name}, "status": {"state": state}} for name, state in alerts]


def prometheus(*alerts: tuple[str, str]) -> dict[str, Any]:
    told = [{"labels": {"alertname": name}, "state": state} for name, state in alerts]
    return {"status": "success", "data": {"alerts": told}}


def asked(body: object, *ignored: str, status: int = 200) -> object:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return guard.ask(FakeMachine(http={URL: answer(data, status)}), URL, ignored)


def test_an_alert_that_fires_is_named() -> None:
    """In either's document; one that is silenced, or may not come to fire, is none."""
    assert asked(alertmanager()) == asked(prometheus()) == ""
    assert asked(alertmanager(("NodeDown", "active"))) == "the alert NodeDown fires"
    assert asked(alertmanager(("NodeDown", "unprocessed"))) == "the alert NodeDown fires"
    assert asked(alertmanager(("NodeDown", "suppressed"))) == ""
    assert asked(prometheus(("NodeDown", "firing"), ("DiskFull", "firing"), ("X", "pending"))) == (
        "the alert DiskFull fires, and 1 others"
    )
    assert asked(prometheus(("NodeDown", "pending"))) == ""


def test_what_is_ignored_and_what_is_ours_may_fire() -> None:
    """A fix is for what our own alerts tell."""
    told = alertmanager(("Watchdog", "active"), ("BackupreadyAgentStopped", "active"))
    assert asked(told, "Watchdog") == ""
    assert asked(told) == "the alert Watchdog fires"
    assert asked(alertmanager(("WatchdogBarks", "active")), "Watchdog") == "the alert WatchdogBarks fires"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[" * 100_000,
        "text",
        None,
        3,
        {"status": "error", "error": "no"},
        {"status": "success"},
        {"status": "success", "data": {"alerts": {}}},
        {"status": "success", "data": {"alerts": [{"state": "firing"}]}},
        {"status": "success", "data": {"alerts": [{"labels": {"alertname": "X"}, "state": "odd"}]}},
        {"status": "success", "data": {"alerts": [{"labels": {"alertname": 3}, "state": "firing"}]}},
        [{"labels": {"alertname": "X"}, "status": {"state": "odd"}}],
        [{"labels": {}, "status": {"state": "active"}}],
        [3],
        json.dumps(alertmanager(*[("X", "suppressed")] * 2000)).encode()[: 64 << 10],
    ],
)
def test_whatever_else_is_answered_guards(body: object) -> None:
    """Unknown is not quiet."""
    told = asked(body)
    assert isinstance(told, CannotTell)
    assert "answers no list of alerts" in told.why


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
def test_no_document_is_more_than_a_value_error(body: object) -> None:
    """Whatever it holds."""
    try:
        names = list(guard.firing(json.dumps(body).encode()))
    except ValueError:
        return
    assert names == []


def test_who_cannot_be_asked_guards() -> None:
    """And what stands in the address is not told."""
    url = "http://user:hunter2@alerts.example/api/v1/alerts"
    for trouble in (Unreachable("refused", f"connection to {url}", 2), CannotTell(f"cannot ask {url}")):
        told = guard.ask(FakeMachine(http={url: trouble}), url, ())
        assert isinstance(told, CannotTell)
        assert "hunter2" not in told.why
    assert isinstance(asked(alertmanager(), status=503), CannotTell)
