"""Which files are rendered from the declarations?"""

from __future__ import annotations

from functools import partial
from typing import Callable

from backupready import config
from backupready.catalogue import SETTINGS, alerts, completions, journal, manual, runbook

# What only whoever renders has; the test extra brings it, the second for Python 3.11 and later.
GENERATORS = ("shtab", "grafana_foundation_sdk")


def _dashboard(name: str) -> str:
    from backupready.catalogue import dashboards  # only whoever renders has its generator

    return dashboards.render(name)


# By path in the source tree. Each is rendered only when it is asked for: some need what others do not.
FILES: dict[str, Callable[[], str]] = {
    "config/backupready.conf": lambda: config.sample(SETTINGS),
    "config/alerts.yml": alerts.rules,
    "config/alerts-keep-firing.yml": lambda: alerts.rules(keep_firing=True),
    **{f"config/dashboards/{name}": partial(_dashboard, name) for name in ("fleet.json", "vm.json")},
    "packaging/doc/metrics.md": runbook.metric_list,
    **{f"packaging/runbook/{name}": render for name, render in runbook.PAGES.items()},
    "packaging/man/backupready.8": manual.command,
    "packaging/man/backupready.conf.5": manual.configuration,
    "packaging/completions/backupready.bash": lambda: completions.script("bash"),
    "packaging/completions/_backupready": lambda: completions.script("zsh"),
    "packaging/completions/backupready.fish": lambda: completions.script("fish"),
    "systemd/backupready.catalog": journal.catalog,
}
