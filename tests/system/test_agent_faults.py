"""The real agent under a real systemd: every fault is told exactly, and so is its end."""

from __future__ import annotations

import json
import re
import time
from typing import Any

from backupready import waagent
from backupready.probes import PROBES
from lab.guest import AGENT_UNIT
from measured import measured
from system.inside import ALWAYS, BACKUPREADY, Inside


def test_a_healthy_guest_is_ready(inside: Inside) -> None:
    """No reason, exit 0; nothing that would block or degrade is unknown."""
    checked = inside.expect()
    assert (checked.exit_code, checked.document["verdict"]) == (0, "ready")
    assert checked.document["reasons"] == []
    assert {notice["problem"] for notice in checked.document["notices"]} == ALWAYS
    assert [probe["state"] for probe in checked.document["probes"]] == ["ok"] * (len(PROBES) - 1)


def test_stopped(inside: Inside) -> None:
    """`systemctl stop`, and start again."""
    inside.guest.stop_agent()
    checked = inside.expect("AGENT_STOPPED")
    assert (checked.exit_code, checked.document["verdict"]) == (2, "blocked")
    inside.guest.start_agent()
    assert inside.expect().exit_code == 0


def test_a_start_that_is_skipped(inside: Inside) -> None:
    """A condition of its unit is not met: the service manager says that all is well, and starts nothing."""
    drop_in = f"/run/systemd/system/{AGENT_UNIT}.d/90-skip.conf"
    inside.guest.write(drop_in, "[Unit]\nConditionPathExists=/nowhere\n")
    inside.guest.run("systemctl", "daemon-reload")
    try:
        inside.guest.stop_agent()
        inside.guest.run("systemctl", "start", AGENT_UNIT)
        checked = inside.expect("AGENT_START_SKIPPED")
        assert "AGENT_STOPPED" in checked.document["reasons"][0]["consequences"]
    finally:
        inside.guest.path(drop_in).unlink()
        inside.guest.run("systemctl", "daemon-reload")
    inside.guest.start_agent()
    inside.guest.wait_agent_ready()
    assert inside.expect(within=200).exit_code == 0


def test_the_start_limit(inside: Inside) -> None:
    """An agent that ends as soon as it is started, until the service manager tries no more; and somebody else's process
    has the number that is in its pid file."""
    drop_in = f"/run/systemd/system/{AGENT_UNIT}.d/90-limit.conf"
    text = "[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=3\n[Service]\nExecStart=\nExecStart=/bin/false\n"
    inside.guest.stop_agent()
    inside.guest.write(drop_in, f"{text}Restart=always\nRestartSec=100ms\n")
    inside.guest.run("systemctl", "daemon-reload")
    try:
        inside.guest.run("systemctl", "start", AGENT_UNIT, check=False)
        checked = inside.expect("AGENT_START_LIMIT")
        assert "AGENT_STOPPED" in checked.document["reasons"][0]["consequences"]
    finally:
        inside.guest.path(drop_in).unlink()
        inside.guest.run("systemctl", "daemon-reload")
    inside.heal()
    assert inside.expect(within=200).exit_code == 0


def test_a_pid_file_that_names_somebody_else(inside: Inside) -> None:
    """The agent is down, and its pid file names a process that is none of its."""
    inside.guest.stop_agent()
    inside.guest.write(waagent.PID_FILE, "1\n")
    try:
        checked = inside.expect("AGENT_PID_FILE_STALE")
        assert checked.document["reasons"][0]["consequences"] == ["AGENT_STOPPED"]
    finally:
        inside.guest.path(waagent.PID_FILE).unlink()
    inside.guest.start_agent()
    inside.guest.wait_agent_ready()
    assert inside.expect(within=200).exit_code == 0


_STOPWATCH = """
import os, signal, sys, time, urllib.request
pid = int(sys.argv[1])
os.kill(pid, signal.SIGKILL)
killed = time.monotonic()
while time.monotonic() < killed + 30:
    body = urllib.request.urlopen("http://127.0.0.1:10168/metrics", timeout=5).read().decode()
    if 'backupready_problem_active{effect="blocks",problem="AGENT_STOPPED"} 1\\n' in body:
        print(f"{time.monotonic() - killed:.2f}")
        break
    time.sleep(0.01)
else:
    sys.exit("the metric never came")
"""


def test_daemon_killed(inside: Inside) -> None:
    """`kill -9` of the daemon, whose unit is as Debian ships it: it stays down, and that is seen at once."""
    inside.without_auto_restart()
    inside.guest.restart_agent()
    inside.guest.wait_agent_ready()
    inside.expect("AGENT_NO_AUTO_RESTART", within=200)
    # So that it is the death that is seen, and not the next look in turn.
    inside.set_intervals("1h", "1h")
    inside.guest.run("systemctl", "reload", "backupready.service")
    time.sleep(1)
    seconds = inside.guest.run("python3", "-c", _STOPWATCH, str(inside.guest.agent_pids().daemon)).stdout.strip()
    measured(f'kill -9 of the agent\'s daemon to backupready_problem_active{{problem="AGENT_STOPPED"}} 1: {seconds} s')
    inside.expect("AGENT_STOPPED", "AGENT_NO_AUTO_RESTART")
    inside.set_intervals()
    inside.guest.run("systemctl", "reload", "backupready.service")
    inside.heal()
    assert inside.expect(within=200).exit_code == 0


