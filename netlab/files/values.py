"""From what an entry of the file says to the values of a topology. Pure; the entry is checked."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar

from msgspec import UNSET, UnsetType

from netlab.files import quantities
from netlab.files.shape import (
    Argv,
    BothWays,
    EventEntry,
    ExitEntry,
    ExpectEntry,
    LinkEntry,
    NatEntry,
    NatName,
    NodeEntry,
    OneLinkEntry,
    OneWay,
    RouterEntry,
)
from netlab.impairment import Both, Impairment
from netlab.nat import NATS, Nat
from netlab.topology import WAN, Event, ExitOffer, Expect, Link, Node, Router
from overlay.errors import Rejected

T = TypeVar("T")
V = TypeVar("V")

_PARSERS: Mapping[str, Callable[[str], object]] = {
    "delay": quantities.parse_time,
    "jitter": quantities.parse_time,
    "loss": quantities.parse_share,
    "duplicate": quantities.parse_share,
    "reorder": quantities.parse_share,
    "rate": quantities.parse_rate,
    "drop": lambda texts: tuple(map(quantities.parse_drop, texts)),
}
IMPAIRMENT_FIELDS = {
    "delay": "delay_s",
    "jitter": "jitter_s",
    "loss": "loss",
    "duplicate": "duplicate",
    "reorder": "reorder",
    "rate": "rate_bit_s",
    "drop": "drops",
}
VERBS_OF_ONE_NAME = ("cut", "plug", "kill", "restart", "pause", "resume", "reboot_nat")


def impaired(entry: BothWays) -> Both:
    """Both directions: what is said of both, and over it what is said of one."""
    common = _one_way(entry, Impairment())
    up, down = (
        common if each is UNSET else _one_way(each, common) for each in (entry.up, entry.down)
    )
    return Both(up, down)


def link(entry: str | LinkEntry, *, name: str, home: str) -> Link:
    """A link; one that does not say where it leads to leads `home`."""
    if isinstance(entry, str):
        return Link(entry, name)
    plain = Link(home, name)
    return replace(
        plain,
        to=_or(entry.to, home),
        mtu_bytes=_or(entry.mtu, plain.mtu_bytes),
        ipv4=_or(entry.ipv4, plain.ipv4),
        ipv6=_or(entry.ipv6, plain.ipv6),
        impaired=impaired(entry),
    )


def node(entry: NodeEntry, *, name: str, home: str) -> Node:
    """Raises Rejected with the key of the entry that is wrong."""
    plain = Node(name)
    return Node(
        name,
        _links(entry, home=home),
        role=_or(entry.role, plain.role),
        run=() if entry.run is UNSET else _programs(entry.run),
        relay=_or(entry.relay, plain.relay),
        exit=plain.exit if entry.exit is UNSET else exit_offer(entry.exit),
    )


def exit_offer(entry: ExitEntry) -> ExitOffer:
    plain = ExitOffer(entry.uplink)
    return replace(plain, beacons=_or(entry.beacons, plain.beacons))


def router(entry: RouterEntry, *, name: str, home: str) -> Router:
    plain = Router(name)
    return Router(
        name,
        link(home if entry.link is UNSET else entry.link, name=WAN, home=home),
        nat=None if entry.nat is UNSET else nat(entry.nat),
        firewall=_or(entry.firewall, plain.firewall),
    )


def nat(entry: NatName | NatEntry) -> Nat | None:
    """By its name, or by its axes."""
    if isinstance(entry, str):
        return None if entry == "none" else NATS[entry]
    plain = Nat()
    timeout_s = plain.udp_timeout_s
    if entry.timeout is not UNSET:
        said_s = quantities.parse_time(entry.timeout)
        timeout_s = int(min(said_s, 2.0**63))
        if timeout_s != said_s:
            raise Rejected(
                f"{entry.timeout!r} is no whole number of seconds",
                field="nat.timeout",
                remedy="write it like '30s'",
            )
    return Nat(
        mapping=_or(entry.mapping, plain.mapping),
        filtering=_or(entry.filtering, plain.filtering),
        ports=_or(entry.ports, plain.ports),
        hairpin=_or(entry.hairpin, plain.hairpin),
        udp_timeout_s=timeout_s,
    )


def argv(said: Argv, *, field: str = "run") -> tuple[str, ...]:
    """Words of a line as a shell would split it, or the words themselves. Raises Rejected."""
    if isinstance(said, tuple):
        return said
    try:
        return tuple(shlex.split(said))
    except ValueError as exc:  # a quotation without an end
        raise Rejected(
            f"{said!r} cannot be split into words: {str(exc).lower()}",
            field=field,
            remedy='write the words apart: ["echo", "two words"]',
        ) from exc


def expect(entry: ExpectEntry) -> Expect:
    plain = Expect(entry.source, entry.target)
    return replace(
        plain,
        family=_or(entry.family, plain.family),
        reached=_or(entry.reached, plain.reached),
        path="" if entry.path is UNSET else entry.path,
        via=_or(entry.via, plain.via),
        at_least_bit_s=_read(entry.at_least, quantities.parse_rate, plain.at_least_bit_s),
        at_most_bit_s=_read(entry.at_most, quantities.parse_rate, plain.at_most_bit_s),
        within_s=_read(entry.within, quantities.parse_time, plain.within_s),
        at_s=None if entry.at is UNSET else quantities.parse_time(entry.at),
    )


def event(entry: EventEntry) -> Event:
    """Raises Rejected unless exactly one thing happens."""
    at_s = quantities.parse_time(entry.time)
    verbs = [name for name in entry.__struct_fields__ if name != "time"]
    said = [verb for verb in verbs if getattr(entry, verb) is not UNSET]
    if len(said) != 1:
        known = ", ".join(verb.replace("_", "-") for verb in verbs)
        found = " and ".join(verb.replace("_", "-") for verb in said) or "nothing"
        raise Rejected(f"says {found}, not one thing", remedy=f"write one of {known}")
    verb = said[0].replace("_", "-")
    if entry.impair is not UNSET:
        return Event(at_s, verb, entry.impair.link, impaired=impaired(entry.impair))
    if entry.exec is not UNSET:
        program = argv(entry.exec.run, field="exec.run")
        return Event(at_s, verb, entry.exec.node, argv=program)
    if entry.partition is not UNSET:
        return Event(at_s, verb, groups=entry.partition)
    if entry.heal is not UNSET:
        if not entry.heal:
            raise Rejected("is false", field="heal", remedy="write heal = true, or leave it out")
        return Event(at_s, verb)
    return Event(at_s, verb, getattr(entry, said[0]))


def _links(entry: NodeEntry, *, home: str) -> tuple[Link, ...]:
    if entry.link is UNSET and entry.links is UNSET:
        return (Link(home),)
    links = []
    named = {} if entry.links is UNSET else entry.links
    if entry.link is not UNSET:
        name = _name_of(entry.link, "eth0")
        if name in named:
            raise Rejected(
                f"`link` and `links` both say {name}", field="links", remedy="keep one of them"
            )
        links.append(link(entry.link, name=name, home=home))
    links += (link(each, name=name, home=home) for name, each in named.items())
    return tuple(links)


def _name_of(entry: str | OneLinkEntry, default: str) -> str:
    return default if isinstance(entry, str) else _or(entry.name, default)


def _programs(said: str | tuple[Argv, ...]) -> tuple[tuple[str, ...], ...]:
    if isinstance(said, str):
        return (argv(said),)
    return tuple(argv(each, field=f"run[{position}]") for position, each in enumerate(said))


def _one_way(entry: OneWay, below: Impairment) -> Impairment:
    said = {
        field: _PARSERS[key](getattr(entry, key))
        for key, field in IMPAIRMENT_FIELDS.items()
        if getattr(entry, key) is not UNSET
    }
    return replace(below, **said)  # type: ignore[arg-type]  # each parser fits its field


def _or(value: T | UnsetType, default: T) -> T:
    return default if isinstance(value, UnsetType) else value


def _read(text: str | UnsetType, parse: Callable[[str], V], default: V) -> V:
    return default if isinstance(text, UnsetType) else parse(text)
