"""Will the VM agent, and the extension with a parser of its own, read what the administrator meant?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import timedelta

from backupready import vmsnapshot, waagent
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
from backupready.waagent import AgentConfig, ConfigLine

_AGENT_SOURCE = "https://github.com/Azure/WALinuxAgent#configuration-file-options"
_EXTENSION_SOURCE = "https://github.com/Azure/azure-linux-extensions/tree/master/VMBackup"
_MOST = 20  # findings of one problem

# The agent's switches and what holds where the file says neither y nor n (azurelinuxagent/common/conf.py).
_SWITCHES = {
    "AutoUpdate.Enabled": True,
    "AutoUpdate.UpdateToLatestVersion": True,
    "EnableOverProvisioning": True,
    "Extensions.Enabled": True,
    "Extensions.WaitForCloudInit": False,
    "Logs.Collect": True,
    "Logs.Console": True,
    "Logs.Verbose": False,
    "OS.AllowHTTP": False,
    "OS.EnableFIPS": False,
    "OS.EnableFirewall": False,
    "Provisioning.MonitorHostName": False,
    "ResourceDisk.EnableSwap": False,
    "ResourceDisk.Format": False,
}
_POLICY_SINCE = (2, 14)
_POLICY_FILE = "/etc/waagent_policy.json"
_POLICY_SWITCH = "Debug.EnableExtensionPolicy"
# Snapshots that try the way out of the guest first, or know no other.
_GUEST_METHODS = ("onlyGuest", "firstGuestThenHost")

PROBLEMS = (
    Problem(
        "CONFIG_MISSING",
        "The VM agent has no configuration",
        Effect.BLOCKS,
        Cause.CONFIGURATION,
        meaning="waagent.conf is missing, empty, or not UTF-8 (a single letter of another encoding will do). The agent"
        " then ends at its start, and its log says nothing; where the unit has a condition on the file, the start is"
        " skipped in silence. An agent that runs has read the file before.",
        diagnosis="`ls -l /etc/waagent.conf`; `journalctl -u walinuxagent -u waagent`",
        fix="Restore waagent.conf from the distribution's package, or write it in UTF-8; then restart the agent.",
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
        explains=(
            "EXTENSION_VANISHED",
            "EXTENSION_NOT_READY",
            "EXTENSION_STATE_WRONG",
            "EXTENSION_REQUEST_IGNORED",
            "OTHER_EXTENSION_FAILED",
        ),
    ),
    Problem(
        "CONFIG_KEY_INEFFECTIVE",
        "A line of waagent.conf has no effect",
        Effect.NOTICE,
        Cause.CONFIGURATION,
        meaning="The agent reads the line otherwise than it looks: switches know only y and n, a `#` is a comment only"
        " as the very first character, the last of several lines wins, a byte-order mark belongs to the first key, and"
        " the key is Extensions.Enabled, not Extensions.Enable as some of the documentation has it.",
        diagnosis="`waagent -show-configuration` says what the agent makes of the file.",
        fix="Correct or remove the line, then restart the agent.",
        source=_AGENT_SOURCE,
    ),
    Problem(
        "CONFIG_BREAKS_EXTENSION",
        "The VMSnapshot extension cannot read waagent.conf",
        Effect.RISKS,
        Cause.CONFIGURATION,
        meaning="The extension has a parser of its own, which gives the whole file up at the first line with blanks"
        " before its `=`, and takes a value behind blanks for empty. What it needs of the file is the proxy: without"
        " HttpProxy.Host, or where snapshots go by the host, this is only a notice.",
        diagnosis="`grep 'Failed to construct ConfigurationProvider'"
        " /var/log/azure/Microsoft.Azure.RecoveryServices.VMSnapshotLinux/extension.log`",
        fix="Write `Key=value` without blanks around the `=`, and a comment's `#` as the first character of its line.",
        source=_EXTENSION_SOURCE,
        remedy="normalise-agent-config",
        milder=(Effect.NOTICE,),
    ),
    Problem(
        "LIB_DIR_MOVED",
        "The VM agent's library has been moved",
        Effect.BLOCKS,
        Cause.CONFIGURATION,
        meaning="Lib.Dir is not /var/lib/waagent, but the VMSnapshot extension looks for its settings and certificates"
        " there and nowhere else.",
        diagnosis="`waagent -show-configuration | grep Lib.Dir`; `readlink /var/lib/waagent`",
        fix="Take Lib.Dir out of waagent.conf and restart the agent; where space is short, mount a file system at"
        " /var/lib/waagent instead.",
        source="https://github.com/Azure/WALinuxAgent/issues/2949",
        explains=("AGENT_HUNG", "EXTENSION_VANISHED"),
    ),
    Problem(
        "POLICY_EXCLUDES_EXTENSION",
        "A policy keeps the agent from running VMSnapshot",
        Effect.BLOCKS,
        Cause.CONFIGURATION,
        meaning="The agent enforces a policy file that allows only listed extensions, and VMSnapshot is not among them,"
        " or that is invalid, which stops every extension. A notice only where the policy is not enforced yet.",
        diagnosis="`cat /etc/waagent_policy.json`; `grep EnableExtensionPolicy /etc/waagent.conf`;"
        " `grep -i policy /var/log/waagent.log | tail`",
        fix="Add Microsoft.Azure.RecoveryServices.VMSnapshotLinux to the listed extensions, or correct the file.",
        source="https://github.com/Azure/WALinuxAgent/blob/develop/azurelinuxagent/ga/policy/policy_engine.py",
        milder=(Effect.NOTICE,),
        explains=("EXTENSION_VANISHED", "EXTENSION_NOT_READY", "EXTENSION_STATE_WRONG", "EXTENSION_REQUEST_IGNORED"),
    ),
    Problem(
        "AUTO_UPDATE_OFF",
        "The VM agent does not update itself",
        Effect.NOTICE,
        Cause.CONFIGURATION,
        meaning="With AutoUpdate off the agent stays at the version of the distribution's package, with its defects."
        " Some distributions, Debian among them, ship it so.",
        diagnosis="`waagent -show-configuration | grep AutoUpdate`",
        fix="Set AutoUpdate.Enabled=y in waagent.conf and restart the agent.",
        source="https://learn.microsoft.com/azure/virtual-machines/extensions/update-linux-agent",
    ),
    Problem(
        "VERBOSE_LEFT_ON",
        "The VM agent logs verbosely",
        Effect.NOTICE,
        Cause.CONFIGURATION,
        meaning="Logs.Verbose=y is for the search of one fault; left on, it grows /var/log/waagent.log by some 10 to 20"
        " MB a day.",
        diagnosis="`waagent -show-configuration | grep Logs.Verbose`",
        fix="Set Logs.Verbose=n in waagent.conf and restart the agent.",
        source=_AGENT_SOURCE,
    ),
    Problem(
        "PROXY_NOT_FOR_EXTENSION",
        "The VMSnapshot extension does not use the agent's proxy",
        Effect.RISKS,
        Cause.CONFIGURATION,
        meaning="The extension goes through HttpProxy.Host only if HttpProxy.Port is unset; with both it goes directly."
        " That matters for snapshots by the guest path (SnapshotMethod in /etc/azure/vmbackup.conf). By the host, the"
        " default, only a report's upload goes that way, and it may fail: a notice.",
        diagnosis="`grep HttpProxy /etc/waagent.conf`; `cat /etc/azure/vmbackup.conf`",
        fix="Let the machine reach the storage service directly (service tag Storage), or take snapshots by the host.",
        source=_EXTENSION_SOURCE,
        milder=(Effect.NOTICE,),
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Replay the agent's own parser over its configuration."""
    try:
        config = waagent.agent_config(machine)
    except Absent as error:
        yield Finding("CONFIG_MISSING", evidence={"file": str(error), "state": "missing"})
        return
    if not config.data:
        # With comments alone the agent runs, on its defaults.
        yield Finding("CONFIG_MISSING", evidence={"file": config.path, "state": "empty"})
        return
    try:
        config.data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = config.data.count(b"\n", 0, error.start) + 1
        yield Finding("CONFIG_MISSING", evidence={"file": config.path, "state": "not UTF-8", "line": line})
    if not waagent.switch(config.values, "Extensions.Enabled", True):
        yield Finding(
            "EXTENSIONS_SWITCHED_OFF",
            evidence={"file": config.path, "Extensions.Enabled": config.values["Extensions.Enabled"]},
        )
    yield from _ineffective(config)
    yield from _extension(machine, config)
    yield from _library(machine, config)
    yield from _policy(machine, config)
    if not waagent.auto_update(config.values):
        yield Finding(
            "AUTO_UPDATE_OFF",
            evidence={
                key: config.values.get(key) for key in ("AutoUpdate.Enabled", "AutoUpdate.UpdateToLatestVersion")
            },
        )
    if waagent.switch(config.values, "Logs.Verbose", False):
        yield Finding("VERBOSE_LEFT_ON", evidence={"file": config.path})


