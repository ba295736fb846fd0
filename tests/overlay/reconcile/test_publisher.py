"""What is on its way to the registry, while networks come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overlay.documents import trust
from overlay.documents.envelope import Envelope
from overlay.documents.schema import Result
from overlay.peers.cache import Cache, open_cache
from overlay.reconcile.backoff import Backoff
from overlay.reconcile.intake import Intake
from overlay.reconcile.publisher import Publisher
from tests.overlay.registry import kit

pytestmark = pytest.mark.blocking  # SQLite


class Client:
    """Takes everything; `on_publish` happens while a document is on its way."""

    def __init__(self, *, expected: int) -> None:
        self.sent: list[str] = []
        self.all_sent = asyncio.Event()
        self.on_publish: Callable[[], None] = lambda: None
        self._expected = expected

    async def publish(self, envelope: Envelope) -> int:
        self.sent.append(trust.verify(envelope).key)
        self.on_publish()
        if len(self.sent) == self._expected:
            self.all_sent.set()
        return len(self.sent)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    with open_cache(tmp_path / "node.db") as cache:
        yield cache


def new_publisher(cache: Cache) -> Publisher:
    backoff = Backoff(lambda: 0.5)
    return Publisher(Intake(cache), clock=kit.Clock(), backoff=backoff, on_conflict=lambda _: None)


def sign(publisher: Publisher, cache: Cache, *names: str) -> list[str]:
    """Results for networks of these names are on their way, in the order in which they are sent."""
    with cache.batch():
        return sorted(publisher.sign(result(name), kit.node("n1")).key for name in names)


def result(name: str) -> Result:
    network = kit.network(kit.tenant(), "n1", name=name)
    return Result(
        network=kit.network_id(network),
        node=kit.node("n1").id,
        version=1,
        document_version=1,
        ok=True,
        at=kit.UNIX,
    )


async def send(publisher: Publisher, client: Client) -> None:
    """Until the client has all that is expected, and the publisher has seen the last answer."""
    publisher.connect(client)  # type: ignore[arg-type]  # no more than it needs
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        running = group.create_task(publisher.run(), name="publisher")
        await client.all_sent.wait()  # the group ends it when the publisher fails
        await asyncio.sleep(0)
        running.cancel()


async def test_what_is_withdrawn_while_others_are_sent_is_not_sent(cache: Cache) -> None:
    publisher, client = new_publisher(cache), Client(expected=2)
    first, second, third = sign(publisher, cache, "a", "b", "c")
    client.on_publish = lambda: publisher.withdraw(second)
    await send(publisher, client)
    assert client.sent == [first, third]
    assert publisher.is_accepted(first, 1)
    assert not publisher.is_accepted(second, 1)


async def test_what_is_withdrawn_on_its_way_is_not_taken_for_accepted(cache: Cache) -> None:
    publisher, client = new_publisher(cache), Client(expected=1)
    (key,) = sign(publisher, cache, "a")
    client.on_publish = lambda: publisher.withdraw(key)
    await send(publisher, client)
    assert client.sent == [key]
    assert not publisher.is_accepted(key, 1)
