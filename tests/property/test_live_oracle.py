"""The engine's live markets against the oracle's, event for event, on seeded streams; and the oracle against its own rules.

    HASHPIT_ORACLE_COMMANDS=1000000 pytest tests/property/test_live_oracle.py -s

compares a million commands. A failure names its seed and entry: ``compare_seed(seed, seq)`` repeats it. Now and then the
engine's invariants are checked, and it goes on from its own snapshot.
"""

import os
from collections import Counter

import pytest

from engine.commands import Command
from engine.core import Engine
from engine.events import Event
from engine.invariants import check
from engine.rejects import RejectCode
from engine.snapshot import dump, restore
from tests.reference.compare import DATED_WANTED, LIVE_WANTED, compare, show
from tests.reference.exchange import NaiveExchange
from tests.reference.live_check import check_live
from tests.reference.live_stream import LIVE_SMALL, LiveStream

COMMANDS = int(os.environ.get("HASHPIT_ORACLE_COMMANDS", "30000"))
COMMANDS_PER_SEED = 2_500
CHECK_EVERY = 40
RESTART_EVERY = 650


def checked(engine: Engine, seq: int) -> Engine:
    if seq % CHECK_EVERY == 0:
        check(engine)
    return restore(dump(engine)) if seq % RESTART_EVERY == 0 else engine


def compare_seed(seed: int, count: int) -> Counter[str]:
    print(f"seed {seed}")
    oracle = NaiveExchange(LIVE_SMALL)
    return compare(Engine(LIVE_SMALL), oracle, LiveStream(oracle, seed).entries(count), checked)


@pytest.mark.parametrize("seed", range(100, 108))
def test_a_short_live_stream(seed: int) -> None:
    assert compare_seed(seed, 700)["FlowPaid"]


@pytest.mark.slow
@pytest.mark.timeout(0 if COMMANDS > 100_000 else 240)
def test_live_engine_equals_oracle() -> None:
    coverage: Counter[str] = Counter()
    for seed in range(-(-COMMANDS // COMMANDS_PER_SEED)):
        coverage += compare_seed(seed, COMMANDS_PER_SEED)
    show(coverage, LIVE_WANTED)


@pytest.mark.parametrize("seed", range(200, 204))
def test_the_oracle_keeps_the_rules(seed: int) -> None:
    """Speeds are the crossing, flows add up, no pairing moves less speed, no budget is passed, money is conserved."""
    oracle = NaiveExchange(LIVE_SMALL)
    for entry in LiveStream(oracle, seed).entries(500):
        oracle.apply(entry)
        check_live(oracle)
    assert oracle.live.flows_made


def test_the_streams_are_meant_to_reach_everything() -> None:
    wanted = {*DATED_WANTED, *LIVE_WANTED}
    for name in (*Command.__args__, *Event.__args__):
        assert name.__name__ in wanted
    for code in RejectCode:
        assert code.name in wanted
