"""What outlives a restart: the file, and that nobody waits for it."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import journal
from backupready.mind import state
from backupready.mind.judge import Kept, KeptClocks, KeptFixes, KeptProblem
from backupready.mind.state import StateFile, Unusable, decode, encode
from backupready.model import Fixes, Happened, Verdict

KEPT = Kept(
    Verdict.BLOCKED,
    1000.5,
    2000.0,
    {"AGENT_STOPPED": KeptProblem(900.0, 2000.0, {"": 900.0, "b": 950.25})},
    KeptClocks("a boot", 500.0, 1990.0, 77.5),
    {"window": {"set_to": "daily at 22:00", "seen": 1980.25, "changed": False}},
    ((Verdict.READY, Happened.SUCCEEDED, 33),),
    KeptFixes(
        Fixes(1995.0, refused={("a", "phase"): 2}, would_run={"a": 3}, ended={("a", "failed"): 44}),
        {"a": 5},
        (("a", "AGENT_STOPPED", "b"),),
    ),
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Callable[[], StateFile]]:
    """Opens the state of one directory, as often as asked."""
    opened: list[StateFile] = []

    def make() -> StateFile:
        opened.append(StateFile(str(tmp_path)))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def test_what_is_kept_is_there_after_a_restart(file: Callable[[], StateFile], tmp_path: Path) -> None:
    """The newest that was handed over is read again, and the directory holds nothing else."""
    first = file()
    assert first.load() is None
    first.save(Kept())
    first.save(KEPT)
    first.close()
    assert file().load() == KEPT
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]
    assert decode((tmp_path / "state.json").read_bytes()) == KEPT


@pytest.mark.parametrize(
    ("text", "aside"),
    [
        (json.dumps({"schema": state.SCHEMA + 1, "whatever": []}), f"state.json.schema-{state.SCHEMA + 1}."),
        (encode(KEPT).decode()[:-20], "state.json.broken."),
        ("", "state.json.broken."),
        ("[]", "state.json.broken."),
        ('{"schema": true}', "state.json.broken."),
        (json.dumps({"schema": state.SCHEMA}), "state.json.broken."),
        (encode(KEPT).decode().replace("1000.5", "NaN"), "state.json.broken."),
        (encode(KEPT).decode().replace("blocked", "splendid"), "state.json.broken."),
        (encode(KEPT).decode().replace("900.0", "-1e18"), "state.json.broken."),
        (encode(KEPT).decode().replace("950.25", "2000.5"), "state.json.broken."),
        (encode(KEPT).decode().replace("2000.0", "1e300"), "state.json.broken."),
        (encode(KEPT).decode().replace("33", "-33"), "state.json.broken."),
        (encode(KEPT).decode().replace("44", "4.5"), "state.json.broken."),
        (encode(KEPT).decode().replace("44", "1" + "0" * 400), "state.json.broken."),
        (json.dumps({"schema": 10**300}), "state.json.schema-1000"),
    ],
    ids=[
        *(
            "newer",
            "cut",
            "empty",
            "list",
            "no number",
            "nothing in it",
            "not a time",
            "unknown word",
            "before all time",
        ),
        *("since after it was known", "after all time", "less than none", "a part", "uncountable", "much newer"),
    ],
)
def test_a_file_that_cannot_be_used_is_set_aside(
    text: str, aside: str, file: Callable[[], StateFile], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As it was, with a message; and the next state is written in its place."""
    (tmp_path / "state.json").write_text(text)
    with caplog.at_level(logging.WARNING, "backupready"):
        it = file()
        assert it.load() is None
    (kept,) = tmp_path.iterdir()
    assert kept.name.startswith(aside)
    assert kept.read_text() == text
    (record,) = caplog.records
    assert record.__dict__["MESSAGE_ID"] == journal.MESSAGE_STATE_SET_ASIDE
    assert kept.name in record.getMessage()
    it.save(KEPT)
    it.close()
    assert file().load() == KEPT
    assert kept.read_text() == text


def test_what_an_earlier_version_kept_is_read() -> None:
    """It knew nothing of the clocks, had no memory, and counted anew each time."""
    document = json.loads(encode(KEPT))
    for newer in ("clocks", "memory", "scores", "fixes"):
        del document[newer]
    assert decode(json.dumps(document).encode()) == Kept(KEPT.verdict, KEPT.since, KEPT.at, KEPT.problems)


VALUES: st.SearchStrategy[object] = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just([]) | st.just({})
)


@given(st.data())
def test_no_content_is_misread(data: st.DataObject) -> None:
    """Whatever stands in the place of any value: the file is refused, or what it holds can be shown."""
    document = json.loads(encode(KEPT))
    place, key = document, "schema"
    while isinstance(place[(key := data.draw(st.sampled_from(sorted(place))))], dict) and data.draw(st.booleans()):
        place = place[key]
    place[key] = data.draw(VALUES)
    try:
        kept = decode(json.dumps(document).encode())
    except Unusable:
        return
    for problem in kept.problems.values():
        for moment in (problem.since, *problem.keys.values()):
            assert 0 <= moment <= problem.at
            datetime.fromtimestamp(moment, timezone.utc)
    assert 0 <= kept.since <= kept.at


def test_a_frozen_disk_is_waited_for_by_nobody(
    file: Callable[[], StateFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a write hangs, saving returns at once; after the thaw the newest is written, and only that."""
    frozen, thawed, written = threading.Event(), threading.Event(), []
    fsync = os.fsync

    def hang(descriptor: int) -> None:
        frozen.set()
        thawed.wait()
        written.append((tmp_path / ".state.json.new").exists())
        fsync(descriptor)

    it = file()
    assert it.load() is None
    monkeypatch.setattr(os, "fsync", hang)
    it.save(Kept())
    assert frozen.wait(10)
    for at in range(50):
        it.save(Kept(Verdict.READY, 1.0, float(at)))
    assert not (tmp_path / "state.json").exists()
    thawed.set()
    it.close()
    assert written == [True, False] * 2  # file and directory, of the first and of the newest
    assert file().load() == Kept(Verdict.READY, 1.0, 49.0)


def test_a_disk_that_does_not_answer_does_not_keep_from_starting(
    file: Callable[[], StateFile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Loading gives up soon, and says so; so does closing."""
    thawed, opens = threading.Event(), Path.open

    def hang(path: Path, mode: str) -> object:
        thawed.wait()
        return opens(path, mode)

    (tmp_path / "state.json").write_bytes(encode(KEPT))
    monkeypatch.setattr(state, "_LOAD_TIMEOUT", 0.05)
    monkeypatch.setattr(state, "_CLOSE_TIMEOUT", 0.05)
    monkeypatch.setattr(Path, "open", hang)
    it = file()
    with caplog.at_level(logging.WARNING, "backupready"):
        assert it.load() is None
    it.close()
    thawed.set()
    assert "cannot read" in caplog.text


def test_a_full_or_missing_disk_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every write that fails is counted; the reason is told once."""
    it = StateFile(str(tmp_path / "missing"))
    it.load()
    with caplog.at_level(logging.WARNING, "backupready"):
        for number in range(1, 4):
            it.save(KEPT)
            deadline = time.monotonic() + 10
            while it.failures < number and time.monotonic() < deadline:
                time.sleep(0.001)
            assert it.failures == number
        it.close()
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        f"cannot write {tmp_path}/missing/state.json: No such file or directory"
    ]
