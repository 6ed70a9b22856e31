"""Dated markets: a book until the gate, deliveries after it, settlement on proven work.

At the gate every net short is assigned to net longs. A delivery carries its share of the seller's proceeds and bond and of
what the buyer paid; when it settles, all of that ends in somebody's balance:

    delivered = min(proven + excused + waited, contracted)    take or pay: all of it, if the buyer never named a destination
    paid      = proceeds x delivered / contracted         to the seller, rounded down
    refund    = cost - cost x delivered / contracted      to the buyer: from the proceeds left, the bond, the insurance account
    breach    = shortfall above the tolerance             max(tolerance_bps of contracted, 3 standard deviations of counting)
    compensation = penalty + replacement                  to the buyer, from what is left of the bond, only in a breach

Counting ``n`` shares of ``h`` hashes each has a standard deviation of ``h x sqrt(n)``, so an honest seller falls short by three
of them about once in 700 deliveries; a fixed tolerance alone would punish small deliveries for luck.
"""

from math import isqrt
from typing import Final

from engine.accounts import Listing, Position
from engine.book import Book
from engine.ledger import Terms, share_ceil
from engine.limits import BPS, FEE_MAX_BPS, SECOND_NS, SYMBOL_CHARS_MAX, Limits
from engine.types import DeliveryState, MarketSpec, MarketState

PERIOD_SECONDS_MAX: Final = 366 * 86_400
TEXT_CHARS_MAX: Final = 24
TICK_LOT_MSAT_MAX: Final = 10**12
LOT_HASHRATE_MAX: Final = 2**63 - 1
TIME_MAX_NS: Final = 2**62 - 2

SPEC_RULES: Final = (
    "symbol: 1 to 48 characters of A-Z 0-9 . _ -",
    "kind: dated",
    "algorithm, speed_unit: 1 to 24 printable ASCII characters; tick_size, lot_size: decimals above zero of at most 24",
    "tick_lot_msat: 1 to 10^12",
    "lot_hashrate: 1 to 2^63 - 1",
    "now < gate_ns <= period_start_ns < period_end_ns <= settle_ns < 2^62 - 1",
    "the period is whole seconds, at most 366 days",
    "price_max: 1 to the engine's price_max_ticks",
    "qty_max: 1 to the engine's qty_max_lots",
    "1 <= price_min <= reference_price <= price_max",
    "maker_fee_bps, taker_fee_bps: 0 to 1000",
    "bond_bps: 0 to 10000",
    "band_bps: 1 to 9999",
    "tolerance_bps, penalty_bps: 0 to 10000",
)
"""What a specification must satisfy, in the order in which it is checked; a refusal's bound is the rule's number from 1."""


def broken_rule(spec: MarketSpec, now_ns: int, limits: Limits) -> int:
    """Number of the first rule of SPEC_RULES that ``spec`` breaks; 0 when it breaks none."""
    symbol = spec.symbol
    period = spec.period_end_ns - spec.period_start_ns
    texts = (spec.algorithm, spec.speed_unit)
    steps = (spec.tick_size, spec.lot_size)
    rules = (
        is_symbol(symbol),
        spec.kind == "dated",
        all(is_text(text) for text in texts) and all(is_step(text) for text in steps),
        0 < spec.tick_lot_msat <= TICK_LOT_MSAT_MAX,
        0 < spec.lot_hashrate <= LOT_HASHRATE_MAX,
        now_ns < spec.gate_ns <= spec.period_start_ns < spec.period_end_ns <= spec.settle_ns <= TIME_MAX_NS,
        period % SECOND_NS == 0 and period <= PERIOD_SECONDS_MAX * SECOND_NS,
        0 < spec.price_max <= limits.price_max_ticks,
        0 < spec.qty_max <= limits.qty_max_lots,
        0 < spec.price_min <= spec.reference_price <= spec.price_max,
        0 <= spec.maker_fee_bps <= FEE_MAX_BPS and 0 <= spec.taker_fee_bps <= FEE_MAX_BPS,
        0 <= spec.bond_bps <= BPS,
        0 < spec.band_bps < BPS,
        0 <= spec.tolerance_bps <= BPS and 0 <= spec.penalty_bps <= BPS,
    )
    for number, holds in enumerate(rules, 1):
        if not holds:
            return number
    return 0


