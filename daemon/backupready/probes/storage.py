"""Can this machine reach the blob storage, if the next snapshot needs it?

The host takes the snapshot of a managed disk, and then nothing in here matters. Only where the extension takes it from
inside the guest does its request go to the storage, over the machine's own network. How grave a finding is depends on
that path.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Union

from backupready import vmsnapshot, waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Fetched,
    Finding,
    Machine,
    Metric,
    Observation,
    Probe,
    Problem,
    Reading,
    Resolved,
    Scalar,
    Setting,
    Settings,
    Unreachable,
)

_TIMEOUT = 2.5  # s for each step of a request
# s for all tries of one request. A resolver spends 5 s on a name server that is silent before it asks the next one.
_BUDGET = 7.5
_HOSTS_BUDGET = 3.0  # s where no name server answers: what /etc/hosts knows takes no time
_NAME_TIMEOUT = 1.5  # s
_MOST_SERVERS = 3  # the resolver reads no more of them: resolv.conf(5), MAXNS
_MOST_WAYS = 2  # through the proxy and straight, each with a first hop of its own
_ROUTE_TIME = 2.6  # s; the machine's bound for asking for a route, and until an `ip` that hangs is left behind
# s that a look takes where every name server and both ways are as slow as may be, and `ip` hangs.
_LONGEST = _MOST_WAYS * (_MOST_SERVERS * _NAME_TIMEOUT + _BUDGET) + _ROUTE_TIME
_RESOLV_CONF = "/etc/resolv.conf"
# What it is a link to: systemd-resolved, NetworkManager, resolvconf, SUSE's netconfig.
_LINKED = (
    "/run/systemd/resolve/stub-resolv.conf",
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/run/netconfig/resolv.conf",
)
_PHASES = ("name", "connect", "proxy", "tls", "first_byte")
# Whose authorities sign the certificates of Azure's services, in all its clouds, as letters and digits only: one
# organisation is written both "DigiCert Inc" and "DigiCert, Inc.".
# https://learn.microsoft.com/azure/security/fundamentals/azure-ca-details
_ISSUERS = ("microsoftcorporation", "digicertinc", "entrustinc")
# A proxy says with these that it is well and what lies behind it is not.
_BEHIND_PROXY = ("proxy: answers 502", "proxy: answers 504")
_SNAPSHOT_CREATOR = re.compile(rb"snapshotCreator\W{1,40}(?:Value\W{1,20})?(guestExtension|backupHostService)")
_STATUS_NAME = re.compile(r"(\d{1,9})[._]status")
_SETTINGS_NAME = re.compile(r"(\d{1,9})\.settings")
_MOST_STATUS_FILES = 8
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")
_TAGS_LIMIT = 16 << 20  # bytes; the list for the public cloud has under 10 MB
_MOST_PREFIXES = 50_000
_MOST_ADDRESSES = 8
_NETWORK = "https://learn.microsoft.com/azure/backup/backup-azure-arm-vms-prepare"
_BY_PATH = (Effect.RISKS, Effect.NOTICE)
_NEED = (
    " It matters only where the extension takes the snapshot from inside the guest (SnapshotMethod in"
    " /etc/azure/vmbackup.conf, or unmanaged disks); the host's snapshot needs no way out."
)
_REACH = ("STORAGE_UNREACHABLE", "PROXY_UNREACHABLE", "NAME_RESOLUTION_FAILS", "TLS_INTERCEPTED")

PROBLEMS = (
    Problem(
        "STORAGE_UNREACHABLE",
        "The blob storage cannot be reached",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="No HTTP answer comes from the storage endpoint that the machine's goal state names." + _NEED,
        diagnosis="As root: `curl -vI https://<endpoint>/`; the evidence names the phase in which it ends.",
        fix="Let TCP 443 to the service tag Storage of the region out of the virtual network (network security group,"
        " firewall, route table, guest firewall), or remove SnapshotMethod so that the host takes the snapshot.",
        source=_NETWORK,
        milder=_BY_PATH,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="one lost packet, or a network that is set up anew, is no outage",
    ),
    Problem(
        "PROXY_UNREACHABLE",
        "The agent's proxy does not let it through",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="The proxy that HttpProxy.Host and HttpProxy.Port of waagent.conf name cannot be reached, or refuses"
        " the storage endpoint." + _NEED,
        diagnosis="As root: `curl -vI --proxy http://<host>:<port> https://<endpoint>/`",
        fix="Correct HttpProxy.Host and HttpProxy.Port and restart the agent, or let the proxy pass"
        " `*.blob.core.windows.net` and `*.blob.storage.azure.net`.",
        source="https://github.com/Azure/WALinuxAgent#httpproxyhost-httpproxyport",
        milder=_BY_PATH,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a proxy that is restarted refuses for a moment",
    ),
    Problem(
        "NAME_RESOLUTION_FAILS",
        "The storage endpoint's name cannot be resolved",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="No name server of /etc/resolv.conf gives an address for the storage endpoint or for the proxy: they"
        " are silent, fail, or (a private DNS zone without the record) say that there is no such name." + _NEED,
        diagnosis="`cat /etc/resolv.conf`; `dig <endpoint> @<server>` for each server.",
        fix="Repair the name servers of the virtual network or of the machine; a private DNS zone needs the record, or"
        " must not be linked to this network.",
        source="https://learn.microsoft.com/azure/virtual-network/virtual-networks-name-resolution-for-vms-and-role-instances",
        milder=_BY_PATH,
        explains=("STORAGE_UNREACHABLE", "PROXY_UNREACHABLE"),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a question over UDP may be lost",
    ),
    Problem(
        "TLS_INTERCEPTED",
        "The storage endpoint's certificate is not the storage's",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="The certificate that is shown for the storage endpoint does not verify here, or verifies through an"
        " authority that Azure does not use: something in between opens the connection, or this machine's authorities"
        " or its clock are wrong." + _NEED,
        diagnosis="`openssl s_client -connect <endpoint>:443 -servername <endpoint> </dev/null` shows the issuer;"
        " `date`; is the package ca-certificates there?",
        fix="Exempt the storage endpoints from inspection, or give this machine the inspecting authority; install"
        " ca-certificates, correct the clock.",
        source="https://learn.microsoft.com/azure/security/fundamentals/azure-ca-details",
        milder=_BY_PATH,
    ),
    Problem(
        "ALLOW_LIST_GAP",
        "The allow-list does not hold the storage endpoint's address",
        Effect.RISKS,
        Cause.FABRIC,
        meaning="An address of the storage endpoint is not in the service tag of the downloaded list, or the machine"
        " has no route for it: what was allowed by that list is not what is needed." + _NEED,
        diagnosis="`ip route get <address>`; the evidence names the list and its change number.",
        fix="Download the list of service tags again (it changes weekly) and renew the rules made of it, or allow the"
        " tag itself instead of addresses.",
        source="https://learn.microsoft.com/azure/virtual-network/service-tags-overview",
        milder=(Effect.NOTICE,),
    ),
)

METRICS = (
    Metric(
        "backupready_storage_phase_seconds",
        "How long each phase of the newest storage request took.",
        ("phase",),
        clause="How long the newest request took.",
    ),
    Metric("backupready_dns_answer_seconds", "How long each name server took to answer.", ("server",)),
)


def _endpoint_name(text: str) -> str:
    """A host name, or nothing."""
    if text and not waagent.blob_host(f"https://{text}"):
        raise ValueError(f"{text!r} is no host name")
    return text.lower()


def _absolute(text: str) -> str:
    """The path of a file, or nothing."""
    if text and not text.startswith("/"):
        raise ValueError(f"{text!r} does not begin with /")
    return text


def _tag(text: str) -> str:
    """A service tag's name."""
    if not re.fullmatch(r"[A-Za-z]\w{0,60}(\.\w{1,60})?", text, re.ASCII):
        raise ValueError(f"{text!r} is no service tag")
    return text


