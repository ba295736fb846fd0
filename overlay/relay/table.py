"""Who is where, and which packet goes to whom: the decisions of a relay, without sockets.

`step` takes one datagram and gives at most one to send; `take_due` gives what was held for a member
that came just now. Everything in it comes from outside: it is answered, passed on or dropped and
counted, never an error. Time and entropy come in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from overlay.model import WgPublicKey
from overlay.relay import messages
from overlay.relay.fate import Fate, Fates, Sending
from overlay.relay.limits import MAX_ORIGINS, Allowance, Bucket, Place
from overlay.relay.member import ROUTE_S, SESSION_S, SILENT_S, Member, Route
from overlay.relay.messages import DATA, DATA_MAX_BYTES, DATA_MIN_BYTES
from overlay.relay.noise import StaticKey
from overlay.relay.registrar import Registrar
from overlay.relay.roster import NO_HEIRS, Heirs, Membership, Roster
from overlay.relay.waiting import Waiting

MAX_MEMBERS = 4_096
MAX_ROUTES = 131_072
MAX_ROUTES_PER_MEMBER = 4_096
# An initiation that stays without answer is repeated every 5 s, each time under a new index, while
# the session before it lives on for 60 s.
MAX_ROUTES_PER_PAIR = 16
HASHES_PER_TOKEN = 256  # to find out for whom an initiation is; 0.4 ms

_DATA_WORD = DATA.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much a table holds at most."""

    members: int = MAX_MEMBERS
    routes: int = MAX_ROUTES
    routes_per_member: int = MAX_ROUTES_PER_MEMBER
    routes_per_pair: int = MAX_ROUTES_PER_PAIR
    origins: int = MAX_ORIGINS


@dataclass(frozen=True, slots=True)
class Statistics:
    """`members` are registered now, `sessions` are pairs of members with a handshake under way or
    done, `routes` their WireGuard indexes; the rest is counted from the start.
    """

    members: int
    sessions: int
    routes: int
    forwarded_bytes: int
    packets: Mapping[Fate, int]


