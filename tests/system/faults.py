"""What can be wrong with a machine? Each fault is made in the guest, for as long as its block lasts, and undone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

from backupready import vmsnapshot
from history import Run, status
from lab.guest import AGENT_UNIT, GUEST_ADDRESS, HANDLER, HANDLER_DIRECTORY, LIBRARY
from lab.hang import Hang, HangingMount
from system.inside import Inside

_AGENT = "/usr/lib/python3/dist-packages/azurelinuxagent/common"
_VERSION, _TRACEBACKS = f"{_AGENT}/version.py", f"{_AGENT}/utils/textutil.py"

WIRE = "168.63.129.16"


# ------------------------------------------------------------------------------------------------------ network


@contextlib.contextmanager
def route_into_a_tunnel(inside: Inside) -> Iterator[None]:
    """The wire server's route leads into a tunnel, as a VPN makes it."""
    inside.guest.run(*["ip", "tuntap", "add", "dev", "vpn0", "mode", "tun"])
    try:
        inside.guest.run(*["ip", "address", "add", "10.99.0.1/24", "dev", "vpn0"])
        inside.guest.run(*["ip", "link", "set", "vpn0", "up"])
        inside.guest.run(*f"ip route replace {WIRE}/32 dev vpn0".split())
        yield
    finally:
        inside.guest.run(*["ip", "link", "delete", "vpn0"], check=False)
        inside.guest.run(*f"ip route replace {WIRE}/32 via 10.0.0.1 dev eth0".split())


@contextlib.contextmanager
def nft_drop(inside: Inside) -> Iterator[None]:
    """A hardening rule that drops what goes to the wire server."""
    rules = f"table inet hardening {{ chain output {{ type filter hook output priority 0; ip daddr {WIRE} drop; }}; }}"
    inside.guest.run("nft", "-f", "-", input=rules)
    try:
        yield
    finally:
        inside.guest.run(*["nft", "delete", "table", "inet", "hardening"])


@contextlib.contextmanager
def agents_rules_in_the_wrong_order(inside: Inside) -> Iterator[None]:
    """The agent's own three rules, with the one that lets root through behind the one that drops."""
    accept = f"OUTPUT -d {WIRE} -p tcp -m owner --uid-owner 0 -j ACCEPT".split()
    inside.guest.run("iptables", "-w", "-t", "security", "-D", *accept)
    inside.guest.run("iptables", "-w", "-t", "security", "-A", *accept)
    try:
        yield
    finally:
        inside.guest.run("iptables", "-w", "-t", "security", "-D", *accept, check=False)
        inside.guest.run("iptables", "-w", "-t", "security", "-I", *accept)


@contextlib.contextmanager
def without_a_host_route(inside: Inside) -> Iterator[None]:
    """The wire server is reached by the default route, as where DHCP gives no route of its own."""
    route = f"{WIRE}/32 via 10.0.0.1 dev eth0".split()
    inside.guest.run("ip", "route", "delete", *route)
    try:
        yield
    finally:
        inside.guest.run("ip", "route", "replace", *route)


@contextlib.contextmanager
def leased(inside: Inside, endpoint: bool) -> Iterator[None]:
    """The guest's address is leased by dnsmasq to a real dhclient, with or without option 245."""
    guest = inside.guest
    guest.names.serve(leases=True, endpoint=endpoint)
    resolver = guest.read("/etc/resolv.conf")
    lease = "/var/lib/dhcp/dhclient.eth0.leases"
    guest.write("/etc/network/interfaces", "auto eth0\niface eth0 inet dhcp\n")
    guest.run("dhclient", "-4", "-1", "-pf", "/run/dhclient.eth0.pid", "-lf", lease, "eth0", timeout=30)
    try:
        yield
    finally:
        guest.run("sh", "-c", "kill $(cat /run/dhclient.eth0.pid)", check=False)
        guest.path(lease).unlink(missing_ok=True)
        guest.path("/etc/network/interfaces").unlink()
        guest.write("/etc/resolv.conf", resolver)
        guest.names.serve()


