"""What a network resource should look like."""

from __future__ import annotations

import pytest

from overlay.addressing import FIRST_WORKLOAD_HOST, LAST_WORKLOAD_HOST
from overlay.errors import Rejected
from overlay.netns.resource import desired_resource, workload_attachment
from overlay.netns.state import LinkKind, birth_link
from tests.convergence import KEYS, NETNS, network_resource

NR = network_resource(index=3, mtu_bytes=1380)


@pytest.mark.parametrize(
    ("host", "port", "v4", "v6"),
    [
        (FIRST_WORKLOAD_HOST, "p-2", "10.7.3.2/24", "fd07:1:2:3::2/64"),
        (LAST_WORKLOAD_HOST, "p-254", "10.7.3.254/24", "fd07:1:2:3::fe/64"),
    ],
)
def test_a_workload_has_one_number_in_both_families(
    host: int, port: str, v4: str, v6: str
) -> None:  # NET-021
    it = workload_attachment(NR, name="w", netns="/run/w", link="eth0", host=host)
    assert (it.port, it.address_v4, it.address_v6) == (port, v4, v6)
    assert (it.gateway_v4, it.gateway_v6) == ("10.7.3.1", "fd07:1:2:3::1")
    assert it.mtu_bytes == 1380


@pytest.mark.parametrize("host", [FIRST_WORKLOAD_HOST - 1, LAST_WORKLOAD_HOST + 1])
def test_the_gateways_and_the_broadcast_address_are_no_workloads(host: int) -> None:  # NET-021
    with pytest.raises(Rejected, match="host"):
        workload_attachment(NR, name="w", netns="/run/w", link="eth0", host=host)


def test_every_link_carries_what_wireguard_can() -> None:  # NET-041
    attachment = workload_attachment(NR, name="w", netns="/run/w", link="eth0", host=2)
    it = desired_resource(NR, device_key=KEYS[0], peers={}, attachments=[attachment])
    assert {name for name, link in it.links.items() if link.mtu_bytes == 1380} == {
        "wg0",
        "br0",
        "p-2",
    }
    assert it.links["br0"].addresses == {"10.7.3.1/24", "fd07:1:2:3::1/64"}
    assert it.links["wg0"].addresses == frozenset()
    assert it.links["p-2"].kind is LinkKind.PORT


def test_the_birth_name_belongs_to_the_netns() -> None:  # NET-004
    assert birth_link(NETNS) == "w-abcdefghijklm"
    assert len(birth_link(NETNS)) <= 15
