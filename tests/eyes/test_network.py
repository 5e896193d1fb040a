"""What answers on the network: real sockets on the loopback, each question bounded, each failure with its phase."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from backupready.eyes import network
from backupready.eyes.machine import LiveMachine
from backupready.model import Fetched, Resolved, Unreachable
from requirement import need

pytestmark = pytest.mark.integration

Talk = Callable[[socket.socket], None]
LOOPBACK = "127.0.0.1"


# ------------------------------------------------------------------------------------------------------- servers


class Server:
    """A TCP server on the loopback that talks to each connection on a thread; `heard` is what was received first."""

    def __init__(self, talk: Talk, address: str = LOOPBACK, port: int = 0) -> None:
        self.heard: list[bytes] = []
        self.over = threading.Event()
        self._talk = talk
        self._listener = socket.create_server((address, port))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            self._talk(connection)

    def hear(self, connection: socket.socket) -> bytes:
        """A request's head."""
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(4096)
            if not piece:
                break
            data += piece
        self.heard.append(data)
        return data

    def close(self) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


Serve = Callable[[Callable[[Server, socket.socket], None]], Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers, and ends them with the test."""
    servers: list[Server] = []

    def start(talk: Callable[[Server, socket.socket], None]) -> Server:
        server = Server(lambda connection: talk(server, connection))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def answers(status: int = 400) -> Callable[[Server, socket.socket], None]:
    """An HTTP server that knows one answer."""

    def talk(server: Server, connection: socket.socket) -> None:
        server.hear(connection)
        connection.sendall(f"HTTP/1.1 {status} So\r\nContent-Length: 7\r\n\r\n".encode())

    return talk


def silent(server: Server, connection: socket.socket) -> None:
    server.over.wait(30)


def babbles(server: Server, connection: socket.socket) -> None:
    """Neither HTTP nor TLS."""
    connection.sendall(b"SSH-2.0-nothing\r\n\r\n")
    connection.recv(4096)


def drips(server: Server, connection: socket.socket) -> None:
    """An answer whose head never ends."""
    server.hear(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not server.over.wait(0.04):
        connection.sendall(b"x")


def proxies(port: int) -> Callable[[Server, socket.socket], None]:
    """A CONNECT proxy that leads to a port of the loopback, whatever it is asked for."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(4096):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)

    def talk(server: Server, connection: socket.socket) -> None:
        server.hear(connection)
        with socket.create_connection((LOOPBACK, port)) as other:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\nProxy-Agent: test\r\n\r\n")
            there = threading.Thread(target=pump, args=(connection, other), daemon=True)
            there.start()
            pump(other, connection)
            there.join(5)

    return talk


class Authority:
    """A certificate authority of our own, and the certificates that it gives."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self.file = place / "ca.pem"
        subject = "/O=Contoso Authorities/CN=ca"
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", subject,
                      "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self._place, check=True, capture_output=True)

    def certificate(self, name: str, days: int = 2) -> ssl.SSLContext:
        """A server's context with a certificate for this name."""
        (self._place / "names").write_text(f"subjectAltName=DNS:{name}\n")
        self._openssl("req", *_NEW_KEY, "-keyout", "key", "-out", "request", "-subj", "/O=Somebody/CN=server")
        self._openssl("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca.key", "-set_serial", "7",
                      "-days", str(days), "-extfile", "names", "-out", "certificate")  # fmt: skip
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._place / "certificate", self._place / "key")
        return context


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-sha256")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    need("openssl")
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The same, trusted by this machine."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return authority


