"""Peers that are met at relays: is the way alive, and is there a better one? (NODE-070 ..). Pure.

Nothing here waits or writes. `look` takes what the device shows and says what to do; the loop of
the network does it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from overlay.model import Endpoint, PeerTraffic, WgDevice, WgPeer, WgPublicKey
from overlay.peers import liveness, paths, upgrade
from overlay.peers.liveness import Verdict, Watch
from overlay.peers.paths import KEEPALIVE_S, Path
from overlay.peers.upgrade import Upgrade
from overlay.reconcile.goals import PeerGoals

WATCH_S = 0.25  # between looks while something is sent into a silence, or was just now
MAX_TRIALS = 8  # at the same time, in one network
MAX_TRIALS_UNUSED = 3  # of these, by pairs that met and have no traffic
RENEW_S = 5.0  # at most so often we register anew with a relay that a pair suspects
RENEW_UNHEARD_S = 15.0  # and with one that says it does not hear us, or leads nowhere


class Moves(msgspec.Struct):
    """What a look led to, in the order in which it is done."""

    opens: dict[WgPublicKey, tuple[Endpoint, ...]] = msgspec.field(default_factory=dict)
    writes: list[WgPeer] = msgspec.field(default_factory=list)
    renews: list[WgPublicKey] = msgspec.field(default_factory=list)
    asks: list[WgPublicKey] = msgspec.field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.opens or self.writes or self.renews or self.asks)


class Counts(msgspec.Struct):
    """How often something was done, for those who look at what this costs."""

    opened: int = 0
    asked: int = 0
    tried: int = 0
    upgraded: int = 0
    given_up: int = 0


class Reach:
    """One network's pairs of hidden nodes."""

    def __init__(self, own_key: WgPublicKey) -> None:
        self.own_key = own_key
        self._watches: dict[WgPublicKey, Watch] = {}
        self._met: set[WgPublicKey] = set()
        self._unused: set[WgPublicKey] = set()  # of these, without traffic so far
        self._upgrades: dict[WgPublicKey, Upgrade] = {}
        self._renewed_at: dict[WgPublicKey, float] = {}
        self.counts = Counts()
        self.due: float | None = None  # monotonic, when the device is looked at again

    def look(
        self,
        goals: PeerGoals,
        device: WgDevice,
        traffic: Mapping[WgPublicKey, PeerTraffic],
        *,
        wall: float,
        now: float,
    ) -> Moves:
        moves = Moves()
        self.due = None
        for former, key in goals.take_followed():
            self._follow(former, key)
        pairs = dict(goals.relayed())
        self._met &= pairs.keys()
        self._unused &= pairs.keys()
        for key in (self._watches.keys() | self._upgrades.keys()) - pairs.keys():
            self._watches.pop(key, None)
            self._upgrades.pop(key, None)
            path = goals.path(key)
            if path is not None and path.trial is not None:
                # The device holds what was only tried.
                goals.set_path(key, msgspec.structs.replace(path, trial=None), learnt=True)
                moves.writes.append(
                    msgspec.structs.replace(goals.peers[key], endpoint=path.endpoint)
                )
        self._register(goals, device, moves, wall=wall, now=now)
        for key, path in pairs.items():
            seen, counted = device.peers.get(key), traffic.get(key)
            if not path.alive or seen is None or counted is None:
                if counted is not None and counted.tx_bytes > path.sent_bytes:
                    self._renew(goals.relay_at(path.endpoint), moves, RENEW_UNHEARD_S, now=now)
                self._watches.pop(key, None)
                self._pause(key)
                continue
            target = self._target(key)
            has_just_met = key not in self._met and wall - seen.latest_handshake < liveness.MET_S
            self._met.add(key)
            if has_just_met:
                self._unused.add(key)
            met_at = now if has_just_met else float("-inf")
            if target is None and not self._watch(
                goals, key, seen, counted, moves, met_at=met_at, now=now
            ):
                self._rest(key, path, wall=wall, now=now)
                continue
            self._improve(goals, key, seen, counted, moves, wall=wall, now=now)
        self.counts.opened += sum(map(len, moves.opens.values()))
        self.counts.asked += len(moves.asks)
        return moves

    def reason(self, key: WgPublicKey, path: Path, *, now: float) -> str:
        """Why a pair is at a relay and not at something better, for a person."""
        if not path.better_than_relay:
            return "it offers no endpoint that would be better"
        state = self._upgrades.get(key)
        if state is None or (state.phase is upgrade.Phase.WAITING and not state.rounds):
            return "what would be better is tried when there is traffic"
        if state.phase is not upgrade.Phase.WAITING:
            return "what would be better is being tried"
        again_s = round(state.due - now)
        again = f"is due in {again_s} s" if again_s > 0 else "comes when there is traffic"
        return (
            f"nothing came back by the {len(state.targets)} better endpoints in {state.rounds}"
            f" rounds; the next one {again}"
        )

    def _target(self, key: WgPublicKey) -> Endpoint | None:
        state = self._upgrades.get(key)
        return None if state is None else state.target

    def _watch(
        self,
        goals: PeerGoals,
        key: WgPublicKey,
        seen: WgPeer,
        counted: PeerTraffic,
        moves: Moves,
        *,
        met_at: float,
        now: float,
    ) -> bool:
        """Whether the way in use is alive; when it is not, another one is taken."""
        before = self._watches.get(key)
        if before is None:
            self._watches[key] = liveness.begin_watch(
                sent_bytes=counted.tx_bytes,
                heard_bytes=counted.rx_bytes,
                handshake=seen.latest_handshake,
                met_at=met_at,
            )
            return True
        watch, verdict = liveness.look(
            before,
            sent_bytes=counted.tx_bytes,
            heard_bytes=counted.rx_bytes,
            handshake=seen.latest_handshake,
            begins=self._begins(key),
            now=now,
        )
        self._watches[key] = watch
        if watch.is_silent or watch.active_at >= now - 1.0:
            self._look_by(now + WATCH_S)
        if verdict is Verdict.ASK:
            moves.asks.append(key)
        if verdict is not Verdict.DEAD:
            return True
        self._give_up(goals, key, moves, now=now)
        return False

    def _give_up(self, goals: PeerGoals, key: WgPublicKey, moves: Moves, *, now: float) -> None:
        """By the next relay. Any may have forgotten us, so we say it again to all."""
        path = goals.path(key)
        if path is None:
            return
        other = paths.given_up(path, now=now)
        for relay in goals.relays:
            self._renew(relay, moves, RENEW_S, now=now)
        goals.set_path(key, other, learnt=False)
        self._watches.pop(key, None)
        moves.renews.append(key)
        self.counts.given_up += 1

    def _register(
        self, goals: PeerGoals, device: WgDevice, moves: Moves, *, wall: float, now: float
    ) -> None:
        """A relay that was started anew knows nobody, and WireGuard would notice in two minutes."""
        for relay in goals.relays:
            seen = device.peers.get(relay)
            if (
                seen is not None
                and wall - seen.latest_handshake > RENEW_S
                and goals.is_unheard(relay)
            ):
                self._renew(relay, moves, RENEW_UNHEARD_S, now=now)

    def _renew(
        self, relay: WgPublicKey | None, moves: Moves, every_s: float, *, now: float
    ) -> None:
        if relay is not None and now - self._renewed_at.get(relay, -every_s) >= every_s:
            self._renewed_at[relay] = now
            moves.renews.append(relay)

    def _rest(self, key: WgPublicKey, path: Path, *, wall: float, now: float) -> None:
        """A better way broke: it is not tried again at once. Of a dead relay nothing follows."""
        if not path.is_relayed:
            self._upgrades[key] = upgrade.retry_later(
                path.better_than_relay, offset=self._offset(key), wall=wall, now=now
            )

    def _follow(self, former: WgPublicKey, key: WgPublicKey) -> None:
        """A member goes on by another key: where nothing better was found is not tried at once."""
        self._pause(former)
        if former in self._met:
            self._met.add(key)
        if (state := self._upgrades.pop(former, None)) is not None:
            self._upgrades[key] = state

    def _pause(self, key: WgPublicKey) -> None:
        """There is no session: what was tried so far is remembered, and nothing is tried."""
        state = self._upgrades.get(key)
        if state is not None and state.phase is not upgrade.Phase.WAITING:
            self._upgrades[key] = upgrade.begin_upgrade(
                state.targets, now=state.due, rounds=state.rounds
            )

    def _improve(
        self,
        goals: PeerGoals,
        key: WgPublicKey,
        seen: WgPeer,
        counted: PeerTraffic,
        moves: Moves,
        *,
        wall: float,
        now: float,
    ) -> None:
        path = goals.path(key)
        watch = self._watches.get(key)
        if path is None or watch is None:
            return
        is_active = watch.is_active(now=now)
        self._keep_alive(goals, key, path, is_active=is_active)
        if self._target(key) is None and not path.is_relayed:
            self._upgrades.pop(key, None)
            return
        state = self._upgrades.get(key)
        wanted = goals.better_than_relay(path)[: upgrade.MAX_TARGETS]
        begins_now = key in self._unused and watch.has_traffic(now=now)
        if begins_now:
            self._unused.discard(key)
        if (
            state is None
            or (state.targets != wanted and state.target is None)
            # Rounds of two that had nothing to say keep nobody waiting.
            or (begins_now and state.phase is upgrade.Phase.WAITING)
        ):
            state = upgrade.begin_upgrade(wanted, now=now)
        self._upgrades[key] = state
        if state.target is None and (not is_active or not self._may_try(key)):
            return
        state, act = upgrade.look(
            state,
            seen=seen.endpoint,
            by_relay=goals.relay_at(seen.endpoint) is not None,
            heard_bytes=counted.rx_bytes,
            begins=self._begins(key),
            offset=self._offset(key),
            wall=wall,
            now=now,
        )
        self._upgrades[key] = state
        if state.phase is not upgrade.Phase.WAITING:
            self._look_by(state.due)
        self._take(goals, key, act, moves)

    def _take(self, goals: PeerGoals, key: WgPublicKey, act: upgrade.Act, moves: Moves) -> None:
        path = goals.path(key)
        if path is None:
            return
        if act.opens:
            moves.opens[key] = act.opens
        if act.go is not None:
            self.counts.tried += 1
            goals.set_path(key, msgspec.structs.replace(path, trial=act.go), learnt=True)
            moves.writes.append(msgspec.structs.replace(goals.peers[key], endpoint=act.go))
        if act.ask:
            moves.asks.append(key)
        if act.back:
            moves.writes.append(msgspec.structs.replace(goals.peers[key], endpoint=path.endpoint))
        if act.proven is not None:
            self.counts.upgraded += 1
            self._watches.pop(key, None)
            goals.set_path(key, paths.with_endpoint(path, act.proven), learnt=True)
        elif self._target(key) is None and path.trial is not None:
            goals.set_path(key, msgspec.structs.replace(path, trial=None), learnt=True)

    def _keep_alive(
        self, goals: PeerGoals, key: WgPublicKey, path: Path, *, is_active: bool
    ) -> None:
        """NATs that were opened stay so while there is traffic; a relay knows us anyway.

        Who can be reached is kept alive as ever: it does not open the way to us.
        """
        if path.is_public:
            return
        keepalive_s = KEEPALIVE_S if is_active and not path.is_relayed else 0
        if keepalive_s != path.keepalive_s:
            goals.set_path(
                key, msgspec.structs.replace(path, keepalive_s=keepalive_s), learnt=False
            )

    def _may_try(self, key: WgPublicKey) -> bool:
        busy = {k for k, u in self._upgrades.items() if u.phase is not upgrade.Phase.WAITING}
        if key in busy:
            return True
        if key in self._unused:
            return len(busy & self._unused) < MAX_TRIALS_UNUSED and len(busy) < MAX_TRIALS
        return len(busy) < MAX_TRIALS

    def _begins(self, key: WgPublicKey) -> bool:
        return self.own_key < key

    def _offset(self, key: WgPublicKey) -> int:
        mine, theirs = int.from_bytes(self.own_key[:8]), int.from_bytes(key[:8])
        return mine ^ theirs

    def _look_by(self, due: float) -> None:
        self.due = due if self.due is None else min(self.due, due)
