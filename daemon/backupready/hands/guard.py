"""Does an alert fire, so that nobody but a person should touch this machine?

Asked of an Alertmanager or a Prometheus. Whoever cannot be asked, or answers anything else than alerts, guards too.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from backupready.hands.gate import Trouble
from backupready.model import CannotTell, Machine, Unreachable
from backupready.observe import clean

_TIMEOUT, _BUDGET = 5.0, 10.0  # s, of one request and of all its tries
# An alert about this machine's backups, or another's, is what a fix is for.
_OURS = "Backupready"
_LONGEST_NAME = 100  # characters


def ask(machine: Machine, url: str, ignored: Collection[str]) -> Trouble:
    """Which alert fires that is not ignored; empty where none does."""
    try:
        answer = machine.get(url, _TIMEOUT, _BUDGET)
    except Unreachable as error:
        return CannotTell(f"the guard at fix.guard_url does not answer: {error.how}")
    except CannotTell as error:
        return CannotTell(f"the guard at fix.guard_url cannot be asked: {clean(error.why)}")
    if answer.status != 200:
        return CannotTell(f"the guard at fix.guard_url answers {answer.status}")
    try:
        fires = [name for name in firing(answer.body) if name not in ignored and not name.startswith(_OURS)]
    except ValueError as error:
        return CannotTell(f"the guard at fix.guard_url answers no list of alerts: {error}")
    if not fires:
        return ""
    others = len(set(fires)) - 1
    return f"the alert {clean(min(fires), _LONGEST_NAME)} fires" + (f", and {others} others" if others else "")


def firing(body: bytes) -> Iterator[str]:
    """The names of the alerts that fire, from either's document. Raises ValueError."""
    try:
        document = json.loads(body)
        if isinstance(document, dict):  # Prometheus: /api/v1/alerts
            if document["status"] != "success":
                raise ValueError("it does not succeed")
            yield from (_name(alert) for alert in _list(document["data"]["alerts"]) if _fires(alert["state"]))
        else:  # Alertmanager: /api/v2/alerts
            yield from (_name(alert) for alert in _list(document) if _is_active(alert["status"]["state"]))
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"it has a wrong form: {error!r}"[:100]) from None


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("no list")
    return value


def _name(alert: Mapping[str, Any]) -> str:
    name = alert["labels"]["alertname"]
    if not isinstance(name, str):
        raise TypeError("a name that is no text")
    return name


def _fires(state: str) -> bool:
    if state not in ("firing", "pending", "inactive"):
        raise TypeError("a state that is none")
    return state == "firing"


def _is_active(state: str) -> bool:
    """Alerts that are silenced or inhibited may be in the answer where the address does not leave them out."""
    if state not in ("active", "suppressed", "unprocessed"):
        raise TypeError("a state that is none")
    return state != "suppressed"
