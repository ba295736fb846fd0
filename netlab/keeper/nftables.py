"""Load rules into the calling thread's network namespace through libnftables, in process.

Starting the nft command costs fifteen times as much.
"""

from __future__ import annotations

import ctypes

_LIBRARY = "libnftables.so.1"


def load(ruleset: str) -> None:
    """All of the rules or none. Raises OSError with the library's words."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise OSError(f"a router with NAT or firewall needs {_LIBRARY} (nftables)") from exc
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    # The context opens its socket here, that is, in the namespace that the thread is in now.
    context = ctypes.c_void_p(library.nft_ctx_new(ctypes.c_uint32(0)))
    try:
        library.nft_ctx_buffer_error(context)
        if library.nft_run_cmd_from_buffer(context, ctypes.c_char_p(ruleset.encode())) != 0:
            words = library.nft_ctx_get_error_buffer(context) or b""
            raise OSError(f"nftables: {words.decode(errors='replace').strip()}")
    finally:
        library.nft_ctx_free(context)
