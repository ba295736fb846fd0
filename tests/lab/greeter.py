"""A workload in a process of its own that says who it is.

Two tenants use the same addresses, so an answer alone proves nothing: only the name in it says
whose workload was reached.

    python -m tests.lab.greeter alice/n1
"""

from __future__ import annotations

import asyncio
import sys

PORT = 7007
MAX_NAME_BYTES = 256


async def serve(name: str) -> None:
    """Answer every connection, in both families, with `name`."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode())
        writer.close()

    servers = [await asyncio.start_server(greet, host, PORT) for host in ("0.0.0.0", "::")]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
