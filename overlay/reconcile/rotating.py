"""The device keys of this node are replaced, step by step; each step is durable (KEY-020 ..)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import msgspec

from overlay.documents import trust
from overlay.documents.devices import NextDevice
from overlay.documents.schema import Member
from overlay.errors import OverlayError, Refused, Unavailable
from overlay.keys import rotation
from overlay.keys.rotation import Next, Pace, Record, Standing, Step
from overlay.model import NetworkId, NodeId
from overlay.peers.cache import Cache
from overlay.ports import Clock
from overlay.reconcile.keyring import Keyring
from overlay.reconcile.networks import Networks
from overlay.reconcile.publisher import Publisher
from overlay.reconcile.resource import ResourceLoop

log = logging.getLogger(__name__)

MAX_WAIT_S = 60.0  # the wall clock may be set
AGAIN_S = 1.0  # while a registry is waited for, and after a failure


class Rotating:
    """`run` makes what is due; `begin` makes it due now."""

    def __init__(
        self,
        own: NodeId,
        pace: Pace,
        *,
        cache: Cache,
        keys: Keyring,
        networks: Networks,
        publisher: Publisher,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self.pace = pace
        self._own = own
        self._cache = cache
        self._keys = keys
        self._networks = networks
        self._publisher = publisher
        self._clock = clock
        self._on_change = on_change
        self._work = asyncio.Event()
        self._failed: dict[NetworkId, str] = {}  # why the next step is not made

    async def run(self) -> None:
        """Make the steps that are due, for ever."""
        while True:
            wait_s = self.make_steps()
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._work.wait()
            self._work.clear()

    def wake(self) -> None:
        """Something may be due."""
        self._work.set()

    def make_steps(self) -> float:
        """All steps that are due are made. In how many seconds to look again."""
        wait_s = MAX_WAIT_S
        for loop in tuple(self._networks.loops.values()):
            if not loop.is_wanted:
                continue
            try:
                wait_s = min(wait_s, self._make_steps(loop))
            except OverlayError as exc:
                if self._failed.get(loop.network) != str(exc):
                    said = {"network": loop.network, "reason": str(exc)}
                    log.warning("key not replaced", extra=said)
                self._failed[loop.network] = str(exc)
                self._reread(loop)
                wait_s = AGAIN_S
            else:
                self._failed.pop(loop.network, None)
        return wait_s

    def begin(self, loop: ResourceLoop) -> int:
        """The key of this network is being replaced; when, in Unix seconds. Raises Refused with why
        it cannot be. Asking twice changes nothing.
        """
        standing = self._standing(loop)
        if standing.held_back:
            raise Refused(
                self.held_back_by(loop),
                field="network",
                remedy="move or remove the access devices of this node: zos network access",
            )
        if not loop.is_wanted or not standing.said:
            raise Refused("this node is no member yet", field="network", remedy="zos status")
        if rotation.is_steady(standing):
            self._make(loop)
        self._make_steps(loop)
        self.wake()
        own = loop.goals.selection.own_member
        if own is None or own.next_device is None:
            raise Refused("the key is being replaced just now", remedy="zos status")
        return own.next_device.at

    def held_back_by(self, loop: ResourceLoop) -> str:
        """What here would not survive another key; empty when nothing would be lost."""
        roster = loop.goals.selection.roster
        devices = () if roster is None else roster.access_via(self._own)
        if not devices:
            return ""
        names = ", ".join(sorted(device.name for device in devices)[:3])
        return f"access devices have this key in their configuration: {names}"

    def trouble(self, network: NetworkId) -> str:
        """Why the step that is due is not made; it is tried again."""
        return self._failed.get(network, "")

    def record(self, loop: ResourceLoop) -> Record:
        """When the keys of the network were made."""
        raw = self._cache.setting(_setting(loop.network))
        known = None if raw is None else msgspec.json.decode(raw, type=Record)
        coming = loop.next_key.id if loop.next_key is not None else ""
        found = rotation.record_for(known, device=loop.device_key.id, coming=coming, now=self._now)
        if coming and not found.held_since and self._is_known(loop, coming):
            found = msgspec.structs.replace(found, held_since=self._now)
        if found != known and self._networks.loops.get(loop.network) is loop:
            with suppress(Unavailable):  # what is not remembered delays the next step, no more
                self._cache.set_setting(_setting(loop.network), msgspec.json.encode(found).decode())
        return found

    def due_at(self, loop: ResourceLoop) -> int | None:
        """When the next replacement begins by itself, in Unix seconds."""
        if self.held_back_by(loop):
            return None
        return rotation.due_at(self.record(loop), self.pace, spread=self._spread(loop))

    # Steps.

    def _make_steps(self, loop: ResourceLoop) -> float:
        """In how many seconds the next step is due."""
        while True:
            found = self._next_step(loop)
            match found.step:
                case Step.WAIT | Step.WEAR:
                    return self._wait_s(loop, found)
                case Step.MAKE:
                    self._make(loop)
                case Step.ANNOUNCE:
                    self._announce(loop)
                case Step.PROMOTE:
                    self._promote(loop)
                case Step.PUBLISH:
                    self._publish(loop)
                case Step.DROP:
                    self._keys.drop_next_device(loop.network)
                    loop.next_key = None
            log.info("device key", extra={"network": loop.network, "step": found.step.value})
            self._on_change()

    def _next_step(self, loop: ResourceLoop) -> Next:
        return rotation.next_step(
            self._standing(loop),
            self.record(loop),
            self.pace,
            spread=self._spread(loop),
            now=self._now,
        )

    def _make(self, loop: ResourceLoop) -> None:
        loop.next_key = self._keys.make_next_device(loop.network)

    def _announce(self, loop: ResourceLoop) -> None:
        own = loop.goals.selection.own_member
        if own is None or loop.next_key is None:
            return
        coming = NextDevice(loop.next_key.id, self._now + self.pace.overlap_s)
        with self._cache.batch():
            self._networks.publish_member(
                loop,
                msgspec.structs.replace(own, device=loop.device_key.id, next_device=coming),
            )
        if (own := loop.goals.selection.own_member) is None or own.next_device != coming:
            raise Refused("the announcement was not signed; see refusals in zos status")

    def _promote(self, loop: ResourceLoop) -> None:
        loop.wear(self._keys.promote_next_device(loop.network))

    def _publish(self, loop: ResourceLoop) -> None:
        with self._cache.batch():
            self._networks.refresh(loop)
        own = loop.goals.selection.own_member
        if own is not None and own.next_device is not None:
            raise Refused("the member document was not signed; see refusals in zos status")

    def _reread(self, loop: ResourceLoop) -> None:
        """A step failed midway: what is on disk counts."""
        with suppress(OverlayError):
            key, coming = self._keys.device(loop.network), self._keys.next_device(loop.network)
            if key.id != loop.device_key.id:
                loop.wear(key)
            loop.next_key = coming

    # Small things.

    def _standing(self, loop: ResourceLoop) -> Standing:
        own = loop.goals.selection.own_member
        said = own.next_device if own is not None else None
        return Standing(
            device=loop.device_key.id,
            coming=loop.next_key.id if loop.next_key is not None else "",
            said=own.device if own is not None else "",
            said_coming=said.device if said is not None else "",
            at=said.at if said is not None else 0,
            worn=loop.wears_its_key,
            held_back=bool(self.held_back_by(loop)),
            busy_until=_draining_until(own),
        )

    def _is_known(self, loop: ResourceLoop, coming: str) -> bool:
        """Whether the registry is known to hold a document that announces this key."""
        own = loop.goals.selection.own_member
        return (
            own is not None
            and own.next_device is not None
            and own.next_device.device == coming
            and self._publisher.is_accepted(trust.document_key(own), own.version)
        )

    def _spread(self, loop: ResourceLoop) -> float:
        return rotation.spread_of(self._own, loop.device_key.id)

    def _wait_s(self, loop: ResourceLoop, found: Next) -> float:
        if loop.next_key is not None and not self.record(loop).held_since:
            return AGAIN_S
        if found.due is None:
            return MAX_WAIT_S
        return min(MAX_WAIT_S, max(0.0, found.due - self._clock.now().timestamp()))

    @property
    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _draining_until(own: Member | None) -> int:
    """What began at an exit that drains goes on by sessions with its key."""
    return 0 if own is None or own.exit is None else own.exit.draining_until or 0


def _setting(network: NetworkId) -> str:
    return f"rotation/{network}"
