"""What do the last backups say?

The extension's status files of past runs and its log, read together: a code says how a run ended, and the log what else
went wrong in it, which is sometimes the reason and not what the code says. What has failed may fail again, and no more
than that: nothing here blocks.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from backupready import vmsnapshot, waagent
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
    in_utc,
    yes_or_no,
)
from backupready.vmsnapshot import CODES, Kind, Outcome

_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"

# The extension gives up on a request that is older than 140 minutes.
_FRESH = timedelta(minutes=140 + 10).total_seconds()
_FAILURE_FADES = timedelta(days=30).total_seconds()  # whatever the policy, another backup should have run since
_MOST_RUNS = 100  # three months of a daily policy
# Codes that the extension also gives to what went wrong elsewhere.
_VAGUE = (2, 15, vmsnapshot.NO_NETWORK, vmsnapshot.RESTRICTED_NETWORK)

PROBLEMS = (
    Problem(
        "LAST_BACKUP_FAILED",
        "The last backup of this machine failed",
        Effect.RISKS,
        Cause.PAST,
        meaning="The extension's newest run that ended took no snapshot. The evidence has its code and what it means;"
        " where the log of that run tells more than the code does, that is the true cause.",
        diagnosis="`backupready explain NUMBER` for the code; extension.log in"
        " /var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux at the time of the run.",
        fix="As the code's explanation says; then start a backup by hand. The next success ends this.",
        source=_TROUBLESHOOTING,
        milder=(Effect.NOTICE,),
    ),
    Problem(
        "BACKUP_ONLY_CRASH_CONSISTENT",
        "The last backups are only crash-consistent",
        Effect.DEGRADES,
        Cause.PAST,
        meaning="The file systems could not be frozen, and the snapshot was taken all the same, as the platform allows"
        " for a machine with one disk after a failed try. What had not been written to the disk is not in it. Once is a"
        " notice, twice in a row will happen again.",
        diagnosis="`snapshotConsistency` in status/*_status below the handler's directory is 3; what could not be"
        " frozen is in extension.log of that run.",
        fix="Mend what keeps the file systems from being frozen; the evidence has the code of that.",
        source=_TROUBLESHOOTING,
        milder=(Effect.NOTICE,),
    ),
)

METRICS = (
    Metric(
        "backupready_backup_last_success_timestamp_seconds",
        "When the newest run with a snapshot ended.",
        clause="When it ended.",
    ),
    Metric(
        "backupready_backup_last_failure_timestamp_seconds",
        "When the newest run that failed ended.",
        clause="When it ended.",
    ),
    Metric(
        "backupready_backup_last_result_code",
        "The extension's code of the newest run that ended.",
        clause="The newest run's code.",
    ),
    Metric(
        "backupready_backup_last_result_info",
        "The newest run that ended: the code's name, the snapshot's consistency, and who took it.",
        ("name", "consistency", "path"),
        clause="The newest run that ended.",
    ),
    Metric("backupready_backup_duration_seconds", "How long the newest run that ended took."),
    Metric("backupready_backup_running", "1 while a run of the extension is under way."),
)


SETTINGS = (
    Setting(
        "past",
        "accept_crash_consistent",
        "no",
        "Whether snapshots that are only crash-consistent are fine here.",
        yes_or_no,
        "yes or no",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Read the record, newest run first."""
    runs = vmsnapshot.outcomes(machine)
    yield from _running(machine, runs)
    ended = [run for run in runs if run.kind not in (Kind.UNDERWAY, Kind.SKIPPED)]
    if ended:
        yield from _readings(ended)
    try:
        if waagent.current_directory(machine, waagent.VMSNAPSHOT) is None:
            return  # it is not installed: others tell whether it should be
    except Absent:
        return
    yield from (run for outcome in ended[:_MOST_RUNS] if (run := outcome.run) is not None)
    if not ended:
        return
    if ended[0].kind is not Kind.SUCCESS:
        yield _failed(ended[0], machine.now() - ended[0].time > _FAILURE_FADES)
    if not settings["accept_crash_consistent"]:
        yield from _crash_consistent([run for run in ended if run.kind is Kind.SUCCESS])


def _running(machine: Machine, runs: Sequence[Outcome]) -> Iterator[Observation]:
    """By its own word, or by its processes; where neither can be told there is no reading."""
    if runs and runs[0].kind is Kind.UNDERWAY and abs(machine.now() - runs[0].time) <= _FRESH:
        yield Reading("backupready_backup_running", 1)
        return
    with contextlib.suppress(CannotTell):
        yield Reading("backupready_backup_running", int(vmsnapshot.at_work(machine) is not None))


