"""The only door for looking: real files, real processes, a real HTTP server, each bounded."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Union

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupready.eyes import machine, network
from backupready.eyes.machine import CapturedMachine, LiveMachine
from backupready.model import Absent, CannotTell, Cursor, Space, TooMany, Unreachable
from fake import FakeMachine
from lab.hang import Hang, HangingMount
from requirement import unavailable

Machine = Union[LiveMachine, CapturedMachine]
MachineOf = Callable[[Path], Machine]
MACHINES: dict[str, MachineOf] = {
    "live": lambda root: LiveMachine(root=str(root)),
    "captured": lambda root: CapturedMachine(str(root), 7.0),
}
both = pytest.mark.parametrize("of", MACHINES.values(), ids=MACHINES)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A guest with /etc/file in it."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/file").write_bytes(b"content")
    return root


# ------------------------------------------------------------------------------------------------------- files


@both
def test_a_file_is_read_whole_up_to_the_limit(tree: Path, of: MachineOf) -> None:
    """One byte more than the limit cannot be told; nothing is cut in silence."""
    assert of(tree).read("/etc/file") == b"content"
    assert of(tree).read("/etc/file", 7) == b"content"
    with pytest.raises(CannotTell, match="cannot read /etc/file: it has more than 6 bytes"):
        of(tree).read("/etc/file", 6)


@both
def test_a_pipe_is_not_waited_for(tree: Path, of: MachineOf) -> None:
    """A FIFO that nobody writes to is refused at once."""
    os.mkfifo(tree / "etc/pipe")
    outcome: list[Exception] = []

    def read() -> None:
        try:
            of(tree).read("/etc/pipe")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is judged below
            outcome.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert outcome == [CannotTell("cannot read /etc/pipe: it is no regular file")]


@both
def test_only_a_directory_is_listed(tree: Path, of: MachineOf) -> None:
    """names() of a file is Absent, of a directory its entries."""
    with pytest.raises(Absent):
        of(tree).names("/etc/file")
    assert of(tree).names("/etc") == ("file",)


@both
def test_a_directory_is_not_read(tree: Path, of: MachineOf) -> None:
    """What is no regular file cannot be told."""
    with pytest.raises(CannotTell, match="cannot read /etc: it is no regular file"):
        of(tree).read("/etc")


@both
def test_a_missing_file_in_a_directory_that_is_there_is_absent(tree: Path, of: MachineOf) -> None:
    """By every way of asking."""
    for ask in (of(tree).read, of(tree).status, of(tree).names):
        with pytest.raises(Absent, match="^/etc/none$"):
            ask("/etc/none")
    with pytest.raises(Absent):
        of(tree).read_new("/etc/none", None)


def test_what_was_not_captured_cannot_be_told(tree: Path) -> None:
    """Only what stands in a captured directory is certainly missing; a live machine knows of the rest as well."""
    for path in ("/var/log/waagent.log", "/none"):
        with pytest.raises(Absent):
            LiveMachine(root=str(tree)).read(path)
        with pytest.raises(CannotTell, match=f"{path} is not in the captured tree"):
            CapturedMachine(str(tree)).read(path)


@both
def test_a_link_that_leads_out_of_the_root_is_not_followed(tree: Path, of: MachineOf) -> None:
    """Neither an absolute one, nor one with dots, nor a directory of which the rest is a link; nor dots in the path."""
    (tree.parent / "secret").write_text("secret")
    (tree / "etc/absolute").symlink_to(tree.parent / "secret")
    (tree / "etc/dots").symlink_to("../../secret")
    (tree / "etc/out").symlink_to("../..")
    for path in ("/etc/absolute", "/etc/dots", "/etc/out/secret", "/../secret", "/etc/../../secret"):
        for ask in (of(tree).read, of(tree).status):
            with pytest.raises(CannotTell, match="it leads out of"):
                ask(path)


@both
def test_a_link_within_the_root_is_followed(tree: Path, of: MachineOf) -> None:
    """What it leads to is read and looked at."""
    (tree / "etc/link").symlink_to("file")
    assert of(tree).read("/etc/link") == b"content"
    assert of(tree).status("/etc/link").kind == "file"


@both
def test_a_link_in_a_circle_cannot_be_told(tree: Path, of: MachineOf) -> None:
    """It is no crash."""
    (tree / "etc/circle").symlink_to("circle")
    with pytest.raises(CannotTell):
        of(tree).read("/etc/circle")


@both
def test_the_status_of_a_file(tree: Path, of: MachineOf) -> None:
    """Kind, size, permissions, owner, time and inode."""
    os.utime(tree / "etc/file", (1000, 1000))
    (tree / "etc/file").chmod(0o640)
    found = of(tree).status("/etc/file")
    assert (found.kind, found.size, found.mode, found.owner, found.modified) == ("file", 7, 0o640, os.getuid(), 1000)
    assert found.inode == (tree / "etc/file").stat().st_ino
    assert of(tree).status("/etc").kind == "directory"
    os.mkfifo(tree / "etc/pipe")
    assert of(tree).status("/etc/pipe").kind == "other"


def test_a_directory_without_end_is_not_listed(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More entries than the bound cannot be told."""
    monkeypatch.setattr(machine, "_NAMES_LIMIT", 3)
    for number in range(3):
        (tree / f"etc/{number}").touch()
    (tree / "etc/file").unlink()
    assert LiveMachine(root=str(tree)).names("/etc") == ("0", "1", "2")
    (tree / "etc/3").touch()
    with pytest.raises(TooMany, match="it has more than 3 entries"):
        LiveMachine(root=str(tree)).names("/etc")


