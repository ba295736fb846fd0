"""The WireGuard keys of this node: how old they are, and what is to come."""

from __future__ import annotations

from datetime import UTC, datetime

from overlay.errors import Refused
from overlay.keys import wireguard
from overlay.reconcile.resource import ResourceLoop
from overlay.reconcile.rotating import Rotating
from zos_core.status import KeyStatus, Rotation


def read_key(rotating: Rotating, loop: ResourceLoop) -> KeyStatus:
    """The key of one network."""
    due, own = rotating.due_at(loop), loop.goals.selection.own_member
    coming = own.next_device if own is not None else None
    next_key = wireguard.wireguard_public_key(coming.device) if coming is not None else None
    return KeyStatus(
        made_at=_time(rotating.record(loop).made),
        rotates_at=_time(due) if due is not None else None,
        held_back=rotating.held_back_by(loop) or rotating.trouble(loop.network),
        next_public_key=wireguard.format_key(next_key) if next_key is not None else None,
        takes_over_at=_time(coming.at) if coming is not None else None,
    )


def begin_rotation(rotating: Rotating, loop: ResourceLoop) -> Rotation:
    """The key of one network is being replaced. Raises Refused with why it cannot be."""
    at = rotating.begin(loop)
    return Rotation(loop.network, _name(loop), _time(at))


def begin_rotations(rotating: Rotating, loops: tuple[ResourceLoop, ...]) -> tuple[Rotation, ...]:
    """All keys that can be replaced are being replaced; of the others it is said why not."""
    return tuple(_begin_if_possible(rotating, loop) for loop in loops)


def _begin_if_possible(rotating: Rotating, loop: ResourceLoop) -> Rotation:
    try:
        return begin_rotation(rotating, loop)
    except Refused as exc:
        return Rotation(loop.network, _name(loop), None, exc.message)


def _name(loop: ResourceLoop) -> str:
    return loop.document.name if loop.document is not None else ""


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
