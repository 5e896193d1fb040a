"""How does one look go? Every probe that was asked for, side by side, each within its budget, all within one.

The runner, not the probe, adds success, duration and isolation. This is the one place where any exception is
caught: what is not CannotTell is a defect of ours, and becomes a failed look with its traceback.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import socket
import stat
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from backupready import wire
from backupready.config import Config, ConfigError, from_texts
from backupready.eyes.confine import confine
from backupready.eyes.machine import CapturedMachine, LiveMachine
from backupready.model import (
    Absent,
    Answer,
    CannotTell,
    Finding,
    Looked,
    Machine,
    Probe,
    ProbeState,
    Reading,
    Remember,
    Scalar,
    Setting,
    Unreachable,
    Watch,
)

_REQUEST_TIMEOUT = 5.0  # s; the mind writes its request at once
_LONGEST_EVIDENCE = 500  # characters
_MIND_USER = "backupready"

# The signature of a shared access address, and whatever calls itself a key, a token, a password or a secret.
_SECRET = re.compile(
    r"((?:(?<![a-z])sig|[\w-]{0,40}(?:token|key|passw(?:or)?d|secret|signature|authorization))[\"']?\s*[=:]\s*[\"']?"
    r"(?:(?:Bearer|Basic|SharedKey(?:Lite)?)\s+)?)[^\s&\"',;]+",
    re.IGNORECASE,
)

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
        machine = _Counting(machine_for(remembered.get(probe.name, {})))
        thread = threading.Thread(
            target=lambda p=probe, m=machine: results.__setitem__(p.name, _look(p, m, config)), daemon=True
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


class _Counting:
    """A machine that counts the requests made of the network."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.attempts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def get(self, url: str, timeout: float, budget: float) -> Answer:
        try:
            answer = self._machine.get(url, timeout, budget)
        except Unreachable as error:
            self.attempts += error.attempts
            raise
        self.attempts += answer.attempts
        return answer


def _look(probe: Probe, machine: Any, config: Config) -> Looked:
    """One probe's look, whatever happens in it."""
    started = time.monotonic()
    findings: list[Finding] = []
    readings: list[Reading] = []
    watches: list[Watch] = []
    unknown: list[CannotTell] = []
    memory: Mapping[str, Any] = {}
    state, why, trace = ProbeState.OK, "", ""
    try:
        for seen in probe.look(machine, config.section(probe.name)):
            if isinstance(seen, Finding):
                findings.append(Finding(seen.problem, clean(seen.key), _clean_evidence(seen.evidence)))
            elif isinstance(seen, Reading):
                readings.append(Reading(seen.metric, seen.value, {k: clean(v) for k, v in seen.labels.items()}))
            elif isinstance(seen, Watch):
                watches.append(seen)
            elif isinstance(seen, Remember):
                memory = _clean_memory(seen.memory)
            else:
                unknown.append(CannotTell(clean(seen.why), seen.problems))
    except CannotTell as error:
        state, why = ProbeState.CANNOT_TELL, clean(error.why)
    except Absent as error:
        state, why = ProbeState.CANNOT_TELL, clean(f"there is no {error}")
    except Exception as error:  # noqa: BLE001 - a probe's defect must not take the others with it
        state, why = ProbeState.FAILED, clean(f"{type(error).__name__}: {error}")
        trace = clean(traceback.format_exc(), 8000)
    return Looked(
        probe=probe.name,
        state=state,
        seconds=time.monotonic() - started,
        attempts=machine.attempts,
        why=why,
        traceback=trace,
        findings=tuple(findings),
        readings=tuple(readings),
        watches=tuple(watches),
        unknown=tuple(unknown),
        memory=memory,
    )


def clean(text: str, longest: int = _LONGEST_EVIDENCE) -> str:
    """Text from the machine, fit to travel: no secret, no control character, not too long."""
    # Cut first: a document of megabytes is not searched for secrets that nobody will see.
    safe = _SECRET.sub(r"\1[redacted]", text[: 2 * longest].encode("utf-8", "replace").decode())
    safe = "".join(c if c.isprintable() or (c == "\n" and longest > _LONGEST_EVIDENCE) else " " for c in safe)
    return safe if len(safe) <= longest else safe[: longest - 1] + "…"


def _clean_evidence(evidence: Mapping[str, Scalar]) -> dict[str, Scalar]:
    return {name: clean(fact) if isinstance(fact, str) else fact for name, fact in evidence.items()}


def _clean_memory(memory: Mapping[str, Any]) -> dict[str, Any]:
    """What a probe remembers leaves this process too."""

    def cleaned(value: Any) -> Any:
        if isinstance(value, str):
            return clean(value)
        if isinstance(value, dict):
            return {name: cleaned(inner) for name, inner in value.items()}
        return value

    return {name: cleaned(value) for name, value in memory.items()}


def serve(known: Mapping[str, Probe], table: Sequence[Setting]) -> int:
    """What the socket unit and the child door start: one request on standard input, one answer, and out.

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
            request = wire.decode_request(wire.receive(connection, wire.REQUEST_LIMIT, _REQUEST_TIMEOUT), known)
            settings = from_texts(table, _allowed(request.settings, uid), "the request")
            probes = [known[name] for name in request.probes]
            answer = wire.encode_answer(look(probes, live(settings), settings, request.memory))
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
