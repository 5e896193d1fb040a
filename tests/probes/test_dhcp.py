"""Leases, routes and network configurations: what the parsers say of whatever bytes stand in the files."""

from __future__ import annotations

from dataclasses import replace
from typing import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupready.model import CannotTell, ProbeState
from backupready.observe import observe
from backupready.probes import dhcp
from fake import configuration, healthy

PARSERS: dict[str, Callable[[bytes], object]] = {
    "dhclient": dhcp.parse_dhclient,
    "networkd lease": dhcp.parse_networkd_lease,
    "wicked": lambda data: dhcp.parse_wicked(data, "eth0"),
    "keys": lambda data: list(dhcp.keys_of(data)),
    "networkd": dhcp.networkd_method,
    "ifcfg": dhcp.ifcfg_method,
    "interfaces": dhcp.interfaces_methods,
    "routes": dhcp.device_of,
}
_PIECES = st.sampled_from(
    [
        b"lease {", b"}", b"\n", b"\n", b" ", b"\t", b"=", b"[Network]", b"DHCP=yes", b"Address=1.2.3.4/24", b"#", b'"',
        b"expire 4 2015/06/16 16:58:54;", b"expire 4 9999/99/99 99:99:99;", b"expire epoch 999999999999;",
        b"option unknown-245 a8:3f:81:10;", b"interface eth0;", b"OPTION_245=a83f8110", b"<acquired>1</acquired>",
        b"<lease-time>999999999999</lease-time>", b"BOOTPROTO=none", b"IPADDR=1.2.3.4", b"iface eth0 inet static",
        b"eth0 00000000 00000000 0003 0 0 0 00000000", b"eth0 -1 0 3 0 0 0 -5", b"../x 0 0 3 0 0 0 0", b"\xff", b"\x00",
        "٣".encode(),
    ]
)  # fmt: skip
ANY_BYTES = st.one_of(st.binary(max_size=300), st.lists(_PIECES, max_size=16).map(b"".join))


@pytest.mark.parametrize("name", PARSERS)
@given(data=ANY_BYTES)
def test_a_parser_takes_any_bytes(name: str, data: bytes) -> None:
    """Nothing but a value comes out."""
    PARSERS[name](data)


_PATHS = (
    "/proc/net/route",
    "/var/lib/dhcp/dhclient.eth0.leases",
    "/var/lib/NetworkManager/dhclient-x-eth0.lease",
    "/run/systemd/netif/leases/2",
    "/run/systemd/netif/links/2",
    "/run/NetworkManager/devices/2",
    "/etc/NetworkManager/system-connections/x",
    "/etc/sysconfig/network/ifcfg-eth0",
    "/etc/sysconfig/network-scripts/ifcfg-eth0",
    "/etc/network/interfaces",
    "/var/lib/wicked/lease-eth0-dhcp-ipv4.xml",
    "/sys/class/net/eth0/ifindex",
    "/var/log/waagent.log",
)


@given(st.dictionaries(st.sampled_from(_PATHS), ANY_BYTES | st.just(CannotTell("it cannot be read")), max_size=6))
def test_any_files_leave_the_look_whole(files: dict[str, bytes | CannotTell]) -> None:
    """Whatever the files hold, the look ends with what it saw or with what it cannot tell."""
    machine = healthy()
    machine.files.update(files)
    machine.http.update({url: replace(answer, status=500) for url, answer in machine.http.items()})  # type: ignore[type-var]
    looked = observe(dhcp.PROBE, machine, configuration())
    assert looked.state is not ProbeState.FAILED, looked.traceback


def test_the_longest_prefix_and_the_lowest_metric_lead() -> None:
    """As the kernel chooses; a route that is down or rejects leads nowhere."""

    def rows(*routes: str) -> bytes:
        return "\n".join(["Iface Destination Gateway Flags RefCnt Use Metric Mask", *routes]).encode()

    default, worse = "eth0 00000000 0 0003 0 0 100 00000000", "eth1 00000000 0 0003 0 0 200 00000000"
    host, net = "eth2 10813FA8 0 0007 0 0 900 FFFFFFFF", "eth3 00003FA8 0 0003 0 0 0 0000FFFF"
    assert dhcp.device_of(rows(worse, default)) == "eth0"
    assert dhcp.device_of(rows(worse, default, net)) == "eth3"
    assert dhcp.device_of(rows(host, net, default)) == "eth2"
    assert dhcp.device_of(rows("eth2 10813FA8 0 0205 0 0 0 FFFFFFFF", default)) == "eth0"
    assert dhcp.device_of(rows("eth1 0000000A 0 0001 0 0 0 000000FF")) == ""


def test_leases_keep_their_order_and_their_times() -> None:
    """UTC, seconds since the epoch, or for ever; what is not closed is being written."""
    text = (
        'lease {\n interface "eth0";\n option unknown-245 a8:3f:81:10;\n expire 2 2015/06/16 16:58:54;\n}\n'
        'lease {\n interface "eth0";\n option unknown-245 "x";\n expire never;\n}\nlease {\n expire epoch 5;\n'
    )
    assert dhcp.parse_dhclient(text.encode()) == [
        dhcp.Lease("eth0", 1434473934.0, endpoint=True),
        dhcp.Lease("eth0", None, endpoint=False),
    ]


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("[Network]\nDHCP=yes\n", "dhcp"),
        ("[Network]\nDHCP=ipv6\nAddress=10.0.0.4/24\n", "static"),
        ("[Network]\nDHCP=no\n[Address]\nAddress=10.0.0.4/24\n", "static"),
        ("[Network]\nAddress=fd00::1/64\nAddress=169.254.1.1/16\n", ""),
        ("[Network]\nDHCP=ipv4\n[Network]\nDHCP=no\n", ""),
        ("[Route]\nAddress=10.0.0.4\n", ""),
    ],
)
def test_what_a_network_file_asks_for(text: str, method: str) -> None:
    """systemd.network(5), for IPv4: a later line wins."""
    assert dhcp.networkd_method(text.encode()) == method
