"""Who is let in over TLS and with a password, and who is not, over real loopback sockets."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

import bcrypt
import pytest

from backupready import config as configuration_file
from backupready import probes
from backupready.config import ConfigError
from backupready.mind import service, web
from backupready.mind.metrics import Exposition
from backupready.mind.web import Site, WebServer, listening
from backupready.mind.webconfig import WatchedFile, client_context
from backupready.model import Snapshot
from fake import looked, probe, problem, snapshot
from lab import certificates
from measured import measured
from requirement import need

pytestmark = pytest.mark.integration

KNOWN = [probe("thing", [problem("BROKEN")])]
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n"
CLIENTS = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt\n"
USERS = f"basic_auth_users:\n  prometheus: {HASH}\n"


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """web and client, with names of their own, signed by authority.crt; stranger, signed by foreign.crt."""
    need("openssl")
    place = tmp_path_factory.mktemp("certificates")
    authority = certificates.authority(place, "authority", "The tests")
    foreign = certificates.authority(place, "foreign", "Another")
    certificates.signed(authority, place, "web", "DNS:localhost,IP:127.0.0.1")
    certificates.signed(authority, place, "client", "DNS:prometheus.example.org,IP:2001:db8::1")
    certificates.signed(foreign, place, "stranger", "DNS:prometheus.example.org")
    return place


@pytest.fixture(autouse=True)
def quick_to_close(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "_TURN", 0.02)


def site() -> Site:
    newest: Snapshot = snapshot(looked("thing"), known=KNOWN)
    return Site(lambda: newest, Exposition(lambda: newest, probes.METRICS), lambda: 0.0)


class Guarded:
    """A server that a file guards, which a test may write anew."""

    def __init__(self, place: Path, text: str) -> None:
        self.place = place
        self.file = place / "web.yml"
        self.file.write_text(text)
        self.watched = WatchedFile(self.file)
        self.server = WebServer((("127.0.0.1", 0),), site(), file=self.watched)
        self.port = int(self.server.addresses[0].rpartition(":")[2])

    def client(self, shows: str = "", **changes: object) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.place / "authority.crt"))
        if shows:
            context.load_cert_chain(self.place / f"{shows}.crt", self.place / f"{shows}.key")
        for name, value in changes.items():
            setattr(context, name, value)
        return context

    def ask(
        self, context: ssl.SSLContext | None, path: str = "/-/healthy", method: str = "GET", **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = (
            http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
            if context is None
            else http.client.HTTPSConnection("127.0.0.1", self.port, timeout=20, context=context)
        )
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()


@pytest.fixture
def guarded(place: Path, tmp_path: Path) -> Iterator[Callable[[str], Guarded]]:
    made: list[Guarded] = []

    def make(text: str) -> Guarded:
        for one in place.iterdir():
            (tmp_path / one.name).write_bytes(one.read_bytes())
        made.append(Guarded(tmp_path, text))
        return made[-1]

    yield make
    for one in made:
        one.server.close()


def login(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


# ---------------------------------------------------------------------------------------------------------- TLS


def test_everything_is_served_over_tls(guarded: Callable[[str], Guarded]) -> None:
    """A client that knows the authority gets every page, in either version."""
    it = guarded(TLS)
    assert it.server.scheme == "https"
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        client = it.client(minimum_version=version, maximum_version=version)
        assert it.ask(client)[::2] == (200, b"healthy\n")
        assert it.ask(client, "/metrics")[0] == 200
        assert it.ask(client, "/metrics", "HEAD")[::2] == (200, b"")


def test_the_end_is_said(guarded: Callable[[str], Guarded]) -> None:
    """A TLS client can tell the end from a connection that was cut."""
    it = guarded(TLS)
    raw = socket.create_connection(("127.0.0.1", it.port), timeout=20)
    client = it.client()
    client.options &= ~ssl.Options(1 << 7)  # OP_IGNORE_UNEXPECTED_EOF, which Python sets where OpenSSL has it
    with client.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as connection:
        connection.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := connection.recv(4096):
            answer += piece
    assert answer.endswith(b"healthy\n")


def test_plain_http_gets_a_clear_answer(guarded: Callable[[str], Guarded]) -> None:
    """And nothing of what is served."""
    it = guarded(TLS)
    status, _, body = it.ask(None, "/metrics")
    assert (status, body) == (400, b"here is TLS; ask https://\n")


@pytest.mark.parametrize("data", [b"\x16\x03\x01garbage", b"\x16", b"\x00", b"\r\n"])
def test_garbage_is_closed(data: bytes, guarded: Callable[[str], Guarded]) -> None:
    """And the next client is served."""
    it = guarded(TLS)
    with socket.create_connection(("127.0.0.1", it.port), timeout=20) as client:
        client.sendall(data)
        with contextlib.suppress(OSError):  # the server may have been quicker
            client.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while client.recv(4096):
                pass
    assert it.ask(it.client())[0] == 200


def test_a_version_below_the_least_is_refused(guarded: Callable[[str], Guarded]) -> None:
    """The handshake says so."""
    it = guarded(f"{TLS}  min_version: TLS13\n")
    with pytest.raises(ssl.SSLError, match="(?i)version"):
        it.ask(it.client(maximum_version=ssl.TLSVersion.TLSv1_2))
    assert it.ask(it.client())[0] == 200


def test_a_version_above_the_most_is_not_spoken(guarded: Callable[[str], Guarded]) -> None:
    """A client that can do more does less."""
    it = guarded(f"{TLS}  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]\n")
    raw = socket.create_connection(("127.0.0.1", it.port), timeout=20)
    with it.client().wrap_socket(raw, server_hostname="localhost") as connection:
        assert connection.version() == "TLSv1.2"
        assert (connection.cipher() or ("",))[0] == "ECDHE-ECDSA-AES128-GCM-SHA256"


# ------------------------------------------------------------------------------------------------------ clients


def test_a_client_must_show_a_certificate(guarded: Callable[[str], Guarded]) -> None:
    """One that the authority has signed; nobody else gets a byte."""
    it = guarded(TLS + CLIENTS)
    assert it.ask(it.client("client"))[0] == 200
    for who in ("", "stranger"):
        with pytest.raises((OSError, http.client.HTTPException)):
            it.ask(it.client(who))


@pytest.mark.parametrize(
    ("allowed", "admitted"),
    [("prometheus.example.org", True), ("2001:DB8:0::1", True), ("grafana.example.org", False)],
)
def test_its_name_must_be_allowed(allowed: str, admitted: bool, guarded: Callable[[str], Guarded]) -> None:
    """By any of its names; one that is not is ended without an answer."""
    it = guarded(f"{TLS}{CLIENTS}  client_allowed_sans: ['{allowed}', x.example.org]\n")
    if admitted:
        assert it.ask(it.client("client"))[0] == 200
    else:
        with pytest.raises((OSError, http.client.HTTPException)):
            it.ask(it.client("client"))


def test_a_certificate_may_be_left_out_where_that_is_said(guarded: Callable[[str], Guarded]) -> None:
    """VerifyClientCertIfGiven: none is fine, a stranger's is not."""
    it = guarded(TLS + CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    assert it.ask(it.client())[0] == 200
    assert it.ask(it.client("client"))[0] == 200
    with pytest.raises((OSError, http.client.HTTPException)):
        it.ask(it.client("stranger"))


# ----------------------------------------------------------------------------------------- users and headers


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/status", "/-/healthy", "/-/ready", "/nothing"])
def test_without_a_password_there_is_nothing(path: str, guarded: Callable[[str], Guarded]) -> None:
    """401 on every path, with what a client needs to know, and no word of what is served."""
    it = guarded(USERS)
    for headers in ({}, {"Authorization": login("prometheus", "wrong")}, {"Authorization": login("nobody", "right")}):
        status, told, body = it.ask(None, path, **headers)
        assert (status, body) == (401, b"a name and a password are needed\n")
        assert told["WWW-Authenticate"] == 'Basic realm="backupready", charset="UTF-8"'
        assert told["X-Content-Type-Options"] == "nosniff"
    assert it.ask(None, path, Authorization=login("prometheus", "right"))[0] != 401


@pytest.mark.parametrize(
    "given", ["Basic", "Basic !", "Basic cHJvbWV0aGV1cw==", "Bearer x", "Basic /w==", login("prometheus", "right")[6:]]
)
def test_what_is_no_login_is_a_wrong_one(given: str, guarded: Callable[[str], Guarded]) -> None:
    """Whatever it is."""
    assert guarded(USERS).ask(None, Authorization=given)[0] == 401


def test_a_login_may_be_written_otherwise(guarded: Callable[[str], Guarded]) -> None:
    """The scheme in small letters, and a password with a colon."""
    hashed = bcrypt.hashpw(b"a:b", bcrypt.gensalt(4)).decode()
    it = guarded(f"basic_auth_users:\n  prometheus: {hashed}\n")
    assert it.ask(None, Authorization=login("prometheus", "a:b").replace("Basic", "basic"))[0] == 200


def test_headers_are_as_the_file_says(guarded: Callable[[str], Guarded]) -> None:
    """Added, in place of our own, or not sent; also with errors."""
    it = guarded(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: sandbox\n"
        "    X-Content-Type-Options:\n"
    )
    for method, path in (("GET", "/"), ("GET", "/nothing"), ("POST", "/")):
        headers = it.ask(None, path, method)[1]
        assert headers.get_all("X-Frame-Options") == ["deny"]
        assert headers.get_all("Content-Security-Policy") == ["sandbox"]
        assert headers.get_all("X-Content-Type-Options") is None


# ------------------------------------------------------------------------------------------------- read anew


def test_what_changes_is_served_anew(guarded: Callable[[str], Guarded]) -> None:
    """From plain to TLS and another certificate without a restart; a bad file changes nothing and is told."""
    it = guarded("")
    assert (it.ask(None)[0], it.server.config_is_right) == (200, True)
    it.file.write_text(TLS)
    assert it.ask(it.client())[0] == 200
    it.file.write_text(TLS.replace("cert_file", "cert_fil"))
    assert (it.ask(it.client())[0], it.server.config_is_right) == (200, False)
    for end in ("crt", "key"):
        (it.place / f"web.{end}").write_bytes((it.place / f"client.{end}").read_bytes())
    it.file.write_text(TLS)
    with pytest.raises(ssl.SSLCertVerificationError):
        it.ask(it.client())
    assert (it.ask(it.client(check_hostname=False))[0], it.server.config_is_right) == (200, True)


def test_a_server_is_opened_by_a_reload_alone(guarded: Callable[[str], Guarded]) -> None:
    """A file that a full disk has emptied takes neither the users nor TLS away; somebody who asks for it does."""
    it = guarded(TLS + USERS)
    it.file.write_text("")
    assert it.ask(None)[0] == 400
    assert (it.ask(it.client())[0], it.server.config_is_right) == (401, False)
    it.server.reload()
    assert (it.ask(None)[0], it.server.config_is_right) == (200, True)


# ------------------------------------------------------------------------------------------------ strangers


def test_silent_tls_clients_do_not_delay_a_scrape(guarded: Callable[[str], Guarded]) -> None:
    """20 that connect and say nothing, and 5 that begin a handshake, wait; a scrape is served before any is ended."""
    it = guarded(TLS)
    with contextlib.ExitStack() as silent:
        connections = [
            silent.enter_context(socket.create_connection(("127.0.0.1", it.port), timeout=20)) for _ in range(25)
        ]
        for connection in connections[20:]:
            connection.sendall(b"\x16\x03\x01")
        started = time.monotonic()
        assert it.ask(it.client(), "/metrics")[0] == 200
        measured(f"a scrape over TLS beside 25 silent clients: {(time.monotonic() - started) * 1e3:.0f} ms")
        for connection in connections:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):  # still open: nobody had to go first
                connection.recv(1)


