"""Which WireGuard this node uses, and why.

The kernel's own where there is one, else wireguard-go: a setting decides before anything else.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from overlay.errors import Rejected, Unavailable
from overlay.netns import spawn
from overlay.netns.uapi import UserspaceWireGuard
from overlay.netns.wg_kernel import KernelWireGuard, why_unavailable
from overlay.ports import WireGuard

BACKEND_SETTING = "ZOS_WIREGUARD_BACKEND"  # kernel | wireguard-go
BINARY_SETTING = "ZOS_WIREGUARD_GO"  # path of a wireguard-go
# Since then it hands segments to the kernel in bulk: several times the throughput. (Debian 13's
# 0.0.20231211 still says this version.)
FAST_SINCE = (0, 0, 20230223)
MENDED_REMEDY = (
    f"boot a kernel with WireGuard, or set {BINARY_SETTING} to the build/wireguard-go/wireguard-go"
    " that `make setup` makes in the source of zos (decision 0014)"
)

_PROGRAM = "wireguard-go"
_USUAL_DIRS = ("/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/usr/sbin")
_VERSION = re.compile(rb"wireguard-go v?(\d+(?:\.\d+)*)")
_VERSION_TIMEOUT_S = 5.0

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """The back end to use; a sentence on which and why; what a person may do for a better one."""

    wireguard: WireGuard
    reason: str
    remedy: str | None = None
    binary: Path | None = None  # of wireguard-go


async def choose(environ: Mapping[str, str], *, underlay: str | None = None) -> Choice:
    """The best back end that works here. Settings are read from `environ`.

    Raises Rejected when a setting cannot be followed, Unavailable when there is no back end.
    """
    wanted = environ.get(BACKEND_SETTING) or None
    if wanted not in (None, "kernel", _PROGRAM):
        raise Rejected(
            f"{wanted!r} is no back end", field=BACKEND_SETTING, remedy="kernel or wireguard-go"
        )
    if wanted == _PROGRAM:
        return await _choose_userspace(environ, underlay, f"{BACKEND_SETTING} asks for it")
    missing = why_unavailable()
    if missing is None:
        why = f"{BACKEND_SETTING} asks for it" if wanted else "this kernel has it"
        return Choice(KernelWireGuard(underlay=underlay), f"kernel WireGuard: {why}")
    if wanted == "kernel":
        raise Rejected(f"this kernel has no WireGuard: {missing}", field=BACKEND_SETTING)
    return await _choose_userspace(environ, underlay, f"this kernel has no WireGuard ({missing})")


async def find_binaries(environ: Mapping[str, str]) -> tuple[tuple[Version, Path], ...]:
    """Every wireguard-go on PATH and in the usual places that tells its version, newest first."""
    found = [(version, path) for path in _candidates(environ) if (version := await _version(path))]
    return tuple(sorted(found, key=lambda each: each[0], reverse=True))


async def _choose_userspace(environ: Mapping[str, str], underlay: str | None, why: str) -> Choice:
    if named := environ.get(BINARY_SETTING):
        path, whence = Path(named), f"named by {BINARY_SETTING}"
        if (version := await _version(path)) is None:
            raise Rejected(f"{named} is no wireguard-go", field=BINARY_SETTING)
    elif found := await find_binaries(environ):
        (version, path), whence = found[0], "the newest found" if len(found) > 1 else "found"
    else:
        raise Unavailable(
            f"no WireGuard: {why}, and there is no wireguard-go",
            remedy="apt-get install wireguard-go",
        )
    text = ".".join(map(str, version))
    return Choice(
        UserspaceWireGuard(path, underlay=underlay),
        f"wireguard-go {text} at {path}, {whence}: {why}",
        MENDED_REMEDY if version < FAST_SINCE else None,
        path,
    )


def _candidates(environ: Mapping[str, str]) -> Iterable[Path]:
    """Once each: /bin is often another name of /usr/bin."""
    folders = (*environ.get("PATH", "").split(os.pathsep), *_USUAL_DIRS)
    paths = (Path(folder) / _PROGRAM for folder in folders if folder)
    return dict.fromkeys(path.resolve() for path in paths if os.access(path, os.X_OK))


async def _version(path: Path) -> Version | None:
    try:
        shown = await spawn.run([str(path), "--version"], timeout_s=_VERSION_TIMEOUT_S)
    except (Rejected, Unavailable):
        return None
    match = _VERSION.search(shown.stdout + shown.stderr)
    return tuple(map(int, match[1].split(b"."))) if match else None
