"""Which lab is meant, what is shown of it, and what a wrong name is answered with."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from netlab.cli.lab import COMMANDS
from netlab.cli.lab import lab as group
from netlab.cli.partition import read_parts
from netlab.supervisor import places
from netlab.supervisor.session import Session
from tests.netlab.cli.conftest import TOPOLOGY, Lab, answering
from zos_core.cli.exits import Exit


def test_every_line_of_the_table_is_a_command() -> None:  # LAB-240
    for name, entry in COMMANDS.items():
        command = group.get_command(click.Context(group), name)
        assert command is not None
        assert command.name == name
        assert entry.summary.endswith(".")


def test_the_root_knows_labs_without_importing_them() -> None:  # CLI-016
    code = (
        "import sys; sys.argv = ['zos', '--help']\n"
        "from zos_core.cli.main import main; main()\n"
        "print('loaded', *(name for name in sys.modules if name.startswith('netlab')))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "Run networks in namespaces on this machine." in ran.stdout
    loaded = ran.stdout.rpartition("loaded ")[2].split()
    assert set(loaded) == {"netlab", "netlab.cli", "netlab.cli.table"}


def test_netlab_is_a_program_of_its_own() -> None:  # LAB-240
    argv = [sys.executable, "-m", "netlab", "--help"]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert "zos lab up two-homes.lab.toml" in ran.stdout


def test_without_a_lab_every_question_says_what_to_do(lab: Lab) -> None:  # LAB-241
    for argv in (["status"], ["down"], ["events"], ["exec", "alice", "--", "true"], ["heal"]):
        ran = lab(*argv)
        assert (ran.code, ran.out) == (Exit.NOT_HEALTHY, "")
        assert "zos lab up FILE" in ran.err
    assert lab("ls", "--json").json == {"schema": 1, "labs": []}


@pytest.mark.usefixtures("two_homes")
def test_the_only_lab_needs_no_name(lab: Lab) -> None:  # LAB-241
    assert "two-homes  building: keeper 0/1" in lab("status").out
    found = lab("status", "two-homes", "--json").json
    assert [node["name"] for node in found["nodes"]] == ["alice", "bob"]
    assert found["links"][0] | {"up": True} == found["links"][0]
    assert lab("ls", "--json").json["labs"][0]["state"] == "building"


@pytest.mark.usefixtures("two_homes")
def test_of_two_labs_one_must_be_named(lab: Lab) -> None:  # LAB-241
    with answering(replace(TOPOLOGY, name="three-homes")):
        ran = lab("status")
        assert ran.code == Exit.USAGE
        assert "which lab? (up are three-homes, two-homes)" in ran.err
        assert lab("status", "two-homes").code == 0
        assert lab("link", "set", "--lab", "three-homes", "x", "--up").code == Exit.USAGE


@pytest.mark.usefixtures("two_homes")
@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["status", "two-hoems"], Exit.NOT_HEALTHY, "did you mean 'two-homes'?"),
        (["link", "set", "alice-hom", "--up"], Exit.USAGE, "did you mean 'alice-home'?"),
        (["link", "set", "alice-home"], Exit.USAGE, "what shall change?"),
        (["link", "set", "alice-home", "--delay", "20"], Exit.USAGE, "20ms"),
        (["link", "set", "alice-home", "--up"], Exit.UNAVAILABLE, "two-homes is building"),
        (["logs", "alcie"], Exit.USAGE, "did you mean 'alice'?"),
        (["logs", "zed"], Exit.USAGE, "did you mean 'alice'?"),
        (["logs", "../two-homes"], Exit.USAGE, "there is no node"),
        (["partition", "alice", "bobb"], Exit.UNAVAILABLE, "two-homes is building"),
        (["statsu"], Exit.USAGE, "did you mean status?"),
        (["down", "two-homes", "--all"], Exit.USAGE, "--all, or one LAB"),
        (["exec", "alice"], Exit.USAGE, "Missing argument"),
    ],
)
def test_what_cannot_be_is_answered_with_what_to_do(  # LAB-241
    lab: Lab, argv: list[str], code: int, words: str
) -> None:
    (places.place_of("two-homes").workdir / "alice").mkdir()
    ran = lab(*argv)
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


@pytest.mark.usefixtures("two_homes")
def test_with_json_an_error_is_an_object(lab: Lab) -> None:  # LAB-241
    error = lab("link", "set", "nowhere", "--up", "--json").json["error"]
    assert (error["code"], error["field"]) == ("usage", "link")


def test_events_are_shown_and_followed_to_the_end(lab: Lab, two_homes: Session) -> None:  # LAB-244
    two_homes.note_progress("namespaces", 0, 2)
    shown = lab("events")
    assert "phase      namespaces" in shown.out
    assert lab("events", "--json").json["events"][0]["detail"] == {"total": 2}
    assert lab("events", "--from", "2").out == ""
    assert lab("down").code == 0
    assert lab("ls").out == "no lab is up\n"


def test_down_returns_when_it_is_over(lab: Lab, two_homes: Session) -> None:  # LAB-242
    assert lab("down", "--json").json == {"schema": 1, "ended": ["two-homes"]}
    assert two_homes.stopping.is_set()
    assert not places.place_of("two-homes").directory.exists()


@pytest.mark.usefixtures("two_homes")
def test_logs_are_those_of_the_lab_or_of_one_node(lab: Lab) -> None:  # LAB-247
    workdir = places.place_of("two-homes").workdir
    (workdir / "bob").mkdir()
    (workdir / "keeper.log").write_text("of the keeper\n")
    (workdir / "bob/web.log").write_text("first\nsecond\nhalf a li")

    assert lab("logs").out == "bob/web | first\nbob/web | second\nkeeper | of the keeper\n"
    assert lab("logs", "bob", "-n", "1").out == "web | second\n"
    assert lab("logs", "bob", "--json").json["logs"][0] == {"log": "web", "line": "first"}


@pytest.mark.usefixtures("two_homes")
def test_names_of_what_lives_complete(  # LAB-241
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for typed, completed in (
        ("zos lab status tw", "two-homes"),
        ("zos lab exec al", "alice"),
        ("zos lab link set bo", "bob-internet"),
        ("zos lab reboot-nat ho", "home"),
        ("zos lab exec --lab two-homes bo", "bob"),
        ("zos lab shell --lab t", "two-homes"),
    ):
        words = typed.split()
        monkeypatch.setenv("_ZOS_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", typed)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        assert completed in lab().out, typed


@pytest.mark.parametrize(
    "typed", ["up 03", "run 03", "lint 03", "plan 03", "apply 03", "labs --show 03"]
)
def test_names_of_shipped_labs_complete(  # LAB-241
    lab: Lab, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    words = ["zos", "lab", *typed.split()]
    monkeypatch.setenv("_ZOS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    # Files as well, which the shell knows.
    assert lab().out.splitlines() == ["plain,03-home-nat", "file,03"]


@pytest.mark.usefixtures("two_homes")
def test_a_node_that_has_said_nothing_yet_has_empty_logs(lab: Lab) -> None:  # LAB-247
    ran = lab("logs", "bob")
    assert (ran.code, ran.out) == (0, "")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("alice,bob", "|", "carol"), (("alice", "bob"), ("carol",))),
        (("alice,bob | carol",), (("alice", "bob"), ("carol",))),
        (("alice", "carol,bob"), (("alice",), ("carol", "bob"))),
        (("alice", "bob", "|", "carol"), (("alice", "bob"), ("carol",))),
        (("alice|",), (("alice",), ())),
    ],
)
def test_parts_stand_between_bars_or_are_arguments(  # LAB-250
    words: tuple[str, ...], parts: tuple[tuple[str, ...], ...]
) -> None:
    assert read_parts(words) == parts


def test_a_supervisor_that_does_not_start_is_said_and_leaves_nothing(  # LAB-245
    lab: Lab, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "one.lab.toml"
    file.write_text("[node.solo]\n")
    for program, words in ((str(tmp_path / "nothing"), "no supervisor starts"), ("/bin/false", "")):
        monkeypatch.setattr(sys, "executable", program)
        ran = lab("up", str(file), "--name", "one")
        assert ran.code == Exit.UNAVAILABLE
        assert words in ran.err
        assert list(root.iterdir()) == []


def test_a_file_that_is_wrong_builds_nothing(lab: Lab, tmp_path: Path, root: Path) -> None:
    file = tmp_path / "wrong.lab.toml"
    file.write_text('[node.alice]\nlink = "nowhere"\n')

    assert lab("up", str(file)).code == Exit.USAGE
    assert lab("up", str(tmp_path / "missing.lab.toml")).code == Exit.USAGE
    assert not root.exists()