def _ineffective(config: AgentConfig) -> Iterator[Observation]:
    """Lines that look like settings and are none, each key once."""
    lines: dict[str, list[ConfigLine]] = {}
    for line in waagent.config_lines(config.data):
        lines.setdefault(line.key, []).append(line)
    found: list[tuple[str, dict[str, Scalar]]] = []
    for key, (*shadowed, last) in lines.items():
        evidence: dict[str, Scalar] = {"file": config.path, "line": last.number, "text": _shown(last.text)}
        if key.startswith("#"):
            found.append((f"line {last.number}", {**evidence, "why": "the agent takes an indented # for a key"}))
            continue
        if key.startswith("\ufeff"):
            why = "the file begins with a byte-order mark, which the agent takes for a part of the key"
            found.append((key[1:] or f"line {last.number}", {**evidence, "why": why}))
        elif key == "Extensions.Enable":
            found.append((key, {**evidence, "why": "the key is Extensions.Enabled"}))
        elif key in _SWITCHES and last.value and last.value.lower() not in ("y", "n"):
            taken = "y" if _SWITCHES[key] else "n"
            found.append((key, {**evidence, "why": f"neither y nor n; the agent takes its default, {taken}"}))
        elif any(line.value != last.value for line in shadowed):
            first = next(line for line in shadowed if line.value != last.value)
            why = f"line {last.number} has another value and wins"
            found.append((key, {**evidence, "line": first.number, "text": _shown(first.text), "why": why}))
    for key, evidence in found[:_MOST]:
        yield Finding("CONFIG_KEY_INEFFECTIVE", _shown(key)[:80], {**evidence, "of": len(found)})


