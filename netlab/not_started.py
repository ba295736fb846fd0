"""A program that does not start in a node."""

from __future__ import annotations

from overlay.errors import Unavailable


class NotStarted(Unavailable):
    """The node has no such program, or nobody may run it; `code` is a shell's for that."""

    def __init__(self, message: str, *, code: int) -> None:
        super().__init__(message)
        self.code = code
