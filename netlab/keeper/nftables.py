"""Load rules into the calling thread's network namespace through libnftables, in process.

Starting the nft command costs fifteen times as much.
"""

from __future__ import annotations

import ctypes

_LIBRARY = "libnftables.so.1"


def is_installed() -> bool:
    try:
        _open_library()
    except OSError:
        return False
    return True


def load(ruleset: str) -> None:
    """All of the rules or none. Raises OSError with the library's words."""
    _run(_open_library(), ruleset)


def delete_tables(*, but: tuple[str, ...]) -> None:
    """All but those whose names begin like one of these. Without the library there are none."""
    if not is_installed():
        return
    library = _open_library()
    tables = [line.split() for line in _run(library, "list tables").splitlines()]
    doomed = [table for table in tables if not table[-1].startswith(but)]
    if doomed:
        _run(library, "\n".join(f"delete {' '.join(table)}" for table in doomed))


def _open_library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as exc:
        raise OSError(f"a router with NAT or firewall needs {_LIBRARY} (nftables)") from exc
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    return library


def _run(library: ctypes.CDLL, commands: str) -> str:
    # The context opens its socket here, that is, in the namespace that the thread is in now.
    context = ctypes.c_void_p(library.nft_ctx_new(ctypes.c_uint32(0)))
    try:
        library.nft_ctx_buffer_error(context)
        library.nft_ctx_buffer_output(context)
        if library.nft_run_cmd_from_buffer(context, ctypes.c_char_p(commands.encode())) != 0:
            words = library.nft_ctx_get_error_buffer(context) or b""
            raise OSError(f"nftables: {words.decode(errors='replace').strip()}")
        said: bytes = library.nft_ctx_get_output_buffer(context) or b""
        return said.decode()
    finally:
        library.nft_ctx_free(context)
