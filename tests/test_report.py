"""How a snapshot is told: as a document, as text, as one line."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import report
from backupready.model import CannotTell, Effect, Finding, ProbeState, Snapshot, Verdict
from fake import looked, probe, problem, remedy, snapshot

KNOWN = [
    probe(
        "agent",
        [
            problem("AGENT_STOPPED", remedy="restart-agent", explains=("AGENT_HUNG",)),
            problem("AGENT_HUNG"),
            problem("AGENT_OLD", effect=Effect.RISKS),
            problem("AGENT_ODD", effect=Effect.NOTICE),
        ],
    ),
    probe("wire", [problem("WIRE_CUT")]),
]
HOSTILE = "a\n[b]|\x1b[31m</pre><script>'\"\\ % {x} é\u2028"


def told(*seen: Finding | CannotTell, wire: ProbeState = ProbeState.OK, **facts: str) -> Snapshot:
    why = "" if wire is ProbeState.OK else "the wire probe is late"
    return snapshot(looked("agent", *seen), looked("wire", state=wire, why=why), known=KNOWN, facts=facts)


STOPPED = (
    Finding("AGENT_STOPPED", "unit", {"pid": 7, "log": "died", "none": None, "empty": ""}),
    Finding("AGENT_HUNG"),
)


# ---------------------------------------------------------------------------------------------------- document


def test_the_document_has_exactly_its_keys() -> None:
    """Schema 1, whose readers are other people's programs."""
    document = report.document(told(*STOPPED, Finding("AGENT_ODD"), CannotTell("dark", ("AGENT_OLD",)), name="vm1"))
    assert list(document) == [
        "schema", "verdict", "since", "checked_at", "machine", "window", "reasons", "notices", "unknown",
        "becomes", "probes",
    ]  # fmt: skip
    assert (document["schema"], document["verdict"], document["window"]) == (1, "blocked", None)
    assert document["since"] == document["checked_at"] == "2026-11-23T00:23:02Z"
    assert document["machine"] == {"name": "vm1"}
    assert document["reasons"] == [
        {
            "problem": "AGENT_STOPPED",
            "title": "title of AGENT_STOPPED",
            "key": "unit",
            "effect": "blocks",
            "state": "active",
            "since": "2026-11-23T00:23:02Z",
            "evidence": {"pid": 7, "log": "died", "none": None, "empty": ""},
            "consequences": ["AGENT_HUNG"],
            "fix": "restart-agent",
            "explain": "meaning of AGENT_STOPPED fix of AGENT_STOPPED",
        }
    ]
    assert [notice["problem"] for notice in document["notices"]] == ["AGENT_ODD"]
    assert document["unknown"] == [{"problem": "AGENT_OLD", "why": "dark"}]
    assert document["becomes"] == [{"verdict": "ready", "once_over": ["AGENT_STOPPED"]}]
    assert document["probes"] == [
        {"name": "agent", "state": "ok", "seconds": 0.25, "why": "dark"},
        {"name": "wire", "state": "ok", "seconds": 0.25, "why": ""},
    ]
    json.dumps(document)


def test_a_probe_that_could_tell_nothing_is_unknown_once() -> None:
    """Not once more for each of its problems; a defect and a probe that never looked are told as well."""
    late = report.document(told(wire=ProbeState.CANNOT_TELL))
    assert late["unknown"] == [{"probe": "wire", "why": "the wire probe is late"}]
    failed = report.document(told(wire=ProbeState.FAILED))
    assert failed["unknown"] == [{"probe": "wire", "why": "the wire probe is late"}]
    assert failed["probes"][1]["state"] == "failed"
    never = report.document(snapshot(known=KNOWN))
    assert {entry.get("probe") for entry in never["unknown"]} >= {"agent", "wire"}
    assert {run["state"] for run in never["probes"]} == {"cannot_tell"}


def test_a_probe_that_has_not_looked_yet_is_unknown_once() -> None:
    """Its problems are not listed beside it."""
    assert report.document(snapshot(known=KNOWN))["unknown"] == [
        {"probe": "agent", "why": "not looked at yet"},
        {"probe": "wire", "why": "not looked at yet"},
    ]


