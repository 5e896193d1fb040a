"""What do the VMSnapshot extension's own files say? Their places and formats.

Pure functions over bytes, and a few that fetch those bytes through a Machine. Whatever the bytes are, the only
exceptions are Absent and CannotTell.
"""

from __future__ import annotations

import configparser
import contextlib
from collections.abc import Mapping

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


def effective_config(data: bytes) -> tuple[Mapping[str, Mapping[str, str]], str]:
    """What the extension makes of vmbackup.conf under Python 3: section → key in small letters → text, and why all of
    it is lost, if it is. A value that it cannot expand is left out, as it then takes its default."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(data.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        return {}, " ".join(str(error).split())
    found: dict[str, dict[str, str]] = {}
    for section in parser.sections():
        values = found.setdefault(section, {})
        for key in parser.options(section):
            with contextlib.suppress(configparser.Error, ValueError):
                values[key] = parser.get(section, key)
    return found, ""


def mounts_to_skip(config: Mapping[str, str]) -> tuple[str, ...]:
    """The entries of MountsToSkip as the extension compares them: blanks inside the list belong to them."""
    text = config.get("mountstoskip", "")
    return tuple(text.split(",")) if text else ()
