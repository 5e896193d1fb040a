"""Do the rules of netfilter let one connection through? What iptables and nft list, replayed for it.

Pure functions over text. A rule that cannot be followed (an ipset, a rate, an extension that is not known here) is
never guessed: where the outcome depends on it, it is doubtful. Facts about the forms were read in
iptables-extensions(8) and libnftables-json(5).
"""

from __future__ import annotations

import ipaddress
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Callable, Union

from backupready.model import CannotTell

_MOST_RULES = 20_000
_MOST_STEPS = 50_000
_MOST_IN_A_MAP = 256  # verdicts that one rule looks up
_DEEPEST = 16  # jumps; the kernel's own bound
_LONGEST_RULE = 300  # characters of a rule as evidence
_FLAGS = {"request": {"SYN"}, "answer": {"SYN", "ACK"}}
_CLIENT_PORTS = (1024, 65535)  # the widest that net.ipv4.ip_local_port_range is in practice

# True, False, or None where it cannot be told.
Match = Union[bool, None]


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection, or the first of the answer; an empty device is one that is not known."""

    way: str  # request or answer
    source: str
    destination: str
    source_port: int  # 0 for the one that the client has been given
    destination_port: int
    device: str

    @property
    def state(self) -> str:
        return "new" if self.way == "request" else "established"

    @property
    def hooks(self) -> tuple[str, ...]:
        return ("output", "postrouting") if self.way == "request" else ("prerouting", "input")


def connection(host: str, port: int, device: str, source: str) -> tuple[Packet, Packet]:
    """What root's connection to a server sends first, and gets first."""
    return (
        Packet("request", source, host, 0, port, device),
        Packet("answer", host, source, port, 0, device),
    )


@dataclass(frozen=True)
class Rule:
    """`matches` says whether the packet meets it, `verdict` what then happens: accept, block, return, continue, jump,
    goto (both to `target`), or doubt."""

    text: str
    matches: Callable[[Packet], Match]
    verdict: str
    target: str = ""
    agents: bool = False  # it has the form of the rule with which the VM agent keeps others out


