"""How is the web server guarded? As a file in the format of Prometheus' exporter-toolkit says: TLS, users, headers.

The file, and the certificates that it names, are looked at by each connection and read anew when they have changed.
What cannot be used is said once, and the last that could be stays in force. So it does where a file no longer has what
guarded, such as one that a full disk has cut off: only a start or a reload opens a server. Nothing in the file is
ignored: what this server cannot do is a mistake with its line and what to write instead.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import re
import ssl
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupready.config import ConfigError, Mistake
from backupready.journal import LOG

# OpenSSL's X509_V_FLAG_PARTIAL_CHAIN, which Python names from 3.10 on: a certificate is trusted by itself.
_PARTIAL_CHAIN = 0x80000
_LIMIT = 1 << 20  # bytes; the file has a few hundred
_OWN_CREDENTIAL = "web.key"  # what the unit hands over by itself
_NO_CREDENTIAL = b"none"  # as it says that there is no such key
_MOST_COST = 16  # of bcrypt; one check then takes seconds

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_TOO_OLD = ("TLS10", "TLS11")
_CLIENTS = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
# Go's names, and OpenSSL's. Those of TLS 1.3 cannot be chosen, neither there nor here.
_SUITES = {
    f"TLS_ECDHE_{key}_WITH_{go}": f"ECDHE-{key}-{openssl}"
    for key in ("ECDSA", "RSA")
    for go, openssl in (
        ("AES_128_CBC_SHA", "AES128-SHA"),
        ("AES_256_CBC_SHA", "AES256-SHA"),
        ("AES_128_GCM_SHA256", "AES128-GCM-SHA256"),
        ("AES_256_GCM_SHA384", "AES256-GCM-SHA384"),
        ("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305"),
    )
}
_SUITES_OF_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
_HEADERS: dict[str, tuple[str, ...]] = {
    "Content-Security-Policy": (),
    "Strict-Transport-Security": (),
    "X-Content-Type-Options": ("nosniff",),
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-XSS-Protection": (),
}
_IN_NO_PATH = re.compile("[\0\ud800-\udfff]")
_HASH = re.compile(r"\$2[aby]?\$(\d\d)\$[./A-Za-z0-9]{53}")

_SECTIONS = ("tls_server_config", "http_server_config", "basic_auth_users")
_TLS_KEYS = (
    *("cert_file", "key_file", "client_auth_type", "client_ca", "client_ca_file", "client_allowed_sans"),
    *("min_version", "max_version", "cipher_suites", "prefer_server_cipher_suites"),
)
# What exporter-toolkit knows and this server cannot do, and what to do instead.
_NOT_HERE = {
    "rate_limit": "connections are limited in number and in time as it is; leave it out",
    "cert": "write the certificate into a file and name that in cert_file",
    "key": "write the key into a file and name that in key_file",
    "curve_preferences": "the first curve that both sides know is taken; leave it out",
}


@dataclass(frozen=True)
class WebConfig:
    """What the file says. `tls` is None where plain HTTP is spoken; `users` have bcrypt's hashes, and with none nobody
    is asked; a header with an empty value is not sent."""

    tls: ssl.SSLContext | None = None
    allowed_sans: frozenset[str] = frozenset()
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)

    def admits(self, certificate: Mapping[str, Any] | None) -> bool:
        """Whether a client with this verified certificate, as ssl gives it, may go on; one without has none."""
        if not self.allowed_sans or not certificate:
            return True
        names = certificate.get("subjectAltName", ())
        return any(_plain(str(value)) in self.allowed_sans for _, value in names)

    @property
    def guards(self) -> Mapping[str, bool]:
        """Whether there is any of what keeps somebody or something out, by its name in the file."""
        return {
            "tls_server_config": self.tls is not None,
            "client_auth_type": self.tls is not None and self.tls.verify_mode is not ssl.CERT_NONE,
            "client_allowed_sans": bool(self.allowed_sans),
            "headers": bool(self.headers),
            "basic_auth_users": bool(self.users),
        }


def load(path: Path, credentials: Path | None = None) -> WebConfig:
    """Read the file and what it names. `credentials` is where the service manager puts keys. Raises ConfigError."""
    return _Reading(path, credentials).whole()


def check(path: Path) -> tuple[str, ...]:
    """Read the file and what it names for its mistakes; what is returned could not be looked at, since it is not there
    but for the daemon. Raises ConfigError."""
    reading = _Reading(path, None, at_first=True)
    reading.whole()
    return tuple(reading.unchecked)


def client_context(path: Path) -> ssl.SSLContext | None:
    """For who asks this very server: trusts the server's own certificate, whatever its name. None where the file asks
    for no TLS. The key need not be readable. Raises ConfigError, and OSError where the certificate cannot be read."""
    certificate = _Reading(path, None).certificate()
    if certificate is None:
        return None
    context = ssl.create_default_context(cafile=str(certificate))
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags(_PARTIAL_CHAIN)
    return context


def credentials_directory() -> Path | None:
    """Where the service manager has put what the unit's LoadCredential= names."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    return Path(directory) if directory else None


