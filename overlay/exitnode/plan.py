"""The difference between what an egress netns is and what it should be, as ordered changes. Pure.

Links of others in the egress netns are left alone: they lead nowhere, since nothing is forwarded
but between a leg and the uplink.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from overlay.exitnode import sets
from overlay.exitnode.daemons import Argv, Daemon
from overlay.exitnode.egress import (
    ACCEPT_RA,
    EGRESS_NETNS,
    LEG_LINK,
    LEG_PREFIX,
    NEXT_UPLINK,
    UPLINK_LINK,
    UPLINK_PORT,
    Egress,
    Leg,
)
from overlay.exitnode.sets import Contents
from overlay.model import Address, InterfaceAddress, Prefix
from overlay.netns.changes import (
    AddAddress,
    Change,
    CreateNetns,
    DeleteAddress,
    DeleteLink,
    ForgetFlows,
    LoadFirewall,
    RemoveNetns,
    SetSysctl,
    SetUp,
)
from overlay.netns.codec import KernelLink, Snapshot
from overlay.netns.state import LOOPBACK_LINK, ROUTE_PROTOCOL, Firewall

_DEFAULTS = (Prefix("0.0.0.0/0"), Prefix("::/0"))


class CreateUplink(msgspec.Struct, frozen=True, tag=True):
    """After the firewall, so that nothing comes by it that nobody looks at."""

    kind: str
    link: str
    vlan: int | None = None
    name: str = UPLINK_LINK

    def describe(self) -> str:
        return f"+ uplink {self.name}: {self.kind} on {self.link}"


class TakeUplink(msgspec.Struct, frozen=True, tag=True):
    """When the next uplink is made, and the one before is gone."""

    def describe(self) -> str:
        return f"~ uplink {NEXT_UPLINK} is {UPLINK_LINK} now"


class PlugUplink(msgspec.Struct, frozen=True, tag=True):
    """All that is on the uplink stays when its port moves to another bridge.

    It goes back when that is none: the kernel takes it out before it looks at where it goes.
    """

    link: str
    before: str | None = None

    def describe(self) -> str:
        return f"~ uplink {UPLINK_LINK}: a port of {self.link}"


class DeleteUplinkPort(msgspec.Struct, frozen=True, tag=True):
    """The port of a bridge in the underlay netns; the uplink goes with it."""

    def describe(self) -> str:
        return f"- link {UPLINK_PORT} in the underlay netns"


class StartDaemon(msgspec.Struct, frozen=True, tag=True):
    """Where it makes the uplink, in the place of making it."""

    daemon: Daemon

    def describe(self) -> str:
        return f"+ process {self.daemon.argv[0]}"


class StopDaemon(msgspec.Struct, frozen=True, tag=True):
    """Before what it would hold or change otherwise."""

    argv: Argv

    def describe(self) -> str:
        return f"- process {self.argv[0]}"


class RestartUplink(msgspec.Struct, frozen=True, tag=True):
    """A link that is up asks for no router again, and keeps what it was given before. The next
    round puts back what the kernel took along."""

    def describe(self) -> str:
        return f"~ link {UPLINK_LINK}: down and up"


class PutGateway(msgspec.Struct, frozen=True, tag=True):
    """After the addresses, by one of which it is a neighbour; in the place of any other of ours."""

    prefix: Prefix
    gateway: Address

    def describe(self) -> str:
        return f"+ route {self.prefix} via {self.gateway} {UPLINK_LINK}"


class DropGateway(msgspec.Struct, frozen=True, tag=True):
    """Before another is put: the kernel would keep both."""

    prefix: Prefix

    def describe(self) -> str:
        return f"- route {self.prefix} via {UPLINK_LINK}"


class AmendSets(msgspec.Struct, frozen=True, tag=True):
    """Guards and open ports, all at once; the rules stay, and with them what they count."""

    commands: str

    def describe(self) -> str:
        return f"~ guarded addresses and open ports of {EGRESS_NETNS}"


class JoinTenant(msgspec.Struct, frozen=True, tag=True):
    """Last: a tenant gets a leg when all that it leads to is there."""

    leg: Leg

    def describe(self) -> str:
        return f"+ leg {self.leg.link} to {self.leg.netns}"


EgressChange = (
    Change
    | CreateUplink
    | TakeUplink
    | PlugUplink
    | DeleteUplinkPort
    | StartDaemon
    | StopDaemon
    | RestartUplink
    | PutGateway
    | DropGateway
    | AmendSets
    | JoinTenant
)


class Actual(msgspec.Struct, frozen=True):
    """An egress netns as it is; `inside` is None when there is none."""

    underlay: Snapshot
    inside: Snapshot | None = None
    tenants: Mapping[str, Snapshot] = {}  # by name, of those tenant netns that are there
    sysctls: Mapping[str, str] = {}
    firewall: Firewall | None = None  # without what its sets hold
    held: Contents = sets.NOTHING  # by its sets and maps
    daemons: frozenset[Argv] = frozenset()  # daemons that run
    pinned: bool = False

    @property
    def addresses(self) -> tuple[InterfaceAddress, ...]:
        """Those of the uplink, but the kernel's own link-local one."""
        link = self.inside.link(UPLINK_LINK) if self.inside is not None else None
        if self.inside is None or link is None:
            return ()
        found = (a for a in self.inside.addresses if a.link == link.index and not a.automatic)
        return tuple(sorted(each.address for each in found if each.usable))


