"""What the supervisor needs from whoever makes zos run in a lab, and what it gives them.

Values and promises only. The maker is netlab/fleet/: an asynchronous function of type BringUp.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from netlab.lab import Lab


class Progress(Protocol):
    """Told how far a build is. Cheap enough to call for every single thing that is done."""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """`phase` is what stands in front of the counts: "nodes joined" 3 of 60."""


class Tell(Protocol):
    """Told what happened, for the journal. Returns at once."""

    def __call__(self, kind: str, subject: str, text: str, **detail: object) -> None:
        """`kind`: see journal.KINDS. `subject`: the node, link or expect that it happened to.

        `detail` is plain values, for programs; `text` is one sentence, for people.
        """


class Crew(Protocol):
    """What of zos runs in a lab: its registry, farm, nodes, tenants, clients and workloads."""

    @property
    def registry(self) -> str:
        """The reference, https://...#registry1...; empty in a lab without one."""

    @property
    def node_ids(self) -> Mapping[str, str]:
        """The id of every zos node, by the node's name in the lab."""

    @property
    def network_ids(self) -> Mapping[str, str]:
        """The id of every tenant network, by "tenant/network"."""

    async def start(self, name: str) -> None:
        """All that the node's role and its `run` ask for runs on it again.

        Called after the machine was killed and stands again, empty of processes.
        """


class BringUp(Protocol):
    """Everything that the topology says of zos runs inside the block, and ends with it.

    Raises Unavailable naming what did not come up, when it does not in time.
    """

    def __call__(
        self, lab: Lab, *, progress: Progress, tell: Tell
    ) -> AbstractAsyncContextManager[Crew]: ...
