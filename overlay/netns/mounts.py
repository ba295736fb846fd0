"""Files that say something else to one process than to the machine, whose own stay untouched.

Called between fork and exec, so nothing here logs, awaits or starts anything.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

# For a moment the place of the new files: a folder that there always is, and that no file to cover
# is in.
_SCRATCH = "/proc"
_CLONE_NEWNS = 0x00020000  # linux/sched.h
_MS_BIND, _MS_REC, _MS_SLAVE = 4096, 16384, 1 << 19  # linux/mount.h
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def see(files: Mapping[str, str], *, hide: Iterable[str] = ()) -> None:
    """From now on this process and its children see these texts at these paths, and nothing at
    those to `hide`. What is not there on the machine is left out. Raises OSError.

    What others mount later is seen, what is mounted here is not seen by others, and goes with the
    last process that sees it.
    """
    _call("unshare", _CLONE_NEWNS)
    _call("mount", b"none", b"/", None, _MS_REC | _MS_SLAVE, None)
    files = {path: text for path, text in files.items() if Path(path).exists()}
    for path in hide:
        if Path(path).exists():
            _cover("/dev/null", path)
    _call("mount", b"none", _SCRATCH.encode(), b"tmpfs", 0, b"mode=755")
    for n, (path, text) in enumerate(files.items()):
        fresh = Path(_SCRATCH) / str(n)
        fresh.write_text(text)
        fresh.chmod(0o644)
        _cover(str(fresh), path)
    # What is covered stays covered: its mount holds the file system.
    _call("umount2", _SCRATCH.encode(), _MNT_DETACH)


def _cover(source: str, target: str) -> None:
    _call("mount", source.encode(), target.encode(), None, _MS_BIND, None)


def _call(function: str, *arguments: bytes | int | None) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
