"""Exits of a farm: commands, farm file and farm document (CLI-071 .. CLI-074)."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import pytest

from overlay.documents import schema
from overlay.documents.exits import MAX_BEACONS, MAX_CONNECTIONS, ExitOffer, Uplink
from overlay.keys import store
from overlay.keys.identity import Identity
from tests.zos_core.cli.conftest import Ran, Zos
from zos_core.cli.exits import Exit
from zos_core.files.farm import farm_document, parse_farm_file

ADDRESS, GATEWAY, BEACON = "192.0.2.2/24", "192.0.2.1", "198.51.100.1"


class Operator:
    """A farm "basement" with one node, "n1", at a registry."""

    def __init__(self, zos: Zos, home: Path, registry: str) -> None:
        self.zos, self.registry = zos, registry
        self.node: Identity = store.generate(store.Kind.NODE)
        self.file = home / "farms" / "basement.toml"
        self.farm = zos("farm", "create", "basement", "--registry", registry).out.strip()
        assert zos("farm", "add-node", "basement", self.node.id, "--as", "n1").code == 0

    def offer(self, *more: str, name: str = "n1", uplink: str = "macvlan:eth0") -> Ran:
        """Offer with what every offer needs; options that may be repeated add to it."""
        needed = ("--uplink", uplink, "--address", ADDRESS, "--gateway", GATEWAY)
        return self.zos("exit", "offer", "basement", name, *needed, "--beacon", BEACON, *more)

    def offers(self) -> tuple[ExitOffer, ...]:
        """What the file says to nodes."""
        return farm_document(parse_farm_file(self.file.read_text()), 99).exits

    def published(self) -> tuple[ExitOffer, ...]:
        """What the registry says to nodes."""
        from zos_core.cli.directory import Directory
        from zos_core.cli.home import Home

        (key,) = Home().open_all(store.Kind.FARM, (self.farm,))
        found = Directory(self.registry, caller=key).fetch(f"farm/{self.farm}", schema.Farm)
        assert found is not None
        return found.exits


@pytest.fixture
def operator(zos: Zos, home: Path, registry: str) -> Operator:
    return Operator(zos, home, registry)


def plain(node: str, **changed: object) -> ExitOffer:
    uplink = Uplink("macvlan", "eth0", (ADDRESS,), (GATEWAY,))
    return ExitOffer(**{"node": node, "uplink": uplink, "beacons": (BEACON,), **changed})  # type: ignore[arg-type]


def test_an_offer_is_in_the_file_and_what_nodes_are_told(operator: Operator) -> None:  # CLI-071
    ran = operator.offer("--json")
    assert ran.code == 0, ran.err
    assert (ran.json["name"], ran.json["version"], ran.json["published"]) == ("basement", 3, True)
    assert operator.published() == operator.offers() == (plain(operator.node.id),)
    # What is as by default is not written.
    table = tomllib.loads(operator.file.read_text())["nodes"]["n1"]["exit"]
    assert list(table) == ["uplink", "addresses", "beacons", "gateways"]


def test_everything_can_be_said_in_both_families(operator: Operator) -> None:  # CLI-071
    ran = operator.offer(
        *("--address", "2001:db8::2/64", "--gateway", "fe80::1", "--beacon", "2001:db8:1::1"),
        *("--resolver", "192.0.2.53", "--resolver", "2001:db8:1::53"),
        *("--refuse", "198.51.100.0/24", "--refuse", "2001:db8:2::/48", "--allow", "10.9.0.0/16"),
        *("--smtp", "--connections", "9", "--connections-per-s", "8", "--rate-mbit", "7"),
        *("--publish", "tcp/8000-8099", "--publish", "udp/53"),
        uplink="vlan:eth0:100",
    )
    assert ran.code == 0, ran.err
    addresses = (ADDRESS, "2001:db8::2/64")
    assert operator.published() == (
        ExitOffer(
            node=operator.node.id,
            uplink=Uplink("vlan", "eth0", addresses, (GATEWAY, "fe80::1"), 100),
            beacons=(BEACON, "2001:db8:1::1"),
            resolvers=("192.0.2.53", "2001:db8:1::53"),
            refuse=("198.51.100.0/24", "2001:db8:2::/48"),
            allow=("10.9.0.0/16",),
            smtp=True,
            connections=9,
            connections_per_s=8,
            rate_mbit=7,
            publish=("tcp/8000-8099", "udp/53"),
        ),
    )


def test_offering_again_replaces_all_of_it(operator: Operator) -> None:  # CLI-071
    operator.offer("--smtp", "--rate-mbit", "7", "--refuse", "198.51.100.0/24")
    # By the node's id as well as by its name.
    assert operator.offer(name=operator.node.id, uplink="bridge:br0").code == 0
    uplink = Uplink("bridge", "br0", (ADDRESS,), (GATEWAY,))
    assert operator.offers() == (plain(operator.node.id, uplink=uplink),)


def test_what_people_wrote_stays(operator: Operator) -> None:  # CLI-001
    operator.offer()
    text = operator.file.read_text()
    operator.file.write_text(
        text.replace("[nodes.n1.exit]", "[nodes.n1.exit] # rack 4") + "# end\n"
    )
    assert operator.offer("--smtp").code == 0
    assert operator.zos("exit", "drain", "basement", "n1", "--for", "10m").code == 0
    assert operator.zos("relay", "offer", "basement", "n1", "--endpoint", "192.0.2.9").code == 0
    another = store.generate(store.Kind.NODE).id
    assert operator.zos("farm", "add-node", "basement", another, "--as", "n2").code == 0
    assert operator.offer(name="n2").code == 0
    written = operator.file.read_text()
    assert "# rack 4" in written
    assert "# end" in written
    assert [offer.node for offer in operator.offers()] == sorted([operator.node.id, another])
    assert {offer.smtp for offer in operator.offers()} == {True, False}
    assert parse_farm_file(written).nodes["n1"].relay == ("192.0.2.9:51819",)


APART = """
[nodes.n1]
node = "{node}"
[nodes.n2]
node = "{other}"
[nodes.n1.exit]
uplink = "bridge:br0"
addresses = ["192.0.2.9/24"]
beacons = ["192.0.2.8"]
"""


@pytest.mark.parametrize(
    "written",
    ['[nodes]\nn1 = {{ node = "{node}" }}\n', 'nodes.n1.node = "{node}"\n', APART],
    ids=["inline", "dotted", "apart"],
)
def test_nodes_may_be_written_in_any_way_of_toml(operator: Operator, written: str) -> None:
    # CLI-071
    head = operator.file.read_text().partition("[nodes")[0]
    other = store.generate(store.Kind.NODE).id
    operator.file.write_text(head + written.format(node=operator.node.id, other=other))
    ran = operator.offer()
    assert ran.code == 0, ran.err
    assert operator.published() == operator.offers() == (plain(operator.node.id),)
    assert operator.zos("exit", "drain", "basement", "n1", "--for", "10m").code == 0
    assert operator.published()[0].draining_until is not None
    assert operator.zos("exit", "withdraw", "basement", "n1").code == 0
    assert operator.published() == ()


def test_an_offer_can_be_taken_back_once(operator: Operator) -> None:  # CLI-071
    operator.offer()
    assert operator.zos("exit", "withdraw", "basement", "n1").code == 0
    assert "exit" not in operator.file.read_text()
    assert operator.published() == ()
    again = operator.zos("exit", "withdraw", "basement", "n1", "--json")
    assert again.code == Exit.USAGE
    assert again.json["error"]["remedy"] == "exits: none"


def test_an_offer_goes_when_the_node_goes(operator: Operator) -> None:  # CLI-071
    operator.offer()
    assert operator.zos("farm", "remove-node", "basement", "n1").code == 0
    assert "exit" not in operator.file.read_text()
    assert operator.published() == ()


def test_without_publishing_only_the_file_changes(operator: Operator) -> None:  # CLI-001
    ran = operator.offer("--no-publish")
    assert ran.code == 0
    assert "zos farm publish basement" in ran.err
    assert operator.published() == ()
    assert operator.zos("farm", "publish", "basement").code == 0
    assert operator.published() == (plain(operator.node.id),)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (("--address", "192.0.2.3"), "nodes.n1.exit.addresses[1]"),
        (("--address", ADDRESS), "nodes.n1.exit.addresses"),
        (("--address", "127.0.0.1/8"), "nodes.n1.exit.addresses[1]"),
        (("--gateway", "192.0.2.3"), "nodes.n1.exit.gateways"),
        (("--gateway", "2001:db8::1"), "nodes.n1.exit.gateways[1]"),
        (("--beacon", "example.org"), "nodes.n1.exit.beacons[1]"),
        (("--beacon", "::1"), "nodes.n1.exit.beacons[1]"),
        (("--resolver", "127.0.0.53"), "nodes.n1.exit.resolvers[0]"),
        (("--refuse", "10.0.0.1/8"), "nodes.n1.exit.refuse[0]"),
        (("--allow", "10.0.0.0/8", "--allow", "10.1.0.0/16"), "nodes.n1.exit.allow"),
        (("--publish", "8080"), "nodes.n1.exit.publish[0]"),
        (("--publish", "tcp/80", "--publish", "tcp/1-99"), "nodes.n1.exit.publish"),
        (("--allow", "10.0.0.0/8", "--refuse", "10.0.0.0/8"), "nodes.n1.exit.allow"),
    ],
)
def test_an_offer_that_nodes_would_refuse_is_refused_and_nothing_is_written(
    operator: Operator, options: tuple[str, ...], field: str
) -> None:  # CLI-072
    before = operator.file.read_text()
    ran = operator.offer(*options, "--json")
    assert ran.code == Exit.USAGE
    assert ran.json["error"]["field"] == field
    assert operator.file.read_text() == before
    assert operator.published() == ()


@pytest.mark.parametrize(
    "uplink",
    [
        "eth0",
        "macvlan:",
        "macvlan:eth0:100",
        "bridge:br0/x",
        "bridge:a-name-of-16-chr",
        "vlan:eth0",
        "vlan:eth0:0",
        "vlan:eth0:4095",
        "vlan:eth0:0100",
        "ipvlan:eth0",
        "macvlan:eth0\n",
        "macvlan:..",
    ],
)
def test_an_uplink_that_is_none_is_told_how_to_be_written(operator: Operator, uplink: str) -> None:
    # CLI-072
    ran = operator.offer("--json", uplink=uplink)
    assert ran.code == Exit.USAGE
    assert ran.json["error"]["field"] == "nodes.n1.exit.uplink"
    assert "vlan:eth0:100" in ran.json["error"]["remedy"]


@pytest.mark.parametrize("number", [1, 4_094])
def test_a_vlan_has_a_number_of_twelve_bits(operator: Operator, number: int) -> None:  # CLI-072
    assert operator.offer(uplink=f"vlan:eth0:{number}").code == 0
    assert operator.offers()[0].uplink.vlan == number


def test_limits_are_those_of_the_document(operator: Operator) -> None:  # CLI-072
    beacons = [f"198.51.100.{n}" for n in range(2, MAX_BEACONS + 1)]
    options = [word for each in beacons for word in ("--beacon", each)]
    limit = str(MAX_CONNECTIONS)
    assert operator.offer(*options, "--connections", limit).code == 0
    too_many = operator.offer(*options, "--beacon", "198.51.100.99", "--json")
    assert too_many.code == Exit.USAGE
    assert too_many.json["error"]["field"] == "nodes[...].exit.beacons"
    assert operator.offer("--connections", str(MAX_CONNECTIONS + 1)).code == Exit.USAGE


@pytest.mark.parametrize(("right", "wrong"), [("beacons", "beacon"), ("smtp", "smpt")])
def test_a_mistyped_key_of_the_file_is_named(operator: Operator, right: str, wrong: str) -> None:
    # CLI-004: one that has to be there, and one that could be missed
    operator.offer("--smtp")
    operator.file.write_text(operator.file.read_text().replace(right, wrong))
    error = operator.zos("farm", "publish", "basement", "--json").json["error"]
    assert error["field"] == f"nodes.n1.exit.{wrong}"
    assert error["remedy"] == f"did you mean {right}?"


def test_an_exit_drains_until_then_and_is_taken_back(operator: Operator) -> None:  # CLI-073
    operator.offer()
    before = datetime.now(UTC).replace(microsecond=0)
    ran = operator.zos("exit", "drain", "basement", "n1", "--for", "10m", "--json")
    after = datetime.now(UTC)
    until = datetime.fromisoformat(ran.json["draining_until"])
    assert before <= until - timedelta(minutes=10) <= after
    (offer,) = operator.published()
    assert offer == plain(operator.node.id, draining_until=int(until.timestamp()))
    # Another address in the meantime does not put it back into use.
    ran = operator.offer("--smtp")
    assert "zos exit drain basement n1 --undo" in ran.err
    assert operator.published() == (
        plain(operator.node.id, smtp=True, draining_until=int(until.timestamp())),
    )
    assert operator.zos("exit", "drain", "basement", "n1", "--undo").code == 0
    assert operator.published() == (plain(operator.node.id, smtp=True),)
    again = operator.zos("exit", "drain", "basement", "n1", "--undo", "--json")
    assert again.code == Exit.USAGE
    assert again.json["error"]["field"] == "nodes.n1.exit.draining_until"


@pytest.mark.parametrize(
    "options", [(), ("--for", "10m", "--undo"), ("--for", "0s"), ("--for", "soon")]
)
def test_draining_needs_one_time(operator: Operator, options: tuple[str, ...]) -> None:  # CLI-073
    operator.offer()
    before = operator.file.read_text()
    assert operator.zos("exit", "drain", "basement", "n1", *options).code == Exit.USAGE
    assert operator.file.read_text() == before


def test_a_node_that_is_no_exit_cannot_drain(operator: Operator) -> None:  # CLI-073
    ran = operator.zos("exit", "drain", "basement", "n1", "--for", "10m")
    assert ran.code == Exit.USAGE
    assert "n1 is not offered" in ran.err
    ran = operator.offer(name="x")
    assert ran.code == Exit.USAGE
    assert "nodes: n1" in ran.err


def test_a_time_without_zone_is_refused(operator: Operator) -> None:  # CLI-073
    operator.offer()
    written = operator.file.read_text()
    line = "draining_until = 2030-01-01T00:00:00"
    operator.file.write_text(f"{written}\n{line}\n")
    error = operator.zos("farm", "publish", "basement", "--json").json["error"]
    assert error["field"] == "nodes.n1.exit.draining_until"
    assert error["remedy"] == "write it with a Z"
    operator.file.write_text(f"{written}\n{line}Z\n")
    assert operator.zos("farm", "publish", "basement").code == 0
    assert operator.published()[0].draining_until == 1_893_456_000


def test_exits_are_listed(operator: Operator) -> None:  # CLI-074
    none = operator.zos("exit", "list", "basement")
    assert (none.code, "offers no exit" in none.out) == (0, True)
    assert operator.zos("exit", "list", "basement", "--json").json["exits"] == []
    operator.offer("--rate-mbit", "7", "--publish", "tcp/8000-8099")
    operator.zos("exit", "drain", "basement", "n1", "--for", "10m")
    shown = operator.zos("exit", "list", "basement").out
    for text in (
        "n1",
        "macvlan:eth0",
        ADDRESS,
        GATEWAY,
        "tcp/8000-8099",
        "until 20",
        operator.node.id,
    ):
        assert text in shown
    (row,) = operator.zos("exit", "list", "basement", "--json").json["exits"]
    assert row["draining_until"].endswith("Z")
    assert (row["uplink"], row["rate_mbit"], row["smtp"]) == ("macvlan:eth0", 7, False)
    past = operator.file.read_text().replace(f"{datetime.now(UTC).year}-", "2021-")
    operator.file.write_text(past)
    assert "out of use" in operator.zos("exit", "list", "basement").out


def test_the_farm_shows_which_nodes_are_exits(operator: Operator) -> None:  # CLI-074
    (row,) = operator.zos("farm", "show", "basement", "--json").json["nodes"]
    assert row["exit"] is None
    operator.offer()
    (row,) = operator.zos("farm", "show", "basement", "--json").json["nodes"]
    assert row["exit"] == "macvlan:eth0"
    assert "macvlan:eth0" in operator.zos("farm", "show", "basement").out


def test_names_of_exits_complete(operator: Operator) -> None:  # CLI-074
    from zos_core.cli.completion import complete_exits
    from zos_core.cli.exit_offer import drain

    another = store.generate(store.Kind.NODE).id
    operator.zos("farm", "add-node", "basement", another, "--as", "n2")
    operator.offer()
    context = click.Context(drain)
    argument = drain.params[1]
    assert complete_exits(context, argument, "n") == []  # of which farm is not known yet
    context.params["farm_name"] = "basement"
    assert complete_exits(context, argument, "n") == ["n1"]
    assert complete_exits(context, argument, "x") == []
