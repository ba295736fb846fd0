"""Labs in tests: a pytest plugin, found by itself wherever zos is installed (LAB-330 .. 339).

    async def test_meeting(lab):
        running = await lab("two-homes.lab.toml")        # or a netlab.topology.Topology
        await running.node("alice").run("ping", "-c1", running.node("bob").ipv4)

A lab is gone after its test, and the test fails when anything of it is left. Nothing is global, so
tests with labs run in parallel (pytest-xdist). When a test fails, a directory tells what there was:
the topology, every log, and addresses, routes, rules and sockets of every machine.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import pytest_asyncio

if TYPE_CHECKING:  # loaded with every run of pytest, so what it costs is paid by those who use it
    from netlab.lab import Lab
    from netlab.topology import Topology

ARTIFACTS_DEFAULT = "build/netlab"
_REPORT = pytest.StashKey[pytest.TestReport]()
_NAME_LENGTH_MAX = 100


class BuildLab(Protocol):
    """What the fixture `lab` gives: any number of labs, side by side, until the test ends."""

    def __call__(self, topology: Topology | str | Path) -> Awaitable[Lab]:
        """A running lab. A file is looked for beside the test's own first.

        Raises Rejected for a topology that cannot be, Unavailable when it does not come up.
        """


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("netlab", "labs of network namespaces")
    group.addoption(
        "--netlab-artifacts",
        default=ARTIFACTS_DEFAULT,
        metavar="DIR",
        help="where failed tests leave what there was in their labs (%(default)s)",
    )
    group.addoption(
        "--netlab-keep", action="store_true", help="leave it for tests that passed, too"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "topology(value): the lab that the fixture `topology` is")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[_REPORT] = report
    return report


@pytest_asyncio.fixture
async def lab(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BuildLab]:
    """`await lab(topology)` gives a running lab. None of it is left after the test."""
    import asyncio
    from contextlib import AsyncExitStack

    from netlab.lab import Lab
    from netlab.leaks import observe_footprint

    before, tasks = observe_footprint(), asyncio.all_tasks()
    labs: list[Lab] = []
    async with AsyncExitStack() as stack:

        async def build(topology: Topology | str | Path) -> Lab:
            if isinstance(topology, str | Path):
                topology = _read(topology, near=request.path.parent)
            workdir = tmp_path / f"lab{len(labs) + 1}"
            running = await stack.enter_async_context(Lab.create(topology, workdir=workdir))
            labs.append(running)
            return running

        yield build
        if _is_wanted(request):
            await _leave(labs, _directory(request))
    left = observe_footprint().difference(before)
    now = asyncio.all_tasks() - {asyncio.current_task()}
    left += [f"+ task {task.get_name()}" for task in now - tasks]
    if left:
        pytest.fail("\n".join(("the labs of this test left something:", *left)), pytrace=False)


@pytest_asyncio.fixture
async def topology_lab(request: pytest.FixtureRequest, lab: BuildLab) -> Lab:
    """The running lab that the test's own mark names: @pytest.mark.topology("file.lab.toml")."""
    mark = request.node.get_closest_marker("topology")
    if mark is None or len(mark.args) != 1:
        raise pytest.UsageError(
            f"{request.node.nodeid}: topology_lab needs @pytest.mark.topology(FILE)"
        )
    return await lab(mark.args[0])


def _read(path: str | Path, *, near: Path) -> Topology:
    from netlab.files.reading import read_lab

    beside = near / path
    return read_lab(beside if beside.exists() else Path(path))


def _is_wanted(request: pytest.FixtureRequest) -> bool:
    report = request.node.stash.get(_REPORT, None)
    has_failed = report is None or report.failed
    return has_failed or bool(request.config.getoption("--netlab-keep"))


def _directory(request: pytest.FixtureRequest) -> Path:
    name = re.sub(r"[^\w.-]+", "-", request.node.nodeid)[-_NAME_LENGTH_MAX:].strip("-")
    return Path(request.config.getoption("--netlab-artifacts")) / name


async def _leave(labs: list[Lab], directory: Path) -> None:
    from netlab.evidence import collect

    for number, running in enumerate(labs, start=1):
        await collect(running, directory / f"lab{number}")
