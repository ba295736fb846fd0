"""aiohttp, without this machine's certificate authorities: a registry is known by its own key.

aiohttp reads all of them, twice, when it is imported: a tenth of a node's start.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_AUTHORITIES = "SSL_CERT_FILE"  # where OpenSSL looks for them


@contextmanager
def _without_authorities() -> Iterator[None]:
    before = os.environ.get(_AUTHORITIES)
    os.environ[_AUTHORITIES] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ[_AUTHORITIES]
        else:
            os.environ[_AUTHORITIES] = before


with _without_authorities():
    import aiohttp

__all__ = ["aiohttp"]
