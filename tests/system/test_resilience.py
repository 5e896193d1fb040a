"""Does the daemon hold while the machine is in trouble: no memory, a frozen disk, a dead file system?"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.disk import LoopDisk
from lab.guest import HANDLER, LIBRARY, Guest, LabError
from lab.hang import Hang, HangingMount
from measured import measured
from system.inside import Inside

UNIT = "backupready.service"
STATE = "/var/lib/backupready"
CONFIG = "/etc/backupready/conf.d/90-resilience.conf"
DROP_IN = f"/run/systemd/system/{UNIT}.d/90-resilience.conf"
FROZEN_SECONDS = 70.0
# Asks for the metrics without a pause to speak of, until its standard input ends.
SCRAPES = """\
import json, select, sys, time, urllib.request
seconds, failures = [], []
while not select.select([sys.stdin], [], [], 0.2)[0]:
    began = time.monotonic()
    try:
        with urllib.request.urlopen("http://127.0.0.1:10168/metrics", timeout=5) as answer:
            answer.read()
    except OSError as error:
        failures.append(repr(error))
    seconds.append(time.monotonic() - began)
print(json.dumps([seconds, failures]))
"""
# The looks of the service manager, and of the mind's own children.
LOOKS = ("backupready look", "backupready.cli import main")


class Scrapes:
    """How a client that asks all the time has fared; known after the block."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []

    def __str__(self) -> str:
        longest = max(self.seconds, default=0.0)
        return f"{len(self.seconds)} scrapes, the longest took {1000 * longest:.1f} ms, {len(self.failures)} failed"


@contextmanager
def scraped(guest: Guest) -> Iterator[Scrapes]:
    scrapes = Scrapes()
    with subprocess.Popen(
        guest.command("python3", "-c", SCRAPES), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as client:
        try:
            yield scrapes
            output, _ = client.communicate("", timeout=30)
        except BaseException:
            client.kill()
            raise
    scrapes.seconds, scrapes.failures = json.loads(output)


class Squeezed:
    """No memory is left for one process of the guest and what it starts: the kernel ends them by and by.

    The process is not asked, and the guest's service manager cannot prevent it: the limit is this machine's.
    """

    def __init__(self, guest: Guest, pid: int) -> None:
        self._pid = guest.host_pid(pid)
        self._old = Path("/sys/fs/cgroup/memory")  # the hierarchy of old; where it is not, the unified one is used
        self._own = self._old / f"{guest.name}-squeezed"
        self._limit = Path()
        self._before = ""

    def __enter__(self) -> Squeezed:
        if self._old.is_dir():
            self._own.mkdir()
            self._limit, self._counters = self._own / "memory.limit_in_bytes", self._own / "memory.oom_control"
            (self._own / "cgroup.procs").write_text(str(self._pid))
        else:
            place = Path(f"/proc/{self._pid}/cgroup").read_text().strip().rpartition(":")[2]
            self._own = Path("/sys/fs/cgroup") / place.lstrip("/")
            # The unit's own counters go with its cgroup; those above count what is below.
            self._limit, self._counters = self._own / "memory.max", self._own.parent / "memory.events"
        self._before, self._killed_before = self._limit.read_text(), self._kills()
        self._limit.write_text(str(64 << 10))
        return self

    def __exit__(self, *about: object) -> None:
        if not self._old.is_dir():
            if self._limit.exists():
                self._limit.write_text(self._before)
            return
        for pid in (self._own / "cgroup.procs").read_text().split():
            (self._old / "cgroup.procs").write_text(pid)
        deadline = time.monotonic() + 10
        while True:
            try:
                self._own.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    @property
    def kills(self) -> int:
        """How many processes the kernel has ended for it."""
        return self._kills() - self._killed_before

    def _kills(self) -> int:
        counters = dict(line.split() for line in self._counters.read_text().splitlines())
        return int(counters["oom_kill"])


def show(guest: Guest, name: str) -> str:
    return guest.unit_property(UNIT, name)


def main_pid(guest: Guest) -> int:
    return int(show(guest, "MainPID"))


def restarts(guest: Guest) -> int:
    return int(show(guest, "NRestarts"))


def status(inside: Inside) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(inside.get("/api/v1/status"))
    return document


def since(inside: Inside, problem: str) -> str:
    document = status(inside)
    (found,) = {entry["since"] for entry in document["reasons"] + document["notices"] if entry["problem"] == problem}
    return str(found)


def is_ready(inside: Inside) -> bool:
    """Also right after a start, when nobody may listen yet."""
    asked = inside.guest.run("systemctl", "is-active", UNIT, check=False).stdout.strip()
    if asked != "active":
        return False
    document = status(inside)
    fresh = all(probe["state"] == "ok" for probe in document["probes"])
    return fresh and bool(document["verdict"] == "ready")


def look_units(guest: Guest) -> list[str]:
    listed = guest.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "backupready-look@*").stdout
    return [line.split()[0] for line in listed.splitlines()]


