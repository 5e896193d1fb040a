"""Will the VM agent find the address of the Azure fabric, and will the machine keep its own?

The agent takes the fabric's address from the first of these that has it: what it noted when it started, the kernel's
routes, the leases on the disk, and at last a DHCP request of its own. It does not fall back to the well-known address,
unless its configuration says so. The snapshot itself needs none of this, since the extension knows the address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from backupready import waagent
from backupready.model import (
    Absent,
    Access,
    CannotTell,
    Cause,
    Effect,
    Finding,
    Machine,
    Observation,
    Probe,
    Problem,
    Process,
    Settings,
    Unreachable,
    is_there,
)

_ROUTES = "/proc/net/route"
_HOST_ROUTE = b"10813FA8"  # 168.63.129.16 as the kernel prints it there
_ENDPOINT = 0x10813FA8
_ENDPOINT_FILE = f"{waagent.LIB_DIR}/WireServerEndpoint"
_REPORT_FRESH = 900.0  # s
_LOG_END = 64 << 10  # bytes
_ASKS_AGAIN = 600.0  # s; it asks five times in 160 s, waits 10 s, and begins anew
_TIMEOUT = 5.0  # s for each step of a request; the agent waits 10 s
_REQUEST_BUDGET = 6.5  # s for all tries of it
_ROUTES_LIMIT = 16 << 20  # bytes; a machine that speaks BGP has a hundred thousand
_EXPIRY_SLACK = 60.0  # s; a client may renew in the last moment

# Where dhclient keeps its leases: Debian, RHEL, and RHEL where NetworkManager starts it.
_DHCLIENT = (
    ("/var/lib/dhcp", re.compile(r"dhclient\..*\.leases")),
    ("/var/lib/dhclient", re.compile(r"dhclient-.*\.leases?")),
    ("/var/lib/NetworkManager", re.compile(r"dhclient-.*\.lease")),
)
_NETWORKD_LEASES = "/run/systemd/netif/leases"
_NETWORKD_LINKS = "/run/systemd/netif/links"
_NETWORKD_FILES = ("/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network")
_NM_DEVICES = "/run/NetworkManager/devices"
_NM_PROFILES = (
    "/etc/NetworkManager/system-connections",
    "/run/NetworkManager/system-connections",
    "/usr/lib/NetworkManager/system-connections",
)
_RED_HAT_SCRIPTS = "/etc/sysconfig/network-scripts"
_SUSE_SCRIPTS = "/etc/sysconfig/network"
_INTERFACES = "/etc/network/interfaces"
_INTERFACES_MORE = ("/etc/network/interfaces.d", "/run/network/interfaces.d")  # the latter in Debian's cloud images
_WICKED_LEASES = "/var/lib/wicked"
_MOST_FILES = 64
_MOST_LINES = 20_000

# The programs that keep a lease, by what owns the interface.
_DHCP_CLIENTS = ("dhclient", "dhcpcd", "udhcpc")
_CLIENTS: Mapping[str, tuple[str, ...]] = {
    "systemd-networkd": ("systemd-networkd",),
    "NetworkManager": ("NetworkManager",),
    "wicked": ("wickedd-dhcp4",),
    "network-scripts": _DHCP_CLIENTS,
    "ifupdown": _DHCP_CLIENTS,
}
_ALL_CLIENTS = frozenset((*(name for names in _CLIENTS.values() for name in names), "connmand"))

_TROUBLESHOOTING = "https://learn.microsoft.com/azure/backup/backup-azure-troubleshoot-vm-backup-fails-snapshot-timeout"
_WIRE_SERVER = "https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16"
_ADDRESSES = "https://learn.microsoft.com/azure/virtual-network/ip-services/virtual-network-network-interface-addresses"

PROBLEMS = (
    Problem(
        "DHCP_NO_ENDPOINT",
        "The VM agent cannot find the address of the fabric",
        Effect.BLOCKS,
        Cause.FABRIC,
        meaning="The agent has no note of the wire server's address, no route names it and no lease carries it (DHCP"
        " option 245), and its own request to the DHCP server comes to nothing. An agent that runs waits in a loop then"
        " and does nothing else.",
        diagnosis="`grep -i dhcp /var/log/waagent.log | tail`; `grep 10813FA8 /proc/net/route`;"
        " `grep -r unknown-245 /var/lib/dhcp /var/lib/dhclient`; `cat /run/systemd/netif/leases/*`.",
        fix="Let the primary interface take its address by DHCP, and keep UDP 67 and 68 open. Where that cannot be, add"
        " a route for 168.63.129.16/32 out of the primary interface, and restart the agent.",
        source=_TROUBLESHOOTING,
        explains=(
            "AGENT_WORKER_MISSING",
            "AGENT_CANNOT_FETCH_GOAL_STATE",
            "AGENT_STATUS_NOT_UPLOADED",
            "EXTENSION_PACKAGE_UNAVAILABLE",
        ),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="while a machine boots, its lease comes a moment later",
    ),
    Problem(
        "DHCP_STATIC_ADDRESS",
        "The primary interface has a static address inside the guest",
        Effect.RISKS,
        Cause.FABRIC,
        meaning="The interface on the way to the wire server is configured without DHCP. The fabric's address and the"
        " route to it come with DHCP: after a restart, or a move to another network, the agent may not find it.",
        diagnosis="The file that the evidence names; `ip -4 address`; `ip route get 168.63.129.16`.",
        fix="Configure the interface for DHCP, and make the address static in Azure, on its network interface.",
        source=_ADDRESSES,
        milder=(Effect.NOTICE,),
    ),
    Problem(
        "DHCP_LEASE_EXPIRED",
        "The lease of the primary interface has expired",
        Effect.RISKS,
        Cause.FABRIC,
        meaning="The newest lease on the disk is over and has not been renewed. The machine may lose its address, and"
        " the agent does not take the fabric's address out of it any more.",
        diagnosis="The lease file that the evidence names; the journal of the DHCP client; `timedatectl`.",
        fix="Find out why the DHCP client does not renew (is UDP 67 and 68 open, is the clock right?); restart it.",
        source=_TROUBLESHOOTING,
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a client may renew in the last moment",
    ),
    Problem(
        "DHCP_CLIENT_GONE",
        "The DHCP client does not run",
        Effect.RISKS,
        Cause.FABRIC,
        meaning="The primary interface is configured for DHCP, but the program that would renew its lease is not among"
        " the processes: when the lease ends, the machine loses its address and the way to the fabric.",
        diagnosis="`systemctl status systemd-networkd NetworkManager wicked networking`; `ps -e | grep -i dhc`.",
        fix="Start the service that owns the interface, or bring the interface up anew (`ifup`).",
        source=_WIRE_SERVER,
        explains=("DHCP_LEASE_EXPIRED",),
        sightings=2,
        apart=timedelta(seconds=5),
        patience="a service that is restarted is gone for a moment",
    ),
)

_OF_THE_ADDRESS = ("DHCP_STATIC_ADDRESS", "DHCP_LEASE_EXPIRED", "DHCP_CLIENT_GONE")


@dataclass(frozen=True)
class Lease:
    """One lease; `expires` is seconds since the epoch, None where it never does or that is not said. `endpoint` says
    whether it carries option 245 in the form that the agent reads."""

    device: str
    expires: float | None
    endpoint: bool


@dataclass(frozen=True)
class _Configured:
    """Which program configures an interface, by which file, and whether by DHCP or with a static address."""

    owner: str
    path: str
    method: str  # dhcp or static


def look(machine: Machine, settings: Settings) -> Iterator[Observation]:
    """Replay the agent's search, then look at the interface that leads to the fabric."""
    routes: bytes | None = None
    why = f"there is no {_ROUTES}"
    try:
        routes = machine.read(_ROUTES, _ROUTES_LIMIT)
    except Absent:
        pass
    except CannotTell as error:
        why = error.why
    try:
        known = _endpoint_known(machine, routes)
        if not known:
            yield from _endpoint(machine, why if routes is None else "")
    except CannotTell as error:
        known = ""
        yield CannotTell(error.why, ("DHCP_NO_ENDPOINT",))
    if routes is None:
        yield CannotTell(why, _OF_THE_ADDRESS)
        return
    try:
        yield from _address(machine, routes, known)
    except CannotTell as error:
        yield CannotTell(error.why, _OF_THE_ADDRESS)


