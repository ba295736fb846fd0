"""What `zos doctor` looks at: one function a question, each gives a finding and changes nothing."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

import msgspec

from overlay import addressing
from overlay.errors import OverlayError, Rejected
from overlay.netns import backend, dnsmasq, namespaces
from overlay.netns.kernel import Rtnetlink
from overlay.netns.nft import Nftables
from overlay.netns.wg_trial import sends_where_told
from overlay.peers.registry import RegistryRef
from overlay.peers.registry_auth import TOKEN_LIFETIME_S
from zos_core.cli import local
from zos_core.cli.exits import NotRunning
from zos_core.cli.home import Home
from zos_core.cli.state import state_directory

TUN = Path("/dev/net/tun")
INOTIFY_LIMIT = Path("/proc/sys/fs/inotify/max_user_instances")
IPV6_SWITCH = Path("/proc/sys/net/ipv6/conf/all/disable_ipv6")
MIN_INOTIFY = 256  # one a wireguard-go; Debian's 128 ends at 127 networks
WIREGUARD_OVERHEAD_BYTES = 80  # over an IPv6 underlay
REGISTRY_TIMEOUT_S = 5.0
FIRST_PORT = 51_820
_STA_UNSYNC = 0x0040  # linux/timex.h
_TIMEX_BYTES = 208
_TIMEX_STATUS_OFFSET = 40  # modes, offset, freq, maxerror, esterror, status: on 64 bit

Verdict = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One question and its answer."""

    name: str
    verdict: Verdict
    evidence: str
    remedy: str = ""


def examine(*, registry: str | None) -> list[Finding]:
    """Every question in turn. A question that cannot be asked is a finding, too."""
    reference, asked = _reference(registry)
    questions: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("root", _root),
        ("tun", _tun),
        ("wireguard", _wireguard),
        ("kernel", _kernel),
        ("nftables", _nftables),
        ("names", _names),
        ("ipv6", _ipv6),
        ("underlay", _underlay),
        ("ports", _ports),
        ("limits", _limits),
        ("state", _state),
        ("clock", _clock),
        ("registry", lambda: _registry(reference, asked)),
        ("node", _node),
    )
    return [_asked(name, question) for name, question in questions]


def _asked(name: str, question: Callable[[], Finding]) -> Finding:
    try:
        return question()
    except OverlayError as exc:
        return Finding(name, "fail", exc.message, exc.remedy or "")
    except OSError as exc:
        return Finding(name, "fail", f"{exc.filename or name}: {exc.strerror}")


def _root() -> Finding:
    if os.geteuid() == 0:
        return Finding("root", "ok", "running as root")
    remedy = "sudo zos doctor; a node needs root, a person who only signs does not"
    return Finding("root", "fail", f"running as user {os.geteuid()}", remedy)


def _tun() -> Finding:
    if not TUN.exists():
        return Finding("tun", "warn", f"{TUN} is missing", "modprobe tun (wireguard-go needs it)")
    fd = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    os.close(fd)
    return Finding("tun", "ok", f"{TUN} opens")


def _wireguard() -> Finding:
    choice = asyncio.run(backend.choose(os.environ))
    if choice.binary is not None and not asyncio.run(sends_where_told(choice.binary)):
        evidence = (
            f"{choice.reason}; where peers are at addresses of both families, packets go astray"
        )
        return Finding("wireguard", "warn", evidence, backend.MENDED_REMEDY)
    verdict: Verdict = "warn" if choice.remedy else "ok"
    return Finding("wireguard", verdict, choice.reason, choice.remedy or "")


def _kernel() -> Finding:
    scratch = namespaces.anonymous()
    try:
        asyncio.run(_try_bridge(f"/proc/self/fd/{scratch}"))
    finally:
        os.close(scratch)
    return Finding("kernel", "ok", "network namespaces and bridges work")


async def _try_bridge(netns: str) -> None:
    async with Rtnetlink() as kernel:
        await kernel.create_bridge(netns, "br0")


def _nftables() -> Finding:
    scratch = namespaces.anonymous()
    try:
        Nftables().listing(scratch)
    finally:
        os.close(scratch)
    return Finding("nftables", "ok", "libnftables and the kernel answer")


def _names() -> Finding:
    if (program := dnsmasq.find_program()) is None:
        evidence = "there is no dnsmasq: networks work, names inside them are not answered"
        return Finding("names", "warn", evidence, dnsmasq.INSTALL_REMEDY)
    return Finding("names", "ok", f"{program} answers for names inside networks")


def _ipv6() -> Finding:
    if not IPV6_SWITCH.exists():
        return Finding("ipv6", "fail", "this kernel has no IPv6", "boot without ipv6.disable=1")
    return Finding("ipv6", "ok", "the kernel has IPv6")