def look_processes(guest: Guest) -> dict[int, str]:
    """The looks that have a process, by number, with its command line. One whose first thread has ended shows none: it
    is counted by its name."""
    listed = guest.run("ps", "-e", "-o", "pid=,comm=,args=").stdout
    found = {}
    for line in listed.splitlines():
        pid, name, command = (*line.split(None, 2), "")[:3]
        if any(look in command for look in LOOKS) or "defunct" in command and "backupready" in name:
            found[int(pid)] = command
    return found


@pytest.fixture
def configured(inside: Inside) -> Iterator[Inside]:
    """Whatever the test writes into CONFIG and DROP_IN is taken back, and the guest is ready afterwards."""
    guest = inside.guest
    try:
        yield inside
    finally:
        guest.path(CONFIG).unlink(missing_ok=True)
        guest.path(DROP_IN).unlink(missing_ok=True)
        guest.run("systemctl", "daemon-reload")
        guest.run("systemctl", "kill", "-s", "CONT", UNIT, check=False)
        guest.run("systemctl", "restart", UNIT)
        guest.start_agent()
        guest.wait_for("the daemon to be ready", lambda: is_ready(inside), 60)


def test_a_daemon_that_does_nothing_any_more_is_restarted(configured: Inside) -> None:
    """The service manager ends a daemon that gives no sign of life, and starts another."""
    inside, guest = configured, configured.guest
    assert show(guest, "WatchdogUSec") == "3min"
    guest.write(DROP_IN, "[Service]\nWatchdogSec=30\n")
    guest.run("systemctl", "daemon-reload")
    guest.run("systemctl", "restart", UNIT)
    guest.wait_for("the daemon to be ready", lambda: is_ready(inside), 60)
    stopped, before = main_pid(guest), restarts(guest)
    began = time.monotonic()
    guest.run("systemctl", "kill", "-s", "STOP", UNIT)
    guest.wait_for("the restart", lambda: restarts(guest) > before and main_pid(guest) not in (0, stopped), 120)
    restarted = time.monotonic() - began
    guest.wait_for("the daemon to be ready", lambda: is_ready(inside), 60)
    measured(f"stopped; restarted after {restarted:.1f} s, ready after {time.monotonic() - began:.1f} s")
    assert "Watchdog timeout" in guest.journal(UNIT)


def test_a_daemon_that_is_killed_for_memory_comes_back(configured: Inside) -> None:
    """The kernel ends the daemon for want of memory; another starts and knows since when a problem is there."""
    inside, guest = configured, configured.guest
    guest.stop_agent()
    inside.expect("AGENT_STOPPED")
    then = since(inside, "AGENT_STOPPED")
    known_then = since(inside, "AGENT_DEFECT_ON_PYTHON")
    guest.wait_for("the state to be on the disk", lambda: "AGENT_STOPPED" in guest.read(f"{STATE}/state.json"), 10)
    killed, before = main_pid(guest), restarts(guest)
    began = time.monotonic()
    with Squeezed(guest, killed) as squeezed:

        def gone() -> bool:
            guest.run("systemctl", "reload", UNIT, check=False)
            return main_pid(guest) != killed

        guest.wait_for("the daemon to be killed", gone, 60)
        measured(f"the kernel killed {squeezed.kills} for want of memory, after {time.monotonic() - began:.1f} s")
        assert squeezed.kills > 0
    guest.wait_for("the restart", lambda: restarts(guest) > before and main_pid(guest) not in (0, killed), 60)
    inside.expect("AGENT_STOPPED")
    measured(f"all is known again after {time.monotonic() - began:.1f} s")
    words = guest.journal(UNIT)
    assert "status=9/KILL" in words or "oom-kill" in words
    assert since(inside, "AGENT_STOPPED") == then
    assert since(inside, "AGENT_DEFECT_ON_PYTHON") == known_then
    guest.start_agent()
    inside.expect()


def test_a_look_that_is_killed_takes_nobody_with_it(configured: Inside) -> None:
    """A look that runs as a child of the daemon is killed: the daemon stays, and looks again."""
    inside, guest = configured, configured.guest
    guest.write(CONFIG, "[look]\ndoor = child\n")
    guest.run("systemctl", "reload", UNIT)
    mind, before = main_pid(guest), restarts(guest)

    def killed() -> bool:
        # Slow enough to be hit: it is stopped as soon as it is there.
        script = f'for pid in $(pgrep -P {mind}); do kill -KILL "$pid" && echo "$pid"; done'
        return bool(guest.run("sh", "-c", script, check=False).stdout.strip())

    for _ in range(3):
        guest.wait_for("a look to kill", killed, 30, every=0.0)
    guest.wait_for(
        "the daemon to say so", lambda: "died of signal 9" in guest.journal(UNIT).rpartition("reloaded")[2], 10
    )
    unit = next(probe for probe in status(inside)["probes"] if probe["name"] == "unit")
    guest.wait_for("the next look", lambda: probe_state(inside, "unit") == "ok", 30)
    measured(f"after the kill: {unit['state']} {unit['why']}")
    assert (main_pid(guest), restarts(guest)) == (mind, before)


def probe_state(inside: Inside, name: str) -> str:
    return str(next(probe["state"] for probe in status(inside)["probes"] if probe["name"] == name))


def test_a_frozen_disk_is_waited_for_by_nobody(configured: Inside) -> None:
    """While the disk is frozen every scrape is answered and changes are seen; after the thaw they are on the disk."""
    inside, guest = configured, configured.guest
    with LoopDisk(guest, STATE) as disk:
        try:
            # Shorter than the disk is frozen: a daemon that waited for it would be restarted.
            guest.write(DROP_IN, "[Service]\nWatchdogSec=30\n")
            guest.run("systemctl", "daemon-reload")
            guest.run("systemctl", "restart", UNIT)
            guest.wait_for("the daemon to be ready", lambda: is_ready(inside), 60)
            state = disk.root / "state.json"
            guest.wait_for("the state to be on the disk", state.exists, 30)
            mind, before = main_pid(guest), restarts(guest)
            with scraped(guest) as scrapes:
                disk.freeze(FROZEN_SECONDS + 60)
                began = time.monotonic()
                guest.stop_agent()
                guest.wait_for("the change to be seen", lambda: "AGENT_STOPPED" in inside.daemon_active(), 30)
                measured(f"frozen; the change is seen after {time.monotonic() - began:.1f} s")
                while time.monotonic() - began < FROZEN_SECONDS:
                    assert "AGENT_STOPPED" in inside.daemon_active()
                    time.sleep(1)
                assert "AGENT_STOPPED" not in state.read_text()
                disk.thaw()
                thawed = time.monotonic()
                guest.wait_for("the change to be on the disk", lambda: "AGENT_STOPPED" in state.read_text(), 30)
                measured(f"thawed; the change is on the disk after {time.monotonic() - thawed:.2f} s")
            measured(f"{scrapes}")
            assert not scrapes.failures
            assert (main_pid(guest), restarts(guest)) == (mind, before)
        finally:
            disk.thaw()
            guest.run("systemctl", "stop", UNIT)
    assert not (guest.root / STATE.lstrip("/") / "lost+found").exists()


