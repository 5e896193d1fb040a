"""The agent's formats: what real agents wrote, and whatever else a file may hold."""

from __future__ import annotations

import re
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import catalogue, config, probes, waagent
from backupready.eyes import look
from backupready.eyes.machine import CapturedMachine, LiveMachine
from backupready.model import CannotTell, ProbeState, Process
from backupready.waagent import LogFacts
from fake import FakeMachine
from scenario import DATA, ScenarioMachine, furnish

LOGS = sorted((DATA / "logs").iterdir())


# --------------------------------------------------------------------------------------------------- whatever bytes

PARSERS: dict[str, Callable[[bytes], object]] = {
    "report": lambda data: waagent.parse_report(data, "report"),
    "extensions config": lambda data: waagent.parse_extensions_config(data, "config"),
    "json": lambda data: waagent.parse_json(data, "file"),
    "config": waagent.parse_config,
    "records": lambda data: list(waagent.records(data)),
    "version": lambda data: waagent.version_of(data.decode("utf-8", "replace")),
    "timestamp": lambda data: waagent.timestamp(data.decode("utf-8", "replace")),
}
_PIECES = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b'"', b":", b",", b"\n", b"=", b"#", b" ", b"\xef\xbb\xbf", b"\x00", b"\xff", b"null",
        b'{"timestampUTC":"2026-11-23T00:23:00Z","aggregateStatus":', b'"guestAgentStatus":{"version":"2","status":""}',
        b'"handlerAggregateStatus":[', b"<Extensions>", b"<Plugins><Plugin name='x'/></Plugins>", b"</Extensions>",
        b"2026-11-23T00:08:28.096237Z INFO Daemon Daemon ", b"2026-99-99T00:08:28.096237Z INFO Daemon ",
        b"2018/03/05 14:31:57.742721 INFO ", b"Azure Linux Agent Version:2.7.3.0", b"Python: 3.11.2",
        b"UpdateGSErrors: 99999999999", b"Retry detect protocol: retry=1", b"Extensions.Enabled=n", b"2.7.3.0",
        "٣".encode(), b"1e999",
    ]
)  # fmt: skip
ANY_BYTES = st.one_of(st.binary(max_size=400), st.lists(_PIECES, max_size=12).map(b"".join))


@pytest.mark.parametrize("name", PARSERS)
@given(data=ANY_BYTES)
def test_a_parser_can_only_not_tell(name: str, data: bytes) -> None:
    """Whatever the bytes are, a parser gives a value or raises CannotTell."""
    try:
        PARSERS[name](data)
    except CannotTell as error:
        assert error.why


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(agent=JSON, handlers=st.lists(JSON | st.fixed_dictionaries({"handlerName": JSON, "code": JSON, "status": JSON,
       "formattedMessage": JSON, "runtimeSettingsStatus": JSON})) | JSON, written=JSON)  # fmt: skip
def test_a_report_of_any_shape(agent: Any, handlers: Any, written: Any) -> None:
    """A report with any value in any place gives a report or CannotTell."""
    import json

    document = {
        "timestampUTC": written,
        "aggregateStatus": {"guestAgentStatus": agent, "handlerAggregateStatus": handlers},
    }
    try:
        waagent.parse_report(json.dumps(document).encode(), "report")
    except CannotTell as error:
        assert error.why


@given(memory=st.dictionaries(st.sampled_from(["inode", "offset", "facts"]), JSON | st.dictionaries(
       st.sampled_from(list(LogFacts.__dataclass_fields__)), JSON, max_size=5)))  # fmt: skip
def test_memory_of_any_shape(memory: dict[str, Any]) -> None:
    """What the mind gives back as memory is not trusted: whatever it is, the log is followed."""
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "var/log/waagent.log"
        log.parent.mkdir(parents=True)
        shutil.copy(DATA / "logs/waagent-2.15.0.1-normal.log", log)
        if "inode" in memory:
            memory["inode"] = log.stat().st_ino
        facts, _ = waagent.follow_log(CapturedMachine(directory, 0.0, memory))
    assert isinstance(facts, LogFacts)


