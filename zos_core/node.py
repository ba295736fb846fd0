"""Composition root of a node: keys, disk, kernel, registry and socket become one process."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from overlay.documents import schema, trust
from overlay.documents.schema import Capacity, Network
from overlay.errors import Refused, Rejected, Unavailable
from overlay.exitnode.converge import EgressConfigurator
from overlay.keys import store
from overlay.keys.identity import Identity, Kind
from overlay.model import FarmId, NetworkId
from overlay.netns import backend, converge, dnsmasq, kernel, nft, pins, watch
from overlay.netns.backend import Choice
from overlay.netns.ports import Shell
from overlay.peers.cache import Cache, open_cache
from overlay.peers.registry import RegistryClient, RegistryRef
from overlay.ports import Clock
from overlay.reconcile import joining, preview, workloads
from overlay.reconcile.node import NodeLoop
from overlay.reconcile.resource import ResourceLoop
from overlay.reconcile.settings import NodeSettings
from zos_core import collector, sdnotify
from zos_core import config as configuration
from zos_core.clock import SystemClock
from zos_core.config import NodeConfig
from zos_core.local_api import listening, wait_at_most
from zos_core.report.facts import Facts
from zos_core.report.keys import begin_rotation, begin_rotations
from zos_core.report.names import resolv_conf
from zos_core.report.networks import attachment_status
from zos_core.report.status import read_status
from zos_core.report.why import planned, read_why
from zos_core.socket_http import NotFound
from zos_core.status import (
    SCHEMA,
    AttachAnswer,
    AttachRequest,
    DetachRequest,
    Done,
    JoinAnswer,
    Plan,
    RotateAnswer,
    RotateRequest,
    Status,
    WhyInputs,
)
from zos_core.token import parse_token

if TYPE_CHECKING:
    from overlay.keys.identity import Signer

log = logging.getLogger(__name__)

LOCK_FILE = "lock"
DATABASE_FILE = "node.db"
KEY_DIRECTORY = "keys"
NODE_KEY_FILE = "node.key"
REGISTRY_SETTING = "registry"
STATUS_EVERY_S = 10.0


def run_node(config: NodeConfig) -> None:
    """Serve until SIGTERM or SIGINT. The overlay keeps running afterwards.

    Raises Refused when another node holds the state directory, Rejected when something on disk is
    damaged, Unavailable when this machine has no WireGuard.
    """
    os.umask(0o077)
    # pyroute2 logs whole netlink messages at DEBUG, and those that set up a device hold its key.
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    with _alone(Path(config.state)):
        asyncio.run(_serve(config))


def clean_node(config: NodeConfig) -> tuple[str, ...]:
    """Nothing of this node's networks is left in the kernel; the tenant netns that were there.

    Keys and documents stay, so that the next start builds everything anew. Raises Refused while a
    node runs.
    """
    with _alone(Path(config.state)):
        Path(config.socket).unlink(missing_ok=True)  # of a process that was killed
        return asyncio.run(_clean(config))


async def _clean(config: NodeConfig) -> tuple[str, ...]:
    async with AsyncExitStack() as stack:
        shell = await _open_shell(stack, await backend.choose(_backend_environment(config)))
        configurator = converge.Configurator(shell, clock=SystemClock())
        await EgressConfigurator(shell).converge(None)
        owned = await configurator.list_owned()
        for netns in owned:
            await configurator.remove(netns)
    return owned


async def _serve(config: NodeConfig) -> None:
    async with open_node(config, clock=SystemClock()) as node:
        await _until_stopped(node, config)
    sdnotify.notify("STOPPING=1")
    log.info("node stopped; its networks keep running")


async def _until_stopped(node: RunningNode, config: NodeConfig) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(node.loop.run(), name="networks"),
            group.create_task(sdnotify.keep_alive(), name="watchdog"),
            group.create_task(collector.look_through(), name="collector"),
            group.create_task(_tell_systemd(node), name="systemd status"),
        ]
        async with listening(node, Path(config.socket)):
            sdnotify.notify("READY=1")
            log.info("node runs", extra={"node": node.loop.id, "socket": config.socket})
            await stopped.wait()
        for task in tasks:
            task.cancel()


async def _tell_systemd(node: RunningNode) -> None:
    while True:
        up = sum(loop.passes.is_settled for loop in node.loop.loops.values())
        registry = node.loop.following.feed.connection.state
        sdnotify.notify(f"STATUS=networks: {up} of {len(node.loop.loops)} up; registry {registry}")
        await asyncio.sleep(STATUS_EVERY_S)


@asynccontextmanager
async def open_node(config: NodeConfig, *, clock: Clock) -> AsyncIterator[RunningNode]:
    """A node with all that it knows from disk; it does nothing before its loop runs."""
    directory = Path(config.state)
    identity = store.load_or_create(directory / KEY_DIRECTORY / NODE_KEY_FILE, Kind.NODE)
    async with AsyncExitStack() as stack:
        cache = stack.enter_context(open_cache(directory / DATABASE_FILE))
        choice = await backend.choose(_backend_environment(config))
        log.info("WireGuard chosen", extra={"reason": choice.reason})
        shell = await _open_shell(stack, choice)
        loop = NodeLoop(
            identity,
            _settings(config, directory),
            keys=directory / KEY_DIRECTORY,
            cache=cache,
            configurator=converge.Configurator(shell, clock=clock),
            shell=shell,
            clock=clock,
            random=random.random,
            notices=watch.Watch(shell.pins),
            link_notices=watch.watching_links,
        )
        registry = config.registry or cache.setting(REGISTRY_SETTING)
        facts = Facts(
            started_at=clock.now(),
            backend_reason=choice.reason,
            backend_remedy=choice.remedy,
            state_directory=config.state,
            registry=registry,
        )
        node = RunningNode(loop, facts, identity=identity, cache=cache, clock=clock)
        if registry is not None:
            ref = RegistryRef.parse(registry, field="registry")
            node.connect(await stack.enter_async_context(RegistryClient(ref, identity, clock)))
        stack.push_async_callback(node.close)
        await loop.load()
        yield node


async def _open_shell(stack: AsyncExitStack, choice: Choice) -> Shell:
    stack.callback(choice.wireguard.close)
    tenants = stack.enter_context(pins.TenantPins())
    name_servers = dnsmasq.Dnsmasq(tenants)
    stack.callback(name_servers.close)
    return Shell(
        kernel=await stack.enter_async_context(kernel.Rtnetlink()),
        wireguard=choice.wireguard,
        packet_filter=nft.Nftables(),
        pins=tenants,
        name_servers=name_servers,
    )


class RunningNode:
    """Answers what the local socket asks."""

    def __init__(
        self, loop: NodeLoop, facts: Facts, *, identity: Identity, cache: Cache, clock: Clock
    ) -> None:
        self.loop = loop
        self._facts = facts
        self._identity = identity
        self._cache = cache
        self._clock = clock
        self._own_client: RegistryClient | None = None  # of a registry that a token named

    def connect(self, client: RegistryClient) -> None:
        self.loop.following.connect(client)

    async def close(self) -> None:
        if self._own_client is not None:
            await self._own_client.__aexit__(None, None, None)

    async def status(self) -> Status:
        return await read_status(self.loop, self._facts)

    async def wait(self, generation: int) -> Status:
        await wait_at_most(self.loop.wait_change(generation))
        return await self.status()

    async def why(self, network: str) -> WhyInputs:
        return await read_why(self.loop, self._network(network), self._facts)

    async def plan(self) -> Plan:
        changes = [
            change
            for loop in tuple(self.loop.loops.values())
            for change in planned(loop.network, await loop.plan(), reason="drift")
        ]
        return Plan(SCHEMA, tuple(changes))

    async def plan_document(self, document: bytes) -> Plan:
        network = schema.parse_document(document, schema.payload_type("network"))
        if not isinstance(network, Network):
            raise Rejected("is no network document", field="document")
        id_ = NetworkId(trust.network_id(network.owners, network.name))
        changes = await preview.plan_network(self.loop, id_, network)
        reason = f"version {network.version} of {network.name}"
        return Plan(SCHEMA, planned(id_, changes, reason=reason))

    async def join(self, token: str) -> JoinAnswer:
        parsed = parse_token(token)
        ref = RegistryRef.parse(parsed.registry, field="token")
        await self._use_registry(ref)
        joined = await joining.join(
            self.loop, ref, parsed.network, parsed.invitation, make_client=self._make_client
        )
        loop = self.loop.loops[joined.network]
        nr = loop.network_resource
        if nr is None:
            raise Unavailable("joined, and removed at once; zos status says why")
        return JoinAnswer(
            SCHEMA, nr.network, nr.name, nr.index, nr.subnet_v4, nr.subnet_v6, joined.already
        )

    async def attach(self, request: AttachRequest) -> AttachAnswer:
        loop = self._network(request.network)
        attachment = await workloads.attach(
            loop, self._cache, name=request.name, netns=request.netns, link=request.link
        )
        return AttachAnswer(
            SCHEMA, loop.network, attachment_status(attachment), resolv_conf(loop, attachment)
        )

    async def detach(self, request: DetachRequest) -> Done:
        await workloads.detach(self._network(request.network), self._cache, name=request.name)
        return Done(SCHEMA)

    async def rotate(self, request: RotateRequest) -> RotateAnswer:
        rotating = self.loop.rotating
        if request.network is None:
            return RotateAnswer(SCHEMA, begin_rotations(rotating, tuple(self.loop.loops.values())))
        chosen = self._network(request.network)
        return RotateAnswer(SCHEMA, (begin_rotation(rotating, chosen),))

    def _network(self, text: str) -> ResourceLoop:
        """By id, else by name. Raises NotFound, or Rejected when a name means several."""
        by_id = [loop for loop in self.loop.loops.values() if text == loop.network]
        found = by_id or [
            loop
            for loop in self.loop.loops.values()
            if loop.document is not None and text == loop.document.name
        ]
        if not found:
            names = sorted(d.name for loop in self.loop.loops.values() if (d := loop.document))
            raise NotFound(
                f"this node has no network {text[:80]!r}",
                field="network",
                remedy=f"networks here: {', '.join(names) or 'none'}",
            )
        if len(found) > 1:
            ids = ", ".join(sorted(loop.network for loop in found))
            raise Rejected(f"{text!r} is {ids}", field="network", remedy="give the id")
        return found[0]

    async def _use_registry(self, ref: RegistryRef) -> None:
        """A node without a registry takes the token's. Raises Refused when it has another."""
        known = self.loop.following.client
        if known is None:
            self._cache.set_setting(REGISTRY_SETTING, str(ref))
            self._own_client = await self._make_client(ref, self._identity).__aenter__()
            self.connect(self._own_client)
        elif known.ref != ref:
            raise Refused(
                f"this node uses {known.ref}, the token is for {ref}",
                field="token",
                remedy="use a node that has no registry, or one at the same registry",
            )

    def _make_client(self, ref: RegistryRef, signer: Signer) -> RegistryClient:
        return RegistryClient(ref, signer, self._clock)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """No other node uses this state directory as long as the block runs. Raises Refused."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise Unavailable(f"{directory}: {exc.strerror}", remedy="run as root") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Refused(
            f"another node runs on {directory}", remedy="stop it: sudo systemctl stop zos-node"
        ) from None
    finally:
        os.close(lock)


def _settings(config: NodeConfig, directory: Path) -> NodeSettings:
    ports = configuration.parse_ports(config.listen_ports)
    return NodeSettings(
        name=configuration.own_name(config),
        software=_software(),
        capacity=_capacity(directory),
        farm=FarmId(config.farm) if config.farm is not None else None,
        endpoints=configuration.parse_endpoints(config),
        first_port=ports.first,
        last_port=ports.last,
        mtu_bytes=config.mtu,
        rotation=configuration.pace(config),
    )


def _software() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return f"zos {version('zos')}"
    except PackageNotFoundError:
        return "zos"


def _capacity(directory: Path) -> Capacity:
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    disk = os.statvfs(directory)
    return Capacity(
        cpus=os.cpu_count() or 1,
        memory_bytes=max(0, pages * page),
        disk_bytes=disk.f_blocks * disk.f_frsize,
    )


def _backend_environment(config: NodeConfig) -> dict[str, str]:
    """What the configuration says about WireGuard, in the place where settings are read."""
    environ = dict(os.environ)
    if config.wireguard.backend != "auto":
        environ[backend.BACKEND_SETTING] = config.wireguard.backend
    if config.wireguard.binary is not None:
        environ[backend.BINARY_SETTING] = config.wireguard.binary
    return environ
