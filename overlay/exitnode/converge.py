"""Bring the egress netns to its desired state: observe, plan, apply, observe again to confirm."""

from __future__ import annotations

import asyncio
from functools import singledispatchmethod

from overlay.addressing import address_of
from overlay.errors import Diverged, Unavailable
from overlay.exitnode import processes, sets
from overlay.exitnode.daemons import LOG
from overlay.exitnode.egress import (
    EGRESS_NETNS,
    LEG_LINK,
    NEXT_UPLINK,
    UPLINK_LINK,
    UPLINK_PORT,
    Egress,
)
from overlay.exitnode.firewall import ruleset
from overlay.exitnode.plan import (
    Actual,
    AmendSets,
    CreateUplink,
    DeleteUplinkPort,
    DropGateway,
    EgressChange,
    JoinTenant,
    PlugUplink,
    PutGateway,
    RestartUplink,
    StartDaemon,
    StopDaemon,
    TakeUplink,
    plan,
)
from overlay.model import InterfaceAddress, Prefix
from overlay.netns.apply import apply
from overlay.netns.changes import Change
from overlay.netns.ports import Shell
from overlay.netns.state import Firewall
from overlay.netns.waiting import in_thread

# The kernel takes along what hangs on an address or a link that goes, and neighbours that are
# guarded are those of the addresses that are there.
MAX_ROUNDS = 3
START_TIMEOUT_S = 5.0  # for a daemon to make the uplink
POLL_S = 0.02

PORT_MAC = "fe:7a:6f:73:00:01"  # never seen on the wire: the port has no addresses

_UNDERLAY = "/proc/thread-self/ns/net"
_DEFAULT_V4, _DEFAULT_V6 = Prefix("0.0.0.0/0"), Prefix("::/0")


