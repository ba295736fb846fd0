"""WireGuard as far as paths depend on it: handshakes, sessions, timers, roaming, allowed IPs.

After the WireGuard paper, sections 5.4 and 6, and Linux' timers. Cryptography is left out: a packet
says from whom it is and to whom. Also left out are cookies, the rate limit for initiations and
replays of initiations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from netlab.sim.clock import Timeline
from netlab.sim.inner import Inner, covering
from netlab.sim.internet import Host, Internet
from netlab.sim.tunnel import (
    CONFIRMATION,
    INITIATION,
    INNER,
    KEEPALIVE,
    REKEY_TIMEOUT_S,
    REPLY,
    REQUEST,
    RESPONSE,
    SIZES_BYTES,
    Session,
    Traffic,
    Tunnel,
)
from overlay.model import Address, Endpoint, Prefix, WgPeer, WgPublicKey

REKEY_AFTER_S = 120.0
REJECT_AFTER_S = 180.0
REKEY_JITTER_S = 0.333
REKEY_ATTEMPT_S = 90.0
KEEPALIVE_TIMEOUT_S = 10.0
UNANSWERED_S = KEEPALIVE_TIMEOUT_S + REKEY_TIMEOUT_S  # sent and nothing heard: a new handshake
ASK_AGAIN_S = (4.0, 6.0)  # tenants do not keep step
STAGED_MOST = 128  # drivers/net/wireguard/messages.h: MAX_STAGED_PACKETS


class Device:
    """A WireGuard device with its UDP port on a host.

    `on_change` hears of peers about which a look at the device would show something new: a
    handshake, another endpoint. `on_try` hears of initiations, `on_inner` of what a peer sends
    that it may send.
    """

    __slots__ = (
        "_chance",
        "_host",
        "_internet",
        "_missed",
        "_numbers",
        "_on_change",
        "_on_inner",
        "_on_try",
        "_ports",
        "_routes",
        "_timeline",
        "_traffic",
        "holders",
        "is_asleep",
        "is_up",
        "key",
        "port",
        "tunnels",
    )

    def __init__(
        self,
        key: WgPublicKey,
        host: Host,
        port: int,
        *,
        timeline: Timeline,
        internet: Internet,
        ports: dict[tuple[int, int], Device],
        traffic: Traffic,
        numbers: count[int],
        on_change: Callable[[WgPublicKey], None],
        on_try: Callable[[WgPublicKey], None],
        on_inner: Callable[[Inner], None],
    ) -> None:
        self.key = key
        self.port = port
        self.tunnels: dict[WgPublicKey, Tunnel] = {}
        self.holders: dict[Prefix, WgPublicKey] = {}  # cryptokey routing: one peer for each prefix
        self._routes: dict[Address, WgPublicKey | None] = {}  # as far as they were asked for
        self.is_up = True
        self.is_asleep = False
        self._host = host
        self._timeline = timeline
        self._internet = internet
        self._ports = ports
        self._traffic = traffic
        self._numbers = numbers
        self._chance = host.chance
        self._on_change = on_change
        self._on_try = on_try
        self._on_inner = on_inner
        self._missed: list[tuple[Callable[..., None], tuple[Tunnel, float]]] = []
        ports[host.number, port] = self

    def close(self) -> None:
        """Gone from the host; nobody is told anything any more, so nobody is held by it either."""
        self.is_up = False
        for tunnel in self.tunnels.values():
            tunnel.is_dropped = True
        self.tunnels = {}
        self._on_change = self._on_try = self._on_inner = _tell_nobody
        self._missed = []
        del self._ports[self._host.number, self.port]

    def sleep(self) -> None:
        self.is_asleep = True

    def wake(self) -> None:
        """Timers that ran out meanwhile run out now."""
        self.is_asleep = False
        missed, self._missed = self._missed, []
        for call, args in missed:
            call(*args)

    # What is written to it.

    def put(self, peer: WgPeer) -> None:
        key, endpoint = peer.public_key, peer.endpoint
        tunnel = self.tunnels.get(key)
        if tunnel is None:
            tunnel = self.tunnels[key] = Tunnel(key)
        if endpoint is not None and endpoint != tunnel.endpoint:
            self._set_endpoint(tunnel, endpoint, written_at=self._timeline.wall)
        if peer.allowed_ips != tunnel.allowed_ips:
            self._release(tunnel)
            self._hold(tunnel, peer.allowed_ips)
        before, tunnel.keepalive_s = tunnel.keepalive_s, peer.keepalive_s
        if tunnel.keepalive_s and not before:
            self._send_empty(tunnel)
            self._timeline.after(tunnel.keepalive_s, self._keep_alive, tunnel, 0.0)

    def _hold(self, tunnel: Tunnel, prefixes: tuple[Prefix, ...]) -> None:
        """As the kernel does: allowed IPs are taken from whoever has them."""
        tunnel.allowed_ips = prefixes
        holders, key = self.holders, tunnel.key
        for prefix in prefixes:
            former = holders.get(prefix, key)
            if former != key:
                loser = self.tunnels[former]
                loser.allowed_ips = tuple([p for p in loser.allowed_ips if p != prefix])
            holders[prefix] = key

    def drop(self, key: WgPublicKey) -> None:
        tunnel = self.tunnels.pop(key, None)
        if tunnel is not None:
            tunnel.is_dropped = True
            self._release(tunnel)

    def _release(self, tunnel: Tunnel) -> None:
        self._routes.clear()
        for prefix in tunnel.allowed_ips:
            self.holders.pop(prefix, None)

    def shown(self, keys: Iterable[WgPublicKey]) -> dict[WgPublicKey, WgPeer]:
        """Those peers that there are, as they are read from a device."""
        shown = {}
        for key in keys:
            if (tunnel := self.tunnels.get(key)) is not None:
                shown[key] = WgPeer(
                    key,
                    tunnel.allowed_ips,
                    tunnel.endpoint,
                    tunnel.keepalive_s,
                    int(tunnel.latest_handshake),
                )
        return shown

    # What the tenant sends.

    def greet(self, key: WgPublicKey) -> None:
        """One packet that wants no answer."""
        if (tunnel := self.tunnels.get(key)) is not None and not self.is_asleep:
            self._send_empty(tunnel)

    def ask(self, key: WgPublicKey, *, until: float) -> None:
        """Send requests until one is answered, at most until then."""
        tunnel = self.tunnels.get(key)
        if tunnel is None or self.is_asleep:
            return
        tunnel.asking_until = max(tunnel.asking_until, until)
        if tunnel.asked_at < 0.0:
            tunnel.asked_at = self._timeline.now
            self._timeline.after(self._chance.random(), self._ask, tunnel, tunnel.asked_at)

    def _ask(self, tunnel: Tunnel, since: float) -> None:
        now = self._timeline.now
        if tunnel.asked_at != since:
            return
        if self.is_asleep or tunnel.is_dropped:
            self._miss(tunnel, self._ask, since)
            return
        if now > tunnel.asking_until:
            tunnel.asked_at = -1.0
            return
        if (session := self._good(tunnel)) is not None:
            self._send(tunnel, REQUEST, session)
            if now - since >= UNANSWERED_S:
                self._initiate(tunnel)
        else:
            tunnel.is_staged = True
            self._initiate(tunnel)
        least, most = ASK_AGAIN_S
        wait_s = least + (most - least) * self._chance.random()
        self._timeline.after(wait_s, self._ask, tunnel, since)

    def holder(self, address: Address) -> WgPublicKey | None:
        """The peer that has the longest of the allowed IPs that this address is in."""
        known, holders = self._routes, self.holders
        if address not in known:
            known[address] = next((holders[p] for p in covering(address) if p in holders), None)
        return known[address]

    def carry(self, inner: Inner) -> WgPublicKey | None:
        """Send a packet to whom it belongs to, and say to whom; None when to nobody."""
        if self.is_asleep or (key := self.holder(inner.target)) is None:
            return None
        tunnel, now = self.tunnels[key], self._timeline.now
        if (session := self._good(tunnel)) is None:
            tunnel.staged = (*tunnel.staged, inner)[-STAGED_MOST:]
            self._initiate(tunnel)
            return key
        self._send(tunnel, INNER, session, inner)
        if tunnel.unheard_since < 0.0:
            tunnel.unheard_since = now
        elif now - tunnel.unheard_since >= UNANSWERED_S:
            self._initiate(tunnel)
        return key

    # What it sends by itself.

    def _miss(self, tunnel: Tunnel, call: Callable[..., None], mark: float) -> None:
        """A timer of a peer that is gone never counts; that of a sleeper counts when it wakes."""
        if not tunnel.is_dropped:
            self._missed.append((call, (tunnel, mark)))

    def _good(self, tunnel: Tunnel) -> Session | None:
        """The session that may be sent with, if there is one."""
        session = tunnel.current
        if session is None or self._timeline.now - session.born >= REJECT_AFTER_S:
            return None
        return session

    def _keep_alive(self, tunnel: Tunnel, mark: float) -> None:
        if self.is_asleep or tunnel.is_dropped:
            self._miss(tunnel, self._keep_alive, mark)
            return
        if not (keepalive_s := tunnel.keepalive_s):
            return
        rest_s = tunnel.sent_at + keepalive_s - self._timeline.now
        if rest_s <= 0.001:
            self._send_empty(tunnel)
            rest_s = keepalive_s
        self._timeline.after(rest_s, self._keep_alive, tunnel, 0.0)

    def _send_empty(self, tunnel: Tunnel) -> None:
        if (session := self._good(tunnel)) is not None:
            self._send(tunnel, KEEPALIVE, session)
        else:
            self._initiate(tunnel)

    def _initiate(self, tunnel: Tunnel) -> None:
        """Begin to try for a handshake, unless one was begun just now."""
        now = self._timeline.now
        if now - tunnel.shaken < REKEY_TIMEOUT_S:
            return
        tunnel.attempts_until = now + REKEY_ATTEMPT_S
        self._send_initiation(tunnel)

    def _send_initiation(self, tunnel: Tunnel) -> None:
        tunnel.shaken = self._timeline.now
        tunnel.pending = number = next(self._numbers)
        tunnel.trying += 1
        if tunnel.endpoint is None:
            return  # nothing is sent, however often: the next try that counts is when there is one
        self._transmit(tunnel, INITIATION, number)
        self._on_try(tunnel.key)
        wait_s = REKEY_TIMEOUT_S + REKEY_JITTER_S * self._chance.random()
        self._timeline.after(wait_s, self._try_again, tunnel, tunnel.trying)

    def _set_endpoint(self, tunnel: Tunnel, endpoint: Endpoint, *, written_at: float) -> None:
        """What was tried without an endpoint goes on with this one, in the rhythm that it had."""
        was_nowhere, now = tunnel.endpoint is None, self._timeline.now
        tunnel.endpoint, tunnel.written_at = endpoint, written_at
        if not was_nowhere:
            return
        if now < tunnel.attempts_until:
            since_s = (now - tunnel.shaken) % REKEY_TIMEOUT_S
            tunnel.shaken = now - since_s
            wait_s = REKEY_TIMEOUT_S - since_s + REKEY_JITTER_S * self._chance.random()
            self._timeline.after(wait_s, self._try_again, tunnel, tunnel.trying)
        else:
            tunnel.is_staged, tunnel.staged = False, ()

    def _try_again(self, tunnel: Tunnel, mark: float) -> None:
        if tunnel.trying != mark:
            return
        if self.is_asleep or tunnel.is_dropped:
            self._miss(tunnel, self._try_again, mark)
            return
        now = self._timeline.now
        if now >= tunnel.attempts_until:
            tunnel.is_staged, tunnel.staged = False, ()
        elif now - tunnel.shaken >= REKEY_TIMEOUT_S:
            self._send_initiation(tunnel)

    def _send(
        self, tunnel: Tunnel, kind: int, session: Session, inner: Inner | None = None
    ) -> None:
        self._transmit(tunnel, kind, session.number, inner)
        if session.is_initiator and self._timeline.now - session.born > REKEY_AFTER_S:
            self._initiate(tunnel)

    def _transmit(self, tunnel: Tunnel, kind: int, number: int, inner: Inner | None = None) -> None:
        tunnel.sent_at = now = self._timeline.now
        if (endpoint := tunnel.endpoint) is None:
            return
        self._traffic.sent[kind] += 1
        tunnel.sent_bytes += SIZES_BYTES[kind]
        internet = self._internet
        route = internet.route_v6 if ":" in endpoint.address else internet.route_v4
        arrival = route(self._host, self.port, endpoint, now)
        if arrival is None:
            return
        there, port, seen, delay_s = arrival
        device = self._ports.get((there.number, port))
        if device is not None and device.key == tunnel.key:
            self._timeline.after(delay_s, device.receive, kind, self.key, number, seen, inner)

    # What comes.

    def receive(
        self,
        kind: int,
        sender: WgPublicKey,
        number: int,
        seen: Endpoint,
        inner: Inner | None = None,
    ) -> None:
        tunnel = self.tunnels.get(sender)
        if tunnel is None or self.is_asleep:
            return
        tunnel.heard_bytes += SIZES_BYTES[kind]
        if kind == INITIATION:
            self._respond(tunnel, number, seen)
        elif kind == RESPONSE:
            if number == tunnel.pending:
                self._confirm(tunnel, number, seen)
        elif self._knows(tunnel, number):
            self._note_endpoint(tunnel, seen)
            tunnel.unheard_since = -1.0
            if kind == REQUEST:
                self._answer(tunnel)
            elif kind == REPLY:
                tunnel.asked_at, tunnel.answered_at = -1.0, self._timeline.now
            elif inner is not None and self.holder(inner.source) == sender:
                self._on_inner(inner)

    def _respond(self, tunnel: Tunnel, number: int, seen: Endpoint) -> None:
        # The one handshake state of a peer is the responder's now: a response to our own
        # initiation comes too late.
        tunnel.pending = 0
        tunnel.offered = Session(number, self._timeline.now, is_initiator=False)
        self._note_endpoint(tunnel, seen)
        self._transmit(tunnel, RESPONSE, number)
        tunnel.shaken = self._timeline.now

    def _confirm(self, tunnel: Tunnel, number: int, seen: Endpoint) -> None:
        session = Session(number, self._timeline.now, is_initiator=True)
        self._note_endpoint(tunnel, seen)
        self._complete(tunnel, session)
        if not (tunnel.is_staged or tunnel.staged):
            self._send(tunnel, CONFIRMATION, session)
        self._send_staged(tunnel, session)

    def _answer(self, tunnel: Tunnel) -> None:
        if (session := self._good(tunnel)) is not None:
            self._send(tunnel, REPLY, session)

    def _note_endpoint(self, tunnel: Tunnel, seen: Endpoint) -> None:
        if tunnel.endpoint != seen:
            self._set_endpoint(tunnel, seen, written_at=0.0)
            self._on_change(tunnel.key)

    def _knows(self, tunnel: Tunnel, number: int) -> bool:
        """Whether a packet of this session counts; the first with an offered one makes it ours."""
        offered = tunnel.offered
        if offered is not None and offered.number == number:
            self._complete(tunnel, offered)
            tunnel.offered = None
            self._send_staged(tunnel, offered)
        known = tunnel.current
        if known is None or known.number != number:
            known = tunnel.previous
            if known is None or known.number != number:
                return False
        return self._timeline.now - known.born < REJECT_AFTER_S

    def _complete(self, tunnel: Tunnel, session: Session) -> None:
        tunnel.previous, tunnel.current = tunnel.current, session
        tunnel.latest_handshake = self._timeline.wall
        tunnel.pending = 0
        tunnel.trying += 1
        tunnel.unheard_since = -1.0
        self._on_change(tunnel.key)

    def _send_staged(self, tunnel: Tunnel, session: Session) -> None:
        if tunnel.is_staged:
            tunnel.is_staged = False
            self._send(tunnel, REQUEST, session)
        staged, tunnel.staged = tunnel.staged, ()
        for inner in staged:
            self._send(tunnel, INNER, session, inner)


def _tell_nobody(_: object) -> None:
    """Who listened is gone."""
