"""What a simulated world is made of and what happens to it: values, and their JSON.

A scenario is whole: nothing in it is drawn again when it is read, so a committed one stays what it
was. Any part can be left out and the others remain what they were: sites, nodes and networks are
spoken of by numbers of their own, which also say what each of them meets by chance; and a
transition that finds nothing to do does nothing.
"""

from __future__ import annotations

import msgspec

from netlab.nat import Nat
from overlay.documents.exits import MAX_EXITS, MAX_ORDER
from overlay.errors import Rejected
from overlay.model import Family

FORMAT = 1
MAX_NODES = 10_000
MAX_SITES = 511  # as many /24s as 198.18.0.0/15 has, but for the first
MAX_NETWORKS = 16_384
MAX_TRANSITIONS = 100_000
TROUBLE_S = (10.0, 120.0)  # from when to when things happen in a drawn scenario


class Site(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where nodes are: a LAN and its way to the internet.

    Without `nat` its hosts have public IPv4 addresses. `firewall` is about IPv6: stateful lets
    nothing new in.
    """

    number: int
    families: tuple[Family, ...]
    nat: Nat | None = None
    firewall: bool = False
    delay_s: float = 0.01  # to the core, one way
    loss: float = 0.0  # of packets, to the core and from it, while it is not quiet


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`declared`: its operator says that it can be reached, and sees to it at its first site."""

    number: int
    site: int
    declared: bool = False


class Exit(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A member that its operator offers and the tenant names as a way to the internet."""

    node: int
    order: int = 0


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant network and the nodes that it names in the beginning."""

    number: int
    members: tuple[int, ...]
    exits: tuple[Exit, ...] = ()


class Transition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=str.lower):
    """What happens at `at` virtual seconds."""

    at: float


class Join(Transition, frozen=True):
    """The tenant names the node."""

    network: int
    node: int


class Leave(Transition, frozen=True):
    """The tenant takes the node out, and says that it was removed."""

    network: int
    node: int


class Grant(Transition, frozen=True):
    """The tenant lets one more access device in, by way of the node."""

    network: int
    node: int


class Withdraw(Transition, frozen=True):
    """The tenant takes the node's access devices out."""

    network: int
    node: int


class Roam(Transition, frozen=True):
    """The node's links are at another site from now on."""

    node: int
    site: int


class Split(Transition, frozen=True):
    """The sites reach each other and whoever else is on this side, and nobody else.

    The registry is on every side with an even number.
    """

    sites: tuple[int, ...]
    side: int


class Outage(Transition, frozen=True):
    """The registry answers nobody for so long."""

    seconds: float


class Forget(Transition, frozen=True):
    """The site's router reboots: its NAT and its firewall have no memory."""

    site: int


class Renumber(Transition, frozen=True):
    """The site's router gets another public IPv4 address."""

    site: int


class Restart(Transition, frozen=True):
    """The node is away for so long and begins again from its disk.

    Its WireGuard devices live on meanwhile; after a reboot they are gone.
    """

    node: int
    reboot: bool
    seconds: float


class Sleep(Transition, frozen=True):
    """The node does nothing for so long."""

    node: int
    seconds: float


class Flow(Transition, frozen=True):
    """Traffic of the tenant: the source sends until it is answered, for at most so long."""

    network: int
    source: int
    target: int
    seconds: float


class Surf(Transition, frozen=True):
    """Somebody behind the member sends to the internet for so long."""

    network: int
    node: int
    seconds: float


class Name(Transition, frozen=True):
    """The tenant names the member as an exit, or gives it another order."""

    network: int
    node: int
    order: int


class Unname(Transition, frozen=True):
    """The tenant takes the exit back; it stays a member."""

    network: int
    node: int


class Drain(Transition, frozen=True):
    """The node's operator drains it as an exit: it is none after so long, and then offered anew."""

    node: int
    seconds: float


class Cut(Transition, frozen=True):
    """As an exit the node lets nothing out for so long; as a member it is well."""

    node: int
    seconds: float


class Replay(Transition, frozen=True):
    """The registry sends the node the oldest document of each kind it ever had."""

    network: int
    node: int


Transitions = (
    Join
    | Leave
    | Grant
    | Withdraw
    | Roam
    | Split
    | Outage
    | Forget
    | Renumber
    | Restart
    | Sleep
    | Flow
    | Surf
    | Name
    | Unname
    | Drain
    | Cut
    | Replay
)


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`seed` is of what happens by chance in the world: loss, jitter, when to try again.

    `heals`: when it gets quiet, split sites come back together; else they stay apart.
    """

    seed: int
    sites: tuple[Site, ...]
    nodes: tuple[Node, ...]
    networks: tuple[Network, ...]
    transitions: tuple[Transitions, ...] = ()  # in the order of their times
    heals: bool = True
    format: int = FORMAT


def encode(scenario: Scenario) -> bytes:
    """JSON with a line for each site, node, network and transition."""
    fields = []
    for field in scenario.__struct_fields__:
        value = getattr(scenario, field)
        text = msgspec.json.encode(value).decode()
        if isinstance(value, tuple) and value:
            rows = ",\n".join(f"  {msgspec.json.encode(item).decode()}" for item in value)
            text = f"[\n{rows}\n ]"
        fields.append(f' "{field}": {text}')
    return ("{\n" + ",\n".join(fields) + "\n}\n").encode()


def parse(raw: bytes) -> Scenario:
    """The scenario in `raw`. Raises Rejected, naming the field, unless all it names is there."""
    try:
        scenario = msgspec.json.decode(raw, type=Scenario)
    except msgspec.DecodeError as exc:
        message, _, where = str(exc).partition(" - at ")
        raise Rejected(message, field=where.strip("`") or None) from exc
    check(scenario)
    return scenario


def check(scenario: Scenario) -> None:
    """Raise Rejected unless every number is given once, and names something where it is used."""
    if scenario.format != FORMAT:
        raise Rejected(f"format {scenario.format} is not {FORMAT}", field="format")
    known: dict[str, set[int]] = {}
    for field, most in (("sites", MAX_SITES), ("nodes", MAX_NODES), ("networks", MAX_NETWORKS)):
        numbers = [item.number for item in getattr(scenario, field)]
        known[field] = set(numbers)
        if len(known[field]) < len(numbers):
            raise Rejected("a number is given twice", field=field)
        if numbers and not 0 <= min(numbers) <= max(numbers) < most:
            raise Rejected(f"a number is not between 0 and {most - 1}", field=field)
    if len(scenario.transitions) > MAX_TRANSITIONS:
        raise Rejected(f"more than {MAX_TRANSITIONS} transitions", field="transitions")
    for group in ("nodes", "networks", "transitions"):
        for n, item in enumerate(getattr(scenario, group)):
            _check_numbers(item, f"{group}[{n}]", known)
            _check_exits(item, f"{group}[{n}]")
    times = [transition.at for transition in scenario.transitions]
    if times != sorted(times):
        raise Rejected("transitions are not in the order of their times", field="transitions")


def _check_exits(item: msgspec.Struct, where: str) -> None:
    if isinstance(item, Name):
        _check_order(item.order, f"{where}.order")
    if not isinstance(item, Network):
        return
    nodes = [each.node for each in item.exits]
    if len(nodes) > MAX_EXITS:
        raise Rejected(f"more than {MAX_EXITS} exits", field=f"{where}.exits")
    if len(set(nodes)) < len(nodes):
        raise Rejected("a node is given twice", field=f"{where}.exits")
    for n, each in enumerate(item.exits):
        if each.node not in item.members:
            raise Rejected(f"{each.node} is no member", field=f"{where}.exits[{n}].node")
        _check_order(each.order, f"{where}.exits[{n}].order")


def _check_order(order: int, where: str) -> None:
    if not 0 <= order <= MAX_ORDER:
        raise Rejected(f"an order is not between 0 and {MAX_ORDER}", field=where)


_NAMED = {
    "site": "sites",
    "sites": "sites",
    "network": "networks",
    "node": "nodes",
    "source": "nodes",
    "target": "nodes",
    "members": "nodes",
}


def _check_numbers(item: msgspec.Struct, where: str, known: dict[str, set[int]]) -> None:
    for field in _NAMED.keys() & set(item.__struct_fields__):
        value = getattr(item, field)
        for number in value if isinstance(value, tuple) else (value,):
            if number not in known[_NAMED[field]]:
                raise Rejected(f"there is no {number} in {_NAMED[field]}", field=f"{where}.{field}")
