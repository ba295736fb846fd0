"""The rtnetlink messages that build a lab, packed by hand, and the one place that sends them.

A general encoder costs milliseconds per node, this one microseconds; its bytes are compared with
such an encoder in the tests. Constants are those of linux/{rtnetlink,if_link,if_addr,neighbour}.h.
It runs inside the keeper too, so it imports only what is cheap to import.
"""

from __future__ import annotations

import os
import struct
import time

from netlab.keeper import bare_socket as socket

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 20, 21, 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH = 28, 29
NLM_F_REQUEST, NLM_F_ACK, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 1, 4, 0x100, 0x200, 0x400
NLMSG_ERROR = 2

_CREATE = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL
_DOOMED_GROUP = 0x6C6162
_WITHDRAWS = {
    RTM_NEWADDR: RTM_DELADDR,
    RTM_NEWROUTE: RTM_DELROUTE,
    RTM_NEWNEIGH: RTM_DELNEIGH,
}
_REPLACE = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_REPLACE

IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 3, 4, 10, 18
IFLA_OPERSTATE, IF_OPER_UP, IFLA_GROUP, IFLA_GSO_MAX_SEGS = 16, 6, 27, 40
IFLA_AF_SPEC, IFLA_NET_NS_FD, IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 26, 28, 31, 32
IFLA_INFO_KIND, IFLA_INFO_DATA, VETH_INFO_PEER = 1, 2, 1
IFLA_INET6_ADDR_GEN_MODE, ADDR_GEN_MODE_NONE = 8, 1
IFLA_BR_STP_STATE, IFLA_BR_MCAST_SNOOPING = 5, 23
IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES, IFLA_BR_NF_CALL_ARPTABLES = 36, 37, 38
IFA_ADDRESS, IFA_LOCAL, IFA_F_NODAD = 1, 2, 2
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST, RTN_LOCAL, RTNH_F_ONLINK = 254, 4, 1, 2, 4
RTN_UNREACHABLE = 7
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
NDA_DST, NDA_LLADDR, NUD_PERMANENT = 1, 2, 0x80

NETLINK_EXT_ACK, NETLINK_CAP_ACK, SOL_NETLINK = 11, 10, 270
NLM_F_CAPPED, NLM_F_ACK_TLVS, NLMSGERR_ATTR_MSG = 0x100, 0x200, 1

# One send is one skb, which must fit the socket's send buffer (212 992 bytes by default).
SEND_BYTES_MAX = 64 * 1024
_RECEIVE_BYTES = 256 * 1024

READY_WITHIN_S = 10.0
_READY_POLL_S = 0.0005

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=8BI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_U8 = struct.Struct("=B")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


def veth(
    *,
    name: str,
    ifindex: int,
    mac: bytes,
    peer_name: str,
    peer_ifindex: int,
    peer_mac: bytes,
    peer_netns_fd: int,
    mtu_bytes: int,
) -> bytes:
    """A pair with one end here and the other born in its target namespace.

    With the default number of queues the driver shrinks it after creation and waits for an RCU
    grace period; asking for one queue halves the price. Both ends are down: IFF_UP on a peer
    is refused here (ENOTCONN).
    """
    peer = (
        _ifinfo(ifindex=peer_ifindex)
        + _link_attributes(name=peer_name, mac=peer_mac, mtu_bytes=mtu_bytes)
        + attribute(IFLA_NET_NS_FD, _U32.pack(peer_netns_fd))
    )
    kind = attribute(IFLA_INFO_KIND, b"veth\0") + attribute(
        IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)
    )
    return message(
        RTM_NEWLINK,
        _CREATE,
        _ifinfo(ifindex=ifindex)
        + _link_attributes(name=name, mac=mac, mtu_bytes=mtu_bytes)
        + attribute(IFLA_LINKINFO, kind),
    )


