"""A running lab: nodes in which programs run, sockets open, workloads live and links fail.

Everything is held by a keeper process and ends with it, with the owner's thread, or with the
`async with` block, whichever comes first. Nothing global is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import marshal
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path, PurePosixPath

from netlab.faults import mtu_faults
from netlab.impairment import Both
from netlab.impairments import Impaired, Impairments
from netlab.keeper import linux, rtnetlink
from netlab.keeper.cell import STATE_DIRECTORY
from netlab.owner import Owner
from netlab.process import CommandFailed, Completed, LabProcess
from netlab.topology import Router, Topology
from netlab.wiring.facts import Fact, program
from netlab.wiring.partition import heal, partition
from netlab.wiring.realize import Build, links_carried_by, plug_in, realize, routers_ruleset, unplug
from netlab.wiring.ruleset import reloaded
from netlab.wiring.wirer import wire
from netlab.wiring.wiring import Cable, End, Station, Wiring
from overlay.errors import Rejected, Unavailable

TIMEOUT_S = 30.0

_STATE = "state"


class Lab:
    """Made by `Lab.create`; usable inside its `async with` block only."""

    def __init__(self, wiring: Wiring, *, owner: Owner, workdir: Path) -> None:
        self.topology = wiring.topology
        self.workdir = workdir
        self._wiring = wiring
        self._owner = owner
        self._facts: dict[str, tuple[Fact, ...]] = {}
        self._nodes: dict[str, LabNode] = {}
        self._impairments = Impairments(owner, lab_seed=self.topology.seed)
        self._held: dict[str, tuple[int, int]] = {}
        self._reboots: Counter[str] = Counter()

    @classmethod
    @contextlib.asynccontextmanager
    async def create(cls, topology: Topology, *, workdir: Path) -> AsyncIterator[Lab]:
        """Build it, lend it, end it: no process is left when the block is.

        `workdir` keeps logs and the nodes' state directories; it must be the lab's alone.
        """
        _create_directories(workdir, topology)
        owner = Owner(log=workdir / "keeper.log")
        try:
            # The keeper's interpreter starts meanwhile.
            lab = cls(wire(topology), owner=owner, workdir=workdir)
            await lab._build()
            yield lab
        finally:
            await owner.end()

    @property
    def nodes(self) -> Mapping[str, LabNode]:
        return self._nodes

    @property
    def wiring(self) -> Wiring:
        return self._wiring

    @property
    def keeper_pid(self) -> int:
        return self._owner.keeper_pid

    def call_at_end(self, close: Callable[[], None]) -> None:
        """Call it once the keeper has ended: for sockets of the owner that keep a netns alive."""
        self._owner.call_at_end(close)

    def node(self, name: str) -> LabNode:
        if name not in self._nodes:
            raise _unknown(name, self._nodes, what="node")
        return self._nodes[name]

    @contextlib.contextmanager
    def in_netns(self, name: str) -> Iterator[None]:
        """The calling thread is in this namespace of the wiring: a node, router, LAN or core.

        Never await inside: other tasks share the thread.
        """
        netns, _ = self._held[name]
        with _inside(Path(f"/proc/{self.keeper_pid}/fd/{netns}")):
            yield

    async def add_namespace(self, node: LabNode, name: str) -> None:
        """An empty network namespace, loopback up, at /run/netns/NAME inside the node."""
        await node.add_namespace(name)

    async def set_link(self, name: str, *, up: bool, link: str | None = None) -> None:
        """Pull or plug cables of a node (all, or the one named) or of a router (its uplink).

        The node keeps its addresses and routes and sees the carrier go.
        """
        if name not in self._wiring.stations:
            raise _unknown(name, self._wiring.stations, what="node or router")
        for station in self._wiring.stations[name]:
            if link in (None, station.end.name):
                cable = self._wiring.cable(f"{name}:{station.end.name}")
                await (self._plug_in(cable) if up else self._unplug(cable, seen_from=station.end))

    async def cut(self, link: str) -> None:
        """Pull the cable of this name (see Wiring.cable)."""
        cable = self._wiring.cable(link)
        await self._unplug(cable, seen_from=cable.near)

    async def plug(self, link: str) -> None:
        """Plug it again; nothing happens when it is."""
        await self._plug_in(self._wiring.cable(link))

    async def set_mtu(self, link: str, mtu_bytes: int) -> None:
        """Both ends of a link carry packets of up to so many bytes. Raises Rejected."""
        cable = self._wiring.cable(link)
        stations = (each for each in (cable.near_station, cable.far_station) if each)
        has_ipv6 = any(station.ipv6 is not None for station in stations)
        for fault in mtu_faults(mtu_bytes, ipv6=has_ipv6, path=f"{link}.mtu_bytes"):
            raise fault
        for end in (cable.near, cable.far):
            message = rtnetlink.link_mtu(end.ifindex, mtu_bytes=mtu_bytes)
            await self._owner.request("program", end.netns, message, ())

    async def impair(self, link: str, both: Both) -> None:
        """From now on the link does this to its packets, and nothing else (see Impairments)."""
        await self._impairments.apply([(self._wiring.cable(link), both)])

    async def impaired(self, link: str) -> Impaired:
        """What a link does to its packets, who carries that out, how exactly, and the counts."""
        return await self._impairments.read(self._wiring.cable(link))

    @contextlib.asynccontextmanager
    async def cut_off(self, *names: str) -> AsyncIterator[None]:
        """Nodes or routers without their cables for the length of the block."""
        try:
            for name in names:
                await self.set_link(name, up=False)
            yield
        finally:
            for name in names:
                await self.set_link(name, up=True)

    async def partition(self, *parts: Sequence[str]) -> None:
        """Nodes of different parts hear nothing of each other, in place of an earlier partition.

        A router, LAN or region stands for the nodes behind it. Meanwhile DSCP is the lab's.
        """
        await self._load(partition(self._wiring, parts))

    async def heal(self) -> None:
        """There is no partition."""
        await self._load(heal(self._wiring))

    async def _load(self, rulesets: Mapping[str, str]) -> None:
        for netns, ruleset in rulesets.items():
            await self._owner.request("filter", netns, ruleset, False)

    async def reboot_nat(self, name: str) -> None:
        """A router forgets all connections and translations, and draws its ports anew."""
        router = self.router(name)
        self._reboots[name] += 1
        ruleset = reloaded(routers_ruleset(self._wiring, router, boot=self._reboots[name]))
        await self._owner.request("filter", name, ruleset, True)

    def router(self, name: str) -> Router:
        """Raises Rejected, naming the nearest one."""
        routers = {router.name: router for router in self.topology.routers}
        if name not in routers:
            raise _unknown(name, routers, what="router")
        return routers[name]

    async def _plug_in(self, cable: Cable) -> None:
        links = links_carried_by(cable, self._wiring)
        *first, last = plug_in(cable, self._facts)
        for netns, messages in first:
            await self._owner.request("program", netns, messages, ())
        await self._owner.request("program", *last, links)

    async def _unplug(self, cable: Cable, *, seen_from: End) -> None:
        await self._owner.request("program", *unplug(cable, seen_from=seen_from), ())

    async def _build(self) -> None:
        build = realize(self._wiring)
        self._facts = {each.name: each.facts for each in build.namespaces}
        with _anonymous_file(_pack(build, workdir=self.workdir)) as fd:
            self._held = await self._owner.request("build", fds=(fd,))
        for node in self.topology.nodes:
            netns, root = self._held[node.name]
            self._nodes[node.name] = LabNode(
                node.name,
                stations=self._wiring.stations[node.name],
                owner=self._owner,
                directory=self.workdir / node.name,
                netns=netns,
                root=root,
            )
        await self._impairments.apply(
            [(cable, cable.impaired) for cable in self._wiring.cables if cable.impaired]
        )


class LabNode:
    """A machine of its own as far as network, host name, /run, /etc and /var/lib go."""

    def __init__(
        self,
        name: str,
        *,
        stations: tuple[Station, ...],
        owner: Owner,
        directory: Path,
        netns: int,
        root: int,
    ) -> None:
        self.name = name
        self.directory = directory
        self._stations = stations
        self._owner = owner
        self._root = root
        self._netns = {"": netns}

    @property
    def ipv4(self) -> str | None:
        """The underlay address of the first link that has one."""
        return next((str(each.ipv4) for each in self._stations if each.ipv4), None)

    @property
    def ipv6(self) -> str | None:
        return next((str(each.ipv6) for each in self._stations if each.ipv6), None)

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, ...]:
        """Of all links, in order; link-local ones aside."""
        found = (each for station in self._stations for each in (station.ipv4, station.ipv6))
        return tuple(address for address in found if address is not None)

    @property
    def netns_path(self) -> Path:
        return self._held(self._netns[""])

    def workload_netns_path(self, name: str) -> Path:
        """Where the owner finds a workload's namespace; the node has it in /run/netns."""
        return self._held(self._netns[name])

    def path(self, inside: str | PurePosixPath) -> Path:
        """Where the owner finds a file of the node.

        Links with absolute targets lead out of the node: write /run, not /var/run.
        """
        inside = PurePosixPath(inside)
        if inside.is_relative_to(STATE_DIRECTORY):
            return self.directory / _STATE / inside.relative_to(STATE_DIRECTORY)
        return self._held(self._root) / inside.relative_to("/")

    async def run(
        self,
        *argv: str,
        timeout_s: float = TIMEOUT_S,
        input: bytes | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        netns: str = "",
        check: bool = True,
    ) -> Completed:
        """Run a program to its end. `env` is added to the owner's environment.

        Raises CommandFailed when `check` is set and it fails, Unavailable when it does not start or
        not end in time. It is killed when it is late and when the caller is cancelled.
        """
        with (
            _anonymous_file(input or b"") as stdin,
            _anonymous_file() as stdout,
            _anonymous_file() as stderr,
        ):
            stdio = (stdin, stdout, stderr)
            process = await self.start(*argv, stdio=stdio, env=env, cwd=cwd, netns=netns)
            returncode = await self._end_of(process, timeout_s=timeout_s)
            completed = Completed(argv, returncode, _read_all(stdout), _read_all(stderr))
        if check and returncode != 0:
            raise CommandFailed(self.name, completed)
        return completed

    async def spawn(
        self,
        *argv: str,
        log: str,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        netns: str = "",
    ) -> LabProcess:
        """Start a program and leave it running, its output appended to LOG.log of the node."""
        path = self.directory / f"{log}.log"
        with _anonymous_file() as nothing, _opened_log(path) as out:
            stdio = (nothing, out, out)
            return await self.start(*argv, stdio=stdio, env=env, cwd=cwd, netns=netns, log=path)

    @contextlib.contextmanager
    def in_netns(self, netns: str = "") -> Iterator[None]:
        """The calling thread is in the node's (or a workload's) network namespace.

        For sockets, which stay there. Never await inside: other tasks share the thread.
        """
        with _inside(self._held(self._netns[netns])):
            yield

    async def add_namespace(self, name: str) -> None:
        """An empty network namespace, loopback up, at /run/netns/NAME inside the node."""
        if name != PurePosixPath(name).name:
            raise Rejected(f"{name!r} is no file name")
        self._netns[name] = await self._owner.request("workload", self.name, name)

    async def start(
        self,
        *argv: str,
        stdio: tuple[int, int, int],
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        netns: str = "",
        terminal: bool = False,
        log: Path | None = None,
    ) -> LabProcess:
        """Start a program on these descriptors, which stay the caller's, and leave it running.

        With `terminal` the first one is a terminal that nobody controls yet; the program does then.
        """
        environment = {**os.environ, **(env or {})}
        pid, pidfd = await self._owner.request_fd(
            "spawn", self.name, netns, argv, environment, cwd, terminal, fds=stdio
        )
        return LabProcess(self._owner, argv=argv, pid=pid, pidfd=pidfd, log=log)

    async def _end_of(self, process: LabProcess, *, timeout_s: float) -> int:
        try:
            async with asyncio.timeout(timeout_s):
                return await process.wait()
        except TimeoutError as exc:
            raise Unavailable(f"{self.name}: {process.argv[0]}: no end in {timeout_s} s") from exc
        finally:
            process.kill()

    def _held(self, fd: int) -> Path:
        """By way of the keeper, so that the owner never holds what must die with the keeper."""
        return Path(f"/proc/{self._owner.keeper_pid}/fd/{fd}")


