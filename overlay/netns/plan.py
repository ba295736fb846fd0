"""The difference between two states of a network resource, as ordered changes. Pure.

Order: make room, add, then delete. Every prefix of a plan leaves a state from which the next plan
reaches the goal, so a pass may die anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from overlay.addressing import SUBNET_BITS_V4, SUBNET_BITS_V6, overlaps
from overlay.errors import Rejected
from overlay.model import Endpoint, Prefix, WgDevice, WgPeer, WgPublicKey
from overlay.netns.changes import (
    AddAddress,
    AddRoute,
    AddRule,
    Attach,
    Change,
    CreateBridge,
    CreateDevice,
    CreateNetns,
    DeleteAddress,
    DeleteLink,
    DeleteRoute,
    DeleteRule,
    DropNewborn,
    DropPeer,
    ForgetFlows,
    LoadFirewall,
    MoveDevice,
    PutPeer,
    RemoveNetns,
    RetireDevice,
    SetKey,
    SetLink,
    SetListenPort,
    SetSysctl,
    SetUp,
)
from overlay.netns.flows import forgotten
from overlay.netns.state import (
    BRIDGE_LINK,
    DRAIN_LINK,
    WG_LINK,
    Attachment,
    Link,
    LinkKind,
    Resource,
    birth_link,
)

# REJECT_AFTER_TIME of the WireGuard paper, section 6.1: a session lives no longer than this.
HANDSHAKE_FRESH_S = 180
_EMPTY_DEVICE = WgDevice(public_key=None, listen_port=0, peers={})
_DEFAULT_ROUTES = frozenset((Prefix("0.0.0.0/0"), Prefix("::/0")))


def plan(*, desired: Resource, actual: Resource, now: int) -> tuple[Change, ...]:
    """Changes after which `actual` is `desired`; none when it is already.

    `now` is Unix seconds: an endpoint whose handshake is fresh is left alone. Raises Rejected when
    `desired` gives one prefix to two peers.
    """
    if not desired.present:
        return tuple(_teardown(actual))
    for device in (desired.device, desired.drain):
        refuse_overlap(device.peers.values() if device is not None else ())
    misfits = _misfits(desired, actual)
    rest = _without_links(actual, misfits)
    return (
        *(() if actual.present else (CreateNetns(desired.netns),)),
        *_firewall(desired, rest),
        *map(DeleteLink, sorted(misfits)),
        *_device(desired, rest),
        *_drain_device(desired, rest, now=now),
        *_bridge(desired, rest),
        *_link_attributes(desired, rest),
        *_sysctls(desired, rest),
        *_ups(desired, rest),
        *_missing_addresses(desired, rest),
        *map(AddRoute, sorted(desired.routes - rest.routes)),
        *map(AddRule, sorted(desired.rules - rest.rules)),
        *_peers(desired, rest, now=now),
        *_stale_addresses(desired, rest),
        *map(DeleteRule, sorted(rest.rules - desired.rules)),
        *map(DeleteRoute, sorted(r for r in rest.routes - desired.routes)),
        *map(DeleteLink, sorted(rest.links.keys() - desired.links.keys())),
        *_retired_drain(desired, rest),
        *_attachments(desired, rest),
    )


def plan_peers(
    *,
    desired: Mapping[WgPublicKey, WgPeer],
    actual: Mapping[WgPublicKey, WgPeer],
    now: int,
    link: str = WG_LINK,
) -> Iterator[Change]:
    """Drop, then shrink, then put: no prefix is given away before its holder has let go of it."""
    for key in sorted(actual.keys() - desired.keys()):
        yield DropPeer(key, link)
    puts = [
        put
        for key, peer in desired.items()
        if (put := _peer_difference(peer, actual.get(key), now=now, link=link)) is not None
    ]
    puts.sort(key=lambda put: put.peer.public_key)
    gains = [put for put in puts if _gained(put, actual)]
    yield from (put for put in puts if not _gained(put, actual))
    yield from _shrinks(gains, actual)
    yield from gains


def plan_peer_delta(
    *,
    put: Iterable[WgPeer],
    drop: Iterable[WgPublicKey],
    draining: WgPublicKey | None = None,
) -> tuple[Change, ...]:
    """Changes for peers of which it is known what happened to them, without looking at the rest.

    The caller vouches that the allowed IPs of `put` belong to no peer outside of `drop`, save to
    one that is put without any: that comes last, so they move in one step; and that there is a
    device for the exit that is `draining`.
    """
    peers = sorted(put, key=lambda peer: (not peer.allowed_ips, peer.public_key))
    refuse_overlap(peer for peer in peers if peer.public_key != draining)
    changes: list[Change] = [DropPeer(key, _link_of(key, draining)) for key in sorted(drop)]
    changes += (
        PutPeer(peer, known=False, link=_link_of(peer.public_key, draining)) for peer in peers
    )
    return tuple(changes)


def _link_of(key: WgPublicKey, draining: WgPublicKey | None) -> str:
    return DRAIN_LINK if key == draining else WG_LINK


def refuse_overlap(peers: Iterable[WgPeer]) -> None:
    """Allowed IPs of one device are disjoint, default routes aside. Raises Rejected (NET-044)."""
    seen: dict[Prefix, WgPublicKey] = {}
    odd: list[Prefix] = []
    for peer in peers:
        for prefix in peer.allowed_ips:
            if seen.setdefault(prefix, peer.public_key) != peer.public_key:
                raise Rejected(f"{prefix} is given to two peers", field="allowed_ips")
            if not prefix.endswith(_SUBNET_ENDS):
                odd.append(prefix)
    # Different prefixes of one length are disjoint, and subnets are all but always all there is.
    if (odd := [prefix for prefix in odd if prefix not in _DEFAULT_ROUTES]) and (
        clash := overlaps(seen.keys() - _DEFAULT_ROUTES)
    ):
        raise Rejected(f"{clash[0]} and {clash[1]} overlap", field="allowed_ips")


_SUBNET_ENDS = (f"/{SUBNET_BITS_V4}", f"/{SUBNET_BITS_V6}")


def _teardown(actual: Resource) -> Iterator[Change]:
    yield from map(DropNewborn, sorted(actual.newborn))
    # A process inside, or a pin that is out of reach, keeps a netns alive; without these it is an
    # island, and no workload is left with a link that leads to it.
    ports = sorted(name for name, link in actual.links.items() if link.kind is LinkKind.PORT)
    for name in (WG_LINK, DRAIN_LINK, BRIDGE_LINK, *ports):
        if name in actual.links:
            yield DeleteLink(name)
    # One that lost its pin while it was held is there all the same: it has at least lo.
    is_there = actual.present or bool(actual.links)
    if actual.newborn or is_there:
        for link in (WG_LINK, DRAIN_LINK):
            yield RetireDevice(birth_link(actual.netns, link))
    if is_there:
        yield RemoveNetns(actual.netns)


def _misfits(desired: Resource, actual: Resource) -> frozenset[str]:
    """Links with a name that we need, that cannot become what we need."""
    wrong_kind = {
        name
        for name, link in desired.links.items()
        if name in actual.links and actual.links[name].kind is not link.kind
    }
    devices = {WG_LINK: actual.device, DRAIN_LINK: actual.drain}
    dead_device = {name for name, it in devices.items() if name in actual.links and it is None}
    cut_off = {
        port
        for port, attachment in desired.attachments.items()
        if port in actual.links and not _can_become(attachment, actual.attachments.get(port))
    }
    return frozenset(wrong_kind | dead_device | cut_off)


def _can_become(desired: Attachment, actual: Attachment | None) -> bool:
    """Whether the pair can stay. With a stale address or gateway it would use that one first."""
    return actual is not None and all(
        found in ("", wanted)
        for found, wanted in (
            (actual.address_v4, desired.address_v4),
            (actual.address_v6, desired.address_v6),
            (actual.gateway_v4, desired.gateway_v4),
            (actual.gateway_v6, desired.gateway_v6),
        )
    )


def _without_links(actual: Resource, gone: frozenset[str]) -> Resource:
    """What the kernel leaves when links are deleted: nothing on them, no slaves, no routes."""
    if not gone:
        return actual
    return msgspec.structs.replace(
        actual,
        device=None if WG_LINK in gone else actual.device,
        drain=None if DRAIN_LINK in gone else actual.drain,
        links={
            name: msgspec.structs.replace(link, master=None) if link.master in gone else link
            for name, link in actual.links.items()
            if name not in gone
        },
        routes=frozenset(route for route in actual.routes if route.link not in gone),
        sysctls={k: v for k, v in actual.sysctls.items() if not gone & frozenset(k.split("/"))},
        attachments={k: v for k, v in actual.attachments.items() if k not in gone},
    )


def _firewall(desired: Resource, actual: Resource) -> Iterator[Change]:
    if desired.firewall is None:
        return
    if actual.firewall is None or actual.firewall.listing != desired.firewall.listing:
        yield LoadFirewall(desired.netns, desired.firewall.ruleset)
        if marks := forgotten(before=actual.firewall, after=desired.firewall):
            yield ForgetFlows(desired.netns, marks)


def _device(desired: Resource, actual: Resource) -> Iterator[Change]:
    """A device that is born has its peers at once; those of one that is there come later."""
    if desired.device is None:
        return
    birth_name = birth_link(desired.netns)
    if actual.device is None:
        yield CreateDevice(birth_name)
    elif birth_name in actual.newborn:
        yield DropNewborn(birth_name)
    yield from _identity(desired.device, actual.device or _EMPTY_DEVICE, WG_LINK)
    if actual.device is None:
        yield from plan_peers(desired=desired.device.peers, actual={}, now=0)
        yield MoveDevice(birth_name, desired.netns)


def _drain_device(desired: Resource, actual: Resource, *, now: int) -> Iterator[Change]:
    """It has the peer before anything is routed to it, and before wg0 gives that peer up."""
    birth_name = birth_link(desired.netns, DRAIN_LINK)
    is_born = desired.drain is not None and actual.drain is None
    if is_born:
        yield CreateDevice(birth_name)
    elif birth_name in actual.newborn:
        yield DropNewborn(birth_name)
    if desired.drain is None:
        return
    device = actual.drain or _EMPTY_DEVICE
    yield from _identity(desired.drain, device, DRAIN_LINK)
    yield from plan_peers(
        desired=desired.drain.peers, actual=device.peers, now=now, link=DRAIN_LINK
    )
    if is_born:
        yield MoveDevice(birth_name, desired.netns, DRAIN_LINK)


def _identity(desired: WgDevice, actual: WgDevice, link: str) -> Iterator[Change]:
    if desired.public_key is not None and actual.public_key != desired.public_key:
        yield SetKey(desired.public_key, link)
    if desired.listen_port and actual.listen_port != desired.listen_port:
        yield SetListenPort(desired.listen_port, link)


def _peers(desired: Resource, actual: Resource, *, now: int) -> Iterator[Change]:
    """When flows of the exit that drains have their own way: none of them leaves by the next."""
    if desired.device is not None and actual.device is not None:
        yield from plan_peers(desired=desired.device.peers, actual=actual.device.peers, now=now)


def _retired_drain(desired: Resource, actual: Resource) -> Iterator[Change]:
    if desired.drain is None and DRAIN_LINK in actual.links:
        yield RetireDevice(birth_link(desired.netns, DRAIN_LINK))


def _peer_difference(
    desired: WgPeer, actual: WgPeer | None, *, now: int, link: str
) -> PutPeer | None:
    if actual is None:
        return PutPeer(desired, known=False, link=link)
    endpoint = _endpoint(desired.endpoint, actual, now=now)
    same = desired.allowed_ips == actual.allowed_ips and desired.keepalive_s == actual.keepalive_s
    if same and endpoint is None:
        return None
    if endpoint is not desired.endpoint:
        desired = msgspec.structs.replace(desired, endpoint=endpoint)
    return PutPeer(desired, known=True, link=link)


def _endpoint(desired: Endpoint | None, actual: WgPeer, *, now: int) -> Endpoint | None:
    """The endpoint to write: none while the one in use is proven by a fresh handshake."""
    if desired == actual.endpoint or now - actual.latest_handshake < HANDSHAKE_FRESH_S:
        return None
    return desired


def _gained(put: PutPeer, actual: Mapping[WgPublicKey, WgPeer]) -> frozenset[Prefix]:
    """Allowed IPs that the peer gets and does not have."""
    known = actual.get(put.peer.public_key)
    return frozenset(put.peer.allowed_ips).difference(known.allowed_ips if known else ())


def _shrinks(puts: Iterable[PutPeer], actual: Mapping[WgPublicKey, WgPeer]) -> Iterator[PutPeer]:
    """Peers that hold what another is about to get: without it, until their own turn comes."""
    puts = tuple(puts)
    gained = frozenset[Prefix]().union(*(_gained(put, actual) for put in puts))
    for put in puts:
        if put.known and gained.intersection(held := actual[put.peer.public_key].allowed_ips):
            kept = tuple(prefix for prefix in held if prefix in put.peer.allowed_ips)
            shrunk = msgspec.structs.replace(put.peer, allowed_ips=kept, endpoint=None)
            yield PutPeer(shrunk, known=True, link=put.link)


def _bridge(desired: Resource, actual: Resource) -> Iterator[Change]:
    for name, link in sorted(desired.links.items()):
        if link.kind is LinkKind.BRIDGE and name not in actual.links:
            yield CreateBridge(name)


def _link_attributes(desired: Resource, actual: Resource) -> Iterator[Change]:
    for name, link in sorted(desired.links.items()):
        if name not in actual.links and link.kind in (LinkKind.PORT, LinkKind.LOOPBACK):
            continue  # the one is made whole by Attach, the other comes with the netns
        change = _attribute_difference(name, link, actual.links.get(name))
        if change != SetLink(name):
            yield change


def _attribute_difference(name: str, desired: Link, actual: Link | None) -> SetLink:
    if actual is None:
        return SetLink(name, desired.mtu_bytes, desired.mac, desired.master)
    return SetLink(
        name,
        desired.mtu_bytes if desired.mtu_bytes != actual.mtu_bytes else None,
        desired.mac if desired.mac != actual.mac else None,
        desired.master if desired.master != actual.master else None,
    )


def _sysctls(desired: Resource, actual: Resource) -> Iterator[Change]:
    for key, value in desired.sysctls.items():
        if actual.sysctls.get(key) != value:
            yield SetSysctl(key, value)


def _ups(desired: Resource, actual: Resource) -> Iterator[Change]:
    for name, link in sorted(desired.links.items()):
        known = actual.links.get(name)
        if link.up and not (known.up if known else link.kind is LinkKind.PORT):
            yield SetUp(name)


def _missing_addresses(desired: Resource, actual: Resource) -> Iterator[Change]:
    for name, link in sorted(desired.links.items()):
        known = actual.links[name].addresses if name in actual.links else frozenset()
        for address in sorted(link.addresses - known):
            yield AddAddress(name, address)


def _stale_addresses(desired: Resource, actual: Resource) -> Iterator[Change]:
    for name, link in sorted(actual.links.items()):
        if name in desired.links:
            for address in sorted(link.addresses - desired.links[name].addresses):
                yield DeleteAddress(name, address)


def _attachments(desired: Resource, actual: Resource) -> Iterator[Change]:
    for port, attachment in sorted(desired.attachments.items()):
        if actual.attachments.get(port) != attachment:
            yield Attach(attachment)
