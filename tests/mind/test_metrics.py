"""What Prometheus gets: the golden scrape, both formats, and every declared problem from the first scrape on."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest
from prometheus_client import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from backupready import probes
from backupready.eyes import look
from backupready.mind import metrics
from backupready.mind.judge import Judge
from backupready.mind.metrics import Exposition
from backupready.model import (
    BeliefState,
    CannotTell,
    Effect,
    Finding,
    Fixes,
    Happened,
    Metric,
    Outlook,
    Phase,
    Planning,
    ProbeState,
    Reading,
    Snapshot,
    Temporary,
    Verdict,
)
from fake import NOW, configuration, healthy, looked, probe, problem, snapshot
from measured import measured
from requirement import need

parse_openmetrics: Callable[[str], Iterable[Family]] = openmetrics.text_string_to_metric_families
GOLDEN = Path(__file__).parent / "golden"
# What a Prometheus server sends.
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"


def stopped() -> Snapshot:
    """A machine whose agent is stopped, one extension has failed beside it, and the host plugin cannot be asked."""
    machine = healthy()
    machine.table = ()
    looks = look.look(probes.PROBES, lambda memory: machine, configuration())
    # How long it took is not the machine's doing.
    looks = tuple(replace(one, seconds=0.125 * number) for number, one in enumerate(looks, 1))
    whole = snapshot(*looks, times=2, facts={"name": "vm1"})
    counters = {"looks": 7.0, "looks_failed": 2.0, "config_last_reload_successful": 0.0}
    return replace(whole, counters=counters, planning=Planning("observe"))


FIXED = Fixes(
    NOW,
    temporary=(
        Temporary(3, "Logs.Verbose=y", NOW + 7200),
        Temporary(4, "Logs.Verbose=y", NOW + 60),
        Temporary(4, "AutoUpdate.Enabled=y", NOW + 30),
    ),
    refused={("restart-agent", "phase"): 2},
    would_run={"restart-agent": 1, "enable-agent": 4},
    ended={("restart-agent", "healed"): 5, ("restart-agent", "undone"): 1},
)


def fixed() -> Snapshot:
    """The same, after everything that can become of fixes."""
    return replace(
        stopped(), fixes=FIXED, planning=Planning("on", None, door_open=True, would_run={"restart-agent": 2})
    )


def guarded() -> Snapshot:
    """The same with a configuration of the web server's own, a window that has passed, a problem that cannot be
    told and a probe that looks seldom, so that nothing that is declared is missing."""
    whole = fixed()
    beliefs = tuple(
        replace(one, state=BeliefState.UNKNOWN) if one.problem.code == "WIRE_SERVER_SLOW" else one
        for one in whole.beliefs
    )
    return replace(
        whole,
        beliefs=beliefs,
        outlook=Outlook(NOW, scores=((Verdict.READY, Happened.SUCCEEDED, 12),)),
        counters={**whole.counters, "web_config_last_reload_successful": 1.0},
        slower={"agent": 7200.0},
    )


def render(of: Snapshot, accept: str = "", declared: Iterable[Metric] = probes.METRICS) -> str:
    return Exposition(lambda: of, tuple(declared)).render(accept)[1].decode()


def masked(text: str) -> str:
    """Without what this very process and this build are."""
    text = re.sub(r"(?m)^(process_\w+(?:\{[^}]*\})?) .*$", r"\1 MASKED", text)
    text = re.sub(r"(?m)e\+0(\d\d)$", r"e+\1", text)  # as older versions of the library write 1e+10
    return re.sub(r'(python|version)="\d[^"]*"(?=[^\n]*\} 1\n# HELP backupready_verdict )', r'\1="MASKED"', text)


def samples(text: str, name: str) -> dict[tuple[str, ...], float]:
    """The samples of one series name by the values of its labels, in the order of their names."""
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == name
    }


def test_the_whole_scrape(golden: Callable[[Path, str], None]) -> None:
    """Everything that is exposed of a machine in trouble, as text."""
    golden(GOLDEN / "scrape.prom", masked(render(guarded())))


def test_the_whole_scrape_as_openmetrics(golden: Callable[[Path, str], None]) -> None:
    """The same in the other format."""
    golden(GOLDEN / "scrape.openmetrics", masked(render(guarded(), OPENMETRICS)))


def test_the_format_is_what_the_client_takes() -> None:
    """OpenMetrics for who accepts it, ended by its mark, without the series of creation times; text for others."""
    exposition = Exposition(stopped, probes.METRICS)
    kind, body = exposition.render(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    assert body.endswith(b"\n# EOF\n")
    assert b"_created" not in body
    for accept in ("", "*/*", "text/html", "text/plain;version=0.0.4"):
        kind, body = exposition.render(accept)
        assert kind.startswith("text/plain; version=")
        assert b"# EOF" not in body
        assert b"_created" not in body


@pytest.mark.parametrize(("accept", "parse"), [("", parse_text), (OPENMETRICS, parse_openmetrics)])
def test_a_parser_can_read_it(accept: str, parse: Callable[[str], Iterable[Family]]) -> None:
    """The library's own parsers find every family once, with the kind that the metric list says."""
    families = list(parse(render(guarded(), accept)))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    kinds = {family.name: family.type for family in families}
    for name, kind, _, _ in metrics.OWN:
        exposed = name[: -len("_total")] if name.endswith("_total") else name
        assert kinds[exposed] == ("gauge" if kind == "stateset" else kind), name


