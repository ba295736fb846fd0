from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from netlab.files.reading import lint_lab, parse_lab
from netlab.files.writing import format_lab
from netlab.impairment import Both, Impairment
from netlab.topology import Lan, Link, Node, Topology
from tests.netlab.files.topologies import topologies


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(topologies().filter(lambda made: made.nodes or made.routers or made.lans))
def test_any_topology_is_read_as_it_was_written(topology):  # LAB-281
    text = format_lab(topology)

    assert lint_lab(text) == []
    assert parse_lab(text) == topology


def test_what_is_as_by_default_is_not_written():
    assert format_lab(Topology((Node("a"), Node("b")))) == "[node.a]\n\n[node.b]\n"


def test_what_is_the_same_both_ways_is_written_once():
    up, down = Impairment(0.02, loss=0.1), Impairment(0.02, loss=0.2, rate_bit_s=10**6)
    link = Link("lan", mtu_bytes=1400, impaired=Both(up, down))

    text = format_lab(Topology((Node("a", (link,)),), lans=(Lan("lan"),)))

    assert text == (
        "[lan.lan]\n\n"
        '[node.a]\nlink = { to = "lan", mtu = 1400, delay = "20ms", '
        'up = { loss = "10%" }, down = { loss = "20%", rate = "1mbit" } }\n'
    )
