"""Key files on a real disk: modes, owners, links, and a crash at every step of a write."""

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from overlay import addressing
from overlay.errors import Conflict, Refused, Rejected, Unavailable
from overlay.keys import identity, store
from overlay.keys.identity import Identity, Kind
from overlay.keys.keyfile import Cost
from overlay.model import NetworkId

CHEAP = Cost(1, 8_192)
SEED = bytes(range(32))
NETWORK = NetworkId(identity.format_network_id(bytes(20)))


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The loosest umask, so that modes come from the code."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "zos" / "keys" / "node.key"


def test_load_or_create_makes_one_identity_and_keeps_it(path: Path) -> None:
    created = store.load_or_create(path, Kind.NODE)
    assert store.load_or_create(path, Kind.NODE).id == created.id
    assert store.load(path, Kind.NODE).reveal() == created.reveal()
    assert store.load_id(path, Kind.NODE) == created.id


def test_two_new_identities_differ(path: Path) -> None:  # KEY-006
    assert store.generate(Kind.NODE).id != store.generate(Kind.NODE).id
    assert store.generate_wireguard_key().public_key != store.generate_wireguard_key().public_key


def test_files_and_directories_are_born_private(path: Path) -> None:  # KEY-010
    store.load_or_create(path, Kind.NODE)
    assert _mode(path) == 0o600
    assert _mode(path.parent) == _mode(path.parent.parent) == 0o700


