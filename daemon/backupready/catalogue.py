"""What is derived from the declarations? The sample configuration, the metric list and the runbook."""

from __future__ import annotations

import sys
from pathlib import Path

from backupready import config, probes
from backupready.model import Problem, Setting

SETTINGS: tuple[Setting, ...] = config.table(probes.PROBES)


def sample_config() -> str:
    """config/backupready.conf."""
    return config.sample(SETTINGS)


def metric_list() -> str:
    """packaging/doc/metrics.md: every metric with its kind, labels and meaning."""
    from backupready.mind import metrics  # not above: it brings the whole exposition library with it

    rows = [(name, kind, labels, help_) for name, kind, help_, labels in metrics.OWN]
    rows += [(metric.name, "gauge", metric.labels, metric.help) for metric in probes.METRICS]
    lines = ["# Metrics", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    lines += [f"| `{name}` | {kind} | {', '.join(labels)} | {help_} |" for name, kind, labels, help_ in sorted(rows)]
    lines += ["", "Beside these, `process_*` tells what the daemon itself costs."]
    return "\n".join(lines) + "\n"


def runbook() -> dict[str, str]:
    """packaging/runbook/: a page for each problem, by file name."""
    pages = {f"{problem.code.lower()}.md": _page(problem) for problem in probes.PROBLEMS}
    return {**pages, "README.md": _index()}


def _page(problem: Problem) -> str:
    remedy = f" The remedy `{problem.remedy}` may do it." if problem.remedy else ""
    believed = (
        f"\nIt is believed after {problem.sightings} looks in a row: {problem.patience}.\n"
        if problem.sightings > 1
        else ""
    )
    return (
        f"# {problem.code}\n\n{problem.title}. Effect: **{problem.effect.value}**.\n\n"
        f"## Meaning\n\n{problem.meaning}\n{believed}\n"
        f"## Diagnosis\n\n{problem.diagnosis}\n\n"
        f"## Mitigation\n\n{problem.fix}{remedy}\n\n"
        f"## Source\n\n<{problem.source}>\n"
    )


def _index() -> str:
    lines = ["# Runbook", "", "| problem | effect | what it is |", "|---|---|---|"]
    lines += [
        f"| [{p.code}]({p.code.lower()}.md) | {p.effect.value} | {p.title} |"
        for p in sorted(probes.PROBLEMS, key=lambda p: p.code)
    ]
    return "\n".join(lines) + "\n"


def rendered() -> dict[str, str]:
    """Every file that is rendered from the declarations, by its path in the source tree."""
    files = {"config/backupready.conf": sample_config(), "packaging/doc/metrics.md": metric_list()}
    files.update({f"packaging/runbook/{name}": text for name, text in runbook().items()})
    return files


def main() -> int:
    """Write every rendered file below the source tree that is named."""
    tree = Path(sys.argv[1])
    for name, text in rendered().items():
        file = tree / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
