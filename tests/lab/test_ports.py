"""A node opens WireGuard's UDP ports and nothing else; inside networks, names are answered."""

from __future__ import annotations

from tests.lab import scene
from tests.lab.scene import Scene, measured

NETWORKS = ("home", "work")


NAMES = {("udp", 53), ("tcp", 53)}


async def test_node_opens_wireguard_ports_and_nothing_else(lab):
    # NODE-050, DNS-020
    stage = await Scene.open(await lab(scene.topology("n1", "n2")))
    await stage.enrol("n1", "n2")
    for network in NETWORKS:
        await stage.create_network("alice", network, "n1", "n2")
    workloads = [await stage.attach("alice", "home", node) for node in ("n1", "n2")]
    await stage.until_all_reach(workloads)

    said = [await stage.network_of("n1", network) for network in NETWORKS]
    wireguard = {network["listen_port"] for network in said}
    assert len(wireguard) == len(NETWORKS)
    open_here = await _open(stage, "")
    measured(open=sorted(open_here), wireguard=sorted(wireguard))
    # Every port is WireGuard's, in both families; TCP, raw and packet sockets there are none.
    assert open_here == {("udp", port) for port in wireguard}
    for network in said:
        # Tenants see no part of the underlay, not even its socket: there are names, and only they.
        assert await _open(stage, network["netns"]) == NAMES


async def _open(stage: Scene, netns: str) -> set[tuple[str, int]]:
    """(protocol, port) of everything that listens or takes what comes: TCP, UDP, raw, SCTP."""
    listed = await stage.shell("n1", "ss -lntupH; ss -lnwH; ss -lnSH", netns=netns)
    rows = [line.split() for line in listed.splitlines()]
    return {(row[0], int(row[4].rpartition(":")[2])) for row in rows}
