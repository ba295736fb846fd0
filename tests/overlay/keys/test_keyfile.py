"""The text of a key file: every deviation is refused, and a passphrase opens what it sealed."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.errors import Refused, Rejected
from overlay.keys import keyfile
from overlay.keys.identity import Identity, Kind
from overlay.keys.keyfile import Cost, SealedKey

IDENTITY = Identity(Kind.TENANT, bytes(range(32)))
PLAIN = keyfile.format_key_file(IDENTITY)
SALT, BOX = bytes(16).hex(), bytes(72).hex()
CHEAP = Cost(1, 8_192)
SEALED = keyfile.seal(IDENTITY, "correct horse", salt=bytes(16), nonce=bytes(24), cost=CHEAP)


def test_file_says_what_it_is() -> None:
    assert PLAIN.startswith(b"zos-key v1 tenant tenant1")
    assert keyfile.format_key_file(SEALED).startswith(PLAIN.partition(b"\n")[0])


@pytest.mark.parametrize("kind", Kind)
def test_parse_returns_what_was_formatted(kind: Kind) -> None:
    identity = Identity(kind, bytes(range(32)))
    parsed = keyfile.parse_key_file(keyfile.format_key_file(identity))
    assert isinstance(parsed, Identity)
    assert (parsed.kind, parsed.id, parsed.reveal()) == (kind, identity.id, bytes(range(32)))


def test_sealed_key_opens_with_its_passphrase_alone() -> None:  # KEY-014
    parsed = keyfile.parse_key_file(keyfile.format_key_file(SEALED))
    assert parsed == SEALED
    assert isinstance(parsed, SealedKey)
    assert keyfile.unseal(parsed, "correct horse").reveal() == IDENTITY.reveal()
    for wrong in ("correct horsf", "Correct horse", "correct horse ", "x"):
        with pytest.raises(Refused, match="wrong passphrase"):
            keyfile.unseal(parsed, wrong)


def test_sealed_file_does_not_hold_the_seed() -> None:  # KEY-014
    assert IDENTITY.reveal().hex().encode() not in keyfile.format_key_file(SEALED)
    assert SEALED.box.hex() not in repr(SEALED)


def test_passphrase_is_the_same_however_it_was_typed() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    sealed = keyfile.seal(IDENTITY, composed, salt=bytes(16), nonce=bytes(24), cost=CHEAP)
    assert keyfile.unseal(sealed, decomposed).id == IDENTITY.id


@pytest.mark.parametrize("passphrase", ["", "x" * 1_025, "\ud800"])
def test_passphrase_out_of_bounds_is_refused(passphrase: str) -> None:
    with pytest.raises(Rejected, match="passphrase"):
        keyfile.seal(IDENTITY, passphrase, salt=bytes(16), nonce=bytes(24), cost=CHEAP)


@pytest.mark.parametrize(
    "cost",
    [
        Cost(keyfile.MAX_COST_OPS + 1, 8_192),
        Cost(1, keyfile.MAX_COST_MEMORY_BYTES + 1),
        Cost(1, 8_191),
        Cost(1, 100 << 30),
    ],
)
def test_cost_out_of_bounds_is_refused_before_it_is_paid(cost: Cost) -> None:  # KEY-015
    hostile = SealedKey(Kind.TENANT, IDENTITY.id, cost=cost, salt=bytes(16), box=bytes(72))
    with pytest.raises(Rejected, match="out of bounds"):
        keyfile.parse_key_file(keyfile.format_key_file(hostile))
    with pytest.raises(Rejected, match="out of bounds"):
        keyfile.unseal(hostile, "x")


def test_cost_at_the_bounds_is_read() -> None:
    largest = Cost(keyfile.MAX_COST_OPS, keyfile.MAX_COST_MEMORY_BYTES)
    sealed = SealedKey(Kind.TENANT, IDENTITY.id, cost=largest, salt=bytes(16), box=bytes(72))
    assert keyfile.parse_key_file(keyfile.format_key_file(sealed)) == sealed


@pytest.mark.parametrize("raw", [PLAIN, keyfile.format_key_file(SEALED)], ids=["plain", "sealed"])
def test_parse_refuses_every_flipped_bit(raw: bytes) -> None:  # KEY-011
    for bit in range(len(raw) * 8):
        wrong = bytearray(raw)
        wrong[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Rejected, match="damaged"):
            keyfile.parse_key_file(bytes(wrong))


def test_parse_refuses_every_shorter_file() -> None:  # KEY-011
    for size in range(len(PLAIN)):
        with pytest.raises(Rejected, match="damaged"):
            keyfile.parse_key_file(PLAIN[:size])


@pytest.mark.parametrize(
    "lines",
    [
        f"zos-key v2 tenant {IDENTITY.id}\nseed {bytes(32).hex()}\n",
        f"zos-key v1 king {IDENTITY.id}\nseed {bytes(32).hex()}\n",
        f"zos-key v1 tenant {IDENTITY.id}\nseed {bytes(32).hex()}\n",  # the seed of another id
        f"zos-key v1 node {IDENTITY.id}\nseed {IDENTITY.reveal().hex()}\n",
        f"zos-key v1 tenant {IDENTITY.id}\nseed {bytes(31).hex()}\n",
        f"zos-key v1 tenant {IDENTITY.id}\nsealed argon2id 01 8192 {SALT} {BOX}\n",
        f"zos-key v1 tenant {IDENTITY.id}\nsealed scrypt 1 8192 {SALT} {BOX}\n",
        f"zos-key v1 tenant {IDENTITY.id}\nsealed argon2id 1 8192 {SALT} {BOX[2:]}\n",
    ],
)
def test_parse_refuses_lines_that_fit_their_checksum_but_not_each_other(lines: str) -> None:
    raw = f"{lines}check {hashlib.sha256(lines.encode()).hexdigest()}\n".encode()
    with pytest.raises(Rejected, match="damaged"):
        keyfile.parse_key_file(raw)


def test_unseal_refuses_a_box_that_holds_another_key() -> None:
    swapped = SealedKey(
        Kind.TENANT,
        Identity(Kind.TENANT, bytes(32)).id,
        cost=CHEAP,
        salt=SEALED.salt,
        box=SEALED.box,
    )
    with pytest.raises(Rejected, match="not that of its id"):
        keyfile.unseal(swapped, "correct horse")


@settings(max_examples=200)
@given(raw=st.binary(max_size=keyfile.MAX_KEY_FILE_BYTES + 1))
def test_parse_answers_any_bytes_with_rejected(raw: bytes) -> None:  # DOC-010
    with pytest.raises(Rejected):
        keyfile.parse_key_file(raw)
