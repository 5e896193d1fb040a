"""What no single scenario can say of the storage: whatever files and answers there are, how grave, how long, and what
never leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import observe, vmsnapshot, waagent
from backupready.mind.judge import Judge
from backupready.model import CannotTell, Effect, Fetched, Finding, ProbeState, Resolved, Unreachable, Verdict
from backupready.probes import storage
from fake import NOW, STORAGE, FakeMachine, configuration, healthy

HANDLER = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"
TAGS = "/etc/azure/tags.json"
PROXY = "http://10.0.0.9:3128"
DIRECT = f"https://{STORAGE}/"


def seen(machine: FakeMachine, **texts: str) -> list[Finding | CannotTell]:
    changes: dict[str, Any] = {f"storage__{key}": text for key, text in texts.items()}
    looked = observe.observe(storage.PROBE, machine, configuration(**changes))
    assert looked.traceback == ""
    assert looked.state is ProbeState.OK
    return [*looked.findings, *looked.unknown]


def effect_of(one: Finding | CannotTell) -> Effect:
    assert one.effect is not None, "what nobody grades is as grave as can be"
    return one.effect


# --------------------------------------------------------------------------------------------------- whatever bytes

FILES = (
    "/etc/resolv.conf",
    "/etc/waagent.conf",
    vmsnapshot.BACKUP_CONFIG,
    TAGS,
    f"{HANDLER}/config/0.settings",
    f"{HANDLER}/status/0.status",
    f"{waagent.LIB_DIR}/history/2026-01-01T00-00-00__1/ExtensionsConfig.xml",
    f"{waagent.LIB_DIR}/history/2026-01-01T00-00-00__1/VmSettings.json",
)
_PIECES = st.sampled_from(
    [
        b"nameserver ", b"127.0.0.53", b"fe80::1%eth0", b"\n", b"{", b"}", b"[", b"]", b'"', b":", b",", b"\x00",
        b"\xff", b"[SnapshotThread]\nSnapshotMethod: onlyGuest\n", b"HttpProxy.Host=", b"10.0.0.9", b"a:b@c",
        b"HttpProxy.Port=3128\n", b'{"values":[{"name":"Storage","properties":{"addressPrefixes":', b'["20.60.0.0/16"]',
        b"}}]}", b"null", b"1", b'{"statusUploadBlob":', b'{"value":"https://', b"https://a.blob.core.windows.net/",
        b"<StatusUploadBlob>", b"</StatusUploadBlob>", b"snapshotCreator=guestExtension", b"&#0;", b"&",
        b'{"runtimeSettings":[{"handlerSettings":{"publicSettings":', b'{"statusBlobUri":', b"nameserver",
    ]
)  # fmt: skip
ANY_BYTES = st.binary(max_size=200) | st.lists(_PIECES, max_size=10).map(b"".join)


@dataclass
class DeafMachine(FakeMachine):
    """Nothing answers it."""

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        raise Unreachable("connect: timed_out", "no answer in time", 2)

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        return Resolved(("20.60.1.4",), "NOERROR", 0.004)


def deaf() -> DeafMachine:
    return DeafMachine(**vars(healthy()))


@given(contents=st.dictionaries(st.sampled_from(FILES), ANY_BYTES, min_size=1, max_size=4))
def test_any_content_of_any_file(contents: dict[str, bytes]) -> None:
    """The probe sees something or cannot tell; and each is graded."""
    machine = deaf()
    machine.files.update(contents)
    for one in seen(machine, service_tags=TAGS):
        effect_of(one)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just("20.60.0.0/16"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(prefixes=JSON, properties=JSON, values=JSON, change=JSON)
def test_a_list_of_any_shape(prefixes: Any, properties: Any, values: Any, change: Any) -> None:
    """A list of service tags with any value in any place gives networks or CannotTell."""
    tag = {"name": "Storage", "properties": {"addressPrefixes": prefixes}}
    for found in ([tag], [{"name": "Storage", "properties": properties}], values):
        document = {"changeNumber": change, "values": found}
        try:
            storage._networks(json.dumps(document).encode(), TAGS, "Storage")
        except CannotTell as error:
            assert error.why.startswith(TAGS)


def test_a_list_that_is_too_long() -> None:
    """It is not read."""
    machine = healthy()
    machine.files[TAGS] = b" " * (storage._TAGS_LIMIT + 1)
    (unknown,) = seen(machine, service_tags=TAGS)
    assert isinstance(unknown, CannotTell)
    assert "more than" in unknown.why


# ------------------------------------------------------------------------------------------------------ how grave

Way = Union[Fetched, Unreachable]
WAYS = st.sampled_from(
    [
        Fetched(400, {}, "Microsoft Corporation", 1),
        Fetched(400, {}, "", 1),
        *(Unreachable(how, "words", 1) for how in (
            "name: failed", "name: timed_out", "connect: refused", "proxy: answers 403", "proxy: answers 502",
            "tls: certificate", "tls: failed", "first_byte: timed_out",
        )),
    ]
)  # fmt: skip
NAMES = st.sampled_from(
    [
        Resolved(("20.60.1.4",), "NOERROR", 0.01),
        Resolved((), "NOERROR", 0.01),
        Resolved((), "NXDOMAIN", 0.01),
        Resolved((), "SERVFAIL", 0.01),
        Unreachable("timed_out", "words", 1),
        CannotTell("a captured tree"),
    ]
)


def networked(method: str, proxied: bool, ways: Sequence[Way], names: Sequence[Any]) -> FakeMachine:
    machine = healthy()
    machine.files[vmsnapshot.BACKUP_CONFIG] = f"[SnapshotThread]\nSnapshotMethod: {method}\n"
    machine.files["/etc/resolv.conf"] = "nameserver 10.0.0.4\nnameserver 10.0.0.5\n"
    if proxied:
        machine.files["/etc/waagent.conf"] = "HttpProxy.Host=10.0.0.9\nHttpProxy.Port=3128\n"
    machine.web = {DIRECT: ways[0], f"{DIRECT} through {PROXY}": ways[1]}
    machine.dns = {(STORAGE, "10.0.0.4"): names[0], (STORAGE, "10.0.0.5"): names[1]}
    return machine


NETWORKS = st.builds(
    networked,
    st.sampled_from(vmsnapshot.SNAPSHOT_METHODS),
    st.booleans(),
    st.tuples(WAYS, WAYS),
    st.tuples(NAMES, NAMES),
)


@given(proxied=st.booleans(), ways=st.tuples(WAYS, WAYS), names=st.tuples(NAMES, NAMES))
def test_a_snapshot_by_the_host_is_never_at_stake(proxied: bool, ways: tuple[Way, Way], names: tuple[Any, Any]) -> None:
    """Whatever is dead: a notice, or unknown and at most a notice."""
    machine = networked("firstHostThenGuest", proxied, ways, names)
    assert {effect_of(one) for one in seen(machine, service_tags=TAGS)} <= {Effect.NOTICE}


@given(machine=NETWORKS)
def test_a_cause_is_as_grave_as_its_consequence(machine: FakeMachine) -> None:
    """In one look: else a notice would explain away what blocks."""
    gravest: dict[str, int] = {}
    for one in seen(machine):
        if isinstance(one, Finding):
            gravest[one.problem] = min(gravest.get(one.problem, 9), effect_of(one).rank)
    for problem in storage.PROBLEMS:
        for consequence in problem.explains:
            if problem.code in gravest and consequence in gravest:
                assert gravest[problem.code] <= gravest[consequence]


@given(machine=NETWORKS)
def test_no_effect_is_graver_than_declared(machine: FakeMachine) -> None:
    """And each is one of the problem's."""
    declared = {problem.code: (problem.effect, *problem.milder) for problem in storage.PROBLEMS}
    for one in seen(machine, service_tags=TAGS):
        for code in (one.problem,) if isinstance(one, Finding) else one.problems:
            assert effect_of(one) in declared[code]


