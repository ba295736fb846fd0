"""Execute the changes of a plan, in order. The only place that writes to a tenant netns.

A change that fails stops the rest and raises what the kernel said; what was done stays done, and
the next plan takes it from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import singledispatchmethod
from itertools import groupby

from overlay.errors import Rejected, Unavailable
from overlay.netns import changes
from overlay.netns.attach import attach
from overlay.netns.observe import device_ref
from overlay.netns.ports import Shell
from overlay.netns.state import birth_link
from overlay.netns.waiting import in_thread, side_by_side
from overlay.ports import DeviceRef, Secret

PeerChange = changes.DropPeer | changes.PutPeer


async def apply(
    plan: Iterable[changes.Change], shell: Shell, *, netns: str, private_key: Secret | None = None
) -> None:
    """Every change is made. Raises what the first one that fails raises.

    `private_key` is needed by plans that set one, and goes nowhere else.
    """
    plan = tuple(plan)
    if shell.pins.path(netns) is None and any(isinstance(c, changes.CreateNetns) for c in plan):
        # It would keep one alive that was unpinned while nobody looked, and all that is in it. By
        # itself: what is born beside it may fail for want of the port that is in there.
        await shell.name_servers.retire(netns)
    writer = _Writer(shell, netns, private_key)
    inside, birth, rest = split_birth(plan)
    if birth:
        await side_by_side(inside=writer.write_all(inside), birth=writer.write_all(birth))
    await writer.write_all(rest)


def split_birth(
    plan: Sequence[changes.Change],
) -> tuple[Sequence[changes.Change], Sequence[changes.Change], Sequence[changes.Change]]:
    """What comes before a device is born, its birth in the underlay netns, and what comes after.

    The first two speak of different things, so they may go side by side, which saves a newborn
    network a third of its time; the rest needs both.
    """
    kinds = [type(change) for change in plan]
    if changes.MoveDevice not in kinds or changes.CreateDevice not in kinds:
        return (), (), plan
    born, moved = kinds.index(changes.CreateDevice), kinds.index(changes.MoveDevice)
    return plan[:born], plan[born:moved], plan[moved:]


def _peers_link(change: changes.Change) -> str | None:
    """The device whose peers the change is about; None when it is about something else."""
    return change.link if isinstance(change, PeerChange) else None


class _Writer:
    def __init__(self, shell: Shell, netns: str, private_key: Secret | None) -> None:
        self._shell = shell
        self._name = netns
        self._private_key = private_key
        self._born: set[str] = set()  # between CreateDevice and MoveDevice

    @property
    def _path(self) -> str:
        if (path := self._shell.pins.path(self._name)) is None:
            raise Unavailable(f"netns {self._name} is gone")
        return path

    def _device(self, link: str) -> DeviceRef:
        is_born = birth_link(self._name, link) in self._born
        return device_ref(self._name, None if is_born else self._path, link)

    async def write_all(self, plan: Iterable[changes.Change]) -> None:
        for link, batch in groupby(plan, key=_peers_link):
            if link is not None:
                peers = [each for each in batch if isinstance(each, PeerChange)]
                await self.write_peers(link, peers)
                continue
            for change in batch:
                await self.write(change)

    async def write_peers(self, link: str, batch: Sequence[PeerChange]) -> None:
        """One transaction as far as the back end has such a thing: first drop, then put."""
        await self._shell.wireguard.write(
            self._device(link),
            drop=[change.public_key for change in batch if isinstance(change, changes.DropPeer)],
            put=[change.peer for change in batch if isinstance(change, changes.PutPeer)],
        )

    @singledispatchmethod
    async def write(self, change: changes.Change) -> None:
        raise Rejected(f"nobody knows how to make this change: {change.describe()}")

    @write.register
    async def _(self, change: changes.CreateNetns) -> None:
        self._shell.pins.create(change.netns)

    @write.register
    async def _(self, change: changes.LoadFirewall) -> None:
        await in_thread(self._shell.packet_filter.load, self._path, change.ruleset)

    @write.register
    async def _(self, change: changes.ForgetFlows) -> None:
        await self._shell.kernel.forget_flows(self._path, change.marks)

    @write.register
    async def _(self, change: changes.DeleteLink) -> None:
        await self._shell.kernel.delete_link(self._path, change.link)

    @write.register
    async def _(self, change: changes.CreateDevice) -> None:
        await self._shell.kernel.delete_link(None, change.birth_name)
        await self._shell.wireguard.retire(change.birth_name)
        await self._shell.wireguard.create(change.birth_name)
        self._born.add(change.birth_name)

    @write.register
    async def _(self, change: changes.DropNewborn) -> None:
        await self._shell.kernel.delete_link(None, change.birth_name)

    @write.register
    async def _(self, change: changes.SetKey) -> None:
        if self._private_key is None:
            raise Rejected("the plan sets a private key and none was given")
        device = self._device(change.link)
        await self._shell.wireguard.write(device, private_key=self._private_key)

    @write.register
    async def _(self, change: changes.SetListenPort) -> None:
        device = self._device(change.link)
        await self._shell.wireguard.write(device, listen_port=change.listen_port)

    @write.register
    async def _(self, change: changes.MoveDevice) -> None:
        await self._shell.kernel.move_link(
            change.birth_name, netns=self._path, new_name=change.link
        )
        self._born.discard(change.birth_name)

    @write.register
    async def _(self, change: changes.CreateBridge) -> None:
        await self._shell.kernel.create_bridge(self._path, change.link)

    @write.register
    async def _(self, change: changes.SetLink) -> None:
        await self._shell.kernel.set_link(
            self._path,
            change.link,
            mtu_bytes=change.mtu_bytes,
            mac=change.mac,
            master=change.master,
        )

    @write.register
    async def _(self, change: changes.SetSysctl) -> None:
        self._shell.kernel.write_sysctl(self._path, change.key, change.value)

    @write.register
    async def _(self, change: changes.SetUp) -> None:
        await self._shell.kernel.set_link(self._path, change.link, up=True)

    @write.register
    async def _(self, change: changes.AddAddress) -> None:
        await self._shell.kernel.add_address(self._path, change.link, change.address)

    @write.register
    async def _(self, change: changes.DeleteAddress) -> None:
        await self._shell.kernel.delete_address(self._path, change.link, change.address)

    @write.register
    async def _(self, change: changes.AddRoute) -> None:
        it = change.route
        await self._shell.kernel.add_route(self._path, it.prefix, it.link, table=it.table)

    @write.register
    async def _(self, change: changes.DeleteRoute) -> None:
        it = change.route
        await self._shell.kernel.delete_route(self._path, it.prefix, it.link, table=it.table)

    @write.register
    async def _(self, change: changes.AddRule) -> None:
        await self._shell.kernel.add_rule(self._path, change.rule)

    @write.register
    async def _(self, change: changes.DeleteRule) -> None:
        await self._shell.kernel.delete_rule(self._path, change.rule)

    @write.register
    async def _(self, change: changes.Attach) -> None:
        await attach(self._shell.kernel, self._path, change.attachment)

    @write.register
    async def _(self, change: changes.RetireDevice) -> None:
        await self._shell.wireguard.retire(change.birth_name)

    @write.register
    async def _(self, change: changes.RemoveNetns) -> None:
        async with self._shell.kernel.forgotten(self._path):
            self._shell.pins.remove(change.netns)