def _readings(ended: Sequence[Outcome]) -> Iterator[Observation]:
    newest = ended[0]
    for run in ended:
        if run.kind is Kind.SUCCESS:
            yield Reading("backupready_backup_last_success_timestamp_seconds", run.time)
            break
    for run in ended:
        if run.kind is not Kind.SUCCESS:
            yield Reading("backupready_backup_last_failure_timestamp_seconds", run.time)
            break
    yield Reading("backupready_backup_last_result_code", newest.code)
    labels = {"name": _name(newest.code), "consistency": newest.consistency, "path": newest.path}
    yield Reading("backupready_backup_last_result_info", 1, labels)
    if newest.duration is not None:
        yield Reading("backupready_backup_duration_seconds", newest.duration)


# ---------------------------------------------------------------------------------------------- how the last one ended


@dataclass(frozen=True)
class _Reason:
    """What the log of a run tells beyond its code."""

    text: str
    points: tuple[str, ...] = ()
    elsewhere: bool = False  # it is nothing on this machine


def _failed(run: Outcome, old: bool) -> Finding:
    """One so old that another backup should have run since is no more than worth knowing."""
    code = CODES.get(run.code)
    reason = _true_cause(run)
    points = reason.points if reason else code.points if code else ()
    elsewhere = reason.elsewhere if reason else run.kind is Kind.ELSEWHERE
    evidence: dict[str, Scalar] = {
        "code": run.code,
        "name": _name(run.code),
        "meaning": code.meaning if code else "not documented",
        "true_cause": reason.text if reason else None,
        "at": in_utc(run.time),
        "path": run.path,
        "portal": " ".join(code.portal) if code else None,
        "points_at": " ".join(points),
        "fix": code.fix if code and reason is None else None,
        "message": run.message,
        "source": run.source,
    }
    return Finding("LAST_BACKUP_FAILED", evidence=evidence, effect=Effect.NOTICE if elsewhere or old else None)


def _true_cause(run: Outcome) -> _Reason | None:
    """For the codes that say little: the exception, or the answer, that stands beside them. "No network" is said of
    every request for a snapshot that came to nothing, also where the extension itself broke before it had one."""
    if run.code not in _VAGUE:
        return None
    for text in run.trouble:
        if vmsnapshot.CONFIGURATION_PROVIDER in text:
            why = f"the extension could not read waagent.conf, not the network: {text}"
            return _Reason(why, ("CONFIG_BREAKS_EXTENSION",))
        if "No module named" in text or "cannot import name" in text:
            return _Reason(f"the extension's interpreter, not the network: {text}", ("INTERPRETER_INCOMPATIBLE",))
    if run.host:
        return _answered(run)
    if run.trouble:
        return _Reason(f"the extension itself broke: {run.trouble[0]}")
    if run.health == vmsnapshot.RESTRICTED_NETWORK != run.code:
        known = CODES[run.health]
        return _Reason(known.meaning, known.points)
    return None


def _answered(run: Outcome) -> _Reason:
    """The most telling answer of the host or the storage: a refusal, then a failure, then silence."""
    refused = [answer for answer in run.host if answer in (401, 403, 404, 409)]
    if refused:
        return _Reason(f"the snapshot was refused with HTTP {refused[0]}", CODES[vmsnapshot.RESTRICTED_NETWORK].points)
    for answer in (vmsnapshot.SERVICE_DOWN, vmsnapshot.EMPTY_ANSWER, vmsnapshot.NO_ANSWER, vmsnapshot.EXCEPTION):
        if answer in run.host:
            known = CODES[answer]
            return _Reason(f"{answer}: {known.meaning}", known.points, known.kind is Kind.ELSEWHERE)
    return _Reason(f"the host answered with HTTP {run.host[0]}", (), run.host[0] >= 500)


def _crash_consistent(successes: Sequence[Outcome]) -> Iterator[Observation]:
    if not successes or successes[0].consistency != "crash":
        return
    newest = successes[0]
    lasting = len(successes) > 1 and successes[1].consistency == "crash"
    known = CODES.get(newest.health) if newest.health is not None else None
    because = known if known is not None and known.kind is Kind.FAILURE else None
    evidence: dict[str, Scalar] = {
        "at": in_utc(newest.time),
        "runs": sum(1 for _ in _leading(successes)),
        "because_code": because.number if because else None,
        "because": because.meaning if because else None,
        "points_at": " ".join(because.points) if because else None,
        "source": newest.source,
    }
    yield Finding("BACKUP_ONLY_CRASH_CONSISTENT", evidence=evidence, effect=None if lasting else Effect.NOTICE)


def _leading(successes: Sequence[Outcome]) -> Iterator[Outcome]:
    for run in successes:
        if run.consistency != "crash":
            return
        yield run


def _name(code: int) -> str:
    return CODES[code].name if code in CODES else "unknown"


PROBE = Probe(
    name="past",
    question="What do the last backups say?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=10),
    metrics=METRICS,
    settings=SETTINGS,
)
