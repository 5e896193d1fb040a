"""What does `journalctl -x` say to our entries? The journal's catalogue, from the table of messages."""

from __future__ import annotations

import textwrap

from backupready import journal

_WIDTH = 79  # columns


def catalog() -> str:
    """The catalogue in systemd's format, one entry for each message."""
    return "\n".join(["# What `journalctl -x` says to the entries of backupready.\n", *map(_entry, journal.MESSAGES)])


def _entry(message: journal.Message) -> str:
    paragraphs = [
        textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)
        for paragraph in message.explanation.split("\n\n")
    ]
    return (
        f"-- {message.id}\nSubject: {message.subject}\nDefined-By: backupready\nDocumentation: man:backupready(8)\n\n"
        + "\n\n".join(paragraphs)
        + "\n"
    )
