"""Everything else that can be wrong with a machine: each fault is told exactly, and so is its end."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import pytest

from lab.guest import HANDLER_DIRECTORY
from lab.hang import Hang
from measured import measured
from system import faults
from system.inside import BACKUPREADY, Inside


@dataclass(frozen=True)
class Fault:
    """How it is made, and what is active meanwhile; `daemon` where the daemon's looks, which have no capability, see
    less than a check by root does."""

    made: Callable[[Inside], AbstractContextManager[None]]
    expect: tuple[str, ...]
    daemon: tuple[str, ...] | None = None
    perhaps: tuple[str, ...] = ()


# Without the wire server this agent on this Python crashes, and after minutes that is a loop, beside its cause.
CRASHING = ("AGENT_CRASH_LOOPING",)


FAULTS: dict[str, Fault] = {
    "the route leads into a tunnel": Fault(
        faults.route_into_a_tunnel, ("ROUTE_LEAVES_BY_WRONG_DEVICE",), perhaps=CRASHING
    ),
    "a hardening rule drops": Fault(
        faults.nft_drop, ("FOREIGN_FIREWALL_RULE",), ("WIRE_SERVER_UNREACHABLE",), CRASHING
    ),
    "the agent's own rules stand in the wrong order": Fault(
        faults.agents_rules_in_the_wrong_order,
        ("AGENT_FIREWALL_BLOCKS_ROOT",),
        ("WIRE_SERVER_UNREACHABLE",),
        CRASHING,
    ),
    "no name server answers": Fault(faults.names_dead, ("NAME_RESOLUTION_FAILS",)),
    "the storage refuses, and is not needed": Fault(
        lambda inside: faults.switched(inside, "storage", "refused"), ("STORAGE_UNREACHABLE",)
    ),
    "somebody looks into what goes to the storage": Fault(
        lambda inside: faults.switched(inside, "storage", "impostor"), ("TLS_INTERCEPTED",)
    ),
    "the instance metadata refuses": Fault(
        lambda inside: faults.switched(inside, "metadata", "refused"), ("METADATA_UNREACHABLE",)
    ),
    "the clock is behind the fabric's": Fault(
        lambda inside: faults.switched(inside, "clock_ahead", 3600), ("CLOCK_SKEWED",)
    ),
    "a mount does not answer": Fault(faults.hanging, ("MOUNT_UNRESPONSIVE",)),
    "a mount does not answer and cannot be given up": Fault(
        lambda inside: faults.hanging(inside, Hang.IN_KERNEL), ("MOUNT_UNRESPONSIVE",)
    ),
    "noexec over the agent's library": Fault(
        lambda inside: faults.remounted(inside, "/var/lib/waagent", "noexec"), ("MOUNT_NOEXEC",)
    ),
    "the agent's log can only be read": Fault(
        lambda inside: faults.remounted(inside, "/var/log/azure", "ro"), ("MOUNT_READ_ONLY",)
    ),
    "the library is full of bytes": Fault(
        lambda inside: faults.small_library(inside, "size=8m", faults.FULL_OF_BYTES), ("SPACE_EXHAUSTED",)
    ),
    "the library is full of inodes": Fault(
        lambda inside: faults.small_library(inside, "size=64m,nr_inodes=400", faults.FULL_OF_INODES),
        ("INODES_EXHAUSTED",),
    ),
    "a reboot is pending": Fault(
        lambda inside: faults.written(inside, "/run/reboot-required", "*** System restart required ***\n"),
        ("REBOOT_PENDING",),
    ),
    "packages are being installed": Fault(
        lambda inside: faults.lock_held(inside, "/var/lib/dpkg/lock-frontend"), ("PACKAGE_LOCK_HELD",)
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name: str, steady: Inside) -> None:
    """Exactly what it says is active while it lasts, and nothing after it."""
    fault = FAULTS[name]
    with fault.made(steady):
        steady.expect(*fault.expect, within=150, daemon=fault.daemon, perhaps=fault.perhaps)
    steady.expect(within=200)


del contextlib, json, time, HANDLER_DIRECTORY, measured, BACKUPREADY
