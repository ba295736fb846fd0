"""Labs on the real kernel: what is built, how it behaves, and that nothing outlives it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from netlab.keeper import rtnetlink as nl
from netlab.lab import Lab
from netlab.lab_node import LabNode
from netlab.leaks import observe_footprint
from netlab.nat import NATS
from netlab.not_started import NotStarted
from netlab.process import CommandFailed
from netlab.topology import Lan, Link, Node, Router, Topology
from overlay.errors import Rejected, Unavailable

pytestmark = pytest.mark.any_backend

# Far more than it takes: these end a hang, they measure nothing.
PATIENCE_S = 60.0
PUBLIC = Topology(nodes=(Node("n1"), Node("n2")))
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
Build = Callable[[Topology], Awaitable[Lab]]


@pytest.fixture
def in_order() -> Iterator[None]:
    """Datagrams sent from one CPU cross a lab in order, so the one after a lost one proves it."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@contextmanager
def udp(node: LabNode, family: int, *, port: int = 0, netns: str = "") -> Iterator[socket.socket]:
    with node.in_netns(netns):
        opened = socket.socket(family, socket.SOCK_DGRAM)
    with opened:
        opened.setblocking(False)
        opened.bind(("", port))
        yield opened


def underlay(node: LabNode, family: int) -> str:
    address = node.ipv6 if family == socket.AF_INET6 else node.ipv4
    assert address is not None
    return address