class WatchedFile:
    """The file, and what it said when it could last be used. Raises ConfigError where it cannot be used at first."""

    def __init__(self, path: Path, credentials: Path | None = None) -> None:
        self._path = path
        self._credentials = credentials
        self._looking = threading.Lock()
        self._told = ""
        self.successful = True  # whether the newest reading could be used
        reading = _Reading(path, credentials)
        self._newest = reading.whole()
        self._seen = reading.seen

    def newest(self) -> WebConfig:
        """What holds now. Whoever finds another looking does not wait: that one may hang on a dead file system."""
        if self._looking.acquire(blocking=False):
            try:
                self._read_or_refuse(asked=False)
            finally:
                self._looking.release()
        return self._newest

    def reload(self) -> None:
        """Take the file as it is, also where it lets in more than before: somebody has asked for it. May hang as long
        as a file system does."""
        with self._looking:
            self._told = ""
            self._read_or_refuse(asked=True)

    def _read_or_refuse(self, asked: bool) -> None:
        try:
            if asked or any(_mark(file) != mark for file, mark in self._seen.items()):
                self._read(asked)
        except Exception as error:  # noqa: BLE001 - who connects is served by the old one, whatever the file has
            self._seen = dict.fromkeys(self._seen, ())  # no file is like that: the next connection tries again
            self._refuse(repr(error), error)

    def _read(self, asked: bool) -> None:
        reading = _Reading(self._path, self._credentials)
        try:
            found = reading.whole()
        except ConfigError as error:
            self._refuse(str(error))
        else:
            gone = [name for name, is_there in self._newest.guards.items() if is_there and not found.guards[name]]
            if gone and not asked:
                self._refuse(
                    f"{self._path}: there is no {', '.join(gone)} any more; "
                    "if that is meant, systemctl reload backupready takes it"
                )
            else:
                self._newest, self.successful, self._told = found, True, ""
                LOG.info("the web server's configuration is read anew")
        self._seen = reading.seen

    def _refuse(self, why: str, defect: Exception | None = None) -> None:
        self.successful = False
        if why != self._told:
            self._told = why
            what = "cannot use the web server's configuration, the old one stays in force:\n%s"
            LOG.error(what, why, exc_info=defect)


