"""Whatever lies in the agent's library: no plan loses what the extension knows of its last request, nor any other
file, and no content makes it anything but a plan or a refusal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupready import remedies, waagent
from backupready.model import (
    Absent,
    CannotTell,
    FileStatus,
    Finding,
    MakeDirectory,
    Process,
    Ran,
    Remedy,
    RestartUnit,
    SetAside,
    StartUnit,
    Step,
    Unsuitable,
    Wait,
)
from backupready.plan import describe
from backupready.remedies import clear_stale_snapshot_config, reinstall_extension, reload_extension, update_agent
from fake import NOW, FakeMachine, healthy

HANDLER = f"{waagent.VMSNAPSHOT}-1.0.9220.0"
OTHER = "Microsoft.Azure.Extensions.CustomScript-2.1.10"
IDENTITY = "task_identity_FD76C85E-406F-4CFA-8EB0-CF18B123365C"
KNOWN = (
    "mrseq", IDENTITY, "task_identity_2", "HandlerManifest.json", "HandlerEnvironment.json", "config/HandlerState",
    "config/HandlerStatus", "config/1.settings", "config/22.settings", "config/1_settings", "status/1.status",
    "status/22.status", "status/0_status", "main/handle.sh", "main/mrseq", "heartbeat.log", "machine_identity_FD76",
)  # fmt: skip
CACHED = ("ExtensionsConfig.7.xml", "Prod.7.agentsManifest", f"{waagent.VMSNAPSHOT}.7.manifest.xml", "GoalState.1.xml")
ENDED = '[{"status": {"code": 1}, "timestampUTC": "2026-11-23T00:20:00Z"}]'
STUCK = '[{"status": {"code": 4}, "timestampUTC": "2026-11-22T20:00:00Z"}]'
CASES = [
    (remedy, problem)
    for remedy in (reload_extension.REMEDY, reinstall_extension.REMEDY, clear_stale_snapshot_config.REMEDY)
    for problem in remedy.problems
]
name = st.one_of(st.sampled_from(KNOWN), st.from_regex(r"[a-zA-Z0-9_.]{1,12}(/[a-zA-Z0-9_.]{1,8})?", fullmatch=True))
plain = name.filter(lambda path: ".." not in path and "." not in path.split("/"))
contents = st.dictionaries(plain, st.binary(max_size=9))
Files = dict[str, bytes]


@dataclass
class Library:
    """Files by their path below the library. `aside` is what was set aside, by the path that it had; `starts` is what
    lay in the library at each start of the agent."""

    files: Files
    aside: Files = field(default_factory=dict)
    starts: list[Files] = field(default_factory=list)

    def carry_out(self, steps: Iterable[Step]) -> None:
        for step in steps:
            if isinstance(step, SetAside):
                moved = [path for path in self.files if path == step.path or path.startswith(f"{step.path}/")]
                assert moved, f"{step.path} is not there"
                for path in moved:
                    assert path not in self.aside
                    self.aside[path] = self.files.pop(path)
            elif isinstance(step, MakeDirectory):
                assert not any(path.startswith(f"{step.path}/") for path in self.files), f"{step.path} is there"
                for name in step.keep:
                    self.files[f"{step.path}/{name}"] = self.aside[f"{step.path}/{name}"]
            elif isinstance(step, (StartUnit, RestartUnit)):
                self.starts.append(dict(self.files))


def furnished(inside: Files, cached: frozenset[str]) -> FakeMachine:
    """A machine whose extension's directory holds just that, with another extension beside it."""
    machine = healthy()
    for path in [path for path in machine.files if f"/{HANDLER}/" in path]:
        del machine.files[path]
    paths = [path for path in inside if not any(other.startswith(f"{path}/") for other in inside)]
    machine.files.update({f"{waagent.LIB_DIR}/{HANDLER}/{path}": inside[path] for path in paths})
    for path in paths:
        if re.fullmatch(r"status/\d+\.status", path):
            machine.files[f"{waagent.LIB_DIR}/{HANDLER}/{path}"] = ENDED
    machine.files.update({f"{waagent.LIB_DIR}/{path}": "cached" for path in cached})
    for path in ("mrseq", "config/HandlerState", "config/1.settings", "status/1.status"):
        machine.files[f"{waagent.LIB_DIR}/{OTHER}/{path}"] = "another's"
    machine.files["/usr/bin/cloud-init"] = ""
    return machine


def library(machine: FakeMachine) -> Library:
    prefix = f"{waagent.LIB_DIR}/"
    files = {path[len(prefix) :]: machine.read(path) for path in machine.files if path.startswith(prefix)}
    return Library(files)


def tokens(files: Files) -> Files:
    """By what the extension knows which request it has taken up."""
    pattern = re.compile(rf"{re.escape(HANDLER)}/(mrseq|task_identity_[^/]*)")
    return {path: content for path, content in files.items() if pattern.fullmatch(path)}


