"""Who may use a relay, who has shown up, and where they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from overlay.model import WgPublicKey
from overlay.relay.limits import MEMBER, Allowance, Bucket, Place
from overlay.relay.member import MAX_REGISTRATIONS, Member, Registration

# Which WireGuard keys may talk to each other: those in one network, by any name for it.
Membership = Mapping[str, frozenset[WgPublicKey]]
# Of members that replace their key: which key follows which. Both are in the membership.
Heirs = Mapping[WgPublicKey, WgPublicKey]
NO_HEIRS: Heirs = MappingProxyType({})


class Roster:
    """The members that have shown themselves, at most `limit`; found by key, address and index.

    members  by key; those who have gone silent are remembered, without an address
    at       by the address from which a member is heard
    own      by the index that a member calls the relay
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.members: dict[WgPublicKey, Member] = {}
        self.at: dict[Place, Member] = {}
        self.own: dict[int, tuple[Member, Registration]] = {}
        self.moves = 0  # how often somebody came, went or is heard from elsewhere
        self._membership: Membership = {}
        self._networks: dict[WgPublicKey, set[str]] = {}
        self._rate: Allowance | None = None

    def allow(self, membership: Membership) -> None:
        """These may use the relay from now on; who may not any more is still remembered."""
        self._membership = dict(membership)
        self._networks = {}
        for network, keys in membership.items():
            for key in keys:
                self._networks.setdefault(key, set()).add(network)

    def set_rate(self, rate: Allowance | None, now: float) -> None:
        """From now on each member may send so much."""
        if rate != self._rate:
            self._rate = rate
            for member in self.members.values():
                member.volume = self._new_volume(now)

    def _new_volume(self, now: float) -> Bucket | None:
        return None if self._rate is None else Bucket(self._rate, now)

    def may_use(self, key: WgPublicKey) -> bool:
        return key in self._networks

    def share(self, one: WgPublicKey, other: WgPublicKey) -> bool:
        """Whether two keys are in one network."""
        return not self._networks.get(one, set()).isdisjoint(self._networks.get(other, ()))

    def has_absent(self, key: WgPublicKey) -> bool:
        """Whether somebody who shares a network with `key` may still register."""
        return any(
            len(self._membership[network]) > self._present(network)
            for network in self._networks.get(key, ())
        )

    def _present(self, network: str) -> int:
        return sum(each.key in self._membership[network] for each in self.at.values())

    def meet(self, key: WgPublicKey, now: float) -> Member | None:
        """The member with this key, remembered from now on; None when there is no room."""
        member = self.members.get(key)
        if member is None and len(self.members) < self.limit:
            member = Member(key, Bucket(MEMBER, now), self._new_volume(now))
            self.members[key] = member
        return member

    def candidates(self, member: Member) -> Iterator[Member]:
        """Those for whom a message of `member` may be, the acquainted first; some may come twice.

        All are registered and share a network with it.
        """
        known = [self.members[key] for key in member.between]
        yield from (each for each in known if each.place is not None)
        for network in self._networks.get(member.key, ()):
            keys = self._membership[network]
            # The smaller of the two: one network may have more members than are registered.
            if len(keys) <= len(self.members):
                found = (self.members[key] for key in keys if key in self.members)
            else:
                found = (each for key, each in self.members.items() if key in keys)
            for each in found:
                if each.place is not None and each is not member:
                    yield each

    def register(self, member: Member, registration: Registration) -> None:
        """One more handshake is answered; the one in use stays until the new one is."""
        while len(member.registrations) >= MAX_REGISTRATIONS:
            unproven = (each for each in member.registrations if each.counter < 0)
            self.forget_registration(member, next(unproven, member.registrations[0]))
        member.registrations.append(registration)
        self.own[registration.index] = (member, registration)

    def move(self, member: Member, place: Place) -> None:
        """From now on a member is heard from `place`, and nobody else is."""
        if member.place == place:
            return
        self.moves += 1
        if (former := self.at.get(place)) is not None:
            former.place = None
        if member.place is not None:
            del self.at[member.place]
        member.place = place
        self.at[place] = member

    def leave(self, place: Place) -> None:
        """Nobody is heard from `place`; what was agreed with who was there stays good."""
        if (member := self.at.pop(place, None)) is not None:
            self.moves += 1
            member.place = None

    def unregister(self, member: Member) -> None:
        """Nobody knows where it is; its key and its last timestamp are remembered."""
        if member.place is not None:
            self.moves += 1
            del self.at[member.place]
            member.place = None
        for registration in list(member.registrations):
            self.forget_registration(member, registration)

    def forget_registration(self, member: Member, registration: Registration) -> None:
        member.registrations.remove(registration)
        del self.own[registration.index]
