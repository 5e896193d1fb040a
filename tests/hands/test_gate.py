"""The gate: each refusal by name, when it lifts, and the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from backupready.hands import gate
from backupready.hands.gate import Request, Sight, Situation
from backupready.hands.ledger import Line, Moment
from backupready.model import (
    CannotTell,
    Finding,
    Machine,
    NotNow,
    Outlook,
    Pause,
    Phase,
    Refusal,
    Remedy,
    RestartUnit,
    SetConfigKey,
    StartUnit,
    Step,
    Unsuitable,
    Wait,
    Window,
)
from backupready.plan import longest

NOW = Moment(1_000_000.0, "one", 50_000.0)
HOUR, DAY = 3600.0, 86400.0
WINDOW = Window(NOW.wall + 2 * HOUR, NOW.wall + 4 * HOUR, "daily")
LEAD = Outlook(NOW.wall, Phase.LEAD, WINDOW, lead=3 * HOUR)
PROBLEM = "AGENT_STOPPED"
STEPS: tuple[Step, ...] = (RestartUnit("walinuxagent.service"),)


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    yield from STEPS


REMEDY = Remedy(
    "restart-agent",
    "Restart the agent",
    (PROBLEM, "AGENT_HUNG"),
    plan,
    worst_case=timedelta(minutes=6),
    settle=timedelta(minutes=4),
    source="https://example.com",
)
REQUEST = Request("restart-agent", PROBLEM, "", seen=NOW.wall - 30.0)
PERSON = Request("restart-agent", PROBLEM, "", by="root")
GOOD = Situation(
    mode="on",
    allow=("restart-agent",),
    user=0,
    outlook=LEAD,
    evidence_since=NOW.wall - DAY,
    sight=Sight(frozenset({(PROBLEM, "")})),
    plan=STEPS,
)


def asked(
    request: Request = REQUEST, lines: tuple[Line, ...] = (), now: Moment = NOW, remedy: Remedy = REMEDY, **facts: Any
) -> Refusal | None:
    return gate.check(remedy, request, replace(GOOD, **facts), lines, now)


def refused(*arguments: Any, **keywords: Any) -> Refusal:
    refusal = asked(*arguments, **keywords)
    assert refusal is not None
    assert refusal.why
    assert refusal.lift
    assert str(refusal).startswith(refusal.why)
    return refusal


def begun(
    *ages: float, remedy: str = "restart-agent", problem: str = PROBLEM, key: str = "", cleared: bool = True
) -> tuple[Line, ...]:
    """Attempts that have ended, so many seconds ago, and whose problem was clear afterwards."""
    lines: list[Line] = []
    for age in sorted(ages, reverse=True):
        at = Moment(NOW.wall - age, "one", NOW.up - age)
        about = {"attempt": int(age), "remedy": remedy, "problem": problem, "key": key, "by": "mind"}
        lines.append(Line("started", at, about))
        lines.append(
            Line("ended", at, {"attempt": int(age), "result": "healed", "reasons": [], "undone": [], "left": []})
        )
        if cleared:
            lines.append(Line("clear", at, {"problem": problem, "key": key}))
    return tuple(lines)


def test_nothing_is_against_a_fix_that_is_asked_for_in_lead() -> None:
    """By the mind and by a person."""
    assert asked() is None
    assert asked(PERSON) is None


# ----------------------------------------------------------------------------------------------- each by its name


def test_mode_off() -> None:
    """Also for a person; `observe` passes, since nothing is done then."""
    assert refused(mode="off").name == "mode_off"
    assert refused(PERSON, mode="off").name == "mode_off"
    assert refused(mode="whatever").name == "mode_off"
    assert asked(mode="observe") is None


def test_not_opted_in() -> None:
    """Each remedy by its name; what is only observed needs none."""
    assert refused(allow=("enable-agent",)).name == "not_opted_in"
    assert refused(PERSON, allow=()).name == "not_opted_in"
    assert asked(allow=(), mode="observe") is None


def test_guarded() -> None:
    """By an alert that fires, or one that cannot be asked for; a person takes that on himself."""
    assert refused(guard="the alert NodeDown fires").name == "guarded"
    assert refused(guard=CannotTell("the guard does not answer")).name == "guarded"
    assert asked(PERSON, guard="the alert NodeDown fires") is None


def test_paused() -> None:
    """Until a time, or until somebody ends it."""
    refusal = refused(paused=Pause(NOW.wall + HOUR))
    assert (refusal.name, refusal.until) == ("paused", NOW.wall + HOUR)
    assert "until 1970-01-12T14:46:40Z" in str(refusal)
    assert refused(PERSON, paused=Pause()).until is None
    assert refused(paused=Pause(None, "patching")).why == "fixes are paused: patching"


def test_not_root() -> None:
    """Whoever else the process runs as."""
    assert refused(user=1000).name == "not_root"


@pytest.mark.parametrize(
    ("phase", "until"),
    [
        (Phase.IDLE, WINDOW.start - 3 * HOUR),
        (Phase.HOLD, WINDOW.end),
        (Phase.OPEN, WINDOW.end),
    ],
)
def test_phase(phase: Phase, until: float) -> None:
    """Only in lead, unless a person asks; in an open window for nobody."""
    outlook = replace(LEAD, phase=phase)
    refusal = refused(outlook=outlook)
    assert (refusal.name, refusal.until) == ("phase", until)
    again = asked(PERSON, outlook=outlook)
    assert (again is not None and again.name == "phase") == (phase is Phase.OPEN)


def test_deadline() -> None:
    """All steps, settling, the looks and the evidence fit before the window to the second, also for a person; and time
    enough to start the agent again, if it does not come back."""
    needed = 600.0 + 4 * 60.0 + 30.0 + 100.0
    fits = replace(LEAD, window=replace(WINDOW, start=NOW.wall + needed))
    late = replace(LEAD, window=replace(WINDOW, start=NOW.wall + needed - 1.0))
    assert asked(outlook=fits) is None
    for request in (REQUEST, PERSON):
        refusal = refused(request, outlook=late)
        assert (refusal.name, refusal.until) == ("deadline", WINDOW.end)
    assert "0:16:10" in refusal.why
    assert "0:16:09" in refusal.why


def test_the_deadline_counts_the_undoing_of_what_was_changed() -> None:
    """After an edit the agent would be restarted once more; what only waits costs no time then."""
    edit: tuple[Step, ...] = (SetConfigKey("Logs.Verbose", "y"), *STEPS, Wait("config/HandlerState", "Enabled", 400.0))
    start = NOW.wall + 600.0 + 4 * 60.0 + 30.0 + longest([*edit[:1], StartUnit("a.service"), *STEPS])
    assert asked(plan=edit, outlook=replace(LEAD, window=replace(WINDOW, start=start))) is None
    assert refused(plan=edit, outlook=replace(LEAD, window=replace(WINDOW, start=start - 1.0))).name == "deadline"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("paused", {"paused": Pause(None, "patching")}),
        ("snapshot_running", {"snapshot": "safefreeze runs"}),
        ("phase", {"outlook": replace(LEAD, phase=Phase.OPEN)}),
        ("deadline", {"outlook": replace(LEAD, window=replace(WINDOW, start=NOW.wall + 300.0))}),
        ("agent_busy", {"agent_busy": "it installs an extension"}),
        ("locked", {"locked": "dpkg"}),
        ("", {"mode": "off", "allow": (), "guard": "an alert fires", "outlook": Outlook(NOW.wall)}),
        ("", {name: CannotTell("no answer") for name in ("snapshot", "agent_busy", "locked")}),
    ],
)
def test_what_holds_up_an_ending(name: str, facts: dict[str, Any]) -> None:
    """What was begun, or is over, waits for the same that would refuse a person's fix, and for nothing that cannot be
    found out; what may be begun is another matter."""
    assert gate.hold(GOOD, STEPS, NOW) == ()
    refusals = gate.hold(replace(GOOD, **facts), STEPS, NOW)
    assert [refusal.name for refusal in refusals] == ([name] if name else [])


def test_all_that_holds_up_an_ending_is_told() -> None:
    """So that one that does not count for somebody hides no other."""
    facts = replace(GOOD, paused=Pause(), locked="dpkg", outlook=replace(LEAD, phase=Phase.OPEN))
    assert [refusal.name for refusal in gate.hold(facts, STEPS, NOW)] == ["paused", "phase", "locked"]


def test_an_ending_that_needs_no_restart_is_done_later_than_one_that_does() -> None:
    """It fits before the window longer."""
    near = replace(GOOD, outlook=replace(LEAD, window=replace(WINDOW, start=NOW.wall + 300.0)))
    assert gate.hold(near, (), NOW) == ()
    assert gate.hold(near, (SetConfigKey("Logs.Verbose", "y"), *STEPS), NOW) != ()


def test_deadline_of_an_unknown_window() -> None:
    """Only if a person asks, or the administrator has said so."""
    unknown = Outlook(NOW.wall)
    assert refused(outlook=unknown).name == "deadline"
    assert asked(outlook=unknown, without_window=True) is None
    assert asked(PERSON, outlook=unknown) is None
    assert refused(PERSON, outlook=Outlook(NOW.wall, Phase.OPEN)).name == "phase"


@pytest.mark.parametrize(
    ("name", "field"),
    [("snapshot_running", "snapshot"), ("agent_busy", "agent_busy"), ("locked", "locked")],
)
def test_what_the_machine_is_busy_with(name: str, field: str) -> None:
    """Nobody may pass, also where it cannot be told."""
    for request in (REQUEST, PERSON):
        refusal = refused(request, **{field: "process 7 holds a lock"})
        assert (refusal.name, refusal.why) == (name, "process 7 holds a lock")
        refusal = refused(request, **{field: CannotTell("it hangs")})
        assert refusal.name == name
        assert "it hangs" in refusal.why


def test_locked_by_an_attempt_that_has_not_ended() -> None:
    """It is finished or undone first."""
    refusal = refused(lines=begun(5 * HOUR)[:1])
    assert refusal.name == "locked"
    assert "attempt 18000 of restart-agent" in refusal.why


def test_cooldown() -> None:
    """Of the remedy, whatever it was done for; to the second; by the monotonic clock, and across a boot by what is
    certain."""
    lines = begun(899.0, problem="AGENT_HUNG")
    refusal = refused(lines=lines)
    assert (refusal.name, refusal.until) == ("cooldown", NOW.wall + 1.0)
    assert asked(lines=begun(900.0, problem="AGENT_HUNG")) is None
    assert asked(lines=begun(100.0, remedy="enable-agent")) is None
    assert refused(lines=lines, now=replace(NOW, wall=NOW.wall + 200.0)).name == "cooldown"
    set_forward = Moment(NOW.wall + 300.0, "two", 60.0)
    assert refused(lines=lines, now=set_forward, evidence_since=0.0).until == set_forward.wall + 840.0


def test_attempt_limit_of_the_remedy() -> None:
    """So many for one problem in a day, whatever the key; for another problem there are others."""
    lines = begun(DAY - 60.0, 3 * HOUR, 2 * HOUR, key="a")
    refusal = refused(lines=lines)
    assert (refusal.name, refusal.until) == ("attempt_limit", NOW.wall + 60.0)
    assert "restart-agent was done 3 times for AGENT_STOPPED" in refusal.why
    assert refused(PERSON, lines=lines).name == "attempt_limit"
    assert asked(lines=begun(DAY, 3 * HOUR, 2 * HOUR)) is None
    assert asked(lines=begun(4 * HOUR, 3 * HOUR, 2 * HOUR, problem="AGENT_HUNG")) is None


def test_attempt_limit_with_more_than_it_allows() -> None:
    """After the limit was lowered: only when enough of them are a day old."""
    refusal = refused(lines=begun(20 * HOUR, 10 * HOUR, 5 * HOUR, 3 * HOUR), remedy=replace(REMEDY, attempts=2))
    assert refusal.until == NOW.wall + DAY - 5 * HOUR


def test_attempt_limit_does_not_follow_a_clock_that_is_set_back_or_forward() -> None:
    """A day of the monotonic clock."""
    lines = begun(5 * HOUR, 4 * HOUR, 3 * HOUR)
    for jump in (-2 * DAY, 2 * DAY):
        now = replace(NOW, wall=NOW.wall + jump)
        outlook = replace(LEAD, window=replace(WINDOW, start=now.wall + HOUR))
        request = replace(REQUEST, seen=now.wall)
        assert refused(request, lines=lines, now=now, outlook=outlook, evidence_since=0.0).name == "attempt_limit"


def test_attempt_limit_of_the_day() -> None:
    """Of all remedies together."""
    lines = begun(*(HOUR * count for count in range(2, 12)), remedy="enable-agent", problem="X")
    assert refused(lines=lines).name == "attempt_limit"
    assert asked(lines=lines, attempts_per_day=11) is None


def test_attempt_limit_of_the_incident() -> None:
    """Once until the problem is clear, unless a person asks."""
    lines = begun(2 * DAY, cleared=False)
    refusal = refused(lines=lines)
    assert (refusal.name, refusal.until) == ("attempt_limit", None)
    assert asked(PERSON, lines=lines) is None
    assert asked(lines=begun(2 * DAY, key="other", cleared=False)) is None
    assert asked(lines=begun(2 * DAY)) is None


def test_storm() -> None:
    """Different fixes within an hour; the same one again is the affair of other limits."""
    lines = [
        *begun(3000.0, remedy="a", problem="X"),
        *begun(2000.0, remedy="b", problem="X"),
        *begun(1900.0, remedy="b", problem="X"),
    ]
    assert asked(lines=tuple(lines)) is None
    lines += begun(1000.0, remedy="b", problem="Y")
    refusal = refused(lines=tuple(lines))
    assert (refusal.name, refusal.until) == ("storm", NOW.wall + 600.0)
    assert asked(lines=tuple(lines), different_per_hour=4) is None
    assert asked(lines=tuple(lines), now=replace(NOW, up=NOW.up + 600.0)) is None


def test_stale_evidence() -> None:
    """Older than the boot or our start, from the future, or without a time, which only a person may ask with."""
    assert asked(replace(REQUEST, seen=GOOD.evidence_since)) is None
    assert "last started" in refused(replace(REQUEST, seen=GOOD.evidence_since - 1.0)).why
    assert "future" in refused(replace(REQUEST, seen=NOW.wall + 60.0)).why
    for request in (replace(REQUEST, seen=0.0), replace(REQUEST, seen=None), replace(PERSON, seen=5.0)):
        assert refused(request).name == "stale_evidence"


def test_not_confirmed() -> None:
    """A fresh look does not see it, or cannot tell; or the remedy is none for it."""
    for request in (REQUEST, PERSON):
        assert refused(request, sight=Sight(frozenset({(PROBLEM, "other")}))).name == "not_confirmed"
        unknown = refused(request, sight=Sight(unknown=frozenset({PROBLEM})))
        assert unknown.name == "not_confirmed"
        assert "cannot tell" in unknown.why
        other = replace(request, problem="DISK_FULL")
        assert refused(other, sight=Sight(frozenset({("DISK_FULL", "")}))).name == "not_confirmed"
    assert refused(replace(REQUEST, problem="")).name == "not_confirmed"
    assert asked(replace(PERSON, problem="")) is None


def test_precondition() -> None:
    """What the remedy needs is not so or cannot be told, or a gentler one comes first."""
    assert refused(precondition="the host plugin does not answer").name == "precondition"
    assert refused(PERSON, precondition=CannotTell("no route")).name == "precondition"
    assert refused(plan=CannotTell("the log is locked")).name == "precondition"
    for asker in (REQUEST, PERSON):
        passing = refused(asker, plan=NotNow("http://168.63.129.16:32526/versions does not answer: timeout"))
        assert (passing.name, passing.lift) == ("precondition", "wait until that has changed")
        assert passing.why == "http://168.63.129.16:32526/versions does not answer: timeout"
    assert "start-agent, which is gentler" in refused(lower=("start-agent",)).why
    assert asked(PERSON, lower=("start-agent",)) is None
    assert asked(lower=("start-agent",), lines=begun(DAY, remedy="start-agent", cleared=False)) is None


def test_unsupported() -> None:
    """The plan says that it is not for this machine, and that does not pass."""
    refusal = refused(plan=Unsuitable("there is no unit of the agent"))
    assert (refusal.name, "there is no unit" in refusal.why) == ("unsupported", True)
    assert refusal.lift == "mend the problem by hand"


def test_ledger() -> None:
    """What cannot be noted is not done."""
    assert refused(ledger="No space left on device").name == "ledger"


# ------------------------------------------------------------------------------------------------------ the order

BAD: dict[str, dict[str, Any]] = {
    "mode_off": {"mode": "off"},
    "not_opted_in": {"allow": ()},
    "paused": {"paused": Pause()},
    "guarded": {"guard": "an alert fires"},
    "not_root": {"user": 1},
    "snapshot_running": {"snapshot": "x"},
    "phase": {"outlook": replace(LEAD, phase=Phase.HOLD)},
    "deadline": {"outlook": replace(LEAD, window=replace(WINDOW, start=NOW.wall))},
    "agent_busy": {"agent_busy": "x"},
    "locked": {"locked": "x"},
    "cooldown": {"lines": begun(800.0)},
    "attempt_limit": {"attempts_per_day": 1, "lines": begun(2 * HOUR)},
    "storm": {"different_per_hour": 1, "lines": begun(1000.0, remedy="a")},
    "stale_evidence": {"evidence_since": NOW.wall},
    "not_confirmed": {"sight": Sight()},
    "precondition": {"precondition": "x"},
    "unsupported": {"plan": Unsuitable("x")},
    "ledger": {"ledger": "x"},
}


def test_the_first_of_the_table_is_the_answer() -> None:
    """Whatever else is against it: taken away one by one, each name comes in its place, until nothing is left."""
    assert list(BAD) == list(gate.REFUSALS)
    names = list(BAD)
    for place, name in enumerate(names):
        facts: dict[str, Any] = {}
        for later in reversed(names[place:]):
            facts.update(BAD[later])
        assert refused(**facts).name == name
        assert refused(**BAD[name]).name == name
