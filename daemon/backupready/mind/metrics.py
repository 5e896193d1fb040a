"""What does Prometheus get? The snapshot, and nothing that is not in it, but for what this process itself costs."""

from __future__ import annotations

import platform
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Union, cast

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector

from backupready import __version__
from backupready.model import Effect, Fixes, Metric, Outlook, Phase, ProbeState, Snapshot, Verdict

# Name, kind, help and labels of everything that does not come from a probe: the metric list is rendered from this.
OWN: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("backupready_build_info", "gauge", "What runs here.", ("version", "python")),
    (
        "backupready_verdict",
        "gauge",
        "Whether the next backup will succeed: 1 for the verdict that holds.",
        ("verdict",),
    ),
    (
        "backupready_verdict_since_timestamp_seconds",
        "gauge",
        "Since when the verdict is what it is.",
        (),
    ),
    (
        "backupready_problem_active",
        "gauge",
        "1 while a problem is active and no mere consequence; of a risk or a notice no series else.",
        ("problem", "effect"),
    ),
    (
        "backupready_problem_unknown",
        "gauge",
        "1 while it cannot be told whether a problem is there; else no series.",
        ("problem", "effect"),
    ),
    (
        "backupready_phase",
        "gauge",
        "Where this moment stands between two windows: 1 for the phase that holds.",
        ("phase",),
    ),
    (
        "backupready_predictions_total",
        "counter",
        "Windows by what was predicted and what happened; a series for what has occurred.",
        ("predicted", "happened"),
    ),
    (
        "backupready_fix_mode",
        "gauge",
        "Whether fixes are done: 1 for the mode that holds.",
        ("mode",),
    ),
    (
        "backupready_fix_attempts_total",
        "counter",
        "Fixes by how they ended; one that is undone later counts there once more. A series for what has occurred.",
        ("remedy", "result"),
    ),
    (
        "backupready_fix_refused_total",
        "counter",
        "Fixes that were asked for and refused; a series for what has occurred.",
        ("remedy", "reason"),
    ),
    (
        "backupready_fix_would_run_total",
        "counter",
        "Fixes that would have been done, were they not only observed; a series for what has occurred.",
        ("remedy",),
    ),
    (
        "backupready_fix_door_open",
        "gauge",
        "1 if somebody can be asked for a fix; only where fixes are done.",
        (),
    ),
    (
        "backupready_fix_requests_failed_total",
        "counter",
        "Requests for a fix without an answer; only where fixes are done.",
        (),
    ),
    ("backupready_temporary_change_active", "gauge", "1 while a change is in force that ends by itself.", ("change",)),
    (
        "backupready_temporary_change_end_timestamp_seconds",
        "gauge",
        "When such a change ends.",
        ("change",),
    ),
    ("backupready_probe_success", "gauge", "1 if the probe's newest look could tell.", ("probe",)),
    ("backupready_probe_duration_seconds", "gauge", "How long the probe's newest look took.", ("probe",)),
    (
        "backupready_probe_attempts",
        "gauge",
        "Requests of the probe's newest look, retries included, if any.",
        ("probe",),
    ),
    (
        "backupready_probe_last_run_timestamp_seconds",
        "gauge",
        "When the probe looked last.",
        ("probe",),
    ),
    (
        "backupready_probe_interval_seconds",
        "gauge",
        "How often the probe looks, where that is set longer than usual; else no series.",
        ("probe",),
    ),
    ("backupready_looks_total", "counter", "Looks that were begun.", ()),
    ("backupready_looks_failed_total", "counter", "Looks that died, hung, or cannot be used.", ()),
    ("backupready_probe_defects_total", "counter", "Looks of a probe that ended in our own defect.", ()),
    ("backupready_process_deaths_total", "counter", "Deaths of the agent's processes, seen at once.", ()),
    (
        "backupready_log_records_dropped_total",
        "counter",
        "Log records that the journal did not take.",
        (),
    ),
    (
        "backupready_state_writes_failed_total",
        "counter",
        "Writes to the state directory that failed.",
        (),
    ),
    ("backupready_history_records_dropped_total", "counter", "Records that the history has not kept.", ()),
    ("backupready_history_writes_failed_total", "counter", "Writes of the history that failed.", ()),
    (
        "backupready_config_last_reload_successful",
        "gauge",
        "1 if the newest reload was taken over.",
        (),
    ),
    (
        "backupready_web_config_last_reload_successful",
        "gauge",
        "1 if the newest web.config_file was taken over; no series without one.",
        (),
    ),
)
# What a scrape says of them instead, where the help is longer: it is repeated by every scrape.
_CLAUSES = {
    "backupready_verdict": "1 for the verdict that holds.",
    "backupready_verdict_since_timestamp_seconds": "Since when it holds.",
    "backupready_problem_active": "1 while it is active.",
    "backupready_problem_unknown": "1 while it cannot be told.",
    "backupready_phase": "1 for the phase that holds.",
    "backupready_predictions_total": "Windows by what was predicted and happened.",
    "backupready_fix_mode": "1 for the mode that holds.",
    "backupready_fix_attempts_total": "Fixes by how they ended.",
    "backupready_fix_refused_total": "Fixes that were refused.",
    "backupready_fix_would_run_total": "Fixes that were only observed.",
    "backupready_fix_door_open": "1 if fixes can be asked for.",
    "backupready_fix_requests_failed_total": "Requests without an answer.",
    "backupready_temporary_change_active": "1 while it is in force.",
    "backupready_temporary_change_end_timestamp_seconds": "When it ends.",
    "backupready_probe_success": "1 if the newest look could tell.",
    "backupready_probe_duration_seconds": "How long the newest look took.",
    "backupready_probe_attempts": "Requests of the newest look.",
    "backupready_probe_last_run_timestamp_seconds": "When it looked last.",
    "backupready_probe_interval_seconds": "How often it looks.",
    "backupready_looks_failed_total": "Looks that failed.",
    "backupready_probe_defects_total": "Looks that ended in our own defect.",
    "backupready_process_deaths_total": "Deaths seen at once.",
    "backupready_log_records_dropped_total": "Log records lost.",
    "backupready_state_writes_failed_total": "Writes that failed.",
    "backupready_history_records_dropped_total": "Records lost.",
    "backupready_history_writes_failed_total": "Writes that failed.",
    "backupready_config_last_reload_successful": "1 if it was taken over.",
    "backupready_web_config_last_reload_successful": "1 if it was taken over.",
}
_COUNTERS = {
    "backupready_looks_total": "looks",
    "backupready_looks_failed_total": "looks_failed",
    "backupready_probe_defects_total": "probe_defects",
    "backupready_process_deaths_total": "process_deaths",
    "backupready_log_records_dropped_total": "log_records_dropped",
    "backupready_state_writes_failed_total": "state_writes_failed",
    "backupready_history_records_dropped_total": "history_records_dropped",
    "backupready_history_writes_failed_total": "history_writes_failed",
}
# 7.0 and 1.79539338e+09, where Go's library, and everybody who reads them, writes 7 and 1795393380.
_WHOLE = re.compile(rb"^([^#].* )(-?\d+\.0|-?\d\.\d+e\+\d+)$", re.MULTILINE)
_ALWAYS_TOLD = (Effect.VOIDS, Effect.BLOCKS, Effect.DEGRADES)
MODES = ("off", "observe", "on")
_HELP = {**{name: help_ for name, _, help_, _ in OWN}, **_CLAUSES}

