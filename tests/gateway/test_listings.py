"""Algorithms, symbols, the terms of dated markets, and the lister that keeps periods listed."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from engine.commands import Entry, ListLive, ListMarket, SetMarketState, Tick
from engine.core import Engine
from engine.events import Event, LiveListed, MarketListed, Rejected
from engine.limits import Limits
from engine.markets.dated import broken_rule
from engine.markets.live import broken_live_rule
from engine.types import MarketState, Pricing
from gateway.algorithms import ALGORITHMS, MSAT_PER_BTC
from gateway.config import ConfigError, Listing, LiveListing, TermsConfig
from gateway.listings import (
    RETRY_NS,
    Lister,
    dated_market,
    gate_lead,
    list_live,
    live_market,
    live_markets,
    settle_grace,
    symbol,
    upcoming,
)

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
MIDNIGHT = 20_781 * DAY
"""2026-11-24T00:00:00Z"""


# -------------------------------------------------------------------------------------------------------------- algorithms


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_row_of_the_registry_makes_a_market_the_engine_takes(name: str) -> None:
    row = ALGORITHMS[name]
    assert row.name == name
    # One lot for a day at one tick is whole msat, so every whole-day notional is.
    assert row.tick_lot_msat() == Fraction(row.tick_size) * Fraction(row.lot_size) * MSAT_PER_BTC
    assert row.lot_hashrate() == Fraction(row.lot_size) * row.unit_hashrate
    assert row.share_hashes > 0
    reference = row.price().parse(row.reference_price)
    # A tick is at most a hundredth of a percent or so of a plausible price.
    assert reference >= 5_000
    spec = dated_market(row, MIDNIGHT, 86_400, reference)
    assert broken_rule(spec, MIDNIGHT - 7 * DAY, Limits()) == 0
    # The collar is 8 % of the reference both ways, and a seller's bond covers its width.
    assert (spec.price_min - 1) * 100 < reference * 92 <= spec.price_min * 100
    assert spec.price_max * 100 <= reference * 108 < (spec.price_max + 1) * 100
    assert (spec.price_max - spec.price_min) * 10_000 <= spec.bond_bps * spec.price_min
    # The largest order at the highest price, fee and bond included, fits the ledger.
    assert 2 * spec.price_max * spec.qty_max * spec.tick_lot_msat * 31 < 2**63


def test_the_largest_longest_delivery_fits_its_work() -> None:
    for row in ALGORITHMS.values():
        work = row.qty().parse(row.qty_max) * row.lot_hashrate() * 31 * 86_400
        assert work < 2**120


# ----------------------------------------------------------------------------------------------------------------- symbols


@pytest.mark.parametrize(
    ("start", "length_s", "name"),
    [
        (MIDNIGHT, 86_400, "SHA256-20261124"),
        (MIDNIGHT + HOUR, 86_400, "SHA256-20261124T0100-1D"),
        (MIDNIGHT, 7 * 86_400, "SHA256-20261124T0000-7D"),
        (MIDNIGHT, 3_600, "SHA256-20261124T00"),
        (MIDNIGHT + 15 * HOUR, 3_600, "SHA256-20261124T15"),
        (MIDNIGHT + 15 * HOUR, 4 * 3_600, "SHA256-20261124T1500-4H"),
        (MIDNIGHT + 15 * HOUR + 300 * SECOND, 3_600, "SHA256-20261124T1505-1H"),
        (MIDNIGHT + 15 * HOUR + 300 * SECOND, 300, "SHA256-20261124T1505-5M"),
        (MIDNIGHT, 90 * 60, "SHA256-20261124T0000-90M"),
    ],
)
def test_symbols_say_the_period(start: int, length_s: int, name: str) -> None:
    assert symbol("SHA256", start, length_s) == name


def test_symbols_of_overlapping_periods_differ() -> None:
    starts = [MIDNIGHT + minute * 60 * SECOND for minute in range(0, 1_440, 5)]
    lengths = [60, 300, 3_600, 7_200, 86_400, 172_800]
    names = {symbol("SHA256", start, length) for start in starts for length in lengths}
    assert len(names) == len(starts) * len(lengths)


@pytest.mark.parametrize(
    ("start", "length_s", "field"),
    [(MIDNIGHT, 59, "length_s"), (MIDNIGHT, 90, "length_s"), (MIDNIGHT + 1, 60, "start"), (0, 60, "start")],
)
def test_a_period_is_whole_minutes(start: int, length_s: int, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        symbol("SHA256", start, length_s)


def test_gate_and_settlement() -> None:
    assert [gate_lead(length) for length in (300, 3_600, 86_399, 86_400, 7 * 86_400)] == [0, 0, 0, 3_600, 3_600]
    assert [settle_grace(length) for length in (60, 300, 1_440, 3_600, 86_400, 31 * 86_400)] == [
        60,
        60,
        60,
        150,
        3_600,
        3_600,
    ]
    day = dated_market(ALGORITHMS["SHA256"], MIDNIGHT, 86_400, 50_000)
    assert (day.gate_ns, day.period_end_ns, day.settle_ns) == (MIDNIGHT - HOUR, MIDNIGHT + DAY, MIDNIGHT + DAY + HOUR)
    short = dated_market(ALGORITHMS["SHA256"], MIDNIGHT, 300, 50_000, TermsConfig(taker_fee_bps=7), gate_lead_s=30)
    assert (short.gate_ns, short.taker_fee_bps) == (MIDNIGHT - 30 * SECOND, 7)


@pytest.mark.parametrize("ticks", [0, 100_000_001])
def test_reference_price_is_bounded(ticks: int) -> None:
    with pytest.raises(ValueError, match=r"^reference_price: must be from 0\.00000001 to 1\.00000000"):
        dated_market(ALGORITHMS["SHA256"], MIDNIGHT, 86_400, ticks)


# ------------------------------------------------------------------------------------------------------------------ lister


class Desk:
    """An engine and a submit function like the sequencer's."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.engine = Engine(limits)
        self.now = MIDNIGHT + 1
        self.submitted = 0

    def submit(self, command: Any, done: Callable[[Entry, list[Event]], None] | None = None) -> list[Event]:
        self.submitted += 1
        entry = Entry(self.engine.seq + 1, self.now, command)
        events = self.engine.apply(entry)
        if done is not None:
            done(entry, events)
        return events

    def lister(self, *listings: Listing) -> Lister:
        return Lister(listings, TermsConfig(), self.engine.markets, self.submit)


