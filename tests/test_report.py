"""How a snapshot is told: as a document, as text, as one line."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import report
from backupready.model import (
    Attempt,
    CannotTell,
    Effect,
    Finding,
    Fixes,
    Happened,
    LearnedSchedule,
    Limit,
    Outlook,
    Pause,
    Phase,
    Planned,
    Planning,
    Prediction,
    ProbeState,
    Refusal,
    ResetFailed,
    RestartUnit,
    Result,
    Snapshot,
    Temporary,
    Verdict,
    Window,
    WouldRun,
)
from fake import NOW, looked, probe, problem, remedy, snapshot

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
        "becomes", "probes", "fixes", "plans",
    ]  # fmt: skip
    assert (document["fixes"], document["plans"]) == (None, [])
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
        {"name": "agent", "state": "ok", "seconds": 0.25, "why": "dark", "last_look": "2026-11-23T00:23:02Z"},
        {"name": "wire", "state": "ok", "seconds": 0.25, "why": "", "last_look": "2026-11-23T00:23:02Z"},
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


def test_a_daemon_that_is_just_starting_says_so() -> None:
    """As long as there is a probe that has not looked; where the question does not arise, none is waited for."""
    never = report.document(snapshot(known=KNOWN))
    assert report.not_yet(never) == 2
    assert report.told(never).splitlines()[1] == "It is just starting: 2 of 2 probes have not looked yet."
    assert report.not_yet(report.document(snapshot(looked("agent"), known=KNOWN))) == 1
    late = report.document(told(wire=ProbeState.CANNOT_TELL))
    assert report.not_yet(late) == 0
    assert "just starting" not in report.told(late)
    for run in never["probes"]:
        del run["last_look"]  # of a daemon before this
    assert report.not_yet(never) == 0
    assert report.not_yet({**report.document(snapshot(known=KNOWN)), "unknown": []}) == 0


def test_a_probe_that_has_not_looked_yet_is_unknown_once() -> None:
    """Its problems are not listed beside it."""
    assert report.document(snapshot(known=KNOWN))["unknown"] == [
        {"probe": "agent", "why": "not looked at yet"},
        {"probe": "wire", "why": "not looked at yet"},
    ]


def fixed(**planning: Any) -> Snapshot:
    """Three problems; for two of them something would be done, and something was."""
    fixes = Fixes(
        NOW,
        attempts=tuple(
            Attempt(
                n, "restart-agent", "AGENT_STOPPED", "unit", "mind", NOW + n, Result.NOT_HEALED, NOW + n + 9, ("x",)
            )
            for n in range(1, 8)
        ),
        temporary=(Temporary(8, "Logs.Verbose=y", NOW + 7200),),
        limits=(Limit("AGENT_STOPPED", "unit", "restart-agent", "done thrice", NOW + 3600),),
    )
    plans = (
        Planned("restart-agent", "AGENT_STOPPED", "unit", (ResetFailed("a.service"), RestartUnit("a.service"))),
        Planned("update-agent", "AGENT_OLD", "", (), "it updates itself"),
    )
    seen = (*STOPPED, Finding("AGENT_OLD"))
    return replace(told(*seen), fixes=fixes, plans=plans, planning=Planning(**{"mode": "observe", **planning}))


def test_the_document_has_the_fixes_and_the_plans() -> None:
    """The newest five attempts, newest first, and the steps in words."""
    document = report.document(fixed(paused=Pause(NOW + 60), door_open=False, under_way="x"))
    fixes = document["fixes"]
    assert list(fixes) == [
        "mode", "paused", "door_open", "under_way", "unread", "attempts", "limits", "temporary"
    ]  # fmt: skip
    assert (fixes["mode"], fixes["door_open"], fixes["under_way"], fixes["unread"]) == ("observe", False, "x", None)
    assert fixes["paused"] == {"until": "2026-11-23T00:24:02Z", "unread": None}
    assert [one["id"] for one in fixes["attempts"]] == [7, 6, 5, 4, 3]
    assert fixes["attempts"][0] == {
        "id": 7, "remedy": "restart-agent", "problem": "AGENT_STOPPED", "key": "unit", "by": "mind",
        "began": "2026-11-23T00:23:09Z", "ended": "2026-11-23T00:23:18Z", "result": "not_healed", "reasons": ["x"],
        "left": [],
    }  # fmt: skip
    assert fixes["limits"] == [
        {"problem": "AGENT_STOPPED", "key": "unit", "remedy": "restart-agent", "why": "done thrice",
         "until": "2026-11-23T01:23:02Z"}
    ]  # fmt: skip
    assert fixes["temporary"] == [{"attempt": 8, "change": "Logs.Verbose=y", "until": "2026-11-23T02:23:02Z"}]
    assert document["plans"] == [
        {"remedy": "restart-agent", "problem": "AGENT_STOPPED", "key": "unit", "why": "",
         "steps": ["reset the count of failures of a.service", "restart a.service"], "as_of": None},
        {"remedy": "update-agent", "problem": "AGENT_OLD", "key": "", "why": "it updates itself", "steps": [],
         "as_of": None},
    ]  # fmt: skip
    assert report.document(fixed(paused=Pause()))["fixes"]["paused"] == {"until": None, "unread": None}
    json.dumps(document)


# -------------------------------------------------------------------------------------------------------- text


def test_fixes_are_told() -> None:
    """Under each reason what would be done, a line a step; then mode, limits, temporary changes and attempts."""
    lines = report.text(fixed()).splitlines()
    assert lines[0].endswith(" · fix: restart-agent (observe)")
    place = lines.index("  restart-agent would:")
    assert lines[place + 1 : place + 3] == [
        "    1. reset the count of failures of a.service",
        "    2. restart a.service",
    ]
    assert "  update-agent would do nothing: it updates itself" in lines
    place = lines.index("Fixes are only observed; nothing is changed.")
    assert lines[place + 1 : place + 5] == [
        "  no more for AGENT_STOPPED (unit): done thrice, until 2026-11-23T01:23:02Z",
        "  for a time: Logs.Verbose=y, until 2026-11-23T02:23:02Z (attempt 8)",
        "  attempt 7, 2026-11-23T00:23:09Z, by mind: restart-agent for AGENT_STOPPED (unit): did not help, and was",
        "    undone as far as possible (x)",
    ]
    assert sum(line.startswith("  attempt ") for line in lines) == 5


def test_an_old_plan_is_told_with_its_moment() -> None:
    """The machine may be another since; also of one that does nothing."""
    whole = fixed()
    lines = report.text(replace(whole, plans=tuple(replace(one, as_of=NOW) for one in whole.plans))).splitlines()
    assert "  restart-agent would as of 2026-11-23T00:23:02Z:" in lines
    assert "  update-agent would do nothing as of 2026-11-23T00:23:02Z: it updates itself" in lines


@pytest.mark.parametrize(
    ("planning", "said"),
    [
        ({"mode": "off"}, "Fixes are switched off."),
        ({"mode": "on", "door_open": True}, "Fixes are done in the lead time of a backup, as far as fix.allow goes."),
        ({"mode": "on", "door_open": False}, "Nobody can be asked for one: `backupready fix --enable`."),
        ({"paused": Pause(NOW)}, "They are paused until 2026-11-23T00:23:02Z."),
        ({"paused": Pause()}, "They are paused until `backupready resume`."),
        (
            {"paused": Pause(unread="x has not answered for 10 s")},
            "They count as paused, since it cannot be told whether they are: x has not answered for 10 s.",
        ),
        ({"under_way": "restart-agent"}, "restart-agent is under way."),
        ({"unread": "it is torn"}, "What was done cannot be read: it is torn."),
    ],
)
def test_the_mode_is_told_with_what_stands_in_its_way(planning: dict[str, Any], said: str) -> None:
    """Each in a sentence."""
    assert said in report.text(fixed(**planning))


def test_what_nobody_can_mend_is_advised() -> None:
    """In every mode."""
    whole = replace(told(Finding("AGENT_OLD")), planning=Planning("on"))
    assert report.headline(whole).endswith(" · fix: advise")


def test_what_the_hands_say_is_told_in_a_line() -> None:
    """An attempt with its end, a refusal with its term, and what was only observed."""
    which = "restart-agent", "AGENT_STOPPED", "unit"
    attempt = Attempt(3, *which, "mind", NOW, Result.HEALED, NOW + 5)
    assert report.answered(*which, attempt) == "attempt 3, restart-agent for AGENT_STOPPED (unit): healed"
    refusal = Refusal("cooldown", "it was just done", NOW, "wait")
    assert report.answered(*which, refusal) == (
        "restart-agent for AGENT_STOPPED (unit) is refused (cooldown): it was just done, until 2026-11-23T00:23:02Z;"
        " wait"
    )
    observed = report.answered(*which, WouldRun((RestartUnit("a.service"),)))
    assert observed.endswith("is only observed by the hands, which would: restart a.service")
    assert report.would_run(Planned(*which, (RestartUnit("a.service"),))) == (
        "restart-agent would be done now for AGENT_STOPPED (unit): restart a.service"
    )


def test_every_result_has_its_words() -> None:
    """The set is closed."""
    for result in Result:
        attempt = Attempt(1, "mend", "X", "", "mind", NOW, result)
        assert report.answered("mend", "X", "", attempt).startswith("attempt 1, mend for X: ")


def test_a_document_of_an_older_daemon_is_told() -> None:
    """One without fixes."""
    document = report.document(fixed())
    del document["fixes"], document["plans"]
    assert report.told(document).splitlines()[0].endswith("fix: restart-agent")


@pytest.mark.parametrize(
    "told_of",
    [
        told(),
        told(*STOPPED, Finding("AGENT_ODD", HOSTILE, {"x": HOSTILE}), name=HOSTILE),
        told(CannotTell("dark", ("AGENT_OLD",)), wire=ProbeState.FAILED, switched_off="unit"),
        snapshot(known=KNOWN),
        fixed(mode="on", paused=Pause(), door_open=False),
    ],
    ids=["ready", "blocked", "unknown", "never looked", "fixed"],
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


# ----------------------------------------------------------------------------------------------------- windows

HOUR, DAY = 3600.0, 86400.0
BERLIN = "Europe/Berlin"
AT = NOW + 58.0  # Monday 01:24 in Berlin, 00:24 in UTC


def window(start: float, zone: str = BERLIN, learned: bool = False) -> Window:
    return Window(start, start + 2.5 * HOUR, f"daily at some time in {zone}", learned, zone)


def forward(coming: Window, phase: Phase = Phase.LEAD, **changes: object) -> Outlook:
    """What is known while this window is the one that is spoken of."""
    plain = Outlook(AT, phase, coming, (coming,), lead=4 * HOUR, expected_interval=DAY, configured=True)
    return replace(plain, **changes)  # type: ignore[arg-type]


def with_outlook(outlook: Outlook | None, *seen: Finding | CannotTell, wire: ProbeState = ProbeState.OK) -> Snapshot:
    return replace(told(*seen, wire=wire), outlook=outlook)


def since(whole: Snapshot, moment: float) -> Snapshot:
    return replace(whole, reasons=tuple(replace(reason, since=moment) for reason in whole.reasons))


LATER = window(AT + 3.2 * HOUR)
OLD = Finding("AGENT_OLD")


@pytest.mark.parametrize(
    ("whole", "line"),
    [
        (
            since(with_outlook(forward(LATER), *STOPPED), AT - HOUR),
            ("BLOCKED · next backup Mon 04:36 CET (in 3 h 12 min) will fail · AGENT_STOPPED since 00:24"
            " · fix: restart-agent"),
        ),
        (
            since(with_outlook(forward(LATER), OLD), AT - 2 * HOUR),
            (
                "AT RISK · next backup Mon 04:36 CET (in 3 h 12 min) may fail"
                " · AGENT_OLD since Sun 23:24 CET · fix: advise"
            ),
        ),
        (
            since(with_outlook(forward(LATER), OLD), AT - 7 * DAY),
            ("AT RISK · next backup Mon 04:36 CET (in 3 h 12 min) may fail"
            " · AGENT_OLD since Mon 16 Nov 2026 01:24 CET · fix: advise"),
        ),
        (
            with_outlook(forward(window(AT - 0.4 * HOUR), Phase.OPEN)),
            "READY · the backup of Mon 01:00 CET, now open, should succeed",
        ),
        (
            with_outlook(forward(window(AT), Phase.OPEN)),
            "READY · the backup of Mon 01:24 CET, now open, should succeed",
        ),
        (
            with_outlook(forward(LATER), wire=ProbeState.CANNOT_TELL),
            ("UNKNOWN · next backup Mon 04:36 CET (in 3 h 12 min): whether it will succeed cannot be told"
            " · the wire probe is late"),
        ),
        (
            with_outlook(forward(window(AT, "UTC"), Phase.OPEN), wire=ProbeState.CANNOT_TELL),
            ("UNKNOWN · the backup of Mon 00:24 UTC, now open: whether it will succeed cannot be told"
            " · the wire probe is late"),
        ),
        (
            with_outlook(forward(window(AT + HOUR, "America/St_Johns"))),
            "READY · next backup Sun 21:54 NST (in 1 h) should succeed",
        ),
        (
            with_outlook(forward(window(AT + HOUR, "Moon/Base"))),
            "READY · next backup Mon 01:24 UTC (in 1 h) should succeed",
        ),
        (
            with_outlook(forward(window(AT + 6.5 * DAY), Phase.IDLE)),
            "READY · next backup Sun 29 Nov 2026 13:24 CET (in 6 d 12 h) should succeed",
        ),
        (with_outlook(Outlook(AT)), "READY · the next backup should succeed"),
        (with_outlook(None), "READY · the next backup should succeed"),
    ],
    ids=[
        "today", "yesterday", "a week ago", "open", "opens", "unknown", "unknown and open", "another zone", "no zone",
        "far away", "no window", "nothing",
    ],
)  # fmt: skip
def test_the_headline_speaks_of_the_window(whole: Snapshot, line: str) -> None:
    """In the time of its schedule's zone, and for monitoring plugins without what follows."""
    assert report.headline(whole) == line
    assert report.told(json.loads(json.dumps(report.document(whole)))).splitlines()[0] == line
    sentence = line.split(" · ")[1]
    assert sentence in report.nagios(whole)


