"""What a tenant publishes at exits (CLI-076, CLI-077), and what the exit says of it (CLI-075)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from overlay.documents import schema
from overlay.documents.exits import ExitService
from overlay.documents.published import MAX_PUBLISHED, REASONS, Published, PublishedState
from tests.zos_core import situation
from tests.zos_core.cli.conftest import N1, N2, FakeNode, Owner, Zos
from zos_core.cli.exits import Exit
from zos_core.files.network import network_document, parse_network_file
from zos_core.status import ExitStatus, PublishedStatus


def published(owner: Owner) -> tuple[Published, ...]:
    return network_document(parse_network_file(owner.file.read_text()), 9).published


@pytest.fixture
def home_network(owner: Owner, zos: Zos) -> Owner:
    """Of the nodes n1 and n2, both exits."""
    owner.add("n1", N1)
    owner.add("n2", N2)
    assert zos("network", "exit", "set", "home", "n1", "n2").code == 0
    return owner


def test_a_port_is_published_at_every_exit(home_network: Owner, zos: Zos) -> None:
    ran = zos("network", "service", "add", "home", "tcp/8080", "web.n2:80", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["published"] is True
    assert ran.json["services"] == [
        {"port": "tcp/8080", "exit": name, "to": "web.n2:80"} for name in ("n1", "n2")
    ]
    assert set(published(home_network)) == {
        Published(node.id, "tcp", 8080, N2.id, "web", 80) for node in (N1, N2)
    }


def test_a_port_is_the_workloads_own_unless_another_is_given(home_network: Owner, zos: Zos) -> None:
    assert zos("network", "service", "add", "home", "udp/53", "dns.n1", "--exit", "n2").code == 0
    assert published(home_network) == (Published(N2.id, "udp", 53, N1.id, "dns", 53),)


def test_what_people_wrote_stays(home_network: Owner, zos: Zos) -> None:  # CLI-001
    zos("network", "service", "add", "home", "tcp/8080", "web.n2:80", "--exit", "n1")
    text = home_network.file.read_text()
    home_network.file.write_text(text.replace("[[published]]", "# the shop\n[[published]]"))
    zos("network", "service", "add", "home", "tcp/8081", "db.n2")
    zos("network", "service", "remove", "home", "tcp/8081", "--exit", "n2")
    assert "# the shop" in home_network.file.read_text()
    assert [(p.exit, p.port) for p in published(home_network)] == [(N1.id, 8080), (N1.id, 8081)]


def test_a_port_is_taken_back_where_it_is(home_network: Owner, zos: Zos) -> None:
    zos("network", "service", "add", "home", "tcp/8080", "web.n2:80")
    assert zos("network", "service", "remove", "home", "tcp/8080", "--exit", "n1").code == 0
    assert [p.exit for p in published(home_network)] == [N2.id]
    ran = zos("network", "service", "remove", "home", "tcp/8080", "--exit", "n1", "--json")
    assert ran.code == Exit.USAGE
    assert ran.json["error"]["remedy"] == "published: tcp/8080 at n2"
    assert zos("network", "service", "remove", "home", "tcp/8080").code == 0
    assert published(home_network) == ()
    assert "published" not in home_network.file.read_text()
    ran = zos("network", "service", "remove", "home", "tcp/8080")
    assert (ran.code, "published: nothing" in ran.err) == (Exit.USAGE, True)


def test_a_port_leads_to_one_workload(home_network: Owner, zos: Zos) -> None:
    zos("network", "service", "add", "home", "tcp/8080", "web.n2:80", "--exit", "n1")
    before = home_network.file.read_text()
    ran = zos("network", "service", "add", "home", "tcp/8080", "db.n2:80")
    assert ran.code == Exit.CONFLICT
    assert "leads to web.n2:80 already" in ran.err
    assert home_network.file.read_text() == before


@pytest.mark.parametrize(
    ("port", "to", "field"),
    [
        ("8080", "web.n2:80", "published[0].port"),
        ("icmp/8", "web.n2:80", "published[0].port"),
        ("tcp/0", "web.n2:80", "published[0].port"),
        ("tcp/8000-8001", "web.n2:80", "published[0].port"),
        ("tcp/8080", "web", "published[0].to"),
        ("tcp/8080", "web.n2:0", "published[0].to"),
        ("tcp/8080", "web.n2:65536", "published[0].to"),
        ("tcp/8080", "Web.n2:80", "published[0].to"),
        ("tcp/8080", "web.n2:80\n", "published[0].to"),
        ("tcp/8080", "web.n3:80", "published[0].to"),
        ("tcp/8080", "10.1.2.2:80", "published[0].to"),
    ],
)
def test_what_nodes_would_refuse_is_refused_and_nothing_is_written(
    home_network: Owner, zos: Zos, port: str, to: str, field: str
) -> None:
    before = home_network.file.read_text()
    ran = zos("network", "service", "add", "home", port, to, "--json")
    assert ran.code == Exit.USAGE
    assert ran.json["error"]["field"] == field
    assert home_network.file.read_text() == before


def test_who_is_no_exit_publishes_nothing(home_network: Owner, zos: Zos) -> None:
    zos("network", "exit", "set", "home", "n1")
    ran = zos("network", "service", "add", "home", "tcp/8080", "web.n2", "--exit", "n2", "--json")
    assert ran.code == Exit.USAGE
    assert ran.json["error"]["field"] == "published[0].exit"
    zos("network", "service", "add", "home", "tcp/8080", "web.n2")
    # Nor is an exit given up under a port that is published there.
    ran = zos("network", "exit", "clear", "home", "--json")
    assert ran.code == Exit.USAGE
    assert "zos network service remove home tcp/8080" in ran.json["error"]["remedy"]
    zos("network", "service", "remove", "home", "tcp/8080")
    assert zos("network", "exit", "clear", "home").code == 0
    ran = zos("network", "service", "add", "home", "tcp/8080", "web.n2")
    assert (ran.code, "zos network exit set home" in ran.err) == (Exit.USAGE, True)


def test_a_member_that_is_removed_publishes_nothing(home_network: Owner, zos: Zos) -> None:
    zos("network", "service", "add", "home", "tcp/8080", "web.n2", "--exit", "n1")
    zos("network", "service", "add", "home", "tcp/8081", "web.n1", "--exit", "n2")
    zos("network", "service", "add", "home", "tcp/8082", "web.n1", "--exit", "n1")
    assert zos("network", "remove-node", "home", "n2").code == 0
    assert [p.port for p in published(home_network)] == [8082]


def test_a_network_publishes_so_many_ports_at_most(home_network: Owner, zos: Zos) -> None:
    # PUB-002
    text = home_network.file.read_text()
    entry = '\n[[published]]\nport = "tcp/{}"\nexit = "n1"\nto = "web.n2:80"\n'
    home_network.file.write_text(
        text + "".join(entry.format(8000 + n) for n in range(MAX_PUBLISHED - 1))
    )
    assert zos("network", "service", "add", "home", "udp/1", "dns.n1", "--exit", "n1").code == 0
    ran = zos("network", "service", "add", "home", "udp/2", "dns.n1", "--exit", "n1", "--json")
    assert ran.code == Exit.USAGE
    assert ran.json["error"]["field"] == "published"


def test_a_list_says_where_it_is_reached_or_why_not(home_network: Owner, zos: Zos) -> None:
    none = zos("network", "service", "list", "home")
    assert "zos network service add home" in none.err
    for port in ("tcp/8080", "tcp/8081", "udp/53"):
        zos("network", "service", "add", "home", port, "web.n2:80", "--exit", "n1")
    rows = zos("network", "service", "list", "home", "--json").json["published"]
    assert [(r["port"], r["state"], r["endpoints"]) for r in rows] == [
        (8080, "no-exit", []),
        (8081, "no-exit", []),
        (53, "no-exit", []),
    ]
    said = (PublishedState("tcp", 8080, "open"), PublishedState("tcp", 8081, "taken"))
    service = ExitService(
        ("198.51.100.1",), (4, 6), addresses=("192.0.2.2", "2001:db8::2"), published=said
    )
    home_network.publish_member(N1, index=1, name="n1", endpoint="192.0.2.1:1", exit_=service)
    rows = zos("network", "service", "list", "home", "--json").json["published"]
    assert [(r["port"], r["state"], r["reason"], r["endpoints"]) for r in rows[:2]] == [
        (8080, "open", "", ["192.0.2.2:8080", "[2001:db8::2]:8080"]),
        (8081, "taken", REASONS["taken"], []),
    ]
    assert (rows[2]["state"], rows[2]["member"], rows[2]["target"]) == ("pending", "n2", 80)
    shown = zos("network", "service", "list", "home").out
    assert "192.0.2.2:8080, [2001:db8::2]:8080" in shown
    assert f"taken: {REASONS['taken']}" in shown


def test_the_exit_shows_who_holds_what(node: FakeNode, zos: Zos) -> None:  # CLI-075
    held = (
        PublishedStatus("net1a", "home", "tcp", 8080, "web.n1:80", "open", ""),
        PublishedStatus("net1b", "shop", "tcp", 8080, "till.e1:80", "taken", REASONS["taken"]),
    )
    whole = situation.node_status(situation.network())
    exit_ = ExitStatus("serving", "", "", ("net1a", "net1b"), None, ("tcp/8000-8099",), held)
    node.answer = msgspec.structs.replace(whole, exit=exit_)
    shown = zos("status").out
    assert "tcp/8080  home     web.n1:80" in shown
    assert f"taken: {REASONS['taken']}" in shown


def test_the_file_reads_as_its_schema_says(home_network: Owner, home: Path) -> None:
    entry = '\n[[published]]\nport = "tcp/80"\nexit = "n1"\nto = "web.n2"\n'
    text = home_network.file.read_text() + entry
    document = network_document(parse_network_file(text), 1)
    assert schema.parse_document(schema.encode(document), schema.payload_type("network"))
