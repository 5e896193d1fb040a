"""How is the machine read? The only door: files, processes, HTTP, units and clocks, each bounded.

LiveMachine reads the machine it runs on, or an emulated guest whose files lie below another root. CapturedMachine
reads a captured tree: what the tree does not hold cannot be told, and nothing live is asked.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import platform
import re
import selectors
import shutil
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO

import psutil

from backupready.eyes import network
from backupready.model import (
    Absent,
    Answer,
    CannotTell,
    Cursor,
    Fetched,
    FileStatus,
    Fixes,
    Kernel,
    Outlook,
    Process,
    Ran,
    Resolved,
    Route,
    Sample,
    Space,
    Spaces,
    TooMany,
    Unreachable,
)

READ_LIMIT = 1 << 20  # bytes; no file that is read whole is near this
LOG_LIMIT = 1 << 20  # bytes; an hour of verbose log
OUTPUT_LIMIT = 256 << 10  # bytes of what a program prints
_ERRORS_LIMIT = 4000  # characters
_NAMES_LIMIT = 200_000
_MOST_SIZED = 200_000  # files that are counted for their sizes
_SIZED_IN_TURN = 100
_TOOL_TIMEOUT = 5.0  # s
_LAST_WORDS = 0.05  # s for a child that may just be ending
_ROUTE_TIMEOUT = 2.0  # s
_START_TIMEOUT = 5.0  # s; an interpreter on a busy machine
_WITHOUT_PRIVILEGES = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs", "--")
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

# One thread a path, since each may be the one that does not come back.
_ASK_FOR_SPACE = """
import json, os, sys, threading
def ask(path):
    try:
        found = os.statvfs(path)
        total, available, free = (n * found.f_frsize for n in (found.f_blocks, found.f_bavail, found.f_bfree))
        line = [path, 0, total, available, found.f_files, found.f_ffree, free]
    except OSError as error:
        line = [path, error.errno]
    os.write(1, (json.dumps(line) + "\\n").encode())
os.write(1, b"\\n")
for path in sys.argv[1:]:
    threading.Thread(target=ask, args=(path,)).start()