def read(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except FileNotFoundError:
        return None


def port_of(sock: socket.socket) -> int:
    return sock.getsockname()[1]


async def receive(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    async with asyncio.timeout(PATIENCE_S):
        content, sender = await asyncio.get_running_loop().sock_recvfrom(sock, 2048)
    return content, sender[:2]


async def exchange(one: LabNode, other: LabNode, family: int) -> None:
    """There and back."""
    with udp(one, family) as here, udp(other, family) as there:
        here.sendto(b"ping", (underlay(other, family), port_of(there)))
        content, sender = await receive(there)
        assert content == b"ping"
        there.sendto(b"pong", sender)
        assert (await receive(here))[0] == b"pong"


HOMES = Topology(
    nodes=(
        Node("n1"),
        Node("n2"),
        Node("a", (Link(to="home"),)),
        Node("b", (Link(to="home"),)),
        Node("c", (Link(to="office"),)),
        Node("d", (Link(to="lab"),)),
        Node("e", (Link(to="lab"),)),
    ),
    routers=(Router("home", nat=NATS["port-restricted"], firewall="stateful"), Router("office")),
    lans=(Lan("lab"),),
)


@FAMILIES
async def test_lab_nodes_reach_what_they_should(lab, family):  # LAB-005
    running = await lab(HOMES)
    for one, other in [("n1", "n2"), ("a", "b"), ("a", "n1"), ("b", "c"), ("n2", "c"), ("d", "e")]:
        await exchange(running.node(one), running.node(other), family)


async def test_lab_nodes_know_each_other_by_name(lab):  # LAB-008
    running = await lab(HOMES)
    for family in ("-4", "-6"):
        await running.node("a").run("ping", family, "-c1", "-W10", "n1")
    hosts = (await running.node("n1").run("getent", "ahosts", "b")).text
    assert running.node("b").ipv4 in hosts
    assert running.node("b").ipv6 in hosts
    own = (await running.node("n1").run("getent", "ahosts", "n1")).text
    assert running.node("n1").ipv4 in own


@FAMILIES
async def test_lab_lan_without_a_router_leads_nowhere(lab, family):
    running = await lab(HOMES)
    with udp(running.node("d"), family) as sock, pytest.raises(OSError, match="unreachable"):
        sock.sendto(b"x", (underlay(running.node("n1"), family), 9))


async def test_lab_node_of_one_family_has_nothing_of_the_other(lab):
    running = await lab(
        Topology(nodes=(Node("four", (Link(ipv6=False),)), Node("six", (Link(ipv4=False),)))),
    )
    four, six = running.node("four"), running.node("six")
    assert (four.ipv6, six.ipv4) == (None, None)
    with udp(four, socket.AF_INET6) as sock, pytest.raises(OSError, match="unreachable"):
        sock.sendto(b"x", ("2001:db8::1", 9))
    with udp(six, socket.AF_INET) as sock, pytest.raises(OSError, match="unreachable"):
        sock.sendto(b"x", ("198.18.0.1", 9))


async def test_lab_nat_maps_by_endpoint_and_filters_by_address_and_port(lab, in_order):  # LAB-006
    running = await lab(HOMES)
    a, n1, n2 = (running.node(name) for name in ("a", "n1", "n2"))
    with (
        udp(a, socket.AF_INET, port=4000) as inside,
        udp(n1, socket.AF_INET) as first,
        udp(n2, socket.AF_INET) as second,
        udp(n1, socket.AF_INET) as uninvited,
    ):
        # An early probe at the port that the mapping will have must not move it.
        second.sendto(b"early", ("198.19.1.1", 4000))
        inside.sendto(b"x", (n1.ipv4, port_of(first)))
        inside.sendto(b"x", (n2.ipv4, port_of(second)))
        _, seen_by_first = await receive(first)
        _, seen_by_second = await receive(second)
        assert seen_by_first == seen_by_second == ("198.19.1.1", 4000)
        uninvited.sendto(b"another port", seen_by_first)
        first.sendto(b"answer", seen_by_first)
        assert (await receive(inside))[0] == b"answer"


async def test_lab_firewall_lets_answers_in_and_nothing_else(lab, in_order):  # LAB-006
    running = await lab(HOMES)
    a, c, n1 = (running.node(name) for name in ("a", "c", "n1"))
    with udp(a, socket.AF_INET6) as inside, udp(n1, socket.AF_INET6) as outside:
        outside.sendto(b"uninvited", (a.ipv6, port_of(inside)))
        inside.sendto(b"x", (n1.ipv6, port_of(outside)))
        assert (await receive(outside))[1] == (a.ipv6, port_of(inside))  # no NAT
        outside.sendto(b"answer", (a.ipv6, port_of(inside)))
        assert (await receive(inside))[0] == b"answer"
    await exchange(n1, c, socket.AF_INET6)  # behind a router without firewall


@FAMILIES
@pytest.mark.parametrize(
    ("cut", "victim", "other"), [("n2", "n2", "n1"), ("c", "c", "n1"), ("office", "c", "n1")]
)
async def test_lab_link_cut_carries_nothing_and_mended_all(
    lab, in_order, family, cut, victim, other
):
    running = await lab(HOMES)  # LAB-007
    one, two = running.node(other), running.node(victim)
    with udp(one, family) as here, udp(two, family) as there:
        here.sendto(b"before", (underlay(two, family), port_of(there)))
        assert (await receive(there))[0] == b"before"
        async with running.cut_off(cut):
            here.sendto(b"lost", (underlay(two, family), port_of(there)))
        here.sendto(b"after", (underlay(two, family), port_of(there)))
        assert (await receive(there))[0] == b"after"
        there.sendto(b"back", (underlay(one, family), port_of(here)))
        assert (await receive(here))[0] == b"back"


async def test_lab_node_sees_the_carrier_go_and_keeps_its_addresses(lab):  # LAB-007
    running = await lab(PUBLIC)
    n1 = running.node("n1")
    addresses = (await n1.run("ip", "-o", "address")).text
    async with running.cut_off("n1"):
        assert (await n1.run("cat", "/sys/class/net/eth0/carrier")).text == "0\n"
        assert (await n1.run("ip", "-o", "address")).text == addresses


@FAMILIES
async def test_lab_link_mtu_is_announced_to_the_sender(lab, family):
    small = 1300
    running = await lab(Topology(nodes=(Node("n1"), Node("n2", (Link(mtu_bytes=small),)))))
    n1, n2 = running.node("n1"), running.node("n2")
    with udp(n1, family) as here, udp(n2, family) as there:
        if family == socket.AF_INET:
            here.setsockopt(socket.IPPROTO_IP, 10, 2)  # IP_MTU_DISCOVER: IP_PMTUDISC_DO
        here.connect((underlay(n2, family), port_of(there)))
        here.send(bytes(1400))
        with pytest.raises(OSError, match="Message too long"):
            here.send(bytes(1400))


async def test_lab_node_has_files_and_a_name_of_its_own(lab):  # LAB-008
    before = [read("/etc/hosts"), read("/etc/resolv.conf"), socket.gethostname()]
    running = await lab(PUBLIC)
    n1, n2 = running.node("n1"), running.node("n2")
    assert (await n1.run("hostname")).text == "n1\n"
    assert (await n2.run("cat", "/etc/hostname")).text == "n2\n"
    await n1.run("sh", "-c", "echo n1 | tee /run/x /var/lib/zos/x /etc/hosts /etc/resolv.conf")
    assert (await n2.run("cat", "/run/x", check=False)).returncode == 1
    assert (await n2.run("cat", "/var/lib/zos/x", check=False)).returncode == 1
    assert "n2" in (await n2.run("cat", "/etc/hosts")).text
    assert n1.path("/run/x").read_text() == n1.path("/var/lib/zos/x").read_text() == "n1\n"
    n2.path("/var/lib/zos/y").write_text("from outside")
    assert (await n2.run("cat", "/var/lib/zos/y")).text == "from outside"
    assert read("/run/x") is None
    assert [read("/etc/hosts"), read("/etc/resolv.conf"), socket.gethostname()] == before


async def test_lab_node_sees_itself_only(lab):  # LAB-008, LAB-220
    running = await lab(PUBLIC)
    n1, n2 = running.node("n1"), running.node("n2")
    await n2.spawn("sleep", "1000", log="sleeper")
    assert (await n1.run("ls", "/sys/class/net")).text.split() == ["eth0", "lo"]
    assert (await n1.run("cat", "/proc/1/comm")).text == "init\n"
    # A process may end between the listing and the reading.
    seen = await n1.run("sh", "-c", "cat /proc/[0-9]*/comm", check=False)
    assert set(seen.text.split()) <= {"init", "sh", "cat"}
    groups = (await n1.run("cat", "/proc/self/cgroup")).text.splitlines()
    assert {line.rsplit(":", 1)[1] for line in groups} == {"/"}


async def test_lab_node_changes_sysctls_of_its_own(lab):
    forwarding = "/proc/sys/net/ipv4/ip_forward"
    before = read(forwarding)
    running = await lab(PUBLIC)
    n1, n2 = running.node("n1"), running.node("n2")
    await n1.run("sh", "-c", f"echo 1 > {forwarding}")
    assert (await n1.run("cat", forwarding)).text == "1\n"
    assert (await n2.run("cat", forwarding)).text == "0\n"
    assert read(forwarding) == before


async def test_lab_node_makes_tun_devices(lab):
    running = await lab(PUBLIC)
    code = """
import fcntl, struct
with open("/dev/net/tun", "r+b", buffering=0) as tun:
    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", b"tun7", 0x1001))
    print(open("/proc/net/dev").read().count("tun7"))
"""
    assert (await running.node("n1").run(sys.executable, "-c", code)).text == "1\n"


@FAMILIES
async def test_lab_workload_has_a_namespace_inside_its_node(lab, family):  # LAB-009
    running = await lab(PUBLIC)
    n1 = running.node("n1")
    await running.add_namespace(n1, "w1")
    loopback = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with udp(n1, family, netns="w1") as sock:
        sock.sendto(b"self", (loopback, port_of(sock)))
        assert (await receive(sock))[0] == b"self"
    seen_inside = (await n1.run("stat", "-c", "%i", "/run/netns/w1")).text
    assert int(seen_inside) == n1.workload_netns_path("w1").stat().st_ino
    assert (await n1.run("cat", "/proc/net/dev", netns="w1")).text.count(":") == 1
    assert read("/run/netns/w1") is None
    with pytest.raises(Unavailable, match="exist"):
        await n1.add_namespace("w1")
    with pytest.raises(Rejected):
        await n1.add_namespace("../w2")


async def test_lab_node_pins_namespaces_of_its_own(lab):  # LAB-009
    """As the node software does: /run/netns shared, a namespace bound to a file in it."""
    running = await lab(PUBLIC)
    before = read("/proc/self/mountinfo")
    script = (
        "mkdir -p /run/netns && mount --bind /run/netns /run/netns && "
        "mount --make-shared /run/netns && touch /run/netns/t && "
        "unshare --net=/run/netns/t true && nsenter --net=/run/netns/t ls /proc/self/ns"
    )
    await running.node("n1").run("sh", "-c", script)
    assert read("/proc/self/mountinfo") == before


async def test_run_gives_back_what_the_program_did(lab):  # LAB-010
    n1 = (await lab(PUBLIC)).node("n1")
    script = 'cat; echo "$GREETING" >&2; pwd; exit 3'
    completed = await n1.run(
        "sh", "-c", script, input=b"in\n", env={"GREETING": "hi"}, cwd="/usr", check=False
    )
    assert (completed.returncode, completed.stdout, completed.stderr) == (3, b"in\n/usr\n", b"hi\n")
    with pytest.raises(CommandFailed, match="exit code 3") as caught:
        await n1.run("sh", "-c", "echo why >&2; exit 3")
    assert "why" in str(caught.value)
    assert caught.value.completed.returncode == 3
    with pytest.raises(NotStarted, match="n1: no-such-thing: not found"):
        await n1.run("no-such-thing")
    with pytest.raises(Unavailable, match="No such file"):
        await n1.run("true", cwd="/no/such")
    assert (await n1.run("true")).returncode == 0


async def test_run_does_not_wait_for_what_stays_behind(lab):  # LAB-010
    n1 = (await lab(PUBLIC)).node("n1")
    completed = await n1.run("sh", "-c", "sleep 1000 & echo started")
    assert completed.stdout == b"started\n"


async def test_run_kills_what_is_late_and_what_is_given_up(lab):  # LAB-010
    n1 = (await lab(PUBLIC)).node("n1")
    with pytest.raises(Unavailable, match="no end in"):
        await n1.run("sleep", "1001", timeout_s=0.05)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await n1.run("sleep", "1002")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):  # before it has even started
            await n1.run("sleep", "1003")
    async with asyncio.timeout(PATIENCE_S):
        while await late_ones(n1):
            continue


async def late_ones(node: LabNode) -> str:
    return (await node.run("pgrep", "-f", "^sleep 100[1-3]$", check=False)).text


async def test_run_refuses_what_does_not_fit_a_message(lab):
    n1 = (await lab(PUBLIC)).node("n1")
    with pytest.raises(Rejected, match="is the most"):
        await n1.run("true", "x" * 200_000)


async def test_run_serves_many_at_once(lab):
    n1 = (await lab(PUBLIC)).node("n1")
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(n1.run("echo", str(n))) for n in range(50)]
    assert [task.result().text for task in running] == [f"{n}\n" for n in range(50)]


