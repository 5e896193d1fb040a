"""What is to be believed after all that was seen, and what follows for the next backup?

No clock and no I/O in here: the caller says when. A problem becomes active after as many sightings in a row as its
declaration asks for, one clean look clears it, a look that could not tell or is too old makes it unknown. A problem
that is a mere consequence of an active one is no reason of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from backupready.model import (
    Belief,
    BeliefState,
    Effect,
    Fixes,
    Happened,
    Looked,
    Probe,
    ProbeRun,
    ProbeState,
    Problem,
    Reading,
    Reason,
    Scalar,
    Sighting,
    Snapshot,
    Verdict,
    Watch,
)

# A look is too old when this many of its intervals, and its deadline, have gone by without a newer one.
_STALE_INTERVALS = 3
# So often what is kept for another run is written, although nothing has changed; what changes is written at once.
KEPT_EVERY = 300.0  # s
_NOT_YET = "not looked at yet"
# Looks that may come to nothing before it is given up to learn first whether the question arises.
_LOOKS_WAITED_FOR = 3


@dataclass(frozen=True)
class KeptProblem:
    """Since when a problem, and each key of it, was active, and `at` which moment that was known last."""

    since: float
    at: float
    keys: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class KeptClocks:
    """What both clocks said last, and since when (wall clock) they go alike and the machine is up without a break; all
    in seconds. `boot` is the kernel's own name for the time since it was started."""

    boot: str
    since: float
    wall: float
    monotonic: float


@dataclass(frozen=True)
class KeptFixes:
    """What was counted of fixes. `told` has the counters of the hands as they could be read last, None where they never
    could; `would_run` is the mind's own, and `counted` what does not count again as long as its problem is there:
    remedy, problem and key."""

    told: Fixes | None = None
    would_run: Mapping[str, int] = field(default_factory=dict)
    counted: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Kept:
    """What outlives a restart: since when things are as they are, and when that was known last. All times are wall
    clock, seconds since the epoch; the verdict is UNKNOWN where none was known. `clocks` are None where nothing was
    known of them; `memory` is that of probes, by name, where it is worth more than their next look. `scores` are how
    often which verdict met with what, and `fixes` what was counted of them: counters do not go back."""

    verdict: Verdict = Verdict.UNKNOWN
    since: float = 0.0
    at: float = 0.0
    problems: Mapping[str, KeptProblem] = field(default_factory=dict)
    clocks: KeptClocks | None = None
    memory: Mapping[str, Mapping[str, Scalar]] = field(default_factory=dict)
    scores: tuple[tuple[Verdict, Happened, int], ...] = ()
    fixes: KeptFixes = field(default_factory=KeptFixes)


@dataclass
class _Track:
    """What is remembered of one problem."""

    problem: Problem
    probe: str
    sightings: dict[str, Sighting] = field(default_factory=dict)
    counted: dict[str, float] = field(default_factory=dict)  # monotonic, by key
    first: dict[str, float] = field(default_factory=dict)  # when this run saw it first, monotonic, by key
    settled_at: float = 0.0  # when this run made up its mind, monotonic
    cannot: str = _NOT_YET
    possible: Effect | None = None  # the gravest that it could be while it cannot be told; None for what it declares
    settled: BeliefState = BeliefState.UNKNOWN
    since: float | None = None


@dataclass(frozen=True)
class _Newest:
    """The newest look of one probe; `told` is monotonic."""

    run: ProbeRun
    told: float | None = None
    readings: tuple[Reading, ...] = ()
    watches: tuple[Watch, ...] = ()