def test_a_file_that_can_be_opened_and_not_read_cannot_be_told() -> None:
    """A disk that fails (here: the kernel's own refusal) is no defect of the probe."""
    with pytest.raises(CannotTell, match="Input/output error"):
        LiveMachine().read("/proc/self/mem", 64)


@both
def test_names_that_no_file_can_have_cannot_be_told(tree: Path, of: MachineOf) -> None:
    """Too long for the file system."""
    with pytest.raises(CannotTell):
        of(tree).read("/etc/" + "x" * 300)


@pytest.mark.parametrize("path", ["/etc/a\0b", "/etc/\ud800", "/\0/file"])
@pytest.mark.parametrize("verb", ["read", "names", "status", "target", "label"])
def test_what_can_be_no_path_cannot_be_told(tree: Path, path: str, verb: str) -> None:
    """It may have come out of a file. A name that is no UTF-8 is one."""
    for one in (LiveMachine(), LiveMachine(root=str(tree)), CapturedMachine(str(tree)), FakeMachine()):
        with pytest.raises(CannotTell, match="it is no possible path"):
            getattr(one, verb)(path)
    (tree / "etc/\udcff").touch()
    assert LiveMachine(root=str(tree)).read("/etc/\udcff") == b""


def test_a_captured_tree_has_only_what_was_captured(tree: Path) -> None:
    """Nothing live is asked: no clock but the given one, no network, no service manager."""
    captured = CapturedMachine(str(tree))
    for ask in (captured.now, lambda: captured.get("http://127.0.0.1/", 1, 1), lambda: captured.unit("x", ["Id"])):
        with pytest.raises(CannotTell, match="a captured tree"):
            ask()
    assert CapturedMachine(str(tree), 7.0).now() == 7.0
    assert captured.privileged
    with pytest.raises(CannotTell, match="cannot read the process table"):
        captured.processes()


# ---------------------------------------------------------------------------------------------------- read_new


