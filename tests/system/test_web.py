"""Is the web server guarded, and started, as the documentation says? A key that root alone can read, users, and sockets
of an administrator's own, under a real service manager and asked from outside."""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from built import SOURCE
from lab import certificates
from lab.guest import GUEST_ADDRESS
from lab.network import network
from system.inside import BACKUPREADY, Inside

UNIT = "backupready.service"
PORT = 10168
SETTINGS = "/etc/backupready/conf.d/60-web.conf"
WEB, CERTIFICATE, KEY = (f"/etc/backupready/web.{kind}" for kind in ("yml", "crt", "key"))
OWN_KEY, DROP_IN = "/etc/ssl/private/own.key", f"/etc/systemd/system/{UNIT}.d/60-web.conf"
ALTERNATIVE = f"IP:{GUEST_ADDRESS}"
TLS = ("tls_server_config:", "cert_file: web.crt", "key_file: web.key")
USERS = ("basic_auth_users:", "prometheus: ")
RELOADED = "backupready_web_config_last_reload_successful"


def _example(*starts: str) -> str:
    """config/web.yml with the lines uncommented that begin so."""
    text = (SOURCE / "config/web.yml").read_text(encoding="utf-8")
    for start in starts:
        text, times = re.subn(rf"(?m)^( *)#({re.escape(start)})", r"\1\2", text)
        assert times == 1, start
    return text


class Web:
    """The daemon's web server, as who is outside sees it."""

    def __init__(self, inside: Inside, place: Path) -> None:
        self.guest = inside.guest
        self.place = place
        self.authority = certificates.authority(place, "authority", "The administrator")
        certificates.signed(self.authority, place, "web", ALTERNATIVE)

    def hand_over(self, key: str = KEY) -> None:
        """The certificate and its key, which is root's alone."""
        self.guest.write(CERTIFICATE, (self.place / "web.crt").read_text())
        self.guest.path(key).parent.mkdir(parents=True, exist_ok=True)
        self.guest.write(key, "", 0o600)
        self.guest.write(key, (self.place / "web.key").read_text(), 0o600)

    def guard(self, text: str) -> None:
        """As the head of config/web.yml says."""
        self.guest.write(WEB, text, 0o640)
        self.guest.run("chown", "root:backupready", WEB)
        self.guest.write(SETTINGS, f"[web]\nlisten_address = {GUEST_ADDRESS}:{PORT}\nconfig_file = {WEB}\n")
        checked = self.guest.run(BACKUPREADY, "config", "check")
        assert ("LoadCredential=own.key:PATH" in checked.stderr) == ("own.key" in text), checked.stderr
        self.restart()

    def restart(self) -> None:
        self.guest.run("systemctl", "restart", UNIT)

    def get(
        self, scheme: str = "https", port: int = PORT, user: tuple[str, str] | None = None, trusted: str = "authority"
    ) -> requests.Response:
        """/metrics, from the other side of the guest's network."""
        with network(self.guest.fabric_namespace), requests.Session() as session:
            session.trust_env = False
            session.verify = str(self.place / f"{trusted}.crt")
            return session.get(f"{scheme}://{GUEST_ADDRESS}:{port}/metrics", auth=user, timeout=30)

    def serial(self) -> str:
        """Of the certificate that is shown."""
        context = ssl.create_default_context(cafile=str(self.authority))
        with (
            network(self.guest.fabric_namespace),
            socket.create_connection((GUEST_ADDRESS, PORT), 10) as plain,
            context.wrap_socket(plain, server_hostname=GUEST_ADDRESS) as secured,
        ):
            shown = secured.getpeercert()
        assert shown is not None
        return str(shown["serialNumber"])


@pytest.fixture
def web(steady: Inside, tmp_path: Path) -> Iterator[Web]:
    """Afterwards the daemon is served as it was installed."""
    guest = steady.guest
    try:
        yield Web(steady, tmp_path)
    finally:
        for path in (SETTINGS, WEB, CERTIFICATE, KEY, OWN_KEY, DROP_IN):
            guest.path(path).unlink(missing_ok=True)
        guest.run("systemctl", "daemon-reload")
        guest.run("systemctl", "reset-failed", UNIT, check=False)
        guest.run("systemctl", "restart", UNIT)


