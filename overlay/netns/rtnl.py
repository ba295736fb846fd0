"""Listings of rtnetlink: the request, and what stands in the answer by the names that pyroute2 has.

Every pass reads what is there, and pyroute2 decodes forty attributes of a link of which nine are
looked at: a fifth of what a node's start costs. What is written goes through pyroute2. Pure.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any

GET_LINKS, GET_ADDRESSES, GET_ROUTES, GET_RULES = 18, 22, 26, 34  # linux/rtnetlink.h
_AF_UNSPEC, _REQUEST_DUMP = 0, 0x301
_ERROR, _DONE = 2, 3

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_RULE = struct.Struct("=BBBBBBBBI")
_U16 = struct.Struct("=H")
_U32 = struct.Struct("=I")
_I32 = struct.Struct("=i")
_FAMILY = struct.Struct("=B15x")
_TYPE_MASK = 0x3FFF  # without the flags for nested and for network byte order


def format_request(kind: int) -> bytes:
    """All of a kind, in both families."""
    body = _FAMILY.pack(_AF_UNSPEC)
    return _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST_DUMP, 0, 0) + body


def parse_answer(datagram: bytes) -> tuple[list[bytes], bool]:
    """The bodies in one datagram, and whether it was the last. Raises OSError of the kernel."""
    bodies: list[bytes] = []
    position = 0
    while position + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, position)
        body = datagram[position + _HEADER.size : position + length]
        if kind in (_ERROR, _DONE):
            code = _I32.unpack_from(body)[0] if len(body) >= _I32.size else 0
            if code < 0:
                raise OSError(-code, "rtnetlink")
            return bodies, True
        bodies.append(body)
        position += (max(length, _HEADER.size) + 3) & ~3
    return bodies, False


def decode_link(body: bytes) -> dict[Any, Any]:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found: dict[Any, Any] = {"index": index, "flags": flags}
    for kind, value in _attributes(body, _LINK.size):
        if kind == 1:
            found["address"] = value.hex(":")
        elif kind == 3:
            found["ifname"] = _text(value)
        elif kind == 4:
            found["mtu"] = _U32.unpack(value)[0]
        elif kind == 5:
            found["link"] = _U32.unpack(value)[0]
        elif kind == 10:
            found["master"] = _U32.unpack(value)[0]
        elif kind == 18:
            found |= _link_info(value)
    return found


def decode_address(body: bytes) -> dict[str, Any]:
    family, prefix_length, flags, scope, index = _ADDRESS.unpack_from(body)
    found = {
        "family": family,
        "prefixlen": prefix_length,
        "flags": flags,
        "scope": scope,
        "index": index,
    }
    for kind, value in _attributes(body, _ADDRESS.size):
        if kind in (1, 2):
            found["address" if kind == 1 else "local"] = _host(value)
    return found


def decode_route(body: bytes) -> dict[str, Any]:
    family, dst_length, _, _, table, protocol, _, type_, _ = _ROUTE.unpack_from(body)
    found = {
        "family": family,
        "dst_len": dst_length,
        "table": table,
        "proto": protocol,
        "type": type_,
    }
    for kind, value in _attributes(body, _ROUTE.size):
        if kind in (1, 5):
            found["dst" if kind == 1 else "gateway"] = _host(value)
        elif kind in (4, 15):
            found["oif" if kind == 4 else "table"] = _U32.unpack(value)[0]
    return found


def decode_rule(body: bytes) -> dict[str, Any]:
    family, _, _, _, table, _, _, action, _ = _RULE.unpack_from(body)
    found = {"family": family, "table": table, "action": action}
    names = {6: "priority", 10: "fwmark", 15: "table", 16: "fwmask"}
    for kind, value in _attributes(body, _RULE.size):
        if kind in names:
            found[names[kind]] = _U32.unpack(value)[0]
        elif kind == 21:
            found["protocol"] = value[0]
    return found


def _link_info(nested: bytes) -> dict[tuple[str, ...], Any]:
    of = dict(_attributes(nested, 0))
    found: dict[tuple[str, ...], Any] = {}
    if 1 in of:
        found["linkinfo", "kind"] = _text(of[1])
    if found.get(("linkinfo", "kind")) == "vlan":
        of_vlan = dict(_attributes(of.get(2, b""), 0))
        found["linkinfo", "data", "vlan_id"] = _U16.unpack(of_vlan[1])[0] if 1 in of_vlan else None
    if _text(of.get(4, b"")) == "bridge":
        port = dict(_attributes(of.get(5, b""), 0))
        found["linkinfo", "slave_data", "learning"] = port.get(8, b"\0")[0]
    return found


def _attributes(body: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    while position + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, position)
        yield kind & _TYPE_MASK, body[position + _ATTRIBUTE.size : position + length]
        position += (max(length, _ATTRIBUTE.size) + 3) & ~3


def _host(packed: bytes) -> str:
    return str(IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed))


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