# -------------------------------------------------------------------------------------------- what leaves, how long


def test_nothing_of_a_signature_or_a_password_leaves() -> None:
    """The goal state's address of the blob is a key to it, and a proxy's host may hold a password."""
    machine = deaf()
    machine.files["/etc/waagent.conf"] = "HttpProxy.Host=http://user:hunter2@proxy\nHttpProxy.Port=3128\n"
    words = repr([(vars(one) if isinstance(one, CannotTell) else one) for one in seen(machine)])
    assert STORAGE in words
    assert "hunter2" not in words
    assert "sig=" not in words


@dataclass
class SlowMachine(FakeMachine):
    """Everything is dropped: each question takes all the time that it is given."""

    spent: float = 0.0
    answering: str = ""

    def fetch(self, url: str, timeout: float, budget: float, proxy: str = "") -> Fetched:
        self.spent += budget
        raise Unreachable("name: timed_out", "no answer in time", 2)

    def resolve(self, name: str, server: str, timeout: float) -> Resolved:
        if server == self.answering:
            return Resolved(("20.60.1.4",), "NOERROR", 0.004)
        self.spent += timeout
        raise Unreachable("timed_out", "no answer in time", 1)


@pytest.mark.parametrize("answering", ["", "10.0.0.6"])
def test_everything_dead_ends_within_the_budget(answering: str) -> None:
    """Three name servers, a proxy by name and the storage, with room for what is not waited for."""
    machine = SlowMachine(**vars(healthy()), answering=answering)
    machine.files["/etc/resolv.conf"] = "".join(f"nameserver 10.0.0.{number}\n" for number in range(4, 9))
    machine.files["/etc/waagent.conf"] = "HttpProxy.Host=proxy.corp\nHttpProxy.Port=3128\n"
    machine.files[vmsnapshot.BACKUP_CONFIG] = "[SnapshotThread]\nSnapshotMethod: onlyGuest\n"
    seen(machine, service_tags=TAGS)
    assert 0 < machine.spent <= storage.PROBE.budget.total_seconds() - 2


