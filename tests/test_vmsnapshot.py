"""The extension's formats: its codes, the history of its runs, and whatever else a file may hold."""

from __future__ import annotations

import configparser
import contextlib
import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import probes, vmsnapshot, waagent
from backupready.model import Absent, CannotTell, Finding, Process, Reading
from backupready.probes import past
from backupready.vmsnapshot import CODES, Health, Kind, LogRun, Outcome
from fake import NOW, FakeMachine, configuration, healthy
from history import LOG, PROVIDER, V1, Run, history, status

HANDLER = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9220.0"
DAY = 86400.0
# Noted in the place of an HTTP status, never the code of a run.
PSEUDO = (vmsnapshot.NO_ANSWER, vmsnapshot.EMPTY_ANSWER, vmsnapshot.EXCEPTION)
RESULTS = sorted(set(CODES) - set(PSEUDO))


def machine(runs: list[Run], **how: Any) -> FakeMachine:
    """A healthy machine with this history instead of its own."""
    made = healthy()
    del made.files[f"{HANDLER}/status/0.status"]
    made.files |= {f"/{path}": text for path, text in history(runs, **how).items()}
    return made


# ------------------------------------------------------------------------------------------------------- its codes


def test_the_table_of_codes_is_complete() -> None:
    """Every code and range of the extension's own enumeration, and the four that stand in the place of a status."""
    assert set(CODES) == {
        *range(5), *range(11, 18), 76, 85, *range(121, 125), 173, *range(300, 319), 402, *range(500, 513),
        *range(555, 559), 761,
    }  # fmt: skip
    assert all(number == code.number for number, code in CODES.items())
    assert len({code.name for code in CODES.values()}) == len(CODES)


def test_a_code_has_the_colour_that_the_extension_gives_it() -> None:
    """Red, yellow and green as its own dictionary has them; the generic failure is green there."""
    red = {number for number, code in CODES.items() if code.health is Health.RED}
    yellow = {number for number, code in CODES.items() if code.health is Health.YELLOW}
    none = {number for number, code in CODES.items() if code.health is Health.NONE}
    assert red == {15, 76, 85, 402, 761}
    assert yellow == {11, 16, *range(121, 125), *range(300, 319), *range(500, 513)}
    assert none == {13, 14, *range(555, 559)}
    assert {number for number, code in CODES.items() if code.kind is Kind.SUCCESS} == {0, 1}


# Declared by the probes of other subjects.
OF_OTHERS = {
    "ACCESS_CONTROL_DENIES", "CLOCK_SKEWED", "CONFIG_BREAKS_EXTENSION", "CPU_SATURATED", "DHCP_NO_ENDPOINT",
    "EXTENSION_TOOL_MISSING", "FILE_SYSTEM_ERRORS", "FREEZE_CONFIG_WRONG", "FREEZE_LOCK_HELD",
    "INTERPRETER_INCOMPATIBLE", "IO_STALLED", "MEMORY_EXHAUSTED", "MOUNT_READ_ONLY", "MOUNT_TWICE",
    "MOUNT_UNRESPONSIVE", "SCRIPT_CONFIG_INVALID", "SCRIPT_MISSING", "SCRIPT_PERMISSIONS", "SCRIPT_TIMEOUT",
    "STORAGE_UNREACHABLE",
}  # fmt: skip


def test_what_is_pointed_at_exists() -> None:
    """No code and no name of the portal points at a problem that nobody declares."""
    declared = {problem.code for problem in probes.PROBLEMS} | OF_OTHERS
    for code in CODES.values():
        assert set(code.points) <= declared, code.number
    for error in vmsnapshot.PORTAL_ERRORS.values():
        assert set(error.points) <= declared, error.name
        assert set(error.codes) <= set(CODES)


