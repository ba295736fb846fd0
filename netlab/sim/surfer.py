"""Somebody behind a member who sends to the internet, and what must hold for each packet.

Only who surfs looks for a way out, and only for so long: a node has something to look for while a
workload is there. Faults are noted as they are seen (LAB-113, LAB-114).
"""

from __future__ import annotations

from netlab.sim.inner import Inner
from netlab.sim.leaving import Leaving
from netlab.sim.resource import Resource, Surroundings
from netlab.sim.uplink import family_of
from overlay.addressing import address_of
from overlay.exitnode.health import ASK_S
from overlay.model import Address, Family, NetworkResource, NodeId, WgPublicKey

# EXIT-055, in words of its own: the rules that are under test may be wrong about it.
RETAKEN_S = 60.0
IDLE_S = 2.0  # between looks at whether the node is awake again, when nobody surfs any more
TARGETS: tuple[Address, ...] = (Address("203.0.113.9"), Address("2001:db8::9"))


class Surfer:
    """Behind one network resource, for as long as that is there."""

    def __init__(self, resource: Resource, world: Surroundings) -> None:
        self.resource = resource
        self.until = 0.0  # virtual: surfs till then
        self.switched_at = 0.0
        self.out_at: dict[Family, float] = {}  # when a packet came out last, and by whom
        self.out_by: dict[Family, NodeId] = {}
        self._world = world
        self._timeline = world.timeline
        self._leaving = Leaving(resource.goals)
        self._failed_at: dict[NodeId, float] = {}
        self._is_due = False
        self._sent = 0
        self._seen = -1  # writes to the device that were looked at
        resource.on_answer = self._hear

    @property
    def elected(self) -> NodeId | None:
        return self._leaving.election.elected

    def surf(self, until: float) -> None:
        self.until = max(self.until, until)
        if not self._is_due:
            self._is_due = True
            self._timeline.after(ASK_S * self.resource.host.chance.random(), self._tick)

    def _hear(self, answer: Inner) -> None:
        self._leaving.hear(answer)

    def _tick(self) -> None:
        resource, is_surfing = self.resource, self._timeline.now < self.until
        nr = resource.network_resource
        self._is_due = resource.device.is_up and nr is not None
        if nr is None or not self._is_due:
            return  # it has left the network
        if resource.is_awake:
            self._look(nr, is_needed=is_surfing)
            self._is_due = is_surfing
        if is_surfing:
            self._send(nr)
        if self._is_due:
            self._timeline.after(ASK_S if is_surfing else IDLE_S, self._tick)

    # The node.

    def _look(self, nr: NetworkResource, *, is_needed: bool) -> None:
        if self._leaving.goals is not self.resource.goals:  # the node was started anew
            self._leaving = Leaving(self.resource.goals)
            self._failed_at = {}
        leaving, now = self._leaving, self._timeline.now
        before = leaving.election.elected
        leaving.look(
            nr,
            documents=self.resource.documents,
            is_needed=is_needed,
            ask=lambda address: self._carry(nr, address, is_echo=True),
            wall=self._timeline.wall,
            now=now,
        )
        if leaving.election.elected != before:
            self.switched_at = now
            if is_needed:
                self._check_switch(before, leaving.election.elected)
        self.resource.write()
        if self._seen != self.resource.writes:
            self._seen = self.resource.writes
            self._check_written()

    def _check_switch(self, before: NodeId | None, after: NodeId | None) -> None:
        """One that was left because it failed is not taken again within a minute (EXIT-055)."""
        left = self._leaving.exits.get(before) if before is not None else None
        if left is None or before is None:
            return
        if left.draining_until is not None:
            if self._timeline.wall >= left.draining_until:
                return
        else:
            self._failed_at[before] = self._timeline.now
        if after is None:
            return
        rest_s = self._failed_at.get(after, -RETAKEN_S) + RETAKEN_S - self._timeline.now
        if rest_s > 0.0:
            self._blame(f"takes an exit again that failed {RETAKEN_S - rest_s:.1f} s ago")

    def _check_written(self) -> None:
        """The elected one has all of the way out, in both families, or nobody has any of it."""
        selection, elected = self.resource.goals.selection, self.elected
        peer = selection.peer_of(elected) if elected is not None else None
        holders = self.resource.device.holders
        held = {holders.get(prefix) for prefix in selection.outside()}
        if held != {peer.public_key if peer is not None else None}:
            self._blame(f"elected {elected}, and the way out is held by {len(held)}, or another")

    # Whoever surfs.

    def _send(self, nr: NetworkResource) -> None:
        self._sent += 1
        holder = self._carry(nr, TARGETS[self._sent % len(TARGETS)])
        if holder is not None and self.resource.is_awake:
            self._check_holder(holder)

    def _carry(
        self, nr: NetworkResource, target: Address, *, is_echo: bool = False
    ) -> WgPublicKey | None:
        gateway = nr.gateway_v4 if family_of(target) == 4 else nr.gateway_v6
        return self.resource.device.carry(
            Inner(address_of(gateway), target, self._timeline.now, self._note_out, is_echo)
        )

    def _check_holder(self, key: WgPublicKey) -> None:
        """What the node knows to be no exit gets nothing, from the next look on."""
        selection = self.resource.goals.selection
        member, roster = selection.member_at(key), selection.roster
        named = () if roster is None else roster.network.exits
        if member is None or all(each.node != member.node for each in named):
            self._blame("sends what leaves the network to one that is no exit of it")

    def _note_out(self, by: NodeId, inner: Inner) -> None:
        family = family_of(inner.target)
        self.out_at[family], self.out_by[family] = self._timeline.now, by

    def _blame(self, fault: str) -> None:
        self._world.faults.append(f"{self.resource.own} {fault}")
