"""What does an administrator look up? A page for each problem, and the list of metrics."""

from __future__ import annotations

from functools import partial
from typing import Callable

from backupready import probes, remedies, report
from backupready.mind import metrics
from backupready.model import Problem, Remedy


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
    return (
        f"# {problem.code}\n\n{problem.title}. Effect: **{problem.effects}**.\n\n"
        f"## Meaning\n\n{problem.meaning}\n{believed}\n"
        f"## Diagnosis\n\n{problem.diagnosis}\n\n"
        f"## Mitigation\n\n{problem.fix}\n{fixes}\n"
        f"## Source\n\n<{problem.source}>\n"
    )


def _told(remedy: Remedy) -> tuple[str, str]:
    name, _, words = report.in_words(remedy).partition(": ")
    rest, _, source = words.rpartition("; ")
    return name, f"{rest} (<{source}>)"


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
        name, words = _told(remedy)
        lines.append(
            f"| `{name}` | {words} | {', '.join(f'[{code}]({code.lower()}.md)' for code in remedy.problems)} |"
        )
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
