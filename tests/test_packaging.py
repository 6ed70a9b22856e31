"""What ships: the wheel's contents, the locks, the choice of build, and links in the documentation."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import hashpit
from hashpit import build

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = [f"requirements{kind}.txt" for kind in ("", "-dev", "-research", "-bench", "-audit", "-fuzz", "-mutation")]


def hot_modules() -> list[str]:
    for node in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HOT_MODULES":
            paths: tuple[str, ...] = ast.literal_eval(node.value)
            return [path for path in paths if (ROOT / path).is_file()]
    raise AssertionError("setup.py has no HOT_MODULES")


def python(code: str, **variables: str) -> str:
    """Run a line of Python in a fresh interpreter at the root of the checkout."""
    environment = {k: v for k, v in os.environ.items() if k != build.PLAIN_VARIABLE} | variables
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


# --- Version, locks -------------------------------------------------------------------------------


def test_version_is_written_once() -> None:
    assert "version" in PROJECT["project"]["dynamic"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "hashpit.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", hashpit.__version__)


def test_changelog_has_an_unreleased_section() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_pinned_hashed_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text, "a lock names no index: the reader's own pip settings choose it"
    entries = [entry for entry in re.split(r"\n(?=\S)", text) if entry.strip() and not entry.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("name", [lock.removesuffix(".txt") for lock in LOCKS])
def test_lock_holds_everything_asked_for(name: str) -> None:
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / f"{name}.txt").read_text(encoding="utf-8"), re.MULTILINE))
    asked = re.findall(r"^([A-Za-z][\w-]*)", (ROOT / f"{name}.in").read_text(encoding="utf-8"), re.MULTILINE)
    missing = {package.lower().replace("_", "-") for package in asked} - locked
    assert not missing, f"{name}.in asks for {sorted(missing)}: run `make lock`"


# --- The choice of build --------------------------------------------------------------------------


def test_plain_is_honoured() -> None:
    assert python("import hashpit.build as b; b.prefer_source(); print(b.build_kind())", HASHPIT_PLAIN="1") == "plain"


def test_build_kind_is_what_is_loaded() -> None:
    """Whatever `build_kind()` says, each hot module comes from a file of that kind."""
    names = [path.removesuffix(".py").replace("/", ".") for path in hot_modules()]
    code = f"""
import importlib, hashpit.build as b
b.prefer_source()
files = [importlib.import_module(name).__file__ for name in {names}]
print(b.build_kind(), *("plain" if file.endswith(".py") else "compiled" for file in files))
"""
    assert len(set(python(code).split())) == 1
    assert set(python(code, HASHPIT_PLAIN="1").split()) == {"plain"}


def test_prefer_source_after_a_compiled_import_is_refused() -> None:
    compiled = build.compiled_modules()
    if not compiled:
        pytest.skip("the engine is not compiled")
    code = f"""
import os, {compiled[0]}, hashpit.build as b
os.environ["{build.PLAIN_VARIABLE}"] = "1"
try: b.prefer_source()
except RuntimeError as error: print(error)
"""
    assert "must be called before" in python(code)


def test_stale_module_is_noticed_through_what_it_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mypyc copies constants of imported modules, so editing one of those makes the machine code old, too."""
    engine = tmp_path / "engine"
    engine.mkdir()
    (tmp_path / "pyproject.toml").touch()
    limits, book = engine / "limits.py", engine / "book.py"
    limits.write_text("QTY_MAX = 1\n")
    book.write_text("from engine.limits import QTY_MAX\n")
    extension = engine / f"book{EXTENSION_SUFFIXES[0]}"
    extension.touch()
    monkeypatch.setattr(build, "ROOT", tmp_path)
    for file, when in ((limits, 1), (book, 1), (extension, 2)):
        os.utime(file, (when, when))
    assert build.compiled_modules() == ["engine.book"]
    assert build.stale_modules() == []
    os.utime(limits, (3, 3))
    assert build.stale_modules() == ["engine.limits"]
    (tmp_path / "pyproject.toml").unlink()
    assert build.stale_modules() == [], "an installed package is never called stale"


@pytest.mark.parametrize("path", hot_modules())
def test_hot_modules_define_no_structs(path: str) -> None:
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            assert not node.keywords, f"{path}: {node.name}: mypyc drops class keywords"
            assert "Struct" not in bases, f"{path}: {node.name}: move the Struct to an uncompiled module"


# --- The wheel ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_plain_wheel_holds_the_three_packages_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("engine", "gateway", "hashpit"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for file in ("pyproject.toml", "setup.py", "requirements.in", "LICENSE", "README.md"):
        if (ROOT / file).is_file():
            shutil.copy(ROOT / file, source)
    command = [sys.executable, "-m", "pip", "wheel", "-qq", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)],
        check=True,
        env=os.environ | {"HASHPIT_COMPILE": "0"},
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"hashpit-{hashpit.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        info = f"hashpit-{hashpit.__version__}.dist-info"
        assert {name.partition("/")[0] for name in names} == {"engine", "gateway", "hashpit", info}
        assert "hashpit = hashpit.cli:main" in archive.read(f"{info}/entry_points.txt").decode()
        metadata = archive.read(f"{info}/METADATA").decode()
    assert "Requires-Dist: msgspec" in metadata
    for package in ("engine", "gateway", "hashpit"):
        for path in (ROOT / package).rglob("*"):
            here = path.relative_to(ROOT)
            if path.is_file() and (path.suffix == ".py" or "web" in here.parts):
                assert here.as_posix() in names, f"{here} is missing in the wheel"


# --- Documentation --------------------------------------------------------------------------------

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("bench/**/*.md")])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_relative_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{document.name} links to {target}, which does not exist"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{document.name} links to {target}: {file.name} has no such heading"


def anchors(document: Path) -> set[str]:
    """Heading anchors as code hosts build them: lower case, spaces to dashes, punctuation dropped."""
    headings = re.findall(r"^#+ +(.+?) *$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
