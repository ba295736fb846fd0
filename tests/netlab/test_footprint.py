from __future__ import annotations

import os
import subprocess
import sys

from netlab import footprint


def test_a_process_is_told_with_all_that_it_has_started() -> None:
    nested = "import subprocess, sys; subprocess.run(['sleep', '30'])"
    with subprocess.Popen(
        [sys.executable, "-c", f"print(1, flush=True); {nested}"], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found: dict[int, footprint.Process] = {}
        while sum(each.name == "sleep" for each in found.values()) < 1:
            found = {each.pid: each for each in footprint.processes_below(os.getpid())}
        subprocess.run(["pkill", "-P", str(child.pid)], check=True)

    assert found.keys() >= {os.getpid(), child.pid}
    own = found[os.getpid()]
    assert own.rss_bytes >= own.pss_bytes > 0
    assert own.cpu_s > 0


def test_what_has_ended_is_left_out_and_nothing_comes_twice() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()

    found = footprint.processes_below(os.getpid(), ended.pid, os.getpid())

    assert [each.pid for each in found].count(os.getpid()) == 1
    assert ended.pid not in [each.pid for each in found]


def test_the_kernel_keeps_more_than_a_megabyte() -> None:
    assert footprint.kernel_kib() > 1024
