"""System calls for which Python 3.11 has no function: namespaces, mounts, parent-death signal.

Part of the keeper, so it imports only what is cheap to import.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS, CLONE_NEWCGROUP, CLONE_NEWUTS = 0x20000, 0x2000000, 0x4000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
_PR_SET_PDEATHSIG = 1
# System calls without a function in older C libraries; the numbers are every architecture's.
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    _raise_errno(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """`fd` is a namespace, or a pidfd for all of that process's namespaces in `kind` at once."""
    _raise_errno(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, *, kind: str = "", flags: int = 0, options: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source),
        os.fsencode(target),
        kind.encode() or None,
        ctypes.c_ulong(flags),
        options.encode() or None,
    )
    _raise_errno(result, f"mount {kind or source} on {target}")


def open_filesystem(kind: str) -> int:
    """A new instance of a file system, mounted nowhere; it goes with the descriptor."""
    context = _libc.syscall(_SYS_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC)
    _raise_errno(context, f"fsopen {kind}")
    try:
        made = _libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        _raise_errno(made, f"fsconfig {kind}")
        mount = _libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
        _raise_errno(mount, f"fsmount {kind}")
    finally:
        os.close(context)
    return int(mount)


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this signal when the thread that started this process ends."""
    _raise_errno(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number)), "prctl")


def _raise_errno(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
