from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from netlab.files.reading import parse_lab
from netlab.pictures.dot import draw_dot
from netlab.pictures.layout import lay_out
from netlab.pictures.live import NOTHING, Leaving, Live, Tunnel
from netlab.pictures.mermaid import draw_mermaid
from netlab.pictures.svg import draw_svg
from netlab.pictures.tree import ALIKE_MIN, grow, walk
from netlab.topology import ExitOffer, Lan, Link, Node, Router, Topology
from tests.netlab.files.topologies import topologies

DRAW = [draw_svg, draw_mermaid, draw_dot]
LAB = parse_lab(
    """
    name = "office"
    [core]
    regions = ["eu", "us", "ap"]
    latency = [
      { between = ["eu", "us"], delay = "45ms" },
      { between = ["ap", "eu"], delay = "90ms", up = { loss = "1%" } },
    ]
    [router.home]
    link = { to = "us", rate = "10mbit" }
    nat = "symmetric"
    firewall = "block-udp"
    [lan.backup]
    [node.registry]
    role = "registry"
    [node.alice]
    role = "node"
    link = { to = "home", jitter = "2ms", drop = ["response 2"] }
    [node.bob]
    role = "node"
    links = { eth0 = "eu", eth1 = { to = "backup", mtu = 1400 } }
    [node.carol]
    links = { eth0 = "ap", eth1 = { to = "backup", loss = "3%" } }
    [tenant.acme.network.web]
    nodes = ["alice", "bob"]
    workloads = { shop = "alice" }
    """
)
LIVE = Live(
    dead=frozenset({"carol"}),
    cut=frozenset({"alice:eth0", "carol:eth1"}),
    tunnels=(Tunnel(("alice", "bob"), "acme/web", "relay"), Tunnel(("alice", "gone"), "x/y")),
)
WAYS = Live(
    tunnels=(
        Tunnel(("alice", "bob"), "acme/web", "relay", "r1"),
        Tunnel(("alice", "carol"), "acme/web", "punched"),
        Tunnel(("bob", "carol"), "acme/web", "direct"),
    ),
    leaving=(Leaving("acme/web", "bob", failed=("carol",)),),
)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("draw", DRAW)
def test_picture_says_what_the_file_does(draw):  # LAB-291
    text = draw(LAB).replace("\\n", " ")  # Graphviz' way to end a line

    for word in "eu us ap home backup registry alice bob carol shop".split():
        assert re.search(rf"\b{word}\b", text), word
    for words in (
        "45 ms",
        "↑ 90 ms, 1% loss",
        "10 mbit/s",
        "NAT, symmetric",
        "UDP blocked",
        "0 s ± 2 ms, no response 2",
        "MTU 1400",
        "3% loss",
    ):
        assert words in text, words


@pytest.mark.parametrize("draw", DRAW)
def test_picture_of_a_running_lab_shows_what_is_not_as_in_the_file(draw):  # LAB-291
    before, after = draw(LAB), draw(LAB, live=LIVE)

    assert "relay" in after
    assert "relay" not in before
    assert "gone" not in after
    assert len(after) > len(before)
    assert draw(LAB, live=NOTHING) == before


def test_svg_names_the_ways_of_tunnels_where_everybody_sees_them():  # LAB-291
    tree = ElementTree.fromstring(draw_svg(LAB, live=WAYS))

    seen = [(text.text or "").strip() for text in tree.iter(f"{SVG}text")]
    for words in (
        "relay r1",
        "punched",
        "acme/web, relay r1: alice–bob",
        "acme/web, punched: alice–carol",
        "acme/web, direct: 1 pair",
        "acme/web leaves by the exit bob (carol failed)",
    ):
        assert seen.count(words) == 1, words
    drawn = [
        path.get("class")
        for path in tree.iter(f"{SVG}path")
        if path.find(f"{SVG}title") is not None
    ]
    assert drawn == ["tunnel dotted t0", "tunnel dashed t0", "tunnel t0"]
    assert sum("opened" in words or "by way of a relay" in words for words in seen) == 2


