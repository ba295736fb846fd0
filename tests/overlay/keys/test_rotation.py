"""Which step of a replacement is next, from what is durable: a crash is no special case."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from overlay.keys import rotation
from overlay.keys.rotation import DAY_S, Next, Pace, Record, Standing, Step, next_step

PACE = Pace(interval_s=30 * DAY_S, overlap_s=600)
MADE = 1_000_000
RECORD = Record("wg1a", MADE)
STEADY = Standing(device="wg1a", coming="", said="wg1a", said_coming="", at=0, worn=True)
DUE = MADE + 30 * DAY_S


def step(standing: Standing, record: Record = RECORD, *, now: int, spread: float = 0.0) -> Next:
    return next_step(standing, record, PACE, spread=spread, now=now)


def after(**changes: object) -> Standing:
    return msgspec.structs.replace(STEADY, **changes)


def test_a_key_is_replaced_when_it_is_as_old_as_the_interval() -> None:  # KEY-020
    assert step(STEADY, now=DUE - 1) == Next(Step.WAIT, DUE)
    assert step(STEADY, now=DUE) == Next(Step.MAKE)


def test_nodes_are_up_to_a_fifth_early_each_at_its_own_time() -> None:  # KEY-020
    assert step(STEADY, now=0, spread=1.0).due == MADE + 24 * DAY_S
    found = {rotation.spread_of(f"node{n}", "wg1a") for n in range(100)}
    assert len(found) == 100
    assert 0.0 <= min(found) < 0.1 < 0.9 < max(found) <= 1.0
    assert rotation.spread_of("node1", "wg1a") != rotation.spread_of("node1", "wg1b")


def test_without_an_interval_nothing_is_replaced_by_itself() -> None:  # KEY-020
    never = Pace(interval_s=None)
    assert next_step(STEADY, RECORD, never, spread=0.0, now=10 * DUE) == Next(Step.WAIT)


COMING = after(coming="wg1b")
ANNOUNCED = after(coming="wg1b", said_coming="wg1b", at=MADE + 600)
HELD = msgspec.structs.replace(RECORD, coming="wg1b", coming_made=MADE, held_since=MADE)
PROMOTED = after(device="wg1b", said_coming="wg1b", at=MADE + 600, worn=False)


@pytest.mark.parametrize(
    ("standing", "now", "wanted"),
    [
        (COMING, MADE, Next(Step.ANNOUNCE)),
        (ANNOUNCED, MADE + 599, Next(Step.WAIT, MADE + 600)),
        (ANNOUNCED, MADE + 600, Next(Step.PROMOTE)),
        (PROMOTED, MADE, Next(Step.WEAR)),
        (msgspec.structs.replace(PROMOTED, worn=True), MADE, Next(Step.PUBLISH)),
    ],
    ids=["made", "announced", "time", "promoted", "worn"],
)
def test_each_state_has_one_next_step(  # KEY-021
    standing: Standing, now: int, wanted: Next
) -> None:
    assert step(standing, HELD, now=now) == wanted


@pytest.mark.parametrize("held_since", [0, MADE + 301, MADE + 700])
def test_what_peers_could_not_hear_in_time_is_announced_again(held_since: int) -> None:  # KEY-022
    late = msgspec.structs.replace(HELD, held_since=held_since)
    assert step(ANNOUNCED, late, now=MADE + 600) == Next(Step.ANNOUNCE)
    in_time = msgspec.structs.replace(HELD, held_since=MADE + 300)
    assert step(ANNOUNCED, in_time, now=MADE + 600) == Next(Step.PROMOTE)


def test_what_does_not_survive_another_key_stops_a_replacement_until_the_key_is_used() -> None:
    # KEY-025
    held = msgspec.structs.replace
    assert step(held(STEADY, held_back=True), now=DUE) == Next(Step.WAIT)
    for standing in (COMING, ANNOUNCED):
        assert step(held(standing, held_back=True), HELD, now=DUE) == Next(Step.DROP)
    assert step(held(PROMOTED, held_back=True, worn=True), now=DUE) == Next(Step.PUBLISH)


def test_while_an_exit_drains_its_key_stays() -> None:  # KEY-025
    busy = msgspec.structs.replace
    assert step(busy(STEADY, busy_until=DUE + 9), now=DUE) == Next(Step.WAIT, DUE + 9)
    draining = busy(ANNOUNCED, busy_until=MADE + 700)
    assert step(draining, HELD, now=MADE + 699) == Next(Step.WAIT, MADE + 700)
    assert step(draining, HELD, now=MADE + 700) == Next(Step.PROMOTE)
    assert step(busy(PROMOTED, worn=True, busy_until=DUE), now=MADE) == Next(Step.PUBLISH)


@pytest.mark.parametrize(
    ("standing", "wanted"),
    [
        (after(said_coming="wg1b"), Step.PUBLISH),  # the next key's file is lost
        (after(said="wg1z", coming="wg1b", said_coming="wg1b"), Step.ANNOUNCE),  # a restored disk
        (after(said="", coming="wg1b"), Step.DROP),  # not a member any more
        (after(said=""), Step.WAIT),
    ],
)
def test_what_else_is_found_leads_back_to_one_key(standing: Standing, wanted: Step) -> None:
    assert step(standing, now=MADE).step is wanted


def test_the_record_follows_the_keys_on_disk() -> None:
    new = rotation.record_for(None, device="wg1a", coming="", now=5)
    assert new == Record("wg1a", 5)
    made = rotation.record_for(new, device="wg1a", coming="wg1b", now=7)
    assert made == Record("wg1a", 5, "wg1b", 7)
    held = msgspec.structs.replace(made, held_since=8)
    assert rotation.record_for(held, device="wg1a", coming="wg1b", now=9) == held
    assert rotation.record_for(held, device="wg1b", coming="", now=9) == Record("wg1b", 7)
    assert rotation.record_for(held, device="wg1a", coming="", now=9) == Record("wg1a", 5)
    assert rotation.record_for(held, device="wg1z", coming="", now=9) == Record("wg1z", 9)


def test_a_clock_that_was_ahead_delays_nothing_for_years() -> None:  # KEY-020, KEY-022
    ahead = Record("wg1a", DUE + 99, "wg1b", DUE + 99, DUE + 99)
    assert rotation.record_for(ahead, device="wg1a", coming="wg1b", now=MADE) == Record(
        "wg1a", MADE, "wg1b", MADE, MADE
    )
    said = after(coming="wg1b", said_coming="wg1b", at=MADE + PACE.overlap_s)
    assert step(said, HELD, now=MADE).step is Step.WAIT
    assert step(said, HELD, now=MADE - 1).step is Step.ANNOUNCE


class Replacing(RuleBasedStateMachine):
    """A node whose process may die after any durable step, beside a registry that comes and goes.

    `device`, `coming`, `said` and `record` are on disk; `worn` is in the kernel; the rest is what
    the process knows.
    """

    @initialize()
    def begin(self) -> None:
        self.now = MADE
        self.keys = 1
        self.device, self.coming = "wg1-1", ""
        self.said = ("wg1-1", "", 0)
        self.kernel = "wg1-1"
        self.knows_kernel = True
        self.held = self.said
        self.record: Record | None = None
        self.up, self.held_back = True, False
        self.announced_at: dict[str, int] = {}  # when the registry heard of a key to come
        self.retired: set[str] = set()

    def standing(self) -> Standing:
        return Standing(
            device=self.device,
            coming=self.coming,
            said=self.said[0],
            said_coming=self.said[1],
            at=self.said[2],
            worn=self.knows_kernel and self.kernel == self.device,
            held_back=self.held_back,
        )

    def look(self) -> Record:
        record = rotation.record_for(
            self.record, device=self.device, coming=self.coming, now=self.now
        )
        is_known = self.held == self.said and self.said[1] == self.coming
        if self.coming and not record.held_since and is_known:
            record = msgspec.structs.replace(record, held_since=self.now)
        self.record = record
        return record

    @rule()
    def make_one_step(self) -> None:
        """One step; the process may be dead before the next."""
        found = next_step(self.standing(), self.look(), PACE, spread=0.5, now=self.now)
        match found.step:
            case Step.MAKE:
                assert not self.coming
                self.keys += 1
                self.coming = f"wg1-{self.keys}"
            case Step.ANNOUNCE:
                self.say((self.device, self.coming, self.now + PACE.overlap_s))
            case Step.PROMOTE:
                # Whoever listened had half of the overlap at least to hear of it.
                assert self.now - self.announced_at[self.coming] >= PACE.overlap_s // 2
                self.retired.add(self.device)
                self.device, self.coming = self.coming, ""
            case Step.WEAR:
                self.kernel, self.knows_kernel = self.device, True
            case Step.PUBLISH:
                self.say((self.device, "", 0))
            case Step.DROP:
                self.coming = ""

    def say(self, said: tuple[str, str, int]) -> None:
        # Both keys sign, so both must be on disk.
        assert said[0] == self.device
        assert said[1] in ("", self.coming)
        self.said = said
        self.hear()

    @rule(up=st.booleans())
    def registry(self, up: bool) -> None:
        self.up = up
        self.hear()

    def hear(self) -> None:
        if self.up:
            self.held = self.said
            if self.said[1]:
                self.announced_at.setdefault(self.said[1], self.now)

    @rule(seconds=st.sampled_from([1, 60, 299, 300, 601, DAY_S, 30 * DAY_S]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(held_back=st.booleans())
    def access_device(self, held_back: bool) -> None:
        self.held_back = held_back

    @rule()
    def die(self) -> None:
        """Started again: the kernel is as it was, and nobody has looked yet."""
        self.knows_kernel = False

    @rule()
    def look_at_kernel(self) -> None:
        """A pass writes the key that is on disk, whatever step is next."""
        self.kernel, self.knows_kernel = self.device, True

    @rule()
    def ask(self) -> None:
        """`zos node rotate`."""
        if rotation.is_steady(self.standing()) and not self.held_back:
            self.keys += 1
            self.coming = f"wg1-{self.keys}"

    @invariant()
    def a_former_key_never_comes_back(self) -> None:
        if hasattr(self, "device"):
            assert not self.retired & {self.device, self.coming}

    @invariant()
    def whoever_reads_the_registry_knows_the_key_in_the_kernel(self) -> None:
        """As the key in use, or as the one to come; up or down."""
        if hasattr(self, "device"):
            assert self.kernel in self.held[:2]

    def teardown(self) -> None:
        """Left alone, with a registry, it comes to rest with one key."""
        if not hasattr(self, "device"):
            return
        self.registry(True)
        self.access_device(False)
        for _ in range(20):
            self.make_one_step()
            self.now += PACE.overlap_s // 3 if self.coming else 0
        standing = self.standing()
        assert rotation.is_steady(standing)
        assert self.kernel == self.device or not self.knows_kernel


TestReplacing = Replacing.TestCase
TestReplacing.settings = settings(max_examples=80, stateful_step_count=30, deadline=None)
