"""Can root reach the two doors of the Azure fabric that a backup needs?

168.63.129.16 answers at :80 as the wire server, which tells the agent what to do and takes the snapshot's request,
and at :32526 as the host plugin, which carries reports and packages. Nothing else on the network blocks a backup.
The agent's own firewall drops every other uid's requests, so only a look as root can tell.

Why a door is shut is asked in the same look, since a way or a rule is at fault only where a door is shut: whatever the
device and whatever the rules, a door that answers is open. So nothing but the doors is asked where all is well.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Address

from backupready import netfilter
from backupready.model import (
    Absent,
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
    Ran,
    Reading,
    Route,
    Scalar,
    Setting,
    Settings,
    Unreachable,
    is_there,
)

_TIMEOUT = 5.0  # s for each step of a request; the fabric answers in milliseconds, the agent waits 10 s
_REQUEST_BUDGET = 6.5  # s for all tries of one request
_SLOW = 1.0  # s
_THROTTLED = 429
_NETWORK = "https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16"
_VERSION_NEEDED = b"2012-11-30"  # the protocol that every agent speaks
_PLUGIN_VERSION_NEEDED = b"2015-09-01"
_METADATA = "http://169.254.169.254/metadata/instance?api-version=2021-02-01"
_METADATA_TIMEOUT = 1.0  # s
_METADATA_BUDGET = 2.0  # s
_METADATA_SERVICE = "https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service"
_AZURE_WIRE_SERVER = "168.63.129.16:80"
_TOOL_TIMEOUT = 1.5  # s; they read tables of the kernel
_MOST_TOOLS = 3  # iptables-save, iptables-legacy-save, nft
_LEAVING = 0.6  # s until a program that hangs is left behind
_ROUTE_TIME = 2.0  # s; the machine's bound for asking for a route
_LISTING_LIMIT = 16 << 20  # bytes; a node of a large cluster lists megabytes of rules
_ROUTES = "/proc/net/route"
# s that a look takes where both doors, the metadata service, ip and all tools hang.
_LONGEST = (
    2 * _REQUEST_BUDGET + 2 * (_ROUTE_TIME + _LEAVING) + _MOST_TOOLS * (_TOOL_TIMEOUT + _LEAVING) + _METADATA_BUDGET
)
_AGENT_FIREWALL = "https://github.com/Azure/WALinuxAgent/issues/3492"
_SOMEWHERE = "203.0.113.1"  # RFC 5737: no network has a route of its own for it
# The interfaces of an Azure VM: the synthetic one, and the functions of a device that are passed through beside it.
_HYPER_V = "hv_netvsc"
_PASSED_THROUGH = ("mlx4_core", "mlx5_core", "mana")
# ARPHRD_* of linux/if_arp.h: what is no wire, but leads into something else.
_TUNNEL_TYPES = {"512": "ppp", "768": "ipip", "769": "ip6tnl", "776": "sit", "778": "gre", "65534": "tunnel"}
_LOOPBACK_TYPE = "772"
# DEVTYPE in the uevent of devices that have no wire of their own, or only through those that they are made of.
_TUNNELS = ("wireguard", "vxlan", "geneve", "ppp")
_OVER_OTHERS = ("bridge", "vlan", "bond", "macsec")
_DEVICE_NAME = re.compile(r"(?!\.{1,2}$)[^/\s]{1,15}")
_IPTABLES, _IPTABLES_LEGACY = ("iptables-save",), ("iptables-legacy-save",)
_LEGACY_TABLES = "/proc/net/ip_tables_names"  # of iptables' older kind; empty where it has none
_UP, _UP_OR_REJECT = 0x1, 0x201  # RTF_UP and RTF_REJECT of linux/route.h
_MOST_DEVICES = 256
_MOST_LAYERS = 4
_MOST_FINDINGS = 8

# What follows from a wire server that is out of reach. (Not a clock that is wrong: who knows that has heard from it.)
_WITHOUT_WIRE_SERVER = (
    "HOST_PLUGIN_UNREACHABLE",
    "AGENT_WORKER_MISSING",
    "AGENT_CANNOT_FETCH_GOAL_STATE",
    "AGENT_STATUS_NOT_UPLOADED",
    "EXTENSION_PACKAGE_UNAVAILABLE",
    # Azure's name server has the wire server's address.
    "NAME_RESOLUTION_FAILS",
)
# What follows from a way or a rule at once; the doors that it shuts explain the rest, and only what hangs on them.
_SHUT = ("WIRE_SERVER_UNREACHABLE", "WIRE_SERVER_SLOW", "HOST_PLUGIN_UNREACHABLE", "DHCP_NO_ENDPOINT")
_SERVICED = timedelta(seconds=20)  # a host that is serviced is away for some seconds

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
        explains=(*_WITHOUT_WIRE_SERVER, "WIRE_SERVER_SLOW", "DHCP_NO_ENDPOINT"),
        sightings=2,
        apart=_SERVICED,
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
        explains=_WITHOUT_WIRE_SERVER,
        sightings=2,
        apart=_SERVICED,
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
        apart=_SERVICED,
        patience="a network that is set up anew, or a host that is serviced, refuses for a moment",
    ),
    Problem(
        "ROUTE_LEAVES_BY_WRONG_DEVICE",
        "The way to the wire server leads out of the wrong device",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="Packets for 168.63.129.16 leave by a tunnel, by a bridge with nothing behind it, or by another network"
        " interface than the primary one. The address is answered by the host, on the primary interface alone.",
        diagnosis="`ip route get 168.63.129.16`; `ip rule`; `ip -details link show` of the device that it names.",
        fix="Add a route for 168.63.129.16/32 out of the primary interface, or keep the VPN or the container network"
        " from taking the default route.",
        source=_NETWORK,
        milder=(Effect.RISKS,),
        explains=(*_SHUT, "WIRE_SERVER_IMPOSTOR", "METADATA_UNREACHABLE"),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="while a network is set up anew, routes come and go",
    ),
    Problem(
        "AGENT_FIREWALL_BLOCKS_ROOT",
        "The VM agent's own firewall keeps root out",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="The agent's rules let root reach 168.63.129.16 and drop everybody else's packets. The dropping rule is"
        " there, but the accepting one is missing or stands behind it: the agent has locked itself out.",
        diagnosis="`iptables -t security -S OUTPUT`: the rule with `--uid-owner 0 -j ACCEPT` must stand before the one"
        " with `-j DROP`. With nftables: `nft list table ip walinuxagent` must say `skuid != 0`.",
        fix="Put the accepting rule first: `iptables -w -t security -I OUTPUT -d 168.63.129.16 -p tcp -m owner"
        " --uid-owner 0 -j ACCEPT`; find out what has removed it.",
        source=_AGENT_FIREWALL,
        explains=_SHUT,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="the agent replaces its rules one by one",
    ),
    Problem(
        "FOREIGN_FIREWALL_RULE",
        "A firewall rule keeps root from the wire server",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="A rule that is not the agent's drops or rejects root's packets for 168.63.129.16, or the answers:"
        " hardening, a container network, or a firewall that denies outgoing connections by default.",
        diagnosis="`iptables-save`; `nft list ruleset`; `ufw status verbose`; `firewall-cmd --list-all`.",
        fix="Allow outgoing TCP 80 and 32526 to 168.63.129.16, with their answers, before the rule that is in the way.",
        source=_NETWORK,
        explains=_SHUT,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a firewall that is loaded anew denies everything for a moment",
    ),
    Problem(
        "METADATA_UNREACHABLE",
        "The instance metadata service cannot be reached",
        Effect.NOTICE,
        Cause.FABRIC,
        meaning="169.254.169.254 does not answer. No backup needs it, but a network that does not reach it may be wrong"
        " in other ways as well.",
        diagnosis="`curl -v --noproxy '*' -H Metadata:true"
        " 'http://169.254.169.254/metadata/instance?api-version=2021-02-01'`; `ip route get 169.254.169.254`.",
        fix="Restore the way to 169.254.169.254 out of the primary interface; it must not go through a proxy.",
        source=_METADATA_SERVICE,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="the host is serviced now and then",
    ),
)

METRICS = (
    Metric(
        "backupready_wire_server_answer_seconds",
        "How long the newest answer of the wire server took.",
        (),
        clause="How long the newest took.",
    ),
    Metric(
        "backupready_host_plugin_answer_seconds",
        "How long the newest answer of the host plugin took.",
        (),
        clause="How long the newest took.",
    ),
)


def _seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        seconds = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number of seconds") from None
    if not 0 < seconds < _TIMEOUT:
        raise ValueError(f"must be more than 0 and less than {_TIMEOUT:g}, after which it is no answer any more")
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


@dataclass(frozen=True)
class _Door:
    """What came of asking one of the two doors: an answer, the certainty that there is none, or why it is unknown."""

    url: str
    host: str
    port: int
    answer: Answer | None = None
    unreachable: Unreachable | None = None
    unknown: str = ""


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Ask both doors the question that needs no identity and has no effect: which versions do you speak? Where one does
    not answer, ask why."""
    wire = _ask(machine, machine.wire_server, "/?comp=versions")
    plugin = _ask(machine, machine.host_plugin, "/versions")
    way = _way(machine, wire, plugin)
    rules, words = _firewall(machine, (wire, plugin), way.route)
    yield from _wire_server(settings, wire, {**way.evidence, **words})
    yield from _host_plugin(plugin, words)
    yield from way.observations
    yield from rules
    yield from _metadata(machine)


