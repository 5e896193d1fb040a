"""The doors of the fabric: what is asked only when one is shut, and what never leaves the look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from backupready.model import Effect, Looked, ProbeState, Ran, Route, Unreachable
from backupready.observe import observe
from backupready.probes import wire
from fake import PLUGIN, WIRE, FakeMachine, answer, configuration, healthy

METADATA = "http://169.254.169.254/metadata/instance?api-version=2021-02-01"
CAUSES = {"ROUTE_LEAVES_BY_WRONG_DEVICE", "AGENT_FIREWALL_BLOCKS_ROOT", "FOREIGN_FIREWALL_RULE"}


class Watched(FakeMachine):
    """A machine that notes which programs were run, which ways asked for, and with which headers."""

    def __init__(self, machine: FakeMachine) -> None:
        super().__init__(**vars(machine))
        self.ran: list[str] = []

    def run(self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = 1) -> Ran:
        self.ran.append(f"{' '.join(command)}{' as root' if privileged else ''}")
        return super().run(command, timeout, privileged)

    def route(self, address: str) -> Route:
        self.ran.append(f"route to {address}")
        return super().route(address)

    def get(self, url: str, timeout: float, budget: float, headers: Any = None) -> Any:
        self.ran += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return super().get(url, timeout, budget, headers)


def look(machine: FakeMachine) -> Looked:
    looked = observe(wire.PROBE, machine, configuration())
    assert looked.state is ProbeState.OK, looked.traceback
    return looked


def shut() -> Watched:
    machine = Watched(healthy())
    for url in (f"http://{WIRE}/?comp=versions", f"http://{PLUGIN}/versions"):
        machine.http[url] = Unreachable("timed_out", "no answer in time", 3)
    machine.links["/sys/class/net/eth0/device/driver"] = "../hv_netvsc"
    return machine


def test_nothing_is_asked_but_the_doors_while_they_are_open() -> None:
    """No program runs on a healthy machine; the metadata service wants its header."""
    machine = Watched(healthy())
    assert look(machine).findings == ()
    assert machine.ran == ["Metadata: true"]


def test_a_shut_door_is_asked_why() -> None:
    """The way and the rules, the rules with what privileges the look has."""
    machine = shut()
    machine.programs["iptables-save"] = Ran(0, b"", "")
    looked = look(machine)
    assert {finding.problem for finding in looked.findings} == {"WIRE_SERVER_UNREACHABLE", "HOST_PLUGIN_UNREACHABLE"}
    assert looked.unknown == ()
    assert machine.ran[:2] == [f"route to {WIRE.partition(':')[0]}", "route to 203.0.113.1"]
    assert {"iptables-save as root", "nft -j list ruleset as root"} <= set(machine.ran)


def test_the_metadata_stay_where_they_are() -> None:
    """Neither an answer's body nor its headers are told, whatever its status."""
    for status in (200, 404, 500):
        machine = healthy()
        machine.http[METADATA] = replace(answer(b"the-name-of-the-machine", status), headers={"server": "a-server"})
        assert "the-name-of" not in repr(look(machine))
        assert "a-server" not in repr(look(machine))


def test_an_emulated_fabric_has_no_metadata_service() -> None:
    """It is not asked for then, so that nothing beyond the emulation is reached."""
    machine = healthy()
    machine.wire_server = "127.0.0.1:8080"
    machine.http["http://127.0.0.1:8080/?comp=versions"] = machine.http[f"http://{WIRE}/?comp=versions"]
    unknown = {code for one in look(machine).unknown for code in one.problems}
    assert unknown == {"METADATA_UNREACHABLE"}
    assert METADATA not in machine.asked


def test_what_only_a_notice_says_never_makes_the_verdict() -> None:
    """The metadata service is worth knowing; the rest of the probe's causes block."""
    effects = {problem.code: problem.effect for problem in wire.PROBLEMS}
    assert effects["METADATA_UNREACHABLE"] is Effect.NOTICE
    assert {effects[code] for code in CAUSES} == {Effect.BLOCKS}


_TEXT = st.text(max_size=20) | st.sampled_from(["eth0", "..", "a/b", "", "tun0", "br0"])


@given(
    device=_TEXT,
    output=st.binary(max_size=80),
    errors=st.text(max_size=40),
    status=st.integers(-9, 5),
    uevent=st.binary(max_size=40),
    kind=st.binary(max_size=8),
)
def test_whatever_the_programs_and_files_say(
    device: str, output: bytes, errors: str, status: int, uevent: bytes, kind: bytes
) -> None:
    """A shut door is told as such, whatever comes of asking why."""
    machine = shut()
    machine.routes[WIRE.partition(":")[0]] = Route(device, "", "")
    machine.files.update({"/sys/class/net/tun0/type": kind, "/sys/class/net/tun0/uevent": uevent})
    machine.files["/sys/class/net/br0/lower_br0/x"] = ""
    machine.programs.update({"iptables-save": Ran(status, output, errors), "nft": Ran(0, output, errors)})
    assert "WIRE_SERVER_UNREACHABLE" in {finding.problem for finding in look(machine).findings}