async def test_spawned_process_is_killed_and_started_again_and_again(lab):  # LAB-010
    n1 = (await lab(PUBLIC)).node("n1")
    for turn in range(5):
        process = await n1.spawn("sh", "-c", f"echo turn {turn}; exec sleep 1000", log="sleeper")
        assert process.returncode is None
        process.kill(signal.SIGKILL)
        assert await process.wait() == -signal.SIGKILL
        assert process.returncode == -signal.SIGKILL
        process.kill()  # nothing happens
    ended = await n1.spawn("sh", "-c", "echo done; exit 7", log="sleeper")
    assert await ended.wait() == 7
    assert ended.log is not None
    assert ended.log.read_text().endswith("done\n")


async def test_spawned_process_has_a_number_inside_and_one_outside(lab):
    n1 = (await lab(PUBLIC)).node("n1")
    process = await n1.spawn("sleep", "1000", log="sleeper")
    status = read(f"/proc/{process.host_pid}/status")
    assert status is not None
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    assert numbers.split()[-1] == str(process.pid)


async def test_labs_side_by_side_never_see_each_other(lab, in_order):  # LAB-011
    one, other = await lab(PUBLIC), await lab(PUBLIC)
    with (
        udp(one.node("n2"), socket.AF_INET, port=7000) as here,
        udp(other.node("n2"), socket.AF_INET, port=7000) as there,
        udp(one.node("n1"), socket.AF_INET) as ours,
        udp(other.node("n1"), socket.AF_INET) as theirs,
    ):
        ours.sendto(b"ours", (one.node("n2").ipv4, 7000))
        theirs.sendto(b"theirs", (other.node("n2").ipv4, 7000))
        assert (await receive(here))[0] == b"ours"
        assert (await receive(there))[0] == b"theirs"