# Every file of the agent's that any probe reads.
_HANDLER = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"
FILES = (
    waagent.LOG,
    waagent.PID_FILE,
    "/etc/waagent.conf",
    "/sys/class/dmi/id/product_uuid",
    f"{waagent.LIB_DIR}/provisioned",
    f"{waagent.LIB_DIR}/Incarnation",
    f"{waagent.LIB_DIR}/waagent_status.json",
    f"{waagent.LIB_DIR}/ExtensionsConfig.3.xml",
    f"{waagent.LIB_DIR}/WALinuxAgent-2.9.1.1/error.json",
    f"{waagent.LIB_DIR}/history/2026-11-23T00-22-46__2/waagent_status.json",
    f"{waagent.LIB_DIR}/history/2026-11-23T00-22-46__2/ExtensionsConfig.xml",
    f"{_HANDLER}/HandlerManifest.json",
    f"{_HANDLER}/HandlerEnvironment.json",
    f"{_HANDLER}/config/HandlerState",
    f"{_HANDLER}/mrseq",
    f"{_HANDLER}/status/1.status",
)


@given(contents=st.dictionaries(st.sampled_from(FILES), ANY_BYTES, min_size=1, max_size=4))
def test_no_probe_breaks_on_any_content(contents: dict[str, bytes]) -> None:
    """Whatever stands in the agent's files, no probe has a defect."""
    scenario = {
        "bytes": {path: data.hex() for path, data in contents.items()},
        "processes": [[4711, 1, "S", 9, "x"]] if waagent.PID_FILE in contents else None,
    }
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "root"
        at = furnish(scenario, place)
        settings = config.load(catalogue.SETTINGS)
        looks = look.look(probes.PROBES, lambda memory: ScenarioMachine(place, at, scenario, memory), settings)
    assert [looked.traceback for looked in looks if looked.state is ProbeState.FAILED] == []


# ------------------------------------------------------------------------------------------------------ storage host


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://md-a.z6.blob.storage.azure.net/$system/vm.status?sv=1&sig=abc", "md-a.z6.blob.storage.azure.net"),
        ("https://Account.blob.core.windows.net:443/c?sig=abc", "account.blob.core.windows.net"),
        (" http://account.blob.core.chinacloudapi.cn ", "account.blob.core.chinacloudapi.cn"),
        ("http://168.63.129.16:80/blob/vm.status?sig=abc", ""),
        ("https://user:secret@account.blob.core.windows.net/", ""),
        ("https://account.blob.core.windows.net\r\nHost: other/", ""),
        ("account.blob.core.windows.net", ""),
        ("https://[2603::1]/", ""),
        (None, ""),
        (7, ""),
    ],
)
def test_the_host_of_a_blob(uri: object, host: str) -> None:
    """Only a name, and nothing of the signature."""
    assert waagent.blob_host(uri) == host


@given(text=st.text(max_size=60) | st.from_regex(r"https?://[a-z.:@/?-]{1,40}"))
def test_the_host_of_any_text(text: str) -> None:
    """It is a plain name or nothing."""
    assert all(c.isascii() and (c.isalnum() or c in "-.") for c in waagent.blob_host(text))


_UPLOAD = "<E><StatusUploadBlob statusBlobType='x'>https://{}.blob.core.windows.net/c?sig=abc</StatusUploadBlob></E>"


@pytest.mark.parametrize(
    ("files", "host"),
    [
        ({"ExtensionsConfig.9.xml": _UPLOAD.format("nine"), "ExtensionsConfig.10.xml": _UPLOAD.format("ten")}, "ten"),
        (
            {"history/1__1/ExtensionsConfig.xml": _UPLOAD.format("a"), "ExtensionsConfig.1.xml": _UPLOAD.format("b")},
            "a",
        ),
        ({"history/1__1/ExtensionsConfig.xml": _UPLOAD.format("a"), "history/2__2/VmSettings.json": "{}"}, "a"),
        ({"history/1__1/VmSettings.json": "[]", "history/1__1/ExtensionsConfig.xml": "\0"}, ""),
        ({"history/1__1.zip": ""}, ""),
        ({}, ""),
    ],
)
def test_the_storage_host_of_the_newest_goal_state(files: dict[str, str], host: str, tmp_path: Path) -> None:
    """In either layout; an older one where the newest names none."""
    for name, text in files.items():
        file = tmp_path / waagent.LIB_DIR.lstrip("/") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    found = waagent.upload_host(LiveMachine(str(tmp_path)))
    assert found == (f"{host}.blob.core.windows.net" if host else "")


# ------------------------------------------------------------------------------------------------------------- log


