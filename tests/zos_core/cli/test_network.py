from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from overlay.keys import store
from overlay.keys.identity import Identity, Kind
from overlay.keys.wireguard import WireGuardKey, format_key
from tests.zos_core.cli.conftest import N1, N2, FakeNode, Owner, Zos
from zos_core.cli.exits import Exit
from zos_core.status import PlannedChange
from zos_core.token import parse_token


def test_every_edit_is_a_new_published_version(owner: Owner, zos: Zos) -> None:  # CLI-001
    owner.add("n1", N1)
    added = zos("network", "add-node", "home", N2.id, "--as", "n2", "--json").json
    removed = zos("network", "remove-node", "home", "n1", "--json").json

    assert (added["version"], added["index"], removed["version"]) == (3, 2, 4)
    shown = zos("network", "show", "home", "--json").json
    assert [member["name"] for member in shown["members"]] == ["n2"]
    assert shown["version"] == 4


def test_file_stays_what_it_was_when_the_registry_refuses(owner: Owner, zos: Zos) -> None:
    before = owner.file.read_text()
    gone = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", owner.registry)

    ran = zos("network", "add-node", "home", N1.id, "--as", "n1", "--registry", gone)

    assert ran.code == Exit.UNAVAILABLE
    assert owner.file.read_text() == before  # CLI-001


def test_version_published_elsewhere_is_a_conflict(owner: Owner, zos: Zos) -> None:  # CLI-003
    stale = owner.file.read_text()
    owner.add("n1", N1)
    owner.file.write_text(stale)

    ran = zos("network", "add-node", "home", N2.id, "--as", "n2")

    assert ran.code == Exit.CONFLICT
    assert owner.file.read_text() == stale
    diff = zos("network", "diff", "home")
    assert "- members n1" in diff.out
    assert "set version = 2 in the file" in diff.err


def test_lost_answer_is_found_again(owner: Owner, zos: Zos) -> None:
    owner.file.write_text(owner.file.read_text().replace("version = 1", "version = 0"))

    published = zos("network", "publish", "home", "--json").json

    assert published["version"] == 1
    assert "version = 1 " in owner.file.read_text()


def test_edit_by_hand_is_diffed_planned_and_published(owner: Owner, zos: Zos) -> None:
    owner.add("n1", N1)
    rule = '\n[[policy]] # web only\nfrom = ["n1"]\nto = ["*"]\nprotocol = "tcp"\nports = [80]\n'
    owner.file.write_text(owner.file.read_text() + rule)

    assert "+ policy rule 1" in zos("network", "diff", "home").out
    assert zos("network", "plan", "home").out == "every member loads its firewall anew\n"
    assert zos("network", "publish", "home", "--json").json["version"] == 3
    assert zos("network", "diff", "home").out == ""
    assert "# web only" in owner.file.read_text()
    assert "allow n1 -> * tcp/80" in zos("network", "show", "home").out


def test_network_lives_where_its_path_says(zos: Zos, registry: str, tmp_path: Path) -> None:
    zos("id", "new", "tenant", "alice")
    path = str(tmp_path / "repo" / "lab.toml")

    made = zos("network", "create", path, "--range", "10.9.0.0/20", "--registry", registry)

    assert made.code == 0  # CLI-002
    assert zos("network", "show", path, "--json").json["name"] == "lab"


def test_names_of_nodes_come_from_farm_files_only(owner: Owner, zos: Zos) -> None:  # CLI-005
    zos("farm", "create", "basement", "--registry", owner.registry)
    zos("farm", "add-node", "basement", N1.id, "--as", "rack1")

    assert zos("network", "add-node", "home", "rack1", "--json").code == 0
    assert N1.id in owner.file.read_text()

    wrong = zos("network", "add-node", "home", "rack2")
    assert wrong.code == Exit.USAGE
    assert "did you mean rack1?" in wrong.err


def test_name_in_two_farms_is_a_conflict_that_names_both(owner: Owner, zos: Zos) -> None:
    for farm, node in (("attic", N1), ("basement", N2)):
        zos("farm", "create", farm, "--registry", owner.registry)
        zos("farm", "add-node", farm, node.id, "--as", "rack")

    ran = zos("network", "add-node", "home", "rack")

    assert ran.code == Exit.CONFLICT
    assert f"{N1.id} in attic" in ran.err
    assert f"{N2.id} in basement" in ran.err


