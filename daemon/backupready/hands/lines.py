"""How is a setting in waagent.conf changed so that every other byte stays?

Pure functions over the file's bytes, whatever these are. Which line counts is what the agent's own reading says
(waagent.config_lines).
"""

from __future__ import annotations

from backupready import waagent
from backupready.plan import check_setting

_BLANKS = b" \t"


def set_key(data: bytes, key: str, value: str) -> bytes:
    """The file with `Key=value` in the key's last line, which is the one that counts, or in a new line at the end.

    The line keeps its comment and its ending. A file that says this already comes back as it is. Raises ValueError.
    """
    check_setting(key, value)
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
