"""Our decoding of rtnetlink's listings beside pyroute2's."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest
from pyroute2 import AsyncIPRoute

from overlay.netns import namespaces
from overlay.netns.codec import Snapshot, parse_address, parse_link, parse_route, parse_rule
from overlay.netns.kernel import Rtnetlink

pytestmark = pytest.mark.kernel

# A little of everything; a hundred links are more than one datagram.
SCRIPT = """
set -e
ip link set lo up
ip link add br0 type bridge
ip link add v0 mtu 1400 type veth peer name v1
ip link set v0 master br0
bridge link set dev v0 learning off
ip link add v2 type veth peer name v3
ip link set v2 master br0
for each in br0 v0 v1 v2 v3; do ip link set $each up; done
ip address add 10.0.0.1/24 dev br0
ip address add 10.7.0.1 peer 10.7.0.2/32 dev v1
ip address add fd00::1/64 dev br0 nodad
ip address add fd07::1 peer fd07::2 dev v1 nodad
ip route add 10.3.0.0/16 via 10.0.0.2 proto 77
ip route add default via 10.0.0.3 metric 2050
ip route add default dev v3
ip route add unreachable 10.9.0.0/16
ip route add 10.8.0.0/16 dev v3 table 1000
ip route add default dev v3 table 159 proto 159
ip rule add fwmark 7 lookup 159 priority 159 protocol 159
ip -6 rule add fwmark 0x70000/0xffff0000 lookup 1000 priority 9
ip rule add from 10.0.0.9 unreachable
ip route add 10.6.0.0/16 nexthop via 10.0.0.4 nexthop via 10.0.0.5
ip -6 route add fd77::/32 dev br0 proto 77
ip -6 route add default via fd00::2
ip -6 route add blackhole fd99::/64
for n in $(seq 100); do ip link add w$n type veth peer name x$n; done
"""


@pytest.mark.parametrize("script", ["true", SCRIPT], ids=["empty", "full"])
async def test_listings_are_decoded_as_pyroute2_does(script: str) -> None:
    fd = namespaces.anonymous()
    path = f"/proc/self/fd/{fd}"
    with namespaces.hop(path):
        subprocess.run(["sh", "-c", script], check=True)  # noqa: ASYNC221 - nothing else waits
        raw = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
    raw.setblocking(False)
    theirs = AsyncIPRoute(fileno=raw.detach())
    await theirs.setup_endpoint()
    async with Rtnetlink() as kernel:
        found = await kernel.read(path)
        rules = [parse_rule(each) async for each in await theirs.rule("dump")]
        routes = [parse_route(each) async for each in await theirs.route("dump")]
        expected = Snapshot(
            tuple([parse_link(each) async for each in await theirs.link("dump")]),
            tuple([parse_address(each) async for each in await theirs.addr("dump")]),
            tuple(route for route in routes if route is not None),
            tuple(rule for rule in rules if rule is not None),
        )
    theirs.close()
    os.close(fd)

    assert found == expected
    assert found.link("lo") is not None
    if script == SCRIPT:
        assert len(found.links) == 206
        assert {link.learns for link in found.links if link.master} == {True, False}
        assert len(found.routes) > 5