def test_the_headline_of_a_machine_elsewhere_has_no_window() -> None:
    """There is no backup to speak of."""
    where = probe("where", [problem("ELSEWHERE", effect=Effect.VOIDS)])
    whole = snapshot(looked("where", Finding("ELSEWHERE")), known=[where, *KNOWN])
    whole = replace(whole, outlook=forward(LATER))
    assert report.headline(whole) == "UNKNOWN · ELSEWHERE: title of ELSEWHERE"
    assert report.document(whole)["becomes"] == []
    assert report.nagios(whole) == "BACKUPREADY UNKNOWN - title of ELSEWHERE: ELSEWHERE"


PREDICTIONS = (
    Prediction(AT - 2 * DAY, AT - 2 * DAY - 5, Verdict.READY, (), Happened.SUCCEEDED, AT - DAY),
    Prediction(AT - DAY, AT - DAY - 5, Verdict.AT_RISK, ("AGENT_OLD", "X_Y"), Happened.MISSED, AT),
    Prediction(AT - HOUR, AT - HOUR - 5, Verdict.BLOCKED, ("AGENT_STOPPED",)),
)


def test_the_document_tells_of_the_windows() -> None:
    """The one that is spoken of, those to come, what was predicted of past ones, and what is learned; in UTC."""
    learned = LearnedSchedule("daily at 22:00 in UTC", 0.876, (AT - DAY,))
    outlook = forward(LATER, learned=(learned,), predictions=PREDICTIONS)
    assert report.document(with_outlook(outlook))["window"] == {
        "phase": "lead",
        "source": "configured",
        "next": {
            "start": "2026-11-23T03:36:00Z",
            "end": "2026-11-23T06:06:00Z",
            "local": "Mon 04:36 CET",
            "in_seconds": 11520,
            "schedule": "daily at some time in Europe/Berlin",
            "zone": "Europe/Berlin",
        },
        "upcoming": [report.document(with_outlook(outlook))["window"]["next"]],
        "lead_seconds": 4 * HOUR,
        "expected_interval_seconds": DAY,
        "learned": [
            {"schedule": "daily at 22:00 in UTC", "confidence": 0.88, "runs": ["2026-11-22T00:24:00Z"]},
        ],
        "predictions": [
            {
                "window": "2026-11-21T00:24:00Z",
                "made": "2026-11-21T00:23:55Z",
                "predicted": "ready",
                "reasons": [],
                "happened": "succeeded",
            },
            {
                "window": "2026-11-22T00:24:00Z",
                "made": "2026-11-22T00:23:55Z",
                "predicted": "at_risk",
                "reasons": ["AGENT_OLD", "X_Y"],
                "happened": "missed",
            },
            {
                "window": "2026-11-22T23:24:00Z",
                "made": "2026-11-22T23:23:55Z",
                "predicted": "blocked",
                "reasons": ["AGENT_STOPPED"],
                "happened": None,
            },
        ],
    }
    learned_only = replace(outlook, configured=False)
    assert report.document(with_outlook(learned_only))["window"]["source"] == "learned"
    assert report.document(with_outlook(Outlook(AT)))["window"]["source"] is None


