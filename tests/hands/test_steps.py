"""A step is done and undone whole, whatever happens in the middle, and nobody's file is lost or followed elsewhere."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import stat
import tempfile
import typing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupready import waagent
from backupready.hands import files
from backupready.hands import steps as module
from backupready.hands.files import Refused, StepFailed
from backupready.hands.steps import Place, State, Steps
from backupready.model import (
    DaemonReload,
    EnableUnit,
    JoinConfigLines,
    MakeDirectory,
    PackageUpgrade,
    Ran,
    ResetFailed,
    RestartUnit,
    SetAside,
    SetConfigKey,
    StartUnit,
    Step,
    StopUnit,
    Wait,
    WaitForReport,
    WriteDropIn,
)
from backupready.plan import longest

LIBRARY = "var/lib/waagent"
HANDLER = f"{waagent.VMSNAPSHOT}-1.0.9220.0"
UNIT = "walinuxagent.service"
DROP_IN = WriteDropIn(UNIT, "60-backupready-restart.conf", "[Service]\nRestart=always\n")
VERBOSE = SetConfigKey("Logs.Verbose", "y", 7200.0)
CONFIG = b'# Enable verbose logging (y|n)\nLogs.Verbose = n\nExtensions.Enabled=y\n\xffOther="\x00"\n'


# ------------------------------------------------------------------------------------------------- the machine


COUNTED = {
    *("open", "read", "write", "fsync", "fchown", "fchmod", "getxattr", "listxattr", "setxattr", "removexattr"),
    *("link", "unlink", "rename", "replace", "mkdir", "rmdir", "stat", "fstat", "listdir"),
}


class Killed(BaseException):
    """The hands are gone at this call; no call of theirs comes after it."""


@dataclass
class Disk:
    """The calls that the hands make, one of which can fail or be their last."""

    calls: list[str] = field(default_factory=list)
    fails_at: int = 0
    error: OSError | None = None  # None: killed
    dead: bool = False

    def __getattr__(self, name: str) -> Any:
        call = getattr(os, name)
        if name not in COUNTED:
            return call

        def counted(*arguments: Any, **options: Any) -> Any:
            torn = name == "write" and self.count(name, raises=False)
            if torn:
                call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
            if torn or (name != "write" and self.count(name, raises=False)):
                self.fail()
            # Nothing is lost to a power cut here, and it takes its time.
            return None if name == "fsync" else call(*arguments, **options)

        return counted

    def count(self, name: str, raises: bool = True) -> bool:
        if self.dead:
            raise Killed
        self.calls.append(name)
        fails = len(self.calls) == self.fails_at
        if fails and raises:
            self.fail()
        return fails

    def fail(self) -> None:
        if self.error is not None:
            raise self.error
        self.dead = True
        raise Killed

    def arm(self, at: int, error: OSError | None) -> None:
        self.calls, self.fails_at, self.error, self.dead = [], at, error, False


@dataclass
class Programs:
    """The service manager and the package manager of the machine."""

    disk: Disk
    active: str = "active"
    enabled: str = "disabled"
    loaded: str = "loaded"
    invocation: int = 1
    reloads: int = 0
    version: str = "2.7.3.0-1"
    newest: str = "2.15.0.1-1"
    package: str = "installed"
    others: tuple[str, ...] = ()
    refresh: int = 0  # how fetching the lists ends
    upgrading: int = 0  # how often an upgrade that was begun is still seen
    commands: list[tuple[str, ...]] = field(default_factory=list)
    outside: list[tuple[str, ...]] = field(default_factory=list)  # what the service manager was to run

    def __call__(self, command: Sequence[str], timeout: float) -> Ran:
        self.disk.count(command[0])
        assert 0 < timeout <= 620
        if command[0] == "systemd-run":
            self.outside.append(tuple(command))
            command = command[command.index("--") + 1 :]
        words = tuple(word for word in command if not word.startswith("-") and "=" not in word and word != "env")
        self.commands.append(tuple(command))
        if words[0] == "systemctl":
            assert "--no-ask-password" in command
            if words[-1] == "backupready-upgrade.service":
                self.upgrading -= 1
                return Ran(0, b"LoadState=loaded\n" if self.upgrading >= 0 else b"LoadState=not-found\n", "")
            return Ran(*self.systemctl(words[1]), "")
        return self.packages(words, list(command))

    def systemctl(self, verb: str) -> tuple[int, bytes]:
        if verb == "show":
            shown = {
                "LoadState": self.loaded,
                "ActiveState": self.active,
                "UnitFileState": self.enabled,
                "InvocationID": str(self.invocation),
            }
            return 0, "".join(f"{key}={value}\n" for key, value in shown.items()).encode()
        if verb in ("start", "restart"):
            self.active, self.invocation = "active", self.invocation + 1
        elif verb == "stop":
            self.active = "inactive"
        elif verb in ("enable", "disable"):
            self.enabled = f"{verb}d"
        elif verb == "reset-failed":
            self.active = "inactive" if self.active == "failed" else self.active
        elif verb == "daemon-reload":
            self.reloads += 1
        else:
            return 1, b"Unknown command verb."
        return 0, b""

    def packages(self, words: tuple[str, ...], command: list[str]) -> Ran:
        if words[0] in ("dpkg-query", "rpm"):
            if words[0] == "rpm":
                return Ran(0, f"(none):{self.version}\n".encode(), "")
            return Ran(0, f"{self.package} {self.version}\n".encode(), "")
        if "--simulate" in command:
            changes = ("walinuxagent", *self.others)
            return Ran(0, "".join(f"Inst {name} [1] (2 Debian:12)\n" for name in changes).encode(), "")
        if "update" in command and self.refresh:
            return Ran(self.refresh, b"", "")
        if "--configure" in command:
            self.package = "installed"
        elif "install" in words or "update" in words[1:] or "upgrade" in words:
            self.version = self.newest if words[-1] != "update" else self.version
        return Ran(0, b"", "")


@dataclass
class Bench:
    """A machine's tree, and the hands at work on it."""

    root: Path
    disk: Disk
    programs: Programs
    steps: Steps
    slept: list[float]