@dataclass(frozen=True)
class Chain:
    """A chain with a hook is where packets enter; `policy` is what becomes of those that reach its end."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy: str = "accept"
    rules: tuple[Rule, ...] = ()

    @property
    def place(self) -> str:
        return f"{self.family} {self.table} {self.name}"


@dataclass(frozen=True)
class Blocked:
    """The rule that keeps a connection back, and where it stands."""

    rule: str
    table: str
    chain: str
    agents: bool


@dataclass(frozen=True)
class Ruleset:
    """All chains that were read."""

    chains: Mapping[tuple[str, str, str], Chain] = field(default_factory=dict)

    def joined(self, other: Ruleset) -> Ruleset:
        return Ruleset({**other.chains, **self.chains})


def _hook(hook: str, translates: bool) -> str:
    """Chains that translate addresses see the first packet of a connection only, never an answer."""
    return f"{hook} of new connections" if translates and hook in ("prerouting", "input") else hook


# ------------------------------------------------------------------------------------------------------- replay


def replay(rules: Ruleset, packet: Packet) -> tuple[list[Blocked], list[str]]:
    """The rules that certainly keep the packet back, and those on which it depends and that cannot be followed."""
    blocked: list[Blocked] = []
    doubts: list[str] = []
    steps = [0]
    for chain in rules.chains.values():
        if chain.hook not in packet.hooks:
            continue
        ends = _walk(rules, chain, packet, {}, 0, steps)
        stops = [end for end in ends if isinstance(end, Blocked)]
        if len(stops) == len(ends):
            blocked.append(stops[0])
        elif stops or any(isinstance(end, _Doubt) for end in ends):
            unclear = next((end.why for end in ends if isinstance(end, _Doubt)), "")
            doubts.append(unclear or f"{chain.place}: whether it comes to {stops[0].rule!r} cannot be followed")
    return blocked, doubts


@dataclass(frozen=True)
class _Doubt:
    why: str


_End = Union[Blocked, _Doubt, str]  # as text: accept or return


def _walk(
    rules: Ruleset,
    chain: Chain,
    packet: Packet,
    known: dict[str, tuple[_End, ...]],
    depth: int,
    steps: list[int],
) -> tuple[_End, ...]:
    """How it may end for the packet in this chain. Each chain is followed once, whoever jumps to it."""
    ends: dict[_End, None] = {}
    if depth > _DEEPEST:
        return (_Doubt(f"{chain.place}: its jumps lead too deep"),)
    for rule in chain.rules:
        steps[0] += 1
        if steps[0] > _MOST_STEPS:
            return (*ends, _Doubt("there are too many rules"))
        met = rule.matches(packet)
        if met is False or rule.verdict == "continue":
            continue
        found = _outcome(rules, chain, rule, packet, known, depth, steps)
        for end in found:
            if end != "on":
                ends[end] = None
        if met is True and "on" not in found:
            return tuple(ends)
    if chain.hook and chain.policy != "accept":
        ends[_by_policy(chain)] = None
    else:
        ends["accept" if chain.hook else "return"] = None
    return tuple(ends)


def _outcome(
    rules: Ruleset,
    chain: Chain,
    rule: Rule,
    packet: Packet,
    known: dict[str, tuple[_End, ...]],
    depth: int,
    steps: list[int],
) -> tuple[_End, ...]:
    """How a rule that is met may end; `on` is to go on with the next."""
    if rule.verdict == "block":
        return (Blocked(rule.text, chain.table, chain.name, rule.agents),)
    if rule.verdict == "doubt":
        return (_Doubt(f"{chain.place}: {rule.text!r} cannot be followed"),)
    if rule.verdict == "return" and chain.hook:
        return ("accept",) if chain.policy == "accept" else (_by_policy(chain),)
    if rule.verdict not in ("jump", "goto"):
        return (rule.verdict,)
    other = rules.chains.get((chain.family, chain.table, rule.target))
    if other is None or other.hook:
        return (_Doubt(f"{chain.place}: {rule.text!r} cannot be followed"),)
    if rule.target not in known:
        known[rule.target] = (_Doubt(f"{other.place}: it jumps in a circle"),)
        known[rule.target] = _walk(rules, other, packet, known, depth + 1, steps)
    back = "on" if rule.verdict == "jump" else "accept" if chain.hook else "return"
    if rule.verdict == "goto" and chain.hook and chain.policy != "accept":
        return tuple(_by_policy(chain) if end == "return" else end for end in known[rule.target])
    return tuple(back if end == "return" else end for end in known[rule.target])


def _by_policy(chain: Chain) -> Blocked:
    return Blocked(f"policy {chain.policy}", chain.table, chain.name, agents=False)


def _all(matches: Iterable[Match]) -> Match:
    """All of them: one that certainly is not met is enough to say no."""
    found = list(matches)
    return False if False in found else None if None in found else True


def _not(match: Match) -> Match:
    return None if match is None else not match


# ----------------------------------------------------------------------------------------------------- iptables

_HOOKS = {name.upper(): name for name in ("output", "postrouting", "prerouting", "input")}
_GO_ON = frozenset(
    (
        *("LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "SET", "CHECKSUM", "TCPMSS", "TCPOPTSTRIP", "ECN", "DSCP", "TOS"),
        *("TTL", "CLASSIFY", "MARK", "CONNMARK", "HMARK", "SECMARK", "CONNSECMARK", "CT", "NOTRACK", "LED"),
    )
)
_VERDICTS = {
    "ACCEPT": "accept",
    "DROP": "block",
    "REJECT": "block",
    "TARPIT": "block",
    "RETURN": "return",
    "MASQUERADE": "accept",
    "SNAT": "accept",
    "NETMAP": "doubt",
}
# Modules that only say where the options come from.
_PLAIN_MODULES = frozenset(("tcp", "udp", "multiport", "conntrack", "state", "owner", "comment", "addrtype", "iprange"))


def is_nft_variant(saved: bytes) -> bool:
    """Whether iptables-save is the one that reads nftables."""
    return b"(nf_tables)" in saved.partition(b"\n*")[0]


def legacy_is_there_too(saved: bytes) -> bool:
    """Whether the nftables variant says that the older tables hold rules as well."""
    return b"iptables-legacy" in saved


def parse_iptables(saved: bytes, family: str) -> Ruleset:
    """What iptables-save prints; `family` names the program, since two of them may keep tables. Raises CannotTell."""
    chains: dict[tuple[str, str, str], Chain] = {}
    rules: dict[tuple[str, str, str], list[Rule]] = {}
    table, count, complete = "", 0, True
    for line in saved.decode("utf-8", "replace").split("\n"):
        if line.startswith("*"):
            table, complete = line[1:].strip(), False
        elif line.rstrip() == "COMMIT":
            complete = True
        elif line.startswith(":"):
            name, policy, *_ = (*line[1:].split(), "-", "-")
            key = (family, table, name)
            hook = _hook(_HOOKS.get(name, ""), table == "nat")
            blocks = policy.upper() in ("DROP", "REJECT")
            chains[key] = Chain(*key, hook=hook, policy="drop" if blocks else "accept")
        elif line.startswith("-A "):
            count += 1
            if count > _MOST_RULES:
                raise CannotTell(f"there are more than {_MOST_RULES} rules")
            words = _words(line)
            rules.setdefault((family, table, words[1]), []).append(_iptables_rule(table, words, line))
    if not complete:
        raise CannotTell(f"{family} has more rules than are read")
    for key, found in rules.items():
        before = chains.get(key, Chain(*key, hook=_hook(_HOOKS.get(key[2], ""), key[1] == "nat")))
        chains[key] = Chain(*key, hook=before.hook, policy=before.policy, rules=tuple(found))
    return Ruleset(chains)


def _words(line: str) -> list[str]:
    """At least the option and the chain; a text whose quotes are not closed is cut at blanks."""
    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    return words if len(words) > 1 else [*line.split(), "", ""][:2]


def _iptables_rule(table: str, words: Sequence[str], line: str) -> Rule:
    tests: list[Callable[[Packet], Match]] = []
    verdict, target = "continue", ""
    place, negated = 2, False
    jump = "jump"
    options: dict[str, str] = {}
    while place < len(words):
        word = words[place]
        place += 1
        if word == "!":
            negated = True
            continue
        if word in ("-j", "-g", "--jump", "--goto"):
            target = words[place] if place < len(words) else ""
            jump = "jump" if word in ("-j", "--jump") else "goto"
            break
        values: list[str] = []
        while place < len(words) and words[place] != "!" and not words[place].startswith("-"):
            values.append(words[place])
            place += 1
        options[word] = "!" if negated else " ".join(values)
        tests.append(_iptables_test(word, values, negated))
        negated = False
    if target in _VERDICTS or target in _GO_ON:
        verdict, target = _VERDICTS.get(target, "continue"), ""
    elif target:
        verdict = jump  # where it is no chain but an extension that is not known here, the replay finds no such chain
    agents = (
        table == "security"
        and verdict == "block"
        and set(options) - {"-m"} <= {"-d", "-p", "--ctstate", "--state", "--dport", "--uid-owner"}
        and options.get("-d", "0.0.0.0/0").endswith("/32")
    )
    return Rule(line[:_LONGEST_RULE], lambda packet: _all(test(packet) for test in tests), verdict, target, agents)


def _iptables_test(option: str, values: Sequence[str], negated: bool) -> Callable[[Packet], Match]:
    def test(packet: Packet) -> Match:
        met = _iptables_met(option, values, packet)
        return _not(met) if negated else met

    return test


def _iptables_met(option: str, values: Sequence[str], packet: Packet) -> Match:
    value = values[0] if values else ""
    if option in ("-m", "--match"):
        return True if value in _PLAIN_MODULES else None
    if option == "--comment":
        return True
    if option in ("-d", "-s"):
        return _within(packet.destination if option == "-d" else packet.source, value)
    if option in ("--dst-range", "--src-range"):
        first, _, last = value.partition("-")
        return _between(packet.destination if option == "--dst-range" else packet.source, first, last)
    if option == "-p":
        return {"tcp": True, "6": True, "all": True, "0": True}.get(value, False)
    if option in ("-o", "-i"):
        if (option == "-o") != (packet.way == "request"):
            return None
        return _device(packet.device, value, "+")
    if option in ("--dport", "--dports", "--sport", "--sports"):
        port = packet.destination_port if option.startswith("--d") else packet.source_port
        return _port(port, [tuple(part.partition(":")[::2]) for part in value.split(",")])
    if option == "--ports":
        ranges = [tuple(part.partition(":")[::2]) for part in value.split(",")]
        either = (_port(packet.destination_port, ranges), _port(packet.source_port, ranges))
        return True if True in either else None if None in either else False
    if option in ("--uid-owner", "--gid-owner"):
        if packet.way != "request":
            return None
        first, _, last = value.partition("-")
        return _number_within(0, first, last or first) if first.isdigit() else value == "root"
    if option == "--socket-exists":
        return packet.way == "request" or None
    if option in ("--ctstate", "--state"):
        return packet.state in value.lower().split(",")
    if option == "--syn":
        return packet.way == "request"
    if option == "--tcp-flags" and len(values) > 1:
        mask, wanted = ({"FIN", "SYN", "RST", "ACK"} if t == "ALL" else set(t.split(",")) for t in values[:2])
        return mask & _FLAGS[packet.way] == wanted - {"NONE"}
    if option == "--dst-type" and packet.way == "request":
        return {"UNICAST": True, "LOCAL": False, "BROADCAST": False, "MULTICAST": False}.get(value)
    if option == "-f":
        return False
    return None


# ---------------------------------------------------------------------------------------------------- addresses


def _within(address: str, network: str) -> Match:
    try:
        return ipaddress.IPv4Address(address) in ipaddress.IPv4Network(network, strict=False)
    except ValueError:
        return None


def _between(address: str, first: str, last: str) -> Match:
    try:
        low, high = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
        return low <= ipaddress.IPv4Address(address) <= high
    except ValueError:
        return None


def _device(device: str, wanted: str, wildcard: str) -> Match:
    if not device:
        return None
    return device.startswith(wanted[:-1]) if wanted.endswith(wildcard) else device == wanted


def _number_within(number: int, first: str, last: str) -> Match:
    if not (first.isascii() and last.isascii() and first.isdigit() and last.isdigit() and len(first + last) < 30):
        return None
    return int(first) <= number <= int(last)


def _port(port: int, ranges: Iterable[Sequence[str]]) -> Match:
    """One of several ranges, each with its first and its last, empty where it is open or the same."""
    found = [_port_within(port, first or "0", last or first or "65535") for first, last in ranges]
    return True if True in found else None if None in found else False


def _port_within(port: int, first: str, last: str) -> Match:
    if port:
        return _number_within(port, first, last)
    ends = [_number_within(end, first, last) for end in _CLIENT_PORTS]
    if ends == [False, False] and first.isdigit() and int(first) < _CLIENT_PORTS[0]:
        return False
    return True if ends == [True, True] else None


# ---------------------------------------------------------------------------------------------------------- nft

_AGENTS_TABLE = "walinuxagent"
_IPTABLES_TABLES = ("raw", "mangle", "nat", "filter", "security")
_OTHER_PROTOCOLS = ("ip6", "udp", "udplite", "icmp", "icmpv6", "igmp", "arp", "sctp", "dccp", "esp", "ah")
# They do something and go on.
_STATEMENTS = frozenset(("counter", "log", "mangle", "notrack", "flow", "ct helper", "set", "map", "last"))


def parse_nft(listed: bytes, without_iptables: bool) -> Ruleset:
    """What `nft -j list ruleset` prints; `without_iptables` leaves out the tables that iptables keeps there. Raises
    CannotTell."""
    try:
        entries = json.loads(listed)["nftables"]
        if not isinstance(entries, list) or len(entries) > 4 * _MOST_RULES:
            raise CannotTell("nft does not list its rules as it should")
        sets = {
            (s.get("family"), s.get("table"), s.get("name")): s.get("elem", [])
            for s in (entry.get("set", entry.get("map")) for entry in entries)
            if isinstance(s, dict)
        }
        chains: dict[tuple[str, str, str], Chain] = {}
        rules: dict[tuple[str, str, str], list[Rule]] = {}
        for entry in entries:
            kind: str = next(iter(entry), "")
            row: Any = entry.get(kind)
            if kind not in ("chain", "rule") or row["family"] not in ("ip", "inet"):
                continue
            family, table = str(row["family"]), str(row["table"])
            if without_iptables and family == "ip" and table in _IPTABLES_TABLES:
                continue
            if kind == "chain":
                key = (family, table, str(row["name"]))
                policy = "drop" if row.get("policy") == "drop" else "accept"
                hook = _hook(str(row.get("hook", "")), row.get("type") == "nat")
                chains[key] = Chain(*key, hook=hook, policy=policy)
            else:
                key = (family, table, str(row["chain"]))
                rules.setdefault(key, []).extend(_nft_rules(row["expr"], family, table, sets))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CannotTell("nft does not list its rules as it should") from None
    for key, found in rules.items():
        before = chains.get(key, Chain(*key))
        chains[key] = Chain(*key, hook=before.hook, policy=before.policy, rules=tuple(found))
    return Ruleset(chains)


_Sets = Mapping[tuple[Any, Any, Any], Any]


def _nft_rules(expressions: Sequence[Any], family: str, table: str, sets: _Sets) -> list[Rule]:
    """A rule, or one for each verdict that it looks up in a map: its keys differ, so that at most one of them is met,
    and where none is the packet goes on."""
    last: Any = expressions[-1] if expressions else {}
    vmap: Any = last.get("vmap") if isinstance(last, dict) else None
    if not isinstance(vmap, dict):
        return [_nft_rule(expressions, family, table, sets)]
    data = vmap.get("data")
    if isinstance(data, str) and data.startswith("@"):
        data = {"set": sets.get((family, table, data[1:]))}
    pairs = data.get("set") if isinstance(data, dict) else None
    if not isinstance(pairs, list) or len(pairs) > _MOST_IN_A_MAP:
        return [_nft_rule(expressions, family, table, sets)]
    before = list(expressions[:-1])
    rules, otherwise = [], []
    for key, verdict in pairs:
        if key == "*":
            otherwise = [_nft_rule([*before, verdict], family, table, sets)]
        else:
            match = {"match": {"op": "==", "left": vmap["key"], "right": {"set": [key]}}}
            rules.append(_nft_rule([*before, match, verdict], family, table, sets))
    return [*rules, *otherwise]


def _nft_rule(expressions: Sequence[Any], family: str, table: str, sets: _Sets) -> Rule:
    tests: list[Callable[[Packet], Match]] = []
    verdict, target, closed = "continue", "", False
    for expression in expressions:
        kind: str = next(iter(expression), "")
        inner: Any = expression.get(kind)
        if kind == "match":
            tests.append(_nft_test(inner, family, table, sets))
        elif kind in ("accept", "return", "drop", "reject"):
            verdict = "block" if kind in ("drop", "reject") else kind
        elif kind in ("jump", "goto"):
            verdict, target = kind, str(inner["target"])
        elif kind in ("masquerade", "snat"):
            verdict = "accept"
        elif kind == "xt" and not isinstance(inner, dict):
            tests.append(lambda _: None)
            closed = True  # nft does not say whether it is a match or a target
        elif kind == "xt" and inner["type"] == "target":
            verdict = _VERDICTS.get(str(inner["name"]), "continue" if inner["name"] in _GO_ON else "doubt")
        elif kind in ("vmap", "queue", "dnat", "redirect", "tproxy", "synproxy"):
            verdict = "doubt"
        elif kind not in _STATEMENTS:
            tests.append(lambda _: None)  # limit, quota, an extension's match …
    if closed and verdict == "continue":
        verdict = "doubt"
    text = _nft_text(expressions)[:_LONGEST_RULE]
    agents = table == _AGENTS_TABLE and verdict == "block"
    return Rule(text, lambda packet: _all(test(packet) for test in tests), verdict, target, agents)


def _nft_text(expressions: Sequence[Any]) -> str:
    """A rule about as nft itself prints it."""

    def side(value: Any) -> str:
        if isinstance(value, dict) and len(value) == 1:
            kind, inner = next(iter(value.items()))
            if kind == "set":
                return f"{{ {', '.join(side(one) for one in inner)} }}" if isinstance(inner, list) else str(inner)
            if kind == "prefix" and isinstance(inner, dict):
                return f"{inner.get('addr')}/{inner.get('len')}"
            if kind == "range" and isinstance(inner, list):
                return "-".join(side(end) for end in inner)
            if isinstance(inner, dict):
                return f"{inner.get('protocol', kind)} {inner.get('field') or inner.get('key') or ''}".strip()
        if isinstance(value, list):
            return ",".join(side(one) for one in value)
        return str(value)

    words = []
    for expression in expressions:
        kind: str = next(iter(expression), "")
        inner: Any = expression.get(kind)
        if kind == "match":
            operator = "" if inner["op"] in ("==", "in") else f"{inner['op']} "
            words.append(f"{side(inner['left'])} {operator}{side(inner['right'])}")
        elif kind in ("jump", "goto"):
            words.append(f"{kind} {inner['target']}")
        elif kind == "xt":
            words.append(f"xt {inner['name']}" if isinstance(inner, dict) else "xt")
        elif kind != "counter":
            words.append(kind)
    return " ".join(words)


def _nft_test(match: Mapping[str, Any], family: str, table: str, sets: _Sets) -> Callable[[Packet], Match]:
    operator, left, right = match["op"], match["left"], match["right"]
    payload = left.get("payload") if isinstance(left, dict) else None
    if isinstance(payload, dict) and payload.get("protocol") in _OTHER_PROTOCOLS:
        return lambda _: False  # also where it is to differ: the packet has no such header
    if isinstance(right, str) and right.startswith("@"):
        right = {"set": sets.get((family, table, right[1:]), [None])}

    def test(packet: Packet) -> Match:
        try:
            found = [_nft_met(left, value, operator, packet) for value in _alternatives(right)]
        except (TypeError, ValueError, KeyError, AttributeError):
            return None  # a form that is not known here
        met = True if True in found else None if None in found else False
        return _not(met) if operator == "!=" else met

    return test


def _alternatives(right: Any) -> Iterator[Any]:
    """The values of which one is enough."""
    many = right["set"] if isinstance(right, dict) and "set" in right else right
    for value in many if isinstance(many, list) else [many]:
        inner = value["elem"] if isinstance(value, dict) and "elem" in value else value
        yield inner["val"] if isinstance(inner, dict) and "val" in inner else inner


def _nft_met(left: Any, value: Any, operator: Any, packet: Packet) -> Match:
    if not isinstance(left, dict) or operator not in ("==", "!=", "in"):
        return _nft_compared(left, value, operator, packet)
    kind, what = next(iter(left.items()), ("", None))
    if not isinstance(what, dict):
        return None
    name = str(what.get("key") or what.get("field") or "")
    if kind == "payload":
        protocol = what.get("protocol")
        if protocol == "ip" and name in ("daddr", "saddr"):
            return _nft_address(packet.destination if name == "daddr" else packet.source, value)
        if protocol in ("tcp", "th") and name in ("dport", "sport"):
            return _nft_port(packet.destination_port if name == "dport" else packet.source_port, value)
        if protocol == "ip" and name == "protocol":
            return value in ("tcp", 6)
        return None
    if kind == "ct" and name == "state":
        return value == packet.state if isinstance(value, str) else None
    if kind != "meta":
        return None
    if name in ("skuid", "skgid") and packet.way == "request":
        if isinstance(value, dict) and "range" in value:
            return _number_within(0, *(str(end) for end in value["range"][:2]))
        return value in (0, "root") if isinstance(value, (int, str)) else None
    if name in ("oifname", "oif", "iifname", "iif") and isinstance(value, str):
        return _device(packet.device, value, "*") if name.startswith("o") == (packet.way == "request") else None
    if name == "l4proto":
        return value in ("tcp", 6)
    if name in ("nfproto", "protocol"):
        return value in ("ipv4", "ip", 2, 2048)
    return None


def _nft_compared(left: Any, value: Any, operator: Any, packet: Packet) -> Match:
    """`<` and its like: only between root's uid, or a port, and a number."""
    what = left.get("meta") or left.get("payload") if isinstance(left, dict) else None
    name = (what.get("key") or what.get("field")) if isinstance(what, dict) else None
    ours = {"skuid": 0, "skgid": 0, "dport": packet.destination_port, "sport": packet.source_port}.get(str(name))
    if type(value) is not int or ours is None or packet.way != "request" or name == "sport":
        return None
    compared = {"<": ours < value, ">": ours > value, "<=": ours <= value, ">=": ours >= value}
    return compared.get(str(operator))


def _nft_address(address: str, value: Any) -> Match:
    if isinstance(value, str):
        return _within(address, value)
    if isinstance(value, dict) and "prefix" in value:
        return _within(address, f"{value['prefix'].get('addr')}/{value['prefix'].get('len')}")
    if isinstance(value, dict) and "range" in value:
        return _between(address, *(str(end) for end in (*value["range"], "", "")[:2]))
    return None


def _nft_port(port: int, value: Any) -> Match:
    if type(value) is int:
        return _port_within(port, str(value), str(value))
    if isinstance(value, dict) and "range" in value:
        first, last = (str(end) for end in (*value["range"], "", "")[:2])
        return _port_within(port, first, last)
    return None