SETTINGS = (
    Setting(
        "storage",
        "endpoint",
        "",
        "The storage host to ask for; by default the one that the goal state names.",
        _endpoint_name,
        "a host name",
    ),
    Setting(
        "storage",
        "service_tags",
        "",
        "A downloaded list of service tags (ServiceTags_Public_*.json) that the network's allow-list was made of. Not"
        " below /root, /run or /tmp, which the look does not see.",
        _absolute,
        "an absolute path",
    ),
    Setting(
        "storage",
        "service_tag",
        "Storage",
        "The tag in that list whose addresses are allowed, such as Storage.WestEurope.",
        _tag,
        "the name of a service tag",
    ),
)


# ---------------------------------------------------------------------------------------- the path of the snapshot


@dataclass(frozen=True)
class _Path:
    """Which way the next snapshot goes, and what a closed storage does to it."""

    method: str
    last: str
    effect: Effect


def _path(machine: Machine) -> _Path:
    method = ""
    # A file that cannot be read leaves the extension with its default, too.
    with contextlib.suppress(CannotTell):
        method = vmsnapshot.backup_config(machine).get("snapshotmethod", "").strip()
    if method not in vmsnapshot.SNAPSHOT_METHODS:
        method = vmsnapshot.DEFAULT_SNAPSHOT_METHOD
    last = last_path(machine)
    if method == "onlyGuest":
        effect = Effect.BLOCKS
    elif method == "firstGuestThenHost":
        effect = Effect.RISKS
    elif method == "firstHostThenGuest" and last == "guest":
        effect = Effect.BLOCKS  # the host was asked first, and could not
    else:
        effect = Effect.NOTICE
    return _Path(method, last, effect)


