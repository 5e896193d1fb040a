"""When is the next backup, and did the last one come?

Judged in the resident process by what is known of the windows and by the record of past runs. A window in which nothing
ran says something only if the machine was on: of one that is off the platform takes the disks without asking anybody
inside.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Callable

from backupready.forecast import Limits, forecast
from backupready.model import (
    LOAD_SECONDS,
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
    in_utc,
    percent,
    yes_or_no,
)
from backupready.window import SKEW, is_near, parse, zone_name

_PREPARE = "https://learn.microsoft.com/azure/backup/backup-azure-arm-vms-prepare"
_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot"

_RETRIES = timedelta(hours=1).total_seconds()  # tries of one backup follow each other within minutes

# A single backup by hand, or a night without one, contradicts nothing; both have to be seen more than once.
_FEWEST_ON_RECORD = 3
_FEWEST_EACH = 2
_MANY = 3  # of either
# A schedule that is not configured besides one that is: learned with so much confidence, and of so many backups.
_SURE = 0.9
_MANY_BESIDES = 5
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
        " about the wrong time. Or backups follow, with much confidence, another schedule besides: then nothing is said"
        " about those. Only what came after the daemon first saw the schedule set so counts. After a change of the"
        " schedule the next backup within its window ends this.",
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
        " or window.expected_interval, allows with the time in which a job may start and what it takes. Where neither"
        " is known, it is more than twice as long ago as the longest pause in a week or more of past runs. It is"
        " measured from a change of the schedule where that was later, and from the end of a window in which the"
        " machine is not known to have been on. While a window is open its backup is awaited.",
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
        meaning="In most of the newest windows at that time of day the processors, the memory or the disks were busier"
        " than the limit above which Azure queues or delays the snapshot, until it times out, and so they are likely to"
        " be in the next. The evidence says in how many windows, and what was reached for a quarter of the time in the"
        " middle one.",
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


def _span(shortest: timedelta, longest: timedelta) -> Callable[[str], timedelta]:
    """A time span within bounds."""

    def bounded(text: str) -> timedelta:
        span = duration(text)
        if not shortest <= span <= longest:
            raise ValueError(f"{text!r} is not from {_words(shortest)} to {_words(longest)}")
        return span

    return bounded


def _words(span: timedelta) -> str:
    seconds = int(span.total_seconds())
    for unit, length in (("d", 86400), ("h", 3600)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


_NONE, _WEEK = timedelta(0), timedelta(days=7)


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
        _span(timedelta(seconds=10), timedelta(hours=12)),
        "a time span from 10s to 12h",
    ),
    Setting(
        "window",
        "duration",
        "30min",
        "How long a backup takes on this machine, until the snapshot is taken.",
        _span(timedelta(seconds=1), timedelta(days=1)),
        "a time span from 1s to 1d",
    ),
    Setting(
        "window",
        "lead",
        "4h",
        "How long before a window the machine is looked at closely, and what is wrong may still be put right; at most"
        " a quarter of the time between two windows.",
        _span(_NONE, _WEEK),
        "a time span up to 7d",
    ),
    Setting(
        "window",
        "hold",
        "15min",
        "How long before a window nothing is begun any more; at most the lead.",
        _span(_NONE, _WEEK),
        "a time span up to 7d",
    ),
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
        "How far apart backups are at most; one that is later than that, the start window, the duration and an"
        " hour is overdue. With 0 it is known from the schedule.",
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
        percent,
        "a number from 1 to 99",
    ),
    Setting(
        "window",
        "memory_percent",
        str(_MEMORY_PERCENT),
        "From which share of used memory on, caches not counted, past windows count as busy.",
        percent,
        "a number from 1 to 99",
    ),
    Setting(
        "window",
        "stalled_percent",
        str(_STALLED_PERCENT),
        "From which share of time on, in which everything waits for disks, past windows count as busy.",
        percent,
        "a number from 1 to 99",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Hold the record against the windows."""
    outlook = machine.outlook()
    yield from _readings(outlook, settings)
    if not outlook.unplanned and not outlook.configured and outlook.window is None and not outlook.upcoming:
        evidence: dict[str, Scalar] = {"runs_on_record": len(outlook.runs), "learns": settings["learn"]}
        yield Finding("WINDOW_UNKNOWN", evidence=evidence)
    setting = _Setting.of(machine, settings, outlook.at)
    yield Remember({"set_to": setting.set_to, "seen": setting.seen, "changed": setting.changed})
    if outlook.unplanned:
        yield CannotTell(outlook.unplanned)
        return
    yield from _busy(outlook, settings)
    if settings["consistency"] == "crash":
        return
    record = _Record.of(outlook, settings["duration"].total_seconds())
    yield from _contradicted(outlook, record, setting)
    yield from _overdue(outlook, record, settings, setting)


