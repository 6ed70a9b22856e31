"""What every fuzz target shares: its description, its corpus, and the child process in which atheris drives it.

A target is a module of ``tests.fuzz.targets``. Its docstring says what has to hold for any bytes; ``one(data)`` tries one
input and raises where that does not hold; ``BYTES_MAX`` bounds an input; ``WORDS`` are what a mutator would have to guess.
``seeds()`` gives first inputs made of real messages, by name.
"""

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Final, Protocol, cast

from msgspec import Struct

ROOT: Final = Path(__file__).resolve().parents[2]
CORPUS: Final = Path(__file__).with_name("corpus")
WORK: Final = ROOT / ".fuzz"
"""What fuzzers find and learn on this machine; not part of the project."""
TARGETS: Final = ("codec", "session", "frames", "upgrade", "journal", "snapshot", "flow", "config", "keys")
AGAIN: Final = "HASHPIT_FUZZ_AGAIN"
"""The variable that tells the child what starts it."""
INPUT_CPU_S_MAX: Final = 5
"""An input that takes more of the processor is a finding."""
INPUT_S_MAX: Final = 60
"""And one that takes longer by the clock: it may go around for ever, or wait. A busy machine alone does not take so long."""
SHARED_MEMORY: Final = Path("/dev/shm")
MEMORY_MIB_MAX: Final = 512
"""A fuzzer's process that takes more is a finding, and so is one allocation of half of it."""


class Target(Protocol):
    """A module of ``tests.fuzz.targets``."""

    __doc__: str | None
    BYTES_MAX: int
    WORDS: tuple[bytes, ...]

    @staticmethod
    def one(data: bytes) -> None: ...
    @staticmethod
    def seeds() -> Iterator[tuple[str, bytes]]: ...


class Outcome(Struct):
    """What a run of one fuzzer came to."""

    target: str
    seconds: int
    executions: int = 0
    coverage: int = 0
    """Edges of the instrumented code that were reached."""
    features: int = 0
    corpus: int = 0
    finding: str = ""
    """File with the input that broke a promise; empty when none did."""
    log: str = ""


def load(name: str) -> Target:
    """The target of that name."""
    assert name in TARGETS, f"there is no target {name}; there are {', '.join(TARGETS)}"
    return cast("Target", import_module(f"tests.fuzz.targets.{name}"))


def promise(name: str) -> str:
    """First line of what has to hold."""
    return (load(name).__doc__ or "").partition("\n")[0]


def corpus(name: str) -> list[Path]:
    """The inputs that are kept: seeds, what fuzzing added, and every finding so far."""
    return sorted(path for path in (CORPUS / name).iterdir() if path.is_file())


def write_seeds(name: str) -> int:
    """Write the target's seeds into its corpus; how many."""
    directory = CORPUS / name
    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    for label, data in load(name).seeds():
        (directory / f"seed-{label}").write_bytes(data)
        count += 1
    return count


def scratch() -> Path:
    """A folder for the files that a target's inputs are put into; gone when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="hashpit-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


# ------------------------------------------------------------------------------------------------------------- the child


def fuzz(name: str, seconds: int, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Let atheris look for an input that breaks the target's promise, for so long. Goes on from what it learned before."""
    learned, found = WORK / name, WORK / "found" / name
    learned.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    flags = [
        f"-max_total_time={seconds}",
        "-print_final_stats=1",
        f"-artifact_prefix={found}/",
        str(learned),
        str(CORPUS / name),
    ]
    text = _child(name, flags, say)
    outcome = Outcome(name, seconds, log=text)
    outcome.executions = int(_last(r"stat::number_of_executed_units:\s*(\d+)", text))
    for coverage, features, kept in re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", text):
        outcome.coverage, outcome.features, outcome.corpus = int(coverage), int(features), int(kept)
    if artifact := re.search(r"Test unit written to (\S+)", text):
        outcome.finding = artifact[1]
    elif "DONE" not in text:
        # It did not start, or was killed: an hour that was not spent is none without a finding.
        raise RuntimeError(f"the fuzzer of {name} did not come to its end:\n{text[-4_000:]}")
    return outcome


def merge(name: str, keep_max: int) -> int:
    """Take what fuzzing learned into the corpus: the smallest inputs that add coverage, at most ``keep_max``; how many."""
    with tempfile.TemporaryDirectory() as folder:
        _child(name, ["-merge=1", "-use_value_profile=0", folder, str(CORPUS / name), str(WORK / name)], lambda line: None)
        known = {path.read_bytes() for path in corpus(name)}
        fresh = [data for path in Path(folder).iterdir() if (data := path.read_bytes()) not in known]
    fresh.sort(key=lambda data: (len(data), data))
    for data in fresh[:keep_max]:
        (CORPUS / name / f"found-{sha256(data).hexdigest()[:12]}").write_bytes(data)
    return min(len(fresh), keep_max)


def _child(name: str, flags: list[str], say: Callable[[str], None]) -> str:
    """Run libFuzzer over the target in a process of its own; everything it said."""
    target = load(name)
    # In memory where that is to be had: a disk would be what is measured.
    with tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None) as folder:
        dictionary = Path(folder, "words.dict")
        dictionary.write_bytes(b"".join(_quoted(word) for word in target.WORDS))
        limits = [f"-max_len={target.BYTES_MAX}", f"-timeout={INPUT_S_MAX}", f"-rss_limit_mb={MEMORY_MIB_MAX}"]
        limits += [f"-malloc_limit_mb={MEMORY_MIB_MAX // 2}", f"-dict={dictionary}"]
        # libFuzzer starts itself again to merge, by its first argument.
        again = Path(folder, "again")
        again.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.fuzz.child {name} "$@"\n')
        again.chmod(0o700)
        child = subprocess.Popen(
            [str(again), *limits, *flags],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": folder, AGAIN: str(again)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert child.stdout is not None
        kept: list[str] = []
        for line in child.stdout:
            kept.append(line)
            say(line.rstrip())
        child.wait()
    return "".join(kept)


def _quoted(word: bytes) -> bytes:
    """A word as libFuzzer's dictionaries write it."""
    plain = bytes(range(0x20, 0x7F)).translate(None, b'"\\')
    text = "".join(chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in word)
    return f'"{text}"\n'.encode()


def _last(pattern: str, text: str) -> str:
    found = re.findall(pattern, text)
    return found[-1] if found else "0"
