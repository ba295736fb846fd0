"""Words of the libnftables JSON schema, libnftables-json(5): rulesets then read as sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

Statement = dict[str, Any]
Rule = Sequence[Statement]
Command = dict[str, Any]

TABLE = "zos"
ACCEPT: Statement = {"accept": None}
DROP: Statement = {"drop": None}


def table(family: str) -> Command:
    return {"add": {"table": {"family": family, "name": TABLE}}}


def without_table(family: str) -> Command:
    return {"delete": {"table": {"family": family, "name": TABLE}}}


def counter(family: str, name: str) -> Command:
    return {"add": {"counter": {"family": family, "table": TABLE, "name": name}}}


def chain(family: str, name: str) -> Command:
    return {"add": {"chain": {"family": family, "table": TABLE, "name": name}}}


def base_chain(
    family: str, name: str, *, hook: str, priority: int, policy: str = "drop"
) -> Command:
    where = {"type": "filter", "hook": hook, "prio": priority, "policy": policy}
    return {"add": {"chain": {"family": family, "table": TABLE, "name": name, **where}}}


def mark_chain(family: str, name: str) -> Command:
    """Before packets are routed, after conntrack has found what they belong to."""
    where = {"type": "filter", "hook": "prerouting", "prio": -150, "policy": "accept"}
    return {"add": {"chain": {"family": family, "table": TABLE, "name": name, **where}}}


def source_nat_chain(family: str, name: str) -> Command:
    """Rules in it see the first packet of a connection only."""
    where = {"type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"}
    return {"add": {"chain": {"family": family, "table": TABLE, "name": name, **where}}}


def destination_nat_chain(family: str, name: str) -> Command:
    """Before the packet is routed; as above, of the first packet of a connection."""
    where = {"type": "nat", "hook": "prerouting", "prio": -100, "policy": "accept"}
    return {"add": {"chain": {"family": family, "table": TABLE, "name": name, **where}}}


def to_destination(address: Any, *, v6: bool, port: int | None = None) -> Statement:
    """`address` may be a map; the port stays as it is when none is given."""
    to = {"family": "ip6" if v6 else "ip", "addr": address}
    return {"dnat": to if port is None else {**to, "port": port}}


def from_source(address: str, *, v6: bool) -> Statement:
    return {"snat": {"family": "ip6" if v6 else "ip", "addr": address}}


def mapped(key: Any, name: str) -> Any:
    """What a named map has for `key`; the rule matches where it has something."""
    return {"map": {"key": key, "data": f"@{name}"}}


def named_set(
    family: str, name: str, *, types: Sequence[str], elements: Iterable[Sequence[str]]
) -> Command:
    """A set of concatenations, or of single values; libnftables takes no empty list of elements."""
    members = [{"concat": element} for element in sorted(map(list, elements))]
    content = {"elem": members} if members else {}
    kind = types[0] if len(types) == 1 else list(types)
    what = {"family": family, "table": TABLE, "name": name, "type": kind}
    return {"add": {"set": {**what, **content}}}


def named_map(family: str, name: str, *, key: str, value: str) -> Command:
    what = {"family": family, "table": TABLE, "name": name, "type": key, "map": value}
    return {"add": {"map": what}}


def rules(family: str, chain_name: str, lines: Iterable[Rule]) -> list[Command]:
    where = {"family": family, "table": TABLE, "chain": chain_name}
    return [{"add": {"rule": {**where, "expr": list(line)}}} for line in lines]


def when(left: Any, right: Any, *, op: str = "==") -> Statement:
    return {"match": {"op": op, "left": left, "right": right}}


def one_of(values: Sequence[Any]) -> Any:
    """A single value, or an anonymous set of several."""
    return values[0] if len(values) == 1 else {"set": list(values)}


def put(key: Any, value: Any) -> Statement:
    return {"mangle": {"key": key, "value": value}}


# Whose connection was given another destination, by a rule of this netns.
REDIRECTED: Statement = when({"ct": {"key": "status"}}, "dnat", op="in")


def direction(which: Literal["original", "reply"]) -> Statement:
    return when({"ct": {"key": "direction"}}, which)


def meta(key: str) -> Statement:
    return {"meta": {"key": key}}


def payload(protocol: str, field: str) -> Statement:
    return {"payload": {"protocol": protocol, "field": field}}


def transport_bits(*, offset: int, length: int) -> Statement:
    """Bits of the transport header, for fields that libnftables 1.0 has no name for."""
    return {"payload": {"base": "th", "offset": offset, "len": length}}


def concat(*parts: Any) -> Statement:
    return {"concat": list(parts)}


def verdicts(key: Any, branches: Mapping[Any, Statement]) -> Statement:
    """An anonymous verdict map; keys are plain values, or tuples where `key` is a concatenation."""
    pairs = [
        [concat(*value) if isinstance(value, tuple) else value, verdict]
        for value, verdict in sorted(branches.items())
    ]
    return {"vmap": {"key": key, "data": {"set": pairs}}}


def jump(chain_name: str) -> Statement:
    return {"jump": {"target": chain_name}}


def goto(chain_name: str) -> Statement:
    return {"goto": {"target": chain_name}}


def refuse(counter_name: str) -> Rule:
    """Drop, and remember why."""
    return [{"counter": counter_name}, DROP]


def count(counter_name: str) -> Statement:
    return {"counter": counter_name}


def over_rate(rate: int, *, burst: int, unit: str = "packets") -> Statement:
    """True for what is more than `rate` a second: packets, or `unit` of bytes."""
    it = {"rate": rate, "per": "second", "burst": burst, "inv": True}
    return {"limit": it if unit == "packets" else {**it, "rate_unit": unit, "burst_unit": unit}}


def over_connections(number: int) -> Statement:
    """True for a new connection when that many have passed here and still live."""
    return {"ct count": {"val": number, "inv": True}}


def prefix(text: str) -> Any:
    address, _, length = text.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}
