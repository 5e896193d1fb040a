"""Does mandatory access control stand in the way of the VM agent or of its extensions?

SELinux on the agent's paths and its denials, AppArmor where it confines the agent at all, fapolicyd's denials.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from backupready import waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Cursor,
    Effect,
    Finding,
    Machine,
    Observation,
    Probe,
    Problem,
    Remember,
    Scalar,
    Settings,
    is_there,
)

_ENFORCE = "/sys/fs/selinux/enforce"
_AUDIT_LOG = "/var/log/audit/audit.log"
# Without auditd the kernel's records go the way of its messages.
_LOGS = (_AUDIT_LOG, "/var/log/kern.log", "/var/log/messages", "/var/log/syslog")
_LOG_LIMIT = 1 << 20  # bytes of a look
_DAY = 86400.0  # s
_MOST_DENIALS = 20
_MOST_PATHS = 40
_LONGEST = 200  # characters of a fact that is kept
# Types that a file has which was made or restored elsewhere, or under no policy at all. The policies of Fedora and Red
# Hat have no type for the agent (selinux-policy, files.fc): its library is var_lib_t there, and other policies may say
# otherwise.
_STRAY_TYPES = (
    *("unlabeled_t", "file_t", "default_t", "user_home_t", "user_home_dir_t", "admin_home_t", "home_root_t"),
    *("tmp_t", "user_tmp_t", "mnt_t"),
)
# Whose denials are the agent's: its own domain where a policy has one, else those in which services run that have none.
# Another confined program that is denied a look at the agent's files is no matter for a backup.
_AGENT_DOMAINS = re.compile(r"(waagent\w*|azure_agent\w*|unconfined_service_t|unconfined_t|initrc_t|init_t)")
# Its files outside its library; a refusal without the record of the path has the last part of it only.
_AGENT_FILES = (*waagent.CONFIG_PATHS, *waagent.BINARIES, waagent.LOG)
_AGENT_PLACES = (waagent.LIB_DIR, waagent.EXTENSION_LOGS)
_AGENT_NAMES = ("waagent", "waagent.conf", "waagent.log")
_AGENT_COMMANDS = ("waagent", "(waagent)", "safefreeze")
_SAME_START = 1.0  # s; the start of a process is counted in hundredths since boot
_PID = re.compile(r"\d{1,10}", re.ASCII)
_STAMP = re.compile(r"\baudit\((\d{9,11}\.\d{1,6}):(\d{1,20})\)", re.ASCII)
_FACT = re.compile(r"""\b(\w+)=("[^"]*"|[^\s"]+)""", re.ASCII)
_DENIED = re.compile(r"\bavc:\s+denied\s+\{([^}]*)\}")
_HEXADECIMAL = re.compile(r"(?:[0-9A-F]{2})+", re.ASCII)
# After one of these the policy is another one: what was denied before may be allowed now.
_POLICY_CHANGED = re.compile(r"\btype=(MAC_POLICY_LOAD|MAC_STATUS|MAC_CONFIG_CHANGE|1403|1404|1405)\b")

PROBLEMS = (
    Problem(
        "ACCESS_CONTROL_DENIES",
        "Mandatory access control denies the VM agent or the backup extension",
        Effect.BLOCKS,
        Cause.GUEST,
        meaning="SELinux, AppArmor or fapolicyd has refused the agent or the extension a file within the last day, or"
        " the agent's files carry a label that they were given elsewhere.",
        diagnosis="`ausearch -m AVC,FANOTIFY -ts today -i | grep -i waagent`; `getenforce`; `restorecon -Rnv"
        " /var/lib/waagent /usr/sbin/waagent`; `aa-status`; `fapolicyd-cli --list`",
        fix="`restorecon -Rv /var/lib/waagent`; exclude /var/lib/waagent from the policy, or allow what is denied. Do"
        " not switch access control off altogether.",
        source="https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot",
        milder=(Effect.RISKS,),
    ),
)


@dataclass(frozen=True)
class Denial:
    """What was refused, when, by whom and to whom. `target` is the label that the file had then."""

    time: float
    by: str
    command: str = ""
    path: str = ""
    what: str = ""
    target: str = ""

    @property
    def grave(self) -> bool:
        """Whether it was the agent itself or the backup extension."""
        return self.command in _AGENT_COMMANDS or waagent.VMSNAPSHOT in self.path


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Where nothing enforces, nothing is denied."""
    selinux = _selinux_enforces(machine)
    watching = tuple(
        name
        for name, on in (
            ("SELinux", selinux),
            ("AppArmor", _apparmor_confines(machine)),
            ("fapolicyd", _fapolicyd_runs(machine)),
        )
        if on
    )
    if not watching:
        return
    if selinux:
        yield from _labels(machine)
    yield from _denials(machine, watching)


# ------------------------------------------------------------------------------------------------- what enforces


def _selinux_enforces(machine: Machine) -> bool:
    try:
        return machine.read(_ENFORCE, 64).strip() == b"1"
    except Absent:
        return False


