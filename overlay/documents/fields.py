"""Types and checks of fields that several kinds of document have (specs DOC-021 .. DOC-025)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

from overlay import addressing
from overlay.errors import Rejected
from overlay.keys import identity
from overlay.keys.identity import Kind
from overlay.model import Endpoint

MAX_VERSION = 2**53 - 1  # what every JSON reader keeps exact (RFC 8259 section 6)

# RFC 1123 label; one-character names are names like any other. In Python "$" alone would also match
# before a line feed at the end.
LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$(?!\n)"
_LABEL = re.compile(LABEL_PATTERN)

Label = Annotated[str, Meta(pattern=LABEL_PATTERN, max_length=63)]
Version = Annotated[int, Meta(ge=1, le=MAX_VERSION)]
Index = Annotated[int, Meta(ge=0, le=65_535)]
UnixTime = Annotated[int, Meta(ge=0, le=MAX_VERSION)]
IdText = Annotated[str, Meta(max_length=90)]
KeyText = Annotated[str, Meta(min_length=44, max_length=44)]  # base64 of a WireGuard public key
EndpointText = Annotated[str, Meta(max_length=64)]
MAX_RATE_MBIT = 100_000
RateMbit = Annotated[int, Meta(ge=0, le=MAX_RATE_MBIT)]  # 0: no limit


def is_label(text: str) -> bool:
    """Whether `text` may be the name of a network, member, device or invitation."""
    return _LABEL.fullmatch(text) is not None


def check_id(kind: Kind, text: str, field: str) -> None:
    """Raise Rejected unless `text` is an id of this kind."""
    identity.parse_id(kind, text, field=field)


def check_distinct(values: Iterable[object], field: str) -> None:
    """Raise Rejected when a value stands there twice."""
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise Rejected(f"{value!s} stands there twice", field=field)
        seen.add(value)


def check_endpoint(text: str, field: str) -> Endpoint:
    """The endpoint. Raises Rejected when it is none, or leads to no other machine (DOC-029)."""
    endpoint = addressing.parse_endpoint(text, field=field)
    addressing.refuse_local(endpoint.address, field=field)
    return endpoint


def parse_port_range(text: str, *, field: str | None = None) -> tuple[int, int]:
    """ "80" or "8000-8100" as (first, last). Raises Rejected."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})(?:-([1-9][0-9]{0,4}))?", text, re.ASCII)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= first <= last <= 65_535:
        raise Rejected(
            f"{text[:32]!r} is no port or port range", field=field, remedy="write 80 or 8000-8100"
        )
    return first, last
