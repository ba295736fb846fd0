from __future__ import annotations

import pytest

from netlab import shapes
from netlab.faults import NODES_MAX, ROUTERS_MAX
from netlab.files.reading import parse_lab
from netlab.impairment import Both, Impairment
from netlab.topology import Link, Topology
from overlay.errors import Rejected

FAR = Impairment(delay_s=0.02)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (shapes.star(3), 'name = "star"\n[node.n]\ncount = 3'),
        (
            shapes.chain(3, link=Link(impaired=Both(FAR, FAR)), name="x"),
            'name = "x"\n[node.n]\ncount = 3\nchain = true\nlink = { delay = "20ms" }',
        ),
        (
            shapes.homes(2),
            """
            name = "homes"
            [router.home]
            count = 2
            nat = "port-restricted"
            [node.n]
            count = 2
            link = "home-{n}"
            """,
        ),
    ],
)
def test_shape_is_what_a_file_says_with_count(shape: Topology, text: str) -> None:  # LAB-295
    assert shape == parse_lab(text)


def test_shapes_are_bounded_as_files_are() -> None:  # LAB-295
    assert len(shapes.star(NODES_MAX).nodes) == NODES_MAX
    for shape, most in ((shapes.star, NODES_MAX), (shapes.homes, ROUTERS_MAX)):
        with pytest.raises(Rejected):
            shape(most + 1)
