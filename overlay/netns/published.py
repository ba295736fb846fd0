"""Rules of an exit's tenant netns for what comes in by published ports (PUB-020 .. PUB-022).

The egress netns sends such a packet to its end of the leg, with the public port; here it is sent on
to the workload, and every packet is judged by the port that was asked and by where it goes. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from overlay.addressing import address_of
from overlay.model import NetworkResource, Publication
from overlay.netns.flows import mark_of, marked
from overlay.netns.nftjson import (
    ACCEPT,
    REDIRECTED,
    Rule,
    Statement,
    direction,
    from_source,
    meta,
    payload,
    refuse,
    to_destination,
    when,
)
from overlay.netns.state import EXIT_LINK, WG_LINK


def destinations(publications: Sequence[Publication]) -> Iterable[Rule]:
    """Of the first packet of a connection."""
    for each in publications:
        for address in (each.address_v4, each.address_v6):
            yield [
                when(meta("iifname"), EXIT_LINK),
                _family(address),
                when(payload(each.protocol, "dport"), each.port),
                marked(mark_of(each.protocol, each.port, each.address_v4, each.target)),
                to_destination(address, v6=":" in address, port=each.target),
            ]


def sources(nr: NetworkResource) -> Iterable[Rule]:
    """A workload on another node answers by the exit that it was asked by: it is asked by the
    gateway here. One on this node sees who asks."""
    for gateway in (nr.gateway_v4, nr.gateway_v6):
        yield [
            when(meta("oifname"), WG_LINK),
            REDIRECTED,
            _family(gateway),
            from_source(address_of(gateway), v6=":" in gateway),
        ]


def admission(publications: Sequence[Publication]) -> Iterable[Rule]:
    for each in publications:
        for address in (each.address_v4, each.address_v6):
            yield [
                direction("original"),
                REDIRECTED,
                when(payload("ip6" if ":" in address else "ip", "daddr"), address),
                when(payload(each.protocol, "dport"), each.target),
                when(_asked("proto-dst"), each.port),  # what has such ports is known by now
                ACCEPT,
            ]
    yield refuse("refused_forward")


def _asked(key: str) -> Statement:
    """As the client wrote it, before this netns had changed it."""
    return {"ct": {"key": key, "dir": "original"}}


def _family(address: str) -> Statement:
    return when(meta("nfproto"), "ipv6" if ":" in address else "ipv4")
