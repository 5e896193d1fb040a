"""How the web server is guarded: what the file may say, what is refused and where, what is read anew, who is known."""

from __future__ import annotations

import logging
import re
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Callable

import bcrypt
import pytest

from backupready.config import ConfigError
from backupready.mind import webconfig
from backupready.mind.webconfig import Passwords, WatchedFile, WebConfig, check, load
from built import SOURCE
from lab import certificates
from measured import measured
from requirement import need

EXAMPLE = SOURCE / "config/web.yml"
HASH = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: web.crt\n  key_file: web.key\n"


@pytest.fixture(scope="session")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with web.crt and web.key, other.crt and other.key, and the authority.crt that signed both."""
    need("openssl")
    place = tmp_path_factory.mktemp("signed")
    authority = certificates.authority(place, "authority", "The tests")
    certificates.signed(authority, place, "web", "DNS:localhost,IP:127.0.0.1,IP:::1")
    certificates.signed(authority, place, "other", "DNS:other.example.org")
    return place


def file(directory: Path, text: str) -> Path:
    path = directory / "web.yml"
    path.write_text(text, encoding="utf-8")
    return path


def beside(directory: Path, signed: Path, text: str) -> Path:
    """The file with copies of the certificates beside it."""
    for one in signed.iterdir():
        (directory / one.name).write_bytes(one.read_bytes())
    return file(directory, text)


def mistakes(path: Path) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert {mistake.path for mistake in caught.value.mistakes} == {str(path)}
    return [(mistake.line, mistake.what, mistake.hint) for mistake in caught.value.mistakes]


# ----------------------------------------------------------------------------------------------- what it may say


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
def test_an_empty_file_asks_for_nothing(text: str, tmp_path: Path) -> None:
    """Plain HTTP, nobody is asked, no header of its own; as with exporter-toolkit."""
    assert load(file(tmp_path, text)) == WebConfig()


def test_users_and_headers_are_taken_over(tmp_path: Path) -> None:
    """A header with nothing is kept as one that is not sent; a user's name may be a number."""
    text = f"""
http_server_config:
  http2: false
  headers:
    X-Frame-Options: deny
    Content-Security-Policy:
basic_auth_users:
  prometheus: {HASH}
  42: {HASH}
"""
    config = load(file(tmp_path, text))
    assert config.users == {"prometheus": HASH, "42": HASH}
    assert config.headers == {"X-Frame-Options": "deny", "Content-Security-Policy": ""}
    assert config.tls is None


@pytest.mark.integration
def test_tls_is_as_the_file_says(signed: Path, tmp_path: Path) -> None:
    """Versions, suites in their order, whose order counts, and that clients are asked; paths are beside the file."""
    text = TLS + (
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt\n"
        "  client_allowed_sans: [a.example.org, '0:0::1']\n  min_version: TLS12\n  max_version: TLS12\n"
        "  cipher_suites:\n"
        "  - TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\n  - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\n"
        "  prefer_server_cipher_suites: false\n"
    )
    config = load(beside(tmp_path, signed, text))
    assert config.tls is not None
    assert config.tls.verify_mode == ssl.CERT_REQUIRED
    assert (config.tls.minimum_version, config.tls.maximum_version) == (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2)
    suites = [suite["name"] for suite in config.tls.get_ciphers() if not suite["name"].startswith("TLS_")]
    assert suites == ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
    assert not config.tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE
    assert config.allowed_sans == {"a.example.org", "::1"}


@pytest.mark.integration
def test_tls_is_strict_by_itself(signed: Path, tmp_path: Path) -> None:
    """From 1.2 on, by the server's order, without clients' certificates."""
    tls = load(beside(tmp_path, signed, TLS)).tls
    assert tls is not None
    assert (tls.minimum_version, tls.verify_mode) == (ssl.TLSVersion.TLSv1_2, ssl.CERT_NONE)
    assert tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE


@pytest.mark.integration
def test_every_suite_of_gos_has_its_name_in_openssl(signed: Path, tmp_path: Path) -> None:
    """Each is there alone when it is asked for alone."""
    for name in webconfig._SUITES:
        tls = load(beside(tmp_path, signed, f"{TLS}  cipher_suites: [{name}]\n")).tls
        assert tls is not None
        assert len([suite for suite in tls.get_ciphers() if not suite["name"].startswith("TLS_")]) == 1, name


