"""What a router does to addresses and to what comes in, in the words of RFC 4787. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Behaviour = Literal["endpoint-independent", "address-dependent", "address-and-port-dependent"]
Ports = Literal["preserve", "random"]
Firewall = Literal["none", "stateful", "block-udp"]

UDP_TIMEOUT_S = 120  # RFC 4787 REQ-5: two minutes at least


@dataclass(frozen=True, slots=True)
class Nat:
    """IPv4 leaves with the router's own address; IPv6 is never translated.

    mapping        which remote ends share one public port (RFC 4787 section 4.1)
    filtering      who may send to it (section 5)
    ports          "preserve": the inner port where it is free (section 4.2.1)
    hairpin        whether hosts behind it reach each other by their public ends (section 6)
    udp_timeout_s  after so long without a packet a mapping is forgotten (section 4.3)
    """

    mapping: Behaviour = "endpoint-independent"
    filtering: Behaviour = "address-and-port-dependent"
    ports: Ports = "preserve"
    hairpin: bool = False
    udp_timeout_s: int = UDP_TIMEOUT_S


NATS: dict[str, Nat] = {
    "full-cone": Nat(filtering="endpoint-independent"),
    "restricted": Nat(filtering="address-dependent"),
    "port-restricted": Nat(),
    "symmetric": Nat(mapping="address-and-port-dependent", ports="random"),
}