def _extension(machine: Machine, config: AgentConfig) -> Iterator[Observation]:
    """What the extension's parser makes of the file, and of the proxy in it."""
    host, port = config.values.get("HttpProxy.Host"), config.values.get("HttpProxy.Port")
    effect = Effect.NOTICE
    if host:
        try:
            method = vmsnapshot.backup_config(machine).get("snapshotmethod", vmsnapshot.DEFAULT_SNAPSHOT_METHOD)
        except CannotTell as error:
            yield CannotTell(error.why, ("CONFIG_BREAKS_EXTENSION", "PROXY_NOT_FOR_EXTENSION"))
            return
        # Where the host is tried first nothing of the snapshot goes by the proxy.
        effect = Effect.RISKS if method in _GUEST_METHODS else Effect.NOTICE
    view = vmsnapshot.extension_view(config.data)
    differs = next((k for k in ("HttpProxy.Host", "HttpProxy.Port") if view.values.get(k) != config.values.get(k)), "")
    if view.broken is not None:
        number, text = view.broken
        evidence: dict[str, Scalar] = {"file": config.path, "line": number, "text": _shown(text)}
        yield Finding("CONFIG_BREAKS_EXTENSION", evidence=evidence, effect=effect)
    elif differs:
        number, text = next((n.number, n.text) for n in waagent.config_lines(config.data) if differs in n.text)
        evidence = {"file": config.path, "line": number, "text": _shown(text), "differs": differs}
        yield Finding("CONFIG_BREAKS_EXTENSION", evidence=evidence, effect=effect)
    elif host and port:
        evidence = {"HttpProxy.Host": _shown(host), "HttpProxy.Port": port, "SnapshotMethod": method}
        yield Finding("PROXY_NOT_FOR_EXTENSION", evidence=evidence, effect=effect)


