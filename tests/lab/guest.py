"""How does a machine in Azure look to backupready? A booted Debian guest, its agent, and a fabric in front.

`Guest` clones a cached root, boots it with systemd-nspawn in a network namespace of its own, and runs the
emulated fabric in a second namespace that owns the fabric's addresses. A healthy guest has one thing that
Debian's package has not: the documented mitigation, `Restart=always`, as a drop-in.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeVar

from . import certificates
from .fabric import HANDLER, HANDLER_VERSION, STORAGE, Fabric, FabricError
from .names import Names

AGENT_UNIT = "walinuxagent.service"
AZURE_ASSET_TAG = "7783-7084-3265-9085-8269-3286-77"
AGENT_LOG = "/var/log/waagent.log"
LIBRARY = "/var/lib/waagent"
HANDLER_DIRECTORY = f"{LIBRARY}/{HANDLER}-{HANDLER_VERSION}"
HANDLER_LOGS = f"/var/log/azure/{HANDLER}"
HANDLER_CONTROL = "/etc/azure/backupready-lab-handler"

RUNS = Path("/run/backupready-lab")  # short, since a unix socket's path may have 107 bytes at most
GUEST_ADDRESS = "10.0.0.4"
GATEWAY = "10.0.0.1"
FABRIC_ADDRESSES = ("168.63.129.16", "169.254.169.254")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

BOOT_SECONDS = 60
POWER_OFF_SECONDS = 20
NSPAWN_ASKS_FOR_RESTART = 133  # its exit status after a reboot under --keep-unit
NSPAWN_CAPABILITIES = "CAP_NET_ADMIN"  # the agent's firewall needs it; the network is the guest's own

# What systemd, the daemon's dependencies and the tests need; the agent's are its own.
_PLATFORM = (
    "apt",
    "systemd",
    "systemd-sysv",
    "dbus",
    "ca-certificates",
    "iproute2",
    "procps",
    "python3",
    "python3-dnspython",
    "python3-prometheus-client",
    "python3-psutil",
    "python3-requests",
    "python3-systemd",
    "python3-tenacity",
    "tzdata",
)


@dataclasses.dataclass(frozen=True)
class Release:
    """A release that a guest can be of: where it comes from, and what is installed besides the platform."""

    suite: str
    mirror: str
    components: str
    packages: tuple[str, ...] = ()


_DEBIAN, _UBUNTU = "http://deb.debian.org/debian", "http://archive.ubuntu.com/ubuntu"
# The guest that everything is tried in, with the agent.
BOOKWORM = Release(
    "bookworm",
    _DEBIAN,
    "main",
    (
        "waagent",
        "iptables",
        "nftables",
        "isc-dhcp-client",
        "openssl",
        "rpm",
        "stress-ng",
        "python3-bcrypt",
        "python3-yaml",
    ),
)
# The others are for trying whether the package runs there; they have no agent. Debian 13 brings the keys that Ubuntu's
# archive is signed with.
TRIXIE = Release("trixie", _DEBIAN, "main", ("ubuntu-keyring",))
OTHER_RELEASES = (
    Release("bullseye", _DEBIAN, "main"),
    TRIXIE,
    Release("jammy", _UBUNTU, "main universe"),
    Release("noble", _UBUNTU, "main universe"),
)
AGENT_SETTINGS: Mapping[str, str] = {
    "Provisioning.Agent": "disabled",  # nothing provisions the guest: it would wait for an ovf-env.xml
    "Provisioning.MonitorHostName": "n",
    "ResourceDisk.Format": "n",  # never let it format a disk
    "Logs.Collect": "n",
    "OS.EnableFirewall": "y",  # as by default: only root reaches the wire server
}
IMAGE_FILES: Mapping[str, str] = {
    "etc/hostname": "labvm\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 labvm\n",
    "etc/resolv.conf": "nameserver 168.63.129.16\n",
    "etc/machine-id": "",
    "var/lib/waagent/provisioned": "",
    # Debian's unit wants Hyper-V; an empty condition drops every condition before it.
    f"etc/systemd/system/{AGENT_UNIT}.d/10-lab.conf": "[Unit]\nConditionVirtualization=\n",
    f"etc/systemd/system/{AGENT_UNIT}.d/50-restart.conf": "[Service]\nRestart=always\nRestartSec=5\n",
}
MASKED_UNITS = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "systemd-pstore.service",
)
T = TypeVar("T")
_serial = itertools.count(1)


class LabError(Exception):
    """The lab cannot do what was asked of it."""


@dataclasses.dataclass(frozen=True)
class AgentPids:
    """Process ids as the guest sees them; None where there is no such process."""

    daemon: int | None
    worker: int | None


@dataclasses.dataclass(frozen=True)
class HandlerReport:
    """What the agent's newest status file says of one handler."""

    name: str
    version: str
    status: str
    code: int
    message: str
    sequence: int | None
    settings_status: str | None
    settings_code: int | None


