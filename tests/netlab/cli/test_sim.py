"""`zos lab sim` as a person runs it (LAB-110, LAB-111)."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab.sim import corpus
from netlab.sim.run import MAX_NODES, MAX_SEEDS
from overlay.peers import selection
from overlay.peers.selection import PeerDelta
from tests.netlab.cli.conftest import Lab
from zos_core.cli.exits import Exit

_diff = selection.diff_peers


def forget_departures(**peers: object) -> PeerDelta:
    return PeerDelta(put=_diff(**peers).put)  # type: ignore[arg-type]


def test_seeds_that_keep_their_promises_end_well(lab: Lab) -> None:
    ran = lab("sim", "--seeds", "3", "--nodes", "20", "--jobs", "1", "--json")
    assert ran.code == Exit.OK
    assert (ran.json["seeds"], ran.json["nodes"], ran.json["failures"]) == (3, 60, [])


def test_seeds_are_the_same_on_several_processes(lab: Lab) -> None:
    alone, together = (
        lab("sim", "--seeds", "6", "--nodes", "20", "--jobs", jobs, "--json").json
        for jobs in ("1", "2")
    )
    for measured in ("cpu_s", "wall_s"):
        del alone[measured], together[measured]
    assert alone == together


def test_a_broken_promise_is_said_made_small_and_lived_again(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "diff_peers", forget_departures)
    ran = lab("sim", "--seeds", "12", "--nodes", "24", "--jobs", "1", "--keep", str(tmp_path))
    assert ran.code == Exit.NOT_HEALTHY
    files = sorted(tmp_path.glob("seed-*.json"))
    assert files
    assert f"made small: {files[0]}" in ran.out
    seed = corpus.read(files[0]).seed
    assert f"seed {seed} with 24 nodes broke" in ran.out
    again = lab("sim", "--replay", str(files[0]), "--json")
    assert again.code == Exit.NOT_HEALTHY
    assert again.json["failures"][0]["seed"] == seed
    monkeypatch.undo()
    assert lab("sim", "--replay", str(files[0])).code == Exit.OK


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--nodes", 1),
        ("--nodes", MAX_NODES + 1),
        ("--seeds", 0),
        ("--seeds", MAX_SEEDS + 1),
        ("--jobs", 0),
    ],
)
def test_sizes_out_of_bounds_are_refused(lab: Lab, option: str, value: int) -> None:
    ran = lab("sim", option, str(value))
    assert ran.code == Exit.USAGE
    assert option.strip("-") in ran.err


def test_a_file_that_is_no_scenario_is_refused(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text('{"seed": 1}')
    ran = lab("sim", "--replay", str(file))
    assert ran.code == Exit.USAGE
    assert str(file) in ran.err
