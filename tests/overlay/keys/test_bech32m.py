"""BIP-350's published vectors, and what ids ask of the format beyond them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.errors import Rejected
from overlay.keys import bech32m

# https://github.com/bitcoin/bips/blob/master/bip-0350.mediawiki#test-vectors-for-bech32m
VALID = [
    "A1LQFN3A",
    "a1lqfn3a",
    "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
    "11llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllludsr8",
    "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
    "?1v759aa",
]
INVALID = {
    "\x201xj0phk": "no prefix",
    "\x7f1g6xzxy": "no prefix",
    "\x801vctc34": "no prefix",
    "an84characterslonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber1"
    "1d6pts4": "more than 90",
    "qyrz8wqd2c9m": "no prefix",
    "1qyrz8wqd2c9m": "no prefix",
    "y1b0jsk6g": "never used",
    "lt1igcx5c0": "never used",
    "in1muywd": "cut short",
    "mm1crxm3i": "never used",
    "au1s5cgom": "never used",
    "M1VUXWEZ": "checksum",
    "16plkw9": "no prefix",
    "1p2gdwpf": "no prefix",
}
NODE_KEY = bytes(range(32))


@pytest.mark.parametrize("text", VALID)
def test_decode_accepts_the_published_vectors(text: str) -> None:  # KEY-001
    prefix, groups = bech32m.decode_groups(text)
    assert bech32m.encode_groups(prefix, groups) == text.lower()


@pytest.mark.parametrize(("text", "reason"), INVALID.items())
def test_decode_refuses_the_published_invalid_vectors(text: str, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        bech32m.decode_groups(text)


@pytest.mark.parametrize(
    "text",
    [  # BIP-350, section "Test vectors for v0-v16 native segregated witness addresses"
        "bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7v07qwwzcrf",  # > 4 padding bits
        "tb1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vpggkg4j",  # non-zero padding
    ],
)
def test_decode_refuses_padding_that_is_not_canonical(text: str) -> None:  # KEY-002
    prefix, groups = bech32m.decode_groups(text)
    with pytest.raises(Rejected, match="whole number of bytes"):
        bech32m.decode(bech32m.encode_groups(prefix, groups[1:]))  # without the witness version


def test_decode_refuses_mixed_case() -> None:
    with pytest.raises(Rejected, match="mixes capital and small"):
        bech32m.decode("a1lqfn3A")


def test_decode_refuses_the_older_bech32_checksum() -> None:
    with pytest.raises(Rejected, match="checksum"):
        bech32m.decode("a12uel5l")


@given(payload=st.binary(max_size=46))
def test_decode_returns_what_was_encoded(payload: bytes) -> None:
    assert bech32m.decode(bech32m.encode("node", payload)) == ("node", payload)


def test_encode_refuses_what_has_no_room() -> None:
    assert len(bech32m.encode("node", bytes(49))) == bech32m.MAX_TEXT_CHARS
    with pytest.raises(Rejected, match="90"):
        bech32m.encode("node", bytes(50))


@pytest.mark.parametrize("prefix", ["", "Node", "nöde", "a b"])
def test_encode_refuses_a_prefix_that_is_none(prefix: str) -> None:
    with pytest.raises(Rejected, match="no bech32m prefix"):
        bech32m.encode(prefix, b"")


@given(text=st.text() | st.text("node1qpzryNODEü\ud800", max_size=100))
def test_decode_answers_any_text_with_a_value_or_rejected(text: str) -> None:  # DOC-010
    try:
        prefix, payload = bech32m.decode(text)
    except Rejected:
        return
    assert bech32m.encode(prefix, payload) == text.lower()


def test_parse_returns_the_bytes() -> None:
    text = bech32m.encode("node", NODE_KEY)
    assert bech32m.parse(text, prefix="node", size_bytes=32) == NODE_KEY


def test_parse_names_the_expected_and_the_found_prefix() -> None:
    with pytest.raises(Rejected, match=r"expected node1\.\.\., got 'tenant1"):
        bech32m.parse(bech32m.encode("tenant", NODE_KEY), prefix="node", size_bytes=32)


def test_parse_refuses_the_upper_case_spelling() -> None:  # KEY-002
    with pytest.raises(Rejected, match="capital letters"):
        bech32m.parse(bech32m.encode("node", NODE_KEY).upper(), prefix="node", size_bytes=32)


@pytest.mark.parametrize("size_bytes", [31, 33])
def test_parse_refuses_another_size(size_bytes: int) -> None:
    with pytest.raises(Rejected, match=f"carries 32 bytes, not {size_bytes}"):
        bech32m.parse(bech32m.encode("node", bytes(size_bytes)), prefix="node", size_bytes=32)


@given(
    position=st.integers(len("node1"), len(bech32m.encode("node", NODE_KEY)) - 1),
    symbol=st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"),
)
def test_parse_names_the_place_of_one_wrong_character(
    position: int, symbol: str
) -> None:  # KEY-001
    text = bech32m.encode("node", NODE_KEY)
    if text[position] == symbol:
        return
    wrong = text[:position] + symbol + text[position + 1 :]
    with pytest.raises(Rejected) as caught:
        bech32m.parse(wrong, prefix="node", size_bytes=32)
    assert caught.value.remedy == f"look at character {position + 1}"


def test_errors_repeat_no_more_than_a_little_of_the_text() -> None:
    with pytest.raises(Rejected) as caught:
        bech32m.parse("x" * 10_000, prefix="node", size_bytes=32)
    assert len(str(caught.value)) < 100
