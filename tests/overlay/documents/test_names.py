"""Names of workloads in member documents."""

from __future__ import annotations

import msgspec
import pytest

from overlay.addressing import FIRST_WORKLOAD_HOST, LAST_WORKLOAD_HOST
from overlay.documents import schema
from overlay.documents.names import MAX_WORKLOAD_NAMES, WorkloadName
from overlay.documents.schema import Document, EndpointCandidate, Member, parse_document
from overlay.errors import Rejected
from overlay.keys import identity
from overlay.keys.identity import Identity, Kind
from overlay.model import CandidateKind

LONG = "w" * 60


def member(*workloads: WorkloadName) -> Member:
    def id_of(kind: Kind) -> str:
        return Identity.from_seed(kind, bytes(32)).id

    endpoint = EndpointCandidate(
        CandidateKind.DECLARED, "[2001:db8:1111:2222:3333:4444:5555:6666]:65535"
    )
    return Member(
        network=identity.format_network_id(bytes(20)),
        node=id_of(Kind.NODE),
        version=1,
        name="n1",
        index=1,
        device=id_of(Kind.WG),
        joined=1,
        endpoints=(endpoint,),
        workloads=workloads,
    )


def parse(document: Document) -> Document:
    return parse_document(schema.encode(document), schema.payload_type(schema.kind_of(document)))


def every(prefix: str = LONG) -> tuple[WorkloadName, ...]:
    hosts = range(FIRST_WORKLOAD_HOST, LAST_WORKLOAD_HOST + 1)
    return tuple(WorkloadName(f"{prefix}{host}"[-63:], host) for host in hosts)


def test_a_full_node_fits() -> None:
    # DNS-001, DNS-004
    whole = member(*every())
    assert len(whole.workloads) == MAX_WORKLOAD_NAMES
    # Whatever else a member says still fits beside the longest names.
    assert len(schema.encode(whole)) < schema.MAX_BYTES["member"] - 6_144
    assert parse(whole) == whole


@pytest.mark.parametrize(
    ("workloads", "field"),
    [
        ([{"name": "Web", "host": 2}], "workloads[0].name"),
        ([{"name": "web.db", "host": 2}], "workloads[0].name"),
        ([{"name": "web\n", "host": 2}], "workloads[0].name"),
        ([{"name": "web\n10.1.0.9", "host": 2}], "workloads[0].name"),
        ([{"name": "web 10.1.0.9", "host": 2}], "workloads[0].name"),
        ([{"name": "web\t", "host": 2}], "workloads[0].name"),
        ([{"name": "web#", "host": 2}], "workloads[0].name"),
        ([{"name": "web\x00", "host": 2}], "workloads[0].name"),
        ([{"name": "wéb", "host": 2}], "workloads[0].name"),
        ([{"name": "-web", "host": 2}], "workloads[0].name"),
        ([{"name": "", "host": 2}], "workloads[0].name"),
        ([{"name": "w" * 64, "host": 2}], "workloads[0].name"),
        ([{"name": "web", "host": FIRST_WORKLOAD_HOST - 1}], "workloads[0].host"),
        ([{"name": "web", "host": LAST_WORKLOAD_HOST + 1}], "workloads[0].host"),
        ([{"name": "web", "host": 2}, {"name": "web", "host": 3}], "workloads"),
        ([{"name": "web", "host": 2}, {"name": "db", "host": 2}], "workloads[1].host"),
        ([{"name": "web", "host": 3}, {"name": "db", "host": 2}], "workloads[1].host"),
    ],
)
def test_what_is_no_list_of_workloads_names_the_field(
    workloads: list[dict[str, object]], field: str
) -> None:
    # DNS-001
    said = msgspec.to_builtins(member()) | {"workloads": workloads}
    with pytest.raises(Rejected) as caught:
        parse_document(msgspec.json.encode(said), schema.payload_type("member"))
    assert caught.value.field == field


def test_one_more_than_there_are_addresses_is_refused() -> None:
    # DNS-001
    said = msgspec.to_builtins(member(*every()))
    said["workloads"] = [*said["workloads"], {"name": "one-more", "host": LAST_WORKLOAD_HOST}]
    with pytest.raises(Rejected) as caught:
        parse_document(msgspec.json.encode(said), schema.payload_type("member"))
    assert caught.value.field == "workloads"


@pytest.mark.parametrize("name", ["n1\n", "n1 n2", "n1\n10.1.0.9 n2", "n1.home", "N1", ""])
def test_no_member_has_a_name_that_is_more_than_one(name: str) -> None:
    # DNS-013
    said = msgspec.to_builtins(member()) | {"name": name}
    with pytest.raises(Rejected) as caught:
        parse_document(msgspec.json.encode(said), schema.payload_type("member"))
    assert caught.value.field == "name"
