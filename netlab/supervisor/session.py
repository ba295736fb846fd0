"""One lab while it lives: what is asked of it is done here, and written down.

Everything that changes a lab while it runs goes through these methods, whoever asks: commands,
the timeline of the file, the web page.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import msgspec

from netlab.impairment import Both
from netlab.lab import Lab
from netlab.supervisor.counters import LinkCounters
from netlab.supervisor.crew import Crew
from netlab.supervisor.journal import Journal
from netlab.supervisor.linkchange import changed, describe
from netlab.supervisor.places import Place
from netlab.supervisor.snapshot import Known, compose
from netlab.supervisor.status import (
    Build,
    Counters,
    LabState,
    LabStatus,
    LinkChange,
    LinkRequest,
    PowerVerb,
)
from netlab.supervisor.tunnels import ZosView
from netlab.topology import Topology
from netlab.wiring.changes import AddCable, Impair, SetMtu
from netlab.wiring.plan import Plan
from netlab.wiring.wirer import wire
from netlab.wiring.wiring import Cable
from overlay.errors import Rejected, Unavailable

POWER_WORDS: Mapping[PowerVerb, str] = {
    "kill": "has lost its power",
    "restart": "has been started again",
    "pause": "is paused",
    "resume": "goes on",
}


class Session:
    """Of the supervisor's event loop. `stopping` is set when the lab shall end."""

    def __init__(self, topology: Topology, *, place: Place, journal: Journal) -> None:
        self.topology = topology
        self.place = place
        self.journal = journal
        self.zos = ZosView(journal.tell)
        self.stopping = asyncio.Event()
        self.keeps_workdir = False
        self._wiring = wire(topology)
        self._state: LabState = "building"
        self._build: Build | None = Build("keeper", 0, 1)
        self._began_at = time.time()
        self._ready_after_s: float | None = None
        self._lab: Lab | None = None
        self._crew: Crew | None = None
        self._counters: LinkCounters | None = None
        self._cut: set[str] = set()
        self._mtus: dict[str, int] = {}
        self._impaired: dict[str, Both] = {}
        self._back_ends: dict[str, str] = {}
        self._parts: tuple[tuple[str, ...], ...] = ()
        self._switches: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def lab(self) -> Lab:
        """Raises Unavailable while its namespaces are not there yet."""
        if self._lab is None or self._state == "ending":
            raise Unavailable(
                f"{self.topology.name} is {self._state}", remedy="wait for zos lab up to return"
            )
        return self._lab

    @property
    def crew(self) -> Crew:
        """Raises Unavailable while its zos is not up yet."""
        if self._crew is None or self._state == "ending":
            raise Unavailable(
                f"{self.topology.name} is {self._state}", remedy="wait for zos lab up to return"
            )
        return self._crew

    # Its life.

    def note_progress(self, phase: str, done: int, total: int) -> None:
        """How far the build is. A phase stands in the journal when it begins."""
        if self._build is None or self._build.phase != phase:
            self.journal.tell("phase", "", phase, total=total)
        self._build = Build(phase, done, total)

    async def note_lab(self, lab: Lab) -> None:
        """Its namespaces are there."""
        self._lab = lab
        self._counters = LinkCounters(lab)
        lab.call_when_pump_replaced(self._note_pump)
        for cable in self._wiring.cables:
            if cable.impaired:
                await self._note_impairment(cable)

    def _note_pump(self, times: int) -> None:
        text = "the pump of the impaired links has ended and was replaced; what it held is lost"
        self.journal.tell("impairment", "", text, times=times)

    def note_ready(self, crew: Crew) -> None:
        self._crew = crew
        self._state = "ready"
        self._build = None
        self._ready_after_s = self.journal.age_s
        self.journal.tell("ready", "", "the lab is up", after_s=self._ready_after_s)

    def end(self, why: str) -> None:
        """The lab ends soon. The first reason is the one that is told."""
        if not self.stopping.is_set():
            self._state = "ending"
            self.journal.tell("end", "", why)
            self.stopping.set()

    # What is done to it.

    async def change_link(self, asked: LinkRequest) -> str:
        """What is asked, of the one link that is meant; safe to repeat. A sentence that says so."""
        cable = self._wiring.cable(asked.link)
        said = []
        if asked.mtu_bytes is not None:
            await self.lab.set_mtu(cable.name, asked.mtu_bytes)
            self._mtus[cable.name] = asked.mtu_bytes
            said.append(f"has an MTU of {asked.mtu_bytes}")
            self.journal.tell("link", cable.name, said[-1], mtu_bytes=asked.mtu_bytes)
        if asked.clear or asked.change != LinkChange():
            both = changed((await self.lab.impaired(cable.name)).both, asked)
            said.append(await self._impair(cable, both))
        if asked.plugged is not None:
            await (self.lab.plug(cable.name) if asked.plugged else self.lab.cut(cable.name))
            (self._cut.discard if asked.plugged else self._cut.add)(cable.name)
            said.append("is plugged" if asked.plugged else "is cut")
            self.journal.tell("link", cable.name, said[-1], plugged=asked.plugged)
        if not said:
            raise Rejected("what shall change?", remedy="see zos lab link set --help")
        return f"{cable.name} {', '.join(said)}"

    async def impair(self, text: str, both: Both) -> str:
        """From now on the one link that is meant does this to its packets, and nothing else."""
        cable = self._wiring.cable(text)
        return f"{cable.name} {await self._impair(cable, both)}"

    async def _impair(self, cable: Cable, both: Both) -> str:
        await self.lab.impair(cable.name, both)
        await self._note_impairment(cable)
        plain = msgspec.to_builtins(both)
        self.journal.tell("impairment", cable.name, describe(both), impaired=plain)
        return f"does to packets: {describe(both)}"

    async def _note_impairment(self, cable: Cable) -> None:
        """What is in force on a link, and who does it."""
        impaired = await self.lab.impaired(cable.name)
        self._impaired[cable.name] = impaired.both
        ways = {"up": impaired.up, "down": impaired.down}
        said = {
            way: f"{'+'.join(each.back_ends)} ({each.error})"
            for way, each in ways.items()
            if each.back_ends
        }
        alike = len(set(said.values())) == 1 and len(said) == len(ways)
        words = said["up"] if alike else "; ".join(f"{way}: {by}" for way, by in said.items())
        self._back_ends[cable.name] = words

    async def partition(self, parts: Sequence[Sequence[str]]) -> str:
        """Cut the network in parts; with no part at all it is whole again."""
        wanted = tuple(tuple(part) for part in parts)
        if not wanted:
            await self.lab.heal()
            words = "the network is whole"
        else:
            await self.lab.partition(*wanted)
            words = f"apart: {' | '.join(','.join(part) for part in wanted)}"
        self._parts = wanted
        self.journal.tell("partition", "", words, parts=wanted)
        return words

    async def apply(self, topology: Topology) -> Plan:
        """The lab becomes what the topology says; what was done to links that stay, stays."""
        done = await self.lab.apply(topology)
        self.topology, self._wiring = topology, self.lab.wiring
        gone = self._cut | self._mtus.keys() | self._impaired.keys()
        gone -= {cable.name for cable in self._wiring.cables}
        gone |= {each.cable.name for each in done.changes if isinstance(each, AddCable)}
        self._cut -= gone
        for known in (self._mtus, self._impaired, self._back_ends):
            for name in gone & known.keys():
                del known[name]
        for change in done.changes:
            if isinstance(change, Impair):
                await self._note_impairment(change.cable)
            elif isinstance(change, SetMtu):
                self._mtus.pop(change.cable.name, None)
            self.journal.tell("plan", change.subject, change.text)
        self._counters = LinkCounters(self.lab)
        return done

    async def reboot_nat(self, router: str) -> str:
        await self.lab.reboot_nat(router)
        words = f"{router} has forgotten all translations"
        self.journal.tell("nat", router, words)
        return words

    async def power(self, name: str, verb: PowerVerb) -> str:
        """Cut a node's power, switch it on again with all that runs on it, stop it or let it go on.

        Safe to repeat; wishes for one node are granted one after the other.
        """
        node = self.lab.node(name)
        async with self._switches[name]:
            match verb:
                case "kill":
                    await node.kill()
                case "pause":
                    await node.pause()
                case "resume":
                    await node.resume()
                case "restart":
                    await node.restart()
                    await self.crew.start(name)
            words = POWER_WORDS[verb]
            self.journal.tell("node", name, words)
        return f"{name} {words}"

    # What it looks like.

    async def observe(self, *, fresh: bool, counted: bool) -> LabStatus:
        """With `fresh` every zos node is asked first; with `counted` links have counters."""
        if fresh and self._crew is not None:
            nodes = [
                self.lab.node(node.name) for node in self.topology.nodes if node.role == "node"
            ]
            # One that is stopped would let everybody wait.
            await self.zos.refresh(node for node in nodes if node.state == "running")
        return self._compose(self._counters.read() if counted and self._counters else {})

    def _compose(self, counters: Mapping[str, Counters]) -> LabStatus:
        known = Known(
            state=self._state,
            build=self._build,
            began_at=self._began_at,
            ready_after_s=self._ready_after_s,
            at=time.time(),
            lab_s=self.journal.age_s,
            last_event=self.journal.last,
            pid=os.getpid(),
            keeper_pid=self._lab.keeper_pid if self._lab is not None else None,
            workdir=str(self.place.workdir),
            registry=self._crew.registry if self._crew is not None else "",
            network_ids=self._crew.network_ids if self._crew is not None else {},
            parts=self._parts,
            cut=frozenset(self._cut),
            mtus=self._mtus,
            impaired=self._impaired,
            back_ends=self._back_ends,
            nodes={name: node.state for name, node in self._lab.nodes.items()} if self._lab else {},
            zos=self.zos.latest,
            counters=counters,
        )
        return compose(self._wiring, known)