def _apparmor_confines(machine: Machine) -> bool:
    """Whether the agent's processes have a profile that is enforced; what has none is denied nothing."""
    try:
        if machine.read("/sys/module/apparmor/parameters/enabled", 64).strip() != b"Y":
            return False
    except Absent:
        return False
    agent = waagent.agent_processes(machine.processes())
    for process in filter(None, (agent.daemon, agent.worker)):
        for name in ("apparmor/current", "current"):
            with contextlib.suppress(Absent):
                if machine.read(f"/proc/{process.pid}/attr/{name}", 4096).strip(b"\0\n ").endswith(b"(enforce)"):
                    return True
                break
    return False


def _fapolicyd_runs(machine: Machine) -> bool:
    if not is_there(machine, "/etc/fapolicyd"):
        return False
    return any(process.argv and process.argv[0].endswith("/fapolicyd") for process in machine.processes())


# --------------------------------------------------------------------------------------------------------- labels


def _labels(machine: Machine) -> Iterator[Observation]:
    """Stray types on the agent's program, its library, and the extension's directory."""
    paths = [*waagent.BINARIES, waagent.LIB_DIR]
    try:
        directory = waagent.current_directory(machine, waagent.VMSNAPSHOT)
        if directory is not None:
            main = f"{directory.path}/main"
            paths += [directory.path, main, *(f"{main}/{name}" for name in machine.names(main))]
    except Absent:
        pass
    except CannotTell as error:
        yield CannotTell(error.why, ("ACCESS_CONTROL_DENIES",), Effect.RISKS)
    stray: list[tuple[str, str]] = []
    for path in paths[:_MOST_PATHS]:
        try:
            label = machine.label(path)
        except Absent:
            continue
        except CannotTell as error:
            yield CannotTell(error.why, ("ACCESS_CONTROL_DENIES",), Effect.RISKS)
            continue
        if _type(label) in _STRAY_TYPES:
            stray.append((path, label))
    if stray:
        path, label = stray[0]
        yield Finding(
            "ACCESS_CONTROL_DENIES", "labels", {"path": path, "label": label, "files": len(stray)}, Effect.RISKS
        )


def _type(context: str) -> str:
    parts = context.split(":")
    return parts[2] if len(parts) > 2 else ""


# -------------------------------------------------------------------------------------------------------- denials


def _denials(machine: Machine, watching: Sequence[str]) -> Iterator[Observation]:
    try:
        log, denials, remembered = _follow(machine)
    except CannotTell as error:
        yield CannotTell(error.why, ("ACCESS_CONTROL_DENIES",))
        return
    if not log:
        why = f"{' and '.join(watching)} may deny, but there is no log of it: no {_AUDIT_LOG}"
        yield CannotTell(why, ("ACCESS_CONTROL_DENIES",), Effect.RISKS)
        return
    yield Remember(remembered)
    since = max(machine.now() - _DAY, _booted(machine))
    fresh = [d for d in denials if d.time >= since and d.by in watching and _still(machine, d)]
    for by in watching:
        seen = sorted((d for d in fresh if d.by == by), key=lambda d: (d.grave, d.time))
        if not seen:
            continue
        worst = seen[-1]
        evidence: dict[str, Scalar] = {
            "command": worst.command,
            "denied": worst.what,
            "path": worst.path,
            "label": worst.target,
            "times": len(seen),
            "minutes_ago": max(0, int((machine.now() - worst.time) / 60)),
            "log": log,
        }
        yield Finding("ACCESS_CONTROL_DENIES", by, evidence, None if worst.grave else Effect.RISKS)


def _booted(machine: Machine) -> float:
    """When the machine was booted; 0 where that is not told."""
    with contextlib.suppress(Absent, CannotTell):
        found = re.search(rb"(?m)^btime (\d{1,12})$", machine.read("/proc/stat"))
        return float(found[1]) if found else 0.0
    return 0.0


def _still(machine: Machine, denial: Denial) -> bool:
    """Whether the file has still the label with which it was denied; it may have been put right since."""
    if not denial.target or not denial.path.startswith("/"):
        return True
    try:
        return _type(machine.label(denial.path)) == _type(denial.target)
    except (Absent, CannotTell):
        return True


def _follow(machine: Machine) -> tuple[str, tuple[Denial, ...], Mapping[str, Any]]:
    """The log that is there, the denials in it as far as it was followed, and what to remember of it."""
    for path in _LOGS:
        try:
            cursor, before = _recall(machine.memory, path)
            data, end, _ = machine.read_new(path, cursor, _LOG_LIMIT)
        except Absent:
            continue
        denials = tuple(parse(data, before, _agents(machine)))
        kept = [asdict(denial) for denial in denials]
        return path, denials, {"log": path, "inode": end.inode, "offset": end.offset, "denials": kept}
    return "", (), {}


def _agents(machine: Machine) -> Mapping[int, float]:
    """The agent's processes, whose names are python3 or the like, and since when they have been there."""
    with contextlib.suppress(CannotTell):
        agent = waagent.agent_processes(machine.processes())
        return {process.pid: process.started for process in (agent.daemon, agent.worker) if process is not None}
    return {}


