"""A laptop with nothing but wg-quick and the file that `zos network access` wrote."""

from __future__ import annotations

import pytest

from netlab.lab_node import LabNode
from netlab.nat import NATS
from netlab.topology import Link, Node, Router, Topology
from overlay.keys.store import generate_wireguard_key
from overlay.keys.wireguard import format_key
from tests.asking import ask, said
from tests.lab import scene
from tests.lab.scene import RANGE, Scene, Workload, measured, until

CONF = "/etc/wireguard/home.conf"


def _topology(underlay: str) -> Topology:
    link = scene.UNDERLAYS[underlay]
    at_home = Link(to="cafe", ipv4=link.ipv4, ipv6=link.ipv6)
    public = (Node(name, (link,)) for name in ("registry", "desk", "n1", "n2"))
    cafe = Router("cafe", nat=NATS["port-restricted"], firewall="stateful")
    return Topology(nodes=(*public, Node("laptop", (at_home,))), routers=(cafe,))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("underlay", ["ipv4", "ipv6"])
async def test_laptop_with_the_file_gets_in_and_with_a_wrong_key_does_not(lab, underlay):
    # CLI-020, CLI-021
    stage = await Scene.open(await lab(_topology(underlay)))
    await stage.enrol("n1", "n2")
    alice = await stage.create_network("alice", "home", "n1", "n2")
    inside = [await stage.attach("alice", "home", node) for node in ("n1", "n2")]
    file = f"{alice.home}/laptop.conf"
    made = await alice.zos("network", "access", "home", "laptop", "--via", "n1", "-o", file)
    conf = alice.at.path(file).read_text()
    assert RANGE in conf
    laptop = stage.lab.node("laptop")
    v4, v6 = made["addresses"]
    me = Workload("alice", "laptop", "", v4, v6)
    await scene.serve(laptop, me)

    await _up(laptop, conf)
    reached = await stage.until_all_reach([*inside, me])
    measured(underlay=underlay, pairs_reached=reached)
    for server in made["dns"][:2]:  # DNS-032

        async def knows_the_laptop(server: str = server) -> bool:
            answer = await ask(str(laptop.netns_path), server, "laptop.home.zos")
            return answer == said(v4)

        await until(knows_the_laptop, f"{server} knows the laptop by name")
    other = format_key(generate_wireguard_key().reveal())
    public = format_key(generate_wireguard_key().public_key)
    for wrong in (_with(conf, "PrivateKey", other), _with(conf, "PublicKey", public)):
        await laptop.run("wg-quick", "down", "home")
        await _up(laptop, wrong)
        silent = [await stage.is_silent(me, address) for w in inside for address in w.addresses]
        assert all(silent)
        measured(underlay=underlay, wrong_key_reached=silent.count(False))
    # It was the key: the right one works again.
    await laptop.run("wg-quick", "down", "home")
    await _up(laptop, conf)
    await stage.until_all_reach([*inside, me])


async def _up(laptop: LabNode, conf: str) -> None:
    path = laptop.path(CONF)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(conf)
    await laptop.run("wg-quick", "up", "home", timeout_s=60)


def _with(conf: str, name: str, value: str) -> str:
    """The file with another value, and nothing else changed."""
    lines = [f"{name} = {value}" if line.startswith(name) else line for line in conf.splitlines()]
    assert lines != conf.splitlines()
    return "\n".join(lines) + "\n"
