"""From rtnetlink's messages to states, and what is owned."""

from __future__ import annotations

import msgspec
import pytest

from overlay.model import Prefix
from overlay.netns.codec import (
    KernelAddress,
    KernelLink,
    KernelRoute,
    Snapshot,
    foreign_links,
    joined_workload,
    owned_links,
    owned_routes,
    parse_address,
    parse_link,
    parse_route,
)
from overlay.netns.resource import workload_attachment
from overlay.netns.state import ROUTE_PROTOCOL, Attachment, LinkKind, Route
from tests.convergence import network_resource

AF_INET, AF_INET6 = 2, 10


def link(name: str, index: int, kind: str = "", **more: object) -> KernelLink:
    it = KernelLink(index, name, kind, up=True, mtu_bytes=1420, mac=None, master=None)
    return msgspec.structs.replace(it, **more)


def test_parse_link_reads_what_pyroute2_decodes() -> None:
    message = {
        "index": 7,
        "flags": 0x1003,
        "ifname": "p-2",
        "mtu": 1420,
        "address": "02:00:00:00:00:01",
        "master": 3,
        "link": 2,
        ("linkinfo", "kind"): "veth",
        ("linkinfo", "slave_data", "learning"): 1,
    }
    assert parse_link(message) == KernelLink(
        7, "p-2", "veth", True, 1420, "02:00:00:00:00:01", 3, learns=True, other_end=2
    )


@pytest.mark.parametrize(
    ("message", "prefix"),
    [
        ({"family": AF_INET, "dst_len": 0}, "0.0.0.0/0"),
        ({"family": AF_INET6, "dst_len": 0}, "::/0"),
        ({"family": AF_INET, "dst_len": 16, "dst": "10.7.0.0"}, "10.7.0.0/16"),
        ({"family": AF_INET6, "dst_len": 48, "dst": "fd07:1:2::"}, "fd07:1:2::/48"),
    ],
)
def test_parse_route_reads_both_families(message: dict[str, object], prefix: str) -> None:
    whole = {**message, "type": 1, "table": 254, "oif": 3, "proto": ROUTE_PROTOCOL}
    assert parse_route(whole) == KernelRoute(Prefix(prefix), 3, ROUTE_PROTOCOL)


@pytest.mark.parametrize("odd", [{"type": 3}, {"table": 255}, {"oif": None}])
def test_parse_route_leaves_out_what_is_no_unicast_route_in_main(odd: dict[str, object]) -> None:
    whole = {"family": AF_INET, "dst_len": 0, "type": 1, "table": 254, "oif": 3, "proto": 4}
    assert parse_route(whole | odd) is None


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            {
                "family": AF_INET,
                "local": "10.7.3.1",
                "address": "10.7.3.9",
                "scope": 0,
                "flags": 0x80,
            },
            KernelAddress(2, "10.7.3.1/24", automatic=False),
        ),
        (
            {"family": AF_INET6, "address": "fd07::1", "scope": 0, "flags": 0x80},
            KernelAddress(2, "fd07::1/24", automatic=False),
        ),
        (
            {"family": AF_INET6, "address": "fe80::1", "scope": 253, "flags": 0x80},
            KernelAddress(2, "fe80::1/24", automatic=True),
        ),
        (
            {"family": AF_INET6, "address": "fd07::1", "scope": 0, "flags": 0x40},
            KernelAddress(2, "fd07::1/24", automatic=False, lasting=False, usable=False),
        ),
    ],
)
def test_parse_address_tells_ours_from_the_kernels(
    message: dict[str, object], expected: KernelAddress
) -> None:
    assert parse_address({**message, "index": 2, "prefixlen": 24}) == expected


