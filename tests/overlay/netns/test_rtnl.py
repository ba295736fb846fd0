"""Datagrams of rtnetlink taken apart; that it is right about the kernel's is in tests/kernel."""

from __future__ import annotations

import errno
import struct

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from overlay.netns import rtnl

DONE, ERROR = 3, 2
HEADER_BYTES = 16  # of a netlink message


def message(kind: int, body: bytes) -> bytes:
    padding = bytes(-len(body) % 4)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body + padding


def test_answer_has_bodies_until_it_is_done():
    listed = message(16, b"first") + message(16, b"second12")
    assert rtnl.parse_answer(listed) == ([b"first", b"second12"], False)
    assert rtnl.parse_answer(message(16, b"last") + message(DONE, bytes(4))) == ([b"last"], True)
    assert rtnl.parse_answer(message(DONE, b"")) == ([], True)
    assert rtnl.parse_answer(b"") == ([], False)


@pytest.mark.parametrize("kind", [DONE, ERROR])
def test_answer_that_is_an_error_is_raised(kind: int):
    with pytest.raises(OSError, match="rtnetlink") as caught:
        rtnl.parse_answer(message(kind, struct.pack("=i", -errno.EBUSY)))
    assert caught.value.errno == errno.EBUSY


def test_attribute_of_no_length_does_not_hold_the_reader():
    body = struct.pack("=BxHiII", 0, 1, 7, 1, 0) + bytes(64)
    assert rtnl.decode_link(body) == {"index": 7, "flags": 1}
    assert rtnl.parse_answer(struct.pack("=IHHII", 0, 16, 0, 0, 0)) == ([b""], False)


def test_link_that_is_a_vlan_has_its_number():  # this machine's kernel may make none
    message = ifinfmsg()
    data = ("IFLA_INFO_DATA", {"attrs": [("IFLA_VLAN_ID", 4_094)]})
    info = {"attrs": [("IFLA_INFO_KIND", "vlan"), data]}
    message["index"], message["attrs"] = 7, [("IFLA_IFNAME", "ext0"), ("IFLA_LINKINFO", info)]
    message.encode()
    link = rtnl.decode_link(bytes(message.data[HEADER_BYTES:]))
    assert link["linkinfo", "kind"] == "vlan"
    assert link["linkinfo", "data", "vlan_id"] == 4_094
