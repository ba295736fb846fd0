"""A suite that must run is red when it did not: --must-run of tests/conftest.py."""

from __future__ import annotations

import pytest

HOOKS = "from tests.conftest import MustRun, pytest_addoption, pytest_configure"


@pytest.mark.parametrize(
    ("body", "at_least", "exit_code"),
    [
        ("def test_a(): pass", 1, pytest.ExitCode.OK),
        ("def test_a(): pass", 2, pytest.ExitCode.TESTS_FAILED),
        ("import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('no root')", 1, 1),
        ("import pytest\npytest.skip('no root', allow_module_level=True)", 0, 1),
        ("import pytest\n@pytest.mark.xfail\ndef test_a(): assert False", 0, 1),
    ],
)
def test_must_run_fails_what_did_not_run(
    pytester: pytest.Pytester, body: str, at_least: int, exit_code: int
) -> None:
    pytester.makeconftest(HOOKS)
    pytester.makepyfile(body)

    result = pytester.runpytest_inprocess(
        "-p", "no:schemathesis", "-p", "no:asyncio", f"--must-run={at_least}"
    )

    assert result.ret == exit_code
