"""The alerts: every metric that they ask for exists, promtool and Alertmanager take them, and they fire as they should.

Where pint would look at the rules, what it would say is held here.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import yaml

from backupready import probes
from backupready.catalogue import alerts, runbook
from backupready.catalogue.alerts import ALERTS, EACH, GROUPS, Alert, Rule
from backupready.mind import metrics
from backupready.model import Effect, Result
from requirement import need, unavailable

CONFIG = Path(__file__).parents[1] / "config"
FILES = ("alerts.yml", "alerts-keep-firing.yml")
TARGET = {"job", "instance"}

# Those that are not ours.
OTHERS = {"up": (), "node_textfile_mtime_seconds": ("file",)}
LABELS: dict[str, tuple[str, ...]] = {
    **OTHERS,
    **{name: labels for name, _, _, labels in metrics.OWN},
    **{metric.name: metric.labels for metric in probes.METRICS},
}
RECORDED = {recording.name: recording for group in GROUPS for recording in group.recordings}
RULES = [(alert, rule) for alert in ALERTS for rule in alert.rules]
EVERY = pytest.mark.parametrize(("alert", "rule"), RULES, ids=[f"{a.name}-{r.severity}" for a, r in RULES])

# Those that Prometheus 2.24 has, as far as they are used here.
FUNCTIONS = {"absent", "avg_over_time", "count", "count_values", "increase", "max", "max_over_time", "sum", "time"}
WORDS = {"and", "or", "unless", "on", "ignoring", "by", "without", "group_left", "group_right", "offset"}


def unquoted(expr: str) -> str:
    """Without what stands in quotes."""
    return re.sub(r'"[^"]*"', '""', expr)


def named(expr: str) -> set[str]:
    """The names of the series that an expression or a template asks for."""
    ours = r"(?:\w+:)?backupready_\w+(?::\w+)?"
    return set(re.findall(rf"(?<![\w:])(?:{ours}|{'|'.join(OTHERS)})(?![\w:])", unquoted(expr)))


def expressions(alert: Alert) -> Iterator[str]:
    for rule in alert.rules:
        yield from (rule.expr(held=True), rule.expr(held=False))


# ------------------------------------------------------------------------------------------------ what pint would say


def test_every_metric_that_is_asked_for_is_declared() -> None:
    """By us, by a probe, by the recording rules, or by what is to come; in expressions as in descriptions."""
    texts = [expr for alert in ALERTS for expr in expressions(alert)]
    texts += [recording.expr for recording in RECORDED.values()]
    asked = {name for text in texts for name in named(text)}
    for _, rule in RULES:
        # The queries in a description stand between backquotes, and so do commands.
        asked |= {name for quoted in re.findall(r"printf `([^`]*)`", rule.description) for name in named(quoted)}
    assert asked <= set(LABELS) | set(RECORDED), asked - set(LABELS) - set(RECORDED)
    assert "backupready_verdict" in asked
    assert "backupready_backup_last_success_timestamp_seconds" in asked


def test_the_names_in_an_expression_are_found() -> None:
    """Plain, recorded, with a selector, and not what stands in quotes or is only part of a name."""
    expr = 'a_backupready_x(up{job="backupready"}) + backupready_y{l="backupready_z"} + job:backupready_m:sum + upper'
    expr += " + node_textfile_mtime_seconds + node_time_seconds"
    assert named(expr) == {"up", "backupready_y", "job:backupready_m:sum", "node_textfile_mtime_seconds"}


@EVERY
def test_an_alert_says_what_how_grave_and_where(alert: Alert, rule: Rule) -> None:
    """Summary, description, severity, cause, and a page that there is."""
    assert re.fullmatch(r"Backupready([A-Z][a-z]*)+", alert.name)
    assert rule.severity in ("critical", "warning", "info")
    assert re.fullmatch(r"[a-z]+", alert.cause)
    assert alert.summary
    assert not alert.summary.endswith(".")
    assert rule.description.endswith((".", "}}"))
    assert alert.page in runbook.PAGES
    assert re.fullmatch(r"\d+[mhd]", rule.after)


@EVERY
def test_a_template_names_only_labels_that_are_left(alert: Alert, rule: Rule) -> None:
    """A label that is aggregated away, or that no metric of the expression has, would be told as nothing."""
    texts = alert.summary + rule.description
    used = set(re.findall(r"\$labels\.(\w+)", texts))
    for held in (True, False):
        expr = rule.expr(held)
        dropped = {label for words in re.findall(r"without \(([^)]*)\)", expr) for label in words.split(", ")}
        # The first series of an expression gives the labels, what follows `and` and `unless` only chooses.
        names = {name for part in expr.split("\nor ") for name in named(re.split(r"\s(?:and|unless)\s", part)[0])}
        have = {label for name in names for label in LABELS.get(name, ())} | TARGET
        if names <= set(RECORDED):
            have = {"start", "job"}
        if "absent(" in expr:
            have = set()
        kept = have - dropped if rule.states else have
        assert used <= kept, used - kept


@EVERY
def test_a_rate_has_samples_enough(alert: Alert, rule: Rule) -> None:
    """At least four scrapes lie in every range, so that a failed one changes nothing."""
    for expr in expressions(alert):
        for number, unit in re.findall(r"\[(\d+)([smhd])\]", expr):
            seconds = int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
            assert seconds >= 4 * alerts.SCRAPE_SECONDS, expr
        assert not re.search(r"\b(rate|irate|deriv)\(", expr)
        for series in re.findall(r"increase\((\w+)", expr):
            assert series.endswith("_total"), "increase() is for counters"


@EVERY
def test_an_alert_compares_with_something(alert: Alert, rule: Rule) -> None:
    """Else it would fire as long as the series is there; one that asks for what is gone does so with `unless`."""
    for expr in expressions(alert):
        assert re.search(r"[<>]|==|absent\(| unless ", unquoted(expr)), expr
    # What is absent for a moment is no news.
    assert "absent(" not in rule.expression or rule.after != "0m"


@pytest.mark.parametrize("name", FILES)
def test_only_what_prometheus_224_has_is_used(name: str) -> None:
    """No later function, no @, no negative offset; keep_firing_for in the file only that says so."""
    text = alerts.rules(keep_firing=name != "alerts.yml")
    exprs = [expr for alert in ALERTS for expr in expressions(alert)] + [r.expr for r in RECORDED.values()]
    for expr in map(unquoted, exprs):
        assert set(re.findall(r"\b([a-z_]+) ?\(", expr)) - WORDS <= FUNCTIONS, expr
        aggregated = set(re.findall(r"\b([a-z_]+) (?:by|without) ?\(", expr))
        assert aggregated <= FUNCTIONS
        assert "@" not in expr
        assert not re.search(r"offset -", expr)
    assert ("keep_firing_for" in text) == (name != "alerts.yml")


# ----------------------------------------------------------------------------------------------------- what is alerted


def test_an_alert_is_named_once() -> None:
    """And one with several rules has each severity once."""
    names = [alert.name for alert in ALERTS]
    assert len(names) == len(set(names))
    for alert in ALERTS:
        severities = [rule.severity for rule in alert.rules]
        assert len(severities) == len(set(severities))
    pages = [alert.page for alert in ALERTS]
    assert len(pages) == len(set(pages))


def test_only_the_symptom_and_our_absence_page() -> None:
    """What is wrong with a machine wakes nobody by itself."""
    critical = {alert.name for alert, rule in RULES if rule.severity == "critical"}
    assert critical == {"BackupreadyNextBackupWillFail", "BackupreadyBackupOverdue", "BackupreadyAbsent"}
    assert {rule.severity for alert in EACH for rule in alert.rules} == {"info"}


def test_every_problem_that_can_change_the_verdict_is_told() -> None:
    """By its own alert; of what is a mere notice only what is worth it, and never one that is a notice here alone."""
    told = {alert.problem for alert in ALERTS if alert.problem}
    grave = {problem.code for problem in probes.PROBLEMS if problem.effect is not Effect.NOTICE}
    assert told == grave | set(alerts.TOLD_NOTICES) | {"WINDOW_UNKNOWN", "TEMPORARY_CHANGE_OVERDUE"}
    for code in grave:
        found = alerts.of_problem(code)
        assert found is not None
        assert found.name == alerts.alert_name(code)
        assert found.cause == alerts.PROBLEMS[code].cause.value
        assert found not in EACH or 'effect!="notice"' in found.rules[0].expr(held=True)
    assert alerts.of_problem("REBOOT_PENDING") is None


def test_every_way_in_which_a_fix_ends_badly_is_told() -> None:
    """And none in which it ends as it may."""
    expr = next(alert for alert in ALERTS if alert.name == "BackupreadyFixFailed").rules[0].expr(held=True)
    bad = {result.value for result in Result if re.search(rf'["|]{result.value}["|]', expr)}
    assert bad == {"failed", "interrupted", "worse"}


def test_every_probe_can_be_stale() -> None:
    """Each is in the rule once, with six of its intervals and half an hour at least."""
    expr = next(alert for alert in ALERTS if alert.name == "BackupreadyProbeStale").rules[0].expr(held=True)
    limits = {
        name: int(limit)
        for names, limit in re.findall(r'probe=~"([^"]+)".*> (\d+)\)', expr)
        for name in names.split("|")
    }
    assert limits == {probe.name: max(6 * probe.interval.total_seconds(), 1800) for probe in probes.PROBES}


def test_both_files_have_the_same_alerts() -> None:
    """With the same labels, texts and times; they differ in how a state is bridged alone."""

    def alike(text: str) -> list[str]:
        plain = re.sub(rf"max_over_time\((.+?)\[{alerts.HELD}\]\)", r"(\1)", text[text.index("\ngroups:") :])
        plain = plain.replace("((", "(").replace("))", ")")
        return [line for line in plain.splitlines() if not line.startswith("        keep_firing_for: ")]

    plain, kept = alerts.rules(), alerts.rules(keep_firing=True)
    assert alike(plain) == alike(kept)
    states = sum(bool(rule.states) for _, rule in RULES)
    assert kept.count(f"        keep_firing_for: {alerts.HELD}\n") == states > 5


def test_a_page_of_an_alert_tells_all_five() -> None:
    """Meaning, impact, diagnosis, mitigation and source, each with something below it, and the index names it."""
    for alert in ALERTS:
        text = runbook.PAGES[alert.page]()
        headings = [line for line in text.splitlines() if line.startswith("## ")]
        assert headings == ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## Source"]
        assert not re.search(r"^## \w+\n+(#|\Z)", text, re.MULTILINE)
        assert re.search(r"## Source\n\n(<https://[^ ]+>|`man [58] backupready[^\n]*)\n\Z", text)
        assert f"{alert.name}" in text
        assert "\n\n\n" not in text
        assert "{{" not in text
        if alert not in EACH:
            assert f"[{alert.name}]({alert.page})" in runbook.index()


# ------------------------------------------------------------------------------------------------- Prometheus' own tool


def promtool(*arguments: str | Path, given: str | None = None) -> str:
    """What it says; it must find nothing wrong."""
    need("promtool", "prometheus")
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    if "keep_firing_for not found" in done.stdout:
        unavailable("this promtool is older than keep_firing_for; 2.42 has it")
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.integration
@pytest.mark.parametrize("name", FILES)
def test_promtool_takes_the_rules(name: str) -> None:
    """All of them, and none twice."""
    said = promtool("check", "rules", CONFIG / name)
    assert f"SUCCESS: {len(RULES) + len(RECORDED)} rules found" in said
    assert "duplicate" not in said


@pytest.mark.integration
@pytest.mark.parametrize("name", FILES)
def test_the_rules_do_over_cycles_of_windows_what_they_should(name: str, tmp_path: Path) -> None:
    """They fire, do not, clear, and live with missing series, from one window to the next."""
    shutil.copy(CONFIG / name, tmp_path)
    cycles = (CONFIG / "alerts_test.yml").read_text()
    assert cycles.count("  - alerts.yml\n") == 1
    (tmp_path / "test.yml").write_text(cycles.replace("  - alerts.yml\n", f"  - {name}\n"))
    promtool("test", "rules", tmp_path / "test.yml")


BLOCKED = 'backupready_verdict{job="backupready",instance="vm1",verdict="blocked"}'
LEAD = 'backupready_phase{job="backupready",instance="vm1",phase="lead"}'


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "blocked", "lead", "firing"),
    [
        # A scrape fails (nothing, and the mark of a series that ends) while it fires: it goes on.
        ("alerts.yml", "1+0x29 stale _x2 1+0x30", "1+0x29 stale _x2 1+0x30", {29: 2, 31: 2, 33: 2, 36: 2}),
        ("alerts-keep-firing.yml", "1+0x29 stale _x2 1+0x30", "1+0x29 stale _x2 1+0x30", {29: 2, 31: 2, 33: 2, 36: 2}),
        # It fails before that: the one goes on waiting, the other begins anew.
        ("alerts.yml", "1+0x7 stale 1+0x50", "1+0x7 stale 1+0x50", {9: 0, 11: 1, 16: 2}),
        ("alerts-keep-firing.yml", "1+0x7 stale 1+0x50", "1+0x7 stale 1+0x50", {11: 0, 16: 0, 18: 0, 20: 1, 25: 2}),
        # It comes and goes every other minute: that is as bad in the one, and never long enough in the other.
        ("alerts.yml", "1 0 " * 30, "1+0x60", {9: 0, 11: 1, 16: 2, 50: 2}),
        ("alerts-keep-firing.yml", "1 0 " * 30, "1+0x60", {11: 0, 30: 0, 50: 0}),
        # It clears: five minutes later in both.
        ("alerts.yml", "1+0x29 0+0x30", "1+0x60", {29: 2, 33: 2, 36: 0}),
        ("alerts-keep-firing.yml", "1+0x29 0+0x30", "1+0x60", {29: 2, 33: 2, 36: 0}),
    ],
)
def test_what_is_interrupted(name: str, blocked: str, lead: str, firing: dict[int, int], tmp_path: Path) -> None:
    """How many of the two alerts of a blocked machine fire after so many minutes."""
    shutil.copy(CONFIG / name, tmp_path)
    asked = 'count(ALERTS{alertname="BackupreadyNextBackupWillFail",alertstate="firing"})'
    lines = [f"rule_files: [{name}]", "evaluation_interval: 1m", "tests:", "  - interval: 1m", "    input_series:"]
    lines += [f"      - {{series: '{s}', values: {v}}}" for s, v in ((BLOCKED, blocked), (LEAD, lead))]
    lines += ["    promql_expr_test:"]
    for minute, count in firing.items():
        samples = f"[{{labels: '{{}}', value: {count}}}]" if count else "[]"
        lines.append(f"      - {{expr: '{asked}', eval_time: {minute}m, exp_samples: {samples}}}")
    (tmp_path / "test.yml").write_text("\n".join(lines) + "\n")
    promtool("test", "rules", tmp_path / "test.yml")


@pytest.mark.integration
def test_promtool_takes_the_scrape() -> None:
    """Names, units, kinds and helps are as Prometheus wants them."""
    scrape = (Path(__file__).parent / "mind/golden/scrape.prom").read_text()
    said = promtool("check", "metrics", given=re.sub(r" MASKED$", " 1", scrape, flags=re.MULTILINE))
    assert said.strip() == ""


# ------------------------------------------------------------------------------------------------------ Alertmanager


def amtool(*arguments: str | Path) -> str:
    need("amtool", "prometheus-alertmanager")
    done = subprocess.run(["amtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.integration
def test_amtool_takes_the_example() -> None:
    """With all that is in it."""
    assert "SUCCESS" in amtool("check-config", CONFIG / "alertmanager.yml")


RECEIVERS = {"critical": "backup-pager", "warning": "backup-tickets", "info": "nobody"}


@pytest.mark.integration
@pytest.mark.parametrize(
    ("receiver", "labels"),
    [
        *sorted(
            (RECEIVERS[rule.severity], (alert.name, rule.severity))
            for alert, rule in RULES
            if alert not in EACH or alert.name == "BackupreadyAgentStopped"
        ),
        ("others", ("NodeDown", "critical")),
    ],
)
def test_an_alert_reaches_whom_it_should(receiver: str, labels: tuple[str, str]) -> None:
    """By its severity; those of others are left alone."""
    name, severity = labels
    said = amtool(
        "config",
        "routes",
        "test",
        f"--config.file={CONFIG / 'alertmanager.yml'}",
        f"alertname={name}",
        f"severity={severity}",
    )
    assert said.strip() == receiver


def quiet(
    base: str, sent: Sequence[tuple[str, str, str]], until: set[tuple[str, str, str]]
) -> set[tuple[str, str, str]]:
    """Those of the alerts (name, severity, instance) that Alertmanager keeps quiet, as soon as that is so of those that
    are waited for, or after a while."""
    bodies = [
        {"labels": {"alertname": name, "severity": severity, "instance": instance, "job": "backupready"}}
        for name, severity, instance in sent
    ]
    assert requests.post(f"{base}/api/v2/alerts", json=bodies, timeout=10).status_code == 200
    end = time.monotonic() + 20
    while True:
        told = requests.get(f"{base}/api/v2/alerts", timeout=10).json()
        states = {
            (one["labels"]["alertname"], one["labels"]["severity"], one["labels"]["instance"]): one["status"]
            for one in told
        }
        inhibited = {key for key, status in states.items() if status["inhibitedBy"]}
        if (states.keys() == set(sent) and inhibited >= until) or time.monotonic() > end:
            return inhibited
        time.sleep(0.1)


@contextlib.contextmanager
def running(config: Path, tmp_path: Path) -> Iterator[str]:
    """A real one, and its address."""
    need("prometheus-alertmanager")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = ["prometheus-alertmanager", f"--config.file={config}", f"--storage.path={tmp_path}"]
    command += ["--log.level=debug", f"--web.listen-address={address}", "--cluster.listen-address="]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end and process.poll() is None:
            with contextlib.suppress(requests.ConnectionError):
                if requests.get(f"http://{address}/-/ready", timeout=5).ok:
                    break
            time.sleep(0.1)
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """With the example."""
    with running(CONFIG / "alertmanager.yml", tmp_path) as address:
        yield address


@pytest.mark.integration
def test_the_symptom_speaks_for_its_machine(alertmanager: str) -> None:
    """Infos and the milder alert of the same name are quiet on that machine, and on no other."""
    looks = {"BackupreadyNotLooking", "BackupreadyLooksFailing"}
    unseen = {"BackupreadyUnknown", "BackupreadyProbeCannotTell", "BackupreadyProbeStale"}
    # Who speaks, how gravely, and for whom; each on a machine of its own.
    cases = [
        ("BackupreadyNextBackupWillFail", "critical", {("BackupreadyNextBackupWillFail", "warning")}),
        ("BackupreadyBackupOverdue", "critical", {("BackupreadyBackupOverdue", "warning")}),
        ("BackupreadyNextBackupWillFail", "warning", {("BackupreadyAgentStopped", "info")}),
        ("BackupreadyNextBackupDegraded", "warning", {("BackupreadyFreezeImpossible", "info")}),
        ("BackupreadyNextBackupAtRisk", "warning", {("BackupreadyAgentOutdated", "info")}),
        ("BackupreadyUnknown", "warning", {("BackupreadyProbeCannotTell", "info")}),
        *((name, "warning", {(other, "warning") for other in unseen}) for name in sorted(looks)),
        *(("BackupreadyTextFileStale", "warning", {(other, "warning") for other in each}) for each in (looks, unseen)),
        (
            "BackupreadyDown",
            "warning",
            {
                ("BackupreadyNextBackupWillFail", "critical"),
                ("BackupreadyConfigReloadFailed", "warning"),
                ("BackupreadyAgentHung", "info"),
            },
        ),
    ]
    expected = {(name, grave, f"vm{n}") for n, (_, _, quieted) in enumerate(cases) for name, grave in quieted}
    # They speak for nothing else there, nor for another machine.
    others = {
        ("BackupreadyBackupOverdue", "warning", "vm0"),
        ("BackupreadyConfigReloadFailed", "warning", "vm0"),
        ("NodeNotice", "info", "vm2"),
        ("BackupreadySilent", "warning", "vm6"),
        ("NodeDown", "critical", f"vm{len(cases) - 1}"),
        ("BackupreadyNextBackupWillFail", "warning", "another"),
        ("BackupreadyBackupOverdue", "warning", "another"),
        ("BackupreadyProbeStale", "warning", "another"),
        ("BackupreadyAgentOutdated", "info", "a third"),
    }
    speaking = {(name, grave, f"vm{n}") for n, (name, grave, _) in enumerate(cases)}
    sent = sorted(speaking | expected | others)
    assert quiet(alertmanager, sent, expected) == expected


MUTED = "Notifications not sent, route is within mute time"  # in Alertmanager's log


class Told(ThreadingHTTPServer):
    """Who is told what: receivers, each at a path of its own, with the names of the alerts that they have got."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receiver)
        self.got: set[tuple[str, str]] = set()


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Told)
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got |= {(self.path[1:], alert["labels"]["alertname"]) for alert in message["alerts"]}
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def told() -> Iterator[Told]:
    with Told() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.1,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(20)