def test_the_windows_in_words() -> None:
    """Each in its own time and in UTC, where they are from, the phase, and how the past was predicted."""
    learned = LearnedSchedule("daily at 22:00 in UTC", 0.876, (AT - 2 * DAY, AT - DAY))
    coming = (LATER, replace(LATER, start=LATER.start + DAY))
    outlook = forward(LATER, upcoming=coming, learned=(learned,), predictions=PREDICTIONS)
    assert report.windows(report.document(with_outlook(outlook))).splitlines() == [
        "Mon 04:36 CET  2026-11-23T03:36:00Z  in 3 h 12 min  daily at some time in Europe/Berlin",
        "Tue 04:36 CET  2026-11-24T03:36:00Z  in 1 d 3 h  daily at some time in Europe/Berlin",
        "These are configured. A backup may start up to the end of its window.",
        "Phase now: lead (the time before a window in which something can still be done).",
        "Past backups suggest: daily at 22:00 in UTC (confidence 0.88, from 2 backups)",
        "Window of 2026-11-21T00:24:00Z: predicted ready; it succeeded",
        "Window of 2026-11-22T00:24:00Z: predicted at risk (AGENT_OLD, X_Y); it passed without a backup",
        "Window of 2026-11-22T23:24:00Z: predicted blocked (AGENT_STOPPED); not known yet",
    ]
    assert report.windows(report.document(with_outlook(Outlook(AT)))).splitlines() == [
        "The next windows are not known: neither configured in [window], nor learned from past backups.",
        "Phase now: idle (nothing is near).",
    ]
    assert "These are learned." in report.windows(report.document(with_outlook(replace(outlook, configured=False))))


