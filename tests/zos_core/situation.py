"""A network as one of its nodes sees it, for tests of what is said about it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from overlay.keys.identity import Identity, Kind, format_network_id
from zos_core import status
from zos_core.status import (
    AttachmentStatus,
    HealthItem,
    MemberStatus,
    NetworkStatus,
    NodeStatus,
    PeerStatus,
    RegistryStatus,
    Status,
    WhyInputs,
)

NOW = datetime(2026, 11, 23, 19, 0, tzinfo=UTC)
NET = format_network_id(b"h" * 20)
OTHER_NET = format_network_id(b"o" * 20)
NODES = {name: Identity.from_seed(Kind.NODE, name.encode().ljust(32, b"-")).id for name in "abc"}
V6 = "fd00:1:2"


def peer(name: str, index: int, **changes: Any) -> PeerStatus:
    """An active peer that is reached directly."""
    found = PeerStatus(
        name=name,
        kind="node",
        node=NODES.get(name),
        index=index,
        public_key="A" * 43 + "=",
        allowed_ips=(f"10.1.{index}.0/24", f"{V6}:{index:x}::/64"),
        gateway_v4=f"10.1.{index}.1",
        gateway_v6=f"{V6}:{index:x}::1",
        state="active",
        path="direct",
        endpoint=f"192.0.2.{index}:51820",
        candidates=(f"declared 192.0.2.{index}:51820",),
        latest_handshake=NOW,
        handshake_age_s=5,
        rx_bytes=88,
        tx_bytes=120,
        keepalive_s=0,
    )
    return msgspec.structs.replace(found, **changes)


def workload(name: str, host: int) -> AttachmentStatus:
    return AttachmentStatus(
        name=name,
        netns=f"/run/netns/{name}",
        link="eth0",
        address_v4=f"10.1.1.{host}/24",
        address_v6=f"{V6}:1::{host:x}/64",
        gateway_v4="10.1.1.1",
        gateway_v6=f"{V6}:1::1",
        mac="02:00:00:00:00:01",
        port=f"p-{host}",
        mtu_bytes=1420,
    )


def network(**changes: Any) -> NetworkStatus:
    """The network "home" on node a (index 1), with peer b (index 2) and a workload "web"."""
    found = NetworkStatus(
        id=NET,
        name="home",
        state="up",
        message="",
        remedy="",
        owners=("tenant1x",),
        version=3,
        joined_by="name",
        member_name="a",
        member_version=1,
        member_accepted=True,
        index=1,
        range_v4="10.1.0.0/16",
        range_v6=f"{V6}::/48",
        subnet_v4="10.1.1.0/24",
        subnet_v6=f"{V6}:1::/64",
        gateway_v4="10.1.1.1",
        gateway_v6=f"{V6}:1::1",
        netns="n-abcdefghijklm",
        netns_path="/run/netns/n-abcdefghijklm",
        listen_port=51820,
        mtu_bytes=1420,
        public_key="A" * 43 + "=",
        policy=None,
        peers=(peer("b", 2),),
        attachments=(workload("web", 2),),
        refusals=(),
        last_pass_at=NOW,
        last_change_at=NOW,
    )
    return msgspec.structs.replace(found, **changes)


def node_status(*networks: NetworkStatus, health: tuple[HealthItem, ...] = ()) -> Status:
    return Status(
        schema=status.SCHEMA,
        generation=1,
        at=NOW,
        node=NodeStatus(
            id=NODES["a"],
            name="a",
            software="zos 0.1.0",
            pid=1,
            started_at=NOW,
            backend="wireguard-go",
            backend_reason="",
            farm=None,
            farm_state="none",
            underlay_mtu_bytes=1500,
            endpoints=("192.0.2.1:51820",),
            addresses=(),
            state_directory="/var/lib/zos",
        ),
        registry=RegistryStatus("https://192.0.2.9:8443#registry1x", "connected", NOW, NOW, 7),
        networks=networks,
        repairs=(),
        refusals=(),
        health=health,
    )


def member(name: str, index: int, **changes: Any) -> MemberStatus:
    found = MemberStatus(
        name=name,
        kind="node",
        node=NODES.get(name),
        index=index,
        uses=1,
        via=None,
        member=True,
        refusal=None,
    )
    return msgspec.structs.replace(found, **changes)


def why_inputs(*, members: tuple[MemberStatus, ...] = (), **changes: Any) -> WhyInputs:
    """What node a knows of "home": members a and b, and those that are given."""
    found = WhyInputs(
        schema=status.SCHEMA,
        node=NODES["a"],
        document={},
        network=changes.pop("network", network()),
        members=(member("a", 1), member("b", 2), *members),
        drift=(),
        firewall_loaded=True,
        health=(),
    )
    return msgspec.structs.replace(found, **changes)
