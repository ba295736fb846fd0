"""A person's directory: configuration, keys, and the files of farms and networks.

Keys are found by what they are, not by what a file claims: their ids are read from the key files.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import click

from overlay.documents.fields import is_label
from overlay.errors import Refused, Rejected, Unavailable
from overlay.keys import store
from overlay.keys.identity import Identity, Kind
from zos_core.cli import output
from zos_core.files.config import Config, parse_config

PASSPHRASE_FILE = "ZOS_PASSPHRASE_FILE"  # noqa: S105 - the name of a variable
MAX_PASSPHRASE_FILE_BYTES = 4_096
DIRECTORY_MODE = 0o700
FILE_MODE = 0o600

Section = Literal["networks", "farms"]


class KeyFile(NamedTuple):
    kind: Kind
    name: str
    id: str
    path: Path
    sealed: bool


class Home:
    """$ZOS_HOME, or zos below the user's configuration directory."""

    def __init__(self) -> None:
        configured = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        default = Path(configured).expanduser() / "zos"
        self.path = Path(os.environ.get("ZOS_HOME") or default).absolute()
        self._opened: dict[Path, Identity] = {}

    @property
    def config(self) -> Config:
        return parse_config(_read_text(self.path / "config.toml") or "")

    def key_path(self, kind: Kind, name: str) -> Path:
        if not is_label(name):
            raise Rejected(f"{name!r} is no name", remedy="use letters, digits and hyphens")
        return self.path / "keys" / f"{kind}-{name}.key"

    def keys(self, kind: Kind) -> list[KeyFile]:
        """Every key of a kind on this machine."""
        return [
            _key_file(path, kind) for path in sorted((self.path / "keys").glob(f"{kind}-*.key"))
        ]

    def choose_key(self, kind: Kind, named: str | None) -> KeyFile:
        """The key of this name or id; without one, the default, or the only one there is."""
        keys = self.keys(kind)
        wanted = named or getattr(self.config, kind, None)
        chosen = [key for key in keys if wanted is None or wanted in (key.name, key.id)]
        if len(chosen) == 1:
            return chosen[0]
        there = ", ".join(key.name for key in keys) or "none"
        if not keys:
            remedy = f"make one: zos id new {kind} {named or 'NAME'}"
        else:
            remedy = (
                f"{kind} keys: {there}; choose one, or set {kind} in {self.path / 'config.toml'}"
            )
        wrong = f"there is no {kind} key {wanted!r}" if wanted else f"which {kind} key?"
        raise Rejected(wrong if keys or wanted else f"there is no {kind} key", remedy=remedy)

    def choose_or_make_key(self, kind: Kind, name: str) -> KeyFile:
        """The key of this name; a new one, unsealed, when there is none."""
        path = self.key_path(kind, name)
        if not path.exists():
            store.save(path, store.generate(kind))
            output.say(f"made a {kind} key: {path}")
        return _key_file(path, kind)

    def open_key(self, key: KeyFile) -> Identity:
        """The private key; asks for the passphrase of a sealed one, once in a command's life."""
        if key.path not in self._opened:
            passphrase = (
                read_passphrase(f"Passphrase of {key.kind} {key.name}") if key.sealed else None
            )
            with output.progress(f"opening {key.path}"):
                self._opened[key.path] = store.load(key.path, key.kind, passphrase=passphrase)
        return self._opened[key.path]

    def open_all(self, kind: Kind, ids: Iterable[str]) -> list[Identity]:
        """Those of the keys that are on this machine."""
        wanted = set(ids)
        return [self.open_key(key) for key in self.keys(kind) if key.id in wanted]

    def file_path(self, section: Section, named: str) -> Path:
        """Where the file of a network or farm is: by name, or by path (CLI-002)."""
        if "/" in named or named.endswith(".toml"):
            return Path(named)
        if not is_label(named):
            raise Rejected(f"{named!r} is no name", remedy="use letters, digits and hyphens")
        return self.path / section / f"{named}.toml"

    def file_names(self, section: Section) -> list[str]:
        return sorted(path.stem for path in (self.path / section).glob("*.toml"))

    def read_file(self, section: Section, named: str) -> str:
        path = self.file_path(section, named)
        text = _read_text(path)
        if text is None:
            what = section.removesuffix("s")
            there = ", ".join(self.file_names(section)) or "none"
            raise Rejected(
                f"there is no {what} file {path}",
                remedy=f"{section} here: {there}; or zos {what} create {path.stem}",
            )
        return text

    def write_file(self, section: Section, named: str, text: str) -> Path:
        """Put the text in the file, whole or not at all."""
        path = self.file_path(section, named)
        write_text(path, text)
        return path


def read_passphrase(prompt: str, *, confirm: bool = False) -> str:
    """From the file that the environment names, else from the terminal (CLI-006)."""
    if named := os.environ.get(PASSPHRASE_FILE):
        text = _read_text(Path(named))
        if text is None:
            raise Rejected(f"there is no file {named}", field=PASSPHRASE_FILE)
        return text[:MAX_PASSPHRASE_FILE_BYTES].removesuffix("\n")
    if not sys.stdin.isatty():
        raise Refused("a passphrase is needed", remedy=f"set {PASSPHRASE_FILE} or use a terminal")
    answer: str = click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, err=True)
    return answer


def write_text(path: Path, text: str, *, mode: int = FILE_MODE) -> None:
    """Put text into a file that is born with `mode`; a crash leaves the one or the other."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        try:
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc


def _key_file(path: Path, kind: Kind) -> KeyFile:
    name = path.stem.removeprefix(f"{kind}-")
    return KeyFile(kind, name, store.load_id(path, kind), path, store.is_sealed(path, kind))


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as exc:
        raise Rejected(f"{path} is not text in UTF-8") from exc
    except OSError as exc:
        raise Unavailable(f"{path}: {exc.strerror}") from exc
