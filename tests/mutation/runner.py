"""Runs the tests of a module against its mutants: a fork for each, which imports the changed source and runs pytest in place.

What does not change (pytest, its plugins, the packages) is imported once, before the fork. A mutant is killed when a test
fails, and when the tests take longer than they may: it runs in circles, or waits for ever.
"""

import gc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from enum import Enum
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis.strategies
import msgspec
import pytest
import pytest_asyncio.plugin
import sortedcontainers
from hypothesis import Phase, settings

PROFILE = "mutants"
settings.register_profile(
    PROFILE, deadline=None, max_examples=50, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
TEST_TIMEOUT_S = 3
"""How long one test may take. None takes half a second, but a mutant may let it wait for ever, or run in circles."""
PYTEST_ARGS = (
    "-x",
    "-q",
    "--tb=short",
    "--assert=plain",
    f"--timeout={TEST_TIMEOUT_S}",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:unraisableexception",
)


# imported before the forks, not used here
PRELOADED = (hypothesis.strategies, msgspec, pytest_asyncio.plugin, sortedcontainers)


class Outcome(Enum):
    KILLED = "killed"
    TIMEOUT = "timeout"
    SURVIVED = "survived"


class Changed(MetaPathFinder):
    """Answers for one module with a source of its own."""

    def __init__(self, path: Path, code: str) -> None:
        self.path = path
        self.name = ".".join(path.with_suffix("").parts[-2:])
        self.code = code

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=_Loader(fullname, str(self.path), self.code))


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: str) -> None:
        super().__init__(name, path)
        self.source = code

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source, self.path, "exec", dont_inherit=True)


class Run:
    """The tests of a module, begun in a fork, with ``code`` in the place of the module at ``path``."""

    def __init__(self, path: Path, code: str, tests: Sequence[str], timeout_s: float, quiet: bool = True) -> None:
        gc.freeze()  # pytest collects garbage more than once: not this process's
        self.until = time.monotonic() + timeout_s
        self.pid = os.fork()
        if self.pid == 0:
            _child(path, code, tests, quiet)

    def outcome(self) -> Outcome | None:
        """None while it runs."""
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        if ended:
            return Outcome.KILLED if status else Outcome.SURVIVED
        if time.monotonic() < self.until:
            return None
        os.killpg(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return Outcome.TIMEOUT


def _child(path: Path, code: str, tests: Sequence[str], quiet: bool) -> None:
    status = 1
    try:
        os.setsid()
        if quiet:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, 1)
            os.dup2(nothing, 2)
        sys.meta_path.insert(0, Changed(path, code))
        for test in tests:  # one after the other: what is not reached need not be collected
            status = int(pytest.main([*PYTEST_ARGS, test]))
            if status:
                break
    finally:
        os._exit(status)
