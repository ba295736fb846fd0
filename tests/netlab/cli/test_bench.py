"""What `zos lab bench` takes, and how it tells what it found; labs are in tests/kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab import shapes
from netlab.cli.bench import Figures, as_json, medians, row
from netlab.topology import Router, Topology
from tests.netlab.cli.conftest import Lab
from zos_core.cli.exits import Exit

FIGURES = Figures(
    up_s=1.25,
    down_s=0.125,
    cpu_s=0.5,
    kernel_kib=3400.0,
    processes=2,
    resident_kib=45 * 1024,
    command_ms=1.5,
)


def test_shapes_and_sizes_are_of_labs_without_a_file(lab: Lab, tmp_path: Path) -> None:  # LAB-255
    file = tmp_path / "one.lab.toml"
    file.write_text("[node.n]\n")
    for argv in (("--nodes", "5"), ("--shape", "star")):
        ran = lab("bench", str(file), *argv)
        assert (ran.code, ran.out) == (Exit.USAGE, "")
        assert "--shape and --nodes are of labs without a FILE" in ran.err


@pytest.mark.parametrize(
    "argv", [("--nodes", "0"), ("--rounds", "0"), ("--rounds", "101"), ("--shape", "ring")]
)
def test_what_cannot_be_measured_is_refused_by_name(lab: Lab, argv: tuple[str, str]) -> None:
    ran = lab("bench", *argv)
    assert ran.code == Exit.USAGE
    assert argv[0] in ran.err


def test_more_nodes_than_a_lab_may_have_build_nothing(lab: Lab, root: Path) -> None:
    ran = lab("bench", "--nodes", "10", "--nodes", "1000000")
    assert ran.code == Exit.USAGE
    assert "9000 is the most" in ran.err
    assert not root.exists()


def test_an_unknown_lab_is_answered_with_the_nearest(lab: Lab) -> None:
    assert "did you mean 01-two-nodes?" in lab("bench", "01-two-node").err


def test_a_row_says_what_a_node_takes() -> None:  # LAB-255
    assert row(shapes.star(100), FIGURES) == (
        "star",
        "100",
        "1.25 s",
        "12.5 ms",
        "0.12 s",
        "0.50 s",
        "34 KiB",
        "2, 45 MiB",
        "1.50 ms",
    )


def test_a_lab_without_nodes_runs_no_command() -> None:
    topology = Topology((), (Router("home"),), name="empty")
    figures = medians([Figures(1.0, 1.0, 1.0, 10.0, 2, 10.0, None)])
    assert row(topology, figures)[-1] == "-"
    assert as_json(topology, figures) == {
        "lab": "empty",
        "nodes": 0,
        "up_s": 1.0,
        "down_s": 1.0,
        "cpu_s": 1.0,
        "kernel_kib": 10.0,
        "processes": 2,
        "resident_kib": 10.0,
        "command_ms": None,
    }


def test_what_is_told_is_the_median_of_all_rounds() -> None:
    rounds = [Figures(up_s, 1.0, 1.0, 10.0, 2, 10.0, up_s) for up_s in (9.0, 1.0, 2.0)]
    assert (medians(rounds).up_s, medians(rounds).command_ms) == (2.0, 2.0)
