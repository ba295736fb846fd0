"""`zos relay` without a network: keys and the file that says who may use it."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from overlay.errors import Rejected
from overlay.keys import store
from overlay.keys.identity import Kind
from overlay.keys.wireguard import DeviceKey, format_key
from tests.zos_core.cli.conftest import Zos
from zos_core.cli.exits import Exit
from zos_core.files import relay_members
from zos_core.files.relay_members import parse_relay_members


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "relay").mkdir(mode=0o700)
    return tmp_path / "relay" / "relay.key"


def key_text() -> str:
    return format_key(store.generate_wireguard_key().public_key)


def test_new_prints_the_public_key_and_keeps_the_private_one_to_itself(zos: Zos, file: Path):
    # REL-040
    made = zos("relay", "key", "new", str(file))
    assert made.code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = DeviceKey(store.load(file, Kind.WG))
    assert made.out.strip() == format_key(kept.public_key)
    for ran in (
        made,
        zos("relay", "key", "show", str(file)),
        zos("relay", "key", "new", str(file)),
    ):
        assert format_key(kept.reveal()) not in ran.out + ran.err
    shown = zos("relay", "key", "show", str(file), "--json").json
    assert shown["public_key"] == made.out.strip()


def test_a_key_is_never_replaced(zos: Zos, file: Path):  # REL-040
    zos("relay", "key", "new", str(file))
    before = file.read_bytes()
    assert zos("relay", "key", "new", str(file)).code == Exit.CONFLICT
    assert file.read_bytes() == before


def test_a_key_that_others_can_read_is_refused(zos: Zos, file: Path):  # REL-040
    zos("relay", "key", "new", str(file))
    file.chmod(0o644)
    (file.parent / "members.toml").write_text("")
    members = str(file.parent / "members.toml")
    assert zos("relay", "key", "show", str(file)).code == Exit.REFUSED
    assert zos("relay", "serve", "--key", str(file), "--members", members).code == Exit.REFUSED


def test_members_are_read_by_network():  # REL-041
    one, two, three = (store.generate_wireguard_key().public_key for _ in range(3))
    text = (
        f'[network.home]\nmembers = ["{format_key(one)}", "{format_key(two)}"]\n'
        f'[network."at work"]\nmembers = ["{format_key(two)}", "{format_key(three)}"]\n'
    )
    assert parse_relay_members(text) == {
        "home": frozenset({one, two}),
        "at work": frozenset({two, three}),
    }
    assert parse_relay_members("") == {}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('[network.home]\nmembers = ["short"]', "network.home.members.0"),
        ('[network.home]\nmembres = ["short"]', "network.home.membres"),
        ("[network.home]\nmembers = 3", "network.home.members"),
        ("[networks.home]\nmembers = []", "networks"),
        (f'[network.home]\nmembers = ["{"A" * 43}="]', "network.home.members.0"),
    ],
)
def test_what_is_wrong_in_the_members_is_named(text: str, field: str):  # REL-041
    with pytest.raises(Rejected) as caught:
        parse_relay_members(text)
    assert (caught.value.field or "").replace("[...]", ".home") == field


def test_members_have_a_bound(monkeypatch: pytest.MonkeyPatch):  # REL-041
    monkeypatch.setattr(relay_members, "MAX_KEYS", 2)
    keys = [f'"{key_text()}"' for _ in range(3)]
    assert parse_relay_members(f"[network.a]\nmembers = [{','.join(keys[:2])}]")
    with pytest.raises(Rejected, match="more than 2"):
        parse_relay_members(f"[network.a]\nmembers = [{','.join(keys)}]")


@pytest.mark.parametrize(
    "listen", [("127.0.0.1:1", "127.0.0.1:2"), ("localhost:1",), ("127.0.0.1",)]
)
@pytest.mark.parametrize("option", ["--listen", "--tls-listen"])
def test_listening_needs_one_address_of_each_family_at_most(
    zos: Zos, file: Path, listen: tuple[str, ...], option: str
):  # REL-042
    zos("relay", "key", "new", str(file))
    members = file.parent / "members.toml"
    members.write_text("")
    options = [word for each in listen for word in (option, each)]
    ran = zos("relay", "serve", "--key", str(file), "--members", str(members), *options)
    assert ran.code == Exit.USAGE
    assert "listen" in ran.err


def test_absent_members_file_is_named(zos: Zos, file: Path):  # REL-041
    zos("relay", "key", "new", str(file))
    ran = zos("relay", "serve", "--key", str(file), "--members", str(file.parent / "none"))
    assert ran.code == Exit.UNAVAILABLE
    assert str(file.parent / "none") in ran.err
