"""The parts of pyroute2 that a node uses; the only importer of it.

`import pyroute2` loads its databases, ethtool and a dozen other families as well: a tenth of a
node's start and four megabytes. Its modules are complete without that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import module_from_spec

_PACKAGE = "pyroute2"


@contextmanager
def _without_front() -> Iterator[None]:
    """Modules of the package are found although its `__init__` has not run.

    Who imports from the package itself afterwards gets all of it, made of the modules that are
    loaded; as attributes of the package those are not there.
    """
    spec = None if _PACKAGE in sys.modules else PathFinder.find_spec(_PACKAGE)
    if spec is None:  # loaded before by somebody else, or not there: Python says so
        yield
        return
    sys.modules[_PACKAGE] = module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[_PACKAGE]


with _without_front():
    from pyroute2.config import log  # noqa: F401 - sets up its logger, before we set its level
    from pyroute2.iproute.linux import AsyncIPRoute, IPRoute
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

__all__ = ["AsyncIPRoute", "IPRoute", "NFCTSocket", "NetlinkError"]
