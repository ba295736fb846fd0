"""The convergence law, written once and run on the fake machine and on a real kernel.

Whatever was done to a network resource, by hand or by a pass that died, one pass brings it to the
desired state and the next one finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from hypothesis import strategies as st

from overlay.addressing import (
    address_of,
    bridge_mac,
    host_address,
    outside,
    subnet_v4,
    subnet_v6,
)
from overlay.errors import Unavailable
from overlay.model import (
    AllowRule,
    Endpoint,
    NetworkId,
    NetworkResource,
    NodeId,
    Prefix,
    WgPeer,
    WgPublicKey,
)
from overlay.netns.converge import Configurator
from overlay.netns.observe import device_ref
from overlay.netns.ports import Shell
from overlay.netns.resource import Drain, desired_resource, flow_mark, workload_attachment
from overlay.netns.state import (
    BRIDGE_LINK,
    DRAIN_LINK,
    DRAIN_TABLE,
    EVERYWHERE,
    WG_LINK,
    Resource,
    Rule,
    absent_resource,
    birth_link,
)
from overlay.ports import Secret

NETNS = "n-abcdefghijklm"
RANGE_V4, RANGE_V6 = Prefix("10.7.0.0/16"), Prefix("fd07:1:2::/48")
WORKLOADS = ("wa", "wb")  # the machine says at which paths
KEYS = tuple(WgPublicKey(bytes([n]) * 32) for n in range(1, 7))
LAST_WORKLOAD = 254


class FixedClock:
    def now(self) -> datetime:
        return datetime(2030, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


class Machine(Protocol):
    """What the law needs of a machine beside its shell."""

    shell: Shell

    def key(self, n: int) -> tuple[Secret, WgPublicKey]: ...

    def workload(self, name: str) -> str:
        """Path of a workload's netns."""

    def unpin(self, netns: str) -> None:
        """What `ip netns del` does."""

    def wipe(self) -> str:
        """A ruleset that leaves no table."""

    def restart(self) -> None:
        """What dies with a process is lost."""


@dataclass(frozen=True)
class Goal:
    """A desired state, without what only a machine can tell."""

    present: bool
    key: int
    resource: NetworkResource
    peers: tuple[WgPeer, ...]
    hosts: tuple[tuple[int, str], ...]  # workload's host number, which netns
    devices: tuple[Prefix, ...]
    drains: int | None = None  # the index of an exit that does; None: the network has no exits

    def on(self, machine: Machine) -> Resource:
        if not self.present:
            return absent_resource(NETNS)
        return desired_resource(
            self.resource,
            device_key=machine.key(self.key)[1],
            peers={peer.public_key: peer for peer in self.peers},
            attachments=[
                workload_attachment(
                    self.resource,
                    name=f"w{host}",
                    netns=machine.workload(workload),
                    link=f"eth{host}",
                    host=host,
                )
                for host, workload in self.hosts
            ],
            devices=self.devices,
            has_exits=self.drains is not None,
            way_out=flow_mark(1),
            drain=None if self.drains is None else drain(self.drains),
        )


def drain(index: int) -> Drain:
    """An exit that drains: no peer of a goal."""
    subnets = (subnet_v4(RANGE_V4, index), subnet_v6(RANGE_V6, index))
    allowed = tuple(sorted((*subnets, *outside(RANGE_V4, RANGE_V6))))
    key = WgPublicKey(bytes([100 + index]) * 32)
    return Drain(flow_mark(index), WgPeer(key, allowed, ENDPOINTS[1], 25), subnets)


def network_resource(
    *, index: int = 3, mtu_bytes: int = 1420, policy: tuple[AllowRule, ...] | None = None
) -> NetworkResource:
    v4, v6 = subnet_v4(RANGE_V4, index), subnet_v6(RANGE_V6, index)
    return NetworkResource(
        network=NetworkId("net1test"),
        name="test",
        netns=NETNS,
        index=index,
        range_v4=RANGE_V4,
        range_v6=RANGE_V6,
        subnet_v4=v4,
        subnet_v6=v6,
        gateway_v4=host_address(v4, 1),
        gateway_v6=host_address(v6, 1),
        bridge_mac=bridge_mac(NetworkId("net1test"), NodeId("node1test")),
        listen_port=51820 + index,
        mtu_bytes=mtu_bytes,
        policy=policy,
    )


