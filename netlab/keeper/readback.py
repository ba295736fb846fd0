"""What is true in a network namespace, read from the kernel in the words of wiring/facts.py.

Each fact is its kind and its values: ("route", ifindex, destination, prefix length, gateway,
metric). What the kernel adds on its own - local and connected routes, multicast, neighbours that it
has learnt - is left out.
"""

from __future__ import annotations

import struct

from netlab.keeper import bare_socket as socket

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Fact = tuple[object, ...]
    Attributes = dict[int, bytes]

NLM_F_DUMP = 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH = 18, 22, 26, 30
IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO = 1, 1, 3, 4, 10, 18
IFA_ADDRESS = 1
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY = 1, 4, 5, 6
RT_TABLE_MAIN, RTPROT_STATIC, RTN_UNICAST, RTN_UNREACHABLE = 254, 4, 1, 7
NDA_DST, NDA_LLADDR, NUD_PERMANENT = 1, 2, 0x80
NLA_TYPE_MASK = 0x3FFF
IPV6_METRIC_DEFAULT = 1024  # what the kernel makes of none

LOOPBACK_IFINDEX = 1

_RECEIVE_BYTES = 1 << 20
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=8BI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")


def read(channel: socket.socket) -> Iterator[Fact]:
    """All facts, by a socket of that namespace."""
    for kind, head, parse in (
        (RTM_GETLINK, _IFINFO, _link),
        (RTM_GETADDR, _IFADDR, _address),
        (RTM_GETROUTE, _ROUTE, _route),
        (RTM_GETNEIGH, _NEIGHBOUR, _neighbour),
    ):
        yield from _dump(channel, kind, head, parse)


def _link(fields: tuple[int, ...], attributes: Attributes) -> Iterator[Fact]:
    _, _, ifindex, flags, _ = fields
    if flags & IFF_UP:
        yield ("up", ifindex)
    yield ("mtu", ifindex, _number(attributes, IFLA_MTU))
    if master := _number(attributes, IFLA_MASTER):
        yield ("port", ifindex, master)
    if b"bridge\0" in attributes.get(IFLA_LINKINFO, b""):
        name = attributes[IFLA_IFNAME].rstrip(b"\0").decode()
        yield ("bridge", name, ifindex, attributes[IFLA_ADDRESS])


def _address(fields: tuple[int, ...], attributes: Attributes) -> Iterator[Fact]:
    _, length, _, _, ifindex = fields
    yield ("address", ifindex, attributes[IFA_ADDRESS], length)


def _route(fields: tuple[int, ...], attributes: Attributes) -> Iterator[Fact]:
    family, length, _, _, table, protocol, _, kind, _ = fields
    if table != RT_TABLE_MAIN or protocol != RTPROT_STATIC:
        return
    size = 16 if family == socket.AF_INET6 else 4
    destination = attributes.get(RTA_DST, bytes(size))
    metric = _number(attributes, RTA_PRIORITY)
    if family == socket.AF_INET6 and metric == IPV6_METRIC_DEFAULT:
        metric = 0
    if kind == RTN_UNREACHABLE:
        yield ("unreachable", LOOPBACK_IFINDEX, destination, length)
    elif kind == RTN_UNICAST:
        gateway = attributes.get(RTA_GATEWAY, b"")
        yield ("route", _number(attributes, RTA_OIF), destination, length, gateway, metric)


def _neighbour(fields: tuple[int, ...], attributes: Attributes) -> Iterator[Fact]:
    _, ifindex, state, _, _ = fields
    if state & NUD_PERMANENT and NDA_LLADDR in attributes:
        yield ("neighbour", ifindex, attributes[NDA_DST], attributes[NDA_LLADDR])


def _dump(
    channel: socket.socket,
    kind: int,
    head: struct.Struct,
    parse: Callable[[tuple[int, ...], Attributes], Iterator[Fact]],
) -> Iterator[Fact]:
    request = bytes(head.size)
    channel.send(_HEADER.pack(_HEADER.size + head.size, kind, NLM_F_DUMP | 1, 1, 0) + request)
    while True:
        answer = channel.recv(_RECEIVE_BYTES)
        position = 0
        while position < len(answer):
            length, answered, _, _, _ = _HEADER.unpack_from(answer, position)
            body = position + _HEADER.size
            if answered == NLMSG_DONE:
                return
            if answered == NLMSG_ERROR:
                raise OSError(f"a dump of the kernel's routing failed: {answer[body : body + 4]!r}")
            fields = head.unpack_from(answer, body)
            yield from parse(fields, _attributes(answer[body + head.size : position + length]))
            position += (length + 3) & ~3


def _attributes(content: bytes) -> Attributes:
    found: Attributes = {}
    position = 0
    while position + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, position)
        found[kind & NLA_TYPE_MASK] = content[position + _ATTRIBUTE.size : position + length]
        position += (length + 3) & ~3
    return found


def _number(attributes: Attributes, kind: int) -> int:
    return int(_U32.unpack(attributes[kind])[0]) if kind in attributes else 0