def test_a_handshake_that_drips_is_ended(guarded: Callable[[str], Guarded], monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole connection is limited, the handshake included."""
    monkeypatch.setattr(web, "_CONNECTION_LIMIT", 0.2)
    monkeypatch.setattr(web._Handler, "timeout", 60.0)  # which would end it as well
    it = guarded(TLS)
    client = socket.create_connection(("127.0.0.1", it.port), timeout=20)
    deadline = time.monotonic() + 10
    with client, contextlib.suppress(ConnectionResetError, BrokenPipeError):
        client.sendall(b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc")  # the beginning of a right one
        client.settimeout(0.05)
        while True:
            assert time.monotonic() < deadline
            try:
                if not client.recv(1000):
                    break
            except socket.timeout:
                client.sendall(b"\x00")


def test_guesses_do_not_stall_a_scrape(guarded: Callable[[str], Guarded], monkeypatch: pytest.MonkeyPatch) -> None:
    """While 20 wrong passwords are checked or wait, who is known is served, and the others hear that it is full."""
    it = guarded(USERS)
    right = login("prometheus", "right")
    assert it.ask(None, Authorization=right)[0] == 200
    go_on = threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, hashed: not go_on.wait(20))
    answers: list[tuple[int, str | None]] = []

    def guess(number: int) -> None:
        status, headers, _ = it.ask(None, Authorization=login("prometheus", f"guess {number}"))
        answers.append((status, headers["Retry-After"]))

    threads = [threading.Thread(target=guess, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while not answers and time.monotonic() < deadline:
        time.sleep(0.01)
    assert it.ask(None, "/metrics", Authorization=right)[0] == 200
    assert set(answers) == {(503, "5")}
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert set(answers) == {(401, None), (503, "5")}


# ---------------------------------------------------------------------------------------------------- listeners


def settings(tmp_path: Path, text: str, **options: str) -> configuration_file.Config:
    path = tmp_path / "backupready.conf"
    path.write_text(text)
    changed = {name.replace("__", ".", 1): value for name, value in options.items()}
    return configuration_file.load(configuration_file.table(()), path, changed)


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[socket.socket]]:
    """Two sockets as the service manager hands them over, one of TCP and one of a unix path."""
    tcp, unix = socket.socket(), socket.socket(socket.AF_UNIX)
    tcp.bind(("127.0.0.1", 0))
    unix.bind(str(tmp_path / "web.sock"))
    for one in (tcp, unix):
        one.listen()
        one.setblocking(False)
    monkeypatch.setattr(service, "inherited_sockets", lambda: [tcp.dup(), unix.dup()])
    yield [tcp, unix]
    tcp.close()
    unix.close()


def test_sockets_that_are_handed_over_are_served(tmp_path: Path, handed: list[socket.socket]) -> None:
    """All of them, and no address beside them."""
    port = handed[0].getsockname()[1]
    with contextlib.closing(listening(settings(tmp_path, "[web]\nsystemd_socket = yes\n"), site())) as server:
        assert server.addresses == [f"127.0.0.1:{port}", f"unix:{tmp_path}/web.sock"]
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"healthy\n")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(20)
            client.connect(str(tmp_path / "web.sock"))
            client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            assert client.makefile("rb").read().endswith(b"healthy\n")


def test_an_address_that_is_set_is_served_beside_them(tmp_path: Path, handed: list[socket.socket]) -> None:
    """What is asked for is done."""
    given = {"web__listen_address": "127.0.0.1:0,127.0.0.1:0", "web__systemd_socket": "yes"}
    with contextlib.closing(listening(settings(tmp_path, "", **given), site())) as server:
        assert len(server.addresses) == 4


def test_no_socket_is_a_mistake(tmp_path: Path) -> None:
    """It is told which line asks for one."""
    with pytest.raises(ConfigError, match=r"backupready\.conf:2: web\.systemd_socket: .* handed over no socket"):
        listening(settings(tmp_path, "[web]\nsystemd_socket = yes\n"), site())


def test_with_a_text_file_nothing_listens_unless_it_is_asked_for(tmp_path: Path) -> None:
    """The default address is left, one that is set is not."""
    path = str(tmp_path / "x.prom")
    with contextlib.closing(listening(settings(tmp_path, "", textfile__path=path), site())) as server:
        assert server.addresses == []
    asked = settings(tmp_path, "[web]\nlisten_address = 127.0.0.1:0\n", textfile__path=path)
    with contextlib.closing(listening(asked, site())) as server:
        assert len(server.addresses) == 1


def ask_at(path: Path) -> bytes:
    """What is said at a unix socket to somebody who gives no password."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
        return client.makefile("rb").read()


def test_root_needs_no_password_at_the_status_socket(tmp_path: Path, guarded: Callable[[str], Guarded]) -> None:
    """Nor TLS nor a certificate; the others do. Nobody else can connect there."""
    own, file = tmp_path / "status.sock", guarded(TLS + CLIENTS + USERS).file
    text = f"[web]\nlisten_address = 127.0.0.1:0\nconfig_file = {file}\nstatus_socket = {own}\n"
    with contextlib.closing(listening(settings(tmp_path, text), site())) as server:
        assert stat.S_IMODE(own.stat().st_mode) == 0o600
        assert ask_at(own).endswith(b"healthy\n")
        (address,) = server.addresses
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=20) as client:
            client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            assert b"here is TLS" in client.makefile("rb").read()


