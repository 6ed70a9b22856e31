"""Every input that is kept (seeds, what fuzzing found out, every finding so far) is tried again here, on both builds.

``python -m tests.fuzz --list`` says what each target promises; docs/TESTING.md how to fuzz, and what to do with a finding.
"""

import subprocess
import sys
import tracemalloc
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.runner import CORPUS, ROOT, TARGETS, corpus, load, promise

MEMORY_BYTES_MAX = 16 * 1024 * 1024
"""What one input may take at most, whatever it says of itself; the largest legal message takes a tenth of it."""


@pytest.mark.parametrize("name", TARGETS)
def test_every_kept_input_keeps_the_promise(name: str) -> None:
    target = load(name)
    inputs = corpus(name)
    assert len(inputs) >= 10
    for path in inputs:
        try:
            target.one(path.read_bytes())
        except Exception as error:
            error.add_note(f"python -m tests.fuzz {name} {path.relative_to(ROOT)}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_what_anybody_would_try_first(name: str) -> None:
    """Nothing, every byte, every input cut short or with one byte changed."""
    target, rng = load(name), Random(name)
    for data in [b"", *(bytes((byte,)) for byte in range(256))]:
        target.one(data)
    for path in corpus(name)[:: max(1, len(corpus(name)) // 20)]:
        spoilt = bytearray(path.read_bytes())
        target.one(bytes(spoilt[: rng.randint(0, len(spoilt))]))
        if spoilt:
            spoilt[rng.randrange(len(spoilt))] ^= 1 << rng.randrange(8)
            target.one(bytes(spoilt))


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_takes_much_memory(name: str) -> None:
    target = load(name)
    target.one(corpus(name)[0].read_bytes())  # what is made once is made now
    tracemalloc.start()
    try:
        for path in corpus(name)[::4]:
            data = path.read_bytes()
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            target.one(data)
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak <= MEMORY_BYTES_MAX, f"{path.name} takes {peak:,} bytes"
    finally:
        tracemalloc.stop()


def test_every_target_is_listed_and_says_what_it_promises() -> None:
    assert sorted(TARGETS) == sorted(path.stem for path in Path(__file__).parent.joinpath("targets").glob("*.py"))
    assert sorted(TARGETS) == sorted(path.name for path in CORPUS.iterdir())
    listed = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in TARGETS:
        assert promise(name).endswith((".", ","))
        assert promise(name) in listed.stdout


def test_the_corpus_stays_small() -> None:
    for name in TARGETS:
        assert sum(path.stat().st_size for path in corpus(name)) < 400_000, f"{name}: merge, and keep fewer"
