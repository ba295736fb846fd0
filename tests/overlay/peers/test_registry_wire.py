"""Frames and lines: what is read back, and what is refused (REG-064)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.documents import schema
from overlay.errors import Rejected
from overlay.keys.identity import Kind
from overlay.peers import registry_wire as wire
from tests.overlay.registry import kit

NET = kit.network_id(kit.network(kit.tenant()))
NODE = kit.node("a").id
KEYS = [
    f"farm/{kit.farm().id}",
    f"node/{NODE}",
    f"network/{NET}",
    f"member/{NET}/{NODE}",
    f"result/{NET}/{NODE}",
]


@pytest.mark.parametrize("key", KEYS)
def test_keys_are_read(key: str) -> None:
    assert "/".join(wire.parse_key(key)) == key
    assert len(key) <= wire.MAX_KEY_CHARS


@pytest.mark.parametrize(
    "key",
    ["", "node", f"node/{NET}", f"node/{NODE}/", f"member/{NET}", f"thing/{NODE}", "a" * 500],
)
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(Rejected):
        wire.parse_key(key)


def test_frames_are_read_as_written() -> None:
    assert wire.parse_frame(wire.bookmark_line(5)) == wire.BookmarkFrame(5)
    assert wire.parse_frame(wire.snapshot_line(5, count=0)) == wire.SnapshotFrame(5, 0)
    frame = wire.parse_frame(wire.document_line(key=KEYS[1], revision=7, envelope=b'{"a":1}'))
    assert isinstance(frame, wire.DocumentFrame)
    assert (frame.revision, frame.key, bytes(frame.envelope)) == (7, KEYS[1], b'{"a":1}')


@given(st.binary())
def test_any_bytes_are_a_frame_or_rejected(line: bytes) -> None:
    try:
        wire.parse_frame(line)
    except Rejected:
        return


@given(st.lists(st.binary(max_size=8).filter(lambda b: b"\n" not in b)), st.integers(1, 9))
def test_lines_come_out_whole_however_they_arrive(parts: list[bytes], size: int) -> None:
    raw = b"".join(part + b"\n" for part in parts)
    lines = wire.Lines()
    fed = [line for at in range(0, len(raw), size) for line in lines.feed(raw[at : at + size])]
    assert fed == parts


def test_a_line_has_a_bound() -> None:
    assert list(wire.Lines(4).feed(b"1234\n12")) == [b"1234"]
    with pytest.raises(Rejected):
        list(wire.Lines(4).feed(b"12345\n"))
    lines = wire.Lines(4)
    assert list(lines.feed(b"1234")) == []
    with pytest.raises(Rejected):
        list(lines.feed(b"5"))


@pytest.mark.parametrize("kind", schema.KINDS)
def test_a_kind_has_room_for_its_largest_envelope(kind: str) -> None:
    payload = b"x" * schema.MAX_BYTES[kind]
    signers = [kit.key(Kind.TENANT, f"{n}") for n in range(kit.dsse.MAX_SIGNATURES)]
    envelope = kit.dsse.sign(payload, schema.payload_type(kind), *signers)
    assert len(kit.dsse.encode_envelope(envelope)) <= wire.max_envelope_bytes(kind)
