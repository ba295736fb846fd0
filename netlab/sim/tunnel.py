"""What a WireGuard device keeps of one peer, and what it counts."""

from __future__ import annotations

from netlab.sim.inner import Inner
from overlay.model import Endpoint, Prefix, WgPublicKey

REKEY_TIMEOUT_S = 5.0

# Kinds of packets. A confirmation is the keepalive that ends a handshake; a request is answered by
# whoever is behind the other end; what is inside others is for the tenant to see. Plain numbers: an
# enumeration costs more than all else here.
INITIATION, RESPONSE, KEEPALIVE, CONFIRMATION, REQUEST, REPLY, INNER = range(7)
SIZES_BYTES = (148, 92, 32, 32, 128, 128, 128)


class Session:
    __slots__ = ("born", "is_initiator", "number")

    def __init__(self, number: int, born: float, *, is_initiator: bool) -> None:
        self.number = number
        self.born = born
        self.is_initiator = is_initiator


class Tunnel:
    """One peer of a device."""

    __slots__ = (
        "allowed_ips",
        "answered_at",
        "asked_at",
        "asking_until",
        "attempts_until",
        "current",
        "endpoint",
        "heard_bytes",
        "is_dropped",
        "is_staged",
        "keepalive_s",
        "key",
        "latest_handshake",
        "offered",
        "pending",
        "previous",
        "sent_at",
        "sent_bytes",
        "shaken",
        "staged",
        "trying",
        "unheard_since",
        "written_at",
    )

    def __init__(self, key: WgPublicKey) -> None:
        self.key = key
        self.is_dropped = False  # no peer of the device any more: what was due for it never counts
        self.endpoint: Endpoint | None = None
        self.allowed_ips: tuple[Prefix, ...] = ()
        self.keepalive_s = 0
        self.latest_handshake = 0.0  # Unix seconds; the device shows whole ones
        self.sent_bytes = 0
        self.heard_bytes = 0
        self.written_at = 0.0  # Unix seconds, the endpoint in use; 0: the peer came with it
        self.sent_at = 0.0
        self.current: Session | None = None
        self.previous: Session | None = None
        self.offered: Session | None = None  # as responder, until the first packet with it comes
        self.pending = 0  # the initiation whose response is awaited
        self.shaken = -REKEY_TIMEOUT_S  # when an initiation or a response was sent last
        self.attempts_until = 0.0
        self.trying = 0  # changes whenever the retry timer is set anew or stopped
        self.is_staged = False  # a request waits for a session
        self.staged: tuple[Inner, ...] = ()  # so do these
        self.unheard_since = -1.0  # since when nothing came after what was sent; -1: something did
        self.asked_at = -1.0  # since when a request is unanswered; -1: none is
        self.asking_until = 0.0
        self.answered_at = -1.0


class Traffic:
    """What all devices of a world sent, by kind of packet."""

    __slots__ = ("sent",)

    def __init__(self) -> None:
        self.sent = [0] * len(SIZES_BYTES)

    @property
    def total(self) -> int:
        return sum(self.sent)
