"""What the units promise, tried: who may reach what, and what somebody who has taken a part over can do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from built import MOST_EXPOSED
from lab.guest import Guest
from measured import measured
from system.attack import ATTEMPTS
from system.inside import Inside

ATTACK = "/usr/local/lib/attack.py"
WIRE_SERVER = "import urllib.request as r; r.urlopen('http://168.63.129.16/?comp=versions', timeout=3).read()"
PROBES = "/usr/lib/python3/dist-packages/backupready/probes"


@pytest.fixture
def attacked(inside: Inside) -> Iterator[Guest]:
    """The guest with the script that attacks it."""
    inside.guest.write(ATTACK, Path(__file__).with_name("attack.py").read_text())
    inside.guest.write(ATTACK.replace(".py", ".pid"), str(inside.guest.agent_pids().daemon))
    yield inside.guest
    inside.guest.path(ATTACK).unlink()
    inside.guest.path(ATTACK.replace(".py", ".pid")).unlink()


def test_the_agents_firewall_is_for_the_eyes_alone(inside: Inside) -> None:
    """The agent's own rules are there: the mind's user cannot reach the wire server, root can, and so all is ready."""
    rules = inside.guest.run("iptables", "-t", "security", "-S", "OUTPUT").stdout
    assert "-d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT" in rules
    assert inside.guest.run("python3", "-c", WIRE_SERVER, check=False).returncode == 0
    refused = inside.guest.run("python3", "-c", WIRE_SERVER, check=False, user="backupready")
    assert "timed out" in refused.stderr
    assert inside.expect().exit_code == 0


def test_the_mind_has_no_privilege(inside: Inside) -> None:
    """The resident process runs as its own user without a capability, and its looks are others' processes."""
    status = inside.guest.read(f"/proc/{inside.guest.unit_property('backupready.service', 'MainPID')}/status")
    uid = inside.guest.run("id", "-u", "backupready").stdout.strip()
    assert re.search(rf"^Uid:\t{uid}\t{uid}\t{uid}\t{uid}$", status, re.MULTILINE)
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert re.search(rf"^Cap{kind}:\t0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    assert int(inside.guest.unit_property("backupready-look.socket", "NAccepted")) > 0


def _with_pressure(inside: Inside) -> str:
    """A scrape with what is switched off in the tests, too."""
    inside.set_intervals(pressure=True)
    inside.guest.run("systemctl", "reload", "backupready.service")
    try:
        found = inside.guest.wait_for(
            "the pressure",
            lambda: re.search(r"(?s).*\nbackupready_pressure_cpu_busy_ratio .*", inside.get("/metrics")),
            120,
            every=1,
        )
        return found[0]
    finally:
        inside.set_intervals()
        inside.guest.run("systemctl", "reload", "backupready.service")


def test_what_it_costs_and_exposes(inside: Inside) -> None:
    """Told for the record: the exposure of both units in force, the resident size of the mind; a scrape is small."""
    security = inside.guest.run("systemd-analyze", "security", "--no-pager", check=False).stdout
    exposure = dict(re.findall(r"^(backupready\S*)\s+([\d.]+)", security, re.MULTILINE))
    # A look is there for a second only; its template is measured by the unit file.
    eyes = inside.guest.run(
        "systemd-analyze", "security", "--offline=true", "--no-pager", "backupready-look@1.service", check=False
    ).stdout
    exposure |= dict(re.findall(r"for (backupready-look@\S*): ([\d.]+)", eyes))
    rollup = inside.guest.read(f"/proc/{inside.guest.unit_property('backupready.service', 'MainPID')}/smaps_rollup")
    pss = int(re.findall(r"^Pss:\s+(\d+) kB$", rollup, re.MULTILINE)[0])
    scrape = _with_pressure(inside)
    series = [line for line in scrape.splitlines() if not line.startswith("#")]
    measured(f"exposure: {exposure}; PSS of the mind: {pss / 1024:.1f} MiB")
    measured(f"scrape: {len(scrape)} bytes, {len(series)} series")
    assert len(scrape) <= 20_000
    assert len(series) <= 300
    assert float(exposure["backupready.service"]) <= MOST_EXPOSED["backupready.service"]
    assert float(exposure["backupready-look@1.service"]) <= MOST_EXPOSED["backupready-look@.service"]


def test_looks_do_not_fill_the_journal(inside: Inside) -> None:
    """Rounds that go well leave no line."""

    def lines() -> int:
        found = inside.guest.run("journalctl", "--quiet", "--unit=backupready-look@*", check=False)
        return len(found.stdout.splitlines())

    before = lines()
    accepted = int(inside.guest.unit_property("backupready-look.socket", "NAccepted"))
    inside.guest.wait_for(
        "three more looks",
        lambda: int(inside.guest.unit_property("backupready-look.socket", "NAccepted")) >= accepted + 3,
    )
    assert lines() == before


# ------------------------------------------------------------------------------------------------------- taken over


def test_the_attack_is_one(attacked: Guest) -> None:
    """By root, whom nothing hinders, every attempt succeeds: what is refused elsewhere is refused by something."""
    told = json.loads(attacked.run("python3", ATTACK, timeout=120).stdout)
    assert {name: why for name, why in told.items() if why} == {}
    attacked.run("umount", "/mnt")


def _as_the_mind(guest: Guest, script: str) -> str:
    """What a script prints in the very sandbox of the mind: the installed unit, started once, with another program."""
    unit, output = "backupready-taken-over.service", "/var/tmp/taken-over.json"
    guest.path(output).unlink(missing_ok=True)
    text = guest.read("/lib/systemd/system/backupready.service")
    for directive in ("ExecStart", "Type", "Restart", "WatchdogSec", "ExecReload", "NotifyAccess"):
        text = re.sub(rf"(?m)^{directive}=.*\n", "", text)
    service = f"[Service]\nType=oneshot\nExecStart=/usr/bin/python3 {script}\nStandardOutput=file:{output}\n"
    guest.write(f"/run/systemd/system/{unit}", text.replace("[Service]\n", service))
    guest.run("systemctl", "daemon-reload")
    try:
        guest.run("systemctl", "start", unit, timeout=120)
        return guest.read(output)
    finally:
        guest.path(f"/run/systemd/system/{unit}").unlink()
        guest.run("systemctl", "daemon-reload")


def test_a_mind_that_is_taken_over(attacked: Guest, inside: Inside) -> None:
    """In its sandbox nothing succeeds, and the daemon works on."""
    told = json.loads(_as_the_mind(attacked, ATTACK))
    assert set(told) == set(ATTEMPTS)
    assert [name for name, why in told.items() if not why] == []
    assert inside.expect().exit_code == 0
    assert attacked.unit_property("backupready.service", "NRestarts") == "0"


def test_a_shell_as_the_minds_user(attacked: Guest) -> None:
    """Also without the sandbox its user can do nothing that it should not: only what every user may."""
    told = json.loads(attacked.run("python3", ATTACK, timeout=120, user="backupready").stdout)
    done = [name for name, why in told.items() if not why]
    # Shared memory and namespaces are open to everybody on this machine.
    assert set(done) <= {"write to shared memory", "make a namespace"}


def test_a_look_that_is_taken_over(attacked: Guest, inside: Inside) -> None:
    """A probe that attacks, in the eyes' sandbox, can do what it is there for, and nothing else."""
    wire = attacked.read(f"{PROBES}/wire.py")
    attack = f"""

def _attack(machine, settings):
    import runpy
    told = runpy.run_path({ATTACK!r})["attempt"]()
    done = [name for name, why in told.items() if not why]
    yield CannotTell("attacked " + str(len(told)) + " ways, done: " + ", ".join(done))


from dataclasses import replace
PROBE = replace(PROBE, look=_attack)
"""
    attacked.write(f"{PROBES}/wire.py", wire + attack)
    try:

        def told() -> str | None:
            document = json.loads(inside.get("/api/v1/status"))
            return next((p["why"] for p in document["probes"] if p["why"].startswith("attacked")), None)

        attacked.run("systemctl", "reload", "backupready.service")
        why = attacked.wait_for("the attack", told, 60)
    finally:
        attacked.write(f"{PROBES}/wire.py", wire)
    attacks, _, done = why.partition(", done: ")
    assert attacks == f"attacked {len(ATTEMPTS)} ways"
    assert set(done.split(", ")) == {"read the agent's files", "reach the wire server"}
    assert inside.expect().exit_code == 0


def test_a_look_that_breaks_says_why_in_the_journal(inside: Inside) -> None:
    """What a broken program prints before it can answer is not held back with the rest."""
    guest = inside.guest
    wire = guest.read(f"{PROBES}/wire.py")
    guest.write(f"{PROBES}/wire.py", wire + "\nraise RuntimeError('broken on purpose')\n")
    try:

        def told() -> bool:
            found = guest.run("journalctl", "--quiet", "--output=cat", "--unit=backupready-look@*", check=False)
            return "RuntimeError: broken on purpose" in found.stdout

        guest.wait_for("the traceback", told, 30)
    finally:
        guest.write(f"{PROBES}/wire.py", wire)
    assert inside.expect().exit_code == 0


FLOOD = """
import json, socket, sys, threading
request = json.dumps({"schema": 1, "probes": ["wire", "agent"], "memory": {}}).encode()
def say(data):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        answer = b""
        try:
            connection.connect("/run/backupready/look.sock")
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                answer += piece
        except OSError as error:
            return type(error).__name__
        return answer.decode()
told = {"nonsense": say(b"\\x00\\xff" * 100), "a path": say(b'{"schema": 1, "probes": ["/etc/shadow"]}'),
        "a setting": say(b'{"schema": 1, "probes": ["agent"], "settings": {"machine.root": "/mnt"}}'),
        "a megabyte": say(b"x" * (1 << 20)), "a megabyte of nesting": say(b"[" * (1 << 20))}
answers = []
def many():
    for _ in range(20):
        answers.append(say(request))
threads = [threading.Thread(target=many) for _ in range(50)]
for thread in threads: thread.start()
for thread in threads: thread.join()
told["requests"] = len(answers)
told["looks"] = sum('"looks"' in answer for answer in answers)
print(json.dumps(told))
"""


def test_the_door_stands_whatever_the_mind_sends(inside: Inside) -> None:
    """Nonsense, a megabyte and a thousand requests by the mind's user: each is refused or served, the rest turned away;
    the door stays open, nothing piles up, and the mind works on."""
    guest = inside.guest
    guest.write("/var/tmp/flood.py", FLOOD)
    began = time.monotonic()
    told = json.loads(guest.run("python3", "/var/tmp/flood.py", user="backupready", timeout=400).stdout)
    measured(f"1000 requests in {time.monotonic() - began:.0f} s, {told['looks']} of them served")
    assert "not JSON" in told["nonsense"]
    assert "there is no probe" in told["a path"]
    # Where to look is no matter for others. Were it obeyed, an empty directory would have no agent.
    assert "AGENT_NOT_INSTALLED" not in told["a setting"]
    assert '"looks"' in told["a setting"]
    for megabyte in ("a megabyte", "a megabyte of nesting"):
        assert "longer than" in told[megabyte] or told[megabyte] in ("BrokenPipeError", "ConnectionResetError")
    assert (told["requests"], told["looks"] > 0) == (1000, True)
    assert guest.unit_property("backupready-look.socket", "ActiveState") == "active"
    assert guest.run("systemctl", "list-units", "--failed", "--no-legend", "backupready*").stdout == ""
    guest.wait_for(
        "the looks to end", lambda: guest.unit_property("backupready-look.socket", "NConnections") == "0", 60
    )
    assert inside.expect().exit_code == 0
    assert guest.unit_property("backupready.service", "NRestarts") == "0"


def test_the_door_is_for_the_mind_alone(inside: Inside) -> None:
    """Another user cannot even connect."""
    script = "import socket; socket.socket(socket.AF_UNIX).connect('/run/backupready/look.sock')"
    assert "PermissionError" in inside.guest.run("python3", "-c", script, user="daemon", check=False).stderr
