"""A node as an exit: offered by its farm and named by a tenant (EXIT-040, EXIT-041)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest

from overlay.documents import exits
from overlay.documents.exits import DEFAULT_RESOLVERS, ExitOffer, ExitService, Uplink
from overlay.errors import Unavailable
from overlay.exitnode.converge import EgressConfigurator
from overlay.exitnode.egress import Egress
from overlay.exitnode.guards import Guards, select_guards
from overlay.keys import identity
from overlay.model import Address, InterfaceAddress, NetworkId, NodeId
from overlay.peers.cache import Cache, open_cache
from overlay.reconcile.exiting import Exiting
from overlay.reconcile.publishing import Publishing

pytestmark = pytest.mark.blocking  # SQLite

NET = NetworkId(identity.format_network_id(b"n" * 20))
REGISTRY = Address("198.51.100.9")
OFFER = ExitOffer(
    "node1x",
    Uplink("bridge", "br0", ("192.0.2.2/24",), ("192.0.2.1",)),
    ("198.51.100.1",),
    ("198.51.100.53",),
    draining_until=7,
)


class Recorded(EgressConfigurator):
    """Notes what is asked for; the real one is tried in tests/kernel and tests/lab."""

    def __init__(self) -> None:
        self.asked: list[Egress | None] = []
        self.error: Unavailable | None = None

    async def converge(self, desired: Egress | None) -> tuple[()]:
        self.asked.append(desired)
        if self.error is not None:
            raise self.error
        return ()


class Situation:
    def __init__(self, cache: Cache) -> None:
        self.configurator = Recorded()
        self.networks: list[NetworkId] = []
        self.near = [InterfaceAddress("203.0.113.9/24")]
        self.told = 0
        self.asked = 0
        self.wall = 0.0
        self.exiting = Exiting(
            self.configurator,
            random=lambda: 0.0,
            wall=lambda: self.wall,
            wanted=lambda: self.networks,
            near=lambda: self.near,
            ask=self._ask,
            guards=self._guards,
            publishing=Publishing(NodeId("node1x"), cache, dict, reserved=lambda _: ()),
            on_change=self._tell,
        )

    async def _ask(self) -> None:
        self.asked += 1

    def _guards(self, networks: Iterable[NetworkId]) -> Guards:
        return select_guards(services=[REGISTRY], underlay=dict.fromkeys(networks, ()))

    def _tell(self) -> None:
        self.told += 1

    async def settle(self) -> None:
        await asyncio.sleep(0.1)


@asynccontextmanager
async def playing() -> AsyncIterator[Situation]:
    with situation() as there:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(there.exiting.run(), name="exit")
            await there.settle()
            yield there
            task.cancel()


@contextmanager
def situation() -> Iterator[Situation]:
    with TemporaryDirectory() as directory, open_cache(Path(directory) / "node.db") as cache:
        yield Situation(cache)


async def test_what_an_earlier_life_left_goes_first() -> None:
    async with playing() as there:
        assert there.configurator.asked == [None]


async def test_an_offer_or_a_name_alone_opens_nothing() -> None:
    async with playing() as there:
        there.exiting.put_offer(OFFER)
        await there.settle()
        assert there.configurator.asked == [None]
        assert there.exiting.service(NET) is None
    async with playing() as there:
        there.networks = [NET]
        there.exiting.wake()
        await there.settle()
        assert there.configurator.asked == [None]


async def test_members_are_told_while_it_stands() -> None:
    async with playing() as there:
        there.networks = [NET]
        there.exiting.put_offer(OFFER)
        await there.settle()
        desired = there.configurator.asked[-1]
        assert desired is not None
        assert [leg.network for leg in desired.legs] == [NET]
        assert desired.node_prefixes == ("203.0.113.0/24",)
        assert desired.guards == Guards((REGISTRY,), {NET: ()})
        assert there.asked > 0
        assert there.exiting.service(NET) == ExitService(OFFER.beacons, (4,), OFFER.resolvers, 7)
        told = there.told
        there.exiting.put_offer(None)
        await there.settle()
        assert there.configurator.asked[-1] is None
        assert there.exiting.service(NET) is None
        assert there.told > told


async def test_one_that_has_drained_lets_nothing_out_and_says_so() -> None:  # EXIT-062
    async with playing() as there:
        there.networks = [NET]
        there.exiting.put_offer(OFFER)
        await there.settle()
        there.wall = 6.9
        there.exiting.wake()
        await there.settle()
        assert there.exiting.service(NET) is not None
        told, there.wall = there.told, 7.0
        await there.settle()  # nobody wakes it
        await there.settle()
        assert there.configurator.asked[-1] is None
        assert there.exiting.service(NET) is None
        assert there.told > told
        assert there.exiting.offer == OFFER
        there.exiting.put_offer(msgspec.structs.replace(OFFER, draining_until=None))
        await there.settle()
        assert there.exiting.service(NET) is not None


async def test_an_exit_without_resolvers_of_its_own_tells_public_ones() -> None:  # DNS-033
    async with playing() as there:
        there.networks = [NET]
        there.exiting.put_offer(msgspec.structs.replace(OFFER, resolvers=()))
        await there.settle()
        service = there.exiting.service(NET)
        assert service is not None
        assert service.resolvers == DEFAULT_RESOLVERS
        exits.check_exit_service(service)


async def test_what_cannot_be_made_is_told_and_tried_again() -> None:
    async with playing() as there:
        there.configurator.error = Unavailable("no link br0")
        there.networks = [NET]
        there.exiting.put_offer(OFFER)
        await there.settle()
        assert there.exiting.error is there.configurator.error
        assert there.exiting.service(NET) is None
        there.configurator.error = None
        there.exiting.wake()
        await there.settle()
        assert there.exiting.error is None
        assert there.exiting.service(NET) is not None
        # One pass that fails later sends nobody away.
        there.configurator.error = Unavailable("busy")
        there.exiting.wake()
        await there.settle()
        assert there.exiting.service(NET) is not None
        there.networks = []
        there.exiting.wake()
        await there.settle()
        assert there.exiting.service(NET) is None


async def test_what_a_first_pass_left_midway_goes_with_its_network() -> None:  # EXIT-041
    async with playing() as there:
        there.configurator.error = Unavailable("netns n-x is gone")
        there.networks = [NET]
        there.exiting.put_offer(OFFER)
        await there.settle()
        assert there.configurator.asked[-1] is not None
        there.configurator.error = None
        there.networks = []
        there.exiting.wake()
        await there.settle()
        assert there.configurator.asked[-1] is None
        assert there.exiting.error is None


async def test_a_start_takes_nothing_back_before_it_has_looked() -> None:
    with situation() as there:
        there.networks = [NET]
        there.exiting.put_offer(OFFER)
        there.exiting.resume([NET])
        assert there.exiting.service(NET) is not None
        there.exiting.put_offer(None)
        assert there.exiting.service(NET) is None


@pytest.mark.parametrize("addresses", [("192.0.2.2/24",), ("192.0.2.2/24", "2001:db8::2/64")])
async def test_the_families_are_those_of_the_uplink(addresses: tuple[str, ...]) -> None:
    async with playing() as there:
        there.networks = [NET]
        there.exiting.put_offer(
            ExitOffer("node1x", Uplink("bridge", "br0", addresses), ("198.51.100.1",))
        )
        await there.settle()
        service = there.exiting.service(NET)
        assert service is not None
        assert service.families == ((4, 6) if len(addresses) == 2 else (4,))


async def test_by_the_nodes_own_interface_the_families_are_those_of_the_node() -> None:  # EXIT-045
    async with playing() as there:
        there.networks = [NET]
        there.exiting.put_offer(ExitOffer("node1x", Uplink("interface", "eth0"), ("198.51.100.1",)))
        for near, families in (
            (("203.0.113.9/24", "fd00::9/64"), (4,)),
            (("203.0.113.9/24", "2001:db8::9/64"), (4, 6)),
            (("2001:db8::9/64",), (6,)),
        ):
            there.near = [InterfaceAddress(each) for each in near]
            there.exiting.wake()
            await there.settle()
            service, desired = there.exiting.service(NET), there.configurator.asked[-1]
            assert service is not None
            assert desired is not None
            assert service.families == desired.families == families
        there.near = []
        assert there.exiting.service(NET) is None


async def test_members_are_told_which_learnt_families_are_there() -> None:  # EXIT-048
    async with playing() as there:
        there.networks = [NET]
        learnt = Uplink("macvlan", "eth0", ipv4="dhcp", ipv6="slaac")
        there.exiting.put_offer(ExitOffer("node1x", learnt, ("198.51.100.1",)))
        await there.settle()
        assert there.exiting.service(NET) is None
        for addresses, families in (
            (("192.0.2.9/24",), (4,)),
            (("192.0.2.9/24", "fd00::9/64"), (4,)),
            (("192.0.2.9/24", "2001:db8::9/64"), (4, 6)),
            (("2001:db8::9/64",), (6,)),
        ):
            there.configurator.addresses = tuple(map(InterfaceAddress, addresses))
            told = there.told
            there.exiting.wake()
            await there.settle()
            service = there.exiting.service(NET)
            assert service is not None
            assert service.families == families
            assert there.told > told or families == (4,)
