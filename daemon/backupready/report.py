"""How is a snapshot told? As one JSON document for programs, and as text for people.

People read times by the clock of the time zone that the backup's schedule goes by; programs read UTC.
"""

from __future__ import annotations

import textwrap
import zoneinfo
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any, Union

from backupready.model import (
    Attempt,
    BeliefState,
    Effect,
    Evidence,
    Fixes,
    Happened,
    Outlook,
    Pause,
    Phase,
    Planned,
    Planning,
    Prediction,
    ProbeState,
    Problem,
    Reason,
    Refusal,
    Remedy,
    Result,
    Snapshot,
    Verdict,
    Window,
    WouldRun,
    in_utc,
)
from backupready.plan import describe
from backupready.vmsnapshot import CODES, CODES_SOURCE, PORTAL_SOURCE, Code, PortalError

SCHEMA = 1
_WIDTH = 110  # columns
_SHOWN_ATTEMPTS = 5
Document = Mapping[str, Any]
# Of an article: a paragraph, or the points of a list. Both may hold `code` and <https://addresses>.
Block = Union[str, tuple[str, ...]]

_PREDICATES = {
    Verdict.READY: "should succeed",
    Verdict.AT_RISK: "may fail",
    Verdict.DEGRADED: "will be late or only crash-consistent",
    Verdict.BLOCKED: "will fail",
    Verdict.UNKNOWN: "cannot be foretold",
}
SENTENCES = {
    **{verdict: f"the next backup {predicate}" for verdict, predicate in _PREDICATES.items()},
    Verdict.UNKNOWN: "whether the next backup will succeed cannot be told",
}


def iso(moment: float) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def document(snapshot: Snapshot) -> dict[str, Any]:
    """The JSON document of `check --json` and /api/v1/status, schema 1."""
    return {
        "schema": SCHEMA,
        "verdict": snapshot.verdict.value,
        "since": iso(snapshot.since),
        "checked_at": iso(snapshot.checked_at),
        "machine": dict(snapshot.machine),
        "window": _outlook(snapshot.outlook),
        "reasons": [_reason(reason) for reason in snapshot.reasons],
        "notices": [_reason(notice) for notice in snapshot.notices],
        "unknown": unknown(snapshot),
        "becomes": becomes(snapshot),
        "probes": [
            {
                "name": run.name,
                "state": run.state.value if run.state else ProbeState.CANNOT_TELL.value,
                "seconds": round(run.seconds, 3),
                "why": run.why,
                "last_look": _moment(run.last_run),
            }
            for run in snapshot.probes
        ],
        "fixes": _fixes(snapshot.planning, snapshot.fixes),
        "plans": [_plan(one) for one in snapshot.plans],
    }


def _plan(one: Planned) -> dict[str, Any]:
    return {
        "remedy": one.remedy,
        "problem": one.problem,
        "key": one.key,
        "steps": [describe(step) for step in one.steps],
        "why": one.why,
        "as_of": _moment(one.as_of),
    }


def _fixes(planning: Planning | None, told_of: Fixes | None) -> dict[str, Any] | None:
    """What is done about problems, and what was done: the newest attempts, newest first."""
    if planning is None:
        return None
    fixes = told_of or Fixes(0.0)
    return {
        "mode": planning.mode,
        "paused": None if planning.paused is None else _pause(planning.paused),
        "door_open": planning.door_open,
        "under_way": planning.under_way or None,
        "unread": planning.unread or None,
        "attempts": [_attempt(one) for one in reversed(fixes.attempts[-_SHOWN_ATTEMPTS:])],
        "limits": [{**vars(one), "until": _moment(one.until)} for one in fixes.limits],
        "temporary": [{**vars(one), "until": _moment(one.until)} for one in fixes.temporary],
    }


def _pause(pause: Pause) -> dict[str, Any]:
    return {"until": _moment(pause.until), "unread": pause.unread or None}


def _attempt(one: Attempt) -> dict[str, Any]:
    return {
        "id": one.id,
        "remedy": one.remedy,
        "problem": one.problem,
        "key": one.key,
        "by": one.by,
        "began": _moment(one.began),
        "ended": _moment(one.ended),
        "result": one.result.value,
        "reasons": list(one.reasons),
        "left": list(one.left),
    }


