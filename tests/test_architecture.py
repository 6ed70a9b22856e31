"""The borders of the system, read from the sources: who may import whom, and what each side must never use.

A rule applies to a file as soon as the file exists. Each message says what to use instead. When a rule is
wrong, change it here and in docs/ARCHITECTURE.md in the same commit; do not work around it.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("engine", "gateway", "hashpit")

# A module may import modules of an earlier row. In the engine, modules of one row do not know each other
# (except in the first row and inside markets/); in the gateway they may, without a cycle. A package, such
# as markets, stands for all of its modules.
ENGINE_ROWS = (
    ("types", "limits"),
    ("rejects",),
    ("commands", "events"),
    ("members", "words"),
    ("book", "due"),
    ("crossing", "bare"),
    ("accounts",),
    ("ledger",),
    ("markets",),
    ("risk", "matching", "delivery", "answers", "flows"),
    ("live",),
    ("core", "columns"),
    ("snapshot", "invariants"),
)
GATEWAY_ROWS = (
    ("wire", "scale", "journal", "config", "auth", "ratelimit"),
    (
        "session",
        "channels",
        "sequencer",
        "recovery",
        "archive",
    ),  # a file named in no row counts as one of these
    ("server", "nicehash"),
    ("__main__",),
)
GATEWAY_MIDDLE = 1

ENGINE_DATA = {f"engine.{name}" for name in ("types", "commands", "events", "rejects", "limits")}
ENGINE_MAY_IMPORT = {
    *("__future__", "typing", "enum", "bisect", "math", "heapq", "collections", "collections.abc"),
    *("dataclasses", "hashlib", "struct", "msgspec", "sortedcontainers", "mypy_extensions"),
}
INSTEAD_IN_ENGINE = {
    "time": "the entry's ts_ns",
    "datetime": "integer nanoseconds and the entry's ts_ns",
    "random": "ids derived from seq; randomness arrives inside an entry",
    "secrets": "ids derived from seq; randomness arrives inside an entry",
    "uuid": "ids derived from seq",
    "os": "values passed in by the gateway",
    "pathlib": "values passed in by the gateway",
    "logging": "an event: the engine says everything through its result",
    "structlog": "an event: the engine says everything through its result",
    "asyncio": "nothing: the engine never waits",
    "decimal": "integer ticks, lots and msat; text decimals exist only in the gateway",
    "fractions": "integer ticks, lots and msat with a named rounding",
}
BANNED_CALLS_IN_ENGINE = {
    "float": "integer ticks, lots and msat",
    "open": "nothing: files belong to the gateway",
    "print": "an event",
    "hash": "hashlib, or the value itself: hash() of text differs from run to run",
    "id": "an id derived from seq: an address differs from run to run",
}

# Time is a parameter and bytes come in by call, so that these run on a fake clock and a fake link.
SANS_IO = (
    *("gateway.wire", "gateway.scale", "gateway.session", "gateway.auth", "gateway.ratelimit", "gateway.channels"),
    *("hashpit.protocol", "hashpit.book"),
    *(
        f"gateway.nicehash.{name}"
        for name in (
            *("service", "routes", "calls", "public", "hashpower", "accounting", "views", "answers", "bodies"),
            *("history", "catalog", "units", "signing", "ids", "problems", "stomp"),
        )
    ),
)
NOT_IN_SANS_IO = {
    "time": "a ts_ns parameter",
    "asyncio": "gateway/server.py or hashpit/client.py, which do the waiting",
    "socket": "gateway/server.py",
    "random": "a parameter",
}
ONLY_IN = {
    "picows": ("gateway.server",),
    "litestar": ("gateway.nicehash.http",),
    "uvicorn": ("gateway.nicehash.http",),
    "h11": ("gateway.nicehash.http",),
    "stompman": ("gateway.nicehash.stomp",),
    "sqlite3": ("gateway.journal", "gateway.archive"),
}

SDK_MAY_IMPORT = ENGINE_DATA | {"gateway.scale", "gateway.text", "gateway.wire"}
# What a module of the SDK may import beyond that; a package name stands for all of its modules.
SDK_EXCEPTIONS = {
    "hashpit.cli": {"gateway"},
    "hashpit.demo": {"gateway"},
    "hashpit.replay": {"engine", "gateway.journal", "gateway.recovery"},
}


def inside(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


# --- Reading sources ------------------------------------------------------------------------------


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources() -> dict[str, Path]:
    return {module_name(file): file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))}


SOURCES = sources()


def imports(module: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and full name of everything imported, wherever in the file; names of our own modules in full."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if SOURCES.get(module, Path()).name == "__init__.py" else module.rpartition(".")[0]
                for _ in range(node.level - 1):
                    package = package.rpartition(".")[0]
                base = f"{package}.{base}".rstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full in SOURCES or base in PACKAGES else base


def problems(module: str, text: str) -> list[str]:
    """Everything wrong with one module, as `line: what; use this instead`."""
    tree = ast.parse(text)
    found: list[tuple[int, str]] = []
    for line, target in imports(module, tree):
        found.extend((line, message) for message in import_problems(module, target))
    if inside(module, "engine"):
        found.extend(engine_problems(tree))
    return [f"{line}: {message}" for line, message in sorted(set(found))]


# --- Imports --------------------------------------------------------------------------------------


def import_problems(module: str, target: str) -> Iterator[str]:
    root = target.partition(".")[0]
    if root in ("tests", "bench"):
        yield f"{module} imports {target}; tests and bench are not installed, move the shared part"
    for library, homes in ONLY_IN.items():
        if inside(target, library) and not any(inside(module, home) for home in homes):
            yield f"{module} imports {library}; only {' and '.join(homes)} may, go through it"
    if any(inside(module, name) for name in SANS_IO) and root in NOT_IN_SANS_IO:
        yield f"{module} imports {target}, but it is sans-IO; use {NOT_IN_SANS_IO[root]}"
    if inside(module, "engine"):
        yield from engine_import_problems(module, target)
    elif inside(module, "gateway"):
        yield from gateway_import_problems(module, target)
    else:
        yield from sdk_import_problems(module, target)


def row_of(module: str, rows: tuple[tuple[str, ...], ...]) -> int | None:
    """The row of `package.name[.more]`, or None if no row names it."""
    name = module.split(".")[1] if "." in module else ""
    return next((number for number, row in enumerate(rows) if name in row), None)


def engine_import_problems(module: str, target: str) -> Iterator[str]:
    root = target.partition(".")[0]
    if root != "engine":
        if target not in ENGINE_MAY_IMPORT and root not in ENGINE_MAY_IMPORT - {"collections"}:
            instead = INSTEAD_IN_ENGINE.get(root, "something from ENGINE_MAY_IMPORT, or do it in the gateway")
            yield f"{module} imports {target}; use {instead}"
        return
    if module == "engine" or target == "engine":
        yield f"{module} imports {target}; import the module you need, e.g. engine.types"
        return
    here, there = row_of(module, ENGINE_ROWS), row_of(target, ENGINE_ROWS)
    for name, row in ((module, here), (target, there)):
        if row is None:
            yield f"{name} has no place yet; add it to ENGINE_ROWS in tests/test_architecture.py"
    if here is None or there is None:
        return
    siblings_allowed = here == 0 or inside(module, "engine.markets")
    if there > here or (there == here and not siblings_allowed):
        yield f"{module} imports {target}, which is not below it; pass the value in or move code down"


def gateway_import_problems(module: str, target: str) -> Iterator[str]:
    if inside(target, "hashpit") and target not in ("hashpit", "hashpit.build", "hashpit.__version__"):
        yield f"{module} imports {target}; the SDK sits on the gateway, only hashpit.build may be used here"
    if inside(target, "engine"):
        if module in ("gateway.wire", "gateway.journal") and target not in ENGINE_DATA:
            yield f"{module} imports {target}; use the data modules {', '.join(sorted(ENGINE_DATA))} only"
        return
    if not inside(target, "gateway") or module == "gateway" or target == "gateway":
        return
    here, there = row_of(module, GATEWAY_ROWS), row_of(target, GATEWAY_ROWS)
    if (GATEWAY_MIDDLE if there is None else there) > (GATEWAY_MIDDLE if here is None else here):
        yield f"{module} imports {target}, which is above it; pass a callback or move the shared part down"


def sdk_import_problems(module: str, target: str) -> Iterator[str]:
    if not (inside(target, "engine") or inside(target, "gateway")):
        if module == "hashpit.build" and inside(target, "hashpit"):
            yield f"{module} imports {target}; entry points load it first, keep it to the standard library"
        return
    also = next((allowed for name, allowed in SDK_EXCEPTIONS.items() if inside(module, name)), set())
    if target not in SDK_MAY_IMPORT and not any(inside(target, package) for package in also):
        yield f"{module} imports {target}; the SDK knows {', '.join(sorted(SDK_MAY_IMPORT))} only"


# --- Determinism ----------------------------------------------------------------------------------


def engine_problems(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Floats, calls that depend on the process, and iteration over sets."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            yield node.lineno, f"float literal {node.value}; use integer ticks, lots and msat"
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
            yield node.lineno, "/ makes a float; use // in a function named for its rounding"
        elif isinstance(node, ast.Name) and node.id in BANNED_CALLS_IN_ENGINE and isinstance(node.ctx, ast.Load):
            yield node.lineno, f"{node.id} in the engine; use {BANNED_CALLS_IN_ENGINE[node.id]}"
    yield from set_iterations(tree)


def is_set_type(annotation: ast.expr | None) -> bool:
    return annotation is not None and ast.unparse(annotation).partition("[")[0] in ("set", "frozenset", "Set")


def set_iterations(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Best effort: follows names within a function and attributes within the file."""
    attributes = {ast.unparse(target) for target in set_targets(ast.walk(tree)) if isinstance(target, ast.Attribute)}
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    top = {ast.unparse(target) for target in set_targets(ast.iter_child_nodes(tree))}
    for scope in (tree, *functions):
        known = attributes | top | {ast.unparse(target) for target in set_targets(ast.walk(scope))}
        if not isinstance(scope, ast.FunctionDef):
            known = attributes | top
        for line in iterations(scope, known):
            yield line, "iterates a set, whose order differs from run to run; use a dict or sorted(...)"


