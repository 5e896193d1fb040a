"""Will the VM agent read what the administrator meant?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import waagent
from backupready.model import (
    Absent,
    Access,
    Cause,
    Effect,
    Finding,
    Machine,
    Observation,
    Probe,
    Problem,
    Settings,
)

_AGENT_SOURCE = "https://github.com/Azure/WALinuxAgent#configuration-file-options"

PROBLEMS = (
    Problem(
        "CONFIG_MISSING",
        "The VM agent has no configuration",
        Effect.BLOCKS,
        Cause.CONFIGURATION,
        meaning="waagent.conf is missing or empty. The agent then ends at its start, and its log says nothing; where"
        " the unit has a condition on the file, the start is skipped in silence.",
        diagnosis="`ls -l /etc/waagent.conf`; `journalctl -u walinuxagent -u waagent`",
        fix="Restore waagent.conf from the distribution's package, then restart the agent.",
        source=_AGENT_SOURCE,
        explains=("AGENT_STOPPED", "AGENT_WORKER_MISSING", "AGENT_START_SKIPPED", "AGENT_START_LIMIT"),
        sightings=2,
        apart=timedelta(seconds=2),
        patience="an editor may empty the file for a moment while it writes it anew",
    ),
    Problem(
        "EXTENSIONS_SWITCHED_OFF",
        "Extensions are switched off in waagent.conf",
        Effect.BLOCKS,
        Cause.CONFIGURATION,
        meaning="With Extensions.Enabled=n the agent reports itself ready but runs no extension, VMSnapshot included:"
        " the backup times out. (Some of the documentation calls the key Extensions.Enable, which does nothing.)",
        diagnosis="`waagent -show-configuration | grep Extensions.Enabled`",
        fix="Set Extensions.Enabled=y in waagent.conf and restart the agent.",
        source="https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout",
        remedy="enable-extensions",
        explains=("EXTENSION_VANISHED", "EXTENSION_NOT_READY", "EXTENSION_STATE_WRONG", "EXTENSION_REQUEST_IGNORED"),
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Replay the agent's own parser over its configuration."""
    try:
        config = waagent.agent_config(machine)
    except Absent as error:
        yield Finding("CONFIG_MISSING", evidence={"file": str(error), "state": "missing"})
        return
    if not config.values:
        yield Finding("CONFIG_MISSING", evidence={"file": config.path, "state": "without any setting"})
        return
    if not waagent.switch(config.values, "Extensions.Enabled", True):
        yield Finding(
            "EXTENSIONS_SWITCHED_OFF",
            evidence={"file": config.path, "Extensions.Enabled": config.values["Extensions.Enabled"]},
        )


PROBE = Probe(
    name="configuration",
    question="Will the VM agent read what the administrator meant?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=5),
)
