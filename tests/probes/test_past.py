"""The past: what is read besides problems, and what ends them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backupready import vmsnapshot, waagent
from backupready.model import CannotTell, Effect, Finding, Happened, Observation, Process, Reading
from backupready.model import Run as PastRun
from backupready.probes import past
from backupready.vmsnapshot import CODES, Kind
from fake import NOW, FakeMachine, configuration, healthy
from history import Run, history

HANDLER = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"
DAY = 86400.0
DAEMON = Process(300, 1, ("/usr/bin/python3", "main/handle.py", "-daemon"), "S", NOW - 60)


def machine(*runs: Run) -> FakeMachine:
    """A healthy machine with this history instead of its own."""
    made = healthy()
    del made.files[f"{HANDLER}/status/0.status"]
    made.files |= {f"/{path}": text for path, text in history(runs).items()}
    return made


def look(made: FakeMachine, **texts: str) -> list[Observation]:
    return list(past.look(made, configuration([past.PROBE], **texts).section("past")))


def readings(made: FakeMachine) -> dict[str, Any]:
    found = [seen for seen in look(made) if isinstance(seen, Reading)]
    return {seen.metric[len("backupready_backup_") :]: dict(seen.labels) or seen.value for seen in found}


def test_the_last_runs_are_read() -> None:
    """Newest success and failure, and of the newest run its code, its consistency and how long it took."""
    made = machine(Run(NOW - 3 * DAY, 76), Run(NOW - 2 * DAY, 121), Run(NOW - DAY, 1, seconds=42, path="guest"))
    assert readings(made) == {
        "running": 0,
        "last_success_timestamp_seconds": NOW - DAY,
        "last_failure_timestamp_seconds": NOW - 2 * DAY,
        "last_result_code": 1,
        "last_result_info": {"name": "success", "consistency": "file_system", "path": "guest"},
        "duration_seconds": 42,
    }


def record(made: FakeMachine) -> list[PastRun]:
    return [seen for seen in look(made) if isinstance(seen, PastRun)]


def test_the_record_is_told_as_data() -> None:
    """Newest first: when each began and ended, what came of it, and who took the snapshot. One that has not ended is
    no run, and neither is a request that had been served already."""
    made = machine(
        Run(NOW - 6 * DAY, 121),
        Run(NOW - 5 * DAY, 1, seconds=42, path="guest"),
        Run(NOW - 4 * DAY, 0),
        Run(NOW - 3 * DAY, 1, consistency=3),
        Run(NOW - 2 * DAY, 3),
        Run(NOW - DAY, 557),
        Run(NOW - 60, 4),
    )
    assert [(run.ended, run.code, run.happened, run.path) for run in record(made)] == [
        (NOW - DAY, 557, Happened.FAILED_ELSEWHERE, "host"),
        (NOW - 3 * DAY, 1, Happened.CRASH_CONSISTENT, "host"),
        (NOW - 4 * DAY, 0, Happened.SUCCEEDED, "host"),
        (NOW - 5 * DAY, 1, Happened.SUCCEEDED, "guest"),
        (NOW - 6 * DAY, 121, Happened.FAILED, "host"),
    ]
    assert record(made)[3].began == NOW - 5 * DAY - 42


def test_a_run_is_told_of_what_is_on_record() -> None:
    """Its request where the log does not say when it began, nothing where neither does or the clock was wrong, and
    what lies ahead of the clock as it stands there."""
    (run,) = record(machine(Run(NOW - DAY, 1, logged=False)))
    assert run.began == NOW - DAY - 60
    (run,) = record(machine(Run(NOW - DAY, 1, seconds=-300, logged=False)))
    assert (run.began, run.start) == (None, NOW - DAY)
    (run,) = record(machine(Run(NOW + DAY, 1)))
    assert run.ended == NOW + DAY


def test_the_record_has_a_bound() -> None:
    """The newest hundred."""
    found = record(machine(*(Run(NOW - n * 3600, 1) for n in range(130, 0, -1))))
    assert [run.ended for run in found] == [NOW - n * 3600 for n in range(1, 101)]


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_is_a_run_or_is_not(code: int) -> None:
    """As its kind says."""
    expected = {
        Kind.SUCCESS: [Happened.SUCCEEDED],
        Kind.FAILURE: [Happened.FAILED],
        Kind.ELSEWHERE: [Happened.FAILED_ELSEWHERE],
    }
    assert [run.happened for run in record(machine(Run(NOW - DAY, code)))] == expected.get(CODES[code].kind, [])


def test_without_a_record_nothing_is_read() -> None:
    """A machine that was never backed up is neither failing nor overdue."""
    assert look(machine()) == [Reading("backupready_backup_running", 0)]
    assert look(FakeMachine()) == [Reading("backupready_backup_running", 0)]


def test_a_run_under_way_is_a_state() -> None:
    """By its status while that is fresh, by its process whatever its status; the run before it stays the newest that
    ended."""
    made = machine(Run(NOW - DAY, 121), Run(NOW - 60, 4))
    assert readings(made)["running"] == 1
    assert readings(made)["last_result_code"] == 121
    made = machine(Run(NOW - DAY, 121), Run(NOW - 10 * 3600, 4))
    assert readings(made)["running"] == 0
    assert isinstance(made.table, tuple)
    made.table += (DAEMON,)
    assert readings(made)["running"] == 1
    made.table = CannotTell("no process table")
    assert "running" not in readings(made)


def found(made: FakeMachine, **texts: str) -> list[tuple[str, Effect | None]]:
    return [(seen.problem, seen.effect) for seen in look(made, **texts) if isinstance(seen, Finding)]


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_is_a_failure_or_is_not(code: int) -> None:
    """Those of success and of nothing to do are none, those of the platform's side are a notice."""
    expected = {
        Kind.FAILURE: [("LAST_BACKUP_FAILED", None)],
        Kind.ELSEWHERE: [("LAST_BACKUP_FAILED", Effect.NOTICE)],
    }
    assert found(machine(Run(NOW - DAY, code))) == expected.get(CODES[code].kind, [])