@dataclass(frozen=True)
class _Setting:
    """How the windows are set, in short; since when that was `seen`; and whether it was another way before."""

    set_to: str
    seen: float
    changed: bool

    @classmethod
    def of(cls, machine: Machine, settings: Settings, now: float) -> _Setting:
        spans = ", ".join(f"{settings[name].total_seconds():g} s" for name in ("start_window", "duration"))
        text = f"{settings['schedule']} in {settings['time_zone']}, {spans}"
        set_to = sha256(text.encode()).hexdigest()  # however long it is
        before, seen = machine.memory.get("set_to"), machine.memory.get("seen")
        if before != set_to:
            return cls(set_to, now, isinstance(before, str))
        # What a clock that was ahead has noted, or nobody could have, is from now on.
        known = float(seen) if isinstance(seen, (int, float)) and seen <= now else now
        return cls(set_to, known, machine.memory.get("changed") is True)


def _readings(outlook: Outlook, settings: Settings) -> Iterator[Observation]:
    starts = [window.start for window in _windows(outlook) if window.start > outlook.at]
    if starts:
        yield Reading("backupready_window_next_start_timestamp_seconds", min(starts))
        yield Reading("backupready_window_lead_seconds", outlook.lead)
    expected = _expected(outlook, settings)
    if expected is not None:
        yield Reading("backupready_window_expected_interval_seconds", expected)


def _windows(outlook: Outlook) -> Iterator[Window]:
    yield from outlook.passed
    if outlook.window is not None:
        yield outlook.window
    yield from outlook.upcoming


@dataclass(frozen=True)
class _Record:
    """The runs that have ended by now, oldest first, and the same with the tries of one backup together. What lies
    ahead of the clock was noted by another one, and says nothing. `by_start` are the same, with when they began, as
    far as that is known; of one of which it is not it is known that it took up to `duration` seconds."""

    runs: tuple[Run, ...]
    backups: tuple[tuple[Run, ...], ...]
    by_start: tuple[tuple[float, ...], tuple[Run, ...]]
    duration: float

    @classmethod
    def of(cls, outlook: Outlook, duration: float) -> _Record:
        runs = sorted((run for run in outlook.runs if run.ended <= outlook.at), key=lambda run: run.ended)
        backups: list[tuple[Run, ...]] = []
        for run in runs:
            if backups and run.ended - backups[-1][-1].ended < _RETRIES:
                backups[-1] += (run,)
            else:
                backups.append((run,))
        ordered = tuple(sorted(runs, key=lambda run: run.start))
        return cls(tuple(runs), tuple(backups), (tuple(run.start for run in ordered), ordered), duration)

    def within(self, window: Window) -> tuple[Run, ...]:
        starts, runs = self.by_start
        first = bisect_left(starts, window.start - SKEW)
        last = bisect_right(starts, window.end + max(SKEW, self.duration))
        return tuple(run for run in runs[first:last] if is_near(run, window, self.duration))


# ------------------------------------------------------------------------------ does the record bear the schedule out?


def _contradicted(outlook: Outlook, record: _Record, setting: _Setting) -> Iterator[Observation]:
    """Whether, since the last backup within a window, windows have passed without one and backups have begun elsewhere;
    or backups follow another schedule besides. Nothing from before the oldest window, or before the schedule was seen
    to be set so, is held against it."""
    windows = [w for w in _windows(outlook) if not w.learned and w.start <= outlook.at]
    if not outlook.configured or not windows or len(record.backups) < _FEWEST_ON_RECORD:
        return
    first = after = max(windows[0].start - SKEW, setting.seen)
    kept = {run for window in windows for run in record.within(window)}
    elsewhere: list[float] = []
    for backup in record.backups:
        if not kept.isdisjoint(backup):
            after, elsewhere = max(after, backup[-1].start), []
        elif backup[0].start >= after:
            elsewhere.append(backup[0].start)
    passed = [window for window in outlook.passed if not window.learned and window.start > after]
    without = [window for window in passed if not record.within(window)]
    on: list[Window] = []
    if _is_much(elsewhere, without):
        if outlook.unread:
            yield CannotTell(outlook.unread, ("WINDOW_CONTRADICTED",))
            return
        on = _was_on(outlook, without)
        if outlook.since is None and not _is_much(elsewhere, on):
            yield CannotTell("it is not known since when this machine is on", ("WINDOW_CONTRADICTED",))
            return
    if not _is_much(elsewhere, on):
        on, elsewhere = [], _besides(outlook, {run.start for run in kept}, first)
    if not elsewhere:
        return
    learned = sorted(outlook.learned, key=lambda schedule: -schedule.confidence)
    evidence: dict[str, Scalar] = {
        "configured": "; ".join(dict.fromkeys(window.schedule for window in windows)),
        "learned": "; ".join(one.schedule for one in learned) or None,
        "confidence": round(learned[0].confidence, 2) if learned else None,
        "windows_without_a_run": len(on),
        "runs_elsewhere": len(elsewhere),
        "began": " ".join(in_utc(start) for start in elsewhere[-_SHOWN:]),
    }
    yield Finding("WINDOW_CONTRADICTED", evidence=evidence)


