"""What the units of the hands promise, tried: a fix can do what it is there for and nothing else, nothing opens the
door by itself, an upgrade interrupts nothing, and what is left unfinished is ended."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.guest import AGENT_UNIT, Guest
from system.attack import ATTEMPTS
from system.inside import Inside
from system.sandboxed import ENDED, FORBIDDEN, NEEDED, UNFINISHED

PLACE = "/usr/local/lib/lab"
STAND_IN = "/etc/systemd/system/backupready-fix@.service.d/90-lab.conf"
OFTEN = "/etc/systemd/system/backupready-fix-end.timer.d/90-lab.conf"
DOOR, TIMER, END = "backupready-fix.socket", "backupready-fix-end.timer", "backupready-fix@end.service"
ENABLED = "/etc/systemd/system/lab-enabled.service"
ASK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.settimeout(200)
    connection.connect("/run/backupready/fix.sock")
    connection.sendall(sys.argv[1].encode())
    told = b""
    while piece := connection.recv(65536):
        told += piece
        if sys.argv[1] == "wait":
            break
print(told.decode())
"""
# A package of two versions, the newer one in a repository of its own, whose script does what scripts do.
PACKAGE = r"""
set -e
umask 022
mkdir -p /srv/lab /srv/work/DEBIAN
cd /srv
for version in 1 2; do
    printf 'Package: lab-package\nVersion: %s\nArchitecture: all\nMaintainer: lab\nDescription: lab\n' $version \
        >work/DEBIAN/control
    printf '#!/bin/sh\necho %s >/usr/lib/lab-package && systemctl daemon-reload\n' $version >work/DEBIAN/postinst
    chmod 755 work/DEBIAN/postinst
    dpkg-deb --build work lab/$version.deb >/dev/null
done
dpkg --install lab/1.deb >/dev/null
cat work/DEBIAN/control >lab/Packages
printf 'Filename: ./2.deb\nSize: %s\nSHA256: %s\n' "$(stat -c %s lab/2.deb)" "$(sha256sum lab/2.deb | cut -d' ' -f1)" \
    >>lab/Packages
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/lab ./' >/etc/apt/sources.list
"""
# What a fix needs, or comes with it: who has the agent's uid may signal it and limit it, and who may ask the service
# manager for anything could stop it anyway. What stands in for the passwords can be read, and is empty.
DONE = {
    *("read the agent's files", "reach the wire server", "write to etc", "write to the agent's files", "change a mode"),
    *("talk to PID 1 directly", "start a unit", "reload the service manager", "read the passwords"),
    *("signal the agent", "signal the agent through a file", "signal PID 1", "change the agent's limits"),
}
# Of a file's owner it depends on the file system below it.
PERHAPS = {"hold up the agent with a lease"}


@pytest.fixture
def hands(inside: Inside) -> Iterator[Guest]:
    """The guest, in which the units of the hands start what stands in for them."""
    guest = inside.guest
    for name in ("sandboxed.py", "attack.py"):
        guest.write(f"{PLACE}/{name}", Path(__file__).with_name(name).read_text())
    guest.write(STAND_IN, f"[Service]\nExecStart=\nExecStart=/usr/bin/python3 {PLACE}/sandboxed.py\n")
    guest.run("systemctl", "daemon-reload")
    try:
        yield guest
    finally:
        guest.run("systemctl", "stop", DOOR, "backupready-fix@*.service", check=False)
        for path in (STAND_IN, OFTEN):
            guest.path(path).unlink(missing_ok=True)
        guest.path(f"/etc/systemd/system/{AGENT_UNIT}.d/90-lab.conf").unlink(missing_ok=True)
        guest.run("systemctl", "daemon-reload")
        guest.run("systemctl", "restart", TIMER)


def ask(guest: Guest, what: str) -> str:
    return guest.run("python3", "-c", ASK, what, user="backupready", timeout=240).stdout.strip()


def test_the_door_is_shut_until_it_is_opened(inside: Inside) -> None:
    """Installed, nothing listens there; the timer is at work all the same, and has nothing to do."""
    guest = inside.guest
    assert guest.run("systemctl", "is-enabled", DOOR, check=False).stdout.strip() == "disabled"
    assert not guest.exists("/run/backupready/fix.sock")
    for state in ("is-enabled", "is-active"):
        assert guest.run("systemctl", state, TIMER).stdout.strip() in ("enabled", "active")
    assert not guest.exists(str(UNFINISHED))