def test_daemon_killed_and_restarted_by_its_unit(inside: Inside) -> None:
    """With `Restart=always` the daemon that was killed is back within seconds, and nothing is left to complain of."""
    before = inside.guest.agent_pids()
    inside.guest.run("kill", "-9", str(before.daemon))
    inside.guest.wait_agent_ready()
    assert inside.guest.agent_pids().daemon != before.daemon
    assert inside.expect().exit_code == 0


def test_worker_killed(inside: Inside) -> None:
    """`kill -9` of the worker: the daemon launches a new one within seconds, so there is nothing to believe; but the
    death was seen."""

    def deaths() -> float:
        match = re.search(r"^backupready_process_deaths_total (\S+)$", inside.get("/metrics"), re.MULTILINE)
        assert match
        return float(match.group(1))

    inside.expect()
    before, seen = inside.guest.agent_pids(), deaths()
    inside.guest.run("kill", "-9", str(before.worker))
    inside.guest.wait_agent_ready()
    inside.guest.wait_for("the worker's death to be counted", lambda: deaths() > seen, 10)
    assert inside.guest.agent_pids().worker != before.worker
    assert inside.expect().exit_code == 0


def test_worker_stopped(inside: Inside) -> None:
    """`kill -STOP` of the worker: its unit shows active, but it is hung."""
    worker = str(inside.guest.agent_pids().worker)
    inside.guest.run("kill", "-STOP", worker)
    checked = inside.expect("AGENT_HUNG", within=200)
    assert checked.document["reasons"][0]["evidence"]["state"] == "T"
    inside.guest.run("kill", "-CONT", worker)
    assert inside.expect(within=200).exit_code == 0


def test_wire_server_down(inside: Inside) -> None:
    """The wire server refuses: that is said, and so is the crash loop into which it sends this agent."""
    inside.guest.fabric.set("wire_server", "refused")
    checked = inside.expect("WIRE_SERVER_UNREACHABLE", "AGENT_CRASH_LOOPING", within=200)
    reasons = {reason["problem"]: reason["evidence"] for reason in checked.document["reasons"]}
    assert reasons["WIRE_SERVER_UNREACHABLE"]["how"] == "refused"
    assert "etype" in reasons["AGENT_CRASH_LOOPING"]["error"]
    inside.guest.fabric.set("wire_server", "up")
    assert inside.expect(within=200).exit_code == 0


def test_wire_server_silent(inside: Inside) -> None:
    """The wire server takes the connection and never answers."""
    inside.guest.fabric.set("wire_server", "silent")
    checked = inside.guest.wait_for(
        "the silence to be told",
        lambda: next((c for c in [inside.check()] if "WIRE_SERVER_UNREACHABLE" in c.active), None),
    )
    assert checked.document["reasons"][0]["evidence"]["how"] == "timed_out"
    inside.guest.fabric.set("wire_server", "up")
    assert inside.expect(within=200).exit_code == 0


def test_host_plugin_down(inside: Inside) -> None:
    """:32526 refuses, :80 answers."""
    inside.guest.fabric.set("host_plugin", "refused")
    inside.expect("HOST_PLUGIN_UNREACHABLE", within=200)
    inside.guest.fabric.set("host_plugin", "up")
    assert inside.expect(within=200).exit_code == 0


def test_captive_portal(inside: Inside) -> None:
    """Something else answers in the wire server's place."""
    inside.guest.fabric.set("wire_server", "impostor")
    checked = inside.guest.wait_for(
        "the impostor to be told",
        lambda: next((c for c in [inside.check()] if "WIRE_SERVER_IMPOSTOR" in c.active), None),
    )
    assert checked.exit_code == 2
    inside.guest.fabric.set("wire_server", "up")
    assert inside.expect(within=200).exit_code == 0


def test_manifest_lost(inside: Inside) -> None:
    """HandlerManifest.json is gone and the agent restarted: the extension's own status still says success."""
    inside.guest.path(inside.keep_manifest()).unlink()
    inside.guest.restart_agent()
    inside.guest.wait_handler("NotReady", 1002)
    inside.expect("EXTENSION_FILES_MISSING", within=200)
    inside.heal()
    assert inside.expect(within=200).exit_code == 0


def test_handler_fails(inside: Inside) -> None:
    """The handler ends with 3 when it is enabled."""
    inside.guest.set_handler(exit=3)
    inside.guest.restart_agent()
    inside.guest.wait_handler("NotReady", 1009)
    checked = inside.expect("EXTENSION_NOT_READY", within=200)
    evidence = checked.document["reasons"][0]["evidence"]
    assert evidence["code"] == 1009
    assert "Non-zero exit code: 3" in evidence["message"]
    inside.guest.set_handler()
    inside.guest.restart_agent()
    assert inside.expect(within=200).exit_code == 0


