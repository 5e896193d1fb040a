"""What does an administrator look up? A page for each problem, and the list of metrics."""

from __future__ import annotations

from functools import partial
from typing import Callable

from backupready import probes
from backupready.mind import metrics
from backupready.model import Problem


def page(problem: Problem) -> str:
    """The page of one problem, in Markdown."""
    remedy = f" The remedy `{problem.remedy}` may do it." if problem.remedy else ""
    believed = (
        f"\nIt is believed after {problem.sightings} looks in a row: {problem.patience}.\n"
        if problem.sightings > 1
        else ""
    )
    return (
        f"# {problem.code}\n\n{problem.title}. Effect: **{problem.effects}**.\n\n"
        f"## Meaning\n\n{problem.meaning}\n{believed}\n"
        f"## Diagnosis\n\n{problem.diagnosis}\n\n"
        f"## Mitigation\n\n{problem.fix}{remedy}\n\n"
        f"## Source\n\n<{problem.source}>\n"
    )


def index() -> str:
    """Every problem in one line, with a link to its page."""
    lines = ["# Runbook", "", "| problem | effect | what it is |", "|---|---|---|"]
    lines += [
        f"| [{p.code}]({p.code.lower()}.md) | {p.effects} | {p.title} |"
        for p in sorted(probes.PROBLEMS, key=lambda p: p.code)
    ]
    return "\n".join(lines) + "\n"


# By file name below packaging/runbook.
PAGES: dict[str, Callable[[], str]] = {
    **{f"{problem.code.lower()}.md": partial(page, problem) for problem in probes.PROBLEMS},
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