def test_both_formats_say_the_same() -> None:
    """The numbers do not depend on who asks."""

    def numbers(families: Iterable[Family]) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in families
            for sample in family.samples
            if not sample.name.startswith("process_")
        }

    whole = stopped()
    assert numbers(parse_text(render(whole))) == numbers(parse_openmetrics(render(whole, OPENMETRICS)))


@pytest.mark.parametrize("verdict", Verdict)
def test_exactly_one_verdict_is_1(verdict: Verdict) -> None:
    """All five are there, so that an alert can be written against each."""
    shown = samples(render(replace(stopped(), verdict=verdict)), "backupready_verdict")
    assert shown == {(other.value,): float(other is verdict) for other in Verdict}


@pytest.mark.parametrize("phase", Phase)
def test_exactly_one_phase_is_1(phase: Phase) -> None:
    """Whichever it is."""
    told = samples(render(replace(stopped(), outlook=Outlook(NOW, phase))), "backupready_phase")
    assert told == {(one.value,): float(one is phase) for one in Phase}


def test_predictions_are_counted_by_what_was_said_and_what_came() -> None:
    """A series for what has occurred, and none before anything has."""
    scores = ((Verdict.READY, Happened.SUCCEEDED, 12), (Verdict.BLOCKED, Happened.MISSED, 1))
    told = render(replace(stopped(), outlook=Outlook(NOW, scores=scores)))
    counted = {("succeeded", "ready"): 12.0, ("missed", "blocked"): 1.0}
    assert samples(told, "backupready_predictions_total") == counted
    before = render(replace(stopped(), outlook=Outlook(NOW)))
    assert samples(before, "backupready_predictions_total") == {}
    assert "backupready_predictions_total" not in before


def test_fixes_are_counted_by_what_came_of_them() -> None:
    """As the hands count them, and what would have been done as both have seen it."""
    told = render(fixed())
    assert samples(told, "backupready_fix_attempts_total") == {
        ("restart-agent", "healed"): 5.0,
        ("restart-agent", "undone"): 1.0,
    }
    assert samples(told, "backupready_fix_refused_total") == {("phase", "restart-agent"): 2.0}
    assert samples(told, "backupready_fix_would_run_total") == {("restart-agent",): 3.0, ("enable-agent",): 4.0}
    assert samples(told, "backupready_fix_requests_failed_total") == {(): 0.0}


