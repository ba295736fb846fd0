"""What people write as arguments: durations, protocols with ports."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
MAX_DURATION = timedelta(days=3_650)


class Duration(click.ParamType[timedelta]):
    """90s, 30m, 24h, 7d."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd])", str(value), re.ASCII)
        if match is None:
            self.fail(f"{value!r} is no duration; write 90s, 30m, 24h or 7d", param, ctx)
        duration = timedelta(seconds=float(match[1]) * _UNITS[match[2]])
        if duration > MAX_DURATION:
            self.fail(f"{value} is longer than {MAX_DURATION.days} days", param, ctx)
        return duration


DURATION = Duration()
