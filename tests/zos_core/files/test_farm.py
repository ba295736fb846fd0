from __future__ import annotations

import pytest

from overlay.errors import Conflict, Rejected
from overlay.keys.identity import Identity, Kind
from zos_core.files import farm

FARM = Identity.from_seed(Kind.FARM, b"f" * 32).id
N1 = Identity.from_seed(Kind.NODE, b"1" * 32).id
N2 = Identity.from_seed(Kind.NODE, b"2" * 32).id
NEW = farm.format_new("basement", farm=FARM, registry=None)


def test_document_lists_the_nodes_sorted() -> None:
    text = farm.add_node(farm.add_node(NEW, "a", node=N2), "b", node=N1)

    document = farm.farm_document(farm.parse_farm_file(text), 3)

    assert document.nodes == tuple(sorted((N1, N2)))
    assert (document.farm, document.version, document.name) == (FARM, 3, "basement")


@pytest.mark.parametrize(("name", "node"), [("n1", N2), ("n2", N1)])
def test_node_and_name_are_in_a_farm_once(name: str, node: str) -> None:
    text = farm.add_node(NEW, "n1", node=N1)

    with pytest.raises(Conflict):
        farm.add_node(text, name, node=node)


@pytest.mark.parametrize("called", ["n1", N1])
def test_node_is_removed_by_name_or_id(called: str) -> None:
    text = farm.add_node(NEW, "n1", node=N1)

    assert farm.parse_farm_file(farm.remove_node(text, called)).nodes == {}


def test_removing_a_stranger_names_who_is_there() -> None:
    with pytest.raises(Rejected) as caught:
        farm.remove_node(farm.add_node(NEW, "n1", node=N1), "n2")

    assert caught.value.remedy == "nodes: n1"


def test_edits_keep_comments() -> None:  # CLI-001
    text = farm.signed_as(farm.add_node(NEW + "# end\n", "n1", node=N1), 4)

    assert "# Farm basement." in text
    assert "# end" in text
    assert farm.parse_farm_file(text).version == 4


def test_unknown_key_is_refused() -> None:  # CLI-004
    with pytest.raises(Rejected) as caught:
        farm.parse_farm_file(NEW + "\nnoeds = {}\n")

    assert (caught.value.field, caught.value.remedy) == ("noeds", "did you mean nodes?")
