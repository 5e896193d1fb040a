"""When is the next backup, and did the last one come?

Judged in the resident process by what is known of the windows and by the record of past runs. A window in which nothing
ran says something only if the machine was on: of one that is off the platform takes the disks without asking anybody
inside.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from backupready.forecast import Limits, forecast
from backupready.model import (
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Happened,
    Machine,
    Metric,
    Observation,
    Outlook,
    Probe,
    Problem,
    Reading,
    Remember,
    Run,
    Scalar,
    Setting,
    Settings,
    Window,
    duration,
    yes_or_no,
)
from backupready.window import parse, zone_name

_PREPARE = "https://learn.microsoft.com/azure/backup/backup-azure-arm-vms-prepare"
_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"

_RETRIES = timedelta(hours=1).total_seconds()  # tries of one backup follow each other within minutes
_EARLY = timedelta(minutes=5).total_seconds()  # two clocks differ, and that much of skew is told elsewhere

# A single backup by hand, or a night without one, contradicts nothing; both have to be seen more than once.
_FEWEST_ON_RECORD = 3
_FEWEST_EACH = 2
_MANY = 3  # of either
_SHOWN = 5  # moments in the evidence

_MARGIN = timedelta(hours=1).total_seconds()  # for the run itself, and until it is on record
_RUNS_TO_LEARN = 3  # two gaps: from one alone nothing is learned
_SPAN_TO_LEARN = timedelta(days=8).total_seconds()  # with a weekend in it
_AT_LEAST = timedelta(hours=26).total_seconds()  # a day, and two hours for a start that is late

# Azure queues and delays the snapshot above 90 % of processor or memory (the troubleshooting article, "High CPU or
# memory"); for disks as the pressure of this moment is judged.
_CPU_PERCENT = 90
_MEMORY_PERCENT = 90
_STALLED_PERCENT = 60

_LOAD = 300.0  # s that one Load speaks of
_ENOUGH_LOADS = 0.8  # of a window, to know that the machine was on

PROBLEMS = (
    Problem(
        "WINDOW_UNKNOWN",
        "It is not known when backups start",
        Effect.NOTICE,
        Cause.CONFIGURATION,
        meaning="No schedule is configured, and the record of past backups shows none yet. The machine is judged all"
        " the same, but there is no time before a window in which it is looked at more closely, and a backup that is"
        " overdue is found late.",
        diagnosis="The backup policy's schedule in the portal.",
        fix="Set window.schedule and window.time_zone as the backup policy has them.",
        source=_PREPARE,
    ),
    Problem(
        "WINDOW_CONTRADICTED",
        "Backups do not run when they are configured to",
        Effect.RISKS,
        Cause.CONFIGURATION,
        meaning="The configured windows pass without a backup although the machine is on, and backups begin at other"
        " times: window.schedule is not the schedule of the policy. What is said about the next window is then said"
        " about the wrong time. After a change of the schedule the next backup within its window ends this.",
        diagnosis="The backup policy's schedule and time zone in the portal, and when its jobs began; the evidence says"
        " when they began here, and which schedule that would be.",
        fix="Set window.schedule and window.time_zone as the backup policy has them, or leave window.schedule empty so"
        " that it is learned.",
        source=_PREPARE,
    ),
    Problem(
        "BACKUP_OVERDUE",
        "There has been no good backup for too long",
        Effect.RISKS,
        Cause.PAST,
        meaning="The last good backup, or the last run where none on record was good, is longer ago than the schedule,"
        " or window.expected_interval, allows with the time in which a job may start. Where neither is known, it is"
        " more than twice as long ago as the longest pause in a week or more of past runs. Time in which the machine"
        " was off does not count.",
        diagnosis="The backup item and its jobs in the portal; `backupready status` for what else is wrong.",
        fix="Look whether the machine is still protected and its jobs are started. If it is not protected any more,"
        " uninstall the extension.",
        source=_PREPARE,
    ),
    Problem(
        "BUSY_WINDOW_FORECAST",
        "The machine is likely to be busy when the next backup starts",
        Effect.RISKS,
        Cause.PRESSURE,
        meaning="In most of the newest windows the processors, the memory or the disks were busier than the limit above"
        " which Azure queues or delays the snapshot, until it times out, and so they are likely to be in the next. The"
        " evidence says in how many windows, and what was reached in a typical one.",
        diagnosis="What runs at that hour: `systemctl list-timers`, the crontabs; the machine's metrics in the portal.",
        fix="Move the work out of the backup window, or the backup to a quieter hour, or give the machine more of what"
        " it is short of. A backup on demand in a quiet moment fills the gap.",
        source=_TROUBLESHOOTING,
    ),
)

METRICS = (
    Metric("backupready_window_next_start_timestamp_seconds", "When the next window starts."),
    Metric("backupready_window_lead_seconds", "The lead time before a window."),
    Metric("backupready_window_expected_interval_seconds", "How far apart windows are at most."),
)


def _percent(text: str) -> float:
    """A share of something, as a ratio."""
    if not (text.isascii() and text.isdigit() and len(text) < 4) or not 1 <= int(text) <= 99:
        raise ValueError(f"{text!r} is no number from 1 to 99")
    return int(text) / 100


def _schedule(text: str) -> str:
    """Kept as text, since its time zone may stand in another setting."""
    if text:
        parse(text, "UTC")
    return text


def _consistency(text: str) -> str:
    if text not in ("application", "crash"):
        raise ValueError(f"{text!r} is neither application nor crash")
    return text


SETTINGS = (
    Setting(
        "window",
        "schedule",
        "",
        "When backups start, as the backup policy says. With nothing it is learned from past backups.",
        _schedule,
        "daily at 22:00; weekly on Sunday, Wednesday at 02:30; hourly every 4 hours from 08:00 for 12 hours; several"
        " separated by semicolons, each also with a time zone behind it, as in daily at 22:00 in Europe/Berlin",
    ),
    Setting(
        "window",
        "time_zone",
        "UTC",
        "The backup policy's time zone.",
        zone_name,
        "a name of IANA's or of Windows', such as Europe/Berlin or W. Europe Standard Time",
    ),
    Setting(
        "window",
        "start_window",
        "2h",
        "How long after its scheduled time the platform may start a backup.",
        duration,
        "a time span",
    ),
    Setting(
        "window",
        "duration",
        "30min",
        "How long a backup takes on this machine, until the snapshot is taken.",
        duration,
        "a time span",
    ),
    Setting(
        "window",
        "lead",
        "4h",
        "How long before a window the machine is looked at closely, and what is wrong may still be put right.",
        duration,
        "a time span",
    ),
    Setting("window", "hold", "15min", "How long before a window nothing is begun any more.", duration, "a time span"),
    Setting(
        "window",
        "learn",
        "yes",
        "Whether the schedule is learned from past backups where none is configured.",
        yes_or_no,
        "yes or no",
    ),
    Setting(
        "window",
        "expected_interval",
        "0",
        "How far apart backups are at most; one that is later than that, the start window and an hour is overdue."
        " With 0 it is known from the schedule.",
        duration,
        "a time span",
    ),
    Setting(
        "window",
        "consistency",
        "application",
        "What the policy asks for. With crash it is agentless, or crash-consistent by choice: neither the agent nor the"
        " extension is needed, and no run is expected to be on record.",
        _consistency,
        "application or crash",
    ),
    Setting(
        "window",
        "cpu_percent",
        str(_CPU_PERCENT),
        "From which share of busy processors on past windows count as busy.",
        _percent,
        "a number from 1 to 99",
    ),
    Setting(
        "window",
        "memory_percent",
        str(_MEMORY_PERCENT),
        "From which share of used memory on, caches not counted, past windows count as busy.",
        _percent,
        "a number from 1 to 99",
    ),
    Setting(
        "window",
        "stalled_percent",
        str(_STALLED_PERCENT),
        "From which share of time on, in which everything waits for disks, past windows count as busy.",
        _percent,
        "a number from 1 to 99",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Hold the record against the windows."""
    outlook = machine.outlook()
    yield from _readings(outlook)
    if not outlook.configured and outlook.window is None and not outlook.upcoming:
        evidence: dict[str, Scalar] = {"runs_on_record": len(outlook.runs), "learns": settings["learn"]}
        yield Finding("WINDOW_UNKNOWN", evidence=evidence)
    set_to = f"{settings['schedule']} in {settings['time_zone']}"
    changed = _changed(machine, set_to, outlook.at)
    yield Remember({"set_to": set_to, "changed": changed})
    yield from _busy(outlook, settings)
    if settings["consistency"] == "crash":
        return
    record = _Record.of(outlook)
    yield from _contradicted(outlook, record, changed or 0.0)
    yield from _overdue(outlook, record, settings)


