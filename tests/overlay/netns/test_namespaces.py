"""What needs no root; the rest is in tests/kernel/test_namespaces.py."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from overlay.errors import Rejected
from overlay.netns import namespaces


@pytest.mark.parametrize("name", ["n-abcdefghijklm", "a", "A.b_c-9", "a" * 64])
def test_pin_path_is_below_the_pins(name: str) -> None:
    assert namespaces.pin_path(name) == f"/run/netns/{name}"


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/a", "-x", "a" * 65, "a\0", "a\n", "ü"]
)
def test_a_name_that_is_no_single_file_name_is_refused(name: str) -> None:  # NSP-006
    with pytest.raises(Rejected):
        namespaces.pin_path(name)


def test_no_pins_are_listed_where_there_is_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(namespaces, "PIN_DIR", str(tmp_path / "absent"))
    assert namespaces.list_pinned() == ()


def test_what_is_no_netns_is_not_pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # NSP-003
    monkeypatch.setattr(namespaces, "PIN_DIR", str(tmp_path))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/proc/self/ns/net")
    os.mkfifo(tmp_path / "fifo")

    assert namespaces.list_pinned() == ()
    assert all(
        namespaces.open_pinned(name) is None
        for name in ("file", "folder", "link", "fifo", "absent")
    )


def test_identity_is_the_same_through_every_descriptor() -> None:
    first, second = (os.open("/proc/self/ns/net", os.O_RDONLY) for _ in range(2))
    other = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    assert namespaces.identity(first) == namespaces.identity(second)
    assert namespaces.identity(first) != namespaces.identity(other)
    for fd in (first, second, other):
        os.close(fd)


def test_without_a_netns_sockets_and_links_are_the_callers_own() -> None:
    with namespaces.open_socket(None, socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        assert opened.family == socket.AF_INET6
    assert namespaces.has_link(None, "lo")
    assert not namespaces.has_link(None, "absent")
    assert not namespaces.has_link("/absent", "lo")
