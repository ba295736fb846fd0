from __future__ import annotations

import subprocess
import sys

# Of what `import pyroute2` loads, what a node has no use for.
UNUSED = {"pyroute2.ndb.main", "pyroute2.ipdb", "pyroute2.ethtool"}


def _print(code: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return ran.stdout.split()


def test_a_node_loads_no_part_of_pyroute2_that_it_does_not_use() -> None:
    loaded = set(_print("import sys, zos_core.node; print(*sys.modules)"))

    assert "pyroute2.netlink.nlsocket" in loaded
    assert not loaded & UNUSED
    assert set(_print("import sys, pyroute2; print(*sys.modules)")) >= UNUSED


def test_whoever_imports_all_of_it_gets_the_same_classes_before_and_after() -> None:
    lean = "from overlay.netns.lean_pyroute2 import IPRoute as lean"
    whole = "from pyroute2 import IPRoute, WireGuard"
    same = "print(lean is IPRoute, WireGuard.__name__)"

    assert _print("\n".join((lean, whole, same))) == ["True", "WireGuard"]
    assert _print("\n".join((whole, lean, same))) == ["True", "WireGuard"]
