"""A scenario: a machine described as a change to a healthy one, and what must be believed of it.

The files are JSON with these keys, all optional:

base       which library tree lies under /var/lib/waagent: a folder of tests/data, or null for none
log        which log lies at /var/log/waagent.log: a file of tests/data/logs, or null for none
until      the log ends before its line `##### <until>`
at         the moment of the look, RFC 3339; by default two seconds after the end of the log
files      path → text to write, or null to remove (a directory: with all that is in it)
bytes      path → hexadecimal bytes to write
history    [hours before `at`, code, {what else differs}] of each past backup, oldest first (tests/history.py), in place
           of those that the library has
modified   path → seconds before `at` when it was modified; everything else was modified 60 s before
processes  [pid, parent, state, seconds since its start, argument …] of each; by default a healthy agent's; null when
           the process table cannot be told
http       URL → [status, body] or [status, body, seconds], or a word for how it is unreachable
headers    headers of the wire server's answer; by default its date
programs   beginning of a command line → [status, output] or [status, output, errors], or a text for why it cannot be
           run, the longest beginning first; a program that is not named is absent
spaces     path → [total, available, inodes, free inodes], null for a mount that does not answer; else there is room
sizes      directory → {entry: bytes}
locks      path → the process that holds a lock on it, or [process, seconds for which earlier looks have seen that]
links      path → what the symbolic link there says
labels     path → SELinux context
modes      path → [octal mode as text, owner]
routes     address → [device, gateway, source], or a word for how it is unreachable
dns        "name server" → [rcode, address …], or a word for how the server is unreachable
web        URL (with ` through http://proxy:port` behind it) → [status, issuer], or a word for how it is unreachable
kernel     [release, machine]
samples    [[…]] of what a Sample has, in its order; by default an idle machine's
outlook    what the resident process knows of the windows, null when it cannot be told; else what differs from a daily
           schedule that is configured for the hour in which the newest run of the record began:
             windows            [[hours from `at` to the start, hours to the end] …], past and future, oldest first
             schedule           in words
             configured         whether it is; otherwise it is learned
             learned            [[schedule, confidence] …] that the record suggests
             expected_interval  hours, by default the longest pause between neighbouring windows
             lead               hours
             since              for how many hours the machine has been on, null when that cannot be told; by default as
                                long as the oldest of its processes
             seen               for how many hours the schedule has been seen to be set so, null where nobody has looked
                                before; by default for longer than there is a record
             loads              [[hours from `at`, hours to the end, cpu, memory, steal, io] …], one every five minutes
           The runs are those that the machine has on record.
fixes      what the hands have told, null when it cannot be told; by default that nothing was ever done:
             limits             [[problem, key, remedy, why, hours from `at` until which it holds, or null] …]
             temporary          [[attempt, change, hours from `at` to its end] …]
unit       properties that differ from a healthy unit's; null when the service manager cannot be asked
privileged whether the look is root's
settings   setting → text
expect     the problems that are active, as CODE or CODE(key): exactly these
unknown    the problems that cannot be told: exactly these
verdict    the verdict
evidence   CODE → facts that its evidence must hold
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import formatdate
from pathlib import Path
from types import MappingProxyType
from typing import Any

from backupready import catalogue, cli, config, mountinfo, vmsnapshot, waagent
from backupready.eyes.machine import CapturedMachine
from backupready.model import (
    Absent,
    Answer,
    CannotTell,
    Fetched,
    FileStatus,
    Fixes,
    Kernel,
    LearnedSchedule,
    Limit,
    Load,
    Outlook,
    Phase,
    Process,
    Ran,
    Resolved,
    Route,
    Sample,
    Snapshot,
    Space,
    Spaces,
    Temporary,
    Unreachable,
    Window,
)
from backupready.observe import observe
from backupready.probes import window
from fake import FakeMachine
from history import Run, history

DATA = Path(__file__).parent / "data"
_MACHINE = "7f5a3c3e-0000-4000-8000-000000000001"
WIRE = "http://168.63.129.16:80/?comp=versions"
PLUGIN = "http://168.63.129.16:32526/versions"
METADATA = "http://169.254.169.254/metadata/instance?api-version=2021-02-01"
_HTTP = {
    WIRE: [200, "<Versions><Supported><Version>2012-11-30</Version></Supported></Versions>"],
    PLUGIN: [200, '["2015-09-01"]'],
    METADATA: [200, "{}"],
}
_UNIT = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "UnitFileState": "enabled",
    "Result": "success",
    "Restart": "always",
    "NRestarts": "0",
    "ConditionResult": "yes",
    "ConditionTimestampMonotonic": "12345",
}
_FILES = {
    "/usr/sbin/waagent": "",
    "/usr/bin/openssl": "",
    "/usr/bin/systemctl": "",
    "/usr/bin/ip": "",
    **dict.fromkeys(("/usr/bin/python3", "/usr/bin/lsblk", "/usr/bin/mount", "/usr/bin/df"), ""),
    "/etc/waagent.conf": "# a comment\nExtensions.Enabled=y\nLogs.Verbose=n\n",
    "/etc/resolv.conf": "nameserver 127.0.0.53\noptions edns0 trust-ad\n",
    "/var/lib/waagent/provisioned": _MACHINE,
    "/sys/class/dmi/id/product_uuid": _MACHINE + "\n",
    "/sys/class/dmi/id/chassis_asset_tag": waagent.AZURE_ASSET_TAG + "\n",
    f"/var/log/azure/{waagent.VMSNAPSHOT}/shell.log": "",
    mountinfo.TABLE: (DATA / "mountinfo/ubuntu-22.04").read_text(),
    "/sys/class/net/eth0/type": "1\n",
    "/proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    "eth0\t10813FA8\t0100000A\t0007\t0\t0\t100\tFFFFFFFF\t0\t0\t0\n",
}
_LINKS: dict[str, str] = {}
_LINKS["/sys/class/net/eth0/device/driver"] = "../../../../../../bus/vmbus/drivers/hv_netvsc"
_PROGRAMS: dict[str, Any] = {}
_PROGRAMS["iptables-save"] = [0, ("# Generated by iptables-save v1.8.9 (nf_tables)\n*security\n:INPUT ACCEPT [0:0]\n"
    ":OUTPUT ACCEPT [0:0]\n-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 53 -j ACCEPT\n"
    "-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT\n"
    "-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP\nCOMMIT\n")]  # fmt: skip
_PROGRAMS["/usr/bin/python3 -B -c"] = [0, "asked\n"]
_PROGRAMS["apt-cache"] = [
    0,
    "waagent:\n  Installed: 2.15.0.1-1\n  Candidate: 2.15.0.1-1\n     500 http://deb.example\n",
]
# The captured trees name the emulated fabric as the storage.
_STORAGE = "md-status.z6.blob.storage.azure.net"
_SETTINGS = {"storage.endpoint": _STORAGE}
_DNS: dict[str, Any] = {f"{_STORAGE} 127.0.0.53": ["NOERROR", "20.60.1.4"]}
_WEB: dict[str, Any] = {f"https://{_STORAGE}/": [400, "Microsoft Corporation"]}
_ROOM = [32 << 30, 16 << 30, 2_000_000, 1_800_000]
# Two processors, ten seconds apart, that do next to nothing.
_IDLE = [[10.0 * n, 0.2 * n, 0, 20.0 * n, 8 << 30, 6 << 30, 0, 0, 0, 0, 0, 0, 0] for n in range(12)]
_AGENT = [
    [100, 1, "S", 300, "/usr/bin/python3", "-u", "/usr/sbin/waagent", "-daemon"],
    [101, 100, "S", 299, "/usr/bin/python3", "-u", "/usr/sbin/waagent", "-run-exthandlers"],
]


class ScenarioMachine(CapturedMachine):
    """A captured tree, with the live answers that the scenario gives."""

    def __init__(self, root: Path, at: float, scenario: Mapping[str, Any], memory: Mapping[str, Any]) -> None:
        held = [
            [path, lock[0], at - row[3], at - lock[1]]
            for path, lock in scenario.get("locks", {}).items()
            if isinstance(lock, list)
            for row in scenario["processes"]
            if row[0] == lock[0]
        ]
        super().__init__(str(root), at, {**({"held": held} if held else {}), **memory})
        self._moment = at
        self._scenario = scenario
        self.privileged = scenario.get("privileged", True)

    def processes(self) -> tuple[Process, ...]:
        rows = self.rows()
        if rows is None:
            raise CannotTell("the process table cannot be told")
        return tuple(
            Process(pid, parent, tuple(argv), state, self._moment - age) for pid, parent, state, age, *argv in rows
        )

    def rows(self) -> list[list[Any]] | None:
        """The process table as the scenario writes it."""
        rows: list[list[Any]] | None = self._scenario.get("processes", _AGENT)
        return rows

    def _of(self, key: str, defaults: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
        """The answers that the scenario gives, over the healthy ones."""
        return {**defaults, **self._scenario.get(key, {})}

    def status(self, path: str) -> FileStatus:
        found = super().status(path)
        # The files of a scenario belong to whoever runs the tests; on the machine that it describes they are root's.
        mode, owner = self._of("modes").get(path, (None, 0))
        return replace(found, owner=owner, mode=found.mode if mode is None else int(mode, 8))

    def target(self, path: str) -> str:
        links = self._of("links", _LINKS)
        if path not in links:
            raise Absent(path)
        return str(links[path])

    def label(self, path: str) -> str:
        labels = self._of("labels")
        if path not in labels:
            raise Absent(path)
        return str(labels[path])

    def lock_holder(self, path: str) -> int | None:
        self.read(path)
        lock = self._of("locks").get(path)
        holder: int | None = lock[0] if isinstance(lock, list) else lock
        return holder

    def space(self, paths: Sequence[str], timeout: float) -> Spaces:
        rooms = {path: self._of("spaces").get(path, _ROOM) for path in paths}
        silent = tuple(path for path, room in rooms.items() if room is None)
        return Spaces({path: Space(*room) for path, room in rooms.items() if room}, silent, 4242 if silent else 0)

    def largest(self, path: str, seconds: float) -> tuple[tuple[str, int], ...]:
        return tuple(sorted(self._of("sizes").get(path, {}).items(), key=lambda size: -size[1]))

    def run(self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = 256 << 10) -> Ran:
        programs, line = self._of("programs", _PROGRAMS), " ".join(command)
        known = max((start for start in programs if line.startswith(start)), key=len, default=None)
        if known is None or programs[known] is None:
            raise Absent(command[0])
        if isinstance(programs[known], str):
            raise CannotTell(programs[known])
        status, output, *errors = programs[known]
        return Ran(status, output.encode(), errors[0] if errors else "")

    def kernel(self) -> Kernel:
        return Kernel(*self._scenario.get("kernel", ["6.1.0-13-amd64", "x86_64"]))

    def samples(self) -> tuple[Sample, ...]:
        return tuple(Sample(*row) for row in self._scenario.get("samples", _IDLE))

    def outlook(self) -> Outlook:
        given = self._scenario.get("outlook", {})
        if given is None:
            raise CannotTell("nothing is known of the windows")
        return _outlook(given, self)

    def fixes(self) -> Fixes:
        given = self._scenario.get("fixes", {})
        if given is None:
            raise CannotTell("it is not known what was fixed")
        at, hour = self._moment, 3600.0
        return Fixes(
            at,
            temporary=tuple(Temporary(n, change, at + ends * hour) for n, change, ends in given.get("temporary", ())),
            limits=tuple(
                Limit(problem, key, remedy, why, None if ends is None else at + ends * hour)
                for problem, key, remedy, why, ends in given.get("limits", ())
            ),
        )

    def route(self, address: str) -> Route:
        answer = self._of("routes").get(address, ["eth0", "10.0.0.1", "10.0.0.4"])
        if isinstance(answer, str):
            raise Unreachable(answer, "as the scenario wants it", 1)
        return Route(*answer)

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        answer = self._of("dns", _DNS)[f"{name} {server}"]
        if isinstance(answer, str):
            raise Unreachable(answer, "as the scenario wants it", 1)
        return Resolved(tuple(answer[1:]), answer[0], 0.004)

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        answer = self._of("web", _WEB)[f"{url} through {proxy}" if proxy else url]
        if isinstance(answer, str):
            raise Unreachable(answer, "as the scenario wants it", 3)
        return Fetched(answer[0], {"name": 0.004, "connect": 0.01, "tls": 0.03, "first_byte": 0.02}, answer[1], 1)

    def get(self, url: str, timeout: float, budget: float, headers: Mapping[str, str] = MappingProxyType({})) -> Answer:
        answer = {**_HTTP, **self._scenario.get("http", {})}[url]
        if isinstance(answer, str):
            raise Unreachable(answer, "as the scenario wants it", 3)
        status, body, *seconds = answer
        received = {"date": formatdate(self._moment, usegmt=True), **self._scenario.get("headers", {})}
        return Answer(status, received, body.encode(), seconds[0] if seconds else 0.002, 1)

    def _missing(self, path: str) -> Exception:
        return Absent(path)  # the scenario is a whole machine

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        changes = self._scenario.get("unit", {})
        if changes is None:
            raise CannotTell("the service manager cannot be asked")
        return {**_UNIT, **changes} if name == "walinuxagent.service" else {"LoadState": "not-found"}


def _outlook(given: Mapping[str, Any], machine: ScenarioMachine) -> Outlook:
    """What the resident process would know of this machine's windows."""
    at, hour, day = machine.now(), 3600.0, 86400.0
    unread = ""
    try:
        outcomes = vmsnapshot.outcomes(machine)
    except CannotTell as error:
        outcomes, unread = (), error.why
    runs = [run for run in (outcome.run for outcome in reversed(outcomes)) if run is not None]
    schedule = given.get("schedule", "")
    spans = [(at + start * hour, at + end * hour) for start, end in given.get("windows", ())]
    if "windows" not in given:
        # Midnight of UTC is where the epoch's days begin.
        time = (runs[-1].start if runs else at + 6 * hour) % day // 1800 * 1800
        first = min([at - day, *(run.start for run in runs)]) // day
        starts = [midnight * day + time for midnight in range(int(first), int(at // day) + 3)]
        spans = [(start, start + 2.5 * hour) for start in starts[-40:]]
        schedule = schedule or f"daily at {int(time) // 3600:02}:{int(time) // 60 % 60:02}"
    configured = given.get("configured", bool(spans))
    windows = tuple(Window(start, end, schedule, not configured) for start, end in spans)
    ahead = tuple(window for window in windows if window.start > at)
    now = next((window for window in reversed(windows) if window.start <= at < window.end), None)
    lead = given.get("lead", 4) * hour
    left = ahead[0].start - at if ahead else None
    pauses = [later.start - earlier.start for earlier, later in zip(windows, windows[1:])]
    expected = given["expected_interval"] * hour if "expected_interval" in given else max(pauses, default=None)
    ages = [row[3] for row in machine.rows() or ()]
    since = given.get("since", max(ages) / hour if ages else None)
    return Outlook(
        at=at,
        phase=Phase.OPEN if now else Phase.LEAD if left is not None and left <= lead else Phase.IDLE,
        window=now or (ahead[0] if ahead else None),
        upcoming=ahead,
        passed=tuple(window for window in windows if window.end <= at),
        lead=lead,
        expected_interval=expected,
        configured=configured,
        learned=tuple(
            LearnedSchedule(words, confidence, tuple(run.start for run in runs))
            for words, confidence in given.get("learned", ())
        ),
        runs=tuple(runs),
        loads=tuple(
            Load(slot * 300.0, *shares)
            for start, end, *shares in given.get("loads", ())
            for slot in range(int((at + start * hour) // 300), int((at + end * hour) // 300))
        ),
        since=None if since is None else at - since * hour,
        unread=unread,
    )


@dataclass(frozen=True)
class Believed:
    """What came out: active problems as CODE or CODE(key), unknown ones, and the whole snapshot."""

    expect: frozenset[str]
    unknown: frozenset[str]
    snapshot: Snapshot


def believe(scenario: Mapping[str, Any], place: Path) -> Believed:
    """Build the machine of a scenario below `place`, look at it until everything seen is confirmed, and tell."""
    at = furnish(scenario, place)
    table = catalogue.SETTINGS
    place_config = place.parent / f"{place.name}.conf"
    place_config.write_text(
        "".join(
            f"[{name.partition('.')[0]}]\n{name.partition('.')[2]} = {text}\n"
            for name, text in {**_SETTINGS, **scenario.get("settings", {})}.items()
        )
    )
    settings = config.load(table, place_config)
    seen = (scenario.get("outlook") or {}).get("seen", 9600)
    earlier: Mapping[str, Any] = {}
    if seen is not None:
        earlier = observe(window.PROBE, FakeMachine(calendar=Outlook(at - seen * 3600.0)), settings).memory
    snapshot = cli.check(
        settings,
        lambda memory: ScenarioMachine(place, at, scenario, {**earlier, **memory}),
        {"name": "scenario"},
        changes=False,
    )
    active = frozenset(
        f"{reason.problem.code}({reason.key})" if reason.key else reason.problem.code
        for reason in (*snapshot.reasons, *snapshot.notices)
    )
    return Believed(active, frozenset(b.problem.code for b in snapshot.beliefs if b.unknown), snapshot)


def furnish(scenario: Mapping[str, Any], place: Path) -> float:
    """Write the scenario's files below `place`. Returns the moment of the look."""
    library = place / waagent.LIB_DIR.lstrip("/")
    base = scenario.get("base", "libdir-2.15.0.1")
    log_name = scenario.get("log", "waagent-2.15.0.1-normal.log")
    if base is not None:
        shutil.copytree(DATA / base, library)
    log = _slice((DATA / "logs" / log_name).read_bytes(), scenario.get("until")) if log_name else b""
    end = max((record.time for record in waagent.records(log)), default=None)
    wanted = waagent.timestamp(scenario.get("at"))
    at = wanted if wanted is not None else (end or 1795393382.0) + 2.0
    if "history" in scenario:
        _write_history(scenario["history"], place, at)
    for path, text in {**_FILES, **scenario.get("files", {})}.items():
        file = place / path.lstrip("/")
        if text is None:
            shutil.rmtree(file) if file.is_dir() else file.unlink(missing_ok=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for path, text in scenario.get("bytes", {}).items():
        file = place / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes.fromhex(text))
    if log_name and waagent.LOG not in scenario.get("files", {}):
        file = place / waagent.LOG.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(log)
    for file in [*place.rglob("*"), place]:
        os.utime(file, (at - 60, at - 60))
    for path, age in scenario.get("modified", {}).items():
        os.utime(place / path.lstrip("/"), (at - age, at - age))
    return at


def _write_history(rows: Sequence[Any], place: Path, at: float) -> None:
    for file in place.glob(f"var/lib/waagent/{waagent.VMSNAPSHOT}-*/status/*.status"):
        file.unlink()
    runs = [Run(at - hours * 3600, code, **(how[0] if how else {})) for hours, code, *how in rows]
    for path, text in history(runs, first=10).items():
        if "/config/" not in path:  # the requests stay those of the library
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(text)


def _slice(log: bytes, until: str | None) -> bytes:
    if until is None:
        return log
    end = log.index(f"##### {until}".encode())
    return log[:end]


def scenarios() -> dict[str, dict[str, Any]]:
    """Every scenario by `<probe>/<name>`."""
    return {
        f"{file.parent.name}/{file.stem}": json.loads(file.read_text())
        for file in sorted(DATA.glob("*/*.json"))
        if not file.parent.name.startswith(("libdir", "logs"))
    }
