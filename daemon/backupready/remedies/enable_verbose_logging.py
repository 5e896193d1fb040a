"""What would the agent say if it were asked to say more?

The documentation, for whoever has to find out why a backup fails: `Logs.Verbose=y` in waagent.conf and a restart of the
agent. It ends by itself, since it grows /var/log/waagent.log by 10 to 20 MB a day. No problem calls for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, waagent
from backupready.model import (
    Absent,
    CannotTell,
    Finding,
    Machine,
    NotNow,
    Remedy,
    RestartUnit,
    SetConfigKey,
    Step,
    Unsuitable,
    WaitForReport,
)

_KEY = "Logs.Verbose"
_LASTS = timedelta(hours=2).total_seconds()
# Fifty times what is written in that time: who has less needs it for something else.
_ROOM = 100 << 20  # bytes
_SPACE_TIMEOUT = 10.0  # s
_REPORTS_WITHIN = 240.0  # s, as after any restart
# Their verbose log calls traceback.format_exception with a keyword that Python 3.10 has dropped: they crash in a loop.
_FIRST_CRASHING, _LAST_CRASHING = (2, 5, 0, 2), (2, 8, 0, 11)
_PYTHON_OF_CRASHES = (3, 10)


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Set the key for a time and restart the agent."""
    unit, _ = preconditions.restartable_unit(machine)
    config = preconditions.agent_config(machine)
    if waagent.switch(config.values, _KEY, False):
        raise Unsuitable(f"{config.path} has {_KEY}=y already")
    _does_not_crash(machine)
    _has_room(machine)
    yield SetConfigKey(_KEY, "y", _LASTS)
    yield RestartUnit(unit)
    yield WaitForReport(_REPORTS_WITHIN)


def _does_not_crash(machine: Machine) -> None:
    """Both the daemon, which is the package's, and the worker, which may be downloaded, log verbosely."""
    try:
        facts = waagent.follow_log(machine)[0]
    except Absent:
        raise CannotTell("there is no log that says which version of the agent runs") from None
    versions = {text for text in (facts.daemon_version, facts.worker_version, _reported(machine)) if text}
    if not versions:
        raise CannotTell("neither the agent's log nor its report says its version")
    crashing = [text for text in sorted(versions) if _FIRST_CRASHING <= waagent.version_of(text) <= _LAST_CRASHING]
    if not crashing:
        return
    if facts.python is None:
        raise CannotTell(f"the log does not say which Python agent {crashing[0]} runs on")
    if waagent.version_of(facts.python) >= _PYTHON_OF_CRASHES:
        raise Unsuitable(f"agent {crashing[0]} on Python {facts.python} crashes in a loop when it logs verbosely")


def _reported(machine: Machine) -> str | None:
    try:
        return waagent.newest_report(machine).agent_version
    except Absent:
        return None


def _has_room(machine: Machine) -> None:
    folder = waagent.LOG.rpartition("/")[0]
    room = machine.space((folder,), _SPACE_TIMEOUT).told.get(folder)
    if room is None:
        raise NotNow(f"the file system of {folder} does not answer")
    if isinstance(room, CannotTell):
        raise room
    if room.available < _ROOM:
        raise NotNow(f"{folder} has {room.available >> 20} MiB left; {_ROOM >> 20} MiB are wanted for the log")


REMEDY = Remedy(
    name="enable-verbose-logging",
    title="Have the VM agent log verbosely for a time",
    problems=(),
    plan=plan,
    worst_case=timedelta(minutes=8),
    settle=timedelta(0),
    source="https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout",
    restarts_agent=True,
)