# ------------------------------------------------------------------------------------------- the agent's search


def _endpoint_known(machine: Machine, routes: bytes | None) -> str:
    """Where the agent would find the address without asking for it; empty where it would not."""
    try:
        values = waagent.agent_config(machine).values
    except Absent:
        values = {}
    if (values.get("Protocol.EndpointDiscovery") or "dhcp").lower() != "dhcp":
        return "the configuration"
    if routes is not None and _HOST_ROUTE in routes:
        return "a route"
    now = machine.now()
    for path, leases in _dhclient_leases(machine):
        if any(lease.endpoint and (lease.expires is None or lease.expires > now) for lease in leases):
            return path
    for name in _names(machine, _NETWORKD_LEASES):
        path = f"{_NETWORKD_LEASES}/{name}"
        if parse_networkd_lease(_read(machine, path)).endpoint:
            return path
    return ""


def _endpoint(machine: Machine, unknown: str) -> Iterator[Observation]:
    """The agent must ask, unless it has done so before: is that known to come to nothing? `unknown` is why the routes
    could not be read."""
    agent = waagent.agent_processes(machine.processes())
    running = agent.daemon is not None or agent.worker is not None
    if running and (is_there(machine, _ENDPOINT_FILE) or _reports(machine)):
        return
    if unknown:
        raise CannotTell(unknown)
    evidence = {"routes": "none for 168.63.129.16 alone", "leases": "none with option 245"}
    if running and _asks_in_vain(machine):
        yield Finding("DHCP_NO_ENDPOINT", evidence={**evidence, "agent": "asks in vain"})
        return
    url = f"http://{machine.wire_server}/?comp=versions"
    try:
        machine.get(url, _TIMEOUT, _REQUEST_BUDGET)
    except Unreachable as error:
        if not machine.privileged:
            raise CannotTell(f"{url}: {error.how}, but this look is not root's") from None
        yield Finding("DHCP_NO_ENDPOINT", evidence={**evidence, "wire_server": error.how})


