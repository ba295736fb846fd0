"""An internet of its own beside an exit node: a bridge, and somebody out there who says so."""

from __future__ import annotations

from netlab.lab_node import LabNode

WAN = "wan"
BRIDGE = "br-ext"
HOST_V4, HOST_V6 = "198.51.100.7", "2001:db8:7::7"
GATEWAY_V4, GATEWAY_V6 = "203.0.113.1", "2001:db8:113::1"


async def build(at: LabNode) -> None:
    """The bridge is on the node, where its operator would have one; the internet is behind it."""
    await at.add_namespace(WAN)
    for line in (
        f"link add {BRIDGE} up type bridge",
        f"link add ext type veth peer name in netns {WAN}",
        f"link set ext master {BRIDGE} up",
    ):
        await at.run("ip", *line.split())
    for line in (
        "link set in up",
        f"addr add {GATEWAY_V4}/24 dev in",
        f"addr add {GATEWAY_V6}/64 dev in nodad",
        f"addr add {HOST_V4}/32 dev lo",
        f"addr add {HOST_V6}/128 dev lo nodad",
    ):
        await at.run("ip", "-n", WAN, *line.split())


def offer_words(n: int) -> tuple[str, ...]:
    """Options of `zos exit offer`: the n-th address on the bridge."""
    return (
        *("--uplink", f"bridge:{BRIDGE}"),
        *("--address", f"203.0.113.{n}/24", "--address", f"2001:db8:113::{n}/64"),
        *("--gateway", GATEWAY_V4, "--gateway", GATEWAY_V6),
        *("--beacon", HOST_V4, "--beacon", HOST_V6),
    )


async def unplug(at: LabNode) -> None:
    """The uplink carries nothing any more."""
    await at.run("ip", "link", "set", BRIDGE, "down")
