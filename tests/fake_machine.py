"""A machine in memory that does what the kernel does, where convergence depends on it.

- A prefix belongs to the WireGuard peer that claimed it last.
- Deleting a link takes its addresses, routes, sysctls and device along, and a veth's other end.
- A link that goes down loses its routes and its IPv6 addresses; a route needs a link that is up.
- Below 1280 bytes of MTU there is no IPv6 on a link.
- A netns without pin is lost unless somebody holds it.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from overlay.addressing import MTU_MIN_BYTES
from overlay.errors import Unavailable
from overlay.model import (
    Address,
    InterfaceAddress,
    PeerTraffic,
    Prefix,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.netns.codec import KernelAddress, KernelLink, KernelRoute, KernelRule, Snapshot
from overlay.netns.dns import NameService
from overlay.netns.ports import Shell
from overlay.netns.state import MAIN_TABLE, ROUTE_PROTOCOL, Rule
from overlay.ports import DeviceRef, Secret

WIPE = '{"nftables": [{"flush": {"ruleset": null}}]}'
_GLOBAL_SYSCTLS = {
    "net/ipv4/ip_forward": "0",
    "net/ipv6/conf/all/forwarding": "0",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/all/accept_redirects": "1",
    "net/ipv4/conf/all/send_redirects": "1",
}
_LINK_SYSCTLS = {
    "net/ipv4/conf/{}/send_redirects": "1",
    "net/ipv4/conf/{}/rp_filter": "0",
    "net/ipv6/conf/{}/accept_ra": "1",
    "net/ipv6/conf/{}/accept_redirects": "1",
    "net/ipv6/conf/{}/accept_dad": "1",
    "net/ipv6/conf/{}/addr_gen_mode": "0",
}


@dataclass
class FakeDevice:
    public_key: WgPublicKey | None = None
    listen_port: int = 0
    peers: dict[WgPublicKey, WgPeer] = field(default_factory=dict)


@dataclass
class FakeLink:
    index: int
    name: str
    kind: str
    mtu_bytes: int = 1500
    up: bool = False
    mac: str | None = "02:00:00:00:00:ff"
    master: str | None = None
    learns: bool = False
    addresses: list[InterfaceAddress] = field(default_factory=list)
    device: FakeDevice | None = None
    other_end: tuple[FakeNetns, str] | None = None


@dataclass
class FakeNetns:
    links: dict[str, FakeLink] = field(default_factory=dict)
    routes: list[KernelRoute] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=lambda: dict(_GLOBAL_SYSCTLS))
    ruleset: str | None = None


class FakeMachine:
    """Kernel, WireGuard, nftables and pins of one machine."""

    def __init__(self) -> None:
        self._indexes = itertools.count(2)
        self.underlay = self.new_netns()
        self.pinned: dict[str, FakeNetns] = {}
        self.held: dict[str, FakeNetns] = {}
        self.workloads: dict[str, FakeNetns] = {}
        self.names: dict[str, NameService] = {}  # what is served, by netns
        self.no_names: Unavailable | None = None  # why no name server starts
        self.on_name_server_end: Callable[[str], None] = lambda _: None
        self._tenants: list[FakeNetns] = []

    @property
    def shell(self) -> Shell:
        return Shell(
            FakeKernel(self),
            FakeWireGuard(self),
            FakeFilter(self),
            FakePins(self),
            FakeNameServers(self),
        )

    def new_netns(self) -> FakeNetns:
        netns = FakeNetns()
        netns.links["lo"] = FakeLink(1, "lo", "", mtu_bytes=65536, mac=None)
        return netns

    def new_link(self, netns: FakeNetns, name: str, kind: str) -> FakeLink:
        if name in netns.links:
            raise Unavailable("File exists")
        link = netns.links[name] = FakeLink(next(self._indexes), name, kind)
        netns.sysctls |= {key.format(name): value for key, value in _LINK_SYSCTLS.items()}
        return link

    def bury(self) -> None:
        """Netns that nobody holds or names die, and their links with them."""
        alive = [*self.pinned.values(), *self.held.values()]
        for netns in self._tenants:
            if not any(netns is other for other in alive):
                for name in [name for name in netns.links if name != "lo"]:
                    if name in netns.links:
                        _delete(netns, name)
        self._tenants = alive

    def netns(self, path: str | None) -> FakeNetns:
        if path is None:
            return self.underlay
        for known, prefix in ((self.held, "held/"), (self.workloads, "")):
            if (found := known.get(path.removeprefix(prefix))) is not None:
                return found
        raise Unavailable(f"no netns {path}")

    def link(self, path: str | None, name: str) -> FakeLink:
        if (link := self.netns(path).links.get(name)) is None:
            raise Unavailable(f"there is no link {name}")
        return link


class FakeKernel:
    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    async def read(self, netns: str | None) -> Snapshot:
        it = self._machine.netns(netns)
        return Snapshot(
            tuple(self._told(it, link) for link in it.links.values()),
            tuple(
                KernelAddress(link.index, address, automatic=False)
                for link in it.links.values()
                for address in link.addresses
            ),
            tuple(it.routes),
            tuple(KernelRule(rule, ROUTE_PROTOCOL) for rule in it.rules),
        )

    def _told(self, netns: FakeNetns, link: FakeLink) -> KernelLink:
        master = netns.links[link.master].index if link.master else None
        far = link.other_end
        return KernelLink(
            link.index,
            link.name,
            link.kind,
            link.up,
            link.mtu_bytes,
            link.mac,
            master,
            link.learns,
            far[0].links[far[1]].index if far else None,
        )

    async def forget_flows(self, netns: str, marks: Iterable[int]) -> None:
        self._machine.netns(netns)

    def has_link(self, netns: str | None, name: str) -> bool:
        try:
            return name in self._machine.netns(netns).links
        except Unavailable:
            return False

    async def create_bridge(self, netns: str, name: str) -> None:
        if not self.has_link(netns, name):
            self._machine.new_link(self._machine.netns(netns), name, "bridge")

    async def create_port(
        self, netns: str, name: str, *, workload_netns: str, workload_link: str
    ) -> None:
        here, there = self._machine.netns(netns), self._machine.netns(workload_netns)
        if name in here.links or workload_link in there.links:
            raise Unavailable("File exists")
        self._machine.new_link(here, name, "veth").other_end = (there, workload_link)
        self._machine.new_link(there, workload_link, "veth").other_end = (here, name)

    async def move_link(self, name: str, *, netns: str, new_name: str) -> None:
        link, target = self._machine.link(None, name), self._machine.netns(netns)
        if new_name in target.links:
            raise Unavailable("File exists")
        moved = self._machine.new_link(target, new_name, link.kind)
        moved.device, moved.mtu_bytes = link.device, link.mtu_bytes
        _delete(self._machine.underlay, name)

    async def set_link(
        self,
        netns: str | None,
        name: str,
        *,
        mtu_bytes: int | None = None,
        mac: str | None = None,
        master: str | None = None,
        up: bool | None = None,
    ) -> None:
        it, link = self._machine.netns(netns), self._machine.link(netns, name)
        link.mac = mac or link.mac
        link.master = self._machine.link(netns, master).name if master else link.master
        link.learns = link.learns or master is not None
        if mtu_bytes is not None:
            link.mtu_bytes = mtu_bytes
        if up is not None:
            link.up = up
        if not link.up:
            it.routes = [route for route in it.routes if route.link != link.index]
        if up is False or link.mtu_bytes < MTU_MIN_BYTES:
            link.addresses = [address for address in link.addresses if ":" not in address]

    async def pin_mac(self, netns: str, port: str, mac: str) -> None:
        self._machine.link(netns, port).learns = False

    async def delete_link(self, netns: str | None, name: str) -> None:
        if self.has_link(netns, name):
            _delete(self._machine.netns(netns), name)

    async def add_address(self, netns: str, link: str, address: InterfaceAddress) -> None:
        it = self._machine.link(netns, link)
        if ":" in address and it.mtu_bytes < MTU_MIN_BYTES:
            raise Unavailable("Permission denied")
        if address not in it.addresses:
            it.addresses.append(address)

    async def delete_address(self, netns: str, link: str, address: InterfaceAddress) -> None:
        it = self._machine.link(netns, link)
        it.addresses = [known for known in it.addresses if known != address]

    async def add_route(
        self,
        netns: str,
        prefix: Prefix,
        link: str,
        *,
        gateway: Address | None = None,
        table: int = MAIN_TABLE,
    ) -> None:
        it = self._machine.link(netns, link)
        if not it.up:
            raise Unavailable("Network is down")
        route = KernelRoute(prefix, it.index, ROUTE_PROTOCOL, gateway, table)
        routes = self._machine.netns(netns).routes
        if route not in routes:
            routes.append(route)

    async def delete_route(
        self, netns: str, prefix: Prefix, link: str, *, table: int = MAIN_TABLE
    ) -> None:
        it, index = self._machine.netns(netns), self._machine.link(netns, link).index
        gone = (prefix, index, table)
        it.routes = [r for r in it.routes if (r.prefix, r.link, r.table) != gone]

    async def add_rule(self, netns: str, rule: Rule) -> None:
        rules = self._machine.netns(netns).rules
        if rule not in rules:
            rules.append(rule)

    async def delete_rule(self, netns: str, rule: Rule) -> None:
        it = self._machine.netns(netns)
        it.rules = [known for known in it.rules if known != rule]

    def read_sysctls(self, netns: str, keys: Iterable[str]) -> dict[str, str]:
        known = self._machine.netns(netns).sysctls
        return {key: known[key] for key in keys if key in known}

    def write_sysctl(self, netns: str, key: str, value: str) -> None:
        if key not in (known := self._machine.netns(netns).sysctls):
            raise Unavailable(f"no sysctl {key}")
        known[key] = value

    @asynccontextmanager
    async def forgotten(self, netns: str) -> AsyncIterator[None]:
        yield


def _delete(netns: FakeNetns, name: str) -> None:
    link = netns.links.pop(name)
    netns.routes = [route for route in netns.routes if route.link != link.index]
    netns.sysctls = {k: v for k, v in netns.sysctls.items() if name not in k.split("/")}
    for other in netns.links.values():
        other.master = None if other.master == name else other.master
    if link.other_end and link.other_end[1] in link.other_end[0].links:
        far, far_name = link.other_end
        far.links[far_name].other_end = None
        _delete(far, far_name)


class FakeWireGuard:
    name: Literal["kernel", "wireguard-go"] = "kernel"

    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def _device(self, ref: DeviceRef) -> FakeDevice | None:
        name = ref.birth_name if ref.netns is None else ref.link
        link = self._machine.netns(ref.netns).links.get(name)
        return link.device if link else None

    async def create(self, birth_name: str) -> None:
        if birth_name not in self._machine.underlay.links:
            link = self._machine.new_link(self._machine.underlay, birth_name, "wireguard")
            link.device = FakeDevice()

    async def read(self, ref: DeviceRef) -> WgDevice | None:
        if (it := self._device(ref)) is None:
            return None
        return WgDevice(it.public_key, it.listen_port, dict(it.peers))

    async def read_traffic(self, ref: DeviceRef) -> dict[WgPublicKey, PeerTraffic]:
        return {}

    async def write(
        self,
        ref: DeviceRef,
        *,
        private_key: Secret | None = None,
        listen_port: int | None = None,
        put: Sequence[WgPeer] = (),
        drop: Iterable[WgPublicKey] = (),
    ) -> None:
        if (it := self._device(ref)) is None:
            raise Unavailable("no such device")
        if private_key is not None:
            it.public_key = fake_public(private_key)
            it.peers.pop(it.public_key, None)
        it.listen_port = it.listen_port if listen_port is None else listen_port
        for key in drop:
            it.peers.pop(key, None)
        for peer in put:
            put_peer(it.peers, peer)

    async def retire(self, birth_name: str) -> None:
        pass


def fake_public(private_key: Secret) -> WgPublicKey:
    return WgPublicKey(bytes(255 - octet for octet in private_key.reveal()))


def put_peer(peers: dict[WgPublicKey, WgPeer], peer: WgPeer) -> None:
    for key, other in peers.items():
        left = tuple(prefix for prefix in other.allowed_ips if prefix not in peer.allowed_ips)
        peers[key] = msgspec.structs.replace(other, allowed_ips=left)
    known = peers.get(peer.public_key)
    peers[peer.public_key] = msgspec.structs.replace(
        peer,
        endpoint=peer.endpoint or (known.endpoint if known else None),
        latest_handshake=known.latest_handshake if known else 0,
    )


class FakeFilter:
    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def load(self, netns: str, ruleset: str) -> None:
        self._machine.netns(netns).ruleset = None if ruleset == WIPE else ruleset

    def amend(self, netns: str, commands: str) -> None:
        there = self._machine.netns(netns)
        there.ruleset = f"{there.ruleset} and {commands}"

    def listing(self, netns: str) -> str | None:
        ruleset = self._machine.netns(netns).ruleset
        return None if ruleset is None else self.normal_form(ruleset)

    def normal_form(self, ruleset: str) -> str:
        return msgspec.json.encode([{"listing of": ruleset}]).decode()


class FakePins:
    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    def path(self, name: str) -> str | None:
        if name in self._machine.pinned:
            self._machine.held.setdefault(name, self._machine.pinned[name])
        return f"held/{name}" if name in self._machine.held else None

    def is_pinned(self, name: str) -> bool:
        held = self._machine.held.get(name) if self.path(name) else None
        return held is not None and self._machine.pinned.get(name) is held

    def create(self, name: str) -> None:
        if self.path(name) is None:
            self._machine.held[name] = self._machine.new_netns()
        self._machine.pinned[name] = self._machine.held[name]
        self._machine.bury()

    def remove(self, name: str) -> None:
        for known in (self._machine.pinned, self._machine.held):
            known.pop(name, None)
        self._machine.bury()

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._machine.pinned))


class FakeNameServers:
    def __init__(self, machine: FakeMachine) -> None:
        self._machine = machine

    async def serve(self, netns: str, service: NameService) -> None:
        if self._machine.no_names is not None:
            raise self._machine.no_names
        self._machine.names[netns] = service

    async def retire(self, netns: str) -> None:
        self._machine.names.pop(netns, None)

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._machine.names))

    def follow(self, on_end: Callable[[str], None]) -> None:
        self._machine.on_name_server_end = on_end
