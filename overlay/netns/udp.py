"""Whether a UDP port is free in a netns.

Asked before a WireGuard device gets a listen port: a refused one costs wireguard-go the port that
it had, and the kernel shows afterwards the port that it did not get.
"""

from __future__ import annotations

import errno
import socket

from overlay.netns.namespaces import open_socket

_ANYWHERE = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))


def is_port_free(netns: str | None, port: int) -> bool:
    """Whether WireGuard could listen on `port`, over IPv4 and IPv6; None: the caller's netns."""
    return all(_is_free(netns, port, family, anywhere) for family, anywhere in _ANYWHERE)


def _is_free(netns: str | None, port: int, family: int, anywhere: str) -> bool:
    try:
        with open_socket(netns, family, socket.SOCK_DGRAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((anywhere, port))
    except OSError as exc:
        return exc.errno != errno.EADDRINUSE  # else a family that this machine does not have
    return True