def test_a_later_success_ends_a_failure() -> None:
    """And a later failure a success."""
    failed, succeeded = Run(NOW - 2 * DAY, 121), Run(NOW - DAY, 0)
    assert found(machine(failed, succeeded)) == []
    later = replace(failed, ended=NOW - 3600)
    assert found(machine(succeeded, later)) == [("LAST_BACKUP_FAILED", None)]


@pytest.mark.parametrize("code", [121, 306, 402])
def test_a_code_that_says_enough_is_believed(code: int) -> None:
    """A traceback beside it is no cause: the extension logs many that it survives."""
    run = Run(NOW - DAY, code, lines=("oops, stack trace: Traceback (most recent call last):\nKeyError: 1\n",))
    (seen,) = (one for one in look(machine(run)) if isinstance(one, Finding))
    assert seen.evidence["true_cause"] is None
    assert seen.evidence["meaning"] == CODES[code].meaning


def test_the_cause_is_of_that_run() -> None:
    """What the log says of the run before it does not count."""
    provider = f"{vmsnapshot.CONFIGURATION_PROVIDER}: x, stack trace: Traceback (most recent call last):\nTypeError\n"
    runs = [Run(NOW - 2 * DAY, 76, lines=(provider,)), Run(NOW - DAY, 76)]
    for made, cause in ((machine(*runs), False), (machine(*runs[:1]), True)):
        (seen,) = (one for one in look(made) if isinstance(one, Finding))
        assert bool(seen.evidence["true_cause"]) is cause


@pytest.mark.parametrize("word", ["yes", "On", "1"])
def test_crash_consistent_may_be_fine(word: str) -> None:
    """If the administrator says so."""
    runs = [Run(NOW - n * DAY, 1, consistency=3) for n in (2, 1)]
    assert found(machine(*runs)) == [("BACKUP_ONLY_CRASH_CONSISTENT", None)]
    assert found(machine(*runs), past__accept_crash_consistent=word) == []
    with pytest.raises(ValueError, match="neither yes nor no"):
        configuration([past.PROBE], past__accept_crash_consistent="perhaps")
