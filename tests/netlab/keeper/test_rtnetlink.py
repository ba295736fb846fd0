"""Our packed messages are byte for byte what a general encoder makes of the same request."""

from __future__ import annotations

from ipaddress import ip_address
from socket import AF_INET, AF_INET6

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netlab.keeper import rtnetlink as nl

CREATE = nl.NLM_F_REQUEST | nl.NLM_F_CREATE | nl.NLM_F_EXCL
REPLACE = nl.NLM_F_REQUEST | nl.NLM_F_CREATE | nl.NLM_F_REPLACE
MAC = bytes.fromhex("026c00010002")
MAC_TEXT = "02:6c:00:01:00:02"


def reference(message, *, kind, flags, attrs=(), **fields) -> bytes:
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = [list(each) for each in attrs]
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)


def link_attributes(name: str, mac: str, mtu: int):
    return [
        ["IFLA_IFNAME", name],
        ["IFLA_MTU", mtu],
        ["IFLA_ADDRESS", mac],
        ["IFLA_NUM_TX_QUEUES", 1],
        ["IFLA_NUM_RX_QUEUES", 1],
    ]


@pytest.mark.parametrize("name", ["p1", "p22", "p333", "p4444"])  # every padding
def test_veth_is_encoded_as_the_reference_does(name):  # LAB-012
    peer = {
        "index": 2,
        "attrs": [*link_attributes("eth0", MAC_TEXT, 1400), ["IFLA_NET_NS_FD", 17]],
    }
    expected = reference(
        ifinfmsg(),
        kind=nl.RTM_NEWLINK,
        flags=CREATE,
        index=10,
        attrs=[
            *link_attributes(name, "02:6c:00:00:00:0a", 1400),
            [
                "IFLA_LINKINFO",
                {
                    "attrs": [
                        ["IFLA_INFO_KIND", "veth"],
                        ["IFLA_INFO_DATA", {"attrs": [["VETH_INFO_PEER", peer]]}],
                    ]
                },
            ],
        ],
    )
    assert expected == nl.veth(
        name=name,
        ifindex=10,
        mac=bytes.fromhex("026c0000000a"),
        peer_name="eth0",
        peer_ifindex=2,
        peer_mac=MAC,
        peer_netns_fd=17,
        mtu_bytes=1400,
    )


def test_bridge_is_encoded_as_the_reference_does():
    options = [
        ["IFLA_BR_STP_STATE", 0],
        ["IFLA_BR_MCAST_SNOOPING", 0],
        ["IFLA_BR_NF_CALL_IPTABLES", 0],
        ["IFLA_BR_NF_CALL_IP6TABLES", 0],
        ["IFLA_BR_NF_CALL_ARPTABLES", 0],
    ]
    expected = reference(
        ifinfmsg(),
        kind=nl.RTM_NEWLINK,
        flags=CREATE,
        index=3,
        attrs=[
            ["IFLA_IFNAME", "lan"],
            ["IFLA_ADDRESS", MAC_TEXT],
            [
                "IFLA_LINKINFO",
                {"attrs": [["IFLA_INFO_KIND", "bridge"], ["IFLA_INFO_DATA", {"attrs": options}]]},
            ],
        ],
    )
    assert expected == nl.bridge(name="lan", ifindex=3, mac=MAC)


@pytest.mark.parametrize(("ours", "flags"), [(nl.link_up(7), 1), (nl.link_down(7), 0)])
def test_link_state_is_encoded_as_the_reference_does(ours, flags):
    message = ifinfmsg()
    message["index"], message["flags"], message["change"] = 7, flags, 1
    expected = reference(message, kind=nl.RTM_SETLINK, flags=nl.NLM_F_REQUEST)
    assert ours == expected


def test_link_master_is_encoded_as_the_reference_does():
    expected = reference(
        ifinfmsg(),
        kind=nl.RTM_SETLINK,
        flags=nl.NLM_F_REQUEST,
        index=11,
        attrs=[["IFLA_MASTER", 3]],
    )
    assert expected == nl.link_master(11, master=3)


def test_segments_at_once_is_encoded_as_the_reference_does():  # LAB-012
    expected = reference(
        ifinfmsg(),
        kind=nl.RTM_SETLINK,
        flags=nl.NLM_F_REQUEST,
        index=11,
        attrs=[["IFLA_GSO_MAX_SEGS", 1]],
    )
    assert expected == nl.segments_at_once(11, count=1)


def test_mtu_of_a_link_is_encoded_as_the_reference_does():  # LAB-012
    attrs = [["IFLA_MTU", 1280]]
    expected = reference(
        ifinfmsg(), kind=nl.RTM_SETLINK, flags=nl.NLM_F_REQUEST, index=7, attrs=attrs
    )
    assert expected == nl.link_mtu(7, mtu_bytes=1280)


