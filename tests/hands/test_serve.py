"""The door of the hands: one request by a socket, whatever is sent, and what is left in the middle is ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from backupready import activation, fixes, journal, vmsnapshot, wire
from backupready.config import ConfigError, Mistake
from backupready.hands import ledger, serve, vain
from backupready.hands import world as worlds
from backupready.hands.files import StepFailed
from backupready.hands.ledger import Ledger, LedgerError
from backupready.hands.serve import Stop, Stopped
from backupready.hands.world import Surroundings
from backupready.model import Attempt, Phase, Ran, Refusal, RestartUnit, Result, SetConfigKey, WouldRun
from fake import remedy
from hands.test_world import MEND, STOPPED, UNIT, Scene, asked
from hands.test_world import scene as scene

VERBOSE = remedy("enable-verbose-logging", (SetConfigKey("Logs.Verbose", "y", 7200.0),), problems=())
KNOWN = {one.name: one for one in (MEND, VERBOSE)}
CONFIG = "Logs.Verbose=n\nExtensions.Enabled=y\n"


@pytest.fixture(autouse=True)
def as_set(scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Both remedies may be done, and the log is heard."""
    scene.remedies = tuple(KNOWN.values())
    scene.settings["fix__allow"] = " ".join(KNOWN)
    (scene.place / "root/etc").mkdir(parents=True)
    (scene.place / "root/etc/waagent.conf").write_text(CONFIG)
    (scene.place / "root/var/lib").mkdir(parents=True)
    monkeypatch.setattr(journal.LOG, "propagate", True)
    caplog.set_level(logging.INFO, logger=journal.LOG.name)


def request(**changes: Any) -> wire.FixRequest:
    now = time.time()
    told = {"remedy": "restart-agent", "problem": STOPPED, "key": "", "seen": now - 1.0, "phase": Phase.LEAD}
    return wire.FixRequest(**{**told, "start": now + 7200.0, "end": now + 9000.0, **changes})


def sent(data: bytes, scene: Scene) -> bytes:
    """The answer to bytes by the door."""
    ours, theirs = socket.socketpair()
    with ours:
        sender = threading.Thread(target=_send, args=(ours, data))
        sender.start()
        scene_around = scene.around
        assert serve.answer(theirs, KNOWN, lambda request, pid: scene_around, scene_around.directory) == 0
        sender.join()
        answer = b""
        with contextlib.suppress(ConnectionResetError):  # it has not read all; what it said counts
            while piece := ours.recv(65536):
                answer += piece
        return answer


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it does not want more of it


def answered(scene: Scene, **changes: Any) -> wire.FixAnswer:
    return wire.decode_fix_answer(sent(wire.encode_fix_request(request(**changes)), scene))


def lines(scene: Scene) -> tuple[ledger.Line, ...]:
    return ledger.peek(scene.around.directory)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.__dict__["MESSAGE_ID"] for record in caplog.records if "MESSAGE_ID" in record.__dict__]


# ---------------------------------------------------------------------------------------------------------- requests


