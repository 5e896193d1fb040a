"""How does one look go? Every probe that was asked for, side by side, each within its budget, all within one."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from backupready import wire
from backupready.config import Config, ConfigError, from_texts
from backupready.eyes.confine import confine
from backupready.eyes.machine import CapturedMachine, LiveMachine
from backupready.model import (
    CannotTell,
    Finding,
    Looked,
    Machine,
    NotNow,
    Planned,
    Probe,
    ProbeState,
    Remedy,
    Setting,
    Unsuitable,
)
from backupready.observe import clean, observe

_REQUEST_TIMEOUT = 5.0  # s; the mind writes its request at once
_MIND_USER = "backupready"

MachineFor = Callable[[Mapping[str, Any]], Machine]


def live(config: Config) -> MachineFor:
    """This machine, or the emulated guest that the configuration names."""

    def machine(memory: Mapping[str, Any]) -> Machine:
        return LiveMachine(config["machine.root"], config["machine.wire_server"], config["machine.host_plugin"], memory)

    return machine


def captured(root: str, at: float | None) -> MachineFor:
    """A captured tree."""
    return lambda memory: CapturedMachine(root, at, memory)


def look(
    probes: Sequence[Probe],
    machine_for: MachineFor,
    config: Config,
    memory: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Looked, ...]:
    """Let every probe look, side by side. A probe that is not back within its budget is given up: its thread may
    hang in the kernel, and ends with the process."""
    remembered = memory or {}
    results: dict[str, Looked] = {}
    started = time.monotonic()
    threads = []
    for probe in probes:
        machine = machine_for(remembered.get(probe.name, {}))
        thread = threading.Thread(
            target=lambda p=probe, m=machine: results.__setitem__(p.name, observe(p, m, config)), daemon=True
        )
        thread.start()
        threads.append((probe, thread))
    longest = config["look.deadline"].total_seconds()
    looks = []
    for probe, thread in threads:
        budget = min(probe.budget.total_seconds(), longest)
        thread.join(max(0.0, started + budget - time.monotonic()))
        late = Looked(probe.name, ProbeState.GIVEN_UP, time.monotonic() - started, why=f"not back after {budget:g} s")
        looks.append(results.get(probe.name, late))
    return tuple(looks)


class _Shown:
    """A machine whose service manager somebody else has asked."""

    def __init__(self, machine: Machine, units: wire.Units) -> None:
        self._machine = machine
        self._units = units

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def unit(self, name: str, properties: Sequence[str]) -> Mapping[str, str]:
        if name not in self._units:
            raise CannotTell(f"nobody has asked the service manager for {name}")
        return self._units[name]


def plan(
    remedies: Mapping[str, Remedy],
    wanted: Sequence[wire.Which],
    machine_for: MachineFor,
    longest: float,
    units: wire.Units | None = None,
) -> tuple[Planned, ...]:
    """What each remedy would do, side by side, and within so many seconds. Nothing is changed by it."""
    results: dict[wire.Which, Planned] = {}
    started = time.monotonic()

    def make(which: wire.Which) -> None:
        machine: Any = machine_for({})
        results[which] = _planned(remedies[which[0]], which, machine if units is None else _Shown(machine, units))

    threads = [threading.Thread(target=make, args=(which,), daemon=True) for which in dict.fromkeys(wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, started + longest - time.monotonic()))
    late = f"the plan was not made within {longest:g} s"
    return tuple(results.get(which) or Planned(*which, why=late) for which in wanted)


def _planned(remedy: Remedy, which: wire.Which, machine: Machine) -> Planned:
    """The plan, whatever happens while it is made: it tells what it is about, and never takes a look with it."""
    try:
        return Planned(*which, steps=tuple(remedy.plan(machine, Finding(which[1], which[2]))))
    except NotNow as error:
        why = f"not as long as this is so: {error}"
    except Unsuitable as error:
        why = f"it is not for this machine as it is: {error}"
    except CannotTell as error:
        why = f"it cannot be told whether it fits: {error.why}"
    except Exception as error:  # noqa: BLE001 - as of a probe, a defect of one must not take the others with it
        why = f"a defect: {type(error).__name__}: {error}"
    return Planned(*which, why=clean(why))


def serve(
    known: Mapping[str, Probe],
    table: Sequence[Setting],
    remedies: Callable[[], Mapping[str, Remedy]] = dict,
    show_units: Callable[[Machine], wire.Units] | None = None,
) -> int:
    """What the socket unit and the child door start: one request on standard input, one answer, and out. `remedies` are
    loaded only where a plan is asked for; `show_units` asks the service manager for what plans go by, and raises
    CannotTell.

    The peer must be the mind's user, root, or whoever runs this. Ends the process at once when the answer is
    written, since a thread may hang in the kernel. Returns only where standard input is no socket.
    """
    if not stat.S_ISSOCK(os.fstat(sys.stdin.fileno()).st_mode):
        return -1
    if why := confine():
        sys.stderr.write(f"backupready look: cannot give up what it does not need: {why}\n")
    connection = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    uid = wire.peer_uid(connection)
    if uid not in _welcome():
        answer = wire.encode_error(f"uid {uid} may not ask for a look")
    else:
        try:
            received = wire.receive(connection, wire.REQUEST_LIMIT, _REQUEST_TIMEOUT)
            request = wire.decode_request(received, known, remedies)
            settings = from_texts(table, _allowed(request.settings, uid), "the request")
            machine_for = live(settings)
            plans: tuple[Planned, ...] = ()
            if request.plans:
                longest = settings["look.deadline"].total_seconds()
                plans = plan(remedies(), request.plans, machine_for, longest, request.units)
            units = show_units(machine_for({})) if request.show_units and show_units is not None else None
            probes = [known[name] for name in request.probes]
            answer = wire.encode_answer(look(probes, machine_for, settings, request.memory), plans, units)
        except CannotTell as error:
            answer = wire.encode_error(clean(error.why))
        except (wire.Malformed, ConfigError) as error:
            answer = wire.encode_error(f"cannot look: {error}")
    connection.settimeout(_REQUEST_TIMEOUT)
    with contextlib.suppress(OSError):  # the mind has given up; there is nobody left to tell
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
    sys.stderr.flush()
    os._exit(0)


def _allowed(settings: Mapping[str, str], uid: int) -> dict[str, str]:
    """The settings that are taken from whoever asks. Where and what to read is no matter for another user: with more
    rights than the asker we look at this machine, as it is."""
    if uid == os.getuid():
        return dict(settings)
    return {name: text for name, text in settings.items() if not name.startswith("machine.")}


def _welcome() -> set[int]:
    uids = {0, os.getuid()}
    with contextlib.suppress(KeyError):
        uids.add(pwd.getpwnam(_MIND_USER).pw_uid)
    return uids