def test_every_name_of_the_portal_is_found() -> None:
    """Those that the codes name too, in any case, with or without the word that most begin with."""
    for code in CODES.values():
        for name in code.portal:
            error = vmsnapshot.portal_error(name.upper())
            assert error is not None
            assert code.number in error.codes or code.number in PSEUDO
    assert vmsnapshot.portal_error("FsFreezeFailed") == vmsnapshot.portal_error("usererrorfsfreezefailed")
    both = vmsnapshot.portal_error("UserErrorFsFreezeFailed")
    assert both is not None
    assert both.codes == (121, 122)
    assert vmsnapshot.portal_error("UserErrorNothing") is None


# --------------------------------------------------------------------------------------------------------- history


def told(run: Run, number: int) -> tuple[Any, ...]:
    """What must be read back of a run."""
    consistency = {0: "application", 1: "file_system"}.get(run.code, "none")
    return number, run.code, run.ended, "crash" if run.consistency == 3 and run.code == 1 else consistency, run.path


def read_back(outcome: Outcome) -> tuple[Any, ...]:
    return outcome.sequence, outcome.code, outcome.time, outcome.consistency, outcome.path


def test_every_code_is_read_back() -> None:
    """A history with each result once, in status files and in the log, newest first."""
    runs = [Run(NOW - DAY * (len(RESULTS) - n), code, path="guest" if n % 2 else "host") for n, code in
            enumerate(RESULTS)]  # fmt: skip
    outcomes = vmsnapshot.outcomes(machine(runs))
    assert [read_back(one) for one in outcomes] == [told(run, n) for n, run in enumerate(runs, 1)][::-1]
    assert [one.kind for one in outcomes] == [CODES[code].kind for code in reversed(RESULTS)]


@st.composite
def histories(draw: st.DrawFn) -> list[Run]:
    """Thirty runs, hours to days apart."""
    runs, moment = [], NOW
    for _ in range(30):
        moment -= draw(st.integers(3600, 200_000))
        code = draw(st.sampled_from(RESULTS))
        runs.append(
            Run(
                moment,
                code,
                seconds=draw(st.integers(10, 3000)),
                consistency=draw(st.sampled_from([0, 3])) if code == 1 else 0,
                path=draw(st.sampled_from(["host", "guest"])),
                vm_type=draw(st.sampled_from([V1, Run.vm_type])),
                text_codes=draw(st.booleans()),
                logged=draw(st.booleans()),
            )
        )
    return runs[::-1]


@given(runs=histories(), old=st.booleans(), first=st.integers(0, 200))
def test_a_history_of_thirty_runs_is_read_back_exactly(runs: list[Run], old: bool, first: int) -> None:
    """Each once, whichever of both sources has it, with its number, code, time, consistency, path and duration."""
    outcomes = vmsnapshot.outcomes(machine(runs, first=first, old_log=old))
    assert [read_back(one) for one in outcomes] == [told(run, n) for n, run in enumerate(runs, first)][::-1]
    for run, outcome in zip(reversed(runs), outcomes):
        took = run.seconds if run.logged else run.seconds + 20  # else it is counted from the request
        expected = None if run.code == 4 else pytest.approx(took, abs=1.01)
        assert outcome.duration == expected


@given(runs=histories())
def test_the_log_alone_tells_the_results(runs: list[Run]) -> None:
    """Without a status file the log's lines count; its crash-consistent successes look like others there."""
    made = machine([replace(run, logged=True, consistency=0) for run in runs])
    made.files = {path: text for path, text in made.files.items() if "/status/" not in path}
    outcomes = vmsnapshot.outcomes(made)
    assert [(one.sequence, one.code, one.kind) for one in outcomes] == [
        (number, run.code, CODES[run.code].kind) for number, run in reversed(list(enumerate(runs, 1)))
    ]


def test_status_files_of_an_older_version_count() -> None:
    """After an update of the extension the history goes on in another directory."""
    made = machine([Run(NOW - DAY, 1)], first=31)
    older = history([Run(NOW - 2 * DAY, 121), Run(NOW - 3 * DAY, 76)][::-1], version="1.0.9187.0", first=29)
    made.files |= {f"/{path}": text for path, text in older.items() if "/status/" in path}
    assert [one.code for one in vmsnapshot.outcomes(made)] == [1, 121, 76]


