"""Expectations judged in running labs, without zos and with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netlab.fleet.fleet import Fleet
from netlab.fleet.opening import bring_up
from netlab.judge.judge import Judge
from netlab.nat import NATS
from netlab.topology import (
    Access,
    Exit,
    ExitOffer,
    Expect,
    Link,
    Node,
    Router,
    Tenant,
    TenantNetwork,
    Topology,
    Workload,
)
from overlay.errors import Rejected

pytestmark = [pytest.mark.lab, pytest.mark.blocking, pytest.mark.timeout(240)]

PLAIN = Topology(
    nodes=(
        Node("alice", (Link("home"),)),
        Node("bob"),
        Node("carol", (Link(ipv6=False),)),
    ),
    routers=(Router("home", nat=NATS["port-restricted"], firewall="stateful"),),
)
# Far more than anything here takes, and little where time must run out.
SOON_S = 0.5
A_WHILE_S = 4.0  # enough to be reached, and for a second look at what is wrong
LATE_S = 60.0

OVERLAY = Topology(
    nodes=(
        Node("registry", role="registry"),
        *(Node(name, (Link("flat"),), role="node") for name in ("n1", "n2")),
        Node("n3", role="node"),
        Node("laptop", role="client"),
    ),
    routers=(Router("flat", nat=NATS["port-restricted"]),),
    tenants=(
        Tenant(
            "alice",
            (
                TenantNetwork(
                    "home",
                    nodes=("n1", "n2", "n3"),
                    clients=(Access("laptop", via="n3"),),
                    workloads=tuple(Workload(f"web-{n}", n) for n in ("n1", "n2", "n3")),
                ),
            ),
        ),
        Tenant(
            "bob", (TenantNetwork("home", nodes=("n1", "n3"), workloads=(Workload("db", "n3"),)),)
        ),
    ),
)


def quiet(*_: object, **__: object) -> None:
    """Nobody wants to know."""


async def test_plain_machines_are_judged_by_who_answers(lab):
    # LAB-306, LAB-307
    running = await lab(PLAIN)
    expects = [
        Expect("alice", "bob", within_s=LATE_S),
        Expect("bob", "alice", reached=False, within_s=SOON_S),
        Expect("bob", "carol", family="ipv4", within_s=LATE_S),
        Expect("bob", "carol", within_s=SOON_S),
        Expect("bob", "alice", within_s=SOON_S),
        Expect("alice", "bob", reached=False, within_s=SOON_S),
        Expect("*", "bob", family="ipv4", within_s=LATE_S),
    ]
    told = []
    verdicts = await Judge(running, Fleet(running)).judge(expects, on_verdict=told.append)
    assert told == verdicts
    assert [verdict.expect for verdict in verdicts] == expects
    assert [verdict.held for verdict in verdicts] == [True, True, True, False, False, False, True]
    assert [verdict.pairs for verdict in verdicts] == [1, 1, 1, 1, 1, 1, 2]
    reasons = [verdict.misses[0].reason for verdict in verdicts if not verdict.held]
    bob, alice = running.node("bob"), running.node("alice")
    assert reasons == [
        "carol has no IPv6 address",
        f"nobody answers at {alice.ipv4}; nobody answers at {alice.ipv6}",
        "bob answers over IPv4; bob answers over IPv6",
    ]
    assert bob.ipv4 != alice.ipv4


async def test_words_that_mean_nobody_are_refused_with_the_nearest_name(lab):
    # LAB-308
    running = await lab(PLAIN)
    for wrong, remedy in (
        (Expect("alice", "bop"), "did you mean 'bob'?"),
        (Expect("alice", "tenant/network/*"), None),
        (Expect("alice", "alice"), None),
    ):
        with pytest.raises(Rejected) as caught:
            await Judge(running, Fleet(running)).judge([wrong])
        assert caught.value.field == "expect.to"
        if remedy:
            assert caught.value.remedy == remedy


async def test_a_cut_link_makes_silence_and_a_mended_one_ends_it(lab):
    # LAB-306
    running = await lab(PLAIN)
    judge = Judge(running, Fleet(running))
    silent, reached = (
        Expect("alice", "bob", reached=wanted, within_s=LATE_S) for wanted in (False, True)
    )
    async with running.cut_off("home"):
        assert [v.held for v in await judge.judge([silent])] == [True]
    assert [v.held for v in await judge.judge([reached])] == [True]


async def test_a_rate_is_measured_where_the_bytes_arrive(lab):
    # LAB-309
    running = await lab(PLAIN)
    # No machine is so slow, and none so fast, that these would not hold.
    slow, fast = 100_000, 10**13
    expects = [
        Expect("alice", "bob", family="ipv4", at_least_bit_s=slow, within_s=LATE_S),
        Expect("alice", "bob", family="ipv6", at_most_bit_s=fast, within_s=LATE_S),
        Expect("alice", "bob", family="ipv4", at_most_bit_s=slow, within_s=A_WHILE_S),
        Expect("alice", "bob", family="ipv4", at_least_bit_s=fast, within_s=A_WHILE_S),
    ]
    verdicts = await Judge(running, Fleet(running)).judge(expects)
    assert [verdict.held for verdict in verdicts] == [True, True, False, False]
    assert all("bit/s" in verdict.misses[0].reason for verdict in verdicts[2:])


async def test_inside_networks_who_answers_and_by_which_path(lab):
    # LAB-306, LAB-307, LAB-310, LAB-311
    running = await lab(OVERLAY)
    async with bring_up(running, progress=quiet, tell=quiet) as fleet:
        judge = Judge(running, fleet)
        expects = [
            Expect("alice/home/*", "alice/home/*", within_s=LATE_S),
            Expect("alice/home/web-n1", "alice/home/web-n2", path="lan", within_s=LATE_S),
            Expect("alice/home/web-n1", "alice/home/web-n3", path="direct", within_s=LATE_S),
            Expect("laptop", "alice/home/web-n2", within_s=LATE_S),
            Expect("alice/home/web-n1", "laptop", within_s=LATE_S),
            Expect("alice/home/*", "bob/home/db", reached=False, within_s=SOON_S),
        ]
        verdicts = await judge.judge(expects)
        assert [verdict for verdict in verdicts if not verdict.held] == []
        assert [verdict.pairs for verdict in verdicts] == [6, 1, 1, 1, 1, 3]
        # The tunnel is there, so that nothing but the path can be missed.
        wrong = Expect("alice/home/web-n1", "alice/home/web-n3", path="lan", within_s=A_WHILE_S)
        (verdict,) = await judge.judge([wrong])
        assert verdict.misses[0].reason == "by direct"
        with pytest.raises(Rejected, match="laptop runs no zos") as caught:
            await judge.judge([Expect("laptop", "alice/home/web-n2", path="direct")])
        assert caught.value.field == "expect.path"
        # Who does not answer any more is explained by the node of the one who asks.
        await fleet.stop_node("n3")
        (verdict,) = await judge.judge(
            [Expect("alice/home/web-n1", "bob/home/db", within_s=SOON_S)]
        )
        (miss,) = verdict.misses
        assert miss.why


async def test_an_exit_is_whom_the_other_end_sees(lab):
    # LAB-350, LAB-351, LAB-353
    home = TenantNetwork(
        "home",
        nodes=("n1", "e1", "e2"),
        exits=(Exit("e1"), Exit("e2", order=1)),
        workloads=(Workload("web", "n1"),),
    )
    links = (Link(), Link("isp", "eth1"))
    topology = Topology(
        nodes=(
            Node("registry", role="registry"),
            Node("site"),
            Node("n1", role="node"),
            Node("e1", links, role="node", exit=ExitOffer("eth1")),
            Node("e2", role="node", exit=ExitOffer("eth0", ("site",))),
        ),
        routers=(Router("isp", nat=NATS["port-restricted"]),),
        tenants=(Tenant("alice", (home,)),),
    )
    running = await lab(topology)
    async with bring_up(running, progress=quiet, tell=quiet) as fleet:
        judge = Judge(running, fleet, keeps_answers=True)
        site, e2 = running.node("site"), running.node("e2")
        by_e1 = Expect("alice/home/web", "site", via="e1", path="direct", within_s=LATE_S)
        by_e2 = Expect("alice/home/web", "site", via="e2", path="direct", within_s=LATE_S)
        (used,) = await judge.judge([by_e1])
        assert used.held, used.misses
        # Its provider translates, in IPv4.
        seen = str(running.wiring.stations["isp"][0].ipv4), "2001:db8:1:1::2"
        assert [(each.address, each.seen_as) for each in used.answers] == [
            (site.ipv4, seen[0]),
            (site.ipv6, seen[1]),
        ]
        assert all(each.rtt_s for each in used.answers)
        (other,) = await judge.judge([replace(by_e2, family="ipv6", within_s=A_WHILE_S)])
        assert other.misses[0].reason == f"site sees {seen[1]} over IPv6"
        await running.node("e1").kill()
        (moved,) = await judge.judge([by_e2])
        assert moved.held, moved.misses
        assert [each.seen_as for each in moved.answers] == [e2.ipv4, e2.ipv6]
