"""The terms of markets, and who lists them: the lister the next periods of dated markets, the start the live ones.

Symbols say the period, in UTC: a whole day ``SHA256-20261124``, a whole hour ``SHA256-20261124T15``, anything else its start
and length, ``SHA256-20261124T1505-5M`` (``M`` minutes, ``H`` hours, ``D`` days).

Sans-IO: time is a parameter, markets are listed through the callback that submits commands.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from engine.commands import Entry, ListLive, ListMarket
from engine.events import Event, Rejected
from engine.limits import BPS, DAY_SECONDS, SECOND_NS, Limits
from engine.markets.live import LIVE_RULES, broken_live_rule
from engine.rejects import describe
from engine.types import LiveSpec, MarketSpec, Pricing
from gateway import log
from gateway.algorithms import ALGORITHMS, Algorithm
from gateway.config import ConfigError, Listing, LiveListing, TermsConfig
from gateway.scale import MONEY, Scale

HOUR_SECONDS: Final = 3_600
MINUTE_SECONDS: Final = 60
GRACE_SECONDS_MIN: Final = 60
GRACE_SECONDS_MAX: Final = HOUR_SECONDS
LIVE_SPEED_MIN_LOTS: Final = 100
"""Smallest limit and speed of a live market where the operator says nothing else."""
LIVE_RULE_FIELDS: Final = {1: "market", 6: "price_min", 7: "speed_min", 8: "budget_min", 9: "placing_fee", 10: "decrease_step"}
"""The field to blame for each rule of LIVE_RULES that a listing can break."""
MS_NS: Final = 1_000_000
RETRY_NS: Final = 60 * SECOND_NS
"""After the engine refused to list a market, nothing is submitted for this long."""


def symbol(algorithm: str, start_ns: int, length_s: int) -> str:
    """The name of a period's market. Raises ValueError unless start and length are whole minutes."""
    if length_s < MINUTE_SECONDS or length_s % MINUTE_SECONDS:
        raise ValueError(f"length_s: a period is a whole number of minutes, not {length_s} s")
    if start_ns <= 0 or start_ns % (MINUTE_SECONDS * SECOND_NS):
        raise ValueError("start: a period starts on a whole minute")
    start_s = start_ns // SECOND_NS
    start = datetime.fromtimestamp(start_s, UTC)
    day = f"{algorithm}-{start:%Y%m%d}"
    if length_s == DAY_SECONDS and start_s % DAY_SECONDS == 0:
        return day
    if length_s == HOUR_SECONDS and start_s % HOUR_SECONDS == 0:
        return f"{day}T{start:%H}"
    if length_s % DAY_SECONDS == 0:
        length = f"{length_s // DAY_SECONDS}D"
    elif length_s % HOUR_SECONDS == 0:
        length = f"{length_s // HOUR_SECONDS}H"
    else:
        length = f"{length_s // MINUTE_SECONDS}M"
    return f"{day}T{start:%H%M}-{length}"


def gate_lead(length_s: int) -> int:
    """Seconds between gate and period unless configured: an hour for days and longer, none for shorter periods."""
    return HOUR_SECONDS if length_s >= DAY_SECONDS else 0


