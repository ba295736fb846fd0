"""What converging stands on: Protocols of the kernel, nftables and the pins of tenant netns.

The real ones are kernel.py, nft.py and pins.py; the tests have a fake with the kernel's semantics.
Every `netns` is a path; None is the underlay netns, which is the one of this process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from overlay.model import Address, InterfaceAddress, Prefix
from overlay.netns.codec import Snapshot
from overlay.netns.dns import NameService
from overlay.netns.state import MAIN_TABLE, Rule
from overlay.ports import WireGuard


class Kernel(Protocol):
    """Links, addresses, routes and sysctls of any netns.

    Adding what is there and deleting what is not are no errors. Everything else that the kernel
    refuses is Unavailable, with the kernel's own words.
    """

    async def read(self, netns: str | None) -> Snapshot: ...

    def has_link(self, netns: str | None, name: str) -> bool: ...

    async def create_bridge(self, netns: str, name: str) -> None: ...

    async def create_port(
        self, netns: str | None, name: str, *, workload_netns: str, workload_link: str
    ) -> None:
        """A veth pair right across two netns; neither end is up."""

    async def create_on(
        self, link: str, *, kind: str, netns: str, name: str, vlan: int | None = None
    ) -> None:
        """A macvlan or VLAN on a link of the underlay netns, born in `netns`; it is not up."""

    async def move_link(self, name: str, *, netns: str, new_name: str) -> None:
        """From the underlay netns into `netns`, under its new name at once."""

    async def rename_link(self, netns: str, name: str, *, new_name: str) -> None:
        """Of a link that is not up."""

    async def set_link(
        self,
        netns: str | None,
        name: str,
        *,
        mtu_bytes: int | None = None,
        mac: str | None = None,
        master: str | None = None,
        up: bool | None = None,
    ) -> None:
        """None leaves things as they are."""

    async def pin_mac(self, netns: str, port: str, mac: str) -> None:
        """The bridge sends frames for `mac` to this port, and learns no other MAC from it."""

    async def delete_link(self, netns: str | None, name: str) -> None: ...

    async def add_address(self, netns: str, link: str, address: InterfaceAddress) -> None:
        """Usable at once: without duplicate address detection."""

    async def delete_address(self, netns: str, link: str, address: InterfaceAddress) -> None: ...

    async def add_route(
        self,
        netns: str,
        prefix: Prefix,
        link: str,
        *,
        gateway: Address | None = None,
        table: int = MAIN_TABLE,
    ) -> None:
        """By a gateway: a route that gives way to any the workload has of its own."""

    async def delete_route(
        self, netns: str, prefix: Prefix, link: str, *, table: int = MAIN_TABLE
    ) -> None: ...

    async def add_rule(self, netns: str, rule: Rule) -> None: ...

    async def delete_rule(self, netns: str, rule: Rule) -> None: ...

    async def forget_flows(self, netns: str, marks: Iterable[int]) -> None:
        """Connection tracking knows none that has one of these marks."""

    def read_sysctls(self, netns: str, keys: Iterable[str]) -> dict[str, str]:
        """Those of `keys` that exist: a link that is gone takes its own with it."""

    def write_sysctl(self, netns: str, key: str, value: str) -> None: ...

    def forgotten(self, netns: str) -> AbstractAsyncContextManager[None]:
        """Nothing here keeps this netns alive, and nobody writes to it within."""


class PacketFilter(Protocol):
    """nftables, in whole rulesets, and in sets that change within one."""

    def load(self, netns: str, ruleset: str) -> None:
        """All of it or nothing. Rejected when nft does not understand it, else Unavailable."""

    def amend(self, netns: str, commands: str) -> None:
        """Commands on what is loaded: all of them or none. Raises as `load` does."""

    def listing(self, netns: str) -> str | None:
        """What is loaded in our tables, in normal form; None when there is nothing of ours."""

    def normal_form(self, ruleset: str) -> str:
        """What `listing` says once `ruleset` is loaded."""


class Pins(Protocol):
    """Tenant netns by name, held so that one whose pin is taken away is not lost."""

    def path(self, name: str) -> str | None:
        """A path to enter the netns by; None when there is none."""

    def is_pinned(self, name: str) -> bool:
        """Whether the name leads to the netns that is held."""

    def create(self, name: str) -> None:
        """The netns is there, held and pinned: the held one again if there is one."""

    def remove(self, name: str) -> None:
        """Neither pin nor hold is left."""

    def names(self) -> tuple[str, ...]:
        """Tenant netns that are pinned, sorted."""


class NameServers(Protocol):
    """A name server for each tenant netns, which goes on when this process ends."""

    async def serve(self, netns: str, service: NameService) -> None:
        """The one in the tenant netns of this name serves exactly this. Idempotent.

        Raises Unavailable when there is no program for it, no such netns, or it does not start.
        """

    async def retire(self, netns: str) -> None:
        """Nothing of it is left, whoever started it. Idempotent."""

    def names(self) -> tuple[str, ...]:
        """Tenant netns of which anything is left of a name server, sorted."""

    def follow(self, on_end: Callable[[str], None]) -> None:
        """From now on `on_end` hears of each that ends by itself, by the name of its netns."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Everything that touches the machine, in one hand."""

    kernel: Kernel
    wireguard: WireGuard
    packet_filter: PacketFilter
    pins: Pins
    name_servers: NameServers
