"""`python -m netlab.sim`: the same as `zos lab sim`."""

from __future__ import annotations

import sys

from zos_core.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["lab", "sim", *sys.argv[1:]]))
