"""Each rule catches the violation it is for, and lets its honest neighbour pass."""

from __future__ import annotations

import pytest

from tests.arch import rules
from tests.arch.rules import Source

PURE = '"""Decides."""\n'


def impurities(source: Source) -> list[str]:
    return list(rules.impurities(source, shell=frozenset({"overlay.netns.apply"})))


VIOLATIONS = [
    (impurities, "import time"),
    (impurities, "from os import path"),
    (impurities, "def f():\n    import logging"),
    (impurities, "import socket as s"),
    (impurities, "from overlay.netns.apply import apply"),
    (impurities, "from overlay.netns import apply"),
    (impurities, "from datetime import datetime\nx = datetime.now()"),
    (impurities, "import datetime\nx = datetime.datetime.now(datetime.UTC)"),
    (impurities, "text = open('x').read()"),
    (impurities, "async def f():\n    await g()"),
    (rules.kernel_doors, "from pyroute2.netlink import nla"),
    (rules.kernel_doors, "def f():\n    import pyroute2"),
    (rules.process_starts, "import subprocess\nsubprocess.run(['ip'])"),
    (rules.process_starts, "from subprocess import Popen\nPopen(['ip'])"),
    (rules.process_starts, "import os\nos.execvp('ip', ['ip'])"),
    (rules.process_starts, "from asyncio import create_subprocess_exec as x\nx('ip')"),
    (rules.shells, "import subprocess\nsubprocess.run('ip link', shell=True)"),
    (rules.shells, "import subprocess\nsubprocess.run('ip link', shell=flag)"),
    (rules.shells, "import os\nos.system('ip link')"),
    (rules.orphan_tasks, "import asyncio\nasyncio.create_task(f(), name='x')"),
    (rules.orphan_tasks, "from asyncio import ensure_future\nensure_future(f())"),
    (rules.orphan_tasks, "loop.create_task(f(), name='x')"),
    (rules.orphan_tasks, "async with TaskGroup() as tg:\n    tg.create_task(f())"),
    (rules.banned_words, "class PeerManager: ..."),
    (rules.banned_words, "def handle_event(): ..."),
    (rules.banned_words, "async def process_peers(): ..."),
    (rules.banned_words, "allowed_cidr = 1"),
    (rules.banned_words, "class Peer:\n    info: str"),
    (rules.missing_docstring, "x = 1"),
    (rules.open_compares, "ok = given.password == stored.password"),
    (rules.open_compares, "ok = token != known"),
    (rules.open_compares, "ok = a.reveal() == b.reveal()"),
    (rules.secret_leaks, "text = f'key {key.reveal()}'"),
    (rules.secret_leaks, "log.info('key', extra={'key': key.reveal()})"),
    (rules.secret_leaks, "import subprocess\nsubprocess.run(['wg', key.reveal()])"),
    (rules.key_types, "class Key:\n    def reveal(self): ..."),
    (
        rules.key_types,
        "class Key:\n    __slots__ = ()\n    def reveal(self): ...\n    def __repr__(self): ...",
    ),
    (
        rules.key_types,
        (
            "@dataclass\nclass Key:\n    __slots__ = ()\n    def reveal(self): ...\n"
            "    def __repr__(self): ...\n    def __reduce__(self): ..."
        ),
    ),
]

HONEST = [
    (impurities, "from datetime import datetime\nfrom http import HTTPStatus"),
    (impurities, "from overlay.netns.plan import plan"),
    (impurities, "class P(Protocol):\n    async def read(self): ..."),
    (rules.process_starts, "import os\nos.open('x', 0)\nos.path.exists('x')"),
    (rules.shells, "import subprocess\nsubprocess.run(['ip'], shell=False)"),
    (rules.shells, "loop = NodeLoop(shell=machine)"),
    (rules.orphan_tasks, "tg.create_task(f(), name='x')"),
    (rules.banned_words, "class LabProcess: ...\ndef handled(): ...\ninformation = 1"),
    (rules.open_compares, "ok = hmac.compare_digest(token, known)\nok = link.mac == other.mac"),
    (rules.open_compares, "ok = token == ''"),
    (rules.secret_leaks, "text = f'key {key.public}'\nseed = derive(key.reveal())"),
    (
        rules.key_types,
        (
            "@final\nclass Key:\n    __slots__ = ('_raw',)\n    def reveal(self): ...\n"
            "    def __repr__(self): ...\n    def __reduce__(self): ..."
        ),
    ),
    (rules.key_types, "class Secret(Protocol):\n    def reveal(self): ..."),
]


@pytest.mark.parametrize(("rule", "text"), VIOLATIONS)
def test_rule_catches(rule, text: str) -> None:
    assert list(rule(Source("overlay.seeded", text)))


@pytest.mark.parametrize(("rule", "text"), HONEST)
def test_rule_lets_pass(rule, text: str) -> None:
    assert list(rule(Source("overlay.honest", PURE + text))) == []


def test_banned_module_name_is_caught() -> None:
    assert list(rules.banned_words(Source("overlay.netns.utils", PURE)))
