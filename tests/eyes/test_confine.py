"""What a look refuses itself, asked of the kernel."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from backupready.eyes import confine

TRIES = """
import fcntl, json, os, signal, struct, sys
from backupready.eyes.confine import confine

def tried(what, *arguments):
    try:
        what(*arguments)
    except OSError as error:
        return error.strerror
    return "done"

def everything():
    reading, writing = os.pipe()
    ours = struct.pack("i", os.getpid())
    told = {
        "owner": tried(fcntl.fcntl, reading, fcntl.F_SETOWN, os.getpid()),
        "signal": tried(fcntl.fcntl, reading, 10, signal.SIGCONT),
        "owner ex": tried(fcntl.fcntl, reading, 15, struct.pack("ii", 1, os.getpid())),
        "owner by ioctl": tried(fcntl.ioctl, sys.stdin.fileno(), 0x8902, ours),
        "flags": tried(fcntl.fcntl, reading, fcntl.F_SETFL, os.O_NONBLOCK),
        "length": tried(fcntl.ioctl, reading, 0x541B, struct.pack("i", 0)),
    }
    with open(__file__) as file:
        told["lease"] = tried(fcntl.fcntl, file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    return told

before = everything()
why = confine()
print(json.dumps([before, why, everything()]))
"""


@pytest.mark.integration
def test_the_kernel_refuses_what_was_given_up(tmp_path: Path) -> None:
    """Nobody can be made the owner of a file's events any more, and no lease be taken; the rest goes on."""
    script = tmp_path / "tries.py"
    script.write_text(TRIES)
    done = subprocess.run(
        [sys.executable, str(script)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(confine.__file__).parents[2])},
    )
    before, why, after = json.loads(done.stdout)
    assert why == ""
    given_up = {"owner", "signal", "owner ex", "lease"}
    assert {name for name in given_up if before[name] != "done"} == set()
    assert {name: after[name] for name in given_up} == dict.fromkeys(given_up, "Operation not permitted")
    assert after["owner by ioctl"] == "Operation not permitted" != before["owner by ioctl"]
    assert (after["flags"], after["length"]) == ("done", "done")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_way_through_the_filter_ends(machine: str) -> None:
    """Each jump leads forward to an instruction that is there, and the last two say allow and refuse."""
    code = confine.program(machine)
    steps = [code[at : at + 8] for at in range(0, len(code), 8)]
    for here, step in enumerate(steps):
        if step[0] == 0x15:
            assert here + 1 + max(step[2], step[3]) < len(steps)
    assert [step[0] for step in steps[-2:]] == [0x06, 0x06]
    assert steps[-2] != steps[-1]


def test_a_machine_that_is_not_known_is_not_confined_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks all the same."""
    monkeypatch.setattr(platform, "machine", lambda: "s390x")
    assert confine.confine() == "no filter is known for s390x"
