"""Overlays on one topology: wireguard-go by hand, Debian's nebula and tinc, and zos.

Each is set up the way its own documents say, with every file made before the clock starts, so that
what is timed is the start of the last machine and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from netlab.fleet.fleet import Fleet
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.topology import Node, Topology
from overlay.netns.backend import BINARY_SETTING, find_binaries

FIRST, LAST = "n1", "n2"
TOPOLOGY = Topology(
    name="bench", nodes=(Node(FIRST), Node(LAST), Node("n3"), Node("registry"), Node("desk"))
)
WIREGUARD_PORT, ROUTED_PORT = 41820, 41821
BY_HAND = {"LOG_LEVEL": "error", "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD": "1"}


async def wireguard_go() -> str:
    """The binary that zos uses too."""
    named = os.environ.get(BINARY_SETTING)
    return named or str((await find_binaries(os.environ))[0][1])


class Contender(Protocol):
    """An overlay of FIRST and LAST."""

    name: str

    async def prepare(self) -> None:
        """Everything but the start of LAST."""

    async def start_last(self) -> None:
        """LAST starts; returns as soon as its programs do."""

    def netns(self) -> str:
        """The namespace, inside the lab node, in which an application runs; "" is the node's."""

    def address(self, node: str) -> str:
        """The overlay address of a node's application."""

    async def resident_bytes(self, node: str) -> int:
        """Resident memory of this overlay's processes on a node."""


class ByHand:
    """wireguard-go and four commands a machine: the floor."""

    def __init__(self, lab: Lab, *, binary: str) -> None:
        self.name = "wireguard-go by hand"
        self._lab = lab
        self._binary = binary
        self._keys: dict[str, tuple[str, str]] = {}

    async def prepare(self) -> None:
        for name in (FIRST, LAST):
            node = self._lab.node(name)
            private = (await node.run("wg", "genkey")).text.strip()
            public = (await node.run("wg", "pubkey", input=private.encode())).text.strip()
            self._keys[name] = (private, public)
        await self._start(FIRST, LAST)

    async def start_last(self) -> None:
        await self._start(LAST, FIRST)

    def netns(self) -> str:
        return ""

    def address(self, node: str) -> str:
        return "10.77.0.1" if node == FIRST else "10.77.0.2"

    async def resident_bytes(self, node: str) -> int:
        return await resident(self._lab.node(node), "wireguard-go")

    async def _start(self, name: str, peer: str) -> None:
        node = self._lab.node(name)
        conf = (
            f"[Interface]\nPrivateKey = {self._keys[name][0]}\nListenPort = {WIREGUARD_PORT}\n"
            f"[Peer]\nPublicKey = {self._keys[peer][1]}\nAllowedIPs = {self.address(peer)}/32\n"
            f"Endpoint = {self._lab.node(peer).ipv4}:{WIREGUARD_PORT}\n"
        )
        await node.run(self._binary, "wg0", env=BY_HAND)
        await node.run("wg", "setconf", "wg0", "/dev/stdin", input=conf.encode())
        batch = f"address add {self.address(name)}/24 dev wg0\nlink set wg0 mtu 1420 up\n"
        await node.run("ip", "-batch", "-", input=batch.encode())


