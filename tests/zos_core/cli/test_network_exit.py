"""The ways to the internet that a tenant chooses (CLI-070)."""

from __future__ import annotations

import pytest

from overlay.documents.exits import MAX_EXITS
from overlay.documents.exits import Exit as NamedExit
from tests.zos_core import situation
from tests.zos_core.cli.conftest import N1, N2, FakeNode, Owner, Zos
from zos_core.cli.exits import Exit
from zos_core.files.network import network_document, parse_network_file
from zos_core.status import WayOutStatus


def exits_of(owner: Owner) -> tuple[NamedExit, ...]:
    return network_document(parse_network_file(owner.file.read_text()), 9).exits


@pytest.fixture
def home_network(owner: Owner) -> Owner:
    owner.add("n1", N1)
    owner.add("n2", N2)
    return owner


def test_exits_are_in_the_file_and_in_the_document(home_network: Owner, zos: Zos) -> None:
    made = zos("network", "exit", "set", "home", "n2", "n1", "--json").json
    assert (made["exits"], made["published"]) == ({"n2": 0, "n1": 1}, True)
    assert set(exits_of(home_network)) == {NamedExit(N2.id, 0), NamedExit(N1.id, 1)}
    zos("network", "exit", "set", "home", "n1,n2")
    assert set(exits_of(home_network)) == {NamedExit(N1.id, 0), NamedExit(N2.id, 0)}
    assert zos("network", "exit", "clear", "home").code == 0
    assert exits_of(home_network) == ()
    assert "exits" not in home_network.file.read_text()


def test_each_node_may_be_its_own_exit(home_network: Owner, zos: Zos) -> None:
    # EXIT-066
    made = zos("network", "exit", "set", "home", "--local", "--json").json
    assert (made["exits"], made["local"]) == ({}, True)
    document = network_document(parse_network_file(home_network.file.read_text()), 9)
    assert (document.exits, document.local_exits) == ((), True)
    assert zos("network", "exit", "show", "home", "--json").json["local"] is True
    zos("network", "exit", "set", "home", "n1")
    assert "local_exits" not in home_network.file.read_text()
    refused = zos("network", "exit", "set", "home")
    assert refused.code == 2
    assert "--local" in refused.err


def test_exits_are_shown_with_whether_they_are_ready(home_network: Owner, zos: Zos) -> None:
    zos("network", "exit", "set", "home", "n1")
    shown = zos("network", "exit", "show", "home", "--json").json
    assert [(e["name"], e["order"], e["ready"]) for e in shown["exits"]] == [("n1", 0, False)]
    assert "not offered" in zos("network", "exit", "show", "home").out
    zos("network", "exit", "clear", "home")
    assert "zos network exit set home" in zos("network", "exit", "show", "home").err


def test_who_is_no_member_is_no_exit_and_nothing_is_written(home_network: Owner, zos: Zos) -> None:
    before = home_network.file.read_text()
    ran = zos("network", "exit", "set", "home", "n1", "n9")
    assert ran.code == Exit.USAGE
    assert "members are n1, n2" in ran.err
    assert zos("network", "exit", "set", "home", "n1", "n1").code == Exit.USAGE
    many = [f"m{n}" for n in range(MAX_EXITS + 1)]
    assert "between 1 and 16" in zos("network", "exit", "set", "home", *many).err
    assert home_network.file.read_text() == before


def test_a_member_that_is_removed_is_no_exit_any_more(home_network: Owner, zos: Zos) -> None:
    zos("network", "exit", "set", "home", "n1", "n2")
    assert zos("network", "remove-node", "home", "n1").code == 0
    assert exits_of(home_network) == (NamedExit(N2.id, 1),)


def test_status_names_the_way_out(node: FakeNode, zos: Zos) -> None:
    way = WayOutStatus("n1", 12, "the one before failed", ("n2",))
    node.answer = situation.node_status(situation.network(way_out=way))
    shown = zos("status").out
    assert "way out: n1 for 12 s: the one before failed; failed within a minute: n2" in shown


def test_status_names_the_exit_that_drains(node: FakeNode, zos: Zos) -> None:  # EXIT-057
    way = WayOutStatus("n1", 12, "the one before drains", draining="n2")
    node.answer = situation.node_status(situation.network(way_out=way))
    assert "way out: n1 for 12 s: the one before drains; what began at n2 goes on there" in (
        zos("status").out
    )
