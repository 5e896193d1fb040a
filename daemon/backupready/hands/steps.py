"""How is one step of a fix done, undone, shown, and after a crash found out about?

The set of steps is closed (model.Step). Each is prepared first: what prepare() gives is to be noted durably before the
step is done, so that whoever comes after a crash can ask what is true, and finish or undo it. Doing what is done and
undoing what is undone change nothing. Nothing here has a shell, and no path comes from outside: names are held against
patterns, and paths begin at the agent's library, its configuration, or the service manager's.
"""

from __future__ import annotations

import contextlib
import difflib
import enum
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Generic, TypeVar

from backupready import mountinfo, plan, waagent
from backupready.hands import files, lines
from backupready.hands.files import Refused, StepFailed, directory, kind
from backupready.model import (
    CannotTell,
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
from backupready.plan import components, describe

Record = Mapping[str, Any]  # what JSON can hold

_LIBRARY = tuple(waagent.LIB_DIR.strip("/").split("/"))
_UNITS = tuple(plan.UNITS.strip("/").split("/"))
# Below the library, since what is moved must stay on its file system, and the library may be a mount of its own.
_SHELF = plan.SHELF

# The units that the service manager runs the package manager in.
_REFRESHES, _UPGRADES = "backupready-refresh.service", "backupready-upgrade.service"

_ASK = 20.0  # s, for what is only asked


class State(str, enum.Enum):
    """What is true of a step that was prepared."""

    DONE = "done"
    NOT_DONE = "not_done"
    HALF = "half"  # in between, or somebody else has been there: do and undo end it, or say in a Refused why not


@dataclass(frozen=True)
class Place:
    """The machine that the steps are done on.

    `root` is its file system, `run` starts a program by its name or path with a time limit in seconds and a clean
    environment (raises OSError: FileNotFoundError where there is none, TimeoutError where it was ended), `now` is the
    wall clock and `monotonic` the one for intervals. `keeps` is the hands' own directory, root's alone. `reported` is
    when the agent wrote its newest report (seconds since the epoch), None where there is none that can be read.
    """

    root: Path
    run: Callable[[Sequence[str], float], Ran]
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    keeps: str = "var/lib/backupready-hands"
    reported: Callable[[], float | None] = lambda: None


class Steps:
    """Does the steps on one machine. Everything raises Refused, where nothing was changed because it must not be, or
    another StepFailed; a step whose names are not plain raises ValueError."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def preview(self, step: Step) -> str:
        """What would change in files, as a unified diff; empty for steps that edit none. It may hold what the file
        keeps secret, and is for the person at the terminal only."""
        with _failing(step):
            return _way(step).preview(self._place, step)

    def prepare(self, step: Step) -> Record:
        """What must be known before the step is done. Keeps a copy of a file that is to be edited, changes nothing
        else. The steps before it in the plan must have been done."""
        with _failing(step):
            return _way(step).prepare(self._place, step)

    def do(self, step: Step, record: Record) -> None:
        """Do it, or what is left to do of it."""
        with _failing(step):
            _way(step).do(self._place, step, record)

    def undo(self, step: Step, record: Record) -> None:
        """As it was before, byte for byte; Refused where somebody has changed the content since (an owner or a mode
        that was changed since stays). Steps with nothing to take back are passed over. To be called in the reverse
        order of doing."""
        with _failing(step, "undo: "):
            _way(step).undo(self._place, step, record)

    def state(self, step: Step, record: Record) -> State:
        """What is true, whatever was noted. Raises StepFailed where that cannot be found out."""
        with _failing(step):
            try:
                return _way(step).state(self._place, step, record)
            except Refused:
                return State.HALF


@contextlib.contextmanager
def _failing(step: Step, what: str = "") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StepFailed(f"cannot {what}{describe(step)}: {error}") from error


S = TypeVar("S")


class _Way(Generic[S]):
    """How one class of steps is gone about."""

    def preview(self, place: Place, step: S) -> str:
        return ""

    def prepare(self, place: Place, step: S) -> Record:
        raise NotImplementedError

    def do(self, place: Place, step: S, record: Record) -> None:
        raise NotImplementedError

    def undo(self, place: Place, step: S, record: Record) -> None:
        """Nothing, where nothing can be taken back."""

    def state(self, place: Place, step: S, record: Record) -> State:
        raise NotImplementedError


def _diff(before: bytes, after: bytes, path: str) -> str:
    old, new = (data.decode("utf-8", "backslashreplace").split("\n") for data in (before, after))
    return "\n".join(difflib.unified_diff(old, new, f"{path} (before)", f"{path} (after)", n=1, lineterm=""))


# ------------------------------------------------------------------------------------- the agent's configuration


class _Edit(_Way[S]):
    """An edit of waagent.conf: the file has one of two contents, both known beforehand."""

    def edited(self, step: S, data: bytes) -> bytes:
        raise NotImplementedError

    def reading(self, step: S, values: dict[str, str | None]) -> dict[str, str | None]:
        """What the agent must read afterwards, given what it reads before."""
        raise NotImplementedError

    def _after(self, step: S, data: bytes, path: str) -> bytes:
        after = self.edited(step, data)
        before = waagent.parse_config(data)
        if not before:
            raise Refused(f"{path} holds no setting: the agent needs the whole file back, not an edit of it")
        if waagent.parse_config(after) != self.reading(step, before):
            raise Refused(f"{path} cannot be edited without changing what the agent reads elsewhere in it")
        return after

    def preview(self, place: Place, step: S) -> str:
        path = _config(place)
        with directory(place.root, path[:-1]) as parent:
            data = files.read(parent, path[-1]).data
        return _diff(data, self._after(step, data, "/".join(path)), "/" + "/".join(path))

    def prepare(self, place: Place, step: S) -> Record:
        path = _config(place)
        with directory(place.root, path[:-1]) as parent:
            file = files.read(parent, path[-1])
        after = self._after(step, file.data, "/".join(path))
        with _copies(place) as copies:
            files.store(copies, file.digest, file.data)
        return {"path": "/".join(path), "before": file.digest, "after": files.digest(after)}

    def do(self, place: Place, step: S, record: Record) -> None:
        with self._file(place, record) as (parent, name, file):
            if file.digest == record["before"] != record["after"]:
                new = files.File(self.edited(step, file.data), file.nature)
                if new.digest != record["after"]:
                    raise Refused(f"{record['path']}: the edit is not the one that was noted")
                files.replace(parent, name, new, record["before"])
            elif file.digest != record["after"]:
                raise self._changed(place, step, record, file.data, record["before"])
            files.clear(parent, name)

    def undo(self, place: Place, step: S, record: Record) -> None:
        with self._file(place, record) as (parent, name, file):
            if file.digest == record["after"] != record["before"]:
                before = _copy(place, record["before"])
                files.replace(parent, name, files.File(before, file.nature), record["after"])
            elif file.digest != record["before"]:
                raise self._changed(place, step, record, file.data, record["after"])
            files.clear(parent, name)

    def state(self, place: Place, step: S, record: Record) -> State:
        with self._file(place, record) as (parent, name, file):
            if files.is_left(parent, name):
                return State.HALF
            states = {record["before"]: State.NOT_DONE, record["after"]: State.DONE}
            return states.get(file.digest, State.HALF)

    @contextlib.contextmanager
    def _file(self, place: Place, record: Record) -> Iterator[tuple[int, str, files.File]]:
        path = components(record["path"])
        if f"/{record['path']}" not in waagent.CONFIG_PATHS:
            raise Refused(f"/{record['path']} is no configuration of the agent's")
        with directory(place.root, path[:-1]) as parent:
            try:
                file = files.read(parent, path[-1])
            except FileNotFoundError:
                raise Refused(f"/{record['path']} is gone") from None
            yield parent, path[-1], file

    def _changed(self, place: Place, step: S, record: Record, found: bytes, expected: str) -> Refused:
        before = _copy(place, record["before"])
        ours = before if expected == record["before"] else self.edited(step, before)
        path = f"/{record['path']}"
        return Refused(
            f"{path} was changed by somebody else since; put right by hand what the diff shows",
            _diff(ours, found, path),
        )


def _config(place: Place) -> tuple[str, ...]:
    for path in waagent.CONFIG_PATHS:
        parts = tuple(path.strip("/").split("/"))
        with contextlib.suppress(FileNotFoundError), directory(place.root, parts[:-1]) as parent:
            if kind(parent, parts[-1]):
                return parts
    raise Refused(f"there is no {waagent.CONFIG_PATHS[0]}: the agent needs the whole file back, not an edit of it")


@contextlib.contextmanager
def _copies(place: Place) -> Iterator[int]:
    """Our copies of what was edited, each by its digest."""
    *above, own = components(place.keeps)
    with directory(place.root, tuple(above)) as parent:
        files.make_directory(parent, own, 0o700)
        with directory(parent, (own,)) as keeps:
            files.make_directory(keeps, "copies", 0o700)
            with directory(keeps, ("copies",)) as copies:
                yield copies


def _copy(place: Place, digest: str) -> bytes:
    with _copies(place) as copies:
        try:
            data = files.read(copies, digest).data
        except FileNotFoundError:
            raise Refused(f"our copy of the original ({digest[:12]}…) is gone from /{place.keeps}/copies") from None
    if files.digest(data) != digest:
        raise Refused(f"our copy of the original ({digest[:12]}…) in /{place.keeps}/copies is damaged")
    return data


class _SetConfigKey(_Edit[SetConfigKey]):
    def edited(self, step: SetConfigKey, data: bytes) -> bytes:
        return lines.set_key(data, step.key, step.value)

    def reading(self, step: SetConfigKey, values: dict[str, str | None]) -> dict[str, str | None]:
        return {**values, step.key: step.value}


class _JoinConfigLines(_Edit[JoinConfigLines]):
    def edited(self, step: JoinConfigLines, data: bytes) -> bytes:
        return waagent.joined_config(data)

    def reading(self, step: JoinConfigLines, values: dict[str, str | None]) -> dict[str, str | None]:
        return values


# ------------------------------------------------------------------------------------------- the agent's library


def _new_entry(place: Place, library: int) -> str:
    """A name on the shelf that nothing has had; later ones sort behind earlier ones, whatever the clock says."""
    names: Sequence[str] = ()
    with contextlib.suppress(FileNotFoundError), directory(library, (_SHELF,)) as shelf:
        names = files.names(shelf)
    highest = max((int(name[:6]) for name in names if name.isascii() and name[:6].isdigit()), default=0)
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(place.now()))
    return f"{highest + 1:06d}-{moment}-{secrets.token_hex(4)}"


def _on_shelf(library: int, *path: str) -> bool:
    """Whether there is anything at this path of the shelf."""
    try:
        with directory(library, (_SHELF, *path[:-1])) as here:
            return kind(here, path[-1]) != ""
    except FileNotFoundError:
        return False


def _write_manifest(library: int, entry: str, manifest: Record) -> None:
    with directory(library, (_SHELF,)) as shelf:
        files.store(shelf, f"{entry}.json", json.dumps(manifest, indent=1).encode() + b"\n")


def _make_entry(library: int, entry: str) -> None:
    files.make_directory(library, _SHELF, 0o700)
    with directory(library, (_SHELF,)) as shelf:
        files.make_directory(shelf, entry, 0o700)


def _drop_entry(library: int, entry: str) -> None:
    """Take an empty entry away, and the shelf if it was the last."""
    try:
        with directory(library, (_SHELF,)) as shelf:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(entry, dir_fd=shelf)
            files.clear(shelf, f"{entry}.json")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{entry}.json", dir_fd=shelf)
            os.fsync(shelf)
    except FileNotFoundError:
        return
    files.remove_if_empty(library, _SHELF)


def _take(place: Place, library: int, path: str, entry: str) -> None:
    """Move what is at a path of the library to the shelf."""
    parts = components(path)
    _no_mounts(place, path)
    with directory(library, parts[:-1]) as parent:
        what = kind(parent, parts[-1])
        if what not in ("file", "directory"):
            raise Refused(f"{waagent.LIB_DIR}/{path} is {what and 'a ' + what or 'gone'}")
        # Where the root is an overlay, a file shows the device that it lies on, and only directories that of the whole.
        there = os.fstat(parent) if what == "file" else os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        if there.st_dev != os.fstat(library).st_dev:
            raise Refused(f"{waagent.LIB_DIR}/{path} is on another file system")
        _make_entry(library, entry)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(place.now()))
        _write_manifest(library, entry, {"path": path, "kind": what, "set_aside": moment})
        with directory(library, (_SHELF, entry)) as shelf:
            files.move(parent, parts[-1], shelf, parts[-1])


def _no_mounts(place: Place, path: str) -> None:
    """Raises Refused where something is mounted there or below: it would move along."""
    table, whole = place.root / mountinfo.TABLE.lstrip("/"), f"{waagent.LIB_DIR}/{path}"
    try:
        mounts = mountinfo.parse(table.read_bytes())
    except CannotTell as error:
        raise Refused(f"it is not known what is mounted: {error}") from None
    for mount in mounts:
        if f"{mount.point}/".startswith(f"{whole}/"):
            raise Refused(f"{mount.point} is a mount point")


class _SetAside(_Way[SetAside]):
    def prepare(self, place: Place, step: SetAside) -> Record:
        parts = components(step.path)
        with directory(place.root, _LIBRARY) as library, directory(library, parts[:-1]) as parent:
            what = kind(parent, parts[-1])
            if what not in ("file", "directory"):
                raise Refused(f"{waagent.LIB_DIR}/{step.path} is {what and 'a ' + what or 'not there'}")
            _no_mounts(place, step.path)
            return {"entry": _new_entry(place, library), "way": _new_entry(place, library)}

    def do(self, place: Place, step: SetAside, record: Record) -> None:
        name, entry = components(step.path)[-1], record["entry"]
        with directory(place.root, _LIBRARY) as library:
            if not _on_shelf(library, entry, name):
                _take(place, library, step.path, entry)

    def undo(self, place: Place, step: SetAside, record: Record) -> None:
        *above, name = components(step.path)
        entry, way, whole = record["entry"], record["way"], f"{waagent.LIB_DIR}/{step.path}"
        with directory(place.root, _LIBRARY) as library:
            try:
                with directory(library, tuple(above)) as parent:
                    there = kind(parent, name)
                    if _on_shelf(library, entry, name):
                        if there == "file":
                            # The agent has written it anew meanwhile; that is kept like everything else.
                            taken = _on_shelf(library, way, name)
                            _take(place, library, step.path, _new_entry(place, library) if taken else way)
                        elif there:
                            raise Refused(f"{whole} is there again, so that what was set aside cannot be put back")
                        with directory(library, (_SHELF, entry)) as shelf:
                            files.move(shelf, name, parent, name)
                    elif not there:
                        raise Refused(f"what was set aside from {whole} is gone from {waagent.LIB_DIR}/{_SHELF}")
            except FileNotFoundError:
                raise Refused(f"the directory that {whole} was in is gone") from None
            if not _on_shelf(library, way, name):
                _drop_entry(library, way)
            _drop_entry(library, entry)

    def state(self, place: Place, step: SetAside, record: Record) -> State:
        *above, name = components(step.path)
        entry = record["entry"]
        with directory(place.root, _LIBRARY) as library:
            if _on_shelf(library, entry, name):
                return State.DONE
            if _on_shelf(library, entry) or _on_shelf(library, f"{entry}.json"):
                return State.HALF
            with contextlib.suppress(FileNotFoundError), directory(library, tuple(above)) as parent:
                return State.NOT_DONE if kind(parent, name) else State.HALF
            return State.HALF


class _MakeDirectory(_Way[MakeDirectory]):
    """Built on the shelf and moved to its place at once, so that it is never there without what it keeps. The
    entry that it was built in stays behind, empty, with a manifest: it tells our directory from another's."""

    def prepare(self, place: Place, step: MakeDirectory) -> Record:
        parts = components(step.path)
        with directory(place.root, _LIBRARY) as library, directory(library, parts[:-1]) as parent:
            if kind(parent, parts[-1]):
                raise Refused(f"{waagent.LIB_DIR}/{step.path} is there already")
            source = self._source(library, step.path)
            with directory(library, (_SHELF, source, parts[-1])) as old:
                kept = {name: files.read(old, name).digest for name in step.keep}
            entry, way = _new_entry(place, library), _new_entry(place, library)
            return {"entry": entry, "source": source, "kept": kept, "way": way}

    def _source(self, library: int, path: str) -> str:
        """The newest entry under which this path was set aside as a directory."""
        with contextlib.suppress(FileNotFoundError), directory(library, (_SHELF,)) as shelf:
            for name in sorted(files.names(shelf), reverse=True):
                entry = name[: -len(".json")]
                if not name.endswith(".json") or not _on_shelf(library, entry, path.split("/")[-1]):
                    continue
                with contextlib.suppress(CannotTell, TypeError):
                    manifest = waagent.parse_json(files.read(shelf, name).data, name)
                    if manifest == {**manifest, "path": path, "kind": "directory"}:
                        return entry
        raise Refused(f"{waagent.LIB_DIR}/{path} was not set aside, so that there is nothing to keep of it")

    def do(self, place: Place, step: MakeDirectory, record: Record) -> None:
        *above, name = components(step.path)
        entry = record["entry"]
        with directory(place.root, _LIBRARY) as library, directory(library, tuple(above)) as parent:
            if self._made(library, entry, name) and kind(parent, name):
                return
            if kind(parent, name):
                raise Refused(f"{waagent.LIB_DIR}/{step.path} was made by somebody else meanwhile")
            self._clear_build(library, entry, name, step.keep)
            _make_entry(library, entry)
            with (
                directory(library, (_SHELF, record["source"], name)) as old,
                directory(library, (_SHELF, entry)) as bench,
            ):
                files.make_directory(bench, name, 0o700)
                with directory(bench, (name,)) as new:
                    for kept in step.keep:
                        file = files.read(old, kept)
                        if file.digest != record["kept"][kept]:
                            raise Refused(f"{kept} of what was set aside was changed by somebody else")
                        files.create(new, kept, file.data, file.nature)
                files.give_directory(bench, name, files.nature(old, name))
                _write_manifest(library, entry, {"path": step.path, "made": True, "kept": record["kept"]})
                files.move(bench, name, parent, name)

    def undo(self, place: Place, step: MakeDirectory, record: Record) -> None:
        *above, name = components(step.path)
        entry = record["entry"]
        with directory(place.root, _LIBRARY) as library:
            if self._made(library, entry, name):
                # What the agent has put into it since is kept like everything else.
                with contextlib.suppress(FileNotFoundError), directory(library, tuple(above)) as parent:
                    if kind(parent, name):
                        taken = _on_shelf(library, record["way"], name)
                        way = _new_entry(place, library) if taken else record["way"]
                        _take(place, library, step.path, way)
            self._clear_build(library, entry, name, step.keep)
            _drop_entry(library, entry)

    def state(self, place: Place, step: MakeDirectory, record: Record) -> State:
        *above, name = components(step.path)
        entry = record["entry"]
        with directory(place.root, _LIBRARY) as library:
            if not _on_shelf(library, entry) and not _on_shelf(library, f"{entry}.json"):
                return State.NOT_DONE
            if self._made(library, entry, name):
                with contextlib.suppress(FileNotFoundError), directory(library, tuple(above)) as parent:
                    return State.DONE if kind(parent, name) else State.HALF
            return State.HALF

    def _made(self, library: int, entry: str, name: str) -> bool:
        return _on_shelf(library, f"{entry}.json") and not _on_shelf(library, entry, name)

    def _clear_build(self, library: int, entry: str, name: str, keep: Sequence[str]) -> None:
        """What was built and never came to its place is ours to remove."""
        with contextlib.suppress(FileNotFoundError), directory(library, (_SHELF, entry)) as bench:
            with directory(bench, (name,)) as built:
                for kept in keep:
                    files.clear(built, kept)
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(kept, dir_fd=built)
            os.rmdir(name, dir_fd=bench)


def _await(place: Place, comes: Callable[[], bool], seconds: float, why: str) -> None:
    """Raises StepFailed where it does not come in time."""
    end = place.monotonic() + seconds
    while not comes():
        if place.monotonic() >= end:
            raise StepFailed(f"{why} within {seconds:.0f} s")
        place.sleep(plan.POLL)


class _Wait(_Way[Wait]):
    def prepare(self, place: Place, step: Wait) -> Record:
        return {}

    def do(self, place: Place, step: Wait, record: Record) -> None:
        why = f"{waagent.LIB_DIR}/{step.path} did not hold {step.holds!r}"
        _await(place, lambda: self.state(place, step, record) is State.DONE, step.seconds, why)

    def state(self, place: Place, step: Wait, record: Record) -> State:
        parts = components(step.path)
        try:
            with directory(place.root, _LIBRARY + parts[:-1]) as parent:
                there = step.holds.encode() in files.read(parent, parts[-1]).data
        except (FileNotFoundError, Refused):
            there = False
        return State.DONE if there else State.NOT_DONE


class _WaitForReport(_Way[WaitForReport]):
    def prepare(self, place: Place, step: WaitForReport) -> Record:
        return {"since": place.now()}

    def do(self, place: Place, step: WaitForReport, record: Record) -> None:
        why = "the agent did not report to the platform"
        _await(place, lambda: self.state(place, step, record) is State.DONE, step.seconds, why)

    def state(self, place: Place, step: WaitForReport, record: Record) -> State:
        written = place.reported()
        return State.DONE if written is not None and written > record["since"] else State.NOT_DONE


# ------------------------------------------------------------------------------------------- the service manager


def _run(place: Place, command: Sequence[str], timeout: float) -> Ran:
    """Raises StepFailed where the command says that it failed."""
    ran = place.run(command, timeout)
    if ran.status != 0:
        said = ran.errors.strip() or ran.output.decode("utf-8", "replace").strip()
        raise StepFailed(f"`{' '.join(command)}` ended with status {ran.status}: {said[-500:] or 'it said nothing'}")
    return ran


def _systemctl(place: Place, *words: str, timeout: float = plan.CHANGE_UNIT) -> Ran:
    return _run(place, ("systemctl", "--no-ask-password", "--no-pager", *words), timeout)


_SHOWN = ("LoadState", "ActiveState", "UnitFileState", "InvocationID", "ActiveEnterTimestampMonotonic", "MainPID")
_RUNS = ("active", "activating", "reloading")


def _show(place: Place, unit: str) -> dict[str, str]:
    output = _systemctl(place, "show", f"--property={','.join(_SHOWN)}", "--", plan.unit(unit), timeout=_ASK).output
    pairs = (line.partition("=") for line in output.decode("utf-8", "replace").split("\n"))
    shown = {key: value for key, _, value in pairs}
    if "ActiveState" not in shown:
        raise StepFailed(f"the service manager does not say whether {unit} runs")
    return shown


def _loaded(place: Place, unit: str) -> dict[str, str]:
    """Raises Refused for a unit that is not there or is masked."""
    shown = _show(place, unit)
    if shown.get("LoadState") != "loaded":
        raise Refused(f"{unit} is {shown.get('LoadState') or 'not known to the service manager'}")
    return shown


class _Unit(_Way[S]):
    """A step about whether a unit runs."""

    def prepare(self, place: Place, step: S) -> Record:
        shown = _loaded(place, self.unit(step))
        invocation = [shown.get(key, "") for key in ("InvocationID", "ActiveEnterTimestampMonotonic", "MainPID")]
        return {"ran": shown["ActiveState"] in _RUNS, "invocation": invocation}

    def unit(self, step: S) -> str:
        raise NotImplementedError


def _start(place: Place, unit: str) -> None:
    if _loaded(place, unit)["ActiveState"] not in _RUNS:
        _systemctl(place, "start", "--", unit)


def _stop(place: Place, unit: str) -> None:
    if _loaded(place, unit)["ActiveState"] not in ("inactive", "failed"):
        _systemctl(place, "stop", "--", unit)


class _StartUnit(_Unit[StartUnit]):
    def unit(self, step: StartUnit) -> str:
        return step.unit

    def do(self, place: Place, step: StartUnit, record: Record) -> None:
        _start(place, step.unit)

    def undo(self, place: Place, step: StartUnit, record: Record) -> None:
        if not record["ran"]:
            _stop(place, step.unit)

    def state(self, place: Place, step: StartUnit, record: Record) -> State:
        return State.DONE if _show(place, step.unit)["ActiveState"] in _RUNS else State.NOT_DONE


class _StopUnit(_Unit[StopUnit]):
    def unit(self, step: StopUnit) -> str:
        return step.unit

    def do(self, place: Place, step: StopUnit, record: Record) -> None:
        _stop(place, step.unit)

    def undo(self, place: Place, step: StopUnit, record: Record) -> None:
        if record["ran"]:
            _start(place, step.unit)

    def state(self, place: Place, step: StopUnit, record: Record) -> State:
        active = _show(place, step.unit)["ActiveState"]
        if active in ("inactive", "failed"):
            return State.DONE
        return State.HALF if active == "deactivating" else State.NOT_DONE


class _RestartUnit(_Unit[RestartUnit]):
    """Not taken back, but a unit that ran is not left stopped."""

    def unit(self, step: RestartUnit) -> str:
        return step.unit

    def do(self, place: Place, step: RestartUnit, record: Record) -> None:
        _loaded(place, step.unit)
        if self.state(place, step, record) is not State.DONE:
            _systemctl(place, "restart", "--", step.unit, timeout=plan.RESTART)

    def undo(self, place: Place, step: RestartUnit, record: Record) -> None:
        if record["ran"]:
            _start(place, step.unit)

    def state(self, place: Place, step: RestartUnit, record: Record) -> State:
        shown = _show(place, step.unit)
        if shown["ActiveState"] not in _RUNS:
            return State.HALF if record["ran"] else State.NOT_DONE
        now = [shown.get(key, "") for key in ("InvocationID", "ActiveEnterTimestampMonotonic", "MainPID")]
        return State.DONE if now != record["invocation"] else State.NOT_DONE


class _ResetFailed(_Way[ResetFailed]):
    def prepare(self, place: Place, step: ResetFailed) -> Record:
        _loaded(place, step.unit)
        return {}

    def do(self, place: Place, step: ResetFailed, record: Record) -> None:
        # Also of a unit that has not failed yet: its starts are counted too.
        _systemctl(place, "reset-failed", "--", plan.unit(step.unit))

    def state(self, place: Place, step: ResetFailed, record: Record) -> State:
        return State.NOT_DONE if _show(place, step.unit)["ActiveState"] == "failed" else State.DONE


class _EnableUnit(_Way[EnableUnit]):
    def prepare(self, place: Place, step: EnableUnit) -> Record:
        before = _loaded(place, step.unit).get("UnitFileState", "")
        if before not in ("enabled", "disabled"):
            raise Refused(f"{step.unit} is {before or 'not a unit of a file'}, and only a disabled unit can be enabled")
        return {"before": before}

    def do(self, place: Place, step: EnableUnit, record: Record) -> None:
        if self.state(place, step, record) is not State.DONE:
            _systemctl(place, "enable", "--", step.unit)

    def undo(self, place: Place, step: EnableUnit, record: Record) -> None:
        if record["before"] == "disabled" and self.state(place, step, record) is State.DONE:
            _systemctl(place, "disable", "--", step.unit)

    def state(self, place: Place, step: EnableUnit, record: Record) -> State:
        after = _show(place, step.unit).get("UnitFileState", "")
        return {"enabled": State.DONE, "disabled": State.NOT_DONE}.get(after, State.HALF)


class _DaemonReload(_Way[DaemonReload]):
    """Nothing tells whether it was done; once more does no harm."""

    def prepare(self, place: Place, step: DaemonReload) -> Record:
        return {}

    def do(self, place: Place, step: DaemonReload, record: Record) -> None:
        _systemctl(place, "daemon-reload")

    def state(self, place: Place, step: DaemonReload, record: Record) -> State:
        return State.NOT_DONE


class _WriteDropIn(_Way[WriteDropIn]):
    def preview(self, place: Place, step: WriteDropIn) -> str:
        path = plan.drop_in(step)
        return "\n".join(difflib.unified_diff([], step.text.split("\n"), "/dev/null", path, lineterm=""))

    def prepare(self, place: Place, step: WriteDropIn) -> Record:
        path = plan.drop_in(step)
        with directory(place.root, _UNITS) as units:
            made = kind(units, f"{step.unit}.d") == ""
            if not made:
                with directory(units, (f"{step.unit}.d",)) as drop_ins:
                    if kind(drop_ins, step.name):
                        raise Refused(f"{path} is there already")
        return {"made_directory": made, "after": files.digest(step.text.encode())}

    def do(self, place: Place, step: WriteDropIn, record: Record) -> None:
        with directory(place.root, _UNITS) as units:
            if record["made_directory"]:
                files.make_directory(units, f"{step.unit}.d", 0o755)
            with directory(units, (f"{step.unit}.d",)) as drop_ins:
                files.clear(drop_ins, step.name)
                found = self._found(drop_ins, step)
                if found is None:
                    files.create(drop_ins, step.name, step.text.encode(), 0o644)
                elif found != step.text.encode():
                    raise self._changed(step, found)

    def undo(self, place: Place, step: WriteDropIn, record: Record) -> None:
        with directory(place.root, _UNITS) as units:
            with contextlib.suppress(FileNotFoundError), directory(units, (f"{step.unit}.d",)) as drop_ins:
                files.clear(drop_ins, step.name)
                found = self._found(drop_ins, step)
                if found is not None and found != step.text.encode():
                    raise self._changed(step, found)
                if found is not None:
                    os.unlink(step.name, dir_fd=drop_ins)
                os.fsync(drop_ins)
            if record["made_directory"]:
                files.remove_if_empty(units, f"{step.unit}.d")
        _systemctl(place, "daemon-reload")

    def state(self, place: Place, step: WriteDropIn, record: Record) -> State:
        try:
            with directory(place.root, (*_UNITS, f"{step.unit}.d")) as drop_ins:
                if files.is_left(drop_ins, step.name):
                    return State.HALF
                found = self._found(drop_ins, step)
                if found is None:
                    bare = record["made_directory"] and not files.names(drop_ins)
                    return State.HALF if bare else State.NOT_DONE
                return State.DONE if found == step.text.encode() else State.HALF
        except FileNotFoundError:
            return State.NOT_DONE

    def _found(self, drop_ins: int, step: WriteDropIn) -> bytes | None:
        """What is at its place, None if nothing is."""
        try:
            return files.read(drop_ins, step.name).data
        except FileNotFoundError:
            return None

    def _changed(self, step: WriteDropIn, found: bytes) -> Refused:
        path = plan.drop_in(step)
        return Refused(
            f"{path} was changed by somebody else since; remove it by hand if it is not wanted",
            _diff(step.text.encode(), found, path),
        )


# -------------------------------------------------------------------------------------------- package managers


class _PackageUpgrade(_Way[PackageUpgrade]):
    def prepare(self, place: Place, step: PackageUpgrade) -> Record:
        state, version = self._installed(place, step)
        if state != "installed":
            raise Refused(f"{step.package} is {state}, and only a package that is installed is upgraded")
        return {"version": version}

    def do(self, place: Place, step: PackageUpgrade, record: Record) -> None:
        # One that an earlier start has begun goes on without whoever began it.
        _await(place, lambda: not self._at_work(place), plan.UPGRADE + plan.LET_GO, f"{_UPGRADES} has not ended")
        state, stale = self.state(place, step, record), ""
        if state is State.DONE:
            return
        if state is State.HALF and _has(place, "apt-get"):
            configure = ("dpkg", "--force-confdef", "--force-confold", "--configure", step.package)
            _outside(place, _UPGRADES, (*_QUIET, *configure), plan.UPGRADE)
        elif _has(place, "apt-get"):
            # A repository that does not answer is no reason against what the others hold.
            try:
                _outside(place, _REFRESHES, (*_QUIET, "apt-get", "-qq", *_NO_WAITING, "update"), plan.REFRESH)
            except (TimeoutError, StepFailed) as error:
                stale = f"; their lists were not fetched: {error}"
            upgrade = ("install", "-y", "--only-upgrade", "--no-remove", "--no-install-recommends", step.package)
            self._alone(_run(place, (*_QUIET, "apt-get", "-qq", "--simulate", *upgrade), plan.SIMULATE), step)
            keep = ("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold")
            _outside(place, _UPGRADES, (*_QUIET, "apt-get", "-q", *_NO_WAITING, *keep, *upgrade), plan.UPGRADE)
        else:
            for manager, words in _RPM_MANAGERS.items():
                if _has(place, manager):
                    _outside(place, _UPGRADES, (manager, *words, step.package), plan.UPGRADE)
                    break
            else:
                raise Refused(f"there is no package manager that is known: apt-get, {', '.join(_RPM_MANAGERS)}")
        if self.state(place, step, record) is not State.DONE:
            held = f"{step.package} is still {record['version']}: the repositories hold nothing newer"
            raise StepFailed(f"{held}{stale}")

    def undo(self, place: Place, step: PackageUpgrade, record: Record) -> None:
        if self.state(place, step, record) is not State.NOT_DONE:
            raise Refused(f"the upgrade of {step.package} from {record['version']} is not taken back")

    def state(self, place: Place, step: PackageUpgrade, record: Record) -> State:
        state, version = self._installed(place, step)
        if state != "installed" or self._at_work(place):
            return State.HALF
        return State.NOT_DONE if version == record["version"] else State.DONE

    def _at_work(self, place: Place) -> bool:
        shown = _systemctl(place, "show", "--property=LoadState", "--", _UPGRADES, timeout=_ASK).output
        return shown.strip() != b"LoadState=not-found"

    def _alone(self, simulated: Ran, step: PackageUpgrade) -> None:
        """Raises Refused where more than this package would change."""
        words = [line.split() for line in simulated.output.decode("utf-8", "replace").split("\n")]
        others = {line[1] for line in words if len(line) > 1 and line[0] in ("Inst", "Remv")} - {step.package}
        if others:
            raise Refused(f"the upgrade of {step.package} would change other packages: {', '.join(sorted(others))}")

    def _installed(self, place: Place, step: PackageUpgrade) -> tuple[str, str]:
        """`installed`, `not installed` or `half installed`, and the version."""
        name = plan.package(step.package)
        if _has(place, "apt-get"):
            ran = place.run(("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Version}\\n", name), _ASK)
            status, _, version = ran.output.decode("utf-8", "replace").split("\n")[0].partition(" ")
            if ran.status != 0 or status in ("not-installed", "config-files"):
                return "not installed", ""
            return ("installed" if status == "installed" else "half installed"), version
        form = "%{EPOCH}:%{VERSION}-%{RELEASE}\\n"
        ran = place.run(("rpm", "--query", f"--queryformat={form}", name), _ASK)
        versions = ran.output.decode("utf-8", "replace").split()
        if ran.status != 0:
            return "not installed", ""
        return ("installed" if len(versions) == 1 else "half installed"), " ".join(versions)


def _has(place: Place, program: str) -> bool:
    return (place.root / "usr/bin" / program).exists()


def _outside(place: Place, unit: str, command: Sequence[str], timeout: float) -> Ran:
    """Run what writes anywhere and has scripts that do anything. Where that is read-only to us the service manager runs
    it, in a unit of this name: there is one at a time, and it goes on when we are killed."""
    if not os.statvfs(place.root / "usr").f_flag & os.ST_RDONLY:
        return _run(place, command, timeout)
    ends = (f"--property=RuntimeMaxSec={timeout:.0f}", f"--property=TimeoutStopSec={plan.LET_GO / 2:.0f}")
    waits = ("systemd-run", "--no-ask-password", "--quiet", "--collect", "--wait", "--pipe", f"--unit={unit}", *ends)
    return _run(place, (*waits, "--", *command), timeout + plan.LET_GO)


# needrestart would restart services of others.
_QUIET = ("env", "DEBIAN_FRONTEND=noninteractive", "APT_LISTCHANGES_FRONTEND=none", "NEEDRESTART_SUSPEND=1")
_NO_WAITING = ("-o", "DPkg::Lock::Timeout=0")
# None of these removes a package when it is only told to upgrade; a package that another replaces is left.
_RPM_MANAGERS: Mapping[str, tuple[str, ...]] = {
    "zypper": ("--non-interactive", "update", "--no-recommends", "--no-force-resolution", "--"),
    "tdnf": ("-y", "upgrade"),
    "dnf": ("-y", "-q", "--setopt=obsoletes=False", "--setopt=install_weak_deps=False", "upgrade"),
    "yum": ("-y", "-q", "--setopt=obsoletes=0", "update"),
}


# --------------------------------------------------------------------------------------------------- all of them

_WAYS: Mapping[type, _Way[Any]] = {
    StartUnit: _StartUnit(),
    StopUnit: _StopUnit(),
    RestartUnit: _RestartUnit(),
    ResetFailed: _ResetFailed(),
    EnableUnit: _EnableUnit(),
    WriteDropIn: _WriteDropIn(),
    DaemonReload: _DaemonReload(),
    SetConfigKey: _SetConfigKey(),
    JoinConfigLines: _JoinConfigLines(),
    SetAside: _SetAside(),
    MakeDirectory: _MakeDirectory(),
    PackageUpgrade: _PackageUpgrade(),
    Wait: _Wait(),
    WaitForReport: _WaitForReport(),
}


def _way(step: Step) -> _Way[Any]:
    """Raises ValueError for a step with a name that is not plain: whoever describes a step has seen its names."""
    describe(step)
    return _WAYS[type(step)]
