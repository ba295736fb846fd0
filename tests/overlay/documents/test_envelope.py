"""DSSE's published vectors, envelopes that hold, and every way in which they must not."""

import base64
import json
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from hypothesis import given
from hypothesis import strategies as st

from overlay.documents import envelope as dsse
from overlay.documents.envelope import Envelope, Signature
from overlay.errors import Refused, Rejected
from overlay.keys import identity
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey

NODE, TENANT = Identity(Kind.NODE, bytes(range(32))), Identity(Kind.TENANT, bytes(range(1, 33)))
DEVICE = DeviceKey.from_seed(bytes(range(2, 34)))
MEMBER = dsse.payload_type("member")
PAYLOAD = b'{"name":"a node"}'

# https://github.com/secure-systems-lab/dsse protocol.md, "Test Vectors"
DSSE_EXAMPLE = """{"payload": "aGVsbG8gd29ybGQ=",
 "payloadType": "http://example.com/HelloWorld",
 "signatures": [{"sig":
"A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="}]}"""
DSSE_X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
DSSE_Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820

# testvectors/vectors.json of the same repository, keys "A" and "B" (RFC 8032 tests 1 and 2)
DSSE_A = Identity(
    Kind.NODE,
    bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"),
)
DSSE_B = Identity(
    Kind.NODE,
    bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"),
)
IN_TOTO = b'{"_type":"https://in-toto.io/Statement/v1"}'
ED25519_VECTORS = [
    (
        DSSE_A, "application/vnd.in-toto+json", IN_TOTO,
        "2WAfaHm5jluo0w+0rk8uVkluELJYWjSmU9x7EUzx+AyteDGJ4/nqyJXfmAUVFIAoQafWm7AxBZNw5M9ixNHiCA==",
    ),
    (
        DSSE_B, "application/vnd.in-toto+json", IN_TOTO,
        "c1+67/aT0yqEpwx8PsVY3MLHsj9D0CZ014/Fv/QlG59P+9CobUZ7xECJ/V3USG0Ob9CiE5LjReEZUzNF2l7eBw==",
    ),
    (  # the length of the type is counted in bytes
        DSSE_A, "application/vnd.ex\u00e4mple+json", IN_TOTO,
        "xmSk/ug66ysT7ayhkCIjhAq42zgZXSsEWuzUaNL7w2eGAdF/NU6/fRXPtmfN+5DNSAs5/i2lUnHjbbjPsu0tAw==",
    ),
    (
        DSSE_A, "application/vnd.in-toto+json", b"",
        "gSggCAaTLTYyRH6FIDBem6meyIynsYy8RTHVzwx9tnTb7Bg/1jMWnuVgI/gffqmbsC2VX5/jHfkkDqsj7CDbDg==",
    ),
]  # fmt: skip


