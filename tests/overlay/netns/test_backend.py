from __future__ import annotations

from pathlib import Path

import pytest

from overlay.errors import Rejected, Unavailable
from overlay.netns import backend

pytestmark = pytest.mark.blocking  # it starts the binaries that it finds

OLD, NEW = "0.0.20220316", "0.0.20230223"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without WireGuard in the kernel, and nothing installed."""
    monkeypatch.setattr(backend, "why_unavailable", lambda: "Operation not supported")
    monkeypatch.setattr(backend, "_USUAL_DIRS", ())


async def test_kernel_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # WGD-014
    install(tmp_path, NEW)
    monkeypatch.setattr(backend, "why_unavailable", lambda: None)
    choice = await backend.choose({"PATH": str(tmp_path)})
    assert (choice.wireguard.name, choice.remedy) == ("kernel", None)


async def test_a_setting_comes_before_the_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # WGD-014
    install(tmp_path, NEW)
    monkeypatch.setattr(backend, "why_unavailable", lambda: None)
    settings = {"PATH": str(tmp_path), backend.BACKEND_SETTING: "wireguard-go"}
    choice = await backend.choose(settings)
    assert choice.wireguard.name == "wireguard-go"
    assert backend.BACKEND_SETTING in choice.reason


async def test_the_newest_wireguard_go_is_taken(tmp_path: Path) -> None:  # WGD-014
    for folder, version in (("a", OLD), ("b", NEW), ("c", "0.0.20210424")):
        install(tmp_path / folder, version)
    path = ":".join(str(tmp_path / folder) for folder in "abc")
    choice = await backend.choose({"PATH": path})
    assert f"{NEW} at {tmp_path}/b/wireguard-go" in choice.reason
    assert "Operation not supported" in choice.reason
    assert choice.remedy is None


async def test_an_old_wireguard_go_is_used_and_a_newer_one_suggested(tmp_path: Path) -> None:
    # WGD-014
    install(tmp_path, OLD)
    choice = await backend.choose({"PATH": str(tmp_path)})
    assert OLD in choice.reason
    assert choice.remedy == backend.MENDED_REMEDY


async def test_a_named_binary_is_taken_whatever_else_is_there(tmp_path: Path) -> None:
    install(tmp_path / "a", NEW)
    named = install(tmp_path / "b", OLD)
    settings = {"PATH": str(tmp_path / "a"), backend.BINARY_SETTING: str(named)}
    assert str(named) in (await backend.choose(settings)).reason


async def test_one_binary_under_two_names_is_found_once(tmp_path: Path) -> None:
    install(tmp_path / "usr", NEW)
    (tmp_path / "bin").symlink_to(tmp_path / "usr")
    path = f"{tmp_path}/bin:{tmp_path}/usr:/absent:"
    assert len(await backend.find_binaries({"PATH": path})) == 1


@pytest.mark.parametrize("script", ["exit 1", "echo something else", "echo wireguard-go vnext"])
async def test_what_does_not_tell_its_version_is_passed_over(tmp_path: Path, script: str) -> None:
    write_script(tmp_path / "wireguard-go", script)
    assert await backend.find_binaries({"PATH": str(tmp_path)}) == ()
    with pytest.raises(Unavailable, match="no wireguard-go"):
        await backend.choose({"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (backend.BACKEND_SETTING, "boringtun"),
        (backend.BACKEND_SETTING, "kernel"),
        (backend.BINARY_SETTING, "/absent"),
        (backend.BINARY_SETTING, "/bin/true"),
    ],
)
async def test_a_setting_that_cannot_be_followed_is_rejected_by_name(name: str, value: str) -> None:
    with pytest.raises(Rejected) as refused:
        await backend.choose({name: value})
    assert refused.value.field == name


def install(folder: Path, version: str) -> Path:
    folder.mkdir(exist_ok=True)
    return write_script(folder / "wireguard-go", f"echo wireguard-go v{version}")


def write_script(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path
