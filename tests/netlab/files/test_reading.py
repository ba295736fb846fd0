from __future__ import annotations

import pytest

from netlab.files import reading
from netlab.files.reading import FileFault, lint_lab, parse_lab, read_lab
from netlab.impairment import Both, Drop, Impairment
from netlab.nat import NATS, Nat
from netlab.topology import (
    Access,
    Event,
    Expect,
    Lan,
    Latency,
    Link,
    Node,
    Region,
    Router,
    Tenant,
    TenantNetwork,
    Topology,
    Workload,
)
from overlay.errors import Unavailable

TWO_HOMES = """
name = "two-homes"
seed = 7

[core]
regions = ["eu", "us"]
latency = [{ between = ["eu", "us"], delay = "45ms", down = { delay = "50ms" } }]

[kind.home]
role = "node"
link = { loss = "1%", up = { rate = "2mbit" } }

[router.home-a]
link = "eu"
nat = "full-cone"
firewall = "stateful"

[router.home-b]
link = { to = "us", delay = "10ms" }
nat = { hairpin = true, timeout = "5s" }

[lan.office]
gateway = "bob"

[node.registry]
role = "registry"

[node.laptop]
role = "client"

[node.alice]
kind = "home"
link = { to = "home-a", jitter = "2ms", drop = ["response 2"] }
run = "sh -c 'sleep 5'"

[node.bob]
role = "node"
links = { wan0 = "home-b", lan0 = { to = "office", mtu = 1400, ipv6 = false } }
run = ["sleep 1", ["echo", "a b"]]

[tenant.acme.network.web]
range = "10.7.0.0/16"
nodes = ["alice"]
invited = ["bob"]
clients = { laptop = "alice" }
workloads = { shop = "alice", cache = "*" }

[[expect]]
from = "alice"
to = "bob"
reached = false
family = "ipv4"

[[expect]]
from = "acme/web/shop"
to = "acme/web/*"
path = "direct"
at_least = "1mbit"
at_most = "2mbit"
within = "10s"
at = "4s"

[[at]]
time = "5s"
impair = { link = "alice-home-a", loss = "5%" }

[[at]]
time = "6s"
partition = [["alice"], ["bob"]]

[[at]]
time = "7s"
heal = true

[[at]]
time = "8s"
exec = { node = "bob", run = "echo hello" }

[[at]]
time = "9s"
reboot-nat = "home-b"
"""


def test_file_says_a_whole_lab():  # LAB-280
    slow = Impairment(jitter_s=0.002, loss=0.01, drops=(Drop("response", 2),))
    upward = Impairment(0.0, 0.002, 0.01, rate_bit_s=2_000_000, drops=(Drop("response", 2),))
    ten = Impairment(delay_s=0.01)
    five = Impairment(loss=0.05)

    assert parse_lab(TWO_HOMES) == Topology(
        (
            Node("registry", (Link("eu"),), "registry"),
            Node("laptop", (Link("eu"),), "client"),
            Node(
                "alice",
                (Link("home-a", impaired=Both(upward, slow)),),
                "node",
                run=(("sh", "-c", "sleep 5"),),
            ),
            Node(
                "bob",
                (Link("home-b", "wan0"), Link("office", "lan0", 1400, ipv6=False)),
                "node",
                run=(("sleep", "1"), ("echo", "a b")),
            ),
        ),
        (
            Router("home-a", Link("eu", "wan"), NATS["full-cone"], "stateful"),
            Router(
                "home-b",
                Link("us", "wan", impaired=Both(ten, ten)),
                Nat(hairpin=True, udp_timeout_s=5),
            ),
        ),
        (Lan("office", "bob"),),
        name="two-homes",
        seed=7,
        regions=(Region("eu"), Region("us")),
        latencies=(
            Latency(("eu", "us"), Both(Impairment(delay_s=0.045), Impairment(delay_s=0.05))),
        ),
        tenants=(
            Tenant(
                "acme",
                (
                    TenantNetwork(
                        "web",
                        "10.7.0.0/16",
                        ("alice",),
                        ("bob",),
                        (Access("laptop", "alice"),),
                        (
                            Workload("shop", "alice"),
                            Workload("cache-alice", "alice"),
                            Workload("cache-bob", "bob"),
                        ),
                    ),
                ),
            ),
        ),
        expects=(
            Expect("alice", "bob", "ipv4", reached=False),
            Expect(
                "acme/web/shop",
                "acme/web/*",
                path="direct",
                at_least_bit_s=1_000_000,
                at_most_bit_s=2_000_000,
                within_s=10.0,
                at_s=4.0,
            ),
        ),
        events=(
            Event(5.0, "impair", "alice-home-a", impaired=Both(five, five)),
            Event(6.0, "partition", groups=(("alice",), ("bob",))),
            Event(7.0, "heal"),
            Event(8.0, "exec", "bob", argv=("echo", "hello")),
            Event(9.0, "reboot-nat", "home-b"),
        ),
    )


