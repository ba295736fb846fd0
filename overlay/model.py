"""The vocabulary every other module speaks: ids, text types, endpoints, candidates.

Nothing here parses or checks: values are made by `overlay.addressing`, `overlay.keys` and
`overlay.documents`, and trusted from there on.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, NewType

import msgspec

# Ids are bech32m text; the prefix says the kind. All but NetworkId carry a 32-byte ed25519 key.
NodeId = NewType("NodeId", str)  # node1...
TenantId = NewType("TenantId", str)  # tenant1...
FarmId = NewType("FarmId", str)  # farm1...
InviteId = NewType("InviteId", str)  # invite1...
RegistryId = NewType("RegistryId", str)  # registry1...
DeviceId = NewType("DeviceId", str)  # wg1... : ed25519 form of a WireGuard key
NetworkId = NewType("NetworkId", str)  # net1... : 20 bytes of SHA-256, see overlay.documents.trust

# Canonical text, made only by overlay.addressing: "10.1.3.0/24", "fd12::/64", "10.1.3.1".
Prefix = NewType("Prefix", str)
Address = NewType("Address", str)
InterfaceAddress = NewType("InterfaceAddress", str)  # "10.1.3.1/24": address with prefix length

WgPublicKey = NewType("WgPublicKey", bytes)  # 32 raw bytes

Family = Literal[4, 6]
FAMILIES: tuple[Family, ...] = (4, 6)
Protocol = Literal["tcp", "udp"]  # what has ports


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """An underlay UDP address of a peer."""

    address: Address
    port: int

    def __str__(self) -> str:
        return (
            f"[{self.address}]:{self.port}"
            if ":" in self.address
            else f"{self.address}:{self.port}"
        )

    @property
    def family(self) -> Family:
        return 6 if ":" in self.address else 4


class CandidateKind(StrEnum):
    """How a node knows that it may be reached at an endpoint (design: endpoint candidates)."""

    DECLARED = "declared"  # an operator says so: reachable from the underlay
    LOCAL = "local"  # an address of one of its own links: reachable from the same LAN
    OBSERVED = "observed"  # how a public peer or relay sees it
    RELAY = "relay"  # a relay at which it is registered; never offered by a member itself


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One endpoint at which a node may be reached."""

    kind: CandidateKind
    endpoint: Endpoint


class AllowRule(msgspec.Struct, frozen=True):
    """Traffic a network resource lets through to its workloads: policy resolved to prefixes."""

    source: tuple[Prefix, ...]  # sorted; both families
    to: tuple[Prefix, ...]  # sorted; both families
    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    ports: tuple[tuple[int, int], ...] = ()  # inclusive ranges; empty: all


class Publication(msgspec.Struct, frozen=True, order=True):
    """A port of this exit's public addresses, and where in the network it leads."""

    protocol: Protocol
    port: int
    address_v4: Address  # of the workload
    address_v6: Address
    target: int  # its port


class NetworkResource(msgspec.Struct, frozen=True):
    """One tenant network's part on this node, as its consumers see it."""

    network: NetworkId
    name: str  # the tenant's name of the network
    netns: str
    index: int
    range_v4: Prefix
    range_v6: Prefix
    subnet_v4: Prefix
    subnet_v6: Prefix
    gateway_v4: InterfaceAddress
    gateway_v6: InterfaceAddress
    bridge_mac: str
    listen_port: int
    mtu_bytes: int
    policy: tuple[AllowRule, ...] | None = None  # None: everything inside the network


class WgPeer(msgspec.Struct, frozen=True, gc=False):
    """One peer. `latest_handshake` is Unix seconds, 0 for never; it is observed, never desired."""

    public_key: WgPublicKey
    allowed_ips: tuple[Prefix, ...]  # sorted as text
    endpoint: Endpoint | None = None
    keepalive_s: int = 0
    latest_handshake: int = 0


class PeerTraffic(msgspec.Struct, frozen=True, gc=False):
    rx_bytes: int
    tx_bytes: int


class WgDevice(msgspec.Struct, frozen=True):
    """The WireGuard configuration on a link."""

    public_key: WgPublicKey | None  # None while no private key is set
    listen_port: int
    peers: Mapping[WgPublicKey, WgPeer]
