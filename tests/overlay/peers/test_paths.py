"""Which endpoint leads to a peer (NODE-040 .. NODE-049)."""

from __future__ import annotations

import msgspec
import pytest

from overlay.addressing import is_private, parse_endpoint
from overlay.model import Address, Candidate, CandidateKind, Prefix
from overlay.peers import paths
from overlay.peers.paths import (
    DOUBT_S,
    HANDSHAKE_FRESH_S,
    KEEPALIVE_S,
    PATH_TRY_MAX_S,
    PATH_TRY_S,
    UNANSWERED_BYTES,
    Path,
    Underlay,
    begin_path,
    goes_first,
    select_candidates,
    step,
    with_candidates,
)

WALL = 1_800_000_000.0

HIDDEN = Underlay(
    families=frozenset({4, 6}),
    prefixes=(Prefix("10.0.5.0/24"), Prefix("fd00:5::/64")),
    declared=False,
)
HIDDEN_V4 = Underlay(families=frozenset({4}), prefixes=(), declared=False)
PUBLIC = Underlay(families=frozenset({4, 6}), prefixes=(), declared=True)


def candidate(kind: str, endpoint: str) -> Candidate:
    return Candidate(CandidateKind(kind), parse_endpoint(endpoint))


DECLARED = candidate("declared", "192.0.2.1:51820")
DECLARED_6 = candidate("declared", "[2001:db8::1]:51820")
LAN = candidate("local", "10.0.5.7:51820")
LAN_6 = candidate("local", "[fd00:5::7]:51820")
ELSEWHERE = candidate("local", "10.0.9.7:51820")
OBSERVED = candidate("observed", "198.51.100.9:4711")
ALL = (ELSEWHERE, OBSERVED, LAN_6, LAN, DECLARED_6, DECLARED)


def look(
    path: Path, *, at: float, sent: int = 0, heard: int = 0, handshake_age: float | None = None
) -> Path:
    return step(
        path,
        endpoint=path.endpoint,
        latest_handshake=0 if handshake_age is None else int(WALL + at - handshake_age),
        sent_bytes=sent,
        heard_bytes=heard,
        wall=WALL + at,
        now=at,
    )


def test_a_path_begins_where_the_peer_was_heard_before() -> None:
    # NODE-048
    there = parse_endpoint("203.0.113.9:4711")
    path = begin_path((LAN,), underlay=PUBLIC, now=0.0, heard=there)
    assert (path.endpoint, path.alive, path.has_choice) == (there, False, True)
    # It gives way like any other that leads nowhere.
    assert look(path, at=PATH_TRY_S, sent=148).endpoint == LAN.endpoint
    # A candidate is in the documents, and a family that is not there leads nowhere.
    assert begin_path((LAN,), underlay=PUBLIC, now=0.0, heard=LAN.endpoint).proven is None
    only_v6 = Underlay(families=frozenset({6}), prefixes=(), declared=True)
    assert begin_path((LAN_6,), underlay=only_v6, now=0.0, heard=there).proven is None


@pytest.mark.parametrize("is_lower", [True, False])
def test_who_seems_hidden_begins_else_the_lower_key(is_lower: bool) -> None:
    # NODE-047: both come to opposite answers
    for own, peer in ((HIDDEN, (DECLARED,)), (PUBLIC, (LAN,))):
        assert goes_first(peer, underlay=own, is_lower=is_lower) == (own is HIDDEN)
    for own, peer in ((HIDDEN, (LAN,)), (PUBLIC, (DECLARED, LAN))):
        assert goes_first(peer, underlay=own, is_lower=is_lower) == is_lower


def test_candidates_come_declared_then_same_lan_then_observed_then_the_rest() -> None:
    # NODE-040
    anywhere = candidate("local", "[2001:db8:9::7]:51820")
    chosen = select_candidates((*ALL, anywhere), underlay=HIDDEN)
    assert chosen == (DECLARED_6, DECLARED, LAN_6, LAN, OBSERVED, anywhere, ELSEWHERE)


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("100.64.0.1", True),
        ("172.31.0.1", True),
        ("172.32.0.1", False),
        ("192.168.1.1", True),
        ("198.18.0.1", False),
        ("fd00::1", True),
        ("2001:db8::1", False),
    ],
)
def test_what_means_something_within_one_site_only(address: str, private: bool) -> None:
    # NODE-040
    assert is_private(Address(address)) == private