def test_ownership_is_by_name_protocol_and_link() -> None:  # NET-061
    snapshot = Snapshot(
        links=(
            link("lo", 1),
            link("wg0", 2, "tun"),
            link("br0", 3, "bridge"),
            link("p-2", 4, "veth", master=3),
            link("p-2000", 5, "veth"),
            link("theirs", 6, "bridge"),
        ),
        addresses=(
            KernelAddress(1, "127.0.0.1/8", automatic=False),
            KernelAddress(3, "10.7.3.1/24", automatic=False),
            KernelAddress(3, "fe80::1/64", automatic=True),
            KernelAddress(6, "192.0.2.1/24", automatic=False),
        ),
        routes=(
            KernelRoute(Prefix("10.7.0.0/16"), 2, ROUTE_PROTOCOL),
            KernelRoute(Prefix("fd07::/48"), 2, ROUTE_PROTOCOL),
            KernelRoute(Prefix("10.7.3.0/24"), 3, 2),
            KernelRoute(Prefix("192.0.2.0/24"), 6, 4),
        ),
    )
    found = owned_links(snapshot)
    assert {name: found[name].kind for name in found} == {
        "lo": LinkKind.LOOPBACK,
        "wg0": LinkKind.WIREGUARD,
        "br0": LinkKind.BRIDGE,
        "p-2": LinkKind.PORT,
    }
    assert found["br0"].addresses == {"10.7.3.1/24"}
    assert found["lo"].addresses == frozenset()
    assert found["p-2"].master == "br0"
    assert foreign_links(snapshot) == {"p-2000", "theirs"}
    assert owned_routes(snapshot) == {
        Route(Prefix("10.7.0.0/16"), "wg0"),
        Route(Prefix("fd07::/48"), "wg0"),
    }


def test_a_name_of_ours_on_another_kind_of_link_is_told() -> None:  # NET-051
    snapshot = Snapshot((link("br0", 3, "macvlan"),), (), ())
    assert owned_links(snapshot)["br0"].kind is LinkKind.FOREIGN


IT = workload_attachment(network_resource(), name="w", netns="/run/w", link="eth0", host=2)
TENANT = Snapshot((link("p-2", 4, "veth", master=3, other_end=9),), (), ())
END = link("eth0", 9, "veth", mac=IT.mac, other_end=4)
GATEWAYS = (
    KernelRoute(Prefix("0.0.0.0/0"), 9, ROUTE_PROTOCOL, IT.gateway_v4),
    KernelRoute(Prefix("::/0"), 9, ROUTE_PROTOCOL, IT.gateway_v6),
)
ADDRESSES = tuple(
    KernelAddress(9, address, automatic=False) for address in (IT.address_v4, IT.address_v6)
)
WORKLOAD = Snapshot((END,), ADDRESSES, GATEWAYS)


def joined(workload: Snapshot, tenant: Snapshot = TENANT) -> Attachment | None:
    return joined_workload(IT, tenant=tenant, workload=workload)


def test_a_workload_with_all_of_its_own_is_joined() -> None:  # NET-082
    assert joined(WORKLOAD) == IT


def test_what_a_workload_has_beside_does_not_matter() -> None:  # NET-081
    more = KernelAddress(9, "10.7.3.77/24", automatic=False)
    own_route = KernelRoute(Prefix("0.0.0.0/0"), 9, 4, "10.7.3.99")
    assert joined(Snapshot((END,), (more, *ADDRESSES), (own_route, *GATEWAYS))) == IT


def test_a_link_that_is_not_the_other_end_is_not_joined() -> None:  # NET-081
    for stranger in (
        msgspec.structs.replace(END, other_end=5),
        msgspec.structs.replace(END, index=8),
        msgspec.structs.replace(END, kind="bridge"),
    ):
        assert joined(msgspec.structs.replace(WORKLOAD, links=(stranger,))) is None
    assert joined(msgspec.structs.replace(WORKLOAD, links=())) is None


def test_what_is_missing_and_what_is_stale_are_told_apart() -> None:  # NET-082
    lost = joined(Snapshot((END,), ADDRESSES[:1], GATEWAYS[:1]))
    assert lost is not None
    assert (lost.address_v4, lost.address_v6) == (IT.address_v4, "")
    assert (lost.gateway_v4, lost.gateway_v6) == (IT.gateway_v4, "")
    stale = joined(Snapshot((END,), (KernelAddress(9, "10.8.0.2/24", automatic=False),), ()))
    assert stale is not None
    assert stale.address_v4 == "10.8.0.2/24"


def test_a_port_that_learns_macs_does_not_hold_the_workload_to_its_own() -> None:  # NET-075
    (port,) = TENANT.links
    for loose in (
        msgspec.structs.replace(port, learns=True),
        msgspec.structs.replace(port, master=None),
    ):
        told = joined(WORKLOAD, Snapshot((loose,), (), ()))
        assert told is not None
        assert told.mac == ""