def with_receivers(told: Told, times: dict[str, object]) -> str:
    """The example with addresses, without the time that it collects, and with another time for maintenance."""
    config = yaml.safe_load((CONFIG / "alertmanager.yml").read_text())
    for receiver in config["receivers"]:
        url = f"http://127.0.0.1:{told.server_address[1]}/{receiver['name']}"
        receiver["webhook_configs"] = [{"url": url}] if receiver["name"] != "nobody" else []
    (ours,) = config["route"]["routes"]
    config["route"]["group_wait"] = ours["group_wait"] = "0s"
    ((interval,),) = [one["time_intervals"] for one in config["time_intervals"] if one["name"] == "maintenance"]
    assert interval.keys() == {"weekdays", "times", "location"}
    interval.update(times)
    return str(yaml.safe_dump(config))


@pytest.mark.integration
@pytest.mark.parametrize("now", [True, False])
def test_nobody_is_told_during_maintenance(now: bool, told: Told, tmp_path: Path) -> None:
    """Of ours, by the pager as by tickets, and others' alerts go on; at any other time all are told."""
    days = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"]
    today = datetime.now(timezone.utc).isoweekday() % 7
    # Whole days, of which the next and the one before are told too: the test may run over midnight, anywhere.
    around = [days[(today + day) % 7] for day in (-1, 0, 1)]
    chosen = around if now else sorted(set(days) - set(around))
    path = tmp_path / "alertmanager.yml"
    path.write_text(with_receivers(told, {"weekdays": chosen, "times": [{"start_time": "00:00", "end_time": "24:00"}]}))
    amtool("check-config", path)
    ours = {("BackupreadyNextBackupWillFail", "critical"), ("BackupreadyBackupOverdue", "warning")}
    sent = [{"labels": {"alertname": name, "severity": grave}} for name, grave in [*ours, ("NodeDown", "critical")]]
    reached = {("backup-pager", "BackupreadyNextBackupWillFail"), ("backup-tickets", "BackupreadyBackupOverdue")}
    expected = {("others", "NodeDown")} | (set() if now else reached)
    log = tmp_path / "log"
    with running(path, tmp_path) as base:
        assert requests.post(f"{base}/api/v2/alerts", json=sent, timeout=10).status_code == 200
        end = time.monotonic() + 20
        # It is not enough that nothing has come yet: Alertmanager says of each group that it is muted.
        while told.got < expected or (now and log.read_text().count(MUTED) < len(ours)):
            assert time.monotonic() < end, (told.got, log.read_text())
            time.sleep(0.1)
    assert told.got == expected
    assert log.read_text().count(MUTED) == (len(ours) if now else 0)
