"""What the hands find out before they touch the machine: by themselves, whoever asks, and no more than it takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupready import packages, probes, vmsnapshot
from backupready.hands import gate, ledger
from backupready.hands import world as worlds
from backupready.hands.gate import Request, Sight, Situation
from backupready.hands.ledger import Ledger, Line
from backupready.hands.world import Surroundings
from backupready.model import (
    CannotTell,
    Finding,
    JoinConfigLines,
    Machine,
    NotNow,
    Outlook,
    Pause,
    Phase,
    Ran,
    Remedy,
    RestartUnit,
    SetConfigKey,
    Snapshot,
    Step,
    Unsuitable,
    Window,
)
from fake import FakeMachine, answer, configuration, healthy, looked, probe, problem, remedy, snapshot

STOPPED = "AGENT_STOPPED"
UNIT = "walinuxagent.service"
MEND = remedy("restart-agent", (RestartUnit(UNIT),), problems=(STOPPED,), settle=timedelta(0))


@dataclass
class Scene:
    """A machine whose agent has stopped, with two hours until the next window, and what is asked of it."""

    place: Path
    machine: FakeMachine = field(default_factory=healthy)
    settings: dict[str, str] = field(default_factory=lambda: {"fix__mode": "on", "fix__allow": "restart-agent"})
    remedies: tuple[Remedy, ...] = (MEND,)
    phase: Phase = Phase.LEAD
    stopped: bool = True
    heals: bool = True
    looks: int = 0
    user: int = 0
    asker_since: float = 0.0
    commands: list[tuple[str, ...]] = field(default_factory=list)
    starts: int = 0

    def look(self) -> Snapshot:
        self.looks += 1
        found = (Finding(STOPPED, evidence={"unit": UNIT}),) if self.stopped else ()
        return snapshot(looked("agent", *found), times=3)

    def outlook(self, running: bool) -> Outlook:
        now = time.time()
        window = Window(now + 7200.0, now + 14400.0, "daily")
        return Outlook(now, Phase.OPEN if running else self.phase, window, lead=10800.0)

    def run(self, command: Sequence[str], timeout: float) -> Ran:
        self.commands.append(tuple(command))
        if "restart" in command:
            self.starts += 1
            self.stopped = not self.heals
        shown = (
            f"LoadState=loaded\nActiveState={'inactive' if self.stopped else 'active'}\nInvocationID={self.starts}\n"
        )
        return Ran(0, shown.encode(), "")

    @property
    def around(self) -> Surroundings:
        pause, root = str(self.place / "pause"), str(self.place / "root")
        texts: dict[str, Any] = {"fix__pause_file": pause, "machine__root": root, **self.settings}
        return Surroundings(
            settings=configuration(**texts),
            remedies=self.remedies,
            machine=lambda: self.machine,
            look=self.look,
            outlook=self.outlook,
            asker_since=self.asker_since,
            directory=self.place / "hands",
            summary=self.place / "fixes/fixes.json",
            run=self.run,
            sleep=lambda seconds: None,
            user=lambda: self.user,
        )

    def situation(self, request: Request | None = None, lines: Sequence[Line] = (), **options: Any) -> Situation:
        return worlds.situation(self.around, self.remedies[0], request or asked(), lines, worlds.clock(), **options)

    def refused(self, request: Request | None = None, lines: Sequence[Line] = ()) -> str:
        """The name of the refusal; empty where there is none."""
        facts = self.situation(request, lines)
        refusal = gate.check(self.remedies[0], request or asked(), facts, lines, worlds.clock())
        return refusal.name if refusal else ""


def asked(**changes: Any) -> Request:
    return Request(**{"remedy": "restart-agent", "problem": STOPPED, "seen": time.time() - 1.0, **changes})


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# -------------------------------------------------------------------------------------------------- what is found out


def test_nothing_is_against_a_fix_that_is_called_for(scene: Scene) -> None:
    """The facts are those of this machine."""
    facts = scene.situation()
    assert scene.refused() == ""
    stopped = frozenset({(STOPPED, "")})
    assert facts.sight == Sight(stopped, facts.sight.unknown, there=stopped)
    assert facts.plan == (RestartUnit(UNIT),)
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert facts.evidence_since == pytest.approx(time.time() - up, abs=5.0)


def _snapshot_lock(scene: Scene) -> None:
    scene.machine.files[vmsnapshot.FREEZE_LOCK] = b""
    scene.machine.locks[vmsnapshot.FREEZE_LOCK] = 77


def _package_lock(scene: Scene) -> None:
    scene.machine.files[packages.LOCKS[0]] = b""
    scene.machine.locks[packages.LOCKS[0]] = 77


def _busy(scene: Scene) -> None:
    log = str(scene.machine.files["/var/log/waagent.log"])
    line = "2026-11-23T00:20:00.000000Z INFO ExtHandler ExtHandler ProcessExtensionsGoalState started [x]\n"
    scene.machine.files["/var/log/waagent.log"] = log + line


def _no_processes(scene: Scene) -> None:
    scene.machine.table = CannotTell("no /proc")


def _guard(scene: Scene, body: bytes) -> None:
    scene.settings["fix__guard_url"] = "http://alerts/"
    scene.machine.http["http://alerts/"] = answer(body)


CASES: dict[str, tuple[str, Any]] = {
    "off": ("mode_off", lambda s: s.settings.update(fix__mode="off")),
    "not allowed": ("not_opted_in", lambda s: s.settings.update(fix__allow="")),
    "paused": ("paused", lambda s: (s.place / "pause").touch()),
    "an alert": ("guarded", lambda s: _guard(s, b'[{"labels":{"alertname":"A"},"status":{"state":"active"}}]')),
    "a silent guard": ("guarded", lambda s: _guard(s, b"")),
    "no root": ("not_root", lambda s: setattr(s, "user", 1000)),
    "too late": ("phase", lambda s: setattr(s, "phase", Phase.HOLD)),
    "a snapshot": ("snapshot_running", _snapshot_lock),
    "no process table": ("snapshot_running", _no_processes),
    "extensions": ("agent_busy", _busy),
    "dpkg": ("locked", _package_lock),
    "a young asker": ("stale_evidence", lambda s: setattr(s, "asker_since", time.time() + 60.0)),
    "no longer there": ("not_confirmed", lambda s: setattr(s, "stopped", False)),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_so_refuses(case: str, scene: Scene) -> None:
    """Each fact is looked up, and makes its refusal."""
    name, make = CASES[case]
    make(scene)
    assert scene.refused() == name


def test_what_is_refused_anyway_is_not_looked_into(scene: Scene) -> None:
    """A flood of requests costs little; and nobody who has not looked says that a problem is gone."""
    for case in ("off", "not allowed", "paused", "too late", "extensions", "dpkg", "a young asker"):
        made = Scene(scene.place / case.replace(" ", "-"))
        made.place.mkdir()
        CASES[case][1](made)
        assert made.refused()
        assert made.looks == 0
        assert STOPPED in made.situation().sight.unknown
    assert scene.refused(asked(problem="AGENT_OUTDATED")) == "not_confirmed"
    assert scene.looks == 0
    assert "AGENT_OUTDATED" in scene.situation(asked(problem="AGENT_OUTDATED")).sight.unknown


def test_the_whole_is_looked_into_where_it_is_wanted(scene: Scene) -> None:
    """A dry run tells the plan also where it is refused."""
    scene.settings["fix__mode"] = "off"
    assert scene.situation(whole=True).plan == (RestartUnit(UNIT),)


def test_a_limit_needs_the_look(scene: Scene) -> None:
    """It is only noted for a problem that is there."""
    now = worlds.clock()
    at = ledger.Moment(now.wall - 7200.0, now.boot, now.up - 7200.0)
    about = {"attempt": 1, "remedy": "restart-agent", "problem": STOPPED, "key": "", "by": "mind"}
    lines = [
        Line("started", at, about),
        Line("ended", at, {"attempt": 1, "result": "not_healed", "reasons": [], "undone": [], "left": []}),
    ]
    scene.settings["fix__attempts_per_day"] = "1"
    assert scene.refused(lines=lines) == "attempt_limit"
    assert (STOPPED, "") in scene.situation(lines=lines).sight.seen


def test_a_person_is_not_guarded(scene: Scene) -> None:
    """And nobody is asked for alerts."""
    scene.settings["fix__guard_url"] = "http://nobody/"
    assert scene.refused(asked(by="ada")) == ""


# ------------------------------------------------------------------------------------------------------------ sight


def test_a_mere_consequence_is_seen_where_it_is_asked_for() -> None:
    """Otherwise only what is a reason by itself."""
    known = [probe("thing", [problem("CAUSE", explains=("CONSEQUENCE",)), problem("CONSEQUENCE")])]
    seen = snapshot(looked("thing", Finding("CAUSE"), Finding("CONSEQUENCE", "k")), known=known)
    assert worlds.sight(seen, ()).seen == {("CAUSE", "")}
    assert worlds.sight(seen, {"CONSEQUENCE"}).seen == {("CAUSE", ""), ("CONSEQUENCE", "k")}


def test_a_notice_is_seen_where_it_is_asked_for() -> None:
    """It is no reason."""
    seen = snapshot(looked("configuration", Finding("VERBOSE_LEFT_ON")), times=3)
    assert worlds.sight(seen, ()).seen == frozenset()
    assert worlds.sight(seen, {"VERBOSE_LEFT_ON"}).seen == {("VERBOSE_LEFT_ON", "")}


def test_what_nobody_looks_for_is_unknown() -> None:
    """Its probe is switched off: that it is not seen says nothing."""
    known = [one for one in probes.PROBES if one.name != "agent"]
    seen = snapshot(known=known)
    assert STOPPED not in {belief.problem.code for belief in seen.beliefs}
    assert STOPPED in worlds.sight(seen, {STOPPED}).unknown


def test_what_could_not_be_told_is_unknown() -> None:
    """By its code."""
    seen = snapshot(looked("agent", CannotTell("denied", (STOPPED,))), times=3)
    assert STOPPED in worlds.sight(seen, ()).unknown


def test_the_plan_is_made_for_what_was_found(scene: Scene) -> None:
    """With the evidence of the look."""
    told: list[Finding] = []

    def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
        told.append(finding)
        yield RestartUnit(UNIT)

    scene.remedies = (remedy("restart-agent", problems=(STOPPED,), plan=plan),)
    scene.situation()
    assert told == [Finding(STOPPED, "", {"unit": UNIT})]


# -------------------------------------------------------------------------------------------------------------- plans


def _raising(error: Exception) -> Any:
    def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
        raise error
        yield

    return plan


@pytest.mark.parametrize(
    ("error", "name"), [(Unsuitable("no unit"), "unsupported"), (CannotTell("denied"), "precondition")]
)
def test_without_a_plan_nothing_is_done(error: Exception, name: str, scene: Scene) -> None:
    """And why there is none is told."""
    scene.remedies = (remedy("restart-agent", problems=(STOPPED,), plan=_raising(error)),)
    assert scene.refused() == name


def test_a_temporary_change_lasts_as_long_as_is_set(scene: Scene) -> None:
    """One for good stays one."""
    steps: tuple[Step, ...] = (SetConfigKey("Logs.Verbose", "y", 7200.0), SetConfigKey("Extensions.Enabled", "y"))
    scene.remedies = (remedy("restart-agent", steps, problems=(STOPPED,)),)
    scene.settings["fix__verbose_for"] = "30min"
    assert scene.situation().plan == (SetConfigKey("Logs.Verbose", "y", 1800.0), steps[1])


@pytest.mark.parametrize("step", [SetConfigKey("Extensions.Enabled", "y"), JoinConfigLines(), RestartUnit(UNIT)])
def test_while_a_temporary_change_is_in_force_its_file_is_not_edited(step: Step, scene: Scene) -> None:
    """It could not be undone any more; other fixes may be done."""
    now = worlds.clock()
    at = ledger.Moment(now.wall - 3600.0, now.boot, now.up - 3600.0)
    about = {"attempt": 1, "remedy": "enable-verbose-logging", "problem": "", "key": "", "by": "ada"}
    lasting = {"attempt": 1, "index": 0, "record": {}, "until": now.wall + 60.0, "change": "Logs.Verbose=y"}
    ended = {"attempt": 1, "result": "done", "reasons": [], "undone": [], "left": []}
    lines = [Line("started", at, about), Line("prepared", at, lasting), Line("ended", at, ended)]
    scene.remedies = (remedy("restart-agent", (step,), problems=(STOPPED,)),)
    assert scene.refused(lines=lines) == ("" if isinstance(step, RestartUnit) else "precondition")


def test_lower_rungs_come_first_if_they_may_be_done_and_fit(scene: Scene) -> None:
    """In `observe` all of them may."""
    gentle = remedy("start-agent", (RestartUnit(UNIT),), problems=(STOPPED,))
    unfit = remedy("ask-agent", problems=(STOPPED,), plan=_raising(Unsuitable("no")))
    other = remedy("mend-other", (RestartUnit(UNIT),), problems=("OTHER",))
    scene.remedies = (remedy("restart-agent", (RestartUnit(UNIT),), problems=(STOPPED,), rung=1), gentle, unfit, other)
    assert scene.situation().lower == ()
    scene.settings["fix__allow"] = "restart-agent start-agent ask-agent mend-other"
    assert scene.situation().lower == ("start-agent",)
    assert scene.refused() == "precondition"
    assert scene.refused(asked(by="ada")) == ""
    scene.settings.update(fix__mode="observe", fix__allow="")
    assert scene.situation().lower == ("start-agent",)
    later = remedy("start-agent", problems=(STOPPED,), plan=_raising(NotNow("the wire server does not answer")))
    scene.remedies = (scene.remedies[0], later)
    assert scene.situation().lower == ("start-agent",)  # it may be tried when that has passed


# ------------------------------------------------------------------------------------------------------------- pauses


def test_a_pause_file_pauses(tmp_path: Path) -> None:
    """For as long as it says since it was written; without it nothing is paused."""
    path = tmp_path / "pause"
    assert worlds.paused(path, 1000.0) is None
    assert worlds.paused(tmp_path / "no/such/directory", 1000.0) is None
    path.write_text("2h\npatching\n")
    os.utime(path, (1000.0, 1000.0))
    assert worlds.paused(path, 2000.0) == Pause(8200.0, "patching")
    assert worlds.paused(path, 8200.0) is None


def test_a_pause_file_that_cannot_be_read_pauses(tmp_path: Path) -> None:
    """And nothing waits for it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (fifo, tmp_path, loop, tmp_path / "fifo/below"):
        pause = worlds.paused(path, 1000.0)
        assert pause is not None
        assert pause.until is None


