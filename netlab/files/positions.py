"""On which line of a TOML text each key and each entry of an array stands. Pure.

tomllib says nothing of places. This reads text that tomllib has taken, so it may be simple; it is
asked only when there is something to complain about.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from contextlib import suppress

from netlab.files.checking import Path

_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY_PART = re.compile(r"""[ \t]*([A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')[ \t]*""")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}|'
    r"'''(?:[^']|'(?!''))*'{3,5}|"
    r""""(?:[^"\\]|\\.)*"|'[^']*'""",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def find_lines(text: str) -> dict[Path, int]:
    """The line (from 1) of each path. What is nested beyond all reason is left out."""
    scanner = _Scanner(text)
    with suppress(RecursionError):  # tomllib gets a little deeper than this
        scanner.read()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {}
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._entries: dict[Path, int] = {}  # of arrays of tables, how many there are

    def read(self) -> None:
        table: Path = ()
        self._skip()
        while self.at < len(self.text):
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)
            self._skip()

    def _header(self) -> Path:
        many = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if many else 1
        path = self._within(self._key())
        self.at += 2 if many else 1
        if many:
            position = self._entries.get(path, 0)
            self._entries[path] = position + 1
            path = (*path, position)
        for length in range(1, len(path) + 1):
            self._note(path[:length], start)
        return path

    def _within(self, keys: Path) -> Path:
        """The path of a header: below an array of tables its last entry is meant."""
        path: Path = ()
        for key in keys[:-1]:
            path = (*path, key)
            if path in self._entries:
                path = (*path, self._entries[path] - 1)
        return (*path, keys[-1])

    def _pair(self, table: Path) -> None:
        start = self.at
        path = (*table, *self._key())
        for length in range(len(table) + 1, len(path) + 1):
            self._note(path[:length], start)
        self.at += 1  # "="
        self._value(path)

    def _key(self) -> Path:
        parts: list[str] = []
        while match := _KEY_PART.match(self.text, self.at):
            word = match[1]
            parts.append(next(iter(tomllib.loads(f"{word} = 0"))) if word[0] in "\"'" else word)
            self.at = match.end()
            if not self.text.startswith(".", self.at):
                break
            self.at += 1
        return tuple(parts)

    def _value(self, path: Path) -> None:
        self._skip()
        match self.text[self.at : self.at + 1]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case "'" | '"':
                self.at = self._end_of(_STRING)
            case _:
                self.at = self._end_of(_SCALAR)

    def _array(self, path: Path) -> None:
        self.at += 1
        self._skip()
        position = 0
        while not self.text.startswith("]", self.at):
            self._note((*path, position), self.at)
            self._value((*path, position))
            position += 1
            self._skip()
            if self.text.startswith(",", self.at):
                self.at += 1
                self._skip()
        self.at += 1

    def _inline_table(self, path: Path) -> None:
        self.at += 1
        self._skip()
        while not self.text.startswith("}", self.at):
            self._pair(path)
            self._skip()
            if self.text.startswith(",", self.at):
                self.at += 1
                self._skip()
        self.at += 1

    def _skip(self) -> None:
        self.at = self._end_of(_SPACE)

    def _end_of(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, self.at)
        return match.end() if match else len(self.text)

    def _note(self, path: Path, at: int) -> None:
        self.lines.setdefault(path, bisect_right(self._starts, at))
