"""The dashboards: what grafana's dashboard-linter asks for holds, and Prometheus has an answer to every query.

They are read as they are shipped, so that nothing here needs what they are made with. The names of the linter's rules
stand with what is held of them; where it looks at some kinds of panels only, all are looked at here. It wants several
machines to be chosen on every page: the page of one machine takes one alone.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from backupready import probes
from backupready.mind import metrics
from backupready.model import Effect, Phase, Verdict
from monitoring import CONFIG, Server, free_address, impatient_rules, panels, prometheus, substituted

PAGES = ("fleet.json", "vm.json")
LABELS = {
    "up": (),
    "ALERTS": ("alertname", "alertstate"),
    "process_cpu_seconds_total": (),
    "process_resident_memory_bytes": (),
    **{name: labels for name, _, _, labels in metrics.OWN},
    **{metric.name: metric.labels for metric in probes.METRICS},
}
VALUES = {
    "verdict": {verdict.value for verdict in Verdict},
    "phase": {phase.value for phase in Phase},
    "effect": {effect.value for effect in Effect},
    "mode": set(metrics.MODES),
    "alertstate": {"firing"},
}
# Of the linter's list those that are used here, so that another is looked up there first.
UNITS = {"none", "short", "s", "percentunit", "bytes", "dateTimeFromNow", "dateTimeAsIsoNoDateIfToday"}


Page = dict[str, Any]


def load(name: str) -> Page:
    page: Page = json.loads((CONFIG / "dashboards" / name).read_text(encoding="utf-8"))
    return page


def selectors(expr: str) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """Each series that is asked for: its name, and label → operator and value."""
    unquoted = re.sub(r'"[^"]*"', lambda match: '"' + " " * (len(match.group()) - 2) + '"', expr)
    for match in re.finditer(r"(?<![\w:$])(?:(?:backupready|process)_\w+|up|ALERTS)\b", unquoted):
        braces = re.match(r"\{([^}]*)\}", expr[match.end() :])
        inside = re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', braces.group(1)) if braces else []
        yield match.group(), {label: (operator, value) for label, operator, value in inside}


def units(panel: dict[str, Any]) -> set[str]:
    config = panel["fieldConfig"]
    properties = [each for override in config["overrides"] for each in override["properties"]]
    return {config["defaults"].get("unit", ""), *(each["value"] for each in properties if each["id"] == "unit")}


def complaints(page: Page) -> list[str]:
    """What is wrong with a dashboard, each with the linter's name of the rule or, in words, ours."""
    said = []

    def hold(right: object, rule: str, about: object = "") -> None:
        if not right:
            said.append(f"{rule}: {about}")

    variables = {variable["name"]: variable for variable in page["templating"]["list"]}
    source = variables.get("datasource", {})
    hold(
        (source.get("type"), source.get("query"), source.get("label")) == ("datasource", "prometheus", "Data source"),
        "template-datasource-rule",
    )
    for name in ("job", "instance"):
        variable = variables.get(name, {})
        asked = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("query", ""))
        right = (
            variable.get("type") == "query"
            and variable.get("datasource", {}).get("uid") == "${datasource}"
            and variable.get("label") == name.capitalize()
            and variable.get("multi") is (page["uid"] == "backupready-fleet")
            and variable.get("allValue") == ".+"
        )
        hold(right, f"template-{name}-rule", variable)
        hold(asked and asked.group(2) == name, "template-label-promql-rule", variable.get("query"))
        hold(variable.get("refresh") == 2, "template-on-time-change-reload-rule", name)
    hold(page["editable"] is False, "uneditable-dashboard")
    shown = [panel for panel in page["panels"] if panel["type"] != "row"]
    for panel in shown:
        title = panel.get("title")
        hold(title and panel.get("description", "") not in ("", title), "panel-title-description-rule", title)
        used = [panel, *panel.get("targets", [])]
        hold(all(each["datasource"]["uid"] == "${datasource}" for each in used), "panel-datasource-rule", title)
        hold(units(panel) <= UNITS, "panel-units-rule", (title, units(panel)))
        hold(panel.get("targets"), "panel-no-targets-rule", title)
        legends = [target.get("legendFormat") for target in panel.get("targets", [])]
        hold(all(legends), "each query has a legend", title)
        if panel["type"] != "table":
            hold(len(set(legends)) == len(legends), "legends differ", title)
        for target in panel.get("targets", []):
            hold(target["instant"] is (panel["type"] in ("table", "stat")), "now or over time", title)
            _hold_query(hold, target["expr"], panel["type"])
    for one, other in combinations([panel["gridPos"] for panel in page["panels"]], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        hold(apart, "panels lie side by side", (one, other))
    for place in (panel["gridPos"] for panel in page["panels"]):
        across = sum(p["gridPos"]["w"] for p in page["panels"] if p["gridPos"]["y"] == place["y"])
        hold(across == 24, "a line of panels is full", place)
    return said


def _hold_query(hold: Callable[..., None], expr: str, kind: str) -> None:
    asked = list(selectors(expr))
    hold(asked, "target-promql-rule", expr)
    for name, matchers in asked:
        hold(name in LABELS, "what is asked for is declared", name)
        hold(matchers.get("job") == ("=~", "$job"), "target-job-rule", expr)
        hold(matchers.get("instance") == ("=~", "$instance"), "target-instance-rule", expr)
        own = {label: value for label, value in matchers.items() if label not in ("job", "instance")}
        hold(own.keys() <= set(LABELS.get(name, ())), "a metric has the labels that are asked for", (name, own))
        for label, (operator, value) in own.items():
            known = VALUES.get(label)
            hold(known is None or operator == "=~" or value in known, "a label can have that value", (label, value))
    hold(set(re.findall(r"\[([^\]]*)\]", expr)) <= {"$__rate_interval"}, "target-rate-interval-rule", expr)
    bare = re.sub(r"\b(?:rate|increase)\([^()]*\)", "", expr)
    # How often something has happened at all can be asked now; over time it only grows.
    hold(kind == "table" or not re.search(r"_total\b", bare), "target-counter-agg-rule", expr)


@pytest.mark.parametrize("name", PAGES)
def test_the_linter_has_nothing_to_say(name: str) -> None:
    """Nor have we."""
    assert complaints(load(name)) == []


def _first(page: Page, kind: str) -> dict[str, Any]:
    panel: dict[str, Any] = next(panel for panel in page["panels"] if panel["type"] == kind)
    return panel


def _query(page: Page, old: str, new: str) -> None:
    """Change the first query with that in it."""
    targets = [target for panel in page["panels"] for target in panel.get("targets", []) if old in target["expr"]]
    targets[0]["expr"] = targets[0]["expr"].replace(old, new, 1)


def _variable(page: Page, name: str) -> dict[str, Any]:
    variable: dict[str, Any] = next(each for each in page["templating"]["list"] if each["name"] == name)
    return variable


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("template-datasource-rule", lambda page: _variable(page, "datasource").update(label="Source")),
        ("template-job-rule", lambda page: _variable(page, "job").update(multi=True)),
        ("template-instance-rule", lambda page: _variable(page, "instance").update(allValue=".*")),
        ("template-label-promql-rule", lambda page: _variable(page, "job").update(query="up")),
        ("template-on-time-change-reload-rule", lambda page: _variable(page, "job").update(refresh=1)),
        ("uneditable-dashboard", lambda page: page.update(editable=True)),
        ("panel-title-description-rule", lambda page: _first(page, "stat").update(description="")),
        ("panel-datasource-rule", lambda page: _first(page, "table")["targets"][0]["datasource"].update(uid="mine")),
        ("panel-units-rule", lambda page: _first(page, "timeseries")["fieldConfig"]["defaults"].update(unit="m/s")),
        ("panel-no-targets-rule", lambda page: _first(page, "stat").update(targets=[])),
        ("each query has a legend", lambda page: _first(page, "timeseries")["targets"][0].update(legendFormat="")),
        ("legends differ", lambda page: _first(page, "timeseries")["targets"][0].update(legendFormat="cpu stolen")),
        ("now or over time", lambda page: _first(page, "state-timeline")["targets"][0].update(instant=True)),
        ("target-promql-rule", lambda page: _first(page, "stat")["targets"][0].update(expr="vector(1)")),
        ("target-job-rule", lambda page: _query(page, 'job=~"$job", ', "")),
        ("target-instance-rule", lambda page: _query(page, 'instance=~"$instance"', 'instance="$instance"')),
        ("target-rate-interval-rule", lambda page: _query(page, "[$__rate_interval]", "[5m]")),
        ("target-counter-agg-rule", lambda page: _query(page, "rate(backupready_looks", "abs(backupready_looks")),
        ("what is asked for is declared", lambda page: _query(page, "backupready_verdict{", "backupready_judgement{")),
        ("a metric has the labels that are asked for", lambda page: _query(page, "verdict=", "vardict=")),
        ("a label can have that value", lambda page: _query(page, '"blocked"', '"locked"')),
        ("panels lie side by side", lambda page: page["panels"][1]["gridPos"].update(x=0)),
        ("a line of panels is full", lambda page: page["panels"][0]["gridPos"].update(w=1)),
    ],
)
def test_a_mistake_is_seen(rule: str, spoil: Callable[[Page], object]) -> None:
    """By its own rule, each."""
    page = copy.deepcopy(load("vm.json"))
    spoil(page)
    assert rule in {complaint.partition(":")[0] for complaint in complaints(page)}