def test_disable_agent(inside: Inside) -> None:
    """The file that switches the agent off: the unit shows active, and there is no worker."""
    inside.guest.write("/var/lib/waagent/disable_agent", "")
    inside.guest.restart_agent()
    inside.expect("AGENT_SWITCHED_OFF")
    inside.guest.path("/var/lib/waagent/disable_agent").unlink()
    inside.guest.restart_agent()
    assert inside.expect().exit_code == 0


def test_extensions_switched_off(inside: Inside) -> None:
    """Extensions.Enabled=n: the agent reports itself ready, and no extension."""
    inside.set_config("Extensions.Enabled", "n")
    inside.guest.restart_agent()
    inside.expect("EXTENSIONS_SWITCHED_OFF", within=200)
    inside.heal()
    assert inside.expect(within=200).exit_code == 0


def test_masked(inside: Inside) -> None:
    """A stopped unit that is masked is not merely stopped."""
    inside.guest.stop_agent()
    inside.guest.run("systemctl", "mask", "--runtime", AGENT_UNIT)
    try:
        inside.expect("AGENT_MASKED", within=200)
    finally:
        inside.guest.run("systemctl", "unmask", "--runtime", AGENT_UNIT)
        inside.guest.start_agent()
    assert inside.expect(within=200).exit_code == 0


def test_not_root(inside: Inside) -> None:
    """Without root nothing of the agent's can be told, and that is said: exit 3, never a false alarm."""
    checked = inside.check(user="backupready")
    assert (checked.exit_code, checked.document["verdict"]) == (3, "unknown")
    assert checked.document["reasons"] == []


def test_status_is_what_the_daemon_believes(inside: Inside) -> None:
    """`backupready status` and the unit's status line tell the verdict."""
    inside.expect()
    done = inside.guest.run(BACKUPREADY, "status", "--json", check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] == "ready"
    shown = inside.guest.run("systemctl", "show", "-p", "StatusText", "backupready.service").stdout
    assert shown.startswith("StatusText=READY · the next backup should succeed")


def test_reload_and_stop(inside: Inside) -> None:
    """SIGHUP takes a new configuration over and refuses a wrong one; SIGTERM ends it cleanly."""
    guest = inside.guest

    def reloaded() -> str:
        match = re.search(r"^backupready_config_last_reload_successful (\S+)$", inside.get("/metrics"), re.MULTILINE)
        assert match
        return match.group(1)

    try:
        guest.write("/etc/backupready/conf.d/90-test.conf", "[wire]\nintervall = 1min\n")
        guest.run("systemctl", "reload", "backupready.service")
        guest.wait_for("the reload to be refused", lambda: reloaded() == "0", 10)
        assert "did you mean interval?" in guest.journal("backupready.service")
        time.sleep(4)  # more than one look later
        assert json.loads(inside.get("/api/v1/status"))["verdict"] == "ready"
        guest.write("/etc/backupready/conf.d/90-test.conf", "[wire]\ninterval = 7s\n")
        guest.run("systemctl", "reload", "backupready.service")
        guest.wait_for("the reload to be taken over", lambda: reloaded() == "1", 10)
        guest.run("systemctl", "stop", "backupready.service")
        result = guest.run("systemctl", "show", "-p", "Result,ExecMainStatus", "backupready.service").stdout
        assert set(result.split()) == {"Result=success", "ExecMainStatus=0"}
    finally:
        guest.path("/etc/backupready/conf.d/90-test.conf").unlink(missing_ok=True)
        inside.start_daemon()


def test_a_dying_or_missing_look_is_unknown_and_nothing_else(inside: Inside) -> None:
    """While the eyes cannot be reached the probes are unknown with the reason; the daemon serves on, and recovers."""
    guest = inside.guest
    # Leaves a socket behind that nobody listens on; masked, or the daemon's start would start it again.
    guest.run("systemctl", "stop", "backupready-look.socket")
    guest.run("systemctl", "mask", "--runtime", "backupready-look.socket")
    try:
        guest.run("systemctl", "restart", "backupready.service")

        def told() -> dict[str, Any] | None:
            status: dict[str, Any] = json.loads(inside.get("/api/v1/status"))
            return status if any("cannot start a look" in entry["why"] for entry in status["unknown"]) else None

        status = guest.wait_for("the daemon to say why it cannot tell", told, 20)
        assert (status["verdict"], status["reasons"]) == ("unknown", [])
    finally:
        guest.run("systemctl", "unmask", "--runtime", "backupready-look.socket")
        guest.run("systemctl", "restart", "backupready-look.socket")
        guest.run("systemctl", "restart", "backupready.service")
    time.sleep(1)
    assert inside.expect().exit_code == 0
