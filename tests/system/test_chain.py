"""From the agent's death to the pager and back, through Debian's Prometheus and Alertmanager.

Both run in the fabric's network namespace and scrape the daemon in the guest. config/alerts.yml and
config/alertmanager.yml are as they are shipped, but for what tests/monitoring.py shortens.
"""

from __future__ import annotations

import datetime
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from lab.guest import GATEWAY, GUEST_ADDRESS
from lab.network import network
from measured import measured
from monitoring import Server, alertmanager, impatient_alertmanager, impatient_rules, panels, prometheus, substituted
from system.inside import Inside

TARGET = f"{GUEST_ADDRESS}:10168"
T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """One alert of what Alertmanager has sent to a receiver, and when that came, on the monotonic clock."""

    at: float
    receiver: str
    name: str
    severity: str
    status: str
    alert: dict[str, Any]


class Webhook(ThreadingHTTPServer):
    """Receives messages."""

    daemon_threads = True

    def __init__(self) -> None:
        self.messages: list[Message] = []
        super().__init__(("127.0.0.1", 0), _Call)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Call(BaseHTTPRequestHandler):
    server: Webhook

    def do_POST(self) -> None:
        at = time.monotonic()
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in document["alerts"]:
            labels = alert["labels"]
            self.server.messages.append(
                Message(
                    at, self.path.strip("/"), labels["alertname"], labels.get("severity", ""), alert["status"], alert
                )
            )
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@dataclass(frozen=True)
class Chain:
    """What the daemon's metrics go through; to be asked from the fabric's namespace."""

    prometheus: Server
    alertmanager: Server
    webhook: Webhook

    def sent(self, name: str, severity: str, status: str, after: float) -> Message | None:
        """The first message of that kind since then."""
        for message in self.webhook.messages:
            if (message.name, message.severity, message.status) == (name, severity, status) and message.at > after:
                return message
        return None

    def alert(self, name: str, severity: str, state: str) -> bool:
        """Whether Prometheus has that alert in that state now."""
        return bool(
            self.prometheus.query(f'ALERTS{{alertname="{name}",severity="{severity}",alertstate="{state}"}} == 1')
        )

    def inhibited(self, name: str) -> list[str]:
        """Names of those that keep an alert quiet at this moment."""
        known = {alert["fingerprint"]: alert for alert in self.alertmanager.get("/api/v2/alerts")}
        return [
            known[print_]["labels"]["alertname"]
            for alert in known.values()
            if alert["labels"]["alertname"] == name
            for print_ in alert["status"]["inhibitedBy"]
            if print_ in known
        ]


def wait(what: str, probe: Callable[[], T | None], within: float) -> T:
    end = time.monotonic() + within
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {within} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def chain(inside: Inside, tmp_path: Path) -> Iterator[Chain]:
    """The whole of it, with a backup window two hours ahead, and the agent's unit as Debian ships it."""
    guest = inside.guest
    inside.without_auto_restart()
    guest.restart_agent()
    guest.wait_agent_ready()
    start = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=2)
    text = f"[window]\nschedule = daily at {start:%H:%M}\ntime_zone = UTC\n[web]\nlisten_address = 0.0.0.0:10168\n"
    drop_in = "/etc/backupready/conf.d/60-chain.conf"
    guest.write(drop_in, text)
    try:
        guest.run("systemctl", "restart", "backupready.service")
        with network(guest.fabric_namespace):
            webhook = Webhook()
            threading.Thread(target=webhook.serve_forever, args=(0.05,), daemon=True).start()
            routes = impatient_alertmanager(webhook.url, start.date())
            try:
                with (
                    alertmanager(tmp_path / "alertmanager", f"{GATEWAY}:9093", routes) as told,
                    prometheus(
                        tmp_path / "prometheus", f"{GATEWAY}:9090", TARGET, impatient_rules(), told.address
                    ) as server,
                ):
                    yield Chain(server, told, webhook)
            finally:
                webhook.shutdown()
                webhook.server_close()
    finally:
        guest.path(drop_in).unlink()
        guest.run("systemctl", "restart", "backupready.service")


