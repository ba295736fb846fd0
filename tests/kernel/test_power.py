"""Machines of a lab that are killed, paused, resumed and started again, on the real kernel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from netlab.impairment import Both, Impairment
from netlab.lab_node import LabNode
from netlab.topology import Lan, Link, Node, Topology
from overlay.errors import Rejected, Unavailable

pytestmark = pytest.mark.any_backend

# Far more than it takes: it ends a hang, it measures nothing.
PATIENCE_S = 20.0
PAIR = Topology(nodes=(Node("n1"), Node("n2")))
COUNTER = "i=0; while :; do i=$((i+1)); echo $i > /run/count; done"


@contextmanager
def udp(node: LabNode, family: int = socket.AF_INET) -> Iterator[socket.socket]:
    with node.in_netns():
        opened = socket.socket(family, socket.SOCK_DGRAM)
    with opened:
        opened.setblocking(False)
        opened.bind(("", 0))
        yield opened


async def arrives(one: LabNode, other: LabNode, family: int) -> None:
    """The very first datagram does."""
    with udp(one, family) as here, udp(other, family) as there:
        address = other.ipv6 if family == socket.AF_INET6 else other.ipv4
        here.sendto(b"first", (address, there.getsockname()[1]))
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.get_running_loop().sock_recv(there, 100) == b"first"


async def until(is_true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_true():  # noqa: ASYNC110 - other processes do not tell us
            await asyncio.sleep(0.005)


def space_of(pid: int) -> Path:
    """The PID namespace of a process, by the number it has here."""
    return Path(f"/proc/{pid}/ns/pid").readlink()


def inhabitants(space: Path) -> dict[int, int]:
    """Processes of a PID namespace: the number that each has here, and there."""
    found = {}
    for link in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            if link.readlink() == space:
                status = (link.parent.parent / "status").read_text()
                numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
                found[int(numbers[0])] = int(numbers[-1])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def init_of(space: Path) -> int:
    return next(here for here, there in inhabitants(space).items() if there == 1)


def state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


async def test_killed_node_is_gone_with_all_that_ran_in_it(lab):  # LAB-222
    n1 = (await lab(PAIR)).node("n1")
    process = await n1.spawn("sh", "-c", "setsid sleep 1000 & exec sleep 1000", log="sleeper")
    await n1.spawn("setsid", "sh", "-c", "trap '' TERM INT HUP; sleep 1000; :", log="stubborn")
    await n1.run("true")
    space = space_of(process.host_pid)
    await n1.kill()
    assert n1.state == "dead"
    assert await process.wait() == process.returncode == -signal.SIGKILL
    assert inhabitants(space) == {}
    await n1.kill()  # nothing happens


async def test_node_whose_first_process_is_killed_is_dead(lab):  # LAB-222
    n1 = (await lab(PAIR)).node("n1")
    process = await n1.spawn("sleep", "1000", log="sleeper")
    space = space_of(process.host_pid)
    path = n1.path("/run")
    assert (path / "lock").exists()
    os.kill(init_of(space), signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    await until(lambda: n1.state == "dead")
    assert not path.exists(), "whoever looks sees nothing, least of all the files below"
    await n1.restart()
    await n1.run("true")
    assert (path / "lock").exists()


async def test_node_that_is_dead_has_its_disk_and_nothing_else(lab):  # LAB-222, LAB-223
    running = await lab(PAIR)
    n1 = running.node("n1")
    n1.path("/var/lib/zos/kept").write_text("kept")
    await n1.kill()
    for attempt in (n1.run("true"), n1.spawn("true", log="x"), n1.add_namespace("w"), n1.pause()):
        with pytest.raises(Unavailable, match="n1 is dead"):
            await attempt
    with pytest.raises(Unavailable, match="n1 is dead"):
        n1.path("/run/x")
    assert n1.path("/var/lib/zos/kept").read_text() == "kept"
    assert "NO-CARRIER" not in (await running.node("n2").run("ip", "link")).text


async def test_neighbour_of_a_killed_node_sees_the_carrier_go_and_come(lab):  # LAB-222
    running = await lab(
        Topology(nodes=(Node("a", (Link(to="wire"),)), Node("b", (Link(to="wire"),))),
                 lans=(Lan("wire"),))
    )  # fmt: skip
    a, b = running.node("a"), running.node("b")
    await a.kill()
    assert "NO-CARRIER" in (await b.run("ip", "link", "show", "eth0")).text
    await a.restart()
    assert "NO-CARRIER" not in (await b.run("ip", "link", "show", "eth0")).text
    for family in (socket.AF_INET, socket.AF_INET6):
        await arrives(a, b, family)
        await arrives(b, a, family)


async def test_killed_node_says_no_farewell(lab):  # LAB-222
    """A peer's connection stays as it is: it is not told of the end, as it would be by a kernel."""
    running = await lab(PAIR)
    n1, n2 = running.node("n1"), running.node("n2")
    process = await n1.spawn("python3", "-c", ACCEPTER, log="server")
    await until(lambda: process.log.read_text() == "ready\n")
    with n2.in_netns():
        client = socket.socket()
    with client:
        client.setblocking(False)
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.get_running_loop().sock_connect(client, (n1.ipv4, 7))
        await until(lambda: process.log.read_text() == "ready\naccepted\n")
        await n1.kill()
        with pytest.raises(BlockingIOError):
            client.recv(1)


