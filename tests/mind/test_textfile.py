"""How node_exporter gets the metrics: when the file is written, that it is whole, and that nobody waits for it."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

import scenes
from backupready import probes
from backupready.mind.metrics import Exposition
from backupready.mind.textfile import TextFile
from backupready.model import Verdict
from requirement import need


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Written:
    """A text file and how often it was rendered."""

    def __init__(self, path: Path, interval: float = 60.0) -> None:
        self.path = path
        self.times = 0
        self.go_on = threading.Event()
        self.go_on.set()
        self.file = TextFile(str(path), interval, self.render)

    def render(self) -> bytes:
        self.times += 1
        assert self.go_on.wait(20)
        return b"backupready_thing %d\n" % self.times

    def has(self, text: bytes) -> bool:
        return self.path.exists() and self.path.read_bytes() == text


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    it = Written(tmp_path / "backupready.prom")
    yield it
    it.go_on.set()
    it.file.close()


def test_it_is_written_now_and_then_and_when_the_verdict_changes(written: Written) -> None:
    """Not more often, however often it is offered."""
    for now in (0.0, 1.0, 59.0):
        written.file.offer(Verdict.READY, now)
        until(lambda: written.has(b"backupready_thing 1\n"))
    written.file.offer(Verdict.READY, 60.0)
    until(lambda: written.has(b"backupready_thing 2\n"))
    written.file.offer(Verdict.BLOCKED, 61.0)
    until(lambda: written.has(b"backupready_thing 3\n"))
    written.file.offer(Verdict.BLOCKED, 100.0)
    written.file.offer(Verdict.READY, 101.0)
    until(lambda: written.has(b"backupready_thing 4\n"))
    assert written.times == 4


def test_others_can_read_it(written: Written) -> None:
    """Whatever our umask is; nothing else is left in the directory."""
    before = os.umask(0o077)
    try:
        written.file.offer(Verdict.READY, 0.0)
        until(lambda: written.has(b"backupready_thing 1\n"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(written.path.stat().st_mode) == 0o644
    assert [file.name for file in written.path.parent.iterdir()] == ["backupready.prom"]


def test_a_reader_has_the_old_file_or_the_new_one(written: Written) -> None:
    """It is replaced, not written into."""
    written.file.offer(Verdict.READY, 0.0)
    until(lambda: written.has(b"backupready_thing 1\n"))
    with written.path.open("rb") as reader:
        written.file.offer(Verdict.BLOCKED, 1.0)
        until(lambda: written.has(b"backupready_thing 2\n"))
        assert reader.read() == b"backupready_thing 1\n"


def test_nobody_waits_for_a_frozen_disk(written: Written) -> None:
    """What is offered meanwhile is written as one after the thaw, as it is then."""
    written.go_on.clear()
    written.file.offer(Verdict.READY, 0.0)
    until(lambda: written.times)
    for now in range(1, 50):
        written.file.offer(Verdict.BLOCKED if now % 2 else Verdict.READY, float(now))
    assert not written.path.exists()
    written.go_on.set()
    until(lambda: written.has(b"backupready_thing 2\n"))


def test_a_directory_that_is_missing_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And when it is there, the file is written."""
    it = Written(tmp_path / "later/backupready.prom", interval=1.0)
    for now in range(3):
        it.file.offer(Verdict.READY, float(now))
        until(lambda: it.file.failures == now + 1)  # noqa: B023 - it is called at once
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith(f"cannot write {it.path}: No such file or directory")
    it.path.parent.mkdir()
    it.file.offer(Verdict.READY, 9.0)
    until(it.path.exists)
    it.file.close()


def test_a_defect_of_ours_does_not_end_the_writer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Each kind is told once with its traceback, every failure counts, and the next one is written."""
    path, kinds = tmp_path / "backupready.prom", [KeyError, ValueError, KeyError, ValueError]
    attempts = 0

    def render() -> bytes:
        nonlocal attempts
        attempts += 1
        if attempts <= len(kinds):
            raise kinds[attempts - 1](f"number {attempts}")
        return b"backupready_thing 1\n"

    file = TextFile(str(path), 1.0, render)
    for now in range(1, len(kinds) + 1):
        file.offer(Verdict.READY, float(now))
        until(lambda: file.failures == now)  # noqa: B023 - it is called at once
    assert not path.exists()
    file.offer(Verdict.READY, 9.0)
    until(path.exists)
    file.close()
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        f"cannot write {path}: {kind}; node_exporter has an old verdict or none" for kind in ("KeyError", "ValueError")
    ]
    assert "number 1" in caplog.text
    assert "number 3" not in caplog.text


def test_a_link_that_lies_in_wait_is_not_followed(tmp_path: Path) -> None:
    """The directory may be others' too."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".backupready.prom.new").symlink_to(victim)
    it = Written(tmp_path / "backupready.prom")
    it.file.offer(Verdict.READY, 0.0)
    until(lambda: it.file.failures)
    it.file.close()
    assert victim.read_text() == "mine"


@contextlib.contextmanager
def node_exporter(directory: Path, log: Path) -> Iterator[str]:
    """A real one that reads the directory, and the address of its metrics."""
    need("prometheus-node-exporter")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus-node-exporter", "--collector.disable-defaults", "--collector.textfile"]
    command += [f"--collector.textfile.directory={directory}", f"--web.listen-address={address}"]
    with log.open("w") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told)
    try:
        deadline = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"http://{address}/", timeout=5)
                break
            time.sleep(0.05)
        assert process.poll() is None, log.read_text()
        yield f"http://{address}/metrics"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.integration
def test_node_exporter_serves_what_is_in_it(tmp_path: Path) -> None:
    """Every series with its type, help and value, and how old the file is; nothing once the daemon has ended."""
    scene = scenes.blocked()
    exposition = Exposition(lambda: scene.snapshot, probes.METRICS, process=False)
    path = tmp_path / "collected/backupready.prom"
    path.parent.mkdir()
    file = TextFile(str(path), 60.0, lambda: exposition.render("")[1])
    file.offer(scene.snapshot.verdict, 0.0)
    until(path.exists)
    with node_exporter(path.parent, tmp_path / "log") as address:
        ours = {family.name: family for family in text_string_to_metric_families(path.read_text())}
        served = {
            family.name: family for family in text_string_to_metric_families(requests.get(address, timeout=20).text)
        }
        assert len(ours) >= 10
        for name, family in ours.items():
            theirs = served[name]
            assert (theirs.type, theirs.documentation) == (family.type, family.documentation)
            assert sorted(map(told, theirs.samples)) == sorted(map(told, family.samples))
        (error,) = served["node_textfile_scrape_error"].samples
        assert error.value == 0
        (written,) = served["node_textfile_mtime_seconds"].samples
        assert written.labels == {"file": str(path)}
        assert int(written.value) == int(path.stat().st_mtime)
        file.close()
        left = requests.get(address, timeout=20).text
        assert "backupready" not in left
        assert "node_textfile_scrape_error 0" in left


def told(sample: Sample) -> tuple[str, list[tuple[str, str]], float]:
    return sample.name, sorted(sample.labels.items()), sample.value


def test_what_it_said_ends_with_the_daemon(written: Written) -> None:
    """A verdict that nobody looks after is none."""
    written.file.offer(Verdict.READY, 0.0)
    until(lambda: written.has(b"backupready_thing 1\n"))
    written.file.close()
    assert list(written.path.parent.iterdir()) == []