def test_every_phase_and_outcome_has_words() -> None:
    """So that none of them is a crash in a year's time."""
    assert set(report.PHASES) == set(Phase)
    told_of = {report.prediction_line(replace(PREDICTIONS[2], happened=happened)) for happened in Happened}
    assert len(told_of) == len(Happened)


def test_the_document_of_an_older_daemon_can_be_told() -> None:
    """It has neither windows nor what would change the verdict."""
    document = report.document(told(*STOPPED))
    older = {name: value for name, value in document.items() if name not in ("window", "becomes")}
    assert report.told(older).splitlines()[0] == report.headline(told(*STOPPED))
    assert "What would change it" not in report.told(older)
    assert report.windows(older) == "The next windows are not known."


@pytest.mark.parametrize(
    ("whole", "steps"),
    [
        (told(), []),
        (told(Finding("AGENT_ODD")), []),
        (told(*STOPPED), [("ready", ["AGENT_STOPPED"])]),
        (told(*STOPPED, OLD), [("at_risk", ["AGENT_STOPPED"]), ("ready", ["AGENT_OLD"])]),
        (told(Finding("AGENT_OLD", "a"), Finding("AGENT_OLD", "b")), [("ready", ["AGENT_OLD"])]),
        (told(Finding("AGENT_STOPPED"), wire=ProbeState.FAILED), [("unknown", ["AGENT_STOPPED"])]),
        (told(*STOPPED, OLD, wire=ProbeState.FAILED), [("unknown", ["AGENT_STOPPED"])]),
        (told(OLD, wire=ProbeState.FAILED), []),
        (told(*STOPPED, CannotTell("dark", ("AGENT_OLD",))), [("ready", ["AGENT_STOPPED"])]),
        (snapshot(known=KNOWN), []),
    ],
    ids=[
        "ready", "a notice", "blocked", "two steps", "two keys", "doubtful", "doubtful, two", "unknown already",
        "a doubtful risk", "never looked",
    ],
)  # fmt: skip
def test_what_would_change_the_verdict(whole: Snapshot, steps: list[tuple[str, list[str]]]) -> None:
    """Gravest first; each step is another verdict, and what is unknown is not called healthy on the way."""
    assert [(step["verdict"], step["once_over"]) for step in report.becomes(whole)] == steps


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "less than a minute"),
        (29, "less than a minute"),
        (31, "1 min"),
        (59 * 60 + 31, "1 h"),
        (3 * HOUR + 12 * 60, "3 h 12 min"),
        (DAY, "1 d"),
        (2 * DAY + 5 * HOUR + 60, "2 d 5 h"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    """As people say them."""
    assert report.span(seconds) == words


@given(words=st.text(max_size=40), start=st.floats(0, 4e9), zone=st.text(max_size=30))
def test_any_words_of_a_window_can_be_told(words: str, start: float, zone: str) -> None:
    """Whatever the time zone is called and whenever it is."""
    outlook = forward(Window(start, start + HOUR, words, False, zone), predictions=PREDICTIONS)
    document = json.loads(json.dumps(report.document(with_outlook(outlook, *STOPPED))))
    assert report.told(document) == report.text(with_outlook(outlook, *STOPPED))
    assert words in report.windows(document)


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


def test_a_problems_article_has_what_a_runbook_has() -> None:
    """Meaning, impact, diagnosis, mitigation and source, in this order; what there is not is left out."""
    whole = problem(
        "A_B", Effect.BLOCKS, milder=(Effect.RISKS,), sightings=2, patience="it blinks", explains=("C_D", "E_F")
    )
    mends = remedy("mend-thing", worst_case=timedelta(minutes=6))
    assert report.article(whole, [mends]) == (
        ("Meaning", ("meaning of A_B", "It is believed after 2 looks in a row: it blinks.")),
        (
            "Impact",
            (
                "The next backup will fail. In milder cases: the next backup may fail.",
                "These may be no more than its consequences: `C_D`, `E_F`.",
            ),
        ),
        ("Diagnosis", ("diagnosis of A_B",)),
        (
            "Mitigation",
            (
                "fix of A_B",
                "Where it is allowed, backupready may do it:",
                ("`mend-thing`: title of mend-thing; 6 min at most (<https://example/mend-thing>)",),
            ),
        ),
        ("Source", ("<source of A_B>",)),
    )
    plain = dict(report.article(problem("A_B", Effect.NOTICE), []))
    assert plain["Meaning"] == ("meaning of A_B",)
    assert plain["Mitigation"] == ("fix of A_B",)
    assert plain["Impact"] == ("Nothing happens to the next backup.",)


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
