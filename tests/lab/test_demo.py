"""`make demo`: all that it shows is so, and what it leaves is there to be read by programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import permutations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from demo.__main__ import FILE
from netlab.files.reading import read_lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
NODES = ("n1", "n2", "n3", "n4", "n5", "n6")


def test_the_demo_shows_who_reaches_whom_and_how(tmp_path: Path) -> None:
    # LAB-353, LAB-354, LAB-355
    done = subprocess.run(
        (sys.executable, "-m", "demo"),
        check=False,
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "build/demo.json").read_text())
    assert all(pair["ok"] for pair in found["reachability"])
    inside = {
        (pair["from"], pair["to"], pair["family"])
        for pair in found["reachability"]
        if pair["tenant"] == "alice"
    }
    assert inside == {(*pair, v) for pair in permutations((*NODES, "laptop"), 2) for v in (4, 6)}
    assert found["isolation"]
    assert not any(pair["reached"] for pair in found["isolation"])
    paths = {(path["from"], path["to"]): path["path"] for path in found["paths"]}
    assert {paths["n4", "n6"], paths["n6", "n4"]} == {"punched"}
    assert {paths["n4", "n5"], paths["n6", "n5"]} == {"via relay n1"}
    assert paths["n1", "n4"] == "direct"
    assert found["exits"] == ["n2", "n3"]
    ranges = {(each["tenant"], each["at"]): each["v4"] for each in found["workloads"]}
    assert ranges["alice", "n2"] == ranges["bob", "n2"]
    assert {"failover", "questions"} < found["timings_ms"].keys()
    picture = ElementTree.parse(tmp_path / "build/demo.svg")
    seen = {(text.text or "").strip() for text in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"punched", "relay n1", "alice/home leaves by the exit n3 (n2 failed)"} <= seen
    for words in ("alice$ zos network invite home", "All as it should be", "punched: n4-n6"):
        assert words in done.stdout


def test_the_demo_is_a_lab_file() -> None:
    # LAB-354
    assert len(read_lab(FILE).expects) > 10