def test_links_lead_to_a_dashboard_that_is_there() -> None:
    """From a machine in a table to that machine's own, of its own job: others may have a machine of that name."""
    known = {load(name)["uid"] for name in PAGES}
    led = set(re.findall(r"/d/([\w-]+)", json.dumps(load("fleet.json"))))
    assert led == {"backupready-vm"}
    assert led < known
    for panel in panels("fleet.json"):
        if "/d/" in json.dumps(panel):
            assert "&var-job=${__data.fields.Job}&" in json.dumps(panel), panel["title"]
            order = next(step["options"] for step in panel["transformations"] if step["id"] == "organize")
            assert order["renameByName"]["job"] == "Job"
    # All of the fleet's machines are too many for the page of one.
    (to_others,) = load("fleet.json")["links"]
    assert to_others["includeVars"] is False


def test_a_night_without_a_window_is_not_unknown() -> None:
    """Nobody fails tonight where no window starts."""
    (tonight,) = (panel for panel in panels("fleet.json") if panel["title"] == "Tonight")
    assert tonight["fieldConfig"]["defaults"]["noValue"] == "none"


# Details of what is shown, or what has an alert and no course worth a picture.
LEFT_OUT = {
    "backupready_agent_goal_state_errors",
    "backupready_agent_process_start_time_seconds",
    "backupready_agent_unit_info",
    "backupready_backup_running",
    "backupready_config_last_reload_successful",
    "backupready_extension_code",
    "backupready_fix_door_open",
    "backupready_probe_interval_seconds",
    "backupready_probe_last_run_timestamp_seconds",
    "backupready_space_available_bytes",
    "backupready_web_config_last_reload_successful",
    "backupready_window_expected_interval_seconds",
    "backupready_window_lead_seconds",
}


