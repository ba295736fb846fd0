"""Labs killed at random moments, and a look at what is left: a process of its own that does that.

It adopts whatever a lab leaves behind, so when it has no child any more no process is left; and
every lab has a cable into its network namespace, so when that has no link any more no namespace is.

    python -m tests.kernel.lab_chaos SEED MOMENTS LABS
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
import traceback
from pathlib import Path

from netlab.keeper import gate, linux
from netlab.keeper import rtnetlink as nl
from netlab.lab import Lab
from netlab.nat import NATS
from netlab.topology import Link, Node, Router, Topology
from overlay.errors import Unavailable

PATIENCE_S = 60.0
POLL_S = 0.002
FOREIGN = 3  # how an owner ends whose lab has heard of another one
TARGETS = ("owner", "parent", "keeper", "init", "program")
WITHOUT_ROOT = 0.4  # share of labs
TOPOLOGY = Topology(
    nodes=(Node("n1"), Node("n2"), Node("a", (Link(to="home"),))),
    routers=(Router("home", nat=NATS["port-restricted"]),),
)
STUBBORN = ("sh", "-c", "trap '' TERM INT HUP; setsid sleep 1000 & while :; do sleep 1000; done")

_PR_SET_CHILD_SUBREAPER = 36
_CAPABILITY_VERSION_3 = 0x20080522
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    seed, moments, labs = (int(word) for word in sys.argv[1:])
    chance = random.Random(seed)
    assert _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    linux.unshare(linux.CLONE_NEWNET | linux.CLONE_NEWNS)
    linux.mount("none", "/", flags=linux.MS_REC | linux.MS_PRIVATE)
    scratch = Path(tempfile.mkdtemp(prefix="zos-chaos-"))
    before = Path("/proc/self/mountinfo").read_text()
    try:
        told: dict[str, object] = {"seed": seed}
        if moments:
            told |= one_after_the_other(scratch, chance, moments)
        if labs:
            told |= all_at_once(scratch, chance, labs)
        assert Path("/proc/self/mountinfo").read_text() == before, "a mount is left"
    finally:
        for pid in _children(os.getpid()):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(scratch)
    sys.stdout.write(json.dumps(told) + "\n")


def one_after_the_other(scratch: Path, chance: random.Random, moments: int) -> dict[str, object]:
    """Each killed at a moment of its own, from before its keeper starts until well in its life."""
    life_s = _time_to_be_up(scratch)
    took, hit = [], dict.fromkeys(TARGETS, 0)
    for number in range(moments):
        owner = start_owner(scratch, number, without_root=chance.random() < WITHOUT_ROOT)
        time.sleep(chance.uniform(0, 1.5 * life_s))
        hit[kill(owner, chance.choice(TARGETS))] += 1
        began = time.monotonic()
        wait_until_nothing_is_left(owner)
        took.append(time.monotonic() - began)
    return {"hit": hit, **_figures("one", took)}


def all_at_once(scratch: Path, chance: random.Random, labs: int) -> dict[str, object]:
    """Alive together, each with the same addresses; killed in any order, some while building."""
    heard, talk = os.pipe()
    owners = []
    for number in range(labs):
        without_root = chance.random() < WITHOUT_ROOT
        owners.append(start_owner(scratch, 1000 + number, without_root=without_root, talk=talk))
    os.close(talk)
    talking: set[int] = set()
    while len(talking) < labs // 2:
        talking.update(os.read(heard, 4096))
    chance.shuffle(owners)
    for owner in owners:
        kill(owner, chance.choice(TARGETS))
        time.sleep(chance.uniform(0, 0.01))
    began = time.monotonic()
    wait_until_nothing_is_left(*owners)
    os.close(heard)
    return {"labs": labs, "all gone after s": round(time.monotonic() - began, 3)}


def _time_to_be_up(scratch: Path) -> float:
    heard, talk = os.pipe()
    began = time.monotonic()
    owner = start_owner(scratch, 999, without_root=False, talk=talk)
    os.close(talk)
    os.read(heard, 1)
    life_s = time.monotonic() - began
    os.kill(owner, signal.SIGKILL)
    os.close(heard)
    wait_until_nothing_is_left(owner)
    return life_s


def start_owner(scratch: Path, number: int, *, without_root: bool, talk: int = -1) -> int:
    """A copy of this process, which has imported already all that an owner needs."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if without_root:
            _give_up(gate.CAP_SYS_ADMIN)
            assert gate.is_needed()
        asyncio.run(_own(scratch / f"lab{number}", number, talk))
    except Unavailable:
        code = 0  # the keeper is gone, or a node
    except SystemExit as exc:
        code = int(str(exc.code))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(code)


