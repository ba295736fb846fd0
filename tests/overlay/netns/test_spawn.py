from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from overlay.errors import Rejected, Unavailable
from overlay.netns import spawn

pytestmark = pytest.mark.blocking  # starting a process waits for its exec, about a millisecond

ENV = {"PATH": os.environ["PATH"]}
FOREGROUND = """
import os, sys
from overlay.netns import spawn
sys.exit(spawn.run_foreground({argv!r}, env=dict(os.environ)) % 256)
"""


async def test_run_gives_exit_code_and_both_outputs() -> None:
    done = await spawn.run(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=10)
    assert done == spawn.Completed(3, b"out\n", b"err\n")


async def test_run_passes_arguments_as_they_are() -> None:  # SPW-001
    done = await spawn.run(["printf", "%s|", "$HOME", ";", "a b", "*"], timeout_s=10)
    assert done.stdout == b"$HOME|;|a b|*|"


async def test_run_gives_the_environment_that_is_named_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # SPW-002
    monkeypatch.setenv("SECRET", "s3cr3t")
    done = await spawn.run(["env"], timeout_s=10)
    assert {line.partition(b"=")[0] for line in done.stdout.splitlines()} == {b"PATH", b"LANG"}


async def test_run_hands_down_no_descriptor() -> None:  # SPW-002
    leaky = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    try:
        done = await spawn.run(["ls", "/proc/self/fd"], timeout_s=10)
    finally:
        os.close(leaky)
    assert done.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3: the folder that ls reads


async def test_run_reads_nothing() -> None:
    assert (await spawn.run(["cat"], timeout_s=10)).stdout == b""


async def test_run_gives_more_output_than_a_pipe_holds() -> None:
    done = await spawn.run(["head", "-c", "1000000", "/dev/zero"], timeout_s=10)
    assert len(done.stdout) == 1_000_000


async def test_run_of_what_is_not_there_is_rejected() -> None:
    with pytest.raises(Rejected, match="/absent"):
        await spawn.run(["/absent"], timeout_s=10)


async def test_run_that_takes_too_long_leaves_nobody_running(tmp_path: Path) -> None:  # SPW-003
    pid_file = tmp_path / "pid"
    with pytest.raises(Unavailable, match="sh"):
        await spawn.run(["sh", "-c", f"sleep 600 & echo $! > {pid_file}; wait"], timeout_s=0.5)
    await until_gone(int(pid_file.read_text()))


async def test_run_that_is_cancelled_before_a_thread_is_free_is_reaped(tmp_path: Path) -> None:
    # SPW-003
    began, go_on = tmp_path / "began", threading.Event()
    loop = asyncio.get_running_loop()
    # Every thread is busy when the process starts, and when its caller is cancelled.
    busy = [loop.run_in_executor(None, go_on.wait, 10) for _ in range(64)]
    script = f"echo $$ > {began}.new; mv {began}.new {began}; exec sleep 600"
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(spawn.run(["sh", "-c", script], timeout_s=600))
            async with asyncio.timeout(10):
                while not began.exists():  # noqa: ASYNC110 - the shell tells nobody else
                    await asyncio.sleep(0.001)
            task.cancel()
            loop.call_later(0.05, go_on.set)
    finally:
        go_on.set()
        await asyncio.gather(*busy)
    await until_gone(int(began.read_text()))


async def test_run_that_is_cancelled_leaves_nobody_running(tmp_path: Path) -> None:  # SPW-003
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    async def run() -> None:
        await spawn.run(["sh", "-c", f"echo $$ > {fifo}; exec sleep 600"], timeout_s=600)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(run())
        pid = int(await asyncio.to_thread(fifo.read_text))
        task.cancel()
    await until_gone(pid)


async def test_daemon_is_reaped_when_it_ends() -> None:  # SPW-003
    pid = spawn.start_daemon(["true"])
    await until_gone(pid)


async def test_daemon_has_its_own_session_and_writes_to_its_log(tmp_path: Path) -> None:  # SPW-001
    log = tmp_path / "log"
    pid = spawn.start_daemon(["sh", "-c", "ps -o sid= -p $$; echo err >&2"], log_path=str(log))
    await until_gone(pid)

    session, error = log.read_text().split()
    assert (int(session), error) == (pid, "err")
    assert log.stat().st_mode & 0o777 == 0o600