# -------------------------------------------------------------------------------------------------------- text


@pytest.mark.parametrize(
    "told_of",
    [
        told(),
        told(*STOPPED, Finding("AGENT_ODD", HOSTILE, {"x": HOSTILE}), name=HOSTILE),
        told(CannotTell("dark", ("AGENT_OLD",)), wire=ProbeState.FAILED, switched_off="unit"),
        snapshot(known=KNOWN),
    ],
    ids=["ready", "blocked", "unknown", "never looked"],
)
def test_a_document_tells_the_same_as_its_snapshot(told_of: Snapshot) -> None:
    """`status` prints, from the daemon's JSON, what `check` prints."""
    document = json.loads(json.dumps(report.document(told_of)))
    assert report.told(document) == report.text(told_of)
    assert report.text(told_of).splitlines()[0] == report.headline(told_of)


def test_the_whole_report() -> None:
    """Headline, reasons with what was seen and what follows, notices, what could not be told, what is switched off."""
    seen = (*STOPPED, Finding("AGENT_ODD"), CannotTell("dark", ("AGENT_OLD",)))
    assert report.text(told(*seen, wire=ProbeState.CANNOT_TELL, switched_off="unit")).splitlines() == [
        "BLOCKED · the next backup will fail · AGENT_STOPPED since 2026-11-23T00:23:02Z · fix: restart-agent",
        "",
        "AGENT_STOPPED (unit): title of AGENT_STOPPED [the backup will fail]",
        "  seen: pid=7, log=died",
        "  hence also: AGENT_HUNG",
        "  meaning of AGENT_STOPPED fix of AGENT_STOPPED",
        "",
        "Worth knowing:",
        "",
        "AGENT_ODD: title of AGENT_ODD [notice]",
        "  meaning of AGENT_ODD fix of AGENT_ODD",
        "",
        "What would change it:",
        "  UNKNOWN once over: AGENT_STOPPED",
        "",
        "Could not be told:",
        "  wire: the wire probe is late",
        "  AGENT_OLD: dark",
        "",
        "Not looked at, since switched off: unit",
    ]


def test_the_forms_of_the_headline() -> None:
    """The verdict and what follows; the gravest reason and its fix; of unknown the first reason why."""
    assert report.headline(told()) == "READY · the next backup should succeed"
    assert report.headline(told(Finding("AGENT_OLD"))) == (
        "AT RISK · the next backup may fail · AGENT_OLD since 2026-11-23T00:23:02Z · fix: advise"
    )
    assert report.headline(told(wire=ProbeState.CANNOT_TELL)) == (
        "UNKNOWN · whether the next backup will succeed cannot be told · the wire probe is late"
    )
    assert report.headline(told(Finding("AGENT_ODD"))) == "READY · the next backup should succeed"
    assert set(report.SENTENCES) == set(Verdict)


def test_long_words_are_wrapped_and_not_broken() -> None:
    """So that an address can be copied."""
    address = "https://example.com/" + "x" * 150
    text = report.text(told(Finding("AGENT_OLD", "", {"url": address, "more": "word " * 60})))
    assert f"url={address}," in text
    assert max(len(line) for line in text.splitlines() if address not in line) <= 110


def test_where_the_question_does_not_arise_there_is_one_line() -> None:
    """In every form for people; the document has it as its one reason, and nothing that could not be told."""
    where = probe("where", [problem("ELSEWHERE", effect=Effect.VOIDS)])
    seen = looked("where", Finding("ELSEWHERE", evidence={"tag": "X1", "vendor": "HP"}))
    whole = snapshot(seen, looked("agent", *STOPPED), known=[where, *KNOWN], facts={"switched_off": "unit"})
    line = "UNKNOWN · ELSEWHERE: title of ELSEWHERE · tag=X1, vendor=HP"
    assert report.text(whole) == report.headline(whole) == line
    assert report.nagios(whole) == "BACKUPREADY UNKNOWN - title of ELSEWHERE: ELSEWHERE"
    document = json.loads(json.dumps(report.document(whole)))
    assert report.told(document) == line
    assert (document["verdict"], document["notices"], document["unknown"]) == ("unknown", [], [])
    (reason,) = document["reasons"]
    assert (reason["problem"], reason["effect"], reason["consequences"]) == ("ELSEWHERE", "voids", [])


