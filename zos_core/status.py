"""What a node says about itself: the JSON of the local socket, as types.

One vocabulary for the node that answers and the command line that asks. Fields are added within a
schema number, never removed or renamed (CLI-010). Times are UTC; ids, prefixes and keys are text.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

SCHEMA = 1

Severity = Literal["error", "warning", "info"]
RegistryState = Literal["connected", "connecting", "unreachable", "none"]
FarmState = Literal["listed", "waiting", "none"]  # none: no farm is pinned
NetworkState = Literal[
    "up",  # the kernel holds what the documents say
    "converging",  # a pass is at work, or the last one failed and the next one tries again
    "joining",  # the member document is not accepted yet
    "waiting",  # somebody has to act first; `message` says who
    "refused",  # this node will not act on it; `message` says why
    "removing",
]
PeerState = Literal["active", "idle", "connecting", "silent"]
# How packets to a peer go: over a LAN that both are on, to where it can be reached, through NATs or
# firewalls that both have opened, by a relay, or not at all yet.
PathKind = Literal["lan", "direct", "punched", "relay", "none"]
# Of a published port; but for "open", what keeps it from being that.
PortState = Literal["open", "no-workload", "not-offered", "reserved", "taken"]


class HealthItem(msgspec.Struct, frozen=True):
    """One thing a person should know, with what to do about it."""

    code: str  # stable, kebab-case: "registry-unreachable"
    title: str
    severity: Severity
    text: str
    remedy: str
    network: str | None = None  # network id
    since: datetime | None = None


class NodeStatus(msgspec.Struct, frozen=True):
    id: str
    name: str
    software: str
    pid: int
    started_at: datetime
    backend: str  # "kernel" or "wireguard-go"
    backend_reason: str
    farm: str | None
    farm_state: FarmState
    underlay_mtu_bytes: int
    endpoints: tuple[str, ...]  # declared by the operator
    addresses: tuple[str, ...]  # on own links, as offered to neighbours
    state_directory: str


class RegistryStatus(msgspec.Struct, frozen=True):
    reference: str | None
    state: RegistryState
    since: datetime
    verified_at: datetime | None  # when the registry last showed that what we hold is current
    revision: int
    error: str | None = None


class PeerStatus(msgspec.Struct, frozen=True):
    """A peer of one network resource; `kind` access is a device that hangs on this node."""

    name: str
    kind: Literal["node", "access"]
    node: str | None
    index: int
    public_key: str  # base64, as `wg` prints it
    allowed_ips: tuple[str, ...]
    gateway_v4: str
    gateway_v6: str
    state: PeerState
    path: PathKind
    endpoint: str | None
    candidates: tuple[str, ...]  # "declared 192.0.2.1:51820", best first
    latest_handshake: datetime | None
    handshake_age_s: int | None
    rx_bytes: int
    tx_bytes: int
    keepalive_s: int
    relay: str | None = None  # by whose way, as the network calls it
    relayed_because: str = ""  # why not by a better one
    over_tcp: bool = False  # the relay is reached by TLS over TCP, which is the last resort

    @property
    def way(self) -> str:
        """The path in words: "direct lan", "direct", "punched", "via relay r1 over TCP"."""
        match self.path:
            case "lan":
                return "direct lan"
            case "relay":
                return f"via relay {self.relay}" + (" over TCP" if self.over_tcp else "")
        return self.path


class AttachmentStatus(msgspec.Struct, frozen=True):
    name: str
    netns: str
    link: str
    address_v4: str  # with prefix length
    address_v6: str
    gateway_v4: str
    gateway_v6: str
    mac: str
    port: str
    mtu_bytes: int


class Refusal(msgspec.Struct, frozen=True):
    """A document that was not believed or not acted on."""

    key: str  # "member/net1.../node1...", as far as it could be told
    reason: str
    field: str | None
    remedy: str | None
    at: datetime
    count: int = 1


class Repair(msgspec.Struct, frozen=True):
    """Drift that was found and repaired."""

    at: datetime
    network: str
    what: str  # one change, in words
    by: str  # which pass: "notification", "poll", "interval", "start"


class RuleStatus(msgspec.Struct, frozen=True):
    """A policy rule as this node's firewall holds it: names resolved to prefixes."""

    source: tuple[str, ...]
    to: tuple[str, ...]
    protocol: str
    ports: tuple[str, ...]  # "80", "8000-8100"; empty: all


