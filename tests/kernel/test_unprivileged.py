"""A lab of somebody who is not root: what works, what does not, and that nothing is left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from netlab.keeper import gate
from netlab.supervisor import places
from tests.nobody import home, python, run

pytestmark = pytest.mark.any_backend

__all__ = ("home", "python")  # fixtures, used by their names

LAB = """
import asyncio, os, socket, sys
from pathlib import Path
from netlab.impairment import Both, Impairment
from netlab.lab import Lab
from netlab.leaks import observe_footprint
from netlab.nat import NATS
from netlab.topology import Link, Node, Router, Topology
from overlay.errors import Unavailable

TOPOLOGY = Topology(
    nodes=(
        Node("n1", (Link(impaired=Both(up=Impairment(delay_s=0.01))),)),
        Node("a", (Link(to="home"),)),
    ),
    routers=(Router("home", nat=NATS["port-restricted"], firewall="stateful"),),
)

async def reached(node, address):
    done = await node.run("ping", "-c1", "-W20", str(address), check=False)
    assert done.returncode == 0, done

async def main():
    before = observe_footprint()
    async with Lab.create(TOPOLOGY, workdir=Path(sys.argv[1])) as lab:
        n1, a = lab.node("n1"), lab.node("a")
        assert os.geteuid() != 0
        assert (await n1.run("id", "-u")).text == "0\\n"
        for address in (n1.ipv4, n1.ipv6):
            await reached(a, address)
        await n1.run("sh", "-c", "echo n1 | tee /run/x /var/lib/zos/x /etc/hosts")
        await n1.run("mount", "-t", "tmpfs", "none", "/mnt")
        assert n1.path("/run/x").read_text() == n1.path("/var/lib/zos/x").read_text() == "n1\\n"
        mine, theirs = (node.socket(socket.AF_INET6, socket.SOCK_DGRAM) for node in (a, n1))
        with mine, theirs:
            theirs.bind(("::", 7))
            theirs.settimeout(20)
            mine.sendto(b"x", (n1.ipv6, 7))
            assert theirs.recv(9) == b"x"
        try:
            with n1.in_netns():
                raise AssertionError("entered")
        except Unavailable as exc:
            assert "only root" in str(exc)
        await n1.add_namespace("w1")
        await n1.run("true", netns="w1")
        process = await n1.spawn("sleep", "1000", log="sleeper")
        assert process.host_pid > 0 and Path(f"/proc/{process.host_pid}").exists()
        await n1.pause()
        await n1.resume()
        await n1.restart()
        assert process.returncode == -9 and not n1.path("/run/x").exists()
        await lab.partition(["n1"], ["a"])
        await lab.heal()
        await lab.reboot_nat("home")
        await reached(a, n1.ipv4)
        assert "wan" in lab.open_statistics("home", "dev").read()
    assert observe_footprint().difference(before) == []

asyncio.run(main())
print("all of it")
"""


def test_lab_without_root_has_machines_nat_faults_and_sockets(home: Path, python: str) -> None:
    done = run(home, python, LAB, str(home / "lab/first"))  # LAB-225
    assert done.stdout == "all of it\n", done.stderr


def test_a_bench_needs_no_root(home: Path, python: str) -> None:  # LAB-255
    code = "import sys; from zos_core.cli.main import main; sys.exit(main(['lab', *sys.argv[1:]]))"
    argv = ("bench", "--shape", "chain", "--nodes", "3", "--rounds", "1", "--json")
    done = run(home, python, code, *argv, env={places.ROOT_VARIABLE: str(home / "lab/bench")})
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["labs"]
    assert (found["lab"], found["nodes"]) == ("chain", 3)
    assert found["processes"] == 3  # the gate to the keeper's namespaces is one more
    assert min(found["memory_kib"] / 1024, found["command_ms"]) > 0


def test_what_others_than_root_lack_is_said_before(home: Path, python: str) -> None:  # LAB-226
    code = "from netlab import capability; print([each.name for each in capability.missing()])"
    done = run(home, python, code)
    may_tun = Path("/dev/net/tun").stat().st_mode & 0o006 == 0o006
    assert ("'tun'" in done.stdout) is not may_tun, done.stderr
    assert "'namespaces'" not in done.stdout


def test_who_may_make_namespaces_goes_through_no_gate() -> None:  # LAB-225
    assert not gate.is_needed()