def _ask(machine: Machine, endpoint: str, path: str) -> _Door:
    host, _, port = endpoint.rpartition(":")
    url, number = f"http://{endpoint}{path}", int(port) if port.isdigit() else 0
    try:
        return _Door(url, host, number, answer=machine.get(url, _TIMEOUT, _REQUEST_BUDGET))
    except CannotTell as error:
        return _Door(url, host, number, unknown=error.why)
    except Unreachable as error:
        if machine.privileged:
            return _Door(url, host, number, unreachable=error)
        why = f"{url}: {error.how}; but the agent's firewall hides it from every uid but 0, and this look is not root's"
        return _Door(url, host, number, unknown=why)


def _wire_server(settings: Settings, door: _Door, why: Mapping[str, Scalar]) -> Iterator[Observation]:
    others = ("WIRE_SERVER_IMPOSTOR", "WIRE_SERVER_SLOW")
    url, answer = door.url, door.answer
    if door.unreachable is not None:
        how = {"url": url, "how": door.unreachable.how, "detail": door.unreachable.detail}
        yield Finding("WIRE_SERVER_UNREACHABLE", evidence={**how, **why})
    elif answer is None:
        yield CannotTell(door.unknown, ("WIRE_SERVER_UNREACHABLE", *others))
    else:
        yield Reading("backupready_wire_server_answer_seconds", answer.seconds)
        if answer.status == _THROTTLED:
            yield CannotTell(f"{url} answers that there are too many requests", others, Effect.RISKS)
        elif answer.status >= 500:
            yield Finding("WIRE_SERVER_UNREACHABLE", evidence={"url": url, "how": f"answers {answer.status}"})
        elif not _is_wire_server(answer):
            yield Finding("WIRE_SERVER_IMPOSTOR", evidence={"url": url, **_looks_like(answer)})
        elif answer.seconds > settings["slow_seconds"]:
            yield Finding("WIRE_SERVER_SLOW", evidence={"url": url, "seconds": round(answer.seconds, 3)})


