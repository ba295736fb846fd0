"""Where the kernel suite runs: network and mount namespaces of its own, with an empty /run."""

from __future__ import annotations

import ctypes
import os

import pytest

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