def test_while_it_cannot_be_read_what_was_done_nothing_is_counted_anew() -> None:
    """The counters stay as they were; where that is not known there are none, since no number would be right. Changes
    that were in force may have ended."""
    counted = {"fix_attempts_total": 2, "fix_refused_total": 1, "fix_would_run_total": 2}
    planning = Planning("observe", unread="it is torn", would_run={"restart-agent": 2}, held=FIXED)
    told = render(replace(stopped(), planning=planning))
    for name, series in counted.items():
        values = samples(told, f"backupready_{name}")
        assert values == samples(render(fixed()), f"backupready_{name}")
        assert len(values) == series
    assert "temporary_change" not in told
    told = render(replace(stopped(), planning=replace(planning, held=None)))
    assert not any(name in told for name in counted)


def test_of_fixes_that_never_were_there_is_no_series() -> None:
    """Nor a line of help."""
    told = render(stopped())
    for name in ("fix_attempts", "fix_refused", "fix_would_run", "temporary_change", "fix_door"):
        assert f"backupready_{name}" not in told


def test_a_temporary_change_is_told_once_with_its_later_end() -> None:
    """However many attempts have made it."""
    told = render(fixed())
    ends = {("Logs.Verbose=y",): NOW + 7200, ("AutoUpdate.Enabled=y",): NOW + 30}
    assert samples(told, "backupready_temporary_change_active") == dict.fromkeys(ends, 1.0)
    assert samples(told, "backupready_temporary_change_end_timestamp_seconds") == ends


@pytest.mark.parametrize("mode", ["off", "observe", "on"])
@pytest.mark.parametrize("is_open", [True, False, None])
def test_the_mode_and_whether_anybody_can_be_asked(mode: str, is_open: bool | None) -> None:
    """Exactly one mode is 1; the door is told only where it matters and is known."""
    told = render(replace(stopped(), planning=Planning(mode, None, is_open)))
    assert samples(told, "backupready_fix_mode") == {(one,): float(one == mode) for one in ("off", "observe", "on")}
    doors = {} if mode != "on" or is_open is None else {(): float(is_open)}
    assert samples(told, "backupready_fix_door_open") == doors


def test_what_does_something_to_the_backup_has_its_series_from_the_first_scrape() -> None:
    """Before any look: none is active, all are unknown. A risk and a notice have one only while they are active."""
    text = render(snapshot())
    declared = {(problem.effect.value, problem.code) for problem in probes.PROBLEMS}
    grave = {(effect, code) for effect, code in declared if effect not in ("risks", "notice")}
    assert samples(text, "backupready_problem_active") == dict.fromkeys(grave, 0.0)
    assert samples(text, "backupready_problem_unknown") == dict.fromkeys(declared, 1.0)
    assert samples(text, "backupready_probe_success") == {(one.name,): 0.0 for one in probes.PROBES}
    assert samples(text, "backupready_probe_last_run_timestamp_seconds") == {}


def test_the_series_of_the_problems_are_the_same_after_every_look() -> None:
    """Nothing appears or goes."""
    before, after = render(snapshot()), render(stopped())
    name = "backupready_problem_active"
    assert samples(before, name).keys() == samples(after, name).keys()
    for mild in (Effect.RISKS, Effect.NOTICE):
        known = [probe("thing", [problem("ODD", mild)])]
        assert samples(render(snapshot(looked("thing", Finding("ODD")), known=known)), name) == {(mild.value, "ODD"): 1}
        assert samples(render(snapshot(looked("thing"), known=known)), name) == {}
    active = [code for (_, code), on in samples(after, "backupready_problem_active").items() if on]
    assert active == ["AGENT_STOPPED"]
    assert set(samples(before, "backupready_problem_unknown").values()) == {1.0}
    assert set(samples(after, "backupready_problem_unknown").values()) <= {1.0}


