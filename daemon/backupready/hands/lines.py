"""How is a setting in waagent.conf changed so that every other byte stays?

Pure functions over the file's bytes, whatever these are. Which line counts is what the agent's own reading says
(waagent.config_lines).
"""

from __future__ import annotations

import re

from backupready import waagent

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:\.[A-Za-z0-9]+)*", re.ASCII)
_VALUE = re.compile(r"[A-Za-z0-9._:/,+-]{1,200}", re.ASCII)
_UNSET = "None"  # the agent reads this word as no value at all
_BLANKS = b" \t"


def check(key: str, value: str) -> None:
    """Raises ValueError for a key or a value that the agent would not read back as it is written."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of waagent.conf")
    if not _VALUE.fullmatch(value) or value == _UNSET:
        raise ValueError(f"{value!r} is no value for {key}: letters, digits and ._:/,+- are")


def set_key(data: bytes, key: str, value: str) -> bytes:
    """The file with `Key=value` in the key's last line, which is the one that counts, or in a new line at the end.

    The line keeps its comment and its ending. A file that says this already comes back as it is. Raises ValueError.
    """
    check(key, value)
    counting = [line for line in waagent.config_lines(data) if line.key == key]
    lines = data.split(b"\n")
    setting = f"{key}={value}".encode()
    if not counting:
        carriage = b"\r" if lines[0].endswith(b"\r") and len(lines) > 1 else b""
        # The line before is ended without a carriage return, which would change the way its value is read.
        return data + (b"" if data.endswith(b"\n") or not data else b"\n") + setting + carriage + b"\n"
    if counting[-1].value == value:
        return data
    place = counting[-1].number - 1
    line = lines[place]
    body, carriage = (line[:-1], b"\r") if line.endswith(b"\r") else (line, b"")
    before, mark, comment = body.partition(b"#")
    gap = before[len(before.rstrip(_BLANKS)) :] or b" "
    lines[place] = setting + (gap + mark + comment if mark else b"") + carriage
    return b"\n".join(lines)
