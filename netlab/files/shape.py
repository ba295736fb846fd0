"""What a lab file may say, key by key: the one definition behind reading, schema and remedies.

What is not said is UNSET, so that a kind can be merged below what an entry says itself. Values
are checked later: names, bounds and references are faults of the topology (netlab/faults.py).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from netlab.faults import NODES_MAX, SEED_MAX
from netlab.files import quantities
from netlab.nat import Behaviour, Firewall, Ports
from netlab.refusals.exits import ORDER_MAX
from netlab.topology import Family, Role

TEXT_CHARS_MAX = 4096

Text = Annotated[str, Meta(max_length=TEXT_CHARS_MAX)]
Time = Annotated[
    str,
    Meta(
        pattern=quantities.TIME_PATTERN,
        description="A time with its unit: us, ms, s, m or h",
        max_length=TEXT_CHARS_MAX,
        examples=["500us", "20ms", "5s", "1m"],
        extra={"parse": quantities.parse_time, "example": "20ms"},
    ),
]
Share = Annotated[
    str,
    Meta(
        pattern=quantities.SHARE_PATTERN,
        description="A share in percent",
        max_length=TEXT_CHARS_MAX,
        examples=["1%", "0.5%"],
        extra={"parse": quantities.parse_share, "example": "1%"},
    ),
]
Rate = Annotated[
    str,
    Meta(
        pattern=quantities.RATE_PATTERN,
        description="Bits a second, with the unit: bit, kbit, mbit or gbit",
        max_length=TEXT_CHARS_MAX,
        examples=["10mbit", "64kbit"],
        extra={"parse": quantities.parse_rate, "example": "10mbit"},
    ),
]
Count = Annotated[int, Meta(ge=1, le=NODES_MAX)]
Order = Annotated[int, Meta(ge=0, le=ORDER_MAX)]
Seed = Annotated[int, Meta(ge=0, le=SEED_MAX)]
NatName = Literal["none", "full-cone", "restricted", "port-restricted", "symmetric"]
Argv = Text | tuple[Text, ...]
DropText = Annotated[
    str,
    Meta(
        pattern=quantities.DROP_PATTERN,
        max_length=TEXT_CHARS_MAX,
        description="A WireGuard message to lose: every one, or the n-th",
        examples=["response 2", "initiation"],
        extra={"parse": quantities.parse_drop, "example": "response 2"},
    ),
]


class OneWay(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happens to packets of one direction; each key stands on its own."""

    delay: Time | UnsetType = UNSET
    jitter: Time | UnsetType = UNSET
    loss: Share | UnsetType = UNSET
    duplicate: Share | UnsetType = UNSET
    reorder: Share | UnsetType = UNSET
    rate: Rate | UnsetType = UNSET
    drop: tuple[DropText, ...] | UnsetType = UNSET


class BothWays(OneWay, frozen=True, omit_defaults=True):
    """The same in both directions, save what `up` or `down` says otherwise."""

    up: OneWay | UnsetType = UNSET
    down: OneWay | UnsetType = UNSET


class LinkEntry(BothWays, frozen=True, omit_defaults=True):
    """A cable: `to` a region, a router's LAN or a LAN."""

    to: Text | UnsetType = UNSET
    mtu: int | UnsetType = UNSET
    ipv4: bool | UnsetType = UNSET
    ipv6: bool | UnsetType = UNSET


class OneLinkEntry(LinkEntry, frozen=True, omit_defaults=True):
    """The first cable of a node; `name` is what it is called inside, eth0 if not said."""

    name: Text | UnsetType = UNSET


class NatEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A NAT by the axes of RFC 4787."""

    mapping: Behaviour | UnsetType = UNSET
    filtering: Behaviour | UnsetType = UNSET
    ports: Ports | UnsetType = UNSET
    hairpin: bool | UnsetType = UNSET
    timeout: Time | UnsetType = UNSET


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What nodes and routers share. With `count` the entry stands for NAME-1, NAME-2 and so on."""

    kind: Text | UnsetType = UNSET
    count: Count | UnsetType = UNSET


class RouterEntry(Entry, frozen=True, omit_defaults=True):
    """Joins one LAN, which bears its name, to a region or to another router's LAN."""

    link: Text | LinkEntry | UnsetType = UNSET
    nat: NatName | NatEntry | UnsetType = UNSET
    firewall: Firewall | UnsetType = UNSET


class ExitEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """The operator offers the node as a way to the internet.

    uplink   the node's link by which it lets out: on a LAN with addresses of its own, else as it
    beacons  nodes or regions that answer ping while the internet is there; else the first region
    """

    uplink: Text
    beacons: tuple[Text, ...] | UnsetType = UNSET


