"""Every kind of NAT with every other: who meets whom by which way (NODE-072).

What is expected is derived from RFC 4787 and not from what is seen.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import combinations_with_replacement

from netlab.fleet.fleet import Fleet
from netlab.fleet.greeter import NONCE_BYTES, PORT, QUESTION
from netlab.nat import Nat
from netlab.topology import Link, Node, Router, Tenant, TenantNetwork, Topology, Workload
from tests.lab.meeting import ways_from

EI, AD, APD = "endpoint-independent", "address-dependent", "address-and-port-dependent"
KINDS: dict[str, Nat] = {
    "full": Nat(EI, EI),
    "restricted": Nat(EI, AD),
    "port": Nat(EI, APD),
    "shuffled": Nat(EI, APD, "random"),
    "address": Nat(AD, AD, "random"),
    "address-port": Nat(AD, APD, "random"),
    "symmetric": Nat(APD, APD, "random"),
    "open-symmetric": Nat(APD, EI, "random"),
}
# Behind a firewall that lets no UDP pass, whatever its NAT would do with it.
BLOCKED = "blocked"
ALL_KINDS = (*KINDS, BLOCKED)
Kinds = Sequence[str]
Pair = tuple[str, str]
EVERY_S = 0.1
VIA, VIA_TCP = "via relay r1", "via relay r1 over TCP"


def opens(caller: Nat, called: Nat) -> bool:
    """Whether what `caller` sends to where a relay hears `called` comes in.

    Both have sent to where the relay hears the other, so an address is known to every filter, for
    filters are of the inner endpoint (section 5). A port is known only where the caller leaves by
    the one that the relay hears, and leads inside only by a mapping that is not the relay's alone.
    What comes in is answered by the way that it came.
    """
    match called.filtering:
        case "endpoint-independent" | "address-dependent":
            return True
        case _:
            return caller.mapping == EI and called.mapping == EI


def expected(near: str, far: str) -> str:
    """By which way they meet; "relayed over TCP" when one side at least reaches the relay so."""
    if BLOCKED in (near, far):
        return "relayed over TCP"
    one, other = KINDS[near], KINDS[far]
    return "punched" if opens(one, other) or opens(other, one) else "relayed"


def pairs_of(kinds: Kinds) -> tuple[Pair, ...]:
    """Every kind with every kind, itself among them."""
    return tuple(combinations_with_replacement(kinds, 2))


def topology(kinds: Kinds) -> Topology:
    """Two nodes of each kind, each behind a router of its own, and one relay in the open."""
    names = [f"{kind}-{n}" for kind in kinds for n in (1, 2)]
    home = TenantNetwork(
        "home",
        nodes=tuple(f"n-{name}" for name in names),
        workloads=tuple(Workload(f"w-{name}", f"n-{name}") for name in names),
    )
    return Topology(
        nodes=(
            Node("registry", role="registry"),
            Node("r1", role="node"),
            *(Node(f"n-{name}", (Link(f"h-{name}", ipv6=False),), role="node") for name in names),
        ),
        routers=tuple(map(_router, names)),
        tenants=(Tenant("alice", (home,)),),
    )


def _router(name: str) -> Router:
    kind = name.rpartition("-")[0]
    if kind == BLOCKED:
        return Router(f"h-{name}", nat=KINDS["full"], firewall="block-udp")
    return Router(f"h-{name}", nat=KINDS[kind])


def ends(pair: Pair) -> tuple[str, str]:
    """The nodes that stand for a pair of kinds."""
    near, far = pair
    return f"{near}-1", f"{far}-2"


async def until_as_expected(fleet: Fleet, kinds: Kinds, *, within_s: float) -> Counter[str]:
    """Every pair is answered, by the way that is expected; gives how many go which."""
    pairs = pairs_of(kinds)
    wanted = {pair: expected(*pair) for pair in pairs}
    async with talking(fleet, pairs) as answered:
        deadline = time.monotonic() + within_s
        while (found := await ways(fleet, pairs)) != wanted or len(answered) < len(pairs):
            wrong = {pair: found[pair] for pair in pairs if found[pair] != wanted[pair]}
            assert time.monotonic() < deadline, f"{wrong}; silent: {set(pairs) - answered}"
            await asyncio.sleep(0.5)
    return Counter(found.values())


async def ways(fleet: Fleet, pairs: Iterable[Pair]) -> dict[Pair, str]:
    found, said = {}, {}
    for name in sorted({f"n-{end}" for pair in pairs for end in ends(pair)}):
        said[name] = await ways_from(fleet, name)
    for pair in pairs:
        near, far = (f"n-{end}" for end in ends(pair))
        both = [said[a].get(b, "none") for a, b in ((near, far), (far, near))]
        found[pair] = _word(both, [VIA_TCP if kind == BLOCKED else VIA for kind in pair])
    return found


def _word(both: list[str], at_relay: list[str]) -> str:
    """One word for how two say that they reach each other. `at_relay`: if they meet there."""
    if both != at_relay:
        return " ".join(sorted(set(both)))
    return "relayed over TCP" if VIA_TCP in both else "relayed"


@asynccontextmanager
async def talking(fleet: Fleet, pairs: Iterable[Pair]) -> AsyncIterator[set[Pair]]:
    """Each pair asks ten times a second; gives who was answered."""
    answered: set[Pair] = set()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_ask(fleet, pair, answered), name=str(pair)) for pair in pairs]
        yield answered
        for task in tasks:
            task.cancel()


async def _ask(fleet: Fleet, pair: Pair, answered: set[Pair]) -> None:
    near, far = (fleet.inside[f"alice/home/w-{name}"] for name in ends(pair))
    with fleet.lab.node(near.at).in_netns(near.netns):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with udp:
        while True:
            with suppress(OSError):
                udp.sendto(QUESTION + bytes(NONCE_BYTES), (far.v4, PORT))
            await asyncio.sleep(EVERY_S)
            with suppress(OSError):
                udp.recv(512)
                answered.add(pair)
