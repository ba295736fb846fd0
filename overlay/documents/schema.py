"""What every kind of document says, and its strict parsing (specs DOC-020 .. DOC-039).

A value of these types has been checked against itself: bounds, canonical text, names that refer
to something, indexes that are disjoint. Who may say it, and whether it is new, is `trust`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from overlay import addressing
from overlay.documents import envelope
from overlay.documents.devices import NextDevice, check_next_device
from overlay.documents.exits import (
    MAX_EXIT_OFFERS,
    MAX_EXITS,
    Exit,
    ExitOffer,
    ExitService,
    check_exit_offers,
    check_exit_service,
    check_exits,
)
from overlay.documents.fields import (
    MAX_VERSION,
    EndpointText,
    IdText,
    Index,
    KeyText,
    Label,
    UnixTime,
    Version,
    check_distinct,
    check_endpoint,
    check_id,
    parse_port_range,
)
from overlay.documents.names import Workloads, check_workloads
from overlay.documents.published import MAX_PUBLISHED, Published, check_published
from overlay.documents.relays import (
    MAX_RELAY_ENDPOINTS,
    MAX_RELAY_OFFERS,
    MAX_RELAYS,
    Relay,
    RelayOffer,
    Sighting,
    TlsPort,
    check_offers,
    check_relay_endpoints,
    check_relays,
    check_sighting,
)
from overlay.documents.strict import parse_strict
from overlay.errors import Rejected
from overlay.keys import identity, wireguard
from overlay.keys.identity import Kind
from overlay.model import (
    Candidate,
    CandidateKind,
    NetworkId,
    Prefix,
)

MAX_NAMED_MEMBERS = 16_384
MAX_FARM_NODES = 10_000
MAX_INVITATIONS = 256
MAX_INVITATION_USES = 65_536
MAX_ACCESS_DEVICES = 1_024
MAX_REVOKED = 16_384
MAX_POLICY_RULES = 512
MAX_NAMES_PER_RULE = 64
MAX_PORTS_PER_RULE = 32
# Of all rules together: every node pays for them, and shares its time with other tenants.
MAX_POLICY_NAMES = 4_096
MAX_POLICY_PORTS = 1_024
MAX_OWNERS = 16
MAX_CANDIDATES = 16
MAX_REASON_CHARS = 512

# Largest payload of each kind, in bytes.
MAX_BYTES = {
    "farm": 1 << 20,
    "node": 4_096,
    "network": 2 << 20,
    "member": 32 << 10,
    "result": 4_096,
    "sighting": 768 << 10,
}


class Owners(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose signatures make a network document: `threshold` of `keys`. Part of the network's id."""

    threshold: Annotated[int, Meta(ge=1, le=MAX_OWNERS)]
    keys: Annotated[
        tuple[IdText, ...], Meta(min_length=1, max_length=MAX_OWNERS)
    ]  # sorted tenant ids


