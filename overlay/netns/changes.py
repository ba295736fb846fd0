"""The changes a plan is made of: each idempotent, each about one object, each printable.

Their docstrings say why they stand where they stand in a plan. None carries a secret.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import msgspec

from overlay.model import InterfaceAddress, WgPeer, WgPublicKey
from overlay.netns.state import MAIN_TABLE, WG_LINK, Attachment, Route, Rule


class CreateNetns(msgspec.Struct, frozen=True, tag=True):
    """First: everything else is inside it. One that lost its pin only gets that back."""

    netns: str

    def describe(self) -> str:
        return f"+ netns {self.netns}"


class LoadFirewall(msgspec.Struct, frozen=True, tag=True):
    """Before any link is there or changes: nothing is ever forwarded without a ruleset."""

    netns: str
    ruleset: str

    def describe(self) -> str:
        return f"~ firewall of {self.netns}: tables inet zos, bridge zos"


class ForgetFlows(msgspec.Struct, frozen=True, tag=True):
    """After the firewall that leads them elsewhere: what is left of them would begin as before."""

    netns: str
    marks: tuple[int, ...]

    def describe(self) -> str:
        return f"- flows of {self.netns}: {len(self.marks)} ports that lead elsewhere now"


class DeleteLink(msgspec.Struct, frozen=True, tag=True):
    """Early when something else holds a name that we need, else last: adding comes first."""

    link: str

    def describe(self) -> str:
        return f"- link {self.link}"


class CreateDevice(msgspec.Struct, frozen=True, tag=True):
    """A clean WireGuard device in the underlay netns, whatever was left there of an earlier one.

    Born there so that its UDP socket stays there; configured before it moves, so that it is
    complete the moment it can be seen.
    """

    birth_name: str

    def describe(self) -> str:
        return f"+ WireGuard device {self.birth_name} in the underlay netns"


class DropNewborn(msgspec.Struct, frozen=True, tag=True):
    """A second device in the underlay netns, from a pass that died: nothing depends on it."""

    birth_name: str

    def describe(self) -> str:
        return f"- link {self.birth_name} in the underlay netns"


class SetKey(msgspec.Struct, frozen=True, tag=True):
    """Before the peers: WireGuard drops a peer that has the device's own key."""

    public_key: WgPublicKey
    link: str = WG_LINK

    def describe(self) -> str:
        return f"~ key of {self.link}: {short(self.public_key)}"


class SetListenPort(msgspec.Struct, frozen=True, tag=True):
    """Before the device is up, so that it never listens anywhere else."""

    listen_port: int
    link: str = WG_LINK

    def describe(self) -> str:
        return f"~ listen port of {self.link}: {self.listen_port}"


class DropPeer(msgspec.Struct, frozen=True, tag=True):
    """Before any peer is put: its allowed IPs may be meant for another."""

    public_key: WgPublicKey
    link: str = WG_LINK

    def describe(self) -> str:
        return f"- peer {short(self.public_key)} via {self.link}"


class PutPeer(msgspec.Struct, frozen=True, tag=True):
    """Peers that give up allowed IPs come before those that get them.

    The kernel moves a prefix to the peer that claimed it last; in this order a pass that dies
    half-way leaves a gap, not a thief.
    """

    peer: WgPeer
    known: bool  # the device has it already
    link: str = WG_LINK

    def describe(self) -> str:
        endpoint = f" endpoint {self.peer.endpoint}" if self.peer.endpoint else ""
        keepalive = f" keepalive {self.peer.keepalive_s} s" if self.peer.keepalive_s else ""
        allowed = ", ".join(self.peer.allowed_ips) or "nothing"
        sign, key = "~" if self.known else "+", short(self.peer.public_key)
        return f"{sign} peer {key} allowed {allowed}{endpoint}{keepalive} via {self.link}"


class MoveDevice(msgspec.Struct, frozen=True, tag=True):
    """After the device is configured, before it is up: a tenant never sees the underlay."""

    birth_name: str
    netns: str
    link: str = WG_LINK

    def describe(self) -> str:
        return f"~ link {self.birth_name} moves to {self.netns} as {self.link}"


class CreateBridge(msgspec.Struct, frozen=True, tag=True):
    """Before addresses and ports, which are on it."""

    link: str

    def describe(self) -> str:
        return f"+ bridge {self.link}"


