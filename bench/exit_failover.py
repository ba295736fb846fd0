"""Three ways for an exit to fail, and how long until the internet answers by the next one.

A workload asks somebody in the internet a hundred times a second by the exit that was elected. Its
machine is killed, its uplink is unplugged, or its beacons fall silent while all else works; "s" is
from that moment to the first answer by way of the other exit. All the time what leaves the node's
own uplinks is looked at: whatever goes to the internet host there would be a leak. At last the
beacons of both exits come and go in turns, for two minutes and more.

    python -m bench.exit_failover [--rounds 20]
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path

from bench.report import Limit, emit, spread
from netlab.fleet.fleet import Fleet
from netlab.lab import Lab
from tests.lab.leaving import (
    EGRESSES,
    EXITS,
    HOST_4,
    HOST_6,
    SITE,
    Answers,
    asking_outside,
    network_status,
    offer,
    topology,
    unplug,
    with_exits,
)
from tests.lab.scene import until

LIMIT_S = 3.0
FLAPPING_S, TURN_S = 130.0, 4.0
MINUTE_S = 60.0
ETH_P_ALL = 0x0003
HOSTS = (ip_address(HOST_4).packed, ip_address(HOST_6).packed)

Fail = Callable[[Fleet, str], Awaitable[None]]


async def silence(fleet: Fleet, name: str) -> None:
    """The beacons do not answer it any more; the exit forwards as before."""
    drops = " ".join(
        f"ip6 saddr {each} icmpv6 type echo-request drop;"
        if ":" in each
        else f"ip saddr {each} icmp type echo-request drop;"
        for each in EGRESSES[name].seen_as
    )
    rules = (
        f"table inet quiet-{name} {{ chain in {{ type filter hook input priority 0; {drops} }}; }}"
    )
    await fleet.lab.node(SITE).run("nft", "-f", "-", input=rules.encode())


async def speak(fleet: Fleet, name: str) -> None:
    """The beacons answer it again."""
    await fleet.lab.node(SITE).run("nft", "delete", "table", "inet", f"quiet-{name}")


async def kill(fleet: Fleet, name: str) -> None:
    await fleet.lab.node(name).kill()


async def one_round(fail: Fail) -> tuple[float, int]:
    """A lab of its own: an exit that failed would have to be left alone for a minute."""
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with (
            Lab.create(topology(), workdir=Path(scratch) / "lab") as lab,
            with_exits(lab) as fleet,
            asking_outside(fleet) as answers,
            leaks(fleet) as leaked,
        ):
            used = await _begin(fleet, answers)
            failed = time.monotonic()
            await fail(fleet, used)
            other = next(name for name in EXITS if name != used)

            async def moved() -> bool:
                return other in answers.by_since(failed)

            await until(moved, f"{other} after {used}", within_s=20)
            return answers.first_by(other, since=failed) or 0.0, len(leaked)


async def flapping() -> tuple[int, int]:
    """The most switches within a minute, and in all, while no exit stays healthy."""
    with tempfile.TemporaryDirectory(prefix="zos-bench-") as scratch:
        async with (
            Lab.create(topology(), workdir=Path(scratch) / "lab") as lab,
            with_exits(lab) as fleet,
            asking_outside(fleet) as answers,
        ):
            used = await _begin(fleet, answers)
            other = next(name for name in EXITS if name != used)
            began = time.monotonic()
            while time.monotonic() < began + FLAPPING_S:
                for name in (used, other):
                    await silence(fleet, name)
                    await asyncio.sleep(TURN_S)
                    await speak(fleet, name)
            heard = [(at, by) for at, by in answers.heard if at >= began]
    switches = [at for (_, before), (at, by) in pairwise(heard) if by != before]
    most = max((sum(at <= s < at + MINUTE_S for s in switches) for at in switches), default=0)
    return most, len(switches)


async def _begin(fleet: Fleet, answers: Answers) -> str:
    alice = fleet.person("alice", at="registry")
    argv = ("network", "exit", "set", "home", *EXITS, "--registry", fleet.registry)
    await alice.zos(*argv)
    await offer(fleet, *EXITS)
    begun = time.monotonic()

    async def answered() -> bool:
        return bool(answers.by_since(begun))

    await until(answered, "the first exit", within_s=20)
    await asyncio.sleep(2.5)  # the other one was asked
    way = (await network_status(fleet, "n1")).way_out
    if way is None or way.exit is None:
        raise AssertionError(f"no way out: {way}")
    return way.exit


@asynccontextmanager
async def leaks(fleet: Fleet) -> AsyncIterator[list[bytes]]:
    """Frames to or from the internet host on the links of the workload's node itself."""
    found: list[bytes] = []
    with fleet.lab.node("n1").in_netns():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.setblocking(False)
    loop = asyncio.get_running_loop()

    def look() -> None:
        with suppress(OSError):
            frame = tap.recv(2_048)
            if any(host in frame[:54] for host in HOSTS):
                found.append(frame)

    with tap:
        loop.add_reader(tap, look)
        try:
            yield found
        finally:
            loop.remove_reader(tap)


async def measure(rounds: int) -> dict[str, list[tuple[float, int]]]:
    ways = {"machine killed": kill, "uplink unplugged": unplug, "beacons silent": silence}
    return {name: [await one_round(fail) for _ in range(rounds)] for name, fail in ways.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    found = asyncio.run(measure(parser.parse_args().rounds))
    most, switches = asyncio.run(flapping())
    seconds = {name: spread([s for s, _ in each]) for name, each in found.items()}
    leaked = sum(count for each in found.values() for _, count in each)
    emit(
        "exit_failover",
        figures={
            **{f"{name}, s": figures for name, figures in seconds.items()},
            f"switches in {FLAPPING_S:g} s of flapping": switches,
        },
        limits=[
            *(Limit(f"{name}, s, p95", each["p95"], LIMIT_S) for name, each in seconds.items()),
            Limit("frames that left by another way", leaked, 0),
            Limit("switches a minute while beacons flap", most, 1),
            Limit("switches while beacons flap", switches, 1, at_least=True),
        ],
    )


if __name__ == "__main__":
    main()
