"""X25519 against RFC 7748, the two forms of a device's key, and hostile WireGuard keys."""

import copy
import pickle

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from overlay.errors import Rejected
from overlay.keys import identity, wireguard
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey, WireGuardKey

# RFC 7748 section 6.1: private and public key of Alice and Bob, and their shared secret.
ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
ALICE_PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
BOB_PUBLIC = bytes.fromhex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
SHARED = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")

FIELD_PRIME = 2**255 - 19
SMALL_ORDER = [  # the u coordinates that every X25519 function turns into zero
    bytes(32),
    (1).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    (FIELD_PRIME - 1).to_bytes(32, "little"),
]
NOT_REDUCED = [
    FIELD_PRIME.to_bytes(32, "little"),
    (FIELD_PRIME + 1).to_bytes(32, "little"),
    (int.from_bytes(ALICE_PUBLIC, "little") | 1 << 255).to_bytes(32, "little"),
    b"\xff" * 32,
]
SEEDS = st.binary(min_size=32, max_size=32)


@pytest.mark.parametrize(("private", "public"), [(ALICE, ALICE_PUBLIC), (BOB, BOB_PUBLIC)])
def test_wireguard_key_has_the_public_key_of_rfc_7748(private: bytes, public: bytes) -> None:
    key = WireGuardKey(private)
    assert key.public_key == public
    assert _exchange(key.reveal(), BOB_PUBLIC if private == ALICE else ALICE_PUBLIC) == SHARED


@given(entropy=SEEDS)
def test_wireguard_key_is_what_wg_makes_of_the_same_bytes(entropy: bytes) -> None:
    key = WireGuardKey(entropy)
    assert key.reveal()[0] & 7 == 0  # clamped like `wg genkey`, RFC 7748 section 5
    assert key.reveal()[31] & 0xC0 == 0x40
    assert key.public_key == _public(entropy) == _public(key.reveal())


@given(seed=SEEDS)
def test_device_key_is_one_key_in_two_forms(seed: bytes) -> None:  # KEY-007
    device = DeviceKey.from_seed(seed)
    assert device.id.startswith("wg1")
    assert device.public_key == _public(device.reveal())
    assert wireguard.wireguard_public_key(device.id) == device.public_key
    identity.verify(device.id, b"message", device.sign(b"message"))


@given(seed=SEEDS)
def test_device_private_key_is_clamped_and_not_the_seed(seed: bytes) -> None:
    private = DeviceKey.from_seed(seed).reveal()
    assert (private[0] & 7, private[31] & 0xC0) == (0, 0x40)
    assert private != seed


def test_device_key_agrees_on_a_secret_with_any_x25519() -> None:
    device = DeviceKey.from_seed(bytes(range(32)))
    assert _exchange(device.reveal(), BOB_PUBLIC) == _exchange(BOB, device.public_key)


def test_device_key_is_made_from_no_other_kind() -> None:  # KEY-016
    with pytest.raises(Rejected, match="expected a wg1"):
        DeviceKey(Identity(Kind.NODE, bytes(32)))


def test_two_ids_may_name_one_wireguard_key() -> None:  # KEY-008
    public_key = Identity(Kind.WG, bytes(32)).public_key
    negative = bytes([*public_key[:31], public_key[31] ^ 0x80])
    ids = [identity.format_id(Kind.WG, key) for key in (public_key, negative)]
    assert ids[0] != ids[1]
    assert len({wireguard.wireguard_public_key(text) for text in ids}) == 1


def test_wireguard_public_key_refuses_other_kinds() -> None:
    with pytest.raises(Rejected, match="expected wg1") as caught:
        wireguard.wireguard_public_key(Identity(Kind.NODE, bytes(32)).id, field="device")
    assert caught.value.field == "device"


def test_wireguard_public_key_refuses_what_is_not_on_the_curve() -> None:
    text = identity.format_id(Kind.WG, (2).to_bytes(32, "little"))
    with pytest.raises(Rejected, match="no ed25519 public key"):
        wireguard.wireguard_public_key(text)


def test_parse_public_key_reads_what_wg_prints() -> None:
    text = wireguard.format_key(ALICE_PUBLIC)
    assert text == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
    assert wireguard.parse_public_key(text) == ALICE_PUBLIC


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo",  # not padded
        "hSDwCYkwp1R0i33ctD73Wg2_Og0mOBr066SpjqqbTmo=",  # the URL-safe alphabet
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmp=",  # spare bits set
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTm==",  # 31 bytes
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmoA",  # 33 bytes
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTm =",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066Spjqqb\nTmo=",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066Spjqqbömo=",
    ],
)
def test_parse_public_key_refuses_other_spellings(text: str) -> None:  # KEY-009
    with pytest.raises(Rejected) as caught:
        wireguard.parse_public_key(text, field="access[0].public_key")
    assert caught.value.field == "access[0].public_key"


@pytest.mark.parametrize("raw", SMALL_ORDER, ids=bytes.hex)
def test_parse_public_key_refuses_small_orders(raw: bytes) -> None:  # KEY-009
    with pytest.raises(Rejected, match="small order"):
        wireguard.parse_public_key(wireguard.format_key(raw))


@pytest.mark.parametrize("raw", NOT_REDUCED, ids=bytes.hex)
def test_parse_public_key_refuses_a_second_spelling_of_a_number(raw: bytes) -> None:  # KEY-009
    with pytest.raises(Rejected, match="not canonical"):
        wireguard.parse_public_key(wireguard.format_key(raw))


@given(seed=SEEDS)
def test_parse_public_key_accepts_every_real_key(seed: bytes) -> None:
    for public_key in (WireGuardKey(seed).public_key, DeviceKey.from_seed(seed).public_key):
        assert wireguard.parse_public_key(wireguard.format_key(public_key)) == public_key


@given(text=st.text(max_size=50) | st.text("hSDwCYkwp1R0=+/\n", min_size=44, max_size=44))
def test_parse_public_key_answers_any_text_with_a_value_or_rejected(text: str) -> None:  # DOC-010
    try:
        raw = wireguard.parse_public_key(text)
    except Rejected:
        return
    assert wireguard.format_key(raw) == text


@pytest.mark.parametrize("size", [0, 31, 33])
def test_keys_refuse_another_size(size: int) -> None:
    for make in (WireGuardKey, DeviceKey.from_seed, wireguard.check_public_key):
        with pytest.raises(Rejected, match=f"32 bytes, not {size}"):
            make(bytes(size))


@pytest.mark.parametrize("key", [WireGuardKey(ALICE), DeviceKey.from_seed(ALICE)], ids=repr)
def test_private_halves_are_not_shown_copied_or_compared(key: WireGuardKey | DeviceKey) -> None:
    private = key.reveal()  # KEY-005
    for secret in (private.hex(), wireguard.format_key(private), ALICE.hex(), repr(private)):
        assert secret not in f"{key} {key!r}"
    for attempt in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor pickled"):
            attempt(key)
    assert not hasattr(key, "__dict__")
    assert key != type(key).__new__(type(key))


def _public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _exchange(private: bytes, public: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private)
    return key.exchange(X25519PublicKey.from_public_bytes(public))
