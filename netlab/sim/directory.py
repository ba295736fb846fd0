"""The registry as nodes meet it: the newest of every document, an order, and who is told what.

After `overlay.registry.directory`, for documents that are good: signatures and admission are not
its matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from overlay.documents import trust
from overlay.documents.schema import Document, Member, Network
from overlay.documents.trust import Verified


class Record(NamedTuple):
    verified: Verified
    revision: int


Delivery = tuple[Iterable[str], Record]  # to which nodes


class HeldNetwork:
    """One network, and since which revision each member may see the others."""

    __slots__ = ("document", "insiders", "members", "oldest", "related")

    def __init__(self) -> None:
        self.document: Record | None = None
        self.members: dict[str, Record] = {}
        self.insiders: dict[str, int] = {}
        self.related: dict[
            str, None
        ] = {}  # sets of text have no order that a seed would bring back
        self.oldest: dict[str, Verified] = {}


class Directory:
    """`is_up`: whether it answers anybody."""

    def __init__(self) -> None:
        self.is_up = True
        self.revision = 0
        self._networks: dict[str, HeldNetwork] = {}
        self._of_node: dict[str, dict[str, None]] = {}

    def put(self, verified: Verified) -> list[Delivery]:
        """Take a document; what is not news, or of no member, is told to nobody."""
        network_id = network_of(verified)
        if (here := self._networks.get(network_id)) is None:
            here = self._networks[network_id] = HeldNetwork()
        record = Record(verified, self.revision + 1)
        match verified.document:
            case Network() as network if _is_newer(verified, here.document):
                told = list(self._put_network(here, record, network_id, network))
            case Member(node=node) if node in here.insiders and _is_newer(
                verified, here.members.get(node)
            ):
                here.members[node] = record
                told = [(here.insiders, record)]
            case _:
                return []
        self.revision += 1
        here.oldest.setdefault(verified.key, verified)
        return told

    def _put_network(
        self, here: HeldNetwork, record: Record, network_id: str, network: Network
    ) -> Iterator[Delivery]:
        named = [member.node for member in network.members]
        new = [node for node in named if node not in here.insiders]
        here.document = record
        here.insiders = {node: here.insiders.get(node, record.revision) for node in named}
        here.related.update(dict.fromkeys(named))
        for node in new:
            self._of_node.setdefault(node, {})[network_id] = None
        for node in here.members.keys() - here.insiders.keys():
            del here.members[node]
        yield tuple(here.related), record
        if new:
            for member in here.members.values():
                yield new, member

    def news(self, node: str, *, after: int) -> list[Record]:
        """What the node may see and has not been sent up to revision `after`, networks first."""
        return list(self._news(node, after))

    def _news(self, node: str, after: int) -> Iterator[Record]:
        for network in self._of_node.get(node, ()):
            here = self._networks[network]
            since = here.insiders.get(node, 0)
            if here.document is not None and max(here.document.revision, since) > after:
                yield here.document
            if node in here.insiders:
                for member in here.members.values():
                    if max(member.revision, since) > after:
                        yield member

    def oldest(self, network: str) -> tuple[Verified, ...]:
        """The first version of every document there was: what a replay would send."""
        found = self._networks.get(network)
        return () if found is None else tuple(found.oldest.values())


def seal(document: Document) -> Verified:
    """The document as somebody has it who checked its signatures."""
    return Verified(trust.document_key(document), document, b"%d" % document.version)


def network_of(verified: Verified) -> str:
    match verified.document:
        case Network():
            return verified.key.partition("/")[2]
        case Member(network=network):
            return network
    raise AssertionError(f"{verified.key} has no place in a simulation")


def _is_newer(verified: Verified, known: Record | None) -> bool:
    return known is None or verified.version > known.verified.version