class Log:
    """A log that is followed as a probe does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cursor: Cursor | None = None
        self.skipped = 0

    def write(self, text: str) -> None:
        with self.path.open("a") as file:
            file.write(text)

    def new(self, limit: int = machine.LOG_LIMIT) -> str:
        data, self.cursor, self.skipped = LiveMachine().read_new(str(self.path), self.cursor, limit)
        return data.decode()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    (tmp_path / "log").touch()
    return Log(tmp_path / "log")


def test_what_was_appended_is_read_once(log: Log) -> None:
    """Each look gets what came since the last one, and nothing is there to read twice."""
    assert log.new() == ""
    log.write("one\ntwo\n")
    assert log.new() == "one\ntwo\n"
    assert log.new() == ""
    log.write("three\n")
    assert log.new() == "three\n"
    assert log.skipped == 0


def test_an_unfinished_line_is_read_only_when_it_is_complete(log: Log) -> None:
    """A record that is being written is not judged in halves."""
    log.write("one\ntw")
    assert log.new() == "one\n"
    assert log.new() == ""
    log.write("o\n")
    assert log.new() == "two\n"


def test_a_truncated_log_is_read_from_its_beginning(log: Log) -> None:
    """copytruncate leaves the same file, shorter."""
    log.write("a long old line\n")
    log.new()
    log.path.write_text("new\n")
    assert log.new() == "new\n"
    assert log.skipped == 0


def test_the_unread_end_of_a_rotated_log_is_read(log: Log) -> None:
    """What was written between the last look and the rotation comes first."""
    log.write("one\n")
    log.new()
    log.write("two\n")
    log.path.rename(log.path.with_name("log.1"))
    log.write("three\n")
    assert log.new() == "two\nthree\n"
    assert log.skipped == 0
    assert log.new() == ""


def test_a_rotated_log_that_is_gone_counts_as_skipped(log: Log) -> None:
    """It was compressed at once, say: nobody knows what it said."""
    log.write("one\n")
    log.new()
    log.path.rename(log.path.with_name("log.1.gz"))
    log.write("two\n")
    assert log.new() == "two\n"
    assert log.skipped > 0


def test_a_huge_gap_is_skipped_and_told(log: Log) -> None:
    """Only the last `limit` bytes are read, and how many were not is said."""
    log.write("".join(f"{number:09}\n" for number in range(100)))
    assert log.new(limit=30) == "000000097\n000000098\n000000099\n"
    assert log.skipped == 970
    log.write("next\n")
    assert (log.new(limit=30), log.skipped) == ("next\n", 0)


def test_a_line_longer_than_the_bound_does_not_stop_the_reading(log: Log) -> None:
    """What comes after it is read."""
    log.write("x" * 1000)
    assert log.new(limit=30) == ""
    log.write("\nnext\n")
    assert log.new(limit=30).endswith("next\n")


def test_a_huge_gap_in_a_rotated_log_is_told(log: Log) -> None:
    """What was not read of it counts as skipped."""
    log.write("one\n")
    log.new()
    log.write("".join(f"{number:09}\n" for number in range(100)))
    log.path.rename(log.path.with_name("log.1"))
    log.write("two\n")
    assert log.new(limit=30).endswith("000000099\ntwo\n")
    assert log.skipped > 0


def test_an_unfinished_end_of_a_rotated_log_stays_a_line_of_its_own(log: Log) -> None:
    """It will never be completed; it must not swallow the first record of the new log."""
    log.write("one\n")
    log.new()
    log.write("tw")
    log.path.rename(log.path.with_name("log.1"))
    log.write("three\n")
    assert "three" in log.new().splitlines()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.text("ab\n", max_size=8), st.sampled_from(["append", "rotate", "look"])), max_size=12))
def test_no_complete_line_is_lost_or_doubled(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str]]
) -> None:
    """Whatever is appended between looks, with at most one rotation between two of them: all complete lines arrive,
    in their order, once."""
    log = Log(tmp_path_factory.mktemp("log") / "log")
    log.path.touch()
    written = read = ""
    read += log.new()
    rotated = 0
    for text, step in steps:
        if step == "rotate" and not rotated:
            log.write("\n")
            written += "\n"
            log.path.rename(log.path.with_name(f"log.{time.monotonic_ns()}"))
            log.path.touch()
            rotated = 1
        elif step == "look":
            read += log.new()
            rotated = 0
        log.write(text)
        written += text
    log.write("\n")
    assert read + log.new() == written + "\n"


# ------------------------------------------------------------------------------------------------------- space


@pytest.mark.integration
def test_room_is_what_statvfs_says(tree: Path) -> None:
    """Of each path by its own name, for ordinary users and for root; what is not there is no silent path."""
    told = LiveMachine(root=str(tree)).space(["/etc", "/none"], 10.0)
    wanted = os.statvfs(tree / "etc")
    room = told.told["/etc"]
    assert isinstance(room, Space)
    assert (room.total, room.inodes) == (wanted.f_blocks * wanted.f_frsize, wanted.f_files)
    assert room.free is not None
    assert 0 <= room.available <= room.free <= room.total
    assert told.told["/none"] == CannotTell("there is no /none")
    assert (told.silent, told.child) == ((), 0)


@pytest.mark.integration
@pytest.mark.parametrize("hang", list(Hang), ids=lambda hang: hang.name)
def test_a_file_system_that_hangs_is_named_in_time(tmp_path: Path, hang: Hang) -> None:
    """The others are told all the same. A child that nobody can end is left behind, with its number."""
    if os.geteuid() != 0 or not Path("/dev/fuse").exists():
        unavailable("root and FUSE are needed to mount a file system that hangs")
    dead, well = tmp_path / "dead", tmp_path / "well"
    for place in (dead, well):
        place.mkdir()
    # This machine's own mounts instead of a guest's.
    guest: Any = SimpleNamespace(leader=os.getpid(), path=Path)
    with HangingMount(guest, str(dead), hang):
        started = time.monotonic()
        told = LiveMachine().space([str(dead), str(well)], 0.7)
        assert time.monotonic() - started < 5.0
        assert told.silent == (str(dead),)
        assert isinstance(told.told[str(well)], Space)
        if hang is Hang.KILLABLE:
            assert told.child == 0
        else:
            assert psutil.Process(told.child).ppid() == os.getpid()
    if told.child:
        # It ends with the mount. Whoever has started a process since may have taken note of that already.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(told.child, 0)
        assert not psutil.pid_exists(told.child)


def test_the_largest_entries_come_first_and_links_are_not_followed(tree: Path) -> None:
    """With all below them, as they lie on the disk; a hole takes no room."""
    (tree / "var/big/deep").mkdir(parents=True)
    (tree / "var/big/deep/file").write_bytes(b"x" * 300_000)
    (tree / "var/small").write_bytes(b"x" * 100_000)
    with (tree / "var/hole").open("wb") as file:
        file.truncate(1 << 30)
    (tree / "var/link").symlink_to("big")
    found = LiveMachine(root=str(tree)).largest("/var", 60.0)
    assert [name for name, _ in found[:2]] == ["big", "small"]
    assert found[0][1] >= 300_000
    assert all(size < 100_000 for name, size in found if name in ("hole", "link"))
    with pytest.raises(Absent):
        LiveMachine(root=str(tree)).largest("/none", 60.0)


def test_sizing_has_a_bound_and_leaves_nobody_out(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A little of each entry is counted before much of one is."""
    monkeypatch.setattr(machine, "_SIZED_IN_TURN", 2)
    monkeypatch.setattr(machine, "_MOST_SIZED", 12)
    for entry in range(3):
        (tree / f"var/{entry}").mkdir(parents=True)
        for number in range(50):
            (tree / f"var/{entry}/{number}").write_bytes(b"x" * 4096)
    sizes = dict(LiveMachine(root=str(tree)).largest("/var", 60.0))
    assert set(sizes) == {"0", "1", "2"}
    assert sum(sizes.values()) < 30 * 4096
    assert LiveMachine(root=str(tree)).largest("/var", 0.0) == ()


