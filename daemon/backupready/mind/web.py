"""Who serves strangers? A small threaded HTTP server: GET and HEAD only, with time-outs and a cap on connections.

It reads the newest snapshot and nothing else, so that it answers whatever the machine's disks are doing.
"""

from __future__ import annotations

import contextlib
import html
import json
import socket
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import Callable

from backupready import __version__, report
from backupready.journal import LOG
from backupready.mind.metrics import Exposition
from backupready.model import Snapshot

_REQUEST_TIMEOUT = 5.0  # s for every read and write; a silent client goes after that
_CONNECTION_LIMIT = 15.0  # s for a whole connection, however slowly it drips
_MOST_CONNECTIONS = 32
_HEALTHY_WITHIN = 60.0  # s; the loop turns at least every few seconds


class Site:
    """What is served: functions that give the newest of everything."""

    def __init__(self, newest: Callable[[], Snapshot], exposition: Exposition, loop_age: Callable[[], float]) -> None:
        self._newest = newest
        self._exposition = exposition
        self._loop_age = loop_age

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
            return 200, "text/html; charset=utf-8", self._page().encode()
        return 404, _TEXT, b"there is no such page; try / /metrics /api/v1/status /-/healthy /-/ready\n"

    def _page(self) -> str:
        snapshot = self._newest()
        body = html.escape(report.text(snapshot))
        title = html.escape(f"{snapshot.machine.get('name', '')}: {snapshot.verdict.value}")
        return (
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n'
            '<meta name="viewport" content="width=device-width">\n'
            f"<h1>backupready</h1>\n<pre>{body}</pre>\n"
            '<p><a href="/metrics">metrics</a> <a href="/api/v1/status">status as JSON</a></p></html>\n'
        )


_TEXT = "text/plain; charset=utf-8"


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT
    server_version = f"backupready/{__version__}"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: N802 - the name is the library's
        self._answer(with_body=True)

    def do_HEAD(self) -> None:  # noqa: N802
        self._answer(with_body=False)

    def _answer(self, with_body: bool) -> None:
        path = self.path.split("?", 1)[0]
        status, content_type, body = self.server.site.answer(path, self.headers.get("Accept") or "")
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Connection", "close")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not news."""


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], site: Site) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.site = site
        self._open: dict[socket.socket, float] = {}
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        super().__init__(address, _Handler)

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
        self._open[request] = time.monotonic()
        try:
            super().process_request_thread(request, client_address)
        finally:
            del self._open[request]
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is not news; anything else is a defect of ours."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            LOG.error("a page broke", exc_info=error)

    def service_actions(self) -> None:
        """End connections that take too long; the library calls this twice a second."""
        oldest = time.monotonic() - _CONNECTION_LIMIT
        for connection, since in list(self._open.items()):
            if since < oldest:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


class WebServer:
    """Listens on every address; each listener has a thread of its own. Raises OSError where it cannot listen."""

    def __init__(self, addresses: tuple[tuple[str, int], ...], site: Site) -> None:
        self._servers: list[_Server] = []
        self._threads: list[threading.Thread] = []
        try:
            for address in addresses:
                self._servers.append(_Server(address, site))
        except OSError as error:
            self.close()
            host, port = address
            raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from None
        for server in self._servers:
            thread = threading.Thread(target=server.serve_forever, args=(0.5,), daemon=True)
            thread.start()
            self._threads.append(thread)

    @property
    def addresses(self) -> list[str]:
        """Where it listens, with the real port where 0 was asked for."""
        found = []
        for server in self._servers:
            host, port = server.server_address[:2]
            found.append(f"[{host!s}]:{port}" if ":" in str(host) else f"{host!s}:{port}")
        return found

    def close(self) -> None:
        """Stop listening."""
        if self._threads:
            for server in self._servers:
                server.shutdown()  # waits for its loop to end, which a closed socket would send spinning
        for server in self._servers:
            with contextlib.suppress(OSError):
                server.server_close()
