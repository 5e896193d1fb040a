"""What must be so before a remedy may touch the agent or its extension, so that it cannot make things worse?

Each raises Unsuitable with what is not so, NotNow where that may pass, or CannotTell: what cannot be told is not taken
for granted.
"""

from __future__ import annotations

from backupready import plan, vmsnapshot, waagent
from backupready.model import Absent, Machine, NotNow, Step, Unreachable, Unsuitable, is_there

_UNIT_PROPERTIES = (
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "Result",
    "Restart",
    "ConditionResult",
    "ConditionTimestampMonotonic",
    "ControlGroup",
    "KillMode",
)
_TIMEOUT, _BUDGET = 5.0, 10.0  # s, of one request and of all its tries
_SPACE_TIMEOUT = 10.0  # s
# The package and what is unpacked of it are some 20 MB in some 300 files. Where unpacking fails for want of room the
# agent removes the whole directory.
_ROOM_FOR_PACKAGE, _INODES_FOR_PACKAGE = 100 << 20, 2000


def plain(*steps: Step) -> tuple[Step, ...]:
    """These steps, where every name in them is one that the hands accept."""
    for step in steps:
        try:
            plan.describe(step)
        except ValueError as error:
            raise Unsuitable(f"{error}, and nothing is done about such names: see to it by hand") from None
    return steps


def shown_units(machine: Machine) -> dict[str, dict[str, str]]:
    """What the service manager shows of every unit that may start the agent: all that a plan asks it for."""
    return {name: dict(machine.unit(name, _UNIT_PROPERTIES)) for name in waagent.UNITS}


def agent_unit(machine: Machine) -> tuple[str, dict[str, str]]:
    """The name of the unit that starts the agent, and its properties."""
    for name in waagent.UNITS:
        shown = dict(machine.unit(name, _UNIT_PROPERTIES))
        if shown.get("LoadState") in ("loaded", "masked"):
            if "masked" in (shown["LoadState"], shown.get("UnitFileState", "").partition("-")[0]):
                raise Unsuitable(f"{name} is masked: somebody does not want it to be started")
            return name, shown
    raise Unsuitable(f"there is no unit {' or '.join(waagent.UNITS)}, so that it is not known what starts the agent")


def restartable_unit(machine: Machine) -> tuple[str, dict[str, str]]:
    """The agent's unit and its properties, where the agent will run after a restart.

    An agent that runs may have been started before what would keep it from starting now.
    """
    name, shown = agent_unit(machine)
    tried = shown.get("ConditionTimestampMonotonic", "") not in ("", "0")
    down = shown.get("ActiveState") in ("inactive", "failed")
    if down and tried and shown.get("ConditionResult") == "no":
        raise Unsuitable(f"a condition of {name} does not hold, so that a start starts nothing")
    disabled = f"{waagent.LIB_DIR}/disable_agent"
    if is_there(machine, disabled):
        raise Unsuitable(f"{disabled} would switch the agent off at its next start")
    if not any(is_there(machine, path) for path in waagent.BINARIES):
        raise Unsuitable("the agent's program is missing, so that it would not start again")
    config = agent_config(machine)
    try:
        config.data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unsuitable(f"{config.path} is not UTF-8, so that the agent would not start again") from None
    if not config.data:
        raise Unsuitable(f"{config.path} is empty, so that the agent would not start again")
    _no_stranger(machine)
    return name, shown


def agent_config(machine: Machine) -> waagent.AgentConfig:
    """The agent's configuration, without which it does not start."""
    try:
        return waagent.agent_config(machine)
    except Absent as error:
        raise Unsuitable(f"there is no {error}, without which the agent does not start") from None


def _no_stranger(machine: Machine) -> None:
    """The agent ends at once, with success, where its pid file names a living process."""
    try:
        text = machine.read(waagent.PID_FILE, 64).decode("ascii", "replace").strip()
    except Absent:
        return
    processes = machine.processes()
    agent = waagent.agent_processes(processes)
    ours = {process.pid for process in (agent.daemon, agent.worker) if process is not None}
    for process in processes:
        if str(process.pid) == text and process.state != "Z" and process.pid not in ours:
            raise Unsuitable(
                f"{waagent.PID_FILE} names process {process.pid} ({waagent.program(process)}), which the agent would"
                " take for itself; move the file away first"
            )


def wire_server_answers(machine: Machine) -> None:
    """Root reaches the wire server, from which the agent has its goal state."""
    _answers(machine, f"http://{machine.wire_server}/?comp=versions", b"<Version")


def package_can_be_had(machine: Machine) -> None:
    """The extension's package can be fetched anew and has room; else it would be gone, which is worse than before."""
    _answers(machine, f"http://{machine.host_plugin}/versions", b"")
    room = machine.space((waagent.LIB_DIR,), _SPACE_TIMEOUT).told.get(waagent.LIB_DIR)
    if room is None:
        raise NotNow(f"the file system of {waagent.LIB_DIR} does not answer")
    if isinstance(room, Exception):
        raise room
    free = room.available if room.free is None else room.free
    if free < _ROOM_FOR_PACKAGE or (room.inodes and room.inodes_free < _INODES_FOR_PACKAGE):
        raise NotNow(f"{waagent.LIB_DIR} has too little room to unpack the extension anew")


def _answers(machine: Machine, url: str, holds: bytes) -> None:
    try:
        answer = machine.get(url, _TIMEOUT, _BUDGET)
    except Unreachable as error:
        raise NotNow(f"{url} does not answer: {error.how}") from None
    if answer.status != 200 or holds not in answer.body:
        raise NotNow(f"{url} answers {answer.status}, not as it should")


def no_snapshot(machine: Machine) -> None:
    """No snapshot is under way, as far as can be told."""
    if why := vmsnapshot.under_way(machine):
        raise NotNow(f"a snapshot may be under way: {why}")


def wanted_extension(machine: Machine) -> tuple[str, waagent.HandlerDirectory | None]:
    """The version of VMSnapshot that the newest goal state wants enabled, since the agent installs no other anew; and
    its directory, None where there is none at all."""
    try:
        path, handlers = waagent.wanted_handlers(machine)
    except Absent:
        raise Unsuitable("the agent has kept no goal state that asks for the extension") from None
    wanted = next((handler for handler in handlers if handler.name == waagent.VMSNAPSHOT), None)
    if wanted is None or wanted.state != "enabled":
        raise Unsuitable(f"{path} does not want the extension enabled, so that the agent would not install it anew")
    waagent.version_of(wanted.version)
    try:
        names = machine.names(waagent.LIB_DIR)
    except Absent as error:
        raise Unsuitable(f"there is no {error}") from None
    there = [one for one in waagent.handler_directories(names) if one.name == waagent.VMSNAPSHOT]
    for directory in there:
        if directory.version == wanted.version:
            return wanted.version, directory
    if there:
        raise NotNow(f"{path} wants version {wanted.version}, and {there[-1].version} is there: let the upgrade end")
    return wanted.version, None
