"""The client: what it sends to whom, and what a registry can do to it (REG-060 .. REG-067)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest

from overlay.errors import Refused, Rejected, Unavailable
from overlay.keys.identity import Kind
from overlay.peers import registry_wire as wire
from overlay.peers.registry import (
    Bookmark,
    Document,
    PublishConflict,
    RegistryClient,
    RegistryRef,
    Snapshot,
    WatchEvent,
)
from tests.overlay.registry import hostile, kit
from tests.overlay.registry.hostile import Hostile, RunningHostile

REGISTRY = kit.key(Kind.REGISTRY, "r")
HEARTBEAT_S = 1.0


@pytest.fixture(params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bad() -> AsyncIterator[RunningHostile]:
    async with hostile.running(REGISTRY) as here:
        yield here


def client(at: RunningHostile, *, host: str = "127.0.0.1", id_: str = "") -> RegistryClient:
    reference = at.reference(host).replace(at.id, id_ or at.id)
    return RegistryClient(
        RegistryRef.parse(reference), kit.node("a"), kit.Clock(), heartbeat_s=HEARTBEAT_S
    )


async def rest_of(events: AsyncIterator[WatchEvent]) -> list[WatchEvent]:
    """What comes until the stream fails, which it must."""
    seen: list[WatchEvent] = []
    try:
        async with asyncio.timeout(20):
            async for event in events:
                seen.append(event)
    except Unavailable:
        return seen
    raise AssertionError("the stream ended as if that were an answer")


@pytest.mark.parametrize(
    "text", [f"https://registry.example:8443#{REGISTRY.id}", f"https://[fd00::1]:1#{REGISTRY.id}"]
)
def test_reference_is_read_and_written_alike(text: str) -> None:  # REG-060
    assert str(RegistryRef.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"http://h:1#{REGISTRY.id}",
        f"https://h#{REGISTRY.id}",
        f"https://h:0#{REGISTRY.id}",
        f"https://h:65536#{REGISTRY.id}",
        f"https://h:1/path#{REGISTRY.id}",
        f"https://user@h:1#{REGISTRY.id}",
        f"https://fd00::1:1#{REGISTRY.id}",
        f"https://[fd00:0::1]:1#{REGISTRY.id}",
        "https://h:1",
        f"https://h:1#{REGISTRY.id[:-1]}",
        f"https://h:1#{kit.node('a').id}",
        f"https://h:1#{REGISTRY.id}\n",
        f"https://{'h' * 400}:1#{REGISTRY.id}",
    ],
)
def test_anything_else_is_no_reference(text: str) -> None:
    with pytest.raises(Rejected):
        RegistryRef.parse(text)


async def test_nothing_is_sent_to_who_has_another_key(bad: RunningHostile, host: str) -> None:
    other = kit.key(Kind.REGISTRY, "other").id  # REG-062
    async with client(bad, host=host, id_=other) as mine:
        for attempt in (
            mine.fetch(f"node/{kit.node('a').id}"),
            mine.publish(kit.signed_node("a")),
            mine.list("node"),
            anext(mine.watch()),
        ):
            with pytest.raises(Unavailable, match="does not have the key"):
                await attempt
    assert bad.hostile.requests == []


async def test_watch_gives_a_snapshot_of_zero_for_what_it_is(bad: RunningHostile) -> None:
    async with client(bad) as mine, aclosing(mine.watch()) as events:
        assert await anext(events) == Snapshot(hostile.FIRST_REVISION, ())
        assert await anext(events) == Bookmark(hostile.FIRST_REVISION)


async def test_watch_hands_on_what_it_does_not_judge(bad: RunningHostile, host: str) -> None:
    """Forged, repeated and old documents reach the reader, who verifies (REG-063)."""
    forged = kit.wire_json(kit.signed_node("a", version=2))
    forged["signatures"][0]["keyid"] = kit.node("b").id
    async with client(bad, host=host) as mine, aclosing(mine.watch()) as events:
        await kit.take(events, 2)
        key = bad.hostile.hold(kit.signed_node("a"))
        bad.hostile.hold_json(forged, key=key)
        bad.hostile.replay(key, 0)
        bad.hostile.repeat(key)
        seen = await kit.take(events, 4)
    assert [e.key for e in seen if isinstance(e, Document)] == [key] * 4


DEEP = b'{"type":"document","revision":1,"key":"a","envelope":' + b"[" * 100_000 + b"\n"


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"type":"bookmark"}\n',
        b'{"type":"bookmark","revision":-1}\n',
        b'{"type":"bookmark","revision":1e400}\n',
        b'{"type":"nothing","revision":1}\n',
        b'{"type":"document","revision":1,"key":"' + b"a" * 161 + b'","envelope":{}}\n',
        b'{"type":"snapshot","revision":1,"count":1}\n{"type":"bookmark","revision":1}\n',
        b'{"type":"snapshot","revision":1,"count":1}\n{"type":"snapshot","revision":1,"count":0}\n',
        b'{"type":"snapshot","revision":1,"count":99999999}\n',
        DEEP,
    ],
)
async def test_a_malformed_frame_ends_the_watch(bad: RunningHostile, line: bytes) -> None:
    async with client(bad) as mine, aclosing(mine.watch()) as events:  # REG-064
        await kit.take(events, 2)
        bad.hostile.send_line(line)
        assert await rest_of(events) == []


async def test_a_line_without_end_ends_the_watch(bad: RunningHostile) -> None:  # REG-064
    async with client(bad) as mine, aclosing(mine.watch()) as events:
        await kit.take(events, 2)
        bad.hostile.oversized(size=wire.MAX_LINE_BYTES + 1)
        assert await rest_of(events) == []


async def test_a_snapshot_without_end_ends_the_watch(
    bad: RunningHostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_SNAPSHOT_BYTES", 10_000)
    async with client(bad) as mine, aclosing(mine.watch()) as events:
        await kit.take(events, 2)
        key = bad.hostile.hold(kit.signed_node("a"))
        bad.hostile.snapshot(keys=[key], count=100)
        bad.hostile.repeat(key, times=50)
        assert len(await rest_of(events)) == 1


async def test_a_silent_registry_is_gone(bad: RunningHostile) -> None:  # REG-065
    bad.hostile.silent = True
    quick = RegistryClient(
        RegistryRef.parse(bad.reference("127.0.0.1")), kit.node("a"), kit.Clock(), heartbeat_s=0.05
    )
    async with quick as mine, aclosing(mine.watch()) as events:
        await kit.take(events, 2)
        assert await rest_of(events) == []


async def test_a_registry_that_ends_the_stream_is_gone(bad: RunningHostile) -> None:
    async with client(bad) as mine, aclosing(mine.watch()) as events:
        await kit.take(events, 2)
        bad.hostile.end_streams()
        assert await rest_of(events) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (403, Refused),
        (409, PublishConflict),
        (413, Rejected),
        (401, Unavailable),
        (408, Unavailable),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_a_status_says_whether_to_try_again(
    bad: RunningHostile, status: int, error: type[Exception]
) -> None:  # REG-061
    bad.hostile.refuse_status = status
    async with client(bad) as mine:
        with pytest.raises(error):
            await mine.publish(kit.signed_node("a"))
        with pytest.raises(error):
            await anext(mine.watch())


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
async def test_a_malformed_answer_is_unavailable(bad: RunningHostile, body: bytes) -> None:
    bad.hostile.answer_body = body or b" "
    key = bad.hostile.hold(kit.signed_node("a"))
    async with client(bad) as mine:
        for attempt in (mine.fetch(key), mine.list("node"), mine.publish(kit.signed_node("a"))):
            with pytest.raises(Unavailable):
                await attempt


async def test_an_answer_without_end_is_unavailable(
    bad: RunningHostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_PAGE_BODY_BYTES", 1_000)
    bad.hostile.answer_body = b" " * 1_001
    async with client(bad) as mine:
        with pytest.raises(Unavailable, match="larger"):
            await mine.list("node")


async def test_pages_in_a_circle_are_unavailable(bad: RunningHostile) -> None:
    key = bad.hostile.hold(kit.signed_node("a"))
    frame = bad.hostile._line(key).decode()
    bad.hostile.answer_body = f'{{"revision":1,"documents":[{frame}],"next":"{key}"}}'.encode()
    async with client(bad) as mine:
        with pytest.raises(Unavailable, match="order"):
            await mine.list("node")


async def test_a_problem_is_fit_for_a_terminal(
    bad: RunningHostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad.hostile.refuse_status = 403
    escape = wire.Problem(type="x", title="x", status=403, detail="\x1b[2Jgone", remedy="a\nb")
    answer = hostile.web.Response(body=msgspec.json.encode(escape), status=403)
    monkeypatch.setattr(hostile, "_problem", lambda _: answer)
    async with client(bad) as mine:
        with pytest.raises(Refused) as refused:
            await mine.list("node")
    assert str(refused.value) == "?[2Jgone (a?b)"


async def test_nobody_listening_is_unavailable() -> None:
    reference = RegistryRef.parse(f"https://127.0.0.1:1#{REGISTRY.id}")
    async with RegistryClient(reference, kit.node("a"), kit.Clock()) as mine:
        with pytest.raises(Unavailable):
            await mine.fetch(f"node/{kit.node('a').id}")
        with pytest.raises(Unavailable):
            await anext(mine.watch())


async def test_it_finds_the_registry_again(tmp_path: Path, host: str) -> None:  # REG-066
    who = kit.node("a")
    async with kit.registry(tmp_path) as first:
        mine = kit.client(first, who, host=host)
        await mine.publish(kit.signed_node("a"))
    with pytest.raises(Unavailable):
        await mine.fetch(f"node/{who.id}")
    async with kit.registry(tmp_path, port=first.port):
        found = await mine.fetch(f"node/{who.id}")
        assert found is not None
        await mine.__aexit__()


async def test_a_script_drives_it_from_outside() -> None:
    lies = Hostile()
    raw = kit.dsse.encode_envelope(kit.signed_node("a"))
    command = {"do": "hold", "envelope": hostile.base64.b64encode(raw).decode()}
    answer = await hostile.take_command(lies, hostile.json.dumps(command).encode())
    assert answer == {"done": "hold", "result": f"node/{kit.node('a').id}"}
