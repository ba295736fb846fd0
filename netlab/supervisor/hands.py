"""What a timeline does to a lab that lives: the same that commands do, by the same session."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from netlab.impairment import Both
from netlab.supervisor.session import Session
from netlab.supervisor.status import LinkRequest

EXEC_TIMEOUT_S = 60.0
_QUOTED_CHARACTERS_MAX = 200


class SessionHands:
    """The hands of judge/timeline.py, in a supervisor."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def set_link(self, text: str, *, up: bool) -> str:
        return await self._session.change_link(LinkRequest(text, plugged=up))

    async def impair(self, text: str, impaired: Both) -> str:
        return await self._session.impair(text, impaired)

    async def partition(self, parts: Sequence[Sequence[str]]) -> str:
        return await self._session.partition(parts)

    async def reboot_nat(self, router: str) -> str:
        return await self._session.reboot_nat(router)

    async def kill(self, node: str) -> str:
        return await self._session.power(node, "kill")

    async def restart(self, node: str) -> str:
        return await self._session.power(node, "restart")

    async def pause(self, node: str) -> str:
        return await self._session.power(node, "pause")

    async def resume(self, node: str) -> str:
        return await self._session.power(node, "resume")

    async def exec(self, node: str, argv: Sequence[str]) -> str:
        """Runs to its end. Raises CommandFailed when it fails."""
        done = await self._session.lab.node(node).run(*argv, timeout_s=EXEC_TIMEOUT_S)
        words = f"{node}: {shlex.join(argv)}"
        said = done.stdout.decode(errors="replace").strip()[:_QUOTED_CHARACTERS_MAX]
        self._session.journal.tell("program", node, words, said=said)
        return words