@pytest.mark.parametrize(("family", "left"), [(4, DECLARED), (6, DECLARED_6)])
def test_candidates_of_a_family_we_lack_are_left_out(family: int, left: Candidate) -> None:
    # NODE-041
    underlay = Underlay(families=frozenset({family}), prefixes=(), declared=True)
    assert select_candidates((DECLARED, DECLARED_6), underlay=underlay) == (left,)


def test_a_peer_without_candidates_has_no_endpoint() -> None:
    assert begin_path((), underlay=HIDDEN, now=0.0).endpoint is None


@pytest.mark.parametrize(
    ("offered", "underlay", "keepalive_s"),
    [
        ((DECLARED,), HIDDEN, KEEPALIVE_S),
        ((DECLARED_6,), HIDDEN, KEEPALIVE_S),
        # Met by its own address of the other family, it would not call back either.
        ((DECLARED_6, candidate("local", "203.0.113.5:51820")), HIDDEN_V4, KEEPALIVE_S),
        ((DECLARED,), PUBLIC, 0),
        ((LAN,), HIDDEN, 0),
        ((LAN,), PUBLIC, 0),
        ((), HIDDEN, 0),
    ],
)
def test_keepalives_go_only_from_a_hidden_node_to_a_public_one(
    offered: tuple[Candidate, ...], underlay: Underlay, keepalive_s: int
) -> None:
    # NODE-046
    assert begin_path(offered, underlay=underlay, now=0.0).keepalive_s == keepalive_s


def test_a_public_peer_is_kept_open_though_it_may_be_met_at_a_relay_as_well() -> None:
    # NODE-046: where UDP was blocked until now, a relay over TCP leads to everybody.
    relay = candidate("relay", "127.0.0.1:4000")
    path = msgspec.structs.replace(
        begin_path((DECLARED_6, relay), underlay=HIDDEN_V4, now=0.0), keepalive_s=0
    )
    found = with_candidates(path, (DECLARED_6, relay), underlay=HIDDEN, now=1.0)
    assert found.keepalive_s == KEEPALIVE_S


def test_an_endpoint_that_leads_nowhere_gives_way_to_the_next() -> None:
    # NODE-042
    path = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0)
    assert look(path, at=PATH_TRY_S - 0.1, sent=148) is path
    path = look(path, at=PATH_TRY_S, sent=148)
    assert path.endpoint == LAN.endpoint
    path = look(path, at=2 * PATH_TRY_S, sent=296)
    assert path.endpoint == DECLARED.endpoint


def test_nothing_is_tried_while_nothing_is_sent() -> None:
    # NODE-042: WireGuard sends no handshake without traffic, so silence proves nothing
    path = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0)
    assert look(path, at=1_000.0, sent=0) is path


def test_a_single_candidate_is_never_rotated() -> None:
    path = begin_path((DECLARED,), underlay=HIDDEN, now=0.0)
    assert look(path, at=1_000.0, sent=10_000) is path


def test_every_round_takes_twice_as_long_up_to_a_bound() -> None:
    # NODE-043
    path, now, sent, times = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0), 0.0, 0, []
    for _ in range(20):
        sent += 148
        waited = 0.0
        while (moved := look(path, at=now + waited, sent=sent)) is path:
            waited += 1.0
        times.append(waited)
        path, now = moved, now + waited
    assert times[:6] == [5, 5, 10, 10, 20, 20]
    assert times[-1] == PATH_TRY_MAX_S


@pytest.mark.parametrize("age", [0, HANDSHAKE_FRESH_S - 1])
def test_a_fresh_handshake_keeps_its_endpoint(age: float) -> None:
    # NODE-044
    path = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0)
    kept = look(path, at=500.0, sent=10_000, handshake_age=age)
    assert kept.endpoint == path.endpoint


def test_a_handshake_that_grew_old_counts_no_earlier_silence() -> None:
    # NODE-044: the wait starts when the session is over, not when it was made
    path = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0)
    path = look(path, at=300.0, sent=500, handshake_age=10)
    path = look(path, at=470.0, sent=900, handshake_age=179)
    old = look(path, at=471.0, sent=1_100, handshake_age=HANDSHAKE_FRESH_S)
    assert old.endpoint == DECLARED.endpoint
    assert look(old, at=480.0, sent=1_100, handshake_age=190) is old
    assert look(old, at=480.0, sent=1_248, handshake_age=190).endpoint == LAN.endpoint