@pytest.mark.integration
def test_sizing_stays_on_its_file_system() -> None:
    """What is mounted below is another's."""
    assert dict(LiveMachine().largest("/", 2.0)).get("proc", 0) == 0


# --------------------------------------------------------------------------------------------------- processes


@pytest.mark.integration
def test_this_process_is_in_the_process_table() -> None:
    """With its parent, its arguments, its state and when it started."""
    table = {process.pid: process for process in LiveMachine().processes()}
    this = table[os.getpid()]
    assert this.parent == os.getppid()
    assert list(this.argv) == Path("/proc/self/cmdline").read_bytes().decode().rstrip("\0").split("\0")
    assert this.state in "RS"
    assert 0 <= time.time() - this.started < 24 * 3600


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", "with a blank", ""])
    yield process
    process.kill()
    process.wait()


def capture(pids: list[int], root: Path, boot_shift: int = 0) -> None:
    """Copy what a capture holds of these processes."""
    for pid in pids:
        (root / "proc" / str(pid)).mkdir(parents=True)
        for name in ("stat", "status", "cmdline"):
            shutil.copyfile(f"/proc/{pid}/{name}", root / "proc" / str(pid) / name)
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    text = "\n".join(f"btime {int(w[1]) + boot_shift}" if w[0] == "btime" else " ".join(w) for w in lines)
    (root / "proc/stat").write_text(text + "\n")


