"""The packages of this working tree, built for the tests that look at them or install them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from requirement import unavailable

SOURCE = Path(__file__).parents[1]
OLDER = "0.0.9"  # what is upgraded from
# What `systemd-analyze security` may say of each unit at most.
MOST_EXPOSED = {
    "backupready.service": 1.6,
    "backupready-look@.service": 2.0,
    "backupready-fix@.service": 2.9,
}


def build(tree: Path, kind: str, output: Path, *options: str, **environment: str) -> Path:
    """The package of this kind, as it would be released, from a tree."""
    command = [sys.executable, str(tree / "packaging/build.py"), kind, "--output", str(output), *options]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    if done.returncode != 0 and "apt-get install" in done.stderr:
        unavailable(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())
