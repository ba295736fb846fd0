"""A tenant: whom its network names, with which index, from one version to the next."""

from __future__ import annotations

from collections.abc import Iterable

from netlab.sim import cast
from overlay.documents.exits import MAX_EXITS, Exit
from overlay.documents.schema import AccessDevice, NamedMember, Network

RANGE = "10.0.0.0/10"
MAX_INDEXES = 16_384
MAX_ACCESS = 4  # of one network


class Tenant:
    """The newest version of one network document is what follows from this."""

    def __init__(
        self, number: int, members: Iterable[int], exits: Iterable[tuple[int, int]] = ()
    ) -> None:
        self.number = number
        self.id = cast.network_id(number)
        self.indexes: dict[int, int] = {}  # node -> index
        self.access: dict[int, int] = {}  # index of an access device -> node
        self.exits: dict[int, int] = {}  # node -> order
        self._revoked: set[int] = set()
        self._version = 0
        for node in members:
            self.join(node)
        for node, order in exits:
            self.name(node, order)

    def join(self, node: int) -> bool:
        """Whether anything changed."""
        if node in self.indexes:
            return False
        self.indexes[node] = self._free_index()
        self._revoked.discard(node)
        return True

    def leave(self, node: int) -> bool:
        if self.indexes.pop(node, None) is None:
            return False
        self.withdraw(node)
        self.unname(node)
        self._revoked.add(node)
        return True

    def grant(self, node: int) -> bool:
        if node not in self.indexes or len(self.access) >= MAX_ACCESS:
            return False
        self.access[self._free_index()] = node
        return True

    def withdraw(self, node: int) -> bool:
        gone = [index for index, via in self.access.items() if via == node]
        for index in gone:
            del self.access[index]
        return bool(gone)

    def name(self, node: int, order: int) -> bool:
        """The member is an exit from now on."""
        if node not in self.indexes or self.exits.get(node) == order:
            return False
        if node not in self.exits and len(self.exits) >= MAX_EXITS:
            return False
        self.exits[node] = order
        return True

    def unname(self, node: int) -> bool:
        return self.exits.pop(node, None) is not None

    def _free_index(self) -> int:
        """The lowest: what one has left the next one gets, so that prefixes change hands."""
        taken = {*self.indexes.values(), *self.access}
        return next(index for index in range(MAX_INDEXES) if index not in taken)

    def document(self) -> Network:
        """The next version."""
        self._version += 1
        return Network(
            name=cast.network_name(self.number),
            version=self._version,
            owners=cast.owners(self.number),
            range=RANGE,
            members=tuple(
                NamedMember(f"n{node}", cast.node_id(node), index)
                for node, index in self.indexes.items()
            ),
            access=tuple(
                AccessDevice(f"a{index}", cast.access_key(index), index, cast.node_id(via))
                for index, via in self.access.items()
            ),
            exits=tuple(Exit(cast.node_id(node), order) for node, order in self.exits.items()),
            revoked=tuple(map(cast.node_id, sorted(self._revoked))),
        )