def is_symbol(text: str) -> bool:
    """1 to SYMBOL_CHARS_MAX characters of A-Z 0-9 . _ -"""
    return 0 < len(text) <= SYMBOL_CHARS_MAX and all(c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-" for c in text)


def is_text(text: str) -> bool:
    """1 to TEXT_CHARS_MAX printable ASCII characters."""
    return 0 < len(text) <= TEXT_CHARS_MAX and text.isascii() and text.isprintable()


def is_step(text: str) -> bool:
    """Whether ``text`` is a plain decimal above zero, of at most TEXT_CHARS_MAX characters."""
    whole, dot, fraction = text.partition(".")
    digits = whole + fraction
    plain = is_text(text) and whole.isdigit() and digits.isdigit() and (not dot or bool(fraction))
    return plain and digits.strip("0") != ""


class Market(Listing):
    """One listed market: its terms, book, and everybody's positions."""

    __slots__ = (
        "book",
        "deliveries",
        "destined",
        "last_price",
        "positions",
        "price_max",
        "price_min",
        "qty_max",
        "reduce_only_orders",
        "spec",
        "state",
        "terms",
        "trade_id",
    )

    def __init__(self, spec: MarketSpec) -> None:
        self.spec: MarketSpec = spec
        self.symbol = spec.symbol
        self.price_min: int = spec.price_min
        self.price_max: int = spec.price_max
        self.qty_max: int = spec.qty_max
        self.terms: Terms = Terms(spec)
        self.state: MarketState = MarketState.OPEN
        self.book: Book = Book()
        # resting reduce-only orders: while there are none, a level's qty is all good to fill a FOK order
        self.reduce_only_orders: int = 0
        self.last_price: int = 0
        # the last trade's number; trades of a market count from 1
        self.trade_id: int = 0
        # by account id; the same objects as in Account.positions
        self.positions: dict[int, Position] = {}
        # accounts that named a destination for this market
        self.destined: list[int] = []
        # ids of deliveries that are not settled
        self.deliveries: list[int] = []

    def band_price(self, is_buy: bool) -> int:
        """The worst price a market order may trade at: the reference price plus or minus the band, inside the collar."""
        reference = self.last_price or self.spec.reference_price
        if is_buy:
            return min(reference * (BPS + self.spec.band_bps) // BPS, self.spec.price_max)
        return max(-(-reference * (BPS - self.spec.band_bps) // BPS), self.spec.price_min)


class Delivery:
    """``qty`` lots that ``seller`` owes ``buyer`` throughout the period; money in msat, work in hashes."""

    __slots__ = (
        "bond",
        "buyer",
        "contracted_hashes",
        "cost",
        "delivery_id",
        "excused_hashes",
        "market",
        "proceeds",
        "proven_hashes",
        "qty",
        "seller",
        "shares",
        "state",
        "url",
        "waited_hashes",
        "worker",
    )

    def __init__(
        self,
        delivery_id: int,
        market: str,
        seller: int,
        buyer: int,
        qty: int,
        contracted_hashes: int,
        proceeds: int,
        bond: int,
        cost: int,
        url: str,
        worker: str,
    ) -> None:
        self.delivery_id: int = delivery_id
        self.market: str = market
        self.seller: int = seller
        self.buyer: int = buyer
        self.qty: int = qty
        self.contracted_hashes: int = contracted_hashes
        self.proceeds: int = proceeds
        self.bond: int = bond
        self.cost: int = cost
        self.url: str = url
        self.worker: str = worker
        self.state: DeliveryState = DeliveryState.SCHEDULED
        self.proven_hashes: int = 0
        self.excused_hashes: int = 0
        # work of the time that passed in the period before the buyer named a destination: nobody could deliver it
        self.waited_hashes: int = 0
        self.shares: int = 0


def contracted_hashes(spec: MarketSpec, qty: int) -> int:
    """Work of ``qty`` lots throughout the period."""
    return qty * spec.lot_hashrate * ((spec.period_end_ns - spec.period_start_ns) // SECOND_NS)


def waited_hashes(spec: MarketSpec, contracted: int, ts_ns: int) -> int:
    """Work of a delivery from the period's start until ``ts_ns``, at most all of it; rounded down."""
    period_ns = spec.period_end_ns - spec.period_start_ns
    return contracted * min(ts_ns - spec.period_start_ns, period_ns) // period_ns


def pair(shorts: list[tuple[int, int]], longs: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Assign net shorts to net longs: ``(seller, buyer, qty)`` from lists of ``(account, qty)``, both sums equal.

    First shorts and longs of equal size are paired. What is left is walked on both sides from the largest down, the lower
    account id first; an account that is only partly assigned goes on with the next one opposite. At most
    ``len(shorts) + len(longs) - 1`` deliveries, so few counterparties each. O(n log n).
    """
    sellers = sorted(shorts, key=_largest_first)
    buyers = sorted(longs, key=_largest_first)
    pairs: list[tuple[int, int, int]] = []
    rest_sellers: list[tuple[int, int]] = []
    rest_buyers: list[tuple[int, int]] = []
    i = j = 0
    while i < len(sellers) and j < len(buyers):
        seller, sold = sellers[i]
        buyer, bought = buyers[j]
        if sold == bought:
            pairs.append((seller, buyer, sold))
            i += 1
            j += 1
        elif sold > bought:
            rest_sellers.append(sellers[i])
            i += 1
        else:
            rest_buyers.append(buyers[j])
            j += 1
    rest_sellers += sellers[i:]
    rest_buyers += buyers[j:]
    # what is left of a partly assigned account goes on until it is used up, so that it is split over neighbours only
    i = j = sold = bought = 0
    while True:
        if sold == 0:
            if i == len(rest_sellers):
                break
            seller, sold = rest_sellers[i]
            i += 1
        if bought == 0:
            buyer, bought = rest_buyers[j]
            j += 1
        qty = min(sold, bought)
        pairs.append((seller, buyer, qty))
        sold -= qty
        bought -= qty
    return pairs


def _largest_first(item: tuple[int, int]) -> tuple[int, int]:
    account, qty = item
    return (-qty, account)


class Settlement:
    """How a delivery's money is divided; see the module's text. ``refund`` is what the buyer really gets back."""

    __slots__ = (
        "bond_released",
        "breach",
        "compensation",
        "delivered",
        "from_insurance",
        "paid",
        "refund",
        "surplus",
        "uncovered",
    )

    def __init__(self, delivery: Delivery, market: Market, index_price: int, insurance: int) -> None:
        spec = market.spec
        contracted = delivery.contracted_hashes
        if delivery.url:
            delivered = min(delivery.proven_hashes + delivery.excused_hashes + delivery.waited_hashes, contracted)
        else:
            delivered = contracted
        shortfall = contracted - delivered
        paid = delivery.proceeds * delivered // contracted
        unearned = delivery.proceeds - paid
        due = delivery.cost - delivery.cost * delivered // contracted
        from_proceeds = min(due, unearned)
        from_bond = min(due - from_proceeds, delivery.bond)
        from_insurance = min(due - from_proceeds - from_bond, insurance)
        bond = delivery.bond - from_bond
        breach = shortfall > tolerance(delivery, spec.tolerance_bps)
        compensation = 0
        if breach:
            replacement = max(0, market.terms.notional_ceil(index_price, delivery.qty) - delivery.proceeds)
            compensation = share_ceil(unearned, spec.penalty_bps) - (-replacement * shortfall // contracted)
            compensation = min(bond, compensation)
        self.delivered: int = delivered
        self.breach: bool = breach
        self.paid: int = paid
        self.refund: int = from_proceeds + from_bond + from_insurance
        self.compensation: int = compensation
        self.bond_released: int = bond - compensation
        self.surplus: int = unearned - from_proceeds
        self.from_insurance: int = from_insurance
        self.uncovered: int = due - self.refund


def tolerance(delivery: Delivery, tolerance_bps: int) -> int:
    """The shortfall, in hashes, that is nobody's fault: the market's share, or three standard deviations of counting."""
    if delivery.shares == 0:
        return 0
    contracted = delivery.contracted_hashes
    counting = 3 * isqrt(contracted * delivery.proven_hashes // delivery.shares)
    return max(contracted * tolerance_bps // BPS, counting)