def get_stuck(machine: FakeMachine) -> None:
    """A run that never ended, in the control group of the agent's unit."""
    group = "/azure.slice/walinuxagent.service"
    assert not isinstance(machine.units, CannotTell)
    unit = machine.units["walinuxagent.service"]
    machine.units["walinuxagent.service"] = {**unit, "ControlGroup": group, "KillMode": "control-group"}
    stuck = Process(300, 1, ("python3", "main/handle.py", "-daemon"), "S", NOW - 1e4)
    machine.table = (*healthy().processes(), stuck)
    machine.files["/proc/300/cgroup"] = f"0::{group}\n"
    machine.files[f"{waagent.LIB_DIR}/{HANDLER}/status/22.status"] = STUCK


@pytest.mark.parametrize(("remedy", "problem"), CASES, ids=lambda value: getattr(value, "name", value))
@settings(max_examples=30)
@given(inside=contents, cached=st.frozensets(st.sampled_from(CACHED)))
def test_nothing_is_lost(remedy: Remedy, problem: str, inside: Files, cached: frozenset[str]) -> None:
    """The agent never starts without mrseq and the task's identity as they were; what is gone from the library lies
    aside, byte for byte; and no file of another extension is touched."""
    machine = furnished(inside, cached)
    if problem == "EXTENSION_STUCK":
        get_stuck(machine)
    before = library(machine)
    after = library(machine)
    try:
        after.carry_out(remedy.plan(machine, Finding(problem)))
    except (Unsuitable, CannotTell):
        assert after == before
        return
    assert len(after.starts) == 1
    assert tokens(after.starts[0]) == tokens(before.files)
    assert {**after.files, **after.aside} == before.files
    others = {path: text for path, text in before.files.items() if path.startswith(f"{OTHER}/")}
    assert others.items() <= after.files.items()


@pytest.mark.parametrize(("remedy", "problem"), CASES, ids=lambda value: getattr(value, "name", value))
def test_the_usual_library_has_a_plan(remedy: Remedy, problem: str) -> None:
    """What is asked of any library is not held by never planning."""
    machine = furnished(dict.fromkeys(KNOWN, b"x"), frozenset(CACHED))
    if problem == "EXTENSION_STUCK":
        get_stuck(machine)
    after = library(machine)
    plan = list(remedy.plan(machine, Finding(problem)))
    after.carry_out(plan)
    assert set(tokens(after.starts[0])) == {f"{HANDLER}/{path}" for path in ("mrseq", IDENTITY, "task_identity_2")}
    aside = {step.path for step in plan if isinstance(step, SetAside)}
    if remedy is reload_extension.REMEDY:
        assert aside == {f"{HANDLER}/config/HandlerState"}
        assert plan[-1] == Wait(f"{HANDLER}/config/HandlerState", "Enabled", 420.0)
    elif remedy is reinstall_extension.REMEDY:
        assert aside == {HANDLER}
        assert {path for path in after.files if path.startswith(HANDLER)} == set(tokens(after.starts[0]))
    else:
        assert aside == {
            "EXTENSION_STUCK": {f"{HANDLER}/status/22.status"},
            "EXTENSION_STATE_FOREIGN": {f"{HANDLER}/{folder}/{n}.{end}" for folder, end in
                                        (("config", "settings"), ("status", "status")) for n in (1, 22)},
            "GOAL_STATE_CACHE_STALE": set(CACHED) - {"GoalState.1.xml"},
        }[problem]  # fmt: skip


def test_a_plan_that_lost_them_would_be_seen() -> None:
    """The property is not held by a blind test: without `keep` the agent starts without them."""
    machine = furnished({"mrseq": b"7", "config/HandlerState": b"Enabled"}, frozenset())
    plan = list(reinstall_extension.REMEDY.plan(machine, Finding("EXTENSION_STATE_WRONG")))
    lost = library(machine)
    lost.carry_out(step for step in plan if type(step).__name__ != "MakeDirectory")
    assert tokens(lost.starts[0]) == {}


ALL = [(remedy, problem) for remedy in remedies.REMEDIES for problem in (remedy.problems or ("",))]
FILES = sorted({*healthy().files, waagent.PID_FILE, f"{waagent.LIB_DIR}/ExtensionsConfig.7.xml"})


@pytest.mark.parametrize(("remedy", "problem"), ALL, ids=lambda value: getattr(value, "name", value))
@given(spoilt=st.dictionaries(st.sampled_from(FILES), st.binary(max_size=40) | st.sampled_from([b"[]", b"{}", b"4"])))
def test_no_content_is_a_defect(remedy: Remedy, problem: str, spoilt: Files) -> None:
    """With files of any content there is a plan, or a refusal that says why."""
    machine = healthy()
    machine.files.update(spoilt)
    try:
        assert list(remedy.plan(machine, Finding(problem)))
    except (Unsuitable, CannotTell) as error:
        assert str(error)