def _host_plugin(door: _Door, why: Mapping[str, Scalar]) -> Iterator[Observation]:
    url, answer = door.url, door.answer
    if door.unreachable is not None:
        how = {"url": url, "how": door.unreachable.how, "detail": door.unreachable.detail}
        yield Finding("HOST_PLUGIN_UNREACHABLE", evidence={**how, **why})
    elif answer is None:
        yield CannotTell(door.unknown, ("HOST_PLUGIN_UNREACHABLE",))
    else:
        yield Reading("backupready_host_plugin_answer_seconds", answer.seconds)
        if answer.status != _THROTTLED and (answer.status != 200 or _PLUGIN_VERSION_NEEDED not in answer.body):
            yield Finding("HOST_PLUGIN_UNREACHABLE", evidence={"url": url, **_looks_like(answer)})


def _is_wire_server(answer: Answer) -> bool:
    return answer.status == 200 and b"<Versions" in answer.body and _VERSION_NEEDED in answer.body


def _looks_like(answer: Answer) -> dict[str, Scalar]:
    return {
        "how": f"answers {answer.status}",
        "server": answer.headers.get("server", ""),
        "content_type": answer.headers.get("content-type", ""),
        "begins": answer.body[:80].decode("utf-8", "replace"),
    }


def _metadata(machine: Machine) -> Iterator[Observation]:
    """Only the status of the answer counts: its body tells whose machine this is."""
    if machine.wire_server != _AZURE_WIRE_SERVER:
        yield CannotTell("the fabric is an emulated one, which has no metadata service", ("METADATA_UNREACHABLE",))
        return
    try:
        answer = machine.get(_METADATA, _METADATA_TIMEOUT, _METADATA_BUDGET, headers={"Metadata": "true"})
    except CannotTell as error:
        yield CannotTell(error.why, ("METADATA_UNREACHABLE",))
    except Unreachable as error:
        evidence = {"url": _METADATA, "how": error.how, "detail": error.detail}
        yield Finding("METADATA_UNREACHABLE", evidence=evidence)
    else:
        if answer.status == _THROTTLED:
            yield CannotTell(f"{_METADATA} answers that there are too many requests", ("METADATA_UNREACHABLE",))
        elif answer.status != 200:
            yield Finding("METADATA_UNREACHABLE", evidence={"url": _METADATA, "how": f"answers {answer.status}"})


