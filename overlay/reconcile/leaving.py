"""How what is on this node leaves its network: one exit at a time, or not at all (EXIT-050 ..)."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from overlay.documents.exits import ExitService
from overlay.errors import Unavailable
from overlay.exitnode.health import ASK_S, Pulses, exits_of
from overlay.exitnode.named import ready_exits
from overlay.exitnode.policy import Contender, Election, elect
from overlay.exitnode.probe import Echoes
from overlay.keys import wireguard
from overlay.model import NetworkResource, NodeId, WgDevice, WgPublicKey
from overlay.reconcile.draining import can_drain
from overlay.reconcile.goals import PeerGoals

log = logging.getLogger(__name__)


class Leaving:
    """The exits of one network, as this node sees them. `look` is called again at `due`."""

    def __init__(self) -> None:
        self.election = Election()
        self.way_out: ExitService | None = None  # of the exit that lets out now, as it says
        self.due: float | None = None  # monotonic
        self.asked = 0  # requests, ever
        self._pulses = Pulses()
        self._echoes: Echoes | None = None

    def look(
        self,
        goals: PeerGoals,
        nr: NetworkResource,
        netns: str,
        *,
        is_needed: bool,
        may_drain: bool,
        wall: float,
        now: float,
    ) -> bool:
        """Elect anew by what was heard since the last look, and ask again; whether peers changed.

        `is_needed`: there is somebody here who may want to leave the network, by another node.
        `may_drain`: an exit that drains can have a device of its own. `netns` is a path.
        """
        exits = list(exits_of(goals.selection, nr)) if is_needed else []
        if not exits:
            is_other = self._elect(goals, Election(failed_at=self.election.failed_at))
            self.way_out = None
            self.close()
            return is_other
        echoes = self._open(netns)
        if echoes is not None:
            for address, asked_at in echoes.answers():
                self._pulses.note(exits, self.election, address, asked_at=asked_at, now=now)
        contenders = self._pulses.contenders(exits, self.election, wall=wall, now=now)
        election = elect(self.election, contenders, now=now)
        draining = _key(goals, election.draining)
        if draining is not None and not (may_drain and can_drain(goals, draining)):
            election = msgspec.structs.replace(election, draining=None)
        is_other = self._elect(goals, election)
        # Once more: who was just elected is now measured through itself.
        contenders = self._pulses.contenders(exits, self.election, wall=wall, now=now)
        self.way_out = _lets_out(goals, self.election, contenders)
        if echoes is not None:
            for address in self._pulses.questions(exits, self.election, now=now):
                self.asked += 1
                echoes.ask(address, now=now)
        self.due = now + ASK_S
        return is_other

    def adopt(
        self, goals: PeerGoals, shared: WgDevice, drain: WgDevice | None, *, wall: float, now: float
    ) -> None:
        """After a start: the exits that the devices show are in use as before (EXIT-065)."""
        exits = {it.node: it.exit for it, _ in ready_exits(goals.selection)}
        outside = frozenset(goals.selection.outside())

        def exit_among(device: WgDevice | None) -> NodeId | None:
            for key, peer in device.peers.items() if device is not None else ():
                member = goals.selection.member_at(key)
                if member and member.node in exits and outside.issubset(peer.allowed_ips):
                    return NodeId(member.node)
            return None

        if (elected := exit_among(shared)) is None:
            return
        election = Election(elected, now, "it was in use before")
        draining = exit_among(drain)
        service = exits[draining] if draining is not None else None
        if service is not None and service.draining_until is not None:
            until = now + service.draining_until - wall
            election = msgspec.structs.replace(election, draining=draining, draining_until=until)
        self._elect(goals, election)

    def close(self) -> None:
        """Nothing keeps the netns alive."""
        self.due = None
        if self._echoes is not None:
            self._echoes.close()
            self._echoes = None

    def _open(self, netns: str) -> Echoes | None:
        if self._echoes is not None and not self._echoes.is_in(netns):
            self.close()
        if self._echoes is None:
            try:
                self._echoes = Echoes(netns)
            except (OSError, Unavailable) as exc:
                log.debug("no probes", extra={"reason": str(exc)})
        return self._echoes

    def _elect(self, goals: PeerGoals, election: Election) -> bool:
        if election.elected != self.election.elected:
            log.info(
                "another way out of the network",
                extra={"exit": election.elected, "reason": election.reason},
            )
        if election.draining not in (None, self.election.draining):
            log.info("what began at an exit goes on there", extra={"exit": election.draining})
        self.election = election
        way_out, draining = _key(goals, election.elected), _key(goals, election.draining)
        if (way_out, draining) == (goals.way_out, goals.draining):
            return False
        goals.set_way_out(way_out, draining=draining)
        return True


def _key(goals: PeerGoals, node: NodeId | None) -> WgPublicKey | None:
    member = goals.selection.members.get(node) if node is not None else None
    return None if member is None else wireguard.wireguard_public_key(member.device)


def _lets_out(
    goals: PeerGoals, election: Election, contenders: Iterable[Contender]
) -> ExitService | None:
    healthy = {contender.node for contender in contenders if contender.is_healthy}
    if election.elected not in healthy:
        return None
    member = goals.selection.members.get(election.elected)
    return member.exit if member is not None else None