@contextlib.contextmanager
def names_dead(inside: Inside) -> Iterator[None]:
    """No name server answers."""
    inside.guest.names.stop()
    try:
        yield
    finally:
        inside.guest.names.serve()


@contextlib.contextmanager
def switched(inside: Inside, switch: str, value: str | int) -> Iterator[None]:
    """A switch of the emulated fabric."""
    inside.guest.fabric.set(switch, value)
    try:
        yield
    finally:
        inside.guest.fabric.reset()


@contextlib.contextmanager
def black_hole(inside: Inside) -> Iterator[None]:
    """Nothing of what leaves the guest ever arrives: dropped in between, so that nobody is told."""
    hole = f"blackhole {GUEST_ADDRESS}/32".split()
    inside.guest.fabric_run("ip", "route", "add", *hole)
    try:
        yield
    finally:
        inside.guest.fabric_run("ip", "route", "delete", *hole)


# -------------------------------------------------------------------------------------------------------- files


@contextlib.contextmanager
def written(inside: Inside, path: str, text: str, mode: int = 0o644, owner: str = "root") -> Iterator[None]:
    """A file with this content; what was there before is back afterwards."""
    guest = inside.guest
    before = guest.read(path) if guest.exists(path) else None
    made: list[str] = []  # directories that were not there
    while not guest.exists(parent := path.rsplit("/", 1 + len(made))[0]):
        made.append(parent)
    guest.write(path, text, mode)
    guest.run("chown", owner, path)
    try:
        yield
    finally:
        guest.path(path).unlink(missing_ok=True)
        for directory in made:
            guest.path(directory).rmdir()
        if before is not None:
            guest.write(path, before)


@contextlib.contextmanager
def configured(inside: Inside, line: str) -> Iterator[None]:
    """One more line in waagent.conf, which the running agent does not read."""
    text = inside.guest.read("/etc/waagent.conf")
    with written(inside, "/etc/waagent.conf", f"{text}{line}\n"):
        yield


@contextlib.contextmanager
def reconfigured(inside: Inside, before: str, after: str) -> Iterator[None]:
    """Another value in waagent.conf, which the running agent does not read."""
    text = inside.guest.read("/etc/waagent.conf")
    assert text.count(f"\n{before}\n") == 1
    with written(inside, "/etc/waagent.conf", text.replace(f"\n{before}\n", f"\n{after}\n")):
        yield


@contextlib.contextmanager
def able_to_log_verbosely(inside: Inside) -> Iterator[None]:
    """The agent of Debian 12 crashes when it logs verbosely; here is one that calls its Python as later versions do,
    and says that it is one of those."""
    guest = inside.guest
    texts = {path: guest.read(path) for path in (_VERSION, _TRACEBACKS)}
    guest.run("sed", "-i", "s/^AGENT_VERSION = .*/AGENT_VERSION = '2.9.1.1'/", _VERSION)
    guest.run("sed", "-i", "s/etype=//", _TRACEBACKS)
    guest.restart_agent()
    guest.wait_agent_ready()
    try:
        yield
    finally:
        for path, text in texts.items():
            guest.write(path, text)


@contextlib.contextmanager
def moved_away(inside: Inside, path: str) -> Iterator[None]:
    """A file is not there."""
    inside.guest.run("mv", path, f"{path}.away")
    try:
        yield
    finally:
        inside.guest.run("mv", f"{path}.away", path)


EXCLUDING_POLICY = (
    '{"policyVersion": "0.1.0", "extensionPolicies": {"allowListedExtensionsOnly": true, "extensions": {}}}'
)


@contextlib.contextmanager
def agent_stopped(inside: Inside) -> Iterator[None]:
    """The agent's unit was stopped."""
    inside.guest.stop_agent()
    try:
        yield
    finally:
        inside.guest.start_agent()


