"""How a judged lab is told, line by line and as JSON."""

from __future__ import annotations

import pytest

from netlab.cli.verdicts import Report
from netlab.judge.verdict import Miss, Verdict, as_json
from netlab.supervisor.status import Happened, JudgeLine
from netlab.topology import Expect
from overlay.errors import Rejected
from zos_core.cli.exits import Exit
from zos_core.status import ErrorBody

HELD = JudgeLine(verdict=as_json(Verdict(Expect("a", "*"), 3, 0.25)))
FAILED = JudgeLine(
    verdict=as_json(
        Verdict(
            Expect("b", "*"),
            12,
            30.0,
            failed=11,
            misses=tuple(Miss("b", f"n{n}", "nobody answers", ("a step",)) for n in range(10)),
        )
    )
)
EVENT = JudgeLine(event=Happened(2.0, "cut", "a-internet is cut"))


def test_each_line_is_told_as_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    # LAB-315
    report = Report("lab")
    report.hear([HELD, EVENT, FAILED, JudgeLine(evidence="/there")])
    report.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "ok    a reaches * (3 pairs), after 0.25 s",
        "   2.0 s  a-internet is cut",
        "FAIL  b reaches * (11 of 12 pairs)",
        "      b -> n0: nobody answers",
    ]
    assert lines[4] == "        a step"
    assert lines[-3:] == ["      and 1 more", "lab: 1 of 2 hold", "see /there"]
    assert (report.failed, report.exit) == (1, Exit.NOT_HEALTHY)


def test_all_that_holds_is_fine() -> None:
    # LAB-315
    report = Report("lab")
    report.hear([HELD])
    assert (report.failed, report.exit) == (0, Exit.OK)


def test_what_goes_wrong_beside_the_verdicts_is_raised() -> None:
    # LAB-315
    report = Report("lab")
    report.hear(
        [HELD, JudgeLine(error=ErrorBody("rejected", "no such thing", "expect.to", "look"))]
    )
    with pytest.raises(Rejected, match="no such thing") as caught:
        report.show()
    assert (caught.value.field, caught.value.remedy) == ("expect.to", "look")
