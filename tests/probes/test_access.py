"""Audit records of any kind, memory of any shape, and a denial that is followed from look to look."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.model import CannotTell, ProbeState
from backupready.observe import observe
from backupready.probes import access, clock, guest
from fake import FakeMachine, configuration, healthy

LOG = "/var/log/audit/audit.log"
PIECES = (
    "type=AVC msg=", "type=FANOTIFY msg=", "type=PATH msg=", "type=MAC_POLICY_LOAD msg=", "audit(1795393000.123:7): ",
    "audit(1795393000.123:8): ", "audit(99999999999.9:99999999999999999999): ", "avc:  denied  { read } for ",
    'apparmor="DENIED" ', "resp=2 ", 'comm="waagent" ', "comm=77616167 ", "comm=FF ", 'name="/var/lib/waagent/x" ',
    "scontext=u:r:init_t:s0 ", "scontext=: ", "tcontext=u:object_r:tmp_t ", "permissive=0", "\n", "\x00", "\xff", '"',
)  # fmt: skip
RECORDS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=40).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEPT = st.dictionaries(st.sampled_from(["time", "by", "command", "path", "what", "target", "x"]), JSON)


def enforcing(log: str = "") -> FakeMachine:
    machine = healthy()
    machine.files.update({"/sys/fs/selinux/enforce": "1", LOG: log})
    return machine


def denial(seconds_ago: float, number: int, command: str = "waagent") -> str:
    return (
        f"type=AVC msg=audit({healthy().clock - seconds_ago:.3f}:{number}): avc:  denied  {{ read }} for  pid=1"
        f' comm="{command}" name="x" scontext=system_u:system_r:unconfined_service_t:s0'
        " tcontext=system_u:object_r:tmp_t:s0 tclass=file permissive=0\n"
    )


@given(log=RECORDS)
def test_records_of_any_kind(log: str) -> None:
    """Whatever the log says, the probe has no defect, and keeps no more than it may."""
    assert len(access.parse(log.encode("utf-8", "replace"))) <= 20
    looked = observe(access.PROBE, enforcing(log), configuration())
    assert looked.state is not ProbeState.FAILED, looked.traceback
    json.dumps(looked.memory)


@given(
    memory=st.dictionaries(st.sampled_from(["log", "inode", "offset", "denials"]), JSON | st.lists(KEPT, max_size=2))
)
def test_memory_of_any_shape(memory: dict[str, Any]) -> None:
    """What comes back as memory is not trusted."""
    machine = enforcing(denial(60, 1))
    machine.memory = {**memory, "log": LOG}
    looked = observe(access.PROBE, machine, configuration())
    assert looked.state is not ProbeState.FAILED, looked.traceback


@pytest.mark.parametrize("probe", [guest.PROBE, clock.PROBE], ids=lambda probe: probe.name)
@given(data=st.binary(max_size=60))
def test_files_of_any_kind(probe: Any, data: bytes) -> None:
    """Whatever stands in the small files and the header, no probe has a defect."""
    machine = healthy()
    for path in ("/etc/os-release", "/run/zypp.pid", f"/boot/vmlinuz-{data.hex()}", "/sys/class/dmi/id/sys_vendor"):
        machine.files[path] = data
    machine.http = {
        url: type(one)(one.status, {"date": data.decode("latin-1")}, one.body, one.seconds, 1)
        for url, one in machine.http.items()
        if not isinstance(one, Exception)
    }
    assert observe(probe, machine, configuration()).state is not ProbeState.FAILED


def test_a_denial_is_remembered_and_ages() -> None:
    """What an earlier look has read counts for a day, although the log is read on from there."""
    machine = enforcing(denial(60, 1))
    first = observe(access.PROBE, machine, configuration())
    assert [(f.key, f.evidence["times"]) for f in first.findings] == [("SELinux", 1)]
    machine.files[LOG] = denial(60, 1) + denial(30, 2)
    machine.memory = first.memory
    second = observe(access.PROBE, machine, configuration())
    assert [f.evidence["times"] for f in second.findings] == [2]
    machine.memory, machine.clock = second.memory, machine.clock + 86400
    assert observe(access.PROBE, machine, configuration()).findings == ()


def test_an_unreadable_log_is_unknown_where_something_enforces() -> None:
    """And no matter where nothing does."""
    machine = enforcing()
    machine.files[LOG] = CannotTell("cannot read it: Permission denied")
    assert observe(access.PROBE, machine, configuration()).unknown
    machine.files["/sys/fs/selinux/enforce"] = "0"
    assert observe(access.PROBE, machine, configuration()).unknown == ()


def test_apparmor_denials_of_an_agent_that_is_confined_need_a_log() -> None:
    """On Ubuntu the kernel's log is not root's own; it matters only if the agent has a profile at all."""
    machine = healthy()
    machine.files.update({"/sys/module/apparmor/parameters/enabled": "Y", "/proc/100/attr/current": "unconfined\n"})
    machine.files["/var/log/kern.log"] = CannotTell("cannot read it: Permission denied")
    looked = observe(access.PROBE, machine, configuration())
    assert (looked.state, looked.findings, looked.unknown) == (ProbeState.OK, (), ())
    machine.files["/proc/100/attr/current"] = "/usr/sbin/waagent (enforce)\n"
    assert observe(access.PROBE, machine, configuration()).unknown
