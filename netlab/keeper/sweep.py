"""A node's network as it is when the machine starts: its cables, and nothing that programs left.

The network namespace itself stays, and with it the cables, what impairs them, and the lab's own
rules. Constants are those of linux/{rtnetlink,if_link,fib_rules}.h.
"""

from __future__ import annotations

import errno
import struct

from netlab.keeper import bare_socket as socket
from netlab.keeper import conntrack, linux, marks, nftables
from netlab.keeper import rtnetlink as nl
from netlab.keeper import sysctls as settings
from netlab.keeper.cell import LOOPBACK_IFINDEX, Cell
from netlab.keeper.suppress import suppress

# What the names of a lab's own nftables tables begin with.
OWN_TABLES = ("impair-", "netlab", "pump-")

_STILL = (
    ("/proc/sys/net/ipv4/ip_forward", "0"),
    ("/proc/sys/net/ipv6/conf/all/forwarding", "0"),
)
_FAMILIES = (socket.AF_INET, socket.AF_INET6)

_DELLINK, _GETLINK, _SETLINK = 17, 18, 19
_DELADDR, _GETADDR, _DELROUTE, _GETROUTE, _DELRULE, _GETRULE = 21, 22, 25, 26, 33, 34
_REQUEST, _DUMP, _DONE = 1, 0x300, 3
_IFLA_GROUP, _GROUP = 27, 0x6C6162
_FRA_PRIORITY, _BUILT_IN_RULES = 6, (0, 32766, 32767)

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
_U32 = struct.Struct("=I")
_FAMILY = struct.Struct("=B15x")  # as much as the longest of what asks for a listing
_RULE_BYTES = 12  # struct fib_rule_hdr
_RECEIVE_BYTES = 256 * 1024
_GONE = (errno.ENODEV, errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL)


def sweep(cell: Cell) -> None:
    """Ends in the cell's network namespace. Links are down and have no addresses afterwards.

    What vanishes meanwhile, as links of namespaces that are being freed, is nobody's mistake.
    """
    linux.setns(cell.netns, linux.CLONE_NEWNET)
    channel = cell.route_socket
    ends = (LOOPBACK_IFINDEX, *cell.ends)
    nl.send(channel, b"".join(nl.link_down(ifindex) for ifindex in ends))
    _delete_links(channel, {*ends, marks.CUT_IFINDEX, marks.CUT_END_IFINDEX})
    _delete_listed(channel, _GETADDR, _DELADDR)
    for family in _FAMILIES:
        _delete_listed(channel, _GETROUTE, _DELROUTE, family=family)
        for rule in _list(channel, _GETRULE, family=family):
            if _priority_of(rule) not in _BUILT_IN_RULES:
                _send_if_there(channel, _message(_DELRULE, rule))
    nftables.delete_tables(but=OWN_TABLES)
    with suppress(OSError):  # without connection tracking there is nothing to forget
        conntrack.flush()
    settings.write(_STILL)


def _delete_links(channel: socket.socket, kept: set[int]) -> None:
    """By group, because every single deletion waits for all processors."""
    found = [_IFINFO.unpack_from(link)[2] for link in _list(channel, _GETLINK)]
    strange = [ifindex for ifindex in found if ifindex not in kept]
    group = _ATTRIBUTE.pack(8, _IFLA_GROUP) + _U32.pack(_GROUP)
    for ifindex in strange:
        _send_if_there(channel, _message(_SETLINK, _IFINFO.pack(0, 0, ifindex, 0, 0) + group))
    if strange:
        _send_if_there(channel, _message(_DELLINK, _IFINFO.pack(0, 0, 0, 0, 0) + group))


def _delete_listed(channel: socket.socket, get: int, delete: int, *, family: int = 0) -> None:
    for body in _list(channel, get, family=family):
        _send_if_there(channel, _message(delete, body))


def _send_if_there(channel: socket.socket, message: bytes) -> None:
    try:
        nl.send(channel, message)
    except nl.NetlinkError as exc:
        if exc.errno not in _GONE:
            raise


def _list(channel: socket.socket, kind: int, *, family: int = 0) -> list[bytes]:
    """The bodies of all that there is; with another request's number they delete it."""
    channel.send(_message(kind, _FAMILY.pack(family), flags=_REQUEST | _DUMP))
    bodies: list[bytes] = []
    while True:
        answer = channel.recv(_RECEIVE_BYTES)
        position = 0
        while position < len(answer):
            length, answered, *_ = _HEADER.unpack_from(answer, position)
            if answered in (_DONE, nl.NLMSG_ERROR):
                return bodies
            bodies.append(answer[position + _HEADER.size : position + length])
            position += (length + 3) & ~3


def _message(kind: int, body: bytes, *, flags: int = _REQUEST) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _priority_of(rule: bytes) -> int:
    position = _RULE_BYTES
    while position + _ATTRIBUTE.size <= len(rule):
        length, kind = _ATTRIBUTE.unpack_from(rule, position)
        if kind == _FRA_PRIORITY:
            return int(_U32.unpack_from(rule, position + _ATTRIBUTE.size)[0])
        position += (length + 3) & ~3
    return 0
