"""Members that replace their keys in any order of events: who bears what, on the device."""

from __future__ import annotations

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from overlay import addressing
from overlay.documents import trust
from overlay.documents.devices import NextDevice
from overlay.documents.schema import EndpointCandidate, Member, NamedMember, Network, Owners
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import DeviceKey
from overlay.model import CandidateKind, NodeId, PeerTraffic, WgDevice, WgPeer, WgPublicKey
from overlay.netns.changes import DropPeer, PutPeer
from overlay.netns.plan import plan_peer_delta, plan_peers
from overlay.peers.paths import Underlay
from overlay.reconcile.goals import PeerGoals
from tests.fake_machine import put_peer
from tests.node_world import device, seed

NAMES = ("n1", "n2", "n3")
WALL = 1_000_000
OWNERS = Owners(1, (Identity.from_seed(Kind.TENANT, seed("alice")).id,))
HOME = trust.network_id(OWNERS, "home")
OWN_KEY = device("own").public_key
names = st.sampled_from(NAMES)


def node(name: str) -> NodeId:
    return NodeId(Identity.from_seed(Kind.NODE, seed(name)).id)


def key(name: str, n: int) -> DeviceKey:
    return device(f"{name} {n}")


def goals() -> PeerGoals:
    underlay = Underlay(families=frozenset({4}), prefixes=(), declared=False)
    return PeerGoals(node("own"), own_key=OWN_KEY, underlay=underlay)


