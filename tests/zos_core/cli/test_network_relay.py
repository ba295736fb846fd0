"""Relays from offer to name: farm files, network files, and what nodes say (CLI-060 .. CLI-063)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from overlay.documents import envelope as dsse
from overlay.documents import schema
from overlay.documents.fields import MAX_RATE_MBIT
from overlay.documents.relays import Relay, RelayOffer, Seen, Sighting
from overlay.keys import store
from overlay.keys.identity import Identity
from overlay.keys.wireguard import format_key
from tests.zos_core import situation
from tests.zos_core.cli.conftest import FakeNode, Owner, Ran, Zos
from zos_core.cli.exits import Exit
from zos_core.files.farm import farm_document, parse_farm_file
from zos_core.files.network import network_document, parse_network_file
from zos_core.status import NetworkRelayStatus, RelayedNetworkStatus, RelayStatus

V4, V6 = "192.0.2.1:51819", "[2001:db8::1]:51819"


class Operator:
    """A farm with one node, "r", that is offered."""

    def __init__(self, zos: Zos, home: Path, registry: str, node: Identity) -> None:
        self.zos, self.node, self.registry = zos, node, registry
        self.file = home / "farms" / "basement.toml"
        self.farm = zos("farm", "create", "basement", "--registry", registry).out.strip()
        zos("farm", "add-node", "basement", node.id, "--as", "r")

    def offer(
        self,
        *endpoints: str,
        name: str = "r",
        tls_port: int | None = None,
        rate_mbit: int | None = None,
    ) -> Ran:
        options = [word for each in endpoints for word in ("--endpoint", each)]
        options += [] if tls_port is None else ["--tls-port", str(tls_port)]
        options += [] if rate_mbit is None else ["--rate-mbit", str(rate_mbit)]
        return self.zos("relay", "offer", "basement", name, *options)

    def describe(
        self,
        *,
        version: int,
        key: str | None,
        endpoints: tuple[str, ...] = (),
        tls_port: int | None = None,
    ) -> None:
        """What the node does when it sees the offer."""
        said = schema.Node(
            node=self.node.id,
            version=version,
            name="r",
            software="zos/test",
            backend="kernel",
            capacity=schema.Capacity(1, 1, 1),
            farm=self.farm,
            relay_key=key,
            relay_endpoints=endpoints,
            relay_tls_port=tls_port,
        )
        publish(self.registry, said, self.node)


def publish(registry: str, document: schema.Document, signer: Identity) -> None:
    from zos_core.cli.directory import Directory

    kind = schema.payload_type(schema.kind_of(document))
    Directory(registry, caller=signer).publish(dsse.sign(schema.encode(document), kind, signer))


def key_text() -> str:
    return format_key(store.generate_wireguard_key().public_key)


@pytest.fixture
def relay_node() -> Identity:
    return store.generate(store.Kind.NODE)


@pytest.fixture
def operator(zos: Zos, home: Path, registry: str, relay_node: Identity) -> Operator:
    return Operator(zos, home, registry, relay_node)


def test_an_offer_is_in_the_file_and_in_the_document(operator: Operator) -> None:  # CLI-060
    assert operator.offer("192.0.2.1", "2001:db8::1").code == 0
    file = parse_farm_file(operator.file.read_text())
    assert file.nodes["r"].relay == (V4, V6)
    assert farm_document(file, 9).relays == (RelayOffer(operator.node.id, (V4, V6)),)
    assert operator.zos("farm", "show", "basement", "--json").json["version"] == 3
    # Offering again replaces, by the node's id as well as by its name.
    assert operator.offer("192.0.2.7:4000", name=operator.node.id).code == 0
    assert parse_farm_file(operator.file.read_text()).nodes["r"].relay == ("192.0.2.7:4000",)


def test_a_port_for_tls_is_offered_named_and_taken_back(owner: Owner, operator: Operator) -> None:
    # CLI-060, CLI-061, DOC-061
    assert operator.offer("192.0.2.1", tls_port=443).code == 0
    file = parse_farm_file(operator.file.read_text())
    assert farm_document(file, 9).relays == (RelayOffer(operator.node.id, (V4,), 443),)
    key = key_text()
    operator.describe(version=1, key=key, endpoints=(V4,), tls_port=443)
    owner.zos("network", "relay", "add", "home", operator.node.id, "--as", "r1")
    named = Relay("r1", operator.node.id, key, (V4,), 443)
    assert network_document(parse_network_file(owner.file.read_text()), 2).relays == (named,)
    operator.offer("192.0.2.1")
    assert farm_document(parse_farm_file(operator.file.read_text()), 9).relays[0].tls_port is None
    operator.describe(version=2, key=key, endpoints=(V4,))
    assert "relay update home" in owner.zos("network", "relay", "list", "home").out
    assert owner.zos("network", "relay", "update", "home", "--no-publish").code == 0
    assert parse_network_file(owner.file.read_text()).relays["r1"].tls_port is None
    operator.offer("192.0.2.1", tls_port=443)
    operator.zos("relay", "withdraw", "basement", "r")
    assert "tls" not in operator.file.read_text()


def test_a_rate_is_offered_and_taken_back(operator: Operator) -> None:  # CLI-060, REL-038
    offered = operator.offer("192.0.2.1", rate_mbit=MAX_RATE_MBIT)
    assert f"{MAX_RATE_MBIT} Mbit/s for each member" in offered.out
    document = farm_document(parse_farm_file(operator.file.read_text()), 9)
    assert document.relays == (RelayOffer(operator.node.id, (V4,), None, MAX_RATE_MBIT),)
    before = operator.file.read_text()
    assert operator.offer("192.0.2.1", rate_mbit=MAX_RATE_MBIT + 1).code == Exit.USAGE
    assert operator.file.read_text() == before
    operator.offer("192.0.2.1")
    assert "rate" not in operator.file.read_text()
    operator.offer("192.0.2.1", rate_mbit=7)
    operator.zos("relay", "withdraw", "basement", "r")
    assert "rate" not in operator.file.read_text()


@pytest.mark.parametrize("port", [0, 65_536])
def test_a_port_for_tls_is_a_port(operator: Operator, port: int) -> None:  # CLI-060
    before = operator.file.read_text()
    assert operator.offer("192.0.2.1", tls_port=port).code == Exit.USAGE
    assert operator.file.read_text() == before


def test_an_offer_can_be_taken_back_once(operator: Operator) -> None:  # CLI-060
    operator.offer("192.0.2.1")
    assert operator.zos("relay", "withdraw", "basement", "r").code == 0
    assert "relay" not in operator.file.read_text()
    again = operator.zos("relay", "withdraw", "basement", "r")
    assert again.code == Exit.USAGE
    assert "not offered" in again.err


@pytest.mark.parametrize(
    "endpoints",
    [
        ("127.0.0.1",),
        ("example.org",),
        ("192.0.2.1:0",),
        ("192.0.2.1", "192.0.2.2"),
        ("192.0.2.1", "2001:db8::1", "2001:db8::2"),
    ],
)
def test_an_offer_that_nodes_would_refuse_is_refused_and_nothing_is_written(
    operator: Operator, endpoints: tuple[str, ...]
) -> None:  # CLI-001
    before = operator.file.read_text()
    assert operator.offer(*endpoints).code == Exit.USAGE
    assert operator.file.read_text() == before


def test_a_node_that_is_not_in_the_farm_cannot_be_offered(operator: Operator) -> None:
    ran = operator.offer("192.0.2.1", name="x")
    assert ran.code == Exit.USAGE
    assert "nodes: r" in ran.err


def test_a_tenant_names_a_relay_by_what_its_node_says(owner: Owner, operator: Operator) -> None:
    # CLI-061: operator and tenant are strangers to each other
    operator.offer("192.0.2.1", "2001:db8::1")
    key = key_text()
    operator.describe(version=1, key=key, endpoints=(V4, V6))
    added = owner.zos("network", "relay", "add", "home", operator.node.id, "--as", "r1")
    assert added.code == 0, added.err
    document = network_document(parse_network_file(owner.file.read_text()), 2)
    assert document.relays == (Relay("r1", operator.node.id, key, (V4, V6)),)
    (row,) = owner.zos("network", "relay", "list", "home", "--json").json["relays"]
    assert (row["name"], row["hears"], row["trouble"]) == ("r1", 0, "")
    assert "r1" in owner.zos("network", "show", "home").out
    again = owner.zos("network", "relay", "add", "home", operator.node.id, "--as", "r2")
    assert again.code == Exit.CONFLICT


def test_a_node_that_is_not_offered_is_not_named(owner: Owner, operator: Operator) -> None:
    # CLI-061
    before = owner.file.read_text()
    for key in (None, key_text()):  # the second: it says so itself, but its farm does not
        endpoints = (V4,) if key else ()
        operator.describe(version=1 if key is None else 2, key=key, endpoints=endpoints)
        ran = owner.zos("network", "relay", "add", "home", operator.node.id)
        assert ran.code == Exit.UNAVAILABLE
        assert "zos relay offer" in ran.err
    assert owner.file.read_text() == before


def test_what_changed_at_a_relay_is_said_and_taken_over(owner: Owner, operator: Operator) -> None:
    # CLI-062
    operator.offer("192.0.2.1")
    operator.describe(version=1, key=key_text(), endpoints=(V4,))
    owner.zos("network", "relay", "add", "home", operator.node.id, "--as", "r1")
    new = key_text()
    operator.describe(version=2, key=new, endpoints=(V4,))
    assert "zos network relay update home" in owner.zos("network", "relay", "list", "home").out
    updated = owner.zos("network", "relay", "update", "home", "--json").json
    assert updated["changed"] == ["r1"]
    assert parse_network_file(owner.file.read_text()).relays["r1"].public_key == new
    assert owner.zos("network", "relay", "update", "home", "--json").json["changed"] == []
    operator.zos("relay", "withdraw", "basement", "r")
    assert "not offered" in owner.zos("network", "relay", "list", "home").out


def test_the_owner_sees_how_many_a_relay_hears(owner: Owner, operator: Operator) -> None:
    operator.offer("192.0.2.1")
    operator.describe(version=1, key=key_text(), endpoints=(V4,))
    owner.zos("network", "relay", "add", "home", operator.node.id, "--as", "r1")
    seen = tuple(Seen(key_text(), f"192.0.2.9:{port}") for port in (1, 2))
    publish(owner.registry, Sighting(owner.network, operator.node.id, 1, seen), operator.node)
    (row,) = owner.zos("network", "relay", "list", "home", "--json").json["relays"]
    assert row["hears"] == 2


def test_a_relay_is_removed_by_name_or_id(owner: Owner, operator: Operator) -> None:
    operator.offer("192.0.2.1")
    operator.describe(version=1, key=key_text(), endpoints=(V4,))
    for name in ("r1", operator.node.id):
        owner.zos("network", "relay", "add", "home", operator.node.id, "--as", "r1")
        assert owner.zos("network", "relay", "remove", "home", name).code == 0
        assert parse_network_file(owner.file.read_text()).relays == {}
    assert owner.zos("network", "relay", "remove", "home", "r1").code == Exit.USAGE


def test_relays_stay_in_the_order_of_the_file(owner: Owner) -> None:  # DOC-062
    nodes = [store.generate(store.Kind.NODE).id for _ in range(2)]
    owner.file.write_text(
        owner.file.read_text()
        + "".join(
            f'\n[relays.{name}]  # kept\nnode = "{node}"\npublic_key = "{key_text()}"\n'
            f'endpoints = ["192.0.2.{n}:51819"]\n'
            for n, (name, node) in enumerate(zip(("z", "a"), nodes, strict=True), 1)
        )
    )
    diff = owner.zos("network", "diff", "home").out
    assert "+ relays z" in diff
    assert "register with a" in owner.zos("network", "plan", "home").out
    assert owner.zos("network", "publish", "home").code == 0
    shown = owner.zos("network", "show", "home", "--json").json
    assert [relay["name"] for relay in shown["relays"]] == ["z", "a"]
    owner.zos("network", "relay", "remove", "home", "z")
    assert "# kept" in owner.file.read_text()


def test_names_of_relays_complete(owner: Owner, operator: Operator) -> None:
    from zos_core.cli.completion import complete_relays

    operator.offer("192.0.2.1")
    operator.describe(version=1, key=key_text(), endpoints=(V4,))
    owner.zos("network", "relay", "add", "home", operator.node.id, "--as", "r1")
    assert complete_relays(None, None, "r") == ["r1"]  # type: ignore[arg-type]
    assert complete_relays(None, None, "x") == []  # type: ignore[arg-type]


SERVING = RelayStatus(
    state="serving",
    message="",
    remedy="",
    public_key="A" * 43 + "=",
    endpoints=(V4, V6),
    registered=2,
    sessions=1,
    forwarded_bytes=4096,
    unsent=0,
    packets={"forwarded": 9, "answered": 2, "no-member": 3},
    networks=(
        RelayedNetworkStatus(situation.NET, "home", ("tenant1x",), 3, 2, 2, "", ""),
        RelayedNetworkStatus(
            situation.OTHER_NET, "old", ("tenant1x",), 1, 0, 0, "it names another key", "update it"
        ),
    ),
)


def test_status_shows_the_role_of_a_relay(zos: Zos, node: FakeNode) -> None:  # CLI-063
    node.answer = msgspec.structs.replace(node.answer, relay=SERVING)
    shown = zos("relay", "status")
    assert shown.code == 0
    for text in (V4, "serving", "2 members registered", "3 no-member", "2 of 2", "another key"):
        assert text in shown.out
    assert "9 forwarded" not in shown.out
    assert "TLS" not in shown.out


def test_status_shows_the_connections_of_a_relay(zos: Zos, node: FakeNode) -> None:
    # CLI-063, REL-056
    tls = {"tls_port": 443, "connections": 2, "refused_connections": {"origin-full": 5}}
    there = msgspec.structs.replace(SERVING, **tls)
    node.answer = msgspec.structs.replace(node.answer, relay=there)
    shown = zos("relay", "status").out
    assert "TLS on TCP port 443: 2 connections" in shown
    assert "5 origin-full" in shown
    there = msgspec.structs.replace(there, tls_message="cannot listen on 0.0.0.0:443")
    node.answer = msgspec.structs.replace(node.answer, relay=there)
    assert "cannot listen on 0.0.0.0:443" in zos("relay", "status").out
    assert zos("relay", "status", "--json").json["relay"]["registered"] == 2
    assert "serving" in zos("status").out


def test_a_relay_that_does_not_run_is_not_healthy(zos: Zos, node: FakeNode) -> None:  # CLI-063
    failed = msgspec.structs.replace(
        SERVING, state="failed", message="cannot listen", remedy="choose another port", networks=()
    )
    node.answer = msgspec.structs.replace(node.answer, relay=failed)
    shown = zos("relay", "status")
    assert shown.code == Exit.NOT_HEALTHY
    assert "choose another port" in shown.out


def test_a_node_that_is_no_relay_says_who_can_change_that(zos: Zos, node: FakeNode) -> None:
    # CLI-063
    ran = zos("relay", "status")
    assert ran.code == Exit.NOT_HEALTHY
    assert "zos relay offer" in ran.err
    assert zos("relay", "status", "--json").json["relay"] is None


def test_status_shows_by_way_of_whom_a_network_is_reached(zos: Zos, node: FakeNode) -> None:
    # CLI-063
    relays = (
        NetworkRelayStatus("r1", situation.NODES["c"], "A" * 44, (V4,), "203.0.113.5:40000"),
        NetworkRelayStatus("r2", situation.NODES["b"], "A" * 44, (V6,), None),
    )
    node.answer = situation.node_status(situation.network(relays=relays))
    shown = zos("status").out
    assert f"relay r1 at {V4}, hears us at 203.0.113.5:40000" in shown
    assert f"relay r2 at {V6}, does not hear us" in shown
