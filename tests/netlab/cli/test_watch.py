"""`zos lab watch` and `zos lab top`, beside a lab that answers but has no namespaces."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
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


def test_watch_opens_the_page_without_telling_its_secret(two_homes, tmp_path):  # LAB-340
    """What a browser is started with, anybody on the machine can read."""
    opened, copied = tmp_path / "opened", tmp_path / "copied.html"
    browser = tmp_path / "xdg-open"
    browser.write_text(
        f'#!/bin/sh\ncp "$1" {copied}\n'
        f'stat -c "%a %n" "$1" >{opened}.new\nmv {opened}.new {opened}\n'
    )
    browser.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [ZOS, "lab", "watch", "--open"], stdout=subprocess.PIPE, env=environment, text=True
    ) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        while not opened.exists():
            assert process.poll() is None
            time.sleep(0.01)
        mode, file = opened.read_text().split()
        process.send_signal(signal.SIGINT)
    secret = address.rpartition("/")[2] or address.split("/")[-2]
    assert len(secret) > 16
    assert mode == "600"
    assert secret not in file
    assert f'content="0; url={address}"' in copied.read_text()
    assert not Path(file).exists()


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
