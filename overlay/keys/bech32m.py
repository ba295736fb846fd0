"""Bech32m text (BIP-350): bytes behind a readable prefix, with a checksum against typing errors.

An id is compared as text all over the project, so `parse` takes exactly one spelling of it;
`decode` is the format itself, which also knows an all-upper-case form.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from operator import xor

from overlay.errors import Rejected

MAX_TEXT_CHARS = 90  # BIP-173: up to here any four wrong characters are detected
CHECKSUM_CHARS = 6
MAX_QUOTED_CHARS = 20  # how much of a wrong text an error repeats

_SEPARATOR = "1"
_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {char: value for value, char in enumerate(_CHARSET)}
_DIGITS = bytes.maketrans(bytes(range(32)), b"0123456789abcdefghijklmnopqrstuv")
_FINAL = 0x2BC830A3  # BIP-350; Bech32 (BIP-173) ends in 1
_GENERATOR = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_FEEDBACK = tuple(
    reduce(xor, (g for bit, g in enumerate(_GENERATOR) if top >> bit & 1), 0) for top in range(32)
)


def parse(text: str, *, prefix: str, size_bytes: int) -> bytes:
    """The bytes in the one canonical spelling of an id. Raises Rejected naming what is wrong."""
    found = text[:MAX_TEXT_CHARS].rpartition(_SEPARATOR)[0]
    if found.lower() != prefix:
        raise Rejected(f"expected {prefix}1..., got {quoted(text)}")
    if text != text.lower():
        raise Rejected(f"{quoted(text)} has capital letters", remedy="write it in lower case")
    payload = decode(text)[1]
    if len(payload) != size_bytes:
        raise Rejected(f"{prefix}1... carries {size_bytes} bytes, not {len(payload)}")
    return payload


def encode(prefix: str, payload: bytes) -> str:
    """Lower-case text of `payload`. Raises Rejected when the format has no room for it."""
    return encode_groups(prefix, _to_groups(payload))


def decode(text: str) -> tuple[str, bytes]:
    """Prefix (lower case) and payload. Raises Rejected naming what is wrong."""
    prefix, groups = decode_groups(text)
    return prefix, _to_bytes(groups)


def encode_groups(prefix: str, groups: bytes) -> str:
    """Like `encode`, for a payload that is already cut into groups of five bits."""
    if len(prefix) + 1 + len(groups) + CHECKSUM_CHARS > MAX_TEXT_CHARS:
        raise Rejected(f"more than {MAX_TEXT_CHARS} characters of bech32m")
    if not _is_prefix(prefix) or prefix != prefix.lower():
        raise Rejected(f"{quoted(prefix)} is no bech32m prefix")
    chk = _polymod([*_expand(prefix), *groups, *bytes(CHECKSUM_CHARS)]) ^ _FINAL
    checksum = [chk >> 5 * (CHECKSUM_CHARS - 1 - i) & 31 for i in range(CHECKSUM_CHARS)]
    return prefix + _SEPARATOR + "".join(_CHARSET[value] for value in (*groups, *checksum))


def decode_groups(text: str) -> tuple[str, bytes]:
    """Prefix (lower case) and groups of five bits. Raises Rejected naming what is wrong."""
    if len(text) > MAX_TEXT_CHARS:
        raise Rejected(f"{len(text)} characters are more than {MAX_TEXT_CHARS}")
    if text != text.lower() and text != text.upper():
        raise Rejected(f"{quoted(text)} mixes capital and small letters")
    prefix, separator, symbols = text.lower().rpartition(_SEPARATOR)
    if not separator or not _is_prefix(prefix):
        raise Rejected(f"{quoted(text)} has no prefix, such as node{_SEPARATOR}...")
    if len(symbols) < CHECKSUM_CHARS:
        raise Rejected(f"{quoted(text)} is cut short")
    values = _symbol_values(symbols, offset=len(prefix) + 1)
    if (residue := _polymod([*_expand(prefix), *values]) ^ _FINAL) != 0:
        raise Rejected(
            f"the checksum of {quoted(text)} does not match", remedy=_hint(text, residue)
        )
    return prefix, bytes(values[:-CHECKSUM_CHARS])


def quoted(text: str) -> str:
    """`text` for an error message: printable and short, whatever it is."""
    short = text if len(text) <= MAX_QUOTED_CHARS else text[: MAX_QUOTED_CHARS - 3] + "..."
    return ascii(short)


def _is_prefix(prefix: str) -> bool:
    return bool(prefix) and all("!" <= char <= "~" for char in prefix)


def _symbol_values(symbols: str, *, offset: int) -> list[int]:
    try:
        return [_VALUES[symbol] for symbol in symbols]
    except KeyError:
        at, wrong = next((i, s) for i, s in enumerate(symbols) if s not in _VALUES)
        raise Rejected(f"character {offset + at + 1}, {wrong!a}, is never used here") from None


def _expand(prefix: str) -> list[int]:
    codes = prefix.encode("ascii")
    return [*(code >> 5 for code in codes), 0, *(code & 31 for code in codes)]


def _step(chk: int) -> int:
    return (chk & 0x1FFFFFF) << 5 ^ _FEEDBACK[chk >> 25]


def _polymod(values: Iterable[int]) -> int:
    chk = 1
    for value in values:
        chk = (chk & 0x1FFFFFF) << 5 ^ value ^ _FEEDBACK[chk >> 25]
    return chk


def _hint(text: str, residue: int) -> str:
    # The code is linear: one wrong symbol, d places from the end, leaves its difference stepped d
    # times. BIP-173 allows to show the place but warns against correcting it for the person.
    differences = list(range(1, 32))
    for position in range(len(text), text.rfind(_SEPARATOR) + 1, -1):
        if residue in differences:
            return f"look at character {position}"
        differences = [_step(chk) for chk in differences]
    return "copy it again; more than one character is wrong"


def _to_groups(payload: bytes) -> bytes:
    count = -(-len(payload) * 8 // 5)
    number = int.from_bytes(payload, "big") << (count * 5 - len(payload) * 8)
    return bytes(number >> 5 * place & 31 for place in reversed(range(count)))


def _to_bytes(groups: bytes) -> bytes:
    size, spare_bits = divmod(len(groups) * 5, 8)
    number = int(groups.translate(_DIGITS) or b"0", 32)
    if spare_bits >= 5 or number & ((1 << spare_bits) - 1):
        raise Rejected("the payload is not a whole number of bytes")
    return (number >> spare_bits).to_bytes(size, "big")