def test_a_fix_can_do_what_it_needs(hands: Guest) -> None:
    """In the sandbox, started by the mind's user alone: the steps of all remedies, a whole look, and the upgrade of a
    package. What it edits keeps its owner, mode and attributes."""
    hands.run("sh", "-c", PACKAGE)
    hands.write(ENABLED, "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n")
    hands.run("mkdir", "-p", "/var/lib/waagent/lab-aside")
    config = hands.path("/etc/waagent.conf")
    hands.run("chown", "12:34", "/etc/waagent.conf")
    config.chmod(0o640)
    try:
        os.setxattr(config, "user.note", b"lab")
        notes = ["user.note"]
    except OSError:  # this kernel's tmpfs takes none
        notes = []
    before = hands.agent_pids()
    hands.run("systemctl", "start", DOOR)
    assert "PermissionError" in hands.run("python3", "-c", ASK, "x", user="daemon", check=False).stderr
    told = json.loads(ask(hands, "needed"))
    assert told == dict.fromkeys(NEEDED, "")
    status = config.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12, 34, 0o640)
    assert os.listxattr(config) == notes
    assert "\nLogs.Verbose=y\n" in config.read_text()
    assert hands.agent_pids().daemon not in (None, before.daemon)
    assert "RestartUSec=4s" in hands.run("systemctl", "show", "-p", "RestartUSec", AGENT_UNIT).stdout
    assert hands.run("systemctl", "is-enabled", "lab-enabled.service").stdout.strip() == "enabled"
    assert hands.read("/usr/lib/lab-package") == "2\n"
    assert os.listdir(hands.path("/var/lib/waagent/lab-aside").parent).count("lab-aside") == 1  # noqa: PTH208
    upgrade = hands.journal("backupready-upgrade.service")
    assert re.search(r"Started .*apt-get", upgrade)
    assert hands.run("systemctl", "list-units", "--all", "--no-legend", "backupready-upgrade*").stdout == ""


def test_a_fix_can_do_nothing_else(hands: Guest) -> None:
    """Taken over, it cannot write the rest of the machine, nor its own permission to fix, nor see through others."""
    hands.run("mkdir", "-p", "/root/.ssh")
    hands.run("systemctl", "start", DOOR)
    told = json.loads(ask(hands, "forbidden"))
    assert set(told) == set(FORBIDDEN)
    assert [name for name, why in told.items() if not why] == []
    told = json.loads(ask(hands, "attack"))
    assert set(told) == set(ATTEMPTS)
    assert {name for name, why in told.items() if not why} - PERHAPS == DONE


def test_an_upgrade_of_ours_does_not_interrupt_a_fix(hands: Guest, deb: Path) -> None:
    """The door is restarted, where it was open, and the fix goes on; only a removal stops it."""
    hands.run("systemctl", "start", DOOR)
    pid = ask(hands, "wait")
    before = hands.unit_property(DOOR, "InvocationID")
    hands.run("dpkg", "--install", hands.take(deb), timeout=120)
    assert hands.unit_property(DOOR, "InvocationID") != before
    assert hands.unit_property(DOOR, "ActiveState") == "active"
    assert "sandboxed.py" in hands.read(f"/proc/{pid}/cmdline")


def test_what_is_left_unfinished_is_ended(hands: Guest) -> None:
    """The timer starts the hands, without a connection, if there is something to end, and else leaves no line."""
    hands.write(OFTEN, "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\nAccuracySec=100ms\n")
    hands.path(str(ENDED)).unlink(missing_ok=True)
    hands.run("systemctl", "daemon-reload")
    hands.run("systemctl", "restart", TIMER)

    def triggers() -> str:
        return hands.unit_property(TIMER, "LastTriggerUSec")

    first, lines = triggers(), hands.journal(END)
    hands.wait_for("the timer", lambda: triggers() not in (first, "n/a"))
    second = triggers()
    hands.wait_for("the timer once more", lambda: triggers() != second)
    assert hands.journal(END) == lines
    assert not hands.exists(str(ENDED))
    for count in (1, 2):
        hands.write(str(UNFINISHED), "")
        hands.wait_for("the hands", lambda: not hands.exists(str(UNFINISHED)))
        assert hands.read(str(ENDED)) == "once\n" * count