def test_a_roamed_peer_keeps_the_endpoint_it_was_heard_from() -> None:
    # NODE-045
    roamed = parse_endpoint("203.0.113.5:9999")
    path = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0)
    path = step(
        path,
        endpoint=roamed,
        latest_handshake=int(WALL),
        sent_bytes=9,
        heard_bytes=9,
        wall=WALL + 1,
        now=1.0,
    )
    assert path.endpoint == roamed
    assert path.kind_of(roamed) == "roamed"
    later = with_candidates(path, (LAN,), underlay=HIDDEN, now=2.0)
    assert later.endpoint == roamed
    over = look(later, at=400.0, sent=1_000)
    assert over.endpoint == roamed
    gone = look(over, at=400.0 + PATH_TRY_S, sent=1_148)
    assert gone.endpoint == LAN.endpoint


def test_other_candidates_leave_an_endpoint_that_is_still_offered() -> None:
    # NODE-044
    path = begin_path((LAN,), underlay=HIDDEN, now=0.0)
    path = with_candidates(path, (DECLARED, LAN), underlay=HIDDEN, now=1.0)
    assert path.endpoint == LAN.endpoint
    assert path.candidates == (DECLARED, LAN)


def test_other_candidates_replace_an_endpoint_that_is_offered_no_more() -> None:
    path = begin_path((LAN,), underlay=HIDDEN, now=0.0)
    path = with_candidates(path, (DECLARED_6,), underlay=HIDDEN, now=1.0)
    assert path.endpoint == DECLARED_6.endpoint


def test_the_same_candidates_change_nothing() -> None:
    path = begin_path((LAN, DECLARED), underlay=HIDDEN, now=0.0)
    assert with_candidates(path, (DECLARED, LAN), underlay=HIDDEN, now=9.0) is path


def test_the_path_to_an_endpoint_has_a_name() -> None:
    path = begin_path(ALL, underlay=HIDDEN, now=0.0)
    assert path.kind_of(LAN.endpoint) == "local"
    assert path.kind_of(None) == "none"
    assert paths.select_candidates((), underlay=HIDDEN) == ()


def test_a_handshake_that_ended_before_the_change_does_not_prove_the_next_endpoint() -> None:
    # NODE-049: it ended between the look that gave up and the writing
    path = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0)
    path = look(path, at=PATH_TRY_S, sent=148)
    assert path.endpoint == LAN.endpoint
    path = look(path, at=PATH_TRY_S + 0.5, sent=240, heard=92, handshake_age=0.6)
    assert (path.endpoint, path.alive, path.doubtful) == (LAN.endpoint, True, True)
    # Idle, then keepalives, which nobody answers: that proves nothing.
    assert look(path, at=60.0, sent=240, heard=92, handshake_age=55.1) is path
    path = look(path, at=61.0, sent=272, heard=92, handshake_age=56.1)
    path = look(path, at=61.0 + DOUBT_S, sent=272 + UNANSWERED_BYTES, heard=92, handshake_age=58.1)
    assert path.endpoint == LAN.endpoint
    # Questions that nobody answers: it gives way, and the former is tried again.
    asked = look(path, at=62.5 + DOUBT_S, sent=1000, heard=92, handshake_age=59.6)
    assert asked is path
    path = look(path, at=63.0 + DOUBT_S, sent=1000, heard=92, handshake_age=60.1)
    assert (path.endpoint, path.alive) == (DECLARED.endpoint, False)
    path = look(path, at=67.0, sent=1100, heard=92, handshake_age=62.1)
    assert path.doubtful
    path = look(path, at=67.5, sent=1100, heard=124, handshake_age=62.6)
    assert (path.endpoint, path.doubtful, path.failures) == (DECLARED.endpoint, False, 0)


def test_a_handshake_after_the_change_proves_the_next_endpoint_at_once() -> None:
    # NODE-049
    path = begin_path((DECLARED, LAN), underlay=HIDDEN, now=0.0)
    path = look(path, at=PATH_TRY_S, sent=148)
    path = look(path, at=PATH_TRY_S + 3.0, sent=240, heard=92, handshake_age=1.0)
    assert (path.endpoint, path.alive) == (LAN.endpoint, True)
