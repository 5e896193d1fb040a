"""Who serves strangers? A small threaded HTTP server: GET and HEAD only, with time-outs and a cap on connections.

It reads the newest snapshot and nothing else, so that it answers whatever the machine's disks are doing. Where a file
of exporter-toolkit's format is set, it speaks TLS and asks who comes; the handshake and slow passwords are each
connection's own thread's. Root asks at a socket of its own, whose mode is the password and which no stranger can fill.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import json
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Callable

from backupready import __version__, report
from backupready.config import Config, ConfigError, Mistake
from backupready.journal import LOG
from backupready.mind import page, service
from backupready.mind.metrics import Exposition
from backupready.mind.page import Past
from backupready.mind.style import POLICY
from backupready.mind.webconfig import Passwords, WatchedFile, WebConfig, credentials_directory
from backupready.model import Problem, Remedy, Snapshot

_REQUEST_TIMEOUT = 5.0  # s for every read and write; a silent client goes after that
_CONNECTION_LIMIT = 15.0  # s for a whole connection, however slowly it drips
_MOST_CONNECTIONS = 32  # of strangers, at each address
_MOST_OWN = 8  # at the status socket
_TURN = 0.5  # s; how soon a listener sees that it is closed, or that a connection takes too long
_TAKEN_WITHIN = 1.0  # s; whoever listens on a socket takes a connection at once
_RELOAD_WAIT = 2.0  # s
_HEALTHY_WITHIN = 60.0  # s; the loop turns at least every few seconds


class Site:
    """What is served: functions that give the newest of everything. `known` are the problems that have a page,
    `remedies_for` gives what may be done about one, by its code, and `runbook` any page of the runbook in Markdown, by
    its file name."""

    def __init__(
        self,
        newest: Callable[[], Snapshot],
        exposition: Exposition,
        loop_age: Callable[[], float],
        past: Callable[[], Past] = Past,
        known: Sequence[Problem] = (),
        remedies_for: Callable[[str], Sequence[Remedy]] = lambda code: (),
        runbook: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self._newest = newest
        self._exposition = exposition
        self._loop_age = loop_age
        self._past = past
        self._known = {problem.code: problem for problem in known}
        self._remedies_for, self._runbook = remedies_for, runbook

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        if path == "/metrics":
            return (200, *self._exposition.render(accept))
        if path == "/api/v1/status":
            body = json.dumps(report.document(self._newest()), indent=2, ensure_ascii=False) + "\n"
            return 200, "application/json; charset=utf-8", body.encode()
        if path == "/-/healthy":
            age = self._loop_age()
            if age > _HEALTHY_WITHIN:
                return 503, _TEXT, f"the loop has not turned for {age:.0f} s\n".encode()
            return 200, _TEXT, b"healthy\n"
        if path == "/-/ready":
            if all(run.last_run is None for run in self._newest().probes):
                return 503, _TEXT, b"no probe has looked yet\n"
            return 200, _TEXT, b"ready\n"
        if path == "/":
            return 200, _HTML, page.status(self._newest(), self._past())
        if path == "/problems/":
            return 200, _HTML, page.problems(self._known.values())
        folder, _, name = path[1:].rpartition("/")
        code = {"problems": name, "runbook": name[: -len(".md")].upper()}.get(folder, "")
        if code in self._known:
            return 200, _HTML, page.problem(self._known[code], self._remedies_for(code))
        if folder == "runbook" and (text := self._runbook(name or "README.md")) is not None:
            return 200, _TEXT, text.encode()  # as a browser shows it, and does not save it
        return 404, _TEXT, _NO_SUCH_PAGE


_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_NO_SUCH_PAGE = b"there is no such page; try / /metrics /api/v1/status /problems/ /runbook/ /-/healthy /-/ready\n"
_FENCE = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
}
_TLS_HANDSHAKE = b"\x16"  # the first byte of every TLS client
_NOT_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nhere is TLS; ask https://\n"
)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT
    server_version = f"backupready/{__version__}"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def __init__(self, request: socket.socket, client_address: object, server: _Server, config: WebConfig) -> None:
        self._config = config
        super().__init__(request, client_address, server)

    def do_GET(self) -> None:  # noqa: N802 - the name is the library's
        self._answer(with_body=True)

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        extra: dict[str, str] = {}
        right = self._is_user() if self._config.users else True
        if right:
            path = self.path.split("?", 1)[0]
            status, content_type, body = self.server.site.answer(path, self.headers.get("Accept") or "")
        elif right is None:
            status, content_type, body = 503, _TEXT, b"too many passwords wait to be checked; ask again\n"
            extra["Retry-After"] = "5"
        else:
            status, content_type, body = 401, _TEXT, b"a name and a password are needed\n"
            extra["WWW-Authenticate"] = 'Basic realm="backupready", charset="UTF-8"'
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        for name, value in extra.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _is_user(self) -> bool | None:
        """None where it cannot be told for now."""
        scheme, _, encoded = (self.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            name, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
            return self.server.passwords.right(self._config.users, name.decode(), password)
        except ValueError:
            return False

    def end_headers(self) -> None:
        """Every answer is fenced, the library's own too."""
        for name, value in {**_FENCE, **self._config.headers}.items():
            if value:
                self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        where: tuple[str, int] | socket.socket,
        site: Site,
        file: WatchedFile | None,
        passwords: Passwords,
        most: int,
    ) -> None:
        self.site = site
        self.passwords = passwords
        self._file = file
        self._open: dict[int, tuple[socket.socket, float]] = {}  # by thread: its connection, and since when
        self._places = threading.BoundedSemaphore(most)
        if isinstance(where, socket.socket):
            super().__init__(("", 0), _Handler, bind_and_activate=False)  # type: ignore[arg-type]
            self.socket.close()
            self.socket = where
            self.server_address = where.getsockname()
        else:
            if where[0] == "::" and not _has_ipv6():
                where = ("0.0.0.0", where[1])
            self.address_family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
            super().__init__(where, _Handler)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6 and self.server_address[0] == "::":
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()  # no thread could be started, which would have done it
            raise

    def process_request_thread(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        thread = threading.get_ident()
        self._open[thread] = request, time.monotonic()
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._open[thread]
            self._places.release()

    def finish_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        config = self._file.newest() if self._file is not None else WebConfig()
        if config.tls is None:
            _Handler(request, client_address, self, config)
            return
        request.settimeout(_Handler.timeout)
        first = request.recv(1, socket.MSG_PEEK)
        if first != _TLS_HANDSHAKE:
            if first:
                request.sendall(_NOT_TLS)
            return
        with config.tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False) as secured:
            thread = threading.get_ident()
            self._open[thread] = secured, self._open[thread][1]
            secured.do_handshake()
            if config.admits(secured.getpeercert()):
                _Handler(secured, client_address, self, config)
                secured.settimeout(0)
                with contextlib.suppress(OSError, ValueError):
                    secured.unwrap()  # says that this is the end, and waits for no answer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is not news; anything else is a defect of ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            LOG.error("a page broke", exc_info=error)

    def service_actions(self) -> None:
        """End connections that take too long; the library calls this at every turn."""
        oldest = time.monotonic() - _CONNECTION_LIMIT
        for connection, since in list(self._open.values()):
            if since < oldest:
                with contextlib.suppress(OSError):
                    # Not a TLS connection's own, which would go on in the clear.
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _has_ipv6() -> bool:
    """Whether the kernel has it at all; hardened machines often do not."""
    try:
        with socket.socket(socket.AF_INET6):
            return True
    except OSError as error:
        return error.errno != errno.EAFNOSUPPORT