@pytest.mark.integration
def test_an_authority_may_stand_in_the_file(signed: Path, tmp_path: Path) -> None:
    """As client_ca, a text in PEM."""
    authority = (signed / "authority.crt").read_text().replace("\n", "\n    ")
    text = f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca: |\n    {authority}\n"
    tls = load(beside(tmp_path, signed, text)).tls
    assert tls is not None
    assert (tls.verify_mode, len(tls.get_ca_certs())) == (ssl.CERT_OPTIONAL, 1)


def example(directory: Path, signed: Path) -> Path:
    """With everything in it uncommented, and what it names beside it."""
    text = re.sub(r"(?m)^( *)#(?=[a-z-]|[A-Z][A-Za-z-]*:)", r"\1", EXAMPLE.read_text(encoding="utf-8"))
    path = beside(directory, signed, text)
    (directory / "clients.crt").write_bytes((signed / "authority.crt").read_bytes())
    return path


@pytest.mark.integration
def test_exporter_toolkit_takes_the_example(signed: Path, tmp_path: Path) -> None:
    """Prometheus itself reads it, by the library whose format it is; Debian 12's is older than one of the keys."""
    need("promtool", "prometheus")
    path = example(tmp_path, signed)
    path.write_text(re.sub(r"  client_allowed_sans:\n *- .*\n", "", path.read_text(encoding="utf-8")))
    done = subprocess.run(
        ["promtool", "check", "web-config", path], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, f"{path} SUCCESS\n")


@pytest.mark.integration
def test_the_example_says_what_is_possible(signed: Path, tmp_path: Path) -> None:
    """With everything in it uncommented it is right, names every key, and its password is the one it says."""
    assert load(EXAMPLE) == WebConfig()
    path = example(tmp_path, signed)
    uncommented = path.read_text(encoding="utf-8")
    config = load(path)
    assert config.tls is not None
    assert config.tls.verify_mode == ssl.CERT_REQUIRED
    assert set(config.headers) == set(webconfig._HEADERS)
    assert Passwords().right(config.users, "prometheus", b"example") is True
    for key in {*webconfig._TLS_KEYS} - {"client_ca"} | {"http2", "headers", "basic_auth_users"}:
        assert re.search(rf"(?m)^ *{key}:", uncommented), key


# --------------------------------------------------------------------------------------------------- what is refused