def test_no_record_is_no_outcome() -> None:
    """A machine that was never backed up, with and without the extension."""
    assert vmsnapshot.outcomes(FakeMachine()) == ()
    assert vmsnapshot.outcomes(machine([])) == ()


def test_a_broken_old_file_is_passed_over_and_a_broken_new_one_is_unknown() -> None:
    """The newest result must not be guessed from the one before it, unless the log has it."""
    runs = [Run(NOW - 3 * DAY, 121, logged=False), Run(NOW - 2 * DAY, 1, logged=False), Run(NOW - DAY, 76)]
    made = machine(runs)
    made.files[f"{HANDLER}/status/1_status"] = "{"
    assert [one.code for one in vmsnapshot.outcomes(made)] == [76, 1]
    made.files[f"{HANDLER}/status/3.status"] = "[]"
    assert [one.code for one in vmsnapshot.outcomes(made)] == [76, 1]
    del made.files[vmsnapshot.LOG]
    with pytest.raises(CannotTell, match="3.status is no status file"):
        vmsnapshot.outcomes(made)


def test_no_file_may_be_read() -> None:
    """That is not the same as a machine without a record."""
    made = FakeMachine(files={vmsnapshot.LOG: CannotTell("no permission")})
    with pytest.raises(CannotTell, match="no permission"):
        vmsnapshot.outcomes(made)


def test_the_outer_word_does_not_count() -> None:
    """Of a V2 machine it is success, whatever the code."""
    text = status(Run(NOW, 121), 7)
    assert json.loads(text)[0]["status"]["status"] == "success"
    outcome = vmsnapshot.parse_status(text.encode(), "x/7.status")
    assert (outcome.code, outcome.health, outcome.kind, outcome.sequence) == (121, 121, Kind.FAILURE, 7)


def test_a_status_without_an_outer_time() -> None:
    """The inner report's counts, then the file's own."""
    document = json.loads(status(Run(NOW, 1), 7))
    del document[0]["timestampUTC"]
    assert vmsnapshot.parse_status(json.dumps(document).encode(), "7.status").time == NOW
    document[0]["status"]["substatus"] = []
    assert vmsnapshot.parse_status(json.dumps(document).encode(), "7.status", 5.0).time == 5.0
    with pytest.raises(CannotTell, match="has no time"):
        vmsnapshot.parse_status(json.dumps(document).encode(), "7.status")


def test_a_signature_does_not_come_out() -> None:
    """Of an address the query is cut off, which may be one."""
    run = Run(NOW, 2, message="PUT https://md-x.blob.core.windows.net/a/b?sv=2018&sig=SECRET%3D failed, sig=SECRET2 ")
    made = machine([run])
    (outcome,) = vmsnapshot.outcomes(made)
    assert "SECRET" not in repr(outcome)
    assert "PUT https://md-x.blob.core.windows.net/a/b?… failed" in outcome.message


# ------------------------------------------------------------------------------------------------------- its log


def runs_of(*runs: Run, **how: Any) -> tuple[LogRun, ...]:
    return vmsnapshot.parse_log(history(list(runs), **how)[LOG].encode())


@pytest.mark.parametrize("old", [False, True])
def test_a_run_in_the_log(old: bool) -> None:
    """Start, freeze, thaw and end, in both forms of a line, and nothing of what comes after its end."""
    (run,) = runs_of(Run(NOW, 121, seconds=40), old_log=old)
    assert (run.started, run.frozen, run.thawed, run.time) == (NOW - 40, NOW - 35, NOW - 33, NOW)
    assert (run.code, run.status, run.path, run.sequence) == (121, "error", "host", 1)
    assert run.message == "T:S Enable failed with code 121 error StatusCode.121,"
    assert not run.host
    assert not run.trouble