"""

# psutil reads its process table below a module-wide path.
_procfs = threading.Lock()


class _Tree:
    """The files and processes below a root."""

    def __init__(self, root: str = "/", memory: Mapping[str, Any] | None = None) -> None:
        self.root = Path(root)
        self.memory: Mapping[str, Any] = memory or {}

    # ---- files

    def read(self, path: str, limit: int = READ_LIMIT) -> bytes:
        with self._open(path) as file:
            data = self._from(file, path, limit + 1)
        if len(data) > limit:
            raise CannotTell(f"cannot read {path}: it has more than {limit} bytes")
        return data

    def read_new(self, path: str, cursor: Cursor | None, limit: int = LOG_LIMIT) -> tuple[bytes, Cursor, int]:
        with self._open(path) as file:
            metadata = os.fstat(file.fileno())
            before, start = b"", 0
            if cursor is not None and cursor.inode == metadata.st_ino:
                start = cursor.offset if cursor.offset <= metadata.st_size else 0  # else it was truncated
            lost = 0
            if cursor is not None and cursor.inode != metadata.st_ino:
                before, lost = self._rotated(path, cursor, limit)
            skipped = max(0, metadata.st_size - start - limit)
            file.seek(start + skipped)
            data = self._from(file, path, limit)
        # A record that is still being written is read at the next look.
        end = data.rfind(b"\n") + 1
        kept, position = data[:end], start + skipped + end
        return before + kept, Cursor(metadata.st_ino, position), skipped + lost

    def _rotated(self, path: str, cursor: Cursor, limit: int) -> tuple[bytes, int]:
        """The unread end of the file that stood at `path` before it was rotated, and how many bytes of it were
        skipped: 1, since it is not known how many, if it cannot be found (it has been compressed at once, say)."""
        directory, _, name = path.rpartition("/")
        for other in self.names(directory):
            if not other.startswith(name) or other == name or other.endswith(".gz"):
                continue
            try:
                with self._open(f"{directory}/{other}") as file:
                    metadata = os.fstat(file.fileno())
                    if metadata.st_ino == cursor.inode:
                        skipped = max(0, metadata.st_size - cursor.offset - limit)
                        file.seek(cursor.offset + skipped)
                        end = self._from(file, path, limit)
                        # What was not finished there is not finished by the new file's first line.
                        return end + b"\n" if end and not end.endswith(b"\n") else end, skipped
            except (Absent, CannotTell):
                continue
        return b"", 1

    def _from(self, file: BinaryIO, path: str, limit: int) -> bytes:
        try:
            return file.read(limit)
        except OSError as error:
            raise self._trouble("read", path, error) from None

    def names(self, path: str) -> tuple[str, ...]:
        try:
            with os.scandir(self._locate(path)) as entries:
                names: list[str] = []
                for entry in entries:
                    if len(names) == _NAMES_LIMIT:
                        raise TooMany(f"cannot list {path}: it has more than {_NAMES_LIMIT} entries")
                    names.append(entry.name)
        except OSError as error:
            raise self._trouble("list", path, error) from None
        return tuple(sorted(names))

    def status(self, path: str) -> FileStatus:
        try:
            found = self._locate(path).stat()
        except OSError as error:
            raise self._trouble("look at", path, error) from None
        kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory"}
        return FileStatus(
            kind=kinds.get(stat.S_IFMT(found.st_mode), "other"),
            size=found.st_size,
            mode=stat.S_IMODE(found.st_mode),
            owner=found.st_uid,
            modified=found.st_mtime,
            inode=found.st_ino,
        )

    def target(self, path: str) -> str:
        _must_be_possible(path)
        place = self._locate(path.rpartition("/")[0] or "/") / path.rpartition("/")[2]
        try:
            return os.readlink(place)  # noqa: PTH115 - the text, not a path
        except OSError as error:
            if error.errno == errno.EINVAL:  # it is something else than a link
                raise Absent(f"link {path}") from None
            raise self._trouble("read the link", path, error) from None

    def label(self, path: str) -> str:
        try:
            return os.getxattr(self._locate(path), "security.selinux").rstrip(b"\0").decode("utf-8", "replace")
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.ENOTSUP):
                raise Absent(f"label of {path}") from None
            raise self._trouble("read the label of", path, error) from None

    def largest(self, path: str, seconds: float) -> tuple[tuple[str, int], ...]:
        place = self._locate(path)
        try:
            device = place.stat().st_dev
            entries = list(os.scandir(place))
        except OSError as error:
            raise self._trouble("list", path, error) from None
        deadline = time.monotonic() + seconds
        sizes: dict[str, int] = {}
        # A little of each in turn, so that where time runs out none of them has been left out.
        walks = [(entry.name, [entry]) for entry in entries]
        counted = 0
        while walks and counted < _MOST_SIZED and time.monotonic() < deadline:
            for name, todo in walks:
                for _ in range(min(len(todo), _SIZED_IN_TURN)):
                    counted += 1
                    one = todo.pop()
                    try:
                        found = one.stat(follow_symlinks=False)
                        if found.st_dev != device:
                            continue
                        sizes[name] = sizes.get(name, 0) + found.st_blocks * 512
                        if stat.S_ISDIR(found.st_mode):
                            todo += os.scandir(one.path)
                    except OSError:
                        continue
            walks = [(name, todo) for name, todo in walks if todo]
        return tuple(sorted(sizes.items(), key=lambda size: -size[1]))

    def _open(self, path: str) -> BinaryIO:
        """A regular file, opened so that neither a pipe nor a device can hold us."""
        try:
            descriptor = os.open(self._locate(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._trouble("read", path, error) from None
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise CannotTell(f"cannot read {path}: it is no regular file")
        return os.fdopen(descriptor, "rb")

    def _locate(self, path: str) -> Path:
        """Where a guest's path lies for us. A link that leads out of the root is not followed."""
        _must_be_possible(path)
        plain = Path(path)
        if self.root == Path("/"):
            return plain
        try:
            inside = (self.root / path.lstrip("/")).resolve()
            inside.relative_to(self.root.resolve())
        except (ValueError, OSError, RuntimeError):
            raise CannotTell(f"cannot read {path}: it leads out of {self.root}") from None
        return inside

    def _trouble(self, verb: str, path: str, error: OSError) -> Exception:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return self._missing(path)
        return CannotTell(f"cannot {verb} {path}: {error.strerror}")

    def _missing(self, path: str) -> Exception:
        return Absent(path)

    # ---- processes

    def processes(self) -> tuple[Process, ...]:
        table = self.root / "proc"
        if not (table / "stat").exists():
            raise CannotTell(f"cannot read the process table: there is no {table}/stat")
        found = []
        with _procfs:
            usual = psutil.PROCFS_PATH
            psutil.PROCFS_PATH = str(table)
            try:
                psutil.boot_time()  # older versions keep what they read first, which may be another machine's
                for pid in psutil.pids():
                    process = self._process(pid)
                    if process is not None:
                        found.append(process)
            except RuntimeError as error:
                raise CannotTell(f"cannot read the process table: {error}") from None
            finally:
                psutil.PROCFS_PATH = usual
        return tuple(found)

    @staticmethod
    def _process(pid: int) -> Process | None:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                return Process(
                    pid=pid,
                    parent=process.ppid(),
                    argv=tuple(_arguments(process)),
                    state=_STATE_LETTERS.get(process.status(), "?"),
                    started=process.create_time(),
                )
        except psutil.AccessDenied:
            # A process that we cannot see must not be taken for one that is not there.
            raise CannotTell("cannot read the process table: processes of others are hidden (hidepid)") from None
        except (psutil.Error, OSError, ValueError, IndexError):
            return None  # it ended while we looked


