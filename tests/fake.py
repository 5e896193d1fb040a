"""A machine in a dictionary, and small builders for what travels. Nothing in here reads a clock."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import formatdate
from typing import Any, Callable, TypeVar, Union

from backupready import config, mountinfo, probes, waagent
from backupready.config import Config, Value
from backupready.mind.judge import Judge
from backupready.model import (
    Absent,
    Access,
    Answer,
    CannotTell,
    Cause,
    Cursor,
    Effect,
    Fetched,
    FileStatus,
    Finding,
    Fixes,
    Kernel,
    Looked,
    Machine,
    Metric,
    Observation,
    Outlook,
    Phase,
    Probe,
    ProbeState,
    Problem,
    Process,
    Ran,
    Remedy,
    Resolved,
    Route,
    Sample,
    Scalar,
    Setting,
    Settings,
    Snapshot,
    Space,
    Spaces,
    Step,
    Unreachable,
    Window,
)

NOW = 1795393382.0  # 2026-11-23T00:23:02Z
WIRE = "168.63.129.16:80"
PLUGIN = "168.63.129.16:32526"
STORAGE = "md-status.z6.blob.storage.azure.net"

File = Union[str, bytes, CannotTell]
T = TypeVar("T")
_ROOMY = Space(32 << 30, 16 << 30, 2_000_000, 1_800_000)


@dataclass
class FakeMachine:
    """A Machine over dictionaries. Directories are there where a file is below them; what is a CannotTell is raised.

    `clock` may be set forward between looks. An address that is not in `http` is a mistake of the test. What a command
    line begins with picks its entry in `programs`, the longest first; a program without one is absent. A path without
    an entry in `spaces` has room; None there is a mount that is silent. A file is locked if it is in `locks`, a link if
    it is in `links`. Without a `calendar` nothing is known of the backup's windows.
    """

    files: dict[str, File] = field(default_factory=dict)
    table: tuple[Process, ...] | CannotTell = ()
    http: dict[str, Answer | Unreachable | CannotTell] = field(default_factory=dict)
    units: dict[str, Mapping[str, str]] | CannotTell = field(default_factory=dict)
    clock: float = NOW
    modified: dict[str, float] = field(default_factory=dict)
    memory: Mapping[str, Any] = field(default_factory=dict)
    privileged: bool = True
    wire_server: str = WIRE
    host_plugin: str = PLUGIN
    asked: list[str] = field(default_factory=list)
    programs: dict[str, Ran | CannotTell] = field(default_factory=dict)
    spaces: dict[str, Space | CannotTell | None] = field(default_factory=dict)
    sizes: dict[str, dict[str, int]] = field(default_factory=dict)
    locks: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    modes: dict[str, tuple[int, int]] = field(default_factory=dict)  # path → mode, owner
    routes: dict[str, Route | Unreachable | CannotTell] = field(default_factory=dict)
    dns: dict[tuple[str, str], Resolved | Unreachable | CannotTell] = field(default_factory=dict)  # name, server
    web: dict[str, Fetched | Unreachable | CannotTell] = field(default_factory=dict)
    booted: Kernel | CannotTell = field(default_factory=lambda: Kernel("6.1.0-13-amd64", "x86_64"))
    ring: tuple[Sample, ...] | CannotTell = ()
    calendar: Outlook | CannotTell = field(default_factory=lambda: CannotTell("nothing is known of the windows"))
    hands: Fixes | CannotTell = Fixes(0.0)

    def now(self) -> float:
        return self.clock

    def _content(self, path: str) -> bytes:
        possible(path)
        if path not in self.files:
            raise CannotTell(f"cannot read {path}: it is no regular file") if self._is_directory(path) else Absent(path)
        content = self.files[path]
        if isinstance(content, CannotTell):
            raise content
        return content.encode() if isinstance(content, str) else content

    def _is_directory(self, path: str) -> bool:
        return any(other.startswith(path.rstrip("/") + "/") for other in self.files)

    def _inode(self, path: str) -> int:
        return zlib.crc32(path.encode()) + 1

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        content = self._content(path)
        if len(content) > limit:
            raise CannotTell(f"cannot read {path}: it has more than {limit} bytes")
        return content

    def read_new(self, path: str, cursor: Cursor | None, limit: int = 1 << 20) -> tuple[bytes, Cursor, int]:
        content, inode = self._content(path), self._inode(path)
        start = cursor.offset if cursor and cursor.inode == inode and cursor.offset <= len(content) else 0
        skipped = max(0, len(content) - start - limit)
        end = content.rfind(b"\n") + 1
        return content[start + skipped : end], Cursor(inode, max(end, start)), skipped

    def names(self, path: str) -> tuple[str, ...]:
        possible(path)
        if not self._is_directory(path):
            raise Absent(path)
        prefix = path.rstrip("/") + "/"
        return tuple(sorted({f[len(prefix) :].split("/")[0] for f in self.files if f.startswith(prefix)}))

    def status(self, path: str) -> FileStatus:
        possible(path)
        if path in self.files:
            kind, size = "file", len(self._content(path))
        elif self._is_directory(path):
            kind, size = "directory", 4096
        else:
            raise Absent(path)
        mode, owner = self.modes.get(path, (0o644, 0))
        return FileStatus(kind, size, mode, owner, self.modified.get(path, self.clock - 60), self._inode(path))

    def target(self, path: str) -> str:
        possible(path)
        if path not in self.links:
            raise Absent(path)
        return self.links[path]

    def label(self, path: str) -> str:
        possible(path)
        if path not in self.labels:
            raise Absent(path)
        return self.labels[path]

    def lock_holder(self, path: str) -> int | None:
        self._content(path)
        return self.locks.get(path)

    def space(self, paths: Sequence[str], timeout: float) -> Spaces:
        rooms = {path: self.spaces.get(path, _ROOMY) for path in paths}
        silent = tuple(path for path, room in rooms.items() if room is None)
        return Spaces({p: room for p, room in rooms.items() if room is not None}, silent, 4242 if silent else 0)

    def largest(self, path: str, seconds: float) -> tuple[tuple[str, int], ...]:
        if path not in self.sizes:
            raise Absent(path)
        return tuple(sorted(self.sizes[path].items(), key=lambda size: -size[1]))

    def run(self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = 256 << 10) -> Ran:
        line = " ".join(command)
        known = max((start for start in self.programs if line.startswith(start)), key=len, default=None)
        if known is None:
            raise Absent(command[0])
        return told(self.programs[known])

    def kernel(self) -> Kernel:
        return told(self.booted)

    def samples(self) -> tuple[Sample, ...]:
        return told(self.ring)

    def outlook(self) -> Outlook:
        return told(self.calendar)

    def fixes(self) -> Fixes:
        return told(self.hands)

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        return told(self.web[f"{url} through {proxy}" if proxy else url])

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        return told(self.dns[name, server])

    def route(self, address: str) -> Route:
        return told(self.routes.get(address, Route("eth0", "10.0.0.1", "10.0.0.4")))

    def processes(self) -> tuple[Process, ...]:
        if isinstance(self.table, CannotTell):
            raise self.table
        return self.table

    def get(self, url: str, timeout: float, budget: float, headers: Mapping[str, str] | None = None) -> Answer:
        self.asked.append(url)
        answer = self.http[url]
        if isinstance(answer, Answer):
            return replace(answer, headers={"date": formatdate(self.clock, usegmt=True), **answer.headers})
        raise answer

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        if isinstance(self.units, CannotTell):
            raise self.units
        shown = self.units.get(name, {"LoadState": "not-found"})
        return {key: value for key, value in shown.items() if key in properties}


def possible(path: str) -> None:
    """Paths that no system call takes cannot be told, as on a live machine."""
    if "\0" in path or any("\ud800" <= character <= "\udfff" for character in path):
        raise CannotTell(f"cannot read {path!r}: it is no possible path")


def told(answer: T | CannotTell | Unreachable) -> T:
    """What is an exception is raised."""
    if isinstance(answer, (CannotTell, Unreachable)):
        raise answer
    return answer


def is_a_machine(machine: FakeMachine) -> Machine:
    """For the type checker: the fake keeps the whole protocol."""
    return machine


def answer(body: bytes = b"", status: int = 200, seconds: float = 0.002, attempts: int = 1) -> Answer:
    return Answer(status, {}, body, seconds, attempts)


def healthy() -> FakeMachine:
    """An Azure VM with agent 2.15.0.1 whose next backup succeeds; it is configured to start in six hours."""
    library, handler = waagent.LIB_DIR, f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"
    goal = f"{library}/history/2026-01-01T00-00-00__1"
    this = "7f5a3c3e-0000-4000-8000-000000000001"
    report = {
        "version": "1.1",
        "timestampUTC": "2026-11-23T00:23:00Z",
        "aggregateStatus": {
            "guestAgentStatus": {"version": "2.15.0.1", "status": "Ready"},
            "handlerAggregateStatus": [
                {"handlerName": waagent.VMSNAPSHOT, "handlerVersion": "1.0.9220.0", "status": "Ready", "code": 0}
            ],
        },
    }
    files: dict[str, File] = {
        "/usr/sbin/waagent": "",
        "/usr/bin/openssl": "",
        "/usr/bin/systemctl": "",
        "/usr/bin/ip": "",
        **dict.fromkeys(("/usr/bin/python3", "/usr/bin/lsblk", "/usr/bin/mount", "/usr/bin/df"), ""),
        "/etc/waagent.conf": "Extensions.Enabled=y\n",
        "/etc/resolv.conf": "nameserver 127.0.0.53\n",
        "/proc/net/route": "eth0 00000000 0100000A 0003 0 0 0 00000000\neth0 10813FA8 0100000A 0007 0 0 0 FFFFFFFF\n",
        "/sys/class/dmi/id/product_uuid": f"{this}\n",
        "/sys/class/dmi/id/chassis_asset_tag": waagent.AZURE_ASSET_TAG,
        f"{library}/provisioned": this,
        f"{goal}/waagent_status.json": json.dumps(report),
        f"{goal}/ExtensionsConfig.xml": f'<Extensions><Plugins><Plugin name="{waagent.VMSNAPSHOT}"'
        ' version="1.0.9220.0" state="enabled"/></Plugins><StatusUploadBlob statusBlobType="BlockBlob">'
        f"https://{STORAGE}/$system/vm.status?sv=2018&amp;sig=x</StatusUploadBlob></Extensions>",
        f"{handler}/HandlerManifest.json": '[{"version": 1.0, "handlerManifest": {}}]',
        f"{handler}/HandlerEnvironment.json": '[{"version": 1.0, "handlerEnvironment": {}}]',
        f"{handler}/config/HandlerState": "Enabled",
        f"{handler}/config/0.settings": "{}",
        f"{handler}/mrseq": "0",
        f"{handler}/status/0.status": json.dumps(
            [{"status": {"code": 1}, "timestampUTC": "2026-11-23T00:20:00Z"}],
        ),
        f"{handler}/main/handle.sh": "#!/bin/sh\n",
        f"{waagent.EXTENSION_LOGS}/{waagent.VMSNAPSHOT}/shell.log": "",
        mountinfo.TABLE: "26 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard\n",
        waagent.LOG: "2026-11-23T00:08:28.096237Z INFO Daemon Daemon Azure Linux Agent Version: 2.15.0.1\n"
        "2026-11-23T00:08:28.196237Z INFO Daemon Daemon Python: 3.11.2\n"
        "2026-11-23T00:08:28.296237Z INFO Daemon Daemon Run daemon\n"
        "2026-11-23T00:08:29.096237Z INFO ExtHandler ExtHandler Azure Linux Agent (Goal State Agent"
        " version 2.15.0.1)\n",
    }
    python = ("/usr/bin/python3", "-u", "/usr/sbin/waagent")
    return FakeMachine(
        files=files,
        programs={
            "/usr/bin/python3 -B -c": Ran(0, b"asked\n", ""),
            "apt-cache": Ran(
                0, b"waagent:\n  Installed: 2.15.0.1\n  Candidate: 2.15.0.1\n     500 http://deb.example\n", ""
            ),
        },
        table=(
            Process(100, 1, (*python, "-daemon"), "S", NOW - 300),
            Process(101, 100, (*python, "-run-exthandlers"), "S", NOW - 299),
        ),
        http={
            f"http://{WIRE}/?comp=versions": answer(b"<Versions><Version>2012-11-30</Version></Versions>"),
            f"http://{PLUGIN}/versions": answer(b'["2015-09-01"]', seconds=0.003),
            "http://169.254.169.254/metadata/instance?api-version=2021-02-01": answer(b"{}"),
        },
        dns={(STORAGE, "127.0.0.53"): Resolved(("20.60.1.4",), "NOERROR", 0.004)},
        web={f"https://{STORAGE}/": Fetched(400, {"name": 0.004, "tls": 0.03}, "Microsoft Corporation", 1)},
        units={
            "walinuxagent.service": {
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
        },
        ring=tuple(Sample(10.0 * n, 0.2 * n, 0.0, 20.0 * n, 8 << 30, 6 << 30, 0, 0, 0, 0, 0, 0, 0) for n in range(12)),
        calendar=Outlook(
            NOW,
            Phase.IDLE,
            Window(NOW + 6 * 3600, NOW + 8.5 * 3600, "daily at 06:23"),
            lead=4 * 3600.0,
            expected_interval=86400.0,
            configured=True,
            since=NOW - 300,
        ),
    )


# ---------------------------------------------------------------------------------------------------- builders


def problem(code: str = "THING_BROKEN", effect: Effect = Effect.BLOCKS, **changes: Any) -> Problem:
    words = {name: f"{name} of {code}" for name in ("title", "meaning", "diagnosis", "fix", "source")}
    return Problem(**{"code": code, "effect": effect, "cause": Cause.AGENT, **words, **changes})


def remedy(name: str = "mend-thing", does: Sequence[Step] = (), **changes: Any) -> Remedy:
    """One whose plan is always the same."""

    def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
        yield from does

    told: dict[str, Any] = {
        "name": name,
        "title": f"title of {name}",
        "problems": ("THING_BROKEN",),
        "plan": plan,
        "worst_case": timedelta(minutes=10),
        "settle": timedelta(minutes=1),
        "source": f"https://example/{name}",
    }
    return Remedy(**{**told, **changes})


def steps(remedy: Remedy, machine: FakeMachine, code: str = "", **evidence: Scalar) -> list[Step]:
    """The plan of a remedy for a problem, by default the first that it is for."""
    return list(remedy.plan(machine, Finding(code or next(iter(remedy.problems), ""), evidence=evidence)))


def sees(*observations: Observation) -> Callable[[Machine, Settings], Iterator[Observation]]:
    """A look that sees always the same."""

    def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
        yield from observations

    return look


def probe(
    name: str = "thing",
    problems: Sequence[Problem] = (),
    look: Callable[[Machine, Settings], Iterator[Observation]] | None = None,
    budget: timedelta = timedelta(seconds=5),
    metrics: Sequence[Metric] = (),
    settings: Sequence[Setting] = (),
    access: Access = Access.ROOT,
) -> Probe:
    return Probe(
        name=name,
        question=f"Is the {name} well?",
        access=access,
        problems=tuple(problems),
        look=look or sees(),
        budget=budget,
        metrics=tuple(metrics),
        settings=tuple(settings),
    )


def looked(name: str, *seen: Finding | CannotTell, **changes: Any) -> Looked:
    """A look that went well and saw this; what is a CannotTell speaks of the problems it names."""
    return Looked(
        **{
            "probe": name,
            "state": ProbeState.OK,
            "seconds": 0.25,
            "findings": tuple(one for one in seen if isinstance(one, Finding)),
            "unknown": tuple(one for one in seen if isinstance(one, CannotTell)),
            **changes,
        }
    )


def configuration(known: Sequence[Probe] = probes.PROBES, **texts: str) -> Config:
    """The defaults, with `section__key=text` instead of some; no file of this machine is read."""
    changed = {name.replace("__", ".", 1): text for name, text in texts.items()}
    table = config.table(known)
    assert set(changed) <= {row.name for row in table}
    rows = {row.name: (row, changed.get(row.name, row.default)) for row in table}
    return Config({name: Value(row, text, row.parse(text), "default") for name, (row, text) in rows.items()})


def snapshot(
    *looks: Looked, known: Sequence[Probe] = probes.PROBES, times: int = 1, facts: Mapping[str, str] | None = None
) -> Snapshot:
    """What is believed after `times` looks a minute apart, the newest at NOW."""
    judge = Judge(known, {one.name: min(300.0, one.interval.total_seconds()) for one in known}, 30.0)
    for turn in range(times):
        for one in looks:
            judge.saw(one, turn * 60.0, NOW - (times - 1 - turn) * 60)
    return judge.snapshot((times - 1) * 60.0, NOW, facts or {"name": "vm1"}, {})