def test_pae_is_that_of_the_published_example() -> None:  # DOC-001
    encoded = dsse.pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_published_ecdsa_signature_covers_our_pae() -> None:  # DOC-001
    example = json.loads(DSSE_EXAMPLE)
    message = dsse.pre_authentication_encoding(
        example["payloadType"], base64.b64decode(example["payload"])
    )
    raw = base64.b64decode(example["signatures"][0]["sig"])
    signature = utils.encode_dss_signature(
        int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    )
    key = ec.EllipticCurvePublicNumbers(DSSE_X, DSSE_Y, ec.SECP256R1()).public_key()
    key.verify(signature, message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(("signer", "payload_type", "payload", "signature"), ED25519_VECTORS)
def test_published_ed25519_signatures_are_ours(
    signer: Identity, payload_type: str, payload: bytes, signature: str
) -> None:
    message = dsse.pre_authentication_encoding(payload_type, payload)
    assert base64.b64encode(signer.sign(message)).decode() == signature
    identity.verify(signer.id, message, base64.b64decode(signature))


def test_envelope_has_the_published_structure() -> None:
    ours = json.loads(dsse.encode_envelope(dsse.sign(PAYLOAD, MEMBER, NODE)))
    published = json.loads(DSSE_EXAMPLE)
    assert ours.keys() == published.keys()
    assert ours["signatures"][0].keys() == published["signatures"][0].keys() | {"keyid"}
    assert base64.b64decode(ours["payload"]) == PAYLOAD


def test_published_example_is_refused_for_its_payload_type_and_missing_keyid() -> None:  # DOC-003
    with pytest.raises(Rejected, match="keyid") as caught:
        dsse.parse_envelope(DSSE_EXAMPLE.encode())
    assert caught.value.field == "signatures[0]"


def test_envelope_holds_for_all_its_signers() -> None:
    envelope = dsse.parse_envelope(_raw(NODE, TENANT, DEVICE))
    assert (envelope.payload, envelope.kind) == (PAYLOAD, "member")
    assert dsse.verified_signers(envelope) == {NODE.id, TENANT.id, DEVICE.id}


@given(payload=st.binary(max_size=200), kind=st.from_regex(r"[a-z]{1,32}", fullmatch=True))
def test_parse_returns_what_was_encoded(payload: bytes, kind: str) -> None:
    envelope = dsse.sign(payload, dsse.payload_type(kind), NODE, TENANT)
    assert dsse.parse_envelope(dsse.encode_envelope(envelope)) == envelope
    assert envelope.kind == kind


def test_order_of_signers_changes_nothing() -> None:
    assert _raw(NODE, TENANT, DEVICE) == _raw(DEVICE, NODE, TENANT)


def test_layout_of_the_json_changes_nothing() -> None:
    pretty = json.dumps(dict(reversed(_wire(NODE).items())), indent=2).encode()
    assert dsse.encode_envelope(dsse.parse_envelope(pretty)) == _raw(NODE)


def test_payload_of_one_kind_is_not_that_of_another() -> None:  # DOC-002
    member = dsse.sign(PAYLOAD, MEMBER, NODE)
    with pytest.raises(Refused):
        dsse.verified_signers(Envelope(dsse.payload_type("node"), PAYLOAD, member.signatures))


def test_one_bad_signature_spoils_the_envelope() -> None:  # DOC-004
    envelope = dsse.sign(PAYLOAD, MEMBER, NODE, TENANT)
    bad = Signature(DEVICE.id, DEVICE.sign(b"something else"))
    with pytest.raises(Refused, match="does not match") as caught:
        dsse.verified_signers(Envelope(MEMBER, PAYLOAD, (*envelope.signatures, bad)))
    assert caught.value.field == "signatures[2]"


def test_a_signature_is_not_that_of_another_signer() -> None:  # DOC-003
    signature = dsse.sign(PAYLOAD, MEMBER, NODE).signatures[0]
    for thief in (TENANT.id, identity.format_id(Kind.TENANT, TENANT.public_key)):
        with pytest.raises(Refused):
            dsse.verified_signers(Envelope(MEMBER, PAYLOAD, (Signature(thief, signature.sig),)))


def test_no_key_signs_twice() -> None:  # DOC-004
    with pytest.raises(Rejected, match="signed twice"):
        dsse.sign(PAYLOAD, MEMBER, NODE, NODE)
    wire = _wire(NODE)
    wire["signatures"] *= 2
    with pytest.raises(Rejected, match="signed twice") as caught:
        dsse.parse_envelope(json.dumps(wire).encode())
    assert caught.value.field == "signatures[1].keyid"


@pytest.mark.parametrize("count", [0, dsse.MAX_SIGNATURES + 1])
def test_number_of_signatures_is_bounded(count: int) -> None:  # DOC-006
    signers = [Identity(Kind.TENANT, bytes([n]) * 32) for n in range(dsse.MAX_SIGNATURES + 1)]
    full = dsse.sign(PAYLOAD, MEMBER, *signers[:-1])
    assert len(dsse.verified_signers(dsse.parse_envelope(dsse.encode_envelope(full)))) == 16
    with pytest.raises(Rejected) as caught:
        dsse.sign(PAYLOAD, MEMBER, *signers[:count])
    assert caught.value.field == "signatures"
    wire = _wire(NODE)
    wire["signatures"] = [{"keyid": s.id, "sig": "A" * 86 + "=="} for s in signers[:count]]
    with pytest.raises(Rejected) as caught:
        dsse.parse_envelope(json.dumps(wire).encode())
    assert caught.value.field == "signatures"
    with pytest.raises(Rejected):
        dsse.verified_signers(Envelope(MEMBER, PAYLOAD, full.signatures[:0]))


def test_size_of_the_payload_is_bounded() -> None:  # DOC-006
    largest = dsse.sign(bytes(dsse.MAX_PAYLOAD_BYTES), MEMBER, NODE)
    assert dsse.parse_envelope(dsse.encode_envelope(largest)) == largest
    with pytest.raises(Rejected, match="more than 2097152") as caught:
        dsse.sign(bytes(dsse.MAX_PAYLOAD_BYTES + 1), MEMBER, NODE)
    assert caught.value.field == "payload"
    too_large = Envelope(MEMBER, bytes(dsse.MAX_PAYLOAD_BYTES + 1), largest.signatures)
    with pytest.raises(Rejected):
        dsse.parse_envelope(dsse.encode_envelope(too_large))


def test_size_of_the_envelope_is_bounded() -> None:  # DOC-009
    raw = _raw(NODE)
    padded = raw + b" " * (dsse.MAX_ENVELOPE_BYTES - len(raw))
    dsse.parse_envelope(padded)
    with pytest.raises(Rejected, match=f"more than {dsse.MAX_ENVELOPE_BYTES}"):
        dsse.parse_envelope(padded + b" ")


@pytest.mark.parametrize(
    "payload_type",
    [
        "",
        "application/json",
        "application/vnd.zos.+json",
        "application/vnd.zos.Member+json",
        "application/vnd.zos.member+json ",
        "application/vnd.zos.member+json\n",
        "application/vnd.zos.member/../farm+json",
        "application/vnd.zos.m\u00e9mber+json",
        f"application/vnd.zos.{'a' * 33}+json",
    ],
)
def test_payload_type_is_of_the_one_form(payload_type: str) -> None:  # DOC-002
    with pytest.raises(Rejected) as caught:
        dsse.parse_envelope(json.dumps(_wire(NODE) | {"payloadType": payload_type}).encode())
    assert caught.value.field == "payloadType"
    with pytest.raises(Rejected):
        dsse.sign(PAYLOAD, payload_type, NODE)


@pytest.mark.parametrize(
    "keyid",
    [
        "",
        "A",
        "node1",
        NODE.id.upper(),
        NODE.id[:-1],
        "net1" + NODE.id[5:],
        f" {NODE.id}",
        "x" * 91,
    ],
)
def test_keyid_is_an_id(keyid: str) -> None:  # DOC-003
    wire = _wire(NODE)
    wire["signatures"][0]["keyid"] = keyid
    with pytest.raises(Rejected) as caught:
        dsse.parse_envelope(json.dumps(wire).encode())
    assert caught.value.field == "signatures[0].keyid"


@pytest.mark.parametrize(
    "text",
    [
        "-_-_Pj8=",  # the URL-safe alphabet, which DSSE itself would allow
        "AA",  # not padded
        "AB==",  # spare bits set
        "AA==AA==",
        "AA==\n",
        "A A=",
        "====",
        "é===",
    ],
)
def test_base64_is_canonical(text: str) -> None:  # DOC-005
    with pytest.raises(Rejected, match="base64") as caught:
        dsse.parse_envelope(json.dumps(_wire(NODE) | {"payload": text}).encode())
    assert caught.value.field == "payload"


def test_base64_of_a_signature_is_canonical() -> None:  # DOC-005
    wire = _wire(NODE)
    signature = wire["signatures"][0]
    for end in ("h==", "A=", "A"):
        signature["sig"] = "A" * 86 + end
        with pytest.raises(Rejected) as caught:
            dsse.parse_envelope(json.dumps(wire).encode())
        assert caught.value.field == "signatures[0].sig"
    signature["sig"] = "A" * 85 + "B=="
    with pytest.raises(Rejected, match=r"sig"):
        dsse.parse_envelope(json.dumps(wire).encode())


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"extra": 1}, None),
        ({"payload": None}, "payload"),
        ({"payload": 1}, "payload"),
        ({"signatures": {}}, "signatures"),
        ({"signatures": [{"keyid": NODE.id, "sig": "A" * 88, "cert": ""}]}, "signatures[0]"),
        ({"signatures": [{"keyid": NODE.id}]}, "signatures[0]"),
    ],
)
def test_shape_is_exact(change: dict[str, Any], field: str | None) -> None:  # DOC-007
    with pytest.raises(Rejected) as caught:
        dsse.parse_envelope(json.dumps(_wire(NODE) | change).encode())
    assert caught.value.field == field


