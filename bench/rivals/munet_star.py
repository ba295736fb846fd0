"""A star of so many hosts in munet, both families, by its Python interface. For munet's Python."""

import asyncio
import logging
import sys
import tempfile
import time

from munet import base, parser

logging.disable(logging.CRITICAL)
_ask_once = base.Commander.cmd_raises


def ask(self, command, **options):
    """munet looks for a child that may not be there yet, and gives up; here it looks again."""
    for _ in range(500):
        try:
            return _ask_once(self, command, **options)
        except base.CalledProcessError:
            if "pgrep" not in str(command):
                raise
            time.sleep(0.005)
    return _ask_once(self, command, **options)


base.Commander.cmd_raises = ask


async def main(count):
    nodes = [{"name": f"h{number}", "connections": ["net0"]} for number in range(count)]
    topology = {
        "networks": [{"name": "net0", "ip": "10.0.0.0/8"}],
        "nodes": nodes,
        "ipv6-enable": True,
        "networks-autonumber": True,
    }
    with tempfile.TemporaryDirectory() as scratch:
        config = {"topology": topology, "config_pathname": f"{scratch}/munet.json"}
        net = await parser.async_build_topology(config, rundir=scratch)
        await net.run()
        print("up", flush=True)
        sys.stdin.readline()
        await net.async_delete()


asyncio.run(main(int(sys.argv[1])))
