"""Lab files into topologies; whatever is wrong is named by file, line, key, reason and remedy."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from netlab.files import checking
from netlab.files.assembling import Assembly, Origins, assemble
from netlab.files.locating import locate
from netlab.files.shape import LabFile
from netlab.topology import Draft, Topology, find_faults
from overlay.errors import Rejected, Unavailable

FILE_BYTES_MAX = 256 * 1024
FAULTS_MAX = 100
SUFFIX = ".lab.toml"

_KINDS = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class FileFault(Rejected):
    """Something wrong in a file that a person wrote; `line` counts from 1.

    `reason` is what is wrong; `message` has the place too, for those who show nothing else.
    """

    def __init__(
        self,
        reason: str,
        *,
        source: str,
        line: int,
        field: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(f"{source}:{line}: {reason}", field=field, remedy=remedy)
        self.reason = reason
        self.source = source
        self.line = line

    def __str__(self) -> str:
        rest = Rejected(self.reason, field=self.field, remedy=self.remedy)
        return f"{self.source}:{self.line}: {rest}"


class FileFaults(FileFault):
    """Several things wrong in one file; its place and words are those of the first."""

    def __init__(self, faults: Sequence[FileFault]) -> None:
        first = faults[0]
        super().__init__(
            first.reason,
            source=first.source,
            line=first.line,
            field=first.field,
            remedy=first.remedy,
        )
        self.faults = tuple(faults)
        self.message = "\n".join([first.message, *map(str, faults[1:])])

    def __str__(self) -> str:
        return "\n".join(map(str, self.faults))


def read_lab(path: Path) -> Topology:
    """The lab of a file. Raises FileFault for what is wrong with it, all of it.

    Raises Unavailable when there is no such file or it cannot be read.
    """
    return parse_lab(read_text(path), source=str(path))


def read_text(path: Path) -> str:
    """The text of a lab file, unread beyond its bound. Raises FileFault or Unavailable.

    Of a file alone: whoever writes into a pipe may never begin.
    """
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            kind = stat.S_IFMT(os.fstat(file.fileno()).st_mode)
            if kind != stat.S_IFREG:
                raise Rejected(
                    f"{path} is {_KINDS.get(kind, 'a device')}, not a file",
                    field="FILE",
                    remedy=f"give a file, NAME{SUFFIX}",
                )
            raw = file.read(FILE_BYTES_MAX + 1)
    except IsADirectoryError as exc:
        raise Rejected(
            f"{path} is a directory, not a file", field="FILE", remedy=f"give a file, NAME{SUFFIX}"
        ) from exc
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc
    if len(raw) > FILE_BYTES_MAX:
        raise _too_long(str(path))
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        line = raw.count(b"\n", 0, exc.start) + 1
        raise FileFault(
            "is not UTF-8 text",
            source=str(path),
            line=line,
            remedy="save it as UTF-8",
        ) from exc


def parse_lab(text: str, *, source: str = "lab") -> Topology:
    """The lab of a text. Raises FileFault for what is wrong with it, all of it."""
    tree, fault = _tree(text, source)
    if fault is None:
        assembly = _assembly(tree)
        if isinstance(assembly, Assembly) and _has_places(tree) and not assembly.faults:
            try:
                return Topology(**assembly.parts)
            except Rejected:
                pass  # said again below, with its line
    faults = lint_lab(text, source=source)
    raise faults[0] if len(faults) == 1 else FileFaults(faults)


def lint_lab(text: str, *, source: str = "lab") -> list[FileFault]:
    """What is wrong with a text, each thing once, in the order of lines; empty for a good one.

    Not more than FAULTS_MAX of it: with so many the last ones follow from the first.
    """
    found = {str(fault): fault for fault in islice(_faults(text, source), FAULTS_MAX)}
    return sorted(found.values(), key=lambda fault: fault.line)


def _faults(text: str, source: str) -> Iterator[FileFault]:
    """Most fundamental first: of a text that is no lab file's shape, its values are not read."""
    tree, no_toml = _tree(text, source)
    if no_toml is not None:
        yield no_toml
        return
    from netlab.files.positions import find_lines

    lines = find_lines(text)

    def placed(path: checking.Path, fault: Rejected, name: str = "") -> FileFault:
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 1)
        return FileFault(
            f"{name}: {fault.message}" if name else fault.message,
            source=source,
            line=line,
            field=checking.dotted(path) or None,
            remedy=fault.remedy,
        )

    assembly = _assembly(tree)
    if not isinstance(assembly, Assembly):
        yield from (placed(path, fault) for path, fault in assembly)
        return
    yield from (placed(path, fault) for path, fault in assembly.faults)
    if assembly.faults:
        return
    wrongs = list(find_faults(Draft(**assembly.parts)))
    if not wrongs and not _has_places(tree):
        yield FileFault("has no nodes", source=source, line=1, remedy="add [node.NAME]")
    for wrong in wrongs:
        field = wrong.field or ""
        path = locate(field, tree, assembly.origins)
        yield placed(path, wrong, _stands_for(field, path, assembly.origins))


def _has_places(tree: dict[str, Any]) -> bool:
    """What only routes is enough of a lab: its nodes may be yet to come."""
    return any(tree.get(section) for section in ("node", "router", "lan", "core"))


def _assembly(tree: dict[str, Any]) -> Assembly | list[checking.Fault]:
    faults = list(checking.find_faults(tree, msgspec.inspect.type_info(LabFile)))
    return faults or assemble(msgspec.convert(tree, LabFile))


def _tree(text: str, source: str) -> tuple[dict[str, Any], FileFault | None]:
    if len(text) > FILE_BYTES_MAX:
        return {}, _too_long(source)
    try:
        return tomllib.loads(text), None
    except RecursionError:
        return {}, FileFault(
            "is nested too deeply",
            source=source,
            line=1,
            remedy="no lab needs more than five levels",
        )
    except tomllib.TOMLDecodeError as exc:
        words, _, place = str(exc).rpartition(" (at ")
        line = re.match(r"line (\d+)", place)
        return {}, FileFault(
            f"is not TOML: {words[:1].lower()}{words[1:]}",
            source=source,
            line=int(line[1]) if line else text.count("\n") + 1,
            remedy='write KEY = "VALUE", each key once, below its [TABLE]',
        )
    except ValueError:  # the only other one: Python takes no number of thousands of digits
        long = re.search(r"[0-9_]{4000}", text)
        return {}, FileFault(
            "is a number of too many digits",
            source=source,
            line=text.count("\n", 0, long.start() if long else 0) + 1,
            remedy="write fewer",
        )


def _stands_for(field: str, path: checking.Path, origins: Origins) -> str:
    """The name within the lab, where the entry at `path` stands for several; else nothing."""
    for (section, name), origin in origins.items():
        if origin == path[:2] and name != path[1]:
            rest = field.removeprefix(f"{section}.{name}")
            if field == name or (rest != field and rest[:1] in ("", ".", "[")):
                return name
    return ""


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def _too_long(source: str) -> FileFault:
    return FileFault(
        f"is longer than {FILE_BYTES_MAX // 1024} KiB",
        source=source,
        line=1,
        remedy="use count and kind for what is alike",
    )