# ------------------------------------------------------------------------------------------------------ the way


@dataclass(frozen=True)
class _Way:
    """By which device packets leave, as far as it had to be asked."""

    route: Route | None = None
    evidence: Mapping[str, Scalar] = field(default_factory=dict)
    observations: tuple[Observation, ...] = ()


def _way(machine: Machine, door: _Door, plugin: _Door) -> _Way:
    """The way to the wire server, where it does not answer as itself, or where the host plugin is silent."""
    if door.unknown:
        return _Way(observations=(CannotTell(door.unknown, ("ROUTE_LEAVES_BY_WRONG_DEVICE",)),))
    if _is_loopback(door.host):
        return _Way()  # an emulated fabric
    answer = door.answer
    if answer is not None and (_is_wire_server(answer) or answer.status == _THROTTLED or answer.status >= 500):
        if plugin.unreachable is not None:
            # A device that leads to the one door is right; which one it is decides what the firewall does there.
            with contextlib.suppress(CannotTell, Unreachable):
                return _Way(machine.route(plugin.host))
        return _Way()
    try:
        route = machine.route(door.host)
    except Unreachable as error:
        return _Way(evidence={"route": error.detail or error.how})  # there is none, so that it cannot be a wrong one
    except CannotTell as error:
        return _Way(observations=(CannotTell(error.why, ("ROUTE_LEAVES_BY_WRONG_DEVICE",)),))
    evidence = {"device": route.device, "gateway": route.gateway, "source": route.source}
    try:
        wrong, effect = _wrong(machine, door.host, route.device)
    except (CannotTell, Absent) as error:
        why = f"the way leads out of {route.device}, but what that is cannot be told: {error}"
        return _Way(route, evidence, (CannotTell(why, ("ROUTE_LEAVES_BY_WRONG_DEVICE",)),))
    if wrong:
        seen = Finding("ROUTE_LEAVES_BY_WRONG_DEVICE", evidence={**evidence, "is": wrong}, effect=effect)
        return _Way(route, evidence, (seen,))
    return _Way(route, evidence)


def _is_loopback(host: str) -> bool:
    try:
        return IPv4Address(host).is_loopback
    except ValueError:
        return False


def _wrong(machine: Machine, host: str, device: str) -> tuple[str, Effect | None]:
    """What makes the device the wrong one, empty where nothing does, and how grave that is: of two network interfaces
    either may be the primary one."""
    driver = _driver(machine, device)
    if driver in _PASSED_THROUGH:
        return "", None
    if driver != _HYPER_V:
        return _no_interface(machine, device), None
    try:
        default = machine.route(_SOMEWHERE).device
    except Unreachable:
        return "", None
    if default == device or _driver(machine, default) != _HYPER_V or _leads_there(machine, host, device):
        return "", None
    return f"another interface than {default}, which has the default route", Effect.RISKS