def test_the_agent_dies_and_comes_back(chain: Chain, inside: Inside) -> None:
    """Killed for good, it is on the pager; what explains it is told to nobody; started again, that is told as well."""
    symptom, cause = "BackupreadyNextBackupWillFail", "BackupreadyAgentStopped"
    wait(
        "the daemon to be scraped in the lead time",
        lambda: chain.prometheus.query(
            'backupready_phase{phase="lead"} == 1 and on (instance) backupready_verdict{verdict="at_risk"} == 1'
        ),
        90,
    )
    assert not chain.alert(symptom, "critical", "pending")
    assert not chain.alert(symptom, "critical", "firing")

    killed = time.monotonic()
    inside.guest.run("kill", "-KILL", str(inside.guest.agent_pids().daemon))

    def metric() -> bool:
        with requests.Session() as session:
            session.trust_env = False
            text = session.get(f"http://{TARGET}/metrics", timeout=5).text
        return 'backupready_problem_active{effect="blocks",problem="AGENT_STOPPED"} 1\n' in text

    def since(moment: float, what: str, probe: Callable[[], object], within: float) -> float:
        wait(what, probe, within)
        return time.monotonic() - moment

    scraped = 'backupready_problem_active{problem="AGENT_STOPPED"} == 1'
    hops = {
        "the metric": since(killed, "the daemon's metric", metric, 30),
        "Prometheus has it": since(killed, "the sample", lambda: chain.prometheus.query(scraped), 10),
        "the alert is pending": since(
            killed, "a pending alert", lambda: chain.alert(symptom, "critical", "pending"), 10
        ),
        "it fires": since(killed, "a firing alert", lambda: chain.alert(symptom, "critical", "firing"), 30),
    }
    page = wait("the page", lambda: chain.sent(symptom, "critical", "firing", killed), 60)
    hops["the page is there"] = page.at - killed

    assert page.receiver == "backup-pager"
    assert page.alert["labels"]["instance"] == TARGET
    description = page.alert["annotations"]["description"]
    assert "What blocks the backup: AGENT_STOPPED" in description
    assert "The next window starts in 1h 5" in description or "The next window starts in 2h 0" in description
    # What explains the symptom fires beside it, and is inhibited.
    wait("the cause to fire", lambda: chain.alert(cause, "info", "firing"), 30)
    # (At first perhaps by what was the symptom before: the machine was at risk.)
    wait("the inhibition by the symptom", lambda: symptom in chain.inhibited(cause), 60)

    _hold_dashboards(chain.prometheus)

    started = time.monotonic()
    inside.guest.start_agent()
    told = wait("the end of it", lambda: chain.sent(symptom, "critical", "resolved", started), 120)
    hops["it is told that this is over"] = told.at - started
    assert told.receiver == "backup-pager"
    assert wait("the end of the cause", lambda: not chain.alert(cause, "info", "firing"), 60)
    assert {message.receiver for message in chain.webhook.messages} <= {"backup-pager", "backup-tickets"}
    assert not [message for message in chain.webhook.messages if message.severity == "info"]
    first = ", ".join(f"{what} {seconds:.1f}" for what, seconds in list(hops.items())[:-1])
    measured(f"the chain: seconds since the agent was killed until {first} (for: 3s, scrape and evaluation 1 s)")
    measured(
        "the chain: seconds from the start of the agent until"
        f" {list(hops)[-1]} {hops['it is told that this is over']:.1f} (states held for 10 s)"
    )


# What has not or may not have occurred in this guest, or is switched off there. tests/test_dashboards.py has series of
# all of it.
NOT_THERE = {
    "backupready_backup_duration_seconds",
    "backupready_backup_last_failure_timestamp_seconds",
    "backupready_fix_attempts_total",
    "backupready_fix_refused_total",
    "backupready_fix_requests_failed_total",
    "backupready_fix_would_run_total",
    "backupready_predictions_total",
    "backupready_pressure_cpu_busy_ratio",
    "backupready_pressure_cpu_steal_ratio",
    "backupready_pressure_memory_available_ratio",
    "backupready_pressure_stalled_ratio",
    "backupready_problem_unknown",
    "backupready_temporary_change_active",
    "backupready_temporary_change_end_timestamp_seconds",
}


def _hold_dashboards(server: Server) -> None:
    """Every query of the dashboards has an answer, but for what has not occurred in the guest."""
    silent = set()
    asked = 0
    for name in ("fleet.json", "vm.json"):
        for panel in panels(name):
            for target in panel["targets"]:
                asked += 1
                if not server.query(substituted(target["expr"])):
                    silent |= set(re.findall(r"backupready_\w+", target["expr"]))
    assert silent <= NOT_THERE, ", ".join(sorted(silent - NOT_THERE))
    measured(
        f"the dashboards: {asked} queries, of which all but those for {len(silent)} metrics have series in the lab"
    )
