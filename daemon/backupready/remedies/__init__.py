"""Which documented fixes are there? Every module of this package that declares REMEDY, in the order of their names.

A remedy's `plan` decides before its first step: once a step is given, the rest follows. Steps with names that the
machine has told go through preconditions.plain().
"""

from __future__ import annotations

import importlib
import pkgutil

from backupready.model import Remedy


def _discover() -> tuple[Remedy, ...]:
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    remedies: list[Remedy] = [importlib.import_module(f"{__name__}.{name}").REMEDY for name in names]
    return tuple(remedies)


REMEDIES: tuple[Remedy, ...] = _discover()
# What only a person asks for: no problem calls for it.
ON_DEMAND: tuple[str, ...] = tuple(remedy.name for remedy in REMEDIES if not remedy.problems)


def remedy(name: str) -> Remedy:
    """Raises KeyError."""
    return {remedy.name: remedy for remedy in REMEDIES}[name]


def remedies_for(code: str) -> tuple[Remedy, ...]:
    """What may be tried for a problem, gentlest first."""
    return tuple(sorted((one for one in REMEDIES if code in one.problems), key=lambda one: (one.rung, one.name)))