def _leads_there(machine: Machine, host: str, device: str) -> bool:
    """Whether a route that is more than a default leads to the address by that device, as the fabric's DHCP server or
    somebody on purpose has set it."""
    try:
        address = int.from_bytes(IPv4Address(host).packed, "little")  # as the kernel prints it there
    except ValueError:
        raise CannotTell(f"{host} is no address") from None
    for line in machine.read(_ROUTES, _LISTING_LIMIT).decode("ascii", "replace").splitlines():
        words = line.split()
        try:
            if len(words) > 7 and words[0] == device and int(words[3], 16) & _UP_OR_REJECT == _UP:
                mask = int(words[7], 16)
                if mask and address & mask == int(words[1], 16):
                    return True
        except ValueError:
            continue
    return False


def _no_interface(machine: Machine, device: str) -> str:
    """What makes a device that is no network interface of Azure's certainly the wrong one, empty where nothing does. A
    virtual one that is nothing special is right where there are no others, as in a container."""
    place = f"/sys/class/net/{_device_name(device)}"
    type_ = _word(machine, f"{place}/type")
    if type_ == _LOOPBACK_TYPE:
        return "the loopback: the address is this machine's own"
    if type_ in _TUNNEL_TYPES:
        return _TUNNEL_TYPES[type_]
    if is_there(machine, f"{place}/tun_flags"):
        return "tun"
    kind = re.search(r"(?m)^DEVTYPE=(\S+)$", _word(machine, f"{place}/uevent"))
    if kind and kind[1] in _TUNNELS:
        return kind[1]
    below = _below(machine, device, _MOST_LAYERS)
    if any(_driver(machine, one) for one in below):
        return ""
    others = [d for d in machine.names("/sys/class/net")[:_MOST_DEVICES] if _driver(machine, d) == _HYPER_V]
    if kind and kind[1] in _OVER_OTHERS and (others or not below):
        return f"{kind[1]} with no network interface behind it"
    return f"no network interface, as {' and '.join(others[:4])} would be" if others else ""


def _below(machine: Machine, device: str, layers: int) -> list[str]:
    """The devices that one is made of: a bridge's ports, what a VLAN or a bond lies over."""
    if not layers:
        return []
    entries = machine.names(f"/sys/class/net/{_device_name(device)}")
    lower = [name[len("lower_") :] for name in entries if name.startswith("lower_")][:_MOST_DEVICES]
    return [*lower, *(deeper for one in lower[:8] for deeper in _below(machine, one, layers - 1))]


def _device_name(device: str) -> str:
    if not _DEVICE_NAME.fullmatch(device):
        raise CannotTell(f"{device[:20]!r} is no device's name")
    return device


def _driver(machine: Machine, device: str) -> str:
    """Of a device that is more than software; else empty."""
    try:
        return machine.target(f"/sys/class/net/{_device_name(device)}/device/driver").rpartition("/")[2]
    except Absent:
        return ""


def _word(machine: Machine, path: str) -> str:
    try:
        return machine.read(path, 4096).decode("utf-8", "replace").strip()
    except Absent:
        return ""


# ------------------------------------------------------------------------------------------------- the firewall