class EgressConfigurator:
    """This node's one egress netns. Passes wait for each other, and may be cancelled anywhere."""

    addresses: tuple[InterfaceAddress, ...] = ()  # that the uplink had when it was looked at last

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._turn = asyncio.Lock()

    async def converge(self, desired: Egress | None) -> tuple[EgressChange, ...]:
        """The kernel holds `desired` (None: nothing is left); what had to be done for it.

        Raises Unavailable when a change fails, and Diverged when the kernel does not hold what was
        written. A tenant netns that is not there is left out.
        """
        async with self._turn:
            made: tuple[EgressChange, ...] = ()
            for _ in range(MAX_ROUNDS):
                if not (todo := await self._difference(desired)):
                    return made
                for change in todo:
                    await self._write(change)
                made += todo
            if left := await self._difference(desired):
                raise Diverged(f"{EGRESS_NETNS}: still to do: {left[0].describe()}")
            return made

    async def plan(self, desired: Egress | None) -> tuple[EgressChange, ...]:
        """What `converge` would do now."""
        async with self._turn:
            return await self._difference(desired)

    async def observe(self, desired: Egress | None) -> Actual:
        """The actual state of all that `desired` speaks of."""
        kernel, pins = self._shell.kernel, self._shell.pins
        underlay = await kernel.read(None)
        path = pins.path(EGRESS_NETNS)
        daemons = frozenset(await in_thread(processes.observe, path))
        if path is None:
            return Actual(underlay, daemons=daemons)
        listing = await in_thread(self._shell.packet_filter.listing, path)
        tenants = {}
        for leg in desired.legs if desired is not None else ():
            if (tenant := pins.path(leg.netns)) is not None:
                tenants[leg.netns] = await kernel.read(tenant)
        structure, held = sets.split(listing or "[]")
        return Actual(
            underlay=underlay,
            inside=await kernel.read(path),
            tenants=tenants,
            sysctls=kernel.read_sysctls(path, desired.sysctls() if desired is not None else ()),
            firewall=None if listing is None else Firewall(structure),
            held=held,
            daemons=daemons,
            pinned=pins.is_pinned(EGRESS_NETNS),
        )

    async def _difference(self, desired: Egress | None) -> tuple[EgressChange, ...]:
        actual = await self.observe(desired)
        self.addresses = actual.addresses
        if desired is None:
            return plan(desired=None, firewall=None, actual=actual)
        rules = ruleset(desired, addresses=actual.addresses)
        listing = await in_thread(self._shell.packet_filter.normal_form, rules)
        return plan(desired=desired, firewall=Firewall(listing, rules), actual=actual)

    @property
    def _path(self) -> str:
        if (path := self._shell.pins.path(EGRESS_NETNS)) is None:
            raise Unavailable(f"netns {EGRESS_NETNS} is gone")
        return path

    @singledispatchmethod
    async def _write(self, change: Change) -> None:
        """What is done to any netns."""
        await apply((change,), self._shell, netns=EGRESS_NETNS)

    @_write.register
    async def _(self, change: CreateUplink) -> None:
        kernel = self._shell.kernel
        if change.kind == "bridge":
            await kernel.create_port(
                None, UPLINK_PORT, workload_netns=self._path, workload_link=change.name
            )
            # A bridge has the lowest MAC of its ports: the node's is not to change for ours.
            await kernel.set_link(None, UPLINK_PORT, mac=PORT_MAC)
            kernel.write_sysctl(_UNDERLAY, f"net/ipv6/conf/{UPLINK_PORT}/addr_gen_mode", "1")
            try:
                await self._plug(change.link)
            except Unavailable:
                await kernel.delete_link(None, UPLINK_PORT)
                raise
        else:
            await kernel.create_on(
                change.link,
                kind=change.kind,
                netns=self._path,
                name=change.name,
                vlan=change.vlan,
            )

    @_write.register
    async def _(self, _change: TakeUplink) -> None:
        await self._shell.kernel.rename_link(self._path, NEXT_UPLINK, new_name=UPLINK_LINK)

    @_write.register
    async def _(self, change: PlugUplink) -> None:
        try:
            await self._plug(change.link)
        except Unavailable:
            if change.before is not None:
                await self._plug(change.before)
            raise

    async def _plug(self, bridge: str) -> None:
        await self._shell.kernel.set_link(None, UPLINK_PORT, master=bridge, up=True)

    @_write.register
    async def _(self, _change: DeleteUplinkPort) -> None:
        await self._shell.kernel.delete_link(None, UPLINK_PORT)

    @_write.register
    async def _(self, change: StartDaemon) -> None:
        inside = change.daemon.inside
        processes.start(change.daemon.argv, netns=self._path if inside else None)
        if not inside:
            await self._wait_uplink(change.daemon.argv[0])

    async def _wait_uplink(self, daemon: str) -> None:
        """The link is there that a daemon makes. Raises Unavailable when it makes none."""
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not self._shell.kernel.has_link(self._path, UPLINK_LINK):  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(POLL_S)
        except TimeoutError as exc:
            raise Unavailable(
                f"{daemon} makes no uplink", remedy=f"see {LOG}; is the package passt there?"
            ) from exc

    @_write.register
    async def _(self, change: StopDaemon) -> None:
        await processes.stop(change.argv, netns=self._shell.pins.path(EGRESS_NETNS))

    @_write.register
    async def _(self, _change: RestartUplink) -> None:
        for is_up in (False, True):
            await self._shell.kernel.set_link(self._path, UPLINK_LINK, up=is_up)

    @_write.register
    async def _(self, change: PutGateway) -> None:
        kernel = self._shell.kernel
        await kernel.add_route(self._path, change.prefix, UPLINK_LINK, gateway=change.gateway)

    @_write.register
    async def _(self, change: DropGateway) -> None:
        await self._shell.kernel.delete_route(self._path, change.prefix, UPLINK_LINK)

    @_write.register
    async def _(self, change: AmendSets) -> None:
        await in_thread(self._shell.packet_filter.amend, self._path, change.commands)

    @_write.register
    async def _(self, change: JoinTenant) -> None:
        kernel, leg, path = self._shell.kernel, change.leg, self._path
        if (tenant := self._shell.pins.path(leg.netns)) is None:
            raise Unavailable(f"netns {leg.netns} is gone")
        # A link of that name that leads elsewhere cannot become the leg.
        await kernel.delete_link(tenant, LEG_LINK)
        await kernel.create_port(path, leg.link, workload_netns=tenant, workload_link=LEG_LINK)
        for netns, link, addresses in (
            (path, leg.link, (leg.outside_v4, leg.outside_v6)),
            (tenant, LEG_LINK, (leg.inside_v4, leg.inside_v6)),
        ):
            await kernel.set_link(netns, link, up=True)
            for address in addresses:
                await kernel.add_address(netns, link, address)
        for prefix, gateway in ((_DEFAULT_V4, leg.outside_v4), (_DEFAULT_V6, leg.outside_v6)):
            await kernel.add_route(tenant, prefix, LEG_LINK, gateway=address_of(gateway))
        back = address_of(leg.inside_v6)
        await kernel.add_route(path, leg.range_v6, leg.link, gateway=back)
