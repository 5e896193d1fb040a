"""The replay of firewall rules: what lets a connection through, what keeps it back, what is not guessed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready import netfilter
from backupready.model import CannotTell

HOST = "168.63.129.16"
REQUEST, ANSWER = netfilter.connection(HOST, 80, "eth0", "10.0.0.4")


def saved(*rules: str, policy: str = "ACCEPT", table: str = "filter", chain: str = "OUTPUT", more: str = "") -> bytes:
    return f"*{table}\n:{chain} {policy} [0:0]\n{more}{''.join(f'{rule}{chr(10)}' for rule in rules)}COMMIT\n".encode()


def outcome(text: bytes, packet: netfilter.Packet = REQUEST) -> str:
    """passes, blocked or doubtful."""
    blocked, doubts = netfilter.replay(netfilter.parse_iptables(text, "iptables"), packet)
    return "blocked" if blocked else "doubtful" if doubts else "passes"


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ("", "blocked"),
        ("-d 168.63.129.16/32", "blocked"),
        ("-d 168.63.0.0/16 -p tcp -m tcp --dport 80", "blocked"),
        ("-d 10.0.0.0/8", "passes"),
        ("! -d 10.0.0.0/8", "blocked"),
        ("-s 10.0.0.0/24", "blocked"),
        ("-s 192.0.2.0/24", "passes"),
        ("-p udp", "passes"),
        ("! -p tcp", "passes"),
        ("-p tcp -m tcp --dport 1:79", "passes"),
        ("-p tcp -m tcp --dport :80", "blocked"),
        ("-p tcp -m tcp --dport 80:", "blocked"),
        ("-p tcp -m multiport --dports 22,79:81", "blocked"),
        ("-p tcp -m multiport ! --dports 80,32526", "passes"),
        ("-p tcp -m tcp --sport 22", "passes"),
        ("-p tcp -m tcp --sport 1024:65535", "blocked"),
        ("-p tcp -m tcp --sport 2000:3000", "doubtful"),
        ("-o eth0", "blocked"),
        ("-o eth+", "blocked"),
        ("-o lo", "passes"),
        ("-m owner --uid-owner 0", "blocked"),
        ("-m owner --uid-owner 1-65535", "passes"),
        ("-m owner ! --uid-owner 0", "passes"),
        ("-m conntrack --ctstate NEW", "blocked"),
        ("-m state --state RELATED,ESTABLISHED", "passes"),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", "blocked"),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW", "passes"),
        ("-m addrtype --dst-type LOCAL", "passes"),
        ("-m iprange --dst-range 168.63.129.1-168.63.129.20", "blocked"),
        ('-m comment --comment "let it be, -j ACCEPT"', "blocked"),
        ("-m set --match-set bad dst", "doubtful"),
        ("-m set --match-set bad dst -p udp", "passes"),
        ("-m limit --limit 3/min", "doubtful"),
        ("-m bpf --bytecode 1", "doubtful"),
    ],
)
def test_what_a_rule_meets(match: str, expected: str) -> None:
    """Each form of a match, in front of a DROP; what is not known makes it doubtful, unless another match says no."""
    assert outcome(saved(f"-A OUTPUT {match} -j DROP")) == expected


@pytest.mark.parametrize(
    ("rules", "policy", "expected"),
    [
        (["-A OUTPUT -j LOG --log-prefix x", "-A OUTPUT -j DROP"], "ACCEPT", "blocked"),
        (["-A OUTPUT -j ACCEPT", "-A OUTPUT -j DROP"], "DROP", "passes"),
        (["-A OUTPUT -j a", "-A a -j RETURN", "-A a -j DROP"], "ACCEPT", "passes"),
        (["-A OUTPUT -j a", "-A a -d 1.2.3.4/32 -j DROP"], "DROP", "blocked"),
        (["-A OUTPUT -g a", "-A OUTPUT -j ACCEPT", "-A a -p udp -j DROP"], "DROP", "blocked"),
        (["-A OUTPUT -j a", "-A a -g b", "-A a -j DROP", "-A b -p udp -j DROP"], "ACCEPT", "passes"),
        (["-A OUTPUT -j RETURN", "-A OUTPUT -j ACCEPT"], "DROP", "blocked"),
        (["-A OUTPUT -j a", "-A a -j a"], "ACCEPT", "doubtful"),
        (["-A OUTPUT -j NFQUEUE --queue-num 0"], "ACCEPT", "doubtful"),
        (["-A OUTPUT -j NOWHERE"], "ACCEPT", "doubtful"),
        (["-A OUTPUT -m set --match-set a dst -j ACCEPT", "-A OUTPUT -j ACCEPT"], "DROP", "passes"),
        (["-A OUTPUT -m set --match-set a dst -j DROP", "-A OUTPUT -j REJECT"], "ACCEPT", "blocked"),
        (["-A FORWARD -j DROP"], "ACCEPT", "passes"),
    ],
)
def test_the_first_decision_counts(rules: Sequence[str], policy: str, expected: str) -> None:
    """Jumps come back and goes do not, policies stand at the end, and a doubt that changes nothing is none."""
    assert outcome(saved(*rules, policy=policy)) == expected


def test_answers_are_replayed_where_they_come_in() -> None:
    """An INPUT that drops what it does not know keeps the answer out; translations see no answers."""
    established = "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    service = "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT"
    assert outcome(saved(service, policy="DROP", chain="INPUT"), ANSWER) == "blocked"
    assert outcome(saved(service, established, policy="DROP", chain="INPUT"), ANSWER) == "passes"
    assert outcome(saved(service, policy="DROP", chain="INPUT"), REQUEST) == "passes"
    nat = saved("-A PREROUTING -p tcp -j DNAT --to-destination 1.2.3.4", table="nat", chain="PREROUTING")
    assert outcome(nat, ANSWER) == "passes"


def test_only_the_agents_own_form_is_the_agents() -> None:
    """Its rule drops packets to one address in the security table."""

    def whose(rule: str, table: str = "security") -> list[bool]:
        blocked, _ = netfilter.replay(netfilter.parse_iptables(saved(rule, table=table), "iptables"), REQUEST)
        return [rule.agents for rule in blocked]

    own = "-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP"
    assert whose(own) == [True]
    assert whose(own, "filter") == [False]
    assert whose("-A OUTPUT -j DROP") == [False]
    assert whose("-A OUTPUT -d 168.0.0.0/8 -p tcp -j DROP") == [False]
    assert whose("-A OUTPUT -d 168.63.129.16/32 -o eth0 -j DROP") == [False]


def test_a_listing_that_is_cut_is_not_a_listing() -> None:
    """Rules that were not read may be the ones that matter."""
    with pytest.raises(CannotTell, match="more rules than are read"):
        netfilter.parse_iptables(b"*filter\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -j ACC", "iptables")
    assert netfilter.parse_iptables(b"", "iptables").chains == {}


def test_a_web_of_jumps_ends() -> None:
    """Every chain is followed once, however many lead there."""
    rules = [f"-A c{n} -d 1.2.3.4/32 -j c{n + 1}" for n in range(40) for _ in range(3)]
    rules = ["-A OUTPUT -j c0", *(rule.replace("-d 1.2.3.4/32 ", "") for rule in rules)]
    assert outcome(saved(*rules)) == "doubtful"


# ---------------------------------------------------------------------------------------------------------- nft


def listed(*expressions: Any, policy: str = "accept", table: str = "filter", family: str = "inet") -> bytes:
    place = {"family": family, "table": table}
    chain = {"chain": {**place, "name": "out", "type": "filter", "hook": "output", "prio": 0, "policy": policy}}
    rules = [{"rule": {**place, "chain": "out", "expr": expression}} for expression in expressions]
    return json.dumps({"nftables": [{"metainfo": {}}, chain, *rules]}).encode()


def nft_outcome(text: bytes) -> str:
    blocked, doubts = netfilter.replay(netfilter.parse_nft(text, without_iptables=False), REQUEST)
    return "blocked" if blocked else "doubtful" if doubts else "passes"


DADDR = {"payload": {"protocol": "ip", "field": "daddr"}}
DPORT = {"payload": {"protocol": "tcp", "field": "dport"}}
UID = {"meta": {"key": "skuid"}}


@pytest.mark.parametrize(
    ("left", "operator", "right", "expected"),
    [
        (DADDR, "==", HOST, "blocked"),
        (DADDR, "!=", HOST, "passes"),
        (DADDR, "==", {"prefix": {"addr": "168.63.0.0", "len": 16}}, "blocked"),
        (DADDR, "==", {"set": ["10.0.0.1", {"range": ["168.63.129.1", "168.63.129.99"]}]}, "blocked"),
        (DADDR, "!=", {"set": [{"elem": {"val": HOST, "timeout": 9}}]}, "passes"),
        (DADDR, "==", "@unknown", "doubtful"),
        (DPORT, "==", {"set": [80, 443]}, "blocked"),
        (DPORT, "==", {"range": [81, 99]}, "passes"),
        (DPORT, "<", 1024, "blocked"),
        (UID, "!=", 0, "passes"),
        (UID, "==", "root", "blocked"),
        (UID, ">", 0, "passes"),
        ({"ct": {"key": "state"}}, "in", ["established", "related"], "passes"),
        ({"ct": {"key": "state"}}, "in", "new", "blocked"),
        ({"meta": {"key": "oifname"}}, "==", "eth*", "blocked"),
        ({"meta": {"key": "oifname"}}, "==", "lo", "passes"),
        ({"meta": {"key": "l4proto"}}, "==", {"set": ["tcp", "udp"]}, "blocked"),
        ({"meta": {"key": "nfproto"}}, "==", "ipv6", "passes"),
        ({"payload": {"protocol": "ip6", "field": "daddr"}}, "==", "::1", "passes"),
        ({"payload": {"protocol": "udp", "field": "dport"}}, "!=", 53, "passes"),
        ({"meta": {"key": "mark"}}, "==", 1, "doubtful"),
        ({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, 2]}, "==", 2, "doubtful"),
        (DPORT, "==", {"range": 7}, "doubtful"),
    ],
)
def test_what_an_nft_rule_meets(left: Any, operator: str, right: Any, expected: str) -> None:
    """Each form of a match, in front of a drop."""
    match = {"match": {"op": operator, "left": left, "right": right}}
    assert nft_outcome(listed([match, {"counter": {"packets": 1, "bytes": 1}}, {"drop": None}])) == expected


def test_other_statements_of_nft() -> None:
    """A policy blocks, a verdict map with nothing in it passes, a foreign target is doubtful; a rate is
    before a verdict, and not else."""
    assert nft_outcome(listed(policy="drop")) == "blocked"
    assert nft_outcome(listed([{"vmap": {"key": UID, "data": {"set": []}}}])) == "passes"
    assert nft_outcome(listed([{"xt": {"type": "target", "name": "X"}}])) == "doubtful"
    assert nft_outcome(listed([{"xt": {"type": "target", "name": "REJECT"}}])) == "blocked"
    assert nft_outcome(listed([{"xt": {"type": "target", "name": "LOG"}}])) == "passes"
    assert nft_outcome(listed([{"xt": {"type": "match", "name": "conntrack"}}, {"drop": None}])) == "doubtful"
    assert nft_outcome(listed([{"limit": {"rate": 1}}, {"log": None}])) == "passes"
    assert nft_outcome(listed([{"limit": {"rate": 1}}, {"drop": None}])) == "doubtful"
    assert nft_outcome(listed([{"drop": None}], family="ip6")) == "passes"


def test_what_iptables_tells_is_not_read_twice() -> None:
    """Its tables in nftables are left out where it has told them itself, others are not."""
    assert netfilter.parse_nft(listed([{"drop": None}], family="ip"), without_iptables=True).chains == {}
    assert netfilter.parse_nft(listed([{"drop": None}], family="ip"), without_iptables=False).chains
    assert netfilter.parse_nft(listed([{"drop": None}], family="inet"), without_iptables=True).chains


# --------------------------------------------------------------------------------------------------- whatever bytes

_WORDS = st.sampled_from(
    [
        "*filter", ":OUTPUT DROP [0:0]", ":", ":x", "COMMIT", "-A", "-A OUTPUT", "-A x", "-d", "-j", "-g", "x",
        "OUTPUT", "DROP", "ACCEPT", "!", "--dport", "80", "1:2:3", "--tcp-flags", "ALL", "-m", "owner",
        "--uid-owner", "٣", "-",
        "--dst-range", "1.2.3.4-5", "'", '"', "\n", "\n", "-d 168.63.129.16/32", "-d 1.2.3.4/99", "--ctstate", "-o",
    ]
)  # fmt: skip


@given(data=st.one_of(st.binary(max_size=300), st.lists(_WORDS, max_size=40).map(lambda w: " ".join(w).encode())))
def test_any_text_of_iptables(data: bytes) -> None:
    """Whatever is printed, it is read and replayed, or cannot be told."""
    for packet in (REQUEST, ANSWER):
        try:
            netfilter.replay(netfilter.parse_iptables(data, "iptables"), packet)
        except CannotTell as error:
            assert error.why


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["@s", "tcp", HOST, "new"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["set", "range", "prefix", "elem", "val", "meta", "payload", "ct", "key", "field", "protocol"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)
_STATEMENT = st.one_of(
    st.fixed_dictionaries(
        {
            "match": st.fixed_dictionaries(
                {
                    "op": st.sampled_from(["==", "!=", "in", "<"]),
                    "left": st.sampled_from([DADDR, DPORT, UID]) | _ANY,
                    "right": _ANY,
                }
            )
        }
    ),
    st.sampled_from([{"drop": None}, {"jump": {"target": "out"}}, {"jump": 1}, {"return": None}, {}]),
    _ANY,
)


@given(expressions=st.lists(st.lists(_STATEMENT, max_size=3), max_size=4), junk=_ANY)
def test_any_document_of_nft(expressions: list[list[Any]], junk: Any) -> None:
    """Whatever value stands in whatever place."""
    for text in (listed(*expressions), json.dumps({"nftables": junk}).encode(), json.dumps(junk).encode()):
        try:
            rules = netfilter.parse_nft(text, without_iptables=True)
        except CannotTell as error:
            assert error.why
            continue
        for packet in (REQUEST, ANSWER):
            netfilter.replay(rules, packet)


@given(data=st.binary(max_size=200))
def test_any_bytes_of_nft(data: bytes) -> None:
    """What is no JSON cannot be told."""
    try:
        netfilter.parse_nft(data, without_iptables=False)
    except CannotTell as error:
        assert error.why