def test_removal_of_links_is_encoded_as_the_reference_does():  # LAB-012
    doomed = [["IFLA_GROUP", 0x6C6162]]
    marked = [
        reference(ifinfmsg(), kind=nl.RTM_SETLINK, flags=nl.NLM_F_REQUEST, index=n, attrs=doomed)
        for n in (7, 8)
    ]
    gone = reference(ifinfmsg(), kind=nl.RTM_DELLINK, flags=nl.NLM_F_REQUEST, attrs=doomed)
    assert b"".join((*marked, gone)) == nl.remove_links([7, 8])


@pytest.mark.parametrize("prefix", [("198.18.2.0", 24), ("2001:db8::1:200", 120)])
def test_unreachable_is_encoded_as_the_reference_does(prefix):  # LAB-012
    destination, length = prefix
    packed = ip_address(destination).packed
    expected = reference(
        rtmsg(),
        kind=nl.RTM_NEWROUTE,
        flags=REPLACE,
        family=AF_INET6 if ":" in destination else AF_INET,
        dst_len=length,
        table=nl.RT_TABLE_MAIN,
        proto=nl.RTPROT_STATIC,
        type=nl.RTN_UNREACHABLE,
        attrs=[["RTA_DST", destination]],
    )
    assert expected == nl.unreachable(destination=packed, prefix_length=length)


def test_withdrawal_is_the_same_message_of_the_other_kind():  # LAB-012
    made = nl.neighbour(5, packed=ip_address("fe80::1").packed, mac=MAC)
    assert nl.withdrawn(made) == reference(
        ndmsg(),
        kind=nl.RTM_DELNEIGH,
        flags=nl.NLM_F_REQUEST,
        family=AF_INET6,
        ifindex=5,
        state=nl.NUD_PERMANENT,
        attrs=[["NDA_DST", "fe80::1"], ["NDA_LLADDR", MAC_TEXT]],
    )


def test_no_generated_addresses_is_encoded_as_the_reference_does():
    specification = {"attrs": [["AF_INET6", {"attrs": [["IFLA_INET6_ADDR_GEN_MODE", 1]]}]]}
    expected = reference(
        ifinfmsg(),
        kind=nl.RTM_SETLINK,
        flags=nl.NLM_F_REQUEST,
        index=2,
        attrs=[["IFLA_AF_SPEC", specification]],
    )
    assert expected == nl.no_generated_addresses(2)


@given(address=st.ip_addresses(), ifindex=st.integers(1, 2**31 - 1), data=st.data())
def test_address_is_encoded_as_the_reference_does(address, ifindex, data):
    prefix_length = data.draw(st.integers(0, address.max_prefixlen))
    message = ifaddrmsg()
    message["flags"] = nl.IFA_F_NODAD if address.version == 6 else 0
    expected = reference(
        message,
        kind=nl.RTM_NEWADDR,
        flags=REPLACE,
        family=family_of(address),
        prefixlen=prefix_length,
        index=ifindex,
        attrs=[["IFA_LOCAL", str(address)], ["IFA_ADDRESS", str(address)]],
    )
    ours = nl.address(ifindex, packed=address.packed, prefix_length=prefix_length)
    assert ours == expected


@given(address=st.ip_addresses(), data=st.data())
def test_route_is_encoded_as_the_reference_does(address, data):
    prefix_length = data.draw(st.integers(0, address.max_prefixlen))
    gateway = data.draw(st.none() | st.ip_addresses(v=address.version))
    metric = data.draw(st.integers(0, 2**32 - 1))
    attrs = [["RTA_DST", str(address)]] if prefix_length else []
    attrs += [["RTA_GATEWAY", str(gateway)]] if gateway else []
    attrs += [["RTA_OIF", 9]]
    attrs += [["RTA_PRIORITY", metric]] if metric else []
    message = rtmsg()
    message["flags"] = nl.RTNH_F_ONLINK if gateway else 0
    expected = reference(
        message,
        kind=nl.RTM_NEWROUTE,
        flags=REPLACE,
        family=family_of(address),
        dst_len=prefix_length,
        table=nl.RT_TABLE_MAIN,
        proto=nl.RTPROT_STATIC,
        scope=nl.RT_SCOPE_LINK if address.version == 4 and not gateway else 0,
        type=nl.RTN_UNICAST,
        attrs=attrs,
    )
    assert expected == nl.route(
        9,
        destination=address.packed,
        prefix_length=prefix_length,
        gateway=gateway.packed if gateway else b"",
        metric=metric,
    )


