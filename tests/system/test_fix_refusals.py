"""Is a fix refused, and nothing touched, whatever stands against it? Each gate is made real in the guest.

The clock that is set back is not here: the guest shares this machine's, and tests/hands/test_gate.py has it.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from backupready import fixes, journal
from backupready.hands import ledger
from backupready.model import Result
from lab.guest import AGENT_LOG, AGENT_UNIT, HANDLER_DIRECTORY, LIBRARY
from system import faults
from system.inside import BACKUPREADY, Inside

SETTINGS = "/etc/backupready/conf.d/60-fix.conf"
REMEDY, PROBLEM = "add-auto-restart", "AGENT_NO_AUTO_RESTART"
DOOR = "backupready-fix.socket"
REFUSED = 4
SUMMARIES = fixes.SUMMARY.rpartition("/")[0]
FIRES = '[{"labels": {"alertname": "DiskFull"}, "status": {"state": "active"}}]'
GUARD_ADDRESS = "10.0.0.1"
GUARD = f"""
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write({FIRES.encode()!r})
server = http.server.HTTPServer(("{GUARD_ADDRESS}", 9093), Answer)
print("ready", flush=True)
server.serve_forever()
"""
ASK = """
import json, socket, sys, time
from backupready import wire
remedy, problem, ago = sys.argv[1:]
request = wire.FixRequest(remedy, problem, "", time.time() - float(ago))
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(60)
    connection.connect("/run/backupready/fix.sock")
    connection.sendall(wire.encode_fix_request(request))
    connection.shutdown(socket.SHUT_WR)
    told = b""
    while piece := connection.recv(65536):
        told += piece
print(told.decode())
"""
TREE = f"find /etc -printf '%p %m %U %s %T@ %i %l\\n' | sort; systemctl show -p InvocationID -p MainPID {AGENT_UNIT}"
# An attempt that was begun so many seconds ago, and ended.
BEGUN = """
import sys
from pathlib import Path
from backupready.hands import ledger, world
now = world.clock()
for word in sys.argv[1:]:
    remedy, problem, ago = word.split(":")
    at = ledger.Moment(now.wall - float(ago), now.boot, now.up - float(ago))
    with ledger.Ledger(Path(ledger.DIRECTORY), Path("/run/unused-summary"), at) as book:
        rest = dict(key="", by="mind", settle=0.0, before=[], unknown=[])
        number = book.begin(at, (), remedy=remedy, problem=problem, **rest)
        book.add("ended", at, attempt=number, result="failed", reasons=["lab"], undone=[], left=[])
"""


class Told(NamedTuple):
    name: str
    why: str
    until: float | None
    lift: str


@dataclass(frozen=True)
class Gate:
    """What stands against a fix, and what is told of it. `counted` is whether the ledger opens, to count it."""

    made: Callable[[Inside], AbstractContextManager[object]]
    name: str
    why: str
    lift: str
    until: bool = False
    mind: bool = False
    ago: float = 0.0
    counted: bool = True
    remedy: str = REMEDY
    problem: str = PROBLEM


# ------------------------------------------------------------------------------------------- what stands against it


@contextlib.contextmanager
def nothing(inside: Inside) -> Iterator[None]:
    yield


def set_to(
    fix: str = f"mode = on\nallow = {REMEDY}", minutes: float | None = None
) -> Callable[[Inside], AbstractContextManager[None]]:
    """These settings, and a window that starts so many minutes from now."""

    @contextlib.contextmanager
    def made(inside: Inside) -> Iterator[None]:
        text = f"[fix]\n{fix}\n"
        if minutes is not None:
            moment = time.strftime("%H:%M", time.gmtime(time.time() + 60 * minutes))
            text += f"[window]\nschedule = daily at {moment}\n"
        with faults.written(inside, SETTINGS, text):
            yield

    return made


@contextlib.contextmanager
def paused_by_the_verb(inside: Inside) -> Iterator[None]:
    inside.guest.run(BACKUPREADY, "pause", "--for", "2h")
    try:
        yield
    finally:
        inside.guest.run(BACKUPREADY, "resume")


def paused_by_a_file(inside: Inside) -> AbstractContextManager[None]:
    return faults.written(inside, "/run/backupready/pause", "")


def dpkg_locked(inside: Inside) -> AbstractContextManager[None]:
    return faults.lock_held(inside, "/var/lib/dpkg/lock-frontend")


@contextlib.contextmanager
def agent_busy(inside: Inside) -> Iterator[None]:
    """In the agent's own words."""

    def log(what: str) -> None:
        when = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime())
        line = f"{when} INFO ExtHandler ExtHandler ProcessExtensionsInGoalState {what} [Incarnation: 1]\n"
        with inside.guest.path(AGENT_LOG).open("a") as file:
            file.write(line)

    log("started")
    try:
        yield
    finally:
        log("completed")