class Table:
    """The state of a relay; `random_bytes` must be a good source.

    `is_own` says whether a place is one of the relay's own sockets: no member is there.
    """

    def __init__(
        self,
        key: StaticKey,
        *,
        random_bytes: Callable[[int], bytes],
        now: float,
        is_own: Callable[[Place], bool],
        bounds: Bounds | None = None,
    ) -> None:
        self._bounds = bounds or Bounds()
        self._fates = Fates()
        self._roster = Roster(self._bounds.members)
        self._registrar = Registrar(
            key,
            self._roster,
            self._fates,
            random_bytes=random_bytes,
            now=now,
            max_origins=self._bounds.origins,
            is_own=is_own,
        )
        self._at = self._roster.at
        self._heirs = NO_HEIRS
        self._formers: dict[WgPublicKey, WgPublicKey] = {}  # the same, the other way round
        self._waiting = Waiting()
        self._due: list[Sending] = []
        self._routes = 0
        self._forwarded = 0
        self._forwarded_bytes = 0

    def allow(self, membership: Membership, heirs: Heirs = NO_HEIRS) -> None:
        """From now on these may talk; what the others had is gone, the rest stays as it is.

        What a key had whose heir was known before is the heir's (REL-025).
        """
        self._roster.allow(membership)
        for former, heir in self._heirs.items():
            if not self._roster.may_use(former) and self._roster.may_use(heir):
                self._inherit(former, heir)
        self._heirs, self._formers = heirs, {heir: former for former, heir in heirs.items()}
        for member in self._roster.members.values():
            for index, route in list(member.routes.items()):
                if not self._roster.share(member.key, route.target.key):
                    self._forget_route(member, index)
        self._forget_members(lambda member: not self._roster.may_use(member.key))

    def set_rate(self, rate: Allowance | None, now: float) -> None:
        """From now on each member may send so many bytes of data; None: as many as it likes."""
        self._roster.set_rate(rate, now)

    @property
    def moves(self) -> int:
        """Grows whenever a member is heard from another address than before, or not any more."""
        return self._roster.moves

    def where(self, key: WgPublicKey) -> Place | None:
        """The address from which a registered member is heard."""
        member = self._roster.members.get(key)
        return None if member is None else member.place

    def is_heard(self, place: Place) -> bool:
        """Whether a registered member is heard from there."""
        return place in self._at

    def leave(self, place: Place) -> None:
        """Nobody is there any more. Who was is met again wherever it is heard next."""
        self._roster.leave(place)

    def step(self, now: float, source: Place, packet: bytes) -> Sending | None:
        """What to send, and where to, because of a datagram from `source`."""
        member = self._at.get(source)
        if packet[:4] == _DATA_WORD and DATA_MIN_BYTES <= len(packet) <= DATA_MAX_BYTES:
            if member is not None:
                route = member.routes.get(int.from_bytes(packet[4:8], "little"))
                if route is not None:
                    return self._forward(now, route, packet, member.volume)
            moves = self._roster.moves
            answer = self._registrar.hear(now, source, member, packet)
            if self._roster.moves != moves and (came := self._at.get(source)) is not None:
                if (former := self._formers.get(came.key)) is not None:
                    self._inherit(former, came.key)
                self._send_on(now, came)
            return answer
        match messages.kind_of(packet):
            case 0:
                return self._fates.drop(Fate.NO_MESSAGE)
            case messages.INITIATION if messages.has_mac1(packet, self._registrar.mac1_key):
                return self._registrar.answer(now, source, member, packet)
            case kind if member is not None:
                return self._between(now, kind, member, packet)
        return self._fates.drop(Fate.UNKNOWN_SOURCE)

    def take_due(self) -> list[Sending]:
        """What else is to be sent because of the datagrams before: what was held for a member."""
        due, self._due = self._due, []
        return due

    def expire(self, now: float) -> None:
        """Nothing is left of what has been silent or in use for too long; call it now and then.

        Of silent members the last timestamp is remembered, until there is no room for new ones.
        """
        self._waiting.expire(now)
        for member in self._roster.members.values():
            if member.place is not None and now - member.heard_s > SILENT_S:
                self._roster.unregister(member)
            for registration in list(member.registrations):
                if now - registration.made_s > SESSION_S:
                    self._roster.forget_registration(member, registration)
            for index in [i for i, route in member.routes.items() if route.until_s <= now]:
                self._forget_route(member, index)
        if len(self._roster.members) >= self._bounds.members:
            self._forget_members(lambda each: each.place is None and not each.registrations)

    def statistics(self) -> Statistics:
        members = self._roster.members.values()
        pairs = {frozenset((each.key, target)) for each in members for target in each.between}
        return Statistics(
            members=len(self._at),
            sessions=len(pairs),
            routes=self._routes,
            forwarded_bytes=self._forwarded_bytes,
            packets={**self._fates, Fate.FORWARDED: self._forwarded},
        )

    def _between(self, now: float, kind: int, member: Member, packet: bytes) -> Sending | None:
        """What a member sends to others, save data."""
        if not member.budget.take(now):
            return self._fates.drop(Fate.LIMITED)
        if kind == messages.INITIATION:
            return self._introduce(now, member, packet)
        at = 8 if kind == messages.RESPONSE else 4
        route = member.routes.get(int.from_bytes(packet[at : at + 4], "little"))
        if route is None or route.until_s <= now:
            return self._fates.drop(Fate.UNKNOWN_INDEX)
        if kind == messages.COOKIE_REPLY:
            return self._forward(now, route, packet)
        if not self._is_for(packet, route.target):
            return self._fates.drop(Fate.FORGED)
        return self._lead(now, packet, sender=member, receiver=route.target)

    def _is_for(self, packet: bytes, target: Member) -> bool:
        """A member that has replaced its key may ask before it has registered with the new one."""
        if messages.has_mac1(packet, target.mac1_key):
            return True
        heir = self._heirs.get(target.key)
        return heir is not None and messages.has_mac1(packet, messages.mac1_key(heir))

    def _inherit(self, former_key: WgPublicKey, heir_key: WgPublicKey) -> None:
        """A member goes on by its next key: whom it knows, who knows it, and where it is."""
        former = self._roster.members.get(former_key)
        if former is None:
            return
        heir = self._roster.meet(heir_key, former.heard_s)
        if heir is None:
            return
        heir.volume = former.volume  # one member, one rate
        for index, route in list(former.routes.items()):
            self._forget_route(former, index)
            if index not in heir.routes and len(heir.routes) < self._bounds.routes_per_member:
                heir.add(index, route)
                self._routes += 1
        for member in self._roster.members.values():
            for index in list(member.between.get(former_key, ())):
                until_s = member.routes[index].until_s
                member.remove(index)
                member.add(index, Route(heir, until_s))
        place, heir.heard_s = former.place, max(heir.heard_s, former.heard_s)
        self._roster.unregister(former)
        if heir.place is None and place is not None:
            self._roster.move(heir, place)

    def _introduce(self, now: float, member: Member, packet: bytes) -> Sending | None:
        """Pass an initiation on to the member that its mac1 names."""
        hashes, target = 0, None
        for candidate in self._roster.candidates(member):
            hashes += 1
            if messages.has_mac1(packet, candidate.mac1_key):
                target = candidate
                break
        member.budget.charge(hashes / HASHES_PER_TOKEN)
        if target is None:
            if not self._roster.has_absent(member.key):
                return self._fates.drop(Fate.UNKNOWN_RECEIVER)
            self._waiting.put(now, member.key, packet)
            return self._fates.drop(Fate.HELD)
        return self._lead(now, packet, sender=member, receiver=target)

    def _send_on(self, now: float, member: Member) -> None:
        """Who has just come is sent what others began to say before."""
        for held in self._waiting.take(now, member.mac1_key) if self._waiting else ():
            sender = self._roster.members.get(held.sender)
            if sender is None or sender.place is None or sender is member:
                continue
            if not self._roster.share(sender.key, member.key):
                continue
            sending = self._lead(now, held.packet, sender=sender, receiver=member)
            if sending is not None:
                self._due.append(sending)

    def _lead(
        self, now: float, packet: bytes, *, sender: Member, receiver: Member
    ) -> Sending | None:
        """Pass on a handshake message; its sender index, in what the receiver sends, leads back."""
        index = int.from_bytes(packet[4:8], "little")
        route = receiver.routes.get(index)
        is_taken = route is not None and route.target is not sender and route.until_s > now
        if is_taken or index in self._roster.own:
            return self._fates.drop(Fate.TAKEN)
        if route is not None:
            self._forget_route(receiver, index)
        earlier = receiver.between.get(sender.key, [])
        if len(earlier) >= self._bounds.routes_per_pair:
            self._forget_route(receiver, earlier[0])
        if (
            len(receiver.routes) >= self._bounds.routes_per_member
            or self._routes >= self._bounds.routes
        ):
            return self._fates.drop(Fate.FULL)
        until_s = now + ROUTE_S
        receiver.add(index, Route(sender, until_s))
        self._routes += 1
        return self._forward(now, Route(receiver, until_s), packet)

    def _forward(
        self, now: float, route: Route, packet: bytes, volume: Bucket | None = None
    ) -> Sending | None:
        """`volume`: what it is taken from; None: from nothing."""
        place = route.target.place
        if place is None or route.until_s <= now:
            return self._fates.drop(Fate.UNKNOWN_INDEX)
        if volume is not None and not volume.take(now, len(packet)):
            return self._fates.drop(Fate.OVER_RATE)
        self._forwarded += 1
        self._forwarded_bytes += len(packet)
        return place, packet

    def _forget_members(self, is_gone: Callable[[Member], bool]) -> None:
        members = self._roster.members
        gone = {key: member for key, member in members.items() if is_gone(member)}
        for key, member in gone.items():
            self._roster.unregister(member)
            for index in list(member.routes):
                self._forget_route(member, index)
            del members[key]
        for member in members.values():
            for key in gone.keys() & member.between.keys():
                for index in list(member.between[key]):
                    self._forget_route(member, index)

    def _forget_route(self, member: Member, index: int) -> None:
        member.remove(index)
        self._routes -= 1
