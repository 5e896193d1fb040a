"""What the hands have told, read when it changes; and whether somebody has paused them."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from backupready import fixes
from backupready.mind import summary
from backupready.mind.summary import EVERY, PauseFile, Summary, of, pause
from backupready.model import CannotTell, Fixes, Pause

TOLD = Fixes(5.0, would_run={"restart-agent": 1})


def write(path: Path, data: bytes) -> None:
    """As the hands do: a new file in its place."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.replace(path)


def test_its_counters_stay_while_it_cannot_be_read(tmp_path: Path) -> None:
    """And nothing else of it. Where it has gone, what it had counted is gone with it."""
    path = tmp_path / "fixes.json"
    counters = Fixes(5.0, refused={("a", "phase"): 2}, would_run={"a": 1}, ended={("a", "failed"): 3})
    write(path, fixes.encode(replace(counters, incidents=(("X", ""),), tried={("X", ""): ("a",)})))
    it = Summary(str(path))
    assert it.counters is None
    it.refresh(0.0)
    assert it.counters == counters
    write(path, b"{")
    it.refresh(EVERY)
    assert (it.told, it.counters) == (None, counters)
    path.unlink()
    it.refresh(2 * EVERY)
    assert it.counters == Fixes(0.0)


def test_before_it_was_read_nothing_is_known(tmp_path: Path) -> None:
    """Unknown is not the same as never."""
    with pytest.raises(CannotTell, match="it has not been read yet"):
        Summary(str(tmp_path / "fixes.json")).fixes()


def test_an_emulated_guest_has_one_of_its_own(tmp_path: Path) -> None:
    """Below its root, where the hands of that machine would write it."""
    path = tmp_path / "var/lib/backupready-fixes/fixes.json"
    path.parent.mkdir(parents=True)
    write(path, fixes.encode(TOLD))
    it = of(str(tmp_path))
    it.refresh(0.0)
    assert it.told == TOLD


def test_a_missing_one_says_that_nothing_was_done(tmp_path: Path) -> None:
    """Until there is one."""
    path = tmp_path / "fixes.json"
    it = Summary(str(path))
    assert it.refresh(0.0)
    assert (it.told, it.fixes(), it.unread) == (None, Fixes(0.0), "")
    write(path, fixes.encode(TOLD))
    assert not it.refresh(EVERY - 0.1)
    assert it.refresh(EVERY)
    assert it.told == it.fixes() == TOLD
    assert not it.refresh(2 * EVERY)


def test_it_can_be_read_at_once(tmp_path: Path) -> None:
    """When it is known that something has happened."""
    path = tmp_path / "fixes.json"
    it = Summary(str(path))
    it.refresh(0.0)
    write(path, fixes.encode(TOLD))
    assert it.refresh(0.1, at_once=True)


def test_a_change_of_the_same_length_is_seen(tmp_path: Path) -> None:
    """It is another file."""
    path = tmp_path / "fixes.json"
    write(path, fixes.encode(TOLD))
    it = Summary(str(path))
    it.refresh(0.0)
    before = path.stat()
    write(path, fixes.encode(Fixes(5.0, would_run={"restart-agent": 2})))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert it.refresh(EVERY)
    assert it.fixes().would_run == {"restart-agent": 2}


@pytest.mark.parametrize("what", ["broken", "long", "link", "directory", "pipe"])
def test_one_that_cannot_be_used_is_unknown_and_says_why(what: str, tmp_path: Path) -> None:
    """Nothing of it is shown, nothing of what was known before either, and nothing is waited for."""
    path = tmp_path / "fixes.json"
    write(path, fixes.encode(TOLD))
    it = Summary(str(path))
    it.refresh(0.0)
    path.unlink()
    if what == "broken":
        path.write_bytes(fixes.encode(TOLD)[:-9])
    elif what == "long":
        path.write_bytes(fixes.encode(TOLD) + b" " * (1 << 20))
    elif what == "link":
        path.symlink_to(__file__)
    elif what == "directory":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert it.refresh(EVERY)
    assert it.told is None
    assert it.unread
    with pytest.raises(CannotTell, match=r"cannot read what the hands have told in .*fixes\.json: "):
        it.fixes()
    path.rmdir() if what == "directory" else path.unlink()
    assert it.refresh(2 * EVERY)
    assert it.unread == ""


def test_a_pause_file_pauses(tmp_path: Path) -> None:
    """For as long as it says since it was written; one that cannot be read pauses all the same."""
    path = tmp_path / "pause"
    assert pause(str(path), 1000.0) is None
    path.write_text("2h\n")
    os.utime(path, (1000.0, 1000.0))
    assert pause(str(path), 1001.0) == Pause(8200.0)
    assert pause(str(path), 8200.0) is None
    path.write_text("x" * 2000)
    assert pause(str(path), 1e9) == Pause(unread=f"cannot read {path}: it has more than 1000 bytes")
    path.unlink()
    path.mkdir()
    assert pause(str(path), 1e9) == Pause(unread=f"cannot read {path}: Is a directory")


def answer(it: PauseFile, at: float) -> Pause | None:
    """What it says once it has answered."""
    it.refresh(at)
    with it._wake:
        assert it._wake.wait_for(lambda: it._asked is None, 10)
    return it.told(at)


def test_the_pause_file_is_read_by_another(tmp_path: Path) -> None:
    """Before it was read nobody knows, and that pauses; then every few seconds."""
    path = tmp_path / "pause"
    it = PauseFile(str(path))
    assert it.told(0.0) == Pause(unread=f"{path} has not been read yet")
    assert answer(it, 0.0) is None
    path.touch()
    it.refresh(EVERY - 0.1)
    assert it._asked is None
    assert answer(it, EVERY) == Pause()
    path.unlink()
    assert answer(it, 2 * EVERY) is None
    it.close()


def test_nobody_waits_for_a_pause_file_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it said last holds for some seconds; then fixes are paused, and that is told. It is asked once."""
    path, real = tmp_path / "pause", summary._contents
    it = PauseFile(str(path))
    assert answer(it, 0.0) is None
    asked, back = threading.Semaphore(0), threading.Event()

    def hangs(path: str, limit: int) -> tuple[bytes, float]:
        asked.release()
        back.wait(10)
        return real(path, limit)

    monkeypatch.setattr(summary, "_contents", hangs)
    it.refresh(5.0)
    assert asked.acquire(timeout=10)
    assert it.told(14.9) is None
    it.refresh(15.0)
    assert it.told(15.0) == Pause(unread=f"{path} has not answered for 10 s")
    assert not asked.acquire(blocking=False)
    back.set()
    assert answer(it, 20.0) is None
    it.close()
    assert it._thread is not None
    it._thread.join(10)
    assert not it._thread.is_alive()


def test_what_could_not_be_read_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the file itself has not changed since."""
    path = tmp_path / "fixes.json"
    write(path, fixes.encode(TOLD))
    it, real = Summary(str(path)), summary._contents

    def fails(path: str, limit: int) -> tuple[bytes, float]:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(summary, "_contents", fails)
    assert it.refresh(0.0)
    with pytest.raises(CannotTell, match="Input/output error"):
        it.fixes()
    monkeypatch.setattr(summary, "_contents", real)
    assert it.refresh(EVERY)
    assert it.fixes() == TOLD
