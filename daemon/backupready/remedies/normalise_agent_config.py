"""Does the extension read the same in waagent.conf as the agent?

VMSnapshot has a parser of its own for the agent's configuration, which gives the whole file up at a line like
`Key = value`. So such lines are written `Key=value`, and nothing else is changed: the agent reads the same as before,
and needs no restart. Where that would not be enough it is a person's to correct.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready import preconditions, vmsnapshot, waagent
from backupready.model import Finding, JoinConfigLines, Machine, Remedy, Step, Unsuitable

# All that the extension takes from the file.
_READ_BY_EXTENSION = ("HttpProxy.Host", "HttpProxy.Port")


def plan(machine: Machine, finding: Finding) -> Iterator[Step]:
    """Join the lines, where the extension then reads what the agent reads."""
    config = preconditions.agent_config(machine)
    joined = waagent.joined_config(config.data)
    if joined == config.data:
        raise Unsuitable(f"no line of {config.path} has blanks around its `=`")
    view = vmsnapshot.extension_view(joined)
    if view.broken is not None:
        number, _ = view.broken
        raise Unsuitable(f"line {number} of {config.path} has something else that the extension cannot read")
    for key in _READ_BY_EXTENSION:
        if view.values.get(key) != config.values.get(key):
            raise Unsuitable(f"the extension reads {key} in {config.path} otherwise than the agent for another reason")
    yield JoinConfigLines()


REMEDY = Remedy(
    name="normalise-agent-config",
    title="Write waagent.conf so that the extension can read it",
    problems=("CONFIG_BREAKS_EXTENSION",),
    plan=plan,
    worst_case=timedelta(seconds=5),
    settle=timedelta(seconds=5),
    source="https://github.com/Azure/azure-linux-extensions/tree/master/VMBackup",
    attempts=1,
)
