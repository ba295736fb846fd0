"""Datagrams that are kept, as they are and with a few bytes changed, between members that talk.

What a search finds is added to `corpus/` as one more file (REL-001, REL-035).
"""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.relay import messages
from overlay.relay.fate import Fate
from tests.relay_world import World

CORPUS = {path.stem: path.read_bytes() for path in sorted(Path(__file__).parent.glob("corpus/*"))}
KINDS = {
    "registration": messages.INITIATION,
    "registration-answer": messages.RESPONSE,
    "registration-keepalive": messages.DATA,
    "registration-data": messages.DATA,
    "initiation-a-to-b": messages.INITIATION,
    "initiation-to-nobody": messages.INITIATION,
    "initiation-no-macs": messages.INITIATION,
    "ephemeral-of-small-order": messages.INITIATION,
    "response-b-to-a": messages.RESPONSE,
    "cookie-reply": messages.COOKIE_REPLY,
    "data-to-9": messages.DATA,
    "data-shortest": messages.DATA,
    "data-longest": messages.DATA,
}


def talking() -> World:
    """a and b have a session by way of the relay; x is registered, in another network."""
    world = World()
    world.register("a", "b", "x")
    world.acquaint("a", "b", 5, 9)
    return world


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """One of them with bytes changed, taken out or put in; or the head of one and the tail of
    another.
    """
    packet = bytearray(draw(st.sampled_from(list(CORPUS.values()))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(packet)))
        match draw(st.sampled_from(("change", "remove", "insert", "splice"))):
            case "change" if at < len(packet):
                packet[at] = draw(st.integers(0, 255))
            case "remove":
                del packet[at : at + draw(st.integers(1, 40))]
            case "insert":
                packet[at:at] = draw(st.binary(min_size=1, max_size=40))
            case "splice":
                packet[at:] = draw(st.sampled_from(list(CORPUS.values())))[at:]
    return bytes(packet)


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_kept_is_what_it_is_called(name: str) -> None:
    assert messages.kind_of(CORPUS[name]) == KINDS.get(name, 0)


@pytest.mark.parametrize("name", CORPUS)
def test_what_is_kept_leads_to_nobody_but_its_receiver(name: str) -> None:
    world = talking()
    for sender in "abxz":
        sent = world.send(sender, CORPUS[name])
        assert sent is None or sent[0] in {world.peers[each].place for each in "abx"}
        if sender in "xz":
            assert sent is None or sent[0] == world.peers[sender].place


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abxz"), mutated()), min_size=1, max_size=12))
def test_what_is_changed_a_little_passes_no_border(events: list[tuple[str, bytes]]) -> None:
    world = talking()
    places = {name: world.peers[name].place for name in "abxz"}
    for sender, packet in events:
        sent = world.send(sender, packet)
        if sent is None or sent[0] == places[sender]:
            continue  # dropped, or an answer to who sent it
        assert (sent[1], sender) in ((packet, "a"), (packet, "b"))
        assert sent[0] == places["b" if sender == "a" else "a"]
    assert world.send("a", CORPUS["data-to-9"]) == (places["b"], CORPUS["data-to-9"])
    assert world.count(Fate.FORWARDED) >= 3
