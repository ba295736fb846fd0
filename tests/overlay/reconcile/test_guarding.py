"""What an exit guards, from what its node knows (EXIT-043, EXIT-044)."""

from __future__ import annotations

from overlay.documents.relays import RelayOffer
from overlay.documents.schema import Farm
from overlay.keys import identity
from overlay.model import Address, Endpoint, NetworkId
from overlay.peers.selection import Selection
from overlay.reconcile.guarding import ASK_S, REMEMBER_S, Guarding

NET = NetworkId(identity.format_network_id(b"n" * 20))
FARM = Farm("farm1x", 1, "farm", relays=(RelayOffer("node1x", ("[2001:db8:7::7]:51819",)),))
DECLARED = Endpoint(Address("203.0.113.1"), 51_820)
ALWAYS = {"203.0.113.1", "2001:db8:7::7"}


class Situation:
    def __init__(self, registry: str | None) -> None:
        self.registry = registry
        self.now = 0.0
        self.guarding = Guarding(
            farm=lambda: FARM,
            selection=self._selection,
            registry=lambda: self.registry,
            declared=[DECLARED],
            monotonic=lambda: self.now,
        )

    def _selection(self, network: NetworkId) -> Selection | None:
        return None

    async def services_at(self, now: float) -> set[str]:
        self.now = now
        await self.guarding.ask()
        return set(self.guarding.guards([NET]).services)


async def test_where_the_node_and_the_relays_of_its_farm_are_is_guarded() -> None:
    assert await Situation(None).services_at(0) == ALWAYS


async def test_the_registry_is_asked_for_again_and_what_was_said_stays_for_an_hour() -> None:
    there = Situation("198.51.100.7")
    assert await there.services_at(0) == {*ALWAYS, "198.51.100.7"}
    there.registry = "2001:db8:5::5"
    both = {*ALWAYS, "198.51.100.7", "2001:db8:5::5"}
    assert await there.services_at(1) == both
    there.registry = "a..b"  # leads nowhere
    assert await there.services_at(1 + ASK_S) == both
    assert await there.services_at(REMEMBER_S + 0.5) == {*ALWAYS, "2001:db8:5::5"}
    assert await there.services_at(REMEMBER_S + 0.5 + ASK_S) == ALWAYS