def test_a_problem_that_is_milder_here_is_told_with_that_effect() -> None:
    """Beside the series with what it declares, which stays 0: an alert on what blocks must not come of a notice."""
    known = [probe("thing", [problem("BROKEN", milder=(Effect.NOTICE,))])]
    text = render(snapshot(looked("thing", Finding("BROKEN", effect=Effect.NOTICE)), known=known))
    assert samples(text, "backupready_problem_active") == {("blocks", "BROKEN"): 0.0, ("notice", "BROKEN"): 1.0}


def test_a_consequence_is_exposed_as_neither_active_nor_unknown() -> None:
    """One cause, one alert."""
    known = [probe("thing", [problem("ROOT", explains=("LEAF", "DARK")), problem("LEAF"), problem("DARK")])]
    look_at_it = looked("thing", Finding("ROOT"), Finding("LEAF"), CannotTell("dark", ("DARK",)))
    text = render(snapshot(look_at_it, known=known))
    assert samples(text, "backupready_problem_active") == {
        ("blocks", "DARK"): 0.0,
        ("blocks", "LEAF"): 0.0,
        ("blocks", "ROOT"): 1.0,
    }
    assert "backupready_problem_unknown{" not in text


def test_counters_are_counters_and_zero_before_anything_is_counted() -> None:
    """So that a rate sees the first one; the reload counts as good until one was refused."""
    text = render(snapshot())
    for name, kind, _, labels in metrics.OWN:
        if kind == "counter":
            assert samples(text, name) == ({} if labels or "_fix_" in name else {(): 0.0})
    assert samples(text, "backupready_config_last_reload_successful") == {(): 1.0}
    assert samples(render(stopped()), "backupready_looks_total") == {(): 7.0}
    assert samples(render(stopped()), "backupready_config_last_reload_successful") == {(): 0.0}


def test_a_probe_that_could_not_tell_has_no_success() -> None:
    """Its duration, tries and moment are told all the same."""
    known = [probe("thing", [problem("A")])]
    text = render(
        snapshot(looked("thing", state=ProbeState.CANNOT_TELL, why="x", seconds=2.0, attempts=3), known=known)
    )
    assert samples(text, "backupready_probe_success") == {("thing",): 0.0}
    assert samples(text, "backupready_probe_duration_seconds") == {("thing",): 2.0}
    assert samples(text, "backupready_probe_attempts") == {("thing",): 3.0}
    assert samples(text, "backupready_probe_last_run_timestamp_seconds") == {("thing",): NOW}


def test_only_an_interval_that_is_set_longer_is_told() -> None:
    """The alert on a probe that does not look any more knows the usual ones, and each series makes scrapes longer."""
    usual = probes.PROBES[0].interval.total_seconds()
    intervals = {one.name: one.interval.total_seconds() for one in probes.PROBES}
    for changed, told in ((usual, {}), (usual - 1, {}), (usual + 1, {(probes.PROBES[0].name,): usual + 1})):
        judge = Judge(probes.PROBES, {**intervals, probes.PROBES[0].name: changed}, 60.0)
        text = render(judge.snapshot(0.0, NOW, {}, {}))
        assert samples(text, "backupready_probe_interval_seconds") == told
        assert ("# HELP backupready_probe_interval_seconds" in text) == bool(told)


def test_hostile_labels_stay_labels() -> None:
    """Quotes, line breaks and backslashes in what an agent wrote do not break the format."""
    hostile = 'a"} 1\nbackupready_verdict{verdict="ready"} 1\\'
    declared = Metric("backupready_thing_info", "Thing.", ("name", "other"))
    known = [probe("thing", metrics=[declared])]
    whole = snapshot(looked("thing", readings=(Reading(declared.name, 1, {"name": hostile}),)), known=known)
    for accept, parse in (("", parse_text), (OPENMETRICS, parse_openmetrics)):
        text = render(whole, accept, [declared])
        found = [s for family in parse(text) for s in family.samples if s.name == declared.name]
        assert [(sample.labels, sample.value) for sample in found] == [({"name": hostile, "other": ""}, 1.0)]
        assert len([line for line in text.splitlines() if line.startswith("backupready_verdict{")]) == len(Verdict)


