"""The loop, against real look processes: good ones, and every kind of bad one."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import zoneinfo
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

import fake
from backupready import catalogue, config, fixes, journal, probes, remedies, report, wire
from backupready.demo import EmulatedGuest
from backupready.mind import sampler, service, summary
from backupready.mind.history import History, Recalled
from backupready.mind.judge import Kept, KeptClocks
from backupready.mind.loads import SLOT
from backupready.mind.metrics import Exposition
from backupready.mind.monitor import Monitor, boot, jitter, look_command
from backupready.mind.state import decode, encode
from backupready.mind.summary import Summary
from backupready.model import (
    Access,
    Attempt,
    BeliefState,
    CannotTell,
    Effect,
    Finding,
    Fixes,
    Happened,
    Limit,
    Load,
    Machine,
    Observation,
    Pause,
    Phase,
    Planned,
    Prediction,
    Probe,
    ProbeState,
    Remember,
    RestartUnit,
    Result,
    Run,
    Settings,
    Verdict,
)
from fake import configuration, probe

pytestmark = pytest.mark.integration

GARBAGE = "import os; os.write(0, b'no document')"
DIES = "import os; os.kill(os.getpid(), 9)"
EXITS = "import sys; sys.exit(3)"
HANGS = "import time; time.sleep(60)"
TOO_MUCH = "import os\nwhile True: os.write(0, b'x' * 65536)"
UNDECLARED = """
import json, socket
s = socket.socket(fileno=0)
while s.recv(65536): pass
look = {"probe": "wire", "state": "ok", "seconds": 0, "attempts": 0, "why": "", "traceback": "", "readings": [],
        "findings": [["MADE_UP", "", {}, None]], "watches": [], "runs": [], "unknown": [], "memory": {}}
s.sendall(json.dumps({"schema": 1, "looks": [look]}).encode())
"""


@dataclass
class Mind:
    """A monitor with its configuration, turned by hand."""

    monitor: Monitor

    def until(self, condition: Callable[[], object], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, report.text(self.monitor.snapshot)
            self.monitor.turn()

    def last_run(self, probe: str) -> float | None:
        return next(run.last_run for run in self.monitor.snapshot.probes if run.name == probe)

    def state(self, code: str) -> BeliefState:
        return next(b.state for b in self.monitor.snapshot.beliefs if b.problem.code == code)


@pytest.fixture
def mind(tmp_path: Path) -> Iterator[Callable[..., Mind]]:
    """Makes monitors whose looks are a Python script, or the real thing on an emulated guest."""
    minds: list[Mind] = []

    def make(script: str | None = None, settings: str = "", path: Path | None = None, only: str = "wire") -> Mind:
        file = path or tmp_path / "backupready.conf"
        if path is None:
            file.write_text(f"[web]\nlisten_address = 127.0.0.1:0\n[look]\n{settings}")
        command = look_command() if script is None else [sys.executable, "-c", script]

        def load() -> config.Config:
            return config.load(catalogue.SETTINGS, file)

        chosen = [p for p in probes.PROBES if script is None or only in (p.name, "*")]
        minds.append(Mind(Monitor(load(), load, chosen, probes.METRICS, command)))
        return minds[-1]

    yield make
    for made in minds:
        made.monitor.close()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        (GARBAGE, "not JSON"),
        (DIES, "died of signal 9"),
        (EXITS, "ended with code 3"),
        (HANGS, "did not answer within"),
        (TOO_MUCH, "answered more than"),
        (UNDECLARED, "'MADE_UP' is not declared"),
    ],
)
def test_a_bad_look_is_unknown_with_its_reason(script: str, why: str, mind: Callable[..., Mind]) -> None:
    """A look that dies, hangs, or answers garbage or too much makes its probes unknown, says why, and is counted."""
    it = mind(script, "deadline = 1s\n")
    it.until(lambda: it.monitor.snapshot.counters.get("looks_failed"))
    snapshot = it.monitor.snapshot
    assert snapshot.verdict is Verdict.UNKNOWN
    assert snapshot.reasons == snapshot.notices == ()
    assert {belief.state for belief in snapshot.beliefs} == {BeliefState.UNKNOWN}
    (run,) = snapshot.probes
    assert run.state is ProbeState.CANNOT_TELL
    assert why in run.why


@pytest.mark.parametrize("door", ["", "door = socket\nsocket = /nonexistent/look.sock\n"], ids=["ends", "cannot start"])
def test_a_look_that_came_to_nothing_is_tried_again_soon(door: str, mind: Callable[..., Mind]) -> None:
    """Not only when the next look is due, which may be long."""
    it = mind(EXITS, f"{door}[wire]\ninterval = 1h\n")
    it.until(lambda: it.monitor.snapshot.counters.get("looks_failed", 0) >= 3)


def test_looks_that_hang_in_a_row_do_not_pile_up(mind: Callable[..., Mind]) -> None:
    """A look that is given up is killed; there is never more than one of them."""
    it = mind(HANGS, "deadline = 100ms\n[wire]\ninterval = 100ms\n")
    it.until(lambda: it.monitor.snapshot.counters.get("looks_failed", 0) >= 2)
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    children = [child.cmdline() for child in living]
    assert sum(HANGS in command for command in children) <= 1


def test_a_program_that_cannot_be_started_is_unknown(mind: Callable[..., Mind], tmp_path: Path) -> None:
    """Neither a missing socket nor a missing program ends the loop."""
    it = mind(GARBAGE, f"door = socket\nsocket = {tmp_path}/none.sock\n[wire]\ninterval = 200ms\n")
    it.until(lambda: it.monitor.snapshot.counters.get("looks_failed"))
    assert "cannot start a look: No such file or directory" in it.monitor.snapshot.probes[0].why


def test_a_socket_of_a_stranger_is_refused(mind: Callable[..., Mind], tmp_path: Path) -> None:
    """Behind the socket must be root: what anybody else says is not even read."""
    if os.geteuid() != 0:
        pytest.skip("only root can play somebody else")
    path = tmp_path / "look.sock"
    script = "import os, socket, sys; os.setuid(65534); s = socket.socket(fileno=int(sys.argv[1])); s.listen(); "
    script += "print(flush=True); s.accept()"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        number = listener.fileno()
        command = [sys.executable, "-c", script, str(number)]
        stranger = subprocess.Popen(command, pass_fds=[number], stdout=subprocess.PIPE)
        assert stranger.stdout is not None
        try:
            stranger.stdout.readline()
            it = mind(GARBAGE, f"door = socket\nsocket = {path}\n[wire]\ninterval = 200ms\n")
            it.until(lambda: it.monitor.snapshot.counters.get("looks_failed"))
            assert "belongs to uid 65534" in it.monitor.snapshot.probes[0].why
        finally:
            stranger.kill()
            stranger.wait()
            stranger.stdout.close()


def test_the_whole_story_on_an_emulated_guest(mind: Callable[..., Mind]) -> None:
    """Ready; the agent's death is seen at once, and so is its return; the memory of the log goes round."""
    with EmulatedGuest(port=0) as guest:
        it = mind(path=guest.config_path)
        it.until(lambda: it.monitor.snapshot.verdict is Verdict.READY)
        assert it.state("AGENT_STOPPED") is BeliefState.CLEAR
        guest.stop_agent()
        it.until(lambda: it.state("AGENT_STOPPED") is BeliefState.ACTIVE, 5)
        assert it.monitor.snapshot.counters["process_deaths"] >= 1
        assert [reason.problem.code for reason in it.monitor.snapshot.reasons] == ["AGENT_STOPPED"]
        guest.start_agent()
        it.until(lambda: it.monitor.snapshot.verdict is Verdict.READY, 20)


