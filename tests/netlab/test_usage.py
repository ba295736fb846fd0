from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from netlab import usage

# Says the number of its child, waits for a line, and ends.
PARENT = """
import subprocess, sys
child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
sys.stdin.readline()
"""


def test_a_process_is_told_with_all_that_it_has_started() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            found = {each.pid: each for each in usage.processes_below(os.getpid())}
        finally:
            os.kill(child, signal.SIGKILL)

    assert found.keys() >= {os.getpid(), parent.pid, child}
    own = found[os.getpid()]
    assert own.rss_bytes >= own.pss_bytes > 1 << 20
    assert own.cpu_s > 0


def test_what_has_ended_is_left_out_and_nothing_comes_twice() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()

    found = [each.pid for each in usage.processes_below(os.getpid(), ended.pid, os.getpid())]

    assert found.count(os.getpid()) == 1
    assert ended.pid not in found


def test_what_ended_children_took_is_their_parents() -> None:
    def reaped_s() -> float:
        own = os.getpid()
        return next(p.reaped_s for p in usage.processes_below(own) if p.pid == own)

    before = reaped_s()
    busy = "import time\nwhile time.process_time() < 0.1: pass"
    subprocess.run([sys.executable, "-c", busy], check=True)
    assert reaped_s() - before >= 0.09


def test_any_program_may_have_any_name() -> None:
    # The kernel keeps fifteen bytes of it: half a character at the end.
    code = (
        "import sys; open('/proc/self/comm', 'w').write('\\u00e9' * 8)\n"
        "print(1, flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (found,) = usage.processes_below(child.pid)
        child.kill()
    assert found.name.startswith("\u00e9" * 7)


def test_the_kernel_keeps_what_meminfo_says() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    total = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    assert 1024 < usage.kernel_kib() < total