def test_with_a_text_file_root_is_answered_all_the_same(tmp_path: Path) -> None:
    """Although nothing listens for others. The socket goes with the daemon."""
    own = tmp_path / "status.sock"
    given = {"textfile__path": str(tmp_path / "x.prom"), "web__status_socket": str(own)}
    with contextlib.closing(listening(settings(tmp_path, "", **given), site())) as server:
        assert server.addresses == []
        assert ask_at(own).endswith(b"healthy\n")
    assert not own.exists()


def test_a_status_socket_that_was_left_behind_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One at which another daemon listens is left to it, and so is what is no socket; that is told, and the others are
    answered. The one that was there first is not taken away by the other's end."""
    own = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(own))
    text = f"[web]\nlisten_address = 127.0.0.1:0\nstatus_socket = {own}\n"
    with contextlib.closing(listening(settings(tmp_path, text), site())):
        assert ask_at(own).endswith(b"healthy\n")
        assert caplog.messages == []
        with contextlib.closing(listening(settings(tmp_path, text), site())) as second:
            assert len(second.addresses) == 1
        assert ask_at(own).endswith(b"healthy\n")
    own.write_text("somebody's")
    with contextlib.closing(listening(settings(tmp_path, text), site())) as third:
        assert len(third.addresses) == 1
    assert own.read_text() == "somebody's"
    where = f"cannot listen on web.status_socket {own}: "
    after = "; root is answered as everybody else is"
    assert caplog.messages == [
        f"{where}another daemon listens there{after}",
        f"{where}Address already in use{after}",
    ]