def plan(*, desired: Egress | None, firewall: Firewall | None, actual: Actual) -> Plan:
    """What to do, in order. `firewall` is the one that `desired` needs; None wants nothing left."""
    if desired is None or firewall is None:
        return tuple(_teardown(actual))
    return tuple(_build(desired, firewall, actual))


Plan = tuple[EgressChange, ...]


def _teardown(actual: Actual) -> Iterator[EgressChange]:
    for argv in sorted(actual.daemons):
        yield StopDaemon(argv)
    if actual.underlay.link(UPLINK_PORT) is not None:
        yield DeleteUplinkPort()
    if actual.inside is None:
        return
    # The netns may be held by somebody: without links it is an island.
    for link in sorted(link.name for link in actual.inside.links):
        if link in (UPLINK_LINK, NEXT_UPLINK) or link.startswith(LEG_PREFIX):
            yield DeleteLink(link)
    yield RemoveNetns(EGRESS_NETNS)


def _build(desired: Egress, firewall: Firewall, actual: Actual) -> Iterator[EgressChange]:
    if not actual.pinned:
        yield CreateNetns(EGRESS_NETNS)
    wanted = {leg.link for leg in desired.legs}
    inside = actual.inside or Snapshot((), (), ())
    # Who lost the exit is cut off before anything else.
    for link in inside.links:
        if link.name.startswith(LEG_PREFIX) and link.name not in wanted:
            yield DeleteLink(link.name)
    yield from _rules(desired, firewall, actual)
    if not _is_up(inside, LOOPBACK_LINK):
        yield SetUp(LOOPBACK_LINK)
    yield from _uplink(desired, inside, actual)
    for leg in desired.legs:
        # A tenant netns that is not there (yet) is joined once it is.
        if (tenant := actual.tenants.get(leg.netns)) and not stands(leg, inside, tenant):
            if inside.link(leg.link) is not None:
                yield DeleteLink(leg.link)
            yield JoinTenant(leg)


def _rules(desired: Egress, firewall: Firewall, actual: Actual) -> Iterator[EgressChange]:
    held = sets.contents(desired)
    if actual.firewall is None or actual.firewall.listing != firewall.listing:
        yield LoadFirewall(EGRESS_NETNS, sets.filled(firewall.ruleset, held))
    elif commands := sets.amendments(desired=held, actual=actual.held):
        yield AmendSets(commands)
    if marks := sets.forgotten(desired=held, actual=actual.held):
        yield ForgetFlows(EGRESS_NETNS, marks)


def _uplink(desired: Egress, inside: Snapshot, actual: Actual) -> Iterator[EgressChange]:
    uplink, link = desired.uplink, inside.link(UPLINK_LINK)
    if inside.link(NEXT_UPLINK) is not None:
        yield DeleteLink(NEXT_UPLINK)  # a pass died, or it cannot be made
    standing = None
    if link is not None and _fits(desired, link, actual):
        yield from _useless_daemons(desired, actual)
        standing = link
    elif link is not None and uplink.kind == "bridge" and _is_plugged(link, actual.underlay):
        yield PlugUplink(uplink.link, _bridge(actual.underlay))
        standing = link
    else:
        yield from _another(desired, link, actual)
    for key, value in desired.sysctls().items():
        if actual.sysctls.get(key) != value or (standing is None and UPLINK_LINK in key):
            yield SetSysctl(key, value)
            if standing is not None and key == ACCEPT_RA:
                yield RestartUplink()
    if standing is None or not standing.up:
        yield SetUp(UPLINK_LINK)
    yield from _on_uplink(desired, inside, standing)
    for daemon in desired.daemons():
        if daemon.inside and (standing is None or daemon.argv not in actual.daemons):
            yield StartDaemon(daemon)


def _on_uplink(
    desired: Egress, inside: Snapshot, link: KernelLink | None
) -> Iterator[EgressChange]:
    there = frozenset(_given(desired, inside, link)) if link is not None else frozenset()
    for address in sorted(desired.addresses - there):
        yield AddAddress(UPLINK_LINK, address)
    yield from _gateways(desired, inside if link is not None else Snapshot((), (), ()))
    for address in sorted(there - desired.addresses):
        yield DeleteAddress(UPLINK_LINK, address)


