"""A topology as the text of a lab file: what is read from it is the very same value. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from netlab.files import quantities
from netlab.files.values import IMPAIRMENT_FIELDS
from netlab.impairment import Both, Impairment
from netlab.nat import NATS, Nat
from netlab.topology import (
    INTERNET,
    NAME_DEFAULT,
    Event,
    Expect,
    Latency,
    Link,
    Node,
    Region,
    Router,
    TenantNetwork,
    Topology,
)

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_FORMATS: Mapping[str, Callable[[Any], object]] = {
    "delay": quantities.format_time,
    "jitter": quantities.format_time,
    "loss": quantities.format_share,
    "duplicate": quantities.format_share,
    "reorder": quantities.format_share,
    "rate": quantities.format_rate,
    "drop": lambda drops: [quantities.format_drop(drop) for drop in drops],
}

Table = dict[str, object]


def format_lab(topology: Topology) -> str:
    """TOML that `parse_lab` reads as this topology; what is as by default is left out."""
    home = topology.regions[0].name if topology.regions else INTERNET
    blocks = [
        _block("", _head(topology)),
        _block("core", _core(topology)),
        *(_block(f"router.{each.name}", _router(each, home=home)) for each in topology.routers),
        *(
            _block(f"lan.{each.name}", {"gateway": each.gateway} if each.gateway else {})
            for each in topology.lans
        ),
        *(_block(f"node.{each.name}", _node(each, home=home)) for each in topology.nodes),
        *_tenants(topology),
        *(_block("[expect]", _expect(each)) for each in topology.expects),
        *(_block("[at]", _event(each)) for each in topology.events),
    ]
    return "\n".join(block for block in blocks if block)


def _block(header: str, table: Table) -> str:
    """A table with a header; one without any key is there all the same, save the first ones."""
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items()]
    if header in ("", "core") and not lines:
        return ""
    return "\n".join([f"[{header}]", *lines] if header else lines) + "\n"


def _head(topology: Topology) -> Table:
    table: Table = {}
    if topology.name != NAME_DEFAULT:
        table["name"] = topology.name
    if topology.seed:
        table["seed"] = topology.seed
    return table


def _core(topology: Topology) -> Table:
    table: Table = {}
    if topology.regions != (Region(INTERNET),):
        table["regions"] = [region.name for region in topology.regions]
    if topology.latencies:
        table["latency"] = [_latency(each) for each in topology.latencies]
    return table


def _latency(latency: Latency) -> Table:
    return {"between": list(latency.between), **_impaired(latency.impaired)}


def _router(router: Router, *, home: str) -> Table:
    table: Table = {}
    plain = Router(router.name)
    if link := _link(router.uplink, home=home):
        table["link"] = _short(link)
    if router.nat is not None:
        table["nat"] = _nat(router.nat)
    if router.firewall != plain.firewall:
        table["firewall"] = router.firewall
    return table


def _nat(nat: Nat) -> str | Table:
    name = next((name for name, preset in NATS.items() if preset == nat), None)
    if name is not None:
        return name
    plain = Nat()
    table: Table = {
        name: getattr(nat, name)
        for name in ("mapping", "filtering", "ports", "hairpin")
        if getattr(nat, name) != getattr(plain, name)
    }
    if nat.udp_timeout_s != plain.udp_timeout_s:
        table["timeout"] = f"{nat.udp_timeout_s}s"
    return table


def _node(node: Node, *, home: str) -> Table:
    table: Table = {}
    plain = Node(node.name)
    if node.role != plain.role:
        table["role"] = node.role
    if node.relay:
        table["relay"] = True
    if node.exit is not None:
        beacons = {"beacons": list(node.exit.beacons)} if node.exit.beacons else {}
        table["exit"] = {"uplink": node.exit.uplink, **beacons}
    links = {link.name: _link(link, home=home) for link in node.links}
    if list(links) != ["eth0"]:
        table["links"] = {
            name: _short({"to": link.get("to", home), **link}) for name, link in links.items()
        }
    elif links["eth0"]:
        table["link"] = _short(links["eth0"])
    if node.run:
        table["run"] = [list(argv) for argv in node.run]
    return table


def _link(link: Link, *, home: str) -> Table:
    """What is not as on a plain link to the first region; the name aside."""
    plain = Link(home)
    table: Table = {}
    if link.to != plain.to:
        table["to"] = link.to
    if link.mtu_bytes != plain.mtu_bytes:
        table["mtu"] = link.mtu_bytes
    for family in ("ipv4", "ipv6"):
        if not getattr(link, family):
            table[family] = False
    return table | _impaired(link.impaired)


def _short(link: Table) -> object:
    """A link that says only where it leads to is written as that."""
    return link["to"] if list(link) == ["to"] else link


def _impaired(both: Both) -> Table:
    """What is the same both ways once, and the rest for each direction."""
    up, down = _one_way(both.up), _one_way(both.down)
    table: Table = {key: value for key, value in up.items() if down.get(key) == value}
    for name, way in (("up", up), ("down", down)):
        rest = {key: value for key, value in way.items() if key not in table}
        if rest:
            table[name] = rest
    return table


def _one_way(impairment: Impairment) -> Table:
    plain = Impairment()
    return {
        key: _FORMATS[key](getattr(impairment, field))
        for key, field in IMPAIRMENT_FIELDS.items()
        if getattr(impairment, field) != getattr(plain, field)
    }


def _tenants(topology: Topology) -> Iterator[str]:
    for tenant in topology.tenants:
        if not tenant.networks:
            yield _block(f"tenant.{tenant.name}", {})
        for network in tenant.networks:
            yield _block(f"tenant.{tenant.name}.network.{network.name}", _network(network))


def _network(network: TenantNetwork) -> Table:
    table: Table = {}
    plain = TenantNetwork(network.name)
    if network.range != plain.range:
        table["range"] = network.range
    for key in ("nodes", "invited"):
        if getattr(network, key):
            table[key] = list(getattr(network, key))
    if network.clients:
        table["clients"] = {access.client: access.via for access in network.clients}
    if network.workloads:
        table["workloads"] = {workload.name: workload.at for workload in network.workloads}
    if network.relays:
        table["relays"] = list(network.relays)
    if network.exits:
        table["exits"] = _exits(network)
    return table


def _exits(network: TenantNetwork) -> object:
    """A list where their orders are those of one."""
    orders = [each.order for each in network.exits]
    if orders == list(range(len(orders))):
        return [each.node for each in network.exits]
    return {each.node: each.order for each in network.exits}


def _expect(expect: Expect) -> Table:
    table: Table = {"from": expect.source, "to": expect.target}
    plain = Expect(expect.source, expect.target)
    for key in ("family", "reached", "path", "via"):
        if getattr(expect, key) != getattr(plain, key):
            table[key] = getattr(expect, key)
    if expect.at_least_bit_s:
        table["at_least"] = quantities.format_rate(expect.at_least_bit_s)
    if expect.at_most_bit_s:
        table["at_most"] = quantities.format_rate(expect.at_most_bit_s)
    if expect.within_s != plain.within_s:
        table["within"] = quantities.format_time(expect.within_s)
    if expect.at_s is not None:
        table["at"] = quantities.format_time(expect.at_s)
    return table


def _event(event: Event) -> Table:
    table: Table = {"time": quantities.format_time(event.at_s)}
    match event.verb:
        case "impair":
            table["impair"] = {"link": event.target, **_impaired(event.impaired or Both())}
        case "exec":
            table["exec"] = {"node": event.target, "run": list(event.argv)}
        case "partition":
            table["partition"] = [list(group) for group in event.groups]
        case "heal":
            table["heal"] = True
        case _:
            table[event.verb] = event.target
    return table


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case Mapping():
            pairs = (f"{_key(str(key))} = {_value(inner)}" for key, inner in value.items())
            return "{ " + ", ".join(pairs) + " }" if value else "{}"
        case Iterable():
            return "[" + ", ".join(map(_value, value)) + "]"
        case _:
            return str(value)


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    """JSON escapes what TOML does, save DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