def _library(machine: Machine, config: AgentConfig) -> Iterator[Observation]:
    place = config.values.get("Lib.Dir")
    if place is None or place.rstrip("/") == waagent.LIB_DIR:
        return
    try:
        if machine.target(waagent.LIB_DIR).rstrip("/") == place.rstrip("/"):
            return
    except Absent:
        pass
    except CannotTell as error:
        yield CannotTell(error.why, ("LIB_DIR_MOVED",))
        return
    yield Finding("LIB_DIR_MOVED", evidence={"file": config.path, "Lib.Dir": place})


def _policy(machine: Machine, config: AgentConfig) -> Iterator[Observation]:
    """Replay the agent's policy engine for the one extension that matters."""
    enforced = waagent.switch(config.values, _POLICY_SWITCH, False)
    said_no = (config.values.get(_POLICY_SWITCH) or "").lower() == "n"
    path = config.values.get("Policy.PolicyFilePath") or _POLICY_FILE
    if said_no:
        return
    try:
        data = machine.read(path)
        why = _excluded(data, path)
        if not why:
            return
        report = waagent.newest_report(machine) if enforced else None
        if report is not None and waagent.version_of(report.agent_version) < _POLICY_SINCE:
            return
    except Absent as error:
        if str(error) != path:
            why = "it is not known which version of the agent runs, and only newer ones read the policy"
            yield CannotTell(why, ("POLICY_EXCLUDES_EXTENSION",))
        return
    except CannotTell as error:
        effect = None if enforced else Effect.NOTICE
        yield CannotTell(error.why, ("POLICY_EXCLUDES_EXTENSION",), effect)
        return
    evidence = {"file": path, "why": why, _POLICY_SWITCH: config.values.get(_POLICY_SWITCH)}
    yield Finding("POLICY_EXCLUDES_EXTENSION", evidence=evidence, effect=None if enforced else Effect.NOTICE)


def _excluded(data: bytes, path: str) -> str:
    """Why a policy keeps VMSnapshot from running; empty if it does not. Raises CannotTell for a policy of a
    version that newer agents may understand."""
    try:
        policy = waagent.parse_json(data, path)
    except CannotTell:
        return "it is not JSON"
    if not isinstance(policy, dict):
        return "it is no object"
    version = policy.get("policyVersion")
    if not isinstance(version, str) or not re.fullmatch(r"\d{1,9}(\.\d{1,9}){0,2}", version, re.ASCII):
        return "policyVersion is missing or no version"
    if waagent.version_of(version) > (0, 1, 0):
        raise CannotTell(f"{path} is of version {version}, which is not known here")
    rules = policy.get("extensionPolicies")
    if set(policy) - {"policyVersion", "extensionPolicies"} or not isinstance(rules, (dict, type(None))):
        return "an attribute is unknown or of the wrong type"
    if rules is None:
        return ""
    only, signed, allowed = (rules.get(k) for k in ("allowListedExtensionsOnly", "signatureRequired", "extensions"))
    if (
        set(rules) - {"allowListedExtensionsOnly", "signatureRequired", "extensions"}
        or not isinstance(only, (bool, type(None)))
        or not isinstance(signed, (bool, type(None)))
        or not isinstance(allowed, (dict, type(None)))
        or not all(_is_rule(rule) for rule in (allowed or {}).values())
    ):
        return "an attribute of extensionPolicies is unknown or of the wrong type"
    if only and waagent.VMSNAPSHOT.lower() not in {name.lower() for name in allowed or {}}:
        return "only listed extensions are allowed, and VMSnapshot is not listed"
    return ""


def _is_rule(rule: object) -> bool:
    if not isinstance(rule, Mapping) or set(rule) - {"signatureRequired", "runtimePolicy"}:
        return False
    return isinstance(rule.get("signatureRequired"), (bool, type(None)))


def _shown(text: str) -> str:
    """Without the password of a proxy's address."""
    return re.sub(r"[^\s=/]*@", "…@", text)


PROBE = Probe(
    name="configuration",
    question="Will the VM agent, and the extension with a parser of its own, read what the administrator meant?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=5),
)
