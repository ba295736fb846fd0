"""What a link does to the packets of one direction: values only. Who does it: see keeper/."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

WireGuardMessage = Literal["initiation", "response", "cookie", "data"]


@dataclass(frozen=True, slots=True)
class Drop:
    """Lose WireGuard messages of one kind: the `nth` (counted from 1), or with 0 every one."""

    message: WireGuardMessage
    nth: int = 0


@dataclass(frozen=True, slots=True)
class Impairment:
    """One direction. Every parameter stands on its own; the default changes nothing.

    delay_s     one way, for every packet
    jitter_s    up to this much more or less, drawn evenly; never below zero
    loss        share of packets, 0 to 1
    duplicate   share of packets that arrive twice, 0 to 1
    reorder     share of packets that overtake what is delayed, 0 to 1
    rate_bit_s  0: as fast as the machine goes
    drops       losses scripted by WireGuard message
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    rate_bit_s: int = 0
    drops: tuple[Drop, ...] = ()

    @property
    def needs_time(self) -> bool:
        """Whether packets have to be held back, which takes more than a rule."""
        return bool(self.delay_s or self.jitter_s or self.reorder or self.duplicate)

    def __bool__(self) -> bool:
        return self != Impairment()


@dataclass(frozen=True, slots=True)
class Both:
    """A link's two directions: `up` leaves the end that declares the link, `down` comes to it."""

    up: Impairment = field(default_factory=Impairment)
    down: Impairment = field(default_factory=Impairment)

    def __bool__(self) -> bool:
        return bool(self.up or self.down)


def chain(first: Impairment, second: Impairment) -> Impairment:
    """One after the other, as one."""
    rates = [each.rate_bit_s for each in (first, second) if each.rate_bit_s]
    return Impairment(
        delay_s=first.delay_s + second.delay_s,
        jitter_s=first.jitter_s + second.jitter_s,
        loss=_either(first.loss, second.loss),
        duplicate=_either(first.duplicate, second.duplicate),
        reorder=_either(first.reorder, second.reorder),
        rate_bit_s=min(rates, default=0),
        drops=(*first.drops, *second.drops),
    )


def _either(one: float, other: float) -> float:
    return one + other - one * other
