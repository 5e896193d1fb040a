"""What can whoever has taken over the mind make the hands do by lying to them? They refuse, or close, and serve on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from backupready import fixes
from backupready.hands import ledger
from lab.guest import AGENT_UNIT
from system import faults
from system.inside import BACKUPREADY, Inside

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
    text = "[fix]\nmode = on\nallow = add-auto-restart, enable-agent, enable-verbose-logging\nverbose_for = 1s\n"
    text += "without_window = yes\n"
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


STATUS = "/run/backupready/mind/status.sock"
NEVER_ENDS = {
    "start": "1970-01-01T00:00:00Z",
    "end": "9999-12-31T23:59:59Z",
    "local": "Thu 01 Jan 1970 00:00 UTC",
    "in_seconds": -1_800_000_000,
    "schedule": "for ever",
    "zone": "UTC",
}
# The daemon's socket, at which somebody else in its name says always the same.
IMPOSTOR = """
import contextlib, os, socket, sys
path, document = sys.argv[1:]
with contextlib.suppress(FileNotFoundError):
    os.unlink(path)
with socket.socket(socket.AF_UNIX) as door:
    door.bind(path)
    door.listen()
    while True:
        connection, _ = door.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + document.encode())
"""
# A fix that is done as if it were so many hours ago, and settles at once.
EARLIER = """
import sys
from dataclasses import replace
from backupready import cli
from backupready.hands import world
now, ago = world.clock, 3600.0 * float(sys.argv[1])
world.clock = lambda: replace(now(), wall=now().wall - ago)
sys.exit(cli.main(["fix", *sys.argv[2:]]))
"""


@contextlib.contextmanager
def for_ever(inside: Inside) -> Iterator[None]:
    """What answers in the daemon's place says that a window is open that never ends."""
    guest = inside.guest
    guest.run("systemctl", "stop", DOOR)  # the daemon would have the fixes done that the tests ask for
    inside.start_daemon()
    document = json.loads(guest.run(BACKUPREADY, "status", "--json", check=False, timeout=60).stdout)
    guest.run("systemctl", "stop", "backupready.service")
    guest.run("systemctl", "start", DOOR)
    window = document["window"]
    document["window"] = {**window, "phase": "open", "next": {**(window["next"] or {}), **NEVER_ENDS}}
    guest.run("install", "-d", "-o", "backupready", "-m", "0755", STATUS.rpartition("/")[0])

    def heard() -> bool:
        return '"9999-' in guest.run(BACKUPREADY, "status", "--json", check=False).stdout

    command = ("python3", "-c", IMPOSTOR, STATUS, json.dumps(document))
    try:
        with faults.running(inside, *command, user="backupready"):
            guest.wait_for("the impostor", heard)
            yield
    finally:
        guest.run("rm", "-f", STATUS)


def test_a_person_is_not_kept_by_a_window_for_ever(door: Inside) -> None:
    guest = door.guest
    with for_ever(door), faults.not_enabled(door):
        done = guest.run(BACKUPREADY, "fix", "enable-agent", check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert guest.run("systemctl", "is-enabled", AGENT_UNIT, check=False).stdout.strip() == "enabled"


@contextlib.contextmanager
def made_verbose(inside: Inside, hours: float) -> Iterator[str]:
    """For a second, so many hours ago; gives the configuration as it was."""
    guest, path = inside.guest, "/etc/waagent.conf"
    guest.run("systemctl", "stop", "backupready-fix-end.timer")
    guest.run("rm", "-rf", ledger.DIRECTORY, fixes.SUMMARY)
    before = guest.read(path)
    try:
        guest.run("python3", "-c", EARLIER, str(hours), "enable-verbose-logging", timeout=200)
        assert "\nLogs.Verbose=y\n" in guest.read(path)
        yield before
    finally:
        guest.write(path, before)
        guest.run("systemctl", "start", "backupready-fix-end.timer")


def _ends(inside: Inside) -> list[str]:
    return [attempt["result"] for attempt in json.loads(inside.guest.read(fixes.SUMMARY))["attempts"]]


@pytest.mark.parametrize("way", ["the status socket", "the request socket"])
def test_a_temporary_change_ends_in_a_window_for_ever(door: Inside, way: str) -> None:
    """Though it may last as long as a window can: a day and a half."""
    guest = door.guest
    with faults.able_to_log_verbosely(door), made_verbose(door, 40) as before:
        if way == "the status socket":
            with for_ever(door):
                guest.run("systemctl", "start", "backupready-fix@end.service")
                guest.wait_for("the end", lambda: _ends(door)[-1:] == ["undone"], 100)
        else:
            nothing_to_do = {"remedy": "enable-agent", "problem": "AGENT_NOT_ENABLED"}
            assert "refusal" in lie(door, "fields", {**nothing_to_do, "phase": "open", "start": 0, "end": 253402300799})
        assert guest.read("/etc/waagent.conf") == before
        assert _ends(door)[-1:] == ["undone"]
    guest.restart_agent()
    guest.wait_agent_ready()


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
