from __future__ import annotations

from overlay.documents.schema import Network
from overlay.keys import wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import WireGuardKey
from zos_core.files import network
from zos_core.files.difference import consequences, diff_networks, subnets
from zos_core.files.published import PublishedEntry

ALICE = Identity.from_seed(Kind.TENANT, b"a" * 32).id
N1 = Identity.from_seed(Kind.NODE, b"1" * 32).id
N2 = Identity.from_seed(Kind.NODE, b"2" * 32).id
KEY = wireguard.format_key(WireGuardKey(b"k" * 32).public_key)

EMPTY = network.format_new(
    "home", range_v4="10.1.0.0/16", keys=(ALICE,), threshold=1, registry=None
)
ONE = network.add_member(EMPTY, "n1", node=N1, index=1)
TWO = network.add_member(ONE, "n2", node=N2, index=2)


def test_same_content_of_two_versions_is_no_difference() -> None:
    assert diff_networks(published=document(TWO, 1), draft=document(TWO, 2)) == ()


def test_coming_going_and_changing_have_their_signs() -> None:
    moved = ONE.replace("index = 1", "index = 9")

    came = diff_networks(published=document(ONE), draft=document(TWO))
    went = diff_networks(published=document(TWO), draft=document(ONE))
    changed = diff_networks(published=document(ONE), draft=document(moved))

    assert [str(d) for d in came] == [f"+ members n2  node={N2}  index=2"]
    assert [d.sign for d in went] == ["-"]
    assert [str(d) for d in changed] == ["~ members n1  index: 1 => 9"]


def test_consequences_name_the_prefixes_of_both_families() -> None:
    (line,) = consequences(published=document(ONE), draft=document(TWO))

    v4, v6 = subnets(document(TWO), 2)
    assert line == f"n2 joins; every other member gets peer n2: {v4} and {v6}"
    assert (v4, v6.endswith("::/64")) == ("10.1.2.0/24", True)


def test_consequences_of_devices_rules_and_removal() -> None:
    device = network.add_access(ONE, "laptop", public_key=KEY, index=3, via="n1")
    ruled = ONE + '\n[[policy]]\nfrom = ["n1"]\nto = ["*"]\n'

    assert "others route it there" in says(ONE, device)[0]
    assert says(device, ONE) == ("every member drops peer laptop",)
    assert says(ONE, ruled) == ("every member loads its firewall anew",)
    assert says(ONE, network.revoke(ONE, N2)) == (f"{N2} is refused",)
    assert "takes the network down" in says(ONE, network.delete(ONE))[0]
    assert "every address changes" in says(ONE, ONE.replace("10.1.", "10.2."))[0]


def test_consequences_of_exits_and_of_what_is_published() -> None:
    left = network.set_exits(TWO, {"n1": 0})
    web = network.add_published(left, [PublishedEntry("tcp/8080", "n1", "web.n2:80")])
    moved = web.replace("web.n2:80", "db.n1:80")

    assert says(TWO, left) == ("members may leave the network by n1",)
    assert says(left, TWO) == ("nothing leaves the network by n1 any more",)
    assert says(left, left.replace("order = 0", "order = 7")) == ("n1 is tried in another order",)
    assert says(left, web) == ("tcp/8080 at n1 leads to web.n2:80, whatever the policy says",)
    assert says(web, moved) == ("tcp/8080 at n1 leads to db.n1:80, whatever the policy says",)
    assert says(web, left) == ("tcp/8080 at n1 is not published any more; what is open there ends",)
    (difference,) = diff_networks(published=document(web), draft=document(moved))
    assert str(difference) == "~ published tcp/8080 at n1  to: web.n2:80 => db.n1:80"


def says(published: str, draft: str) -> tuple[str, ...]:
    return consequences(published=document(published), draft=document(draft))


def document(text: str, version: int = 1) -> Network:
    return network.network_document(network.parse_network_file(text), version)
