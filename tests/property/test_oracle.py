"""The engine against the oracle, event for event, on seeded streams.

    HASHPIT_ORACLE_COMMANDS=1000000 pytest tests/property/test_oracle.py -s

compares a million commands instead of some ten thousand. A failure names its seed and entry: ``compare_seed(seed, seq)``
repeats it. Live markets have streams of their own, in test_live_oracle.py.
"""

import os
from collections import Counter

import pytest

from engine.core import Engine
from tests.reference.compare import DATED_WANTED, compare, show
from tests.reference.exchange import NaiveExchange
from tests.reference.stream import SMALL, Stream

COMMANDS = int(os.environ.get("HASHPIT_ORACLE_COMMANDS", "60000"))
COMMANDS_PER_SEED = 5_000


def compare_seed(seed: int, count: int) -> Counter[str]:
    print(f"seed {seed}")
    oracle = NaiveExchange(SMALL)
    return compare(Engine(SMALL), oracle, Stream(oracle, seed).entries(count))


@pytest.mark.parametrize("seed", range(100, 108))
def test_a_short_stream(seed: int) -> None:
    assert compare_seed(seed, 1_000)["Trade"]


@pytest.mark.slow
@pytest.mark.timeout(0 if COMMANDS > 200_000 else 120)
def test_engine_equals_oracle() -> None:
    coverage: Counter[str] = Counter()
    for seed in range(-(-COMMANDS // COMMANDS_PER_SEED)):
        coverage += compare_seed(seed, COMMANDS_PER_SEED)
    show(coverage, DATED_WANTED)
