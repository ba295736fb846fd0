"""`zos lab watch` and `zos lab top`, beside a lab that answers but has no namespaces."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import takewhile
from pathlib import Path
from urllib.request import urlopen

import pytest

from zos_core.cli.exits import Exit

ZOS = str(Path(sys.executable).parent / "zos")


def test_watch_serves_until_ctrl_c(two_homes):  # LAB-340
    assert two_homes.topology.name == "two-homes"
    with subprocess.Popen(
        [ZOS, "lab", "watch", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        lines = list(takewhile(lambda line: line != "}\n", process.stdout))
        shown = json.loads("".join((*lines, "}")))
        assert (shown["schema"], shown["lab"]) == (1, "two-homes")
        with urlopen(shown["url"]) as page:
            assert b"zos lab" in page.read()
        process.send_signal(signal.SIGINT)
        try:
            _, words = process.communicate(timeout=50)
        finally:
            process.kill()
        assert process.returncode == Exit.INTERRUPTED
        assert "interrupted" in words


def test_watch_refuses_a_port_that_is_taken(lab, two_homes):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = lab("watch", "--port", str(taken.getsockname()[1]))
    assert ran.code == Exit.UNAVAILABLE
    assert "give another one, or 0" in ran.err


@pytest.mark.parametrize("command", ["watch", "top"])
def test_there_is_nothing_to_look_at_without_a_lab(lab, command):
    assert lab(command).code == Exit.NOT_HEALTHY


def test_top_ends_after_as_many_looks_as_asked(lab, two_homes):  # LAB-344
    ran = lab("top", "--every", "0.2", "--count", "2", "--json")
    looks = [json.loads(line) for line in ran.out.splitlines()]
    assert [look["lab"] for look in looks] == ["two-homes"] * 2
    assert {link["name"] for link in looks[0]["links"]} >= {"alice-home", "bob-internet"}
    ran = lab("top", "--every", "0.2", "--count", "1")
    assert "alice-home" in ran.out
    assert "0 bit/s" in ran.out
