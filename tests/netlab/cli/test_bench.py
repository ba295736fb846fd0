"""What `zos lab bench` takes, and how it tells what it found; labs are in tests/kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab import shapes
from netlab.cli import bench
from netlab.cli.bench import Figures, as_json, medians, row
from netlab.topology import Router, Topology
from overlay.errors import Unavailable
from tests.netlab.cli.conftest import Lab
from zos_core.cli.exits import Exit

FIGURES = Figures(
    up_s=1.25,
    down_s=0.125,
    cpu_s=0.5,
    kernel_kib=3400,
    processes=2,
    memory_kib=45 * 1024,
    command_ms=1.5,
)
NOTHING = Figures(1.0, 1.0, 1.0, None, 2, 10.0, None)


def test_options_of_shapes_and_of_files_are_not_mixed(lab: Lab, tmp_path: Path) -> None:  # LAB-255
    file = tmp_path / "one.lab.toml"
    file.write_text("[node.n]\n")
    for argv in (("--nodes", "5"), ("--shape", "star")):
        ran = lab("bench", str(file), *argv)
        assert (ran.code, ran.out) == (Exit.USAGE, "")
        assert "--shape and --nodes are of labs without a FILE" in ran.err
    assert "--name is of the lab of a FILE" in lab("bench", "--name", "other").err


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


def test_what_was_measured_is_shown_when_a_later_lab_fails(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:  # LAB-255
    def fail(topology: Topology) -> Figures:
        if len(topology.nodes) == 20:
            raise Unavailable("no more namespaces")
        return FIGURES

    monkeypatch.setattr(bench, "_round", fail)
    ran = lab("bench", "--shape", "star", "--nodes", "10", "--nodes", "20")
    assert ran.code == Exit.UNAVAILABLE
    assert "star" in ran.out
    assert "no more namespaces" in ran.err

    as_json = lab("bench", "--shape", "star", "--nodes", "10", "--nodes", "20", "--json")
    assert as_json.json["error"]["code"] == "unavailable"


def test_a_row_says_what_a_node_takes() -> None:  # LAB-255
    assert row("star", shapes.star(100), FIGURES) == (
        *("star", "100", "1.25 s", "12.5 ms", "0.12 s", "0.50 s"),
        *("34 KiB", "2", "45 MiB", "1.50 ms"),
    )


def test_what_was_not_measured_is_no_number() -> None:
    empty = Topology((), (Router("home"),), name="empty")
    shown = row("empty", empty, medians([NOTHING]))
    assert (shown[3], shown[6], shown[9]) == ("-", "-", "-")
    assert as_json("empty", empty, NOTHING) == {
        "lab": "empty",
        "nodes": 0,
        "up_s": 1.0,
        "down_s": 1.0,
        "cpu_s": 1.0,
        "kernel_kib": None,
        "processes": 2.0,
        "memory_kib": 10.0,
        "command_ms": None,
    }


def test_what_is_told_is_the_median_of_all_rounds() -> None:
    rounds = [Figures(up_s, 1.0, 1.0, up_s, 2, 10.0, up_s) for up_s in (9.0, 2.0, 1.0)]
    assert (medians(rounds).up_s, medians(rounds).command_ms) == (2.0, 2.0)
    assert medians([NOTHING, *rounds]).kernel_kib == 2.0


def test_the_kernel_is_still_when_it_has_kept_the_same_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, kept = [0.0], [900, 800, 800, 800, 700, 700, 800, *[800] * 50]
    monkeypatch.setattr(bench.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(bench.time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    monkeypatch.setattr("netlab.usage.kernel_kib", lambda: kept.pop(0))

    assert bench._still_kib() == 700
    assert now[0] >= bench.STILL_S
