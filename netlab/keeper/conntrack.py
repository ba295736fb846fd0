"""Make the calling thread's network namespace forget all connections: a router's power cut.

Constants are those of linux/netfilter/nfnetlink{,_conntrack}.h.
"""

from __future__ import annotations

import os
import struct

from netlab.keeper import bare_socket as socket

NETLINK_NETFILTER = 12
NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE = 1, 2
NLM_F_REQUEST, NLM_F_ACK = 1, 4

_FLUSH = struct.Struct("=IHHIIBBH")
_ERROR = struct.Struct("=i")
_HEADER_BYTES = 16
_ANSWER_BYTES = 4096


def flush() -> None:
    """Delete every entry. Raises OSError when the kernel refuses."""
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
    request = _FLUSH.pack(
        _FLUSH.size, kind, NLM_F_REQUEST | NLM_F_ACK, 1, 0, socket.AF_UNSPEC, 0, 0
    )
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as channel:
        channel.send(request)
        (code,) = _ERROR.unpack_from(channel.recv(_ANSWER_BYTES), _HEADER_BYTES)
    if code:
        raise OSError(-code, f"flush connections: {os.strerror(-code)}")
