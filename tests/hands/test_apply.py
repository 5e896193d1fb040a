"""Applying a fix: whatever happens in the middle, the machine is healed or as before, and the ledger says which."""

from __future__ import annotations

import copy
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

import pytest

from backupready import fixes
from backupready.hands import apply as hands
from backupready.hands import ledger
from backupready.hands.apply import World
from backupready.hands.files import StepFailed
from backupready.hands.gate import Request, Sight, Situation
from backupready.hands.ledger import Ledger, LedgerError, Moment
from backupready.model import (
    Attempt,
    CannotTell,
    DaemonReload,
    EnableUnit,
    Finding,
    Fixes,
    Machine,
    Outlook,
    PackageUpgrade,
    Pause,
    Phase,
    Refusal,
    Remedy,
    RestartUnit,
    Result,
    SetAside,
    SetConfigKey,
    StartUnit,
    Step,
    StopUnit,
    Unsuitable,
    Wait,
    Window,
    WouldRun,
    WriteDropIn,
)

PROBLEM, NEW = "EXTENSION_STATE_GARBAGE", "AGENT_STOPPED"
START = 1_000_000.0
FILES: tuple[Step, ...] = tuple(SetAside(name) for name in "abcde")


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    yield from ()


REMEDY = Remedy(
    "reload-extension",
    "Reload the extension",
    (PROBLEM,),
    plan,
    worst_case=timedelta(minutes=10),
    settle=timedelta(minutes=4),
    source="https://example.com",
)
REQUEST = Request("reload-extension", PROBLEM, "k", seen=START - 10.0)
PERSON = Request("reload-extension", "", "", by="root")


class Crash(BaseException):
    """kill -9."""


@dataclass
class Guest:
    """A machine in memory. A step is `done` by its name; a restarted unit knows of what is done then. `heals`: whether
    the problem goes when all is done, `worse`: whether another one comes. `fails` is the step that cannot be done.
    `point` is the moment at which everything ends, counted over all calls, before and after each."""

    steps: tuple[Step, ...]
    heals: bool = True
    worse: bool = False
    fails: Step | None = None
    unseen: bool = False  # the look cannot tell
    done: list[Step] = field(default_factory=list)
    half: list[Step] = field(default_factory=list)
    edited: list[Step] = field(default_factory=list)  # somebody else has been there
    known: tuple[Step, ...] = ()  # what was done at the last restart
    calls: list[str] = field(default_factory=list)
    time: float = START
    boot: str = "one"
    snapshot: str = ""
    held: tuple[Refusal, ...] = ()
    point: int = -1
    moment: int = 0

    def reach(self) -> None:
        if self.point >= 0 and self.moment >= self.point:
            raise Crash
        self.moment += 1

    # ---- the doer

    def prepare(self, step: Step) -> Mapping[str, Any]:
        self.reach()
        self.calls.append(f"prepare {type(step).__name__}")
        return {"before": step in self.done}

    def do(self, step: Step, record: Mapping[str, Any]) -> None:
        self.reach()
        self.calls.append(f"do {type(step).__name__}")
        if step == self.fails:
            raise StepFailed("it does not work")
        if isinstance(step, RestartUnit):
            self.known = tuple(self.done)
        elif step not in self.done:
            self.half = [step]
            self.reach()
            self.half.remove(step)
            self.done.append(step)
        self.reach()

    def undo(self, step: Step, record: Mapping[str, Any]) -> None:
        self.reach()
        self.calls.append(f"undo {type(step).__name__}")
        if isinstance(step, PackageUpgrade):
            raise StepFailed("an upgrade is not taken back")
        if step in self.edited:
            raise StepFailed("somebody has edited it since")
        for there in (self.done, self.half):
            if step in there:
                there.remove(step)
        self.reach()

    def state(self, step: Step, record: Mapping[str, Any]) -> str:
        self.reach()
        return "half" if step in self.half else "done" if step in self.done else "not_done"

    # ---- the rest of the world

    def clock(self) -> Moment:
        return Moment(self.time, self.boot, self.time - START + 1000.0)

    def sleep(self, seconds: float) -> None:
        self.reach()
        self.time += seconds

    def look(self) -> Sight:
        self.reach()
        everything = all(step in self.done for step in self.steps if not isinstance(step, RestartUnit))
        seen = set() if everything and self.heals else {(PROBLEM, "k")}
        if everything and self.worse:
            seen.add((NEW, ""))
        if self.unseen:
            return Sight(unknown=frozenset({PROBLEM}))
        return Sight(frozenset(seen))

    def situation(self, remedy: Remedy, request: Request) -> Situation:
        window = Window(self.time + 7200.0, self.time + 9000.0, "daily")
        return Situation(
            mode="on",
            allow=(remedy.name,),
            user=0,
            outlook=Outlook(self.time, Phase.LEAD, window, lead=10000.0),
            evidence_since=START - 100.0,
            sight=Sight(frozenset({(PROBLEM, "k")})),
            plan=self.steps,
        )

    def hold(self, plan: object) -> tuple[Refusal, ...]:
        running = Refusal("snapshot_running", self.snapshot, None, "wait until it has ended")
        return (*self.held, *([running] if self.snapshot else []))

    def collect(self, request: Request) -> str:
        self.reach()
        self.calls.append("collect")
        return "/var/lib/bundle"

    def world(self, place: Path) -> World:
        return World(
            ledger=CrashingLedger(self, place),
            doer=self,
            situation=self.situation,
            renewed=lambda remedy, request, facts: replace(facts, snapshot=self.snapshot),
            hold=self.hold,
            look=self.look,
            snapshot=lambda: self.snapshot,
            collect=self.collect,
            clock=self.clock,
            sleep=self.sleep,
        )


class CrashingLedger(Ledger):
    """One that also ends before, in the middle of, and after a line."""

    def __init__(self, guest: Guest, place: Path) -> None:
        self._guest = guest
        super().__init__(place / "hands", place / "fixes.json", guest.clock())

    def _write(self, data: bytes) -> None:
        self._guest.reach()
        half = len(data) // 2
        os.write(self._file, data[:half])
        self._guest.reach()
        os.write(self._file, data[half:])
        self._guest.reach()

    def _mark(self) -> None:
        self._guest.reach()
        super()._mark()
        self._guest.reach()

    def _unmark(self) -> None:
        self._guest.reach()
        super()._unmark()
        self._guest.reach()

    def publish(self, now: Moment) -> Fixes:
        self._guest.reach()
        return super().publish(now)