def _firewall(
    machine: Machine, doors: tuple[_Door, ...], route: Route | None
) -> tuple[list[Observation], dict[str, Scalar]]:
    """Which rules keep root out of a door that is shut, and what there is to say of the firewall beside that door."""
    unknown = next((door.unknown for door in doors if door.unknown), "")
    shut = [door for door in doors if door.unreachable is not None]
    if not shut:
        return _firewall_unknown(unknown, set()) if unknown else [], {}
    rules, troubles = _rules(machine)
    # One finding a chain, however many rules in it keep which ports shut.
    by_place: dict[tuple[str, str], dict[netfilter.Blocked, list[str]]] = {}
    for door in shut:
        device, source = (route.device, route.source) if route is not None else ("", "")
        for packet in netfilter.connection(door.host, door.port, device, source):
            blocked, doubts = netfilter.replay(rules, packet)
            troubles += doubts
            for rule in blocked:
                place = ("", "") if rule.agents else (rule.table, rule.chain)
                by_place.setdefault(place, {}).setdefault(rule, []).append(str(door.port))
    seen: list[Observation] = []
    for (table, chain), found in list(by_place.items())[:_MOST_FINDINGS]:
        rules_there = list(found)
        evidence = {
            "rule": "; ".join(dict.fromkeys(rule.rule for rule in rules_there)),
            "table": rules_there[0].table,
            "chain": rules_there[0].chain,
            "ports": " ".join(dict.fromkeys(port for which in found.values() for port in which)),
            "how": shut[0].unreachable.how if shut[0].unreachable is not None else "",
        }
        if rules_there[0].agents:
            seen.append(Finding("AGENT_FIREWALL_BLOCKS_ROOT", evidence=evidence))
        else:
            seen.append(Finding("FOREIGN_FIREWALL_RULE", f"{table} {chain}", evidence))
    if unknown and not troubles:
        troubles.append(unknown)
    if troubles:
        whose = {rule.agents for found in by_place.values() for rule in found}
        seen += _firewall_unknown(f"the firewall: {troubles[0]}", whose)
    nothing = "nothing that keeps root out in what was read"
    words = "keeps root out" if by_place else troubles[0] if troubles else nothing
    return seen, {"firewall": words}


def _firewall_unknown(why: str, found: set[bool]) -> list[Observation]:
    """Of the codes of which nothing was found; `found` says whether the agent's and others' rules were."""
    unknown: list[Observation] = []
    if True not in found:
        unknown.append(CannotTell(why, ("AGENT_FIREWALL_BLOCKS_ROOT",)))
    if False not in found:
        unknown.append(CannotTell(why, ("FOREIGN_FIREWALL_RULE",)))
    return unknown


def _rules(machine: Machine) -> tuple[netfilter.Ruleset, list[str]]:
    """All that is listed, and why the rest is not. The programs list what is there and load no table for it, as
    `iptables -t security -S` might."""
    rules, troubles, tools = netfilter.Ruleset(), [], 0
    nft_variant = legacy_too = False
    for command in (_IPTABLES, _IPTABLES_LEGACY):
        if command == _IPTABLES_LEGACY and not legacy_too:
            break
        try:
            ran = _listed(machine, command)
            tools += 1
            if command == _IPTABLES:
                nft_variant = netfilter.is_nft_variant(ran.output)
                legacy_too = netfilter.legacy_is_there_too(ran.output + ran.errors.encode())
            rules = rules.joined(netfilter.parse_iptables(ran.output, command[0].replace("-save", "")))
        except Absent:
            if _word(machine, _LEGACY_TABLES):
                troubles.append(f"its rules cannot be read: iptables keeps some, and there is no {command[0]}")
        except CannotTell as error:
            troubles.append(error.why)
    try:
        listed = _listed(machine, ("nft", "-j", "list", "ruleset")).output
        tools += 1
        rules = rules.joined(netfilter.parse_nft(listed, nft_variant and not troubles))
    except Absent:
        pass
    except CannotTell as error:
        troubles.append(error.why)
    if not tools and not troubles:
        troubles.append("its rules cannot be read: there is neither iptables-save nor nft")
    return rules, troubles


def _listed(machine: Machine, command: tuple[str, ...]) -> Ran:
    ran = machine.run(command, _TOOL_TIMEOUT, privileged=True, limit=_LISTING_LIMIT)
    if ran.status == 0:
        return ran
    words = (ran.errors.splitlines() or [f"it ended with {ran.status}"])[0]
    if re.search(r"ermission denied|not permitted|must be root", ran.errors):
        raise CannotTell("its rules cannot be read in this look; `backupready check` by root can")
    raise CannotTell(f"{command[0]} does not list its rules: {words}")


PROBE = Probe(
    name="wire",
    question="Can root reach the two doors of the Azure fabric that a backup needs?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=_LONGEST + 1.0),
    metrics=METRICS,
    settings=SETTINGS,
)