def test_elsewhere_than_in_azure_only_that_is_asked_until_it_is_one(mind: Callable[..., Mind]) -> None:
    """No other probe looks, no other problem is active; when it turns out to be one, all look at once."""
    with EmulatedGuest(port=0) as guest:
        tag = guest.root / "sys/class/dmi/id/chassis_asset_tag"
        right = tag.read_text()
        tag.write_text("CZC1234567")
        with guest.config_path.open("a") as file:
            file.write("[guest]\ninterval = 200ms\n[extension]\ninterval = 1h\n")
        it = mind(path=guest.config_path)
        it.until(lambda: it.monitor.snapshot.counters.get("looks", 0) >= 3)
        snapshot = it.monitor.snapshot
        assert (snapshot.verdict, snapshot.notices) == (Verdict.UNKNOWN, ())
        assert [run.name for run in snapshot.probes if run.last_run is not None] == ["guest"]
        scrape = Exposition(lambda: snapshot, probes.METRICS).render("")[1].decode()
        active = [s for s in scrape.splitlines() if s.startswith("backupready_problem_active") and s.endswith(" 1")]
        assert active == ['backupready_problem_active{effect="voids",problem="NOT_AN_AZURE_VM"} 1'] or active == [
            'backupready_problem_active{problem="NOT_AN_AZURE_VM",effect="voids"} 1'
        ]
        assert "backupready_problem_unknown{" not in scrape
        assert report.text(snapshot).startswith("UNKNOWN · NOT_AN_AZURE_VM: ")
        tag.write_text(right)
        it.until(lambda: it.monitor.snapshot.verdict is Verdict.READY)


GIVES_UP = """
import json, pathlib, socket
s = socket.socket(fileno=0)
request = b""
while piece := s.recv(65536): request += piece
names = json.loads(request)["probes"]
with pathlib.Path({asked!r}).open("a") as file: print(*names, file=file)
nothing = {{"seconds": 0, "attempts": 0, "traceback": "", "readings": [], "findings": [], "watches": [], "runs": [],
           "unknown": [], "memory": {{}}}}
late = pathlib.Path({late!r}).exists()
looks = [{{"probe": name, "state": "given_up" if late and name == {hangs!r} else "ok", "why": "", **nothing}}
         for name in names]
s.sendall(json.dumps({{"schema": 1, "looks": looks}}).encode())
"""


def test_a_probe_that_hangs_is_asked_alone_and_less_and_less(tmp_path: Path, mind: Callable[..., Mind]) -> None:
    """It does not take the others with it, is asked less and less, and as often as the others when it is back."""
    asked, late = tmp_path / "asked", tmp_path / "late"
    asked.touch()
    late.touch()
    script = GIVES_UP.format(asked=str(asked), late=str(late), hangs="extension")
    settings = "".join(f"[{probe.name}]\ninterval = 200ms\n" for probe in probes.PROBES)
    it = mind(script, settings, only="*")

    def looks() -> list[list[str]]:
        return [line.split() for line in asked.read_text().splitlines()]

    def alone() -> list[int]:
        return [place for place, names in enumerate(looks()) if names == ["extension"]]

    it.until(lambda: len(alone()) == 4, 60)
    others = [sum("wire" in names for names in looks()[start:end]) for start, end in zip(alone(), alone()[1:])]
    assert others == sorted(set(others))
    assert others[-1] >= 2 * others[0] > 0
    before = len(looks())
    it.monitor.request_reload()  # everything is due at once
    it.until(lambda: len(alone()) == 5 and any("wire" in names for names in looks()[before:]), 60)
    together = [names for names in looks() if "extension" in names and len(names) > 1]
    assert len(together) == 1
    late.unlink()
    it.until(lambda: it.state("EXTENSION_STUCK") is BeliefState.CLEAR, 60)
    before = len(looks())
    # By now it was asked once in six seconds.
    it.until(lambda: sum("extension" in names for names in looks()[before:]) >= 6, 30)


def test_a_look_that_hangs_whether_this_is_azure_holds_the_others_up_for_moments(
    tmp_path: Path, mind: Callable[..., Mind]
) -> None:
    """Three times it is asked, one after the other, before the others are."""
    asked = tmp_path / "asked"
    asked.touch()
    it = mind(GIVES_UP.format(asked=str(asked), late=str(asked), hangs="guest"), only="*")
    it.until(lambda: "wire" in asked.read_text(), 20)
    assert asked.read_text().splitlines()[:3] == ["guest"] * 3


SEES = """
import json, pathlib, socket
s = socket.socket(fileno=0)
while s.recv(65536): pass
seen = pathlib.Path({seen!r}).read_text()
look = {{"probe": "agent", "seconds": 0, "attempts": 0, "traceback": "", "readings": [], "watches": [], "runs": [],
        "unknown": [], "memory": {{}}, "why": seen}}
look["findings"] = [["AGENT_DEFECT_ON_PYTHON", "", {{}}, None]] if seen == "there" else []
look["state"] = "cannot_tell" if seen == "unknown" else "ok"
s.sendall(json.dumps({{"schema": 1, "looks": [look]}}).encode())
"""


def test_a_problem_is_news_once(tmp_path: Path, mind: Callable[..., Mind], caplog: pytest.LogCaptureFixture) -> None:
    """Told when it becomes active and when it is over, and not anew after it was unknown for a while."""
    seen = tmp_path / "seen"
    seen.write_text("there")
    it = mind(SEES.format(seen=str(seen)), "[agent]\ninterval = 100ms\n", only="agent")
    code = "AGENT_DEFECT_ON_PYTHON"
    with caplog.at_level("INFO", "backupready"):
        for word, state in (("there", "ACTIVE"), ("unknown", "UNKNOWN"), ("there", "ACTIVE"), ("gone", "CLEAR")):
            seen.write_text(word)
            while it.state(code) is not BeliefState[state]:
                it.monitor.turn()
    told = [record.getMessage().split(":")[0] for record in caplog.records if code in record.getMessage()]
    assert [line for line in told if line.startswith(code)] == [code, f"{code} is over"]


class KeepsCount:
    """In the place of the file: what was handed over to be written."""

    failures = 0

    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept
        self.saved: list[Kept] = []

    def load(self) -> Kept | None:
        return self.kept

    def save(self, kept: Kept) -> None:
        self.saved.append(kept)

    def close(self) -> None:
        pass


def test_what_outlives_a_restart_is_written_when_it_changes(tmp_path: Path) -> None:
    """Not with every turn, although a problem can never be told."""
    file = tmp_path / "x.conf"
    file.write_text("[web]\nlisten_address = 127.0.0.1:0\n[wire]\ninterval = 100ms\n")
    loaded = config.load(catalogue.SETTINGS, file)
    wire_only = [probe for probe in probes.PROBES if probe.name == "wire"]
    state: Any = KeepsCount()
    monitor = Monitor(loaded, lambda: loaded, wire_only, probes.METRICS, [sys.executable, "-c", EXITS], state)
    try:
        while monitor.snapshot.counters.get("looks_failed", 0) < 3:
            monitor.turn()
        assert len(state.saved) == 1
    finally:
        monitor.close()
    assert len(state.saved) == 2  # the last, at the end