@pytest.mark.integration
def test_a_captured_process_table_says_the_same(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    """The same processes as from the live machine, and no others; afterwards the live table is read again."""
    while child.pid not in (live := {process.pid: process for process in LiveMachine().processes()}) or (
        live[child.pid].state != "S"
    ):
        time.sleep(0.01)
    capture([child.pid], tmp_path)
    assert CapturedMachine(str(tmp_path)).processes() == (live[child.pid],)
    assert live[child.pid].argv[-2:] == ("with a blank", "")
    assert psutil.PROCFS_PATH == "/proc"
    assert os.getpid() in {process.pid for process in LiveMachine().processes()}


@pytest.mark.integration
def test_the_start_of_a_captured_process_counts_from_its_own_machines_boot(
    tmp_path: Path, child: subprocess.Popen[bytes]
) -> None:
    """A tree from another machine has another boot time."""
    live = {process.pid: process for process in LiveMachine().processes()}[child.pid]
    capture([child.pid], tmp_path, boot_shift=-1_000_000)
    (captured,) = CapturedMachine(str(tmp_path)).processes()
    assert captured.started == pytest.approx(live.started - 1_000_000, abs=2)


@pytest.mark.integration
def test_a_zombie_is_told_as_one(child: subprocess.Popen[bytes]) -> None:
    """It is in the table, without arguments."""
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    zombie = {process.pid: process for process in LiveMachine().processes()}[child.pid]
    assert (zombie.state, zombie.argv) == ("Z", ())


@pytest.mark.integration
def test_of_an_emulated_guest_only_its_own_processes_are_told(tmp_path: Path) -> None:
    """Those that were started from below its root, and their children."""
    program = tmp_path / "root/usr/sbin/agent"
    program.parent.mkdir(parents=True)
    program.write_text(
        "import subprocess, time; subprocess.Popen(['sleep', '600']); print('there', flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            found = LiveMachine(root=str(tmp_path / "root")).processes()
        finally:
            os.killpg(process.pid, 9)
    assert [p.pid for p in found if p.parent != process.pid] == [process.pid]
    assert len(found) == 2


# -------------------------------------------------------------------------------------------------------- HTTP


class Fabric:
    """A real HTTP server on the loopback; `paths` counts what was asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.over = threading.Event()
        fabric = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802 - the name is the library's
                fabric.paths.append(self.path)
                getattr(fabric, self.path.strip("/").partition("?")[0])(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def url(self, what: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/{what}"

    def close(self) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()

    def _head(self, asked: BaseHTTPRequestHandler, status: int, length: int, **headers: str) -> None:
        asked.send_response(status)
        asked.send_header("Content-Length", str(length))
        for name, value in headers.items():
            asked.send_header(name, value)
        asked.end_headers()

    def good(self, asked: BaseHTTPRequestHandler) -> None:
        self._head(asked, 200, 4, **{"X-Fabric": "Yes"})
        asked.wfile.write(b"body")

    def broken(self, asked: BaseHTTPRequestHandler) -> None:
        self._head(asked, 500, 0)

    def elsewhere(self, asked: BaseHTTPRequestHandler) -> None:
        self._head(asked, 302, 0, Location=self.url("good"))

    def huge(self, asked: BaseHTTPRequestHandler) -> None:
        self._head(asked, 200, 1 << 30)
        while not self.over.is_set():
            asked.wfile.write(b"x" * 65536)

    def silent(self, asked: BaseHTTPRequestHandler) -> None:
        self.over.wait(30)

    def resets(self, asked: BaseHTTPRequestHandler) -> None:
        asked.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        asked.connection.close()

    def once(self, asked: BaseHTTPRequestHandler) -> None:
        """Fails at first."""
        self.good(asked) if len(self.paths) > 1 else self.resets(asked)

    def drips(self, asked: BaseHTTPRequestHandler) -> None:
        self._head(asked, 200, 1000)
        self._drip(asked)

    def drips_its_head(self, asked: BaseHTTPRequestHandler) -> None:
        asked.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        self._drip(asked)

    def _drip(self, asked: BaseHTTPRequestHandler) -> None:
        for _ in range(50):
            if self.over.wait(0.04):
                return
            asked.wfile.write(b"x")
            asked.wfile.flush()


@pytest.fixture
def fabric() -> Iterator[Fabric]:
    server = Fabric()
    yield server
    server.close()


def get(url: str, timeout: float = 5.0, budget: float = 10.0) -> object:
    return LiveMachine().get(url, timeout, budget)


@pytest.mark.integration
def test_an_answer_arrives_whole(fabric: Fabric) -> None:
    """Status, headers by their small names, body, how long it took and how many tries."""
    answer = LiveMachine().get(fabric.url("good?comp=versions"), 5, 10)
    assert (answer.status, answer.body, answer.attempts) == (200, b"body", 1)
    assert answer.headers["x-fabric"] == "Yes"
    assert 0 < answer.seconds < 5
    assert fabric.paths == ["/good?comp=versions"]


@pytest.mark.integration
def test_an_error_status_is_an_answer(fabric: Fabric) -> None:
    """It is judged by the probe and not tried again."""
    assert LiveMachine().get(fabric.url("broken"), 5, 10).status == 500
    assert fabric.paths == ["/broken"]


@pytest.mark.integration
def test_a_redirect_is_not_followed(fabric: Fabric) -> None:
    """Where it leads to is somebody else's machine."""
    answer = LiveMachine().get(fabric.url("elsewhere"), 5, 10)
    assert (answer.status, answer.headers["location"]) == (302, fabric.url("good"))
    assert fabric.paths == ["/elsewhere"]


@pytest.mark.integration
def test_a_body_is_cut(fabric: Fabric) -> None:
    """An endless one is not read to its end."""
    assert LiveMachine().get(fabric.url("huge"), 5, 10).body == b"x" * network.BODY_LIMIT


def unreachable(url: str, timeout: float, budget: float) -> tuple[Unreachable, float]:
    started = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        LiveMachine().get(url, timeout, budget)
    return caught.value, time.monotonic() - started


@pytest.mark.integration
def test_a_refused_connection_is_told_after_three_tries() -> None:
    """By one word for a program, and the system's own words."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        error, elapsed = unreachable(f"http://127.0.0.1:{holder.getsockname()[1]}/", 1, 10)
    assert (error.how, error.detail, error.attempts) == ("refused", "Connection refused", 3)
    assert elapsed < 5


@pytest.mark.integration
def test_a_server_that_is_silent_is_given_up_within_the_budget(fabric: Fabric) -> None:
    """Every try waits for the time-out only, and no try begins that would not end within the budget."""
    error, elapsed = unreachable(fabric.url("silent"), 0.2, 0.7)
    assert (error.how, error.detail) == ("timed_out", "no answer in time")
    assert 1 < error.attempts <= 3
    assert elapsed < 0.7 + 0.2


@pytest.mark.integration
def test_a_connection_that_is_reset_is_tried_again(fabric: Fabric) -> None:
    """One hiccup is no outage."""
    answer = LiveMachine().get(fabric.url("once"), 5, 10)
    assert (answer.body, answer.attempts) == (b"body", 2)
    error, _ = unreachable(fabric.url("resets"), 5, 10)
    assert (error.how, error.attempts) == ("reset", 3)


@pytest.mark.integration
@pytest.mark.parametrize("what", ["drips", "drips_its_head"])
def test_a_slow_drip_ends_within_the_budget(fabric: Fabric, what: str) -> None:
    """A server that keeps saying a little does not hold us."""
    error, elapsed = unreachable(fabric.url(what), 0.3, 0.6)
    assert error.how == "timed_out"
    assert elapsed < 1.2


@pytest.mark.integration
def test_proxies_of_the_environment_are_ignored(fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fabric is always asked directly."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert LiveMachine().get(fabric.url("good"), 5, 10).body == b"body"


@pytest.mark.integration
def test_what_speaks_no_http_is_unreachable() -> None:
    """Garbage is a failure with words, not a crash."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def babble() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-nothing\r\n\r\n")

        threading.Thread(target=babble, daemon=True).start()
        error, _ = unreachable(f"http://127.0.0.1:{listener.getsockname()[1]}/", 2, 10)
    assert error.how == "failed"
    assert error.detail


# ------------------------------------------------------------------------------------------------------- units


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("systemctl") is None, reason="there is no systemctl here")
def test_a_unit_is_shown_or_cannot_be_told() -> None:
    """Where there is no service manager, that is the reason."""
    try:
        shown = LiveMachine().unit("no-such-thing.service", ["LoadState", "Id"])
    except CannotTell as error:
        assert error.why.startswith("cannot ask the service manager: ")
    else:
        assert shown == {"LoadState": "not-found", "Id": "no-such-thing.service"}


