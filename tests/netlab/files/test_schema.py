from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema_rs
import msgspec
import pytest
from hypothesis import given, settings

from netlab.files import checking, schema
from netlab.files.shape import LabFile
from netlab.files.writing import format_lab
from tests.netlab.files.topologies import topologies
from zos_core.cli.schemas import file_schema

TREE = Path(__file__).parents[3]
GOOD = [
    path
    for package in ("netlab", "demo", "bench", "tests")
    for path in sorted((TREE / package).rglob("*.lab.toml"))
    if "malformed" not in path.parts
]
MALFORMED = sorted((Path(__file__).parent / "malformed").glob("*.lab.toml"))
# That a rate is whole bits is arithmetic; and to JSON 1400.0 is a whole number.
BEYOND_A_SCHEMA = {"rate-not-whole", "type-mtu-fraction"}
VALIDATOR = jsonschema_rs.validator_for(file_schema("lab", LabFile))


def test_published_schema_is_that_of_the_reader(tmp_path):  # LAB-280
    schema.write_schema(tmp_path)

    for path in tmp_path.iterdir():
        published = (TREE / "specs" / "schemas" / path.name).read_text()
        assert published == path.read_text(), "run: python -m netlab.files.schema specs/schemas"


def test_every_lab_of_the_tree_is_what_the_schema_says():  # LAB-280
    for path in GOOD:
        VALIDATOR.validate(tomllib.loads(path.read_text()))


@settings(max_examples=40, deadline=None)
@given(topologies())
def test_any_lab_is_what_the_schema_says(topology):  # LAB-280
    VALIDATOR.validate(tomllib.loads(format_lab(topology)))


@pytest.mark.parametrize("path", MALFORMED, ids=lambda path: path.name.partition(".")[0])
def test_schema_and_reader_refuse_the_same_shapes(path):  # LAB-280
    try:
        tree = tomllib.loads(path.read_text())
    except (ValueError, RecursionError):
        return
    expected = msgspec.inspect.type_info(LabFile)
    refused = any(True for _ in checking.find_faults(tree, expected))
    assert is_valid(tree) != refused or path.name.partition(".")[0] in BEYOND_A_SCHEMA


def is_valid(tree: dict) -> bool:
    # JSON has no dates and times: they are no text of a known form either.
    return VALIDATOR.is_valid(json.loads(json.dumps(tree, default=lambda _: None)))