def secured(context: ssl.SSLContext, talk: Callable[[Server, socket.socket], None]) -> Callable[..., None]:
    def over_tls(server: Server, connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            talk(server, inner)

    return over_tls


def fetch(url: str, timeout: float = 5.0, budget: float = 10.0, proxy: str = "") -> Fetched:
    return LiveMachine().fetch(url, timeout, budget, proxy)


def unreachable(url: str, timeout: float = 5.0, budget: float = 10.0, proxy: str = "") -> tuple[Unreachable, float]:
    started = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        fetch(url, timeout, budget, proxy)
    return caught.value, time.monotonic() - started


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens."""
    with socket.socket() as holder:
        holder.bind((LOOPBACK, 0))
        yield int(holder.getsockname()[1])


# --------------------------------------------------------------------------------------------------------- fetch


def test_an_answer_over_http(serve: Serve) -> None:
    """Any status is an answer; the question is a HEAD; its phases are measured."""
    server = serve(answers(503))
    found = fetch(f"http://{LOOPBACK}:{server.port}/path")
    assert (found.status, found.issuer, found.attempts) == (503, "", 1)
    assert list(found.phases) == ["name", "connect", "first_byte"]
    assert all(0 <= seconds < 5 for seconds in found.phases.values())
    assert server.heard[0].startswith(b"HEAD /path HTTP/1.1\r\n")
    assert f"Host: {LOOPBACK}:{server.port}\r\n".encode() in server.heard[0]


def test_an_answer_over_https(serve: Serve, trusted: Authority) -> None:
    """The chain verifies, and who signed is told."""
    server = serve(secured(trusted.certificate("localhost"), answers()))
    found = fetch(f"https://localhost:{server.port}/")
    assert (found.status, found.issuer) == (400, "Contoso Authorities")
    assert list(found.phases) == ["name", "connect", "tls", "first_byte"]


def test_the_usual_port_is_not_named(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked for is the host as it stands in the address."""
    server = serve(answers())
    connect = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: connect((LOOPBACK, server.port), timeout))
    assert fetch("http://localhost/").status == 400
    assert b"\r\nHost: localhost\r\n" in server.heard[0]


def test_an_authority_that_is_not_ours(serve: Serve, authority: Authority) -> None:
    """OpenSSL's words are told, and it is not tried again: it would be the same."""
    server = serve(secured(authority.certificate("localhost"), answers()))
    error, _ = unreachable(f"https://localhost:{server.port}/")
    assert (error.how, error.attempts) == ("tls: certificate", 1)
    assert "certificate" in error.detail
    assert server.heard == []


@pytest.mark.parametrize(("name", "days", "words"), [("other.test", 2, "localhost"), ("localhost", -1, "expired")])
def test_a_certificate_that_is_wrong(serve: Serve, trusted: Authority, name: str, days: int, words: str) -> None:
    """Another's name, or past its time."""
    server = serve(secured(trusted.certificate(name, days), answers()))
    error, _ = unreachable(f"https://localhost:{server.port}/")
    assert error.how == "tls: certificate"
    assert words in error.detail


def test_what_speaks_no_tls(serve: Serve) -> None:
    """OpenSSL's own numbers are not the system's: it is no missing permission."""
    error, _ = unreachable(f"https://{LOOPBACK}:{serve(babbles).port}/")
    assert error.how == "tls: failed"
    assert error.detail not in ("", "Operation not permitted")


def test_a_name_that_is_unknown() -> None:
    """.invalid never resolves; the phase and the resolver's words are told."""
    error, _ = unreachable("https://nothing.invalid/", 1, 8)
    assert error.how in ("name: unknown", "name: failed", "name: timed_out")
    assert error.detail


def test_a_resolver_that_knows_no_such_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart from one that fails."""

    def raises(number: int) -> Callable[..., object]:
        def getaddrinfo(*arguments: object, **more: object) -> object:
            raise socket.gaierror(number, "words")

        return getaddrinfo

    for number, how in ((socket.EAI_NONAME, "name: unknown"), (socket.EAI_AGAIN, "name: failed")):
        monkeypatch.setattr(socket, "getaddrinfo", raises(number))
        error, _ = unreachable("https://storage.test/")
        assert (error.how, error.detail, error.attempts) == (how, "words", 3)


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget ends it, and says where it was."""
    over = threading.Event()

    def hangs(*arguments: object, **more: object) -> object:
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "at last")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    error, elapsed = unreachable("https://storage.test/", 0.2, 0.5)
    over.set()
    assert error.how == "name: timed_out"
    assert elapsed < 1.5


@pytest.mark.parametrize("url", ["https://a:b/", "http://x:99999/", f"http://{'a' * 64}.test/", "http://[::1/"])
def test_an_address_that_is_none(url: str) -> None:
    """It fails as its name would."""
    error, _ = unreachable(url, 1, 8)
    assert error.how.startswith("name: ")


