"""`zos lab` on the real kernel: labs that live on, what is done to them, and that nothing stays."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from netlab.supervisor import places
from zos_core.cli.exits import Exit

pytestmark = pytest.mark.any_backend

ZOS = str(Path(sys.executable).parent / "zos")
# Far more than anything takes: it ends a hang and measures nothing.
PATIENCE_S = 40.0
SILENCE_S = "0.5"
FIVE = """
name = "five"
[router.home]
nat = "port-restricted"
[node.alice]
link = "home"
[node.anna]
link = "home"
[node.bob]
[node.carol]
[node.dora]
"""
BOB = "198.18.1.1"

Lab = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "five.lab.toml"
    path.write_text(FIVE)
    return path


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this test's labs are. None of them, and nothing of them, survives the test."""
    path = tmp_path / "labs"
    monkeypatch.setenv(places.ROOT_VARIABLE, str(path))
    monkeypatch.delenv("ZOS_LAB", raising=False)
    yield path
    run("down", "--all")
    until(lambda: not processes_of(path), "processes are left")
    left = [each for each in path.glob("*") if each.name != places.KEPT] if path.exists() else []
    assert left == []


@pytest.fixture
def five(root: Path, file: Path) -> Lab:
    """A lab of five nodes that is up."""
    done = run("up", str(file))
    assert done.returncode == 0, done.stderr
    return run


