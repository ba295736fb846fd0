"""A real browser for tests: headless Chromium, driven by its own debugging protocol."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 60.0  # a cold browser on a busy machine
LOOK_S = 0.1
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-port=0",
    "--window-size=1400,800",
)


class Tab:
    """One page. Its exceptions and console errors are kept in `complaints`."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._numbers = count(1)

    async def ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            message = json.loads(await self._socket.receive_str())
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(message["params"]))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    async def open(self, url: str) -> None:
        for domain in ("Runtime", "Log", "Page"):
            await self.ask(f"{domain}.enable")
        await self.ask("Page.navigate", url=url)

    async def value_of(self, script: str) -> Any:
        result = await self._evaluate(script)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def _evaluate(self, script: str) -> Any:
        return await self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )

    async def until(self, script: str) -> Any:
        """The script's value, once it is true. What it throws until then: not loaded yet."""
        for _ in range(round(PATIENCE_S / LOOK_S)):
            if found := (await self._evaluate(script))["result"].get("value"):
                return found
            await asyncio.sleep(LOOK_S)
        raise AssertionError(f"not within {PATIENCE_S} s: {script}")

    async def picture(self) -> bytes:
        """What the window shows, as PNG."""
        shot = await self.ask("Page.captureScreenshot", format="png")
        return base64.b64decode(shot["data"])


@asynccontextmanager
async def browser(profile: Path, *flags: str) -> AsyncIterator[Tab]:
    """A browser with one empty tab; it ends with the block. `profile` is a directory of its own."""
    argv = ("chromium", *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank")
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:
            port = await _port(profile / "DevToolsActivePort")
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                pages = [each for each in await answer.json() if each["type"] == "page"]
            url = pages[0]["webSocketDebuggerUrl"]
            async with session.ws_connect(url, max_msg_size=0) as socket:
                yield Tab(socket)
                await socket.send_json({"id": 0, "method": "Browser.close", "params": {}})
    finally:
        try:
            async with asyncio.timeout(10):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _port(file: Path) -> str:
    for _ in range(round(PATIENCE_S / LOOK_S)):
        words = await asyncio.to_thread(_words, file)
        if words:
            return words[0]
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"no browser within {PATIENCE_S} s")


def _words(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []
