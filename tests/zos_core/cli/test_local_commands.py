"""Commands that ask the running node: why, ping, wait, join, attach, detach, completion, doctor."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from overlay.keys import store
from overlay.keys.identity import Kind
from overlay.model import Address, NetworkId
from tests.zos_core import situation as at
from tests.zos_core.cli.conftest import FakeNode, Owner, Zos
from zos_core import icmp
from zos_core.cli import output
from zos_core.cli.exits import Exit
from zos_core.icmp import Pong
from zos_core.status import AttachRequest, DetachRequest, RotateRequest
from zos_core.token import Token


def test_why_prints_every_step_and_the_verdict(zos: Zos, node: FakeNode) -> None:  # CLI-030
    ran = zos("why", "a", "b", "tcp/443")

    assert ran.code == 0
    assert ran.out == (
        "ok  network     home version 3 is up\n"
        "ok  policy      no rules: everything inside the network is allowed\n"
        "ok  membership  a is in the network (index 1)\n"
        "ok  membership  b is in the network (index 2)\n"
        "ok  peer        b may send from 10.1.2.0/24, fd00:1:2:2::/64\n"
        "ok  endpoint    b is at 192.0.2.2:51820 (direct)\n"
        "ok  handshake   5 s ago; 88 B in, 120 B out\n"
        "ok  firewall    loaded, and the kernel holds all that it should\n"
        "ok  workload    the gateway of b answers by itself\n"
        "ok  mtu         1420 bytes; TCP segments are clamped to it\n"
        "a -> b tcp/443: nothing that this node sees refuses\n"
    )


def test_why_names_the_first_that_refuses_and_exits_1(zos: Zos, node: FakeNode) -> None:
    node.inputs = at.why_inputs(network=at.network(policy=()))

    ran = zos("why", "a", "b", "tcp/443")
    value = zos("why", "a", "b", "--json").json

    assert ran.code == Exit.NOT_HEALTHY
    assert "NO  policy      none of 0 rules allows a to send b tcp/443\n" in ran.out
    assert "a -> b tcp/443: policy refuses: " in ran.out
    assert (value["refusal"]["name"], value["refusal"]["verdict"]) == ("policy", "no")


@pytest.mark.parametrize("argv", [("why", "a", "zzz"), ("why", "a", "b", "tcp/0")])
def test_why_of_nobody_or_nothing_is_a_usage_error(
    argv: tuple[str, ...], zos: Zos, node: FakeNode
) -> None:
    assert zos(*argv).code == Exit.USAGE


@pytest.fixture
def echoes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str | None]]:
    """Every target answers in 1.2 ms, but for those that end in 99."""
    asked: list[tuple[str, str | None]] = []

    def ping(
        _: object, target: Address, *, source: Address | None, sequence: int, timeout_s: float
    ) -> Pong:
        asked.append((target, source))
        return Pong(sequence, None if target.endswith("99") else 1.2, "no reply")

    monkeypatch.setattr(icmp, "ping", ping)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return asked


@pytest.mark.parametrize(
    ("argv", "target", "source"),
    [
        (("b",), "10.1.2.1", "10.1.1.1"),
        (("b", "-6"), "fd00:1:2:2::1", "fd00:1:2:1::1"),
        (("10.1.2.7",), "10.1.2.7", "10.1.1.1"),
        (("fd00:1:2:2::7",), "fd00:1:2:2::7", "fd00:1:2:1::1"),
    ],
)
def test_ping_names_the_peer_and_the_path(
    argv: tuple[str, ...],
    target: str,
    source: str,
    zos: Zos,
    node: FakeNode,
    echoes: list[tuple[str, str | None]],
) -> None:
    ran = zos("ping", *argv, "-c", "1")

    assert ran.out == f"pong from b ({target}) via 192.0.2.2:51820 direct in 1.2 ms\n"
    assert (ran.code, echoes) == (0, [(target, source)])


def test_ping_without_an_answer_exits_1_with_what_refuses(
    zos: Zos, node: FakeNode, echoes: object
) -> None:
    node.inputs = at.why_inputs(
        network=at.network(peers=(at.peer("b", 2, state="connecting", handshake_age_s=None),))
    )

    ran = zos("ping", "10.1.2.99", "-c", "1")
    value = zos("ping", "10.1.2.99", "-c", "1", "--json").json

    assert ran.code == Exit.NOT_HEALTHY
    assert "no answer from b: never; " in ran.err
    assert (value["received"], value["refusal"]["name"]) == (0, "handshake")


def test_ping_of_the_other_family_is_refused(zos: Zos, node: FakeNode, echoes: object) -> None:
    assert zos("ping", "10.1.2.1", "-6").code == Exit.USAGE


def test_ping_without_root_says_sudo(
    zos: Zos, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:  # CLI-013
    monkeypatch.setattr("zos_core.cli.ping.os.geteuid", lambda: os.getuid() or 1000)

    # The socket itself answers root and its own user; this process stays what it was.
    ran = zos("ping", "b")

    assert "sudo" in ran.err
    assert ran.code == Exit.REFUSED


def test_wait_is_over_when_all_networks_are_up(zos: Zos, node: FakeNode) -> None:
    assert zos("wait").out == "home is up\n"
    assert zos("wait", "home", "--peer", "b").code == 0


@pytest.mark.parametrize(
    ("argv", "missing"),
    [
        (("office",), "this node has no network office"),
        (("home", "--peer", "c"), "no network here has a peer c"),
    ],
)
def test_wait_gives_up_with_what_is_missing(
    argv: tuple[str, ...], missing: str, zos: Zos, node: FakeNode
) -> None:
    ran = zos("wait", *argv, "--timeout", "0.05s")

    assert ran.code == Exit.NOT_CONVERGED
    assert missing in ran.err


def test_wait_says_why_a_network_is_not_up(zos: Zos, node: FakeNode) -> None:
    node.answer = at.node_status(at.network(state="joining", message="member not accepted"))

    ran = zos("wait", "--timeout", "0.05s")

    assert (ran.code, "home is joining: member not accepted" in ran.err) == (3, True)


def test_wait_without_a_node_is_not_converged(zos: Zos) -> None:
    ran = zos("wait", "--timeout", "0.05s")

    assert (ran.code, "no node runs" in ran.err) == (3, True)


def test_join_takes_the_token_from_standard_input(zos: Zos, node: FakeNode, registry: str) -> None:
    token = Token(
        registry=registry, network=NetworkId(at.NET), invitation=store.generate(Kind.INVITE)
    ).encode()

    ran = zos("join", "-", stdin=f"{token}\n")

    assert ran.out == "joined home as index 4: 10.1.4.0/24 fd00:1:2:4::/64\n"
    assert node.asked == [token]


@pytest.mark.parametrize("text", ["", "zosjoin1abc", "hello"])
def test_damaged_token_is_refused_without_repeating_it(text: str, zos: Zos) -> None:
    ran = zos("join", "-", stdin=text)

    assert ran.code == Exit.USAGE
    assert not text or text not in ran.err


def test_attach_by_path_and_by_process(zos: Zos, node: FakeNode) -> None:
    by_pid = zos("attach", "home", "db", "--pid", str(os.getpid()), "--link", "net0")
    by_path = zos("attach", "home", "web", "--netns", "/proc/self/ns/net", "--json")

    assert by_pid.out == "db: 10.1.1.3 fd00:1:2:1::3 on eth0\n"
    assert by_path.json["attachment"]["address_v4"] == "10.1.1.3/24"
    assert node.asked[0] == AttachRequest("home", "db", f"/proc/{os.getpid()}/ns/net", "net0")
    assert zos("detach", "home", "db").code == 0
    assert node.asked[-1] == DetachRequest("home", "db")


def test_rotate_says_when_the_next_keys_take_over_and_which_do_not(  # CLI-064
    zos: Zos, node: FakeNode
) -> None:
    ran = zos("node", "rotate")

    assert ran.code == 0
    begun, held = ran.out.splitlines()
    assert begun.startswith("home: the next key takes over at 20")
    assert held == "held: not replaced, laptop has this key"
    assert node.asked == [RotateRequest(None)]
    assert zos("node", "rotate", "home", "--json").json["rotations"][1]["takes_over_at"] is None
    assert node.asked[-1] == RotateRequest("home")
    refused = zos("node", "rotate", "held")
    assert (refused.code, "laptop" in refused.err) == (Exit.REFUSED, True)


@pytest.mark.parametrize("argv", [(), ("--pid", "1", "--netns", "/x"), ("--pid", "0")])
def test_attach_needs_one_netns(argv: tuple[str, ...], zos: Zos, node: FakeNode) -> None:
    assert zos("attach", "home", "web", *argv).code == Exit.USAGE


def test_refusal_of_the_node_arrives_with_its_field(zos: Zos, node: FakeNode) -> None:
    ran = zos("attach", "home", "web", "--netns", "/nowhere", "--json")

    assert (ran.code, ran.json["error"]["field"]) == (Exit.USAGE, "netns")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_that_of_the_shell(shell: str, zos: Zos) -> None:
    script = zos("completion", shell).out

    assert "_ZOS_COMPLETE" in script


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("zos netw", "network"),
        ("zos network add-", "add-node"),
        ("zos network show ho", "home"),
        ("zos ping ", "b"),
        ("zos detach home ", "web"),
        ("zos status ", "home"),
    ],
)
def test_completion_knows_live_names(
    words: str,
    expected: str,
    owner: Owner,
    node: FakeNode,
    monkeypatch: pytest.MonkeyPatch,
    zos: Zos,
) -> None:
    monkeypatch.setenv("_ZOS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))

    assert expected in [line.partition(",")[2] for line in zos().out.splitlines()]


def test_completion_without_a_node_is_silent(zos: Zos, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_ZOS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "zos ping ")
    monkeypatch.setenv("COMP_CWORD", "2")

    ran = zos()

    assert (ran.out.strip(), ran.err) == ("", "")


def test_help_of_topics_and_commands(zos: Zos) -> None:
    assert "/run/zos/node.sock" in zos("help", "files").out
    assert "ZOS_PASSPHRASE_FILE" in zos("help", "environment").out
    assert "Usage: zos network invite" in zos("help", "network", "invite").out
    assert zos("help", "nonsense").code == Exit.USAGE


@pytest.mark.parametrize(
    ("no_colour", "is_terminal", "expected"),
    [("", True, True), ("1", True, False), ("", False, False)],
)
def test_colour_is_for_terminals_whose_owner_wants_it(
    no_colour: str, is_terminal: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:  # CLI-014
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return is_terminal

    monkeypatch.setenv("NO_COLOR", no_colour)
    monkeypatch.setattr("sys.stdout", Terminal())

    assert output.has_colour() is expected
    assert ("\x1b[" in output.mark("ok", "green")) is expected


def test_file_schemas_are_those_of_the_types(tmp_path: Path) -> None:  # CLI-004
    from zos_core.cli import schemas

    schemas.write_schemas(tmp_path)

    published = Path(__file__).parents[3] / "specs" / "schemas"
    for path in tmp_path.iterdir():
        assert (published / path.name).read_text() == path.read_text(), (
            "run: python -m zos_core.cli.schemas specs/schemas"
        )