def last_path(machine: Machine) -> str:
    """Who took the newest snapshot that a status file tells of: `host`, `guest`, or nothing where none does."""
    with contextlib.suppress(Absent, CannotTell):
        directory = waagent.current_directory(machine, waagent.VMSNAPSHOT)
        if directory is not None:
            for name in _numbered(machine.names(f"{directory.path}/status"), _STATUS_NAME):
                with contextlib.suppress(Absent, CannotTell):
                    creators = _SNAPSHOT_CREATOR.findall(machine.read(f"{directory.path}/status/{name}"))
                    if creators:
                        return "guest" if creators[-1] == b"guestExtension" else "host"
    return ""


def _numbered(names: Sequence[str], form: re.Pattern[str]) -> list[str]:
    """The names of a form, highest number first."""
    matches = [match for name in names for match in [form.fullmatch(name)] if match]
    return [m.group() for m in sorted(matches, key=lambda m: int(m.group(1)), reverse=True)][:_MOST_STATUS_FILES]


def _settings_host(machine: Machine) -> str:
    """The storage host that the newest settings of the extension name."""
    with contextlib.suppress(Absent, CannotTell):
        directory = waagent.current_directory(machine, waagent.VMSNAPSHOT)
        if directory is not None:
            for name in _numbered(machine.names(f"{directory.path}/config"), _SETTINGS_NAME)[:1]:
                path = f"{directory.path}/config/{name}"
                document: Any = waagent.parse_json(machine.read(path), path)
                with contextlib.suppress(KeyError, IndexError, TypeError):
                    public = document["runtimeSettings"][0]["handlerSettings"]["publicSettings"]
                    hosts = [waagent.blob_host(public.get(key)) for key in ("statusBlobUri", "logsBlobUri")]
                    return next(filter(None, hosts), "")
    return ""


