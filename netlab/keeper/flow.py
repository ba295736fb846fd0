"""Which flow an Ethernet frame belongs to, from its bytes alone.

It runs inside the pump, so it imports only what is cheap to import.
"""

from __future__ import annotations

# The kind (protocol and addresses: the same in every run of a lab), and what tells flows of that
# kind apart (the ports).
Flow = tuple[bytes, bytes]

_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_WITH_PORTS = frozenset((6, 17, 33, 132, 136))  # TCP, UDP, DCCP, SCTP, UDP-Lite
_TYPE, _NETWORK = 12, 14
_FRAGMENT = 0x1FFF | 0x2000


def flow_of(frame: bytes) -> Flow:
    """Never fails: a frame that is cut short or strange is of the flow that its start says."""
    kind = frame[_TYPE:_NETWORK]
    if kind == _IPV4 and len(frame) >= 34:
        return _flow_of_ipv4(frame)
    if kind == _IPV6 and len(frame) >= 54:
        protocol = frame[20]
        ports = frame[54:58] if protocol in _WITH_PORTS else b""
        return frame[20:21] + frame[22:54], ports
    return kind, b""


def _flow_of_ipv4(frame: bytes) -> Flow:
    kind = frame[23:24] + frame[26:34]
    is_fragment = int.from_bytes(frame[20:22], "big") & _FRAGMENT
    if frame[23] not in _WITH_PORTS or is_fragment:
        return kind, b""  # later fragments have no ports, so the first is not told apart either
    start = _NETWORK + 4 * (frame[_NETWORK] & 15)
    return kind, frame[start : start + 4]
