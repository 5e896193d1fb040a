"""What does it look like where there is no Azure? An emulated guest, and a small story told on it.

The guest is emulated: its files lie in a temporary directory, its agent is a stand-in of two real processes that behave
like waagent's, and its fabric is a small HTTP server on the loopback. Everything else is the real program. (The tests
run the real agent under a real systemd.)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from backupready import waagent
from backupready.eyes.machine import LiveMachine
from backupready.model import Absent, CannotTell

_HANDLER = f"{waagent.VMSNAPSHOT}-1.0.9220.0"
_STARTS_WITHIN = 60.0  # s; two Pythons on a machine that may have much else to do

_STAND_IN_AGENT = '''\
"""A stand-in for the VM agent: two processes, a report every second, a log. It does nothing else."""
import datetime, json, os, pathlib, signal, subprocess, sys, time

root = pathlib.Path(sys.argv[0]).parent.parent.parent
lib, log = root / "var/lib/waagent", root / "var/log/waagent.log"

def note(thread, text):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    with log.open("a") as file:
        file.write(f"{now} INFO {thread} {thread} {text}\\n")

if sys.argv[1] == "-daemon":
    note("Daemon", "Azure Linux Agent Version: 2.15.0.1")
    note("Daemon", f"Python: {sys.version.split()[0]}")
    note("Daemon", "Run daemon")
    worker = subprocess.Popen([sys.executable, "-u", sys.argv[0], "-run-exthandlers"])
    stopping = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.append(True))
    while not stopping and worker.poll() is None:
        time.sleep(0.05)
    worker.terminate()
    worker.wait()
else:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    note("ExtHandler", "Azure Linux Agent (Goal State Agent version 2.15.0.1)")
    note("ExtHandler", "Fetch goal state from WireServer completed")
    history = lib / "history/2026-01-01T00-00-00__1"
    parent = os.getppid()
    while os.getppid() == parent:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        report = json.loads((root / "report.json").read_text())
        report["timestampUTC"] = now
        scratch = history / ".waagent_status.json"
        scratch.write_text(json.dumps(report))
        scratch.rename(history / "waagent_status.json")
        time.sleep(1)
'''


class EmulatedGuest:
    """The tree, the stand-in agent and the loopback fabric. Close it, or use it in a `with`. Its daemon is told to
    listen at `port`: where that is not given, at the usual one if it is free; with 0, at any."""

    def __init__(self, port: int | None = None) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="backupready-demo-"))
        self.agent: subprocess.Popen[bytes] | None = None
        self._wire = _serve(
            b"<?xml version='1.0'?><Versions><Supported><Version>2012-11-30</Version></Supported></Versions>"
        )
        self._plugin = _serve(b'["2015-09-01"]')
        self.port = _free_port() if port is None else port
        self._furnish()

    def __enter__(self) -> EmulatedGuest:
        self.start_agent()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def config_path(self) -> Path:
        return self.root / "backupready.conf"

    def _furnish(self) -> None:
        def write(path: str, text: str, mode: int = 0o644) -> None:
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(mode)

        name = waagent.VMSNAPSHOT
        plugin = f'<Plugin name="{name}" version="1.0.9220.0" state="enabled"/>'
        commands = {
            f"{verb}Command": f"main/handle.sh {verb}" for verb in ("install", "enable", "disable", "uninstall")
        }
        report = {
            "version": "1.1",
            "timestampUTC": "",
            "aggregateStatus": {
                "guestAgentStatus": {"version": "2.15.0.1", "status": "Ready"},
                "handlerAggregateStatus": [
                    {"handlerName": name, "handlerVersion": "1.0.9220.0", "status": "Ready", "code": 0}
                ],
            },
        }
        handler = f"var/lib/waagent/{_HANDLER}"
        write("usr/sbin/waagent", _STAND_IN_AGENT, 0o755)
        for tool in ("openssl", "ip"):
            write(f"usr/bin/{tool}", "", 0o755)
        for tool in ("lsblk", "mount", "df"):
            write(f"usr/bin/{tool}", "", 0o755)
        write("usr/bin/python3", "#!/bin/sh\necho asked\n", 0o755)
        machine = "7f5a3c3e-0000-4000-8000-000000000001"
        write("var/lib/waagent/provisioned", machine)
        write("sys/class/dmi/id/product_uuid", machine)
        write("sys/class/dmi/id/chassis_asset_tag", waagent.AZURE_ASSET_TAG)
        write("etc/waagent.conf", "Extensions.Enabled=y\nLogs.Verbose=n\n")
        write("proc/1/mountinfo", "26 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw,discard\n")
        write(
            "proc/net/route",
            "eth0 00000000 0100000A 0003 0 0 100 00000000\neth0 10813FA8 0100000A 0007 0 0 100 FFFFFFFF\n",
        )
        write("report.json", json.dumps(report))
        write("var/lib/waagent/history/2026-01-01T00-00-00__1/ExtensionsConfig.xml",
              f"<Extensions><Plugins>{plugin}</Plugins></Extensions>")  # fmt: skip
        write(f"{handler}/HandlerManifest.json", json.dumps([{"version": 1.0, "handlerManifest": commands}]))
        write(f"{handler}/HandlerEnvironment.json", json.dumps([{"version": 1.0, "handlerEnvironment": {}}]))
        write(f"{handler}/config/HandlerState", "Enabled")
        write(f"{handler}/main/handle.sh", "#!/bin/sh\nexit 0\n", 0o755)
        (self.root / "var/log/azure" / name).mkdir(parents=True)
        (self.root / "var/log/waagent.log").touch()
        write(
            "backupready.conf",
            textwrap.dedent(f"""\
            # An emulated guest.
            [machine]
            root = {self.root}
            wire_server = 127.0.0.1:{self._wire.server_port}
            host_plugin = 127.0.0.1:{self._plugin.server_port}
            [look]
            door = child
            [state]
            directory = {self.root}
            [web]
            listen_address = 127.0.0.1:{self.port}
            status_socket = {self.root}/status.sock
            # The emulated guest has no service manager.
            [unit]
            enabled = no
            # Nor a storage, and what this machine's network lets through is not its matter.
            [storage]
            enabled = no
            # Nor a load of its own.
            [pressure]
            enabled = no
            [agent]
            interval = 5s
            [wire]
            interval = 10s
            """),
        )

    def start_agent(self) -> None:
        """Start the stand-in agent, and wait for its first report."""
        report = self.root / "var/lib/waagent/history/2026-01-01T00-00-00__1/waagent_status.json"
        report.unlink(missing_ok=True)
        command = [sys.executable, str(self.root / "usr/sbin/waagent"), "-daemon"]
        self.agent = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + _STARTS_WITHIN
        while not report.exists():
            if time.monotonic() > deadline or self.agent.poll() is not None:
                raise RuntimeError("the stand-in agent did not start")
            time.sleep(0.05)

    def stop_agent(self) -> None:
        """As `systemctl stop walinuxagent` would."""
        if self.agent is not None:
            self.agent.send_signal(signal.SIGTERM)
            self.agent.wait(10)
            self.agent = None

    def close(self) -> None:
        self.stop_agent()
        for server in (self._wire, self._plugin):
            server.shutdown()
            server.server_close()
        shutil.rmtree(self.root, ignore_errors=True)


def _serve(body: bytes) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802 - the name is the library's
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _free_port() -> int:
    """The usual port if it is free, else any."""
    for port in (10168, 0):
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind(("127.0.0.1", port))
            return int(candidate.getsockname()[1])
    raise RuntimeError("cannot find a free port on 127.0.0.1")


# ------------------------------------------------------------------------------------------------------- story


def is_azure() -> bool:
    """Whether this machine's firmware says that it is an Azure VM."""
    try:
        tag = LiveMachine().read("/sys/class/dmi/id/chassis_asset_tag", 256)
    except (Absent, CannotTell):
        return False
    return tag.decode("ascii", "replace").strip() == waagent.AZURE_ASSET_TAG