class Passwords:
    """Who has a right password? bcrypt is slow on purpose, so that what has been checked is remembered, as a keyed
    digest; what is right is not crowded out by what is wrong, and not more than a few wait to be checked."""

    _MOST_KNOWN = 100
    _MOST_WAITING = 8

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._known: dict[bool, dict[bytes, None]] = {True: {}, False: {}}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(self._MOST_WAITING)

    def right(self, users: Mapping[str, str], name: str, password: bytes) -> bool | None:
        """None when too many others wait to be checked."""
        # A user that is not there takes as long as one that is.
        hashed = users.get(name) or next(iter(users.values()))
        digest = hmac.new(self._secret, repr((name, name in users, hashed, password)).encode(), hashlib.sha256).digest()
        if (known := self._recall(digest)) is not None:
            return known
        if not self._places.acquire(blocking=False):
            return None
        try:
            with self._turn:
                if (known := self._recall(digest)) is None:
                    started = time.monotonic()
                    known = _matches(password, hashed) and name in users
                    self._remember(digest, known)
                    if not known:
                        time.sleep(min(1.0, time.monotonic() - started))  # guessing leaves half of the time to others
            return known
        finally:
            self._places.release()

    def _recall(self, digest: bytes) -> bool | None:
        with self._lock:
            return next((right for right, digests in self._known.items() if digest in digests), None)

    def _remember(self, digest: bytes, right: bool) -> None:
        with self._lock:
            digests = self._known[right]
            if len(digests) >= self._MOST_KNOWN:
                del digests[next(iter(digests))]
            digests[digest] = None


def _matches(password: bytes, hashed: str) -> bool:
    import bcrypt

    try:
        # More than 72 bytes never counted; newer versions of the library refuse them.
        return bool(bcrypt.checkpw(password[:72], hashed.encode()))
    except ValueError:  # a NUL, to older versions
        return False


