"""What does an administrator look up? A page for each problem and each alert, and the list of metrics."""

from __future__ import annotations

import re
from functools import partial
from typing import Callable

from backupready import probes, remedies, report
from backupready.catalogue import alerts
from backupready.catalogue.alerts import Alert
from backupready.mind import metrics
from backupready.model import Problem

# Of the labels in an alert's summary, where no machine in particular is meant.
_WORDS = {"instance": "a machine", "probe": "NAME", "value": "Many"}


def page(problem: Problem) -> str:
    """The page of one problem, in Markdown."""
    alert = alerts.of_problem(problem.code)
    told = f" Alert: `{alert.name}` ({alert.severities})." if alert else ""
    sections = (
        f"## {heading}\n\n{''.join(map(_block, blocks))}"
        for heading, blocks in report.article(problem, remedies.remedies_for(problem.code))
    )
    head = f"# {problem.code}\n\n{problem.title}. Effect: **{problem.effects}**.{told}\n\n"
    return f"{head}{''.join(sections)}".rstrip() + "\n"


def _block(block: report.Block) -> str:
    return f"{block}\n\n" if isinstance(block, str) else "".join(f"- {point}\n" for point in block) + "\n"


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
        f"## Mitigation\n\n{alert.mitigation}\n\n"
        f"## Source\n\n{alert.source}\n"
    )


def _plain(summary: str) -> str:
    """Of no machine in particular."""
    words = re.sub(r"\{\{ \$(?:labels\.)?(\w+) \}\}", lambda match: _WORDS[match[1]], summary)
    return words if words.startswith("backupready") else words[0].upper() + words[1:]


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
        name, _, words = report.in_runbook(remedy).partition(": ")
        lines.append(f"| {name} | {words} | {', '.join(f'[{code}]({code.lower()}.md)' for code in remedy.problems)} |")
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
