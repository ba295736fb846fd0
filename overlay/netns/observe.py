"""Read the actual state of one tenant netns, always from the kernel, never from memory."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from overlay.errors import Unavailable
from overlay.netns.attach import read_attachment
from overlay.netns.codec import Snapshot, foreign_links, owned_links, owned_routes, owned_rules
from overlay.netns.ports import Shell
from overlay.netns.state import (
    BIRTH_PREFIXES,
    DRAIN_LINK,
    WG_LINK,
    Attachment,
    Firewall,
    Resource,
    absent_resource,
    birth_link,
)
from overlay.netns.waiting import in_thread
from overlay.ports import DeviceRef


class Observation(msgspec.Struct, frozen=True):
    """The actual state, and the ports of workloads that cannot be joined."""

    actual: Resource
    unreachable: frozenset[str] = frozenset()


async def observe(
    name: str,
    shell: Shell,
    *,
    sysctls: Iterable[str] = (),
    attachments: Iterable[Attachment] = (),
) -> Observation:
    """What is in the tenant netns `name`: of sysctls and workloads, those that are asked for."""
    births = (birth_link(name, link) for link in BIRTH_PREFIXES)
    newborn = frozenset(birth for birth in births if shell.kernel.has_link(None, birth))
    path = shell.pins.path(name)
    if path is None:
        return Observation(msgspec.structs.replace(absent_resource(name), newborn=newborn))
    snapshot = await shell.kernel.read(path)
    links = owned_links(snapshot)
    found, unreachable = await _read_attachments(shell, attachments, snapshot)
    device, drain = [
        await shell.wireguard.read(device_ref(name, path, link)) if link in links else None
        for link in (WG_LINK, DRAIN_LINK)
    ]
    actual = Resource(
        netns=name,
        present=shell.pins.is_pinned(name),
        newborn=newborn,
        device=device,
        drain=drain,
        links=links,
        routes=owned_routes(snapshot),
        rules=owned_rules(snapshot),
        sysctls=shell.kernel.read_sysctls(path, sysctls),
        firewall=await _read_firewall(shell, path),
        attachments=found,
        foreign=foreign_links(snapshot),
    )
    return Observation(actual, unreachable)


def device_ref(name: str, path: str | None, link: str = WG_LINK) -> DeviceRef:
    """Where a WireGuard device of a tenant netns is; with no path, still where it was born."""
    return DeviceRef(birth_name=birth_link(name, link), netns=path, link=link)


async def _read_attachments(
    shell: Shell, attachments: Iterable[Attachment], tenant: Snapshot
) -> tuple[dict[str, Attachment], frozenset[str]]:
    found, unreachable = {}, set()
    for attachment in attachments:
        try:
            joined = await read_attachment(shell.kernel, attachment, tenant=tenant)
        except Unavailable:
            unreachable.add(attachment.port)
            continue
        if joined is not None:
            found[attachment.port] = joined
    return found, frozenset(unreachable)


async def _read_firewall(shell: Shell, path: str) -> Firewall | None:
    listing = await in_thread(shell.packet_filter.listing, path)
    return None if listing is None else Firewall(listing)