@pytest.mark.parametrize("text", ["", "seed = 7\n", "node = {}\n"])
def test_file_without_anything_to_build_is_wrong(text):  # LAB-285
    with pytest.raises(FileFault, match="has no nodes"):
        parse_lab(text)
    assert [str(fault) for fault in lint_lab(text)] == ["lab:1: has no nodes (add [node.NAME])"]


def test_file_whose_nodes_are_yet_to_come_is_a_lab():
    assert parse_lab("[router.home]\n").routers == (Router("home"),)


def test_count_makes_as_many_with_their_number_in_every_text():  # LAB-283
    lab = parse_lab(
        '[router.home]\ncount = 2\n[lan.lan]\ncount = 2\ngateway = "pc-{n}"\n'
        '[node.pc]\ncount = 2\nlinks = { eth0 = "home-{n}", eth1 = "lan-{n}" }\n'
        'run = "echo {n} {m}"\n'
    )

    assert [router.name for router in lab.routers] == ["home-1", "home-2"]
    assert lab.lans == (Lan("lan-1", "pc-1"), Lan("lan-2", "pc-2"))
    links = (Link("home-2"), Link("lan-2", "eth1"))
    assert lab.nodes[1] == Node("pc-2", links, run=(("echo", "2", "{m}"),))


def test_count_puts_the_number_where_the_name_says():  # LAB-283
    lab = parse_lab('[node."n{n}a"]\ncount = 2\n')
    assert [node.name for node in lab.nodes] == ["n1a", "n2a"]


def test_number_is_text_like_any_other_without_a_count():
    assert parse_lab('[node.a]\nrun = "echo {n}"').nodes[0].run == (("echo", "{n}"),)


def test_chain_puts_each_behind_the_one_before():  # LAB-283
    lab = parse_lab(
        '[router.r]\n[node.hop]\ncount = 3\nchain = true\nlink = { to = "r", mtu = 1400 }'
    )

    assert lab.nodes == (
        Node("hop-1", (Link("r", mtu_bytes=1400), Link("hop-1-lan", "eth1"))),
        Node("hop-2", (Link("hop-1-lan", mtu_bytes=1400), Link("hop-2-lan", "eth1"))),
        Node("hop-3", (Link("hop-2-lan", mtu_bytes=1400),)),
    )
    assert lab.lans == (Lan("hop-1-lan", "hop-1"), Lan("hop-2-lan", "hop-2"))


def test_kind_holds_where_the_node_says_nothing():  # LAB-284
    lab = parse_lab(
        """
        [router.r]
        kind = "cgnat"
        [kind.cgnat]
        nat = "symmetric"
        [kind.far]
        role = "registry"
        run = "a"
        links = { eth1 = { to = "r", delay = "9ms", up = { loss = "1%" } } }
        [node.x]
        kind = "far"
        run = "b"
        link = "internet"
        links = { eth1 = { delay = "1ms", up = { rate = "1mbit" } }, eth2 = "r" }
        """
    )

    assert lab.routers[0].nat == NATS["symmetric"]
    one = Impairment(delay_s=0.001)
    assert lab.nodes[0] == Node(
        "x",
        (
            Link(),
            Link("r", "eth1", impaired=Both(Impairment(0.001, loss=0.01, rate_bit_s=10**6), one)),
            Link("r", "eth2"),
        ),
        "registry",
        run=(("b",),),
    )


def test_file_on_disk_is_read_and_its_faults_bear_its_name(tmp_path):  # LAB-285
    path = tmp_path / "x.lab.toml"
    path.write_text(TWO_HOMES)
    assert read_lab(path).name == "two-homes"

    path.write_bytes(b'name = "x"\nseed = "\xff"\n')
    with pytest.raises(FileFault, match=r"x\.lab\.toml:2: is not UTF-8"):
        read_lab(path)
    with pytest.raises(Unavailable):
        read_lab(tmp_path / "y.lab.toml")


def test_file_beyond_the_bound_is_refused_unread(tmp_path):  # LAB-286
    path = tmp_path / "x.lab.toml"
    node = "[node.a]\n"
    path.write_text(node + "#" * (reading.FILE_BYTES_MAX - len(node)))
    assert read_lab(path) == Topology((Node("a"),))

    path.write_text("#" * (reading.FILE_BYTES_MAX + 1))
    with pytest.raises(FileFault, match="longer"):
        read_lab(path)


def test_all_faults_are_told_at_once_in_the_order_of_lines():  # LAB-285
    text = 'seed = "x"\n[node.a]\nrole = "registrar"\nlnik = "internet"\n[node.b]\nlink = 7\n'

    faults = lint_lab(text, source="f")

    assert [(fault.line, fault.field) for fault in faults] == [
        (1, "seed"),
        (3, "node.a.role"),
        (4, "node.a.lnik"),
        (6, "node.b.link"),
    ]
    assert str(faults[2]) == "f:4: node.a.lnik: is not a known key (did you mean 'link'?)"
    assert lint_lab(TWO_HOMES) == []