def _reports(machine: Machine) -> bool:
    """Whether the agent reports, so that it has found the address whatever else."""
    try:
        return machine.now() - waagent.newest_report(machine).written < _REPORT_FRESH
    except Absent:
        return False


# What the agent says when its request comes to nothing, and whatever shows that it has got on since.
_IN_VAIN = re.compile(r"Failed to send DHCP request")
_GOT_ON = re.compile(
    r"Wire server endpoint:|cached endpoint found|Route to \S+ exists|Run daemon|HEARTBEAT"
    r"|[Ff]etch(?:ed|ing)? .*goal state"
)


def _asks_in_vain(machine: Machine) -> bool:
    """Whether the agent's last word about DHCP is that nobody answers. (That it tries again it says also while the wire
    server is silent whose address it has.)"""
    try:
        data, _, _ = machine.read_new(waagent.LOG, None, _LOG_END)
    except Absent:
        return False
    failed: float | None = None
    for record in waagent.records(data):
        line = record.text.partition("\n")[0]
        if _IN_VAIN.search(line):
            failed = record.time
        elif _GOT_ON.search(line):
            failed = None
    return failed is not None and machine.now() - failed < _ASKS_AGAIN


# ------------------------------------------------------------------------------------------------ the interface


def _address(machine: Machine, routes: bytes, known: str) -> Iterator[Observation]:
    device = device_of(routes)
    if not device:
        return  # there is no way at all, which is another problem
    found = _configuration(machine, device)
    if found is None:
        return
    evidence = {"device": device, "owner": found.owner, "file": found.path}
    if found.method == "static":
        effect = Effect.NOTICE if known else None
        # The agent's note helps as long as it runs: it removes the file when it starts.
        noted = _ENDPOINT_FILE if is_there(machine, _ENDPOINT_FILE) else "nothing"
        yield Finding("DHCP_STATIC_ADDRESS", evidence={**evidence, "endpoint_from": known or noted}, effect=effect)
        return
    try:
        running = {_program(process) for process in machine.processes() if process.state != "Z"}
    except CannotTell as error:
        yield CannotTell(error.why, ("DHCP_CLIENT_GONE", "DHCP_LEASE_EXPIRED"))
        return
    # Another client may have taken the interface over, whatever its old configuration says.
    if not running & _ALL_CLIENTS:
        yield Finding("DHCP_CLIENT_GONE", evidence={**evidence, "client": " ".join(_CLIENTS[found.owner])})
    newest = _newest_lease(machine, found.owner, device, running)
    if newest is None:
        return
    path, lease = newest
    if machine.status(path).modified > machine.now() + _EXPIRY_SLACK:
        yield CannotTell(f"{path} is written in the future: the clock has been set back", ("DHCP_LEASE_EXPIRED",))
    elif lease.expires is not None and lease.expires + _EXPIRY_SLACK < machine.now():
        late = round(machine.now() - lease.expires)
        yield Finding("DHCP_LEASE_EXPIRED", evidence={**evidence, "lease": path, "expired_seconds_ago": late})