def bridge(*, name: str, ifindex: int, mac: bytes) -> bytes:
    """A learning switch, nothing more: no spanning tree, no snooping, no detour by netfilter."""
    options = b"".join(
        (
            attribute(IFLA_BR_STP_STATE, _U32.pack(0)),
            attribute(IFLA_BR_MCAST_SNOOPING, _U8.pack(0)),
            attribute(IFLA_BR_NF_CALL_IPTABLES, _U8.pack(0)),
            attribute(IFLA_BR_NF_CALL_IP6TABLES, _U8.pack(0)),
            attribute(IFLA_BR_NF_CALL_ARPTABLES, _U8.pack(0)),
        )
    )
    kind = attribute(IFLA_INFO_KIND, b"bridge\0") + attribute(IFLA_INFO_DATA, options)
    return message(
        RTM_NEWLINK,
        _CREATE,
        _ifinfo(ifindex=ifindex)
        + attribute(IFLA_IFNAME, name.encode() + b"\0")
        + attribute(IFLA_ADDRESS, mac)
        + attribute(IFLA_LINKINFO, kind),
    )


def link_up(ifindex: int) -> bytes:
    return message(
        RTM_SETLINK, NLM_F_REQUEST, _ifinfo(ifindex=ifindex, flags=IFF_UP, change=IFF_UP)
    )


def link_down(ifindex: int) -> bytes:
    return message(RTM_SETLINK, NLM_F_REQUEST, _ifinfo(ifindex=ifindex, change=IFF_UP))


def segments_at_once(ifindex: int, *, count: int) -> bytes:
    """At most so many TCP segments go out on this link as one packet."""
    body = _ifinfo(ifindex=ifindex) + attribute(IFLA_GSO_MAX_SEGS, _U32.pack(count))
    return message(RTM_SETLINK, NLM_F_REQUEST, body)


def link_master(ifindex: int, *, master: int) -> bytes:
    body = _ifinfo(ifindex=ifindex) + attribute(IFLA_MASTER, _U32.pack(master))
    return message(RTM_SETLINK, NLM_F_REQUEST, body)


def link_mtu(ifindex: int, *, mtu_bytes: int) -> bytes:
    body = _ifinfo(ifindex=ifindex) + attribute(IFLA_MTU, _U32.pack(mtu_bytes))
    return message(RTM_SETLINK, NLM_F_REQUEST, body)


def remove_links(ifindexes: Iterable[int]) -> bytes:
    """By way of a group: every single deletion would cost 20 ms, and so do all at once."""
    group = attribute(IFLA_GROUP, _U32.pack(_DOOMED_GROUP))
    messages = [
        message(RTM_SETLINK, NLM_F_REQUEST, _ifinfo(ifindex=ifindex) + group)
        for ifindex in ifindexes
    ]
    return b"".join((*messages, message(RTM_DELLINK, NLM_F_REQUEST, _ifinfo(ifindex=0) + group)))


def no_generated_addresses(ifindex: int) -> bytes:
    """Must come before the link goes up. The same by /proc/sys costs more with every namespace."""
    mode = attribute(IFLA_INET6_ADDR_GEN_MODE, _U8.pack(ADDR_GEN_MODE_NONE))
    body = _ifinfo(ifindex=ifindex) + attribute(IFLA_AF_SPEC, attribute(int(socket.AF_INET6), mode))
    return message(RTM_SETLINK, NLM_F_REQUEST, body)


def address(ifindex: int, *, packed: bytes, prefix_length: int) -> bytes:
    """Usable at once: duplicate address detection is off."""
    family, flags = (socket.AF_INET6, IFA_F_NODAD) if len(packed) == 16 else (socket.AF_INET, 0)
    body = _IFADDR.pack(family, prefix_length, flags, RT_SCOPE_UNIVERSE, ifindex)
    local = attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
    return message(RTM_NEWADDR, _REPLACE, body + local)


