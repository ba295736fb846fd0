"""Whatever is done to a good file: it is a lab or it is refused with a line, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netlab.files.reading import FileFault, lint_lab, parse_lab
from netlab.files.writing import format_lab
from netlab.topology import Topology
from tests.netlab.files.test_reading import TWO_HOMES
from tests.netlab.files.topologies import topologies

MALFORMED = sorted((Path(__file__).parent / "malformed").glob("*.lab.toml"))
TEXTS = [TWO_HOMES, *(path.read_text() for path in MALFORMED if path.stat().st_size < 1500)]
LINES = sorted({line for text in TEXTS for line in text.splitlines() if line[:1] not in ("", "#")})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(TEXTS), st.data())
def test_lines_put_in_taken_out_or_exchanged(text, data):  # LAB-285
    lines = text.splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        new = data.draw(st.sampled_from(LINES))
        lines[at : at + data.draw(st.integers(0, 1))] = [new][: data.draw(st.integers(0, 1))]
        lines = lines or [new]
    judge("\n".join(lines))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(topologies(), st.data())
def test_words_exchanged(topology, data):  # LAB-285
    words = format_lab(topology).split(" ")
    at, other = data.draw(st.tuples(*[st.integers(0, len(words) - 1)] * 2))
    words[at] = words[other]
    judge(" ".join(words))


def judge(text: str) -> None:
    faults = lint_lab(text, source="f")
    count = text.count("\n") + 1
    assert all(1 <= fault.line <= count and fault.remedy for fault in faults)
    if faults:
        with pytest.raises(FileFault) as caught:
            parse_lab(text, source="f")
        assert str(caught.value) == "\n".join(map(str, faults))
    else:
        assert isinstance(parse_lab(text, source="f"), Topology)
