"""`zos node`: run this machine as a node, look at it, take its networks down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from overlay.errors import Refused
from zos_core import collector
from zos_core.cli import local, output
from zos_core.cli.command import group
from zos_core.cli.completion import complete_networks
from zos_core.cli.exits import Exit

if TYPE_CHECKING:
    from zos_core.config import NodeConfig

LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")

_config = click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Configuration; default /etc/zos/node.toml, when it is there.",
)
_state = click.option("--state", metavar="DIR", help="Keys and documents; default /var/lib/zos.")


@group("node")
def node() -> None:
    """Run this machine as a node.

    A node reads signed documents and makes real what concerns it. Its networks outlive the
    process: a restart adopts them, `zos node clean` takes them down.

    \b
    Examples:
      sudo zos node run --registry https://192.0.2.1:8443#registry1... --farm farm1...
      zos node status
      sudo zos node clean --yes
    """


@node.command("run")
@_config
@_state
@click.option("--registry", metavar="REF", help="https://HOST:PORT#registry1...")
@click.option("--farm", metavar="FARM1...", help="The farm whose list of nodes this node believes.")
@click.option("--name", metavar="NAME", help="What the node calls itself; default: the host name.")
@click.option(
    "--endpoint",
    "endpoints",
    metavar="ADDRESS[:PORT]",
    multiple=True,
    help="Where it is reachable from the underlay; may be repeated.",
)
@click.option("--log-format", type=click.Choice(LOG_FORMATS))
@click.option("--log-level", type=click.Choice(LOG_LEVELS))
def run(
    path: Path | None,
    state: str | None,
    registry: str | None,
    farm: str | None,
    name: str | None,
    endpoints: tuple[str, ...],
    log_format: str | None,
    log_level: str | None,
) -> None:
    """Run in the foreground until interrupted. Options win over the configuration.

    Without a registry the node waits for a token: `zos join TOKEN`.

    \b
    Examples:
      sudo zos node run --registry https://192.0.2.1:8443#registry1... --farm farm1...
      sudo zos node run --name n1 --endpoint 192.0.2.11 --endpoint 2001:db8::11
    """
    with collector.spared():
        from zos_core.config import load_config, with_options
        from zos_core.logs import start_logging
        from zos_core.node import run_node

    config = with_options(
        load_config(path),
        registry=registry,
        farm=farm,
        name=name,
        endpoints=endpoints,
        state=state,
        log_format=cast("Literal['json', 'text'] | None", log_format),
        log_level=cast("Literal['debug', 'info', 'warning', 'error'] | None", log_level),
    )
    _need_root("run")
    start_logging(config.log.format, config.log.level)
    run_node(config)


@node.command("status")
@click.pass_context
def status(ctx: click.Context) -> None:
    """Show the node itself: id, WireGuard, registry, farm, endpoints. Exit code 1 when unhealthy.

    \b
    Examples:
      sudo zos node status
      sudo zos node status --json
    """
    import msgspec

    found = local.fetch_status()
    this, registry = found.node, found.registry
    value = {
        "node": msgspec.to_builtins(this),
        "registry": msgspec.to_builtins(registry),
        "networks": len(found.networks),
        "health": msgspec.to_builtins(found.health),
    }
    farm = f"{this.farm} ({this.farm_state})" if this.farm is not None else "none"
    output.show(
        value,
        f"node       {this.name}  {this.id}",
        f"software   {this.software}, process {this.pid}, since {output.rfc3339(this.started_at)}",
        f"wireguard  {this.backend_reason or this.backend}",
        f"registry   {registry.reference or 'none'}  {registry.state}",
        f"farm       {farm}",
        f"endpoints  {', '.join((*this.endpoints, *this.addresses)) or 'none'}",
        f"networks   {len(found.networks)}",
        *(f"# {item.severity}: {item.text} ({item.remedy})" for item in found.health),
    )
    if any(item.severity == "error" for item in found.health):
        ctx.exit(Exit.NOT_HEALTHY)


@node.command("rotate")
@click.argument("net", metavar="[NET]", required=False, shell_complete=complete_networks)
def rotate(net: str | None) -> None:
    """Replace the WireGuard keys of this node now, or that of one network.

    Peers are told the next key first, and it is used when they have had time to hear of it:
    `overlap_s` in the configuration, an hour unless it says otherwise. No connection is lost.

    \b
    Examples:
      sudo zos node rotate
      sudo zos node rotate home
    """
    import msgspec

    from zos_core.status import RotateAnswer, RotateRequest

    answer = local.post("/v1/rotate", RotateRequest(network=net), RotateAnswer)
    lines = (
        f"{each.name}: the next key takes over at {output.rfc3339(each.takes_over_at)}"
        if each.takes_over_at is not None
        else f"{each.name}: not replaced, {each.held_back}"
        for each in answer.rotations
    )
    output.show({"rotations": msgspec.to_builtins(answer.rotations)}, *lines)
    if not answer.rotations:
        output.say("this node is in no network")


@node.command("clean")
@_config
@_state
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--forget", is_flag=True, help="Also remove keys and documents: the identity is lost."
)
def clean(path: Path | None, state: str | None, yes: bool, forget: bool) -> None:
    """Take down all networks of this node. It must not be running.

    Workloads lose their networks. Keys and documents stay, so that the next start builds everything
    anew; with --forget they go, too.

    \b
    Examples:
      sudo zos node clean --yes
    """
    from zos_core.config import load_config, with_options
    from zos_core.node import clean_node

    config = with_options(load_config(path), state=state)
    _need_root("clean")
    if not yes:
        what = "all networks, keys and documents" if forget else "all networks"
        click.confirm(f"Remove {what} of this node?", abort=True, err=True)
    with output.progress("cleaning"):
        removed = clean_node(config)
    if forget:
        _forget(config)
    value = {"removed": list(removed), "forgotten": forget}
    output.show(value, *(f"removed {netns}" for netns in removed))
    if not removed:
        output.say("there was no network")


def _forget(config: NodeConfig) -> None:
    import shutil

    # Only what a node makes: the directory may hold somebody else's things, a registry's for one.
    for name in ("keys", "node.db", "node.db-wal", "node.db-shm", "lock"):
        path = Path(config.state) / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _need_root(verb: str) -> None:
    if os.geteuid() != 0:
        raise Refused(f"a node needs root to {verb}", remedy=f"sudo zos node {verb}")
