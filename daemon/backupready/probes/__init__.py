"""Which probes are there? Every module of this package that declares PROBE, in the order of their names."""

from __future__ import annotations

import importlib
import pkgutil

from backupready.model import Metric, Probe, Problem


def _discover() -> tuple[Probe, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    probes: list[Probe] = [importlib.import_module(f"{__name__}.{name}").PROBE for name in names]
    return tuple(probes)


PROBES: tuple[Probe, ...] = _discover()
PROBLEMS: tuple[Problem, ...] = tuple(problem for probe in PROBES for problem in probe.problems)
METRICS: tuple[Metric, ...] = tuple(metric for probe in PROBES for metric in probe.metrics)


def probe(name: str) -> Probe:
    """Raises KeyError."""
    return {probe.name: probe for probe in PROBES}[name]


def problem(code: str) -> Problem:
    """Raises KeyError."""
    return {problem.code: problem for problem in PROBLEMS}[code]
