"""Captures of labs on the real kernel: every packet once, at the right end, in the right way."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack

import pytest

from netlab.capture.summary import summarize
from netlab.capture.taps import Heard, hear, open_taps
from netlab.impairment import Both, Impairment
from netlab.keeper.packets import take_missed
from netlab.lab import Lab
from netlab.topology import Link, Node, Router, Topology
from overlay.errors import Rejected

pytestmark = [pytest.mark.any_backend, pytest.mark.kernel, pytest.mark.blocking]

PATIENCE_S = 30.0
LINK = "n1:eth0"
PAIR = Topology(nodes=(Node("n1"), Node("n2")))
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])


async def captured(
    lab: Lab, name: str, family: int, *, sender: str = "n1", target: str = "n2", count: int = 5
) -> list[tuple[str, Heard]]:
    """The datagrams that somebody sends to somebody else, as the taps of `name` hear them."""
    with ExitStack() as stack:
        taps = [(tap, stack.enter_context(each)) for tap, each in await open_taps(lab, name)]
        with lab.node(target).in_netns():
            there = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        with lab.node(sender).in_netns():
            here = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        there.bind(("", 0))
        there.setblocking(False)
        node = lab.node(target)
        address = node.ipv6 if family == socket.AF_INET6 else node.ipv4
        for number in range(count):
            here.sendto(bytes([number]) * 9, (address, there.getsockname()[1]))
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(count):
                await asyncio.get_running_loop().sock_recv(there, 100)
        heard = [
            (tap.name, each)
            for number, (tap, opened) in enumerate(taps)
            for each in hear(number, opened)
            if summarize(each.frame).protocol == "udp"
        ]
        assert [take_missed(opened) for _, opened in taps] == [0] * len(taps)
    return heard


@FAMILIES
@pytest.mark.parametrize("delay_s", [0.0, 0.01])
@pytest.mark.parametrize(("sender", "ways"), [("n1", ("out", "in")), ("n2", ("in", "out"))])
async def test_both_ends_of_a_link_hear_every_packet_once(  # LAB-272
    lab, family, delay_s, sender, ways
):
    running = await lab(PAIR)
    impairment = Impairment(delay_s=delay_s)
    await running.impair(LINK, Both(up=impairment, down=impairment))
    target = {"n1": "n2", "n2": "n1"}[sender]
    heard = await captured(running, LINK, family, sender=sender, target=target)
    near, far = (await open_names(running, LINK)).keys()
    for end, way in ((near, ways[0]), (far, ways[1])):
        here = [each for name, each in heard if name == end]
        assert [each.way for each in here] == [way] * 5
        assert [each.frame[-1] for each in here] == list(range(5))
        # The pump's own sign on them is gone.
        assert not any(each.frame[6] & 1 for each in here)
        assert [each.at_ns for each in here] == sorted(each.at_ns for each in here)


async def open_names(lab: Lab, name: str) -> dict[str, str]:
    taps = await open_taps(lab, name)
    for _, opened in taps:
        opened.close()
    return {tap.name: tap.about for tap, _ in taps}


async def test_node_is_heard_at_all_its_links(lab):  # LAB-272
    two = Topology(
        nodes=(Node("n1", (Link(), Link(to="home", name="eth1"))), Node("n2")),
        routers=(Router("home"),),
    )
    running = await lab(two)
    assert list(await open_names(running, "n1")) == ["n1:eth0", "n1:eth1"]
    assert next(iter(await open_names(running, "home"))) == "home:wan"
    heard = await captured(running, "n1", socket.AF_INET)
    assert {name for name, _ in heard} == {"n1:eth0"}


async def test_capture_of_the_unknown_is_refused(lab):  # LAB-272
    running = await lab(PAIR)
    with pytest.raises(Rejected, match="n3"):
        await open_taps(running, "n3")
