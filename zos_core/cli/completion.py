"""`zos completion`: shell completion with live names, from files here and from the running node."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from overlay.errors import OverlayError
from zos_core.cli import output
from zos_core.cli.command import command

if TYPE_CHECKING:
    from zos_core.status import NetworkStatus

SHELLS = ("bash", "zsh", "fish")
_INSTALL = {
    "bash": "zos completion bash > /etc/bash_completion.d/zos",
    "zsh": "zos completion zsh > ~/.zfunc/_zos",
    "fish": "zos completion fish > ~/.config/fish/completions/zos.fish",
}


@command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell. Names of networks, nodes and peers complete too.

    \b
    Examples:
      zos completion bash > /etc/bash_completion.d/zos
      zos completion fish > ~/.config/fish/completions/zos.fish
    """
    from click.shell_completion import get_completion_class

    from zos_core.cli.root import root

    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"no completion for {shell}")
    script = maker(root, {}, "zos", "_ZOS_COMPLETE").source()
    output.show({"shell": shell, "install": _INSTALL[shell], "script": script}, script)


def complete_networks(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Names of networks: of files here, and of the node's network resources."""
    from zos_core.cli.home import Home

    names = {*Home().file_names("networks"), *(network.name for network in _networks())}
    return _starting(names, incomplete)


def complete_farms(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    from zos_core.cli.home import Home

    return _starting(set(Home().file_names("farms")), incomplete)


def complete_nodes(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Names of nodes in farm files."""
    from zos_core.cli.home import Home
    from zos_core.cli.names import farm_nodes

    return _starting({name for _, name, _ in farm_nodes(Home())}, incomplete)


def complete_relays(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Names of relays in network files."""
    from zos_core.cli.home import Home
    from zos_core.files.network import parse_network_file

    home, names = Home(), set[str]()
    for network in home.file_names("networks"):
        with suppress(OverlayError):
            names |= parse_network_file(home.read_file("networks", network)).relays.keys()
    return _starting(names, incomplete)


def complete_exits(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Names of exits in the farm file that the command is about."""
    from zos_core.cli.home import Home
    from zos_core.files.farm import parse_farm_file

    names = set[str]()
    with suppress(OverlayError):
        file = parse_farm_file(Home().read_file("farms", ctx.params.get("farm_name") or ""))
        names = {name for name, entry in file.nodes.items() if entry.exit}
    return _starting(names, incomplete)


def complete_peers(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Names of everybody in the node's networks."""
    names = {peer.name for network in _networks() for peer in network.peers}
    return _starting(names, incomplete)


def complete_workloads(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    names = {workload.name for network in _networks() for workload in network.attachments}
    return _starting(names, incomplete)


def _networks() -> tuple[NetworkStatus, ...]:
    from zos_core.cli.local import fetch_status

    # Somebody waits for the tab key: no answer is an answer.
    with suppress(OverlayError):
        return fetch_status().networks
    return ()


def _starting(names: set[str], incomplete: str) -> list[str]:
    return sorted(name for name in names if name.startswith(incomplete))
