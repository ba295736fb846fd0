"""Bring tenant netns to their desired state: observe, plan, apply, and observe again to confirm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from overlay.errors import Diverged
from overlay.model import WgPeer, WgPublicKey
from overlay.netns.apply import apply
from overlay.netns.changes import Change
from overlay.netns.observe import Observation, observe
from overlay.netns.plan import plan, plan_peer_delta
from overlay.netns.ports import Shell
from overlay.netns.state import (
    Firewall,
    Resource,
    absent_resource,
    netns_of_birth,
)
from overlay.netns.waiting import Turns, in_thread
from overlay.ports import Clock, Secret

T = TypeVar("T")


class Report(msgspec.Struct, frozen=True):
    """What one pass over one network resource did."""

    changes: tuple[Change, ...]  # in the order in which they were made
    actual: Resource  # as last observed
    unreachable: frozenset[str] = frozenset()  # ports of workloads that cannot be joined


class Configurator:
    """All of this node's tenant netns. Passes over one netns wait for each other.

    Cancelling a pass is as safe as killing it: the next one finds whatever is there.
    """

    def __init__(self, shell: Shell, *, clock: Clock) -> None:
        self._shell = shell
        self._clock = clock
        self._turns = Turns()

    async def converge(self, desired: Resource, *, private_key: Secret | None = None) -> Report:
        """The kernel holds `desired`; nothing is written when it did already.

        Raises Unavailable or Rejected when a change fails, and Diverged when the kernel does not
        hold what was written. Workloads whose netns is gone, or has another link of the name, are
        left out and reported.
        """
        made = await self.make(desired, private_key=private_key)
        return await self.confirm(desired, made) if made.changes else made

    async def make(self, desired: Resource, *, private_key: Secret | None = None) -> Report:
        """Like `converge`, but nobody has looked yet whether the kernel holds what was written.

        What is reported as actual is what was there before.
        """
        async with self._turns.of(desired.netns):
            before, made = await self._difference(desired)
            if made:
                await apply(made, self._shell, netns=desired.netns, private_key=private_key)
        return Report(made, before.actual, before.unreachable)

    async def confirm(self, desired: Resource, made: Report) -> Report:
        """The kernel holds `desired`. Raises Diverged when it does not."""
        async with self._turns.of(desired.netns):
            after, left = await self._difference(desired)
        if left:
            raise Diverged(f"{desired.netns}: still to do: {left[0].describe()}")
        return Report(made.changes, after.actual, after.unreachable)

    async def plan(self, desired: Resource) -> tuple[Change, ...]:
        """What `converge` would do now."""
        async with self._turns.of(desired.netns):
            return (await self._difference(desired))[1]

    async def observe(self, desired: Resource) -> Observation:
        """The actual state of everything that `desired` speaks of."""
        return await observe(
            desired.netns,
            self._shell,
            sysctls=desired.sysctls,
            attachments=desired.attachments.values(),
        )

    async def apply_peers(
        self,
        netns: str,
        *,
        put: Iterable[WgPeer] = (),
        drop: Iterable[WgPublicKey] = (),
        draining: WgPublicKey | None = None,
    ) -> tuple[Change, ...]:
        """Write these peers without looking at the others; see `plan_peer_delta`."""
        made = plan_peer_delta(put=put, drop=drop, draining=draining)
        async with self._turns.of(netns):
            await apply(made, self._shell, netns=netns)
        return made

    async def remove(self, netns: str) -> Report:
        """Nothing of the resource is left."""
        report = await self.converge(absent_resource(netns))
        # Killed between the two steps of it, a node leaves a pin's file that is no pin any more.
        self._shell.pins.remove(netns)
        # A process in it keeps the netns alive. Last: where there is no pin none is started.
        await self._shell.name_servers.retire(netns)
        return report

    async def list_owned(self) -> tuple[str, ...]:
        """Tenant netns of which there is anything: a link that was just born, a name server."""
        underlay = await self._shell.kernel.read(None)
        newborn = {netns for link in underlay.links if (netns := netns_of_birth(link.name))}
        served = self._shell.name_servers.names()
        return tuple(sorted(newborn.union(self._shell.pins.names(), served)))

    async def _difference(self, desired: Resource) -> tuple[Observation, tuple[Change, ...]]:
        seen = await self.observe(desired)
        goal = _without_unreachable(desired, seen)
        if seen.actual.firewall is not None:  # else it is loaded, whatever its normal form
            goal = await self._in_normal_form(goal)
        now = int(self._clock.now().timestamp())
        return seen, plan(desired=goal, actual=seen.actual, now=now)

    async def _in_normal_form(self, desired: Resource) -> Resource:
        if desired.firewall is None or desired.firewall.listing:
            return desired
        ruleset = desired.firewall.ruleset
        listing = await in_thread(self._shell.packet_filter.normal_form, ruleset)
        return msgspec.structs.replace(desired, firewall=Firewall(listing, ruleset))


def _without_unreachable(desired: Resource, seen: Observation) -> Resource:
    """Who cannot be joined stops nobody else; a port that still stands is not cut off."""
    if not seen.unreachable:
        return desired
    gone = seen.unreachable - seen.actual.links.keys()
    return msgspec.structs.replace(
        desired,
        attachments=_without(desired.attachments, seen.unreachable),
        links=_without(desired.links, gone),
    )


def _without(mapping: Mapping[str, T], keys: frozenset[str]) -> dict[str, T]:
    return {key: value for key, value in mapping.items() if key not in keys}
