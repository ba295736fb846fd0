"""Commands about lab files: nothing of them needs a lab, save to draw one."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from netlab.files.reading import read_lab
from netlab.pictures.live import Tunnel
from netlab.pictures.of_status import draft_of, live_of
from netlab.supervisor import asking, places
from netlab.supervisor.session import Session
from netlab.supervisor.status import LabStatus, NodeStatus, ZosNetwork, ZosPeer, ZosStatus
from tests.netlab.cli.conftest import Lab
from zos_core.cli.exits import Exit

GOOD = '[router.home]\nnat = "symmetric"\n[node.a]\nlink = "home"\n'
WRONG = '[node.a]\nlink = "hom"\nrole = "hots"\n'
CLAB = """
name: mesh
topology:
  nodes: {a: {image: x}, b: }
  links: [{endpoints: ['a:e1', 'b:e1']}]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "good.lab.toml"
    path.write_text(GOOD)
    return path


def test_lint_says_that_nothing_is_wrong(lab: Lab, file: Path) -> None:  # LAB-294
    ran = lab("lint", str(file))
    assert (ran.code, ran.out) == (0, f"{file}: nothing is wrong\n")


def test_lint_says_everything_that_is_wrong(lab: Lab, file: Path, tmp_path: Path) -> None:
    # LAB-294
    wrong = tmp_path / "wrong.lab.toml"
    wrong.write_text(WRONG)

    ran = lab("lint", str(file), str(wrong), "--json")

    assert ran.code == Exit.USAGE
    good, bad = ran.json["files"]
    assert good == {"file": str(file), "faults": []}
    assert bad["faults"] == [
        {
            "line": 3,
            "field": "node.a.role",
            "message": "there is no 'hots'",
            "remedy": "did you mean 'host'?",
        }
    ]
    assert f"{wrong}:3: node.a.role: there is no 'hots'" in lab("lint", str(wrong)).out
    assert lab("lint", str(tmp_path / "none.lab.toml")).code == Exit.UNAVAILABLE


def test_up_names_the_line(lab: Lab, tmp_path: Path) -> None:  # LAB-285
    wrong = tmp_path / "wrong.lab.toml"
    wrong.write_text(WRONG)

    ran = lab("up", str(wrong), "--json")

    assert ran.code == Exit.USAGE
    assert ran.json["error"]["message"] == f"{wrong}:3: there is no 'hots'"
    assert ran.json["error"]["field"] == "node.a.role"


@pytest.mark.parametrize("command", ["up", "run"])
def test_what_builds_a_lab_says_everything_that_is_wrong(  # LAB-285
    lab: Lab, tmp_path: Path, command: str
) -> None:
    wrong = tmp_path / "wrong.lab.toml"
    wrong.write_text('[node.a]\nrole = "hots"\n[node.b]\nlink = 7\n')

    said = lab("lint", str(wrong)).out.splitlines()
    ran = lab(command, str(wrong))

    assert ran.code == Exit.USAGE
    assert len(said) == 2
    assert ran.err.splitlines() == [f"zos: {said[0]}", said[1]]
    error = lab(command, str(wrong), "--json").json["error"]
    assert (error["field"], error["message"].count("\n")) == ("node.a.role", 1)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", 'name = "x"\n'])
def test_a_lab_without_nodes_is_wrong(lab: Lab, tmp_path: Path, text: str) -> None:  # LAB-285
    empty = tmp_path / "empty.lab.toml"
    empty.write_text(text)
    for command in ("lint", "up"):
        ran = lab(command, str(empty))
        assert ran.code == Exit.USAGE
        assert f"{empty}:1: has no nodes (add [node.NAME])" in ran.out + ran.err


@pytest.mark.parametrize(
    "command", [["lint"], ["up"], ["run"], ["plan"], ["graph"], ["labs", "--show"]]
)
def test_only_a_file_is_read(lab: Lab, tmp_path: Path, command: list[str]) -> None:  # LAB-285
    """Of a pipe nobody knows whether there will be anything."""
    directory, pipe = tmp_path / "directory.lab.toml", tmp_path / "pipe.lab.toml"
    directory.mkdir()
    os.mkfifo(pipe)
    for path, kind in ((directory, "a directory"), (pipe, "a pipe")):
        ran = lab(*command, str(path))
        assert ran.code == Exit.USAGE
        assert f"{path} is {kind}, not a file" in ran.err


