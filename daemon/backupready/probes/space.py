"""Is there room for what the agent and the extension have to write?

Asked of the file systems behind a few paths, each once. Whether one of them is read-only, and which are the same, is
read from the mounts of PID 1, since those of a sandboxed look are others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backupready import mountinfo, waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Metric,
    Observation,
    Probe,
    Problem,
    Reading,
    Scalar,
    Setting,
    Settings,
    Space,
    TooMany,
)
from backupready.mountinfo import Mount

_LOG = "/var/log"
# Azure's own check of a machine (vmassist) asks these. The one of a file system that stands first here names it.
_PATHS = ("/", "/var", waagent.LIB_DIR, _LOG, "/tmp", "/etc")
# Without these no goal state is stored, no package unpacked and no status written; without the others only some work.
_WRITTEN_ALWAYS = (waagent.LIB_DIR, _LOG)
_OWN_MOUNTS = "/proc/self/mountinfo"
_REMOTE = re.compile(r"nfs|cifs|smb|fuse|9p|ceph|gluster|lustre|afs|beegfs|virtiofs")
_ANSWER_TIMEOUT = 4.0  # s
_SIZING = 2.0  # s for each full file system
_MOST_SIZED = 2
_FULL_MEBIBYTES = 32  # an unpacked extension and its logs
_FULL_PERCENT = 5
_SCARCE_MEBIBYTES = 512
_SCARCE_PERCENT = 10  # vmassist warns above 90 % in use
_FULL_INODES = 100  # files of an unpacked extension
_SCARCE_INODES = 2000
_SOURCE = "https://learn.microsoft.com/troubleshoot/azure/virtual-machines/linux/linux-azure-guest-agent"

PROBLEMS = (
    Problem(
        "SPACE_EXHAUSTED",
        "A file system that the backup needs is full",
        Effect.BLOCKS,
        Cause.PRESSURE,
        milder=(Effect.RISKS,),
        meaning="Even root has hardly any room left where the agent and the extension must write goal states, packages,"
        " status and logs. It is a mere risk while there is some room, or where the file system is none of those two"
        " need always.",
        diagnosis="`df -h / /var /var/lib/waagent /var/log /tmp /etc`; `du -xhd1 / | sort -h | tail`;"
        " `lsof +L1` shows deleted files that are still held open.",
        fix="Remove or move what fills it (old logs, packages, core dumps), or enlarge the disk. Of /var/lib/waagent"
        " remove nothing but old archives below history/.",
        source=_SOURCE,
        explains=("AGENT_HUNG", "AGENT_STATUS_NOT_UPLOADED", "EXTENSION_PACKAGE_UNAVAILABLE", "EXTENSION_NOT_READY"),
    ),
    Problem(
        "INODES_EXHAUSTED",
        "A file system that the backup needs can hold no more files",
        Effect.BLOCKS,
        Cause.PRESSURE,
        milder=(Effect.RISKS,),
        meaning="There may be bytes left, but no inodes: no new file can be made where the agent and the extension must"
        " write. It is a mere risk while there are some, or where the file system is none of those two need always.",
        diagnosis="`df -i / /var /var/lib/waagent /var/log /tmp /etc`; `du --inodes -xd2 / | sort -n | tail`",
        fix="Remove what consists of very many small files (mail queues, sessions, caches, spools).",
        source=_SOURCE,
        explains=("AGENT_HUNG", "AGENT_STATUS_NOT_UPLOADED", "EXTENSION_PACKAGE_UNAVAILABLE", "EXTENSION_NOT_READY"),
    ),
    Problem(
        "AGENT_STATE_PILES_UP",
        "The agent's files pile up",
        Effect.RISKS,
        Cause.AGENT,
        meaning="In /var/lib/waagent lies more of something than the agent or the extension ever keeps: it is not"
        " tidied up any more, or comes faster than it is. In the end it fills the disk, and it slows every turn down.",
        diagnosis="`ls /var/lib/waagent/history | wc -l`; `ls /var/lib/waagent/events | wc -l`; waagent.log says what"
        " the agent fails at in every turn (openssl is missing, telemetry cannot be sent …).",
        fix="Update the agent from the distribution's repository, and install what it lacks. Archives below history/"
        " and files below events/ may be removed.",
        source="https://github.com/Azure/WALinuxAgent/issues/2703",
        sightings=2,
        apart=timedelta(seconds=10),
        patience="the agent tidies up at the end of a turn",
    ),
)

METRICS = (
    Metric(
        "backupready_space_available_bytes",
        "Bytes left on a file system for ordinary users.",
        ("path",),
        clause="Left for ordinary users.",
    ),
    Metric(
        "backupready_space_available_ratio",
        "Share of a file system left for ordinary users.",
        ("path",),
        clause="Left for ordinary users.",
    ),
    Metric("backupready_inodes_available_ratio", "Share of a file system's inodes left.", ("path",)),
)


def _number(text: str) -> int:
    """A whole number."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _percent(text: str) -> float:
    """A share of something, as a ratio."""
    if _number(text) > 100:
        raise ValueError(f"{text!r} is more than 100")
    return int(text) / 100


