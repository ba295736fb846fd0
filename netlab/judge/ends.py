"""Who is meant by the words of an expectation: machines, and who is inside a network. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from netlab.fleet.fleet import Inside
from netlab.topology import Expect
from overlay.errors import Rejected

EVERYBODY = "*"
# Each is asked in both families: what a machine asks and answers in half a minute.
PAIRS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class End:
    """Somebody who asks or is asked.

    says     what it answers with
    at       its node, and `netns` there, "" for the machine itself
    network  "tenant/network" for who is meant inside one, "" on the underlay
    ipv4     where it is asked; None when it has no such address
    """

    name: str
    says: str
    at: str
    netns: str
    network: str
    ipv4: str | None
    ipv6: str | None


@dataclass(frozen=True, slots=True)
class Pair:
    """One who asks and one who is asked."""

    source: End
    target: End


def pairs_of(
    expect: Expect, *, machines: Mapping[str, End], inside: Mapping[str, Inside]
) -> list[Pair]:
    """Everybody who is meant, nobody with himself.

    Raises Rejected for words that mean nobody, or more pairs than PAIRS_MAX.
    """
    insiders = {name: _insider(name, each) for name, each in inside.items()}
    sources = _meant(expect.source, machines, insiders, field="expect.from")
    targets = _meant(expect.target, machines, insiders, field="expect.to")
    if len(sources) * len(targets) > PAIRS_MAX:
        raise Rejected(
            f"stands for {len(sources)} times {len(targets)} pairs, {PAIRS_MAX} is the most",
            field="expect",
            remedy="expect it of some, or of a smaller lab",
        )
    pairs = [
        Pair(source, insiders.get(f"{source.network}/{target.name}", target))
        for source in sources
        for target in targets
        if source.name != target.name
    ]
    if not pairs:
        raise Rejected(f"nobody but {expect.source} itself is meant", field="expect.to")
    return pairs


def _meant(
    words: str, machines: Mapping[str, End], insiders: Mapping[str, End], *, field: str
) -> list[End]:
    if words == EVERYBODY:
        return list(machines.values())
    network, _, name = words.rpartition("/")
    if network and name == EVERYBODY:
        found = [each for each in insiders.values() if each.network == network and each.netns]
    else:
        known = insiders.get(words) or machines.get(words)
        found = [known] if known is not None else []
    if not found:
        nearest = difflib.get_close_matches(words, [*machines, *insiders], n=1, cutoff=0.0)
        remedy = f"did you mean {nearest[0]!r}?" if nearest else None
        raise Rejected(f"nobody is called {words!r}", field=field, remedy=remedy)
    return found


def _insider(name: str, each: Inside) -> End:
    return End(name, each.name, each.at, each.netns, each.network, each.v4, each.v6)
