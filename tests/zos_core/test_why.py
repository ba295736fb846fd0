from __future__ import annotations

from typing import Any

import pytest

from overlay.errors import Conflict, Rejected
from tests.zos_core import situation as at
from zos_core.status import PlannedChange, RuleStatus, WayOutStatus, WhyInputs
from zos_core.why import Traffic, Walk, find_party, parse_traffic, walk


def test_nothing_refuses_between_two_healthy_members() -> None:  # CLI-030
    found = ask(at.why_inputs())

    assert found.refusal is None
    assert [step.name for step in found.steps] == [
        "network",
        "policy",
        "membership",
        "membership",
        "peer",
        "endpoint",
        "handshake",
        "firewall",
        "workload",
        "mtu",
    ]
    assert {step.verdict for step in found.steps} == {"ok"}


@pytest.mark.parametrize(
    ("inputs", "name", "evidence"),
    [
        (
            at.why_inputs(network=at.network(state="refused", message="owner says no")),
            "network",
            "owner says no",
        ),
        (at.why_inputs(network=at.network(policy=())), "policy", "none of 0 rules"),
        (at.why_inputs(network=at.network(peers=())), "peer", "no peer b"),
        (
            at.why_inputs(
                network=at.network(peers=(at.peer("b", 2, endpoint=None, candidates=()),))
            ),
            "endpoint",
            "no endpoint",
        ),
        (
            at.why_inputs(
                network=at.network(
                    peers=(at.peer("b", 2, state="connecting", handshake_age_s=None),)
                )
            ),
            "handshake",
            "never",
        ),
        (
            at.why_inputs(
                network=at.network(peers=(at.peer("b", 2, state="silent", handshake_age_s=181),))
            ),
            "handshake",
            "181 s ago",
        ),
        (at.why_inputs(firewall_loaded=False), "firewall", "not loaded"),
        (
            at.why_inputs(drift=(PlannedChange(at.NET, "add route", "missing"),)),
            "kernel",
            "add route",
        ),
        (at.why_inputs(network=at.network(mtu_bytes=1279)), "mtu", "1279"),
    ],
)
def test_first_refusal_is_named_with_evidence(inputs: WhyInputs, name: str, evidence: str) -> None:
    refusal = ask(inputs).refusal

    assert refusal is not None
    assert refusal.name == name
    assert evidence in refusal.evidence


def test_handshake_is_fresh_at_the_bound() -> None:
    inputs = at.why_inputs(network=at.network(peers=(at.peer("b", 2, handshake_age_s=180),)))

    assert ask(inputs).refusal is None


def test_idle_peer_is_unknown_and_not_refused() -> None:
    idle = at.peer("b", 2, state="idle", handshake_age_s=None)
    found = ask(at.why_inputs(network=at.network(peers=(idle,))))

    assert found.refusal is None
    assert verdict(found, "handshake") == "unknown"


def test_member_that_is_refused_is_named_before_its_missing_peer() -> None:
    inputs = at.why_inputs(
        members=(at.member("c", 3, member=False, refusal="index 3 is taken"),),
    )

    refusal = ask(inputs, "a", "c").refusal

    assert refusal is not None
    assert (refusal.name, "index 3 is taken" in refusal.evidence) == ("membership", True)


def test_member_that_never_came_is_told_to_start() -> None:
    inputs = at.why_inputs(members=(at.member("c", 3, member=False),))

    refusal = ask(inputs, "a", "c").refusal

    assert refusal is not None
    assert "has not joined" in refusal.evidence
    assert "start the node c" in refusal.remedy


@pytest.mark.parametrize(
    ("traffic", "target", "allowed"),
    [
        ("tcp/80", "b", True),
        ("tcp/85", "b", True),
        ("tcp/90", "b", True),
        ("tcp/91", "b", False),
        ("tcp", "b", False),  # without a port nobody can say yes
        ("udp/80", "b", False),
        ("any", "b", False),
        ("udp/53", f"{at.V6}:2::9", True),
        ("udp/53", "10.1.2.9", False),
        ("tcp/80", "10.1.2.9", True),
    ],
)
def test_policy_matches_prefix_protocol_and_port(traffic: str, target: str, allowed: bool) -> None:
    rules = (
        RuleStatus(("10.1.1.0/24",), ("10.1.2.0/24",), "tcp", ("80-90",)),
        RuleStatus((f"{at.V6}::/48",), (f"{at.V6}:2::/64",), "udp", ("53",)),
    )
    found = ask(at.why_inputs(network=at.network(policy=rules)), "a", target, traffic)

    assert (verdict(found, "policy") == "ok") is allowed


def test_policy_is_one_way() -> None:
    rules = (RuleStatus(("10.1.1.0/24",), ("10.1.2.0/24",), "any", ()),)
    inputs = at.why_inputs(network=at.network(policy=rules))

    assert ask(inputs, "a", "b").refusal is None
    assert verdict(ask(inputs, "b", "a"), "policy") == "no"


def test_device_is_reached_by_way_of_its_node() -> None:
    laptop = at.member("laptop", 7, kind="access", node=None, via=at.NODES["b"])
    found = ask(at.why_inputs(members=(laptop,)), "a", "laptop")

    assert found.refusal is None
    assert "b may send from" in next(s.evidence for s in found.steps if s.name == "peer")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("web", None),
        ("10.1.1.2", None),
        (f"{at.V6}:1::2", None),
        ("10.1.1.1", None),
        ("10.1.1.9", "workload"),
        (f"{at.V6}:1::9", "workload"),
    ],
)
def test_workload_of_this_node_is_looked_up_by_name_and_address(
    target: str, expected: str | None
) -> None:
    refusal = ask(at.why_inputs(), "b", target).refusal

    assert (refusal.name if refusal is not None else None) == expected


