"""Which endpoint leads to a peer, as a state machine with `now` as an argument (NODE-040 .. 049).

Switching changes the endpoint only, so sessions go on. What a peer's member document offers is a
proposal; what WireGuard has proven by a handshake stays until it fails. How a pair that meets at a
relay finds a better way is `upgrade`, how it notices that its way broke is `liveness`.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from overlay import addressing
from overlay.model import Address, Candidate, CandidateKind, Endpoint, Family, Prefix

HANDSHAKE_FRESH_S = 180  # REJECT_AFTER_TIME: no session is older (WireGuard paper, section 6.1)
PATH_TRY_S = 5.0  # REKEY_TIMEOUT: WireGuard sends one handshake initiation in this time
PATH_TRY_MAX_S = 320.0
RELAY_TRY_S = 2.0  # who is registered there answers at once, and is greeted every second
DOUBT_S = 2.0  # an echo from anywhere on earth has come back by then, and a look has shown it
UNANSWERED_BYTES = 64  # two keepalives, which nobody answers, or one echo; two of them are more
KEEPALIVE_S = 25  # below the 30 s after which a NAT may forget a UDP mapping (RFC 4787 REQ-5)


# To ask the enumeration for one of these costs as much as to compare with it five times.
_DECLARED, _LOCAL = CandidateKind.DECLARED, CandidateKind.LOCAL
_OBSERVED, _RELAY = CandidateKind.OBSERVED, CandidateKind.RELAY


class Underlay(msgspec.Struct, frozen=True):
    """How we are connected ourselves."""

    families: frozenset[Family]
    prefixes: tuple[Prefix, ...]  # of our own links: who shares one is on the same LAN
    declared: bool  # an operator says that we can be reached

    def reaches(self, address: Address) -> bool:
        return (6 if ":" in address else 4) in self.families

    def is_neighbour(self, address: Address) -> bool:
        for prefix in self.prefixes:  # noqa: SIM110 - a generator costs twice as much
            if addressing.contains(prefix, address):
                return True
        return False


class Path(msgspec.Struct, frozen=True, gc=False):
    """Where we are in reaching one peer. `candidates` holds usable endpoints, best first."""

    candidates: tuple[Candidate, ...]
    keepalive_s: int = 0
    position: int = 0
    proven: Endpoint | None = None  # the peer was heard from here, whatever its document says
    since: float = 0.0  # monotonic, when the endpoint was chosen
    sent_bytes: int = 0  # to the peer, at `since`
    heard_bytes: int = -1  # from the peer, at the first look after `since`; -1: not looked yet
    asked_at: float = -1.0  # monotonic, since when packets go into a silence that is in doubt
    alive: bool = False  # a handshake was fresh at the last look
    doubtful: bool = False  # that handshake may be another endpoint's
    trial: Endpoint | None = None  # written to the device to see whether anything comes back
    failures: int = 0  # endpoints that led nowhere since the last handshake

    @property
    def endpoint(self) -> Endpoint | None:
        if self.proven is not None:
            return self.proven
        return self.candidates[self.position].endpoint if self.candidates else None

    @property
    def has_choice(self) -> bool:
        return len(self.candidates) + (self.proven is not None) > 1

    def kind_of(self, endpoint: Endpoint | None) -> str:
        """How we know `endpoint`: a candidate's kind, "roamed", or "none"."""
        if endpoint is None:
            return "none"
        kind = self.known_as(endpoint)
        return "roamed" if kind is None else kind.value

    def known_as(self, endpoint: Endpoint) -> CandidateKind | None:
        """The kind of the candidate that `endpoint` is; None for one that nobody offers."""
        for candidate in self.candidates:
            if candidate.endpoint == endpoint:
                return candidate.kind
        return None

    @property
    def has_relay(self) -> bool:
        """Both of us seem hidden, and may meet at a relay."""
        return any(candidate.kind is _RELAY for candidate in self.candidates)

    @property
    def is_public(self) -> bool:
        """An operator says that it can be reached."""
        return _is_public(self.candidates)

    @property
    def is_relayed(self) -> bool:
        return self.proven is None and self.kind_of(self.endpoint) == CandidateKind.RELAY

    @property
    def better_than_relay(self) -> tuple[Endpoint, ...]:
        """What would be better than to meet at a relay, best first."""
        kinds = [candidate.kind for candidate in self.candidates]
        if CandidateKind.RELAY not in kinds:
            return ()
        return tuple(c.endpoint for c in self.candidates[: kinds.index(CandidateKind.RELAY)])


def select_candidates(offered: Iterable[Candidate], *, underlay: Underlay) -> tuple[Candidate, ...]:
    """What we can use of a peer's candidates, in the order in which we would have them: declared,
    same LAN, observed, other local ones that mean the same everywhere, relays, and the rest.

    The order inside a kind is the peer's own.
    """
    usable = [c for c in offered if underlay.reaches(c.endpoint.address)]
    if len(usable) > 1:
        usable.sort(key=lambda candidate: _preference(candidate, underlay))
    return tuple(usable)


