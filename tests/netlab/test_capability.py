"""What a lab has to do without is said with the reason and what helps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from netlab import capability
from netlab.capability import Facts, judge

GOOD = Facts(
    is_root=False,
    forbidden="",
    forbidding=(),
    kernel=(6, 1),
    has_tun=True,
    may_tun=True,
    has_nftables=True,
    no_netem="",
    descriptors=20_000,
    inotify_instances=128,
)


def found(facts: Facts, **size: int) -> dict[str, tuple[str, str]]:
    return {each.name: (each.reason, each.remedy) for each in judge(facts, **size) if not each.ok}


def test_machine_that_has_everything_lacks_nothing():  # LAB-226
    assert found(GOOD) == {}
    assert all(not each.remedy for each in judge(GOOD))


@pytest.mark.parametrize(
    ("change", "name", "reason", "remedy"),
    [
        ({"forbidden": "EPERM"}, "namespaces", "EPERM", "run as root"),
        ({"kernel": (5, 10)}, "files", "5.11", "newer kernel"),
        ({"has_tun": False, "may_tun": False}, "tun", "no /dev/net/tun", "modprobe tun"),
        ({"may_tun": False}, "tun", "no wireguard-go", "chmod 0666 /dev/net/tun"),
        ({"has_nftables": False}, "nftables", "no NAT", "install"),
        ({"no_netem": "unknown kind"}, "netem", "unknown kind", "modprobe sch_netem"),
        ({"descriptors": 100}, "descriptors", "100 are allowed", "ulimit"),
        ({"inotify_instances": 10}, "inotify", "10 are allowed", "max_user_instances"),
    ],
)
def test_what_is_missing_is_named_with_reason_and_remedy(change, name, reason, remedy):  # LAB-226
    lacking = found(replace(GOOD, **change))
    assert list(lacking) == [name]
    assert reason in lacking[name][0]
    assert remedy in lacking[name][1]


@pytest.mark.parametrize(
    ("setting", "remedy"),
    [
        ("kernel.unprivileged_userns_clone", "kernel.unprivileged_userns_clone=1"),
        (
            "kernel.apparmor_restrict_unprivileged_userns",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ("user.max_user_namespaces", "user.max_user_namespaces=10000"),
    ],
)
def test_setting_that_forbids_user_namespaces_is_named(setting, remedy):  # LAB-226
    lacking = found(replace(GOOD, forbidden="EPERM", forbidding=(setting,)))
    assert remedy in lacking["namespaces"][1]


def test_overlay_files_are_roots_on_old_kernels():
    assert found(replace(GOOD, is_root=True, kernel=(4, 19))) == {}


def test_bounds_follow_the_size_of_the_lab():  # LAB-226
    nodes = (GOOD.descriptors - capability.DESCRIPTORS_OTHERWISE) // capability.DESCRIPTORS_PER_NODE
    assert found(GOOD, nodes=nodes) == {}
    assert list(found(GOOD, nodes=nodes + 1)) == ["descriptors"]
    assert found(GOOD, devices=127) == {}
    assert list(found(GOOD, devices=128)) == ["inotify"]


def test_this_machine_can_be_looked_at():  # LAB-226
    facts = capability.look()
    assert facts.descriptors > 0
    assert facts.kernel >= (3, 0)