def route(
    ifindex: int,
    *,
    destination: bytes,
    prefix_length: int,
    gateway: bytes = b"",
    metric: int = 0,
) -> bytes:
    """`destination` decides the family; a gateway is taken to be on the link."""
    family = socket.AF_INET6 if len(destination) == 16 else socket.AF_INET
    # IPv6 knows no scopes; an IPv4 route without a gateway is one to the link.
    near = family == socket.AF_INET and not gateway
    body = _ROUTE.pack(
        family,
        prefix_length,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        RT_SCOPE_LINK if near else RT_SCOPE_UNIVERSE,
        RTN_UNICAST,
        RTNH_F_ONLINK if gateway else 0,
    )
    if prefix_length:
        body += attribute(RTA_DST, destination)
    if gateway:
        body += attribute(RTA_GATEWAY, gateway)
    body += attribute(RTA_OIF, _U32.pack(ifindex))
    if metric:
        body += attribute(RTA_PRIORITY, _U32.pack(metric))
    return message(RTM_NEWROUTE, _REPLACE, body)


def unreachable(*, destination: bytes, prefix_length: int) -> bytes:
    """A route of last resort: what is more specific wins."""
    family = socket.AF_INET6 if len(destination) == 16 else socket.AF_INET
    body = _ROUTE.pack(
        family,
        prefix_length,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_STATIC,
        RT_SCOPE_UNIVERSE,
        RTN_UNREACHABLE,
        0,
    )
    return message(RTM_NEWROUTE, _REPLACE, body + attribute(RTA_DST, destination))


def neighbour(ifindex: int, *, packed: bytes, mac: bytes) -> bytes:
    """Permanent, so that it does not count in the neighbour table that the whole host shares."""
    family = socket.AF_INET6 if len(packed) == 16 else socket.AF_INET
    body = _NEIGHBOUR.pack(family, ifindex, NUD_PERMANENT, 0, 0)
    return message(
        RTM_NEWNEIGH, _REPLACE, body + attribute(NDA_DST, packed) + attribute(NDA_LLADDR, mac)
    )


def withdrawn(message: bytes) -> bytes:
    """The message that takes back what an address, route or neighbour message made."""
    length, kind, _, sequence, port = _HEADER.unpack_from(message)
    head = _HEADER.pack(length, _WITHDRAWS[kind], NLM_F_REQUEST, sequence, port)
    return head + message[_HEADER.size :]


class NetlinkError(OSError):
    """The kernel refused one message of a program."""