async def test_lab_names_what_it_could_not_build(tmp_path, monkeypatch):
    before = observe_footprint()
    broken = nl.link_master(99, master=98)
    monkeypatch.setattr("netlab.construction.program", lambda facts: broken)
    with pytest.raises(Unavailable, match="message 1 of type 19"):
        async with Lab.create(PUBLIC, workdir=tmp_path / "lab"):
            pytest.fail("built")
    assert observe_footprint().difference(before) == []


async def test_lab_whose_keeper_is_killed_says_so_and_is_gone(lab, tmp_path):  # LAB-020
    watcher, victim = await lab(Topology(nodes=(Node("w"),))), await lab(HOMES)
    process = await victim.node("a").spawn(*STUBBORN, log="stubborn")
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(pidfds(lab_processes(victim)))
        tripwires = [
            stack.enter_context(tripwire(watcher.node("w"), node.netns_path, number))
            for number, node in enumerate(victim.nodes.values())
        ]
        os.kill(victim.keeper_pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="keeper is gone"):
            await process.wait()
        await all_ended(processes)
        for each in tripwires:
            await link_gone(each)
    with pytest.raises(Unavailable, match="keeper is gone"):
        await victim.node("n1").run("true")


async def test_lab_whose_owner_is_killed_is_gone(lab, tmp_path):  # LAB-020
    watcher = await lab(Topology(nodes=(Node("w"),)))
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path / "victim"), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        netns, *numbers = (await owner.stdout.readline()).decode().split()
    with (
        pidfds([int(number) for number in numbers]) as processes,
        tripwire(watcher.node("w"), Path(netns), 0) as wire,
    ):
        owner.kill()
        await owner.wait()
        await all_ended(processes)
        await link_gone(wire)
    assert str(tmp_path / "victim") not in all_mounts()
    owner._transport.close()


