"""Does the distribution offer a newer VM agent than is installed?

Only what the package manager has in its lists already: nothing is fetched, locked or written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from backupready import waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Observation,
    Probe,
    Problem,
    Scalar,
    Settings,
)

# A package's version between its epoch and its revision.
_UPSTREAM = re.compile(r"(?:\d+:)?(\d+(?:\.\d+)*)")

PROBLEMS = (
    Problem(
        "AGENT_OUTDATED",
        "The distribution offers a newer VM agent",
        Effect.RISKS,
        Cause.AGENT,
        meaning="The package of the agent is older than the one in the repository's lists. Old agents have defects that"
        " end in snapshots that time out, and the first advice for every failed backup is to update the agent. A notice"
        " where the agent has updated itself, and runs at least the version that is offered.",
        diagnosis="`apt-cache policy waagent walinuxagent`",
        fix="Debian: `apt-get install waagent`; Ubuntu: `apt-get install walinuxagent`; then restart the unit. Not"
        " while a backup runs.",
        source="https://learn.microsoft.com/azure/virtual-machines/extensions/update-linux-agent",
        remedy="update-agent",
        milder=(Effect.NOTICE,),
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Ask apt's lists. The caches of dnf and zypper cannot be asked without locks and long waits."""
    try:
        yield from _offered(machine)
    except CannotTell as error:
        # Where there is no apt that will never be otherwise: it is no failure of the look.
        yield CannotTell(error.why, ("AGENT_OUTDATED",))


def _offered(machine: Machine) -> Iterator[Observation]:
    offer = waagent.offer(machine)
    if not offer.newer:
        return
    evidence: dict[str, Scalar] = {"package": offer.package, "installed": offer.installed, "offered": offer.candidate}
    effect = Effect.RISKS
    running = _running(machine)
    match = _UPSTREAM.match(offer.candidate)
    if running and match and waagent.version_key(running) >= waagent.version_key(match.group(1)):
        evidence["running"], effect = running, Effect.NOTICE
    yield Finding("AGENT_OUTDATED", evidence=evidence, effect=effect)


def _running(machine: Machine) -> str:
    """The version that fetches goal states, which may be a downloaded one; empty where it is not known."""
    try:
        return waagent.newest_report(machine).agent_version
    except (Absent, CannotTell):
        return ""


PROBE = Probe(
    name="package",
    question="Does the distribution offer a newer VM agent than is installed?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=25),
    interval=timedelta(hours=6),
)
