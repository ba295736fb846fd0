"""At a start: what is on disk is taken, and networks come up from there without anybody's help."""

from __future__ import annotations

import logging

from overlay.documents.relays import Sighting
from overlay.documents.schema import Farm, Member, Network, Result
from overlay.errors import Refused, Rejected
from overlay.exitnode.named import is_exit
from overlay.model import NetworkId, NodeId
from overlay.peers.cache import Cache
from overlay.ports import Clock
from overlay.reconcile.acceptance import Acceptance
from overlay.reconcile.exiting import Exiting, select_exit_offer
from overlay.reconcile.networks import Networks
from overlay.reconcile.relayed import select_offer
from overlay.reconcile.relaying import Relaying
from overlay.reconcile.results import Results
from overlay.reconcile.settings import NodeSettings

log = logging.getLogger(__name__)


def restore(
    documents: Acceptance,
    own: NodeId,
    settings: NodeSettings,
    *,
    cache: Cache,
    networks: Networks,
    relaying: Relaying,
    exiting: Exiting,
    results: Results,
    clock: Clock,
) -> None:
    """Loops of all networks that are ours, with their documents; what is nobody's is forgotten."""
    networks.forget_strangers()
    for _, verified in documents.stored("farm/"):
        if isinstance(verified.document, Farm) and verified.document.farm == settings.farm:
            networks.farm = verified.document
    relaying.load(select_offer(networks.farm, own))
    exiting.put_offer(select_exit_offer(networks.farm, own))
    ports = cache.ports()
    for key, verified in documents.stored("network/"):
        if not isinstance(verified.document, Network):
            continue
        is_relayed = relaying.load_document(verified.document)
        # A network that is ours has a port, from the transaction that brought it.
        if (network := NetworkId(key.partition("/")[2])) in ports:
            _reopen(networks, network, verified.document)
        elif not is_relayed:
            cache.forget(key)
            cache.forget_below(f"member/{network}/")
    _load_members(documents, networks, relaying, now=clock.monotonic())
    _load_results(documents, networks, results, cache)
    exiting.resume(
        loop.network
        for loop in networks.loops.values()
        if (own_member := loop.goals.selection.own_member) is not None
        and own_member.exit is not None
        and is_exit(loop.goals.selection)
    )


def _reopen(networks: Networks, network: NetworkId, document: Network) -> None:
    """A network whose key file is damaged stays as it is; the others run."""
    try:
        networks.open(network, document)
    except Rejected as exc:
        log.error("network not served", extra={"network": network, "reason": str(exc)})
        networks.refuse(network, document, Refused(exc.message, remedy=exc.remedy))


def _load_members(
    documents: Acceptance, networks: Networks, relaying: Relaying, *, now: float
) -> None:
    for _, verified in documents.stored("member/"):
        member = verified.document
        relaying.load_document(member)
        if isinstance(member, Member) and (loop := networks.get(member.network)):
            loop.goals.put_member(member, now=now)
    for _, verified in documents.stored("sighting/"):
        said = verified.document
        relaying.load_document(said)
        if isinstance(said, Sighting) and (loop := networks.get(said.network)):
            loop.goals.put_sighting(said, now=now)


def _load_results(
    documents: Acceptance, networks: Networks, results: Results, cache: Cache
) -> None:
    for key, verified in documents.stored("result/"):
        if isinstance(verified.document, Result) and networks.get(verified.document.network):
            results.put(verified.document)
        else:
            cache.forget(key)
