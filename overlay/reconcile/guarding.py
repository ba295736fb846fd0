"""What overlays stand on, as this node knows it: the guards of its exit (EXIT-043, EXIT-044).

Registries have names, whose addresses are asked for here. Relays and members say theirs in
documents.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Iterator

from overlay.documents import relays, schema
from overlay.documents.schema import Farm
from overlay.exitnode.guards import Guards, select_guards
from overlay.model import Address, Endpoint, NetworkId
from overlay.peers.selection import Selection

log = logging.getLogger(__name__)

ASK_S = 60.0  # between questions for the addresses of one name
ANSWER_S = 2.0  # nobody waits longer for an answer than this
# A name may have more addresses than one answer says: what was said stays for this long.
REMEMBER_S = 3_600.0
MAX_REMEMBERED = 64


class Guarding:
    """Guards as they are now: `ask`, then `guards`, before each look at the egress netns."""

    def __init__(
        self,
        *,
        farm: Callable[[], Farm | None],
        selection: Callable[[NetworkId], Selection | None],
        registry: Callable[[], str | None],
        declared: Iterable[Endpoint],
        monotonic: Callable[[], float],
    ) -> None:
        """`selection`: of a network of ours. `registry`: the host of the one in use.
        `declared`: where this node can be reached."""
        self._farm = farm
        self._selection = selection
        self._registry = registry
        self._declared = tuple(declared)
        self._monotonic = monotonic
        self._asked: tuple[str, float] | None = None
        self._said: dict[Address, float] = {}  # until when it is guarded

    async def ask(self) -> None:
        """Where the registry is, if that was not asked lately; a name that leads nowhere now takes
        back nothing that it has said."""
        host, now = self._registry(), self._monotonic()
        if host is None or (self._asked is not None and _is_fresh(self._asked, host, now=now)):
            return
        self._asked = host, now
        fresh = dict.fromkeys(await _resolve(host), now + REMEMBER_S)
        known = {a: until for a, until in self._said.items() if until > now} | fresh
        newest = sorted(known, key=lambda a: (-known[a], a))[:MAX_REMEMBERED]
        self._said = {address: known[address] for address in newest}

    def guards(self, wanted: Iterable[NetworkId]) -> Guards:
        """Of an exit of these networks."""
        farm = self._farm()
        own = (endpoint.address for endpoint in self._declared)
        offered = _at(farm.relays if farm is not None else ())
        selections = {n: found for n in wanted if (found := self._selection(n)) is not None}
        return select_guards(
            services=(*own, *self._said, *offered),
            underlay={network: _underlay(each) for network, each in sorted(selections.items())},
        )


def _is_fresh(asked: tuple[str, float], host: str, *, now: float) -> bool:
    return asked[0] == host and now - asked[1] < ASK_S


async def _resolve(host: str) -> tuple[Address, ...]:
    try:
        async with asyncio.timeout(ANSWER_S):
            found = await asyncio.get_running_loop().getaddrinfo(
                host, None, type=socket.SOCK_STREAM
            )
    except (OSError, TimeoutError, UnicodeError) as exc:
        log.warning("no address to guard", extra={"registry": host, "reason": str(exc)})
        return ()
    return tuple(Address(str(place[0]).partition("%")[0]) for *_, place in found)


def _underlay(selection: Selection) -> Iterator[Address]:
    """Relays first: there are few of them, and members may be many."""
    yield from _at(selection.relays)
    for member in selection.members.values():
        for candidate in schema.candidates(member):
            yield candidate.endpoint.address


def _at(named: Iterable[relays.Relay | relays.RelayOffer]) -> Iterator[Address]:
    for each in named:
        for endpoint in relays.endpoints_of(each):
            yield endpoint.address
