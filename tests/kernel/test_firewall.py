"""Who may talk to whom, tried with real packets (NET-070 .. NET-079).

Two network resources of one network, as two nodes would have them, over loopback as the underlay.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import msgspec
import pytest

from overlay.addressing import host_address, link_local, packed, subnet_v4, subnet_v6
from overlay.model import Address, AllowRule
from overlay.netns.namespaces import open_socket
from tests.convergence import RANGE_V4, RANGE_V6
from tests.real_machine import RealMachine, pings
from tests.two_nodes import Node, Pair, two_nodes

SOON_S = 30.0  # for what must arrive: ends a hang
NEVER_S = 0.4  # for what must not
PORT = 7777
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])
EVERYBODY = (RANGE_V4, RANGE_V6)
DEVICE = (subnet_v4(RANGE_V4, 9), subnet_v6(RANGE_V6, 9))


@pytest.fixture
async def pair(machine: RealMachine) -> AsyncIterator[Pair]:
    async with two_nodes(machine) as pair:
        yield pair


@contextmanager
def listening(netns: str, family: int, *, kind: int, protocol: int = 0) -> Iterator[socket.socket]:
    with open_socket(netns, family, kind, protocol) as listener:
        listener.setblocking(False)
        listener.bind(("", PORT if protocol == 0 else 0))
        yield listener


async def arrives(pair: Pair, family: int, payload: bytes = b"hello") -> bool:
    """A UDP datagram from a's workload to b's."""
    with (
        listening(pair.b.workload.netns, family, kind=socket.SOCK_DGRAM) as listener,
        open_socket(pair.a.workload.netns, family, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(payload, (pair.b.address(family), PORT))
        return await received(listener, len(payload))


async def received(listener: socket.socket, size: int, *, patience_s: float = SOON_S) -> bool:
    try:
        async with asyncio.timeout(patience_s):
            await asyncio.get_running_loop().sock_recv(listener, size)
    except TimeoutError:
        return False
    return True


async def never_arrives(pair: Pair, family: int) -> bool:
    with (
        listening(pair.b.workload.netns, family, kind=socket.SOCK_DGRAM) as listener,
        open_socket(pair.a.workload.netns, family, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(b"hello", (pair.b.address(family), PORT))
        return not await received(listener, 5, patience_s=NEVER_S)


@FAMILIES
async def test_without_policy_everything_inside_the_network_passes(
    pair: Pair, family: int
) -> None:  # NET-070
    assert await arrives(pair, family)
    assert await arrives(pair, family, payload=b"x" * 5000)  # in fragments
    assert pair.a.refused() == pair.b.refused() == {}


@FAMILIES
async def test_policy_lets_through_what_it_names_and_counts_the_rest(
    pair: Pair, family: int
) -> None:  # NET-071
    await pair.b.converge(policy=(AllowRule(EVERYBODY, EVERYBODY, "udp", ((7000, PORT),)),))
    assert await arrives(pair, family)
    await pair.b.converge(policy=(AllowRule(EVERYBODY, EVERYBODY, "udp", ((1, PORT - 1),)),))
    # A flow that was let through stays; another one is judged anew.
    assert await never_arrives(pair, family)
    assert pair.b.refused() == {"refused_policy": 1}


@FAMILIES
async def test_policy_judges_fragments_as_the_packet_they_are(
    pair: Pair, family: int
) -> None:  # NET-072
    await pair.b.converge(policy=(AllowRule(EVERYBODY, EVERYBODY, "udp", ((PORT, PORT),)),))
    assert await arrives(pair, family, payload=b"x" * 5000)


UDP_HEADER = struct.pack("!HHHH", PORT, PORT, 16, 0)
SCTP_INIT = struct.pack("!HHLL", PORT, PORT, 0, 0) + struct.pack(
    "!BBHLLHHL", 1, 0, 20, 1, 1, 1, 1, 1
)
GRE_HEADER = struct.pack("!HH", 0, 0x0800)
OTHER_PROTOCOLS = {"sctp": (132, SCTP_INIT), "gre": (47, GRE_HEADER), "4in6": (4, UDP_HEADER)}


@pytest.mark.parametrize("name", sorted(OTHER_PROTOCOLS))
@FAMILIES
async def test_policy_for_ports_lets_no_other_protocol_through(
    pair: Pair, family: int, name: str
) -> None:  # NET-072
    protocol, packet = OTHER_PROTOCOLS[name]
    for node in (pair.a, pair.b):  # conntrack would refuse SCTP for its checksum alone
        pair.a.machine.shell.kernel.write_sysctl(
            node.tenant, "net/netfilter/nf_conntrack_checksum", "0"
        )
    every_port = tuple(AllowRule(EVERYBODY, EVERYBODY, p, ((1, 65535),)) for p in ("tcp", "udp"))
    for policy, passes in ((every_port, False), (None, True)):
        await pair.b.converge(policy=policy)
        netns = pair.b.workload.netns
        with (
            listening(netns, family, kind=socket.SOCK_RAW, protocol=protocol) as listener,
            open_socket(pair.a.workload.netns, family, socket.SOCK_RAW, protocol) as sender,
        ):
            sender.sendto(packet, (pair.b.address(family), 0))
            patience_s = SOON_S if passes else NEVER_S
            assert await received(listener, 100, patience_s=patience_s) == passes


async def test_policy_looks_behind_extension_headers(pair: Pair) -> None:  # NET-072
    """UDP to an allowed and to a refused port, behind a destination options header."""
    await pair.b.converge(policy=(AllowRule(EVERYBODY, EVERYBODY, "udp", ((PORT, PORT),)),))
    options = b"\x00\x00\x01\x04\x00\x00\x00\x00"  # padding only
    netns = pair.b.workload.netns
    for port, passes in ((PORT, True), (PORT + 1, False)):
        with (
            open_socket(netns, socket.AF_INET6, socket.SOCK_DGRAM) as listener,
            open_socket(pair.a.workload.netns, socket.AF_INET6, socket.SOCK_DGRAM) as sender,
        ):
            listener.setblocking(False)
            listener.bind(("::", port))
            sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_DSTOPTS, options)
            sender.sendto(b"hello", (pair.b.address(socket.AF_INET6), port))
            patience_s = SOON_S if passes else NEVER_S
            assert await received(listener, 5, patience_s=patience_s) == passes


@FAMILIES
async def test_the_node_itself_answers_ping_and_nothing_else(
    pair: Pair, family: int
) -> None:  # NET-073
    gateway = pair.b.workload.gateway_v4 if family == socket.AF_INET else pair.b.workload.gateway_v6
    assert await pings(pair.a.workload.netns, gateway)
    with (
        listening(pair.b.tenant, family, kind=socket.SOCK_DGRAM) as listener,
        open_socket(pair.a.workload.netns, family, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(b"hello", (gateway, PORT))
        assert not await received(listener, 5, patience_s=NEVER_S)
    assert pair.b.refused() == {"refused_input": 1}


@FAMILIES
async def test_a_poke_is_dropped_without_a_word(pair: Pair, family: int) -> None:  # NET-073
    gateway = pair.b.workload.gateway_v4 if family == socket.AF_INET else pair.b.workload.gateway_v6
    with open_socket(pair.a.tenant, family, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"", (gateway, 9))
    assert await pings(pair.a.workload.netns, gateway)
    assert pair.b.refused() == {}


@FAMILIES
async def test_nothing_goes_in_and_out_by_wireguard_but_for_an_access_device(
    pair: Pair, family: int
) -> None:  # NET-074
    """a pretends that index 9 is its own; b would have to send the packet back to WireGuard."""
    (peer,) = pair.b.peers.values()
    pair.b.peers = {
        peer.public_key: msgspec.structs.replace(
            peer, allowed_ips=tuple(sorted((*peer.allowed_ips, *DEVICE)))
        )
    }
    (peer,) = pair.a.peers.values()
    pair.a.peers = {
        peer.public_key: msgspec.structs.replace(
            peer, allowed_ips=tuple(sorted((*peer.allowed_ips, *DEVICE)))
        )
    }
    await pair.a.converge()
    target = host_address(DEVICE[0 if family == socket.AF_INET else 1], 5).partition("/")[0]
    for devices, refused in (((), {"refused_forward": 1}), (DEVICE, {})):
        pair.b.devices = devices
        await pair.b.converge()
        with open_socket(pair.a.workload.netns, family, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"hello", (target, PORT))
        assert await pings(pair.a.workload.netns, pair.b.workload.gateway_v4)
        assert pair.b.refused() == refused


# Anti-spoofing: raw frames from inside the workload.

ETH_IPV4, ETH_ARP, ETH_IPV6, ETH_VLAN, ETH_OTHER = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88B5
BROADCAST = b"\xff" * 6


def frame(mac: str, ethertype: int, payload: bytes, *, to: bytes = BROADCAST) -> bytes:
    return to + bytes.fromhex(mac.replace(":", "")) + struct.pack("!H", ethertype) + payload


def ipv4(source: str, *, protocol: int = 17, payload: bytes = b"\x00" * 8) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    return head + packed(Address(source)) + packed(Address("10.7.3.9")) + payload


def ipv6(source: str, *, next_header: int = 17, payload: bytes = b"\x00" * 8) -> bytes:
    head = struct.pack("!LHBB", 6 << 28, len(payload), next_header, 255)
    return head + packed(Address(source)) + packed(Address("ff02::1")) + payload


def arp(mac: str, address: str) -> bytes:
    head = struct.pack("!HHBBH", 1, ETH_IPV4, 6, 4, 2)
    sender = bytes.fromhex(mac.replace(":", "")) + packed(Address(address))
    return head + sender + BROADCAST + packed(Address("10.7.3.1"))


def nd(kind: int, target: str) -> bytes:
    return struct.pack("!BBHL", kind, 0, 0, 0) + packed(Address(target))


MINE_V4, MINE_V6 = "10.7.3.2", "fd07:1:2:3::2"
OTHER_MAC, OTHER_V4, OTHER_V6 = "02:00:00:00:00:99", "10.7.3.3", "fd07:1:2:3::3"
ICMPV6, FRAGMENT, DSTOPTS = 58, 44, 60
RA_HIDDEN = struct.pack("!BBHL", ICMPV6, 0, 0, 1) + nd(134, MINE_V6)
RA_BEHIND_OPTIONS = b"\x3a\x00\x01\x04\x00\x00\x00\x00" + nd(134, MINE_V6)
# The first fragment ends before the type of what it carries (RFC 7113 section 3).
RA_SPLIT = struct.pack("!BBHL", DSTOPTS, 0, 1, 1) + b"\x3a\x00\x01\x04\x00\x00\x00\x00"

SPOOFED = {
    "IPv4 of another": (None, ETH_IPV4, ipv4(OTHER_V4), "refused_port"),
    "IPv4 with a MAC of another": (OTHER_MAC, ETH_IPV4, ipv4(MINE_V4), "refused_port"),
    "IPv6 of another": (None, ETH_IPV6, ipv6(OTHER_V6), "refused_port"),
    "IPv6 with a MAC of another": (OTHER_MAC, ETH_IPV6, ipv6(MINE_V6), "refused_port"),
    "no source but not for DAD": (None, ETH_IPV6, ipv6("::"), "refused_port"),
    "ARP for another": (None, ETH_ARP, "arp other", "refused_neighbour"),
    "ARP with a MAC of another inside": (
        None,
        ETH_ARP,
        arp(OTHER_MAC, MINE_V4),
        "refused_neighbour",
    ),
    "advertisement for another": (
        None,
        ETH_IPV6,
        ipv6(MINE_V6, next_header=ICMPV6, payload=nd(136, OTHER_V6)),
        "refused_neighbour",
    ),
    "DAD for another": (
        None,
        ETH_IPV6,
        ipv6("::", next_header=ICMPV6, payload=nd(135, OTHER_V6)),
        "refused_neighbour",
    ),
    "router advertisement": (
        None,
        ETH_IPV6,
        ipv6(MINE_V6, next_header=ICMPV6, payload=nd(134, MINE_V6)),
        "refused_server",
    ),
    "router advertisement in a fragment": (
        None,
        ETH_IPV6,
        ipv6(MINE_V6, next_header=FRAGMENT, payload=RA_HIDDEN),
        "refused_server",
    ),
    "router advertisement behind options": (
        None,
        ETH_IPV6,
        ipv6(MINE_V6, next_header=DSTOPTS, payload=RA_BEHIND_OPTIONS),
        "refused_server",
    ),
    "router advertisement split off its header": (
        None,
        ETH_IPV6,
        ipv6(MINE_V6, next_header=FRAGMENT, payload=RA_SPLIT),
        "refused_server",
    ),
    "redirect": (
        None,
        ETH_IPV6,
        ipv6(MINE_V6, next_header=ICMPV6, payload=nd(137, MINE_V6)),
        "refused_server",
    ),
    "DHCP answer": (
        None,
        ETH_IPV4,
        ipv4(MINE_V4, payload=struct.pack("!HHHH", 67, 68, 8, 0)),
        "refused_server",
    ),
    "DHCPv6 answer": (
        None,
        ETH_IPV6,
        ipv6(MINE_V6, payload=struct.pack("!HHHH", 547, 546, 8, 0)),
        "refused_server",
    ),
    "VLAN": (None, ETH_VLAN, struct.pack("!HH", 5, ETH_IPV4) + ipv4(MINE_V4), "refused_frame"),
    "unknown ethertype": (None, ETH_OTHER, b"\x00" * 46, "refused_frame"),
    "link-local group": (None, 0x888E, b"\x00" * 46, "refused_frame"),
}


def send_frame(node: Node, raw: bytes) -> None:
    with open_socket(node.workload.netns, socket.AF_PACKET, socket.SOCK_RAW) as sender:
        sender.bind((node.workload.link, 0))
        sender.send(raw)


@pytest.mark.any_backend
@pytest.mark.parametrize("what", sorted(SPOOFED))
async def test_a_workload_cannot_send(pair: Pair, what: str) -> None:  # NET-075, NET-076
    mac, ethertype, payload, counter = SPOOFED[what]
    own = pair.a.workload.mac
    body = arp(own, OTHER_V4) if payload == "arp other" else payload
    assert isinstance(body, bytes)
    to = bytes.fromhex("0180c2000003") if what == "link-local group" else BROADCAST
    send_frame(pair.a, frame(mac or own, ethertype, body, to=to))
    assert pair.a.refused() == {counter: 1}


async def test_a_workload_can_send_what_is_its_own(pair: Pair) -> None:  # NET-075
    own = pair.a.workload.mac
    dad = ipv6("::", next_header=ICMPV6, payload=nd(135, MINE_V6))
    advertised = ipv6(MINE_V6, next_header=ICMPV6, payload=nd(136, MINE_V6))
    auto = ipv6(link_local(own), next_header=ICMPV6, payload=nd(136, link_local(own)))
    for ethertype, payload in (
        (ETH_IPV4, ipv4(MINE_V4)),
        (ETH_ARP, arp(own, MINE_V4)),
        (ETH_IPV6, ipv6(MINE_V6)),
        (ETH_IPV6, dad),
        (ETH_IPV6, advertised),
        (ETH_IPV6, auto),
    ):
        send_frame(pair.a, frame(own, ethertype, payload))
    refused = pair.a.refused()
    assert not {"refused_port", "refused_neighbour", "refused_server", "refused_frame"} & set(
        refused
    )


@FAMILIES
async def test_segments_are_clamped_to_what_the_path_carries(
    pair: Pair, family: int
) -> None:  # NET-077
    headers = 40 if family == socket.AF_INET else 60
    with (
        listening(pair.b.workload.netns, family, kind=socket.SOCK_STREAM) as listener,
        open_socket(pair.a.workload.netns, family, socket.SOCK_STREAM) as client,
    ):
        for end in (pair.a, pair.b):
            await end.machine.shell.kernel.set_link(end.workload.netns, "eth0", mtu_bytes=1500)
        listener.listen()
        client.setblocking(False)
        async with asyncio.timeout(SOON_S):
            address = (pair.b.address(family), PORT)
            await asyncio.get_running_loop().sock_connect(client, address)
        mss = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        assert mss <= pair.a.resource.mtu_bytes - headers


@FAMILIES
async def test_a_rule_taken_back_ends_what_it_had_allowed(pair: Pair, family: int) -> None:
    # NET-071
    with (
        listening(pair.b.workload.netns, family, kind=socket.SOCK_DGRAM) as answerer,
        listening(pair.a.workload.netns, family, kind=socket.SOCK_DGRAM) as asker,
    ):
        there, back = (pair.b.address(family), PORT), (pair.a.address(family), PORT)
        asker.sendto(b"hello", there)
        assert await received(answerer, 5)
        answerer.sendto(b"hello", back)
        assert await received(asker, 5)

        await pair.b.converge(policy=())

        asker.sendto(b"hello", there)
        assert not await received(answerer, 5, patience_s=NEVER_S)
        assert "refused_policy" in pair.b.refused()


@FAMILIES
async def test_answers_come_in_whatever_the_policy_says(pair: Pair, family: int) -> None:
    await pair.b.converge(policy=())
    with (
        listening(pair.b.workload.netns, family, kind=socket.SOCK_DGRAM) as asker,
        listening(pair.a.workload.netns, family, kind=socket.SOCK_DGRAM) as answerer,
    ):
        asker.sendto(b"hello", (pair.a.address(family), PORT))
        assert await received(answerer, 5)
        answerer.sendto(b"hello", (pair.b.address(family), PORT))
        assert await received(asker, 5)