def begin_path(
    offered: Iterable[Candidate], *, underlay: Underlay, now: float, heard: Endpoint | None = None
) -> Path:
    """The path to a peer that we learn of. `heard`: where it was in an earlier life of ours."""
    offered = tuple(offered)
    candidates = select_candidates(offered, underlay=underlay)
    proven = None
    if heard is not None and underlay.reaches(heard.address):
        proven = None if any(c.endpoint == heard for c in candidates) else heard
    return Path(
        candidates=candidates,
        keepalive_s=_keepalive_s(offered, underlay),
        position=_start(candidates),
        proven=proven,
        since=now,
    )


def beside(path: Path, *, keepalive_s: int) -> Path:
    """The path to the same place under another key, of which nothing is proven yet."""
    return msgspec.structs.replace(
        path,
        keepalive_s=keepalive_s,
        sent_bytes=0,
        heard_bytes=-1,
        asked_at=-1.0,
        alive=False,
        doubtful=False,
        trial=None,
        failures=0,
    )


def with_candidates(
    path: Path, offered: Iterable[Candidate], *, underlay: Underlay, now: float
) -> Path:
    """The path after the peer offers other endpoints, or our own links changed.

    An endpoint in use that is still offered stays in use; a proven one stays until it fails.
    """
    begun = begin_path(offered, underlay=underlay, now=now)
    # Two that may meet at a relay keep what they need there as long as they may.
    keepalive_s = begun.keepalive_s or (path.keepalive_s if begun.has_relay else 0)
    if begun.candidates == path.candidates and keepalive_s == path.keepalive_s:
        return path
    kept = [c.endpoint for c in begun.candidates]
    if path.proven is None and path.endpoint in kept and path.failures == 0:
        position, since = kept.index(path.endpoint), path.since
    else:
        position, since = begun.position, now
    return msgspec.structs.replace(
        begun,
        position=position,
        keepalive_s=keepalive_s,
        proven=path.proven,
        trial=path.trial,
        alive=path.alive,
        since=since,
        sent_bytes=path.sent_bytes,
    )


def goes_first(offered: Iterable[Candidate], *, underlay: Underlay, is_lower: bool) -> bool:
    """Which of two begins: who seems hidden, for only it may reach the other; else the lower key.

    Handshakes that begin on both sides at once may cancel each other.
    """
    public = _is_public(offered)
    return is_lower if public == underlay.declared else public


def step(
    path: Path,
    *,
    endpoint: Endpoint | None,
    latest_handshake: int,
    sent_bytes: int,
    heard_bytes: int,
    wall: float,
    now: float,
) -> Path:
    """The path after a look at the device.

    `endpoint`, `latest_handshake` (Unix seconds), `sent_bytes` and `heard_bytes` are what
    WireGuard says of the peer, `wall` is Unix time, `now` monotonic. Returns `path` itself when
    nothing follows.
    """
    if wall - latest_handshake < HANDSHAKE_FRESH_S:
        if path.trial is not None and endpoint == path.trial:
            return path  # written there, and nothing has come from there yet
        chosen_at = wall - (now - path.since)
        is_later = latest_handshake > chosen_at
        if (path.alive and not path.doubtful) or _proves(
            path, endpoint, is_later=is_later, heard_bytes=heard_bytes
        ):
            return _proven(path, endpoint)
        return _doubted(path, sent_bytes=sent_bytes, heard_bytes=heard_bytes, now=now)
    if path.alive:
        # The wait begins when the session is over: what was sent before says nothing.
        return msgspec.structs.replace(
            path, alive=False, doubtful=False, since=now, sent_bytes=sent_bytes
        )
    # Without traffic WireGuard sends no handshake, and silence proves nothing.
    if sent_bytes <= path.sent_bytes or is_on_trial(path, now=now):
        return path
    return _next(path, now=now, sent_bytes=sent_bytes) if path.has_choice else path


def is_on_trial(path: Path, *, now: float) -> bool:
    """Whether the endpoint in use still has time to be answered from."""
    return now - path.since < _patience_s(path)


def _proves(path: Path, endpoint: Endpoint | None, *, is_later: bool, heard_bytes: int) -> bool:
    """Whether a fresh handshake says that the endpoint in use works (NODE-049).

    One endpoint gives way to the next after a look at the device; a handshake that ended between
    that look and the writing was the former's, and the next one may lead nowhere.
    """
    if path.failures == 0 or endpoint != path.endpoint or is_later:
        return True
    return 0 <= path.heard_bytes < heard_bytes


