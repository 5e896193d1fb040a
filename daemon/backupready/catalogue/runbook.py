"""What does an administrator look up? A page for each problem and each alert, and the list of metrics."""

from __future__ import annotations

import re
from functools import partial
from typing import Callable

from backupready import probes, remedies, report
from backupready.catalogue import alerts
from backupready.catalogue.alerts import Alert
from backupready.mind import metrics
from backupready.model import Effect, Problem, Remedy

# Of the labels in an alert's summary, where no machine in particular is meant.
_WORDS = {"instance": "a machine", "probe": "NAME", "value": "Many"}
_IMPACT = {
    Effect.VOIDS: "Nothing is judged here",
    Effect.BLOCKS: "The next backup will fail",
    Effect.DEGRADES: "The next backup will only be crash-consistent, or late",
    Effect.RISKS: "The next backup may fail",
    Effect.NOTICE: "Nothing happens to the next backup",
}


def page(problem: Problem) -> str:
    """The page of one problem, in Markdown."""
    known = remedies.remedies_for(problem.code)
    may_do = "".join(f"- `{name}`: {words}\n" for name, words in map(_told, known))
    fixes = f"\nWhere it is allowed, backupready may do it:\n\n{may_do}" if known else ""
    believed = (
        f"\nIt is believed after {problem.sightings} looks in a row: {problem.patience}.\n"
        if problem.sightings > 1
        else ""
    )
    alert = alerts.of_problem(problem.code)
    told = f" Alert: `{alert.name}` ({alert.severities})." if alert else ""
    return (
        f"# {problem.code}\n\n{problem.title}. Effect: **{problem.effects}**.{told}\n\n"
        f"## Meaning\n\n{problem.meaning}\n{believed}\n"
        f"## Impact\n\n{_impact(problem)}\n\n"
        f"## Diagnosis\n\n{problem.diagnosis}\n\n"
        f"## Mitigation\n\n{problem.fix}\n{fixes}\n"
        f"## Source\n\n<{problem.source}>\n"
    )


def alert_page(alert: Alert) -> str:
    """The page of an alert that is not a problem's, in Markdown."""
    fires = "".join(
        f"\n{rule.severity}, after {rule.after}:\n\n```\n{rule.expr(held=True)}\n```\n" for rule in alert.rules
    )
    return (
        f"# {alert.name}\n\n{_plain(alert.summary)}. Severity: **{alert.severities}**.\n\n"
        f"## Meaning\n\n{alert.meaning}\n{fires}\n"
        f"## Impact\n\n{alert.impact}\n\n"
        f"## Diagnosis\n\n{alert.diagnosis}\n\n"
        f"## Mitigation\n\n{alert.mitigation}\n"
    )


def _impact(problem: Problem) -> str:
    milder = " or ".join(_IMPACT[effect][0].lower() + _IMPACT[effect][1:] for effect in problem.milder)
    return f"{_IMPACT[problem.effect]}." + (f" In milder cases: {milder}." if milder else "")


def _plain(summary: str) -> str:
    """Of no machine in particular."""
    words = re.sub(r"\{\{ \$(?:labels\.)?(\w+) \}\}", lambda match: _WORDS[match[1]], summary)
    return words if words.startswith("backupready") else words[0].upper() + words[1:]


def _told(remedy: Remedy) -> tuple[str, str]:
    name, _, words = report.in_words(remedy).partition(": ")
    rest, _, source = words.rpartition("; ")
    return name, f"{rest} (<{source}>)"


def index() -> str:
    """Every problem in one line, with a link to its page, every alert that tells something else, and every remedy."""
    lines = ["# Runbook", "", "| problem | effect | what it is |", "|---|---|---|"]
    lines += [
        f"| [{p.code}]({p.code.lower()}.md) | {p.effects} | {p.title} |"
        for p in sorted(alerts.PROBLEMS.values(), key=lambda p: p.code)
    ]
    lines += [
        "",
        "## Alerts",
        "",
        (
            "Those of `config/alerts.yml` that page somebody or tell of backupready itself. Beside them each problem"
            " that can change the verdict has an alert of severity info, named as the problem:"
            " `BackupreadyAgentStopped` is for AGENT_STOPPED."
        ),
        "",
        "| alert | severity | what it tells |",
        "|---|---|---|",
    ]
    lines += [
        f"| [{alert.name}]({alert.page}) | {alert.severities} | {_plain(alert.summary)} |"
        for alert in sorted(alerts.ALERTS, key=lambda alert: alert.name)
        if alert not in alerts.EACH
    ]
    lines += [
        "",
        "## Remedies",
        "",
        "What backupready may do about them by itself, where it is allowed. No problem calls for "
        + ", ".join(f"`{name}`" for name in remedies.ON_DEMAND)
        + ": a person asks for that.",
        "",
        "| remedy | what it does | for |",
        "|---|---|---|",
    ]
    for remedy in remedies.REMEDIES:
        name, words = _told(remedy)
        lines.append(
            f"| `{name}` | {words} | {', '.join(f'[{code}]({code.lower()}.md)' for code in remedy.problems)} |"
        )
    return "\n".join(lines) + "\n"


# By file name below packaging/runbook.
PAGES: dict[str, Callable[[], str]] = {
    **{f"{problem.code.lower()}.md": partial(page, problem) for problem in alerts.PROBLEMS.values()},
    **{alert.page: partial(alert_page, alert) for alert in alerts.ALERTS if not alert.problem},
    "README.md": index,
}


def metric_list() -> str:
    """Every metric with its kind, labels and meaning, in Markdown."""
    rows = [(name, kind, labels, help_) for name, kind, help_, labels in metrics.OWN]
    rows += [(metric.name, "gauge", metric.labels, metric.help) for metric in probes.METRICS]
    lines = ["# Metrics", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {', '.join(labels)} | {help_} |" for name, kind, labels, help_ in sorted(rows)]
    lines += ["", "Beside these, `process_*` tells what the daemon itself costs."]
    return "\n".join(lines) + "\n"