async def _own(workdir: Path, number: int, talk: int) -> None:
    token = str(number).encode()
    async with Lab.create(TOPOLOGY, workdir=workdir) as lab:
        await _tie(lab, number)
        n1, n2, a = (lab.node(name) for name in ("n1", "n2", "a"))
        for node in (n1, a):
            await node.spawn(*STUBBORN, log="stubborn")
        with n2.socket(socket.AF_INET6, socket.SOCK_DGRAM) as mine:
            mine.setblocking(False)
            mine.bind(("::", 7))
            with n1.socket(socket.AF_INET6, socket.SOCK_DGRAM) as theirs:
                theirs.sendto(token, (str(n2.ipv6), 7))
            while not (heard := _heard(mine)):
                await n1.run("true")  # raises when the lab is gone
            if heard != token:
                raise SystemExit(FOREIGN)
            if talk >= 0:
                os.write(talk, bytes([number % 256]))
            while True:  # power cuts of its own, until it meets its end
                await a.restart()
                await a.spawn(*STUBBORN, log="stubborn")
                if _heard(mine) not in (b"", token):
                    raise SystemExit(FOREIGN)


def _heard(mine: socket.socket) -> bytes:
    try:
        return mine.recv(100)
    except BlockingIOError:
        return b""


async def _tie(lab: Lab, number: int) -> None:
    """A cable from our namespace into the lab's, which goes with that."""
    try:
        there = os.open(lab.node("n2").netns_path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise Unavailable("the lab is gone") from exc
    try:
        with nl.open_socket() as route:
            name = f"tie{number}"
            nl.send(
                route,
                nl.veth(
                    name=name, ifindex=100 + number, mac=b"\2\0\0\0\0\1", peer_name="tie",
                    peer_ifindex=100, peer_mac=b"\2\0\0\0\0\2", peer_netns_fd=there,
                    mtu_bytes=1500,
                ),
            )  # fmt: skip
    finally:
        os.close(there)


def kill(owner: int, target: str) -> str:
    """End it with SIGKILL; the owner when there is no such thing yet. What was really hit.

    parent   the owner's child: the gate, or the keeper where there is none
    init     the first process of a node
    """
    parent = _last(_children(owner))
    keeper = parent
    if parent and _children(parent) and _is_gate(parent):
        keeper = _last(_children(parent))
    inside = _children(keeper) if keeper else []
    inits = [pid for pid in inside if _comm(pid) == "init"]
    programs = [pid for pid in inside if _comm(pid) != "init"]
    found = {
        "owner": owner,
        "parent": parent,
        "keeper": keeper,
        "init": _last(inits),
        "program": _last(programs),
    }
    hit = target if found[target] else "owner"
    victim = found[hit] or owner
    try:
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        hit = "owner"
    if hit in ("owner", "init", "program"):
        # A lab outlives what runs in it; so does its owner.
        os.kill(owner, signal.SIGKILL)
    return hit


def wait_until_nothing_is_left(*owners: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid in owners:
            code = os.waitstatus_to_exitcode(status)
            assert code in (0, -signal.SIGKILL), f"an owner has ended with {code}"
        if pid == 0:
            assert time.monotonic() < deadline, f"left: {_describe(_children(os.getpid()))}"
            time.sleep(POLL_S)
    while (links := [name for _, name in socket.if_nameindex()]) != ["lo"]:
        assert time.monotonic() < deadline, f"left: {links}"
        time.sleep(POLL_S)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _last(pids: list[int]) -> int:
    return pids[-1] if pids else 0


def _is_gate(pid: int) -> bool:
    """Whether it is outside the PID namespace of which its child is the first process."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    numbers = status.partition("NSpid:")[2].partition("\n")[0].split()
    return len(numbers) == len(
        Path("/proc/self/status").read_text().partition("NSpid:")[2].partition("\n")[0].split()
    )


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _describe(pids: list[int]) -> list[str]:
    return [f"{pid} {_comm(pid)} {_describe(_children(pid))}" for pid in pids]


def _figures(what: str, took: list[float]) -> dict[str, object]:
    return {
        f"{what}: gone after s, median": round(statistics.median(took), 3),
        f"{what}: gone after s, worst": round(max(took), 3),
        f"{what}: labs": len(took),
    }


def _give_up(capability: int) -> None:
    """Out of the effective set, as if it had never been had."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()
    assert _libc.capget(header, sets) == 0
    sets[0] &= ~(1 << capability)
    assert _libc.capset(header, sets) == 0


if __name__ == "__main__":
    main()