def test_workload_of_another_node_is_unknown_here() -> None:
    assert verdict(ask(at.why_inputs(), "a", "10.1.2.9"), "workload") == "unknown"
    assert verdict(ask(at.why_inputs(), "a", "10.1.2.1"), "workload") == "ok"


def test_two_others_are_not_judged_from_here() -> None:
    inputs = at.why_inputs(members=(at.member("c", 3),))

    found = ask(inputs, "b", "c")

    assert found.refusal is None
    assert found.steps[-1].verdict == "unknown"
    assert "a is neither b nor c" in found.steps[-1].evidence


def test_two_ends_of_one_node_need_no_peer() -> None:
    found = ask(at.why_inputs(network=at.network(peers=())), "web", "a")

    assert found.refusal is None
    assert "bridge" in [step.name for step in found.steps]


def test_name_of_two_is_a_conflict_that_names_both() -> None:
    inputs = at.why_inputs(members=(at.member("b", 9, node=at.NODES["c"]),))

    with pytest.raises(Conflict) as caught:
        find_party(inputs, "b")

    assert at.NODES["b"] in caught.value.message
    assert at.NODES["c"] in caught.value.message
    assert find_party(inputs, at.NODES["c"]).member.index == 9


def test_unknown_name_is_answered_with_the_known() -> None:
    with pytest.raises(Rejected) as caught:
        find_party(at.why_inputs(), "zzz")

    assert caught.value.remedy == "known: a, b"


@pytest.mark.parametrize("address", ["10.2.0.1", "10.1.9.1", "fd99::1"])
def test_address_of_nobody_is_rejected(address: str) -> None:
    with pytest.raises(Rejected, match="nobody"):
        find_party(at.why_inputs(), address)


def test_address_of_an_invited_node_is_that_node() -> None:
    guests = at.member("guests", 3, kind="invitation", node=None, uses=4, member=False)
    guest = at.member("c", 5)

    party = find_party(at.why_inputs(members=(guests, guest)), "10.1.5.1")

    assert party.member.name == "c"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp/443", Traffic("tcp", 443)),
        ("udp/65535", Traffic("udp", 65535)),
        ("tcp", Traffic("tcp")),
        ("icmp", Traffic("icmp")),
        ("any", Traffic()),
    ],
)
def test_traffic_is_protocol_and_port(text: str, expected: Traffic) -> None:
    assert parse_traffic(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize("text", ["tcp/0", "tcp/65536", "icmp/8", "any/1", "sctp/1", "tcp/x", ""])
def test_other_traffic_is_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        parse_traffic(text)


def ask(inputs: WhyInputs, source: str = "a", target: str = "b", traffic: str = "any") -> Walk:
    return walk(inputs, source, target, parse_traffic(traffic))


def verdict(found: Walk, name: str) -> Any:
    return next(step.verdict for step in found.steps if step.name == name)


def outside(way: WayOutStatus | None, **changes: Any) -> WhyInputs:
    return at.why_inputs(network=at.network(way_out=way, **changes))


def test_the_way_to_the_internet_is_walked_to_the_exit_in_use() -> None:  # CLI-031
    found = ask(outside(WayOutStatus("b", 12, "")), "a", "1.1.1.1", "tcp/443")

    assert found.refusal is None
    assert [(step.name, step.verdict) for step in found.steps] == [
        ("network", "ok"),
        ("membership", "ok"),
        ("way out", "ok"),
        ("guard", "ok"),
        ("peer", "ok"),
        ("endpoint", "ok"),
        ("handshake", "ok"),
        ("firewall", "ok"),
        ("mtu", "ok"),
        ("exit", "unknown"),
    ]


def test_what_leaves_here_needs_no_peer() -> None:
    found = ask(outside(WayOutStatus(None, 0, "", is_here=True)), "a", "2606:4700::1111")

    assert found.refusal is None
    assert {"peer", "exit"}.isdisjoint(step.name for step in found.steps)


@pytest.mark.parametrize(
    ("way", "target", "traffic", "name", "evidence"),
    [
        (None, "1.1.1.1", "any", "way out", "names no exit"),
        (
            WayOutStatus(None, 3, "no exit is healthy", ("b",)),
            "1.1.1.1",
            "any",
            "way out",
            "no exit is healthy); not healthy: b",
        ),
        (WayOutStatus("gone", 3, ""), "1.1.1.1", "any", "peer", "no peer gone"),
    ],
)
def test_what_keeps_from_the_internet_is_named(
    way: WayOutStatus | None, target: str, traffic: str, name: str, evidence: str
) -> None:
    refusal = ask(outside(way), "a", target, traffic).refusal

    assert refusal is not None
    assert refusal.name == name
    assert evidence in refusal.evidence


@pytest.mark.parametrize(
    ("target", "traffic"),
    [("1.1.1.1", "tcp/25"), ("169.254.169.254", "any"), ("192.168.1.1", "any"), ("fe80::1", "any")],
)
def test_what_operators_have_to_allow_is_not_judged(target: str, traffic: str) -> None:
    found = ask(outside(WayOutStatus("b", 3, "")), "a", target, traffic)

    assert verdict(found, "guard") == "unknown"
    assert found.refusal is None


def test_another_node_alone_knows_by_which_exit_its_own_leave() -> None:
    found = ask(outside(WayOutStatus("b", 3, "")), "b", "1.1.1.1")

    assert found.steps[-1].name == "way out"
    assert found.steps[-1].verdict == "unknown"


def test_an_address_of_the_network_that_nobody_has_is_no_place_outside() -> None:
    with pytest.raises(Rejected, match="nobody's subnet"):
        ask(at.why_inputs(), "a", "10.1.200.1")
