"""Ed25519 against RFC 8032, hostile keys and signatures, and private keys that stay private."""

import copy
import hashlib
import pickle
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overlay.errors import Refused, Rejected
from overlay.keys import identity
from overlay.keys.identity import Identity, Kind


class Rfc8032(NamedTuple):
    """A test of RFC 8032 section 7.1."""

    seed: str
    public_key: str
    message: str
    r: str  # the signature is R and S
    s: str


RFC_8032 = [
    Rfc8032(
        seed="9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        public_key="d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        message="",
        r="e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155",
        s="5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    Rfc8032(
        seed="4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        public_key="3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        message="72",
        r="92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da",
        s="085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    Rfc8032(
        seed="c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        public_key="fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        message="af82",
        r="6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac",
        s="18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    Rfc8032(  # the SHA-512 of "abc"
        seed="833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        public_key="ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        message=hashlib.sha512(b"abc").hexdigest(),
        r="dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589",
        s="09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493  # RFC 8032 section 5.1
FIELD_PRIME = 2**255 - 19
ORDER_8 = "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"
SMALL_ORDER = {  # every encoding of the eight points whose order divides eight
    "order 1": (1).to_bytes(32, "little"),
    "order 2": (FIELD_PRIME - 1).to_bytes(32, "little"),
    "order 4": bytes(32),
    "order 4, other sign": (1 << 255).to_bytes(32, "little"),
    "order 8": bytes.fromhex(ORDER_8),
    "order 8, other sign": (int.from_bytes(bytes.fromhex(ORDER_8), "little") | 1 << 255).to_bytes(
        32, "little"
    ),
    "order 8, other y": (FIELD_PRIME - int.from_bytes(bytes.fromhex(ORDER_8), "little")).to_bytes(
        32, "little"
    ),
    "order 1, y not reduced": (FIELD_PRIME + 1).to_bytes(32, "little"),
    "order 4, y not reduced": FIELD_PRIME.to_bytes(32, "little"),
    "order 1, sign of zero": (1 | 1 << 255).to_bytes(32, "little"),
}
SEED = bytes.fromhex(RFC_8032[0].seed)


@pytest.mark.parametrize("vector", RFC_8032)
def test_identity_signs_as_rfc_8032_says(vector: Rfc8032) -> None:
    signer = Identity.from_seed(Kind.NODE, bytes.fromhex(vector.seed))
    message, signature = bytes.fromhex(vector.message), bytes.fromhex(vector.r + vector.s)
    assert signer.public_key == bytes.fromhex(vector.public_key)
    assert signer.sign(message) == signature
    identity.verify(signer.id, message, signature)


@pytest.mark.parametrize("kind", Kind)
def test_id_gives_back_kind_and_key(kind: Kind) -> None:  # KEY-001
    signer = Identity(kind, SEED)
    assert signer.id.startswith(f"{kind.value}1")
    assert identity.kind_of(signer.id) is kind
    assert identity.parse_id(kind, signer.id) == signer.public_key


def test_parse_id_names_field_and_kind() -> None:
    with pytest.raises(Rejected, match="expected node1") as caught:
        identity.parse_id(Kind.NODE, Identity(Kind.TENANT, SEED).id, field="members[3].node")
    assert caught.value.field == "members[3].node"


@pytest.mark.parametrize("text", ["", "node", "user1qqqq", "1", "NODE1QQ", "n" * 500])
def test_kind_of_lists_the_kinds(text: str) -> None:
    with pytest.raises(Rejected, match=r"none of node1\.\.\., tenant1"):
        identity.kind_of(text)


@pytest.mark.parametrize("name", SMALL_ORDER)
def test_parse_id_refuses_keys_for_which_anybody_can_sign(name: str) -> None:  # KEY-003
    text = identity.format_id(Kind.NODE, SMALL_ORDER[name])
    with pytest.raises(Rejected, match="no ed25519 public key"):
        identity.parse_id(Kind.NODE, text)


def test_parse_id_refuses_a_key_that_is_not_reduced() -> None:  # KEY-002
    text = identity.format_id(Kind.NODE, (FIELD_PRIME + 3).to_bytes(32, "little"))
    with pytest.raises(Rejected, match="no ed25519 public key"):
        identity.parse_id(Kind.NODE, text)


def test_network_id_carries_twenty_bytes() -> None:
    text = identity.format_network_id(bytes(20))
    assert text.startswith("net1")
    assert identity.parse_network_id(text) == text
    with pytest.raises(Rejected, match="20 bytes, not 19"):
        identity.format_network_id(bytes(19))
    with pytest.raises(Rejected, match="expected net1") as caught:
        identity.parse_network_id(Identity(Kind.NODE, SEED).id, field="network")
    assert caught.value.field == "network"


def test_verify_refuses_the_same_signature_written_differently() -> None:  # KEY-004
    signer = Identity(Kind.NODE, SEED)
    signature = signer.sign(b"message")
    for multiple in range(1, 16):
        s = int.from_bytes(signature[32:], "little") + multiple * GROUP_ORDER
        if s >= 1 << 256:
            break
        with pytest.raises(Refused):
            identity.verify(signer.id, b"message", signature[:32] + s.to_bytes(32, "little"))


@pytest.mark.parametrize("name", SMALL_ORDER)
def test_verify_refuses_small_orders_in_the_signature(name: str) -> None:  # KEY-004
    with pytest.raises(Refused):
        identity.verify(Identity(Kind.NODE, SEED).id, b"message", SMALL_ORDER[name] + bytes(32))


@given(bit=st.integers(0, 64 * 8 - 1))
def test_verify_refuses_every_flipped_bit(bit: int) -> None:
    signer = Identity(Kind.NODE, SEED)
    signature = int.from_bytes(signer.sign(b"message"), "little") ^ 1 << bit
    with pytest.raises(Refused, match="does not match"):
        identity.verify(signer.id, b"message", signature.to_bytes(64, "little"))


def test_verify_refuses_another_message_and_another_signer() -> None:
    signer, other = Identity(Kind.NODE, SEED), Identity(Kind.NODE, bytes(32))
    signature = signer.sign(b"message")
    with pytest.raises(Refused):
        identity.verify(signer.id, b"massage", signature)
    with pytest.raises(Refused):
        identity.verify(other.id, b"message", signature)


@pytest.mark.parametrize("size", [0, 63, 65])
def test_verify_refuses_a_signature_of_another_size(size: int) -> None:
    with pytest.raises(Rejected, match=f"64 bytes, not {size}"):
        identity.verify(Identity(Kind.NODE, SEED).id, b"message", bytes(size))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_identity_refuses_a_seed_of_another_size(size: int) -> None:
    with pytest.raises(Rejected, match=f"32 bytes, not {size}"):
        Identity(Kind.NODE, bytes(size))


def test_identity_shows_its_private_key_only_when_asked() -> None:  # KEY-005
    signer = Identity(Kind.NODE, SEED)
    for shown in (repr(signer), str(signer), f"{signer}"):
        assert SEED.hex() not in shown
        assert "<hidden>" in shown
    assert signer.reveal() == SEED
    assert not hasattr(signer, "__dict__")


def test_identity_is_neither_copied_nor_compared() -> None:  # KEY-005
    signer = Identity(Kind.NODE, SEED)
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            attempt(signer)
    assert signer != Identity(Kind.NODE, SEED)


@given(text=st.text() | st.text("node1wgqpzry9x8\x00ü", max_size=80))
def test_any_text_is_an_id_or_rejected(text: str) -> None:  # DOC-010
    try:
        identity.parse_id(identity.kind_of(text), text)
    except Rejected:
        return
    raise AssertionError("no random text has a valid checksum")