PREFIXES = tuple(
    prefix
    for index in range(10, 14)
    for prefix in (subnet_v4(RANGE_V4, index), subnet_v6(RANGE_V6, index))
)
ENDPOINTS = (
    None,
    Endpoint(address_of(host_address(Prefix("192.0.2.0/24"), 7)), 51820),
    Endpoint(address_of(host_address(Prefix("2001:db8::/64"), 7)), 51821),
)
POLICIES = (
    None,
    (),
    (
        AllowRule(
            source=(RANGE_V4, RANGE_V6), to=(RANGE_V4, RANGE_V6), protocol="tcp", ports=((22, 80),)
        ),
    ),
)


@st.composite
def peers(draw: st.DrawFn) -> tuple[WgPeer, ...]:
    keys = draw(st.lists(st.sampled_from(KEYS), unique=True))
    if not keys:
        return ()
    owners = draw(st.tuples(*(st.sampled_from((None, *keys)) for _ in PREFIXES)))
    return tuple(
        WgPeer(
            public_key=key,
            allowed_ips=tuple(
                sorted(p for p, owner in zip(PREFIXES, owners, strict=True) if owner == key)
            ),
            endpoint=draw(st.sampled_from(ENDPOINTS)),
            keepalive_s=draw(st.sampled_from((0, 25))),
        )
        for key in sorted(keys)
    )


goals = st.builds(
    Goal,
    present=st.sampled_from((True, True, True, False)),
    key=st.integers(0, 1),
    resource=st.builds(
        network_resource,
        index=st.integers(2, 4),
        mtu_bytes=st.sampled_from((1420, 1380)),
        policy=st.sampled_from(POLICIES),
    ),
    peers=peers(),
    hosts=st.lists(
        st.tuples(st.sampled_from((2, 3, LAST_WORKLOAD)), st.sampled_from(WORKLOADS)),
        unique_by=lambda pair: pair[0],
    ).map(tuple),
    devices=st.sampled_from(((), (PREFIXES[0], PREFIXES[1]))),
    drains=st.sampled_from((None, None, 20, 21)),
)

Blow = Callable[[Machine, str], Awaitable[Any]]


def _on_link(name: str, **settings: Any) -> Blow:
    return lambda machine, path: machine.shell.kernel.set_link(path, name, **settings)


def _deleted(name: str) -> Blow:
    return lambda machine, path: machine.shell.kernel.delete_link(path, name)


def _stray_route(prefix: Prefix, link: str) -> Blow:
    return lambda machine, path: machine.shell.kernel.add_route(path, prefix, link)


def _lost_route(prefix: Prefix) -> Blow:
    return lambda machine, path: machine.shell.kernel.delete_route(path, prefix, WG_LINK)


def _stray_address(text: Any) -> Blow:
    return lambda machine, path: machine.shell.kernel.add_address(path, BRIDGE_LINK, text)


def _lost_addresses(length: str) -> Blow:
    async def blow(machine: Machine, path: str) -> None:
        snapshot = await machine.shell.kernel.read(path)
        for found in snapshot.addresses:
            if found.address.endswith(length) and not found.automatic:
                await machine.shell.kernel.delete_address(path, BRIDGE_LINK, found.address)

    return blow


def _sysctl(key: str, value: str) -> Blow:
    async def blow(machine: Machine, path: str) -> None:
        machine.shell.kernel.write_sysctl(path, key, value)

    return blow


def _on_device(**settings: Any) -> Blow:
    return lambda machine, path: machine.shell.wireguard.write(device_ref(NETNS, path), **settings)


async def _other_key(machine: Machine, path: str) -> None:
    await machine.shell.wireguard.write(device_ref(NETNS, path), private_key=machine.key(2)[0])


async def _wiped(machine: Machine, path: str) -> None:
    machine.shell.packet_filter.load(path, machine.wipe())


async def _unpinned(machine: Machine, path: str) -> None:
    machine.unpin(NETNS)


async def _restarted(machine: Machine, path: str) -> None:
    machine.restart()


async def _stray_port(machine: Machine, path: str) -> None:
    await machine.shell.kernel.create_port(
        path, "p-77", workload_netns=machine.workload("wa"), workload_link="stray"
    )
    await machine.shell.kernel.set_link(path, "p-77", master=BRIDGE_LINK, up=True)