def test_what_is_part_of_another_scrape_has_no_process() -> None:
    """node_exporter has series of those names itself, and would refuse the whole; all else is the same."""
    whole, part = (Exposition(stopped, probes.METRICS, process=own).render("")[1].decode() for own in (True, False))
    kept = [line for line in whole.splitlines() if not re.match(r"(# \w+ )?process_", line)]
    assert len(kept) < len(whole.splitlines())
    assert part.splitlines() == kept


@pytest.mark.integration
def test_promtool_has_nothing_to_say_to_the_whole_scrape() -> None:
    """The linter of Prometheus, on everything that is declared."""
    need("promtool", "prometheus")
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=render(guarded()), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_web_configuration_has_a_series_where_there_is_one() -> None:
    """Without one nothing is claimed of it."""
    name = "backupready_web_config_last_reload_successful"
    assert samples(render(stopped()), name) == {}
    assert samples(render(guarded()), name) == {(): 1.0}


@pytest.mark.parametrize(("what", "whole", "most"), [("usual", stopped, 17_000), ("all", guarded, 18_600)])
def test_the_scrape_stays_small(what: str, whole: Callable[[], Snapshot], most: int) -> None:
    """At most 20 kB and 300 series. What is found on a real machine is a kilobyte more than on the fake one, so that
    this has less; nowhere is all that is declared at once."""
    text = render(whole())
    series = [line for line in text.splitlines() if not line.startswith("#")]
    comments = sum(len(line) + 1 for line in text.splitlines() if line.startswith("#"))
    measured(f"a scrape, {what}: {len(text)} bytes, {comments} of them HELP and TYPE; {len(series)} series")
    assert len(series) <= 300
    assert len(text) <= most


@pytest.mark.parametrize(
    ("value", "told"),
    [(0.0, "0"), (14400.0, "14400"), (0.125, "0.125"), (0.00043159999768, "0.0004316"), (4.275765248e9, "4275765248"),
     (1795393380.25, "1795393380"), (-3.0, "-3"), (float("inf"), "+Inf"), (float("nan"), "NaN")],
)  # fmt: skip
def test_a_number_is_as_long_as_it_must_be(value: float, told: str) -> None:
    """Six digits, or all before the point; what is whole is told whole, and what is none as the format has it."""
    declared = Metric("backupready_thing", "A thing of 1.0\nand 2.0", clause="A thing of 1.0")
    it = snapshot(
        looked("thing", readings=(Reading(declared.name, value),)), known=[probe("thing", metrics=[declared])]
    )
    for accept in ("", OPENMETRICS):
        lines = render(it, accept, [declared]).splitlines()
        assert f"backupready_thing {told}" in lines
        assert "# HELP backupready_thing A thing of 1.0" in lines


def test_a_reading_that_is_seen_twice_is_exposed_once() -> None:
    """Two samples with the same labels would make the whole scrape be refused."""
    declared = Metric("backupready_thing", "Thing.", ("name",))
    twice = (Reading(declared.name, 1, {"name": "a"}), Reading(declared.name, 2, {"name": "a"}))
    text = render(snapshot(looked("thing", Finding("X"), readings=twice), known=[probe("thing")]), "", [declared])
    assert [line for line in text.splitlines() if line.startswith("backupready_thing{")] == [
        'backupready_thing{name="a"} 2'
    ]


@pytest.mark.parametrize("accept", ["text/plain;version=x", "application/openmetrics-text;version=", ";;q=", "*/*;q=x"])
def test_a_strange_accept_header_gets_a_scrape(accept: str) -> None:
    """Whoever asks strangely is answered all the same."""
    assert "backupready_verdict" in render(stopped(), accept)
