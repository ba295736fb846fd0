"""What is one JSON value for one reader only is refused, and nothing but Rejected comes out."""

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from overlay.documents.strict import MAX_DEPTH, parse_strict
from overlay.errors import Rejected


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    index: Annotated[int, Meta(ge=0)]
    name: Annotated[str, Meta(max_length=8)] = ""


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    members: Annotated[tuple[Member, ...], Meta(max_length=3)] = ()


def test_parse_returns_the_value() -> None:
    raw = b'{ "members" : [{"index":1,"name":"a"}, {"index":0}] }\n'
    assert _parse(raw) == Network((Member(1, "a"), Member(0)))


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        (
            b'{"members":[{"index":1},{"index":"2"}]}',
            "members[1].index",
            "Expected `int`, got `str`",
        ),
        (b'{"members":[{"index":-1}]}', "members[0].index", ">= 0"),
        (b'{"members":[{"index":1,"name":"123456789"}]}', "members[0].name", "<= 8"),
        (b'{"members":[{"index":1,"port":2}]}', "members[0]", "unknown field `port`"),
        (b'{"members":[{"name":"a"}]}', "members[0]", "missing required field `index`"),
        (b'{"members":[{"index":1},{"index":1},{"index":1},{"index":1}]}', "members", "<= 3"),
        (b"[]", None, "Expected `object`"),
    ],
)
def test_parse_names_the_field(raw: bytes, field: str | None, reason: str) -> None:  # DOC-007
    with pytest.raises(Rejected, match="network document: ") as caught:
        _parse(raw)
    assert caught.value.field == field
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{}{}",
        b"{} x",
        b"\xef\xbb\xbf{}",  # a byte order mark
        "{}".encode("utf-16"),
        "{}".encode("utf-32-be"),
        b"{'members':[]}",
        b'{"members":[],}',
        b'{"members":[{"index":1,"name":"\xff"}]}',
        b'{"members":[{"index":1,"name":"\xed\xa0\x80"}]}',
        b'{"members":[{"index":1,"name":"a\nb"}]}',
        b'{"members":[{"index":01}]}',
    ],
)
def test_parse_refuses_what_is_not_json(raw: bytes) -> None:  # DOC-007
    with pytest.raises(Rejected):
        _parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"members":[],"members":[]}',
        b'{"members":[{"index":1,"index":1}]}',
        b'{"members":[{"index":1,"\\u0069ndex":2}]}',
    ],
)
def test_parse_refuses_a_key_that_stands_there_twice(raw: bytes) -> None:  # DOC-008
    with pytest.raises(Rejected, match=r"key '(members|index)' stands there twice"):
        _parse(raw)


@pytest.mark.parametrize(
    "number", [b"1.0", b"1e0", b"1E2", b"NaN", b"Infinity", b"-Infinity", b"true", b"null", b'"1"']
)
def test_parse_takes_no_other_value_for_an_integer(number: bytes) -> None:  # DOC-008
    with pytest.raises(Rejected):
        _parse(b'{"members":[{"index":%b}]}' % number)


@pytest.mark.parametrize(
    "text", [rb"\ud800", rb"\udc00", rb"\ud800\ud800", rb"\ud800x", rb"\udc00\ud800"]
)
def test_parse_refuses_lone_surrogates(text: bytes) -> None:  # DOC-008
    for raw, model in (
        (b'{"members":[{"index":1,"name":"%b"}]}' % text, Network),
        (b'"%b"' % text, str),
    ):
        with pytest.raises(Rejected):
            parse_strict(raw, model, max_bytes=1_000, what="text")


def test_parse_bounds_the_depth() -> None:  # DOC-009
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        innermost = b"1"
        deepest = opening * MAX_DEPTH + innermost + closing * MAX_DEPTH
        parse_strict(deepest, object, max_bytes=10_000, what="value")
        with pytest.raises(Rejected, match="nested more than 16 deep"):
            parse_strict(opening + deepest + closing, object, max_bytes=10_000, what="value")


@pytest.mark.parametrize("depth", [10_000, 500_000])
def test_parse_survives_any_depth(depth: int) -> None:  # DOC-009
    for raw in (b"[" * depth, b"[" * depth + b"]" * depth, b'{"a":' * depth + b"1" + b"}" * depth):
        with pytest.raises(Rejected):
            parse_strict(raw, object, max_bytes=1 << 23, what="value")


def test_parse_bounds_the_size() -> None:  # DOC-009
    raw = b'{"members":[]}'
    parse_strict(raw, Network, max_bytes=len(raw), what="network document")
    with pytest.raises(Rejected, match="14 bytes are more than 13"):
        parse_strict(raw, Network, max_bytes=len(raw) - 1, what="network document")


@pytest.mark.parametrize("model", [Network, object])
def test_errors_repeat_no_more_than_a_little_of_the_input(model: type[object]) -> None:
    with pytest.raises(Rejected) as caught:
        parse_strict(b'{"%b":1,"%b":1}' % ((b"x" * 5_000,) * 2), model, max_bytes=20_000, what="x")
    assert len(str(caught.value)) < 200


@given(
    raw=st.binary(max_size=64)
    | st.text('{}[]":,0123456789.eE-+ntfuals\\ud8"', max_size=64).map(str.encode)
)
def test_parse_answers_any_bytes_with_a_value_or_rejected(raw: bytes) -> None:  # DOC-010
    for model in (Network, object):
        try:
            value: Any = parse_strict(raw, model, max_bytes=60, what="value")
        except Rejected:
            continue
        assert msgspec.to_builtins(value) is not NotImplemented
        json.loads(raw)  # whoever reads it, it is JSON


def _parse(raw: bytes) -> Network:
    return parse_strict(raw, Network, max_bytes=1_000, what="network document")