def _besides(outlook: Outlook, kept: Set[float], first: float) -> list[float]:
    """When backups of a schedule that is learned with confidence began outside the windows; none if those are few."""
    found: set[float] = set()
    for learned in outlook.learned:
        outside = {start for start in learned.runs if first <= start <= outlook.at and start not in kept}
        if learned.confidence >= _SURE and len(outside) >= _MANY_BESIDES:
            found |= outside
    return sorted(found)


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
        or (bisect_left(noted, window.end) - bisect_right(noted, window.start - LOAD_SECONDS)) * LOAD_SECONDS
        >= _ENOUGH_LOADS * max(window.end - window.start, LOAD_SECONDS)
    ]


# ----------------------------------------------------------------------------------------------- is the next one late?


def _expected(outlook: Outlook, settings: Settings) -> float | None:
    """How far apart backups are at most, in seconds; None where that is not known."""
    set_to: float = settings["expected_interval"].total_seconds()
    return set_to or outlook.expected_interval


def _limit(outlook: Outlook, record: _Record, settings: Settings) -> tuple[float | None, int | None]:
    """How long after a good backup the next is overdue, None where that is not known; and from how many backups that
    was learned, None where it was not."""
    expected = _expected(outlook, settings)
    if expected:
        late: float = (settings["start_window"] + settings["duration"]).total_seconds()
        return expected + late + _MARGIN, None
    times = [backup[-1].ended for backup in record.backups]
    if len(times) < _RUNS_TO_LEARN or times[-1] - times[0] < _SPAN_TO_LEARN:
        return None, None
    longest = max(later - earlier for earlier, later in zip(times, times[1:]))
    return max(2 * longest, _AT_LEAST), len(times)


def _overdue(outlook: Outlook, record: _Record, settings: Settings, setting: _Setting) -> Iterator[Observation]:
    """Measured from the last good run, or from a change of the schedule since, over time in which the machine was on.
    While a window is open its backup is awaited: then it is as it was when that began."""
    good = [run for run in record.runs if run.happened in (Happened.SUCCEEDED, Happened.CRASH_CONSISTENT)]
    last = (good or record.runs)[-1:]
    limit, learned_from = _limit(outlook, record, settings)
    opened = outlook.window is not None and outlook.window.start <= outlook.at < outlook.window.end
    at = outlook.window.start if outlook.window is not None and opened else outlook.at
    after = max(last[0].ended if last else 0.0, setting.seen if setting.changed else 0.0)
    if last and (limit is None or at - after <= limit):
        return
    if outlook.unread:
        yield CannotTell(outlook.unread, ("BACKUP_OVERDUE",))
        return
    if not last or limit is None:
        return
    if outlook.since is None:
        yield CannotTell("it is not known since when this machine is on", ("BACKUP_OVERDUE",))
        return
    passed = [window for window in outlook.passed if window.start > after]
    if outlook.passed and not outlook.configured and len(passed) < _FEWEST_EACH:
        return  # what is learned may have been moved, and one window says nothing
    if at - max(outlook.since, after) <= limit and not _is_late(outlook, record, passed, at - limit):
        return
    evidence: dict[str, Scalar] = {
        "last_run": in_utc(record.runs[-1].ended),
        "last_good": in_utc(good[-1].ended) if good else None,
        "hours_since": round((outlook.at - last[0].ended) / 3600, 1),
        "limit_hours": round(limit / 3600, 1),
        "learned_from_runs": learned_from,
        "windows_without_a_run": sum(not record.within(window) for window in passed) if outlook.passed else None,
    }
    yield Finding("BACKUP_OVERDUE", evidence=evidence)


def _is_late(outlook: Outlook, record: _Record, passed: Sequence[Window], before: float) -> bool:
    """Whether the machine was on in windows that have passed without a good backup, although it was started again or
    its clock set in between. In one in which it was off, or perhaps was, the platform took the disks; that has to have
    been before that moment."""
    on = {*_was_on(outlook, passed), *(window for window in passed if record.within(window))}
    off = max((window.end for window in passed if window not in on), default=0.0)
    return off < before and any(window.start > off for window in on)


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
