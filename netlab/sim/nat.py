"""What a site's router remembers: port mappings by the words of RFC 4787, and flows let out."""

from __future__ import annotations

from netlab.nat import Nat
from overlay.model import Address, Endpoint

FIRST_DRAWN_PORT = 1_024
FLOW_TIMEOUT_S = 120.0  # of a stateful firewall; RFC 6092 REC-14 asks for as much

Inner = tuple[Address, int]


class Mapping:
    """One public port and who is behind it. Only packets that leave keep it (RFC 4787 REQ-6)."""

    __slots__ = ("allowed", "inner", "last", "port")

    def __init__(self, port: int, inner: Inner) -> None:
        self.port = port
        self.inner = inner
        self.last = 0.0
        self.allowed: dict[object, float] = {}  # remote end, as far as filtering looks at it


class NatTable:
    """The mappings of one router. `forwards` are its operator's: public port -> host behind."""

    __slots__ = (
        "_by_port",
        "_filters_by_address",
        "_filters_nothing",
        "_forwarded",
        "_maps_by",
        "_next_port",
        "_out",
        "forwards",
        "nat",
    )

    def __init__(self, nat: Nat) -> None:
        self.nat = nat
        self._maps_by = None if nat.mapping == "endpoint-independent" else nat.mapping
        self._filters_nothing = nat.filtering == "endpoint-independent"
        self._filters_by_address = nat.filtering == "address-dependent"
        self.forwards: dict[int, Inner] = {}
        self._forwarded: dict[Inner, int] = {}
        self._out: dict[object, Mapping] = {}
        self._by_port: dict[int, Mapping] = {}
        self._next_port = FIRST_DRAWN_PORT

    def forward(self, port: int, inner: Inner) -> None:
        self.forwards[port] = inner
        self._forwarded[inner] = port

    def reboot(self) -> None:
        """Nothing is remembered but what is configured."""
        self._out.clear()
        self._by_port.clear()

    def outbound(self, inner: Inner, to: Endpoint, *, now: float) -> int:
        """The public port that a packet leaves from."""
        if (forwarded := self._forwarded.get(inner)) is not None:
            return forwarded
        key: object = inner
        if self._maps_by is not None:
            key = (inner, to.address if self._maps_by == "address-dependent" else to)
        mapping = self._out.get(key)
        if mapping is None or now - mapping.last > self.nat.udp_timeout_s:
            # Its port may be somebody else's by now.
            if mapping is not None and self._by_port.get(mapping.port) is mapping:
                del self._by_port[mapping.port]
            mapping = self._out[key] = Mapping(self._free_port(inner[1], now), inner)
            self._by_port[mapping.port] = mapping
        mapping.last = now
        if not self._filters_nothing:
            mapping.allowed[to.address if self._filters_by_address else to] = now
        return mapping.port

    def inbound(self, port: int, source: Endpoint, *, now: float) -> Inner | None:
        """Who gets a packet that came to `port`; None when it is dropped."""
        if (inner := self.forwards.get(port)) is not None:
            return inner
        mapping = self._by_port.get(port)
        if mapping is None or now - mapping.last > self.nat.udp_timeout_s:
            return None
        if self._filters_nothing:
            return mapping.inner
        last = mapping.allowed.get(source.address if self._filters_by_address else source)
        if last is None or now - last > self.nat.udp_timeout_s:
            return None
        return mapping.inner

    def _free_port(self, wanted: int, now: float) -> int:
        if self.nat.ports == "preserve" and self._is_free(wanted, now):
            return wanted
        while not self._is_free(self._next_port, now):
            self._next_port += 1
        self._next_port += 1
        return self._next_port - 1

    def _is_free(self, port: int, now: float) -> bool:
        if port in self.forwards:
            return False
        held = self._by_port.get(port)
        return held is None or now - held.last > self.nat.udp_timeout_s


class FlowTable:
    """A stateful firewall: what left may be answered for a while."""

    def __init__(self) -> None:
        self._flows: dict[tuple[Endpoint, Endpoint], float] = {}

    def reboot(self) -> None:
        self._flows.clear()

    def note(self, source: Endpoint, to: Endpoint, *, now: float) -> None:
        self._flows[source, to] = now

    def admits(self, source: Endpoint, to: Endpoint, *, now: float) -> bool:
        """Whether a packet from outside answers one that left."""
        last = self._flows.get((to, source))
        return last is not None and now - last <= FLOW_TIMEOUT_S