@pytest.mark.parametrize(
    ("argv", "code", "says"),
    [
        (("create", "home", "--range", "10.2.0.0/16"), Exit.CONFLICT, "there is a network file"),
        (("create", "Up", "--range", "10.2.0.0/16"), Exit.USAGE, "is no name"),
        (("add-node", "home", "node1xyz", "--as", "x"), Exit.USAGE, "NODE"),
        (("add-node", "home", N2.id, "--as", "n1"), Exit.CONFLICT, "'n1' already"),
        (("add-node", "home", N1.id, "--as", "n9"), Exit.CONFLICT, "'n1' is that node"),
        (("add-node", "home", N2.id, "--as", "n2", "--index", "1"), Exit.USAGE, "share index 1"),
        (("add-node", "home", N2.id, "--as", "n2", "--index", "256"), Exit.USAGE, "does not fit"),
        (("remove-node", "home", "n7"), Exit.USAGE, "it names n1"),
        (("invite", "home", "n1"), Exit.CONFLICT, "'n1' already"),
        (("invite", "home", "x", "--expires", "soon"), Exit.USAGE, "is no duration"),
        (("access", "home", "laptop"), Exit.USAGE, "--via is missing"),
        (("access", "home", "drop", "x"), Exit.USAGE, "[add|remove] DEVICE"),
        (("access", "home", "laptop", "--via", "n7"), Exit.USAGE, "members: n1"),
        (("access", "home", "laptop", "--via", "n1"), Exit.UNAVAILABLE, "has not joined"),
    ],
)
def test_wrong_wishes_change_nothing(
    argv: tuple[str, ...], code: Exit, says: str, owner: Owner, zos: Zos
) -> None:
    owner.add("n1", N1)
    before = owner.file.read_text()

    ran = zos("network", *argv, "--registry", owner.registry)

    assert (ran.code, says in ran.err) == (code, True), ran.err
    assert owner.file.read_text() == before


def test_invitation_is_in_the_file_and_its_key_in_the_token_only(owner: Owner, zos: Zos) -> None:
    made = zos("network", "invite", "home", "guest", "--uses", "2", "--expires", "24h", "--json")

    token = parse_token(made.json["token"])
    assert token.network == owner.network
    assert token.registry == owner.registry
    assert token.invitation.id in owner.file.read_text()
    assert made.json["token"] not in owner.file.read_text()
    assert made.json["token"] not in made.err
    shown = zos("network", "show", "home").out
    assert "guest       0 of 2" in shown


def test_node_that_joined_by_invitation_is_refused_by_its_id(owner: Owner, zos: Zos) -> None:
    assert zos("network", "remove-node", "home", N2.id).code == 0

    assert f'revoked = ["{N2.id}"]' in owner.file.read_text()


def test_no_configuration_is_made_with_a_key_that_is_being_replaced(  # CLI-022
    owner: Owner, zos: Zos, home: Path
) -> None:
    owner.add("n1", N1)
    owner.publish_member(
        N1, index=1, name="n1", endpoint="192.0.2.1:51820", coming=store.generate(Kind.WG)
    )
    before = (home / "networks" / "home.toml").read_text()

    ran = zos("network", "access", "home", "laptop", "--via", "n1")

    assert ran.code == Exit.UNAVAILABLE
    assert "n1 is replacing its key" in ran.err
    assert "PrivateKey" not in ran.out
    assert (home / "networks" / "home.toml").read_text() == before


def test_access_prints_a_configuration_once(owner: Owner, zos: Zos) -> None:  # CLI-020
    owner.add("n1", N1)
    device = owner.publish_member(N1, index=1, name="n1", endpoint="192.0.2.1:51820")

    ran = zos("network", "access", "home", "laptop", "--via", "n1")

    assert ran.code == 0, ran.err
    private = re.search(r"PrivateKey = (\S+)", ran.out)
    assert private is not None
    assert private[1] not in owner.file.read_text()
    assert "Endpoint = 192.0.2.1:51820\n" in ran.out
    assert "Address = 10.1.2.1/32, fd" in ran.out
    assert "AllowedIPs = 10.1.0.0/16, fd" in ran.out
    assert device.id not in ran.out  # the WireGuard form is what wg understands
    assert "laptop  10.1.2.0/24" in zos("network", "show", "home").out
    assert zos("network", "access", "home", "remove", "laptop").code == 0
    assert "laptop" not in zos("network", "show", "home").out


