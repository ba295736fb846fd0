"""Somebody who is not root: a directory of theirs with the sources, and a Python they may run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

NOBODY = 65_534
TREE = Path(__file__).resolve().parent.parent
PYTHONS = (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}", "/usr/bin/python3")
IMPORTS = "import netlab.lab, netlab.pytest, zos_core.cli.main, zos_core.cli.root"
PACKAGES = "site-packages"
PATIENCE_S = 50.0


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """A directory of nobody's, with the sources."""
    made = Path(tempfile.mkdtemp(prefix="zos-nobody-", dir="/tmp"))
    made.chmod(0o755)
    for package in ("overlay", "zos_core", "netlab"):
        shutil.copytree(
            TREE / package, made / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    packages = Path(sysconfig.get_path("purelib"))
    if not _is_for_everybody(packages):  # a clone below /root
        shutil.copytree(packages, made / PACKAGES)
    (made / "lab").mkdir()
    os.chown(made / "lab", NOBODY, NOBODY)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def python(home: Path) -> str:
    for candidate in PYTHONS:
        if Path(candidate).exists() and run(home, candidate, IMPORTS).returncode == 0:
            return candidate
    pytest.skip(f"nobody but root can run what zos needs, by none of {', '.join(PYTHONS)}")


def _is_for_everybody(directory: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (directory, *directory.parents))


def run(
    home: Path, python: str, code: str, *argv: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    path = f"{home}:{home / PACKAGES}:{sysconfig.get_path('purelib')}"
    try:
        return subprocess.run(
            [python, "-c", code, *argv],
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd="/",
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": path,
                "PYTHONDONTWRITEBYTECODE": "1",
                **(env or {}),
            },
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    except PermissionError:
        return subprocess.CompletedProcess([python], 126)
