"""Files with which something is wrong. Each says in its first lines all that is to be told of it:

# expect: line 4, field node.a.link: there is no 'hom-a' (did you mean 'home-a'?)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from netlab.files.reading import FileFault, lint_lab, read_lab

FILES = sorted((Path(__file__).parent / "malformed").glob("*.lab.toml"))
MARK = "# expect: "


def test_there_are_many_malformed_files():
    assert len(FILES) >= 150


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name.partition(".")[0])
def test_malformed_file_builds_nothing_and_says_why(path):  # LAB-285
    text = path.read_text()
    expected = [line.removeprefix(MARK) for line in text.splitlines() if line.startswith(MARK)]

    faults = lint_lab(text, source=path.name)

    assert [said(fault) for fault in faults] == expected
    assert all(fault.remedy for fault in faults)
    with pytest.raises(FileFault) as caught:
        read_lab(path)
    assert said(caught.value) in expected


def said(fault: FileFault) -> str:
    where = f"field {fault.field}" if fault.field else "no field"
    # What tomllib says of it changes with Python.
    reason = "is not TOML" if fault.reason.startswith("is not TOML") else fault.reason
    return f"line {fault.line}, {where}: {reason} ({fault.remedy})"
