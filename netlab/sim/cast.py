"""Ids and keys by number, the same in every world: making one costs more than a node's life."""

from __future__ import annotations

import hashlib
from functools import cache

from overlay.documents import trust
from overlay.documents.schema import Owners
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey, WireGuardKey
from overlay.model import NetworkId, NodeId

KEYS_OF_A_NODE = 8  # after so many network resources a node gets its first key again


def _drawn(text: str) -> bytes:
    return hashlib.sha256(f"netlab sim {text}".encode()).digest()


@cache
def node_id(number: int) -> NodeId:
    return NodeId(Identity.from_seed(Kind.NODE, _drawn(f"node {number}")).id)


@cache
def device_key(node: int, number: int) -> DeviceKey:
    """The key of the node's n-th network resource."""
    return DeviceKey.from_seed(_drawn(f"device {node} {number % KEYS_OF_A_NODE}"))


@cache
def access_key(number: int) -> str:
    return wireguard.format_key(WireGuardKey(_drawn(f"access {number}")).public_key)


@cache
def owners(network: int) -> Owners:
    tenant = Identity.from_seed(Kind.TENANT, _drawn(f"tenant {network}")).id
    return Owners(threshold=1, keys=(tenant,))


def network_name(network: int) -> str:
    return f"net{network}"


@cache
def network_id(network: int) -> NetworkId:
    return trust.network_id(owners(network), network_name(network))
