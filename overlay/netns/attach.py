"""A workload's netns joins a network resource by a veth pair. To leave it, the port is deleted.

The workload's netns is somebody else's: only the link that was put there is touched, and loopback
is brought up.
"""

from __future__ import annotations

from overlay.errors import Unavailable
from overlay.model import Prefix
from overlay.netns.codec import Snapshot, joined_workload
from overlay.netns.ports import Kernel
from overlay.netns.state import BRIDGE_LINK, LOOPBACK_LINK, Attachment

_DEFAULT_V4, _DEFAULT_V6 = Prefix("0.0.0.0/0"), Prefix("::/0")


async def attach(kernel: Kernel, netns: str, attachment: Attachment) -> None:
    """The workload can reach the network. Idempotent. Its addresses are usable at once.

    Raises Unavailable when its netns is gone or already has a link of that name.
    """
    it = attachment
    if not kernel.has_link(netns, it.port):
        await kernel.create_port(netns, it.port, workload_netns=it.netns, workload_link=it.link)
    # The port carries frames only; addresses of its own would be noise (RFC 4862 section 5.3).
    kernel.write_sysctl(netns, f"net/ipv6/conf/{it.port}/addr_gen_mode", "1")
    await kernel.set_link(netns, it.port, mtu_bytes=it.mtu_bytes, master=BRIDGE_LINK, up=True)
    # Frames to some link-local groups pass by every nftables hook and would still teach the bridge
    # a forged MAC (net/bridge/br_input.c, br_handle_frame, case 0x0E).
    await kernel.pin_mac(netns, it.port, it.mac)
    await kernel.set_link(it.netns, LOOPBACK_LINK, up=True)
    await kernel.set_link(it.netns, it.link, mtu_bytes=it.mtu_bytes, mac=it.mac)
    await kernel.set_link(it.netns, it.link, up=True)
    for address in (it.address_v4, it.address_v6):
        await kernel.add_address(it.netns, it.link, address)
    await kernel.add_route(it.netns, _DEFAULT_V4, it.link, gateway=it.gateway_v4)
    await kernel.add_route(it.netns, _DEFAULT_V6, it.link, gateway=it.gateway_v6)


async def read_attachment(
    kernel: Kernel, attachment: Attachment, *, tenant: Snapshot
) -> Attachment | None:
    """What there is of it. Raises Unavailable when the workload's netns is gone or has no room."""
    workload = await kernel.read(attachment.netns)
    if tenant.link(attachment.port) is None and workload.link(attachment.link) is not None:
        raise Unavailable(f"{attachment.netns} has a link {attachment.link} of its own")
    return joined_workload(attachment, tenant=tenant, workload=workload)