class WebServer:
    """Listens on every address, and on sockets that others have made; each has a thread of its own. `file` says how
    these are guarded. At `own`, of `status_socket`, everything is told in the clear. Raises OSError where it cannot
    listen."""

    def __init__(
        self,
        addresses: tuple[tuple[str, int], ...],
        site: Site,
        inherited: Sequence[socket.socket] = (),
        file: WatchedFile | None = None,
        own: socket.socket | None = None,
    ) -> None:
        self._file = file
        self._own = own
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []
        passwords = Passwords()
        try:
            for address in addresses:
                self._servers.append(_Server(address, site, file, passwords, _MOST_CONNECTIONS))
        except OSError as error:
            self.close()
            host, port = address
            raise OSError(error.errno, f"cannot listen on {_joined(host, port)}: {error.strerror}") from None
        self._servers += [_Server(one, site, file, passwords, _MOST_CONNECTIONS) for one in inherited]
        if own is not None:
            self._servers.append(_Server(own, site, None, passwords, _MOST_OWN))
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(_TURN,), daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def addresses(self) -> list[str]:
        """Where it listens for others, with the real port where 0 was asked for; a unix socket by its path."""
        found = []
        for server in self._servers:
            if server.socket is self._own:
                continue
            where = server.server_address
            found.append(_joined(*where[:2]) if isinstance(where, tuple) else f"unix:{where!s}")
        return found

    @property
    def scheme(self) -> str:
        """http or https, as it is now."""
        return "https" if self._file is not None and self._file.newest().tls is not None else "http"

    @property
    def config_is_right(self) -> bool | None:
        """Whether the newest reading of the file that guards it could be used; None where there is none."""
        return None if self._file is None else self._file.successful

    def reload(self) -> None:
        """Take the file that guards it as it is now. Who asks is not kept by a file system that hangs."""
        if self._file is not None:
            thread = threading.Thread(target=self._file.reload, daemon=True)
            thread.start()
            thread.join(_RELOAD_WAIT)

    def close(self) -> None:
        """Stop listening."""
        if self._own is not None:
            with contextlib.suppress(OSError):
                Path(self._own.getsockname()).unlink()  # first, so that a successor finds either none or its own
        if self._threads:
            for server in self._servers:
                server.shutdown()  # waits for its loop to end, which a closed socket would send spinning
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.server_close()


