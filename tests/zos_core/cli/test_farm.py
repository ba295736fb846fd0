from __future__ import annotations

from pathlib import Path

from tests.zos_core.cli.conftest import N1, N2, Zos
from zos_core.cli.exits import Exit


def test_farm_lists_the_nodes_that_were_added(zos: Zos, registry: str) -> None:
    zos("id", "new", "farm", "basement")
    made = zos("farm", "create", "basement", "--key", "basement", "--registry", registry)
    assert zos("farm", "add-node", "basement", N1.id, "--as", "rack1").code == 0
    assert zos("farm", "add-node", "basement", N2.id).code == 0

    shown = zos("farm", "show", "basement", "--json").json

    assert shown["farm"] == made.out.strip()
    assert (shown["version"], shown["published_version"]) == (3, 3)
    assert [(n["name"], n["published"]) for n in shown["nodes"]] == [("n2", True), ("rack1", True)]
    assert "rack1  not seen yet" in zos("farm", "show", "basement").out


def test_node_leaves_the_farm_by_name(zos: Zos, registry: str) -> None:
    zos("farm", "create", "basement", "--registry", registry)
    zos("farm", "add-node", "basement", N1.id, "--as", "rack1")

    assert zos("farm", "remove-node", "basement", "rack1").code == 0
    assert zos("farm", "show", "basement", "--json").json["nodes"] == []
    assert zos("farm", "remove-node", "basement", "rack1").code == Exit.USAGE


def test_edit_by_hand_is_published_as_the_next_version(zos: Zos, registry: str, home: Path) -> None:
    zos("farm", "create", "basement", "--registry", registry)
    path = home / "farms" / "basement.toml"
    path.write_text(path.read_text() + f'\n[nodes.a]\nnode = "{N1.id}"\n')

    assert zos("farm", "publish", "basement", "--json").json["version"] == 2


def test_file_without_publishing_is_version_zero(zos: Zos, home: Path) -> None:
    ran = zos("farm", "create", "basement", "--no-publish")

    assert "version = 0" in (home / "farms" / "basement.toml").read_text()
    assert "zos farm publish basement" in ran.err


def test_farm_without_a_registry_asks_for_one(zos: Zos) -> None:
    ran = zos("farm", "create", "basement")

    assert ran.code == Exit.USAGE
    assert "which registry?" in ran.err
