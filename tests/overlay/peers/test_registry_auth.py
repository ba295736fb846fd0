"""Request tokens: one text each, made by one key, for one request (REG-010)."""

from __future__ import annotations

import contextlib
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from overlay.errors import Rejected
from overlay.keys.identity import Identity, Kind
from overlay.peers import registry_auth as auth
from tests.overlay.registry import kit

REGISTRY = kit.key(Kind.REGISTRY, "r").id
REQUEST = {"registry": REGISTRY, "method": "GET", "target": "/v1/watch?from=1"}


def header(signer: Identity) -> str:
    return auth.sign_request(signer, **REQUEST, body=b"b", now=kit.NOW)


def admit(text: str) -> None:
    token = auth.parse_token(text)
    auth.check_fresh(token, now=kit.NOW)
    auth.verify_token(token, **REQUEST, body_sha256=hashlib.sha256(b"b").digest())


@pytest.mark.parametrize("kind", sorted(auth.CALLERS))
def test_who_signed_is_known(kind: Kind) -> None:
    token = auth.parse_token(header(kit.key(kind, "x")))
    digest = hashlib.sha256(b"b").digest()
    assert auth.verify_token(token, **REQUEST, body_sha256=digest) is kind
    assert token.id == kit.key(kind, "x").id


@pytest.mark.parametrize("at", range(0, 260, 3))
def test_a_changed_character_is_noticed(at: int) -> None:
    text = header(kit.node("a"))
    changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :] if at < len(text) else text + "a"
    with pytest.raises(Rejected):
        admit(changed)


@settings(max_examples=30)
@given(st.text() | st.from_regex(auth._HEADER))
def test_anything_else_is_rejected_and_nothing_more(text: str) -> None:
    with contextlib.suppress(Rejected):
        auth.parse_token(text)


def test_parts_cannot_be_shifted_into_each_other() -> None:
    one = auth.request_message(
        registry="r", time_ms=1, method="GET", target="/a", body_sha256=b"\x00" * 32
    )
    assert one.count(b"\n") == 5
    assert one.startswith(b"zos request\n")