def set_targets(nodes: Iterator[ast.AST]) -> Iterator[ast.expr]:
    for node in nodes:
        if isinstance(node, ast.Assign) and is_set_value(node.value, set()):
            yield from node.targets
        elif isinstance(node, ast.AnnAssign) and is_set_type(node.annotation):
            yield node.target
        elif isinstance(node, ast.arg) and is_set_type(node.annotation):
            yield ast.Name(node.arg)


def is_set_value(value: ast.expr, known: set[str]) -> bool:
    if isinstance(value, ast.Set | ast.SetComp):
        return True
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id in ("set", "frozenset")
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return is_set_value(value.left, known) or is_set_value(value.right, known)
    return isinstance(value, ast.Name | ast.Attribute) and ast.unparse(value) in known


def iterations(scope: ast.AST, known: set[str]) -> Iterator[int]:
    for node in ast.walk(scope):
        iterated: list[ast.expr] = []
        if isinstance(node, ast.For | ast.comprehension):
            iterated = [node.iter]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("list", "tuple", "iter", "enumerate", "zip", "map", "filter"):
                iterated = node.args
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            takes_any = node.func.attr == "pop" and not node.args
            iterated = [node.func.value] if takes_any else []
        yield from (value.lineno for value in iterated if is_set_value(value, known))


