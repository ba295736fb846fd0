"""The real kernel as the convergence law and the kernel suite see machines.

Needs root and namespaces of its own: the netns of this process is the underlay.
"""

from __future__ import annotations

import hashlib
import os
from types import TracebackType
from typing import Self

from overlay.keys.wireguard import WireGuardKey
from overlay.model import WgPublicKey
from overlay.netns import namespaces, spawn
from overlay.netns.backend import BACKEND_SETTING, choose
from overlay.netns.converge import Configurator
from overlay.netns.dnsmasq import Dnsmasq
from overlay.netns.kernel import Rtnetlink
from overlay.netns.nft import Nftables
from overlay.netns.pins import TenantPins
from overlay.netns.ports import Shell
from overlay.ports import Secret, WireGuard
from tests.convergence import NETNS, WORKLOADS, FixedClock

# kernel | wireguard-go; unset: whatever a node would choose here
TEST_BACKEND = os.environ.get("ZOS_TEST_BACKEND", "")


PATIENCE_S = 60.0  # far more than any command takes: ends a hang


async def run(command: str, *, netns: str | None = None) -> spawn.Completed:
    """A command as a person would type it, in a netns."""
    return await spawn.run(command.split(), timeout_s=PATIENCE_S, netns=netns)


async def pings(netns: str, address: str) -> bool:
    """Whether it answers at all: a link that has just come up loses packets without a word."""
    return (await run(f"ping -n -c1 -i0.2 -w30 {address}", netns=netns)).code == 0


class RealMachine:
    """`async with RealMachine() as machine`: afterwards nothing of it is left."""

    shell: Shell

    async def __aenter__(self) -> Self:
        choice = await choose({**os.environ, BACKEND_SETTING: TEST_BACKEND})
        self._wireguard: WireGuard = choice.wireguard
        for name in WORKLOADS:
            namespaces.create(name)
        self._start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        configurator = Configurator(self.shell, clock=FixedClock())
        for name in {*await configurator.list_owned(), NETNS}:
            await configurator.remove(name)
        self._end()
        self._wireguard.close()
        for name in WORKLOADS:
            namespaces.remove(name)

    def _start(self) -> None:
        self._kernel, self._pins = Rtnetlink(), TenantPins()
        self._name_servers = Dnsmasq(self._pins)
        self.shell = Shell(
            self._kernel, self._wireguard, Nftables(), self._pins, self._name_servers
        )

    def _end(self) -> None:
        self._name_servers.close()
        self._kernel.close()
        self._pins.close()

    def restart(self) -> None:
        self._end()
        self._start()

    def key(self, n: int) -> tuple[Secret, WgPublicKey]:
        key = WireGuardKey(hashlib.sha256(b"test key %d" % n).digest())
        return key, key.public_key

    def workload(self, name: str) -> str:
        return namespaces.pin_path(name)

    def unpin(self, netns: str) -> None:
        namespaces.remove(netns)

    def wipe(self) -> str:
        return '{"nftables": [{"flush": {"ruleset": null}}]}'
