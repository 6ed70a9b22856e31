"""What pyproject.toml cannot say: compile the hot modules with mypyc when possible.

python -m pip wheel .       compiled if a C compiler is there, pure Python if not or with HASHPIT_COMPILE=0
python setup.py hot         the same in place, only if out of date (what `make setup` runs)
python setup.py hot --force always, and a failure is an error (what `make compile` runs)
"""

import ast
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Extension, setup

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

from hashpit.build import PACKAGES, compiled_modules, stale_modules  # noqa: E402

# A module belongs here when a profile says that compiling it pays. It must not define msgspec Structs.
HOT_MODULES = (
    "engine/members.py",
    "engine/words.py",
    "engine/events.py",
    "engine/book.py",
    "engine/bare.py",
    "engine/crossing.py",
    "engine/accounts.py",
    "engine/due.py",
    "engine/ledger.py",
    "engine/markets/dated.py",
    "engine/markets/live.py",
    "engine/answers.py",
    "engine/risk.py",
    "engine/matching.py",
    "engine/delivery.py",
    "engine/flows.py",
    "engine/live.py",
    "engine/core.py",
    "engine/columns.py",
    "gateway/ratelimit.py",
    "gateway/scale.py",
    "gateway/codec.py",
    "gateway/outbox.py",
    "gateway/channels/base.py",
    "gateway/channels/book.py",
    "gateway/channels/trades.py",
    "gateway/channels/live.py",
    "gateway/channels/live_ticker.py",
    "gateway/channels/status.py",
    "gateway/channels/ticker.py",
    "gateway/channels/account.py",
    "gateway/views.py",
    "gateway/history.py",
    "gateway/feeds.py",
    "gateway/exchange.py",
    "gateway/calls.py",
    "gateway/answering.py",
    "gateway/live_methods.py",
    "gateway/methods.py",
    "gateway/session.py",
    "gateway/sequencer.py",
)


def hot_sources() -> list[str]:
    return [path for path in HOT_MODULES if (ROOT / path).is_file()]


def why_plain() -> str:
    """Why the hot modules are not compiled, or an empty string if they can be."""
    if os.environ.get("HASHPIT_COMPILE", "1") == "0":
        return "HASHPIT_COMPILE=0"
    if not hot_sources():
        return "no hot modules"
    try:
        import mypyc.build  # noqa: F401
    except ImportError:
        return "mypy is not installed"
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text("#include <Python.h>\nint probe(void) { return PY_MAJOR_VERSION; }\n")
        include = sysconfig.get_path("include")
        try:
            subprocess.run(
                [*command, "-c", str(source), f"-I{include}", "-o", str(source.with_suffix(".o"))],
                check=True,
                capture_output=True,
            )
        except FileNotFoundError:
            return f"no C compiler ({command[0]} not found)"
        except (OSError, subprocess.CalledProcessError):
            return f"no working C compiler with Python headers ({command[0]})"
    return ""


def refuse_struct_classes(path: str) -> None:
    """mypyc drops class keywords silently: a compiled Struct would lose its tag and be mutable."""
    for node in ast.walk(ast.parse((ROOT / path).read_bytes())):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
            if node.keywords or "Struct" in bases:
                sys.exit(f"{path}:{node.lineno}: {node.name} cannot be compiled: move it to another module")


def hot_extensions() -> list[Extension]:
    from mypyc.build import mypycify

    for path in hot_sources():
        refuse_struct_classes(path)
    (ROOT / "build").mkdir(exist_ok=True)
    extensions = mypycify(hot_sources(), opt_level="3", debug_level="0", target_dir="build", group_name="engine.hot")
    if sys.platform == "linux":
        # nobody links against the modules: their functions may be inlined, and reach Python's without a detour
        for extension in extensions:
            extension.extra_compile_args += ["-fvisibility=hidden", "-fno-plt"]
    return extensions


class Hot(Command):
    description = "compile the hot modules in place"
    user_options: ClassVar = [
        ("force", "f", "compile even if up to date; failing is an error"),
        ("list", None, "only print the hot modules that exist"),
    ]
    boolean_options: ClassVar = ["force", "list"]

    def initialize_options(self) -> None:
        self.force = False
        self.list = False

    def finalize_options(self) -> None:
        pass

    def run(self) -> None:
        if self.list:
            print("\n".join(hot_sources()))
            return
        reason = why_plain()
        wanted = [path.removesuffix(".py").replace("/", ".") for path in hot_sources()]
        if not reason and not self.force and compiled_modules() == sorted(wanted) and not stale_modules():
            say(f"compiled ({len(wanted)} modules)")
            return
        for suffix in ("so", "pyd"):
            for old in [file for package in PACKAGES for file in (ROOT / package).rglob(f"*.{suffix}")]:
                old.unlink()
        if reason:
            if self.force:
                sys.exit(f"hashpit: cannot compile: {reason}")
            say(f"running plain Python: {reason}")
            return
        say(f"compiling {len(wanted)} modules, which takes a few minutes ...")
        # A child process: mypyc reports an error in the sources by exiting.
        step = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
        done = subprocess.run(step, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode == 0:
            say("compiled")
            return
        print(done.stdout, file=sys.stderr)
        if self.force:
            sys.exit("hashpit: compiling failed, see above")
        say("running plain Python: compiling failed, see above")


def say(line: str) -> None:
    print(f"hashpit: {line}", flush=True)


extensions: list[Extension] = []
if {"build_ext", "bdist_wheel"} & set(sys.argv[1:]):
    if why := why_plain():
        print(f"hashpit: building in plain Python: {why}", file=sys.stderr)
    else:
        extensions = hot_extensions()

setup(cmdclass={"hot": Hot}, ext_modules=extensions)
