"""When is the machine looked at, and who learns of it? The resident loop.

One thread, one selector, the monotonic clock. A look runs in another process and is waited for without blocking; its
deadline is kept here. Probes are due by their own intervals, more often before a backup window, at once when one of the
agent's processes dies, and again soon while something that was seen is not believed yet. After every change one frozen
snapshot is published by one assignment.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Callable

from backupready import journal, report, wire
from backupready.config import Config, ConfigError
from backupready.journal import LOG
from backupready.mind import service
from backupready.mind.calendar import Calendar, is_running, local_zone
from backupready.mind.history import History, Judged, Transition
from backupready.mind.judge import KEPT_EVERY, Judge, Kept, KeptFixes
from backupready.mind.loads import FiveMinutes, Loads
from backupready.mind.metrics import Exposition
from backupready.mind.page import DAY, SHOWN_RUNS, Past
from backupready.mind.planner import Planner, Policy
from backupready.mind.sampler import Sampled, Sampler
from backupready.mind.state import StateFile
from backupready.mind.summary import PauseFile, Summary
from backupready.mind.summary import of as summary_of
from backupready.mind.textfile import TextFile
from backupready.mind.web import Site, listening
from backupready.model import (
    LOAD_SECONDS,
    Access,
    BeliefState,
    Effect,
    Looked,
    Metric,
    Outlook,
    Phase,
    Planning,
    Probe,
    ProbeState,
    Remedy,
    Sample,
    Snapshot,
    Verdict,
)
from backupready.observe import observe
from backupready.window import read_zones_anew

# Looks of one burst: the first, and then at 1, 2, 4 … times `look.confirm_after`.
_BURST_DOUBLINGS = 6
_BURST_LONGEST = 15.0  # s between the looks of a burst
# Looks that have been given up but have processes still: they hang in the kernel, where nobody can end them. At so
# many, no more are begun; a probe that hung before is left out sooner, so that it does not take the others with it.
_MOST_HANGING = 6
_MOST_HANGING_AGAIN = 3
_AGAIN_LONGEST = 600.0  # s between the looks of a probe that hangs, which double from its interval
_MOST_LOOKS_AT_DEATH = 4  # at the same time
_IDLE_TURN = 10.0  # s; the loop turns at least this often, and so feeds the watchdog
_SLACK = 0.2  # of an interval: a probe that is due within it joins the look
# What is looked at when one of the agent's processes dies, and for how long it is followed what comes of it: an agent
# that is restarted has its new worker within seconds.
_ON_DEATH = ("agent", "unit")
_FOLLOW_DEATH = 30.0  # s
_FOLLOW_LOOP = 2.0  # s
# What the record of past backups and the windows are judged by. While a backup may be running the record alone is read
# more often, so that its end is seen soon, and the machine is left alone otherwise.
_RECORD, _WINDOW = "past", "window"
_OUTLIVES = (_WINDOW,)  # whose memory outlives a restart: since when the schedule is set so
_HANDS = "hands"  # the probe that judges what the hands have told
_LOOK_FOR_DOOR = 60.0  # s
# What is taken over at the next start only.
_AT_START = (
    *("web.listen_address", "web.systemd_socket", "web.config_file", "web.status_socket"),
    *("textfile.path", "textfile.interval", "state.directory", "history.keep", "history.limit"),
)
_RECALL_TIMEOUT = 2.0  # s; a frozen disk does not keep the daemon from starting


def machine_facts(root: str) -> dict[str, str]:
    """Which machine this is, for people."""
    return {"name": platform.node(), "system": platform.system(), "kernel": platform.release(), "root": root}


def jitter() -> float:
    """A share, 0 to 1, that is this machine's own, so that a fleet does not look all at once."""
    identity = b""
    with contextlib.suppress(OSError):
        identity = Path("/etc/machine-id").read_bytes()
    identity = identity or platform.node().encode()
    return int.from_bytes(hashlib.sha256(b"backupready" + identity).digest()[:4], "big") / 2**32


def boot() -> str:
    """The kernel's own name for the time since it was started; a number of this process where it does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return f"{os.getpid()} at {time.time():.6f}"


def suspended() -> float:
    """For how many seconds the machine was suspended since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


@dataclass(frozen=True)
class _Planning:
    """A look at which plans are made, or before that the one that asks the service manager."""

    exchange: wire.Exchange
    wanted: tuple[wire.Which, ...]
    of_plans: bool


