"""Where the kernel suite runs: network and mount namespaces of its own, with an empty /run."""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from overlay.netns import namespaces
from tests.real_machine import RealMachine

_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture(scope="session")
def sandbox() -> None:
    """From here on this process is away from the machine's own network and mounts, for good."""
    assert os.geteuid() == 0, "the kernel suite needs root"
    assert _libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET) == 0
    assert _libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None) == 0
    assert _libc.mount(b"tmpfs", b"/run", b"tmpfs", 0, b"mode=755") == 0


@pytest.fixture
def private_underlay(sandbox: None) -> Iterator[None]:
    """A fresh netns for one test to be the underlay; afterwards nothing of ours is left in it."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert _libc.unshare(_CLONE_NEWNET) == 0
    try:
        yield
        links = {name for _, name in socket.if_nameindex()}
        assert links == {"lo"}, "links are left in the underlay netns"
        assert not list(namespaces.list_pinned()), "netns are left"
        assert not list(Path("/run/wireguard").glob("*")), "control sockets are left"
    finally:
        assert _libc.setns(home, _CLONE_NEWNET) == 0
        os.close(home)
        for name in namespaces.list_pinned():
            namespaces.remove(name)


@pytest.fixture
async def machine(private_underlay: None) -> AsyncIterator[RealMachine]:
    """The kernel of this machine, with two workloads that wait to be attached."""
    async with RealMachine() as machine:
        yield machine
