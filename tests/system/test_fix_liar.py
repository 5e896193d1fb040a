"""What can whoever has taken over the mind make the hands do by lying to them? They refuse, or close, and serve on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from backupready.hands import ledger
from lab.guest import AGENT_UNIT
from system import faults
from system.inside import Inside

SETTINGS = "/etc/backupready/conf.d/60-fix.conf"
REMEDY, PROBLEM = "add-auto-restart", "AGENT_NO_AUTO_RESTART"
DROP_IN = f"/etc/systemd/system/{AGENT_UNIT}.d/50-restart.conf"
DOOR = "backupready-fix.socket"
TREE = f"find /etc -printf '%p %m %U %s %T@ %i %l\\n' | sort; systemctl show -p InvocationID -p MainPID {AGENT_UNIT}"
# One lie by its name; prints what came back.
LIE = f"""
import contextlib, json, socket, sys, time

def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect("/run/backupready/fix.sock")
    return connection

def hear(connection):
    told = b""
    with contextlib.suppress(ConnectionError):
        while piece := connection.recv(65536):
            told += piece
    return told.decode()

def ask(data):
    with connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
            if data:
                connection.shutdown(socket.SHUT_WR)
        return hear(connection)

def request(**other):
    from backupready import wire
    true = wire.FixRequest("{REMEDY}", "{PROBLEM}", "", time.time())
    document = json.loads(wire.encode_fix_request(true))
    return json.dumps({{**document, **other}}).encode() + b"\\n"

def flood():
    held = []
    with contextlib.suppress(OSError):
        for _ in range(200):
            held.append(connect())
    for connection in held:
        connection.close()
    return len(held)

def death():
    with connect() as connection:
        connection.sendall(request()[:20])
    return ""

what, other = sys.argv[1], json.loads(sys.argv[2])
print({{
    "fields": lambda: ask(request(**other)),
    "large": lambda: ask(b"x" * (1 << 20)),
    "silent": lambda: ask(b""),
    "flood": flood,
    "death": death,
}}[what]())
"""


@pytest.fixture(scope="module")
def door(booted: Inside) -> Iterator[Inside]:
    """Open, for a remedy whose problem is there, with nothing against it."""
    guest = booted.guest
    booted.heal()
    guest.run("systemctl", "stop", "backupready.service")
    kept = guest.read(DROP_IN)
    guest.path(DROP_IN).unlink()
    guest.run("systemctl", "daemon-reload")
    guest.run("rm", "-rf", ledger.DIRECTORY)
    guest.run("systemctl", "start", DOOR)
    text = "[fix]\nmode = on\nallow = add-auto-restart, enable-agent\nwithout_window = yes\n"
    with faults.written(booted, SETTINGS, text):
        yield booted
    guest.run("systemctl", "stop", DOOR)
    guest.run("rm", "-rf", ledger.DIRECTORY)
    guest.path(f"/etc/systemd/system/{AGENT_UNIT}.d/60-backupready-restart.conf").unlink(missing_ok=True)
    guest.write(DROP_IN, kept)
    guest.run("systemctl", "daemon-reload")
    booted.start_daemon()


def lie(inside: Inside, what: str, fields: dict[str, object] | None = None) -> str:
    done = inside.guest.run("python3", "-c", LIE, what, json.dumps(fields or {}), user="backupready", timeout=90)
    return done.stdout.strip()


LIES: dict[str, tuple[str, dict[str, object], str]] = {
    "a problem that is not there": (
        "fields",
        {"remedy": "enable-agent", "problem": "AGENT_NOT_ENABLED"},
        '"not_confirmed"',
    ),
    "another key": ("fields", {"key": "../../etc/shadow"}, '"not_confirmed"'),
    "the problem of another remedy": ("fields", {"problem": "AGENT_STOPPED"}, '"not_confirmed"'),
    "an unknown remedy": ("fields", {"remedy": "../../bin/sh"}, '"error"'),
    "a path in a field of its own": ("fields", {"path": "/etc/shadow"}, "there is no field"),
    "from the future": ("fields", {"seen": 1e12}, '"stale_evidence"'),
    "no number": ("fields", {"seen": "NaN"}, '"error"'),
    "an open window for ever": ("fields", {"phase": "open", "start": 0, "end": 1e15}, '"phase"'),
    "a megabyte": ("large", {}, ""),
    "silence": ("silent", {}, ""),
    "half a document and death": ("death", {}, ""),
}


@pytest.mark.parametrize("which", LIES)
def test_a_lie_changes_nothing(door: Inside, which: str) -> None:
    what, fields, wanted = LIES[which]
    before = door.guest.run("sh", "-c", TREE).stdout
    told = lie(door, what, fields=fields)
    assert wanted in told
    assert '"attempt"' not in told
    assert door.guest.run("sh", "-c", TREE).stdout == before
    assert door.guest.unit_property(DOOR, "ActiveState") == "active"


def test_another_user_does_not_come_in(door: Inside) -> None:
    done = door.guest.run("python3", "-c", LIE, "fields", "{}", user="daemon", check=False)
    assert "PermissionError" in done.stderr


def test_a_true_request_is_served_after_a_flood(door: Inside) -> None:
    """The last one, for it heals: after 200 connections at once the door is open and one who tells the truth served."""
    before = door.guest.run("sh", "-c", TREE).stdout
    assert lie(door, "flood").isdigit()
    assert door.guest.run("sh", "-c", TREE).stdout == before

    def served() -> bool:
        return '"healed"' in lie(door, "fields")

    door.guest.wait_for("an answer", served, timeout=60)
    assert door.guest.unit_property(AGENT_UNIT, "Restart") == "always"
    assert door.guest.unit_property(DOOR, "ActiveState") == "active"