# --- The rules, applied to what exists ------------------------------------------------------------


@pytest.mark.parametrize("module", SOURCES)
def test_module_keeps_its_borders(module: str) -> None:
    file = SOURCES[module]
    wrong = problems(module, file.read_text(encoding="utf-8"))
    assert not wrong, "\n".join(["", *(f"{file.relative_to(ROOT)}:{line}" for line in wrong)])


@pytest.mark.parametrize("module", [name for name, file in SOURCES.items() if file.name == "__init__.py"])
def test_package_opens_with_its_map_and_imports_nothing(module: str) -> None:
    """A docstring that lists the files, and in `hashpit` the version. A registry gets a file of its own."""
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{module}/__init__.py has no docstring: list the package's files, one line each"
    rest = [ast.unparse(node) for node in tree.body[1:]]
    if module == "hashpit":
        rest = [line for line in rest if not line.startswith("__version__ = ")]
    assert not rest, f"{module}/__init__.py holds code: {rest[0]}; move it to a module and import it from there"


def test_no_import_cycles() -> None:
    graph = {
        module: sorted({target for _, target in imports(module, ast.parse(file.read_text(encoding="utf-8")))})
        for module, file in SOURCES.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join((*path[path.index(module) :], module))}"
        if module in done or module not in graph:
            return
        for target in graph[module]:
            visit(target, (*path, module))
        done.add(module)

    for module in graph:
        visit(module, ())


# --- The rules, proved on small wrong examples ----------------------------------------------------

