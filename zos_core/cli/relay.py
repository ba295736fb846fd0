"""`zos relay`: relays of a farm, and a relay that runs alone, for stock WireGuard."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from overlay.documents.relays import DEFAULT_RELAY_PORT
from overlay.errors import OverlayError, Unavailable
from overlay.keys import store
from overlay.keys.identity import Kind
from overlay.keys.wireguard import DeviceKey, format_key
from zos_core.cli import output
from zos_core.cli.command import Group, group
from zos_core.cli.relay_offer import offer, rate_option, status, withdraw

if TYPE_CHECKING:
    from overlay.model import Endpoint
    from overlay.relay.roster import Membership
    from overlay.relay.server import Relay
    from overlay.relay.streams import Streams

EVERYWHERE = (f"0.0.0.0:{DEFAULT_RELAY_PORT}", f"[::]:{DEFAULT_RELAY_PORT}")
STATISTICS_EVERY_S = 60.0

_log = logging.getLogger(__name__)
_file = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@group("relay")
def relay() -> None:
    """Pass on packets between members of a network that do not reach each other.

    A relay cannot read what it passes on. An operator offers nodes of a farm; a tenant names them:
    zos network relay add.

    A relay may also run alone, for stock WireGuard: its public key is one more peer there, without
    allowed IPs and with PersistentKeepalive = 25, and peers behind it have its address as their
    endpoint.

    \b
    Examples:
      zos relay offer basement n1 --endpoint 192.0.2.1
      zos relay status
      zos relay key new ./relay.key
      zos relay serve --key ./relay.key --members ./members.toml
    """


@relay.group("key", cls=Group)
def key() -> None:
    """Make and show the key of a relay.

    \b
    Examples:
      zos relay key new ./relay.key
      zos relay key show ./relay.key
    """


@key.command("new")
@_file
def new(file: Path) -> None:
    """Make a key and print the public half, which members put into their configuration.

    \b
    Examples:
      zos relay key new ./relay.key
    """
    made = store.generate(Kind.WG)
    store.save(file, made)
    output.say(f"wrote {file}")
    public = format_key(DeviceKey(made).public_key)
    output.show({"file": str(file), "public_key": public}, public)


@key.command("show")
@_file
def show(file: Path) -> None:
    """Print the public half of a key.

    \b
    Examples:
      zos relay key show ./relay.key
    """
    public = format_key(DeviceKey(store.load(file, Kind.WG)).public_key)
    output.show({"file": str(file), "public_key": public}, public)


@relay.command("serve")
@click.option(
    "--key",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="The relay's key, made by zos relay key new.",
)
@click.option(
    "--members",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Who may use it: TOML, [network.NAME] with members = [public keys]. Read again on SIGHUP.",
)
@click.option(
    "--listen",
    metavar="ADDRESS:PORT",
    multiple=True,
    default=EVERYWHERE,
    show_default=True,
    help="One of each family.",
)
@click.option(
    "--tls-listen",
    metavar="ADDRESS:PORT",
    multiple=True,
    help="Also by TLS over TCP, for nodes where UDP is blocked; one of each family.",
)
@rate_option
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning"]), default="info")
def serve(
    key_file: Path,
    members: Path,
    listen: tuple[str, ...],
    tls_listen: tuple[str, ...],
    rate_mbit: int,
    log_format: str,
    log_level: str,
) -> None:
    """Serve until interrupted; prints the public key that members are given.

    Once a minute, and at the end, the log says how many members and sessions there are, and how
    many packets met which fate.

    \b
    Examples:
      zos relay serve --key ./relay.key --members ./members.toml
      zos relay serve --key ./relay.key --members ./members.toml --listen 192.0.2.1:51819
      zos relay serve --key ./relay.key --members ./members.toml --tls-listen 0.0.0.0:443
    """
    import asyncio

    from overlay.addressing import parse_endpoint
    from zos_core.logs import start_logging

    listening = [parse_endpoint(text, field="--listen") for text in listen]
    by_tls = [parse_endpoint(text, field="--tls-listen") for text in tls_listen]
    device = DeviceKey(store.load(key_file, Kind.WG))
    membership = _read(members)
    start_log = partial(start_logging, "json" if log_format == "json" else "text", log_level)
    asyncio.run(_serve(device, listening, by_tls, members, membership, rate_mbit, start_log))


for _command in (offer, withdraw, status):
    relay.add_command(_command)


async def _serve(
    device: DeviceKey,
    listening: list[Endpoint],
    by_tls: list[Endpoint],
    members: Path,
    membership: Membership,
    rate_mbit: int,
    start_log: Callable[[], None],
) -> None:
    import asyncio
    import signal
    from contextlib import AsyncExitStack

    from overlay.relay.server import open_sockets, running
    from zos_core.clock import SystemClock

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    clock, streams = SystemClock(), None
    async with AsyncExitStack() as stack:
        listeners = _open_listeners(by_tls)
        for each in listeners:
            stack.callback(each.close)
        serving = running(device, open_sockets(listening), clock, membership=membership)
        served = await stack.enter_async_context(serving)
        served.set_rate(rate_mbit)
        start_log()
        if listeners:
            # aiohttp's server is much to load for who needs none.
            from overlay.relay.streams import streaming

            accepting = streaming(served, device.identity, listeners, clock)
            streams = await stack.enter_async_context(accepting)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, _reload(served, members))
        public = format_key(device.public_key)
        bound = [str(each) for each in listening]
        tls = [str(each) for each in by_tls]
        serves = {"listen": bound, "tls_listen": tls, "rate_mbit": rate_mbit}
        output.show({"public_key": public, **serves}, public)
        while not stop.is_set():
            try:
                async with asyncio.timeout(STATISTICS_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                pass
            _tell(served, streams)


def _open_listeners(by_tls: list[Endpoint]) -> list[socket.socket]:
    from overlay.relay.server import open_sockets

    return open_sockets(by_tls, socket.SOCK_STREAM) if by_tls else []


def _reload(served: Relay, members: Path) -> Callable[[], None]:
    def reload() -> None:
        try:
            membership = _read(members)
        except OverlayError as exc:
            _log.error("members stay as they are: %s", exc)
            return
        served.allow(membership)
        _log.info("members are read again", extra={"networks": len(membership)})

    return reload


def _tell(served: Relay, streams: Streams | None) -> None:
    found = served.statistics()
    fates = {f"packets_{fate.replace('-', '_')}": count for fate, count in found.packets.items()}
    _log.info(
        "statistics",
        extra={
            "members": found.members,
            "sessions": found.sessions,
            "routes": found.routes,
            "forwarded_bytes": found.forwarded_bytes,
            "unsent": served.unsent,
            **fates,
            **_connections(streams),
        },
    )


def _connections(streams: Streams | None) -> dict[str, int]:
    if streams is None:
        return {}
    ends = {f"connections_{end.replace('-', '_')}": n for end, n in streams.ends.items()}
    return {"connections": len(streams), "connections_dropped": streams.dropped, **ends}


def _read(members: Path) -> Membership:
    from overlay.errors import Rejected
    from zos_core.files.relay_members import parse_relay_members

    try:
        text = members.read_text(encoding="utf-8")
    except UnicodeDecodeError as exc:
        raise Rejected(f"{members} is not UTF-8") from exc
    except OSError as exc:
        raise Unavailable(f"{members}: {exc.strerror}") from exc
    return parse_relay_members(text)