@dataclasses.dataclass(frozen=True)
class AgentReport:
    """The agent's newest status file."""

    path: Path
    written: float  # its mtime
    status: str
    version: str
    handlers: Mapping[str, HandlerReport]

    @property
    def snapshot(self) -> HandlerReport | None:
        """The report about the VMSnapshot handler."""
        return self.handlers.get(HANDLER)


# What this machine must have.


def packages() -> list[str]:
    """The Debian packages that the machine running the lab needs."""
    tools = ["systemd-container", "mmdebstrap", "iproute2", "util-linux", "mount", "dnsmasq-base", "openssl"]
    return [*tools, "debian-archive-keyring"]


def missing() -> list[str]:
    """What this machine lacks to run the lab, each with the reason; empty when it can."""
    lacks: list[str] = []
    if sys.platform != "linux":
        return ["Linux: the guest is a Linux container"]
    if os.geteuid() != 0:
        lacks.append("root: the lab mounts, makes network namespaces and boots a container")
    tools = {
        "systemd-nspawn": "it boots the guest (package systemd-container)",
        "mmdebstrap": "it builds the guest's root (package mmdebstrap)",
        "ip": "it makes the network namespaces (package iproute2)",
        "nsenter": "it runs commands in the guest (package util-linux)",
        "unshare": "it tries out what the kernel can do (package util-linux)",
        "mount": "it mounts the guest's root (package mount)",
        "dnsmasq": "it serves names and addresses (package dnsmasq-base)",
        "openssl": "it makes the certificates of the emulated storage (package openssl)",
    }
    absent = [f"{tool}: {reason}" for tool, reason in tools.items() if shutil.which(tool) is None]
    if lacks or absent:
        return lacks + absent
    trials = {
        "overlayfs: the guest's root is a cheap clone": "mount -t tmpfs lab /mnt && cd /mnt && mkdir a b c d"
        " && mount -t overlay -o lowerdir=a,upperdir=b,workdir=c lab d",
        "network namespaces with veth: the guest has a network of its own": "ip link add lab0 type veth peer name lab1",
    }
    for reason, script in trials.items():
        trial = subprocess.run(
            ["unshare", "--mount", "--net", "sh", "-c", script], capture_output=True, text=True, check=False
        )
        if trial.returncode != 0:
            lacks.append(f"{reason} ({trial.stderr.strip()})")
    return lacks


# The image.


def cache() -> Path:
    """Where images are kept between runs."""
    return Path(os.environ.get("BACKUPREADY_LAB_CACHE") or "/var/cache/backupready-lab")


def image(release: Release = BOOKWORM) -> Path:
    """The guest's root directory, built once per recipe (about a minute) and never written to afterwards."""
    recipe = json.dumps(
        [dataclasses.astuple(release), _PLATFORM, dict(AGENT_SETTINGS), dict(IMAGE_FILES), MASKED_UNITS, 2]
    )
    place = cache() / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        return place
    keyring = image(TRIXIE) / "usr/share/keyrings/ubuntu-archive-keyring.gpg" if release.mirror == _UBUNTU else None
    with _locked(cache() / "lock") as lock:
        if place.exists():
            return place
        for abandoned in cache().glob("*.building"):
            _remove_tree(abandoned)
        building = place.with_suffix(".building")
        _build(release, keyring, building, lock)
        building.rename(place)
    return place


