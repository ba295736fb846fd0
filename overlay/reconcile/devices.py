"""The WireGuard devices of one network resource: wg0, and wg1 while an exit drains (EXIT-060).

To everything that looks at peers they are one: no peer is on both, but while it moves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

import msgspec

from overlay.model import PeerTraffic, WgDevice, WgPeer, WgPublicKey
from overlay.netns.observe import device_ref
from overlay.netns.plan import plan_peers
from overlay.netns.ports import Shell
from overlay.netns.state import DRAIN_LINK, WG_LINK
from overlay.reconcile.draining import select_drain, shared_peers
from overlay.reconcile.goals import PeerGoals


class Devices(msgspec.Struct, frozen=True):
    """What was read of both."""

    shared: WgDevice
    drain: WgDevice | None = None

    @property
    def together(self) -> WgDevice:
        if self.drain is None:
            return self.shared
        peers = {**self.shared.peers, **self.drain.peers}
        return msgspec.structs.replace(self.shared, peers=peers)

    def have_drifted(self, goals: PeerGoals, *, wall: int) -> bool:
        """Whether the peers are others than they should be."""
        wanted = select_drain(goals)
        if (wanted is None) != (self.drain is None):
            return True
        draining = {} if wanted is None else {wanted.peer.public_key: wanted.peer}
        there: Mapping[WgPublicKey, WgPeer] = {} if self.drain is None else self.drain.peers
        shared = goals.peers if wanted is None else shared_peers(goals)
        changes = chain(
            plan_peers(desired=shared, actual=self.shared.peers, now=wall),
            plan_peers(desired=draining, actual=there, now=wall),
        )
        return next(changes, None) is not None


async def read_devices(shell: Shell, netns: str, goals: PeerGoals) -> Devices | None:
    """None when the netns or wg0 is not there; wg1 when there is to be one. `netns` is a name."""
    return await _read(shell, netns, _links(goals))


async def find_devices(shell: Shell, netns: str) -> Devices | None:
    """Those that are there, whether or not they are to be."""
    return await _read(shell, netns, (WG_LINK, DRAIN_LINK))


async def _read(shell: Shell, netns: str, links: Iterable[str]) -> Devices | None:
    if (path := shell.pins.path(netns)) is None:
        return None
    shared, *drain = [await shell.wireguard.read(device_ref(netns, path, link)) for link in links]
    return None if shared is None else Devices(shared, *drain)


async def read_traffic(
    shell: Shell, netns: str, goals: PeerGoals
) -> dict[WgPublicKey, PeerTraffic]:
    if (path := shell.pins.path(netns)) is None:
        return {}
    found: dict[WgPublicKey, PeerTraffic] = {}
    for link in _links(goals):
        found |= await shell.wireguard.read_traffic(device_ref(netns, path, link))
    return found


def _links(goals: PeerGoals) -> tuple[str, ...]:
    return (WG_LINK,) if goals.draining is None else (WG_LINK, DRAIN_LINK)
