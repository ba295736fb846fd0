"""`zos lab` with zos in it: its status is that of its nodes, and so is its journal."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from netlab.supervisor import places

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

ZOS = str(Path(sys.executable).parent / "zos")
# Far more than anything takes: it ends a hang and measures nothing.
PATIENCE_S = 120.0
PAIR = """
name = "pair"
[node.registry]
role = "registry"
[node.n]
count = 2
role = "node"
[tenant.alice.network.home]
range = "10.1.0.0/16"
nodes = ["*"]
workloads = { web = "*" }
"""


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab with two zos nodes in one network; its work directory."""
    monkeypatch.setenv(places.ROOT_VARIABLE, str(tmp_path / "labs"))
    file = tmp_path / "pair.lab.toml"
    file.write_text(PAIR)
    try:
        lab("up", str(file))
        yield places.place_of("pair").workdir
    finally:
        lab("down", "--all")


def lab(verb: str, *argv: str) -> Any:
    done = subprocess.run(
        [ZOS, "lab", verb, "--json", *argv],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout or "{}")


def network_of(node: str) -> Any:
    """What a node says of the one network."""
    (found,) = (each for each in lab("status")["nodes"] if each["name"] == node)
    (network,) = found["zos"]["networks"]
    return network


def tunnel_events() -> list[str]:
    return [each["text"] for each in lab("events")["events"] if each["kind"] == "tunnel"]


def test_the_status_of_a_lab_holds_that_of_its_zos_nodes(pair: Path) -> None:  # LAB-251
    status = lab("status")
    assert status["registry"].startswith("https://")
    (network,) = status["tenants"][0]["networks"]
    assert network["id"] == network_of("n-1")["id"]
    assert [each["name"] for each in network_of("n-1")["workloads"]] == ["web-n-1"]

    (web,) = network_of("n-2")["workloads"]
    netns = network_of("n-1")["workloads"][0]["netns"].rpartition("/")[2]
    for address in (web["ipv4"], web["ipv6"]):
        lab("exec", "--netns", netns, "n-1", "--", "ping", "-c1", "-W20", address)

    deadline = time.monotonic() + PATIENCE_S
    while network_of("n-1")["peers"][0]["state"] != "active":
        assert time.monotonic() < deadline, lab("status")
    peer = network_of("n-1")["peers"][0]
    assert (peer["name"], peer["path"]) == ("n-2", "direct")
    assert peer["rx_bytes"] > 0 < peer["tx_bytes"]
    # Told by the node at the change itself: nobody had to look.
    while not any("n-2 is active, path direct" in text for text in tunnel_events()):
        assert time.monotonic() < deadline, tunnel_events()
    assert (pair / "n-1/node.log").exists()
