from __future__ import annotations

from datetime import timedelta

import pytest
from msgspec.structs import replace

from tests.zos_core import situation as at
from tests.zos_core.cli.conftest import FakeNode, Zos
from zos_core.cli.output import rfc3339
from zos_core.cli.status import format_peer_state
from zos_core.status import HealthItem, KeyStatus, NamesStatus, Refusal, Repair

BAD = HealthItem("registry-unreachable", "x", "error", "registry is silent", "check the cable")


def test_status_is_read_at_a_glance(zos: Zos, node: FakeNode) -> None:
    ran = zos("status")

    assert ran.code == 0
    assert ran.out == (
        f"node a  {at.NODES['a']}  WireGuard: wireguard-go\n"
        "registry https://192.0.2.9:8443#registry1x  connected, verified 0 s ago\n"
        "\n"
        f"home  {at.NET}  version 3  up\n"
        "  ADDRESS   IPV6           NAME  STATE\n"
        "  10.1.1.1  fd00:1:2:1::1  a     -\n"
        "  10.1.2.1  fd00:1:2:2::1  b     active; direct 192.0.2.2:51820, tx 120 rx 88\n"
        "  WORKLOAD  ADDRESS   IPV6           NETNS\n"
        "  web       10.1.1.2  fd00:1:2:1::2  /run/netns/web\n"
        "  last change 0 s ago\n"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "active; direct 192.0.2.2:51820, tx 120 rx 88"),
        ({"state": "idle", "handshake_age_s": 300}, "idle, handshake 300 s ago"),
        ({"state": "idle", "handshake_age_s": None}, "idle"),
        ({"state": "connecting"}, "no handshake yet; trying 192.0.2.2:51820"),
        ({"state": "connecting", "endpoint": None}, "no handshake yet; trying no endpoint known"),
        ({"state": "silent", "handshake_age_s": 200}, "silent, handshake 200 s ago, tx 120 rx 88"),
    ],
)
def test_state_of_a_peer_in_words(changes: dict[str, object], text: str) -> None:
    assert format_peer_state(at.peer("b", 2, **changes)) == text


MADE = at.NOW - timedelta(days=2)
KEY = KeyStatus(made_at=MADE, rotates_at=at.NOW + timedelta(days=20), held_back="")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (KEY, ", replaced after {later}"),
        (replace(KEY, rotates_at=None), ", replaced when asked: zos node rotate"),
        (replace(KEY, rotates_at=None, held_back="laptop has it"), ", not replaced: laptop has it"),
        (
            replace(KEY, next_public_key="Zm9vYmFyYmF6", takes_over_at=at.NOW),
            ", Zm9vYmFy takes over at {now}",
        ),
    ],
)
def test_the_age_of_the_key_and_what_is_to_come(  # CLI-064
    key: KeyStatus, text: str, zos: Zos, node: FakeNode
) -> None:
    node.answer = at.node_status(at.network(key=key, public_key="A" * 43 + "="))
    times = {"later": rfc3339(at.NOW + timedelta(days=20)), "now": rfc3339(at.NOW)}
    assert f"  key AAAAAAAA of {rfc3339(MADE)}{text.format(**times)}\n" in zos("status").out


def test_unhealthy_is_exit_code_1_with_the_remedy_last(zos: Zos, node: FakeNode) -> None:
    node.answer = at.node_status(
        at.network(state="waiting", message="the tenant has to act", remedy="ask alice"),
        health=(BAD,),
    )

    ran = zos("status")

    assert ran.code == 1
    assert "  the tenant has to act (ask alice)\n" in ran.out
    assert ran.out.endswith("# Health check:\n#  error: registry is silent (check the cable)\n")


def test_repairs_and_refusals_are_named(zos: Zos, node: FakeNode) -> None:
    repair = Repair(at.NOW - timedelta(seconds=3), at.NET, "add route 10.1.0.0/16", "notification")
    refusal = Refusal("member/net1x/node1y", "no signature", None, None, at.NOW)
    node.answer = replace(node.answer, repairs=(repair,), refusals=(refusal,))

    out = zos("status").out

    assert "#  2026-11-23T18:59:57Z  home  add route 10.1.0.0/16  (notification)\n" in out
    assert "#  member/net1x/node1y  no signature\n" in out


def test_one_network_by_name_or_id(zos: Zos, node: FakeNode) -> None:
    other = at.network(id=at.OTHER_NET, name="office", peers=(), attachments=())
    node.answer = at.node_status(at.network(), other)

    for called in ("office", at.OTHER_NET):
        found = zos("status", called, "--json").json["networks"]
        assert [network["name"] for network in found] == ["office"]
    assert zos("status", "zzz").code == 2


def test_no_network_takes_the_id_of_another_as_its_name(zos: Zos, node: FakeNode) -> None:
    squatter = at.network(id=at.OTHER_NET, name=at.NET, peers=(), attachments=())
    node.answer = at.node_status(squatter, at.network())

    shown = zos("status", at.NET, "--json").json["networks"]

    assert [network["name"] for network in shown] == ["home"]


def test_name_of_two_networks_is_a_conflict(zos: Zos, node: FakeNode) -> None:
    node.answer = at.node_status(at.network(), at.network(id=at.OTHER_NET))

    ran = zos("status", "home")

    assert ran.code == 5
    assert at.NET in ran.err
    assert at.OTHER_NET in ran.err


def test_json_is_the_nodes_own_answer(zos: Zos, node: FakeNode) -> None:
    shown = zos("status", "--json").json

    assert shown["at"] == "2026-11-23T19:00:00Z"  # RFC 3339, CLI-010
    assert shown["networks"][0]["peers"][0]["state"] == "active"
    assert zos("node", "status", "--json").json["node"]["backend"] == "wireguard-go"


def test_node_in_no_network_says_what_to_do(zos: Zos, node: FakeNode) -> None:
    node.answer = at.node_status()

    assert "zos join TOKEN" in zos("status").out


NAMES = NamesStatus("home.zos", "serving", "", "", ("10.1.1.1", "fd00:1:2:1::1"), 5, 0, ())


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (NAMES, "names: 5 in home.zos at 10.1.1.1 fd00:1:2:1::1, others refused: no way out"),
        (
            replace(NAMES, resolvers=("192.0.2.53", "2001:db8::53")),
            "names: 5 in home.zos at 10.1.1.1 fd00:1:2:1::1, others by 192.0.2.53 2001:db8::53",
        ),
        (
            replace(NAMES, state="failed", message="there is no dnsmasq", remedy="install it"),
            "names: failed: there is no dnsmasq (install it)",
        ),
        (replace(NAMES, state="starting"), "names: starting"),
    ],
)
def test_names_in_words(names: NamesStatus, text: str, zos: Zos, node: FakeNode) -> None:
    # DNS-029
    node.answer = at.node_status(at.network(names=names))

    assert f"  {text}\n" in zos("status").out
