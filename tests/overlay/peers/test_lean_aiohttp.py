"""What a node's start does not read."""

from __future__ import annotations

import os
import subprocess
import sys


def test_import_of_the_registry_client_reads_no_certificate_authorities() -> None:  # REG-019
    """And leaves the environment as it was."""
    code = (
        "import os, ssl\n"
        "read = []\n"
        "loading = ssl.SSLContext.set_default_verify_paths\n"
        "def load(context):\n"
        "    loading(context)\n"
        "    read.append(context.cert_store_stats()['x509'])\n"
        "ssl.SSLContext.set_default_verify_paths = load\n"
        "before = dict(os.environ)\n"
        "import overlay.peers.registry\n"
        "print(read, dict(os.environ) == before)"
    )
    for given in ({}, {"SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt"}):
        environment = {**os.environ, **given}
        ran = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert ran.stdout == "[0, 0] True\n"
