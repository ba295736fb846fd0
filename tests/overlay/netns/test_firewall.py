"""Properties of the ruleset as data; what it does to packets is tried in tests/kernel."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.addressing import address_of, subnet_v4, subnet_v6
from overlay.model import AllowRule, NetworkResource, Prefix
from overlay.netns.firewall import REFUSALS, ruleset
from overlay.netns.resource import workload_attachment
from overlay.netns.state import Attachment
from tests.convergence import RANGE_V4, RANGE_V6, network_resource

HERE = (subnet_v4(RANGE_V4, 3), subnet_v6(RANGE_V6, 3))
ELSEWHERE = (subnet_v4(RANGE_V4, 8), subnet_v6(RANGE_V6, 8))
DEVICE = (subnet_v4(RANGE_V4, 9), subnet_v6(RANGE_V6, 9))


def commands(
    nr: NetworkResource,
    attachments: tuple[Attachment, ...] = (),
    devices: tuple[Prefix, ...] = (),
    **more: Any,
) -> list[dict[str, Any]]:
    text = ruleset(nr, attachments=attachments, devices=devices, **more)
    added: list[dict[str, Any]] = [cmd["add"] for cmd in msgspec.json.decode(text)["nftables"]]
    return added


def rules_of(found: list[dict[str, Any]], chain: str) -> list[Any]:
    return [cmd["rule"]["expr"] for cmd in found if cmd.get("rule", {}).get("chain") == chain]


def with_policy(*rules: AllowRule) -> NetworkResource:
    return network_resource(policy=rules)


def attached(*hosts: int) -> tuple[Attachment, ...]:
    nr = network_resource()
    return tuple(
        workload_attachment(nr, name=f"w{host}", netns="/run/w", link="eth0", host=host)
        for host in hosts
    )


def test_every_hook_that_forwards_or_delivers_drops_by_default() -> None:  # NET-070
    chains = [cmd["chain"] for cmd in commands(network_resource()) if "chain" in cmd]
    policies = {(c["family"], c["hook"]): c["policy"] for c in chains if "hook" in c}
    assert policies == {
        ("inet", "forward"): "drop",
        ("inet", "input"): "drop",
        ("bridge", "prerouting"): "drop",
        ("bridge", "input"): "accept",  # what is left after prerouting
    }


def test_an_empty_policy_allows_nothing() -> None:  # NET-071
    (only,) = rules_of(commands(with_policy()), "by_policy")
    assert only == [{"counter": "refused_policy"}, {"drop": None}]


def test_a_rule_for_others_makes_no_rule_here() -> None:  # NET-071
    found = commands(with_policy(AllowRule(HERE, ELSEWHERE)))
    assert len(rules_of(found, "by_policy")) == 1


def test_a_rule_for_a_wider_prefix_is_a_rule_here() -> None:  # NET-071
    found = commands(with_policy(AllowRule(ELSEWHERE, (RANGE_V4, RANGE_V6))))
    assert len(rules_of(found, "by_policy")) == 3


def test_a_rule_for_a_device_behind_this_node_is_a_rule_here() -> None:  # NET-074
    nr = with_policy(AllowRule(ELSEWHERE, DEVICE, "tcp", ((22, 22),)))
    assert len(rules_of(commands(nr, devices=DEVICE), "by_policy")) == 3
    assert len(rules_of(commands(nr), "by_policy")) == 1


def test_without_devices_nothing_goes_from_wireguard_to_wireguard() -> None:  # NET-074
    (only,) = rules_of(commands(network_resource()), "overlay_transit")
    assert only == [{"counter": "refused_forward"}, {"drop": None}]


def test_questions_come_from_inside_and_go_to_the_gateway() -> None:  # DNS-024
    nr = network_resource()
    asked = [
        rule
        for rule in rules_of(commands(nr), "input")
        if any(part.get("match", {}).get("right") == 53 for part in rule)
    ]
    assert len(asked) == 8  # two links, two families, two transports
    for rule in asked:
        matched = [part["match"]["right"] for part in rule if "match" in part]
        assert matched[0] in ("br0", "wg0")
        assert address_of(nr.gateway_v4) in matched or address_of(nr.gateway_v6) in matched


def test_every_refusal_is_counted_and_has_words_for_people() -> None:  # NET-078
    found = commands(network_resource(), attached(2), has_exits=True, draining=3)
    counters = {cmd["counter"]["name"] for cmd in found if "counter" in cmd}
    used = {
        statement["counter"]
        for cmd in found
        if "rule" in cmd
        for statement in cmd["rule"]["expr"]
        if "counter" in statement
    }
    assert counters == used == REFUSALS.keys()


@given(count=st.integers(1, 200))
def test_rules_do_not_grow_with_the_members_of_a_policy(count: int) -> None:  # NET-079
    sources = tuple(sorted(subnet_v4(RANGE_V4, 20 + n) for n in range(count)))
    found = commands(with_policy(AllowRule(sources, HERE, "tcp", ((80, 80),))))
    assert len(rules_of(found, "by_policy")) == 2


def test_the_path_of_a_frame_does_not_grow_with_the_ports() -> None:  # NET-079
    few, many = (
        commands(network_resource(), attached(*hosts)) for hosts in ((2,), tuple(range(2, 255)))
    )
    for chain in ("from_port", "ipv4", "ipv6", "icmpv6", "udp", "neighbour", "target_p-2"):
        assert len(rules_of(few, chain)) == len(rules_of(many, chain))


def test_the_ruleset_does_not_depend_on_the_order_of_its_input() -> None:  # NET-050
    nr = network_resource()
    forwards, backwards = attached(2, 3, 254), attached(254, 3, 2)
    assert ruleset(nr, attachments=forwards, devices=DEVICE) == ruleset(
        nr, attachments=backwards, devices=DEVICE[::-1]
    )


def test_without_exits_nothing_leaves_the_network() -> None:  # EXIT-051
    nr = network_resource()
    for has_exits, way_out in ((False, 0), (True, 0), (True, 7)):
        text = ruleset(nr, attachments=(), devices=DEVICE, has_exits=has_exits, way_out=way_out)
        found = [cmd["add"] for cmd in msgspec.json.decode(text)["nftables"]]
        is_led = bool(way_out)  # a packet that went nowhere would be a flow with a wrong source
        assert ([{"accept": None}] in rules_of(found, "workload_out")) == is_led
        # A device of this node may leave by a peer; a peer's workload not by way of this node.
        outward = [rule for rule in rules_of(found, "overlay_transit") if _is_outward(rule)]
        assert bool(outward) == is_led
        assert [{"accept": None}] not in rules_of(found, "overlay_transit")


@pytest.mark.parametrize("serves_members", [False, True])
def test_an_exit_for_itself_lets_out_what_is_on_it_and_nobody_else(serves_members) -> None:
    # EXIT-066
    nr = network_resource()
    text = ruleset(nr, attachments=(), devices=DEVICE, is_exit=True, serves_members=serves_members)
    found = [cmd["add"] for cmd in msgspec.json.decode(text)["nftables"]]
    accepted = str([rule for rule in rules_of(found, "way_out") if rule[-1] == {"accept": None}])
    for own, whole in ((nr.subnet_v4, nr.range_v4), (nr.subnet_v6, nr.range_v6)):
        assert (str(_prefix(whole)) in accepted) == serves_members
        assert (str(_prefix(own)) in accepted) != serves_members
    assert all((str(_prefix(each)) in accepted) != serves_members for each in DEVICE)


def _prefix(text: str) -> dict[str, Any]:
    address, _, length = text.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


def _is_outward(rule: list[Any]) -> bool:
    return any(part.get("match", {}).get("op") == "!=" for part in rule)


def test_flows_that_leave_the_network_are_marked_and_answers_are_not_led_by_marks() -> None:
    # EXIT-060
    def marking(way_out: int) -> list[Any]:
        text = ruleset(
            network_resource(), attachments=(), devices=(), has_exits=True, way_out=way_out
        )
        found = [cmd["add"] for cmd in msgspec.json.decode(text)["nftables"]]
        return rules_of(found, "mark_flows")

    *marks, led = marking(7)
    assert [rule[-1] for rule in marks] == [
        {"mangle": {"key": {"ct": {"key": "mark"}}, "value": 7}}
    ] * 2
    assert {"match": {"op": "==", "left": {"ct": {"key": "direction"}}, "right": "original"}} in led
    assert marking(0) == [led]  # nobody is elected: what begins now has no mark
    assert rules_of(commands(network_resource()), "mark_flows") == []


def test_an_access_device_leaves_by_either_device_where_there_are_exits() -> None:
    # EXIT-060, NET-074
    def ways(*, has_exits: bool) -> dict[tuple[str, str], str]:
        text = ruleset(network_resource(), attachments=(), devices=DEVICE, has_exits=has_exits)
        found = [cmd["add"] for cmd in msgspec.json.decode(text)["nftables"]]
        (pairs,) = (
            statement["vmap"]["data"]["set"]
            for rule in rules_of(found, "forward")
            for statement in rule
            if "vmap" in statement
        )
        return {tuple(key["concat"]): verdict["goto"]["target"] for key, verdict in pairs}

    assert not any("wg1" in way for way in ways(has_exits=False))
    with_both = ways(has_exits=True)
    for one in ("wg0", "wg1"):
        assert with_both[one, "br0"] == "overlay_in"
        assert with_both["br0", one] == "workload_out"
        assert {with_both[one, other] for other in ("wg0", "wg1")} == {"overlay_transit"}


def test_what_began_at_an_exit_that_drains_never_leaves_by_the_next() -> None:  # EXIT-060
    def refused(draining: int) -> list[Any]:
        text = ruleset(
            network_resource(),
            attachments=(),
            devices=(),
            has_exits=True,
            way_out=7,
            draining=draining,
        )
        found = [cmd["add"] for cmd in msgspec.json.decode(text)["nftables"]]
        return [r for r in rules_of(found, "forward") if {"counter": "refused_drain"} in r]

    assert refused(0) == []
    ((link, *_, mark, _counted, _dropped),) = refused(3)
    assert link == {"match": {"op": "==", "left": {"meta": {"key": "oifname"}}, "right": "wg0"}}
    assert mark == {"match": {"op": "==", "left": {"ct": {"key": "mark"}}, "right": 3}}
