"""What does a probe see, whatever happens while it looks?

The runner, not the probe, adds success, duration and isolation. This is the one place where any exception is
caught: what is not CannotTell is a defect of ours, and becomes a failed look with its traceback.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Callable, TypeVar, cast

from backupready.config import Config
from backupready.model import (
    Absent,
    Answer,
    CannotTell,
    Fetched,
    Finding,
    Looked,
    Machine,
    Probe,
    ProbeState,
    Reading,
    Remember,
    Run,
    Scalar,
    Unreachable,
    Watch,
)
from backupready.redaction import redact

_LONGEST_EVIDENCE = 500  # characters
T = TypeVar("T")


def observe(probe: Probe, machine: Machine, config: Config) -> Looked:
    """One probe's look at this machine, whatever happens in it."""
    counting: Any = _Counting(machine)
    started = time.monotonic()
    findings: list[Finding] = []
    readings: list[Reading] = []
    watches: list[Watch] = []
    runs: list[Run] = []
    unknown: list[CannotTell] = []
    memory: Mapping[str, Any] = {}
    state, why, trace = ProbeState.OK, "", ""
    try:
        for seen in probe.look(counting, config.section(probe.name)):
            if isinstance(seen, Finding):
                findings.append(Finding(seen.problem, clean(seen.key), _clean_evidence(seen.evidence), seen.effect))
            elif isinstance(seen, Reading):
                readings.append(Reading(seen.metric, seen.value, {k: clean(v) for k, v in seen.labels.items()}))
            elif isinstance(seen, Watch):
                watches.append(seen)
            elif isinstance(seen, Run):
                runs.append(replace(seen, path=clean(seen.path)))
            elif isinstance(seen, Remember):
                memory = _clean_memory(seen.memory)
            else:
                unknown.append(CannotTell(clean(seen.why), seen.problems, seen.effect))
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
        attempts=counting.attempts,
        why=why,
        traceback=trace,
        findings=tuple(findings),
        readings=tuple(readings),
        watches=tuple(watches),
        runs=tuple(runs),
        unknown=tuple(unknown),
        memory=memory,
    )


class _Counting:
    """A machine that counts the requests made of the network."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.attempts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def get(self, *request: Any, **more: Any) -> Answer:
        return self._counted(lambda: self._machine.get(*request, **more))

    def fetch(self, *request: Any, **more: Any) -> Fetched:
        return self._counted(lambda: self._machine.fetch(*request, **more))

    def _counted(self, ask: Callable[[], T]) -> T:
        try:
            answer: Any = ask()
        except Unreachable as error:
            self.attempts += error.attempts
            raise
        self.attempts += answer.attempts
        return cast("T", answer)


def clean(text: str, longest: int = _LONGEST_EVIDENCE) -> str:
    """Text from the machine, fit to travel: no secret, no control character, not too long."""
    # Cut first: a document of megabytes is not searched for secrets that nobody will see.
    safe = redact(text[: 2 * longest].encode("utf-8", "replace").decode())
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
        if isinstance(value, (list, tuple)):
            return [cleaned(inner) for inner in value]
        return value

    return {name: cleaned(value) for name, value in memory.items()}
