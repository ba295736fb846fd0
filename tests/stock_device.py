"""A stock WireGuard device in a lab node: only `wg` and `ip` have touched it."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass

from netlab.lab_node import LabNode
from overlay.keys.wireguard import DeviceKey, WireGuardKey, format_key
from overlay.model import WgPublicKey
from overlay.netns import backend
from overlay.netns.wg_kernel import why_unavailable

PATIENCE_S = 90.0  # some handshakes that are tried again every 5 s
OVERLAY = {"a": ("10.9.0.1", "fd09::1"), "b": ("10.9.0.2", "fd09::2")}
QUIET = {"LOG_LEVEL": "error", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}


def backends() -> list[str]:
    wanted = os.environ.get("ZOS_TEST_BACKEND")
    named = os.environ.get(backend.BINARY_SETTING) or shutil.which("wireguard-go")
    userspace = [named or "wireguard-go is missing"]
    if wanted == "kernel":
        return ["kernel"]
    if wanted == "wireguard-go":
        return userspace
    return ["kernel"] if why_unavailable() is None else userspace


@dataclass
class Site:
    """One of two; each is the other's peer, by way of a relay."""

    node: LabNode
    key: WireGuardKey | DeviceKey

    @property
    def public(self) -> WgPublicKey:
        return self.key.public_key

    async def start(self, named: str, *, relay: WgPublicKey, endpoint: str, peer: Site) -> None:
        conf = (
            f"[Interface]\nPrivateKey = {format_key(self.key.reveal())}\n"
            f"[Peer]\nPublicKey = {format_key(relay)}\nEndpoint = {endpoint}\n"
            "PersistentKeepalive = 1\n"
            f"[Peer]\nPublicKey = {format_key(peer.public)}\nEndpoint = {endpoint}\n"
            f"AllowedIPs = {', '.join(OVERLAY[peer.node.name])}\n"
        )
        if named == "kernel":
            await self.node.run("ip", "link", "add", "wg0", "type", "wireguard")
        else:
            await self.node.run(named, "wg0", env=QUIET)
        await self.node.run("wg", "setconf", "wg0", "/dev/stdin", input=conf.encode())
        v4, v6 = OVERLAY[self.node.name]
        lines = (
            f"address add {v4}/24 dev wg0",
            f"address add {v6}/64 dev wg0 nodad",
            "link set wg0 up",
        )
        await self.node.run("ip", "-batch", "-", input="\n".join(lines).encode())

    async def reaches(self, address: str) -> bool:
        family = "-6" if ":" in address else "-4"
        argv = ("ping", family, "-c", "1", "-W", "2", address)
        return (await self.node.run(*argv, check=False, timeout_s=PATIENCE_S)).returncode == 0

    async def until_reached(self, address: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not await self.reaches(address):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.2)
