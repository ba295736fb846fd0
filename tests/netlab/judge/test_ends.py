"""Who is meant by the words of an expectation."""

from __future__ import annotations

import pytest

from netlab.fleet.fleet import Inside
from netlab.judge.ends import PAIRS_MAX, End, pairs_of
from netlab.topology import Expect
from overlay.errors import Rejected

MACHINES = {name: End(name, name, name, "", "", "198.18.1.1", None) for name in ("n1", "laptop")}
INSIDE = {
    "a/home/web": Inside("a/home/web", "a/home", "n1", "a-home-web", "10.1.1.2", "fd00::2"),
    "a/home/db": Inside("a/home/db", "a/home", "n1", "a-home-db", "10.1.1.3", "fd00::3"),
    "a/home/laptop": Inside("laptop", "a/home", "laptop", "", "10.1.9.1", "fd00:9::1"),
    "b/home/web": Inside("b/home/web", "b/home", "n1", "b-home-web", "10.1.1.2", "fd01::2"),
}


def meant(source: str, target: str) -> list[tuple[str, str, str | None]]:
    pairs = pairs_of(Expect(source, target), machines=MACHINES, inside=INSIDE)
    return [(pair.source.name, pair.target.name, pair.target.ipv4) for pair in pairs]


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        ("n1", "laptop", [("n1", "laptop", "198.18.1.1")]),
        ("*", "*", [("n1", "laptop", "198.18.1.1"), ("laptop", "n1", "198.18.1.1")]),
        ("a/home/web", "b/home/web", [("a/home/web", "b/home/web", "10.1.1.2")]),
        # Workloads, not the access device, which is one by its own name only.
        ("a/home/*", "a/home/web", [("a/home/db", "a/home/web", "10.1.1.2")]),
        ("laptop", "a/home/web", [("laptop", "a/home/web", "10.1.1.2")]),
        # Who asks inside a network means the device inside it; everybody else the machine.
        ("a/home/web", "laptop", [("a/home/web", "a/home/laptop", "10.1.9.1")]),
        ("b/home/web", "laptop", [("b/home/web", "laptop", "198.18.1.1")]),
    ],
)
def test_words_mean_machines_workloads_and_everybody(source, target, found):
    # LAB-308
    assert meant(source, target) == found


@pytest.mark.parametrize(
    ("source", "target", "field", "remedy"),
    [
        ("n2", "laptop", "expect.from", "did you mean 'n1'?"),
        ("n1", "a/home/wep", "expect.to", "did you mean 'a/home/web'?"),
        ("a/office/*", "n1", "expect.from", "did you mean 'a/home/db'?"),
        ("n1", "n1", "expect.to", None),
    ],
)
def test_words_that_mean_nobody_are_refused(source, target, field, remedy):
    # LAB-308
    with pytest.raises(Rejected) as caught:
        meant(source, target)
    assert (caught.value.field, caught.value.remedy) == (field, remedy)


def test_as_many_pairs_as_can_be_asked_and_no_more():
    # LAB-308
    def machines(count: int) -> dict[str, End]:
        return {f"n{n}": End(f"n{n}", f"n{n}", f"n{n}", "", "", None, None) for n in range(count)}

    everybody = Expect("*", "*")
    most = int(PAIRS_MAX**0.5)
    pairs = pairs_of(everybody, machines=machines(most), inside={})
    assert len(pairs) == most * (most - 1)
    with pytest.raises(Rejected, match=f"{PAIRS_MAX} is the most"):
        pairs_of(everybody, machines=machines(most + 1), inside={})