def _program(process: Process) -> str:
    """A program's name; some write over their arguments (`dhcpcd: eth0 [ip4]`)."""
    first = process.argv[0] if process.argv else ""
    return re.split(r"[: ]", first.rpartition("/")[2] or first)[0]


def device_of(routes: bytes) -> str:
    """The device by which /proc/net/route sends packets for 168.63.129.16: the longest prefix, then the lowest metric.
    Empty where there is none."""
    best: tuple[int, int, str] | None = None
    for line in routes.decode("ascii", "replace").splitlines():
        words = line.split()
        if len(words) < 8 or not words[6].isdigit() or len(words[6]) > 10:
            continue
        try:
            destination, flags, mask = (int(words[place], 16) for place in (1, 3, 7))
        except ValueError:
            continue
        if not flags & 1 or flags & 0x200 or _ENDPOINT & mask != destination:  # RTF_UP, RTF_REJECT
            continue
        rank = (-bin(mask).count("1"), int(words[6]), words[0])
        best = rank if best is None else min(best, rank)
    return best[2] if best is not None and re.fullmatch(r"(?!\.{1,2}$)[^/]{1,15}", best[2]) else ""


def _configuration(machine: Machine, device: str) -> _Configured | None:
    """What owns the interface, the running owners first. None where nothing says that it is by DHCP or static."""
    try:
        index = machine.read(f"/sys/class/net/{device}/ifindex").decode("ascii", "replace").strip()
    except Absent:
        index = ""
    if index.isdigit():
        for ask in (_by_networkd, _by_network_manager):
            owned, found = ask(machine, device, index)
            if owned:
                return found
    for owner, folder in (("wicked", _SUSE_SCRIPTS), ("network-scripts", _RED_HAT_SCRIPTS)):
        path = f"{folder}/ifcfg-{device}"
        if is_there(machine, path):
            return _configured(owner, path, ifcfg_method(_read(machine, path)))
    paths = [_INTERFACES, *(f"{folder}/{name}" for folder in _INTERFACES_MORE for name in _names(machine, folder))]
    for path in paths:
        method = interfaces_methods(_read(machine, path)).get(device)
        if method is not None:
            return _configured("ifupdown", path, method)
    return None


def _configured(owner: str, path: str, method: str) -> _Configured | None:
    return _Configured(owner, path, method) if method in ("dhcp", "static") else None


def _by_networkd(machine: Machine, device: str, index: str) -> tuple[bool, _Configured | None]:
    rows = {key: value for _, key, value in keys_of(_read(machine, f"{_NETWORKD_LINKS}/{index}"))}
    path = rows.get("NETWORK_FILE", "")
    folder, _, name = path.rpartition("/")
    if rows.get("ADMIN_STATE", "unmanaged") in ("unmanaged", "pending", "initialized") or not name:
        return False, None
    if folder not in _NETWORKD_FILES:
        return True, None
    pieces = [_read(machine, path)]
    for place in _NETWORKD_FILES[:3]:
        dropins = f"{place}/{name}.d"
        pieces += [_read(machine, f"{dropins}/{one}") for one in _names(machine, dropins) if one.endswith(".conf")]
    return True, _configured("systemd-networkd", path, networkd_method(b"\n".join(pieces)))


