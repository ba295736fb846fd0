"""Questions to the node on this machine, over its socket.

http.client and not aiohttp: a command that asks one question starts three times as fast.
"""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from overlay.errors import Conflict, Diverged, OverlayError, Refused, Rejected, Unavailable
from zos_core.cli.exits import NotRunning
from zos_core.status import ErrorAnswer, NetworkStatus, Status

SOCKET = Path("/run/zos/node.sock")
SOCKET_VARIABLE = "ZOS_SOCKET"
TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 64 << 20

T = TypeVar("T")

ERRORS: Mapping[str, type[OverlayError]] = {
    "rejected": Rejected,
    "not-found": Rejected,
    "refused": Refused,
    "conflict": Conflict,
    "unavailable": Unavailable,
    "diverged": Diverged,
}


class Slow(Unavailable):
    """The node is there, but did not answer in time."""


def socket_path() -> Path:
    return Path(os.environ.get(SOCKET_VARIABLE) or SOCKET)


def fetch_status() -> Status:
    """What the node says about itself. Raises NotRunning."""
    return get("/v1/status", Status)


def get(path: str, answer: type[T], *, timeout_s: float = TIMEOUT_S, **query: object) -> T:
    """The answer to a question. Raises NotRunning, or what the node answers instead."""
    given = {name: str(value) for name, value in query.items() if value is not None}
    target = f"{path}?{urlencode(given)}" if given else path
    return _ask("GET", target, None, answer, timeout_s)


def post(path: str, body: object, answer: type[T], *, timeout_s: float = TIMEOUT_S) -> T:
    """The answer to a wish. Raises NotRunning, or what the node answers instead."""
    return _ask("POST", path, msgspec.json.encode(body), answer, timeout_s)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("node", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _ask(method: str, target: str, body: bytes | None, answer: type[T], timeout_s: float) -> T:
    path = socket_path()
    connection = _Connection(path, timeout_s)
    headers = {"Content-Type": "application/json"} if body is not None else {}
    try:
        connection.request(method, target, body=body, headers=headers)
        response = connection.getresponse()
        raw = response.read(MAX_ANSWER_BYTES + 1)
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        remedy = "start it: sudo systemctl start zos-node, or sudo zos node run"
        raise NotRunning("no node runs on this machine", remedy=remedy) from exc
    except PermissionError as exc:
        raise Refused(f"{path} may not be opened by this user", remedy="use sudo") from exc
    except TimeoutError as exc:
        raise Slow(f"the node did not answer within {timeout_s:g} s") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise Unavailable(f"the node broke off: {exc}") from exc
    finally:
        connection.close()
    return _parse(response.status, raw, answer)


def _parse(status: int, raw: bytes, answer: type[T]) -> T:
    try:
        if status == http.client.OK:
            return msgspec.json.decode(raw, type=answer)
        error = msgspec.json.decode(raw, type=ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeError) as exc:
        remedy = "node and command line should be of one version: restart the node"
        raise Unavailable(
            f"the node's answer ({status}) was not understood", remedy=remedy
        ) from exc
    raise ERRORS[error.code](error.message, field=error.field, remedy=error.remedy)


def choose_network(status: Status, text: str | None) -> NetworkStatus:
    """The network that is meant: by id, by name, or the only one. Raises Rejected or Conflict."""
    # A tenant may call a network what the id of another one is.
    by_id = [n for n in status.networks if n.id == text]
    found = by_id or [n for n in status.networks if text in (None, n.name)]
    if len(found) == 1:
        return found[0]
    names = ", ".join(f"{n.name} ({n.id})" for n in (found or status.networks)) or "none"
    if text is None:
        wrong = "which network?" if status.networks else "this node is in no network"
        raise Rejected(wrong, field="NET", remedy=f"networks here: {names}")
    if not found:
        raise Rejected(
            f"this node has no network {text!r}", field="NET", remedy=f"networks here: {names}"
        )
    raise Conflict(f"{text!r} is {names}", field="NET", remedy="give the id")
