"""Which build runs: compiled extension modules, or the plain `.py` files beside them.

The hot modules of engine and gateway are ordinary Python that mypyc can also compile. Python prefers
`book.cpython-*.so` to `book.py`, so a compiled checkout runs compiled without being told. This module is
for the two other cases:

* `HASHPIT_PLAIN=1` asks for the sources although compiled modules lie beside them (debugging, coverage,
  and the second test run that proves both builds behave alike);
* a source was edited after it was compiled. Running the old machine code in silence would be a trap, so a
  checkout falls back to the sources and says so on stderr.

Every entry point calls `prefer_source()` before it imports one of them: `hashpit.cli.main`,
`gateway/__main__.py`, `bench/__init__.py`, `tests/conftest.py`. This file imports the standard library only.
"""

import ast
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Literal

PLAIN_VARIABLE = "HASHPIT_PLAIN"

# Where the packages lie, in a checkout and installed alike.
ROOT = Path(__file__).resolve().parent.parent
# The packages that hold compiled modules.
PACKAGES = ("engine", "gateway")


class SourceFinder(MetaPathFinder):
    """Answers for modules of PACKAGES with the `.py` file, ahead of an extension module of the same name."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or fullname.partition(".")[0] not in PACKAGES:
            return None
        name = fullname.rpartition(".")[2]
        for folder in path:
            source = Path(folder, f"{name}.py")
            if source.is_file():
                return importlib.util.spec_from_file_location(fullname, source)
        return None


def prefer_source() -> None:
    """Run everything from its `.py` files if `HASHPIT_PLAIN=1`, or if the compiled ones are out of date.

    Otherwise does nothing. Call it before the first import of engine or gateway modules; calling it twice is harmless.
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
    """The build this process runs, or would run if none of its modules is imported yet."""
    if any(isinstance(finder, SourceFinder) for finder in sys.meta_path):
        return "plain"
    return "compiled" if compiled_modules() else "plain"


def plain_requested() -> bool:
    return os.environ.get(PLAIN_VARIABLE, "") not in ("", "0")


def compiled_modules() -> list[str]:
    """Names of the modules that have an extension module for this interpreter, e.g. `engine.book`."""
    return sorted(_extensions())


def stale_modules() -> list[str]:
    """Modules that were edited after the compiled ones were made, if those are made of them.

    Always empty for an installed wheel. Imported sources count because mypyc copies their `Final` constants
    and field types into the machine code.
    """
    extensions = _extensions()
    if not extensions or not (ROOT / "pyproject.toml").is_file():
        return []  # installed: nobody edits these files, and their times say only when they were unpacked
    compiled_ns = min(file.stat().st_mtime_ns for file in extensions.values())
    sources = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py")]
    newer = {file for file in sources if file.stat().st_mtime_ns > compiled_ns}
    if not newer:
        return []
    return sorted(name for name, file in _sources_of(extensions) if file in newer)


def stale_message(stale: Sequence[str]) -> str:
    """One line that says what is out of date and what to do."""
    return f"{', '.join(stale)} changed after being compiled (run `make compile`, or set {PLAIN_VARIABLE}=1)"


def _extensions() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for package in PACKAGES:
        for suffix in EXTENSION_SUFFIXES:
            for file in (ROOT / package).rglob(f"*{suffix}"):
                name = file.name.removesuffix(suffix)
                if "." not in name and not name.endswith("__mypyc"):
                    found[".".join((*file.relative_to(ROOT).parent.parts, name))] = file
    return found


def _sources_of(names: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """Name and source file of modules and of everything of PACKAGES that they import, directly or not."""
    waiting = [*names]
    seen = set(waiting)
    while waiting:
        name = waiting.pop()
        source = _source_file(name)
        if source is None:
            continue
        yield name, source
        for node in ast.walk(ast.parse(source.read_bytes())):
            imported: list[str] = []
            if isinstance(node, ast.Import):
                imported = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            new = [module for module in imported if module.partition(".")[0] in PACKAGES and module not in seen]
            seen.update(new)
            waiting.extend(new)


def _source_file(name: str) -> Path | None:
    base = ROOT.joinpath(*name.split("."))
    for file in (base.with_suffix(".py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def _loaded_compiled() -> list[str]:
    return sorted(
        name
        for name, module in sys.modules.items()
        if name.partition(".")[0] in PACKAGES
        and isinstance(getattr(getattr(module, "__spec__", None), "loader", None), ExtensionFileLoader)
    )


if __name__ == "__main__":
    prefer_source()
    print(build_kind())
