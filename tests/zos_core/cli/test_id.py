from __future__ import annotations

from pathlib import Path

import pytest

from overlay.keys import keyfile
from overlay.keys.keyfile import Cost
from tests.zos_core.cli.conftest import Zos
from zos_core.cli.exits import Exit


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sealing costs a second on purpose; nothing here depends on how much."""
    cost = Cost(1, keyfile.pwhash.argon2id.MEMLIMIT_MIN)
    for function in (keyfile.seal,):
        monkeypatch.setitem(function.__kwdefaults__, "cost", cost)
    from overlay.keys import store

    for function in (store.save, store.seal):
        monkeypatch.setitem(function.__kwdefaults__, "cost", cost)


def test_new_prints_the_id_and_nothing_else(zos: Zos, home: Path) -> None:
    made = zos("id", "new", "tenant", "alice")

    path = home / "keys" / "tenant-alice.key"
    assert made.out.startswith("tenant1")
    assert made.out.count("\n") == 1
    assert path.stat().st_mode & 0o777 == 0o600
    assert zos("id", "show", "tenant", "alice").out == made.out
    assert zos("id", "show", "--json").json["keys"] == [
        {"kind": "tenant", "name": "alice", "id": made.out.strip(), "sealed": False}
    ]


def test_key_is_never_replaced(zos: Zos) -> None:
    zos("id", "new", "tenant", "alice")

    assert zos("id", "new", "tenant", "alice").code == Exit.CONFLICT


def test_node_key_is_made_once(zos: Zos) -> None:
    made = zos("id", "new", "node")

    assert made.out.startswith("node1")
    assert zos("id", "new", "node").out == made.out
    assert zos("id", "show", "node", "--json").json["id"] == made.out.strip()


def test_sealed_key_signs_with_its_passphrase_only(
    zos: Zos, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # CLI-006
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    monkeypatch.setenv("ZOS_PASSPHRASE_FILE", str(secret))
    assert zos("id", "new", "tenant", "alice", "--seal").code == 0
    create = ("network", "create", "home", "--range", "10.1.0.0/16", "--registry", registry)
    assert zos(*create).code == 0

    secret.write_text("wrong\n")
    wrong = zos("network", "delete", "home", "--yes")
    monkeypatch.delenv("ZOS_PASSPHRASE_FILE")
    unasked = zos("network", "delete", "home", "--yes")

    assert (wrong.code, unasked.code) == (Exit.REFUSED, Exit.REFUSED)
    assert "wrong passphrase" in wrong.err
    assert "ZOS_PASSPHRASE_FILE" in unasked.err


def test_plain_key_is_sealed_later(
    zos: Zos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zos("id", "new", "farm", "basement")
    (tmp_path / "passphrase").write_text("x")
    monkeypatch.setenv("ZOS_PASSPHRASE_FILE", str(tmp_path / "passphrase"))

    assert zos("id", "seal", "farm", "basement", "--json").json["sealed"] is True
    assert zos("id", "seal", "farm", "basement").code == Exit.CONFLICT
    assert "sealed" in zos("id", "show").out


def test_choice_among_several_keys_is_asked_for(zos: Zos, home: Path, registry: str) -> None:
    for name in ("alice", "bob"):
        zos("id", "new", "tenant", name)
    create = ("network", "create", "home", "--range", "10.1.0.0/16", "--registry", registry)

    unclear = zos(*create)
    (home / "config.toml").write_text('tenant = "bob"\n')
    clear = zos(*create)

    assert unclear.code == Exit.USAGE
    assert "alice, bob" in unclear.err
    assert clear.code == 0
    assert (
        zos("id", "show", "tenant", "bob").out.strip() in (home / "networks/home.toml").read_text()
    )


def test_loose_permissions_are_refused_with_the_remedy(zos: Zos, home: Path) -> None:
    zos("id", "new", "tenant", "alice")
    (home / "keys" / "tenant-alice.key").chmod(0o644)

    ran = zos("id", "show")

    assert ran.code == Exit.REFUSED
    assert "chmod 600" in ran.err


def test_unknown_key_of_the_configuration_is_named(zos: Zos, home: Path) -> None:
    zos("id", "new", "tenant", "alice")
    (home / "config.toml").write_text('regsitry = "x"\n')

    ran = zos("network", "create", "home", "--range", "10.1.0.0/16")

    assert "did you mean registry?" in ran.err