# ------------------------------------------------------------------------------------------------------- over time


def test_one_failure_is_confirmed_and_one_answer_clears_it() -> None:
    """Two sightings make it active; the verdict goes back as soon as the storage answers."""
    machine = healthy()
    machine.files[vmsnapshot.BACKUP_CONFIG] = "[SnapshotThread]\nSnapshotMethod: onlyGuest\n"
    judge = Judge([storage.PROBE], {"storage": 900.0}, 30.0)
    verdicts = []
    good: Way = Fetched(400, {}, "Microsoft Corporation", 1)
    bad: Way = Unreachable("connect: timed_out", "no answer in time", 2)
    for turn, way in enumerate([good, bad, bad, good]):
        machine.web[DIRECT] = way
        judge.saw(observe.observe(storage.PROBE, machine, configuration()), turn * 10.0, NOW + turn * 10)
        verdicts.append(judge.snapshot(turn * 10.0, NOW + turn * 10, {}, {}).verdict)
    assert verdicts == [Verdict.READY, Verdict.READY, Verdict.BLOCKED, Verdict.READY]


def test_the_times_are_told() -> None:
    """Of each phase and of each name server that answers."""
    looked = observe.observe(storage.PROBE, healthy(), configuration())
    told = {(reading.metric, *reading.labels.values()): reading.value for reading in looked.readings}
    assert told == {
        ("backupready_storage_phase_seconds", "name"): 0.004,
        ("backupready_storage_phase_seconds", "tls"): 0.03,
        ("backupready_dns_answer_seconds", "127.0.0.53"): 0.004,
    }


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("snapshotCreator=guestExtension, hostStatusCodePreSnapshot=555", "guest"),
        ('{"Key":"snapshotCreator","Value":"backupHostService"}', "host"),
        (json.dumps(json.dumps({"Key": "snapshotCreator", "Value": "guestExtension"})), "guest"),
        (json.dumps(json.dumps(json.dumps({"Key": "snapshotCreator", "Value": "guestExtension"}))), "guest"),
        ('{"Key":"snapshotCreator","Value":"somebody"}', ""),
        ('{"Key":"snapshotCreator"},{"Key":"x","Value":"guestExtension"}', ""),
        ("guestExtension", ""),
    ],
)
def test_who_took_the_last_snapshot(text: str, host: str) -> None:
    """However deep the status file wraps it."""
    machine = healthy()
    machine.files[f"{HANDLER}/status/0.status"] = text
    assert storage.last_path(machine) == host


def test_the_newest_status_that_tells_counts() -> None:
    """By its number, also one that was put aside; one in transition tells nothing."""
    machine = healthy()
    machine.files[f"{HANDLER}/status/9_status"] = "snapshotCreator=backupHostService"
    machine.files[f"{HANDLER}/status/10.status"] = "snapshotCreator=guestExtension"
    machine.files[f"{HANDLER}/status/11.status"] = "[]"
    assert storage.last_path(machine) == "guest"


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("nameserver 10.0.0.4\n", ("10.0.0.4",)),
        ("search x\n nameserver\t10.0.0.4 # first\nnameserver 10.0.0.4\n#nameserver 10.0.0.5", ("10.0.0.4",)),
        ("nameserver fe80::1%eth0\nnameserver dns.test\nnameserver 2603::1", ("fe80::1%eth0", "2603::1")),
        ("options timeout:1\n", ("127.0.0.1",)),
        ("", ("127.0.0.1",)),
    ],
)
def test_the_servers_that_the_resolver_asks(text: str, servers: tuple[str, ...]) -> None:
    """As resolv.conf(5) says."""
    machine = healthy()
    machine.files["/etc/resolv.conf"] = text
    assert storage._servers(machine) == servers