def _another(desired: Egress, link: KernelLink | None, actual: Actual) -> Iterator[EgressChange]:
    """Made before the one that is there goes: what cannot be made takes nothing away (EXIT-063)."""
    uplink, underlay = desired.uplink, actual.underlay
    makers = [daemon for daemon in desired.daemons() if not daemon.inside]
    create = CreateUplink(uplink.kind, uplink.link, uplink.vlan)
    is_beside = link is not None and not makers
    if underlay.link(UPLINK_PORT) is not None and not (link and _is_plugged(link, underlay)):
        yield DeleteUplinkPort()
    if is_beside:
        yield msgspec.structs.replace(create, name=NEXT_UPLINK)
    yield from map(StopDaemon, sorted(actual.daemons))
    if link is not None:
        yield DeleteLink(UPLINK_LINK)
    if is_beside:
        yield TakeUplink()
    else:
        yield from map(StartDaemon, makers) if makers else (create,)


def _is_plugged(link: KernelLink, underlay: Snapshot) -> bool:
    """Whether the port of a bridge is the other end of this link."""
    port = underlay.link(UPLINK_PORT)
    return port is not None and (port.index, port.other_end) == (link.other_end, link.index)


def _bridge(underlay: Snapshot) -> str | None:
    """Where the port is."""
    port = underlay.link(UPLINK_PORT)
    master = port.master if port is not None else None
    return next((link.name for link in underlay.links if link.index == master), None)


def _given(desired: Egress, inside: Snapshot, link: KernelLink) -> Iterator[InterfaceAddress]:
    """Addresses of the uplink that are ours to take: not what its network gave it."""
    for each in inside.addresses:
        if each.link == link.index and not each.automatic:
            family = 6 if ":" in each.address else 4
            if each.lasting or family not in desired.learnt:
                yield each.address


def _gateways(desired: Egress, inside: Snapshot) -> Iterator[EgressChange]:
    link, wanted = inside.link(UPLINK_LINK), desired.gateways()
    for prefix in _DEFAULTS:
        there = {
            route.gateway
            for route in inside.routes
            if link is not None
            and (route.prefix, route.link, route.protocol) == (prefix, link.index, ROUTE_PROTOCOL)
        }
        gateway = wanted.get(prefix)
        for _ in there - {gateway}:
            yield DropGateway(prefix)
        if gateway is not None and there != {gateway}:
            yield PutGateway(prefix, gateway)


def _useless_daemons(desired: Egress, actual: Actual) -> Iterator[EgressChange]:
    """Those of another uplink."""
    wanted = {daemon.argv for daemon in desired.daemons()}
    yield from map(StopDaemon, sorted(actual.daemons - wanted))


def _fits(desired: Egress, link: KernelLink, actual: Actual) -> bool:
    """Whether the uplink is of the kind and where it should be."""
    uplink, underlay = desired.uplink, actual.underlay
    if desired.is_shared:
        makers = {daemon.argv for daemon in desired.daemons() if not daemon.inside}
        return link.kind == "tun" and makers <= actual.daemons
    parent = underlay.link(uplink.link)
    if parent is None:
        return False
    if uplink.kind == "bridge":
        port = underlay.link(UPLINK_PORT)
        return (
            port is not None
            and _is_plugged(link, underlay)
            and port.master == parent.index
            and port.up
        )
    return (link.kind, link.other_end, link.vlan) == (uplink.kind, parent.index, uplink.vlan)


def stands(leg: Leg, inside: Snapshot, tenant: Snapshot) -> bool:
    """Whether the leg joins the two, with all that is on it."""
    outer, inner = inside.link(leg.link), tenant.link(LEG_LINK)
    if outer is None or inner is None:
        return False
    if (outer.index, inner.index) != (inner.other_end, outer.other_end):
        return False
    return (
        outer.up
        and inner.up
        and {leg.outside_v4, leg.outside_v6} <= _addresses(inside, outer)
        and {leg.inside_v4, leg.inside_v6} == _addresses(tenant, inner)
        and any((r.prefix, r.link) == (leg.range_v6, outer.index) for r in inside.routes)
        and {*_DEFAULTS}
        <= {
            route.prefix
            for route in tenant.routes
            if (route.link, route.protocol) == (inner.index, ROUTE_PROTOCOL)
        }
    )


def _addresses(snapshot: Snapshot, link: KernelLink) -> set[InterfaceAddress]:
    return {a.address for a in snapshot.addresses if a.link == link.index and not a.automatic}


def _is_up(snapshot: Snapshot, name: str) -> bool:
    link = snapshot.link(name)
    return link is not None and link.up
