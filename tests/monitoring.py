"""How do the tests run Prometheus and Alertmanager? As processes of their own, in a directory of their own."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from requirement import need

CONFIG = Path(__file__).parents[1] / "config"
# What the tests have no patience for: the rules wait for seconds, and a state is held over a gap so long.
AFTER, HELD = "3s", "10s"


@dataclass(frozen=True)
class Server:
    """One that answers under `address`, host:port."""

    address: str

    def get(self, path: str, parameters: Mapping[str, str] | None = None) -> Any:
        """The document that it answers with."""
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"http://{self.address}{path}", params=parameters, timeout=10)
        assert answer.ok, f"{path} {parameters}: {answer.status_code} {answer.text}"
        return answer.json()

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Prometheus' answer at this moment: the series with `metric` and `value`."""
        result: list[dict[str, Any]] = self.get("/api/v1/query", {"query": expr})["data"]["result"]
        return result


def free_address() -> str:
    """One of this machine that nothing listens on."""
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{trial.getsockname()[1]}"


@contextlib.contextmanager
def _running(place: Path, address: str, command: list[str]) -> Iterator[Server]:
    """The server, in the network namespace of the thread that calls this, until the end of the block."""
    with (place / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while True:
            with contextlib.suppress(requests.ConnectionError), requests.Session() as session:
                session.trust_env = False
                if session.get(f"http://{address}/-/ready", timeout=5).ok:
                    break
            assert process.poll() is None, (place / "log").read_text()
            assert time.monotonic() < end, (place / "log").read_text()
            time.sleep(0.1)
        yield Server(address)
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def prometheus(
    place: Path, address: str, target: str, rules: str, alertmanager: str = "", more: Mapping[str, Any] | None = None
) -> Iterator[Server]:
    """A Prometheus that scrapes the target as the job backupready every second, and evaluates these rules as often.
    `more` are further jobs, each with its static configurations."""
    need("prometheus")
    place.mkdir()
    (place / "rules.yml").write_text(rules)
    document: dict[str, Any] = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yml"],
        "scrape_configs": [
            {"job_name": job, "static_configs": found}
            for job, found in {"backupready": [{"targets": [target]}], **(more or {})}.items()
        ],
    }
    if alertmanager:
        document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]}
    (place / "prometheus.yml").write_text(json.dumps(document))
    command = ["prometheus", f"--config.file={place / 'prometheus.yml'}", f"--storage.tsdb.path={place / 'data'}"]
    # A resent alert brings the news of its end as well.
    command += [f"--web.listen-address={address}", "--rules.alert.resend-delay=1s"]
    with _running(place, address, command) as server:
        yield server


@contextlib.contextmanager
def alertmanager(place: Path, address: str, config: str) -> Iterator[Server]:
    need("prometheus-alertmanager")
    place.mkdir()
    (place / "alertmanager.yml").write_text(config)
    command = ["prometheus-alertmanager", f"--config.file={place / 'alertmanager.yml'}"]
    command += [f"--storage.path={place / 'data'}", f"--web.listen-address={address}", "--cluster.listen-address="]
    with _running(place, address, command) as server:
        yield server


def impatient_rules() -> str:
    """config/alerts.yml with every `for` of 3 s, and a gap of 10 s instead of 5 min over which a state is held."""
    text, waits = re.subn(r"^( +for:) .+$", rf"\1 {AFTER}", (CONFIG / "alerts.yml").read_text(), flags=re.MULTILINE)
    text, holds = re.subn(r"(max_over_time\(.+?)\[5m\]", rf"\1[{HELD}]", text)
    assert waits > 50
    assert holds > 5
    return text


def impatient_alertmanager(webhook: str, today: datetime.date) -> str:
    """config/alertmanager.yml with waits of 1 s, its maintenance on another day, and the two receivers of messages at a
    webhook, each below its own name."""
    text = (CONFIG / "alertmanager.yml").read_text()
    another = (today + datetime.timedelta(days=3)).strftime("%A").lower()
    for old, new in (
        ("group_wait: 1m", "group_wait: 1s"),
        ("group_interval: 10m", "group_interval: 1s"),
        ("weekdays: [sunday]", f"weekdays: [{another}]"),
        ("  #   webhook_configs: [{url: ADDRESS}]", f"    webhook_configs: [{{url: {webhook}/backup-tickets}}]"),
        (
            "  #   pagerduty_configs: [{routing_key_file: FILE}]",
            f"    webhook_configs: [{{url: {webhook}/backup-pager}}]",
        ),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def panels(name: str) -> list[dict[str, Any]]:
    """Those of a dashboard that show something."""
    page = json.loads((CONFIG / "dashboards" / name).read_text(encoding="utf-8"))
    return [panel for panel in page["panels"] if panel["type"] != "row"]


def substituted(expr: str, job: str = "backupready", instance: str = ".+") -> str:
    """A query of a dashboard as Grafana asks it, with every machine of that job chosen."""
    for variable, value in (("$job", job), ("$instance", instance), ("$__rate_interval", "10s")):
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr
