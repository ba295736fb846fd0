"""What is planned, in which order, and what is left alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from overlay.errors import Rejected
from overlay.model import Endpoint, Prefix, WgDevice, WgPeer, WgPublicKey
from overlay.netns.changes import (
    AddAddress,
    Attach,
    Change,
    CreateNetns,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    DropPeer,
    LoadFirewall,
    MoveDevice,
    PutPeer,
    RemoveNetns,
    RetireDevice,
    SetKey,
    SetLink,
    SetSysctl,
    SetUp,
    to_json,
)
from overlay.netns.plan import HANDSHAKE_FRESH_S, plan, plan_peer_delta, plan_peers, refuse_overlap
from overlay.netns.resource import desired_resource, workload_attachment
from overlay.netns.state import Firewall, Resource, Route, absent_resource
from tests.convergence import (
    KEYS,
    NETNS,
    PREFIXES,
    RANGE_V4,
    RANGE_V6,
    drain,
    network_resource,
)

NOW = 1_000_000
A, B, C = KEYS[:3]
V4, V6 = PREFIXES[:2]
HERE = Endpoint("192.0.2.1", 51820)
ELSEWHERE = Endpoint("2001:db8::1", 51821)


def resource(*peers: WgPeer, hosts: tuple[int, ...] = (2,)) -> Resource:
    nr = network_resource()
    desired = desired_resource(
        nr,
        device_key=C,
        peers={peer.public_key: peer for peer in peers},
        attachments=[
            workload_attachment(nr, name=f"w{host}", netns="/run/w", link="eth0", host=host)
            for host in hosts
        ],
    )
    return msgspec.structs.replace(desired, firewall=Firewall("as loaded", "to load"))


def draining(*peers: WgPeer, n: int = 20) -> Resource:
    it = desired_resource(
        network_resource(),
        device_key=C,
        peers={peer.public_key: peer for peer in peers},
        has_exits=True,
        drain=drain(n),
    )
    return msgspec.structs.replace(it, firewall=Firewall("as loaded", "to load"))


def planned(desired: Resource, actual: Resource) -> tuple[Change, ...]:
    return plan(desired=desired, actual=actual, now=NOW)


def names(changes: Any) -> list[str]:
    return [type(change).__name__ for change in changes]


def test_plan_builds_from_nothing_in_an_order_that_never_leaks() -> None:  # NET-051
    order = list(
        dict.fromkeys(names(planned(resource(WgPeer(A, (V4, V6))), absent_resource(NETNS))))
    )
    assert order == [
        "CreateNetns",
        "LoadFirewall",
        "CreateDevice",
        "SetKey",
        "SetListenPort",
        "PutPeer",
        "MoveDevice",
        "CreateBridge",
        "SetLink",
        "SetSysctl",
        "SetUp",
        "AddAddress",
        "AddRoute",
        "Attach",
    ]


def test_an_exit_that_drains_has_its_own_way_before_the_next_one_takes_the_rest() -> None:
    # EXIT-060: no packet of a flow that began at the one before leaves by the next.
    it, out = drain(20), (Prefix("128.0.0.0/1"),)
    before = resource(WgPeer(A, (V4, V6)), it.peer, hosts=())
    began = planned(draining(WgPeer(A, tuple(sorted((V4, V6, *out))))), before)
    assert [each.describe() for each in began if isinstance(each, (DropPeer, PutPeer, MoveDevice))][
        :2
    ] == [
        PutPeer(it.peer, known=False, link="wg1").describe(),
        "~ link d-abcdefghijklm moves to n-abcdefghijklm as wg1",
    ]
    order = list(dict.fromkeys(names(began)))
    assert order.index("AddRule") > order.index("AddRoute") > order.index("SetUp")
    assert began[-2:] == (
        DropPeer(it.peer.public_key),
        PutPeer(WgPeer(A, tuple(sorted((V4, V6, *out)))), known=True),
    )


def test_when_an_exit_has_drained_its_peer_comes_back_first() -> None:  # EXIT-061
    it = drain(20)
    back = msgspec.structs.replace(it.peer, allowed_ips=tuple(sorted(it.subnets)))
    after = msgspec.structs.replace(
        draining(WgPeer(A, (V4, V6)), back),
        drain=None,
        rules=frozenset(),
        routes=frozenset(r for r in draining().routes if r.link != "wg1"),
        links={name: link for name, link in draining().links.items() if name != "wg1"},
    )
    changes = planned(after, draining(WgPeer(A, (V4, V6))))
    assert changes[0] == PutPeer(back, known=False)
    assert list(dict.fromkeys(names(changes))) == [
        "PutPeer",
        "DeleteRule",
        "DeleteRoute",
        "DeleteLink",
        "RetireDevice",
    ]
    assert changes[-2:] == (DeleteLink("wg1"), RetireDevice("d-abcdefghijklm"))


def test_any_listen_port_will_do_for_an_exit_that_drains() -> None:  # EXIT-060
    it = draining()
    assert it.drain is not None
    listening = msgspec.structs.replace(it.drain, listen_port=40_123)
    assert planned(it, msgspec.structs.replace(it, drain=listening)) == ()


def test_peers_of_a_delta_go_to_the_device_that_they_are_on() -> None:  # EXIT-060
    it = drain(20)
    assert plan_peer_delta(
        put=[it.peer, WgPeer(A, (V4,))], drop=[B], draining=it.peer.public_key
    ) == (
        DropPeer(B),
        PutPeer(WgPeer(A, (V4,)), known=False),
        PutPeer(it.peer, known=False, link="wg1"),
    )


def test_plan_takes_everything_away_and_the_netns_last() -> None:  # NET-052
    assert planned(absent_resource(NETNS), resource()) == (
        DeleteLink("wg0"),
        DeleteLink("br0"),
        DeleteLink("p-2"),  # a netns that somebody is in lives on, and its pairs with it
        RetireDevice("w-abcdefghijklm"),
        RetireDevice("d-abcdefghijklm"),
        RemoveNetns(NETNS),
    )
    assert planned(absent_resource(NETNS), absent_resource(NETNS)) == ()


def test_plan_of_what_holds_already_is_empty() -> None:  # NET-050
    it = resource(WgPeer(A, (V4, V6), HERE, 25))
    assert planned(it, it) == ()


def with_link(it: Resource, name: str, **settings: Any) -> Resource:
    changed = msgspec.structs.replace(it.links[name], **settings)
    return msgspec.structs.replace(it, links={**it.links, name: changed})


IT = resource(WgPeer(A, (V4, V6), HERE, 25))
STRAY = Route(Prefix("10.99.0.0/16"), "br0")
DIFFERENCES: dict[str, tuple[Resource, list[Change]]] = {
    "netns without pin": (msgspec.structs.replace(IT, present=False), [CreateNetns(NETNS)]),
    "no firewall": (msgspec.structs.replace(IT, firewall=None), [LoadFirewall(NETNS, "to load")]),
    "other firewall": (
        msgspec.structs.replace(IT, firewall=Firewall("changed by hand")),
        [LoadFirewall(NETNS, "to load")],
    ),
    "other mtu": (with_link(IT, "wg0", mtu_bytes=9000), [SetLink("wg0", mtu_bytes=1420)]),
    "other mac": (
        with_link(IT, "br0", mac="02:00:00:00:00:01"),
        [SetLink("br0", mac=IT.links["br0"].mac)],
    ),
    "no master": (with_link(IT, "p-2", master=None), [SetLink("p-2", master="br0")]),
    "link down": (with_link(IT, "br0", up=False), [SetUp("br0")]),
    "stray address": (
        with_link(IT, "br0", addresses=IT.links["br0"].addresses | {"10.99.0.1/24"}),
        [DeleteAddress("br0", "10.99.0.1/24")],
    ),
    "other address": (
        with_link(IT, "br0", addresses=frozenset({"10.99.0.1/24", "fd07:1:2:3::1/64"})),
        [AddAddress("br0", "10.7.3.1/24"), DeleteAddress("br0", "10.99.0.1/24")],
    ),
    "stray route": (
        msgspec.structs.replace(IT, routes=IT.routes | {STRAY}),
        [DeleteRoute(STRAY)],
    ),
    "other sysctl": (
        msgspec.structs.replace(IT, sysctls={**IT.sysctls, "net/ipv4/ip_forward": "0"}),
        [SetSysctl("net/ipv4/ip_forward", "1")],
    ),
    "workload without address": (
        msgspec.structs.replace(
            IT,
            attachments={"p-2": msgspec.structs.replace(IT.attachments["p-2"], address_v6="")},
        ),
        [Attach(IT.attachments["p-2"])],
    ),
    "workload with a stale address": (
        msgspec.structs.replace(
            IT,
            attachments={
                "p-2": msgspec.structs.replace(IT.attachments["p-2"], address_v4="10.8.0.2/24")
            },
        ),
        [DeleteLink("p-2"), Attach(IT.attachments["p-2"])],
    ),
    "other key": (
        msgspec.structs.replace(IT, device=msgspec.structs.replace(IT.device, public_key=B)),
        [SetKey(C)],
    ),
    "strangers": (msgspec.structs.replace(IT, foreign=frozenset({"theirs"})), []),
}


@pytest.mark.parametrize("what", sorted(DIFFERENCES))
def test_plan_writes_the_difference_and_nothing_else(what: str) -> None:  # NET-050
    actual, changes = DIFFERENCES[what]
    assert planned(IT, actual) == tuple(changes)


def differences(desired: list[WgPeer], actual: list[WgPeer]) -> list[Change]:
    return list(
        plan_peers(
            desired={peer.public_key: peer for peer in desired},
            actual={peer.public_key: peer for peer in actual},
            now=NOW,
        )
    )


@pytest.mark.parametrize("prefix", [V4, V6])
def test_a_prefix_is_taken_before_it_is_given(prefix: Prefix) -> None:  # NET-045
    other = PREFIXES[3]
    changes = differences(
        [WgPeer(A, (prefix,)), WgPeer(B, (other,))], [WgPeer(B, tuple(sorted((prefix, other))))]
    )
    assert changes == [
        PutPeer(WgPeer(B, (other,)), known=True),
        PutPeer(WgPeer(A, (prefix,)), known=False),
    ]


def test_peers_that_swap_prefixes_pass_through_a_gap() -> None:  # NET-045
    changes = differences(
        [WgPeer(A, (V6,)), WgPeer(B, (V4,))], [WgPeer(A, (V4,)), WgPeer(B, (V6,))]
    )
    assert changes == [
        PutPeer(WgPeer(A, ()), known=True),
        PutPeer(WgPeer(B, ()), known=True),
        PutPeer(WgPeer(A, (V6,)), known=True),
        PutPeer(WgPeer(B, (V4,)), known=True),
    ]


def test_a_peer_is_dropped_before_its_prefixes_are_given() -> None:  # NET-045
    assert differences([WgPeer(A, (V4,))], [WgPeer(B, (V4,))]) == [
        DropPeer(B),
        PutPeer(WgPeer(A, (V4,)), known=False),
    ]


@pytest.mark.parametrize(("age_s", "is_written"), [(0, False), (179, False), (180, True)])
@pytest.mark.parametrize("wanted", [HERE, ELSEWHERE])
def test_an_endpoint_is_left_alone_while_its_handshake_is_fresh(
    age_s: int, is_written: bool, wanted: Endpoint
) -> None:  # NET-046
    assert HANDSHAKE_FRESH_S == 180
    in_use = Endpoint("198.51.100.7", 4000)
    actual = WgPeer(A, (V4,), in_use, 0, NOW - age_s)
    desired = WgPeer(A, (V4,), wanted)
    assert differences([desired], [actual]) == ([PutPeer(desired, known=True)] * is_written)


def test_other_changes_of_a_peer_spare_a_fresh_endpoint() -> None:  # NET-046
    actual = WgPeer(A, (V4,), HERE, 0, NOW)
    assert differences([WgPeer(A, (V4, V6), ELSEWHERE)], [actual]) == [
        PutPeer(WgPeer(A, (V4, V6), None), known=True)
    ]


def test_no_wish_for_an_endpoint_is_no_change() -> None:  # NET-046
    assert differences([WgPeer(A, (V4,))], [WgPeer(A, (V4,), HERE)]) == []


def test_a_peer_delta_drops_first_and_looks_at_nothing_else() -> None:  # NET-047
    assert plan_peer_delta(put=[WgPeer(B, (V6,)), WgPeer(A, (V4,))], drop=[C]) == (
        DropPeer(C),
        PutPeer(WgPeer(A, (V4,)), known=False),
        PutPeer(WgPeer(B, (V6,)), known=False),
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("10.7.1.0/24", "10.7.1.0/24"),
        ("fd07::/64", "fd07::/64"),
        ("10.7.0.0/16", "10.7.1.0/24"),
        ("fd07::/48", "fd07:0:0:1::/64"),
    ],
)
def test_no_address_is_given_to_two_peers(first: str, second: str) -> None:  # NET-044
    peers = [WgPeer(A, (Prefix(first),)), WgPeer(B, (Prefix(second),))]
    for refused in (
        lambda: refuse_overlap(peers),
        lambda: planned(resource(*peers), absent_resource(NETNS)),
        lambda: plan_peer_delta(put=peers, drop=()),
    ):
        with pytest.raises(Rejected):
            refused()


def test_default_routes_may_cover_the_subnets_of_others() -> None:  # NET-044
    everything = (Prefix("0.0.0.0/0"), Prefix("::/0"))
    refuse_overlap([WgPeer(A, everything), WgPeer(B, (V4, V6))])


def test_a_link_with_our_name_that_is_something_else_makes_room_first() -> None:  # NET-051
    changes = planned(IT, msgspec.structs.replace(IT, device=None))
    assert names(changes)[:2] == ["DeleteLink", "CreateDevice"]
    assert "AddRoute" in names(changes)


def test_every_change_has_a_line_for_people_and_a_form_for_machines() -> None:  # NET-057
    built = planned(resource(WgPeer(A, (V4, V6), HERE, 25)), absent_resource(NETNS))
    for told in (*to_json(built), *to_json(planned(absent_resource(NETNS), IT))):
        assert told["type"]
        assert "\n" not in told["says"]
    (peer,) = (change for change in built if isinstance(change, PutPeer))
    assert peer.describe() == (
        f"+ peer AQEBAQEB allowed {V4}, {V6} endpoint 192.0.2.1:51820 keepalive 25 s via wg0"
    )
    msgspec.json.encode(to_json(built))


def test_ten_thousand_peers_that_hold_are_no_change() -> None:  # NET-050
    peers = {
        (key := WgPublicKey(n.to_bytes(32, "big"))): WgPeer(
            key, (Prefix(f"10.{n >> 8}.{n & 255}.0/24"),)
        )
        for n in range(10_000)
    }
    device = WgDevice(C, IT.device.listen_port, peers) if IT.device else None
    it = msgspec.structs.replace(IT, device=device)
    assert planned(it, it) == ()


def test_ranges_are_routed_in_both_families() -> None:  # NET-042
    assert {route.prefix for route in IT.routes} == {RANGE_V4, RANGE_V6}
