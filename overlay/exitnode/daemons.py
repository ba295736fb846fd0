"""The daemons that an egress netns needs beside the kernel, as data (EXIT-045). Pure."""

from __future__ import annotations

import msgspec

from overlay.documents.exits import Uplink
from overlay.model import Address, Family, InterfaceAddress

Argv = tuple[str, ...]

# They are found by their names and an argument.
NAMES = frozenset(("pasta", "udhcpc"))
EGRESS_PATH = "/run/netns/x-egress"
DHCP_PID = "/run/zos/x-egress-dhcp.pid"
DHCP_SCRIPT = f"{__file__.rpartition('/')[0]}/udhcpc.sh"
MARKS = frozenset((EGRESS_PATH, DHCP_PID))
LOG = "/run/zos/uplink.log"
LOG_BYTES = 256 << 10

# Between the egress netns and pasta, which answers for the gateways. Nobody else sees them.
SHARED_ADDRESSES: dict[Family, InterfaceAddress] = {
    4: InterfaceAddress("169.254.128.2/30"),
    6: InterfaceAddress("fd7a:6f73:6578:1::2/64"),
}
SHARED_GATEWAYS: dict[Family, Address] = {
    4: Address("169.254.128.1"),
    6: Address("fd7a:6f73:6578:1::1"),
}
# pasta binds UDP sockets of the node to the ports that it sees. Neither WireGuard's nor those that
# the kernel chooses for others (ip_local_port_range) are among these.
SHARED_PORTS = (10_240, 32_767)


class Daemon(msgspec.Struct, frozen=True):
    """A daemon that runs as long as the egress netns is as it should be."""

    argv: Argv
    inside: bool  # in the egress netns, else in the underlay netns


def udhcpc(*, link: str) -> Daemon:
    """Asks for an address of the link and keeps it, as long as it runs; then it gives it back."""
    words = ["udhcpc", "-f", "-i", link, "-s", DHCP_SCRIPT, "-p", DHCP_PID, "-R"]
    return Daemon((*words, "-o", "-O", "subnet", "-O", "router", "-t", "5", "-A", "5"), inside=True)


def pasta(uplink: Uplink, families: tuple[Family, ...], *, link: str) -> Daemon:
    """Makes `link`, and sends what comes by it from sockets of the node.

    It lets nothing in, and leads to no loopback; it is root without capabilities, in an empty
    directory, with the system calls that it needs (seccomp).
    """
    words = ["pasta", "-f", "-q", "-l", LOG, "--log-size", str(LOG_BYTES), "--runas", "0"]
    words += ["--netns-only", "--no-netns-quit", "--netns", EGRESS_PATH, "-I", link]
    words += ["--no-map-gw", "--no-dhcp", "--no-dhcpv6", "--no-ra"]
    for ports in ("-t", "-u", "-T", "-U"):
        words += [ports, "none"]
    words += ["-i", uplink.link, "--outbound-if4", uplink.link, "--outbound-if6", uplink.link]
    if len(families) == 1:
        words.append(f"-{families[0]}")
    for family in families:
        words += ["-a", SHARED_ADDRESSES[family].partition("/")[0], "-g", SHARED_GATEWAYS[family]]
    return Daemon(tuple(words), inside=False)
