"""The machine that the kernel suite runs in has WireGuard in its kernel, and we can read it."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator

import pytest
from pyroute2 import IPRoute, WireGuard

from overlay.netns import namespaces

LINK = "wgprobe"
PEER_KEY = base64.b64encode(bytes(range(32))).decode()
ALLOWED = {"10.9.3.0/24", "fd09::/64"}


@pytest.fixture
def wireguard_link() -> Iterator[str]:
    scratch = namespaces.anonymous()
    try:
        # Not where other tests look for what labs leave behind.
        with namespaces.hop(scratch):
            with IPRoute() as route:
                route.link("add", ifname=LINK, kind="wireguard")
            yield LINK
    finally:
        os.close(scratch)


def test_kernel_wireguard_reads_back_what_was_written(wireguard_link: str) -> None:
    peer = {"public_key": PEER_KEY, "allowed_ips": sorted(ALLOWED)}
    with WireGuard() as wireguard:
        wireguard.set(wireguard_link, listen_port=51_820, peer=peer)

    # wg is the independent witness.
    shown = subprocess.run(
        ["wg", "show", wireguard_link, "dump"], capture_output=True, check=True, text=True
    ).stdout.splitlines()
    device, shown_peer = (line.split("\t") for line in shown)
    assert device[2] == "51820"
    assert shown_peer[0] == PEER_KEY
    assert set(shown_peer[3].split(",")) == ALLOWED
