"""What makes a link's impairments come true: which back end does what, and in which words.

Pure. The kernel's own netem where there is one; else nftables for losses and tbf for a rate, and
the pump for all that takes time. Scripted losses are nftables' in any case. Everything but a
queueing discipline sits at the far end, so that a node finds nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from netlab.impairment import Drop, Impairment, WireGuardMessage
from netlab.keeper import chance, marks, traffic
from netlab.keeper.schedule import NS_PER_S, queue_bytes
from netlab.wiring.wiring import Cable

Direction = Literal["up", "down"]

# nftables counts packets in rounds of this many and loses a seeded choice of each round.
LOSS_ROUND, LOSS_ROUND_FINE = 1_000, 10_000
# As good as never: a counter of messages begins anew after so many.
_NEVER = 1_000_000_000
_BURST_NS = 1_000_000
_ETHERNET_BYTES = 14

# The first four bytes of a WireGuard message (type, three zeros) and the length of its datagram.
_MESSAGES: dict[WireGuardMessage, tuple[str, int]] = {
    "initiation": ("0x01000000", 8 + 148),
    "response": ("0x02000000", 8 + 92),
    "cookie": ("0x03000000", 8 + 64),
    "data": ("0x04000000", 0),  # of any length
}
_PUMPED = "01:00:00:00:00:00"  # no sender's own address has this bit
_NOT_PUMPED = "fe:ff:ff:ff:ff:ff"


@dataclass(frozen=True, slots=True)
class Shares:
    """Who does what of one direction's impairment; None or zero: nothing."""

    rules_loss: float = 0.0
    drops: tuple[Drop, ...] = ()
    tbf_bit_s: int = 0
    netem: Impairment | None = None
    pump: Impairment | None = None

    @property
    def back_ends(self) -> tuple[str, ...]:
        named = (
            ("netem", self.netem is not None),
            ("tbf", self.tbf_bit_s),
            ("pump", self.pump is not None),
            ("nftables", self.rules_loss or self.drops),
        )
        return tuple(name for name, is_used in named if is_used)

    @property
    def error(self) -> str:
        """How far off each part may be, in words; the figures are measured (specs/064)."""
        return "; ".join(f"{name}: {_ERRORS[name]}" for name in self.back_ends)


_ERRORS = {
    "netem": "delay +0.1 ms; chance is not repeatable before Linux 6.6",
    "tbf": "rate +-1 %, bursts of one packet or 1 ms",
    "pump": "delay -0 +0.2 ms in 95 of 100, up to 30 000 packets/s; chance by seed and flow",
    "nftables": "losses exact over every 1 000 packets (10 000 below 0.1 %), by seed and order",
}


def divide(impairment: Impairment, *, has_netem: bool) -> Shares:
    loss, drops, rate = impairment.loss, impairment.drops, impairment.rate_bit_s
    if not impairment.needs_time:
        return Shares(rules_loss=loss, drops=drops, tbf_bit_s=rate)
    if has_netem:
        return Shares(rules_loss=loss, drops=drops, tbf_bit_s=rate, netem=impairment)
    return Shares(drops=drops, pump=impairment)


def key(cable: Cable) -> str:
    """What a cable is called that no other one is; chance follows from it."""
    return cable.names[-1]


def number_of(position: int, direction: Direction) -> int:
    """A direction's number in marks; no two cables of a lab have the same position."""
    return 2 * position + (direction == "down")


def listening_link(pumped: Impairment) -> str:
    """Where, in the far end's namespace, the pump finds the packets."""
    return marks.CUT_END if is_cut(pumped) else marks.WHOLE


def seed_of(lab_seed: int, link: str, direction: Direction) -> int:
    return chance.fold(chance.mix(lab_seed & chance.MASK), f"{link} {direction}".encode())


def terms(impairment: Impairment) -> dict[str, Any]:
    """The keyword arguments of schedule.Terms."""
    return {
        "delay_ns": round(impairment.delay_s * NS_PER_S),
        "jitter_ns": round(impairment.jitter_s * NS_PER_S),
        "loss": impairment.loss,
        "duplicate": impairment.duplicate,
        "reorder": impairment.reorder,
        "rate_bit_s": impairment.rate_bit_s,
    }


def is_cut(impairment: Impairment) -> bool:
    """Whether segments that the kernel carries as one have to be told apart."""
    chances = impairment.loss or impairment.duplicate or impairment.reorder
    return bool(chances or impairment.rate_bit_s)


