from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from netlab.nat import NATS, Nat
from netlab.topology import Router
from netlab.wiring.ruleset import reloaded, router_ruleset, router_sysctls

ADDRESS = IPv4Address("198.19.1.1")


def test_router_that_lets_everything_through_needs_no_rules():
    assert router_ruleset(Router("r"), address=ADDRESS) == ""
    assert router_sysctls(Router("r")) == ()
    assert "delete table" in reloaded("")


@pytest.mark.parametrize(
    ("router", "words"),
    [
        (Router("r", nat=NATS["port-restricted"]), {"input", "forward", "snat", "jhash"}),
        (
            Router("r", nat=NATS["full-cone"]),
            {"input", "forward", "snat", "jhash", "dnat", "@mappings"},
        ),
        (
            Router("r", nat=NATS["restricted"]),
            {"input", "forward", "snat", "jhash", "dnat", "@mappings", "@contacted"},
        ),
        (Router("r", nat=NATS["symmetric"]), {"input", "forward", "snat", "jhash"}),
        (Router("r", firewall="stateful"), {"input", "forward"}),
        (Router("r", firewall="block-udp"), {"input", "forward", "l4proto udp drop"}),
    ],
)
def test_ruleset_holds_what_the_router_is_and_no_more(router, words):  # LAB-320
    known = {"input", "forward", "snat", "dnat", "@mappings", "@contacted", "jhash"}
    known.add("l4proto udp drop")
    found = {word for word in known if word in router_ruleset(router, address=ADDRESS)}
    assert found == words


def test_ruleset_translates_nothing_without_an_outer_address():
    assert router_ruleset(Router("r", nat=Nat()), address=None) == ""


def test_sysctls_give_a_mapping_its_time():  # LAB-322
    values = {value for _, value in router_sysctls(Router("r", nat=Nat(udp_timeout_s=7)))}
    assert values == {"7"}
