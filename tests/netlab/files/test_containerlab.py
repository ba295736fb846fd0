from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.files.containerlab import NESTING_MAX, TEXT_CHARS_MAX, import_containerlab
from netlab.files.reading import parse_lab
from netlab.files.writing import format_lab
from netlab.topology import Lan, Link, Node, Topology
from overlay.errors import Rejected, Unavailable

MESH = """
name: mesh
mgmt:
  network: custom
topology:
  defaults:
    kind: linux
  kinds:
    linux:
      image: alpine:3
      exec: ["sleep 10"]
  groups:
    quiet:
      network-mode: none
  nodes:
    a:
      exec:
        - ip addr add 10.0.0.1/24 dev eth1
        - /sbin/ip -6 route add default via fd00::1
        - sh -c 'echo "hello there"'
      binds: [conf:/conf]
    b:
      group: quiet
    Core_Router.1:
      kind: nokia_srlinux
    br:
      kind: bridge
  links:
    - endpoints: ["a:eth1", "b:eth1"]
      mtu: 1400
    - endpoints: ["a:eth2", "b:eth2"]
    - endpoints: ["b:eth3", "br:p1"]
    - type: veth
      endpoints:
        - node: Core_Router.1
          interface: ethernet-1/1
        - node: br
          interface: p2
    - endpoints: ["a:eth9", "host:veth-a"]
    - type: macvlan
      endpoint: {node: a, interface: eth8}
"""


def test_topology_becomes_a_lab_and_the_rest_is_told():  # LAB-293
    found = import_containerlab(MESH)

    sleep = ("sleep", "10")
    assert found.topology == Topology(
        (
            Node(
                "a",
                (Link(), Link("a-b", "eth1", 1400), Link("a-b-1", "eth2")),
                run=(sleep, ("sh", "-c", 'echo "hello there"')),
            ),
            Node(
                "b",
                (Link("a-b", "eth1", 1400), Link("a-b-1", "eth2"), Link("br", "eth3")),
                run=(sleep,),
            ),
            Node("core-router-1", (Link(), Link("br", "ethernet-1-1"))),
        ),
        lans=(Lan("br"), Lan("a-b"), Lan("a-b-1")),
        name="mesh",
    )
    assert found.left_out == (
        "the file: mgmt",
        "a: exec 'ip addr add 10.0.0.1/24 dev eth1'; a lab gives addresses itself",
        "a: exec '/sbin/ip -6 route add default via fd00::1'; a lab gives addresses itself",
        "a: image, binds",
        "b: image",
        "Core_Router.1: what kind nokia_srlinux runs; it is a plain machine here",
        "topology.nodes.Core_Router.1: the name 'Core_Router.1'; it is 'core-router-1' here",
        "Core_Router.1: the name of 'ethernet-1/1'; it is 'ethernet-1-1' here",
        "topology.links[4]: a link to host",
        "topology.links[5]: a link of type macvlan",
    )
    assert parse_lab(format_lab(found.topology)) == found.topology


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "name: lacks 'name'"),
        ("name: x", "topology: lacks 'topology'"),
        ("- a", "is no table"),
        ("name: x\ntopology: 7", "topology: is no table"),
        ("name: x\ntopology: {nodes: [a]}", "topology.nodes: is no table"),
        ("name: x\ntopology: {nodes: {a: {exec: true}}}", "topology.nodes.a.exec: is no list"),
        ("name: x\ntopology: {nodes: {a: {exec: ['echo \"']}}}", "split into words"),
        ("name: x\ntopology: {links: [{endpoints: ['a:eth1']}]}", "has 1 ends"),
        ("name: x\ntopology: {links: [{endpoints: [a, b]}]}", "'a' is no end"),
        ("name: x\ntopology: {nodes: {abc: }, links: [{endpoints: ['abc:x', 'abd:y']}]}", "'abc'?"),
        ("name: x\ntopology: {links: [{mtu: big, endpoints: ['a:b', 'a:b']}]}", "whole number"),
        ("name: x\ntopology: {nodes: {'...': {}}}", "no letter"),
        ("name: [", "line 1: is not YAML"),
        ("name: !!python/object/apply:os.system ['true']", "is not YAML"),
        ("a: &a [x, x]\nb: *a", "line 2: has an alias"),
        ("[" * (NESTING_MAX + 1) + "]" * (NESTING_MAX + 1), "nested too deeply"),
        ("#" * (TEXT_CHARS_MAX + 1), "longer than"),
        ("name: x\x00", "is not YAML"),
    ],
)
def test_what_is_no_topology_is_refused_with_a_remedy(text, words):  # LAB-293
    with pytest.raises(Rejected) as caught:
        import_containerlab(text)
    assert words in str(caught.value)
    assert caught.value.remedy


def test_without_a_reader_of_yaml_it_says_what_to_install(monkeypatch):  # LAB-293
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(Unavailable, match=r"pip install .zos\[containerlab\]"):
        import_containerlab(MESH)


@given(st.text(alphabet="aé:-[]{}'\"\n &*!|>#,0.", max_size=60))
def test_any_text_is_a_lab_or_refused(text):
    try:
        import_containerlab("name: x\ntopology:\n  nodes:\n" + text)
    except Rejected:
        return