def test_the_unfinished_file_is_born_private(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # KEY-010
    modes = []

    def write(fd: int, raw: bytes) -> int:
        modes.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return os.write(fd, raw)

    monkeypatch.setattr(store, "os", _Os(write=write))
    store.load_or_create(path, Kind.NODE)
    assert modes == [0o600]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_looser_permissions_are_refused_with_the_remedy(path: Path, mode: int) -> None:
    store.load_or_create(path, Kind.NODE)
    path.chmod(mode)
    for attempt in _every_read(path):  # KEY-010
        with pytest.raises(Refused, match="open to others") as caught:
            attempt()
        assert caught.value.remedy == f"chmod 600 {path}"
    assert _mode(path) == mode


@pytest.mark.parametrize("mode", [0o750, 0o701, 0o777])
def test_a_looser_directory_is_refused_with_the_remedy(path: Path, mode: int) -> None:
    store.load_or_create(path, Kind.NODE)
    path.parent.chmod(mode)
    save: Callable[[], object] = partial(store.save, path, Identity(Kind.NODE, SEED))
    for attempt in [*_every_read(path), save]:
        with pytest.raises(Refused, match="open to others") as caught:
            attempt()
        assert caught.value.remedy == f"chmod 700 {path.parent}"


def test_another_owner_is_refused_with_the_remedy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.load_or_create(path, Kind.NODE)
    me = os.geteuid()
    monkeypatch.setattr(store, "os", _Os(geteuid=lambda: me + 1))
    with pytest.raises(Refused, match=f"belongs to user {me}") as caught:
        store.load(path, Kind.NODE)
    assert caught.value.remedy == f"chown {me + 1} {path.parent}"


def test_a_symbolic_link_is_refused(path: Path) -> None:  # KEY-010
    store.load_or_create(path, Kind.NODE)
    link = path.with_name("link.key")
    link.symlink_to(path)
    for attempt in _every_read(link):
        with pytest.raises(Refused, match="symbolic link"):
            attempt()


def test_a_dangling_link_is_not_followed_by_a_write(path: Path) -> None:
    store.load_or_create(path, Kind.NODE)
    link = path.with_name("link.key")
    link.symlink_to(path.parent / "elsewhere")
    with pytest.raises(Refused, match="symbolic link"):
        store.load_or_create(link, Kind.NODE)
    with pytest.raises(Conflict):
        store.save(link, store.generate(Kind.NODE))
    assert not (path.parent / "elsewhere").exists()


def test_a_linked_directory_is_refused(path: Path) -> None:
    store.load_or_create(path, Kind.NODE)
    link = path.parent.with_name("linked")
    link.symlink_to(path.parent)
    with pytest.raises(Refused, match="symbolic link or no directory"):
        store.load(link / path.name, Kind.NODE)


@pytest.mark.parametrize("make", ["mkfifo", "mkdir", "socket"])
def test_anything_but_a_regular_file_is_refused_without_waiting(
    path: Path, make: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.load_or_create(path.with_name("other.key"), Kind.NODE)
    monkeypatch.chdir(path.parent)  # a socket's path has at most 108 bytes
    if make == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    else:
        getattr(os, make)(path.name, 0o600)
    for attempt in _every_read(path):
        with pytest.raises(Refused, match="not a regular file"):
            attempt()


@pytest.mark.parametrize("content", [b"", b"zos-key v1 node node1\n", b"\0" * 300, b"x" * 10_000])
def test_a_damaged_file_is_an_error_that_names_it(path: Path, content: bytes) -> None:  # KEY-011
    store.load_or_create(path, Kind.NODE)
    path.write_bytes(content)
    for attempt in _every_read(path):
        with pytest.raises(Rejected, match="damaged key file") as caught:
            attempt()
        assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_a_key_of_another_kind_is_refused(path: Path) -> None:  # KEY-016
    store.save(path, Identity(Kind.TENANT, SEED))
    for attempt in _every_read(path):
        with pytest.raises(Rejected, match="expected a node key, found tenant1"):
            attempt()


def test_absence_is_its_own_answer(path: Path) -> None:
    with pytest.raises(store.Absent):
        store.load(path, Kind.NODE)
    assert not path.parent.exists()
    store.load_or_create(path, Kind.NODE)
    with pytest.raises(store.Absent):
        store.load(path.with_name("other.key"), Kind.NODE)
    with pytest.raises(store.Absent):
        store.seal(path.with_name("other.key"), Kind.NODE, "x", cost=CHEAP)


def test_save_never_overwrites(path: Path) -> None:  # KEY-013
    store.save(path, Identity(Kind.NODE, SEED))
    with pytest.raises(Conflict, match="not overwritten"):
        store.save(path, Identity(Kind.NODE, bytes(32)))
    assert store.load(path, Kind.NODE).reveal() == SEED


def test_delete_removes_the_key_and_what_a_crash_left(path: Path) -> None:
    store.delete(path)
    store.save(path, Identity(Kind.NODE, SEED))
    (path.parent / ".node.key.unfinished").touch()
    store.delete(path)
    assert list(path.parent.iterdir()) == []
    store.delete(path)


def test_delete_others_leaves_what_is_named_and_what_is_no_key(path: Path) -> None:
    assert store.delete_others(path.parent, {path.name}) == ()
    store.save(path, Identity(Kind.NODE, SEED))
    for name in ("other.key", ".node.key.unfinished", "notes.txt"):
        (path.parent / name).touch()
    gone = store.delete_others(path.parent, {path.name})
    assert gone == (".node.key.unfinished", "other.key")
    assert {each.name for each in path.parent.iterdir()} == {path.name, "notes.txt"}


def test_seal_and_unseal_keep_the_key(path: Path) -> None:  # KEY-014
    store.save(path, Identity(Kind.TENANT, SEED))
    store.seal(path, Kind.TENANT, "correct horse", cost=CHEAP)
    assert store.is_sealed(path, Kind.TENANT)
    assert SEED.hex() not in path.read_text()
    assert _mode(path) == 0o600
    assert store.load_id(path, Kind.TENANT) == Identity(Kind.TENANT, SEED).id
    assert store.load(path, Kind.TENANT, passphrase="correct horse").reveal() == SEED
    store.unseal(path, Kind.TENANT, "correct horse")
    assert store.load(path, Kind.TENANT).reveal() == SEED


def test_a_sealed_key_is_refused_without_its_passphrase(path: Path) -> None:  # KEY-014
    store.save(path, Identity(Kind.TENANT, SEED), passphrase="correct horse", cost=CHEAP)
    with pytest.raises(Refused, match="is sealed"):
        store.load(path, Kind.TENANT)
    with pytest.raises(Refused, match="is sealed"):
        store.seal(path, Kind.TENANT, "another", cost=CHEAP)
    for attempt in (store.load, store.unseal):
        with pytest.raises(Refused, match="wrong passphrase"):
            attempt(path, Kind.TENANT, passphrase="wrong horse")
    assert store.is_sealed(path, Kind.TENANT)


def test_sealing_twice_uses_new_randomness(path: Path) -> None:  # KEY-006
    texts = set()
    for name in ("a", "b"):
        key = path.with_name(name)
        store.save(key, Identity(Kind.TENANT, SEED), passphrase="correct horse", cost=CHEAP)
        texts.add(key.read_text())
    assert len(texts) == 2


def test_device_keys_are_kept_per_network(path: Path) -> None:  # KEY-007
    other = NetworkId(identity.format_network_id(b"\1" * 20))
    device = store.load_or_create_device(path.parent, NETWORK)
    assert store.load_or_create_device(path.parent, NETWORK).public_key == device.public_key
    assert store.load_or_create_device(path.parent, other).public_key != device.public_key
    found = {file.name for file in (path.parent / "devices").iterdir()}
    assert found == {f"{addressing.netns_name(n)}.key" for n in (NETWORK, other)}
    assert _mode(path.parent / "devices") == 0o700


def test_many_at_once_make_one_identity(path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda _: store.load_or_create(path, Kind.NODE).id, range(32)))
    assert len(set(ids)) == 1


def test_bytes_reach_the_disk_before_the_name_does(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # KEY-012
    calls: list[str] = []
    store.save(path, Identity(Kind.NODE, SEED))
    monkeypatch.setattr(store, "os", _Os(seen=calls.append))
    store.seal(path, Kind.NODE, "correct horse", cost=CHEAP)
    steps = [call for call in calls if call in ("write", "fsync", "rename")]
    assert steps == ["write", "fsync", "rename", "fsync"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_while_creating_leaves_no_key_or_a_whole_one(
    path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # KEY-012
    for _ in _crashes(monkeypatch, moment, lambda: store.load_or_create(path, Kind.NODE)):
        left = store.load(path, Kind.NODE).id if path.exists() else None
        identity = store.load_or_create(path, Kind.NODE)
        assert left in (None, identity.id)
        assert list(path.parent.iterdir()) == [path]
        store.delete(path)
        assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_while_sealing_leaves_the_one_form_or_the_other(
    path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # KEY-012
    store.save(path, Identity(Kind.TENANT, SEED))
    write = lambda: store.seal(path, Kind.TENANT, "correct horse", cost=CHEAP)  # noqa: E731
    for _ in _crashes(monkeypatch, moment, write):
        assert store.load(path, Kind.TENANT, passphrase="correct horse").reveal() == SEED
        store.unseal(path, Kind.TENANT, "correct horse")
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_while_a_key_is_replaced_leaves_the_one_or_the_other(
    path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # KEY-023
    successor = path.with_name("node.next.key")
    former, coming = Identity(Kind.WG, SEED), Identity(Kind.WG, bytes(32))

    def begin() -> None:
        store.delete(path)
        store.delete(successor)
        store.save(path, former)
        store.save(successor, coming)

    begin()
    for _ in _crashes(monkeypatch, moment, lambda: store.replace(path, successor, Kind.WG)):
        left = store.load(path, Kind.WG).id
        assert left == (former.id if successor.exists() else coming.id)
        if successor.exists():
            store.replace(path, successor, Kind.WG)
        assert store.load(path, Kind.WG).id == coming.id
        assert list(path.parent.iterdir()) == [path]
        begin()


def test_a_replaced_key_is_on_no_disk_any_more(path: Path) -> None:  # KEY-023
    successor = path.with_name("node.next.key")
    store.save(path, Identity(Kind.WG, SEED))
    store.save(successor, Identity(Kind.WG, bytes(32)))
    kept = path.with_name("a second name of the same bytes")
    kept.hardlink_to(path)
    store.replace(path, successor, Kind.WG)
    assert kept.read_bytes() == bytes(kept.stat().st_size)
    assert _mode(path) == 0o600


def test_a_damaged_or_missing_successor_replaces_nothing(path: Path) -> None:  # KEY-011, KEY-023
    successor = path.with_name("node.next.key")
    store.save(path, Identity(Kind.WG, SEED))
    with pytest.raises(store.Absent):
        store.replace(path, successor, Kind.WG)
    store.save(successor, Identity(Kind.NODE, SEED))
    with pytest.raises(Rejected, match="expected a wg key"):
        store.replace(path, successor, Kind.WG)
    successor.write_bytes(b"damaged")
    with pytest.raises(Rejected, match=r"node\.next\.key"):
        store.replace(path, successor, Kind.WG)
    assert store.load(path, Kind.WG).reveal() == SEED


@pytest.mark.parametrize("call", ["open", "write", "fsync", "rename"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_leaves_the_key_as_it_was(
    path: Path, call: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # KEY-012
    store.save(path, Identity(Kind.NODE, SEED))
    other = path.with_name("other.key")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(store, "os", _Os(**{call: refuse}))
    with pytest.raises(Unavailable, match=os.strerror(code)):
        store.save(other, Identity(Kind.NODE, SEED))
    monkeypatch.undo()
    assert list(path.parent.iterdir()) == [path]
    assert store.load(path, Kind.NODE).reveal() == SEED


def test_missing_permission_is_refused_with_the_remedy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    store.save(path, Identity(Kind.NODE, SEED))
    monkeypatch.setattr(store, "os", _Os(open=refuse))
    with pytest.raises(Refused, match="no permission") as caught:
        store.load(path, Kind.NODE)
    assert caught.value.remedy == "run this as the user who owns the key"


class _Crash(BaseException):
    """The process ends here."""


class _Os:
    """The real `os`, but for calls that a test watches or replaces."""

    def __init__(self, *, seen: Callable[[str], None] | None = None, **replaced: Any) -> None:
        self._seen = seen
        self._replaced = replaced

    def __getattr__(self, name: str) -> Any:
        if self._seen is not None:
            self._seen(name)
        return self._replaced.get(name, getattr(os, name))


class _CrashingOs:
    """The real `os` up to the n-th call, at which the process ends: before or after its effect."""

    WATCHED = ("open", "fstat", "read", "write", "fsync", "rename", "unlink", "stat", "pwrite")

    def __init__(self, survived: int, moment: str) -> None:
        self.left = survived
        self.moment = moment

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return (lambda *a, **k: self._call(name, real, a, k)) if name in self.WATCHED else real

    def _call(self, name: str, real: Any, args: Any, kwargs: Any) -> Any:
        self.left -= 1
        if self.left < -1 or (self.left == -1 and self.moment == "before"):
            raise _Crash
        if self.left == -1 and name == "write":
            real(args[0], args[1][: len(args[1]) // 2])  # half of the bytes got out
            raise _Crash
        result = real(*args, **kwargs)
        if self.left == -1:
            if name == "open":
                os.close(result)
            raise _Crash
        return result


def _crashes(
    monkeypatch: pytest.MonkeyPatch, moment: str, write: Callable[[], object]
) -> Iterator[int]:
    """Runs `write` with a crash at its first system call, its second, ... until it survives."""
    for survived in range(100):
        monkeypatch.setattr(store, "os", _CrashingOs(survived, moment))
        try:
            write()
        except _Crash:
            pass
        else:
            assert survived > 8, "a write has more system calls than that"
            return
        finally:
            monkeypatch.setattr(store, "os", os)
        yield survived
    raise AssertionError("the write never ended")


def _every_read(path: Path) -> list[Callable[[], object]]:
    return [
        lambda: store.load(path, Kind.NODE),
        lambda: store.load_id(path, Kind.NODE),
        lambda: store.load_or_create(path, Kind.NODE),
        lambda: store.seal(path, Kind.NODE, "x", cost=CHEAP),
        lambda: store.unseal(path, Kind.NODE, "x"),
    ]


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
