"""Tenant netns come, are found, are lost and go, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from overlay.errors import Rejected, Unavailable
from overlay.netns import namespaces, spawn

pytestmark = pytest.mark.usefixtures("sandbox")

NAME = "n-abcdefghijklm"
LOST_THREAD = """
from overlay.netns import namespaces

def refuse(*_):
    raise OSError(1, "refused")

with namespaces.hop(namespaces.anonymous()):
    namespaces._call = refuse
print("went on")
"""


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = Path("/proc/self/mountinfo").read_bytes()
    home = own_netns()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert own_netns() == home
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    for name in namespaces.list_pinned():
        namespaces.remove(name)
    assert Path("/proc/self/mountinfo").read_bytes() == before


def test_create_pins_a_netns_that_is_new_and_found_by_its_name() -> None:  # NSP-001
    namespaces.create(NAME)

    assert namespaces.list_pinned() == (NAME,)
    with namespaces.hop(namespaces.pin_path(NAME)):
        assert socket.if_nameindex() == [(1, "lo")]


def test_create_leaves_a_netns_that_is_pinned_already_as_it_is() -> None:  # NSP-001
    namespaces.create(NAME)
    first = pinned_identity()
    namespaces.create(NAME)

    assert pinned_identity() == first


def test_create_makes_one_mount_and_remove_takes_it_away() -> None:  # NSP-002
    Path(namespaces.PIN_DIR).mkdir(exist_ok=True)
    before = Path("/proc/self/mountinfo").read_text()
    namespaces.create(NAME)
    assert (
        len(Path("/proc/self/mountinfo").read_text().splitlines()) == len(before.splitlines()) + 1
    )

    namespaces.remove(NAME)

    assert Path("/proc/self/mountinfo").read_text() == before
    assert not os.path.lexists(namespaces.pin_path(NAME))


def test_remove_of_what_is_not_there_is_no_error() -> None:
    namespaces.remove(NAME)
    namespaces.remove(NAME)


def test_remove_takes_away_pins_that_lie_on_top_of_each_other() -> None:
    namespaces.create(NAME)
    path = namespaces.pin_path(NAME)
    subprocess.run(["mount", "--bind", "/proc/self/ns/net", path], check=True)

    namespaces.remove(NAME)

    assert namespaces.open_pinned(NAME) is None


def test_create_replaces_a_plain_file_in_the_way() -> None:  # NSP-003
    path = Path(namespaces.pin_path(NAME))
    path.parent.mkdir(exist_ok=True)
    path.write_text("stale")
    assert namespaces.open_pinned(NAME) is None
    assert namespaces.list_pinned() == ()

    namespaces.create(NAME)

    assert namespaces.list_pinned() == (NAME,)


def test_a_directory_in_the_way_is_reported() -> None:
    path = Path(namespaces.pin_path(NAME))
    path.mkdir(parents=True)

    with pytest.raises(Unavailable, match=NAME):
        namespaces.create(NAME)
    path.rmdir()


def test_a_held_netns_is_pinned_again_when_its_pin_is_taken_away() -> None:  # NSP-004
    namespaces.create(NAME)
    held = namespaces.open_pinned(NAME)
    assert held is not None
    subprocess.run(["ip", "-n", NAME, "link", "add", "br0", "type", "bridge"], check=True)
    subprocess.run(["ip", "netns", "del", NAME], check=True)
    assert namespaces.open_pinned(NAME) is None

    namespaces.pin(held, NAME)

    assert pinned_identity() == namespaces.identity(held)
    assert namespaces.has_link(namespaces.pin_path(NAME), "br0")
    os.close(held)


def test_iproute2_sees_and_deletes_what_is_pinned() -> None:
    namespaces.create(NAME)
    shown = subprocess.run(["ip", "netns", "list"], capture_output=True, check=True, text=True)
    assert NAME in shown.stdout

    subprocess.run(["ip", "netns", "del", NAME], check=True)

    assert namespaces.list_pinned() == ()


def test_a_pin_below_a_mount_of_the_directory_over_itself_goes_and_comes() -> None:  # NSP-002
    namespaces.create(NAME)
    subprocess.run(["ip", "netns", "add", "other"], check=True)  # mounts the directory over itself
    try:
        namespaces.remove(NAME)
        assert namespaces.list_pinned() == ("other",)

        namespaces.create(NAME)
        assert namespaces.list_pinned() == (NAME, "other")
    finally:
        subprocess.run(["ip", "netns", "del", "other"], check=True)
        subprocess.run(["umount", "--lazy", namespaces.PIN_DIR], check=True)


def test_hop_comes_back_when_the_block_raises() -> None:  # NSP-005
    netns = namespaces.anonymous()
    home = own_netns()

    with pytest.raises(ZeroDivisionError), namespaces.hop(netns):
        _ = 1 // (own_netns() == home)

    assert own_netns() == home
    os.close(netns)


def test_hops_nest() -> None:  # NSP-005
    outer, inner = namespaces.anonymous(), namespaces.anonymous()
    with namespaces.hop(outer):
        with namespaces.hop(inner):
            assert own_netns() == namespaces.identity(inner)
        assert own_netns() == namespaces.identity(outer)
    os.close(outer)
    os.close(inner)


def test_hop_takes_no_other_thread_along() -> None:  # NSP-005
    netns = namespaces.anonymous()
    seen = []
    with namespaces.hop(netns):
        home = Path(f"/proc/{os.getpid()}/ns/net")  # of the main thread
        watcher = threading.Thread(target=lambda: seen.append(home.stat().st_ino))
        watcher.start()
        watcher.join()
    assert seen == [namespaces.identity(netns)[1]]  # it is the main thread that hopped

    def hop_elsewhere() -> None:
        with namespaces.hop(netns):
            seen.append(own_netns()[1])

    worker = threading.Thread(target=hop_elsewhere)
    worker.start()
    worker.join()
    assert own_netns()[1] != seen[-1]
    os.close(netns)


def test_hop_that_cannot_come_back_ends_the_process() -> None:  # NSP-005
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            LOST_THREAD,
        ],
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
        text=True,
    )
    assert child.returncode == namespaces.EXIT_LOST
    assert "cannot leave a netns" in child.stderr
    assert child.stdout == ""


@pytest.mark.parametrize("path", ["/run/netns/absent", "/dev/null", "/proc/self/ns/mnt"])
def test_hop_into_what_is_no_netns_is_unavailable(path: str) -> None:
    with pytest.raises(Unavailable, match=path), namespaces.hop(path):
        pytest.fail("entered")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a" * 65, "a\n", "ü"])
def test_a_name_that_is_no_single_file_name_is_refused(name: str) -> None:  # NSP-006
    for act in (namespaces.create, namespaces.remove, namespaces.open_pinned):
        with pytest.raises(Rejected):
            act(name)


def test_the_longest_name_works() -> None:  # NSP-006
    namespaces.create("a" * 64)
    assert namespaces.list_pinned() == ("a" * 64,)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_socket_stays_in_the_netns_it_was_opened_in(family: int) -> None:
    netns = namespaces.anonymous()
    anywhere = "0.0.0.0" if family == socket.AF_INET else "::"
    with (
        namespaces.open_socket(netns, family, socket.SOCK_DGRAM) as inside,
        namespaces.open_socket(None, family, socket.SOCK_DGRAM) as outside,
    ):
        inside.bind((anywhere, 4000))
        outside.bind((anywhere, 4000))  # the same port is free here
    os.close(netns)


async def test_mount_watch_wakes_on_create_and_on_remove_and_sleeps_between() -> None:  # NSP-007
    async with namespaces.MountWatch() as watch:
        for change in (namespaces.create, namespaces.remove):
            change(NAME)
            async with asyncio.timeout(60):
                await anext(watch)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await anext(watch)


async def test_mount_watch_makes_one_wakeup_of_many_changes() -> None:  # NSP-007
    async with namespaces.MountWatch() as watch:
        for _ in range(3):
            namespaces.create(NAME)
            namespaces.remove(NAME)
        async with asyncio.timeout(60):
            await anext(watch)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await anext(watch)


async def test_processes_start_in_the_netns_that_is_named() -> None:  # SPW-004
    netns = namespaces.anonymous()
    inside = await spawn.run(["readlink", "/proc/self/ns/net"], timeout_s=10, netns=netns)
    assert inside.stdout.decode().strip() == f"net:[{namespaces.identity(netns)[1]}]"

    outside = await spawn.run(["readlink", "/proc/self/ns/net"], timeout_s=10)
    assert outside.stdout != inside.stdout
    os.close(netns)


def own_netns() -> tuple[int, int]:
    status = Path("/proc/thread-self/ns/net").stat()
    return status.st_dev, status.st_ino


def pinned_identity() -> tuple[int, int]:
    fd = namespaces.open_pinned(NAME)
    assert fd is not None
    try:
        return namespaces.identity(fd)
    finally:
        os.close(fd)
