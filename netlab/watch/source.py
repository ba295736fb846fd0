"""A lab that lives, asked over its socket from an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from netlab.supervisor import asking
from netlab.supervisor.places import Place


class LivingLab:
    """Each question is a short connection of its own, asked from a thread."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def observe(self) -> dict[str, Any]:
        return await asyncio.to_thread(
            asking.get, self._place, "/v1/lab", dict[str, Any], counters="yes"
        )

    async def events(self, number: int) -> list[dict[str, Any]]:
        return await asyncio.to_thread(self._events, number)

    def _events(self, number: int) -> list[dict[str, Any]]:
        return list(asking.follow(self._place, "/v1/events", dict[str, Any], from_=number))