REFUSED: dict[str, tuple[str, list[tuple[int, str, str]]]] = {
    "an unknown section": (
        "tls_config:\n",
        [
            (
                1,
                "the file has no key 'tls_config'",
                "there are tls_server_config, http_server_config, basic_auth_users",
            )
        ],
    ),
    "a rate limit": (
        "\nrate_limit:\n  interval: 1s\n",
        [
            (
                2,
                "this server cannot do rate_limit",
                "connections are limited in number and in time as it is; leave it out",
            )
        ],
    ),
    "HTTP/2": (
        "http_server_config:\n  http2: true\n",
        [(2, "this server cannot do HTTP/2", "write http2: false, or leave it out")],
    ),
    "no flag": ("http_server_config: {http2: 'false'}\n", [(1, "http2 is neither true nor false", "")]),
    "an unknown header": (
        "http_server_config:\n  headers:\n    Server: x\n",
        [(3, "headers has no key 'Server'", f"there are {', '.join(webconfig._HEADERS)}")],
    ),
    "a header's value": (
        "http_server_config:\n  headers:\n    X-Frame-Options: allow\n",
        [(3, "X-Frame-Options cannot be 'allow'", "give deny or sameorigin")],
    ),
    "a header that ends": (
        'http_server_config:\n  headers:\n    X-XSS-Protection: "0\\r\\nX: y"\n',
        [(3, "X-XSS-Protection has characters that no header has", "")],
    ),
    "nobody": (
        "basic_auth_users:\n",
        [(1, "basic_auth_users names nobody", "leave it out, and nobody is asked for a password")],
    ),
    "a plain password": (
        "basic_auth_users:\n  a: secret\n",
        [(2, "what a has is no hash of bcrypt", "make one with htpasswd -nBC 10 ''")],
    ),
    "a slow hash": (
        f"basic_auth_users:\n  a: {HASH.replace('$04$', '$17$')}\n",
        [(2, "the cost of a's hash is 17", "it is from 4 to 16")],
    ),
    "a user's colon": (
        f"basic_auth_users:\n  'a:b': {HASH}\n",
        [(2, "'a:b' is no name of a user", "it is not empty and has no colon")],
    ),
    "a user twice": (
        f"basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n",
        [(3, "a is there twice", "first in line 2")],
    ),
    "TLS without anything": (
        "\ntls_server_config:\n",
        [(2, "tls_server_config needs a cert_file", ""), (2, "tls_server_config needs a key_file", "")],
    ),
    "no path": (
        'tls_server_config:\n  cert_file: "a\\0b"\n  key_file: "\\uD800"\n',
        [
            (2, "cert_file has a character that no path has: 'a\\x00b'", ""),
            (3, "key_file has a character that no path has: '\\ud800'", ""),
        ],
    ),
    "no mapping": ("basic_auth_users\n", [(1, "the file has no keys", "write key: value, indented")]),
    "no YAML": ("a: b: c\n", [(1, "this is not YAML: mapping values are not allowed here", "")]),
    "a tab": (
        "http_server_config:\n\thttp2: false\n",
        [(2, "this is not YAML: found character '\\t' that cannot start any token", "")],
    ),
    "two documents": ("---\na: 1\n---\nb: 1\n", [(3, "this is not YAML: but found another document", "")]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_a_mistake_with_its_line(name: str, tmp_path: Path) -> None:
    """And with what to write instead; a password is not repeated."""
    text, expected = REFUSED[name]
    assert mistakes(file(tmp_path, text)) == expected


CANNOT = {
    "cert: x": "this server cannot do cert",
    "key: x": "this server cannot do key",
    "curve_preferences: [X25519]": "this server cannot do curve_preferences",
    "min_version: TLS11": "this server cannot do TLS11",
    "max_version: SSL3": "max_version cannot be 'SSL3'",
    "cipher_suites: [TLS_AES_128_GCM_SHA256]": "TLS_AES_128_GCM_SHA256 is TLS 1.3's, whose suites cannot be chosen",
    "cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]": "there is no cipher suite 'TLS_RSA_WITH_RC4_128_SHA'",
    "cipher_suites: TLS_AES_128_GCM_SHA256": "cipher_suites is no list of texts",
    "client_auth_type: RequireAnyClientCert": "this server cannot do RequireAnyClientCert, which verifies nothing",
    "client_auth_type: Always": "client_auth_type cannot be 'Always'",
    "client_auth_type: RequireAndVerifyClientCert": "RequireAndVerifyClientCert has nobody to trust",
    "client_ca_file: authority.crt": "client_ca_file is given, and clients are not asked for certificates",
    "client_allowed_sans: [a]": "client_allowed_sans asks for clients' certificates",
    "client_allowed_sans: []": "client_allowed_sans names nobody",
    "prefer_server_cipher_suites: maybe": "prefer_server_cipher_suites is neither true nor false",
    "client_auth_typ: x": "tls_server_config has no key 'client_auth_typ'",
}


@pytest.mark.integration
@pytest.mark.parametrize("line", CANNOT)
def test_what_tls_cannot_do_is_a_mistake(line: str, signed: Path, tmp_path: Path) -> None:
    """Everything else in the file is right, so that this alone is told."""
    assert [(at, what) for at, what, _ in mistakes(beside(tmp_path, signed, f"{TLS}  {line}\n"))] == [(4, CANNOT[line])]


@pytest.mark.integration
def test_versions_that_leave_none_are_a_mistake(signed: Path, tmp_path: Path) -> None:
    """Nobody could connect."""
    text = f"{TLS}  min_version: TLS13\n  max_version: TLS12\n"
    assert mistakes(beside(tmp_path, signed, text)) == [(4, "min_version is above max_version", "")]


@pytest.mark.integration
def test_all_mistakes_are_told_at_once(signed: Path, tmp_path: Path) -> None:
    """In the order of their lines."""
    text = f"basic_auth_users:\n  a: b\n{TLS}  min_version: x\nrate_limit: 1\n"
    assert [line for line, _, _ in mistakes(beside(tmp_path, signed, text))] == [2, 6, 7]


@pytest.mark.integration
def test_a_certificate_that_cannot_be_used_is_named(signed: Path, tmp_path: Path) -> None:
    """Not there, not readable as one, of another key, and a key with a password, which nobody is asked for."""
    path = beside(tmp_path, signed, TLS)
    certificate, key = tmp_path / "web.crt", tmp_path / "web.key"
    key.write_bytes((signed / "other.key").read_bytes())
    ((line, what, _),) = mistakes(path)
    assert (line, what) == (2, f"cannot use {certificate} with the key {key}: key values mismatch")
    encrypted = ["openssl", "ec", "-in", str(signed / "web.key"), *f"-aes256 -passout pass:x -out {key}".split()]
    subprocess.run(encrypted, check=True, capture_output=True)
    ((line, what, hint),) = mistakes(path)
    assert what.startswith(f"cannot use {certificate} with the key {key}: ")
    assert hint == "both are PEM, the key is not encrypted"
    certificate.write_text("no certificate")
    assert [line for line, _, _ in mistakes(path)] == [2]
    certificate.unlink()
    assert mistakes(path) == [(2, f"cannot read {certificate}: No such file or directory", "")]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """It is not there, or not in UTF-8, or not a small file."""
    path = tmp_path / "web.yml"
    assert [what for _, what, _ in mistakes(path)] == ["cannot read this file: No such file or directory"]
    path.write_bytes(b"# right\n# \xff\n")
    assert mistakes(path) == [(2, "cannot read this line: it is not UTF-8", "")]
    path.write_bytes(b"#" * (1 << 20) + b"\n")
    assert mistakes(path) == [(0, "cannot read this file: it is larger than a MiB", "")]
    path.write_text("[" * 100_000)
    assert len(mistakes(path)) == 1


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        (
            "yaml",
            "",
            (0, "cannot read this file: PyYAML is not installed", "install python3-yaml or python3-pyyaml"),
        ),
        (
            "bcrypt",
            f"basic_auth_users:\n  a: {HASH}\n",
            (1, "cannot check passwords: bcrypt is not installed", "install python3-bcrypt"),
        ),
    ],
    ids=["yaml", "bcrypt"],
)
def test_a_library_that_is_missing_is_named(
    module: str, text: str, expected: tuple[int, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the package that has it; without users bcrypt is not missed."""
    monkeypatch.setitem(sys.modules, module, None)
    assert mistakes(file(tmp_path, text)) == [expected]
    if module == "bcrypt":
        assert load(file(tmp_path, "")) == WebConfig()


# ------------------------------------------------------------------------------------------------------ the key


@pytest.mark.integration
def test_a_key_is_looked_for_among_the_credentials(signed: Path, tmp_path: Path) -> None:
    """By its name alone; what the unit hands over where there is no key is none, and the file beside is taken."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "web.key").write_bytes((signed / "web.key").read_bytes())
    path = beside(tmp_path, signed, TLS)
    (tmp_path / "web.key").unlink()
    assert load(path, credentials).tls is not None
    with pytest.raises(ConfigError, match="cannot read"):
        load(file(tmp_path, TLS.replace("web.key", "./web.key")), credentials)
    (credentials / "web.key").write_text("none")
    with pytest.raises(ConfigError, match=f"cannot read {tmp_path}/web.key"):
        load(file(tmp_path, TLS), credentials)
    (tmp_path / "web.key").write_bytes((signed / "web.key").read_bytes())
    assert load(path, credentials).tls is not None


@pytest.mark.integration
def test_a_handed_over_key_that_is_old_says_restart(signed: Path, tmp_path: Path) -> None:
    """The certificate is renewed at once, the credential at a restart."""
    path = beside(tmp_path, signed, TLS)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "web.key").write_bytes((signed / "other.key").read_bytes())
    with pytest.raises(ConfigError, match=r"key values mismatch \(.*systemctl restart backupready\)"):
        load(path, credentials)


@pytest.mark.integration
def test_what_the_unit_alone_hands_over_is_no_mistake_before_it_does(signed: Path, tmp_path: Path) -> None:
    """It is told; the key that the unit has by itself must be there, and so must one with a path. For the daemon each
    is a mistake."""
    path = beside(tmp_path, signed, TLS.replace("web.key", "own.key"))
    hint = "hand it over to the unit by LoadCredential=own.key:PATH"
    assert check(path) == (f"{path}:3: there is no {tmp_path}/own.key; {hint}, if you have not yet",)
    with pytest.raises(ConfigError, match=rf"own\.key: No such file or directory \({hint}\)"):
        load(path)
    (tmp_path / "own.key").write_bytes((signed / "other.key").read_bytes())
    with pytest.raises(ConfigError, match="cannot use"):
        check(path)
    (tmp_path / "own.key").write_bytes((signed / "web.key").read_bytes())
    assert check(path) == ()
    for name in ("web.key", "./own.key"):
        (tmp_path / name).unlink(missing_ok=True)
        with pytest.raises(ConfigError, match=r"cannot read .*\.key: No such file"):
            check(file(tmp_path, TLS.replace("web.key", name)))


def test_where_the_credentials_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service manager says it; without one there are none."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/backupready.service")
    assert webconfig.credentials_directory() == Path("/run/credentials/backupready.service")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert webconfig.credentials_directory() is None