def marked(place: Path) -> bool:
    """Whether the next start is asked for; it must be where something is left to be done."""
    there = (place / "hands" / ledger.UNFINISHED).exists()
    assert there or not ledger.is_left_to_do(ledger.peek(place / "hands"))
    return there


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a crash of the process leaves does not depend on it, and it takes long."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


def fill_up(world: World, lines: int = 0) -> None:
    """The disk has room for so many more lines of the ledger."""
    write, left = world.ledger._write, [lines]

    def filling(data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        write(data)

    world.ledger._write = filling  # type: ignore[method-assign]


def applied(guest: Guest, place: Path, request: Request = REQUEST, remedy: Remedy = REMEDY) -> Attempt:
    world = guest.world(place)
    try:
        attempt = hands.apply(remedy, request, world)
    finally:
        world.ledger.close()
    assert isinstance(attempt, Attempt)
    return attempt


def events(place: Path) -> list[str]:
    return [line.event for line in ledger.decode((place / "hands/ledger").read_bytes())[0]]


# ------------------------------------------------------------------------------------------------------- crashes


def crashed_everywhere(make: Callable[[], Guest], check: Callable[[Guest, Attempt | None], None]) -> int:
    """Crash at every moment of apply(), and recover(): at once, and after it has crashed itself, at some of its
    moments, others for each. Check what is true then. Gives how many crashes there were."""
    crashes = 0
    for point in itertools.count():
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            guest = make()
            guest.point = point
            try:
                applied(guest, place)
                return crashes
            except Crash:
                crashes += 1
            marked(place)
            for second in itertools.count(point % 19, 19):
                with tempfile.TemporaryDirectory() as other:
                    again, there = copy.deepcopy(guest), Path(other)
                    _copy(place, there)
                    again.point = again.moment + second
                    try:
                        _recovered(again, there)
                        break
                    except Crash:
                        crashes += 1
                    marked(there)
                    again.point = -1
                    check(again, _recovered(again, there))
            guest.point = -1
            check(guest, _recovered(guest, place))
    return crashes


def _copy(place: Path, there: Path) -> None:
    if (place / "hands").is_dir():
        (there / "hands").mkdir(mode=0o700)
        for file in (place / "hands").iterdir():
            (there / "hands" / file.name).write_bytes(file.read_bytes())


def _recovered(guest: Guest, place: Path) -> Attempt | None:
    """The only attempt, after the next start has ended it; None where none was noted."""
    world = guest.world(place)
    try:
        hands.recover(world)
        assert ledger.unfinished(world.ledger.lines) == ()
        found = ledger.attempts(world.ledger.lines)
        assert fixes.decode((place / "fixes.json").read_bytes()).attempts == found
    finally:
        world.ledger.close()
    assert marked(place) is bool(ledger.temporary(world.ledger.lines))
    assert len(found) <= 1
    return found[0] if found else None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("outcome", ["heals", "does not help", "makes it worse", "fails"])
def test_after_a_crash_at_any_point_it_is_healed_or_as_before(size: int, outcome: str, no_sync: None) -> None:
    """Plans of up to five steps, a crash before, in and after every call and line, and one more in what follows."""

    def make() -> Guest:
        return Guest(
            FILES[:size],
            heals=outcome != "does not help",
            worse=outcome == "makes it worse",
            fails=FILES[size - 1] if outcome == "fails" else None,
        )

    def check(guest: Guest, attempt: Attempt | None) -> None:
        healed = attempt is not None and attempt.result is Result.HEALED
        assert guest.done == list(guest.steps if healed else ())
        assert guest.half == []
        assert (outcome == "heals") or not healed
        if attempt is not None:
            assert attempt.left == ()
            assert attempt.ended is not None

    assert crashed_everywhere(make, check) > 10 * size


def test_after_a_crash_what_cannot_be_undone_is_whole_and_told(no_sync: None) -> None:
    """An upgrade is never left in the middle; all before it is undone."""
    steps = (FILES[0], PackageUpgrade("walinuxagent"), FILES[1])

    def check(guest: Guest, attempt: Attempt | None) -> None:
        assert guest.half == []
        healed = attempt is not None and attempt.result is Result.HEALED
        if healed:
            assert guest.done == list(steps)
        else:
            left = [1] if steps[1] in guest.done else []
            assert guest.done == [steps[index] for index in left]
            assert list(attempt.left if attempt else ()) == left
            if left and attempt:
                assert "step 2 is left as it is: an upgrade is not taken back" in attempt.reasons

    for heals in (True, False):
        assert crashed_everywhere(lambda heals=heals: Guest(steps, heals=heals), check) > 30  # type: ignore[misc]


def test_after_a_crash_behind_what_cannot_be_undone_it_is_finished(tmp_path: Path, no_sync: None) -> None:
    """The agent of the new package is started, and a look says whether that has helped."""
    guest = Guest((PackageUpgrade("walinuxagent"), RestartUnit("a.service"), FILES[0]))
    do = guest.do

    def killed(step: Step, record: Mapping[str, Any]) -> None:
        do(step, record)
        raise Crash

    guest.do = killed  # type: ignore[method-assign]
    with pytest.raises(Crash):
        applied(guest, tmp_path)
    guest.do = do  # type: ignore[method-assign]
    attempt = _recovered(guest, tmp_path)
    assert attempt is not None
    assert (attempt.result, guest.done) == (Result.HEALED, [guest.steps[0], FILES[0]])
    assert guest.known == (guest.steps[0],)


def test_after_a_crash_the_unit_knows_what_is_true(no_sync: None) -> None:
    """Where a restart made a change known, another makes known that it is undone."""
    steps = (SetConfigKey("Extensions.Enabled", "y"), RestartUnit("a.service"), FILES[0])

    def check(guest: Guest, attempt: Attempt | None) -> None:
        healed = attempt is not None and attempt.result is Result.HEALED
        assert (steps[0] in guest.known) is healed
        assert (steps[0] in guest.done) is healed

    assert crashed_everywhere(lambda: Guest(steps, heals=False), check) > 30
    assert crashed_everywhere(lambda: Guest(steps), check) > 30


# ------------------------------------------------------------------------------------------------------ the course


def test_a_fix_that_heals_is_noted_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """Evidence before anything, a note before and after each step, a look, and the incident ends."""
    guest = Guest(FILES[:2])
    attempt = applied(guest, tmp_path)
    assert (attempt.result, attempt.reasons) == (Result.HEALED, ("evidence: /var/lib/bundle",))
    assert guest.calls == ["collect", "prepare SetAside", "do SetAside", "prepare SetAside", "do SetAside"]
    assert events(tmp_path) == ["started", "prepared", "done", "prepared", "done", "ended", "clear"]
    told = fixes.decode((tmp_path / "fixes.json").read_bytes())
    assert (told.attempts, told.incidents) == ((attempt,), ())
    assert guest.time == START + 60.0  # a quarter of what it may take to settle


def test_what_does_not_help_is_undone_when_it_had_time_to_settle(tmp_path: Path) -> None:
    """In reverse; the incident stays open, and the evidence is not taken twice."""
    guest = Guest(FILES[:3], heals=False)
    attempt = applied(guest, tmp_path)
    assert (attempt.result, attempt.reasons[1:]) == (Result.NOT_HEALED, (f"{PROBLEM} is still seen",))
    assert (guest.done, guest.time) == ([], START + 240.0)
    assert guest.calls[-3:] == ["undo SetAside"] * 3
    guest.calls.clear()
    again = applied(guest, tmp_path, remedy=replace(REMEDY, name="next-rung"))
    assert (again.id, again.result) == (2, Result.NOT_HEALED)
    assert "collect" not in guest.calls
    assert fixes.decode((tmp_path / "fixes.json").read_bytes()).incidents == ((PROBLEM, "k"),)


def test_what_is_undone_is_undone_in_reverse(tmp_path: Path) -> None:
    """The last step first: the others may stand on it."""
    guest, order = Guest(FILES[:3], heals=False), []
    undo = guest.undo

    def noting(step: Step, record: Mapping[str, Any]) -> None:
        order.append(step)
        undo(step, record)

    guest.undo = noting  # type: ignore[method-assign]
    applied(guest, tmp_path)
    assert order == [FILES[2], FILES[1], FILES[0]]


def test_what_was_wrong_before_does_not_make_it_worse(tmp_path: Path) -> None:
    """Another problem that was seen before the fix, and is seen after it."""
    guest = Guest(FILES[:1], worse=True)
    known = guest.situation(REMEDY, REQUEST)
    sight = Sight(known.sight.seen | {(NEW, "")})
    guest.situation = lambda remedy, request: replace(known, sight=sight)  # type: ignore[method-assign]
    assert applied(guest, tmp_path).result is Result.HEALED


def test_an_undoing_that_was_interrupted_ends_as_it_was_meant(tmp_path: Path) -> None:
    """Why it was undone is told also then."""
    guest = Guest(FILES[:2], heals=False)

    def crash(step: Step, record: Mapping[str, Any]) -> None:
        raise Crash

    undo, guest.undo = guest.undo, crash  # type: ignore[method-assign]
    with pytest.raises(Crash):
        applied(guest, tmp_path)
    guest.undo = undo  # type: ignore[method-assign]
    attempt = _recovered(guest, tmp_path)
    assert attempt is not None
    assert (attempt.result, attempt.reasons[1:]) == (Result.NOT_HEALED, (f"{PROBLEM} is still seen",))
    assert guest.done == []


def test_a_problem_that_cannot_be_told_is_not_healed(tmp_path: Path) -> None:
    """Unknown is not healthy."""
    attempt = applied(Guest(FILES[:1], unseen=True), tmp_path)
    assert attempt.result is Result.NOT_HEALED
    assert attempt.reasons[1:] == (f"it cannot be told whether {PROBLEM} is gone",)


def test_what_makes_it_worse_is_undone_also_if_it_heals(tmp_path: Path) -> None:
    """Something new that keeps a backup from succeeding is worse, unless it was not known before if it was there."""
    guest = Guest(FILES[:2], worse=True)
    attempt = applied(guest, tmp_path)
    assert (attempt.result, attempt.reasons[1:]) == (Result.WORSE, (f"seen afterwards and not before: {NEW}",))
    assert guest.done == []
    guest = Guest(FILES[:2], worse=True, time=START + 9000.0)
    known = guest.situation(REMEDY, REQUEST)
    sight = replace(known.sight, unknown=frozenset({NEW}))
    guest.situation = lambda remedy, request: replace(known, sight=sight)  # type: ignore[method-assign]
    attempt = applied(guest, tmp_path, request=replace(REQUEST, by="root"))
    assert attempt.result is Result.HEALED


@pytest.mark.parametrize(
    "error",
    [StepFailed("broken"), OSError(28, "No space left on device"), CannotTell("hangs"), OSError(), StepFailed()],
)
def test_a_step_that_fails_undoes_those_before(tmp_path: Path, error: Exception) -> None:
    """Also where it is only prepared; why is told."""
    guest = Guest((*FILES[:2], Wait("config/HandlerState", "Enabled", 60.0)))
    prepare = guest.prepare

    def failing(step: Step) -> Mapping[str, Any]:
        if isinstance(step, Wait):
            raise error
        return prepare(step)

    guest.prepare = failing  # type: ignore[method-assign]
    attempt = applied(guest, tmp_path)
    assert attempt.result is Result.FAILED
    assert attempt.reasons[1].startswith("step 3: ")
    assert (guest.done, attempt.left) == ([], ())


def test_a_restart_that_made_a_change_known_is_repeated_after_the_undoing(tmp_path: Path) -> None:
    """The daemon is reloaded and the unit restarted, in their order; without a change before them they are not."""
    steps = (WriteDropIn("a.service", "b.conf", "[Service]\n"), DaemonReload(), RestartUnit("a.service"))
    guest = Guest(steps, heals=False)
    applied(guest, tmp_path)
    after = guest.calls[guest.calls.index("undo WriteDropIn") + 1 :]
    assert [call for call in after if call.startswith("do")] == ["do DaemonReload", "do RestartUnit"]
    guest = Guest((StopUnit("a.service"), RestartUnit("a.service")), heals=False, time=START + 9000.0)
    applied(guest, tmp_path, replace(REQUEST, by="root"))
    assert guest.calls.count("do RestartUnit") == 1


def test_what_somebody_has_edited_meanwhile_is_left_and_told(tmp_path: Path) -> None:
    """The others are undone; the step can still be undone later, when that is possible."""
    guest = Guest(FILES[:3], heals=False, edited=[FILES[1]])
    attempt = applied(guest, tmp_path)
    assert (attempt.left, guest.done) == ((1,), [FILES[1]])
    assert attempt.reasons[-1] == "step 2 is left as it is: somebody has edited it since"
    guest.edited.clear()
    world = guest.world(tmp_path)
    later = hands.undo(attempt.id, world, "asked by root")
    world.ledger.close()
    assert (later.left, guest.done) == ((), [])
    assert later.reasons[1:] == (f"{PROBLEM} is still seen", "asked by root")


# -------------------------------------------------------------------------------------------- what is not done


def test_a_refusal_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    """No evidence, no step, no line."""
    guest = Guest(FILES[:1], snapshot="safefreeze runs")
    known = guest.situation(REMEDY, REQUEST)
    guest.situation = lambda remedy, request: replace(known, snapshot="safefreeze runs")  # type: ignore[method-assign]
    world = guest.world(tmp_path)
    refusal = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert isinstance(refusal, Refusal)
    assert (refusal.name, refusal.why, guest.calls, events(tmp_path)) == ("snapshot_running", "safefreeze runs", [], [])
    told = fixes.decode((tmp_path / "fixes.json").read_bytes())
    assert told.refused == {("reload-extension", "snapshot_running"): 1}


def test_what_is_observed_gives_the_plan_that_would_be_done(tmp_path: Path) -> None:
    """The same steps, counted, and nothing done."""
    guest = Guest(FILES[:2])
    known = guest.situation(REMEDY, REQUEST)
    guest.situation = lambda remedy, request: replace(known, mode="observe", allow=())  # type: ignore[method-assign]
    world = guest.world(tmp_path)
    answer = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert answer == WouldRun(guest.steps)
    assert (guest.calls, events(tmp_path)) == ([], [])
    assert fixes.decode((tmp_path / "fixes.json").read_bytes()).would_run == {"reload-extension": 1}


@pytest.mark.parametrize("plan", [Unsuitable("no unit"), CannotTell("no log")])
def test_without_a_plan_nothing_is_done(tmp_path: Path, plan: Unsuitable | CannotTell) -> None:
    """The gate says why."""
    guest = Guest(FILES[:1])
    known = guest.situation(REMEDY, REQUEST)
    guest.situation = lambda remedy, request: replace(known, plan=plan)  # type: ignore[method-assign]
    world = guest.world(tmp_path)
    refusal = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert isinstance(refusal, Refusal)
    assert refusal.name in ("unsupported", "precondition")
    assert guest.calls == []


def test_on_a_full_disk_no_fix_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and counted."""
    guest = Guest(FILES[:2])
    world = guest.world(tmp_path)

    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.ledger, "_write", full)
    refusal = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert isinstance(refusal, Refusal)
    assert (refusal.name, "No space left on device" in refusal.why) == ("ledger", True)
    assert guest.calls == ["collect"]


@pytest.mark.parametrize("lines", range(1, 7))
def test_on_a_disk_that_fills_up_meanwhile_it_is_undone_and_ended_later(tmp_path: Path, lines: int) -> None:
    """Nothing goes on that cannot be noted; when there is room again, the ledger tells what has happened."""
    guest = Guest(FILES[:2], heals=False)
    world = guest.world(tmp_path)
    fill_up(world, lines)
    attempt = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert isinstance(attempt, Attempt)
    assert (attempt.result, guest.done) == (Result.UNDER_WAY, [])
    assert "No space left on device" in attempt.reasons[-1]
    guest.calls.clear()
    still = guest.world(tmp_path)
    fill_up(still)
    with pytest.raises(LedgerError, match="No space left"):
        hands.recover(still)
    still.ledger.close()
    assert guest.calls == []  # or every start would do it anew
    ended = _recovered(guest, tmp_path)
    assert ended is not None
    assert ended.result in (Result.INTERRUPTED, Result.NOT_HEALED)
    assert guest.done == []


def test_a_snapshot_that_begins_meanwhile_ends_the_fix(tmp_path: Path) -> None:
    """Before the first step after the evidence it is a refusal, between steps a failure; nothing is touched any more
    until it has ended, and then the next start undoes it."""
    guest = Guest(FILES[:2])

    def collect(request: Request) -> str:
        guest.snapshot = "the lock is held"
        return "x"

    world = replace(guest.world(tmp_path), collect=collect)
    refusal = hands.apply(REMEDY, REQUEST, world)
    assert isinstance(refusal, Refusal)
    assert (refusal.name, ledger.attempts(world.ledger.lines)) == ("snapshot_running", ())
    guest.snapshot = ""
    do = guest.do

    def doing(step: Step, record: Mapping[str, Any]) -> None:
        do(step, record)
        guest.snapshot = "the lock is held"

    guest.do = doing  # type: ignore[method-assign]
    attempt = hands.apply(REMEDY, REQUEST, replace(world, collect=guest.collect))
    assert isinstance(attempt, Attempt)
    assert (attempt.result, attempt.reasons[1:]) == (Result.UNDER_WAY, ("step 2: a snapshot runs", _AFTERWARDS))
    assert (guest.done, guest.calls[-1]) == ([FILES[0]], "do SetAside")
    assert hands.recover(world) == ()
    guest.snapshot = ""
    (ended,) = hands.recover(world)
    world.ledger.close()
    assert (ended.result, ended.reasons[1:], guest.done) == (Result.FAILED, ("step 2: a snapshot runs",), [])


_AFTERWARDS = "a snapshot runs; it is ended after that"


@pytest.mark.parametrize("heals", [True, False])
def test_what_is_seen_while_a_snapshot_runs_does_not_count_against_a_fix(tmp_path: Path, heals: bool) -> None:
    """It may be the snapshot's doing: the next start looks again. What is healed meanwhile is healed."""
    guest = Guest(FILES[:2], worse=True, heals=heals)
    look = guest.look

    def looking() -> Sight:
        guest.snapshot = "the lock is held"
        return look()

    world = replace(guest.world(tmp_path), look=looking)
    attempt = hands.apply(REMEDY, REQUEST, world)
    assert isinstance(attempt, Attempt)
    assert (attempt.result, attempt.reasons[1:], guest.done) == (Result.UNDER_WAY, (_AFTERWARDS,), list(FILES[:2]))
    guest.snapshot, guest.worse = "", False
    (ended,) = hands.recover(replace(world, look=look))
    world.ledger.close()
    assert ended.result is (Result.HEALED if heals else Result.NOT_HEALED)


def test_what_was_explained_before_does_not_make_it_worse(tmp_path: Path) -> None:
    """A consequence of what is healed stands for itself afterwards: it was there before. Of very many only the codes
    are noted."""
    for many in (0, 300):
        guest = Guest(FILES[:1], worse=True, time=START + 100_000.0 * many)
        known = guest.situation(REMEDY, REQUEST)
        there = {(NEW, "")} | {("MOUNT_HANGS", f"/{number}") for number in range(many)}
        sight = replace(known.sight, there=frozenset(there))
        guest.situation = lambda remedy, request, known=known, sight=sight: replace(known, sight=sight)  # type: ignore[misc, method-assign]
        assert applied(guest, tmp_path, replace(REQUEST, by="root")).result is Result.HEALED


def test_a_defect_does_not_leave_the_machine_in_the_middle(tmp_path: Path) -> None:
    """Whatever a step raises, what is done is undone, also where undoing raises the same."""
    guest = Guest(FILES[:3])
    do, undo = guest.do, guest.undo

    def broken(step: Step, record: Mapping[str, Any]) -> None:
        if step == FILES[2]:
            raise ValueError("a name that is not plain")
        do(step, record)

    def undoing(step: Step, record: Mapping[str, Any]) -> None:
        if step == FILES[1]:
            raise KeyError("before")
        undo(step, record)

    guest.do, guest.undo = broken, undoing  # type: ignore[method-assign]
    attempt = applied(guest, tmp_path)
    assert (attempt.result, attempt.left, guest.done) == (Result.FAILED, (1,), [FILES[1]])
    assert attempt.reasons[1:] == (
        "step 3: a defect: ValueError('a name that is not plain')",
        "step 2 is left as it is: a defect: KeyError('before')",
    )


def test_what_has_changed_since_the_look_is_asked_about_again(tmp_path: Path) -> None:
    """A pause that begins while evidence is taken holds the fix back; it is counted."""
    guest = Guest(FILES[:1])
    pause = Pause(None, "a migration")
    world = replace(guest.world(tmp_path), renewed=lambda remedy, request, facts: replace(facts, paused=pause))
    refusal = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert isinstance(refusal, Refusal)
    assert (refusal.name, guest.calls, events(tmp_path)) == ("paused", ["collect"], [])
    assert fixes.decode((tmp_path / "fixes.json").read_bytes()).refused == {("reload-extension", "paused"): 1}


def test_nothing_is_recovered_while_a_snapshot_runs(tmp_path: Path, no_sync: None) -> None:
    """It stays under way, and the gate lets nothing else begin; afterwards it is ended."""
    guest = Guest(FILES[:2], point=12)
    with pytest.raises(Crash):
        applied(guest, tmp_path)
    guest.point, guest.snapshot = -1, "safefreeze runs"
    there = list(guest.done)
    world = guest.world(tmp_path)
    assert hands.recover(world) == ()
    assert (guest.done, len(ledger.unfinished(world.ledger.lines))) == (there, 1)
    guest.snapshot = ""
    refusal = hands.apply(REMEDY, REQUEST, world)
    assert isinstance(refusal, Refusal)
    assert refusal.name == "locked"
    (ended,) = hands.recover(world)
    world.ledger.close()
    assert (ended.result, ended.reasons, guest.done) == (Result.INTERRUPTED, ("the hands ended in the middle",), [])


# ------------------------------------------------------------------------------------------- limits and incidents


def test_a_limit_that_is_reached_is_told_until_the_problem_is_clear(tmp_path: Path) -> None:
    """Once, however often it is asked for; a fresh look that does not see the problem ends it with the incident."""
    guest = Guest(FILES[:1], heals=False)
    applied(guest, tmp_path)
    guest.time += 5000.0
    applied(guest, tmp_path, remedy=replace(REMEDY, name="next-rung"))
    guest.time += 5000.0
    for _ in range(3):
        world = guest.world(tmp_path)
        for remedy in (replace(REMEDY, name="next-rung"), REMEDY):  # in turn
            refusal = hands.apply(remedy, replace(REQUEST, seen=guest.time), world)
        world.ledger.close()
        assert isinstance(refusal, Refusal)
        assert refusal.name == "attempt_limit"
    told = fixes.decode((tmp_path / "fixes.json").read_bytes())
    assert [(limit.problem, limit.key, limit.remedy, limit.until) for limit in told.limits] == [
        (PROBLEM, "k", "next-rung", None),
        (PROBLEM, "k", "reload-extension", None),
    ]
    assert events(tmp_path).count("limit") == 2  # one for each remedy
    guest.time += 2 * 86400.0
    known = guest.situation(REMEDY, REQUEST)
    guest.situation = lambda remedy, request: replace(known, sight=Sight())  # type: ignore[method-assign]
    for _ in range(2):
        world = guest.world(tmp_path)
        again = replace(REQUEST, key="other", seen=guest.time)
        hands.note_clear((PROBLEM, "k"), world)
        assert isinstance(hands.apply(REMEDY, again, world), Refusal)
        world.ledger.close()
    told = fixes.decode((tmp_path / "fixes.json").read_bytes())
    assert (told.limits, told.incidents, events(tmp_path).count("clear")) == ((), (), 1)


@pytest.mark.parametrize(
    ("remedy", "name"),
    [(replace(REMEDY, name="next-rung"), "not_confirmed"), (REMEDY, "attempt_limit")],
    ids=["the next", "the same again"],
)
def test_an_incident_ends_when_a_fresh_look_does_not_see_the_problem(remedy: Remedy, name: str, tmp_path: Path) -> None:
    """And not when it cannot tell, whichever remedy is asked for."""
    guest = Guest(FILES[:1], heals=False)
    applied(guest, tmp_path)
    guest.time += 86400.0
    known = replace(guest.situation(REMEDY, REQUEST), allow=(REMEDY.name, "next-rung"))
    for sight, still in ((Sight(unknown=frozenset({PROBLEM})), 1), (Sight(), 0)):
        guest.situation = lambda remedy, request, sight=sight: replace(known, sight=sight)  # type: ignore[misc, method-assign]
        world = guest.world(tmp_path)
        refusal = hands.apply(remedy, replace(REQUEST, seen=guest.time), world)
        assert isinstance(refusal, Refusal)
        assert (refusal.name, len(ledger.incidents(world.ledger.lines))) == (name, still)
        world.ledger.close()


# ------------------------------------------------------------------------------------- temporary changes and undo

VERBOSE: tuple[Step, ...] = (SetConfigKey("Logs.Verbose", "y", 7200.0), RestartUnit("a.service"))


def test_a_temporary_change_ends_by_itself(tmp_path: Path) -> None:
    """After its time, also if the machine was rebooted, and not before; the unit is told."""
    guest = Guest(VERBOSE)
    attempt = applied(guest, tmp_path, PERSON)
    assert (attempt.result, guest.known, guest.calls[0]) == (Result.DONE, VERBOSE[:1], "prepare SetConfigKey")
    told = fixes.decode((tmp_path / "fixes.json").read_bytes())
    assert [(change.change, change.until) for change in told.temporary] == [("Logs.Verbose=y", START + 7200.0)]
    world = guest.world(tmp_path)
    guest.time = START + 7199.0
    assert hands.expire(world) == ()
    guest.time, guest.boot, guest.snapshot = START + 7200.0, "two", "the lock is held"
    assert hands.expire(world) == ()
    assert guest.known == VERBOSE[:1]
    guest.snapshot = ""
    (ended,) = hands.expire(world)
    assert (ended.result, ended.reasons) == (Result.UNDONE, ("its time was over",))
    assert (guest.done, guest.known) == ([], ())
    assert hands.expire(world) == ()
    world.ledger.close()
    assert fixes.decode((tmp_path / "fixes.json").read_bytes()).temporary == ()


def test_before_the_package_goes_all_temporary_changes_end(tmp_path: Path) -> None:
    """Before their time; what was healed stays."""
    guest = Guest(VERBOSE)
    applied(guest, tmp_path, PERSON)
    guest.steps, guest.time = FILES[:1], START + 5000.0
    healed = applied(guest, tmp_path)
    world = guest.world(tmp_path)
    assert [attempt.id for attempt in hands.expire(world, everything=True)] == [1]
    world.ledger.close()
    assert (healed.result, guest.done) == (Result.HEALED, list(FILES[:1]))


def test_after_a_crash_in_the_undoing_of_a_temporary_change_it_is_undone(no_sync: None) -> None:
    """At every moment; and the unit knows."""
    crashes = 0
    for point in itertools.count():
        with tempfile.TemporaryDirectory() as name:
            guest = Guest(VERBOSE)
            applied(guest, Path(name), PERSON)
            guest.time += 7200.0
            world = guest.world(Path(name))
            guest.point = guest.moment + point
            try:
                hands.expire(world)
                break
            except Crash:
                crashes += 1
            finally:
                world.ledger.close()
            guest.point = -1
            world = guest.world(Path(name))
            hands.recover(world)
            hands.expire(world)
            assert (guest.done, guest.known) == ([], ())
            assert ledger.attempts(world.ledger.lines)[0].result is Result.UNDONE
            world.ledger.close()
    assert crashes > 8


def test_a_temporary_change_that_somebody_has_edited_is_told_until_it_is_gone(tmp_path: Path) -> None:
    """It is not tried again and again: once a day, and when it has become possible."""
    guest = Guest(VERBOSE, edited=[VERBOSE[0]])
    applied(guest, tmp_path, PERSON)
    guest.time += 7200.0
    world = guest.world(tmp_path)
    (ended,) = hands.expire(world)
    assert (ended.left, ended.result) == ((0,), Result.UNDONE)
    guest.half = [VERBOSE[0]]  # what Steps.state() says of a file that somebody else has changed
    assert hands.expire(world) == ()
    assert [change.change for change in ledger.temporary(world.ledger.lines)] == ["Logs.Verbose=y"]
    assert marked(tmp_path)
    guest.time += 86400.0
    assert len(hands.expire(world)) == 1
    guest.half, guest.edited = [], []  # whoever looks finds it as we have left it
    assert hands.expire(world) == ()
    guest.time += 3600.0
    (ended,) = hands.expire(world)
    assert (ended.left, ended.reasons) == ((), ("its time was over",))
    world.ledger.publish(guest.clock())
    assert (ledger.temporary(world.ledger.lines), marked(tmp_path)) == ((), False)
    world.ledger.close()


def test_a_temporary_change_that_somebody_has_taken_back_ends_at_once(tmp_path: Path) -> None:
    """Nothing is left to be done."""
    guest = Guest(VERBOSE, edited=[VERBOSE[0]])
    applied(guest, tmp_path, PERSON)
    guest.time += 7200.0
    world = guest.world(tmp_path)
    assert len(hands.expire(world)) == 1
    guest.done.remove(VERBOSE[0])
    guest.edited = []
    (ended,) = hands.expire(world)
    world.ledger.close()
    assert ended.left == ()


HELD = Refusal("phase", "the backup window is open", None, "wait until the backup has ended")
PAUSED = Refusal("paused", "fixes are paused", None, "`backupready resume`")


def test_what_is_held_up_waits_but_for_no_more_than_a_window(tmp_path: Path, no_sync: None) -> None:
    """An end that is due, and an attempt that was interrupted: in an open window, or while others are at work, they
    wait for a day and a half at most; for a pause as long as it takes."""
    for refusal, waits in ((HELD, False), (PAUSED, True)):
        for interrupted in (False, True):
            place = tmp_path / f"{refusal.name}{interrupted}"
            place.mkdir()
            guest = Guest(VERBOSE)
            if interrupted:
                do = guest.do

                def killed(step: Step, record: Mapping[str, Any], do: Any = do) -> None:
                    do(step, record)
                    raise Crash

                guest.do = killed  # type: ignore[method-assign]
                with pytest.raises(Crash):
                    applied(guest, place, PERSON)
                guest.do = do  # type: ignore[method-assign]
            else:
                applied(guest, place, PERSON)
            assert guest.done == [VERBOSE[0]]
            guest.held = (refusal,)
            world = guest.world(place)
            guest.time += 7200.0
            assert (hands.recover(world), hands.expire(world)) == ((), ())
            guest.time += 37 * 3600.0
            ended = hands.recover(world) + hands.expire(world)
            assert len(ended) == (0 if waits else 1)
            guest.held = ()
            hands.recover(world)
            hands.expire(world)
            world.ledger.close()
            assert guest.done == []


def test_a_person_has_nothing_undone_in_an_open_window(tmp_path: Path) -> None:
    """The words say what lifts it. A pause is no word against a person."""
    guest = Guest(FILES[:1])
    attempt = applied(guest, tmp_path)
    world = guest.world(tmp_path)
    for held in ((HELD,), (PAUSED, HELD)):
        guest.held = held
        with pytest.raises(StepFailed, match="not now: the backup window is open; wait until the backup has ended"):
            hands.undo(attempt.id, world, "asked by root")
    guest.held = (PAUSED,)
    assert hands.undo(attempt.id, world, "asked by root").result is Result.UNDONE
    world.ledger.close()


STILL: tuple[Step, ...] = (StopUnit("a.service"), FILES[0], StartUnit("a.service"))


@pytest.mark.parametrize("crashes", [False, True])
def test_a_unit_that_stands_still_is_not_kept_waiting(tmp_path: Path, crashes: bool) -> None:
    """Without its agent no snapshot comes to an end: all is put back at once, whatever holds up other endings."""
    guest = Guest(STILL)
    do = guest.do

    def doing(step: Step, record: Mapping[str, Any]) -> None:
        do(step, record)
        guest.snapshot = "a status says so"
        if crashes:
            raise Crash

    guest.do = doing  # type: ignore[method-assign]
    if crashes:
        with pytest.raises(Crash):
            applied(guest, tmp_path)
        guest.do = do  # type: ignore[method-assign]
        world = guest.world(tmp_path)
        (attempt,) = hands.recover(world)
        world.ledger.close()
    else:
        attempt = applied(guest, tmp_path)
    assert (attempt.result, guest.done) == (Result.INTERRUPTED if crashes else Result.FAILED, [])


def test_a_unit_that_did_not_come_back_is_not_kept_waiting(tmp_path: Path) -> None:
    """Whatever holds up other endings, a pause among it: it is started again."""
    guest = Guest(VERBOSE)
    do = guest.do

    def failing(step: Step, record: Mapping[str, Any]) -> None:
        do(step, record)
        if isinstance(step, RestartUnit):
            guest.half = [step]  # what Steps.state() says of a unit that ran before
            raise Crash

    guest.do = failing  # type: ignore[method-assign]
    with pytest.raises(Crash):
        applied(guest, tmp_path, PERSON)
    guest.do, guest.held = do, (PAUSED, HELD)  # type: ignore[method-assign]
    world = guest.world(tmp_path)
    (ended,) = hands.recover(world)
    world.ledger.close()
    assert (ended.result, guest.half, guest.done) == (Result.INTERRUPTED, [], [])


def test_an_attempt_that_waits_keeps_no_other_waiting(tmp_path: Path) -> None:
    """Each is held up by what concerns it."""
    guest = Guest(FILES[:1])
    first = applied(guest, tmp_path)
    guest.steps = STILL
    do = guest.do

    def killed(step: Step, record: Mapping[str, Any]) -> None:
        do(step, record)
        raise Crash

    guest.do = killed  # type: ignore[method-assign]
    with pytest.raises(Crash):
        applied(guest, tmp_path, PERSON, replace(REMEDY, name="next-rung"))
    guest.do = do  # type: ignore[method-assign]
    world = guest.world(tmp_path)
    world.ledger.add("undoing", guest.clock(), attempt=first.id, result="undone", reasons=[])
    guest.held = (HELD,)
    assert [attempt.id for attempt in hands.recover(world)] == [2]
    assert guest.done == [FILES[0]]
    world.ledger.close()


def test_what_holds_up_is_bounded_from_when_it_is_held_up(tmp_path: Path) -> None:
    """Not from the attempt, which may be long ago."""
    guest = Guest(FILES[:1])
    attempt = applied(guest, tmp_path)
    guest.time += 100 * 3600.0
    world = guest.world(tmp_path)
    world.ledger.add("undoing", guest.clock(), attempt=attempt.id, result="undone", reasons=[])
    guest.held = (HELD,)
    assert hands.recover(world) == ()
    guest.time += 37 * 3600.0
    assert len(hands.recover(world)) == 1
    world.ledger.close()


def test_a_defect_of_what_holds_up_holds_up(tmp_path: Path) -> None:
    """No longer than a window, and no unit that stands still."""
    guest = Guest(VERBOSE)
    applied(guest, tmp_path, PERSON)
    guest.time += 7200.0

    def broken(plan: object) -> tuple[Refusal, ...]:
        raise ValueError("year 0 is out of range")

    world = replace(guest.world(tmp_path), hold=broken)
    assert hands.expire(world) == ()
    guest.time += 37 * 3600.0
    assert len(hands.expire(world)) == 1
    world.ledger.close()


def test_what_is_undone_at_a_later_try_takes_effect_too(tmp_path: Path) -> None:
    """The restart was passed over at the first, when nothing was undone."""
    guest = Guest(VERBOSE, edited=[VERBOSE[0]])
    applied(guest, tmp_path, PERSON)
    guest.time += 7200.0
    world = guest.world(tmp_path)
    (ended,) = hands.expire(world)
    assert (ended.left, guest.known) == ((0,), VERBOSE[:1])
    guest.edited = []
    guest.time += 3600.0
    (ended,) = hands.expire(world)
    world.ledger.close()
    assert (ended.left, guest.done, guest.known) == ((), [], ())


def test_a_snapshot_behind_what_cannot_be_undone_is_waited_for(tmp_path: Path) -> None:
    """Then the fix goes on: the agent of the new package is started."""
    guest = Guest((PackageUpgrade("walinuxagent"), RestartUnit("a.service")))
    do = guest.do

    def doing(step: Step, record: Mapping[str, Any]) -> None:
        do(step, record)
        guest.snapshot = "the lock is held"

    guest.do = doing  # type: ignore[method-assign]
    attempt = applied(guest, tmp_path)
    assert (attempt.result, guest.known) == (Result.UNDER_WAY, ())
    guest.do = do  # type: ignore[method-assign]
    world = guest.world(tmp_path)
    assert hands.recover(world) == ()
    guest.snapshot = ""
    (ended,) = hands.recover(world)
    world.ledger.close()
    assert (ended.result, guest.known) == (Result.HEALED, guest.steps[:1])


def test_an_attempt_of_which_nothing_can_be_told_is_ended_later(tmp_path: Path) -> None:
    """When the service manager does not answer, say; after a day as far as that is possible."""
    for days in (0, 1):
        place = tmp_path / str(days)
        place.mkdir()
        guest = Guest((PackageUpgrade("walinuxagent"), RestartUnit("a.service")))
        do, state = guest.do, guest.state

        def killed(step: Step, record: Mapping[str, Any], do: Any = do) -> None:
            do(step, record)
            raise Crash

        def silent(step: Step, record: Mapping[str, Any]) -> str:
            raise CannotTell("no answer")

        guest.do, guest.state = killed, silent  # type: ignore[method-assign]
        with pytest.raises(Crash):
            applied(guest, place)
        guest.do = do  # type: ignore[method-assign]
        world = guest.world(place)
        (attempt,) = hands.recover(world)
        assert attempt.result is Result.UNDER_WAY
        guest.time += days * 86400.0
        if not days:
            guest.state = state  # type: ignore[method-assign]
        (attempt,) = hands.recover(world)
        world.ledger.close()
        assert attempt.result is (Result.INTERRUPTED if days else Result.HEALED)


def test_what_was_undone_must_take_effect(tmp_path: Path) -> None:
    """Where the restart fails the next start tries again, a few times; then it is told."""
    for failures in (2, 99):
        place = tmp_path / str(failures)
        place.mkdir()
        guest = Guest(VERBOSE)
        applied(guest, place, PERSON)
        guest.time += 7200.0
        do, left = guest.do, [failures]

        def failing(step: Step, record: Mapping[str, Any], do: Any = do, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] >= 0:
                raise StepFailed("the unit is masked")
            do(step, record)

        guest.do = failing  # type: ignore[method-assign]
        results: list[Attempt] = []
        for _ in range(8):
            world = guest.world(place)
            results += hands.recover(world) + hands.expire(world)
            world.ledger.close()
        assert (guest.done, guest.known) == ([], () if failures == 2 else VERBOSE[:1])
        assert [attempt.result for attempt in results[:-1]] == [Result.UNDER_WAY] * (2 if failures == 2 else 4)
        assert results[-1].result is Result.UNDONE
        told = "what was undone has not taken effect: the unit is masked"
        assert (results[-1].reasons[-1] == told) is (failures == 99)


def test_a_defect_of_the_look_is_no_healing(tmp_path: Path) -> None:
    """And no attempt that never ends."""
    guest = Guest(FILES[:1])

    def broken() -> Sight:
        raise KeyError("x")

    guest.look = broken  # type: ignore[method-assign]
    attempt = applied(guest, tmp_path)
    assert (attempt.result, guest.done) == (Result.NOT_HEALED, [])


def test_what_was_undone_on_a_full_disk_has_not_healed(tmp_path: Path) -> None:
    """Also if the problem has gone by itself meanwhile."""
    guest = Guest(FILES[:1], heals=False)
    world = guest.world(tmp_path)
    fill_up(world, 3)
    attempt = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert isinstance(attempt, Attempt)
    assert (attempt.result, guest.done) == (Result.UNDER_WAY, [])
    guest.look = lambda: Sight()  # type: ignore[method-assign]
    ended = _recovered(guest, tmp_path)
    assert ended is not None
    assert ended.result is Result.INTERRUPTED


def test_where_nothing_can_be_noted_no_temporary_change_is_ended(tmp_path: Path) -> None:
    """Or the agent would be restarted by every start of the hands."""
    guest = Guest(VERBOSE)
    applied(guest, tmp_path, PERSON)
    guest.time += 7200.0
    guest.calls.clear()
    world = guest.world(tmp_path)
    fill_up(world)
    with pytest.raises(LedgerError, match="No space left"):
        hands.expire(world)
    world.ledger.close()
    assert (guest.calls, guest.done) == ([], [VERBOSE[0]])


def test_undo_of_an_attempt_that_has_ended(tmp_path: Path) -> None:
    """Once; not while a snapshot runs, and not of one that is not there."""
    guest = Guest(FILES[:2])
    attempt = applied(guest, tmp_path)
    world = guest.world(tmp_path)
    guest.snapshot = "safefreeze runs"
    with pytest.raises(StepFailed, match="not now: safefreeze runs; wait until it has ended"):
        hands.undo(attempt.id, world, "asked by root")
    guest.snapshot = ""
    ended = hands.undo(attempt.id, world, "asked by root")
    assert (ended.result, ended.reasons[-1], guest.done) == (Result.UNDONE, "asked by root", [])
    with pytest.raises(StepFailed, match="nothing of attempt 1"):
        hands.undo(attempt.id, world, "asked by root")
    with pytest.raises(LedgerError, match="no attempt 7"):
        hands.undo(7, world, "asked by root")
    world.ledger.close()


def test_what_is_started_at_boot_since_a_fix_can_be_undone(tmp_path: Path) -> None:
    """Although no file of ours is changed; no unit is restarted for it."""
    guest = Guest((EnableUnit("a.service"), RestartUnit("a.service")))
    attempt = applied(guest, tmp_path)
    world = guest.world(tmp_path)
    ended = hands.undo(attempt.id, world, "asked by root")
    world.ledger.close()
    assert (ended.result, ended.left, guest.done) == (Result.UNDONE, (), [])
    assert guest.calls.count("do RestartUnit") == 1


# ------------------------------------------------------------------------------------------------------ the mark


def test_while_a_temporary_change_is_in_force_the_next_start_is_asked_for(tmp_path: Path) -> None:
    """From before its attempt begins until it is undone; an attempt that is undone later is under way meanwhile."""
    step = SetConfigKey("Logs.Verbose", "y", lasts=7200.0)
    guest = Guest((step,))
    applied(guest, tmp_path)
    assert marked(tmp_path)
    world = guest.world(tmp_path)
    hands.expire(world)
    assert marked(tmp_path)
    guest.time += 7201.0
    hands.expire(world)
    assert not marked(tmp_path)
    world.ledger.close()


@pytest.mark.usefixtures("no_sync")
def test_a_crash_while_a_temporary_change_is_undone_is_asked_for_again() -> None:
    """Wherever it happens, the mark is there as long as the change is."""
    step = SetConfigKey("Logs.Verbose", "y", lasts=7200.0)
    for point in itertools.count():
        with tempfile.TemporaryDirectory() as name:
            place, guest = Path(name), Guest((step,))
            applied(guest, place)
            guest.time += 7201.0
            guest.point = guest.moment + point
            try:
                world = guest.world(place)
                hands.expire(world)
                world.ledger.close()
                break
            except Crash:
                assert marked(place) or step not in guest.done
    assert point > 8


@pytest.mark.usefixtures("no_sync")
def test_a_crash_while_a_healed_attempt_is_undone_is_asked_for_again() -> None:
    """Nothing was left to do before; from the first step that is taken back to the last, something is."""
    for point in itertools.count():
        with tempfile.TemporaryDirectory() as name:
            place, guest = Path(name), Guest(FILES[:2])
            applied(guest, place)
            assert not marked(place)
            guest.point = guest.moment + point
            try:
                world = guest.world(place)
                hands.undo(1, world, "somebody asked for it")
                world.ledger.close()
                break
            except Crash:
                assert marked(place) or len(guest.done) in (0, 2)
                assert marked(place) or guest.half == []
    assert guest.done == []
    assert point > 8


def test_without_a_mark_nothing_is_done(tmp_path: Path) -> None:
    """What cannot be marked would not be undone by anybody."""
    guest = Guest(FILES[:1])
    world = guest.world(tmp_path)
    (tmp_path / "hands").rename(tmp_path / "gone")
    refusal = hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert isinstance(refusal, Refusal)
    assert refusal.name == "ledger"
    assert guest.done == []


def test_who_begins_and_ends_is_announced(tmp_path: Path) -> None:
    """Each attempt when it has begun, and when it has ended."""
    told: list[Attempt] = []
    guest = Guest(FILES[:1], heals=False)
    world = replace(guest.world(tmp_path), announce=told.append)
    hands.apply(REMEDY, REQUEST, world)
    world.ledger.close()
    assert [attempt.result for attempt in told] == [Result.UNDER_WAY, Result.NOT_HEALED]