def bench(root: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    disk = Disk()
    monkeypatch.setattr(files, "os", disk)
    monkeypatch.setattr(module, "os", disk)
    for folder in ("etc/systemd/system", f"{LIBRARY}/{HANDLER}/config", "proc/1", "usr/bin"):
        (root / folder).mkdir(parents=True)
    (root / "proc/1/mountinfo").write_text("25 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
    config = root / "etc/waagent.conf"
    config.write_bytes(CONFIG)
    config.chmod(0o640)
    (root / LIBRARY).chmod(0o700)
    handler = root / LIBRARY / HANDLER
    handler.chmod(0o755)
    for name, text in {
        "mrseq": "7",
        "task_identity_6": "token",
        "config/HandlerState": "Enabled",
        "HandlerManifest.json": "[]",
    }.items():
        (handler / name).write_text(text)
    (handler / "mrseq").chmod(0o604)
    if os.geteuid() == 0:
        os.chown(config, 12, 34)
        os.chown(handler / "mrseq", 56, 78)
    if takes_xattrs(root):
        os.setxattr(config, "user.note", b"of the configuration")
        os.setxattr(handler, "user.note", b"of the handler")
        os.setxattr(handler / "mrseq", "user.note", b"of the number")
    programs = Programs(disk)
    slept: list[float] = []
    place = Place(root, programs, lambda: 1_700_000_000.0, lambda: sum(slept), slept.append)
    return Bench(root, disk, programs, Steps(place), slept)


def takes_xattrs(root: Path) -> bool:
    try:
        os.setxattr(root, "user.tried", b"x")
        os.removexattr(root, "user.tried")
    except OSError:
        return False
    return True


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return bench(tmp_path / "root", monkeypatch)


def nature(path: Path) -> tuple[Any, ...]:
    status = path.lstat()
    try:
        xattrs = {name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path)}
    except OSError:
        xattrs = {}
    return stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, xattrs


def tree(root: Path, shelf: bool = False) -> dict[str, tuple[Any, ...]]:
    """All that is there, without what is the hands' own."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if not name.startswith("var/lib/backupready-hands") and (shelf or "/.backupready" not in f"/{name}/"):
            found[name] = (*nature(path), path.read_bytes() if path.is_file() else None)
    return {name: facts for name, facts in found.items() if shelf or ".backupready/" not in name}


def contents(root: Path) -> set[bytes]:
    return {path.read_bytes() for path in root.rglob("*") if path.is_file()}


def litter(root: Path, shelf: bool = True) -> list[str]:
    return [name for name in tree(root, shelf) if name.endswith("-new")]


def do(machine: Bench, *plan: Step) -> list[Any]:
    records = []
    for step in plan:
        # As it comes out of the ledger.
        records.append(json.loads(json.dumps(machine.steps.prepare(step))))
        machine.steps.do(step, records[-1])
    return records


# ---------------------------------------------------------------------------------------- crashes in the middle

ASIDE = SetAside(HANDLER)
ANEW = MakeDirectory(HANDLER, ("mrseq", "task_identity_6"))
PLANS: dict[str, tuple[Step, ...]] = {
    "a key that is there": (VERBOSE,),
    "a key that is not": (SetConfigKey("Logs.Collect", "n"),),
    "joined lines": (JoinConfigLines(),),
    "a drop-in": (DROP_IN,),
    "a file set aside": (SetAside(f"{HANDLER}/config/HandlerState"),),
    "a directory set aside": (ASIDE,),
    "a directory made anew": (ASIDE, ANEW),
}
# For a crash they are like another of them.
ALIKE = (PLANS["a key that is not"], PLANS["joined lines"], PLANS["a file set aside"])


def crashed(
    root: Path, monkeypatch: pytest.MonkeyPatch, plan: tuple[Step, ...], verb: str, error: OSError | None, end: str
) -> Iterator[tuple[int, str]]:
    """Fail at every call in turn, end it by do or undo, and say what is wrong then."""
    *before, step = plan
    for at in range(1, 1000):
        with tempfile.TemporaryDirectory(dir=root) as folder:
            machine = bench(Path(folder) / "root", monkeypatch)
            do(machine, *before)
            untouched, originals = tree(machine.root), contents(machine.root)
            record = machine.steps.prepare(step)
            if verb == "undo":
                machine.steps.do(step, record)
            machine.disk.arm(at, error)
            try:
                getattr(machine.steps, verb)(step, record)
                ended = True
            except (Killed, StepFailed):
                ended = False
            total = len(machine.disk.calls)
            machine.disk.arm(0, None)
            state = machine.steps.state(step, record)
            if state is not State.HALF and (left := litter(machine.root, shelf=False)):
                yield at, f"is {state} for all that {left} is there"
            getattr(machine.steps, end)(step, record)
            after = machine.steps.state(step, record)
            if state not in State or after is not (State.DONE if end == "do" else State.NOT_DONE):
                yield at, f"is {state}, then {after}"
            if not originals <= contents(machine.root):
                yield at, "a file is lost"
            if end == "undo" and tree(machine.root) != untouched:
                yield at, "is not as before"
            if end == "do":
                machine.steps.undo(step, record)
                if tree(machine.root) != untouched:
                    yield at, "cannot be taken back"
            if left := litter(machine.root):
                yield at, f"leaves {left}"
            if ended and total < at:
                assert at > 10
                return
    raise AssertionError("it never came to its end")


_FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(("error", "end"), [(None, "do"), (None, "undo"), (_FULL, "undo")])
@pytest.mark.parametrize("verb", ["do", "undo"])
@pytest.mark.parametrize("plan", [plan for plan in PLANS.values() if plan not in ALIKE])
def test_after_a_crash_anywhere_it_can_be_finished_and_undone(
    plan: tuple[Step, ...],
    verb: str,
    error: OSError | None,
    end: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whichever call fails or is the last: state() answers, do() brings it to its end, undo() back to where it was."""
    assert list(crashed(tmp_path, monkeypatch, plan, verb, error, end)) == []


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_preparing_changes_nothing(plan: tuple[Step, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it ends; and once more gives a record that can be used."""
    *before, step = plan
    for at in range(1, 1000):
        with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
            machine = bench(Path(folder) / "root", monkeypatch)
            do(machine, *before)
            untouched = tree(machine.root, shelf=True)
            machine.disk.arm(at, None)
            try:
                machine.steps.prepare(step)
                ended = True
            except Killed:
                ended = False
            machine.disk.arm(0, None)
            assert tree(machine.root, shelf=True) == untouched
            assert machine.steps.state(step, machine.steps.prepare(step)) is State.NOT_DONE
            if ended:
                return
    raise AssertionError("it never came to its end")


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_twice_is_once(plan: tuple[Step, ...], machine: Bench) -> None:
    """Doing what is done and undoing what is undone change nothing."""
    *before, step = plan
    do(machine, *before)
    untouched = tree(machine.root)
    record = machine.steps.prepare(step)
    machine.steps.undo(step, record)
    assert (tree(machine.root), machine.steps.state(step, record)) == (untouched, State.NOT_DONE)
    machine.steps.do(step, record)
    done = tree(machine.root, shelf=True)
    assert tree(machine.root) != untouched
    machine.steps.do(step, record)
    assert (tree(machine.root, shelf=True), machine.steps.state(step, record)) == (done, State.DONE)
    machine.steps.undo(step, record)
    undone = tree(machine.root, shelf=True)
    machine.steps.undo(step, record)
    assert (tree(machine.root), tree(machine.root, shelf=True)) == (untouched, undone)


def test_what_is_put_in_place_is_on_the_disk_before_and_after(machine: Bench) -> None:
    """The file is synced before it takes the other's place, the directory after."""
    record = machine.steps.prepare(VERBOSE)
    machine.disk.arm(0, None)
    machine.steps.do(VERBOSE, record)
    order = [call for call in machine.disk.calls if call in ("write", "fsync", "replace")]
    assert order == ["write", "fsync", "replace", "fsync"]


# ------------------------------------------------------------------------------------- the agent's configuration


_LINES = [b"Logs.Verbose = n # note\r\n", b"Logs.Verbose=n", b'A="1"\n', b"\n", b"# Logs.Verbose=n\n", b" # x = y\n"]


@settings(max_examples=40)
@given(st.lists(st.one_of(st.sampled_from(_LINES), st.binary(max_size=6)), max_size=6).map(b"".join))
def test_an_edit_of_any_file_is_taken_back_byte_for_byte(data: bytes) -> None:
    """Owner, mode and extended attributes stay; the agent reads the new value and everything else as before."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        machine = bench(Path(folder) / "root", monkeypatch)
        config = machine.root / "etc/waagent.conf"
        config.write_bytes(data)
        before = nature(config)
        if not waagent.parse_config(data):
            with pytest.raises(Refused, match="holds no setting"):
                machine.steps.prepare(VERBOSE)
            return
        for step, change in ((VERBOSE, {"Logs.Verbose": "y"}), (JoinConfigLines(), {})):
            [record] = do(machine, step)
            after = config.read_bytes()
            assert waagent.parse_config(after) == {**waagent.parse_config(data), **change}
            assert nature(config) == before
            machine.steps.undo(step, record)
            assert (config.read_bytes(), nature(config)) == (data, before)


def test_extended_attributes_are_really_there(machine: Bench) -> None:
    """What the other tests compare is not empty."""
    if not takes_xattrs(machine.root):
        pytest.skip("this file system has no user.* attributes")
    do(machine, VERBOSE)
    assert os.getxattr(machine.root / "etc/waagent.conf", "user.note") == b"of the configuration"


ACL = (2).to_bytes(4, "little") + b"".join(
    tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little")
    for tag, bits, who in ((1, 6, 2**32 - 1), (2, 4, 99), (4, 0, 2**32 - 1), (16, 4, 2**32 - 1), (32, 0, 2**32 - 1))
)


@pytest.mark.parametrize("inherited", [False, True])
def test_an_access_list_is_kept(inherited: bool, machine: Bench) -> None:
    """A POSIX ACL is an extended attribute that decides the group's bits too; one that only new files of the directory
    would get is not."""
    config = machine.root / "etc/waagent.conf"
    try:
        if inherited:
            os.setxattr(config.parent, "system.posix_acl_default", ACL)
        else:
            os.setxattr(config, "system.posix_acl_access", ACL)
    except OSError as error:
        pytest.skip(f"this file system has no access lists: {error}")
    before = nature(config)
    [record] = do(machine, VERBOSE)
    assert before[4].get("system.posix_acl_access") == (None if inherited else ACL)
    assert nature(config) == before
    machine.steps.undo(VERBOSE, record)
    assert nature(config) == before


def test_nothing_is_moved_over_anything(machine: Bench) -> None:
    """Also where it has come to be there at the last moment."""
    (machine.root / "a").write_text("a")
    (machine.root / "b").write_text("b")
    with files.directory(machine.root, ()) as here, pytest.raises(FileExistsError):
        files.move(here, "a", here, "b")
    assert (machine.root / "b").read_text() == "b"


def test_an_edit_is_not_taken_back_over_somebody_elses(machine: Bench) -> None:
    """The refusal shows what the other has changed, and changes nothing."""
    [record] = do(machine, VERBOSE)
    config = machine.root / "etc/waagent.conf"
    edited = config.read_bytes().replace(b"Extensions.Enabled=y", b"Extensions.Enabled=n")
    config.write_bytes(edited)
    diffs = []
    for verb in (machine.steps.undo, machine.steps.do):
        with pytest.raises(Refused, match="was changed by somebody else since") as refused:
            verb(VERBOSE, record)
        diffs.append({line for line in refused.value.diff.split("\n")[3:] if line[0] in "+-"})
    other = {"-Extensions.Enabled=y", "+Extensions.Enabled=n"}
    assert diffs == [other, other | {"-Logs.Verbose = n", "+Logs.Verbose=y"}]
    assert machine.steps.state(VERBOSE, record) is State.HALF
    assert config.read_bytes() == edited


def test_what_the_agent_reads_already_is_left(machine: Bench) -> None:
    """No new file, and nothing to take back."""
    step = SetConfigKey("Extensions.Enabled", "y")
    before = (machine.root / "etc/waagent.conf").stat().st_ino
    [record] = do(machine, step)
    machine.steps.undo(step, record)
    assert (machine.root / "etc/waagent.conf").stat().st_ino == before
    assert machine.steps.state(step, record) is State.DONE


def _link(config: Path) -> None:
    config.rename(config.with_name("elsewhere"))
    config.symlink_to("elsewhere")


def _second_name(config: Path) -> None:
    os.link(config, config.with_name("second"))


def _large(config: Path) -> None:
    config.write_bytes(b"A=1\n" * 300_000)


def _fifo(config: Path) -> None:
    config.unlink()
    os.mkfifo(config)


def _linked_folder(config: Path) -> None:
    config.parent.rename(config.parent.with_name("other"))
    config.parent.symlink_to("other")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (_link, "is a link"),
        (_second_name, "has 2 names"),
        (_large, "has more than 1048576 bytes"),
        (_fifo, "is no regular file"),
        (_linked_folder, "etc is a link or no directory"),
        (Path.unlink, "there is no /etc/waagent.conf"),
        (lambda config: config.write_bytes(b"# nothing\n"), "holds no setting"),
    ],
)
def test_a_configuration_that_is_not_edited(change: Any, why: str, machine: Bench) -> None:
    """Links, other kinds and sizes, and a file that is not whole; also when it has become so after prepare()."""
    record = machine.steps.prepare(VERBOSE)
    change(machine.root / "etc/waagent.conf")
    before = tree(machine.root)
    with pytest.raises(Refused, match=why):
        machine.steps.prepare(VERBOSE)
    for verb in (machine.steps.do, machine.steps.undo):
        with pytest.raises(Refused):
            verb(VERBOSE, record)
    assert machine.steps.state(VERBOSE, record) is State.HALF
    assert tree(machine.root) == before


def test_a_record_of_another_file_is_none_of_ours(machine: Bench) -> None:
    """Only the agent's configuration is ever edited."""
    [record] = do(machine, VERBOSE)
    with pytest.raises(Refused, match="/etc/passwd is no configuration"):
        machine.steps.undo(VERBOSE, {**record, "path": "etc/passwd"})


def test_the_copy_of_the_original_is_roots_alone_and_must_be_whole(machine: Bench) -> None:
    """It may hold a proxy's password; a damaged one is not put back."""
    [record] = do(machine, VERBOSE)
    keeps = machine.root / "var/lib/backupready-hands"
    copy = keeps / "copies" / record["before"]
    assert [stat.S_IMODE(p.stat().st_mode) for p in (keeps, keeps / "copies", copy)] == [0o700, 0o700, 0o600]
    assert copy.read_bytes() == CONFIG
    copy.write_bytes(b"Logs.Verbose=n\n")
    with pytest.raises(Refused, match="is damaged"):
        machine.steps.undo(VERBOSE, record)
    copy.unlink()
    with pytest.raises(Refused, match="is gone from /var/lib/backupready-hands/copies"):
        machine.steps.undo(VERBOSE, record)


def test_the_preview_is_what_is_done(machine: Bench) -> None:
    """A unified diff, and nothing is changed or kept."""
    before = tree(machine.root)
    assert machine.steps.preview(VERBOSE).split("\n") == [
        "--- /etc/waagent.conf (before)",
        "+++ /etc/waagent.conf (after)",
        "@@ -1,3 +1,3 @@",
        " # Enable verbose logging (y|n)",
        "-Logs.Verbose = n",
        "+Logs.Verbose=y",
        " Extensions.Enabled=y",
    ]
    assert "+Restart=always" in machine.steps.preview(DROP_IN)
    assert machine.steps.preview(ASIDE) == ""
    assert tree(machine.root) == before
    assert not (machine.root / "var/lib/backupready-hands").exists()


# ------------------------------------------------------------------------------------------- the agent's library


def test_what_is_set_aside_is_on_a_shelf_of_roots_alone(machine: Bench) -> None:
    """Below the library, under a name that the agent does not take for a handler, with a note of where it was."""
    before = tree(machine.root / LIBRARY / HANDLER)
    [record] = do(machine, ASIDE)
    shelf = machine.root / LIBRARY / ".backupready"
    entry = shelf / record["entry"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (shelf, entry)] == [0o700, 0o700]
    assert tree(entry / HANDLER) == before
    manifest = json.loads((shelf / f"{record['entry']}.json").read_text())
    assert manifest == {"path": HANDLER, "kind": "directory", "set_aside": "2023-11-14T22:13:20Z"}
    assert waagent.handler_directories(tuple(path.name for path in (machine.root / LIBRARY).iterdir())) == ()
    machine.steps.undo(ASIDE, record)
    assert not shelf.exists()


def test_what_is_made_anew_holds_what_is_kept_and_nothing_else(machine: Bench) -> None:
    """With owner, mode and attributes of each, and those of the directory that it takes the place of."""
    handler = machine.root / LIBRARY / HANDLER
    before = {name: (nature(handler / name), (handler / name).read_bytes()) for name in ANEW.keep}
    looks = nature(handler)
    do(machine, ASIDE, ANEW)
    assert {path.name: (nature(path), path.read_bytes()) for path in handler.iterdir()} == before
    assert nature(handler) == looks


def test_a_reload_that_did_not_come_is_put_back(machine: Bench) -> None:
    """What the agent has put into the new directory is kept too, and the agent does not run while it is exchanged."""
    plan = (StopUnit(UNIT), ASIDE, ANEW, StartUnit(UNIT), Wait(f"{HANDLER}/config/HandlerState", "Enabled", 60.0))
    before = tree(machine.root)
    records = do(machine, *plan[:4])
    (machine.root / LIBRARY / HANDLER / "HandlerManifest.json").write_text("half of it")
    records.append(machine.steps.prepare(plan[4]))
    with pytest.raises(StepFailed, match="did not hold 'Enabled' within 60 s"):
        machine.steps.do(plan[4], records[4])
    assert 60 <= sum(machine.slept) < 65
    for step, record in reversed(list(zip(plan, records))):
        if isinstance(step, MakeDirectory):
            assert machine.programs.active == "inactive"
        machine.steps.undo(step, record)
    assert tree(machine.root) == before
    assert machine.programs.active == "active"
    assert b"half of it" in contents(machine.root / LIBRARY / ".backupready")


def test_no_directory_is_put_back_over_one_that_is_there_again(machine: Bench) -> None:
    """It may be a whole installation: the old one stays on the shelf."""
    [record] = do(machine, ASIDE)
    (machine.root / LIBRARY / HANDLER).mkdir()
    before = tree(machine.root, shelf=True)
    with pytest.raises(Refused, match="is there again"):
        machine.steps.undo(ASIDE, record)
    assert machine.steps.state(ASIDE, record) is State.DONE
    assert tree(machine.root, shelf=True) == before


def test_a_file_that_the_agent_has_written_anew_makes_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any call, and undone then: what was set aside is back, and the new one is on the shelf."""
    step = SetAside(f"{HANDLER}/config/HandlerState")
    for point in itertools.count(1):
        machine = bench(tmp_path / str(point), monkeypatch)
        before = tree(machine.root)
        [record] = do(machine, step)
        (machine.root / LIBRARY / step.path).write_text("NotInstalled")
        machine.disk.arm(point, None)
        killed = False
        try:
            machine.steps.undo(step, record)
        except Killed:
            killed = True
        machine.disk.arm(0, None)
        machine.steps.undo(step, record)
        assert machine.steps.state(step, record) is State.NOT_DONE
        assert tree(machine.root) == before
        assert b"NotInstalled" in contents(machine.root / LIBRARY / ".backupready")
        if not killed:
            break
    assert point > 10


def test_a_directory_of_somebody_else_is_not_taken_for_ours(machine: Bench) -> None:
    """The agent was quicker: it holds no sequence number, and must not pass for done."""
    do(machine, ASIDE)
    record = machine.steps.prepare(ANEW)
    (machine.root / LIBRARY / HANDLER).mkdir()
    assert machine.steps.state(ANEW, record) is State.NOT_DONE
    with pytest.raises(Refused, match="was made by somebody else"):
        machine.steps.do(ANEW, record)
    machine.steps.undo(ANEW, record)
    assert (machine.root / LIBRARY / HANDLER).is_dir()
    with pytest.raises(Refused, match="is there already"):
        machine.steps.prepare(ANEW)


def test_nothing_is_made_without_what_it_must_keep(machine: Bench) -> None:
    """A lost sequence number would have the last request done again."""
    with pytest.raises(Refused, match="is there already"):
        machine.steps.prepare(ANEW)
    do(machine, ASIDE)
    with pytest.raises(StepFailed, match="mrseq_of_another"):
        machine.steps.prepare(MakeDirectory(HANDLER, ("mrseq_of_another",)))
    with pytest.raises(Refused, match="was not set aside"):
        machine.steps.prepare(MakeDirectory("Another.Handler-1.0", ()))


def test_what_is_kept_is_what_was_noted(machine: Bench) -> None:
    """Nobody has changed it on the shelf in between."""
    [aside] = do(machine, ASIDE)
    record = machine.steps.prepare(ANEW)
    (machine.root / LIBRARY / ".backupready" / aside["entry"] / HANDLER / "mrseq").write_text("6")
    with pytest.raises(Refused, match="mrseq of what was set aside was changed"):
        machine.steps.do(ANEW, record)
    assert not (machine.root / LIBRARY / HANDLER).exists()


def test_the_newest_of_several_set_aside_is_what_is_kept(machine: Bench) -> None:
    """Also where the clock was set back in between."""
    handler = machine.root / LIBRARY / HANDLER
    do(machine, ASIDE)
    handler.mkdir()
    (handler / "mrseq").write_text("8")
    earlier = Steps(Place(machine.root, machine.programs, lambda: 1_600_000_000.0))
    record = earlier.prepare(ASIDE)
    earlier.do(ASIDE, record)
    do(machine, MakeDirectory(HANDLER, ("mrseq",)))
    assert (handler / "mrseq").read_text() == "8"


def test_a_link_or_a_mount_is_not_set_aside(machine: Bench) -> None:
    """Neither as the thing itself nor on the way to it, and no mount moves along; unknown mounts are a refusal."""
    library = machine.root / LIBRARY
    (library / "link").symlink_to(HANDLER)
    table = machine.root / "proc/1/mountinfo"
    for path, why in (("link", "is a link"), ("link/mrseq", "link is a link"), ("gone", "is not there")):
        with pytest.raises(Refused, match=why):
            machine.steps.prepare(SetAside(path))
    record = machine.steps.prepare(ASIDE)
    for point in (HANDLER, f"{HANDLER}/config"):
        table.write_text(f"30 25 8:2 / /{LIBRARY}/{point} rw - ext4 /dev/sdb rw\n")
        with pytest.raises(Refused, match="is a mount point"):
            machine.steps.prepare(ASIDE)
        with pytest.raises(Refused, match="is a mount point"):
            machine.steps.do(ASIDE, record)
    table.write_text(
        f"30 25 8:2 / /{LIBRARY} rw - ext4 /dev/sdb rw\n31 25 8:2 / /{LIBRARY}/{HANDLER}x rw - ext4 x rw\n"
    )
    machine.steps.prepare(ASIDE)
    table.write_text("")
    with pytest.raises(Refused, match="not known what is mounted"):
        machine.steps.prepare(ASIDE)
    library.rename(library.with_name("other"))
    library.symlink_to("other")
    with pytest.raises(Refused, match="var/lib/waagent is a link"):
        machine.steps.prepare(ASIDE)


def test_a_library_that_links_lead_out_of_meanwhile(machine: Bench) -> None:
    """What was a directory at prepare() is a link at do(): nothing outside is touched."""
    step = SetAside(f"{HANDLER}/config/HandlerState")
    record = machine.steps.prepare(step)
    outside = machine.root / "outside"
    config = machine.root / LIBRARY / HANDLER / "config"
    config.rename(outside)
    config.symlink_to(outside)
    with pytest.raises(Refused, match="config is a link"):
        machine.steps.do(step, record)
    assert (outside / "HandlerState").read_text() == "Enabled"


@pytest.mark.parametrize(
    "step",
    [
        SetAside("../secret"),
        SetAside("/etc/passwd"),
        SetAside(""),
        SetAside("a//b"),
        SetAside("a/./b"),
        SetAside(".backupready/x"),
        SetAside("a\nb"),
        SetAside("a/" * 20 + "b"),
        MakeDirectory("../x"),
        MakeDirectory("x", ("../../etc/shadow",)),
        MakeDirectory("x", ("a/b",)),
        Wait("../x", "y", 1.0),
        StartUnit("--force"),
        StartUnit("../x.service"),
        StopUnit("x"),
        RestartUnit("a b.service"),
        ResetFailed("x.target"),
        EnableUnit("x.service\n"),
        WriteDropIn(UNIT, "../x.conf", "x"),
        WriteDropIn(UNIT, "x", "x"),
        WriteDropIn("/x.service", "x.conf", "x"),
        WriteDropIn(UNIT, "x.conf", "\x00"),
        SetConfigKey("A\nB", "y"),
        PackageUpgrade("-o=x"),
        PackageUpgrade("a=1"),
    ],
    ids=repr,
)
def test_names_that_are_not_plain_are_errors(step: Step, machine: Bench) -> None:
    """Before anything is asked or touched."""
    before = tree(machine.root)
    with pytest.raises(ValueError, match=" is no |are not all"):
        machine.steps.prepare(step)
    assert machine.programs.commands == []
    assert tree(machine.root) == before


# ------------------------------------------------------------------------------------------- the service manager


def test_every_step_of_the_model_has_its_way() -> None:
    """The set is closed."""
    assert set(module._WAYS) == set(typing.get_args(Step))


UNITS: list[tuple[Step, dict[str, str], dict[str, str], dict[str, str]]] = [
    (StartUnit(UNIT), {"active": "inactive"}, {"active": "active"}, {"active": "inactive"}),
    (StartUnit(UNIT), {"active": "active"}, {"active": "active"}, {"active": "active"}),
    (StopUnit(UNIT), {"active": "active"}, {"active": "inactive"}, {"active": "active"}),
    (StopUnit(UNIT), {"active": "failed"}, {"active": "failed"}, {"active": "failed"}),
    (RestartUnit(UNIT), {"active": "active"}, {"active": "active"}, {"active": "active"}),
    (RestartUnit(UNIT), {"active": "inactive"}, {"active": "active"}, {"active": "active"}),
    (ResetFailed(UNIT), {"active": "failed"}, {"active": "inactive"}, {"active": "inactive"}),
    (EnableUnit(UNIT), {"enabled": "disabled"}, {"enabled": "enabled"}, {"enabled": "disabled"}),
    (EnableUnit(UNIT), {"enabled": "enabled"}, {"enabled": "enabled"}, {"enabled": "enabled"}),
]


@pytest.mark.parametrize(("step", "before", "done", "undone"), UNITS)
def test_units(step: Step, before: Any, done: Any, undone: Any, machine: Bench) -> None:
    """What a unit is before, after it is done, and after it is undone; twice is once."""

    def now() -> dict[str, str]:
        return {key: getattr(machine.programs, key) for key in before}

    for key, value in before.items():
        setattr(machine.programs, key, value)
    record = machine.steps.prepare(step)
    machine.steps.do(step, record)
    assert (now(), machine.steps.state(step, record)) == (done, State.DONE)
    invocation = machine.programs.invocation
    machine.steps.do(step, record)
    assert machine.programs.invocation == invocation
    for _ in range(2):
        machine.steps.undo(step, record)
        assert now() == undone


@pytest.mark.parametrize("manager", ["apt-get", "dnf", "yum", "zypper", "tdnf"])
@pytest.mark.parametrize(
    "step",
    [
        *(StartUnit(UNIT), StopUnit(UNIT), RestartUnit(UNIT), ResetFailed(UNIT), EnableUnit(UNIT), DaemonReload()),
        *(DROP_IN, VERBOSE, ASIDE, Wait(f"{HANDLER}/gone", "x", 61.0), WaitForReport(61.0)),
        PackageUpgrade("walinuxagent"),
    ],
    ids=lambda step: type(step).__name__,
)
def test_no_step_takes_longer_than_is_said_of_it(
    step: Step, manager: str, machine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every program but those that are only asked takes all the time that it is given, and nothing comes."""
    given: list[float] = []

    def run(command: Sequence[str], timeout: float) -> Ran:
        if not {"show", "dpkg-query", "rpm"} & {*command}:
            given.append(timeout)
        return machine.programs(command, timeout)

    (machine.root / "usr/bin" / manager).touch()
    monkeypatch.setattr(machine.disk, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY), raising=False)
    if isinstance(step, StartUnit):
        machine.programs.active = "inactive"
    steps = Steps(Place(machine.root, run, lambda: 0.0, lambda: sum(given), given.append))
    with contextlib.suppress(StepFailed):
        steps.do(step, steps.prepare(step))
    changes_files = isinstance(step, (WriteDropIn, SetConfigKey, SetAside))
    assert changes_files != bool(given)
    assert sum(given) <= longest([step])


def test_a_unit_that_a_restart_left_stopped_is_half_done(machine: Bench) -> None:
    """It is started on the way back as on the way forth."""
    step = RestartUnit(UNIT)
    record = machine.steps.prepare(step)
    assert machine.steps.state(step, record) is State.NOT_DONE
    machine.programs.active = "failed"
    assert machine.steps.state(step, record) is State.HALF
    machine.steps.undo(step, record)
    assert machine.programs.active == "active"


@pytest.mark.parametrize(
    "step", [StartUnit(UNIT), StopUnit(UNIT), RestartUnit(UNIT), ResetFailed(UNIT), EnableUnit(UNIT)]
)
def test_a_masked_unit_is_left_alone(step: Step, machine: Bench) -> None:
    """Somebody has meant it."""
    machine.programs.loaded = "masked"
    with pytest.raises(Refused, match="is masked"):
        machine.steps.prepare(step)


def test_only_a_disabled_unit_is_enabled(machine: Bench) -> None:
    """A static or a linked one is not."""
    machine.programs.enabled = "static"
    with pytest.raises(Refused, match="is static"):
        machine.steps.prepare(EnableUnit(UNIT))


def test_a_program_that_fails_or_hangs_is_told_in_its_own_words(machine: Bench, tmp_path: Path) -> None:
    """Which command, its status, and what it said."""

    def failing(command: Sequence[str], timeout: float) -> Ran:
        return Ran(1, b"", "Failed to connect to bus: No such file or directory\n")

    def hanging(command: Sequence[str], timeout: float) -> Ran:
        raise TimeoutError(f"no end within {timeout:.0f} s")

    with pytest.raises(StepFailed, match="daemon-reload` ended with status 1: Failed to connect to bus"):
        Steps(Place(machine.root, failing)).do(DaemonReload(), {})
    with pytest.raises(StepFailed, match="cannot have the service manager read its units anew: no end within 100 s"):
        Steps(Place(machine.root, hanging)).do(DaemonReload(), {})


def test_a_drop_in_is_written_for_everybody_to_read(machine: Bench) -> None:
    """0644 in a directory of 0755, which goes with it; the service manager hears of its going."""
    folder = machine.root / f"etc/systemd/system/{UNIT}.d"
    umask = os.umask(0o077)
    try:
        [record] = do(machine, DROP_IN)
    finally:
        os.umask(umask)
    assert (folder / DROP_IN.name).read_text() == DROP_IN.text
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / DROP_IN.name)] == [0o755, 0o644]
    (folder / "admin.conf").write_text("[Service]\n")
    machine.steps.undo(DROP_IN, record)
    assert [path.name for path in folder.iterdir()] == ["admin.conf"]
    assert machine.programs.reloads == 1