def test_an_agent_that_is_started_again_is_no_run() -> None:
    """The extension skips a request that it has dealt with, also while that request is still under way."""
    log = history([Run(NOW, 1)])[LOG]
    skip = "".join(
        f"2026-11-23 00:22:50.000000 [{waagent.VMSNAPSHOT}-1.0]{text}\n"
        for text in ("starting enable", "the sequence number are same, so skip, current:1== last:1")
    )
    lines = log.splitlines(keepends=True)
    middle = next(place for place, line in enumerate(lines) if "PreSnapshot" in line)
    for text in (log + skip, skip + log, "".join(lines[:middle]) + skip + "".join(lines[middle:])):
        (run,) = vmsnapshot.parse_log(text.encode())
        assert (run.code, run.time, run.started) == (1, NOW, NOW - 40)


def test_a_log_that_begins_in_the_middle() -> None:
    """Its first run has no start, and its result counts."""
    log = history([Run(NOW - DAY, 76), Run(NOW, 1)])[LOG]
    runs = vmsnapshot.parse_log(log[log.index("Enable,error,76") - 120 :].encode())
    assert [(run.code, run.started is None) for run in runs] == [(76, True), (1, False)]


def test_a_traceback_is_told_by_its_end() -> None:
    """What was tried, and the exception."""
    (run,) = runs_of(Run(NOW, 76, lines=(PROVIDER,)))
    (text,) = run.trouble
    assert text.startswith("Failed to construct ConfigurationProvider, which may be due to the old code: TypeError: ")
    assert text.endswith("sequence item 1: expected str instance, NoneType found")


@pytest.mark.parametrize(
    ("line", "answers"),
    [
        ("PreSnapshot: Status Code: 555", (555,)),
        ("presnapshot Hitting wrong WireServer IP", (555,)),
        ("BHS is not runnning on host machine", (556,)),
        ("DoSnapshot: responseBody is empty but http status code is success", (557,)),
        ("Failed to do the pre snapshot in host with error: x", (558,)),
        ("From Host- IsSuccessful:false, SnapshotUri:, ErrorMessage:no, StatusCode:409", (409,)),
        ("From Host- IsSuccessful:true, SnapshotUri:https://x/y, ErrorMessage:, StatusCode:200", ()),
        ("PreSnapshot: Status Code: 201", ()),
        (" resp status: 403", ()),  # of an upload
    ],
)
def test_what_the_host_answered(line: str, answers: tuple[int, ...]) -> None:
    """Everything but success, in the extension's own words."""
    (run,) = runs_of(Run(NOW, 76, lines=(line,)))
    assert run.host == answers


def test_what_the_storage_answered_the_guest() -> None:
    """Only between the marks of the guest's own snapshot."""
    log = history([Run(NOW, 76, path="guest")])[LOG]
    log = re.sub(r"(.*\*\*\*\*\*\* 6\. )", "2026/11/23 00:22:28.000000  Info   resp status: 409 \n\\1", log)
    (run,) = vmsnapshot.parse_log(log.encode())
    assert (run.host, run.path) == ((409,), "guest")


@pytest.mark.parametrize(
    ("argv", "is_run"),
    [
        (("/usr/bin/python3", "main/handle.py", "-seqNo:2", "-daemon"), True),
        (("/bin/sh", "/var/lib/waagent/x/main/handle.sh", "daemon"), True),
        (("main/safefreeze/bin/safefreeze", "60", "/"), True),
        (("/usr/bin/python3", "-u", "/usr/sbin/waagent", "-daemon"), False),
        (("python3", "main/handle_host_daemon.py"), False),
    ],
)
def test_a_run_is_known_by_its_processes(argv: tuple[str, ...], is_run: bool) -> None:
    """Its daemon and its freeze binary, alive."""
    assert (vmsnapshot.running([Process(7, 1, argv, "S", 0.0)]) is not None) == is_run
    assert vmsnapshot.running([Process(7, 1, argv, "Z", 0.0)]) is None


# --------------------------------------------------------------------------------------------------- whatever bytes