def facts_of(log: bytes, until: str | None = None) -> LogFacts:
    facts = LogFacts()
    for record in waagent.records(log if until is None else log[: log.index(f"##### {until}".encode())]):
        facts = waagent.fold(facts, record)
    return facts


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_captured_log_is_understood(path: Path) -> None:
    """Of every captured log the versions and the Python are known, and only the agent's own levels come up."""
    log = path.read_bytes()
    facts = facts_of(log)
    version = path.name.split("-")[1]
    assert (facts.daemon_version, facts.python) == (version, "3.11.2")
    assert facts.worker_version == version
    assert {record.level for record in waagent.records(log)} <= {"VERBOSE", "INFO", "WARNING", "ERROR"}


def test_a_crash_loop_is_counted() -> None:
    """While the wire server was gone, agent 2.7.3.0's worker crashed every 31 s with `etype`."""
    log = (DATA / "logs/waagent-2.7.3.0-S1-wireserver-down-and-back.log").read_bytes()
    facts = facts_of(log, "wireserver back")
    assert len(facts.worker_failures) >= 4
    beats = [later - earlier for earlier, later in zip(facts.worker_failures, facts.worker_failures[1:])]
    assert all(30 < beat < 34 for beat in beats)
    assert facts.worker_failure == "format_exception() got an unexpected keyword argument 'etype'"


def test_a_lost_goal_state_and_its_recovery() -> None:
    """Agent 2.15.0.1 says that it cannot fetch, that its report is not delivered, and later that it has recovered."""
    log = (DATA / "logs/waagent-2.15.0.1-S1-wireserver-down-and-back.log").read_bytes()
    lost, whole = facts_of(log, "wireserver back"), facts_of(log)
    assert lost.goal_state_error is not None and lost.goal_state_good is not None
    assert lost.goal_state_error > lost.goal_state_good
    assert lost.status_error_text is not None and "either channel" in lost.status_error_text
    assert whole.goal_state_good is not None and whole.goal_state_good > lost.goal_state_error


_BEAT = (
    "[HEARTBEAT] Agent WALinuxAgent-2.2.54.2 is running as the goal state agent [DEBUG HeartbeatCounter: 1"
    ";HeartbeatId: A;DroppedPackets: 0;UpdateGSErrors: {};AutoUpdate: 0]"
)


def _log_of(*texts: str) -> bytes:
    return "".join(f"2026-11-23T00:00:0{n}.000000Z INFO ExtHandler {text}\n" for n, text in enumerate(texts)).encode()


@pytest.mark.parametrize(
    ("text", "stands"),
    [
        ("ProcessGoalState started [Incarnation: 3; Activity Id: x]", False),  # 2.2.54 to 2.3.1
        ("ProcessExtensionsInGoalState started [Incarnation: 3]", False),
        (_BEAT.format(0), False),
        (_BEAT.format(3), True),
        ("Fetch goal state completed", True),
    ],
)
def test_what_takes_a_goal_state_error_back(text: str, stands: bool) -> None:
    """A goal state that is processed, or a heartbeat that counts no failed fetch."""
    facts = facts_of(_log_of("Fetching the goal state failed: [ProtocolError] x", text))
    assert (facts.goal_state_error is not None) is stands


def test_a_certificate_error_of_an_old_agent_ends_with_the_next_fetch() -> None:
    """Agents before 2.6 log the end of a fetch only, after the error as well as without one."""
    lost = ("Failed to decrypt /var/lib/waagent/Certificates.p7m (return code: 1)", "Fetch goal state completed")
    assert facts_of(_log_of(*lost)).certificate_error is not None
    assert facts_of(_log_of(*lost, "Fetch goal state completed")).certificate_error is None
    assert facts_of(_log_of(*lost, *lost)).certificate_error is not None


def test_the_package_of_our_extension_alone_counts() -> None:
    """The name may stand before or after the words; another extension's package is none of our business."""
    words = "Failed to download artifacts: [ExtensionDownloadError] x"
    for text in (f"ExtHandler [{waagent.VMSNAPSHOT}-1.0] {words}", f"{words} of {waagent.VMSNAPSHOT}"):
        assert facts_of(_log_of(text)).package_error_text == text
    assert facts_of(_log_of(f"ExtHandler [Contoso.Monitor-1.0] {words}")).package_error is None


def test_a_daemon_in_protocol_detection() -> None:
    """The tries of a daemon that found no wire server at its start are counted, and forgotten once one answers."""
    log = (DATA / "logs/waagent-2.7.3.0-S2-wireserver-absent-at-start.log").read_bytes()
    assert facts_of(log, "wireserver appears").protocol_retries >= 1
    assert facts_of(log).protocol_retries == 0