class NamedMember(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A node that the tenant lists."""

    name: Label
    node: IdText
    index: Index


class Invitation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A key whose holder may join. Each use takes one of the indexes from `first_index` on."""

    name: Label
    key: IdText
    first_index: Index
    uses: Annotated[int, Meta(ge=1, le=MAX_INVITATION_USES)]
    expires: UnixTime


class AccessDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A device without zos (laptop, phone): a WireGuard peer of the node `via`."""

    name: Label
    public_key: KeyText
    index: Index
    via: IdText


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"source": "from"}):
    """Traffic that is allowed. Names are members, access devices, invitations, or "*"."""

    source: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_NAMES_PER_RULE)]
    to: Annotated[tuple[str, ...], Meta(min_length=1, max_length=MAX_NAMES_PER_RULE)]
    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    ports: Annotated[tuple[str, ...], Meta(max_length=MAX_PORTS_PER_RULE)] = ()  # "80", "8000-8100"


class Farm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed by the operator: which nodes belong to the farm, and what they offer to tenants."""

    farm: IdText
    version: Version
    name: Label
    nodes: Annotated[tuple[IdText, ...], Meta(max_length=MAX_FARM_NODES)] = ()
    relays: Annotated[tuple[RelayOffer, ...], Meta(max_length=MAX_RELAY_OFFERS)] = ()
    exits: Annotated[tuple[ExitOffer, ...], Meta(max_length=MAX_EXIT_OFFERS)] = ()


class Capacity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cpus: Annotated[int, Meta(ge=1, le=1 << 16)]
    memory_bytes: Annotated[int, Meta(ge=0, le=MAX_VERSION)]
    disk_bytes: Annotated[int, Meta(ge=0, le=MAX_VERSION)]


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed by the node: what it is."""

    node: IdText
    version: Version
    name: Label
    software: Annotated[str, Meta(max_length=64)]
    backend: Literal["kernel", "wireguard-go"]
    capacity: Capacity
    farm: IdText | None = None
    relay_key: KeyText | None = None  # while the farm offers it as a relay
    relay_endpoints: Annotated[
        tuple[EndpointText, ...], Meta(max_length=MAX_RELAY_ENDPOINTS)
    ] = ()  # as the farm says
    relay_tls_port: TlsPort | None = None


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed by its owners: who is in the network, where, and what they may send each other."""

    name: Label
    version: Version
    owners: Owners
    range: Annotated[str, Meta(max_length=18)]
    members: Annotated[tuple[NamedMember, ...], Meta(max_length=MAX_NAMED_MEMBERS)] = ()
    invitations: Annotated[tuple[Invitation, ...], Meta(max_length=MAX_INVITATIONS)] = ()
    access: Annotated[tuple[AccessDevice, ...], Meta(max_length=MAX_ACCESS_DEVICES)] = ()
    policy: Annotated[
        tuple[Rule, ...], Meta(max_length=MAX_POLICY_RULES)
    ] = ()  # empty: all allowed
    revoked: Annotated[tuple[IdText, ...], Meta(max_length=MAX_REVOKED)] = ()
    relays: Annotated[tuple[Relay, ...], Meta(max_length=MAX_RELAYS)] = ()
    exits: Annotated[tuple[Exit, ...], Meta(max_length=MAX_EXITS)] = ()
    local_exits: bool = False  # what is on a node leaves by the node itself, if its farm offers it
    published: Annotated[tuple[Published, ...], Meta(max_length=MAX_PUBLISHED)] = ()
    deleted: bool = False


class EndpointCandidate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    kind: CandidateKind
    endpoint: EndpointText


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed by node, device key, the next device key when there is one, and the invitation key
    when joined by token."""

    network: IdText
    node: IdText
    version: Version
    name: Label
    index: Index
    device: IdText  # wg1...: the WireGuard public key is its X25519 form
    joined: UnixTime  # of the first version; an invitation's expiry is compared with this
    endpoints: Annotated[tuple[EndpointCandidate, ...], Meta(max_length=MAX_CANDIDATES)] = ()
    invitation: IdText | None = None
    exit: ExitService | None = None  # while it is an exit of the network, and stands
    workloads: Workloads = ()  # what is attached here, in order of address
    next_device: NextDevice | None = None  # while the device key is being replaced


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed by the node: what it did with which version of a network document."""

    network: IdText
    node: IdText
    version: Version
    document_version: Annotated[int, Meta(ge=0, le=MAX_VERSION)]
    ok: bool
    at: UnixTime
    reason: Annotated[str, Meta(max_length=MAX_REASON_CHARS)] = ""


Document = Farm | Node | Network | Member | Result | Sighting

KINDS: dict[str, type[Document]] = {
    "farm": Farm,
    "node": Node,
    "network": Network,
    "member": Member,
    "result": Result,
    "sighting": Sighting,
}


def kind_of(document: Document) -> str:
    return type(document).__name__.lower()


def encode(document: Document) -> bytes:
    """The payload bytes to sign."""
    return msgspec.json.encode(document)


# A kind is spoken of here; how it is written in an envelope is said there, once.
payload_type = envelope.payload_type


def parse_document(payload: bytes, payload_type_text: str) -> Document:
    """A document that is consistent in itself. Raises Rejected naming the field; nothing else."""
    kind = payload_type_text.removeprefix("application/vnd.zos.").removesuffix("+json")
    if kind not in KINDS or payload_type_text != payload_type(kind):
        raise Rejected(f"unknown payload type {payload_type_text[:80]!r}", field="payloadType")
    document = parse_strict(
        payload, KINDS[kind], max_bytes=MAX_BYTES[kind], what=f"{kind} document"
    )
    _CHECKS[kind](document)
    return document


def check(document: Document) -> None:
    """Raise Rejected, naming the field, unless the document is consistent in itself."""
    _CHECKS[kind_of(document)](document)


def parse_network_id(text: str, *, field: str | None = None) -> NetworkId:
    """Raise Rejected unless `text` is net1 and 20 bytes."""
    return NetworkId(identity.parse_network_id(text, field=field))


def candidates(member: Member) -> tuple[Candidate, ...]:
    """The member's endpoint candidates as values."""
    return _candidates(member.endpoints)


@lru_cache(maxsize=4096)
def _candidates(offered: tuple[EndpointCandidate, ...]) -> tuple[Candidate, ...]:
    return tuple([Candidate(c.kind, addressing.endpoint_of(c.endpoint)) for c in offered])


def names(network: Network) -> dict[str, range]:
    """Every name a policy rule may use, with the indexes it stands for."""
    return dict(_named_indexes(network))


def _named_indexes(network: Network) -> Iterator[tuple[str, range]]:
    for member in network.members:
        yield member.name, range(member.index, member.index + 1)
    for invitation in network.invitations:
        first = invitation.first_index
        yield invitation.name, range(first, first + invitation.uses)
    for device in network.access:
        yield device.name, range(device.index, device.index + 1)


def _check_farm(farm: Farm) -> None:
    check_id(Kind.FARM, farm.farm, "farm")
    for n, node in enumerate(farm.nodes):
        check_id(Kind.NODE, node, f"nodes[{n}]")
    check_distinct(farm.nodes, "nodes")
    check_offers(farm.relays, nodes=farm.nodes)
    check_exit_offers(farm.exits, nodes=farm.nodes)


def _check_node(node: Node) -> None:
    check_id(Kind.NODE, node.node, "node")
    if node.farm is not None:
        check_id(Kind.FARM, node.farm, "farm")
    if (node.relay_key is None) != (not node.relay_endpoints):
        raise Rejected("a relay has a key and endpoints", field="relay_key")
    if node.relay_key is None and node.relay_tls_port is not None:
        raise Rejected("this node is no relay", field="relay_tls_port")
    if node.relay_key is not None:
        wireguard.parse_public_key(node.relay_key, field="relay_key")
        check_relay_endpoints(node.relay_endpoints, "relay_endpoints")


def _check_member(member: Member) -> None:
    parse_network_id(member.network, field="network")
    check_id(Kind.NODE, member.node, "node")
    check_id(Kind.WG, member.device, "device")
    if member.invitation is not None:
        check_id(Kind.INVITE, member.invitation, "invitation")
    for n, candidate in enumerate(member.endpoints):
        check_endpoint(candidate.endpoint, f"endpoints[{n}].endpoint")
    check_distinct(((c.kind, c.endpoint) for c in member.endpoints), "endpoints")
    if member.exit is not None:
        check_exit_service(member.exit)
    check_workloads(member.workloads)
    if member.next_device is not None:
        check_next_device(member.next_device, device=member.device)


def _check_result(result: Result) -> None:
    parse_network_id(result.network, field="network")
    check_id(Kind.NODE, result.node, "node")


def _check_network(network: Network) -> None:
    _check_owners(network.owners)
    range_v4 = addressing.parse_range(network.range, field="range")
    for n, member in enumerate(network.members):
        check_id(Kind.NODE, member.node, f"members[{n}].node")
    for n, invitation in enumerate(network.invitations):
        check_id(Kind.INVITE, invitation.key, f"invitations[{n}].key")
    for n, device in enumerate(network.access):
        check_id(Kind.NODE, device.via, f"access[{n}].via")
        wireguard.parse_public_key(device.public_key, field=f"access[{n}].public_key")
    for n, node in enumerate(network.revoked):
        check_id(Kind.NODE, node, f"revoked[{n}]")
    check_distinct((m.node for m in network.members), "members")
    check_distinct((i.key for i in network.invitations), "invitations")
    check_distinct((d.public_key for d in network.access), "access")
    check_distinct(network.revoked, "revoked")
    check_relays(network.relays, access_keys=(d.public_key for d in network.access))
    check_exits(network.exits, members=(m.node for m in network.members))
    check_published(
        network.published,
        exits=(each.node for each in network.exits),
        members=(m.node for m in network.members),
    )
    check_distinct((name for name, _ in _named_indexes(network)), "name")
    if both := {m.node for m in network.members} & set(network.revoked):
        raise Rejected(f"{min(both)} is named and revoked", field="revoked")
    _check_indexes(network, range_v4)
    _check_policy(network)


def _check_owners(owners: Owners) -> None:
    for n, key in enumerate(owners.keys):
        check_id(Kind.TENANT, key, f"owners.keys[{n}]")
    if list(owners.keys) != sorted(set(owners.keys)):
        raise Rejected("keys are not sorted and distinct", field="owners.keys")
    if owners.threshold > len(owners.keys):
        raise Rejected(
            f"{owners.threshold} signatures of {len(owners.keys)} keys can never be given",
            field="owners.threshold",
        )


def _check_indexes(network: Network, range_v4: Prefix) -> None:
    """Members, invitations and access devices share one index space, without overlap (NET-012)."""
    spans = sorted((r.start, r.stop, name) for name, r in names(network).items())
    count = addressing.index_count(range_v4)
    for _, stop, name in spans:
        if stop > count:
            raise Rejected(
                f"index {stop - 1} of {name!r} does not fit into {range_v4} ({count} members)",
                field="index",
                remedy="use a larger range or a smaller index",
            )
    for (_, stop, left), (start, _, right) in pairwise(spans):
        if start < stop:
            raise Rejected(f"{left!r} and {right!r} share index {start}", field="index")


def _check_policy(network: Network) -> None:
    named = sum(len(rule.source) + len(rule.to) for rule in network.policy)
    ports = sum(len(rule.ports) for rule in network.policy)
    for count, bound, what in (
        (named, MAX_POLICY_NAMES, "names"),
        (ports, MAX_POLICY_PORTS, "ports"),
    ):
        if count > bound:
            raise Rejected(f"{count} {what} are more than {bound}", field="policy")
    known = names(network).keys() | {"*"}
    for n, rule in enumerate(network.policy):
        for name in (*rule.source, *rule.to):
            if name not in known:
                raise Rejected(f"{name[:80]!r} names nothing in this network", field=f"policy[{n}]")
        if rule.ports and rule.protocol not in ("tcp", "udp"):
            raise Rejected("ports need protocol tcp or udp", field=f"policy[{n}].ports")
        for port in rule.ports:
            parse_port_range(port, field=f"policy[{n}].ports")


_CHECKS: dict[str, Callable[..., None]] = {
    "farm": _check_farm,
    "node": _check_node,
    "network": _check_network,
    "member": _check_member,
    "result": _check_result,
    "sighting": check_sighting,
}
