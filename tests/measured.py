"""What the tests measured, for whoever runs them: told at the end."""

from __future__ import annotations

MEASURED: list[str] = []


def measured(line: str) -> None:
    """One line for the summary of the run."""
    MEASURED.append(line)
