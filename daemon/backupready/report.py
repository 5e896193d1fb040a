"""How is a snapshot told? As one JSON document for programs, and as text for people."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from backupready.model import BeliefState, Effect, Evidence, ProbeState, Problem, Reason, Snapshot, Verdict
from backupready.vmsnapshot import CODES, CODES_SOURCE, PORTAL_SOURCE, Code, PortalError

SCHEMA = 1
_WIDTH = 110  # columns
Document = Mapping[str, Any]

SENTENCES = {
    Verdict.READY: "the next backup should succeed",
    Verdict.AT_RISK: "the next backup may fail",
    Verdict.DEGRADED: "the next backup will be late or only crash-consistent",
    Verdict.BLOCKED: "the next backup will fail",
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
        "window": None,
        "reasons": [_reason(reason) for reason in snapshot.reasons],
        "notices": [_reason(notice) for notice in snapshot.notices],
        "unknown": unknown(snapshot),
        "probes": [
            {
                "name": run.name,
                "state": run.state.value if run.state else ProbeState.CANNOT_TELL.value,
                "seconds": round(run.seconds, 3),
                "why": run.why,
            }
            for run in snapshot.probes
        ],
    }


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


# -------------------------------------------------------------------------------------------------------- text


def headline(snapshot: Snapshot) -> str:
    """One line: the verdict, what follows, and the gravest reason."""
    return _headline(document(snapshot))


def _headline(told_of: Document) -> str:
    verdict = Verdict(told_of["verdict"])
    words = [verdict.value.upper().replace("_", " "), SENTENCES[verdict]]
    if void := _void(told_of):
        words[1:] = filter(None, (f"{void['problem']}: {void['title']}", evidence_line(void["evidence"])))
    elif told_of["reasons"]:
        first = told_of["reasons"][0]
        words.append(f"{first['problem']} since {first['since']}")
        words.append(f"fix: {first['fix'] or 'advise'}")
    elif verdict is Verdict.UNKNOWN:
        words += [entry["why"] for entry in told_of["unknown"][:1]]
    return " · ".join(words)


def _void(told_of: Document) -> Document | None:
    """The reason that the question does not arise here, if there is one; it is the gravest."""
    return next((reason for reason in told_of["reasons"] if reason["effect"] == Effect.VOIDS.value), None)


def nagios(snapshot: Snapshot) -> str:
    """One line in the Nagios plugins' manner, without the separator that they reserve."""
    words = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[snapshot.verdict.exit_code]
    codes = ", ".join(f"{r.problem.code}{f'({r.key})' if r.key else ''}" for r in snapshot.reasons)
    sentence = snapshot.reasons[0].problem.title if snapshot.void else SENTENCES[snapshot.verdict]
    return f"BACKUPREADY {words} - {sentence}{f': {codes}' if codes else ''}".replace("|", "/")


def text(snapshot: Snapshot) -> str:
    """The whole report for a terminal."""
    return told(document(snapshot))


def told(told_of: Document) -> str:
    """The same from the JSON document, as it comes from a running daemon."""
    lines = [_headline(told_of)]
    if _void(told_of):
        return lines[0]
    for title, reasons in (("", told_of["reasons"]), ("Worth knowing:", told_of["notices"])):
        if reasons and title:
            lines += ["", title]
        for reason in reasons:
            lines += ["", *_reason_lines(reason)]
    if told_of["unknown"]:
        lines += ["", "Could not be told:"]
        lines += [f"  {entry.get('probe') or entry.get('problem')}: {entry['why']}" for entry in told_of["unknown"]]
    if told_of["machine"].get("switched_off"):
        lines += ["", f"Not looked at, since switched off: {told_of['machine']['switched_off']}"]
    return "\n".join(lines)


_EFFECTS = {
    Effect.VOIDS: "nothing is judged",
    Effect.BLOCKS: "the backup will fail",
    Effect.DEGRADES: "late or only crash-consistent",
    Effect.RISKS: "the backup may fail",
    Effect.NOTICE: "notice",
}


def _reason_lines(reason: Document) -> list[str]:
    key = f" ({reason['key']})" if reason["key"] else ""
    lines = [f"{reason['problem']}{key}: {reason['title']} [{_EFFECTS[Effect(reason['effect'])]}]"]
    seen = evidence_line(reason["evidence"])
    if seen:
        lines += _wrapped(f"seen: {seen}")
    if reason["consequences"]:
        lines += _wrapped(f"hence also: {', '.join(reason['consequences'])}")
    return lines + _wrapped(reason["explain"])


def _wrapped(words: str) -> list[str]:
    return textwrap.wrap(
        words, _WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def evidence_line(evidence: Evidence) -> str:
    """Facts as name=value."""
    return ", ".join(f"{name}={value}" for name, value in evidence.items() if value not in (None, ""))


def explain(problem: Problem) -> str:
    """The catalogue entry, for `backupready explain`."""
    parts = [
        ("", f"{problem.code}: {problem.title}"),
        ("Effect", f"{problem.effects} ({problem.cause.value})"),
        ("Meaning", problem.meaning),
        ("Diagnosis", problem.diagnosis),
        ("Fix", problem.fix),
        ("Remedy", problem.remedy or "none that a machine may do; advise"),
        ("Source", problem.source),
    ]
    if problem.sightings > 1:
        parts.append(("Believed after", f"{problem.sightings} looks in a row, since {problem.patience}"))
    if problem.explains:
        parts.append(("Explains", ", ".join(problem.explains)))
    return _told(parts)


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
