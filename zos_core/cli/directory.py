"""The registry as a command sees it: one question, one verified answer.

Every document that comes back is verified here; a command never shows what nobody signed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from overlay.documents import envelope as dsse
from overlay.documents import trust
from overlay.documents.envelope import Envelope
from overlay.documents.schema import Document
from overlay.errors import Rejected, Unavailable
from overlay.keys.identity import Signer
from zos_core.cli import output
from zos_core.cli.home import Home

if TYPE_CHECKING:
    from overlay.peers.registry import RegistryClient

D = TypeVar("D", bound=Document)
T = TypeVar("T")

registry_option = click.option(
    "--registry", metavar="REF", help="https://HOST:PORT#registry1...; default: the file's."
)


def choose_reference(home: Home, *, option: str | None, file: str | None) -> str:
    """The registry that is meant: the option, then the file, then config.toml."""
    reference = option or file or home.config.registry
    if reference is None:
        raise Rejected(
            "which registry?",
            field="--registry",
            remedy=f"give --registry, or set registry in {home.path / 'config.toml'}",
        )
    from overlay.peers.registry import RegistryRef

    return str(RegistryRef.parse(reference, field="--registry" if option else "registry"))


class Directory:
    """One registry, asked in one name."""

    def __init__(self, reference: str, *, caller: Signer) -> None:
        self.reference = reference
        self._caller = caller

    def publish(self, envelope: Envelope) -> None:
        """The registry holds the document. Raises Conflict, Refused or Unavailable."""
        self._ask(lambda client: client.publish(envelope))

    def fetch(self, key: str, model: type[D]) -> D | None:
        """The document, verified; None when there is none for this caller."""
        found = self._ask(lambda client: client.fetch(key))
        return None if found is None else _verified(found.envelope, key, model)

    def fetch_all(self, model: type[D], *, network: str) -> list[D]:
        """All documents of a kind in a network; those that nobody signed are left out, and said."""
        kind = model.__name__.lower()
        found = []
        for document in self._ask(lambda client: client.list(kind, network)):
            try:
                found.append(_verified(document.envelope, document.key, model))
            except Unavailable as exc:
                output.say(f"left out: {exc}")
        return found

    def _ask(self, question: Callable[[RegistryClient], Awaitable[T]]) -> T:
        from overlay.peers.registry import RegistryClient, RegistryRef
        from zos_core.clock import SystemClock

        async def ask() -> T:
            reference = RegistryRef.parse(self.reference)
            async with RegistryClient(reference, self._caller, SystemClock()) as client:
                return await question(client)

        return asyncio.run(ask())


def _verified(raw: bytes, key: str, model: type[D]) -> D:
    """What the registry gave, proven to be what was asked for. Raises Unavailable: it lies."""
    try:
        verified = trust.verify(dsse.parse_envelope(raw))
    except Rejected as exc:
        raise Unavailable(f"the registry gives a {key} that does not verify: {exc}") from exc
    if verified.key != key or not isinstance(verified.document, model):
        raise Unavailable(f"the registry gives {verified.key} for {key}")
    return verified.document
