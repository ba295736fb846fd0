"""The tree keeps the rules of tests/arch/rules.py, and every module has said what it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.arch import rules
from tests.arch.modules import (
    CONSUMERS,
    KEY_WRITER,
    PROCESS_STARTERS,
    PURE,
    SHELL,
    SOURCES,
    VOCABULARY,
)
from tests.arch.rules import Source

Rule = Callable[[Source], Iterator[str]]


def complaints(rule: Rule, sources: list[Source]) -> list[str]:
    return [complaint for source in sources for complaint in rule(source)]


@pytest.mark.parametrize(
    "rule",
    [
        rules.banned_words,
        rules.key_types,
        rules.missing_docstring,
        rules.open_compares,
        rules.orphan_tasks,
        rules.shells,
    ],
)
def test_every_module_keeps(rule: Rule) -> None:
    assert complaints(rule, SOURCES) == []


def test_pure_modules_have_no_io_clock_chance_or_log() -> None:
    pure = [
        source for source in SOURCES if source.name.startswith(PURE) and source.name not in SHELL
    ]
    found = complaints(lambda source: rules.impurities(source, shell=SHELL), pure)
    assert found == [], "decide in a pure module, or say in tests/arch/modules.py that it is shell"


def test_the_list_of_shell_modules_names_no_module_that_is_gone() -> None:
    assert {*SHELL, *PROCESS_STARTERS} - {source.name for source in SOURCES} == set()


def test_no_module_is_listed_as_shell_that_could_be_pure() -> None:
    shell = [source for source in SOURCES if source.name in SHELL]
    pure = [s.name for s in shell if not list(rules.impurities(s, shell=SHELL - {s.name}))]
    assert pure == []


def test_pyroute2_is_imported_in_one_module() -> None:
    others = [source for source in SOURCES if source.name != "overlay.netns.lean_pyroute2"]
    assert complaints(rules.kernel_doors, others) == []


def test_processes_start_in_the_spawn_modules_only() -> None:
    others = [source for source in SOURCES if source.name not in PROCESS_STARTERS]
    assert complaints(rules.process_starts, others) == []


def test_secrets_reach_no_text_log_or_process() -> None:
    others = [source for source in SOURCES if source.name != KEY_WRITER]
    assert complaints(rules.secret_leaks, others) == []


def test_storage_compute_and_blueprints_see_the_vocabulary_of_overlay_only() -> None:
    consumers = [source for source in SOURCES if source.name.startswith(CONSUMERS)]
    seen = {
        name
        for source in consumers
        for _, name in rules.imports(source)
        if name.startswith("overlay") and not name.startswith(VOCABULARY)
    }
    assert seen == set()