def _changed(machine: Machine, set_to: str, now: float) -> float | None:
    """Since when the schedule is set so, None where it was never seen to change."""
    before, changed = machine.memory.get("set_to"), machine.memory.get("changed")
    if before != set_to:
        return None if before is None else now
    return min(changed, now) if isinstance(changed, float) else None


def _readings(outlook: Outlook) -> Iterator[Observation]:
    starts = [window.start for window in _windows(outlook) if window.start > outlook.at]
    if starts:
        yield Reading("backupready_window_next_start_timestamp_seconds", min(starts))
        yield Reading("backupready_window_lead_seconds", outlook.lead)
    if outlook.expected_interval is not None:
        yield Reading("backupready_window_expected_interval_seconds", outlook.expected_interval)


def _windows(outlook: Outlook) -> Iterator[Window]:
    yield from outlook.passed
    if outlook.window is not None:
        yield outlook.window
    yield from outlook.upcoming


@dataclass(frozen=True)
class _Record:
    """The runs that have ended by now, oldest first, and the same with the tries of one backup together. What lies
    ahead of the clock was noted by another one, and says nothing."""

    runs: tuple[Run, ...]
    backups: tuple[tuple[Run, ...], ...]

    @classmethod
    def of(cls, outlook: Outlook) -> _Record:
        runs = sorted((run for run in outlook.runs if run.ended <= outlook.at), key=lambda run: run.ended)
        backups: list[tuple[Run, ...]] = []
        for run in runs:
            if backups and run.ended - backups[-1][-1].ended < _RETRIES:
                backups[-1] += (run,)
            else:
                backups.append((run,))
        return cls(tuple(runs), tuple(backups))

    def any_in(self, window: Window) -> bool:
        return any(_is_in(run, window) for run in self.runs)