_PIECES = st.sampled_from(
    [
        b"{", b"}", b"[", b"]", b'"', b",", b"\n", b" ", b"\x00", b"\xff", b"null", b"1e999", "٣".encode(),
        b'[{"timestampUTC":"2026-11-23T00:23:00Z","status":', b'{"code":"4"}}]', b'{"code":1,"substatus":[{"name":"',
        b"2026-11-23 00:22:48.792020 [x-1.0]", b"2026/11/23 00:22:48  Info  ", b"2026-99-99 00:00:00 [x-1.0]",
        b"starting enable", b"starting daemon initially", b"Enable,success,1,", b"Enable,error,76,x,False",
        b"same, so skip", b"Traceback (most recent call last):\n", b"Failed to construct ConfigurationProvider",
        b"From Host- StatusCode:409", b"PreSnapshot: Status Code: 555", b"****** 5. Snaphotting (Guest-seq) Started",
        b"sequence number based on config file-names is 3", b"https://x/?sig=y",
    ]
)  # fmt: skip
ANY_BYTES = st.one_of(st.binary(max_size=400), st.lists(_PIECES, max_size=16).map(b"".join))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(data=ANY_BYTES)
def test_a_parser_can_only_not_tell(data: bytes) -> None:
    """Whatever the bytes are, there is a value or CannotTell."""
    for run in vmsnapshot.parse_log(data):
        assert len(run.message) <= 500
    try:
        assert isinstance(vmsnapshot.parse_status(data, "3.status"), Outcome)
    except CannotTell as error:
        assert error.why


@given(data=st.data())
def test_a_status_of_any_shape(data: st.DataObject) -> None:
    """Any value in any place gives an outcome whose properties hold, or CannotTell."""
    inner = {
        "timestampUTC": data.draw(JSON | st.just("\\/Date(99999999999999)\\/")),
        "status": data.draw(JSON | st.fixed_dictionaries({"telemetryData": JSON, "vmHealthInfo": JSON})),
    }
    document = [
        {
            "timestampUTC": data.draw(JSON | st.just("2026-11-23T00:23:00Z")),
            "status": {
                "code": data.draw(JSON | st.sampled_from(["1", 76, "9" * 19])),
                "substatus": data.draw(JSON | st.just([{"name": json.dumps([inner])}])),
                "formattedMessage": data.draw(JSON | st.just({"message": json.dumps(data.draw(JSON))})),
                "commandStartTimeUTCTicks": data.draw(JSON | st.just("639" + "9" * 15)),
                "taskId": data.draw(JSON),
            },
        }
    ]
    try:
        outcome = vmsnapshot.parse_status(json.dumps(document).encode(), "3_status", NOW)
    except CannotTell as error:
        assert error.why
    else:
        assert outcome.kind in Kind
        assert outcome.duration is None or outcome.duration >= 0


SETTINGS = configuration([past.PROBE]).section("past")


@given(files=st.fixed_dictionaries({"1_status": ANY_BYTES, "2.status": ANY_BYTES}), log=ANY_BYTES)
def test_the_probe_only_says_what_it_declares(files: dict[str, bytes], log: bytes) -> None:
    """Whatever stands in the files: findings, readings, or why it cannot be told."""
    made = healthy()
    made.files |= {f"{HANDLER}/status/{name}": data for name, data in files.items()} | {vmsnapshot.LOG: log}
    try:
        for seen in past.look(made, SETTINGS):
            assert isinstance(seen, (Finding, Reading, CannotTell))
            if isinstance(seen, Finding):
                json.dumps(dict(seen.evidence))
    except (Absent, CannotTell):
        pass


_VALUES = st.lists(
    st.sampled_from(["%(a)s", "%(b)s", "%(C)s", "%(none)s", "%%", "%", "%(", "x", "%()s", "%(a)", " ", "\\"]),
    max_size=4,
).map("".join)


