"""rtnetlink and sysctls of any netns. Decides nothing.

A request is answered before `send` returns, so nothing here waits for long. Moving a link to
another netns takes the kernel 20 to 40 ms, which a thread waits for.
"""

from __future__ import annotations

import errno
import os
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from overlay.errors import Unavailable
from overlay.model import Address, InterfaceAddress, Prefix
from overlay.netns import rtnl
from overlay.netns.codec import Snapshot, parse_address, parse_link, parse_route, parse_rule
from overlay.netns.flows import WHERE_MASK
from overlay.netns.lean_pyroute2 import AsyncIPRoute, IPRoute, NetlinkError, NFCTSocket
from overlay.netns.namespaces import PIN_DIR, hop, open_socket
from overlay.netns.state import MAIN_TABLE, NETNS_PREFIX, ROUTE_PROTOCOL, Rule
from overlay.netns.waiting import Turns, in_thread

MAX_SOCKETS = 64  # kept open; each is 2 file descriptors and 40 KiB
_LISTING_BYTES = 64 * 1024  # twice what the kernel puts into one datagram
GATEWAY_METRIC = 2048  # above 1024: a default route of the workload's own wins
SYSCTL_DIR = Path("/proc/sys")
_IFA_F_NODAD = 0x02  # linux/if_addr.h
_NTF_MASTER, _NUD_STATIC = 0x04, 0x40  # linux/neighbour.h: NUD_NOARP, which bridge(8) calls static
_SCOPE_NOWHERE = 255  # linux/rtnetlink.h; in a deletion: any scope
_ALREADY = frozenset((errno.EEXIST,))
_GONE = frozenset((errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL))
_OWN_NETNS = (f"{PIN_DIR}/{NETNS_PREFIX}", "/proc/self/fd/")
# One queue per veth end: with more the driver waits for a grace period to drop the surplus.
_ONE_QUEUE = {"num_tx_queues": 1, "num_rx_queues": 1}


class _Kept(msgspec.Struct):
    ipr: Any
    identity: tuple[int, int]