def test_a_drop_in_of_somebody_else_is_neither_replaced_nor_removed(machine: Bench) -> None:
    """Neither one that was there nor ours with an edit."""
    [record] = do(machine, DROP_IN)
    file = machine.root / f"etc/systemd/system/{UNIT}.d" / DROP_IN.name
    file.write_text("[Service]\nRestart=no\n")
    with pytest.raises(Refused, match="is there already"):
        machine.steps.prepare(DROP_IN)
    for verb in (machine.steps.undo, machine.steps.do):
        with pytest.raises(Refused, match="was changed by somebody else since") as refused:
            verb(DROP_IN, record)
        assert "+Restart=no" in refused.value.diff
    assert file.read_text() == "[Service]\nRestart=no\n"


# -------------------------------------------------------------------------------------------- package managers

AGENT = PackageUpgrade("walinuxagent")


@pytest.mark.parametrize("manager", ["apt-get", "dnf", "yum", "zypper", "tdnf"])
def test_a_package_is_upgraded_by_what_is_there(manager: str, machine: Bench) -> None:
    """Non-interactively, that package alone, and never back."""
    (machine.root / "usr/bin" / manager).touch()
    record = machine.steps.prepare(AGENT)
    machine.steps.undo(AGENT, record)
    assert machine.steps.state(AGENT, record) is State.NOT_DONE
    machine.steps.do(AGENT, record)
    assert machine.steps.state(AGENT, record) is State.DONE
    [command] = [
        c for c in machine.programs.commands if c[-1] == "walinuxagent" and manager in c and "--simulate" not in c
    ]
    assert {"-y", "--non-interactive"} & set(command)
    if manager == "apt-get":
        assert {"--no-remove", "--only-upgrade", "DPkg::Lock::Timeout=0", "DEBIAN_FRONTEND=noninteractive"} <= {
            *command
        }
        assert "Dpkg::Options::=--force-confold" in command
    count = len(machine.programs.commands)
    machine.steps.do(AGENT, record)
    assert len(machine.programs.commands) == count + 3  # it only asks
    with pytest.raises(Refused, match="is not taken back"):
        machine.steps.undo(AGENT, record)


