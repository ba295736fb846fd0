"""What a tenant's packet says inside the tunnel, and which prefixes it may be routed by."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from overlay.addressing import SUBNET_BITS_V4, SUBNET_BITS_V6
from overlay.model import Address, NodeId, Prefix


class Inner(NamedTuple):
    """`on_out` hears by which exit it came out to the internet."""

    source: Address
    target: Address
    sent_at: float
    on_out: Callable[[NodeId, Inner], None]
    is_echo: bool = False  # wants an answer
    is_answer: bool = False  # to what was sent at `sent_at`


@lru_cache(maxsize=4096)
def covering(address: Address) -> tuple[Prefix, ...]:
    """Every prefix that the address is in, the longest first: the order of cryptokey routing.

    None is longer than what a member has.
    """
    parsed = ip_address(address)
    value, bits = int(parsed), parsed.max_prefixlen
    longest = SUBNET_BITS_V4 if parsed.version == 4 else SUBNET_BITS_V6
    return tuple(
        Prefix(f"{type(parsed)(value >> free << free)}/{bits - free}")
        for free in range(bits - longest, bits + 1)
    )
