"""How what is behind a member leaves its network: the real election, by echoes that are a model.

Mirrors `overlay.reconcile.leaving`, without sockets: what is asked is handed to whoever sends it.
"""

from __future__ import annotations

from collections.abc import Callable

from netlab.sim.inner import Inner
from overlay.exitnode.health import Exit, Pulses, exits_of
from overlay.exitnode.named import is_exit
from overlay.exitnode.policy import Election, elect
from overlay.keys import wireguard
from overlay.model import Address, NetworkResource, NodeId
from overlay.reconcile.goals import PeerGoals


class Leaving:
    """The exits of one network, as a member sees them since its node was started."""

    def __init__(self, goals: PeerGoals) -> None:
        self.goals = goals
        self.election = Election()
        self.exits: dict[NodeId, Exit] = {}  # that the documents name
        self._is_asking = False
        self._read = -1  # documents
        self._pulses = Pulses()
        self._answers: list[tuple[Address, float]] = []  # from whom, and when it was asked

    def hear(self, answer: Inner) -> None:
        """An answer to who has closed what it asked by is lost."""
        if self._is_asking:
            self._answers.append((answer.source, answer.sent_at))

    def look(
        self,
        nr: NetworkResource,
        *,
        documents: int,
        is_needed: bool,
        ask: Callable[[Address], object],
        wall: float,
        now: float,
    ) -> None:
        """Elect anew by what was heard since the last look, and ask again.

        `documents`: how many came so far.
        """
        answers, self._answers = self._answers, []
        if documents != self._read:
            self._read = documents
            selection = self.goals.selection
            found = () if is_exit(selection) else exits_of(selection, nr)
            self.exits = {each.node: each for each in found}
        self._is_asking = is_needed and bool(self.exits)
        if not self._is_asking:
            self._elect(Election(failed_at=self.election.failed_at))
            return
        exits = self.exits.values()
        for address, asked_at in answers:
            self._pulses.note(exits, self.election, address, asked_at=asked_at, now=now)
        contenders = self._pulses.contenders(exits, self.election, wall=wall, now=now)
        self._elect(elect(self.election, contenders, now=now))
        for address in self._pulses.questions(exits, self.election, now=now):
            ask(address)

    def _elect(self, election: Election) -> None:
        self.election = election
        elected = election.elected
        member = self.goals.selection.members.get(elected) if elected is not None else None
        key = wireguard.wireguard_public_key(member.device) if member is not None else None
        if key != self.goals.way_out:
            self.goals.set_way_out(key)