def _doubted(path: Path, *, sent_bytes: int, heard_bytes: int, now: float) -> Path:
    """The session is fresh, but perhaps not by way of this endpoint: the peer is asked."""
    if path.asked_at < 0 and sent_bytes <= path.sent_bytes and path.heard_bytes >= 0:
        return path  # nothing is asked
    if path.asked_at >= 0 and now - path.asked_at < _doubt_s(path):
        return path
    if path.asked_at >= 0 and sent_bytes - path.sent_bytes > UNANSWERED_BYTES and path.has_choice:
        return _next(path, now=now, sent_bytes=sent_bytes)
    return msgspec.structs.replace(
        path,
        alive=True,
        doubtful=True,
        heard_bytes=heard_bytes,
        asked_at=-1.0 if path.heard_bytes < 0 else now,
        sent_bytes=sent_bytes,
    )


def _proven(path: Path, endpoint: Endpoint | None) -> Path:
    """A handshake succeeded: this endpoint stays, whoever chose it."""
    known = {c.endpoint: n for n, c in enumerate(path.candidates)}
    position = known.get(endpoint, path.position) if endpoint else path.position
    proven = endpoint if endpoint not in known else None
    known_so = (path.position, path.proven, path.alive, path.doubtful, path.failures)
    if (position, proven, True, False, 0) == known_so:
        return path
    return msgspec.structs.replace(
        path,
        position=position,
        proven=proven,
        alive=True,
        doubtful=False,
        failures=0,
        heard_bytes=-1,
        asked_at=-1.0,
    )


def with_endpoint(path: Path, endpoint: Endpoint) -> Path:
    """The path that a trial has proven, or that a peer in its turn came by."""
    return _proven(msgspec.structs.replace(path, trial=None), endpoint)


def elsewhere(path: Path, offered: Iterable[Candidate], *, underlay: Underlay, now: float) -> Path:
    """The path after the relay at which a peer was met is reached by another way: from the start.

    The session goes on, but says nothing of the new way.
    """
    return msgspec.structs.replace(
        begin_path(offered, underlay=underlay, now=now), sent_bytes=path.sent_bytes, failures=1
    )


def given_up(path: Path, *, now: float) -> Path:
    """The path after the way in use turned out to be dead: the next relay, for it works at once."""
    relays = [n for n, c in enumerate(path.candidates) if c.kind is CandidateKind.RELAY]
    later = [n for n in relays if path.is_relayed and n > path.position]
    return _at(path, (later or relays)[0], now=now, sent_bytes=0)


def _next(path: Path, *, now: float, sent_bytes: int) -> Path:
    if path.proven is not None:
        return _at(path, _start(path.candidates), now=now, sent_bytes=sent_bytes)
    position = (path.position + 1) % len(path.candidates)
    return _at(path, position, now=now, sent_bytes=sent_bytes)


def _at(path: Path, position: int, *, now: float, sent_bytes: int) -> Path:
    return msgspec.structs.replace(
        path,
        position=position,
        proven=None,
        trial=None,
        since=now,
        sent_bytes=sent_bytes,
        alive=False,
        doubtful=False,
        heard_bytes=-1,
        asked_at=-1.0,
        failures=path.failures + 1,
    )


def _patience_s(path: Path) -> float:
    """Every candidate gets one try, then every round takes twice as long."""
    once_s = RELAY_TRY_S if path.has_relay else PATH_TRY_S
    return min(once_s * 2.0 ** min(_rounds(path), 16), PATH_TRY_MAX_S)


def _doubt_s(path: Path) -> float:
    """How long an answer is waited for: longer when others led nowhere either."""
    return DOUBT_S * 2.0 ** min(_rounds(path), 3)


def _rounds(path: Path) -> int:
    """How often every candidate has had its try."""
    return path.failures // max(1, len(path.candidates))


def _start(candidates: tuple[Candidate, ...]) -> int:
    """Where a pair begins that knows nothing yet: at a relay when there is one, which works at
    once; what is better is tried from there.
    """
    for n, candidate in enumerate(candidates):
        if candidate.kind is _RELAY:
            return n
    return 0


def _preference(candidate: Candidate, underlay: Underlay) -> int:
    kind = candidate.kind
    if kind is _DECLARED:
        return 0
    if kind is _LOCAL and underlay.is_neighbour(candidate.endpoint.address):
        return 1
    if kind is _OBSERVED:
        return 2
    if kind is _LOCAL and not addressing.is_private(candidate.endpoint.address):
        return 3  # behind a firewall at most, which opens when both sides send
    if kind is _RELAY:
        return 4
    # Of another LAN: routed between sites, or nowhere. Worth a packet when nothing else is left.
    return 5


def _keepalive_s(offered: tuple[Candidate, ...], underlay: Underlay) -> int:
    """Whoever seems hidden keeps the way back open to a peer that is not: no mesh of keepalives.

    Whatever family it declares: it may be met where it does not, and calls nobody back.
    """
    return KEEPALIVE_S if _is_public(offered) and not underlay.declared else 0


def _is_public(offered: Iterable[Candidate]) -> bool:
    """An operator says that it can be reached."""
    for candidate in offered:  # noqa: SIM110 - a generator costs twice as much
        if candidate.kind is _DECLARED:
            return True
    return False