# ------------------------------------------------------------------------------------------------------------- look


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Ask every name server, then the endpoint, on the ways that the agent and the snapshot would go."""
    path = _path(machine)
    gap = Effect.NOTICE if path.effect is Effect.NOTICE else Effect.RISKS
    listed = bool(settings["service_tags"])
    try:
        host = settings["endpoint"] or waagent.upload_host(machine) or _settings_host(machine)
    except CannotTell as error:
        yield CannotTell(error.why, _REACH, path.effect)
        if listed:
            yield CannotTell(error.why, ("ALLOW_LIST_GAP",), gap)
        return
    if not host:
        yield CannotTell("no storage endpoint is known", _REACH, Effect.NOTICE)
        if listed:
            yield CannotTell("no storage endpoint is known", ("ALLOW_LIST_GAP",), Effect.NOTICE)
        return
    proxy = ""
    try:
        proxy = _proxy(machine)
    except CannotTell as error:
        yield CannotTell(error.why, ("PROXY_UNREACHABLE",), Effect.NOTICE)
    ways = [_Way(host, proxy)] if proxy else [_Way(host)]
    if proxy and path.effect is not Effect.NOTICE:
        ways.append(_Way(host))  # the extension goes past a proxy that has a port
    names = [way.first_hop for way in ways]
    if listed and host not in names:
        names.append(host)

    why = ""
    servers: tuple[str, ...] = ()
    try:
        servers = _servers(machine)
    except CannotTell as error:
        why = error.why
    try:
        answers = _ask(machine, names, servers)
    except CannotTell as error:
        answers, why = {}, error.why
    yield from _answer_times(answers)
    known = [answer for answer in answers.values() if isinstance(answer, Resolved)]
    budget = _BUDGET if known or not answers else _HOSTS_BUDGET

    failures: list[_Failure] = []
    answered: Fetched | None = None
    for way in ways:
        try:
            answered = machine.fetch(f"https://{host}/", _TIMEOUT, budget, way.proxy)
        except CannotTell as error:
            yield CannotTell(error.why, _REACH, path.effect)
        except Unreachable as error:
            failures.append(_Failure(way, error.how, error.detail))
        else:
            yield from _signed(way, answered)
    if answered is not None:
        for phase in _PHASES:
            if phase in answered.phases:
                yield Reading("backupready_storage_phase_seconds", answered.phases[phase], {"phase": phase})
    yield from _failed(path, failures, answers, why)
    if failures and answered is None and all(f.how != "tls: certificate" for f in failures):
        # Whatever its certificate would be, it adds nothing to that.
        yield CannotTell("the storage does not answer", ("TLS_INTERCEPTED",), Effect.NOTICE)
    if listed:
        addresses = [a for (name, _), told in answers.items() if name == host for a in _addresses(told)]
        effect = Effect.NOTICE if answered is not None else gap
        yield from _allowed(machine, settings, host, addresses, effect)


# ------------------------------------------------------------------------------------------------------------- ways


@dataclass(frozen=True)
class _Way:
    """Through a proxy (http://host:port), or straight."""

    host: str
    proxy: str = ""

    @property
    def first_hop(self) -> str:
        return self.proxy[len("http://") :].rpartition(":")[0].strip("[]") if self.proxy else self.host

    @property
    def key(self) -> str:
        return f"{self.host} through {self.proxy}" if self.proxy else self.host


@dataclass(frozen=True)
class _Failure:
    way: _Way
    how: str
    detail: str

    @property
    def evidence(self) -> dict[str, Scalar]:
        through = {"proxy": self.way.proxy} if self.way.proxy else {}
        return {"endpoint": self.way.host, **through, "how": self.how, "detail": self.detail}


def _proxy(machine: Machine) -> str:
    """The proxy that the agent uses for the storage: it takes both settings, or none. Raises CannotTell."""
    try:
        config = waagent.agent_config(machine)
    except Absent:
        return ""
    host, port = (config.values.get(f"HttpProxy.{key}") or "" for key in ("Host", "Port"))
    if not host or not port:
        return ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).version == 6:
            host = f"[{host}]"
    if not (_HOST_NAME.fullmatch(host) or host.startswith("[")):
        raise CannotTell(f"HttpProxy.Host in {config.path} is no host")  # which may hold a password
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise CannotTell(f"HttpProxy.Port in {config.path} is no port")
    return f"http://{host}:{port}"


