"""The configuration of an access device, in the format of wg-quick(8). Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from overlay.keys.wireguard import WireGuardKey, format_key
from overlay.model import Address, Candidate, CandidateKind, Endpoint, Prefix, WgPublicKey

# An Ethernet underlay of either family: 1500 - 40 (IPv6) - 8 (UDP) - 32 (WireGuard).
MTU_BYTES = 1_420
# A device sits behind NAT most of the time; below the shortest UDP timeout in use (RFC 4787 REQ-5).
KEEPALIVE_S = 25
PLACEHOLDER = "PASTE-THE-PRIVATE-KEY-HERE"

# What a device far away reaches first.
_ORDER = (CandidateKind.DECLARED, CandidateKind.OBSERVED, CandidateKind.LOCAL)


class AccessConfig(msgspec.Struct, frozen=True):
    """All that a device needs besides its private key."""

    network: str
    device: str
    via: str
    address_v4: Address
    address_v6: Address
    ranges: tuple[Prefix, ...]
    peer: WgPublicKey
    endpoint: Endpoint
    servers: tuple[Address, ...]  # who answers for names in the network
    domain: str  # "home.zos"
    asks_for_all: bool  # the device asks them about all other names as well


def select_endpoint(candidates: Sequence[Candidate]) -> Endpoint | None:
    """Where a device should look for the node: declared before observed before local, then IPv4."""
    ranked = sorted(
        candidates, key=lambda c: (_ORDER.index(c.kind), c.endpoint.family, str(c.endpoint))
    )
    return ranked[0].endpoint if ranked else None


def format_config(config: AccessConfig, key: WireGuardKey | None) -> str:
    """The text of the file. With `key` it is a secret; without, a place to paste one is left."""
    private = format_key(key.reveal()) if key is not None else PLACEHOLDER
    lines = (
        f"# {config.device} in network {config.network} via {config.via}",
        "[Interface]",
        f"PrivateKey = {private}",
        f"Address = {config.address_v4}/32, {config.address_v6}/128",
        f"MTU = {MTU_BYTES}",
        *_names(config),
        "",
        "[Peer]",
        f"PublicKey = {format_key(config.peer)}",
        f"Endpoint = {config.endpoint}",
        f"AllowedIPs = {', '.join(config.ranges)}",
        f"PersistentKeepalive = {KEEPALIVE_S}",
    )
    return "\n".join(lines) + "\n"


def _names(config: AccessConfig) -> tuple[str, ...]:
    """wg-quick has a device ask these alone, so a network that answers for itself only would take
    all other names from it."""
    line = f"DNS = {', '.join((*config.servers, config.domain))}"
    if config.asks_for_all:
        return (line,)
    return (
        f"# Names in {config.domain}; all others would be refused while the network has no exit:",
        f"# {line}",
    )
