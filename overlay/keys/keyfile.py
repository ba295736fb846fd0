"""What is in a key file: its text form, its checksum, and its sealed form under a passphrase.

    zos-key v1 tenant tenant1...          what it is; readable without the passphrase
    seed 9d61b1...                        or: sealed argon2id OPS MEMORY SALT BOX
    check 3c9e2f...                       SHA-256 of the lines above

Every deviation is Rejected: a damaged file must never pass for another key (KEY-011).
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from nacl import pwhash
from nacl.exceptions import CryptoError
from nacl.exceptions import RuntimeError as SodiumError
from nacl.secret import SecretBox

from overlay.errors import Refused, Rejected, Unavailable
from overlay.keys.identity import SEED_BYTES, Identity, Kind

MAX_KEY_FILE_BYTES = 1_024
MAX_PASSPHRASE_BYTES = 1_024
SALT_BYTES = pwhash.argon2id.SALTBYTES
NONCE_BYTES = SecretBox.NONCE_SIZE
# A key file may come from somebody else; it must not make us compute for hours or fill the memory.
MAX_COST_OPS = 16
MAX_COST_MEMORY_BYTES = 1 << 30

_LINE = "[ -~]*"
_FILE = re.compile(rf"(({_LINE})\n({_LINE})\n)check ([0-9a-f]{{64}})\n")
_HEADER = re.compile(r"zos-key v1 ([a-z]+) ([a-z0-9]+)")
_PLAIN = re.compile(rf"seed ([0-9a-f]{{{2 * SEED_BYTES}}})")
_BOX_BYTES = NONCE_BYTES + SEED_BYTES + SecretBox.MACBYTES
_SEALED = re.compile(
    rf"sealed argon2id ([1-9][0-9]{{0,9}}) ([1-9][0-9]{{0,12}})"
    rf" ([0-9a-f]{{{2 * SALT_BYTES}}}) ([0-9a-f]{{{2 * _BOX_BYTES}}})"
)


class Cost(NamedTuple):
    """What one guess of a passphrase costs."""

    ops: int
    memory_bytes: int


# libsodium's "moderate": about 0.7 s and 256 MiB.
COST: Final = Cost(pwhash.argon2id.OPSLIMIT_MODERATE, pwhash.argon2id.MEMLIMIT_MODERATE)


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A private key that only its passphrase opens."""

    kind: Kind
    id: str
    cost: Cost
    salt: bytes = field(repr=False)
    box: bytes = field(repr=False)


def seal(
    identity: Identity, passphrase: str, *, salt: bytes, nonce: bytes, cost: Cost = COST
) -> SealedKey:
    """The key under a passphrase. `salt` and `nonce` must be random and never used before."""
    secret = _stretch(passphrase, salt=salt, cost=cost)
    box = bytes(SecretBox(secret).encrypt(identity.reveal(), nonce))
    return SealedKey(identity.kind, identity.id, cost=cost, salt=salt, box=box)


def unseal(sealed: SealedKey, passphrase: str) -> Identity:
    """The key. Raises Refused when the passphrase is wrong."""
    secret = _stretch(passphrase, salt=sealed.salt, cost=sealed.cost)
    try:
        seed = SecretBox(secret).decrypt(sealed.box)
    except CryptoError:
        raise Refused(f"wrong passphrase for {sealed.id}") from None
    return _matching(Identity(sealed.kind, seed), sealed.id)


def format_key_file(key: Identity | SealedKey) -> bytes:
    lines = f"zos-key v1 {key.kind} {key.id}\n{_secret_line(key)}\n".encode("ascii")
    return lines + f"check {hashlib.sha256(lines).hexdigest()}\n".encode("ascii")


def parse_key_file(raw: bytes) -> Identity | SealedKey:
    """The key in a file. Raises Rejected when one bit of it is not as it was written."""
    header, secret = _checked_lines(raw)
    match = _HEADER.fullmatch(header)
    if match is None or match[1] not in list(Kind):
        raise _damaged("the first line is not that of a key file of this version")
    kind, public_id = Kind(match[1]), match[2]
    if plain := _PLAIN.fullmatch(secret):
        return _matching(Identity(kind, bytes.fromhex(plain[1])), public_id)
    if sealed := _SEALED.fullmatch(secret):
        cost = _checked_cost(Cost(int(sealed[1]), int(sealed[2])))
        salt, box = bytes.fromhex(sealed[3]), bytes.fromhex(sealed[4])
        return SealedKey(kind, public_id, cost=cost, salt=salt, box=box)
    raise _damaged("the second line holds no key")


def _checked_lines(raw: bytes) -> tuple[str, str]:
    if len(raw) > MAX_KEY_FILE_BYTES:
        raise _damaged(f"larger than {MAX_KEY_FILE_BYTES} bytes")
    match = _FILE.fullmatch(raw.decode("latin-1"))
    if match is None:
        raise _damaged("not the three lines of a key file")
    if hashlib.sha256(match[1].encode("latin-1")).hexdigest() != match[4]:
        raise _damaged("its checksum does not match")
    return match[2], match[3]


def _secret_line(key: Identity | SealedKey) -> str:
    if isinstance(key, Identity):
        return f"seed {key.reveal().hex()}"
    return (
        f"sealed argon2id {key.cost.ops} {key.cost.memory_bytes} {key.salt.hex()} {key.box.hex()}"
    )


def _stretch(passphrase: str, *, salt: bytes, cost: Cost) -> bytes:
    ops, memory_bytes = _checked_cost(cost)
    secret = _passphrase_bytes(passphrase)
    try:
        return pwhash.argon2id.kdf(
            SecretBox.KEY_SIZE, secret, salt, opslimit=ops, memlimit=memory_bytes
        )
    except SodiumError as exc:
        raise Unavailable(f"no {memory_bytes >> 20} MiB of memory for the passphrase") from exc


def _passphrase_bytes(passphrase: str) -> bytes:
    # NFC, so that the same characters typed on another keyboard are the same bytes.
    try:
        secret = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        raise Rejected("the passphrase is not valid text") from None
    if not 1 <= len(secret) <= MAX_PASSPHRASE_BYTES:
        raise Rejected(f"a passphrase has 1 to {MAX_PASSPHRASE_BYTES} bytes")
    return secret


def _checked_cost(cost: Cost) -> Cost:
    floor = pwhash.argon2id.MEMLIMIT_MIN
    if not (1 <= cost.ops <= MAX_COST_OPS and floor <= cost.memory_bytes <= MAX_COST_MEMORY_BYTES):
        raise Rejected(
            f"argon2id with {cost.ops} passes over {cost.memory_bytes} bytes is out of bounds"
        )
    return cost


def _matching(identity: Identity, public_id: str) -> Identity:
    if identity.id != public_id:
        raise _damaged("its private key is not that of its id")
    return identity


def _damaged(reason: str) -> Rejected:
    return Rejected(f"damaged key file: {reason}", remedy="restore it from a backup")
