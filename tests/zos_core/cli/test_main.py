from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from overlay.errors import Conflict, Diverged, Refused, Rejected, Unavailable
from tests.zos_core.cli.conftest import FakeNode, Zos
from zos_core.cli import root as command_line
from zos_core.cli.command import Lazy
from zos_core.cli.exits import MEANING, Exit, NotConverged, NotRunning, exit_of
from zos_core.cli.main import main
from zos_core.cli.root import COMMANDS, root


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Path and command, of all that are not groups."""

    def walk(path: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
        if not isinstance(command, click.Group):
            yield path, command
            return
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from walk(f"{path} {name}".strip(), inner)

    yield from walk("", root)


ALL = dict(every_command())


@pytest.mark.parametrize("path", ALL)
def test_help_has_examples_that_start_with_the_command(path: str, zos: Zos) -> None:
    shown = zos(*path.split(), "--help")

    assert shown.code == 0
    examples = shown.out.partition("Examples:")[2]
    assert f"zos {path}" in examples


@pytest.mark.parametrize("path", ALL)
def test_every_command_takes_json(path: str) -> None:  # CLI-010
    assert any("--json" in parameter.opts for parameter in ALL[path].params)


def test_commands_of_the_issue_are_there() -> None:
    expected = """
        id new|id show|id seal|registry serve|farm create|farm add-node|farm show|node run
        |node status|node clean|network create|network add-node|network remove-node|network invite
        |network access|network show|network plan|network diff|network delete|join|attach|detach
        |exec|status|ping|why|wait|doctor|completion
    """
    assert {name.strip() for name in expected.split("|")} <= ALL.keys()


def test_summaries_in_the_root_are_those_of_a_real_command() -> None:
    for name, entry in COMMANDS.items():
        command = root.get_command(click.Context(root), name)
        assert command is not None
        assert command.name == name
        assert entry.summary.endswith(".")


def test_help_imports_no_part_of_the_product() -> None:  # CLI-016
    code = (
        "import sys; sys.argv = ['zos', '--help']\n"
        "from zos_core.cli.main import main; main()\n"
        "print(*sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = set(ran.stdout.rpartition("\n\n")[2].split()) | set(ran.stdout.split())
    assert "zos_core.cli.main" in loaded
    assert not loaded & {"aiohttp", "nacl", "msgspec", "pyroute2", "rich", "overlay.model"}


@pytest.mark.parametrize(
    ("argv", "nearest"),
    [(("netwrok",), "network"), (("network", "crate"), "create"), (("stats",), "status")],
)
def test_mistyped_command_names_the_nearest(
    argv: tuple[str, ...], nearest: str, zos: Zos
) -> None:  # CLI-013
    ran = zos(*argv)

    assert ran.code == Exit.USAGE
    assert f"did you mean {nearest}?" in ran.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotRunning("x"), 1),
        (Rejected("x"), 2),
        (NotConverged("x"), 3),
        (Diverged("x"), 3),
        (Refused("x"), 4),
        (Conflict("x"), 5),
        (Unavailable("x"), 6),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("x"), 2),
        (BrokenPipeError(), 0),
        (ExceptionGroup("tasks", [ExceptionGroup("tasks", [Conflict("x")])]), 5),
    ],
)
def test_what_went_wrong_has_its_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:  # CLI-011
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(root, "main", fail)
    monkeypatch.setattr(command_line.os, "dup2", lambda *_: None)

    assert main(["status"]) == code


def test_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExceptionGroup("tasks", [ValueError("a bug")])

    monkeypatch.setattr(root, "main", fail)

    with pytest.raises(ExceptionGroup):
        main(["status"])


def test_every_exit_code_has_a_meaning_that_help_prints(zos: Zos) -> None:
    shown = zos("help", "exit-codes").out

    for code in Exit:
        assert f"{int(code):>3}  " in shown
        assert MEANING[code] in shown
    assert exit_of(Refused("x")) is Exit.REFUSED


def test_error_is_one_sentence_with_field_and_remedy(zos: Zos) -> None:  # CLI-012
    ran = zos("network", "show", "home", "--json")

    assert ran.code == Exit.USAGE
    error = ran.json["error"]
    assert error.keys() == {"code", "message", "field", "remedy"}
    assert "zos network create home" in error["remedy"]
    assert ran.err.count("\n") == 1
    assert ran.err.startswith("zos: ")


def test_usage_error_is_json_too(zos: Zos) -> None:  # CLI-012
    ran = zos("network", "create", "--json")

    assert (ran.code, ran.json["error"]["code"]) == (2, "usage")


def test_json_after_double_dash_is_somebody_elses(zos: Zos) -> None:
    assert zos("ping", "--", "--json").out == ""


@pytest.mark.parametrize(
    "argv",
    [
        ("status",),
        ("node", "status"),
        ("node", "rotate"),
        ("why", "a", "b"),
        ("ping", "a"),
        ("attach", "home", "w", "--pid", "1"),
        ("detach", "home", "w"),
    ],
)
def test_without_a_node_commands_say_how_to_start_one(argv: tuple[str, ...], zos: Zos) -> None:
    ran = zos(*argv)

    assert ran.code == Exit.NOT_HEALTHY
    assert "no node runs on this machine (start it: " in ran.err


def test_prose_goes_to_standard_error_with_json(zos: Zos, node: FakeNode) -> None:  # CLI-010
    for argv in (("status",), ("node", "status"), ("why", "a", "b"), ("wait",)):
        assert zos(*argv, "--json").json


PLUGIN = {"lab": Lazy("zos_core.cli.help:help_", "Do what plugins do.", "Plugins")}


def test_plugins_add_commands(monkeypatch: pytest.MonkeyPatch, zos: Zos) -> None:
    from importlib.metadata import EntryPoint

    point = EntryPoint("lab", f"{__name__}:PLUGIN", "zos.commands")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [point])
    monkeypatch.setattr(root, "_plugins", None)

    shown = zos("--help").out
    assert "Plugins:" in shown
    assert "Do what plugins do." in shown
    assert zos("lab", "exit-codes").code == 0


# click-man 0.6 calls what click 8.5 deprecates.
@pytest.mark.filterwarnings("ignore:'click.utils.make_default_short_help':DeprecationWarning")
def test_man_pages_cover_every_command(tmp_path: Path) -> None:
    from click_man.core import write_man_pages

    write_man_pages("zos", root, target_dir=str(tmp_path))

    pages = {page.stem for page in tmp_path.iterdir()}
    assert {f"zos-{path.replace(' ', '-')}" for path in ALL} <= pages
    assert "3 not converged" in (tmp_path / "zos.1").read_text()  # CLI-011


@pytest.mark.parametrize(
    ("argv", "module"),
    [
        (("--version",), "click.types"),
        (("--version",), "click.core"),
        (("lab", "ls"), "zos_core.cli.command"),
        (("lab", "up", "01-first-lab"), "msgspec"),
        (("lab", "up", "01-first-lab"), "netlab.topology"),
        (("registry", "serve"), "asyncio.events"),
    ],
)
def test_ctrl_c_while_it_imports_ends_it_with_one_line(  # CLI-012
    argv: tuple[str, ...], module: str, tmp_path: Path
) -> None:
    """At the moment when it says that a module is there, and others are still to come."""
    environment = {
        **os.environ,
        "PYTHONPROFILEIMPORTTIME": "1",
        "ZOS_LAB_DIR": str(tmp_path),
        "HOME": str(tmp_path),
    }
    with subprocess.Popen(
        [str(Path(sys.executable).parent / "zos"), *argv],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
        bufsize=1,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.rpartition("|")[2].strip() == module:
                break
        else:
            pytest.fail(f"{module} was not imported")
        process.send_signal(signal.SIGINT)
        said = [line for line in process.stderr if not line.startswith(("import time:", "\n"))]
    assert said == ["zos: interrupted\n"]
    assert process.returncode == Exit.INTERRUPTED