class Judge:
    """Takes looks, gives beliefs. `intervals` are the probes' intervals in seconds, by name."""

    def __init__(
        self,
        probes: Sequence[Probe],
        intervals: Mapping[str, float],
        deadline: float,
        before: Judge | None = None,
        needed: bool = True,
    ) -> None:
        """With a judge from `before`, what it believes is taken over. Where the backup does without anything in this
        machine (not `needed`), whatever is wrong here is no more than worth knowing."""
        self._probes = {probe.name: probe for probe in probes}
        self._intervals = dict(intervals)
        self._deadline = deadline
        self._needed = needed
        self._tracks = {problem.code: _Track(problem, probe.name) for probe in probes for problem in probe.problems}
        self._newest = {p.name: _Newest(ProbeRun(p.name, None, 0.0, 0, None, _NOT_YET)) for p in probes}
        self._waited_for = {probe.name: _LOOKS_WAITED_FOR for probe in probes if probe.voids}
        self._verdict: tuple[Verdict, float] | None = None
        self._kept = Kept()
        self._sure = False  # whether this run has had a verdict that is not unknown

        if before is not None:
            self._tracks.update({c: t for c, t in before._tracks.items() if c in self._tracks})
            self._newest.update({name: n for name, n in before._newest.items() if name in self._probes})
            self._waited_for.update({n: left for n, left in before._waited_for.items() if n in self._waited_for})
            self._verdict = before._verdict
            self._kept, self._sure = before._kept, before._sure

    def recall(self, kept: Kept) -> None:
        """Go on from what an earlier run kept: what this one finds as it was has been so since then, if that was known
        so recently that a look would still be trusted."""
        self._kept = kept

    def keep(self, snapshot: Snapshot, wall: float) -> Kept:
        """What another run should know. Of what is unknown now, that is what was known before."""
        problems = {}
        for belief in snapshot.beliefs:
            code = belief.problem.code
            if belief.state is BeliefState.ACTIVE:
                problems[code] = KeptProblem(belief.since, wall, {s.key: s.since for s in belief.sightings})
            elif belief.state is BeliefState.UNKNOWN and code in self._kept.problems:
                problems[code] = self._kept.problems[code]
        known = snapshot.verdict is not Verdict.UNKNOWN
        self._kept = (
            Kept(snapshot.verdict, snapshot.since, wall, problems) if known else replace(self._kept, problems=problems)
        )
        return self._kept

    def saw(self, look: Looked, monotonic: float, wall: float) -> None:
        """Take one probe's look."""
        run = ProbeRun(look.probe, look.state, look.seconds, look.attempts, wall, look.why or _first(look))
        # A look that came to nothing does not say that the processes are gone.
        watches = look.watches if look.state is ProbeState.OK else self._newest[look.probe].watches
        self._newest[look.probe] = _Newest(run, monotonic, look.readings, watches)
        if look.probe in self._waited_for:
            left = self._waited_for[look.probe] - 1
            self._waited_for[look.probe] = max(0, left) if look.state is ProbeState.GIVEN_UP else 0
        for track in self._tracks.values():
            if track.probe == look.probe:
                self._see(track, look, monotonic, wall)

    def _see(self, track: _Track, look: Looked, monotonic: float, wall: float) -> None:
        code = track.problem.code
        found = {finding.key: finding for finding in look.findings if finding.problem == code}
        reasons = [(u.why, u.effect) for u in look.unknown if not u.problems or code in u.problems]
        if look.state is not ProbeState.OK:
            reasons.append((look.why, None))
        if reasons and not found and _voids(track):
            return  # it stays until a look says otherwise
        kept = dict(track.sightings) if reasons else {}
        for key, finding in found.items():
            before = track.sightings.get(key)
            effect = finding.effect or track.problem.effect
            if before is None:
                kept[key] = Sighting(key, 1, self._since(track, wall, key), finding.evidence, effect)
                track.counted[key] = track.first[key] = monotonic
            elif monotonic - track.counted[key] >= track.problem.apart.total_seconds():
                kept[key] = replace(before, count=before.count + 1, evidence=finding.evidence, effect=effect)
                track.counted[key] = monotonic
            else:
                kept[key] = replace(before, evidence=finding.evidence, effect=effect)
        track.sightings = kept
        # What was seen counts, although not everything could be (one mount of several, say).
        track.cannot = reasons[0][0] if reasons and not found else ""
        possible = (e or track.problem.effect for _, e in reasons)
        track.possible = min(possible, key=_rank, default=track.problem.effect)
        if track.cannot:
            return
        if any(sighting.count >= track.problem.sightings for sighting in kept.values()):
            _settle(track, BeliefState.ACTIVE, self._since(track, wall), monotonic)
        elif not kept:
            _settle(track, BeliefState.CLEAR, wall, monotonic)

    def _here(self, effect: Effect) -> Effect:
        return effect if self._needed or effect is Effect.VOIDS else Effect.NOTICE

    def _since(self, track: _Track, wall: float, key: str | None = None) -> float:
        """Since when a problem that is seen now is there. What an earlier run kept counts until this one has made up
        its own mind about the problem."""
        kept = self._kept.problems.get(track.problem.code)
        longest = self._stale(track.probe) + KEPT_EVERY
        if kept is None or track.since is not None or not 0 <= wall - kept.at <= longest:
            return wall
        return min(wall, kept.since if key is None else kept.keys.get(key, wall))

    def _stale(self, probe: str) -> float:
        """From how many seconds on a look is too old."""
        return _STALE_INTERVALS * self._intervals[probe] + self._deadline

    def missed(self, probes: Iterable[str], why: str, monotonic: float, wall: float, seconds: float) -> None:
        """A whole look came to nothing: its probes cannot tell, and nothing else changes."""
        for name in probes:
            left = self._waited_for.get(name, 0)
            self.saw(Looked(name, ProbeState.CANNOT_TELL, seconds, why=why), monotonic, wall)
            if left:
                self._waited_for[name] = left - 1

    @property
    def void(self) -> bool:
        """Whether the question does not arise here, so that nothing else need be asked."""
        return any(_voids(track) for track in self._tracks.values())

    @property
    def waits(self) -> bool:
        """Whether it is to be learned first if the question arises."""
        return any(self._waited_for.values())

    def held_back(self) -> set[str]:
        """The probes that are not to be asked: all others, until those that can void the question have looked, or
        have tried to often enough, and while one of them does."""
        return set(self._probes) - set(self._waited_for) if self.waits or self.void else set()

    def pending(self) -> tuple[str, ...]:
        """The probes that have seen something which is not believed yet: worth another look soon."""
        waiting = {
            track.probe
            for track in self._tracks.values()
            if not track.cannot
            and any(sighting.count < track.problem.sightings for sighting in track.sightings.values())
        }
        return tuple(name for name in self._probes if name in waiting)

    def confirm_at(self) -> float:
        """When a sighting that is awaited would count, monotonic; in the past if at once."""
        return min(
            (
                track.counted[key] + track.problem.apart.total_seconds()
                for track in self._tracks.values()
                if not track.cannot
                for key, sighting in track.sightings.items()
                if sighting.count < track.problem.sightings
            ),
            default=0.0,
        )

    def watches(self) -> tuple[Watch, ...]:
        """The processes whose death is worth a look at once."""
        return tuple(watch for newest in self._newest.values() for watch in newest.watches)

    def beliefs(self, monotonic: float, wall: float) -> tuple[Belief, ...]:
        """Every declared problem, gravest effect first, as it is believed now."""
        plain = {code: self._belief(track, monotonic, wall) for code, track in self._tracks.items()}
        causes: dict[str, str] = {}
        awaited: dict[str, str] = {}
        for code, belief in plain.items():
            track = self._tracks[code]
            if belief.state is BeliefState.ACTIVE:
                voids = belief.effect is Effect.VOIDS
                for other in plain if voids else belief.problem.explains:
                    # What has a milder effect here than it may have leaves what is graver standing.
                    if other in plain and other != code and belief.effect.rank <= plain[other].effect.rank:
                        causes.setdefault(other, code)
            elif track.sightings and not track.cannot:
                # Not confirmed yet. What appears with it is held back as unknown until it is: else a mere consequence
                # would stand as a reason of its own for that while.
                first = min(track.first[key] for key in track.sightings)
                gravest = min(sighting.effect.rank for sighting in track.sightings.values())
                for other in belief.problem.explains:
                    if (
                        other in plain
                        and gravest <= plain[other].effect.rank
                        and self._tracks[other].settled_at >= first
                    ):
                        awaited[other] = code
        told = []
        for code, belief in plain.items():
            if code in causes:
                told.append(replace(belief, explained_by=_first_cause(code, causes)))
            elif code in awaited and belief.state is BeliefState.ACTIVE:
                why = f"{awaited[code]} was seen, and is being confirmed"
                told.append(replace(belief, state=BeliefState.UNKNOWN, why=why))
            else:
                told.append(belief)
        return tuple(sorted(told, key=lambda b: b.effect.rank))

    def _belief(self, track: _Track, monotonic: float, wall: float) -> Belief:
        told = self._newest[track.probe].told
        stale = self._stale(track.probe)
        seen = tuple(track.sightings.values())
        if not self._needed:
            seen = tuple(replace(sighting, effect=self._here(sighting.effect)) for sighting in seen)
        # While it is active, what is seen of it with another key needs no confirmation of its own.
        sightings = tuple(s for s in seen if s.count >= track.problem.sightings) or seen
        declared = self._here(track.problem.effect)
        gravest = min((s.effect for s in sightings), key=_rank, default=declared)
        state, why, effect = track.settled, "", gravest
        if told is not None and monotonic - told > stale and not _voids(track):
            state, why = BeliefState.UNKNOWN, f"the newest look is older than {stale:.0f} s"
            effect = declared
        elif track.cannot:
            state, why = BeliefState.UNKNOWN, track.cannot
            effect = self._here(track.possible) if track.possible else declared
        elif state is BeliefState.UNKNOWN:
            why = "seen, and not confirmed yet"
        if state is BeliefState.UNKNOWN and track.settled is not BeliefState.UNKNOWN:
            track.settled, track.since = BeliefState.UNKNOWN, wall
        return Belief(track.problem, state, track.since or wall, effect, sightings, why=why)

    def snapshot(
        self, monotonic: float, wall: float, machine: Mapping[str, str], counters: Mapping[str, float]
    ) -> Snapshot:
        """All that is believed now, with the verdict that follows from it."""
        beliefs = self.beliefs(monotonic, wall)
        verdict = verdict_of(beliefs)
        if self._verdict is None or self._verdict[0] is not verdict:
            self._verdict = (verdict, self._verdict_since(verdict, wall))
            self._sure = self._sure or verdict is not Verdict.UNKNOWN
        reasons = [reason for belief in beliefs if belief.active for reason in _reasons(belief, beliefs)]
        runs = [newest.run for newest in self._newest.values()]
        return Snapshot(
            verdict=verdict,
            since=self._verdict[1],
            checked_at=min((run.last_run for run in runs if run.last_run is not None), default=wall),
            machine=machine,
            beliefs=beliefs,
            reasons=tuple(r for r in reasons if r.effect is not Effect.NOTICE),
            notices=tuple(r for r in reasons if r.effect is Effect.NOTICE),
            probes=tuple(runs),
            readings=tuple(r for name in self._probes for r in self._fresh_readings(name, monotonic)),
            counters=dict(counters),
            slower={
                name: seconds
                for name, probe in self._probes.items()
                if (seconds := self._intervals[name]) > probe.interval.total_seconds()
            },
        )

    def _verdict_since(self, verdict: Verdict, wall: float) -> float:
        """Since when a verdict that is new to this run holds: its first one may go on from an earlier run's."""
        longest = max((self._stale(name) for name in self._probes), default=0.0) + KEPT_EVERY
        goes_on = not self._sure and verdict is self._kept.verdict is not Verdict.UNKNOWN
        return min(self._kept.since, wall) if goes_on and 0 <= wall - self._kept.at <= longest else wall

    def _fresh_readings(self, name: str, monotonic: float) -> tuple[Reading, ...]:
        """A stale reading is dropped, not repeated."""
        newest = self._newest[name]
        fresh = newest.told is not None and monotonic - newest.told <= self._stale(name)
        return newest.readings if fresh else ()


