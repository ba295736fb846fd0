"""No command prints a secret but those whose purpose it is (CLI-015)."""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path

import pytest

from overlay.keys import store
from overlay.keys.identity import Kind
from overlay.model import NetworkId
from tests.zos_core import situation as at
from tests.zos_core.cli.conftest import N1, FakeNode, Owner, Ran, Zos
from zos_core.token import Token

COMMANDS = """
id show
id show tenant alice
network list
network show home
network diff home
network plan home
network publish home
network publish home --no-publish
network add-node home {n1} --as n9
network create home --range 10.1.0.0/16
network remove-node home n1
farm create basement --registry {registry}
farm show basement
status
node status
node rotate
why a b
wait
join {token}
attach home web --netns /proc/self/ns/net
detach home web
registry show --state {registry_state}
doctor --registry {registry}
help files
"""


@pytest.mark.parametrize("flag", [(), ("--json",)])
def test_no_command_prints_a_private_key_or_token(
    flag: tuple[str, ...],
    owner: Owner,
    node: FakeNode,
    zos: Zos,
    home: Path,
    tmp_path: Path,
) -> None:
    owner.add("n1", N1)
    state = tmp_path / "registry"
    store.load_or_create(state / "registry.key", Kind.REGISTRY)
    token = Token(
        registry=owner.registry, network=NetworkId(at.NET), invitation=store.generate(Kind.INVITE)
    )
    text = token.encode()
    words = {"n1": N1.id, "registry": owner.registry, "token": text, "registry_state": state}
    outputs: list[Ran] = []

    for line in COMMANDS.strip().splitlines():
        argv = [word.format(**words) for word in line.split()]
        outputs.append(zos(*argv, *flag))

    seeds = [
        token.invitation.reveal(),
        *map(seed_of, [*home.rglob("*.key"), *state.rglob("*.key")]),
    ]
    printed = "".join(ran.out + ran.err for ran in outputs)
    assert len(printed) > 2_000
    assert len(seeds) >= 4
    assert text not in printed
    for seed in seeds:
        for form in forms(seed):
            assert form not in printed


def test_invitation_is_printed_once_and_only_on_standard_output(owner: Owner, zos: Zos) -> None:
    made = zos("network", "invite", "home", "guest")
    text = made.out.strip()

    later = [zos("network", "show", "home"), zos("network", "diff", "home", "--json")]

    assert text.startswith("zosjoin1")
    assert all(text not in ran.out + ran.err for ran in later)
    assert text not in made.err
    assert text not in owner.file.read_text()


def seed_of(path: Path) -> bytes:
    match = re.search(r"^seed ([0-9a-f]{64})$", path.read_text(), re.MULTILINE)
    assert match is not None
    return bytes.fromhex(match[1])


def forms(seed: bytes) -> tuple[str, ...]:
    """How a key could be printed."""
    return (
        seed.hex(),
        binascii.b2a_base64(seed, newline=False).decode().rstrip("="),
        base64.urlsafe_b64encode(seed).decode().rstrip("="),
        repr(seed)[2:-1],
    )
