"""Whatever a test promises: no program of its labs met an exception that nobody expected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.scene import faults


@pytest.fixture(autouse=True)
def no_faults(tmp_path: Path) -> Iterator[None]:
    yield
    assert faults(tmp_path) == []
