"""What does a test need that a machine may lack?"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def unavailable(why: str) -> NoReturn:
    """Skip with the reason; fail with it where the machine must lack nothing."""
    if os.environ.get("BACKUPREADY_REQUIRE_SYSTEM"):
        pytest.fail(why)
    pytest.skip(why)


def need(tool: str, package: str = "") -> None:
    """A command that must be installed."""
    if shutil.which(tool) is None:
        unavailable(f"there is no {tool}; apt-get install {package or tool}")
