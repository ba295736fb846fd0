"""node.toml is strict, and options win over it (CLI-004)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from overlay.errors import Rejected
from overlay.keys import rotation
from overlay.keys.identity import Identity, Kind
from overlay.keys.rotation import DAY_S, Pace
from zos_core import config as configuration
from zos_core.config import NodeConfig, load_config, parse_config, parse_endpoints, with_options

FARM = Identity.from_seed(Kind.FARM, hashlib.sha256(b"farm").digest()).id
REGISTRY_ID = Identity.from_seed(Kind.REGISTRY, hashlib.sha256(b"r").digest()).id
REGISTRY = f"https://192.0.2.1:8443#{REGISTRY_ID}"

WHOLE = f"""
registry = "{REGISTRY}"
farm = "{FARM}"
name = "n1"
endpoints = ["192.0.2.11", "[2001:db8::11]:4000"]
listen_ports = "4000-4010"
mtu = 9000
state = "/srv/zos"
socket = "/run/zos/other.sock"

[wireguard]
backend = "wireguard-go"
binary = "/opt/wireguard-go"

[keys]
rotate_days = 7
overlap_s = 60

[log]
format = "json"
level = "debug"
"""


def test_every_key_is_read() -> None:
    config = parse_config(WHOLE)
    assert (config.registry, config.farm, config.name) == (REGISTRY, FARM, "n1")
    assert (config.mtu, config.state) == (9000, "/srv/zos")
    assert config.wireguard.binary == "/opt/wireguard-go"
    assert configuration.pace(config) == Pace(7 * DAY_S, 60)
    assert list(map(str, parse_endpoints(config))) == ["192.0.2.11:4000", "[2001:db8::11]:4000"]


def test_nothing_has_to_be_configured() -> None:
    assert parse_config("") == NodeConfig()
    assert configuration.pace(NodeConfig()) == Pace(30 * DAY_S, 3_600)


def test_keys_are_replaced_when_asked_only_if_so_configured() -> None:  # KEY-020
    assert configuration.pace(parse_config("[keys]\nrotate_days = 0")).interval_s is None


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [
        ("rotate_days", 0, configuration.MAX_ROTATE_DAYS),
        ("overlap_s", rotation.MIN_OVERLAP_S, rotation.MAX_OVERLAP_S),
    ],
)
def test_times_of_keys_are_bounded(key: str, least: int, most: int) -> None:
    for good in (least, most):
        parse_config(f"[keys]\n{key} = {good}")
    for bad in (least - 1, most + 1):
        with pytest.raises(Rejected) as caught:
            parse_config(f"[keys]\n{key} = {bad}")
        assert caught.value.field == f"keys.{key}"


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ('regisrty = "x"', "regisrty", "did you mean registry?"),
        ("[wireguard]\nbinry = 1", "wireguard.binry", "did you mean binary?"),
        ('registry = "http://x"', "registry", "registry reference"),
        ('farm = "node1xyz"', "farm", ""),
        ('name = "N1"', "name", ""),
        ('endpoints = ["example.org"]', "endpoints[0]", "IP address"),
        ('endpoints = ["192.0.2.1:0"]', "endpoints[0]", ""),
        ('endpoints = ["127.0.0.1"]', "endpoints[0]", "no other machine"),  # DOC-029
        ('listen_ports = "51820"', "listen_ports", "range of ports"),
        ('listen_ports = "2-1"', "listen_ports", "range of ports"),
        ("mtu = 1300", "mtu", ""),
        ('state = "relative"', "state", "absolute"),
        ('[wireguard]\nbackend = "user"', "wireguard.backend", ""),
    ],
)
def test_what_is_wrong_is_named(text: str, field: str, words: str) -> None:
    with pytest.raises(Rejected) as caught:
        parse_config(text)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="is not there"):
        load_config(tmp_path / "node.toml")


def test_options_and_environment_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "node.toml"
    path.write_text(WHOLE)
    monkeypatch.setenv(configuration.STATE_VARIABLE, "/srv/elsewhere")
    config = with_options(load_config(path), name="n2", endpoints=("2001:db8::1",))
    assert (config.name, config.state) == ("n2", "/srv/elsewhere")
    assert list(map(str, parse_endpoints(config))) == ["[2001:db8::1]:4000"]
    with pytest.raises(Rejected):
        with_options(config, name="no name")


def test_a_host_name_becomes_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    for host, name in (("Box_1.example.org", "box-1"), ("---", "node"), ("n1", "n1")):
        monkeypatch.setattr(configuration.socket, "gethostname", lambda host=host: host)
        assert configuration.own_name(NodeConfig()) == name