def _recall(memory: Mapping[str, Any], path: str) -> tuple[Cursor | None, list[Denial]]:
    """What the last look remembered of this log; from the beginning if it cannot be used."""
    try:
        if memory["log"] != path:
            return None, []
        inode, offset = memory["inode"], memory["offset"]
        denials = [Denial(**kept) for kept in memory["denials"]]
        words = [w for d in denials for w in (d.by, d.command, d.path, d.what, d.target)]
        numbers = [d.time for d in denials]
    except (LookupError, TypeError):
        return None, []
    right = all(isinstance(word, str) for word in words) and all(isinstance(n, (int, float)) for n in numbers)
    if not right or not all(type(n) is int and 0 <= n < 1 << 64 for n in (inode, offset)):
        return None, []
    return Cursor(inode, offset), denials


def parse(
    data: bytes, before: Sequence[Denial] = (), agents: Mapping[int, float] = MappingProxyType({})
) -> list[Denial]:
    """The newest denials of the agent and its extensions in audit records or in the kernel's messages, after those of
    `before` that a new policy has not made void. `agents` are the agent's processes, and when they started."""
    denials = list(before)
    events: dict[str, list[str]] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        stamp = _STAMP.search(line)
        if stamp is None:
            continue
        if _POLICY_CHANGED.search(line):
            denials += _told(events, agents)
            denials, events = [d for d in denials if d.by != "SELinux"], {}
        elif stamp[2] in events:
            events[stamp[2]].append(line)
        elif "denied" in line or "DENIED" in line or "FANOTIFY" in line:
            events[stamp[2]] = [line]
    return (denials + _told(events, agents))[-_MOST_DENIALS:]


def _told(events: Mapping[str, Sequence[str]], agents: Mapping[int, float]) -> list[Denial]:
    return [denial for lines in events.values() if (denial := _denial(lines, agents)) is not None]


def _denial(lines: Sequence[str], agents: Mapping[int, float]) -> Denial | None:
    """What the records of one event tell, the refusal first; None if it is not the agent's."""
    first = lines[0]
    stamp = _STAMP.search(first)
    assert stamp is not None
    facts = _facts(first)
    others = [_facts(line) for line in lines[1:]]
    denial = Denial(float(stamp[1]), "", facts.get("comm", ""), facts.get("path") or facts.get("name", ""))
    # The record of the path itself is the whole one; the refusal names the last part only.
    named = [o["name"] for o in others if o.get("name", "").startswith("/") and o.get("nametype") != "PARENT"]
    if not denial.path.startswith("/") and named:
        denial = replace(denial, path=named[-1])
    if (refused := _DENIED.search(first)) is not None:
        if facts.get("permissive") == "1" or not _AGENT_DOMAINS.fullmatch(_type(facts.get("scontext", ""))):
            return None
        denial = replace(denial, by="SELinux", what=refused[1].strip(), target=facts.get("tcontext", ""))
    elif facts.get("apparmor") == "DENIED":
        denial = replace(denial, by="AppArmor", what=facts.get("denied_mask") or facts.get("operation", ""))
        if "waagent" in facts.get("profile", ""):
            denial = replace(denial, command="waagent")
    elif facts.get("resp") == "2" and "FANOTIFY" in first:
        command = next((other["comm"] for other in others if "comm" in other), denial.command)
        denial = replace(denial, by="fapolicyd", what="execute or open", command=command)
    else:
        return None
    started = agents.get(int(facts["pid"])) if _PID.fullmatch(facts.get("pid", "")) else None
    by_agent = started is not None and denial.time >= started - _SAME_START
    its_file = _of_agent(denial.path)
    if not (by_agent or its_file or denial.command in _AGENT_COMMANDS):
        return None
    if by_agent and its_file:
        denial = replace(denial, command="waagent")
    return replace(
        denial,
        command=denial.command[:_LONGEST],
        path=denial.path[:_LONGEST],
        what=denial.what[:_LONGEST],
        target=denial.target[:_LONGEST],
    )


def _of_agent(path: str) -> bool:
    if any(f"{path}/".startswith(f"{place}/") for place in _AGENT_PLACES):
        return True
    return path in (_AGENT_FILES if path.startswith("/") else _AGENT_NAMES)


def _facts(line: str) -> dict[str, str]:
    return {name: _plain(name, text) for name, text in _FACT.findall(line)}


def _plain(name: str, text: str) -> str:
    """A value without its quotes; what had a blank or the like in it stands there as hexadecimal digits."""
    if text.startswith('"'):
        return text[1:-1]
    if name in ("comm", "exe", "name", "path") and _HEXADECIMAL.fullmatch(text):
        return bytes.fromhex(text).decode("utf-8", "replace")
    return text


PROBE = Probe(
    name="access",
    question="Does mandatory access control stand in the way of the VM agent or of its extensions?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=8),
)
