"""What a relay keeps of one member: where it is, and to whom which WireGuard index leads."""

from __future__ import annotations

from dataclasses import dataclass, field

from overlay.model import WgPublicKey
from overlay.relay.limits import Bucket, Place
from overlay.relay.messages import mac1_key
from overlay.relay.noise import Tunnel

# WireGuard uses no session for longer (Reject-After-Time), and starts the next one 60 s before.
SESSION_S = 180.0
# The session begins with the response: a little later than its initiation was seen.
ROUTE_S = SESSION_S + 20.0
# Seven keepalives of 25 s are missing.
SILENT_S = 180.0
# The one in use, the next one, and one that replaces the next while its answer is under way.
MAX_REGISTRATIONS = 3


@dataclass(slots=True, eq=False)
class Registration:
    """A handshake of a member with the relay. `place`: where the response went.

    `counter` is the highest that was heard, -1 before the first: only then it counts, for it proves
    that who asked also hears.
    """

    index: int
    tunnel: Tunnel
    place: Place
    made_s: float
    counter: int = -1


@dataclass(slots=True, eq=False)
class Route:
    """Whose index it is: packets to it are for `target`."""

    target: Member
    until_s: float


@dataclass(slots=True, eq=False)
class Member:
    """A key that has shown itself. `place` is None while it is not registered.

    routes     by the receiver index in what this member sends
    between    by the key of the target: the indexes in `routes` that lead there, oldest first
    timestamp  of its last handshake: older ones are replays
    """

    key: WgPublicKey
    budget: Bucket  # of handshake messages
    volume: Bucket | None = None  # of data, in bytes; None: as much as it likes
    place: Place | None = None
    heard_s: float = 0.0
    timestamp: bytes = b""
    mac1_key: bytes = field(init=False)
    registrations: list[Registration] = field(default_factory=list)
    routes: dict[int, Route] = field(default_factory=dict)
    between: dict[WgPublicKey, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mac1_key = mac1_key(self.key)

    def add(self, index: int, route: Route) -> None:
        self.routes[index] = route
        self.between.setdefault(route.target.key, []).append(index)

    def remove(self, index: int) -> None:
        """A route that is there is not there any more."""
        target = self.routes.pop(index).target.key
        left = self.between[target]
        left.remove(index)
        if not left:
            del self.between[target]