# ---------------------------------------------------------------------------------------------------- programs


@pytest.mark.integration
def test_a_program_is_run_without_input_or_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both outputs and the status come back; nothing of our own environment goes in."""
    monkeypatch.setenv("SECRET", "x")
    ran = LiveMachine().run(("/bin/sh", "-c", "env; pwd; cat; echo no >&2; exit 3"), 10)
    assert (ran.status, ran.errors) == (3, "no")
    assert {"LC_ALL=C", "/"} <= set(ran.output.decode().splitlines())
    assert b"SECRET" not in ran.output


@pytest.mark.integration
def test_a_program_that_is_missing_is_absent() -> None:
    """By its path and by its name."""
    for name in ("/usr/bin/no-such-program", "no-such-program"):
        with pytest.raises(Absent):
            LiveMachine().run((name,), 5)


@pytest.mark.integration
def test_a_program_that_does_not_end_is_ended() -> None:
    """It is told, and no process is left."""
    started = time.monotonic()
    with pytest.raises(CannotTell, match=r"cannot run /bin/sleep: it has not ended after 0\.2 s"):
        LiveMachine().run(("/bin/sleep", "4321"), 0.2)
    assert time.monotonic() - started < 5
    assert not [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["/bin/sleep", "4321"]]


@pytest.mark.integration
def test_what_a_program_prints_is_cut() -> None:
    """Nobody needs megabytes of it."""
    ran = LiveMachine().run(("/bin/sh", "-c", "head -c 3000000 /dev/zero; head -c 9000 /dev/zero | tr '\\0' x >&2"), 10)
    assert (len(ran.output), len(ran.errors), ran.cut) == (machine.OUTPUT_LIMIT, machine._ERRORS_LIMIT, True)
    ran = LiveMachine().run(("/bin/sh", "-c", "head -c 3000000 /dev/zero"), 10, limit=3000000)
    assert (len(ran.output), ran.status, ran.cut) == (3000000, 0, False)


@pytest.mark.integration
def test_what_prints_without_end_takes_no_memory() -> None:
    """It is ended in time, and no more of it is kept than the bound."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CannotTell, match="has not ended"):
        LiveMachine().run(("yes",), 0.7)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    with pytest.raises(CannotTell, match="cannot be passed"):
        LiveMachine().run(("yes", "\0"), 0.7)