class Rtnetlink:
    """Implements `Kernel`. Sockets of recently used netns stay open until `forget` or `close`."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str | None, _Kept] = OrderedDict()
        # A netlink socket answers one dump at a time: a second one is refused with EBUSY.
        self._turns = Turns()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._kept:
            self._kept.popitem()[1].ipr.close()

    @asynccontextmanager
    async def forgotten(self, netns: str) -> AsyncIterator[None]:
        identity = _identity(netns)
        paths = {path for path, kept in self._kept.items() if kept.identity == identity}
        async with AsyncExitStack() as turns:
            for path in sorted(paths | {netns}, key=str):
                # Closed under somebody who waits for its answer, a socket never gives one.
                await turns.enter_async_context(self._turns.of(path))
                if (kept := self._kept.get(path)) is not None and kept.identity == identity:
                    self._kept.pop(path).ipr.close()
            yield

    async def read(self, netns: str | None) -> Snapshot:
        """It waits for nobody: the kernel makes a listing while it is read."""
        try:
            with open_socket(
                netns, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE
            ) as channel:
                links = [*map(rtnl.decode_link, _list(channel, rtnl.GET_LINKS))]
                addresses = [*map(rtnl.decode_address, _list(channel, rtnl.GET_ADDRESSES))]
                routes = [*map(rtnl.decode_route, _list(channel, rtnl.GET_ROUTES))]
                rules = [*map(rtnl.decode_rule, _list(channel, rtnl.GET_RULES))]
        except OSError as exc:
            raise Unavailable(f"the kernel lists nothing: {exc.strerror}") from exc
        return Snapshot(
            tuple(map(parse_link, links)),
            tuple(map(parse_address, addresses)),
            tuple(route for route in map(parse_route, routes) if route is not None),
            tuple(rule for rule in map(parse_rule, rules) if rule is not None),
        )

    async def forget_flows(self, netns: str, marks: Iterable[int]) -> None:
        await in_thread(_forget_flows, netns, tuple(marks))

    def has_link(self, netns: str | None, name: str) -> bool:
        return _find(netns, name) is not None

    async def create_bridge(self, netns: str, name: str) -> None:
        async with self._socket(netns) as ipr:
            await _tried(ipr.link("add", ifname=name, kind="bridge"), ignore=_ALREADY)

    async def create_port(
        self, netns: str | None, name: str, *, workload_netns: str, workload_link: str
    ) -> None:
        target = _open(workload_netns)
        try:
            async with self._socket(netns) as ipr:
                peer = {"ifname": workload_link, "net_ns_fd": target, **_ONE_QUEUE}
                await _tried(ipr.link("add", ifname=name, kind="veth", peer=peer, **_ONE_QUEUE))
        finally:
            os.close(target)

    async def create_on(
        self, link: str, *, kind: str, netns: str, name: str, vlan: int | None = None
    ) -> None:
        target = _open(netns)
        try:
            async with self._socket(None) as ipr:
                what = {"vlan_id": vlan} if kind == "vlan" else {"macvlan_mode": "bridge"}
                parent = _index(None, link)
                await _tried(
                    ipr.link("add", ifname=name, kind=kind, link=parent, net_ns_fd=target, **what)
                )
        finally:
            os.close(target)

    async def move_link(self, name: str, *, netns: str, new_name: str) -> None:
        target = _open(netns)
        try:
            await in_thread(_move, _index(None, name), target, new_name)
        finally:
            os.close(target)

    async def rename_link(self, netns: str, name: str, *, new_name: str) -> None:
        async with self._socket(netns) as ipr:
            await _tried(ipr.link("set", index=_index(netns, name), ifname=new_name))

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
        async with self._socket(netns) as ipr:
            wanted = {
                "mtu": mtu_bytes,
                "address": mac,
                "master": None if master is None else _index(netns, master),
                "state": None if up is None else ("up" if up else "down"),
            }
            settings = {key: value for key, value in wanted.items() if value is not None}
            await _tried(ipr.link("set", index=_index(netns, name), **settings))

    async def pin_mac(self, netns: str, port: str, mac: str) -> None:
        async with self._socket(netns) as ipr:
            index = _index(netns, port)
            await _tried(ipr.brport("set", index=index, learning=0))
            entry = {"ifindex": index, "lladdr": mac, "flags": _NTF_MASTER, "state": _NUD_STATIC}
            await _tried(ipr.fdb("replace", **entry))

    async def delete_link(self, netns: str | None, name: str) -> None:
        if (index := _find(netns, name)) is None:
            return
        async with self._socket(netns) as ipr:
            await _tried(ipr.link("del", index=index), ignore=_GONE)

    async def add_address(self, netns: str, link: str, address: InterfaceAddress) -> None:
        async with self._socket(netns) as ipr:
            parts = {**_address(address), "index": _index(netns, link)}
            await _tried(ipr.addr("add", **parts, flags=_IFA_F_NODAD), ignore=_ALREADY)

    async def delete_address(self, netns: str, link: str, address: InterfaceAddress) -> None:
        if (index := _find(netns, link)) is None:
            return
        async with self._socket(netns) as ipr:
            await _tried(ipr.addr("del", **_address(address), index=index), ignore=_GONE)

    async def add_route(
        self,
        netns: str,
        prefix: Prefix,
        link: str,
        *,
        gateway: Address | None = None,
        table: int = MAIN_TABLE,
    ) -> None:
        async with self._socket(netns) as ipr:
            index = _index(netns, link)
            route = _route(prefix, index, table)
            if gateway is not None:
                # Different for each link: IPv6 would make one multipath route of equal ones.
                route |= {"gateway": gateway, "priority": GATEWAY_METRIC + index}
            # Appended, not replaced: a stale route goes afterwards, and only when it is owned.
            await _tried(ipr.route("append", **route), ignore=_ALREADY)

    async def delete_route(
        self, netns: str, prefix: Prefix, link: str, *, table: int = MAIN_TABLE
    ) -> None:
        if (index := _find(netns, link)) is None:
            return
        async with self._socket(netns) as ipr:
            route = _route(prefix, index, table)
            await _tried(ipr.route("del", **route, scope=_SCOPE_NOWHERE), ignore=_GONE)

    async def add_rule(self, netns: str, rule: Rule) -> None:
        async with self._socket(netns) as ipr:
            await _tried(ipr.rule("add", **_rule(rule)), ignore=_ALREADY)

    async def delete_rule(self, netns: str, rule: Rule) -> None:
        async with self._socket(netns) as ipr:
            await _tried(ipr.rule("del", **_rule(rule)), ignore=_GONE)

    def read_sysctls(self, netns: str, keys: Iterable[str]) -> dict[str, str]:
        found = {}
        with hop(netns):
            for key in keys:
                try:
                    found[key] = (SYSCTL_DIR / key).read_text("ascii").strip()
                except OSError:
                    continue
        return found

    def write_sysctl(self, netns: str, key: str, value: str) -> None:
        try:
            with hop(netns):
                (SYSCTL_DIR / key).write_text(value, "ascii")
        except OSError as exc:
            raise Unavailable(f"sysctl {key} = {value}: {exc.strerror}") from exc

    @asynccontextmanager
    async def _socket(self, netns: str | None) -> AsyncIterator[Any]:
        """A socket in `netns`: the kept one if that is still the same netns.

        A kept socket keeps its netns alive, and a workload's netns is not ours to keep.
        """
        if netns is not None and not netns.startswith(_OWN_NETNS):
            ipr = await _open_socket(netns)
            try:
                yield ipr
            finally:
                ipr.close()
            return
        async with self._turns.of(netns):
            yield await self._keep(netns)

    async def _keep(self, netns: str | None) -> Any:
        identity = _identity(netns)
        kept = self._kept.get(netns)
        if kept is None or kept.identity != identity:
            if kept is not None:
                kept.ipr.close()
            kept = self._kept[netns] = _Kept(await _open_socket(netns), identity)
            self._close_oldest()
        self._kept.move_to_end(netns)
        return kept.ipr

    def _close_oldest(self) -> None:
        idle = (path for path in self._kept if not self._turns.of(path).locked())
        if len(self._kept) > MAX_SOCKETS and (oldest := next(idle, "")) != "":
            self._kept.pop(oldest).ipr.close()


def _identity(netns: str | None) -> tuple[int, int]:
    path = Path(netns or "/proc/self/ns/net")
    try:
        status = path.stat()
    except OSError as exc:
        raise Unavailable(f"netns {path}: {exc.strerror}") from exc
    return status.st_dev, status.st_ino


def _open(netns: str) -> int:
    try:
        return os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise Unavailable(f"netns {netns}: {exc.strerror}") from exc


async def _open_socket(netns: str | None) -> Any:
    raw = open_socket(netns, socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
    raw.setblocking(False)
    ipr = AsyncIPRoute(fileno=raw.detach(), ext_ack=True)
    await ipr.setup_endpoint()
    return ipr


def _list(channel: socket.socket, kind: int) -> Iterator[bytes]:
    channel.send(rtnl.format_request(kind))
    is_last = False
    while not is_last:
        bodies, is_last = rtnl.parse_answer(channel.recv(_LISTING_BYTES))
        yield from bodies


def _move(index: int, target: int, new_name: str) -> None:
    """A thread of its own has neither the event loop nor its sockets."""
    try:
        with IPRoute(ext_ack=True) as ipr:
            ipr.link("set", index=index, net_ns_fd=target, ifname=new_name)
    except NetlinkError as exc:
        raise _refusal(exc) from exc


async def _tried(request: Awaitable[Any], *, ignore: frozenset[int] = frozenset()) -> None:
    try:
        await request
    except NetlinkError as exc:
        if exc.code not in ignore:
            raise _refusal(exc) from exc


def _refusal(error: NetlinkError) -> Unavailable:
    return Unavailable(f"the kernel refuses: {error.args[-1]}")


def _find(netns: str | None, name: str) -> int | None:
    """The index of a link, None when there is no such link."""
    try:
        with hop(netns) if netns is not None else nullcontext():
            return socket.if_nametoindex(name)
    except OSError:
        return None


def _index(netns: str | None, name: str) -> int:
    if (index := _find(netns, name)) is None:
        raise Unavailable(f"there is no link {name}")
    return index


def _address(address: InterfaceAddress) -> dict[str, Any]:
    text, _, length = address.partition("/")
    return {"address": text, "prefixlen": int(length)}


def _route(prefix: Prefix, index: int, table: int) -> dict[str, Any]:
    family = socket.AF_INET6 if ":" in prefix else socket.AF_INET
    return {
        "dst": prefix,
        "oif": index,
        "proto": ROUTE_PROTOCOL,
        "family": family,
        "table": table,
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "family": socket.AF_INET6 if rule.family == 6 else socket.AF_INET,
        "fwmark": rule.mark,
        "fwmask": rule.mask,
        "table": rule.table,
        "priority": rule.priority,
        "protocol": ROUTE_PROTOCOL,
    }


def _forget_flows(netns: str, marks: tuple[int, ...]) -> None:
    try:
        with hop(netns), NFCTSocket() as tracking:
            for mark in marks:
                tracking.flush(mark=mark, mark_mask=WHERE_MASK)
    except NetlinkError as exc:
        raise Unavailable(f"connection tracking forgets nothing: {exc}") from exc
