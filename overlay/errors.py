"""The three answers to "what now?" that an error of this project gives.

OverlayError
  +- Rejected      the input is wrong; the same input can never succeed
  |    +- Refused  a rule or a person's decision says no (policy, ownership, quota)
  |    +- Conflict somebody else was first; look at what is there and decide again
  +- Unavailable   the outside did not answer; the next pass may succeed
  +- Diverged      the kernel does not hold what was written
"""

from __future__ import annotations


class OverlayError(Exception):
    """Base of every error raised on purpose.

    `field` names the part of the input that is wrong ("members[3].index"), `remedy` says what a
    person can do about it. Both are None where there is nothing to name.
    """

    def __init__(
        self, message: str, *, field: str | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.remedy = remedy

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        cure = f" ({self.remedy})" if self.remedy else ""
        return f"{where}{self.message}{cure}"


class Rejected(OverlayError):
    """The input is wrong; the same input can never succeed."""


class Refused(Rejected):
    """The input is well formed, but a rule says no: signature, ownership, policy, quota, age."""


class Conflict(Rejected):
    """Somebody else was first: an index is taken, a version exists, a name is in use."""


class Unavailable(OverlayError):
    """The outside did not answer; the next pass may succeed."""


class Diverged(OverlayError):
    """The kernel does not hold what we wrote."""