def _underlay() -> Finding:
    """The smallest MTU of a link that is up; a tunnel inside must still carry IPv6."""
    links = dict(_links())
    if not links:
        return Finding("underlay", "fail", "no link but loopback is up", "bring a link up")
    name, mtu_bytes = min(links.items(), key=lambda link: link[1])
    least = addressing.MTU_MIN_BYTES + WIREGUARD_OVERHEAD_BYTES
    if mtu_bytes < least:
        evidence = f"{name} has an MTU of {mtu_bytes}, less than {least}"
        return Finding("underlay", "fail", evidence, f"ip link set {name} mtu 1500")
    addresses = ", ".join(sorted(links))
    return Finding("underlay", "ok", f"{addresses}: smallest MTU {mtu_bytes}")


def _links() -> Iterator[tuple[str, int]]:
    for path in Path("/sys/class/net").iterdir():
        flags = int((path / "flags").read_text(), 16)
        if flags & 1 and not flags & 8:  # IFF_UP, IFF_LOOPBACK (linux/if.h)
            yield path.name, int((path / "mtu").read_text())


def _ports() -> Finding:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address, FIRST_PORT))
            except OSError as exc:
                if exc.errno != errno.EADDRINUSE:
                    raise
                evidence = f"UDP {FIRST_PORT} is in use, as by a network of this node"
                return Finding("ports", "ok", evidence)
    return Finding("ports", "ok", f"UDP {FIRST_PORT} and up are free")


def _limits() -> Finding:
    limit = int(INOTIFY_LIMIT.read_text())
    if limit < MIN_INOTIFY:
        return Finding(
            "limits",
            "warn",
            f"{limit} inotify instances: {limit - 1} networks with wireguard-go",
            f"sysctl -w fs.inotify.max_user_instances={4 * MIN_INOTIFY}",
        )
    return Finding("limits", "ok", f"{limit} inotify instances")


def _state() -> Finding:
    path = state_directory()
    keys = path / "keys"
    if not keys.exists():
        return Finding("state", "ok", f"{path} is made when the node first starts")
    found = keys.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        evidence = f"{keys} has mode {stat.S_IMODE(found.st_mode):04o} and owner {found.st_uid}"
        return Finding("state", "fail", evidence, f"chown {os.geteuid()} {keys}; chmod 700 {keys}")
    return Finding("state", "ok", f"{keys} is this user's alone")


def _clock() -> Finding:
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    if ctypes.CDLL(None, use_errno=True).adjtimex(timex) < 0:
        return Finding("clock", "warn", "the kernel does not say whether it is synchronised")
    status = ctypes.c_int.from_buffer(timex, _TIMEX_STATUS_OFFSET).value
    if status & _STA_UNSYNC:
        remedy = "run chrony or systemd-timesyncd"
        return Finding("clock", "warn", "nothing keeps the clock synchronised", remedy)
    return Finding("clock", "ok", "synchronised")


def _reference(registry: str | None) -> tuple[str | None, str]:
    """Which registry to ask: the option, the node's, the person's."""
    if registry is not None:
        return registry, "--registry"
    try:
        return local.fetch_status().registry.reference, "the node"
    except OverlayError:
        return Home().config.registry, "config.toml"


def _registry(reference: str | None, asked: str) -> Finding:
    if reference is None:
        return Finding("registry", "warn", "none is configured", "zos doctor --registry REF")
    ref = RegistryRef.parse(reference, field=asked)
    off_s = asyncio.run(_clock_difference(ref))
    if abs(off_s) > TOKEN_LIFETIME_S:
        evidence = f"{ref.origin} answers, but the clocks differ by {off_s:.0f} s"
        return Finding("registry", "fail", evidence, "synchronise this machine's clock")
    return Finding("registry", "ok", f"{ref.origin} answers and has the pinned key")


async def _clock_difference(ref: RegistryRef) -> float:
    """Seconds by which this clock is ahead of the registry's. Raises Unavailable."""
    import aiohttp

    from overlay.errors import Unavailable

    timeout = aiohttp.ClientTimeout(total=REGISTRY_TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = f"{ref.origin}/health"
            async with session.get(url, ssl=ref.pin) as response:
                sent = response.headers.get("Date", "")
    except aiohttp.ServerFingerprintMismatch as exc:
        raise Rejected(
            f"{ref.origin} does not have the key {ref.id}", remedy="check the reference"
        ) from exc
    except (aiohttp.ClientError, TimeoutError, OSError) as exc:
        raise Unavailable(
            f"{ref.origin} does not answer", remedy="check address and route"
        ) from exc
    try:
        return (datetime.now(UTC) - parsedate_to_datetime(sent)).total_seconds()
    except ValueError:
        return 0.0


def _node() -> Finding:
    try:
        status = local.fetch_status()
    except NotRunning as exc:
        return Finding("node", "warn", exc.message, exc.remedy or "")
    wrong = [item for item in status.health if item.severity == "error"]
    if wrong:
        return Finding("node", "fail", wrong[0].text, wrong[0].remedy)
    return Finding("node", "ok", f"{status.node.name} runs with {len(status.networks)} network(s)")