def test_every_metric_is_shown_or_left_out_on_purpose() -> None:
    """One that is new has to be decided on."""
    shown = {
        name for page in PAGES for panel in panels(page) for t in panel["targets"] for name, _ in selectors(t["expr"])
    }
    assert set(LABELS) - shown == LEFT_OUT


# ----------------------------------------------------------------------------------------------------- in Prometheus


def scrape() -> str:
    """The golden scrape with nothing empty, and one sample of every metric that is declared and not in it."""
    golden = (Path(__file__).parent / "mind/golden/scrape.prom").read_text(encoding="utf-8")
    lines = [re.sub(r" MASKED$", " 1", line.replace('=""', '="made up"')) for line in golden.splitlines()]
    there = {re.split(r"[ {]", line)[0] for line in lines}
    for name, labels in LABELS.items():
        if name.startswith("backupready_") and name not in there:
            words = ",".join(f'{label}="{min(VALUES.get(label, {"made up"}))}"' for label in labels)
            lines.append(f"{name}{{{words}}} 1" if words else f"{name} 1")
    return "\n".join(lines) + "\n"


class _Target(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = scrape().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


ANY_JOB = "backupready.*"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real Prometheus that has scraped all that there can be, and in which alerts fire."""
    target = ThreadingHTTPServer(("127.0.0.1", 0), _Target)
    threading.Thread(target=target.serve_forever, args=(0.05,), daemon=True).start()
    address = f"127.0.0.1:{target.server_port}"
    try:
        place = tmp_path_factory.mktemp("dashboards") / "prometheus"
        # Another job has a machine of the same name, and one that says more of itself.
        named = {"instance": "shop/web", "vm": "web", "resource_group": "shop", "backup_policy": "v/daily"}
        more = {"backupready-prod": [{"targets": [address]}, {"targets": [address], "labels": named}]}
        with prometheus(place, free_address(), address, impatient_rules(), more=more) as server:
            fire = 'ALERTS{alertname="BackupreadyNextBackupWillFail",alertstate="firing"}'
            end = time.monotonic() + 60
            while (
                len({tuple(each["metric"].get(key) for key in ("job", "instance")) for each in server.query(fire)}) < 3
            ):
                assert time.monotonic() < end, "nothing fires"
                time.sleep(0.2)
            yield server
    finally:
        target.shutdown()
        target.server_close()


@pytest.mark.integration
@pytest.mark.parametrize("name", PAGES)
def test_every_query_has_an_answer(name: str, filled: Server) -> None:
    """With the labels that its legend names."""
    for panel in panels(name):
        for target in panel["targets"]:
            found = filled.query(substituted(target["expr"], ANY_JOB))
            assert found, (panel["title"], target["expr"])
            named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert all(named <= series["metric"].keys() for series in found), (panel["title"], named)


@pytest.mark.integration
@pytest.mark.parametrize("name", PAGES)
def test_every_column_of_a_table_is_in_an_answer(name: str, filled: Server) -> None:
    """A label of a series, or the value of a query, which has the query's letter where there are several."""
    for panel in panels(name):
        if panel["type"] != "table":
            continue
        several = len(panel["targets"]) > 1
        fields = set()
        for target in panel["targets"]:
            fields.add(f"Value #{target['refId']}" if several else "Value")
            for series in filled.query(substituted(target["expr"], ANY_JOB)):
                fields |= series["metric"].keys()
        steps = {step["id"]: step["options"] for step in panel["transformations"]}
        assert ("merge" in steps) == several
        order = steps["organize"]["indexByName"]
        grouped = {f"{field} (count)" for field in steps.get("groupBy", {}).get("fields", {}) if field in fields}
        assert set(order) <= fields | grouped, panel["title"]
        headings = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
        headings |= {sort["displayName"] for sort in panel["options"].get("sortBy", [])}
        assert headings <= set(steps["organize"]["renameByName"].values()), panel["title"]


def _told_apart(panel: dict[str, Any], series: list[dict[str, str]], legend: str) -> bool:
    """Whether what is shown of each series, its legend or the columns that are labels, is of no other."""
    labels = re.findall(r"\{\{(\w+)\}\}", legend)
    if panel["type"] == "table":
        steps = {step["id"]: step["options"] for step in panel["transformations"]}
        if "groupBy" in steps:
            return True  # it counts them
        labels = list(steps["organize"]["indexByName"])
    shown = [tuple(each.get(label, "") for label in labels) for each in series]
    return len(set(shown)) == len(shown)


@pytest.mark.integration
def test_two_jobs_and_machines_are_told_apart(filled: Server) -> None:
    """All of them on the page of the fleet, and on the page of one machine what is of that one."""
    machines = {(s["metric"]["job"], s["metric"]["instance"]) for s in filled.query("backupready_build_info")}
    assert len(machines) == 3
    assert len({job for job, _ in machines}) == len({instance for _, instance in machines}) == 2
    for name, chosen in (("fleet.json", {(ANY_JOB, ".+")}), ("vm.json", machines)):
        for panel in panels(name):
            for target in panel["targets"]:
                for job, instance in chosen:
                    found = [each["metric"] for each in filled.query(substituted(target["expr"], job, instance))]
                    assert _told_apart(panel, found, target["legendFormat"]), (panel["title"], job, instance, found[:3])


@pytest.mark.integration
@pytest.mark.parametrize("name", PAGES)
def test_a_machine_says_where_it_is(name: str, filled: Server) -> None:
    """Its VM, group and policy, where discovery has given them; another has no such label."""
    columns = {"vm", "resource_group", "backup_policy"}
    rows = [
        series["metric"]
        for panel in panels(name)
        for target in panel["targets"]
        if panel["type"] == "table" and columns <= set(panel["transformations"][-1]["options"]["indexByName"])
        for series in filled.query(substituted(target["expr"], ANY_JOB))
        if "backupready_build_info" in target["expr"]
    ]
    assert sorted(len(columns & row.keys()) for row in rows) == [0, 0, 3]
