"""What does a step of a fix say to a person, are its names plain, and how long may it take?

Whoever describes a step has seen that no name in it leads anywhere but where it says: names are held against patterns,
and a path is relative and leads downwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from backupready import waagent
from backupready.model import (
    DaemonReload,
    EnableUnit,
    JoinConfigLines,
    MakeDirectory,
    PackageUpgrade,
    ResetFailed,
    RestartUnit,
    SetAside,
    SetConfigKey,
    StartUnit,
    Step,
    StopUnit,
    Wait,
    WaitForReport,
    WriteDropIn,
)

# Where drop-ins are written, and where in the agent's library what is set aside goes. The agent takes
# `<name>-<version>` for a handler and deprovisions `*`: it sees neither in a hidden name without a dash.
UNITS = "/etc/systemd/system"
SHELF = ".backupready"

# Seconds that the hands give what a step waits for. The service manager's own time-outs (90 s to stop, 90 s to start)
# come before ours.
CHANGE_UNIT = 100.0
RESTART = 200.0
REFRESH = 120.0
UPGRADE = 600.0
LET_GO = 20.0  # after that, when it is another's to end it
SIMULATE = 20.0
POLL = 2.0  # between two looks at what is waited for, the last of which may come so late
_FILES = 1.0  # a few system calls on a disk that is busy

_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]{0,200}", re.ASCII)
_MOST_COMPONENTS = 12
_UNIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,200}\.(?:service|socket|timer)", re.ASCII)
_DROP_IN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}\.conf", re.ASCII)
_DROP_IN_TEXT = re.compile(r"[\x20-\x7e\n]{1,4000}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{1,100}", re.ASCII)
_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z0-9]+)*", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9._:/,+-]{1,200}", re.ASCII)
_UNSET = "None"  # the agent reads this word as no value at all


def describe(step: Step) -> str:
    """What it does, in one line for a person. Raises ValueError for a step with a name that is not plain."""
    return _SENTENCES[type(step)](step)


def longest(steps: Iterable[Step]) -> float:
    """Seconds after which the hands have done these steps or given up, whatever they wait for. What they only ask the
    service manager or the package manager in between is answered at once, and not counted."""
    return sum(_LIMITS[type(step)](step) for step in steps)


def components(path: str) -> tuple[str, ...]:
    """The parts of a relative path. Raises ValueError for one that is absolute, leads upwards or is not plain."""
    parts = tuple(path.split("/"))
    if len(parts) > _MOST_COMPONENTS or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise ValueError(f"{path!r} is no plain relative path")
    return parts


def check_setting(key: str, value: str) -> None:
    """Raises ValueError for a key or a value that the agent would not read back as it is written."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of waagent.conf")
    if not _VALUE.fullmatch(value) or value == _UNSET:
        raise ValueError(f"{value!r} is no value for {key}: letters, digits and ._:/,+- are")


def unit(name: str) -> str:
    """The name of a unit as it is. Raises ValueError."""
    if not _UNIT.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a unit")
    return name


def package(name: str) -> str:
    """The name of a package as it is. Raises ValueError."""
    if not _PACKAGE.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a package")
    return name


def drop_in(step: WriteDropIn) -> str:
    """The path of a drop-in. Raises ValueError, also for a text that is none."""
    if not _DROP_IN.fullmatch(step.name):
        raise ValueError(f"{step.name!r} is no name of a drop-in")
    if not _DROP_IN_TEXT.fullmatch(step.text):
        raise ValueError(f"{step.text[:80]!r} is no text for a drop-in")
    return f"{UNITS}/{unit(step.unit)}.d/{step.name}"


def _in_library(path: str) -> str:
    return f"{waagent.LIB_DIR}/{'/'.join(components(path))}"


def _set_key(step: SetConfigKey) -> str:
    check_setting(step.key, step.value)
    ends = "" if step.lasts is None else f", for {step.lasts:.0f} s"
    return f"set {step.key}={step.value} in waagent.conf{ends}"


def _make(step: MakeDirectory) -> str:
    kept = f", holding only {', '.join(step.keep)}" if step.keep else ", empty"
    if any(len(components(name)) != 1 for name in step.keep):
        raise ValueError(f"{step.keep!r} are not all names of files in it")
    return f"make {_in_library(step.path)} anew{kept}"


_SENTENCES: Mapping[type, Callable[[Any], str]] = {
    StartUnit: lambda step: f"start {unit(step.unit)}",
    StopUnit: lambda step: f"stop {unit(step.unit)}",
    RestartUnit: lambda step: f"restart {unit(step.unit)}",
    ResetFailed: lambda step: f"reset the count of failures of {unit(step.unit)}",
    EnableUnit: lambda step: f"have {unit(step.unit)} started at boot",
    WriteDropIn: lambda step: f"write {drop_in(step)}",
    DaemonReload: lambda step: "have the service manager read its units anew",
    SetConfigKey: _set_key,
    JoinConfigLines: lambda step: "take the blanks around the equals signs out of waagent.conf",
    SetAside: lambda step: f"move {_in_library(step.path)} to {waagent.LIB_DIR}/{SHELF}",
    MakeDirectory: _make,
    PackageUpgrade: lambda step: (
        f"upgrade the package {package(step.package)} from the repositories that are configured"
    ),
    Wait: lambda step: f"wait until {_in_library(step.path)} holds {step.holds!r}, at most {step.seconds:.0f} s",
    WaitForReport: lambda step: f"wait until the agent reports to the platform, at most {step.seconds:.0f} s",
}

_LIMITS: Mapping[type, Callable[[Any], float]] = {
    StartUnit: lambda step: CHANGE_UNIT,
    StopUnit: lambda step: CHANGE_UNIT,
    RestartUnit: lambda step: RESTART,
    ResetFailed: lambda step: CHANGE_UNIT,
    EnableUnit: lambda step: CHANGE_UNIT,
    WriteDropIn: lambda step: _FILES,
    DaemonReload: lambda step: CHANGE_UNIT,
    SetConfigKey: lambda step: _FILES,
    JoinConfigLines: lambda step: _FILES,
    SetAside: lambda step: _FILES,
    MakeDirectory: lambda step: _FILES,
    PackageUpgrade: lambda step: REFRESH + LET_GO + SIMULATE + UPGRADE + LET_GO,
    Wait: lambda step: step.seconds + POLL,
    WaitForReport: lambda step: step.seconds + POLL,
}
