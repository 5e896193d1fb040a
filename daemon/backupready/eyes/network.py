"""What answers on the network? Each question bounded in time, its tries counted, its phases measured.

The libraries are imported where they are used: they are needed for seconds in a minute, and never by the resident
process.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, TypeVar
from urllib.parse import urlsplit

from backupready.model import Answer, Fetched, Resolved, Unreachable

BODY_LIMIT = 64 << 10  # bytes; the longest answer that a probe needs is under 2 kB
_CONNECT_TIMEOUT = 2.0  # s; the kernel asks again after 1 s
_MOST_ATTEMPTS = 3
_MOST_ADDRESSES = 4  # of one name
T = TypeVar("T")


def get(url: str, timeout: float, budget: float, headers: Mapping[str, str]) -> Answer:
    """Ask the fabric, without proxy. `timeout` is for each step of a try, `budget` for all tries; seconds. Nobody who
    is there takes as long to accept a connection as he may take to answer."""
    import requests
    import urllib3

    connecting = min(timeout, _CONNECT_TIMEOUT)

    def once(attempts: int) -> Answer:
        started = time.monotonic()
        with requests.Session() as session:
            session.trust_env = False  # no proxy, no netrc: the fabric is always asked directly
            # Nobody here needs compression, and a few hundred compressed bytes can be hundreds of megabytes.
            sent = {"Connection": "close", "Accept-Encoding": "identity", **headers}
            options: Any = {"timeout": (connecting, timeout), "stream": True, "allow_redirects": False}
            with session.get(url, headers=sent, **options) as response:
                body = response.raw.read(BODY_LIMIT) or b""
                received = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, received, body, time.monotonic() - started, attempts)

    trouble = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
    return _retried(once, trouble, lambda error: _how(error), connecting, budget)


def _retried(
    once: Callable[[int], T],
    trouble: tuple[type[BaseException], ...],
    how: Callable[[BaseException], tuple[str, str]],
    timeout: float,
    budget: float,
    final: Callable[[BaseException], bool] = lambda error: False,
    at: Callable[[], str] = lambda: "",
) -> T:
    """`once` with the number of the try, until it succeeds or the budget is used up. Raises Unreachable. No try begins
    where less than `timeout` is left.

    An error that is `final` is not worth another try. `at` says how far it has come, for when the budget ends it.
    """
    import tenacity

    attempts = 0

    def counted() -> T:
        nonlocal attempts
        attempts += 1
        return once(attempts)

    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, trouble) and not final(error)),
        stop=tenacity.stop_any(
            tenacity.stop_after_attempt(_MOST_ATTEMPTS), tenacity.stop_after_delay(budget - timeout)
        ),
        wait=tenacity.wait_fixed(0.2),
        reraise=True,
    )
    done: list[T] = []
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            done.append(retrying(counted))
        except trouble as error:
            failed.append(error)

    # A server that drips resets the time-out of every read, so that only a thread can keep the budget. One that is
    # given up ends with this short-lived process.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(budget)
    if done:
        return done[0]
    if failed:
        raise Unreachable(*how(failed[0]), attempts)
    raise Unreachable(f"{at()}timed_out", f"the answer was not complete after {budget:g} s", attempts)


class _PhaseError(Exception):
    """A phase of a fetch has failed; `final` if it would fail again."""

    def __init__(self, phase: str, why: tuple[str, str], final: bool = False) -> None:
        super().__init__(phase, *why)
        self.phase = phase
        self.why = why
        self.final = final


def fetch(url: str, timeout: float, budget: float, proxy: str) -> Fetched:
    """An HTTP HEAD, each phase measured. Certificates are held against the system's own authorities."""
    import ssl

    try:
        parts, through = urlsplit(url), urlsplit(proxy)
        host, secure = parts.hostname or "", parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        first_host, first_port = (through.hostname or "", through.port or 80) if proxy else (host, port)
    except ValueError as error:
        raise Unreachable("name: failed", str(error), 0) from None
    named = f"[{host}]" if ":" in host else host
    authority = named if port == (443 if secure else 80) else f"{named}:{port}"
    path = parts.path or "/"
    reached = "name"

    def once(attempts: int) -> Fetched:
        phases: dict[str, float] = {}

        @contextlib.contextmanager
        def phase(name: str) -> Any:
            nonlocal reached
            reached, started = name, time.monotonic()
            try:
                yield
            except ssl.SSLCertVerificationError as error:
                raise _PhaseError(name, ("certificate", error.verify_message), final=True) from error
            except ssl.SSLError as error:  # its errno is not the system's
                raise _PhaseError(name, ("failed", str(error.reason or error))) from error
            except socket.gaierror as error:
                how = "unknown" if error.errno == socket.EAI_NONAME else "failed"
                raise _PhaseError(name, (how, str(error.strerror))) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise _PhaseError(name, _how(error)) from error
            phases[name] = time.monotonic() - started

        with contextlib.ExitStack() as stack:
            with phase("name"):
                found = socket.getaddrinfo(first_host, first_port, type=socket.SOCK_STREAM)
            with phase("connect"):
                connection = _connected([str(address[0]) for *_, address in found], first_port, timeout)
            stack.callback(connection.close)
            if proxy and secure:
                with phase("proxy"):
                    connection.sendall(f"CONNECT {named}:{port} HTTP/1.1\r\nHost: {named}:{port}\r\n\r\n".encode())
                    answer = http.client.HTTPResponse(connection, method="CONNECT")
                    answer.begin()
                    if not 200 <= answer.status < 300:
                        raise _PhaseError("proxy", (f"answers {answer.status}", answer.reason), final=True)
            issuer = ""
            if secure:
                with phase("tls"):
                    connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
                    stack.callback(connection.close)
                    certificate: Any = connection.getpeercert() or {}
                    issuer = dict(pair for names in certificate.get("issuer", ()) for pair in names).get(
                        "organizationName", ""
                    )
            with phase("first_byte"):
                target = url if proxy and not secure else path
                connection.sendall(f"HEAD {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n".encode())
                answer = http.client.HTTPResponse(connection, method="HEAD")
                answer.begin()
            return Fetched(answer.status, phases, issuer, attempts)

    def how(error: BaseException) -> tuple[str, str]:
        assert isinstance(error, _PhaseError)
        return f"{error.phase}: {error.why[0]}", error.why[1]

    def final(error: BaseException) -> bool:
        return isinstance(error, _PhaseError) and error.final

    return _retried(once, (_PhaseError,), how, timeout, budget, final, lambda: f"{reached}: ")