class ByHandBehindBridge:
    """wireguard-go by hand on the topology of zos: device and bridge in a netns of the tenant's,
    the application in another one, on the far end of a veth pair. No firewall.
    """

    def __init__(self, lab: Lab, *, binary: str) -> None:
        self.name = "wireguard-go by hand, same topology"
        self._lab = lab
        self._binary = binary
        self._keys: dict[str, tuple[str, str]] = {}

    async def prepare(self) -> None:
        for name in (FIRST, LAST):
            node = self._lab.node(name)
            private = (await node.run("wg", "genkey")).text.strip()
            public = (await node.run("wg", "pubkey", input=private.encode())).text.strip()
            self._keys[name] = (private, public)
            for netns in ("hand", self.netns()):
                await node.add_namespace(netns)
        await self._start(FIRST, LAST)

    async def start_last(self) -> None:
        await self._start(LAST, FIRST)

    def netns(self) -> str:
        return "hand-app"

    def address(self, node: str) -> str:
        return f"10.76.{_number(node)}.2"

    async def resident_bytes(self, node: str) -> int:
        return await resident(self._lab.node(node), "wireguard-go")

    async def _start(self, name: str, peer: str) -> None:
        node, gateway = self._lab.node(name), f"10.76.{_number(name)}.1"
        conf = (
            f"[Interface]\nPrivateKey = {self._keys[name][0]}\nListenPort = {ROUTED_PORT}\n"
            f"[Peer]\nPublicKey = {self._keys[peer][1]}\n"
            f"AllowedIPs = 10.76.{_number(peer)}.0/24\n"
            f"Endpoint = {self._lab.node(peer).ipv4}:{ROUTED_PORT}\n"
        )
        await node.run(self._binary, "wg1", env=BY_HAND)
        await node.run("wg", "setconf", "wg1", "/dev/stdin", input=conf.encode())
        await node.run("ip", "link", "set", "wg1", "netns", "hand")
        tenant = (
            "link add br0 type bridge\n"
            f"link add port type veth peer name eth0 netns {self.netns()}\n"
            f"address add {gateway}/24 dev br0\n"
            "link set port mtu 1420 master br0 up\nlink set br0 mtu 1420 up\n"
            f"link set wg1 mtu 1420 up\nroute add 10.76.0.0/16 dev wg1\n"
        )
        application = (
            f"address add {self.address(name)}/24 dev eth0\nlink set eth0 mtu 1420 up\n"
            f"route add default via {gateway}\n"
        )
        await node.run("ip", "-batch", "-", input=tenant.encode(), netns="hand")
        await node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", netns="hand")
        await node.run("ip", "-batch", "-", input=application.encode(), netns=self.netns())


class Nebula:
    """Debian's nebula: FIRST is the lighthouse."""

    def __init__(self, lab: Lab, *, scratch: Path) -> None:
        self.name = "nebula"
        self._lab = lab
        self._scratch = scratch

    async def prepare(self) -> None:
        first = self._lab.node(FIRST)
        directory = self._scratch / "nebula"
        directory.mkdir()
        await first.run("nebula-cert", "ca", "-name", "bench", cwd=str(directory))
        for name in (FIRST, LAST):
            argv = ("nebula-cert", "sign", "-name", name, "-ip", f"{self.address(name)}/24")
            await first.run(*argv, cwd=str(directory))
            (directory / f"{name}.yml").write_text(self._configuration(directory, name))
        await self._start(FIRST)
        await asyncio.sleep(1)  # nebula says nothing when it is ready

    async def start_last(self) -> None:
        await self._start(LAST)

    def netns(self) -> str:
        return ""

    def address(self, node: str) -> str:
        return "10.78.0.1" if node == FIRST else "10.78.0.2"

    async def resident_bytes(self, node: str) -> int:
        return await resident(self._lab.node(node), "nebula")

    def _configuration(self, directory: Path, name: str) -> str:
        lighthouses = "[]" if name == FIRST else f'["{self.address(FIRST)}"]'
        return f"""
pki: {{ca: {directory}/ca.crt, cert: {directory}/{name}.crt, key: {directory}/{name}.key}}
static_host_map: {{"{self.address(FIRST)}": ["{self._lab.node(FIRST).ipv4}:4242"]}}
lighthouse: {{am_lighthouse: {str(name == FIRST).lower()}, interval: 60, hosts: {lighthouses}}}
listen: {{host: 0.0.0.0, port: 4242}}
tun: {{dev: nebula0, mtu: 1420}}
firewall:
  outbound: [{{port: any, proto: any, host: any}}]
  inbound: [{{port: any, proto: any, host: any}}]
"""

    async def _start(self, name: str) -> None:
        conf = self._scratch / "nebula" / f"{name}.yml"
        await self._lab.node(name).spawn("nebula", "-config", str(conf), log="nebula")


