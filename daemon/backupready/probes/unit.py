"""Does the service manager keep the VM agent running?

Read in a look of its own without privileges: whoever may talk to the service manager as uid 0 could also command it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
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
    Metric,
    Observation,
    Probe,
    Problem,
    Reading,
    Settings,
)

_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "Result",
    "Restart",
    "NRestarts",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "Environment",
    "EnvironmentFiles",
)
_SYSTEMCTL = ("/usr/bin/systemctl", "/bin/systemctl")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
# The fabric's two addresses. The agent itself goes to both directly, whatever the environment says.
_FABRIC = ("168.63.129.16", "169.254.169.254")
_MOST_FILES = 10
# What starts by itself at boot, or through something else that does.
_STARTS = ("enabled", "static", "generated", "alias")
_RESTARTS = ("always", "on-failure")
# How the agent may end by itself, so that Restart= applies.
_ENDS = ("exit-code", "signal", "core-dump")
_SYSTEMD = "https://www.freedesktop.org/software/systemd/man/systemd.service.html"
_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout"

PROBLEMS = (
    Problem(
        "AGENT_START_SKIPPED",
        "The VM agent's start is skipped by a condition of its unit",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="A condition of the unit does not hold, so `systemctl start` reports success and starts nothing: the"
        " agent's program or configuration is missing, or (Debian) this is not seen as a Hyper-V guest.",
        diagnosis="`systemctl status walinuxagent waagent` names the condition; `systemctl cat` shows all of them.",
        fix="Make the condition true; it is not to be worked around by a start from elsewhere.",
        source="https://www.freedesktop.org/software/systemd/man/systemd.unit.html",
        explains=("AGENT_STOPPED",),
    ),
    Problem(
        "AGENT_START_LIMIT",
        "The VM agent's unit has given up starting",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="The agent ended more often than the unit's start limit allows, or in a way that the unit excludes from"
        " restarts; the service manager will not start it again by itself.",
        diagnosis="`systemctl status walinuxagent waagent`; `journalctl -u walinuxagent -u waagent`",
        fix="Find out why it ended; then `systemctl reset-failed` and start the unit.",
        source=_SYSTEMD,
        remedy="restart-agent",
        explains=("AGENT_STOPPED", "AGENT_CRASH_LOOPING"),
    ),
    Problem(
        "AGENT_MASKED",
        "The VM agent's unit is masked",
        Effect.BLOCKS,
        Cause.AGENT,
        meaning="Somebody has masked the unit: nothing can start the agent, by hand or at boot.",
        diagnosis="`systemctl is-enabled walinuxagent waagent`",
        fix="If it is not meant: `systemctl unmask`, then enable and start the unit.",
        source=_SYSTEMD,
        explains=("AGENT_STOPPED", "AGENT_NOT_ENABLED"),
    ),
    Problem(
        "AGENT_NOT_ENABLED",
        "The VM agent will not start at the next boot",
        Effect.RISKS,
        Cause.AGENT,
        meaning="The unit is disabled, or masked while it runs: after the next reboot there will be no agent.",
        diagnosis="`systemctl is-enabled walinuxagent waagent`",
        fix="`systemctl enable` the unit.",
        source=_TROUBLESHOOTING,
        remedy="enable-agent",
    ),
    Problem(
        "AGENT_NO_AUTO_RESTART",
        "The VM agent is not started again when it dies",
        Effect.RISKS,
        Cause.AGENT,
        meaning="The unit has no Restart=: an agent that crashes stays down until somebody notices. Debian's own unit"
        " is like that; elsewhere the unit has been overridden.",
        diagnosis="`systemctl show -p Restart walinuxagent waagent`",
        fix="Add a drop-in with `[Service]`, `Restart=always`, `RestartSec=5`, and `systemctl daemon-reload`.",
        source="https://github.com/Azure/WALinuxAgent/wiki/Known-Issues#mitigate_agent_crash",
        remedy="add-auto-restart",
    ),
    Problem(
        "PROXY_IN_AGENT_ENVIRONMENT",
        "The VM agent's environment sends its extensions to a proxy for the fabric",
        Effect.NOTICE,
        Cause.CONFIGURATION,
        meaning="The unit's environment names a proxy, and no no_proxy for 168.63.129.16 and 169.254.169.254. The agent"
        " goes there directly all the same, and so does VMSnapshot, but every other extension inherits the environment:"
        " what it asks of the fabric goes to the proxy, which cannot answer.",
        diagnosis="`systemctl show -p Environment -p EnvironmentFiles walinuxagent waagent`",
        fix="Beside the proxy set `no_proxy=168.63.129.16,169.254.169.254` in the drop-in, `systemctl daemon-reload`,"
        " and restart the agent.",
        source="https://github.com/Azure/WALinuxAgent#configuration-file-options",
    ),
)

METRICS = (
    Metric(
        "backupready_agent_unit_info",
        "The state of the VM agent's unit.",
        ("unit", "active_state", "sub_state", "result", "restart", "unit_file_state"),
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Take the first of the agent's unit names that is loaded or masked."""
    for name in waagent.UNITS if _has_systemd(machine) else ():
        shown = machine.unit(name, _PROPERTIES)
        if shown.get("LoadState") in ("loaded", "masked"):
            yield from _judge(machine, name, shown)
            return
    # Started in another way (SysV, OpenRC): what does not exist is neither masked nor skipped nor at its limit.
    why = f"there is no unit {' or '.join(waagent.UNITS)}, so that it is not known what starts the agent"
    yield CannotTell(why, ("AGENT_NOT_ENABLED", "AGENT_NO_AUTO_RESTART"))