def test_a_request_is_done_and_answered(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The unit is restarted, the ledger, the summary and the journal say so, and nothing is left to do."""
    attempt = answered(scene)
    assert isinstance(attempt, Attempt)
    assert (attempt.id, attempt.result, attempt.by, attempt.problem) == (1, Result.HEALED, "mind", STOPPED)
    assert attempt.reasons == ("evidence: none was kept",)
    assert scene.starts == 1
    summary = fixes.decode(scene.around.summary.read_bytes())
    assert summary.attempts[0].result is Result.HEALED
    assert not (scene.around.directory / ledger.UNFINISHED).exists()
    assert messages(caplog) == [journal.MESSAGE_FIX_BEGAN, journal.MESSAGE_FIX_ENDED]


def test_what_does_not_help_is_told(scene: Scene) -> None:
    """After a fresh look."""
    scene.heals = False
    attempt = answered(scene)
    assert isinstance(attempt, Attempt)
    assert attempt.result is Result.NOT_HEALED


def test_what_is_only_observed_is_told(scene: Scene) -> None:
    """The same steps, and nothing is done."""
    scene.settings["fix__mode"] = "observe"
    assert answered(scene) == WouldRun((RestartUnit(UNIT),))
    assert scene.starts == 0
    assert fixes.decode(scene.around.summary.read_bytes()).would_run == {"restart-agent": 1}


def test_a_refusal_is_counted_and_in_the_journal(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """With its name."""
    scene.settings["fix__mode"] = "off"
    refusal = answered(scene)
    assert isinstance(refusal, Refusal)
    assert refusal.name == "mode_off"
    assert fixes.decode(scene.around.summary.read_bytes()).refused == {("restart-agent", "mode_off"): 1}
    [record] = caplog.records
    assert record.__dict__["MESSAGE_ID"] == journal.MESSAGE_FIX_REFUSED
    assert record.__dict__["BACKUPREADY_REFUSAL"] == "mode_off"
    assert record.getMessage().startswith("restart-agent for AGENT_STOPPED is refused (mode_off): fixes are")


BAD = {
    "nothing": b"",
    "noise": b"\x00\xff" * 100,
    "a megabyte": b"x" * (1 << 20),
    "a megabyte of a request": json.dumps(
        {"schema": 1, "remedy": "restart-agent", "problem": "x" * (1 << 20)}
    ).encode(),
    "an unknown remedy": wire.encode_fix_request(request(remedy="format-disk")),
    "a path": wire.encode_fix_request(request(remedy="/usr/bin/reboot")),
    "no moment": wire.encode_fix_request(request()).replace(b'"seen":', b'"saw":'),
    "a command": wire.encode_fix_request(request())[:-1] + b',"command":"reboot"}',
    "settings": wire.encode_fix_request(request())[:-1] + b',"settings":{"fix.mode":"on"}}',
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_request_changes_nothing(what: str, scene: Scene) -> None:
    """It is answered with an error, and not even the ledger is opened."""
    with pytest.raises(wire.Malformed, match="cannot fix"):
        wire.decode_fix_answer(sent(BAD[what], scene))
    assert not scene.around.directory.exists()
    assert scene.looks == 0
    assert scene.commands == []


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_request_is_counted_and_in_the_journal(
    what: str, scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """One entry each, under no name that whoever asks has chosen."""
    scene.around.directory.mkdir(0o700)
    sent(BAD[what], scene)
    assert turned_away(scene, caplog) == {("unknown", "malformed"): 1}


def turned_away(scene: Scene, caplog: pytest.LogCaptureFixture) -> Mapping[tuple[str, str], int]:
    """What is counted, after the next start, as remedy and refusal; the journal says the same of the newest."""
    record = caplog.records[-1]
    assert [r.__dict__.get("MESSAGE_ID") for r in caplog.records] == [journal.MESSAGE_FIX_REFUSED] * len(caplog.records)
    assert serve.look_after(scene.around, Stop()) == 0
    refused = fixes.decode(scene.around.summary.read_bytes()).refused
    assert (record.__dict__["BACKUPREADY_REMEDY"], record.__dict__["BACKUPREADY_REFUSAL"]) in refused
    return refused


def test_another_user_is_not_heard(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever he sends; that he was there is known."""
    monkeypatch.setattr(wire, "peer", lambda connection: (4711, os.getuid() + 4711))
    scene.around.directory.mkdir(0o700)
    with pytest.raises(wire.Malformed, match="may not ask for a fix"):
        answered(scene)
    assert lines(scene) == ()
    assert turned_away(scene, caplog) == {("unknown", "not_welcome"): 1}


def test_half_a_request_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time is bounded."""
    monkeypatch.setattr(serve, "_REQUEST_TIMEOUT", 0.1)
    ours, theirs = socket.socketpair()
    with ours:
        ours.sendall(b'{"schema":')
        assert serve.answer(theirs, KNOWN, lambda request, pid: scene.around) == 0
        assert b"not complete after 0.1 s" in ours.recv(1000)


def test_a_flood_is_refused(scene: Scene) -> None:
    """One fix, and then the cooldown; each answer costs no look."""
    assert isinstance(answered(scene), Attempt)
    scene.stopped = True
    looks = scene.looks
    for _ in range(20):
        refusal = answered(scene)
        assert isinstance(refusal, Refusal)
        assert refusal.name == "cooldown"
    assert (scene.starts, scene.looks) == (1, looks)


def test_a_lie_changes_nothing(scene: Scene) -> None:
    """What is not there is not fixed, whatever the daemon says of the window."""
    scene.stopped = False
    refusal = answered(scene)
    assert isinstance(refusal, Refusal)
    assert refusal.name == "not_confirmed"
    assert scene.starts == 0


def test_a_lie_is_looked_into_once_a_minute(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says until when. Another request has a look of its own, a few times, and a person always has."""
    scene.stopped = False
    now = worlds.clock()
    monkeypatch.setattr(worlds, "clock", lambda: now)
    names = [answered(scene) for _ in range(3)]
    assert [isinstance(one, Refusal) and one.name for one in names] == ["not_confirmed", "cooldown", "cooldown"]
    assert isinstance(names[1], Refusal)
    assert "(not_confirmed)" in names[1].why
    assert names[1].until == pytest.approx(now.wall + 60.0)
    assert scene.looks == 1
    for key in range(20):
        answered(scene, key=str(key))
    assert scene.looks == vain.MOST
    refusal = serve.fix(MEND, asked(by="ada"), scene.around, Stop())
    assert isinstance(refusal, Refusal)
    assert (refusal.name, scene.looks) == ("not_confirmed", vain.MOST + 1)
    assert fixes.decode(scene.around.summary.read_bytes()).refused == {
        ("restart-agent", "not_confirmed"): vain.MOST + 1,
        ("restart-agent", "cooldown"): 2 + 20 - (vain.MOST - 1),
    }
    now = replace(now, wall=now.wall - 1e6, up=now.up + 61.0)
    scene.stopped = True
    attempt = answered(scene, seen=now.wall - 1.0)
    assert isinstance(attempt, Attempt)
    assert attempt.result is Result.HEALED


def test_what_is_refused_without_a_look_is_not_remembered(scene: Scene) -> None:
    """As soon as it lifts it is done."""
    scene.phase = Phase.HOLD
    for _ in range(vain.MOST):
        refusal = answered(scene)
        assert isinstance(refusal, Refusal)
        assert refusal.name == "phase"
    scene.phase = Phase.LEAD
    assert isinstance(answered(scene), Attempt)


def test_who_has_gone_meanwhile_disturbs_nothing(scene: Scene) -> None:
    """The fix is done; the summary tells of it."""
    ours, theirs = socket.socketpair()
    ours.sendall(wire.encode_fix_request(request()))
    ours.close()
    assert serve.answer(theirs, KNOWN, lambda request, pid: scene.around) == 0
    assert fixes.decode(scene.around.summary.read_bytes()).attempts[0].result is Result.HEALED


def test_a_wrong_configuration_is_an_error(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """With its exit status, and nothing is done; it is counted for the remedy that was asked for."""
    scene.around.directory.mkdir(0o700)

    def wrong(request: wire.FixRequest, pid: int) -> Surroundings:
        raise ConfigError([Mistake("x.conf", 3, "no")])

    ours, theirs = socket.socketpair()
    with ours:
        _send(ours, wire.encode_fix_request(request()))
        assert serve.answer(theirs, KNOWN, wrong, scene.around.directory) == 78
        with pytest.raises(wire.Malformed, match="x.conf:3: no"):
            wire.decode_fix_answer(ours.recv(65536))
    assert turned_away(scene, caplog) == {("restart-agent", "config"): 1}


def test_a_defect_before_it_begins_is_an_error(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The mind has an answer, the journal the place, and it is counted."""

    def broken(request: wire.FixRequest, pid: int) -> Surroundings:
        raise ZeroDivisionError("while the machine was looked for")

    scene.around.directory.mkdir(0o700)
    ours, theirs = socket.socketpair()
    with ours:
        _send(ours, wire.encode_fix_request(request()))
        assert serve.answer(theirs, KNOWN, broken, scene.around.directory) == 0
        with pytest.raises(wire.Malformed, match="a defect: ZeroDivisionError.*while the machine was looked for"):
            wire.decode_fix_answer(ours.recv(65536))
    assert "in broken" in caplog.text
    assert turned_away(scene, caplog) == {("restart-agent", "defect"): 1}


def test_a_defect_in_the_look_refuses(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was begun; the next is served."""
    around = scene.around

    def defect() -> Any:
        raise ZeroDivisionError("while it looked")

    refusal = serve.fix(MEND, asked(), replace(around, look=defect), Stop())
    assert isinstance(refusal, Refusal)
    assert (refusal.name, "while it looked" in refusal.why) == ("defect", True)
    assert "in defect" in caplog.text
    assert messages(caplog) == [journal.MESSAGE_FIX_REFUSED]
    assert lines(scene) == ()
    assert isinstance(answered(scene), Attempt)
    assert fixes.decode(around.summary.read_bytes()).refused == {("restart-agent", "defect"): 1}


def test_a_defect_in_the_middle_is_told_of_the_attempt(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """It is no refusal: the unit was restarted. The next start finishes it."""

    def defect_afterwards(seconds: float) -> None:
        raise ZeroDivisionError("while it settled")

    slow = replace(MEND, settle=timedelta(seconds=1))
    attempt = serve.fix(slow, asked(), replace(scene.around, sleep=defect_afterwards), Stop())
    assert isinstance(attempt, Attempt)
    assert (attempt.result, scene.starts) == (Result.UNDER_WAY, 1)
    assert "while it settled" in attempt.reasons[-2]
    assert messages(caplog) == [journal.MESSAGE_FIX_BEGAN, journal.MESSAGE_FIX_INTERRUPTED]
    assert "in defect_afterwards" in caplog.text
    assert serve.look_after(scene.around, Stop()) == 0
    assert [one.result for one in ledger.attempts(lines(scene))] == [Result.HEALED]
    assert fixes.decode(scene.around.summary.read_bytes()).refused == {}


def test_one_at_a_time(scene: Scene) -> None:
    """While another has the ledger it is refused, and the timer's start says nothing."""
    with Ledger(scene.around.directory, scene.around.summary, worlds.clock()):
        refusal = answered(scene)
        assert isinstance(refusal, Refusal)
        assert refusal.name == "locked"
        assert serve.look_after(scene.around, Stop()) == 0
    assert scene.starts == 0
    assert serve.look_after(scene.around, Stop()) == 0
    assert fixes.decode(scene.around.summary.read_bytes()).refused == {(request().remedy, "locked"): 1}


def test_a_person_waits_until_another_fix_has_ended(scene: Scene) -> None:
    """And is told so, once."""
    book = Ledger(scene.around.directory, scene.around.summary, worlds.clock())
    naps: list[float] = []
    told: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            book.close()

    around = replace(scene.around, sleep=nap)
    attempt = serve.fix(MEND, asked(by="ada"), around, Stop(), lambda: told.append(sum(naps)))
    assert isinstance(attempt, Attempt)
    assert attempt.result is Result.HEALED
    assert told == [0.0]


def test_a_person_does_not_wait_for_ever(scene: Scene) -> None:
    """After a minute it is refused as for anybody; told to stop he does not wait any longer."""
    naps: list[float] = []
    stop = Stop()
    with Ledger(scene.around.directory, scene.around.summary, worlds.clock()):
        refusal = serve.fix(MEND, asked(by="ada"), replace(scene.around, sleep=naps.append), stop)
        assert isinstance(refusal, Refusal)
        assert (refusal.name, refusal.lift, sum(naps)) == ("locked", "wait until that has ended", 60.0)
        stop.told = True
        refusal = serve.fix(MEND, asked(by="ada"), replace(scene.around, sleep=naps.append), stop)
        assert isinstance(refusal, Refusal)
        assert (refusal.name, refusal.lift, sum(naps)) == ("locked", "ask once more", 60.0)
    assert serve.look_after(scene.around, Stop()) == 0
    assert fixes.decode(scene.around.summary.read_bytes()).refused == {(MEND.name, "locked"): 2}


def test_without_a_ledger_nothing_is_done(scene: Scene) -> None:
    """It is damaged: limits could not be counted."""
    answered(scene)
    book = scene.around.directory / "ledger"
    book.write_bytes(b"x" + book.read_bytes()[1:])
    refusal = answered(scene)
    assert isinstance(refusal, Refusal)
    assert refusal.name == "ledger"
    assert serve.look_after(scene.around, Stop()) == 1


# --------------------------------------------------------------------------------------------------------- each start


def left_in_the_middle(scene: Scene) -> None:
    """An attempt whose step was done, and of which nothing more was noted."""
    with Ledger(scene.around.directory, scene.around.summary, worlds.clock()) as book:
        world = worlds.world(scene.around, book)
        step = SetConfigKey("Logs.Verbose", "y")
        about = {"remedy": "restart-agent", "problem": STOPPED, "key": "", "by": "mind", "settle": 0.0}
        number = book.begin(worlds.clock(), (step, RestartUnit(UNIT)), **about, before=[], unknown=[])
        record = world.doer.prepare(step)
        book.add("prepared", worlds.clock(), attempt=number, index=0, record=dict(record))
        world.doer.do(step, record)


def config(scene: Scene) -> str:
    return (scene.place / "root/etc/waagent.conf").read_text()


def test_what_was_left_in_the_middle_is_ended_first(scene: Scene) -> None:
    """By whatever start comes next: here a request, which is answered then."""
    left_in_the_middle(scene)
    assert config(scene) != CONFIG
    assert (scene.around.directory / ledger.UNFINISHED).exists()
    answered(scene)
    assert config(scene) == CONFIG
    assert [attempt.result for attempt in ledger.attempts(lines(scene))][:1] == [Result.INTERRUPTED]


def test_the_timers_start_ends_it_too(scene: Scene) -> None:
    """Without a request; then nothing is left to do."""
    left_in_the_middle(scene)
    assert serve.look_after(scene.around, Stop()) == 0
    assert config(scene) == CONFIG
    assert not (scene.around.directory / ledger.UNFINISHED).exists()


def test_what_was_left_in_the_middle_is_no_answer(scene: Scene) -> None:
    """Whatever happens after it was ended; nor is the look for it one for the request."""
    scene.stopped = False
    with Ledger(scene.around.directory, scene.around.summary, worlds.clock()) as book:
        about = {"remedy": "restart-agent", "problem": STOPPED, "key": "", "by": "mind", "settle": 0.0}
        book.begin(worlds.clock(), (), **about, before=[], codes=[], unknown=[])
    scene.phase = Phase.HOLD
    refusal = answered(scene)
    assert isinstance(refusal, Refusal)
    assert (refusal.name, scene.looks) == ("phase", 1)
    assert not (scene.around.directory / "vain").exists()
    scene.phase = Phase.LEAD
    left_in_the_middle(scene)

    def defect() -> Any:
        raise ZeroDivisionError

    by_hand = asked(remedy=VERBOSE.name, problem="", by="ada", seen=None)
    assert isinstance(serve.fix(VERBOSE, by_hand, replace(scene.around, look=defect), Stop()), Refusal)
    assert [one.result for one in ledger.attempts(lines(scene))] == [Result.HEALED, Result.INTERRUPTED]


def verbose(scene: Scene) -> Attempt:
    attempt = serve.fix(VERBOSE, asked(remedy=VERBOSE.name, problem="", by="ada", seen=None), scene.around, Stop())
    assert isinstance(attempt, Attempt)
    assert attempt.result is Result.DONE
    assert config(scene) == CONFIG.replace("Verbose=n", "Verbose=y")
    return attempt


def test_a_temporary_change_ends_but_not_in_an_open_window(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The next start after the window ends it."""
    scene.settings["fix__verbose_for"] = "1ms"
    verbose(scene)
    time.sleep(0.01)
    scene.phase = Phase.OPEN
    assert serve.look_after(scene.around, Stop()) == 0
    assert config(scene) != CONFIG
    assert (scene.around.directory / ledger.UNFINISHED).exists()
    scene.phase = Phase.HOLD
    assert serve.look_after(scene.around, Stop()) == 0
    assert config(scene) == CONFIG
    assert messages(caplog)[-1] == journal.MESSAGE_FIX_UNDONE


def test_a_window_that_is_told_to_be_open_for_ever_holds_no_change(scene: Scene) -> None:
    """The daemon may say so, whatever has become of it; no window is open for a day and a half."""
    hour = 3600.0
    for hours, over in ((35.0, False), (37.0, True)):
        verbose(scene)
        scene.phase = Phase.OPEN
        ago = (2.0 + hours) * hour  # it lasts for two hours
        aged = [
            replace(
                line,
                moment=replace(line.moment, wall=line.moment.wall - ago),
                fields={**line.fields, **{name: line[name] - ago for name in ("until",) if name in line.fields}},
            )
            for line in lines(scene)
        ]
        (scene.around.directory / "ledger").write_bytes(b"".join(map(ledger.encode_line, aged)))
        assert serve.look_after(scene.around, Stop()) == 0
        assert (config(scene) == CONFIG) is over
        scene.phase = Phase.HOLD
        assert serve.look_after(scene.around, Stop()) == 0
        assert config(scene) == CONFIG
        shutil.rmtree(scene.around.directory)


def test_all_temporary_changes_can_be_ended(scene: Scene) -> None:
    """Before their time, as before the package is removed; once more there is nothing to do."""
    verbose(scene)
    [attempt] = serve.undo_temporary(scene.around, Stop())
    assert attempt.result is Result.UNDONE
    assert config(scene) == CONFIG
    assert serve.undo_temporary(scene.around, Stop()) == ()


def test_a_temporary_change_that_cannot_be_ended_is_told(scene: Scene) -> None:
    """While a snapshot runs nothing is touched."""
    verbose(scene)
    scene.machine.files[vmsnapshot.FREEZE_LOCK] = b""
    scene.machine.locks[vmsnapshot.FREEZE_LOCK] = 77
    with pytest.raises(StepFailed, match="Logs.Verbose=y"):
        serve.undo_temporary(scene.around, Stop())


def test_an_attempt_is_undone_by_its_number(scene: Scene) -> None:
    """And by whom is told."""
    number = verbose(scene).id
    attempt = serve.undo(number, "ada", scene.around, Stop())
    assert (attempt.result, attempt.reasons) == (Result.UNDONE, ("ada asked for it",))
    assert config(scene) == CONFIG
    with pytest.raises(LedgerError, match="no attempt 7"):
        serve.undo(7, "ada", scene.around, Stop())


# ----------------------------------------------------------------------------------------------------- told to stop


def test_told_to_stop_the_step_ends_and_the_next_start_does_the_rest(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    """The answer says so, and the ledger has it under way; then all is as before, since not all of it was done."""
    stop = Stop()
    run = scene.run

    def restarted(command: Sequence[str], timeout: float) -> Ran:
        stop.told = stop.told or "restart" in command
        return run(command, timeout)

    mend = remedy("restart-agent", (RestartUnit(UNIT), SetConfigKey("Logs.Verbose", "y")), problems=(STOPPED,))
    attempt = serve.fix(mend, asked(), replace(scene.around, run=restarted), stop)
    assert isinstance(attempt, Attempt)
    assert (attempt.result, scene.starts) == (Result.UNDER_WAY, 1)
    assert "told to stop" in attempt.reasons[-1]
    assert messages(caplog) == [journal.MESSAGE_FIX_BEGAN, journal.MESSAGE_FIX_INTERRUPTED]
    assert [line.event for line in lines(scene)] == ["started", "prepared", "done"]
    assert config(scene) == CONFIG
    assert serve.look_after(scene.around, Stop()) == 0
    assert [attempt.result for attempt in ledger.attempts(lines(scene))] == [Result.INTERRUPTED]


def test_an_attempt_that_a_snapshot_holds_up_has_not_begun_anew(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """The journal says that it goes on later, and then how it ended."""

    def meanwhile() -> Any:
        if scene.starts:
            scene.machine.files[vmsnapshot.FREEZE_LOCK] = b""
            scene.machine.locks[vmsnapshot.FREEZE_LOCK] = 77
        return scene.look()

    scene.heals = False
    attempt = serve.fix(MEND, asked(), replace(scene.around, look=meanwhile), Stop())
    assert isinstance(attempt, Attempt)
    assert attempt.result is Result.UNDER_WAY
    assert messages(caplog) == [journal.MESSAGE_FIX_BEGAN, journal.MESSAGE_FIX_INTERRUPTED]
    assert caplog.records[-1].levelno == logging.WARNING
    del scene.machine.files[vmsnapshot.FREEZE_LOCK]
    assert serve.look_after(scene.around, Stop()) == 0
    assert messages(caplog)[2:] == [journal.MESSAGE_FIX_ENDED]


def test_told_to_stop_before_it_began_nothing_is_begun(scene: Scene) -> None:
    """The look may take a while."""
    stop = Stop()
    look = scene.look

    def told_meanwhile() -> Any:
        stop.told = True
        return look()

    refusal = serve.fix(MEND, asked(), replace(scene.around, look=told_meanwhile), stop)
    assert isinstance(refusal, Refusal)
    assert refusal.name == "locked"
    assert lines(scene) == ()
    assert scene.starts == 0
    assert fixes.decode(scene.around.summary.read_bytes()).refused == {(MEND.name, "locked"): 1}


def test_told_to_stop_while_evidence_is_kept_nothing_is_begun(scene: Scene) -> None:
    """Nor after it."""
    stop = Stop()

    def told_meanwhile(asked: Any) -> str:
        stop.told = True
        return "kept"

    refusal = serve.fix(MEND, asked(), replace(scene.around, collect=told_meanwhile), stop)
    assert isinstance(refusal, Refusal)
    assert (refusal.name, lines(scene), scene.starts) == ("locked", (), 0)


def test_sleep_ends_when_told_to_stop() -> None:
    """Within a nap."""
    stop, naps = Stop(), []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        stop.told = len(naps) == 3

    with pytest.raises(Stopped):
        stop.sleep(100.0, nap)
    assert len(naps) == 3
    stop.told, naps[:] = False, []
    stop.sleep(0.7, nap)
    assert sum(naps) == pytest.approx(0.7)


def test_signals_are_words_to_stop_and_only_meanwhile() -> None:
    """Handlers are put back."""
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.told
    assert signal.getsignal(signal.SIGTERM) is before


# -------------------------------------------------------------------------------------------------- the service manager


def test_one_connection_is_handed_in_or_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Several of them, or what is none, are a mistake of the unit's."""
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    assert serve.handed_in() is None
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "x").open("w") as file:
        for handed in ([ours.fileno(), theirs.fileno()], [file.fileno()]):
            monkeypatch.setattr(activation, "handed_over", lambda handed=handed: handed)
            with pytest.raises(ValueError, match="Accept=yes"):
                serve.handed_in()
        number = os.dup(ours.fileno())
        os.set_inheritable(number, True)
        monkeypatch.setattr(activation, "handed_over", lambda: [number])
        connection = serve.handed_in()
        assert connection is not None
        with connection:
            assert not connection.get_inheritable()
            theirs.sendall(b"x")
            assert connection.recv(1) == b"x"


@pytest.mark.integration
@pytest.mark.parametrize("mode", ["off", "nonsense"])
def test_the_command_answers_by_the_connection_that_is_handed_in(mode: str, tmp_path: Path) -> None:
    """As the service manager starts it, with the configuration that it reads itself."""
    path = tmp_path / "x.conf"
    path.write_text(f"[fix]\nmode = {mode}\n")
    ours, theirs = socket.socketpair()
    script = (
        f"import os, sys\nos.dup2({theirs.fileno()}, 3)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
        "from pathlib import Path\n"
        "from backupready import cli, cli_fix\n"
        "from dataclasses import replace\n"
        "made = cli_fix.surroundings\n"
        f"place = Path({str(tmp_path)!r})\n"
        "cli_fix.surroundings = lambda *a: replace(made(*a), directory=place / 'hands', summary=place / 'fixes.json')\n"
        f"sys.exit(cli.main(['--config', {str(path)!r}, 'hands']))\n"
    )
    with ours:
        child = subprocess.Popen([sys.executable, "-c", script], pass_fds=[theirs.fileno()])
        theirs.close()
        ours.sendall(wire.encode_fix_request(request()))
        ours.shutdown(socket.SHUT_WR)
        answer = wire.receive(ours, 1 << 20, 60.0)
        assert child.wait(60.0) == (0 if mode == "off" else 78)
    if mode == "off":
        refusal = wire.decode_fix_answer(answer)
        assert isinstance(refusal, Refusal)
        assert refusal.name == "mode_off"
    else:
        with pytest.raises(wire.Malformed, match=r"the configuration is wrong: .*x\.conf:2"):
            wire.decode_fix_answer(answer)