def test_a_refused_connection(closed_port: int) -> None:
    """Three tries, then the system's own words."""
    error, _ = unreachable(f"https://{LOOPBACK}:{closed_port}/")
    assert (error.how, error.detail, error.attempts) == ("connect: refused", "Connection refused", 3)


def test_a_server_that_is_silent_after_the_connection(serve: Serve) -> None:
    """No try begins that would not end within the budget."""
    server = serve(silent)
    for scheme, phase in (("http", "first_byte"), ("https", "tls")):
        error, elapsed = unreachable(f"{scheme}://{LOOPBACK}:{server.port}/", 0.3, 1.0)
        assert error.how == f"{phase}: timed_out"
        assert 1 < error.attempts <= 3
        assert elapsed < 1.5


def test_a_slow_drip_ends_with_the_budget(serve: Serve) -> None:
    """A server that keeps saying a little does not hold us, and its phase is told."""
    error, elapsed = unreachable(f"http://{LOOPBACK}:{serve(drips).port}/", 0.3, 0.8)
    assert error.how == "first_byte: timed_out"
    assert elapsed < 1.5


def test_what_speaks_no_http(serve: Serve) -> None:
    """Garbage is a failure with words, not a crash."""
    error, _ = unreachable(f"http://{LOOPBACK}:{serve(babbles).port}/")
    assert error.how == "first_byte: failed"
    assert error.detail


def test_a_server_that_hangs_up(serve: Serve) -> None:
    """Without a word."""

    def hangs_up(server: Server, connection: socket.socket) -> None:
        server.hear(connection)

    error, _ = unreachable(f"http://{LOOPBACK}:{serve(hangs_up).port}/")
    assert error.how.startswith("first_byte: ")