@contextlib.contextmanager
def not_enabled(inside: Inside) -> Iterator[None]:
    """The agent's unit runs, but will not be started at the next boot."""
    inside.guest.run("systemctl", "disable", AGENT_UNIT)
    try:
        yield
    finally:
        inside.guest.run("systemctl", "enable", AGENT_UNIT)


@contextlib.contextmanager
def log_directory_blocked(inside: Inside) -> Iterator[None]:
    """A file stands where the extension's directory of logs belongs."""
    place = f"/var/log/azure/{HANDLER}"
    with moved_away(inside, place), written(inside, place, "no directory\n"):
        yield


@contextlib.contextmanager
def small_library(inside: Inside, options: str, fill: str) -> Iterator[None]:
    """The agent's library on a small file system of its own, which is then filled; the agent's files are in it."""
    guest = inside.guest
    guest.run("cp", "-a", LIBRARY, "/srv/library")
    inside.mount("-t", "tmpfs", "-o", f"mode=0700,{options}", "lab", LIBRARY)
    try:
        guest.run("sh", "-c", f"cp -a /srv/library/. {LIBRARY}/ && {fill}", check=False)
        yield
    finally:
        guest.run("umount", "--lazy", LIBRARY)
        guest.run("rm", "-rf", "/srv/library")


@contextlib.contextmanager
def full(inside: Inside, directory: str, mode: str) -> Iterator[str]:
    """A small file system of its own over a directory, filled; gives the file whose removal makes room."""
    filler = f"{directory}/filler"
    inside.guest.run("mkdir", "-p", "-m", mode, directory)
    inside.mount("-t", "tmpfs", "-o", f"mode={mode},size=64k", "lab", directory)
    try:
        inside.guest.run("dd", "if=/dev/zero", f"of={filler}", "bs=4k", check=False)
        yield filler
    finally:
        inside.guest.run("umount", "--lazy", directory)


FULL_OF_BYTES = f"dd if=/dev/zero of={LIBRARY}/filler bs=64k"
FULL_OF_INODES = f"i=0; while : >{LIBRARY}/events/filler-$i; do i=$((i+1)); done"


@contextlib.contextmanager
def remounted(inside: Inside, path: str, option: str) -> Iterator[None]:
    """A directory bound onto itself, with a mount option."""
    inside.mount("--bind", path, path)
    try:
        inside.mount("-o", f"remount,bind,{option}", path)
        yield
    finally:
        inside.guest.run("umount", "--lazy", path)


@contextlib.contextmanager
def hanging(inside: Inside, hang: Hang = Hang.KILLABLE) -> Iterator[None]:
    """A mount whose server does not answer."""
    inside.guest.run("mkdir", "-p", "/srv/share")
    with HangingMount(inside.guest, "/srv/share", hang):
        yield


# ---------------------------------------------------------------------------------------------------- processes


@contextlib.contextmanager
def running(inside: Inside, *command: str, user: str | None = None) -> Iterator[None]:
    """A command that runs in the guest until the end of the block, with all that it starts."""
    with subprocess.Popen(
        inside.guest.command(*command, user=user),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


_HOLDER = """
import fcntl, os, sys, time
os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)
file = open(sys.argv[1], "a"); fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True); sys.stdin.read()
"""


@contextlib.contextmanager
def lock_held(inside: Inside, path: str) -> Iterator[None]:
    """Another process holds a lock on a file."""
    command = inside.guest.command("python3", "-c", _HOLDER, path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.stdin.close()


# ---------------------------------------------------------------------------------------------------- snapshots


def freeze_lock_held(inside: Inside) -> contextlib.AbstractContextManager[None]:
    """As the extension holds it while it freezes."""
    return lock_held(inside, vmsnapshot.FREEZE_LOCK)


def snapshot_told(inside: Inside) -> contextlib.AbstractContextManager[None]:
    """By the extension's own word: a run has begun and has not ended."""
    number = inside.guest.read(f"{HANDLER_DIRECTORY}/mrseq").strip()
    told = status(Run(time.time(), 4), int(number))
    return written(inside, f"{HANDLER_DIRECTORY}/status/{number}.status", told)