def settle_grace(length_s: int) -> int:
    """Seconds that the meter has after the period: a 24th of it, between a minute and an hour."""
    return min(max(length_s // 24, GRACE_SECONDS_MIN), GRACE_SECONDS_MAX)


def dated_market(
    algorithm: Algorithm,
    start_ns: int,
    length_s: int,
    reference_price: int,
    terms: TermsConfig | None = None,
    gate_lead_s: int | None = None,
) -> MarketSpec:
    """The terms of one period's market; ``reference_price`` in ticks.

    Raises ValueError, naming the field, for a period or price that no market can have.
    """
    price_max = algorithm.price().parse(algorithm.price_max)
    if not 1 <= reference_price <= price_max:
        raise ValueError(f"reference_price: must be from {algorithm.tick_size} to {algorithm.price_max}")
    fees = TermsConfig() if terms is None else terms
    price_min = 1
    if fees.collar_bps:
        price_min = max(1, -(-reference_price * (BPS - fees.collar_bps) // BPS))
        price_max = min(price_max, reference_price * (BPS + fees.collar_bps) // BPS)
    lead_s = gate_lead(length_s) if gate_lead_s is None else gate_lead_s
    end_ns = start_ns + length_s * SECOND_NS
    return MarketSpec(
        symbol=symbol(algorithm.name, start_ns, length_s),
        algorithm=algorithm.name,
        speed_unit=algorithm.speed_unit,
        tick_size=algorithm.tick_size,
        lot_size=algorithm.lot_size,
        tick_lot_msat=algorithm.tick_lot_msat(),
        lot_hashrate=algorithm.lot_hashrate(),
        gate_ns=start_ns - lead_s * SECOND_NS,
        period_start_ns=start_ns,
        period_end_ns=end_ns,
        settle_ns=end_ns + settle_grace(length_s) * SECOND_NS,
        reference_price=reference_price,
        price_min=price_min,
        price_max=price_max,
        qty_max=algorithm.qty().parse(algorithm.qty_max),
        maker_fee_bps=fees.maker_fee_bps,
        taker_fee_bps=fees.taker_fee_bps,
        bond_bps=fees.bond_bps,
        band_bps=fees.band_bps,
        tolerance_bps=fees.tolerance_bps,
        penalty_bps=fees.penalty_bps,
    )


class ListedMarket(Protocol):
    """What the lister reads of an engine's market."""

    spec: MarketSpec
    last_price: int


class Lister:
    """Keeps the configured number of periods listed ahead, each at the latest price of its algorithm.

    ``submit`` is the sequencer's: it applies a command at once, so ``markets`` (the engine's) shows the result on return.
    """

    def __init__(
        self,
        listings: Sequence[Listing],
        terms: TermsConfig,
        markets: Mapping[str, ListedMarket],
        submit: Callable[[ListMarket, Callable[[Entry, list[Event]], None]], object],
    ) -> None:
        """Raises ConfigError naming the listing that cannot work."""
        self._terms = terms
        self._markets = markets
        self._submit = submit
        self._listings = [(self._row(number, listing), listing) for number, listing in enumerate(listings)]
        self._prices = {
            row.name: row.price().parse(listing.reference_price or row.reference_price)
            for row, listing in reversed(self._listings)
        }
        self._price_start_ns: dict[str, int] = {}
        # No earlier than this: a refused listing is not repeated in a tight loop.
        self._retry_ns = 0
        self._log = log.get("listings")

    def _row(self, number: int, listing: Listing) -> Algorithm:
        where = f"listings[{number}]"
        row = ALGORITHMS.get(listing.algorithm)
        if row is None:
            raise ConfigError(f"{where}.algorithm: {listing.algorithm!r} is none of {', '.join(ALGORITHMS)}")
        try:
            price = row.price().parse(listing.reference_price or row.reference_price)
            dated_market(row, DAY_SECONDS * SECOND_NS, listing.length_s, price, self._terms, listing.gate_lead_s)
        except ValueError as error:
            field, _, problem = str(error).rpartition(": ")
            raise ConfigError(f"{where}.{field or 'reference_price'}: {problem}") from error
        return row

    def run(self, now_ns: int) -> int:
        """List what is missing; returns how many markets were submitted. Raises what ``submit`` raises."""
        if now_ns < self._retry_ns:
            return 0
        self._learn_prices()
        submitted = 0
        for row, listing in self._listings:
            for start_ns in upcoming(listing, now_ns):
                if symbol(row.name, start_ns, listing.length_s) in self._markets:
                    continue
                price = self._prices[row.name]
                spec = dated_market(row, start_ns, listing.length_s, price, self._terms, listing.gate_lead_s)
                self._submit(ListMarket(spec), lambda entry, events: self._listed(entry, events))
                submitted += 1
                if spec.symbol not in self._markets:
                    self._retry_ns = now_ns + RETRY_NS
                    return submitted
        return submitted

    def _learn_prices(self) -> None:
        """Remember the last price of each algorithm's latest period that traded."""
        for market in self._markets.values():
            name, start_ns = market.spec.algorithm, market.spec.period_start_ns
            if market.last_price and name in self._prices and start_ns >= self._price_start_ns.get(name, 0):
                self._prices[name] = market.last_price
                self._price_start_ns[name] = start_ns

    def _listed(self, entry: Entry, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Rejected):
                assert isinstance(entry.command, ListMarket)
                name = entry.command.spec.symbol
                self._log.warning("market not listed", market=name, reason=describe(event.code, event.bound))


def live_market(listing: LiveListing) -> LiveSpec:
    """The terms of a live market. Raises ValueError, naming the field, for numbers that no market can have."""
    row = ALGORITHMS.get(listing.algorithm)
    if row is None:
        raise ValueError(f"algorithm: {listing.algorithm!r} is none of {', '.join(ALGORITHMS)}")
    price, qty = row.price(), row.qty()
    spec = LiveSpec(
        symbol=listing.market or f"{row.name}-LIVE",
        algorithm=row.name,
        speed_unit=row.speed_unit,
        tick_size=row.tick_size,
        lot_size=row.lot_size,
        tick_lot_msat=row.tick_lot_msat(),
        lot_hashrate=row.lot_hashrate(),
        price_min=_steps(price, listing.price_min, "price_min") if listing.price_min else 1,
        price_max=_steps(price, listing.price_max or row.price_max, "price_max"),
        speed_min=_steps(qty, listing.speed_min, "speed_min") if listing.speed_min else LIVE_SPEED_MIN_LOTS,
        speed_max=_steps(qty, listing.speed_max or row.qty_max, "speed_max"),
        budget_min=_steps(MONEY, listing.budget_min, "budget_min"),
        pricing=Pricing[listing.pricing.upper()],
        buyer_fee_bps=listing.buyer_fee_bps,
        seller_fee_bps=listing.seller_fee_bps,
        placing_fee=_steps(MONEY, listing.placing_fee, "placing_fee"),
        decrease_interval_ns=listing.decrease_interval_s * SECOND_NS,
        decrease_step=_steps(price, listing.decrease_step or row.decrease_step, "decrease_step"),
        lock_ns=listing.lock_ms * MS_NS,
        life_ns=listing.life_s * SECOND_NS,
        slack_ns=listing.slack_s * SECOND_NS,
        grace_ns=listing.grace_s * SECOND_NS,
        idle_ns=listing.idle_s * SECOND_NS,
    )
    broken = broken_live_rule(spec, Limits())
    if broken:
        raise ValueError(f"{LIVE_RULE_FIELDS[broken]}: {LIVE_RULES[broken - 1]}")
    return spec


def _steps(scale: Scale, text: str, field: str) -> int:
    try:
        return scale.parse(text)
    except ValueError as error:
        raise ValueError(f"{field}: {error}") from None


def live_markets(listings: Sequence[LiveListing]) -> list[LiveSpec]:
    """The terms of the configured live markets. Raises ConfigError naming the one that cannot be."""
    specs: dict[str, LiveSpec] = {}
    for number, listing in enumerate(listings):
        try:
            spec = live_market(listing)
        except ValueError as error:
            raise ConfigError(f"live[{number}].{error}") from error
        if spec.symbol in specs:
            raise ConfigError(f"live[{number}].market: {spec.symbol} is there twice")
        specs[spec.symbol] = spec
    return [*specs.values()]


def list_live(
    specs: Sequence[LiveSpec],
    listed: Mapping[str, object],
    submit: Callable[[ListLive, Callable[[Entry, list[Event]], None]], object],
) -> int:
    """List the live markets that are not there; returns how many. One that is keeps the terms that it was listed with."""
    missing = [spec for spec in specs if spec.symbol not in listed]

    def answered(entry: Entry, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Rejected):
                assert isinstance(entry.command, ListLive)
                name, reason = entry.command.spec.symbol, describe(event.code, event.bound)
                log.get("listings").warning("market not listed", market=name, reason=reason)

    for spec in missing:
        submit(ListLive(spec), answered)
    return len(missing)


def upcoming(listing: Listing, now_ns: int) -> list[int]:
    """Starts of the next periods that still trade, aligned to multiples of their length since the Unix epoch (UTC)."""
    length_ns = listing.length_s * SECOND_NS
    lead_s = gate_lead(listing.length_s) if listing.gate_lead_s is None else listing.gate_lead_s
    first = (now_ns + lead_s * SECOND_NS) // length_ns + 1
    return [(first + number) * length_ns for number in range(listing.ahead)]