def _setting(key: str, default: int, help_: str) -> Setting:
    percent = key.endswith("_percent")
    form = "a number from 0 to 100" if percent else "a whole number"
    return Setting("space", key, str(default), help_, _percent if percent else _number, form)


SETTINGS = (
    _setting("full_mebibytes", _FULL_MEBIBYTES, "Below how many MiB for root a file system counts as full."),
    _setting("full_inodes", _FULL_INODES, "Below how many inodes a file system counts as full."),
    _setting("full_percent", _FULL_PERCENT, "It must be below this share as well to count as full."),
    _setting("scarce_mebibytes", _SCARCE_MEBIBYTES, "Below how many MiB for ordinary users room counts as scarce."),
    _setting("scarce_inodes", _SCARCE_INODES, "Below how many inodes they count as scarce."),
    _setting("scarce_percent", _SCARCE_PERCENT, "They must be below this share as well to count as scarce."),
)


@dataclass(frozen=True)
class _Pile:
    """What may pile up: its name, where, which names count (the groups tell what is the same), and from how many on
    they are too many."""

    name: str
    directory: str
    pattern: re.Pattern[str]
    limit: int


_PILES = (
    # The agent keeps 50 archives, and the newest as directories (its utils/archive.py).
    _Pile("history", f"{waagent.LIB_DIR}/history", re.compile(r"(.+)"), 120),
    # It keeps 1000 events that could not be sent; older ones kept all (issues 1055 and 3080).
    _Pile("events", f"{waagent.LIB_DIR}/events", re.compile(r"(.+)"), 1000),
    # The running one, the one before, and whatever else the manifest names.
    _Pile("agents", waagent.LIB_DIR, re.compile(r"WALinuxAgent-(\d+(?:\.\d+)+)(?:\.zip)?"), 11),
    # Agents before 2.8 keep the newest here, and move the others to history/ (issues 2424 and 2836).
    _Pile(
        "goal_states",
        waagent.LIB_DIR,
        re.compile(r"((?:GoalState|ExtensionsConfig|VmSettings|waagent_status)\.\d+\.(?:xml|json))"),
        100,
    ),
)
# The extension keeps 60 of each that it has done with.
_EXTENSION_PILES = (("config", re.compile(r"(\d+_settings)"), 120), ("status", re.compile(r"(\d+_status)"), 120))
_HANDLER = re.compile(re.escape(waagent.VMSNAPSHOT) + r"-\d+(?:\.\d+)+")
_MOST_HANDLERS = 10


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Ask every file system for its room, and count what may pile up."""
    try:
        yield from _rooms(machine, settings)
    except CannotTell as error:
        yield CannotTell(error.why, ("SPACE_EXHAUSTED", "INODES_EXHAUSTED"))
    try:
        yield from _piles(machine)
    except CannotTell as error:
        yield CannotTell(error.why, ("AGENT_STATE_PILES_UP",))


# -------------------------------------------------------------------------------------------------------- room


def _rooms(machine: Machine, settings: Settings) -> Iterator[Observation]:
    both = ("SPACE_EXHAUSTED", "INODES_EXHAUSTED")
    host, own = _mounts(machine, mountinfo.TABLE), _mounts(machine, _OWN_MOUNTS)
    spaces = machine.space(_PATHS, _ANSWER_TIMEOUT)
    groups: dict[tuple[str, int, int], list[str]] = {}
    rooms: dict[str, Space] = {}
    hidden: list[tuple[str, str]] = []
    for path in _PATHS:
        mount, seen = _covering(host, path), _covering(own, path)
        if mount is not None and mount.read_only:
            continue  # nobody means to write there, or another probe says what is wrong
        room = spaces.told.get(path)
        if room is None:
            yield CannotTell(f"the file system of {path} does not answer", both, _gravest([path]))
        elif isinstance(room, CannotTell):
            if not _missing(machine, path):
                yield CannotTell(room.why, both, _gravest([path]))
        elif mount is not None and seen is not None and mount.device != seen.device:
            hidden.append((path, mount.device))
        else:
            # A link leads elsewhere than the mounts say: what differs in size is another file system.
            device = mount.device if mount is not None else ""
            groups.setdefault((device, room.total, room.inodes), []).append(path)
            rooms[path] = room
    for path, device in hidden:
        # The service manager shows an empty directory instead of a /tmp in which there is no room for a private one.
        if all(device != known for known, _, _ in groups):
            yield CannotTell(f"the sandbox of this look hides the file system of {path}", both, _gravest([path]))
    sized = 0
    for paths in groups.values():
        for seen_here in _judge(paths, rooms[paths[0]], settings):
            if isinstance(seen_here, Finding) and seen_here.problem == "SPACE_EXHAUSTED" and sized < _MOST_SIZED:
                sized += 1
                yield Finding(
                    "SPACE_EXHAUSTED",
                    seen_here.key,
                    {**seen_here.evidence, **_largest(machine, host, paths[0])},
                    seen_here.effect,
                )
            else:
                yield seen_here


def _judge(paths: Sequence[str], room: Space, settings: Settings) -> Iterator[Observation]:
    """One file system; the first of the paths names it."""
    key, gravest = paths[0], _gravest(paths)
    bytes_effect = None
    if room.total > 0:
        share = _ratio(room.available, room.total)
        yield Reading("backupready_space_available_bytes", room.available, {"path": key})
        yield Reading("backupready_space_available_ratio", share, {"path": key})
        for_root = room.available if room.free is None else room.free
        full = _below(for_root, room.total, settings["full_mebibytes"] << 20, settings["full_percent"])
        scarce = _below(room.available, room.total, settings["scarce_mebibytes"] << 20, settings["scarce_percent"])
        bytes_effect = gravest if full else Effect.RISKS if scarce else None
        if bytes_effect is not None:
            evidence: dict[str, Scalar] = {
                "available_bytes": room.available,
                "available_to_root_bytes": for_root,
                "total_bytes": room.total,
                "available_percent": round(share * 100, 1),
                "holds": " ".join(paths),
            }
            yield Finding("SPACE_EXHAUSTED", key, evidence, bytes_effect)
    if room.inodes > 0:
        share = _ratio(room.inodes_free, room.inodes)
        yield Reading("backupready_inodes_available_ratio", share, {"path": key})
        full = _below(room.inodes_free, room.inodes, settings["full_inodes"], settings["full_percent"])
        scarce = _below(room.inodes_free, room.inodes, settings["scarce_inodes"], settings["scarce_percent"])
        effect = gravest if full else Effect.RISKS if scarce else None
        # Some file systems (XFS) make inodes of free space: without the one there are none of the other.
        if effect is not None and (bytes_effect is None or effect.rank < bytes_effect.rank):
            evidence = {
                "available_inodes": room.inodes_free,
                "total_inodes": room.inodes,
                "available_percent": round(share * 100, 1),
                "holds": " ".join(paths),
            }
            yield Finding("INODES_EXHAUSTED", key, evidence, effect)


def _gravest(paths: Sequence[str]) -> Effect:
    """What it means when nothing can be written to any of these."""
    return Effect.BLOCKS if any(path in _WRITTEN_ALWAYS for path in paths) else Effect.RISKS


def _below(left: int, total: int, limit: int, share: float) -> bool:
    return left < limit and left < share * total


def _ratio(left: int, total: int) -> float:
    return min(max(left / total, 0.0), 1.0)


def _missing(machine: Machine, path: str) -> bool:
    """Whether there is no such path; what holds it is asked all the same."""
    try:
        machine.status(path)
    except Absent:
        return True
    return False


def _largest(machine: Machine, host: Mapping[str, Mount], path: str) -> dict[str, Scalar]:
    """Who fills it. Not asked where the walk could meet a file server that does not answer."""
    below = path.rstrip("/") + "/"
    if not host or any(point.startswith(below) and _REMOTE.match(mount.kind) for point, mount in host.items()):
        return {}
    try:
        found = machine.largest(path, _SIZING)
    except (Absent, CannotTell):
        return {}
    return {"largest": ", ".join(f"{name} {size / (1 << 20):.0f} MiB" for name, size in found[:3])} if found else {}


def _mounts(machine: Machine, path: str) -> dict[str, Mount]:
    """Mount point → what is mounted there last (proc(5)); empty where it cannot be told."""
    try:
        return {mount.point: mount for mount in mountinfo.mounts(machine, path)}
    except CannotTell:
        return {}


def _covering(mounts: Mapping[str, Mount], path: str) -> Mount | None:
    """What a path lies on."""
    covering = [point for point in mounts if path == point or path.startswith(point.rstrip("/") + "/")]
    return mounts[max(covering, key=len)] if covering else None


# ------------------------------------------------------------------------------------------------------- piles


def _piles(machine: Machine) -> Iterator[Observation]:
    for pile in (*_PILES, *_extension_piles(machine)):
        evidence: dict[str, Scalar] = {"directory": pile.directory, "expected_at_most": pile.limit - 1}
        try:
            names = machine.names(pile.directory)
        except Absent:
            continue
        except TooMany as error:
            yield Finding("AGENT_STATE_PILES_UP", pile.name, {**evidence, "why": error.why})
            continue
        except CannotTell as error:
            yield CannotTell(error.why, ("AGENT_STATE_PILES_UP",))
            continue
        matches = (pile.pattern.fullmatch(name) for name in names)
        count = len({match.group(1) for match in matches if match})
        if count >= pile.limit:
            evidence["count"] = count
            yield Finding("AGENT_STATE_PILES_UP", pile.name, evidence)


def _extension_piles(machine: Machine) -> Iterator[_Pile]:
    try:
        names = machine.names(waagent.LIB_DIR)
    except (Absent, TooMany):
        return
    handlers = [name for name in names if _HANDLER.fullmatch(name)]
    for handler in handlers[-_MOST_HANDLERS:]:
        for folder, pattern, limit in _EXTENSION_PILES:
            yield _Pile(f"{handler}/{folder}", f"{waagent.LIB_DIR}/{handler}/{folder}", pattern, limit)


PROBE = Probe(
    name="space",
    question="Is there room for what the agent and the extension have to write?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=15),
    metrics=METRICS,
    settings=SETTINGS,
)
