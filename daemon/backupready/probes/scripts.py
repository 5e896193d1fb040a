"""Will the pre-script and the post-script run, if there are any?

The extension checks them in the middle of the backup (main/PluginHost.py, main/ScriptRunner.py; codes 300 to 318).
These are its rules ahead of time. Without a script configuration a backup is file-system-consistent, which is normal.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

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
    is_file,
)

_HOST_CONFIG = "/etc/azure/VMSnapshotPluginHost.conf"
_PACKAGED = "main/VMSnapshotPluginHost.conf"
_SCRIPT_CONFIG = "/etc/azure/VMSnapshotScriptPluginConfig.json"
_RUNNER = "ScriptRunner"  # the plug-in that comes with the extension
_LONGEST = 1800  # s; what the extension gives all scripts at most
_DEFAULT_TIMEOUT = 10  # s for each script where the file says nothing
_MOST_PLUGINS = 10
_SECTION = "pre_post"
_SCRIPTS = (("preScriptLocation", 302, 306), ("postScriptLocation", 303, 307))
_DOCUMENTATION = "https://learn.microsoft.com/azure/backup/backup-azure-linux-app-consistent"

PROBLEMS = (
    Problem(
        "SCRIPT_CONFIG_INVALID",
        "The configuration of the pre-script and the post-script is not valid",
        Effect.DEGRADES,
        Cause.FREEZE,
        meaning="The extension cannot use the configuration of the scripts (codes 304, 305, 316): it runs none, and the"
        " backup is file-system-consistent instead of application-consistent.",
        diagnosis=f"`python3 -m json.tool {_SCRIPT_CONFIG}`; `cat {_HOST_CONFIG}`",
        fix="Correct what was found, after the example in the extension's main/tempPlugin; or remove the file, if no"
        " script is to run.",
        source=_DOCUMENTATION,
        milder=(Effect.RISKS,),
        sightings=2,
        apart=timedelta(seconds=2),
        patience="an editor may leave half a file for a moment",
    ),
    Problem(
        "SCRIPT_MISSING",
        "The pre-script or the post-script is missing",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="There is no file where the configuration says that the script is (codes 302, 303). With"
        " continueBackupOnFailure the backup is only file-system-consistent, without it fails.",
        diagnosis=f"`grep Location {_SCRIPT_CONFIG}`; `ls -l` of both",
        fix="Put the script there, or correct the path in the configuration. Both scripts are needed; one that does"
        " nothing will do.",
        source=_DOCUMENTATION,
        milder=(Effect.DEGRADES,),
    ),
    Problem(
        "SCRIPT_PERMISSIONS",
        "The scripts or their configuration have the wrong owner or mode",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="The extension runs scripts that nobody but root can read or change, and refuses all others (codes"
        " 306, 307, 314, 317). With continueBackupOnFailure the backup is only file-system-consistent, without it fails"
        " if it is a script that is refused.",
        diagnosis=f"`ls -l {_HOST_CONFIG} {_SCRIPT_CONFIG}` and both scripts",
        fix="Run what `mend` says: root owns all, mode 700 for the scripts and 600 for their configuration.",
        source=_DOCUMENTATION,
        milder=(Effect.DEGRADES,),
        sightings=2,
        apart=timedelta(seconds=2),
        patience="a deployment writes a file first, and sets its mode then",
    ),
    Problem(
        "SCRIPT_TIMEOUT",
        "The scripts have not the time that they are meant to have",
        Effect.BLOCKS,
        Cause.FREEZE,
        meaning="The time-out of the scripts is none at all, so that each of them fails (codes 308, 309), or more than"
        " the extension allows, which cuts it without a word: at what the plug-in host has, and at 30 minutes.",
        diagnosis=f"`grep timeoutInSeconds {_SCRIPT_CONFIG} {_HOST_CONFIG}`",
        fix="Set timeoutInSeconds to what the longer of the scripts needs, at most 1800, and no higher than the plug-in"
        " host's.",
        source=_DOCUMENTATION,
        milder=(Effect.DEGRADES, Effect.RISKS),
    ),
)


@dataclass(frozen=True)
class _Plugin:
    """One plug-in of the host's configuration."""

    name: str
    path: str
    config: str


@dataclass(frozen=True)
class _Host:
    """The host's configuration: its time-out for all scripts, and whose scripts it runs."""

    path: str
    timeout: int = _LONGEST
    plugins: tuple[_Plugin, ...] = (_Plugin(_RUNNER, "/etc/azure", _SCRIPT_CONFIG),)


