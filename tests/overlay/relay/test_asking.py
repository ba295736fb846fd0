"""One question to a relay over UDP, and what counts as its answer (NODE-083)."""

from __future__ import annotations

import os

from overlay.keys.wireguard import WireGuardKey
from overlay.model import WgPublicKey
from overlay.relay import messages, noise
from overlay.relay.asking import is_answer, make_question
from overlay.relay.limits import Place
from overlay.relay.messages import Initiation
from overlay.relay.table import Table
from tests.wg_initiator import Initiator

RELAY, OWN = (WireGuardKey(bytes(range(n, n + 32))) for n in (0, 32))
EPHEMERAL = WireGuardKey(bytes(range(64, 96)))
WALL = 1_700_000_000.0
HERE: Place = ("203.0.113.1", 4_000)
ELSEWHERE: Place = ("203.0.113.1", 5_000)


def question(*, index: int = 7, wall: float = WALL) -> bytes:
    packet = make_question(OWN, RELAY.public_key, ephemeral=EPHEMERAL, index=index, wall=wall)
    assert packet is not None
    return packet


def table(now: float = 0.0) -> Table:
    made = Table(RELAY, random_bytes=os.urandom, now=now, is_own=lambda _: False)
    made.allow({"home": frozenset({OWN.public_key})})
    return made


def test_a_relay_reads_who_asks() -> None:
    message = messages.parse(question())
    assert isinstance(message, Initiation)
    opened = noise.open_initiation(message, RELAY)
    assert opened is not None
    assert (opened.initiator, opened.sender) == (OWN.public_key, 7)


def test_a_relay_answers_a_member_and_it_counts_as_an_answer_to_that_question_alone() -> None:
    sending = table().step(0.0, HERE, question())
    assert sending is not None
    assert sending[0] == HERE
    answer = sending[1]
    assert is_answer(answer, own=OWN.public_key, index=7)
    assert not is_answer(answer, own=OWN.public_key, index=8)
    assert not is_answer(answer, own=RELAY.public_key, index=7)
    assert not is_answer(answer[:-1], own=OWN.public_key, index=7)
    assert not is_answer(b"", own=OWN.public_key, index=7)
    assert not is_answer(question(), own=OWN.public_key, index=7)


def test_a_question_moves_nobody_and_costs_no_handshake() -> None:
    relay = table()
    device = Initiator(OWN, RELAY.public_key)
    answered = relay.step(0.0, ELSEWHERE, device.initiation(WALL - 60.0, index=1))
    assert answered is not None
    device.finish(answered[1])
    relay.step(0.1, ELSEWHERE, device.data())
    assert relay.where(OWN.public_key) == ELSEWHERE
    assert relay.step(0.2, HERE, question()) is not None
    assert relay.where(OWN.public_key) == ELSEWHERE
    relay.step(0.3, ELSEWHERE, device.data())
    assert relay.where(OWN.public_key) == ELSEWHERE
    # The device's next handshake, at the very same time, is later than the question.
    assert relay.step(0.4, ELSEWHERE, device.initiation(WALL, index=2)) is not None


def test_a_key_that_protects_nothing_is_not_asked() -> None:
    nothing = WgPublicKey(bytes(32))
    assert make_question(OWN, nothing, ephemeral=EPHEMERAL, index=1, wall=WALL) is None