def _joined(host: object, port: object) -> str:
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def status_socket(path: Path) -> socket.socket:
    """Listens there for root and this very user, in the place of a socket on which nobody listens any more. Raises
    OSError, which says what is in the way."""
    made = socket.socket(socket.AF_UNIX)
    try:
        if path.is_socket():
            if _is_taken(path):
                raise OSError(errno.EADDRINUSE, "another daemon listens there")
            path.unlink()
        made.bind(str(path))
        path.chmod(0o600)  # before anybody can connect
        made.listen(_MOST_OWN)
    except BaseException:
        made.close()
        raise
    return made


def _is_taken(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_TAKEN_WITHIN)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True


def _own_socket(config: Config) -> socket.socket | None:
    """The status socket that the settings ask for; None, and a word in the journal, where it cannot be made. Without
    the service manager its default directory is not there, and nobody misses it."""
    path, origin = config["web.status_socket"], config.values["web.status_socket"].origin
    if not path or (origin == "default" and not Path(path).parent.is_dir()):
        return None
    try:
        return status_socket(Path(path))
    except OSError as error:
        what = error.strerror or error
        LOG.warning("cannot listen on web.status_socket %s: %s; root is answered as everybody else is", path, what)
        return None


def listening(config: Config, site: Site) -> WebServer:
    """The server that the settings ask for. The default address is left where something else is asked for: sockets of
    the service manager, or the text file. Raises ConfigError, and OSError where it cannot listen."""
    inherited: list[socket.socket] = []
    if config["web.systemd_socket"]:
        inherited = service.inherited_sockets()
        if not inherited:
            origin = config.values["web.systemd_socket"].origin
            what = "web.systemd_socket: the service manager has handed over no socket that listens"
            raise ConfigError([Mistake(origin, 0, what, "is there a socket unit with Service=backupready.service?")])
    is_default = config.values["web.listen_address"].origin == "default"
    addresses = config["web.listen_address"]
    if is_default and (inherited or config["textfile.path"]):
        addresses = ()
    file = None
    if config["web.config_file"]:
        file = WatchedFile(Path(config["web.config_file"]), credentials_directory())
    own = _own_socket(config)
    try:
        return WebServer(addresses, site, inherited, file, own)
    except OSError:
        if own is not None:
            own.close()
        raise