class _Refused(Exception):
    """Why the extension does not take a configuration."""


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Walk the extension's way: the host's configuration, each plug-in's, the scripts."""
    place, own = _host_path(machine)
    host = _Host(place)
    if place:
        yield from _host_permissions(machine, place, own)
        try:
            host = _parse_host(machine.read(place), place)
        except _Refused as error:
            if own or is_file(machine, _SCRIPT_CONFIG):
                yield _invalid(place, "", f"{error} (304)", Effect.DEGRADES)
            return
    if not host.plugins and is_file(machine, _SCRIPT_CONFIG):
        yield _invalid(place, "numberOfPlugins", "it is 0, so that no script runs", Effect.DEGRADES)
    for plugin in host.plugins:
        try:
            yield from _plugin(machine, host, plugin)
        except CannotTell as error:
            codes = ("SCRIPT_CONFIG_INVALID", "SCRIPT_MISSING", "SCRIPT_PERMISSIONS", "SCRIPT_TIMEOUT")
            yield CannotTell(error.why, codes, _hidden(plugin.config))


def _host_path(machine: Machine) -> tuple[str, bool]:
    """Where the host's configuration lies and whether it is the administrator's own; empty if the extension, which
    brings one along, is not there yet."""
    if is_file(machine, _HOST_CONFIG):
        return _HOST_CONFIG, True
    try:
        directory = waagent.current_directory(machine, waagent.VMSNAPSHOT)
    except Absent:
        return "", False
    path = f"{directory.path}/{_PACKAGED}" if directory else ""
    return (path, False) if path and is_file(machine, path) else ("", False)


def _hidden(path: str) -> Effect | None:
    """What a file that cannot be looked at may do at most: /root is hidden from us on every machine, so that nothing
    that lies there can ever be told."""
    return Effect.RISKS if path.startswith("/root/") else None


def _host_permissions(machine: Machine, path: str, own: bool) -> Iterator[Observation]:
    status = machine.status(path)
    # Others may read it, and do nothing else.
    wrong_mode = any((status.mode >> shift) & 7 not in (0, 4) for shift in (3, 0))
    if (wrong_mode or status.owner != 0) and (own or is_file(machine, _SCRIPT_CONFIG)):
        yield _refused(path, status.mode, status.owner, "644", 314, Effect.DEGRADES)


def _parse_host(data: bytes, path: str) -> _Host:
    """As configparser reads it under Python 3. Raises _Refused."""
    sections, why = vmsnapshot.parse_sections(data)
    if why:
        raise _Refused(why)
    values = sections.get(_SECTION, {})

    def text(key: str, default: str | None = None) -> str:
        found = vmsnapshot.expanded(values, key.lower()) if key.lower() in values else default
        if found is None:
            raise _Refused(f"{key} is missing in [{_SECTION}], or its % cannot be expanded")
        return found

    try:
        timeout = int(text("timeoutInSeconds", str(_LONGEST)))
        count = int(text("numberOfPlugins", "0"))
    except ValueError as error:
        raise _Refused(" ".join(str(error).split())) from None
    plugins = tuple(
        _Plugin(*(text(f"{key}{n}") for key in ("pluginName", "pluginPath", "pluginConfigPath")))
        for n in range(min(count, _MOST_PLUGINS))
    )
    return _Host(path, min(timeout, _LONGEST), plugins)


def _plugin(machine: Machine, host: _Host, plugin: _Plugin) -> Iterator[Observation]:
    if "\0" in plugin.config + plugin.path or not plugin.config.startswith("/"):
        yield _invalid(
            host.path, plugin.config, "the path of the scripts' configuration is not absolute", Effect.DEGRADES
        )
        return
    if not is_file(machine, plugin.config):
        if plugin.config != _SCRIPT_CONFIG:
            yield _invalid(host.path, plugin.config, "there is no such configuration (316)", Effect.DEGRADES)
        return
    status = machine.status(plugin.config)
    if status.mode & 0o177 or status.owner != 0:
        yield _refused(plugin.config, status.mode, status.owner, "600", 317, Effect.DEGRADES)
    if plugin.name != _RUNNER:
        if not is_file(machine, f"{plugin.path.rstrip('/')}/{plugin.name}.py"):
            what = f"there is no plug-in {plugin.name} in {plugin.path} (304)"
            yield _invalid(host.path, plugin.name, what, Effect.DEGRADES)
            return
        why = f"{plugin.name} is no plug-in of the extension's, and its rules are not known"
        yield CannotTell(why, ("SCRIPT_MISSING", "SCRIPT_TIMEOUT"), Effect.DEGRADES)
        return
    try:
        values = waagent.parse_json(machine.read(plugin.config), plugin.config)
    except CannotTell as error:
        yield _invalid(plugin.config, "", f"{error.why} (305)", Effect.DEGRADES)
        return
    if not isinstance(values, dict):
        yield _invalid(plugin.config, "", "it is no object of keys and values (304)", Effect.DEGRADES)
        return
    yield from _values(plugin.config, values)
    # Anything but an empty value counts as a yes when the scripts are looked at.
    failing = Effect.DEGRADES if values.get("continueBackupOnFailure", True) else Effect.BLOCKS
    for key, missing, permissions in _SCRIPTS:
        script = values.get(key)
        if isinstance(script, str):
            yield from _script(machine, key, script, missing, permissions, failing)
    yield from _timeouts(plugin.config, host, values.get("timeoutInSeconds", _DEFAULT_TIMEOUT), failing)


