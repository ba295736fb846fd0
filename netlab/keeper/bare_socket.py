"""The module socket without its enumerations, whose import is a fifth of the keeper's start."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from socket import *  # noqa: F403 - the same names
else:
    import _socket
    from _socket import *  # noqa: F403 - with constants that are plain numbers

    class socket(_socket.socket):  # noqa: N801 - its name
        """A socket that closes at the end of a `with` block."""

        __slots__ = ()

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

    def socketpair(family, kind):
        """Two sockets that are joined."""
        raw = _socket.socketpair(family, kind)
        return tuple(socket(fileno=each.detach()) for each in raw)
