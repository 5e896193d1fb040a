"""Which fix is asked for, and when: never outside its time, never two at once, never a rung before the gentler one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.mind.planner import Planner, Policy
from backupready.model import (
    Attempt,
    Effect,
    Finding,
    Fixes,
    Limit,
    Outlook,
    Phase,
    Planned,
    Refusal,
    RestartUnit,
    Result,
    Snapshot,
    Step,
    Window,
    WouldRun,
)
from backupready.wire import FixRequest, Which
from fake import NOW, looked, probe, problem, remedy, snapshot

HOUR = 3600.0
NEEDED = remedy("reload").longest.total_seconds()
STEPS: tuple[Step, ...] = (RestartUnit("a.service"),)
STOPPED, STUCK, ODD, CUT = (
    problem("STOPPED", explains=("HUNG",)),
    problem("STUCK", Effect.DEGRADES),
    problem("ODD", Effect.NOTICE),
    problem("CUT", Effect.RISKS),
)
HUNG = problem("HUNG", Effect.DEGRADES)
KNOWN = [probe("agent", [STOPPED, HUNG, ODD]), probe("extension", [STUCK]), probe("wire", [CUT])]
START = remedy("start", problems=("STOPPED", "HUNG", "ODD"))
RELOAD = remedy("reload", problems=("STUCK",))
CLEAN = remedy("clean", problems=("STUCK", "STOPPED"), rung=1)
RAZE = remedy("raze", problems=("STUCK",), rung=2)
REMEDIES = (RAZE, CLEAN, RELOAD, START)
ALL = tuple(one.name for one in REMEDIES)
ON = Policy("on", ALL)
WINDOW = Window(NOW + 2 * HOUR, NOW + 4 * HOUR, "daily")
LEAD = Outlook(NOW, Phase.LEAD, WINDOW, lead=3 * HOUR)


def seen(
    *findings: Finding, outlook: Outlook | None = LEAD, fixes: Fixes | None = None, known: Any = KNOWN
) -> Snapshot:
    """A machine on which exactly this was seen just now."""
    by_probe: dict[str, list[Finding]] = {one.name: [] for one in known}
    for finding in findings:
        name = next(one.name for one in known if finding.problem in {p.code for p in one.problems})
        by_probe[name].append(finding)
    whole = snapshot(*(looked(name, *found) for name, found in by_probe.items()), known=known)
    return replace(whole, outlook=outlook, fixes=fixes)


def planner(policy: Policy = ON, unfit: Sequence[str] = (), of: Snapshot | None = None, at: float = 0.0) -> Planner:
    """One that has had its plans made: all fit but those that are named."""
    it = Planner(REMEDIES, KNOWN, policy)
    if of is not None:
        plan(it, of, unfit, at, always=True)
    return it


def plan(
    it: Planner, of: Snapshot, unfit: Sequence[str] = (), at: float = 0.0, always: bool = False
) -> tuple[Which, ...]:
    wanted = it.to_plan(of, at, always)
    if wanted:
        it.planned([Planned(*w, (), "not here") if w[0] in unfit else Planned(*w, STEPS) for w in wanted], NOW + at, at)
    return wanted


def asked(it: Planner, of: Snapshot, at: float = 1.0, **more: bool) -> tuple[str, str, str] | None:
    request = it.to_ask(of, at, more.get("under_way", False), more.get("paused", False))
    return None if request is None else (request.remedy, request.problem, request.key)


def tried(problem: str, *remedies: str, key: str = "", **more: Any) -> Fixes:
    return Fixes(NOW, incidents=((problem, key),), tried={(problem, key): remedies}, **more)


# ------------------------------------------------------------------------------------------------------ asking


def test_the_gentlest_remedy_for_the_gravest_reason_is_asked_for() -> None:
    """With what the hands have to know: when it was seen, and which window is near."""
    here = seen(Finding("STUCK", "one"), Finding("STOPPED"))
    request = planner(of=here).to_ask(here, 1.0, under_way=False, paused=False)
    assert request == FixRequest("start", "STOPPED", "", NOW, Phase.LEAD, WINDOW.start, WINDOW.end)


@pytest.mark.parametrize(
    ("tried_before", "unfit", "allow", "expected"),
    [
        ((), (), ALL, "reload"),
        (("reload",), (), ALL, "clean"),
        (("reload", "clean"), (), ALL, "raze"),
        (("reload", "clean", "raze"), (), ALL, "raze"),  # so that the hands find out that a limit is reached
        ((), ("reload",), ALL, "clean"),
        ((), ("reload", "clean", "raze"), ALL, None),
        ((), (), ("clean",), "clean"),
        ((), (), (), None),
        (("reload",), (), ("reload",), "reload"),
    ],
)
def test_rungs_follow_one_another(
    tried_before: tuple[str, ...], unfit: tuple[str, ...], allow: tuple[str, ...], expected: str | None
) -> None:
    """Those that are allowed, fit this machine, and were not tried in this incident."""
    here = seen(Finding("STUCK", "one"), fixes=tried("STUCK", *tried_before, key="one"))
    it = planner(Policy("on", allow), unfit, here)
    assert asked(it, here) == (None if expected is None else (expected, "STUCK", "one"))


def test_what_was_tried_for_another_key_counts_for_that_alone() -> None:
    """Each key is an incident of its own."""
    here = seen(Finding("STUCK", "one"), fixes=tried("STUCK", "reload", key="two"))
    assert asked(planner(of=here), here) == ("reload", "STUCK", "one")


def test_without_its_plan_nothing_is_asked_for() -> None:
    """A gentler one may fit; and a plan that is old says little."""
    here = seen(Finding("STUCK"))
    it = planner()
    assert asked(it, here) is None
    wanted = plan(it, here)
    it.planned([Planned("clean", "STUCK", "", STEPS)], NOW, 0.0)
    assert asked(it, here) is None
    it.planned([Planned(*which, STEPS) for which in wanted], NOW, 0.0)
    assert asked(it, here, 14 * 60.0) == ("reload", "STUCK", "")
    assert asked(it, here, 16 * 60.0) is None


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("window", [WINDOW, None], ids=["window", "no window"])
@pytest.mark.parametrize("without_window", [True, False])
def test_fixes_have_their_time(phase: Phase, window: Window | None, without_window: bool) -> None:
    """The lead time; or any, where no window is known and that is allowed. The same for what is only counted."""
    here = seen(Finding("STOPPED"), outlook=Outlook(NOW, phase, window))
    expected = phase is Phase.LEAD if window is not None else without_window and phase is Phase.IDLE
    assert (asked(planner(Policy("on", ALL, without_window), of=here), here) is not None) is expected
    observing = planner(Policy("observe", (), without_window), of=here)
    assert bool(observing.observed(here, NOW, 1.0, paused=False)) is expected


def test_while_it_is_paused_or_another_is_under_way_nothing_is_asked_for() -> None:
    """One at a time."""
    here = seen(Finding("STOPPED"))
    it = planner(of=here)
    assert asked(it, here, paused=True) is None
    assert asked(it, here, under_way=True) is None
    assert asked(it, here) is not None


def test_where_the_question_does_not_arise_nothing_is_fixed() -> None:
    """Whatever a remedy says that it is for."""
    known = [probe("guest", [problem("STOPPED", Effect.VOIDS)])]
    here = seen(Finding("STOPPED"), known=known)
    assert [reason.problem.code for reason in here.reasons] == ["STOPPED"]
    assert Planner(REMEDIES, known, ON).to_plan(here, 0.0) == ()


def test_a_limit_that_was_reached_ends_it_until_it_lifts() -> None:
    """Of that problem and remedy; the next reason has its turn."""
    limit = Limit("STOPPED", "", "clean", "enough", NOW + 5)
    here = seen(Finding("STOPPED"), Finding("STUCK"), fixes=tried("STOPPED", "start", limits=(limit,)))
    it = planner(of=here)
    assert asked(it, here) == ("reload", "STUCK", "")
    assert asked(it, replace(here, checked_at=NOW + 6)) == ("clean", "STOPPED", "")
    for_good = replace(here, fixes=tried("STOPPED", "start", "clean", limits=(replace(limit, until=None),)))
    assert asked(it, replace(for_good, checked_at=NOW + 1e9)) == ("reload", "STUCK", "")


@pytest.mark.parametrize("until", [None, NOW + HOUR])
def test_a_limit_of_one_remedy_keeps_no_other_from_being_tried(until: float | None) -> None:
    """Such as one that was noted while no other was allowed; a limit of what comes next ends it."""
    limits = (Limit("STUCK", "", "reload", "it was done already", until),)
    here = seen(Finding("STUCK"), fixes=tried("STUCK", "reload", limits=limits))
    assert asked(planner(Policy("on", ("reload",)), of=here), here) is None
    assert asked(planner(of=here), here) == ("clean", "STUCK", "")
    again = replace(here, fixes=tried("STUCK", "reload", "clean", "raze", limits=limits))
    assert asked(planner(of=again), again) == ("raze", "STUCK", "")
    gentlest = replace(here, fixes=Fixes(NOW, limits=limits))
    assert asked(planner(of=gentlest), gentlest) is None


def test_a_problem_that_has_gone_is_closed_by_the_hands() -> None:
    """They see for themselves that it is over; a limit on it and the rungs that were tried end with that."""
    limit = Limit("STOPPED", "", "start", "enough")
    for fixes in (tried("STUCK", "reload", "clean"), Fixes(NOW, limits=(replace(limit, problem="STUCK"),))):
        here = seen(fixes=fixes)
        expected = "clean" if fixes.tried else "start"
        assert asked(planner(of=here), here) == (expected, "STUCK", "")
    unknown = replace(here, beliefs=())
    assert asked(planner(of=unknown), unknown) is None


def test_a_person_s_remedy_without_a_problem_is_nobody_s_incident() -> None:
    """And neither is one that this version does not know."""
    here = seen(fixes=tried("STUCK", "of-another-version"))
    assert asked(planner(Policy("on", (*ALL, "of-another-version")), of=here), here) is None


def test_what_was_not_seen_in_this_run_of_the_daemon_is_no_evidence() -> None:
    """A problem that is remembered from before needs a look first; so does one whose newest look could not tell."""
    here = seen(Finding("STOPPED"))
    it = planner(of=here)
    never = replace(here, probes=tuple(replace(run, last_run=None) for run in here.probes))
    assert asked(it, never) is None
    failed = replace(here, probes=tuple(replace(run, state=None) for run in here.probes))
    assert asked(it, failed) is None


MOMENTS = st.builds(
    Outlook,
    st.just(NOW),
    st.sampled_from(Phase),
    st.sampled_from([WINDOW, replace(WINDOW, start=NOW + 60), None]),
)
WHICH = st.sampled_from([("STOPPED", ""), ("STUCK", "one"), ("STUCK", "two"), ("ODD", ""), ("CUT", ""), ("HUNG", "")])
SEEN = st.lists(WHICH, unique=True, min_size=1)
FIXES = st.builds(
    Fixes,
    st.just(NOW),
    limits=st.lists(WHICH.map(lambda w: Limit(*w, "start", "enough")), max_size=2).map(tuple),
    tried=st.dictionaries(WHICH, st.lists(st.sampled_from(ALL), unique=True, min_size=1).map(tuple), max_size=3),
).map(lambda fixes: replace(fixes, incidents=tuple(fixes.tried)))
POLICIES = st.builds(
    Policy,
    st.sampled_from(["off", "observe", "on"]),
    st.lists(st.sampled_from(ALL), unique=True).map(tuple),
    st.booleans(),
)


@given(POLICIES, MOMENTS, SEEN, st.none() | FIXES, st.sets(st.sampled_from(ALL)), st.booleans(), st.booleans())
def test_what_never_happens(
    policy: Policy,
    outlook: Outlook,
    found: list[tuple[str, str]],
    fixes: Fixes | None,
    unfit: set[str],
    under_way: bool,
    paused: bool,
) -> None:
    """Whatever was seen, told and set: nothing is asked for outside its time, while another is under way, without being
    allowed, for what is no reason, or before a gentler one that is allowed, fits and was not tried."""
    here = seen(*(Finding(*which) for which in found), outlook=outlook, fixes=fixes)
    it = planner(policy, tuple(unfit), here)
    would_run = it.observed(here, NOW, 1.0, paused)
    request = it.to_ask(here, 1.0, under_way, paused)
    moment = outlook.phase is Phase.LEAD if outlook.window else policy.without_window and outlook.phase is Phase.IDLE
    if would_run:
        assert policy.mode == "observe" and moment and not paused
        assert all(one.steps for one in would_run)
    if request is None:
        return
    assert policy.mode == "on" and moment and not (paused or under_way)
    assert request.remedy in policy.allow
    incident = request.problem, request.key
    done = fixes.tried.get(incident, ()) if fixes else ()
    if incident in {(reason.problem.code, reason.key) for reason in here.reasons}:
        gentler = [one for one in REMEDIES if request.problem in one.problems and one.rung < _rung(request.remedy)]
        for one in gentler:
            assert one.name in (*done, *unfit) or one.name not in policy.allow
        assert not any(
            (one.problem, one.key, one.remedy) == (*incident, request.remedy) for one in (fixes or Fixes(NOW)).limits
        )
    else:
        assert fixes is not None and (
            incident in fixes.tried or any(one.problem == incident[0] for one in fixes.limits)
        )


def _rung(name: str) -> int:
    return next(one.rung for one in REMEDIES if one.name == name)


# ----------------------------------------------------------------------------------------------------- answers

REQUEST = FixRequest("start", "STOPPED", "", NOW, Phase.LEAD, WINDOW.start, WINDOW.end)


def test_a_refusal_waits_for_its_time() -> None:
    """By the monotonic clock; another fix need not."""
    here = seen(Finding("STOPPED"), Finding("STUCK"))
    it = planner(of=here)
    it.answered(REQUEST, Refusal("cooldown", "just done", NOW + 600, "wait"), NOW, 1.0)
    assert asked(it, here, 2.0) == ("reload", "STUCK", "")
    alone = seen(Finding("STOPPED"))
    assert asked(it, alone, 600.0) is None
    plan(it, alone, at=600.0)
    assert asked(it, alone, 602.0) == ("start", "STOPPED", "")


@pytest.mark.parametrize("how", ["refused", "observed", "failed"])
def test_without_a_time_it_waits_longer_and_longer(how: str) -> None:
    """Five minutes, ten, twenty, and never more than thirty."""
    here = seen(Finding("STOPPED"))
    it, at = planner(of=here), 0.0
    for minutes in (5, 10, 20, 30, 30):
        if how == "failed":
            it.failed(REQUEST, at)
        else:
            it.answered(REQUEST, WouldRun(STEPS) if how == "observed" else Refusal("locked", "x", None, "y"), NOW, at)
        end = at + minutes * 60
        plan(it, here, at=end - 1)
        assert asked(it, here, end - 1) is None
        plan(it, here, at=end)
        assert asked(it, here, end) == ("start", "STOPPED", "")
        at = end


def test_after_an_attempt_nothing_is_asked_for_until_it_is_seen_what_it_came_to() -> None:
    """And the plans are made anew, since the machine has changed."""
    here = seen(Finding("STOPPED"), Finding("STUCK"))
    it = planner(of=here)
    attempt = Attempt(1, "start", "STOPPED", "", "mind", NOW, Result.NOT_HEALED, NOW + 9)
    it.answered(REQUEST, attempt, NOW, 1.0)
    assert plan(it, here, at=2.0) != ()
    assert asked(it, here, 60.0) is None
    assert asked(it, here, 61.0) is not None


def test_a_door_that_is_shut_is_looked_for_again_in_a_minute() -> None:
    """Whatever is to be asked for."""
    here = seen(Finding("STOPPED"))
    it = planner(of=here)
    it.shut(1.0)
    assert asked(it, here, 60.0) is None
    assert asked(it, here, 61.0) is not None


def test_an_answer_is_waited_for_as_long_as_the_remedy_may_take() -> None:
    """And five minutes for the looks before and after."""
    assert planner().patience("start") == 11 * 60 + 300


def test_what_a_remedy_is_for_says_who_looks_afterwards() -> None:
    """Every probe with one of its problems."""
    assert planner().probes_for("clean") == {"extension", "agent"}


# ------------------------------------------------------------------------------------------------------- plans


def test_plans_are_wanted_of_every_remedy_for_every_reason() -> None:
    """Not of a mere consequence, nor of a notice."""
    here = seen(Finding("STUCK", "one"), Finding("STOPPED"), Finding("HUNG"), Finding("ODD"), Finding("CUT"))
    assert planner().to_plan(here, 0.0) == (
        ("start", "STOPPED", ""),
        ("clean", "STOPPED", ""),
        ("reload", "STUCK", "one"),
        ("clean", "STUCK", "one"),
        ("raze", "STUCK", "one"),
    )


@pytest.mark.parametrize("phase", Phase)
def test_in_lead_plans_are_made_every_few_minutes(phase: Phase) -> None:
    """At other times when the reasons change, though not more often than it is worth; shortly before a backup never."""
    outlook = Outlook(NOW, phase, WINDOW)
    one, two = seen(Finding("STUCK"), outlook=outlook), seen(Finding("STOPPED"), outlook=outlook)
    it = planner(Policy())
    times = [at for at in range(0, 1200, 5) if plan(it, one, at=float(at))]
    expected = {Phase.IDLE: [0], Phase.LEAD: [0, 300, 600, 900]}.get(phase, [])
    assert times == expected
    times = [at for at in range(1200, 1300, 5) if plan(it, [two, one][at // 5 % 2], at=float(at))]
    assert times == ([1200, 1225, 1250, 1275] if expected else [])


def test_when_the_lead_time_begins_plans_are_made() -> None:
    """However young the last ones are, but for seconds."""
    it = planner(Policy())
    idle, lead = (seen(Finding("STUCK"), outlook=Outlook(NOW, phase, WINDOW)) for phase in (Phase.IDLE, Phase.LEAD))
    assert plan(it, idle, at=0.0) != ()
    assert plan(it, lead, at=100.0) != ()
    assert plan(it, lead, at=101.0) == ()


def test_a_look_that_came_to_nothing_is_tried_again_in_a_while() -> None:
    """Also where nothing has changed and no backup is near."""
    here = seen(Finding("STUCK"), outlook=None)
    it = planner(Policy())
    assert it.to_plan(here, 0.0) != ()
    it.not_planned(10.0)
    assert it.to_plan(here, 309.0) == ()
    assert it.to_plan(here, 310.0) != ()


def test_while_no_plans_come_those_before_grow_old() -> None:
    """However often new ones are wanted: nothing is asked for by them or counted, and they are shown with their time.
    An attempt makes them old at once."""
    here = seen(Finding("STOPPED"))
    for policy in (ON, Policy()):
        it = planner(policy, of=here)
        (young,) = it.plans(here, 899.0)
        assert young.as_of is None
        for at in range(300, 901, 300):
            assert it.to_plan(here, float(at)) != ()
            it.not_planned(float(at))
        assert asked(it, here, 900.0) is None
        assert it.observed(here, NOW + 900, 900.0, paused=False) == ()
        assert it.plans(here, 900.0) == (replace(young, as_of=NOW),)
        plan(it, here, at=1200.0)
        assert it.plans(here, 1200.0) == (young,)
        done = Attempt(1, "start", "STOPPED", "", "mind", NOW, Result.NOT_HEALED, NOW + 9)
        it.answered(REQUEST, done, NOW, 1201.0)
        assert it.plans(here, 1201.0) == (replace(young, as_of=NOW + 1200),)


def test_the_plans_are_as_old_as_the_answer() -> None:
    """Not as the request, which may have taken its time."""
    here = seen(Finding("STOPPED"))
    it = Planner(REMEDIES, KNOWN, ON)
    wanted = it.to_plan(here, 0.0)
    it.planned([Planned(*which, STEPS) for which in wanted], NOW, 50.0)
    assert asked(it, here, 949.0) == ("start", "STOPPED", "")
    assert asked(it, here, 950.0) is None


@pytest.mark.parametrize("modes", [("on", "observe"), ("observe", "observe"), ("observe", "off", "observe")])
def test_after_a_reload_plans_are_made_at_once(modes: tuple[str, ...]) -> None:
    """Also where no backup is near; what was planned before stands meanwhile, but for what was switched off."""
    here = seen(Finding("STUCK"), outlook=Outlook(NOW, Phase.IDLE, WINDOW))
    first, *others = modes
    it = planner(Policy(first), of=here)
    before = it.plans(here, 1.0)
    for mode in others:
        it = Planner(REMEDIES, KNOWN, Policy(mode), it)
    assert it.plans(here, 1.0) == (() if "off" in modes else before)
    assert plan(it, here, at=1.0) != ()
    assert it.to_plan(here, 2.0) == ()


def test_a_plan_that_is_wanted_in_any_case_is_made_in_every_phase() -> None:
    """A person looks."""
    here = seen(Finding("STUCK"), outlook=Outlook(NOW, Phase.OPEN, WINDOW))
    assert planner(Policy()).to_plan(here, 0.0, always=True) != ()


def test_switched_off_is_off() -> None:
    """No plans, no requests, nothing counted."""
    here = seen(Finding("STUCK"))
    it = planner(Policy("off", ALL, without_window=True))
    assert (it.to_plan(here, 0.0, always=True), it.plans(here, 1.0), asked(it, here)) == ((), (), None)
    assert it.observed(here, NOW, 1.0, paused=False) == ()


def test_the_plans_are_of_what_fits_and_of_what_does_not_before_it() -> None:
    """For the reasons that there still are, without what was tried."""
    here = seen(Finding("STUCK"), Finding("STOPPED"))
    it = planner(of=here, unfit=("reload",))
    assert [(one.remedy, bool(one.steps)) for one in it.plans(here, 1.0)] == [
        ("start", True),
        ("reload", False),
        ("clean", True),
    ]
    assert [one.remedy for one in it.plans(replace(here, fixes=tried("STUCK", "reload", "clean")), 1.0)] == [
        "start",
        "raze",
    ]
    assert it.plans(seen(), 1.0) == ()


# -------------------------------------------------------------------------------------------------- observing


def test_what_would_be_asked_for_counts_once_in_its_incident() -> None:
    """Whether it is allowed or not; again when the problem has been gone in between, not when it was unknown."""
    here, gone = seen(Finding("STUCK")), seen()
    it = planner(Policy(), of=here)
    assert [one.remedy for one in it.observed(here, NOW, 1.0, paused=False)] == ["reload"]
    assert it.observed(here, NOW, 1.0, paused=False) == ()
    unknown = replace(gone, beliefs=(), reasons=())
    it.observed(unknown, NOW, 1.0, paused=False)
    assert it.observed(here, NOW, 1.0, paused=False) == ()
    it.observed(gone, NOW, 1.0, paused=False)
    assert [one.remedy for one in it.observed(here, NOW, 1.0, paused=False)] == ["reload"]
    assert it.would_run == {"reload": 2}
    assert asked(it, here) is None


def test_what_was_counted_before_a_restart_is_counted_no_more() -> None:
    """As long as its problem is there, which is unknown at first; the numbers go on."""
    here, gone = seen(Finding("STUCK")), seen()
    before = planner(Policy(), of=here)
    before.observed(here, NOW, 1.0, paused=False)
    assert before.counted == (("reload", "STUCK", ""),)
    it = planner(Policy(), of=here)
    it.recall(before.would_run, before.counted)
    it.observed(replace(gone, beliefs=(), reasons=()), NOW, 1.0, paused=False)
    assert it.observed(here, NOW, 1.0, paused=False) == ()
    assert it.would_run == {"reload": 1}
    it.observed(gone, NOW, 1.0, paused=False)
    assert len(it.observed(here, NOW, 1.0, paused=False)) == 1
    assert it.would_run == {"reload": 2}


@pytest.mark.parametrize(
    ("left", "paused", "counts"), [(NEEDED, False, True), (NEEDED - 1, False, False), (HOUR, True, False)]
)
def test_what_would_be_refused_is_not_counted(left: float, paused: bool, counts: bool) -> None:
    """Where it does not fit before the window any more, or fixes are paused."""
    here = seen(Finding("STUCK"), outlook=Outlook(NOW, Phase.LEAD, replace(WINDOW, start=NOW + left)))
    it = planner(Policy(), of=here)
    assert bool(it.observed(here, NOW, 1.0, paused)) is counts


def test_a_reload_of_the_settings_keeps_what_was_planned_and_counted() -> None:
    """And asks anew at once, since another answer may be given."""
    here = seen(Finding("STOPPED"))
    it = planner(Policy(), of=here)
    it.observed(here, NOW, 1.0, paused=False)
    on = Planner(REMEDIES, KNOWN, ON, it)
    assert on.plans(here, 1.0) == it.plans(here, 1.0)
    assert asked(on, here) is not None
    on.answered(REQUEST, Refusal("not_opted_in", "x", None, "y"), NOW, 1.0)
    assert asked(on, here, 2.0) is None
    assert asked(Planner(REMEDIES, KNOWN, ON, on), here, 2.0) is not None
    again = Planner(REMEDIES, KNOWN, Policy(), on)
    assert again.observed(here, NOW, 1.0, paused=False) == ()
    assert again.would_run == {"start": 1}
    assert Planner(REMEDIES, KNOWN, Policy("off"), on).plans(here, 1.0) == ()