def _by_network_manager(machine: Machine, device: str, index: str) -> tuple[bool, _Configured | None]:
    rows = {(section, key): value for section, key, value in keys_of(_read(machine, f"{_NM_DEVICES}/{index}"))}
    uuid = rows.get(("device", "connection-uuid"), "")
    if not uuid:
        return False, None
    for folder in _NM_PROFILES:
        for name in _names(machine, folder):
            profile = {(s, key): value for s, key, value in keys_of(_read(machine, f"{folder}/{name}"))}
            if profile.get(("connection", "uuid")) == uuid:
                method = {"auto": "dhcp", "manual": "static"}.get(profile.get(("ipv4", "method"), ""), "")
                return True, _configured("NetworkManager", f"{folder}/{name}", method)
    for name in _names(machine, _RED_HAT_SCRIPTS):
        if not name.startswith("ifcfg-"):
            continue
        text = _read(machine, f"{_RED_HAT_SCRIPTS}/{name}")
        values = {key: value for _, key, value in keys_of(text)}
        if values.get("UUID") == uuid or ("UUID" not in values and values.get("DEVICE") == device):
            return True, _configured("NetworkManager", f"{_RED_HAT_SCRIPTS}/{name}", ifcfg_method(text))
    return True, None  # a profile in its memory alone, which it makes for DHCP


# ------------------------------------------------------------------------------------------------------- leases


def _dhclient_leases(machine: Machine) -> Iterator[tuple[str, list[Lease]]]:
    for folder, pattern in _DHCLIENT:
        for name in _names(machine, folder):
            if pattern.fullmatch(name):
                path = f"{folder}/{name}"
                yield path, parse_dhclient(_read(machine, path))


def _newest_lease(machine: Machine, owner: str, device: str, running: set[str]) -> tuple[str, Lease] | None:
    """The newest lease of the interface on the disk that says when it ends, if its client keeps it there."""
    if owner == "wicked":
        path = f"{_WICKED_LEASES}/lease-{device}-dhcp-ipv4.xml"
        lease = parse_wicked(_read(machine, path), device)
        return (path, lease) if lease is not None else None
    # What an earlier client has left says nothing. (systemd-networkd removes a lease that ends.)
    kept = "dhclient" in running or (owner in ("ifupdown", "network-scripts") and not running & _ALL_CLIENTS)
    if owner == "systemd-networkd" or not kept:
        return None
    found = []
    for path, leases in _dhclient_leases(machine):
        own = [lease for lease in leases if lease.device == device]
        if own and (owner == "NetworkManager") == path.startswith("/var/lib/NetworkManager/"):
            found.append((machine.status(path).modified, path, own[-1]))
    newest = max(found, key=lambda one: one[:2], default=None)
    return newest[1:] if newest is not None else None


_OPTION_245 = re.compile(r"option unknown-245 (?:[0-9a-f]{1,2}:){3}[0-9a-f]{1,2};", re.ASCII)
_EXPIRE = re.compile(
    r"expire (?:\d (\d{4})/(\d\d?)/(\d\d?) (\d\d?):(\d\d?):(\d\d?)|epoch (\d{1,12})|(never));", re.ASCII
)


def parse_dhclient(data: bytes) -> list[Lease]:
    """The leases of a dhclient.leases(5), in their order; times there are UTC. One that is not complete is left out."""
    leases: list[Lease] = []
    inside, device, expires, endpoint = False, "", None, False
    for line in data.decode("utf-8", "replace").splitlines()[-_MOST_LINES:]:
        words = line.strip()
        if words.startswith("lease") and words.endswith("{"):
            inside, device, expires, endpoint = True, "", None, False
        elif words == "}" and inside:
            leases.append(Lease(device, expires, endpoint))
            inside = False
        elif words.startswith("interface "):
            device = words[len("interface ") :].strip(' ";')
        elif _OPTION_245.fullmatch(words):
            endpoint = True
        elif words.startswith("expire "):
            expires = _expiry(words)
    return leases


def _expiry(words: str) -> float | None:
    """`expire 4 2015/06/16 16:58:54;`: the first number is the day of the week."""
    match = _EXPIRE.match(words)
    if match is None or match[8]:
        return None
    if match[7]:
        return float(match[7])
    try:
        year, month, day, hour, minute, second = (int(match[place]) for place in range(1, 7))
        return datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc).timestamp()
    except (ValueError, OverflowError):
        return None