@pytest.mark.parametrize("key", [KEY, OWN_KEY])
def test_tls_with_a_key_that_root_alone_can_read(web: Web, key: str) -> None:
    """The unit hands over web.key, a drop-in another; a scrape over TLS succeeds for who trusts the authority, and
    nothing is told in the clear. `backupready status` finds the way by itself."""
    text = _example(*TLS)
    if key == OWN_KEY:
        text = text.replace("key_file: web.key", "key_file: own.key")
        web.guest.write(DROP_IN, f"[Service]\nLoadCredential=own.key:{OWN_KEY}\n")
        web.guest.run("systemctl", "daemon-reload")
    web.hand_over(key)
    refused = web.guest.run("cat", key, user="backupready", check=False)
    assert "Permission denied" in refused.stderr
    web.guard(text)
    answer = web.get()
    assert answer.status_code == 200
    assert f"\n{RELOADED} 1\n" in answer.text
    certificates.authority(web.place, "stranger", "Somebody else")
    with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        web.get(trusted="stranger")
    in_the_clear = web.get("http")
    assert in_the_clear.status_code == 400
    assert "backupready_" not in in_the_clear.text
    told = web.guest.run(BACKUPREADY, "status", "--json", check=False)
    assert "verdict" in json.loads(told.stdout), told.stderr


def test_a_renewed_certificate_is_taken_up(web: Web) -> None:
    """At once where its key is the same; one with another key is refused, and told, until the daemon starts anew, which
    gets that key handed over."""
    web.hand_over()
    web.guard(_example(*TLS))
    first = web.serial()
    certificates.signed(web.authority, web.place, "web", ALTERNATIVE, renewed=True)
    web.hand_over()
    second = web.serial()
    assert second != first
    certificates.signed(web.authority, web.place, "web", ALTERNATIVE)
    web.hand_over()
    assert web.serial() == second
    web.guest.wait_for("the refusal to be told", lambda: f"\n{RELOADED} 0\n" in web.get().text, 30)
    assert "cannot use the web server's configuration, the old one stays in force" in web.guest.journal(UNIT)
    web.restart()
    assert web.serial() not in (first, second)
    assert f"\n{RELOADED} 1\n" in web.get().text


def test_who_has_no_password_is_refused(web: Web) -> None:
    """The user of the example, with its password, is let in."""
    web.hand_over()
    web.guard(_example(*TLS, *USERS))
    for user in (None, ("prometheus", "wrong"), ("somebody", "example")):
        refused = web.get(user=user)
        assert refused.status_code == 401, user
        assert "backupready_" not in refused.text
    assert web.get(user=("prometheus", "example")).status_code == 200
    told = web.guest.run(BACKUPREADY, "status", check=False, user="daemon")
    assert told.returncode == 3
    assert "web.yml" in told.stderr  # which is for root and the daemon to read
    assert "; Root can ask at /run/backupready/mind/status.sock" in told.stderr
    root = web.guest.run(BACKUPREADY, "status", check=False)
    assert root.stderr == ""
    assert "READY" in root.stdout


# --------------------------------------------------------------------------------------------------------- sockets

LOW_PORT = 443  # below 1024, where the daemon itself could not listen
SOCKET = f"""[Socket]
ListenStream={GUEST_ADDRESS}:{LOW_PORT}
ListenStream=127.0.0.1:{PORT}
Service={UNIT}

[Install]
WantedBy=sockets.target
"""


@pytest.fixture(params=["backupready.socket", "metrics.socket"])
def served(web: Web, request: pytest.FixtureRequest) -> Iterator[Web]:
    """The daemon on an administrator's sockets, as backupready.conf(5) says: it is stopped first, without which they
    cannot be started."""
    guest, name = web.guest, request.param
    guest.write(f"/etc/systemd/system/{name}", SOCKET)
    guest.write(SETTINGS, "[web]\nsystemd_socket = yes\n")
    try:
        guest.run("systemctl", "daemon-reload")
        assert guest.run("systemctl", "start", name, check=False).returncode != 0
        guest.run("systemctl", "stop", UNIT)
        guest.run("systemctl", "enable", "--now", name)
        guest.run("systemctl", "start", UNIT)
        yield web
    finally:
        guest.run("systemctl", "stop", UNIT)
        guest.run("systemctl", "disable", "--now", name)
        guest.path(f"/etc/systemd/system/{name}").unlink()


def test_sockets_of_the_service_manager_are_served(served: Web, steady: Inside) -> None:
    """Each of them; nobody is refused while the daemon starts anew or has been killed, and who asks starts it."""
    guest = served.guest

    def pid() -> str:
        return guest.unit_property(UNIT, "MainPID")

    assert "\nbackupready_looks_total " in served.get("http", LOW_PORT).text
    assert "\nbackupready_looks_total " in steady.get("/metrics")
    pids = {pid()}
    for command in (("restart", UNIT), ("kill", "--kill-who=main", "--signal=KILL", UNIT), ("stop", UNIT)):
        guest.run("systemctl", *command)
        assert served.get("http", LOW_PORT).status_code == 200
        assert pid() not in pids | {"0"}, command
        pids.add(pid())
    told = guest.run(BACKUPREADY, "status", "--json", check=False)
    assert "verdict" in json.loads(told.stdout), told.stderr
    guest.reboot()
    assert served.get("http", LOW_PORT).status_code == 200
    assert guest.unit_property(UNIT, "NRestarts") == "0"
