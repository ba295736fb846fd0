"""Every shipped lab does what its file says, run as a person would run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from netlab.files.reading import read_lab
from netlab.labs.shelf import shipped_labs
from netlab.supervisor import places
from tests import nobody
from tests.nobody import home, python
from zos_core.cli.exits import Exit

__all__ = ("home", "python")  # fixtures, used by their names

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

ZOS = str(Path(sys.executable).parent / "zos")
LABS = [lab.name for lab in shipped_labs() if "/" not in lab.name]
# What they need is namespaces, which everybody may have: no WireGuard, and no TAP.
FOR_EVERYBODY = ("01-two-nodes", "03-home-nat", "07-cut-and-mended", "09-partition")
ZOS_MAIN = "import sys; from zos_core.cli.main import main; sys.exit(main(sys.argv[1:]))"


def run(*argv: str, root: Path) -> tuple[int, dict[str, Any], str]:
    env = {**os.environ, places.ROOT_VARIABLE: str(root)}
    done = subprocess.run(
        (ZOS, "lab", *argv, "--json"),
        check=False,
        capture_output=True,
        env=env,
        text=True,
        timeout=280,
    )
    return done.returncode, json.loads(done.stdout or "{}"), done.stderr


@pytest.mark.parametrize("name", LABS)
def test_shipped_lab_does_what_its_file_says(name: str, tmp_path: Path) -> None:
    # LAB-314
    topology = read_lab(next(lab.path for lab in shipped_labs() if lab.name == name))
    code, found, words = run("run", name, root=tmp_path / "labs")
    assert code == Exit.OK, f"{json.dumps(found, indent=1)}\n{words}"
    assert found["lab"] == topology.name
    assert found["held"] == len(topology.expects) > 0
    assert len(found["events"]) == len(topology.events)
    assert not list((tmp_path / "labs").glob(f"{topology.name}*"))


@pytest.mark.parametrize("name", FOR_EVERYBODY)
def test_shipped_lab_runs_without_root(name: str, home: Path, python: str) -> None:
    # LAB-317
    root = home / "lab" / name
    env = {places.ROOT_VARIABLE: str(root)}
    done = nobody.run(home, python, ZOS_MAIN, "lab", "run", name, "--json", env=env)
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["failed"] == 0 < found["held"]
    assert not list(root.glob("*"))


FAILING = """
name = "failing"
[node.a]
[node.b]
[[expect]]
from = "a"
to = "b"
reached = false
within = "1s"
"""


def test_a_lab_that_fails_says_so_and_leaves_what_there_was_to_see(tmp_path: Path) -> None:
    # LAB-315
    file, root, evidence = tmp_path / "x.lab.toml", tmp_path / "labs", tmp_path / "evidence"
    file.write_text(FAILING)
    code, found, _ = run(
        "run", str(file), "--keep-on-failure", "--artifacts", str(evidence), root=root
    )
    assert code == Exit.NOT_HEALTHY
    assert (found["held"], found["failed"]) == (0, 1)
    assert "b answers" in found["verdicts"][0]["misses"][0]["reason"]
    kept = {str(path.relative_to(evidence)) for path in evidence.rglob("*")}
    assert {"topology.lab.toml", "events.jsonl", "a/addresses.txt", "b/routes.txt"} <= kept
    code, checked, _ = run("check", "failing", root=root)
    assert code == Exit.NOT_HEALTHY
    assert checked["failed"] == 1
    code, _, _ = run("down", "failing", root=root)
    assert code == Exit.OK


def test_nothing_to_judge_is_an_error_of_the_file(tmp_path: Path) -> None:
    # LAB-315
    file = tmp_path / "x.lab.toml"
    file.write_text('name = "idle"\n[node.a]\n')
    code, found, _ = run("run", str(file), root=tmp_path / "labs")
    assert code == Exit.USAGE
    assert "expects nothing" in found["error"]["message"]
    assert found["error"]["remedy"]
