"""Logging of long-running commands: one structured line per state change, on standard error."""

from __future__ import annotations

import logging
import sys
from typing import Literal

Format = Literal["text", "json"]

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def start_logging(form: Format, level: str) -> None:
    """Send records of this process to standard error from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json_formatter() if form == "json" else _TextFormatter(_TEXT))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class _TextFormatter(logging.Formatter):
    """Fields after the message, as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {k: v for k, v in vars(record).items() if k not in _STANDARD}
        return " ".join([super().format(record), *(f"{k}={v}" for k, v in sorted(fields.items()))])


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter

    return JsonFormatter(
        "%(levelname)s%(name)s%(message)s",
        timestamp=True,
        rename_fields={"levelname": "level", "name": "logger", "timestamp": "time"},
    )
