"""Who serves strangers: routes, headers, time-outs and the cap, over real loopback sockets."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import struct
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from backupready import probes, report
from backupready.mind import page, web
from backupready.mind.metrics import Exposition
from backupready.mind.page import Past
from backupready.mind.style import POLICY
from backupready.mind.web import Site, WebServer
from backupready.model import Finding, Snapshot
from fake import looked, probe, problem, remedy, snapshot

pytestmark = pytest.mark.integration

HOSTILE = "<script>alert(1)</script>\"'&"
BROKEN, MENDS = problem("BROKEN"), remedy(problems=("BROKEN",))
KNOWN = [probe("thing", [BROKEN])]


@dataclass
class Served:
    """A server of one snapshot, which the test may replace."""

    newest: Snapshot
    age: float = 0.0
    port: int = 0

    def ask(
        self, path: str, method: str = "GET", host: str = "127.0.0.1", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(host, self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def serve(served: Served, *addresses: tuple[str, int]) -> WebServer:
    exposition = Exposition(lambda: served.newest, probes.METRICS)
    site = Site(
        lambda: served.newest,
        exposition,
        lambda: served.age,
        known=[BROKEN],
        remedies_for=lambda code: [MENDS] if code == "BROKEN" else [],
        runbook={"README.md": "# Runbook\n", "an_alert.md": "# BackupreadyAnAlert ä\n"}.get,
    )
    server = WebServer(addresses or (("127.0.0.1", 0),), site)
    served.port = int(server.addresses[0].rpartition(":")[2])
    return server


@pytest.fixture(scope="module")
def listening() -> Iterator[Served]:
    """One server for the whole module: closing one takes a moment."""
    served = Served(snapshot())
    server = serve(served)
    yield served
    server.close()


@pytest.fixture
def served(listening: Served) -> Served:
    """The server, healthy and with a machine that is blocked and says hostile things."""
    listening.newest = snapshot(
        looked("thing", Finding("BROKEN", "k", {"log": HOSTILE})), known=KNOWN, facts={"name": HOSTILE}
    )
    listening.age = 0.0
    return listening


# ------------------------------------------------------------------------------------------------------- routes


def test_the_status_page_is_a_page(served: Served) -> None:
    """Of the newest snapshot, and nothing of the machine's own words as markup."""
    status, headers, body = served.ask("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == page.status(served.newest, Past())
    assert b"<script" not in body
    assert body.count(b"&lt;script&gt;") == 3  # in the title, as the machine's name, and in the evidence


def test_the_runbook_is_served(served: Served) -> None:
    """The list, and a page for each problem with what may be done about it."""
    status, headers, body = served.ask("/problems/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == page.problems([BROKEN])
    status, headers, body = served.ask("/problems/BROKEN")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == page.problem(BROKEN, [MENDS])


def test_the_runbook_is_served_by_the_names_of_its_files(served: Served) -> None:
    """So that an alert's link can lead to the machine: a problem's page as a page, any other as it is written."""
    assert served.ask("/runbook/broken.md")[2] == served.ask("/problems/BROKEN")[2]
    for path, text in (("/runbook/", b"# Runbook\n"), ("/runbook/an_alert.md", "# BackupreadyAnAlert ä\n".encode())):
        status, headers, body = served.ask(path)
        assert (status, headers["content-type"], body) == (200, "text/plain; charset=utf-8", text)
    for path in ("/runbook/no_such.md", "/runbook/../an_alert.md", "/runbook/broken", "/x/an_alert.md", "/runbook"):
        assert served.ask(path)[0] == 404


@pytest.mark.parametrize("path", ["/", "/problems/", "/problems/BROKEN"])
def test_every_link_leads_somewhere(served: Served, path: str) -> None:
    """From where it stands, to a page that is served."""
    links = set(re.findall(r'href="([^"]+)"', served.ask(path)[2].decode()))
    ours = {link for link in links if "://" not in link}
    assert ours
    assert {link for link in ours if served.ask(urllib.parse.urljoin(path, link))[0] != 200} == set()


def test_the_status_as_json(served: Served) -> None:
    """The same document as the command line's."""
    status, headers, body = served.ask("/api/v1/status")
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert json.loads(body) == report.document(served.newest)


def test_the_metrics_in_both_formats(served: Served) -> None:
    """By what the client accepts."""
    status, headers, body = served.ask("/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert b'backupready_verdict{verdict="blocked"} 1\n' in body
    status, headers, body = served.ask("/metrics", Accept="application/openmetrics-text;version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_the_newest_snapshot_is_served(served: Served) -> None:
    """Without a restart and without a cache."""
    served.newest = snapshot(looked("thing"), known=KNOWN)
    assert json.loads(served.ask("/api/v1/status")[2])["verdict"] == "ready"


def test_a_query_does_not_matter(served: Served) -> None:
    """Nothing is taken from a request but its path."""
    assert served.ask("/-/healthy?x=/../..")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/metrics/",
        "/../etc/passwd",
        "/%2e%2e/",
        "/-/",
        "/api/v1",
        "*",
        "/problems",
        "/problems/broken",
        "/problems/BROKEN/",
        "/problems/NO_SUCH_THING",
        "/problems/<b>",
    ],
)
def test_there_is_no_other_page(served: Served, path: str) -> None:
    """404, with the pages that there are, and nothing of the request in it."""
    status, headers, body = served.ask(path)
    assert (status, headers["content-type"]) == (404, "text/plain; charset=utf-8")
    assert body == b"there is no such page; try / /metrics /api/v1/status /problems/ /runbook/ /-/healthy /-/ready\n"


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/status", "/-/healthy", "/-/ready", "/nothing"])
def test_head_is_get_without_a_body(served: Served, path: str) -> None:
    """The same status and the same length."""
    status, headers, body = served.ask(path, "HEAD")
    again = served.ask(path)
    assert (status, headers["content-type"], body) == (again[0], again[1]["content-type"], b"")
    assert abs(int(headers["content-length"]) - len(again[2])) < 100  # the process's own numbers vary


def test_an_answer_to_head_ends_with_its_headers(served: Served) -> None:
    """Not one byte of a body follows."""
    head, _, rest = _raw(served.port, b"HEAD / HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert rest == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW"])
def test_no_other_method_is_known(served: Served, method: str) -> None:
    """There is nothing to change here."""
    assert served.ask("/", method)[0] in (405, 501)


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/status", "/-/healthy", "/-/ready", "/nothing"])
def test_every_answer_is_fenced(served: Served, path: str) -> None:
    """No sniffing, no script, no store, one answer for each connection, and no word of the Python version."""
    _, headers, _ = served.ask(path)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == POLICY
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert headers["connection"] == "close"
    assert headers["server"].strip().startswith("backupready/")
    assert "ython" not in headers["server"]


def test_healthy_while_the_loop_turns(served: Served) -> None:
    """503 when it has not turned for longer than it may, although the server still answers."""
    served.age = 60.0
    assert served.ask("/-/healthy")[::2] == (200, b"healthy\n")
    served.age = 61.0
    assert served.ask("/-/healthy")[::2] == (503, b"the loop has not turned for 61 s\n")
    assert served.ask("/metrics")[0] == 200


def test_ready_after_the_first_look(served: Served) -> None:
    """503 before that."""
    assert served.ask("/-/ready")[::2] == (200, b"ready\n")
    served.newest = snapshot(known=KNOWN)
    assert served.ask("/-/ready")[::2] == (503, b"no probe has looked yet\n")


# ------------------------------------------------------------------------------------------------------ strangers


def _raw(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(data)
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := client.recv(65536):
                answer += piece
    return answer


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xff\x16\x03\x01garbage\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nbad header\r\n\r\n",
        b"\r\n\r\n",
    ],
    ids=["garbage", "no path", "version", "long path", "many headers", "bad header", "blank"],
)
def test_garbage_does_no_harm(served: Served, data: bytes) -> None:
    """Whatever a stranger sends, the next one is answered, and nothing of ours leaks."""
    assert b"Traceback" not in _raw(served.port, data)
    assert served.ask("/-/healthy")[0] == 200