def test_a_start_makes_the_past_moot() -> None:
    """What the log complained of before the daemon's last start counts no more; the order of events does."""
    record = waagent.Record(10.0, "INFO", "Daemon", "Daemon Run daemon")
    before = LogFacts(
        daemon_version="2.15.0.1", worker_failures=(1.0, 2.0, 3.0), goal_state_error=4.0, certificate_error=5.0
    )
    assert waagent.fold(before, record) == LogFacts(daemon_version="2.15.0.1")


def test_records_have_their_continuation_lines() -> None:
    """A record reaches to the next line that begins with a time; what stands before the first is left out."""
    data = (
        b"rest of a record\n2026-11-23T00:00:01.5Z ERROR ExtHandler ExtHandler boom\nTraceback\n  2026-11-23\n"
        b"2018/03/05 14:31:57.742721 INFO old\n2026-11-23T99:00:01.5Z INFO Daemon not a time\n"
    )
    first, second = waagent.records(data)
    assert first.text == "ExtHandler boom\nTraceback\n  2026-11-23"
    assert (second.level, second.thread) == ("INFO", "")
    assert second.text == "old\n2026-11-23T99:00:01.5Z INFO Daemon not a time\n"


def test_a_record_is_bounded() -> None:
    """A record of megabytes takes no more memory than one of a few thousand characters."""
    data = b"2026-11-23T00:00:01.5Z INFO Daemon x" + b"\ny" * 1_000_000
    assert [len(record.text) for record in waagent.records(data)] == [4000]


def _log_machine(root: Path, memory: dict[str, Any]) -> CapturedMachine:
    return CapturedMachine(str(root), 0.0, memory)


def test_a_log_is_followed_from_look_to_look(tmp_path: Path) -> None:
    """Read in pieces at any place, rotated in between, the log gives the same facts as read at once."""
    whole = (DATA / "logs/waagent-2.7.3.0-S1-wireserver-down-and-back.log").read_bytes()
    log = tmp_path / "var/log/waagent.log"
    log.parent.mkdir(parents=True)
    memory: dict[str, Any] = {}
    cuts = [0, 10_000, 10_001, 20_345, 33_333, len(whole)]
    for number, (start, end) in enumerate(zip(cuts, cuts[1:])):
        with log.open("ab") as file:
            file.write(whole[start:end])
        if number != 2:  # one look is missed before the rotation
            facts, kept = waagent.follow_log(_log_machine(tmp_path, memory))
            memory = dict(kept)
        if number == 2:
            log.rename(log.with_name("waagent.log.1"))
            log.touch()
    # A record that was cut by a look or by the rotation may lose its end; its beginning is what is matched.
    expected = facts_of(whole)
    assert replace(facts, worker_failure=None) == replace(expected, worker_failure=None)


def test_no_secret_is_remembered(tmp_path: Path) -> None:
    """What a look remembers of the log leaves the process, so that secrets are taken out of it as well."""
    line = "2026-11-23T00:00:01.5Z ERROR ExtHandler ExtHandler Error fetching the goal state: https://x?sig=tOpSeCrEt&se=1\n"
    at = furnish({"files": {waagent.LOG: line}, "at": "2026-11-23T00:00:05Z"}, tmp_path)
    settings = config.load(catalogue.SETTINGS)
    (looked,) = look.look([probes.probe("agent")], lambda memory: ScenarioMachine(tmp_path, at, {}, memory), settings)
    assert "sig=[redacted]&se=1" in str(looked.memory)
    assert "tOpSeCrEt" not in str(looked)


def test_a_huge_log_is_read_from_its_end(tmp_path: Path) -> None:
    """Of a log of any size only the end is read, and what was skipped ends what was remembered."""
    log = tmp_path / "var/log/waagent.log"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"2026-11-23T00:00:01.5Z ERROR ExtHandler ExtHandler Error fetching the goal state: gone\n")
    facts, memory = waagent.follow_log(_log_machine(tmp_path, {}))
    assert facts.goal_state_error is not None
    with log.open("r+b") as file:
        file.truncate(2 << 30)  # a sparse file of 2 GiB
        file.seek(0, 2)
        file.write(b"\n2026-11-23T01:00:01.5Z INFO Daemon Daemon Python: 3.11.2\n")
    facts, _ = waagent.follow_log(_log_machine(tmp_path, dict(memory)))
    assert (facts.python, facts.goal_state_error) == ("3.11.2", None)


