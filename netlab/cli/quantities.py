"""Quantities as people write them after an option: the words of the lab file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from overlay.errors import Rejected

T = TypeVar("T")


class Quantity(click.ParamType[T]):
    """What a function of netlab.files.quantities reads; its example stands in the help."""

    def __init__(self, name: str, parse: Callable[[str], T]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> T:
        if not isinstance(value, str):
            read: T = value  # a default
            return read
        try:
            return self._parse(value)
        except Rejected as exc:
            self.fail(str(exc), param, ctx)


def _time(text: str) -> float:
    from netlab.files.quantities import parse_time

    return parse_time(text)


def _share(text: str) -> float:
    from netlab.files.quantities import parse_share

    return parse_share(text)


def _rate(text: str) -> int:
    from netlab.files.quantities import parse_rate

    return parse_rate(text)


TIME: Quantity[float] = Quantity("20ms", _time)
SHARE: Quantity[float] = Quantity("1%", _share)
RATE: Quantity[int] = Quantity("10mbit", _rate)