def test_an_upgrade_that_would_change_other_packages_is_refused(machine: Bench) -> None:
    """Found out by a simulation."""
    (machine.root / "usr/bin/apt-get").touch()
    machine.programs.others = ("openssl", "python3")
    record = machine.steps.prepare(AGENT)
    with pytest.raises(Refused, match="would change other packages: openssl, python3"):
        machine.steps.do(AGENT, record)
    assert machine.programs.version == "2.7.3.0-1"


def test_an_upgrade_that_was_cut_off_is_configured(machine: Bench) -> None:
    """Of this package alone; and one without anything newer says so."""
    (machine.root / "usr/bin/apt-get").touch()
    record = machine.steps.prepare(AGENT)
    machine.programs.version, machine.programs.package = "2.15.0.1-1", "half-configured"
    assert machine.steps.state(AGENT, record) is State.HALF
    machine.steps.do(AGENT, record)
    (configured,) = [c for c in machine.programs.commands if "--configure" in c]
    assert configured[-1] == "walinuxagent"
    assert machine.steps.state(AGENT, record) is State.DONE
    record = machine.steps.prepare(AGENT)
    with pytest.raises(StepFailed, match="is still 2.15.0.1-1: the repositories hold nothing newer$"):
        machine.steps.do(AGENT, record)
    machine.programs.refresh = 100
    with pytest.raises(
        StepFailed, match="nothing newer; their lists were not fetched: .*update` ended with status 100"
    ):
        machine.steps.do(AGENT, record)