class Tinc:
    """Debian's tinc 1.0: LAST connects to FIRST."""

    def __init__(self, lab: Lab, *, scratch: Path) -> None:
        self.name = "tinc"
        self._lab = lab
        self._scratch = scratch

    async def prepare(self) -> None:
        for name in (FIRST, LAST):
            directory = self._scratch / "tinc" / name
            (directory / "hosts").mkdir(parents=True)
            connect = f"ConnectTo = {FIRST}\n" if name == LAST else ""
            (directory / "tinc.conf").write_text(f"Name = {name}\nInterface = tinc0\n{connect}")
            up = directory / "tinc-up"
            up.write_text(
                "#!/bin/sh\n"
                f"ip address add {self.address(name)}/24 dev tinc0\n"
                "ip link set tinc0 up\n"
            )
            up.chmod(0o755)
            node = self._lab.node(name)
            host = f"Address = {node.ipv4}\nSubnet = {self.address(name)}/32\n"
            (directory / "hosts" / name).write_text(host)
            # Asks where to put the keys; an empty answer takes what it proposes.
            await node.run("tincd", "-c", str(directory), "-K", "2048", input=b"\n\n")
        for name, peer in ((FIRST, LAST), (LAST, FIRST)):
            hosts = self._scratch / "tinc" / name / "hosts"
            shutil.copy(self._scratch / "tinc" / peer / "hosts" / peer, hosts)
        await self._start(FIRST)
        await asyncio.sleep(1)  # tinc says nothing when it is ready

    async def start_last(self) -> None:
        await self._start(LAST)

    def netns(self) -> str:
        return ""

    def address(self, node: str) -> str:
        return "10.79.0.1" if node == FIRST else "10.79.0.2"

    async def resident_bytes(self, node: str) -> int:
        return await resident(self._lab.node(node), "tincd")

    async def _start(self, name: str) -> None:
        directory = str(self._scratch / "tinc" / name)
        pidfile = f"--pidfile=/run/tinc.{name}.pid"
        await self._lab.node(name).spawn("tincd", "-D", "-c", directory, pidfile, log="tinc")


class Zos:
    """The shipped zos. An application is a workload in the tenant's network."""

    def __init__(self, lab: Lab) -> None:
        self.name = "zos"
        self.fleet = Fleet(lab)
        self._lab = lab
        self._addresses: dict[str, str] = {}
        self._options: dict[str, tuple[str, ...]] = {}

    async def prepare(self) -> None:
        fleet = self.fleet
        await fleet.start_registry()
        operator, farm_id = await fleet.operator()
        for name in (FIRST, LAST):
            endpoint = str(self._lab.node(name).ipv4)
            self._options[name] = ("--farm", farm_id, "--endpoint", endpoint)
            await fleet.start_node(name, *self._options[name])
            await operator.zos("farm", "add-node", "basement", fleet.node_ids[name], "--as", name)
        alice = await fleet.tenant("alice")
        await alice.zos(
            "network", "create", "home", "--range", "10.80.0.0/16", "--owner", "alice",
            "--registry", fleet.registry,
        )  # fmt: skip
        for name in (FIRST, LAST):
            await alice.zos("network", "add-node", "home", fleet.node_ids[name], "--as", name)
            await fleet.zos(name, "wait", "home", "--timeout", "30s")
            await self._lab.node(name).add_namespace("app")
            argv = ("attach", "home", "app", "--netns", "/run/netns/app")
            made = await fleet.zos(name, *argv)
            self._addresses[name] = made["attachment"]["address_v4"].partition("/")[0]
        await fleet.stop_node(LAST)
        await end_all(self._lab.node(LAST), "wireguard-go")

    async def start_last(self) -> None:
        await self.fleet.start_node(LAST, *self._options[LAST], wait=False)

    def netns(self) -> str:
        return "app"

    def address(self, node: str) -> str:
        return self._addresses[node]

    async def resident_bytes(self, node: str) -> int:
        at = self._lab.node(node)
        return await resident(at, "zos") + await resident(at, "wireguard-go")


def _number(node: str) -> int:
    return 1 if node == FIRST else 2


async def resident(node: LabNode, program: str) -> int:
    """Resident memory of every process of a node's namespace that runs `program`."""
    return sum(_resident_of(pid) for pid in _processes(node, program))


async def end_all(node: LabNode, program: str) -> None:
    """End these processes of a node, as a power cut would."""
    for pid in _processes(node, program):
        os.kill(pid, 9)


def _processes(node: LabNode, program: str) -> Iterable[int]:
    namespace = node.netns_path.stat().st_ino
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if (entry / "ns/net").stat().st_ino != namespace:
                continue
        except OSError:
            continue  # it ended while we looked
        if program in (Path(os.fsdecode(word)).name for word in words[:2]):
            yield int(entry.name)


def _resident_of(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0