# ------------------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize("version", ["2.7.3.0", "2.15.0.1"])
def test_a_captured_library(version: str, tmp_path: Path) -> None:
    """Both layouts give the newest report, the wanted handlers and the handler's directory."""
    furnish({"base": f"libdir-{version}"}, tmp_path)
    machine = CapturedMachine(str(tmp_path))
    report = waagent.newest_report(machine)
    assert (report.agent_version, report.agent_status) == (version, "Ready")
    handler = report.handler(waagent.VMSNAPSHOT)
    assert handler is not None
    assert (handler.status, handler.code, handler.sequence) == ("Ready", 0, 1)
    _, (wanted,) = waagent.wanted_handlers(machine)
    assert wanted == waagent.WantedHandler(waagent.VMSNAPSHOT, "1.0.9220.0", "enabled")
    (directory,) = waagent.handler_directories(machine.names(waagent.LIB_DIR))
    assert (directory.name, directory.version) == (waagent.VMSNAPSHOT, "1.0.9220.0")


def test_the_agents_parser_is_replayed() -> None:
    """First-character comments, last duplicate, cut at #, quotes, the literal None, and only y and n as switches."""
    values = waagent.parse_config(
        b'#A=1\n # B=2\nC = "3" # note\nD=None\nE=1\nE=2\nno equals\nF=y\nG=yes\nH=N\nI=a=b\n\xff\xfe=1\n'
    )
    assert values["# B"] is None or values["# B"] == "2"
    assert "A" not in values
    assert (values["C"], values["D"], values["E"], values["I"]) == ("3", None, "2", "a=b")
    switches = {key: waagent.switch(values, key, True) for key in "FGHX"}
    assert switches == {"F": True, "G": True, "H": False, "X": True}
    assert not waagent.switch(values, "G", False)


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        ((), ""),
        (("/usr/bin/mysqld", "--password=x"), "/usr/bin/mysqld"),
        (("/usr/bin/python3", "-u", "/opt/tool.py", "--token", "x"), "/usr/bin/python3 /opt/tool.py"),
        (("python3.11", "-c", "token = 1"), "python3.11"),
        (("/bin/sh", "-ec", "echo x"), "/bin/sh"),
    ],
)
def test_a_strangers_arguments_are_not_told(argv: tuple[str, ...], shown: str) -> None:
    """Only the program, and of an interpreter its script."""
    assert waagent.program(Process(1, 0, argv, "S", 0.0)) == shown


@pytest.mark.parametrize(
    ("argv", "role"),
    [
        (("/usr/bin/python3", "-u", "/usr/sbin/waagent", "-daemon"), "daemon"),
        (("/usr/bin/python3", "/usr/sbin/waagent", "-daemon"), "daemon"),
        (("/usr/libexec/platform-python", "-u", "/usr/sbin/waagent", "-daemon"), "daemon"),
        (("/usr/bin/python3", "-u", "/usr/bin/waagent", "-daemon"), "daemon"),
        (("/usr/bin/python3", "-u", "/usr/sbin/waagent", "-run-exthandlers"), "worker"),
        (("python3", "-u", "bin/WALinuxAgent-2.9.1.1-py2.7.egg", "-run-exthandlers"), "worker"),
        (("/usr/bin/python3", "-u", "/usr/sbin/waagent", "-collect-logs"), "none"),
        (("/usr/bin/python3", "main/handle.py", "-seqNo:1", "-daemon"), "none"),
        (("vi", "/var/log/waagent.log"), "none"),
        (("grep", "-daemon", "/usr/sbin/nginx"), "none"),
        ((), "none"),
    ],
)
def test_the_agents_processes_are_known_by_their_arguments(argv: tuple[str, ...], role: str) -> None:
    """Every distribution's way to start the agent is known, and nothing else is taken for it."""
    found = waagent.agent_processes((Process(7, 1, argv, "S", 0.0),))
    assert (found.daemon is not None, found.worker is not None) == (role == "daemon", role == "worker")


class _Watched(FakeMachine):
    """A machine that tells which files were read."""

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        self.asked.append(path)
        return super().read(path, limit)


