"""A command that sees files of its own (DNS-030)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from overlay.errors import Unavailable
from overlay.netns import mounts, spawn

pytestmark = pytest.mark.usefixtures("sandbox")

TEXT = "nameserver 10.1.1.1\n"


def run(script: str, *, files: dict[str, str], hide: tuple[str, ...] = ()) -> int:
    return spawn.run_foreground(["sh", "-c", script], env=os.environ, files=files, hide=hide)


def seen(script: str, out: Path, **more: object) -> str:
    assert run(f"({script}) > {out}", **more) == 0  # type: ignore[arg-type]
    return out.read_text()


def mounts_here() -> str:
    return Path("/proc/self/mounts").read_text()


def test_a_command_sees_its_own_file_and_the_machine_keeps_its_own(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("nameserver 192.0.2.53\n")
    conf.chmod(0o600)
    before = mounts_here()
    out = tmp_path / "out"
    assert seen(f"cat {conf}; stat -c %a {conf}", out, files={str(conf): TEXT}) == f"{TEXT}644\n"
    assert conf.read_text() == "nameserver 192.0.2.53\n"
    assert stat.S_IMODE(conf.stat().st_mode) == 0o600
    assert mounts_here() == before


def test_what_a_command_writes_to_it_is_not_written_to_the_machines(tmp_path: Path) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("ours\n")
    assert run(f"echo theirs > {conf}", files={str(conf): TEXT}) == 0
    assert conf.read_text() == "ours\n"


def test_a_link_leads_to_the_text_as_well(tmp_path: Path) -> None:
    """/etc/resolv.conf often is one."""
    target, link = tmp_path / "stub", tmp_path / "resolv.conf"
    target.write_text("ours\n")
    link.symlink_to(target)
    assert seen(f"cat {link}", tmp_path / "out", files={str(link): TEXT}) == TEXT
    assert target.read_text() == "ours\n"


def test_nobody_answers_at_a_socket_that_is_hidden(tmp_path: Path) -> None:
    hidden = tmp_path / "socket"
    hidden.write_text("ours\n")
    script = f"test -c {hidden} && echo nothing"
    assert seen(script, tmp_path / "out", files={}, hide=(str(hidden),)) == "nothing\n"


def test_what_is_not_there_is_left_out(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert run(f"test ! -e {absent}", files={absent: TEXT}, hide=(absent,)) == 0


def test_a_command_does_not_start_without_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "resolv.conf"
    conf.write_text("ours\n")
    monkeypatch.setattr(mounts, "_SCRATCH", "/absent")
    with pytest.raises(Unavailable, match="files of its own"):
        run(f"echo started > {conf}", files={str(conf): TEXT})
    assert conf.read_text() == "ours\n"