def parse_networkd_lease(data: bytes) -> Lease:
    """/run/systemd/netif/leases/<index>: it is there as long as the lease is good."""
    values = {key: value for _, key, value in keys_of(data)}
    return Lease("", None, re.fullmatch(r"[0-9a-fA-F]{8}", values.get("OPTION_245", "")) is not None)


def parse_wicked(data: bytes, device: str) -> Lease | None:
    """/var/lib/wicked/lease-<device>-dhcp-ipv4.xml; None where it does not say when the lease was given."""
    text = data[: 1 << 16].decode("utf-8", "replace")
    acquired = re.search(r"<acquired>(\d{1,12})</acquired>", text, re.ASCII)
    lasts = re.search(r"<lease-time>(\d{1,12})</lease-time>", text, re.ASCII)
    if acquired is None or lasts is None:
        return None
    ever = int(lasts[1]) >= 0xFFFFFFFF
    return Lease(device, None if ever else float(acquired[1]) + float(lasts[1]), endpoint=False)


# ------------------------------------------------------------------------------------------------ configuration


def keys_of(data: bytes) -> Iterator[tuple[str, str, str]]:
    """Section, key and value of each `key = value` in systemd's files, NetworkManager's and those for a shell."""
    section = ""
    for line in data.decode("utf-8", "replace").splitlines()[:_MOST_LINES]:
        words = line.strip()
        if words.startswith("[") and words.endswith("]"):
            section = words[1:-1]
        elif "=" in words and not words.startswith(("#", ";")):
            key, _, value = words.partition("=")
            yield section, key.strip(), value.strip().strip("\"'")


def networkd_method(data: bytes) -> str:
    """dhcp, static, or empty, as systemd.network(5) has it for IPv4."""
    dhcp, address = False, False
    for section, key, value in keys_of(data):
        if (section, key) == ("Network", "DHCP"):
            dhcp = value.lower() in ("yes", "true", "on", "1", "y", "t", "both", "ipv4", "v4")
        elif section in ("Network", "Address") and key == "Address":
            address = address or _is_address(value)
    return "dhcp" if dhcp else "static" if address else ""


def _is_address(text: str) -> bool:
    """An IPv4 address that is more than link-local."""
    return re.match(r"(?!169\.254\.|127\.)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(/|$)", text, re.ASCII) is not None


def ifcfg_method(data: bytes) -> str:
    """dhcp, static, or empty, in Red Hat's and SUSE's form."""
    values = {key: value for _, key, value in keys_of(data)}
    method = values.get("BOOTPROTO", "").lower()
    if method in ("dhcp", "dhcp4", "bootp", "dhcp+autoip"):
        return "dhcp"
    addressed = any(_is_address(value) for key, value in values.items() if re.fullmatch(r"IPADDR[\d_]*", key))
    return "static" if method in ("", "none", "static") and addressed else ""


def interfaces_methods(data: bytes) -> dict[str, str]:
    """Interface → dhcp or static, of interfaces(5), for IPv4. An interface with both has dhcp."""
    methods: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines()[:_MOST_LINES]:
        words = line.split()
        if len(words) >= 4 and (words[0], words[2]) == ("iface", "inet") and words[3] in ("dhcp", "static"):
            methods[words[1]] = "dhcp" if methods.get(words[1]) == "dhcp" else words[3]
    return methods


# -------------------------------------------------------------------------------------------------------- files


def _read(machine: Machine, path: str) -> bytes:
    """What is not there is empty."""
    try:
        return machine.read(path)
    except Absent:
        return b""


def _names(machine: Machine, folder: str) -> tuple[str, ...]:
    try:
        return machine.names(folder)[:_MOST_FILES]
    except Absent:
        return ()


PROBE = Probe(
    name="dhcp",
    question="Will the VM agent find the address of the Azure fabric, and will the machine keep its own?",
    access=Access.ROOT,
    problems=PROBLEMS,
    look=look,
    budget=timedelta(seconds=15),
    interval=timedelta(minutes=15),
)
