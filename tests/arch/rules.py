"""The rules of the house as functions over source text: each gives what breaks it, line by line.

They look at one file at a time and never import it. What concerns imports between our own
packages is held by import-linter (pyproject.toml).
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

# Standard and third-party modules that do IO or bring in a clock, chance or a log.
IMPURE = frozenset(
    "aiohttp asyncio concurrent ctypes fcntl glob http logging mmap multiprocessing os pathlib "
    "pyroute2 random requests resource secrets select selectors shutil signal socket sqlite3 ssl "
    "subprocess sys tempfile threading time urllib uuid".split()
)
PURE_PARTS = ("urllib.parse", "http.HTTPStatus")
# Attributes by which a pure-looking module reaches a clock or the outside all the same.
IMPURE_CALLS = frozenset({"datetime.now", "datetime.utcnow", "date.today", "datetime.today"})
IMPURE_BUILTINS = frozenset({"open", "input", "print", "breakpoint", "exec", "eval"})

PROCESS_CALL = re.compile(
    r"subprocess\.(run|call|check_call|check_output|Popen|getoutput|getstatusoutput)|"
    r"os\.(system|popen|fork|forkpty|exec\w+|spawn\w+|posix_spawnp?)|pty\.(spawn|fork)|"
    r"asyncio\.create_subprocess_(exec|shell)|multiprocessing\.\w+"
)
SHELL_CALL = re.compile(
    r"os\.(system|popen)|subprocess\.get(status)?output|asyncio\.create_subprocess_shell"
)

# Words that the glossary and the house style rule out wherever they stand in a name. Words that are
# also somebody else's vocabulary (interface, ip, server, host, object) are left to the reader.
BANNED_WORDS = frozenset(
    "cidr derp helper helpers manager nic slave subnetmask turn util utils whitelist blacklist "
    "vpn".split()
)
BANNED_VERBS = frozenset("do ensure handle manage process sanitize validate".split())
BANNED_NAMES = frozenset({"data", "info", "tmp", "foo"})
# Methods that a framework calls by a name of its own.
FOREIGN_NAMES = frozenset({"handle_error"})

SECRET_WORDS = frozenset("secret secrets token tokens hmac password passphrase psk seed".split())


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Source:
    """One module: `name` is dotted, "overlay.netns.plan"; `text` is what is in the file."""

    name: str
    text: str = field(repr=False)

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    def at(self, node: ast.AST, complaint: str) -> str:
        return f"{self.name}:{getattr(node, 'lineno', 1)}: {complaint}"


def imports(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every module that is imported, wherever in the file; names of `from` imports included."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            yield from ((node, f"{module}.{alias.name}") for alias in node.names)


def calls(source: Source) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted name it is made by, imported names resolved to their origin."""
    origin = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and (name := dotted(node.func)):
            first, _, rest = name.partition(".")
            first = origin.get(first, first)
            yield node, f"{first}.{rest}" if rest else first


