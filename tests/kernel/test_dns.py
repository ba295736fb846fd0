"""Name servers in tenant netns, asked by workloads, members and strangers (DNS-020 .. DNS-027)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from overlay.addressing import address_of
from overlay.errors import Unavailable
from overlay.model import Address
from overlay.netns import control, dns, dnsmasq, namespaces
from overlay.netns.converge import Configurator
from overlay.netns.dns import NameService
from overlay.netns.state import birth_link
from tests.asking import NEVER_S, NO_SUCH_NAME, REFUSED, ask, ask_name_of, said
from tests.convergence import FixedClock
from tests.real_machine import RealMachine
from tests.two_nodes import Node, Pair, two_nodes

pytestmark = pytest.mark.any_backend

WEB_4, WEB_6 = "10.7.4.2", "fd07:1:2:4::2"
HOSTS = f"{WEB_4} web.home.zos web.b.home.zos\n{WEB_6} web.home.zos web.b.home.zos\n"
WAYS = pytest.mark.parametrize("by", ["udp", "tcp"])
FAMILIES = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["v4", "v6"])


@pytest.fixture
async def pair(machine: RealMachine) -> AsyncIterator[Pair]:
    async with two_nodes(machine) as pair:
        yield pair


def service(node: Node, *, hosts: str = HOSTS, resolvers: tuple[str, ...] = ()) -> NameService:
    nr = node.resource
    return NameService(
        addresses=(address_of(nr.gateway_v4), address_of(nr.gateway_v6)),
        ranges=(nr.range_v4, nr.range_v6),
        top="zos",
        hosts=hosts,
        resolvers=tuple(map(Address, resolvers)),
    )


def gateway(node: Node, family: int) -> str:
    nr = node.resource
    return address_of(nr.gateway_v4 if family == socket.AF_INET else nr.gateway_v6)


async def serve(node: Node, **more: object) -> None:
    wanted = service(node, **more)  # type: ignore[arg-type]
    await node.machine.shell.name_servers.serve(node.resource.netns, wanted)


def processes(node: Node) -> list[int]:
    """Name servers in the node's tenant netns."""
    inside = Path(node.tenant).stat().st_ino
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "ns/net").stat().st_ino == inside:
                assert b"dnsmasq" in (entry / "cmdline").read_bytes()
                found.append(int(entry.name))
    return found


def files_of(node: Node) -> Path:
    return Path(dns.DIRECTORY) / node.resource.netns


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_controlled(netns: str) -> bool:
    return control.socket_path(birth_link(netns)).exists()


def left_behind(node: Node) -> list[Path]:
    """Processes that were started for this node's tenant netns."""
    name = node.resource.netns.encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has just ended
            # Beside us, others try the same with files of their own.
            is_ours = (path.parent / "ns/mnt").samefile("/proc/self/ns/mnt")
            found += [path] if is_ours and name in path.read_bytes() else []
    return found


@WAYS
@FAMILIES
async def test_workloads_are_told_names_of_the_network_in_both_families(
    pair: Pair, family: int, by: str
) -> None:  # DNS-020
    await serve(pair.a)
    inside, server = pair.a.workload.netns, gateway(pair.a, family)
    assert await ask(inside, server, "web.home.zos", "A", by=by) == said(WEB_4)
    assert await ask(inside, server, "web.b.home.zos", "AAAA", by=by) == said(WEB_6)
    assert await ask(inside, server, "nobody.home.zos", by=by) == NO_SUCH_NAME


@FAMILIES
async def test_addresses_of_the_network_are_told_by_name(pair: Pair, family: int) -> None:
    # DNS-020
    await serve(pair.a)
    inside, server = pair.a.workload.netns, gateway(pair.a, family)
    for address in (WEB_4, WEB_6):
        assert await ask_name_of(inside, server, address) == said("web.home.zos.")
    assert await ask_name_of(inside, server, "10.7.9.9") == NO_SUCH_NAME
    assert await ask_name_of(inside, server, "fd07:1:2:9::9") == NO_SUCH_NAME


@WAYS
@FAMILIES
async def test_without_a_way_out_other_names_are_refused_at_once(
    pair: Pair, family: int, by: str
) -> None:  # DNS-022
    await serve(pair.a)
    inside, server = pair.a.workload.netns, gateway(pair.a, family)
    assert await ask(inside, server, "example.com", by=by) == REFUSED


