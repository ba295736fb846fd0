"""Workloads join and leave network resources; which address they have is kept on disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from overlay.addressing import FIRST_WORKLOAD_HOST, LAST_WORKLOAD_HOST
from overlay.documents import fields
from overlay.errors import Conflict, Refused, Rejected, Unavailable
from overlay.netns import namespaces
from overlay.netns.state import NETNS_PREFIX, Attachment
from overlay.peers.cache import Cache, StoredAttachment, lowest_free
from overlay.reconcile.resource import ResourceLoop

ATTACH_DEADLINE_S = 15.0
MAX_PATH_CHARS = 4_096
MAX_LINK_CHARS = 15  # IFNAMSIZ - 1
OF_A_PROCESS = "/proc/"  # a netns that is named by its process ends with it


async def attach(
    loop: ResourceLoop, cache: Cache, *, name: str, netns: str, link: str
) -> Attachment:
    """The workload's netns has a link into the network. Idempotent; its addresses stay.

    Raises Conflict when the name is taken by another netns, Unavailable when that is gone or has
    another link of this name.
    """
    _check(name, netns, link)
    _refuse_own(netns)
    if not loop.is_wanted:
        raise Refused(
            "this node does not act on the network",
            field="network",
            remedy=loop.gate.remedy or "zos status says why",
        )
    stored = _place(loop, name=name, netns=netns, link=link)
    cache.put_attachment(stored)
    await _apply(loop, cache)
    nr = loop.network_resource
    found = [] if nr is None else [w for w in loop.workloads(nr) if w.name == name]
    if not found or found[0].port in loop.passes.unreachable:
        cache.drop_attachment(loop.network, name)
        await _apply(loop, cache)
        raise Unavailable(
            f"{netns} is no network namespace, or has another link {link}",
            field="netns",
            remedy="give a path as in /run/netns; --link NAME calls the link otherwise",
        )
    return found[0]


async def detach(loop: ResourceLoop, cache: Cache, *, name: str) -> None:
    """The workload is cut off and its address free. Raises Rejected when there is none."""
    if all(stored.name != name for stored in loop.attachments):
        raise Rejected(f"there is no workload {name[:80]!r}", field="name")
    cache.drop_attachment(loop.network, name)
    await _apply(loop, cache)


def drop_ended(loop: ResourceLoop, cache: Cache) -> None:
    """Workloads whose process has ended are detached: nobody is left who could do it."""
    if not loop.passes.unreachable:
        return
    nr = loop.network_resource
    ended = [
        workload.name
        for workload in (loop.workloads(nr) if nr is not None else ())
        if workload.port in loop.passes.unreachable and workload.netns.startswith(OF_A_PROCESS)
    ]
    for name in ended:
        cache.drop_attachment(loop.network, name)
    if ended:
        loop.attachments = cache.attachments(loop.network)
        loop.changed()


def _check(name: str, netns: str, link: str) -> None:
    if not fields.is_label(name):
        raise Rejected(
            f"{name[:80]!r} is no name", field="name", remedy="use a-z, 0-9 and - inside"
        )
    if not netns.startswith("/") or len(netns) > MAX_PATH_CHARS or "\0" in netns:
        raise Rejected("a netns is given by its absolute path", field="netns")
    if not 1 <= len(link) <= MAX_LINK_CHARS or not link.isascii() or not link.isprintable():
        raise Rejected(f"{link[:40]!r} is no link name", field="link")
    if set(link) & set("/: \t") or link in (".", "..", "lo"):
        raise Rejected(f"{link!r} is no link name", field="link")


def _refuse_own(netns: str) -> None:
    """A tenant is never let into the underlay, nor into a tenant netns past its firewall."""
    tenants = (name for name in namespaces.list_pinned() if name.startswith(NETNS_PREFIX))
    for own in ("/proc/self/ns/net", *map(namespaces.pin_path, tenants)):
        try:
            is_same = Path(netns).samefile(own)
        except OSError:  # it is gone, which attaching will find out
            continue
        if is_same:
            raise Rejected(
                f"{netns} belongs to the node itself",
                field="netns",
                remedy="make one for the workload: ip netns add NAME",
            )


def _place(loop: ResourceLoop, *, name: str, netns: str, link: str) -> StoredAttachment:
    known = next((stored for stored in loop.attachments if stored.name == name), None)
    if known is not None:
        if (known.netns, known.link) != (netns, link):
            raise Conflict(
                f"{name} is {known.link} in {known.netns}",
                field="name",
                remedy=f"zos detach NET {name}, or use another name",
            )
        return known
    host = lowest_free(
        (stored.host for stored in loop.attachments),
        first=FIRST_WORKLOAD_HOST,
        last=LAST_WORKLOAD_HOST,
    )
    if host is None:
        raise Refused("all addresses of this node's subnet are in use", field="network")
    return StoredAttachment(loop.network, name, netns, link, host)


async def _apply(loop: ResourceLoop, cache: Cache) -> None:
    loop.attachments = cache.attachments(loop.network)
    loop.changed()
    try:
        async with asyncio.timeout(ATTACH_DEADLINE_S):
            await loop.wait_settled()
    except TimeoutError as exc:
        raise Unavailable("the network resource does not converge; zos status says why") from exc