Family = Union[GaugeMetricFamily, CounterMetricFamily]


class SnapshotCollector:
    """Renders the newest snapshot. What blocks or degrades has its series from the first scrape on; what has no series
    has no help either."""

    def __init__(self, newest: Callable[[], Snapshot], declared: Sequence[Metric]) -> None:
        self._newest = newest
        self._declared = {metric.name: metric for metric in declared}

    def collect(self) -> Iterator[Family]:
        return (family for family in self._families(self._newest()) if family.samples)

    def _families(self, snapshot: Snapshot) -> Iterator[Family]:
        yield self._labelled("backupready_build_info", [((__version__, platform.python_version()), 1.0)])
        states = {verdict.value: snapshot.verdict is verdict for verdict in Verdict}
        # A state set's own label is its name, which reads badly in a query; ours is `verdict`.
        yield self._labelled("backupready_verdict", [((name,), float(on)) for name, on in states.items()])
        yield self._plain("backupready_verdict_since_timestamp_seconds", snapshot.since)
        beliefs = sorted(snapshot.beliefs, key=lambda belief: belief.problem.code)
        # Every problem that does something to the backup has its series with what it declares, and one that is milder
        # here another beside it meanwhile. Those that may do something, and notices, have one only while they are
        # active: a third of the scrape would be noughts.
        active = [
            ((belief.problem.code, effect.value), float(belief.active and belief.effect is effect))
            for belief in beliefs
            for effect in dict.fromkeys(
                (belief.problem.effect, belief.effect if belief.active else belief.problem.effect)
            )
            if belief.active or effect in _ALWAYS_TOLD
        ]
        yield self._labelled("backupready_problem_active", active)
        # Only those that are, since on a healthy machine none is: as many series again would say nothing.
        unknown = [((belief.problem.code, belief.effect.value), 1.0) for belief in beliefs if belief.unknown]
        yield self._labelled("backupready_problem_unknown", unknown)
        outlook = snapshot.outlook or Outlook(at=snapshot.checked_at)
        phases = [((phase.value,), float(outlook.phase is phase)) for phase in Phase]
        yield self._labelled("backupready_phase", phases)
        scores = [((said.value, came.value), float(times)) for said, came, times in outlook.scores]
        yield self._counted("backupready_predictions_total", scores)
        yield from self._fixes(snapshot)
        runs = [run for run in snapshot.probes if run.last_run is not None]
        success = [((run.name,), float(run.state is ProbeState.OK)) for run in snapshot.probes]
        yield self._labelled("backupready_probe_success", success)
        # As fine as anybody needs, since every digit of theirs makes the scrape longer.
        seconds = [((run.name,), round(run.seconds, 4)) for run in runs]
        yield self._labelled("backupready_probe_duration_seconds", seconds)
        asking = [((run.name,), float(run.attempts)) for run in runs if run.attempts]
        yield self._labelled("backupready_probe_attempts", asking)
        last = [((run.name,), float(round(run.last_run or 0.0))) for run in runs]
        yield self._labelled("backupready_probe_last_run_timestamp_seconds", last)
        if snapshot.slower:
            slower = [((name,), seconds) for name, seconds in snapshot.slower.items()]
            yield self._labelled("backupready_probe_interval_seconds", slower)
        for name, counter in _COUNTERS.items():
            family = CounterMetricFamily(name[: -len("_total")], _HELP[name])
            family.add_metric([], snapshot.counters.get(counter, 0.0))
            yield family
        yield self._plain(
            "backupready_config_last_reload_successful", snapshot.counters.get("config_last_reload_successful", 1.0)
        )
        if (right := snapshot.counters.get("web_config_last_reload_successful")) is not None:
            yield self._plain("backupready_web_config_last_reload_successful", right)
        yield from self._readings(snapshot)

    def _fixes(self, snapshot: Snapshot) -> Iterator[Family]:
        planning, fixes = snapshot.planning, snapshot.fixes or Fixes(0.0)
        # Of what cannot be read the counters stay as they were: a gap would look as if all had happened anew after it.
        counters = planning.held if planning is not None and planning.unread else fixes
        if planning is not None:
            modes = [((mode,), float(planning.mode == mode)) for mode in MODES]
            yield self._labelled("backupready_fix_mode", modes)
            if planning.mode == "on":
                failed = snapshot.counters.get("fix_requests_failed", 0.0)
                yield self._counted("backupready_fix_requests_failed_total", [((), failed)])
                if planning.door_open is not None:
                    yield self._plain("backupready_fix_door_open", float(planning.door_open))
        would_run: Counter[str] = Counter()
        if counters is not None:
            would_run.update(counters.would_run)
            would_run.update(planning.would_run if planning is not None else {})
        ended, refused = (counters.ended, counters.refused) if counters is not None else ({}, {})
        # Of two that change the same the later end counts.
        ends = {(one.change,): one.until for one in sorted(fixes.temporary, key=lambda one: one.until)}
        yield self._counted("backupready_fix_attempts_total", [(w, float(n)) for w, n in ended.items()])
        yield self._counted("backupready_fix_refused_total", [(w, float(n)) for w, n in refused.items()])
        yield self._counted("backupready_fix_would_run_total", [((w,), float(n)) for w, n in would_run.items()])
        yield self._labelled("backupready_temporary_change_active", [(change, 1.0) for change in ends])
        yield self._labelled("backupready_temporary_change_end_timestamp_seconds", list(ends.items()))

    def _readings(self, snapshot: Snapshot) -> Iterator[GaugeMetricFamily]:
        # A probe that reports the same thing twice must not make the whole scrape unreadable: the newest counts.
        samples: dict[str, dict[tuple[str, ...], float]] = {}
        for reading in snapshot.readings:
            labels = tuple(reading.labels.get(label, "") for label in self._declared[reading.metric].labels)
            samples.setdefault(reading.metric, {})[labels] = reading.value
        for name, values in samples.items():
            metric = self._declared[name]
            family = GaugeMetricFamily(name, metric.clause or metric.help, labels=list(metric.labels))
            for labels, value in values.items():
                family.add_metric(list(labels), _as_fine_as_needed(value))
            yield family

    @staticmethod
    def _plain(name: str, value: float) -> GaugeMetricFamily:
        family = GaugeMetricFamily(name, _HELP[name])
        family.add_metric([], value)
        return family

    @staticmethod
    def _counted(name: str, samples: Sequence[tuple[tuple[str, ...], float]]) -> CounterMetricFamily:
        names = next(labels for own, _, _, labels in OWN if own == name)
        family = CounterMetricFamily(name[: -len("_total")], _HELP[name], labels=list(names))
        for labels, value in samples:
            family.add_metric(list(labels), value)
        return family

    @staticmethod
    def _labelled(name: str, samples: Sequence[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
        names = next(labels for own, _, _, labels in OWN if own == name)
        family = GaugeMetricFamily(name, _HELP[name], labels=list(names))
        for labels, value in samples:
            family.add_metric(list(labels), value)
        return family


def _as_fine_as_needed(value: float) -> float:
    """Six digits, or all those before the point."""
    return float(f"{value:.6g}" if abs(value) < 1e6 else f"{value:.0f}")


def _as_go_does(found: re.Match[bytes]) -> bytes:
    return found[1] + b"%.16g" % float(found[2])


class Exposition:
    """A scrape's body, in the format that the client takes. What this process itself costs is left out where the
    body becomes part of another process's scrape, which has series of the same names."""

    def __init__(self, newest: Callable[[], Snapshot], declared: Sequence[Metric], process: bool = True) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        # The library's registry asks for nothing but `collect`; its base class is younger than our oldest version.
        self._registry.register(cast("Any", SnapshotCollector(newest, declared)))
        if process:
            ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[str, bytes]:
        """The content type and the body for an Accept header."""
        try:
            encode, content_type = exposition.choose_encoder(accept)
        except (TypeError, ValueError, LookupError):
            # The library stumbles over some headers; whoever sends them gets what everybody understands.
            encode, content_type = exposition.choose_encoder("")
        return content_type, _WHOLE.sub(_as_go_does, encode(self._registry))