@contextlib.contextmanager
def another_under_way(inside: Inside) -> Iterator[None]:
    lock = f"{ledger.DIRECTORY}/lock"
    inside.guest.run("mkdir", "-p", "-m", "0700", ledger.DIRECTORY)
    with faults.running(inside, "flock", lock, "sleep", "120"):
        inside.guest.wait_for(
            "the lock", lambda: inside.guest.run("flock", "-n", lock, "true", check=False).returncode != 0
        )
        yield


def begun(*words: str) -> Callable[[Inside], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def made(inside: Inside) -> Iterator[None]:
        inside.guest.run("mkdir", "-p", "-m", "0700", ledger.DIRECTORY)
        inside.guest.run("python3", "-c", BEGUN, *words)
        yield

    return made


def set_to_begun(remedy: str, problem: str, *ago: int) -> Callable[[Inside], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def made(inside: Inside) -> Iterator[None]:
        with set_to(f"mode = on\nallow = {remedy}")(inside), begun(*(f"{remedy}:{problem}:{n}" for n in ago))(inside):
            yield

    return made


@contextlib.contextmanager
def not_there(inside: Inside) -> Iterator[None]:
    """The problem is not there, and somebody says it is."""
    inside.guest.write(f"/etc/systemd/system/{AGENT_UNIT}.d/50-restart.conf", "[Service]\nRestart=always\n")
    inside.guest.run("systemctl", "daemon-reload")
    yield


@contextlib.contextmanager
def open_to_others(inside: Inside) -> Iterator[None]:
    inside.guest.run("mkdir", "-p", "-m", "0755", ledger.DIRECTORY)
    inside.guest.path(ledger.DIRECTORY).chmod(0o755)
    yield


def disk_full(inside: Inside) -> AbstractContextManager[object]:
    return faults.full(inside, ledger.DIRECTORY, "0700")


@contextlib.contextmanager
def disk_full_everywhere(inside: Inside) -> Iterator[None]:
    """Neither the ledger nor what everybody may read can be written."""
    with disk_full(inside), faults.full(inside, SUMMARIES, "0755"):
        yield


def state_wrong(
    *allow: str, but: Callable[[Inside], AbstractContextManager[object]]
) -> Callable[[Inside], AbstractContextManager[None]]:
    """The extension needs its files anew, and something else is so."""

    @contextlib.contextmanager
    def made(inside: Inside) -> Iterator[None]:
        fix = f"mode = on\nallow = {', '.join(allow)}\nwithout_window = yes"
        state = f"{HANDLER_DIRECTORY}/config/HandlerState"
        with faults.written(inside, state, "garbage"), set_to(fix)(inside), but(inside):
            yield

    return made


def host_plugin_down(inside: Inside) -> AbstractContextManager[None]:
    return faults.switched(inside, "host_plugin", "refused")


def agent_disabled(inside: Inside) -> AbstractContextManager[None]:
    return faults.written(inside, f"{LIBRARY}/disable_agent", "")


def handler_runs(inside: Inside) -> AbstractContextManager[None]:
    script = "import time; time.sleep(120)"
    return faults.running(inside, "python3", "-c", script, f"{HANDLER_DIRECTORY}/main/handle.py", "-daemon")


def guarded(url: str, *, answers: bool) -> Callable[[Inside], AbstractContextManager[None]]:
    @contextlib.contextmanager
    def made(inside: Inside) -> Iterator[None]:
        fix = f"mode = on\nallow = {REMEDY}\nwithout_window = yes\nguard_url = {url}"
        with set_to(fix)(inside):
            if not answers:
                yield
                return
            command = ["ip", "netns", "exec", inside.guest.fabric_namespace, "python3", "-c", GUARD]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
                assert server.stdout is not None
                server.stdout.readline()
                try:
                    yield
                finally:
                    server.terminate()

    return made


WITHOUT_WINDOW = set_to(f"mode = on\nallow = {REMEDY}\nwithout_window = yes")
ALERTS = f"http://{GUARD_ADDRESS}:9093/api/v2/alerts"
GATES = {
    "mode off": Gate(set_to("mode = off"), "mode_off", "switched off", "fix.mode"),
    "not opted in": Gate(set_to("mode = on"), "not_opted_in", REMEDY, "fix.allow"),
    "paused by the verb": Gate(paused_by_the_verb, "paused", "paused", "backupready resume", until=True),
    "paused by a file": Gate(paused_by_a_file, "paused", "paused", "backupready resume"),
    "idle": Gate(set_to(minutes=720), "phase", "not near", "a person", until=True, mind=True),
    "hold": Gate(set_to(minutes=5), "phase", "too late", "a person", until=True, mind=True),
    "open": Gate(set_to(minutes=-2), "phase", "window is open", "wait", until=True),
    "no window": Gate(nothing, "deadline", "not known when", "window.schedule", mind=True),
    "the handler runs": Gate(handler_runs, "snapshot_running", "is the extension's and runs", "wait"),
    "the freeze lock": Gate(faults.freeze_lock_held, "snapshot_running", "freeze", "wait"),
    "a status of a run": Gate(faults.snapshot_told, "snapshot_running", "says that a snapshot is under way", "wait"),
    "five minutes before": Gate(
        set_to("mode = on\nallow = restart-agent", minutes=5),
        "deadline",
        "it may take 0:15:30, and the next backup starts in 0:0",
        "wait until the backup has ended",
        until=True,
        remedy="restart-agent",
        problem="AGENT_STOPPED",
    ),
    "the agent is busy": Gate(agent_busy, "agent_busy", "works on its extensions", "wait"),
    "dpkg": Gate(dpkg_locked, "locked", "lock", "wait"),
    "another": Gate(another_under_way, "locked", "another fix", "wait", counted=False),
    "cooldown": Gate(begun(f"{REMEDY}:{PROBLEM}:5"), "cooldown", "a short while ago", "wait", until=True),
    "attempts": Gate(begun(f"{REMEDY}:{PROBLEM}:80000"), "attempt_limit", "within a day", "mend the cause", until=True),
    "four in a day": Gate(
        set_to_begun("restart-agent", "AGENT_STOPPED", 80000, 60000, 40000),
        "attempt_limit",
        "restart-agent was done 3 times for AGENT_STOPPED within a day",
        "mend the cause",
        until=True,
        remedy="restart-agent",
        problem="AGENT_STOPPED",
    ),
    "the package cannot be had": Gate(
        state_wrong("reload-extension", but=host_plugin_down),
        "precondition",
        ":32526/versions does not answer",
        "wait until that has changed",
        remedy="reload-extension",
        problem="EXTENSION_STATE_WRONG",
    ),
    "the package cannot be had anew": Gate(
        state_wrong("reinstall-extension", but=host_plugin_down),
        "precondition",
        ":32526/versions does not answer",
        "wait until that has changed",
        remedy="reinstall-extension",
        problem="EXTENSION_STATE_WRONG",
    ),
    "a gentler one": Gate(
        state_wrong("reload-extension", "reinstall-extension", but=nothing),
        "precondition",
        "reload-extension, which is gentler, has not been tried",
        "try reload-extension first",
        mind=True,
        remedy="reinstall-extension",
        problem="EXTENSION_STATE_WRONG",
    ),
    "not for this machine": Gate(
        state_wrong("reload-extension", but=agent_disabled),
        "unsupported",
        "disable_agent would switch the agent off",
        "by hand",
        remedy="reload-extension",
        problem="EXTENSION_STATE_WRONG",
    ),
    "storm": Gate(
        begun(*(f"{name}:AGENT_STOPPED:900" for name in ("restart-agent", "update-agent", "enable-agent"))),
        "storm",
        "different fixes",
        "behind all",
        until=True,
    ),
    "before the boot": Gate(
        WITHOUT_WINDOW, "stale_evidence", "before the machine", "since the last start", mind=True, ago=1e6
    ),
    "not confirmed": Gate(not_there, "not_confirmed", "does not see", "nothing needs"),
    "damaged": Gate(open_to_others, "ledger", "0700", "mend that", counted=False),
    "disk full": Gate(disk_full, "ledger", "No space left", "mend that"),
    "disk full everywhere": Gate(disk_full_everywhere, "ledger", "No space left", "mend that", counted=False),
    "an alert": Gate(guarded(ALERTS, answers=True), "guarded", "DiskFull fires", "fix.guard_ignore", mind=True),
    "a dead guard": Gate(guarded(ALERTS, answers=False), "guarded", "does not answer", "find out why", mind=True),
}


# ------------------------------------------------------------------------------------------------------- asking


@pytest.fixture(scope="module")
def sick(booted: Inside) -> Iterator[Inside]:
    """The guest with a problem that a fix is there for, the door open, and nobody else who asks."""
    booted.heal()
    booted.guest.run("systemctl", "stop", "backupready.service")
    booted.guest.run("systemctl", "start", DOOR)
    try:
        yield booted
    finally:
        booted.guest.run("systemctl", "stop", DOOR)
        booted.start_daemon()


@pytest.fixture
def refusing(sick: Inside) -> Iterator[Inside]:
    guest = sick.guest
    drop_in = f"/etc/systemd/system/{AGENT_UNIT}.d/50-restart.conf"
    kept = guest.read(drop_in)
    guest.run("rm", "-rf", ledger.DIRECTORY)
    guest.path(drop_in).unlink()
    guest.run("systemctl", "daemon-reload")
    with faults.written(sick, SETTINGS, f"[fix]\nmode = on\nallow = {REMEDY}\n"):
        yield sick
    guest.run("rm", "-rf", ledger.DIRECTORY)
    guest.path(drop_in.replace("50-restart", "60-backupready-restart")).unlink(missing_ok=True)
    guest.write(drop_in, kept)
    guest.run("systemctl", "daemon-reload")


def _counts(inside: Inside, gate: Gate) -> int:
    if not inside.guest.exists(fixes.SUMMARY):
        return 0
    return fixes.decode(inside.guest.path(fixes.SUMMARY).read_bytes()).refused.get((gate.remedy, gate.name), 0)


def _entries(inside: Inside) -> list[dict[str, str]]:
    words = ("journalctl", "--quiet", "--output=json", f"MESSAGE_ID={journal.MESSAGE_FIX_REFUSED}")
    inside.guest.run("journalctl", "--sync", check=False)
    return [json.loads(line) for line in inside.guest.run(*words, check=False).stdout.splitlines()]


def _ask_as_mind(inside: Inside, gate: Gate) -> Told:
    words = gate.remedy, gate.problem, str(gate.ago)
    said = inside.guest.run("python3", "-c", ASK, *words, user="backupready", timeout=90)
    found = json.loads(said.stdout)
    assert "refusal" in found, found
    return Told(*(found["refusal"][key] for key in Told._fields))


def _ask_as_person(inside: Inside, gate: Gate) -> Told:
    done = inside.guest.run(BACKUPREADY, "fix", gate.remedy, "--problem", gate.problem, check=False, timeout=90)
    assert done.returncode == REFUSED, done.stdout + done.stderr
    said = re.fullmatch(
        r"(?:backupready fix: .*\n)*"  # that the daemon, which was stopped, cannot be asked, or that he has to wait
        rf"{gate.remedy} is refused \((\w+)\): (.*)\.\n(?:Until: .*, in (.*)\.\n)?What lifts it: (.*)\.\n",
        done.stderr,
    )
    assert said is not None, done.stderr
    return Told(said[1], said[2], 1.0 if said[3] else None, said[4])


@pytest.mark.parametrize("which", GATES)
def test_a_gate_refuses_and_nothing_is_touched(refusing: Inside, which: str) -> None:
    gate = GATES[which]
    with gate.made(refusing):
        counted, entries = _counts(refusing, gate), len(_entries(refusing))
        before = refusing.guest.run("sh", "-c", TREE).stdout
        told = _ask_as_mind(refusing, gate) if gate.mind else _ask_as_person(refusing, gate)
        assert refusing.guest.run("sh", "-c", TREE).stdout == before
        now = _counts(refusing, gate)
    assert told.name == gate.name
    assert gate.why in told.why
    assert gate.lift in told.lift
    assert (told.until is not None) is gate.until
    assert now == counted + gate.counted
    newest = _entries(refusing)[entries:]
    assert [(entry["BACKUPREADY_REMEDY"], entry["BACKUPREADY_REFUSAL"]) for entry in newest] == [
        (gate.remedy, gate.name)
    ]


def test_without_a_gate_it_is_done(refusing: Inside) -> None:
    """The counterpart: what all the others refuse heals the machine."""
    done = refusing.guest.run(BACKUPREADY, "fix", REMEDY, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert refusing.guest.unit_property(AGENT_UNIT, "Restart") == "always"
    refusing.guest.run(BACKUPREADY, "undo", "1", timeout=120)


def test_only_root_may_ask_as_a_person(refusing: Inside) -> None:
    before = refusing.guest.run("sh", "-c", TREE).stdout
    done = refusing.guest.run(BACKUPREADY, "fix", REMEDY, check=False, user="daemon", timeout=60)
    assert (done.returncode, "(not_root)" in done.stderr) == (REFUSED, True)
    assert refusing.guest.run("sh", "-c", TREE).stdout == before
    assert not refusing.guest.exists(ledger.DIRECTORY)


def test_what_cannot_be_told_is_told_later(refusing: Inside) -> None:
    """The summary's disk is full, and the ledger's is not: refusals and fixes go by the ledger, and once there is room
    everybody is told of all of them."""
    guest = refusing.guest
    summary = guest.path(fixes.SUMMARY)

    def ask(name: str = "") -> None:
        done = guest.run(BACKUPREADY, "fix", REMEDY, "--problem", PROBLEM, check=False, timeout=120)
        assert done.returncode == (REFUSED if name else 0), done.stdout + done.stderr
        assert not name or f"({name})" in done.stderr

    with faults.full(refusing, SUMMARIES, "0755") as filler:
        before = guest.run("sh", "-c", TREE).stdout
        with paused_by_a_file(refusing):
            ask("paused")
        assert guest.run("sh", "-c", TREE).stdout == before
        ask()
        noted = ledger.attempts(ledger.peek(guest.path(ledger.DIRECTORY)))
        assert [attempt.result for attempt in noted] == [Result.HEALED]
        ask("cooldown")
        assert not summary.exists()
        guest.path(filler).unlink()
        with paused_by_a_file(refusing):
            ask("paused")
        told = fixes.decode(summary.read_bytes())
    assert told.attempts == noted
    assert told.ended == {(REMEDY, "healed"): 1}
    assert told.refused == {(REMEDY, "paused"): 2, (REMEDY, "cooldown"): 1}