def test_a_refusal_by_the_library_does_not_carry_what_was_asked_as_markup(served: Served) -> None:
    """The error page of an unknown method is escaped."""
    page = _raw(served.port, b"<script> / HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")[2]
    assert b"&lt;script&gt;" in page
    assert b"<script>" not in page


def test_silent_clients_do_not_keep_a_scrape_from_being_answered(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 that connect and say nothing fill every place; once they are timed out, the scrape is answered."""
    assert 0 < (web._Handler.timeout or 0) <= 5
    monkeypatch.setattr(web._Handler, "timeout", 0.3)
    with contextlib.ExitStack() as silent:
        for _ in range(40):
            silent.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=20))
        deadline = time.monotonic() + 20
        status = 0
        while status != 200 and time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = served.ask("/metrics")[0]
        assert status == 200


def test_no_more_than_32_are_connected_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is ended at once, those before it are not, and a place that is given back is taken."""
    monkeypatch.setattr(web._Handler, "timeout", 60.0)  # which would end them as well
    served = Served(snapshot(known=KNOWN))
    with contextlib.closing(serve(served)), contextlib.ExitStack() as several:
        silent = [
            several.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=20)) for _ in range(32)
        ]
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as one_more:
            assert one_more.recv(1) == b""
        for connection in silent:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
        silent[0].close()
        deadline = time.monotonic() + 20
        status = 0
        while status != 200 and time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = served.ask("/-/healthy")[0]
        assert status == 200


