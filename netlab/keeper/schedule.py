"""When each packet of one direction of a link comes out at the other end, and whether it does.

Pure: time comes in with the packet, chance follows from the seed. A packet's fate depends on the
seed, on which flow of its kind it belongs to, and on its number in that flow; never on what other
flows do, so stray ARP or neighbour discovery moves nothing.

It runs inside the pump, so it imports only what is cheap to import.
"""

from __future__ import annotations

from netlab.keeper.chance import GOLDEN, MASK, fold, mix, threshold

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from netlab.keeper.flow import Flow

NS_PER_S = 1_000_000_000

# What may wait for its turn at a rate: this much time, and at least a few packets.
QUEUE_NS = 50_000_000
QUEUE_BYTES_MIN = 16 * 1024
# Flows that are told apart; of more, those seen first are forgotten and counted anew.
FLOWS_MAX = 65_536

_SALT_LOSS, _SALT_DUPLICATE, _SALT_REORDER, _SALT_JITTER = (
    0x243F6A8885A308D3,  # digits of pi, so that nobody chose them
    0x13198A2E03707344,
    0xA4093822299F31D0,
    0x082EFA98EC4E6C89,
)


def queue_bytes(rate_bit_s: int) -> int:
    """How much may wait at this rate; what comes on top is dropped at the tail.

    One packet always finds room where none waits, however large it is.
    """
    return max(QUEUE_BYTES_MIN, rate_bit_s * QUEUE_NS // (8 * NS_PER_S))


class Terms:
    """What a direction does to its packets, in whole numbers; see netlab.impairment."""

    __slots__ = ("delay_ns", "draws", "duplicate", "jitter_ns", "loss", "rate_bit_s", "reorder")

    def __init__(
        self,
        *,
        delay_ns: int = 0,
        jitter_ns: int = 0,
        loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        rate_bit_s: int = 0,
    ) -> None:
        self.delay_ns = delay_ns
        self.jitter_ns = jitter_ns
        # Shares as thresholds for 64 bits drawn: 1.0 is above every draw, 0.0 above none.
        self.loss = threshold(loss)
        self.duplicate = threshold(duplicate)
        self.reorder = threshold(reorder)
        self.rate_bit_s = rate_bit_s
        # Without any chance in it, nobody has to know which flow a packet belongs to.
        self.draws = bool(jitter_ns or loss or duplicate or reorder)


class Counts:
    """What happened so far to the packets of a direction."""

    __slots__ = ("arrived", "duplicated", "lost", "overflowed", "reordered")

    def __init__(self) -> None:
        self.arrived = self.lost = self.duplicated = self.reordered = self.overflowed = 0

    def as_tuple(self) -> tuple[int, int, int, int, int]:
        return (self.arrived, self.lost, self.duplicated, self.reordered, self.overflowed)


class Schedule:
    """One direction of one link. Loss comes first, then the rate, then delay and jitter.

    Order is kept, save for packets that are drawn to overtake.
    """

    __slots__ = ("_flows", "_free_ns", "_kinds", "_last_ns", "_seed", "counts", "terms")

    def __init__(self, seed: int, terms: Terms) -> None:
        self.terms = terms
        self.counts = Counts()
        self._seed = mix(seed & MASK)
        self._flows: dict[Flow, list[int]] = {}
        self._kinds: dict[bytes, int] = {}
        self._free_ns = 0  # when the last packet in the queue has left it, at the rate
        self._last_ns = 0  # the latest time given to a packet that keeps its place

    def change(self, terms: Terms) -> None:
        """Holds for what arrives from now on, of which every flow is counted anew.

        What is on its way keeps its time, and nothing overtakes it.
        """
        self.terms = terms
        self._flows.clear()
        self._kinds.clear()

    def admit(self, now_ns: int, length_bytes: int, flow: Flow) -> tuple[int, ...]:
        """The times at which this packet comes out: none when it is lost, two when duplicated.

        Which flow it belongs to matters only to terms that draw.
        """
        terms, counts = self.terms, self.counts
        counts.arrived += 1
        draw = self._number(flow) if terms.draws else 0
        if terms.loss and mix(draw ^ _SALT_LOSS) < terms.loss:
            counts.lost += 1
            return ()
        first = self._time(now_ns, length_bytes, draw)
        if not terms.duplicate or mix(draw ^ _SALT_DUPLICATE) >= terms.duplicate:
            return first
        counts.duplicated += 1
        return first + self._time(now_ns, length_bytes, draw)

    def _number(self, flow: Flow) -> int:
        """The packet's own 64 bits, from which all its draws follow."""
        state = self._flows.get(flow)
        if state is None:
            state = self._flows[flow] = [self._base(flow[0]), 0]
            if len(self._flows) > FLOWS_MAX:
                del self._flows[next(iter(self._flows))]
        state[1] += 1
        return (state[0] + state[1] * GOLDEN) & MASK

    def _base(self, kind: bytes) -> int:
        """By rank among flows of the same kind: port numbers differ from run to run."""
        rank = self._kinds[kind] = self._kinds.get(kind, 0) + 1
        if len(self._kinds) > FLOWS_MAX:
            del self._kinds[next(iter(self._kinds))]
        return fold(self._seed ^ rank, kind)

    def _time(self, now_ns: int, length_bytes: int, draw: int) -> tuple[int, ...]:
        terms = self.terms
        sent_ns = self._sent(now_ns, length_bytes) if terms.rate_bit_s else now_ns
        if sent_ns < 0:
            self.counts.overflowed += 1
            return ()
        if terms.reorder and mix(draw ^ _SALT_REORDER) < terms.reorder:
            self.counts.reordered += 1
            return (sent_ns,)
        due_ns = sent_ns + terms.delay_ns
        if terms.jitter_ns:
            span = 2 * terms.jitter_ns + 1
            due_ns += (mix(draw ^ _SALT_JITTER) * span >> 64) - terms.jitter_ns
            due_ns = max(due_ns, sent_ns)
        self._last_ns = due_ns = max(due_ns, self._last_ns)
        return (due_ns,)

    def _sent(self, now_ns: int, length_bytes: int) -> int:
        """When the last bit has left at the rate; -1 when the queue has no room."""
        rate = self.terms.rate_bit_s
        begin_ns = max(now_ns, self._free_ns)
        waiting = (begin_ns - now_ns) * rate + length_bytes * 8 * NS_PER_S
        if begin_ns > now_ns and waiting > queue_bytes(rate) * 8 * NS_PER_S:
            return -1
        self._free_ns = begin_ns - (-length_bytes * 8 * NS_PER_S // rate)  # rounded up
        return self._free_ns
