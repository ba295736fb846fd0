"""A relay's own handshakes and keepalives: how it learns, with proof, where a member is."""

from __future__ import annotations

from collections.abc import Callable

from overlay.keys.wireguard import KEY_BYTES, WireGuardKey
from overlay.relay import messages, noise
from overlay.relay.fate import Fate, Fates, Sending
from overlay.relay.limits import CALM, ORIGIN, Bucket, Origins, Place
from overlay.relay.member import SESSION_S, Member, Registration
from overlay.relay.messages import DATA_MIN_BYTES
from overlay.relay.roster import Roster

COOKIE_SECRET_S = 120.0  # WireGuard's own
COOKIE_SECRET_BYTES = 32


class Registrar:
    """Answers handshakes with the relay's key; keeps `roster` up to date and counts in `fates`."""

    def __init__(
        self,
        key: noise.StaticKey,
        roster: Roster,
        fates: Fates,
        *,
        random_bytes: Callable[[int], bytes],
        now: float,
        max_origins: int,
        is_own: Callable[[Place], bool],
    ) -> None:
        self.mac1_key = messages.mac1_key(key.public_key)
        self._key = key
        self._cookie_key = messages.cookie_key(key.public_key)
        self._roster = roster
        self._fates = fates
        self._random_bytes = random_bytes
        self._is_own = is_own
        self._calm = Bucket(CALM, now)
        self._origins = Origins(ORIGIN, max_origins)
        self._secret = random_bytes(COOKIE_SECRET_BYTES)
        self._secret_until_s = now + COOKIE_SECRET_S

    def answer(
        self, now: float, source: Place, at_source: Member | None, packet: bytes
    ) -> Sending | None:
        """The response to an initiation for the relay, or a cookie when it is busy."""
        if not self._may_ask(now, source, at_source):
            return self._fates.drop(Fate.LIMITED)
        if not self._calm.take(now):
            cookie = self._cookie(now, source)
            if not messages.has_mac2(packet, cookie):
                return self._fates.answer(Fate.COOKIE, source, self._reply(packet, cookie))
        opened = noise.open_initiation(messages.initiation_of(packet), self._key)
        if opened is None:
            return self._fates.drop(Fate.FORGED)
        if not self._roster.may_use(opened.initiator):
            return self._fates.drop(Fate.NO_MEMBER)
        member = self._roster.meet(opened.initiator, now)
        if member is None:
            return self._fates.drop(Fate.FULL)
        if opened.timestamp <= member.timestamp:
            return self._fates.drop(Fate.REPLAYED)
        member.timestamp = opened.timestamp
        index = self._draw_index(member)
        ephemeral = WireGuardKey(self._random_bytes(KEY_BYTES))
        answer = noise.respond(opened, ephemeral=ephemeral, index=index)
        if answer is None:
            return self._fates.drop(Fate.FORGED)
        response, tunnel = answer
        self._roster.register(member, Registration(index, tunnel, source, now))
        return self._fates.answer(Fate.ANSWERED, source, response)

    def hear(
        self, now: float, source: Place, at_source: Member | None, packet: bytes
    ) -> Sending | None:
        """Take a keepalive to the relay, which says that its member is at `source`. No answer."""
        found = self._roster.own.get(int.from_bytes(packet[4:8], "little"))
        if found is None:
            unknown = Fate.UNKNOWN_SOURCE if at_source is None else Fate.UNKNOWN_INDEX
            return self._fates.drop(unknown)
        if len(packet) != DATA_MIN_BYTES:
            return self._fates.drop(Fate.FORGED)  # a member has nothing to say to the relay
        if not self._may_ask(now, source, at_source):
            return self._fates.drop(Fate.LIMITED)
        member, registration = found
        message = messages.data_of(packet)
        if now - registration.made_s > SESSION_S or message.counter <= registration.counter:
            return self._fates.drop(Fate.REPLAYED)
        if noise.open_data(registration.tunnel, message) is None:
            return self._fates.drop(Fate.FORGED)
        # Where the response did not go, nobody has shown that they hear; where another member is
        # heard, one who was there before has to show it anew, by a handshake.
        is_first = registration.counter < 0
        if source != registration.place if is_first else at_source not in (None, member):
            return self._fates.drop(Fate.TAKEN)
        # A member that claims to be where the relay is would have it talk to itself.
        if source != member.place and self._is_own(source):
            return self._fates.drop(Fate.TAKEN)
        registration.counter = message.counter
        member.heard_s = now
        for older in member.registrations[: member.registrations.index(registration)]:
            self._roster.forget_registration(member, older)
        self._roster.move(member, source)
        return self._fates.drop(Fate.KEEPALIVE)

    def _may_ask(self, now: float, source: Place, at_source: Member | None) -> bool:
        """Members are not held responsible for what others behind the same address ask."""
        if at_source is not None:
            return at_source.budget.take(now)
        return self._origins.take(source, now)

    def _cookie(self, now: float, source: Place) -> bytes:
        if now >= self._secret_until_s:
            self._secret = self._random_bytes(COOKIE_SECRET_BYTES)
            self._secret_until_s = now + COOKIE_SECRET_S
        return messages.make_cookie(f"{source[0]} {source[1]}".encode(), secret=self._secret)

    def _reply(self, packet: bytes, cookie: bytes) -> bytes:
        reply = messages.seal_cookie(
            messages.initiation_of(packet),
            cookie,
            key=self._cookie_key,
            nonce=self._random_bytes(messages.COOKIE_NONCE_BYTES),
        )
        return messages.build(reply)

    def _draw_index(self, member: Member) -> int:
        while True:
            index = int.from_bytes(self._random_bytes(4), "little")
            if index not in self._roster.own and index not in member.routes:
                return index
