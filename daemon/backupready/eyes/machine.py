"""How is the machine read? The only door: files, processes, HTTP, units and clocks, each bounded.

LiveMachine reads the machine it runs on, or an emulated guest whose files lie below another root. CapturedMachine
reads a captured tree: what the tree does not hold cannot be told, and nothing live is asked.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from backupready.model import Absent, Answer, CannotTell, Cursor, FileStatus, Process, Unreachable

READ_LIMIT = 1 << 20  # bytes; no file that is read whole is near this
LOG_LIMIT = 1 << 20  # bytes; an hour of verbose log
BODY_LIMIT = 64 << 10  # bytes; the longest answer that a probe needs is under 2 kB
_NAMES_LIMIT = 200_000
_TOOL_TIMEOUT = 5.0  # s

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
                        raise CannotTell(f"cannot list {path}: it has more than {_NAMES_LIMIT} entries")
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

    def get(self, url: str, timeout: float, budget: float) -> Answer:
        # Imported here: they are needed for seconds in a minute, and the judge's process never needs them.
        import requests
        import tenacity
        import urllib3

        attempts = 0

        def once() -> Answer:
            nonlocal attempts
            attempts += 1
            started = time.monotonic()
            with requests.Session() as session:
                session.trust_env = False  # no proxy, no netrc: the fabric is always asked directly
                # Nobody here needs compression, and a few hundred compressed bytes can be hundreds of megabytes.
                headers_sent = {"Connection": "close", "Accept-Encoding": "identity"}
                options: Any = {"timeout": timeout, "stream": True, "allow_redirects": False}
                with session.get(url, headers=headers_sent, **options) as response:
                    body = response.raw.read(BODY_LIMIT) or b""
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    return Answer(response.status_code, headers, body, time.monotonic() - started, attempts)

        trouble = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(trouble),
            stop=tenacity.stop_any(tenacity.stop_after_attempt(3), tenacity.stop_after_delay(budget - timeout)),
            wait=tenacity.wait_fixed(0.2),
            reraise=True,
        )
        outcome: list[Answer | BaseException] = []

        def ask() -> None:
            try:
                outcome.append(retrying(once))
            except trouble as error:
                outcome.append(error)

        # A server that drips resets the time-out of every read, so that only a thread can keep the budget. One that
        # is given up ends with this short-lived process.
        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(budget)
        if not outcome:
            raise Unreachable("timed_out", f"the answer was not complete after {budget:g} s", attempts)
        if isinstance(outcome[0], Answer):
            return outcome[0]
        raise Unreachable(*_how(outcome[0]), attempts)

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        command = ["systemctl", "show", "--no-pager", f"--property={','.join(properties)}", "--", name]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TOOL_TIMEOUT,
                check=False,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
            )
        except FileNotFoundError:
            raise CannotTell("cannot ask the service manager: there is no systemctl") from None
        except subprocess.TimeoutExpired:
            raise CannotTell(f"cannot ask the service manager: no answer in {_TOOL_TIMEOUT:g} s") from None
        except OSError as error:
            raise CannotTell(f"cannot ask the service manager: {error.strerror}") from None
        if done.returncode != 0:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["it failed"]
            raise CannotTell(f"cannot ask the service manager: {words[0]}")
        pairs = (line.partition("=") for line in done.stdout.decode("utf-8", "replace").splitlines())
        return {key: value for key, _, value in pairs}


def _how(error: BaseException) -> tuple[str, str]:
    """One word for how an endpoint failed, and the system's own words, out of the chain of causes."""
    chain: list[BaseException] = []
    todo: list[Any] = [error]
    while todo:
        link = todo.pop()
        if not isinstance(link, BaseException) or link in chain:
            continue
        chain.append(link)
        todo += [link.__cause__, link.__context__, getattr(link, "reason", None), *link.args]
    number = next((link.errno for link in chain if isinstance(link, OSError) and link.errno), None)
    words = {
        errno.ECONNREFUSED: "refused",
        errno.ETIMEDOUT: "timed_out",
        errno.ENETUNREACH: "no_route",
        errno.EHOSTUNREACH: "no_route",
        errno.ECONNRESET: "reset",
        errno.EPERM: "forbidden",
        errno.EACCES: "forbidden",
    }
    names = {type(link).__name__ for link in chain}
    if number in words:
        return words[number], os.strerror(number)
    if any("Timeout" in name or name == "timeout" for name in names):
        return "timed_out", "no answer in time"
    return "failed", str(chain[-1])[:200]


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

    def get(self, url: str, timeout: float, budget: float) -> Answer:
        raise CannotTell("a captured tree cannot say what answers on the network")

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        raise CannotTell("a captured tree cannot say what the service manager knows")

    def _missing(self, path: str) -> Exception:
        # Missing is only what stands in a directory that was captured; the rest nobody has looked at.
        parent = self._locate(path).parent
        if parent != self.root.resolve() and parent.is_dir():
            return Absent(path)
        return CannotTell(f"{path} is not in the captured tree")