@pytest.mark.parametrize("same", [True, False], ids=["same boot", "another"])
def test_what_was_known_of_the_clocks_is_so_as_long_as_the_machine_was_not_started_anew(
    same: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And since when the schedule is set so, in any case; both are handed over again."""
    monkeypatch.setattr("backupready.mind.monitor.suspended", lambda: 0.0)
    file = tmp_path / "x.conf"
    file.write_text("[web]\nlisten_address = 127.0.0.1:0\n")
    loaded = config.load(catalogue.SETTINGS, file)
    chosen = [one for one in probes.PROBES if one.name == "window"]
    wall, monotonic = time.time(), time.monotonic()
    clocks = KeptClocks(boot() if same else "another", wall - 100, wall, monotonic)
    state: Any = KeepsCount(Kept(clocks=clocks, memory={"window": {"set_to": "another way", "seen": 5.0}}))
    monitor = Monitor(loaded, lambda: loaded, chosen, probes.METRICS, [sys.executable, "-c", EXITS], state)
    try:
        assert monitor.snapshot.outlook is not None
        since = wall - 100 if same else wall - monotonic
        assert monitor.snapshot.outlook.since == pytest.approx(since, abs=30.0)
        while not state.saved or not state.saved[-1].memory:
            monitor.turn()
    finally:
        monitor.close()
    kept = state.saved[-1]
    assert kept.clocks is not None
    assert (kept.clocks.boot, kept.clocks.since) == (boot(), monitor.snapshot.outlook.since)
    assert kept.memory["window"]["changed"] is True
    assert kept.memory["window"]["seen"] == pytest.approx(time.time(), abs=600.0)


def test_looks_that_cannot_be_ended_are_not_joined(mind: Callable[..., Mind], monkeypatch: pytest.MonkeyPatch) -> None:
    """While too many hang in the kernel none is begun, and that is said; afterwards they are."""
    living = [6]
    monkeypatch.setattr(service, "living_looks", lambda: living[0])
    it = mind(EXITS)
    it.until(lambda: it.monitor.snapshot.counters.get("looks_failed", 0) >= 2)
    assert "6 earlier looks have not ended" in it.monitor.snapshot.probes[0].why
    living[0] = 5
    it.until(lambda: "ended with code 3" in it.monitor.snapshot.probes[0].why)


def test_a_death_does_not_wait_for_a_look_that_hangs(mind: Callable[..., Mind]) -> None:
    """While a look waits for a dead network, the agent's death is seen all the same; the late look changes nothing."""
    with EmulatedGuest(port=0) as guest, socket.socket() as silent:
        it = mind(path=guest.config_path)
        it.until(lambda: it.monitor.snapshot.verdict is Verdict.READY)
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        text = guest.config_path.read_text()
        place = text.index("wire_server = ")
        text = text[:place] + f"wire_server = 127.0.0.1:{silent.getsockname()[1]}" + text[text.index("\n", place) :]
        guest.config_path.write_text(text)
        it.monitor.request_reload()
        before = it.last_run("wire")

        def stop_when_asked() -> None:
            silent.accept()  # the look is under way, and will be for seconds
            guest.stop_agent()

        stopping = threading.Thread(target=stop_when_asked)
        stopping.start()
        it.until(lambda: it.state("AGENT_STOPPED") is BeliefState.ACTIVE)
        assert it.last_run("wire") == before  # it still is
        stopping.join()
        it.until(lambda: it.state("WIRE_SERVER_UNREACHABLE") is BeliefState.ACTIVE, 40)
        assert it.state("AGENT_STOPPED") is BeliefState.ACTIVE


def here(look: Callable[[Machine, Settings], Iterator[Observation]], *more: Probe) -> Monitor:
    """A monitor whose probe `here` is judged in its own process, by what is sampled there."""
    own = probe("here", [fake.problem("HERE_BUSY")], look, access=Access.MIND)
    known = (own, *more)
    others = [one for one in probes.PROBES if one not in more]
    loaded = configuration(
        (*known, *others), web__listen_address="127.0.0.1:0", here__interval="200ms", look__confirm_after="100ms"
    )
    return Monitor(loaded, lambda: loaded, known, (), [sys.executable, "-c", EXITS])


def test_what_is_sampled_is_judged_in_process() -> None:
    """No look is started for it. What one sample cannot tell the next ones do, and what was remembered comes back."""
    given: list[tuple[int, object]] = []

    def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
        samples = machine.samples()
        given.append((len(samples), machine.memory.get("seen")))
        if len(samples) < 2:
            raise CannotTell("there is one sample only")
        assert samples[-1].cpu_total > 0
        yield Finding("HERE_BUSY", evidence={"samples": len(samples)})
        yield Remember({"seen": len(given)})

    it = Mind(here(look))
    try:
        it.until(lambda: it.state("HERE_BUSY") is BeliefState.ACTIVE)
        it.until(lambda: given[-2][1] is not None)
        assert it.monitor.snapshot.counters.get("looks", 0) == 0
        assert given[0] == (1, None)
        assert [memory for _, memory in given[-2:]] == [len(given) - 2, len(given) - 1]
        it.monitor.request_reload()  # the samples stay
        before = len(given)
        it.until(lambda: len(given) > before)
        assert given[-1][0] >= 2
        assert it.state("HERE_BUSY") is BeliefState.ACTIVE
    finally:
        it.monitor.close()


def test_while_it_cannot_tell_it_looks_with_each_sample_and_not_in_a_circle() -> None:
    """An hour's interval does not hold it up, and the loop does not spin."""
    given: list[int] = []

    def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
        given.append(len(machine.samples()))
        yield CannotTell("too few", ("HERE_BUSY",))

    monitor = here(look)
    monitor._intervals["here"] = 3600.0
    try:
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline and len(given) < 2:
            monitor.turn()
        assert given == [1, 2]
    finally:
        monitor.close()


def test_a_defect_in_what_is_judged_in_process_is_counted_and_the_loop_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One traceback, unknown as belief, and other probes are looked at all the same. Words that differ each time make
    no other defect of it, another class or place does."""
    times = 0

    def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
        nonlocal times
        times += 1
        if times == 5:
            raise ZeroDivisionError("no samples in an hour")
        raise {4: OverflowError}.get(times, ZeroDivisionError)(f"no samples in {times} hours")
        yield

    other = probe("other", [fake.problem("OTHER_BROKEN")])
    it = Mind(here(look, other))
    try:
        with caplog.at_level("ERROR", "backupready"):
            it.until(lambda: it.monitor.snapshot.counters.get("probe_defects", 0) >= 7)
        assert it.state("HERE_BUSY") is BeliefState.UNKNOWN
        told = [record.getMessage() for record in caplog.records if "defect in probe here" in record.getMessage()]
        assert [one.splitlines()[0].split(": ", 1)[1] for one in told] == [
            "ZeroDivisionError: no samples in 1 hours",
            "OverflowError: no samples in 4 hours",
            "ZeroDivisionError: no samples in an hour",
        ]
        assert len(it.monitor._known_defects) == 3
        it.until(lambda: it.monitor.snapshot.counters.get("looks", 0) >= 1)
    finally:
        it.monitor.close()


def test_a_sampler_that_fails_does_not_end_the_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A /proc that shows nothing is a reason not to know."""
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))

    def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
        assert machine.samples()
        yield Remember({})

    it = Mind(here(look))
    try:
        it.until(lambda: it.last_run("here") is not None)
        assert it.state("HERE_BUSY") is BeliefState.UNKNOWN
        assert "cannot read the kernel's counters" in it.monitor.snapshot.probes[0].why
    finally:
        it.monitor.close()


