"""A failure injected with the command line is seen on the page: README's own way (LAB-340)."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from netlab.supervisor import places
from tests.browser import browser

ZOS = str(Path(sys.executable).parent / "zos")
HOMES = """
name = "seen"
[router.home]
nat = "port-restricted"
[node.alice]
link = "home"
[node.bob]
"""


async def zos(*argv: str) -> str:
    process = await asyncio.create_subprocess_exec(
        ZOS, "lab", *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, words = await process.communicate()
    assert process.returncode == 0, words.decode()
    return out.decode()


@pytest.mark.blocking
async def test_page_shows_a_living_lab_and_what_is_done_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv(places.ROOT_VARIABLE, str(tmp_path / "labs"))
    file = tmp_path / "seen.lab.toml"
    file.write_text(HOMES)
    await zos("up", str(file))
    watching = await asyncio.create_subprocess_exec(
        ZOS, "lab", "watch", "seen", stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
    )
    try:
        assert watching.stdout is not None
        address = (await watching.stdout.readline()).decode().strip()
        async with browser(tmp_path / "profile") as tab:
            await tab.open(address)
            await tab.until("document.querySelectorAll('[data-node]').length === 2")
            cable = "document.querySelector('[data-link=\"alice-home\"]').dataset.up"
            assert await tab.value_of(cable) == "true"
            await zos("link", "set", "alice-home", "--down")
            await tab.until(f"{cable} === 'false'")
            await zos("down", "seen")
            await tab.until("document.getElementById('state').innerText.includes('over')")
            assert tab.complaints == []
    finally:
        if watching.returncode is None:
            watching.send_signal(signal.SIGINT)
        await watching.wait()
        await zos("down", "--all")