# The probes that look into every version's directory.
LOOK_THERE = {"extension", "past", "space"}


@pytest.mark.parametrize("hang", list(Hang))
def test_a_look_that_hangs_is_given_up(configured: Inside, hang: Hang) -> None:
    """A probe that hangs on a dead file system is unknown; the others look on, and what hangs does not pile up."""
    inside, guest = configured, configured.guest
    place = f"{LIBRARY}/{HANDLER}-1.0.0.0"  # an older version's directory, which the agent leaves alone
    # Long enough for all others, however busy the machine is that the guests share.
    guest.write(CONFIG, "[look]\ndeadline = 10s\n")
    guest.run("systemctl", "reload", UNIT)
    guest.wait_for("the daemon to be ready", lambda: is_ready(inside), 60)
    mind, before = main_pid(guest), restarts(guest)
    guest.run("mkdir", place)
    most_units = most_processes = 0
    try:
        with scraped(guest) as scrapes, HangingMount(guest, place, hang) as mount:
            guest.wait_for("the probe to be given up", lambda: probe_state(inside, "extension") == "given_up", 60)
            probes = {probe["name"]: probe for probe in status(inside)["probes"]}
            assert "not back after 10 s" in probes["extension"]["why"]
            assert status(inside)["verdict"] in ("unknown", "blocked")  # blocked once the mount itself is told
            assert {name for name, probe in probes.items() if probe["state"] != "ok"} <= LOOK_THERE
            began = time.monotonic()
            while time.monotonic() - began < 45:
                most_units = max(most_units, len(look_units(guest)))
                most_processes = max(most_processes, len(look_processes(guest)))
                time.sleep(1)
            others = {probe["state"] for probe in status(inside)["probes"] if probe["name"] not in LOOK_THERE}
            assert others == {"ok"}
            assert (mount.swallowed > 0) is (hang is Hang.IN_KERNEL)
            if hang is Hang.IN_KERNEL:  # what the mind's own bound rests on
                script = "from backupready.mind import service; print(service.living_looks())"
                assert int(guest.run("python3", "-c", script).stdout) >= 2
        measured(f"{hang.name}: at most {most_units} units and {most_processes} processes of looks; {scrapes}")
        assert not scrapes.failures
        # The mind begins no more looks at six; three probes look there, and may be asked alone at the same moment.
        assert most_units <= 6 + len(LOOK_THERE)
        assert most_processes <= 6 + 2 * len(LOOK_THERE)
        assert (main_pid(guest), restarts(guest)) == (mind, before)
        guest.wait_for("the daemon to be ready", lambda: is_ready(inside), 120)
        inside.set_intervals("1h", "1h")
        guest.run("systemctl", "reload", UNIT)
        guest.wait_for("the last look to be gone", lambda: not look_units(guest) and not look_processes(guest), 30)
    finally:
        inside.set_intervals()
        guest.run("rmdir", place)


def test_a_dead_home_blinds_nobody(configured: Inside) -> None:
    """Homes on a dead file server keep neither the eyes nor the daemon from starting: that they are dead is told, and
    everything else is known."""
    inside, guest = configured, configured.guest

    def told() -> bool:
        try:
            document = status(inside)
        except LabError:  # right after its start it does not listen yet
            return False
        known = all(probe["state"] == "ok" for probe in document["probes"])
        return known and [reason["problem"] for reason in document["reasons"]] == ["MOUNT_UNRESPONSIVE"]

    with HangingMount(guest, "/home", Hang.IN_KERNEL):
        guest.wait_for("the dead homes to be told", told, 120)
        guest.run("systemctl", "restart", "--no-block", UNIT)
        time.sleep(2)
        guest.wait_for("them to be told again", told, 120)