# ------------------------------------------------------------------------------------------------------ the world


def test_a_look_afterwards_is_for_what_is_under_way(scene: Scene) -> None:
    """Also where that would be a mere consequence: what is fixed must be told."""
    with Ledger(scene.around.directory, scene.around.summary, worlds.clock()) as book:
        world = worlds.world(scene.around, book)
        book.begin(worlds.clock(), (), remedy="restart-agent", problem="SWITCHED_OFF", key="", by="mind")
        assert "SWITCHED_OFF" in world.look().unknown


@pytest.mark.parametrize("case", ["paused", "an alert", "a snapshot", "extensions", "dpkg"])
def test_what_has_changed_since_the_look_is_found_out_once_more(case: str, scene: Scene) -> None:
    """Right before a fix begins, without another look."""
    with Ledger(scene.around.directory, scene.around.summary, worlds.clock()) as book:
        facts = worlds.world(scene.around, book).situation(MEND, asked())
        assert gate.check(MEND, asked(), facts, (), worlds.clock()) is None
        name, make = CASES[case]
        make(scene)
        now = worlds.world(scene.around, book).renewed(MEND, asked(), facts)
    refusal = gate.check(MEND, asked(), now, (), worlds.clock())
    assert refusal is not None
    assert (refusal.name, scene.looks) == (name, 1)
    assert (now.sight, now.plan) == (facts.sight, facts.plan)


@pytest.mark.parametrize("case", ["paused", "a snapshot", "extensions", "dpkg", "", "off", "not allowed", "an alert"])
def test_what_holds_up_an_ending_is_found_out(case: str, scene: Scene) -> None:
    """Of the same facts those that say that nobody should touch the machine; what may not be begun may be ended."""
    name, make = CASES.get(case, ("", lambda scene: None))
    make(scene)
    with Ledger(scene.around.directory, scene.around.summary, worlds.clock()) as book:
        refusals = worlds.world(scene.around, book).hold((RestartUnit(UNIT),))
    holds = [name] if name in ("paused", "snapshot_running", "agent_busy", "locked") else []
    # While a snapshot runs the window is open.
    assert [refusal.name for refusal in refusals if refusal.name != "phase"] == holds
    assert scene.looks == 0


def test_now_is_told_by_three_clocks() -> None:
    """Of the same boot from one moment to the next."""
    first, second = worlds.clock(), worlds.clock()
    assert first.boot == second.boot
    assert first.up <= second.up
    assert abs(first.wall - time.time()) < 60.0
