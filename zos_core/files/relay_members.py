"""Who may use a relay that runs alone: WireGuard keys by network, as its operator writes them.

[network.home]
members = ["j0DFrbaPJWJK5bIU6nZ6bslNgp09e14a0bpvPiE4KF8=", ...]
"""

from __future__ import annotations

import msgspec

from overlay.errors import Rejected
from overlay.keys.wireguard import parse_public_key
from overlay.model import WgPublicKey
from zos_core.files.toml import parse_toml

MAX_KEYS = 65_536


class RelayNetworkEntry(msgspec.Struct, frozen=True):
    """Keys that may talk to each other, as `wg pubkey` prints them."""

    members: tuple[str, ...]


class RelayMembersFile(msgspec.Struct, frozen=True):
    network: dict[str, RelayNetworkEntry] = {}


def parse_relay_members(text: str) -> dict[str, frozenset[WgPublicKey]]:
    """The keys by the name of their network. Raises Rejected naming the key that is wrong."""
    file = parse_toml(text, RelayMembersFile, what="members file")
    count = sum(len(entry.members) for entry in file.network.values())
    if count > MAX_KEYS:
        raise Rejected(f"{count} keys are more than {MAX_KEYS}", field="network")
    return {name: _keys(name, entry) for name, entry in file.network.items()}


def _keys(name: str, entry: RelayNetworkEntry) -> frozenset[WgPublicKey]:
    fields = ((f"network.{name}.members.{n}", text) for n, text in enumerate(entry.members))
    return frozenset(parse_public_key(text, field=field) for field, text in fields)
