"""The node's database: what was accepted stays accepted, damage is loud (NODE-010 .. NODE-019)."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from overlay.documents.trust import Floor
from overlay.errors import Refused, Rejected, Unavailable
from overlay.peers import cache as cache_module
from overlay.peers.cache import Cache, StoredAttachment, open_cache


def floor(version: int, text: bytes = b"d") -> Floor:
    return Floor(version, text * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "node.db"


def test_documents_and_floors_survive_a_restart(path: Path) -> None:
    # NODE-010
    with open_cache(path) as cache:
        cache.accept("network/net1a", floor=floor(3), envelope=b"three")
    with open_cache(path) as cache:
        assert cache.floor("network/net1a") == floor(3)
        assert cache.envelope("network/net1a") == b"three"
        assert cache.envelope("network/net1b") is None


def test_a_floor_never_sinks(path: Path) -> None:
    # NODE-011
    with open_cache(path) as cache:
        cache.raise_floor("farm/f", floor(5))
        cache.raise_floor("farm/f", floor(4, b"x"))
        assert cache.floor("farm/f") == floor(5)


def test_a_forgotten_document_leaves_its_floor(path: Path) -> None:
    # NODE-011
    with open_cache(path) as cache:
        cache.accept("member/net1a/node1b", floor=floor(2), envelope=b"m")
        cache.accept("member/net1a/node1c", floor=floor(2), envelope=b"m")
        cache.forget("member/net1a/node1b")
        cache.forget_below("member/net1a/")
        assert list(cache.envelopes("member/")) == []
        assert cache.floor("member/net1a/node1b") == floor(2)


def test_documents_take_less_than_twice_their_own_size(path: Path) -> None:
    # NODE-015: members come in the order of their keys to nobody
    envelope = bytes(1_300)
    with open_cache(path) as cache:
        with cache.batch():
            for number in range(1_000):
                node = hashlib.sha256(b"%d" % number).hexdigest()
                key = f"member/net1{'x' * 38}/node1{node}"
                cache.accept(key, floor=floor(1), envelope=envelope)
        assert [*cache._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")] == [(0, 0, 0)]
    assert path.stat().st_size < 2 * 1_000 * len(envelope)


def test_documents_are_found_by_the_start_of_their_key(path: Path) -> None:
    with open_cache(path) as cache:
        for key in ("member/net1a/x", "member/net1ab/x", "member/net1b/x", "network/net1a"):
            cache.accept(key, floor=floor(1), envelope=key.encode())
        assert [key for key, _ in cache.envelopes("member/net1a/")] == ["member/net1a/x"]
        assert len(list(cache.envelopes("member/"))) == 3


def test_a_batch_is_all_or_nothing(path: Path) -> None:
    # NODE-012
    def die_in_a_batch(cache: Cache) -> None:
        with cache.batch():
            cache.accept("network/net1a", floor=floor(1), envelope=b"x")
            cache.set_port("net1a", 51820)
            raise ZeroDivisionError

    with open_cache(path) as cache:
        with pytest.raises(ZeroDivisionError):
            die_in_a_batch(cache)
        assert cache.envelope("network/net1a") is None
        assert cache.floor("network/net1a") is None
        assert cache.ports() == {}


def test_files_are_private(path: Path) -> None:
    # NODE-013
    with open_cache(path) as cache:
        cache.set_port("net1a", 51820)
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_database_open_to_others_is_refused(path: Path) -> None:
    open_cache(path).close()
    path.chmod(0o644)
    with pytest.raises(Refused, match="open to others"):
        open_cache(path)


@pytest.mark.parametrize("offset", [0, 20, 4_096])
def test_damage_is_loud_and_nothing_is_reset(path: Path, offset: int) -> None:
    # NODE-014
    with open_cache(path) as cache:
        for n in range(200):
            cache.accept(f"network/{n}", floor=floor(1), envelope=b"x" * 500)
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 80] = b"\xff" * 80
    path.write_bytes(raw)
    with pytest.raises(Rejected, match="damaged") as caught:
        open_cache(path)
    assert caught.value.remedy is not None
    assert path.read_bytes() == bytes(raw)


def test_a_database_of_a_newer_format_is_refused(path: Path) -> None:
    open_cache(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Rejected, match="format 99"):
        open_cache(path)


def test_another_programs_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    path.chmod(0o600)
    with pytest.raises(Rejected, match="another program"):
        open_cache(path)


def test_a_start_that_died_before_the_tables_is_made_good(path: Path) -> None:
    # NODE-014: an empty file holds no floor that could be lost
    path.parent.mkdir()
    path.touch(0o600)
    with open_cache(path) as cache:
        assert cache.ports() == {}


def test_documents_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # NODE-015
    monkeypatch.setattr(cache_module, "MAX_DOCUMENTS", 2)
    with open_cache(path) as cache:
        for n in range(2):
            cache.accept(f"network/{n}", floor=floor(1), envelope=b"x")
        with pytest.raises(Refused, match="more than 2"):
            cache.accept("network/2", floor=floor(1), envelope=b"x")
        cache.accept("network/1", floor=floor(2), envelope=b"y")
        cache.forget("network/0")
        cache.accept("network/2", floor=floor(1), envelope=b"x")


def test_ports_and_attachments_are_kept(path: Path) -> None:
    # NODE-016
    web = StoredAttachment("net1a", "web", "/run/netns/x", "eth0", 2)
    with open_cache(path) as cache:
        cache.set_port("net1a", 51820)
        cache.put_attachment(web)
    with open_cache(path) as cache:
        assert cache.ports() == {"net1a": 51820}
        assert cache.attachments("net1a") == (web,)
        cache.drop_attachment("net1a", "web")
        cache.free_port("net1a")
        assert cache.attachments("net1a") == ()
        assert cache.ports() == {}


def test_a_batch_that_sqlite_has_taken_back_itself_says_why(path: Path) -> None:
    """As it does when the disk takes nothing (sqlite.org/lang_transaction.html, section 3)."""
    with open_cache(path) as cache:
        with pytest.raises(Unavailable, match="disk full"), cache.batch():  # noqa: PT012
            cache.set_setting("a", "b")
            cache._db.execute("ROLLBACK")
            raise Unavailable("disk full")
        assert cache.setting("a") is None
        with cache.batch():
            cache.set_setting("a", "c")
        assert cache.setting("a") == "c"


def test_a_kill_leaves_whole_batches(path: Path) -> None:
    # NODE-012: kill -9 in the middle of writing
    program = """
import sys
from pathlib import Path
from overlay.documents.trust import Floor
from overlay.peers.cache import open_cache
cache = open_cache(Path(sys.argv[1]))
for n in range(1, 100_000):
    with cache.batch():
        cache.accept("network/a", floor=Floor(n, b"d" * 32), envelope=str(n).encode())
        cache.accept("network/b", floor=Floor(n, b"d" * 32), envelope=str(n).encode())
    if n == 20:
        print("go", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, env={**os.environ}
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    with open_cache(path) as cache:
        first, second = cache.floor("network/a"), cache.floor("network/b")
        assert first == second
        assert first is not None
        assert first.version >= 20
        assert cache.envelope("network/a") == str(first.version).encode()