def test_versions_that_do_not_count_are_not_asked() -> None:
    """The directory of an old version may lie where nobody answers; the one that counts is told without it."""
    handler = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}"
    files = {f"{handler}-{version}/config/HandlerState": "Enabled" for version in ("1.0.0.0", "1.0.9220.0")}
    machine = _Watched(files=dict(files))
    counts = waagent.current_directory(machine, waagent.VMSNAPSHOT)
    assert counts is not None
    assert counts.version == "1.0.9220.0"
    assert not any("1.0.0.0" in path for path in machine.asked)
    machine.files[f"{handler}-1.0.9220.0/config/HandlerState"] = "NotInstalled"
    counts = waagent.current_directory(machine, waagent.VMSNAPSHOT)
    assert counts is not None
    assert counts.version == "1.0.0.0"


# ------------------------------------------------------------------------------------------------ is it at work?

_WORKER = Process(20, 10, ("python3", "-u", "/usr/sbin/waagent", "-run-exthandlers"), "S", 100.0)


def _line(second: int, text: str) -> str:
    return f"2026-11-23T00:24:{second:02}.000000Z INFO ExtHandler ExtHandler {text}\n"


STARTED = {
    "2.7": _line(6, "ProcessExtensionsInGoalState started [Incarnation: 1; Activity Id: a33f]"),
    "2.15": _line(6, "ProcessExtensionsGoalState started [incarnation_1 channel: WireServer]"),
}
COMPLETED = {
    "2.7": _line(9, "ProcessExtensionsInGoalState completed [Incarnation: 1; 4024 ms]"),
    "2.15": _line(9, "ProcessExtensionsGoalState completed [incarnation_1 4122 ms]"),
}
BEGAN = 1795393446.0


@pytest.mark.parametrize("version", STARTED)
def test_a_round_that_has_begun_and_not_ended_is_under_way(version: str) -> None:
    """Since its beginning, in the words of either agent."""
    started, completed = STARTED[version].encode(), COMPLETED[version].encode()
    assert waagent.round_under_way(started) == BEGAN
    assert waagent.round_under_way(started + completed) is None
    assert waagent.round_under_way(started + completed + started) == BEGAN
    assert waagent.round_under_way(completed) is None
    assert waagent.round_under_way(b"") is None


@pytest.mark.parametrize(
    "start",
    [
        "Daemon Run daemon",
        "Azure Linux Agent (Goal State Agent version 2.15.0.1)",
        "Agent WALinuxAgent-2.7.3.0 is running as the goal state agent",
        "WALinuxAgent-2.15.0.1 running as process 94",
    ],
)
def test_a_start_of_the_agent_ends_what_was_under_way(start: str) -> None:
    """Of the daemon or of the worker; a heartbeat is no start."""
    line = _line(7, start).replace("ExtHandler ExtHandler Daemon", "Daemon Daemon")
    assert waagent.round_under_way((STARTED["2.15"] + line).encode()) is None
    beat = _line(8, "[HEARTBEAT] Agent WALinuxAgent-2.7.3.0 is running as the goal state agent [DEBUG Heartbeat: 0]")
    assert waagent.round_under_way((STARTED["2.15"] + beat).encode()) == BEGAN


@pytest.mark.parametrize("log", [log for log in LOGS if log.name.startswith("waagent-")], ids=lambda log: log.stem)
def test_at_each_moment_of_a_real_log_one_round_at_most_is_under_way(log: Path) -> None:
    """Cut behind any of its beginnings it is; at its end none, but in the one whose agent was ended in the middle."""
    data = log.read_bytes()
    assert (waagent.round_under_way(data) is not None) is log.name.endswith("-S8-handler-failures.log")
    for match in re.finditer(rb"[^\n]*GoalState started [^\n]*\n", data):
        assert waagent.round_under_way(data[: match.end()]) is not None


def test_the_agent_is_busy_while_its_worker_lives_and_no_longer_than_a_round_lasts() -> None:
    """Without a log, without a worker, and with a beginning that is long ago, it is not."""
    machine = FakeMachine(files={waagent.LOG: STARTED["2.15"].encode()}, table=(_WORKER,), clock=BEGAN + 60.0)
    assert waagent.busy(machine) == "the agent works on its extensions since 2026-11-23T00:24:06Z"
    machine.clock = BEGAN - 60.0
    assert waagent.busy(machine)
    machine.clock = BEGAN + 91 * 60.0
    assert waagent.busy(machine) == ""
    machine.clock = BEGAN
    machine.table = ()
    assert waagent.busy(machine) == ""
    machine.table = (_WORKER,)
    del machine.files[waagent.LOG]
    assert waagent.busy(machine) == ""