def test_periods_are_kept_listed_ahead() -> None:
    desk = Desk()
    lister = desk.lister(Listing(algorithm="SHA256", ahead=2), Listing(algorithm="SCRYPT", length_s=300, ahead=3))
    assert lister.run(desk.now) == 5
    assert [*desk.engine.markets] == [
        "SHA256-20261125",
        "SHA256-20261126",
        "SCRYPT-20261124T0005-5M",
        "SCRYPT-20261124T0010-5M",
        "SCRYPT-20261124T0015-5M",
    ]
    assert lister.run(desk.now) == 0
    desk.now = MIDNIGHT + 300 * SECOND
    assert lister.run(desk.now) == 1
    assert "SCRYPT-20261124T0020-5M" in desk.engine.markets


def test_a_period_is_not_listed_once_its_gate_has_passed() -> None:
    listing = Listing(algorithm="SHA256", ahead=1)
    assert upcoming(listing, MIDNIGHT - HOUR - 1) == [MIDNIGHT]
    assert upcoming(listing, MIDNIGHT - HOUR) == [MIDNIGHT + DAY]
    short = Listing(algorithm="SHA256", length_s=300, ahead=2, gate_lead_s=10)
    assert upcoming(short, MIDNIGHT - 10 * SECOND - 1) == [MIDNIGHT, MIDNIGHT + 300 * SECOND]
    assert upcoming(short, MIDNIGHT - 10 * SECOND) == [MIDNIGHT + 300 * SECOND, MIDNIGHT + 600 * SECOND]


def test_a_new_period_starts_at_the_last_price() -> None:
    desk = Desk()
    lister = desk.lister(Listing(algorithm="SHA256", ahead=2, reference_price="0.00040000"))
    lister.run(desk.now)
    first, second = desk.engine.markets.values()
    assert (first.spec.reference_price, second.spec.reference_price) == (40_000, 40_000)
    second.last_price = 41_000
    first.last_price = 39_000  # an earlier period, though it may have traded later
    desk.now += DAY
    desk.submit(Tick())
    lister.run(desk.now)
    assert desk.engine.markets["SHA256-20261127"].spec.reference_price == 41_000
    # Known for as long as the process runs, even when every period that traded is settled and gone.
    desk.now += 40 * DAY
    desk.submit(Tick())
    lister.run(desk.now)
    assert {market.spec.reference_price for market in desk.engine.markets.values()} == {41_000}


def test_a_refused_listing_is_not_repeated_at_once() -> None:
    desk = Desk(Limits(markets_max=1))
    lister = desk.lister(Listing(algorithm="SHA256", ahead=3))
    assert lister.run(desk.now) == 2
    assert len(desk.engine.markets) == 1
    assert lister.run(desk.now + RETRY_NS - 1) == 0
    assert lister.run(desk.now + RETRY_NS) == 1
    assert desk.submitted == 3


def test_a_market_that_was_closed_early_is_not_listed_again() -> None:
    desk = Desk()
    lister = desk.lister(Listing(algorithm="SHA256", ahead=1))
    lister.run(desk.now)
    desk.submit(SetMarketState("SHA256-20261125", MarketState.CLOSED))
    assert lister.run(desk.now) == 0


