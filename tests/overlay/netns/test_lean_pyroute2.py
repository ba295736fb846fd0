from __future__ import annotations

import subprocess
import sys

# Of what `import pyroute2` loads, what a node has no use for.
UNUSED = {"pyroute2.ndb.main", "pyroute2.ipdb", "pyroute2.ethtool"}
LEAN = "import sys; from overlay.netns.lean_pyroute2 import IPRoute as lean"
WHOLE = "import sys, pyroute2; from pyroute2 import IPRoute, WireGuard"


def _print(*code: str) -> list[str]:
    argv = [sys.executable, "-c", "\n".join(code)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()


def test_a_node_loads_no_part_of_pyroute2_that_it_does_not_use() -> None:
    loaded = set(_print("import sys, zos_core.node; print(*sys.modules)"))

    assert "pyroute2.netlink.nlsocket" in loaded
    assert not loaded & UNUSED
    assert set(_print("import sys, pyroute2; print(*sys.modules)")) >= UNUSED


def test_the_bare_package_is_not_left_behind() -> None:
    assert _print(LEAN, "print('pyroute2' in sys.modules)") == ["False"]


def test_whoever_imports_all_of_it_gets_the_same_classes_before_and_after() -> None:
    same = "print(lean is IPRoute, WireGuard.__name__, sys.modules['pyroute2'] is pyroute2)"

    assert _print(LEAN, WHOLE, same) == ["True", "WireGuard", "True"]
    assert _print(WHOLE, LEAN, same) == ["True", "WireGuard", "True"]


def test_what_pyroute2_may_log_stays_as_it_was_set() -> None:
    # Messages that set up a device hold its key.
    quiet = "import logging; logging.getLogger('pyroute2').setLevel(logging.WARNING)"
    level = (
        "print(logging.getLogger('pyroute2').level, len(logging.getLogger('pyroute2').handlers))"
    )

    assert _print(LEAN, quiet, WHOLE, level) == ["30", "1"]