def test_every_declared_problem_has_its_series_before_the_first_look(mind: Callable[..., Mind]) -> None:
    """The first scrape knows every declared problem, as unknown, and what blocks or degrades as not active as well."""
    it = mind(HANGS)
    _, body = Exposition(lambda: it.monitor.snapshot, probes.METRICS).render("")
    for problem in probes.probe("wire").problems:
        labels = f'{{effect="{problem.effect.value}",problem="{problem.code}"}}'
        told = f"backupready_problem_active{labels} 0\n" in body.decode()
        assert told == (problem.effect not in (Effect.RISKS, Effect.NOTICE))
        assert f"backupready_problem_unknown{labels} 1\n" in body.decode()


def test_a_reload_keeps_what_is_believed(mind: Callable[..., Mind]) -> None:
    """What was seen before a reload is believed after it, and a probe that is switched off is gone."""
    with EmulatedGuest(port=0) as guest:
        it = mind(path=guest.config_path)
        it.until(lambda: it.monitor.snapshot.verdict is Verdict.READY)
        with guest.config_path.open("a") as file:
            file.write("[configuration]\nenabled = no\n")
        it.monitor.request_reload()
        it.monitor.turn()
        assert it.state("AGENT_STOPPED") is BeliefState.CLEAR
        assert "configuration" not in {run.name for run in it.monitor.snapshot.probes}
        assert it.monitor.snapshot.machine["switched_off"] == "configuration pressure storage unit"


def test_a_reload_reads_time_zones_anew(mind: Callable[..., Mind], tmp_path: Path) -> None:
    """Also one whose configuration is refused: tzdata may have been updated."""
    it = mind(HANGS, "deadline = 100ms\n")
    known = zoneinfo.ZoneInfo("UTC")
    (tmp_path / "backupready.conf").write_text("[look]\ndoor = window\n")
    it.monitor.request_reload()
    it.until(lambda: it.monitor.snapshot.counters["config_last_reload_successful"] == 0.0)
    assert zoneinfo.ZoneInfo("UTC") is not known


def test_a_refused_reload_keeps_the_old_configuration(mind: Callable[..., Mind], tmp_path: Path) -> None:
    """A wrong file changes nothing but the metric that says so."""
    it = mind(HANGS, "deadline = 100ms\n")
    (tmp_path / "backupready.conf").write_text("[look]\ndoor = window\n")
    it.monitor.request_reload()
    it.until(lambda: it.monitor.snapshot.counters["config_last_reload_successful"] == 0.0)