def _values(path: str, values: Mapping[str, Any]) -> Iterator[Observation]:
    """Keys that are missing and values of another type than the extension computes with."""
    for key, _, _ in _SCRIPTS:
        if key not in values:
            yield _invalid(path, key, "it is missing (305)", Effect.DEGRADES)
        elif not isinstance(values[key], str):
            yield _invalid(path, key, "it is no text (304)", Effect.DEGRADES)
    timeout = values.get("timeoutInSeconds", 0)
    if not isinstance(timeout, (int, float)):
        yield _invalid(path, "timeoutInSeconds", "it is no number (304)", Effect.DEGRADES)
    for key in ("preScriptParams", "postScriptParams"):
        if not isinstance(values.get(key, []), list):
            yield _invalid(path, key, "it is no list", Effect.DEGRADES)
    for key in ("preScriptNoOfRetries", "postScriptNoOfRetries"):
        if not isinstance(values.get(key, 0), (int, float)):
            yield _invalid(path, key, "it is no number: a script that fails once is never ended", Effect.RISKS)
    for key in ("continueBackupOnFailure", "fsFreezeEnabled"):
        if not isinstance(values.get(key, True), bool):
            yield _invalid(path, key, "it is neither true nor false", Effect.RISKS)
    poll = values.get("ScriptsExecutionPollTimeSeconds", 3)
    try:
        int(poll)
    except (TypeError, ValueError, OverflowError):
        yield _invalid(path, "ScriptsExecutionPollTimeSeconds", "it is no number (304, 305)", Effect.DEGRADES)


def _script(
    machine: Machine, key: str, script: str, missing: int, permissions: int, effect: Effect
) -> Iterator[Observation]:
    evidence: dict[str, Scalar] = {"option": key, "path": script, "code": missing}
    if not script or "\0" in script:
        yield Finding("SCRIPT_MISSING", key, {**evidence, "what": "no path is given"}, effect)
        return
    if not script.startswith("/"):
        what = "the path is not absolute: the extension looks in its own directory"
        yield Finding("SCRIPT_MISSING", key, {**evidence, "what": what}, effect)
        return
    try:
        status = machine.status(script)
    except Absent:
        yield Finding("SCRIPT_MISSING", key, {**evidence, "what": "there is no such file"}, effect)
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("SCRIPT_MISSING", "SCRIPT_PERMISSIONS"), _hidden(script) or effect)
        return
    if status.kind != "file":
        yield Finding("SCRIPT_MISSING", key, {**evidence, "what": "it is no file"}, effect)
    elif status.mode & 0o077 or status.owner != 0:
        yield _refused(script, status.mode, status.owner, "700", permissions, effect)


def _timeouts(path: str, host: _Host, timeout: object, failing: Effect) -> Iterator[Observation]:
    if not isinstance(timeout, (int, float)):
        return
    evidence: dict[str, Scalar] = {
        "file": path,
        "timeoutInSeconds": str(timeout),
        "host": host.timeout,
        "host_file": host.path,
    }
    if min(timeout, host.timeout) <= 0:
        yield Finding("SCRIPT_TIMEOUT", path, {**evidence, "what": "it leaves the scripts no time"}, failing)
    elif timeout > host.timeout:
        what = f"it is cut to the plug-in host's {host.timeout}"
        yield Finding("SCRIPT_TIMEOUT", path, {**evidence, "what": what}, Effect.RISKS)


def _invalid(file: str, option: str, what: str, effect: Effect) -> Observation:
    return Finding("SCRIPT_CONFIG_INVALID", option or file, {"file": file, "option": option, "what": what}, effect)


def _refused(path: str, mode: int, owner: int, wanted: str, code: int, effect: Effect) -> Observation:
    evidence: dict[str, Scalar] = {
        "path": path,
        "mode": f"{mode & 0o7777:o}",
        "owner": owner,
        "code": code,
        "mend": f"chown root:root {shlex.quote(path)} && chmod {wanted} {shlex.quote(path)}",
    }
    return Finding("SCRIPT_PERMISSIONS", path, evidence, effect)


PROBE = Probe(
    name="scripts",
    question="Will the pre-script and the post-script run, if there are any?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=5),
)
