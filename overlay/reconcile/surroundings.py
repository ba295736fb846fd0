"""Our own links in the underlay, from what the kernel says. Pure."""

from __future__ import annotations

from overlay import addressing
from overlay.netns.codec import KernelLink, Snapshot
from overlay.netns.state import LOOPBACK_LINK, netns_of_birth
from overlay.peers.candidates import (
    DEFAULT_UNDERLAY_MTU_BYTES,
    MIN_UNDERLAY_MTU_BYTES,
    Surroundings,
)

_DEFAULT_ROUTES = ("0.0.0.0/0", "::/0")


def select_surroundings(underlay: Snapshot, *, mtu_bytes: int | None) -> Surroundings:
    """Global addresses of links that are up; the MTU is theirs unless an operator says another."""
    links = {link.index: link for link in underlay.links if _is_underlay(link)}
    addresses = tuple(
        sorted(
            found.address
            for found in underlay.addresses
            if found.link in links
            and not addressing.is_link_local(addressing.address_of(found.address))
        )
    )
    return Surroundings(addresses, mtu_bytes or _mtu_bytes(underlay, links))


def _mtu_bytes(underlay: Snapshot, links: dict[int, KernelLink]) -> int:
    """Of the links that lead anywhere, else of those that have addresses: the smallest."""
    leading = {r.link for r in underlay.routes if r.prefix in _DEFAULT_ROUTES} & links.keys()
    chosen = leading or {found.link for found in underlay.addresses} & links.keys()
    found = min((links[index].mtu_bytes for index in chosen), default=DEFAULT_UNDERLAY_MTU_BYTES)
    # Jumbo frames end at the next router, and nothing would tell.
    return min(max(found, MIN_UNDERLAY_MTU_BYTES), DEFAULT_UNDERLAY_MTU_BYTES)


def _is_underlay(link: KernelLink) -> bool:
    return link.up and link.name != LOOPBACK_LINK and netns_of_birth(link.name) is None
