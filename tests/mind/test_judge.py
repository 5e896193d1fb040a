"""What is believed: patience, one clean look, unknown is never healthy, one cause one finding, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import probes
from backupready.mind.judge import KEPT_EVERY, Judge, Kept, verdict_of
from backupready.model import (
    Belief,
    BeliefState,
    CannotTell,
    Effect,
    Finding,
    Looked,
    Probe,
    ProbeState,
    Problem,
    Reading,
    Snapshot,
    Verdict,
    Watch,
)
from fake import looked, probe, problem

CLEAR, ACTIVE, UNKNOWN = BeliefState.CLEAR, BeliefState.ACTIVE, BeliefState.UNKNOWN
WALL = 1_000_000.0
INTERVAL, DEADLINE = 300.0, 30.0
STALE = 3 * INTERVAL + DEADLINE


class Court:
    """A judge with a clock that the test moves; the wall clock goes with it."""

    def __init__(self, *looking: Probe, before: Judge | None = None, at: float = 0.0) -> None:
        self.judge = Judge(looking, {one.name: INTERVAL for one in looking}, DEADLINE, before)
        self.now = at

    def saw(self, *seen: Finding | CannotTell, after: float = 1.0, **changes: object) -> None:
        """The probe `thing` looked, `after` seconds after what was before."""
        self.takes(looked("thing", *seen, **changes), after)

    def takes(self, look: Looked, after: float = 1.0) -> None:
        self.now += after
        self.judge.saw(look, self.now, WALL + self.now)

    def snapshot(self, after: float = 0.0) -> Snapshot:
        self.now += after
        return self.judge.snapshot(self.now, WALL + self.now, {}, {})

    def belief(self, code: str = "BROKEN") -> Belief:
        return next(b for b in self.judge.beliefs(self.now, WALL + self.now) if b.problem.code == code)

    def state(self, code: str = "BROKEN") -> BeliefState:
        return self.belief(code).state


def court(*problems: Problem) -> Court:
    return Court(probe("thing", problems))


BROKEN = Finding("BROKEN", evidence={"seen": 1})


# -------------------------------------------------------------------------------------- becoming active and clear


@pytest.mark.parametrize("needed", [1, 2, 4])
def test_as_many_sightings_as_declared_make_it_active(needed: int) -> None:
    """One sighting less is not believed; `since` is the first of the sightings for the reason."""
    here = court(problem("BROKEN", sightings=needed))
    here.saw()
    assert here.state() is CLEAR
    for _ in range(needed - 1):
        here.saw(BROKEN)
        assert here.state() is CLEAR
    here.saw(BROKEN)
    assert here.state() is ACTIVE
    (reason,) = here.snapshot().reasons
    assert reason.since == WALL + 2


def test_a_clean_look_in_between_starts_the_count_anew() -> None:
    """The sightings must be in a row."""
    here = court(problem("BROKEN", sightings=2))
    for _ in range(3):
        here.saw(BROKEN)
        here.saw()
    assert here.state() is CLEAR


def test_sightings_that_are_close_together_count_as_one() -> None:
    """Within `apart` of the one that counted, another does not count, however many there are; its evidence does."""
    here = court(problem("BROKEN", sightings=2, apart=timedelta(seconds=10)))
    here.saw(BROKEN, after=100)
    for number in range(9):
        here.saw(replace(BROKEN, evidence={"seen": number}))
    assert here.state() is not ACTIVE
    here.saw(replace(BROKEN, evidence={"seen": "last"}))
    assert here.state() is ACTIVE
    assert here.belief().sightings[0].evidence == {"seen": "last"}


def test_one_clean_look_clears() -> None:
    """However long it was active."""
    here = court(problem("BROKEN", sightings=2))
    for _ in range(5):
        here.saw(BROKEN)
    here.saw()
    assert here.state() is CLEAR
    assert here.belief().sightings == ()
    assert here.snapshot().reasons == ()


def test_before_it_is_confirmed_for_the_first_time_it_is_unknown() -> None:
    """What was never clear and is seen once is neither clear nor active."""
    here = court(problem("BROKEN", sightings=2))
    assert (here.state(), here.belief().why) == (UNKNOWN, "not looked at yet")
    here.saw(BROKEN)
    assert (here.state(), here.belief().why) == (UNKNOWN, "seen, and not confirmed yet")


def test_since_stays_while_nothing_changes() -> None:
    """The belief keeps the moment of its last change through every look that says the same, and moves with it."""
    here = court(problem("BROKEN"))
    here.saw(after=10)
    here.saw(after=10)
    assert here.belief().since == WALL + 10
    for _ in range(3):
        here.saw(BROKEN, after=10)
        assert here.belief().since == WALL + 30
    here.saw(CannotTell("why"), after=10)
    here.belief()
    here.saw(CannotTell("another"), after=10)
    assert here.belief().since == WALL + 60
    here.saw(after=10)
    assert here.belief().since == WALL + 80


def test_the_verdict_keeps_its_since_while_it_is_the_same() -> None:
    """Other reasons for the same verdict do not move it."""
    here = court(problem("BROKEN"), problem("BURNT"))
    here.saw(BROKEN, after=10)
    assert here.snapshot().since == WALL + 10
    here.saw(Finding("BURNT"), after=10)
    snapshot = here.snapshot()
    assert (snapshot.verdict, snapshot.since) == (Verdict.BLOCKED, WALL + 10)
    here.saw(after=10)
    assert (here.snapshot().verdict, here.snapshot(after=50).since) == (Verdict.READY, WALL + 30)


# ------------------------------------------------------------------------------------------------------- unknown


def test_a_look_that_raises_makes_all_its_problems_unknown_with_the_reason() -> None:
    """Active and clear ones alike, and none of another probe."""
    here = Court(probe("thing", [problem("BROKEN"), problem("BURNT")]), probe("other", [problem("LOST")]))
    here.takes(looked("other"))
    here.saw(BROKEN)
    here.saw(state=ProbeState.CANNOT_TELL, why="the disk hangs")
    assert [(here.state(code), here.belief(code).why) for code in ("BROKEN", "BURNT", "LOST")] == [
        (UNKNOWN, "the disk hangs"),
        (UNKNOWN, "the disk hangs"),
        (CLEAR, ""),
    ]


def test_a_defect_of_a_probe_makes_its_problems_unknown() -> None:
    """A failed look proves nothing."""
    here = court(problem("BROKEN"))
    here.saw()
    here.saw(state=ProbeState.FAILED, why="KeyError: 'x'")
    assert (here.state(), here.belief().why) == (UNKNOWN, "KeyError: 'x'")
    assert here.snapshot().verdict is Verdict.UNKNOWN


def test_what_is_yielded_speaks_of_the_problems_that_it_names() -> None:
    """The others are judged by the look as usual; one that names none speaks of all."""
    here = court(problem("BROKEN"), problem("BURNT"), problem("LOST"))
    here.saw(Finding("LOST"), CannotTell("too dark", ("BROKEN",)))
    assert [here.state(code) for code in ("BROKEN", "BURNT", "LOST")] == [UNKNOWN, CLEAR, ACTIVE]
    assert here.belief("BROKEN").why == "too dark"
    here.saw(CannotTell("all dark"))
    assert [here.state(code) for code in ("BROKEN", "BURNT", "LOST")] == [UNKNOWN] * 3


def test_what_was_seen_counts_although_not_everything_could_be() -> None:
    """A finding beside a reason for the same problem makes it active."""
    here = court(problem("BROKEN"))
    here.saw(BROKEN, CannotTell("another mount hangs", ("BROKEN",)))
    assert here.state() is ACTIVE


def test_one_sighting_restores_what_was_active_before_it_was_unknown() -> None:
    """The sightings are kept through what cannot be told: no patience is needed anew."""
    here = court(problem("BROKEN", sightings=3))
    for _ in range(3):
        here.saw(BROKEN)
    here.saw(state=ProbeState.CANNOT_TELL, why="late")
    assert here.state() is UNKNOWN
    here.saw(BROKEN)
    assert here.state() is ACTIVE
    (reason,) = here.snapshot().reasons
    assert reason.since == WALL + 1


def test_a_clean_look_after_unknown_is_clear() -> None:
    """Unknown is left by the first look that can tell."""
    here = court(problem("BROKEN"))
    here.saw(BROKEN)
    here.saw(CannotTell("late"))
    here.saw()
    assert here.state() is CLEAR


def test_an_old_look_makes_unknown_and_drops_readings() -> None:
    """Three intervals and the deadline are waited for; what was read is then not repeated."""
    here = court(problem("BROKEN"))
    here.saw(BROKEN, readings=(Reading("backupready_x", 1),))
    fresh = here.snapshot(after=STALE)
    assert (fresh.verdict, len(fresh.readings)) == (Verdict.BLOCKED, 1)
    stale = here.snapshot(after=0.1)
    assert (stale.verdict, stale.readings) == (Verdict.UNKNOWN, ())
    assert (here.state(), here.belief().why) == (UNKNOWN, "the newest look is older than 930 s")
    here.saw(BROKEN)
    assert here.state() is ACTIVE


def test_a_whole_look_that_came_to_nothing_makes_its_probes_unknown() -> None:
    """Each of them says why, and its readings are gone; that its processes are, is not said."""
    here = court(problem("BROKEN"))
    here.saw(readings=(Reading("backupready_x", 1),), watches=(Watch("daemon", 7),))
    here.judge.missed(["thing"], "the look died of signal 9", 2.0, WALL + 2, 0.5)
    snapshot = here.snapshot()
    assert snapshot.verdict is Verdict.UNKNOWN
    assert snapshot.readings == ()
    assert here.judge.watches() == (Watch("daemon", 7),)
    (run,) = snapshot.probes
    assert (run.state, run.seconds, run.last_run) == (ProbeState.CANNOT_TELL, 0.5, WALL + 2)
    assert run.why == here.belief().why == "the look died of signal 9"


# ------------------------------------------------------------------------------------------------------ several keys


def test_each_key_is_counted_by_itself() -> None:
    """One that is believed is a reason, one that is seen too rarely is none, and one that is over goes alone."""
    here = court(problem("BROKEN", sightings=2))
    here.saw(Finding("BROKEN", "a"), Finding("BROKEN", "b", {"n": 1}))
    here.saw(Finding("BROKEN", "b", {"n": 2}), Finding("BROKEN", "c"))
    (reason,) = here.snapshot().reasons
    assert (reason.key, reason.evidence, reason.since) == ("b", {"n": 2}, WALL + 1)
    here.saw(Finding("BROKEN", "b"), Finding("BROKEN", "c"))
    assert [reason.key for reason in here.snapshot().reasons] == ["b", "c"]
    here.saw(Finding("BROKEN", "c"))
    assert [reason.key for reason in here.snapshot().reasons] == ["c"]


def test_a_problem_whose_keys_change_all_the_time_does_not_become_active() -> None:
    """Sightings of different things do not confirm each other."""
    here = court(problem("BROKEN", sightings=2))
    here.saw()
    for number in range(5):
        here.saw(Finding("BROKEN", str(number)))
    assert here.snapshot().reasons == ()
    assert not here.belief().active


def test_what_blocks_has_a_reason_also_when_its_key_changes() -> None:
    """What blocks is named: a blocked verdict has a reason."""
    here = court(problem("BROKEN", sightings=2))
    for _ in range(2):
        here.saw(Finding("BROKEN", "a"))
    here.saw(Finding("BROKEN", "b"))
    snapshot = here.snapshot()
    assert (snapshot.verdict is Verdict.BLOCKED) == bool(snapshot.reasons)


# -------------------------------------------------------------------------------------------------- precedence


def explained() -> Court:
    return court(
        problem("ROOT", explains=("MIDDLE",)),
        problem("MIDDLE", explains=("LEAF",)),
        problem("LEAF", effect=Effect.RISKS),
    )


def test_a_mere_consequence_is_no_reason_of_its_own() -> None:
    """The cause is the reason and names its consequences."""
    here = explained()
    here.saw(Finding("ROOT"), Finding("MIDDLE"))
    (reason,) = here.snapshot().reasons
    assert (reason.problem.code, reason.consequences) == ("ROOT", ("MIDDLE",))
    assert (here.state("MIDDLE"), here.belief("MIDDLE").active) == (ACTIVE, False)
    assert here.belief("MIDDLE").explained_by == "ROOT"


def test_precedence_goes_all_the_way_down() -> None:
    """A consequence that is itself explained still explains."""
    here = explained()
    here.saw(Finding("ROOT"), Finding("MIDDLE"), Finding("LEAF"))
    (reason,) = here.snapshot().reasons
    assert (reason.problem.code, set(reason.consequences)) == ("ROOT", {"MIDDLE", "LEAF"})
    assert here.belief("LEAF").explained_by == "ROOT"


def test_when_the_cause_is_over_the_consequence_stands_for_itself() -> None:
    """Precedence is judged anew with every look."""
    here = explained()
    here.saw(Finding("ROOT"), Finding("MIDDLE"))
    here.saw(Finding("MIDDLE"))
    (reason,) = here.snapshot().reasons
    assert (reason.problem.code, reason.since) == ("MIDDLE", WALL + 1)


def test_a_cause_that_is_not_there_explains_nothing() -> None:
    """A clear cause and one that cannot be told leave the consequence as it is."""
    here = explained()
    here.saw(Finding("MIDDLE"), CannotTell("dark", ("ROOT",)))
    assert [reason.problem.code for reason in here.snapshot().reasons] == ["MIDDLE"]


def test_an_unknown_consequence_is_not_reported() -> None:
    """What a known cause explains away does not make the verdict unknown."""
    late = Effect.DEGRADES
    here = court(problem("ROOT", effect=late, explains=("MIDDLE",)), problem("MIDDLE", effect=late))
    here.saw(Finding("ROOT"), CannotTell("dark", ("MIDDLE",)))
    assert here.state("MIDDLE") is UNKNOWN
    assert not here.belief("MIDDLE").unknown
    assert here.snapshot().verdict is Verdict.DEGRADED


@pytest.mark.parametrize("sightings", [1, 2])
def test_a_milder_cause_leaves_what_is_graver_standing(sightings: int) -> None:
    """A notice is no explanation of what blocks, nor does what blocks wait until the notice is confirmed."""
    here = court(problem("ROOT", milder=(Effect.NOTICE,), explains=("MIDDLE",), sightings=sightings), problem("MIDDLE"))
    here.saw(Finding("ROOT", effect=Effect.NOTICE), Finding("MIDDLE"))
    assert [reason.problem.code for reason in here.snapshot().reasons] == ["MIDDLE"]
    assert here.snapshot().verdict is Verdict.BLOCKED


_VERDICTS = {
    Effect.VOIDS: Verdict.UNKNOWN,
    Effect.BLOCKS: Verdict.BLOCKED,
    Effect.DEGRADES: Verdict.DEGRADED,
    Effect.RISKS: Verdict.AT_RISK,
    Effect.NOTICE: Verdict.READY,
}


# What is declared to be a cause, and a consequence of it.
_DECLARED = {one.code: one for one in probes.PROBLEMS}
_PAIRS = [(_DECLARED[code], one) for one in probes.PROBLEMS for code in one.explains if code in _DECLARED]
_WITH_MILDER_CAUSES = [(leaf, root) for leaf, root in _PAIRS if root.milder]


@given(
    st.lists(st.sampled_from(_WITH_MILDER_CAUSES or _PAIRS) | st.sampled_from(_PAIRS), min_size=1, max_size=4),
    st.data(),
)
def test_the_verdict_is_as_bad_as_the_gravest_that_is_seen(
    pairs: list[tuple[Problem, Problem]], data: st.DataObject
) -> None:
    """Of all declared problems and their milder effects: none is explained by one that does less."""
    declared = {one.code: one for pair in pairs for one in pair}
    codes = set(declared)
    seen = {c: data.draw(st.sampled_from((declared[c].effect, *declared[c].milder))) for c in sorted(codes)}
    here = Court(*probes.PROBES)
    for _ in range(max(declared[code].sightings for code in codes)):
        for one in probes.PROBES:
            own = [Finding(p.code, effect=seen[p.code]) for p in one.problems if p.code in seen]
            here.takes(looked(one.name, *own), after=0.0)
        here.now += max(declared[code].apart.total_seconds() for code in codes)
    snapshot = here.snapshot()
    assert snapshot.verdict is _VERDICTS[min(seen.values(), key=lambda effect: effect.rank)]
    beliefs = {belief.problem.code: belief for belief in snapshot.beliefs}
    for code in seen:
        if (cause := beliefs[code].explained_by) is not None:
            assert beliefs[cause].active
            assert beliefs[cause].effect.rank <= beliefs[code].effect.rank


def test_what_appears_with_a_cause_that_is_not_confirmed_yet_is_held_back() -> None:
    """Else a mere consequence would stand as a reason of its own until the cause is; it is unknown meanwhile."""
    here = court(problem("ROOT", sightings=2, explains=("MIDDLE",)), problem("MIDDLE"))
    here.saw(Finding("ROOT"), Finding("MIDDLE"))
    snapshot = here.snapshot()
    assert (snapshot.verdict, snapshot.reasons) == (Verdict.UNKNOWN, ())
    assert (here.state("MIDDLE"), here.belief("MIDDLE").why) == (UNKNOWN, "ROOT was seen, and is being confirmed")
    here.saw(Finding("ROOT"), Finding("MIDDLE"))
    (reason,) = here.snapshot().reasons
    assert (reason.problem.code, reason.consequences) == ("ROOT", ("MIDDLE",))


def test_what_blocked_before_stays_while_its_cause_is_being_confirmed() -> None:
    """A blocker that was active stays one when a cause of it that was clear is seen once."""
    here = court(problem("ROOT", sightings=2, explains=("MIDDLE",)), problem("MIDDLE"))
    here.saw(Finding("MIDDLE"))
    assert here.snapshot().verdict is Verdict.BLOCKED
    here.saw(Finding("ROOT"), Finding("MIDDLE"))
    assert [reason.problem.code for reason in here.snapshot().reasons] == ["MIDDLE"]
    assert here.snapshot().verdict is Verdict.BLOCKED
    here.saw(Finding("MIDDLE"))
    assert [reason.problem.code for reason in here.snapshot().reasons] == ["MIDDLE"]


# --------------------------------------------------------------------------------------------------- the verdict


def _belief(effect: Effect, state: BeliefState, explained_by: str | None = None) -> Belief:
    declared = problem(f"{effect.name}_{state.name}", effect=effect)
    return Belief(declared, state, 0.0, effect, explained_by=explained_by)


MATTERS = [effect for effect in Effect if effect is not Effect.VOIDS]
VERDICTS: dict[str, tuple[Sequence[Belief], Verdict]] = {
    "nothing is believed": ((), Verdict.UNKNOWN),
    "all is clear": ([_belief(effect, CLEAR) for effect in Effect], Verdict.READY),
    "a blocker": ([_belief(Effect.BLOCKS, ACTIVE)], Verdict.BLOCKED),
    "a degrader": ([_belief(Effect.DEGRADES, ACTIVE)], Verdict.DEGRADED),
    "a risk": ([_belief(Effect.RISKS, ACTIVE)], Verdict.AT_RISK),
    "a notice": ([_belief(Effect.NOTICE, ACTIVE)], Verdict.READY),
    "the gravest counts": ([_belief(effect, ACTIVE) for effect in MATTERS], Verdict.BLOCKED),
    "where the question does not arise there is no answer": (
        [_belief(effect, ACTIVE) for effect in Effect],
        Verdict.UNKNOWN,
    ),
    "whether it arises is not known": ([_belief(Effect.VOIDS, UNKNOWN)], Verdict.UNKNOWN),
    "a sighting that is milder than declared": (
        [Belief(problem("BLOCKER_IN_OTHERS"), ACTIVE, 0.0, Effect.RISKS)],
        Verdict.AT_RISK,
    ),
    "a degrader outweighs a risk": (
        [_belief(Effect.RISKS, ACTIVE), _belief(Effect.DEGRADES, ACTIVE)],
        Verdict.DEGRADED,
    ),
    "an unknown blocker": ([_belief(Effect.BLOCKS, UNKNOWN)], Verdict.UNKNOWN),
    "an unknown degrader": ([_belief(Effect.DEGRADES, UNKNOWN)], Verdict.UNKNOWN),
    "an unknown risk does not matter": ([_belief(Effect.RISKS, UNKNOWN)], Verdict.READY),
    "an unknown notice does not matter": ([_belief(Effect.NOTICE, UNKNOWN)], Verdict.READY),
    "a blocker outweighs an unknown one": (
        [_belief(Effect.BLOCKS, UNKNOWN), _belief(Effect.BLOCKS, ACTIVE)],
        Verdict.BLOCKED,
    ),
    "an unknown blocker outweighs a degrader": (
        [_belief(Effect.BLOCKS, UNKNOWN), _belief(Effect.DEGRADES, ACTIVE)],
        Verdict.UNKNOWN,
    ),
    "an unknown blocker outweighs a risk": (
        [_belief(Effect.BLOCKS, UNKNOWN), _belief(Effect.RISKS, ACTIVE)],
        Verdict.UNKNOWN,
    ),
    "an unknown risk beside a degrader": (
        [_belief(Effect.RISKS, UNKNOWN), _belief(Effect.DEGRADES, ACTIVE)],
        Verdict.DEGRADED,
    ),
    "an explained blocker counts as its cause": (
        [_belief(Effect.BLOCKS, ACTIVE, "X"), _belief(Effect.RISKS, ACTIVE)],
        Verdict.AT_RISK,
    ),
    "an explained unknown blocker": (
        [_belief(Effect.BLOCKS, UNKNOWN, "X"), _belief(Effect.RISKS, ACTIVE)],
        Verdict.AT_RISK,
    ),
}


@pytest.mark.parametrize("what", VERDICTS)
def test_the_verdict(what: str) -> None:
    """What would block or degrade must be known to be clear before anything is called ready."""
    beliefs, verdict = VERDICTS[what]
    assert verdict_of(beliefs) is verdict
    assert verdict_of(tuple(reversed(beliefs))) is verdict


def test_reasons_are_ranked_and_notices_are_none() -> None:
    """Gravest first; a notice is told beside the reasons."""
    here = court(*[problem(effect.name, effect=effect) for effect in reversed(MATTERS)])
    here.saw(*[Finding(effect.name) for effect in MATTERS])
    snapshot = here.snapshot()
    assert [reason.problem.code for reason in snapshot.reasons] == ["BLOCKS", "DEGRADES", "RISKS"]
    assert [notice.problem.code for notice in snapshot.notices] == ["NOTICE"]
    assert [belief.problem.code for belief in snapshot.beliefs] == ["BLOCKS", "DEGRADES", "RISKS", "NOTICE"]


def test_the_effect_is_that_of_what_is_seen() -> None:
    """A sighting may be milder than its problem is declared; the gravest one counts, and each reason tells its own."""
    here = court(problem("BROKEN", milder=(Effect.RISKS, Effect.NOTICE)))
    here.saw(Finding("BROKEN", "a", effect=Effect.NOTICE))
    assert (here.snapshot().verdict, here.belief().effect) == (Verdict.READY, Effect.NOTICE)
    here.saw(Finding("BROKEN", "a", effect=Effect.NOTICE), Finding("BROKEN", "b", effect=Effect.RISKS))
    snapshot = here.snapshot()
    assert (snapshot.verdict, here.belief().effect) == (Verdict.AT_RISK, Effect.RISKS)
    assert [(r.key, r.effect) for r in snapshot.reasons] == [("b", Effect.RISKS)]
    assert [(r.key, r.effect) for r in snapshot.notices] == [("a", Effect.NOTICE)]
    here.saw(Finding("BROKEN", "a"))
    assert (here.snapshot().verdict, here.belief().effect) == (Verdict.BLOCKED, Effect.BLOCKS)
    here.saw()
    assert (here.state(), here.belief().effect) == (CLEAR, Effect.BLOCKS)


def test_what_is_not_confirmed_yet_is_as_grave_as_what_is_seen() -> None:
    """A notice that awaits its second sighting does not make the verdict unknown."""
    here = court(problem("BROKEN", milder=(Effect.NOTICE,), sightings=2))
    here.saw(Finding("BROKEN", effect=Effect.NOTICE))
    assert (here.state(), here.snapshot().verdict) == (UNKNOWN, Verdict.READY)
    here.saw(Finding("BROKEN"))
    assert (here.state(), here.belief().effect, here.snapshot().verdict) == (ACTIVE, Effect.BLOCKS, Verdict.BLOCKED)


def test_what_cannot_be_told_may_be_milder_too() -> None:
    """An unknown blocker makes the verdict unknown, but not one that could only be a notice here."""
    here = court(problem("BROKEN", milder=(Effect.NOTICE,)))
    here.saw(CannotTell("dark", ("BROKEN",), Effect.NOTICE))
    assert (here.snapshot().verdict, here.belief().effect) == (Verdict.READY, Effect.NOTICE)
    here.saw(CannotTell("dark", ("BROKEN",)), CannotTell("darker", ("BROKEN",), Effect.NOTICE))
    assert (here.snapshot().verdict, here.belief().effect) == (Verdict.UNKNOWN, Effect.BLOCKS)
    here.saw(state=ProbeState.GIVEN_UP, why="late")
    assert here.belief().effect is Effect.BLOCKS


# -------------------------------------------------------------------------- where the question does not arise


def elsewhere() -> Court:
    """One probe that can void the question, and another with a problem of each effect."""
    others = [problem(effect.name, effect=effect) for effect in Effect if effect is not Effect.VOIDS]
    return Court(probe("where", [problem("ELSEWHERE", effect=Effect.VOIDS)]), probe("thing", others))


VOID = looked("where", Finding("ELSEWHERE"))


@pytest.mark.parametrize("seen", [(), (Finding("BLOCKS"), Finding("NOTICE")), (CannotTell("dark", ("BLOCKS",)),)])
def test_where_the_question_does_not_arise_all_else_is_explained(seen: tuple[Finding | CannotTell, ...]) -> None:
    """There is one reason, and the verdict is unknown, whatever else is active or unknown, in whatever order."""
    for before in (True, False):
        here = elsewhere()
        looks = [looked("thing", *seen), VOID]
        for look in looks if before else reversed(looks):
            here.takes(look)
        snapshot = here.snapshot()
        assert (snapshot.verdict, snapshot.notices, snapshot.void) == (Verdict.UNKNOWN, (), True)
        assert [(reason.problem.code, reason.consequences) for reason in snapshot.reasons] == [("ELSEWHERE", ())]
        others = [belief for belief in snapshot.beliefs if belief.problem.code != "ELSEWHERE"]
        assert {belief.explained_by for belief in others} == {"ELSEWHERE"}


def test_the_others_are_asked_when_it_is_known_that_the_question_arises() -> None:
    """Not before the first look at that, nor while it says no."""
    here = elsewhere()
    assert here.judge.held_back() == {"thing"}
    here.takes(VOID)
    assert here.judge.void
    assert here.judge.held_back() == {"thing"}
    here.takes(looked("where"))
    assert not here.judge.void
    assert here.judge.held_back() == set()
    assert court(problem("BROKEN")).judge.held_back() == set()


GIVEN_UP = looked("where", state=ProbeState.GIVEN_UP, why="not back")


@pytest.mark.parametrize("how", [*(s for s in ProbeState if s is not ProbeState.OK), None])
def test_it_stays_void_until_a_look_says_otherwise(how: ProbeState | None) -> None:
    """A look at that which comes to nothing, in whatever way, lets nobody else be asked."""
    here = elsewhere()
    here.takes(VOID)
    for _ in range(5):
        if how is None:
            here.judge.missed(["where"], "gone", here.now, WALL + here.now, 1.0)
        else:
            here.takes(replace(GIVEN_UP, state=how), after=STALE / 2)
        assert here.judge.held_back() == {"thing"}
        assert (here.snapshot().verdict, here.snapshot().void) == (Verdict.UNKNOWN, True)
    here.takes(looked("where", CannotTell("dark", ("ELSEWHERE",), Effect.NOTICE)))
    assert here.judge.void
    here.takes(looked("where", CannotTell("dark", ("ANOTHER",))))
    assert (here.judge.void, here.judge.held_back()) == (False, set())


def test_for_a_first_look_that_comes_to_nothing_the_others_wait_a_little() -> None:
    """Three looks, however they came to nothing; one that cannot tell is an answer."""
    here = elsewhere()
    for _ in range(2):
        here.takes(GIVEN_UP)
        assert (here.judge.waits, here.judge.held_back()) == (True, {"thing"})
    here.judge.missed(["where"], "gone", here.now, WALL + here.now, 1.0)
    assert (here.judge.waits, here.judge.held_back()) == (False, set())
    here = elsewhere()
    here.takes(GIVEN_UP)
    here.takes(replace(GIVEN_UP, state=ProbeState.CANNOT_TELL))
    assert (here.judge.waits, here.judge.held_back()) == (False, set())
    here.takes(GIVEN_UP)
    assert here.judge.held_back() == set()


def test_what_cannot_be_told_of_it_does_not_void() -> None:
    """Where it could only be a notice, the rest is judged as ever."""
    here = elsewhere()
    here.takes(looked("where", CannotTell("dark", ("ELSEWHERE",), Effect.NOTICE)))
    here.takes(looked("thing"))
    assert (here.snapshot().verdict, here.judge.held_back()) == (Verdict.READY, set())
    here.takes(looked("thing", Finding("BLOCKS")))
    assert here.snapshot().verdict is Verdict.BLOCKED


def test_a_judge_of_nothing_cannot_tell() -> None:
    """Without any probe the verdict is unknown, and so it is before the first look."""
    assert Court().snapshot().verdict is Verdict.UNKNOWN
    assert court(problem("BROKEN")).snapshot().verdict is Verdict.UNKNOWN


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 400.0),
            st.sampled_from(ProbeState),
            st.sets(st.sampled_from(["ROOT", "MIDDLE", "LEAF"])),
            st.sets(st.sampled_from(["ROOT", "MIDDLE", "LEAF"])),
        ),
        max_size=12,
    )
)
def test_ready_is_said_only_of_what_a_fresh_look_found_clean(
    looks: list[tuple[float, ProbeState, set[str], set[str]]],
) -> None:
    """Whatever came before: after a look that could not tell of a blocker, or that saw one that is believed at once,
    the verdict is not ready."""
    here = court(problem("ROOT", explains=("MIDDLE",)), problem("MIDDLE", explains=("LEAF",)), problem("LEAF"))
    for after, state, found, dark in looks:
        here.saw(*map(Finding, sorted(found)), CannotTell("dark", sorted(dark)) if dark else CannotTell("x", ("?",)),
                 after=after, state=state, why="why")  # fmt: skip
        verdict = here.snapshot().verdict
        if found:
            assert verdict is Verdict.BLOCKED
        elif state is not ProbeState.OK or dark:
            assert verdict is Verdict.UNKNOWN
        else:
            assert verdict is Verdict.READY


# ------------------------------------------------------------------------------------- taking over, pending, runs


def test_a_judge_takes_over_what_the_one_before_believes() -> None:
    """After a reload nothing is forgotten: beliefs, sightings, runs, and since when the verdict is."""
    first = court(problem("BROKEN"), problem("BURNT", sightings=2))
    first.saw(BROKEN, Finding("BURNT"), after=10)
    before = first.snapshot()
    second = Court(*(probe("thing", [problem("BROKEN"), problem("BURNT", sightings=2)]),), before=first.judge, at=20.0)
    after = second.snapshot()
    assert replace(after, beliefs=()) == replace(before, beliefs=())
    assert second.belief().since == first.belief().since
    second.saw(BROKEN, Finding("BURNT"))
    assert second.state("BURNT") is ACTIVE


def test_a_machine_that_the_backup_does_not_need_is_told_of_and_not_judged() -> None:
    """Whatever is wrong or cannot be told is worth knowing at most; elsewhere than in Azure the question still does not
    arise."""
    known = probe("thing", [problem("BROKEN"), problem("HARMED", effect=Effect.DEGRADES), problem("DARK")])
    judge = Judge([known], {"thing": INTERVAL}, DEADLINE, needed=False)
    judge.saw(looked("thing", BROKEN, Finding("HARMED"), CannotTell("dark", ("DARK",))), 1.0, WALL)
    told = judge.snapshot(1.0, WALL, {}, {})
    assert (told.verdict, told.reasons) == (Verdict.READY, ())
    assert {notice.problem.code for notice in told.notices} == {"BROKEN", "HARMED"}
    assert {belief.effect for belief in told.beliefs} == {Effect.NOTICE}
    assert {sighting.effect for belief in told.beliefs for sighting in belief.sightings} == {Effect.NOTICE}

    where = probe("where", [problem("ELSEWHERE", effect=Effect.VOIDS)])
    judge = Judge([where, known], {"where": INTERVAL, "thing": INTERVAL}, DEADLINE, needed=False)
    assert judge.snapshot(0.0, WALL, {}, {}).verdict is Verdict.UNKNOWN
    judge.saw(looked("where", Finding("ELSEWHERE")), 1.0, WALL)
    told = judge.snapshot(1.0, WALL, {}, {})
    assert told.void
    assert told.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("needed", [True, False])
def test_whether_it_is_needed_counts_at_once(needed: bool) -> None:
    """After a reload nothing has to be looked at first: a ready that was said without need is not said on."""
    looking = [probe("thing", [problem("BROKEN"), problem("HARMED", effect=Effect.DEGRADES)])]
    before = Judge(looking, {"thing": INTERVAL}, DEADLINE, needed=not needed)
    before.saw(looked("thing", BROKEN, CannotTell("dark", ("HARMED",))), 1.0, WALL)
    after = Judge(looking, {"thing": INTERVAL}, DEADLINE, before, needed).snapshot(2.0, WALL + 1, {}, {})
    assert after.verdict is (Verdict.BLOCKED if needed else Verdict.READY)
    assert [reason.effect for reason in after.reasons] == ([Effect.BLOCKS] if needed else [])
    effects = {belief.problem.code: belief.effect for belief in after.beliefs}
    assert effects["HARMED"] is (Effect.DEGRADES if needed else Effect.NOTICE)


def test_a_probe_that_is_new_after_a_reload_begins_unknown_and_one_that_is_gone_is_forgotten() -> None:
    """Only what is declared now is judged."""
    first = court(problem("BROKEN"))
    first.saw(BROKEN)
    second = Court(probe("other", [problem("LOST")]), before=first.judge, at=first.now)
    snapshot = second.snapshot()
    assert [belief.problem.code for belief in snapshot.beliefs] == ["LOST"]
    assert [run.name for run in snapshot.probes] == ["other"]
    assert snapshot.verdict is Verdict.UNKNOWN


def test_pending_names_the_probes_that_saw_something_unconfirmed() -> None:
    """Not those whose findings are believed, and not those that could not tell."""
    here = Court(
        probe("other", [problem("LOST", sightings=2)]),
        probe("thing", [problem("BROKEN", sightings=2), problem("BURNT")]),
    )
    assert here.judge.pending() == ()
    here.saw(BROKEN, Finding("BURNT"))
    assert here.judge.pending() == ("thing",)
    here.takes(looked("other", Finding("LOST")))
    assert here.judge.pending() == ("other", "thing")
    here.saw(BROKEN)
    assert here.judge.pending() == ("other",)
    here.takes(looked("other", state=ProbeState.CANNOT_TELL, why="late"))
    assert here.judge.pending() == ()
    here.takes(looked("other"))
    assert here.judge.pending() == ()


def test_the_snapshot_tells_of_the_newest_runs() -> None:
    """When each probe looked, how it went and how long it took; the oldest of them says when all was checked."""
    here = Court(probe("thing", [problem("BROKEN")]), probe("other"), probe("third"))
    here.saw(seconds=0.5, attempts=3, after=10)
    here.takes(looked("other", CannotTell("dark", ("X",))), after=10)
    snapshot = here.snapshot(after=10)
    assert [(run.name, run.state, run.seconds, run.attempts, run.last_run, run.why) for run in snapshot.probes] == [
        ("thing", ProbeState.OK, 0.5, 3, WALL + 10, ""),
        ("other", ProbeState.OK, 0.25, 0, WALL + 20, "dark"),
        ("third", None, 0.0, 0, None, "not looked at yet"),
    ]
    assert snapshot.checked_at == WALL + 10


def test_the_processes_to_watch_are_those_of_the_newest_looks() -> None:
    """A look without one takes the older ones away."""
    here = court()
    watch = Watch("daemon", 7)
    here.saw(watches=(watch,))
    assert here.judge.watches() == (watch,)
    here.saw()
    assert here.judge.watches() == ()


# ------------------------------------------------------------------------------------------------ after a restart


def kept_after(here: Court) -> Kept:
    """What the judge would leave behind now."""
    return here.judge.keep(here.snapshot(), WALL + here.now)


def restarted(kept: Kept, at: float, *problems: Problem) -> Court:
    """Another run, which begins at `at`."""
    here = Court(probe("thing", problems), at=at)
    here.judge.recall(kept)
    here.snapshot()
    return here


@pytest.mark.parametrize("needed", [1, 2])
def test_a_restart_does_not_forget_since_when(needed: int) -> None:
    """What is still there has been there since before: the problem, each key of it, and the verdict."""
    before = court(problem("BROKEN", sightings=needed))
    for _ in range(needed):
        before.saw(BROKEN)
    first = before.snapshot()
    after = restarted(kept_after(before), 600.0, problem("BROKEN", sightings=needed))
    for _ in range(needed):
        after.saw(BROKEN)
    then = after.snapshot()
    assert (then.verdict, then.since) == (Verdict.BLOCKED, first.since)
    assert then.since < WALL + 10
    assert after.belief().since == before.belief().since
    assert [r.since for r in then.reasons] == [r.since for r in first.reasons]
    # A key that was not there before begins now.
    for _ in range(needed):
        after.saw(BROKEN, Finding("BROKEN", "other"))
    assert max(sighting.since for sighting in after.belief().sightings) > WALL + 600


def test_what_was_over_or_is_new_after_a_restart_begins_anew() -> None:
    """Once this run has seen it clear, what was kept is of no more use."""
    before = court(problem("BROKEN"))
    before.saw(BROKEN)
    after = restarted(kept_after(before), 60.0, problem("BROKEN"))
    after.saw()
    assert after.snapshot().since == WALL + after.now
    after.saw(BROKEN)
    assert after.belief().since == after.snapshot().since == WALL + after.now


@pytest.mark.parametrize("at", [1.0 + STALE + KEPT_EVERY + 1.0, -100.0], ids=["too long ago", "the clock was set back"])
def test_what_was_known_too_long_ago_is_not_gone_on_from(at: float) -> None:
    """As little as a look that old would be believed, and what may be kept without being written anew."""
    before = court(problem("BROKEN"))
    before.saw(BROKEN)
    after = restarted(kept_after(before), at, problem("BROKEN"))
    after.saw(BROKEN)
    assert after.belief().since == after.snapshot().since == WALL + after.now


def test_a_run_that_saw_nothing_keeps_what_was_known() -> None:
    """Two restarts in a row, the first ended before it had looked: since when is still known, and how fresh that is."""
    before = court(problem("BROKEN"))
    before.saw(BROKEN)
    kept = kept_after(before)
    idle = restarted(kept, 60.0, problem("BROKEN"))
    assert kept_after(idle) == kept
    after = restarted(kept_after(idle), 120.0, problem("BROKEN"))
    after.saw(BROKEN)
    assert after.belief().since == after.snapshot().since == before.belief().since


def test_after_a_restart_too_a_consequence_waits_for_its_cause() -> None:
    """Also one that began before its cause: while the cause is being confirmed, it is no reason of its own."""
    problems = (problem("BROKEN", sightings=2, explains=("EFFECT",)), problem("EFFECT"))
    effect = Finding("EFFECT")
    before = court(*problems)
    before.saw(effect)
    before.saw(BROKEN, effect)
    before.saw(BROKEN, effect)
    after = restarted(kept_after(before), 60.0, *problems)
    after.saw(BROKEN, effect)
    assert (after.snapshot().verdict, after.snapshot().reasons) == (Verdict.UNKNOWN, ())
    after.saw(BROKEN, effect)
    assert [reason.problem.code for reason in after.snapshot().reasons] == ["BROKEN"]
