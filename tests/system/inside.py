"""backupready in the booted guest: how the tests install its package, ask it, and bring the guest back to health."""

from __future__ import annotations

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupready.probes import PROBES
from lab.guest import AGENT_UNIT, HANDLER_DIRECTORY, Guest, LabError
from lab.mount import tool

BACKUPREADY = "/usr/bin/backupready"
_RESTART_DROP_IN = f"/etc/systemd/system/{AGENT_UNIT}.d/50-restart.conf"
_AGENT_CONFIG = "/etc/waagent.conf"
# True of Debian 12's agent on its Python and of its configuration, healthy or not, and of a guest whose root is an
# overlay and for which no schedule is set.
ALWAYS = frozenset({"AGENT_DEFECT_ON_PYTHON", "AUTO_UPDATE_OFF", "FREEZE_NOT_CONSISTENT", "WINDOW_UNKNOWN"})
# How often the daemon looks in the tests by itself. Looks keep the machine busy, so that a test which waits for
# something asks for one instead (a reload looks at everything anew), and only what most tests are about is looked at
# more often.
_OFTEN, _LESS_OFTEN = "10s", "30s"
_ASK_FIRST, _ASK_AGAIN = 1.0, 20.0  # s; one that is under way is given up by a reload, so that it is not asked often
_CORE = ("agent", "extension", "unit", "wire")
# What takes processor time at each look, and changes seldom.
_COSTLY = {"interpreter": "30s", "package": "1min"}


@dataclass(frozen=True)
class Checked:
    """What `backupready check --json` said."""

    exit_code: int
    document: dict[str, Any]

    @property
    def active(self) -> frozenset[str]:
        """The active problems but for those that are always there."""
        entries = [*self.document["reasons"], *self.document["notices"]]
        return frozenset(entry["problem"] for entry in entries) - ALWAYS