def _moment(moment: float | None) -> str | None:
    return None if moment is None else in_utc(moment)


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "problem": reason.problem.code,
        "title": reason.problem.title,
        "key": reason.key,
        "effect": reason.effect.value,
        "state": BeliefState.ACTIVE.value,
        "since": iso(reason.since),
        "evidence": dict(reason.evidence),
        "consequences": list(reason.consequences),
        "fix": reason.problem.remedy,
        "explain": explanation(reason.problem),
    }


def _outlook(outlook: Outlook | None) -> dict[str, Any] | None:
    """`next` is the window that the verdict speaks of: the open one, or else the next."""
    if outlook is None:
        return None
    return {
        "phase": outlook.phase.value,
        "source": "configured" if outlook.configured else "learned" if outlook.window else None,
        "next": _window(outlook.window, outlook.at) if outlook.window else None,
        "upcoming": [_window(window, outlook.at) for window in outlook.upcoming],
        "lead_seconds": outlook.lead,
        "expected_interval_seconds": outlook.expected_interval,
        "learned": [
            {"schedule": one.schedule, "confidence": round(one.confidence, 2), "runs": [iso(run) for run in one.runs]}
            for one in outlook.learned
        ],
        "predictions": [_prediction(one) for one in outlook.predictions],
    }


def _prediction(one: Prediction) -> dict[str, Any]:
    return {
        "window": iso(one.start),
        "made": iso(one.made),
        "predicted": one.verdict.value,
        "reasons": list(one.reasons),
        "happened": one.happened.value if one.happened else None,
    }


def _window(window: Window, at: float) -> dict[str, Any]:
    return {
        "start": iso(window.start),
        "end": iso(window.end),
        "local": local(window.start, window.zone, at),
        "in_seconds": round(window.start - at),
        "schedule": window.schedule,
        "zone": window.zone,
    }


def local(moment: float, zone: str, at: float) -> str:
    """A moment by the clock of a time zone, such as `Mon 22:00 CET`; with its date where it is not within six days."""
    return clock(moment, zone).strftime("%a %H:%M %Z" if abs(moment - at) < 6 * 86400 else "%a %d %b %Y %H:%M %Z")


