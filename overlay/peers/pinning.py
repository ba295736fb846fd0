"""Whom a TLS connection is with: not who has a name or an authority, but who holds a key."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable

from overlay.keys import certificate
from overlay.peers.lean_aiohttp import aiohttp


class PinnedKey(aiohttp.Fingerprint):
    """Lets a connection be used only when the other side holds this key, of 32 bytes.

    TLS proves that it holds the certificate's ed25519 key; aiohttp asks here before it sends a
    request. `form` makes of that key what is pinned.
    """

    def __init__(self, key: bytes, *, form: Callable[[bytes], bytes] = bytes) -> None:
        super().__init__(key)  # 32 bytes, which is what it expects of a SHA-256
        self._key = key
        self._form = form

    def check(self, transport: asyncio.Transport) -> None:
        tls = transport.get_extra_info("ssl_object")
        shown = certificate.key_in(tls.getpeercert(binary_form=True)) if tls is not None else b""
        found = self._form(shown) if shown else b""
        if not hmac.compare_digest(found, self._key):
            raise aiohttp.ServerFingerprintMismatch(self._key, found, "pinned", 0)
