"""What holds for every test: the event loop never blocks, and a suite that must run does run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from blockbuster import blockbuster_ctx

TREE = Path(__file__).resolve().parent.parent
PACKAGES = ["overlay", "zos_core", "netlab"]
# A folder tells what its tests need.
FOLDER_MARKS = ("kernel", "lab", "page", "vm")
BETTER_WIREGUARD_GO = TREE / "build/wireguard-go/wireguard-go"

hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.register_profile("ci", deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

if BETTER_WIREGUARD_GO.exists():
    os.environ.setdefault("ZOS_WIREGUARD_GO", str(BETTER_WIREGUARD_GO))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--must-run",
        type=int,
        metavar="N",
        help="fail unless at least N tests pass and none is skipped",
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell without job control has its background commands ignore Ctrl-C, and children inherit
    # that; what Ctrl-C does is tested all the same.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # With xdist the workers report to the controller, which alone judges.
    if config.getoption("--must-run") is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(MustRun(config.getoption("--must-run")), "must-run")


def pytest_itemcollected(item: pytest.Item) -> None:
    for folder in FOLDER_MARKS:
        if item.path.is_relative_to(TREE / "tests" / folder):
            item.add_marker(folder)


@pytest.fixture(autouse=True)
def never_blocking(request: pytest.FixtureRequest) -> Iterator[None]:
    """A blocking call of ours on the event loop fails the test.

    Suites on the real kernel are left out: libnftables and namespace hops block by nature.
    """
    marks = {mark.name for mark in request.node.iter_markers()}
    if "asyncio" not in marks or marks & {*FOLDER_MARKS, "blocking"}:
        yield
        return
    with blockbuster_ctx(PACKAGES):
        yield


class MustRun:
    """Makes a session red that is green only because its tests did not run."""

    def __init__(self, at_least: int) -> None:
        self.at_least = at_least
        self.passed = 0
        self.skipped: list[str] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped:
            self.skipped.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1

    @property
    def complaint(self) -> str | None:
        if self.skipped:
            return f"{len(self.skipped)} tests that must run were skipped: {self.skipped[0]} ..."
        if self.passed < self.at_least:
            return f"{self.passed} tests passed, at least {self.at_least} must"
        return None

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.complaint and not session.config.getoption("collectonly"):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.complaint:
            terminalreporter.write_line(f"must-run: {self.complaint}", red=True)
