"""What systemd is told, and how often (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from zos_core import sdnotify


def test_a_state_reaches_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        monkeypatch.setenv(sdnotify.VARIABLE, str(path))
        sdnotify.notify("READY=1")
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("where", ["", "relative", "/nowhere/at/all"])
def test_without_systemd_nothing_happens(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sdnotify.VARIABLE, where)
    sdnotify.notify("READY=1")


@pytest.mark.parametrize(
    ("usec", "pid", "interval_s"),
    [
        ("20000000", None, 10.0),
        ("20000000", "own", 10.0),
        ("20000000", "1", None),
        ("0", None, None),
        ("", None, None),
        ("soon", None, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_asked(
    usec: str, pid: str | None, interval_s: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(sdnotify.WATCHDOG_VARIABLE, usec)
    monkeypatch.delenv(sdnotify.WATCHDOG_PID_VARIABLE, raising=False)
    if pid is not None:
        own = str(os.getpid())
        monkeypatch.setenv(sdnotify.WATCHDOG_PID_VARIABLE, own if pid == "own" else pid)
    assert sdnotify.watchdog_interval_s() == interval_s