def _is_in(run: Run, window: Window) -> bool:
    return window.start - _EARLY <= run.start <= window.end


# ------------------------------------------------------------------------------ does the record bear the schedule out?


def _contradicted(outlook: Outlook, record: _Record, changed: float) -> Iterator[Observation]:
    """Whether, since the last backup within a window, windows have passed without one and backups have begun elsewhere.
    Nothing from before the oldest window, or before the schedule was set so, is held against it."""
    windows = [w for w in _windows(outlook) if not w.learned and w.start <= outlook.at]
    if not outlook.configured or not windows or len(record.backups) < _FEWEST_ON_RECORD:
        return
    after = max(windows[0].start - _EARLY, changed)
    elsewhere: list[float] = []
    for backup in record.backups:
        if any(_is_in(run, window) for run in backup for window in windows):
            after, elsewhere = max(after, backup[-1].start), []
        elif backup[0].start >= after:
            elsewhere.append(backup[0].start)
    passed = [window for window in outlook.passed if not window.learned and window.start > after]
    without = [window for window in passed if not record.any_in(window)]
    if not _is_much(elsewhere, without):
        return
    if outlook.unread:
        yield CannotTell(outlook.unread, ("WINDOW_CONTRADICTED",))
        return
    on = _was_on(outlook, without)
    if not _is_much(elsewhere, on):
        if outlook.since is None:
            yield CannotTell("it is not known since when this machine is on", ("WINDOW_CONTRADICTED",))
        return
    learned = sorted(outlook.learned, key=lambda schedule: -schedule.confidence)
    evidence: dict[str, Scalar] = {
        "configured": "; ".join(dict.fromkeys(window.schedule for window in passed)),
        "learned": "; ".join(one.schedule for one in learned) or None,
        "confidence": round(learned[0].confidence, 2) if learned else None,
        "windows_without_a_run": len(on),
        "runs_elsewhere": len(elsewhere),
        "began": " ".join(_moment(start) for start in elsewhere[-_SHOWN:]),
    }
    yield Finding("WINDOW_CONTRADICTED", evidence=evidence)