def _connected(addresses: Sequence[str], port: int, timeout: float) -> socket.socket:
    """A connection to the first address that takes one. The time-out is for all of them, in equal shares, so that one
    which is silent leaves the others their turn."""
    candidates = list(dict.fromkeys(addresses))[:_MOST_ADDRESSES]
    deadline = time.monotonic() + timeout
    errors: list[OSError] = []
    for number, address in enumerate(candidates):
        share = max(0.05, (deadline - time.monotonic()) / (len(candidates) - number))
        try:
            connection = socket.create_connection((address, port), share)
        except OSError as error:
            errors.append(error)
        else:
            connection.settimeout(timeout)
            return connection
    # A machine without IPv6 has no way to half of the addresses; that is not what is wrong.
    raise next((e for e in errors if e.errno not in (errno.ENETUNREACH, errno.EADDRNOTAVAIL)), errors[-1])


def resolve(name: str, server: str, timeout: float) -> Resolved:
    """One question to one name server, asked again over TCP where the answer was cut."""
    import dns.exception
    import dns.flags
    import dns.message
    import dns.query
    import dns.rcode
    import dns.rdatatype

    address, _, text = server.partition("#")
    started = time.monotonic()
    try:
        ipaddress.ip_address(address.partition("%")[0])  # else older libraries raise whatever comes to their mind
        query, port = dns.message.make_query(name, "A"), int(text or 53)
        # What comes from another address is nobody's answer.
        answer = dns.query.udp(query, address, timeout=timeout, port=port, ignore_unexpected=True)
        if answer.flags & dns.flags.TC:
            left = max(0.05, started + timeout - time.monotonic())
            answer = dns.query.tcp(query, address, timeout=left, port=port)
    except dns.exception.Timeout:
        raise Unreachable("timed_out", f"no answer after {timeout:g} s", 1) from None
    except OSError as error:
        raise Unreachable(*_how(error), 1) from None
    except (dns.exception.DNSException, ValueError, EOFError) as error:
        raise Unreachable("failed", f"{type(error).__name__}: {error}"[:200], 1) from None
    addresses = [record.to_text() for group in answer.answer if group.rdtype == dns.rdatatype.A for record in group]
    return Resolved(tuple(addresses), dns.rcode.to_text(answer.rcode()), time.monotonic() - started)


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