def test_access_writes_a_file_that_is_its_owners_alone(
    owner: Owner, zos: Zos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # CLI-015
    monkeypatch.chdir(tmp_path)
    owner.add("n1", N1)
    owner.publish_member(N1, index=1, name="n1", endpoint="[2001:db8::1]:51820")
    path = tmp_path / "laptop.conf"

    made = zos(
        "network", "access", "home", "add", "laptop", "--via", "n1", "-o", path.name, "--json"
    )

    assert f"wg-quick up {path}\n" in made.err  # it would look for a bare name in /etc/wireguard
    assert path.stat().st_mode & 0o777 == 0o600
    assert "Endpoint = [2001:db8::1]:51820\n" in path.read_text()
    private = re.search(r"PrivateKey = (\S+)", path.read_text())
    assert private is not None
    assert private[1] not in made.out + made.err
    assert made.json["addresses"][0] == "10.1.2.1"


def test_access_asks_for_all_names_where_they_are_answered(owner: Owner, zos: Zos) -> None:
    # DNS-032
    owner.add("n1", N1)
    owner.publish_member(N1, index=1, name="n1", endpoint="192.0.2.1:51820")
    access = ("network", "access", "home")

    assert "\n# DNS = 10.1.1.1, fd" in zos(*access, "laptop", "--via", "n1").out
    assert "\nDNS = 10.1.1.1, fd" in zos(*access, "phone", "--via", "n1", "--dns").out
    zos("network", "exit", "set", "home", "n1")
    ran = zos(*access, "tablet", "--via", "n1")
    assert re.search(r"^DNS = 10.1.1.1, fd\S+:1::1, home.zos$", ran.out, re.MULTILINE)
    assert "\n# DNS = " in zos(*access, "watch", "--via", "n1", "--no-dns").out


def test_access_with_a_key_of_its_own_makes_none(owner: Owner, zos: Zos) -> None:
    owner.add("n1", N1)
    owner.publish_member(N1, index=1, name="n1", endpoint="192.0.2.1:51820")
    key = format_key(WireGuardKey(b"k" * 32).public_key)

    ran = zos("network", "access", "home", "phone", "--via", "n1", "--public-key", key)

    assert "PrivateKey = PASTE" in ran.out
    assert key in owner.file.read_text()


def test_show_tells_what_each_node_made_of_it(owner: Owner, zos: Zos) -> None:
    owner.add("n1", N1)
    owner.add("n2", N2)
    for n, node in ((1, N1), (2, N2)):
        owner.publish_member(node, index=n, name=f"n{n}", endpoint=f"192.0.2.{n}:51820")
    owner.publish_result(N1, version=3, ok=False, reason="no nftables")
    owner.publish_result(N2, version=2, ok=True)

    states = {
        m["name"]: m["state"] for m in zos("network", "show", "home", "--json").json["members"]
    }

    assert states == {"n1": "error: no nftables", "n2": "behind: version 2"}
    assert zos("network", "show", owner.network, "--registry", owner.registry).code == 0


def test_plan_on_a_member_asks_the_kernel(owner: Owner, zos: Zos, node: FakeNode) -> None:
    from msgspec.structs import replace

    here = replace(node.answer.networks[0], id=owner.network)
    node.answer = replace(node.answer, networks=(here,))
    node.changes = (PlannedChange(owner.network, "put peer n2", "version 2 of home"),)

    planned = zos("network", "plan", "home", "--json").json

    assert planned["at"] == "kernel"
    assert planned["changes"][0]["change"] == "put peer n2"
    assert node.asked[0]["name"] == "home"  # type: ignore[index]  # the draft that was asked about


def test_deletion_is_a_version_and_asks_first(owner: Owner, zos: Zos) -> None:
    assert zos("network", "delete", "home").code == Exit.INTERRUPTED
    assert zos("network", "delete", "home", "--yes").code == 0

    assert zos("network", "show", "home", "--json").json["deleted"] is True
    assert zos("network", "list", "--json").json["networks"][0]["deleted"] is True


def test_threshold_takes_signatures_of_several_machines(
    zos: Zos, registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # CLI-007
    homes = {name: tmp_path / name for name in ("alice", "bob")}
    ids = {}
    for name, path in homes.items():
        monkeypatch.setenv("ZOS_HOME", str(path))
        ids[name] = zos("id", "new", "tenant", name).out.strip()
    monkeypatch.setenv("ZOS_HOME", str(homes["alice"]))
    argv = ("--range", "10.1.0.0/16", "--owner", "alice", "--owner", ids["bob"], "--threshold", "2")
    alone = zos("network", "create", "home", *argv, "--registry", registry)
    assert alone.code == Exit.REFUSED
    assert "1 of 2" in alone.err

    assert zos("network", "create", "home", *argv, "--no-publish").code == 0
    signed = zos("network", "publish", "home", "--no-publish").out
    (homes["bob"] / "networks").mkdir(mode=0o700, parents=True)
    text = (homes["alice"] / "networks/home.toml").read_text()
    (homes["bob"] / "networks/home.toml").write_text(text)
    (tmp_path / "alice.json").write_text(signed)
    monkeypatch.setenv("ZOS_HOME", str(homes["bob"]))
    published = zos(
        "network", "publish", "home", "--signatures-from", str(tmp_path / "alice.json"),
        "--registry", registry, "--json",
    )  # fmt: skip

    assert published.json["version"] == 1
    assert len(json.loads(signed)["signatures"]) == 1


def test_signature_over_another_file_is_a_conflict(owner: Owner, zos: Zos, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(zos("network", "publish", "home", "--no-publish").out)
    owner.add("n1", N1)
    owner.file.write_text(owner.file.read_text() + "# same content, next version\n")

    ran = zos(
        "network",
        "publish",
        "home",
        "--no-publish",
        "--signatures-from",
        str(tmp_path / "old.json"),
    )

    assert ran.code == Exit.CONFLICT


def test_network_of_somebody_else_cannot_be_edited(
    owner: Owner, zos: Zos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOS_HOME", str(tmp_path / "bob"))
    zos("id", "new", "tenant", "bob")

    ran = zos("network", "add-node", str(owner.file), N1.id, "--as", "n1")

    assert ran.code == Exit.REFUSED
    assert "no owner's key" in ran.err


def test_key_of_the_wrong_kind_is_named(owner: Owner, zos: Zos) -> None:
    tenant = Identity.from_seed(Kind.TENANT, b"t" * 32).id

    ran = zos("network", "add-node", "home", tenant, "--as", "x")

    assert ran.code == Exit.USAGE