class SetLink(msgspec.Struct, frozen=True, tag=True):
    """Before sysctls and addresses: below 1280 bytes a link has no IPv6 at all."""

    link: str
    mtu_bytes: int | None = None  # None: as it is, for each of the three
    mac: str | None = None
    master: str | None = None

    def describe(self) -> str:
        parts = (("mtu", self.mtu_bytes), ("mac", self.mac), ("master", self.master))
        return f"~ link {self.link}: " + ", ".join(f"{k} {v}" for k, v in parts if v is not None)


class SetSysctl(msgspec.Struct, frozen=True, tag=True):
    """When its link exists, before it is up: duplicate address detection starts with that."""

    key: str
    value: str

    def describe(self) -> str:
        return f"~ sysctl {self.key.replace('/', '.')} = {self.value}"


class SetUp(msgspec.Struct, frozen=True, tag=True):
    """Before addresses and routes: the kernel keeps none on a link that is down."""

    link: str

    def describe(self) -> str:
        return f"~ link {self.link}: up"


class AddAddress(msgspec.Struct, frozen=True, tag=True):
    """Before stale addresses go, so that a link is never without one."""

    link: str
    address: InterfaceAddress

    def describe(self) -> str:
        return f"+ address {self.address} on {self.link}"


class DeleteAddress(msgspec.Struct, frozen=True, tag=True):
    link: str
    address: InterfaceAddress

    def describe(self) -> str:
        return f"- address {self.address} on {self.link}"


class AddRoute(msgspec.Struct, frozen=True, tag=True):
    """Before stale routes go, so that no packet finds none."""

    route: Route

    def describe(self) -> str:
        return f"+ {_route(self.route)}"


class DeleteRoute(msgspec.Struct, frozen=True, tag=True):
    route: Route

    def describe(self) -> str:
        return f"- {_route(self.route)}"


class AddRule(msgspec.Struct, frozen=True, tag=True):
    """When all that it leads to is there, and before the peer leaves the device it was on."""

    rule: Rule

    def describe(self) -> str:
        return f"+ {_rule(self.rule)}"


class DeleteRule(msgspec.Struct, frozen=True, tag=True):
    """Before the routes of its table."""

    rule: Rule

    def describe(self) -> str:
        return f"- {_rule(self.rule)}"


class Attach(msgspec.Struct, frozen=True, tag=True):
    """Last: a workload joins a network that works, and one that cannot join stops nothing."""

    attachment: Attachment

    def describe(self) -> str:
        it = self.attachment
        return f"+ workload {it.name}: {it.link} with {it.address_v4}, {it.address_v6} on {it.port}"


class RetireDevice(msgspec.Struct, frozen=True, tag=True):
    """After its link is gone and before the netns is: then a pass that dies comes back to it."""

    birth_name: str

    def describe(self) -> str:
        return f"- WireGuard device {self.birth_name}"


class RemoveNetns(msgspec.Struct, frozen=True, tag=True):
    """Last: as long as the netns is there, the next pass knows that something is left."""

    netns: str

    def describe(self) -> str:
        return f"- netns {self.netns}"


Change = (
    CreateNetns
    | LoadFirewall
    | ForgetFlows
    | DeleteLink
    | CreateDevice
    | DropNewborn
    | SetKey
    | SetListenPort
    | DropPeer
    | PutPeer
    | MoveDevice
    | CreateBridge
    | SetLink
    | SetSysctl
    | SetUp
    | AddAddress
    | DeleteAddress
    | AddRoute
    | DeleteRoute
    | AddRule
    | DeleteRule
    | Attach
    | RetireDevice
    | RemoveNetns
)


def _route(route: Route) -> str:
    table = f" in table {route.table}" if route.table != MAIN_TABLE else ""
    return f"route {route.prefix} via {route.link}{table}"


def _rule(rule: Rule) -> str:
    return f"rule IPv{rule.family}: mark {rule.mark} to table {rule.table}"


def short(key: WgPublicKey) -> str:
    """Enough of a public key to tell peers apart."""
    return base64.b64encode(key).decode()[:8]


def to_json(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """For machines: `type` names the change, keys are base64; `says` is the line for people."""
    return [{**msgspec.to_builtins(change), "says": change.describe()} for change in changes]