async def _bridge_is_something_else(machine: Machine, path: str) -> None:
    await machine.shell.kernel.delete_link(path, BRIDGE_LINK)
    await machine.shell.kernel.create_port(
        path, BRIDGE_LINK, workload_netns=machine.workload("wa"), workload_link="stray2"
    )


def _half_born(link: str) -> Blow:
    async def blow(machine: Machine, path: str) -> None:
        await machine.shell.kernel.delete_link(path, link)
        await machine.shell.wireguard.retire(birth_link(NETNS, link))
        await machine.shell.wireguard.create(birth_link(NETNS, link))

    return blow


def _stray_rule(rule: Rule) -> Blow:
    return lambda machine, path: machine.shell.kernel.add_rule(path, rule)


async def _rules_gone(machine: Machine, path: str) -> None:
    for found in (await machine.shell.kernel.read(path)).rules:
        if found.rule.table == DRAIN_TABLE:
            await machine.shell.kernel.delete_rule(path, found.rule)


async def _drain_routes_gone(machine: Machine, path: str) -> None:
    for prefix in EVERYWHERE:
        await machine.shell.kernel.delete_route(path, prefix, DRAIN_LINK, table=DRAIN_TABLE)


async def _drain_without_peer(machine: Machine, path: str) -> None:
    ref = device_ref(NETNS, path, DRAIN_LINK)
    await machine.shell.wireguard.write(ref, drop=[drain(n).peer.public_key for n in (20, 21)])


def _in_workload(act: Callable[[Machine, str, str], Awaitable[None]]) -> Blow:
    async def blow(machine: Machine, path: str) -> None:
        for workload in map(machine.workload, WORKLOADS):
            snapshot = await machine.shell.kernel.read(workload)
            for link in snapshot.links:
                if link.name.startswith("eth"):
                    await act(machine, workload, link.name)

    return blow


async def _workload_down(machine: Machine, workload: str, link: str) -> None:
    await machine.shell.kernel.set_link(workload, link, up=False)


async def _workload_without(machine: Machine, workload: str, link: str) -> None:
    await machine.shell.kernel.delete_link(workload, link)


BLOWS: dict[str, Blow] = {
    "wg0 deleted": _deleted(WG_LINK),
    "br0 deleted": _deleted(BRIDGE_LINK),
    "port deleted": _deleted("p-2"),
    "wg0 down": _on_link(WG_LINK, up=False),
    "br0 down": _on_link(BRIDGE_LINK, up=False),
    "port down": _on_link("p-3", up=False),
    "br0 without IPv6": _on_link(BRIDGE_LINK, mtu_bytes=1000),
    "wg0 other mtu": _on_link(WG_LINK, mtu_bytes=1300),
    "br0 other mac": _on_link(BRIDGE_LINK, mac="02:00:00:00:00:77"),
    "br0 without IPv4 address": _lost_addresses("/24"),
    "br0 without IPv6 address": _lost_addresses("/64"),
    "stray IPv4 address": _stray_address("10.99.0.1/24"),
    "stray IPv6 address": _stray_address("fd99::1/64"),
    "IPv4 range route gone": _lost_route(RANGE_V4),
    "IPv6 range route gone": _lost_route(RANGE_V6),
    "stray IPv4 route": _stray_route(Prefix("10.98.0.0/16"), BRIDGE_LINK),
    "stray IPv6 route": _stray_route(Prefix("fd98::/48"), WG_LINK),
    "second IPv4 range route": _stray_route(RANGE_V4, BRIDGE_LINK),
    "second IPv6 range route": _stray_route(RANGE_V6, BRIDGE_LINK),
    "no forwarding": _sysctl("net/ipv4/ip_forward", "0"),
    "no IPv6 forwarding": _sysctl("net/ipv6/conf/all/forwarding", "0"),
    "no reverse path filter": _sysctl("net/ipv4/conf/all/rp_filter", "0"),
    "no firewall": _wiped,
    "peers dropped": _on_device(drop=KEYS[:3]),
    "stray peer with everybody's prefixes": _on_device(
        put=[WgPeer(KEYS[5], tuple(sorted(PREFIXES)), ENDPOINTS[1], 13)]
    ),
    "other listen port": _on_device(listen_port=40000),
    "other key": _other_key,
    "unpinned": _unpinned,
    "restarted": _restarted,
    "stray port": _stray_port,
    "br0 is something else": _bridge_is_something_else,
    "half born": _half_born(WG_LINK),
    "wg1 deleted": _deleted(DRAIN_LINK),
    "wg1 down": _on_link(DRAIN_LINK, up=False),
    "wg1 half born": _half_born(DRAIN_LINK),
    "wg1 without peer": _drain_without_peer,
    "wg1 with reverse path filter": _sysctl(f"net/ipv4/conf/{DRAIN_LINK}/rp_filter", "0"),
    "stray rule": _stray_rule(Rule(4, 77, 254)),
    "stray IPv6 rule": _stray_rule(Rule(6, 77, DRAIN_TABLE, priority=99)),
    "rules gone": _rules_gone,
    "drain routes gone": _drain_routes_gone,
    "workload link down": _in_workload(_workload_down),
    "workload link deleted": _in_workload(_workload_without),
}

