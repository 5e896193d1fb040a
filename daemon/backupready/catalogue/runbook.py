"""What does an administrator look up? A page for each problem, and the list of metrics."""

from __future__ import annotations

from functools import partial
from typing import Callable

from backupready import probes, remedies, report
from backupready.mind import metrics
from backupready.model import Problem


def page(problem: Problem) -> str:
    """The page of one problem, in Markdown."""
    sections = (
        f"## {heading}\n\n{''.join(map(_block, blocks))}"
        for heading, blocks in report.article(problem, remedies.remedies_for(problem.code))
    )
    return f"# {problem.code}\n\n{problem.title}. Effect: **{problem.effects}**.\n\n{''.join(sections)}".rstrip() + "\n"


def _block(block: report.Block) -> str:
    return f"{block}\n\n" if isinstance(block, str) else "".join(f"- {point}\n" for point in block) + "\n"


def index() -> str:
    """Every problem in one line, with a link to its page, and every remedy."""
    lines = ["# Runbook", "", "| problem | effect | what it is |", "|---|---|---|"]
    lines += [
        f"| [{p.code}]({p.code.lower()}.md) | {p.effects} | {p.title} |"
        for p in sorted(probes.PROBLEMS, key=lambda p: p.code)
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
