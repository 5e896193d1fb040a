"""Is a healthy machine left in peace, and a loaded one told? These tests want the machine for themselves."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time

from lab import archive
from measured import measured
from requirement import unavailable
from system import faults
from system.inside import Inside

_LOOKS = 200
_NEWER = "2.7.3.0-4.1+lab"


def _looks(inside: Inside) -> int:
    found = re.search(r"(?m)^backupready_looks_total (\S+)$", inside.get("/metrics"))
    assert found
    return int(float(found[1]))


def _verdict(inside: Inside) -> str:
    return str(json.loads(inside.get("/api/v1/status"))["verdict"])


class _Watcher:
    """Asks the daemon again and again, and keeps every problem that was ever active."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        self.seen: dict[str, str] = {}  # problem → what it said
        self.verdicts: dict[
            str, dict[str, str]
        ] = {}  # at which time → every verdict that there was, and its first page
        self.during = ""

    def until(self, looks: int) -> None:
        while _looks(self._inside) < looks:
            self.ask()

    def ask(self) -> None:
        told = self._inside.get("/api/v1/status")
        for code in self._inside.daemon_active():
            self.seen.setdefault(code, f"{self.during}: {told}")
        self.verdicts.setdefault(self.during, {}).setdefault(json.loads(told)["verdict"], told)
        time.sleep(1.0)  # whoever asks all the time keeps a small machine busy by that alone


def test_two_hundred_looks_without_a_false_alarm(inside: Inside) -> None:
    """The healthy guest at rest, while packages are upgraded, the agent's own among them, and with an extension that
    has nothing to do with backup: no problem is ever active, but for those that are always there."""
    guest = inside.guest
    inside.set_intervals("2s", "6s", pressure=True)
    guest.run("systemctl", "reload", "backupready.service")
    inside.expect()
    # How busy it was just before, while it was being set up, is not known at once to be over.
    guest.wait_for("the daemon to be ready", lambda: _verdict(inside) == "ready", 150)
    watcher, first = _Watcher(inside), _looks(inside)
    try:
        watcher.during = "at rest"
        watcher.until(first + _LOOKS // 4)

        watcher.during = "with an unrelated extension"
        guest.fabric.set("extra_handler", "on")
        guest.fabric.new_goal_state()
        guest.wait_for("the other extension", lambda: len((guest.agent_report() or _NONE).handlers) == 2, 90)
        watcher.until(first + _LOOKS // 2)
        guest.fabric.set("extra_handler", "off")
        guest.fabric.new_goal_state()

        upgrades = 0
        while _looks(inside) < first + _LOOKS:
            upgrades += 1
            watcher.during = f"during upgrade {upgrades}"
            archive.offer(guest, "waagent", f"{_NEWER}{upgrades}")
            errors: list[str] = []
            upgrade = threading.Thread(target=_upgrade, args=(inside, errors))
            upgrade.start()
            while upgrade.is_alive():
                watcher.ask()
            assert errors == []
            for _ in range(20):
                watcher.ask()
        version = guest.run("dpkg-query", "-W", "-f", "${Version}", "waagent").stdout
        assert version == f"{_NEWER}{upgrades}"
        looks = _looks(inside) - first
    finally:
        archive.withdraw(guest)
        inside.set_intervals()
        guest.run("systemctl", "reload", "backupready.service")
    # What the archive offers is newer until it is installed: that is no false alarm, but the truth.
    # An agent that is being replaced cannot be judged; at all other times it is known to be well.
    for during in ("at rest", "with an unrelated extension"):
        assert set(watcher.verdicts[during]) == {"ready"}, watcher.verdicts[during]
    false = {code: told for code, told in watcher.seen.items() if code != "AGENT_OUTDATED"}
    said = f"{looks}, {upgrades} upgrades of the agent among them; false alarms: {len(false)}"
    measured(f"looks in a row at a healthy guest: {said}")
    assert false == {}
    assert upgrades >= 2


class _NONE:
    handlers: dict[str, object] = {}


def _upgrade(inside: Inside, errors: list[str]) -> None:
    command = inside.guest.command("apt-get", "upgrade", "--yes", "-qq")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        errors.append(done.stderr)


def test_an_outdated_agent(inside: Inside) -> None:
    """A newer build in the archive is told from apt's lists, and is over when it is installed."""
    guest = inside.guest
    try:
        archive.offer(guest, "waagent", "2.7.3.0-4.1+later")
        inside.expect("AGENT_OUTDATED", within=150)
        guest.run("apt-get", "upgrade", "--yes", "-qq", timeout=120)
        guest.wait_agent_ready()
        inside.expect(within=200)
    finally:
        archive.withdraw(guest)


def test_cpu_hog(steady: Inside) -> None:
    """stress-ng on every processor, bounded; it ends, and so does the finding."""
    steady.set_intervals("3s", "8s", pressure=True)
    steady.guest.run("systemctl", "reload", "backupready.service")
    try:
        with faults.running(steady, "stress-ng", "--cpu", "0", "--timeout", "150s"):
            checked = steady.expect("CPU_SATURATED", within=140)
            assert checked.document["verdict"] == "degraded"
        steady.expect(within=120)
    finally:
        steady.set_intervals()
        steady.guest.run("systemctl", "reload", "backupready.service")


def test_memory_hog(steady: Inside) -> None:
    """stress-ng takes some memory, with the threshold just above what was used before: this machine's own memory is not
    to be used up by a test."""
    meminfo = dict(re.findall(r"(?m)^(\w+):\s+(\d+) kB", steady.guest.read("/proc/meminfo")))
    used = 100 * (1 - int(meminfo["MemAvailable"]) / int(meminfo["MemTotal"]))
    # So much that the threshold, a whole number of per cent, can stand well between before and with it.
    share = 4
    mebibytes = int(meminfo["MemTotal"]) * share // 100 // 1024
    if int(meminfo["MemAvailable"]) // 1024 < 3 * mebibytes:
        unavailable(f"{mebibytes} MiB cannot be spared here")
    steady.set_intervals("3s", "8s", pressure=True)
    steady.guest.write(
        "/etc/backupready/conf.d/60-memory.conf", f"[pressure]\nmemory_percent = {round(used) + share // 2}\n"
    )
    steady.guest.run("systemctl", "reload", "backupready.service")
    try:
        steady.expect(within=60)
        with faults.running(
            steady, *["stress-ng", "--vm", "1", "--vm-bytes", f"{mebibytes}m", "--vm-keep", "--timeout", "150s"]
        ):
            steady.expect("MEMORY_EXHAUSTED", within=140, perhaps=("CPU_SATURATED",))
        steady.expect(within=120, perhaps=("CPU_SATURATED",))
    finally:
        steady.guest.path("/etc/backupready/conf.d/60-memory.conf").unlink()
        steady.set_intervals()
        steady.guest.run("systemctl", "reload", "backupready.service")