def _failed(
    path: _Path, failures: Sequence[_Failure], answers: Mapping[tuple[str, str], _Told], why: str
) -> Iterator[Observation]:
    """A snapshot never goes through the agent's proxy, and what fails on one way explains nothing of the other."""
    silent = sorted({server for (_, server), told in answers.items() if not isinstance(told, Resolved)})
    for failure in failures:
        way = failure.way
        effect = Effect.NOTICE if way.proxy else path.effect
        evidence: dict[str, Scalar] = {**failure.evidence, "method": path.method, "last_path": path.last}
        if failure.how == "tls: certificate":
            yield Finding("TLS_INTERCEPTED", way.key, evidence, effect)
            continue
        if silent:
            evidence["silent_name_servers"] = " ".join(silent)
        if failure.how.startswith("name: "):
            rows = {server: told for (name, server), told in answers.items() if name == way.first_hop}
            bad, doubt = _unresolved(rows)
            doubt = doubt or ("" if bad else why or "no name server could be asked")
            if doubt:
                affected = ("NAME_RESOLUTION_FAILS", "PROXY_UNREACHABLE", "STORAGE_UNREACHABLE")
                yield CannotTell(f"{way.first_hop}: {failure.how}; but {doubt}", affected, effect)
                continue
            for server, words in bad.items():
                asked: dict[str, Scalar] = {"name": way.first_hop, "server": server, "how": words}
                yield Finding("NAME_RESOLUTION_FAILS", server, asked, effect)
        at_proxy = failure.how.startswith(("name: ", "connect: ", "proxy: ")) and failure.how not in _BEHIND_PROXY
        if not (way.proxy and at_proxy):
            yield Finding("STORAGE_UNREACHABLE", way.key, evidence, effect)
            continue
        yield Finding("PROXY_UNREACHABLE", way.proxy, evidence, effect)
        if path.effect is Effect.NOTICE:  # the straight way, which is not needed, has not been tried
            yield CannotTell("the proxy lets nothing through", ("STORAGE_UNREACHABLE",), Effect.NOTICE)


def _signed(way: _Way, answered: Fetched) -> Iterator[Observation]:
    """A chain that verifies through somebody else's authority works, and is worth knowing."""
    if re.sub(r"[^a-z0-9]", "", answered.issuer.lower()) not in _ISSUERS:
        evidence: dict[str, Scalar] = {"endpoint": way.host, "how": "verifies", "issuer": answered.issuer}
        yield Finding("TLS_INTERCEPTED", way.key, evidence, Effect.NOTICE)


# ------------------------------------------------------------------------------------------------------------ names

_Told = Union[Resolved, str]  # an answer, or how there is none


def _servers(machine: Machine) -> tuple[str, ...]:
    """The name servers that the resolver asks, in its order. Raises CannotTell."""
    try:
        text = machine.read(_RESOLV_CONF, 1 << 16).decode("utf-8", "replace")
    except Absent:
        target = _link(machine)
        if target and target not in _LINKED:
            # The look does not see all of /run, so that this says nothing about the machine.
            raise CannotTell(f"{_RESOLV_CONF} is a link to {target}, which is not there") from None
        text = ""
    servers = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            with contextlib.suppress(ValueError):
                ipaddress.ip_address(words[1].partition("%")[0])
                servers.append(words[1][:64])
    return tuple(dict.fromkeys(servers[:_MOST_SERVERS])) or ("127.0.0.1",)


def _link(machine: Machine) -> str:
    """Where /etc/resolv.conf leads to; empty if it is no link."""
    try:
        target = machine.target(_RESOLV_CONF)
    except (Absent, CannotTell):
        return ""
    return re.sub(r"^(?:/?\.\.)*/(?:var/)?run/", "/run/", target)


def _ask(machine: Machine, names: Sequence[str], servers: Sequence[str]) -> dict[tuple[str, str], _Told]:
    """What each server says of each name. One that was silent once is not waited for again. Raises CannotTell."""
    answers: dict[tuple[str, str], _Told] = {}
    silent: set[str] = set()
    for name in names:
        if _is_address(name):
            continue
        for server in servers:
            if server in silent:
                answers[name, server] = "timed_out"
                continue
            try:
                answers[name, server] = machine.resolve(name, server, _NAME_TIMEOUT)
            except Unreachable as error:
                answers[name, server] = error.how
                if error.how == "timed_out":
                    silent.add(server)
    return answers


