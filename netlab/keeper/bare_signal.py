"""The module signal without its enumerations, whose import is a fifth of the keeper's start."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, without the price of importing typing
if TYPE_CHECKING:
    from signal import *  # noqa: F403 - the same names
else:
    from _signal import *  # noqa: F403 - with signals that are plain numbers
