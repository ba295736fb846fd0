"""What dead labs have left is removed; what lives, and what was kept, stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from netlab.supervisor import places
from overlay.errors import Conflict, Refused, Rejected, Unavailable
from tests.netlab.cli.conftest import Lab
from zos_core.cli.exits import Exit


def leave_behind(name: str) -> places.Place:
    """As a supervisor that was killed does: the kernel has let go of its lock."""
    place = places.place_of(name)
    (place.workdir / "alice/state").mkdir(parents=True)
    place.lock.touch()
    place.control.touch()
    (place.workdir / "keeper.log").write_text("words\n")
    return place


@pytest.fixture(autouse=True)
def private(root: Path) -> None:
    places.open_root()


def test_dead_labs_are_removed_and_living_ones_stay(lab: Lab, root: Path) -> None:  # LAB-246
    dead, living = leave_behind("dead"), leave_behind("living")
    with places.taken(living):
        assert lab("ls", "--json").json["labs"][0]["state"] == "dead"
        found = lab("gc", "--json").json
        assert found["up"] == ["living"]
        assert {each["lab"] for each in found["removed"]} == {"dead"}
        assert not dead.directory.exists()
        assert (living.workdir / "keeper.log").exists()
        assert "nothing was left" in lab("gc").out
    lab("gc")
    assert list(root.iterdir()) == []


def test_what_was_kept_goes_when_it_is_asked_for(lab: Lab) -> None:  # LAB-246
    place = leave_behind("kept-one")
    with places.taken(place) as lock:
        aside = [places.keep(place, now=0.0)]
        place.workdir.mkdir()
        aside.append(places.keep(place, now=0.0))
        places.clear(place, lock)

    assert [path.name for path in aside] == [
        "kept-one-19700101-000000",
        "kept-one-19700101-000000-2",
    ]
    assert "nothing was left" in lab("gc").out
    assert (aside[0] / "keeper.log").exists()
    assert len(lab("gc", "--kept", "--json").json["removed"]) == 2
    assert places.list_kept() == []


def test_what_was_half_removed_is_removed(lab: Lab, root: Path) -> None:  # LAB-246
    (root / places.GONE / "one/work/alice").mkdir(parents=True)
    assert lab("ls").out == "no lab is up\n"
    assert str(root / places.GONE / "one") in lab("gc").out
    assert list(root.iterdir()) == []


def test_work_directories_of_another_root_are_found(  # LAB-246
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(places.ROOT_VARIABLE)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    # After a power cut what was below the runtime directory is gone.
    stale = tmp_path / "state/zos-lab/stale"
    stale.mkdir(parents=True)

    assert str(stale) in lab("gc").out
    assert not stale.exists()


def test_a_name_is_one_lab_s_until_its_lock_is_free(root: Path) -> None:  # LAB-242
    place = places.place_of("one")
    with places.taken(place):
        assert places.is_alive(place)
        assert places.is_alive(place), "asking must not take it"
        with pytest.raises(Conflict, match="zos lab down one"):
            places.take(place)
    assert not places.is_alive(place)


def test_a_lab_that_has_ended_removes_nothing_of_its_heir() -> None:  # LAB-242
    place = places.place_of("one")
    with places.taken(place) as ended:
        places.clear(place, ended)
        with places.taken(place) as heir:
            place.workdir.mkdir()
            assert places.clear(place, ended) == []
            assert place.workdir.exists()
            assert places.clear(place, heir) == [place.directory]
            assert not place.directory.exists()
            assert places.list_gone() == []


@pytest.mark.parametrize("name", ["", "..", "a/b", "UP", "-a", "a" * 64, ".kept"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(Rejected):
        places.place_of(name)


def test_a_root_that_others_may_write_is_refused(root: Path) -> None:  # LAB-242
    root.chmod(0o770)
    with pytest.raises(Refused, match="this user's alone"):
        places.take(places.place_of("one"))


def test_a_full_disk_leaves_nothing_and_is_told(  # LAB-253
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = leave_behind("five")

    def no_room(*_: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with places.taken(place) as lock:
        monkeypatch.setattr(places, "_put_aside", no_room)
        places.clear(place, lock)
    assert not place.directory.exists()

    place.lock.mkdir(parents=True)  # nor can it be opened on a disk that is read only
    with pytest.raises(Unavailable, match="Is a directory") as told:
        places.take(place)
    assert told.value.remedy is not None
    assert places.ROOT_VARIABLE in told.value.remedy


@pytest.mark.parametrize(
    "command",
    ["ls", "gc", "gc --kept", "status", "down five", "down --all", "exec alice -- true", "logs"],
)
def test_somebody_elses_directory_is_not_believed_nor_emptied(  # LAB-254
    lab: Lab, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As it is when another user has made /tmp/zos-lab-UID first, with a way to our files in it."""
    place = leave_behind("five")
    precious = tmp_path / "precious"
    (precious / "ours").mkdir(parents=True)
    (root / places.GONE).symlink_to(precious)
    (root / places.KEPT).symlink_to(precious)
    with places.taken(place):
        monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
        refused = lab(*command.split())
    assert refused.code == Exit.REFUSED
    assert "is not a directory that is this user's alone" in refused.err
    assert (precious / "ours").exists()
    assert place.workdir.exists()


def test_a_directory_that_others_may_enter_is_refused(lab: Lab, root: Path) -> None:  # LAB-254
    root.chmod(0o710)
    assert lab("ls").code == Exit.REFUSED
    root.chmod(0o700)
    assert lab("ls").code == Exit.OK