def _plain(name: str) -> str:
    """An IP address in its shortest form; everything else as it is."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _mark(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is written or replaced; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


class _Reading:
    """One reading of the file. `seen` has the files that were looked at, as they were. `at_first` it is read for what
    the daemon will find: `unchecked` says what the unit alone can hand over."""

    def __init__(self, path: Path, credentials: Path | None, at_first: bool = False) -> None:
        self._path = path
        self._credentials = credentials
        self._at_first = at_first
        self.unchecked: list[str] = []
        self._mistakes: list[Mistake] = []
        self.seen: dict[Path, tuple[int, ...] | None] = {}

    def whole(self) -> WebConfig:
        document = self._document()
        tls: ssl.SSLContext | None = None
        sans: frozenset[str] = frozenset()
        headers: dict[str, str] = {}
        users: dict[str, str] = {}
        if "tls_server_config" in document:
            tls, sans = self._tls(*document["tls_server_config"])
        if "http_server_config" in document:
            headers = self._http(*document["http_server_config"])
        if "basic_auth_users" in document:
            users = self._users(*document["basic_auth_users"])
        self._refuse_mistakes()
        return WebConfig(tls, sans, headers, users)

    def certificate(self) -> Path | None:
        document = self._document()
        found = None
        if "tls_server_config" in document:
            values = self._mapping(*document["tls_server_config"], "tls_server_config", _TLS_KEYS)
            found = self._named(values, "cert_file")
        self._refuse_mistakes()
        return found

    def _refuse_mistakes(self) -> None:
        if self._mistakes:
            raise ConfigError(sorted(self._mistakes, key=lambda mistake: mistake.line))

    def _wrong(self, line: int, what: str, hint: str = "") -> None:
        self._mistakes.append(Mistake(str(self._path), line, what, hint))

    # ---- YAML

    def _document(self) -> dict[str, tuple[int, Any]]:
        """The sections with their lines. Raises ConfigError where it is no YAML."""
        self.seen[self._path] = _mark(self._path)
        try:
            import yaml
        except ImportError:
            self._wrong(0, "cannot read this file: PyYAML is not installed", "install python3-yaml or python3-pyyaml")
            self._refuse_mistakes()
        node: Any = None
        try:
            with self._path.open("rb") as file:
                data = file.read(_LIMIT + 1)
            if len(data) > _LIMIT:
                self._wrong(0, "cannot read this file: it is larger than a MiB")
            else:
                node = yaml.compose(data.decode("utf-8"), Loader=yaml.SafeLoader)
        except OSError as error:
            self._wrong(0, f"cannot read this file: {error.strerror}", "the user backupready must be able to read it")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            self._wrong(line, "cannot read this line: it is not UTF-8")
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self._wrong(mark.line + 1 if mark else 0, f"this is not YAML: {error.problem or error.context}")
        except (yaml.YAMLError, RecursionError) as error:
            self._wrong(0, f"this is not YAML: {error}")
        self._refuse_mistakes()
        return {} if node is None else self._mapping(1, node, "the file", _SECTIONS)

    def _mapping(
        self, line: int, node: Any, where: str, known: Iterable[str] | None = None
    ) -> dict[str, tuple[int, Any]]:
        """Key → its line and its node. With nothing behind the colon it is empty."""
        if _is_null(node):
            return {}
        if node.id != "mapping":
            self._wrong(line, f"{where} has no keys", "write key: value, indented")
            return {}
        found: dict[str, tuple[int, Any]] = {}
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value) if key.id == "scalar" else "?"
            if name in found:
                self._wrong(line, f"{name} is there twice", f"first in line {found[name][0]}")
            elif known is not None and name not in known:
                self._unknown(line, name, where, known)
            else:
                found[name] = line, value
        return found

    def _unknown(self, line: int, name: str, where: str, known: Iterable[str]) -> None:
        if name in _NOT_HERE:
            self._wrong(line, f"this server cannot do {name}", _NOT_HERE[name])
        else:
            self._wrong(line, f"{where} has no key {name!r}", f"there are {', '.join(known)}")

    def _text(self, values: Mapping[str, tuple[int, Any]], key: str) -> str:
        if key not in values or _is_null(values[key][1]):
            return ""
        line, node = values[key]
        if node.id != "scalar":
            self._wrong(line, f"{key} is no text")
            return ""
        return str(node.value)

    def _texts(self, values: Mapping[str, tuple[int, Any]], key: str) -> list[tuple[int, str]]:
        if key not in values or _is_null(values[key][1]):
            return []
        line, node = values[key]
        if node.id != "sequence" or any(item.id != "scalar" for item in node.value):
            self._wrong(line, f"{key} is no list of texts", "write each behind a hyphen in a line of its own")
            return []
        return [(item.start_mark.line + 1, str(item.value)) for item in node.value]

    def _flag(self, values: Mapping[str, tuple[int, Any]], key: str, default: bool) -> bool:
        if key not in values:
            return default
        line, node = values[key]
        if node.id != "scalar" or node.tag != "tag:yaml.org,2002:bool":
            self._wrong(line, f"{key} is neither true nor false")
            return default
        return str(node.value).lower() in ("true", "yes", "on")

    # ---- sections

    def _http(self, line: int, node: Any) -> dict[str, str]:
        values = self._mapping(line, node, "http_server_config", ("http2", "headers"))
        if self._flag(values, "http2", False):
            self._wrong(values["http2"][0], "this server cannot do HTTP/2", "write http2: false, or leave it out")
        found: dict[str, str] = {}
        if "headers" not in values:
            return found
        for name, (at, _) in (headers := self._mapping(*values["headers"], "headers", _HEADERS)).items():
            text = self._text(headers, name)
            if not text.isprintable() or not text.isascii():
                self._wrong(at, f"{name} has characters that no header has")
            elif text and _HEADERS[name] and text not in _HEADERS[name]:
                self._wrong(at, f"{name} cannot be {text!r}", f"give {' or '.join(_HEADERS[name])}")
            found[name] = text
        return found

    def _users(self, line: int, node: Any) -> dict[str, str]:
        values = self._mapping(line, node, "basic_auth_users")
        if not values:
            self._wrong(line, "basic_auth_users names nobody", "leave it out, and nobody is asked for a password")
        found: dict[str, str] = {}
        for name, (at, _) in values.items():
            hashed = self._text(values, name)
            match = _HASH.fullmatch(hashed)
            if not name or ":" in name:
                self._wrong(at, f"{name!r} is no name of a user", "it is not empty and has no colon")
            elif match is None:
                self._wrong(at, f"what {name} has is no hash of bcrypt", "make one with htpasswd -nBC 10 ''")
            elif not 4 <= int(match[1]) <= _MOST_COST:
                self._wrong(at, f"the cost of {name}'s hash is {int(match[1])}", f"it is from 4 to {_MOST_COST}")
            found[name] = hashed
        try:
            import bcrypt  # noqa: F401
        except ImportError:
            self._wrong(line, "cannot check passwords: bcrypt is not installed", "install python3-bcrypt")
        return found

    def _tls(self, line: int, node: Any) -> tuple[ssl.SSLContext, frozenset[str]]:
        values = self._mapping(line, node, "tls_server_config", _TLS_KEYS)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._versions(values, context)
        self._suites(values, context)
        self._clients(values, context)
        sans = self._texts(values, "client_allowed_sans")
        if "client_allowed_sans" in values and not sans:
            self._wrong(values["client_allowed_sans"][0], "client_allowed_sans names nobody", "leave it out")
        if sans and context.verify_mode == ssl.CERT_NONE:
            hint = "add client_auth_type: RequireAndVerifyClientCert"
            self._wrong(values["client_allowed_sans"][0], "client_allowed_sans asks for clients' certificates", hint)
        certificate, key = self._named(values, "cert_file", line), self._named(values, "key_file", line)
        if certificate is not None and key is not None and self._readable(certificate, values["cert_file"][0]):
            key = self._key(self._text(values, "key_file"), key, values["key_file"][0])
            if key is not None:
                self._load_pair(context, certificate, key, values["cert_file"][0])
        return context, frozenset(_plain(name) for _, name in sans)

    def _versions(self, values: Mapping[str, tuple[int, Any]], context: ssl.SSLContext) -> None:
        chosen = {"min_version": ssl.TLSVersion.TLSv1_2, "max_version": ssl.TLSVersion.TLSv1_3}
        for key in chosen:
            if text := self._text(values, key):
                if text in _VERSIONS:
                    chosen[key] = _VERSIONS[text]
                elif text in _TOO_OLD:
                    self._wrong(values[key][0], f"this server cannot do {text}", "give TLS12 or TLS13")
                else:
                    self._wrong(values[key][0], f"{key} cannot be {text!r}", "give TLS12 or TLS13")
        if chosen["min_version"] > chosen["max_version"]:
            self._wrong(values["min_version"][0], "min_version is above max_version")
            return
        context.minimum_version, context.maximum_version = chosen["min_version"], chosen["max_version"]

    def _suites(self, values: Mapping[str, tuple[int, Any]], context: ssl.SSLContext) -> None:
        chosen = []
        for line, name in self._texts(values, "cipher_suites"):
            if name in _SUITES:
                chosen.append(_SUITES[name])
            elif name in _SUITES_OF_13:
                self._wrong(line, f"{name} is TLS 1.3's, whose suites cannot be chosen", "leave it out")
            else:
                self._wrong(line, f"there is no cipher suite {name!r}", f"there are {', '.join(_SUITES)}")
        if chosen:
            try:
                context.set_ciphers(":".join(chosen))
            except ssl.SSLError:
                self._wrong(values["cipher_suites"][0], "this machine's OpenSSL allows none of these cipher suites")
        if not self._flag(values, "prefer_server_cipher_suites", True):
            context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE

    def _clients(self, values: Mapping[str, tuple[int, Any]], context: ssl.SSLContext) -> None:
        kind = self._text(values, "client_auth_type")
        inline, file = self._text(values, "client_ca"), self._named(values, "client_ca_file")
        asked = "client_ca_file" if file is not None else "client_ca"
        if kind in _UNVERIFIED:
            hint = "write RequireAndVerifyClientCert with a client_ca_file"
            self._wrong(values["client_auth_type"][0], f"this server cannot do {kind}, which verifies nothing", hint)
            return
        if kind not in _CLIENTS:
            hint = f"give {', '.join(filter(None, _CLIENTS))}"
            self._wrong(values["client_auth_type"][0], f"client_auth_type cannot be {kind!r}", hint)
            return
        context.verify_mode = _CLIENTS[kind]
        if inline and file is not None:
            self._wrong(values["client_ca"][0], "client_ca and client_ca_file are both given", "give one")
        elif (inline or file) and context.verify_mode == ssl.CERT_NONE:
            hint = "add client_auth_type: RequireAndVerifyClientCert"
            self._wrong(values[asked][0], f"{asked} is given, and clients are not asked for certificates", hint)
        elif not (inline or file) and context.verify_mode != ssl.CERT_NONE:
            self._wrong(values["client_auth_type"][0], f"{kind} has nobody to trust", "add a client_ca_file")
        elif inline or (file is not None and self._readable(file, values[asked][0])):
            try:
                context.load_verify_locations(cafile=str(file) if file else None, cadata=inline or None)
            except (OSError, ValueError, TypeError) as error:  # TypeError: what is inline is not ASCII
                self._wrong(values[asked][0], f"{file or 'client_ca'} has no certificate in PEM: {_reason(error)}")

    # ---- files

    def _named(self, values: Mapping[str, tuple[int, Any]], key: str, needed: int = 0) -> Path | None:
        """A file beside this one, or with a path of its own; where it is needed, the line of what needs it."""
        text = self._text(values, key)
        if not text and needed:
            self._wrong(values[key][0] if key in values else needed, f"tls_server_config needs a {key}")
        if _IN_NO_PATH.search(text):
            self._wrong(values[key][0], f"{key} has a character that no path has: {text!r}")
            return None
        return self._path.absolute().parent / text if text else None

    def _key(self, name: str, beside: Path, line: int) -> Path | None:
        """The one that can be read: what the service manager has handed over, or else what lies beside this file."""
        key = self._handed_over(name) or beside
        is_others = "/" not in name and name != _OWN_CREDENTIAL
        hint = f"hand it over to the unit by LoadCredential={name}:PATH" if is_others else ""
        if self._at_first and is_others and not os.path.lexists(key):
            self.unchecked.append(f"{self._path}:{line}: there is no {key}; {hint}, if you have not yet")
            return None
        return key if self._readable(key, line, hint) else None

    def _handed_over(self, name: str) -> Path | None:
        """The credential of that name, where the service manager has one."""
        if self._credentials is None or "/" in name:
            return None
        place = self._credentials / name
        self.seen[place] = _mark(place)
        try:
            with place.open("rb") as file:
                return None if file.read(100).strip() == _NO_CREDENTIAL else place
        except OSError:
            return None

    def _readable(self, file: Path, line: int, absent: str = "") -> bool:
        self.seen[file] = _mark(file)
        try:
            with file.open("rb") as opened:
                opened.read(1)
        except OSError as error:
            hint = absent if isinstance(error, FileNotFoundError) else ""
            hint = "the user backupready must be able to read it" if isinstance(error, PermissionError) else hint
            self._wrong(line, f"cannot read {file}: {error.strerror}", hint)
            return False
        return True

    def _load_pair(self, context: ssl.SSLContext, certificate: Path, key: Path, line: int) -> None:
        try:
            context.load_cert_chain(certificate, key, password=" ")  # noqa: S106 - else a terminal is asked
        except (OSError, ValueError) as error:
            hint = "keys that the service manager hands over are renewed by systemctl restart backupready"
            hint = hint if key.parent == self._credentials else "both are PEM, the key is not encrypted"
            self._wrong(line, f"cannot use {certificate} with the key {key}: {_reason(error)}", hint)


def _is_null(node: Any) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return str(reason).replace("_", " ").lower()
