"""What an operator decides for a node: /etc/zos/node.toml, and the options that win over it."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from overlay import addressing
from overlay.documents import fields
from overlay.documents.fields import Label
from overlay.errors import Rejected
from overlay.keys import identity, rotation
from overlay.keys.identity import Kind
from overlay.keys.rotation import Pace
from overlay.model import Endpoint
from overlay.peers.candidates import MIN_UNDERLAY_MTU_BYTES
from overlay.peers.registry import RegistryRef
from zos_core.files.toml import parse_toml

CONFIG_PATH = Path("/etc/zos/node.toml")
STATE_VARIABLE = "ZOS_STATE"
SOCKET_VARIABLE = "ZOS_SOCKET"
MAX_CONFIG_BYTES = 65_536
MAX_ENDPOINTS = 8
MAX_ROTATE_DAYS = 3_650
DEFAULT_NAME = "node"
_PORTS = re.compile(r"(\d{1,5})-(\d{1,5})", re.ASCII)


class WireGuardConfig(msgspec.Struct, frozen=True):
    """Which WireGuard to use."""

    backend: Literal["auto", "kernel", "wireguard-go"] = "auto"
    binary: str | None = None  # path of a wireguard-go


class KeysConfig(msgspec.Struct, frozen=True):
    """How long WireGuard keys are used."""

    rotate_days: Annotated[int, Meta(ge=0, le=MAX_ROTATE_DAYS)] = 30  # 0: only when asked
    # How long peers know the next key before it is used. Who hears nothing for longer than this
    # reaches the node again when the registry has told it.
    overlap_s: Annotated[int, Meta(ge=rotation.MIN_OVERLAP_S, le=rotation.MAX_OVERLAP_S)] = (
        rotation.OVERLAP_S
    )


class LogConfig(msgspec.Struct, frozen=True):
    """What goes to standard error."""

    format: Literal["json", "text"] = "text"
    level: Literal["debug", "info", "warning", "error"] = "info"


class NodeConfig(msgspec.Struct, frozen=True):
    """One node. Every key is optional: without a registry it waits for a token."""

    registry: str | None = None  # https://host:port#registry1...
    farm: str | None = None  # farm1... : whose list of nodes this node believes
    name: Label | None = None  # None: from the host name
    endpoints: Annotated[tuple[str, ...], Meta(max_length=MAX_ENDPOINTS)] = ()
    listen_ports: str = "51820-52819"
    mtu: Annotated[int, Meta(ge=MIN_UNDERLAY_MTU_BYTES, le=65_535)] | None = None  # of the underlay
    state: str = "/var/lib/zos"
    socket: str = "/run/zos/node.sock"
    wireguard: WireGuardConfig = WireGuardConfig()
    keys: KeysConfig = KeysConfig()
    log: LogConfig = LogConfig()


class Ports(msgspec.Struct, frozen=True):
    first: int
    last: int


def load_config(path: Path | None = None) -> NodeConfig:
    """The configuration in `path`; the defaults when it is not named and not there.

    Raises Rejected naming the key that is wrong.
    """
    try:
        raw = (path or CONFIG_PATH).read_bytes()
    except FileNotFoundError:
        if path is not None:
            raise Rejected(f"{path} is not there", field="config") from None
        raw = b""
    except OSError as exc:
        raise Rejected(f"{path or CONFIG_PATH}: {exc.strerror}", field="config") from exc
    if len(raw) > MAX_CONFIG_BYTES:
        raise Rejected(f"{path or CONFIG_PATH} is longer than {MAX_CONFIG_BYTES} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Rejected(f"{path or CONFIG_PATH} is not UTF-8") from None
    return with_environment(parse_config(text))


def parse_config(text: str) -> NodeConfig:
    """Raises Rejected naming the key that is wrong."""
    config = parse_toml(text, NodeConfig, what="node.toml")
    check(config)
    return config


def with_options(
    config: NodeConfig,
    *,
    registry: str | None = None,
    farm: str | None = None,
    name: str | None = None,
    endpoints: tuple[str, ...] = (),
    state: str | None = None,
    log_format: Literal["json", "text"] | None = None,
    log_level: Literal["debug", "info", "warning", "error"] | None = None,
) -> NodeConfig:
    """What is given wins. Raises Rejected naming what is wrong."""
    given: dict[str, object] = {
        "registry": registry,
        "farm": farm,
        "name": name,
        "endpoints": endpoints or None,
        "state": state,
        "log": LogConfig(log_format or config.log.format, log_level or config.log.level),
    }
    changed = {key: value for key, value in given.items() if value is not None}
    found = msgspec.structs.replace(config, **changed)
    check(found)
    return found


def with_environment(config: NodeConfig) -> NodeConfig:
    """Where things are may be said by the environment, as for the other commands."""
    return msgspec.structs.replace(
        config,
        state=os.environ.get(STATE_VARIABLE) or config.state,
        socket=os.environ.get(SOCKET_VARIABLE) or config.socket,
    )


def check(config: NodeConfig) -> None:
    """Raise Rejected unless all of it can be followed."""
    if config.registry is not None:
        RegistryRef.parse(config.registry, field="registry")
    if config.farm is not None:
        identity.parse_id(Kind.FARM, config.farm, field="farm")
    if config.name is not None and not fields.is_label(config.name):
        raise Rejected(
            f"{config.name[:80]!r} is no name", field="name", remedy="use a-z, 0-9 and - inside"
        )
    for key in ("state", "socket"):
        if not Path(getattr(config, key)).is_absolute():
            raise Rejected("is no absolute path", field=key)
    parse_ports(config.listen_ports)
    parse_endpoints(config)


def parse_ports(text: str) -> Ports:
    """ "51820-52819". Raises Rejected."""
    match = _PORTS.fullmatch(text)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= first <= last <= 65_535:
        raise Rejected(
            f"{text[:40]!r} is no range of ports",
            field="listen_ports",
            remedy='write "51820-52819"',
        )
    return Ports(first, last)


def parse_endpoints(config: NodeConfig) -> tuple[Endpoint, ...]:
    """Declared endpoints; without a port, the first that we listen on. Raises Rejected."""
    first = parse_ports(config.listen_ports).first
    return tuple(
        _endpoint(text, first, f"endpoints[{n}]") for n, text in enumerate(config.endpoints)
    )


def pace(config: NodeConfig) -> Pace:
    """When device keys are replaced."""
    days = config.keys.rotate_days
    return Pace(days * rotation.DAY_S if days else None, config.keys.overlap_s)


def own_name(config: NodeConfig) -> str:
    """The configured name, else what the host name gives as a label."""
    if config.name is not None:
        return config.name
    host = socket.gethostname().partition(".")[0].lower()
    label = re.sub(r"[^a-z0-9-]+", "-", host).strip("-")[:63].strip("-")
    return label if fields.is_label(label) else DEFAULT_NAME


def _endpoint(text: str, first: int, field: str) -> Endpoint:
    """An address, or an address with a port."""
    if text.count(":") == 1 or "]:" in text:
        endpoint = addressing.parse_endpoint(text, field=field)
    else:
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        endpoint = Endpoint(addressing.parse_address(bare, field=field), first)
    addressing.refuse_local(endpoint.address, field=field)
    return endpoint
