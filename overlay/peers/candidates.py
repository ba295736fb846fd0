"""Where this node may be reached: what it offers to others, and what it knows of its underlay.

Pure: the addresses of its links come in as values.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from overlay import addressing
from overlay.documents.schema import MAX_CANDIDATES, EndpointCandidate
from overlay.model import Address, CandidateKind, Endpoint, Family, InterfaceAddress
from overlay.peers.paths import Underlay

OVERHEAD_V4_BYTES = 60  # IPv4 20, UDP 8, WireGuard 32 (WireGuard paper, section 5.4.6)
OVERHEAD_V6_BYTES = 80  # IPv6 40
DEFAULT_UNDERLAY_MTU_BYTES = 1_500
MIN_UNDERLAY_MTU_BYTES = addressing.MTU_MIN_BYTES + OVERHEAD_V6_BYTES


class Surroundings(msgspec.Struct, frozen=True):
    """Our links in the underlay, as far as others can make use of them."""

    addresses: tuple[InterfaceAddress, ...] = ()  # sorted; global scope, of links that are up
    mtu_bytes: int = DEFAULT_UNDERLAY_MTU_BYTES

    @property
    def families(self) -> frozenset[Family]:
        return frozenset(6 if ":" in address else 4 for address in self.addresses)


def underlay_of(here: Surroundings, *, declared: Iterable[Endpoint]) -> Underlay:
    """What paths are chosen by."""
    endpoints = tuple(declared)
    return Underlay(
        families=here.families | {endpoint.family for endpoint in endpoints},
        prefixes=tuple(map(addressing.prefix_of, here.addresses)),
        declared=bool(endpoints),
    )


def overlay_mtu_bytes(here: Surroundings) -> int:
    """The MTU of wg0 and all that is behind it: a full packet fits the underlay, encapsulated."""
    overhead = OVERHEAD_V6_BYTES if 6 in here.families else OVERHEAD_V4_BYTES
    return max(here.mtu_bytes - overhead, addressing.MTU_MIN_BYTES)


def own_candidates(
    here: Surroundings, *, declared: Iterable[Endpoint], listen_port: int, first_port: int
) -> tuple[EndpointCandidate, ...]:
    """What the member document offers: declared endpoints, then own addresses (NODE-030).

    A declared port stands for the first of our range: whoever forwards a range of ports to this
    node declares its first, and the n-th network is at the n-th.
    """
    shift = listen_port - first_port
    offered = [
        _candidate(CandidateKind.DECLARED, endpoint.address, endpoint.port + shift)
        for endpoint in declared
        if endpoint.port + shift <= 65_535
    ]
    known = {candidate.endpoint for candidate in offered}
    for address in map(addressing.address_of, here.addresses):
        local = _candidate(CandidateKind.LOCAL, address, listen_port)
        if local.endpoint not in known:
            offered.append(local)
    return tuple(offered[:MAX_CANDIDATES])


def _candidate(kind: CandidateKind, address: Address, port: int) -> EndpointCandidate:
    return EndpointCandidate(kind, str(Endpoint(address, port)))
