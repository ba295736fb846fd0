"""Every test that specs/080-advisories.md names is there."""

from __future__ import annotations

import ast
import re

import pytest

from tests.arch.modules import TREE

TABLE = TREE / "specs/080-advisories.md"
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)::(test_\w+)`", TABLE.read_text())))


def test_the_table_is_read() -> None:
    rows = [
        line
        for line in TABLE.read_text().splitlines()
        if line.startswith("| ") and "`tests/" in line
    ]
    assert len(rows) > 20
    assert all(re.search(r"::test_\w+`", row) for row in rows)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_an_advisory_has_its_test(path: str, name: str) -> None:
    tree = ast.parse((TREE / path).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}
