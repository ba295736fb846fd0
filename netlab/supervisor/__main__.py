"""`python -m netlab.supervisor NAME LOCK`: an order on standard input, a lock inherited."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import sys

from netlab.supervisor.places import place_of
from netlab.supervisor.supervisor import supervise


def main() -> None:
    """The lab of this name lives until it returns. LOCK: the descriptor of its lock, inherited."""
    name, lock = sys.argv[1], int(sys.argv[2])
    os.set_inheritable(lock, False)  # what runs in the lab has no part in it
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    asyncio.run(supervise(channel, place_of(name), lock=lock))


if __name__ == "__main__":
    main()