async def test_lab_stopped_keeper_dies_with_its_owner_all_the_same(tmp_path):  # LAB-020
    """The parent-death signal does not need the keeper's help."""
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, str(tmp_path / "victim"), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        _, *numbers = (await owner.stdout.readline()).decode().split()
    with pidfds([int(number) for number in numbers]) as processes:
        os.kill(int(numbers[0]), signal.SIGSTOP)
        owner.kill()
        await owner.wait()
        await all_ended(processes)
    owner._transport.close()


async def test_lab_leaves_the_machine_as_it_was(tmp_path):  # LAB-021
    before = observe_footprint()
    async with Lab.create(HOMES, workdir=tmp_path / "lab") as running:
        await running.node("a").spawn(*STUBBORN, log="stubborn")
        await running.node("a").add_namespace("w1")
        await running.node("a").run("mount", "-t", "tmpfs", "none", "/mnt")
        await running.set_link("home", up=False)
    assert observe_footprint().difference(before) == []


# Ignores what can be ignored and leaves a grandchild in a session of its own.
STUBBORN = ("sh", "-c", "trap '' TERM INT HUP; setsid sleep 1000 & while :; do sleep 1000; done")

OWNER = f"""
import asyncio, sys
from pathlib import Path
from netlab.lab import Lab
from netlab.topology import Node, Topology

async def main():
    topology = Topology(nodes=(Node("n1"), Node("n2")))
    async with Lab.create(topology, workdir=Path(sys.argv[1])) as lab:
        process = await lab.node("n1").spawn(*{STUBBORN!r}, log="stubborn")
        print(lab.node("n1").netns_path, lab.keeper_pid, process.host_pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def lab_processes(running: Lab) -> list[int]:
    """Host numbers of all processes in the lab's PID namespace."""
    own = Path(f"/proc/{running.keeper_pid}/ns/pid").readlink()
    found = []
    for link in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            if link.readlink() == own:
                found.append(int(link.parts[2]))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


