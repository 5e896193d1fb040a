"""What do the VMSnapshot extension's own files say? Their places and formats.

Pure functions over bytes, and a few that fetch those bytes through a Machine. Whatever the bytes are, the only
exceptions are Absent and CannotTell.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from backupready.model import Absent, CannotTell, Machine

BACKUP_CONFIG = "/etc/azure/vmbackup.conf"
SNAPSHOT_METHODS = ("onlyGuest", "firstGuestThenHost", "firstHostThenGuest", "onlyHost")
DEFAULT_SNAPSHOT_METHOD = "firstHostThenGuest"


def parse_backup_config(data: bytes, path: str) -> dict[str, Mapping[str, str]]:
    """vmbackup.conf as the extension reads it: section → key in small letters → text. Raises CannotTell."""
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(data.decode("utf-8-sig"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise CannotTell(f"{path} cannot be parsed: {' '.join(str(error).split())}") from None
    return {section: dict(parser.items(section)) for section in parser.sections()}


def backup_config(machine: Machine) -> Mapping[str, str]:
    """The [SnapshotThread] of vmbackup.conf, key in small letters → text; empty where there is no such file or section.
    Raises CannotTell."""
    try:
        data = machine.read(BACKUP_CONFIG)
    except Absent:
        return {}
    return parse_backup_config(data, BACKUP_CONFIG).get("SnapshotThread", {})


@dataclass(frozen=True)
class ExtensionView:
    """waagent.conf as the extension reads it: what it has read until `broken`, the number and text of the line at which
    it gives the whole file up, or None."""

    values: Mapping[str, str | None] = field(default_factory=dict)
    broken: tuple[int, str] | None = None


def extension_view(data: bytes) -> ExtensionView:
    """Replay the extension's own parser over the agent's configuration.

    It takes of every line with a `=`, unless `#` is its first character, the first word, and of that what stands
    between the first and the second `=`. A first word without `=` is an error that loses it everything.
    """
    values: dict[str, str | None] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), 1):
        if line.startswith("#") or "=" not in line:
            continue
        parts = line.split()[0].split("=")
        if len(parts) < 2:
            return ExtensionView(values, (number, line.strip()))
        value = parts[1].strip('" ')
        values[parts[0]] = value if value != "None" else None
    return ExtensionView(values)


# The interpreters of handle.sh in its order; each that fails is followed by the next.
INTERPRETERS = tuple(
    f"{place}/{name}"
    for name in (
        "python3.8", "python3.7", "python3.6", "python3.5", "python3.4", "python3.3", "python3",
        "python2.7", "python2.6", "python2", "python",
    )
    for place in ("/usr/bin", "/usr/local/bin")
)  # fmt: skip
WITHOUT_IMP = (1, 0, 9220, 0)  # the first version that loads its library without the module imp
# At the beginning of a line, outside of any try, an import must succeed.
_REMOVED = re.compile(rb"(?m)^(?:import|from)[ \t]+(crypt|distutils\.version|imp)\b")


def removed_modules(library: bytes, loader: bytes) -> tuple[str, ...]:
    """The modules, gone from newer versions of Python, that the extension cannot do without, by its main/WaagentLib.py
    and main/Utils/WAAgentUtil.py."""
    # The library carries a script for the resource disk in a string, whose import of imp is not its own.
    needed = {match.decode() for match in _REMOVED.findall(library)} - {"imp"}
    if b"imp.load_source" in loader and b"spec_from_file_location" not in loader:
        needed.add("imp")
    return tuple(sorted(needed))
