"""Signals to this process, passed on to the one that it waits for."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)


class Receiver(Protocol):
    """A process, wherever it runs."""

    def send_signal(self, number: int, /) -> None: ...


@contextmanager
def signals_passed_on(
    *, heard_anyway: frozenset[int] = frozenset()
) -> Iterator[Callable[[Receiver], None]]:
    """Signals to this process reach the one that is adopted, also those that came before.

    It decides what they mean, Ctrl-C included. Those that are `heard_anyway` are not sent twice.
    """
    receiver: Receiver | None = None
    early: list[int] = []

    def pass_on(number: int, _: object) -> None:
        if number in heard_anyway:
            return
        if receiver is None:
            early.append(number)
        else:
            receiver.send_signal(number)

    def adopt(adopted: Receiver) -> None:
        nonlocal receiver
        receiver = adopted
        for number in early:
            receiver.send_signal(number)

    # A handler that does nothing, unlike SIG_IGN, is not inherited by what is started meanwhile.
    before = [signal.signal(number, pass_on) for number in PASSED_ON]
    try:
        yield adopt
    finally:
        for number, handler in zip(PASSED_ON, before, strict=True):
            signal.signal(number, handler)