def _first_cause(code: str, causes: Mapping[str, str]) -> str:
    """What stands at the other end of a chain of consequences."""
    seen = {code}
    while (cause := causes.get(code)) is not None and cause not in seen:
        seen.add(cause)
        code = cause
    return code


def _rank(effect: Effect) -> int:
    return effect.rank


def _voids(track: _Track) -> bool:
    """Whether it is known of this problem that the question does not arise."""
    return track.problem.effect is Effect.VOIDS and track.settled is BeliefState.ACTIVE


def _settle(track: _Track, state: BeliefState, since: float, monotonic: float) -> None:
    if track.settled is not state:
        track.settled, track.since, track.settled_at = state, since, monotonic


def _first(look: Looked) -> str:
    return look.unknown[0].why if look.unknown else ""


def _reasons(belief: Belief, beliefs: Sequence[Belief]) -> list[Reason]:
    code = belief.problem.code
    explained = () if belief.effect is Effect.VOIDS else beliefs  # what is void is not its consequence
    consequences = tuple(b.problem.code for b in explained if b.explained_by == code and b.state is BeliefState.ACTIVE)
    seen = sorted(belief.sightings, key=lambda s: s.effect.rank)
    return [Reason(belief.problem, s.key, s.since, s.evidence, s.effect, consequences) for s in seen]


def verdict_of(beliefs: Iterable[Belief]) -> Verdict:
    """The one answer. What would block or degrade the backup must be known to be clear before anything is called
    ready; an unknown risk is told beside the verdict and does not change it. Where the question does not arise there is
    no answer."""
    beliefs = tuple(beliefs)
    effects = {belief.effect for belief in beliefs if belief.active}
    if Effect.VOIDS in effects:
        return Verdict.UNKNOWN
    if Effect.BLOCKS in effects:
        return Verdict.BLOCKED
    if not beliefs or any(b.unknown and b.effect.rank <= Effect.DEGRADES.rank for b in beliefs):
        return Verdict.UNKNOWN
    if Effect.DEGRADES in effects:
        return Verdict.DEGRADED
    if Effect.RISKS in effects:
        return Verdict.AT_RISK
    return Verdict.READY
