"""What a lab looked like, as a directory: for whoever has to find out why something failed."""

from __future__ import annotations

import contextlib
import shutil
from itertools import islice
from pathlib import Path

from netlab.files.writing import format_lab
from netlab.lab import Lab
from netlab.lab_node import LabNode
from overlay.errors import OverlayError

# What each says is in its name; together they are all that decides about a packet.
_LOOKS = {
    "addresses": ("ip", "address"),
    "links": ("ip", "-s", "link"),
    "routes": ("sh", "-c", "ip route show table all; ip -6 route show table all"),
    "neighbours": ("ip", "neighbour"),
    "rules": ("nft", "list", "ruleset"),
    "sockets": ("ss", "-lntup"),
    "processes": ("ps", "-e", "-o", "pid,ppid,stat,etime,args"),
}
_LOOK_TIMEOUT_S = 10.0
_LOG_BYTES_MAX = 1 << 20
_MACHINES_MAX = 64  # of a bigger lab, the first ones


async def collect(lab: Lab, directory: Path) -> None:
    """Write it all below `directory`, which is made anew. What cannot be had is left out."""
    _keep(lab, directory)
    for node in islice(lab.nodes.values(), _MACHINES_MAX):
        with contextlib.suppress(OverlayError):
            await _look_at(node, directory / node.name)


def _keep(lab: Lab, directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    for node in lab.nodes:
        (directory / node).mkdir(parents=True)
    (directory / "topology.lab.toml").write_text(format_lab(lab.topology))
    for log in sorted(lab.workdir.rglob("*.log")):
        target = directory / log.relative_to(lab.workdir)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(log.read_bytes()[-_LOG_BYTES_MAX:])


async def _look_at(node: LabNode, directory: Path) -> None:
    for name, argv in _LOOKS.items():
        seen = await node.run(*argv, check=False, timeout_s=_LOOK_TIMEOUT_S)
        (directory / f"{name}.txt").write_bytes(seen.stdout + seen.stderr)
