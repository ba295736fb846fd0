"""Data of pairs that are established, passed on by nftables in the kernel: what a relay could gain.

Run in the netns of a relay while its members speak: learns from a second of packets which
receiver index leads where, and has the kernel rewrite such packets before the relay sees them.
Stateless, for all sessions of two places share one flow. Not shipped, for the reasons in
specs/decisions/0013-a-relay-forwards-by-itself.md. IPv4 only, as the rest of bench/relay.py.

    python -m bench.relay_offload PORT
"""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from overlay.relay.messages import DATA

LEARN_S = 1.0
MARK = 0x7A6F73
TABLE = "inet zos_relay_offload"
RULES = """\
table {table}
delete table {table}
table {table} {{
  map address {{ typeof ip saddr . udp sport . @th,96,32 : ip daddr; }}
  map port {{ typeof ip saddr . udp sport . @th,96,32 : udp dport; }}
  counter passed {{ }}
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    udp dport {port} @th,64,32 {data:#010x} ip saddr . udp sport . @th,96,32 @address goto pass
  }}
  chain pass {{
    notrack
    counter name passed
    ip daddr set ip saddr . udp sport . @th,96,32 map @address
    udp dport set ip saddr . udp sport . @th,96,32 map @port
    meta mark set {mark}
  }}
  chain postrouting {{
    type filter hook postrouting priority raw; policy accept;

    meta mark {mark} ip saddr set {own} udp sport set {port}
  }}
}}
"""

Place = tuple[str, int]


def seen(port: int) -> Iterator[tuple[Place, Place, int]]:
    """From where, to where and with which receiver index, of each datagram of data."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0003)) as sock:
        sock.settimeout(LEARN_S / 4)
        until = time.monotonic() + LEARN_S
        while time.monotonic() < until:
            try:
                packet, (_, protocol, *_) = sock.recvfrom(128)
            except TimeoutError:
                continue
            if protocol != 0x0800 or packet[9] != socket.IPPROTO_UDP:
                continue
            source, target = struct.unpack_from("!HH", packet, 20)
            word, index = struct.unpack_from("!II", packet, 28)
            if word == int.from_bytes(DATA.to_bytes(4, "little"), "big") and port in (
                source,
                target,
            ):
                yield (
                    (socket.inet_ntoa(packet[12:16]), source),
                    (socket.inet_ntoa(packet[16:20]), target),
                    index,
                )


def learn(port: int) -> tuple[str, dict[tuple[Place, int], Place]]:
    """The relay's own address, and where packets of data go by sender and index."""
    own, came, went = "", dict[int, Place](), dict[int, Place]()
    for source, target, index in seen(port):
        if target[1] == port:
            own, came[index] = target[0], source
        else:
            went[index] = target
    return own, {(came[index], index): went[index] for index in came.keys() & went.keys()}


def rules(port: int, own: str, ways: dict[tuple[Place, int], Place]) -> str:
    """An nftables file that passes on these, and nothing else."""
    text = RULES.format(
        table=TABLE,
        port=port,
        own=own,
        mark=MARK,
        data=int.from_bytes(DATA.to_bytes(4, "little"), "big"),
    )
    for ((address, source), index), (to, at) in ways.items():
        key = f"{address} . {source} . {index:#010x}"
        text += f"add element {TABLE} address {{ {key} : {to} }}\n"
        text += f"add element {TABLE} port {{ {key} : {at} }}\n"
    return text


def main() -> None:
    port = int(sys.argv[1])
    own, ways = learn(port)
    if not ways:
        raise SystemExit("no member says anything to another")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    subprocess.run(("nft", "-f", "-"), input=rules(port, own, ways), text=True, check=True)


if __name__ == "__main__":
    main()
