"""A program that changes the machine runs alone, and does not outlive its time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from backupready.hands import programs

pytestmark = pytest.mark.integration


def test_a_program_tells_how_it_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its status, its words, and nothing of our surroundings or of our input."""
    monkeypatch.setenv("SECRET", "x")
    ran = programs.run(("sh", "-c", "cat; env; pwd; echo oh >&2; exit 3"), 20.0)
    assert (ran.status, ran.errors, ran.cut) == (3, "oh\n", False)
    assert b"SECRET" not in ran.output
    assert b"LC_ALL=C\n" in ran.output
    assert ran.output.endswith(b"\n/\n")


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(FileNotFoundError, match="there is no gone-and-lost"):
        programs.run(("gone-and-lost",), 20.0)


def test_of_endless_words_the_first_are_kept() -> None:
    """And that there were more is told."""
    ran = programs.run(("sh", "-c", "head -c 1000000 /dev/zero; head -c 100000 /dev/zero >&2"), 20.0)
    assert (ran.status, len(ran.output), len(ran.errors), ran.cut) == (0, 256 << 10, 4 << 10, True)


def test_what_it_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    """A service that it starts has our files open for as long as it lives."""
    pid = tmp_path / "pid"
    ran = programs.run(("sh", "-c", f"sleep 100 & echo $! > {pid}; echo done"), 20.0)
    os.kill(int(pid.read_text()), 9)
    assert (ran.status, ran.output) == (0, b"done\n")


def test_when_its_time_is_over_it_ends_with_all_that_it_has_started(tmp_path: Path) -> None:
    """Asked to first, so that it can leave things in order."""
    pid, word = tmp_path / "pid", tmp_path / "word"
    script = f"trap 'echo in order > {word}; exit' TERM; sleep 100 & echo $! > {pid}; wait"
    with pytest.raises(TimeoutError, match="sh has not ended after 0.5 s"):
        programs.run(("sh", "-c", script), 0.5)
    assert word.read_text() == "in order\n"
    for _ in range(1000):
        status = Path(f"/proc/{pid.read_text().strip()}/stat")
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("its child lives on")