@pytest.mark.parametrize(
    ("listing", "problem"),
    [
        (Listing(algorithm="SHA3"), "listings[1].algorithm: 'SHA3' is none of SHA256, SCRYPT"),
        (Listing(algorithm="SHA256", length_s=90), "listings[1].length_s: a period is a whole number of minutes"),
        (Listing(algorithm="SHA256", reference_price="1e-4"), "listings[1].reference_price: expected a plain decimal"),
        (Listing(algorithm="SHA256", reference_price="0.000000001"), "listings[1].reference_price: at most 8 decimals"),
        (Listing(algorithm="SHA256", reference_price="2"), "listings[1].reference_price: must be from 0.00000001"),
    ],
)
def test_a_listing_that_cannot_work_is_named(listing: Listing, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Desk().lister(Listing(algorithm="SHA256"), listing)
    assert str(caught.value).startswith(problem)


def test_listing_is_answered_like_any_command() -> None:
    desk = Desk()
    spec = dated_market(ALGORITHMS["SHA256"], MIDNIGHT + 2 * DAY, 86_400, 50_000)
    assert isinstance(desk.submit(ListMarket(spec))[0], MarketListed)
    assert isinstance(desk.submit(ListMarket(spec))[0], Rejected)


# ------------------------------------------------------------------------------------------------------------ live markets


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_has_a_live_market(algorithm: str) -> None:
    spec = live_market(LiveListing(algorithm=algorithm))
    assert spec.symbol == f"{algorithm}-LIVE"
    assert broken_live_rule(spec, Limits()) == 0
    row = ALGORITHMS[algorithm]
    assert spec.decrease_step == row.price().parse(row.decrease_step)
    usual = row.price().parse(row.reference_price)
    assert usual // 500 <= spec.decrease_step <= usual // 200, "about 0.4 % of a plausible price"
    assert spec.decrease_interval_ns == 600 * SECOND
    assert (spec.pricing, spec.price_min, spec.speed_min, spec.budget_min) == (Pricing.PAY_AS_BID, 1, 100, 10**8)


def test_an_operator_says_otherwise() -> None:
    listing = LiveListing(
        algorithm="SHA256",
        market="OTHER",
        pricing="uniform",
        placing_fee="0.00001",
        price_min="0.0001",
        price_max="0.01",
        speed_min="1",
        speed_max="10",
        budget_min="0.01",
        decrease_step="0",
        lock_ms=1_500,
        idle_s=0,
    )
    spec = live_market(listing)
    assert (spec.symbol, spec.pricing, spec.placing_fee) == ("OTHER", Pricing.UNIFORM, 10**6)
    assert (spec.price_min, spec.price_max, spec.speed_min, spec.speed_max) == (10_000, 10**6, 1_000, 10_000)
    assert (spec.budget_min, spec.decrease_step, spec.lock_ns, spec.idle_ns) == (10**9, 0, 1_500_000_000, 0)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"algorithm": "MD5"}, "algorithm"),
        ({"market": "sha256-live"}, "market"),
        ({"price_min": "x"}, "price_min"),
        ({"price_max": "0.000000001"}, "price_max"),
        ({"price_min": "0.02", "price_max": "0.01"}, "price_min"),
        ({"speed_min": "0"}, "speed_min"),
        ({"speed_min": "2", "speed_max": "1"}, "speed_min"),
        ({"budget_min": "0"}, "budget_min"),
        ({"placing_fee": "1", "budget_min": "0.5"}, "placing_fee"),
        ({"decrease_step": "-1"}, "decrease_step"),
        ({"decrease_step": "2"}, "decrease_step"),
    ],
)
def test_live_terms_that_cannot_be_are_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=rf"^live\[0\]\.{field}: "):
        live_markets([LiveListing(**{"algorithm": "SHA256", **given})])


def test_one_name_is_one_market() -> None:
    with pytest.raises(ConfigError, match=r"^live\[1\]\.market: SHA256-LIVE is there twice"):
        live_markets([LiveListing(algorithm="SHA256"), LiveListing(algorithm="SCRYPT", market="SHA256-LIVE")])


def test_live_markets_are_listed_once() -> None:
    engine = Engine()
    said: list[Event] = []

    def submit(command: ListLive, done: Callable[[Entry, list[Event]], None]) -> None:
        entry = Entry(engine.seq + 1, MIDNIGHT, command)
        events = engine.apply(entry)
        said.extend(events)
        done(entry, events)

    specs = live_markets([LiveListing(algorithm="SHA256"), LiveListing(algorithm="SCRYPT")])
    assert list_live(specs, engine.live.markets, submit) == 2
    assert [type(event) for event in said] == [LiveListed, LiveListed]
    assert list_live(specs, engine.live.markets, submit) == 0
    other = live_markets([LiveListing(algorithm="SHA256", seller_fee_bps=500), LiveListing(algorithm="RANDOMX")])
    assert list_live(other, engine.live.markets, submit) == 1
    assert engine.live.markets["SHA256-LIVE"].spec.seller_fee_bps == 10, "it keeps the terms that it was listed with"
    assert list_live(specs, {}, submit) == 2
    assert isinstance(said[-1], Rejected), "refused, and logged"