@contextmanager
def pidfds(pids: list[int]) -> Iterator[list[int]]:
    with ExitStack() as stack:
        opened = []
        for pid in pids:
            opened.append(os.pidfd_open(pid))
            stack.callback(os.close, opened[-1])
        yield opened


async def all_ended(processes: list[int]) -> None:
    assert processes
    loop = asyncio.get_running_loop()
    for process in processes:
        ended = asyncio.Event()
        loop.add_reader(process, ended.set)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await ended.wait()
        finally:
            loop.remove_reader(process)


@contextmanager
def tripwire(watcher: LabNode, netns: Path, number: int) -> Iterator[tuple[socket.socket, str]]:
    """A cable from the watcher into a namespace: it vanishes when that namespace does."""
    name = f"trip{number}"
    with watcher.in_netns():
        route, events = nl.open_socket(), nl.open_socket()
    with closing(route), closing(events):
        there = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            cable = nl.veth(
                name=name, ifindex=100 + number, mac=b"\2\0\0\0\0\1", peer_name=name,
                peer_ifindex=100, peer_mac=b"\2\0\0\0\0\2", peer_netns_fd=there, mtu_bytes=1500,
            )  # fmt: skip
            nl.send(route, cable)
        finally:
            os.close(there)
        events.setblocking(False)
        events.bind((0, 1))  # RTMGRP_LINK
        yield events, name


async def link_gone(wire: tuple[socket.socket, str]) -> None:
    events, name = wire
    removed = 17  # RTM_DELLINK
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message = await asyncio.get_running_loop().sock_recv(events, 65536)
            if int.from_bytes(message[4:6], sys.byteorder) == removed and name.encode() in message:
                return


def all_mounts() -> str:
    found = []
    for mounts in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            found.append(mounts.read_text())
        except OSError:
            continue
    return "".join(found)


async def test_program_of_a_caller_who_leaves_as_it_starts_is_killed(
    lab: Build,
) -> None:
    """LAB-010, with the answer there and the caller cancelled before it could take it."""
    built = await lab(PUBLIC)
    node = built.node("n1")
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(node.run("sleep", "1000"))
        await asyncio.sleep(0)  # it has asked
        built.node("n2").socket(socket.AF_INET, socket.SOCK_DGRAM).close()  # hears both answers
        asking.cancel()
    assert asking.cancelled()
    async with asyncio.timeout(PATIENCE_S):
        while "sleep\x001000" in (await node.run("sh", "-c", "cat /proc/*/cmdline")).text:  # noqa: ASYNC110 - nobody else tells
            await asyncio.sleep(0.01)
