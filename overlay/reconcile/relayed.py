"""The networks that name this node as a relay, and who may use it there. Pure.

Documents alone decide; that the farm offers this node is `relaying`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from overlay.documents import trust
from overlay.documents.fields import Version
from overlay.documents.relays import RelayOffer, key_of, relay_of
from overlay.documents.schema import Farm, Member, Network
from overlay.errors import Refused
from overlay.model import NetworkId, NodeId, WgPublicKey
from overlay.peers.selection import Selection
from overlay.relay.roster import Heirs, Membership

MAX_RELAYED_NETWORKS = 256
MAX_RELAYED_NETWORKS_PER_TENANT = 64
# Of all networks together. A relay holds 4 096 who have registered.
MAX_RELAYED_MEMBERS = 16_384


def select_offer(farm: Farm | None, own: NodeId) -> RelayOffer | None:
    """With what the farm offers this node as a relay; None when it does not."""
    offers = farm.relays if farm is not None else ()
    return next((offer for offer in offers if offer.node == own), None)


def names_relay(network: Network, node: str) -> bool:
    """Whether the network names the node as a relay."""
    return not network.deleted and relay_of(network.relays, node) is not None


class Relayed:
    """Networks and their members, as documents come and go; bounded."""

    def __init__(self, own: NodeId, *, own_key: WgPublicKey) -> None:
        self._own = own
        self._own_key = own_key
        self._networks: dict[NetworkId, Selection] = {}
        self._keys: dict[NetworkId, frozenset[WgPublicKey]] = {}  # known since the last change

    @property
    def networks(self) -> Mapping[NetworkId, Selection]:
        return MappingProxyType(self._networks)

    def version(self, network: NetworkId) -> Version:
        """Of the network document that is acted on; 0 when the network is not relayed."""
        roster = self._networks[network].roster if network in self._networks else None
        return roster.network.version if roster is not None else 0

    def names_other_key(self, network: NetworkId) -> bool:
        """Whether the tenant names a key that is not ours (any more): nobody can register."""
        relay = relay_of(self._networks[network].relays, self._own)
        return relay is not None and key_of(relay) != self._own_key

    def put_network(self, network: Network) -> None:
        """Act on another version of a network that names us. Raises Refused without room for it."""
        self.refuse_excess(network)
        id_ = trust.network_id(network.owners, network.name)
        if id_ not in self._networks:
            self._networks[id_] = Selection(self._own, own_key=self._own_key)
        self._networks[id_].put_network(network)
        self._keys.pop(id_, None)

    def put_member(self, member: Member) -> None:
        """A member of a network that is relayed joined or changed. Raises Refused without room."""
        self.refuse_more(member)
        id_ = NetworkId(member.network)
        self._networks[id_].put_member(member)
        self._keys.pop(id_, None)

    def refuse_excess(self, network: Network) -> None:
        """Raise Refused when the relay has as many networks as it may have."""
        if trust.network_id(network.owners, network.name) in self._networks:
            return
        remedy = "name another relay"
        if len(self._networks) >= MAX_RELAYED_NETWORKS:
            raise Refused(f"this relay has {MAX_RELAYED_NETWORKS} networks already", remedy=remedy)
        held = [each.roster.network for each in self._networks.values() if each.roster]
        for owner in network.owners.keys:
            if sum(owner in each.owners.keys for each in held) >= MAX_RELAYED_NETWORKS_PER_TENANT:
                raise Refused(
                    f"this relay has {MAX_RELAYED_NETWORKS_PER_TENANT} networks of {owner} already",
                    remedy=remedy,
                )

    def refuse_more(self, member: Member) -> None:
        """Raise Refused when the relay has as many members as it may have."""
        if member.node in self._networks[NetworkId(member.network)].members:
            return
        if sum(len(each.members) for each in self._networks.values()) >= MAX_RELAYED_MEMBERS:
            raise Refused(f"this relay has {MAX_RELAYED_MEMBERS} members already", field="node")

    def drop(self, network: NetworkId) -> None:
        """The network does not name us any more."""
        self._networks.pop(network, None)
        self._keys.pop(network, None)

    def membership(self) -> Membership:
        """Who may use the relay, by network; we ourselves need no relay."""
        for network, selection in self._networks.items():
            if network not in self._keys:
                self._keys[network] = self._select_keys(network, selection)
        return {str(network): keys for network, keys in self._keys.items()}

    def heirs(self) -> Heirs:
        """Which key follows which, of members that replace theirs."""
        return {
            coming.former: key
            for selection in self._networks.values()
            for key, coming in selection.coming.items()
        }

    def _select_keys(self, network: NetworkId, selection: Selection) -> frozenset[WgPublicKey]:
        if self.names_other_key(network):
            return frozenset()
        return frozenset(key for key in selection.peers if selection.member_at(key) is not None)
