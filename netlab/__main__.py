"""`python -m netlab`: the same as `zos lab`."""

from __future__ import annotations

import sys

from zos_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["lab", *sys.argv[1:]]))