def _answer_times(answers: Mapping[tuple[str, str], _Told]) -> Iterator[Observation]:
    times = {server: told.seconds for (_, server), told in answers.items() if isinstance(told, Resolved)}
    for server, seconds in times.items():
        yield Reading("backupready_dns_answer_seconds", seconds, {"server": server})


def _addresses(told: _Told) -> tuple[str, ...]:
    return told.addresses if isinstance(told, Resolved) and told.rcode == "NOERROR" else ()


def _unresolved(rows: Mapping[str, _Told]) -> tuple[dict[str, str], str]:
    """Which servers are to blame that a name has no address, each with how; or why none is.

    The resolver goes on to the next server after silence or a failure, and believes the first that knows the name or
    knows that there is none.
    """
    bad = {}
    for server, told in rows.items():
        if isinstance(told, str):
            bad[server] = told
        elif told.rcode not in ("NOERROR", "NXDOMAIN"):
            bad[server] = told.rcode
        elif told.addresses and told.rcode == "NOERROR":
            return {}, f"{server} knows it"
        else:
            return {server: told.rcode if told.rcode == "NXDOMAIN" else "no address"}, ""
    return bad, ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------- allow-list


def _allowed(
    machine: Machine, settings: Settings, host: str, addresses: Sequence[str], effect: Effect
) -> Iterator[Observation]:
    """Whether the endpoint's addresses are in the list, and have a route."""
    path, tag = settings["service_tags"], settings["service_tag"]
    here = sorted(set(addresses))[:_MOST_ADDRESSES]
    if not here:
        yield CannotTell(f"no name server gives an address of {host}", ("ALLOW_LIST_GAP",), effect)
        return
    try:
        change, networks = _networks(machine.read(path, _TAGS_LIMIT), path, tag)
    except Absent:
        yield CannotTell(f"there is no {path}", ("ALLOW_LIST_GAP",), effect)
        return
    except CannotTell as error:
        yield CannotTell(error.why, ("ALLOW_LIST_GAP",), effect)
        return
    for text in here:
        evidence: dict[str, Scalar] = {"endpoint": host, "address": text, "tag": tag, "list": path, "change": change}
        with contextlib.suppress(ValueError):
            address = ipaddress.IPv4Address(text)
            # A private endpoint needs no list.
            if not address.is_private and not any(address in network for network in networks):
                yield Finding("ALLOW_LIST_GAP", text, {**evidence, "how": "not in the tag"}, effect)
                continue
        try:
            machine.route(text)
        except Unreachable as error:
            yield Finding("ALLOW_LIST_GAP", text, {**evidence, "how": error.how, "detail": error.detail}, effect)
        except CannotTell as error:
            yield CannotTell(error.why, ("ALLOW_LIST_GAP",), effect)
            return


def _networks(data: bytes, path: str, tag: str) -> tuple[str, list[ipaddress.IPv4Network]]:
    """The list's change number and the IPv4 networks of one of its tags. Raises CannotTell."""
    document: Any = waagent.parse_json(data, path)
    try:
        values = document["values"]
        wanted = [entry["properties"]["addressPrefixes"] for entry in values if entry["name"].lower() == tag.lower()]
        prefixes = [prefix for prefix in wanted[0] if ":" not in prefix][:_MOST_PREFIXES] if wanted else None
        networks = [ipaddress.IPv4Network(prefix, strict=False) for prefix in prefixes or ()]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise CannotTell(f"{path} is no list of service tags: {type(error).__name__}") from None
    if prefixes is None:
        raise CannotTell(f"{path} has no service tag {tag}")
    if not networks:
        raise CannotTell(f"{path} has no address for the service tag {tag}")
    change = document.get("changeNumber")
    return str(change)[:20] if type(change) is int else "", networks


PROBE = Probe(
    name="storage",
    question="Can this machine reach the blob storage, if the next snapshot needs it?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=_LONGEST + 1.0),
    interval=timedelta(minutes=15),
    metrics=METRICS,
    settings=SETTINGS,
)
