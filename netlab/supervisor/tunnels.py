"""What the zos nodes of a lab say of themselves: told by them at every change, not asked in turns.

Each node is asked on its own socket, as its own command line would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from netlab.fleet import node_socket
from netlab.lab_node import LabNode
from netlab.supervisor.crew import Tell
from netlab.supervisor.status import ZosHealth, ZosNetwork, ZosPeer, ZosStatus, ZosWorkload
from overlay.errors import OverlayError
from zos_core import status as zos

RETRY_S = 1.0
# Longer than a node lets anybody wait for a change.
CHANGE_WITHIN_S = 40.0
ANSWER_WITHIN_S = 5.0

SILENT = ZosStatus("silent")


class ZosView:
    """The latest word of every zos node. Run `follow` for each of them."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._latest: dict[str, ZosStatus] = {}

    @property
    def latest(self) -> Mapping[str, ZosStatus]:
        """As of each node's last change; its byte counters may be half a minute old."""
        return self._latest

    async def follow(self, node: LabNode) -> None:
        """Until cancelled. A node that does not answer, or not yet, is silent."""
        while True:
            try:
                await self._listen(node)
            except OverlayError:
                self._note(node.name, SILENT)
            await asyncio.sleep(RETRY_S)

    async def refresh(self, nodes: Iterable[LabNode]) -> None:
        """Ask all of them now; each that answers within seconds is current afterwards."""
        async with asyncio.TaskGroup() as tasks:
            for node in nodes:
                tasks.create_task(self._ask_once(node), name=f"status of {node.name}")

    async def _ask_once(self, node: LabNode) -> None:
        try:
            self._note(node.name, shorten(await _ask(node, "/v1/status")))
        except OverlayError:
            self._note(node.name, SILENT)

    async def _listen(self, node: LabNode) -> None:
        answer = await _ask(node, "/v1/status")
        while True:
            self._note(node.name, shorten(answer))
            generation = str(answer.generation)
            answer = await node_socket.ask(
                node, "/v1/wait", zos.Status, timeout_s=CHANGE_WITHIN_S, generation=generation
            )

    def _note(self, name: str, latest: ZosStatus) -> None:
        before = self._latest.get(name, SILENT)
        self._latest[name] = latest
        for kind, text in changes(before, latest):
            self._tell(kind, name, text)


def changes(before: ZosStatus, latest: ZosStatus) -> Iterator[tuple[str, str]]:
    """What a person would call news between two words of one node: kind of event, sentence."""
    if before.state != latest.state:
        yield "program", "zos answers" if latest.state == "running" else "zos is silent"
    known = {network.id: network for network in before.networks}
    for network in latest.networks:
        earlier = known.get(network.id)
        if earlier is None or earlier.state != network.state:
            because = f": {network.message}" if network.message else ""
            yield "tunnel", f"{network.name} is {network.state}{because}"
        peers = {peer.name: peer for peer in earlier.peers} if earlier is not None else {}
        for peer in network.peers:
            if _way(peers.get(peer.name)) != _way(peer):
                yield "tunnel", f"{network.name}: {peer.name} {_words(peer)}"
        if earlier is not None and earlier.exit != network.exit:
            yield "tunnel", f"{network.name}: {_leaves(network)}"
    told = {(item.code, item.text) for item in before.health}
    for item in latest.health:
        if (item.code, item.text) not in told:
            yield "health", f"{item.severity}: {item.text}"


def _way(peer: ZosPeer | None) -> tuple[str, str, str | None] | None:
    return None if peer is None else (peer.state, peer.path, peer.endpoint)


def _words(peer: ZosPeer) -> str:
    at = f" at {peer.endpoint}" if peer.endpoint else ""
    by = f" {peer.relay}" if peer.relay else ""
    return f"is {peer.state}, path {peer.path}{by}{at}"


def _leaves(network: ZosNetwork) -> str:
    return f"it is left by {network.exit}" if network.exit else "nothing leaves"


def shorten(status: zos.Status) -> ZosStatus:
    return ZosStatus(
        state="running",
        id=status.node.id,
        registry=status.registry.state,
        back_end=status.node.backend,
        networks=tuple(_network(network) for network in status.networks),
        health=tuple(
            ZosHealth(item.code, item.severity, item.text, item.remedy) for item in status.health
        ),
    )


def _network(network: zos.NetworkStatus) -> ZosNetwork:
    return ZosNetwork(
        id=network.id,
        name=network.name,
        state=network.state,
        message=network.message,
        gateway_ipv4=network.gateway_v4,
        gateway_ipv6=network.gateway_v6,
        peers=tuple(
            ZosPeer(
                name=peer.name,
                state=peer.state,
                path=peer.path,
                endpoint=peer.endpoint,
                handshake_age_s=peer.handshake_age_s,
                rx_bytes=peer.rx_bytes,
                tx_bytes=peer.tx_bytes,
                relay=peer.relay or "",
            )
            for peer in network.peers
        ),
        workloads=tuple(
            ZosWorkload(
                name=each.name,
                netns=each.netns,
                ipv4=each.address_v4.partition("/")[0],
                ipv6=each.address_v6.partition("/")[0],
            )
            for each in network.attachments
        ),
        exit=network.way_out.exit or "" if network.way_out is not None else "",
        failed_exits=network.way_out.failed if network.way_out is not None else (),
    )


async def _ask(node: LabNode, path: str) -> zos.Status:
    return await node_socket.ask(node, path, zos.Status, timeout_s=ANSWER_WITHIN_S)
