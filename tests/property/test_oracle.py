"""The engine against the oracle, event for event, on seeded streams.

    HASHPIT_ORACLE_COMMANDS=1000000 pytest tests/property/test_oracle.py -s

compares a million commands instead of some ten thousand. A failure names its seed and entry: ``compare(seed, seq)`` repeats it.
"""

import os
from collections import Counter

import pytest

from engine.commands import Command, Entry
from engine.core import Engine
from engine.events import Canceled, DeliverySettled, Event, Reduced, Rejected
from engine.rejects import RejectCode
from engine.types import CancelReason
from tests.reference.exchange import NaiveExchange
from tests.reference.stream import SMALL, Stream

COMMANDS = int(os.environ.get("HASHPIT_ORACLE_COMMANDS", "60000"))
COMMANDS_PER_SEED = 5_000


def covered(entry: Entry, events: list[Event]) -> list[str]:
    """Names of what an entry and its events exercise."""
    names = [type(entry.command).__name__]
    for event in events:
        names.append(type(event).__name__)
        if isinstance(event, Rejected):
            names.append(event.code.name)
        if isinstance(event, Canceled | Reduced):
            names.append(f"{type(event).__name__} {event.reason.name}")
        if getattr(event, "repeat", False):
            names.append(f"repeated {type(event).__name__}")
        if isinstance(event, DeliverySettled):
            money = ("breach", "refund", "compensation", "surplus", "from_insurance", "uncovered")
            names += [f"settled with {name}" for name in money if getattr(event, name)]
    return names


WANTED = [
    *(command.__name__ for command in Command.__args__),
    *(event.__name__ for event in Event.__args__),
    *(code.name for code in RejectCode),
    *(f"Canceled {reason.name}" for reason in CancelReason),
    *(f"Reduced {reason.name}" for reason in (CancelReason.SELF_TRADE, CancelReason.REDUCE_ONLY)),
    *(f"repeated {name}" for name in ("Accepted", "Rejected", "BalanceChanged")),
    *(f"settled with {name}" for name in ("breach", "refund", "compensation", "surplus", "from_insurance")),
]


def compare(seed: int, count: int) -> Counter[str]:
    """Run a stream through both; returns what it covered."""
    engine, oracle = Engine(SMALL), NaiveExchange(SMALL)
    coverage: Counter[str] = Counter()
    for entry in Stream(oracle, seed).entries(count):
        expected, got = oracle.apply(entry), engine.apply(entry)
        if got != expected:
            pytest.fail(difference(seed, entry, expected, got), pytrace=False)
        coverage.update(covered(entry, expected))
    return coverage


def difference(seed: int, entry: Entry, expected: list[Event], got: list[Event]) -> str:
    lines = [f"seed {seed}, {entry}"]
    for number in range(max(len(expected), len(got))):
        ours = expected[number] if number < len(expected) else None
        theirs = got[number] if number < len(got) else None
        if ours == theirs:
            lines.append(f"  both    {ours}")
        else:
            lines += [f"  oracle  {ours}", f"  engine  {theirs}"]
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(100, 108))
def test_a_short_stream(seed: int) -> None:
    assert compare(seed, 1_000)["Trade"]


@pytest.mark.slow
@pytest.mark.timeout(0 if COMMANDS > 200_000 else 120)
def test_engine_equals_oracle() -> None:
    coverage: Counter[str] = Counter()
    for seed in range(-(-COMMANDS // COMMANDS_PER_SEED)):
        coverage += compare(seed, COMMANDS_PER_SEED)
    print()
    for name in WANTED:
        print(f"  {coverage[name]:9,}  {name}")
    missing = [name for name in WANTED if not coverage[name]]
    assert not missing, f"never reached: {', '.join(missing)}"
