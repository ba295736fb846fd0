"""TCP through a relay beside the same two wireguard-go without one, and what a relay holds.

One lab of three nodes. Two devices on each outer node, of the same binary: one pair has the other's
address as its endpoint, the others the relay's, which runs `zos relay serve`. Of one of these the
kernel passes on what is established (`bench/relay_offload.py`). They take turns within one run, and
what is claimed is the median of the ratios of neighbouring runs. Then a fourth
node floods the relay with initiations that nobody signed, while the relayed pair counts its lost
pings. And 1 000 members and 12 000 sessions in one table: memory, and the time that one packet of
data takes there.

    python -m bench.relay [--seconds 3] [--rounds 7]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import socket
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from types import MappingProxyType

from bench.contenders import BY_HAND, wireguard_go
from bench.report import Limit, emit, spread
from netlab.lab import Lab
from netlab.topology import Node, Topology
from overlay.documents.relays import DEFAULT_RELAY_PORT
from overlay.keys.store import generate_wireguard_key
from overlay.keys.wireguard import WireGuardKey, format_key, parse_public_key
from overlay.relay.limits import Place
from overlay.relay.messages import DATA, INITIATION, RESPONSE, mac1_key, with_mac1
from overlay.relay.table import Statistics, Table
from tests.wg_initiator import Initiator

TOPOLOGY = Topology(name="relay", nodes=(Node("relay"), Node("n1"), Node("n2"), Node("n3")))
ZOS = str(Path(sys.executable).parent / "zos")
STATE = "/var/lib/zos/relay"
PATIENCE_S = 60.0
NETWORKS, MEMBERS_EACH = 40, 25
DATA_PACKETS = 200_000
DATA_BYTES = 1_452

FLOOD_PER_S = 50_000
FLOOD_S = 6.0
PINGS = 1_000
PING_EVERY_S = 0.004

MIN_RATIO = 0.25
MAX_LOST = 0.01
MAX_BYTES_PER_SESSION = 4_096.0
MAX_STEP_US = 20.0


@dataclass
class Pair:
    """Two devices of wireguard-go, of n1 and of n2, directly or by way of a relay."""

    lab: Lab
    number: int
    binary: str
    keys: dict[str, WireGuardKey] = field(
        default_factory=lambda: {name: generate_wireguard_key() for name in ("n1", "n2")}
    )

    def address(self, name: str) -> str:
        return f"10.{self.number}.0.{name[1:]}"

    @property
    def port(self) -> int:
        return 40_000 + self.number

    async def start(self, relay: str = "", shims: Mapping[str, str] = MappingProxyType({})) -> None:
        """`relay`: its public key, for the pair that has no other way; `shims`: by which port."""
        for name, other in (("n1", "n2"), ("n2", "n1")):
            node, port = self.lab.node(name), self.port
            through = shims.get(name, f"{self.lab.node('relay').ipv4}:{DEFAULT_RELAY_PORT}")
            endpoint = through if relay else f"{self.lab.node(other).ipv4}:{port}"
            conf = (
                f"[Interface]\nPrivateKey = {format_key(self.keys[name].reveal())}\n"
                f"ListenPort = {port}\n"
                f"[Peer]\nPublicKey = {format_key(self.keys[other].public_key)}\n"
                f"Endpoint = {endpoint}\nAllowedIPs = {self.address(other)}/32\n"
            )
            if relay:
                conf += f"[Peer]\nPublicKey = {relay}\nEndpoint = {through}\n"
                conf += "PersistentKeepalive = 25\n"
            link = f"wg{self.number}"
            await node.run(self.binary, link, env=BY_HAND)
            await node.run("wg", "setconf", link, "/dev/stdin", input=conf.encode())
            batch = f"address add {self.address(name)}/24 dev {link}\nlink set {link} mtu 1420 up\n"
            await node.run("ip", "-batch", "-", input=batch.encode())
        async with asyncio.timeout(PATIENCE_S):
            ping = ("ping", "-c", "1", "-W", "1", self.address("n1"))
            while (await self.lab.node("n2").run(*ping, check=False)).returncode != 0:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def megabits(self, *, seconds: int) -> float:
        """TCP from n2 to n1."""
        target = self.address("n1")
        server = await self.lab.node("n1").spawn(
            "iperf3", "--server", "--one-off", "--bind", target, log="iperf3"
        )
        await asyncio.sleep(0.3)
        done = await self.lab.node("n2").run(
            "iperf3", "--client", target, "--time", str(seconds), "--json", timeout_s=seconds + 20
        )
        await server.wait()
        return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"]) / 1e6


@dataclass
class Seen:
    """Mbit/s, one value a round; forged initiations a second; the share of pings lost meanwhile."""

    bare: list[float] = field(default_factory=list)
    relayed: list[float] = field(default_factory=list)
    offloaded: list[float] = field(default_factory=list)
    offloaded_bytes: int = 0
    flood_per_s: float = 0.0
    lost: float = 1.0


async def observe(*, seconds: int, rounds: int) -> Seen:
    seen = Seen()
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            binary = await wireguard_go()
            bare, relayed, offloaded = (Pair(lab, number, binary) for number in (11, 12, 13))
            await bare.start()
            public = await serve(lab, relayed, offloaded)
            await relayed.start(public)
            await offloaded.start(public)
            for number in range(rounds):
                turns = [
                    (bare, seen.bare),
                    (relayed, seen.relayed),
                    (offloaded, seen.offloaded),
                ]
                for pair, rates in turns if number % 2 else reversed(turns):
                    if pair is offloaded:
                        await _offload(lab, pair)
                    rates.append(await pair.megabits(seconds=seconds))
                    if pair is offloaded:
                        seen.offloaded_bytes += await _passed_bytes(lab)
            seen.flood_per_s, seen.lost = await _flooded(lab, relayed, public)
    return seen


async def _offload(lab: Lab, pair: Pair) -> None:
    """What this pair says from now on is passed on by the kernel."""
    options = ("-q", "-i", "0.05", "-c", "40", pair.address("n1"))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(lab.node("n2").run("ping", *options, check=False), name="ping")
        argv = (sys.executable, "-m", "bench.relay_offload", str(DEFAULT_RELAY_PORT))
        await lab.node("relay").run(*argv, cwd=str(Path.cwd()))


async def _passed_bytes(lab: Lab) -> int:
    listed = await lab.node("relay").run("nft", "list", "counters")
    return int(re.findall(r"bytes (\d+)", listed.text)[0])


async def _flooded(lab: Lab, pair: Pair, public: str) -> tuple[float, float]:
    """How many forged initiations a second there were, and which share of pings was lost."""
    argv = (sys.executable, "-m", "bench.relay", "--flood", str(lab.node("relay").ipv4), public)
    async with asyncio.TaskGroup() as tasks:
        flood = tasks.create_task(
            lab.node("n3").run(*argv, cwd=str(Path.cwd()), timeout_s=PATIENCE_S), name="flood"
        )
        await asyncio.sleep(1.5)  # it has begun
        options = ("-q", "-i", str(PING_EVERY_S), "-c", str(PINGS), "-W", "2")
        pinged = await lab.node("n2").run("ping", *options, pair.address("n1"), check=False)
    received = int(re.findall(r"(\d+) received", pinged.text)[0])
    return float(flood.result().text) / FLOOD_S, 1 - received / PINGS


def flood(address: str, public: str) -> None:
    """Initiations with a mac1 that everybody can make, and nothing genuine in them."""
    key = mac1_key(parse_public_key(public))
    packet = with_mac1(_words(INITIATION, 1) + bytes(140), key)
    began, count = time.perf_counter(), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, DEFAULT_RELAY_PORT))
        while (elapsed := time.perf_counter() - began) < FLOOD_S:
            if count >= elapsed * FLOOD_PER_S:
                time.sleep(0.0005)
                continue
            sock.send(packet)
            count += 1
    print(count)


async def serve(lab: Lab, *pairs: Pair, more: Sequence[str] = ()) -> str:
    """`zos relay serve` runs for these pairs, a network for each; its public key."""
    node = lab.node("relay")
    folder = node.path(STATE)
    folder.mkdir(mode=0o700)
    networks = []
    for pair in pairs:
        keys = [format_key(key.public_key) for key in pair.keys.values()]
        networks.append(f"[network.bench-{pair.number}]\nmembers = {keys}\n")
    (folder / "members.toml").write_text("".join(networks))
    made = await node.run(ZOS, "relay", "key", "new", f"{STATE}/key")
    options = ("--key", f"{STATE}/key", "--members", f"{STATE}/members.toml")
    await node.spawn(ZOS, "relay", "serve", *options, *more, log="relay")
    return made.text.strip()


def hold() -> tuple[Statistics, float, float]:
    """What a table holds, its bytes in all, and the microseconds of a packet of data."""
    relay, chance = generate_wireguard_key(), random.Random(0)
    keys = [generate_wireguard_key() for _ in range(NETWORKS * MEMBERS_EACH)]
    places: list[Place] = [(f"192.0.{n // 250}.{n % 250 + 1}", 1_000 + n) for n in range(len(keys))]
    groups = [range(n, n + MEMBERS_EACH) for n in range(0, len(keys), MEMBERS_EACH)]
    tracemalloc.start()
    now = 0.0
    table = Table(relay, random_bytes=chance.randbytes, now=now, is_own=lambda _: False)
    table.allow(
        {str(n): frozenset(keys[m].public_key for m in each) for n, each in enumerate(groups)}
    )
    for key, place in zip(keys, places, strict=True):
        now += 0.01
        asking = Initiator(key, relay.public_key)
        answer = table.step(now, place, asking.initiation(now, index=1))
        if answer is not None:
            asking.finish(answer[1])
            table.step(now, place, asking.data())
    pairs = [pair for each in groups for pair in combinations(each, 2)]
    for number, (one, two) in enumerate(pairs):
        now += 0.001
        asked = _words(INITIATION, 2 * number + 1) + bytes(140)
        answered = _words(RESPONSE, 2 * number + 2, 2 * number + 1) + bytes(80)
        there = with_mac1(asked, mac1_key(keys[two].public_key))
        table.step(now, places[one], there)
        table.step(now, places[two], with_mac1(answered, mac1_key(keys[one].public_key)))
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    chosen = chance.choices(range(len(pairs)), k=DATA_PACKETS)
    packets = [
        (places[pairs[number][0]], _words(DATA, 2 * number + 2) + bytes(DATA_BYTES - 8))
        for number in chosen[:1_000]
    ]
    began = time.perf_counter()
    for number in range(DATA_PACKETS):
        place, packet = packets[number % len(packets)]
        table.step(now, place, packet)
    each_us = (time.perf_counter() - began) / DATA_PACKETS * 1e6
    return table.statistics(), float(held), each_us


def _words(*words: int) -> bytes:
    return b"".join(word.to_bytes(4, "little") for word in words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--flood", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        flood(*options.flood)
        return
    found, held, each_us = hold()
    seen = asyncio.run(observe(seconds=options.seconds, rounds=options.rounds))
    ratios = spread([ours / theirs for ours, theirs in zip(seen.relayed, seen.bare, strict=True)])
    in_kernel = spread([o / theirs for o, theirs in zip(seen.offloaded, seen.bare, strict=True)])
    per_session = held / found.sessions
    emit(
        "relay",
        figures={
            "wireguard-go, Mbit/s": spread(seen.bare),
            "through the relay, Mbit/s": spread(seen.relayed),
            "through the relay / without": ratios,
            "passed on by the kernel, Mbit/s": spread(seen.offloaded),
            "passed on by the kernel / without": in_kernel,
            "bytes that the kernel passed on": seen.offloaded_bytes,
            "forged initiations a second": round(seen.flood_per_s),
            "share of pings lost meanwhile": seen.lost,
            "members held": found.members,
            "sessions held": found.sessions,
            "bytes held": held,
            "packets forwarded in the table": found.packets,
            "us for a packet of data in the table": round(each_us, 3),
        },
        limits=[
            Limit("TCP, relayed / direct, p50", ratios["p50"], MIN_RATIO, at_least=True),
            Limit(
                "forged initiations a second", seen.flood_per_s, FLOOD_PER_S * 0.8, at_least=True
            ),
            Limit("share of pings lost meanwhile", seen.lost, MAX_LOST),
            Limit("members held", found.members, NETWORKS * MEMBERS_EACH, at_least=True),
            Limit("sessions held", found.sessions, 10_000, at_least=True),
            Limit("bytes per session, members included", per_session, MAX_BYTES_PER_SESSION),
            Limit("us for a packet of data in the table", each_us, MAX_STEP_US),
        ],
    )


if __name__ == "__main__":
    main()
