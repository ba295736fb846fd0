"""Where packets come out: sites with routers around a core, in both families.

Decides for one packet at a time, when it is sent; a packet is no object. Roaming hosts keep their
ports and get other addresses.
"""

from __future__ import annotations

from collections.abc import Iterable

from netlab.sim import scenario
from netlab.sim.chance import Chance
from netlab.sim.nat import FlowTable, NatTable
from overlay.model import Address, Endpoint, InterfaceAddress
from overlay.peers.candidates import Surroundings

LAN_DELAY_S = 0.0005
JITTER = 0.2  # of the delay, at most
LAN_PLANS = 8  # many home routers give out the same prefixes: neighbours that are none
HOSTS = 250
FIRST_HOST = 2


class Site:
    """A LAN, its router and who is there now."""

    __slots__ = (
        "_public",
        "_wan",
        "delay_s",
        "flows",
        "has_v4",
        "has_v6",
        "hosts",
        "lan_v4",
        "lan_v6",
        "loss",
        "nat",
        "side",
        "spec",
        "wan",
    )

    def __init__(self, spec: scenario.Site) -> None:
        number = spec.number + 1  # 2001:db8:0::/48 would be written in another way
        self.spec = spec
        self.side = 0
        self.delay_s = spec.delay_s
        self.loss = spec.loss
        self.has_v4, self.has_v6 = 4 in spec.families, 6 in spec.families
        self.nat = NatTable(spec.nat) if spec.nat is not None and self.has_v4 else None
        self.flows = FlowTable() if spec.firewall else None
        self._public = f"198.{18 + (number >> 8)}.{number & 255}."
        self._wan = 1
        self.lan_v4 = f"192.168.{spec.number % LAN_PLANS}." if self.nat else self._public
        self.lan_v6 = f"2001:db8:{number:x}::"
        self.wan = Address(f"{self._public}{self._wan}")
        self.hosts: dict[Address, Host] = {}

    def renumber(self) -> None:
        """Another public address; what was mapped at the old one is gone with it."""
        self._wan = self._wan % HOSTS + 1
        self.wan = Address(f"{self._public}{self._wan}")
        if self.nat is not None:
            self.nat.reboot()

    def reboot(self) -> None:
        for table in (self.nat, self.flows):
            if table is not None:
                table.reboot()

    def _free_number(self, wanted: int) -> int:
        for shift in range(HOSTS):
            number = FIRST_HOST + (wanted + shift) % HOSTS
            if f"{self.lan_v4}{number}" not in self.hosts and (
                f"{self.lan_v6}{number:x}" not in self.hosts
            ):
                return number
        raise AssertionError(f"more than {HOSTS} hosts at one site")

    def admit(self, host: Host) -> None:
        """The host gets the addresses of this site."""
        number = self._free_number(host.number)
        host.site = self
        host.v4 = Address(f"{self.lan_v4}{number}") if self.has_v4 else None
        host.v6 = Address(f"{self.lan_v6}{number:x}") if self.has_v6 else None
        for address in host.addresses:
            self.hosts[address] = host


class Host:
    """A node's place in the underlay."""

    __slots__ = ("chance", "number", "site", "v4", "v6")

    def __init__(self, number: int, site: Site, *, chance: Chance) -> None:
        self.number = number
        self.chance = chance
        self.v4: Address | None = None
        self.v6: Address | None = None
        self.site = site
        site.admit(self)

    @property
    def addresses(self) -> tuple[Address, ...]:
        return tuple(address for address in (self.v4, self.v6) if address is not None)

    @property
    def surroundings(self) -> Surroundings:
        found = []
        if self.v4 is not None:
            found.append(InterfaceAddress(f"{self.v4}/24"))
        if self.v6 is not None:
            found.append(InterfaceAddress(f"{self.v6}/64"))
        return Surroundings(addresses=tuple(found))


Arrival = tuple[
    Host, int, Endpoint, float
]  # who, at which port, from where as seen, after how long


class Internet:
    """All sites, and the core between them."""

    def __init__(self, specs: Iterable[scenario.Site]) -> None:
        self.sites = {spec.number: Site(spec) for spec in specs}
        self._routers: dict[Address, Site] = {
            site.wan: site for site in self.sites.values() if site.nat is not None
        }
        self._open: dict[Address, Host] = {}
        self.is_quiet = False  # nothing is lost

    def add(self, node: scenario.Node, *, chance: Chance) -> Host:
        host = Host(node.number, self.sites[node.site], chance=chance)
        self._announce(host)
        return host

    def move(self, host: Host, site: int) -> None:
        for address in host.addresses:
            host.site.hosts.pop(address, None)
            self._open.pop(address, None)
        self.sites[site].admit(host)
        self._announce(host)

    def renumber(self, site: int) -> None:
        there = self.sites[site]
        if there.nat is None:
            return
        del self._routers[there.wan]
        there.renumber()
        self._routers[there.wan] = there

    def _announce(self, host: Host) -> None:
        if host.v4 is not None and host.site.nat is None:
            self._open[host.v4] = host
        if host.v6 is not None:
            self._open[host.v6] = host

    def route_v4(self, host: Host, port: int, to: Endpoint, now: float) -> Arrival | None:
        """Where a packet comes out; None when nowhere. Routers on the way remember it."""
        here, own, address = host.site, host.v4, to.address
        if own is None:
            return None
        if address.startswith(here.lan_v4) and (here.nat or address in here.hosts):
            there = here.hosts.get(address)
            return None if there is None else (there, to.port, Endpoint(own, port), LAN_DELAY_S)
        as_seen, nat = own, here.nat
        if nat is not None:
            as_seen, port = here.wan, nat.outbound((own, port), to, now=now)
            if address == as_seen and not nat.nat.hairpin:
                return None
        router = self._routers.get(address)
        if router is None:
            target = self._open.get(address)
            if target is None or target.site.side != here.side:
                return None
            return self._over_core(host, target, to.port, Endpoint(as_seen, port))
        if router.side != here.side or router.nat is None:
            return None
        seen = Endpoint(as_seen, port)
        inner = router.nat.inbound(to.port, seen, now=now)
        target = router.hosts.get(inner[0]) if inner is not None else None
        if target is None or inner is None:
            return None
        return self._over_core(host, target, inner[1], seen)

    def route_v6(self, host: Host, port: int, to: Endpoint, now: float) -> Arrival | None:
        here, own = host.site, host.v6
        target = self._open.get(to.address)
        if own is None:
            return None
        seen = Endpoint(own, port)
        if target is not None and target.site is here:
            return target, to.port, seen, LAN_DELAY_S
        if here.flows is not None:
            here.flows.note(seen, to, now=now)
        if target is None or target.site.side != here.side:
            return None
        flows = target.site.flows
        if flows is not None and not flows.admits(seen, to, now=now):
            return None
        return self._over_core(host, target, to.port, seen)

    def _over_core(self, host: Host, target: Host, port: int, seen: Endpoint) -> Arrival | None:
        here, there = host.site, target.site
        loss = here.loss + there.loss
        if loss and not self.is_quiet and host.chance.random() < loss:
            return None
        delay_s = (here.delay_s + there.delay_s) * (1.0 + JITTER * host.chance.random())
        return target, port, seen, delay_s
