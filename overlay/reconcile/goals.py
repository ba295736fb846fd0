"""The peers a device should have: selection says who, paths say by which endpoint. Pure.

What changed since the device was written last is kept as a delta, so that one new peer among ten
thousand costs one peer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from overlay import addressing
from overlay.documents import relays, schema
from overlay.documents.relays import Relay, Sighting
from overlay.documents.schema import Member, Network
from overlay.keys import wireguard
from overlay.model import (
    Candidate,
    CandidateKind,
    Endpoint,
    Family,
    NodeId,
    PeerTraffic,
    WgDevice,
    WgPeer,
    WgPublicKey,
)
from overlay.peers import paths
from overlay.peers.paths import KEEPALIVE_S, Path, Underlay
from overlay.peers.selection import PeerDelta, Selection
from overlay.peers.takeover import Fate, Takeovers


class PeerGoals:
    """Desired peers of one network resource, endpoints and keepalives included."""

    __slots__ = (
        "_doubtful",
        "_draining",
        "_followed",
        "_heard",
        "_outlived",
        "_own",
        "_own_key",
        "_paths",
        "_peers",
        "_relays",
        "_sightings",
        "_stranded",
        "_streams",
        "_underlay",
        "_unwritten",
        "_way_out",
        "peers",
        "selection",
        "takeovers",
    )

    def __init__(
        self,
        own: NodeId,
        *,
        own_key: WgPublicKey,
        underlay: Underlay,
        heard: Mapping[WgPublicKey, Endpoint] = MappingProxyType({}),
    ) -> None:
        self.selection = Selection(own, own_key=own_key)
        self.takeovers = Takeovers(self.selection, own_key)
        self._own, self._own_key = own, own_key
        self._heard = heard  # where peers were in an earlier life of ours
        self._underlay = underlay
        self._peers: dict[WgPublicKey, WgPeer] = {}
        self.peers: Final[Mapping[WgPublicKey, WgPeer]] = MappingProxyType(self._peers)
        self._paths: dict[WgPublicKey, Path] = {}
        self._unwritten: dict[WgPublicKey, WgPeer | None] = {}
        self._sightings: dict[str, Mapping[WgPublicKey, Endpoint]] = {}  # by the relay's node
        self._relays: dict[WgPublicKey, Relay] = {}  # where we register, in the tenant's order
        self._streams: dict[WgPublicKey, Endpoint] = {}  # ports of ours that lead to a relay by TCP
        self._stranded: list[WgPublicKey] = []
        self._doubtful: list[WgPublicKey] = []
        self._way_out: WgPublicKey | None = None  # the peer that takes what leaves the network
        self._draining: WgPublicKey | None = None  # the one before, for what began by it
        # Keys that members use no more, though they say so.
        self._outlived: set[WgPublicKey] = set()
        self._followed: list[tuple[WgPublicKey, WgPublicKey]] = []

    def path(self, key: WgPublicKey) -> Path | None:
        return self._paths.get(key)

    def heard(self) -> dict[WgPublicKey, Endpoint]:
        """Where peers are that no document leads to."""
        return {key: path.proven for key, path in self._paths.items() if path.proven is not None}

    def put_network(self, network: Network, *, now: float) -> None:
        before = self.selection.relays
        delta = self.selection.put_network(network)
        if self.selection.relays == before:
            self._take(delta, now=now)
            return
        known = {relay.node for relay in self.selection.relays}
        said = self._sightings
        self._sightings = {node: said[node] for node in said.keys() & known}
        self._register(now=now)
        self._take(delta, now=now)
        self._offer_anew(tuple(self._peers), now=now)

    def put_member(self, member: Member, *, now: float) -> None:
        """A member joined or changed, perhaps only its endpoints. Raises Refused."""
        before = self.selection.members.get(member.node)
        delta = self.selection.put_member(member)
        if before is not None and self._way_out == _key_of(before):
            self._way_out = _key_of(member)
        begun = [p.public_key for p in delta.put if p.public_key not in self._paths]
        self._take(delta, now=now)
        peer = self.selection.peer_of(member.node)
        if peer is not None:
            keys = (peer.public_key, self.selection.successor_of(peer.public_key))
            if known := [k for k in keys if k is not None and k not in begun]:
                self._offer_anew(known, now=now)

    def put_sighting(self, sighting: Sighting, *, now: float) -> None:
        """A relay says where it hears members: a hint, taken only from relays of the network."""
        if relays.relay_of(self.selection.relays, sighting.node) is None:
            return
        before = self._sightings.get(sighting.node, {})
        places = self._sightings[sighting.node] = relays.places_in(sighting)
        changed = {key for key in before.keys() | places if before.get(key) != places.get(key)}
        self._offer_anew(changed, now=now)

    def observed(self, key: WgPublicKey) -> Mapping[str, Endpoint]:
        """From where the relays hear a member, by the relay's node; in the tenant's order."""
        return {
            relay.node: endpoint
            for relay in self.selection.relays
            if (endpoint := self._sightings.get(relay.node, {}).get(key)) is not None
        }

    def put_underlay(self, underlay: Underlay, *, now: float) -> None:
        """Our own links changed, and with them what can be reached how."""
        if underlay == self._underlay:
            return
        self._underlay = underlay
        self._register(now=now)
        self._offer_anew(tuple(self._peers), now=now)

    def look(
        self,
        device: WgDevice,
        traffic: Callable[[WgPublicKey], PeerTraffic],
        *,
        wall: float,
        now: float,
    ) -> None:
        """Learn from the device which paths work; those that do not give way to others."""
        self._doubtful = []
        for key, seen in device.peers.items():
            if (path := self._paths.get(key)) is None:
                continue
            if _is_stranded(path, seen.endpoint):
                self._stranded.append(key)
                continue
            if not seen.latest_handshake and key in self.selection.coming:
                continue  # it is asked where the former is
            counted = traffic(key)
            stepped = paths.step(
                path,
                endpoint=seen.endpoint,
                latest_handshake=seen.latest_handshake,
                sent_bytes=counted.tx_bytes,
                heard_bytes=counted.rx_bytes,
                wall=wall,
                now=now,
            )
            if stepped.doubtful:
                self._doubtful.append(key)
            if stepped is not path:
                self._set_path(key, stepped, learnt=stepped.alive)
                if key in self._relays and stepped.endpoint != path.endpoint:
                    self._offer_anew(tuple(self._peers), now=now)

        self.look_for_takeovers(device, traffic, wall=wall, now=now)

    # Keys that are replaced.

    def look_for_takeovers(
        self,
        device: WgDevice,
        traffic: Callable[[WgPublicKey], PeerTraffic],
        *,
        wall: float,
        now: float,
    ) -> None:
        """Which of the keys to come bear traffic, or are to be asked."""

        if not self.selection.coming:
            self.takeovers.rest()
            return

        def is_unanswered(key: WgPublicKey) -> bool:
            path = self._paths.get(key)
            return path is not None and not path.alive and traffic(key).tx_bytes > path.sent_bytes

        fates = tuple(self.takeovers.look(device.peers, is_unanswered, wall=wall, now=now))
        for key, coming, fate in fates:
            self._take_over(key, coming.former, fate)

    def put_own_key(self, own_key: WgPublicKey, *, now: float) -> None:
        """From now on our device has this key."""
        self._own_key = self.takeovers.own_key = own_key
        self._take(self.selection.put_own_key(own_key), now=now)

    def adopt_takeovers(self, keys: Iterable[WgPublicKey], *, now: float) -> None:
        """These keys to come were seen in use by somebody who looked."""
        for key in keys:
            if (coming := self.selection.coming.get(key)) is not None:
                self.takeovers.take(key, coming.former, now=now)
                self._take_over(key, coming.former, Fate.TAKES_OVER)

    def take_followed(self) -> list[tuple[WgPublicKey, WgPublicKey]]:
        """Former keys and those that bear their traffic now, since the last call."""
        followed, self._followed = self._followed, []
        return followed

    def _take_over(self, key: WgPublicKey, former: WgPublicKey, fate: Fate) -> None:
        mine, theirs = self._paths.get(key), self._paths.get(former)
        match fate:
            case Fate.TAKES_OVER if mine is not None and theirs is not None:
                self._paths[key] = msgspec.structs.replace(mine, keepalive_s=theirs.keepalive_s)
                self._paths[former] = msgspec.structs.replace(theirs, keepalive_s=0)
                self._set_peer(self._peers[key])
                self._set_peer(self._peers[former])
                self._followed.append((former, key))
            case Fate.OUTLIVED if former not in self._outlived:
                self._outlived.add(former)
                self._forget(former)
            case Fate.IS_ASKED | Fate.IS_LEFT_ALONE if theirs is not None:
                asked_s = paths.KEEPALIVE_S if fate is Fate.IS_ASKED else 0
                self._set_path(key, paths.beside(theirs, keepalive_s=asked_s), learnt=False)

    def take_stranded(self) -> list[WgPublicKey]:
        """Peers that the device sends to a port of ours which is closed, since the last call."""
        stranded, self._stranded = self._stranded, []
        return stranded

    @property
    def doubtful(self) -> tuple[WgPublicKey, ...]:
        """Whose session may lead nowhere, by the last look: an answer would tell (NODE-049)."""
        return tuple(self._doubtful)

    def is_in_question(self, key: WgPublicKey) -> bool:
        """Whether it matters how much was sent and heard: there is another endpoint to try."""
        path = self._paths.get(key)
        if path is None or (path.alive and not path.doubtful):
            return False
        return path.has_choice or (not path.alive and self.takeovers.is_late(key))

    # The way out.

    @property
    def way_out(self) -> WgPublicKey | None:
        """The peer that takes what is for nobody in the network."""
        return self._way_out

    @property
    def draining(self) -> WgPublicKey | None:
        """The peer that keeps what began by it, on a device of its own (EXIT-060)."""
        return self._draining

    def set_way_out(self, key: WgPublicKey | None, *, draining: WgPublicKey | None = None) -> None:
        """From now on this peer takes it, or nobody does. The one before gives it up first."""
        before = (self._way_out, self._draining)
        self._way_out, self._draining = key, draining
        for changed in dict.fromkeys((*before, draining, key)):
            if changed is not None:
                if changed in self._peers:
                    self._set_peer(self._peers[changed])
                self._set_bearer(changed)

    # Relays.

    @property
    def relays(self) -> Mapping[WgPublicKey, Relay]:
        """Where we register, because we seem hidden."""
        return MappingProxyType(self._relays)

    @property
    def is_relayed(self) -> bool:
        """Whether we may meet others at relays, other than those who come to us there."""
        return bool(self._relays) and not self._underlay.declared

    def relayed(self) -> Iterator[tuple[WgPublicKey, Path]]:
        """The peers that we may meet at a relay."""
        if self._relays:
            yield from (
                (key, path)
                for key, path in self._paths.items()
                if path.has_relay and not self.takeovers.is_spare(key)
            )

    def relay_at(self, endpoint: Endpoint | None) -> WgPublicKey | None:
        """The relay at which a peer with this endpoint is met."""
        for key in self._relays:
            if endpoint is not None and self._paths[key].endpoint == endpoint:
                return key
        return None

    def is_unheard(self, key: WgPublicKey) -> bool:
        """Whether this relay says whom it hears, and we are not among them."""
        if key in self._streams:
            return False  # over TCP there is nothing that others could make use of
        said = self._sightings.get(self._relays[key].node)
        return said is not None and self._own_key not in said

    def relay_met(self, endpoint: Endpoint | None) -> Relay | None:
        """The relay at this endpoint, as the network names it."""
        key = self.relay_at(endpoint)
        return None if key is None else self._relays[key]

    @property
    def streams(self) -> Mapping[WgPublicKey, Endpoint]:
        """The relays that are reached over TCP, and by which port of ours; else none is used."""
        return MappingProxyType(self._streams)

    def put_streams(
        self, streams: Mapping[WgPublicKey, Endpoint], *, now: float
    ) -> list[WgPublicKey]:
        """From now on relays are reached by these; by UDP again when there are none.

        Returns the relays to which the way is another one: they have to hear us by it.
        """
        before = {key: self._paths[key].endpoint for key in self._relays}
        is_last_resort = bool(streams) and not self._streams
        self._streams = dict(streams)
        for key in self._relays:
            self._paths[key] = self._path_to_relay(key, now=now)
            self._set_peer(WgPeer(key, ()))
        moved = [key for key in self._relays if self._paths[key].endpoint != before[key]]
        left = {before[key] for key in moved}
        for key, path in tuple(self._paths.items()):
            if key in self._relays or (offered := self._offered(key)) is None:
                continue
            is_silent = not path.alive and not self._is_near(path)
            if path.endpoint in left or (is_last_resort and is_silent):
                found = paths.elsewhere(path, offered, underlay=self._underlay, now=now)
                self._set_path(key, found, learnt=False)
            else:
                self._offer(key, offered, now=now)
        return moved

    def _is_near(self, path: Path) -> bool:
        return path.endpoint is not None and self.is_neighbour(path.endpoint)

    def better_than_relay(self, path: Path) -> tuple[Endpoint, ...]:
        """What would be better than to meet at a relay. Where UDP is blocked: our LAN's alone."""
        better = path.better_than_relay
        return tuple(filter(self.is_neighbour, better)) if self._streams else better

    @property
    def families(self) -> frozenset[Family]:
        """Those that our links have."""
        return self._underlay.families

    def is_neighbour(self, endpoint: Endpoint) -> bool:
        """Whether it is on a LAN of ours."""
        return self._underlay.is_neighbour(endpoint.address)

    def set_path(self, key: WgPublicKey, path: Path, *, learnt: bool) -> None:
        """What a trial or a silence led to. `learnt`: the device has it, nothing is to write."""
        self._set_path(key, path, learnt=learnt)

    def _register(self, *, now: float) -> None:
        """Be a peer of the first relays; if we can be reached, for those who have TCP alone."""
        others = (relay for relay in self.selection.relays if relay.node != self._own)
        wanted = {
            relays.key_of(relay): relay
            for relay in relays.select_relays(others)
            if relay.tls_port is not None or not self._underlay.declared
        }
        before, self._relays = self._relays, wanted
        for key in before.keys() - wanted.keys():
            self._streams.pop(key, None)
            self._forget(key)
        for key, relay in wanted.items():
            if before.get(key) != relay or key not in self._paths:
                self._streams.pop(key, None)
                self._paths[key] = self._path_to_relay(key, now=now)
                self._set_peer(WgPeer(key, ()))

    def _path_to_relay(self, key: WgPublicKey, *, now: float) -> Path:
        stream = self._streams.get(key)
        endpoints = (stream,) if stream is not None else relays.endpoints_of(self._relays[key])
        offered = [Candidate(CandidateKind.DECLARED, endpoint) for endpoint in endpoints]
        path = paths.begin_path(offered, underlay=self._underlay, now=now)
        return msgspec.structs.replace(path, keepalive_s=KEEPALIVE_S)

    def _forget(self, key: WgPublicKey) -> None:
        self._peers.pop(key, None)
        self._paths.pop(key, None)
        self._unwritten[key] = None

    def goes_first(self, key: WgPublicKey) -> bool:
        """Whether it is ours to begin with this peer; the peer comes to the other answer."""
        if key in self._relays or key == self._draining:
            return True
        offered = self._offered(key)
        if offered is None:
            return False  # an access device calls us
        return paths.goes_first(offered, underlay=self._underlay, is_lower=self._own_key < key)

    def forget_traffic(self, keys: Iterable[WgPublicKey]) -> None:
        """The device counts what is sent to these from nothing again."""
        for key in keys:
            if (path := self._paths.get(key)) is not None:
                self._paths[key] = msgspec.structs.replace(path, sent_bytes=0, heard_bytes=-1)

    @property
    def has_unwritten(self) -> bool:
        return bool(self._unwritten)

    def take_unwritten(self) -> PeerDelta:
        """What to write to the device; it counts as written from now on."""
        delta = PeerDelta(
            put=tuple(peer for peer in self._unwritten.values() if peer is not None),
            drop=tuple(key for key, peer in self._unwritten.items() if peer is None),
        )
        self._unwritten = {}
        return delta

    def _take(self, delta: PeerDelta, *, now: float) -> None:
        ended = self.takeovers.end()
        self._outlived -= ended
        for key in delta.drop:
            if key not in self._relays:  # a relay may have the key of who is no member for it
                self._forget(key)
        freed = self._freed(ended, delta) if ended else ()
        for peer in (*freed, *delta.put):
            key = peer.public_key
            if key in self._outlived:
                continue
            if key not in self._paths and (offered := self._offered(key)) is not None:
                begun = paths.begin_path(
                    offered, underlay=self._underlay, now=now, heard=self._heard.get(key)
                )
                coming = self.selection.coming.get(key)
                self._paths[key] = begun if coming is None else self._beside(coming.former, begun)
            self._set_peer(peer)
            self._set_bearer(key)

    def _freed(self, ended: frozenset[WgPublicKey], delta: PeerDelta) -> list[WgPeer]:
        """Peers that are what is selected again, without those that change anyhow."""
        selected, put = self.selection.peers, {peer.public_key for peer in delta.put}
        return [selected[key] for key in ended if key in selected and key not in put]

    def _beside(self, former: WgPublicKey, begun: Path) -> Path:
        """A key to come is where the former is, and is sent nothing."""
        return paths.beside(self._paths.get(former, begun), keepalive_s=0)

    def _set_bearer(self, key: WgPublicKey) -> None:
        """Whoever bears what this key did has what it would have now."""
        bearer = self.selection.successor_of(key)
        if bearer is not None and self.takeovers.is_taken(bearer) and bearer in self._peers:
            self._set_peer(self._peers[bearer])

    def _offered(self, key: WgPublicKey) -> tuple[Candidate, ...] | None:
        """A member's candidates; None for an access device, which calls us."""
        member = self.selection.member_at(key)
        if member is None:
            return None
        offered = schema.candidates(member)
        if not self._relays and not self._sightings:
            return offered
        known = {candidate.endpoint for candidate in offered}
        # A relay that hears the former key does not know yet that it hears another.
        coming = self.selection.coming.get(key)
        places = {**(self.observed(coming.former) if coming else {}), **self.observed(key)}
        seen = dict.fromkeys(e for e in places.values() if e not in known)
        observed = (Candidate(CandidateKind.OBSERVED, endpoint) for endpoint in seen)
        return (*offered, *observed, *self._meeting_places(offered))

    def _meeting_places(self, offered: Iterable[Candidate]) -> Iterator[Candidate]:
        """The relays at which we are met: by peers that seem hidden, too, and over TCP by all."""
        is_public = any(candidate.kind is CandidateKind.DECLARED for candidate in offered)
        if self._underlay.declared or (is_public and not self._streams):
            return
        for key in self._streams or self._relays:
            if (endpoint := self._paths[key].endpoint) is not None:
                yield Candidate(CandidateKind.RELAY, endpoint)

    def _offer_anew(self, keys: Iterable[WgPublicKey], *, now: float) -> None:
        for key in keys:
            if (offered := self._offered(key)) is not None:
                self._offer(key, offered, now=now)

    def _offer(self, key: WgPublicKey, offered: tuple[Candidate, ...], *, now: float) -> None:
        path = self._paths.get(key)
        if path is None or self.takeovers.is_spare(key):
            return
        found = paths.with_candidates(path, offered, underlay=self._underlay, now=now)
        if found is not path:
            self._set_path(key, found, learnt=False)

    def _set_path(self, key: WgPublicKey, path: Path, *, learnt: bool) -> None:
        """`learnt`: the device told us of the endpoint, so there is nothing to write."""
        before = self._paths[key]
        self._paths[key] = path
        if (path.endpoint, path.keepalive_s) == (before.endpoint, before.keepalive_s):
            return
        if learnt:
            self._peers[key] = _with_path(self._peers[key], path)
        else:
            self._set_peer(self._peers[key])

    def _set_peer(self, peer: WgPeer) -> None:
        key = peer.public_key
        path = self._paths.get(key)
        whole = peer if path is None else _with_path(peer, path)
        whole = self._with_allowed_ips(whole)
        self._peers[key] = whole
        # What WireGuard has proven is not overwritten by what documents propose, however many
        # of them come before the next write. Whose path is alive is on the device.
        is_proven = path is not None and path.alive
        self._unwritten[key] = msgspec.structs.replace(whole, endpoint=None) if is_proven else whole

    def _with_allowed_ips(self, peer: WgPeer) -> WgPeer:
        """Of the way out never the network's own ranges: an exit would speak for members that are
        not there."""
        if peer.public_key not in self.selection.peers:
            return peer  # a relay
        bears_for = self.takeovers.bears_for(peer.public_key)
        selected = self.selection.peers.get(bears_for) if bears_for is not None else None
        allowed = selected.allowed_ips if selected is not None else ()
        leads_out = bears_for == self._way_out or peer.public_key == self._draining
        if selected is not None and leads_out:
            allowed = tuple(sorted((*allowed, *self.selection.outside())))
        if allowed == peer.allowed_ips:
            return peer
        return msgspec.structs.replace(peer, allowed_ips=allowed)


def _is_stranded(path: Path, endpoint: Endpoint | None) -> bool:
    """Whether it is a port of ours that leads nowhere any more, of this life or of an earlier."""
    return (
        endpoint is not None
        and path.known_as(endpoint) is None
        and addressing.is_loopback(endpoint.address)
    )


def _key_of(member: Member) -> WgPublicKey:
    return wireguard.wireguard_public_key(member.device)


def _with_path(peer: WgPeer, path: Path) -> WgPeer:
    return WgPeer(
        peer.public_key, peer.allowed_ips, path.endpoint, path.keepalive_s, peer.latest_handshake
    )
