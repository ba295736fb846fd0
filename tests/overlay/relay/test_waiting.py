"""Initiations for members who register a moment later (REL-024, REL-037)."""

from __future__ import annotations

import pytest

from overlay.relay import messages, waiting
from overlay.relay.fate import Fate
from overlay.relay.waiting import HELD_S, MAX_HELD, MAX_HELD_PER_SENDER, Waiting
from tests.relay_world import World, key_of


@pytest.fixture
def world() -> World:
    return World()


def test_an_initiation_is_sent_on_when_its_receiver_registers(world: World) -> None:  # REL-024
    world.register("a")
    asked = world.initiation("a", "b", 11)
    assert world.fate_of("a", asked) is Fate.HELD
    world.register("b")
    assert world.table.take_due() == [(world.peers["b"].place, asked)]
    assert world.table.take_due() == []
    # It leads back as any other does.
    answered = world.response("b", "a", 12, 11)
    assert world.send("b", answered) == (world.peers["a"].place, answered)
    assert world.count(Fate.FORWARDED) == 2


def test_of_several_the_latest_is_sent_on(world: World) -> None:  # REL-024
    world.register("a", "c")
    for index in (1, 2):
        world.send("a", world.initiation("a", "b", index))
        world.now += 0.001
    latest = [world.initiation(name, "b", 3) for name in "ac"]
    for name, packet in zip("ac", latest, strict=True):
        world.send(name, packet)
    world.register("b")
    # Both have index 3, which leads to one of them only.
    assert world.table.take_due() == [(world.peers["b"].place, latest[0])]
    assert world.count(Fate.TAKEN) == 1


def test_what_has_waited_for_too_long_is_not_sent_on(world: World) -> None:  # REL-024
    world.register("a")
    world.send("a", world.initiation("a", "b", 11))
    world.now += HELD_S
    world.register("b")
    assert world.table.take_due() == []


def test_only_who_shares_a_network_is_sent_what_was_held(world: World) -> None:  # REL-021
    world.register("a")
    world.send("a", world.initiation("a", "x", 11))
    world.register("x")
    assert world.table.take_due() == []


def test_nothing_is_sent_on_for_who_may_not_talk_any_more(world: World) -> None:  # REL-023
    world.register("a")
    world.send("a", world.initiation("a", "b", 11))
    world.networks["one"] = "bc"
    world.table.allow(world.membership())
    world.register("b")
    assert world.table.take_due() == []


def test_nothing_is_held_when_everybody_is_there(world: World) -> None:  # REL-024
    world.register("a", "b", "c")
    assert world.fate_of("a", world.initiation("a", "z", 1)) is Fate.UNKNOWN_RECEIVER


def test_a_stranger_s_initiation_is_not_held(world: World) -> None:  # REL-021
    assert world.fate_of("a", world.initiation("a", "b", 1)) is Fate.UNKNOWN_SOURCE
    world.register("b")
    assert world.table.take_due() == []


def packet_for(world: World, number: int) -> bytes:
    return world.initiation("a", "b", number)


def test_one_sender_holds_so_many(world: World) -> None:  # REL-037
    held, sender = Waiting(), world.peers["a"].public
    other = world.peers["c"].public
    held.put(0.0, other, world.initiation("c", "b", 1))
    for number in range(MAX_HELD_PER_SENDER + 3):
        held.put(0.0, sender, packet_for(world, number))
    assert len(held) == MAX_HELD_PER_SENDER + 1
    taken = held.take(0.0, messages.mac1_key(world.peers["b"].public))
    assert {each.sender for each in taken} == {sender, other}
    last = next(each.packet for each in taken if each.sender == sender)
    assert last[4:8] == (MAX_HELD_PER_SENDER + 2).to_bytes(4, "little")
    assert len(held) == 0


def test_all_together_hold_so_many(world: World) -> None:  # REL-037
    held = Waiting()
    for number in range(MAX_HELD + 5):
        held.put(0.0, key_of(f"sender {number}").public_key, packet_for(world, number))
    assert len(held) == MAX_HELD
    held.expire(HELD_S)
    assert len(held) == 0
    assert held._of == {}


def test_what_is_held_is_forgotten_without_anybody_coming(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:  # REL-037
    monkeypatch.setattr(waiting, "HELD_S", 1.0)
    world.register("a")
    world.send("a", world.initiation("a", "b", 11))
    assert len(world.table._waiting) == 1
    world.table.expire(world.now + 1.0)
    assert len(world.table._waiting) == 0
