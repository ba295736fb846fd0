"""Questions to a lab's supervisor over its sockets, from a command: no event loop, no aiohttp."""

from __future__ import annotations

import array
import http.client
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import msgspec

from netlab.not_started import NotStarted
from netlab.supervisor.places import Place
from netlab.supervisor.status import StartRequest
from overlay.errors import OverlayError, Unavailable
from zos_core.cli.exits import NotRunning
from zos_core.cli.local import ERRORS
from zos_core.socket_path import reachable
from zos_core.status import ErrorAnswer, ErrorBody

TIMEOUT_S = 60.0
ANSWER_BYTES_MAX = 256 << 20
MESSAGE_BYTES_MAX = 128 * 1024

T = TypeVar("T")


def get(place: Place, path: str, answer: type[T], **query: object) -> T:
    """The answer to a question. Raises NotRunning, or what the supervisor answers instead."""
    return _ask(place, "GET", _target(path, query), None, answer)


def post(place: Place, path: str, wish: msgspec.Struct, answer: type[T]) -> T:
    """The answer to a wish. Raises NotRunning, or what the supervisor answers instead."""
    return _ask(place, "POST", path, msgspec.json.encode(wish), answer)


def follow(
    place: Place,
    path: str,
    line: type[T],
    *,
    wish: msgspec.Struct | None = None,
    **query: object,
) -> Iterator[T]:
    """One value a line, for as long as the supervisor has more; without a limit of time."""
    method, body = ("GET", None) if wish is None else ("POST", msgspec.json.encode(wish))
    with closing(_Connection(place, None)) as connection:
        response = _send(connection, method, _target(path, query), body)
        if response.status != http.client.OK:
            raise _error(response.status, response.read(ANSWER_BYTES_MAX))
        try:
            for raw in response:
                yield msgspec.json.decode(raw, type=line)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as exc:
            raise Unavailable(f"the supervisor of {place.name} broke off: {exc}") from exc


class _Connection(http.client.HTTPConnection):
    def __init__(self, place: Place, timeout_s: float | None) -> None:
        super().__init__("lab", timeout=timeout_s)
        self.place = place

    def connect(self) -> None:
        self.sock = connect(self.place, self.place.control, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)


def connect(place: Place, path: Path, kind: int) -> socket.socket:
    """A connection to one of the sockets of a place. Raises NotRunning."""
    opened = socket.socket(socket.AF_UNIX, kind)
    try:
        with reachable(path) as short:
            opened.connect(short)
    except (FileNotFoundError, ConnectionRefusedError) as exc:
        opened.close()
        raise not_up(place.name) from exc
    except OSError as exc:
        opened.close()
        raise Unavailable(f"{path}: {exc.strerror}") from exc
    return opened


def not_up(name: str) -> NotRunning:
    return NotRunning(f"no lab called {name!r} is up", field="LAB", remedy="see zos lab ls")


def _ask(place: Place, method: str, target: str, body: bytes | None, answer: type[T]) -> T:
    with closing(_Connection(place, TIMEOUT_S)) as connection:
        response = _send(connection, method, target, body)
        try:
            raw = response.read(ANSWER_BYTES_MAX)
            if response.status == http.client.OK:
                return msgspec.json.decode(raw, type=answer)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as exc:
            raise Unavailable(f"the answer of {place.name} was not understood: {exc}") from exc
    raise _error(response.status, raw)


def _send(
    connection: _Connection, method: str, target: str, body: bytes | None
) -> http.client.HTTPResponse:
    try:
        connection.request(method, target, body=body)
        return connection.getresponse()
    except TimeoutError as exc:
        raise Unavailable(f"{connection.place.name} did not answer in {TIMEOUT_S:g} s") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise Unavailable(f"the supervisor of {connection.place.name} broke off: {exc}") from exc


def _error(status: int, raw: bytes) -> OverlayError:
    try:
        error = msgspec.json.decode(raw, type=ErrorAnswer).error
    except (msgspec.DecodeError, UnicodeError):
        return Unavailable(f"the supervisor's answer ({status}) was not understood")
    return raised(error)


def raised(error: ErrorBody) -> OverlayError:
    """The error that these are the words of."""
    return ERRORS[error.code](error.message, field=error.field, remedy=error.remedy)


def _target(path: str, query: dict[str, object]) -> str:
    given = {name.rstrip("_"): str(value) for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


class Started:
    """A program in a node on descriptors of this process. Closing it kills the program."""

    def __init__(self, place: Place, wish: StartRequest, stdio: Sequence[int]) -> None:
        """Raises NotRunning, NotStarted, or what the supervisor answers instead."""
        self._channel = connect(place, place.starting, socket.SOCK_SEQPACKET)
        self._name = place.name
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", stdio))
        try:
            self._channel.sendmsg([msgspec.json.encode(wish)], [rights])
            self.pid: int = self._hear("pid")
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """Readable when the program has ended."""
        return self._channel.fileno()

    def send_signal(self, number: int) -> None:
        """To it and to what it has started; nothing happens when it has ended."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self._channel.send(msgspec.json.encode(number))

    def wait(self) -> int:
        """Its exit code, negative for a signal. Raises Unavailable when the lab ends first."""
        return self._hear("exit_code")

    def close(self) -> None:
        self._channel.close()

    def _hear(self, key: str) -> int:
        raw = self._channel.recv(MESSAGE_BYTES_MAX)
        if not raw:
            raise Unavailable(f"{self._name} has ended")
        word: dict[str, Any] = msgspec.json.decode(raw)
        if "not_started" in word:
            raise NotStarted(str(word["why"]), code=int(word["not_started"]))
        if "error" in word:
            raise raised(msgspec.convert(word["error"], ErrorBody))
        return int(word[key])