ACCEPTER = """
import socket, time
with socket.create_server(("", 7)) as server:
    print("ready", flush=True)
    accepted = server.accept()
    print("accepted", flush=True)
    time.sleep(1000)
"""


async def test_restarted_node_is_as_new_but_for_its_disk(lab):  # LAB-223
    running = await lab(PAIR)
    n1, n2 = running.node("n1"), running.node("n2")
    before = await picture(n1)
    await n1.add_namespace("w1")
    n1.path("/var/lib/zos/kept").write_text("kept")
    await n1.run(
        "sh", "-ec",
        "echo 1 > /run/x; echo 1 > /etc/x; echo 1 > /proc/sys/net/ipv4/ip_forward;"
        "ip link add v0 type veth peer name v1 netns w1; ip link set v0 up;"
        "ip link add b0 type bridge; ip link add m0 link eth0 type macvlan;"
        "ip address add 192.0.2.1/24 dev eth0; ip -6 address add 2001:db8:f::1/64 dev lo;"
        "ip route add blackhole 203.0.113.0/24; ip -6 route add unreachable 2001:db8:e::/48;"
        "ip route add 203.0.113.0/24 dev eth0 table 77;"
        "ip rule add from 192.0.2.1 table 77; ip -6 rule add from 2001:db8:f::1 table 77;"
        "nft add table inet mine; ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0",
    )  # fmt: skip
    assert await picture(n1) != before
    await n1.restart()
    assert await picture(n1) == before
    assert n1.path("/var/lib/zos/kept").read_text() == "kept"
    with pytest.raises(KeyError):
        n1.workload_netns_path("w1")
    for family in (socket.AF_INET, socket.AF_INET6):
        await arrives(n1, n2, family)
        await arrives(n2, n1, family)


async def picture(node: LabNode) -> str:
    """All that programs could have changed, but for the disk."""
    script = (
        "ls -R /run; ls /etc; ip -o link | sed 's/link-netnsid.*//'; ip -o address | sort;"
        "ip route show table all | sort; ip -6 route show table all | sort; ip rule; ip -6 rule;"
        "ip neigh show nud permanent | sort; nft list ruleset;"
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding"
    )
    return (await node.run("sh", "-c", script)).text


async def test_restart_starts_what_belongs_to_the_machine_again(lab):  # LAB-223
    n1 = (await lab(PAIR)).node("n1")
    first = await n1.spawn("sh", "-c", "echo up; exec sleep 1000", log="own", boot=True)
    await n1.spawn("sleep", "1000", log="other")
    await until(lambda: first.log.read_text() == "up\n")
    (again,) = await n1.restart()
    assert first.returncode == -signal.SIGKILL
    assert (again.argv, again.returncode) == (first.argv, None)
    await until(lambda: again.log.read_text() == "up\nup\n")
    assert len(await n1.restart()) == 1
    with pytest.raises(Rejected, match="gone after a restart"):
        await n1.spawn("true", log="x", netns="w1", boot=True)


async def test_cable_that_is_cut_stays_cut_through_a_restart(lab):  # LAB-223
    running = await lab(PAIR)
    n1, n2 = running.node("n1"), running.node("n2")
    await running.set_link("n1", up=False)
    await n1.restart()
    assert (await n1.run("cat", "/sys/class/net/eth0/carrier")).text == "0\n"
    await n1.kill()
    await running.set_link("n1", up=True)
    await n1.restart()
    await arrives(n1, n2, socket.AF_INET)
    await arrives(n2, n1, socket.AF_INET6)


