"""`zos`, from its first moment on: Ctrl-C ends it with one line while it is still importing.

Nothing is imported here but what Python has at hand, for none of it could be interrupted well.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence

_INTERRUPTED = 130  # Exit.INTERRUPTED


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    try:
        from zos_core.cli.root import run

        return run(argv)
    except BaseException as exc:
        if not _is_interruption(exc):
            raise
        sys.stderr.write("zos: interrupted\n")
        return _INTERRUPTED


def _is_interruption(error: BaseException | None) -> bool:
    """Also what an interrupted import is made into: a class that is being made raises its own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
