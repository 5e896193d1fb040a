"""Can root reach the two doors of the Azure fabric that a backup needs?

168.63.129.16 answers at :80 as the wire server, which tells the agent what to do and takes the snapshot's request,
and at :32526 as the host plugin, which carries reports and packages. Nothing else on the network blocks a backup.
The agent's own firewall drops every other uid's requests, so only a look as root can tell.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from backupready.model import (
    Access,
    Answer,
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
)

_TIMEOUT = 2.0  # s for each step of a request; the fabric answers in milliseconds
_REQUEST_BUDGET = 7.0  # s for all tries of one request
_SLOW = 3.0  # s
_THROTTLED = 429
_NETWORK = "https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16"
_VERSION_NEEDED = b"2012-11-30"  # the protocol that every agent speaks
_PLUGIN_VERSION_NEEDED = b"2015-09-01"

PROBLEMS = (
    Problem(
        "WIRE_SERVER_UNREACHABLE",
        "The wire server cannot be reached",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="168.63.129.16:80 does not answer root. The agent cannot hear of the backup, and the snapshot request"
        " to the host has no way out.",
        diagnosis="As root: `curl -v http://168.63.129.16/?comp=versions`; `ip route get 168.63.129.16`;"
        " `iptables -t security -S OUTPUT`; `nft list ruleset`.",
        fix="Restore the route out of the primary interface, or remove the firewall rule that is in the way. The agent"
        " needs TCP 80 and 32526 to 168.63.129.16, directly and without a proxy.",
        source=_NETWORK,
        explains=(
            "HOST_PLUGIN_UNREACHABLE",
            "WIRE_SERVER_SLOW",
            "AGENT_WORKER_MISSING",
            "AGENT_CANNOT_FETCH_GOAL_STATE",
            "AGENT_STATUS_NOT_UPLOADED",
            "EXTENSION_PACKAGE_UNAVAILABLE",
            "CLOCK_SKEWED",
        ),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a network that is set up anew, or a host that is serviced, refuses for a moment",
    ),
    Problem(
        "WIRE_SERVER_IMPOSTOR",
        "Something else answers in place of the wire server",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="168.63.129.16:80 answers, but not with the wire server's list of versions: a captive portal, a proxy"
        " or a rule that redirects is in between.",
        diagnosis="As root: `curl -v http://168.63.129.16/?comp=versions`; `iptables -t nat -S`; `nft list ruleset`.",
        fix="Take whatever redirects requests for 168.63.129.16 out of the way.",
        source=_NETWORK,
        explains=(
            "HOST_PLUGIN_UNREACHABLE",
            "AGENT_WORKER_MISSING",
            "AGENT_CANNOT_FETCH_GOAL_STATE",
            "AGENT_STATUS_NOT_UPLOADED",
            "EXTENSION_PACKAGE_UNAVAILABLE",
            "CLOCK_SKEWED",
        ),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="the host answers oddly for a moment while it is serviced",
    ),
    Problem(
        "WIRE_SERVER_SLOW",
        "The wire server answers slowly",
        Effect.RISKS,
        Cause.FABRIC,
        meaning="An answer of the wire server takes seconds instead of milliseconds. Slow network calls in the guest"
        " make snapshots time out.",
        diagnosis="As root: `time curl http://168.63.129.16/?comp=versions`; look for CPU, memory or network pressure.",
        fix="Relieve the machine, or take the backup at another time.",
        source="https://learn.microsoft.com/azure/backup/backup-azure-vms-troubleshoot",
        sightings=3,
        apart=timedelta(seconds=5),
        patience="one slow answer is a retransmission",
    ),
    Problem(
        "HOST_PLUGIN_UNREACHABLE",
        "The host plugin cannot be reached",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="168.63.129.16:32526 does not answer root as it should. The agent cannot deliver its reports, nor fetch"
        " extension packages where the storage is closed.",
        diagnosis="As root: `curl -v http://168.63.129.16:32526/versions`; `iptables -S OUTPUT`; `nft list ruleset`.",
        fix="Remove the firewall rule that is in the way of TCP 32526 to 168.63.129.16.",
        source=_NETWORK,
        explains=("AGENT_STATUS_NOT_UPLOADED", "EXTENSION_PACKAGE_UNAVAILABLE"),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a network that is set up anew, or a host that is serviced, refuses for a moment",
    ),
)

METRICS = (
    Metric("backupready_wire_server_answer_seconds", "How long the newest answer of the wire server took.", ()),
    Metric("backupready_host_plugin_answer_seconds", "How long the newest answer of the host plugin took.", ()),
)


def _seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number of seconds") from None
    if not 0 < seconds <= 60:
        raise ValueError("must be more than 0 and at most 60")
    return seconds


SETTINGS = (
    Setting(
        "wire",
        "slow_seconds",
        f"{_SLOW:g}",
        "From how many seconds on an answer of the wire server counts as slow.",
        _seconds,
        "a number of seconds",
    ),
)


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Ask both doors the question that needs no identity and has no effect: which versions do you speak?"""
    wire_problems = ("WIRE_SERVER_UNREACHABLE", "WIRE_SERVER_IMPOSTOR", "WIRE_SERVER_SLOW")
    url = f"http://{machine.wire_server}/?comp=versions"
    try:
        answer = machine.get(url, _TIMEOUT, _REQUEST_BUDGET)
    except CannotTell as error:
        yield CannotTell(error.why, wire_problems)
    except Unreachable as error:
        yield _unreachable(machine, "WIRE_SERVER_UNREACHABLE", error, wire_problems, url)
    else:
        yield Reading("backupready_wire_server_answer_seconds", answer.seconds)
        if answer.status == _THROTTLED:
            yield CannotTell(f"{url} answers that there are too many requests", wire_problems)
        elif answer.status >= 500:
            yield Finding("WIRE_SERVER_UNREACHABLE", evidence={"url": url, "how": f"answers {answer.status}"})
        elif answer.status != 200 or b"<Versions" not in answer.body or _VERSION_NEEDED not in answer.body:
            yield Finding("WIRE_SERVER_IMPOSTOR", evidence={"url": url, **_looks_like(answer)})
        elif answer.seconds > settings["slow_seconds"]:
            yield Finding("WIRE_SERVER_SLOW", evidence={"url": url, "seconds": round(answer.seconds, 3)})
    url = f"http://{machine.host_plugin}/versions"
    try:
        answer = machine.get(url, _TIMEOUT, _REQUEST_BUDGET)
    except CannotTell as error:
        yield CannotTell(error.why, ("HOST_PLUGIN_UNREACHABLE",))
    except Unreachable as error:
        yield _unreachable(machine, "HOST_PLUGIN_UNREACHABLE", error, ("HOST_PLUGIN_UNREACHABLE",), url)
    else:
        yield Reading("backupready_host_plugin_answer_seconds", answer.seconds)
        if answer.status == _THROTTLED:
            yield CannotTell(f"{url} answers that there are too many requests", ("HOST_PLUGIN_UNREACHABLE",))
        elif answer.status != 200 or _PLUGIN_VERSION_NEEDED not in answer.body:
            yield Finding("HOST_PLUGIN_UNREACHABLE", evidence={"url": url, **_looks_like(answer)})


def _unreachable(
    machine: Machine, problem: str, error: Unreachable, problems: tuple[str, ...], url: str
) -> Observation:
    if not machine.privileged:
        why = f"{url}: {error.how}; but the agent's firewall hides it from every uid but 0, and this look is not root's"
        return CannotTell(why, problems)
    return Finding(problem, evidence={"url": url, "how": error.how, "detail": error.detail})


def _looks_like(answer: Answer) -> dict[str, Scalar]:
    return {
        "how": f"answers {answer.status}",
        "server": answer.headers.get("server", ""),
        "content_type": answer.headers.get("content-type", ""),
        "begins": answer.body[:80].decode("utf-8", "replace"),
    }


PROBE = Probe(
    name="wire",
    question="Can root reach the two doors of the Azure fabric that a backup needs?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=20),
    metrics=METRICS,
    settings=SETTINGS,
)