def _instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, script: str) -> None:
    (tmp_path / program).write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / program).chmod(0o755)
    monkeypatch.setattr(machine, "_PATH", f"{tmp_path}:{machine._PATH}")


@pytest.mark.integration
def test_a_property_that_is_shown_several_times_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EnvironmentFiles has a line for each."""
    _instead(tmp_path, monkeypatch, "systemctl", "printf 'A=1\\nB=x=y\\nA=2\\n'")
    assert LiveMachine().unit("x.service", ["A", "B"]) == {"A": "1\n2", "B": "x=y"}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("says", "raised"),
    [
        ("RTNETLINK answers: Network is unreachable", Unreachable),
        ("RTNETLINK answers: No route to host", Unreachable),
        ("Cannot open netlink socket: Address family not supported by protocol", CannotTell),
        ("ip: unrecognized option: json", CannotTell),
    ],
)
def test_there_is_no_route_only_where_the_kernel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, raised: type[Exception]
) -> None:
    """An ip that fails for another reason tells nothing."""
    _instead(tmp_path, monkeypatch, "ip", f"echo '{says}' >&2; exit 2")
    with pytest.raises(raised):
        LiveMachine().route("168.63.129.16")


@pytest.mark.integration
@pytest.mark.parametrize(("slow", "whole"), [(1.0, True), (30.0, False)])
def test_the_start_of_the_child_is_no_silence_of_a_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: float, whole: bool
) -> None:
    """On a busy machine it takes long; where it does not come to an end nothing can be told."""
    monkeypatch.setattr(machine, "_ASK_FOR_SPACE", f"import time; time.sleep({slow})\n{machine._ASK_FOR_SPACE}")
    monkeypatch.setattr(machine, "_START_TIMEOUT", 20.0 if whole else 0.3)
    if whole:
        assert LiveMachine().space([str(tmp_path)], 0.5).silent == ()
    else:
        with pytest.raises(CannotTell, match="the child has not started"):
            LiveMachine().space([str(tmp_path)], 0.5)


@pytest.mark.integration
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to lose")
def test_a_program_has_no_privileges_unless_they_are_asked_for() -> None:
    """The capabilities are gone, and cannot come back."""
    command = ("/bin/grep", "-E", "^(CapEff|CapBnd|NoNewPrivs)", "/proc/self/status")
    plain = LiveMachine().run(command, 10).output.decode().split()
    assert plain == ["CapEff:", "0" * 16, "CapBnd:", "0" * 16, "NoNewPrivs:", "1"]
    assert LiveMachine().run(command, 10, privileged=True).output.decode().split()[1] != "0" * 16


@pytest.mark.integration
def test_a_guests_program_is_taken_from_its_tree(tmp_path: Path) -> None:
    """Not this machine's; one that the tree has not is absent."""
    program = tmp_path / "usr/bin/thing"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho from the tree $1\n")
    program.chmod(0o755)
    guest = LiveMachine(root=str(tmp_path))
    assert guest.run(("/usr/bin/thing", "x"), 10).output == b"from the tree x\n"
    with pytest.raises(Absent):
        guest.run(("/usr/bin/env",), 10)


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("ip") is None, reason="there is no ip here")
def test_a_route_is_the_kernels_choice() -> None:
    """Of the loopback's own address."""
    route = LiveMachine().route("127.0.0.1")
    assert (route.device, route.gateway, route.source) == ("lo", "", "127.0.0.1")