def open_socket() -> socket.socket:
    """A socket that belongs to the calling thread's network namespace for good."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    opened.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
    opened.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
    return opened


def send(channel: socket.socket, program: bytes) -> None:
    """Apply messages in order. Raises NetlinkError for the first one that the kernel refused."""
    for chunk, last in _chunks(program):
        channel.send(chunk)
        _wait_acknowledged(channel, sequence=last)


def wait_operational(channel: socket.socket, ifindex: int) -> None:
    """Return when the link carries packets.

    A link whose far end comes up later has its carrier at once but drops what is sent until the
    kernel's link watch has run. Newer kernels run it for this request, older ones soon after.
    """
    request = message(RTM_GETLINK, NLM_F_REQUEST, _ifinfo(ifindex=ifindex))

    def is_operational() -> bool:
        attributes = _ask(channel, request)[_IFINFO.size :]
        return _find_attribute(attributes, IFLA_OPERSTATE) == _U8.pack(IF_OPER_UP)

    _wait_until(is_operational, f"link {ifindex} carries")


def wait_local(channel: socket.socket, ifindex: int, *, packed: bytes) -> None:
    """Return when an IPv6 address of this link receives.

    Even without duplicate address detection the kernel leaves its local route to a worker.
    """
    body = _ROUTE.pack(socket.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0)
    body += attribute(RTA_DST, packed) + attribute(RTA_OIF, _U32.pack(ifindex))
    request = message(RTM_GETROUTE, NLM_F_REQUEST, body)

    def is_local() -> bool:
        return bool(_ROUTE.unpack_from(_ask(channel, request))[7] == RTN_LOCAL)

    _wait_until(is_local, f"address {socket.inet_ntop(socket.AF_INET6, packed)} receives")


def _wait_until(is_true: Callable[[], bool], promise: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not is_true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{promise}: not within {READY_WITHIN_S} s")
        time.sleep(_READY_POLL_S)


def _ask(channel: socket.socket, request: bytes) -> bytes:
    """The body of the one message that answers."""
    channel.send(request)
    answer = channel.recv(_RECEIVE_BYTES)
    length, kind, flags, sequence, _ = _HEADER.unpack_from(answer)
    if kind == NLMSG_ERROR:
        _raise_if_refused(answer[:length], flags, sequence)
    return answer[_HEADER.size : length]


def _chunks(program: bytes) -> Iterator[tuple[bytes, int]]:
    """Number the messages and cut between them; only the last of each chunk asks for an answer."""
    numbered = bytearray(program)
    start = position = sequence = 0
    while position < len(numbered):
        length, kind, flags, _, _ = _HEADER.unpack_from(numbered, position)
        sequence += 1
        end = position + length
        next_length = _U32.unpack_from(numbered, end)[0] if end < len(numbered) else 0
        last = not next_length or end + next_length - start > SEND_BYTES_MAX
        flags |= NLM_F_ACK if last else 0
        _HEADER.pack_into(numbered, position, length, kind, flags, sequence, 0)
        position = end
        if last:
            yield bytes(numbered[start:position]), sequence
            start = position


def _wait_acknowledged(channel: socket.socket, *, sequence: int) -> None:
    while True:
        answer = channel.recv(_RECEIVE_BYTES)
        position = 0
        while position < len(answer):
            length, kind, flags, answered, _ = _HEADER.unpack_from(answer, position)
            if kind == NLMSG_ERROR:
                _raise_if_refused(answer[position : position + length], flags, answered)
                if answered == sequence:
                    return
            position += (length + 3) & ~3


def _raise_if_refused(answer: bytes, flags: int, sequence: int) -> None:
    (code,) = _ERROR.unpack_from(answer, _HEADER.size)
    if code == 0:
        return
    _, kind, _, _, _ = _HEADER.unpack_from(answer, _HEADER.size + _ERROR.size)
    reason = _explanation(answer, flags) or os.strerror(-code)
    raise NetlinkError(-code, f"message {sequence} of type {kind}: {reason}")


def _explanation(answer: bytes, flags: int) -> str:
    """The kernel's own words, where it has any (extended acknowledgement)."""
    if not flags & NLM_F_ACK_TLVS or not flags & NLM_F_CAPPED:
        return ""
    attributes = answer[_HEADER.size + _ERROR.size + _HEADER.size :]
    return _find_attribute(attributes, NLMSGERR_ATTR_MSG).rstrip(b"\0").decode()


def _find_attribute(attributes: bytes, wanted: int) -> bytes:
    position = 0
    while position + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, position)
        if kind == wanted:
            return attributes[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    return b""


def message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def attribute(kind: int, payload: bytes) -> bytes:
    length = len(payload) + _ATTRIBUTE.size
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def _ifinfo(*, ifindex: int, flags: int = 0, change: int = 0) -> bytes:
    return _IFINFO.pack(socket.AF_UNSPEC, 0, ifindex, flags, change)


def _link_attributes(*, name: str, mac: bytes, mtu_bytes: int) -> bytes:
    return b"".join(
        (
            attribute(IFLA_IFNAME, name.encode() + b"\0"),
            attribute(IFLA_MTU, _U32.pack(mtu_bytes)),
            attribute(IFLA_ADDRESS, mac),
            attribute(IFLA_NUM_TX_QUEUES, _U32.pack(1)),
            attribute(IFLA_NUM_RX_QUEUES, _U32.pack(1)),
        )
    )
