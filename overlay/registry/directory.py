"""Everything the registry holds, in memory, and who may see what of it. Pure: no IO, no clock.

The directory follows the store: `load` takes what is there, `apply` takes one revision and answers
who has to be told what. The work of a change is that of telling those who may see it, and a caller
who resumes is asked for nothing that did not change (specs REG-030 .. REG-039).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from datetime import datetime

import msgspec

from overlay.documents import schema
from overlay.documents.relays import Sighting
from overlay.documents.schema import Farm, Member, Network, Node, Result
from overlay.documents.trust import Roster
from overlay.keys.identity import Kind
from overlay.registry.held import Held, HeldNetwork, is_invited, parse_held
from overlay.registry.store import Batch, Change, Entry

DOCUMENT = "doc/"
FORMER = "former/"  # nodes that a network named once and does not any more


class Delivery(msgspec.Struct, frozen=True):
    """Callers who may see a document that changed, or that they may see only now."""

    audience: Iterable[str]
    held: Held


class Directory:
    """What the registry holds at `revision`."""

    def __init__(self) -> None:
        self.revision = 0
        self.bytes = 0
        self.unreadable = 0
        self._documents: dict[str, Held] = {}
        self._facts: dict[str, Entry] = {}
        self._networks: dict[str, HeldNetwork] = {}
        self._of_node: dict[str, set[str]] = {}
        self._of_owner: dict[str, set[str]] = {}
        self._claimed: dict[str, set[str]] = {}  # farm -> nodes that say they belong to it
        self._listed: dict[str, set[str]] = {}  # node -> farms that list it
        self._offered: dict[str, frozenset[str]] = {}  # farm -> nodes that it offers to tenants

    # What admission reads.

    def held(self, key: str) -> Held | None:
        return self._documents.get(key)

    def fact(self, key: str) -> Entry | None:
        """What the store holds beside documents: claims, counts."""
        return self._facts.get(key)

    def network(self, network: str) -> HeldNetwork | None:
        found = self._networks.get(network)
        return found if found is not None and found.held is not None else None

    def counts(self) -> dict[str, int]:
        """How many documents there are of each kind."""
        counts = dict.fromkeys(schema.KINDS, 0)
        for key in self._documents:
            counts[key.partition("/")[0]] += 1
        return counts

    # Following the store.

    def load(self, entries: Iterable[Entry], *, revision: int) -> None:
        """Take what the store holds; a document that cannot be read is counted and left out."""
        self.revision = revision
        documents = []
        for entry in entries:
            if entry.key.startswith(DOCUMENT):
                documents.append(entry)
            else:
                self._put_fact(entry)
        # A member is judged by its network's document, which therefore comes first.
        for entry in sorted(documents, key=lambda e: e.key.startswith(f"{DOCUMENT}member/")):
            for _ in self._put(entry.key.removeprefix(DOCUMENT), entry.value, entry.mod_revision):
                pass

    def apply(self, batch: Batch) -> list[Delivery]:
        """Take one revision. A revision that is held already tells nobody anything."""
        if batch.revision <= self.revision:
            return []
        deliveries: list[Delivery] = []
        for change in sorted(batch.changes, key=_put_before_delete):
            deliveries += self._apply(change, batch.revision)
        self.revision = batch.revision
        return deliveries

    def _apply(self, change: Change, revision: int) -> Iterator[Delivery]:
        if not change.key.startswith(DOCUMENT):
            if change.value is None:
                self._facts.pop(change.key, None)
            else:
                self._put_fact(Entry(change.key, change.value, revision))
            return
        key = change.key.removeprefix(DOCUMENT)
        if change.value is None:
            self._drop(key)
        else:
            yield from self._put(key, change.value, revision)

    def _put_fact(self, entry: Entry) -> None:
        self._facts[entry.key] = entry
        if entry.key.startswith(FORMER):
            network = entry.key.removeprefix(FORMER)
            nodes = msgspec.json.decode(entry.value, type=list[str])
            self._networks.setdefault(network, HeldNetwork()).former = frozenset(nodes)
            for node in nodes:
                self._of_node.setdefault(node, set()).add(network)

    def _put(self, key: str, envelope: bytes, revision: int) -> Iterator[Delivery]:
        if (held := parse_held(key, envelope, revision)) is None:
            self.unreadable += 1
            return
        before = self._documents.get(key)
        self.bytes += len(held.line) - (len(before.line) if before else 0)
        self._documents[key] = held
        match held.document:
            case Farm() as farm:
                yield from self._put_farm(held, farm, before.document if before else None)
            case Node() as node:
                yield from self._put_node(held, node, before.document if before else None)
            case Network() as network:
                yield from self._put_network(held, network)
            case Member() as member:
                yield from self._put_member(held, member)
            case Result() as result:
                network_of = self._networks.setdefault(result.network, HeldNetwork())
                network_of.results[result.node] = held
                network_of.latest = max(network_of.latest, revision)
                yield Delivery(network_of.owners, held)
            case Sighting() as sighting:
                here = self._networks.setdefault(sighting.network, HeldNetwork())
                here.sightings[sighting.node] = held
                here.latest = max(here.latest, revision)
                yield Delivery({*here.owners, *here.insiders}, held)

    def _put_farm(self, held: Held, farm: Farm, before: object) -> Iterator[Delivery]:
        was = set(before.nodes) if isinstance(before, Farm) else set()
        for node in was.difference(farm.nodes):
            self._listed[node].discard(farm.farm)
        for node in farm.nodes:
            self._listed.setdefault(node, set()).add(farm.farm)
        self._offered[farm.farm] = frozenset(offer.node for offer in farm.relays)
        claimed = self._claimed.get(farm.farm, set())
        yield Delivery({farm.farm, *farm.nodes, *was, *claimed}, held)

    def _put_node(self, held: Held, node: Node, before: object) -> Iterator[Delivery]:
        was = before.farm if isinstance(before, Node) else None
        if was is not None:
            self._claimed[was].discard(node.node)
        audience = {node.node, *self._owners_over(node.node), *((was,) if was else ())}
        if node.farm is not None:
            self._claimed.setdefault(node.farm, set()).add(node.node)
            audience.add(node.farm)
        yield Delivery(audience, held)
        if node.farm != was and (farm := self._documents.get(f"farm/{node.farm}")):
            yield Delivery((node.node,), farm)

    def _put_network(self, held: Held, network: Network) -> Iterator[Delivery]:
        id_ = held.key.partition("/")[2]
        here = self._networks.setdefault(id_, HeldNetwork())
        related = here.related()
        here.held, here.roster = held, Roster(network)
        here.named = frozenset(m.node for m in network.members)
        here.latest = max(here.latest, held.revision)
        insiders = here.insiders
        here.insiders = {
            node: insiders.get(node, held.revision)
            for node in here.named | here.members.keys()
            if here.admits(node)
        }
        relays = here.relays
        here.relays = {r.node: relays.get(r.node, held.revision) for r in here.roster.relays}
        self._relate(id_, here.related())
        for owner in network.owners.keys:
            self._of_owner.setdefault(owner, set()).add(id_)
        yield Delivery({*network.owners.keys, *related, *here.named, *here.relays}, held)
        yield from self._introduce(here.insiders.keys() - insiders.keys(), here)
        if new := here.relays.keys() - relays.keys() - here.insiders.keys():
            yield from (Delivery(new, member) for member in here.members.values())

    def _put_member(self, held: Held, member: Member) -> Iterator[Delivery]:
        here = self._networks.setdefault(member.network, HeldNetwork())
        here.members[member.node] = held
        here.latest = max(here.latest, held.revision)
        self._relate(member.network, (member.node,))
        is_new = member.node not in here.insiders and here.admits(member.node)
        if is_new:
            revision = max(held.revision, here.held.revision if here.held else 0)
            here.insiders[member.node] = revision
            if here.held is not None:
                yield Delivery((member.node,), here.held)
            yield from self._introduce({member.node}, here)
        others = here.insiders.keys() - {member.node} if is_new else here.insiders.keys()
        own = () if is_new else (member.node,)
        yield Delivery({*here.owners, *others, *here.relays, *own}, held)

    def _introduce(self, nodes: Set[str], here: HeldNetwork) -> Iterator[Delivery]:
        """New members see the others, the owners see their nodes."""
        if not nodes:
            return
        for document in (*here.members.values(), *here.sightings.values()):
            yield Delivery(nodes, document)
        for node in nodes:
            if (held := self._documents.get(f"node/{node}")) is not None:
                yield Delivery(here.owners, held)

    def _drop(self, key: str) -> None:
        """Nobody has to be told: what made the document void was said by a signed one."""
        held = self._documents.pop(key, None)
        if held is None:
            return
        self.bytes -= len(held.line)
        if isinstance(held.document, Member | Result | Sighting):
            here = self._networks[held.document.network]
            if isinstance(held.document, Result):
                here.results.pop(held.document.node, None)
                return
            if isinstance(held.document, Sighting):
                here.sightings.pop(held.document.node, None)
                return
            here.members.pop(held.document.node, None)
            if not here.admits(held.document.node):
                here.insiders.pop(held.document.node, None)

    def _relate(self, network: str, nodes: Iterable[str]) -> None:
        for node in nodes:
            self._of_node.setdefault(node, set()).add(network)

    def _owners_over(self, node: str) -> Iterator[str]:
        for network in self._of_node.get(node, ()):
            here = self._networks[network]
            if node in here.insiders:
                yield from here.owners

    # Who may see what.

    def may_read(self, caller: str, key: str, *, now: datetime) -> bool:
        """Whether the caller may see a document. Raises Refused where telling why helps."""
        kind, *ids = key.split("/")
        match kind:
            case "farm":
                return ids[0] == caller or ids[0] in self._farms_of(caller)
            case "node":
                return caller == ids[0] or self._may_read_node(caller, ids[0])
            case "network":
                return self._may_read_network(caller, ids[0], now=now)
            case _:
                return caller == ids[1] or self.may_list(caller, kind, ids[0], now=now)

    def may_list(self, caller: str, kind: str, network: str, *, now: datetime) -> bool:
        """Whether the caller may see the members, results or sightings of a network."""
        here = self._networks.get(network)
        if here is None:
            return False
        if caller in here.owners or caller in here.insiders:
            return True
        if kind != "member":
            return False
        return caller in here.relays or is_invited(here, caller, now=now)

    def readable(
        self, caller: str, kind: str, *, network: str | None, now: datetime
    ) -> dict[str, Held]:
        """All documents of a kind that the caller may see, by key. Raises Refused."""
        keys: Iterable[str]
        if network is not None:
            # Asked first, so that who may not is told so also of a network without documents.
            may = self._may_read_network(caller, network, now=now)
            keys = self._keys_in(kind, network) if may else ()
        elif kind == "farm":
            keys = {f"farm/{caller}", *(f"farm/{f}" for f in self._farms_of(caller))}
        elif kind == "node":
            keys = {f"node/{n}" for n in (caller, *self._nodes_under(caller))}
        else:
            networks = self._of_node.get(caller, set()) | self._of_owner.get(caller, set())
            keys = (key for n in networks for key in self._keys_in(kind, n))
        found = {key: self._documents[key] for key in keys if key in self._documents}
        return {k: h for k, h in found.items() if self.may_read(caller, k, now=now)}

    def news(self, caller: str, *, after: int) -> list[Held]:
        """What the caller may see and has not been sent up to revision `after`."""
        news = {
            held.key: held
            for held, since in self._personal(caller)
            if max(held.revision, since) > after
        }
        for network in self._of_node.get(caller, set()) | self._of_owner.get(caller, set()):
            for held in self._network_news(caller, self._networks[network], after):
                news[held.key] = held
        return list(news.values())

    def _personal(self, caller: str) -> Iterator[tuple[Held, int]]:
        own = self._documents.get(f"node/{caller}")
        if own is not None:
            yield own, 0
        for farm in (caller, *self._farms_of(caller)):
            if (held := self._documents.get(f"farm/{farm}")) is not None:
                yield held, own.revision if own else 0
        for node in self._claimed.get(caller, ()):
            yield self._documents[f"node/{node}"], 0

    def _network_news(self, caller: str, here: HeldNetwork, after: int) -> Iterator[Held]:
        if here.held is None:
            return
        is_owner = caller in here.owners
        is_insider = is_owner or caller in here.insiders
        since = 0 if is_owner else here.insiders.get(caller, here.relays.get(caller, 0))
        if here.held.revision > after or since > after:
            yield here.held
        if max(here.latest, since) > after and (is_insider or caller in here.relays):
            sightings = here.sightings.values() if is_insider else ()
            for held in (*here.members.values(), *sightings):
                if max(held.revision, since) > after:
                    yield held
        if is_owner:
            yield from (held for held in here.results.values() if held.revision > after)
            for node, joined in here.insiders.items():
                held_node = self._documents.get(f"node/{node}")
                if held_node is not None and max(held_node.revision, joined) > after:
                    yield held_node

    def _farms_of(self, node: str) -> set[str]:
        farms = set(self._listed.get(node, ()))
        held = self._documents.get(f"node/{node}")
        if held is not None and isinstance(held.document, Node) and held.document.farm is not None:
            farms.add(held.document.farm)
        return farms

    def _nodes_under(self, caller: str) -> Iterator[str]:
        yield from self._claimed.get(caller, ())
        for network in self._of_owner.get(caller, ()):
            yield from self._networks[network].insiders

    def _may_read_node(self, caller: str, node: str) -> bool:
        """Who names a node that is offered to tenants has to know how it is reached."""
        return caller in self._node_readers(node) or (
            caller.startswith(f"{Kind.TENANT}1") and self._is_offered(node)
        )

    def _is_offered(self, node: str) -> bool:
        """By the farm to which the node itself says it belongs."""
        held = self._documents.get(f"node/{node}")
        farm = held.document.farm if held and isinstance(held.document, Node) else None
        return farm is not None and node in self._offered.get(farm, ())

    def _node_readers(self, node: str) -> set[str]:
        held = self._documents.get(f"node/{node}")
        readers = set(self._owners_over(node))
        if held is not None and isinstance(held.document, Node) and held.document.farm is not None:
            readers.add(held.document.farm)
        return readers

    def _keys_in(self, kind: str, network: str) -> Iterator[str]:
        here = self._networks.get(network)
        if here is None:
            return
        match kind:
            case "network":
                yield f"network/{network}"
            case "member":
                yield from (f"member/{network}/{node}" for node in here.members)
            case "result":
                yield from (f"result/{network}/{node}" for node in here.results)
            case "sighting":
                yield from (f"sighting/{network}/{node}" for node in here.sightings)
            case "node":
                yield from (f"node/{node}" for node in here.insiders)

    def _may_read_network(self, caller: str, network: str, *, now: datetime) -> bool:
        here = self._networks.get(network)
        if here is None:
            return False
        if caller in here.owners or network in self._of_node.get(caller, ()):
            return True
        return is_invited(here, caller, now=now)


def _put_before_delete(change: Change) -> bool:
    return change.value is None