@WAYS
@FAMILIES
async def test_other_members_may_ask_and_the_underlay_may_not(
    pair: Pair, family: int, by: str
) -> None:  # DNS-024
    await serve(pair.b)
    server = gateway(pair.b, family)
    assert await ask(pair.a.workload.netns, server, "web.home.zos", by=by) == said(WEB_4)
    underlay = "/proc/self/ns/net"
    for address in (server, "127.0.0.1" if family == socket.AF_INET else "::1"):
        answer = await ask(underlay, address, "web.home.zos", by=by, within_s=NEVER_S)
        assert answer is None


@FAMILIES
async def test_nobody_else_in_the_network_answers_by_the_name_servers_other_addresses(
    pair: Pair, family: int
) -> None:  # DNS-024
    await serve(pair.a)
    # An address of the node in a workload's subnet, which the name server does not have.
    extra = "10.7.3.77/24" if family == socket.AF_INET else "fd07:1:2:3::77/64"
    await pair.a.machine.shell.kernel.add_address(pair.a.tenant, "br0", extra)  # type: ignore[arg-type]
    address = extra.partition("/")[0]
    inside = pair.a.workload.netns
    while not pair.a.refused():  # a neighbour takes a moment to be found
        assert await ask(inside, address, "web.home.zos", within_s=NEVER_S) is None
    assert pair.a.refused().keys() == {"refused_input"}


async def test_new_names_are_served_by_the_same_process(pair: Pair) -> None:  # DNS-021
    await serve(pair.a)
    before = processes(pair.a)
    await serve(pair.a, hosts="10.7.3.3 db.home.zos\n")
    inside, server = pair.a.workload.netns, gateway(pair.a, socket.AF_INET)
    while await ask(inside, server, "db.home.zos") != said("10.7.3.3"):
        pass
    assert await ask(inside, server, "web.home.zos") == NO_SUCH_NAME
    assert processes(pair.a) == before


async def test_a_name_server_has_no_privileges_and_reads_nothing_of_the_machine(
    pair: Pair,
) -> None:  # DNS-023
    await serve(pair.a)
    (pid,) = processes(pair.a)
    status = status_of(pid)
    assert {int(uid) for uid in status["Uid"].split()} == {65534}
    assert status["Groups"].split() == []
    assert {status[f"Cap{which}"].strip("0") for which in ("Eff", "Prm", "Inh", "Amb")} == {""}
    inside, server = pair.a.workload.netns, gateway(pair.a, socket.AF_INET)
    assert await ask(inside, server, "localhost") == NO_SUCH_NAME
    assert await ask(inside, server, socket.gethostname()) == NO_SUCH_NAME
    files = files_of(pair.a)
    modes = {path.stat().st_mode & 0o7 for path in (files, *files.glob("[hs]*"))}
    assert modes == {0}  # not for everybody on the machine


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_one_that_ends_is_told_of_and_can_be_started_again(
    pair: Pair, number: signal.Signals
) -> None:  # DNS-025
    ended: asyncio.Queue[str] = asyncio.Queue()
    pair.a.machine.shell.name_servers.follow(ended.put_nowait)
    await serve(pair.a)
    os.kill(processes(pair.a)[0], number)
    assert await asyncio.wait_for(ended.get(), 30) == pair.a.resource.netns
    await serve(pair.a)
    inside, server = pair.a.workload.netns, gateway(pair.a, socket.AF_INET6)
    assert await ask(inside, server, "web.home.zos") == said(WEB_4)


async def test_it_outlives_the_node_and_is_found_again(pair: Pair) -> None:  # DNS-026
    await serve(pair.a)
    before = processes(pair.a)
    pair.a.machine.restart()
    await serve(pair.a)
    assert processes(pair.a) == before
    pair.a.machine.restart()
    await serve(pair.a, hosts="10.7.3.3 db.home.zos\n")
    inside, server = pair.a.workload.netns, gateway(pair.a, socket.AF_INET)
    while await ask(inside, server, "db.home.zos") != said("10.7.3.3"):
        pass
    assert processes(pair.a) == before


async def test_names_that_a_killed_node_wrote_and_did_not_tell_of_are_read(pair: Pair) -> None:
    # DNS-026
    await serve(pair.a)
    (files_of(pair.a) / dns.HOSTS_FILE).write_text("10.7.3.3 db.home.zos\n")
    pair.a.machine.restart()
    await serve(pair.a, hosts="10.7.3.3 db.home.zos\n")
    inside, server = pair.a.workload.netns, gateway(pair.a, socket.AF_INET)
    while await ask(inside, server, "db.home.zos") != said("10.7.3.3"):
        pass


