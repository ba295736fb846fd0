"""What waits for a slow reader (REL-054)."""

from __future__ import annotations

from overlay.relay.backlog import MAX_BACKLOG_BYTES, Backlog


def test_what_is_put_comes_out_in_order() -> None:
    backlog = Backlog()
    for packet in (b"a", b"b", b"c"):
        backlog.put(packet)
    assert [backlog.take() for _ in range(4)] == [b"a", b"b", b"c", None]
    assert (len(backlog), backlog.size_bytes, backlog.dropped) == (0, 0, 0)


def test_at_the_bound_nothing_is_dropped_and_beyond_it_the_oldest() -> None:
    backlog = Backlog(limit_bytes=10)
    backlog.put(b"12345")
    backlog.put(b"67890")
    assert (backlog.dropped, backlog.size_bytes) == (0, 10)
    backlog.put(b"x")
    assert (backlog.dropped, backlog.size_bytes) == (1, 6)
    assert [backlog.take(), backlog.take()] == [b"67890", b"x"]


def test_a_flood_holds_no_more_than_the_bound() -> None:
    backlog = Backlog()
    for _ in range(10_000):
        backlog.put(bytes(1_452))
    assert MAX_BACKLOG_BYTES - 1_452 < backlog.size_bytes <= MAX_BACKLOG_BYTES
    assert backlog.dropped == 10_000 - len(backlog)