def _has_systemd(machine: Machine) -> bool:
    for path in _SYSTEMCTL:
        try:
            machine.status(path)
            return True
        except Absent:
            continue
        except CannotTell:
            return True  # asking it will tell
    return False


def _judge(machine: Machine, name: str, shown: Mapping[str, str]) -> Iterator[Observation]:
    def value(key: str) -> str:
        return shown.get(key, "")

    labels = {
        "unit": name,
        "active_state": value("ActiveState"),
        "sub_state": value("SubState"),
        "result": value("Result"),
        "restart": value("Restart"),
        "unit_file_state": value("UnitFileState"),
    }
    yield Reading("backupready_agent_unit_info", 1, labels)
    evidence = {key: value(key) for key in ("ActiveState", "Result", "UnitFileState")}
    down = value("ActiveState") in ("inactive", "failed")
    masked = "masked" in (value("LoadState"), value("UnitFileState"), value("UnitFileState").partition("-")[0])
    if masked and down:
        yield Finding("AGENT_MASKED", evidence={"unit": name, **evidence})
        return
    if masked or value("UnitFileState") not in _STARTS:
        yield Finding("AGENT_NOT_ENABLED", evidence={"unit": name, **evidence})
    # Most often the service manager keeps the result of the last end: a unit that it would start again has then failed.
    ended = value("Result") in _ENDS and value("ActiveState") == "failed" and value("NRestarts") not in ("", "0")
    if value("Result") == "start-limit-hit" or (ended and value("Restart") in _RESTARTS):
        yield Finding("AGENT_START_LIMIT", evidence={"unit": name, "NRestarts": value("NRestarts"), **evidence})
    # The condition of a unit that nobody tried to start yet says "no" as well, without a time.
    tried = value("ConditionTimestampMonotonic") not in ("", "0")
    if down and tried and value("ConditionResult") == "no":
        yield Finding("AGENT_START_SKIPPED", evidence={"unit": name, **evidence})
    if value("Restart") not in _RESTARTS:
        yield Finding("AGENT_NO_AUTO_RESTART", evidence={"unit": name, "Restart": value("Restart")})
    yield from _proxy(machine, name, value("Environment"), value("EnvironmentFiles"))


def _proxy(machine: Machine, name: str, inline: str, files: str) -> Iterator[Observation]:
    """A proxy in the environment, and what is exempt from it. Values may hold passwords and are not told."""
    problems = ("PROXY_IN_AGENT_ENVIRONMENT",)
    try:
        variables = dict(word.partition("=")[::2] for word in shlex.split(inline))
        # `/etc/default/x (ignore_errors=yes)`; a pattern of names is not followed.
        for entry in files.splitlines()[:_MOST_FILES]:
            path = entry.partition(" (")[0]
            if path.startswith("/"):
                variables.update(_variables(machine, path))
    except ValueError as error:
        yield CannotTell(f"the environment of {name} cannot be read: {error}", problems)
        return
    except CannotTell as error:
        yield CannotTell(error.why, problems)
        return
    proxies = sorted(key for key, text in variables.items() if key.lower() in _PROXIES and text)
    exempt = f"{variables.get('no_proxy', '')},{variables.get('NO_PROXY', '')}".replace(" ", "").split(",")
    missing = [address for address in _FABRIC if not {address, "*"} & set(exempt)]
    if proxies and missing:
        evidence = {"unit": name, "variables": " ".join(proxies), "not_in_no_proxy": " ".join(missing)}
        yield Finding("PROXY_IN_AGENT_ENVIRONMENT", evidence=evidence)


def _variables(machine: Machine, path: str) -> dict[str, str]:
    try:
        text = machine.read(path).decode("utf-8", "replace")
    except Absent:
        return {}
    lines = (line.strip() for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and line[0] not in "#;")
    return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}


PROBE = Probe(
    name="unit",
    question="Does the service manager keep the VM agent running?",
    access=Access.BUS,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=12),
    metrics=METRICS,
)