def test_proxies_of_the_environment_are_ignored(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the proxy that is asked for counts."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch(f"http://{LOOPBACK}:{serve(answers()).port}/").status == 400


# ---------------------------------------------------------------------------------------------- several addresses


@pytest.fixture
def resolved_as(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets every name have these addresses."""

    def answer(*addresses: str) -> None:
        found = [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in addresses
        ]
        real = socket.getaddrinfo

        def getaddrinfo(host: str, *arguments: Any, **more: Any) -> Any:
            return found if host.endswith(".test") else real(host, *arguments, **more)

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    return answer


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose queue is full: who connects there hears nothing."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.3", 0))
        listener.listen(0)
        port = int(listener.getsockname()[1])
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.3", port))
        time.sleep(0.05)
        yield port


def test_the_next_address_is_tried_where_the_first_refuses(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """One dead address of a name is no outage."""
    server = serve(answers())
    connection = network._connected(["127.0.0.2", LOOPBACK], server.port, 2)
    with connection:
        assert connection.getpeername() == (LOOPBACK, server.port)
        assert connection.gettimeout() == 2, "what comes after it has the whole time-out again"


def test_the_next_address_is_tried_where_the_first_is_silent(full: int) -> None:
    """The time-out is shared out, and is not exceeded."""
    second = Server(lambda connection: None, LOOPBACK, full)
    started = time.monotonic()
    with network._connected(["127.0.0.3", LOOPBACK], full, 1.0) as connection:
        assert connection.getpeername()[0] == LOOPBACK
    assert 0.4 < time.monotonic() - started < 1.0
    second.close()


def test_all_addresses_together_have_one_time_out(full: int, resolved_as: Callable[..., None]) -> None:
    """However many there are."""
    resolved_as(*["127.0.0.3"] * 3, *(f"127.0.0.{number}" for number in range(3, 30)))
    error, elapsed = unreachable(f"http://many.test:{full}/", 0.8, 0.9)
    assert elapsed < 1.2
    assert error.how in ("connect: timed_out", "connect: refused")


def test_only_the_first_addresses_of_a_name_are_tried(serve: Serve) -> None:
    """A name with a thousand of them does not hold us."""
    server = serve(answers())
    with pytest.raises(ConnectionRefusedError):
        network._connected([*(f"127.0.0.{number}" for number in range(2, 9)), LOOPBACK], server.port, 2)


def test_a_machine_without_ipv6_is_not_what_is_wrong(closed_port: int, resolved_as: Callable[..., None]) -> None:
    """Of several failures the one that matters is told."""
    resolved_as(LOOPBACK, "2001:db8::1")
    error, _ = unreachable(f"http://both.test:{closed_port}/", 0.5, 0.9)
    assert error.how == "connect: refused"


# ------------------------------------------------------------------------------------------------------- proxies


def test_through_a_proxy(serve: Serve, trusted: Authority) -> None:
    """The proxy is asked for the host by name, and the certificate is still the storage's."""
    storage = serve(secured(trusted.certificate("storage.test"), answers()))
    proxy = serve(proxies(storage.port))
    found = fetch("https://storage.test/", proxy=f"http://{LOOPBACK}:{proxy.port}")
    assert (found.status, found.issuer) == (400, "Contoso Authorities")
    assert list(found.phases) == ["name", "connect", "proxy", "tls", "first_byte"]
    assert proxy.heard[0].startswith(b"CONNECT storage.test:443 HTTP/1.1\r\nHost: storage.test:443\r\n")
    assert b"\r\nHost: storage.test\r\n" in storage.heard[0]


def test_through_a_proxy_without_tls(serve: Serve) -> None:
    """It is given the whole address."""
    proxy = serve(answers(204))
    assert fetch("http://storage.test/x", proxy=f"http://{LOOPBACK}:{proxy.port}").status == 204
    assert proxy.heard[0].startswith(b"HEAD http://storage.test/x HTTP/1.1\r\nHost: storage.test\r\n")


def test_an_intercepting_proxy(serve: Serve, authority: Authority) -> None:
    """Its certificate does not verify."""
    storage = serve(secured(authority.certificate("storage.test"), answers()))
    proxy = serve(proxies(storage.port))
    error, _ = unreachable("https://storage.test/", proxy=f"http://{LOOPBACK}:{proxy.port}")
    assert error.how == "tls: certificate"


@pytest.mark.parametrize("status", [403, 407, 502])
def test_a_proxy_that_refuses(serve: Serve, status: int) -> None:
    """Its answer is told, and it is not asked again."""
    proxy = serve(answers(status))
    error, _ = unreachable("https://storage.test/", proxy=f"http://{LOOPBACK}:{proxy.port}")
    assert (error.how, error.detail, error.attempts) == (f"proxy: answers {status}", "So", 1)


def test_a_proxy_that_is_dead(serve: Serve, closed_port: int) -> None:
    """Refused at once, or silent within the budget."""
    error, _ = unreachable("https://storage.test/", proxy=f"http://{LOOPBACK}:{closed_port}")
    assert error.how == "connect: refused"
    error, elapsed = unreachable("https://storage.test/", 0.3, 0.7, f"http://{LOOPBACK}:{serve(silent).port}")
    assert error.how == "proxy: timed_out"
    assert elapsed < 1.2


# --------------------------------------------------------------------------------------------------- name servers


class NameServer:
    """A UDP server, and a TCP server at the same port, that answer with what they are told to."""

    def __init__(self, udp: Callable[[dns.message.Message], list[bytes]], tcp: bytes | None = None) -> None:
        self.asked = 0
        self._udp = udp
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOOPBACK, 0))
        self.port = int(self._socket.getsockname()[1])
        self._stream = Server(lambda connection: self._over_tcp(connection), LOOPBACK, self.port) if tcp else None
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def name(self) -> str:
        return f"{LOOPBACK}#{self.port}"

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(4096)
            except OSError:
                return
            self.asked += 1
            if not data:
                return
            for answer in self._udp(dns.message.from_wire(data)):
                self._socket.sendto(answer, peer)

    def _over_tcp(self, connection: socket.socket) -> None:
        size = int.from_bytes(connection.recv(2), "big")
        data = addressed(dns.message.from_wire(connection.recv(size)))[0]
        connection.sendall(len(data).to_bytes(2, "big") + data)

    def close(self) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (LOOPBACK, self.port))
        if self._stream:
            self._stream.close()
        self._socket.close()


