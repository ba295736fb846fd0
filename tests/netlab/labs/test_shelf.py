"""The labs that are shipped, and how they are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab.files.reading import read_lab
from netlab.labs.shelf import ShippedLab, find_lab, shipped_labs
from overlay.errors import Rejected


def test_there_are_ten_lessons_and_more():
    # LAB-314
    assert len([lab for lab in shipped_labs() if "/" not in lab.name]) >= 10


@pytest.mark.parametrize("lab", shipped_labs(), ids=lambda lab: lab.name)
def test_every_shipped_lab_is_whole_and_begins_with_what_it_shows(lab: ShippedLab):
    # LAB-314
    topology = read_lab(lab.path)
    assert topology.expects
    assert lab.summary.endswith(".")
    assert not lab.summary.startswith("name")
    assert f" {lab.name}" in lab.path.read_text(), "how to run it is in its comment"


def test_a_lab_is_found_by_name_unless_a_file_is_there(tmp_path: Path, monkeypatch):
    # LAB-316
    assert find_lab(Path("01-two-nodes")).name == "01-two-nodes.lab.toml"
    assert find_lab(Path("big/sixty")).name == "sixty.lab.toml"
    monkeypatch.chdir(tmp_path)
    mine = Path("01-two-nodes")
    mine.write_text("")
    assert find_lab(mine) == mine


def test_an_unknown_lab_is_refused_with_the_nearest_name():
    # LAB-316
    with pytest.raises(Rejected) as caught:
        find_lab(Path("03-home-nta"))
    assert caught.value.remedy == "did you mean 03-home-nat?"
    with pytest.raises(Rejected) as caught:
        find_lab(Path("q"))
    assert caught.value.remedy == "zos lab labs lists those shipped"