WRONG = [
    ("engine.book", "import time", "ts_ns"),
    ("engine.book", "from datetime import datetime", "nanoseconds"),
    ("engine.book", "import os", "passed in"),
    ("engine.book", "import logging", "an event"),
    ("engine.book", "from decimal import Decimal", "integer ticks"),
    ("engine.book", "import requests", "ENGINE_MAY_IMPORT"),
    ("engine.book", "from gateway.wire import encode", "gateway"),
    ("engine.book", "from engine.core import Engine", "not below"),
    ("engine.book", "from engine import core", "not below"),
    ("engine.book", "from . import core", "not below"),
    ("engine.book", "from engine.ledger import Ledger", "not below"),
    ("engine.book", "def f():\n    from engine.risk import hold", "2: "),
    ("engine.commands", "from engine.events import Fill", "not below"),
    ("engine.types", "from engine.rejects import Reject", "not below"),
    ("engine.surprise", "from engine.types import Side", "no place yet"),
    ("engine.book", "from tests.reference import book", "not installed"),
    ("engine.book", "x = 0.5", "float literal"),
    ("engine.book", "x = float(1)", "integer ticks"),
    ("engine.book", "def f(x: float) -> None: ...", "integer ticks"),
    ("engine.book", "x = 3 / 2", "//"),
    ("engine.book", "x = 3\nx /= 2", "2: "),
    ("engine.book", "x = hash('a')", "run to run"),
    ("engine.book", "for x in {1, 2}: pass", "iterates a set"),
    ("engine.book", "s = set()\nfor x in s: pass", "iterates a set"),
    ("engine.book", "def f(s: set[int]) -> list[int]:\n    return [x for x in s]", "iterates a set"),
    ("engine.book", "def f():\n    s = {1}\n    return list(s | {2})", "iterates a set"),
    (
        "engine.book",
        "class A:\n    def f(self):\n        self.s: set[int] = set()\n        self.s.pop()",
        "iterates",
    ),
    ("gateway.wire", "from engine.core import Engine", "data modules"),
    ("gateway.wire", "from gateway.session import Session", "above"),
    ("gateway.session", "from gateway.server import Server", "above"),
    ("gateway.metering", "from gateway.server import Server", "above"),
    ("gateway.session", "import time", "ts_ns"),
    ("gateway.channels.book", "import asyncio", "sans-IO"),
    ("gateway.session", "import picows", "gateway.server"),
    ("gateway.sequencer", "import sqlite3", "gateway.journal"),
    ("gateway.server", "from hashpit.client import Client", "hashpit.build"),
    ("hashpit.client", "from engine.core import Engine", "the SDK knows"),
    ("hashpit.client", "from gateway.session import Session", "the SDK knows"),
    ("hashpit.cli", "from engine.core import Engine", "the SDK knows"),
    ("hashpit.build", "from hashpit.client import Client", "standard library"),
    ("hashpit.client", "import picows", "gateway.server"),
    ("gateway.session", "import litestar", "gateway.nicehash.http"),
    ("gateway.nicehash.service", "from uvicorn import Config", "gateway.nicehash.http"),
    ("gateway.nicehash.public", "import time", "ts_ns"),
    ("gateway.session", "from gateway.nicehash.service import Service", "above"),
]

RIGHT = [
    ("engine.types", "from engine.limits import QTY_MAX"),
    (
        "engine.matching",
        "from engine.book import Book\nfrom collections import deque\nimport collections.abc",
    ),
    ("engine.markets.dated", "from engine.markets.base import Kind"),
    ("engine.core", "from engine.markets.registry import KINDS\nfrom engine.risk import hold"),
    ("engine.book", "def f(s: set[int]) -> list[int]:\n    return sorted(s)"),
    ("engine.book", "def f(s: set[int]) -> bool:\n    return 1 in s"),
    ("engine.book", "def f(s: set[int]) -> None: ...\ndef g(s: list[int]) -> list[int]:\n    return list(s)"),
    ("gateway.server", "import picows\nfrom gateway.session import Session"),
    ("gateway.archive.store", "import sqlite3"),
    ("gateway.__main__", "from hashpit.build import prefer_source\nfrom gateway.server import serve"),
    ("gateway.nicehash.http", "import asyncio\nimport litestar\nfrom gateway.server import bind"),
    ("hashpit.client", "from engine.events import Fill\nfrom gateway.wire import decode\nimport websockets"),
    ("hashpit.cli", "from gateway.config import Config"),
    ("hashpit.replay", "from engine.core import Engine"),
]


@pytest.mark.parametrize(("module", "text", "says"), WRONG)
def test_rule_catches(module: str, text: str, says: str) -> None:
    assert says in "\n".join(problems(module, text))


@pytest.mark.parametrize(("module", "text"), RIGHT)
def test_rule_allows(module: str, text: str) -> None:
    assert problems(module, text) == []