def dotted(node: ast.expr) -> str:
    """a.b.c of an expression; empty when it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value) or '?'}.{node.attr}"
    return ""


def impurities(source: Source, *, shell: frozenset[str]) -> Iterator[str]:
    """What makes a module impure: IO, clock, chance, logs, or a module of ours that has them."""
    for node, name in imports(source):
        if name.partition(".")[0] in IMPURE and not name.startswith(PURE_PARTS):
            yield source.at(node, f"a pure module imports {name}")
        elif name in shell or name.rpartition(".")[0] in shell:
            yield source.at(node, f"a pure module imports the shell module {name}")
    for node, name in calls(source):
        if name in IMPURE_BUILTINS or name.removeprefix("datetime.") in IMPURE_CALLS:
            yield source.at(node, f"a pure module calls {name}")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield source.at(node, "a pure module waits for nothing")


def kernel_doors(source: Source) -> Iterator[str]:
    for node, name in imports(source):
        if name.partition(".")[0] == "pyroute2":
            yield source.at(node, "pyroute2 is imported in overlay.netns.lean_pyroute2 only")


def process_starts(source: Source) -> Iterator[str]:
    for node, name in calls(source):
        if PROCESS_CALL.fullmatch(name):
            yield source.at(node, f"{name} starts a process; the spawn modules alone do")


def shells(source: Source) -> Iterator[str]:
    for node, name in calls(source):
        shell = {word.arg: word.value for word in node.keywords}.get("shell")
        asked = shell is not None and (
            is_literal(shell, value=True)
            or (PROCESS_CALL.fullmatch(name) and not is_literal(shell, value=False))
        )
        if SHELL_CALL.fullmatch(name) or asked:
            yield source.at(node, f"{name} goes through a shell")


def is_literal(node: ast.expr, *, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def orphan_tasks(source: Source) -> Iterator[str]:
    """Tasks that no TaskGroup owns, and tasks without a name."""
    for node, name in calls(source):
        if name in {"asyncio.create_task", "asyncio.ensure_future", "asyncio.gather"}:
            yield source.at(node, f"{name}: tasks live in a TaskGroup")
        elif name.endswith(".create_task"):
            owner = name.rpartition(".")[0].rpartition(".")[2]
            if "loop" in owner:
                yield source.at(node, f"{name}: tasks live in a TaskGroup")
            if not any(word.arg == "name" for word in node.keywords):
                yield source.at(node, f"{name}: a task has a name")


def banned_words(source: Source) -> Iterator[str]:
    """Names that this project defines with a word that the glossary rules out."""
    for node, name in definitions(source.tree):
        if name in FOREIGN_NAMES:
            continue
        words = [word.lower() for word in re.findall(r"[a-z]+|[A-Z][a-z]*", name)]
        for word in sorted(BANNED_WORDS.intersection(words)):
            yield source.at(node, f"{name}: the glossary has a better word than {word!r}")
        if isinstance(node, FUNCTIONS) and len(words) > 1 and words[0] in BANNED_VERBS:
            yield source.at(node, f"{name}: {words[0]!r} does not say what it does")
        if name in BANNED_NAMES:
            yield source.at(node, f"{name} says nothing")
    last = source.name.rpartition(".")[2]
    if last in BANNED_WORDS | BANNED_NAMES:
        yield source.at(source.tree, f"a module called {last!r} has no subject")


def definitions(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Functions, classes, fields and module constants: the names that others meet."""
    for node in ast.walk(tree):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            yield node, node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node, node.target.id
    for node in tree.body:
        if isinstance(node, ast.Assign):
            yield from (
                (node, target.id) for target in node.targets if isinstance(target, ast.Name)
            )


def missing_docstring(source: Source) -> Iterator[str]:
    text = ast.get_docstring(source.tree)
    if not text:
        yield source.at(source.tree, "a module says what it is for")


def open_compares(source: Source) -> Iterator[str]:
    """Secrets compared by == tell how much of a guess was right by the time it takes."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Compare):
            continue
        if not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) for side in sides):
            continue
        if any(is_secret(side) for side in sides):
            yield source.at(node, "compare secrets with hmac.compare_digest")


def is_secret(node: ast.expr) -> bool:
    """By what it is called, or by being what reveal() returned."""
    if isinstance(node, ast.Call):
        return dotted(node.func).endswith(".reveal")
    last = dotted(node).rpartition(".")[2].lower()
    return bool(SECRET_WORDS & set(last.split("_")))


def secret_leaks(source: Source) -> Iterator[str]:
    """reveal() inside an f-string, a log line or the arguments of a process."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FormattedValue) and reveals(node):
            yield source.at(node, "a secret inside an f-string")
    for call, name in calls(source):
        if re.search(r"(^|\.)(log|logger|logging)\.\w+$", name) and reveals(call):
            yield source.at(call, "a secret in a log line")
        if PROCESS_CALL.fullmatch(name) and reveals(call):
            yield source.at(call, "a secret in the arguments or environment of a process")


def reveals(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Call) and dotted(part.func).endswith(".reveal")
        for part in ast.walk(node)
    )


def key_types(source: Source) -> Iterator[str]:
    """A class with reveal() is plain and slotted, hides itself, and is not copied."""
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
        bases = {dotted(base) for base in node.bases}
        if "reveal" not in methods or bases & {"Protocol", "typing.Protocol"}:
            continue
        slots = any(
            isinstance(part, ast.Assign) and dotted(part.targets[0]) == "__slots__"
            for part in node.body
        )
        decorated = any(dotted(wrapper) != "final" for wrapper in node.decorator_list)
        if decorated or not slots:
            yield source.at(node, f"{node.name}: a key type is a plain slotted class")
        for wanted in sorted({"__repr__", "__reduce__"} - methods):
            yield source.at(node, f"{node.name}: a key type defines {wanted}")
        if "__eq__" in methods:
            yield source.at(node, f"{node.name}: a key type has no __eq__")
