"""By which nodes the tenant wants a network to be left, and which of them are ready."""

from __future__ import annotations

from collections.abc import Iterator

from overlay.documents.exits import Exit, ExitOffer
from overlay.documents.schema import Member
from overlay.peers.selection import Selection


def is_named_exit(selection: Selection) -> bool:
    """The tenant names this node as a way to the internet for all members."""
    return any(each.node == selection.own for each in _named_exits(selection))


def is_exit(selection: Selection) -> bool:
    """The tenant wants this node as a way to the internet, for all or for what is on it."""
    return is_named_exit(selection) or _is_local_exit(selection)


def leaves_by(selection: Selection, offer: ExitOffer | None) -> bool:
    """Whether the network is left here: operator and tenant have to mean the same."""
    if offer is not None and offer.local:
        return _is_local_exit(selection)
    return offer is not None and is_exit(selection)


def has_exits(selection: Selection) -> bool:
    """The tenant wants ways to the internet."""
    return bool(_named_exits(selection)) or _has_local_exits(selection)


def ready_exits(selection: Selection) -> Iterator[tuple[Member, int]]:
    """Peers that the tenant names as exits and that are ready to be one, with their orders."""
    for each in _named_exits(selection):
        member = selection.members.get(each.node)
        if member is not None and member.exit is not None and selection.peer_of(each.node):
            yield member, each.order


def _named_exits(selection: Selection) -> tuple[Exit, ...]:
    roster = selection.roster
    return () if roster is None or roster.network.deleted else roster.network.exits


def _has_local_exits(selection: Selection) -> bool:
    roster = selection.roster
    return roster is not None and roster.network.local_exits and not roster.network.deleted


def _is_local_exit(selection: Selection) -> bool:
    return _has_local_exits(selection) and selection.own_index is not None