def _unknown(name: str, known: Iterable[str], *, what: str) -> Rejected:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    remedy = f"did you mean {nearest[0]!r}?" if nearest else "this lab has none"
    return Rejected(f"there is no {what} {name!r}", field=what, remedy=remedy)


def _create_directories(workdir: Path, topology: Topology) -> None:
    workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    for node in topology.nodes:
        (workdir / node.name / _STATE).mkdir(mode=0o700, parents=True, exist_ok=True)


def _pack(build: Build, *, workdir: Path) -> bytes:
    """The form in which the keeper takes it (see keeper.Keeper)."""
    namespaces = []
    for each in build.namespaces:
        furniture = None
        if each.files is not None:
            furniture = (each.name, each.files, str((workdir / each.name / _STATE).resolve()))
        namespaces.append((each.name, program(each.facts), each.sysctls, each.ruleset, furniture))
    cables: dict[str, list[tuple[str, dict[str, str | int | bytes]]]] = {}
    for cable in build.cables:
        ends: dict[str, str | int | bytes] = {
            "name": cable.far.name,
            "ifindex": cable.far.ifindex,
            "mac": cable.far.mac,
            "peer_name": cable.near.name,
            "peer_ifindex": cable.near.ifindex,
            "peer_mac": cable.near.mac,
            "mtu_bytes": cable.mtu_bytes,
        }
        cables.setdefault(cable.far.netns, []).append((cable.near.netns, ends))
    return marshal.dumps((namespaces, cables, build.links, build.addresses))


@contextlib.contextmanager
def _inside(netns: Path) -> Iterator[None]:
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
        try:
            linux.setns(there, linux.CLONE_NEWNET)
        finally:
            os.close(there)
        try:
            yield
        finally:
            linux.setns(own, linux.CLONE_NEWNET)
    finally:
        os.close(own)


@contextlib.contextmanager
def _anonymous_file(content: bytes = b"") -> Iterator[int]:
    """A file in memory: a program's output is there when it ends, with no reader in between."""
    fd = os.memfd_create("netlab", os.MFD_CLOEXEC)
    try:
        with open(fd, "r+b", closefd=False) as file:
            file.write(content)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def _opened_log(path: Path) -> Iterator[int]:
    with path.open("ab") as log:
        yield log.fileno()


def _read_all(fd: int) -> bytes:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        return file.read()
