"""What a service tells systemd: ready, alive, stopping (sd_notify(3)). Silent without systemd."""

from __future__ import annotations

import asyncio
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE = "WATCHDOG_PID"


def notify(state: str) -> None:
    """Send one state, for example "READY=1". Whether anybody hears it is not our concern."""
    path = os.environ.get(VARIABLE)
    if not path or path[0] not in "/@":
        return
    address = "\0" + path[1:] if path[0] == "@" else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            sender.sendto(state.encode(), address)
    except OSError:
        return


def watchdog_interval_s() -> float | None:
    """How often systemd wants to hear from us: half of its patience; None when it does not."""
    usec, pid = os.environ.get(WATCHDOG_VARIABLE, ""), os.environ.get(WATCHDOG_PID_VARIABLE)
    if not usec.isdigit() or int(usec) == 0 or (pid is not None and pid != str(os.getpid())):
        return None
    return int(usec) / 2_000_000


async def keep_alive() -> None:
    """Tell systemd that the event loop turns, for ever; returns at once when nobody asks."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
