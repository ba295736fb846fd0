"""nftables through libnftables, in process: load a ruleset in one transaction, list it, count.

Starting `nft` costs a process each time; the library answers in a third of a millisecond.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from overlay.errors import Rejected, Unavailable
from overlay.netns.namespaces import anonymous, hop
from overlay.netns.nftjson import TABLE, without_table

MAX_NORMAL_FORMS = 256  # rulesets whose normal form is remembered; one per network resource or so
_LIBRARY = "libnftables.so.1"
_OUTPUT_STATELESS = 1 << 2  # nftables/libnftables.h
_OUTPUT_JSON = 1 << 4
_FAMILIES = ("inet", "bridge")
# What differs between two kernels that hold the same ruleset.
_INCIDENTAL = ("handle", "packets", "bytes")


class Nftables:
    """Implements `PacketFilter`."""

    def __init__(self) -> None:
        self._library = _load_library()
        self._normal_forms: OrderedDict[bytes, str] = OrderedDict()
        # Callers are in several threads; what the library shares between contexts is its secret.
        self._turn = threading.RLock()

    def load(self, netns: str | int, ruleset: str) -> None:
        with self._turn, hop(netns), self._context(_OUTPUT_JSON) as context:
            commands = _decode(ruleset)
            # A deletion waits for a grace period, 10 to 30 ms: only where there is what to delete.
            there = [without_table(family) for family in self._families(context)]
            self._run(context, msgspec.json.encode({"nftables": [*there, *commands]}).decode())

    def amend(self, netns: str | int, commands: str) -> None:
        with self._turn, hop(netns), self._context(_OUTPUT_JSON) as context:
            self._run(context, commands)

    def listing(self, netns: str | int) -> str | None:
        objects = self._list(netns, _OUTPUT_JSON | _OUTPUT_STATELESS)
        if not objects:
            return None
        return msgspec.json.encode([_normalised(item) for item in objects], order="sorted").decode()

    def normal_form(self, ruleset: str) -> str:
        with self._turn:
            return self._normal_form(ruleset)

    def _normal_form(self, ruleset: str) -> str:
        digest = hashlib.sha256(ruleset.encode()).digest()
        if (known := self._normal_forms.get(digest)) is not None:
            self._normal_forms.move_to_end(digest)
            return known
        scratch = anonymous()
        try:
            self.load(scratch, ruleset)
            found = self.listing(scratch)
        finally:
            os.close(scratch)
        if found is None:
            raise Rejected("the ruleset leaves no table")
        self._normal_forms[digest] = found
        if len(self._normal_forms) > MAX_NORMAL_FORMS:
            self._normal_forms.popitem(last=False)
        return found

    def refusals(self, netns: str) -> dict[str, int]:
        """Packets refused so far since the ruleset was loaded, by counter name."""
        counters = (
            item["counter"] for item in self._list(netns, _OUTPUT_JSON) if "counter" in item
        )
        return {counter["name"]: counter["packets"] for counter in counters}

    def _list(self, netns: str | int, flags: int) -> list[dict[str, Any]]:
        with self._turn, hop(netns), self._context(flags) as context:
            everything = self._ask(context, "list ruleset")
        return [item for item in everything if _is_ours(item)]

    def _families(self, context: int) -> list[str]:
        tables = self._ask(context, "list tables")
        return [item["table"]["family"] for item in tables if _is_ours(item)]

    def _ask(self, context: int, command: str) -> list[dict[str, Any]]:
        answer: list[dict[str, Any]] = msgspec.json.decode(self._run(context, command))["nftables"]
        return answer

    @contextmanager
    def _context(self, flags: int) -> Iterator[int]:
        # The context opens its socket in the netns that the thread is in, and keeps it.
        context = self._library.nft_ctx_new(0)
        if not context:
            raise Unavailable("libnftables gives no context")
        try:
            self._library.nft_ctx_output_set_flags(context, flags)
            self._library.nft_ctx_buffer_output(context)
            self._library.nft_ctx_buffer_error(context)
            yield context
        finally:
            self._library.nft_ctx_free(context)

    def _run(self, context: int, commands: str) -> bytes:
        failed = self._library.nft_run_cmd_from_buffer(context, commands.encode())
        if failed:
            text = self._library.nft_ctx_get_error_buffer(context).decode(errors="replace")
            raise _error(text)
        return bytes(self._library.nft_ctx_get_output_buffer(context))


def _load_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise Unavailable(f"{_LIBRARY} is missing", remedy="install libnftables1") from exc
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("nft_ctx_new", pointer, [ctypes.c_uint32]),
        ("nft_ctx_free", None, [pointer]),
        ("nft_ctx_output_set_flags", None, [pointer, ctypes.c_uint]),
        ("nft_ctx_buffer_output", ctypes.c_int, [pointer]),
        ("nft_ctx_buffer_error", ctypes.c_int, [pointer]),
        ("nft_ctx_get_output_buffer", text, [pointer]),
        ("nft_ctx_get_error_buffer", text, [pointer]),
        ("nft_run_cmd_from_buffer", ctypes.c_int, [pointer, text]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _decode(ruleset: str) -> list[Any]:
    try:
        commands: list[Any] = msgspec.json.decode(ruleset)["nftables"]
    except (msgspec.DecodeError, KeyError, TypeError) as exc:
        raise Rejected("the ruleset is no libnftables JSON") from exc
    return commands


def _error(text: str) -> Rejected | Unavailable:
    """The kernel's refusals may pass; what the parser or evaluation does not take never will."""
    first = text.strip().partition("\n")[0] or "no reason given"
    if "Could not process rule" in text or "netlink" in text.lower():
        return Unavailable(f"nftables: {first}")
    return Rejected(f"nftables: {first}")


def _is_ours(item: dict[str, Any]) -> bool:
    (kind, body), *_ = item.items()
    name = body.get("name") if kind == "table" else body.get("table")
    return name == TABLE and body.get("family") in _FAMILIES


def _normalised(value: Any) -> Any:
    """Without what two kernels number differently; sets in one order (hash sets have none)."""
    if isinstance(value, dict):
        kept = {k: _normalised(v) for k, v in value.items() if k not in _INCIDENTAL}
        for members in ("elem", "set"):
            if isinstance(kept.get(members), list):
                kept[members] = sorted(kept[members], key=msgspec.json.encode)
        return kept
    if isinstance(value, list):
        return [_normalised(item) for item in value]
    return value