async def test_restarted_node_has_the_mtu_of_its_cable(lab):  # LAB-223
    """That of the file or, set since, that one; not what a program in the node made of it."""
    running = await lab(PAIR)
    n1 = running.node("n1")

    async def restarted() -> tuple[str, bool]:
        await n1.run("ip", "link", "set", "eth0", "mtu", "900")
        await n1.restart()
        mtu = (await n1.run("cat", "/sys/class/net/eth0/mtu")).text.strip()
        return mtu, str(n1.ipv6) in (await n1.run("ip", "-6", "address")).text

    assert await restarted() == ("1500", True)
    await running.set_mtu("n1:eth0", 1300)
    assert await restarted() == ("1300", True)
    await running.apply(replace(PAIR, nodes=(Node("n1", (Link(mtu_bytes=1400),)), PAIR.nodes[1])))
    assert await restarted() == ("1400", True)


async def test_partition_outlives_a_restart(lab):  # LAB-223
    running = await lab(PAIR)
    n1, n2 = running.node("n1"), running.node("n2")
    await running.partition(["n1"], ["n2"])
    await n1.restart()
    with udp(n1) as here, udp(n2) as there:
        here.sendto(b"lost", (n2.ipv4, there.getsockname()[1]))
        await running.heal()
        here.sendto(b"after", (n2.ipv4, there.getsockname()[1]))
        async with asyncio.timeout(PATIENCE_S):
            assert await asyncio.get_running_loop().sock_recv(there, 100) == b"after"


async def test_paused_node_stands_still_until_it_is_resumed(lab):  # LAB-224
    n1 = (await lab(PAIR)).node("n1")
    process = await n1.spawn("sh", "-c", COUNTER, log="counter")
    # Starts others all the time, so a single look would miss some.
    await n1.spawn("sh", "-c", "while :; do sh -c :; done", log="forker")
    count = n1.path("/run/count")
    await until(lambda: count.exists() and count.read_text())
    await n1.pause()
    assert n1.state == "paused"
    space = space_of(process.host_pid)
    others = inhabitants(space).keys() - {init_of(space)}
    # D: who made a child by vfork waits for it, and it stands still.
    assert {state_of(pid) for pid in others} - {"Z", "X", "D"} == {"T"}
    with pytest.raises(Unavailable, match="n1 is paused"):
        await n1.run("true")
    before = count.read_text()
    await asyncio.sleep(0.05)
    assert count.read_text() == before
    await n1.resume()
    await until(lambda: count.read_text() not in ("", before))
    assert process.returncode is None


async def test_paused_node_can_be_killed_and_started_again(lab):  # LAB-224
    n1 = (await lab(PAIR)).node("n1")
    process = await n1.spawn("sleep", "1000", log="sleeper")
    await n1.pause()
    await n1.restart()
    assert process.returncode == -signal.SIGKILL
    assert (await n1.run("true")).returncode == 0


async def test_node_without_a_program_has_no_process(lab):  # LAB-221
    running = await lab(PAIR)
    own = space_of(running.keeper_pid)
    await arrives(running.node("n1"), running.node("n2"), socket.AF_INET)
    assert inhabitants(own) == {running.keeper_pid: 1}
    assert len(children_of(running.keeper_pid)) == 0
    await running.node("n1").run("true")
    assert len(children_of(running.keeper_pid)) == 1


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_orphans_are_reaped(lab):  # LAB-220
    n1 = (await lab(PAIR)).node("n1")
    await n1.run("sh", "-c", "for i in 1 2 3; do setsid sh -c 'sh -c : & exit' & done")
    async with asyncio.timeout(PATIENCE_S):
        while (
            "Z"
            in (await n1.run("sh", "-c", "cat /proc/[0-9]*/stat | cut -d' ' -f3", check=False)).text
        ):
            continue


async def test_impaired_link_stays_impaired_through_a_restart(lab):  # LAB-223
    delay_s = 0.2
    impaired = Both(up=Impairment(delay_s=delay_s))
    running = await lab(Topology(nodes=(Node("n1", (Link(impaired=impaired),)), Node("n2"))))
    n1, n2 = running.node("n1"), running.node("n2")
    await n1.restart()
    for family in (socket.AF_INET, socket.AF_INET6):
        began = time.monotonic()
        await arrives(n1, n2, family)
        assert time.monotonic() - began >= delay_s
        await arrives(n2, n1, family)
