"""Machines worth a picture: what a status page is made of, healthy and otherwise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from backupready import probes
from backupready.mind.loads import SLOT, Loads
from backupready.mind.page import Past
from backupready.model import (
    Attempt,
    CannotTell,
    Effect,
    Finding,
    Fixes,
    Happened,
    LearnedSchedule,
    Limit,
    Load,
    Looked,
    Outlook,
    Phase,
    Prediction,
    ProbeState,
    Result,
    Run,
    Scalar,
    Snapshot,
    Temporary,
    Verdict,
    Window,
)
from fake import looked, snapshot

HOUR, DAY = 3600.0, 86400.0
NOON = 1795604400.0  # 2026-11-25T11:00:00Z, 12:00 in Berlin
TONIGHT = NOON + 10 * HOUR
SCHEDULE, ZONE = "daily at 22:00 in Europe/Berlin", "Europe/Berlin"
FACTS = {"name": "payroll-db-02", "system": "Debian GNU/Linux 12", "kernel": "6.1.0-28-cloud-amd64"}

HOSTILE = (
    "<script>alert(1)</script>\"'>&amp;</style></title><img src=x onerror=alert(2)>"
    " \u202edrawkcab\u2066 \x1b[31m\0\ud800 " + "W" * 5000
)


@dataclass(frozen=True)
class Scene:
    """All that a status page is made of."""

    snapshot: Snapshot
    past: Past


def windows(start: float, count: int, schedule: str = SCHEDULE) -> tuple[Window, ...]:
    return tuple(Window(start + n * DAY, start + n * DAY + 2.5 * HOUR, schedule, False, ZONE) for n in range(count))


def outlook(at: float, *predictions: Prediction, **changes: object) -> Outlook:
    coming = windows(TONIGHT, 4)
    whole = Outlook(
        at,
        Phase.IDLE,
        coming[0],
        coming,
        lead=4 * HOUR,
        expected_interval=DAY,
        configured=True,
        since=at - 9 * DAY,
        predictions=predictions,
        scores=((Verdict.READY, Happened.SUCCEEDED, 27), (Verdict.BLOCKED, Happened.FAILED, 2)),
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def told(at: float, verdict: Verdict, happened: Happened | None, *reasons: str) -> Prediction:
    return Prediction(at, at - 20, verdict, reasons, happened, at + HOUR if happened else None)


def past(at: float, runs: Sequence[Run]) -> Past:
    """A day of a machine that works in office hours, with a gap of half an hour, and the backup of the night."""
    loads = Loads()
    slots = range(int((at - DAY) // SLOT), int(at // SLOT))
    for slot in slots:
        hour = (slot * SLOT / HOUR + 1) % 24
        if 4 <= hour < 4.5:
            continue
        work = math.exp(-(((hour - 13.5) / 4.2) ** 2)) + 0.1 * math.sin(slot * 1.7) * math.sin(slot * 0.37)
        night = 1.0 if 22 <= hour < 23 else 0.0
        loads.add(
            Load(
                slot * SLOT,
                min(1.0, max(0.02, 0.08 + 0.5 * work + 0.3 * night)),
                min(1.0, 0.55 + 0.12 * work),
                0.01 * abs(math.sin(slot * 0.9)),
                max(0.0, 0.02 + 0.25 * night + 0.05 * math.sin(slot * 2.1)),
            )
        )
    return Past(loads, tuple(runs), windows(TONIGHT - DAY, 1))


def run(at: float, code: int = 1, happened: Happened = Happened.SUCCEEDED, minutes: float = 4.2) -> Run:
    return Run(at + minutes * 60, code, happened, at, "host")


def nights(count: int, *newest: Run) -> tuple[Run, ...]:
    """So many backups that succeeded, and then these."""
    first = TONIGHT - (count + len(newest)) * DAY
    return (*(run(first + n * DAY + 400 + 60 * n, minutes=3.5 + n % 3) for n in range(count)), *newest)


def at(whole: Snapshot, known: Outlook | None, since: float) -> Snapshot:
    moved = known.at - whole.checked_at if known is not None else NOON - whole.checked_at
    return replace(
        whole,
        outlook=known,
        since=since,
        checked_at=whole.checked_at + moved,
        reasons=tuple(replace(reason, since=since) for reason in whole.reasons),
        notices=tuple(replace(reason, since=since) for reason in whole.notices),
        probes=tuple(replace(one, last_run=(one.last_run or 0) + moved - 20) for one in whole.probes),
    )


def everything(seen: Mapping[str, Looked] | None = None, times: int = 4) -> Snapshot:
    """All probes have looked, and these saw something."""
    looks = [(seen or {}).get(probe.name) or looked(probe.name, seconds=0.04) for probe in probes.PROBES]
    return snapshot(*looks, times=times, facts=FACTS)


def healthy() -> Scene:
    predictions = [told(TONIGHT - n * DAY, Verdict.READY, Happened.SUCCEEDED) for n in (4, 3, 2, 1)]
    known = outlook(NOON + 6.5 * HOUR, *predictions, phase=Phase.LEAD)
    return Scene(at(everything(), known, NOON - 9 * DAY), past(known.at, nights(6)))


def blocked() -> Scene:
    scratch: dict[str, Scalar] = {"what": "nfs4 is never frozen", "mounts": 1, "mount": "/srv/scratch", "kind": "nfs4"}
    seen = {
        "wire": looked(
            "wire",
            Finding(
                "WIRE_SERVER_UNREACHABLE",
                evidence={
                    "url": "http://168.63.129.16/?comp=versions",
                    "how": "timeout",
                    "detail": "timed out after 5 s",
                    "device": "eth1",
                    "gateway": "10.20.0.1",
                },
            ),
        ),
        "mounts": looked("mounts", Finding("FREEZE_NOT_CONSISTENT", "/srv/scratch", scratch, Effect.NOTICE)),
    }
    predictions = [
        told(TONIGHT - 3 * DAY, Verdict.READY, Happened.SUCCEEDED),
        told(TONIGHT - 2 * DAY, Verdict.READY, Happened.SUCCEEDED),
        told(TONIGHT - DAY, Verdict.BLOCKED, Happened.FAILED, "WIRE_SERVER_UNREACHABLE"),
    ]
    known = outlook(NOON + 2.2 * HOUR, *predictions)
    failed = run(TONIGHT - DAY + 1300, 76, Happened.FAILED, minutes=31)
    whole = everything(seen)
    fixes = Fixes(
        known.at,
        (
            Attempt(
                11, "restart-agent", "AGENT_STOPPED", "", "mind", NOON - 3 * DAY, Result.HEALED, NOON - 3 * DAY + 40,
            ),
            Attempt(
                12, "restart-agent", "AGENT_HUNG", "", "mind", NOON - HOUR, Result.NOT_HEALED, NOON - HOUR + 90,
                ("AGENT_HUNG is still seen",),
            ),
        ),
        (Temporary(9, "Logs.Verbose=y in /etc/waagent.conf", NOON + 20 * HOUR),),
        (Limit("AGENT_HUNG", "", "restart-agent", "it was tried as often as it may be in a day", NOON + 10 * HOUR),),
    )  # fmt: skip
    whole = replace(at(whole, known, TONIGHT - DAY - 1.4 * HOUR), fixes=fixes)
    return Scene(whole, past(known.at, nights(5, failed)))


def unknown() -> Scene:
    why = "the look was given up after 30 s, since /mnt/archive did not answer"
    seen = {
        name: looked(name, state=ProbeState.GIVEN_UP, why=why, seconds=30.0, unknown=(CannotTell(why),))
        for name in ("mounts", "space")
    }
    seen["past"] = looked("past", state=ProbeState.CANNOT_TELL, why="cannot read /var/log/azure: Permission denied")
    known = outlook(NOON, window=None, upcoming=(), configured=False, lead=0.0, predictions=(), scores=(),
                    unread="cannot read /var/log/azure: Permission denied",
                    learned=(LearnedSchedule(SCHEDULE, 0.43, (NOON, NOON - DAY)),))  # fmt: skip
    return Scene(at(everything(seen), known, NOON - HOUR), Past())


def hostile() -> Scene:
    """Everything that may come from files says the worst."""
    code = probes.problem("WIRE_SERVER_UNREACHABLE").code
    seen = {
        "wire": looked(
            "wire", *(Finding(code, f"{n}{HOSTILE}", {HOSTILE + str(n): HOSTILE for n in range(40)}) for n in range(60))
        ),
        "mounts": looked("mounts", state=ProbeState.CANNOT_TELL, why=HOSTILE, unknown=(CannotTell(HOSTILE),)),
    }
    known = outlook(NOON, told(TONIGHT - DAY, Verdict.BLOCKED, Happened.FAILED, HOSTILE, *[HOSTILE] * 30),
                    unread=HOSTILE, window=replace(windows(TONIGHT, 1, HOSTILE)[0], zone=HOSTILE[:30]))  # fmt: skip
    whole = at(everything(seen), known, 0.0)
    fixes = Fixes(
        NOON,
        (Attempt(1, HOSTILE, HOSTILE, HOSTILE, HOSTILE, 1e18, Result.FAILED, None, (HOSTILE,) * 9, (1, 2)),
         Attempt(2, HOSTILE, "", "", HOSTILE, NOON)),
        (Temporary(1, HOSTILE, -1e18),) * 40,
        (Limit(HOSTILE, HOSTILE, HOSTILE, HOSTILE, float("nan")),) * 40,
    )  # fmt: skip
    facts = {"name": HOSTILE, "system": HOSTILE, "kernel": HOSTILE, "switched_off": HOSTILE}
    runs = (Run(NOON, 10**30, Happened.FAILED, NOON - HOUR, HOSTILE), Run(1e18, -5, Happened.FAILED))
    return Scene(replace(whole, machine=facts, fixes=fixes), past(NOON, runs))


def void() -> Scene:
    """Not an Azure VM."""
    seen = {"guest": looked("guest", Finding("NOT_AN_AZURE_VM", evidence={"vendor": "QEMU"}))}
    return Scene(at(everything(seen), outlook(NOON), NOON), past(NOON, ()))


SCENES = {"healthy": healthy, "blocked": blocked, "unknown": unknown, "hostile": hostile, "void": void}