def addressed(query: dns.message.Message) -> list[bytes]:
    """A name with an alias and two addresses."""
    response = dns.message.make_response(query)
    name = query.question[0].name
    response.answer.append(dns.rrset.from_text(name, 60, "IN", "CNAME", "alias.test."))
    response.answer.append(dns.rrset.from_text("alias.test.", 60, "IN", "A", "20.60.1.4", "20.60.1.5"))
    return [response.to_wire()]


def failing(code: dns.rcode.Rcode) -> Callable[[dns.message.Message], list[bytes]]:
    def answer(query: dns.message.Message) -> list[bytes]:
        response = dns.message.make_response(query)
        response.set_rcode(code)
        return [response.to_wire()]

    return answer


def cut(query: dns.message.Message) -> list[bytes]:
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return [response.to_wire()]


Answer = Callable[[dns.message.Message], list[bytes]]


@pytest.fixture
def name_server() -> Iterator[Callable[..., NameServer]]:
    servers: list[NameServer] = []

    def start(udp: Answer, tcp: bytes | None = None) -> NameServer:
        servers.append(NameServer(udp, tcp))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def resolve(server: NameServer, timeout: float = 2.0) -> Resolved:
    return LiveMachine().resolve("storage.test", server.name, timeout)


def test_a_name_server_that_knows(name_server: Callable[..., NameServer]) -> None:
    """The addresses at the end of the aliases, and how long it took."""
    found = resolve(name_server(addressed))
    assert (sorted(found.addresses), found.rcode) == (["20.60.1.4", "20.60.1.5"], "NOERROR")
    assert 0 < found.seconds < 2


@pytest.mark.parametrize("rcode", ["NXDOMAIN", "SERVFAIL", "REFUSED"])
def test_a_name_server_that_does_not(name_server: Callable[..., NameServer], rcode: str) -> None:
    """Its code is an answer, by its name."""
    found = resolve(name_server(failing(dns.rcode.from_text(rcode))))
    assert (found.addresses, found.rcode) == ((), rcode)


def test_a_name_server_that_is_silent(name_server: Callable[..., NameServer]) -> None:
    """It is waited for once, as long as is said."""
    server, started = name_server(lambda query: []), time.monotonic()
    with pytest.raises(Unreachable) as caught:
        resolve(server, 0.3)
    assert (caught.value.how, server.asked) == ("timed_out", 1)
    assert 0.25 < time.monotonic() - started < 1


def test_a_name_server_that_talks_garbage(name_server: Callable[..., NameServer]) -> None:
    """It fails with words; half a header, and what answers another question."""
    other = dns.message.make_query("other.test", "A")
    for data in (b"garbage", bytes(12), b"\xff" * 600, dns.message.make_response(other).to_wire()):
        with pytest.raises(Unreachable) as caught:
            resolve(name_server(lambda query, data=data: [data]), 0.3)
        assert caught.value.how in ("failed", "timed_out")


def test_an_answer_that_was_cut_is_asked_for_again(name_server: Callable[..., NameServer]) -> None:
    """Over TCP, as the resolver would."""
    assert sorted(resolve(name_server(cut, b"tcp")).addresses) == ["20.60.1.4", "20.60.1.5"]


def test_an_answer_that_was_cut_and_is_not_to_be_had(name_server: Callable[..., NameServer]) -> None:
    """Nobody listens there for TCP."""
    with pytest.raises(Unreachable) as caught:
        resolve(name_server(cut), 0.5)
    assert caught.value.how == "refused"


@pytest.mark.parametrize("server", ["no address", "127.0.0.1#x", "", "fe80::1%nothing"])
def test_a_server_that_is_no_address(server: str) -> None:
    """It fails; nothing is looked up."""
    with pytest.raises(Unreachable):
        LiveMachine().resolve("storage.test", server, 0.3)


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "a..test", "\udcff.test", "x" * 300])
def test_a_name_that_cannot_be_asked_for(name: str, name_server: Callable[..., NameServer]) -> None:
    """It fails, and nobody is asked."""
    server = name_server(addressed)
    with pytest.raises(Unreachable) as caught:
        LiveMachine().resolve(name, server.name, 0.3)
    assert (caught.value.how, server.asked) == ("failed", 0)