ODD = st.one_of(
    st.sampled_from(
        ["", "\n", "a\nb", " ", "-", "..", "\x00", "\u0661", "\u202e", "\udcff", "x" * 250, "`id`", "$(id)"]
    ),
    st.text(max_size=5),
)
PLACES = (
    f"{HANDLER}/task_identity_%s", f"{HANDLER}/%smrseq", f"{HANDLER}/config/7%s.settings",
    f"{HANDLER}/status/7%s.status", f"{waagent.VMSNAPSHOT}-1.0%s.9/mrseq", "Prod%s.agentsManifest",
    "%s.7.manifest.xml", "ExtensionsConfig.7%s.xml", "GoalState.%s.xml", f"{HANDLER}/%s", "%s",
)  # fmt: skip
paths = st.tuples(st.sampled_from(PLACES), ODD).map(lambda of: of[0] % of[1].replace("/", ""))


@pytest.mark.parametrize(("remedy", "problem"), ALL, ids=lambda value: getattr(value, "name", value))
@given(odd=st.frozensets(paths.filter(lambda path: path not in ("", ".", "..")), min_size=1, max_size=3))
def test_every_step_of_a_plan_can_be_told(remedy: Remedy, problem: str, odd: frozenset[str]) -> None:
    """Whatever the names in the library are: the hands accept each step, or the remedy does not fit and says so in one
    line that does no harm to a terminal."""
    machine = furnished(dict.fromkeys(KNOWN, b"x"), frozenset())
    if problem == "EXTENSION_STUCK":
        get_stuck(machine)
    for path in odd:
        machine.files.setdefault(f"{waagent.LIB_DIR}/{path}", ENDED)
    try:
        for step in remedy.plan(machine, Finding(problem)):
            assert describe(step).isprintable()
    except (Unsuitable, CannotTell) as error:
        assert str(error).isprintable()


@pytest.mark.parametrize(
    ("remedy", "problem", "path"),
    [
        (clear_stale_snapshot_config.REMEDY, "GOAL_STATE_CACHE_STALE", "a b.7.manifest.xml"),
        (reinstall_extension.REMEDY, "EXTENSION_STATE_WRONG", f"{HANDLER}/task_identity_\n"),
    ],
)
def test_a_name_that_is_not_plain_is_left_to_a_person(remedy: Remedy, problem: str, path: str) -> None:
    """Told before the first step, with the name in it."""
    machine = furnished(dict.fromkeys(KNOWN, b"x"), frozenset())
    assert problem == "GOAL_STATE_CACHE_STALE" or next(remedy.plan(machine, Finding(problem)))
    machine.files[f"{waagent.LIB_DIR}/{path}"] = ENDED
    with pytest.raises(Unsuitable, match="is no plain relative path, and nothing is done about such names") as raised:
        next(remedy.plan(machine, Finding(problem)))
    assert repr(path.rpartition("/")[2])[1:-1] in str(raised.value)


def test_a_package_with_an_odd_name_is_left_to_a_person() -> None:
    """The name comes out of another program's answer."""
    machine = healthy()
    machine.files["/etc/waagent.conf"] = "AutoUpdate.Enabled=n\n"
    told = "-o=x:\n  Installed: 1\n  Candidate: 2\n     500 http://deb.example\n"
    machine.programs["apt-cache"] = Ran(0, told.encode(), "")
    machine.programs["dpkg --compare-versions"] = Ran(0, b"", "")
    with pytest.raises(Unsuitable, match="'-o=x' is no name of a package"):
        next(update_agent.REMEDY.plan(machine, Finding("AGENT_OUTDATED")))


class Fleeting(FakeMachine):
    """A machine of which something goes away at the n-th look at it."""

    left: int

    def _look(self, what: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise Absent(what)

    def read(self, path: str, limit: int = 1 << 20) -> bytes:
        self._look(path)
        return super().read(path, limit)

    def names(self, path: str) -> tuple[str, ...]:
        self._look(path)
        return super().names(path)

    def status(self, path: str) -> FileStatus:
        self._look(path)
        return super().status(path)

    def run(self, command: Sequence[str], timeout: float, privileged: bool = False, limit: int = 256 << 10) -> Ran:
        self._look(command[0])
        return super().run(command, timeout, privileged, limit)


@pytest.mark.parametrize(("remedy", "problem"), ALL, ids=lambda value: getattr(value, "name", value))
def test_what_goes_away_during_a_plan_is_no_defect(remedy: Remedy, problem: str) -> None:
    """From the first look on or from any later one: a plan, or a refusal that says why."""
    machine = furnished(dict.fromkeys(KNOWN, b"x"), frozenset(CACHED))
    machine.files["/etc/waagent.conf"] = "Extensions.Enabled=n\nAutoUpdate.Enabled=n\nLogs.Verbose = n\n"
    for look in range(60):
        fleeting = Fleeting(machine.files, machine.table, machine.http, machine.units, programs=machine.programs)
        fleeting.left = look
        try:
            list(remedy.plan(fleeting, Finding(problem)))
        except (Unsuitable, CannotTell) as error:
            assert str(error)
