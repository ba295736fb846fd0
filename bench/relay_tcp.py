"""The last resort beside the relay it stands in for: one side by TLS over TCP, and both.

One lab of three nodes and one `zos relay serve`. Three pairs of devices of the same binary have no
way but the relay: by UDP, one side through a shim, and both. They take turns within one run; what
is claimed is the median of the ratios of neighbouring runs. Latency is that of pings on a way that
carries nothing else. Then what an idle connection costs the relay.

    python -m bench.relay_tcp [--seconds 3] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench.contenders import resident, wireguard_go
from bench.relay import TOPOLOGY, Pair, serve
from bench.report import Limit, emit, spread
from netlab.lab import Lab
from overlay.addressing import parse_endpoint
from overlay.documents.relays import Relay
from overlay.keys.wireguard import parse_public_key, wireguard_form
from overlay.peers.pinning import PinnedKey
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.shim import Shim
from overlay.relay.websocket import PATH

TLS_PORT = 443
PINGS = 300
PING_EVERY_S = 0.01
IDLE = 100  # connections
IDLE_S = 3.0
MIN_RATIO = 0.1
MAX_ADDED_MS = 5.0
MAX_IDLE_BYTES = 100e3
NAMES = ("by UDP", "one side by TCP", "both by TCP")


@dataclass
class Way:
    """A pair, and what was seen of it: Mbit/s, milliseconds there and back."""

    pair: Pair
    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    async def ping(self) -> None:
        options = ("-q", "-i", str(PING_EVERY_S), "-c", str(PINGS))
        done = await self.pair.lab.node("n2").run("ping", *options, self.pair.address("n1"))
        self.times.append(float(re.findall(r"= [\d.]+/([\d.]+)/", done.text)[0]))


async def observe(*, seconds: int, rounds: int) -> tuple[list[Way], float]:
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with Lab.create(TOPOLOGY, workdir=Path(scratch) / "lab") as lab:
            binary = await wireguard_go()
            ways = [Way(Pair(lab, 12 + n, binary)) for n in range(len(NAMES))]
            listen = ("--tls-listen", f"0.0.0.0:{TLS_PORT}")
            public = await serve(lab, *(way.pair for way in ways), more=listen)
            for way, sides in zip(ways, ((), ("n1",), ("n1", "n2")), strict=True):
                shims = {name: await _shim(way.pair, name, public) for name in sides}
                await way.pair.start(public, shims)
            for number in range(rounds):
                for way in ways if number % 2 else reversed(ways):
                    way.rates.append(await way.pair.megabits(seconds=seconds))
                    await way.ping()
            return ways, await _idle(lab, public)


async def _shim(pair: Pair, name: str, public: str) -> str:
    """A shim runs at a node, for the pair's device there; its endpoint."""
    at = f"{pair.lab.node('relay').ipv4}:{TLS_PORT}"
    argv = ("--shim", public, at, str(pair.port))
    log = f"shim-{pair.number}"
    started = await pair.lab.node(name).spawn(
        sys.executable, "-m", "bench.relay_tcp", *argv, cwd=str(Path.cwd()), log=log
    )
    async with asyncio.timeout(30):
        while started.log is None or "\n" not in started.log.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return started.log.read_text().strip()


async def shim(public: str, at: str, port: int) -> None:
    endpoint = parse_endpoint(at)
    relay = Relay("relay", "", public, (), endpoint.port)
    there = Shim(relay, [endpoint], family=4, listen_port=port, backoff=Backoff(lambda: 0.5))
    print(there.endpoint, flush=True)
    await there.run()


async def _idle(lab: Lab, public: str) -> float:
    """Bytes that the relay holds for a connection on which nothing was said yet."""
    argv = ("--idle", public, f"{lab.node('relay').ipv4}:{TLS_PORT}")
    before = await resident(lab.node("relay"), "zos")
    calling = await lab.node("n3").spawn(
        sys.executable, "-m", "bench.relay_tcp", *argv, cwd=str(Path.cwd()), log="idle"
    )
    async with asyncio.timeout(30):
        while calling.log is None or "held" not in calling.log.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    after = await resident(lab.node("relay"), "zos")
    await calling.wait()
    return (after - before) / IDLE


async def idle(public: str, at: str) -> None:
    pin = PinnedKey(parse_public_key(public), form=wireguard_form)
    connector = aiohttp.TCPConnector(ssl=pin, limit=IDLE, family=socket.AF_INET)
    async with aiohttp.ClientSession(connector=connector) as session:
        held = [await session.ws_connect(f"https://{at}{PATH}", compress=0) for _ in range(IDLE)]
        print(len(held), "held", flush=True)
        await asyncio.sleep(IDLE_S)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shim", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--idle", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.shim:
        asyncio.run(shim(options.shim[0], options.shim[1], int(options.shim[2])))
        return
    if options.idle:
        asyncio.run(idle(*options.idle))
        return
    ways, idle_bytes = asyncio.run(observe(seconds=options.seconds, rounds=options.rounds))
    udp, *others = ways
    figures: dict[str, object] = {}
    limits = []
    for name, way in zip(NAMES, ways, strict=True):
        figures[f"{name}, Mbit/s"] = spread(way.rates)
        figures[f"{name}, ms there and back"] = spread(way.times)
    for name, way in zip(NAMES[1:], others, strict=True):
        ratios = spread([a / b for a, b in zip(way.rates, udp.rates, strict=True)])
        added = spread([a - b for a, b in zip(way.times, udp.times, strict=True)])
        figures[f"{name} / by UDP"] = ratios
        figures[f"{name}, ms added"] = added
        limits += [
            Limit(f"TCP, {name} / by UDP, p50", ratios["p50"], MIN_RATIO, at_least=True),
            Limit(f"ms added, {name}, p50", added["p50"], MAX_ADDED_MS),
        ]
    figures["bytes of an idle connection at the relay"] = round(idle_bytes)
    limits.append(Limit("bytes of an idle connection", idle_bytes, MAX_IDLE_BYTES))
    emit("relay_tcp", figures=figures, limits=limits)


if __name__ == "__main__":
    main()