# ------------------------------------------------------------------------------------------------------ nagios


@pytest.mark.parametrize(
    ("told_of", "line"),
    [
        (told(), "BACKUPREADY OK - the next backup should succeed"),
        (told(Finding("AGENT_OLD")), "BACKUPREADY WARNING - the next backup may fail: AGENT_OLD"),
        (told(*STOPPED), "BACKUPREADY CRITICAL - the next backup will fail: AGENT_STOPPED(unit)"),
        (
            told(wire=ProbeState.FAILED),
            "BACKUPREADY UNKNOWN - whether the next backup will succeed cannot be told",
        ),
        (
            told(Finding("AGENT_OLD", "a|b=1"), Finding("AGENT_OLD", "c")),
            "BACKUPREADY WARNING - the next backup may fail: AGENT_OLD(a/b=1), AGENT_OLD(c)",
        ),
    ],
)
def test_nagios(told_of: Snapshot, line: str) -> None:
    """One line: the word that goes with the exit code, and the codes of the reasons; `|` is theirs."""
    assert report.nagios(told_of) == line


@given(key=st.text(max_size=30), fact=st.text(max_size=60), why=st.text(max_size=30))
def test_any_words_of_the_machine_can_be_told(key: str, fact: str, why: str) -> None:
    """Whatever the machine's files say: every form can be made and keeps its own form."""
    whole = told(Finding("AGENT_STOPPED", key, {"log": fact}), CannotTell(why, ("AGENT_OLD",)), name=fact)
    document = json.loads(json.dumps(report.document(whole)))
    assert report.told(document) == report.text(whole)
    assert document["reasons"][0]["evidence"] == {"log": fact}
    assert "|" not in report.nagios(whole)
    assert report.headline(replace(whole, verdict=Verdict.BLOCKED)).startswith("BLOCKED · ")


# ----------------------------------------------------------------------------------------------------- explain


def test_a_problem_is_explained_in_full() -> None:
    """Every part of the catalogue entry with its name; patience and consequences where there are any."""
    whole = problem("A_B", sightings=2, patience="it blinks", explains=("C_D", "E_F"), remedy="mend-thing")
    known = [
        remedy("mend-thing", worst_case=timedelta(minutes=6), restarts_agent=True),
        remedy("swap-thing", worst_case=timedelta(seconds=5), rung=1),
    ]
    assert report.explain(whole, known).splitlines() == [
        "A_B: title of A_B",
        "Effect: blocks (agent)",
        "Meaning: meaning of A_B",
        "Diagnosis: diagnosis of A_B",
        "Fix: fix of A_B",
        "Remedy: mend-thing: title of mend-thing; 6 min at most, with a restart of the agent; https://example/mend-thing",
        "Remedy: swap-thing: title of swap-thing; 5 s at most; https://example/swap-thing",
        "Source: source of A_B",
        "Believed after: 2 looks in a row, since it blinks",
        "Explains: C_D, E_F",
    ]
    plain = report.explain(problem("A_B"), [])
    assert "Remedy: none that a machine may do; advise" in plain
    assert "Believed after" not in plain
    assert "Explains" not in plain


def test_a_remedy_is_explained() -> None:
    """What it does and is for, how long it takes, how often it may be tried, and its source."""
    told = report.explain_remedy(remedy("mend-thing", problems=("A_B", "C_D"), attempts=2, cooldown=timedelta(hours=1)))
    assert told.splitlines() == [
        "mend-thing: title of mend-thing",
        "Takes: 10 min at most",
        "For: A_B, C_D",
        "Tried: 2 times a day at most for one problem, 1 h apart",
        "Source: https://example/mend-thing",
    ]
    assert "For: no problem: a person asks for it" in report.explain_remedy(remedy("ask-thing", problems=()))


def test_moments_are_utc_to_the_second() -> None:
    """RFC 3339 with a Z, whatever zone the machine is in."""
    assert report.iso(0.9) == "1970-01-01T00:00:00Z"