@pytest.mark.parametrize("path", ["", "missing/status.sock", "s" * 200])
def test_without_a_status_socket_the_daemon_runs(path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where none is wanted nothing is said."""
    where = f"{tmp_path}/{path}" if path else ""
    text = f"[web]\nlisten_address = 127.0.0.1:0\nstatus_socket = {where}\n"
    with contextlib.closing(listening(settings(tmp_path, text), site())) as server:
        assert len(server.addresses) == 1
    assert [where in message for message in caplog.messages] == ([True] if path else [])


def test_an_address_that_is_taken_leaves_no_status_socket(tmp_path: Path) -> None:
    """The daemon does not start, and nothing of it stays."""
    own = tmp_path / "status.sock"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        text = f"[web]\nlisten_address = 127.0.0.1:{taken.getsockname()[1]}\nstatus_socket = {own}\n"
        with pytest.raises(OSError, match="cannot listen"):
            listening(settings(tmp_path, text), site())
    assert not own.exists()


def test_strangers_cannot_shut_root_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While every place at the address is taken, root's are free."""
    monkeypatch.setattr(web, "_MOST_CONNECTIONS", 2)
    own = tmp_path / "status.sock"
    text = f"[web]\nlisten_address = 127.0.0.1:0\nstatus_socket = {own}\n"
    with contextlib.ExitStack() as held:
        server = held.enter_context(contextlib.closing(listening(settings(tmp_path, text), site())))
        where = ("127.0.0.1", int(server.addresses[0].rpartition(":")[2]))
        for _ in range(2):
            held.enter_context(socket.create_connection(where, timeout=20))
        third = held.enter_context(socket.create_connection(where, timeout=20))
        assert third.recv(1) == b""  # it is shown the door
        assert ask_at(own).endswith(b"healthy\n")


def test_a_bad_file_at_the_start_is_a_mistake(tmp_path: Path) -> None:
    """With its line, before anything listens."""
    bad = tmp_path / "web.yml"
    bad.write_text("\nusers: x\n")
    with pytest.raises(ConfigError, match=r"web\.yml:2: the file has no key 'users'"):
        listening(settings(tmp_path, "", web__config_file=str(bad)), site())


def test_every_address_is_ipv4s_where_there_is_no_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on hardened machines, whose kernel has none."""
    monkeypatch.setattr(web, "_has_ipv6", lambda: False)
    with contextlib.closing(WebServer((("::", 0),), site())) as server:
        assert server.addresses[0].startswith("0.0.0.0:")


# ------------------------------------------------------------------------------------- who asks this very server


def test_the_servers_own_certificate_is_enough_to_ask_it(guarded: Callable[[str], Guarded]) -> None:
    """Without its authority, by any name, and without its key; another server's is not trusted."""
    it = guarded(TLS)
    (it.place / "web.key").unlink()
    context = client_context(it.file)
    assert context is not None
    assert it.ask(context)[0] == 200
    (it.place / "web.crt").write_bytes((it.place / "client.crt").read_bytes())
    other = client_context(it.file)
    with pytest.raises(ssl.SSLCertVerificationError):
        it.ask(other)
    it.file.write_text(USERS)
    assert client_context(it.file) is None
