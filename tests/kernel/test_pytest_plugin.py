"""The pytest plugin as others use it: in a project of their own, in a pytest of its own."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.any_backend

TWO = """
    import os, subprocess
    import pytest
    from netlab.topology import Node, Topology

    PAIR = Topology(nodes=(Node("a"), Node("b")))
"""
REACH = """
    async def test_reach_{n}(lab):
        running = await lab(PAIR)
        b = running.node("b")
        await running.node("a").run("ping", "-c1", b.ipv4)
        await running.node("a").run("ping", "-c1", b.ipv6)
"""
OPTIONS = ("-p", "no:schemathesis", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
SCOPE = ("-o", "asyncio_default_fixture_loop_scope=function")


@pytest.fixture
def run(pytester: pytest.Pytester):
    def run(*bodies: str, options: tuple[str, ...] = ()):
        pytester.makepyfile("\n".join((TWO, *bodies)))
        return pytester.runpytest_subprocess(*OPTIONS, *SCOPE, *options)

    return run


def test_labs_are_there_in_parallel_and_leave_nothing(run, pytester):  # LAB-330
    result = run(*(REACH.format(n=n) for n in range(4)), options=("-n", "2"))
    result.assert_outcomes(passed=4)
    assert not (pytester.path / "build").exists()


def test_a_failed_test_tells_what_there_was(run, pytester):  # LAB-331
    body = """
    async def test_fails(lab):
        running = await lab(PAIR)
        await running.node("a").spawn("sh", "-c", "echo last words; sleep 1000", log="talker")
        assert not "what was promised"
    """
    run(body, options=("--netlab-artifacts", "kept")).assert_outcomes(failed=1)
    (found,) = (pytester.path / "kept").iterdir()
    assert "[node.a]" in (found / "lab1/topology.lab.toml").read_text()
    assert "198.18.1.1/32" in (found / "lab1/a/addresses.txt").read_text()
    assert "default" in (found / "lab1/b/routes.txt").read_text()
    assert "last words" in (found / "lab1/a/talker.log").read_text()
    assert "sleep 1000" in (found / "lab1/a/processes.txt").read_text()


def test_a_test_that_leaves_something_fails(run):  # LAB-332
    body = """
    import asyncio

    async def test_leaves(lab):
        await lab(PAIR)
        test_leaves.child = subprocess.Popen(["sleep", "3"])
        test_leaves.task = asyncio.get_running_loop().create_task(asyncio.sleep(60), name="idle")
    """
    result = run(body, options=("-W", "ignore"))
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*+ child*(sleep)*", "*+ task idle*"])


def test_a_mark_names_the_lab_of_a_test(run, pytester):  # LAB-333
    pytester.makefile(".lab.toml", pair="name = 'pair'\n[node.c]\n[node.d]\n")
    body = """
    @pytest.mark.topology(PAIR)
    async def test_marked(topology_lab):
        assert set(topology_lab.nodes) == {"a", "b"}

    @pytest.mark.topology("pair.lab.toml")
    async def test_file(topology_lab):
        assert set(topology_lab.nodes) == {"c", "d"}

    async def test_unmarked(topology_lab):
        pass
    """
    result = run(body)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*topology_lab needs @pytest.mark.topology*"])