class NetworkRelayStatus(msgspec.Struct, frozen=True):
    """A relay that the network names, as a member sees it."""

    name: str
    node: str
    public_key: str  # base64
    endpoints: tuple[str, ...]
    hears_us_at: str | None  # from which endpoint it says that it hears this node
    tls_port: int | None = None  # TCP, for members where UDP is blocked
    over_tcp: bool = False  # it is reached that way, for want of a better one
    tcp_message: str = ""  # why it is not, though it was tried


class RelayedNetworkStatus(msgspec.Struct, frozen=True):
    """A network that names this node as a relay."""

    id: str
    name: str
    owners: tuple[str, ...]
    version: int
    members: int  # who may use the relay
    heard: int  # of these, who has registered
    message: str  # what is wrong, empty when nothing is
    remedy: str


class RelayStatus(msgspec.Struct, frozen=True):
    """This node as a relay, while its farm offers it as one."""

    state: Literal["serving", "starting", "failed"]
    message: str
    remedy: str
    public_key: str | None  # base64
    endpoints: tuple[str, ...]  # as the farm offers them
    registered: int
    sessions: int
    forwarded_bytes: int
    unsent: int
    packets: dict[str, int]  # by what became of them, since the relay has started
    networks: tuple[RelayedNetworkStatus, ...]
    rate_mbit: int = 0  # what each member may send, as the farm offers it; 0: no limit
    tls_port: int | None = None  # TCP, as the farm offers it
    tls_message: str = ""  # why nobody is served there, empty when somebody may be
    connections: int = 0  # by TLS
    refused_connections: dict[str, int] = {}  # and those that the relay ended, by why
    tls_dropped: int = 0  # datagrams that a connection did not take in time


# Idle: no tenant names it. Out of use: it has drained.
ExitState = Literal["serving", "idle", "failed", "out of use"]


class PublishedStatus(msgspec.Struct, frozen=True):
    """A port of this exit that a network publishes, and what became of it."""

    network: str  # id
    name: str  # of the network
    protocol: str
    port: int
    to: str  # web.n1:80
    state: PortState
    reason: str  # why it is not open, empty when it is


class ExitStatus(msgspec.Struct, frozen=True):
    """This node as an exit, while its farm offers it as one."""

    state: ExitState
    message: str  # why it failed, empty otherwise
    remedy: str
    networks: tuple[str, ...]  # ids of those whose members may leave here
    draining_until: datetime | None = None
    publish: tuple[str, ...] = ()  # what tenants may publish: "tcp/8000-8999"
    published: tuple[PublishedStatus, ...] = ()


class WayOutStatus(msgspec.Struct, frozen=True):
    """By which exit what is on this node leaves the network."""

    exit: str | None  # the member's name; None: nothing leaves by way of another
    since_s: int
    reason: str  # of the last change
    failed: tuple[str, ...] = ()  # exits that were not healthy within the last minute
    draining: str | None = None  # the exit by which older flows go on
    is_here: bool = False  # this node is an exit of the network, and what is on it leaves here


class NamesStatus(msgspec.Struct, frozen=True):
    """The name server of this node in one network."""

    domain: str  # "home.zos": a workload web is web.home.zos
    state: Literal["serving", "starting", "failed"]
    message: str  # why it failed, empty otherwise
    remedy: str
    servers: tuple[str, ...]  # addresses that answer, inside the network
    names: int  # nodes, access devices and workloads that have one
    left_out: int  # of more than there may be
    resolvers: tuple[str, ...]  # who is asked about names outside; empty: these are refused


class KeyStatus(msgspec.Struct, frozen=True):
    """The WireGuard key of this node in one network, and the one that takes over."""

    made_at: datetime
    rotates_at: datetime | None  # when it begins to be replaced by itself; None: it does not
    held_back: str  # why it cannot be replaced, empty when it can
    next_public_key: str | None = None  # base64; peers know it already
    takes_over_at: datetime | None = None


