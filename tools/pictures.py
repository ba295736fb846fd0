"""The pictures of the documents, made anew: the demo, a lab to which something happens, labs drawn.

make pictures        (root; writes below docs/pictures)
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.browser import browser  # noqa: E402 - it lies beside this file's directory

ZOS = str(Path(sys.executable).parent / "zos")
OUT = ROOT / "docs/pictures"
LAB, NAME = "05-guest-by-token", "guest"
DRAWN = ("04-two-tenants-same-range", "12-carrier-nat")
FLAGS = {
    "watch.png": (),
    "watch-dark.png": ("--blink-settings=preferredColorScheme=0",),
}


async def zos(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(ZOS, "lab", *argv, stdout=-1)
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit(f"zos lab {' '.join(argv)}: exit code {process.returncode}")
    return out.decode()


async def demonstrate(scratch: Path) -> None:
    """The picture with which the demo ends."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "demo", cwd=scratch, env=environment
    )
    if await process.wait() != 0:
        raise SystemExit("the demo is not as it should be")
    (OUT / "demo.svg").write_bytes((scratch / "build/demo.svg").read_bytes())


async def show(scratch: Path) -> None:
    """A lab is up, one of its cables is pulled, and the page says so."""
    await zos("up", LAB)
    process = await asyncio.create_subprocess_exec(ZOS, "lab", "watch", NAME, stdout=-1)
    try:
        if process.stdout is None:
            raise SystemExit("zos lab watch says nothing")
        address = (await process.stdout.readline()).decode().strip()
        await zos("check", NAME)
        node = await first_node()
        await zos("link", "set", f"{node}-internet", "--down")
        for name, flags in FLAGS.items():
            async with browser(scratch / name, *flags) as tab:
                await tab.open(f"{address}#node={node}")
                await tab.until(
                    f"document.querySelector('[data-link=\"{node}-internet\"]') !== null"
                )
                await tab.until("document.querySelectorAll('[data-tunnel]').length > 0")
                (OUT / name).write_bytes(await tab.picture())
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()
        await zos("down", NAME)


async def first_node() -> str:
    """A zos node that has a cable of its own to the internet."""
    import json

    status = json.loads(await zos("status", NAME, "--json"))
    return next(
        node["name"]
        for node in status["nodes"]
        if node["role"] == "node" and f"{node['name']}-internet" in node["links"]
    )


async def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="zos-pictures-") as scratch:
        os.environ["ZOS_LAB_DIR"] = f"{scratch}/labs"
        for lab in DRAWN:
            target = OUT / f"{lab[3:]}.svg"
            await zos("graph", f"{ROOT}/netlab/labs/{lab}.lab.toml", "-o", str(target), "--force")
        await demonstrate(Path(scratch))
        await show(Path(scratch))


if __name__ == "__main__":
    asyncio.run(main())
