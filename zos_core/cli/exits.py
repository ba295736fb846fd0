"""Exit codes and which error gives which (CLI-011). Pure."""

from __future__ import annotations

from enum import IntEnum

from overlay.errors import Conflict, Diverged, OverlayError, Refused, Unavailable


class Exit(IntEnum):
    OK = 0
    NOT_HEALTHY = 1
    USAGE = 2
    NOT_CONVERGED = 3
    REFUSED = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    INTERRUPTED = 130


MEANING: dict[Exit, str] = {
    Exit.OK: "done; healthy",
    Exit.NOT_HEALTHY: (
        "not running, not healthy, not as a lab expects, no answer to a ping, "
        "or `why` found what refuses"
    ),
    Exit.USAGE: "wrong arguments, or a malformed file or document",
    Exit.NOT_CONVERGED: "not converged: time ran out, or the kernel does not hold what was written",
    Exit.REFUSED: "refused by a rule: signature, ownership, policy, expiry, permission",
    Exit.CONFLICT: "conflict: somebody else was first",
    Exit.UNAVAILABLE: "unavailable: the registry or the machine did not answer; try again",
    Exit.INTERRUPTED: "interrupted",
}


class NotRunning(Unavailable):
    """There is no node process to ask."""


class NotConverged(Unavailable):
    """What was waited for did not come in time."""


def exit_of(error: OverlayError) -> Exit:
    """The exit code that says what to do now."""
    match error:
        case NotRunning():
            return Exit.NOT_HEALTHY
        case NotConverged() | Diverged():
            return Exit.NOT_CONVERGED
        case Unavailable():
            return Exit.UNAVAILABLE
        case Conflict():
            return Exit.CONFLICT
        case Refused():
            return Exit.REFUSED
        case _:
            return Exit.USAGE


def code_of(code: Exit) -> str:
    """The word for an exit code in JSON: "not-healthy"."""
    return code.name.lower().replace("_", "-")
