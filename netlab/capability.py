"""What this machine lets a lab have, said before one is built: what is missing, why, what helps.

`look` asks the machine, `judge` is pure.
"""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from netlab import owner
from netlab.keeper import gate, nftables

DESCRIPTORS_PER_NODE = 5
DESCRIPTORS_OTHERWISE = 64
NODES_DEFAULT, DEVICES_DEFAULT = 100, 60
OVERLAY_WITHOUT_ROOT_SINCE = (5, 11)

_TUN = Path("/dev/net/tun")
# What may forbid user namespaces: the value that does, and one that does not.
_SYSCTLS = {
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "user.max_user_namespaces": ("0", "10000"),
}


@dataclass(frozen=True, slots=True)
class Capability:
    """One thing that a lab may want; without a `vital` one there is no lab at all."""

    name: str
    ok: bool
    reason: str
    remedy: str = ""
    vital: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """A machine, as far as labs are concerned, for whoever looked.

    forbidden      why no namespace can be made; empty when they can
    forbidding     names of settings that forbid user namespaces
    no_netem       why the kernel holds no packets back; empty when it does
    """

    is_root: bool
    forbidden: str
    forbidding: tuple[str, ...]
    kernel: tuple[int, int]
    has_tun: bool
    may_tun: bool
    has_nftables: bool
    no_netem: str
    descriptors: int
    inotify_instances: int


def look() -> Facts:
    """Nothing is changed; what has to be tried is tried by a process that ends."""
    is_root = not gate.is_needed()
    forbidden = owner.try_namespaces()
    return Facts(
        is_root=is_root,
        forbidden=forbidden,
        forbidding=tuple(name for name, (bad, _) in _SYSCTLS.items() if _read_sysctl(name) == bad),
        kernel=_kernel_version(),
        has_tun=_TUN.exists(),
        may_tun=os.access(_TUN, os.R_OK | os.W_OK),
        has_nftables=nftables.is_installed(),
        no_netem=forbidden or owner.try_namespaces("netem"),
        descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        inotify_instances=int(_read_sysctl("fs.inotify.max_user_instances") or 0),
    )


def judge(
    facts: Facts, *, nodes: int = NODES_DEFAULT, devices: int = DEVICES_DEFAULT
) -> tuple[Capability, ...]:
    """For a lab of so many nodes that run something, and so many WireGuard devices."""
    return tuple(_judge(facts, nodes=nodes, devices=devices))


def missing() -> tuple[Capability, ...]:
    """What a lab has to do without here, most important first."""
    return tuple(each for each in judge(look()) if not each.ok)


def _judge(facts: Facts, *, nodes: int, devices: int) -> Iterator[Capability]:
    yield _namespaces(facts)
    files = facts.is_root or facts.kernel >= OVERLAY_WITHOUT_ROOT_SINCE
    yield Capability(
        "files",
        files,
        "nodes have an /etc and /var/lib of their own"
        if files
        else "overlay file systems are root's before Linux 5.11, so no program runs in a node",
        "" if files else "run as root, or a newer kernel",
        vital=True,
    )
    yield _tun(facts)
    yield Capability(
        "nftables",
        facts.has_nftables,
        "libnftables is there" if facts.has_nftables else "no libnftables: no NAT, no partition",
        "" if facts.has_nftables else "install libnftables1 (Debian) or nftables",
    )
    yield Capability(
        "netem",
        not facts.no_netem,
        "the kernel holds packets back"
        if not facts.no_netem
        else f"a pump of our own does instead, less exactly ({facts.no_netem.rpartition(': ')[2]})",
        "" if not facts.no_netem else "modprobe sch_netem",
    )
    wanted = nodes * DESCRIPTORS_PER_NODE + DESCRIPTORS_OTHERWISE
    yield _enough(
        "descriptors",
        facts.descriptors,
        wanted,
        f"{nodes} nodes that run something take {wanted}",
        f"ulimit -Hn {wanted} or more",
    )
    yield _enough(
        "inotify",
        facts.inotify_instances,
        devices + 1,
        f"{devices} devices of wireguard-go take one instance each, and one user's share is",
        f"sysctl fs.inotify.max_user_instances={2 * devices}",
    )


def _namespaces(facts: Facts) -> Capability:
    if not facts.forbidden:
        how = "made as root" if facts.is_root else "made without root, in a user namespace"
        return Capability("namespaces", True, how, vital=True)
    remedies = [f"sysctl {name}={_SYSCTLS[name][1]}" for name in facts.forbidding]
    return Capability(
        "namespaces",
        False,
        f"none can be made: {facts.forbidden}",
        " or ".join([*remedies, "run as root"]),
        vital=True,
    )


def _tun(facts: Facts) -> Capability:
    without = "no wireguard-go, and so no zos node where the kernel has no WireGuard"
    if not facts.has_tun:
        return Capability("tun", False, f"no {_TUN}: {without}", "modprobe tun")
    if not facts.may_tun:
        return Capability(
            "tun", False, f"{_TUN} is root's: {without}", f"chmod 0666 {_TUN}, or run as root"
        )
    return Capability("tun", True, f"{_TUN} can be opened")


def _enough(name: str, there: int, wanted: int, what: str, remedy: str) -> Capability:
    ok = there >= wanted
    return Capability(name, ok, f"{what}: {there} are allowed", "" if ok else remedy)


def _read_sysctl(name: str) -> str:
    try:
        return (Path("/proc/sys") / name.replace(".", "/")).read_text().strip()
    except OSError:
        return ""


def _kernel_version() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()) or 0)
