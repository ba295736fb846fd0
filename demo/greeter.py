"""A workload that says who it is, and one that asks.

Two tenants use the same addresses, so an answer alone proves nothing: only the name in it says
whose workload was reached.

    python -m demo.greeter serve alice/n1
    python -m demo.greeter ask 10.1.1.2 fd00::2        # one JSON object a line
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

PORT = 7007
TIMEOUT_S = 3.0
MAX_NAME_BYTES = 256


async def serve(name: str) -> None:
    """Answer every connection, in both families, with `name`."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name.encode())
        writer.close()

    servers = [await asyncio.start_server(greet, host, PORT) for host in ("0.0.0.0", "::")]
    print("ready", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


async def ask(address: str) -> dict[str, object]:
    """Who answers at `address`, and how long a connection takes; name is None when nobody does."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address, PORT)
            rtt_ms = (time.perf_counter() - began) * 1000
            name = (await reader.read(MAX_NAME_BYTES)).decode()
            writer.close()
    except (OSError, TimeoutError) as exc:
        return {"address": address, "name": None, "rtt_ms": None, "error": type(exc).__name__}
    return {"address": address, "name": name, "rtt_ms": round(rtt_ms, 2), "error": None}


async def _ask_all(addresses: list[str]) -> None:
    """All at once to learn who is there, then one by one for round trips without handshakes."""
    for answer in await asyncio.gather(*map(ask, addresses)):
        again = await ask(str(answer["address"])) if answer["name"] else answer
        print(json.dumps(again))


def main() -> None:
    verb, *rest = sys.argv[1:]
    asyncio.run(serve(rest[0]) if verb == "serve" else _ask_all(rest))


if __name__ == "__main__":
    main()
