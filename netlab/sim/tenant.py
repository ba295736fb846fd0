"""A tenant: whom its network names, with which index, from one version to the next."""

from __future__ import annotations

from collections.abc import Iterable

from netlab.sim import cast
from overlay.documents.schema import AccessDevice, NamedMember, Network

RANGE = "10.0.0.0/10"
MAX_INDEXES = 16_384
MAX_ACCESS = 4  # of one network


class Tenant:
    """The newest version of one network document is what follows from this."""

    def __init__(self, number: int, members: Iterable[int]) -> None:
        self.number = number
        self.id = cast.network_id(number)
        self.indexes: dict[int, int] = {}  # node -> index
        self.access: dict[int, int] = {}  # index of an access device -> node
        self._revoked: set[int] = set()
        self._version = 0
        for node in members:
            self.join(node)

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
            revoked=tuple(map(cast.node_id, sorted(self._revoked))),
        )