class NetworkStatus(msgspec.Struct, frozen=True):
    id: str
    name: str
    state: NetworkState
    message: str  # one sentence, empty when up
    remedy: str
    owners: tuple[str, ...]
    version: int  # of the network document acted on
    joined_by: Literal["name", "invitation"]
    member_name: str  # what this node is called in the network
    member_version: int
    member_accepted: bool  # the registry holds our member document
    index: int | None
    range_v4: str
    range_v6: str
    subnet_v4: str | None
    subnet_v6: str | None
    gateway_v4: str | None  # address without prefix length
    gateway_v6: str | None
    netns: str  # name below /run/netns
    netns_path: str
    listen_port: int | None
    mtu_bytes: int | None
    public_key: str | None
    policy: tuple[RuleStatus, ...] | None  # None: everything inside the network
    peers: tuple[PeerStatus, ...]
    attachments: tuple[AttachmentStatus, ...]
    refusals: tuple[Refusal, ...]
    last_pass_at: datetime | None
    last_change_at: datetime | None
    relays: tuple[NetworkRelayStatus, ...] = ()
    way_out: WayOutStatus | None = None  # None: the network names no exits
    names: NamesStatus | None = None  # None: nothing of the network is in the kernel yet
    key: KeyStatus | None = None  # of `public_key`


class Status(msgspec.Struct, frozen=True):
    """GET /v1/status"""

    schema: int
    generation: int  # grows with every change; GET /v1/wait?generation=N answers when it is passed
    at: datetime
    node: NodeStatus
    registry: RegistryStatus
    networks: tuple[NetworkStatus, ...]
    repairs: tuple[Repair, ...]  # newest last, bounded
    refusals: tuple[Refusal, ...]  # of documents that belong to no network of ours
    health: tuple[HealthItem, ...]
    relay: RelayStatus | None = None
    exit: ExitStatus | None = None


class PlannedChange(msgspec.Struct, frozen=True):
    network: str
    change: str  # one change, in words
    reason: str


class Plan(msgspec.Struct, frozen=True):
    """GET /v1/plan: what a pass would change now. POST /v1/plan: what a network document would."""

    schema: int
    changes: tuple[PlannedChange, ...]


class PlanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A network document, signed or not: a plan is a question, nothing is acted on."""

    document: msgspec.Raw  # the network document as JSON


class MemberStatus(msgspec.Struct, frozen=True):
    """Somebody in the network, as this node sees it."""

    name: str
    kind: Literal["node", "access", "invitation"]
    node: str | None
    index: int
    uses: int  # 1 but for invitations
    via: str | None  # of an access device: node id
    member: bool  # a verified member document is held and admitted (true for access devices)
    refusal: str | None


class WhyInputs(msgspec.Struct, frozen=True):
    """GET /v1/why?network=NAME-OR-ID: all that `zos why` walks, and nothing it could not check."""

    schema: int
    node: str
    document: dict[str, Any]  # the network document acted on
    network: NetworkStatus
    members: tuple[MemberStatus, ...]
    drift: tuple[PlannedChange, ...]  # what the kernel lacks right now
    firewall_loaded: bool
    health: tuple[HealthItem, ...]


class JoinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/join"""

    token: str

    def __repr__(self) -> str:
        return "JoinRequest(<hidden>)"


class JoinAnswer(msgspec.Struct, frozen=True):
    schema: int
    network: str
    name: str
    index: int
    subnet_v4: str
    subnet_v6: str
    already: bool  # it was a member before


class AttachRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/attach: `netns` is a path to a network namespace, as the node sees it."""

    network: str  # id or name
    name: str
    netns: str
    link: str = "eth0"


class RotateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/rotate: replace the key of this network, id or name; without one, all that can be"""

    network: str | None = None


class Rotation(msgspec.Struct, frozen=True):
    network: str
    name: str
    takes_over_at: datetime | None  # None: `held_back` says why not
    held_back: str = ""


class RotateAnswer(msgspec.Struct, frozen=True):
    schema: int
    rotations: tuple[Rotation, ...]


class DetachRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """POST /v1/detach"""

    network: str
    name: str


class AttachAnswer(msgspec.Struct, frozen=True):
    schema: int
    network: str
    attachment: AttachmentStatus
    resolv_conf: str = ""  # for the workload, so that names are asked inside the network


class Done(msgspec.Struct, frozen=True):
    """An answer that says no more than that it was done."""

    schema: int
    ok: bool = True


class ErrorBody(msgspec.Struct, frozen=True):
    code: Literal["rejected", "refused", "conflict", "unavailable", "diverged", "not-found"]
    message: str
    field: str | None = None
    remedy: str | None = None


class ErrorAnswer(msgspec.Struct, frozen=True):
    """Any answer that is not 200: 400 rejected, 403 refused, 404, 409, 503, 500 diverged."""

    schema: int
    error: ErrorBody