class NodeEntry(Entry, frozen=True, omit_defaults=True):
    """A machine of its own. With `chain` each of the `count` is the gateway of the next."""

    role: Role | UnsetType = UNSET
    relay: bool | UnsetType = UNSET
    exit: ExitEntry | UnsetType = UNSET
    link: Text | OneLinkEntry | UnsetType = UNSET
    links: dict[str, Text | LinkEntry] | UnsetType = UNSET
    run: Text | tuple[Argv, ...] | UnsetType = UNSET
    chain: bool | UnsetType = UNSET


class KindEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What nodes or routers have in common that name this kind."""

    role: Role | UnsetType = UNSET
    relay: bool | UnsetType = UNSET
    exit: ExitEntry | UnsetType = UNSET
    link: Text | OneLinkEntry | UnsetType = UNSET
    links: dict[str, Text | LinkEntry] | UnsetType = UNSET
    run: Text | tuple[Argv, ...] | UnsetType = UNSET
    nat: NatName | NatEntry | UnsetType = UNSET
    firewall: Firewall | UnsetType = UNSET


class LanEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A switch; a node that is its gateway lets the others out."""

    count: Count | UnsetType = UNSET
    gateway: Text | UnsetType = UNSET


class LatencyEntry(BothWays, frozen=True, omit_defaults=True, kw_only=True):
    """What lies between two regions; `up` leads from the first to the second."""

    between: tuple[Text, Text]


class CoreEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """The internet: regions, and what lies between them."""

    regions: tuple[Text, ...] = ("internet",)
    latency: tuple[LatencyEntry, ...] = ()


class NetworkEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A tenant network. `*` in a node's name stands for any text.

    clients    client = "node through which it enters"
    workloads  name = "node"; with a `*` there is one NAME-NODE on each
    relays     nodes with relay = true by way of which hidden members meet
    exits      nodes with an exit by which the network is left, the first one first; or name = order
    """

    range: Text | UnsetType = UNSET
    nodes: tuple[Text, ...] = ()
    invited: tuple[Text, ...] = ()
    clients: dict[str, Text] = {}
    workloads: dict[str, Text] = {}
    relays: tuple[Text, ...] = ()
    exits: tuple[Text, ...] | dict[str, Order] = ()


class TenantEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody with a key and networks."""

    network: dict[str, NetworkEntry] = {}


class ExpectEntry(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"source": "from", "target": "to"}
):
    """Who reaches whom: nodes ("alice"), workloads ("tenant/network/workload") or `*`."""

    source: Text
    target: Text
    family: Family | UnsetType = UNSET
    reached: bool | UnsetType = UNSET
    path: Literal["lan", "direct", "punched", "relay"] | UnsetType = UNSET
    via: Text | UnsetType = UNSET
    at_least: Rate | UnsetType = UNSET
    at_most: Rate | UnsetType = UNSET
    within: Time | UnsetType = UNSET
    at: Time | UnsetType = UNSET


class ImpairEntry(BothWays, frozen=True, omit_defaults=True, kw_only=True):
    """What a link does from now on; what is not said is as on a plain cable."""

    link: Text


class ExecEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A program to run on a node, never through a shell."""

    node: Text
    run: Argv


class EventEntry(
    msgspec.Struct, frozen=True, omit_defaults=True, rename={"reboot_nat": "reboot-nat"}
):
    """One thing that happens at a time: exactly one key besides `time`."""

    time: Time
    cut: Text | UnsetType = UNSET
    plug: Text | UnsetType = UNSET
    impair: ImpairEntry | UnsetType = UNSET
    kill: Text | UnsetType = UNSET
    restart: Text | UnsetType = UNSET
    pause: Text | UnsetType = UNSET
    resume: Text | UnsetType = UNSET
    partition: tuple[tuple[Text, ...], ...] | UnsetType = UNSET
    heal: bool | UnsetType = UNSET
    reboot_nat: Text | UnsetType = UNSET
    exec: ExecEntry | UnsetType = UNSET


class LabFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole lab: `zos lab up FILE` builds it."""

    name: Text | UnsetType = UNSET
    seed: Seed | UnsetType = UNSET
    core: CoreEntry = CoreEntry()
    kind: dict[str, KindEntry] = {}
    router: dict[str, RouterEntry] = {}
    lan: dict[str, LanEntry] = {}
    node: dict[str, NodeEntry] = {}
    tenant: dict[str, TenantEntry] = {}
    expect: tuple[ExpectEntry, ...] = ()
    at: tuple[EventEntry, ...] = ()
