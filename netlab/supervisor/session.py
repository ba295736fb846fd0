"""One lab while it lives: what is asked of it is done here, and written down.

Everything that changes a lab while it runs goes through these methods, whoever asks: commands,
the timeline of the file, the web page.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence

from netlab.lab import Lab
from netlab.supervisor.counters import LinkCounters
from netlab.supervisor.crew import Crew
from netlab.supervisor.journal import Journal
from netlab.supervisor.places import Place
from netlab.supervisor.snapshot import Known, compose
from netlab.supervisor.status import Build, Counters, LabState, LabStatus, NodeState
from netlab.supervisor.tunnels import ZosView
from netlab.topology import Topology
from netlab.wiring.wirer import wire
from overlay.errors import Unavailable


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
        self._parts: tuple[tuple[str, ...], ...] = ()
        self._nodes: dict[str, NodeState] = {}

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

    def note_lab(self, lab: Lab) -> None:
        self._lab = lab
        self._counters = LinkCounters(lab)

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

    async def set_link(self, text: str, *, up: bool) -> str:
        """Plug or cut the one link that is meant; safe to repeat. A sentence that says so."""
        cable = self._wiring.cable(text)
        await (self.lab.plug(cable.name) if up else self.lab.cut(cable.name))
        (self._cut.discard if up else self._cut.add)(cable.name)
        words = "plugged" if up else "cut"
        self.journal.tell("link", cable.name, words, up=up)
        return f"{cable.name} is {words}"

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

    async def reboot_nat(self, router: str) -> str:
        await self.lab.reboot_nat(router)
        words = f"{router} has forgotten all translations"
        self.journal.tell("nat", router, words)
        return words

    # What it looks like.

    async def observe(self, *, fresh: bool, counted: bool) -> LabStatus:
        """With `fresh` every zos node is asked first; with `counted` links have counters."""
        nodes = [node.name for node in self.topology.nodes if node.role == "node"]
        if fresh and self._crew is not None:
            await self.zos.refresh(self.lab.node(name) for name in nodes)
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
            nodes=self._nodes,
            zos=self.zos.latest,
            counters=counters,
        )
        return compose(self._wiring, known)