class TakingOver(RuleBasedStateMachine):
    """Three members, each at its n-th key; what they say, what they use, and what we have seen."""

    @initialize()
    def begin(self) -> None:
        self.goals = goals()
        self.now = 0.0
        self.version = 1
        self.device: dict[WgPublicKey, WgPeer] = {}
        self.uses = dict.fromkeys(NAMES, 0)
        self.says: dict[str, tuple[int, int | None]] = {}
        self.is_out: set[str] = set()
        self.way_out: str | None = None
        self.sent: list[Member] = []
        self.put_network()
        for name in NAMES:
            self.say(name, None)
        self.write()

    def put_network(self) -> None:
        self.version += 1
        members = tuple(
            NamedMember(name, node(name), n)
            for n, name in enumerate(("own", *NAMES))
            if name not in self.is_out
        )
        self.network = Network("home", self.version, OWNERS, "10.1.0.0/16", members)
        self.goals.put_network(self.network, now=self.now)

    def say(self, name: str, coming: int | None) -> None:
        self.version += 1
        self.says[name] = (self.uses[name], coming)
        endpoint = EndpointCandidate(CandidateKind.DECLARED, f"192.0.2.{len(name)}:51820")
        member = Member(
            network=HOME,
            node=node(name),
            version=self.version,
            name=name,
            index=1 + NAMES.index(name),
            device=key(name, self.uses[name]).id,
            joined=1,
            endpoints=(endpoint,),
            next_device=(
                NextDevice(key(name, coming).id, WALL + 100) if coming is not None else None
            ),
        )
        self.goals.put_member(member, now=self.now)

    @rule(name=names)
    def announces(self, name: str) -> None:
        if self.says[name] == (self.uses[name], None):
            self.say(name, self.uses[name] + 1)

    @rule(name=names)
    def switches(self, name: str) -> None:
        """Its device has the next key now; what it says may come much later."""
        if self.says[name][1] == self.uses[name] + 1:
            self.uses[name] += 1

    @rule(name=names)
    def says_which_key_it_uses(self, name: str) -> None:
        self.say(name, None)

    @rule(name=names)
    def withdraws(self, name: str) -> None:
        if self.says[name][1] == self.uses[name] + 1:
            self.say(name, None)

    @rule(name=names)
    def is_heard(self, name: str) -> None:
        """A handshake, which only the key in use can make, and only when we know it."""
        public = key(name, self.uses[name]).public_key
        if (peer := self.device.get(public)) is not None:
            latest = WALL + int(self.now)
            self.device[public] = msgspec.structs.replace(peer, latest_handshake=latest)

    @rule(name=st.one_of(st.none(), names))
    def elects(self, name: str | None) -> None:
        """As the loop does, by what the members say."""
        self.way_out = name
        self.goals.set_way_out(None if name is None else key(name, self.says[name][0]).public_key)

    @rule(name=names)
    def is_taken_out_or_back(self, name: str) -> None:
        self.is_out ^= {name}
        self.put_network()

    @rule(seconds=st.sampled_from([1, 100, 200, 90_000]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        """Another process, the same device; documents from disk, and a full pass first."""
        before = self.goals
        self.goals = goals()
        for member in before.selection.members.values():
            self.goals.put_member(member, now=self.now)
        self.goals.put_network(self.network, now=self.now)
        self.elects(self.way_out)
        self.converge()

    @rule()
    def reboot(self) -> None:
        """The device is new as well."""
        self.device = {}
        self.restart()

    @rule()
    def look(self) -> None:
        self.goals.look(
            WgDevice(OWN_KEY, 51_820, dict(self.device)),
            lambda _: PeerTraffic(rx_bytes=0, tx_bytes=0),
            wall=WALL + self.now,
            now=self.now,
        )

    @rule()
    def write(self) -> None:
        """The short cut: what is known to have changed."""
        delta = self.goals.take_unwritten()
        self.apply(plan_peer_delta(put=delta.put, drop=delta.drop))

    @rule()
    def converge(self) -> None:
        """A full pass: whatever the device has."""
        self.look()
        self.goals.take_unwritten()
        desired, now = dict(self.goals.peers), WALL + int(self.now)
        self.apply(tuple(plan_peers(desired=desired, actual=self.device, now=now)))
        assert not list(plan_peers(desired=desired, actual=self.device, now=now))

    def apply(self, changes: tuple[object, ...]) -> None:
        for change in changes:
            match change:
                case DropPeer(public_key=gone):
                    self.device.pop(gone, None)
                case PutPeer(peer=peer):
                    put_peer(self.device, peer)
            self.prefixes_are_disjoint()

    @invariant()
    def prefixes_are_disjoint(self) -> None:
        """No step of a write gives to two, nor leads our own subnet or anybody's to a stranger."""
        for peers in (self.device, dict(self.goals.peers)):
            prefixes = [prefix for peer in peers.values() for prefix in peer.allowed_ips]
            assert len(prefixes) == len(set(prefixes))
            assert addressing.overlaps([p for p in prefixes if ".0/24" in p]) is None

    @invariant()
    def every_member_is_borne_once_and_by_a_key_of_its_own(self) -> None:
        for n, name in enumerate(NAMES, 1):
            bearers = [k for k, p in self.goals.peers.items() if f"10.1.{n}.0/24" in p.allowed_ips]
            assert len(bearers) == (name not in self.is_out)
            said = [key(name, each).public_key for each in self.says[name] if each is not None]
            assert set(bearers) <= set(said)
            assert all(self.goals.selection.member_at(k).node == node(name) for k in bearers)

    @invariant()
    def a_key_that_was_seen_in_use_bears(self) -> None:
        """After a look; and never the former again, however often that one is heard."""
        for name in NAMES:
            used = key(name, self.uses[name]).public_key
            if name in self.is_out or used not in self.goals.takeovers.taken:
                continue
            bearer = self.goals.peers[used]
            assert f"10.1.{1 + NAMES.index(name)}.0/24" in bearer.allowed_ips
            if self.way_out == name:
                assert any(prefix.startswith("128.") for prefix in bearer.allowed_ips)

    def teardown(self) -> None:
        """When all is heard, said and written, the device has one key of each member, with all."""
        if not hasattr(self, "goals"):
            return
        self.is_out = set()
        self.put_network()
        for name in NAMES:
            self.write()
            self.is_heard(name)
            self.look()
            self.say(name, None)
        self.write()
        assert set(self.device) == {key(name, self.uses[name]).public_key for name in NAMES}
        self.every_member_is_borne_once_and_by_a_key_of_its_own()


TestTakingOver = TakingOver.TestCase
TestTakingOver.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
