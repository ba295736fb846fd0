"""Join tokens: read back as written, damage is named, nothing of them is repeated (NODE-035)."""

from __future__ import annotations

import hashlib
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.errors import Rejected
from overlay.keys import identity
from overlay.keys.identity import Identity, Kind
from overlay.model import NetworkId
from zos_core.token import MAX_TOKEN_CHARS, PREFIX, Token, parse_token

INVITATION = Identity.from_seed(Kind.INVITE, hashlib.sha256(b"invite").digest())
NETWORK = NetworkId(identity.format_network_id(bytes(range(20))))
TOKEN = Token(registry="https://192.0.2.1:1#registry1x", network=NETWORK, invitation=INVITATION)


def test_a_token_reads_back_as_itself() -> None:
    read = parse_token(f" {TOKEN.encode()}\n")
    assert (read.registry, read.network) == (TOKEN.registry, TOKEN.network)
    assert read.invitation.id == INVITATION.id


def test_a_token_fits_into_a_url_and_a_shell() -> None:
    assert TOKEN.encode().replace("-", "").replace("_", "").isalnum()
    assert TOKEN.encode().isascii()


@given(st.data())
def test_a_mistyped_token_is_refused(data: st.DataObject) -> None:
    text = TOKEN.encode()
    at = data.draw(st.integers(len(PREFIX), len(text) - 1))
    other = data.draw(st.sampled_from("abcXYZ019-_").filter(lambda c: c != text[at]))
    with pytest.raises(Rejected) as caught:
        parse_token(text[:at] + other + text[at + 1 :])
    assert text[10:40] not in str(caught.value)


@given(st.one_of(st.text(max_size=60), st.text("abcABC019_-=", max_size=80).map(PREFIX.__add__)))
def test_any_text_is_a_token_or_rejected(text: str) -> None:
    with pytest.raises(Rejected):
        parse_token(text)


def test_a_token_has_a_largest_size() -> None:
    with pytest.raises(Rejected, match="no join token"):
        parse_token(PREFIX + "A" * MAX_TOKEN_CHARS)


def test_a_token_shows_itself_in_one_place_only() -> None:
    # NODE-052
    secret = TOKEN.encode()
    assert secret[len(PREFIX) : len(PREFIX) + 20] not in f"{TOKEN!r} {TOKEN}"
    assert INVITATION.reveal().hex() not in repr(TOKEN)
    with pytest.raises(TypeError):
        pickle.dumps(TOKEN)