def test_words_on_tunnels_are_few():  # LAB-291
    pairs = list(combinations([f"n{n}" for n in range(8)], 2))
    lab = parse_lab("\n".join(f"[node.n{n}]" for n in range(8)))
    live = Live(tunnels=tuple(Tunnel(pair, "a/b", "punched") for pair in pairs))
    svg = draw_svg(lab, live=live)
    assert svg.count(">\npunched</text>") == 0
    assert "and 22 more" in svg
    few = Live(tunnels=live.tunnels[:12])
    assert draw_svg(lab, live=few).count(">\npunched</text>") == 12


def test_what_a_node_offers_is_on_its_card():  # LAB-291
    exit_ = ExitOffer("eth1")
    nodes = (
        Node("r", role="registry"),
        Node("e", (Link(), Link("isp", "eth1")), role="node", relay=True, exit=exit_),
    )
    for draw in DRAW:
        assert "zos node, relay, exit by eth1" in draw(Topology(nodes, (Router("isp"),)))


def test_svg_marks_the_dead_and_the_cut():  # LAB-291
    tree = ElementTree.fromstring(draw_svg(LAB, live=LIVE))

    dead = [group for group in tree.iter(f"{SVG}g") if "dead" in group.get("class", "")]
    assert [group.findtext(f"{SVG}title").splitlines()[:2] for group in dead] == [["carol", "dead"]]
    cut = [path for path in tree.iter(f"{SVG}path") if "cut" in path.get("class", "").split()]
    assert len(cut) == 2


def test_nodes_that_differ_in_their_number_alone_are_one_card():  # LAB-292
    def cards(count: int) -> int:
        lab = parse_lab(f"[node.web]\ncount = {count}\n")
        return len(list(walk(grow(lab, NOTHING).roots))) - 1

    assert cards(ALIKE_MIN - 1) == ALIKE_MIN - 1
    assert cards(ALIKE_MIN) == 1
    assert cards(9000) == 1
    lab = parse_lab("[node.web]\ncount = 30\n")
    assert "web-1 … web-30" in draw_svg(lab)
    assert "30 hosts" in draw_svg(lab)
    one_dead = Live(dead=frozenset({"web-7"}))
    assert len(list(walk(grow(lab, one_dead).roots))) - 1 == 6 + 1 + 1


def test_long_chain_is_drawn_without_end():  # LAB-292
    lab = parse_lab("[node.hop]\ncount = 3000\nchain = true\n")
    for draw in DRAW:
        assert "hop-3000" in draw(lab)


def test_lans_that_hold_each_other_are_drawn():
    nodes = (
        Node("a", (Link("x"), Link("y", "eth1"))),
        Node("b", (Link("y"), Link("x", "eth1"))),
    )
    lab = Topology(nodes, lans=(Lan("x"), Lan("y")))
    for draw in DRAW:
        assert draw(lab)


def test_names_cannot_break_out_of_a_picture():
    # A topology has no such names; pictures do not count on it.
    lab = parse_lab("[node.a]")
    evil = '</text><script>&"\\'
    object.__setattr__(lab, "name", evil)
    object.__setattr__(lab.nodes[0], "name", evil)

    tree = ElementTree.fromstring(draw_svg(lab))

    assert not list(tree.iter(f"{SVG}script"))
    assert evil in [text.text for text in tree.iter(f"{SVG}text")]
    assert "#lt;/text#gt;#lt;script#gt;#amp;#quot;" in draw_mermaid(lab)
    assert '"</text><script>&\\"\\\\' in draw_dot(lab)


@settings(max_examples=60, deadline=None)
@given(topologies())
def test_any_lab_is_drawn_and_no_card_covers_another(topology):  # LAB-291
    svg = draw_svg(topology)
    assert draw_mermaid(topology)
    assert draw_dot(topology)

    ElementTree.fromstring(svg)
    forest = grow(topology, NOTHING)
    layout = lay_out(forest, arches=0, foot=0)
    cards = list(walk(forest.roots))
    assert len(cards) == len({id(card) for card in forest.by_name.values()})
    boxes = [layout.box(card) for card in cards]
    for box in boxes:
        assert box.x >= 0
        assert box.right <= layout.width
        assert box.bottom <= layout.height
    for one, other in combinations(boxes, 2):
        apart = one.right <= other.x or other.right <= one.x
        assert apart or one.bottom <= other.y or other.bottom <= one.y
