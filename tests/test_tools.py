"""The linter, the formatter, the type checker and the shell agree with the tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1]
SCRIPTS = ("packaging/dev/setup.sh", "tests/lab/handler/main/handle.sh")

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "--quiet"), ("ruff", "format", "--check", "--quiet"), ("mypy", "--no-error-summary")],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_tool(command: tuple[str, ...]) -> None:
    """The tool finds nothing."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=SOURCE, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SCRIPTS)
def test_shell(script: str) -> None:
    """The shell can parse it."""
    done = subprocess.run(["sh", "-n", str(SOURCE / script)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