@pytest.mark.parametrize("manager", ["apt-get", "dnf", "yum", "zypper", "tdnf"])
def test_where_usr_is_read_only_the_service_manager_upgrades(
    manager: str, machine: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a unit that has a name and an end, with the same command; and there alone."""
    (machine.root / "usr/bin" / manager).touch()
    machine.steps.do(AGENT, machine.steps.prepare(AGENT))
    ours = [c for c in machine.programs.commands if manager in c and "--simulate" not in c]
    assert machine.programs.outside == []
    flags = os.ST_RDONLY | os.ST_NODEV
    monkeypatch.setattr(machine.disk, "statvfs", lambda path: SimpleNamespace(f_flag=flags), raising=False)
    machine.programs.version = "2.7.3.0-1"
    machine.steps.do(AGENT, machine.steps.prepare(AGENT))
    outside = machine.programs.outside
    assert [c[c.index("--") + 1 :] for c in outside] == ours
    names = {word for c in outside for word in c if word.startswith("--unit=")}
    assert names == {"--unit=backupready-upgrade.service"} | (
        {"--unit=backupready-refresh.service"} if len(ours) > 1 else set()
    )
    assert {"--wait", "--pipe", "--collect", "--property=RuntimeMaxSec=600"} <= {*outside[-1]}


def test_an_upgrade_that_goes_on_after_a_crash_is_awaited(machine: Bench) -> None:
    """Until it has ended nobody says that it was not done."""
    (machine.root / "usr/bin/apt-get").touch()
    record = machine.steps.prepare(AGENT)
    machine.programs.upgrading = 1
    assert machine.steps.state(AGENT, record) is State.HALF
    machine.programs.upgrading = 3
    machine.programs.version = machine.programs.newest
    machine.steps.do(AGENT, record)
    assert machine.slept == [2.0, 2.0, 2.0]
    assert not [c for c in machine.programs.commands if "install" in c]
    machine.programs.upgrading = 1000
    with pytest.raises(StepFailed, match=r"backupready-upgrade.service has not ended within 620 s"):
        machine.steps.do(AGENT, record)


@pytest.mark.parametrize("state", ["not-installed", "half-installed"])
def test_only_an_installed_package_is_upgraded(state: str, machine: Bench) -> None:
    """Nothing is installed anew."""
    (machine.root / "usr/bin/apt-get").touch()
    machine.programs.package = state
    with pytest.raises(Refused, match="only a package that is installed"):
        machine.steps.prepare(AGENT)


def test_a_machine_without_a_known_package_manager(machine: Bench) -> None:
    """It is told which are known."""
    with pytest.raises(Refused, match="apt-get, zypper, tdnf, dnf, yum"):
        machine.steps.do(AGENT, machine.steps.prepare(AGENT))


def test_a_report_is_awaited_that_is_newer_than_the_restart(tmp_path: Path) -> None:
    """The report from before it does not count; where none comes in time the step has failed."""
    clock, reported = [1000.0], [999.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        if clock[0] > 1010:
            reported[0] = comes

    def steps() -> Steps:
        clock[0], reported[0] = 1000.0, 999.0
        now = lambda: clock[0]  # noqa: E731
        return Steps(Place(tmp_path, Programs(Disk()), now, now, sleep, reported=lambda: reported[0]))

    step, comes = WaitForReport(60.0), 1011.0
    waiting = steps()
    record = waiting.prepare(step)
    assert waiting.state(step, record) is State.NOT_DONE
    waiting.do(step, record)
    assert waiting.state(step, record) is State.DONE
    comes = 999.0
    waiting = steps()
    with pytest.raises(StepFailed, match="did not report to the platform within 60 s"):
        waiting.do(step, waiting.prepare(step))