def _build(release: Release, keyring: Path | None, root: Path, lock: int) -> None:
    """Run mmdebstrap, which inherits the lock: should we be killed, the next builder waits until it has ended."""
    included = ",".join((*_PLATFORM, *release.packages))
    arguments = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={included}"]
    arguments += ['--aptopt=APT::Install-Recommends "false"', *(f"--aptopt={option}" for option in _apt_options())]
    arguments += [f"--keyring={keyring}"] if keyring is not None else []
    arguments += [f"--components={release.components.replace(' ', ',')}", release.suite, str(root)]
    sources = _apt_sources(release)
    arguments.append("-" if sources else release.mirror)
    listed = "\n".join(sources) + "\n"
    built = subprocess.run(arguments, input=listed, capture_output=True, text=True, check=False, pass_fds=(lock,))
    if built.returncode != 0:
        _remove_tree(root)
        raise LabError(f"cannot build the guest's root with mmdebstrap: {built.stderr.strip()[-2000:]}")
    for name, text in IMAGE_FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
    for unit in MASKED_UNITS:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    configuration = root / "etc/waagent.conf"
    if not configuration.exists():
        return
    text = configuration.read_text()
    for key, value in AGENT_SETTINGS.items():
        text, found = re.subn(rf"^{re.escape(key)}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
        if found != 1:
            raise LabError(f"cannot set {key} in the guest's /etc/waagent.conf: it has {found} such lines")
    configuration.write_text(text)


def _apt_sources(release: Release) -> list[str]:
    """Where this machine itself gets the release from, if it does."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"]
        + ["Origin: Debian"],
        capture_output=True,
        text=True,
        check=False,
    )
    if asked.returncode != 0:
        return []
    found = {
        f"deb {line}"
        for line in asked.stdout.splitlines()
        if re.fullmatch(rf"\S+ {release.suite}(-updates|-security)? main", line)
    }
    return sorted(found)


def _apt_options() -> list[str]:
    """How this machine reaches its sources: proxies and relaxed checks."""
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False)
    kept = re.compile(r'Acquire::(?:https?::Proxy\S*|Check-Valid-Until|Check-Date) "[^"]+";')
    return [line for line in dump.stdout.splitlines() if kept.fullmatch(line)]


# The guest.


class Guest:
    """A booted guest and its fabric, from `with Guest() as guest:` until the end of the block."""

    def __init__(self, release: Release = BOOKWORM, *, disk_size: str = "4G") -> None:
        self.release = release
        self.name = f"brl{os.getpid()}-{next(_serial)}"
        self.directory = RUNS / self.name
        self.namespace = f"{self.name}-guest"
        self.fabric_namespace = f"{self.name}-azure"
        self.fabric = Fabric(self.directory / "control")
        self.names = Names(self.fabric_namespace, self.directory)
        self.boot_seconds = 0.0
        self._disk_size = disk_size
        self._lock: IO[str] | None = None
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._fabric_process: subprocess.Popen[str] | None = None
        self._leader: int | None = None

    # Life.

    def __enter__(self) -> Guest:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Boot; on any failure everything is taken down again."""
        lacks = missing()
        if lacks:
            raise LabError("cannot run the lab on this machine: " + "; ".join(lacks))
        lower = image(self.release)
        sweep()
        began = time.monotonic()
        atexit.register(self.close)
        try:
            self._claim()
            self._mount(lower)
            self._connect()
            authority = certificates.make(self.directory / "certificates")
            self._start_fabric()
            self.names.serve()
            self._boot()
            self._show_own_network()
            self.take(authority, "/usr/local/share/ca-certificates")
            self.run("update-ca-certificates")
        except BaseException:
            self.close()
            raise
        self.boot_seconds = time.monotonic() - began

    def close(self) -> None:
        """Power off, then remove every trace; harmless when called twice or half-way through a boot."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            self._nspawn.terminate()  # nspawn passes it on as an orderly shutdown
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._nspawn.wait(POWER_OFF_SECONDS)
        self.names.stop()
        _clear(self.directory)
        for process in (self._nspawn, self._fabric_process):
            if process is not None:
                process.wait()  # _clear has killed what was left of it
                if process.stdout is not None:
                    process.stdout.close()
        self._nspawn = self._fabric_process = self._leader = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        atexit.unregister(self.close)

    def reboot(self) -> None:
        """Restart the guest: the disk and the fabric stay, /run and every process are new."""
        nspawn, self._nspawn = self._nspawn, None
        if nspawn is None:
            raise LabError("cannot reboot the guest: it is not running")
        try:
            self.run("systemctl", "reboot", check=False)
            ended = nspawn.wait(POWER_OFF_SECONDS)
        except subprocess.TimeoutExpired:
            self._nspawn = nspawn
            raise LabError(f"cannot reboot the guest within {POWER_OFF_SECONDS} s; {self._console()}") from None
        if ended != NSPAWN_ASKS_FOR_RESTART:
            raise LabError(f"cannot reboot the guest: nspawn ended with {ended}; {self._console()}")
        self._leader = None
        self._boot()
        self._show_own_network()

    # Inside.

    @property
    def leader(self) -> int:
        """The process id, on this machine, of the guest's PID 1."""
        if self._leader is None:
            raise LabError("cannot reach the guest: it is not running")
        return self._leader

    @property
    def root(self) -> Path:
        """The guest's root with its own mounts (/run, /tmp). Absolute links lead astray: `path()`."""
        return Path(f"/proc/{self.leader}/root")

    def path(self, inside: str) -> Path:
        """A path of the guest as one of this machine, symbolic links followed inside the guest."""
        return _resolve(self.root, inside)

    def read(self, path: str) -> str:
        return self.path(path).read_text(encoding="utf-8", errors="replace")

    def exists(self, path: str) -> bool:
        return self.path(path).exists()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file owned by root, with its parent directories."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)

    def command(self, *argv: str, user: str | None = None) -> list[str]:
        """The command of this machine that runs `argv` in the guest."""
        return entry(self.leader, user) + list(argv)

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 60,
        input: str | None = None,
        user: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command with the guest's own capabilities; LabError carries what a failed one printed."""
        return _run(self.command(*argv, user=user), shlex.join(argv), check, timeout, input)

    def journal(self, unit: str) -> str:
        """The unit's lines in the guest's journal, all boots."""
        return self.run("journalctl", "--quiet", "--all", "--output=short-iso", "--unit", unit).stdout

    def take(self, file: Path, directory: str = "/root") -> str:
        """Copy a file of this machine into the guest; its path there."""
        inside = f"{directory}/{file.name}"
        shutil.copyfile(file, self.path(inside))
        return inside

    def install_deb(self, deb: Path) -> None:
        """Install a Debian package with apt. The guest's network leads to no archive: it must have what that needs."""
        self.run("apt-get", "install", "--yes", "--quiet", self.take(deb), timeout=120)

    # The agent.

    def agent_pids(self) -> AgentPids:
        """The agent's two processes, in the guest's own numbering."""
        found: dict[str, int] = {}
        for entry_path in self.root.glob("proc/[0-9]*/cmdline"):
            try:
                argv = entry_path.read_bytes().decode("utf-8", "replace").split("\0")
            except OSError:  # it ended meanwhile
                continue
            if any(word.endswith("/waagent") or "WALinuxAgent-" in word for word in argv):
                for word in ("-daemon", "-run-exthandlers"):
                    if word in argv:
                        found[word] = int(entry_path.parent.name)
        return AgentPids(found.get("-daemon"), found.get("-run-exthandlers"))

    def unit_property(self, unit: str, name: str) -> str:
        """As the guest's service manager shows it."""
        return self.run("systemctl", "show", "-p", name, "--value", unit).stdout.strip()

    def host_pid(self, pid: int) -> int:
        """The number that a process of the guest has on this machine."""
        namespace = Path(f"/proc/{self.leader}/ns/pid").readlink()
        for place in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                numbers = re.search(r"^NSpid:(.*)$", (place / "status").read_text(), re.MULTILINE)
                own = numbers is not None and numbers.group(1).split()[-1] == str(pid)
                if own and (place / "ns/pid").readlink() == namespace:
                    return int(place.name)
        raise LabError(f"cannot find process {pid} of the guest: there is none")

    def restart_agent(self) -> None:
        self.run("systemctl", "restart", AGENT_UNIT)

    def stop_agent(self) -> None:
        self.run("systemctl", "stop", AGENT_UNIT)

    def start_agent(self) -> None:
        self.run("systemctl", "start", AGENT_UNIT)

    def set_handler(self, **words: object) -> None:
        """Steer the stand-in handler (exit=3, code=121, outcome="stuck", …); no words: it behaves."""
        self.write(HANDLER_CONTROL, "".join(f"{key}={value}\n" for key, value in words.items()))

    def agent_report(self) -> AgentReport | None:
        """The newest status file in either layout, or None while there is none."""
        library = self.root / LIBRARY[1:]
        newest: tuple[float, Path] | None = None
        for pattern in ("waagent_status.json", "waagent_status.*.json", "history/*/waagent_status.json"):
            for path in library.glob(pattern):
                with contextlib.suppress(FileNotFoundError):
                    newest = max(newest or (0.0, path), (path.stat().st_mtime, path))
        if newest is None:
            return None
        try:
            document = json.loads(newest[1].read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # it is being replaced
            return None
        return _agent_report(newest[1], newest[0], document)

    def wait_agent_ready(self, timeout: float = 120) -> AgentReport:
        """Wait for a status file newer than this call in which agent and VMSnapshot handler are Ready."""
        since = time.time()

        def ready() -> AgentReport | None:
            report = self.agent_report()
            if report is None or report.written < since or report.status != "Ready":
                return None
            return report if report.snapshot is not None and report.snapshot.status == "Ready" else None

        return self.wait_for("the agent to be Ready", ready, timeout)

    def wait_handler(self, status: str, code: int, timeout: float = 60) -> HandlerReport:
        """Wait until the agent reports the VMSnapshot handler so."""

        def reported() -> HandlerReport | None:
            report = self.agent_report()
            handler = None if report is None else report.snapshot
            if handler is None or (handler.status, handler.code) != (status, code):
                return None
            return handler

        return self.wait_for(f"the handler to be reported {status}/{code}", reported, timeout)

    def wait_for(self, what: str, probe: Callable[[], T | None], timeout: float = 60, every: float = 0.1) -> T:
        """Ask until the answer is true; LabError names what never came, with the end of the agent's log."""
        deadline = time.monotonic() + timeout
        while True:
            answer = probe()
            if answer:
                return answer
            if self._nspawn is None or self._nspawn.poll() is not None:
                raise LabError(f"cannot wait for {what}: the guest is not running; {self._console()}")
            if time.monotonic() >= deadline:
                raise LabError(f"cannot wait for {what} any longer than {timeout} s; {self._last_words()}")
            time.sleep(every)

    # The fabric's side.

    def fabric_run(
        self, *argv: str, check: bool = True, timeout: float = 60, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine in the fabric's network namespace."""
        command = ["ip", "netns", "exec", self.fabric_namespace, *argv]
        return _run(command, shlex.join(argv), check, timeout, input)

    # How it is put together.

    def _claim(self) -> None:
        """A directory whose lock says that its owner lives."""
        with _one_at_a_time():
            self.directory.mkdir(parents=True, mode=0o700)
            self._lock = (self.directory / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)

    def _mount(self, lower: Path) -> None:
        """The image below, a tmpfs above: what the guest writes costs no disk and is gone with the mount."""
        disk, root = self.directory / "disk", self.directory / "root"
        disk.mkdir()
        root.mkdir()
        _tool("mount", "-t", "tmpfs", "-o", f"size={self._disk_size},mode=0755", "backupready-lab", str(disk))
        upper, work = disk / "upper", disk / "work"
        upper.mkdir()
        work.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        _tool("mount", "-t", "overlay", "-o", options, "backupready-lab", str(root))

    def _connect(self) -> None:
        """Two namespaces and a veth; the agent wants a real route to the wire server, not a local address."""
        guest, azure = self.namespace, self.fabric_namespace
        for namespace in (guest, azure):
            _tool("ip", "netns", "add", namespace)
            _tool("ip", "-n", namespace, "link", "set", "lo", "up")
        _tool(*f"ip -n {guest} link add eth0 type veth peer name host0 netns {azure}".split())
        for address in (f"{GATEWAY}/24", *(f"{address}/32" for address in (*FABRIC_ADDRESSES, STORAGE[0]))):
            _tool("ip", "-n", azure, "address", "add", address, "dev", "host0")
        _tool("ip", "-n", azure, "link", "set", "host0", "up")
        _tool("ip", "-n", guest, "address", "add", f"{GUEST_ADDRESS}/24", "dev", "eth0")
        _tool("ip", "-n", guest, "link", "set", "eth0", "up")
        for destination in ("default", *(f"{address}/32" for address in FABRIC_ADDRESSES)):
            _tool(*f"ip -n {guest} route add {destination} via {GATEWAY} dev eth0".split())

    def _start_fabric(self) -> None:
        program = Path(__file__).with_name("fabric.py")
        command = ["ip", "netns", "exec", self.fabric_namespace, sys.executable, "-u", str(program)]
        command += ["--control", str(self.fabric.control), "--log", str(self.directory / "requests.jsonl")]
        command += ["--certificates", str(self.directory / "certificates")]
        with (self.directory / "fabric.log").open("w") as errors:
            self._fabric_process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self._fabric_process.stdout is not None
        if not self._fabric_process.stdout.readline():
            reason = (self.directory / "fabric.log").read_text().strip()
            raise LabError(f"cannot start the fabric in {self.fabric_namespace}: {reason}")

    def _boot(self) -> None:
        command = [
            *_cgroup_of_its_own(self.name),
            "systemd-nspawn",
            "--quiet",
            "--boot",
            f"--directory={self.directory / 'root'}",
            f"--machine={self.name}",
            "--hostname=labvm",
            "--register=no",
            "--keep-unit",
            "--settings=no",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=pipe",
            f"--capability={NSPAWN_CAPABILITIES}",
            f"--network-namespace-path=/run/netns/{self.namespace}",
        ]
        with (self.directory / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        self._wait_booted()

    def _show_own_network(self) -> None:
        """In the guest's /sys stand the devices of this machine's network; over them those of its own are mounted."""
        inside = ["nsenter", f"--target={self.leader}", "--mount", "--net", "--pid", "--", "sh", "-ec"]
        _tool(
            *inside,
            "mkdir /run/own-sys; mount -t sysfs sysfs /run/own-sys;"
            " for place in devices/virtual/net class/net; do mount --bind /run/own-sys/$place /sys/$place; done;"
            " umount --lazy /run/own-sys; rmdir /run/own-sys",
        )
        # Where this machine has firmware that says whose it is, the guest's says that it is Azure's.
        _tool(
            *inside,
            "[ -d /sys/class/dmi/id ] || exit 0; mkdir /run/own-firmware; cp -a /sys/class/dmi/id/product_uuid"
            f" /run/own-firmware/ || :; echo {AZURE_ASSET_TAG} >/run/own-firmware/chassis_asset_tag;"
            " mount --bind /run/own-firmware /sys/class/dmi/id/",
        )

    def _wait_booted(self) -> None:
        nspawn = self._nspawn
        assert nspawn is not None

        def up() -> bool:
            self._leader = next(iter(_children(nspawn.pid)), None)
            if self._leader is None or not _is_pid_1(self._leader):
                return False
            try:
                asked = self.run("systemctl", "is-system-running", check=False, timeout=10)
            except LabError:
                return False
            return asked.stdout.strip() in ("running", "degraded")

        self.wait_for("the guest to boot", up, BOOT_SECONDS, every=0.05)

    def _console(self) -> str:
        log = self.directory / "console.log"
        text = log.read_text(errors="replace")[-1500:] if log.exists() else ""
        return f"the end of its console: {text.strip() or 'empty'}"

    def _last_words(self) -> str:
        if self._leader is None:
            return self._console()
        try:
            lines = self.read(AGENT_LOG).splitlines()[-12:]
        except OSError:
            return self._console()
        return "the end of the agent's log:\n" + "\n".join(lines)


def running() -> list[str]:
    """The names of the guests of every run on this machine, newest last."""
    alive = [place for place in RUNS.glob("*") if (place / "control").exists()]
    return [place.name for place in sorted(alive, key=lambda place: place.stat().st_mtime)]


def leader_of(name: str) -> int:
    """The process id of PID 1 of a guest that another process of this machine booted."""
    for pid in _nspawn_processes(RUNS / name):
        for child in _children(pid):
            return child
    raise LabError(f"cannot find the guest {name}: it is not running")


def fabric_of(name: str) -> Fabric:
    """The fabric of a guest that another process of this machine booted."""
    return Fabric(RUNS / name / "control")


def entry(leader: int, user: str | None = None) -> list[str]:
    """The words that, put before a command, run it in the guest's namespaces with the guest's capabilities."""
    namespaces = ("mount", "uts", "ipc", "net", "pid", "cgroup")
    words = ["nsenter", f"--target={leader}", *(f"--{name}" for name in namespaces), "--"]
    words += ["/usr/bin/env", "-i", f"PATH={SEARCH_PATH}", f"HOME={'/root' if user is None else '/'}"]
    words += ["LANG=C.UTF-8", f"TERM={os.environ.get('TERM', 'dumb')}", f"USER={user or 'root'}"]
    words += ["/usr/bin/setpriv"]
    dropped = [f"-cap_{number}" for number in _capabilities_not_of(leader)]
    words += ["--bounding-set", ",".join(dropped)] if dropped else []
    if user is not None:
        words += ["--reuid", user, "--regid", user, "--init-groups", "--inh-caps=-all"]
    return [*words, "--"]


def sweep() -> None:
    """Remove what killed runs left behind; guests whose owner lives are not touched."""
    with _one_at_a_time():
        for place in RUNS.glob("*"):
            try:
                with (place / "lock").open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _clear(place)
            except BlockingIOError:
                continue
            except FileNotFoundError:  # killed before it was locked, or just gone
                with contextlib.suppress(OSError):
                    place.rmdir()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Nobody sweeps away a directory that another has made and not locked yet."""
    with RUNS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _clear(place: Path) -> None:
    """Remove a guest's processes, mounts, namespaces, cgroups and directory, in that order."""
    doomed = _nspawn_processes(place)
    doomed = [child for pid in doomed for child in _children(pid)] + doomed + _fabric_processes(place)
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _wait_gone(doomed)
    for suffix in ("guest", "azure"):
        if Path(f"/run/netns/{place.name}-{suffix}").exists():
            _tool("ip", "netns", "delete", f"{place.name}-{suffix}")
    _remove_tree(place)
    for cgroup in _cgroups(place.name):
        for directory in sorted(cgroup.rglob("*/"), key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):
                directory.rmdir()
        with contextlib.suppress(OSError):
            cgroup.rmdir()
    with contextlib.suppress(OSError):
        Path(f"/run/systemd/nspawn/propagate/{place.name}").rmdir()


def _remove_tree(place: Path) -> None:
    """Delete a directory of ours, never through a mount."""
    inside = [mount for mount in _mounts() if mount == str(place) or mount.startswith(f"{place}/")]
    for mount in reversed(inside):
        _tool("umount", "--lazy", mount)
    if place.exists():
        shutil.rmtree(place)


def _mounts() -> list[str]:
    """Mount points of this namespace, in the order of mounting."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split(" ")[4].encode().decode("unicode_escape") for line in lines]


def _wait_gone(pids: list[int], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(_state(pid) not in ("Z", "X", None) for pid in pids):
        time.sleep(0.02)


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _processes() -> Iterator[tuple[int, list[str]]]:
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield int(place.name), (place / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")


def _nspawn_processes(place: Path) -> list[int]:
    return [
        pid
        for pid, argv in _processes()
        if argv[0].endswith("systemd-nspawn") and f"--directory={place / 'root'}" in argv
    ]


def _fabric_processes(place: Path) -> list[int]:
    return [
        pid
        for pid, argv in _processes()
        if (str(place / "control") in argv and any(word.endswith("/fabric.py") for word in argv))
        or f"--pid-file={place / 'dnsmasq.pid'}" in argv
    ]


def _children(parent: int) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((place / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(place.name))
    return sorted(found)


def _is_pid_1(pid: int) -> bool:
    """Whether the process is the first of a namespace and has become the guest's init."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        program = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
    except OSError:
        return False
    numbers = re.search(r"^NSpid:(.*)$", status, re.MULTILINE)
    return numbers is not None and numbers.group(1).split()[-1:] == ["1"] and b"nspawn" not in program


def _capabilities_not_of(pid: int) -> list[int]:
    """The capabilities that this process could hand on but the other one may not have."""

    def bounding(path: str) -> int:
        found = re.search(r"^CapBnd:\s*(\w+)$", Path(path).read_text(), re.MULTILINE)
        return int(found.group(1), 16) if found else 0

    extra = bounding("/proc/self/status") & ~bounding(f"/proc/{pid}/status")
    return [number for number in range(extra.bit_length()) if extra >> number & 1]


def _cgroups(name: str) -> list[Path]:
    """A guest's directory in each hierarchy that systemd uses: the unified one and the named one of old."""
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        hierarchy = "" if kind == "cgroup2" else "name=systemd"
        if kind == "cgroup2" or (kind == "cgroup" and hierarchy in options.split(",")):
            found.append(Path(before.split(" ")[4]) / own.get(hierarchy, "/").lstrip("/") / name)
    return found


def _cgroup_of_its_own(name: str) -> list[str]:
    """The words that start nspawn in a cgroup of its own; two guests in one would mix their processes."""
    if Path("/run/systemd/system").exists():
        return ["systemd-run", "--quiet", "--scope", f"--unit={name}", "--property=Delegate=yes"]
    for cgroup in _cgroups(name):
        cgroup.mkdir(exist_ok=True)
    joins = " ".join(f"echo $$ >{shlex.quote(str(cgroup / 'cgroup.procs'))} &&" for cgroup in _cgroups(name))
    return ["sh", "-c", f'{joins} exec "$@"', "sh"]


def _resolve(root: Path, inside: str, hops: int = 40) -> Path:
    """`inside` below root, with symbolic links followed as a process whose root it is would follow them."""
    done: list[str] = []
    todo = [part for part in inside.split("/") if part]
    while todo:
        part = todo.pop(0)
        if part in (".", ".."):
            done = done[:-1] if part == ".." else done
            continue
        here = root.joinpath(*done, part)
        if not here.is_symlink():
            done.append(part)
            continue
        hops -= 1
        if hops < 0:
            raise LabError(f"cannot resolve {inside} in the guest: too many symbolic links")
        target = str(here.readlink())
        done = [] if target.startswith("/") else done
        todo = [word for word in target.split("/") if word] + todo
    return root.joinpath(*done)


def _agent_report(path: Path, written: float, document: Any) -> AgentReport:
    aggregate = document["aggregateStatus"]
    handlers = {}
    for handler in aggregate["handlerAggregateStatus"]:
        settings = handler.get("runtimeSettingsStatus") or {}
        status = (settings.get("settingsStatus") or {}).get("status") or {}
        handlers[handler["handlerName"]] = HandlerReport(
            name=handler["handlerName"],
            version=handler["handlerVersion"],
            status=handler["status"],
            code=handler["code"],
            message=(handler.get("formattedMessage") or {}).get("message", ""),
            sequence=settings.get("sequenceNumber"),
            settings_status=status.get("status"),
            settings_code=status.get("code"),
        )
    agent = aggregate["guestAgentStatus"]
    return AgentReport(path, written, agent["status"], agent["version"], handlers)


def _run(
    command: list[str], shown: str, check: bool, timeout: float, text: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a command whose whole process group ends with it, or with its time-out."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(text, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, errors = process.communicate()
            raise LabError(f"cannot wait for `{shown}` longer than {timeout} s: {errors.strip()}") from None
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if check and process.returncode != 0:
        printed = "\n".join(part.strip() for part in (output, errors) if part.strip())
        raise LabError(f"cannot run `{shown}`: exit status {process.returncode}: {printed}")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def _tool(*argv: str) -> None:
    _run(list(argv), shlex.join(argv), True, 60, None)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


__all__ = [
    "AGENT_LOG",
    "AGENT_UNIT",
    "BOOKWORM",
    "HANDLER",
    "HANDLER_CONTROL",
    "HANDLER_DIRECTORY",
    "HANDLER_LOGS",
    "HANDLER_VERSION",
    "LIBRARY",
    "OTHER_RELEASES",
    "AgentPids",
    "AgentReport",
    "Fabric",
    "FabricError",
    "Guest",
    "HandlerReport",
    "LabError",
    "Release",
    "cache",
    "entry",
    "fabric_of",
    "image",
    "leader_of",
    "missing",
    "packages",
    "running",
    "sweep",
]
