"""Does the machine's clock agree with Azure's?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta, timezone
from email.utils import parsedate_to_datetime

from backupready.model import (
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Metric,
    Observation,
    Probe,
    Problem,
    Reading,
    Scalar,
    Setting,
    Settings,
    Unreachable,
    whole_minutes,
)

_TIMEOUT = 5.0  # s for each step of a request; the fabric answers in milliseconds, the agent waits 10 s
_REQUEST_BUDGET = 6.5  # s for all tries of one request
_RESOLUTION = 1.0  # s of the Date header

PROBLEMS = (
    Problem(
        "CLOCK_SKEWED",
        "The machine's clock is wrong",
        Effect.RISKS,
        Cause.GUEST,
        meaning="The clock differs from that of the wire server by minutes. Backup of a machine whose time has been"
        " changed is not supported; signatures, certificates and reports carry times that are not believed.",
        diagnosis="`date -u`; `timedatectl`; `chronyc tracking`; as root:"
        " `curl -sI 'http://168.63.129.16/?comp=versions' | grep -i ^date`",
        fix="Let chrony or systemd-timesyncd run with the host's clock (/dev/ptp_hyperv) or a time server that"
        " answers.",
        source="https://learn.microsoft.com/azure/backup/backup-support-matrix-iaas",
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a machine that was just resumed gets its time within seconds",
    ),
)

METRICS = (
    Metric(
        "backupready_clock_skew_seconds",
        "How far the machine's clock is ahead of the wire server's.",
        (),
        clause="How far the clock is ahead.",
    ),
)

SETTINGS = (
    Setting(
        "clock",
        "skew_minutes",
        "5",
        "From how many minutes on a clock counts as wrong.",
        whole_minutes,
        "a whole number of minutes",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Compare with the Date of an answer; how long it took to come is no skew."""
    url = f"http://{machine.wire_server}/?comp=versions"
    before = machine.now()
    try:
        answer = machine.get(url, _TIMEOUT, _REQUEST_BUDGET)
    except Unreachable as error:
        raise CannotTell(f"{url}: {error.how}") from None
    after = machine.now()
    if answer.status != 200 or b"<Versions" not in answer.body:
        raise CannotTell(f"{url} is not answered by the wire server, whose clock alone counts")
    there = _moment(answer.headers.get("date", ""))
    skew = 0.0
    if before > there + _RESOLUTION:
        skew = before - there - _RESOLUTION
    elif after < there:
        skew = after - there
    yield Reading("backupready_clock_skew_seconds", round(skew, 3))
    if abs(skew) > settings["skew_minutes"].total_seconds():
        evidence: dict[str, Scalar] = {"date_there": answer.headers.get("date", ""), "seconds_ahead": round(skew)}
        yield Finding("CLOCK_SKEWED", evidence=evidence)


def _moment(date: str) -> float:
    """An HTTP date as seconds since the epoch."""
    try:
        moment = parsedate_to_datetime(date[:40])
        return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
    except (TypeError, ValueError, LookupError, OverflowError):
        raise CannotTell(f"the wire server's answer has no usable date: {date[:40]!r}") from None


PROBE = Probe(
    name="clock",
    question="Does the machine's clock agree with Azure's?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=10),
    metrics=METRICS,
    settings=SETTINGS,
)
