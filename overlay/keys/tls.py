"""TLS by an ed25519 key of ours, for callers who pin that key."""

from __future__ import annotations

import os
import ssl

from overlay.keys import certificate
from overlay.ports import Secret


def server_context(key: Secret, *, name: str) -> ssl.SSLContext:
    """TLS 1.3 with this key. `name` is what the certificate calls its owner."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # OpenSSL reads keys from files only; this one is memory that nobody else can name.
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, certificate.make_chain(key, name=name))
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context
