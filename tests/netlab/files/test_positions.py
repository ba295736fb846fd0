from __future__ import annotations

import tomllib

from hypothesis import given, settings

from netlab.files.positions import find_lines
from netlab.files.writing import format_lab
from tests.netlab.files.topologies import topologies

TEXT = '''# a comment with [brackets] and "quotes
name = "x" # [node.no]
"quoted \\" key" = 1
'literal key'.b = 2
[a . "b.c"]
array = [ # one
  "one ]",
  # between
  { two = 2, three = """
  =[]{}
"""" }, 'fo"ur',
]
after = true
inline = { x.y = 1, z = [1, [2,
3]] }
[[many]]
at = 1979-05-27 07:32:00
[many.below]
k = \'\'\'
'a''
\'\'\'
[[many]]
at = 2 # the end
[many.below]
k = 0'''


def test_each_key_and_entry_has_the_line_it_is_on():  # LAB-285
    lines = find_lines(TEXT)

    assert lines == {
        ("name",): 2,
        ('quoted " key',): 3,
        ("literal key",): 4,
        ("literal key", "b"): 4,
        ("a",): 5,
        ("a", "b.c"): 5,
        ("a", "b.c", "array"): 6,
        ("a", "b.c", "array", 0): 7,
        ("a", "b.c", "array", 1): 9,
        ("a", "b.c", "array", 1, "two"): 9,
        ("a", "b.c", "array", 1, "three"): 9,
        ("a", "b.c", "array", 2): 11,
        ("a", "b.c", "after"): 13,
        ("a", "b.c", "inline"): 14,
        ("a", "b.c", "inline", "x"): 14,
        ("a", "b.c", "inline", "x", "y"): 14,
        ("a", "b.c", "inline", "z"): 14,
        ("a", "b.c", "inline", "z", 0): 14,
        ("a", "b.c", "inline", "z", 1): 14,
        ("a", "b.c", "inline", "z", 1, 0): 14,
        ("a", "b.c", "inline", "z", 1, 1): 15,
        ("many",): 16,
        ("many", 0): 16,
        ("many", 0, "at"): 17,
        ("many", 0, "below"): 18,
        ("many", 0, "below", "k"): 19,
        ("many", 1): 22,
        ("many", 1, "at"): 23,
        ("many", 1, "below"): 24,
        ("many", 1, "below", "k"): 25,
    }
    assert set(lines) == paths(tomllib.loads(TEXT))
    assert find_lines(TEXT.replace("\n", "\r\n")) == lines


@settings(max_examples=40, deadline=None)
@given(topologies())
def test_every_key_of_any_lab_has_a_line(topology):  # LAB-285
    text = format_lab(topology)
    assert set(find_lines(text)) == paths(tomllib.loads(text))


def paths(tree: object) -> set[tuple[str | int, ...]]:
    match tree:
        case dict():
            pairs = list(tree.items())
        case list():
            pairs = list(enumerate(tree))
        case _:
            return set()
    return {(key, *below) for key, inner in pairs for below in (paths(inner) | {()})}