# ----------------------------------------------------------------------------------------- locks, links, labels


@pytest.mark.integration
def test_the_holder_of_a_lock_is_told(tmp_path: Path) -> None:
    """Asking takes no lock, and needs no right to write."""
    lock = tmp_path / "lock"
    lock.touch()
    assert LiveMachine().lock_holder(str(lock)) is None
    code = (
        "import fcntl, sys, time\n"
        f"file = open({str(lock)!r}, 'w'); fcntl.lockf(file, fcntl.LOCK_EX); print('held', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        lock.chmod(0o400)
        assert LiveMachine().lock_holder(str(lock)) == holder.pid
        holder.stdin.close()
    assert LiveMachine().lock_holder(str(lock)) is None
    with pytest.raises(Absent):
        LiveMachine().lock_holder(str(tmp_path / "none"))


@both
def test_a_link_is_read_and_not_followed(tree: Path, of: MachineOf) -> None:
    """As it is written there, wherever it points to; what is no link is none."""
    (tree / "etc/link").symlink_to("../../outside")
    assert of(tree).target("/etc/link") == "../../outside"
    with pytest.raises(Absent):
        of(tree).target("/etc/none")
    with pytest.raises(Absent):
        of(tree).target("/etc/file")


@both
def test_a_file_without_a_label_has_none(tree: Path, of: MachineOf) -> None:
    """As on every machine without SELinux."""
    with pytest.raises(Absent):
        of(tree).label("/etc/file")


def test_a_label_is_told(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the zero byte that the kernel puts at its end."""
    monkeypatch.setattr(os, "getxattr", lambda *_: b"system_u:object_r:etc_t:s0\0")
    assert LiveMachine(root=str(tree)).label("/etc/file") == "system_u:object_r:etc_t:s0"


def test_the_kernel_is_the_running_one() -> None:
    """As uname tells."""
    kernel = LiveMachine().kernel()
    assert (kernel.release, kernel.machine) == (os.uname().release, os.uname().machine)


QUESTIONS: dict[str, Callable[[CapturedMachine], object]] = {
    "what answers": lambda m: m.get("http://x", 1, 1),
    "what storage answers": lambda m: m.fetch("http://x", 1, 1),
    "a name": lambda m: m.resolve("x", "127.0.0.1", 1),
    "a route": lambda m: m.route("127.0.0.1"),
    "a unit": lambda m: m.unit("x", []),
    "a lock": lambda m: m.lock_holder("/etc/file"),
    "space": lambda m: m.space(["/etc"], 1),
    "a program": lambda m: m.run(("true",), 1),
    "the kernel": lambda m: m.kernel(),
    "samples": lambda m: m.samples(),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_lives_cannot_be_told_of_a_captured_tree(tree: Path, question: str) -> None:
    """Nothing of this machine is told in its place."""
    with pytest.raises(CannotTell, match="a captured tree"):
        QUESTIONS[question](CapturedMachine(str(tree)))