def _is_much(elsewhere: Sequence[object], without: Sequence[object]) -> bool:
    fewer, more = sorted((len(elsewhere), len(without)))
    return fewer >= _FEWEST_EACH and more >= _MANY


def _was_on(outlook: Outlook, windows: Sequence[Window]) -> list[Window]:
    """Those during which the machine is known to have been on: it has been up since, or its load was noted."""
    noted = [load.start for load in outlook.loads]
    return [
        window
        for window in windows
        if (outlook.since is not None and outlook.since <= window.start)
        or (bisect_left(noted, window.end) - bisect_left(noted, window.start)) * _LOAD
        >= _ENOUGH_LOADS * (window.end - window.start)
    ]


# ----------------------------------------------------------------------------------------------- is the next one late?


def _limit(outlook: Outlook, record: _Record, settings: Settings) -> tuple[float | None, int | None]:
    """How long after a good backup the next is overdue, None where that is not known; and from how many backups that
    was learned, None where it was not."""
    expected = settings["expected_interval"].total_seconds() or outlook.expected_interval
    if expected:
        return expected + settings["start_window"].total_seconds() + _MARGIN, None
    times = [backup[-1].ended for backup in record.backups]
    if len(times) < _RUNS_TO_LEARN or times[-1] - times[0] < _SPAN_TO_LEARN:
        return None, None
    longest = max(later - earlier for earlier, later in zip(times, times[1:]))
    return max(2 * longest, _AT_LEAST), len(times)


def _overdue(outlook: Outlook, record: _Record, settings: Settings) -> Iterator[Observation]:
    """Measured over time in which the machine was on."""
    good = [run for run in record.runs if run.happened in (Happened.SUCCEEDED, Happened.CRASH_CONSISTENT)]
    last = (good or record.runs)[-1:]
    limit, learned_from = _limit(outlook, record, settings)
    if last and (limit is None or outlook.at - last[0].ended <= limit):
        return
    if outlook.unread:
        yield CannotTell(outlook.unread, ("BACKUP_OVERDUE",))
        return
    if not last or limit is None:
        return
    if outlook.since is None:
        yield CannotTell("it is not known since when this machine is on", ("BACKUP_OVERDUE",))
        return
    if outlook.at - max(outlook.since, last[0].ended) <= limit:
        return
    since = [window for window in outlook.passed if window.start > last[0].ended]
    evidence: dict[str, Scalar] = {
        "last_run": _moment(record.runs[-1].ended),
        "last_good": _moment(good[-1].ended) if good else None,
        "hours_since": round((outlook.at - last[0].ended) / 3600, 1),
        "limit_hours": round(limit / 3600, 1),
        "learned_from_runs": learned_from,
        "windows_without_a_run": sum(not record.any_in(window) for window in since) if outlook.passed else None,
    }
    yield Finding("BACKUP_OVERDUE", evidence=evidence)


# -------------------------------------------------------------------------------------- will the machine be busy again?


def _busy(outlook: Outlook, settings: Settings) -> Iterator[Observation]:
    if outlook.window is None:
        return
    limits = Limits(settings["cpu_percent"], settings["memory_percent"], io=settings["stalled_percent"])
    for busy in forecast(outlook.loads, outlook.passed, outlook.window, outlook.at, limits):
        evidence: dict[str, Scalar] = {
            "windows": busy.windows,
            "busy": busy.busy,
            "percentile_75_of_the_middle_window": round(busy.typical * 100, 1),
            "limit_percent": round(busy.limit * 100, 1),
        }
        yield Finding("BUSY_WINDOW_FORECAST", key=busy.resource, evidence=evidence)


def _moment(time: float) -> str:
    try:
        return datetime.fromtimestamp(time, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{time:.0f} s since 1970"


PROBE = Probe(
    name="window",
    question="When is the next backup, and did the last one come?",
    access=Access.MIND,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=1),
    interval=timedelta(minutes=1),
    metrics=METRICS,
    settings=SETTINGS,
)
