"""What do people see in Grafana, 10.1 or later? The fleet, and one machine.

Only whoever renders has the generator (the test extra brings it, for Python 3.11 and later), so that nothing else may
import this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence

from grafana_foundation_sdk.builders import common as looks
from grafana_foundation_sdk.builders import dashboard, table
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, units
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from backupready import probes
from backupready.catalogue.alerts import JOB, RECORDINGS
from backupready.catalogue.panels import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    SOURCE,
    YELLOW,
    Column,
    Query,
    asked,
    colored,
    course,
    listing,
    named,
    number,
    ranked,
    shown,
    timeline,
)
from backupready.mind import metrics
from backupready.model import Effect, Phase, Verdict

FLEET, MACHINE = "backupready-fleet", "backupready-vm"

_HELP = {**{name: help_ for name, _, help_, _ in metrics.OWN}, **{one.name: one.help for one in probes.METRICS}}
_RECORDED = {recording.name: recording.expr for recording in RECORDINGS}

# What is to be looked at first comes last.
_VERDICTS = {
    Verdict.READY: GREEN,
    Verdict.AT_RISK: YELLOW,
    Verdict.DEGRADED: ORANGE,
    Verdict.UNKNOWN: PURPLE,
    Verdict.BLOCKED: RED,
}
_PHASES = {Phase.IDLE: PALE, Phase.LEAD: BLUE, Phase.HOLD: YELLOW, Phase.OPEN: PURPLE}
_EFFECTS = {
    Effect.NOTICE: PALE,
    Effect.RISKS: YELLOW,
    Effect.DEGRADES: ORANGE,
    Effect.BLOCKS: RED,
    Effect.VOIDS: GREY,
}
_SILENT = "no answer"

_VERDICT = (
    ranked("backupready_verdict", "verdict", [verdict.value for verdict in _VERDICTS])
    + f" or max by (job, instance) ((up == 0) + {len(_VERDICTS)})"
)
_PHASE = ranked("backupready_phase", "phase", [phase.value for phase in _PHASES])
_MODE = ranked("backupready_fix_mode", "mode", metrics.MODES)
# A problem that cannot be told comes after all that are there.
_PROBLEM = (
    ranked("backupready_problem_active", "effect", [effect.value for effect in _EFFECTS], "job, instance, problem")
    + f" or max by (job, instance, problem) ((backupready_problem_unknown == 1) * {len(_EFFECTS)})"
)
_REASONS = (
    'label_replace(backupready_problem_active{effect!="notice"} == 1, "state", "active", "", "")'
    ' or label_replace(backupready_problem_unknown{effect!="notice"} == 1, "state", "cannot be told", "", "")'
)
_NEXT = "max by (job, instance) (backupready_window_next_start_timestamp_seconds) * 1000"
_SINCE = "max by (job, instance) (backupready_verdict_since_timestamp_seconds) * 1000"
_AGE = f"max by (job, instance) ({_RECORDED['instance:backupready_last_success_age_seconds:sub']})"

_VERDICT_NAMES = named({**{verdict.value: color for verdict, color in _VERDICTS.items()}, _SILENT: GREY})
_PHASE_NAMES = named({phase.value: color for phase, color in _PHASES.items()})
_PROBLEM_NAMES = named({**{effect.value: color for effect, color in _EFFECTS.items()}, "cannot be told": PURPLE})
_MODE_NAMES = named(dict(zip(metrics.MODES, (PALE, BLUE, GREEN))))
_TOLD_NAMES = named({"no": RED, "yes": GREEN})

_COLORED = "color-text"
_TO_MACHINE = shown(
    links=[
        {
            "title": "This machine",
            "url": f"/d/{MACHINE}?var-instance=${{__value.raw}}"
            "&${datasource:queryparam}&var-job=${__data.fields.Job}&${__url_time_range}",
        }
    ]
)
# Of two jobs, machines may have the same name.
_INSTANCE: tuple[Column, ...] = (("instance", "Machine", _TO_MACHINE), ("job", "Job", ()))
# Labels that config/prometheus.yml gives; without them there is no such column.
_PLACE: tuple[Column, ...] = tuple(
    (label, heading, shown(noValue=""))
    for label, heading in (("vm", "VM"), ("resource_group", "Resource group"), ("backup_policy", "Policy"))
)
_PLACED = f"max by (job, instance, version, {', '.join(label for label, _, _ in _PLACE)}) (backupready_build_info)"
_DATE = shown(unit=units.DateTimeFromNow)
_EFFECT_SHOWN = shown(
    cell=_COLORED,
    mappings=[colored({effect.value: color for effect, color in _EFFECTS.items()})],
)
_COUNTED_PREDICTIONS: tuple[Column, ...] = (
    ("predicted", "Predicted", ()),
    ("happened", "Happened", ()),
    ("Value", "Windows", ()),
)
_SEVERITY_SHOWN = shown(
    cell=_COLORED,
    mappings=[colored({"critical": RED, "warning": ORANGE, "info": GREY})],
)


def _page(uid: str, title: str, description: str, everything: bool, span: str) -> dashboard.Dashboard:
    """An empty one with its variables: `everything` is chosen at first, or else the first machine, and then one alone
    can be."""
    every = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    ours = model.VariableOption(selected=True, text=[JOB], value=[JOB])
    page = dashboard.Dashboard(title).uid(uid).description(description).tags(["backupready"]).readonly()
    page = page.time(f"now-{span}", "now").refresh("1m").timezone("browser")
    page = page.tooltip(model.DashboardCursorSync.CROSSHAIR)
    page = page.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    # There is no All of the jobs: `up` would be that of every job there is.
    for name, query, every_one, at_first in (
        ("job", "label_values(backupready_build_info, job)", False, ours),
        ("instance", 'label_values(up{job=~"$job"}, instance)', everything, every if everything else None),
    ):
        variable = dashboard.QueryVariable(name).label(name.capitalize()).datasource(SOURCE).query(query)
        variable = variable.multi(everything).all_value(".+").refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        variable = variable.sort(model.VariableSort.ALPHABETICAL_ASC).include_all(every_one)
        page = page.with_variable(variable if at_first is None else variable.current(at_first))
    other = dashboard.DashboardLink("backupready").type(model.DashboardLinkType.DASHBOARDS).tags(["backupready"])
    # A page of one machine cannot take several, which a fleet's variables are.
    return page.link(other.include_vars(not everything).keep_time(True).as_dropdown(False))


def _told(queries: Sequence[Query]) -> str:
    """What the metrics are, as they are declared."""
    names = dict.fromkeys(name for expr, _ in queries for name in re.findall(r"backupready_\w+", expr))
    return "\n\n".join(_HELP[name] for name in names)


def fleet() -> dashboard.Dashboard:
    """Whose backup will fail tonight, and why?"""
    page = _page(FLEET, "backupready / Fleet", "Whose next Azure Backup will fail, and why.", True, "24h")
    colors = {verdict.value: color for verdict, color in reversed(list(_VERDICTS.items()))}
    within_a_day = _RECORDED["job_verdict:backupready_machines_within_a_day:sum"]
    every = _RECORDED["job_verdict:backupready_machines:sum"]
    for title, expr, absent, description in (
        ("Tonight", within_a_day, "none", "Machines whose window is open or starts within a day, by their verdict."),
        ("All machines", every, "unknown", "By the verdict of their next backup."),
    ):
        queries = [(f"sum by (verdict) ({expr})", "{{verdict}}")]
        page = page.with_panel(number(title, description, queries, units.Short, 9, None, colors, absent=absent))
    red = {1.0: RED}
    unplanned = _RECORDED["job:backupready_machines_window_unknown:count"]
    page = page.with_panel(
        number(
            "No answer",
            "Machines that Prometheus cannot scrape: nobody can tell anything of them.",
            [("sum(up == bool 0)", "machines")],
            units.Short,
            3,
            steps=red,
        )
    )
    page = page.with_panel(
        number(
            "Window unknown",
            "Machines of which it is not known when their next window starts; they are not in Tonight.",
            [(f"sum({unplanned}) or 0 * count(backupready_build_info)", "machines")],
            units.Short,
            3,
            steps={1.0: YELLOW},
        )
    )
    page = page.with_panel(
        listing(
            "Machines",
            "One line a machine, those to look at first on top. What blocks or degrades a backup, or may break it, is"
            " counted under Reasons; what cannot be told under Unknown.",
            [
                _VERDICT,
                _SINCE,
                'sum by (job, instance) (backupready_problem_active{effect!="notice"})',
                "count by (job, instance) (backupready_problem_unknown == 1)",
                _NEXT,
                _AGE,
                _PLACED,
            ],
            [
                *_INSTANCE,
                ("Value #A", "Verdict", shown(mappings=[_VERDICT_NAMES], cell="color-background", align="center")),
                ("Value #B", "Since", _DATE),
                ("Value #C", "Reasons", shown(unit=units.Short)),
                ("Value #D", "Unknown", shown(unit=units.Short, noValue="0")),
                ("Value #E", "Next window", shown(unit=units.DateTimeFromNow, noValue="unknown")),
                ("Value #F", "Last good backup ago", shown(unit=units.Seconds, decimals=0, noValue="none on record")),
                *_PLACE,
                ("version", "Version", ()),
            ],
            15,
            12,
            ("Verdict", True),
        )
    )
    page = page.with_panel(
        listing(
            "Reasons",
            "What is wrong with which machine, and what cannot be told; `backupready explain CODE` tells more.",
            [_REASONS],
            [
                *_INSTANCE,
                ("problem", "Problem", ()),
                ("effect", "Effect", _EFFECT_SHOWN),
                ("state", "State", ()),
            ],
            9,
            12,
            ("Effect", False),
        )
    )
    page = page.with_panel(
        course(
            "Verdicts",
            [("sum by (verdict) (backupready_verdict)", "{{verdict}}")],
            units.Short,
            24,
            "How many machines had which verdict.",
            stacked={verdict.value: color for verdict, color in _VERDICTS.items()},
        )
    )
    page = page.with_panel(
        timeline(
            "Verdict of each machine",
            "What was said of the next backup, and when a machine could not be asked.",
            _VERDICT,
            "{{instance}} ({{job}})",
            _VERDICT_NAMES,
            10,
        )
    )
    page = page.with_row(dashboard.Row("Windows and backups"))
    page = page.with_panel(_starts())
    page = page.with_panel(
        listing(
            "Last backups",
            "What the newest run of the extension on each machine gave, by its own log. The last good one is the one"
            " that a machine can be restored from.",
            [
                "max by (job, instance, name, consistency) (backupready_backup_last_result_info)",
                _AGE,
                "max by (job, instance) (backupready_backup_last_failure_timestamp_seconds) * 1000",
            ],
            [
                *_INSTANCE,
                ("name", "Result", ()),
                ("consistency", "Consistency", ()),
                ("Value #B", "Last good ago", shown(unit=units.Seconds, decimals=0)),
                ("Value #C", "Last failure", shown(unit=units.DateTimeFromNow, noValue="none on record")),
            ],
            9,
            9,
            ("Last good ago", True),
        )
    )
    page = page.with_panel(
        listing(
            "Predictions against outcomes",
            _HELP["backupready_predictions_total"],
            ["sum by (predicted, happened) (backupready_predictions_total)"],
            _COUNTED_PREDICTIONS,
            7,
            9,
            ("Windows", True),
        )
    )
    page = page.with_row(dashboard.Row("Alerts and fixes"))
    page = page.with_panel(
        listing(
            "Alerts",
            "What fires now of machines, by alerts.yml; the runbook has a page for each.",
            ['max by (job, instance, alertname, severity) (ALERTS{alertname=~"Backupready.+", alertstate="firing"})'],
            [
                *_INSTANCE,
                ("alertname", "Alert", ()),
                ("severity", "Severity", _SEVERITY_SHOWN),
            ],
            10,
            9,
            ("Severity", False),
        )
    )
    page = page.with_panel(_fixes_done(7))
    page = page.with_panel(_fixes_refused(7))
    page = page.with_row(dashboard.Row("What runs there"))
    for title, metric, labels, width in (
        ("backupready", "backupready_build_info", ("version", "python"), 8),
        ("VM agent", "backupready_agent_info", ("version", "python"), 8),
        ("VMSnapshot extension", "backupready_extension_info", ("version", "status"), 8),
    ):
        page = page.with_panel(
            listing(
                title,
                _HELP[metric],
                [f"count by ({', '.join(labels)}) ({metric})"],
                [*((label, label.capitalize(), ()) for label in labels), ("Value", "Machines", ())],
                width,
                7,
                ("Machines", True),
            )
        )
    return page


def _starts() -> table.Panel:
    """Starts that coincide: each moment with how many machines start then."""
    panel = table.Panel().title("Next starts").datasource(SOURCE).span(8).height(9).unit(units.NoUnit)
    panel = panel.description(
        "How many machines start their backup at the same moment. Many are worth spreading over several policies."
    )
    panel = panel.no_value("none").cell_height(common.TableCellHeight.SM)
    panel = panel.with_target(asked(_NEXT, "__auto", 0, now=True).format(PromQueryFormat.TABLE))
    grouped = {
        "Value": {"operation": "groupby", "aggregations": []},
        "instance": {"operation": "aggregate", "aggregations": ["count"]},
    }
    panel = panel.with_transformation(model.DataTransformerConfig(id_val="groupBy", options={"fields": grouped}))
    names = {"Value": "Start", "instance (count)": "Machines"}
    order = {"indexByName": {"Value": 0, "instance (count)": 1}, "renameByName": names, "excludeByName": {}}
    panel = panel.with_transformation(model.DataTransformerConfig(id_val="organize", options=order))
    panel = panel.override_by_name("Start", shown(unit=units.DatetimeISONotToday))
    return panel.sort_by([looks.TableSortByFieldState().display_name("Machines").desc(True)])


def _fixes_done(width: int) -> table.Panel:
    return listing(
        "Fixes done",
        _HELP["backupready_fix_attempts_total"],
        ["sum by (remedy, result) (backupready_fix_attempts_total)"],
        [("remedy", "Remedy", ()), ("result", "Result", ()), ("Value", "Times", ())],
        width,
        9,
        ("Times", True),
    )


def _fixes_refused(width: int) -> table.Panel:
    return listing(
        "Fixes refused",
        _HELP["backupready_fix_refused_total"],
        ["sum by (remedy, reason) (backupready_fix_refused_total)"],
        [("remedy", "Remedy", ()), ("reason", "Why", ()), ("Value", "Times", ())],
        width,
        9,
        ("Times", True),
    )


# Title, queries with their legends, unit, and whether 1 is the most.
_SERIES: tuple[tuple[str, Sequence[Query], str, bool], ...] = (
    (
        "Pressure",
        [
            ("backupready_pressure_cpu_busy_ratio", "cpu busy"),
            ("backupready_pressure_cpu_steal_ratio", "cpu stolen"),
            ("backupready_pressure_stalled_ratio", "stalled by {{resource}}"),
            ("backupready_pressure_memory_available_ratio", "memory available"),
        ],
        units.PercentUnit,
        True,
    ),
    (
        "Space",
        [
            ("backupready_space_available_ratio", "bytes left on {{path}}"),
            ("backupready_inodes_available_ratio", "inodes left on {{path}}"),
        ],
        units.PercentUnit,
        True,
    ),
    (
        "Answers of the fabric",
        [
            ("backupready_wire_server_answer_seconds", "wire server"),
            ("backupready_host_plugin_answer_seconds", "host plugin"),
        ],
        units.Seconds,
        False,
    ),
    (
        "Storage and names",
        [
            ("backupready_storage_phase_seconds", "storage: {{phase}}"),
            ("backupready_dns_answer_seconds", "names: {{server}}"),
        ],
        units.Seconds,
        False,
    ),
    (
        "The agent's signs of life",
        [
            ("time() - backupready_agent_heartbeat_timestamp_seconds", "since its heartbeat"),
            ("time() - backupready_agent_status_timestamp_seconds", "since its report"),
        ],
        units.Seconds,
        False,
    ),
    (
        "Deaths of the agent",
        [("increase(backupready_process_deaths_total[$__rate_interval])", "deaths")],
        units.Short,
        False,
    ),
    ("Requests of the probes", [("backupready_probe_attempts", "{{probe}}")], units.Short, False),
    ("Clock", [("abs(backupready_clock_skew_seconds)", "off by")], units.Seconds, False),
)
_OWN_COST: tuple[tuple[str, Sequence[Query], str, str], ...] = (
    (
        "Processor",
        [("rate(process_cpu_seconds_total[$__rate_interval])", "the daemon")],
        units.PercentUnit,
        "Share of one processor that the resident daemon takes; what the looks and the fixes take comes on top.",
    ),
    (
        "Memory of the daemon",
        [("process_resident_memory_bytes", "resident")],
        units.BytesIEC,
        "What the resident daemon holds.",
    ),
    (
        "Looks",
        [
            ("rate(backupready_looks_total[$__rate_interval]) * 3600", "begun"),
            ("rate(backupready_looks_failed_total[$__rate_interval]) * 3600", "failed"),
            ("rate(backupready_probe_defects_total[$__rate_interval]) * 3600", "ended in a defect"),
        ],
        units.Short,
        "Looks within an hour, and how they ended.",
    ),
    (
        "What it could not do",
        [
            ("rate(backupready_state_writes_failed_total[$__rate_interval]) * 3600", "writes of its state"),
            ("rate(backupready_history_writes_failed_total[$__rate_interval]) * 3600", "writes of the history"),
            ("rate(backupready_history_records_dropped_total[$__rate_interval]) * 3600", "records not kept"),
            ("rate(backupready_log_records_dropped_total[$__rate_interval]) * 3600", "log records dropped"),
            ("rate(backupready_fix_requests_failed_total[$__rate_interval]) * 3600", "requests for a fix"),
        ],
        units.Short,
        "What has failed within an hour.",
    ),
)


def machine() -> dashboard.Dashboard:
    """Will the next backup of this machine succeed, and if not, why not?"""
    page = _page(MACHINE, "backupready / One VM", "Whether the next Azure Backup of a VM will succeed.", False, "7d")
    page = page.with_panel(
        number(
            "Verdict",
            _HELP["backupready_verdict"],
            [(_VERDICT, "{{instance}}")],
            units.NoUnit,
            4,
            _VERDICT_NAMES,
            absent=_SILENT,
        )
    )
    for title, expr, moment, width, description in (
        ("Since", _SINCE, units.DateTimeFromNow, 4, _HELP["backupready_verdict_since_timestamp_seconds"]),
        ("Next window", _NEXT, units.DateTimeFromNow, 4, _HELP["backupready_window_next_start_timestamp_seconds"]),
        ("Last good backup ago", _AGE, units.Seconds, 4, "How long ago the last good backup ended."),
    ):
        page = page.with_panel(number(title, description, [(expr, "{{instance}}")], moment, width))
    for title, expr, metric, names in (
        ("Phase", _PHASE, "backupready_phase", _PHASE_NAMES),
        ("Fixes are", _MODE, "backupready_fix_mode", _MODE_NAMES),
    ):
        panel = number(title, _HELP[metric], [(expr, "{{instance}}")], units.NoUnit, 4, names)
        page = page.with_panel(panel)
    page = page.with_panel(
        timeline("Verdict over time", _HELP["backupready_verdict"], _VERDICT, "{{instance}}", _VERDICT_NAMES, 4)
    )
    page = page.with_panel(timeline("Window", _HELP["backupready_phase"], _PHASE, "{{instance}}", _PHASE_NAMES, 4))
    page = page.with_panel(
        timeline(
            "Problems",
            "What was wrong, by what it does to the backup, and what could not be told. Where there is nothing, nothing"
            " was wrong as long as there was a verdict.",
            _PROBLEM,
            "{{problem}}",
            _PROBLEM_NAMES,
            10,
            15,
        )
    )
    page = page.with_panel(
        listing(
            "Reasons now",
            "`backupready status` on the machine tells what was seen, `backupready explain CODE` meaning and fix.",
            [_REASONS],
            [("problem", "Problem", ()), ("effect", "Effect", _EFFECT_SHOWN), ("state", "State", ())],
            9,
            10,
            ("Effect", False),
        )
    )
    page = page.with_row(dashboard.Row("Backups"))
    page = page.with_panel(
        listing(
            "Last backup",
            _HELP["backupready_backup_last_result_info"],
            [
                "max by (job, instance, name, consistency, path) (backupready_backup_last_result_info)",
                "max by (job, instance) (backupready_backup_last_result_code)",
                "max by (job, instance) (backupready_backup_duration_seconds)",
                "max by (job, instance) (backupready_backup_last_success_timestamp_seconds) * 1000",
                "max by (job, instance) (backupready_backup_last_failure_timestamp_seconds) * 1000",
                _PLACED,
            ],
            [
                *_PLACE,
                ("name", "Result", ()),
                ("Value #B", "Code", ()),
                ("consistency", "Consistency", ()),
                ("path", "Snapshot by", ()),
                ("Value #C", "Took", shown(unit=units.Seconds)),
                ("Value #D", "Last good", shown(unit=units.DateTimeFromNow, noValue="none on record")),
                ("Value #E", "Last failure", shown(unit=units.DateTimeFromNow, noValue="none on record")),
            ],
            16,
            6,
        )
    )
    page = page.with_panel(
        listing(
            "Predictions against outcomes",
            _HELP["backupready_predictions_total"],
            ["sum by (predicted, happened) (backupready_predictions_total)"],
            _COUNTED_PREDICTIONS,
            8,
            6,
            ("Windows", True),
        )
    )
    page = page.with_row(dashboard.Row("The machine and the fabric"))
    for title, queries, unit, ratio in _SERIES:
        page = page.with_panel(course(title, queries, unit, 6, _told(queries), ratio))
    page = page.with_row(dashboard.Row("Fixes"))
    page = page.with_panel(_fixes_done(6))
    page = page.with_panel(_fixes_refused(6))
    page = page.with_panel(
        listing(
            "Fixes that would have been done",
            _HELP["backupready_fix_would_run_total"],
            ["sum by (remedy) (backupready_fix_would_run_total)"],
            [("remedy", "Remedy", ()), ("Value", "Times", ())],
            5,
            9,
            ("Times", True),
        )
    )
    page = page.with_panel(
        listing(
            "Temporary changes",
            _HELP["backupready_temporary_change_active"],
            [
                "max by (job, instance, change) (backupready_temporary_change_active)",
                "max by (job, instance, change) (backupready_temporary_change_end_timestamp_seconds) * 1000",
            ],
            [("change", "Change", ()), ("Value #B", "Ends", _DATE)],
            7,
            9,
            ("Ends", False),
        )
    )
    page = page.with_row(dashboard.Row("backupready itself"))
    page = page.with_panel(
        timeline(
            "Could the probes tell?",
            _HELP["backupready_probe_success"],
            "min by (job, instance, probe) (backupready_probe_success)",
            "{{probe}}",
            _TOLD_NAMES,
            12,
            12,
        )
    )
    durations = [("backupready_probe_duration_seconds", "{{probe}}")]
    page = page.with_panel(course("Probe durations", durations, units.Seconds, 12, _told(durations)).height(12))
    for title, queries, unit, description in _OWN_COST:
        page = page.with_panel(course(title, queries, unit, 6, description))
    return page


PAGES: dict[str, Callable[[], dashboard.Dashboard]] = {"fleet.json": fleet, "vm.json": machine}


def render(name: str) -> str:
    """The dashboard as JSON that Grafana imports."""
    page = PAGES[name]().build()
    for place, panel in enumerate(page.panels or (), start=1):
        panel.id_val = place
    text = json.dumps(page, cls=JSONEncoder, indent=2, sort_keys=True, ensure_ascii=False)
    return text + "\n"