class Monitor:
    """The mind's loop. `load` reads the configuration anew for a reload; `state` and `history` are what outlives a
    restart, None where nothing does. `remedies` are those that may be asked for, and `summary` what the hands tell;
    `runbook` gives a page of the runbook by its file name."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        probes: Sequence[Probe],
        metrics: Sequence[Metric],
        look_command: Sequence[str],
        state: StateFile | None = None,
        history: History | None = None,
        remedies: Sequence[Remedy] = (),
        summary: Summary | None = None,
        runbook: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self._config = config
        self._remedies, self._planner = tuple(remedies), Planner((), (), Policy())
        self._summary = summary or summary_of(config["machine.root"])
        self._told_unread = ""  # why the summary cannot be read, as the journal has it
        self._planning: _Planning | None = None
        self._fixing: tuple[wire.Exchange, wire.FixRequest] | None = None
        self._pause_file = PauseFile(config["fix.pause_file"])
        self._looked_for_door = float("-inf")  # monotonic
        self._door_open: bool | None = None
        self._load = load
        self._all_probes = tuple(probes)
        self._look_command = tuple(look_command)
        self._selector = selectors.DefaultSelector()
        self._counters: dict[str, float] = {"config_last_reload_successful": 1.0}
        self._memory: dict[str, Mapping[str, Any]] = {}
        self._asked: dict[wire.Exchange, tuple[Probe, ...]] = {}
        self._lingering: list[wire.Exchange] = []
        self._seen_at: dict[str, float] = {}  # monotonic: when the newest look of a probe that answered began
        self._pidfds: dict[int, tuple[int, str]] = {}  # pid → descriptor, role
        self._given_up: dict[str, int] = {}  # how often in a row a probe was not back in time
        self._active: set[str] = set()  # the problems that were told as active and not as over since
        self._missed: dict[str, str] = {}  # the probes whose newest look came to nothing, and why
        self._known_defects: set[tuple[str, str, str]] = set()  # probe, class, place
        self._signals: socket.socket | None = None
        self._stopping = self._reload_wanted = False
        self._jitter = jitter()
        self._turned = time.monotonic()
        self._followed_until = 0.0  # monotonic: until then it is followed what comes of a death
        self._urgent = False  # only what is due now, without what would soon be
        self._burst = 0
        self._held: set[str] = set()  # the probes that need not be asked as long as the question does not arise
        self._again: float | None = None  # when the next look of a burst is due
        self._sampler = Sampler()
        self._five_minutes, self._loads = FiveMinutes(), Loads()
        self._state, self._history = state, history
        self._recalling = history is not None
        # What the history has of each key of a problem.
        self._noted: dict[tuple[str, str], tuple[BeliefState, Effect]] = {}
        self._noted_verdict: tuple[Verdict, tuple[str, ...]] | None = None
        self._calendar = Calendar(config)
        self.past = Past()
        self._past_until = 0.0  # monotonic: until then it is new enough
        self._told = ""  # the line that the service manager has
        self._kept: object = None  # what was handed over last, without the moment
        self._kept_at = 0.0  # monotonic: and when
        self._boot = boot()
        self._judge = Judge((), {}, 0.0)
        self._take(config)
        if state is not None and (kept := state.load()) is not None:
            self._judge.recall(kept)
            if kept.clocks is not None and kept.clocks.boot == self._boot:
                self._calendar.resume(kept.clocks)
            self._memory.update({name: dict(kept.memory[name]) for name in _OUTLIVES if name in kept.memory})
            self._calendar.count_before(kept.scores)
            self._planner.recall(kept.fixes.would_run, kept.fixes.counted)
            self._summary.counters = kept.fixes.told
        self._recall(_RECALL_TIMEOUT)
        self._calendar.tick(time.time(), time.monotonic(), suspended())
        if config["web.config_file"]:
            self._counters["web_config_last_reload_successful"] = 1.0  # with a bad one it does not start
        self._read_summary(time.monotonic())
        self.snapshot: Snapshot = self._judged()
        exposition = Exposition(lambda: self.snapshot, metrics)
        site = Site(
            lambda: self.snapshot,
            exposition,
            lambda: time.monotonic() - self._turned,
            lambda: self.past,
            tuple(problem for probe in self._all_probes for problem in probe.problems),
            self._planner.remedies_for,
            runbook,
        )
        self.web = listening(config, site)
        self._web_config_was_right = self.web.config_is_right
        self._textfile: TextFile | None = None
        if config["textfile.path"]:
            inside = Exposition(lambda: self.snapshot, metrics, process=False)
            interval = config["textfile.interval"].total_seconds()
            self._textfile = TextFile(config["textfile.path"], interval, lambda: inside.render("")[1])

    def _take(self, config: Config) -> None:
        """Go by this configuration from now on; what is believed of its probes stays."""
        now = time.monotonic()
        self._config = config
        self._probes = tuple(p for p in self._all_probes if config[f"{p.name}.enabled"])
        self._intervals = {p.name: config[f"{p.name}.interval"].total_seconds() for p in self._probes}
        deadline = config["look.deadline"].total_seconds()
        needed = config["window.consistency"] == "application"
        self._judge = Judge(self._probes, self._intervals, deadline, self._judge, needed)
        self._calendar = Calendar(config, local_zone(config["machine.root"]), self._calendar)
        self._machine = machine_facts(config["machine.root"])
        switched_off = [p.name for p in self._all_probes if p not in self._probes]
        if switched_off:
            self._machine["switched_off"] = " ".join(switched_off)
        self._due = {p.name: now for p in self._probes}
        self._past_until = 0.0
        self._missed = {name: why for name, why in self._missed.items() if name in self._due}
        policy = Policy(config["fix.mode"], config["fix.allow"], config["fix.without_window"])
        self._planner = Planner(self._remedies, self._probes, policy, self._planner)
        if config["fix.pause_file"] != self._pause_file.path:
            self._pause_file.close()
            self._pause_file = PauseFile(config["fix.pause_file"])
        self._looked_for_door = float("-inf")
        self._door_open = None

    # ---- the loop

    def run(self) -> int:
        """Until SIGTERM or SIGINT. Returns the exit status."""
        self._catch_signals()
        service.notify("READY=1\nSTATUS=looking for the first time")
        try:
            while not self._stopping:
                self.turn()
        finally:
            service.notify("STOPPING=1")
            self.close()
        return 0

    def close(self) -> None:
        """Give up running looks and every descriptor."""
        for exchange in self._asked:
            self._forget(exchange)
            exchange.cancel("was given up, since the daemon stops")
        self._asked.clear()
        for exchange in self._others():
            self._forget(exchange)
            exchange.cancel("was not waited for, since the daemon stops")
        for pid in list(self._pidfds):
            self._unfollow(pid)
        if self._state is not None:
            self._state.save(self._to_keep())
            self._state.close()
        if self._history is not None:
            self._history.close()
        if self._textfile is not None:
            self._textfile.close()
        self._pause_file.close()
        self.web.close()
        self._selector.close()

    def request_reload(self) -> None:
        """Take the configuration over anew at the next turn."""
        self._reload_wanted = True

    def turn(self) -> None:
        now = time.monotonic()
        self._turned = now
        if self._calendar.tick(time.time(), now):
            # Whatever has been seen before says little after it.
            self._due.update(dict.fromkeys(self._due, now))
        if (sample := self._sampler.sample_if_due(now)) is not None:
            self._note_load(sample)
        self._recall()
        if self._textfile is not None:
            self._textfile.offer(self.snapshot.verdict, now)
        if self.web.config_is_right != self._web_config_was_right:
            self._publish()
        if service.watchdog_seconds() is not None:
            service.notify("WATCHDOG=1")
        if self._reload_wanted:
            self._reload()
        self._read_summary(now)
        self._start_looks(now)
        self._see_to_fixes(now)
        self._wait(now)
        self._collect()

    def _wait(self, now: float) -> None:
        moments = [self._sampler.due, now + _IDLE_TURN]
        moments += [exchange.deadline for exchange in (*self._asked, *self._others())]
        moments += [self._due[name] for name in self._free(now)]
        if self._again is not None:
            moments.append(self._again)
        for key, _ in self._selector.select(max(0.0, min(moments) - now)):
            if isinstance(key.data, wire.Exchange):
                key.data.advance()
                if key.data.done:
                    self._forget(key.data)  # at once: its descriptor is closed, and the next that is opened may get it
                else:
                    self._selector.modify(key.data, key.data.events, key.data)
            elif key.data == "signals":
                assert self._signals is not None
                with contextlib.suppress(BlockingIOError):
                    self._signals.recv(4096)
            else:
                self._died(key.data)

    # ---- looks

    def _start_looks(self, now: float) -> None:
        """What is due, or will be soon, together."""
        if self._again is not None and now >= self._again:
            self._again = None
            self._urgent = True
            followed = _ON_DEATH if now < self._followed_until else ()
            for name in (*self._judge.pending(), *self._missed, *followed):
                if name in self._due:
                    self._due[name] = now
        held = self._judge.held_back()
        self._due.update({name: now for name in self._held - held if name in self._due})
        self._held = held
        free = self._free(now)
        if not any(self._due[name] <= now for name in free):
            return
        due = [
            p
            for p in self._probes
            if p.name in free and self._due[p.name] <= now + (0.0 if self._urgent else _SLACK * self._interval(p.name))
        ]
        self._urgent = False
        self._look_here([probe for probe in due if probe.access is Access.MIND], now)
        for access in (Access.ROOT, Access.BUS):
            probes = [probe for probe in due if probe.access is access]
            # One that hung is asked alone: who looks with it would hang as well, by and by.
            looks = [tuple(probe for probe in probes if probe.name not in self._given_up)]
            looks += [(probe,) for probe in probes if probe.name in self._given_up]
            for look in filter(None, looks):
                self._ask(access, look, now)

    def _look_here(self, probes: Sequence[Probe], now: float) -> None:
        """What needs no look of its own: it is judged by what was sampled, and nothing in it can hang."""
        for probe in probes:
            memory = self._memory.get(probe.name, {})
            machine = Sampled(self._sampler.samples, memory, self._whole_outlook, self._summary.fixes)
            looked = observe(probe, machine, self._config)
            self._judge.saw(looked, time.monotonic(), time.time())
            # What too few samples cannot tell the next one may.
            waits = looked.unknown or looked.state is ProbeState.CANNOT_TELL
            moment = self._sampler.due if waits else now + self._intervals[probe.name]
            self._due[probe.name] = min(moment, now + self._intervals[probe.name])
            if looked.state in (ProbeState.OK, ProbeState.FAILED):
                self._memory[probe.name] = looked.memory
            self._note_defect(looked)
        if probes:
            self._after_look()

    def _free(self, now: float) -> set[str]:
        """The probes that may be asked: those that are not looking now. What a death is followed with does not wait
        for a look from before it, which may hang on a dead network for long."""
        looking = {probe.name for probes in self._asked.values() for probe in probes}
        if now < self._followed_until and len(self._asked) < _MOST_LOOKS_AT_DEATH:
            looking -= set(_ON_DEATH)
        return set(self._due) - looking - self._judge.held_back()

    def _ask(self, access: Access, probes: tuple[Probe, ...], now: float) -> None:
        for probe in probes:
            self._due[probe.name] = now + self._pause(probe.name) * (0.9 + 0.1 * self._jitter)
        self._count("looks")
        hanging = self._hanging()
        again = any(probe.name in self._given_up for probe in probes)
        if hanging >= (_MOST_HANGING_AGAIN if again else _MOST_HANGING):
            self._do_without(probes, f"{hanging} earlier looks have not ended; they hang in the kernel")
            return
        request = wire.encode_request(
            wire.LookRequest(
                tuple(probe.name for probe in probes),
                {probe.name: self._memory.get(probe.name, {}) for probe in probes},
                self._config.changed(),
            )
        )
        try:
            exchange = self._open_door(access, request)
        except OSError as error:
            self._do_without(probes, f"cannot start a look: {error.strerror or error}")
            return
        self._asked[exchange] = probes
        self._selector.register(exchange, exchange.events, exchange)

    def _do_without(self, probes: tuple[Probe, ...], why: str) -> None:
        """There is no look for these probes now."""
        self._miss(probes, why, 0.0)
        self._after_look()
        self._publish()

    def _pause(self, probe: str) -> float:
        """How long from one look of a probe to the next, in seconds."""
        interval = self._interval(probe)
        return float(min(interval * 2 ** self._given_up.get(probe, 0), max(interval, _AGAIN_LONGEST)))

    def _interval(self, probe: str) -> float:
        """How often a probe looks now, in seconds."""
        outlook = self.snapshot.outlook
        phase = outlook.phase if outlook is not None else Phase.IDLE
        often = phase in (Phase.LEAD, Phase.HOLD) or (phase is Phase.OPEN and probe == _RECORD)
        closely: timedelta = self._config["look.lead_interval"]
        own: float = self._intervals[probe]
        return min(own, closely.total_seconds()) if often else own

    def _hanging(self) -> int:
        """How many looks have processes although nobody waits for them any more."""
        self._lingering = [e for e in self._lingering if e.child is not None and e.child.poll() is None]
        planning = (self._planning.exchange,) if self._planning is not None else ()
        waited_for = sum(exchange.child is None for exchange in (*self._asked, *planning))
        return len(self._lingering) + max(0, service.living_looks() - waited_for)

    def _open_door(self, access: Access, request: bytes) -> wire.Exchange:
        seconds = self._config["look.deadline"].total_seconds() + 2.0  # the look keeps its own deadline first
        door, path = self._config["look.door"], self._config["look.socket"]
        if access is Access.ROOT and (door == "socket" or (door == "auto" and os.path.exists(path))):  # noqa: PTH110
            return wire.connect(path, request, seconds, allowed=(0,))
        return wire.spawn(self._look_command, request, seconds)

    def _collect(self) -> None:
        """Take the looks that have ended, and judge."""
        now = time.monotonic()
        ended = False
        for exchange in (*self._asked, *self._others()):
            if not exchange.done and now >= exchange.deadline:
                exchange.advance()
                if exchange.done:
                    self._forget(exchange)
        for exchange in list(self._asked):
            if exchange.done:
                self._take_answer(exchange, self._asked.pop(exchange))
                ended = True
        if ended:
            self._after_look()
        if self._planning is not None and self._planning.exchange.done:
            self._take_plans(self._planning, now)
        if self._fixing is not None and self._fixing[0].done:
            self._take_fix(*self._fixing, now)
        self._publish()

    def _others(self) -> tuple[wire.Exchange, ...]:
        """The exchanges that are about fixes."""
        planning = (self._planning.exchange,) if self._planning is not None else ()
        return (*planning, self._fixing[0]) if self._fixing is not None else planning

    def _take_answer(self, exchange: wire.Exchange, probes: tuple[Probe, ...]) -> None:
        self._forget(exchange)
        if exchange.child is not None and exchange.child.poll() is None:
            self._lingering.append(exchange)
        seconds = time.monotonic() - exchange.started
        # A look that began later may have answered for some of them already.
        asked = probes
        probes = tuple(p for p in probes if exchange.started >= self._seen_at.get(p.name, 0.0))
        if not probes:
            return
        if exchange.failure:
            self._miss(probes, f"the look {exchange.failure}", seconds)
            return
        try:
            looks = wire.decode_answer(exchange.answer, {probe.name: probe for probe in asked})
        except wire.Malformed as error:
            self._miss(probes, f"the look's answer cannot be used: {error}", seconds)
            return
        for look in looks:
            if look.probe not in {probe.name for probe in probes}:
                continue
            self._seen_at[look.probe] = exchange.started
            self._missed.pop(look.probe, None)
            if look.probe == _RECORD:
                self._read(look)
            self._judge.saw(look, time.monotonic(), time.time())
            if look.state is ProbeState.GIVEN_UP:
                self._given_up[look.probe] = self._given_up.get(look.probe, 0) + 1
                # All others wait for what tells whether the question arises: it is asked again at once.
                soon = max(self._due[look.probe], time.monotonic() + self._pause(look.probe))
                self._due[look.probe] = time.monotonic() if self._judge.waits else soon
            else:
                self._given_up.pop(look.probe, None)
            if look.state in (ProbeState.OK, ProbeState.FAILED):
                self._memory[look.probe] = look.memory
            self._note_defect(look)

    def _forget(self, exchange: wire.Exchange) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(exchange)

    def _miss(self, probes: Sequence[Probe], why: str, seconds: float) -> None:
        """A look came to nothing: it is tried again soon, and each new reason is told once."""
        self._count("looks_failed")
        names = [probe.name for probe in probes]
        if any(self._missed.get(name) != why for name in names):
            extra = {"MESSAGE_ID": journal.MESSAGE_LOOK_FAILED}
            LOG.warning("cannot look: %s (%s)", why, " ".join(names), extra=extra)
        self._missed.update(dict.fromkeys(names, why))
        self._judge.missed(names, why, time.monotonic(), time.time(), seconds)
        if _RECORD in names:
            self._calendar.unread(why)

    def _note_defect(self, look: Looked) -> None:
        """One traceback for each distinct defect: what else its words say may differ each time."""
        if look.state is not ProbeState.FAILED:
            return
        self._count("probe_defects")
        places = [line for line in look.traceback.splitlines() if line.startswith('  File "')]
        defect = look.probe, look.why.partition(":")[0], "".join(places[-1:])
        if defect not in self._known_defects:
            self._known_defects.add(defect)
            LOG.error("defect in probe %s: %s\n%s", look.probe, look.why, look.traceback)

    def _after_look(self) -> None:
        """Follow the agent's processes, and look again: when what was seen can be confirmed, and sooner and then
        later after a death or a look that came to nothing."""
        self._follow_processes()
        if self._again is not None:
            return
        now = time.monotonic()
        first = self._config["look.confirm_after"].total_seconds()
        moments = []
        if self._judge.pending():
            moments.append(max(now + first, self._judge.confirm_at()))
        if self._missed or now < self._followed_until:
            moments.append(now + min(first * 2 ** min(self._burst, _BURST_DOUBLINGS), _BURST_LONGEST))
            self._burst += 1
        else:
            self._burst = 0
        self._again = min(moments, default=None)

    # ---- fixes

    def _read_summary(self, now: float, at_once: bool = False) -> None:
        """What the hands have told since; that is judged at once."""
        if not self._summary.refresh(now, at_once):
            return
        if _HANDS in self._due:
            self._due[_HANDS] = now
        if self._summary.unread and self._summary.unread != self._told_unread:
            extra = {"MESSAGE_ID": journal.MESSAGE_FIXES_UNREADABLE}
            LOG.warning("cannot read what was fixed: %s", self._summary.unread, extra=extra)
        self._told_unread = self._summary.unread

    def _see_to_fixes(self, now: float) -> None:
        """Have plans made, and one of them done, where it is time."""
        if self._planner.policy.mode == "off":
            return
        self._pause_file.refresh(now)
        if self._planning is None and (wanted := self._planner.to_plan(self.snapshot, now)):
            self._ask_for_units(wanted, now)
        paused = self._pause_file.told(now) is not None
        for plan in self._planner.observed(self.snapshot, time.time(), now, paused):
            LOG.warning(
                "%s",
                report.would_run(plan),
                extra={
                    "MESSAGE_ID": journal.MESSAGE_FIX_WOULD_RUN,
                    "BACKUPREADY_REMEDY": plan.remedy,
                    "BACKUPREADY_PROBLEM": plan.problem,
                },
            )
        if self._planner.policy.mode == "on":
            self._look_for_door(now)
            request = self._planner.to_ask(self.snapshot, now, self._fixing is not None, paused)
            if request is not None:
                self._ask_for_fix(request, now)

    def _ask_for_units(self, wanted: tuple[wire.Which, ...], now: float) -> None:
        """Whoever looks as root cannot ask the service manager, which plans go by: it is asked first."""
        if self._hanging() >= _MOST_HANGING_AGAIN:
            self._planner.not_planned(now)
            return
        self._count("looks")
        request = wire.LookRequest((), settings=self._config.changed(), show_units=True)
        self._begin_planning(Access.BUS, request, wanted, now)

    def _begin_planning(
        self, access: Access, request: wire.LookRequest, wanted: tuple[wire.Which, ...], now: float
    ) -> None:
        try:
            exchange = self._open_door(access, wire.encode_request(request))
        except OSError as error:
            self._no_plans(f"cannot start a look: {error.strerror or error}", now)
            return
        self._planning = _Planning(exchange, wanted, bool(request.plans))
        self._selector.register(exchange, exchange.events, exchange)

    def _take_plans(self, planning: _Planning, now: float) -> None:
        exchange, self._planning = planning.exchange, None
        self._forget(exchange)
        if exchange.child is not None and exchange.child.poll() is None:
            self._lingering.append(exchange)
        if planning.of_plans:
            try:
                if exchange.failure:
                    raise wire.Malformed(exchange.failure)
                plans = wire.decode_plans(exchange.answer, planning.wanted)
                self._planner.planned(plans, time.time(), time.monotonic())
            except wire.Malformed as error:
                self._no_plans(f"the look's answer cannot be used: {error}", now)
            return
        units: wire.Units | None = None
        with contextlib.suppress(wire.Malformed):  # the plans then say that it could not be asked
            units = wire.decode_units(exchange.answer) if not exchange.failure else None
        self._count("looks")
        request = wire.LookRequest((), settings=self._config.changed(), plans=planning.wanted, units=units)
        self._begin_planning(Access.ROOT, request, planning.wanted, now)

    def _no_plans(self, why: str, now: float) -> None:
        self._count("looks_failed")
        LOG.warning("cannot make plans: %s", why, extra={"MESSAGE_ID": journal.MESSAGE_LOOK_FAILED})
        self._planner.not_planned(now)

    def _look_for_door(self, now: float) -> None:
        """Whether there is a socket; to connect would start somebody."""
        if now - self._looked_for_door < _LOOK_FOR_DOOR:
            return
        self._looked_for_door = now
        try:
            is_there = stat.S_ISSOCK(os.stat(self._config["fix.socket"]).st_mode)  # noqa: PTH116
            self._see_door(is_there, "it is no socket")
        except OSError as error:
            self._see_door(False, error.strerror or str(error))

    def _see_door(self, is_open: bool, why: str = "") -> None:
        if not is_open and self._door_open is not False:
            extra = {"MESSAGE_ID": journal.MESSAGE_FIX_DOOR_SHUT}
            LOG.warning("cannot ask for a fix at %s: %s", self._config["fix.socket"], why, extra=extra)
        self._door_open = is_open

    def _ask_for_fix(self, request: wire.FixRequest, now: float) -> None:
        seconds = self._planner.patience(request.remedy)
        try:
            exchange = wire.connect(self._config["fix.socket"], wire.encode_fix_request(request), seconds, allowed=(0,))
        except OSError as error:
            self._count("fix_requests_failed")
            self._planner.shut(now)
            self._see_door(False, error.strerror or str(error))
            self._looked_for_door = now
            return
        self._see_door(True)
        self._fixing = exchange, request
        self._selector.register(exchange, exchange.events, exchange)

    def _take_fix(self, exchange: wire.Exchange, request: wire.FixRequest, now: float) -> None:
        """What came of it is told, and everything that it was for is looked at."""
        self._fixing = None
        self._forget(exchange)
        extra = {
            "MESSAGE_ID": journal.MESSAGE_FIX_ANSWERED,
            "BACKUPREADY_REMEDY": request.remedy,
            "BACKUPREADY_PROBLEM": request.problem,
        }
        try:
            if exchange.failure:
                raise wire.Malformed(f"the hands' end {exchange.failure}")
            answer = wire.decode_fix_answer(exchange.answer)
        except wire.Malformed as error:
            self._count("fix_requests_failed")
            self._planner.failed(request, now)
            LOG.error("cannot tell what came of %s for %s: %s", request.remedy, request.problem, error, extra=extra)
        else:
            self._planner.answered(request, answer, time.time(), now)
            LOG.warning("%s", report.answered(request.remedy, request.problem, request.key, answer), extra=extra)
        self._read_summary(now, at_once=True)
        self._due.update(dict.fromkeys(self._planner.probes_for(request.remedy) & self._due.keys(), now))

    # ---- processes

    def _follow_processes(self) -> None:
        wanted = {watch.pid: watch for watch in self._judge.watches()}
        for pid in set(self._pidfds) - set(wanted):
            self._unfollow(pid)
        for pid, watch in wanted.items():
            if pid in self._pidfds:
                continue
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                self._look_after_death()  # it has ended since it was seen
                continue
            except (OSError, AttributeError):
                continue  # the kernel or the interpreter has no such thing: the next look in turn will see
            # Should the number have been given to another process since the look, its death costs a needless look.
            self._pidfds[pid] = (descriptor, watch.role)
            self._selector.register(descriptor, selectors.EVENT_READ, pid)

    def _unfollow(self, pid: int) -> None:
        descriptor, _ = self._pidfds.pop(pid)
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def _died(self, pid: int) -> None:
        role = self._pidfds[pid][1]
        self._unfollow(pid)
        self._count("process_deaths")
        LOG.info("the agent's %s (pid %d) has ended; looking at once", role, pid)
        self._look_after_death()

    def _look_after_death(self) -> None:
        now = time.monotonic()
        # In a crash loop the next death is near anyway.
        looping = any(b.active for b in self.snapshot.beliefs if b.problem.code == "AGENT_CRASH_LOOPING")
        self._again, self._burst = now, 0
        self._followed_until = now + (_FOLLOW_LOOP if looping else _FOLLOW_DEATH)

    # ---- publishing

    def _judged(self) -> Snapshot:
        """All that is believed now, of the windows too."""
        wall, now = time.time(), time.monotonic()
        believed = self._judge.snapshot(now, wall, self._machine, self._counters)
        outlook = self._calendar.outlook(wall, is_running(believed))
        mode = self._planner.policy.mode
        planning = Planning(
            mode,
            self._pause_file.told(now) if mode != "off" else None,
            self._door_open,
            self._fixing[1].remedy if self._fixing is not None else "",
            self._summary.unread,
            dict(self._planner.would_run),
            self._summary.counters if self._summary.unread else None,
        )
        whole = replace(believed, outlook=outlook, fixes=self._summary.told, planning=planning)
        return replace(whole, plans=self._planner.plans(whole, now))

    def _whole_outlook(self) -> Outlook:
        """The same, with all that windows are judged by."""
        return self._calendar.outlook(time.time(), is_running(self.snapshot), self._loads)

    def _read(self, look: Looked) -> None:
        """What the record of past backups says now; what is new in it is judged at once, and so is that it can be read
        again."""
        if look.state is not ProbeState.OK:
            self._calendar.unread(look.why)
            return
        was_unread = self._calendar.is_unread
        new = self._calendar.read(look.runs)
        if self._history is not None:
            for run in new:
                self._history.note_run(run)
        if new:
            self._past_until = 0.0
        if (new or was_unread) and _WINDOW in self._due:
            self._due[_WINDOW] = time.monotonic()

    def _recall(self, timeout: float = 0.0) -> None:
        """What earlier runs of this program kept, as soon as it has been read."""
        if self._recalling and self._history is not None and (kept := self._history.recall(timeout)) is not None:
            self._recalling = False
            self._calendar.recall(kept)
            for load in self._loads:
                kept.loads.add(load)
            self._loads = kept.loads
            self._past_until = 0.0
            self._history.release()

    def _note_load(self, sample: Sample) -> None:
        load = self._five_minutes.add(sample, time.time())
        if load is not None:
            self._loads.add(load)
            self._past_until = 0.0
            if self._history is not None:
                self._history.note_load(load)

    def _tell_past(self) -> None:
        """What the status page draws, when there is something new in it."""
        now, wall = time.monotonic(), time.time()
        if now >= self._past_until:
            self._past_until = now + LOAD_SECONDS
            runs, windows = self._calendar.recent(wall, DAY, SHOWN_RUNS)
            self.past = Past(self._loads.since(wall - DAY - LOAD_SECONDS), runs, windows)

    def _foretell(self, before: Snapshot) -> None:
        """Hold what was said against what happened, and begin to look as often as the phase asks for."""
        changed = self._calendar.hold(before, self.snapshot, is_running(self.snapshot))
        for prediction in changed:
            if self._history is not None:
                self._history.note_prediction(prediction)
            LOG.info("%s", report.prediction_line(prediction), extra={"MESSAGE_ID": journal.MESSAGE_PREDICTION})
        if changed:
            self.snapshot = self._judged()
        phase = self.snapshot.outlook.phase if self.snapshot.outlook is not None else None
        if before.outlook is not None and phase is not before.outlook.phase:
            now = time.monotonic()
            self._due.update({name: min(due, now + self._interval(name)) for name, due in self._due.items()})

    def _note_history(self) -> None:
        """What has changed since it was noted last."""
        if self._history is None:
            return
        now, told = time.time(), self.snapshot
        reasons = tuple(dict.fromkeys(reason.problem.code for reason in told.reasons))
        if self._noted_verdict != (told.verdict, reasons):
            self._noted_verdict = told.verdict, reasons
            self._history.note_verdict(Judged(now, told.verdict, reasons))
        current: dict[tuple[str, str], tuple[BeliefState, Effect]] = {
            (belief.problem.code, sighting.key): (belief.state, sighting.effect)
            for belief in told.beliefs
            if belief.state is not BeliefState.CLEAR
            for sighting in belief.sightings
        }
        for (code, key), (state, effect) in current.items():
            if self._noted.get((code, key)) != (state, effect):
                self._history.note_problem(Transition(now, code, key, state, effect))
        known = {belief.problem.code: belief for belief in told.beliefs}
        for code, key in self._noted.keys() - current.keys():
            if code in known:
                self._history.note_problem(Transition(now, code, key, BeliefState.CLEAR, known[code].problem.effect))
        self._noted = current

    def _publish(self) -> None:
        before = self.snapshot
        self._counters["log_records_dropped"] = float(journal.dropped_records())
        self._note_web_config()
        if self._state is not None:
            self._counters["state_writes_failed"] = float(self._state.failures)
        if self._history is not None:
            self._counters["history_records_dropped"] = float(self._history.dropped)
            self._counters["history_writes_failed"] = float(self._history.failures)
        self.snapshot = self._judged()
        self._tell_past()
        self._foretell(before)
        self._note_history()
        line = report.headline(self.snapshot)
        if line != self._told:
            self._told = line
            service.notify(f"STATUS={' '.join(line.split())}")
        if before.verdict is not self.snapshot.verdict:
            LOG.log(
                logging.INFO if self.snapshot.verdict.exit_code == 0 else logging.WARNING,
                "%s",
                line,
                extra={"MESSAGE_ID": journal.MESSAGE_VERDICT, "BACKUPREADY_VERDICT": self.snapshot.verdict.value},
            )
        for belief in self.snapshot.beliefs:
            told = belief.problem.code in self._active
            fields = {"BACKUPREADY_PROBLEM": belief.problem.code}
            if belief.active and not told:
                self._active.add(belief.problem.code)
                lines = [f"{belief.problem.code}: {belief.problem.title}"]
                lines += filter(None, (report.evidence_line(s.evidence) for s in belief.sightings))
                fields["MESSAGE_ID"] = journal.MESSAGE_PROBLEM_ACTIVE
                LOG.warning("%s", " · ".join(lines), extra=fields)
            elif told and belief.state is BeliefState.CLEAR:
                self._active.discard(belief.problem.code)
                fields["MESSAGE_ID"] = journal.MESSAGE_PROBLEM_CLEAR
                LOG.info("%s is over", belief.problem.code, extra=fields)
        self._keep()

    def _note_web_config(self) -> None:
        self._web_config_was_right = right = self.web.config_is_right
        if right is not None:
            self._counters["web_config_last_reload_successful"] = float(right)

    def _to_keep(self) -> Kept:
        memory = {name: dict(self._memory[name]) for name in _OUTLIVES if name in self._memory}
        clocks = self._calendar.clocks(self._boot)
        fixes = KeptFixes(self._summary.counters, dict(self._planner.would_run), self._planner.counted)
        kept = self._judge.keep(self.snapshot, time.time())
        return replace(kept, clocks=clocks, memory=memory, scores=self._calendar.scores, fixes=fixes)

    def _keep(self) -> None:
        """Hand over what outlives a restart: when it changes, and now and then."""
        if self._state is None:
            return
        now = time.monotonic()
        kept = self._to_keep()
        content = (
            (kept.verdict, kept.since, {c: (p.since, dict(p.keys)) for c, p in kept.problems.items()}),
            kept.clocks.since if kept.clocks is not None else None,
            kept.memory,
            kept.scores,
            kept.fixes,
        )
        if content != self._kept or now - self._kept_at >= KEPT_EVERY:
            self._kept, self._kept_at = content, now
            self._state.save(kept)

    def _count(self, name: str) -> None:
        self._counters[name] = self._counters.get(name, 0.0) + 1

    # ---- signals

    def _catch_signals(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._signals, self._waker = ours, theirs  # kept, so that it stays open
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._selector.register(ours, selectors.EVENT_READ, "signals")
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)

    def _on_stop(self, number: int, frame: object) -> None:
        self._stopping = True

    def _on_reload(self, number: int, frame: object) -> None:
        self.request_reload()

    def _reload(self) -> None:
        """Take a new configuration over, or keep the old one and say why. Addresses of the web server stay; what guards
        it is taken as it is."""
        self._reload_wanted = False
        service.notify(service.reloading())
        read_zones_anew()
        try:
            config = self._load()
        except ConfigError as error:
            self._counters["config_last_reload_successful"] = 0.0
            extra = {"MESSAGE_ID": journal.MESSAGE_CONFIG_REFUSED}
            LOG.error("the configuration is refused and the old one kept:\n%s", error, extra=extra)
        else:
            self._counters["config_last_reload_successful"] = 1.0
            for name in _AT_START:
                if config[name] != self._config[name]:
                    LOG.warning("%s is taken over at the next start only", name)
            for exchange in self._asked:
                self._forget(exchange)
                exchange.cancel("was given up for a reload")
            self._asked.clear()
            if self._planning is not None:  # a fix that is under way goes on
                self._forget(self._planning.exchange)
                self._planning.exchange.cancel("was given up for a reload")
                self._planning = None
            self._take(config)
            self.web.reload()
            LOG.info("the configuration is reloaded")
        self._publish()
        service.notify("READY=1")


def look_command() -> list[str]:
    """How the child door starts a look with the same program, wherever that lies and whatever the environment says."""
    tree = str(Path(__file__).parents[2])
    start = f"import sys; {tree!r} in sys.path or sys.path.insert(0, {tree!r}); from backupready.cli import main; "
    return [sys.executable, "-I", "-c", f"{start}sys.exit(main())", "look"]
