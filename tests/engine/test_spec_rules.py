"""What a market specification must satisfy: the values at each rule's edge are taken, those past it refused by its number."""

import pytest
from msgspec.structs import replace

from engine.commands import Entry, ListMarket
from engine.core import Engine
from engine.events import MarketListed, Rejected
from engine.limits import DAY_NS, SECOND_NS
from engine.markets.dated import SPEC_RULES
from engine.rejects import RejectCode
from engine.types import MarketSpec
from tests.reference.market import SPEC, START_NS

# Rule, field, values that are taken, values that are refused.
TEXT = (("x", "x" * 24, "~ !"), ("", "x" * 25, "é", "a\nb"))
STEP = (("1", "0.25", "0." + "1" * 22), ("", "0", "0.00", ".5", "5.", "1e-8", "-1", "1 ", "٣", "1.2.3", "0." + "1" * 23))
RULES: list[tuple[int, str, tuple[object, ...], tuple[object, ...]]] = [
    (1, "symbol", ("A", "A" * 48, "AZ09._-"), ("", "A" * 49, "a", "A B", "A/B", "Ä")),
    (2, "kind", ("dated",), ("", "live", "Dated")),
    (3, "algorithm", *TEXT),
    (3, "speed_unit", *TEXT),
    (3, "tick_size", *STEP),
    (3, "lot_size", *STEP),
    (4, "tick_lot_msat", (1, 10**12), (0, -1, 10**12 + 1)),
    (5, "lot_hashrate", (1, 2**63 - 1), (0, -1, 2**63)),
    (6, "gate_ns", (START_NS + 1, SPEC.period_start_ns), (0, START_NS, SPEC.period_start_ns + 1)),
    (6, "period_start_ns", (SPEC.gate_ns, SPEC.period_end_ns - SECOND_NS), (SPEC.gate_ns - 1, SPEC.period_end_ns)),
    (6, "period_end_ns", (SPEC.period_start_ns + SECOND_NS, SPEC.settle_ns), (SPEC.period_start_ns, SPEC.settle_ns + 1)),
    (6, "settle_ns", (SPEC.period_end_ns, SPEC.period_end_ns + DAY_NS), (SPEC.period_end_ns - 1, 0)),
    (7, "period_start_ns", (SPEC.period_start_ns + SECOND_NS,), (SPEC.period_start_ns + 1, SPEC.period_start_ns - 1)),
    (8, "price_max", (20, 2**40), (0, -1, 2**40 + 1)),
    (9, "qty_max", (1, 2**40), (0, -1, 2**40 + 1)),
    (6, "settle_ns", (2**62 - 2,), (2**62 - 1,)),
    (10, "price_min", (1, 20), (0, -1, 21)),
    (10, "reference_price", (1, 100), (0, -1, 101)),
    (11, "maker_fee_bps", (0, 1_000), (-1, 1_001)),
    (11, "taker_fee_bps", (0, 1_000), (-1, 1_001)),
    (12, "bond_bps", (0, 10_000), (-1, 10_001)),
    (13, "band_bps", (1, 9_999), (-1, 0, 10_000)),
    (14, "tolerance_bps", (0, 10_000), (-1, 10_001)),
    (14, "penalty_bps", (0, 10_000), (-1, 10_001)),
]


def listed(spec: MarketSpec) -> int:
    """0, or the number of the rule that it breaks."""
    (event,) = Engine().apply(Entry(1, START_NS, ListMarket(spec)))
    if isinstance(event, MarketListed):
        assert event.spec == spec
        return 0
    assert isinstance(event, Rejected)
    assert event.code is RejectCode.MARKET_SPEC_INVALID
    return event.bound


@pytest.mark.parametrize(("rule", "name", "good", "bad"), RULES)
def test_rule(rule: int, name: str, good: tuple[object, ...], bad: tuple[object, ...]) -> None:
    for value in good:
        assert listed(replace(SPEC, **{name: value})) == 0, value
    for value in bad:
        assert listed(replace(SPEC, **{name: value})) == rule, value


def test_a_period_is_366_days_at_most() -> None:
    longest = replace(SPEC, period_end_ns=SPEC.period_start_ns + 366 * DAY_NS, settle_ns=SPEC.period_start_ns + 400 * DAY_NS)
    assert listed(longest) == 0
    assert listed(replace(longest, period_end_ns=longest.period_end_ns + SECOND_NS)) == 7


def test_the_first_broken_rule_is_the_answer() -> None:
    broken = {name: bad[0] for _, name, _, bad in RULES}
    for rule in range(1, len(SPEC_RULES) + 1):
        assert listed(replace(SPEC, **broken)) == rule or rule == 7
        for number, name, _, _ in RULES:
            if number == rule:
                broken.pop(name, None)
    assert not broken


def test_every_rule_is_tried() -> None:
    assert sorted({rule for rule, *_ in RULES}) == list(range(1, len(SPEC_RULES) + 1))
