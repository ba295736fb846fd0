"""Key files on disk: born 0600 in a 0700 directory, written whole or not at all.

Whoever can read the file is the identity, so looser permissions, another owner and links are
refused rather than repaired, and a damaged file is an error rather than a reason for a new key.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Collection, Iterator
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
DEVICES = "devices"
KEY_SUFFIX = ".key"
NEXT_SUFFIX = ".next.key"
_UNFINISHED_SUFFIX = ".unfinished"
_OTHERS = 0o077


class Absent(Rejected):
    """There is no key where one was asked for."""


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


def save(
    path: Path, identity: Identity, *, passphrase: str | None = None, cost: Cost = COST
) -> None:
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
    with suppress(Absent), _locked_directory(path) as directory:
        _unlink(directory, _unfinished(path))
        _unlink(directory, path.name)
        os.fsync(directory)


def replace(path: Path, successor: Path, kind: Kind) -> None:
    """The key at `successor` is the one at `path`, by one rename; the former's bytes are zeros, as
    far as the file system writes in place. Raises Rejected, and changes nothing, unless `successor`
    holds a key.
    """
    with _locked_directory(path) as directory:
        _opened(successor, _present(directory, successor, kind), None)
        former = _open_former(directory, path)
        try:
            with _explained(path):
                os.rename(successor.name, path.name, src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
            if former is not None:
                # The key has done its work: a disk that does not take zeros changes nothing.
                with suppress(OSError):
                    os.pwrite(former, bytes(os.fstat(former).st_size), 0)
                    os.fsync(former)
        finally:
            if former is not None:
                os.close(former)


def delete_others(directory: Path, keep: Collection[str]) -> tuple[str, ...]:
    """Of the keys in `directory` only those named in `keep` are left, and nothing unfinished.

    The names of the files that went, sorted. What is no key file is nobody's business here.
    """
    gone: list[str] = []
    with suppress(Absent), _locked_directory(directory / KEY_SUFFIX) as opened:
        for name in sorted(os.listdir(opened)):  # noqa: PTH208 - a path could be swapped
            is_key = name.endswith(KEY_SUFFIX) and name not in keep
            if is_key or name.endswith(_UNFINISHED_SUFFIX):
                _unlink(opened, name)
                gone.append(name)
        if gone:
            os.fsync(opened)
    return tuple(gone)


def device_key_path(directory: Path, network: NetworkId) -> Path:
    """Where a node keeps the key of its network resource, below its key directory."""
    return directory / DEVICES / f"{addressing.netns_name(network)}{KEY_SUFFIX}"


def next_device_key_path(directory: Path, network: NetworkId) -> Path:
    """Where the key is that takes over from that one; in the same directory, to be renamed."""
    current = device_key_path(directory, network)
    return current.with_name(current.name.removesuffix(KEY_SUFFIX) + NEXT_SUFFIX)


def load_or_create_device(directory: Path, network: NetworkId) -> DeviceKey:
    """The key of one network resource, made at its first use."""
    return DeviceKey(load_or_create(device_key_path(directory, network), Kind.WG))


def _load(path: Path, kind: Kind) -> Identity | SealedKey:
    with _locked_directory(path) as directory:
        return _present(directory, path, kind)


def _present(directory: int, path: Path, kind: Kind) -> Identity | SealedKey:
    raw = _read(directory, path)
    if raw is None:
        raise _absent(path)
    return _parsed(path, raw, kind)


def _parsed(path: Path, raw: bytes, kind: Kind) -> Identity | SealedKey:
    try:
        key = keyfile.parse_key_file(raw)
    except Rejected as exc:
        raise Rejected(f"{path}: {exc.message}", remedy=exc.remedy) from exc
    if key.kind is not kind:
        raise Rejected(f"{path}: expected a {kind} key, found {key.id}")
    return key


def _opened(path: Path, key: Identity | SealedKey, passphrase: str | None) -> Identity:
    if isinstance(key, Identity):
        return key
    if passphrase is None:
        raise Refused(f"{path} is sealed", remedy="give its passphrase")
    return keyfile.unseal(key, passphrase)


def _sealed(identity: Identity, passphrase: str | None, *, cost: Cost) -> Identity | SealedKey:
    if passphrase is None:
        return identity
    salt, nonce = os.urandom(keyfile.SALT_BYTES), os.urandom(keyfile.NONCE_BYTES)
    return keyfile.seal(identity, passphrase, salt=salt, nonce=nonce, cost=cost)


@contextmanager
def _locked_directory(path: Path, *, create: bool = False) -> Iterator[int]:
    """The directory of `path`, for this process alone until the block ends.

    Names are looked up in the open directory, so nobody can swap it between two steps.
    """
    if create:
        _make_directory(path.parent)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with _explained(path.parent):
            directory = os.open(path.parent, flags)
    except FileNotFoundError:
        raise _absent(path) from None
    try:
        _check_private(path.parent, os.fstat(directory), DIRECTORY_MODE)
        with _explained(path):
            fcntl.flock(directory, fcntl.LOCK_EX)
            yield directory
    finally:
        os.close(directory)


def _make_directory(path: Path) -> None:
    """Make a directory and those above it that are missing, each 0700 and durable."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    with _explained(path), suppress(FileExistsError):
        path.mkdir(DIRECTORY_MODE)
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(directory: int, path: Path) -> bytes | None:
    """What is in the file, or None when there is none. Raises Refused when others could read it."""
    # O_NONBLOCK: a FIFO in its place must not make us wait for a writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with _explained(path):
            fd = os.open(path.name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise Refused(f"{path} is not a regular file", remedy="put the key file there")
        _check_private(path, found, FILE_MODE)
        with _explained(path):
            return os.read(fd, keyfile.MAX_KEY_FILE_BYTES + 1)
    finally:
        os.close(fd)


def _write(directory: int, path: Path, raw: bytes) -> None:
    """Put `raw` at `path`. At any moment a crash leaves what was there before, or all of `raw`."""
    unfinished = _unfinished(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with _explained(path):
        # The lock says that nobody is writing: what is there was left by a crash.
        _unlink(directory, unfinished)
        fd = os.open(unfinished, flags, FILE_MODE, dir_fd=directory)
        try:
            _write_all(fd, raw)
            os.rename(unfinished, path.name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            with suppress(OSError):
                _unlink(directory, unfinished)
            raise
        os.fsync(directory)


def _write_all(fd: int, raw: bytes) -> None:
    try:
        while raw:
            raw = raw[os.write(fd, raw) :]
        # Before the rename: else the name could reach the disk earlier than the bytes.
        os.fsync(fd)
    finally:
        os.close(fd)


def _unlink(directory: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)


def _open_former(directory: int, path: Path) -> int | None:
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with _explained(path):
            return os.open(path.name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None


def _exists(directory: int, path: Path) -> bool:
    try:
        os.stat(path.name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _unfinished(path: Path) -> str:
    return f".{path.name}{_UNFINISHED_SUFFIX}"


def _check_private(path: Path, found: os.stat_result, mode: int) -> None:
    if found.st_uid != os.geteuid():
        raise Refused(
            f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}",
            remedy=f"chown {os.geteuid()} {path}",
        )
    if found.st_mode & _OTHERS:
        raise Refused(
            f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})",
            remedy=f"chmod {mode:o} {path}",
        )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what the system says about `path` into our errors; absence is left to the caller."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise Refused(f"{path} is a symbolic link", remedy="put the key file there") from exc
        if exc.errno == errno.ENOTDIR:
            raise Refused(f"{path} is a symbolic link or no directory") from exc
        if exc.errno == errno.ENXIO:
            raise Refused(f"{path} is not a regular file", remedy="put the key file there") from exc
        if exc.errno in (errno.EACCES, errno.EPERM):
            reason = f"user {os.geteuid()} has no permission for {path}"
            raise Refused(reason, remedy="run this as the user who owns the key") from exc
        raise Unavailable(f"{path}: {exc.strerror}") from exc


def _absent(path: Path) -> Absent:
    return Absent(f"there is no key at {path}")