def run(*argv: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ZOS, "lab", *argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def answer(*argv: str) -> Any:
    done = run(*argv, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def processes_of(root: Path) -> list[str]:
    """Supervisors, keepers and programs of labs below this root."""
    marker, found = f"{places.ROOT_VARIABLE}={root}".encode(), []
    for directory in Path("/proc").glob("[0-9]*"):
        if int(directory.name) == os.getpid():
            continue
        try:
            environment = (directory / "environ").read_bytes().split(b"\0")
            argv = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker in environment and argv[1:3] != [b"lab", b"down"]:
            found.append(b" ".join(argv).decode())
    return found


def test_a_lab_that_is_up_becomes_what_its_file_says_now(five: Lab, file: Path) -> None:  # LAB-216
    assert five("plan", str(file)).stdout == "nothing to do\n"
    file.write_text(FIVE.replace("[node.dora]", '[node.eve]\nlink = "home"\n'))
    planned = answer("plan", str(file))["changes"]
    assert planned[0] == {
        "verb": "remove-link",
        "subject": "dora-internet",
        "text": "remove link dora-internet",
    }
    assert answer("apply", str(file))["changes"] == planned
    assert five("exec", "eve", "--", "ping", "-c1", "-W20", BOB).returncode == 0
    nodes = [node["name"] for node in answer("status")["nodes"]]
    assert sorted(nodes) == ["alice", "anna", "bob", "carol", "eve"]
    assert "remove node dora" in five("events").stdout
    assert five("plan", str(file)).stdout == "nothing to do\n"
    file.write_text(f"seed = 5\n{FIVE}")
    refused = five("apply", str(file))
    assert refused.returncode != 0
    assert "seed cannot change while a lab runs" in refused.stderr


def until(is_true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def reaches_bob(lab: Lab, *, within_s: str = "20") -> bool:
    return lab("exec", "alice", "--", "ping", "-c1", "-W", within_s, BOB).returncode == 0


def test_a_lab_lives_on_is_asked_and_changed_and_ends(five: Lab, root: Path) -> None:
    """LAB-240, LAB-241, LAB-242, LAB-243, LAB-245"""
    found = answer("status", "--counters")
    assert (found["name"], found["state"]) == ("five", "ready")
    assert [node["state"] for node in found["nodes"]] == ["running"] * 5
    assert found["nodes"][0]["addresses"][0] == "192.168.1.10"
    keeper = found["keeper_pid"]

    assert reaches_bob(five)
    assert five("link", "set", "alice-home", "--down").stdout == "alice-home is cut\n"
    assert not reaches_bob(five, within_s=SILENCE_S)
    cut = answer("status")["links"][0]
    assert (cut["end"], cut["up"]) == ("alice:eth0", False)
    assert answer("link", "set", "home-alice", "--up")["done"] == "alice-home is plugged"
    assert reaches_bob(five)

    assert five("partition", "home", "|", "bob").stdout == "apart: home | bob\n"
    assert not reaches_bob(five, within_s=SILENCE_S)
    assert [node["part"] for node in answer("status")["nodes"]] == [1, 1, 2, 0, 0]
    assert five("heal").stdout == "the network is whole\n"
    assert reaches_bob(five)

    counted = {link["name"]: link["counters"] for link in answer("status", "--counters")["links"]}
    assert counted["alice-home"]["tx_packets"] > 0 < counted["alice-home"]["rx_packets"]

    kinds = [event["kind"] for event in answer("events")["events"]]
    assert kinds == ["phase", "ready", "link", "link", "partition", "partition"]
    assert "ready" in five("events").stdout

    assert five("down").stdout == "five is down\n"
    assert is_gone(keeper)


def test_links_are_impaired_while_programs_run(five: Lab) -> None:
    """LAB-243"""

    def link() -> Any:
        return answer("status")["links"][0]

    done = five("link", "set", "alice-home", "--delay", "20ms", "--loss", "1%", "--direction", "up")
    assert done.stdout == "alice-home does to packets: up: delay 20ms, loss 1%; down: nothing\n"
    assert five("link", "set", "alice-home", "--loss", "0%", "--mtu", "1280").returncode == 0
    impaired = link()["impaired"]
    assert (impaired["up"]["delay_s"], impaired["up"]["loss"]) == (0.02, 0)
    assert "delay" in link()["back_end"]
    assert "mtu 1280" in five("exec", "alice", "--", "ip", "link").stdout
    assert reaches_bob(five)

    assert five("link", "set", "alice-home", "--clear").returncode == 0
    assert (link()["impaired"], link()["back_end"], link()["mtu_bytes"]) == (None, "", 1280)
    refused = five("link", "set", "alice-home", "--loss", "101%")
    assert refused.returncode == Exit.USAGE
    assert "alice-home.up.loss" in refused.stderr
    assert five("link", "set", "alice-home", "--mtu", "1279").returncode == Exit.USAGE
    told = [event["text"] for event in answer("events")["events"] if event["kind"] != "phase"]
    assert "has an MTU of 1280" in told


def test_packets_of_a_link_are_shown_and_kept(five: Lab, tmp_path: Path) -> None:  # LAB-270
    """A ping passes both ends of a link twice: there and back.

    Among the pings there may be a burst of what a machine says of itself at any time (RFC 3810).
    """
    kept = tmp_path / "alice.pcapng"

    def capture(*argv: str) -> tuple[str, str]:
        command = [ZOS, "lab", "pcap", "alice-home", "--count", "40", *argv]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            until(lambda: reaches_bob(five) and running.poll() is not None, "no packets")
            out, err = running.communicate()
            assert (running.returncode, err) == (0, "40 packets\n"), err
        return out, err

    lines = capture()[0].splitlines()
    assert len(lines) == 40  # of which end is chance: whichever was read first
    assert any("icmp" in line for line in lines)
    shown = [json.loads(line) for line in capture("--json")[0].splitlines()]
    pings = [each for each in shown if each["protocol"] == "icmp"]
    assert pings
    assert {each["way"] for each in pings} <= {"in", "out"}
    assert capture("-w", str(kept))[0] == ""
    content = kept.read_bytes()
    assert content.startswith(b"\x0a\x0d\x0d\x0a")
    assert content.count(b"alice:eth0") == 1
    again = five("pcap", "alice", "--duration", "100ms", "-w", str(kept))
    assert (again.returncode, again.stderr) == (
        Exit.CONFLICT,
        f"zos: {kept} is there already (add --force, or choose another)\n",
    )
    assert kept.read_bytes() == content
    assert five("pcap", "bob", "--duration", "100ms", "--force", "-w", str(kept)).returncode == 0
    assert kept.read_bytes().count(b"bob:eth0") == 1

    refused = five("pcap", "alise-home")
    assert (refused.returncode, "alice-home" in refused.stderr) == (2, True)
    assert five("pcap", "alice", "--duration", "10").returncode == 2


def test_a_capture_ends_with_its_lab_or_when_it_is_asked_to(five: Lab, root: Path) -> None:
    def started() -> subprocess.Popen[str]:  # LAB-272
        process = subprocess.Popen(
            [ZOS, "lab", "pcap", "bob", "-w", str(root / "bob.pcapng")],
            stderr=subprocess.PIPE,
            text=True,
        )
        until((root / "bob.pcapng").exists, "no capture")
        return process

    with started() as asked:
        asked.send_signal(signal.SIGINT)
        assert asked.wait(PATIENCE_S) == 0
        assert asked.communicate()[1].endswith("packets\n")
    (root / "bob.pcapng").unlink()
    with started() as outlived:
        assert five("down").returncode == 0
        assert outlived.wait(PATIENCE_S) == 0
    (root / "bob.pcapng").unlink()


def test_nodes_lose_their_power_and_get_it_back(root: Path, file: Path) -> None:  # LAB-252
    run_it = 'run = [["sh", "-c", "echo started >> /var/lib/zos/turns; exec sleep 4711"]]'
    file.write_text(FIVE.replace("[node.bob]", f"[node.bob]\n{run_it}"))
    assert run("up", str(file)).returncode == 0

    def state() -> str:
        return str(answer("status")["nodes"][2]["state"])

    def turns() -> str:
        return run("exec", "bob", "--", "cat", "/var/lib/zos/turns").stdout

    assert run("pause", "bob").stdout == "bob is paused\n"
    assert state() == "paused"
    assert run("resume", "bob").returncode == 0
    assert state() == "running"
    assert reaches_bob(run)
    assert run("kill", "bob").stdout == "bob has lost its power\n"
    assert run("kill", "bob").returncode == 0
    assert state() == "dead"
    assert not reaches_bob(run, within_s=SILENCE_S)
    assert run("exec", "bob", "--", "true").returncode != 0
    assert answer("restart", "bob") == {"schema": 1, "node": "bob", "verb": "restart"}
    assert state() == "running"
    assert reaches_bob(run)
    until(lambda: turns() == "started\nstarted\n", "what runs on it is started again")
    assert run("restart", "bobb").returncode == Exit.USAGE
    told = [event["text"] for event in answer("events")["events"] if event["kind"] == "node"]
    assert told[0] == "is paused"
    assert told[-1] == "has been started again"


def test_a_command_has_our_streams_and_its_exit_code_is_ours(five: Lab) -> None:  # LAB-248
    done = five(
        "exec", "bob", "--", "sh", "-c", "hostname; cat; echo no >&2; exit 7", stdin="typed"
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "bob\ntyped", "no\n")

    found = json.loads(five("exec", "--json", "bob", "--", "sh", "-c", "kill -TERM $$").stdout)
    assert found == {"schema": 1, "node": "bob", "exit_code": 128 + signal.SIGTERM}

    wrong = five("exec", "bobb", "--", "true")
    assert wrong.returncode == Exit.USAGE
    assert "did you mean 'bob'?" in wrong.stderr


def test_exec_ends_as_a_shell_does_when_nothing_starts(five: Lab, tmp_path: Path) -> None:
    """LAB-248: 127 for what is not there, 126 for what nobody may run; the words are a person's."""
    locked, script = tmp_path / "locked", tmp_path / "script"
    locked.write_text("#!/bin/true\n")
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    for program, code, words in (
        ("nonesuch", 127, "not found"),
        ("/no/such", 127, "No such file or directory"),
        (str(script), 127, "No such file or directory"),
        (str(locked), 126, "Permission denied"),
        ("/usr", 126, "Permission denied"),
    ):
        done = five("exec", "bob", "--", program)
        assert (done.returncode, done.stdout) == (code, ""), program
        assert done.stderr == f"zos: bob: {program}: {words}\n"
    assert json.loads(five("exec", "--json", "bob", "--", "nonesuch").stdout)["exit_code"] == 127
    in_path = subprocess.run(
        [ZOS, "lab", "exec", "bob", "--", "locked"],
        env={**os.environ, "PATH": f"{tmp_path}:/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (in_path.returncode, in_path.stderr) == (126, "zos: bob: locked: not executable\n")
    shell = subprocess.run(
        [ZOS, "lab", "shell", "bob"],
        env={**os.environ, "SHELL": "/no/shell"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shell.returncode, shell.stdout) == (127, "")
    assert shell.stderr == "zos: bob: /no/shell: No such file or directory\n"


def test_exec_in_a_netns_that_is_not_there_says_so(five: Lab) -> None:  # LAB-241
    for command in (
        ["exec", "--netns", "x", "bob", "--", "true"],
        ["shell", "--netns", "x", "bob"],
    ):
        done = five(*command)
        assert done.returncode == Exit.USAGE
        assert done.stderr == "zos: netns: bob has no netns 'x' (it has none of its own)\n"


def test_signals_reach_a_command_that_does_not_outlive_us(five: Lab) -> None:  # LAB-248
    script = "trap 'echo heard; exit 3' INT; echo ready; while :; do sleep 0.05; done"
    argv = [ZOS, "lab", "exec", "bob", "--", "sh", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "ready\n"
        asking.send_signal(signal.SIGINT)
        assert asking.stdout.readline() == "heard\n"
        assert asking.wait(PATIENCE_S) == 3

    def sleepers() -> list[str]:
        listed = five("exec", "bob", "--", "ps", "ax", "-o", "args").stdout.splitlines()
        return [line for line in listed if line.startswith("sleep 4711")]

    argv = [ZOS, "lab", "exec", "bob", "--", "sh", "-c", "sleep 4711 & echo ready; wait"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "ready\n"
        assert sleepers()
        asking.kill()
        until(lambda: not sleepers(), "a command outlives the one that started it")


def test_a_shell_has_a_terminal_of_its_own(five: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """LAB-248"""
    monkeypatch.setenv("SHELL", "/bin/sh")
    ours, theirs = pty.openpty()
    argv = [ZOS, "lab", "shell", "carol"]
    script = b"tty && hostname; (: </dev/tty) && echo con''trolled; exit 5\n"
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs) as shell:
        os.close(theirs)
        os.write(ours, script)
        said = b"".join(iter(lambda: read_terminal(ours), b""))
        assert shell.wait(PATIENCE_S) == 5, said
    os.close(ours)
    assert b"/dev/pts/" in said
    assert b"carol" in said
    assert b"controlled" in said


def read_terminal(terminal: int) -> bytes:
    """Something that was written there; nothing when nobody has it open any more."""
    ready, _, _ = select.select([terminal], [], [], PATIENCE_S)
    assert ready, "nothing is said"
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def test_a_name_is_taken_until_its_lab_is_down(five: Lab, file: Path) -> None:  # LAB-242
    second = five("up", str(file))
    assert second.returncode == Exit.CONFLICT
    assert "zos lab down five" in second.stderr

    assert five("up", str(file), "--name", "second").returncode == 0
    assert {each["name"] for each in answer("ls")["labs"]} == {"five", "second"}
    assert five("status").returncode == Exit.USAGE
    assert five("down", "second").returncode == 0
    assert five("status").returncode == 0


def test_logs_events_and_state_can_be_kept(five: Lab, root: Path) -> None:  # LAB-246
    assert five("exec", "bob", "--", "touch", "/var/lib/zos/mark").returncode == 0
    assert five("down", "--keep").returncode == 0

    (kept,) = (root / places.KEPT).iterdir()
    assert (kept / "bob/state/mark").exists()
    last = json.loads((kept / "events.jsonl").read_text().splitlines()[-1])
    assert last["kind"] == "end"
    assert len(json.loads(run("gc", "--kept", "--json").stdout)["removed"]) == 1


@pytest.mark.parametrize("victim", ["pid", "keeper_pid"])
def test_nothing_is_left_when_either_half_is_killed(
    five: Lab, root: Path, file: Path, victim: str
) -> None:
    """LAB-245"""
    found = answer("status")
    with subprocess.Popen(
        [ZOS, "lab", "exec", "bob", "--", "sh", "-c", "echo ready; exec sleep 4711"],
        stdout=subprocess.PIPE,
        text=True,
    ) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline() == "ready\n"
        os.kill(found[victim], signal.SIGKILL)
        assert asking.wait(PATIENCE_S) != 0
    for pid in (found["pid"], found["keeper_pid"]):
        until(lambda pid=pid: is_gone(pid), f"process {pid} is left")
    until(lambda: not processes_of(root), "processes are left")

    if victim == "pid":
        assert answer("ls")["labs"][0]["state"] == "dead"
        assert run("status").returncode == Exit.NOT_HEALTHY
        # Whoever wants the name has it; what is left is no obstacle.
        assert run("up", str(file)).returncode == 0
        os.kill(answer("status")["pid"], signal.SIGKILL)
        until(lambda: not processes_of(root), "processes are left")
        assert answer("gc")["removed"]
    until(lambda: not list(root.glob("*")), "files are left")


def test_a_supervisor_that_nobody_can_reach_is_found(five: Lab, root: Path) -> None:  # LAB-246
    pid = answer("status")["pid"]
    shutil.rmtree(root / "five")

    assert answer("ls")["labs"] == []
    removed = answer("gc")["removed"]
    assert [(each["kind"], each["what"]) for each in removed] == [("supervisor", f"process {pid}")]
    until(lambda: not processes_of(root), "processes are left")


def test_a_supervisor_is_found_also_when_its_name_is_another_lab_s(  # LAB-246
    five: Lab, root: Path, file: Path
) -> None:
    lost = answer("status")["pid"]
    shutil.rmtree(root / "five")
    assert five("up", str(file)).returncode == 0
    heir = answer("status")["pid"]

    found = answer("gc")

    assert [each["what"] for each in found["removed"]] == [f"process {lost}"]
    assert found["up"] == ["five"]
    until(lambda: is_gone(lost), "the lost one is left")
    assert answer("status")["pid"] == heir


def test_a_supervisor_that_was_stopped_is_woken_to_end_its_lab(  # LAB-242
    five: Lab, root: Path
) -> None:
    os.kill(answer("status")["pid"], signal.SIGSTOP)
    assert five("down").returncode == 0
    until(lambda: not processes_of(root), "processes are left")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_up_is_the_end_of_what_it_builds(
    root: Path, file: Path, number: signal.Signals
) -> None:
    """LAB-245"""
    file.write_text(FIVE.replace("[node.dora]", "[node.dora]\ncount = 40"))
    argv = [ZOS, "lab", "up", str(file), "--foreground"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as up:
        until((root / "five/work/keeper.log").exists, "no lab is begun")
        up.send_signal(number)
        code = up.wait(PATIENCE_S)
    assert code in (Exit.INTERRUPTED, -number)
    until(lambda: not processes_of(root), "processes are left")
    until(lambda: not list(root.glob("*")), "files are left")


def test_a_lab_that_cannot_come_up_says_why_and_leaves_nothing(root: Path, tmp_path: Path) -> None:
    """LAB-245"""
    file = tmp_path / "lonely.lab.toml"
    file.write_text('name = "lonely"\n[node.n1]\nrun = [["nonesuch"]]\n')
    done = run("up", str(file))
    assert done.returncode == Exit.UNAVAILABLE
    assert "nonesuch" in done.stderr
    assert processes_of(root) == []
    assert list(root.glob("*")) == []


def test_nat_says_what_a_router_does_beside_what_it_should(five):  # LAB-321
    done = five("nat", "home", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["ipv4"] == found["declared"]
    assert found["ipv6"]["mapping"] == "none"
    assert "did you mean 'home'" in five("nat", "hom").stderr
    assert "endpoint-independent" in five("nat", "home").stdout


def test_shell_ends_with_its_input_and_exec_needs_no_directory(five, tmp_path):  # LAB-248
    assert five("shell", "alice", stdin="").returncode == 0
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"rmdir {gone}; exec {ZOS} lab exec alice -- pwd"
    done = subprocess.run(
        ["sh", "-c", script],
        check=False,
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stdout) == (0, "/\n"), done.stderr


@pytest.mark.usefixtures("root")
def test_a_bench_says_what_labs_take_and_leaves_none() -> None:  # LAB-255
    found = answer("bench", "--shape", "chain", "--nodes", "3", "--nodes", "4", "--rounds", "1")
    assert found["rounds"] == 1
    assert [(each["lab"], each["nodes"]) for each in found["labs"]] == [("chain", 3), ("chain", 4)]
    for each in found["labs"]:
        assert each["processes"] == 2  # supervisor and keeper: a node is none before it is used
        assert min(each[name] for name in ("up_s", "down_s", "cpu_s", "command_ms")) > 0
        assert each["memory_kib"] > 1024
    assert answer("ls")["labs"] == []


def test_a_bench_of_a_file_keeps_to_its_name_or_to_another(five: Lab, file: Path) -> None:
    """LAB-255"""
    refused = five("bench", str(file))
    assert refused.returncode == Exit.CONFLICT
    assert "--name" in refused.stderr
    done = five("bench", str(file), "--rounds", "1", "--name", "other")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:2] == ["five", "5"]
    assert [each["name"] for each in answer("ls")["labs"]] == ["five"]


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGKILL, -9)]
)
def test_the_end_of_a_bench_is_the_end_of_its_lab(
    root: Path, number: signal.Signals, expected: int
) -> None:
    """LAB-255"""
    argv = [ZOS, "lab", "bench", "--shape", "star", "--nodes", "40", "--rounds", "100"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as bench:
        until(lambda: list(root.glob("bench-star-40-*/*/keeper.log")), "no lab is begun")
        bench.send_signal(number)
        assert bench.wait(PATIENCE_S) == expected
    until(lambda: not processes_of(root), "processes are left")
    until(lambda: not list(root.glob("*")), "files are left")