def _say(text: str) -> None:
    print(text, flush=True)


def _program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "backupready", *arguments]


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _wait_for(daemon: subprocess.Popen[bytes], port: int, verdict: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    newest: dict[str, Any] = {}
    while time.monotonic() < deadline and daemon.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            newest = json.loads(_get(port, "/api/v1/status"))
            if newest["verdict"] == verdict:
                return
        time.sleep(0.1)
    raise RuntimeError(f"the daemon says {newest.get('verdict')!r} and not {verdict!r} within {seconds:g} s")


@contextlib.contextmanager
def _daemon(guest: EmulatedGuest) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(_program("--config", str(guest.config_path), "run"), stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(15)


def story() -> int:
    """healthy → agent stopped → healthy."""
    if is_azure():
        command = " ".join(_program("check"))
        _say("This is an Azure VM, so here is the real thing instead of the demo.\n")
        if os.geteuid() != 0:
            _say(f"The agent's files are root's alone. Run:  sudo {command}")
            return 0
        return subprocess.run(_program("check"), check=False).returncode
    _say("This machine is no Azure VM. The guest below is EMULATED: a temporary directory, a stand-in for the VM agent")
    _say("(two real processes) and a stand-in for the Azure fabric on the loopback. The program is the real one.\n")
    with EmulatedGuest() as guest:
        _say(f"$ backupready --config {guest.config_path} check")
        subprocess.run(_program("--config", str(guest.config_path), "check"), check=False)
        _say("\n$ backupready run &")
        with _daemon(guest) as daemon:
            _wait_for(daemon, guest.port, "ready")
            _say(f"\n  the daemon runs: status page  http://127.0.0.1:{guest.port}/")
            _say(f"                   metrics      http://127.0.0.1:{guest.port}/metrics")
            _say(f"                   status       http://127.0.0.1:{guest.port}/api/v1/status\n")
            _show(guest)
            _say("\n# Now the agent is stopped, as `systemctl stop walinuxagent` would.")
            guest.stop_agent()
            stopped = time.monotonic()
            _wait_for(daemon, guest.port, "blocked")
            _say(f"# seen after {time.monotonic() - stopped:.1f} s:\n")
            _show(guest)
            _say("\n# And started again.")
            guest.start_agent()
            started = time.monotonic()
            _wait_for(daemon, guest.port, "ready")
            _say(f"# seen after {time.monotonic() - started:.1f} s:\n")
            _show(guest)
    _say("\nThe demo is over; the emulated guest is gone.")
    return 0


def _show(guest: EmulatedGuest) -> None:
    subprocess.run(_program("--config", str(guest.config_path), "status"), check=False)
    for line in _get(guest.port, "/metrics").decode().splitlines():
        if line.startswith("backupready_verdict{") and line.endswith(" 1.0"):
            _say(f"  {line}")
        if line.startswith('backupready_problem_active{effect="blocks",problem="AGENT_STOPPED"'):
            _say(f"  {line}")


if __name__ == "__main__":
    try:
        sys.exit(story())
    except KeyboardInterrupt:
        sys.exit(130)
