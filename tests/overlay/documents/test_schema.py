"""Documents that contradict themselves are refused, with the field named (DOC-020 .. DOC-039)."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay import addressing
from overlay.documents import fields, schema
from overlay.documents.devices import NextDevice
from overlay.documents.relays import Seen, Sighting
from overlay.documents.schema import (
    AccessDevice,
    Document,
    EndpointCandidate,
    Farm,
    Invitation,
    Member,
    NamedMember,
    Network,
    Owners,
    Result,
    Rule,
    parse_document,
)
from overlay.errors import Rejected
from overlay.keys import identity, wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import WireGuardKey
from overlay.model import Candidate, CandidateKind


def seed(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def id_of(kind: Kind, n: int = 0) -> str:
    return Identity.from_seed(kind, seed(f"{kind} {n}")).id


def key(n: int = 0) -> str:
    return wireguard.format_key(WireGuardKey(seed(f"wg {n}")).public_key)


NODE, TENANT = id_of(Kind.NODE), id_of(Kind.TENANT)
NET = identity.format_network_id(bytes(20))
OWNERS = Owners(1, (TENANT,))


def network(**changes: Any) -> Network:
    whole = Network(
        name="home",
        version=1,
        owners=OWNERS,
        range="10.1.0.0/16",
        members=(NamedMember("n1", NODE, 1),),
        invitations=(Invitation("guests", id_of(Kind.INVITE), 10, 5, 1_000),),
        access=(AccessDevice("laptop", key(), 20, NODE),),
        policy=(Rule(("laptop",), ("n1", "guests"), "tcp", ("80", "8000-8100")),),
    )
    return msgspec.structs.replace(whole, **changes)


def member(**changes: Any) -> Member:
    whole = Member(
        network=NET,
        node=NODE,
        version=1,
        name="n1",
        index=1,
        device=id_of(Kind.WG),
        joined=1,
        endpoints=(EndpointCandidate(CandidateKind.LOCAL, "[2001:db8::1]:51820"),),
    )
    return msgspec.structs.replace(whole, **changes)


def parse(document: Document) -> Document:
    kind = schema.kind_of(document)
    return parse_document(schema.encode(document), schema.payload_type(kind))


WHOLE: tuple[Document, ...] = (
    network(),
    member(),
    member(next_device=NextDevice(id_of(Kind.WG, 1), 9)),
    Farm(id_of(Kind.FARM), 1, "basement", (NODE,)),
    Result(NET, NODE, 1, 1, True, 1),
    Sighting(NET, NODE, 1, (Seen(key(), "192.0.2.7:40000"),)),
)


@pytest.mark.parametrize("document", WHOLE, ids=schema.kind_of)
def test_a_document_reads_back_as_itself(document: Document) -> None:
    assert parse(document) == document


@pytest.mark.parametrize("document", WHOLE, ids=schema.kind_of)
def test_a_document_of_one_kind_is_none_of_another(document: Document) -> None:
    # DOC-020
    for kind in schema.KINDS.keys() - {schema.kind_of(document)}:
        with pytest.raises(Rejected):
            parse_document(schema.encode(document), schema.payload_type(kind))


@pytest.mark.parametrize(
    "text", ["", "application/json", "application/vnd.zos.wish+json", "application/vnd.zos.+json"]
)
def test_an_unknown_payload_type_is_refused(text: str) -> None:
    # DOC-020
    with pytest.raises(Rejected) as caught:
        parse_document(b"{}", text)
    assert caught.value.field == "payloadType"


OTHER = id_of(Kind.NODE, 1)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        # DOC-022
        ({"name": "Home"}, "name"),
        ({"name": "-home"}, "name"),
        ({"name": "home-"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "h" * 64}, "name"),
        ({"name": "home\n"}, "name"),
        # DOC-023
        ({"range": "10.1.0.1/16"}, "range"),
        ({"range": "10.1.0.0/24"}, "range"),
        ({"range": "10.0.0.0/7"}, "range"),
        ({"range": "127.0.0.0/16"}, "range"),
        ({"range": "fd00::/48"}, "range"),
        ({"members": (NamedMember("n1", TENANT, 1),)}, "members[0].node"),
        ({"members": (NamedMember("n1", NODE.upper(), 1),)}, "members[0].node"),
        ({"access": (AccessDevice("pc", "A" * 44, 20, NODE),)}, "access[0].public_key"),
        ({"access": (AccessDevice("pc", key(), 20, TENANT),)}, "access[0].via"),
        ({"invitations": (Invitation("i", NODE, 10, 1, 1),)}, "invitations[0].key"),
        ({"revoked": (TENANT,)}, "revoked[0]"),
        # DOC-024
        ({"members": (NamedMember("n1", NODE, 12),)}, "index"),
        ({"members": (NamedMember("n1", NODE, 20),)}, "index"),
        ({"members": (NamedMember("n1", NODE, 256),)}, "index"),
        ({"members": (NamedMember("laptop", NODE, 1),), "policy": ()}, "name"),
        ({"members": (NamedMember("n1", NODE, 1), NamedMember("n2", OTHER, 1))}, "index"),
        ({"invitations": (Invitation("i", id_of(Kind.INVITE), 252, 5, 1),), "policy": ()}, "index"),
        # DOC-025
        ({"members": (NamedMember("n1", NODE, 1), NamedMember("n2", NODE, 2))}, "members"),
        ({"revoked": (NODE,)}, "revoked"),
        ({"revoked": (OTHER, OTHER)}, "revoked"),
        # DOC-026
        ({"policy": (Rule(("nobody",), ("*",)),)}, "policy[0]"),
        ({"policy": (Rule(("*",), ("nobody",)),)}, "policy[0]"),
        ({"policy": (Rule((), ("*",)),)}, "policy[0].from"),
        # DOC-027
        ({"policy": (Rule(("*",), ("*",), "icmp", ("80",)),)}, "policy[0].ports"),
        ({"policy": (Rule(("*",), ("*",), "tcp", ("0",)),)}, "policy[0].ports"),
        ({"policy": (Rule(("*",), ("*",), "tcp", ("90-80",)),)}, "policy[0].ports"),
        ({"policy": (Rule(("*",), ("*",), "tcp", ("65536",)),)}, "policy[0].ports"),
        ({"policy": (Rule(("*",), ("*",), "tcp", ("080",)),)}, "policy[0].ports"),
        # DOC-028
        ({"owners": Owners(2, (TENANT,))}, "owners.threshold"),
        ({"owners": Owners(1, (TENANT, TENANT))}, "owners.keys"),
        ({"owners": Owners(0, (TENANT,))}, "owners.threshold"),
        ({"owners": Owners(1, ())}, "owners.keys"),
        ({"owners": Owners(1, (NODE,))}, "owners.keys[0]"),
        ({"version": 0}, "version"),
        ({"version": fields.MAX_VERSION + 1}, "version"),
    ],
)
def test_a_network_that_contradicts_itself_names_the_field(
    changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(Rejected) as caught:
        parse(network(**changes))
    assert caught.value.field == field


def test_owner_keys_are_sorted() -> None:
    # DOC-028
    keys = sorted(id_of(Kind.TENANT, n) for n in range(2))
    parse(network(owners=Owners(2, tuple(keys))))
    with pytest.raises(Rejected, match="sorted"):
        parse(network(owners=Owners(2, tuple(reversed(keys)))))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"network": NODE}, "network"),
        ({"node": id_of(Kind.WG)}, "node"),
        ({"device": NODE}, "device"),
        ({"invitation": NODE}, "invitation"),
        ({"index": -1}, "index"),
        ({"index": 65_536}, "index"),
        ({"joined": -1}, "joined"),
        *(
            (
                {"endpoints": (EndpointCandidate(CandidateKind.LOCAL, text),)},
                "endpoints[0].endpoint",
            )
            for text in (
                "192.0.2.1",
                "192.0.2.1:0",
                "192.0.2.1:65536",
                "192.0.2.1:080",
                "192.0.2.01:80",
                "2001:db8::1:80",
                "[2001:DB8::1]:80",
                "example.org:80",
                "192.0.2.1:٣",
                # DOC-029
                "127.0.0.1:53",
                "0.0.0.0:53",
                "169.254.169.254:80",
                "224.0.0.1:5353",
                "255.255.255.255:9",
                "[::]:53",
                "[::1]:53",
                "[fe80::1]:53",
                "[ff02::fb]:5353",
                "[::ffff:127.0.0.1]:53",
            )
        ),
    ],
)
def test_a_member_that_contradicts_itself_names_the_field(
    changes: dict[str, Any], field: str
) -> None:
    # DOC-021, DOC-023
    with pytest.raises(Rejected) as caught:
        parse(member(**changes))
    assert caught.value.field == field


def _endpoints(count: int) -> tuple[EndpointCandidate, ...]:
    kind = CandidateKind.LOCAL
    return tuple(EndpointCandidate(kind, f"192.0.2.{n}:1") for n in range(1, count + 1))


def _rules(count: int) -> tuple[Rule, ...]:
    return (Rule(("*",), ("*",)),) * count


def _rules_with(*, names: int = 0, ports: int = 0) -> tuple[Rule, ...]:
    """As many names or ports together, each rule within its own bounds."""
    rules = [Rule(("*",) * 63, ("*",)) for _ in range(names // 64)]
    rules += [Rule(("*",) * (names % 64), ("*",))] if names % 64 else []
    rules += [Rule(("*",), ("*",), "udp", ("80",) * 32) for _ in range(ports // 32)]
    return tuple([*rules, Rule(("*",), ("*",), "udp", ("80",) * (ports % 32))] if ports else rules)


def _revoked(count: int) -> tuple[str, ...]:
    return tuple(id_of(Kind.NODE, n + 10) for n in range(count))


def _access(count: int) -> tuple[AccessDevice, ...]:
    return tuple(AccessDevice(f"d{n}", key(n), n + 1_000, NODE) for n in range(count))


def _invitations(count: int) -> tuple[Invitation, ...]:
    return tuple(Invitation(f"i{n}", id_of(Kind.INVITE, n), n + 1_000, 1, 1) for n in range(count))


@pytest.mark.parametrize(
    ("make", "bound"),
    [
        (lambda n: member(endpoints=_endpoints(n)), schema.MAX_CANDIDATES),
        (lambda n: network(policy=_rules(n)), schema.MAX_POLICY_RULES),
        (
            lambda n: network(policy=(Rule(("*",) * n, ("*",)),)),
            schema.MAX_NAMES_PER_RULE,
        ),
        (
            lambda n: network(policy=(Rule(("*",), ("*",), "udp", ("80",) * n),)),
            schema.MAX_PORTS_PER_RULE,
        ),
        (lambda n: network(policy=_rules_with(names=n)), schema.MAX_POLICY_NAMES),
        (lambda n: network(policy=_rules_with(ports=n)), schema.MAX_POLICY_PORTS),
        (
            lambda n: network(range="10.0.0.0/8", access=_access(n), policy=()),
            schema.MAX_ACCESS_DEVICES,
        ),
        (
            lambda n: network(range="10.0.0.0/8", invitations=_invitations(n), policy=()),
            schema.MAX_INVITATIONS,
        ),
        (lambda n: Result(NET, NODE, 1, 1, False, 1, "x" * n), schema.MAX_REASON_CHARS),
    ],
)
def test_bounds_hold_at_the_bound(make: Any, bound: int) -> None:
    # DOC-021
    parse(make(bound))
    with pytest.raises(Rejected):
        parse(make(bound + 1))


def test_a_document_has_a_largest_size() -> None:
    # DOC-021
    padding = b" " * schema.MAX_BYTES["member"]
    with pytest.raises(Rejected, match="more than"):
        parse_document(schema.encode(member()) + padding, schema.payload_type("member"))


def test_names_stand_for_indexes() -> None:
    assert schema.names(network()) == {
        "n1": range(1, 2),
        "guests": range(10, 15),
        "laptop": range(20, 21),
    }


@given(st.binary(max_size=300), st.sampled_from([*schema.KINDS, "wish"]))
def test_any_bytes_are_a_document_or_rejected(raw: bytes, kind: str) -> None:
    # DOC-039
    with pytest.raises(Rejected):
        parse_document(raw, schema.payload_type(kind))


@given(st.data())
def test_any_change_of_one_byte_is_a_document_or_rejected(data: st.DataObject) -> None:
    # DOC-039
    document = data.draw(st.sampled_from(WHOLE))
    raw = bytearray(schema.encode(document))
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parse_document(bytes(raw), schema.payload_type(schema.kind_of(document)))
    except Rejected:
        return


@given(
    st.sampled_from(["192.0.2.1", "2001:db8::1", "::ffff", "fd00::a:0:0:1"]), st.integers(1, 65535)
)
def test_a_candidate_is_the_endpoint_that_was_checked(address: str, port: int) -> None:
    text = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    checked = addressing.parse_endpoint(text)
    offered = (EndpointCandidate(CandidateKind.LOCAL, text),)
    assert schema.candidates(member(endpoints=offered)) == (
        Candidate(CandidateKind.LOCAL, checked),
    )
    assert str(addressing.endpoint_of(text)) == text


def test_the_next_device_key_is_another_key_in_any_spelling() -> None:
    # DOC-070: a point and its negative are one WireGuard key
    public = identity.parse_id(Kind.WG, id_of(Kind.WG))
    mirrored = identity.format_id(Kind.WG, public[:31] + bytes([public[31] ^ 0x80]))
    assert wireguard.wireguard_public_key(mirrored) == wireguard.wireguard_public_key(
        id_of(Kind.WG)
    )
    for device in (id_of(Kind.WG), mirrored):
        with pytest.raises(Rejected, match="is the WireGuard key in use") as caught:
            parse(member(next_device=NextDevice(device, 9)))
        assert caught.value.field == "next_device.device"


@pytest.mark.parametrize("at", [-1, fields.MAX_VERSION + 1])
def test_the_time_of_a_next_device_key_is_bounded(at: int) -> None:
    # DOC-021
    with pytest.raises(Rejected, match="next_device"):
        parse(member(next_device=NextDevice(id_of(Kind.WG, 1), at)))
    parse(member(next_device=NextDevice(id_of(Kind.WG, 1), fields.MAX_VERSION)))
    with pytest.raises(Rejected) as caught:
        parse(member(next_device=NextDevice(NODE, 9)))
    assert caught.value.field == "next_device.device"
