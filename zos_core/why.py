"""Why A cannot reach B: the same questions that a packet meets, in its order, with evidence. Pure.

It judges from one node's point of view. What that node cannot know is said to be unknown and never
guessed (CLI-030).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import msgspec

from overlay import addressing
from overlay.errors import Conflict, OverlayError, Rejected
from overlay.exitnode import guards
from overlay.exitnode.firewall import SMTP_PORT
from overlay.model import Address, InterfaceAddress, Prefix
from zos_core.status import (
    MemberStatus,
    NetworkStatus,
    PeerStatus,
    RuleStatus,
    WhyInputs,
)

HANDSHAKE_STALE_S = 180  # REJECT_AFTER_TIME of WireGuard: an older session carries nothing

Verdict = Literal["ok", "no", "unknown"]


class Step(msgspec.Struct, frozen=True):
    """One question and its answer."""

    name: str
    verdict: Verdict
    evidence: str
    remedy: str = ""


class Traffic(msgspec.Struct, frozen=True):
    """What A sends B: "tcp/443", "icmp", "any"."""

    protocol: Literal["any", "tcp", "udp", "icmp"] = "any"
    port: int | None = None

    def __str__(self) -> str:
        return self.protocol if self.port is None else f"{self.protocol}/{self.port}"


class Party(msgspec.Struct, frozen=True):
    """One end: a member or an access device, and the address that is meant."""

    text: str  # as it was asked for
    member: MemberStatus
    subnets: tuple[Prefix, Prefix]
    address: Address | None = None  # None: the member as a whole

    @property
    def addresses(self) -> tuple[Address, ...]:
        """What stands for it in a rule."""
        return (self.address,) if self.address is not None else _gateways(self)


class Outside(msgspec.Struct, frozen=True):
    """An address in the internet, which is reached by way of an exit."""

    text: str
    address: Address


class Walk(msgspec.Struct, frozen=True):
    """Every step that was asked, and the first that refuses."""

    source: Party
    target: Party | Outside
    traffic: Traffic
    steps: tuple[Step, ...]

    @property
    def refusal(self) -> Step | None:
        return next((step for step in self.steps if step.verdict == "no"), None)


def parse_traffic(text: str) -> Traffic:
    """ "tcp/443", "udp/53", "icmp", "tcp", "any". Raises Rejected."""
    match = re.fullmatch(r"(any|tcp|udp|icmp)(?:/([1-9][0-9]{0,4}))?", text, re.ASCII)
    port = int(match[2]) if match is not None and match[2] else None
    portless = match is not None and match[1] in ("any", "icmp")
    if match is None or (port is not None and (portless or port > 65_535)):
        raise Rejected(f"{text[:40]!r} is no traffic", remedy="write tcp/443, udp/53, icmp or any")
    protocol = match[1]
    return msgspec.convert({"protocol": protocol, "port": port}, Traffic)


def walk(inputs: WhyInputs, source: str, target: str, traffic: Traffic) -> Walk:
    """Ask every question. Raises Rejected or Conflict when a name means nobody or two."""
    a, b = find_party(inputs, source), find_target(inputs, target)
    if isinstance(b, Outside):
        steps = tuple(_steps_outside(inputs, a, b, traffic))
    elif a.member.index == b.member.index:
        steps = tuple(_same_node(inputs, a, b))
    else:
        steps = tuple(_steps(inputs, a, b, traffic))
    return Walk(a, b, traffic, steps)


def find_party(inputs: WhyInputs, text: str) -> Party:
    """A member or device by name, node id or overlay address; a workload of this node by name."""
    if (address := _address(text)) is not None:
        return _by_address(inputs, text, address)
    matches = [m for m in inputs.members if text in (m.name, m.node) and m.kind != "invitation"]
    workload = next((w for w in inputs.network.attachments if w.name == text), None)
    if workload is not None and not matches:
        return _by_address(
            inputs, text, addressing.address_of(InterfaceAddress(workload.address_v4))
        )
    if len(matches) > 1 or (matches and workload is not None):
        ids = [m.node or f"device at index {m.index}" for m in matches]
        both = ", ".join([*ids, *(["a workload here"] if workload is not None else [])])
        raise Conflict(f"{text!r} is {both}", remedy="give an id or an address")
    if not matches:
        known = ", ".join(sorted(m.name for m in inputs.members if m.kind != "invitation"))
        raise Rejected(
            f"{inputs.network.name} has nobody called {text!r}", remedy=f"known: {known}"
        )
    return Party(text, matches[0], _subnets(inputs.network, matches[0].index))


def find_target(inputs: WhyInputs, text: str) -> Party | Outside:
    """Like `find_party`; an address of no network is one in the internet."""
    address = _address(text)
    ranges = (Prefix(inputs.network.range_v4), Prefix(inputs.network.range_v6))
    if address is not None and not any(addressing.contains(each, address) for each in ranges):
        return Outside(text, address)
    return find_party(inputs, text)


def carrier(network: NetworkStatus, far: Party) -> PeerStatus | None:
    """The peer that carries the traffic: the far end, or the node that a device hangs on."""
    for peer in network.peers:
        if peer.index == far.member.index:
            return peer
    via = far.member.via
    return next((peer for peer in network.peers if via is not None and peer.node == via), None)


def _steps(inputs: WhyInputs, a: Party, b: Party, traffic: Traffic) -> Iterator[Step]:
    yield _network(inputs.network)
    yield _policy(inputs.network, a, b, traffic)
    yield _membership(a)
    yield _membership(b)
    here = _here(inputs, a, b)
    if here is None:
        elsewhere = f"{_name(inputs)} is neither {a.text} nor {b.text}"
        yield Step("peer", "unknown", elsewhere, f"ask on the node of {a.text} or {b.text}")
        return
    far = b if here is a else a
    yield from _path(inputs, far)
    yield _firewall(inputs)
    yield _workload(inputs, b, is_here=here is b)
    yield _mtu(inputs.network)


def _same_node(inputs: WhyInputs, a: Party, b: Party) -> Iterator[Step]:
    """Both ends hang on one bridge: no peer and no tunnel is between them."""
    yield _network(inputs.network)
    yield _membership(a)
    is_here = a.member.index == inputs.network.index
    if not is_here:
        yield Step("workload", "unknown", f"both are on {a.member.name}", "ask there")
        return
    yield Step("bridge", "ok", f"{a.text} and {b.text} are on the bridge of this node")
    yield _firewall(inputs)
    yield _workload(inputs, b, is_here=True)


def _steps_outside(inputs: WhyInputs, a: Party, b: Outside, traffic: Traffic) -> Iterator[Step]:
    """What keeps something on this node from somebody in the internet (CLI-031)."""
    network = inputs.network
    yield _network(network)
    yield _membership(a)
    if network.index != a.member.index and a.member.via != inputs.node:
        evidence = f"{_name(inputs)} does not know by which exit {a.member.name} leaves"
        yield Step("way out", "unknown", evidence, f"ask on {a.member.name}")
        return
    yield _way_out(network)
    yield _guard(network, b, traffic)
    exit_ = network.way_out.exit if network.way_out is not None else None
    if exit_ is not None:
        peer = next((peer for peer in network.peers if peer.name == exit_), None)
        yield from _path_to(peer, exit_)
    yield _firewall(inputs)
    yield _mtu(network)
    if exit_ is not None:
        beyond = f"only {exit_} knows what its operator refuses and who answers it"
        yield Step("exit", "unknown", beyond, f"on {exit_}: zos status")


def _way_out(network: NetworkStatus) -> Step:
    way = network.way_out
    if way is None:
        return Step(
            "way out",
            "no",
            f"{network.name} names no exit, so nothing leaves it",
            f"zos network exit set {network.name} NODE",
        )
    if way.is_here:
        return Step("way out", "unknown", "this node is an exit; does it stand?", "zos status")
    if way.exit is None:
        failed = f"; not healthy: {', '.join(way.failed)}" if way.failed else ""
        remedy = "on the exit: zos status; of the network: zos network exit show " + network.name
        return Step("way out", "no", f"no exit can be used ({way.reason}){failed}", remedy)
    because = f": {way.reason}" if way.reason else ""
    return Step("way out", "ok", f"by {way.exit} for {way.since_s} s{because}")


def _guard(network: NetworkStatus, b: Outside, traffic: Traffic) -> Step:
    special = guards.SPECIAL_V6 if ":" in b.address else guards.SPECIAL_V4
    held = next((prefix for prefix in special if addressing.contains(prefix, b.address)), None)
    if held is not None:
        evidence = f"{b.address} is in {held}: exits refuse it unless their operator allows it"
        return Step("guard", "unknown", evidence, "zos exit offer FARM NODE --allow PREFIX")
    if traffic.protocol == "tcp" and traffic.port == SMTP_PORT:
        remedy = f"use a submission port, or an exit whose operator allows mail ({network.name})"
        return Step("guard", "unknown", "exits send no mail unless their operator says so", remedy)
    return Step("guard", "ok", f"{b.address} is a place in the internet")


def _network(network: NetworkStatus) -> Step:
    evidence = f"{network.name} version {network.version} is {network.state}"
    if network.state == "up":
        return Step("network", "ok", evidence)
    if network.state == "converging":
        return Step("network", "unknown", f"{evidence}: {network.message}", network.remedy)
    return Step("network", "no", f"{evidence}: {network.message}", network.remedy)


def _policy(network: NetworkStatus, a: Party, b: Party, traffic: Traffic) -> Step:
    if network.policy is None:
        return Step("policy", "ok", "no rules: everything inside the network is allowed")
    for n, rule in enumerate(network.policy, 1):
        if _is_between(rule, a, b) and _is_of(rule, traffic):
            return Step("policy", "ok", f"rule {n} allows {_rule(rule)}")
    near = [n for n, rule in enumerate(network.policy, 1) if _is_between(rule, a, b)]
    also = f"; rule {near[0]} allows only {_rule(network.policy[near[0] - 1])}" if near else ""
    return Step(
        "policy",
        "no",
        f"none of {len(network.policy)} rules allows {a.text} to send {b.text} {traffic}{also}",
        f'add [[policy]] from = ["{a.member.name}"], to = ["{b.member.name}"] to the network file '
        f"and run: zos network publish {network.name}",
    )


def _membership(party: Party) -> Step:
    member = party.member
    if member.member:
        place = f"via {member.via}" if member.via is not None else f"index {member.index}"
        return Step("membership", "ok", f"{member.name} is in the network ({place})")
    if member.refusal is not None:
        return Step(
            "membership",
            "no",
            f"{member.name} is refused: {member.refusal}",
            f"see status of {member.name}",
        )
    return Step(
        "membership",
        "no",
        f"{member.name} is listed, but has not joined",
        f"start the node {member.name}; on it: zos status",
    )


def _path(inputs: WhyInputs, far: Party) -> Iterator[Step]:
    """Peer, endpoint and handshake towards the far end, or towards the node it hangs on."""
    yield from _path_to(carrier(inputs.network, far), far.member.name)


def _path_to(peer: PeerStatus | None, name: str) -> Iterator[Step]:
    if peer is None:
        yield Step("peer", "no", f"the device has no peer {name}", "see: zos status")
        return
    yield Step("peer", "ok", f"{peer.name} may send from {', '.join(peer.allowed_ips)}")
    yield _endpoint(peer)
    yield _handshake(peer)


def _endpoint(peer: PeerStatus) -> Step:
    if peer.endpoint is not None:
        because = f": {peer.relayed_because}" if peer.relayed_because else ""
        return Step("endpoint", "ok", f"{peer.name} is at {peer.endpoint} ({peer.way}{because})")
    if peer.kind == "access":
        return Step(
            "endpoint", "unknown", f"{peer.name} has not connected yet", "wg-quick up on it"
        )
    if peer.candidates:
        return Step("endpoint", "unknown", f"{peer.name} offers {', '.join(peer.candidates)}")
    return Step(
        "endpoint",
        "no",
        f"{peer.name} offers no endpoint, and none was seen",
        f"declare one on {peer.name}: zos node run --endpoint ADDRESS:PORT",
    )


def _handshake(peer: PeerStatus) -> Step:
    age = peer.handshake_age_s
    if age is not None and age <= HANDSHAKE_STALE_S:
        return Step("handshake", "ok", f"{age} s ago; {peer.rx_bytes} B in, {peer.tx_bytes} B out")
    past = "never" if age is None else f"{age} s ago"
    if peer.state == "idle":
        return Step(
            "handshake", "unknown", f"{past}; nothing is being sent", f"zos ping {peer.name}"
        )
    return Step(
        "handshake",
        "no",
        f"{past}; {peer.tx_bytes} B went out and {peer.rx_bytes} B came in",
        f"let UDP to {peer.endpoint or 'its endpoint'} pass, and see zos status on {peer.name}",
    )


def _firewall(inputs: WhyInputs) -> Step:
    drift = [planned.change for planned in inputs.drift if planned.network == inputs.network.id]
    if not inputs.firewall_loaded:
        return Step(
            "firewall", "no", "its rules are not loaded, so everything is dropped", "zos doctor"
        )
    if drift:
        evidence = f"loaded, but the kernel lacks {len(drift)} change(s): {drift[0]}"
        return Step("kernel", "no", evidence, "see: zos status, and the node's log")
    return Step("firewall", "ok", "loaded, and the kernel holds all that it should")


def _workload(inputs: WhyInputs, b: Party, *, is_here: bool) -> Step:
    if b.address is None:
        return Step("workload", "ok", f"the gateway of {b.member.name} answers by itself")
    if b.address in _gateways(b):
        return Step("workload", "ok", f"{b.address} is the gateway of {b.member.name}")
    if not is_here:
        return Step(
            "workload",
            "unknown",
            f"only {b.member.name} knows who has {b.address}",
            f"ask on {b.member.name}",
        )
    network = inputs.network
    for workload in network.attachments:
        held = (workload.address_v4.partition("/")[0], workload.address_v6.partition("/")[0])
        if b.address in held:
            return Step("workload", "ok", f"{b.address} is {workload.name} ({workload.netns})")
    return Step(
        "workload",
        "no",
        f"nobody on this node has {b.address}",
        f"zos attach {network.name} NAME --netns PATH",
    )


def _mtu(network: NetworkStatus) -> Step:
    if network.mtu_bytes is None:
        return Step("mtu", "unknown", "the device is not there yet")
    if network.mtu_bytes < addressing.MTU_MIN_BYTES:
        return Step(
            "mtu",
            "no",
            f"{network.mtu_bytes} bytes are less than IPv6 needs ({addressing.MTU_MIN_BYTES})",
            "raise the MTU of the underlay",
        )
    return Step("mtu", "ok", f"{network.mtu_bytes} bytes; TCP segments are clamped to it")


def _here(inputs: WhyInputs, a: Party, b: Party) -> Party | None:
    return next((party for party in (a, b) if party.member.index == inputs.network.index), None)


def _name(inputs: WhyInputs) -> str:
    return inputs.network.member_name or "this node"


def _is_between(rule: RuleStatus, a: Party, b: Party) -> bool:
    return _holds(rule.source, a) and _holds(rule.to, b)


def _holds(prefixes: tuple[str, ...], party: Party) -> bool:
    return any(
        addressing.contains(Prefix(prefix), address)
        for prefix in prefixes
        for address in party.addresses
    )


def _is_of(rule: RuleStatus, traffic: Traffic) -> bool:
    if rule.protocol == "any":
        return True
    if rule.protocol != traffic.protocol:
        return False
    return not rule.ports or any(_is_in(traffic.port, ports) for ports in rule.ports)


def _is_in(port: int | None, ports: str) -> bool:
    first, _, last = ports.partition("-")
    return port is not None and int(first) <= port <= int(last or first)


def _rule(rule: RuleStatus) -> str:
    return f"{rule.protocol}/{','.join(rule.ports)}" if rule.ports else rule.protocol


def _gateways(party: Party) -> tuple[Address, ...]:
    """The addresses that the party's node holds itself."""
    host = addressing.GATEWAY_HOST
    return tuple(addressing.address_of(addressing.host_address(s, host)) for s in party.subnets)


def _address(text: str) -> Address | None:
    try:
        return addressing.parse_address(text)
    except OverlayError:
        return None


def _by_address(inputs: WhyInputs, text: str, address: Address) -> Party:
    # Invitations last: a node that joined by one is a member of its own.
    for member in sorted(inputs.members, key=lambda m: m.kind == "invitation"):
        for index in range(member.index, member.index + member.uses):
            subnets = _subnets(inputs.network, index)
            if any(addressing.contains(subnet, address) for subnet in subnets):
                return Party(text, member, subnets, address)
    raise Rejected(
        f"{address} is in nobody's subnet of {inputs.network.name}",
        remedy=f"its ranges are {inputs.network.range_v4} and {inputs.network.range_v6}",
    )


def _subnets(network: NetworkStatus, index: int) -> tuple[Prefix, Prefix]:
    return (
        addressing.subnet_v4(Prefix(network.range_v4), index),
        addressing.subnet_v6(Prefix(network.range_v6), index),
    )