def _must_be_possible(path: str) -> None:
    """Paths come out of files too, and those may hold what no path can."""
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise CannotTell(f"cannot read {path!r}: it is no possible path")


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.ZombieProcess:
        return []


_STATE_LETTERS = {
    psutil.STATUS_RUNNING: "R",
    psutil.STATUS_SLEEPING: "S",
    psutil.STATUS_DISK_SLEEP: "D",
    psutil.STATUS_STOPPED: "T",
    psutil.STATUS_TRACING_STOP: "t",
    psutil.STATUS_ZOMBIE: "Z",
    psutil.STATUS_DEAD: "X",
    psutil.STATUS_IDLE: "I",
}


class LiveMachine(_Tree):
    """This machine. With a root other than / it is an emulated guest: its files lie there, and of the process table
    only what was started from there belongs to it."""

    def __init__(
        self,
        root: str = "/",
        wire_server: str = "168.63.129.16:80",
        host_plugin: str = "168.63.129.16:32526",
        memory: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(root, memory)
        self.wire_server = wire_server
        self.host_plugin = host_plugin

    @property
    def privileged(self) -> bool:
        return os.geteuid() == 0 or self.root != Path("/")

    def now(self) -> float:
        return time.time()

    def processes(self) -> tuple[Process, ...]:
        if self.root == Path("/"):
            found = super().processes()
            if all(process.pid != 1 for process in found):
                raise CannotTell("cannot read the process table: processes of others are hidden (hidepid)")
            return found
        everything = _Tree("/").processes()
        own = {p.pid for p in everything if any(word.startswith(f"{self.root}/") for word in p.argv)}
        return tuple(process for process in everything if process.pid in own or process.parent in own)

    def get(self, url: str, timeout: float, budget: float, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
        return network.get(url, timeout, budget, headers)

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        return network.fetch(url, timeout, budget, proxy)

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        return network.resolve(name, server, timeout)

    def route(self, address: str) -> Route:
        try:
            ran = self._run(("ip", "-json", "route", "get", address), _ROUTE_TIMEOUT, "ip")
        except Absent:
            raise CannotTell("cannot ask for routes: there is no ip") from None
        if ran.status != 0 and ("RTNETLINK answers" in ran.errors or "unreachable" in ran.errors):
            raise Unreachable("no_route", ran.errors, 1)
        if ran.status != 0:
            raise CannotTell(f"cannot ask for routes: ip says {ran.errors[:80]!r}")
        try:
            found = json.loads(ran.output)[0]
            return Route(str(found["dev"]), str(found.get("gateway", "")), str(found.get("prefsrc", "")))
        except (ValueError, LookupError, TypeError):
            raise CannotTell(f"cannot ask for routes: ip says {ran.output[:80]!r}") from None

    def kernel(self) -> Kernel:
        return Kernel(platform.release(), platform.machine())

    def samples(self) -> tuple[Sample, ...]:
        raise CannotTell("only the resident process has samples")

    def outlook(self) -> Outlook:
        raise CannotTell("only the resident process knows of the backup's windows")

    def fixes(self) -> Fixes:
        raise CannotTell("only the resident process reads what the hands have told")

    def lock_holder(self, path: str) -> int | None:
        asked = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        with self._open(path) as file:
            try:
                kind, _, _, _, pid = struct.unpack("hhqqi", fcntl.fcntl(file, fcntl.F_GETLK, asked))
            except OSError as error:
                raise self._trouble("ask for locks on", path, error) from None
        return None if kind == fcntl.F_UNLCK else max(pid, 0)

    def space(self, paths: Sequence[str], timeout: float) -> Spaces:
        places = {str(self._locate(path)): path for path in paths}
        command = [sys.executable, "-I", "-S", "-c", _ASK_FOR_SPACE, *places]
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise CannotTell(f"cannot ask for space: {error.strerror}") from None
        assert child.stdout is not None
        told: dict[str, Space | CannotTell] = {}
        # Its own start takes long on a busy machine, and is not the file systems' matter: it says when it has started.
        deadline = time.monotonic() + _START_TIMEOUT
        started, data = False, b""
        os.set_blocking(child.stdout.fileno(), False)
        with child.stdout, selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while (left := deadline - time.monotonic()) > 0 and data.count(b"\n") <= len(places):
                if not selector.select(left):
                    break
                piece = child.stdout.read()
                if piece == b"":
                    break
                data += piece or b""
                if data and not started:
                    started, deadline = True, time.monotonic() + timeout
        if not started:
            _leave(child, _LAST_WORDS)
            raise CannotTell(f"cannot ask for space: the child has not started within {_START_TIMEOUT:g} s")
        for line in data.splitlines()[1:]:
            place, number, *counts = json.loads(line)
            path = places[place]
            if number == errno.ENOENT:
                told[path] = CannotTell(f"there is no {path}")
            elif number:
                told[path] = CannotTell(f"cannot ask for the space of {path}: {os.strerror(number)}")
            else:
                told[path] = Space(*counts)
        silent = tuple(path for path in paths if path not in told)
        _leave(child, _LAST_WORDS if silent else timeout)
        return Spaces(told, silent, child.pid if child.returncode is None else 0)

    def run(self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = OUTPUT_LIMIT) -> Ran:
        if self.root == Path("/"):
            program = shutil.which(command[0], path=_PATH)
        else:
            program = str(self._locate(command[0])) if "/" in command[0] else None
        if program is None or not Path(program).exists():
            raise Absent(command[0])
        # Whoever has privileges gives them up first; in the unit's look there are none.
        drop = not privileged and os.geteuid() == 0 and _has_capabilities() and shutil.which("setpriv", path=_PATH)
        return self._run((*(_WITHOUT_PRIVILEGES if drop else ()), program, *command[1:]), timeout, command[0], limit)

    def _run(self, command: Sequence[str], timeout: float, name: str, limit: int = OUTPUT_LIMIT) -> Ran:
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env={"PATH": _PATH, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "PYTHONDONTWRITEBYTECODE": "1"},
            )
        except FileNotFoundError:
            raise Absent(name) from None
        except OSError as error:
            raise CannotTell(f"cannot run {name}: {error.strerror}") from None
        except ValueError:
            raise CannotTell(f"cannot run {name}: its arguments cannot be passed") from None
        assert child.stdout is not None
        assert child.stderr is not None
        deadline = time.monotonic() + timeout
        try:
            with child.stdout, child.stderr:
                limits = {child.stdout.fileno(): limit, child.stderr.fileno(): 4 * _ERRORS_LIMIT}
                (output, cut), (errors, _) = _drain(limits, deadline, child)
            child.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _leave(child, _LAST_WORDS)
            raise CannotTell(f"cannot run {name}: it has not ended after {timeout:g} s") from None
        words = errors.decode("utf-8", "replace").strip()
        return Ran(child.returncode, output, words[:_ERRORS_LIMIT], cut)

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        command = ["systemctl", "show", "--no-pager", f"--property={','.join(properties)}", "--", name]
        try:
            ran = self._run(command, _TOOL_TIMEOUT, "systemctl")
        except Absent:
            raise CannotTell("cannot ask the service manager: there is no systemctl") from None
        except CannotTell as error:
            raise CannotTell(f"cannot ask the service manager: {error.why}") from None
        if ran.status != 0:
            raise CannotTell(f"cannot ask the service manager: {(ran.errors.splitlines() or ['it failed'])[0]}")
        shown: dict[str, str] = {}
        for line in ran.output.decode("utf-8", "replace").splitlines():
            key, _, value = line.partition("=")
            shown[key] = f"{shown[key]}\n{value}" if key in shown else value
        return shown


def _drain(limits: Mapping[int, int], deadline: float, child: subprocess.Popen[bytes]) -> list[tuple[bytes, bool]]:
    """What comes out of pipes until all are closed, of each no more than its limit, and whether there was more: that is
    read and dropped, so that the program ends by itself. Raises TimeoutExpired."""
    kept = {pipe: bytearray() for pipe in limits}
    cut = dict.fromkeys(limits, False)
    with selectors.DefaultSelector() as selector:
        for pipe in limits:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0 or not (ready := selector.select(left)):
                raise subprocess.TimeoutExpired(child.args, 0.0)
            for key, _ in ready:
                piece = os.read(key.fd, 65536)
                room = limits[key.fd] - len(kept[key.fd])
                kept[key.fd] += piece[:room]
                cut[key.fd] = cut[key.fd] or len(piece) > room
                if not piece:
                    selector.unregister(key.fd)
    return [(bytes(kept[pipe]), cut[pipe]) for pipe in limits]


def _leave(child: subprocess.Popen[bytes], seconds: float) -> None:
    """End a child that has not ended by itself after so many seconds, or leave it behind: one that waits in the kernel
    cannot be ended, and in the unit's look nobody may send a signal; there the service manager ends what is left."""
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(PermissionError):
            child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(0.5)


def _has_capabilities() -> bool:
    """Whether this process has anything to lose."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return True
    return not re.search(r"(?m)^CapBnd:\s*0+$", status)


class CapturedMachine(_Tree):
    """A captured tree (etc, var, run, proc below a directory), at the moment `at` if that is known."""

    wire_server = "168.63.129.16:80"
    host_plugin = "168.63.129.16:32526"
    privileged = True

    def __init__(self, root: str, at: float | None = None, memory: Mapping[str, Any] | None = None) -> None:
        super().__init__(root, memory)
        self._at = at

    def now(self) -> float:
        if self._at is None:
            raise CannotTell("a captured tree has no clock; --at says when it was captured")
        return self._at

    def get(self, url: str, timeout: float, budget: float, headers: Mapping[str, str] = _NO_HEADERS) -> Answer:
        raise CannotTell("a captured tree cannot say what answers on the network")

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        raise CannotTell("a captured tree cannot say what answers on the network")

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        raise CannotTell("a captured tree cannot say what answers on the network")

    def route(self, address: str) -> Route:
        raise CannotTell("a captured tree cannot say which way packets would go")

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        raise CannotTell("a captured tree cannot say what the service manager knows")

    def lock_holder(self, path: str) -> int | None:
        raise CannotTell("a captured tree cannot say who holds a lock")

    def space(self, paths: Sequence[str], timeout: float) -> Spaces:
        raise CannotTell("a captured tree cannot say how much space was left")

    def run(self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = OUTPUT_LIMIT) -> Ran:
        raise CannotTell("a captured tree cannot run programs")

    def kernel(self) -> Kernel:
        raise CannotTell("a captured tree cannot say which kernel ran")

    def samples(self) -> tuple[Sample, ...]:
        raise CannotTell("a captured tree cannot say how busy the machine was")

    def outlook(self) -> Outlook:
        raise CannotTell("a captured tree cannot say when its backups are due")

    def fixes(self) -> Fixes:
        raise CannotTell("a captured tree cannot say what was fixed")

    def _missing(self, path: str) -> Exception:
        # Missing is only what stands in a directory that was captured; the rest nobody has looked at.
        parent = self._locate(path).parent
        if parent != self.root.resolve() and parent.is_dir():
            return Absent(path)
        return CannotTell(f"{path} is not in the captured tree")
