"""Key files on disk: born 0600 in a 0700 directory, written whole or not at all.

Whoever can read the file is the identity, so looser permissions, another owner and links are
refused rather than repaired, and a damaged file is an error rather than a reason for a new key.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from overlay import addressing
from overlay.errors import Conflict, Refused, Rejected, Unavailable
from overlay.keys import keyfile
from overlay.keys.identity import SEED_BYTES, Identity, Kind
from overlay.keys.keyfile import COST, Cost, SealedKey
from overlay.keys.wireguard import KEY_BYTES, DeviceKey, WireGuardKey
from overlay.model import NetworkId

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
_OTHERS = 0o077


def generate(kind: Kind) -> Identity:
    """A new identity, on no disk yet."""
    return Identity(kind, os.urandom(SEED_BYTES))


def generate_wireguard_key() -> WireGuardKey:
    """A new plain pair, for an access device."""
    return WireGuardKey(os.urandom(KEY_BYTES))


def load_or_create(path: Path, kind: Kind) -> Identity:
    """The identity at `path`; made, and safely on disk, when nothing is there."""
    with _locked_directory(path, create=True) as directory:
        raw = _read(directory, path)
        if raw is not None:
            return _opened(path, _parsed(path, raw, kind), None)
        identity = generate(kind)
        _write(directory, path, keyfile.format_key_file(identity))
        return identity


def load(path: Path, kind: Kind, *, passphrase: str | None = None) -> Identity:
    """The identity at `path`. Raises Rejected when it is absent, damaged, unsafe or sealed."""
    return _opened(path, _load(path, kind), passphrase)


def load_id(path: Path, kind: Kind) -> str:
    """Which identity is at `path`, sealed or not."""
    return _load(path, kind).id


def is_sealed(path: Path, kind: Kind) -> bool:
    return isinstance(_load(path, kind), SealedKey)


def save(path: Path, identity: Identity, *, passphrase: str | None = None, cost: Cost = COST) -> None:
    """Write a key, sealed when there is a passphrase. Raises Conflict when `path` exists."""
    raw = keyfile.format_key_file(_sealed(identity, passphrase, cost=cost))
    with _locked_directory(path, create=True) as directory:
        if _exists(directory, path):
            raise Conflict(f"{path} exists and is not overwritten")
        _write(directory, path, raw)


def seal(path: Path, kind: Kind, passphrase: str, *, cost: Cost = COST) -> None:
    """Put the key at `path` under a passphrase. A crash leaves the one form or the other."""
    with _locked_directory(path) as directory:
        identity = _opened(path, _present(directory, path, kind), None)
        _write(directory, path, keyfile.format_key_file(_sealed(identity, passphrase, cost=cost)))


def unseal(path: Path, kind: Kind, passphrase: str) -> None:
    """Keep the key at `path` without a passphrase from now on."""
    with _locked_directory(path) as directory:
        identity = _opened(path, _present(directory, path, kind), passphrase)
        _write(directory, path, keyfile.format_key_file(identity))


def delete(path: Path) -> None:
    """Remove a key and what an interrupted write left of it. Removing nothing is fine."""
    try:
        with _locked_directory(path) as directory:
            _unlink(directory, _unfinished(path))
            _unlink(directory, path.name)
            os.fsync(directory)
    except FileNotFoundError:
        return


def device_key_path(directory: Path, network: NetworkId) -> Path:
    """Where a node keeps the key of its network resource, below its key directory."""
    return directory / "devices" / f"{addressing.netns_name(network)}.key"


def load_or_create_device(directory: Path, network: NetworkId) -> DeviceKey:
    """The key of one network resource, made at its first use."""
    return DeviceKey(load_or_create(device_key_path(directory, network), Kind.WG))
