"""Which build of the engine runs: compiled extension modules, or the plain `.py` files beside them.

The hot engine modules are ordinary Python that mypyc can also compile. Python prefers
`book.cpython-*.so` to `book.py`, so a compiled checkout runs compiled without being told. This module is
for the two other cases:

* `HASHPIT_PLAIN=1` asks for the sources although compiled modules lie beside them (debugging, coverage,
  and the second test run that proves both builds behave alike);
* a source was edited after it was compiled. Running the old machine code in silence would be a trap, so a
  checkout falls back to the sources and says so on stderr.

Every entry point calls `prefer_source()` before it imports an engine module: `hashpit.cli.main`,
`gateway/__main__.py`, `bench/__init__.py`, `tests/conftest.py`. This file imports the standard library only.
"""

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal

PLAIN_VARIABLE = "HASHPIT_PLAIN"

# The package that holds the compiled modules: beside this one, in a checkout and installed alike.
ENGINE_DIR = Path(__file__).resolve().parent.parent / "engine"


class SourceFinder(MetaPathFinder):
    """Answers for `engine.*` with the `.py` file, ahead of an extension module of the same name."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not fullname.startswith("engine."):
            return None
        name = fullname.rpartition(".")[2]
        for folder in path:
            source = Path(folder, f"{name}.py")
            if source.is_file():
                return importlib.util.spec_from_file_location(fullname, source)
        return None


def prefer_source() -> None:
    """Run the engine from its `.py` files if `HASHPIT_PLAIN=1`, or if the compiled ones are out of date.

    Otherwise does nothing. Call it before the first engine import; calling it twice is harmless.
    """
    if not plain_requested():
        stale = stale_modules()
        if not stale:
            return
        print(f"hashpit: {stale_message(stale)}; running the plain sources", file=sys.stderr)
    if any(isinstance(finder, SourceFinder) for finder in sys.meta_path):
        return
    loaded = _loaded_compiled()
    if loaded:
        raise RuntimeError(f"prefer_source() must be called before {', '.join(loaded)} is imported")
    sys.meta_path.insert(0, SourceFinder())


def build_kind() -> Literal["compiled", "plain"]:
    """The build this process runs, or would run if no engine module is imported yet."""
    if any(isinstance(finder, SourceFinder) for finder in sys.meta_path):
        return "plain"
    return "compiled" if compiled_modules() else "plain"


def plain_requested() -> bool:
    return os.environ.get(PLAIN_VARIABLE, "") not in ("", "0")


def compiled_modules() -> list[str]:
    """Names of the engine modules that have an extension module for this interpreter, e.g. `engine.book`."""
    return sorted(_extensions())


def stale_modules() -> list[str]:
    """Compiled modules older than their source, or than an engine source they import.

    Always empty for an installed wheel. Imported sources count because mypyc copies their `Final` constants
    and field types into the machine code.
    """
    if not (ENGINE_DIR.parent / "pyproject.toml").is_file():
        return []  # installed: nobody edits these files, and their times say only when they were unpacked
    return [
        name
        for name, extension in sorted(_extensions().items())
        if any(source.stat().st_mtime_ns > extension.stat().st_mtime_ns for source in _sources_of(name))
    ]


def stale_message(stale: Sequence[str]) -> str:
    """One line that says what is out of date and what to do."""
    return f"{', '.join(stale)} changed after being compiled (run `make compile`, or set {PLAIN_VARIABLE}=1)"


def _extensions() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for suffix in EXTENSION_SUFFIXES:
        for file in ENGINE_DIR.rglob(f"*{suffix}"):
            name = file.name.removesuffix(suffix)
            if "." not in name and not name.endswith("__mypyc"):
                found[".".join((*file.relative_to(ENGINE_DIR.parent).parent.parts, name))] = file
    return found


def _sources_of(name: str) -> Iterator[Path]:
    """The source file of an engine module and of every engine module it imports, directly or not."""
    waiting, seen = [name], {name}
    while waiting:
        source = _source_file(waiting.pop())
        if source is None:
            continue
        yield source
        for node in ast.walk(ast.parse(source.read_bytes())):
            imported: list[str] = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            new = [module for module in imported if module.startswith("engine.") and module not in seen]
            seen.update(new)
            waiting.extend(new)


def _source_file(name: str) -> Path | None:
    base = ENGINE_DIR.parent.joinpath(*name.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def _loaded_compiled() -> list[str]:
    return sorted(
        name
        for name, module in sys.modules.items()
        if name.startswith("engine.")
        and isinstance(getattr(getattr(module, "__spec__", None), "loader", None), ExtensionFileLoader)
    )


if __name__ == "__main__":
    prefer_source()
    print(build_kind())