blows = st.lists(st.sampled_from(sorted(BLOWS)), max_size=6)


class Killed(BaseException):
    """The process dies here. No `except Exception` catches it."""


class Mortal:
    """A part of a shell whose process dies before its n-th write."""

    WRITES = frozenset(
        {"create_bridge", "create_port", "move_link", "set_link", "delete_link", "pin_mac"}
        | {"add_address", "delete_address", "add_route", "delete_route", "write_sysctl"}
        | {"add_rule", "delete_rule"}
        | {"load", "create", "remove", "write", "retire"}
    )

    def __init__(self, part: Any, budget: list[int]) -> None:
        self._part = part
        self._budget = budget

    def __getattr__(self, name: str) -> Any:
        if name in self.WRITES:
            if self._budget[0] == 0:
                raise Killed
            self._budget[0] -= 1
        return getattr(self._part, name)


def mortal(shell: Shell, writes: int) -> Shell:
    budget = [writes]
    return Shell(
        Mortal(shell.kernel, budget),
        Mortal(shell.wireguard, budget),
        Mortal(shell.packet_filter, budget),
        Mortal(shell.pins, budget),
        Mortal(shell.name_servers, budget),
    )


async def check_law(
    machine: Machine, *, before: Goal, done: Iterable[str], after: Goal, dies_after: int
) -> None:
    """From `before`, through blows and a death, to `after`, and away."""
    await converge(machine, machine.shell, before)
    for name in done:
        await strike(machine, name)
    try:
        await converge(machine, mortal(machine.shell, dies_after), after)
    except Killed:
        machine.restart()
    await converge(machine, machine.shell, after)
    configurator = Configurator(machine.shell, clock=FixedClock())
    assert await configurator.plan(after.on(machine)) == ()
    await assert_holds(machine, after.on(machine))
    await configurator.remove(NETNS)
    assert await configurator.list_owned() == ()


async def converge(machine: Machine, shell: Shell, goal: Goal) -> None:
    await Configurator(shell, clock=FixedClock()).converge(
        goal.on(machine), private_key=machine.key(goal.key)[0]
    )


async def strike(machine: Machine, name: str) -> None:
    """Do it if it can be done to what is there."""
    if (path := machine.shell.pins.path(NETNS)) is None:
        return
    try:
        await BLOWS[name](machine, path)
    except Unavailable:
        return


async def assert_holds(machine: Machine, desired: Resource) -> None:
    """Compared field by field, without the planner."""
    configurator = Configurator(machine.shell, clock=FixedClock())
    actual = (await configurator.observe(desired)).actual
    assert actual.present == desired.present
    assert not actual.newborn
    assert actual.links == desired.links
    assert actual.routes == desired.routes
    assert actual.rules == desired.rules
    assert actual.sysctls == desired.sysctls
    assert actual.attachments == desired.attachments
    if desired.firewall is not None:
        assert actual.firewall is not None
        listing = machine.shell.packet_filter.normal_form(desired.firewall.ruleset)
        assert actual.firewall.listing == listing
    for wanted, there in ((desired.device, actual.device), (desired.drain, actual.drain)):
        if wanted is None:
            assert there is None
            continue
        assert there is not None
        assert there.public_key == wanted.public_key
        assert there.listen_port == wanted.listen_port or not wanted.listen_port
        assert _told(there.peers.values()) == _told(wanted.peers.values())


def _told(found: Iterable[WgPeer]) -> dict[WgPublicKey, WgPeer]:
    """Without endpoints: a peer for which none is desired keeps what it had."""
    return {
        peer.public_key: msgspec.structs.replace(peer, endpoint=None, latest_handshake=0)
        for peer in found
    }