def test_the_service_manager_is_told(tmp_path: Path) -> None:
    """READY, a status line, signs of life, RELOADING and READY again on SIGHUP, STOPPING on SIGTERM, and exit 0."""
    address = tmp_path / "notify"
    heard: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel, EmulatedGuest(port=0) as guest:
        channel.bind(str(address))
        channel.settimeout(20)
        environment = {**os.environ, "NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "60000000"}
        environment.pop("WATCHDOG_PID", None)
        command = [sys.executable, "-m", "backupready", "--config", str(guest.config_path), "run"]
        daemon = subprocess.Popen(command, env=environment)

        def until(word: str) -> None:
            while word not in "\n".join(heard):
                heard.append(channel.recv(4096).decode())

        try:
            until("READY=1")
            until("STATUS=READY · the next backup should succeed")
            until("WATCHDOG=1")
            heard.clear()
            daemon.send_signal(signal.SIGHUP)
            until("RELOADING=1\nMONOTONIC_USEC=")
            until("READY=1")
            daemon.send_signal(signal.SIGTERM)
            until("STOPPING=1")
            assert daemon.wait(20) == 0
        finally:
            daemon.kill()
            daemon.wait()


def test_a_scrape_is_answered_while_a_look_hangs(mind: Callable[..., Mind]) -> None:
    """The web server does not wait for the loop, nor the loop for a look."""
    it = mind(HANGS, "deadline = 3s\n")
    turning = threading.Event()

    def turn() -> None:
        turning.set()
        it.monitor.turn()

    thread = threading.Thread(target=turn, daemon=True)
    thread.start()
    turning.wait(5)
    with urllib.request.urlopen(f"http://{it.monitor.web.addresses[0]}/api/v1/status", timeout=5) as answer:
        assert json.load(answer)["verdict"] == "unknown"
    thread.join(15)


def test_the_resident_mind_stays_small(tmp_path: Path) -> None:
    """What only the eyes need is not imported by the mind, not even after looks."""
    script = f"""
import sys, time
from pathlib import Path
from backupready import catalogue, config, probes
from backupready.mind.monitor import Monitor, look_command
path = Path({str(tmp_path / "b.conf")!r})
path.write_text("[web]\\nlisten_address = 127.0.0.1:0\\n[look]\\ndoor = child\\n[guest]\\nazure = yes\\n")
load = lambda: config.load(catalogue.SETTINGS, path)
monitor = Monitor(load(), load, probes.PROBES, probes.METRICS, look_command())
while any(run.last_run is None for run in monitor.snapshot.probes):
    monitor.turn()
found = sorted({{"requests", "dns", "tenacity", "urllib3", "backupready.eyes"}} & set(sys.modules))
sys.exit(f"imported: {{found}}" if found else 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------ windows

RECORD = """
import json, pathlib, socket
s = socket.socket(fileno=0)
request = b""
while piece := s.recv(65536): request += piece
runs = json.loads(pathlib.Path({record!r}).read_text())
nothing = {{"state": "ok", "why": "", "seconds": 0, "attempts": 0, "traceback": "", "readings": [], "findings": [],
           "watches": [], "unknown": [], "memory": {{}}}}
looks = [{{"probe": name, "runs": runs if name == "past" else [], **nothing}} for name in json.loads(request)["probes"]]
s.sendall(json.dumps({{"schema": 1, "looks": looks}}).encode())
"""


@dataclass
class Windowed:
    """What a monitor of the probes past and window is made of; the record of past backups is a file of the test."""

    folder: Path
    history: History

    def starts(self, hours: float, settings: str = "", now: float | None = None) -> Mind:
        """With a window that starts in so many hours, to the minute."""
        start = datetime.fromtimestamp((now or time.time()) + hours * 3600, timezone.utc)
        file = self.folder / "x.conf"
        file.write_text(f"[web]\nlisten_address = 127.0.0.1:0\n[window]\nschedule = daily at {start:%H:%M}\n{settings}")
        loaded = config.load(catalogue.SETTINGS, file)
        chosen = [one for one in probes.PROBES if one.name in ("past", "window")]
        script = RECORD.format(record=str(self.folder / "record"))
        command = [sys.executable, "-c", script]
        return Mind(Monitor(loaded, lambda: loaded, chosen, probes.METRICS, command, history=self.history))

    def has_on_record(self, *runs: Run) -> None:
        told = [[one.ended, one.code, one.happened.value, one.began, one.path] for one in runs]
        (self.folder / "record").write_text(json.dumps(told))

    def kept(self) -> Recalled:
        """What another run of the program would find."""
        self.history.close()
        self.history = History(str(self.folder))
        recalled = self.history.recall(20.0)
        assert recalled is not None
        return recalled


@pytest.fixture
def windowed(tmp_path: Path) -> Iterator[Windowed]:
    it = Windowed(tmp_path, History(str(tmp_path)))
    it.has_on_record()
    yield it
    it.history.close()


OFTEN = "[past]\ninterval = 1h\n[look]\nlead_interval = 200ms\n"


def looks(it: Mind) -> float:
    return it.monitor.snapshot.counters.get("looks", 0.0)


def looks_again(it: Mind) -> None:
    before = looks(it)
    it.until(lambda: looks(it) > before)


def test_every_alert_about_a_problem_finds_its_page(mind: Callable[..., Mind]) -> None:
    """Those of all probes, also of one that is switched off, and the one that the hands raise."""
    it = mind(EXITS, "[wire]\nenabled = no\n", only="*")
    for code in ("WIRE_SERVER_UNREACHABLE", "FIX_LIMIT_REACHED"):
        with urllib.request.urlopen(f"http://{it.monitor.web.addresses[0]}/problems/{code}", timeout=20) as answer:
            assert code.encode() in answer.read()


def test_what_the_page_draws_is_published_by_one_assignment(windowed: Windowed) -> None:
    """The newest backups, the windows and the loads of the last day, also those that another run of the program kept;
    as long as there is nothing new in it, it is the same object."""
    now = time.time()
    kept = Load(now // SLOT * SLOT - 3600, 0.5, 0.25)
    windowed.history.note_load(kept)
    windowed.history.note_load(replace(kept, start=kept.start - 2 * 86400))
    windowed.kept()
    done = Run(now - 3000, 1, Happened.SUCCEEDED, now - 3300, "host")
    windowed.has_on_record(done)
    it = windowed.starts(-1.0, OFTEN)
    try:
        it.until(lambda: it.monitor.past.runs == (done,) and len(it.monitor.past.loads) == 1)
        past = it.monitor.past
        assert tuple(past.loads) == (kept,)
        assert past.windows[-1].start == pytest.approx(now - 3600, abs=60)
        looks_again(it)
        assert it.monitor.past is past
        with urllib.request.urlopen(f"http://{it.monitor.web.addresses[0]}/", timeout=20) as answer:
            assert b"snapshot by the host" in answer.read()
    finally:
        it.monitor.close()


def test_before_a_window_the_looks_follow_each_other_closely(windowed: Windowed) -> None:
    """At other times as often as each probe's interval says."""
    near = windowed.starts(2, OFTEN)
    try:
        near.until(lambda: looks(near) >= 4)
        assert near.monitor.snapshot.outlook is not None
        assert near.monitor.snapshot.outlook.phase is Phase.LEAD
    finally:
        near.monitor.close()
    windowed.history = History(str(windowed.folder))
    far = windowed.starts(12, OFTEN)
    try:
        far.until(lambda: far.last_run("past") is not None)
        assert looks(far) == 1
        assert far.monitor._due["past"] > time.monotonic() + 3000
    finally:
        far.monitor.close()


def test_when_the_lead_time_begins_nobody_waits_for_the_interval(
    windowed: Windowed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was due in an hour is due by the interval that counts from now on."""
    monkeypatch.setattr("backupready.mind.monitor._IDLE_TURN", 0.2)
    now = time.time()
    start = (now + 7200) // 60 * 60
    it = windowed.starts(2, f"lead = {start - now - 2:.3f}s\n{OFTEN}", now)
    try:
        it.until(lambda: it.last_run("past") is not None)
        it.until(lambda: looks(it) >= 4)
        assert it.monitor.snapshot.outlook is not None
        assert it.monitor.snapshot.outlook.phase is Phase.LEAD
    finally:
        it.monitor.close()


def _in_hours(hours: float) -> str:
    return f"daily at {datetime.fromtimestamp(time.time() + hours * 3600, timezone.utc):%H:%M}"


def test_in_lead_who_samples_does_not_take_the_others_along() -> None:
    """A probe joins a look that is due a little before its own, by a share of the interval that counts now."""
    given: list[int] = []

    def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
        given.append(len(machine.samples()))
        yield CannotTell("too few", ("HERE_BUSY",))

    known = (probe("here", [fake.problem("HERE_BUSY")], look, access=Access.MIND), *probes.PROBES)
    loaded = configuration(
        known,
        web__listen_address="127.0.0.1:0",
        window__schedule=_in_hours(2),
        look__lead_interval="30s",
        **{f"{name}__enabled": "no" for name in (one.name for one in probes.PROBES) if name != "wire"},
    )
    it = Mind(Monitor(loaded, lambda: loaded, known, (), [sys.executable, "-c", EXITS]))
    it.monitor._look_command = (sys.executable, "-c", GIVES_UP.format(asked="/dev/null", late="/none", hangs=""))
    try:
        it.until(lambda: it.last_run("wire") is not None)
        before = looks(it)
        so_far = len(given)
        it.monitor._due["here"] = time.monotonic()
        it.until(lambda: len(given) > so_far)
        assert looks(it) == before
    finally:
        it.monitor.close()


def test_a_backup_that_appears_is_judged_at_once_and_kept(windowed: Windowed) -> None:
    """While a window is open the record is read closely, and the window ends with its backup."""
    it = windowed.starts(-0.5, OFTEN)
    try:
        it.until(lambda: it.last_run("past") is not None and it.last_run("window") is not None)
        assert it.monitor.snapshot.outlook is not None
        assert it.monitor.snapshot.outlook.phase is Phase.OPEN
        judged = it.last_run("window")
        assert judged is not None
        it.monitor._due["window"] = time.monotonic() + 3600
        backup = Run(time.time() - 60, 1, Happened.SUCCEEDED, time.time() - 120, "host")
        windowed.has_on_record(backup)
        it.until(lambda: it.monitor.snapshot.outlook and it.monitor.snapshot.outlook.phase is Phase.IDLE)
        it.until(lambda: (it.last_run("window") or 0.0) > judged)
    finally:
        it.monitor.close()
    assert windowed.kept().runs == (backup,)


def test_what_was_predicted_is_recalled_and_settled(windowed: Windowed, caplog: pytest.LogCaptureFixture) -> None:
    """Killed in a window, it knows what was said of it, holds it against what comes, and tells that once."""
    now = time.time()
    start = (now - 1800) // 60 * 60
    said = Prediction(start, start - 5, Verdict.BLOCKED, ("AGENT_STOPPED",))
    windowed.history.note_prediction(said)
    windowed.kept()
    it = windowed.starts(-0.5, OFTEN, now)
    try:
        it.until(lambda: it.monitor.snapshot.outlook and it.monitor.snapshot.outlook.predictions == (said,))
        windowed.has_on_record(Run(time.time() - 60, 1, Happened.SUCCEEDED, time.time() - 120))
        with caplog.at_level("INFO", "backupready"):
            it.until(lambda: it.monitor.snapshot.outlook and it.monitor.snapshot.outlook.scores)
            for _ in range(3):
                it.monitor.turn()
        told = [record.getMessage() for record in caplog.records if "predicted" in record.getMessage()]
        (line,) = told
        assert line.endswith("predicted blocked (AGENT_STOPPED); it succeeded")
        scrape = Exposition(lambda: it.monitor.snapshot, probes.METRICS).render("")[1].decode()
        assert 'predicted="blocked"' in scrape
    finally:
        it.monitor.close()
    (kept,) = windowed.kept().predictions
    assert (kept.start, kept.verdict, kept.happened) == (start, Verdict.BLOCKED, Happened.SUCCEEDED)


def test_a_record_that_nobody_could_ask_for_is_unread(windowed: Windowed) -> None:
    """A look that dies says nothing of the backups."""
    it = windowed.starts(-0.5, OFTEN)
    try:
        it.until(lambda: it.monitor.snapshot.outlook and it.monitor.snapshot.outlook.unread == "")
        it.monitor._look_command = (sys.executable, "-c", EXITS)
        it.until(lambda: it.monitor.snapshot.outlook and it.monitor.snapshot.outlook.unread)
        assert it.monitor.snapshot.outlook is not None
        assert "ended with code 3" in it.monitor.snapshot.outlook.unread
    finally:
        it.monitor.close()


def test_as_soon_as_the_record_is_read_it_is_judged(windowed: Windowed, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be told without it does not wait for the next look in turn, also where the record is empty."""
    monkeypatch.setattr(sampler, "INTERVAL", 3600.0)  # each sample has what is unknown looked at again
    monkeypatch.setattr(sampler, "FIRST_INTERVAL", 3600.0)
    it = windowed.starts(12, "interval = 1h\n[past]\ninterval = 1h\n")
    try:
        it.until(lambda: it.state("BACKUP_OVERDUE") is BeliefState.CLEAR, 20)
    finally:
        it.monitor.close()


def test_after_a_jump_of_the_clock_everything_is_looked_at(windowed: Windowed, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the intervals are, and without a problem."""
    it = windowed.starts(12, "[past]\ninterval = 1h\n")
    real, ahead = time.time, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    try:
        it.until(lambda: it.last_run("past") is not None)
        for hours in (3, 0, -3):
            ahead[0] = hours * 3600.0
            looks_again(it)
            assert [r.problem.code for r in it.monitor.snapshot.reasons] == []
    finally:
        it.monitor.close()


def test_the_status_line_has_the_window(windowed: Windowed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the headline has it, and again only when it has changed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(0.2)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        it = windowed.starts(2, OFTEN)
        heard = []
        try:
            it.until(lambda: looks(it) >= 4)
            with contextlib.suppress(socket.timeout):
                while True:
                    heard.append(channel.recv(4096).decode())
        finally:
            it.monitor.close()
    lines = [line for line in heard if line.startswith("STATUS=")]
    assert re.search(
        r"^STATUS=READY · next backup \w{3} \d\d:\d\d UTC \(in (2 h|1 h 5\d min)\) should succeed$", lines[-1]
    )
    assert len(lines) == len(set(lines)) <= 4


def test_jitter_is_the_machines_own() -> None:
    """A share, the same each time."""
    assert 0 <= jitter() < 1
    assert jitter() == jitter()


def test_a_request_is_bounded() -> None:
    """What the probes remember fits into a request many times over."""
    memory: dict[str, Any] = {"inode": 1, "offset": 1, "facts": {"text": "x" * 4000}}
    request = wire.encode_request(wire.LookRequest(("agent", "extension"), {"agent": memory, "extension": memory}))
    assert len(request) < wire.REQUEST_LIMIT / 10


def test_a_bad_web_configuration_shows_in_the_metrics(mind: Callable[..., Mind], tmp_path: Path) -> None:
    """As soon as somebody has asked after it changed, and until it is mended; the port stays open."""
    web, path = tmp_path / "web.yml", tmp_path / "x.conf"
    web.write_text("")
    path.write_text(f"[web]\nlisten_address = 127.0.0.1:0\nconfig_file = {web}\n[look]\ndeadline = 100ms\n")
    it = mind(HANGS, path=path)
    name = "web_config_last_reload_successful"
    assert it.monitor.snapshot.counters[name] == 1.0
    for text, right in (("users:\n", 0.0), ("# mended\n", 1.0)):
        web.write_text(text)
        connection = http.client.HTTPConnection(it.monitor.web.addresses[0], timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            assert connection.getresponse().status == 200
        it.until(lambda: it.monitor.snapshot.counters[name] == right)  # noqa: B023 - it is called at once


def test_a_reload_takes_a_web_configuration_that_lets_everybody_in(mind: Callable[..., Mind], tmp_path: Path) -> None:
    """Which the running daemon had refused, and shown in the metrics."""
    web, path = tmp_path / "web.yml", tmp_path / "x.conf"
    web.write_text("http_server_config:\n  headers:\n    X-Frame-Options: deny\n")
    path.write_text(f"[web]\nlisten_address = 127.0.0.1:0\nconfig_file = {web}\n[look]\ndeadline = 100ms\n")
    it = mind(HANGS, path=path)
    name = "web_config_last_reload_successful"
    web.write_text("")

    def frame() -> str | None:
        connection = http.client.HTTPConnection(it.monitor.web.addresses[0], timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().getheader("X-Frame-Options")

    assert frame() == "deny"
    it.until(lambda: it.monitor.snapshot.counters[name] == 0.0)
    it.monitor.request_reload()
    it.until(lambda: it.monitor.snapshot.counters[name] == 1.0)
    assert frame() is None


def test_the_text_file_has_the_metrics_and_no_process(mind: Callable[..., Mind], tmp_path: Path) -> None:
    """Nothing listens then; what the loop believes is written, and gone when it ends."""
    out, path = tmp_path / "out.prom", tmp_path / "x.conf"
    path.write_text(f"[textfile]\npath = {out}\n[look]\ndeadline = 100ms\n")
    it = mind(HANGS, path=path)
    it.until(out.exists)
    assert it.monitor.web.addresses == []
    text = out.read_text()
    assert 'backupready_verdict{verdict="unknown"} 1\n' in text
    assert "process_" not in re.sub("backupready_process_", "", text)
    it.monitor.close()
    assert not out.exists()


# -------------------------------------------------------------------------------------------------------- fixes

PLANS = """
import json, pathlib, socket
s = socket.socket(fileno=0)
request = b""
while piece := s.recv(65536): request += piece
request = json.loads(request)
nothing = {{"state": "ok", "why": "", "seconds": 0, "attempts": 0, "traceback": "", "readings": [], "watches": [],
           "runs": [], "unknown": [], "memory": {{}}}}
seen = [["AGENT_UNSUPPORTED", "", {{}}, None]] if pathlib.Path({seen!r}).exists() else []
answer = {{"schema": 1, "looks": [{{"probe": name, "findings": seen if name == "agent" else [], **nothing}}
                                for name in request["probes"]]}}
if request.get("show_units"):
    answer["units"] = {{"a.service": {{"ActiveState": "failed"}}}}
if "plans" in request:
    step = {{"step": "RestartUnit", "unit": next(iter(request.get("units") or ["none.service"]))}}
    answer["plans"] = [dict(zip(("remedy", "problem", "key"), which), steps=[step], why="")
                       for which in request["plans"]]
s.sendall(json.dumps(answer).encode())
"""
MEND = fake.remedy("mend-thing", problems=("AGENT_UNSUPPORTED",))
HEALED = Attempt(3, "mend-thing", "AGENT_UNSUPPORTED", "", "mind", 5.0, Result.HEALED, 6.0)


class Hands:
    """Who listens at the hands' socket. Each request is kept; the answer is given when the test says so."""

    def __init__(self, path: Path) -> None:
        self.asked: list[wire.FixRequest] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._waiting: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                request = wire.receive(connection, wire.FIX_LIMIT, 5)
                self._waiting.append(connection)
                self.asked.append(wire.decode_fix_request(request, ["mend-thing"]))

    def say(self, answer: bytes) -> None:
        with self._waiting.pop() as connection, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@dataclass
class Fixing:
    """A machine in the lead time whose agent has a problem, or has not, with a place for the hands' socket."""

    folder: Path
    mode: str = "on"
    allow: str = "mend-thing"
    state: Any = None

    def __post_init__(self) -> None:
        self.seen, self.socket = self.folder / "seen", self.folder / "fix.sock"
        self.summary, self.file = self.folder / "fixes.json", self.folder / "x.conf"
        self.seen.touch()

    def mind(self) -> Mind:
        self.file.write_text(
            f"[web]\nlisten_address = 127.0.0.1:0\n[look]\ndoor = child\nlead_interval = 300ms\n[window]\n"
            f"schedule = {_in_hours(2)}\n[hands]\ninterval = 1h\n"
            f"[fix]\nmode = {self.mode}\nallow = {self.allow}\nsocket = {self.socket}\n"
            f"pause_file = {self.folder}/pause\n"
        )
        chosen = [one for one in probes.PROBES if one.name in ("agent", "hands")]
        command = [sys.executable, "-c", PLANS.format(seen=str(self.seen))]
        summary = Summary(str(self.summary))

        def load() -> config.Config:
            return config.load(catalogue.SETTINGS, self.file)

        metrics = probes.METRICS
        return Mind(Monitor(load(), load, chosen, metrics, command, self.state, remedies=(MEND,), summary=summary))


@pytest.fixture
def fixing(tmp_path: Path) -> Iterator[Callable[..., tuple[Mind, Fixing]]]:
    if os.geteuid() != 0:
        pytest.skip("behind the hands' socket must be root")
    minds: list[Mind] = []

    def make(**changes: Any) -> tuple[Mind, Fixing]:
        it = Fixing(tmp_path, **changes)
        minds.append(it.mind())
        return minds[-1], it

    yield make
    for made in minds:
        made.monitor.close()


@pytest.fixture
def hands(tmp_path: Path) -> Iterator[Hands]:
    it = Hands(tmp_path / "fix.sock")
    yield it
    it.close()


def records(caplog: pytest.LogCaptureFixture, message_id: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if getattr(record, "MESSAGE_ID", "") == message_id]


def test_in_lead_the_hands_are_asked_once_and_everything_else_goes_on(
    fixing: Callable[..., tuple[Mind, Fixing]], hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    """The request names what was seen; looks go on while it is under way; the answer is told, and nothing is asked
    for again."""
    caplog.set_level("INFO", "backupready")
    it, _ = fixing()
    it.until(lambda: hands.asked)
    (request,) = hands.asked
    outlook = it.monitor.snapshot.outlook
    assert outlook is not None
    assert outlook.window is not None
    assert (request.remedy, request.problem, request.key) == ("mend-thing", "AGENT_UNSUPPORTED", "")
    assert (request.phase, request.start, request.end) == (Phase.LEAD, outlook.window.start, outlook.window.end)
    assert abs(time.time() - request.seen) < 20
    it.until(lambda: (planning := it.monitor.snapshot.planning) and planning.under_way == "mend-thing")
    looks_again(it)
    looks_again(it)
    it.monitor.request_reload()
    looks_again(it)
    planning = it.monitor.snapshot.planning
    assert planning is not None
    assert (planning.under_way, planning.mode) == ("mend-thing", "on")
    it.monitor._due.update(dict.fromkeys(it.monitor._due, time.monotonic() + 3600))
    hands.say(wire.encode_fix_answer(HEALED))
    looks_again(it)
    (told,) = records(caplog, journal.MESSAGE_FIX_ANSWERED)
    assert told.getMessage() == "attempt 3, mend-thing for AGENT_UNSUPPORTED: healed"
    for _ in range(3):
        looks_again(it)
    assert len(hands.asked) == 1
    planning = it.monitor.snapshot.planning
    assert planning is not None
    assert (planning.under_way, planning.door_open) == ("", True)


def test_the_plans_go_by_what_the_service_manager_shows_to_another(
    fixing: Callable[..., tuple[Mind, Fixing]], caplog: pytest.LogCaptureFixture
) -> None:
    """They are published with the snapshot; where fixes are observed they count once, and nobody is asked."""
    caplog.set_level("INFO", "backupready")
    it, its = fixing(mode="observe", allow="")
    hands = Hands(its.socket)
    try:
        it.until(lambda: it.monitor.snapshot.plans)
        expected = Planned("mend-thing", "AGENT_UNSUPPORTED", "", (RestartUnit("a.service"),))
        assert it.monitor.snapshot.plans == (expected,)
        it.until(lambda: (planning := it.monitor.snapshot.planning) and planning.would_run == {"mend-thing": 1})
        for _ in range(3):
            looks_again(it)
        (told,) = records(caplog, journal.MESSAGE_FIX_WOULD_RUN)
        assert told.getMessage().endswith("for AGENT_UNSUPPORTED: restart a.service")
        assert hands.asked == []
    finally:
        hands.close()
    its.seen.unlink()
    it.until(lambda: it.monitor.snapshot.plans == ())


def test_while_fixes_are_paused_nobody_is_asked(
    fixing: Callable[..., tuple[Mind, Fixing]], hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until the file is gone; the plans are made all the same."""
    monkeypatch.setattr("backupready.mind.summary.EVERY", 0.1)
    (tmp_path / "pause").touch()
    it, _ = fixing()
    it.until(lambda: it.monitor.snapshot.plans)
    looks_again(it)
    it.until(lambda: (planning := it.monitor.snapshot.planning) and planning.paused == Pause())
    assert hands.asked == []
    (tmp_path / "pause").unlink()
    it.until(lambda: hands.asked)


def test_where_the_pause_file_does_not_answer_everything_else_goes_on(
    fixing: Callable[..., tuple[Mind, Fixing]], hands: Hands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a mount that hangs, say: nobody is asked for a fix, and that is shown; another file is read at once."""
    monkeypatch.setattr("backupready.mind.summary._PAUSE_PATIENCE", 0.1)
    real, hanging = summary.pause, threading.Event()

    def hangs(path: str, now: float) -> Pause | None:
        return real(path, now) if "other" in path or hanging.wait(60) else None

    monkeypatch.setattr("backupready.mind.summary.pause", hangs)
    it, its = fixing()
    try:
        it.until(lambda: it.monitor.snapshot.plans)
        for _ in range(3):
            looks_again(it)
        planning = it.monitor.snapshot.planning
        assert planning is not None
        assert planning.paused is not None
        assert "has not answered for" in planning.paused.unread
        assert hands.asked == []
        its.file.write_text(its.file.read_text().replace(f"{tmp_path}/pause", f"{tmp_path}/other"))
        it.monitor.request_reload()
        it.until(lambda: hands.asked)
        its.file.write_text(its.file.read_text().replace("mode = on", "mode = off").replace("/other", "/pause"))
        it.monitor.request_reload()
        it.until(lambda: (planning := it.monitor.snapshot.planning) and planning.mode == "off")
        planning = it.monitor.snapshot.planning
        assert planning is not None
        assert planning.paused is None
    finally:
        hanging.set()


def test_where_nobody_can_be_asked_that_is_told_once_and_looked_for_again(
    fixing: Callable[..., tuple[Mind, Fixing]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there is no socket, or nobody behind it; as soon as there is somebody he is asked."""
    monkeypatch.setattr("backupready.mind.monitor._LOOK_FOR_DOOR", 0.1)
    monkeypatch.setattr("backupready.mind.planner._LOOK_FOR_DOOR", 0.1)
    it, its = fixing()
    it.until(lambda: it.monitor.snapshot.counters.get("fix_requests_failed", 0) >= 3)
    assert len(records(caplog, journal.MESSAGE_FIX_DOOR_SHUT)) == 1
    planning = it.monitor.snapshot.planning
    assert planning is not None
    assert planning.door_open is False
    hands = Hands(its.socket)
    try:
        it.until(lambda: hands.asked)
        it.until(lambda: (planning := it.monitor.snapshot.planning) and planning.door_open)
    finally:
        hands.close()


@pytest.mark.parametrize("answer", [b"", b"no document", b"x" * (1 << 21)], ids=["none", "garbage", "too much"])
def test_hands_that_do_not_answer_are_told_and_left_alone_for_a_while(
    answer: bytes, fixing: Callable[..., tuple[Mind, Fixing]], hands: Hands, caplog: pytest.LogCaptureFixture
) -> None:
    """They may have done it, and what they have noted tells."""
    it, _ = fixing()
    it.until(lambda: hands.asked)
    threading.Thread(target=hands.say, args=(answer,), daemon=True).start()
    it.until(lambda: it.monitor.snapshot.counters.get("fix_requests_failed"))
    (told,) = records(caplog, journal.MESSAGE_FIX_ANSWERED)
    assert told.getMessage().startswith("cannot tell what came of mend-thing for AGENT_UNSUPPORTED: ")
    for _ in range(3):
        looks_again(it)
    assert len(hands.asked) == 1


def test_what_the_hands_have_told_is_judged_at_once(
    fixing: Callable[..., tuple[Mind, Fixing]], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit is a problem until it lifts; a document that is broken is unknown, and that is told once."""
    monkeypatch.setattr("backupready.mind.summary.EVERY", 0.1)
    it, its = fixing(mode="off")
    it.until(lambda: it.state("FIX_LIMIT_REACHED") is BeliefState.CLEAR)
    assert it.monitor.snapshot.fixes is None
    told = Fixes(5.0, (HEALED,), limits=(Limit("AGENT_UNSUPPORTED", "", "mend-thing", "done thrice"),))
    for data, state, fixed in (
        (fixes.encode(told), BeliefState.ACTIVE, told),
        (b"{", BeliefState.UNKNOWN, None),
        (fixes.encode(Fixes(6.0)), BeliefState.CLEAR, Fixes(6.0)),
    ):
        new = its.summary.with_suffix(".new")
        new.write_bytes(data)
        new.replace(its.summary)
        it.until(lambda: it.monitor.snapshot.fixes == fixed and it.state("FIX_LIMIT_REACHED") is state)  # noqa: B023
    assert len(records(caplog, journal.MESSAGE_FIXES_UNREADABLE)) == 1
    planning = it.monitor.snapshot.planning
    assert planning is not None
    assert planning.unread == ""


def test_no_counter_goes_back_at_a_restart(fixing: Callable[..., tuple[Mind, Fixing]], tmp_path: Path) -> None:
    """Although what the hands have told cannot be read from the start, and there is no history."""
    state: Any = KeepsCount(Kept(scores=((Verdict.READY, Happened.SUCCEEDED, 7),)))
    told = Fixes(5.0, would_run={"mend-thing": 2}, ended={("mend-thing", "failed"): 3}, attempts=(HEALED,))
    (tmp_path / "fixes.json").write_bytes(fixes.encode(told))
    expected: dict[tuple[Any, ...], float] = {
        ("backupready_predictions_total", ("happened", "succeeded"), ("predicted", "ready")): 7.0,
        ("backupready_fix_attempts_total", ("remedy", "mend-thing"), ("result", "failed")): 3.0,
        ("backupready_fix_would_run_total", ("remedy", "mend-thing")): 3.0,
    }
    names = {which[0] for which in expected}
    for readable in (True, False):
        if not readable:
            (tmp_path / "fixes.json").write_bytes(b"{")
        it, _ = fixing(mode="observe", allow="", state=state)
        seen: list[dict[tuple[Any, ...], float]] = []
        while len(seen) < 8 or not it.monitor.snapshot.plans or not it.last_run("agent"):
            seen.append(counted(it.monitor, names))
            it.monitor.turn()
        it.until(lambda: counted(it.monitor, names) == expected)  # noqa: B023
        assert bool(it.monitor._summary.unread) is not readable
        assert it.monitor.snapshot.fixes == (told if readable else None)
        if not readable:
            assert all(one == expected for one in seen)
        it.monitor.close()
        state.kept = decode(encode(state.saved[-1]))
    assert state.kept.fixes.counted == (("mend-thing", "AGENT_UNSUPPORTED", ""),)


def counted(monitor: Monitor, names: set[str]) -> dict[tuple[Any, ...], float]:
    """The samples of these counters in a scrape, by name and labels."""
    text = Exposition(lambda: monitor.snapshot, probes.METRICS).render("")[1].decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in names
    }


def test_plans_of_an_emulated_guest() -> None:
    """The real look makes them, of the real remedies; here nobody can ask a service manager."""
    with EmulatedGuest(port=0) as guest:
        with guest.config_path.open("a") as file:
            file.write("[fix]\nmode = observe\n")

        def load() -> config.Config:
            return config.load(catalogue.SETTINGS, guest.config_path)

        whole = remedies.REMEDIES
        monitor = Monitor(load(), load, probes.PROBES, probes.METRICS, look_command(), remedies=whole)
        it = Mind(monitor)
        try:
            it.until(lambda: it.monitor.snapshot.verdict is Verdict.READY)
            guest.stop_agent()
            it.until(lambda: it.monitor.snapshot.plans)
            (plan,) = it.monitor.snapshot.plans
            assert (plan.remedy, plan.problem) == ("restart-agent", "AGENT_STOPPED")
            assert plan.why or plan.steps
            assert "defect" not in plan.why
        finally:
            monitor.close()


def test_an_exchange_that_has_ended_is_followed_no_more(
    mind: Callable[..., Mind], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything else is opened, since that may get the number of its descriptor."""
    it = mind(EXITS)
    collect = it.monitor._collect
    ended: list[wire.Exchange] = []

    def checked() -> None:
        followed = {key.data for key in it.monitor._selector.get_map().values() if isinstance(key.data, wire.Exchange)}
        ended.extend(exchange for exchange in it.monitor._asked if exchange.done)
        assert not any(exchange.done for exchange in followed)
        collect()

    monkeypatch.setattr(it.monitor, "_collect", checked)
    it.until(lambda: ended)
