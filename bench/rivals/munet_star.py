"""A star of so many hosts in munet, both families, by its Python interface. For munet's Python."""

import asyncio
import logging
import sys
import tempfile

from munet import parser

logging.disable(logging.CRITICAL)


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