async def test_daemon_log_follows_no_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        spawn.start_daemon(["true"], log_path=str(tmp_path / "log"))
    assert not (tmp_path / "elsewhere").exists()


async def test_daemon_outlives_the_process_that_started_it(tmp_path: Path) -> None:  # SPW-001
    code = (
        "import asyncio\nfrom overlay.netns import spawn\n"
        "async def main(): print(spawn.start_daemon(['sleep', '600']))\nasyncio.run(main())"
    )
    done = await spawn.run([sys.executable, "-c", code], timeout_s=20, env=python_path())
    pid = int(done.stdout)
    assert spawn.is_running(pid)
    await end(pid, patience_s=0)
    assert not is_alive(pid)


async def test_end_waits_for_a_process_that_goes_by_itself() -> None:
    pid = spawn.start_daemon(["sleep", "0.05"])
    await end(pid, patience_s=10)
    await until_gone(pid)


async def test_end_makes_a_process_end_that_does_not_listen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spawn, "KILL_AFTER_S", 0.1)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    pid = spawn.start_daemon(
        ["sh", "-c", f"trap '' TERM; echo > {fifo}; sleep 600 & wait; sleep 600"]
    )
    await asyncio.to_thread(fifo.read_text)
    await end(pid, patience_s=0)
    await until_gone(pid)


def test_foreground_gives_the_exit_code_of_the_command() -> None:
    done = foreground(["sh", "-c", "cat; exit 7"], given="typed")
    assert (done.returncode, done.stdout) == (7, "typed")


def test_foreground_gives_the_signal_as_a_negative_code() -> None:
    assert foreground(["sh", "-c", "kill -9 $$"]).returncode == 256 - signal.SIGKILL


def test_foreground_leaves_ctrl_c_to_the_command() -> None:
    # The group's SIGINT is what a terminal sends; the command answers it, the caller waits.
    script = "trap 'exit 5' INT; kill -INT 0; sleep 600 & wait"
    assert foreground(["sh", "-c", script]).returncode == 5


def test_foreground_of_what_is_not_there_is_rejected() -> None:
    with pytest.raises(Rejected, match="/absent"):
        spawn.run_foreground(["/absent"], env={})


def foreground(argv: list[str], *, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FOREGROUND.format(argv=argv)],
        input=given,
        capture_output=True,
        check=False,
        env=python_path(),
        start_new_session=True,
        text=True,
        timeout=30,
    )


async def test_only_what_was_found_is_ended() -> None:  # SPW-003
    pid = spawn.start_daemon(["/bin/sleep", "60"])
    await spawn.end_found(pid, lambda it: it != pid, patience_s=0)
    assert is_alive(pid)
    await spawn.end_found(pid, lambda it: it == pid, patience_s=0)
    await until_gone(pid)
    await spawn.end_found(pid, lambda _: True, patience_s=0)  # gone already


def python_path() -> dict[str, str]:
    return {**ENV, "PYTHONPATH": str(Path(__file__).parents[3])}


async def end(pid: int, *, patience_s: float) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        await spawn.end(pidfd, patience_s=patience_s)
    finally:
        os.close(pidfd)


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(10):
        while is_alive(pid):  # noqa: ASYNC110 - nobody is told of the end of another's child
            await asyncio.sleep(0.001)


def is_alive(pid: int) -> bool:
    """A zombie of ours counts; one that init has yet to reap does not."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return "State:\tZ" not in status or f"PPid:\t{os.getpid()}\n" in status


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_foreground_command_gets_what_others_send_us(number: signal.Signals) -> None:  # CLI-040
    with foreground_sleeping() as (process, _):
        process.send_signal(number)

        assert process.wait(10) == -number % 256


def test_foreground_command_does_not_outlive_us() -> None:  # CLI-040
    with foreground_sleeping() as (process, child):
        process.kill()
        process.wait(10)

        # Nobody waits for it any more: it is gone once its pidfd is readable.
        assert select.select([child], [], [], 10)[0] == [child]


@contextmanager
def foreground_sleeping() -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process with a command in the foreground, and a pidfd of that command."""
    argv = ["sh", "-c", "echo $$; exec sleep 3600"]
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND.format(argv=argv)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    child = os.pidfd_open(int(process.stdout.readline()))
    try:
        yield process, child
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(child)