async def test_one_whose_node_was_killed_before_it_served_is_found_and_ended(
    pair: Pair,
) -> None:  # DNS-026
    await serve(pair.a)
    (before,) = processes(pair.a)
    (files_of(pair.a) / dns.PID_FILE).unlink()
    pair.a.machine.restart()
    await serve(pair.a)
    (after,) = processes(pair.a)
    assert after != before


async def test_one_whose_program_was_updated_is_started_anew(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # DNS-025
    program, update = tmp_path / "dnsmasq", tmp_path / "update"
    installed = str(dnsmasq.find_program())
    shutil.copy(installed, program)
    monkeypatch.setattr(dnsmasq, "find_program", lambda: str(program))
    await serve(pair.a)
    before = processes(pair.a)
    await serve(pair.a)
    assert processes(pair.a) == before
    shutil.copy(installed, update)
    update.replace(program)
    await serve(pair.a)
    (after,) = processes(pair.a)
    assert after not in before


async def test_it_keeps_no_netns_alive_that_was_unpinned_while_no_node_ran(pair: Pair) -> None:
    # DNS-026
    await serve(pair.a)
    (before,) = processes(pair.a)
    pair.a.machine.unpin(pair.a.resource.netns)
    pair.a.machine.restart()
    while True:  # a netns takes a moment to die, and the workload's link with it
        with suppress(Unavailable):
            await pair.a.converge()
            break
    await serve(pair.a)
    assert before not in processes(pair.a)
    assert not is_there(before)


async def test_nothing_is_left_of_it_with_the_network(pair: Pair) -> None:  # DNS-027
    await serve(pair.a)
    (pid,) = processes(pair.a)
    files = files_of(pair.a)
    inside, server = pair.a.workload.netns, gateway(pair.a, socket.AF_INET)
    with namespaces.open_socket(inside, socket.AF_INET, socket.SOCK_STREAM) as talk:
        talk.connect((server, dns.PORT))  # for which it forks
        await pair.a.remove()
    assert not is_there(pid)
    assert not files.exists()
    assert left_behind(pair.a) == []


@pytest.mark.parametrize("first", ["serve", "remove"])
async def test_nothing_is_left_of_one_that_begins_while_the_network_goes(
    pair: Pair, first: str
) -> None:  # DNS-027
    node = pair.a

    async def begin() -> None:
        with suppress(Unavailable):  # too late
            await serve(node)

    works = (begin, node.remove) if first == "serve" else (node.remove, begin)
    for pause_ms in range(0, 40, 2):
        await node.converge()
        async with asyncio.TaskGroup() as group:
            group.create_task(works[0](), name="first")
            await asyncio.sleep(pause_ms / 1_000)
            group.create_task(works[1](), name="second")
        assert left_behind(node) == []
        assert not files_of(node).exists()


async def test_a_name_server_that_is_all_there_is_left_is_owned(pair: Pair) -> None:
    # DNS-027, NET-056
    await serve(pair.a)
    netns = pair.a.resource.netns
    pair.a.machine.unpin(netns)
    pair.a.machine.restart()
    configurator = Configurator(pair.a.machine.shell, clock=FixedClock())
    assert netns in await configurator.list_owned()
    await configurator.remove(netns)
    assert netns not in await configurator.list_owned()
    assert left_behind(pair.a) == []
    while is_controlled(netns):  # noqa: ASYNC110 - wireguard-go ends with the netns and tells nobody
        await asyncio.sleep(0.01)


async def test_what_keeps_it_from_starting_is_said(pair: Pair) -> None:
    with namespaces.open_socket(pair.a.tenant, socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((gateway(pair.a, socket.AF_INET), dns.PORT))
        with pytest.raises(Unavailable, match="Address already in use"):
            await serve(pair.a)
    assert processes(pair.a) == []
    await serve(pair.a)


async def test_where_its_files_cannot_be_written_it_is_said(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # DNS-028
    taken = tmp_path / "taken"
    taken.touch()
    monkeypatch.setattr(dns, "DIRECTORY", str(taken))
    with pytest.raises(Unavailable, match="taken"):
        await serve(pair.a)
    assert processes(pair.a) == []


async def test_without_the_program_it_is_said_what_to_install(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:  # DNS-028
    monkeypatch.setattr("overlay.netns.dnsmasq.PROGRAM", "no-such-dnsmasq")
    with pytest.raises(Unavailable) as caught:
        await serve(pair.a)
    assert caught.value.remedy == "apt-get install dnsmasq-base"