def test_duplicate_keys_are_refused() -> None:  # DOC-008
    raw = _raw(NODE).replace(b'{"payloadType"', b'{"payload":"","payloadType"')
    with pytest.raises(Rejected, match="'payload' stands there twice"):
        dsse.parse_envelope(raw)


def test_every_flipped_bit_is_refused_or_changes_nothing() -> None:
    original = _raw(NODE, DEVICE)
    for bit in range(len(original) * 8):
        flipped = bytearray(original)
        flipped[bit // 8] ^= 1 << bit % 8
        _says_the_same_or_is_rejected(bytes(flipped), original)


@given(
    at=st.integers(0, len(dsse.encode_envelope(dsse.sign(PAYLOAD, MEMBER, NODE)))),
    by=st.binary(max_size=4),
    drop=st.integers(0, 8),
)
def test_every_edit_is_refused_or_changes_nothing(at: int, by: bytes, drop: int) -> None:
    original = _raw(NODE)
    _says_the_same_or_is_rejected(original[:at] + by + original[at + drop :], original)


@given(raw=st.binary(max_size=200))
def test_parse_answers_any_bytes_with_rejected(raw: bytes) -> None:  # DOC-010
    with pytest.raises(Rejected):
        dsse.parse_envelope(raw)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["payload", "payloadType", "signatures", "keyid", "sig"]), inner
        )
    ),
    max_leaves=8,
)


@given(value=JSON_VALUES)
def test_parse_answers_any_json_with_rejected(value: Any) -> None:  # DOC-010
    with pytest.raises(Rejected):
        dsse.parse_envelope(json.dumps(value).encode())


def _says_the_same_or_is_rejected(raw: bytes, original: bytes) -> None:
    try:
        envelope = dsse.parse_envelope(raw)
        dsse.verified_signers(envelope)
    except Rejected:
        return
    assert dsse.encode_envelope(envelope) == original


def _raw(*signers: identity.Signer) -> bytes:
    return dsse.encode_envelope(dsse.sign(PAYLOAD, MEMBER, *signers))


def _wire(*signers: identity.Signer) -> dict[str, Any]:
    wire: dict[str, Any] = msgspec.json.decode(_raw(*signers))
    return wire