@pytest.mark.parametrize("address", ["198.18.0.1", "fe80::1"])
def test_neighbour_is_encoded_as_the_reference_does(address):
    expected = reference(
        ndmsg(),
        kind=nl.RTM_NEWNEIGH,
        flags=REPLACE,
        family=family_of(ip_address(address)),
        ifindex=4,
        state=nl.NUD_PERMANENT,
        attrs=[["NDA_DST", address], ["NDA_LLADDR", MAC_TEXT]],
    )
    assert expected == nl.neighbour(4, packed=ip_address(address).packed, mac=MAC)


class Oracle:
    """Answers one request and keeps it."""

    def __init__(self, *answers: bytes) -> None:
        self.requests: list[bytes] = []
        self._answers = list(answers)

    def send(self, request: bytes) -> None:
        self.requests.append(request)

    def recv(self, _: int) -> bytes:
        return self._answers.pop(0)


def test_wait_operational_asks_until_the_link_carries():  # LAB-005
    def link(state: str) -> bytes:
        attrs = [["IFLA_IFNAME", "eth0"], ["IFLA_OPERSTATE", state]]
        return reference(ifinfmsg(), kind=nl.RTM_NEWLINK, flags=0, index=5, attrs=attrs)

    kernel = Oracle(link("UNKNOWN"), link("LOWERLAYERDOWN"), link("UP"))
    nl.wait_operational(kernel, 5)
    asked = reference(ifinfmsg(), kind=nl.RTM_GETLINK, flags=nl.NLM_F_REQUEST, index=5)
    assert kernel.requests == [asked] * 3


def test_wait_local_asks_until_the_address_receives():  # LAB-005
    def route(kind: int) -> bytes:
        return reference(rtmsg(), kind=nl.RTM_NEWROUTE, flags=0, family=AF_INET6, type=kind)

    kernel = Oracle(route(nl.RTN_UNICAST), route(nl.RTN_LOCAL))
    nl.wait_local(kernel, 5, packed=ip_address("2001:db8::1").packed)
    asked = reference(
        rtmsg(),
        kind=nl.RTM_GETROUTE,
        flags=nl.NLM_F_REQUEST,
        family=AF_INET6,
        dst_len=128,
        attrs=[["RTA_DST", "2001:db8::1"], ["RTA_OIF", 5]],
    )
    assert kernel.requests == [asked] * 2


def test_waiting_ends_with_the_promise_that_was_not_kept(monkeypatch):
    monkeypatch.setattr(nl, "READY_WITHIN_S", -1.0)
    down = reference(ifinfmsg(), kind=nl.RTM_NEWLINK, flags=0, index=5)
    with pytest.raises(TimeoutError, match="link 5 carries"):
        nl.wait_operational(Oracle(down), 5)


def family_of(address) -> int:
    return AF_INET6 if address.version == 6 else AF_INET


class Recorder:
    """A kernel that acknowledges what asks for it, and refuses one message when told to."""

    def __init__(self, refused: int | None = None) -> None:
        self.chunks: list[bytes] = []
        self._refused = refused
        self._answers = b""

    def send(self, chunk: bytes) -> None:
        self.chunks.append(chunk)
        position = 0
        while position < len(chunk):
            length, kind, flags, sequence, _ = nl._HEADER.unpack_from(chunk, position)
            if sequence == self._refused:
                self._answers += self.answer(-17, kind, sequence)
            elif flags & nl.NLM_F_ACK:
                self._answers += self.answer(0, kind, sequence)
            position += length

    def recv(self, _: int) -> bytes:
        answers, self._answers = self._answers, b""
        return answers

    @staticmethod
    def answer(code: int, kind: int, sequence: int) -> bytes:
        return (
            nl._HEADER.pack(36, nl.NLMSG_ERROR, 0, sequence, 0)
            + nl._ERROR.pack(code)
            + nl._HEADER.pack(16, kind, 0, sequence, 0)
        )


def test_send_cuts_between_messages_and_asks_for_one_answer_a_chunk(monkeypatch):
    message = nl.link_up(1)
    monkeypatch.setattr(nl, "SEND_BYTES_MAX", 3 * len(message))
    kernel = Recorder()
    nl.send(kernel, message * 7)
    assert [len(chunk) // len(message) for chunk in kernel.chunks] == [3, 3, 1]
    headers = [
        nl._HEADER.unpack_from(chunk, position)
        for chunk in kernel.chunks
        for position in range(0, len(chunk), len(message))
    ]
    assert [header[3] for header in headers] == [1, 2, 3, 4, 5, 6, 7]
    assert [bool(header[2] & nl.NLM_F_ACK) for header in headers] == [
        False, False, True, False, False, True, True,
    ]  # fmt: skip


def test_send_of_an_empty_program_sends_nothing():
    kernel = Recorder()
    nl.send(kernel, b"")
    assert kernel.chunks == []


def test_send_names_the_message_that_was_refused():
    with pytest.raises(nl.NetlinkError, match="message 2 of type 19: File exists"):
        nl.send(Recorder(refused=2), nl.link_up(1) * 3)
