"""Many nodes of two tenants, NATs among them: the lab of bench/lab_sixty.py, made small."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from netlab.files.reading import parse_lab
from netlab.fleet.opening import bring_up
from netlab.judge.judge import Judge
from netlab.labs.shelf import shipped_labs
from tests.lab.scene import measured

NODES = 12
# Nobody's speed is judged here. It outlasts a session (180 s), so that a path that was given up
# while it was being proven is found again.
PATIENCE_S = 300.0


@pytest.mark.timeout(500)
async def test_everybody_reaches_everybody_of_their_own_and_nobody_else(lab):
    # LAB-318
    (big,) = (each for each in shipped_labs() if each.name == "big/sixty")
    text = re.sub(
        r"count = (\d+)", lambda found: f"count = {int(found[1]) // 5}", big.path.read_text()
    )
    topology = parse_lab(text)
    assert sum(node.role == "node" for node in topology.nodes) == NODES
    expects = [replace(expect, within_s=PATIENCE_S) for expect in topology.expects]
    running = await lab(topology)
    phases: dict[str, int] = {}

    def progress(phase: str, done: int, total: int) -> None:
        phases[phase] = done
        assert done <= total

    async with bring_up(running, progress=progress, tell=lambda *_a, **_k: None) as fleet:
        assert phases == {"registry": 1, "nodes": NODES, "memberships": 2 * NODES}
        verdicts = await Judge(running, fleet).judge(expects)
        assert [verdict for verdict in verdicts if not verdict.held] == []
        pairs = NODES * (NODES - 1)
        assert [verdict.pairs for verdict in verdicts] == [pairs, pairs, NODES]
        measured(after_s=max(verdict.after_s for verdict in verdicts), pairs=2 * pairs)
