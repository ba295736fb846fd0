"""`zos registry`: the directory of signed documents, as a server."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import NamedTuple

import click

from overlay.errors import Rejected
from overlay.keys import store
from overlay.keys.identity import Identity, Kind
from zos_core.cli import output
from zos_core.cli.command import group

STATE_DIRECTORY = Path("/var/lib/zos/registry")
DEFAULT_PORT = 8_443
EVERYWHERE = (f"0.0.0.0:{DEFAULT_PORT}", f"[::]:{DEFAULT_PORT}")

_state = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    default=STATE_DIRECTORY,
    show_default=True,
    help="Where its key and documents are.",
)
_advertise = click.option(
    "--advertise",
    metavar="HOST[:PORT]",
    multiple=True,
    help="What nodes and people call it; default: the addresses it listens on.",
)


class HostPort(NamedTuple):
    host: str
    port: int


@group("registry")
def registry() -> None:
    """Serve a registry: it stores and forwards signed documents and is trusted with nothing.

    \b
    Examples:
      sudo zos registry serve
      sudo zos registry show
    """


@registry.command("serve")
@_state
@click.option(
    "--listen", metavar="ADDRESS:PORT", multiple=True, default=EVERYWHERE, show_default=True
)
@_advertise
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning"]), default="info")
def serve(
    state: Path,
    listen: tuple[str, ...],
    advertise: tuple[str, ...],
    log_format: str,
    log_level: str,
) -> None:
    """Serve until interrupted; prints the references that nodes and people are given.

    \b
    Examples:
      sudo zos registry serve
      zos registry serve --state ./registry --listen 127.0.0.1:8443
      sudo zos registry serve --advertise registry.example.org:8443 --log-format json
    """
    import asyncio

    from zos_core.logs import start_logging

    listening = [parse_host_port(text, field="--listen") for text in listen]
    if len({address.port for address in listening}) > 1:
        raise Rejected("all addresses share one port", field="--listen")
    start_logging("json" if log_format == "json" else "text", log_level)
    identity = _identity(state)
    asyncio.run(_serve(state, identity, listening, advertise))


@registry.command("show")
@_state
@_advertise
def show(state: Path, advertise: tuple[str, ...]) -> None:
    """Print the reference of this machine's registry: where it is and which key it has.

    \b
    Examples:
      sudo zos registry show --advertise registry.example.org
    """
    id = store.load_id(_key_path(state), Kind.REGISTRY)
    addresses = [HostPort(address, DEFAULT_PORT) for address in ("0.0.0.0",)]
    _show(id, addresses, advertise)


async def _serve(
    state: Path, identity: Identity, listening: list[HostPort], advertise: tuple[str, ...]
) -> None:
    import asyncio
    import signal

    from overlay.registry.serve import Config, running
    from overlay.registry.store.sqlite import SqliteStore
    from zos_core.clock import SystemClock

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    clock = SystemClock()
    config = Config(addresses=tuple(a.host for a in listening), port=listening[0].port)
    database = await SqliteStore.open(state / "registry.db", born=int(clock.now().timestamp()))
    async with running(config, identity=identity, clock=clock, store=database) as started:
        bound = [HostPort(address.host, started.port) for address in listening]
        _show(identity.id, bound, advertise)
        await stop.wait()


def _show(id: str, listening: list[HostPort], advertise: tuple[str, ...]) -> None:
    port = listening[0].port
    given = [parse_host_port(text, field="--advertise", default_port=port) for text in advertise]
    references = [reference(address, id) for address in given or _reachable(listening)]
    value = {"registry": id, "reference": references[0], "references": references}
    output.show(value, *references)


def reference(address: HostPort, id: str) -> str:
    """`https://HOST:PORT#registry1...`"""
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"https://{host}:{address.port}#{id}"


def parse_host_port(text: str, *, field: str, default_port: int | None = None) -> HostPort:
    """`192.0.2.1:8443`, `[2001:db8::1]:8443`, `registry.example.org:8443`. Raises Rejected."""
    host, _, port = text.rpartition(":")
    if default_port is not None and (not host or text.endswith("]")):
        host, port = text, str(default_port)
    bare = host.removeprefix("[").removesuffix("]")
    is_bracketed = host != bare
    if not bare or (":" in bare) != is_bracketed or not (port.isascii() and port.isdigit()):
        raise Rejected(
            f"{text!r} is no host and port",
            field=field,
            remedy="write 192.0.2.1:8443 or [::1]:8443",
        )
    if int(port) > 65_535:
        raise Rejected(f"{port} is no port", field=field)
    return HostPort(bare, int(port))


def _reachable(listening: list[HostPort]) -> list[HostPort]:
    """Where it answers; this machine's name stands for "everywhere"."""
    named = [
        HostPort(socket.gethostname(), a.port) if a.host in ("0.0.0.0", "::") else a
        for a in listening
    ]
    return list(dict.fromkeys(named))


def _key_path(state: Path) -> Path:
    return state / "registry.key"


def _identity(state: Path) -> Identity:
    return store.load_or_create(_key_path(state), Kind.REGISTRY)