def queueing(
    ifindex: int,
    *,
    mtu_bytes: int,
    before: Shares,
    after: Shares,
    seed: int,
    has_netem: bool,
) -> bytes:
    """Messages for the sending end. Nothing that waits in a discipline is lost by a change.

    For that a discipline, once there, stays and is told to do nothing.
    """
    program = b""
    if has_netem and (after.netem or after.tbf_bit_s or before.netem or before.tbf_bit_s):
        wanted = terms(after.netem or Impairment())
        chosen = {key: wanted[key] for key in ("delay_ns", "jitter_ns", "duplicate", "reorder")}
        program += traffic.netem(ifindex, **chosen, seed=seed)
    if after.tbf_bit_s or before.tbf_bit_s:
        rate = after.tbf_bit_s or traffic.UNLIMITED_BIT_S
        frame_bytes = mtu_bytes + _ETHERNET_BYTES
        program += traffic.tbf(
            ifindex,
            rate_bit_s=rate,
            burst_bytes=max(frame_bytes, rate * _BURST_NS // (8 * NS_PER_S)),
            queue_bytes=max(frame_bytes, queue_bytes(rate)),
            in_netem=has_netem,
        )
    return program


def ending_ruleset(link: str) -> str:
    """What was handed to the pump goes nowhere else. `link`: where it comes in again."""
    rule = f"meta mark & {marks.TO_PUMP:#x} != 0 drop"
    return _table(f"pump-{link}", [_chain("end", "ingress", link, [rule])])


def cable_ruleset(
    cable: Cable, shares: Mapping[Direction, Shares], *, lab_seed: int, position: int
) -> str:
    """For the far end's namespace: takes the place of what was said of this cable before."""
    chains = []
    for direction, share in shares.items():
        seed = seed_of(lab_seed, key(cable), direction)
        number = number_of(position, direction)
        rules = [*_pump_rules(share, direction, number), *_loss_rules(share, seed)]
        if rules:
            hook = "ingress" if direction == "up" else "egress"
            chains.append(_chain(direction, hook, cable.far.name, rules))
    return _table(f"impair-{cable.far.name}", chains)


def _pump_rules(shares: Shares, direction: Direction, number: int) -> Iterator[str]:
    if shares.pump is None:
        return
    to = marks.CUT if is_cut(shares.pump) else marks.WHOLE
    hand_over = f'meta mark set {marks.TO_PUMP | number:#x} fwd to "{to}"'
    if direction == "up":
        # Marks do not survive the cable; the pump says with the sender's address what it has done.
        yield f"ether saddr & {_PUMPED} == 00:00:00:00:00:00 {hand_over}"
        yield f"ether saddr set ether saddr & {_NOT_PUMPED}"
    else:
        yield f"meta mark & {marks.FROM_PUMP:#x} == 0 {hand_over}"


def _loss_rules(shares: Shares, seed: int) -> Iterator[str]:
    for message, (start, length) in _MESSAGES.items():
        wanted = sorted({drop.nth for drop in shares.drops if drop.message == message})
        if not wanted:
            continue
        this = f"meta l4proto udp @th,64,32 {start}"
        if length:
            this += f" udp length {length}"
        if wanted[0] == 0:
            yield f"{this} drop"
        else:
            yield f"{this} numgen inc mod {_NEVER} {_set(nth - 1 for nth in wanted)} drop"
    yield from _chance_rules(shares.rules_loss, seed)


def _chance_rules(loss: float, seed: int) -> Iterator[str]:
    """Neighbours and their addresses are found all the same: who is lost counts from the start."""
    if not loss:
        return
    if loss >= 1.0:
        yield "drop"
        return
    yield "meta protocol != { ip, ip6 } accept"
    yield "icmpv6 type { 130-137, 143 } accept"
    length, lost = losses(loss, seed)
    if len(lost) > length // 2:
        kept = set(range(length)).difference(lost)
        yield f"numgen inc mod {length} != {_set(sorted(kept))} drop"
    else:
        yield f"numgen inc mod {length} {_set(lost)} drop"


def losses(loss: float, seed: int) -> tuple[int, tuple[int, ...]]:
    """How long a round is, and the places in it (counted from 0) that are lost; at least one."""
    coarse = loss * LOSS_ROUND
    length = LOSS_ROUND if abs(coarse - round(coarse)) < 1e-9 else LOSS_ROUND_FINE
    count = min(max(round(loss * length), 1), length - 1)
    drawn = sorted(range(length), key=lambda place: chance.mix(seed ^ place * chance.GOLDEN))
    return length, tuple(sorted(drawn[:count]))


def _set(numbers: Iterable[int]) -> str:
    return "{ " + ", ".join(str(each) for each in numbers) + " }"


def _table(name: str, chains: list[str]) -> str:
    """In one transaction: never a moment with half of the rules, or with none."""
    declared = f"table netdev {name}"
    whole = [f"{declared} {{", *chains, "}"] if chains else []
    return "\n".join((declared, f"delete {declared}", *whole, ""))


def _chain(name: str, hook: str, link: str, rules: list[str]) -> str:
    head = f'type filter hook {hook} device "{link}" priority 0;'
    return "\n".join((f"chain {name} {{", head, *rules, "}"))