@pytest.mark.parametrize(
    ("argv", "begins"),
    [
        ([], "<svg "),
        (["--format", "svg"], "<svg "),
        (["--format", "mermaid"], "%% lab\nflowchart"),
        (["--format", "dot"], 'graph "lab" {'),
    ],
)
def test_graph_prints_a_picture(lab: Lab, file: Path, argv: list[str], begins: str) -> None:
    # LAB-294
    assert lab("graph", str(file), *argv).out.startswith(begins)
    assert lab("graph", str(file), *argv, "--json").json["picture"].startswith(begins)


@pytest.mark.parametrize(
    ("name", "begins"), [("x.svg", "<svg "), ("x.mmd", "%%"), ("x.dot", "graph"), ("x", "<svg ")]
)
def test_graph_writes_what_the_ending_says(
    lab: Lab, file: Path, tmp_path: Path, name: str, begins: str
) -> None:  # LAB-294
    path = tmp_path / name
    assert lab("graph", str(file), "-o", str(path)).out == f"wrote {path}\n"
    assert path.read_text().startswith(begins)

    assert lab("graph", str(file), "-o", str(path)).code == Exit.CONFLICT
    assert lab("graph", str(file), "-o", str(path), "--force").code == 0


def test_graph_draws_a_lab_that_is_up(lab: Lab, two_homes: Session) -> None:  # LAB-294
    ran = lab("graph", "--format", "mermaid")
    assert ran.code == 0
    assert '{{"home<br/>router"}}' in ran.out
    assert lab("graph", "nobody").code == Exit.NOT_HEALTHY


def test_picture_of_a_lab_is_that_of_its_file(two_homes: Session) -> None:  # LAB-291
    status = observed()
    draft = draft_of(status)

    for part in ("nodes", "routers", "lans", "regions", "latencies", "tenants", "name"):
        assert getattr(draft, part) == getattr(two_homes.topology, part)


def test_tunnels_of_a_lab_are_drawn_once(two_homes: Session) -> None:  # LAB-291
    def node(name: str, peer: str, state: str) -> NodeStatus:
        peers = (ZosPeer(peer, state, "direct", None, 1, 0, 0),)
        network = ZosNetwork("id", "web", "ready", "", None, None, peers, ())
        zos = ZosStatus("running", networks=(network,))
        return NodeStatus(name, "node", "dead" if name == "c" else "running", (), (), 0, zos)

    status = observed()
    nodes = (node("a", "b", "active"), node("b", "a", "idle"), node("c", "a", "silent"))
    link = msgspec.structs.replace(status.links[0], up=False)
    status = msgspec.structs.replace(status, nodes=nodes, links=(link, *status.links[1:]))

    live = live_of(status)

    assert live.tunnels == (Tunnel(("a", "b"), "web", "direct"),)
    assert live.dead == {"c"}
    assert live.cut == {link.end}


def test_import_makes_a_lab_file(lab: Lab, tmp_path: Path) -> None:  # LAB-293
    clab, path = tmp_path / "mesh.clab.yml", tmp_path / "mesh.lab.toml"
    clab.write_text(CLAB)

    ran = lab("import", str(clab), "-o", str(path))

    assert (ran.code, ran.out) == (0, f"wrote {path}\n")
    assert "left out: a: image" in ran.err
    assert path.read_text().startswith("# Made from mesh.clab.yml.\n# Left out: a: image\n")
    assert [node.name for node in read_lab(path).nodes] == ["a", "b"]
    assert lab("import", str(clab), "-o", str(path)).code == Exit.CONFLICT
    assert lab("import", str(clab), "--json").json["left_out"] == ["a: image"]
    assert "[lan.a-b]" in lab("import", str(clab)).out
    clab.write_text("name: x\n")
    assert lab("import", str(clab)).code == Exit.USAGE


def observed() -> LabStatus:
    place = places.place_of("two-homes")
    return asking.get(place, "/v1/lab", LabStatus, fresh="no", counters="no")
