"""A dated and a live market with round numbers, for tests to start from."""

from engine.limits import DAY_NS, DAY_SECONDS, SECOND_NS
from engine.types import LiveSpec, MarketSpec

START_NS = 1_000 * SECOND_NS
"""When the tests' exchanges open."""

# One lot at one tick costs 1,000 msat for the period, which is a whole day; one lot makes one hash per second.
SPEC = MarketSpec(
    symbol="M1",
    algorithm="SHA256",
    speed_unit="PH/s",
    tick_size="0.00000001",
    lot_size="0.001",
    tick_lot_msat=1_000,
    lot_hashrate=1,
    gate_ns=START_NS + 100 * SECOND_NS,
    period_start_ns=START_NS + 200 * SECOND_NS,
    period_end_ns=START_NS + 200 * SECOND_NS + DAY_NS,
    settle_ns=START_NS + 300 * SECOND_NS + DAY_NS,
    reference_price=20,
    price_max=100,
    qty_max=1_000,
)

# One lot makes one hash per second, and a hash at one tick costs one msat.
LIVE_SPEC = LiveSpec(
    symbol="L1",
    algorithm="SHA256",
    speed_unit="PH/s",
    tick_size="0.00000001",
    lot_size="0.001",
    tick_lot_msat=DAY_SECONDS,
    lot_hashrate=1,
    price_max=100,
    speed_max=1_000,
)