def clock(moment: float, zone: str) -> datetime:
    """What the clock of a time zone shows, UTC's where there is no such zone. Raises ValueError, OverflowError or
    OSError for a moment that no date has."""
    try:
        return datetime.fromtimestamp(moment, zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return datetime.fromtimestamp(moment, timezone.utc)


def span(seconds: float) -> str:
    """A time span for people: `3 h 12 min`."""
    minutes = max(0, round(seconds / 60))
    days, hours = divmod(minutes // 60, 24)
    words = [(days, "d"), (hours, "h"), (minutes % 60 if not days else 0, "min")]
    return " ".join(f"{number} {unit}" for number, unit in words if number) or "less than a minute"


def becomes(snapshot: Snapshot) -> list[dict[str, Any]]:
    """What would change the verdict, step by step: which problems must be over for it to become which. What is unknown
    and could be grave leaves it unknown; of what is void there is nothing to say."""
    doubtful = any(b.unknown and b.effect.rank <= Effect.DEGRADES.rank for b in snapshot.beliefs)
    steps: list[dict[str, Any]] = []
    left = () if snapshot.void else snapshot.reasons
    while left:
        effect = left[0].effect  # they are ranked
        codes = dict.fromkeys(reason.problem.code for reason in left if reason.effect is effect)
        left = tuple(reason for reason in left if reason.effect is not effect)
        better = _VERDICTS[left[0].effect] if left else Verdict.READY
        steps.append({"verdict": (Verdict.UNKNOWN if doubtful else better).value, "once_over": list(codes)})
    reached = [snapshot.verdict.value, *(step["verdict"] for step in steps)]
    return [step for step, from_here in zip(steps, reached) if step["verdict"] != from_here]


_VERDICTS = {Effect.BLOCKS: Verdict.BLOCKED, Effect.DEGRADES: Verdict.DEGRADED, Effect.RISKS: Verdict.AT_RISK}


def explanation(problem: Problem) -> str:
    """What a person is told about a problem in one breath."""
    return f"{problem.meaning} {problem.fix}"


def unknown(snapshot: Snapshot) -> list[dict[str, str]]:
    """Every probe that could tell nothing, then every problem that its probe could not tell, each with the reason."""
    if snapshot.void:
        return []
    silent = {run.name: run.why for run in snapshot.probes if run.state is not ProbeState.OK}
    entries = [{"probe": name, "why": why} for name, why in silent.items()]
    whys = set(silent.values())
    for belief in snapshot.beliefs:
        if belief.unknown and belief.why not in whys:
            entries.append({"problem": belief.problem.code, "why": belief.why})
    return entries


def not_yet(told_of: Document) -> int:
    """How many probes of a document have not looked yet, and are to; none where the question does not arise."""
    runs = told_of.get("probes", ()) if told_of.get("unknown") else ()
    return sum(run.get("last_look", "") is None for run in runs)


# -------------------------------------------------------------------------------------------------------- text


def headline(snapshot: Snapshot) -> str:
    """One line: the verdict, what follows, and the gravest reason."""
    return _headline(document(snapshot))


def _headline(told_of: Document) -> str:
    verdict = Verdict(told_of["verdict"])
    words = [verdict.value.upper().replace("_", " "), _sentence(verdict, told_of.get("window"))]
    if void := _void(told_of):
        words[1:] = filter(None, (f"{void['problem']}: {void['title']}", evidence_line(void["evidence"])))
    elif told_of["reasons"]:
        first = told_of["reasons"][0]
        words.append(f"{first['problem']} since {_since(first['since'], told_of.get('window'))}")
        words.append(f"fix: {_how(first['fix'], told_of.get('fixes'))}")
    elif verdict is Verdict.UNKNOWN:
        words += [entry["why"] for entry in told_of["unknown"][:1]]
    return " · ".join(words)


def _how(remedy: str | None, fixes: Document | None) -> str:
    """Which remedy there is, and what is done about it."""
    if remedy is None:
        return "advise"
    return remedy if fixes is None else f"{remedy} ({fixes['mode']})"


def sentence(snapshot: Snapshot) -> str:
    """What the verdict says of which backup; that the question does not arise, where it does not."""
    if snapshot.void:
        return snapshot.reasons[0].problem.title
    return _sentence(snapshot.verdict, _outlook(snapshot.outlook))


def _sentence(verdict: Verdict, window: Document | None) -> str:
    """What the verdict says of which backup."""
    coming = (window or {}).get("next")
    if window is None or coming is None:
        return SENTENCES[verdict]
    if coming["in_seconds"] > 0:
        which = f"next backup {coming['local']} (in {span(coming['in_seconds'])})"
    else:
        which = f"the backup of {coming['local']}, now open,"
    if verdict is Verdict.UNKNOWN:
        return f"{which.rstrip(',')}: whether it will succeed cannot be told"
    return f"{which} {_PREDICATES[verdict]}"


def _since(told: str, window: Document | None) -> str:
    """A moment of the document, in UTC where there is no window whose time zone it could be told in."""
    coming = (window or {}).get("next")
    if coming is None:
        return told
    zone, start = coming["zone"], _seconds(coming["start"])
    moment, at = _seconds(told), start - coming["in_seconds"]
    by_day, today = local(moment, zone, at), local(at, zone, at)
    return by_day.split()[1] if by_day.split()[0] == today.split()[0] and at - moment < 86400 else by_day


def _seconds(told: str) -> float:
    return datetime.strptime(told, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()


def windows(told_of: Document) -> str:
    """The next windows, each in its own time and in UTC, where they are from, and the phase, from the document."""
    window = told_of.get("window")
    if window is None:
        return "The next windows are not known."
    lines = []
    for coming in window["upcoming"]:
        lines.append(f"{coming['local']}  {coming['start']}  in {span(coming['in_seconds'])}  {coming['schedule']}")
    if not lines:
        lines.append("The next windows are not known: neither configured in [window], nor learned from past backups.")
    else:
        lines.append(f"These are {window['source']}. A backup may start up to the end of its window.")
    lines.append(f"Phase now: {window['phase']} ({PHASES[Phase(window['phase'])]}).")
    for learned in window["learned"]:
        lines.append(
            f"Past backups suggest: {learned['schedule']}"
            f" (confidence {learned['confidence']:.2f}, from {len(learned['runs'])} backups)"
        )
    lines += map(_prediction_line, window["predictions"])
    return "\n".join(lines)


def prediction_line(prediction: Prediction) -> str:
    """What was said of a window, and what happened."""
    return _prediction_line(_prediction(prediction))


def _prediction_line(told_of: Document) -> str:
    reasons = f" ({', '.join(told_of['reasons'])})" if told_of["reasons"] else ""
    happened = f"it {HAPPENED[Happened(told_of['happened'])]}" if told_of["happened"] else "not known yet"
    return f"Window of {told_of['window']}: predicted {told_of['predicted'].replace('_', ' ')}{reasons}; {happened}"


HAPPENED = {
    Happened.SUCCEEDED: "succeeded",
    Happened.CRASH_CONSISTENT: "succeeded, but only crash-consistent",
    Happened.FAILED: "failed",
    Happened.FAILED_ELSEWHERE: "failed through nothing on this machine",
    Happened.MISSED: "passed without a backup",
}


PHASES = {
    Phase.IDLE: "nothing is near",
    Phase.LEAD: "the time before a window in which something can still be done",
    Phase.HOLD: "too close to a window for a change",
    Phase.OPEN: "a backup may be running",
}


def _void(told_of: Document) -> Document | None:
    """The reason that the question does not arise here, if there is one; it is the gravest."""
    return next((reason for reason in told_of["reasons"] if reason["effect"] == Effect.VOIDS.value), None)


def nagios(snapshot: Snapshot) -> str:
    """One line in the Nagios plugins' manner, without the separator that they reserve."""
    words = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[snapshot.verdict.exit_code]
    codes = ", ".join(f"{r.problem.code}{f'({r.key})' if r.key else ''}" for r in snapshot.reasons)
    return f"BACKUPREADY {words} - {sentence(snapshot)}{f': {codes}' if codes else ''}".replace("|", "/")


def text(snapshot: Snapshot) -> str:
    """The whole report for a terminal."""
    return told(document(snapshot))


def told(told_of: Document) -> str:
    """The same from the JSON document, as it comes from a running daemon."""
    lines = [_headline(told_of)]
    if _void(told_of):
        return lines[0]
    if late := not_yet(told_of):
        lines.append(f"It is just starting: {late} of {len(told_of['probes'])} probes have not looked yet.")
    for title, reasons in (("", told_of["reasons"]), ("Worth knowing:", told_of["notices"])):
        if reasons and title:
            lines += ["", title]
        for reason in reasons:
            lines += ["", *_reason_lines(reason), *_plan_lines(reason, told_of.get("plans", ()))]
    if steps := told_of.get("becomes"):
        lines += ["", "What would change it:"]
        lines += [
            f"  {step['verdict'].upper().replace('_', ' ')} once over: {', '.join(step['once_over'])}" for step in steps
        ]
    if told_of["unknown"]:
        lines += ["", "Could not be told:"]
        lines += [f"  {entry.get('probe') or entry.get('problem')}: {entry['why']}" for entry in told_of["unknown"]]
    if fixes := told_of.get("fixes"):
        lines += ["", *_fixes_lines(fixes)]
    if told_of["machine"].get("switched_off"):
        lines += ["", f"Not looked at, since switched off: {told_of['machine']['switched_off']}"]
    return "\n".join(lines)


EFFECTS = {
    Effect.VOIDS: "nothing is judged",
    Effect.BLOCKS: "the backup will fail",
    Effect.DEGRADES: "late or only crash-consistent",
    Effect.RISKS: "the backup may fail",
    Effect.NOTICE: "notice",
}


def _reason_lines(reason: Document) -> list[str]:
    key = f" ({reason['key']})" if reason["key"] else ""
    lines = [f"{reason['problem']}{key}: {reason['title']} [{EFFECTS[Effect(reason['effect'])]}]"]
    seen = evidence_line(reason["evidence"])
    if seen:
        lines += _wrapped(f"seen: {seen}")
    if reason["consequences"]:
        lines += _wrapped(f"hence also: {', '.join(reason['consequences'])}")
    return lines + _wrapped(reason["explain"])


def _plan_lines(reason: Document, plans: Iterable[Document]) -> list[str]:
    """What would be done for a reason: a line for each step, or why a remedy is none for this machine."""
    lines = []
    for plan in plans:
        if (plan["problem"], plan["key"]) == (reason["problem"], reason["key"]):
            as_of = f" as of {plan['as_of']}" if plan.get("as_of") else ""
            if plan["steps"]:
                lines.append(f"  {plan['remedy']} would{as_of}:")
                lines += [f"    {number}. {step}" for number, step in enumerate(plan["steps"], 1)]
            else:
                lines += _wrapped(f"{plan['remedy']} would do nothing{as_of}: {plan['why']}")
    return lines


_MODES = {
    "off": "switched off",
    "observe": "only observed; nothing is changed",
    "on": "done in the lead time of a backup, as far as fix.allow goes",
}


def _fixes_lines(fixes: Document) -> list[str]:
    words = [f"Fixes are {_MODES.get(fixes['mode'], fixes['mode'])}."]
    if fixes["paused"] and fixes["paused"].get("unread"):
        words.append(f"They count as paused, since it cannot be told whether they are: {fixes['paused']['unread']}.")
    elif fixes["paused"]:
        until = fixes["paused"]["until"] or "`backupready resume`"
        words.append(f"They are paused until {until}.")
    if fixes["mode"] == "on" and fixes["door_open"] is False:
        words.append("Nobody can be asked for one: `backupready fix --enable`.")
    if fixes["under_way"]:
        words.append(f"{fixes['under_way']} is under way.")
    if fixes["unread"]:
        words.append(f"What was done cannot be read: {fixes['unread']}.")
    lines = [" ".join(words)]
    for one in fixes["limits"]:
        until = f", until {one['until']}" if one["until"] else ""
        lines += _wrapped(f"no more for {_which(one['problem'], one['key'])}: {one['why']}{until}")
    for one in fixes["temporary"]:
        lines.append(f"  for a time: {one['change']}, until {one['until']} (attempt {one['attempt']})")
    for one in fixes["attempts"]:
        lines += _wrapped(f"attempt {one['id']}, {one['began']}, by {one['by']}: {_attempt_line(one)}")
    return lines


def _attempt_line(one: Document) -> str:
    reasons = f" ({'; '.join(one['reasons'])})" if one["reasons"] else ""
    what = f"{one['remedy']} for {_which(one['problem'], one['key'])}" if one["problem"] else one["remedy"]
    return f"{what}: {_RESULTS[Result(one['result'])]}{reasons}"


def _which(problem: str, key: str) -> str:
    return f"{problem} ({key})" if key else problem


_RESULTS = {
    Result.UNDER_WAY: "under way",
    Result.HEALED: "healed",
    Result.DONE: "done",
    Result.NOT_HEALED: "did not help, and was undone as far as possible",
    Result.WORSE: "made it worse, and was undone as far as possible",
    Result.FAILED: "failed, and was undone as far as possible",
    Result.INTERRUPTED: "interrupted, and undone as far as possible",
    Result.UNDONE: "undone",
}


def would_run(plan: Planned) -> str:
    """What would be done now, if fixes were not only observed."""
    steps = "; ".join(describe(step) for step in plan.steps)
    return f"{plan.remedy} would be done now for {_which(plan.problem, plan.key)}: {steps}"


def answered(remedy: str, problem: str, key: str, answer: Attempt | Refusal | WouldRun) -> str:
    """What the hands said to a request."""
    what = f"{remedy} for {_which(problem, key)}"
    if isinstance(answer, Attempt):
        return f"attempt {answer.id}, {_attempt_line(_attempt(answer))}"
    if isinstance(answer, Refusal):
        return f"{what} is refused ({answer.name}): {answer}"
    steps = "; ".join(describe(step) for step in answer.steps)
    return f"{what} is only observed by the hands, which would: {steps}"


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(
        words, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def evidence_line(evidence: Evidence) -> str:
    """Facts as name=value."""
    return ", ".join(f"{name}={value}" for name, value in evidence.items() if value not in (None, ""))


def explain(problem: Problem, remedies: Iterable[Remedy]) -> str:
    """The catalogue entry, for `backupready explain`; `remedies` are those for this problem, gentlest first."""
    parts = [
        ("", f"{problem.code}: {problem.title}"),
        ("Effect", f"{problem.effects} ({problem.cause.value})"),
        ("Meaning", problem.meaning),
        ("Diagnosis", problem.diagnosis),
        ("Fix", problem.fix),
        *([("Remedy", in_words(remedy)) for remedy in remedies] or [("Remedy", "none that a machine may do; advise")]),
        ("Source", problem.source),
    ]
    if problem.sightings > 1:
        parts.append(("Believed after", f"{problem.sightings} looks in a row, since {problem.patience}"))
    if problem.explains:
        parts.append(("Explains", ", ".join(problem.explains)))
    return _told(parts)


def article(problem: Problem, remedies: Iterable[Remedy]) -> tuple[tuple[str, tuple[Block, ...]], ...]:
    """The runbook's page of a problem: each heading with what stands below it. `remedies` are those for this problem,
    gentlest first."""
    believed = f"It is believed after {problem.sightings} looks in a row: {problem.patience}."
    may_do = tuple(in_runbook(remedy) for remedy in remedies)
    by_itself: tuple[Block, ...] = ("Where it is allowed, backupready may do it:", may_do) if may_do else ()
    return (
        ("Meaning", (problem.meaning, *([believed] if problem.sightings > 1 else []))),
        ("Impact", tuple(_impact(problem))),
        ("Diagnosis", (problem.diagnosis,)),
        ("Mitigation", (problem.fix, *by_itself)),
        ("Source", (f"<{problem.source}>",)),
    )


_IMPACTS = {
    Effect.VOIDS: "nothing is judged here",
    Effect.BLOCKS: "the next backup will fail",
    Effect.DEGRADES: "the next backup will only be crash-consistent, or late",
    Effect.RISKS: "the next backup may fail",
    Effect.NOTICE: "nothing happens to the next backup",
}


def _impact(problem: Problem) -> Iterator[str]:
    """The gravest first, and what else follows."""
    milder = " or ".join(_IMPACTS[effect] for effect in problem.milder)
    yield f"{_IMPACTS[problem.effect].capitalize()}." + (f" In milder cases: {milder}." if milder else "")
    if problem.explains:
        yield f"These may be no more than its consequences: {', '.join(f'`{code}`' for code in problem.explains)}."


def in_runbook(remedy: Remedy) -> str:
    """A remedy as a point of a list."""
    name, _, words = in_words(remedy).partition(": ")
    rest, _, source = words.rpartition("; ")
    return f"`{name}`: {rest} (<{source}>)"


def in_words(remedy: Remedy) -> str:
    """What a remedy does, how long it takes at worst, and where that is documented."""
    seconds = remedy.worst_case.total_seconds()
    longest = span(seconds) if seconds >= 60 else f"{seconds:.0f} s"
    restarts = ", with a restart of the agent" if remedy.restarts_agent else ""
    return f"{remedy.name}: {remedy.title}; {longest} at most{restarts}; {remedy.source}"


def explain_remedy(remedy: Remedy) -> str:
    """A documented fix, for `backupready explain`."""
    apart = span(remedy.cooldown.total_seconds())
    parts = [
        ("", f"{remedy.name}: {remedy.title}"),
        ("Takes", in_words(remedy).split("; ")[1]),
        ("For", ", ".join(remedy.problems) or "no problem: a person asks for it"),
        (
            "Tried",
            f"{remedy.attempts} times a day at most for one problem, {apart} apart",
        ),
        ("Source", remedy.source),
    ]
    return _told(parts)


def code_name(number: int) -> str:
    """What the extension calls a code of its own, empty where it has none such."""
    return CODES[number].name if number in CODES else ""


def explain_code(code: Code, known: Mapping[str, Problem]) -> str:
    """A code of the extension, for `backupready explain`; `known` are our problems by code."""
    parts = [
        ("", f"{code.number}: {code.name}"),
        ("Means", code.kind.value),
        ("Health", code.health.value),
        ("Meaning", code.meaning),
        ("In the portal", ", ".join(code.portal) or "no name is documented"),
        ("Fix", code.fix),
        ("Source", CODES_SOURCE),
        *_pointed(code.points, known),
    ]
    return _told(parts)


def explain_portal_error(error: PortalError, known: Mapping[str, Problem]) -> str:
    """An error as the portal names it, for `backupready explain`."""
    parts = [
        ("", error.name),
        ("Meaning", error.meaning),
        ("Codes of the extension", ", ".join(f"{number} ({CODES[number].name})" for number in error.codes)),
        ("Fix", error.fix),
        ("Source", PORTAL_SOURCE),
        *_pointed(error.points, known),
    ]
    return _told(part for part in parts if part[1])


def _pointed(codes: Iterable[str], known: Mapping[str, Problem]) -> Iterator[tuple[str, str]]:
    """The problems that may lie behind it, each with its title."""
    for code in codes:
        if code in known:
            yield "Points at", f"{code}: {known[code].title}"


def _told(parts: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"{name}: {words}" if name else words for name, words in parts)