# -------------------------------------------------------------------------------------------------- read anew


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_change_is_taken_over_and_a_bad_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The old one stays in force, the journal has it once, and the metric's flag falls until it is mended."""
    path = file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n")
    watched = WatchedFile(path)
    assert (set(watched.newest().users), watched.successful) == ({"a"}, True)
    for text in ("basic_auth_users:\n", "basic_auth_users: \n"):
        file(tmp_path, text)
        for _ in range(3):
            assert (set(watched.newest().users), watched.successful) == ({"a"}, False)
    (message,) = told(caplog)
    assert "the old one stays in force" in message
    assert f"{path}:1: basic_auth_users names nobody" in message
    path.unlink()
    assert (set(watched.newest().users), watched.successful) == ({"a"}, False)
    assert len(told(caplog)) == 2
    file(tmp_path, f"basic_auth_users:\n  b: {HASH}\n")
    assert (set(watched.newest().users), watched.successful) == ({"b"}, True)


@pytest.mark.parametrize(
    ("before", "after", "gone"),
    [
        ("basic_auth_users:\n  a: {hash}\n", "", "basic_auth_users"),
        ("basic_auth_users:\n  a: {hash}\n", "# cut off", "basic_auth_users"),
        ("basic_auth_users:\n  a: {hash}\n", "http_server_config:\n  http2: false\n", "basic_auth_users"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: deny\n", "http_server_config:\n", "headers"),
    ],
)
def test_a_file_that_was_cut_off_opens_nothing(
    before: str, after: str, gone: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was in force stays, the journal names it and what takes it if it is meant; a repaired file is taken."""
    before = before.format(hash=HASH)
    watched = WatchedFile(file(tmp_path, before))
    closed = watched.newest()
    path = file(tmp_path, after)
    for _ in range(2):
        assert (watched.newest(), watched.successful) == (closed, False)
    (message,) = told(caplog)
    assert f"{path}: there is no {gone} any more; if that is meant, systemctl reload backupready" in message
    file(tmp_path, f"{before}# whole\n")
    assert (watched.newest(), watched.successful) == (closed, True)


_CLIENTS = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: authority.crt\n"
_NAMES = "  client_allowed_sans: [a.example.org]\n"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TLS, ""),
        (TLS, f"basic_auth_users:\n  a: {HASH}\n"),
        (TLS + _CLIENTS, TLS),
        (TLS + _CLIENTS + _NAMES, TLS + _CLIENTS),
    ],
    ids=["all", "users are no substitute", "certificates", "names"],
)
def test_tls_and_who_must_show_a_certificate_do_not_vanish(
    before: str, after: str, signed: Path, tmp_path: Path
) -> None:
    """A file that ends too early opens nothing; one that lets others in than before is taken."""
    watched = WatchedFile(beside(tmp_path, signed, before))
    closed = watched.newest()
    file(tmp_path, after)
    assert (watched.newest(), watched.successful) == (closed, False)
    file(tmp_path, TLS + _CLIENTS + _NAMES.replace("a.", "b."))
    assert (set(watched.newest().allowed_sans), watched.successful) == ({"b.example.org"}, True)


def test_a_reload_takes_the_file_as_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also an empty one; one that cannot be used is refused, and the journal has it each time that it is asked for."""
    watched = WatchedFile(file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n"))
    path = file(tmp_path, "nonsense:\n")
    for times in (1, 2):
        watched.reload()
        assert (set(watched.newest().users), watched.successful, len(told(caplog))) == ({"a"}, False, times)
    file(tmp_path, "")
    assert (set(watched.newest().users), watched.successful) == ({"a"}, False)
    watched.reload()
    assert (watched.newest(), watched.successful) == (WebConfig(), True)
    path.unlink()
    watched.reload()
    assert watched.successful is False


def test_a_reload_opens_once(tmp_path: Path) -> None:
    """What is cut off after it is refused as ever."""
    watched = WatchedFile(file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n"))
    watched.reload()
    file(tmp_path, "")
    assert (set(watched.newest().users), watched.successful) == ({"a"}, False)


def test_a_path_that_cannot_be_is_a_mistake_as_others_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The file names it while the daemon runs; who connects is served as before."""
    path = file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n")
    watched = WatchedFile(path)
    file(tmp_path, 'tls_server_config:\n  cert_file: "a\\0b"\n  key_file: web.key\n')
    for _ in range(2):
        assert (set(watched.newest().users), watched.successful) == ({"a"}, False)
    (message,) = told(caplog)
    assert f"{path}:2: cert_file has a character that no path has" in message


@pytest.mark.parametrize("where", ["_mark", "_Reading"])
def test_a_defect_of_ours_stops_nobody(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The old one stays, the journal has it once with its traceback, and it is tried again until it is read."""
    watched = WatchedFile(file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n"))
    file(tmp_path, f"basic_auth_users:\n  bee: {HASH}\n")

    def broken(*_: object) -> None:
        raise RuntimeError("not thought of")

    with monkeypatch.context() as patch:
        patch.setattr(webconfig, where, broken)
        for _ in range(3):
            assert (set(watched.newest().users), watched.successful) == ({"a"}, False)
    (message,) = told(caplog)
    assert "the old one stays in force:\nRuntimeError('not thought of')" in message
    assert "in broken" in caplog.text
    assert (set(watched.newest().users), watched.successful) == ({"bee"}, True)


def test_a_defect_that_has_passed_is_over_though_nothing_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read before is read anew, so that the metric does not say for good that it could not be."""
    watched = WatchedFile(file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n"))
    with monkeypatch.context() as patch:
        patch.setattr(webconfig, "_mark", lambda path: 1 // 0)
        watched.newest()
        assert watched.successful is False
    watched.newest()
    assert watched.successful is True


def test_a_library_that_is_gone_for_a_moment_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While its package is replaced, it cannot be imported; the next change of the file is seen all the same."""
    watched = WatchedFile(file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n"))
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "yaml", None)
        file(tmp_path, f"basic_auth_users:\n  bee: {HASH}\n")
        assert (set(watched.newest().users), watched.successful) == ({"a"}, False)
    file(tmp_path, f"basic_auth_users:\n  three: {HASH}\n")
    assert (set(watched.newest().users), watched.successful) == ({"three"}, True)


@pytest.mark.integration
def test_a_renewed_certificate_is_taken_over(signed: Path, tmp_path: Path) -> None:
    """Also one that is replaced in two steps, and a missing one that comes back."""
    watched = WatchedFile(beside(tmp_path, signed, TLS))
    before = watched.newest().tls
    assert watched.newest().tls is before
    (tmp_path / "web.crt").unlink()
    assert (watched.newest().tls, watched.successful) == (before, False)
    (tmp_path / "web.crt").write_bytes((signed / "other.crt").read_bytes())
    assert (watched.newest().tls, watched.successful) == (before, False)
    (tmp_path / "web.key").write_bytes((signed / "other.key").read_bytes())
    renewed = watched.newest().tls
    assert renewed is not before
    assert (watched.newest().tls, watched.successful) == (renewed, True)


def test_a_reading_that_hangs_keeps_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a dead file system one connection waits, the others go on with what is known."""
    path = file(tmp_path, f"basic_auth_users:\n  a: {HASH}\n")
    watched = WatchedFile(path)
    hangs, thaw = threading.Event(), threading.Event()

    def mark(place: Path) -> None:
        hangs.set()
        thaw.wait(20)

    monkeypatch.setattr(webconfig, "_mark", mark)
    stuck = threading.Thread(target=watched.newest)
    stuck.start()
    assert hangs.wait(20)
    assert set(watched.newest().users) == {"a"}
    assert stuck.is_alive()
    thaw.set()
    stuck.join(20)


# --------------------------------------------------------------------------------------------------- passwords


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The passwords that bcrypt had to check."""
    real, seen = bcrypt.checkpw, []

    def check(password: bytes, hashed: bytes) -> bool:
        seen.append(password)
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", check)
    return seen


def test_a_password_is_checked_slowly_once(checked: list[bytes]) -> None:
    """Right or wrong, it is known from then on; with another hash it is checked again."""
    passwords = Passwords()
    for _ in range(3):
        assert passwords.right({"a": HASH}, "a", b"right") is True
        assert passwords.right({"a": HASH}, "a", b"wrong") is False
        assert passwords.right({"a": HASH}, "b", b"right") is False
    assert sorted(checked) == [b"right", b"right", b"wrong"]  # a user who is not there takes as long
    other = bcrypt.hashpw(b"wrong", bcrypt.gensalt(4)).decode()
    assert passwords.right({"a": other}, "a", b"right") is False
    assert len(checked) == 4


@pytest.mark.parametrize(("seconds", "rest"), [(0.3, 0.3), (5.0, 1.0)])
def test_who_guesses_waits_as_long_as_the_check_took(
    seconds: float, rest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second at most, so that half of the time is others'; who is right does not wait."""
    clock = [0.0]
    waits: list[float] = []

    def check(password: bytes, hashed: bytes) -> bool:
        clock[0] += seconds
        return password == b"right"

    monkeypatch.setattr(bcrypt, "checkpw", check)
    monkeypatch.setattr(webconfig, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=waits.append))
    passwords = Passwords()
    assert passwords.right({"a": HASH}, "a", b"right") is True
    assert waits == []
    assert passwords.right({"a": HASH}, "a", b"wrong") is False
    assert passwords.right({"a": HASH}, "b", b"right") is False
    assert waits == [pytest.approx(rest)] * 2


def test_a_user_that_is_not_there_costs_what_one_costs_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checked once against a hash that a user has: how long it takes does not tell who there is."""
    hashes: list[bytes] = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, hashed: hashes.append(hashed))
    costly = bcrypt.hashpw(b"x", bcrypt.gensalt(5)).decode()
    passwords = Passwords()
    for name in ("a", "b"):
        passwords.right({"a": costly}, name, b"wrong")
    assert hashes == [costly.encode()] * 2


def test_what_is_wrong_does_not_crowd_out_what_is_right(checked: list[bytes]) -> None:
    """However many guesses: who has been let in is let in without a check, and no more is kept than so many."""
    passwords = Passwords()
    assert passwords.right({"a": HASH}, "a", b"right")
    for number in range(3 * Passwords._MOST_KNOWN):
        assert passwords.right({"a": HASH}, "a", b"guess %d" % number) is False
    checked.clear()
    assert passwords.right({"a": HASH}, "a", b"right") is True
    assert checked == []
    assert len(passwords._known[False]) == Passwords._MOST_KNOWN


def test_no_password_is_kept(checked: list[bytes]) -> None:
    """Only digests under a key of this process."""
    passwords, others = Passwords(), Passwords()
    for one in (passwords, others):
        assert one.right({"a": HASH}, "a", b"right")
    assert passwords._known[True].keys().isdisjoint(others._known[True])
    assert b"right" not in b"".join(passwords._known[True])


@pytest.mark.parametrize("password", [b"", b"\0", b"x" * 5000, b"\xff\xfe"])
def test_a_strange_password_is_a_wrong_one(password: bytes) -> None:
    """Whatever the library thinks of it."""
    assert Passwords().right({"a": HASH}, "a", password) is False


def test_of_a_long_password_the_beginning_counts() -> None:
    """As for bcrypt everywhere: 72 bytes."""
    hashed = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert Passwords().right({"a": hashed}, "a", b"x" * 80) is True


def test_the_hash_of_htpasswd_is_known() -> None:
    """It begins with 2y."""
    assert Passwords().right({"a": HASH.replace("$2b$", "$2y$")}, "a", b"right") is True


def test_guesses_do_not_keep_who_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 wrong passwords at once: one is checked, a few wait, the rest is sent away, and who is known goes on."""
    passwords = Passwords()
    assert passwords.right({"a": HASH}, "a", b"right") is True
    go_on = threading.Event()

    def check(password: bytes, hashed: bytes) -> bool:
        assert go_on.wait(20)
        return False

    monkeypatch.setattr(bcrypt, "checkpw", check)
    answers: list[bool | None] = []
    guess: Callable[[int], None] = lambda number: answers.append(  # noqa: E731
        passwords.right({"a": HASH}, "a", b"%d" % number)
    )
    threads = [threading.Thread(target=guess, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(answers) < 20 - Passwords._MOST_WAITING and time.monotonic() < deadline:
        time.sleep(0.01)
    assert answers == [None] * (20 - Passwords._MOST_WAITING)
    assert passwords.right({"a": HASH}, "a", b"right") is True
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert answers.count(False) == Passwords._MOST_WAITING


def test_how_long_a_known_password_takes() -> None:
    """Measured, beside one that is checked, at the cost that the example has."""
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(10)).decode()
    passwords = Passwords()
    spans = []
    for _ in range(2):
        started = time.perf_counter()
        assert passwords.right({"a": hashed}, "a", b"right") is True
        spans.append((time.perf_counter() - started) * 1e3)
    measured(f"a password of cost 10: {spans[0]:.1f} ms at first, {spans[1]:.3f} ms when it is known")


# ------------------------------------------------------------------------------------------------------ clients


@pytest.mark.parametrize(
    ("names", "admitted"),
    [
        ((("DNS", "a.example.org"),), True),
        ((("DNS", "b.example.org"), ("IP Address", "0:0:0:0:0:0:0:1")), True),
        ((("email", "x@example.org"),), True),
        ((("URI", "spiffe://x"),), True),
        ((("DNS", "b.example.org"),), False),
        ((), False),
    ],
)
def test_one_of_the_names_must_be_allowed(names: tuple[tuple[str, str], ...], admitted: bool) -> None:
    """Exactly; addresses however they are written."""
    config = WebConfig(allowed_sans=frozenset({"a.example.org", "::1", "x@example.org", "spiffe://x"}))
    assert config.admits({"subjectAltName": names}) is admitted


def test_who_shows_nothing_is_admitted_where_that_is_allowed() -> None:
    """With VerifyClientCertIfGiven; the handshake refuses everybody else."""
    assert WebConfig(allowed_sans=frozenset({"a"})).admits({})
    assert WebConfig().admits({"subjectAltName": (("DNS", "x"),)})


def test_a_user_that_is_renamed_is_known_at_once() -> None:
    """What was found out of a name that was not there says nothing of one that is."""
    passwords = Passwords()
    assert passwords.right({"a": HASH}, "b", b"right") is False
    assert passwords.right({"b": HASH}, "b", b"right") is True
    assert passwords.right({"b": HASH}, "a", b"right") is False


@pytest.mark.integration
def test_an_authority_that_is_no_text_of_pem_is_named(signed: Path, tmp_path: Path) -> None:
    """A letter that PEM has not is a mistake of the file's, and no defect of ours."""
    text = f"{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca: 'Müller'\n"
    ((_, what, _),) = mistakes(beside(tmp_path, signed, text))
    assert what.startswith("client_ca has no certificate in PEM")
