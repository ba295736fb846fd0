"""Hidden nodes on the kernel's WireGuard: at a relay, or straight where NATs can be opened."""

from __future__ import annotations

import pytest

from netlab.fleet import node_socket
from tests.lab.meeting import meeting
from tests.lab.nat_matrix import topology, until_as_expected
from tests.lab.scene import measured
from zos_core.status import Status

KINDS = ("port", "symmetric")
EMULATED_S = 400.0  # twenty times slower than the machine itself


@pytest.mark.vm
@pytest.mark.blocking
async def test_usual_kinds_of_nat_meet_as_expected(lab):
    # NODE-071, NODE-072, WGD-001
    # Under emulation an answer may take so long that UDP seems blocked.
    async with meeting(await lab(topology(KINDS)), tls=False) as fleet:
        measured(pairs=dict(await until_as_expected(fleet, KINDS, within_s=EMULATED_S)))
        status = await node_socket.ask(fleet.lab.node("n-port-1"), "/v1/status", Status)
        assert status.node.backend == "kernel"
