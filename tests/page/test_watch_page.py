"""The page of `zos lab watch` in a real browser, on a lab that is told (LAB-340 .. 343)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from netlab.watch.server import Page, serving
from overlay.errors import Unavailable
from tests.browser import browser

PEER = {"state": "active", "path": "direct", "endpoint": "198.18.1.2:5", "handshake_age_s": 3}
COUNTS = {"rx_packets": 1, "rx_drops": 0, "tx_packets": 1, "tx_drops": 0}
NASTY = "<img src=x onerror=document.title='owned'>"


def node(name: str, *peers: str, state: str = "running") -> dict[str, Any]:
    told = [{**PEER, "name": peer, "rx_bytes": 1, "tx_bytes": 1} for peer in peers]
    network = {
        "id": "net1",
        "name": "home",
        "state": "up",
        "message": "",
        "gateway_ipv4": "10.1.1.1",
        "gateway_ipv6": "fd00::1",
        "peers": told,
        "workloads": [],
    }
    zos = {"state": "running", "networks": [network], "health": []}
    return {
        "name": name,
        "role": "node",
        "state": state,
        "addresses": ["198.18.1.1", "2001:db8::1:1"],
        "links": [f"{name}-internet"],
        "part": 0,
        "zos": zos if peers else None,
    }


def link(of: str, to: str, *, up: bool = True) -> dict[str, Any]:
    return {
        "name": f"{of}-{to}",
        "end": f"{of}:eth0",
        "of": of,
        "to": to,
        "up": up,
        "impaired": None,
        "counters": {**COUNTS, "rx_bytes": 1000, "tx_bytes": 1000},
    }


class Told:
    """A lab whose state the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.is_over = False
        self.said: list[dict[str, Any]] = []
        self.n2_state, self.n1_up = "running", True

    async def observe(self) -> dict[str, Any]:
        if self.is_over:
            raise Unavailable("no lab called 'told' is up")
        self.seconds += 1.0
        nat = {"mapping": "endpoint-independent", "filtering": "endpoint-independent"}
        return {
            "schema": 1,
            "name": "told",
            "state": "ready",
            "build": None,
            "lab_s": self.seconds,
            "regions": ["internet", "far"],
            "latencies": [],
            "routers": [{"name": "home", "to": "far", "nat": nat, "firewall": "none"}],
            "lans": [],
            "nodes": [
                node("n1", "n2"),
                node("n2", "n1", state=self.n2_state),
                node("guest"),
                node(NASTY),
            ],
            "links": [
                link("n1", "internet", up=self.n1_up),
                link("n2", "internet"),
                link("guest", "home"),
                link("home", "far"),
                link(NASTY, "internet"),
            ],
            "tenants": [{"name": "alice", "networks": [{"id": "net1", "name": "home"}]}],
        }

    async def until(self, seconds: float) -> None:
        for _ in range(10_000):
            if self.seconds >= seconds:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"the page looked {self.seconds} times only")

    async def events(self, number: int) -> list[dict[str, Any]]:
        return self.said[number - 1 :]

    def say(self, kind: str, subject: str, text: str) -> None:
        number = len(self.said) + 1
        said = {"lab_s": self.seconds, "kind": kind, "subject": subject, "text": text}
        self.said.append({"number": number, **said})


@asynccontextmanager
async def watched(told: Told) -> AsyncIterator[str]:
    page = Page(told, every_s=0.2)
    async with asyncio.TaskGroup() as group, serving(page) as address:
        running = group.create_task(page.run(), name="page")
        yield address
        running.cancel()


async def test_page_shows_what_there_is_as_it_changes_and_as_it_was(tmp_path: Path):  # LAB-340
    told = Told()
    async with watched(told) as address, browser(tmp_path / "profile") as tab:
        await tab.open(f"{address}#node=n1")
        await tab.until("document.querySelectorAll('[data-node]').length === 4")
        assert await tab.value_of("document.title") == "told · zos lab"
        tunnel = "document.querySelector('[data-tunnel=\"n1-n2\"]').dataset"
        assert await tab.value_of(f"{tunnel}.up + {tunnel}.path") == "truedirect"
        assert "2001:db8::1:1" in await tab.value_of("document.getElementById('detail').innerText")
        before = told.seconds

        told.n2_state, told.n1_up = "dead", False
        told.say("node", "n2", "is dead")
        state = "document.querySelector('[data-node=\"n2\"]').dataset.state"
        cable = "document.querySelector('[data-link=\"n1-internet\"]').dataset.up"
        await tab.until(f"{state} === 'dead' && {cable} === 'false'")
        await tab.until("document.getElementById('journal').innerText.includes('n2: is dead')")

        # Back to a moment before, and to the present again.
        await tab.value_of(f"lookBack({before})")
        await tab.until(f"{state} === 'running' && {cable} === 'true'")
        assert await tab.value_of("document.getElementById('when').textContent") != "now"
        await tab.value_of("document.getElementById('live').click()")
        await tab.until(f"{state} === 'dead'")

        told.is_over = True
        await tab.until("document.getElementById('state').innerText.includes('is over')")
        assert tab.complaints == []


async def test_page_opens_at_the_moment_that_its_address_names(tmp_path: Path):  # LAB-341
    told = Told()
    async with watched(told) as address, browser(tmp_path / "profile") as tab:
        await told.until(3)
        told.n2_state = "paused"
        await told.until(told.seconds + 2)
        await tab.open(f"{address}#at=2.5")
        state = "document.querySelector('[data-node=\"n2\"]')?.dataset.state"
        await tab.until(f"document.getElementById('when').textContent === '0:02' && {state}")
        assert await tab.value_of(state) == "running"


async def test_page_takes_names_for_text_only(tmp_path: Path):  # LAB-342
    told = Told()
    told.say("node", NASTY, NASTY)
    async with watched(told) as address, browser(tmp_path / "profile") as tab:
        await tab.open(address)
        await tab.until("document.getElementById('journal').innerText.includes('onerror')")
        await tab.until("document.querySelectorAll('[data-node]').length === 4")
        assert await tab.value_of("document.title") == "told · zos lab"
        assert await tab.value_of("document.images.length") == 0


async def test_page_is_for_who_has_its_address(tmp_path: Path):  # LAB-343
    async with watched(Told()) as address, aiohttp.ClientSession() as session:
        origin = address.rsplit("/", 2)[0]
        for path in ("/", "/stream", "/x/stream"):
            async with session.get(origin + path) as answer:
                assert answer.status == 404
        async with session.get(address, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
        async with session.get(f"{address}moments/999999") as answer:
            assert answer.status == 404
        async with session.get(address) as answer:
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "http" not in policy
            assert "http" not in (await answer.text()).replace("http://www.w3.org/2000/svg", "")


async def test_a_page_that_does_not_read_holds_nobody_up():  # LAB-343
    told = Told()
    page = Page(told, every_s=0)
    async with asyncio.TaskGroup() as group, serving(page) as address:
        running = group.create_task(page.run(), name="page")
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{address}stream") as idle,
        ):
            await told.until(told.seconds + 500)
            assert idle.status == 200
        running.cancel()