@given(st.fixed_dictionaries({"a": _VALUES, "b": _VALUES, "c": _VALUES}))
def test_references_are_expanded_as_configparser_does_it(values: dict[str, str]) -> None:
    """Every value comes out as the extension's own parser gives it, or not at all."""
    data = "[SnapshotThread]\n" + "".join(f"{key} = {text}\n" for key, text in values.items())
    parser = configparser.ConfigParser()
    parser.read_string(data)
    wanted = {}
    for key in values:
        with contextlib.suppress(configparser.Error):
            wanted[key] = parser.get("SnapshotThread", key)
    assert vmsnapshot.effective_config(data.encode()) == ({"SnapshotThread": wanted}, "")


def test_references_that_multiply_are_given_up() -> None:
    """Some hundred bytes may mean millions of characters, or as many empty ones."""
    for end in ("x" * 10, ""):
        lines = [f"k{n} = {f'%(k{n + 1})s' * 20}" for n in range(9)]
        data = "\n".join(["[SnapshotThread]", *lines, f"k9 = {end}"]).encode()
        values, why = vmsnapshot.effective_config(data)
        assert not why
        assert "k0" not in values["SnapshotThread"]
        assert values["SnapshotThread"]["k8"] == end * 20


def test_a_configuration_that_the_extension_loses_is_empty() -> None:
    """Twice the same option loses it the whole file, as does a byte-order mark."""
    lost = healthy()
    for text in (
        "[SnapshotThread]\nSnapshotMethod=onlyGuest\nsnapshotmethod=onlyHost\n",
        "\ufeff[SnapshotThread]\na=b\n",
    ):
        lost.files[vmsnapshot.BACKUP_CONFIG] = text
        assert vmsnapshot.backup_config(lost) == {}


# ------------------------------------------------------------------------------------------- is a snapshot under way?


def test_a_freeze_is_told_by_its_binary_and_its_lock() -> None:
    """A lock that nobody holds, and a binary that has ended, are none."""
    machine = healthy()
    machine.files[vmsnapshot.FREEZE_LOCK] = ""
    assert vmsnapshot.frozen(machine) == ""
    machine.locks[vmsnapshot.FREEZE_LOCK] = 0
    assert vmsnapshot.frozen(machine) == "process ? holds the lock of a freeze"
    del machine.locks[vmsnapshot.FREEZE_LOCK]
    for state, why in (("D", "process 7 is the freeze binary"), ("Z", "")):
        machine.table = (Process(7, 1, ("/x/main/safefreeze/bin/safefreeze", "60", "/"), state, 0.0),)
        assert vmsnapshot.frozen(machine) == why


@pytest.mark.parametrize(
    ("age", "under_way"),
    [(0.0, True), (vmsnapshot.STUCK_AFTER, True), (vmsnapshot.STUCK_AFTER + 1, False), (-3600.0, True)],
)
def test_a_transitional_status_is_fresh_for_as_long_as_a_run_may_last(age: float, under_way: bool) -> None:
    """One from the future too; in the directory of any version, and only the newest of each."""
    machine = healthy()
    told = datetime.fromtimestamp(machine.clock - age, timezone.utc).isoformat()[:19] + "Z"
    folder = f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.9103.0/status"
    machine.files[f"{folder}/12.status"] = json.dumps([{"status": {"code": 4}, "timestampUTC": told}])
    assert bool(vmsnapshot.under_way(machine)) == under_way
    machine.files[f"{folder}/13.status"] = json.dumps([{"status": {"code": 1}, "timestampUTC": told}])
    assert vmsnapshot.under_way(machine) == ""


def test_the_newest_status_has_the_highest_number() -> None:
    """As a number, not as a text; what was renamed after its run is none."""
    machine = healthy()
    directory = waagent.HandlerDirectory(waagent.VMSNAPSHOT, "1.0.1", f"{waagent.LIB_DIR}/{waagent.VMSNAPSHOT}-1.0.1")
    assert vmsnapshot.newest_status(machine, directory) is None
    for name in ("9.status", "10.status", "11_status", "12.settings"):
        machine.files[f"{directory.path}/status/{name}"] = ""
    assert vmsnapshot.newest_status(machine, directory) == f"{directory.path}/status/10.status"
