"""What a lab says about itself: the JSON of its socket, as types.

One vocabulary for the supervisor that answers and for those who ask: commands, `watch`, tests.
Fields are added within a schema number, never removed or renamed. Times are seconds.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from netlab.impairment import Both, Drop
from netlab.nat import Nat
from zos_core.status import ErrorBody

SCHEMA = 1

LabState = Literal["building", "ready", "ending"]
NodeState = Literal["running", "paused", "dead"]
PowerVerb = Literal["kill", "pause", "resume", "restart"]
ZosState = Literal["running", "silent"]


class Build(msgspec.Struct, frozen=True):
    """How far a build is: "nodes joined" 3 of 60."""

    phase: str
    done: int
    total: int


class Counters(msgspec.Struct, frozen=True):
    """Of one link since the lab began, as the end that declares it sees them."""

    rx_packets: int
    rx_bytes: int
    rx_drops: int
    tx_packets: int
    tx_bytes: int
    tx_drops: int


class LinkStatus(msgspec.Struct, frozen=True):
    """A cable from `of`, at `end`, to `to`. `up` of `impaired` is what leaves `of`."""

    name: str
    end: str  # "alice:eth0"
    of: str  # a node or a router, or a region
    to: str  # a region, router or LAN; a node where a LAN joins exactly two
    lan: str  # the LAN, a router's included, that it is part of; empty at a region
    up: bool
    mtu_bytes: int
    ipv4: str | None
    ipv6: str | None
    impaired: Both | None  # what is in force; None: nothing
    back_end: str  # who does it, and how exactly; empty: nobody has to
    counters: Counters | None  # None: not asked for


class ZosPeer(msgspec.Struct, frozen=True):
    """A tunnel as the node at this end of it sees it."""

    name: str
    state: str  # as in `zos status`: active, idle, connecting, silent
    path: str
    endpoint: str | None
    handshake_age_s: int | None
    rx_bytes: int
    tx_bytes: int
    relay: str = ""  # by way of which, as the network calls it; empty: of none


class ZosWorkload(msgspec.Struct, frozen=True):
    name: str
    netns: str
    ipv4: str
    ipv6: str


class ZosNetwork(msgspec.Struct, frozen=True):
    id: str
    name: str
    state: str
    message: str
    gateway_ipv4: str | None
    gateway_ipv6: str | None
    peers: tuple[ZosPeer, ...]
    workloads: tuple[ZosWorkload, ...]
    exit: str = ""  # by which what is on the node leaves the network; empty: by none
    failed_exits: tuple[str, ...] = ()  # within the last minute


class ZosHealth(msgspec.Struct, frozen=True):
    code: str
    severity: str
    text: str
    remedy: str


class ZosStatus(msgspec.Struct, frozen=True):
    """A node's own `zos status`, shortened; "silent" when it does not answer on its socket."""

    state: ZosState
    id: str = ""
    registry: str = ""
    back_end: str = ""
    networks: tuple[ZosNetwork, ...] = ()
    health: tuple[ZosHealth, ...] = ()


class NodeStatus(msgspec.Struct, frozen=True):
    name: str
    role: str
    state: NodeState
    addresses: tuple[str, ...]
    links: tuple[str, ...]  # names
    part: int  # of the partition; 0: in none
    zos: ZosStatus | None  # None: this node runs none, or has not been asked yet
    relay: bool = False  # its operator offers it as one
    uplink: str = ""  # its link by which it is offered as an exit; empty: it is not


class RouterStatus(msgspec.Struct, frozen=True):
    name: str
    to: str
    link: str
    addresses: tuple[str, ...]
    lan: tuple[str, ...]  # the prefixes behind it
    nat: Nat | None
    firewall: str


class LanStatus(msgspec.Struct, frozen=True):
    name: str
    gateway: str
    prefixes: tuple[str, ...]


class LatencyStatus(msgspec.Struct, frozen=True):
    between: tuple[str, str]
    impaired: Both


class NetworkStatus(msgspec.Struct, frozen=True):
    """A tenant network as the file has it; `id` once it is signed."""

    name: str
    id: str
    range: str
    nodes: tuple[str, ...]
    invited: tuple[str, ...]
    clients: tuple[str, ...]
    workloads: tuple[str, ...]  # "web at n1"
    relays: tuple[str, ...] = ()
    exits: tuple[str, ...] = ()  # in their order


class TenantStatus(msgspec.Struct, frozen=True):
    name: str
    networks: tuple[NetworkStatus, ...]


class LabStatus(msgspec.Struct, frozen=True):
    """GET /v1/lab"""

    schema: int
    name: str
    state: LabState
    build: Build | None  # None: it is built
    seed: int
    began_at: float
    ready_after_s: float | None
    at: float
    lab_s: float  # since it began, as events have it
    last_event: int
    pid: int  # of the supervisor
    keeper_pid: int | None
    workdir: str
    registry: str  # the reference; empty: none
    partition: tuple[tuple[str, ...], ...]  # empty: none
    regions: tuple[str, ...]
    latencies: tuple[LatencyStatus, ...]
    routers: tuple[RouterStatus, ...]
    lans: tuple[LanStatus, ...]
    nodes: tuple[NodeStatus, ...]
    links: tuple[LinkStatus, ...]
    tenants: tuple[TenantStatus, ...]


class LinkChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of an impairment that change; None: this one stays as it is."""

    delay_s: float | None = None
    jitter_s: float | None = None
    loss: float | None = None
    duplicate: float | None = None
    reorder: float | None = None
    rate_bit_s: int | None = None
    drops: tuple[Drop, ...] | None = None


class LinkRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/link: what is given changes, and nothing else.

    `change` is for the direction named: "up" leaves the end that declares the link.
    """

    link: str
    plugged: bool | None = None
    mtu_bytes: int | None = None
    clear: bool = False  # first take back every impairment of the direction
    direction: Literal["both", "up", "down"] = "both"
    change: LinkChange = LinkChange()


class NodeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/node"""

    node: str
    verb: PowerVerb


class PartitionRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/partition; no parts: heal"""

    parts: tuple[tuple[str, ...], ...]


class RouterRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/router: it forgets its translations."""

    router: str


class CheckRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/check: the answer is JudgeLines.

    timeline  what is to happen happens, too, and what is expected then is judged then
    evidence  a directory that is made when something fails, of the machine; empty: none
    answers   verdicts have what became of every pair
    """

    timeline: bool = False
    evidence: str = ""
    answers: bool = False


class Happened(msgspec.Struct, frozen=True):
    """An event of the timeline that was done."""

    at_s: float
    verb: str
    text: str


class JudgeLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is told while a lab is judged: exactly one field."""

    event: Happened | None = None
    verdict: dict[str, Any] | None = None  # see netlab/judge/verdict.py
    error: ErrorBody | None = None
    evidence: str | None = None


class EndRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/end"""

    keep: bool = False


class Done(msgspec.Struct, frozen=True):
    """It is done; `text` says what."""

    schema: int
    text: str


class TapRequest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="wish", tag="tap"
):
    """On the starting socket: packet sockets for what passes a node, router or link."""

    name: str


class StartRequest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="wish", tag="start"
):
    """On the starting socket, with three descriptors: standard input, output and error."""

    node: str
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    netns: str
    terminal: bool