class Inside:
    """The guest, and backupready in it."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self._config = guest.read(_AGENT_CONFIG)
        self._drop_in = guest.read(_RESTART_DROP_IN)
        self._manifest = ""

    def install(self, deb: Path) -> None:
        """The built package, as anybody installs it; only how often it looks is the tests' own."""
        self.guest.install_deb(deb)
        self.set_intervals()
        self.guest.run("systemctl", "reload", "backupready.service")

    def set_intervals(self, span: str = _OFTEN, seldom: str = _LESS_OFTEN, pressure: bool = False) -> None:
        """How often the daemon looks by itself; the tests have less patience than an administrator."""
        spans = {probe.name: span if probe.name in _CORE else _COSTLY.get(probe.name, seldom) for probe in PROBES}
        text = "".join(f"[{name}]\ninterval = {spans[name]}\n" for name in spans)
        text = text.replace(
            "[guest]\n", "[guest]\nazure = yes\nlock_minutes = 1\n"
        )  # whatever the machine is that the tests run on
        text = text.replace("[mounts]\n", "[mounts]\naccept_crash_consistent = yes\n")
        # The guest shares this machine's processors with whatever else runs on it; who tests pressure switches it on.
        text = text.replace("[pressure]\n", f"[pressure]\nenabled = {'yes' if pressure else 'no'}\n")
        self.guest.write("/etc/backupready/conf.d/50-test.conf", text)

    def start_daemon(self) -> None:
        self.guest.run("systemctl", "start", "backupready-look.socket")
        self.guest.run("systemctl", "start", "backupready.service")

    def mount(self, *arguments: str) -> None:
        """Mount in the guest's mounts, with more rights than the guest has."""
        tool("nsenter", f"--target={self.guest.leader}", "--mount", "--pid", "--", "mount", *arguments)

    # ---- asking

    def check(self, user: str | None = None) -> Checked:
        done = self.guest.run(BACKUPREADY, "check", "--json", check=False, timeout=120, user=user)
        try:
            return Checked(done.returncode, json.loads(done.stdout))
        except ValueError:
            raise AssertionError(f"no document, but exit {done.returncode}: {done.stdout}{done.stderr}") from None

    def get(self, path: str) -> str:
        """From the running daemon."""
        script = (
            f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:10168{path}', timeout=5).read().decode())"
        )
        return self.guest.run("python3", "-c", script).stdout

    def daemon_active(self) -> frozenset[str]:
        """The active problems by the daemon's metrics, but for those that are always there."""
        active = set()
        for line in self.get("/metrics").splitlines():
            if line.startswith("backupready_problem_active{") and line.endswith(" 1"):
                active.add(line.partition('problem="')[2].partition('"')[0])
        return frozenset(active) - ALWAYS

    def expect(
        self,
        *problems: str,
        within: float = 60.0,
        daemon: Collection[str] | None = None,
        perhaps: Collection[str] = (),
    ) -> Checked:
        """Exactly these problems are active: by the daemon, twice in a row, and then by a check of its own; for the
        daemon others may be given, where it sees less than a check by root does. What is there perhaps may be active
        or not."""
        wanted = frozenset(problems)
        wanted_of_daemon = wanted if daemon is None else frozenset(daemon)
        began = time.monotonic()
        deadline, ask = began + within, began + _ASK_FIRST
        in_a_row = 0
        while True:
            # The daemon is asked first: that costs next to nothing, while a check keeps a processor busy.
            now = time.monotonic()
            late = now > deadline
            try:
                told = self.daemon_active()
            except LabError as error:
                if late or "Connection refused" not in str(error):
                    raise
                in_a_row = 0
                time.sleep(0.5)  # a daemon that was just restarted does not listen yet
                continue
            right = told - set(perhaps) == wanted_of_daemon
            in_a_row = in_a_row + 1 if right else 0
            if in_a_row >= 2 or late:
                checked = self.check()
                right = right and checked.active - set(perhaps) == wanted
                # What is not told must be known: where nothing at all is wrong, the machine is ready.
                right = right and (bool(checked.active) or checked.document["verdict"] == "ready")
                if right:
                    return checked
                if late:
                    raise AssertionError(
                        f"expected {sorted(wanted)}; check says {sorted(checked.active)}, the daemon {sorted(told)}\n"
                        f"{json.dumps(checked.document, indent=1)}\n{self.last_words()}"
                    )
            elif now > ask:
                ask = now + _ASK_AGAIN
                self.guest.run("systemctl", "reload", "backupready.service", check=False)
            time.sleep(0.5)

    def last_words(self) -> str:
        journal = "\n".join(self.guest.journal("backupready.service").splitlines()[-20:])
        return f"{journal}\n{self.guest.run('tail', '-n', '15', '/var/log/waagent.log', check=False).stdout}"

    # ---- health

    def keep_manifest(self) -> str:
        """The handler's manifest, for who takes it away."""
        self._manifest = self.guest.read(f"{HANDLER_DIRECTORY}/HandlerManifest.json")
        return f"{HANDLER_DIRECTORY}/HandlerManifest.json"

    def heal(self) -> None:
        """Undo whatever a test does to the guest, and wait until the agent reports that it is ready."""
        guest = self.guest
        guest.fabric.reset()
        guest.set_handler()
        if self._manifest:
            guest.write(f"{HANDLER_DIRECTORY}/HandlerManifest.json", self._manifest)
            self._manifest = ""
        guest.write(_RESTART_DROP_IN, self._drop_in)
        guest.write(_AGENT_CONFIG, self._config)
        guest.path("/var/lib/waagent/disable_agent").unlink(missing_ok=True)
        guest.run("systemctl", "daemon-reload")
        for pid in (guest.agent_pids().daemon, guest.agent_pids().worker):
            if pid is not None:
                guest.run("kill", "-CONT", str(pid), check=False)
        guest.run("systemctl", "reset-failed", AGENT_UNIT, check=False)
        guest.restart_agent()
        guest.wait_agent_ready()

    def set_config(self, key: str, value: str) -> None:
        """A setting in waagent.conf."""
        lines = [line for line in self._config.splitlines() if not line.startswith(f"{key}=")]
        self.guest.write(_AGENT_CONFIG, "\n".join([*lines, f"{key}={value}"]) + "\n")

    def without_auto_restart(self) -> None:
        """The unit as Debian ships it."""
        self.guest.path(_RESTART_DROP_IN).unlink()
        self.guest.run("systemctl", "daemon-reload")
