"""What a network resource should look like in the kernel. Decides; touches nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from overlay.addressing import (
    FIRST_WORKLOAD_HOST,
    LAST_WORKLOAD_HOST,
    address_of,
    host_address,
    port_link_name,
    port_mac,
)
from overlay.errors import Rejected
from overlay.model import (
    FAMILIES,
    AllowRule,
    InterfaceAddress,
    NetworkResource,
    Prefix,
    Publication,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.netns.firewall import ruleset
from overlay.netns.state import (
    BRIDGE_LINK,
    DRAIN_LINK,
    DRAIN_TABLE,
    EVERYWHERE,
    LOOPBACK_LINK,
    LOOPBACK_MTU_BYTES,
    WG_LINK,
    Attachment,
    Firewall,
    Link,
    LinkKind,
    Resource,
    Route,
    Rule,
)

# Written in this order. A change of ip_forward resets other settings of every link
# (Documentation/networking/ip-sysctl.rst), so the two forwarding switches come first.
SYSCTLS: Mapping[str, str] = {
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    # A source that is not routed back to where it came from is forged (RFC 3704 section 2.2);
    # nftables holds the same for IPv6, which has no such switch.
    "net/ipv4/conf/all/rp_filter": "1",
    "net/ipv4/conf/all/accept_redirects": "0",
    # Sending redirects is on when either "all" or the link says so.
    "net/ipv4/conf/all/send_redirects": "0",
    f"net/ipv4/conf/{BRIDGE_LINK}/send_redirects": "0",
    f"net/ipv4/conf/{WG_LINK}/send_redirects": "0",
    f"net/ipv6/conf/{BRIDGE_LINK}/accept_ra": "0",
    f"net/ipv6/conf/{BRIDGE_LINK}/accept_redirects": "0",
    # The gateway's addresses are usable at once: nobody else can hold them (anti-spoofing).
    f"net/ipv6/conf/{BRIDGE_LINK}/accept_dad": "0",
    # wg0 is unnumbered; without this a TUN link would give itself a link-local address.
    f"net/ipv6/conf/{WG_LINK}/addr_gen_mode": "1",
}


# Of the device to an exit that drains, as long as it is there.
DRAIN_SYSCTLS: Mapping[str, str] = {
    f"net/ipv4/conf/{DRAIN_LINK}/send_redirects": "0",
    # What comes by it is routed back by wg0, but for its flows' mark, which the check does not
    # see. Loose, which works where a link has an address: WireGuard itself lets nothing in that
    # has a source of another peer.
    f"net/ipv4/conf/{DRAIN_LINK}/rp_filter": "2",
    f"net/ipv6/conf/{DRAIN_LINK}/addr_gen_mode": "1",
}


class Drain(msgspec.Struct, frozen=True):
    """The exit that was in use before and drains: flows that began at it go on there (EXIT-060)."""

    mark: int  # of these flows
    peer: WgPeer
    subnets: tuple[Prefix, ...]  # its own part of the network


def flow_mark(index: int) -> int:
    """The mark of flows that leave by the exit with this index; 0 is the mark of all others."""
    return index + 1


def desired_resource(
    nr: NetworkResource,
    *,
    device_key: WgPublicKey,
    peers: Mapping[WgPublicKey, WgPeer],
    attachments: Iterable[Attachment] = (),
    devices: Iterable[Prefix] = (),
    is_exit: bool = False,
    is_routed: bool = False,
    serves_members: bool = True,
    has_exits: bool = False,
    way_out: int = 0,
    drain: Drain | None = None,
    publications: Sequence[Publication] = (),
    admitted: Sequence[AllowRule] = (),
) -> Resource:
    """The whole state of `nr`. `devices` are the subnets of access devices that join here.

    `is_exit`: members may leave the network here, by a link that is not part of the resource; with
    `is_routed` by IPv6 as who they are, for they have a prefix of their own there; only what is on
    this node when it does not serve members.
    `has_exits`: what is here may leave it by way of a peer. Without one that takes it, WireGuard
    drops what it would send (EXIT-051). `way_out` is the mark of flows that begin now; `drain` is
    where older ones go on, and no peer of `peers`. `publications`: what is published here as an
    exit. `admitted`: what other exits send to workloads here for such.

    The firewall's listing is empty: only a kernel can say what a ruleset looks like in its own
    normal form, so whoever converges fills it in.
    """
    ports = {attachment.port: attachment for attachment in attachments}
    return Resource(
        netns=nr.netns,
        device=WgDevice(public_key=device_key, listen_port=nr.listen_port, peers=peers),
        drain=None if drain is None else _drain_device(device_key, drain),
        links=_links(nr, ports, drain),
        # One route for any number of peers. The own subnet is more specific through br0; what no
        # peer may receive is refused by WireGuard itself (ENOKEY), so nothing loops.
        routes=frozenset(
            Route(prefix, WG_LINK)
            for prefix in (nr.range_v4, nr.range_v6, *(EVERYWHERE if has_exits else ()))
        ).union(_drain_routes(drain)),
        rules=frozenset(
            Rule(family, drain.mark, DRAIN_TABLE) for family in FAMILIES if drain is not None
        ),
        sysctls=SYSCTLS if drain is None else {**SYSCTLS, **DRAIN_SYSCTLS},
        firewall=Firewall(
            "",
            ruleset(
                nr,
                attachments=ports.values(),
                devices=devices,
                is_exit=is_exit,
                is_routed=is_routed,
                serves_members=serves_members,
                has_exits=has_exits,
                way_out=way_out,
                draining=drain.mark if drain is not None else 0,
                publications=publications,
                admitted=admitted,
            ),
        ),
        attachments=ports,
    )


def workload_attachment(
    nr: NetworkResource, *, name: str, netns: str, link: str, host: int
) -> Attachment:
    """The attachment of the workload with the host-th address of this node's subnets.

    Raises Rejected when `host` is no workload's (NET-021).
    """
    if not FIRST_WORKLOAD_HOST <= host <= LAST_WORKLOAD_HOST:
        raise Rejected(
            f"host {host} is not between {FIRST_WORKLOAD_HOST} and {LAST_WORKLOAD_HOST}",
            field="host",
        )
    address_v4 = host_address(nr.subnet_v4, host)
    return Attachment(
        name=name,
        netns=netns,
        link=link,
        address_v4=address_v4,
        address_v6=host_address(nr.subnet_v6, host),
        gateway_v4=address_of(nr.gateway_v4),
        gateway_v6=address_of(nr.gateway_v6),
        mac=port_mac(nr.network, address_of(address_v4)),
        port=port_link_name(address_of(address_v4)),
        mtu_bytes=nr.mtu_bytes,
    )


def _drain_device(device_key: WgPublicKey, drain: Drain) -> WgDevice:
    """With any listen port: the exit goes where it hears us, and nobody else is told."""
    return WgDevice(public_key=device_key, listen_port=0, peers={drain.peer.public_key: drain.peer})


def _drain_link(nr: NetworkResource) -> Link:
    """It has the gateway's IPv4 address, for the sake of the reverse path check."""
    address = InterfaceAddress(f"{address_of(nr.gateway_v4)}/32")
    return Link(
        LinkKind.WIREGUARD, up=True, mtu_bytes=nr.mtu_bytes, addresses=frozenset((address,))
    )


def _drain_routes(drain: Drain | None) -> Iterator[Route]:
    if drain is not None:
        yield from (Route(prefix, DRAIN_LINK) for prefix in drain.subnets)
        yield from (Route(prefix, DRAIN_LINK, DRAIN_TABLE) for prefix in EVERYWHERE)


def _links(
    nr: NetworkResource, ports: Mapping[str, Attachment], drain: Drain | None
) -> dict[str, Link]:
    return {
        LOOPBACK_LINK: Link(LinkKind.LOOPBACK, up=True, mtu_bytes=LOOPBACK_MTU_BYTES),
        WG_LINK: Link(LinkKind.WIREGUARD, up=True, mtu_bytes=nr.mtu_bytes),
        **({} if drain is None else {DRAIN_LINK: _drain_link(nr)}),
        BRIDGE_LINK: Link(
            LinkKind.BRIDGE,
            up=True,
            mtu_bytes=nr.mtu_bytes,
            mac=nr.bridge_mac,
            addresses=frozenset((nr.gateway_v4, nr.gateway_v6)),
        ),
        **{
            port: Link(LinkKind.PORT, up=True, mtu_bytes=attachment.mtu_bytes, master=BRIDGE_LINK)
            for port, attachment in ports.items()
        },
    }
