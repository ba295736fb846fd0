"""The traffic of bench/lab_impairments.py.

Datagrams: `send IP SPEED S` to `receive S`. A stream: `stream IP S` to `drain`.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

PORT = 7000
PAYLOAD = struct.Struct("=Qq")
CHUNK_BYTES = 1 << 16
PACKET_BYTES = 200  # Ethernet, IP and UDP included

_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33


def send(target: str, speed: int, seconds: float) -> None:
    """At this speed by the clock, never in larger bursts than being late makes necessary."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((target, PORT))
        rest = bytes(PACKET_BYTES - 42 - PAYLOAD.size)
        began, count = time.perf_counter(), 0
        while (elapsed := time.perf_counter() - began) < seconds:
            if count >= elapsed * speed:
                time.sleep(0.0001)
                continue
            sock.send(PAYLOAD.pack(count, time.time_ns()) + rest)
            count += 1
    print(count)


def receive(seconds: float) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        sock.bind(("", PORT))
        until = time.monotonic() + seconds
        took: list[float] = []
        arrivals: list[int] = []
        while (left := until - time.monotonic()) > 0:
            sock.settimeout(left)
            try:
                content, ancillary, _, _ = sock.recvmsg(PACKET_BYTES, 64)
            except TimeoutError:
                break
            whole, part = struct.unpack("=qq", ancillary[0][2])
            arrivals.append(whole * 1_000_000_000 + part)
            took.append((arrivals[-1] - PAYLOAD.unpack_from(content)[1]) / 1e3)
    span = (arrivals[-1] - arrivals[0]) / 1e9
    result = {
        "arrived": len(took),
        "us": quantiles(took),
        "bit_s": 8 * PACKET_BYTES * (len(took) - 1) / span,
    }
    print(str(result).replace("'", '"'))


def stream(target: str, seconds: float) -> None:
    with socket.create_connection((target, PORT)) as sock:
        chunk, until = bytes(CHUNK_BYTES), time.monotonic() + seconds
        while time.monotonic() < until:
            sock.sendall(chunk)


def drain() -> None:
    """One stream; prints its bits a second."""
    with socket.create_server(("", PORT)) as listener, listener.accept()[0] as sock:
        began, count = time.monotonic(), 0
        while chunk := sock.recv(CHUNK_BYTES):
            count += len(chunk)
    print(8 * count / (time.monotonic() - began))


def quantiles(samples: list[float]) -> dict[str, float]:
    ordered = sorted(samples)
    at = {"min": 0.0, "p50": 0.5, "p95": 0.95, "p99": 0.99}
    return {
        name: round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)
        for name, share in at.items()
    }


if __name__ == "__main__":
    if sys.argv[1] == "send":
        send(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
    elif sys.argv[1] == "receive":
        receive(float(sys.argv[2]))
    elif sys.argv[1] == "stream":
        stream(sys.argv[2], float(sys.argv[3]))
    else:
        drain()