def test_a_client_that_drips_is_ended(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it says a little: the whole connection is limited."""
    monkeypatch.setattr(web, "_CONNECTION_LIMIT", 0.2)
    started = time.monotonic()
    client = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    with client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.settimeout(0.05)
        while True:
            try:
                if not client.recv(1000):
                    break
            except socket.timeout:
                client.sendall(b"X-Drip: 1\r\n")
            assert time.monotonic() - started < 10
    assert time.monotonic() - started < 5


def test_a_page_that_breaks_is_a_defect_and_the_next_is_answered(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    """The place of the connection is given back, and the journal has where it broke."""
    whole = served.newest
    for _ in range(web._MOST_CONNECTIONS + 1):
        served.newest = replace(whole, verdict=None)  # type: ignore[arg-type]
        with contextlib.suppress(OSError, http.client.HTTPException):
            served.ask("/api/v1/status")
    served.newest = whole
    assert served.ask("/api/v1/status")[0] == 200
    broken = [record for record in caplog.records if record.getMessage() == "a page broke"]
    assert len(broken) == web._MOST_CONNECTIONS + 1
    assert all(record.exc_info and record.exc_info[0] is AttributeError for record in broken)


def test_a_client_that_goes_away_is_not_news(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it has asked or not."""
    for data in (b"", b"GET /metrics HTTP/1.1\r\n\r\n"):
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", served.port), timeout=20) as client:
                client.sendall(data)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
    assert served.ask("/-/healthy")[0] == 200
    assert caplog.records == []


# ------------------------------------------------------------------------------------------------------ listeners


def _has_ipv6() -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probing:
        probing.bind(("::1", 0))
        return True
    return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no ::1")
def test_it_listens_on_ipv6_too() -> None:
    """Several addresses, each told with its real port; `::` takes IPv4 as well."""
    served = Served(snapshot(known=KNOWN))
    server = serve(served, ("::1", 0), ("127.0.0.1", 0))
    with contextlib.closing(server):
        assert [address.rpartition(":")[0] for address in server.addresses] == ["[::1]", "127.0.0.1"]
        assert served.ask("/-/healthy", host="::1")[0] == 200
    everywhere = serve(served, ("::", 0))
    with contextlib.closing(everywhere):
        assert served.ask("/-/healthy", host="::1")[0] == 200
        assert served.ask("/-/healthy", host="127.0.0.1")[0] == 200


def test_an_address_that_is_taken_is_named() -> None:
    """The error says which one, and the ones before it are let go."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with socket.socket() as candidate:
            candidate.bind(("127.0.0.1", 0))
            free = candidate.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already in use"):
            serve(Served(snapshot(known=KNOWN)), ("127.0.0.1", free), ("127.0.0.1", port))
    with socket.socket() as again:
        again.bind(("127.0.0.1", free))


def test_an_address_of_another_machine_is_named() -> None:
    """Any failure to listen is told like that."""
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:0: Cannot assign requested address"):
        serve(Served(snapshot(known=KNOWN)), ("192.0.2.1", 0))


def test_a_server_that_is_closed_does_not_listen() -> None:
    """Its port can be taken by the next one at once."""
    served = Served(snapshot(known=KNOWN))
    server = serve(served)
    assert served.ask("/-/healthy")[0] == 200
    server.close()
    deadline = time.monotonic() + 5
    with pytest.raises(ConnectionRefusedError):
        while time.monotonic() < deadline:
            with contextlib.closing(socket.create_connection(("127.0.0.1", served.port), timeout=5)):
                pass


def test_a_server_that_is_closed_leaves_no_thread() -> None:
    """What it started ends with it."""
    before = set(threading.enumerate())
    server = serve(Served(snapshot(known=KNOWN)))
    (thread,) = set(threading.enumerate()) - before
    server.close()
    thread.join(2)
    assert not thread.is_alive()
