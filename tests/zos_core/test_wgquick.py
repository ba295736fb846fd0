from __future__ import annotations

import msgspec

from overlay.keys.wireguard import WireGuardKey, format_key
from overlay.model import Address, Candidate, CandidateKind, Endpoint, Prefix
from zos_core import wgquick
from zos_core.wgquick import AccessConfig

NODE = WireGuardKey(b"n" * 32)
DEVICE = WireGuardKey(b"d" * 32)
CONFIG = AccessConfig(
    network="home",
    device="laptop",
    via="n1",
    address_v4=Address("10.1.5.1"),
    address_v6=Address("fd00:1:2:5::1"),
    ranges=(Prefix("10.1.0.0/16"), Prefix("fd00:1:2::/48")),
    peer=NODE.public_key,
    endpoint=Endpoint(Address("2001:db8::1"), 51820),
    servers=(Address("10.1.1.1"), Address("fd00:1:2:1::1")),
    domain="home.zos",
    asks_for_all=True,
)


def test_config_is_what_wg_quick_reads() -> None:  # CLI-021
    assert wgquick.format_config(CONFIG, DEVICE) == (
        "# laptop in network home via n1\n"
        "[Interface]\n"
        f"PrivateKey = {format_key(DEVICE.reveal())}\n"
        "Address = 10.1.5.1/32, fd00:1:2:5::1/128\n"
        "MTU = 1420\n"
        "DNS = 10.1.1.1, fd00:1:2:1::1, home.zos\n"
        "\n"
        "[Peer]\n"
        f"PublicKey = {format_key(NODE.public_key)}\n"
        "Endpoint = [2001:db8::1]:51820\n"
        "AllowedIPs = 10.1.0.0/16, fd00:1:2::/48\n"
        "PersistentKeepalive = 25\n"
    )


def test_a_device_keeps_its_own_resolvers_where_others_would_be_refused() -> None:  # DNS-032
    text = wgquick.format_config(msgspec.structs.replace(CONFIG, asks_for_all=False), DEVICE)

    assert "\n# DNS = 10.1.1.1, fd00:1:2:1::1, home.zos\n" in text
    assert "\nDNS" not in text


def test_config_for_a_key_of_the_devices_own_holds_no_key() -> None:  # CLI-020
    text = wgquick.format_config(CONFIG, None)

    assert f"PrivateKey = {wgquick.PLACEHOLDER}\n" in text
    assert format_key(DEVICE.reveal()) not in text


def test_endpoint_is_declared_before_observed_before_local_and_v4_first() -> None:
    kinds = (CandidateKind.LOCAL, CandidateKind.OBSERVED, CandidateKind.DECLARED)
    addresses = ("2001:db8::9", "192.0.2.9")
    candidates = [
        Candidate(kind, Endpoint(Address(address), 1)) for kind in kinds for address in addresses
    ]

    chosen = []
    while (endpoint := wgquick.select_endpoint(candidates)) is not None:
        first = next(
            c
            for c in sorted(candidates, key=lambda c: -kinds.index(c.kind))
            if c.endpoint == endpoint
        )
        chosen.append((first.kind, endpoint.family))
        candidates.remove(first)

    assert chosen == [(kind, family) for kind in reversed(kinds) for family in (4, 6)]


def test_no_candidate_is_no_endpoint() -> None:
    assert wgquick.select_endpoint(()) is None
